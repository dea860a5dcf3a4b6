"""Sets files: which samples were learnt, which were held out, and which of unknown label are judged."""

from __future__ import annotations

import logging
from pathlib import Path

import msgspec

from barnum.errors import SetsError
from barnum.files import read_bounded, write_whole
from barnum.texts import printable

_log = logging.getLogger(__name__)
_LIMIT = 256 << 20
_SECTIONS = ("b_train", "b_test", "m_test", "u_test")


class Sets(msgspec.Struct, frozen=True):
    """Sample folders: benign ones to learn, benign ones that are held out, malicious ones, and those whose
    label is unknown."""

    b_train: tuple[Path, ...]
    b_test: tuple[Path, ...]
    m_test: tuple[Path, ...]
    u_test: tuple[Path, ...] = ()


def read_sets(file: Path, root: Path) -> Sets:
    """Read a sets file: sections ``[b_train]``, ``[b_test]``, ``[m_test]``, ``[u_test]``, a sample folder on
    each line.

    Relative folders are taken from ``root``. Those outside ``root``, missing ones, and those that are named
    twice in a section are skipped with a warning.

    Raises:
        SetsError: the file cannot be read, a line belongs to no section, or nothing is left.
    """
    text = read_bounded(file, _LIMIT, SetsError).decode("utf-8", errors="surrogateescape")
    inside = root.resolve()
    folders_of: dict[str, list[Path]] = {section: [] for section in _SECTIONS}
    section = ""
    for number, line in enumerate(text.split("\n"), 1):
        entry = line.strip()
        if not entry:
            continue
        if entry.startswith("[") and entry.endswith("]"):
            section = entry[1:-1]
            if section not in folders_of:
                raise SetsError(
                    f"{file}: line {number}: no section is called {printable(entry)}: use {_named()}"
                )
            continue
        if not section:
            raise SetsError(f"{file}: line {number} comes before any section: begin with {_named()}")
        if "\0" in entry:
            raise SetsError(f"{file}: line {number} is no path")
        folder = (inside / entry).resolve()
        if not folder.is_relative_to(inside) or folder == inside:
            _log.warning("skipped: %s is outside %s", printable(entry), root)
        elif not folder.is_dir():
            _log.warning("skipped: %s is missing", printable(entry))
        elif folder in folders_of[section]:
            _log.warning("skipped: %s is named twice", printable(entry))
        else:
            folders_of[section].append(folder)
    if not any(folders_of.values()):
        raise SetsError(f"{file}: names no sample folder inside {root}")
    return Sets(*(tuple(folders_of[name]) for name in _SECTIONS))


def write_sets(file: Path, sets: Sets) -> None:
    """Write a sets file with absolute paths.

    Raises:
        OSError: the file cannot be written.
    """
    write_whole(file, sets_content(sets))


def sets_content(sets: Sets) -> bytes:
    """The content of a sets file; ``u_test``, which Barnum-Learner does not know, is left out where it is
    empty."""
    lines = []
    for section in _SECTIONS:
        if section == "u_test" and not sets.u_test:
            continue
        lines.append(f"[{section}]")
        lines.extend(str(folder.resolve()) for folder in getattr(sets, section))
    return ("\n".join(lines) + "\n").encode("utf-8", errors="surrogateescape")


def _named() -> str:
    return ", ".join(f"[{section}]" for section in _SECTIONS)
