"""Writes the original's row format, ``trace_parsed.gz``; the format is described in rows.py."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from pathlib import Path as FilePath

import numpy as np

from barnum.paths.blocks import U8, U32, U64, Blocks, Bool, Chunk
from barnum.paths.rows import HEAD


def split_text(text: str) -> tuple[str, int]:
    """Mnemonic and number of words, counted as the original did: what single spaces part."""
    words = text.split(" ")
    return words[0][:255], min(len(words), 255)


def write_rows(file: FilePath, chunks: Iterable[Chunk], blocks: Blocks, imported: bool) -> int:
    """Write a path as rows. Returns their number.

    ``blocks`` must know its texts. Where the path was ``imported`` from rows, its first block is that of the first
    row's source, whatever its BBID. Otherwise each stretch between gaps begins with source 0, as a trace does.
    Raises OSError where the file cannot be written.
    """
    from isal import igzip

    rows = 0
    with file.open("wb") as raw, igzip.GzipFile(fileobj=raw, mode="wb", compresslevel=2, mtime=0) as out:
        for data, count in _rows(chunks, _Templates(blocks), blocks.bbid, imported):
            out.write(data)
            rows += count
    return rows


def _rows(
    chunks: Iterable[Chunk], templates: _Templates, bbid: U64, imported: bool
) -> Iterator[tuple[U8, int]]:
    last: U32 = np.zeros(0, np.uint32)
    last_starts: Bool = np.zeros(0, np.bool_)
    for chunk in chunks:
        block = np.concatenate([last, chunk.block])
        gap = chunk.gap != 0
        starts = np.concatenate([last_starts, gap])
        last, last_starts = block[-1:], starts[-1:]
        joined = np.flatnonzero(~starts[1:])
        if not len(joined):
            continue
        sources = block[joined]
        source_bbid = bbid[sources]
        if not imported:
            source_bbid[starts[joined]] = 0
        yield templates.fill(sources, source_bbid, bbid[block[joined + 1]]), len(joined)


class _Templates:
    """The bytes of each block's row, in one matrix for each length."""

    def __init__(self, blocks: Blocks) -> None:
        assert blocks.text is not None
        assert blocks.mnemonic is not None
        assert blocks.words is not None
        self._length = np.zeros(len(blocks), np.int64)
        self._place = np.zeros(len(blocks), np.int64)
        rows: dict[int, list[bytes]] = {}
        for index, (text, mnemonic, words) in enumerate(
            zip(blocks.text, blocks.mnemonic, blocks.words.tolist(), strict=True)
        ):
            tail = mnemonic.encode("latin-1") + text.encode("latin-1")
            row = struct.pack("<HQQBBB", HEAD - 2 + len(tail), 0, 0, len(mnemonic), len(text), words) + tail
            alike = rows.setdefault(len(row), [])
            self._length[index] = len(row)
            self._place[index] = len(alike)
            alike.append(row)
        self._rows = {
            length: np.frombuffer(b"".join(alike), np.uint8).reshape(-1, length)
            for length, alike in rows.items()
        }

    def fill(self, sources: U32, source_bbid: U64, target_bbid: U64) -> U8:
        """Rows of the transfers from blocks ``sources``, as bytes."""
        lengths = self._length[sources]
        ends = np.cumsum(lengths)
        out = np.empty(int(ends[-1]), np.uint8)
        for length in np.unique(lengths).tolist():
            which = np.flatnonzero(lengths == length)
            rows = self._rows[length][self._place[sources[which]]]
            rows[:, 2:10] = source_bbid[which].astype("<u8").view(np.uint8).reshape(-1, 8)
            rows[:, 10:18] = target_bbid[which].astype("<u8").view(np.uint8).reshape(-1, 8)
            out[(ends[which] - length)[:, None] + np.arange(length)] = rows
        return out
