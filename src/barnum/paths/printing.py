"""What was executed as lines of text, many at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from barnum.paths.blocks import U8, U32, U64

_HEX: U8 = np.frombuffer("".join(f"{byte:02x}" for byte in range(256)).encode(), np.uint8).reshape(256, 2)


def hex_lines(addresses: U64, end: bytes = b"\n") -> NDArray[Any]:
    """A matrix u8[n, 16 + len(end)]: each address as 16 hex digits, then ``end``."""
    out = np.empty((len(addresses), 16 + len(end)), np.uint8)
    octets = addresses.astype(">u8").view(np.uint8).reshape(-1, 8)
    out[:, :16] = _HEX[octets].reshape(-1, 16)
    out[:, 16:] = np.frombuffer(end, np.uint8)
    return out


class BlockLines:
    """Text of each block, made once; blocks may still be added while printing."""

    def __init__(self, make: Callable[[int], list[bytes]]) -> None:
        """``make`` is given the number of blocks known so far and returns the text of those that follow."""
        self._make = make
        self._texts: list[bytes] = []

    def join(self, block: U32) -> bytes:
        """The text of all these steps."""
        if len(block) and int(block.max()) >= len(self._texts):
            self._texts.extend(self._make(len(self._texts)))
        return b"".join(map(self._texts.__getitem__, block.tolist()))


def block_lines(start: U64, end: U64, count: U32) -> list[bytes]:
    """``start end count``, a line for each block."""
    heads = np.concatenate([hex_lines(start, b" "), hex_lines(end, b" ")], axis=1)
    return [head.tobytes() + b"%d\n" % number for head, number in zip(heads, count.tolist(), strict=True)]


def instruction_lines(addresses: U64, count: U32) -> list[bytes]:
    """The addresses of each block's instructions, a line each, given those of all blocks in turn."""
    data = hex_lines(addresses).tobytes()
    ends = (17 * np.cumsum(count.astype(np.int64))).tolist()
    return [data[begin:end] for begin, end in zip([0, *ends], ends, strict=False)]
