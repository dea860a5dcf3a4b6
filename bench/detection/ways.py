"""Ways of judging that are compared. What is chosen is a part of the product; the others are tried here."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from barnum.detector.fitted import fit
from barnum.digests.notes import Notes
from barnum.evaluations.signs import FEWEST_OF_APPROACHES, hints_count
from barnum.evaluations.windows import worst_window
from barnum.sequences.rates import flags_of, module_pair

if TYPE_CHECKING:
    from judging import End
    from recordings import Run

I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]


class Learnt(Protocol):
    """What was learnt: scores above ``threshold`` are anomalous, which keeps false alarms to ``rate``."""

    rate: float
    threshold: float

    def score(self, run: Run, end: End, signs: float) -> float:
        """The score of a run until an end; ``signs``: see judging.signs()."""


class Way(Protocol):
    """A way of judging."""

    name: str

    def learn(self, nominal: Sequence[Run]) -> Learnt:
        """Learn from nominal runs."""


def threshold_of(scores: Sequence[float]) -> tuple[float, float]:
    """The threshold by scores of nominal runs that were left out, and the rate that it keeps to: 1 %, or the
    least that so many allow."""
    rate = max(0.01, 1 / (len(scores) + 1))
    allowed = int(rate * (len(scores) + 1) + 1e-9) - 1
    return sorted(scores)[len(scores) - 1 - allowed], rate


@dataclass
class Product:
    """The product's own: novelty within a window; with evidence and effects, or without."""

    signs: bool = True

    @property
    def name(self) -> str:
        return "novelty, evidence, effects" if self.signs else "novelty"

    def learn(self, nominal: Sequence[Run]) -> Learnt:
        return _Product(nominal, self.signs)


class _Product:
    def __init__(self, nominal: Sequence[Run], signs: bool) -> None:
        fitted = fit(((run.digest, run.identity) for run in nominal), rate=None)
        self._knowledge, self._signs = fitted.knowledge, signs
        classifier = fitted.classifier
        self.threshold = math.inf if classifier is None else classifier.threshold
        self.rate = 0.0 if classifier is None else classifier.rate
        if signs:
            self.rate += _beside(fitted.about.notes, len(nominal))

    def score(self, run: Run, end: End, signs: float) -> float:
        score = self._knowledge.new(run.digest, end.transfers).score
        return max(score, signs) if self._signs else score


def _beside(notes: Notes, runs: int) -> float:
    """The share of nominal runs that evidence, effects and new ways to system calls may add."""
    rate, more = 0.01, 0
    if hints_count(runs, notes.unusual, rate):
        more += 1 + notes.unusual
    elif notes.alarming <= rate * runs:
        more += 1 + notes.alarming
    if notes.watched == runs and hints_count(runs, notes.acting, rate):
        more += 1 + notes.acting
    if notes.approaches is not None and runs >= FEWEST_OF_APPROACHES:
        more += max(1, int(rate * (1 + runs) + 1e-9))
    return more / (1 + runs)


@dataclass
class News:
    """New transfers by kinds of one's own: each kind of new transfer weighs once, by how rarely nominal runs,
    left out, bring something new of it; summed up within a window (None: the whole run).

    ``keys``: of new transfers, from tokens of sites and targets u64[n] and flags i64[n], i64[n] each.
    """

    name: str
    keys: Callable[[U64, U64, I64], list[I64]]
    window: int | None = 500
    ways: bool = True

    def learn(self, nominal: Sequence[Run]) -> Learnt:
        return _News(self, nominal)


def by_modules(site: U64, target: U64, flags: I64) -> list[I64]:
    """As the product: by modules of site and target."""
    return [module_pair(site, target) * 64 + flags]


def by_region(bits: int) -> Callable[[U64, U64, I64], list[I64]]:
    """By the stretch of 2^bits bytes that holds the target."""

    def keys(site: U64, target: U64, flags: I64) -> list[I64]:
        return [(target >> np.uint64(bits)).astype(np.int64)]

    return keys


def by_both(bits: int) -> Callable[[U64, U64, I64], list[I64]]:
    """By modules, and by regions."""

    def keys(site: U64, target: U64, flags: I64) -> list[I64]:
        return [*by_modules(site, target, flags), *by_region(bits)(site, target, flags)]

    return keys


