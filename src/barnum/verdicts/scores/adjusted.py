"""Mean surprisal, adjusted for how long and how varied the run is (see verdicts/adjust.py)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from barnum.verdicts import adjust
from barnum.verdicts.features import Run
from barnum.verdicts.scores.interface import (
    Calibrated,
    Score,
    check_fields,
    columns_of,
    left_out_of,
    surprisal_of,
    too_few,
)


class _State(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    adjustment: adjust.Adjustment


class Adjusted(Score):
    """See the module's text. It does not grow with the run: mean surprisal does not, and what it is compared
    with depends on how long the run is.

    The false alarm rate is kept to about, not exactly: how to adjust is learnt from all calibration runs,
    each of which is adjusted without its fold, and a new run with all of them (cross-validated scores; R. F.
    Barber et al., Predictive Inference with the Jackknife+, Annals of Statistics 49, 2021).
    """

    name = "adjusted"
    text = "mean surprisal, compared with that of nominal runs of the same length and variety"
    measures = ("surprisal",)
    grows = False

    def __init__(self, adjustment: adjust.Adjustment) -> None:
        self._adjustment = adjustment

    @classmethod
    def learn(cls, runs: Sequence[Run]) -> Calibrated:
        benign = [run for run in runs if run.benign]
        for run in benign:
            surprisal_of(run)
        training = left_out_of(runs[0])
        if not (benign or training):
            raise too_few(cls)
        columns = columns_of([*training, *benign])
        adjusted: list[float] = adjust.left_out(*columns).tolist()
        score = cls(adjust.learn(*columns))
        return Calibrated(score, adjusted[: len(training)], adjusted[len(training) :])

    @classmethod
    def restore(cls, window: int, state: dict[str, Any]) -> Score:
        check_fields(state, "adjustment")
        return cls(msgspec.convert(state, _State).adjustment)

    @property
    def exact(self) -> bool:
        return self._adjustment.terms == "none"

    def of(self, run: Run) -> float:
        surprisal_of(run)
        return float(self._adjustment.adjusted(*columns_of([run]))[0])

    def describe(self) -> str:
        return f"mean surprisal of a transfer, {self._adjustment.describe()}"

    def amount(self, value: float) -> str:
        return f"{value:.4f} times the usual error"

    def state(self) -> dict[str, Any]:
        return {"adjustment": msgspec.to_builtins(self._adjustment)}
