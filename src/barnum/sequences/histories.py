"""The sequence of blocks before each transfer that counts.

In a decoded path every step is part of the history, which begins anew where a stream begins or data was lost
(as ``first`` of paths.Transfers does) and runs on over signals and pauses of tracing. Rows of the original
know no gaps: the history of a row are the sources of the rows before it, whatever they are. A block that is
only a target there, because the next row goes on elsewhere, is in no history.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Literal, Protocol

import numpy as np

from barnum.errors import ParsedTraceError, TraceError
from barnum.paths import RESTARTS, Learn, PathReader
from barnum.paths.blocks import U8, U32, U64, Bool

Indirect = Literal["all", "ptr"]

# small enough that tables are measured often while they grow
_ROWS = 1 << 18
_MOST_PARTS = 4


class Counter(Protocol):
    """One of barnum._sequences."""

    def begin(self, bbid: U64, number: U32, wanted: Bool, restart: Bool, rows: bool) -> None: ...
    def add(self, block: U32, gap: U8) -> None: ...


class Histories:
    """A path, and which of its transfers count: ``wanted`` bool[k] is that of each block's."""

    def __init__(self, path: PathReader, learn: Learn, indirect: Indirect = "all") -> None:
        """``learn`` says which kinds of transfers count, ``indirect`` which of them are indirect: ``all``, or
        ``ptr``, those whose text holds the word *ptr*, as in Barnum-Learner.

        Raises:
            TraceError: the path has no steps.
            ParsedTraceError: ``ptr`` was asked for, but the path was decoded and holds no texts.
        """
        if not path.rows:
            raise TraceError(f"{path.file}: holds no blocks: preprocess the sample again")
        self._path = path
        self.wanted = learn.mask(path.blocks) if indirect == "all" else _by_words(path, learn)

    def count(self, counters: Sequence[Counter]) -> Iterator[None]:
        """Let all counters, which are parts of one, see the path; yields whenever all have seen a part of it.

        Raises:
            ParsedTraceError: the file is broken.
        """
        bbids = self._path.blocks.bbid
        _, number = np.unique(bbids, return_inverse=True)
        restart = np.zeros(256, np.bool_)
        restart[list(RESTARTS)] = True
        rows = self._path.blocks.text is not None
        for counter in counters:
            counter.begin(bbids, number.astype(np.uint32), self.wanted, restart, rows)
        with _threads(len(counters)) as pool:
            # the next part is read while the last one is counted
            counting: list[Future[None]] = []
            for chunk in self._path.chunks(_ROWS):
                for future in counting:
                    future.result()
                if counting:
                    yield
                counting = [pool.submit(counter.add, chunk.block, chunk.gap) for counter in counters]
            for future in counting:
                future.result()
            yield


def parts() -> int:
    """How many counters are to share a path: one for each core."""
    return min(_MOST_PARTS, len(os.sched_getaffinity(0)))


@contextmanager
def _threads(count: int) -> Iterator[ThreadPoolExecutor]:
    pool = ThreadPoolExecutor(count)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _by_words(path: PathReader, learn: Learn) -> Bool:
    """bool[k]: whether transfers out of each block count where the words of their text decide."""
    text, mnemonic = path.blocks.text, path.blocks.mnemonic
    if text is None or mnemonic is None:
        raise ParsedTraceError(
            f"{path.file}: holds no texts of instructions, which --indirect ptr looks at: use a trace that "
            "`barnum preprocess --format gz` made"
        )
    # by whether the word is there
    chosen = {
        "ret": (learn.ret, learn.ret),
        "call": (learn.call, learn.icall),
        "jmp": (learn.jmp, learn.ijmp),
    }
    wanted = [
        name in chosen and chosen[name]["ptr" in line.split()]
        for name, line in zip(mnemonic, text, strict=True)
    ]
    return np.array(wanted, np.bool_)
