"""The rote learner: a table of what followed each context in training, and how far that can be relied on.

A context is a site (a branch) and the transfers before it, of several lengths. Prediction is by partial
matching: the longest context that is known says what follows; what never followed it is left to the next
shorter context that leads to anything else (targets that a longer one has been asked about are excluded),
down to the site alone, then to all targets by the number of sites that lead to them, and to targets never
seen. Each step down costs the chance of an *escape*,

    P(y) = (1 - e) · c(x, y) / c(x)                  where y followed context x,
           e · P(y | the next shorter context)        otherwise,

with counts c that leave excluded targets out. The chance e is not computed from the counts of one context but
measured over all contexts of that length, that were met about as often and were followed by as many targets:
each training run is predicted before it is learnt, as a new run would be, and escapes are counted
(separately for longest contexts, and for those asked after a longer one). Recent runs weigh more, for they
were predicted by a model nearly as large as the final one.

Sources: J. G. Cleary, I. H. Witten, Data Compression Using Adaptive Coding and Partial String Matching, IEEE
Trans. Communications 32 (1984), for back-off with exclusion; C. Bloom, Solving the Problems of Context
Modeling (1998), for measured escapes; A. P. Dawid, The Prequential Approach, J. Royal Statistical Society A
147 (1984), for measuring by predicting before learning. A context with more than 8 followers excludes none of
them: what it says is mixed with what the shorter ones say. The chances of all targets add up to 1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from barnum._rote import SPREADS, TIMES, Rote, Walk
from barnum.errors import ModelError
from barnum.paths import Transfers
from barnum.sequences import Tokens

LADDER = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)
LONGEST = LADDER[-1]

# no class of contexts is asked more often: counts of times stay exact, and their sums finite
_MOST_TRIED = float(1 << 53)

Rule = Literal["likeliest", "draw"]
Arrays = dict[str, NDArray[Any]]
F64 = NDArray[np.float64]
U64 = NDArray[np.uint64]
U32 = NDArray[np.uint32]
_Counted = tuple[U64, U64, U64, U32]


class RoteConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``lengths`` of contexts, ascending from 0; ``rule`` by which predictions are made: ``likeliest``, or
    the original's ``draw`` (in proportion to counts); contexts of the ``forgotten`` longest of the lengths
    were forgotten to keep within a bound of memory."""

    lengths: list[Annotated[int, msgspec.Meta(ge=0, le=LONGEST)]]
    rule: Rule = "likeliest"
    forgotten: Annotated[int, msgspec.Meta(ge=0, le=len(LADDER) + 1)] = 0

    def __post_init__(self) -> None:
        if not 1 <= len(self.lengths) <= len(LADDER) + 2:
            raise ValueError("contexts have too few or too many lengths")
        if self.lengths[0] != 0 or sorted(set(self.lengths)) != self.lengths:
            raise ValueError("lengths of contexts ascend from 0")
        if self.forgotten >= len(self.lengths):
            raise ValueError("sites alone are never forgotten")


def lengths_up_to(longest: int) -> list[int]:
    """The lengths of contexts that are counted: 0, all small ones, then two a doubling, and the longest."""
    return [0, *(length for length in LADDER if length < longest), longest]


