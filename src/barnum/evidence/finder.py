"""Looks through a path for evidence, part by part."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path as FilePath
from typing import Protocol

import numpy as np

from barnum import _evidence
from barnum.evidence.findings import Findings
from barnum.evidence.functions import U8, U32, U64
from barnum.evidence.images import Images
from barnum.evidence.judging import Judge
from barnum.evidence.places import Places
from barnum.paths import Blocks, Chunk, GapDetails, Kind
from barnum.samples import Sample

# roles and traits of blocks, as native/evidence/watch.hpp has them
_CALL, _RETURN, _INDIRECT, _FAR, _UNKNOWN = 1, 2, 4, 8, 16
_START, _OUTSIDE, _PART = 1, 2, 4
ROLES = {
    Kind.INDIRECT_JUMP: _INDIRECT,
    Kind.CALL: _CALL,
    Kind.INDIRECT_CALL: _CALL | _INDIRECT,
    Kind.RETURN: _RETURN,
    Kind.FAR: _FAR,
    Kind.INDIRECT_FAR: _FAR,
    Kind.UNKNOWN: _UNKNOWN,
}
_HELD = 1 << 22  # steps, of 7 bytes each
_NO_LENGTHS = "nothing was looked for: rows of the original do not tell how long blocks are"


class Steps(Protocol):
    """Anything that gives a path: a reader, a Path in memory, or a Decoding, whose blocks grow meanwhile."""

    @property
    def blocks(self) -> Blocks: ...

    def chunks(self) -> Iterator[Chunk]: ...


class EvidenceFinder:
    """Looks for evidence in the path of one sample, which it is given part by part, in order.

    Memory is bounded by the number of distinct blocks; see native/evidence for the stack.
    """

    def __init__(self, sample: Sample | None = None, bin_dir: FilePath | None = None) -> None:
        """Prepare for one path.

        Args:
            sample: whose memory map, code bytes and exit are looked at; None: findings that need these are
                left out.
            bin_dir: folder of the images; None: findings that need functions are left out.
        """
        self._sample = sample
        self._images = Images(sample, bin_dir)
        self._places = Places(self._images)
        self._watch = _evidence.Watch()
        self._blocks: Blocks | None = None
        self._imported = False
        self._path: Steps | None = None
        self._held: list[Chunk] = []
        self._held_steps = 0
        self._roles = np.zeros(256, np.uint8)
        for kind, role in ROLES.items():
            self._roles[kind] = role

    def __len__(self) -> int:
        """Number of blocks that are known so far: a part with higher ones needs a larger table."""
        return len(self._blocks) if self._blocks is not None else 0

    def add(self, blocks: Blocks, chunk: Chunk) -> None:
        """The next part of the path.

        Args:
            blocks: the table of blocks, k at least; those that were there before are the same.
            chunk: ``block`` u32[n] below k, ``gap`` u8[n], ``stream`` u16[n].

        Raises:
            IndexError: a step names a block that is not in the table.
            ValueError: the columns are of different lengths, or the table has become smaller.
        """
        if len(blocks) < len(self):
            raise ValueError("the table of blocks has become smaller")
        if blocks.text is not None:
            self._imported = True
            self._blocks = blocks
            return
        if len(blocks) > len(self) or self._blocks is None:
            self._extend(blocks)
        self._watch.add(chunk.block, chunk.gap, chunk.stream, chunk.turns)

    def feed(self, path: Steps, chunk: Chunk) -> None:
        """The next part of a path whose table of blocks may be growing. Parts are held until they are worth
        asking for the table, which takes a while; they must not change meanwhile.

        Raises:
            IndexError, ValueError: as add() does, perhaps for a part that came before.
        """
        self._path = path
        self._held.append(chunk)
        self._held_steps += len(chunk.block)
        if self._held_steps >= _HELD:
            self._flush()

    def done(self, gaps: GapDetails | None = None, *, truncated: bool = False) -> Findings:
        """What was found, once the whole path was added.

        Args:
            gaps: where the path lost data. None: it is not known whether a stream that ends where no code is
                known ended there, and such an end is no strong evidence.
            truncated: the path was cut off, so that its last stream does not end where it ends.
        """
        self._flush()
        blocks = self._blocks
        if blocks is None:
            return Findings()
        if self._imported:
            return Findings(left_out=(_NO_LENGTHS,))
        self._watch.finish()
        judge = Judge(self._watch, blocks, self._images, self._places, gaps, truncated, self._sample)
        return judge.findings()

    def _flush(self) -> None:
        held, self._held, self._held_steps = self._held, [], 0
        if not held or self._path is None:
            return
        highest = max(int(chunk.block.max(initial=0)) for chunk in held)
        blocks = self._path.blocks if self._blocks is None or highest >= len(self) else self._blocks
        for chunk in held:
            self.add(blocks, chunk)

    def _extend(self, blocks: Blocks) -> None:
        known = len(self)
        kind, start = blocks.kind[known:], blocks.start[known:]
        outside = self._places.outside(blocks, known)
        function, starts, part = self._places.functions(blocks, known)
        trait: U8 = (starts * _START | outside * _OUTSIDE | part * _PART).astype(np.uint8)
        role: U8 = self._roles[kind]
        length = blocks.length[known:].astype(np.uint64)
        bbid = blocks.bbid[known:]
        site: U64 = np.where(outside, self._places.outside_token, bbid + length)
        target: U64 = np.where(outside, self._places.outside_token, bbid)
        process = np.ascontiguousarray(blocks.process[known:])
        numbers: U32 = np.ascontiguousarray(function)
        start = np.ascontiguousarray(start)
        self._watch.extend(start, start + length, site, target, numbers, process, role, trait)
        self._blocks = blocks


def find_evidence(path: Steps, finder: EvidenceFinder) -> None:
    """Feed all of a path to a finder."""
    for chunk in path.chunks():
        finder.feed(path, chunk)
