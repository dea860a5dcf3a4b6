"""Memory maps: which module lies where, from ``/proc/PID/maps`` lines or Volatility 2's ``ldrmodules``."""

from __future__ import annotations

import re
import zlib
from bisect import bisect_right
from collections.abc import Callable, Iterable
from functools import cached_property
from pathlib import Path

import msgspec

from barnum.errors import ImageError, MappingError
from barnum.files import read_bounded
from barnum.texts import printable, quoted, shortened

_LIMIT = 64 << 20
_MAX_REGIONS = 1 << 18
# characters of a path that a message shows
_SHOWN = 300
_MAPS_LINE = re.compile(
    r"([0-9a-f]{1,16})-([0-9a-f]{1,16}) ([r-])([w-])([x-])([ps-]) ([0-9a-f]{1,16}) \S+ \d+ *(.*)", re.ASCII
)
# what a map calls executable memory without a name: this and its address
ANONYMOUS_CODE = "/anon/"
# pages without a name
ANONYMOUS = "[anonymous]"
UNMAPPED = "[unmapped]"
# Volatility 2's ldrmodules has fixed columns
_LDR_BASE = slice(30, 48)
_LDR_PATH = slice(69, None)


class Region(msgspec.Struct, frozen=True):
    """One mapped range: addresses [start, end), the file offset of its start, and the mapped path."""

    start: int
    end: int
    offset: int
    executable: bool
    path: str


class Module(msgspec.Struct, frozen=True):
    """A mapped file (or named region): addresses [base, end) and the regions in them.

    Attributes:
        path: as the map names it.
        base: lowest address; offsets of blocks count from it.
        end: end of the last region.
        hash: Adler-32 of the path in UTF-8, the upper half of every BBID in this module.
        regions: by address.
    """

    path: str
    base: int
    end: int
    hash: int
    regions: tuple[Region, ...]

    @property
    def name(self) -> str:
        """Last part of the path: the name of the image in the bin-dir.

        Raises:
            ImageError: this part cannot name a file.
        """
        separator = "\\" if "/" not in self.path else "/"
        name = self.path.rsplit(separator, 1)[-1]
        if name in ("", ".", "..") or "\0" in name or "/" in name or len(name.encode()) > 255:
            raise ImageError(
                f"module {quoted(self.path, _SHOWN)}: its last part names no file in the folder of images: "
                "correct the map"
            )
        return name


class MemoryMap:
    """The mapped regions of one process, by address and without overlaps, and the modules that they make up.

    Raises:
        MappingError: regions overlap.
    """

    def __init__(self, regions: Iterable[Region]) -> None:
        self.regions = sorted(regions, key=lambda region: (region.start, region.end))
        for before, after in zip(self.regions, self.regions[1:], strict=False):
            if after.start < before.end:
                raise MappingError(
                    f"modules overlap: {printable(before.path)} [{before.start:x}-{before.end:x}] and "
                    f"{printable(after.path)} [{after.start:x}-{after.end:x}]"
                )

    @classmethod
    def read(cls, file: Path, image_size: Callable[[str], int | None] | None = None) -> MemoryMap:
        """Read a map, plain or gzip; see :meth:`parse`.

        Raises:
            MappingError: the file is missing, broken, too large, or contradicts itself.
        """
        text = read_bounded(file, _LIMIT, MappingError).decode("utf-8", errors="replace")
        try:
            return cls.parse(text, image_size)
        except MappingError as error:
            raise MappingError(f"{file}: {error}") from None

    @classmethod
    def parse(cls, text: str, image_size: Callable[[str], int | None] | None = None) -> MemoryMap:
        """Read a map; its first line shows the format.

        Args:
            text: lines of ``/proc/PID/maps``, or an ``ldrmodules`` table.
            image_size: for ``ldrmodules``, which has no sizes: gives the bytes of a module's image, by its
                path. If they are unknown (None), the module reaches up to the next one's base.

        Raises:
            MappingError: nothing is mapped, a line is in neither format, or modules overlap.
        """
        # not splitlines(): a path may hold any character but a newline
        lines = [line.rstrip("\r") for line in text.split("\n") if line.strip()]
        if not lines:
            raise MappingError("the memory map is empty")
        if len(lines) > _MAX_REGIONS:
            raise MappingError(f"the memory map has {len(lines):,} lines, more than any process")
        if _MAPS_LINE.match(lines[0]):
            return cls(_read_maps(lines))
        return cls(_read_ldrmodules(lines, image_size))

    @cached_property
    def modules(self) -> list[Module]:
        """Modules, by base. Neighbouring regions of one file are one module.

        Where the offset in the file goes back, the file is mapped a second time, as a module of its own.
        """
        groups: list[list[Region]] = []
        for region in self.regions:
            if not region.path.startswith("/") and not region.executable:
                continue  # heap, stack, other data: no code
            last = groups[-1][-1] if groups else None
            if last is not None and last.path == region.path and last.offset <= region.offset:
                groups[-1].append(region)
            else:
                groups.append([region])
        return [
            Module(group[0].path, group[0].start, group[-1].end, hash_of(group[0].path), tuple(group))
            for group in groups
        ]

    def find(self, address: int) -> Module | None:
        """The module that holds an address; None if there is none."""
        index = bisect_right(self._bases, address) - 1
        if index >= 0 and address < self.modules[index].end:
            return self.modules[index]
        return None

    @cached_property
    def _bases(self) -> list[int]:
        return [module.base for module in self.modules]


def hash_of(path: str) -> int:
    """Adler-32 of a path in UTF-8: the upper half of the BBIDs in it."""
    return zlib.adler32(path.encode("utf-8", errors="replace"))


def _read_maps(lines: list[str]) -> list[Region]:
    regions = []
    for number, line in enumerate(lines, 1):
        fields = _MAPS_LINE.fullmatch(line)
        if not fields:
            raise MappingError(f"line {number} is no line of /proc/PID/maps: {shortened(line)}")
        start, end, offset = (int(fields[group], 16) for group in (1, 2, 7))
        if end <= start:
            raise MappingError(f"line {number}: a region must end after it starts: {shortened(line)}")
        path = fields[8].removesuffix(" (deleted)")
        if path == "[vsyscall]":
            continue  # above all addresses of programs; never traced
        executable = fields[5] == "x"
        if not path:
            path = f"{ANONYMOUS_CODE}{start:x}" if executable else ANONYMOUS
        regions.append(Region(start, end, offset, executable, path))
    return regions


def _read_ldrmodules(lines: list[str], image_size: Callable[[str], int | None] | None) -> list[Region]:
    path_at: dict[int, str] = {}
    for number, line in enumerate(lines, 1):
        column, path = line[_LDR_BASE].strip(), line[_LDR_PATH].strip()
        if column in ("Base", "-" * 18):
            continue
        try:
            address = int(column, 16)
        except ValueError:
            raise MappingError(
                f"line {number} is neither of /proc/PID/maps nor of an ldrmodules table: {shortened(line)}"
            ) from None
        if not path:
            continue  # memory without a file
        if path_at.setdefault(address, path) != path:
            raise MappingError(
                f"modules overlap: {printable(path_at[address])} and {printable(path)} at {address:x}"
            )
    if not path_at:
        raise MappingError("the memory map names no module")
    bases = sorted(path_at)
    regions = []
    for base, following in zip(bases, [*bases[1:], 1 << 64], strict=True):
        size = image_size(path_at[base]) if image_size else None
        end = following if size is None else min(base + size, following)
        if end > base:
            regions.append(Region(base, end, 0, True, path_at[base]))
    return regions
