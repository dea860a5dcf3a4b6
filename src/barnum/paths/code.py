"""The code of a sample's processes: images in the bin-dir, and code bytes beside the trace."""

from __future__ import annotations

import logging
import mmap
import struct
import zlib
from bisect import bisect_right
from collections.abc import Iterator
from pathlib import Path as FilePath
from typing import NamedTuple

from barnum.errors import ImageError, SampleError
from barnum.paths.packed import inflated
from barnum.samples import Process, Sample

_log = logging.getLogger(__name__)

_MAGIC = b"BRNMCODE"
_RECORD = struct.Struct("<IIQ")
_MAX_RECORD = 1 << 16
_PAGE_BITS = 12
MAX_CODE = 1 << 30  # bytes of all code records of a process


class Piece(NamedTuple):
    """A stretch of an image at an address."""

    file: FilePath
    offset: int
    size: int
    address: int


class Record(NamedTuple):
    """Code bytes that hold from an epoch on."""

    epoch: int
    address: int
    data: bytes


class Code(NamedTuple):
    """All that is known of the code of one process; ``missing`` names modules without an image."""

    mode: int
    pieces: list[Piece]
    records: list[Record]
    missing: list[str]


def load_code(sample: Sample, process: Process, bin_dir: FilePath) -> Code:
    """Find the images of a process and read its code records.

    Raises ImageError where not one module has an image, SampleError where the file of records is broken.
    """
    pieces: list[Piece] = []
    missing: list[str] = []
    for module in process.mapping.modules:
        image = sample.image_path(module, bin_dir)
        size = image.stat().st_size if image else 0
        if image is None:
            missing.append(module.path)
            continue
        for region in module.regions:
            # images are laid out as in memory, so an address is its place in the image
            offset = region.start - module.base
            length = min(region.end - region.start, size - offset)
            if length > 0:
                pieces.append(Piece(image, offset, length, region.start))
    records = list(_records(process.code)) if process.code else []
    if not pieces and not records:
        raise ImageError(
            f"{sample.folder}: none of its {len(missing)} modules has an image in {bin_dir}: "
            "name the folder that holds them"
        )
    return Code(process.mode, pieces, records, missing)


def _records(file: FilePath) -> Iterator[Record]:
    def broken(why: str) -> SampleError:
        return SampleError(f"{file}: {why}: record the sample again")

    total = 0
    epoch = 0
    rest = b""
    head_seen = False
    try:
        for piece in inflated(file):
            rest += piece
            at = 0
            if not head_seen:
                if len(rest) < len(_MAGIC):
                    continue
                if not rest.startswith(_MAGIC):
                    raise broken("no file of code bytes")
                head_seen = True
                at = len(_MAGIC)
            while at + _RECORD.size <= len(rest):
                this_epoch, length, address = _RECORD.unpack_from(rest, at)
                if not 1 <= length <= _MAX_RECORD or this_epoch < epoch or address + length > 1 << 64:
                    raise broken(f"a record of {length:,} bytes in epoch {this_epoch} at {address:x}")
                end = at + _RECORD.size + length
                if end > len(rest):
                    break
                total += length
                if total > MAX_CODE:
                    raise broken(f"more than {MAX_CODE:,} code bytes")
                epoch = this_epoch
                yield Record(epoch, address, rest[at + _RECORD.size : end])
                at = end
            rest = rest[at:]
    except (EOFError, zlib.error, OSError) as error:
        raise broken(f"cannot be read ({error})") from None
    if rest or not head_seen:
        raise broken("it is cut short")


class CodeReader:
    """Reads bytes of code by address, as they were last."""

    def __init__(self, code: Code) -> None:
        self._pieces = sorted(code.pieces, key=lambda piece: piece.address)
        self._starts = [piece.address for piece in self._pieces]
        self._maps: dict[FilePath, mmap.mmap] = {}
        # records by the pages they touch, in order of epoch
        self._records: dict[int, list[Record]] = {}
        for record in code.records:
            last = record.address + len(record.data) - 1
            for page in range(record.address >> _PAGE_BITS, (last >> _PAGE_BITS) + 1):
                self._records.setdefault(page, []).append(record)

    def read(self, address: int, size: int) -> bytes:
        """The size bytes at address, or none where not all of them are known."""
        found = bytearray(size)
        known = bytearray(size)
        index = bisect_right(self._starts, address + size - 1) - 1
        # an instruction lies in one piece, or across two
        for piece in reversed(self._pieces[max(index - 1, 0) : index + 1]):
            image = memoryview(self._map(piece.file))[piece.offset : piece.offset + piece.size]
            _overlay(found, known, address, image, piece.address)
        # records hold only the bytes that differ from the images, so they may cover a part of an instruction
        for page in range(address >> _PAGE_BITS, (address + size - 1 >> _PAGE_BITS) + 1):
            for record in self._records.get(page, ()):
                _overlay(found, known, address, record.data, record.address)
        return bytes(found) if all(known) else b""

    def _map(self, file: FilePath) -> mmap.mmap:
        if file not in self._maps:
            with file.open("rb") as raw:
                self._maps[file] = mmap.mmap(raw.fileno(), 0, access=mmap.ACCESS_READ)
        return self._maps[file]


def _overlay(found: bytearray, known: bytearray, address: int, data: bytes | memoryview, start: int) -> None:
    """Copy what data, which lies at start, has of the bytes from address on."""
    begin = max(address, start)
    end = min(address + len(found), start + len(data))
    if begin < end:
        found[begin - address : end - address] = data[begin - start : end - start]
        known[begin - address : end - address] = bytes([1]) * (end - begin)
