"""Questions about code that only few blocks raise: landing pads, parts of one function, boundaries of
instructions."""

from __future__ import annotations

from typing import Any

import numpy as np

from barnum.evidence.elf import linked_at
from barnum.evidence.frames import landing_pads
from barnum.evidence.functions import I64, U32, U64, Bool
from barnum.evidence.images import Image, Images
from barnum.evidence.places import Places, in_file
from barnum.paths import Blocks, Kind

_LARGEST_FUNCTION = 1 << 16  # bytes that are searched for jumps into another one
_MOST_BYTES = 16 << 20  # of all that are searched
_MOST_OVERLAPS = 1 << 12
_LONGEST_BLOCK = 1 << 16


class Code:
    """Answers questions about blocks of one path; what they cost is bounded."""

    def __init__(self, blocks: Blocks, images: Images, places: Places) -> None:
        self._blocks = blocks
        self._images = images
        self._places = places
        self._pads: dict[tuple[str, int], frozenset[int] | None] = {}
        self._jumps: dict[tuple[str, int], frozenset[int]] = {}
        self._searched = 0

    def function(self, block: int) -> tuple[str, int] | None:
        """The function that a block lies in: path of the module, and its number in the image."""
        image = self._image(block)
        if image is None or image.functions is None:
            return None
        found = int(image.functions.find(self._blocks.offset[block : block + 1])[0])
        return None if found < 0 else (self._path(block), found)

    def lands(self, block: int, waiting: U32, *, own: bool = True) -> bool | None:
        """Whether exceptions go on at a block, in its function (if its ``own`` counts) or in one of those
        ``waiting`` u32[f]; None where that is not known."""
        path, offset = self._path(block), int(self._blocks.offset[block])
        function = self.function(block) if own else None
        functions = [] if function is None else [function]
        functions += [(each.module, each.number) for each in map(self._places.function, waiting.tolist())]
        known = True
        for module, number in functions:
            if module != path:
                continue
            pads = self._landing_pads(module, number)
            if pads is None:
                known = False
            elif offset in pads:
                return True
        return False if known else None

    def related(self, source: int, target: int) -> bool:
        """Whether the functions of two blocks are parts of one: a direct jump leads from the one into the
        middle of the other."""
        one, other = self.function(source), self.function(target)
        if one is None or other is None or one[0] != other[0]:
            return False
        return one == other or self._jumps_into(one, other) or self._jumps_into(other, one)

    def changed(self, block: int) -> bool:
        """Whether code bytes beside the trace replace some of a block's."""
        start = self._blocks.start[block : block + 1]
        end = start + self._blocks.length[block].astype(np.uint64)
        return bool(self._images.changed(int(self._blocks.process[block]), start, end)[0])

    def changed_in_files(self) -> list[list[int]]:
        """Of each file in which blocks ran that are not as in the file, these blocks."""
        blocks = self._blocks
        found: dict[int, list[int]] = {}
        names = np.array([in_file(name) and name != "[vdso]" for name in blocks.modules] + [False])
        for process in np.unique(blocks.process).tolist():
            here = np.flatnonzero((blocks.process == process) & names[blocks.module] & (blocks.length > 0))
            start = blocks.start[here]
            changed = self._images.changed(process, start, start + blocks.length[here].astype(np.uint64))
            for block in here[changed].tolist():
                if self._image(block) is not None:
                    found.setdefault(int(blocks.module[block]), []).append(block)
        return list(found.values())

    def untaken(self, reached: U32) -> Bool:
        """bool[r]: which of the blocks ``reached`` u32[r] begin functions whose address stands nowhere in
        their image."""
        blocks, found = self._blocks, np.zeros(len(reached), np.bool_)
        module = blocks.module[reached]
        for number in np.unique(module[module >= 0]).tolist():
            path = blocks.modules[number]
            image = self._images.image(path) if in_file(path) else None
            if image is not None and image.functions is not None:
                mine = np.flatnonzero(module == number)
                found[mine] = image.functions.untaken(blocks.offset[reached[mine]])
        return found

    def inside_instructions(self, reached: U32) -> I64:
        """Which of the blocks ``reached`` u32[r] begin inside of an instruction that ran as well."""
        blocks = self._blocks
        found: list[int] = []
        names = np.array([in_file(name) for name in blocks.modules] + [False])
        code = names[blocks.module] & (blocks.count > 0) & (blocks.kind != Kind.UNKNOWN)
        for process in np.unique(blocks.process[reached]).tolist():
            here = np.flatnonzero(code & (blocks.process == process))
            order = here[np.argsort(blocks.start[here], kind="stable")]
            mine = np.flatnonzero(code[reached] & (blocks.process[reached] == process))
            for at, cover in self._covered(order, reached, mine):
                if len(found) >= _MOST_OVERLAPS:
                    break
                if self._splits(cover, int(blocks.start[reached[at]])):
                    found.append(at)
        return np.array(sorted(found), np.int64)

    def _covered(self, order: I64, reached: U32, mine: I64) -> list[tuple[int, int]]:
        """Of the places ``mine`` in ``reached`` those whose block begins inside of another one, and that."""
        start = self._blocks.start[order]
        end = start + self._blocks.length[order].astype(np.uint64)
        if not len(start):
            return []
        # the block that reaches furthest, of all that begin before
        furthest = np.maximum.accumulate(end)
        which = np.maximum.accumulate(np.where(end == furthest, np.arange(len(end)), 0))
        begins: U64 = self._blocks.start[reached[mine]]
        before = np.searchsorted(start, begins, side="left") - 1
        inside = (before >= 0) & (furthest[before] > begins)
        return list(zip(mine[inside].tolist(), order[which[before[inside]]].tolist(), strict=True))

    def _splits(self, cover: int, address: int) -> bool:
        """Whether an address lies inside of an instruction of a block."""
        image = self._image(cover)
        length = int(self._blocks.length[cover])
        if image is None or length > _LONGEST_BLOCK or self.changed(cover):
            return False
        offset, start = int(self._blocks.offset[cover]), int(self._blocks.start[cover])
        data = image.data[offset : offset + length].tobytes()
        return all(instruction.ip != address for instruction in _decoded(image.mode, data, start))

    def _jumps_into(self, one: tuple[str, int], other: tuple[str, int]) -> bool:
        """Whether a direct jump leads from one function into another of the same image, not to its start."""
        image = self._images.image(other[0])
        if image is None or image.functions is None:
            return False
        begin, end = (int(column[other[1]]) for column in (image.functions.begin, image.functions.end))
        return any(begin < target < end for target in self._targets(one))

    def _targets(self, function: tuple[str, int]) -> frozenset[int]:
        """Where direct jumps in a function lead."""
        if function in self._jumps:
            return self._jumps[function]
        image = self._images.image(function[0])
        targets: set[int] = set()
        if image is not None and image.functions is not None:
            begin, end = (int(column[function[1]]) for column in (image.functions.begin, image.functions.end))
            size = min(end - begin, _LARGEST_FUNCTION)
            if self._searched + size <= _MOST_BYTES:
                self._searched += size
                data = image.data[begin : begin + size].tobytes()
                targets = {
                    instruction.near_branch_target
                    for instruction in _decoded(image.mode, data, begin)
                    if instruction.is_jcc_short_or_near or instruction.is_jmp_short_or_near
                }
        self._jumps[function] = frozenset(targets)
        return self._jumps[function]

    def _landing_pads(self, module: str, number: int) -> frozenset[int] | None:
        key = (module, number)
        if key not in self._pads:
            image = self._images.image(module)
            pads: frozenset[int] | None = frozenset()
            if image is not None and image.functions is not None:
                entry = int(image.functions.entry[number])
                if entry >= 0:
                    begin = int(image.functions.begin[number])
                    pads = landing_pads(image.data, entry, begin, linked_at(image.data))
            self._pads[key] = pads
        return self._pads[key]

    def _path(self, block: int) -> str:
        module = int(self._blocks.module[block])
        return self._blocks.modules[module] if module >= 0 else ""

    def _image(self, block: int) -> Image | None:
        path = self._path(block)
        return self._images.image(path) if path and in_file(path) else None


def _decoded(mode: int, data: bytes, address: int) -> Any:
    """The instructions of code bytes."""
    import iced_x86

    return iced_x86.Decoder(mode, data, ip=address)
