"""Which transfers of a trace a network learns: all, or windows spread evenly over it, with loops folded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec
import numpy as np
from numpy.typing import NDArray

from barnum._sequences import Loops
from barnum.paths import Transfers

Bool = NDArray[np.bool_]
I64 = NDArray[np.int64]

# transfers in one window; windows are shorter if there would be fewer than _LEAST_WINDOWS
_WINDOW = 4096
_LEAST_WINDOWS = 16


class Selection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How transfers are selected; loops are folded first.

    Attributes:
        max_transfers: transfers of a trace that are kept, in windows spread evenly over it; None: all.
        fold_loops: rounds of a loop (of at most 64 transfers) that are kept; None: all.
    """

    max_transfers: int | None = None
    fold_loops: int | None = None

    def windows(self, total: int) -> I64:
        """i64[w, 2]: begin and end of each window over ``total`` transfers, ascending; adjoining windows are
        joined."""
        if self.max_transfers is None or total <= self.max_transfers:
            return np.array([[0, total]], np.int64)
        return spread(total, self.max_transfers)

    def select(self, parts: Iterable[Transfers], total: int) -> Iterator[Transfers]:
        """The selected transfers of a run, part by part.

        ``total`` is the number of transfers after folding. ``first`` is also set at the beginning of each
        window.
        """
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
        """i64[p]: indices of those of the next m transfers that are selected, and bool[p]: whether a model's
        state starts anew before each (as in the run, or because a window begins)."""
        at = self._folding.keep(part)
        number = np.arange(self._passed, self._passed + len(at))
        self._passed += len(at)
        window = np.searchsorted(self._windows[:, 0], number, side="right") - 1
        inside = (window >= 0) & (number < self._windows[window, 1])
        begins = number == self._windows[window, 0]
        carried = np.zeros(len(at) + 1, np.bool_)
        # a restart at a transfer that was folded away is marked at the next one
        carried[np.searchsorted(at, np.flatnonzero(part.first))] = True
        return at[inside], (carried[:-1] | begins)[inside]

    def folded(self, part: Transfers) -> int:
        """How many of the next m transfers are left after folding."""
        return len(self._folding.keep(part))


class _Folding:
    def __init__(self, rounds: int | None) -> None:
        self._loops = None if rounds is None else Loops(rounds)

    def keep(self, part: Transfers) -> I64:
        """Indices of those of the next transfers that are kept. After a loop that was folded, the state does
        not start anew: the rounds that were kept are context enough."""
        if self._loops is None:
            return np.arange(len(part))
        key = (part.source.astype(np.uint64) << np.uint64(32)) | part.target
        return np.flatnonzero(self._loops.mark(key, np.ascontiguousarray(part.first)))


def spread(total: int, cap: int) -> I64:
    """i64[w, 2]: begin and end of windows spread evenly over ``total`` transfers, of at most ``cap`` (less
    than ``total``) transfers in all."""
    length = max(1, min(_WINDOW, cap // _LEAST_WINDOWS))
    count = max(1, cap // length)
    # the first window at the beginning, the last at the end
    begin = np.unique(np.linspace(0, total - length, count).astype(np.int64))
    begin[1:] = np.maximum(begin[1:], begin[:-1] + length) if len(begin) > 1 else begin[1:]
    windows = np.stack([begin, np.minimum(begin + length, total)], axis=1)
    joins = np.flatnonzero(windows[1:, 0] <= windows[:-1, 1])
    first = np.delete(windows[:, 0], joins + 1)
    last = np.delete(windows[:, 1], joins)
    return np.stack([first, last], axis=1)
