"""Opens a parsed trace, whichever of its two formats it has."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path as FilePath
from typing import Any, Protocol

from barnum.errors import InputError, ParsedTraceError
from barnum.paths.blocks import Blocks, Chunk, GapDetails, Path

_log = logging.getLogger(__name__)


class PathReader(Protocol):
    """A path in a file. ``rows`` is its number of steps; ``header`` a JSON document on where it is from.

    ``first_stream`` is the number of steps of the first stream, which the path begins with: the first thread
    that was recorded. ``spawn`` is the step at which the run had started its first other process: the
    first one behind the system call (``rows`` at most); None where that is not known or did not happen.
    What comes of the first thread before it is ``path[: min(spawn, first_stream)]``.
    """

    file: FilePath
    rows: int
    first_stream: int
    spawn: int | None
    header: dict[str, Any]
    blocks: Blocks
    gaps: GapDetails

    def chunks(self, rows: int = ...) -> Iterator[Chunk]:
        """The path in stretches of at most ``rows`` steps, in order; may raise ParsedTraceError."""
        ...

    def read(self) -> Path:
        """The whole path in memory; may raise ParsedTraceError."""
        ...


# opens a sample's path; what was made for that is gone when the context ends
OpenPath = Callable[[], AbstractContextManager[PathReader]]


def open_path(file: FilePath, modules: Mapping[int, str] | None = None) -> PathReader:
    """Open ``trace_parsed.parquet`` or ``trace_parsed.gz``, told apart by content.

    ``modules`` gives names of modules by hash (the upper half of a BBID) for rows, which hold none; where it
    is left out, the memory map beside the file is asked. Raises ParsedTraceError.
    """
    try:
        with file.open("rb") as raw:
            magic = raw.read(4)
    except OSError as error:
        raise ParsedTraceError(f"{file}: {error.strerror or error}") from None
    if magic[:2] == b"\x1f\x8b":
        from barnum.paths.rows import RowsReader

        return RowsReader(file, _modules_beside(file) if modules is None else modules)
    if magic == b"PAR1":
        from barnum.paths.parquet import ParquetReader

        return ParquetReader(file)
    if not magic:
        raise ParsedTraceError(f"{file}: empty")
    raise ParsedTraceError(f"{file}: neither Parquet nor gzip: no parsed trace")


def _modules_beside(file: FilePath) -> dict[int, str]:
    """Names of modules by hash, from the map of the sample that the file lies in, where it has one."""
    from barnum.samples import MemoryMap

    for name in ("mapping.txt.gz", "mapping.txt"):
        if (file.parent / name).is_file():
            try:
                modules = MemoryMap.read(file.parent / name).modules
                # Adler-32 was a signed number in Python 2; the original's published rows carry its absolute
                # value
                signed = {(1 << 32) - module.hash: module.path for module in modules if module.hash >> 31}
                return signed | {module.hash: module.path for module in modules}
            except InputError as error:
                _log.warning("modules stay without names: %s", error)
    return {}
