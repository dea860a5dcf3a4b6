"""The bytes of a report, plain or gzip, as a bounded stream."""

from __future__ import annotations

import logging
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from barnum.calls.calls import Limits
from barnum.errors import SampleError
from barnum.texts import quoted

if TYPE_CHECKING:
    from zlib import _Decompress as _Inflate

_log = logging.getLogger(__name__)
_MAGIC = b"\x1f\x8b"
# zlib copies what it has not consumed, at each member and each piece, so it is given little at a time
_PACKED = 1 << 14
_PIECE = 1 << 20
_BOM = b"\xef\xbb\xbf"


class Source:
    """Reads a file, unpacking it when its first bytes say so. Memory does not depend on its size.

    Attributes:
        broken: what is wrong with the gzip data, at which the bytes end; None if nothing is.
        cut: whether the last line has no line end.
        overlong: number of lines that were skipped because they exceed ``limits.line``.
        quotable: whether messages may show what the file holds. If it is a link they may not: whoever made
            the sample may have had no right to read the file that the link leads to.
    """

    def __init__(self, file: Path, raw: BinaryIO, limits: Limits, quotable: bool = True) -> None:
        self.file = file
        self.quotable = quotable
        self.broken: str | None = None
        self.cut = False
        self.overlong = 0
        self._raw = raw
        self._limits = limits
        self._packed = raw.read(len(_MAGIC))
        self._gzip = self._packed == _MAGIC
        self._inflate: _Inflate | None = zlib.decompressobj(wbits=31) if self._gzip else None
        self._ended = False
        self._total = 0
        self._ahead = b""
        self._ahead = self.head(len(_BOM)).removeprefix(_BOM)

    def head(self, size: int) -> bytes:
        """The next bytes, at most ``size``, which read() will return again."""
        parts = [self._ahead]
        missing = size - len(self._ahead)
        while missing > 0 and (piece := self._fresh(missing)):
            parts.append(piece)
            missing -= len(piece)
        self._ahead = b"".join(parts)
        return self._ahead[:size]

    def quoted(self, text: str) -> str:
        """A text of the file for a message, if that may show it."""
        return quoted(text) if self.quotable else "(not shown, as the report is a link)"

    def read(self, size: int) -> bytes:
        """At least one byte and at most ``size``; nothing at the end.

        Raises:
            SampleError: more bytes than ``limits.unpacked`` have come.
            OSError: the file cannot be read.
        """
        if self._ahead:
            piece, self._ahead = self._ahead[:size], self._ahead[size:]
            return piece
        return self._fresh(size)

    def lines(self) -> Iterator[list[bytes]]:
        """All lines without their line ends, many at a time.

        Raises:
            SampleError, OSError: as read() does.
        """
        parts: list[bytes] = []
        length = 0
        dropping = False
        while piece := self.read(_PIECE):
            end = piece.rfind(b"\n")
            if end >= 0:
                lines = b"".join([*parts, piece[:end]]).split(b"\n")
                parts, length = [], 0
                if dropping:
                    del lines[0]
                    dropping = False
                yield lines
            rest = piece[end + 1 :]
            if dropping or not rest:
                continue
            parts.append(rest)
            length += len(rest)
            if length > self._limits.line:
                self.overlong += 1
                parts, length, dropping = [], 0, True
        if parts:
            self.cut = True
            yield [b"".join(parts)]

    def _fresh(self, size: int) -> bytes:
        piece = self._unpack(size) if self._gzip else self._plain(size)
        self._total += len(piece)
        if self._total > self._limits.unpacked:
            raise SampleError(
                f"{self.file}: holds more than {self._limits.unpacked:,} bytes, which no report needs: "
                "split it, or record for a shorter time"
            )
        return piece

    def _plain(self, size: int) -> bytes:
        if self._packed:  # the bytes in which gzip was looked for
            piece, self._packed = self._packed[:size], self._packed[size:]
            return piece
        return self._raw.read(size)

    def _unpack(self, size: int) -> bytes:
        while self.broken is None and not self._ended:
            if not self._packed:
                self._packed = self._raw.read(_PACKED)
            if self._inflate is None:
                self._inflate = self._next_member()
                continue
            ended = not self._packed
            try:
                piece = self._inflate.decompress(self._packed, size)
            except zlib.error as error:
                self.broken = f"its gzip data is broken ({error})"
                break
            if self._inflate.eof:
                self._packed = self._inflate.unused_data
                self._inflate = None
            elif ended and not piece:
                self.broken = "its gzip data is cut short"
            else:
                self._packed = self._inflate.unconsumed_tail
            if piece:
                return piece
        return b""

    def _next_member(self) -> _Inflate | None:
        """A decompressor if another gzip member follows; anything else is ignored, as by gzip."""
        if not self._packed:
            self._ended = True
            return None
        self._packed = self._packed.lstrip(b"\0")
        if not self._packed:
            return None
        if len(self._packed) < len(_MAGIC):
            self._packed += self._raw.read(_PACKED)
        if not self._packed.startswith(_MAGIC):
            _log.warning("%s: what follows its gzip data is ignored", self.file)
            self._ended = True
            return None
        return zlib.decompressobj(wbits=31)
