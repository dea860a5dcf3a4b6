"""Keeps the code bytes of a process that are not in its mapped files: generated code, changed code."""

from __future__ import annotations

import os
import struct
from bisect import bisect_right
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec
import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray

from barnum.recording.elf import PAGE

_MAGIC = b"BRNMCODE"
_RECORD = struct.Struct("<IIQ")
_RECORD_LIMIT = 1 << 16
_BATCH_BYTES = 1 << 20
_BATCH_RECORDS = 1 << 15
# pages of code of a process, which take 8 KiB each
_MAX_PAGES = 1 << 16
_SHIFT = PAGE.bit_length() - 1

_Bytes = NDArray[np.uint8]
_Addresses = NDArray[np.uint64]


class FilePiece(msgspec.Struct, frozen=True):
    """Addresses [start, end) hold the bytes of an image file from offset on."""

    start: int
    end: int
    image: Path
    offset: int


class TooMuchCode(Exception):
    """A process ran code on more pages than are kept."""


def write_code(
    file: Path,
    records: Iterable[tuple[int, int, bytes]],
    pieces: list[FilePiece],
    check: Callable[[], None],
) -> bool:
    """Write the code bytes that the image files do not hold.

    A byte is left out if the images and the bytes written before already give it for its address.

    Args:
        file: the file to write, as gzip.
        records: (epoch, address, bytes), by epoch.
        pieces: which addresses the images hold.
        check: called now and then; it may raise to end the work.

    Returns:
        Whether anything was written; if not, there is no file.

    Raises:
        OSError: the file cannot be written, or an image cannot be read.
        TooMuchCode: the rest was dropped; there is a file if anything was written.
    """
    view = _View(pieces)
    packer = isal_zlib.compressobj(1, wbits=31)
    kept = False
    too_much: TooMuchCode | None = None
    with file.open("wb") as out:
        out.write(packer.compress(_MAGIC))
        try:
            for batch in _batches(records):
                check()
                addresses, values = view.news(batch)
                for start, run in _runs(addresses, values):
                    out.write(packer.compress(_RECORD.pack(batch[0][0], len(run), start) + run))
                    kept = True
        except TooMuchCode as error:
            too_much = error
        finally:
            view.close()
        out.write(packer.flush())
    if not kept:
        file.unlink()
    if too_much is not None:
        raise too_much
    return kept


def _batches(records: Iterable[tuple[int, int, bytes]]) -> Iterable[list[tuple[int, int, bytes]]]:
    """Many records of one epoch at a time."""
    batch: list[tuple[int, int, bytes]] = []
    size = batch_epoch = 0
    for record in records:
        if batch and (record[0] != batch_epoch or size >= _BATCH_BYTES or len(batch) >= _BATCH_RECORDS):
            yield batch
            batch, size = [], 0
        batch_epoch = record[0]
        batch.append(record)
        size += len(record[2])
    if batch:
        yield batch


class _View:
    """A process's code as a reader of the sample sees it: images, overlaid by the bytes kept so far."""

    def __init__(self, pieces: list[FilePiece]) -> None:
        self._pieces = sorted(pieces, key=lambda piece: piece.start)
        self._starts = [piece.start for piece in self._pieces]
        self._files: dict[Path, int] = {}
        self._rows: dict[int, int] = {}
        self._values: _Bytes = np.zeros((64, PAGE), np.uint8)
        self._known: NDArray[np.bool_] = np.zeros((64, PAGE), np.bool_)

    def news(self, batch: list[tuple[int, int, bytes]]) -> tuple[_Addresses, _Bytes]:
        """Addresses u64[n], ascending, and values u8[n] of the bytes that are new; the view has them then."""
        _, starts, data = zip(*batch, strict=True)
        counts = np.array(list(map(len, data)), np.int64)
        ends = np.cumsum(counts)
        addresses = np.repeat(np.array(starts, np.uint64), counts)
        addresses += (np.arange(ends[-1]) - np.repeat(ends - counts, counts)).astype(np.uint64)
        values = np.frombuffer(b"".join(data), np.uint8)
        pages = addresses >> np.uint64(_SHIFT)
        changes = np.flatnonzero(pages[1:] != pages[:-1]) + 1
        firsts = np.concatenate(([0], changes))
        which, place = np.unique(pages[firsts], return_inverse=True)
        rows = np.array([self._row(page) for page in which.tolist()], np.int64)
        row = np.repeat(rows[place], np.diff(np.concatenate((firsts, [len(pages)]))))
        column = (addresses & np.uint64(PAGE - 1)).astype(np.int64)
        new = ~self._known[row, column] | (self._values[row, column] != values)
        row, column, addresses, values = row[new], column[new], addresses[new], values[new]
        self._values[row, column] = values
        self._known[row, column] = True
        # a block may have been translated twice: keep a byte once
        addresses, once = np.unique(addresses, return_index=True)
        return addresses, self._values[row[once], column[once]]

    def close(self) -> None:
        for descriptor in self._files.values():
            os.close(descriptor)
        self._files.clear()

    def _row(self, page: int) -> int:
        row = self._rows.get(page)
        if row is not None:
            return row
        row = len(self._rows)
        if row >= _MAX_PAGES:
            raise TooMuchCode
        if row >= len(self._values):
            self._values = np.concatenate((self._values, np.zeros_like(self._values)))
            self._known = np.concatenate((self._known, np.zeros_like(self._known)))
        self._rows[page] = row
        content = self._from_file(page << _SHIFT)
        self._values[row, : len(content)] = np.frombuffer(content, np.uint8)
        self._known[row, : len(content)] = True
        return row

    def _from_file(self, address: int) -> bytes:
        index = bisect_right(self._starts, address) - 1
        if index < 0 or address >= self._pieces[index].end:
            return b""
        piece = self._pieces[index]
        if piece.image not in self._files:
            self._files[piece.image] = os.open(piece.image, os.O_RDONLY | os.O_CLOEXEC)
        return os.pread(self._files[piece.image], PAGE, piece.offset + address - piece.start)


def _runs(addresses: _Addresses, values: _Bytes) -> Iterable[tuple[int, bytes]]:
    """Bytes at ascending addresses as runs without holes: (first address, at most _RECORD_LIMIT bytes)."""
    if not len(addresses):
        return
    breaks = np.flatnonzero(np.diff(addresses) != 1) + 1
    for first, end in zip([0, *breaks.tolist()], [*breaks.tolist(), len(addresses)], strict=True):
        for part in range(first, end, _RECORD_LIMIT):
            yield int(addresses[part]), values[part : min(part + _RECORD_LIMIT, end)].tobytes()
