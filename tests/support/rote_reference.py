"""The rote learner once more, in dicts and tuples: slow, and plain; see models/networks/rote.py."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from barnum._rote import SPREADS, TIMES

WIDE = 8

# transfers of a run: (token of the site, token of the target, no context reaches back over this one)
Run = Sequence[tuple[int, int, bool]]
# of each length, the context before a transfer, None where the run does not reach so far back
Contexts = list[tuple[object, ...] | None]


class Reference:
    """Counts what followed each context, of all ``lengths``."""

    def __init__(self, lengths: Sequence[int]) -> None:
        self.lengths = list(lengths)
        self.kept = len(self.lengths)
        self.counts: list[dict[object, Counter[int]]] = [defaultdict(Counter) for _ in lengths]
        cells = 2 * len(self.lengths) * TIMES * SPREADS
        self.settle(np.zeros(cells), np.zeros(cells), np.zeros(2))

    def contexts(self, run: Run) -> Iterator[tuple[int, Contexts]]:
        """Of each transfer: the target, and its contexts."""
        begin = 0
        for at, (site, target, first) in enumerate(run):
            if first:
                begin = at
            before = [pair[:2] for pair in run[max(begin, at - self.lengths[-1]) : at]]
            yield (
                target,
                [(site, *before[len(before) - n :]) if n <= len(before) else None for n in self.lengths],
            )

    def add(self, run: Run) -> None:
        for target, contexts in self.contexts(run):
            for followers, context in zip(self.counts[: self.kept], contexts, strict=False):
                if context is not None:
                    followers[context][target] += 1

    def keep(self, lengths: int) -> None:
        """Forget contexts for good, but for those of so many lengths, the shortest."""
        self.kept = min(self.kept, lengths)
        for followers in self.counts[self.kept :]:
            followers.clear()

    def told(self) -> list[list[list[tuple[int, int]]]]:
        """Of each length, followers and counts of each context, whatever the order of contexts."""
        return [sorted(sorted(row.items()) for row in followers.values()) for followers in self.counts]

    @property
    def targets(self) -> set[int]:
        return {target for followers in self.counts[0].values() for target in followers}

    def settle(self, tried: np.ndarray, escaped: np.ndarray, base: np.ndarray) -> None:
        """Chances of escapes: of each class what was measured, drawn to that of its row (contexts of one
        length), which is drawn to that of all rows."""
        shape = (2, len(self.lengths), TIMES, SPREADS)
        tried, escaped = tried.reshape(shape), escaped.reshape(shape)
        every = (escaped.sum((1, 2, 3)) + 0.5) / (tried.sum((1, 2, 3)) + 1)
        of_row = (escaped.sum((2, 3)) + 0.5) / (tried.sum((2, 3)) + 0.5 / every[:, None])
        share = np.minimum(1, of_row)[:, :, None, None]
        self.escape = np.clip((escaped + 0.5) / (tried + 0.5 / share), 1e-9, 1 - 1e-6)
        self.fresh = float((base[1] + 0.5) / (base[0] + 1))

    def asked(self, contexts: Contexts) -> Iterator[tuple[tuple[int, int, int, int], Counter[int]]]:
        """The contexts that are asked, the longest first: the class of each, and followers that are not
        excluded; last of all no class, and how many sites lead to each target."""
        excluded: set[int] = set()
        after = 0
        for order in reversed(range(len(self.lengths))):
            followers = self.counts[order].get(contexts[order], Counter())
            left = Counter({y: n for y, n in followers.items() if y not in excluded})
            if not left:
                continue
            often = min((left.total() - 1).bit_length(), TIMES - 1)
            yield (after, order, often, min(len(left), SPREADS) - 1), left
            after = 1
            if len(followers) <= WIDE:
                excluded = set(followers)
        led = Counter(y for followers in self.counts[0].values() for y in followers if y not in excluded)
        yield (-1, -1, -1, -1), led

    def chances(self, contexts: Contexts, base: bool = True) -> tuple[dict[int, float], float]:
        """The chance of each known target after contexts, and that of any other target; or, without
        ``base``, what contexts alone say."""
        chance: dict[int, float] = defaultdict(float)
        left = 1.0
        for cell, followers in self.asked(contexts):
            if cell[0] < 0 and not base:
                break
            escape = self.escape[cell] if cell[0] >= 0 else self.fresh if followers else 1
            for target, count in followers.items():
                chance[target] += left * (1 - escape) * count / followers.total()
            left *= escape
        return chance, left

    def score(self, run: Run) -> Iterator[tuple[float, dict[int, float], float]]:
        """Of each transfer: its surprisal in nats, the chances of all known targets, and the greatest one
        that contexts alone give."""
        for target, contexts in self.contexts(run):
            chance, other = self.chances(contexts)
            surprisal = -np.log(chance[target] if target in self.targets else other)
            yield float(surprisal), chance, max(self.chances(contexts, base=False)[0].values(), default=0)

    def escapes(self, run: Run) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """How often each class of contexts was asked, and how often in vain; the same where none was left."""
        tried, escaped, base = np.zeros(self.escape.shape), np.zeros(self.escape.shape), np.zeros(2)
        for target, contexts in self.contexts(run):
            for cell, followers in self.asked(contexts):
                if cell[0] < 0:
                    base += [1, target not in self.targets]
                    break
                tried[cell] += 1
                if target in followers:
                    break
                escaped[cell] += 1
        return tried.ravel(), escaped.ravel(), base


def reference_of(lengths: Sequence[int], runs: Iterable[Run]) -> Reference:
    made = Reference(lengths)
    for run in runs:
        made.add(run)
    return made
