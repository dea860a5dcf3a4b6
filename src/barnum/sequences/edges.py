"""The distinct transfers (edges) of one run: how often each was taken, and when first."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from barnum._sequences import REACH, STRETCHES
from barnum._sequences import EdgeCounter as Counts
from barnum.paths import Transfers
from barnum.sequences.tokens import WHOLE, Tokens

I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]
U8 = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Edges:
    """The e distinct transfers of a run of ``transfers`` transfers, sorted by (site, target).

    ``site`` u64[e] and ``target`` u64[e] are tokens; ``kind`` u8[e] is the kind of the site (see paths.Kind);
    ``count`` i64[e] is how often the transfer was taken. ``first`` i64[e] is the index of the first time,
    among the transfers of the run that pass the filter.
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
    """Ways from transfers into the kernel: n distinct (site, target, entry).

    At most REACH transfers after one from ``site`` u64[n] to ``target`` u64[n], the kernel was entered by the
    block with the token ``entry`` u64[n] (as a site). ``first`` i64[n] is the index of the transfer after the
    entry, for the first time that this happened.
    """

    site: U64
    target: U64
    entry: U64
    first: I64

    def __len__(self) -> int:
        return len(self.site)


@dataclass(frozen=True, slots=True)
class RunEdges:
    """Edges and ways into the kernel of a run: of the whole, and of each stretch in which it was counted.

    Stretches follow each other, at most 2 * STRETCHES of them. They have equal lengths of 1024 transfers or
    more; the last may be shorter.
    """

    whole: Edges
    stretches: tuple[Edges, ...]
    entries: Entries
    stretch_entries: tuple[Entries, ...]


def edges_of(parts: Iterable[Transfers], tokens: Tokens = WHOLE) -> RunEdges:
    """Count the distinct transfers of a run that comes part by part; all parts number the same blocks.

    Memory grows with the distinct transfers, not with the length of the run.
    """
    counter = EdgeCounter(tokens)
    for part in parts:
        counter.add(part)
    return counter.done()


class EdgeCounter:
    """Counts the distinct transfers of one run, part by part."""

    def __init__(self, tokens: Tokens = WHOLE) -> None:
        self._counts = Counts()
        self._tokens = tokens
        self._blocks: object = None
        self._sites = self._targets = np.zeros(0, np.uint64)

    def add(self, part: Transfers) -> None:
        """Count the next transfers of the run."""
        blocks = part.blocks
        if blocks is not self._blocks:
            self._blocks = blocks
            self._sites = np.ascontiguousarray(self._tokens.sites(blocks))
            self._targets = np.ascontiguousarray(self._tokens.targets(blocks))
        self._counts.add(
            self._sites, self._targets, blocks.kind, part.source, part.target, part.first, part.entry
        )

    def done(self) -> RunEdges:
        """The counts, after the last part."""
        whole, ways, edges, entries, *sizes, _ = self._counts.done()
        site, target, kind, count, first = edges
        way_site, way_target, entry, way_first = entries
        stretches, stretch_entries, row, way = [], [], 0, 0
        for transfers, edge_count, way_count in zip(*(size.tolist() for size in sizes), strict=True):
            rows, ways_here = slice(row, row + edge_count), slice(way, way + way_count)
            stretches.append(Edges(site[rows], target[rows], kind[rows], count[rows], first[rows], transfers))
            stretch_entries.append(
                Entries(way_site[ways_here], way_target[ways_here], entry[ways_here], way_first[ways_here])
            )
            row, way = rows.stop, ways_here.stop
        total = sum(stretch.transfers for stretch in stretches)
        return RunEdges(Edges(*whole, total), tuple(stretches), Entries(*ways), tuple(stretch_entries))


def _no_entries() -> Entries:
    none = np.zeros(0, np.uint64)
    return Entries(none, none, none, np.zeros(0, np.int64))


def all_of(parts: Sequence[Entries]) -> Entries:
    """The ways into the kernel of several stretches, as of one."""
    parts = [part for part in parts if len(part)]
    if len(parts) == 1:
        return parts[0]
    if not parts:
        return _no_entries()
    columns = (np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(Entries))
    return _distinct(Entries(*columns))


def _distinct(entries: Entries) -> Entries:
    """Sort by (site, target, entry); of equal rows the one with the lowest ``first`` is kept."""
    order = np.lexsort((entries.first, entries.entry, entries.target, entries.site))
    site, target, entry = entries.site[order], entries.target[order], entries.entry[order]
    new = np.ones(len(order), np.bool_)
    new[1:] = (site[1:] != site[:-1]) | (target[1:] != target[:-1]) | (entry[1:] != entry[:-1])
    return Entries(site[new], target[new], entry[new], entries.first[order][new])


def add_up(parts: Sequence[Edges]) -> Edges:
    """The edges of several stretches, as of one."""
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


__all__ = [
    "REACH",
    "STRETCHES",
    "EdgeCounter",
    "Edges",
    "Entries",
    "RunEdges",
    "add_up",
    "all_of",
    "edges_of",
]
