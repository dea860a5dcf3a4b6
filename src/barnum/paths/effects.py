"""Where the effects of a run are in its path: the step of the block that ends with each system call."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from barnum.paths.blocks import U8, Chunk, GapDetails
from barnum.paths.kinds import Gap, Kind
from barnum.paths.reader import PathReader
from barnum.samples import Effect

I64 = NDArray[np.int64]
# behind these, blocks are missing that may have made system calls
_LOSSES = (Gap.OVERFLOW, Gap.LOST, Gap.UNMAPPED)
_UNKNOWN = -1


class KernelEntries:
    """Finds the steps whose blocks enter the kernel."""

    def __init__(self) -> None:
        self._kinds: U8 | None = None
        self._ends_far = np.zeros(0, np.bool_)

    def steps(self, chunk: Chunk, kinds: U8) -> I64:
        """i64[m]: indices of such steps in a stretch of the path, whose blocks have the ``kinds`` u8[k]."""
        if kinds is not self._kinds:
            self._kinds = kinds
            self._ends_far = (kinds == Kind.FAR) | (kinds == Kind.INDIRECT_FAR)
        # no other steps end far than those that turn
        if chunk.turns is None:
            return np.flatnonzero(self._ends_far[chunk.block])
        found: I64 = chunk.turns[self._ends_far[chunk.block[chunk.turns]]].astype(np.int64)
        return found


class EffectPlaces:
    """Finds the steps of effects in a path that is read in stretches: :meth:`add` each in turn, then
    :meth:`steps`.

    An effect's block is the one that ends its stream's n-th way into the kernel (kinds ``FAR`` and
    ``INDIRECT_FAR``), n being its ``entry``. Memory is a few numbers an effect and a stream.
    """

    def __init__(self, effects: Sequence[Effect]) -> None:
        """Prepare for these effects; the streams of the path are all those of their sample, in its order."""
        self._steps = np.full(len(effects), _UNKNOWN, np.int64)
        by_stream: dict[int, list[tuple[int, int]]] = {}
        for number, effect in enumerate(effects):
            if effect.stream is not None and effect.entry is not None:
                by_stream.setdefault(effect.stream, []).append((effect.entry, number))
        # by stream: entries in rising order, and the numbers of the effects
        self._wanted: dict[int, tuple[NDArray[np.uint64], I64]] = {}
        for stream, pairs in by_stream.items():
            pairs.sort()
            entries, numbers = zip(*pairs, strict=True)
            self._wanted[stream] = np.array(entries, np.uint64), np.array(numbers, np.int64)
        self._entries: dict[int, int] = {}
        self._lost: set[int] = set()
        self._entering = KernelEntries()
        self._read = 0

    def add(self, chunk: Chunk, kinds: U8) -> None:
        """Take the next stretch of the path.

        Args:
            chunk: n steps.
            kinds: u8[k], kinds of the blocks, as far as the stretch names them.
        """
        if not len(chunk.stream):
            return
        if chunk.stream[0] == chunk.stream[-1]:
            # streams follow each other
            self._add(int(chunk.stream[0]), chunk, kinds)
            self._read += len(chunk.stream)
            return
        bounds = np.flatnonzero(np.diff(chunk.stream.astype(np.int32))) + 1
        begin = 0
        for end in (*bounds.tolist(), len(chunk.stream)):
            if end > begin:
                self._add(int(chunk.stream[begin]), chunk.part(begin, end), kinds)
                self._read += end - begin
            begin = end

    def steps(self) -> I64:
        """i64[m], the step of each effect's block; -1 where it is not known: packets were lost before, or the
        path ends before."""
        return self._steps.copy()

    def forget_after(self, gaps: GapDetails) -> None:
        """Take back steps that lie behind a loss, such as one before the first block of a stream, of which
        no step tells."""
        for stream in np.unique(gaps.stream).tolist():
            if stream in self._wanted:
                first = int(gaps.step[gaps.stream == stream].min())
                numbers = self._wanted[stream][1]
                self._steps[numbers[self._steps[numbers] >= first]] = _UNKNOWN

    def _add(self, stream: int, chunk: Chunk, kinds: U8) -> None:
        if stream not in self._wanted or stream in self._lost:
            return
        entries, numbers = self._wanted[stream]
        before = self._entries.get(stream, 0)
        if before > int(entries[-1]):
            return  # all are found
        losses: I64 = np.zeros(0, np.int64)
        if chunk.gap.any():
            losses = np.flatnonzero(np.isin(chunk.gap, _LOSSES))
        if len(losses):
            self._lost.add(stream)
            chunk = chunk.part(0, int(losses[0]))
        far = self._entering.steps(chunk, kinds)
        self._entries[stream] = before + len(far)
        low, high = np.searchsorted(entries, np.array([before, before + len(far)], np.uint64))
        if high > low:
            self._steps[numbers[low:high]] = self._read + far[(entries[low:high] - np.uint64(before))]


def effect_steps(effects: Sequence[Effect], path: PathReader) -> I64:
    """The step of each effect in a parsed trace, which is read once, in parts.

    Args:
        effects: those of the sample of which this is the path.
        path: the path.

    Returns:
        i64[m]: the step of the block that ends with the system call; -1 where it is not known: packets were
        lost before, the path ends before, or it has no place for that (the original's rows).

    Raises:
        ParsedTraceError: the file is broken.
    """
    places = EffectPlaces(effects)
    if path.header.get("source") == "pt":
        for chunk in path.chunks():
            places.add(chunk, path.blocks.kind)
        places.forget_after(path.gaps)
    return places.steps()
