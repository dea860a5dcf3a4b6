"""Functions of images, kept in the user's cache folder: many samples are of the same program.

An entry is a row of 64-bit numbers: how many functions f, starts s and taken ones t there are (t -1: that
is not known), then begin, end, entry, part and part_of of each function, then the starts, then those taken.
It goes by the file's device, number, size and time.
"""

from __future__ import annotations

import functools
import hashlib
import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from barnum import __version__
from barnum.evidence.functions import Functions

I64 = NDArray[np.int64]

# changes when Functions does
_SCHEMA = 2
_MOST_FILES = 4096
_COLUMNS = 5
_HEAD = 3


def kept_functions(file: Path, base: int, read: Callable[[], Functions | None]) -> Functions | None:
    """The functions of an image that is a file, and whose module has its ``base``: from the cache, else
    ``read`` and kept there. Where the cache cannot be read or written, they are read."""
    folder = _folder()
    entry = None if folder is None else _entry(folder, file, base)
    if entry is None:
        return read()
    with suppress(OSError, ValueError):
        return _functions(np.fromfile(entry, np.int64))
    functions = read()
    if functions is not None:
        with suppress(OSError):
            _write(Path(entry), functions)
    return functions


def _folder() -> str | None:
    return _folder_of(os.environ.get("XDG_CACHE_HOME", ""), os.environ.get("HOME", ""))


@functools.lru_cache(maxsize=4)
def _folder_of(base: str, _home: str) -> str | None:
    # programs have dozens of libraries: it is asked for each of them
    root = Path(base) if base.startswith("/") else Path(os.path.expanduser("~")) / ".cache"  # noqa: PTH111
    return str(root / "barnum" / "functions") if root.is_absolute() else None


def _entry(folder: str, file: Path, base: int) -> str | None:
    try:
        state = os.stat(file)  # noqa: PTH116
    except OSError:
        return None
    what = (state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, base, __version__, _SCHEMA)
    return f"{folder}/{hashlib.sha256(repr(what).encode()).hexdigest()[:32]}"


def _functions(row: I64) -> Functions:
    """Raises ValueError where the row is no entry."""
    if len(row) < _HEAD:
        raise ValueError("too short")
    count, starts, taken = row[:_HEAD].tolist()
    at = _HEAD + _COLUMNS * count
    if count < 0 or starts < 0 or taken < -1 or len(row) != at + starts + max(0, taken):
        raise ValueError("another length")
    begin, end, entry, part, part_of = row[_HEAD:at].reshape(_COLUMNS, count)
    if count and not 0 <= int(part_of.min()) <= int(part_of.max()) < count:
        raise ValueError("a part of nothing")
    functions = Functions(
        begin.view(np.uint64),
        end.view(np.uint64),
        entry,
        row[at : at + starts].view(np.uint64),
        part != 0,
    )
    functions.part_of = part_of
    functions.taken = None if taken < 0 else row[at + starts :].view(np.uint64)
    return functions


def _write(entry: Path, functions: Functions) -> None:
    columns = (functions.begin, functions.end, functions.entry, functions.part, functions.part_of)
    taken = functions.taken
    sizes = np.array([len(functions), len(functions.starts), -1 if taken is None else len(taken)])
    row = np.concatenate(
        [sizes, *columns, functions.starts, *([] if taken is None else [taken])],
        dtype=np.int64,
        casting="unsafe",
    )
    entry.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, beside = tempfile.mkstemp(dir=entry.parent, prefix=".")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(row.tobytes())
        Path(beside).replace(entry)
    except BaseException:
        Path(beside).unlink(missing_ok=True)
        raise
    _tidy(entry.parent)


def _tidy(folder: Path) -> None:
    """Remove the oldest entries where there are very many."""
    entries = [(each.stat().st_mtime, each.path) for each in os.scandir(folder)]
    if len(entries) > _MOST_FILES:
        for _, path in sorted(entries)[: _MOST_FILES // 4]:
            Path(path).unlink(missing_ok=True)
