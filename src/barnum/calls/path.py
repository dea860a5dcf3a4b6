"""Calls as a path with a block for each name, so that what learns and judges control flow works on calls."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path as FilePath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from barnum.calls.calls import Calls
from barnum.errors import SampleError
from barnum.paths import Blocks, Chunk, Gap, GapDetails, Kind, Learn, Path
from barnum.paths.parquet import Ending, write_parquet

START = "(start)"
"""The block before the first call of a stream, so that this call is predicted too."""

LEARN = Learn(ret=False, icall=True, ijmp=False)
"""Which transfers of such a path are learnt: from each call to the next."""

_PIECE = 1 << 20


def learnt_from_calls(learn: Learn, sites: NDArray[np.uint64]) -> bool:
    """Whether a model was learnt from calls: it learns LEARN, and START is among its ``sites``.

    ``sites`` u64[n] are the sources of the transfers learnt. A model learnt with ``apart`` above 1 has no
    START, and is not recognised.
    """
    return learn == LEARN and bool((sites == np.uint64(_bbid(""))).any())


def as_path(calls: Calls, apart: int | None = None) -> Path:
    """Calls as a path in memory: a step for each call, and one (START) before each stream.

    The BBID of a name is the first 64 bits of its SHA-256, so that nobody can make up a name that is taken
    for a known one. That of START is the BBID of the empty name, which no call has.

    Args:
        calls: the calls.
        apart: predict only every ``apart``-th call of a stream, so that windows of so many calls do not
            overlap; None: predict each.

    Raises:
        SampleError: two names have the same BBID.
    """
    block, gap, stream, _ = zip(*_chunks(calls, apart), strict=True)
    return Path(_blocks(calls, apart), np.concatenate(block), np.concatenate(gap), np.concatenate(stream))


def _blocks(calls: Calls, apart: int | None) -> Blocks:
    names = (START, *calls.names)
    many = len(names)
    hashes = [_bbid(name) for name in ("", *names[1:many])]
    if len(set(hashes)) < many:
        raise SampleError(f"{calls.document or 'a report'}: two names of calls share a BBID: rename one")
    bbid = np.array(hashes, np.uint64)
    if apart is not None:
        # calls after which nothing is predicted are other blocks, which end in a direct call
        names, bbid = (*names, *names), np.concatenate([bbid, bbid])
    kind = np.full(len(names), Kind.INDIRECT_CALL, np.uint8)
    kind[many:] = Kind.CALL
    none = np.zeros(len(names), np.uint32)
    return Blocks(
        bbid=bbid,
        kind=kind,
        module=np.arange(len(names), dtype=np.int32) % many,
        modules=names[:many],
        offset=bbid & np.uint64(0xFFFFFFFF),
        start=none.astype(np.uint64),
        length=none,
        count=none,
        process=none.astype(np.uint16),
    )


def _bbid(name: str) -> int:
    return int.from_bytes(sha256(name.encode("utf-8", errors="surrogatepass")).digest()[:8], "big")


def write_path(
    calls: Calls, file: FilePath, apart: int | None = None, header: dict[str, Any] | None = None
) -> int:
    """Write as_path() as a parsed trace, and return the number of its steps.

    Raises:
        OSError: the file cannot be written.
        SampleError: two names have the same BBID.
    """
    blocks = _blocks(calls, apart)
    document = {
        "schema": 1,
        "source": calls.format,
        "truncated": "report" if calls.truncated else None,
        "intact": _intact(calls) if calls.truncated else None,
        **(header or {}),
    }
    return write_parquet(file, _chunks(calls, apart), lambda: Ending(blocks, document, GapDetails.empty()))


def _intact(calls: Calls) -> int:
    """With how many steps the path of the whole report would begin, where the report breaks off.

    The rest of a report may show that another process is the one to take, or one that comes before; only a
    plain list of calls has no other.
    """
    (first, *others) = calls.processes
    alone = calls.format == "sequence" and not others and first.pid < 0 and not first.path
    if not alone:
        return 0
    begins = np.flatnonzero(calls.first)
    # and the block before it
    return 1 + int(begins[1] if len(begins) > 1 else len(calls.call))


def _chunks(calls: Calls, apart: int | None) -> Iterator[Chunk]:
    """The steps, a piece at a time, as they take several times the memory of the calls."""
    if not len(calls.call):
        yield Chunk.empty()
    streams = since = 0  # streams that have begun, and calls since the last one began
    for begin in range(0, len(calls.call), _PIECE):
        call, first = calls.call[begin : begin + _PIECE], calls.first[begin : begin + _PIECE]
        number = np.cumsum(first)  # streams that have begun in this piece, up to each call
        at = np.arange(len(call)) + number
        block = np.zeros(len(call) + int(number[-1]), np.uint32)
        block[at] = call + np.uint32(1)
        start = at[first] - 1
        gap = np.zeros(len(block), np.uint8)
        gap[start] = Gap.START
        stream = np.zeros(len(block), np.int64)
        stream[start] = 1
        stream = np.minimum(np.maximum(streams + np.cumsum(stream) - 1, 0), (1 << 16) - 1)
        if apart is not None:
            place = np.arange(len(block))
            last = np.maximum.accumulate(np.where(gap > 0, place, -1 - since))
            # a call after which nothing is predicted is the second block of its name
            block[(place - last + 1) % apart != 0] += np.uint32(1 + len(calls.names))
            since = int(len(block) - 1 - last[-1])
        streams += int(number[-1])
        yield Chunk(block, gap, stream.astype(np.uint16))
