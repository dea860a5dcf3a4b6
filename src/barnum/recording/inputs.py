"""The inputs of a recording: files, and the files in folders."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

from barnum.errors import InputError
from barnum.files import absolute
from barnum.texts import printable

# characters of a path that a message shows
_SHOWN = 400


def list_inputs(paths: list[Path]) -> list[Path]:
    """The files to record, in order: a folder stands for the regular files in it, sorted by name.

    Each file is listed once. A missing file is listed too, and fails when it is to be recorded.

    Raises:
        InputError: a folder holds no file or cannot be read.
    """
    inputs: dict[Path, None] = {}
    for path in paths:
        try:
            is_folder = path.is_dir()
        except OSError:
            is_folder = False  # the name is too long, or a folder above it may not be entered
        if not is_folder:
            inputs[absolute(path)] = None
            continue
        try:
            files = sorted(entry for entry in absolute(path).iterdir() if entry.is_file())
        except OSError as error:
            raise InputError(f"{printable(str(path))}: cannot be read ({error.strerror})") from None
        if not files:
            raise InputError(f"{printable(str(path))}: holds no file to record")
        inputs.update(dict.fromkeys(files))
    return list(inputs)


def hash_input(path: Path) -> tuple[str, os.stat_result]:
    """SHA-256 of a file's content, in hex, and the file's status.

    Raises:
        InputError: the file is missing, unreadable, or no regular file.
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
