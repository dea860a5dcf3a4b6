"""Counts of what followed each context, and what they predict; see native/rote."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

TIMES: int
SPREADS: int

_Scores = tuple[NDArray[np.uint64], NDArray[np.float32], NDArray[np.bool_], NDArray[np.float32]]

class Walk:
    """Contexts of one run, stretch by stretch."""

    def __init__(self, longest: int) -> None: ...
    def __len__(self) -> int: ...
    def roll(
        self,
        sites: NDArray[np.uint64],
        targets: NDArray[np.uint64],
        source: NDArray[np.uint32],
        target: NDArray[np.uint32],
        first: NDArray[np.bool_],
    ) -> None:
        """The next m transfers: blocks ``source`` and ``target`` u32[m] of a table with the tokens ``sites``
        and ``targets`` u64[k]; ``first`` bool[m]: no context reaches back over this one."""

class Rote:
    """The counts; ``lengths`` of contexts ascend from 0."""

    def __init__(self, lengths: Sequence[int]) -> None: ...
    @property
    def lengths(self) -> list[int]: ...
    @property
    def targets(self) -> NDArray[np.uint64]:
        """Tokens of all targets, in the order in which they were met."""
    @property
    def contexts(self) -> int: ...
    @property
    def bytes(self) -> int: ...
    @property
    def kept(self) -> int:
        """How many of the lengths, the shortest, are counted."""
    def bytes_with(self, transfers: int, at_once: int) -> int:
        """The most memory that may be needed while so many transfers more are added, by so many threads
        at most."""
    def add(self, walk: Walk, threads: int) -> None: ...
    def score(self, walk: Walk, threads: int) -> _Scores:
        """Of each transfer: predicted u64[m] (a token), confidence f32[m], correct bool[m], surprisal f32[m]
        in nats."""
    def chances(
        self, walk: Walk, threads: int, at: NDArray[np.int64], token: NDArray[np.uint64]
    ) -> NDArray[np.float64]:
        """f64[r]: the chance of each target ``token`` u64[r] at the transfers ``at`` i64[r], whatever
        happened there."""
    def draw(self, walk: Walk, threads: int, seed: int, offset: int) -> _Scores:
        """The same, but predictions are drawn in proportion to what followed the longest context. ``offset``
        transfers of the run came before."""
    def escapes(
        self, walk: Walk, threads: int
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """How often each class of contexts was asked, how often in vain, and both for targets that no site
        is known to lead to."""
    def settle(
        self, tried: NDArray[np.float64], escaped: NDArray[np.float64], base: NDArray[np.float64]
    ) -> None:
        """Make ready to score, with the chances of escapes that were measured."""
    def keep(self, lengths: int) -> None:
        """Forget contexts for good, but for those of so many lengths, the shortest.

        Raises:
            ValueError: that is none.
        """
    def counts(
        self, order: int
    ) -> tuple[NDArray[np.uint64], NDArray[np.uint64], NDArray[np.uint64], NDArray[np.uint32]]:
        """Of the contexts of one length: keys u64[n], where followers begin u64[n + 1]; followers u64[q]
        (tokens) and counts u32[q]. In a fixed order."""
    def all_counts(
        self, threads: int
    ) -> list[tuple[NDArray[np.uint64], NDArray[np.uint32], NDArray[np.uint32], NDArray[np.uint32]]]:
        """The contexts of each length: keys u64[n], numbers of followers u32[n]; followers u32[q] (places
        among all targets, sorted) and counts u32[q]. In the order of counts()."""
    def add_counts(
        self,
        order: int,
        key: NDArray[np.uint64],
        first: NDArray[np.uint64],
        token: NDArray[np.uint64],
        count: NDArray[np.uint32],
    ) -> None:
        """Add what counts() gave.

        Raises:
            ValueError: arrays contradict each other, or hold contexts of a length that is forgotten.
        """
