"""Decodes each sample in a process of its own: a hostile trace may crash or stall without harm to others."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec

from barnum.errors import BarnumError, InputError, TraceError
from barnum.paths.limits import MAX_MEMORY, TOO_MUCH_MEMORY
from barnum.paths.preprocess import Request, Result, preprocess
from barnum.processes import Failure, Job, isolated

GRACE = 20.0  # seconds that a process has beyond its time limit to close its file

# with what these import once it is needed: else each process would, which takes as long as a short trace
_MODULES = (
    "barnum.paths.preprocess",
    "barnum.paths.parquet",
    "barnum.paths.decode",
    "isal.isal_zlib",
    "numpy.ma",
    "iced_x86",
)
_MAX_ANSWER = 1 << 20
_KINDS: list[type[InputError]] = [InputError, *InputError.__subclasses__()]
_ERRORS = {kind.__name__: kind for kind in _KINDS}


def run_each(
    requests: Iterator[Request],
    jobs: int,
    *,
    keep_partial: bool = True,
    grace: float = GRACE,
    work: Callable[[Request], Result] = preprocess,
    set_up: Callable[[], None] | None = None,
) -> Iterator[tuple[Request, Result | BarnumError]]:
    """Work on all requests, at most ``jobs`` at a time; yield each with its result or error when it ends.

    When the iteration is left early, all processes are killed.

    Args:
        requests: what to do; taken one by one as processes become free.
        jobs: number of processes.
        keep_partial: let a process that reaches its time limit close its file.
        grace: seconds for that, after which it is killed; without ``keep_partial`` it is killed at once.
        work: what makes a result; a function at the top level of a module.
        set_up: called first in each process.
    """
    extra_seconds = grace if keep_partial else 0.0

    def seconds(request: Request) -> float | None:
        return None if request.timeout is None else request.timeout + extra_seconds

    job = Job(work, Result, memory=MAX_MEMORY, largest=_MAX_ANSWER, preload=(*_MODULES, work.__module__))
    for request, outcome in isolated(requests, job, jobs, seconds=seconds, set_up=set_up):
        if isinstance(outcome, Failure):
            yield request, _error(request, outcome)
        else:
            yield request, msgspec.structs.replace(outcome.answer, peak_memory=outcome.peak_memory)


def _error(request: Request, failure: Failure) -> BarnumError:
    folder = request.folder
    if failure.kind == "input":
        return _ERRORS.get(failure.error, InputError)(failure.message)
    if failure.kind == "memory":
        return TraceError(f"{folder}: {TOO_MUCH_MEMORY}")
    if failure.kind == "late":
        return TraceError(f"{folder}: was not done within its {request.timeout:g} seconds: nothing is kept")
    if failure.kind == "crash":
        return TraceError(
            f"{folder}: decoding crashed ({failure.message}): the trace is damaged or hostile; others go on"
        )
    return BarnumError(f"{folder}: internal error: {failure.message}")
