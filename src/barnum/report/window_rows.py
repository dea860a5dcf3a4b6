"""The most telling predictions of a window."""

from __future__ import annotations

import numpy as np

from barnum.report.windows import F64, I64, Part, Rows, Stretch

# distinct predictions of a window that are remembered while it is read
_MOST_DISTINCT = 1 << 13


def values_of(part: Part) -> F64:
    """f64[m]: what the curve is of."""
    if "surprisal" in part:
        return part["surprisal"].astype(np.float64)
    return np.where(part["correct"], 0.0, part["confidence"]).astype(np.float64)


class KeptRows:
    """The most telling predictions of a window, and its sums."""

    def __init__(self, window: Stretch, most: int) -> None:
        self._window = window
        self._most = most
        self._rows = Rows.none()

    def add(self, begin: int, part: Part) -> None:
        window = self._window
        size = len(part["correct"])
        window.wrong += size - int(part["correct"].sum())
        for name in ("novelty", "surprisal"):
            if name in part:
                setattr(window, name, getattr(window, name) + float(part[name].sum(dtype=np.float64)))
        if "position" in part:
            if window.first is None:
                window.first = int(part["position"][0])
            window.last = int(part["position"][-1])
        index, times = np.arange(begin, begin + size), np.ones(size, np.int64)
        if len(self._rows):
            index = np.concatenate([self._rows.prediction, index])
            times = np.concatenate([self._rows.times, times])
            part = {name: np.concatenate([self._rows.columns[name], part[name]]) for name in part}
        self._rows = _distinct(index, times, part, _MOST_DISTINCT)

    def rows(self) -> Rows:
        """The most telling ones, in order."""
        rows = self._rows
        # they are in order of rank; what was certain and happened tells nothing
        telling = np.flatnonzero((values_of(rows.columns) > 0) | (rows.columns.get("novelty", 0) > 0))
        best = telling[: self._most]
        return rows.chosen(best[np.argsort(rows.prediction[best])])


def _distinct(index: I64, times: I64, part: Part, most: int) -> Rows:
    """The most telling predictions first, each standing for all that are not new and are alike."""
    values = values_of(part)
    ranks = (-values, -part["novelty"]) if "novelty" in part else (-values,)
    rank = np.lexsort((index, *ranks))
    # each new transfer stands for itself
    own = np.where(part["novelty"] > 0, index + 1, 0) if "novelty" in part else np.zeros(len(index), np.int64)
    pairs = np.stack([part["predicted"][rank], part["actual"][rank], own[rank].astype(np.uint64)], axis=1)
    _, first, which = np.unique(pairs, axis=0, return_index=True, return_inverse=True)
    counted = np.bincount(which.ravel(), weights=times[rank]).astype(np.int64)
    order = np.argsort(first)[:most]
    chosen = rank[first[order]]
    columns = {name: column[chosen] for name, column in part.items()}
    return Rows(index[chosen], counted[order], columns)
