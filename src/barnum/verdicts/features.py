"""What a verdict looks at: a few numbers a run, got from its evaluation file in one pass."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from barnum.errors import EvaluationError
from barnum.evaluations.files import Evaluation, rows_before
from barnum.evaluations.folder import open_evaluation
from barnum.evaluations.header import Calibration, Source
from barnum.evaluations.signs import Cut, Signs
from barnum.evaluations.windows import DenseSeries, worst_window

F64 = NDArray[np.float64]
Part = dict[str, NDArray[Any]]

# lengths of the windows in which surprisal is averaged, transfers
WINDOWS = (100, 1_000, 10_000)
# the tail of surprisal is told from counts in classes: so many a power of ten, from 10 ** -_DECADES nats on
_CLASSES, _DECADES, _MOST = 32, 6, 3
TAIL = 0.01
# distinct targets that are told apart; programs have far fewer
_TARGETS = 1 << 20
# of fewer rows Python has the distinct ones before pyarrow.compute is imported
_FEW = 1 << 15


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One evaluated run.

    ``wrong`` share of wrong predictions; ``wrong_confidence`` mean confidence of the wrong ones (the
    original's two features; 0 where none is wrong), ``confidence`` of all; ``distinct`` number of different
    targets (where they are very many, at least so many); ``surprisal`` mean nats a transfer;
    ``surprisal_tail`` mean of the most surprising hundredth (to within 7 %); ``surprisal_windows``
    the largest mean over 100, 1,000 and 10,000 neighbouring transfers; ``new`` share of transfers that
    training never saw, ``unknown`` of those whose target it never saw; ``novelty`` sum of novelty in nats,
    ``novelty_window`` its largest sum within the window that the calibration names, ``novelty_position`` the
    step of the trace where that window begins.

    What the evaluation does not hold is None; ``model`` is empty, and ``name`` the sample's, where it does
    not say. ``cut``: only what came before another process was started, or before the first effect that no
    nominal run has, counts. ``signs`` are the evidence in what counts, and all effects.
    """

    name: str
    label: str
    sample: str
    model: str
    calibration: Calibration | None
    source: Source | None = None
    cut: bool = False
    transfers: int
    wrong: float
    wrong_confidence: float
    confidence: float
    distinct: int
    surprisal: float | None = None
    surprisal_tail: float | None = None
    surprisal_windows: tuple[float, ...] | None = None
    new: float | None = None
    unknown: float | None = None
    novelty: float | None = None
    novelty_window: float | None = None
    novelty_position: int | None = None
    signs: Signs | None = None

    @property
    def surprisal_window(self) -> float | None:
        """The largest mean surprisal over 1,000 neighbouring transfers."""
        return None if self.surprisal_windows is None else self.surprisal_windows[1]

    @property
    def benign(self) -> bool:
        """Whether the label says so. A run whose label is unknown is neither benign nor malicious."""
        return self.label == "benign"

    @property
    def malicious(self) -> bool:
        """Whether the label says so."""
        return self.label == "malicious"


def labelled(runs: Sequence[Run]) -> list[Run]:
    """Those whose label is known, in their order."""
    return [run for run in runs if run.benign or run.malicious]


def read_run(file: Path, *, cut: Cut | bool = False, steps: int | None = None) -> Run:
    """Read an evaluation file once and sum it up.

    ``cut``: only what came before the first other process was started (True or ``spawn``), or before the
    first effect that no nominal run has; all of it where there was none, or where that is not known.
    ``steps``: only what lies within so many steps of the path, from the first on. Where nothing comes before,
    ``transfers`` is 0 and nothing else is known.

    Raises:
        EvaluationError: it is broken, holds no prediction, or values that are negative or not finite.
    """
    evaluation = open_evaluation(file)
    header = evaluation.header
    calibration = header.calibration if header else None
    source = header.source if header else None
    signs = header.signs if header else None
    first = cut_of(cut, source, signs)
    limit = min((end for end in (first, steps) if end is not None), default=None)
    sums = _Sums()
    others: list[_Surprisal | _Novelty] = []
    if "surprisal" in evaluation.columns:
        others.append(_Surprisal())
    if calibration:
        others.append(_Novelty(calibration.window))
    names = dict.fromkeys(name for each in (sums, *others) for name in each.columns)
    if limit is not None:
        names["position"] = None
    try:
        for part in _parts(evaluation, list(names), limit):
            _check(file, part)
            for each in (sums, *others):
                each.add(part)
    finally:
        evaluation.close()
    if not sums.count and limit is None:
        raise EvaluationError(f"{file}: holds no prediction, so there is nothing to judge: remove it")
    features: dict[str, Any] = dict.fromkeys(("wrong", "wrong_confidence", "confidence"), 0.0)
    features |= {"transfers": 0, "distinct": 0}
    if sums.count:
        for each in (sums, *others):
            features |= each.features(sums.count)
    return Run(
        name=header.name if header else evaluation.sample,
        label=evaluation.label,
        sample=evaluation.sample,
        model=header.model if header else "",
        calibration=calibration,
        source=source,
        cut=first is not None,
        signs=None if signs is None else signs.before(limit),
        **features,
    )


def cut_of(cut: Cut | bool, source: Source | None, signs: Signs | None) -> int | None:
    """How many steps of a run count; None: all."""
    if cut == "effect":
        return None if signs is None else signs.first_effect
    return source.cut if cut and source is not None else None


