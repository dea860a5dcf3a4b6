"""The sequence of blocks before each transfer that counts.

In a decoded path every step is part of the history. It begins anew where a stream begins or data was lost (as
``first`` of paths.Transfers does), and runs on over signals and pauses of tracing. The original's rows have
no gaps: the history of a row is the sources of all rows before it. A block that is only a target there, as
the next row begins at another block, is in no history.
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

# steps of a part; few enough that the size of tables is checked often while they grow
_ROWS = 1 << 18
_MOST_PARTS = 4


class Counter(Protocol):
    """A counter of barnum._sequences: Targets or Known."""

    def begin(self, bbid: U64, number: U32, wanted: Bool, restart: Bool, rows: bool) -> None: ...
    def add(self, block: U32, gap: U8) -> None: ...


class Histories:
    """A path, and which of its transfers count: those out of the blocks where ``wanted`` bool[k] is set."""

    def __init__(self, path: PathReader, learn: Learn, indirect: Indirect = "all") -> None:
        """Choose the transfers.

        Args:
            path: the path.
            learn: which kinds of transfers count.
            indirect: which calls and jumps are indirect: ``all`` that are, or ``ptr``, those with the word
                *ptr* in their text, as in Barnum-Learner.

        Raises:
            TraceError: the path has no steps.
            ParsedTraceError: ``ptr`` was asked for, but the path was decoded and holds no texts.
        """
        if not path.rows:
            raise TraceError(f"{path.file}: holds no blocks: preprocess the sample again")
        self._path = path
        self.wanted = learn.mask(path.blocks) if indirect == "all" else _by_words(path, learn)

    def count(self, counters: Sequence[Counter]) -> Iterator[None]:
        """Pass the path to all counters, a part at a time; yields whenever all have counted a part.

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
    """How many counters share the work on a path: one for each core, 4 at most."""
    return min(_MOST_PARTS, len(os.sched_getaffinity(0)))


@contextmanager
def _threads(count: int) -> Iterator[ThreadPoolExecutor]:
    pool = ThreadPoolExecutor(count)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _by_words(path: PathReader, learn: Learn) -> Bool:
    """bool[k]: whether transfers out of each block count, by mnemonic and by the word *ptr* in the text."""
    text, mnemonic = path.blocks.text, path.blocks.mnemonic
    if text is None or mnemonic is None:
        raise ParsedTraceError(
            f"{path.file}: holds no texts of instructions, which --indirect ptr looks at: use a trace that "
            "`barnum preprocess --format gz` made"
        )
    # for each mnemonic, whether it counts without ptr and with it
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
