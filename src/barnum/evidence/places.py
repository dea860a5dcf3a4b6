"""Which function of which module a block lies in, and what a place is called."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from barnum.evidence.findings import Place
from barnum.evidence.functions import U32, Bool
from barnum.evidence.images import Image, Images
from barnum.paths import Blocks, Kind
from barnum.samples.mapping import ANONYMOUS_CODE, hash_of

ANONYMOUS_PAGES = "[anonymous code]"
_VDSO = "[vdso]"


class InFunction(NamedTuple):
    """A function: the module's path, and its number among the functions of that image."""

    module: str
    number: int


class Places:
    """Functions of all modules under numbers of their own, from 1 on; 0 is none."""

    outside_token = np.uint64(hash_of(ANONYMOUS_PAGES) << 32)

    def __init__(self, images: Images) -> None:
        self._images = images
        self._first: dict[str, int] = {}
        self._modules: list[str] = []
        self._firsts: list[int] = []
        self._next = 1

    def functions(self, blocks: Blocks, known: int) -> tuple[U32, Bool, Bool]:
        """Of the blocks from number ``known`` on: u32[n] the function that each lies in (0: not known),
        bool[n] whether it begins there, and bool[n] whether that is a part of a function."""
        module = blocks.module[known:]
        offset = blocks.offset[known:]
        function = np.zeros(len(module), np.uint32)
        start = np.zeros(len(module), np.bool_)
        part = np.zeros(len(module), np.bool_)
        real = blocks.kind[known:] != Kind.UNKNOWN
        order = np.flatnonzero(module >= 0)
        order = order[np.argsort(module[order], kind="stable")]
        numbers, first = np.unique(module[order], return_index=True)
        for number, here in zip(numbers.tolist(), np.split(order, first[1:]), strict=False):
            path = blocks.modules[number]
            image = self._images.image(path) if in_file(path) else None
            if image is None or image.functions is None:
                continue
            here = here[real[here]]
            found = image.functions.find(offset[here])
            function[here] = np.where(found >= 0, found + self._number(path, image), 0)
            start[here] = image.functions.at_start(offset[here])
            if image.functions.part.any():
                part[here] = (found >= 0) & np.append(image.functions.part, False)[found]
        return function, start, part

    def outside(self, blocks: Blocks, known: int) -> Bool:
        """bool[n]: which of the blocks from number ``known`` on lie in no file."""
        names = np.array([not in_file(name) for name in blocks.modules] + [True])
        found: Bool = names[blocks.module[known:]] & (blocks.kind[known:] != Kind.UNKNOWN)
        return found

    def function(self, number: int) -> InFunction:
        """The function of a number from 1 on."""
        at = int(np.searchsorted(self._firsts, number, side="right")) - 1
        return InFunction(self._modules[at], number - self._firsts[at])

    def _number(self, path: str, image: Image) -> int:
        if path not in self._first:
            self._first[path] = self._next
            self._modules.append(path)
            self._firsts.append(self._next)
            self._next += len(image.functions or ())
        return self._first[path]


def in_file(path: str) -> bool:
    """Whether a module of this path is a file, or the same everywhere as a file is."""
    return path == _VDSO or not path.startswith((ANONYMOUS_CODE, "["))


def place_of(blocks: Blocks, block: int, behind: bool = False) -> Place:
    """Where a block lies, or the byte behind it."""
    further = int(blocks.length[block]) if behind else 0
    path = blocks.modules[blocks.module[block]] if blocks.module[block] >= 0 else ""
    if not path or path.startswith(ANONYMOUS_CODE):
        return Place(ANONYMOUS_PAGES, int(blocks.start[block]) + further)
    name = path.replace("\\", "/").rsplit("/", 1)[-1]
    return Place(name or path, int(blocks.offset[block]) + further)


def key_of(place: Place) -> str:
    """What is the same from run to run: addresses in no file are not."""
    return place.module if place.module.startswith("[") and place.module != _VDSO else str(place)


def token_of(blocks: Blocks, block: int, behind: bool = False) -> int:
    """BBID of a block or of the byte behind it, the same from run to run."""
    path = blocks.modules[blocks.module[block]] if blocks.module[block] >= 0 else ""
    if blocks.kind[block] != Kind.UNKNOWN and not in_file(path):
        return int(Places.outside_token)
    return int(blocks.bbid[block] + np.uint64(blocks.length[block] if behind else 0))
