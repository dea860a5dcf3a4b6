"""Columns of numbers that grow: in memory while they are small, then in temporary files without a name."""

from __future__ import annotations

import contextlib
import mmap
import os
import tempfile
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from barnum.errors import OutputError

# bytes of all columns together that are held in memory
IN_MEMORY = 2 << 30


class Spool:
    """Rows of several columns: append them, then read them as arrays. Files vanish when nothing uses them."""

    def __init__(
        self, columns: dict[str, tuple[type[np.generic], tuple[int, ...]]], in_memory: int = IN_MEMORY
    ) -> None:
        """Prepare empty columns.

        Args:
            columns: dtype and shape of a row, by name of the column.
            in_memory: bytes of all columns together that are held in memory.
        """
        self._columns = columns
        self._limit = in_memory
        self._held: dict[str, list[NDArray[Any]]] = {name: [] for name in columns}
        self._files: dict[str, int] = {}
        self._bytes = 0
        self._rows = 0

    def __len__(self) -> int:
        return self._rows

    @property
    def on_disk(self) -> bool:
        """Whether the rows lie in files."""
        return bool(self._files)

    def append(self, **rows: NDArray[Any]) -> None:
        """Add the same number of rows to each column.

        Raises:
            OutputError: the temporary files cannot be written.
            ValueError: rows have another shape than that of the column.
        """
        self._rows += len(next(iter(rows.values())))
        for name, (dtype, shape) in self._columns.items():
            array = np.ascontiguousarray(rows[name], dtype)
            if array.shape[1:] != shape:
                raise ValueError(f"{name} has rows of shape {array.shape[1:]}, not {shape}")
            self._bytes += array.nbytes
            if self._files:
                self._write(name, array)
            else:
                self._held[name].append(array)
        if not self._files and self._bytes > self._limit:
            self._files = {name: self._file() for name in self._columns}
            for name, arrays in self._held.items():
                for array in arrays:
                    self._write(name, array)
                arrays.clear()

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All rows of each column, by name; nothing may be appended after this."""
        arrays: dict[str, NDArray[Any]] = {}
        for name, (dtype, shape) in self._columns.items():
            if self._files and self._rows:
                mapped = mmap.mmap(self._files[name], 0, access=mmap.ACCESS_READ)
                arrays[name] = np.frombuffer(mapped, dtype).reshape(self._rows, *shape)
            elif self._held[name]:
                arrays[name] = np.concatenate(self._held[name])
                self._held[name] = [arrays[name]]
            else:
                arrays[name] = np.zeros((0, *shape), dtype)
        return arrays

    def _file(self) -> int:
        """A new file without a name, which is closed when this object is deleted."""
        with _no_room():
            descriptor, name = tempfile.mkstemp(prefix="barnum-")
            weakref.finalize(self, os.close, descriptor)
            os.unlink(name)  # noqa: PTH108
        return descriptor

    def _write(self, name: str, array: NDArray[Any]) -> None:
        left = array.data.cast("B") if array.size else memoryview(b"")
        with _no_room():
            while left:
                left = left[os.write(self._files[name], left) :]


@contextlib.contextmanager
def _no_room() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"{tempfile.gettempdir()}: no room for the training data ({error.strerror}): "
            "set TMPDIR to a larger disk, or lower --max-transfers"
        ) from None
