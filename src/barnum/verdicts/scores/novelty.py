"""The largest sum of novelty within a window: what training never saw (see sequences/novelty.py).

It grows with the run: the novelty of a transfer depends on the transfers before it alone, and what comes
later only brings further windows. That holds for beginnings of a run, not for other parts of it. Where
something is missing in the middle, transfers that lie far apart come into one window, and what is first of
its kind in the part need not be so in the run: the sum may be larger than that of the whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from barnum.evaluations.windows import WINDOW
from barnum.verdicts.features import Run
from barnum.verdicts.scores.interface import (
    Calibrated,
    Score,
    calibration_of,
    check_fields,
    check_window,
    novelty_of,
)


class Novelty(Score):
    """See the module's text. Calibrated by all training runs, whose scores come with the model."""

    name = "novelty"
    text = "novelty"
    window_sum = True
    grows = True
    remedy = "learn from more than one sample"

    def __init__(self, window: int = WINDOW) -> None:
        """``window``: of so many transfers."""
        self._window = window

    @classmethod
    def learn(cls, runs: Sequence[Run]) -> Calibrated:
        held_out = [novelty_of(run) for run in runs if run.benign]
        calibration = calibration_of(runs[0])
        return Calibrated(cls(calibration.window), list(calibration.scores), held_out)

    @classmethod
    def restore(cls, window: int, state: dict[str, Any]) -> Score:
        check_fields(state)
        return cls(window)

    @property
    def window(self) -> int:
        return self._window

    def of(self, run: Run) -> float:
        check_window(run, self._window)
        return novelty_of(run)

    def describe(self) -> str:
        return f"the largest sum of novelty within {self._window:,} transfers"

    def amount(self, value: float) -> str:
        return f"{value:.2f} nats"
