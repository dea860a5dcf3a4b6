"""Things of one sort by name (networks, scores, methods, …), each imported when it is asked for.

A room that can be extended has one registry. Its own entries are named by the place where they are
defined, so that listing them imports nothing; others are added as objects.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Registry(Generic[T]):
    """Names and what they stand for, in the order in which they were added."""

    def __init__(self, what: str, places: Mapping[str, str]) -> None:
        """``what`` names the sort in errors; ``places`` maps each name to ``module:attribute``."""
        self.what = what
        self._entries: dict[str, Any] = dict(places)

    @property
    def names(self) -> tuple[str, ...]:
        """All names."""
        return tuple(self._entries)

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __getitem__(self, name: str) -> T:
        """What a name stands for.

        Raises:
            KeyError: nothing is called so.
        """
        entry = self._entries[name]
        if isinstance(entry, str):
            module, _, attribute = entry.partition(":")
            entry = self._entries[name] = getattr(importlib.import_module(module), attribute)
        found: T = entry
        return found

    def add(self, name: str, entry: T) -> None:
        """Add an entry under a name of its own.

        Raises:
            ValueError: the name is taken.
        """
        if name in self._entries:
            raise ValueError(f"a {self.what} is called {name!r} already")
        self._entries[name] = entry

    def remove(self, name: str) -> None:
        """Take an entry out again."""
        del self._entries[name]
