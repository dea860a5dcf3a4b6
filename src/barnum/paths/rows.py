"""Reads the original's row format, ``trace_parsed.gz``.

A row is a little-endian ``u16`` length, then source BBID ``u64``, target BBID ``u64``, three ``u8`` (length
of the mnemonic, length of the text, number of words), then mnemonic and text. The instruction is the one that
ends the source block. The first row of a trace has source 0.

As a path, the source of every row is a step, and the target of the last row is one more. Sources with the
same BBID, text, mnemonic and number of words are one block. If a row's source is not the target of the row
before, that target becomes a step of its own, without text, and the next step is marked with a gap. So the
rows can be written again, byte for byte.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path as FilePath
from typing import Any

import numpy as np

from barnum.errors import ParsedTraceError
from barnum.paths.blocks import U8, U32, U64, Blocks, Chunk, GapDetails, Path
from barnum.paths.kinds import Gap, kind_of_text
from barnum.paths.packed import inflated

HEAD = 21  # bytes before the mnemonic, the length itself included
_TAIL = HEAD - 2  # the length field of a row without texts
LONGEST = _TAIL + 2 * 255
_MIX = np.uint64(0x9E3779B97F4A7C15)
MAX_ROWS = 1 << 28
MAX_BLOCKS = 1 << 22
MAX_BREAKS = 1 << 24  # rows that do not go on where the row before ended
MAX_TEXT = 1 << 28  # bytes of all distinct blocks


class RowsReader:
    """A path read from ``trace_parsed.gz``. The file is read at opening; 4 bytes a row stay in memory."""

    def __init__(self, file: FilePath, modules: Mapping[int, str] | None = None) -> None:
        """Read a file.

        Args:
            file: the rows, as gzip.
            modules: names of modules by hash (the upper half of a BBID); others are named by their hash.

        Raises:
            ParsedTraceError: the file cannot be read, is broken, or exceeds a bound.
        """
        self.file = file
        scan = _Scan()
        try:
            for data in _inflate(file):
                scan.feed(data)
            scan.finish()
        except ParsedTraceError as error:
            raise ParsedTraceError(f"{file}: {error}") from None
        self._block = scan.block
        self._breaks = scan.breaks
        self.rows = self.first_stream = len(scan.block)
        self.spawn: int | None = None
        self.blocks = scan.table(modules or {})
        self.gaps = GapDetails.empty()
        self.header: dict[str, Any] = {
            "schema": 1,
            "source": "gz",
            "streams": [{"file": file.name, "process": 0, "thread": 0}],
            "statistics": {"rows": scan.rows, "steps": self.rows, "blocks": len(self.blocks)},
            "truncated": None,
        }

    def __len__(self) -> int:
        return self.rows

    def __repr__(self) -> str:
        return f"<Path {self.file}: {self.rows:,} steps over {len(self.blocks):,} blocks>"

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """A table of the steps; see paths.arrow."""
        from barnum.paths.arrow import stream_of

        return stream_of(self.blocks, self.chunks(), requested_schema)

    def chunks(self, rows: int = 1 << 20) -> Iterator[Chunk]:
        """The path in stretches of at most ``rows`` steps, in order."""
        for begin in range(0, self.rows, rows):
            block = self._block[begin : begin + rows]
            gap = np.zeros(len(block), np.uint8)
            low, high = np.searchsorted(self._breaks[0], (begin, begin + len(block)))
            gap[self._breaks[0][low:high] - begin] = self._breaks[1][low:high]
            yield Chunk(block, gap, np.zeros(len(block), np.uint16))

    def read(self) -> Path:
        """The whole path in memory."""
        chunk = next(self.chunks(max(self.rows, 1)))
        return Path(self.blocks, chunk.block, chunk.gap, chunk.stream, self.header, self.gaps)


class _Scan:
    """Turns the decompressed bytes into steps; the result does not depend on how they are cut into chunks."""

    def __init__(self) -> None:
        self.rows = 0
        self._rest = b""
        self._ids: dict[bytes, int] = {}
        self._parts: list[U32] = []
        self._text = 0
        self._break_at: list[U64] = [np.zeros(1, np.uint64)]
        self._break_why: list[U8] = [np.array([Gap.START], np.uint8)]
        self._breaks = 0
        self._steps = 0
        self._target = np.uint64(0)
        self.block: U32 = np.zeros(0, np.uint32)
        self.breaks: tuple[U64, U8] = (np.zeros(0, np.uint64), np.zeros(0, np.uint8))

    def feed(self, more: bytes) -> None:
        data = self._rest + more
        starts, end = _row_starts(data, self.rows)
        self._rest = data[end:]
        if not starts:
            return
        if self.rows + len(starts) > MAX_ROWS:
            raise ParsedTraceError(f"more than {MAX_ROWS:,} rows")
        raw = np.frombuffer(data, np.uint8)
        at = np.array(starts, np.int64)
        heads = np.lib.stride_tricks.sliding_window_view(raw, HEAD)[at]
        lengths = np.ascontiguousarray(heads[:, :2]).view("<u2").ravel().astype(np.int64)
        wrong = np.flatnonzero(lengths != _TAIL + heads[:, 18].astype(np.int64) + heads[:, 19])
        if len(wrong):
            raise ParsedTraceError(f"row {self.rows + int(wrong[0]):,} is not as long as it says")
        sources = np.ascontiguousarray(heads[:, 2:10]).view("<u8").ravel().astype(np.uint64)
        targets = np.ascontiguousarray(heads[:, 10:18]).view("<u8").ravel().astype(np.uint64)
        self._add(self._number(raw, at, lengths), sources, targets)
        self.rows += len(starts)

    def finish(self) -> None:
        if self._rest:
            raise ParsedTraceError(f"the file ends in the middle of row {self.rows:,}: it was cut short")
        if not self.rows:
            raise ParsedTraceError("no rows")
        self._parts.append(np.array([self._without_text(self._target)], np.uint32))
        self.block = np.concatenate(self._parts)
        self.breaks = np.concatenate(self._break_at), np.concatenate(self._break_why)

    def _add(self, ids: U32, sources: U64, targets: U64) -> None:
        before = np.concatenate([[self._target], targets[:-1]])
        broken = np.flatnonzero(sources != before)
        if not self._steps:
            # there is no row before the first one that its source could differ from
            broken = broken[broken > 0]
        self._breaks += len(broken)
        if self._breaks > MAX_BREAKS:
            raise ParsedTraceError(f"more than {MAX_BREAKS:,} rows that do not follow the row before")
        # a target at which the next row does not begin is a step of its own before that row
        self._parts.append(np.insert(ids, broken, self._without_texts(before[broken])))
        at = broken + np.arange(1, len(broken) + 1) + self._steps
        self._break_at.append(at.astype(np.uint64))
        self._break_why.append(np.where(sources[broken] == 0, Gap.START, Gap.LOST).astype(np.uint8))
        self._steps += len(ids) + len(broken)
        self._target = targets[-1]

    def _without_texts(self, bbids: U64) -> U32:
        distinct, firsts, inverse = np.unique(bbids, return_index=True, return_inverse=True)
        numbers = np.empty(len(distinct), np.uint32)
        for index in np.argsort(firsts).tolist():
            numbers[index] = self._without_text(distinct[index])
        return numbers[inverse]

    def _without_text(self, bbid: np.uint64) -> int:
        return self._id(int(bbid).to_bytes(8, "little"))

    def _id(self, key: bytes) -> int:
        known = len(self._ids)
        number = self._ids.setdefault(key, known)
        if number == known:
            self._text += len(key)
            if number >= MAX_BLOCKS or self._text > MAX_TEXT:
                raise ParsedTraceError(
                    f"more than {MAX_BLOCKS:,} distinct blocks, or {MAX_TEXT:,} bytes of them"
                )
        return number

    def _number(self, raw: U8, at: np.ndarray[Any, np.dtype[np.int64]], lengths: np.ndarray[Any, Any]) -> U32:
        """u32[n]: the number of each row's source block. Its key is the row without length and target."""
        first_rows: list[np.ndarray[Any, Any]] = []
        codes = np.empty(len(at), np.int64)
        keys: list[bytes] = []
        for length in np.unique(lengths).tolist():
            rows = np.flatnonzero(lengths == length)
            taken = np.lib.stride_tricks.sliding_window_view(raw, length + 2)[at[rows]]
            keyed = np.concatenate([taken[:, 2:10], taken[:, 18:]], axis=1)
            firsts, inverse = _distinct(keyed)
            codes[rows] = inverse + len(keys)
            keys.extend(row.tobytes() for row in keyed[firsts])
            first_rows.append(rows[firsts])
        # numbers go by first appearance, over all lengths
        order = np.argsort(np.concatenate(first_rows), kind="stable")
        numbers = np.empty(len(keys), np.uint32)
        for index in order.tolist():
            numbers[index] = self._id(keys[index])
        return numbers[codes]

    def table(self, modules: Mapping[int, str]) -> Blocks:
        keys = list(self._ids)
        count = len(keys)
        bbid: U64 = np.array([int.from_bytes(key[:8], "little") for key in keys], np.uint64)
        # latin-1 keeps any byte as it is
        mnemonic = [key[11 : 11 + key[8]].decode("latin-1") if len(key) > 8 else "" for key in keys]
        text = [key[11 + key[8] :].decode("latin-1") if len(key) > 8 else "" for key in keys]
        words: U8 = np.array([key[10] if len(key) > 8 else 0 for key in keys], np.uint8)
        kind: U8 = np.array([kind_of_text(line) for line in text], np.uint8)
        hashes = (bbid >> np.uint64(32)).astype(np.int64)
        known = np.unique(hashes[bbid != 0])
        names = tuple(modules.get(code, f"{code:08x}") for code in known.tolist())
        index = np.searchsorted(known, hashes).astype(np.int32)
        # source 0 of the first row stands for an unknown block
        index[bbid == 0] = -1
        zero: U32 = np.zeros(count, np.uint32)
        return Blocks(
            bbid=bbid,
            kind=kind,
            module=index,
            modules=names,
            offset=bbid & np.uint64(0xFFFFFFFF),
            start=np.zeros(count, np.uint64),
            length=zero,
            count=zero,
            process=np.zeros(count, np.uint16),
            text=text,
            mnemonic=mnemonic,
            words=words,
        )


