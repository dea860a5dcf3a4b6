"""How good verdicts are: error rates and AUC with confidence intervals, and ROC curves."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

F64 = NDArray[np.float64]

LEVEL = 0.95


class Rate(msgspec.Struct, frozen=True):
    """``wrong`` of ``runs`` and the exact interval (0.95) of the rate behind it."""

    wrong: int
    runs: int
    rate: float
    low: float
    high: float


class Auc(msgspec.Struct, frozen=True):
    """Area under the ROC curve: the chance that a malicious run scores above a benign one."""

    auc: float
    low: float
    high: float


def rate_of(wrong: int, runs: int, level: float = LEVEL) -> Rate:
    """The share and its Clopper-Pearson interval (C. J. Clopper, E. S. Pearson, Biometrika 26, 1934)."""
    from scipy.stats import beta

    tail = (1 - level) / 2
    low = float(beta.ppf(tail, wrong, runs - wrong + 1)) if wrong else 0.0
    high = float(beta.ppf(1 - tail, wrong + 1, runs - wrong)) if wrong < runs else 1.0
    return Rate(wrong, runs, wrong / runs, low, high)


def auc_of(benign: ArrayLike, malicious: ArrayLike, level: float = LEVEL) -> Auc:
    """AUC of scores f64[b] and f64[m], ties counting half, and its interval by the fifth method of R. G.
    Newcombe, Confidence intervals for an effect size measure based on the Mann-Whitney statistic, part 2,
    Statistics in Medicine 25 (2006): all t with (t - auc)^2 <= z^2 v(t), where

        v(t) = t (1 - t) (1 + n (1 - t) / (2 - t) + n t / (1 + t)) / (b m),  n = (b + m) / 2 - 1."""
    from scipy.stats import norm

    scores = np.sort(np.asarray(benign, float))
    auc = float(_share_below(scores, np.asarray(malicious, float)).mean())
    sizes = len(scores), len(np.asarray(malicious))
    if min(sizes) < 2:
        return Auc(auc, 0.0, 1.0)
    z = float(norm.ppf(0.5 + level / 2))
    more = sum(sizes) / 2 - 1

    def inside(t: float) -> bool:
        variance = t * (1 - t) * (1 + more * (1 - t) / (2 - t) + more * t / (1 + t)) / (sizes[0] * sizes[1])
        return (t - auc) ** 2 <= z * z * variance

    return Auc(auc, _end(inside, auc, 0.0), _end(inside, auc, 1.0))


def _end(inside: Callable[[float], bool], begin: float, bound: float) -> float:
    """Where an interval that begins here ends, on the way to a bound that is not inside; by bisection."""
    if begin == bound:
        return bound
    # at 0 and 1 nothing varies: the interval begins just beside them
    near, far = begin + (bound - begin) * 1e-9, bound
    for _ in range(60):
        middle = (near + far) / 2
        near, far = (middle, far) if inside(middle) else (near, middle)
    return near


def roc_of(benign: Sequence[float], malicious: Sequence[float]) -> list[tuple[float, float]]:
    """(false positive rate, true positive rate) at every threshold between scores, from (0, 0) to (1, 1)."""
    low, high = np.sort(benign), np.sort(malicious)
    thresholds = np.unique(np.concatenate([low, high]))[::-1]
    # a run at the threshold is called anomalous
    false = 1 - np.searchsorted(low, thresholds, side="left") / len(low)
    true = 1 - np.searchsorted(high, thresholds, side="left") / len(high)
    return [(0.0, 0.0), *zip(false.tolist(), true.tolist(), strict=True)]


def _share_below(scores: F64, of: F64) -> F64:
    """f64[n]: the share of ascending scores below each of ``of``, equal ones counting half."""
    left, right = (np.searchsorted(scores, of, side=side) for side in ("left", "right"))
    return np.asarray((left + right) / (2 * len(scores)))
