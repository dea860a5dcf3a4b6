"""What the traces of evaluated runs add to their evaluations: where transfers come from, names of modules."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from barnum.cli.common import progress, set_up_logging
from barnum.errors import EvaluationError, InputError
from barnum.evaluations.folder import open_evaluation
from barnum.paths import Blocks, PathReader, open_path
from barnum.report.clusters import MODULE_BITS
from barnum.samples import MemoryMap, Module, Sample
from barnum.verdicts.clusters import Anomalies, read_anomalies

if TYPE_CHECKING:
    from barnum.report.symbols import Symbols
    from barnum.verdicts.clusters import Shared

U64 = NDArray[np.uint64]

_log = logging.getLogger("barnum.cluster")
_PARSED = ("trace_parsed.parquet", "trace_parsed.gz")


def read_with_trace(file: Path, max_classes: int, traces: Path | None) -> tuple[Anomalies, dict[int, str]]:
    """An evaluation's anomalies, and the names of the modules in them by hash, as far as they are known; of
    calls by token.

    ``traces`` is the folder of samples; one without the run's sample, or without a parsed trace of it, adds
    nothing. Raises EvaluationError, or ParsedTraceError where a trace is broken.
    """
    evaluation = open_evaluation(file)
    evaluation.close()
    if evaluation.header is not None and evaluation.header.calls is not None:
        return read_anomalies(file, max_classes=max_classes), _calls(evaluation.header.calls)
    if traces is None:
        return read_anomalies(file, max_classes=max_classes), {}
    folder = traces / evaluation.sample
    names = _mapped(folder)
    parsed = next((folder / name for name in _PARSED if (folder / name).is_file()), None)
    reader = None
    if parsed is not None and ("position" in evaluation.columns or not names):
        reader = open_path(parsed)
        names |= _named(reader.blocks)
    run = read_anomalies(file, max_classes=max_classes, sites=_Steps(reader, file).blocks if reader else None)
    modules = np.unique(np.concatenate([run.source, run.target]) >> np.uint64(32)).tolist()
    return run, {module: names[module] for module in modules if module in names}


def _calls(names: dict[str, str]) -> dict[int, str]:
    found = {}
    for token, name in names.items():
        with contextlib.suppress(ValueError):  # the file comes from outside
            found[int(token, 16)] = name
    return found


def functions_of(
    modules: Iterable[int], names: dict[int, str], runs: Sequence[Anomalies], traces: Path, bin_dir: Path
) -> dict[int, Symbols]:
    """Functions of modules by hash, of those whose image is in the folder of images.

    ``names`` as of :func:`read_with_trace`; the samples of ``runs`` say which image is whose. What cannot be
    read is told in a warning.
    """
    from barnum.report.symbols import read_symbols

    found: dict[int, Symbols] = {}
    wanted = {module: names[module] for module in modules if module in names}
    for run in runs:
        if not wanted:
            break
        try:
            sample = Sample.open(traces / run.sample)
        except InputError:
            continue  # it is told already where a trace is missing
        for module, path in list(wanted.items()):
            try:
                image = sample.image_path(Module(path, 0, 0, module, ()), bin_dir)
            except InputError as error:
                _log.warning("no names of functions: %s", error)
                del wanted[module]
                continue
            if image:
                found[module], why = read_symbols(image, path)
                del wanted[module]
                if why:
                    _log.warning("no names of functions: %s: %s", image, why)
    return found


class _Steps:
    """Looks up steps of a path, forwards only, so that one stretch of it is in memory."""

    def __init__(self, reader: PathReader, evaluation: Path) -> None:
        self._bbid = reader.blocks.bbid
        self._file = reader.file
        self._evaluation = evaluation
        self._chunks = self._stretches(reader)
        self._begin, self._block, self._gap = 0, np.zeros(1, np.uint32), np.zeros(0, np.uint8)

    @staticmethod
    def _stretches(reader: PathReader) -> Iterator[tuple[int, NDArray[np.uint32], NDArray[np.uint8]]]:
        """Number of the first step, the blocks (with the one before it in front), the gaps."""
        begin, before = 0, np.zeros(1, np.uint32)
        for chunk in reader.chunks():
            if len(chunk.block):
                yield begin, np.concatenate([before, chunk.block]), chunk.gap
                begin, before = begin + len(chunk.block), chunk.block[-1:]

    def blocks(self, position: U64) -> tuple[U64, U64]:
        """BBIDs of the steps before and at each position u64[m], which ascends from call to call."""
        sources, targets = [], []
        while len(position):
            here = int(np.searchsorted(position, self._begin + len(self._gap)))
            at = (position[:here] - np.uint64(self._begin)).astype(np.int64)
            if bool(self._gap[at].any()):
                raise self._other()
            sources.append(self._bbid[self._block[at]])
            targets.append(self._bbid[self._block[at + 1]])
            position = position[here:]
            if len(position):
                following = next(self._chunks, None)
                if following is None:
                    raise self._other()
                self._begin, self._block, self._gap = following
        return np.concatenate([position, *sources]), np.concatenate([position, *targets])

    def _other(self) -> EvaluationError:
        return EvaluationError(
            f"{self._evaluation}: was not scored from {self._file}, which has no transfer where it has one: "
            "evaluate anew, or leave --traces out"
        )


def _named(blocks: Blocks) -> dict[int, str]:
    """Names by hash, of the modules that a path went through."""
    index, first = np.unique(blocks.module, return_index=True)
    hashes = (blocks.bbid[first] >> np.uint64(32)).tolist()
    return {module: blocks.modules[i] for i, module in zip(index.tolist(), hashes, strict=True) if i >= 0}


def _mapped(folder: Path) -> dict[int, str]:
    """Names by hash, of the modules in a sample's memory maps."""
    names: dict[int, str] = {}
    for file in sorted([*folder.glob("mapping*.txt"), *folder.glob("mapping*.txt.gz")]):
        try:
            for module in MemoryMap.read(file).modules:
                if module.hash >> 31:
                    # Adler-32 was a signed number in Python 2, and published rows carry its absolute value
                    names.setdefault((1 << 32) - module.hash, module.path)
                names[module.hash] = module.path
        except InputError as error:
            _log.warning("modules may stay without names: %s", error)
    return names


