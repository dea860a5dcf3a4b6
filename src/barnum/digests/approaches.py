"""How a run comes to the kernel: the blocks that it goes through right before its system calls.

What a program must never do it does by a system call, and it comes there by code of its own: files are opened
for writing by other branches than for reading, whatever the document that asks for it looks like. So a block
that no nominal run goes through within REACH blocks before a system call is news that counts, where a new
branch elsewhere is most often a feature of the document.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from barnum.paths import Blocks, Chunk, Gap, KernelEntries
from barnum.sequences.tokens import WHOLE

U8 = NDArray[np.uint8]
U32 = NDArray[np.uint32]
U64 = NDArray[np.uint64]
I64 = NDArray[np.int64]

# blocks that end with the one that enters the kernel
REACH = 16
# approaches that a digest keeps; of a run with more none are known
MOST_APPROACHES = 1 << 16
# system calls that are looked at together
_TOGETHER = 1 << 14
_LOSSES = (Gap.OVERFLOW, Gap.LOST, Gap.UNMAPPED)
_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)


@dataclass(frozen=True, slots=True)
class Approaches:
    """The n distinct pairs of a block and the way into the kernel that it led to, by step.

    ``entry`` u64[n] is the token of the block that enters the kernel, as a site, ``block`` u64[n] that of the
    block, as a target, and ``step`` i64[n] the step at which the kernel was entered first after that.
    """

    entry: U64
    block: U64
    step: I64

    def __len__(self) -> int:
        return len(self.entry)


class ApproachFinder:
    """Finds them while the path of a run goes by."""

    def __init__(self) -> None:
        self._entering = KernelEntries()
        # the last blocks before the chunk, within its stream and behind the last loss
        self._tail = np.zeros(0, np.uint32)
        self._stream = -1
        self._read = 0
        # pairs of numbers of blocks, and the step of each that came first
        self._pairs = np.zeros(0, np.uint64)
        self._steps = np.zeros(0, np.int64)
        self._crowded = False

    def add(self, chunk: Chunk, kinds: U8) -> None:
        """The next stretch of the path: n steps, of blocks with the ``kinds`` u8[k]."""
        count = len(chunk.block)
        if not count:
            return
        far = self._entering.steps(chunk, kinds)
        starts = self._starts(chunk)
        tail = len(self._tail)
        block = np.concatenate([self._tail, chunk.block])
        if len(far):
            # the first step, from the tail's first on, that may belong to what led there
            begin = np.zeros(len(far), np.int64)
            if len(starts):
                at = np.searchsorted(starts, far, side="right") - 1
                begin = np.where(at >= 0, starts[np.maximum(at, 0)] + tail, 0)
            for part in range(0, len(far), _TOGETHER):
                self._take(block, far[part : part + _TOGETHER] + tail, begin[part : part + _TOGETHER])
        last = int(starts[-1]) + tail if len(starts) else 0
        self._tail = block[max(last, len(block) - (REACH - 1)) :].copy()
        self._stream = int(chunk.stream[-1])
        self._read += count

    def _starts(self, chunk: Chunk) -> I64:
        """i64[m], ascending: steps before which another stream ended or something was lost."""
        marks: list[I64] = []
        if chunk.gap.any():
            marks.append(np.flatnonzero(np.isin(chunk.gap, _LOSSES)))
        if not chunk.stream[0] == chunk.stream[-1] == self._stream:
            before = np.concatenate([[self._stream], chunk.stream[:-1].astype(np.int64)])
            marks.append(np.flatnonzero(chunk.stream != before))
        return np.unique(np.concatenate(marks)) if marks else np.zeros(0, np.int64)

    def _take(self, block: U32, far: I64, begin: I64) -> None:
        """The blocks before the steps ``far``, and those themselves, from ``begin`` on."""
        if self._crowded:
            return
        back = far[:, None] - np.arange(REACH)
        inside = back >= begin[:, None]
        entry = np.broadcast_to(block[far].astype(np.uint64)[:, None], back.shape)[inside]
        pairs = (entry << _HALF) | block[back[inside]].astype(np.uint64)
        # steps of the path: `far` counts from the tail on
        steps = np.broadcast_to((far - len(self._tail) + self._read)[:, None], back.shape)[inside]
        pairs, first = np.unique(pairs, return_index=True)
        new = ~np.isin(pairs, self._pairs, assume_unique=True)
        self._pairs = np.concatenate([self._pairs, pairs[new]])
        self._steps = np.concatenate([self._steps, steps[first[new]]])
        self._crowded = len(self._pairs) > MOST_APPROACHES

    def done(self, table: Blocks | None) -> Approaches | None:
        """All of them, by the ``table`` of the path's blocks; None where there are too many."""
        if self._crowded:
            return None
        if table is None or not len(self._pairs):
            empty = np.zeros(0, np.uint64)
            return Approaches(empty, empty, np.zeros(0, np.int64))
        sites, targets = WHOLE.sites(table), WHOLE.targets(table)
        entry = sites[(self._pairs >> _HALF).astype(np.int64)]
        block = targets[(self._pairs & _LOW).astype(np.int64)]
        # blocks of several processes may be the same
        order = np.lexsort((self._steps, block, entry))
        entry, block, step = entry[order], block[order], self._steps[order]
        kept = np.ones(len(entry), np.bool_)
        kept[1:] = (entry[1:] != entry[:-1]) | (block[1:] != block[:-1])
        entry, block, step = entry[kept], block[kept], step[kept]
        order = np.lexsort((block, entry, step))
        return Approaches(entry[order], block[order], step[order])
