"""Calls, returns and transfers that do not fit (C++): a shadow stack for each thread.

A ``Watch`` learns of the blocks of a path and follows its steps. Calls release the interpreter's lock, but
for ``judge``. Numbers of roles, traits, notes and verdicts are those of native/evidence/watch.hpp.
"""

import numpy as np
from numpy.typing import NDArray

MOST_NOTES: int
"""Distinct notes that are kept; further ones are counted."""

_U64 = NDArray[np.uint64]
_U32 = NDArray[np.uint32]
_U16 = NDArray[np.uint16]
_U8 = NDArray[np.uint8]

class Watch:
    """Follows one path. Memory is bounded: by the blocks, 2^18 frames of a stack, 2^20 of all stacks that a
    thread has left, 4,096 notes, and 2^20 further ones that are counted."""

    def __init__(self) -> None: ...
    def __len__(self) -> int:
        """Number of blocks that are known."""

    def extend(
        self,
        start: _U64,
        after: _U64,
        site: _U64,
        target: _U64,
        function: _U32,
        process: _U16,
        role: _U8,
        trait: _U8,
    ) -> None:
        """The next k blocks: their first address and the one behind them, tokens as source and as target, the
        function that each lies in (0: not known), the process.

        ``role`` is the sum of 1 call, 2 return, 4 indirect call or jump, 8 far, 16 place without known code;
        ``trait`` of 1 a function begins here, 2 it lies in no file, 4 in a part of a function that is apart
        from the rest. Raises ValueError for columns of different lengths.
        """

    def add(self, block: _U32, gap: _U8, stream: _U16, turns: _U32 | None = None) -> None:
        """The next n steps; ``turns`` u32[t] are those of a Chunk. Raises ValueError for columns of different
        lengths, IndexError for a block that is not known, or turns that are no steps in their order."""

    def judge(self, block: _U32, gap: _U8, stream: _U16) -> _U8:
        """The same, and what the stack says of the transfer to each step, u8[n]: 0 it is no return, 1 to the
        call that waits, 2 over calls that wait, 3 not known, 4 elsewhere, 5 to another stack."""

    def finish(self) -> None:
        """The path has ended."""

    def notes(self) -> list[tuple[int, int, int, int, int, _U32]]:
        """Distinct transfers that do not fit: kind, source, target, first step, count, and functions u32[f]
        that waited for a return then, at most 64, the innermost first.

        Kinds: 0 to where no code is known, and the program was interrupted right there; 1 the same at the end
        of a stream; 2 the same, and something ran there; 3 a return to where no call waits; 4 the same, to
        where a function begins; 5 the same, behind a call that ran before; 6 a return into a function that
        waits for another; 7 an indirect call or jump to where no function begins; 8 an indirect jump into a
        function that waits; 9 an indirect jump behind a call that ran before, in a function that does not
        wait; 10 from a file to code in none. Of kinds 4, 5 and 9 one target of each site is noted.
        """

    def endings(self) -> list[tuple[int, int, int, int, bool]]:
        """Of each stream its number, the last two blocks, the last step, and whether there is a transfer."""

    def reached(self) -> tuple[_U32, _U32, _U64]:
        """Blocks that were reached by indirect calls and jumps and by returns to where no call waits: u32[r],
        ascending; u32[r] the block before, the first time; u64[r] the step."""

    @property
    def returns(self) -> tuple[int, int, int, int, int]:
        """Numbers of returns by what the stack says: as told, over calls, not known, elsewhere, to another
        stack."""

    @property
    def further(self) -> int:
        """Distinct transfers that do not fit, beyond those noted."""

    @property
    def exhausted(self) -> bool:
        """Whether so much was searched in deep stacks that later returns are taken as not known."""
