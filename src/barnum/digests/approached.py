"""Ways to system calls that nominal runs go, learnt from digests, and what is new in those of another run.

A run is the stranger, the more system calls it reaches by a block that no nominal run has on its way to that
call. Each counts once, by how rarely nominal runs bring such news of that call when they are left out:

    weight = -ln((u + 1/2) / (n + 1))

of n nominal runs, u of which have news of the same call (of one that no other run makes: u of which have
such). A nominal run that is left out is weighed among the n - 1 others.
"""

from __future__ import annotations

import math
from collections import Counter
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


def approach_keys(approaches: Approaches | None, identity: int) -> tuple[KnownKey, ...] | None:
    """The keys of a run, ascending; ``identity`` tells the run apart. None where they are not known."""
    if approaches is None:
        return None
    keys = _keys(approaches)
    return tuple(KnownKey(key, 1, identity) for key in sorted(keys))


def _keys(approaches: Approaches) -> list[str]:
    pairs = zip(approaches.entry.tolist(), approaches.block.tolist(), strict=True)
    return [f"{entry:x} {block:x}" for entry, block in pairs]


class KnownApproaches:
    """What n nominal runs show."""

    def __init__(self, keys: tuple[KnownKey, ...], runs: int) -> None:
        self._keys = frozenset(each.key for each in keys)
        self._runs = runs
        # by entry, the only run that made it (None: several did)
        makers: dict[str, int | None] = {}
        alone: dict[int, set[str]] = {}
        for each in keys:
            entry = each.key.partition(" ")[0]
            if each.run is None or makers.setdefault(entry, each.run) != each.run:
                makers[entry] = None
            if each.run is not None:
                alone.setdefault(each.run, set()).add(entry)
        self._entries = frozenset(makers)
        news = {
            run: {_NEW if makers[entry] is not None else entry for entry in entries}
            for run, entries in alone.items()
        }
        self._units = Counter(entry for entries in news.values() for entry in entries)
        scores = [sum(self._weight(entry, 1) for entry in entries) for entries in news.values()]
        self.scores = tuple(sorted(scores, reverse=True))

    def _weight(self, entry: str, own: int) -> float:
        """``own``: 1 for a run that is left out."""
        return -math.log((self._units[entry] - own + 0.5) / (self._runs - own + 1))

    def new(self, approaches: Approaches) -> list[Approach]:
        """What is new in a run, by step."""
        steps, blocks = approaches.step.tolist(), approaches.block.tolist()
        found: dict[str, Approach] = {}
        for row, key in enumerate(_keys(approaches)):
            if key in self._keys:
                continue
            entry = key.partition(" ")[0]
            known = entry if entry in self._entries else _NEW
            if known not in found:
                weight = self._weight(known, 0)
                found[known] = Approach(int(entry, 16), blocks[row], steps[row], weight)
        return list(found.values())


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
    such = len(known_approaches(keys, runs).scores) or "none"
    return (
        "ways to system calls that no nominal run goes are anomalous where they weigh more than those of "
        f"{others} of these runs, left out ({such} would have such); at most "
        f"{100 * most / (1 + runs):.3g} % more false alarms"
    )
