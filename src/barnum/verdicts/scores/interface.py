"""What a score is: one number a run, which grows with how strange the run is.

A new one is one file with a class and one line in :mod:`barnum.verdicts.scores`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from barnum.errors import EvaluationError
from barnum.evaluations.header import Calibration, LeftOut
from barnum.verdicts.features import Run
from barnum.verdicts.method import Measure

F64 = NDArray[np.float64]


class Score(ABC):
    """A score. The class is the way to get it, an instance holds what was learnt for it from nominal runs.

    A class says of itself:

    - ``name``: what options and files call it.
    - ``text``: what the number is, in a few words that follow "go by".
    - ``measures``: columns of an evaluation that show where a run is strange, in turn; see Classifier.
    - ``digits``: decimals in which values are listed.
    - ``window_sum``: whether it is the largest sum of novelty within a window, so that every window above the
      threshold is anomalous by itself.
    - ``grows``: whether the score of a run is at least that of each of its beginnings: what comes later can
      only add to what came before. See Classifier.
    - ``remedy``: what gives training runs to calibrate by, where there are none.
    """

    name: ClassVar[str]
    text: ClassVar[str]
    measures: ClassVar[tuple[Measure, ...]] = ("novelty",)
    digits: ClassVar[int] = 2
    window_sum: ClassVar[bool] = False
    grows: ClassVar[bool] = False
    remedy: ClassVar[str] = "learn calls with --folds"

    @classmethod
    def learn(cls, runs: Sequence[Run]) -> Calibrated:
        """Learn from runs, at least one: from the benign ones, and from the training runs that their header
        tells of. Where nothing is to be learnt, only the scores of the benign ones are collected.

        Raises:
            EvaluationError: an evaluation lacks what the score is made of, or there are too few runs.
        """
        score = cls()
        return Calibrated(score, [], [score.of(run) for run in runs if run.benign])

    @classmethod
    def restore(cls, window: int, state: dict[str, Any]) -> Score:
        """The reverse of ``window`` and state().

        Raises:
            msgspec.ValidationError: they are not those of such a score.
        """
        check_fields(state)
        return cls()

    @property
    def window(self) -> int:
        """Transfers in the window within which it sums novelty up; 1 where it does not."""
        return 1

    @property
    def exact(self) -> bool:
        """Whether at most the false alarm rate that was asked for is kept to, or else about that."""
        return True

    @abstractmethod
    def of(self, run: Run) -> float:
        """The score of a run.

        Raises:
            EvaluationError: its evaluation lacks what the score is made of.
        """

    @abstractmethod
    def describe(self) -> str:
        """What the number is, for a person."""

    def amount(self, value: float) -> str:
        """A value with its unit, for a person."""
        return f"{value:.{self.digits}f}"

    def state(self) -> dict[str, Any]:
        """All that was learnt but for ``window``, as JSON values. The names ``window``, ``rate``, ``scores``
        and ``score`` are the classifier's own: its file holds both side by side."""
        return {}


@dataclass(frozen=True, slots=True)
class Calibrated:
    """A score, and its values of nominal runs, none of which had a part in what gave it its value: of
    ``training`` runs, and of the benign ones that were ``held_out`` in training, in their order."""

    score: Score
    training: list[float]
    held_out: list[float]


# what several scores are made of


def novelty_of(run: Run) -> float:
    """The largest sum of novelty within the window, nats.

    Raises:
        EvaluationError: the evaluation holds no novelty.
    """
    if run.novelty_window is None:
        raise _lacks(run, "novelty", "a model learnt by barnum and --eval-format parquet")
    return run.novelty_window


def surprisal_of(run: Run) -> float:
    """Mean surprisal, nats a transfer.

    Raises:
        EvaluationError: the evaluation holds no surprisal.
    """
    if run.surprisal is None:
        raise _lacks(run, "surprisal", "--eval-format parquet")
    return run.surprisal


def calibration_of(run: Run) -> Calibration:
    """What the header of the run's evaluation tells of training runs.

    Raises:
        EvaluationError: the evaluation holds no novelty, and so no calibration.
    """
    if run.calibration is None:
        raise _lacks(run, "novelty", "a model learnt by barnum and --eval-format parquet")
    return run.calibration


def left_out_of(run: Run) -> tuple[LeftOut, ...]:
    """The training runs that were judged in folds, if any were."""
    return () if run.calibration is None else run.calibration.runs


def check_window(run: Run, window: int) -> None:
    """Check that novelty was summed within so many transfers.

    Raises:
        EvaluationError: it was summed within another number.
    """
    if run.calibration is not None and run.calibration.window != window:
        raise EvaluationError(
            f"conformal: the evaluation of {run.label}-{run.sample} has novelty within "
            f"{run.calibration.window:,} transfers, the classifier was learnt within {window:,}: "
            "learn the classifier anew"
        )


def columns_of(runs: Sequence[Run | LeftOut]) -> tuple[F64, F64, F64]:
    """f64[runs] each: mean surprisal in nats a transfer, number of transfers, number of distinct targets."""
    surprisal = np.array([run.surprisal for run in runs], np.float64)
    transfers = np.array([run.transfers for run in runs], np.float64)
    return surprisal, transfers, np.array([run.distinct for run in runs], np.float64)


def too_few(score: type[Score]) -> EvaluationError:
    """The error that there are no nominal runs to calibrate by."""
    return EvaluationError(
        "conformal: there are no nominal runs to calibrate by: evaluate more benign ones, or " + score.remedy
    )


def check_fields(state: dict[str, Any], *names: str) -> None:
    """Check that a saved score holds these fields and no others; null is no field.

    Raises:
        msgspec.ValidationError: it does not.
    """
    if {name for name, value in state.items() if value is not None} != set(names):
        raise msgspec.ValidationError("its score and its fields do not fit")


def _lacks(run: Run, what: str, how: str) -> EvaluationError:
    return EvaluationError(
        f"conformal: the evaluation of {run.label}-{run.sample} holds no {what} to judge by: evaluate with "
        f"{how}, or use --method svm"
    )
