"""What a report shows of one evaluation: curve, windows, first alarm. Two passes over its file, in bounded
memory whatever its length."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from barnum.evaluations.files import Evaluation
from barnum.evaluations.folder import open_evaluation
from barnum.evaluations.windows import surprisal_window
from barnum.report.document import Curve, Detail, Value
from barnum.report.window_rows import KeptRows, values_of
from barnum.report.windows import (
    F64,
    I64,
    News,
    Part,
    Stretch,
    Surprising,
    choose,
    few_digits,
    joined_parts,
    reasons_of,
)
from barnum.verdicts.method import Measure


class Budget(msgspec.Struct, frozen=True, kw_only=True):
    """How much of a run is shown: bins of its curve, windows, transfers a window, values around a window,
    new transfers marked in the curve."""

    bins: int
    windows: int
    transfers: int
    detail: int
    news: int

    @classmethod
    def of(cls, samples: int, windows: int) -> Budget:
        """More runs show less of each, so that a page stays one that a browser opens."""
        if samples <= 100:
            return cls(bins=800, windows=windows, transfers=12, detail=1000, news=400)
        if samples <= 300:
            return cls(bins=400, windows=windows, transfers=8, detail=400, news=100)
        return cls(bins=200, windows=windows, transfers=6, detail=150, news=40)


@dataclass(frozen=True, slots=True)
class Scan:
    """What was found in one evaluation; ``alarm`` is (prediction, step) or None."""

    curve: Curve
    windows: list[Stretch]
    alarm: tuple[int, int | None] | None
    columns: tuple[str, ...]
    options: dict[str, Any]
    calls: dict[str, str] | None = None


def scan(
    file: Path,
    count: int,
    window: int,
    threshold: float | None,
    budget: Budget,
    judged: int | None = None,
    measures: tuple[Measure, ...] = ("novelty",),
) -> Scan:
    """Read an evaluation.

    Args:
        file: the evaluation.
        count: its predictions, at least 1.
        window: predictions in a window.
        threshold: the first alarm is where the sum of novelty within a window exceeds it, in nats, among the
            first ``judged`` predictions; None: there is none.
        budget: how much is shown.
        judged: how many of the predictions were judged (None: all); windows among these come before others.
        measures: what the verdict goes by. Windows are chosen by it first, or in turn where there are
            several, and then by what is left.

    Raises:
        EvaluationError: it is broken.
    """
    evaluation = open_evaluation(file)
    try:
        curve, windows, alarm = _first_pass(evaluation, count, window, threshold, budget, judged, measures)
        if alarm is not None and judged is not None and alarm[0] >= judged:
            alarm = None
        _second_pass(evaluation, count, windows, budget)
        return Scan(
            curve=curve,
            windows=windows,
            alarm=alarm,
            columns=evaluation.columns,
            options=evaluation.header.options if evaluation.header else {},
            calls=evaluation.header.calls if evaluation.header else None,
        )
    finally:
        evaluation.close()


def _parts(evaluation: Evaluation, *columns: str) -> Iterator[tuple[int, Part]]:
    begin = 0
    for part in evaluation.parts(*columns):
        size = len(part[columns[0]])
        if size:
            yield begin, part
        begin += size


def _with_calls_before(parts: Iterator[tuple[int, Part]]) -> Iterator[tuple[int, Part]]:
    """The same, and of each call the one before it, ``before`` u64[m]: 0 where none is known."""
    actual, position = np.uint64(0), np.uint64(0)
    for begin, part in parts:
        before = np.concatenate([[actual], part["actual"][:-1]])
        step = np.concatenate([[position], part["position"][:-1]])
        next_to = part["position"] == step + np.uint64(1)
        actual, position = part["actual"][-1], part["position"][-1]
        yield begin, part | {"before": np.where(next_to, before, np.uint64(0))}


# first pass


def _first_pass(
    evaluation: Evaluation,
    count: int,
    window: int,
    threshold: float | None,
    budget: Budget,
    judged: int | None,
    measures: tuple[Measure, ...],
) -> tuple[Curve, list[Stretch], tuple[int, int | None] | None]:
    has = evaluation.columns
    value: Value = "surprisal" if "surprisal" in has else "mistakes"
    names = ["surprisal"] if value == "surprisal" else ["correct", "confidence"]
    if "novelty" in has:
        names += ["novelty", "position"]
    bins = _Bins(count, budget.bins)
    middle = count if judged is None else min(judged, count)
    length = surprisal_window(window)
    worst = [Surprising(length, span) for span in ((0, middle), (middle, count)) if span[0] < span[1]]
    index: list[I64] = []
    weights: list[F64] = []
    position: list[I64] = []
    for begin, part in _parts(evaluation, *names):
        values = values_of(part)
        bins.add(begin, values)
        for each in worst:
            each.add(begin, values)
        if "novelty" in part:
            at = np.flatnonzero(part["novelty"])
            index.append(at + begin)
            weights.append(part["novelty"][at].astype(np.float64))
            position.append(part["position"][at].astype(np.int64))
    news = News(
        joined_parts(index, np.int64),
        joined_parts(weights, np.float64),
        joined_parts(position, np.int64),
        window,
    )
    windows = choose(news, worst, budget.windows, reasons_of(measures, value), len(measures) > 1)
    marked, left_out = news.marked(budget.news)
    curve = Curve(
        value=value,
        each=count / len(bins.sums),
        mean=few_digits(bins.mean()),
        highest=few_digits(bins.highest),
        news=marked,
        news_left_out=left_out,
    )
    return curve, windows, None if threshold is None else news.alarm(threshold)


class _Bins:
    """Sums and maxima of a series of known length in equal bins; the series comes in parts."""

    def __init__(self, count: int, bins: int) -> None:
        self._count = count
        bins = max(1, min(bins, count))
        # prediction at which each bin begins, and the end
        self._begin = -(-np.arange(bins + 1, dtype=np.int64) * count // bins)
        self.sums = np.zeros(bins)
        self.highest = np.zeros(bins)

    def add(self, begin: int, values: F64) -> None:
        values = values[: max(0, self._count - begin)]
        if not len(values):
            return
        first = int(np.searchsorted(self._begin, begin, side="right")) - 1
        last = int(np.searchsorted(self._begin, begin + len(values), side="left"))
        edges = np.maximum(self._begin[first:last] - begin, 0)
        self.sums[first:last] += np.add.reduceat(values, edges)
        self.highest[first:last] = np.maximum(self.highest[first:last], np.maximum.reduceat(values, edges))

    def mean(self) -> F64:
        mean: F64 = self.sums / np.diff(self._begin)
        return mean


# second pass


def _second_pass(evaluation: Evaluation, count: int, windows: list[Stretch], budget: Budget) -> None:
    """Fill the windows in."""
    if not windows:
        return
    kept = [KeptRows(window, budget.transfers) for window in windows]
    around = [_around(window, count, budget.detail) for window in windows]
    end = max(stop for _, stop, _ in around)
    parts = _parts(evaluation, *evaluation.columns)
    if evaluation.header is not None and evaluation.header.calls is not None:
        parts = _with_calls_before(parts)
    for begin, part in parts:
        if begin >= end:
            break
        values: F64 | None = None
        size = len(part["correct"])
        for window, telling, (start, stop, bins) in zip(windows, kept, around, strict=True):
            low, high = max(start, begin), min(stop, begin + size)
            if low < high:
                values = values_of(part) if values is None else values
                bins.add(low - start, values[low - begin : high - begin])
            low, high = max(window.begin, begin), min(window.end, begin + size)
            if low < high:
                telling.add(low, {name: column[low - begin : high - begin] for name, column in part.items()})
    for window, telling, (start, stop, bins) in zip(windows, kept, around, strict=True):
        window.rows = telling.rows()
        each = -(-(stop - start) // len(bins.highest))
        window.detail = Detail(begin=start, each=each, values=np.round(bins.highest, 2).tolist())


def _around(window: Stretch, count: int, values: int) -> tuple[int, int, _Bins]:
    """A window with half its length on either side, and bins of equal length for it."""
    margin = (window.end - window.begin) // 2
    start, stop = max(0, window.begin - margin), min(count, window.end + margin)
    each = -(-(stop - start) // values)
    bins = -(-(stop - start) // each)
    # whole bins: the last may reach beyond the end
    return start, stop, _Bins(bins * each, bins)
