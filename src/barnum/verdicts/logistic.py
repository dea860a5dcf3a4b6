"""Both labels and many features: logistic regression.

Features are what a run's evaluation holds of FEATURES, those with a long tail as ln(1 + x), each standardised
by the runs learnt from; score = w·x + b, the log odds of malicious where both labels are as frequent;
anomalous above 0. Weights are held small (ridge, C = 0.1): runs are few.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import numpy as np

from barnum.errors import EvaluationError
from barnum.verdicts.features import Run, labelled
from barnum.verdicts.method import Classifier, Method, Verdict


def _long(value: float | None) -> float | None:
    return None if value is None else math.log1p(value)


def _rare(value: float | None) -> float | None:
    return None if value is None else math.log10(value + 1e-7)


def _window(index: int) -> Callable[[Run], float | None]:
    return lambda run: None if run.surprisal_windows is None else _long(run.surprisal_windows[index])


FEATURES: dict[str, Callable[[Run], float | None]] = {
    "novelty_window": lambda run: _long(run.novelty_window),
    "novelty": lambda run: _long(run.novelty),
    "new": lambda run: _rare(run.new),
    "unknown": lambda run: _rare(run.unknown),
    "wrong": lambda run: run.wrong,
    "wrong_confidence": lambda run: run.wrong_confidence,
    "confidence": lambda run: run.confidence,
    "surprisal": lambda run: _long(run.surprisal),
    "surprisal_tail": lambda run: _long(run.surprisal_tail),
    "surprisal_window_100": _window(0),
    "surprisal_window_1000": _window(1),
    "surprisal_window_10000": _window(2),
}
_RIDGE = 0.1


class _State(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    features: list[str]
    mean: list[float]
    scale: list[float]
    weights: list[float]
    bias: float
    threshold: float = 0.0


class LogisticClassifier(Classifier):
    """Weights of features. Most of these are shares and means, and weights may be negative: the score does
    not grow with the run."""

    name = "logistic"

    def __init__(self, learnt: _State) -> None:
        self._learnt = learnt

    @property
    def threshold(self) -> float:
        return self._learnt.threshold

    def describe(self) -> str:
        return (
            f"logistic, from both labels: {len(self._learnt.features)} features of a run; anomalous where "
            f"the log odds are above {self.threshold:.4g}"
        )

    def judge(self, run: Run) -> Verdict:
        score = self._score(run)
        return Verdict(anomalous=score > self.threshold, score=score)

    def without_false_positives(self, runs: Sequence[Run]) -> LogisticClassifier:
        highest = max((self._score(run) for run in runs if run.benign), default=self.threshold)
        return LogisticClassifier(
            msgspec.structs.replace(self._learnt, threshold=max(self.threshold, highest))
        )

    def state(self) -> dict[str, Any]:
        state: dict[str, Any] = msgspec.to_builtins(self._learnt)
        return state

    def _score(self, run: Run) -> float:
        learnt = self._learnt
        score = learnt.bias
        for name, mean, scale, weight in zip(
            learnt.features, learnt.mean, learnt.scale, learnt.weights, strict=True
        ):
            value = FEATURES[name](run)
            if value is None:
                raise EvaluationError(
                    f"logistic: the evaluation of {run.label}-{run.sample} does not hold {name}, which this "
                    "classifier looks at: evaluate it as those that were learnt from"
                )
            score += weight * (value - mean) / scale
        return float(score)


class Logistic(Method):
    """See the module's text. Needs runs of both labels."""

    name = "logistic"

    def fit(self, runs: Sequence[Run]) -> Classifier:
        runs = labelled(runs)
        labels = np.array([run.malicious for run in runs], bool)
        if not labels.any() or labels.all():
            raise EvaluationError(
                "logistic: needs runs of both labels, and one more of each to judge them by others: "
                "evaluate more, or use --method conformal"
            )
        names = [name for name, feature in FEATURES.items() if all(feature(run) is not None for run in runs)]
        values = np.array([[FEATURES[name](run) for name in names] for run in runs], np.float64)
        mean, scale = values.mean(axis=0), values.std(axis=0)
        scale[scale < 1e-12] = 1.0
        from sklearn.linear_model import LogisticRegression

        model = LogisticRegression(C=_RIDGE, class_weight="balanced", max_iter=1000)
        model.fit((values - mean) / scale, labels)
        return LogisticClassifier(
            _State(names, mean.tolist(), scale.tolist(), model.coef_[0].tolist(), float(model.intercept_[0]))
        )

    def restore(self, state: dict[str, Any]) -> Classifier:
        read = msgspec.convert(state, _State)
        numbers = [*read.mean, *read.scale, *read.weights, read.bias, read.threshold]
        sizes = {len(read.features), len(read.mean), len(read.scale), len(read.weights)}
        if len(sizes) != 1 or not np.isfinite(numbers).all() or not all(scale > 0 for scale in read.scale):
            raise msgspec.ValidationError("its weights do not fit together")
        if not set(read.features) <= FEATURES.keys():
            raise msgspec.ValidationError("it looks at features that are unknown here")
        return LogisticClassifier(read)
