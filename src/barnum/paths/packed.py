"""Raw and gzip files, read as a stream in bounded memory."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path as FilePath
from typing import Any, BinaryIO

from barnum.errors import TraceError

MAX_SIZE = 64 << 30  # bytes of one stream once decompressed
_READ = 1 << 20
_PIECE = 4 << 20
# the trace of a tight loop shrinks 1000 to 1, as zeros do, but no program runs such a loop alone for so long
_MAX_RATIO = 500
_RATIO_COUNTS_FROM = 4 << 30
_PSB = b"\x02\x82" * 8
_FIRST_PSB_WITHIN = 64 << 20


class RawTrace:
    """The packets of one stream, from a plain or a gzip file, in pieces.

    After the iteration ``size`` is the number of bytes once decompressed, and ``broken`` says what is wrong
    with the gzip data; None where nothing is.
    """

    def __init__(self, file: FilePath, max_size: int = MAX_SIZE) -> None:
        self.file = file
        self.size = 0
        self.broken: str | None = None
        self._max_size = max_size

    def __iter__(self) -> Iterator[bytes]:
        """Pieces of at most 4 MiB. Where the gzip data is broken, the iteration ends after what comes before.

        Raises:
            TraceError: the file cannot be read, is empty, has no PSB packet at which decoding can begin, is
                larger than allowed, or is a gzip bomb.
        """
        tail = b""
        synchronized = False
        for piece in self._pieces():
            self.size += len(piece)
            if self.size > self._max_size:
                raise TraceError(
                    f"{self.file}: more than {self._max_size:,} bytes once decompressed: "
                    "if it is to be trusted, allow more with --max-size"
                )
            if not synchronized:
                synchronized = _PSB in tail + piece
                tail = piece[-len(_PSB) :]
                if not synchronized and self.size > _FIRST_PSB_WITHIN:
                    raise TraceError(
                        f"{self.file}: no PSB packet in its first {self.size:,} bytes: no Intel PT"
                    )
            yield piece
        if not synchronized:
            problem = f"no PSB packet in its {self.size:,} bytes: no Intel PT" if self.size else "empty"
            raise TraceError(f"{self.file}: {self.broken or problem}")

    def _pieces(self) -> Iterator[bytes]:
        try:
            with self.file.open("rb") as raw:
                if raw.read(2) == b"\x1f\x8b":
                    raw.seek(0)
                    yield from self._inflated(raw)
                else:
                    raw.seek(0)
                    while data := raw.read(_PIECE):
                        yield data
        except OSError as error:
            raise TraceError(f"{self.file}: {error.strerror or error}") from None

    def _inflated(self, raw: BinaryIO) -> Iterator[bytes]:
        from isal import isal_zlib

        isal_error: Any = isal_zlib.error
        read = 0
        pending = b""
        while pending or (pending := raw.read(_READ)):
            # one round for each gzip member
            unzip: Any = isal_zlib.decompressobj(wbits=31)
            while not unzip.eof:
                if not pending and not (pending := raw.read(_READ)):
                    self.broken = "the gzip stream is cut short"
                    return
                read += len(pending)
                try:
                    piece = unzip.decompress(pending, _PIECE)
                    while piece or unzip.unconsumed_tail:
                        if piece:
                            yield piece
                        if self.size > _RATIO_COUNTS_FROM and self.size > _MAX_RATIO * read:
                            raise TraceError(
                                f"{self.file}: {self.size:,} bytes out of {read:,}: a gzip bomb, no trace"
                            )
                        if unzip.eof:
                            break
                        piece = unzip.decompress(unzip.unconsumed_tail, _PIECE)
                except (zlib.error, isal_error) as error:
                    self.broken = f"the gzip stream is damaged ({error})"
                    return
                pending = unzip.unused_data
                read -= len(pending)
            # zeros after a member are padding
            pending = pending.lstrip(b"\0")
            if pending and not pending.startswith(b"\x1f"):
                self.broken = "the gzip stream is followed by other data"
                return


def inflated(file: FilePath) -> Iterator[bytes]:
    """The decompressed bytes of a gzip file, in pieces of at most 4 MiB.

    Raises:
        EOFError: the data is cut short.
        zlib.error: it is damaged.
        OSError: the file cannot be read, or is no gzip file.
    """
    from isal import igzip, igzip_lib

    opener: Any = igzip.open
    isal_error: Any = igzip_lib.IsalError
    try:
        with file.open("rb") as raw, opener(raw) as unzipped:
            while data := unzipped.read(_PIECE):
                yield data
    except isal_error as error:
        raise zlib.error(str(error)) from None


def gzip_writer(raw: BinaryIO) -> Any:
    """A gzip file that writes to ``raw``, fast; equal content gives equal bytes."""
    from isal import igzip

    writer: Any = igzip.GzipFile
    # no name in the header, as it would be that of the unfinished file, and no time
    return writer("", "wb", compresslevel=2, fileobj=raw, mtime=0)
