"""Where functions lie in an ELF image that is laid out as in memory: unwind tables and dynamic symbols.

The image comes from outside. Every size is checked against it, and what does not fit is left out: a broken
table gives fewer functions, no error.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

import numpy as np

from barnum.evidence.frames import FrameTable, read_frames
from barnum.evidence.functions import U8, U32, U64, Functions
from barnum.evidence.taken import taken_of

_LOAD, _DYNAMIC, _EH_FRAME = 1, 2, 0x6474E550
_MOST_SEGMENTS = 512
_MOST_TAGS = 4096
_MOST_SYMBOLS = 1 << 20
_CHAIN = 256  # words that are read at once
_TABLE, _HASH, _SYMBOLS, _INIT, _FINI, _GNU_HASH = 3, 4, 6, 12, 13, 0x6FFFFEF5
_TEXT_RELOCATIONS = 22
_EXECUTE, _SHARED = 1, 3
# bytes of a segment in which something stands, and of images in which addresses are looked for
_SOME, _LARGEST = 1 << 20, 1 << 28
_FUNCTION, _INDIRECT_FUNCTION = 2, 10


_SYMBOL = np.dtype(
    [("name", "<u4"), ("value", "<u4"), ("size", "<u4"), ("info", "u1"), ("other", "u1"), ("section", "<u2")]
)
_WIDE_SYMBOL = np.dtype(
    [("name", "<u4"), ("info", "u1"), ("other", "u1"), ("section", "<u2"), ("value", "<u8"), ("size", "<u8")]
)


class _Segment(NamedTuple):
    kind: int
    address: int
    size: int
    filled: int  # bytes of it that the file has
    loaded: bool
    runs: bool


def read_elf(image: U8, base: int) -> Functions | None:
    """Functions of an image; None where it is no ELF file.

    Args:
        image: u8[n], as in memory from the module's base on.
        base: address of the module, which addresses in an image that was taken from memory count from.
    """
    try:
        return _read(image, base)
    except struct.error:
        return None


def linked_at(image: U8) -> int:
    """The address at which an ELF image was linked to begin; 0 where it is none."""
    head = image[:64].tobytes()
    if head[:4] != b"\x7fELF" or head[5:6] != b"\x01":
        return 0
    try:
        return _lowest(_segments(image, head, head[4] == 2))
    except struct.error:
        return 0


def _lowest(segments: list[_Segment]) -> int:
    return min((each.address for each in segments if each.kind == _LOAD), default=0) & -4096


def _read(image: U8, base: int) -> Functions | None:
    head = image[:64].tobytes()
    if head[:4] != b"\x7fELF" or head[5:6] != b"\x01":
        return None
    wide = head[4] == 2
    segments = _segments(image, head, wide)
    lowest = _lowest(segments)

    def place(address: int) -> int:
        """Offset in the image; -1 outside of it."""
        for origin in (lowest, base):
            if 0 <= address - origin < len(image):
                return address - origin
        return -1

    (entry,) = struct.unpack_from("<Q" if wide else "<I", head, 24)
    starts = [place(entry)]
    table, adjusted = -1, False
    frames = FrameTable.empty()
    sizes = np.zeros(0, np.uint64)
    symbols = np.zeros(0, np.uint64)
    for segment in segments:
        at = place(segment.address)
        if at < 0:
            continue
        if segment.kind == _EH_FRAME:
            frames = read_frames(image, at)
        elif segment.kind == _DYNAMIC:
            tags = _tags(image, at, segment.size, wide)
            table = place(tags[_TABLE]) if _TABLE in tags else -1
            adjusted = _TEXT_RELOCATIONS in tags
            starts += [place(tags[tag]) for tag in (_INIT, _FINI) if tag in tags]
            symbols, sizes = _symbols(image, {tag: place(value) for tag, value in tags.items()}, wide, lowest)
    known = np.array([start for start in starts if start > 0], np.uint64)
    functions = Functions.join(len(image), frames, symbols, sizes, known)
    spans = [(place(each.address), each) for each in segments if each.loaded and each.filled]
    # an image of code alone does not tell what stands in data
    whole = all(at >= 0 and image[at : at + min(each.filled, _SOME)].any() for at, each in spans)
    if not whole or len(image) > _LARGEST:
        return functions
    found = taken_of(
        image,
        functions.starts,
        wide=wide,
        lowest=lowest,
        data=[(at, at + each.filled) for at, each in spans],
        code=[(at, at + each.filled) for at, each in spans if each.runs],
        # code that may lie anywhere has no addresses in it, unless they are adjusted when it is loaded
        fixed=head[16] != _SHARED or adjusted,
        table=None if wide or table < 0 else table,
    )
    # what others can ask for by name may be called from anywhere
    functions.taken = np.union1d(found, np.concatenate([symbols, known]))
    return functions


def _segments(image: U8, head: bytes, wide: bool) -> list[_Segment]:
    (table,) = struct.unpack_from("<Q" if wide else "<I", head, 32 if wide else 28)
    entry, count = struct.unpack_from("<HH", head, 54 if wide else 42)
    segments = []
    for index in range(min(count, _MOST_SEGMENTS)):
        at = table + index * entry
        row = image[at : at + 56].tobytes() if at < len(image) else b""
        if wide:
            kind, flags, _, address, _, filled, size = struct.unpack_from("<IIQQQQQ", row, 0)
        else:
            kind, _, address, _, filled, size, flags = struct.unpack_from("<7I", row, 0)
        loaded = kind == _LOAD
        segments.append(_Segment(kind, address, size, filled, loaded, loaded and bool(flags & _EXECUTE)))
    return segments


def _tags(image: U8, at: int, size: int, wide: bool) -> dict[int, int]:
    """Values of the dynamic section, as they stand."""
    each = 16 if wide else 8
    data = image[at : at + min(size, each * _MOST_TAGS)].tobytes()
    tags: dict[int, int] = {}
    for tag, value in struct.iter_unpack("<QQ" if wide else "<II", data[: len(data) // each * each]):
        if not tag:
            break
        tags.setdefault(tag, value)
    return tags


def _symbols(image: U8, tags: dict[int, int], wide: bool, lowest: int) -> tuple[U64, U64]:
    """Offsets and sizes of the functions among the dynamic symbols."""
    nothing = np.zeros(0, np.uint64)
    table = tags.get(_SYMBOLS, -1)
    if table < 0:
        return nothing, nothing
    each = 24 if wide else 16
    count = min(_symbol_count(image, tags, wide), (len(image) - table) // each, _MOST_SYMBOLS)
    if count <= 0:
        return nothing, nothing
    rows = image[table : table + count * each].view(_WIDE_SYMBOL if wide else _SYMBOL)
    info, section = rows["info"], rows["section"]
    value, size = rows["value"].astype(np.uint64), rows["size"].astype(np.uint64)
    kind = info & 15
    offset = value - np.uint64(lowest)
    mine = ((kind == _FUNCTION) | (kind == _INDIRECT_FUNCTION)) & (section != 0)
    mine &= (value >= lowest) & (offset < len(image))
    return offset[mine], size[mine]


def _symbol_count(image: U8, tags: dict[int, int], wide: bool) -> int:
    """Number of dynamic symbols, by their hash table."""
    at = tags.get(_HASH, -1)
    if at >= 0:
        row = image[at : at + 8].tobytes()
        return int(struct.unpack("<II", row)[1])
    at = tags.get(_GNU_HASH, -1)
    if at < 0:
        return 0
    buckets, first, bloom, _ = struct.unpack("<4I", image[at : at + 16].tobytes())
    table = at + 16 + bloom * (8 if wide else 4)
    last = int(_words(image, table, buckets).max(initial=0))
    if last < first:
        return int(first)
    # the chain of the last bucket ends where the lowest bit is set
    chain = table + 4 * buckets + 4 * (last - first)
    for done in range(0, _MOST_SYMBOLS, _CHAIN):
        words = _words(image, chain + 4 * done, _CHAIN)
        ends = np.flatnonzero(words & 1)
        if len(ends):
            return last + done + int(ends[0]) + 1
        if len(words) < _CHAIN:
            break
    return 0


def _words(image: U8, at: int, count: int) -> U32:
    """At most ``count`` u32 from ``at`` on."""
    if at >= len(image):
        return np.zeros(0, np.uint32)
    count = min(count, (len(image) - at) // 4)
    return np.frombuffer(image[at : at + 4 * count].tobytes(), "<u4")
