"""Verdicts from nominal runs alone: is this run stranger than nominal runs are?

Calibration scores are those of nominal runs that had no part in what judges them: training runs, each scored
by rates that were learnt without it (they come in the evaluation's header), and held-out benign runs. A
run's p-value is

    p = (1 + number of calibration scores that are at least its score) / (1 + number of calibration scores)

and it is anomalous where p is at most the false alarm rate. If nominal runs are exchangeable, at most that
share of them is called anomalous (V. Vovk, A. Gammerman, G. Shafer, Algorithmic Learning in a Random World,
2005). n scores can keep to rates from 1 / (n + 1) on. A held-out benign run is left out of the calibration
when it is judged itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
import numpy as np

from barnum.errors import EvaluationError
from barnum.verdicts.evaluation import Calibration
from barnum.verdicts.features import Run
from barnum.verdicts.methods import Classifier, Verdict

# share of nominal runs that may be called anomalous where nothing is asked for; with few calibration runs the
# least that they allow
RATE = 0.01


class _State(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    window: Annotated[int, msgspec.Meta(ge=1, le=1 << 32)]
    rate: Annotated[float, msgspec.Meta(gt=0, lt=1)]
    scores: tuple[float, ...]


class ConformalClassifier:
    """A set of calibration scores, and the false alarm rate to keep to."""

    name = "conformal"

    def __init__(self, scores: Sequence[float], window: int, rate: float) -> None:
        self._scores = np.sort(np.asarray(scores, np.float64))
        self._window = window
        self.rate = rate

    @property
    def scores(self) -> list[float]:
        """The calibration scores, ascending."""
        return list(self._scores.tolist())

    @property
    def threshold(self) -> float:
        if self._allowed < 0:
            return math.inf
        return float(self._scores[len(self._scores) - 1 - self._allowed])

    @property
    def _allowed(self) -> int:
        """How many calibration scores may be at least an anomalous one; below 0 nothing is anomalous."""
        return min(int(self.rate * (len(self._scores) + 1) + 1e-9), len(self._scores)) - 1

    def describe(self) -> str:
        return (
            f"conformal, from nominal runs alone: the largest sum of novelty within {self._window:,} "
            f"transfers, against {len(self._scores)} nominal runs that were left out when they were scored; "
            f"anomalous above {self.threshold:.2f} nats; at most {100 * self.rate:.3g} % false alarms among "
            "runs like these"
        )

    def judge(self, run: Run) -> Verdict:
        score = _score(run)
        if run.calibration is not None and run.calibration.window != self._window:
            raise EvaluationError(
                f"conformal: the evaluation of {run.label}-{run.sample} has novelty within "
                f"{run.calibration.window:,} transfers, the classifier was learnt within {self._window:,}: "
                "learn the classifier anew"
            )
        at_least = len(self._scores) - int(np.searchsorted(self._scores, score, side="left"))
        p = (1 + at_least) / (1 + len(self._scores))
        return Verdict(anomalous=at_least <= self._allowed, score=score, p_value=p)

    def without_false_positives(self, runs: Sequence[Run]) -> ConformalClassifier:
        # those that are above all calibration scores had no part in them yet
        above = [_score(run) for run in runs if not run.malicious and _score(run) > self._scores[-1]]
        scores = [*self.scores, *above]
        return ConformalClassifier(scores, self._window, 1 / (len(scores) + 1))

    def state(self) -> dict[str, Any]:
        return {"window": self._window, "rate": self.rate, "scores": self.scores}


class Conformal:
    """See the module's text. ``rate`` None: RATE, or the least that the number of runs allows."""

    name = "conformal"

    def __init__(self, rate: float | None = None) -> None:
        self._rate = rate

    def fit(self, runs: Sequence[Run]) -> Classifier:
        return self._fit(runs, None)

    def held_out(self, runs: Sequence[Run]) -> list[Verdict]:
        everything = self._fit(runs, None)
        verdicts = []
        for index, run in enumerate(runs):
            # by the same rate, as far as one score fewer allows it
            others = (
                everything
                if run.malicious
                else self._fit([*runs[:index], *runs[index + 1 :]], everything.rate, runs[index])
            )
            verdicts.append(others.judge(run))
        return verdicts

    def restore(self, state: dict[str, Any]) -> Classifier:
        read = msgspec.convert(state, _State)
        if not read.scores or not bool(np.isfinite(read.scores).all()):
            raise msgspec.ValidationError("it has no usable calibration scores")
        return ConformalClassifier(read.scores, read.window, read.rate)

    def _fit(
        self, runs: Sequence[Run], granted: float | None, judged: Run | None = None
    ) -> ConformalClassifier:
        some = [*runs, *([judged] if judged else [])]
        if not some:
            raise EvaluationError("conformal: no run is left to calibrate by: evaluate more benign samples")
        calibration = _calibration(some[0])
        scores = [*calibration.scores, *(_score(run) for run in runs if not run.malicious)]
        if not scores:
            raise EvaluationError(
                "conformal: there are no nominal runs to calibrate by: learn from more than one sample, or "
                "evaluate benign ones"
            )
        least = 1 / (len(scores) + 1)
        if granted is not None:
            return ConformalClassifier(scores, calibration.window, max(granted, least))
        if self._rate is None:
            return ConformalClassifier(scores, calibration.window, max(RATE, least))
        if self._rate < least - 1e-12:
            needed = math.ceil(min(1 / self._rate, 1e15) - 1 - 1e-9)
            raise EvaluationError(
                f"conformal: a false alarm rate of {self._rate:g} takes at least {needed} nominal runs, "
                f"here are {len(scores)}: use "
                f"--false-alarm-rate {_up(least):g} or more, or learn from more runs"
            )
        return ConformalClassifier(scores, calibration.window, self._rate)


def _up(rate: float) -> float:
    """A rate rounded up, so that it can be asked for."""
    return math.ceil(rate * 10_000) / 10_000


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
