"""The original's classifier: a line between benign and malicious, by two features.

x is the share of wrong predictions, y the mean confidence of the wrong ones; score = w·(x, y) + b, malicious
above 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from barnum.errors import EvaluationError
from barnum.verdicts.features import Run
from barnum.verdicts.methods import Classifier, Verdict

# with more runs than this several are held out together
_MAX_FOLDS = 50


class _State(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    weights: Annotated[tuple[float, ...], msgspec.Meta(min_length=2, max_length=2)]
    bias: float


class SvmClassifier:
    """A line."""

    name = "svm"

    def __init__(self, weights: Sequence[float], bias: float) -> None:
        self._weights = (float(weights[0]), float(weights[1]))
        self._bias = float(bias)

    def describe(self) -> str:
        return (
            "svm, the original's: a line by share of wrong predictions x and mean confidence of the wrong y; "
            f"anomalous where {self._weights[0]:.3f} x {self._weights[1]:+.3f} y {self._bias:+.3f} > 0"
        )

    def judge(self, run: Run) -> Verdict:
        score = self._weights[0] * run.wrong + self._weights[1] * run.wrong_confidence + self._bias
        return Verdict(anomalous=score > 0, score=score)

    def state(self) -> dict[str, Any]:
        return {"weights": list(self._weights), "bias": self._bias}


class Svm:
    """See the module's text. Needs runs of both labels."""

    name = "svm"

    def fit(self, runs: Sequence[Run]) -> Classifier:
        return self._fit(runs)

    def held_out(self, runs: Sequence[Run]) -> list[Verdict]:
        folds = _folds(runs)
        verdicts: list[Verdict | None] = [None] * len(runs)
        for fold in range(int(folds.max()) + 1):
            line = self._fit([run for run, its in zip(runs, folds, strict=True) if its != fold])
            for index in np.flatnonzero(folds == fold).tolist():
                verdicts[index] = line.judge(runs[index])
        return [verdict for verdict in verdicts if verdict is not None]

    def restore(self, state: dict[str, Any]) -> Classifier:
        read = msgspec.convert(state, _State)
        return SvmClassifier(read.weights, read.bias)

    def _fit(self, runs: Sequence[Run]) -> SvmClassifier:
        labels = np.array([run.malicious for run in runs])
        if not labels.any() or labels.all():
            raise EvaluationError(
                "svm: needs runs of both labels, and one more of each to judge them by others: "
                "evaluate more, or use --method conformal"
            )
        from sklearn.svm import SVC

        features = np.array([(run.wrong, run.wrong_confidence) for run in runs])
        line = SVC(kernel="linear").fit(features, labels)
        return SvmClassifier(line.coef_[0].tolist(), float(line.intercept_[0]))


def _folds(runs: Sequence[Run]) -> NDArray[np.int64]:
    """i64[runs]: which runs are held out together; each label is spread evenly."""
    count = min(len(runs), _MAX_FOLDS)
    order = np.argsort([run.malicious for run in runs], kind="stable")
    folds = np.empty(len(runs), np.int64)
    folds[order] = np.arange(len(runs)) % count
    return folds
