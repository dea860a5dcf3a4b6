"""Novelty and adjusted surprisal, combined by Fisher's method (see verdicts/fisher.py)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from barnum.verdicts import adjust, fisher
from barnum.verdicts.features import Run
from barnum.verdicts.scores.interface import (
    Calibrated,
    Score,
    calibration_of,
    check_fields,
    check_window,
    columns_of,
    left_out_of,
    novelty_of,
    surprisal_of,
    too_few,
)


class Ways(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Scores of the calibration runs in the two ways that are combined, in one order: sums of novelty in
    nats, and adjusted surprisal in usual errors."""

    novelty: tuple[float, ...]
    adjusted: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.novelty or len(self.novelty) != len(self.adjusted):
            raise ValueError("the ways to be strange are not of the same runs")
        if not np.isfinite((*self.novelty, *self.adjusted)).all():
            raise ValueError("the ways to be strange hold numbers that are not finite")


class _State(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    adjustment: adjust.Adjustment
    ways: Ways


class Combined(Score):
    """See the module's text. As with Adjusted, the false alarm rate is kept to about, and the score does not
    grow with the run: novelty does, but adjusted surprisal may fall by more."""

    name = "combined"
    text = "novelty and adjusted surprisal together"
    measures = ("novelty", "surprisal")
    grows = False

    def __init__(self, window: int, adjustment: adjust.Adjustment, ways: Ways) -> None:
        """``window``: novelty is summed within so many transfers."""
        self._window = window
        self._adjustment = adjustment
        self._ways = ways

    @classmethod
    def learn(cls, runs: Sequence[Run]) -> Calibrated:
        benign = [run for run in runs if run.benign]
        held_out = [_checked(run) for run in benign]
        calibration = calibration_of(runs[0])
        # of training runs that were not judged in folds novelty alone is known
        both = len(calibration.runs) == len(calibration.scores)
        training = left_out_of(runs[0]) if both else ()
        if not (benign or training):
            raise too_few(cls)
        columns = columns_of([*training, *benign])
        adjusted = adjust.left_out(*columns)
        novelty = np.array([*calibration.scores, *held_out] if both else held_out)
        combined: list[float] = fisher.combined([(novelty, novelty), (adjusted, adjusted)], own=True).tolist()
        ways = Ways(tuple(novelty.tolist()), tuple(adjusted.tolist()))
        score = cls(calibration.window, adjust.learn(*columns), ways)
        return Calibrated(score, combined[: len(training)], combined[len(training) :])

    @classmethod
    def restore(cls, window: int, state: dict[str, Any]) -> Score:
        check_fields(state, "adjustment", "ways")
        read = msgspec.convert(state, _State)
        return cls(window, read.adjustment, read.ways)

    @property
    def window(self) -> int:
        return self._window

    @property
    def exact(self) -> bool:
        return False

    def of(self, run: Run) -> float:
        check_window(run, self._window)
        novelty = np.array([_checked(run)])
        adjusted = self._adjustment.adjusted(*columns_of([run]))
        known = np.array(self._ways.novelty), np.array(self._ways.adjusted)
        return float(fisher.combined([(known[0], novelty), (known[1], adjusted)])[0])

    def describe(self) -> str:
        return f"novelty within {self._window:,} transfers combined with mean surprisal"

    def state(self) -> dict[str, Any]:
        return {
            "adjustment": msgspec.to_builtins(self._adjustment),
            "ways": msgspec.to_builtins(self._ways),
        }


def _checked(run: Run) -> float:
    """The novelty of a run of which surprisal is known, too."""
    surprisal_of(run)
    return novelty_of(run)
