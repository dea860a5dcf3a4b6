"""Paths as Arrow tables, which pandas, polars, duckdb and pyarrow read by the PyCapsule interface."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from barnum.paths.blocks import Blocks, Chunk
from barnum.paths.kinds import GAPS, KINDS
from barnum.texts import storable

_NAMES = pa.dictionary(pa.int32(), pa.string())
_SCHEMA = pa.schema(
    [
        pa.field("step", pa.uint64(), nullable=False),
        pa.field("bbid", pa.uint64(), nullable=False),
        pa.field("module", _NAMES),
        pa.field("offset", pa.uint64(), nullable=False),
        pa.field("kind", pa.dictionary(pa.uint8(), pa.string()), nullable=False),
        pa.field("gap", pa.dictionary(pa.uint8(), pa.string()), nullable=False),
        pa.field("stream", pa.uint16(), nullable=False),
    ]
)


def stream_of(blocks: Blocks, chunks: Iterable[Chunk], requested_schema: Any = None) -> Any:
    """An Arrow stream as a PyCapsule, with one row for each step.

    Columns: ``step`` u64, ``bbid`` u64, ``module`` (null where the block lies in none), ``offset`` u64 in the
    module, ``kind`` of the transfer that ends the block, ``gap`` before the block, ``stream`` u16. Steps are
    read when they are asked for.
    """
    # file names need not be UTF-8
    modules = pa.array([storable(name) for name in blocks.modules], pa.string())
    kinds, gaps = pa.array(list(KINDS), pa.string()), pa.array(list(GAPS), pa.string())

    def batches() -> Iterator[pa.RecordBatch]:
        step = 0
        for chunk in chunks:
            size = len(chunk.block)
            module = blocks.module[chunk.block]
            columns = [
                pa.array(np.arange(step, step + size, dtype=np.uint64)),
                pa.array(blocks.bbid[chunk.block]),
                pa.DictionaryArray.from_arrays(pa.array(module, mask=module < 0), modules),
                pa.array(blocks.offset[chunk.block]),
                pa.DictionaryArray.from_arrays(pa.array(blocks.kind[chunk.block]), kinds),
                pa.DictionaryArray.from_arrays(pa.array(chunk.gap), gaps),
                pa.array(chunk.stream),
            ]
            yield pa.record_batch(columns, schema=_SCHEMA)
            step += size

    return pa.RecordBatchReader.from_batches(_SCHEMA, batches()).__arrow_c_stream__(requested_schema)
