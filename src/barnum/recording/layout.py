"""How a mapped file lies in memory: which of its bytes make up its image."""

from __future__ import annotations

import os
from collections.abc import Iterator

import msgspec

from barnum.recording.elf import PAGE, Elf
from barnum.recording.raw import Mapped

# bytes of an image; no module of a program is larger, but a header can claim anything
IMAGE_LIMIT = 1 << 30
_CHUNK = 1 << 20


class Piece(msgspec.Struct, frozen=True):
    """``length`` bytes at ``file_offset`` of the file, which are at ``image_offset`` of the image."""

    image_offset: int
    file_offset: int
    length: int


class Layout(msgspec.Struct, frozen=True):
    """Pieces of a file, by their offset in the image of ``size`` bytes; the rest of the image is zeros."""

    pieces: tuple[Piece, ...]
    size: int

    def chunks(self, descriptor: int) -> Iterator[bytes]:
        """The image in chunks of at most 1 MiB; bytes that the file lacks are zeros.

        Raises:
            OSError: the file cannot be read.
        """
        position = 0
        for piece in self.pieces:
            yield from _zeros(piece.image_offset - position)
            position = piece.image_offset + piece.length
            done = 0
            while done < piece.length:
                wanted = min(_CHUNK, piece.length - done)
                data = os.pread(descriptor, wanted, piece.file_offset + done)
                if not data:
                    yield from _zeros(piece.length - done)
                    break
                done += len(data)
                yield data
        yield from _zeros(self.size - position)


def elf_layout(elf: Elf) -> Layout | None:
    """The layout that every loader gives an ELF file, whatever the map looked like when it was read.

    Memory without bytes in the file (.bss) is left out. None if the segments overlap, do not fit pages, or
    are too large.
    """
    pieces = []
    base = elf.segments[0].first_page if elf.segments else 0
    for segment in elf.segments:
        if not segment.file_size:
            continue
        begin = segment.first_page_offset
        if begin < 0 or begin % PAGE or segment.size < segment.file_size:
            return None
        end = segment.offset + segment.file_size
        if segment.size == segment.file_size:
            # whole pages are mapped, and nothing clears the rest of the last one
            end = page_end(end)
        pieces.append(Piece(segment.first_page - base, begin, end - begin))
    return _checked(pieces)


def mapped_layout(regions: list[Mapped], file_size: int) -> Layout | None:
    """The layout of what was mapped, for files of other formats; the lowest address is the base.

    None if the regions overlap, or are too large.
    """
    base = min(region.start for region in regions)
    pieces = []
    for region in regions:
        length = min(region.end - region.start, page_end(file_size) - region.offset)
        if length > 0:
            pieces.append(Piece(region.start - base, region.offset, length))
    return _checked(sorted(pieces, key=lambda piece: piece.image_offset))


def load_bias(elf: Elf, region: Mapped) -> list[int]:
    """Possible load biases (address in memory - address in the file), from one mapped region of an ELF file.

    There may be more than one, as a page of the file can belong to two segments.
    """
    biases = []
    for segment in elf.segments:
        begin = segment.first_page_offset
        if begin <= region.offset < page_end(segment.offset + segment.file_size):
            bias = region.start - (segment.first_page + region.offset - begin)
            if bias >= 0 and bias not in biases:
                biases.append(bias)
    return biases


def page_end(address: int) -> int:
    """The address rounded up to a whole page."""
    return (address + PAGE - 1) & -PAGE


def _checked(pieces: list[Piece]) -> Layout | None:
    end = 0
    for piece in pieces:
        if piece.image_offset < end or piece.file_offset >= 1 << 62:
            return None
        end = piece.image_offset + piece.length
        if end > IMAGE_LIMIT:
            return None
    return Layout(tuple(pieces), page_end(end)) if pieces else None


def _zeros(count: int) -> Iterator[bytes]:
    while count > 0:
        yield bytes(min(count, _CHUNK))
        count -= _CHUNK
