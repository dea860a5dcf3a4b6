"""Counts over the sequences of blocks and of transfers that a run went through (C++).

For learning: distinct transfers (``EdgeCounter``), what followed each context (``Contexts``), rounds of loops
(``Loops``). For stats and bloom: distinct sequences and where they lead (``Targets``, ``Known``); there, a
sequence of length L that leads to a transfer is the L blocks up to and including its source, and sequences
are told apart by a hash of 61 bits. Calls release the interpreter's lock.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

LEVELS: int
"""Number of levels of how sure a context is; level 0 is a context that was never met."""

FURTHER: int
"""Number of ranks that are told of a context beside the most frequent one."""

REACH: int
"""How many transfers before an entry into the kernel count as those that led to it."""

STRETCHES: int
"""A run is counted in so many stretches to twice as many, where it is not shorter."""

LONGEST: int
"""Longest sequences that ``Targets`` and ``Known`` count."""

_U64 = NDArray[np.uint64]
_I64 = NDArray[np.int64]
_Edges = tuple[_U64, _U64, NDArray[np.uint8], _I64, _I64]
_Ways = tuple[_U64, _U64, _U64, _I64]

class EdgeCounter:
    """Counts the distinct transfers of one run, which comes part by part, and its ways into the kernel."""

    def __init__(self) -> None: ...
    def add(
        self,
        sites: NDArray[np.uint64],
        targets: NDArray[np.uint64],
        kinds: NDArray[np.uint8],
        source: NDArray[np.uint32],
        target: NDArray[np.uint32],
        first: NDArray[np.bool_],
        entry: NDArray[np.int32],
        position: NDArray[np.uint64] | None = None,
    ) -> None:
        """The next m transfers: blocks ``source`` and ``target`` u32[m] of a table with the tokens ``sites``
        and ``targets`` u64[k] and the ``kinds`` u8[k]; ``first`` bool[m]: nothing leads over this one;
        ``entry`` i32[m]: the block by which the kernel was entered before it, or less than 0; ``position``
        u64[m]: the step of the path at which it ends, where that is to be told. All parts number the same
        blocks. Releases the interpreter's lock.

        Raises:
            ValueError: arrays are of different lengths.
            IndexError: a transfer names a block that is not in the table. Nothing of the part is counted.
        """
    def done(self) -> tuple[_Edges, _Ways, _Edges, _Ways, _I64, _I64, _I64, _U64]:
        """After the last part: edges (site, target, kind, count, first) of the whole run and its ways (site,
        target, entry, first); both of its s stretches, one after the other; and of each stretch i64[s] how
        many transfers, edges and ways it has. Sorted by (site, target), ways by (site, target, entry).
        At last u64[e], of each edge of the whole run, ``position`` of the first time."""

class TransferFilter:
    """Finds the learnt transfers of a path, chunk by chunk."""

    def __init__(self, restart: NDArray[np.bool_]) -> None:
        """``restart`` bool[256]: causes of gaps after which the history says nothing about what follows."""
    def add(
        self,
        roles: NDArray[np.uint8],
        block: NDArray[np.uint32],
        gap: NDArray[np.uint8],
        turns: NDArray[np.uint32] | None = None,
    ) -> tuple[NDArray[np.uint32], NDArray[np.uint32], _U64, NDArray[np.uint8], NDArray[np.int32]]:
        """The m transfers that end in the next n steps of the path, ``block`` u32[n] behind ``gap`` u8[n], as
        in paths.Transfers: source u32[m], target u32[m], position u64[m], first u8[m], entry i32[m].
        ``roles`` u8[k] are those of Learn.roles(); ``turns`` u32[t] those of a Chunk, where all blocks with a
        role are among them. Releases the interpreter's lock.

        Raises:
            ValueError: ``block`` and ``gap`` are of different lengths.
            IndexError: a step names a block without a role, or turns are no steps in their order.
        """

class TransferCounter:
    """Finds the learnt transfers of a path and counts them: TransferFilter and EdgeCounter in one pass."""

    def __init__(self, restart: NDArray[np.bool_]) -> None:
        """See TransferFilter."""
    def add(
        self,
        roles: NDArray[np.uint8],
        sites: NDArray[np.uint64],
        targets: NDArray[np.uint64],
        kinds: NDArray[np.uint8],
        block: NDArray[np.uint32],
        gap: NDArray[np.uint8],
        turns: NDArray[np.uint32] | None = None,
    ) -> _U64:
        """The position u64[m] of each transfer that ends in the next n steps of the path. ``roles``,
        ``block``, ``gap`` and ``turns`` are those of TransferFilter.add(); ``sites``, ``targets`` and
        ``kinds`` of the same k blocks those of EdgeCounter.add(). Releases the interpreter's lock.

        Raises:
            ValueError: arrays are of different lengths.
            IndexError: a step names a block without a role, or turns are no steps in their order. Nothing of
                the part is counted.
        """
    def done(self) -> tuple[_Edges, _Ways, _Edges, _Ways, _I64, _I64, _I64, _U64]:
        """See EdgeCounter.done()."""

def distinct(values: _U64) -> tuple[_U64, _I64]:
    """Distinct values u64[d], ascending, and the place among them of each value, i64[n]: what
    ``np.unique(values, return_inverse=True)`` gives, without sorting all of them."""

def places_of(known: _U64, values: _U64) -> _I64:
    """i64[n]: what ``np.searchsorted(known, values)`` gives, fast where most values are known."""

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
