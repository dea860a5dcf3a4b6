"""Reading and writing of the small files in a sample folder: bounded, and never half-written."""

from __future__ import annotations

import gzip
import os
import zlib
from pathlib import Path

from barnum.errors import InputError


def read_bounded(file: Path, limit: int, error: type[InputError]) -> bytes:
    """Content of a file, plain or gzip (told by its first bytes), at most limit bytes once unpacked.

    Raises:
        InputError: of the class given, when the file is missing, unreadable, broken or larger.
    """
    try:
        with file.open("rb") as raw:
            packed = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            if packed:
                with gzip.GzipFile(fileobj=raw) as stream:
                    data = stream.read(limit + 1)
            else:
                data = raw.read(limit + 1)
    except FileNotFoundError:
        raise error(f"{file}: no such file") from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as broken:
        raise error(f"{file}: broken gzip data ({broken})") from None
    except OSError as failed:
        raise error(f"{file}: cannot be read ({failed.strerror or failed})") from None
    if len(data) > limit:
        raise error(f"{file}: holds more than {limit:,} bytes, which no such file needs")
    return data


def write_whole(file: Path, data: bytes) -> None:
    """Write a file so that its name never stands for half of it."""
    beside = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        beside.write_bytes(data)
        beside.replace(file)
    finally:
        beside.unlink(missing_ok=True)
