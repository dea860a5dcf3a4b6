"""Writes the original's row format, ``trace_parsed.gz``; the format is described in rows.py."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path as FilePath
from typing import Any, NamedTuple

import numpy as np

from barnum.paths.blocks import U8, U32, U64, Blocks, Bool, Chunk
from barnum.paths.packed import gzip_writer
from barnum.paths.rows import HEAD


class RowTexts(NamedTuple):
    """What rows say about k source blocks: BBID u64[k], and of the last instruction text, mnemonic, words."""

    bbid: U64
    text: list[str]
    mnemonic: list[str]
    words: list[int]


# called with k, returns the texts of all blocks from number k on
MoreTexts = Callable[[int], RowTexts]


def texts_of(blocks: Blocks) -> MoreTexts:
    """The texts of a table of blocks that was imported from rows."""
    text, mnemonic, words = blocks.text, blocks.mnemonic, blocks.words
    assert text is not None
    assert mnemonic is not None
    assert words is not None

    def more(known: int) -> RowTexts:
        return RowTexts(blocks.bbid[known:], text[known:], mnemonic[known:], words[known:].tolist())

    return more


def split_text(text: str) -> tuple[str, int]:
    """The mnemonic, which is the first word, and the number of words.

    Every single space separates two words, as in the original: two spaces in a row enclose an empty word.
    """
    words = text.split(" ")
    return words[0], len(words)


def write_rows(file: FilePath, chunks: Iterable[Chunk], more: MoreTexts, imported: bool) -> int:
    """Write a path as rows.

    Args:
        file: the file to write.
        chunks: the path.
        more: the texts of its blocks; the table may grow while chunks are taken.
        imported: the path was read from rows, so all sources keep their BBIDs. Otherwise the first row after
            each gap has source 0, as at the start of a trace.

    Returns:
        The number of rows.

    Raises:
        OSError: the file cannot be written.
    """
    rows = 0
    with file.open("wb") as raw, gzip_writer(raw) as out:
        for data, count in _rows(chunks, _Templates(more), imported):
            out.write(data)
            rows += count
    return rows


def _rows(chunks: Iterable[Chunk], templates: _Templates, imported: bool) -> Iterator[tuple[U8, int]]:
    last: U32 = np.zeros(0, np.uint32)
    last_starts: Bool = np.zeros(0, np.bool_)
    for chunk in chunks:
        templates.grow()
        block = np.concatenate([last, chunk.block])
        starts = np.concatenate([last_starts, chunk.gap != 0])
        last, last_starts = block[-1:], starts[-1:]
        joined = np.flatnonzero(~starts[1:])
        if not len(joined):
            continue
        sources = block[joined]
        source_bbid = templates.bbid[sources]
        if not imported:
            source_bbid[starts[joined]] = 0
        yield templates.fill(sources, source_bbid, templates.bbid[block[joined + 1]]), len(joined)


class _Templates:
    """The row of each block as bytes, without BBIDs; one matrix for each length of row."""

    def __init__(self, more: MoreTexts) -> None:
        self._more = more
        self.bbid: U64 = np.zeros(0, np.uint64)
        self._length = np.zeros(0, np.int64)
        self._place = np.zeros(0, np.int64)
        self._rows: dict[int, list[bytes]] = {}
        self._matrices: dict[int, U8] = {}

    def grow(self) -> None:
        """Add the rows of blocks that were met since the last call."""
        new = self._more(len(self.bbid))
        lengths, places = [], []
        for text, mnemonic, words in zip(new.text, new.mnemonic, new.words, strict=True):
            tail = mnemonic.encode("latin-1") + text.encode("latin-1")
            row = struct.pack("<HQQBBB", HEAD - 2 + len(tail), 0, 0, len(mnemonic), len(text), words) + tail
            same_length = self._rows.setdefault(len(row), [])
            lengths.append(len(row))
            places.append(len(same_length))
            same_length.append(row)
        self.bbid = np.concatenate([self.bbid, new.bbid])
        self._length = np.concatenate([self._length, np.array(lengths, np.int64)])
        self._place = np.concatenate([self._place, np.array(places, np.int64)])
        for length in set(lengths):
            self._matrices[length] = np.frombuffer(b"".join(self._rows[length]), np.uint8).reshape(-1, length)

    def fill(self, sources: U32, source_bbid: U64, target_bbid: U64) -> U8:
        """u8[bytes]: the rows of m transfers from blocks ``sources`` u32[m], with BBIDs u64[m]."""
        lengths = self._length[sources]
        ends = np.cumsum(lengths)
        out = np.empty(int(ends[-1]), np.uint8)
        for length in np.unique(lengths).tolist():
            which = np.flatnonzero(lengths == length)
            rows: Any = self._matrices[length][self._place[sources[which]]]
            rows[:, 2:10] = source_bbid[which].astype("<u8").view(np.uint8).reshape(-1, 8)
            rows[:, 10:18] = target_bbid[which].astype("<u8").view(np.uint8).reshape(-1, 8)
            out[(ends[which] - length)[:, None] + np.arange(length)] = rows
        return out
