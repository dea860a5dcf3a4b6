"""Unwind tables of ELF images (``.eh_frame_hdr``, ``.eh_frame``) and the landing pads of exceptions.

After the Linux Standard Base, "Exception Frames" and "Language Specific Data Area" (the latter as GCC writes
it).
"""

from __future__ import annotations

import struct
from typing import NamedTuple

import numpy as np

from barnum.evidence.functions import I64, U8, U64, Bool

_MOST_FRAMES = 1 << 22
_MOST_KINDS = 1 << 12
_MOST_CALLS = 1 << 14
_OMITTED = 0xFF
# encodings of addresses: the lower half says the form, the upper one what is added
_RELATIVE, _INDIRECT = 0x10, 0x80
# instructions of call frame information
_DEF_CFA, _DEF_CFA_OFFSET = 0x0C, 0x0E
_FORMS = {0: None, 2: "<H", 3: "<I", 4: "<Q", 10: "<h", 11: "<i", 12: "<q"}


class FrameTable(NamedTuple):
    """Functions by their entries (FDEs), ascending.

    ``begin`` u64[f] and ``end`` u64[f] (exclusive) are offsets in the image, ``entry`` i64[f] that of the
    entry. ``part`` bool[f]: it is not called, but a part of another one, since it begins with a frame.
    """

    begin: U64
    end: U64
    entry: I64
    part: Bool

    @classmethod
    def empty(cls) -> FrameTable:
        """No functions."""
        nothing = np.zeros(0, np.uint64)
        return cls(nothing, nothing, np.zeros(0, np.int64), np.zeros(0, np.bool_))


