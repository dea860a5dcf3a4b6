"""Evaluation files: one a sample, a row a prediction, in the order of the trace.

There are two formats. Parquet holds all that is known of a prediction and names the model in a header. The
original's, gzip text of four columns (``gz.py``), holds the predictions alone.
"""

from __future__ import annotations

import os
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any, Protocol

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from barnum.errors import EvaluationError
from barnum.files import open_regular

SCHEMA = 1
LABELS = ("benign", "malicious")
# also the suffixes of the files
FORMATS = ("parquet", "gz")

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
# what only a model knows that remembers its training: both are there, or neither is, nor a calibration
_LONGEST_CALL = 200
_REMEMBERED = ("seen", "novelty")
_FORGETFUL = pa.schema([field for field in _COLUMNS if field.name not in _REMEMBERED])
_REPEATING = ("predicted", "actual", "confidence", "surprisal", "novelty", "seen")
_NAME = re.compile(r"(benign|malicious)-(.+)\.(?:parquet|gz)", re.DOTALL)


class LeftOut(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A training run, judged by a model that was learnt without it: mean nats a transfer, transfers, and
    distinct targets."""

    surprisal: Annotated[float, msgspec.Meta(ge=0, le=1e6)]
    transfers: Annotated[int, msgspec.Meta(ge=1, le=1 << 53)]
    distinct: Annotated[int, msgspec.Meta(ge=1, le=1 << 53)]


class Calibration(msgspec.Struct, frozen=True, omit_defaults=True):
    """Nominal runs that were left out when they were judged: ``scores``, the largest sum of ``score`` in a
    window, of each; and ``runs``, where the model was learnt in folds, too."""

    score: str
    window: Annotated[int, msgspec.Meta(ge=1, le=1 << 32)]
    scores: tuple[float, ...]
    runs: Annotated[tuple[LeftOut, ...], msgspec.Meta(max_length=1 << 20)] = ()


class Source(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What became of the run, and how much of it could be read.

    ``steps`` of the path; ``cut`` is how many of them the first thread took before the first other process
    was started (None: none was, or it is not known). ``lost`` is the share that recording or decoding lost,
    ``truncated`` says that a time limit ended decoding, ``unmapped`` how often code had no image. ``status``,
    ``signal`` and ``timeout`` tell how the program ended and ``children`` how many other processes it
    started; None where the sample does not say.
    """

    steps: int
    cut: int | None = None
    lost: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    truncated: bool = False
    unmapped: int | None = None
    status: int | None = None
    signal: int | None = None
    timeout: bool | None = None
    children: int | None = None


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """What a file says of its sample. ``transfers`` rows; ``model`` is the identity of the model that scored
    it; ``calibration`` is None where the model does not know what its training saw, and then the file has
    no ``seen`` and no ``novelty``; ``source`` is None in files of earlier versions. ``calls``, where targets
    are calls, are their names, by token in hex."""

    schema: int
    version: str
    name: str
    label: str
    sample: str
    model: str
    options: dict[str, Any]
    calibration: Calibration | None
    transfers: int
    source: Source | None = None
    calls: dict[str, str] | None = None


class Writer(ABC):
    """Writes the file of one sample beside its name and renames it when it is complete."""

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
        """Append m rows: an array of length m for each column. Columns that the file has no place for are
        left out."""

    @abstractmethod
    def _close(self, complete: bool) -> None: ...


class EvaluationWriter(Writer):
    """Writes Parquet: all columns, or those that do without memory where the header has no calibration.
    ``calls`` are names of targets, of which those are kept that occur."""

    def __init__(self, file: Path, header: Header, calls: Mapping[int, str] | None = None) -> None:
        super().__init__(file)
        names = {name: _text(getattr(header, name)) for name in ("name", "sample")}
        self._header = header = msgspec.structs.replace(header, **names)
        self._calls = calls
        self._met: set[int] = set()
        self._schema = _schema_of(header)
        self._rows = 0
        # pyarrow takes a name with a colon for a URI, and none that is no UTF-8
        self._sink = pa.OSFile(os.fsencode(self._beside), "wb")
        self._writer = pq.ParquetWriter(
            self._sink,
            self._schema,
            compression="zstd",
            compression_level=1,
            use_dictionary=[name for name in _REPEATING if name in self._schema.names],
            column_encoding={"position": "DELTA_BINARY_PACKED"},
            write_statistics=False,
        )

    def write(self, columns: dict[str, NDArray[Any]]) -> None:
        table = pa.table([columns[name] for name in self._schema.names], schema=self._schema)
        self._writer.write_table(table, row_group_size=_ROWS)
        self._rows += len(table)
        if self._calls is not None:
            for name in ("predicted", "actual"):
                self._met.update(np.unique(columns[name]).tolist())

    def _close(self, complete: bool) -> None:
        if complete:
            done = msgspec.structs.replace(self._header, transfers=self._rows, calls=self._named())
            self._writer.add_key_value_metadata({_KEY.decode(): msgspec.json.encode(done).decode()})
        try:
            self._writer.close()
        finally:
            self._sink.close()

    def _named(self) -> dict[str, str] | None:
        if self._calls is None:
            return None
        names = {token: self._calls[token] for token in sorted(self._met) if token in self._calls}
        return {f"{token:016x}": _text(name)[:_LONGEST_CALL] for token, name in names.items()}


class Evaluation(Protocol):
    """One evaluation file of either format, open for reading.

    ``header`` is None where the format has none; ``columns`` names what the file has, and it always has
    ``correct``, ``predicted``, ``confidence`` and ``actual``.
    """

    file: Path
    label: str
    sample: str
    header: Header | None
    columns: tuple[str, ...]

    def parts(self, *columns: str) -> Iterator[dict[str, NDArray[Any]]]:
        """The named columns part by part, in order.

        Raises:
            EvaluationError: the file is broken.
        """
        ...

    def close(self) -> None:
        """Let the file go."""
        ...


class ParquetEvaluation:
    """An evaluation in Parquet."""

    def __init__(self, file: Path) -> None:
        """Read the header.

        Raises:
            EvaluationError: the file is broken or none of ours.
        """
        self.file = file
        self.label, self.sample = split_name(file)
        self.header: Header | None
        try:
            self._parquet = pq.ParquetFile(pa.OSFile(os.fsencode(file)))
            metadata = self._parquet.metadata.metadata or {}
            schema = self._parquet.schema_arrow
            if not schema.equals(_COLUMNS) and not schema.equals(_FORGETFUL):
                raise EvaluationError(f"{file}: has other columns than an evaluation: evaluate anew")
            header = self.header = msgspec.json.decode(metadata.get(_KEY, b"{}"), type=Header)
        except (pa.ArrowException, OSError, UnicodeError) as error:
            raise EvaluationError(f"{file}: cannot be read as Parquet ({_first_line(error)})") from None
        except msgspec.MsgspecError as error:
            raise EvaluationError(f"{file}: has no header of an evaluation ({error})") from None
        if header.schema != SCHEMA:
            raise EvaluationError(
                f"{file}: has schema {header.schema}, this version reads {SCHEMA}: evaluate anew"
            )
        if header.label != self.label:
            raise EvaluationError(
                f"{file}: is labelled {header.label!r} inside, {self.label!r} by its name: rename it"
            )
        if not schema.equals(_schema_of(header)):
            raise EvaluationError(
                f"{file}: has either a calibration or novelty, which go together: evaluate anew"
            )
        self.columns = tuple(schema.names)

    def __len__(self) -> int:
        return int(self._parquet.metadata.num_rows)

    def parts(self, *columns: str) -> Iterator[dict[str, NDArray[Any]]]:
        """See Evaluation."""
        try:
            for batch in self._parquet.iter_batches(_ROWS, columns=list(columns)):
                if any(column.null_count for column in batch.columns):
                    raise EvaluationError(f"{self.file}: has rows with empty columns: evaluate anew")
                yield {
                    name: np.asarray(batch.column(name).to_numpy(zero_copy_only=False)) for name in columns
                }
        except (pa.ArrowException, OSError) as error:
            raise EvaluationError(f"{self.file}: is broken ({_first_line(error)})") from None

    def close(self) -> None:
        """Let the file go."""
        self._parquet.close()


def open_evaluation(file: Path) -> Evaluation:
    """Open an evaluation file of either format, told apart by content.

    Raises:
        EvaluationError: it is missing, broken, or of neither format.
    """
    try:
        with open_regular(file, follow=True) as descriptor:
            magic = os.read(descriptor, 4)
    except OSError as error:
        raise EvaluationError(f"{file}: cannot be read ({error.strerror or error})") from None
    if magic == b"PAR1":
        return ParquetEvaluation(file)
    if magic[:2] == b"\x1f\x8b":
        from barnum.verdicts.gz import GzEvaluation

        return GzEvaluation(file)
    if not magic:
        raise EvaluationError(f"{file}: is empty: evaluate anew, or remove it")
    raise EvaluationError(f"{file}: is neither Parquet nor gzip, so no evaluation: remove it")


def writer_for(format: str, file: Path, header: Header, calls: Mapping[int, str] | None = None) -> Writer:
    """A writer of one of FORMATS. Of the header and of names of ``calls``, gz keeps nothing."""
    if format == "gz":
        from barnum.verdicts.gz import GzEvaluationWriter

        return GzEvaluationWriter(file)
    return EvaluationWriter(file, header, calls)


def _text(name: str) -> str:
    """Names come from outside, of files as well: JSON takes no lone surrogates."""
    return name.encode("utf-8", errors="replace").decode()


def file_name(label: str, sample: str, format: str = "parquet") -> str:
    """Name of a sample's evaluation file."""
    return f"{label}-{sample}.{format}"


def split_name(file: Path) -> tuple[str, str]:
    """Label and sample of an evaluation file's name.

    Raises:
        EvaluationError: it is no such name.
    """
    match = _NAME.fullmatch(file.name)
    if match is None:
        names = " or ".join(f"LABEL-SAMPLE.{format}" for format in FORMATS)
        raise EvaluationError(f"{file}: is not named {names}, with LABEL one of {', '.join(LABELS)}")
    return match[1], match[2]


def find_evaluations(folder: Path) -> list[Path]:
    """Evaluation files of a folder, by name.

    Raises:
        EvaluationError: it is no folder, holds none, holds other files too, or a sample in both formats.
    """
    if not folder.is_dir():
        raise EvaluationError(f"{folder}: no such folder")
    files = [file for file in sorted(folder.iterdir()) if not file.name.startswith(".")]
    found: dict[tuple[str, str], Path] = {}
    for file in files:
        other = found.setdefault(split_name(file), file)
        if other != file:
            raise EvaluationError(
                f"{folder}: holds both {other.name} and {file.name}, which are one sample: remove one of them"
            )
    if not files:
        raise EvaluationError(f"{folder}: holds no evaluation: run `barnum lstm --eval-dir {folder} …` first")
    return files


def _schema_of(header: Header) -> pa.Schema:
    return _COLUMNS if header.calibration else _FORGETFUL


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
