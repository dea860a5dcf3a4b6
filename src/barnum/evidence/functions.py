"""Functions of an image: where they begin, and which one holds an offset."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from barnum.evidence.frames import FrameTable

U8 = NDArray[np.uint8]
U32 = NDArray[np.uint32]
U64 = NDArray[np.uint64]
I64 = NDArray[np.int64]
Bool = NDArray[np.bool_]
_MOST = 1 << 22


class Functions:
    """Functions of one image.

    ``begin`` u64[f] offsets, ascending, and ``end`` u64[f] (exclusive) of f stretches of code that do not
    overlap; ``entry`` i64[f] where their unwind entries lie (-1: none); ``part_of`` i64[f] the stretch that
    each is a part of, itself mostly; ``part`` bool[f] whether it is a part of another function, of which is
    not known; ``starts`` u64[s] where functions begin, ascending, and ``taken`` u64[t] those of them whose
    address the image takes or exports; None: that is not known.
    """

    taken: U64 | None = None

    def __init__(self, begin: U64, end: U64, entry: I64, starts: U64, part: Bool) -> None:
        self.begin = begin
        self.end = end
        self.entry = entry
        self.starts = starts
        self.part = part
        self.part_of = np.arange(len(begin), dtype=np.int64)

    @classmethod
    def join(cls, size: int, frames: FrameTable, symbols: U64, sizes: U64, starts: U64) -> Functions:
        """Functions by unwind entries, by symbols that lie in none of these, and further ``starts``.

        Args:
            size: bytes of the image.
            frames: the unwind entries.
            symbols: u64[s], offsets of symbols.
            sizes: u64[s], their lengths.
            starts: u64[t], offsets of other functions.
        """
        begin = np.concatenate([frames.begin, symbols])
        end = np.concatenate([frames.end, np.minimum(symbols + np.minimum(sizes, size), size)])
        end = end.astype(np.uint64)
        entry = np.concatenate([frames.entry, np.full(len(symbols), -1)])
        # of several at one place the unwind entry comes first
        order = np.argsort(begin, kind="stable")
        part = np.concatenate([frames.part, np.zeros(len(symbols), np.bool_)])
        begin, end, entry, part = begin[order], end[order], entry[order], part[order]
        # a symbol inside of a function is one more way into it
        reach = np.maximum.accumulate(end) if len(end) else end
        inside = np.zeros(len(begin), np.bool_)
        inside[1:] = begin[1:] < reach[:-1]
        keep = ~inside & (end > begin)
        known = np.unique(np.concatenate([begin[~part], starts]))
        return cls(begin[keep], end[keep], entry[keep], known, part[keep])

    def __len__(self) -> int:
        return len(self.begin)

    def find(self, offset: U64) -> I64:
        """i64[n]: which function each offset lies in, -1: in none."""
        if not len(self.begin):
            return np.full(len(offset), -1)
        at = np.searchsorted(self.begin, offset, side="right") - 1
        inside = (at >= 0) & (offset < self.end[at])
        return np.where(inside, self.part_of[at], -1)

    def at_start(self, offset: U64) -> Bool:
        """bool[n]: whether a function begins at each offset."""
        if not len(self.starts):
            return np.zeros(len(offset), np.bool_)
        at = np.minimum(np.searchsorted(self.starts, offset), len(self.starts) - 1)
        found: Bool = self.starts[at] == offset
        return found

    def untaken(self, offset: U64) -> Bool:
        """bool[n]: whether a function begins at each offset whose address nobody takes."""
        taken = self.taken
        if taken is None or not len(taken):
            return self.at_start(offset) & (taken is not None)
        at = np.minimum(np.searchsorted(taken, offset), len(taken) - 1)
        known: Bool = taken[at] == offset
        return self.at_start(offset) & ~known
