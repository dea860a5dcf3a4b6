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
    """Records inputs, for several threads at once: each call of record() is for one input."""

    def record(self, path: Path) -> Outcome:
        """Record the run on one input, unless that is done already.

        Raises:
            Interrupted: stop() was called.
            OutputError, EngineError: no input can be recorded any more.
            InputError: of the class that fits; this input cannot be recorded, and nothing of it is left.
        """
        ...

    def stop(self) -> None:
        """End all runs, and let no other begin; called from another thread."""
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
    """Record inputs, several at a time.

    An input that cannot be recorded does not stop the others. A full disk or a broken recorder does.

    Args:
        recorder: what records.
        inputs: the files.
        jobs: how many are recorded at a time.
        report: called in the calling thread when an input is done.

    Raises:
        OutputError: samples cannot be written any more.
        EngineError: the recorder does not work.
        KeyboardInterrupt: the user stopped it; every run is killed first.
    """
    executor = ThreadPoolExecutor(max_workers=jobs, thread_name_prefix="record")
    try:
        waiting = iter(inputs)
        running: dict[Future[Outcome], Path] = {}
        while True:
            # not all at once: each of a hundred thousand inputs would be a future
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
