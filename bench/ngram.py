"""An n-gram with back-off, as strong as it can be made: what a network has to beat.

A context of order k is a site and the k targets before it; none reaches back over a restart. Below order 0
stand the targets alone, and below these T + 1 outcomes that are all as likely: the targets that training saw,
and any other. Probabilities are interpolated as Witten and Bell have it: with c(x, y) transfers to y after
context x, c(x) of them in all and d(x) targets among them,

    p_k(y) = (c(x, y) + d(x) · p_{k-1}(y)) / (c(x) + d(x))    where training met x, else p_{k-1}(y)

(T. C. Bell, J. G. Cleary, I. H. Witten, Text Compression, 1990: method C). Predicted is the target that
followed the longest known context most often; of several, the one that is more frequent anywhere.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from barnum.paths import Learn, Path, iter_transfers
from barnum.sequences import Tokens

Bool = NDArray[np.bool_]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Run:
    """m transfers of one or several runs: ``site`` u64[m], ``target`` u64[m], and ``since`` i64[m]: how many
    transfers since the last restart."""

    site: U64
    target: U64
    since: I64

    @classmethod
    def of(cls, paths: Sequence[Path], tokens: Tokens) -> Run:
        """The learnt transfers of paths, one after the other."""
        parts = [part for path in paths for part in iter_transfers(path, Learn())]
        first = np.concatenate([part.first for part in parts])
        index = np.arange(len(first))
        return cls(
            np.concatenate([tokens.sites(part.blocks)[part.source] for part in parts]),
            np.concatenate([tokens.targets(part.blocks)[part.target] for part in parts]),
            index - np.maximum.accumulate(np.where(first, index, 0)),
        )

    def __len__(self) -> int:
        return len(self.target)


@dataclass(frozen=True, slots=True)
class Ngram:
    """How an n-gram of some ``orders`` does: accuracy and mean surprisal (nats) of what is held out and of
    the contrast, seconds of counting and of scoring both, and the number of counts that it holds."""

    orders: tuple[int, ...]
    accuracy: tuple[float, float]
    surprisal: tuple[float, float]
    counting: float
    scoring: float
    counts: int


def all_ngrams(train: Run, held_out: Run, contrast: Run, orders: Sequence[int]) -> list[Ngram]:
    """The n-grams learnt from ``train`` of the first, the first two, the first three … of ascending orders.

    An order needs those below it and nothing else, so each is counted once, used and forgotten.
    """
    began = time.perf_counter()
    known, count = np.unique(train.target, return_counts=True)
    # outcomes are numbered from the rarest target to the most frequent; the last one is every other target
    number = np.argsort(np.argsort(count, kind="stable"))
    bits = np.uint64(len(known).bit_length())
    learnt = _Contexts(train, known, number)
    counting, scoring, counts = time.perf_counter() - began, 0.0, 0
    one, other = (
        _Scored(_Contexts(run, known, number), 1 / (len(known) + 1)) for run in (held_out, contrast)
    )
    made = []
    for n in range(-1, max(orders) + 1):
        used = n < 0 or n in orders
        began = time.perf_counter()
        learnt.extend(n)
        table = _Table(learnt.keys(bits, learnt.since >= n), bits) if used else None
        counted = time.perf_counter()
        for scored in (one, other):
            scored.contexts.extend(n)
            if table is not None:
                scored.update(table, n, bits)
        counting += counted - began
        scoring += time.perf_counter() - counted
        counts += 0 if table is None else len(table.count)
        if n not in orders:
            continue
        made.append(
            Ngram(
                tuple(order for order in orders if order <= n),
                (one.accuracy(), other.accuracy()),
                (one.surprisal(), other.surprisal()),
                counting,
                scoring,
                counts,
            )
        )
    return made


class _Contexts:
    """Hashes of the contexts of a run, one order after the other, and the ``outcome`` i64[m] of each."""

    def __init__(self, run: Run, known: U64, number: I64) -> None:
        at = np.minimum(np.searchsorted(known, run.target), len(known) - 1)
        self.outcome = np.where(known[at] == run.target, number[at], len(known))
        self.since = run.since
        self._site = _mix(_mix(run.site))  # once more than targets, which may have the same numbers
        self._target = _mix(self.outcome.astype(np.uint64))
        self._hash = np.zeros(len(run), np.uint64)

    def extend(self, n: int) -> None:
        """From contexts of order n - 1 to those of order n; those of order -1 are all the same."""
        if n == 0:
            self._hash = self._site
        elif n > 0:
            longer = np.zeros(len(self._hash), np.uint64)
            longer[n:] = self._target[:-n]
            self._hash = _mix(self._hash + longer)

    def keys(self, bits: np.uint64, where: Bool | I64) -> U64:
        """The contexts and, in the last ``bits``, the outcomes of some transfers. Of the contexts' hashes
        about 50 bits are left: among millions hardly any two are alike."""
        return (self._hash[where] >> bits << bits) | self.outcome[where].astype(np.uint64)


class _Table:
    """Counts of one order: ``pair`` u64[q] ascending (see _Contexts.keys) and ``count`` i64[q] of each,
    ``owner`` i64[q] the context it belongs to; of each context ``total``, ``distinct`` and ``top``."""

    def __init__(self, keys: U64, bits: np.uint64) -> None:
        keys = np.sort(keys)
        begin = _begins(keys)
        self.pair = keys[begin]
        self.count = np.diff(begin, append=len(keys))
        begin = _begins(self.pair >> bits)
        self.distinct = np.diff(begin, append=len(self.pair))
        self.owner = np.repeat(np.arange(len(begin)), self.distinct)
        self.total = np.add.reduceat(self.count, begin) if len(begin) else self.count
        mask = (np.uint64(1) << bits) - np.uint64(1)
        best = (self.count.astype(np.uint64) << bits) | (self.pair & mask)
        self.top = (np.maximum.reduceat(best, begin) if len(begin) else best) & mask

    def find(self, keys: U64, bits: np.uint64) -> tuple[I64, I64]:
        """The context of each key (-1: not known), and how often its outcome followed."""
        if not len(self.pair):
            return np.full(len(keys), -1), np.zeros(len(keys), np.int64)
        at = np.searchsorted(self.pair, keys)
        here = np.minimum(at, len(self.pair) - 1)
        count = np.where(self.pair[here] == keys, self.count[here], 0)
        # pairs of a context adjoin: the one at this place or the one before it
        before = np.maximum(at - 1, 0)
        context = np.full(len(keys), -1)
        for place in (before, here):
            same = self.pair[place] >> bits == keys >> bits
            context[same] = self.owner[place[same]]
        return context, count


class _Scored:
    """A run that is scored: probability of what happened and likeliest outcome, up to some order; ``active``
    are the transfers whose context is known so far."""

    def __init__(self, contexts: _Contexts, p: float) -> None:
        count = len(contexts.outcome)
        self.contexts = contexts
        self.p: F64 = np.full(count, p)
        self.predicted: I64 = np.zeros(count, np.int64)
        self.active: I64 = np.arange(count)

    def update(self, table: _Table, n: int, bits: np.uint64) -> None:
        active = self.active[self.contexts.since[self.active] >= n]
        context, count = table.find(self.contexts.keys(bits, active), bits)
        known = context >= 0
        self.active, context, count = active[known], context[known], count[known]
        total, distinct = table.total[context], table.distinct[context]
        p = (count + distinct * self.p[self.active]) / (total + distinct)
        # never 0, however many orders speak against it
        self.p[self.active] = np.maximum(p, np.finfo(np.float64).tiny)
        self.predicted[self.active] = table.top[context].astype(np.int64)

    def accuracy(self) -> float:
        return float((self.predicted == self.contexts.outcome).mean())

    def surprisal(self) -> float:
        return float(-np.log(self.p).mean())


def _begins(values: U64) -> I64:
    """Where stretches of equal values begin."""
    changes: I64 = np.flatnonzero(values[1:] != values[:-1]) + 1
    return np.concatenate([np.zeros(min(1, len(values)), np.int64), changes])


def _mix(values: U64) -> U64:
    """SplitMix64: each bit of the result depends on all bits."""
    x = values + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: U64 = x ^ (x >> np.uint64(31))
    return mixed
