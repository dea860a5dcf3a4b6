"""How many steps a parsed trace has, by the beginning of its footer.

The footer of a Parquet file is one struct in Thrift's compact protocol; the number of rows is its third
field, behind the version and the columns. The table of blocks, which makes a footer large, comes later and is
not read.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path as FilePath

from barnum.errors import ParsedTraceError
from barnum.files import open_regular

# bytes of the footer that are looked at: the columns of a parsed trace take a hundred
_BEGIN = 4096
_TAIL = 8
_MAGIC = b"PAR1"
_LONG, _LIST, _STRUCT = 6, 9, 12
_DEEPEST = 8


def steps_in(file: FilePath) -> int:
    """The number of steps that a parsed trace in Parquet claims; the rest of the file may be broken.

    Raises:
        ParsedTraceError: it cannot be read, or has no such footer.
    """
    try:
        with open_regular(file, follow=True) as descriptor:
            size = os.fstat(descriptor).st_size
            tail = os.pread(descriptor, _TAIL, max(0, size - _TAIL))
            if len(tail) < _TAIL or tail[4:] != _MAGIC:
                raise ParsedTraceError(f"{file}: is no whole Parquet file: preprocess it again with --force")
            (length,) = struct.unpack("<I", tail[:4])
            if length > size - _TAIL:
                raise ParsedTraceError(f"{file}: its footer claims {length:,} bytes")
            begin = os.pread(descriptor, min(length, _BEGIN), size - _TAIL - length)
    except OSError as error:
        raise ParsedTraceError(f"{file}: cannot be read ({error.strerror or error})") from None
    try:
        return _rows(_Thrift(begin))
    except (IndexError, ValueError):
        raise ParsedTraceError(f"{file}: its footer is none of a Parquet file") from None


def _rows(thrift: _Thrift) -> int:
    number = 0
    while True:
        number, kind = thrift.field(number)
        if number == 3 and kind == _LONG:
            rows = thrift.varint()
            if rows & 1:  # negative
                raise ValueError
            return rows >> 1
        if number >= 3:
            raise ValueError
        thrift.skip(kind)


class _Thrift:
    """Reads values of Thrift's compact protocol one after the other.

    Raises:
        IndexError: they end early.
        ValueError: they are none.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def field(self, before: int) -> tuple[int, int]:
        """Number and type of the field that begins here, behind that of number ``before``."""
        head = self._byte()
        kind, more = head & 15, head >> 4
        if not kind:
            raise ValueError
        return before + more if more else self.varint() >> 1, kind

    def varint(self) -> int:
        """An integer, seven bits a byte, as it stands."""
        value = 0
        for shift in range(0, 70, 7):
            byte = self._byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value
        raise ValueError

    def skip(self, kind: int, depth: int = 0) -> None:
        """Pass over a value of a type."""
        if depth > _DEEPEST:
            raise ValueError
        if kind in (4, 5, _LONG):
            self.varint()
        elif kind == 3:
            self._byte()
        elif kind == 7:
            self._at += 8
        elif kind == 8:
            length = self.varint()
            self._at += length
        elif kind in (_LIST, 10):
            head = self._byte()
            count = head >> 4
            for _ in range(self.varint() if count == 15 else count):
                self._byte_left()
                # true and false take a byte here, so that each turn takes one at least
                self.skip(3 if head & 15 in (1, 2) else head & 15, depth + 1)
        elif kind == _STRUCT:
            while self._data[self._at]:
                _, inner = self.field(0)
                self.skip(inner, depth + 1)
            self._at += 1
        elif kind not in (1, 2):  # true and false are their types
            raise ValueError

    def _byte(self) -> int:
        byte = self._data[self._at]
        self._at += 1
        return byte

    def _byte_left(self) -> None:
        if self._at >= len(self._data):
            raise IndexError