def read_frames(image: U8, head: int) -> FrameTable:
    """The table that begins at offset ``head`` of an image; an empty one where it is in no form that linkers
    write."""
    # version, then the encodings of the address of .eh_frame, of the number of entries, of the entries
    if head + 12 > len(image) or image[head : head + 4].tobytes() != b"\x01\x1b\x03\x3b":
        return FrameTable.empty()
    (count,) = struct.unpack("<I", image[head + 8 : head + 12].tobytes())
    count = min(count, (len(image) - head - 12) // 8, _MOST_FRAMES)
    rows = np.frombuffer(image[head + 12 : head + 12 + 8 * count].tobytes(), "<i4").reshape(count, 2)
    begin, entry = rows[:, 0].astype(np.int64) + head, rows[:, 1].astype(np.int64) + head
    fits = (begin >= 0) & (begin < len(image)) & (entry >= 0) & (entry + 24 <= len(image))
    begin, entry = begin[fits], entry[fits]
    if (begin[1:] < begin[:-1]).any():
        order = np.argsort(begin, kind="stable")
        begin, entry = begin[order], entry[order]
    # up to the next one, where the length is in another form
    following = np.append(begin[1:], len(image))
    short = _short(image, entry)
    length = np.where(short, _word(image, entry + 12), following - begin)
    end = np.minimum(begin + length, len(image))
    return FrameTable(begin.astype(np.uint64), end.astype(np.uint64), entry, short & _has_frame(image, entry))


def _has_frame(image: U8, entry: I64) -> Bool:
    """Whether the first instruction of each entry says that the frame is another one than after a call."""
    size = image[entry + 16].astype(np.int64)
    first = image[np.minimum(entry + 17 + size, len(image) - 1)]
    found: Bool = (size < 128) & ((first >= _DEF_CFA) & (first <= _DEF_CFA_OFFSET) | (first >> 6 == 2))
    return found


def _word(image: U8, at: I64) -> I64:
    """The u32 at each offset."""
    if not (at & 3).any():
        words: I64 = image[: len(image) & -4].view("<u4")[at >> 2].astype(np.int64)
        return words
    total = np.zeros(len(at), np.int64)
    for byte in range(4):
        total |= image[at + byte].astype(np.int64) << (8 * byte)
    return total


def _short(image: U8, entry: I64) -> Bool:
    """Whether addresses in each entry take 4 bytes."""
    kind = entry + 4 - _word(image, entry + 4)
    # neighbours mostly have the same
    first = np.flatnonzero(np.append(True, kind[1:] != kind[:-1]))[: len(kind)]
    distinct, index = np.unique(kind[first], return_inverse=True)
    forms = np.zeros(len(distinct), np.bool_)
    for number, at in enumerate(distinct[:_MOST_KINDS].tolist()):
        known = _kind(image, at)
        forms[number] = known is not None and known.pointers & 15 in (3, 11)
    return np.repeat(forms[index], np.diff(np.append(first, len(kind))))


class _Kind(NamedTuple):
    """A CIE: encodings of addresses and of those of exception tables."""

    pointers: int
    tables: int


def _kind(image: U8, at: int) -> _Kind | None:
    if not 0 <= at < len(image) - 16:
        return None
    reader = _Reader(image, at + 8)
    try:
        version = reader.byte()
        letters = reader.text()
        reader.number()
        reader.number()
        reader.byte() if version == 1 else reader.number()
        pointers, tables = 0, _OMITTED
        if letters[:1] != b"z":
            return _Kind(pointers, tables)
        reader.number()
        for letter in letters[1:].decode("latin-1"):
            if letter == "R":
                pointers = reader.byte()
            elif letter == "L":
                tables = reader.byte()
            elif letter == "P":
                reader.pointer(reader.byte())
            elif letter not in "SB":
                break
    except (IndexError, struct.error, ValueError):
        return None
    return _Kind(pointers, tables)


def landing_pads(image: U8, entry: int, begin: int, linked: int = 0) -> frozenset[int] | None:
    """Offsets at which exceptions go on in the function that begins at offset ``begin``; None: not known.

    Args:
        image: u8[n].
        entry: offset of the function's FDE.
        begin: offset of the function.
        linked: address that the image was linked to: programs that lie there alone name addresses.
    """
    try:
        kind = _kind(image, entry + 4 - int(_word(image, np.array([entry + 4]))[0]))
        if kind is None or kind.pointers & 15 not in (3, 11):
            return None
        if kind.tables == _OMITTED:
            return frozenset()
        reader = _Reader(image, entry + 16, linked)
        reader.number()
        table = reader.pointer(kind.tables)
        if table is None:
            return frozenset()
        return _pads(_Reader(image, table, linked), begin)
    except (IndexError, struct.error, ValueError):
        return None


def _pads(reader: _Reader, begin: int) -> frozenset[int] | None:
    form = reader.byte()
    origin = begin if form == _OMITTED else reader.pointer(form)
    if origin is None:
        return None
    if reader.byte() != _OMITTED:
        reader.number()
    form = reader.byte()
    end = reader.number() + reader.at
    pads: set[int] = set()
    for _ in range(_MOST_CALLS):
        if reader.at >= end:
            return frozenset(pads)
        reader.value(form)
        reader.value(form)
        pad = reader.value(form)
        reader.number()
        if pad:
            pads.add(origin + pad)
    return None


class _Reader:
    """Reads numbers one after the other.

    Raises:
        IndexError: the image ends.
        ValueError: a number is too long, or in a form that is not used.
    """

    def __init__(self, image: U8, at: int, linked: int = 0) -> None:
        if at < 0:
            raise IndexError
        self._image = image
        self._linked = linked
        self.at = at

    def byte(self) -> int:
        value = int(self._image[self.at])
        self.at += 1
        return value

    def text(self) -> bytes:
        """Up to a byte of 0, at most 16."""
        data = self._image[self.at : self.at + 16].tobytes()
        end = data.index(0)
        self.at += end + 1
        return data[:end]

    def number(self) -> int:
        """LEB128 without sign; a sign is left out, too."""
        value = 0
        for shift in range(0, 70, 7):
            byte = self.byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value
        raise ValueError

    def value(self, form: int) -> int:
        """A number in a form that encodings of addresses name, as it stands."""
        if form & 15 == 1:
            return self.number()
        name = _FORMS.get(form & 15)
        if name is None:
            raise ValueError
        size = struct.calcsize(name)
        (value,) = struct.unpack(name, self._image[self.at : self.at + size].tobytes())
        self.at += size
        return int(value)

    def pointer(self, form: int) -> int | None:
        """An address as an offset in the image; None: none."""
        at = self.at
        value = self.value(form)
        if not value:
            return None
        if form & _INDIRECT or form & 0x70 not in (0, _RELATIVE):
            # known only when the program is loaded; it is read over
            return -1
        return value - self._linked if form & 0x70 == 0 else at + value
