"""Intel PT decoder on libipt.

An `AddressSpace` holds the code of one process, a `BlockTable` the distinct blocks of a sample, and a
`Decoder` turns the raw packets of one stream (one thread) into steps: the number of the block that ran,
and a gap code that says why there is no transfer from the step before.

    space = AddressSpace(64)
    space.add_file("extract/libc.so.6", 0, size, address)
    table = BlockTable()
    decoder = Decoder(space, table)
    for data in chunks:
        decoder.feed(data)
        while len((step := decoder.read(1 << 20))[0]):
            blocks, gaps = step
    decoder.feed(b"", final=True)
    ...                                  # read again until nothing comes

Damaged or hostile trace raises nothing: what was lost is in the gap codes, `gaps()` and `statistics()`.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

class AddressSpace:
    """One process's code in all its epochs.

    The first decoder that uses it freezes it: adding code afterwards raises ValueError. A frozen one may
    serve several decoders at once, in several threads.
    """

    def __init__(self, mode: int = 64) -> None:
        """`mode` is 32 or 64: how code is read until the trace tells (MODE.Exec). ValueError for another."""

    def add_file(self, path: str, offset: int, size: int, address: int, executable: bool = True) -> None:
        """Map `size` bytes at `offset` of a flat image read-only at `address`.

        Less is mapped where the file ends before that. Where files overlap, the one at the higher address
        (or else the one added last) wins. `executable` says whether its pages are, which matters only where
        the program was interrupted right behind a transfer to them. Raises OSError when the file cannot be
        mapped, ValueError when it would lie outside of the address space.
        """

    def add_bytes(self, data: bytes | bytearray | memoryview, address: int, epoch: int = 0) -> None:
        """Lay code bytes over the files, from `epoch` on. ValueError where epochs do not ascend."""

class BlockTable:
    """The distinct canonical blocks of a sample, numbered in order of first appearance.

    Two blocks are the same where address space, kind, start and the place of every instruction agree.
    All streams and processes of a sample share one. Bounded: 8 Mi blocks; what comes after is lost.
    """

    def __init__(self) -> None: ...
    def __len__(self) -> int: ...
    def arrays(self) -> dict[str, NDArray[Any]]:
        """Columns, one element a block.

        `start` uint64, `end` uint64 (address of the last instruction), `length` uint32 (bytes up to the end
        of the last instruction), `count` uint32 (instructions), `kind` uint8, `space` uint32 (the
        `space_index` of the decoder).
        kind: 0 none (the block was cut), 1 conditional, 2 jump, 3 indirect jump, 4 call, 5 indirect call,
        6 return, 7 far, 8 indirect far, 9 unknown: no block, but a place that a transfer led to and of which
        no code is known, or where none can run (`count` and `length` are 0).
        """

class Decoder:
    """Decodes one stream of raw packets, pushed in chunks of any size; the result does not depend on them.

    The stream is cut at its PSB packets. `feed` and `read` release the GIL; decoding happens in `read`, so
    memory is bounded by the bytes fed and not yet read, and by `limit`. One decoder is for one thread at a
    time; several with tables of their own may run at once.
    """

    def __init__(
        self,
        space: AddressSpace,
        table: BlockTable,
        space_index: int = 0,
        cpu: tuple[int, int, int] | None = None,
        plain: bool = True,
    ) -> None:
        """`cpu` (family, model, stepping) selects the errata to allow for; None: none.

        `plain=False` reads every piece with libipt's query decoder, also those that hold only common
        packets and are read directly otherwise: slower, and the same result.
        """

    def feed(self, data: bytes | bytearray | memoryview, final: bool = False) -> None:
        """Add raw packets; `final` says that these are the last. ValueError when fed after that."""

    def read(self, limit: int) -> tuple[NDArray[np.uint32], NDArray[np.uint8], NDArray[np.uint32]]:
        """The next steps, at most `limit` (and at most 16 Mi): block numbers, gap codes, and turns.

        Empty arrays: more must be fed; after `final`, the end.
        gap: 0 a transfer from the step before, 1 start of the stream, 2 tracing was off, 3 asynchronous
        event, 4 overflow, 5 lost (bad packets, or they do not fit the code), 6 unmapped code, 7 the code
        changed in the middle of the block.
        turns: indices of steps, ascending, among which are all whose block ends with a call, a return, an
        indirect or a far branch, and all without known code.
        """

    def gaps(self) -> list[tuple[int, int, int, int, int]]:
        """The first 65,536 overflows and losses: (step, cause, offset, address, bytes_lost).

        `step` is the number of the step after the gap (it may be the number of steps, at the end), `cause`
        a gap code (4, 5 or 6), `offset` the byte of the stream, `address` where the walk was (0: nowhere),
        `bytes_lost` the bytes passed over until the place was known again.
        """

    def statistics(self) -> dict[str, int]:
        """Counts so far.

        `bytes` fed, `bytes_lost`, `instructions`, `blocks` (steps), `errors` (losses and missing code),
        `unmapped` (of these: missing code), `overflows`, `psb` (pieces), `plain` (pieces read directly),
        `epochs` (changes of code that were met), `unknown` (steps to places without known code).
        """

    def unmapped(self) -> dict[int, int]:
        """Pages of code that were missing: address of the page → times met. The first 4,096."""

def instructions(table: BlockTable, ids: NDArray[np.uint32]) -> NDArray[np.uint64]:
    """Addresses of all instructions of these blocks, in order. IndexError for a number that is no block."""

def libipt_blocks(
    data: bytes, space: AddressSpace, cpu: tuple[int, int, int] | None = None
) -> tuple[int, int, int]:
    """Run libipt's own block decoder over a whole stream: (blocks, instructions, errors).

    For comparison of speed and results. Its blocks are not canonical ones, and it knows no epochs: it sees
    the code as it is in the last.
    """
