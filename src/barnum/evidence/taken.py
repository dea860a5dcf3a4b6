"""Of which functions an image takes the address: all others are called by name alone.

An address that a program takes stands somewhere: as a pointer in data (or in a table of relocations), as a
constant in an instruction, or as a distance from an instruction or from the table of global offsets. All
bytes that could be one are taken for one, whatever they are, so that too many functions are found rather
than too few. The only distances that are left out are those of direct calls and jumps, and what idle
instructions hold.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from barnum.evidence.functions import U8, U64, Bool

I64 = NDArray[np.int64]
# bytes that are looked at at a time
_PART = 1 << 22
_CALL, _JUMP, _TWO_BYTES, _NOTHING = 0xE8, 0xE9, 0x0F, 0x1F


def taken_of(
    image: U8,
    starts: U64,
    *,
    wide: bool,
    lowest: int,
    data: Sequence[tuple[int, int]],
    code: Sequence[tuple[int, int]],
    fixed: bool,
    table: int | None,
) -> U64:
    """Those functions whose address stands somewhere in an image.

    Args:
        image: u8[n], as in memory.
        starts: u64[s], offsets of functions, ascending.
        wide: whether pointers have 64 bits.
        lowest: the address of the image that offsets count from.
        data: begin and end of the parts that its file has, offsets.
        code: the same of those that are executable.
        fixed: whether constants in its code may be addresses.
        table: offset of the table of global offsets, from which addresses may be told; None: there is none.

    Returns:
        u64[t]: some of the starts, ascending.
    """
    if not len(starts):
        return starts
    found = np.zeros(len(starts), np.bool_)
    # a byte of the image is the begin of a function: 0 if not, else its number and one
    number = np.zeros(len(image) + 1, np.uint32)
    inside = starts < len(image)
    number[starts[inside]] = np.flatnonzero(inside) + 1
    for begin, end in _apart(data, len(image)):
        _pointers(image, number, (begin & -4, end), wide, lowest, found)
    for span in _apart(code, len(image)):
        _in_code(image, number, span, lowest if fixed else None, table, found)
    return starts[found]


def _apart(spans: Sequence[tuple[int, int]], size: int) -> list[tuple[int, int]]:
    """The same without overlaps, within the image: a hostile one may name the same bytes many times."""
    found: list[tuple[int, int]] = []
    for begin, end in sorted((max(0, begin), min(end, size)) for begin, end in spans):
        if found and begin <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        elif begin < end:
            found.append((begin, end))
    return found


def _mark(number: NDArray[np.uint32], offset: I64, found: Bool) -> None:
    """Note functions that begin at one of the offsets, which may lie anywhere."""
    offset = offset[(offset >= 0) & (offset < len(number))]
    which = number[offset]
    found[which[which > 0] - 1] = True


def _pointers(
    image: U8, number: NDArray[np.uint32], span: tuple[int, int], wide: bool, lowest: int, found: Bool
) -> None:
    """Words of the size of a pointer, at multiples of four bytes."""
    for begin in range(span[0], span[1], _PART):
        part = np.ascontiguousarray(image[begin : min(begin + _PART + 4, span[1])])
        words: I64 = part[: len(part) // 4 * 4].view("<u4").astype(np.int64)
        if wide:
            low, high = words[:-1], words[1:]
            upper = lowest >> 32
            words = (low | upper << 32)[high == upper]
        _mark(number, words - lowest, found)


def _in_code(
    image: U8,
    number: NDArray[np.uint32],
    span: tuple[int, int],
    lowest: int | None,
    table: int | None,
    found: Bool,
) -> None:
    """Four bytes at any place in code: a distance, or (unless ``lowest`` is None) an address."""
    for begin in range(span[0], span[1], _PART):
        end = min(begin + _PART, span[1])
        # one byte before, and what a distance from the last place takes
        part = np.ascontiguousarray(image[max(0, begin - 2) : end + 3])
        before = begin - max(0, begin - 2)
        for shift in range(4):
            raw = part[before + shift :]
            words: I64 = raw[: len(raw) // 4 * 4].view("<i4").astype(np.int64)
            place = begin + shift + 4 * np.arange(len(words), dtype=np.int64)
            target = place + 4 + words
            # zeros are what fills the space before a function
            near = (target >= 0) & (target < len(number) - 1) & (words != 0)
            near[near] = number[target[near]] > 0
            at = np.flatnonzero(near)
            last = image[np.maximum(place[at] - 1, 0)]
            first = image[np.maximum(place[at] - 2, 0)]
            direct = (last == _CALL) | (last == _JUMP) | ((first == _TWO_BYTES) & (last >> 4 == 8))
            # what fills the space before functions
            idle = (last == _NOTHING) & (first == _TWO_BYTES)
            _mark(number, target[at[~direct & ~idle]], found)
            # constants: addresses below 4 GiB, with or without a sign
            if lowest is not None and lowest < 1 << 32:
                _mark(number, (words & 0xFFFFFFFF) - lowest, found)
            if table is not None:
                _mark(number, words + table, found)
