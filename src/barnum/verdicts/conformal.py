"""Verdicts from nominal runs alone: is this run stranger than nominal runs are?

Calibration scores are those of nominal runs that had no part in what judges them: training runs, each scored
by rates that were learnt without it (they come in the evaluation's header), and held-out benign runs. A
run's p-value is

    p = (1 + number of calibration scores that are at least its score) / (1 + number of calibration scores)

and it is anomalous where p ≤ RATE. If nominal runs are exchangeable, at most a share RATE of them is called
anomalous. A held-out benign run is left out of the calibration when it is judged itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from barnum.errors import EvaluationError
from barnum.verdicts.evaluation import Calibration
from barnum.verdicts.features import Run
from barnum.verdicts.methods import Classifier, Verdict

# share of nominal runs that may be called anomalous; with few calibration runs the least that they allow
RATE = 0.05


class _State(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    window: int
    scores: tuple[float, ...]


class ConformalClassifier:
    """A set of calibration scores."""

    name = "conformal"

    def __init__(self, scores: Sequence[float], window: int) -> None:
        self._scores = np.sort(np.asarray(scores, np.float64))
        self._window = window

    @property
    def rate(self) -> float:
        """The false alarm rate that is kept to: RATE, or the least that the number of scores allows."""
        return max(RATE, 1 / (len(self._scores) + 1))

    @property
    def threshold(self) -> float:
        """Scores above it are anomalous."""
        allowed = int(self.rate * (len(self._scores) + 1) + 1e-9) - 1
        return float(self._scores[len(self._scores) - 1 - allowed])

    def describe(self) -> str:
        return (
            f"conformal, from nominal runs alone: the largest sum of novelty within {self._window:,} "
            f"transfers, against {len(self._scores)} nominal runs that were left out when they were scored; "
            f"anomalous above {self.threshold:.2f} nats; at most {100 * self.rate:.1f} % false alarms among "
            "runs like these"
        )

    def judge(self, run: Run) -> Verdict:
        score = _score(run)
        at_least = len(self._scores) - int(np.searchsorted(self._scores, score, side="left"))
        p = (1 + at_least) / (1 + len(self._scores))
        return Verdict(anomalous=p <= self.rate + 1e-12, score=score, p_value=p)

    def state(self) -> dict[str, Any]:
        return {"window": self._window, "scores": self._scores.tolist()}


class Conformal:
    """See the module's text."""

    name = "conformal"

    def fit(self, runs: Sequence[Run]) -> Classifier:
        return self._fit(runs)

    def held_out(self, runs: Sequence[Run]) -> list[Verdict]:
        everything = self._fit(runs)
        verdicts = []
        for index, run in enumerate(runs):
            others = everything if run.malicious else self._fit([*runs[:index], *runs[index + 1 :]])
            verdicts.append(others.judge(run))
        return verdicts

    def restore(self, state: dict[str, Any]) -> Classifier:
        read = msgspec.convert(state, _State)
        if not read.scores or not bool(np.isfinite(read.scores).all()):
            raise msgspec.ValidationError("it has no usable calibration scores")
        return ConformalClassifier(read.scores, read.window)

    def _fit(self, runs: Sequence[Run]) -> ConformalClassifier:
        if not runs:
            raise EvaluationError("conformal: no run is left to calibrate by: evaluate more benign samples")
        calibration = _calibration(runs[0])
        scores = [*calibration.scores, *(_score(run) for run in runs if not run.malicious)]
        if not scores:
            raise EvaluationError(
                "conformal: there are no nominal runs to calibrate by: learn from more than one sample, or "
                "evaluate benign ones"
            )
        return ConformalClassifier(scores, calibration.window)


def _calibration(run: Run) -> Calibration:
    if run.calibration is None:
        raise _no_novelty(run)
    return run.calibration


def _score(run: Run) -> float:
    if run.novelty_window is None:
        raise _no_novelty(run)
    return run.novelty_window


def _no_novelty(run: Run) -> EvaluationError:
    return EvaluationError(
        f"conformal: the evaluation of {run.label}-{run.sample} holds no novelty to judge by: evaluate with "
        "a model learnt by barnum and --eval-format parquet, or use --method svm"
    )
