"""What is known of the memory of a sample's processes: images, rights of pages, changed code."""

from __future__ import annotations

import mmap
from bisect import bisect_right
from pathlib import Path
from typing import NamedTuple

import numpy as np

from barnum.errors import InputError
from barnum.evidence.elf import read_elf
from barnum.evidence.functions import U8, U64, Bool, Functions
from barnum.evidence.kept import kept_functions
from barnum.evidence.pe import read_pe
from barnum.files import open_regular
from barnum.paths.code import load_code
from barnum.samples import MemoryMap, Process, Sample
from barnum.samples.mapping import Module, Region

LARGEST = 1 << 30  # bytes of an image
_CALL = 0xE8


class Image(NamedTuple):
    """One image: its bytes u8[n], its functions (None: not known), and 32 or 64 bit."""

    data: U8
    functions: Functions | None
    mode: int

    def behind_call(self, offset: int) -> bool:
        """Whether the bytes before an offset can be read as a call."""
        before = self.data[max(0, offset - 7) : offset].tobytes()
        if len(before) >= 5 and before[-5] == _CALL:
            return True
        return any(_is_call(before[-size:]) for size in range(2, min(len(before), 7) + 1))

    def starts_with(self, offset: int, *words: bytes) -> bool:
        """Whether one of these stands at an offset."""
        here = self.data[offset : offset + 16].tobytes()
        return here.startswith(words)


def _is_call(data: bytes) -> bool:
    """Whether these bytes are one call through a register or memory (FF /2), without prefixes."""
    if data[0] != 0xFF or data[1] >> 3 & 7 != 2:
        return False
    mod, register = data[1] >> 6, data[1] & 7
    size = 2 + (mod != 3 and register == 4) + (0, 1, 4, 0)[mod]
    if mod == 0 and (register == 5 or (register == 4 and len(data) > 2 and data[2] & 7 == 5)):
        size += 4
    return size == len(data)


class Images:
    """The images of a sample, by the path of the module, read when they are asked for.

    Attributes:
        missing: paths of modules without an image or without known functions, of those asked for.
    """

    def __init__(self, sample: Sample | None, bin_dir: Path | None) -> None:
        """``sample`` None: nothing is known of the memory; ``bin_dir`` None: there are no images.

        What cannot be read, be it a map or an image, is as good as not there.
        """
        self._sample = sample if bin_dir is not None else None
        self._bin_dir = bin_dir or Path()
        self._processes: dict[int, Process] = {}
        if sample is not None:
            try:
                for process in sample.processes(self._bin_dir):
                    self._processes[process.index] = process
            except InputError:
                self._processes = {}
        # where each module lies first, and of which mode its process is
        self._modules: dict[str, tuple[Module, int]] = {}
        for process in self._processes.values():
            for module in process.mapping.modules:
                self._modules.setdefault(module.path, (module, process.mode))
        self._images: dict[str, Image | None] = {}
        self._changed: dict[int, tuple[U64, U64]] = {}
        self.missing: set[str] = set()

    def image(self, path: str) -> Image | None:
        """The image of a module; None where there is none."""
        if path not in self._images:
            self._images[path] = self._read(path)
            image = self._images[path]
            if (image is None or image.functions is None) and path.startswith("/"):
                self.missing.add(path)
        return self._images[path]

    def region(self, process: int, address: int) -> Region | None:
        """What is mapped at an address; None where nothing is, or the map is not known."""
        mapping = self.mapping(process)
        if mapping is None:
            return None
        at = bisect_right(mapping.regions, address, key=lambda region: region.start) - 1
        if at >= 0 and address < mapping.regions[at].end:
            return mapping.regions[at]
        return None

    def mapping(self, process: int) -> MemoryMap | None:
        """The map of a process; None where it is not known."""
        return self._processes[process].mapping if process in self._processes else None

    def changed(self, process: int, start: U64, end: U64) -> Bool:
        """bool[n]: whether code bytes beside the trace replace some of the addresses from ``start`` u64[n] up
        to ``end``."""
        begins, ends = self._records(process)
        if not len(begins):
            return np.zeros(len(start), np.bool_)
        # ends are the highest so far, so that one search will do
        at = np.searchsorted(begins, end, side="left") - 1
        found: Bool = (at >= 0) & (ends[at] > start)
        return found

    def _records(self, process: int) -> tuple[U64, U64]:
        if process not in self._changed:
            self._changed[process] = self._read_records(process)
        return self._changed[process]

    def _read_records(self, process: int) -> tuple[U64, U64]:
        nothing = np.zeros(0, np.uint64)
        here = self._processes.get(process)
        if here is None or here.code is None or self._sample is None:
            return nothing, nothing
        try:
            records = load_code(self._sample, here, self._bin_dir).records
        except InputError:
            return nothing, nothing
        begins = np.array([record.address for record in records], np.uint64)
        ends = begins + np.array([len(record.data) for record in records], np.uint64)
        order = np.argsort(begins, kind="stable")
        return begins[order], np.maximum.accumulate(ends[order]) if len(ends) else ends

    def _read(self, path: str) -> Image | None:
        if self._sample is None:
            return None
        module, mode = self._modules.get(path, (None, 0))
        if module is None:
            return None
        try:
            file = self._sample.image_path(module, self._bin_dir)
        except InputError:
            return None
        data = _mapped(file) if file else None
        if data is None:
            return None
        assert file is not None
        return Image(data, _functions(file, data, module.base), mode)


def _functions(file: Path, data: U8, base: int) -> Functions | None:
    def read() -> Functions | None:
        functions = read_elf(data, base)
        return read_pe(data) if functions is None else functions

    return kept_functions(file, base, read)


def _mapped(file: Path) -> U8 | None:
    """Content of an image, read when it is looked at; None where it is empty, too large, or no file."""
    try:
        with open_regular(file, follow=True) as descriptor:
            data = mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError):
        return None
    return np.frombuffer(data, np.uint8) if len(data) <= LARGEST else None