def _row_starts(data: bytes, row: int) -> tuple[list[int], int]:
    """Offsets of the whole rows in data, and where the first unfinished one begins."""
    starts: list[int] = []
    append = starts.append
    at = 0
    last = len(data) - HEAD
    while at <= last:
        length = data[at] + (data[at + 1] << 8)
        if not _TAIL <= length <= LONGEST:
            raise ParsedTraceError(f"row {row + len(starts):,} claims {length} bytes: no parsed trace")
        append(at)
        at += 2 + length
    if at > len(data):
        at = starts.pop()
    return starts, at


def _distinct(rows: U8) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """First index of each distinct row of a byte matrix, and for each row which of these it equals."""
    padded = np.zeros((len(rows), -(-rows.shape[1] // 8) * 8), np.uint8)
    padded[:, : rows.shape[1]] = rows
    hashed = np.zeros(len(rows), np.uint64)
    for word in padded.view(np.uint64).T:
        hashed = (hashed ^ word) * _MIX
        hashed ^= hashed >> np.uint64(29)
    _, firsts, inverse = np.unique(hashed, return_index=True, return_inverse=True)
    if np.array_equal(rows[firsts][inverse], rows):
        return firsts, inverse
    # rows made to collide: compare them whole, which is slower
    whole = np.ascontiguousarray(rows).view(np.dtype((np.void, rows.shape[1]))).ravel()
    _, firsts, inverse = np.unique(whole, return_index=True, return_inverse=True)
    return firsts, inverse


def _inflate(file: FilePath) -> Iterator[bytes]:
    """The decompressed bytes in pieces of bounded size."""
    try:
        yield from inflated(file)
    except EOFError:
        raise ParsedTraceError("the gzip stream is cut short") from None
    except (zlib.error, OSError) as error:
        if isinstance(error, FileNotFoundError | PermissionError | IsADirectoryError):
            raise ParsedTraceError(error.strerror or str(error)) from None
        raise ParsedTraceError(f"not a readable gzip file: {error}") from None
