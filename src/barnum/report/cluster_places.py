"""What the traces of evaluated runs add to their evaluations: where transfers come from, names of modules."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from barnum.errors import EvaluationError, InputError
from barnum.evaluations.folder import open_evaluation
from barnum.paths import Blocks, PathReader, open_path
from barnum.processes import in_order
from barnum.report.cluster_names import MODULE_BITS
from barnum.samples import MemoryMap, Module, Sample
from barnum.verdicts.clusters import Anomalies, read_anomalies

if TYPE_CHECKING:
    from barnum.report.symbols import Symbols
    from barnum.verdicts.clusters import Shared

U64 = NDArray[np.uint64]

_log = logging.getLogger("barnum.cluster")
_PARSED = ("trace_parsed.parquet", "trace_parsed.gz")


class _Task(NamedTuple):
    """An evaluation to read; the fields are arguments of :func:`read_with_trace`."""

    file: Path
    max_classes: int
    traces: Path | None


def read_all(
    files: Sequence[Path],
    workers: int,
    max_classes: int,
    traces: Path | None,
    advance: Callable[[], None] = lambda: None,
    set_up: Callable[[], None] | None = None,
) -> tuple[list[Anomalies], dict[int, str]]:
    """Read evaluations by several processes: runs in the order of the files, and the names of modules by hash
    and of calls by token.

    ``advance`` is called after each; ``set_up``, which can be pickled, first in each process.

    Raises:
        EvaluationError: an evaluation is broken or was not scored from its trace, or a process was killed.
        ParsedTraceError: a trace is broken.
    """
    runs: list[Anomalies] = []
    names: dict[int, str] = {}
    tasks = [_Task(file, max_classes, traces) for file in files]
    for run, run_names in in_order(tasks, _read, workers, set_up):
        runs.append(run)
        names.update(run_names)
        advance()
    return runs, names


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
    call_of = {}
    for token, name in names.items():
        with contextlib.suppress(ValueError):  # the file comes from outside
            call_of[int(token, 16)] = name
    return call_of


def functions_of(
    modules: Iterable[int], names: Mapping[int, str], runs: Sequence[Anomalies], traces: Path, bin_dir: Path
) -> dict[int, Symbols]:
    """Functions of modules by hash, of those whose image is in the folder of images.

    ``names`` as of :func:`read_with_trace`; the samples of ``runs`` say which image is whose. What cannot be
    read is told in a warning.
    """
    from barnum.report.symbols import read_symbols

    functions: dict[int, Symbols] = {}
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
                functions[module], why = read_symbols(image, path)
                del wanted[module]
                if why:
                    _log.warning("no names of functions: %s: %s", image, why)
    return functions


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


def _read(task: _Task) -> tuple[Anomalies, dict[int, str]]:
    return read_with_trace(*task)


def functions_in(
    shared: Sequence[Sequence[Shared]],
    names: Mapping[int, str],
    runs: Sequence[Anomalies],
    traces: Path | None,
    bin_dir: Path | None,
) -> dict[int, Symbols]:
    """Functions by hash, of the modules in which transfers that clusters share begin or end; none without the
    folders of samples and of images."""
    if traces is None or bin_dir is None:
        return {}
    transfers = [transfer for of_cluster in shared for transfer in of_cluster]
    blocks = {block for transfer in transfers for block in (transfer.source, transfer.target)}
    return functions_of(sorted({block >> MODULE_BITS for block in blocks}), names, runs, traces, bin_dir)
