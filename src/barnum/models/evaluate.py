"""Scores whole runs with a model: every transfer that passes the filter, in order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from barnum.models.checkpoint import Model
from barnum.models.scorer import LANE, Scorer, last_of
from barnum.models.trainer import set_up
from barnum.paths import PathReader, iter_transfers
from barnum.sequences import Encoded, Encoder, RunNovelty, regroup, seen_level, target_tokens

# transfers scored at once: a multiple of LANE, so that lanes begin where they would in the whole run
_PART = 512 * LANE

Columns = dict[str, NDArray[Any]]


class Evaluator:
    """A model ready to score runs, one after the other."""

    def __init__(self, model: Model, threads: int) -> None:
        set_up(model.document.train.seed)
        self._model = model
        self._threads = threads
        self._scorer = Scorer(model.network, model.vocabulary, model.rates)

    def columns(self, path: PathReader, advance: Callable[[int], None]) -> Iterator[Columns]:
        """The columns of an evaluation part by part, each an array of the part's m predictions:

        ``correct`` bool, ``predicted`` and ``actual`` u64 BBIDs, ``confidence`` f32 probability of the
        predicted target, ``surprisal`` f32 nats, ``seen`` u8 (2: transfer seen in training, 1: its target,
        0: neither), ``novelty`` f32 nats, ``position`` u64 step of the target in the path.
        """
        encoder = Encoder(self._model.vocabulary)
        novelty = RunNovelty(self._model.vocabulary, self._model.rates)
        warm: Encoded | None = None
        for part in regroup(iter_transfers(path, self._model.document.learn), _PART):
            encoded = encoder.encode(part)
            scores = self._scorer.score(encoded, warm, self._threads, advance)
            warm = last_of(encoded, warm)
            yield {
                "correct": scores.correct,
                "predicted": scores.predicted,
                "confidence": scores.confidence,
                "actual": target_tokens(part.blocks)[part.target],
                "surprisal": scores.surprisal,
                "seen": seen_level(encoded, self._model.vocabulary),
                "novelty": novelty.score(encoded, part),
                "position": part.position,
            }


def mean_of(columns: Columns) -> tuple[int, float, int]:
    """Predictions, sum of surprisal, right ones of a part."""
    return (
        len(columns["correct"]),
        float(columns["surprisal"].sum(dtype=np.float64)),
        int(columns["correct"].sum()),
    )
