"""Makes the digest of a run while its path goes by, in memory that grows with what is distinct."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from barnum import __version__
from barnum._sequences import TransferCounter
from barnum.digests.approaches import ApproachFinder
from barnum.digests.digest import SCHEMA, About, Digest, Limits, Program, Taken, Ways
from barnum.digests.effects import EffectKinds
from barnum.errors import SampleError, TraceError
from barnum.evaluations.header import Source
from barnum.evidence import EvidenceFinder
from barnum.paths import RESTARTS, Blocks, Chunk, Gap, Learn, PathReader
from barnum.paths.outcome import WholePath, source_of
from barnum.samples import Meta, Sample, read_meta
from barnum.sequences.tokens import WHOLE

U32 = NDArray[np.uint32]
U64 = NDArray[np.uint64]

# distinct transfers, and ways into the kernel, of a run; the largest programs have a tenth
MOST = 1 << 22
# gaps behind which something is missing, and ends of streams, of which is kept how many transfers came before
_MOST_PLACES = 1 << 16
_LOSSES = (Gap.OVERFLOW, Gap.LOST, Gap.UNMAPPED)


class DigestMaker:
    """Takes the path of one run chunk by chunk.

    Blocks are numbered as in the path, whose table may grow: all that a chunk names must be known before.
    """

    def __init__(self, sample: Sample, bin_dir: Path | None = None, *, learn: Learn | None = None) -> None:
        """Prepare for the path of a sample.

        Args:
            sample: the sample.
            bin_dir: folder of the images; without it, evidence that takes them is left out.
            learn: kinds of transfers that the digest is to hold (default: Learn()).

        Raises:
            SampleError: what the sample says of itself is broken.
        """
        self._sample = sample
        self._learn = learn or Learn()
        noted = sample.effects
        self._more = None if noted is None else sum(noted.more.values())
        self._effects = EffectKinds(() if noted is None else noted.effects)
        self._evidence = EvidenceFinder(sample, bin_dir)
        self._approaches = ApproachFinder()
        restart = np.zeros(256, np.bool_)
        restart[list(RESTARTS)] = True
        self._counter = TransferCounter(restart)
        self._table = _Table()
        self._blocks: Blocks | None = None
        self._modules: dict[int, str | None] = {}
        self._steps = self._transfers = 0
        # by step, how many transfers end before it
        self._before: dict[int, int] = {0: 0}
        self._stream = -1
        self._cut: int | None = None

    @property
    def known(self) -> int:
        """Number of blocks of the table that are known."""
        return len(self._table.kind)

    def extend(self, table: Blocks) -> None:
        """The table of blocks, which has grown."""
        blocks = table.part(self.known, len(table))
        self._blocks = table
        self._table.add(blocks, self._learn)
        upper = (blocks.bbid >> np.uint64(32)).astype(np.int64)
        _, at = np.unique(upper, return_index=True)
        for row in at.tolist():
            module = int(blocks.module[row])
            self._modules.setdefault(int(upper[row]), blocks.modules[module] if module >= 0 else None)

    def add(self, chunk: Chunk, spawn: int | None = None) -> None:
        """The next steps of the path. ``spawn`` is the step before which the run first started another
        process, as soon as it is known, at latest with the chunk in which it lies."""
        table = self._table
        turns = None if self._learn.jmp else chunk.turns
        position = self._counter.add(
            table.role, table.site, table.target, table.kind, chunk.block, chunk.gap, turns
        )
        self._note(chunk, position)
        self._effects.add(chunk, table.kind, position, self._transfers)
        self._approaches.add(chunk, table.kind)
        if self._blocks is not None:
            self._evidence.add(self._blocks, chunk)
        end = self._steps + len(chunk.block)
        if self._cut is None and spawn is not None and spawn <= end:
            self._cut = self._count_before(position, spawn)
        self._steps, self._transfers = end, self._transfers + len(position)

    def _count_before(self, position: U64, step: int) -> int:
        return self._transfers + int(np.searchsorted(position, np.uint64(step)))

    def _note(self, chunk: Chunk, position: U64) -> None:
        """Remember how many transfers come before the steps from which on something may be missing."""
        if not len(chunk.block):
            return
        places: list[int] = []
        if chunk.gap.any():
            places = np.flatnonzero(np.isin(chunk.gap, _LOSSES)).tolist()
        # streams follow each other
        if not chunk.stream[0] == chunk.stream[-1] == self._stream:
            before = np.concatenate([[self._stream], chunk.stream[:-1]])
            places += np.flatnonzero(chunk.stream != before).tolist()
            self._stream = int(chunk.stream[-1])
        for at in places[: _MOST_PLACES - len(self._before)]:
            step = self._steps + at
            self._before.setdefault(step, self._count_before(position, step))

    def done(self, path: WholePath) -> Digest:
        """The digest, after the last chunk.

        Raises:
            TraceError: the run has more distinct transfers than a digest holds.
        """
        sample = self._sample
        source = source_of(path, sample.folder)
        effects = self._effects.done(path.gaps)
        whole, ways, edges, entries, lengths, per_edge, per_way, step = self._counter.done()
        if max(len(whole[0]), len(ways[0])) > MOST:
            raise TraceError(f"{sample.folder}: has more than {MOST:,} distinct transfers")
        site, target, kind, _counts, first = whole
        rows = _Rows(site, target)
        stretches = _masks(rows.of(edges[0], edges[1]), per_edge, len(site))
        order = np.argsort(first, kind="stable")
        place = np.empty(len(order), np.uint32)
        place[order] = np.arange(len(order), dtype=np.uint32)
        taken = Taken(site[order], target[order], kind[order], first[order], step[order], stretches[order])
        self._before[self._steps] = self._transfers
        meta = _meta_of(sample)
        about = About(
            schema=SCHEMA,
            version=__version__,
            name=sample.name,
            label=sample.label,
            learn=self._learn,
            transfers=self._transfers,
            stretches=tuple(lengths.tolist()),
            cut=self._cut_of(source, path),
            intact=None if source.intact is None else self._before.get(source.intact),
            modules=tuple(sorted(self._modules.items())),
            source=source,
            evidence=self._evidence.done(path.gaps, truncated=source.truncated),
            effects=None if self._more is None else effects,
            further_effects=self._effects.further + (self._more or 0),
            program=None if meta is None else Program.of(meta),
            limits=None if meta is None else Limits.of(meta),
            kind=None if meta is None else meta.kind,
        )
        return Digest(
            about,
            taken,
            _ways_of(rows, place, ways, entries, per_way),
            self._approaches.done(self._blocks),
        )

    def _cut_of(self, source: Source, path: WholePath) -> int | None:
        if source.cut is None:
            return None
        # the first thread may have ended before; what breaks off before the spawn is all there is of it
        return self._cut if source.cut == path.spawn else self._before.get(source.cut)


class _Table:
    """What the blocks of a path do, by number: ``role`` and ``kind`` u8[k], tokens ``site`` and ``target``
    u64[k]."""

    def __init__(self) -> None:
        self.role = self.kind = np.zeros(0, np.uint8)
        self.site = self.target = np.zeros(0, np.uint64)

    def add(self, blocks: Blocks, learn: Learn) -> None:
        self.role = np.concatenate([self.role, learn.roles(blocks)])
        self.kind = np.concatenate([self.kind, blocks.kind])
        self.site = np.concatenate([self.site, WHOLE.sites(blocks)])
        self.target = np.concatenate([self.target, WHOLE.targets(blocks)])


class _Rows:
    """Finds the rows of transfers that are sorted by (site, target)."""

    def __init__(self, site: U64, target: U64) -> None:
        self._site, self._target = np.unique(site), np.unique(target)
        self._key = self._keys(site, target)

    def of(self, site: U64, target: U64) -> NDArray[np.int64]:
        """i64[n]: the row of each; all must be there."""
        found: NDArray[np.int64] = np.searchsorted(self._key, self._keys(site, target))
        return found

    def _keys(self, site: U64, target: U64) -> NDArray[np.int64]:
        keys: NDArray[np.int64] = np.searchsorted(self._site, site) * len(self._target) + np.searchsorted(
            self._target, target
        )
        return keys


def _masks(row: NDArray[np.int64], sizes: NDArray[np.int64], count: int) -> U32:
    """u32[count]: in which stretches each row is; ``row`` i64 of one stretch after the other, which have
    ``sizes`` i64 rows. What is in no stretch was counted after the last, which is not there then."""
    masks = np.zeros(count, np.uint32)
    stretch = np.repeat(np.arange(len(sizes), dtype=np.uint32), sizes)
    np.bitwise_or.at(masks, row, np.uint32(1) << stretch)
    return masks


def _ways_of(
    rows: _Rows, place: U32, whole: tuple[Any, ...], parts: tuple[Any, ...], sizes: NDArray[np.int64]
) -> Ways:
    site, target, entry, first = whole
    taken = place[rows.of(site, target)]
    order = np.lexsort((entry, taken, first))
    # ways of stretches are found by their transfer and their entry
    entries = np.unique(entry)
    keys = rows.of(site, target) * (len(entries) + 1) + np.searchsorted(entries, entry)
    keys_of = rows.of(parts[0], parts[1]) * (len(entries) + 1) + np.searchsorted(entries, parts[2])
    stretches = _masks(np.searchsorted(keys, keys_of), sizes, len(site))
    return Ways(taken[order], entry[order], first[order], stretches[order])


def _meta_of(sample: Sample) -> Meta | None:
    file = sample.folder / "meta.json"
    try:
        return read_meta(file) if file.is_file() else None
    except SampleError:
        return None


def digest_of_path(sample: Sample, path: PathReader, bin_dir: Path | None = None) -> Digest:
    """The digest of a path that is in a file; ``bin_dir`` is the folder of images.

    Raises:
        ParsedTraceError: the file is broken.
        TraceError: the run has more distinct transfers than a digest holds.
    """
    maker = DigestMaker(sample, bin_dir)
    maker.extend(path.blocks)
    for chunk in path.chunks():
        maker.add(chunk, path.spawn)
    return maker.done(path)
