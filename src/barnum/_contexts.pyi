"""Counts of what followed each context of several lengths (C++)."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

LEVELS: int
"""Number of levels of how sure a context is; level 0 is a context that was never met."""

FURTHER: int
"""Number of ranks that are told of a context beside the most frequent one."""

class Contexts:
    """For each length: how often each rank followed each context (the site, and the tokens of so many
    transfers before it).

    A run is five arrays of length m: ``site`` i32, ``token`` u64 (what stands for a transfer in the contexts
    of later ones), ``rank`` u8 (the target's place among those of its site), ``first`` bool (contexts do not
    reach back over this transfer), ``wanted`` bool (only these are counted or looked up; the others are
    context). Calls release the interpreter's lock; look_up() may run in several threads at once.
    """

    def __init__(self, lengths: Sequence[int]) -> None:
        """1 to 16 lengths, each 1 to 1024. Raises ValueError."""

    def add(
        self,
        site: NDArray[np.int32],
        token: NDArray[np.uint64],
        rank: NDArray[np.uint8],
        first: NDArray[np.bool_],
        wanted: NDArray[np.bool_],
    ) -> None:
        """Count a run."""

    def look_up(
        self,
        site: NDArray[np.int32],
        token: NDArray[np.uint64],
        rank: NDArray[np.uint8],
        first: NDArray[np.bool_],
        wanted: NDArray[np.bool_],
        own: Contexts | None = None,
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]:
        """Of each wanted transfer, for each length: the rank that followed its context most often, and the
        level of how sure that is, both u8[wanted, lengths]. Of the last length whose context is known: the
        ranks that followed next to most often, and the level of how sure each is where none before it did
        (0: nothing else followed), both u8[wanted, FURTHER].

        With ``own`` the counts are those of everything but what ``own`` has counted.
        """

    @property
    def contexts(self) -> int:
        """Number of distinct contexts, all lengths together."""

    @property
    def bytes(self) -> int:
        """Memory of the tables."""

class Loops:
    """Finds the rounds of loops in a run that comes part by part: what repeats the last 1 to 64 transfers."""

    def __init__(self, rounds: int) -> None:
        """``rounds`` of a loop are kept, at least 1. Raises ValueError."""

    def mark(self, key: NDArray[np.uint64], restart: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """bool[m]: whether each of the next m transfers (``key`` tells them apart) is kept; nothing is
        compared over a transfer where ``restart`` is set."""
