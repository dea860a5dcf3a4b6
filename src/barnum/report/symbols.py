"""Names of functions in images: symbols of ELF files and exports of PE files, demangled.

Images are laid out as in memory and come from outside: each is read by a process of its own
(:mod:`barnum.processes`). An image has only the symbols that are loaded; where the file that it was made from
is still there with the same code, those of that file's table of all symbols are read too.
"""

from __future__ import annotations

import logging
import os
import struct
from bisect import bisect_right
from pathlib import Path
from typing import Any, NamedTuple

from barnum.errors import ImageError
from barnum.files import open_regular
from barnum.processes import Job, Success, isolated
from barnum.texts import storable

_log = logging.getLogger(__name__)

LARGEST = 1 << 30  # bytes of an image
_SECONDS = 60
_MOST_SYMBOLS = 1 << 19
_LONGEST_NAME = 300
_MEMORY = 6 << 30  # bytes that reading may take
# bytes of all functions as JSON; a letter may take six
_LARGEST_ANSWER = _MOST_SYMBOLS * (6 * _LONGEST_NAME + 64)
# a symbol without a size reaches up to the next, and no further than this
_REACH = 1 << 16

_ELF = b"\x7fELF"
_LOAD = 1
_EXECUTABLE = 1


class Function(NamedTuple):
    """A function: where it begins in the image, its length (0: unknown), its name."""

    begin: int
    size: int
    name: str


class _Sources(NamedTuple):
    """Paths of an image, and of the file that it was made from."""

    image: str
    file: str | None


class Symbols:
    """The functions of one image."""

    def __init__(self, functions: list[Function]) -> None:
        self._functions = sorted(set(functions), key=_rank)
        self._begins = [function.begin for function in self._functions]

    def __len__(self) -> int:
        return len(self._functions)

    def find(self, offset: int) -> tuple[str, int] | None:
        """Name of the function that holds the byte at offset, and how far in it lies; None where none
        does."""
        at = bisect_right(self._begins, offset) - 1
        while at > 0 and self._begins[at - 1] == self._begins[at]:
            at -= 1
        end = bisect_right(self._begins, offset)
        for function in self._functions[max(at, 0) : end] if at >= 0 else ():
            inside = offset - function.begin
            if inside < (function.size or _REACH):
                return function.name, inside
        return None


def _rank(function: Function) -> tuple[int, int, int, str]:
    """Of several names of one place the plain one comes first: getc before _IO_getc."""
    name = function.name
    return function.begin, len(name) - len(name.lstrip("_")), len(name), name


def read_symbols(
    image: Path, file: str | None = None, seconds: float = _SECONDS
) -> tuple[Symbols, str | None]:
    """The functions of an image, and words that say why where they could not be read.

    Args:
        file: path of the file that was mapped.
        seconds: after which reading is given up.
    """
    sources = _Sources(str(image), file if file is not None and file.startswith("/") else None)
    job = Job(_functions_in, list[Function], _MEMORY, _LARGEST_ANSWER, ("barnum.report.symbols", "lief"))
    [(_, outcome)] = isolated(iter([sources]), job, seconds=lambda _: seconds)
    if isinstance(outcome, Success):
        return Symbols(outcome.answer), None
    if outcome.kind == "late":
        return Symbols([]), f"took more than {seconds:g} seconds to read"
    _log.debug("symbols of %s: %s", image, outcome)
    if outcome.kind == "input":
        return Symbols([]), outcome.message
    return Symbols([]), "could not be read: damaged or hostile"


def functions_of(data: bytes, original: bytes = b"") -> list[Function]:
    """Functions of an image's bytes, and of the ``original`` file where that holds the same code; none where
    it is neither ELF nor PE. To be called in a process that may die: the library below is not made for
    hostile files."""
    import lief

    lief.logging.disable()
    if data[:4] == _ELF:
        return _elf(lief, data, original)
    if data[:2] == b"MZ":
        return _pe(lief, data)
    return []


def _elf(lief: Any, data: bytes, original: bytes) -> list[Function]:
    """As the image is laid out in memory, or as the file that it was made from, whichever tells more."""
    patched, base = as_file(data)
    contents = [patched, original] if same_code(original, data) else [patched]
    best: list[Function] = []
    for content in contents:
        binary = lief.ELF.parse(content)
        if binary is None:
            continue
        functions: list[Function] = []
        for symbol in binary.symbols:
            if len(functions) >= _MOST_SYMBOLS:
                break
            # 0: the symbol is somebody else's
            if symbol.is_function and symbol.value and symbol.shndx:
                functions.append(Function(symbol.value - base, symbol.size, _name(symbol)))
        best = max(best, functions, key=len)
    return [function for function in best if function.begin >= 0 and function.name]


