"""How new the last of the learnt runs still were, and how much further ones would bring.

Both follow from in how many runs each transfer was. A transfer that was in r of n runs is missing from h
runs that are drawn of these, and in the next one, with the chance

    C(n - r, h) / C(n, h) * r / (n - h),

so that the number of new transfers that a run brought after h others is known exactly on the average (what
ecology calls rarefaction: K. L. Heck, G. van Belle, D. Simberloff, Ecology 56, 1975). For h = n - 1 it is the
number of transfers of a single run over n: the estimate of A. Turing and I. J. Good for the next run. How it
falls from half of the runs to all is carried on to twice as many (a power law, which is an assumption).
"""

from __future__ import annotations

import math

import msgspec
import numpy as np
from numpy.typing import NDArray

from barnum.digests.counts import Counts

I64 = NDArray[np.int64]

# with fewer runs halves say little
FEWEST = 8


class Enough(msgspec.Struct, frozen=True):
    """How much is learnt.

    Attributes:
        runs: number of runs that were learnt.
        half: distinct transfers that a run brought after half as many, on the average.
        last: the same after all others.
        twice: the same after twice as many runs, as far as can be foreseen.
        alone: share of the runs that show a transfer that no other shows.
    """

    runs: int
    half: float
    last: float
    twice: float
    alone: float


def news_after(edge_runs: I64, runs: int, learnt: int) -> float:
    """Distinct transfers that a run brings after ``learnt`` of the other ``runs``, on the average.

    Args:
        edge_runs: i64[e], in how many runs each transfer was.
        runs: their number.
        learnt: from 0 to ``runs`` - 1.
    """
    count = np.bincount(edge_runs, minlength=runs + 1)
    found = 0.0
    for r in np.flatnonzero(count[1 : runs - learnt + 1]) + 1:
        missing = _log_choose(runs - int(r), learnt) - _log_choose(runs, learnt)
        found += float(count[r]) * math.exp(missing) * int(r) / (runs - learnt)
    return found


def enough_of(counts: Counts) -> Enough | None:
    """How much was learnt; None of too few runs to say."""
    runs = len(counts)
    if runs < FEWEST:
        return None
    half = news_after(counts.edge_runs, runs, runs // 2)
    last = news_after(counts.edge_runs, runs, runs - 1)
    single = counts.edge_runs[counts.row_edge] == 1
    alone = len(np.unique(counts.row_run[single])) / runs
    # what falls from half to all falls from all to twice as much
    twice = last * min(1.0, last / half) if half > 0 else 0.0
    return Enough(runs, half, last, twice, alone)


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
