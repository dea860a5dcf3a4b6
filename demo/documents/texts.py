"""Texts that a Debian machine has anyway, however slim: licences, Python's own sources, dpkg's list."""

from __future__ import annotations

import re
import sysconfig
import textwrap
from functools import cache
from pathlib import Path

_LICENCES = Path("/usr/share/common-licenses")
_STATUS = Path("/var/lib/dpkg/status")


@cache
def paragraphs(licence: str) -> list[str]:
    """The paragraphs of a licence text, each on one line of plain ASCII."""
    text = (_LICENCES / licence).read_text("utf-8", "replace").encode("ascii", "replace").decode()
    found = [" ".join(part.split()) for part in re.split(r"\n\s*\n", text)]
    return [part for part in found if part]


def prose(licence: str, start: int, count: int) -> list[str]:
    """Some paragraphs of a licence, from the start-th that is long enough to be prose, wrapping around."""
    long = [part for part in paragraphs(licence) if len(part) > 120]
    return [long[(start + i) % len(long)] for i in range(count)]


def words(licence: str, start: int, count: int) -> list[str]:
    """Single words of a licence."""
    found = re.findall(r"[A-Za-z]{3,}", " ".join(paragraphs(licence)))
    return [found[(start + i * 7) % len(found)] for i in range(count)]


def source(module: str, start: int, count: int) -> str:
    """Lines of a module of Python's standard library, in ASCII."""
    path = Path(sysconfig.get_path("stdlib")) / f"{module}.py"
    lines = path.read_text("utf-8").encode("ascii", "replace").decode().splitlines()
    return "\n".join(line.expandtabs()[:110] for line in lines[start : start + count]) + "\n"


@cache
def packages() -> list[tuple[str, str, int, str]]:
    """(name, version, size in KiB, description) of the installed packages that are essential or required.

    Only those, since which others are there differs between machines.
    """
    rows = []
    for block in _STATUS.read_text("utf-8", "replace").split("\n\n"):
        fields = dict(re.findall(r"^([A-Z][A-Za-z-]*): (.*)$", block, re.M))
        if fields.get("Priority") == "required" and "Description" in fields:
            text = fields["Description"].encode("ascii", "replace").decode()
            rows.append((fields["Package"], fields["Version"], int(fields.get("Installed-Size", 0)), text))
    return sorted(rows)


def postscript_string(text: str) -> str:
    """A text as a PostScript (or PDF) literal string."""
    return "(" + re.sub(r"([\\()])", r"\\\1", text) + ")"


def wrapped(text: str, width: int) -> list[str]:
    """A text in lines of at most width characters."""
    return textwrap.wrap(text, width)