def as_file(data: bytes) -> tuple[bytes, int]:
    """An ELF image with a header that says where things are in it, for readers of files; and the address
    that the image begins at.

    In memory the segments lie at their addresses, and the sections' table is no more.
    """
    wide = data[4:5] == b"\x02"
    patched = bytearray(data)
    try:
        segments = _segments(data)
        base = _base(segments)
        for segment in segments:
            if segment.address >= base:
                at = segment.at + (8 if wide else 4)
                struct.pack_into("<Q" if wide else "<I", patched, at, segment.address - base)
        # no sections: offset of their table, then size, number and names
        struct.pack_into("<Q" if wide else "<I", patched, 40 if wide else 32, 0)
        struct.pack_into("<HHH", patched, 58 if wide else 46, 0, 0, 0)
    except struct.error:
        return data, 0
    return bytes(patched), base


def same_code(original: bytes, image: bytes) -> bool:
    """Whether an ELF file has the executable segments that an image has."""
    try:
        segments = _segments(original)
    except struct.error:
        return False
    base = _base(segments)
    code = [segment for segment in segments if segment.kind == _LOAD and segment.flags & _EXECUTABLE]
    return bool(code) and all(
        segment.address >= base
        and segment.size > 0
        and original[segment.offset : segment.offset + segment.size]
        == image[segment.address - base : segment.address - base + segment.size]
        for segment in code
    )


class _Segment(NamedTuple):
    at: int  # of its entry
    kind: int
    flags: int
    offset: int
    address: int
    size: int  # in the file


def _segments(data: bytes) -> list[_Segment]:
    """Program headers of an ELF file; raises struct.error where they leave it."""
    if data[:4] != _ELF:
        return []
    wide = data[4:5] == b"\x02"
    (table,) = struct.unpack_from("<Q" if wide else "<I", data, 32 if wide else 28)
    entry, count = struct.unpack_from("<HH", data, 54 if wide else 42)
    segments = []
    for index in range(count):
        at = table + index * entry
        if wide:
            kind, flags, offset, address, _, size = struct.unpack_from("<IIQQQQ", data, at)
        else:
            kind, offset, address, _, size, _, flags = struct.unpack_from("<7I", data, at)
        segments.append(_Segment(at, kind, flags, offset, address, size))
    return segments


def _base(segments: list[_Segment]) -> int:
    """The address that the image begins at."""
    return min((each.address for each in segments if each.kind == _LOAD), default=0) & -4096


def _pe(lief: Any, data: bytes) -> list[Function]:
    functions: list[Function] = []
    for content in (_pe_as_file(data), data):
        binary = lief.PE.parse(content)
        if binary is None or not binary.has_exports:
            continue
        for entry in binary.get_export().entries:
            if len(functions) >= _MOST_SYMBOLS:
                break
            if not entry.is_forwarded and entry.address:
                name = _name(entry) or f"#{entry.ordinal}"
                functions.append(Function(entry.address, 0, name))
        if functions:
            break
    return functions


def _pe_as_file(data: bytes) -> bytes:
    """A PE image whose sections are said to lie where they are in memory."""
    patched = bytearray(data)
    try:
        (head,) = struct.unpack_from("<I", data, 60)
        sections, optional = struct.unpack_from("<H", data, head + 6)[0], head + 24
        (size,) = struct.unpack_from("<H", data, head + 20)
        for index in range(sections):
            at = optional + size + 40 * index
            length, address = struct.unpack_from("<II", data, at + 8)
            struct.pack_into("<II", patched, at + 16, length, address)
    except struct.error:
        return data
    return bytes(patched)


def _name(symbol: Any) -> str:
    try:
        name = symbol.demangled_name or symbol.name
    except (UnicodeDecodeError, AttributeError):
        name = symbol.name
    if isinstance(name, bytes):
        name = name.decode("utf-8", errors="replace")
    return storable(str(name)[:_LONGEST_NAME])


def _functions_in(sources: _Sources) -> list[Function]:
    """What a process of its own does. Raises ImageError where there is no image."""
    data = _content(sources.image)
    if not data:
        raise ImageError("could not be read: missing, empty, or too large")
    return functions_of(data, _content(sources.file) if sources.file else b"")


def _content(file: str) -> bytes:
    """Content of a regular file of at most LARGEST bytes, else none."""
    try:
        with (
            open_regular(Path(file), follow=True) as descriptor,
            open(descriptor, "rb", closefd=False) as raw,
        ):
            return raw.read() if 0 < os.fstat(descriptor).st_size <= LARGEST else b""
    except OSError:
        return b""
