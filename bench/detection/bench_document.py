"""What the programs of the benchmark open."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Document:
    """A document.

    Attributes:
        name: of its file.
        kind: documents of one kind are made alike.
        content: of its file.
        harmful: whether it makes the program do what its user would not want.
    """

    name: str
    kind: str
    content: bytes
    harmful: bool = False
