"""Evaluations as Arrow tables, which pandas, polars, duckdb and pyarrow read by the PyCapsule interface."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pyarrow as pa

if TYPE_CHECKING:
    from barnum.evaluations.files import Evaluation

_TYPES = {
    "correct": pa.bool_(),
    "predicted": pa.uint64(),
    "confidence": pa.float32(),
    "actual": pa.uint64(),
    "surprisal": pa.float32(),
    "seen": pa.uint8(),
    "novelty": pa.float32(),
    "position": pa.uint64(),
}


def stream_of(evaluation: Evaluation, requested_schema: Any = None) -> Any:
    """A capsule with the rows of an evaluation, read part by part as they are asked for."""
    schema = pa.schema([(name, _TYPES[name]) for name in evaluation.columns])

    def batches() -> Iterator[pa.RecordBatch]:
        for part in evaluation.parts(*evaluation.columns):
            yield pa.record_batch([pa.array(part[name]) for name in schema.names], schema=schema)

    return pa.RecordBatchReader.from_batches(schema, batches()).__arrow_c_stream__(requested_schema)
