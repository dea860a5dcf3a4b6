"""The worst window of a run: where its novelty or its surprisal adds up to most.

Scores, features and judging take their window from here; a report, which shows several windows of a run,
finds the same one first (barnum.report.windows): so all point at the same place. Novelty is sparse: most
transfers have none. Surprisal is dense, and comes in parts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from barnum.evaluations.files import ROWS, rows_before

if TYPE_CHECKING:
    from barnum.evaluations.header import Calibration

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]

# transfers in a window where no calibration names another number
WINDOW = 500
# bounds of windows by surprisal, in transfers: shorter ones are single surprises, longer ones hide them
SHORTEST, LONGEST = 50, 5000
# transfers in the stretch of such a window that a single place is looked for in
SHARPEST = 100


def window_of(calibration: Calibration | None) -> int:
    """Transfers in the window within which the novelty of a run is summed."""
    return WINDOW if calibration is None else calibration.window


def surprisal_window(window: int) -> int:
    """Transfers in the windows within which surprisal is summed, where those of novelty have ``window``."""
    return max(SHORTEST, min(window, LONGEST))


# sparse weights


def sums_until(position: I64, weights: F64, end: I64) -> F64:
    """f64[n]: for each place the sum of the weights from there to its ``end`` (exclusive).

    Args:
        position: i64[n], ascending places.
        weights: f64[n].
        end: i64[n], places beyond ``position``.
    """
    total = np.concatenate([[0.0], np.cumsum(weights)])
    sums: F64 = total[np.searchsorted(position, end)] - total[:-1]
    return sums


def worst_window(position: I64, weights: F64, length: int) -> tuple[float, int | None]:
    """The largest sum of weights within ``length`` neighbouring places, and the index of the weight with
    which that window begins, the first of equal ones; 0 and None where there are no weights.

    Args:
        position: i64[n], ascending places.
        weights: f64[n], at least 0.
        length: of the window, at least 1.
    """
    if not len(weights):
        return 0.0, None
    sums = sums_until(position, weights, position + length)
    worst = int(sums.argmax())
    return float(sums[worst]), worst


# dense series


@dataclass(frozen=True, slots=True)
class DensePart:
    """The newest values of a series behind some earlier ones: ``values`` f64[m], of which the first
    ``earlier`` were there before; ``begin`` is the place of the first of them in the series."""

    begin: int
    earlier: int
    values: F64
    total: F64  # f64[m + 1], cumulative sums of the values

    @property
    def sum(self) -> float:
        """Sum of the newest values."""
        return float(self.total[-1] - self.total[self.earlier])

    def sums(self, length: int) -> tuple[int, F64]:
        """Windows of ``length`` neighbouring values that end among the newest, or the one of all values where
        there are fewer: the place where the first of them begins, and f64[k], the sums of it and of those
        that begin at the places that follow.

        Args:
            length: at least 1, at most the longest that the series was made for.
        """
        reach = min(length, len(self.values))
        first = max(0, self.earlier - reach + 1)
        sums: F64 = self.total[first + reach :] - self.total[first : len(self.total) - reach]
        return self.begin + first, sums


class DenseSeries:
    """Joins the parts of a series so that windows reach from one into the next, in memory that does not grow
    with the series."""

    def __init__(self, longest: int) -> None:
        """``longest`` is the largest number of values in a window."""
        self._longest = longest
        self._begin = 0
        self._tail: F64 = np.zeros(0)

    def add(self, values: F64) -> DensePart:
        """Append values f64[k], in nats or what else is summed; they come back behind the end of what came
        before."""
        joined = np.concatenate([self._tail, values])
        total = np.concatenate([[0.0], np.cumsum(joined)])
        part = DensePart(self._begin, len(self._tail), joined, total)
        # no window that is still to come reaches further back
        forgotten = max(0, len(joined) - (self._longest - 1))
        self._begin += forgotten
        self._tail = joined[forgotten:].copy()
        return part


def _densest(window: F64) -> tuple[int, int]:
    """Where in a window the SHARPEST neighbouring values that add up to most begin and end: a single surprise
    at the edge of a long window is not its place."""
    if len(window) <= SHARPEST:
        return 0, len(window)
    total = np.concatenate([[0.0], np.cumsum(window)])
    begin = int((total[SHARPEST:] - total[:-SHARPEST]).argmax())
    return begin, begin + SHARPEST


class Surprise:
    """The most surprising transfer of the densest stretch of the most surprising window of a run.

    How sums are rounded depends on where a series is cut into parts. It is cut here as it is when it is read
    from a file: of windows that are equal but for rounding, a report shows the same one first.
    """

    def __init__(self, limit: int | None, length: int) -> None:
        """``limit``: transfers to this step of the trace and later ones do not count (None: all do);
        ``length``: transfers in a window, see surprisal_window()."""
        self._limit = limit
        self._length = length
        self._series = DenseSeries(length)
        self._position: U64 = np.zeros(0, np.uint64)
        self._waiting: list[tuple[F64, U64]] = []
        self._rows = 0
        self._worst = 0.0
        self._step: int | None = None

    def add(self, columns: dict[str, NDArray[Any]]) -> None:
        """The next rows: ``surprisal`` f32[m] in nats, at least 0, and ``position`` u64[m], ascending steps
        of the trace."""
        surprisal, position = columns["surprisal"].astype(np.float64), columns["position"]
        if self._limit is not None:
            end = rows_before(position, self._limit)
            surprisal, position = surprisal[:end], position[:end]
        self._waiting.append((surprisal, position))
        self._rows += len(surprisal)
        while self._rows >= ROWS:
            surprisal, position = self._joined()
            self._look(surprisal[:ROWS], position[:ROWS])
            self._waiting = [(surprisal[ROWS:], position[ROWS:])]
            self._rows -= ROWS

    @property
    def step(self) -> int | None:
        """The step of the trace at which that transfer ends; None where nothing was surprising. All rows must
        have been added."""
        if self._rows:
            self._look(*self._joined())
            self._waiting, self._rows = [], 0
        return self._step

    def _joined(self) -> tuple[F64, U64]:
        surprisal, position = zip(*self._waiting, strict=True)
        return np.concatenate(surprisal), np.concatenate(position)

    def _look(self, surprisal: F64, position: U64) -> None:
        part = self._series.add(surprisal)
        position = np.concatenate([self._position[len(self._position) - part.earlier :], position])
        begin, sums = part.sums(self._length)
        worst = int(sums.argmax())
        if sums[worst] > self._worst:
            self._worst = float(sums[worst])
            first = begin - part.begin + worst
            window = part.values[first : first + self._length]
            begin, end = _densest(window)
            self._step = int(position[first + begin + int(window[begin:end].argmax())])
        self._position = position[-self._length :].copy()
