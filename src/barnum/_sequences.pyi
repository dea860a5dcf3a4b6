"""Counts over the sequences of blocks that lead to transfers (C++).

A sequence of length L that leads to a transfer are the L blocks up to and including its source. Sequences are
told apart by a hash of 61 bits. Calls release the interpreter's lock.
"""

import numpy as np
from numpy.typing import NDArray

LONGEST: int
"""Longest sequences that are counted."""

class _Counter:
    def begin(
        self,
        bbid: NDArray[np.uint64],
        number: NDArray[np.uint32],
        wanted: NDArray[np.bool_],
        restart: NDArray[np.bool_],
        rows: bool,
    ) -> None:
        """Begin a path with k blocks: ``bbid`` u64[k], ``number`` u32[k] (the same where the BBID is),
        ``wanted`` bool[k] (whether transfers from the block count).

        With ``rows``, histories run on over gaps, and the block before a gap is in no history. Otherwise
        every block is, and histories begin anew after gaps of the causes in ``restart`` bool[256]. Raises
        ValueError.
        """

    def add(self, block: NDArray[np.uint32], gap: NDArray[np.uint8]) -> None:
        """Count the next n steps: ``block`` u32[n], ``gap`` u8[n] as in paths.Chunk.

        Raises ValueError, and IndexError where a block is not among the path's.
        """

    @property
    def bytes(self) -> int:
        """Memory of the tables."""

class Targets(_Counter):
    """Distinct targets of the sequences of each length from 1 on. Transfers with a shorter history count for
    the lengths that there are. Of several ``parts``, each has the transfers from blocks of its own: all see
    the whole path, in threads if that suits, and their counts add up."""

    def __init__(self, longest: int, part: int = 0, parts: int = 1) -> None:
        """``longest`` is 1 to LONGEST. Raises ValueError."""

    def drop_below(self, length: int) -> None:
        """Forget all shorter lengths, and count them no more."""

    def counts(self, most: int) -> NDArray[np.uint64]:
        """u64[lengths, most]: of each length left, how many sequences have 1, 2, … ``most`` (or more)
        targets.

        Raises ValueError where ``most`` is not 1 to 2²⁰.
        """

    @property
    def shortest(self) -> int:
        """The shortest length that is left."""

class Known(_Counter):
    """Which sequences of one length were met in earlier paths; transfers with a shorter history do not
    count."""

    def __init__(self, length: int) -> None:
        """``length`` is 1 to LONGEST. Raises ValueError."""

    @property
    def distinct(self) -> int:
        """Distinct sequences of this path."""

    @property
    def fresh(self) -> int:
        """Those of them that no earlier path has."""
