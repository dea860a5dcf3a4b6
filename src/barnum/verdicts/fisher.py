"""Several ways in which a run is strange, summed up in one number.

Fisher's method: the sum of -ln p over the ways, p being how often a nominal run is at least as strange in
that way (R. A. Fisher, Statistical Methods for Research Workers, 4th ed., 1932, section 21.1). A run that is
a little strange in two ways counts as much as one that is very strange in one. Only the order of these sums
is used: the ways need not be independent.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]

# share of the known scores above which p goes on as that of an exponential distribution
TAIL = 0.1
# fewer scores than this tell too little of a tail, and those it was made of would look too ordinary
_ENOUGH = 10


def strangeness(known: F64, scores: F64, own: bool = False) -> F64:
    """f64[m]: -ln of the share of nominal runs that are at least as strange.

    Above the highest tenth of the known scores an exponential distribution of their mean excess goes on (a
    generalised Pareto distribution of shape 0): else all that is stranger than any known run would be alike.

    Args:
        known: f64[n], scores of nominal runs, at least one.
        scores: f64[m].
        own: whether these are some of the known ones, which do not count for themselves.
    """
    ordered = np.sort(known)
    count = len(ordered)
    at_least = count - np.searchsorted(ordered, scores, side="left")
    share = np.log((at_least if own else at_least + 1) / (count if own else count + 1))
    high = float(np.quantile(ordered, 1 - TAIL))
    beyond = ordered[ordered > high] - high
    if len(beyond) < _ENOUGH:
        return -share
    excess = np.maximum(scores - high, 0.0)
    tail = np.log(len(beyond) / count) - excess / beyond.mean()
    return np.where(excess > 0, -tail, -share)


def combined(ways: Sequence[tuple[F64, F64]], own: bool = False) -> F64:
    """f64[m]: the sum over ways, each of them known scores and the scores of the m runs."""
    total: F64 = np.sum([strangeness(known, scores, own) for known, scores in ways], axis=0)
    return total