class _Known:
    """In how many runs each of some numbers was."""

    def __init__(self, runs: Sequence[U64]) -> None:
        self.values, self.runs = np.unique(
            np.concatenate([np.unique(run) for run in runs]), return_counts=True
        )

    def of(self, values: U64) -> I64:
        at = np.minimum(np.searchsorted(self.values, values), len(self.values) - 1)
        found: I64 = np.where(self.values[at] == values, self.runs[at], 0)
        return found


class _News:
    def __init__(self, way: News, nominal: Sequence[Run]) -> None:
        self._way, self._count = way, len(nominal)
        taken = [run.digest.taken for run in nominal]
        self._edges = _Known([_mixed(each.site, each.target) for each in taken])
        self._sites = _Known([each.site for each in taken])
        self._targets = _Known([each.target for each in taken])
        site, target = (
            np.concatenate([getattr(each, name) for each in taken]) for name in ("site", "target")
        )
        _, at = np.unique(_mixed(site, target), return_index=True)
        self._fan = Counter(site[at].tolist())
        self._units: list[Counter[object]] = []
        events = [self._events(run, None, 1) for run in nominal]
        for each in events:
            for number, (keys, _) in enumerate(each):
                if number == len(self._units):
                    self._units.append(Counter())
                self._units[number].update(set(keys))
        self.threshold, self.rate = threshold_of([self._sum(each, 1) for each in events])

    def score(self, run: Run, end: End, signs: float) -> float:
        return max(signs, self._sum(self._events(run, end.transfers, 0), 0))

    def _events(self, run: Run, limit: int | None, own: int) -> list[tuple[list[object], list[int]]]:
        """Keys of what is new, and when it came, of each manner; ``own``: 1 for a run that was learnt."""
        taken, gone = run.digest.taken, run.digest.ways
        rows = slice(0, None if limit is None else int(np.searchsorted(taken.first, limit)))
        site, target, kind, first = (
            getattr(taken, name)[rows] for name in ("site", "target", "kind", "first")
        )
        new = np.flatnonzero(self._edges.of(_mixed(site, target)) <= own)
        brought = Counter(site[new].tolist()) if own else Counter()
        known = np.array([self._fan[each] - brought[each] for each in site[new].tolist()], np.int64)
        flags = flags_of(
            self._sites.of(site[new]) - own,
            known,
            self._targets.of(target[new]) > own,
            kind[new].astype(np.int64),
            self._count - own,
        )
        manners = self._way.keys(site[new], target[new], flags)
        events: list[tuple[list[object], list[int]]] = [
            (keys.tolist(), first[new].tolist()) for keys in manners
        ]
        if self._way.ways:
            flags_of_row = np.full(len(site), -1)
            flags_of_row[new] = flags
            end = len(gone.first) if limit is None else int(np.searchsorted(gone.first, limit))
            row = gone.taken[:end].astype(np.int64)
            led = np.flatnonzero(flags_of_row[row] >= 0)
            keys = list(zip(flags_of_row[row[led]].tolist(), gone.entry[led].tolist(), strict=True))
            events.append((list(keys), gone.first[led].tolist()))
        return events

    def _sum(self, events: list[tuple[list[object], list[int]]], own: int) -> float:
        places: list[int] = []
        weights: list[float] = []
        for (keys, first), units in zip(events, self._units, strict=True):
            seen: set[object] = set()
            for key, at in zip(keys, first, strict=True):
                if key in seen:
                    continue
                seen.add(key)
                places.append(at)
                weights.append(-math.log((units[key] - own + 0.5) / (self._count + 1 - own)))
        if self._way.window is None or not places:
            return sum(weights)
        order = np.argsort(places, kind="stable")
        return worst_window(np.array(places)[order], np.array(weights)[order], self._way.window)[0]


def _mixed(site: U64, target: U64) -> U64:
    mixed: U64 = (site * np.uint64(0x9E3779B97F4A7C15)) ^ (target * np.uint64(0xC2B2AE3D27D4EB4F))
    return mixed


WAYS: tuple[Way, ...] = (
    Product(),
    Product(signs=False),
    News("by modules", by_modules),
    News("by modules, no ways into the kernel", by_modules, ways=False),
    News("by modules, 2,000 transfers", by_modules, 2000),
    News("by modules, whole run", by_modules, None),
    News("by regions of 256 bytes", by_region(8)),
    News("by regions of 4 KiB", by_region(12)),
    News("by modules and regions of 4 KiB", by_both(12)),
    News("by modules and regions of 1 KiB, whole run", by_both(10), None),
)
