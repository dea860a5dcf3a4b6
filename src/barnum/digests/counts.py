"""What runs showed, added up: all that a detector learns. Parts add up to exactly what the whole gives.

Of each site, target and transfer it is known in how many runs it was. Of a transfer that a single run showed
it is also known which run that was, when, and where it led: that is what is new when the run is left out. So
memory grows with distinct transfers, not with runs. Only while there are fewer than FEW_RUNS of them each
keeps all of its transfers, as their stretches stand for runs then.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from barnum.digests.digest import Digest
from barnum.errors import ModelError
from barnum.sequences import FEW_RUNS

U64 = NDArray[np.uint64]
U32 = NDArray[np.uint32]
U8 = NDArray[np.uint8]
I64 = NDArray[np.int64]

# runs whose counts are added up at a time: fewer take more turns, more take more memory
_TOGETHER = 64


@dataclass(frozen=True, slots=True)
class Counts:
    """Counts over n runs.

    Attributes:
        runs: u64[n], what tells them apart (see identity_of()), ascending.
        stretches: i64[n], how many stretches each has.
        site: u64[s], tokens, ascending.
        site_runs: i64[s], how many runs executed each.
        target: u64[t], tokens, ascending.
        target_runs: i64[t], how many runs reached each.
        edge_site: i64[e], index of the site of each transfer.
        edge_target: i64[e], index of its target; sorted by site, then target.
        kind: u8[e], kind of its site.
        edge_runs: i64[e], how many runs took it.
        row_edge: i64[r], index of a transfer that is kept with a run of it; sorted by transfer, then run.
        row_run: i64[r], index of that run.
        row_first: i64[r], index of the first time among the transfers of that run.
        row_stretches: u32[r], in which of its stretches it took it (see Taken).
        way_row: i64[w], index of a row that led into the kernel; sorted by row, then entry.
        way_entry: u64[w], token of the block by which it was entered.
        way_first: i64[w], index of the transfer after the entry.
        way_stretches: u32[w], in which stretches of the run.
    """

    runs: U64
    stretches: I64
    site: U64
    site_runs: I64
    target: U64
    target_runs: I64
    edge_site: I64
    edge_target: I64
    kind: U8
    edge_runs: I64
    row_edge: I64
    row_run: I64
    row_first: I64
    row_stretches: U32
    way_row: I64
    way_entry: U64
    way_first: I64
    way_stretches: U32

    def __len__(self) -> int:
        return len(self.runs)


def counts_of(digests: Iterable[tuple[Digest, int]]) -> Counts:
    """The counts over runs, from their digests and identities.

    Raises:
        ModelError: a run comes twice.
    """
    total: Counts | None = None
    parts: list[Counts] = []
    for digest, identity in digests:
        parts.append(_of_one(digest, identity))
        if len(parts) == _TOGETHER:
            total, parts = added([*([total] if total else []), *parts]), []
    if parts or total is None:
        total = added([*([total] if total else []), *parts])
    return total


def _of_one(digest: Digest, identity: int) -> Counts:
    taken, ways = digest.taken, digest.ways
    site, in_site = np.unique(taken.site, return_inverse=True)
    target, in_target = np.unique(taken.target, return_inverse=True)
    order = np.lexsort((in_target, in_site))
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    way_row = place[ways.taken]
    by_row = np.lexsort((ways.entry, way_row))
    count = len(taken)
    return Counts(
        runs=np.array([identity], np.uint64),
        stretches=np.array([len(digest.about.stretches)], np.int64),
        site=site,
        site_runs=np.ones(len(site), np.int64),
        target=target,
        target_runs=np.ones(len(target), np.int64),
        edge_site=in_site[order],
        edge_target=in_target[order],
        kind=taken.kind[order],
        edge_runs=np.ones(count, np.int64),
        row_edge=np.arange(count),
        row_run=np.zeros(count, np.int64),
        row_first=taken.first[order],
        row_stretches=taken.stretches[order],
        way_row=way_row[by_row],
        way_entry=ways.entry[by_row],
        way_first=ways.first[by_row],
        way_stretches=ways.stretches[by_row],
    )


def added(parts: Sequence[Counts]) -> Counts:
    """The counts over the runs of all parts; in whatever order they come, the same.

    Raises:
        ModelError: a run is in two of them.
    """
    runs, in_run = np.unique(_all(parts, "runs", np.uint64), return_inverse=True)
    sizes = [len(part.runs) for part in parts]
    if len(runs) < sum(sizes):
        raise ModelError("the same run comes twice: leave it out of one")
    site, in_site, site_runs = _summed(parts, "site", "site_runs")
    target, in_target, target_runs = _summed(parts, "target", "target_runs")
    edge_site = in_site[_shifted(parts, "edge_site", "site")]
    edge_target = in_target[_shifted(parts, "edge_target", "target")]
    key, in_edge = np.unique(edge_site * max(1, len(target)) + edge_target, return_inverse=True)
    edge_runs = _sums(in_edge, _all(parts, "edge_runs", np.int64), len(key))
    kind = np.full(len(key), 255, np.uint8)
    np.minimum.at(kind, in_edge, _all(parts, "kind", np.uint8))
    row_edge = in_edge[_shifted(parts, "row_edge", "edge_site")]
    row_run = in_run[_shifted(parts, "row_run", "runs")]
    # only while there are few runs all rows are kept
    kept = np.ones(len(row_edge), np.bool_) if len(runs) < FEW_RUNS else edge_runs[row_edge] == 1
    rows = np.flatnonzero(kept)
    rows = rows[np.lexsort((row_run[rows], row_edge[rows]))]
    place = np.full(len(row_edge), -1)
    place[rows] = np.arange(len(rows))
    way_row = place[_shifted(parts, "way_row", "row_edge")]
    way_entry = _all(parts, "way_entry", np.uint64)
    ways = np.flatnonzero(way_row >= 0)
    ways = ways[np.lexsort((way_entry[ways], way_row[ways]))]
    return Counts(
        runs=runs,
        stretches=_all(parts, "stretches", np.int64)[np.argsort(in_run)],
        site=site,
        site_runs=site_runs,
        target=target,
        target_runs=target_runs,
        edge_site=key // max(1, len(target)),
        edge_target=key % max(1, len(target)),
        kind=kind,
        edge_runs=edge_runs,
        row_edge=row_edge[rows],
        row_run=row_run[rows],
        row_first=_all(parts, "row_first", np.int64)[rows],
        row_stretches=_all(parts, "row_stretches", np.uint32)[rows],
        way_row=way_row[ways],
        way_entry=way_entry[ways],
        way_first=_all(parts, "way_first", np.int64)[ways],
        way_stretches=_all(parts, "way_stretches", np.uint32)[ways],
    )


def _all(parts: Sequence[Counts], name: str, dtype: type) -> NDArray[Any]:
    return np.concatenate([np.zeros(0, dtype), *(getattr(part, name) for part in parts)])


def _shifted(parts: Sequence[Counts], name: str, of: str) -> I64:
    """Indices of all parts into what the parts have one after the other."""
    begins = np.cumsum([0, *(len(getattr(part, of)) for part in parts)])
    moved = [getattr(part, name) + begin for part, begin in zip(parts, begins.tolist(), strict=False)]
    return np.concatenate([np.zeros(0, np.int64), *moved])


def _summed(parts: Sequence[Counts], name: str, runs: str) -> tuple[U64, I64, I64]:
    """The distinct tokens of all parts, ascending, the place of each among them, and in how many runs each
    is."""
    tokens, place = np.unique(_all(parts, name, np.uint64), return_inverse=True)
    return tokens, place, _sums(place, _all(parts, runs, np.int64), len(tokens))


def _sums(place: I64, counts: I64, size: int) -> I64:
    sums = np.zeros(size, np.int64)
    np.add.at(sums, place, counts)
    return sums
