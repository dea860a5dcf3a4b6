"""A PNG picture, row by row: of a long one only the packed bytes are held."""

from __future__ import annotations

import struct
import zlib
from typing import Any

import numpy as np
from isal import isal_zlib

from barnum.paths.blocks import U8

_HEAD = b"\x89PNG\r\n\x1a\n"
_GREY, _COLOUR = 0, 2
# isal comes without types
_compressor: Any = isal_zlib.compressobj


class Png:
    """A picture of ``width`` pixels a row, as many rows as are added: black and white with a bit a pixel, or
    colours with 8 bits each for red, green and blue."""

    def __init__(self, width: int, colour: bool) -> None:
        self._width = width
        self._colour = colour
        self._rows = 0
        self._packer = _compressor(3)
        self._packed: list[bytes] = []

    def add(self, pixels: U8) -> None:
        """Add rows: u8[rows, width, 3], or u8[rows, width] of 0 black and 1 white."""
        rows = pixels.reshape(len(pixels), 3 * self._width) if self._colour else np.packbits(pixels, axis=1)
        # each row begins with its filter: 0, none. Neighbouring pixels are of no likeness
        filtered = np.zeros((len(rows), rows.shape[1] + 1), np.uint8)
        filtered[:, 1:] = rows
        self._packed.append(self._packer.compress(filtered.data))
        self._rows += len(rows)

    def content(self) -> bytes:
        """The whole file; nothing can be added after."""
        self._packed.append(self._packer.flush())
        depth, kind = (8, _COLOUR) if self._colour else (1, _GREY)
        head = struct.pack(">IIBBBBB", self._width, self._rows, depth, kind, 0, 0, 0)
        parts = [_chunk(b"IDAT", packed) for packed in self._packed if packed]
        return b"".join([_HEAD, _chunk(b"IHDR", head), *parts, _chunk(b"IEND", b"")])


def _chunk(name: bytes, data: bytes) -> bytes:
    checked = name + data
    return struct.pack(">I", len(data)) + checked + struct.pack(">I", zlib.crc32(checked))
