"""How good verdicts are: error rates and AUC with confidence intervals, and ROC curves."""

from __future__ import annotations

from collections.abc import Sequence

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
    """AUC of scores f64[b] and f64[m], ties counting half, and an interval from DeLong's variance (E. R.
    DeLong, D. M. DeLong, D. L. Clarke-Pearson, Biometrics 44, 1988) on the logit scale; where every run is on
    its side, or none, from (n + 1/2) / (n + 1) of n pairs of the smaller class."""
    from scipy.stats import norm

    low_scores, high_scores = np.sort(np.asarray(benign, float)), np.sort(np.asarray(malicious, float))
    below = _share_below(low_scores, np.asarray(malicious, float))
    above = 1 - _share_below(high_scores, np.asarray(benign, float))
    auc = float(below.mean())
    fewer = min(len(low_scores), len(high_scores))
    if fewer < 2:
        return Auc(auc, 0.0, 1.0)
    variance = below.var(ddof=1) / len(below) + above.var(ddof=1) / len(above)
    inner = min(max(auc, 0.5 / (fewer + 1)), (fewer + 0.5) / (fewer + 1))
    if variance == 0:
        variance = inner * (1 - inner) / fewer
    z = float(norm.ppf(0.5 + level / 2))
    centre = np.log(inner / (1 - inner))
    spread = z * np.sqrt(variance) / (inner * (1 - inner))
    low, high = (1 / (1 + np.exp(-(centre + sign * spread))) for sign in (-1, 1))
    return Auc(auc, min(auc, float(low)), max(auc, float(high)))


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
