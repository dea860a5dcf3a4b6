"""The inputs of a recording: files, and the files in folders."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

from barnum.errors import InputError
from barnum.texts import printable

# characters of a path in a message
_SHOWN = 400


def list_inputs(paths: list[Path]) -> list[Path]:
    """The files that are meant, in order: a folder stands for the regular files in it, sorted by name.

    A file that is missing is listed too; it fails when its turn comes. Each file is listed once.

    Raises:
        InputError: a folder holds no file or cannot be read.
    """
    found: dict[Path, None] = {}
    for path in paths:
        try:
            is_folder = path.is_dir()
        except OSError:
            is_folder = False  # a name that is too long, or a way to it that is closed
        if not is_folder:
            found[path.absolute()] = None
            continue
        try:
            files = sorted(entry for entry in path.absolute().iterdir() if entry.is_file())
        except OSError as error:
            raise InputError(f"{printable(str(path))}: cannot be read ({error.strerror})") from None
        if not files:
            raise InputError(f"{printable(str(path))}: holds no file to record")
        found.update(dict.fromkeys(files))
    return list(found)


def hash_input(path: Path) -> tuple[str, os.stat_result]:
    """SHA-256 of a file's content, in hex, and the file's status.

    Raises:
        InputError: it is missing, unreadable, or no regular file.
    """
    shown = printable(str(path))
    if len(shown) > _SHOWN:
        shown = f"{shown[:_SHOWN]}…"
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise InputError(f"{shown}: is no regular file")
            return hashlib.file_digest(file, "sha256").hexdigest(), status
    except FileNotFoundError:
        raise InputError(f"{shown}: no such file") from None
    except OSError as error:
        raise InputError(f"{shown}: cannot be read ({error.strerror})") from None
