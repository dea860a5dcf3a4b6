"""Records many inputs, several at a time."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Protocol

import msgspec

from barnum.errors import EngineError, InputError, OutputError
from barnum.recording.recorder import Outcome
from barnum.recording.run import Interrupted


class InputRecorder(Protocol):
    """What records one input at a time in each thread that asks it to."""

    def record(self, path: Path) -> Outcome:
        """Record the run on one input, unless that is done already.

        Raises:
            Interrupted: stop() was called.
            OutputError, EngineError: no input can be recorded any more.
            InputError: of the class that fits; this input cannot be recorded, and nothing of it is left.
        """
        ...

    def stop(self) -> None:
        """End all runs, and let none begin any more; called from another thread."""
        ...


class Failure(msgspec.Struct, frozen=True):
    """An input that could not be recorded, and why."""

    path: Path
    error: InputError


def record_all(
    recorder: InputRecorder,
    inputs: list[Path],
    jobs: int,
    report: Callable[[Outcome | Failure], None],
) -> None:
    """Record inputs, at most jobs at a time; report is called for each, in the calling thread, as it is done.

    One that fails does not keep the others from being recorded, but a full disk or a broken recorder ends
    all.

    Raises:
        OutputError: samples cannot be written any more.
        EngineError: the recorder does not work.
        KeyboardInterrupt: as it came; every run is killed first.
    """
    executor = ThreadPoolExecutor(max_workers=jobs, thread_name_prefix="record")
    try:
        waiting = iter(inputs)
        running: dict[Future[Outcome], Path] = {}
        while True:
            # not all at once: a hundred thousand inputs would each be a future
            while len(running) < 2 * jobs and (path := next(waiting, None)) is not None:
                running[executor.submit(recorder.record, path)] = path
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                path = running.pop(future)
                try:
                    report(future.result())
                except (OutputError, EngineError):
                    raise
                except InputError as error:
                    report(Failure(path, error))
                except (Interrupted, CancelledError):
                    raise KeyboardInterrupt from None
    finally:
        recorder.stop()
        executor.shutdown(wait=True, cancel_futures=True)
