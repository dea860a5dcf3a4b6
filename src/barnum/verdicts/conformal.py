"""Verdicts from nominal runs alone: is this run stranger than nominal runs are?

A run's score is the largest sum of novelty within a window; or its mean surprisal; or that adjusted for how
long and how varied the run is (see adjust.py); or novelty and adjusted surprisal combined (see fisher.py).
Calibration scores are those of nominal runs that had no part in what judges them: training runs, each judged
by what was learnt without it (they come in the evaluation's header; of surprisal only where the model was
learnt in folds), and held-out benign runs. A run's p-value is

    p = (1 + number of calibration scores that are at least its score) / (1 + number of calibration scores)

and it is anomalous where p is at most the false alarm rate. If nominal runs are exchangeable, at most that
share of them is called anomalous (V. Vovk, A. Gammerman, G. Shafer, Algorithmic Learning in a Random World,
2005). n scores can keep to rates from 1 / (n + 1) on. A held-out benign run is left out of the calibration
when it is judged itself.

With adjusted scores this is kept about, not exactly: how to adjust is learnt from all calibration runs, each
of which is adjusted without its fold, and a new run with all of them (cross-validated scores; R. F. Barber et
al., Predictive Inference with the Jackknife+, Annals of Statistics 49, 2021).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from barnum.errors import EvaluationError
from barnum.evaluations.header import Calibration, LeftOut
from barnum.verdicts import adjust, fisher
from barnum.verdicts.features import Run
from barnum.verdicts.method import Classifier, Score, Verdict

# share of nominal runs that may be called anomalous where nothing is asked for; with few calibration runs the
# least that they allow
RATE = 0.01

F64 = NDArray[np.float64]


class Ways(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Scores of the calibration runs in the two ways that are combined, in one order."""

    novelty: tuple[float, ...]
    adjusted: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.novelty or len(self.novelty) != len(self.adjusted):
            raise ValueError("the ways to be strange are not of the same runs")
        if not np.isfinite((*self.novelty, *self.adjusted)).all():
            raise ValueError("the ways to be strange hold numbers that are none")


