"""Starts the processes of ``--multi-gpu N`` on this machine, as torchrun would."""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from typing import IO

from barnum.extras import require

_log = logging.getLogger("barnum.lstm")


def start_processes(count: int) -> int:
    """Run this very command line in so many processes; the exit code of the first, or of one that failed.

    Raises:
        MissingPackageError: torch is not installed.
    """
    require("torch", "learning a network")
    import torch

    gpus = torch.cuda.device_count()
    if gpus < count:
        where = "on the CPU" if not gpus else f"on {gpus} GPUs"
        _log.warning(
            "--multi-gpu %d: this machine has %d GPUs: %d processes share the work %s",
            count,
            gpus,
            count,
            where,
        )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    words = [sys.executable, "-m", "barnum.cli.main", *sys.argv[1:]]
    logs: list[IO[bytes]] = []
    processes: list[subprocess.Popen[bytes]] = []

    # they are out of the terminal's reach: what comes from there, or from a supervisor, is passed on once
    def pass_on(number: int, _: object) -> None:
        for process in processes:
            if process.poll() is None:
                process.send_signal(number)

    before = {number: signal.signal(number, pass_on) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        for rank in range(count):
            # the first speaks for all; what the others say is shown only where they fail alone
            errors = None
            if rank:
                errors = tempfile.TemporaryFile()  # noqa: SIM115
                logs.append(errors)
            own = {"RANK": str(rank), "LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": str(count)}
            processes.append(
                subprocess.Popen(
                    words,
                    env=os.environ | shared | own,
                    stderr=errors,
                    start_new_session=True,
                    preexec_fn=_end_with_parent,
                )
            )
        return _wait(processes, logs)
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()
            process.wait()
        for file in logs:
            file.close()
        for number, handler in before.items():
            signal.signal(number, handler)


def _end_with_parent() -> None:
    """Whoever trains on alone would spoil the checkpoints of the next that is started."""
    kill_when_parent_ends = 1
    ctypes.CDLL(None).prctl(kill_when_parent_ends, signal.SIGKILL)


def _wait(processes: list[subprocess.Popen[bytes]], told: list[IO[bytes]]) -> int:
    while True:
        codes = [process.poll() for process in processes]
        failed = [rank for rank, code in enumerate(codes) if code]
        if failed:
            # the others wait for one that will not come; the first may yet say why, if it has not
            end = time.monotonic() + (10 if failed[0] else 0)
            while time.monotonic() < end and any(process.poll() is None for process in processes):
                time.sleep(0.05)
            code = processes[0].poll() or processes[failed[0]].returncode
            if not processes[0].poll():
                _tell(failed[0], told[failed[0] - 1], processes[failed[0]].returncode)
            elif processes[0].returncode < 0:
                _tell(0, None, processes[0].returncode)
            return code if code > 0 else 128 - code
        if all(code == 0 for code in codes):
            return 0
        time.sleep(0.05)


def _tell(rank: int, errors: IO[bytes] | None, code: int) -> None:
    """Say what a process has said that failed, or what killed it."""
    if errors is not None:
        errors.seek(0)
        sys.stderr.write(errors.read(1 << 20).decode(errors="replace"))
    if code < 0:
        sys.stderr.write(f"barnum: process {rank} was killed by signal {-code}: is there enough memory?\n")


def launched() -> bool:
    """Whether torchrun, or --multi-gpu, has started this process as one of several."""
    return all(name in os.environ for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"))
