"""Ways to system calls that nominal runs go, learnt from digests, and what is new in those of another run.

A run is the stranger, the more system calls it reaches by a block through which no other run goes on its way
to that call. It is looked at as one of a bag with the n nominal runs, each of which is compared with all
others, so that no rank of it among them is likelier than another if it is like them. A call counts once in a
run that has news of it, by how rarely others have:

    weight = -ln((u - 1/2) / (n + 1))

u runs of the bag having news of the same call, itself included (of a call that no other run makes: u of which
make one of their own). The score of a run is the sum of its weights.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import lru_cache

from barnum.digests.approaches import Approaches
from barnum.evaluations.signs import FEWEST_OF_APPROACHES
from barnum.evidence.known import KnownKey

# instead of a system call that no other run makes
_NEW = ""


@dataclass(frozen=True, slots=True)
class Approach:
    """A system call that is reached in a way that no nominal run goes: the token of its ``entry``, of the
    first new ``block`` on the way, the ``step`` at which it is reached, and its ``weight`` in nats."""

    entry: int
    block: int
    step: int
    weight: float


@dataclass(frozen=True, slots=True)
class Approached:
    """What is ``new`` in a run, by step, and the ``scores`` above 0 of nominal runs in the same bag, by what
    tells these apart."""

    new: tuple[Approach, ...]
    scores: dict[int, float]


def approach_keys(approaches: Approaches | None, identity: int) -> tuple[KnownKey, ...] | None:
    """The keys of a run, ascending; ``identity`` tells the run apart. None where they are not known."""
    if approaches is None:
        return None
    return tuple(KnownKey(key, 1, identity) for key in sorted(_keys(approaches)))


def _keys(approaches: Approaches) -> list[str]:
    pairs = zip(approaches.entry.tolist(), approaches.block.tolist(), strict=True)
    return [f"{entry:x} {block:x}" for entry, block in pairs]


def _entry(key: str) -> str:
    return key.partition(" ")[0]


class KnownApproaches:
    """What n nominal runs show."""

    def __init__(self, keys: tuple[KnownKey, ...], runs: int) -> None:
        self._runs = runs
        self._keys = frozenset(each.key for each in keys)
        # of keys that a single run has, that run
        self._owner = {each.key: each.run for each in keys if each.run is not None}
        # by entry, the only run that makes the call (None: several do)
        self._maker: dict[str, int | None] = {}
        # by run, how many keys of each entry are its own
        self._alone: dict[int, Counter[str]] = {}
        for each in keys:
            entry = _entry(each.key)
            if each.run is None or self._maker.setdefault(entry, each.run) != each.run:
                self._maker[entry] = None
            if each.run is not None:
                self._alone.setdefault(each.run, Counter())[entry] += 1

    def of(self, approaches: Approaches | None = None) -> Approached:
        """What is new in a run, which is put into the bag (None: none is)."""
        keys = [] if approaches is None else _keys(approaches)
        made = {_entry(key) for key in keys}
        new = {row: key for row, key in enumerate(keys) if key not in self._keys}
        shared: dict[int, Counter[str]] = {}
        for key in keys:
            owner = self._owner.get(key)
            if owner is not None:
                shared.setdefault(owner, Counter())[_entry(key)] += 1
        news = dict(self._news(made, shared))
        own: dict[str, int] = {}
        for row, key in new.items():
            entry = _entry(key)
            own.setdefault(entry if entry in self._maker else _NEW, row)
        units = Counter(call for calls in news.values() for call in calls)
        units.update(own.keys())
        bag = self._runs + (approaches is not None)
        # a forged file may count more runs than it has
        weights = {call: max(0.0, -math.log((count - 0.5) / bag)) for call, count in units.items()}
        found: list[Approach] = []
        if approaches is not None:
            found = [
                Approach(
                    int(approaches.entry[row]),
                    int(approaches.block[row]),
                    int(approaches.step[row]),
                    weights[call],
                )
                for call, row in own.items()
            ]
        scores = {run: sum(weights[call] for call in calls) for run, calls in news.items()}
        return Approached(tuple(found), scores)

    def _news(self, made: Collection[str], shared: dict[int, Counter[str]]) -> Iterator[tuple[int, set[str]]]:
        """Of which calls each nominal run has news, beside a run that makes the calls ``made``, and has so
        many keys with a nominal run that no other has."""
        for run, entries in self._alone.items():
            less = shared.get(run, Counter[str]())
            calls = {
                entry if self._maker[entry] is None or entry in made else _NEW
                for entry, count in entries.items()
                if count > less[entry]
            }
            if calls:
                yield run, calls


@lru_cache(maxsize=4)
def _known(keys: _Same, runs: int) -> KnownApproaches:
    return KnownApproaches(keys.keys, runs)


class _Same:
    """Keys that are the same where they are one object: to compare them all takes long."""

    __slots__ = ("keys",)

    def __init__(self, keys: tuple[KnownKey, ...]) -> None:
        self.keys = keys

    def __hash__(self) -> int:
        return id(self.keys)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.keys is other.keys


def known_approaches(keys: tuple[KnownKey, ...], runs: int) -> KnownApproaches:
    """The same, kept for those that are asked for again."""
    return _known(_Same(keys), runs)


def promise_of(keys: tuple[KnownKey, ...] | None, runs: int, rate: float) -> str | None:
    """A line on when ways to system calls make a run anomalous, and what that costs; None where they do
    not."""
    if keys is None or runs < FEWEST_OF_APPROACHES:
        return None
    most = max(1, int(rate * (1 + runs) + 1e-9))
    others = "any" if most == 1 else f"all but {most - 1}"
    such = len(known_approaches(keys, runs).of().scores) or "none"
    return (
        "ways to system calls that no nominal run goes are anomalous where they weigh more than those of "
        f"{others} of these runs, left out ({such} would have such); at most "
        f"{100 * most / (1 + runs):.3g} % more false alarms"
    )
