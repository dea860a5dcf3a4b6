"""Which of a trace's transfers a network learns: all, windows spread evenly under a cap, loops folded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec
import numpy as np
from numpy.typing import NDArray

from barnum._sequences import Loops
from barnum.paths import Transfers

Bool = NDArray[np.bool_]
I64 = NDArray[np.int64]

# transfers in one window; shorter under a small cap, which is to be spread, too
_WINDOW = 4096
_LEAST_WINDOWS = 16


class Selection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``max_transfers`` a trace, in windows spread evenly over it, and ``fold_loops``: how many rounds of a
    loop (of at most 64 transfers) are kept. None: no limit. Loops are folded first."""

    max_transfers: int | None = None
    fold_loops: int | None = None

    def windows(self, total: int) -> I64:
        """i64[w, 2]: begin and end of each window, ascending, of ``total`` transfers; adjoining ones are
        joined."""
        if self.max_transfers is None or total <= self.max_transfers:
            return np.array([[0, total]], np.int64)
        return spread(total, self.max_transfers)

    def select(self, parts: Iterable[Transfers], total: int) -> Iterator[Transfers]:
        """The selected transfers of a run that has ``total`` of them after folding; ``first`` is set at the
        begin of each window. Memory is that of a part."""
        picker = Picker(self, total)
        for part in parts:
            at, first = picker.pick(part)
            if len(at):
                entry = np.where(first, np.int32(-1), part.entry[at])
                yield Transfers(
                    part.blocks, part.source[at], part.target[at], part.position[at], first, entry
                )


class Picker:
    """Picks the selected transfers of one run, part by part."""

    def __init__(self, selection: Selection, total: int) -> None:
        self._folding = _Folding(selection.fold_loops)
        self._windows = selection.windows(total)
        self._passed = 0

    def pick(self, part: Transfers) -> tuple[I64, Bool]:
        """i64[p]: which of the next m transfers are selected, and bool[p]: before which the state restarts
        (as it did in the run, or because a window begins)."""
        at = self._folding.keep(part)
        number = np.arange(self._passed, self._passed + len(at))
        self._passed += len(at)
        window = np.searchsorted(self._windows[:, 0], number, side="right") - 1
        inside = (window >= 0) & (number < self._windows[window, 1])
        begins = number == self._windows[window, 0]
        carried = np.zeros(len(at) + 1, np.bool_)
        # a restart that was left out by folding is carried by what comes next
        carried[np.searchsorted(at, np.flatnonzero(part.first))] = True
        return at[inside], (carried[:-1] | begins)[inside]

    def folded(self, part: Transfers) -> int:
        """How many of the next m transfers are left after folding."""
        return len(self._folding.keep(part))


class _Folding:
    def __init__(self, rounds: int | None) -> None:
        self._loops = None if rounds is None else Loops(rounds)

    def keep(self, part: Transfers) -> I64:
        """Indices of the next transfers that are kept. Nothing restarts where something is left out: the
        rounds that were kept are context enough."""
        if self._loops is None:
            return np.arange(len(part))
        key = (part.source.astype(np.uint64) << np.uint64(32)) | part.target
        return np.flatnonzero(self._loops.mark(key, np.ascontiguousarray(part.first)))


def spread(total: int, cap: int) -> I64:
    """i64[w, 2]: windows of at most ``cap`` < total transfers in all, spread evenly over ``total``."""
    length = max(1, min(_WINDOW, cap // _LEAST_WINDOWS))
    count = max(1, cap // length)
    # the first at the begin, the last at the end
    begin = np.unique(np.linspace(0, total - length, count).astype(np.int64))
    begin[1:] = np.maximum(begin[1:], begin[:-1] + length) if len(begin) > 1 else begin[1:]
    windows = np.stack([begin, np.minimum(begin + length, total)], axis=1)
    joins = np.flatnonzero(windows[1:, 0] <= windows[:-1, 1])
    first = np.delete(windows[:, 0], joins + 1)
    last = np.delete(windows[:, 1], joins)
    return np.stack([first, last], axis=1)
