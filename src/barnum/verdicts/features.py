"""What a verdict looks at: a few numbers a run, got from its evaluation file in one pass."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from barnum.errors import EvaluationError
from barnum.verdicts.evaluation import Calibration, open_evaluation

F64 = NDArray[np.float64]
Part = dict[str, NDArray[Any]]

# length of the windows in which surprisal is averaged
SURPRISAL_WINDOW = 1000


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One evaluated run.

    ``wrong`` share of wrong predictions; ``wrong_confidence`` mean confidence of the wrong ones (the
    original's two features; 0 where none is wrong); ``surprisal`` mean nats a transfer; ``surprisal_window``
    the largest mean over 1,000 neighbouring transfers; ``new`` share of transfers that training never saw,
    ``unknown`` of those whose target it never saw; ``novelty`` sum of novelty in nats, ``novelty_window``
    its largest sum within the window that the calibration names, ``novelty_position`` the step of the trace
    where that window begins.

    What the evaluation does not hold is None; ``model`` is empty, and ``name`` the sample's, where it does
    not say.
    """

    name: str
    label: str
    sample: str
    model: str
    calibration: Calibration | None
    transfers: int
    wrong: float
    wrong_confidence: float
    surprisal: float | None = None
    surprisal_window: float | None = None
    new: float | None = None
    unknown: float | None = None
    novelty: float | None = None
    novelty_window: float | None = None
    novelty_position: int | None = None

    @property
    def malicious(self) -> bool:
        """Whether the label says so."""
        return self.label == "malicious"


def read_run(file: Path) -> Run:
    """Read an evaluation file once and sum it up.

    Raises:
        EvaluationError: it is broken, holds no prediction, or numbers that are none.
    """
    evaluation = open_evaluation(file)
    header = evaluation.header
    calibration = header.calibration if header else None
    sums = _Sums()
    others: list[_Surprisal | _Novelty] = []
    if "surprisal" in evaluation.columns:
        others.append(_Surprisal())
    if calibration:
        others.append(_Novelty(calibration.window))
    names = dict.fromkeys(name for each in (sums, *others) for name in each.columns)
    try:
        for part in evaluation.parts(*names):
            _check(file, part)
            for each in (sums, *others):
                each.add(part)
    finally:
        evaluation.close()
    if not sums.count:
        raise EvaluationError(f"{file}: holds no prediction, so there is nothing to judge: remove it")
    features = sums.features()
    for other in others:
        features |= other.features(sums.count)
    return Run(
        name=header.name if header else evaluation.sample,
        label=evaluation.label,
        sample=evaluation.sample,
        model=header.model if header else "",
        calibration=calibration,
        **features,
    )


def _check(file: Path, part: Part) -> None:
    for name in ("confidence", "surprisal", "novelty"):
        values = part.get(name)
        if values is not None and not bool((np.isfinite(values) & (values >= 0)).all()):
            raise EvaluationError(f"{file}: {name} holds values below 0 or no numbers: evaluate anew")


class _Sums:
    columns = ("correct", "confidence")

    def __init__(self) -> None:
        self.count = 0
        self._wrong = 0
        self._wrong_confidence = 0.0

    def add(self, part: Part) -> None:
        wrong = ~part["correct"].astype(np.bool_)
        self.count += len(wrong)
        self._wrong += int(wrong.sum())
        self._wrong_confidence += float(part["confidence"][wrong].sum(dtype=np.float64))

    def features(self) -> dict[str, Any]:
        return {
            "transfers": self.count,
            "wrong": self._wrong / self.count,
            "wrong_confidence": self._wrong_confidence / self._wrong if self._wrong else 0.0,
        }


class _Surprisal:
    columns = ("surprisal",)

    def __init__(self) -> None:
        self._sum = 0.0
        self._worst = 0.0
        self._tail: F64 = np.zeros(0)

    def add(self, part: Part) -> None:
        surprisal = part["surprisal"].astype(np.float64)
        self._sum += float(surprisal.sum())
        joined = np.concatenate([self._tail, surprisal])
        total = np.concatenate([[0.0], np.cumsum(joined)])
        reach = min(SURPRISAL_WINDOW, len(joined))
        if reach:
            self._worst = max(self._worst, float((total[reach:] - total[:-reach]).max()))
        self._tail = joined[-(SURPRISAL_WINDOW - 1) :]

    def features(self, count: int) -> dict[str, Any]:
        return {
            "surprisal": self._sum / count,
            "surprisal_window": self._worst / min(count, SURPRISAL_WINDOW),
        }


class _Novelty:
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
        window, position = self._worst()
        return {
            "new": self._new / count,
            "unknown": self._unknown / count,
            "novelty": float(sum(weights.sum() for weights in self._weights)),
            "novelty_window": window,
            "novelty_position": position,
        }

    def _worst(self) -> tuple[float, int]:
        """Largest sum of novelty within the window, and the step of the trace at which it begins."""
        index, weights = np.concatenate(self._index), np.concatenate(self._weights)
        if not len(index):
            return 0.0, 0
        total = np.concatenate([[0.0], np.cumsum(weights)])
        sums = total[np.searchsorted(index, index + self._window)] - total[:-1]
        worst = int(sums.argmax())
        return float(sums[worst]), int(np.concatenate(self._position)[worst])
