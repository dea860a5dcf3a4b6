"""Which windows of a run a report shows: those where novelty, or surprisal, adds up to most."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from barnum.evaluations.windows import DenseSeries, sums_until
from barnum.report.document import Detail, Reason, Value
from barnum.verdicts.method import Measure

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
Part = dict[str, NDArray[Any]]

# sums of surprisal that are this near to nothing are nothing, nats
_ROUNDING = 1e-6


@dataclass(frozen=True, slots=True)
class Rows:
    """Some predictions of an evaluation, t of them; arrays [t], ``columns`` being those of the file;
    ``prediction`` i64 is its number. ``times`` i64 is how many predictions a row stands for: those of its
    window in which the same was expected and the same happened."""

    prediction: I64
    times: I64
    columns: Part

    def __len__(self) -> int:
        return len(self.prediction)

    def chosen(self, at: I64) -> Rows:
        """Those rows."""
        columns = {name: column[at] for name, column in self.columns.items()}
        return Rows(self.prediction[at], self.times[at], columns)

    @classmethod
    def none(cls) -> Rows:
        """No rows."""
        return cls(np.zeros(0, np.int64), np.zeros(0, np.int64), {})


@dataclass(slots=True)
class Stretch:
    """A window: predictions ``begin`` to ``end`` (exclusive), why it was chosen, and what the second pass
    finds in it: sums over the window, in nats, and the steps of its ``first`` and ``last`` prediction."""

    begin: int
    end: int
    reason: Reason
    novelty: float = 0.0
    surprisal: float = 0.0
    wrong: int = 0
    first: int | None = None
    last: int | None = None
    rows: Rows = field(default_factory=Rows.none)
    detail: Detail = field(default_factory=lambda: Detail(begin=0, each=1, values=[]))


def reasons_of(measures: tuple[Measure, ...], value: Value) -> list[Reason]:
    """By what windows are chosen, in this order: by ``measures``, then by what else there is. Where there is
    no surprisal, mistakes stand for it."""
    order = dict.fromkeys((*measures, *get_args(Measure)))
    return ["novelty" if measure == "novelty" else value for measure in order]


def choose(
    news: News, worst: list[Surprising], wanted: int, reasons: list[Reason], in_turn: bool
) -> list[Stretch]:
    """At most ``wanted`` windows, none overlapping another: all by the first of the ``reasons`` before any by
    the next, or one by each ``in_turn``. ``worst`` has one for each part of the run, that which was judged
    before the rest."""
    turn = 1 if in_turn else wanted
    chosen: list[Stretch] = []
    while True:
        before = len(chosen)
        for reason in reasons:
            most = min(turn, wanted - len(chosen))
            for part in worst:
                if reason == "novelty":
                    windows = news.windows(most, part.span, chosen)
                else:
                    windows = part.windows(most, chosen, reason)
                chosen += windows
                most -= len(windows)
        if len(chosen) == before:
            return chosen


class Surprising:
    """Windows of a dense series, surprisal or mistakes, in a span of predictions: of each ``length``
    neighbouring windows of that length the one with the largest sum; one window where the span is shorter."""

    def __init__(self, length: int, span: tuple[int, int]) -> None:
        self.span = span
        self._length = min(length, span[1] - span[0])
        self._series = DenseSeries(self._length)
        self._begins: list[I64] = []
        self._sums: list[F64] = []

    def add(self, begin: int, values: F64) -> None:
        """The next values, of the predictions from ``begin`` on."""
        values = values[max(0, self.span[0] - begin) : max(0, self.span[1] - begin)]
        if not len(values):
            return
        joined = self._series.add(values)
        if len(joined.values) < self._length:
            return
        first, sums = joined.sums(self._length)
        padded = np.full(-(-len(sums) // self._length) * self._length, -1.0)
        padded[: len(sums)] = sums
        rows = padded.reshape(-1, self._length)
        best = rows.argmax(axis=1)
        self._begins.append(self.span[0] + first + np.arange(len(rows)) * self._length + best)
        self._sums.append(rows[np.arange(len(rows)), best])

    def windows(self, wanted: int, taken: list[Stretch], reason: Reason) -> list[Stretch]:
        """At most ``wanted`` windows with something in them that overlap neither each other nor those
        taken, the worst first."""
        picked: list[Stretch] = []
        for begin in self._ranked if wanted > 0 else ():
            end = begin + self._length
            if all(end <= other.begin or begin >= other.end for other in itertools.chain(picked, taken)):
                picked.append(Stretch(begin, end, reason))
                if len(picked) == wanted:
                    break
        return picked

    @cached_property
    def _ranked(self) -> list[int]:
        """Where windows with something in them begin, the worst first; all must have been added."""
        begins, sums = joined_parts(self._begins, np.int64), joined_parts(self._sums, np.float64)
        order = np.argsort(-sums, kind="stable")
        # of sums in floating point what is this near to nothing is nothing
        ranked: list[int] = begins[order[sums[order] > _ROUNDING]].tolist()
        return ranked


class News:
    """Predictions with novelty: index i64[n] ascends, weights f64[n] in nats, position i64[n]."""

    def __init__(self, index: I64, weights: F64, position: I64, window: int) -> None:
        self._index, self._weights, self._position = index, weights, position
        self._window = window

    def alarm(self, threshold: float) -> tuple[int, int] | None:
        """The first prediction at which the sum within the window exceeds the threshold."""
        total = np.concatenate([[0.0], np.cumsum(self._weights)])
        sums = total[1:] - total[np.searchsorted(self._index, self._index - self._window + 1)]
        over = np.flatnonzero(sums > threshold)
        if not len(over):
            return None
        return int(self._index[over[0]]), int(self._position[over[0]])

    def windows(self, wanted: int, span: tuple[int, int], taken: list[Stretch]) -> list[Stretch]:
        """The windows within a span with the largest sums that overlap neither each other nor those taken."""
        picked: list[Stretch] = []
        weights = np.where((self._index >= span[0]) & (self._index < span[1]), self._weights, 0.0)
        stop = np.minimum(self._index + self._window, span[1])

        def leave_out(other: Stretch) -> None:
            first, last = np.searchsorted(self._index, (other.begin, other.end))
            weights[first:last] = 0.0
            stop[:first] = np.minimum(stop[:first], other.begin)

        for other in taken:
            leave_out(other)
        while len(picked) < wanted and weights.any():
            # what is in a window that was taken is 0 now, but no window begins there
            sums = np.where(weights > 0, sums_until(self._index, weights, stop), 0.0)
            best = int(sums.argmax())
            picked.append(Stretch(int(self._index[best]), int(stop[best]), "novelty"))
            leave_out(picked[-1])
        return picked

    def marked(self, most: int) -> tuple[list[tuple[int, float]], int]:
        """Pairs of index and weight of those with the largest weights, in order, and how many others there
        are."""
        chosen = np.sort(np.argsort(-self._weights, kind="stable")[:most])
        pairs = list(zip(self._index[chosen].tolist(), few_digits(self._weights[chosen]), strict=True))
        return pairs, len(self._index) - len(chosen)


def joined_parts(parts: list[Any], kind: Any) -> Any:
    """Arrays of that dtype in one; there may be none."""
    return np.concatenate(parts) if parts else np.zeros(0, kind)


def few_digits(values: F64) -> list[float]:
    """Values with three decimals, for a page holds many of them."""
    rounded: list[float] = np.round(values, 3).tolist()
    return rounded
