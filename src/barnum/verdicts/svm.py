"""The original's classifier: a line between benign and malicious, by two features.

x is the share of wrong predictions, y the mean confidence of the wrong ones; score = w·(x, y) + b, malicious
above 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
import numpy as np

from barnum.errors import EvaluationError
from barnum.verdicts.features import Run, labelled
from barnum.verdicts.method import Classifier, Method, Verdict


class _State(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    weights: Annotated[tuple[float, ...], msgspec.Meta(min_length=2, max_length=2)]
    bias: float
    threshold: float = 0.0


class SvmClassifier(Classifier):
    """A line: ``weights`` of x and y, and ``bias``; anomalous above ``threshold``. A share and a mean do not
    grow with the run."""

    name = "svm"

    def __init__(self, weights: Sequence[float], bias: float, threshold: float = 0.0) -> None:
        self.weights = (float(weights[0]), float(weights[1]))
        self.bias = float(bias)
        self._threshold = float(threshold)

    @property
    def threshold(self) -> float:
        return self._threshold

    def describe(self) -> str:
        return (
            "svm, the original's: a line by share of wrong predictions x and mean confidence of the wrong y; "
            f"anomalous where {self.weights[0]:.3f} x {self.weights[1]:+.3f} y {self.bias:+.3f} > "
            f"{self.threshold:.4g}"
        )

    def judge(self, run: Run) -> Verdict:
        score = self._score(run)
        return Verdict(anomalous=score > self.threshold, score=score)

    def without_false_positives(self, runs: Sequence[Run]) -> SvmClassifier:
        highest = max((self._score(run) for run in runs if run.benign), default=self.threshold)
        return SvmClassifier(self.weights, self.bias, max(self.threshold, highest))

    def state(self) -> dict[str, Any]:
        return {"weights": list(self.weights), "bias": self.bias, "threshold": self.threshold}

    def _score(self, run: Run) -> float:
        return self.weights[0] * run.wrong + self.weights[1] * run.wrong_confidence + self.bias


class Svm(Method):
    """See the module's text. Needs runs of both labels."""

    name = "svm"

    def fit(self, runs: Sequence[Run]) -> Classifier:
        runs = labelled(runs)
        labels = np.array([run.malicious for run in runs], bool)
        if not labels.any() or labels.all():
            raise EvaluationError(
                "svm: needs runs of both labels, and one more of each to judge them by others: "
                "evaluate more, or use --method conformal"
            )
        from sklearn.svm import SVC

        features = np.array([(run.wrong, run.wrong_confidence) for run in runs])
        line = SVC(kernel="linear").fit(features, labels)
        return SvmClassifier(line.coef_[0].tolist(), float(line.intercept_[0]))

    def restore(self, state: dict[str, Any]) -> Classifier:
        read = msgspec.convert(state, _State)
        return SvmClassifier(read.weights, read.bias, read.threshold)
