"""Evaluations in Parquet: all that is known of each prediction, and a header that names the model."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from barnum.errors import EvaluationError
from barnum.evaluations.files import ROWS, Writer
from barnum.evaluations.header import SCHEMA, Header, split_name
from barnum.texts import reason, storable

_KEY = b"barnum"
# made once: files are opened by several threads, and msgspec crashes where two of them make it at a time
_DECODER = msgspec.json.Decoder(Header)
_ROWS = ROWS
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
# characters of a call's name that are kept
_LONGEST_CALL = 200
# columns that take a model which remembers its training: a file has both and a calibration, or none of these
_REMEMBERED = ("seen", "novelty")
_FORGETFUL = pa.schema([field for field in _COLUMNS if field.name not in _REMEMBERED])
_REPEATING = ("predicted", "actual", "confidence", "surprisal", "novelty", "seen")


class EvaluationWriter(Writer):
    """Writes Parquet: all columns or, where the header has no calibration, all but ``seen`` and ``novelty``.
    Of ``calls``, names of targets by token, those that occur are kept."""

    def __init__(self, file: Path, header: Header, calls: Mapping[int, str] | None = None) -> None:
        super().__init__(file)
        names = {name: storable(getattr(header, name)) for name in ("name", "sample")}
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
        return {f"{token:016x}": storable(name)[:_LONGEST_CALL] for token, name in names.items()}


class ParquetEvaluation:
    """An evaluation in Parquet."""

    def __init__(self, file: Path) -> None:
        """Read the header.

        Raises:
            EvaluationError: the file is broken, or no evaluation.
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
            header = self.header = _DECODER.decode(metadata.get(_KEY, b"{}"))
        except (pa.ArrowException, OSError, UnicodeError) as error:
            raise EvaluationError(f"{file}: cannot be read as Parquet ({reason(error)})") from None
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

    def __repr__(self) -> str:
        return f"<Evaluation {self.file.name}: {len(self):,} predictions, {self.label}>"

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """A table of the predictions; see evaluations.arrow."""
        from barnum.evaluations.arrow import stream_of

        return stream_of(self, requested_schema)

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
            raise EvaluationError(f"{self.file}: is broken ({reason(error)})") from None

    def close(self) -> None:
        """Close the file."""
        self._parquet.close()


def _schema_of(header: Header) -> pa.Schema:
    return _COLUMNS if header.calibration else _FORGETFUL
