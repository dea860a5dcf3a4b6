"""What followed the same stretch of transfers in training: contexts of several lengths, and what they tell.

A context of length n is a site and the n transfers before it. For each length the table says which of the
site's targets followed most often, and how sure that is (how often, how purely). In training, what a run has
counted itself is left out, so that a level means the same there as in a run that was never seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from barnum._sequences import FURTHER, LEVELS, Contexts
from barnum.sequences.vocabulary import Encoded, Vocabulary

__all__ = [
    "FURTHER",
    "LENGTHS",
    "LEVELS",
    "LONGEST",
    "RESTART",
    "Hints",
    "History",
    "decode_edges",
    "encode_edges",
]

LENGTHS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 256, 512)
LONGEST = max(LENGTHS)
# bit of a stored transfer: nothing before it counts as context
RESTART = np.uint32(1 << 31)

Bool = NDArray[np.bool_]
U8 = NDArray[np.uint8]
U32 = NDArray[np.uint32]


def encode_edges(encoded: Encoded) -> U32:
    """u32[m]: transfers that training knows as numbers of edges, with RESTART where contexts begin anew."""
    return encoded.edge.astype(np.uint32) | np.where(encoded.first, RESTART, np.uint32(0))


def decode_edges(stored: U32, vocabulary: Vocabulary) -> Encoded:
    """The reverse of encode_edges()."""
    edge = (stored & ~RESTART).astype(np.int32)
    return Encoded(vocabulary.edge_site[edge], vocabulary.edge_target[edge], edge, stored >= RESTART)


@dataclass(frozen=True, slots=True)
class Hints:
    """What the contexts of n transfers tell, of K lengths.

    ``rank`` u8[n, K] that followed most often and ``level`` u8[n, K] of how sure that is (0: not known).
    ``further`` u8[n, FURTHER] that followed the longest known context next to most often, and
    ``further_level`` u8[n, FURTHER] of how sure each is where none before it did (0: nothing else did).
    ``reach`` u8[n]: how many of the lengths fit between a transfer and where its contexts begin anew.
    """

    rank: U8
    level: U8
    further: U8
    further_level: U8
    reach: U8

    def arrays(self) -> dict[str, U8]:
        """All arrays by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


class History:
    """Contexts of runs in a vocabulary's numbers; ranks beyond the last of ``ranks`` count as the last.
    ``lengths`` ascend."""

    def __init__(self, vocabulary: Vocabulary, ranks: int, lengths: Sequence[int] = LENGTHS) -> None:
        self._contexts = Contexts(list(lengths))
        self._lengths = np.array(lengths)
        self._rank = np.minimum(vocabulary.edge_rank, ranks - 1).astype(np.uint8)
        # a site with one target leaves nothing to predict; one more entry: a site never seen
        self._choice = np.append(np.diff(vocabulary.site_first) > 1, False)
        self._targets = len(vocabulary.target)

    @property
    def contexts(self) -> int:
        """Number of distinct contexts."""
        return self._contexts.contexts

    @property
    def bytes(self) -> int:
        """Memory taken."""
        return self._contexts.bytes

    def add(self, run: Encoded, before: int = 0) -> None:
        """Count the contexts of a run, whose first ``before`` transfers are context alone."""
        wanted = self.wanted(run)
        wanted[:before] = False
        self._contexts.add(*self._arrays(run, wanted))

    def wanted(self, run: Encoded) -> Bool:
        """bool[m]: transfers from sites that led to several targets."""
        chosen: Bool = self._choice[run.site]
        return chosen

    def look_up(self, run: Encoded, wanted: Bool, own: History | None = None) -> Hints:
        """What the contexts of the wanted transfers tell.

        With ``own``, which has counted a part of what this has counted, as if that part were not there.
        """
        hints = self._contexts.look_up(*self._arrays(run, wanted), own=None if own is None else own._contexts)
        index = np.arange(len(run))
        since = index - np.maximum.accumulate(np.where(run.first, index, 0))
        reach = np.searchsorted(self._lengths, since[wanted], side="right").astype(np.uint8)
        return Hints(*hints, reach)

    def _arrays(
        self, run: Encoded, wanted: Bool
    ) -> tuple[NDArray[np.int32], NDArray[np.uint64], U8, Bool, Bool]:
        token = run.site.astype(np.uint64) * np.uint64(self._targets + 1) + run.target.astype(np.uint64)
        rank = np.where(run.edge >= 0, self._rank[run.edge], 0).astype(np.uint8)
        first = run.first.copy()
        first[:1] = True
        return np.ascontiguousarray(run.site), token, rank, first, wanted
