"""Work in processes of its own.

:func:`isolated` is for work on hostile input. Each task has a process, which may crash, stall, or take all
the memory it can get, without harm to the others; what it answers is read as data. Decoding of traces and
reading of symbols go through it.

:func:`in_order` is for work that is long, on files that this program wrote. A few processes share the tasks,
and answers are objects of any kind; one that dies ends the work with an error.

Running a program that is to be recorded is neither: it is no function of ours, see
:mod:`barnum.recording.supervisor`.

The processes come from multiprocessing's fork server. They neither run the caller's script again, which
multiprocessing does unless told otherwise (a script without ``if __name__ == "__main__"`` would call itself
for ever), nor import modules from the current folder, which may have come with a sample.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import resource
import signal
import sys
import threading
import time
import types
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Generic, Literal, TypeVar

import msgspec

from barnum.errors import EvaluationError, InputError

Task = TypeVar("Task")
Answer = TypeVar("Answer")
SetUp = Callable[[], None]

_log = logging.getLogger(__name__)
_start = threading.Lock()
# seconds that a process may take to hand over an answer that it has begun to send
_HANDING_OVER = 60.0


@dataclass(frozen=True, slots=True)
class Job(Generic[Task, Answer]):
    """What is done to each task, and within which bounds.

    Attributes:
        work: a function of a module, which takes a task that can be pickled.
        answer: type of what it returns, as msgspec reads it from JSON.
        memory: bytes of private memory that a process may take.
        largest: bytes of an answer as JSON.
        preload: modules that the fork server imports once, so that no process has to.
    """

    work: Callable[[Task], Answer]
    answer: type[Answer]
    memory: int
    largest: int
    preload: tuple[str, ...] = ()


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """Why a task has no answer.

    ``kind``: ``input``, it raised an error of the class named ``error``; ``memory``, it needed more than its
    bound; ``internal``, it raised anything else; ``crash``, its process died; ``late``, it was killed at its
    time limit. ``message`` is that of the error, or how the process died.
    """

    kind: Literal["input", "memory", "internal", "crash", "late"]
    message: str = ""
    error: str = ""


class Success(msgspec.Struct, Generic[Answer], frozen=True):
    """What a task answered, and the bytes of memory that its process took at most."""

    answer: Answer
    peak_memory: int


class _Said(msgspec.Struct):
    """What a process sends."""

    answer: msgspec.Raw = msgspec.Raw(b"null")
    peak_memory: int = 0
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class _Running(Generic[Task]):
    """A task under way; ``kill_at`` is a time of the monotonic clock."""

    task: Task
    process: BaseProcess
    pipe: Connection
    kill_at: float | None


def whole_environment() -> dict[str, str]:
    """The environment, without what another thread sets for the moment in which it starts a process."""
    with _start:
        return dict(os.environ)


def isolated(
    tasks: Iterator[Task],
    job: Job[Task, Answer],
    at_once: int = 1,
    *,
    seconds: Callable[[Task], float | None] = lambda _: None,
    set_up: SetUp | None = None,
) -> Iterator[tuple[Task, Success[Answer] | Failure]]:
    """Do a job to each task, in a process of its own, ``at_once`` of them at a time.

    Each task comes with what became of it, in the order of their ends. ``seconds`` gives the time after which
    a task's process is killed; ``set_up``, which can be pickled, is called in each process first. On leaving
    early all processes are killed.
    """
    running: list[_Running[Task]] = []
    try:
        while True:
            while len(running) < at_once and (task := next(tasks, None)) is not None:
                running.append(_begin(task, job, seconds(task), set_up))
            if not running:
                return
            for one in _ended(running):
                running.remove(one)
                yield one.task, _outcome(one, job)
    finally:
        for one in running:
            one.process.kill()
        for one in running:
            one.process.join()
            one.pipe.close()


def in_order(
    tasks: Sequence[Task],
    work: Callable[[Task], Answer],
    workers: int,
    set_up: SetUp | None = None,
) -> Iterator[Answer]:
    """What ``work`` returns for each task, in the order of the tasks, by so many processes (with one: by this
    process). ``work``, tasks, answers and ``set_up``, which each process calls first, can be pickled.

    Raises:
        EvaluationError: a process was killed; errors of ``work`` come through as they are.
    """
    workers = min(workers, len(tasks))
    if workers <= 1:
        yield from map(work, tasks)
        return
    pool = ProcessPoolExecutor(workers, _context((work.__module__,)), _enter, (set_up,))
    try:
        with _clean_start():
            waiting = [pool.submit(work, task) for task in tasks]
        waiting.reverse()
        while waiting:
            # an answer may be large: it is not kept
            yield waiting.pop().result()
    except BrokenProcessPool:
        raise EvaluationError(
            "a process that reads evaluations was killed (is there enough memory?): --workers 1 needs least"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def limit_memory(limit: int) -> None:
    """Let this process take at most so many bytes of private memory: then Python raises MemoryError."""
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limit = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))


# the side that asks


def _context(preload: Sequence[str]) -> Any:
    context = multiprocessing.get_context("forkserver")
    # of no effect once the server runs: then modules are imported by the processes
    context.set_forkserver_preload(list(preload))
    return context


@contextlib.contextmanager
def _clean_start() -> Iterator[None]:
    """Start processes that know nothing of the caller's script and the current folder (see above)."""
    with _start:
        script, safe_path = sys.modules["__main__"], os.environ.get("PYTHONSAFEPATH")
        sys.modules["__main__"] = types.ModuleType("__main__")
        os.environ["PYTHONSAFEPATH"] = "1"
        try:
            yield
        finally:
            sys.modules["__main__"] = script
            if safe_path is None:
                del os.environ["PYTHONSAFEPATH"]
            else:
                os.environ["PYTHONSAFEPATH"] = safe_path


