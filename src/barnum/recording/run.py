"""Runs a command through a supervisor of its own, and can stop it."""

from __future__ import annotations

import base64
import contextlib
import json
import signal
import subprocess
import sys
import threading
from pathlib import Path

import msgspec

from barnum.errors import RecordingError
from barnum.processes import whole_environment

_SUPERVISOR = Path(__file__).with_name("supervisor.py")
# seconds that processes may run after the program has ended
_GRACE = 2.0


class Interrupted(Exception):
    """The user stopped the recording."""


class Ended(msgspec.Struct, frozen=True):
    """How a run ended.

    Attributes:
        status: exit status, or minus the number of a signal; None if unknown.
        timeout: it was killed because its time was over.
        left_over: number of processes that outlived the program and were killed.
        seconds: wall time of the run.
        stderr: the last 64 KiB that it wrote to standard error; empty if its output was shown.
        over: ``memory`` or ``processes`` where it was killed because it took more of them than allowed.
    """

    status: int | None
    timeout: bool
    left_over: int
    seconds: float
    stderr: bytes
    over: str = ""


class Apart(msgspec.Struct, frozen=True):
    """What is different for a command that runs in a sandbox.

    Attributes:
        environment: all of its environment.
        inputs: contents that it reads from descriptors 3, 4 ...
        memory: bytes that all its processes may take together.
        processes: processes and threads that it may have at a time.
    """

    environment: dict[str, str]
    inputs: tuple[bytes, ...]
    memory: int
    processes: int


class Runs:
    """The runs in progress; all of them can be stopped at once, from another thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._stopped = False

    @property
    def stopped(self) -> bool:
        """Whether stop was called."""
        return self._stopped

    def check(self) -> None:
        """Raise Interrupted once stop was called."""
        if self._stopped:
            raise Interrupted

    def stop(self) -> None:
        """Kill every process of every run, and let no other run begin."""
        with self._lock:
            self._stopped = True
            for supervisor in self._running:
                # the end of its input tells a supervisor to kill its run
                if supervisor.stdin is not None:
                    with contextlib.suppress(OSError):
                        supervisor.stdin.close()

    def run(
        self,
        command: list[str],
        directory: Path,
        temporary: Path,
        timeout: float | None = None,
        show_output: bool = False,
        apart: Apart | None = None,
    ) -> Ended:
        """Run a command and wait until all its processes have ended. Its standard input is empty.

        Args:
            command: path of the program, and its arguments.
            directory: where it runs.
            temporary: TMPDIR of its environment, which is original_environment() otherwise.
            timeout: seconds after which it is killed; None: no limit.
            show_output: show its output on our standard error; otherwise it is discarded.
            apart: for a command that makes a sandbox. ``temporary`` means nothing then; bubblewrap makes a
                status above 128 of a signal that ended the program, and it is told from that.

        Raises:
            Interrupted: stop was called.
            RecordingError: the supervisor was killed.
        """
        request = {
            "command": command,
            "directory": str(directory),
            "environment": apart.environment
            if apart
            else {**original_environment(), "TMPDIR": str(temporary)},
            "apart": apart is not None,
            "inputs": [base64.b64encode(data).decode() for data in apart.inputs] if apart else [],
            "memory": apart.memory if apart else 0,
            "processes": apart.processes if apart else 0,
            "timeout": timeout,
            "grace": _GRACE,
            "show_output": show_output,
        }
        with self._lock:
            self.check()
            supervisor = subprocess.Popen(
                [sys.executable, "-I", "-S", str(_SUPERVISOR)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                start_new_session=True,
            )
            self._running.add(supervisor)
        try:
            assert supervisor.stdin is not None
            assert supervisor.stdout is not None
            # stop() may have closed its input already
            with contextlib.suppress(OSError, ValueError):
                supervisor.stdin.write(json.dumps(request).encode() + b"\n")
                supervisor.stdin.flush()
            answer = supervisor.stdout.readline()
        finally:
            with self._lock:
                self._running.discard(supervisor)
            for pipe in (supervisor.stdin, supervisor.stdout):
                if pipe is not None:
                    with contextlib.suppress(OSError):
                        pipe.close()
            supervisor.wait()
        self.check()
        if not answer:
            raise RecordingError("the process that supervised the run was killed: record it again")
        ended = json.loads(answer)
        status = ended["status"]
        if apart and status is not None and 128 < status <= 128 + signal.NSIG:
            status = 128 - status
        return Ended(
            status,
            ended["timeout"],
            ended["left_over"],
            ended["seconds"],
            base64.b64decode(ended["stderr"]),
            ended["over"],
        )


def original_environment() -> dict[str, str]:
    """The environment that we were started with: a recorded program must not see what Python added to it.

    Settings of QEMU are left out as well: they would change what is recorded.
    """
    environment = {key: value for key, value in whole_environment().items() if not key.startswith("QEMU_")}
    # in the C locale, python sets this for itself and so for its children
    if "LC_CTYPE" in environment:
        try:
            ours = Path("/proc/self/environ").read_bytes().split(b"\0")
        except OSError:
            return environment
        if not any(line.startswith(b"LC_CTYPE=") for line in ours):
            del environment["LC_CTYPE"]
    return environment
