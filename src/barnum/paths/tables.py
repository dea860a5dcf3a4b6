"""The small tables inside a parsed trace: blocks and gaps, as Arrow IPC streams in base64.

What is read comes from outside: the sizes that a stream declares are added up before any of it is inflated.
"""

from __future__ import annotations

import base64
import binascii
import struct
from typing import Any

import numpy as np
import pyarrow as pa

from barnum.errors import ParsedTraceError
from barnum.paths.blocks import Blocks, GapDetails
from barnum.paths.kinds import KINDS
from barnum.texts import reason

MAX_TABLE = 1 << 30  # bytes of a table once inflated

_NUMBERS = {
    "bbid": pa.uint64(),
    "kind": pa.uint8(),
    "offset": pa.uint64(),
    "start": pa.uint64(),
    "length": pa.uint32(),
    "count": pa.uint32(),
    "process": pa.uint16(),
}
_MODULE = ("module", pa.dictionary(pa.int32(), pa.string()))
_TEXTS = {"text": pa.string(), "mnemonic": pa.string(), "words": pa.uint8()}
_GAPS = {
    "step": pa.uint64(),
    "cause": pa.uint8(),
    "stream": pa.uint16(),
    "offset": pa.uint64(),
    "address": pa.uint64(),
    "bytes_lost": pa.uint64(),
}
DECODED = pa.schema([*_NUMBERS.items(), _MODULE])
IMPORTED = pa.schema([*_NUMBERS.items(), _MODULE, *_TEXTS.items()])
GAPS = pa.schema(list(_GAPS.items()))


def pack_blocks(blocks: Blocks) -> bytes:
    """The table of blocks as bytes for the metadata of a parsed trace."""
    index = pa.array(blocks.module, mask=blocks.module < 0)
    columns: list[Any] = [pa.array(getattr(blocks, name), kind) for name, kind in _NUMBERS.items()]
    columns.append(pa.DictionaryArray.from_arrays(index, pa.array(blocks.modules, pa.string())))
    if blocks.text is None:
        return _pack(pa.record_batch(columns, schema=DECODED))
    columns.extend(pa.array(getattr(blocks, name), kind) for name, kind in _TEXTS.items())
    return _pack(pa.record_batch(columns, schema=IMPORTED))


def unpack_blocks(packed: bytes) -> Blocks:
    """Blocks from a parsed trace's metadata. Raises ParsedTraceError."""
    table = _unpack(packed, (DECODED, IMPORTED))
    module = table.column("module")
    if len(module.dictionary) and module.dictionary.null_count:
        raise ParsedTraceError("a module without a name")
    names = tuple(module.dictionary.to_pylist())
    numbers = {name: _numbers(table, name) for name in _NUMBERS}
    if len(table) and numbers["kind"].max() >= len(KINDS):
        raise ParsedTraceError("a block of unknown kind")
    texts: dict[str, Any] = {}
    if table.schema.equals(IMPORTED):
        texts = {"text": _texts(table, "text"), "mnemonic": _texts(table, "mnemonic")}
        texts["words"] = _numbers(table, "words")
    # with numpy alone: pyarrow.compute takes longer to be imported than a short run to be judged
    index = module.indices.to_numpy(zero_copy_only=False)
    if module.indices.null_count:
        index = np.where(np.isnan(index), -1, index)  # nulls make it f64, which holds each i32
    index = index.astype(np.int32)
    return Blocks(module=index, modules=names, **numbers, **texts)


def pack_gaps(gaps: GapDetails) -> bytes:
    """The table of gaps as bytes for the metadata of a parsed trace."""
    return _pack(
        pa.record_batch([pa.array(getattr(gaps, name), kind) for name, kind in _GAPS.items()], schema=GAPS)
    )


def unpack_gaps(packed: bytes) -> GapDetails:
    """Gaps from a parsed trace's metadata. Raises ParsedTraceError."""
    table = _unpack(packed, (GAPS,))
    return GapDetails(**{name: _numbers(table, name) for name in _GAPS})


def _numbers(table: pa.RecordBatch, name: str) -> Any:
    column = table.column(name)
    if column.null_count:
        raise ParsedTraceError(f"column {name} of a table has empty fields")
    return column.to_numpy(zero_copy_only=True)


def _texts(table: pa.RecordBatch, name: str) -> list[str]:
    column = table.column(name)
    if column.null_count:
        raise ParsedTraceError(f"column {name} of a table has empty fields")
    texts: list[str] = column.to_pylist()
    if any(len(text) > 255 or (not text.isascii() and max(text) > "\xff") for text in texts):
        raise ParsedTraceError(f"column {name} of a table has a text that cannot stand in a row")
    return texts


