"""What a verdict looks at: a few numbers a run, got from its evaluation file in one pass."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from barnum.errors import EvaluationError
from barnum.verdicts.evaluation import Calibration, Evaluation

F64 = NDArray[np.float64]

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
    """

    name: str
    label: str
    sample: str
    model: str
    calibration: Calibration
    transfers: int
    wrong: float
    wrong_confidence: float
    surprisal: float
    surprisal_window: float
    new: float
    unknown: float
    novelty: float
    novelty_window: float
    novelty_position: int

    @property
    def malicious(self) -> bool:
        """Whether the label says so."""
        return self.label == "malicious"


def read_run(file: Path) -> Run:
    """Read an evaluation file once and sum it up.

    Raises:
        EvaluationError: it is broken, holds no prediction, or numbers that are none.
    """
    evaluation = Evaluation(file)
    try:
        sums = _Sums(evaluation.header.calibration.window)
        for part in evaluation.parts("correct", "confidence", "surprisal", "seen", "novelty", "position"):
            sums.add(file, part)
    finally:
        evaluation.close()
    if not sums.count:
        raise EvaluationError(f"{file}: holds no prediction, so there is nothing to judge: remove it")
    header = evaluation.header
    window, position = sums.worst_novelty()
    return Run(
        name=header.name,
        label=evaluation.label,
        sample=evaluation.sample,
        model=header.model,
        calibration=header.calibration,
        transfers=sums.count,
        wrong=sums.wrong / sums.count,
        wrong_confidence=sums.wrong_confidence / sums.wrong if sums.wrong else 0.0,
        surprisal=sums.surprisal / sums.count,
        surprisal_window=sums.surprisal_window / min(sums.count, SURPRISAL_WINDOW),
        new=sums.new / sums.count,
        unknown=sums.unknown / sums.count,
        novelty=float(sum(weights.sum() for weights in sums.weights)),
        novelty_window=window,
        novelty_position=position,
    )


class _Sums:
    def __init__(self, window: int) -> None:
        self._window = window
        self.count = 0
        self.wrong = 0
        self.wrong_confidence = 0.0
        self.surprisal = 0.0
        self.surprisal_window = 0.0
        self.new = 0
        self.unknown = 0
        self._tail: F64 = np.zeros(0)
        self._index: list[NDArray[np.int64]] = []
        self._position: list[NDArray[np.uint64]] = []
        self.weights: list[F64] = []

    def add(self, file: Path, part: dict[str, NDArray[Any]]) -> None:
        confidence, surprisal, novelty = part["confidence"], part["surprisal"], part["novelty"]
        for name, values in (("confidence", confidence), ("surprisal", surprisal), ("novelty", novelty)):
            if not bool((np.isfinite(values) & (values >= 0)).all()):
                raise EvaluationError(f"{file}: {name} holds values below 0 or no numbers: evaluate anew")
        wrong = ~part["correct"].astype(np.bool_)
        self.wrong += int(wrong.sum())
        self.wrong_confidence += float(confidence[wrong].sum(dtype=np.float64))
        self.surprisal += float(surprisal.sum(dtype=np.float64))
        self.new += int((part["seen"] < 2).sum())
        self.unknown += int((part["seen"] == 0).sum())
        joined = np.concatenate([self._tail, surprisal.astype(np.float64)])
        total = np.concatenate([[0.0], np.cumsum(joined)])
        reach = min(SURPRISAL_WINDOW, len(joined))
        if reach:
            self.surprisal_window = max(self.surprisal_window, float((total[reach:] - total[:-reach]).max()))
        self._tail = joined[-(SURPRISAL_WINDOW - 1) :]
        at = np.flatnonzero(novelty)
        self._index.append(at + self.count)
        self._position.append(part["position"][at])
        self.weights.append(novelty[at].astype(np.float64))
        self.count += len(wrong)

    def worst_novelty(self) -> tuple[float, int]:
        """Largest sum of novelty within the window, and the step of the trace at which it begins."""
        index, weights = np.concatenate(self._index), np.concatenate(self.weights)
        if not len(index):
            return 0.0, 0
        total = np.concatenate([[0.0], np.cumsum(weights)])
        sums = total[np.searchsorted(index, index + self._window)] - total[:-1]
        worst = int(sums.argmax())
        return float(sums[worst]), int(np.concatenate(self._position)[worst])
