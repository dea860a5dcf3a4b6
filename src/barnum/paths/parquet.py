"""Parsed traces in Parquet: one row a step, the table of blocks in the file's metadata."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path as FilePath
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from barnum.errors import ParsedTraceError
from barnum.paths.blocks import Blocks, Chunk, GapDetails, Path
from barnum.paths.tables import pack_blocks, pack_gaps, unpack_blocks, unpack_gaps
from barnum.texts import reason

SCHEMA_VERSION = 1
SCHEMA = pa.schema(
    [
        pa.field("block", pa.uint32(), nullable=False),
        pa.field("gap", pa.uint8(), nullable=False),
        pa.field("stream", pa.uint16(), nullable=False),
    ]
)
HEADER_KEY = b"barnum"
BLOCKS_KEY = b"barnum.blocks"
GAPS_KEY = b"barnum.gaps"

ROW_GROUP = 1 << 20
MAX_ROW_GROUP = 1 << 24  # rows of a row group that is read; a hostile one could claim any number
MAX_FOOTER = 1 << 28  # bytes of metadata at the end of a file, table of blocks included
MAX_HEADER = 1 << 24

Finish = Callable[[], "Ending"]


class Ending(NamedTuple):
    """What is known only after the last step was written."""

    blocks: Blocks
    header: dict[str, Any]
    gaps: GapDetails


def write_parquet(file: FilePath, chunks: Iterable[Chunk], finish: Finish) -> int:
    """Write a path to a file; ``finish`` is called after the last chunk. Returns the number of steps.

    Raises:
        OSError: the file cannot be written.
    """
    # given a name, pyarrow takes one with a colon for a URI, and refuses one that is not UTF-8
    sink = pa.OSFile(os.fsencode(file), "wb")
    writer = pq.ParquetWriter(
        sink,
        SCHEMA,
        compression="zstd",
        compression_level=1,
        # measured: plain pages shrink as well as dictionaries, byte streams or deltas, and are written faster
        use_dictionary=False,
        write_statistics=False,
        write_page_checksum=True,
        store_schema=False,
        write_batch_size=1 << 16,
        data_page_size=1 << 20,
    )
    with sink, writer:
        steps = 0
        for chunk in _in_groups(chunks):
            steps += len(chunk.block)
            columns = [pa.array(chunk.block), pa.array(chunk.gap), pa.array(chunk.stream)]
            writer.write_batch(pa.record_batch(columns, schema=SCHEMA), row_group_size=ROW_GROUP)
        ending = finish()
        writer.add_key_value_metadata(
            {
                HEADER_KEY: json.dumps(ending.header, separators=(",", ":")).encode(),
                BLOCKS_KEY: pack_blocks(ending.blocks),
                GAPS_KEY: pack_gaps(ending.gaps),
            }
        )
    return steps


def _in_groups(chunks: Iterable[Chunk]) -> Iterator[Chunk]:
    """The same steps in chunks of ROW_GROUP: small row groups compress badly and are slow to read."""
    held: list[Chunk] = []
    count = 0
    for chunk in chunks:
        begin = 0
        while begin < len(chunk.block):
            taken = min(ROW_GROUP - count, len(chunk.block) - begin)
            held.append(chunk.part(begin, begin + taken))
            begin += taken
            count += taken
            if count == ROW_GROUP:
                yield _join(held)
                held, count = [], 0
    if count:
        yield _join(held)


def _join(chunks: list[Chunk]) -> Chunk:
    if len(chunks) == 1:
        return chunks[0]
    return Chunk(
        np.concatenate([chunk.block for chunk in chunks]),
        np.concatenate([chunk.gap for chunk in chunks]),
        np.concatenate([chunk.stream for chunk in chunks]),
    )


class ParquetReader:
    """A path in a Parquet file; its steps are read only as they are asked for."""

    def __init__(self, file: FilePath) -> None:
        """Open a file and read its table of blocks.

        Raises:
            ParsedTraceError: it cannot be read, or is no parsed trace.
        """
        self.file = file
        try:
            _check_footer(file)
            with _open(file) as parquet:
                meta = parquet.metadata
                self._check(parquet.schema_arrow, meta)
                self.rows: int = meta.num_rows
                self._groups: int = meta.num_row_groups
                pairs = meta.metadata or {}
            self.header = _header(pairs)
            self.first_stream = _first_stream(self.header, self.rows)
            self.spawn = _step(self.header.get("spawn"), self.rows, "spawn")
            self.blocks = unpack_blocks(_value(pairs, BLOCKS_KEY))
            self.gaps = unpack_gaps(_value(pairs, GAPS_KEY))
        except ParsedTraceError as error:
            raise ParsedTraceError(f"{file}: {error}") from None
        except (pa.ArrowException, OSError, MemoryError, ValueError, KeyError, TypeError) as error:
            raise _broken(file, error) from None

    def __len__(self) -> int:
        return self.rows

    def __repr__(self) -> str:
        return f"<Path {self.file}: {self.rows:,} steps over {len(self.blocks):,} blocks>"

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """A table of the steps; see paths.arrow."""
        from barnum.paths.arrow import stream_of

        return stream_of(self.blocks, self.chunks(), requested_schema)

    def chunks(self, rows: int = ROW_GROUP) -> Iterator[Chunk]:
        """The path in stretches of at most ``rows`` steps, in order.

        Raises:
            ParsedTraceError: the file is broken.
        """
        seen = 0
        for index in range(self._groups):
            chunk = self._group(index)
            seen += len(chunk.block)
            for begin in range(0, len(chunk.block), rows):
                yield chunk.part(begin, begin + rows)
        if seen != self.rows:
            raise ParsedTraceError(f"{self.file}: {seen:,} steps instead of {self.rows:,}")

    def read(self) -> Path:
        """The whole path in memory.

        Raises:
            ParsedTraceError: the file is broken.
        """
        chunks = list(self.chunks())
        whole = _join(chunks or [Chunk.empty()])
        return Path(self.blocks, whole.block, whole.gap, whole.stream, self.header, self.gaps)

    def _group(self, index: int) -> Chunk:
        try:
            with _open(self.file) as parquet:
                table = parquet.read_row_group(index, columns=SCHEMA.names, use_threads=False)
            block, gap, stream = (table.column(name).combine_chunks() for name in SCHEMA.names)
            if block.null_count or gap.null_count or stream.null_count:
                raise ParsedTraceError("empty fields")
            chunk = Chunk(_array(block), _array(gap), _array(stream))
        except ParsedTraceError as error:
            raise ParsedTraceError(f"{self.file}: {error}") from None
        except (pa.ArrowException, OSError, MemoryError, ValueError, KeyError, TypeError) as error:
            raise _broken(self.file, error) from None
        if len(chunk.block) and int(chunk.block.max()) >= len(self.blocks):
            raise ParsedTraceError(f"{self.file}: a step names a block that the table of blocks lacks")
        if len(chunk.gap) and int(chunk.gap.max()) > 7:
            raise ParsedTraceError(f"{self.file}: a gap of unknown cause")
        return chunk

    @staticmethod
    def _check(schema: pa.Schema, meta: Any) -> None:
        if schema.names != SCHEMA.names or schema.types != SCHEMA.types:
            raise ParsedTraceError("other columns than a parsed trace has")
        if sum(meta.row_group(i).num_rows for i in range(meta.num_row_groups)) != meta.num_rows:
            raise ParsedTraceError("its row groups do not add up")
        for index in range(meta.num_row_groups):
            group = meta.row_group(index)
            if not 0 <= group.num_rows <= MAX_ROW_GROUP:
                raise ParsedTraceError(f"a row group claims {group.num_rows:,} steps")
            sizes = [group.column(i).total_uncompressed_size for i in range(group.num_columns)]
            if min(sizes) < 0 or sum(sizes) > 16 * MAX_ROW_GROUP:
                raise ParsedTraceError(f"a row group claims {sum(sizes):,} bytes")


def _open(file: FilePath) -> Any:
    return pq.ParquetFile(
        pa.OSFile(os.fsencode(file)),
        memory_map=False,
        pre_buffer=False,
        thrift_string_size_limit=MAX_FOOTER,
        thrift_container_size_limit=1 << 20,
        page_checksum_verification=True,
    )


def _array(column: Any) -> Any:
    if isinstance(column, pa.ChunkedArray):
        column = pa.concat_arrays(column.chunks)
    return column.to_numpy(zero_copy_only=True)


def _check_footer(file: FilePath) -> None:
    """Check the size that the footer claims, before Arrow takes memory for it."""
    with file.open("rb") as raw:
        size = raw.seek(0, 2)
        if size < 12:
            raise ParsedTraceError("too short for a Parquet file")
        raw.seek(-8, 2)
        length, magic = struct.unpack("<I4s", raw.read(8))
    if magic != b"PAR1":
        raise ParsedTraceError("its end is no end of a Parquet file: it was cut short or is something else")
    if length > min(size - 12, MAX_FOOTER):
        raise ParsedTraceError(f"its footer claims {length:,} bytes")


def _value(pairs: dict[bytes, bytes], key: bytes) -> bytes:
    if key not in pairs:
        raise ParsedTraceError(f"the metadata lacks {key.decode()}: no parsed trace of this program")
    return pairs[key]


def _header(pairs: dict[bytes, bytes]) -> dict[str, Any]:
    text = _value(pairs, HEADER_KEY)
    if len(text) > MAX_HEADER:
        raise ParsedTraceError(f"a header of {len(text):,} bytes")
    try:
        header = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ParsedTraceError(f"its header is no JSON: {error}") from None
    if not isinstance(header, dict) or header.get("schema") != SCHEMA_VERSION:
        raise ParsedTraceError(f"its header is not of schema {SCHEMA_VERSION}: written by another version")
    return header


def _first_stream(header: dict[str, Any], rows: int) -> int:
    streams = header.get("streams")
    first = streams[0] if isinstance(streams, list) and streams else None
    steps = _step(first.get("steps") if isinstance(first, dict) else None, rows, "number of steps")
    return rows if steps is None else steps


def _step(value: Any, rows: int, name: str) -> int | None:
    if value is None:
        return None
    if type(value) is not int or not 0 <= value <= rows:
        raise ParsedTraceError(f"its header has a {name} that is no step of its {rows:,}")
    return value


def _broken(file: FilePath, error: BaseException) -> ParsedTraceError:
    if isinstance(error, FileNotFoundError | PermissionError | IsADirectoryError):
        return ParsedTraceError(f"{file}: {error.strerror or error}")
    return ParsedTraceError(f"{file}: not a readable Parquet file: {reason(error)}")
