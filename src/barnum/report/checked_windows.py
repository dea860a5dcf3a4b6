"""What a report shows of a run that nothing predicted: its curve, its windows and what is new in them, by its
digest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from barnum.digests.digest import Digest
from barnum.digests.knowledge import New
from barnum.evaluations.windows import WINDOW
from barnum.paths import KINDS
from barnum.report.document import Alarm, Curve, Detail, Transfer, Window
from barnum.report.names import Namer
from barnum.report.places import Located, Wanted
from barnum.report.scan import Budget
from barnum.report.windows import F64, I64, News, Stretch, few_digits


@dataclass(frozen=True, slots=True)
class Shown:
    """What a report lists of a window: ``row`` i64[k] numbers transfers of the digest, ``way`` i64[k] ways
    into the kernel that they led to (-1: the transfer itself is listed), ``times`` i64[k] is how many ways to
    the same system call it stands for, ``prediction`` i64[k] is when in the run, and ``novelty`` f64[k] of
    all that it stands for, in nats; ``left_out`` is how many more are new."""

    row: I64
    way: I64
    times: I64
    prediction: I64
    novelty: F64
    left_out: int


class NewsOfRun:
    """What is new in a run, in the order in which it came: transfers, and ways into the kernel that weigh."""

    def __init__(self, digest: Digest, new: New) -> None:
        self._digest, self._new = digest, new
        self.count = digest.about.transfers
        # a way may end behind the last transfer
        self._index = np.minimum(new.position, max(0, self.count - 1))
        step = np.where(new.way < 0, digest.taken.step.view(np.int64)[new.source], -1)
        self._news = News(self._index, new.weights, step, WINDOW)
        ways = np.flatnonzero(new.way >= 0)
        when = np.concatenate([digest.taken.first[new.row], self._index[ways]])
        order = np.argsort(when, kind="stable")
        self._when = when[order]
        self._row = np.concatenate([new.row, new.source[ways]])[order]
        self._way = np.concatenate([np.full(len(new.row), -1), new.way[ways]])[order]
        self._novelty = np.concatenate([new.weight, new.weights[ways]])[order]
        self._reached = dict(zip(new.row.tolist(), new.reached.tolist(), strict=True))

    def curve(self, budget: Budget) -> Curve:
        """Novelty along the whole run."""
        bins = max(1, min(budget.bins, self.count))
        index, values = _summed(self._index, self._new.weights)
        which = index * bins // max(1, self.count)
        highest = np.zeros(bins)
        np.maximum.at(highest, which, values)
        sizes = np.diff(-(-np.arange(bins + 1, dtype=np.int64) * self.count // bins))
        marked, left_out = self._news.marked(budget.news)
        return Curve(
            value="novelty",
            each=max(1, self.count) / bins,
            mean=few_digits(_sums(which, values, bins) / np.maximum(sizes, 1)),
            highest=few_digits(highest),
            news=marked,
            news_left_out=left_out,
        )

    def alarm(self, threshold: float | None, judged: int) -> Alarm | None:
        """Where the sum within the window first exceeds the threshold, among so many transfers."""
        found = None if threshold is None else self._news.alarm(threshold)
        if found is None or found[0] >= judged:
            return None
        prediction, step = found
        return Alarm(prediction=prediction, position=None if step < 0 else step)

    def windows(self, most: int, judged: int) -> list[Stretch]:
        """At most so many windows, those among the first ``judged`` transfers before others."""
        chosen: list[Stretch] = []
        for span in ((0, judged), (judged, self.count)):
            chosen += self._news.windows(most - len(chosen), span, chosen)
        return chosen

    def shown(self, window: Stretch, most: int) -> Shown:
        """What to list of a window: the most novel, in the order in which they came."""
        inside = np.flatnonzero((self._when >= window.begin) & (self._when < window.end))
        # ways to one system call are told once, when the first of them is gone; each transfer by itself
        way = self._way[inside]
        # there may be no way at all
        entries = np.append(self._digest.ways.entry, np.uint64(0))
        entry = np.where(way < 0, inside.astype(np.uint64), entries[way])
        _, first, which = np.unique(
            np.stack([(way >= 0).astype(np.uint64), entry]), axis=1, return_index=True, return_inverse=True
        )
        which = which.ravel()
        times = np.bincount(which, minlength=len(first))
        novelty = _sums(which, self._novelty[inside], len(first))
        # each by its own novelty: many alike are not more novel than one
        best = np.lexsort((first, -self._novelty[inside[first]]))[:most]
        best = best[np.argsort(first[best])]
        listed = inside[first[best]]
        return Shown(
            row=self._row[listed],
            way=self._way[listed],
            times=times[best],
            prediction=self._when[listed],
            novelty=novelty[best],
            left_out=len(inside) - int(times[best].sum()),
        )

    def wanted(self, listed: list[Shown]) -> Wanted:
        """The transfers that are listed, whose places are to be found."""
        row = np.unique(np.concatenate([np.zeros(0, np.int64), *(each.row for each in listed)]))
        taken = self._digest.taken
        return Wanted(
            prediction=taken.first[row],
            position=taken.step[row],
            actual=taken.target[row],
            classes=None,
            count=self.count,
        )

    def window(
        self, window: Stretch, listed: Shown, threshold: float | None, budget: Budget, names: Names
    ) -> Window:
        """A window as a report has it; sums above the threshold are anomalous by themselves."""
        inside = (self._index >= window.begin) & (self._index < window.end)
        novelty = float(self._new.weights[inside].sum())
        first = self._digest.taken.first[self._new.row]
        own = self._new.row[(first >= window.begin) & (first < window.end)]
        steps = self._digest.taken.step[own].tolist()
        return Window(
            begin=window.begin,
            end=window.end,
            position=steps[0] if steps else None,
            position_end=steps[-1] if steps else None,
            chosen_by="novelty",
            novelty=round(novelty, 4),
            surprisal=None,
            wrong=None,
            above_threshold=threshold is not None and novelty > threshold,
            transfers=[names.transfer(*each, self._reached) for each in _rows(listed)],
            left_out=listed.left_out,
            detail=self._detail(window, budget),
        )

    def _detail(self, window: Stretch, budget: Budget) -> Detail:
        margin = (window.end - window.begin) // 2
        start, stop = max(0, window.begin - margin), min(self.count, window.end + margin)
        each = -(-(stop - start) // budget.detail)
        index, values = _summed(self._index, self._new.weights)
        inside = (index >= start) & (index < stop)
        highest = np.zeros(-(-(stop - start) // each))
        np.maximum.at(highest, (index[inside] - start) // each, values[inside])
        return Detail(begin=start, each=each, values=np.round(highest, 2).tolist())


class Names:
    """Names the new transfers of one run: by the blocks that its path holds, else by what its digest says."""

    def __init__(self, digest: Digest, located: Located, namer: Namer) -> None:
        self._digest, self._located, self._namer = digest, located, namer

    def transfer(
        self, row: int, way: int, times: int, prediction: int, novelty: float, reached: dict[int, bool]
    ) -> Transfer:
        """The transfer of that row, or the way into the kernel that it led to; see Shown."""
        taken, located, namer = self._digest.taken, self._located, self._namer
        when = int(taken.first[row])
        block, target = located.source.get(when), located.target.get(when)
        source = self._branch(taken.site[row]) if block is None else namer.block(block)
        if way >= 0:
            entry = self._branch(self._digest.ways.entry[way])
            return Transfer(
                prediction=prediction,
                source=source,
                actual=entry,
                novelty=round(novelty, 3),
                times=times,
                way=True,
            )
        token = int(taken.target[row])
        return Transfer(
            prediction=prediction,
            position=int(taken.step[row]),
            source=source,
            kind=KINDS[int(taken.kind[row])],
            instruction=None if block is None else located.texts.get(block),
            instruction_offset=None if block is None else located.branches.get(block),
            actual=namer.target(token, *self._digest.module_of(token))
            if target is None
            else namer.block(target),
            seen=int(reached[row]),
            novelty=round(novelty, 3),
        )

    def _branch(self, site: Any) -> int:
        token = int(site)
        return self._namer.branch(token, *self._digest.module_of(token))


def _rows(listed: Shown) -> list[tuple[int, int, int, int, float]]:
    columns = (listed.row, listed.way, listed.times, listed.prediction, listed.novelty)
    return list(zip(*(column.tolist() for column in columns), strict=True))


def _summed(index: I64, weights: F64) -> tuple[NDArray[np.int64], F64]:
    """Distinct places, ascending, and the sum of the weights at each."""
    places, which = np.unique(index, return_inverse=True)
    return places, _sums(which, weights, len(places))


def _sums(which: I64, values: F64, count: int) -> F64:
    sums = np.zeros(count)
    np.add.at(sums, which, values)
    return sums
