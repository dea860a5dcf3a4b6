"""``info.txt``: the input's name, the label, and free further lines."""

from __future__ import annotations

from pathlib import Path

import msgspec

from barnum.errors import SampleError
from barnum.files import read_bounded, write_whole
from barnum.texts import printable, quoted

BENIGN = "benign"
MALICIOUS = "malicious"
UNKNOWN = "unknown"
LABELS = (BENIGN, MALICIOUS, UNKNOWN)

LARGEST_INFO = 1 << 20
# characters of a wrong label that a message shows
_SHOWN = 100


class Info(msgspec.Struct, frozen=True):
    """What ``info.txt`` says: file name of the input, label, further lines."""

    name: str
    label: str
    extra_labels: tuple[str, ...] = ()


def read_info(file: Path) -> Info:
    """Read an ``info.txt``.

    Raises:
        SampleError: the file cannot be read, has no second line, or its label is not one of LABELS.
    """
    # editors of Windows begin a text with a byte order mark
    text = read_bounded(file, LARGEST_INFO, SampleError).decode("utf-8-sig", errors="replace")
    lines = text.splitlines()
    if len(lines) < 2:
        raise SampleError(f"{file}: must have the input's name in line 1 and its label in line 2")
    label = lines[1].strip()
    if label not in LABELS:
        # the content of a file that a link leads to is not shown
        said = "label" if file.is_symlink() else f"label {quoted(label, _SHOWN)}"
        raise SampleError(f"{file}: {said} is none of {', '.join(map(repr, LABELS))}: correct line 2")
    return Info(lines[0].strip(), label, tuple(line.strip() for line in lines[2:] if line.strip()))


def write_info(file: Path, info: Info) -> None:
    """Write an ``info.txt``; characters that are not printable become ``?``, so that a name adds no lines.

    Raises:
        OSError: the file cannot be written.
    """
    lines = (info.name, info.label, *info.extra_labels)
    write_whole(file, "".join(f"{printable(line)}\n" for line in lines).encode())
