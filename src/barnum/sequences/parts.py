"""Cuts and joins the transfers of a run, which come part by part."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from barnum.paths import Transfers


def part_of(part: Transfers, begin: int, end: int) -> Transfers:
    """The transfers ``begin : end`` of a part, copied, so that the part itself can be freed."""
    return Transfers(
        part.blocks,
        part.source[begin:end].copy(),
        part.target[begin:end].copy(),
        part.position[begin:end].copy(),
        part.first[begin:end].copy(),
        part.entry[begin:end].copy(),
    )


def joined(parts: Sequence[Transfers]) -> Transfers:
    """Several parts of one run as one."""
    if len(parts) == 1:
        return parts[0]
    # the table of a path that is being decoded grows: the last one has all blocks
    return Transfers(
        parts[-1].blocks,
        np.concatenate([part.source for part in parts]),
        np.concatenate([part.target for part in parts]),
        np.concatenate([part.position for part in parts]),
        np.concatenate([part.first for part in parts]),
        np.concatenate([part.entry for part in parts]),
    )


def regroup(parts: Iterable[Transfers], size: int) -> Iterator[Transfers]:
    """The same transfers in parts of exactly ``size``, but for the last, which may be shorter."""
    held: list[Transfers] = []
    count = 0
    for part in parts:
        begin = 0
        while begin < len(part):
            end = min(len(part), begin + size - count)
            held.append(part_of(part, begin, end))
            count += end - begin
            begin = end
            if count == size:
                yield joined(held)
                held, count = [], 0
    if count:
        yield joined(held)
