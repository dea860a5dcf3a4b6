"""How surprising the new transfers of a run are, compared with the new transfers that nominal runs bring.

A harmless run with a rare feature takes hundreds of transfers that no training run took, an attack a few
dozen; so their number says little. Each is of a *kind*: the modules of its site and of its target; return,
indirect call or jump; whether the target was known; and whether the site was unknown, known, or settled
(nearly all training runs executed it, and it led to few targets). How often nominal runs bring something new
of a kind is learnt by leaving each training run out in turn (Good-Turing; see rates.py). The first new
transfer of a kind in a run has the novelty

    -ln((units that, left out, bring something new of this kind + 1/2) / (units + 1))    nats,

and all other transfers have 0. What a new transfer leads to counts as well. If the kernel is entered at most
REACH transfers later, the two make a *way*: the kind of the transfer without its modules, and the block by
which the kernel is entered. The first time that a run takes a way, the novelty of the way, by the same
formula, is added at the transfer after the entry. So a rendering feature with a hundred new transfers inside
one library costs little. A new return from a settled site of libc, or the first call into a part of it that
no run used, costs much; and new code that goes on to read a file costs much more than new code that computes.
A run's score is the largest sum within WINDOW transfers, as attacks are concentrated.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from barnum.evaluations.windows import WINDOW, worst_window
from barnum.paths import Transfers
from barnum.sequences.edges import REACH, Edges, Entries, RunEdges
from barnum.sequences.rates import Knowledge, NewKinds, Rates, Rows, flags_of, module_pair
from barnum.sequences.tokens import WHOLE
from barnum.sequences.vocabulary import Encoded, Vocabulary

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

# with fewer training runs than this, stretches of runs are left out instead of runs
FEW_RUNS = 16
# refits for calibration; with more runs, several are left out together
_MAX_FOLDS = 64


def units_of(runs: Sequence[RunEdges]) -> tuple[list[Edges], list[Entries], I64]:
    """The units that are left out one at a time: runs, or stretches of runs where these are few.

    Returns:
        The edges of each unit, its ways into the kernel, and i64[units] the index of the run that it is of.
    """
    if len(runs) >= FEW_RUNS:
        return [run.whole for run in runs], [run.entries for run in runs], np.arange(len(runs))
    units = [stretch for run in runs for stretch in run.stretches]
    entries = [stretch for run in runs for stretch in run.stretch_entries]
    return units, entries, np.repeat(np.arange(len(runs)), [len(run.stretches) for run in runs])


def fit_novelty(vocabulary: Vocabulary, runs: Sequence[RunEdges]) -> tuple[Rates, F64]:
    """Learn the rates for RunNovelty, and calibrate them.

    Args:
        vocabulary: learnt from the units of these runs.
        runs: the training runs.

    Returns:
        The rates, and the calibration f64[runs]: the score of each training run under rates from other runs
        (empty for a single run). As those rates come from fewer runs, these scores are a little higher than
        those of nominal runs under all rates: a threshold set by them errs towards fewer alarms.
    """
    units, entries, owner = units_of(runs)
    rows = Rows.of(vocabulary, units, entries)
    rates = Knowledge.fit(vocabulary, rows, len(units)).rates
    folds = min(len(runs), _MAX_FOLDS)
    scores = np.zeros(len(runs) if folds > 1 else 0)
    for fold in range(folds if folds > 1 else 0):
        kept = owner % folds != fold
        rest = Knowledge.fit(vocabulary, rows.chosen(kept), int(kept.sum()))
        for run in range(fold, len(runs), folds):
            scores[run] = _left_out_score(vocabulary, rest, runs[run])
    return rates, scores


def _left_out_score(vocabulary: Vocabulary, rest: Knowledge, run: RunEdges) -> float:
    rows = Rows.of(vocabulary, [run.whole], [run.entries])
    edges, entries = run.whole, run.entries
    new = np.flatnonzero(rest.edge_units[rows.edge] == 0)
    new = new[np.argsort(edges.first[new], kind="stable")]
    weigher = Weigher(rest.rates.new_kinds)
    flags = weigher.flags(
        rest.site_units[rows.site[new]],
        rest.site_targets[rows.site[new]],
        rest.target_units[rows.target[new]] > 0,
        edges.kind[new].astype(np.int64),
    )
    weights = weigher.weigh(module_pair(edges.site[new], edges.target[new]), flags)
    flags_of_edge = np.full(len(rest.edge_units), -1)
    flags_of_edge[rows.edge[new]] = flags
    led = np.flatnonzero(flags_of_edge[rows.way_edge] >= 0)
    led = led[np.argsort(entries.first[led], kind="stable")]
    ways = weigher.weigh_ways(flags_of_edge[rows.way_edge[led]], rows.entry[led])
    position = np.concatenate([edges.first[new], entries.first[led]])
    order = np.argsort(position, kind="stable")
    worst, _ = worst_window(position[order], np.concatenate([weights, ways])[order], WINDOW)
    return worst


class RunNovelty:
    """Weighs the new transfers of one run, part by part."""

    def __init__(self, vocabulary: Vocabulary, rates: Rates) -> None:
        # each with one more entry, for what was never seen
        self._site_units = np.append(vocabulary.site_runs.astype(np.int64), 0)
        self._site_targets = np.append(np.diff(vocabulary.site_first), 0)
        self._targets = len(vocabulary.target)
        self._weigher = Weigher(rates.new_kinds)
        # new transfers among the last REACH: how many transfers before the next part each is, and its flags
        self._ago: I64 = np.zeros(0, np.int64)
        self._flags: I64 = np.zeros(0, np.int64)

    def score(self, encoded: Encoded, transfers: Transfers) -> NDArray[np.float32]:
        """f32[m]: novelty in nats of the next m transfers of the run, ``encoded`` and as they are."""
        novelty = np.zeros(len(encoded), np.float32)
        new = np.flatnonzero(encoded.edge < 0)
        source, target = transfers.source[new], transfers.target[new]
        blocks = transfers.blocks
        flags = self._weigher.flags(
            self._site_units[encoded.site[new]],
            self._site_targets[encoded.site[new]],
            encoded.target[new] < self._targets,
            blocks.kind[source].astype(np.int64),
        )
        if len(new):
            sites, targets = WHOLE.sites(blocks), WHOLE.targets(blocks)
            pair = (source.astype(np.int64) << 32) | target
            at = np.sort(np.unique(pair, return_index=True)[1])
            modules = module_pair(sites[source[at]], targets[target[at]])
            novelty[new[at]] = self._weigher.weigh(modules, flags[at])
        self._add_ways(novelty, transfers, new, flags)
        return novelty

    def _add_ways(self, novelty: NDArray[np.float32], transfers: Transfers, new: I64, flags: I64) -> None:
        """Add the novelty of ways: new transfers that led into the kernel."""
        index = np.concatenate([-self._ago, new])
        flags = np.concatenate([self._flags, flags])
        count = len(transfers)
        entered = np.flatnonzero(transfers.entry >= 0) if len(index) else index
        if len(entered):
            # no way leads over a restart
            begin = np.maximum.accumulate(np.where(transfers.first, np.arange(count), -REACH))[entered]
            low = np.searchsorted(index, np.maximum(entered - REACH, begin))
            high = np.searchsorted(index, entered)
            entered, low, high = (array[high > low] for array in (entered, low, high))
            token = WHOLE.sites(transfers.blocks)[transfers.entry[entered]].view(np.int64)
            for row, way, a, b in zip(
                entered.tolist(), token.tolist(), low.tolist(), high.tolist(), strict=True
            ):
                novelty[row] += self._weigher.weigh_ways(flags[a:b], np.full(b - a, way)).sum()
        restarts = np.flatnonzero(transfers.first)
        kept = index >= max(count - REACH, int(restarts[-1]) if len(restarts) else -REACH)
        self._ago, self._flags = count - index[kept], flags[kept]


class Weigher:
    """Novelty by rates; remembers which kinds and ways the run has shown."""

    def __init__(self, rates: NewKinds) -> None:
        self._units = rates.units
        self._kinds_seen: set[tuple[int, int]] = set()
        self._ways_seen: set[tuple[int, int]] = set()
        self._units_of_kind = _counted(rates.kind, rates.kind_units)
        self._units_of_way = _counted(rates.way, rates.way_units)

    def flags(self, executed: I64, targets: I64, target_known: NDArray[np.bool_], kind: I64) -> I64:
        """i64[n]: the flags of n new transfers (see flags_of()).

        ``executed`` i64[n] is the number of units that executed the site, ``targets`` i64[n] the number of
        its known targets, ``target_known`` bool[n] whether the target was known, ``kind`` i64[n] the kind of
        the site's instruction.
        """
        return flags_of(executed, targets, target_known, kind, self._units)

    def weigh(self, pair: I64, flags: I64) -> F64:
        """f64[n]: novelty in nats of the next n new transfers, in order, from ``pair`` i64[n] (module_pair())
        and ``flags`` i64[n]."""
        return self._weigh(pair, flags, self._kinds_seen, self._units_of_kind)

    def weigh_ways(self, flags: I64, entry: I64) -> F64:
        """f64[n]: novelty in nats of the next n ways into the kernel, in order, from ``flags`` i64[n] of the
        new transfer and ``entry`` i64[n], the token of the block by which the kernel was entered."""
        return self._weigh(flags, entry, self._ways_seen, self._units_of_way)

    def _weigh(
        self, first: I64, second: I64, seen: set[tuple[int, int]], units_of: dict[tuple[int, int], int]
    ) -> F64:
        """The novelty of keys (first, second) that the run has not shown yet, 0 for all others."""
        weights = np.zeros(len(first))
        for i, key in enumerate(zip(first.tolist(), second.tolist(), strict=True)):
            if key not in seen:
                seen.add(key)
                weights[i] = -math.log((units_of.get(key, 0) + 0.5) / (self._units + 1))
        return weights


def _counted(keys: I64, units: I64) -> dict[tuple[int, int], int]:
    return {(int(a), int(b)): int(count) for (a, b), count in zip(keys, units, strict=True)}
