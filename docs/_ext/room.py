"""Sphinx extension: the directive ``room``, which documents the public names of a package.

    .. room:: barnum.samples

Where the package lists names in ``__all__``, these are its public ones; those that belong to another room are
linked to. Where it lists none, they are those of its modules: what a module defines itself, without an
underscore and with a docstring.
"""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path
from types import ModuleType
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective


class Room(SphinxDirective):
    """See the module's text."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        package = importlib.import_module(self.arguments[0])
        listed = getattr(package, "__all__", None)
        names = [name for name in listed or () if not name.startswith("__")]
        own, others = [], []
        for name in names:
            # names that are looked up when they are first used are not seen by autodoc before
            value = getattr(package, name)
            setattr(package, name, value)
            home = self._home(package, name, value)
            if home is None:
                own.append(name)
            else:
                others.append(f":py:obj:`~{home}.{name}`")
        text = _automodule(package.__name__, own)
        if others:
            text += f"Described with their rooms: {', '.join(others)}.\n\n"
        if listed is None:
            for module in _modules(package):
                title = f"``{module.removeprefix('barnum.')}``"
                text += f"{title}\n{'-' * len(title)}\n\n{_automodule(module)}"
        return self.parse_text_to_nodes(text, allow_section_headings=True)

    def _home(self, package: ModuleType, name: str, value: Any) -> str | None:
        """Where a name is described, if that is the page of another room."""
        module: str = getattr(value, "__module__", "") or ""
        room = ".".join(module.split(".")[:2])
        page = Path(self.env.doc2path(self.env.docname)).with_name(f"{room.rpartition('.')[2]}.rst")
        if not module.startswith("barnum.") or room == package.__name__ or not page.exists():
            return None
        return room if name in getattr(importlib.import_module(room), "__all__", ()) else module


def _modules(package: ModuleType) -> list[str]:
    """The public modules of a package; those of packages in it are not looked for."""
    found = pkgutil.iter_modules(package.__path__, f"{package.__name__}.")
    return [module.name for module in found if not module.ispkg and "._" not in module.name]


def _automodule(name: str, members: list[str] | None = None) -> str:
    which = "" if members is None else ", ".join(members)
    options = "" if members == [] else f"   :members: {which}\n"
    return f".. automodule:: {name}\n{options}\n"


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.add_directive("room", Room)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
