"""Calls as a path: a block a name, so that what learns and judges control flow does the same with calls."""

from __future__ import annotations

import zlib
from pathlib import Path as FilePath
from typing import Any

import numpy as np

from barnum.calls.calls import Calls
from barnum.paths import Blocks, Gap, GapDetails, Kind, Learn, Path
from barnum.paths.parquet import Ending, write_parquet

START = "(start)"
"""What stands before the first call of a stream, so that this is predicted too."""

LEARN = Learn(ret=False, icall=True, ijmp=False)
"""Which transfers of such a path are learnt: from each call to the next."""


def as_path(calls: Calls, apart: int | None = None) -> Path:
    """Calls as a path in memory: a step a call, and one before each stream.

    The BBID of a name is its Adler-32 << 32, as of a module, and its CRC-32, which keeps names apart. With
    ``apart`` only every so many-th call of a stream is one to be predicted: windows of that many calls then
    do not overlap.
    """
    names = (START, *calls.names)
    many = len(names)
    if apart is not None:
        # as the calls are, those after which nothing is predicted are direct ones
        names = (*names, *names)
    text = [name.encode("utf-8", errors="surrogatepass") for name in names]
    kind = np.full(len(names), Kind.INDIRECT_CALL, np.uint8)
    kind[many:] = Kind.CALL
    none = np.zeros(len(names), np.uint32)
    offset = np.array([zlib.crc32(name) for name in text], np.uint64)
    blocks = Blocks(
        bbid=(np.array([zlib.adler32(name) for name in text], np.uint64) << np.uint64(32)) + offset,
        kind=kind,
        module=np.arange(len(names), dtype=np.int32) % many,
        modules=names[:many],
        offset=offset,
        start=none.astype(np.uint64),
        length=none,
        count=none,
        process=none.astype(np.uint16),
    )
    return Path(blocks, *_steps(calls, many, apart))


def write_path(
    calls: Calls, file: FilePath, apart: int | None = None, header: dict[str, Any] | None = None
) -> int:
    """Write as_path() as a parsed trace; the number of its steps.

    Raises OSError where the file cannot be written.
    """
    path = as_path(calls, apart)
    told = {
        "schema": 1,
        "source": calls.format,
        "truncated": "report" if calls.truncated else None,
        **(header or {}),
    }
    return write_parquet(file, path.chunks(), lambda: Ending(path.blocks, told, GapDetails.empty()))


def _steps(calls: Calls, many: int, apart: int | None) -> Any:
    """u32[n] blocks, u8[n] gaps, u16[n] streams: a step a call, and one before each stream."""
    number = np.cumsum(calls.first)  # of the stream of each call, from 1
    streams = int(number[-1]) if len(number) else 0
    block = np.zeros(len(calls.call) + streams, np.uint32)
    at = np.arange(len(calls.call)) + number
    block[at] = calls.call + 1
    begin = at[calls.first] - 1
    gap = np.zeros(len(block), np.uint8)
    gap[begin] = Gap.START
    stream = np.zeros(len(block), np.int64)
    stream[begin] = 1
    stream = np.minimum(np.cumsum(stream) - 1, (1 << 16) - 1)
    if apart is not None:
        since = np.arange(len(block)) - np.maximum.accumulate(np.where(gap > 0, np.arange(len(block)), 0))
        block[(since + 1) % apart != 0] += np.uint32(many)
    return block, gap, stream.astype(np.uint16)
