"""Counters of the contexts of one length."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from barnum.errors import ModelError
from barnum.learning.rote.runs import changes
from barnum.models.networks.rote import RoteNetwork

U64 = NDArray[np.uint64]
FORGOTTEN = (
    "the longest contexts were forgotten to keep within a bound of memory: such counts cannot be shared"
)


@dataclass(frozen=True, slots=True)
class Counters:
    """Counters of the contexts of one length, sorted by ``context`` u64[q] (hashes) and ``target`` u64[q]
    (tokens); ``count`` u32[q] is how often the target followed the context."""

    context: U64
    target: U64
    count: NDArray[np.uint32]

    def __len__(self) -> int:
        return len(self.context)

    @classmethod
    def of(cls, network: RoteNetwork, order: int) -> Counters:
        """The counters of a network; ``order`` is the place of their length among its lengths."""
        key, first, token, count = network.counts.counts(order)
        return cls(np.repeat(key, np.diff(first).astype(np.int64)), token, count)

    def since(self, before: Counters) -> Counters:
        """What was added since ``before``.

        Raises:
            ModelError: a counter is lower now: something was forgotten.
        """
        if not len(before):
            return self
        context = np.concatenate([self.context, before.context])
        target = np.concatenate([self.target, before.target])
        change = np.concatenate([self.count.astype(np.int64), -before.count.astype(np.int64)])
        order = np.lexsort((target, context))
        context, target = context[order], target[order]
        begin = np.flatnonzero(changes(context, target))
        more = np.add.reduceat(change[order], begin)
        if int(more.min()) < 0:
            raise ModelError(FORGOTTEN)
        begin, more = begin[more > 0], more[more > 0]
        return Counters(context[begin], target[begin], more.astype(np.uint32))
