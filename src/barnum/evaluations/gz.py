"""The original's evaluation files: gzip text, one line ``correct,predicted,confidence,actual`` a prediction.

They name neither the model nor what its training saw.
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from isal import igzip, igzip_lib
from numpy.typing import NDArray
from pyarrow import csv

from barnum.errors import EvaluationError
from barnum.evaluations.files import Writer
from barnum.evaluations.header import Header, split_name
from barnum.files import open_regular

_COLUMNS = pa.schema(
    [
        ("correct", pa.bool_()),
        ("predicted", pa.uint64()),
        ("confidence", pa.float32()),
        ("actual", pa.uint64()),
    ]
)
# Arrow writes a bool in words
_WRITTEN = _COLUMNS.set(0, pa.field("correct", pa.uint8()))
_ROWS = 1 << 16

# what is unpacked at once, and more than any line of four numbers needs
_PIECE = 4 << 20
_LINE = 1 << 10
_PARSE = csv.ParseOptions(quote_char=False, escape_char=False, ignore_empty_lines=False)
_CONVERT = csv.ConvertOptions(
    column_types=_COLUMNS, null_values=[], true_values=["1", "True"], false_values=["0", "False"]
)
# a piece and what was left of the one before are one block, so that no line is cut
_READ = csv.ReadOptions(column_names=_COLUMNS.names, block_size=_PIECE + _LINE + 1, use_threads=False)
# a softmax in float32 may go this much beyond 1
_ROUNDING = 1e-6
# isal comes without types
_GZIP: Any = igzip.GzipFile
_ISAL_ERROR: Any = igzip_lib.IsalError
_ROW = re.compile(r"Row #(\d+)")


class GzEvaluationWriter(Writer):
    """Writes the original's format: the same bytes for the same rows."""

    def __init__(self, file: Path) -> None:
        super().__init__(file)
        self._raw = self._beside.open("wb")
        # no name and no time in the header
        self._packed = _GZIP("", "wb", compresslevel=2, fileobj=self._raw, mtime=0)

    def write(self, columns: dict[str, NDArray[Any]]) -> None:
        # Arrow writes the shortest digits that read back as the same float32
        arrays = [np.asarray(columns[name]) for name in _COLUMNS.names]
        table = pa.table([arrays[0].astype(np.uint8), *arrays[1:]], schema=_WRITTEN)
        for batch in table.to_batches(_ROWS):
            text = pa.BufferOutputStream()
            csv.write_csv(batch, text, csv.WriteOptions(include_header=False, batch_size=_ROWS))
            self._packed.write(text.getvalue())

    def _close(self, complete: bool) -> None:
        try:
            self._packed.close()
        finally:
            self._raw.close()


class GzEvaluation:
    """An evaluation in the original's format. Every line is checked, whichever columns are asked for."""

    def __init__(self, file: Path) -> None:
        """Nothing is read yet.

        Raises:
            EvaluationError: the file is not named as evaluations are.
        """
        self.file = file
        self.label, self.sample = split_name(file)
        self.header: Header | None = None
        self.columns = tuple(_COLUMNS.names)

    def __repr__(self) -> str:
        return f"<Evaluation {self.file.name}: {self.label}>"

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """A table of the predictions; see evaluations.arrow."""
        from barnum.evaluations.arrow import stream_of

        return stream_of(self, requested_schema)

    def parts(self, *columns: str) -> Iterator[dict[str, NDArray[Any]]]:
        """See Evaluation."""
        lines = 0
        for text in self._pieces():
            table = self._parse(text, lines)
            lines += len(table)
            yield {name: table.column(name).to_numpy() for name in columns}

    def close(self) -> None:
        """Nothing is held open between parts."""

    def _parse(self, text: bytes, before: int) -> pa.Table:
        """The rows of whole lines; ``before`` is the number of lines ahead of them."""
        try:
            table = csv.read_csv(pa.BufferReader(text), _READ, _PARSE, _CONVERT)
        except pa.ArrowException as error:
            row = _ROW.search(str(error))
            raise self._wrong(before + int(row[1]) if row else None) from None
        confidence = table.column("confidence").to_numpy()
        # written so that NaN fails too
        fails = np.flatnonzero(~((confidence >= 0) & (confidence <= 1 + _ROUNDING)))
        if len(fails):
            raise self._wrong(before + int(fails[0]) + 1)
        return table

    def _wrong(self, line: int | None) -> EvaluationError:
        where = "a line" if line is None else f"line {line:,}"
        return EvaluationError(
            f"{self.file}: {where} is no prediction, which looks like 1,4660,0.98,4660 (correct, predicted, "
            "confidence, actual): evaluate anew"
        )

    def _pieces(self) -> Iterator[bytes]:
        """Whole lines, in pieces of bounded size."""
        rest = b""
        for piece in self._unpacked():
            piece = rest + piece
            ends = np.flatnonzero(np.frombuffer(piece, np.uint8) == ord("\n")) + 1
            if np.diff(ends, prepend=0, append=len(piece)).max() > _LINE:
                raise EvaluationError(
                    f"{self.file}: has a line of more than {_LINE:,} bytes, which no prediction needs: "
                    "evaluate anew"
                )
            end = int(ends[-1]) if len(ends) else 0
            rest = piece[end:]
            if end:
                yield piece[:end]
        if rest:
            yield rest

    def _unpacked(self) -> Iterator[bytes]:
        try:
            with (
                open_regular(self.file, follow=True) as descriptor,
                open(descriptor, "rb", closefd=False) as raw,
                _GZIP(fileobj=raw) as packed,
            ):
                while piece := packed.read(_PIECE):
                    yield piece
        except EOFError:
            raise EvaluationError(f"{self.file}: is cut short: evaluate anew") from None
        except (zlib.error, _ISAL_ERROR, gzip.BadGzipFile) as error:
            raise EvaluationError(f"{self.file}: is broken gzip data ({error}): evaluate anew") from None
        except OSError as error:
            raise EvaluationError(f"{self.file}: cannot be read ({error.strerror or error})") from None
