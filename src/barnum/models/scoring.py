"""What the scorers of all kinds of networks share: novelty, and sums of evaluations."""

from __future__ import annotations

import numpy as np

from barnum.models.model import Model
from barnum.models.networks.kind import Columns
from barnum.paths import Transfers
from barnum.sequences import WHOLE, Encoded, Encoder, RunNovelty, seen_level

# transfers scored at once
PART = 1 << 19


class NoveltyScorer:
    """What training saw of whole blocks, whatever the network's tokens are; of one run, part by part."""

    def __init__(self, model: Model) -> None:
        self._vocabulary = model.vocabulary
        if model.vocabulary is not None and model.rates is not None:
            self._encoder = Encoder(model.vocabulary, WHOLE)
            self._novelty = RunNovelty(model.vocabulary, model.rates)

    def columns(self, part: Transfers, encoded: Encoded | None = None) -> Columns:
        """``seen`` u8[m] and ``novelty`` f32[m] of the next m transfers; nothing where the model does not
        remember its training. ``encoded`` are the same in the vocabulary of whole blocks, where they are
        there already."""
        if self._vocabulary is None:
            return {}
        encoded = encoded or self._encoder.encode(part)
        return {
            "seen": seen_level(encoded, self._vocabulary),
            "novelty": self._novelty.score(encoded, part),
        }


def mean_of(columns: Columns) -> tuple[int, float, int]:
    """Number of predictions, sum of surprisal in nats, and number of right ones of a part."""
    return (
        len(columns["correct"]),
        float(columns["surprisal"].sum(dtype=np.float64)),
        int(columns["correct"].sum()),
    )
