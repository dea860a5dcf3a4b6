"""Runs each sample in a process of its own: a hostile trace may crash or stall without harm to others."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import resource
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

import msgspec

from barnum.errors import BarnumError, InputError, TraceError
from barnum.paths.limits import TOO_MUCH_MEMORY, limit_memory
from barnum.paths.preprocess import Request, Result, preprocess

_log = logging.getLogger(__name__)

GRACE = 20.0  # seconds that a process has beyond its time limit to close its file

# what to run in the process of its own: a function of the module's, so that tests can run another one
Work = Callable[[Request], Result]


class _Answer(msgspec.Struct):
    result: Result | None = None
    error: str = ""
    message: str = ""


_KINDS: list[type[BarnumError]] = [InputError, *InputError.__subclasses__()]
_ERRORS = {kind.__name__: kind for kind in _KINDS}
_MAX_ANSWER = 1 << 20


class Running(msgspec.Struct):
    """One sample under way."""

    request: Request
    process: Any
    pipe: Any
    kill_at: float | None


def run_each(
    requests: Iterator[Request],
    jobs: int,
    *,
    keep_partial: bool = True,
    grace: float = GRACE,
    work: Work = preprocess,
    set_up: Callable[[], None] | None = None,
) -> Iterator[tuple[Request, Result | BarnumError]]:
    """Make all, at most ``jobs`` at once; each comes with its result or its error, in order of their ends.

    A process that does not end by itself at its time limit is killed after ``grace`` seconds (at once where
    no partial result is wanted). ``set_up`` is called in each process first.
    On leaving early all are killed.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["barnum.paths.preprocess", "barnum.paths.parquet", "barnum.paths.decode"])
    running: list[Running] = []
    try:
        while True:
            while len(running) < jobs and (request := next(requests, None)) is not None:
                running.append(_start(context, request, grace if keep_partial else 0.0, work, set_up))
            if not running:
                return
            for one in _ended(running):
                running.remove(one)
                yield one.request, _outcome(one)
    finally:
        for one in running:
            one.process.kill()
        for one in running:
            one.process.join()
            one.pipe.close()


def _start(
    context: Any, request: Request, grace: float, work: Work, set_up: Callable[[], None] | None
) -> Running:
    ours, theirs = context.Pipe(duplex=False)
    process: BaseProcess = context.Process(target=_child, args=(theirs, request, work, set_up), daemon=True)
    process.start()
    theirs.close()
    kill_at = None if request.timeout is None else time.monotonic() + request.timeout + grace
    return Running(request, process, ours, kill_at)


def _ended(running: list[Running]) -> Iterable[Running]:
    """Wait until some have ended or are over their time, and give those."""
    limits = [one.kill_at for one in running if one.kill_at is not None]
    patience = max(min(limits) - time.monotonic(), 0) if limits else None
    ready = wait([one.pipe for one in running], patience)
    ended = [one for one in running if one.pipe in ready]
    if ended:
        return ended
    return [one for one in running if one.kill_at is not None and one.kill_at <= time.monotonic()]


def _outcome(one: Running) -> Result | BarnumError:
    folder = one.request.folder
    late = one.kill_at is not None and one.kill_at <= time.monotonic() and not one.pipe.poll()
    if late:
        one.process.kill()
    answer: _Answer | None = None
    # a process that met hostile input is not to be trusted either: its answer is read as data
    with contextlib.suppress(EOFError, OSError, msgspec.DecodeError):
        if not late:
            answer = msgspec.json.decode(one.pipe.recv_bytes(_MAX_ANSWER), type=_Answer)
    if answer is None:
        one.process.join(timeout=1)
        one.process.kill()
    one.process.join()
    one.pipe.close()
    if answer and answer.result:
        return answer.result
    if answer:
        return _ERRORS.get(answer.error, BarnumError)(answer.message)
    if late:
        return TraceError(
            f"{folder}: was not done within its {one.request.timeout:g} seconds: nothing is kept"
        )
    code = one.process.exitcode or 0
    why = signal.Signals(-code).name if -code in signal.valid_signals() else f"exit code {code}"
    return TraceError(f"{folder}: decoding crashed ({why}): the trace is damaged or hostile; others go on")


def _child(pipe: Connection, request: Request, work: Work, set_up: Callable[[], None] | None) -> None:
    # the one that asked for this decides what an interrupt means
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_die_with_parent, daemon=True).start()
    limit_memory()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if set_up:
        set_up()
    try:
        result = work(request)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
        answer = _Answer(result=msgspec.structs.replace(result, peak_memory=peak))
    except MemoryError:
        answer = _Answer(error="TraceError", message=f"{request.folder}: {TOO_MUCH_MEMORY}")
    except InputError as error:
        answer = _Answer(error=type(error).__name__, message=str(error))
    except Exception as error:
        _log.exception("%s", request.folder)
        message = f"{request.folder}: internal error: {type(error).__name__}: {error}"
        answer = _Answer(error="BarnumError", message=message)
    pipe.send_bytes(msgspec.json.encode(answer))
    pipe.close()


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)
