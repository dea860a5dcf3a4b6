"""What counts say of new transfers: which are new, and how much each weighs (see sequences/novelty.py).

When a run is left out, what it alone has shown is new. How often that happens is learnt from the counts
alone: the rate of a kind is the number of runs that, left out, bring something new of it. A run is scored
without itself by the same rates less its own part. So the scores of n nominal runs take no more than the
counts, and each run has no part in what it is compared with, but for one thing: what exactly it and one other
run have shown is not new in the other, either. That makes rates a little lower and scores a little higher
than those of a run that comes later: a threshold set by them errs towards fewer alarms.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from barnum._sequences import places_of
from barnum.digests.counts import Counts
from barnum.digests.digest import Digest
from barnum.evaluations.windows import WINDOW, worst_window
from barnum.sequences import FEW_RUNS
from barnum.sequences.novelty import Weigher
from barnum.sequences.rates import NewKinds, distinct_kinds, flags_of, module_pair

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]
Bool = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Showed:
    """What a run, or its beginning, showed: distinct transfers in the order in which they were first taken,
    and ways into the kernel; see Taken and Ways."""

    site: U64
    target: U64
    kind: NDArray[np.uint8]
    first: I64
    way: I64
    way_entry: U64
    way_first: I64


@dataclass(frozen=True, slots=True)
class New:
    """What is new in a run, in the order in which it came.

    ``row`` i64[n] is the row of each new transfer among those of the digest, ``weight`` f64[n] its novelty in
    nats; ``reached`` bool[n] tells whether nominal runs reached its target from elsewhere. ``position``
    i64[m], ascending, and ``weights`` f64[m] are the places (indices of transfers) and novelty of all that
    weighs, ways into the kernel included; ``source`` i64[m] are the rows of the new transfers that weigh, or
    that led into the kernel; ``way`` i64[m] is the row of the way among those of the digest, -1 where a
    transfer itself weighs.
    """

    row: I64
    weight: F64
    reached: Bool
    position: I64
    weights: F64
    source: I64
    way: I64

    @property
    def score(self) -> float:
        """The largest sum of novelty within WINDOW transfers."""
        return worst_window(self.position, self.weights, WINDOW)[0]

    @property
    def begin(self) -> int | None:
        """The row of the new transfer with which that window begins; None where nothing weighs."""
        at = worst_window(self.position, self.weights, WINDOW)[1]
        return None if at is None else int(self.source[at])


class Knowledge:
    """What n units know: runs, or stretches of runs where these are few."""

    def __init__(self, counts: Counts, without: int | None = None) -> None:
        """``without``: index of a run that is left out; only of few runs, which keep all that they showed."""
        self._counts = counts
        units = _runs(counts) if len(counts) >= FEW_RUNS else _stretches(counts, without)
        self._units = units
        # each with one more entry, for what was never seen
        self._site_targets = np.append(
            np.bincount(counts.edge_site[units.edge[:-1] > 0], minlength=len(counts.site)), 0
        )
        self._own = self._left_out()
        self.kinds = self._own.kinds

    @property
    def units(self) -> int:
        """Their number."""
        return self._units.count

    def new(self, digest: Digest, limit: int | None = None) -> New:
        """What is new in a run, or in its first ``limit`` transfers."""
        taken, ways = digest.taken, digest.ways
        # both are in the order of ``first``
        rows = slice(0, None if limit is None else int(np.searchsorted(taken.first, limit)))
        gone = slice(0, None if limit is None else int(np.searchsorted(ways.first, limit)))
        return self.new_in(
            Showed(
                site=taken.site[rows],
                target=taken.target[rows],
                kind=taken.kind[rows],
                first=taken.first[rows],
                way=ways.taken[gone].astype(np.int64),
                way_entry=ways.entry[gone],
                way_first=ways.first[gone],
            )
        )

    def new_in(self, run: Showed) -> New:
        """What is new in what a run showed."""
        units, counts = self._units, self._counts
        site, target = _find(counts.site, run.site), _find(counts.target, run.target)
        new = np.flatnonzero(units.edge[self._edge(site, target)] == 0)
        reached = units.target[target[new]] > 0
        weigher = Weigher(self.kinds)
        flags = weigher.flags(
            units.site[site[new]],
            self._site_targets[site[new]],
            reached,
            run.kind[new].astype(np.int64),
        )
        weight = weigher.weigh(module_pair(run.site[new], run.target[new]), flags)
        flags_of_row = np.full(len(run.site), -1)
        flags_of_row[new] = flags
        led = np.flatnonzero(flags_of_row[run.way] >= 0)
        led = led[np.argsort(run.way_first[led], kind="stable")]
        gone = weigher.weigh_ways(flags_of_row[run.way[led]], run.way_entry[led].view(np.int64))
        position = np.concatenate([run.first[new], run.way_first[led]])
        weights = np.concatenate([weight, gone])
        order = np.argsort(position, kind="stable")
        order = order[weights[order] > 0]
        source = np.concatenate([new, run.way[led]])
        way = np.concatenate([np.full(len(new), -1), led])
        return New(new, weight, reached, position[order], weights[order], source[order], way[order])

    def left_out(self) -> F64:
        """f64[n]: the score of each run, had it not been learnt. None for a single run."""
        runs = len(self._counts)
        if runs < 2:
            return np.zeros(0)
        if runs < FEW_RUNS:
            return np.array([_few(self._counts, run) for run in range(runs)])
        return self._own.scores(self._counts, runs)

    def _edge(self, site: I64, target: I64) -> I64:
        """i64[n]: the index of each transfer; that behind the last for one that was never seen."""
        counts = self._counts
        if not len(counts.edge_site):
            return np.zeros(len(site), np.int64)
        key = (counts.edge_site * (len(counts.target) + 1) + counts.edge_target).view(np.uint64)
        return _find(key, (site * (len(counts.target) + 1) + target).view(np.uint64))

    def _left_out(self) -> _Own:
        """What units bring when they are left out: that which they alone have shown."""
        counts, units = self._counts, self._units
        own = np.flatnonzero(units.edge[units.row_edge] == 1)
        edge, unit = units.row_edge[own], units.row_unit[own]
        site, target = counts.edge_site[edge], counts.edge_target[edge]
        # without the unit a site has only the targets that others led to
        pair, place = np.unique(unit * max(1, len(counts.site)) + site, return_inverse=True)
        brought = np.bincount(place, minlength=len(pair))[place]
        flags = flags_of(
            units.site[site] - 1,
            self._site_targets[site] - brought,
            units.target[target] > 1,
            counts.kind[edge].astype(np.int64),
            units.count - 1,
        )
        pairs = module_pair(counts.site[site], counts.target[target])
        kind, kind_units = distinct_kinds(pairs, flags, unit)
        flags_of_edge = np.full(len(units.edge) - 1, -1)
        flags_of_edge[edge] = flags
        way_flags = flags_of_edge[units.way_edge]
        led = np.flatnonzero(way_flags >= 0)
        entry = units.way_entry[led].view(np.int64)
        way, way_units = distinct_kinds(way_flags[led], entry, units.way_unit[led])
        kinds = NewKinds(units.count, kind, kind_units, way, way_units)
        return _Own(kinds, own, pairs, flags, led, way_flags[led], entry)


@dataclass(frozen=True, slots=True)
class _Units:
    """Counts over units: ``site`` i64[s + 1], ``target`` i64[t + 1] and ``edge`` i64[e + 1] in how many each
    was, with a 0 at the end for what was never seen; rows of transfers and of ways with their unit."""

    count: int
    site: I64
    target: I64
    edge: I64
    row_edge: I64
    row_unit: I64
    way_edge: I64
    way_unit: I64
    way_entry: U64


@dataclass(frozen=True, slots=True)
class _Own:
    """What each unit alone has shown: rows of transfers ``row`` i64[n], their pairs of modules and flags, and
    rows of ways ``way`` i64[m], their flags and entries."""

    kinds: NewKinds
    row: I64
    pair: I64
    flags: I64
    way: I64
    way_flags: I64
    entry: I64

    def scores(self, counts: Counts, runs: int) -> F64:
        """f64[runs]: the score of each run by the rates that all have, less its own part; units are runs."""
        run, first, weight = (
            np.concatenate(both)
            for both in zip(
                self._weighed(self.pair, self.flags, counts.row_run[self.row], counts.row_first[self.row]),
                self._weighed(
                    self.way_flags,
                    self.entry,
                    counts.row_run[counts.way_row[self.way]],
                    counts.way_first[self.way],
                ),
                strict=True,
            )
        )
        order = np.lexsort((first, run))
        run, first, weight = run[order], first[order], weight[order]
        begin = np.searchsorted(run, np.arange(runs + 1))
        scores = np.zeros(runs)
        for number in np.flatnonzero(np.diff(begin)).tolist():
            part = slice(begin[number], begin[number + 1])
            scores[number] = worst_window(first[part], weight[part], WINDOW)[0]
        return scores

    def _weighed(self, a: I64, b: I64, run: I64, first: I64) -> tuple[I64, I64, F64]:
        """Run, place and novelty of each first (a, b) of a run, which is new in as many units as have it."""
        order = np.lexsort((first, b, a, run))
        a, b, run, first = a[order], b[order], run[order], first[order]
        new = np.ones(len(a), np.bool_)
        new[1:] = (a[1:] != a[:-1]) | (b[1:] != b[:-1]) | (run[1:] != run[:-1])
        a, b, run, first = a[new], b[new], run[new], first[new]
        # in how many runs each (a, b) is new; this one is among them
        by_key = np.lexsort((b, a))
        start = np.ones(len(a), np.bool_)
        start[1:] = (np.diff(a[by_key]) != 0) | (np.diff(b[by_key]) != 0)
        group = np.cumsum(start) - 1
        units = np.empty(len(a), np.int64)
        units[by_key] = np.bincount(group)[group] if len(group) else 0
        return run, first, -np.log((units - 0.5) / self.kinds.units)


def _runs(counts: Counts) -> _Units:
    """Units that are runs."""
    row_edge = counts.row_edge
    return _Units(
        count=len(counts),
        site=np.append(counts.site_runs, 0),
        target=np.append(counts.target_runs, 0),
        edge=np.append(counts.edge_runs, 0),
        row_edge=row_edge,
        row_unit=counts.row_run,
        way_edge=row_edge[counts.way_row],
        way_unit=counts.row_run[counts.way_row],
        way_entry=counts.way_entry,
    )


def _stretches(counts: Counts, without: int | None) -> _Units:
    """Units that are stretches of runs, of which all rows are kept."""
    kept = np.ones(len(counts), np.bool_)
    if without is not None:
        kept[without] = False
    row, stretch = _bits(counts.row_stretches)
    row, stretch = _of_kept(kept, counts.row_run, row, stretch)
    unit = counts.row_run[row] * 32 + stretch
    edge = counts.row_edge[row]
    way, way_stretch = _bits(counts.way_stretches)
    way, way_stretch = _of_kept(kept, counts.row_run[counts.way_row], way, way_stretch)
    way_row = counts.way_row[way]
    return _Units(
        count=int(counts.stretches[kept].sum()),
        site=_units_of(counts.edge_site[edge], unit, len(counts.site)),
        target=_units_of(counts.edge_target[edge], unit, len(counts.target)),
        edge=_units_of(edge, unit, len(counts.edge_site)),
        row_edge=edge,
        row_unit=unit,
        way_edge=counts.row_edge[way_row],
        way_unit=counts.row_run[way_row] * 32 + way_stretch,
        way_entry=counts.way_entry[way],
    )


def _bits(masks: NDArray[np.uint32]) -> tuple[I64, I64]:
    """Row and number of each bit that is set."""
    bits = (masks[:, None] >> np.arange(32, dtype=np.uint32)) & np.uint32(1)
    row, bit = np.nonzero(bits)
    return row, bit


def _of_kept(kept: Bool, run: I64, row: I64, stretch: I64) -> tuple[I64, I64]:
    keep = kept[run[row]]
    return row[keep], stretch[keep]


def _units_of(number: I64, unit: I64, size: int) -> I64:
    """i64[size + 1]: in how many units each number is; 0 at the end."""
    # of few runs: there are no more units
    pairs = np.unique(number * (FEW_RUNS * 32) + unit)
    return np.bincount(pairs // (FEW_RUNS * 32), minlength=size + 1)


def _find(known: U64, tokens: U64) -> I64:
    """i64[n]: the place of each token among the known ones, ascending; len(known) where it is not there."""
    at = places_of(known, tokens)
    there = at < len(known)
    there[there] = known[at[there]] == tokens[there]
    return np.where(there, at, len(known))


def _few(counts: Counts, run: int) -> float:
    """The score of one of few runs, by what the others know."""
    rows = np.flatnonzero(counts.row_run == run)
    rows = rows[np.argsort(counts.row_first[rows])]
    place = np.full(len(counts.row_run), -1)
    place[rows] = np.arange(len(rows))
    ways = np.flatnonzero(place[counts.way_row] >= 0)
    edge = counts.row_edge[rows]
    return (
        Knowledge(counts, without=run)
        .new_in(
            Showed(
                site=counts.site[counts.edge_site[edge]],
                target=counts.target[counts.edge_target[edge]],
                kind=counts.kind[edge],
                first=counts.row_first[rows],
                way=place[counts.way_row[ways]],
                way_entry=counts.way_entry[ways],
                way_first=counts.way_first[ways],
            )
        )
        .score
    )
