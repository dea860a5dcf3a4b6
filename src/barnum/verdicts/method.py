"""What a method of judging runs is, and the classifier that it learns."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from barnum.verdicts.features import Run

# columns of an evaluation, in nats, that show where a run is strange
Measure = Literal["novelty", "surprisal"]
# what makes a run anomalous beside its score
Because = Literal["evidence", "effect"]
# with more runs than this several are held out together
_MAX_FOLDS = 50


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """Judgement of one run. ``score`` grows with strangeness; ``p_value`` where the method has one. Where
    ``refused`` says why, the run was not judged: it is neither nominal nor anomalous, and the score says
    little. Where ``incomplete`` says why, only the beginning of the run was judged: as it is anomalous, the
    whole is, whose score is at least this one and whose p-value at most this one (see Classifier.grows).
    ``because`` is ``evidence``, or an ``effect``, where that made the run anomalous, whatever its score is;
    else None."""

    anomalous: bool
    score: float
    p_value: float | None = None
    refused: str | None = None
    incomplete: str | None = None
    because: Because | None = None

    @property
    def word(self) -> str:
        """The verdict in a word."""
        return "refused" if self.refused else "anomalous" if self.anomalous else "nominal"


class Classifier(ABC):
    """A method that has learnt from runs. ``name`` is that of the method."""

    name: ClassVar[str]

    @property
    @abstractmethod
    def threshold(self) -> float:
        """Scores above it are anomalous."""

    @property
    def score(self) -> str | None:
        """The name of the score that it goes by (see scores/); None where it does not go by a single one."""
        return None

    @property
    def measures(self) -> tuple[Measure, ...]:
        """What shows where in a run it is strange, as this classifier sees it: the windows with the largest
        sums of the first of these, or of several in turn."""
        return ("novelty",)

    @property
    def window_sum(self) -> bool:
        """Whether its score is the largest sum of novelty within a window, so that every window above the
        threshold is anomalous by itself."""
        return False

    @property
    def grows(self) -> bool:
        """Whether the score of a run is at least that of each of its beginnings, so that a run of which no
        more than the beginning is known is anomalous where that is. Not so of means and shares, which fall
        when something usual follows, nor of what is made of them."""
        return False

    @property
    def alarm_rate(self) -> float | None:
        """The share of nominal runs that it may call anomalous; None where it does not say."""
        return None

    @property
    def digits(self) -> int:
        """Decimals in which its scores are listed."""
        return 2

    @abstractmethod
    def describe(self) -> str:
        """One line for a person: what is judged, by which rule, and what it promises."""

    @abstractmethod
    def judge(self, run: Run) -> Verdict:
        """Judge a run that the classifier was not learnt from.

        Raises:
            EvaluationError: the run's evaluation lacks what the method looks at.
        """

    @abstractmethod
    def without_false_positives(self, runs: Sequence[Run]) -> Classifier:
        """The same with a threshold above every benign one of ``runs``."""

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """All that it has learnt, as JSON values."""


class Method(ABC):
    """A way to learn classifiers.

    A class says of itself:

    - ``name``: what options and files call it.
    - ``settings``: which of ``rate`` and ``score`` with_settings() looks at.
    - ``judges_either``: whether what was learnt from whole runs judges cut ones as well, and the reverse.
    """

    name: ClassVar[str]
    settings: ClassVar[tuple[str, ...]] = ()
    judges_either: ClassVar[bool] = False

    @classmethod
    def with_settings(cls, rate: float | None, score: str | None) -> Method:
        """The method by these settings, None being its own choice; it leaves alone what it has no use for.

        Args:
            rate: share of nominal runs that it may call anomalous, between 0 and 1.
            score: name of the score to go by.

        Raises:
            EvaluationError: there is no such score.
        """
        return cls()

    @abstractmethod
    def fit(self, runs: Sequence[Run]) -> Classifier:
        """Learn from runs. Of one whose label is unknown nothing is learnt but what its header tells of
        training.

        Raises:
            EvaluationError: they do not suffice.
        """

    def held_out(self, runs: Sequence[Run]) -> list[Verdict]:
        """Judge each run by a classifier that was learnt without it; in the order of ``runs``.

        Raises:
            EvaluationError: the others do not suffice.
        """
        return judged_by_others(self, runs)

    @abstractmethod
    def restore(self, state: dict[str, Any]) -> Classifier:
        """The reverse of Classifier.state().

        Raises:
            msgspec.ValidationError: it is not the state of such a classifier.
        """


def folds_of(runs: Sequence[Run]) -> NDArray[np.int64]:
    """i64[runs]: which runs are held out together; each label is spread evenly."""
    count = min(len(runs), _MAX_FOLDS)
    order = np.argsort([run.malicious for run in runs], kind="stable")
    folds = np.empty(len(runs), np.int64)
    folds[order] = np.arange(len(runs)) % count
    return folds


def judged_by_others(method: Method, runs: Sequence[Run]) -> list[Verdict]:
    """Verdicts on each run by a classifier that was learnt without the runs of its fold."""
    folds = folds_of(runs)
    verdicts: dict[int, Verdict] = {}
    for held_out in range(int(folds.max()) + 1):
        classifier = method.fit([run for run, fold in zip(runs, folds, strict=True) if fold != held_out])
        for index in np.flatnonzero(folds == held_out).tolist():
            verdicts[index] = classifier.judge(runs[index])
    return [verdicts[index] for index in range(len(runs))]
