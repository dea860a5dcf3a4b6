"""Columns of evaluations, and what all networks' scorers share."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from barnum.models.model import Model
from barnum.models.networks.causal_scorer import Scores
from barnum.sequences import (
    WHOLE,
    Encoded,
    Encoder,
    RunNovelty,
    seen_level,
)

# transfers scored at once
PART = 1 << 19
Columns = dict[str, NDArray[Any]]
F32 = NDArray[np.float32]


def columns_of(scores: Scores, actual: NDArray[np.uint64]) -> Columns:
    return {
        "correct": scores.correct,
        "predicted": scores.predicted,
        "confidence": scores.confidence,
        "actual": actual,
        "surprisal": scores.surprisal,
    }


class NoveltyScorer:
    """What training saw of whole blocks, whatever the network's tokens are."""

    def __init__(self, model: Model) -> None:
        self._vocabulary = model.vocabulary
        if model.vocabulary is not None and model.rates is not None:
            self._encoder = Encoder(model.vocabulary, WHOLE)
            self._novelty = RunNovelty(model.vocabulary, model.rates)

    def columns(self, part: Any, encoded: Encoded | None = None) -> Columns:
        if self._vocabulary is None:
            return {}
        encoded = encoded or self._encoder.encode(part)
        return {
            "seen": seen_level(encoded, self._vocabulary),
            "novelty": self._novelty.score(encoded, part),
        }


def mean_of(columns: Columns) -> tuple[int, float, int]:
    """Predictions, sum of surprisal, right ones of a part."""
    return (
        len(columns["correct"]),
        float(columns["surprisal"].sum(dtype=np.float64)),
        int(columns["correct"].sum()),
    )
