"""Executed blocks and instructions as lines of text, many at a time."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from barnum.paths.blocks import U32, U64

_DIGITS = np.frombuffer(b"0123456789abcdef", np.uint8)
# the four digits of every 16-bit number, as they lie in memory
_HEX: U32 = (
    np.ascontiguousarray(_DIGITS[np.arange(1 << 16)[:, None] >> np.array([12, 8, 4, 0]) & 15])
    .view(np.uint32)
    .ravel()
)


def hex_lines(addresses: U64, end: bytes = b"\n") -> NDArray[np.uint8]:
    """u8[n, 16 + len(end)]: each of n addresses u64[n] as 16 hex digits, followed by ``end``."""
    out = np.empty((len(addresses), 16 + len(end)), np.uint8)
    words = np.ascontiguousarray(addresses, "<u8").view("<u2").reshape(-1, 4)[:, ::-1]
    out[:, :16] = _HEX[words].view(np.uint8)
    out[:, 16:] = np.frombuffer(end, np.uint8)
    return out


class BlockLines:
    """The text of each block, made once. The table of blocks may grow between calls of join()."""

    def __init__(self, make: Callable[[int], list[bytes]]) -> None:
        """``make(k)`` returns the texts of all blocks from number k on."""
        self._make = make
        self._texts: list[bytes] = []

    def join(self, block: U32) -> bytes:
        """The texts of the blocks ``block`` u32[n], one after the other."""
        if len(block) and int(block.max()) >= len(self._texts):
            self._texts.extend(self._make(len(self._texts)))
        return b"".join(map(self._texts.__getitem__, block.tolist()))


def block_lines(start: U64, end: U64, count: U32) -> list[bytes]:
    """A line ``start end count`` for each of k blocks.

    ``start`` u64[k] and ``end`` u64[k] are the addresses of the first and of the last instruction, printed in
    hexadecimal; ``count`` u32[k] is the number of instructions.
    """
    heads = np.concatenate([hex_lines(start, b" "), hex_lines(end, b" ")], axis=1)
    return [head.tobytes() + b"%d\n" % number for head, number in zip(heads, count.tolist(), strict=True)]