def _parts(evaluation: Evaluation, names: list[str], limit: int | None) -> Any:
    for part in evaluation.parts(*names):
        if limit is not None:
            # rows are in the order of the trace
            end = rows_before(part["position"], limit)
            if end < len(part["position"]):
                yield {name: column[:end] for name, column in part.items()}
                return
        yield part


def _check(file: Path, part: Part) -> None:
    for name in ("confidence", "surprisal", "novelty"):
        values = part.get(name)
        # one pass each: NaN fails both comparisons
        if values is not None and len(values) and not (values.min() >= 0 and values.max() < np.inf):
            raise EvaluationError(
                f"{file}: {name} holds values that are negative or not finite: evaluate anew"
            )


def _distinct(values: NDArray[np.uint64]) -> list[int] | set[int]:
    if len(values) < _FEW:
        return set(values.tolist())
    import pyarrow as pa
    import pyarrow.compute as pc

    distinct: list[int] = pc.unique(pa.array(values)).to_pylist()
    return distinct


class _Sums:
    """What every evaluation tells."""

    columns = ("correct", "confidence", "actual")

    def __init__(self) -> None:
        self.count = 0
        self._wrong = 0
        self._confidence = 0.0
        self._wrong_confidence = 0.0
        self._targets: set[int] = set()

    def add(self, part: Part) -> None:
        wrong = ~part["correct"].astype(np.bool_)
        self.count += len(wrong)
        self._wrong += int(np.count_nonzero(wrong))
        self._confidence += float(part["confidence"].sum(dtype=np.float64))
        self._wrong_confidence += float(part["confidence"][wrong].sum(dtype=np.float64))
        if len(self._targets) < _TARGETS:
            self._targets.update(_distinct(part["actual"]))

    def features(self, count: int) -> dict[str, Any]:
        return {
            "transfers": self.count,
            "wrong": self._wrong / self.count,
            "wrong_confidence": self._wrong_confidence / self._wrong if self._wrong else 0.0,
            "confidence": self._confidence / self.count,
            "distinct": len(self._targets),
        }


class _Surprisal:
    """Mean of surprisal, of its tail, and within windows."""

    columns = ("surprisal",)

    def __init__(self) -> None:
        self._sum = 0.0
        self._count = 0
        self._worst = [0.0] * len(WINDOWS)
        self._series = DenseSeries(max(WINDOWS))
        size = _CLASSES * (_DECADES + _MOST) + 1
        self._counts = np.zeros(size, np.int64)
        self._sums = np.zeros(size)

    def add(self, part: Part) -> None:
        surprisal = part["surprisal"].astype(np.float64)
        if not len(surprisal):
            return
        joined = self._series.add(surprisal)
        self._sum += joined.sum
        self._count += len(surprisal)
        for index, length in enumerate(WINDOWS):
            _, sums = joined.sums(length)
            self._worst[index] = max(self._worst[index], float(sums.max(initial=0.0)))
        self._classify(surprisal)

    def _classify(self, surprisal: F64) -> None:
        # most transfers are hardly surprising: they need no logarithm
        large = surprisal[surprisal > 10.0**-_DECADES]
        place = ((np.log10(large) + _DECADES) * _CLASSES).astype(np.int64) + 1
        place = np.clip(place, 1, len(self._counts) - 1)
        self._counts += np.bincount(place, minlength=len(self._counts))
        self._sums += np.bincount(place, large, minlength=len(self._sums))

    def features(self, count: int) -> dict[str, Any]:
        wanted = max(1, round(count * TAIL))
        # from the most surprising class down
        counts, sums = self._counts[::-1], self._sums[::-1]
        before = np.concatenate([[0], np.cumsum(counts)[:-1]])
        taken = np.clip(wanted - before, 0, counts)
        mean = np.divide(sums, counts, out=np.zeros(len(sums)), where=counts > 0)
        return {
            "surprisal": self._sum / count,
            "surprisal_tail": float((taken * mean).sum() / wanted),
            "surprisal_windows": tuple(
                worst / min(count, length) for worst, length in zip(self._worst, WINDOWS, strict=True)
            ),
        }


class _Novelty:
    """What is new, and where its novelty adds up to most."""

    columns = ("seen", "novelty", "position")

    def __init__(self, window: int) -> None:
        self._window = window
        self._count = 0
        self._new = 0
        self._unknown = 0
        self._index: list[NDArray[np.int64]] = []
        self._position: list[NDArray[np.uint64]] = []
        self._weights: list[F64] = []

    def add(self, part: Part) -> None:
        self._new += int((part["seen"] < 2).sum())
        self._unknown += int((part["seen"] == 0).sum())
        at = np.flatnonzero(part["novelty"])
        self._index.append(at + self._count)
        self._position.append(part["position"][at])
        self._weights.append(part["novelty"][at].astype(np.float64))
        self._count += len(part["novelty"])

    def features(self, count: int) -> dict[str, Any]:
        worst, begin = worst_window(np.concatenate(self._index), np.concatenate(self._weights), self._window)
        return {
            "new": self._new / count,
            "unknown": self._unknown / count,
            "novelty": float(sum(weights.sum() for weights in self._weights)),
            "novelty_window": worst,
            "novelty_position": 0 if begin is None else int(np.concatenate(self._position)[begin]),
        }
