"""The distinct transfers (edges) of one run: how often each was taken and when first."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from barnum.paths import Transfers
from barnum.sequences.parts import joined, part_of
from barnum.sequences.tokens import WHOLE, Tokens

I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
U32 = NDArray[np.uint32]
U64 = NDArray[np.uint64]
U8 = NDArray[np.uint8]

# above this many cells a dense table of (source block, target block) costs more than sorting
_DENSE_CELLS = 1 << 25


@dataclass(frozen=True, slots=True)
class Edges:
    """The e distinct transfers of a run of ``transfers`` transfers.

    ``site`` u64[e] and ``target`` u64[e] are tokens; ``kind`` u8[e] is that of the
    site (see paths.Kind); ``count`` i64[e]; ``first`` i64[e] is the index, among
    the transfers of the run that pass the filter, of the first time it was taken. Sorted by (site, target).
    """

    site: U64
    target: U64
    kind: U8
    count: I64
    first: I64
    transfers: int

    def __len__(self) -> int:
        return len(self.site)


@dataclass(frozen=True, slots=True)
class Entries:
    """Ways from transfers into the kernel: n distinct (site, target, entry) where at most REACH transfers
    after one from ``site`` u64[n] to ``target`` u64[n] the kernel was entered by the block ``entry`` u64[n]
    (the token of a site). ``first`` i64[n] is the index of the first transfer after the entry, of the first
    time."""

    site: U64
    target: U64
    entry: U64
    first: I64

    def __len__(self) -> int:
        return len(self.site)


# how many transfers before an entry into the kernel count as those that led to it
REACH = 64
# rows of entries that are looked back from at once
_BACK = 1 << 14

# a run is kept as STRETCHES to 2 * STRETCHES stretches, of at least _SHORTEST transfers each
STRETCHES = 16
_SHORTEST = 1 << 10


@dataclass(frozen=True, slots=True)
class RunEdges:
    """Edges of a whole run and of the stretches that it was counted in (one after the other, of equal
    length), and its ways into the kernel likewise."""

    whole: Edges
    stretches: tuple[Edges, ...]
    entries: Entries
    stretch_entries: tuple[Entries, ...]


def edges_of(parts: Iterable[Transfers], tokens: Tokens = WHOLE) -> RunEdges:
    """Count the distinct transfers of a run that comes part by part; all parts number the same blocks.

    Memory is that of the distinct transfers, however long the run.
    """
    counter = EdgeCounter(tokens)
    for part in parts:
        counter.add(part)
    return counter.done()


class EdgeCounter:
    """Counts the distinct transfers of one run, part by part."""

    def __init__(self, tokens: Tokens = WHOLE) -> None:
        self._tokens = tokens
        self._done: list[Edges] = []
        self._entered: list[Entries] = []
        self._tail: Transfers | None = None  # the REACH transfers before what is waiting
        self._length = _SHORTEST
        self._rest: list[Transfers] = []
        self._waiting = 0
        self._total = 0

    def add(self, part: Transfers) -> None:
        """Count the next transfers of the run."""
        begin = 0
        if not self._total and not self._waiting:
            # stretches that would be joined before this part ends are counted as one
            while len(part) >= 2 * STRETCHES * self._length:
                self._length *= 2
        while begin < len(part):
            end = min(len(part), begin + self._length - self._waiting)
            self._rest.append(part_of(part, begin, end))
            self._waiting += end - begin
            begin = end
            if self._waiting < self._length:
                continue
            self._take()
            self._total, self._waiting = self._total + self._length, 0
            if len(self._done) == 2 * STRETCHES:
                pairs = range(0, len(self._done), 2)
                self._done = [add_up(self._done[i : i + 2]) for i in pairs]
                self._entered = [all_of(self._entered[i : i + 2]) for i in pairs]
                self._length *= 2

    def done(self) -> RunEdges:
        """The counts, after the last part."""
        if self._rest:
            self._take()
        return RunEdges(add_up(self._done), tuple(self._done), all_of(self._entered), tuple(self._entered))

    def _take(self) -> None:
        """Count what is waiting as a stretch."""
        part, self._rest = joined(self._rest), []
        self._done.append(self._count(part, self._total))
        longer = part if self._tail is None else joined([self._tail, part])
        self._entered.append(self._entries(longer, len(longer) - len(part)))
        self._tail = part_of(longer, max(0, len(longer) - REACH), len(longer))

    def _entries(self, part: Transfers, before: int) -> Entries:
        """Ways into the kernel that end in a part, whose first ``before`` transfers only lead there."""
        rows = before + np.flatnonzero(part.entry[before:] >= 0)
        found: list[Entries] = []
        # nothing leads over a restart
        begin = np.maximum.accumulate(np.where(part.first, np.arange(len(part)), 0))
        blocks = part.blocks
        sites, targets = self._tokens.sites(blocks), self._tokens.targets(blocks)
        for at in range(0, len(rows), _BACK):
            row = np.repeat(rows[at : at + _BACK], REACH)
            back = row - np.tile(np.arange(REACH, 0, -1), len(row) // REACH)
            led = back >= begin[row]
            row, back = row[led], back[led]
            found.append(
                _distinct(
                    Entries(
                        sites[part.source[back]],
                        targets[part.target[back]],
                        sites[part.entry[row]],
                        row + (self._total - before),
                    )
                )
            )
        return all_of(found)

    def _count(self, part: Transfers, offset: int) -> Edges:
        key, count, first = distinct_pairs(part.source, part.target)
        source = (key >> np.uint64(32)).astype(np.int64)
        target = (key & np.uint64(0xFFFFFFFF)).astype(np.int64)
        blocks = part.blocks
        return _merge(
            Edges(
                self._tokens.sites(blocks)[source],
                self._tokens.targets(blocks)[target],
                blocks.kind[source],
                count,
                first + offset,
                len(part),
            )
        )


def _no_entries() -> Entries:
    none = np.zeros(0, np.uint64)
    return Entries(none, none, none, np.zeros(0, np.int64))


def all_of(parts: Sequence[Entries]) -> Entries:
    """The ways into the kernel of several stretches as those of one."""
    parts = [part for part in parts if len(part)]
    if len(parts) == 1:
        return parts[0]
    if not parts:
        return _no_entries()
    columns = (np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(Entries))
    return _distinct(Entries(*columns))


def _distinct(entries: Entries) -> Entries:
    """Sort by (site, target, entry); of equal ones the first stays."""
    order = np.lexsort((entries.first, entries.entry, entries.target, entries.site))
    site, target, entry = entries.site[order], entries.target[order], entries.entry[order]
    new = np.ones(len(order), np.bool_)
    new[1:] = (site[1:] != site[:-1]) | (target[1:] != target[:-1]) | (entry[1:] != entry[:-1])
    return Entries(site[new], target[new], entry[new], entries.first[order][new])


def add_up(parts: Sequence[Edges]) -> Edges:
    """The edges of several stretches as those of one."""
    if not parts:
        none = np.zeros(0, np.int64)
        return Edges(none.astype(np.uint64), none.astype(np.uint64), none.astype(np.uint8), none, none, 0)
    return _merge(
        Edges(
            np.concatenate([part.site for part in parts]),
            np.concatenate([part.target for part in parts]),
            np.concatenate([part.kind for part in parts]),
            np.concatenate([part.count for part in parts]),
            np.concatenate([part.first for part in parts]),
            sum(part.transfers for part in parts),
        )
    )


def _merge(edges: Edges) -> Edges:
    """Sort, and add up rows of the same (site, target)."""
    order = np.lexsort((edges.target, edges.site))
    site, target = edges.site[order], edges.target[order]
    new = np.ones(len(site), np.bool_)
    new[1:] = (site[1:] != site[:-1]) | (target[1:] != target[:-1])
    begin = np.flatnonzero(new)
    if not len(begin):
        return edges
    return Edges(
        site[begin],
        target[begin],
        edges.kind[order][begin],
        np.add.reduceat(edges.count[order], begin),
        np.minimum.reduceat(edges.first[order], begin),
        edges.transfers,
    )


def distinct_pairs(source: U32, target: U32) -> tuple[U64, I64, I64]:
    """Distinct (source << 32 | target) of u32[m] and u32[m], how often each occurs, and where first."""
    sources, targets = _compact(source), _compact(target)
    cells = len(sources[0]) * len(targets[0])
    key = sources[1].astype(np.int64) * len(targets[0]) + targets[1]
    if cells <= max(_DENSE_CELLS, 4 * len(source)):
        table = np.bincount(key, minlength=cells)
        used = np.flatnonzero(table)
        count = table[used]
        where = np.zeros(cells, np.int64)
        where[key[::-1]] = np.arange(len(key) - 1, -1, -1)  # the last write wins: the first occurrence
        first = where[used]
    else:
        used, first, count = np.unique(key, return_index=True, return_counts=True)
    wide = sources[0][used // len(targets[0])].astype(np.uint64) << np.uint64(32)
    return wide | targets[0][used % len(targets[0])].astype(np.uint64), count, first


def _compact(ids: U32) -> tuple[U32, I64]:
    """Values in use, ascending, and the index of each element among them; cheaper than sorting all of
    them."""
    present = np.zeros(int(ids.max()) + 1, np.bool_)
    present[ids] = True
    values = np.flatnonzero(present)
    index = np.zeros(len(present), np.int64)
    index[values] = np.arange(len(values))
    return values.astype(np.uint32), index[ids]
