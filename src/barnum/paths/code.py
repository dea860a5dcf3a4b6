"""The code of a sample's processes: images in the bin-dir, and code bytes beside the trace."""

from __future__ import annotations

import logging
import mmap
import struct
import zlib
from array import array
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
MAX_RECORDS = 1 << 20  # stretches of code bytes of a process


class Piece(NamedTuple):
    """``size`` bytes from ``offset`` on of the image ``file``, which lie at ``address`` in memory."""

    file: FilePath
    offset: int
    size: int
    address: int
    executable: bool = True


class Record(NamedTuple):
    """Code bytes at an address, which are valid from an epoch on."""

    epoch: int
    address: int
    data: bytes | memoryview


class Records:
    """Records in order of epoch: 20 bytes each, and their content. Adjoining ones of an epoch are joined."""

    def __init__(self) -> None:
        self._epochs = array("I")
        self._addresses = array("Q")
        self._ends = array("Q")
        self._data = bytearray()
        self._next = -1

    def add(self, epoch: int, address: int, data: bytes) -> None:
        """Append a record; epochs must ascend."""
        if address == self._next and epoch == self._epochs[-1]:
            self._ends.pop()
        else:
            self._epochs.append(epoch)
            self._addresses.append(address)
        self._data += data
        self._ends.append(len(self._data))
        self._next = address + len(data)

    def __len__(self) -> int:
        return len(self._epochs)

    def __getitem__(self, index: int) -> Record:
        begin = self._ends[index - 1] if index else 0
        data = memoryview(self._data)[begin : self._ends[index]]
        return Record(self._epochs[index], self._addresses[index], data)

    def __iter__(self) -> Iterator[Record]:
        return (self[index] for index in range(len(self)))


class Code(NamedTuple):
    """All that is known of the code of one process.

    Attributes:
        mode: 32 or 64 bit.
        pieces: stretches of images.
        records: bytes that lie in no image, or differ from it.
        missing: paths of modules without an image.
    """

    mode: int
    pieces: list[Piece]
    records: Records
    missing: list[str]


def load_code(sample: Sample, process: Process, bin_dir: FilePath) -> Code:
    """Find the images of a process and read its code records.

    Raises:
        ImageError: no module has an image and there are no records, or an image is named out of ``bin_dir``.
        SampleError: the file of records is broken.
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
                pieces.append(Piece(image, offset, length, region.start, region.executable))
    records = _read_records(process.code) if process.code else Records()
    if not pieces and not records:
        raise ImageError(
            f"{sample.folder}: none of its {len(missing)} modules has an image in {bin_dir}: "
            "name the folder that holds them"
        )
    return Code(process.mode, pieces, records, missing)


def _read_records(file: FilePath) -> Records:
    records = Records()

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
                records.add(epoch, address, rest[at + _RECORD.size : end])
                if len(records) > MAX_RECORDS:
                    raise broken(f"more than {MAX_RECORDS:,} stretches of code")
                at = end
            rest = rest[at:]
    except (EOFError, zlib.error, OSError) as error:
        raise broken(f"cannot be read ({error})") from None
    if rest or not head_seen:
        raise broken("it is cut short")
    return records


class CodeReader:
    """Reads code bytes by address, as they were in the last epoch."""

    def __init__(self, code: Code) -> None:
        self._pieces = sorted(code.pieces, key=lambda piece: piece.address)
        self._starts = [piece.address for piece in self._pieces]
        self._maps: dict[FilePath, mmap.mmap] = {}
        self._records = code.records
        # numbers of the records that touch a page, in order of epoch
        self._by_page: dict[int, list[int]] = {}
        for index, record in enumerate(code.records):
            last = record.address + len(record.data) - 1
            for page in range(record.address >> _PAGE_BITS, (last >> _PAGE_BITS) + 1):
                self._by_page.setdefault(page, []).append(index)

    def read(self, address: int, size: int) -> bytes:
        """The ``size`` bytes at ``address``; empty where not all of them are known."""
        data = bytearray(size)
        known = bytearray(size)
        index = bisect_right(self._starts, address + size - 1) - 1
        # an instruction lies in one piece or across two
        for piece in reversed(self._pieces[max(index - 1, 0) : index + 1]):
            image = memoryview(self._map(piece.file))[piece.offset : piece.offset + piece.size]
            _overlay(data, known, address, image, piece.address)
        # records hold only the bytes that differ from the images, so they may cover a part of an instruction
        for page in range(address >> _PAGE_BITS, (address + size - 1 >> _PAGE_BITS) + 1):
            for record in map(self._records.__getitem__, self._by_page.get(page, ())):
                _overlay(data, known, address, record.data, record.address)
        return bytes(data) if all(known) else b""

    def _map(self, file: FilePath) -> mmap.mmap:
        if file not in self._maps:
            with file.open("rb") as raw:
                self._maps[file] = mmap.mmap(raw.fileno(), 0, access=mmap.ACCESS_READ)
        return self._maps[file]


def _overlay(target: bytearray, known: bytearray, address: int, data: bytes | memoryview, start: int) -> None:
    """Copy the part of ``data``, at address ``start``, that overlaps ``target``, at ``address``."""
    begin = max(address, start)
    end = min(address + len(target), start + len(data))
    if begin < end:
        target[begin - address : end - address] = data[begin - start : end - start]
        known[begin - address : end - address] = bytes([1]) * (end - begin)