def _pack(batch: pa.RecordBatch) -> bytes:
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression=pa.Codec("zstd", compression_level=9))
    with pa.ipc.new_stream(sink, batch.schema, options=options) as writer:
        writer.write_batch(batch)
    return base64.b64encode(sink.getvalue())


def _unpack(packed: bytes, schemas: tuple[pa.Schema, ...]) -> pa.RecordBatch:
    try:
        data = base64.b64decode(packed, validate=True)
        _check_sizes(data)
        with pa.ipc.open_stream(pa.py_buffer(data)) as reader:
            if not any(reader.schema.equals(schema) for schema in schemas):
                raise ParsedTraceError("a table of it has other columns than it should")
            batches = list(reader)
        if len(batches) != 1:
            raise ParsedTraceError(f"a table of it comes in {len(batches)} parts instead of one")
        batches[0].validate(full=True)
        for column in batches[0].columns:
            if isinstance(column, pa.DictionaryArray):
                column.dictionary.validate(full=True)
        return batches[0]
    except (pa.ArrowException, binascii.Error, struct.error, IndexError, ValueError, OSError) as error:
        raise ParsedTraceError(f"a table of it is broken: {reason(error)}") from None


# An encapsulated message is: 0xFFFFFFFF, int32 length of the metadata, metadata (flatbuffer), body.
_DICTIONARY_BATCH = 2
_RECORD_BATCH = 3


def _check_sizes(data: bytes) -> None:
    """Refuse a stream whose compressed buffers declare more than MAX_TABLE bytes in all."""
    at = 0
    total = 0
    while at + 8 <= len(data):
        mark, size = struct.unpack_from("<Ii", data, at)
        if mark != 0xFFFFFFFF:
            raise ParsedTraceError("a table of it is no Arrow stream")
        if size == 0:
            break
        if size < 0 or at + 8 + size > len(data):
            raise ParsedTraceError("a table of it is cut short")
        flat = _Flatbuffer(data[at + 8 : at + 8 + size])
        body = at + 8 + size
        message = flat.root()
        total += _declared(flat, message, data, body)
        if total > MAX_TABLE:
            raise ParsedTraceError(f"a table of it would take more than {MAX_TABLE:,} bytes")
        length = flat.number(message, 3, "<q")
        if not 0 <= length <= len(data) - body:
            raise ParsedTraceError("a table of it is cut short")
        at = body + length


def _declared(flat: _Flatbuffer, message: int, data: bytes, body: int) -> int:
    kind = flat.number(message, 1, "<B")
    if kind not in (_DICTIONARY_BATCH, _RECORD_BATCH):
        return 0
    batch = flat.table(message, 2)
    if kind == _DICTIONARY_BATCH:
        batch = flat.table(batch, 1)
    total = 0
    compressed = flat.field(batch, 3) != 0
    for offset, length in flat.pairs(batch, 2):
        if offset < 0 or length < 0 or body + offset + length > len(data):
            raise ParsedTraceError("a table of it is cut short")
        total += length
        if compressed and length >= 8:
            # -1 marks a buffer that is stored uncompressed
            total += max(struct.unpack_from("<q", data, body + offset)[0], 0)
    return total


class _Flatbuffer:
    """Reads just what the sizes need of a flatbuffer.

    Raises:
        struct.error: an offset leads out of the bytes.
        ParsedTraceError: an offset is negative, or a part is left out.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data

    def _get(self, at: int, form: str) -> int:
        if at < 0:
            raise ParsedTraceError("a table of it is broken: negative offset")
        value = struct.unpack_from(form, self._data, at)[0]
        assert isinstance(value, int)
        return value

    def root(self) -> int:
        return self._get(0, "<I")

    def field(self, table: int, index: int) -> int:
        """Position of a field of a table, 0 where it is left out."""
        vtable = table - self._get(table, "<i")
        if 4 + 2 * index + 2 > self._get(vtable, "<H"):
            return 0
        offset = self._get(vtable + 4 + 2 * index, "<H")
        return table + offset if offset else 0

    def number(self, table: int, index: int, form: str) -> int:
        at = self.field(table, index)
        return self._get(at, form) if at else 0

    def table(self, table: int, index: int) -> int:
        at = self.field(table, index)
        if not at:
            raise ParsedTraceError("a table of it is broken: a part is left out")
        return at + self._get(at, "<I")

    def pairs(self, table: int, index: int) -> list[tuple[int, int]]:
        """A vector of structs of two 64-bit numbers."""
        at = self.field(table, index)
        if not at:
            return []
        at += self._get(at, "<I")
        count = self._get(at, "<I")
        if count > 1000:
            raise ParsedTraceError("a table of it has too many columns")
        return [(self._get(at + 4 + 16 * i, "<q"), self._get(at + 12 + 16 * i, "<q")) for i in range(count)]