class _State(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    window: Annotated[int, msgspec.Meta(ge=1, le=1 << 32)]
    rate: Annotated[float, msgspec.Meta(gt=0, lt=1)]
    scores: tuple[float, ...]
    score: Score = "novelty"
    adjustment: adjust.Adjustment | None = None
    ways: Ways | None = None


class ConformalClassifier:
    """A set of calibration scores, what they are scores of, and the false alarm rate to keep to."""

    name = "conformal"

    def __init__(
        self,
        scores: Sequence[float],
        window: int,
        rate: float,
        score: Score = "novelty",
        adjustment: adjust.Adjustment | None = None,
        ways: Ways | None = None,
    ) -> None:
        self._scores = np.sort(np.asarray(scores, np.float64))
        self._window = window
        self.rate = rate
        self.score: Score = score
        self.adjustment = adjustment
        self.ways = ways

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
        if self.ways is not None:
            what = f"novelty within {self._window:,} transfers combined with mean surprisal"
            above = f"{self.threshold:.2f}"
        elif self.adjustment is not None:
            what = f"mean surprisal of a transfer, {self.adjustment.describe()}"
            above = f"{self.threshold:.4f} times the usual error"
        elif self.score == "surprisal":
            what, above = "mean surprisal of a transfer", f"{self.threshold:.4f} nats"
        else:
            what = f"the largest sum of novelty within {self._window:,} transfers"
            above = f"{self.threshold:.2f} nats"
        exact = self.ways is None and (self.adjustment is None or self.adjustment.terms == "none")
        promised = "at most" if exact else "about"
        return (
            f"conformal, from nominal runs alone: {what}, against {len(self._scores)} nominal runs that were "
            f"left out when they were scored; anomalous above {above}; {promised} "
            f"{100 * self.rate:.3g} % false alarms among runs like these"
        )

    def judge(self, run: Run) -> Verdict:
        its = run.calibration if self.score in ("novelty", "combined") else None
        if its is not None and its.window != self._window:
            raise EvaluationError(
                f"conformal: the evaluation of {run.label}-{run.sample} has novelty within "
                f"{its.window:,} transfers, the classifier was learnt within {self._window:,}: "
                "learn the classifier anew"
            )
        return self.verdict(self._score(run))

    def verdict(self, score: float) -> Verdict:
        """The verdict on a run of that score."""
        at_least = len(self._scores) - int(np.searchsorted(self._scores, score, side="left"))
        p = (1 + at_least) / (1 + len(self._scores))
        return Verdict(anomalous=at_least <= self._allowed, score=score, p_value=p)

    def without_false_positives(self, runs: Sequence[Run]) -> ConformalClassifier:
        # of runs that took part already the score is there, or one that is not above all
        benign = [self._score(run) for run in runs if not run.malicious]
        scores = [*self.scores, *(score for score in benign if score > self._scores[-1])]
        return ConformalClassifier(
            scores, self._window, 1 / (len(scores) + 1), self.score, self.adjustment, self.ways
        )

    def without(self, score: float) -> ConformalClassifier:
        """The same, had a benign run of that score not been among those it was learnt from; by the same rate,
        as far as one score fewer allows it."""
        at = int(np.searchsorted(self._scores, score))
        rest = np.delete(self._scores, at)
        rate = max(self.rate, 1 / (len(rest) + 1))
        return ConformalClassifier(rest.tolist(), self._window, rate, self.score, self.adjustment, self.ways)

    def state(self) -> dict[str, Any]:
        state = {"window": self._window, "rate": self.rate, "scores": self.scores, "score": self.score}
        if self.adjustment is not None:
            state["adjustment"] = msgspec.to_builtins(self.adjustment)
        if self.ways is not None:
            state["ways"] = msgspec.to_builtins(self.ways)
        return state

    def _score(self, run: Run) -> float:
        score = _score(run, self.score)
        if self.adjustment is None:
            return score
        adjusted = self.adjustment.adjusted(*_columns([run]))
        if self.ways is None:
            return float(adjusted[0])
        ways = [
            (np.array(self.ways.novelty), np.array([score])),
            (np.array(self.ways.adjusted), adjusted),
        ]
        return float(fisher.combined(ways)[0])


class Conformal:
    """See the module's text. ``rate`` None: RATE, or the least that the number of runs allows."""

    name = "conformal"

    def __init__(self, rate: float | None = None, score: Score = "novelty") -> None:
        self._rate = rate
        self._score = score

    def fit(self, runs: Sequence[Run]) -> Classifier:
        return self._fitted(self._known(runs))

    def held_out(self, runs: Sequence[Run]) -> list[Verdict]:
        known = self._known(runs)
        everything = self._fitted(known)
        if len(everything.scores) == 1 and not all(run.malicious for run in runs):
            raise _too_few(self._score)
        own = iter(known.here)
        verdicts = []
        for run in runs:
            if run.malicious:
                verdicts.append(everything.judge(run))
            else:
                score = next(own)
                verdicts.append(everything.without(score).verdict(score))
        return verdicts

    def restore(self, state: dict[str, Any]) -> Classifier:
        read = msgspec.convert(state, _State)
        if not read.scores or not bool(np.isfinite(read.scores).all()):
            raise msgspec.ValidationError("it has no usable calibration scores")
        adjusts, combines = read.score in ("adjusted", "combined"), read.score == "combined"
        if (read.adjustment is not None) != adjusts or (read.ways is not None) != combines:
            raise msgspec.ValidationError("its score and its adjustment do not fit")
        return ConformalClassifier(
            read.scores, read.window, read.rate, read.score, read.adjustment, read.ways
        )

    def _known(self, runs: Sequence[Run]) -> _Known:
        if not runs:
            raise EvaluationError("conformal: no run is left to calibrate by: evaluate more benign samples")
        benign = [run for run in runs if not run.malicious]
        scores = [_score(run, self._score) for run in benign]
        if self._score == "novelty":
            calibration = _calibration(runs[0])
            return _Known(list(calibration.scores), scores, calibration.window)
        learnt = runs[0].calibration.runs if runs[0].calibration is not None else ()
        if self._score == "surprisal":
            return _Known([run.surprisal for run in learnt], scores)
        window, novelty = 1, scores
        if self._score == "combined":
            calibration = _calibration(runs[0])
            window = calibration.window
            # those that were not learnt in folds have but one of the two
            novelty = [*calibration.scores, *scores] if len(learnt) == len(calibration.scores) else scores
            learnt = learnt if len(learnt) == len(calibration.scores) else ()
        if not (benign or learnt):
            return _Known([], [])
        columns = _columns([*learnt, *benign])
        adjustment, found = adjust.learn(*columns), adjust.left_out(*columns)
        ways = None
        if self._score == "combined":
            ways = Ways(tuple(novelty), tuple(found.tolist()))
            found = fisher.combined([(np.array(novelty), np.array(novelty)), (found, found)], own=True)
        listed: list[float] = found.tolist()
        return _Known(listed[: len(learnt)], listed[len(learnt) :], window, adjustment, ways)

    def _fitted(self, known: _Known) -> ConformalClassifier:
        scores = [*known.training, *known.here]
        if not scores:
            raise _too_few(self._score)
        least = 1 / (len(scores) + 1)
        rate = max(RATE, least) if self._rate is None else self._rate
        if rate < least - 1e-12:
            needed = math.ceil(min(1 / rate, 1e15) - 1 - 1e-9)
            raise EvaluationError(
                f"conformal: a false alarm rate of {rate:g} takes at least {needed} nominal runs, "
                f"here are {len(scores)}: use "
                f"--false-alarm-rate {_up(least):g} or more, or learn from more runs"
            )
        return ConformalClassifier(scores, known.window, rate, self._score, known.adjustment, known.ways)


@dataclass(frozen=True, slots=True)
class _Known:
    """Scores of nominal runs, each judged by others: of training runs, and of the benign ones here in their
    order."""

    training: list[float]
    here: list[float]
    window: int = 1
    adjustment: adjust.Adjustment | None = None
    ways: Ways | None = None


def _columns(runs: Sequence[Run | LeftOut]) -> tuple[F64, F64, F64]:
    """Mean surprisal, length, and number of distinct targets."""
    surprisal = np.array([run.surprisal for run in runs], np.float64)
    transfers = np.array([run.transfers for run in runs], np.float64)
    return surprisal, transfers, np.array([run.distinct for run in runs], np.float64)


def _too_few(score: Score) -> EvaluationError:
    other = "learn from more than one sample" if score == "novelty" else "learn calls with --folds"
    return EvaluationError(
        f"conformal: there are no nominal runs to calibrate by: evaluate more benign ones, or {other}"
    )


def _up(rate: float) -> float:
    """A rate rounded up, so that it can be asked for."""
    return math.ceil(rate * 10_000) / 10_000


def _calibration(run: Run) -> Calibration:
    if run.calibration is None:
        raise _no_novelty(run)
    return run.calibration


def _score(run: Run, score: Score) -> float:
    """What the evaluation itself tells; of ``combined`` the novelty."""
    if score != "novelty" and run.surprisal is None:
        raise EvaluationError(
            f"conformal: the evaluation of {run.label}-{run.sample} holds no surprisal to judge by: "
            "evaluate with --eval-format parquet, or use --method svm"
        )
    its = run.novelty_window if score in ("novelty", "combined") else run.surprisal
    if its is None:
        raise _no_novelty(run)
    return its


def _no_novelty(run: Run) -> EvaluationError:
    return EvaluationError(
        f"conformal: the evaluation of {run.label}-{run.sample} holds no novelty to judge by: evaluate with "
        "a model learnt by barnum and --eval-format parquet, or use --method svm"
    )
