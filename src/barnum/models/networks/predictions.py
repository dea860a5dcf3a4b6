"""What a network predicts of transfers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from barnum.errors import ModelError
from barnum.models.networks.kind import Columns

F32 = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Scores:
    """m predictions. ``predicted`` u64[m] token of the likeliest target, ``confidence`` f32[m] its
    probability, ``correct`` bool[m], ``surprisal`` f32[m] in nats: -ln p of what happened; ``asked`` f32[m]:
    ln p of targets that were asked for."""

    predicted: NDArray[np.uint64]
    confidence: F32
    correct: NDArray[np.bool_]
    surprisal: F32
    asked: F32 | None = None

    def columns(self, actual: NDArray[np.uint64]) -> Columns:
        """Columns of an evaluation; ``actual`` u64[m] are the targets that were taken."""
        return {
            "correct": self.correct,
            "predicted": self.predicted,
            "confidence": self.confidence,
            "actual": actual,
            "surprisal": self.surprisal,
        }


def check_finite(*predictions: NDArray[Any]) -> None:
    """Weights may be finite numbers, each, and give none.

    Raises:
        ModelError: a number that a network predicted is not finite.
    """
    if not all(bool(np.isfinite(numbers).all()) for numbers in predictions):
        raise ModelError("its weights give no finite predictions: learn the model anew")
