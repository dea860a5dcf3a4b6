"""Files that commands of this room write: looked at before the work, written whole after it."""

from __future__ import annotations

import os
from pathlib import Path

from barnum.errors import OutputError, OutputExistsError
from barnum.files import output_error, write_whole


def check_place(file: Path, force: bool) -> None:
    """Refuse a place that cannot be written, before work is spent on it.

    Raises:
        OutputExistsError: the file is there already, and ``force`` is not given.
        OutputError: its folder is missing, or may not be written.
    """
    if file.exists() and not force:
        raise OutputExistsError(f"{file}: is there already: give another name, or --force")
    if not file.parent.is_dir():
        raise OutputError(f"{file}: cannot be written (no such folder: {file.parent})")
    if not os.access(file.parent, os.W_OK | os.X_OK):
        raise OutputError(f"{file}: cannot be written (no permission in {file.parent})")


def write_result(file: Path, data: bytes) -> None:
    """Write a file whole. Raises OutputError."""
    try:
        write_whole(file, data)
    except OSError as error:
        raise output_error(error, file) from None
