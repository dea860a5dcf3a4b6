"""How much of a surprise a run's new transfers are, given what new transfers nominal runs show.

A harmless run with a rare feature takes hundreds of transfers that no training run took, an attack a few
dozen; so they are not counted. Each is of a *kind*: the modules of its site and of its target, return,
indirect call or jump, whether the target was known, and whether the site was unknown, known, or settled
(nearly all training runs executed it, and it led to few targets). How often nominal runs bring something new
of a kind is learnt by leaving each training run out in turn (Good-Turing; see rates.py). The first new
transfer of a kind in a run has the novelty

    -ln((units that, left out, bring something new of this kind + 1/2) / (units + 1))    nats,

and everything else has 0. So a rendering feature with its hundred new transfers inside one library costs
little; a new return from a settled site of libc, or the first call into a part of it that no run used, costs
much. A run's score is the largest sum within WINDOW transfers, for attacks are concentrated.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from barnum.paths import Transfers
from barnum.sequences.edges import Edges, RunEdges
from barnum.sequences.rates import Knowledge, Rates, Rows, flags_of, module_pair
from barnum.sequences.tokens import WHOLE
from barnum.sequences.vocabulary import Encoded, Vocabulary

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

# transfers in the window that a run's score is the worst of
WINDOW = 500
# with fewer training runs than this their stretches stand for runs
FEW_RUNS = 16
# refits for calibration: with more runs several are left out together
_MAX_FOLDS = 64


def units_of(runs: Sequence[RunEdges]) -> tuple[list[Edges], I64]:
    """What is left out one at a time (runs, or stretches where runs are few), and i64[units] which run each
    is of."""
    if len(runs) >= FEW_RUNS:
        return [run.whole for run in runs], np.arange(len(runs))
    units = [stretch for run in runs for stretch in run.stretches]
    return units, np.repeat(np.arange(len(runs)), [len(run.stretches) for run in runs])


def fit_novelty(vocabulary: Vocabulary, runs: Sequence[RunEdges]) -> tuple[Rates, F64]:
    """Rates for RunNovelty, and the calibration: each training run's score under rates from the other runs.

    f64[runs], or f64[0] for a single run. As those rates come from fewer runs, the scores are a little
    higher than a nominal run's under the whole model: a threshold set by them errs towards fewer alarms.
    """
    units, owner = units_of(runs)
    rows = Rows.of(vocabulary, units)
    rates = Knowledge.fit(vocabulary, rows, len(units)).rates
    folds = min(len(runs), _MAX_FOLDS)
    scores = np.zeros(len(runs) if folds > 1 else 0)
    for fold in range(folds if folds > 1 else 0):
        kept = owner % folds != fold
        rest = Knowledge.fit(vocabulary, rows.chosen(kept), int(kept.sum()))
        for run in range(fold, len(runs), folds):
            scores[run] = _left_out_score(vocabulary, rest, runs[run].whole)
    return rates, scores


def _left_out_score(vocabulary: Vocabulary, rest: Knowledge, run: Edges) -> float:
    rows = Rows.of(vocabulary, [run])
    new = np.flatnonzero(rest.edge_units[rows.edge] == 0)
    new = new[np.argsort(run.first[new], kind="stable")]
    weights = Weigher(rest.rates).weigh(
        rest.site_units[rows.site[new]],
        rest.site_targets[rows.site[new]],
        rest.target_units[rows.target[new]] > 0,
        run.kind[new].astype(np.int64),
        run.site[new],
        run.target[new],
    )
    return worst_window(run.first[new], weights, WINDOW)


class RunNovelty:
    """Weighs the new transfers of one run as they come."""

    def __init__(self, vocabulary: Vocabulary, rates: Rates) -> None:
        # one more entry each for what was never seen
        self._site_units = np.append(vocabulary.site_runs.astype(np.int64), 0)
        self._site_targets = np.append(np.diff(vocabulary.site_first), 0)
        self._targets = len(vocabulary.target)
        self._weigher = Weigher(rates)

    def score(self, encoded: Encoded, transfers: Transfers) -> NDArray[np.float32]:
        """f32[m]: novelty in nats of the next m transfers of the run, given in both forms."""
        novelty = np.zeros(len(encoded), np.float32)
        new = np.flatnonzero(encoded.edge < 0)
        if not len(new):
            return novelty
        pair = (transfers.source[new].astype(np.int64) << 32) | transfers.target[new]
        _, at = np.unique(pair, return_index=True)
        where = new[np.sort(at)]
        source, target = transfers.source[where], transfers.target[where]
        novelty[where] = self._weigher.weigh(
            self._site_units[encoded.site[where]],
            self._site_targets[encoded.site[where]],
            encoded.target[where] < self._targets,
            transfers.blocks.kind[source].astype(np.int64),
            WHOLE.sites(transfers.blocks)[source],
            WHOLE.targets(transfers.blocks)[target],
        )
        return novelty


class Weigher:
    """Novelty by rates; remembers which kinds the run has shown."""

    def __init__(self, rates: Rates) -> None:
        self._units = int(rates.units[0])
        self._met: set[tuple[int, int]] = set()
        self._brought = {
            (int(pair), int(flags)): int(units)
            for (pair, flags), units in zip(rates.kind, rates.kind_units, strict=True)
        }

    def weigh(
        self,
        executed: I64,
        targets: I64,
        target_known: NDArray[np.bool_],
        kind: I64,
        site: NDArray[np.uint64],
        target: NDArray[np.uint64],
    ) -> F64:
        """f64[n]: novelty in nats of n more new transfers, in the order in which they occur.

        ``executed`` i64[n] units that executed the site, ``targets`` i64[n] its known targets, ``kind``
        i64[n] that of its instruction; tokens u64[n].
        """
        flags = flags_of(executed, targets, target_known, kind, self._units)
        weights = np.zeros(len(site))
        for i, key in enumerate(zip(module_pair(site, target).tolist(), flags.tolist(), strict=True)):
            if key not in self._met:
                self._met.add(key)
                weights[i] = -math.log((self._brought.get(key, 0) + 0.5) / (self._units + 1))
        return weights


def worst_window(position: I64, weights: F64, length: int) -> float:
    """Largest sum of weights f64[n] within ``length`` neighbouring places; position i64[n] ascends."""
    if not len(weights):
        return 0.0
    total = np.concatenate([[0.0], np.cumsum(weights)])
    end = np.searchsorted(position, position + length)
    return float((total[end] - total[:-1]).max())
