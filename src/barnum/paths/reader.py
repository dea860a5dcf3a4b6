"""Opens a parsed trace, in either of its two formats."""

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
    """A path in a file.

    Attributes:
        file: the parsed trace.
        rows: number of steps.
        first_stream: number of steps of the first stream, with which the path begins: the first thread that
            was recorded.
        spawn: the first step after the system call by which the run started its first other process, at most
            ``rows``; None if that is unknown or did not happen. Before it, the first thread went the steps
            ``path[: min(spawn, first_stream)]``.
        header: the JSON document of the file, which says how it was made.
        blocks: the distinct blocks.
        gaps: overflows, losses and missing code, one by one.
    """

    file: FilePath
    rows: int
    first_stream: int
    spawn: int | None
    header: dict[str, Any]
    blocks: Blocks
    gaps: GapDetails

    def chunks(self, rows: int = ...) -> Iterator[Chunk]:
        """The path in stretches of at most ``rows`` steps, in order.

        Raises:
            ParsedTraceError: the file is broken.
        """
        ...

    def read(self) -> Path:
        """The whole path in memory.

        Raises:
            ParsedTraceError: the file is broken.
        """
        ...


# opens a sample's path, which may be read until the context ends
OpenPath = Callable[[], AbstractContextManager[PathReader]]


def open_path(file: FilePath, modules: Mapping[int, str] | None = None) -> PathReader:
    """Open a parsed trace, in Parquet or in the original's rows; its content shows which.

    Args:
        file: ``trace_parsed.parquet`` or ``trace_parsed.gz``.
        modules: names of modules by hash (the upper half of a BBID), for rows, which hold no names. None
            takes them from the memory map beside the file.

    Raises:
        ParsedTraceError: the file cannot be read, or is no parsed trace.
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
    """Names of modules by hash, from the memory map in the file's folder; empty where there is none."""
    from barnum.samples import MemoryMap

    for name in ("mapping.txt.gz", "mapping.txt"):
        if (file.parent / name).is_file():
            try:
                modules = MemoryMap.read(file.parent / name).modules
                # Adler-32 is signed in Python 2, and the original's published rows hold its absolute value
                signed = {(1 << 32) - module.hash: module.path for module in modules if module.hash >> 31}
                return signed | {module.hash: module.path for module in modules}
            except InputError as error:
                _log.warning("modules stay without names: %s", error)
    return {}
