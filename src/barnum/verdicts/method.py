"""What a method of judging runs is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from barnum.verdicts.features import Run

# what conformal goes by
Score = Literal["novelty", "surprisal", "adjusted", "combined"]
# with more runs than this several are held out together
_MAX_FOLDS = 50


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """Judgement of one run. ``score`` grows with strangeness; ``p_value`` where the method has one. Where
    ``refused`` says why, the run was not judged: it is neither nominal nor anomalous, and the score says
    little."""

    anomalous: bool
    score: float
    p_value: float | None = None
    refused: str | None = None

    @property
    def word(self) -> str:
        """The verdict in a word."""
        return "refused" if self.refused else "anomalous" if self.anomalous else "nominal"


class Classifier(Protocol):
    """A method that has learnt from runs. Scores above ``threshold`` are anomalous."""

    name: str

    @property
    def threshold(self) -> float: ...

    def describe(self) -> str:
        """One line for a person: what is judged, by which rule, and what it promises."""
        ...

    def judge(self, run: Run) -> Verdict:
        """Judge a run that the classifier was not learnt from.

        Raises:
            EvaluationError: the run's evaluation lacks what the method looks at.
        """
        ...

    def without_false_positives(self, runs: Sequence[Run]) -> Classifier:
        """The same with a threshold above every benign one of ``runs``."""
        ...

    def state(self) -> dict[str, Any]:
        """All that it has learnt, as JSON values."""
        ...


class Method(Protocol):
    """A way to make classifiers."""

    name: str

    def fit(self, runs: Sequence[Run]) -> Classifier:
        """Learn from runs; raises EvaluationError where they do not suffice."""
        ...

    def held_out(self, runs: Sequence[Run]) -> list[Verdict]:
        """Judge each run by a classifier that was learnt without it."""
        ...

    def restore(self, state: dict[str, Any]) -> Classifier:
        """The reverse of Classifier.state(); raises msgspec.ValidationError."""
        ...


def folds_of(runs: Sequence[Run]) -> NDArray[np.int64]:
    """i64[runs]: which runs are held out together; each label is spread evenly."""
    count = min(len(runs), _MAX_FOLDS)
    order = np.argsort([run.malicious for run in runs], kind="stable")
    folds = np.empty(len(runs), np.int64)
    folds[order] = np.arange(len(runs)) % count
    return folds


def judged_by_others(method: Method, runs: Sequence[Run]) -> list[Verdict]:
    """Verdicts on each run by a classifier that was learnt without its fold."""
    folds = folds_of(runs)
    verdicts: dict[int, Verdict] = {}
    for fold in range(int(folds.max()) + 1):
        classifier = method.fit([run for run, its in zip(runs, folds, strict=True) if its != fold])
        for index in np.flatnonzero(folds == fold).tolist():
            verdicts[index] = classifier.judge(runs[index])
    return [verdicts[index] for index in range(len(runs))]
