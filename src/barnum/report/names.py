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


class Places:
    """All blocks of a report, each once, with the names of their functions."""

    def __init__(self, located: Sequence[Located]) -> None:
        self.all: list[Place] = []
        self._images: list[str | None] = []
        self._known: dict[tuple[Any, ...], int] = {}
        self._located = located
        # a block that was expected may lie in a module that only other runs have loaded
        self.modules: dict[int, str] = {}
        for each in located:
            for digest, path in each.modules.items():
                self.modules.setdefault(digest, path)
        self.files: dict[str, str] = {}
        for each in located:
            for path, file in each.images.items():
                self.files.setdefault(path, file)

    def namer(self, index: int, classes: int | None, calls: dict[str, str] | None = None) -> Namer:
        """Names blocks as the sample of that number sees them."""
        return Namer(self, self._located[index], classes, calls or {})

    def add(self, place: Place, image: str | None) -> int:
        """The number of a place."""
        key = (place.block, place.block_class, place.module, place.offset, image)
        if key not in self._known:
            self._known[key] = len(self.all)
            self.all.append(place)
            self._images.append(image)
        return self._known[key]

    def name_functions(self, progress: Progress) -> list[str]:
        """Look each place up in the symbols of its image. Returns what could not be read."""
        from barnum.report.symbols import read_symbols

        in_image: dict[str, list[int]] = {}
        for number, image in enumerate(self._images):
            if image is not None:
                in_image.setdefault(image, []).append(number)
        notes = []
        with progress("read symbols", len(in_image)) as bar:
            for image, numbers in sorted(in_image.items()):
                symbols, why = read_symbols(Path(image), self.all[numbers[0]].module)
                if why is not None:
                    notes.append(f"Symbols of the image {Path(image).name} are unknown: it {why}.")
                for number in numbers:
                    self.all[number] = _with_function(self.all[number], symbols)
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
