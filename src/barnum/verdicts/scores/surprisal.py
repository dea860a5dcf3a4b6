"""Mean surprisal of a transfer: how badly the model predicted the run as a whole.

It does not grow with the run: a mean falls when something usual follows.
"""

from __future__ import annotations

from collections.abc import Sequence

from barnum.verdicts.features import Run
from barnum.verdicts.scores.interface import Calibrated, Score, left_out_of, surprisal_of


class Surprisal(Score):
    """See the module's text. Of training runs those calibrate that were judged in folds."""

    name = "surprisal"
    text = "mean surprisal"
    measures = ("surprisal",)
    digits = 4
    grows = False

    @classmethod
    def learn(cls, runs: Sequence[Run]) -> Calibrated:
        held_out = [surprisal_of(run) for run in runs if run.benign]
        return Calibrated(cls(), [run.surprisal for run in left_out_of(runs[0])], held_out)

    def of(self, run: Run) -> float:
        return surprisal_of(run)

    def describe(self) -> str:
        return "mean surprisal of a transfer"

    def amount(self, value: float) -> str:
        return f"{value:.4f} nats"
