"""Verdicts from nominal runs alone: is this run stranger than nominal runs are?

What a run is judged by is a score: one number, which grows with strangeness (see scores/). Calibration scores
are those of nominal runs that had no part in what judges them: training runs, each judged by what was learnt
without it (they come in the evaluation's header), and held-out benign runs. A run's p-value is

    p = (1 + number of calibration scores that are at least its score) / (1 + number of calibration scores)

and it is anomalous where p is at most the false alarm rate. If nominal runs are exchangeable, at most that
share of them is called anomalous (V. Vovk, A. Gammerman, G. Shafer, Algorithmic Learning in a Random World,
2005). n scores can keep to rates from 1 / (n + 1) on. A held-out benign run is left out of the calibration
when it is judged itself. A score that is itself learnt from the calibration runs may keep to the rate about,
and not exactly; it says so (Score.exact). Where a score can only grow with more of the run (Score.grows), p
of its beginning is an upper bound of p of the whole, so that judging beginnings keeps to the rate as well.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
import numpy as np

from barnum.errors import EvaluationError
from barnum.verdicts.features import Run
from barnum.verdicts.method import Classifier, Measure, Method, Verdict
from barnum.verdicts.scores import DEFAULT, SCORES, by_name
from barnum.verdicts.scores.interface import Calibrated, Score, too_few

# share of nominal runs that may be called anomalous where nothing is asked for; with few calibration runs the
# least that they allow
RATE = 0.01


class _State(msgspec.Struct, frozen=True):
    """What is saved; other fields are those of the score."""

    window: Annotated[int, msgspec.Meta(ge=1, le=1 << 32)]
    rate: Annotated[float, msgspec.Meta(gt=0, lt=1)]
    scores: tuple[float, ...]
    score: str = DEFAULT


class ConformalClassifier(Classifier):
    """Calibration scores, what they are scores of, and the false alarm rate to keep to."""

    name = "conformal"

    def __init__(self, calibration: Sequence[float], rate: float, by: Score) -> None:
        """``calibration``: at least one score, in any order; ``rate`` between 0 and 1; ``by`` gives the score
        of a run."""
        self._scores = np.sort(np.asarray(calibration, np.float64))
        self._by = by
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
    def score(self) -> str:
        return self._by.name

    @property
    def measures(self) -> tuple[Measure, ...]:
        return self._by.measures

    @property
    def window_sum(self) -> bool:
        return self._by.window_sum

    @property
    def grows(self) -> bool:
        return self._by.grows

    @property
    def by(self) -> Score:
        """What gives the score of a run."""
        return self._by

    @property
    def exact(self) -> bool:
        """Whether scores of nominal runs are exchangeable with those that calibrate, if the runs are."""
        return self._by.exact

    @property
    def alarm_rate(self) -> float:
        return self.rate

    @property
    def digits(self) -> int:
        return self._by.digits

    @property
    def _allowed(self) -> int:
        """How many calibration scores may be at least an anomalous one; below 0 nothing is anomalous."""
        return min(int(self.rate * (len(self._scores) + 1) + 1e-9), len(self._scores)) - 1

    def describe(self) -> str:
        return (
            f"conformal, from nominal runs alone: {self._by.describe()}, against {len(self._scores)} nominal "
            f"runs that were left out when they were scored; anomalous above "
            f"{self._by.amount(self.threshold)}; {'at most' if self._by.exact else 'about'} "
            f"{100 * self.rate:.3g} % false alarms among runs like these"
        )

    def judge(self, run: Run) -> Verdict:
        return self.verdict(self._by.of(run))

    def verdict(self, score: float) -> Verdict:
        """The verdict on a run of that score."""
        at_least = len(self._scores) - int(np.searchsorted(self._scores, score, side="left"))
        p = (1 + at_least) / (1 + len(self._scores))
        return Verdict(anomalous=at_least <= self._allowed, score=score, p_value=p)

    def without_false_positives(self, runs: Sequence[Run]) -> ConformalClassifier:
        # of runs that took part already the score is there, or one that is not above all
        benign = [self._by.of(run) for run in runs if run.benign]
        calibration = [*self.scores, *(score for score in benign if score > self._scores[-1])]
        return ConformalClassifier(calibration, 1 / (len(calibration) + 1), self._by)

    def without(self, score: float) -> ConformalClassifier:
        """The same, had a benign run of that score not been among those it was learnt from; by the same rate,
        as far as one score fewer allows it."""
        rest = np.delete(self._scores, int(np.searchsorted(self._scores, score)))
        rate = max(self.rate, 1 / (len(rest) + 1))
        return ConformalClassifier(rest.tolist(), rate, self._by)

    def state(self) -> dict[str, Any]:
        return {
            "window": self._by.window,
            "rate": self.rate,
            "scores": self.scores,
            "score": self._by.name,
            **self._by.state(),
        }


class Conformal(Method):
    """See the module's text."""

    name = "conformal"
    settings = ("rate", "score")
    judges_either = True

    def __init__(self, rate: float | None = None, score: str | None = None) -> None:
        """``rate``: None for RATE, or the least that the number of runs allows; ``score``: what to go by, by
        name, None for the default.

        Raises:
            EvaluationError: there is no such score.
        """
        self._rate = rate
        self._score = by_name(score or DEFAULT)

    @classmethod
    def with_settings(cls, rate: float | None, score: str | None) -> Method:
        return cls(rate, score)

    def fit(self, runs: Sequence[Run]) -> Classifier:
        return self._fitted(self._calibrated(runs))

    def held_out(self, runs: Sequence[Run]) -> list[Verdict]:
        calibrated = self._calibrated(runs)
        classifier = self._fitted(calibrated)
        if len(classifier.scores) == 1 and any(run.benign for run in runs):
            raise too_few(self._score)
        held_out = iter(calibrated.held_out)
        verdicts = []
        for run in runs:
            if run.benign:
                score = next(held_out)
                verdicts.append(classifier.without(score).verdict(score))
            else:
                verdicts.append(classifier.judge(run))
        return verdicts

    def restore(self, state: dict[str, Any]) -> Classifier:
        read = msgspec.convert(state, _State)
        if not read.scores or not bool(np.isfinite(read.scores).all()):
            raise msgspec.ValidationError("it has no usable calibration scores")
        if read.score not in SCORES:
            raise msgspec.ValidationError(f"no score is called {read.score[:60]!r}")
        rest = {name: value for name, value in state.items() if name not in _State.__struct_fields__}
        return ConformalClassifier(read.scores, read.rate, SCORES[read.score].restore(read.window, rest))

    def _calibrated(self, runs: Sequence[Run]) -> Calibrated:
        if not runs:
            raise EvaluationError("conformal: no run is left to calibrate by: evaluate more benign samples")
        return self._score.learn(runs)

    def _fitted(self, calibrated: Calibrated) -> ConformalClassifier:
        calibration = [*calibrated.training, *calibrated.held_out]
        if not calibration:
            raise too_few(self._score)
        least = 1 / (len(calibration) + 1)
        rate = max(RATE, least) if self._rate is None else self._rate
        if rate < least - 1e-12:
            needed = math.ceil(min(1 / rate, 1e15) - 1 - 1e-9)
            raise EvaluationError(
                f"conformal: a false alarm rate of {rate:g} takes at least {needed} nominal runs, "
                f"here are {len(calibration)}: use "
                f"--false-alarm-rate {_up(least):g} or more, or learn from more runs"
            )
        return ConformalClassifier(calibration, rate, calibrated.score)


def _up(rate: float) -> float:
    """A rate rounded up, so that it can be asked for."""
    return math.ceil(rate * 10_000) / 10_000
