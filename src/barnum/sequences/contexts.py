"""What followed the same transfers in training: contexts of several lengths, and what they predict.

A context of length n is a site and the n transfers before it. For each length a table says which of the
site's targets followed most often, and how sure that is, as a level (from how often it followed, and how
often others did). In training a run is predicted without its own counts, so that a level means the same as
in a run that was never seen.
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
# bit of a stored transfer: contexts do not reach back over it
RESTART = np.uint32(1 << 31)

Bool = NDArray[np.bool_]
U8 = NDArray[np.uint8]
U32 = NDArray[np.uint32]


def encode_edges(encoded: Encoded) -> U32:
    """u32[m]: transfers that training knows, as indices of edges, with RESTART where contexts begin anew."""
    return encoded.edge.astype(np.uint32) | np.where(encoded.first, RESTART, np.uint32(0))


def decode_edges(stored: U32, vocabulary: Vocabulary) -> Encoded:
    """The reverse of encode_edges()."""
    edge = (stored & ~RESTART).astype(np.int32)
    return Encoded(vocabulary.edge_site[edge], vocabulary.edge_target[edge], edge, stored >= RESTART)


@dataclass(frozen=True, slots=True)
class Hints:
    """What contexts of K lengths predict for n transfers.

    Attributes:
        rank: u8[n, K], the rank that followed the context of each length most often.
        level: u8[n, K], how sure that is; 0 where the context is not known.
        further: u8[n, FURTHER], the next most frequent ranks after the longest known context.
        further_level: u8[n, FURTHER], how sure each of them is if none before it followed; 0 where there was
            no further rank.
        reach: u8[n], how many of the lengths fit between a transfer and the place where contexts begin anew.
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
    """What followed each context of the runs that were added."""

    def __init__(self, vocabulary: Vocabulary, ranks: int, lengths: Sequence[int] = LENGTHS) -> None:
        """Prepare empty tables.

        Args:
            vocabulary: of the runs.
            ranks: number of ranks; further ones count as the last.
            lengths: of the contexts, ascending.
        """
        self._contexts = Contexts(list(lengths))
        self._lengths = np.array(lengths)
        self._rank = np.minimum(vocabulary.edge_rank, ranks - 1).astype(np.uint8)
        # a site with one target leaves nothing to predict; the last entry is for a site that was never seen
        self._choice = np.append(np.diff(vocabulary.site_first) > 1, False)
        self._targets = len(vocabulary.target)

    @property
    def contexts(self) -> int:
        """Number of distinct contexts."""
        return self._contexts.contexts

    @property
    def bytes(self) -> int:
        """Memory that the tables take."""
        return self._contexts.bytes

    def add(self, run: Encoded, before: int = 0) -> None:
        """Count the contexts of a run. Its first ``before`` transfers are only context, and not counted."""
        wanted = self.wanted(run)
        wanted[:before] = False
        self._contexts.add(*self._arrays(run, wanted))

    def wanted(self, run: Encoded) -> Bool:
        """bool[m]: whether the site of each transfer led to several targets."""
        chosen: Bool = self._choice[run.site]
        return chosen

    def look_up(self, run: Encoded, wanted: Bool, own: History | None = None) -> Hints:
        """What contexts predict for the transfers of a run where ``wanted`` bool[m] is set.

        The counts of ``own``, which must be part of the counts here, are left out.
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
