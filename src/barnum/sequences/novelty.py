"""How much of a surprise a run's new transfers are, given what new transfers nominal runs show.

A harmless run with a rare feature takes hundreds of transfers that no training run took; most leave sites that are
unsettled anyway, or lie inside code that is new as a whole. So each new transfer is weighed by what the training
runs bring that is new when each is left out in turn (Good-Turing, pooled; see rates.py):

*Escape.* -ln P(a further run shows a new target at such a site), for sites like this one: executed by as many
training runs, with as many known targets. Counted once a site and run.

*Kind.* New transfers are told apart by the modules of site and target and by whether site and target were known.
The 2^j-th new transfer of a kind adds -ln P(a run brings 2^j of them | it brings 2^(j-1)). So a rendering feature
with its hundred new transfers inside one library costs little; the first call into a part of libc that no training
run used costs much.

The novelty of a transfer is the sum of both in nats; it is 0 for what training has seen, and for what the same run
repeats. A run's score is the largest sum within WINDOW transfers, for attacks are concentrated.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from barnum.paths import Transfers
from barnum.sequences.edges import Edges, RunEdges, site_tokens, target_tokens
from barnum.sequences.rates import LEVELS, Knowledge, Rates, Rows, module_pair
from barnum.sequences.vocabulary import Encoded, Vocabulary

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

# transfers in the window that a run's score is the worst of
WINDOW = 1000
# with fewer training runs than this their stretches stand for runs
FEW_RUNS = 16
# refits for calibration: with more runs several are left out together
_MAX_FOLDS = 64


def units_of(runs: Sequence[RunEdges]) -> tuple[list[Edges], I64]:
    """What is left out one at a time (runs, or stretches where runs are few), and i64[units] which run each is of."""
    if len(runs) >= FEW_RUNS:
        return [run.whole for run in runs], np.arange(len(runs))
    units = [stretch for run in runs for stretch in run.stretches]
    return units, np.repeat(np.arange(len(runs)), [len(run.stretches) for run in runs])


def fit_novelty(vocabulary: Vocabulary, runs: Sequence[RunEdges]) -> tuple[Rates, F64]:
    """Rates for RunNovelty, and the calibration: each training run's score under rates from the other runs.

    f64[runs], or f64[0] for a single run. As those rates come from fewer runs, the scores are a little higher than
    a nominal run's under the whole model: a threshold set by them errs towards fewer alarms.
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
        self._met: set[int] = set()

    def score(self, encoded: Encoded, transfers: Transfers) -> NDArray[np.float32]:
        """f32[m]: novelty in nats of the next m transfers of the run, given in both forms."""
        novelty = np.zeros(len(encoded), np.float32)
        new = np.flatnonzero(encoded.edge < 0)
        if not len(new):
            return novelty
        pair = (transfers.source[new].astype(np.int64) << 32) | transfers.target[new]
        _, at = np.unique(pair, return_index=True)
        at.sort()
        # one site may have several blocks: two pairs of blocks can be one transfer, met once or twice
        site = site_tokens(transfers.blocks)[transfers.source[new[at]]]
        target = target_tokens(transfers.blocks)[transfers.target[new[at]]]
        fresh = []
        for i, key in enumerate(zip(site.tolist(), target.tolist(), strict=True)):
            if (joined := key[0] << 64 | key[1]) not in self._met:
                self._met.add(joined)
                fresh.append(i)
        where = new[at[fresh]]
        novelty[where] = self._weigher.weigh(
            self._site_units[encoded.site[where]],
            self._site_targets[encoded.site[where]],
            encoded.target[where] < self._targets,
            site[fresh],
            target[fresh],
        )
        return novelty


class Weigher:
    """Novelty by rates; remembers which sites and how many of each kind the run has shown."""

    def __init__(self, rates: Rates) -> None:
        self._rates = rates
        self._sites: set[int] = set()
        self._brought: dict[tuple[int, int], int] = {}
        self._known = {
            (int(pair), int(flags)): units
            for (pair, flags), units in zip(rates.kind, rates.kind_units, strict=True)
        }

    def weigh(
        self,
        executed: I64,
        targets: I64,
        target_known: NDArray[np.bool_],
        site: NDArray[np.uint64],
        target: NDArray[np.uint64],
    ) -> F64:
        """f64[n]: novelty in nats of n more distinct new transfers, in the order in which they first occur.

        ``executed`` i64[n] units that executed the site, ``targets`` i64[n] its known targets; tokens u64[n].
        """
        escape = -np.log(self._rates.escape[self._rates.cell(executed, targets)])
        flags = (executed > 0) + 2 * target_known.astype(np.int64)
        kinds = zip(module_pair(site, target).tolist(), flags.tolist(), strict=True)
        weights = np.zeros(len(site))
        for i, (token, kind) in enumerate(zip(site.tolist(), kinds, strict=True)):
            # at a site that training never met a new target is no news
            if executed[i] and token not in self._sites:
                weights[i] = escape[i]
            self._sites.add(token)
            self._brought[kind] = nth = self._brought.get(kind, 0) + 1
            if nth & (nth - 1) == 0 and nth.bit_length() <= LEVELS:
                weights[i] += self._news_of_kind(kind, nth.bit_length() - 1)
        return weights

    def _news_of_kind(self, kind: tuple[int, int], level: int) -> float:
        brought = self._known.get(kind)
        if brought is None:
            # no unit brings any: only the first is news, for then nothing is known of how many there are
            return -math.log(0.5 / (int(self._rates.units[0]) + 1)) if level == 0 else 0.0
        before = brought[level - 1] + 0.5 if level else self._rates.units[0] + 1.0
        return max(0.0, -math.log((brought[level] + 0.5) / before))


def worst_window(position: I64, weights: F64, length: int) -> float:
    """Largest sum of weights f64[n] within ``length`` neighbouring places; position i64[n] ascends."""
    if not len(weights):
        return 0.0
    total = np.concatenate([[0.0], np.cumsum(weights)])
    end = np.searchsorted(position, position + length)
    return float((total[end] - total[:-1]).max())
