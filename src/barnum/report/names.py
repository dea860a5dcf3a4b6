"""The places of a report, each once, and their names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from barnum.report.document import Place
from barnum.report.places import MOST_CLASSES, Located, hex_of
from barnum.report.request import Progress

if TYPE_CHECKING:
    from barnum.report.symbols import Symbols


# functions of images that are kept for places that are added later
_MOST_FUNCTIONS = 1 << 21


class Places:
    """All blocks of a report, each once, with the names of their functions."""

    def __init__(self, located: Sequence[Located] = ()) -> None:
        self.all: list[Place] = []
        self._images: list[str | None] = []
        self._known: dict[tuple[Any, ...], int] = {}
        self._named = 0
        self._symbols: dict[str, Symbols] = {}
        # a block that was expected may lie in a module that only other runs have loaded
        self.modules: dict[int, str] = {}
        self.files: dict[str, str] = {}
        for each in located:
            self.join(each)

    def join(self, located: Located) -> None:
        """Take in the modules and images of a sample."""
        for digest, path in located.modules.items():
            self.modules.setdefault(digest, path)
        for path, file in located.images.items():
            self.files.setdefault(path, file)

    def namer(
        self, located: Located, classes: int | None = None, calls: dict[str, str] | None = None
    ) -> Namer:
        """Names blocks as a sample sees them."""
        return Namer(self, located, classes, calls or {})

    def add(self, place: Place, image: str | None) -> int:
        """The number of a place."""
        key = (place.block, place.block_class, place.branch, place.module, place.offset, image)
        if key not in self._known:
            self._known[key] = len(self.all)
            self.all.append(place)
            self._images.append(image)
        return self._known[key]

    def name_functions(self, progress: Progress) -> list[str]:
        """Look each place that was added since the last time up in the symbols of its image, which is read
        once. Returns what could not be read."""
        from barnum.report.symbols import read_symbols

        in_image: dict[str, list[int]] = {}
        for number, image in enumerate(self._images[self._named :], self._named):
            if image is not None:
                in_image.setdefault(image, []).append(number)
        self._named = len(self._images)
        notes = []
        with progress("read symbols", len(in_image)) as bar:
            for image, numbers in sorted(in_image.items()):
                if image not in self._symbols:
                    # images of many programs, or made to fill the memory
                    if sum(map(len, self._symbols.values())) > _MOST_FUNCTIONS:
                        self._symbols.clear()
                    symbols, why = read_symbols(Path(image), self.all[numbers[0]].module)
                    self._symbols[image] = symbols
                    if why is not None:
                        notes.append(f"Symbols of the image {Path(image).name} are unknown: it {why}.")
                for number in numbers:
                    self.all[number] = _with_function(self.all[number], self._symbols[image])
                bar.advance()
        return notes


def _with_function(place: Place, symbols: Symbols) -> Place:
    function = None if place.offset is None else symbols.find(place.offset)
    if function is None:
        return place
    return msgspec.structs.replace(place, function=function[0], function_offset=function[1])


class Namer:
    """Names places as one sample sees them; each name is the number of a place of the report."""

    def __init__(self, places: Places, located: Located, classes: int | None, calls: dict[str, str]) -> None:
        self._places = places
        self._located = located
        self._classes = classes
        self._calls = calls

    def block(self, block: int) -> int:
        """The place of a block of the sample's path."""
        return self._add(self._located.place(block))

    def token(self, token: int) -> int:
        """The place of a target by the name that the evaluation gives it."""
        name = self._calls.get(f"{token:016x}")
        if name is not None:
            return self._add(Place(block=hex_of(token), module=name))
        # the original's files do not say whether they name classes; a BBID as small as one there is not
        if self._classes is not None or token < MOST_CLASSES:
            return self._add(Place(block_class=token))
        digest = token >> 32
        module = self._located.modules.get(digest) or self._places.modules.get(digest)
        return self._add(Place(block=hex_of(token), module=module, offset=token & 0xFFFFFFFF))

    def branch(self, end: int, module: str | None, offset: int) -> int:
        """The place of a branch of which only the end is known: the token of the byte after it, and the
        module and the offset of that."""
        # at the begin of a module there is no byte before
        last = 1 if end & 0xFFFFFFFF else 0
        return self._add(
            Place(
                block=hex_of(end - last),
                branch=True,
                module=module,
                offset=None if module is None else offset - last,
            )
        )

    def target(self, token: int, module: str | None, offset: int) -> int:
        """The place of a block of which the token is known, and the module and the offset in that."""
        return self._add(Place(block=hex_of(token), module=module, offset=None if module is None else offset))

    def call(self, token: int) -> int | None:
        """The place of a call that came before another; None where that is not known (0)."""
        return self.token(token) if token else None

    def _add(self, place: Place) -> int:
        image = None
        if place.module is not None:
            image = self._located.images.get(place.module)
            if image is None and place.module not in self._located.modules.values():
                image = self._places.files.get(place.module)
        return self._places.add(place, image)