def _begin(task: Task, job: Job[Task, Answer], seconds: float | None, set_up: SetUp | None) -> _Running[Task]:
    context = _context(job.preload)
    ours, theirs = context.Pipe(duplex=False)
    words = (theirs, task, job.work, job.memory, set_up)
    process: BaseProcess = context.Process(target=_serve, args=words, daemon=True)
    with _clean_start():
        process.start()
    theirs.close()
    return _Running(task, process, ours, None if seconds is None else time.monotonic() + seconds)


def _ended(running: Sequence[_Running[Task]]) -> Iterable[_Running[Task]]:
    """Wait until some have ended or are over their time, and give those."""
    limits = [one.kill_at for one in running if one.kill_at is not None]
    patience = max(min(limits) - time.monotonic(), 0) if limits else None
    ready = wait([one.pipe for one in running], patience)
    ended = [one for one in running if one.pipe in ready]
    if ended:
        return ended
    return [one for one in running if one.kill_at is not None and one.kill_at <= time.monotonic()]


def _outcome(one: _Running[Task], job: Job[Task, Answer]) -> Success[Answer] | Failure:
    late = one.kill_at is not None and one.kill_at <= time.monotonic() and not one.pipe.poll()
    outcome = None if late else _received(one, job)
    if outcome is None:
        one.process.join(timeout=0 if late else 1)
        one.process.kill()
    one.process.join()
    one.pipe.close()
    if outcome is not None:
        return outcome
    if late:
        return Failure(kind="late")
    code = one.process.exitcode or 0
    how = signal.Signals(-code).name if -code in signal.valid_signals() else f"exit code {code}"
    return Failure(kind="crash", message=how)


def _received(one: _Running[Task], job: Job[Task, Answer]) -> Success[Answer] | Failure | None:
    """What a process said; None where it said nothing of use. It may have been taken over by its input."""
    stuck = threading.Timer(_HANDING_OVER, one.process.kill)
    stuck.start()
    try:
        said = msgspec.json.decode(one.pipe.recv_bytes(job.largest), type=_Said)
        if said.failure is not None:
            return said.failure
        return Success(msgspec.json.decode(said.answer, type=job.answer), said.peak_memory)
    except (EOFError, OSError, msgspec.DecodeError):
        return None
    finally:
        stuck.cancel()


# the processes


def _enter(set_up: SetUp | None) -> None:
    """Begin a process."""
    # the one that asked for this decides what an interrupt means
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_die_with_parent, daemon=True).start()
    if set_up:
        set_up()


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)


def _serve(
    pipe: Connection, task: Task, work: Callable[[Task], Any], memory: int, set_up: SetUp | None
) -> None:
    limit_memory(memory)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _enter(set_up)
    said = _Said()
    try:
        said.answer = msgspec.Raw(msgspec.json.encode(work(task)))
        said.peak_memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
    except MemoryError:
        said.failure = Failure(kind="memory")
    except InputError as error:
        said.failure = Failure(kind="input", message=str(error), error=type(error).__name__)
    except Exception as error:
        _log.exception("%s", task)
        said.failure = Failure(kind="internal", message=f"{type(error).__name__}: {error}")
    pipe.send_bytes(msgspec.json.encode(said))
    pipe.close()