def read_all(
    files: list[Path], workers: int | None, max_classes: int, traces: Path | None, logging_level: int
) -> tuple[list[Anomalies], dict[int, str]]:
    """Every run of the folder, in order, and names of modules by hash."""
    runs: list[Anomalies] = []
    names: dict[int, str] = {}
    count = min(workers or len(os.sched_getaffinity(0)), len(files))
    with progress("read evaluations", len(files)) as bar:

        def take(result: tuple[Anomalies, dict[int, str]]) -> None:
            runs.append(result[0])
            names.update(result[1])
            bar.advance()

        if count == 1:
            for file in files:
                take(read_with_trace(file, max_classes, traces))
            return runs, names
        pool = ProcessPoolExecutor(
            count, multiprocessing.get_context("forkserver"), _begin_worker, (logging_level,)
        )
        try:
            futures = [pool.submit(read_with_trace, file, max_classes, traces) for file in files]
            for future in futures:
                take(future.result())
        except BrokenProcessPool:
            raise EvaluationError(
                "a process that read evaluations was killed: is there enough memory? --workers 1 needs least"
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)
    return runs, names


def _begin_worker(logging_level: int) -> None:
    # an interrupt is for the one that waits for the results
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    set_up_logging(logging_level)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)


def functions_in(
    shared: list[list[Shared]],
    names: dict[int, str],
    runs: list[Anomalies],
    traces: Path | None,
    bin_dir: Path | None,
) -> dict[int, Symbols]:
    if traces is None or bin_dir is None:
        return {}
    blocks = (block for each in shared for one in each for block in (one.source, one.target))
    return functions_of(sorted({block >> MODULE_BITS for block in blocks}), names, runs, traces, bin_dir)
