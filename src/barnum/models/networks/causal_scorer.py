"""Scores every transfer of a run under the causal network, in order.

The probability of what happened, given site s and history:

    p(y) = (1 - share(s)) · p_network(rank of y | history)    where training saw s lead to y
    p(y) = share(s) · q(y)                                    otherwise; share = 1 at a site never seen
    q(y) = (1 - unseen) · (sites that led to y) / E           for a target that training saw
    q(y) = unseen                                             for all targets it never saw, together

``share`` is the smaller of two: the share of transfers that left-out training runs send from such sites to a
new target for the first time (pooled, see sequences/rates.py), and the share of new ones after a context as
long and as sure as the longest that is known. ``unseen`` is the share of new transfers that go to never-seen
targets. A site with one known target has no context of its own and takes the share of the last that had one.
Where the network's last rank stands for several targets, they share its probability by their
counts.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from barnum._causal import Scorer
from barnum.models.networks.causal_config import CausalConfig, cells_of, multi_sites
from barnum.models.networks.kind import Network
from barnum.models.networks.predictions import F32, Scores, check_finite
from barnum.sequences import (
    LONGEST,
    Encoded,
    History,
    Rates,
    Vocabulary,
    decode_edges,
    previous_targets,
)

# transfers that one thread scores at a time
_PIECE = 1 << 15
_PART = 1 << 20

I32 = NDArray[np.int32]


class CausalScorer:
    """A learnt network with its vocabulary, rates and memory u32[n] of contexts, ready to score runs."""

    def __init__(
        self, network: Network, vocabulary: Vocabulary, rates: Rates, memory: NDArray[np.uint32]
    ) -> None:
        config: CausalConfig = network.config
        self._none = config.targets + 1
        self._vocabulary = vocabulary
        self._multi = multi_sites(vocabulary)
        self._rank = np.minimum(vocabulary.edge_rank, config.ranks - 1)
        self._history = History(vocabulary, config.ranks, config.lengths)
        for begin in range(0, len(memory), _PART):
            before = min(LONGEST, begin)
            self._history.add(decode_edges(memory[begin - before : begin + _PART], vocabulary), before)
        self._within = _within_rank(vocabulary, config.ranks).astype(np.float32)
        width = np.diff(vocabulary.site_first)
        several = np.ones(config.sites, np.int32)  # there is one where no site has
        several[: int((width > 1).sum())] = width[width > 1]
        tables = network.arrays()
        self._network = Scorer(
            site=tables["site.weight"],
            previous=tables["previous.weight"],
            gate=tables["gate.weight"],
            out_weight=tables["out.weight"],
            out_bias=tables["out.bias"],
            sure=tables["sure.weight"].ravel(),
            further_sure=tables["further_sure.weight"].ravel(),
            strength=tables["strength.weight"].ravel(),
            prior=tables["prior"],
            width=several,
        )
        cell = rates.cell(vocabulary.site_runs.astype(np.int64), width)
        share = rates.share[cell]
        self._of_context = tables["escape"]
        self._escape = np.append(np.log(share), 0.0).astype(np.float32)
        unseen = float(rates.unseen[0])
        led = np.bincount(vocabulary.edge_target, minlength=len(vocabulary.target))
        known = np.log(max(1 - unseen, 1e-9)) + np.log(led / led.sum())
        self._fresh = np.append(known, np.log(unseen)).astype(np.float32)
        self._likeliest = int(led.argmax())

    def score(
        self, run: Encoded, warm: Encoded | None, threads: int, asked: tuple[I32, I32] | None = None
    ) -> Scores:
        """Score m transfers; ``warm`` holds the transfers before them (LONGEST are looked at), where there
        are any. ``asked`` i32[m], i32[m] are targets and edges whose probability is wanted beside that of
        the actual ones."""
        before = 0 if warm is None else len(warm)
        whole = run if warm is None else Encoded.join([warm, run])
        chosen = np.zeros(len(run), np.int64)  # likeliest rank
        best = np.zeros(len(run), np.float32)  # its log probability
        took = np.zeros(len(run), np.float32)  # that of the actual rank
        wished = np.zeros(len(run), np.float32)  # that of the rank asked for
        # logarithm of the chance of something new: of the site, or of the context where one is known
        escape = self._escape[run.site]

        def work(begin: int) -> None:
            end = min(begin + _PIECE, len(run))
            back = min(LONGEST, before + begin)
            part = whole.part(before + begin - back, before + end)
            wanted = self._history.wanted(part)
            wanted[:back] = False
            at = begin + np.flatnonzero(wanted) - back
            wish = None if asked is None else asked[1][at]
            chosen[at], best[at], took[at], wished[at], of_context = self._rows(part, wanted, wish)
            # what has no context of its own (one target is known) is judged by the last that had one
            last = np.cumsum(wanted) - 1
            near = last >= np.maximum.accumulate(np.where(part.first, last + ~wanted, 0))
            near[:back] = False
            around = np.flatnonzero(near)
            here = begin + around - back
            known = run.site[here] < len(self._vocabulary.site)
            escape[here[known]] = np.minimum(escape[here], of_context[last[around]])[known]

        starts = range(0, len(run), _PIECE)
        if threads > 1 and len(starts) > 1:
            with ThreadPoolExecutor(threads) as workers:
                list(workers.map(work, starts))
        else:
            for start in starts:
                work(start)
        stays = np.log1p(-np.minimum(np.exp(escape.astype(np.float64)), 1 - 1e-9))
        scores = self._combine(run, chosen, best, took, escape, stays)
        if asked is not None:
            log_p = np.minimum(self._log_p(*asked, wished, escape, stays), 0)
            scores = replace(scores, asked=log_p.astype(np.float32))
            check_finite(log_p)
        check_finite(scores.confidence, scores.surprisal)
        return scores

    def _rows(
        self, part: Encoded, wanted: NDArray[np.bool_], asked: I32 | None
    ) -> tuple[NDArray[np.uint8], F32, F32, F32 | float, F32]:
        """Likeliest rank, its log probability, that of the actual rank, that of the rank of edges ``asked``
        for (else 0), and of something new by the context, of the wanted transfers."""
        hints = self._history.look_up(part, wanted)
        edges = [part.edge[wanted]] if asked is None else [part.edge[wanted], asked]
        likeliest, best, log_p = self._network.score(
            self._multi[part.site[wanted]],
            previous_targets(part, self._none)[wanted],
            **hints.arrays(),
            asked=np.stack([self._ranks(edge) for edge in edges], axis=1),
        )
        wished = 0.0 if asked is None else log_p[:, 1]
        escape = self._of_context[cells_of(hints.level, hints.reach)]
        return likeliest, best, log_p[:, 0], wished, escape

    def _ranks(self, edge: I32) -> NDArray[np.uint8]:
        return np.where(edge >= 0, self._rank[edge], 0).astype(np.uint8)

    def _log_p(
        self, target: I32, edge: I32, took: F32, escape: F32, stays: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Logarithm of the probability of m targets, by that of the edges' ranks, of something new and of
        nothing new."""
        log_p: NDArray[np.float64] = np.where(
            edge >= 0, took + self._within[edge] + stays, escape + self._fresh[target]
        )
        return log_p

    def _combine(
        self,
        run: Encoded,
        chosen: NDArray[np.int64],
        best: F32,
        took: F32,
        escape: F32,
        stays: NDArray[np.float64],
    ) -> Scores:
        vocabulary = self._vocabulary
        known_site = run.site < len(vocabulary.site)
        site = np.where(known_site, run.site, 0)
        width = np.diff(vocabulary.site_first)
        edge = vocabulary.site_first[site] + np.minimum(chosen, width[site] - 1)
        predicted = np.where(known_site, vocabulary.edge_target[edge], self._likeliest)
        log_confidence = np.where(known_site, best + self._within[edge] + stays, self._fresh[self._likeliest])
        log_p = self._log_p(run.target, run.edge, took, escape, stays)
        return Scores(
            predicted=vocabulary.target[predicted],
            confidence=np.exp(np.minimum(log_confidence, 0)).astype(np.float32),
            correct=predicted == run.target,
            surprisal=np.maximum(-log_p, 0).astype(np.float32),
        )


def last_of(run: Encoded, warm: Encoded | None) -> Encoded:
    """The LONGEST transfers before what follows a run."""
    whole = run if warm is None or len(run) >= LONGEST else Encoded.join([warm, run])
    return whole.part(max(0, len(whole) - LONGEST), len(whole))


def _within_rank(vocabulary: Vocabulary, ranks: int) -> NDArray[np.float64]:
    """f64[E]: logarithm of an edge's share of its rank; 0 but where the last rank stands for several
    edges."""
    rank = np.minimum(vocabulary.edge_rank, ranks - 1)
    group = vocabulary.edge_site.astype(np.int64) * ranks + rank
    weight = vocabulary.edge_count + 0.5
    total = np.bincount(group, weight, minlength=len(vocabulary.site) * ranks)
    share: NDArray[np.float64] = np.log(weight / total[group])
    return share
