"""The worst window of a run: where its surprise or its novelty adds up to most."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]


def worst_window(position: I64, weights: F64, length: int) -> float:
    """Largest sum of weights f64[n] within ``length`` neighbouring places; position i64[n] ascends."""
    if not len(weights):
        return 0.0
    total = np.concatenate([[0.0], np.cumsum(weights)])
    end = np.searchsorted(position, position + length)
    return float((total[end] - total[:-1]).max())
