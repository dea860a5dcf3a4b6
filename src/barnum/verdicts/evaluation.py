"""Evaluation files: one a sample, a row a prediction, in the order of the trace. Parquet."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from barnum.errors import EvaluationError

SCHEMA = 1
LABELS = ("benign", "malicious")
SUFFIX = ".parquet"

_KEY = b"barnum"
_ROWS = 1 << 20
_COLUMNS = pa.schema(
    [
        ("correct", pa.bool_()),
        ("predicted", pa.uint64()),
        ("confidence", pa.float32()),
        ("actual", pa.uint64()),
        ("surprisal", pa.float32()),
        ("seen", pa.uint8()),
        ("novelty", pa.float32()),
        ("position", pa.uint64()),
    ]
)
_NAME = re.compile(r"(benign|malicious)-(.+)\.parquet", re.DOTALL)


class Calibration(msgspec.Struct, frozen=True):
    """Scores of nominal runs that were left out when they were judged: largest ``score`` sum in a window."""

    score: str
    window: int
    scores: tuple[float, ...]


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """What a file says of its sample. ``transfers`` rows; ``model`` is the identity of the model that scored
    it."""

    schema: int
    version: str
    name: str
    label: str
    sample: str
    model: str
    options: dict[str, Any]
    calibration: Calibration
    transfers: int


class EvaluationWriter:
    """Writes the file of one sample beside its name and renames it when it is complete."""

    def __init__(self, file: Path, header: Header) -> None:
        self._file = file
        self._beside = file.with_name(f".{file.name}.{os.getpid()}")
        self._header = header
        self._rows = 0
        self._writer = pq.ParquetWriter(
            self._beside,
            _COLUMNS,
            compression="zstd",
            compression_level=1,
            use_dictionary=["predicted", "actual", "confidence", "surprisal", "novelty", "seen"],
            column_encoding={"position": "DELTA_BINARY_PACKED"},
            write_statistics=False,
        )

    def __enter__(self) -> EvaluationWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                done = msgspec.structs.replace(self._header, transfers=self._rows)
                self._writer.add_key_value_metadata({_KEY.decode(): msgspec.json.encode(done).decode()})
            self._writer.close()
            if kind is None:
                self._beside.replace(self._file)
        finally:
            self._beside.unlink(missing_ok=True)

    def write(self, columns: dict[str, NDArray[Any]]) -> None:
        """Append m rows: an array of length m for each column."""
        table = pa.table([columns[name] for name in _COLUMNS.names], schema=_COLUMNS)
        self._writer.write_table(table, row_group_size=_ROWS)
        self._rows += len(table)


class Evaluation:
    """One evaluation file, open for reading."""

    def __init__(self, file: Path) -> None:
        """Read the header.

        Raises:
            EvaluationError: the file is broken or none of ours.
        """
        self.file = file
        self.label, self.sample = split_name(file)
        try:
            self._parquet = pq.ParquetFile(file)
            metadata = self._parquet.metadata.metadata or {}
            if not self._parquet.schema_arrow.equals(_COLUMNS):
                raise EvaluationError(f"{file}: has other columns than an evaluation: evaluate anew")
            self.header = msgspec.json.decode(metadata.get(_KEY, b"{}"), type=Header)
        except (pa.ArrowException, OSError) as error:
            raise EvaluationError(f"{file}: cannot be read as Parquet ({_first_line(error)})") from None
        except msgspec.MsgspecError as error:
            raise EvaluationError(f"{file}: has no header of an evaluation ({error})") from None
        if self.header.schema != SCHEMA:
            raise EvaluationError(
                f"{file}: has schema {self.header.schema}, this version reads {SCHEMA}: evaluate anew"
            )
        if self.header.label != self.label:
            raise EvaluationError(
                f"{file}: is labelled {self.header.label!r} inside, {self.label!r} by its name: rename it"
            )

    def __len__(self) -> int:
        return int(self._parquet.metadata.num_rows)

    def parts(self, *columns: str) -> Iterator[dict[str, NDArray[Any]]]:
        """The named columns part by part, in order.

        Raises:
            EvaluationError: the file is broken.
        """
        try:
            for batch in self._parquet.iter_batches(_ROWS, columns=list(columns)):
                yield {
                    name: np.asarray(batch.column(name).to_numpy(zero_copy_only=False)) for name in columns
                }
        except (pa.ArrowException, OSError) as error:
            raise EvaluationError(f"{self.file}: is broken ({_first_line(error)})") from None

    def close(self) -> None:
        """Let the file go."""
        self._parquet.close()


def file_name(label: str, sample: str) -> str:
    """Name of a sample's evaluation file."""
    return f"{label}-{sample}{SUFFIX}"


def split_name(file: Path) -> tuple[str, str]:
    """Label and sample of an evaluation file's name.

    Raises:
        EvaluationError: it is no such name.
    """
    match = _NAME.fullmatch(file.name)
    if match is None:
        raise EvaluationError(
            f"{file}: is not named LABEL-SAMPLE{SUFFIX}, with LABEL one of {', '.join(LABELS)}"
        )
    return match[1], match[2]


def find_evaluations(folder: Path) -> list[Path]:
    """Evaluation files of a folder, by name.

    Raises:
        EvaluationError: it is no folder, holds none, or holds other files too.
    """
    if not folder.is_dir():
        raise EvaluationError(f"{folder}: no such folder")
    files = [file for file in sorted(folder.iterdir()) if not file.name.startswith(".")]
    for file in files:
        split_name(file)
    if not files:
        raise EvaluationError(f"{folder}: holds no evaluation: run `barnum lstm --eval-dir {folder} …` first")
    return files


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