class RoteNetwork:
    """The counts, and the escapes measured. To be settled after counts were added, before it scores."""

    def __init__(self, config: RoteConfig) -> None:
        self.config = config
        self.counts = Rote(list(config.lengths))
        self.counts.keep(len(config.lengths) - config.forgotten)
        cells = 2 * len(config.lengths) * TIMES * SPREADS
        self.tried: F64 = np.zeros(cells)
        self.escaped: F64 = np.zeros(cells)
        self.base: F64 = np.zeros(2)

    def settle(self) -> None:
        """Let what was added count."""
        self.counts.settle(self.tried, self.escaped, self.base)

    def fade(self, weight: float) -> None:
        """Let the escapes measured so far weigh less."""
        self.tried, self.escaped, self.base = (
            array * weight for array in (self.tried, self.escaped, self.base)
        )

    def measured(self, tried: F64, escaped: F64, base: F64) -> None:
        """Add escapes: how often each class of contexts was asked, and how often in vain; ``base`` f64[2]
        the same for targets that no context led to."""
        self.tried, self.escaped, self.base = (
            np.minimum(ours + more, _MOST_TRIED)
            for ours, more in ((self.tried, tried), (self.escaped, escaped), (self.base, base))
        )

    def merge(
        self, other: RoteNetwork, piece: int | None = None, make_room: Callable[[int], None] | None = None
    ) -> None:
        """Add what another one has counted, whose lengths are the same; what one of both has forgotten is
        forgotten. ``make_room`` is called before each ``piece`` of counts with their number, and may forget
        lengths."""
        self.counts.keep(min(self.counts.kept, other.counts.kept))
        for order in range(self.counts.kept):
            if order < self.counts.kept:
                for key, first, token, count in _pieces(*other.counts.counts(order), piece):
                    if make_room is not None:
                        make_room(len(token))
                    if order >= self.counts.kept:
                        break
                    self.counts.add_counts(order, key, first, token, count)
        self.measured(other.tried, other.escaped, other.base)

    def arrays(self, threads: int = 1) -> Arrays:
        """All numbers by name: equal counts give equal arrays."""
        numbers: Arrays = {
            "target": np.sort(self.counts.targets),
            "tried": self.tried,
            "escaped": self.escaped,
            "base": self.base,
        }
        for order, (key, followers, follower, count) in enumerate(self.counts.all_counts(threads)):
            numbers |= {
                f"context.{order}": key,
                f"followers.{order}": followers,
                f"follower.{order}": follower,
                f"count.{order}": count,
            }
        return numbers

    @classmethod
    def from_arrays(cls, config: RoteConfig, arrays: Arrays) -> RoteNetwork:
        """The reverse of arrays().

        Raises:
            ModelError: arrays are missing or contradict each other.
        """
        network = cls(config)
        cells = len(network.tried)
        wanted: dict[str, tuple[type, int | None]] = {
            "target": (np.uint64, None),
            "tried": (np.float64, cells),
            "escaped": (np.float64, cells),
            "base": (np.float64, 2),
        }
        for order in range(len(config.lengths)):
            wanted |= {
                f"context.{order}": (np.uint64, None),
                f"followers.{order}": (np.uint32, None),
                f"follower.{order}": (np.uint32, None),
                f"count.{order}": (np.uint32, None),
            }
        for name in sorted(wanted.keys() | arrays.keys()):
            array = arrays.get(name)
            dtype, size = wanted.get(name, (object, None))
            if array is None or array.dtype != dtype or array.ndim != 1 or size not in (None, len(array)):
                raise ModelError(
                    f"the counts are unusable: {name[:40]} is missing or of another type or size"
                )
        target = arrays["target"]
        if not bool((target[1:] > target[:-1]).all()):
            raise ModelError("the counts are unusable: targets do not ascend")
        measured = [(arrays["tried"], arrays["escaped"]), (arrays["base"][:1], arrays["base"][1:])]
        for tried, escaped in measured:
            if not bool(((escaped >= 0) & (escaped <= tried) & (tried <= _MOST_TRIED)).all()):
                raise ModelError("the counts are unusable: escapes are no numbers of times")
        network.tried, network.escaped, network.base = arrays["tried"], arrays["escaped"], arrays["base"]
        for order in range(len(config.lengths)):
            network._add(order, arrays)
        network.settle()
        return network

    def _add(self, order: int, arrays: Arrays) -> None:
        context, followers, follower, count = (arrays[f"{name}.{order}"] for name in _COUNTS)
        target = arrays["target"]
        first = np.zeros(len(followers) + 1, np.uint64)
        np.cumsum(followers, out=first[1:])
        ascend = bool((context[1:] > context[:-1]).all()) and bool((followers > 0).all())
        fits = len(context) == len(followers) and int(first[-1]) == len(follower) == len(count)
        if not ascend or not fits or (len(follower) and int(follower.max()) >= len(target)):
            raise ModelError(f"the counts of contexts of order {order} contradict themselves")
        try:
            self.counts.add_counts(order, context, first, target[follower], count)
        except ValueError:
            raise ModelError(f"the counts of contexts of order {order} contradict themselves") from None


_COUNTS = ("context", "followers", "follower", "count")


def _pieces(key: U64, first: U64, token: U64, count: U32, most: int | None) -> Iterator[_Counted]:
    """Counts as Rote.counts() gives them, in pieces of at most so many followers, or of one context."""
    begin = 0
    while begin < len(key):
        end = len(key)
        if most is not None:
            last = int(np.searchsorted(first, first[begin] + np.uint64(most), "right")) - 1
            end = max(begin + 1, min(end, last))
        of = slice(int(first[begin]), int(first[end]))
        yield key[begin:end], first[begin : end + 1] - first[begin], token[of], count[of]
        begin = end


class Roller:
    """Contexts of one run, whose transfers come part by part."""

    def __init__(self, lengths: Sequence[int], tokens: Tokens) -> None:
        self.walk = Walk(lengths[-1])
        self._tokens = tokens
        self._blocks: object = None
        self._sites = self._targets = np.zeros(0, np.uint64)

    def roll(self, part: Transfers) -> Walk:
        """The contexts of the next transfers; valid until the next call."""
        if part.blocks is not self._blocks:
            self._blocks = part.blocks
            self._sites = np.ascontiguousarray(self._tokens.sites(part.blocks))
            self._targets = np.ascontiguousarray(self._tokens.targets(part.blocks))
        self.walk.roll(self._sites, self._targets, part.source, part.target, part.first)
        return self.walk
