"""Where functions lie in a PE image that is laid out as in memory: exports and unwind table (.pdata)."""

from __future__ import annotations

import struct

import numpy as np

from barnum.evidence.frames import FrameTable
from barnum.evidence.functions import U8, U32, U64, Bool, Functions

_EXPORTS, _EXCEPTIONS = 0, 3
_MOST = 1 << 20
_CHAINED = 4  # flag of unwind information that goes on that of another entry


def read_pe(image: U8) -> Functions | None:
    """Functions of an image, u8[n]; None where it is no PE file."""
    try:
        return _read(image)
    except struct.error:
        return None


def _read(image: U8) -> Functions | None:
    if image[:2].tobytes() != b"MZ":
        return None
    (head,) = struct.unpack("<I", image[60:64].tobytes())
    if image[head : head + 4].tobytes() != b"PE\0\0":
        return None
    optional = image[head + 24 : head + 24 + 240].tobytes()
    wide = optional[:2] == b"\x0b\x02"
    (entry,) = struct.unpack_from("<I", optional, 16)
    directories = 112 if wide else 96

    def directory(index: int) -> tuple[int, int]:
        row = struct.unpack_from("<II", optional, directories + 8 * index)
        return int(row[0]), int(row[1])

    starts = _exports(image, *directory(_EXPORTS))
    starts = np.append(starts[starts < len(image)], np.uint64(entry)).astype(np.uint64)
    if not wide:
        starts = starts[(starts > 0) & (starts < len(image))]
        return Functions.join(len(image), FrameTable.empty(), starts[:0], starts[:0], starts)
    begin, end, chained = _unwind_table(image, *directory(_EXCEPTIONS))
    frames = FrameTable(begin, end, np.full(len(begin), -1), np.zeros(len(begin), np.bool_))
    functions = Functions.join(len(image), frames, starts[:0], starts[:0], starts[starts > 0])
    parts = functions.find(begin[chained])
    # what goes on another function's unwind information is a part of that before it
    functions.starts = np.setdiff1d(functions.starts, begin[chained])
    for part in parts[parts > 0].tolist():
        functions.part_of[part] = functions.part_of[part - 1]
    return functions


def _exports(image: U8, at: int, size: int) -> U64:
    """Offsets of what is exported."""
    if not at or size < 40:
        return np.zeros(0, np.uint64)
    row = image[at : at + 40].tobytes()
    count, _, table = struct.unpack_from("<III", row, 20)
    offsets = _words(image, table, count).astype(np.uint64)
    # what lies in the table itself is the name of another image's function
    own = (offsets < at) | (offsets >= at + size)
    return offsets[own & (offsets > 0)]


def _unwind_table(image: U8, at: int, size: int) -> tuple[U64, U64, Bool]:
    """Begins and ends, ascending, and which of them go on another entry's unwind information."""
    words = _words(image, at, size // 12 * 3) if at else np.zeros(0, np.uint32)
    rows = words[: len(words) // 3 * 3].reshape(-1, 3).astype(np.uint64)
    rows = rows[(rows[:, 0] < rows[:, 1]) & (rows[:, 1] <= len(image)) & (rows[:, 2] < len(image))]
    rows = rows[np.argsort(rows[:, 0], kind="stable")]
    chained = (image[rows[:, 2].astype(np.int64)] >> 3 & _CHAINED) != 0
    return rows[:, 0].copy(), rows[:, 1].copy(), chained


def _words(image: U8, at: int, count: int) -> U32:
    """At most ``count`` u32 from ``at`` on."""
    if at >= len(image):
        return np.zeros(0, np.uint32)
    count = min(count, (len(image) - at) // 4, 3 * _MOST)
    return np.frombuffer(image[at : at + 4 * count].tobytes(), "<u4")
