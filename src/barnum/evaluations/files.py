"""What writers and readers of evaluations of any format have in common."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from barnum.evaluations.header import Header

# rows of a file that are read at a time
ROWS = 1 << 20


def rows_before(position: NDArray[np.uint64], step: int) -> int:
    """Number of rows before a step of the trace; ``position`` u64[m] are their steps, ascending."""
    return int(np.searchsorted(position, np.uint64(min(max(0, step), (1 << 64) - 1))))


class Writer(ABC):
    """Writes the file of one sample: beside its name, and renamed when it is complete."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._beside = file.with_name(f".{file.name}.{os.getpid()}")

    def __enter__(self) -> Writer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._close(complete=kind is None)
            if kind is None:
                self._beside.replace(self._file)
        finally:
            self._beside.unlink(missing_ok=True)

    @abstractmethod
    def write(self, columns: dict[str, NDArray[Any]]) -> None:
        """Append m rows: an array [m] for each column (see Evaluator.columns() of models). Columns that the
        format does not hold are left out."""

    @abstractmethod
    def _close(self, complete: bool) -> None: ...


class Evaluation(Protocol):
    """One evaluation file of either format, open for reading.

    ``header`` is None where the format has none. ``columns`` are the names of those that the file holds, of
    which ``correct``, ``predicted``, ``confidence`` and ``actual`` are always there.
    """

    file: Path
    label: str
    sample: str
    header: Header | None
    columns: tuple[str, ...]

    def parts(self, *columns: str) -> Iterator[dict[str, NDArray[Any]]]:
        """The named columns part by part, in the order of the trace: an array [m] each, m rows a part.

        Raises:
            EvaluationError: the file is broken.
        """
        ...

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """A table of the predictions, which pandas, polars, duckdb and pyarrow read."""
        ...

    def close(self) -> None:
        """Close the file."""
        ...
