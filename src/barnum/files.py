"""Reading and writing of small files: bounded, and never half-written. Every room may use it."""

from __future__ import annotations

import errno
import gzip
import io
import os
import stat
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from barnum.errors import InputError, OptionsError, OutputError, OutputExistsError

# bytes that are read at a time
_PIECE = 1 << 24


def absolute(path: Path) -> Path:
    """A path from the root on. The last link of it stays one; ``..`` goes where the kernel would go."""
    if ".." not in path.parts:
        return path.absolute()
    whole = path.absolute()
    return whole.resolve() if whole.name == ".." else whole.parent.resolve() / whole.name


@contextmanager
def open_regular(file: Path, follow: bool = False) -> Iterator[int]:
    """Open a regular file for reading, as a descriptor: no pipe is waited for, no link followed unless asked.

    Raises:
        OSError: it is missing, or is anything else.
    """
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW)
    descriptor = os.open(file, flags)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError("not a regular file")
        yield descriptor
    finally:
        os.close(descriptor)


def read_bounded(file: Path, limit: int, error: type[InputError]) -> bytes:
    """Content of a file, plain or gzip (told by its first bytes), at most limit bytes once unpacked.

    Raises:
        InputError: of the class given, when the file is missing, unreadable, broken or larger.
    """
    try:
        with open_regular(file, follow=True) as descriptor, open(descriptor, "rb", closefd=False) as raw:
            packed = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            if packed:
                with gzip.GzipFile(fileobj=raw) as stream:
                    data = _read(stream, limit + 1)
            else:
                data = _read(raw, limit + 1)
    except FileNotFoundError:
        raise error(f"{file}: no such file") from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as broken:
        raise error(f"{file}: broken gzip data ({broken})") from None
    except OSError as failed:
        raise error(f"{file}: cannot be read ({failed.strerror or failed})") from None
    if len(data) > limit:
        raise error(f"{file}: holds more than {limit:,} bytes, which no such file needs")
    return data


def _read(stream: io.BufferedIOBase, most: int) -> bytes:
    """At most so many bytes of a stream. Asked for all at once, it would take memory for them before."""
    pieces, left = [], most
    while left and (piece := stream.read(min(left, _PIECE))):
        pieces.append(piece)
        left -= len(piece)
    return b"".join(pieces)


def output_error(error: OSError, place: Path) -> OutputError:
    """What to say of a result that could not be written to place."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(error)
    why = "the disk is full" if full else (error.strerror or str(error)).lower()
    return OutputError(f"{place}: cannot be written: {why}; what was finished before stays as it is")


@contextmanager
def writing(file: Path) -> Iterator[BinaryIO]:
    """A file to write, whose name never stands for half of it: it is put in place when the context ends
    without an error. A link's target is written, not the link; a device or a pipe takes the bytes itself.

    Raises:
        OSError: it cannot be written.
    """
    file = file.resolve() if file.is_symlink() else file
    if file.exists() and not file.is_file():
        with file.open("wb") as raw:
            yield raw
        return
    beside = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        with beside.open("wb") as raw:
            yield raw
        beside.replace(file)
    finally:
        beside.unlink(missing_ok=True)


def write_whole(file: Path, data: bytes) -> None:
    """Write a file that is held in memory; see writing()."""
    with writing(file) as raw:
        raw.write(data)


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


def check_places(places: Mapping[str, Path | None], force: bool, evaluations: Path | None = None) -> None:
    """Refuse places for results that cannot all be written, before work is spent on them.

    Args:
        places: by the option that names each, such as ``--csv``; None: not asked for.
        force: whether what is there may be replaced.
        evaluations: a folder that holds evaluations and nothing else, so no result may lie in it.

    Raises:
        OptionsError: two options name the same file, or one a file in ``evaluations``.
        OutputExistsError: a file is there already, and ``force`` is not given.
        OutputError: the folder of one is missing, or may not be written.
    """
    named: dict[Path, str] = {}
    for option, file in places.items():
        if file is None:
            continue
        place = file.resolve()  # what a link leads to is written
        other = named.setdefault(place, option)
        if other != option:
            raise OptionsError(f"{other} and {option} name the same file: give each its own")
        if evaluations is not None and place.parent == evaluations.resolve():
            raise OptionsError(
                f"{option}: {file} lies in {evaluations}, which holds evaluations and nothing else: name "
                "another place"
            )
        check_place(file, force)


def write_result(file: Path, data: bytes) -> None:
    """Write a file whole. Raises OutputError."""
    try:
        write_whole(file, data)
    except OSError as error:
        raise output_error(error, file) from None
