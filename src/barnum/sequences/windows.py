"""Stretches of training traces, spread evenly under a cap, and their layout in parallel lanes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from barnum.paths import Transfers
from barnum.sequences.parts import joined, part_of
from barnum.sequences.vocabulary import Encoded

# transfers in one stretch; state restarts at its begin, unless it continues the stretch before
WINDOW_TRANSFERS = 4096
_LEAST_WINDOWS = 16


class Spread:
    """Keeps at most ``cap`` of the transfers that pass by, in windows spread evenly over all of them.

    The number of transfers need not be known: when too many windows are held, every second one is dropped
    and only every second of those that follow is kept. So memory is bounded by twice the cap.
    """

    def __init__(self, cap: int | None, window: int = WINDOW_TRANSFERS) -> None:
        # a small cap is still spread
        self._window = window if cap is None else max(1, min(window, cap // _LEAST_WINDOWS))
        self._most = None if cap is None else max(1, cap // self._window)
        self._stride = 1
        self._held: list[tuple[int, Transfers]] = []
        self._index = 0
        self._rest: list[Transfers] = []
        self._waiting = 0
        self.total = 0

    def watch(self, parts: Iterable[Transfers]) -> Iterator[Transfers]:
        """Pass parts through."""
        for part in parts:
            self._take(part)
            yield part

    def _take(self, part: Transfers) -> None:
        self.total += len(part)
        begin = 0
        while begin < len(part):
            end = min(len(part), begin + self._window - self._waiting)
            self._rest.append(part_of(part, begin, end))
            self._waiting += end - begin
            begin = end
            if self._waiting == self._window:
                self._close()

    def _close(self) -> None:
        if self._index % self._stride == 0:
            self._held.append((self._index, joined(self._rest)))
            if self._most is not None and len(self._held) > 2 * self._most:
                self._held = self._held[::2]
                self._stride *= 2
        self._index += 1
        self._rest, self._waiting = [], 0

    def windows(self) -> list[Transfers]:
        """The chosen windows in order, after everything has passed; adjoining ones are joined."""
        held = list(self._held)
        if self._waiting and (self._index % self._stride == 0):
            held.append((self._index, joined(self._rest)))
        if self._most is not None and len(held) > self._most:
            chosen = np.unique(np.linspace(0, len(held) - 1, self._most).round().astype(int))
            held = [held[i] for i in chosen.tolist()]
        runs: list[list[Transfers]] = []
        last = -2
        for index, window in held:
            if index == last + 1:
                runs[-1].append(window)
            else:
                runs.append([window])
            last = index
        return [joined(run) for run in runs]


@dataclass(frozen=True, slots=True)
class Lanes:
    """Training data side by side: each array is [length, lanes], time first; every lane is one after the
    other.

    ``site`` i32, ``previous`` i32 (target of the transfer before; T: never seen, T + 1: none, state
    restarts), ``rank`` i32 (place of the target among those of its site; -1: not to be learnt, which fills
    the last lane up).
    """

    site: NDArray[np.int32]
    previous: NDArray[np.int32]
    rank: NDArray[np.int32]

    @property
    def transfers(self) -> int:
        """Number of transfers to learn."""
        return int((self.rank >= 0).sum())


def previous_targets(encoded: Encoded, none: int) -> NDArray[np.int32]:
    """i32[m]: target of the transfer before each one; ``none`` where state restarts."""
    previous = np.empty(len(encoded), np.int32)
    previous[:1] = none
    previous[1:] = encoded.target[:-1]
    previous[encoded.first] = none
    return previous


def lay_lanes(
    windows: Sequence[Encoded], edge_rank: NDArray[np.int32], none: int, lanes: int, steps: int, seed: int
) -> Lanes:
    """Put windows (in an order drawn by seed) one after another and cut that into ``lanes`` lanes of equal
    length.

    The length is a multiple of ``steps``. A lane may begin inside a window; its state then starts anew.
    """
    order = np.random.default_rng(seed).permutation(len(windows)).tolist()
    total = sum(len(window) for window in windows)
    length = -(-total // (lanes * steps)) * steps
    site = np.zeros(lanes * length, np.int32)
    previous = np.full(lanes * length, none, np.int32)
    rank = np.full(lanes * length, -1, np.int32)
    at = 0
    for index in order:
        window = windows[index]
        part = slice(at, at + len(window))
        site[part] = window.site
        previous[part] = previous_targets(window, none)
        previous[at] = none
        rank[part] = np.where(window.edge >= 0, edge_rank[window.edge], -1)
        at += len(window)
    previous[::length] = none
    shape = (lanes, length)
    return Lanes(*(np.ascontiguousarray(a.reshape(shape).T) for a in (site, previous, rank)))
