"""Scores every transfer of a run under the causal network, in order.

A run is cut into lanes of LANE transfers that are scored side by side. Each lane first steps through the
WARM transfers before it, so that its state is that of the run; what is scored depends neither on batches nor
on threads.

The probability of what happened, given site s and history:

    p(y) = (1 - share(s)) · p_network(rank of y | history)    where training saw s lead to y
    p(y) = share(s) · q(y)                                    otherwise; share = 1 at a site never seen
    q(y) = (1 - unseen) · (sites that led to y) / E           for a target that training saw
    q(y) = unseen                                             for all targets it never saw, together

``share`` is the share of transfers that left-out training runs send from such sites to a new target for the
first time (pooled, see sequences/rates.py), ``unseen`` the share of new transfers that go to never-seen
targets. Where the network's last rank stands for several targets, they share its probability by their
counts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from barnum.models.causal import Causal
from barnum.models.threads import pool
from barnum.sequences import Encoded, Rates, Vocabulary, previous_targets

LANE = 1024
WARM = 64
# lanes that one thread steps at a time
_SHARD = 256
# fewer lanes than this are not shared out
_WORTH_TWO = 32
# steps between two looks at the softmax
_BLOCK = 32

F32 = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Scores:
    """m predictions. ``predicted`` u64[m] BBID of the likeliest target, ``confidence`` f32[m] its
    probability, ``correct`` bool[m], ``surprisal`` f32[m] in nats: -ln p of what happened."""

    predicted: NDArray[np.uint64]
    confidence: F32
    correct: NDArray[np.bool_]
    surprisal: F32


class Scorer:
    """A trained network with its vocabulary and rates, ready to score runs."""

    def __init__(self, network: Causal, vocabulary: Vocabulary, rates: Rates) -> None:
        config = network.config
        size = config.embedding
        network.eval()
        with torch.no_grad():
            weights = network.gru.state_dict()
            into, bias = weights["weight_ih_l0"], weights["bias_ih_l0"]
            # what a site and a previous target add to the gates: tables instead of products
            self._from_site = (network.site.weight @ into[:, :size].T + bias).contiguous()  # [S + 1, 3U]
            self._from_previous = (network.previous.weight @ into[:, size:].T).contiguous()  # [T + 2, 3U]
            self._recurrent = weights["weight_hh_l0"].T.contiguous()  # [U, 3U]
            self._bias = weights["bias_hh_l0"].clone()
            self._network = network
        self._units = config.units
        self._ranks = config.ranks
        self._none = config.targets + 1
        self._vocabulary = vocabulary
        self._rank = np.minimum(vocabulary.edge_rank, config.ranks - 1)
        self._within = _within_rank(vocabulary, config.ranks).astype(np.float32)
        cell = rates.cell(vocabulary.site_runs.astype(np.int64), np.diff(vocabulary.site_first))
        share = rates.share[cell]
        self._keep = np.log1p(-np.minimum(share, 1 - 1e-9)).astype(np.float32)
        self._escape = np.append(np.log(share), 0.0).astype(np.float32)
        unseen = float(rates.unseen[0])
        led = np.bincount(vocabulary.edge_target, minlength=len(vocabulary.target))
        known = np.log(max(1 - unseen, 1e-9)) + np.log(led / led.sum())
        self._fresh = np.append(known, np.log(unseen)).astype(np.float32)
        self._likeliest = int(led.argmax())

    def score(
        self, run: Encoded, warm: Encoded | None, threads: int, advance: Callable[[int], None]
    ) -> Scores:
        """Score m transfers; ``warm`` holds the WARM transfers before them, where there are any."""
        before = 0 if warm is None else len(warm)
        whole = run if warm is None else _joined(warm, run)
        previous = previous_targets(whole, self._none)
        actual = np.where(whole.edge >= 0, self._rank[whole.edge], 0)
        count = len(run)
        starts = np.arange(before, before + count, LANE)
        chosen = np.zeros(count, np.int64)  # likeliest rank
        best = np.zeros(count, np.float32)  # its log probability
        took = np.zeros(count, np.float32)  # that of the actual rank
        # how lanes are shared out depends on nothing but their number, lest sums of floats differ
        pieces = max(-(-len(starts) // _SHARD), 2 if len(starts) >= _WORTH_TWO else 1)
        shards = np.array_split(starts, pieces)

        def work(shard: NDArray[np.int64]) -> int:
            lane = shard[:, None] + np.arange(-WARM, LANE)  # [N, WARM + LANE]
            outside = (lane < 0) | (lane >= len(whole))
            lane = np.clip(lane, 0, len(whole) - 1)
            s = whole.site[lane].astype(np.int64)
            p = np.where(outside, self._none, previous[lane]).astype(np.int64)
            a = actual[lane].astype(np.int64)
            steps = [torch.from_numpy(np.ascontiguousarray(each.T)) for each in (s, p, a)]
            likeliest, log_best, log_took = self._step_through(*steps)  # [LANE, N] each
            places = lane[:, WARM:].T - before
            real = ~outside[:, WARM:].T
            chosen[places[real]] = likeliest[real]
            best[places[real]] = log_best[real]
            took[places[real]] = log_took[real]
            done = int(real.sum())
            advance(done)
            return done

        if threads > 1 and len(shards) > 1:
            with pool(threads) as workers:
                list(workers.map(work, shards))
        else:
            for shard in shards:
                work(shard)
        return self._combine(run, chosen, best, took)

    @torch.inference_mode()
    def _step_through(
        self, site: Tensor, previous: Tensor, actual: Tensor
    ) -> tuple[NDArray[np.int64], F32, F32]:
        """Likeliest rank, its log probability and that of the actual rank, of all steps after WARM."""
        length, lanes = site.shape
        units = self._units
        restart = previous == self._none
        restarts = restart.any(dim=1).tolist()
        h = torch.zeros(lanes, units)
        kept = torch.empty(_BLOCK, lanes, units)
        likeliest = np.empty((length - WARM, lanes), np.int64)
        log_best = np.empty((length - WARM, lanes), np.float32)
        log_took = np.empty((length - WARM, lanes), np.float32)
        for t in range(length):
            if restarts[t]:
                h = h.masked_fill(restart[t].unsqueeze(1), 0.0)
            gates = self._from_site[site[t]]  # [N, 3U]: reset, update, new
            gates += self._from_previous[previous[t]]
            back = torch.addmm(self._bias, h, self._recurrent)
            both = (gates[:, : 2 * units] + back[:, : 2 * units]).sigmoid_()
            new = torch.addcmul(gates[:, 2 * units :], both[:, :units], back[:, 2 * units :]).tanh_()
            h = torch.lerp(new, h, both[:, units:])
            kept[t % _BLOCK] = h
            if t % _BLOCK == _BLOCK - 1 and t >= WARM:
                block = slice(t - _BLOCK + 1, t + 1)
                log_p = torch.log_softmax(self._network.head(kept, site[block]), dim=2)
                top, index = log_p.max(dim=2)
                out = slice(block.start - WARM, block.stop - WARM)
                likeliest[out], log_best[out] = index.numpy(), top.numpy()
                log_took[out] = log_p.gather(2, actual[block].unsqueeze(2)).squeeze(2).numpy()
        return likeliest, log_best, log_took

    def _combine(self, run: Encoded, chosen: NDArray[np.int64], best: F32, took: F32) -> Scores:
        vocabulary = self._vocabulary
        known_site = run.site < len(vocabulary.site)
        known_edge = run.edge >= 0
        site = np.where(known_site, run.site, 0)
        edge = vocabulary.site_first[site] + np.minimum(chosen, np.diff(vocabulary.site_first)[site] - 1)
        predicted = np.where(known_site, vocabulary.edge_target[edge], self._likeliest)
        log_confidence = np.where(
            known_site, best + self._within[edge] + self._keep[site], self._fresh[self._likeliest]
        )
        log_p = np.where(
            known_edge,
            took + self._within[run.edge] + self._keep[site],
            self._escape[run.site] + self._fresh[run.target],
        )
        return Scores(
            predicted=vocabulary.target[predicted],
            confidence=np.exp(log_confidence).astype(np.float32),
            correct=predicted == run.target,
            surprisal=np.maximum(-log_p, 0).astype(np.float32),
        )


def last_of(run: Encoded, warm: Encoded | None) -> Encoded:
    """The WARM transfers before what follows a run."""
    whole = run if warm is None or len(run) >= WARM else _joined(warm, run)
    return Encoded(whole.site[-WARM:], whole.target[-WARM:], whole.edge[-WARM:], whole.first[-WARM:])


def _joined(a: Encoded, b: Encoded) -> Encoded:
    return Encoded(
        np.concatenate([a.site, b.site]),
        np.concatenate([a.target, b.target]),
        np.concatenate([a.edge, b.edge]),
        np.concatenate([a.first, b.first]),
    )


def _within_rank(vocabulary: Vocabulary, ranks: int) -> NDArray[np.float64]:
    """f64[E]: logarithm of an edge's share of its rank; 0 but where the last rank stands for several
    edges."""
    rank = np.minimum(vocabulary.edge_rank, ranks - 1)
    group = vocabulary.edge_site.astype(np.int64) * ranks + rank
    weight = vocabulary.edge_count + 0.5
    total = np.bincount(group, weight, minlength=len(vocabulary.site) * ranks)
    share: NDArray[np.float64] = np.log(weight / total[group])
    return share
