"""Counts the distinct targets to which sequences of blocks lead, for every length of sequences."""

from __future__ import annotations

import numpy as np

from barnum._sequences import Targets
from barnum.paths.blocks import U64
from barnum.sequences.histories import Histories, parts

MOST = 100
"""Sequences with this many distinct targets or more are counted together."""

# bytes of tables; if more are needed, short and long sequences are counted in separate passes. A table that
# grows takes three times its bytes for a moment, so memory may reach a few times this
_MEMORY = 1 << 30


def count_targets(path: Histories, longest: int, memory: int = _MEMORY) -> U64:
    """u64[longest, MOST]: for each length from 1 to ``longest``, how many distinct sequences lead to 1, 2, …
    MOST (or more) distinct targets.

    Sequences are compared by a hash of 61 bits: among ten million of a length, the chance that two are taken
    for one is one in 40,000. The path is read once. If the tables outgrow ``memory`` bytes, shorter sequences
    are left for further passes, each of which reads it again; a single length may take more than that.

    Raises:
        ParsedTraceError: the path is broken.
    """
    counts = np.zeros((longest, MOST), np.uint64)
    count = parts()
    together = longest  # number of lengths that are counted in one pass, if they have room
    while longest:
        shortest = max(1, longest - together + 1)
        tables = [Targets(longest, part, count) for part in range(count)]
        for table in tables:
            table.drop_below(shortest)
        for _ in path.count(tables):
            while _bytes(tables) > memory and shortest < longest:
                shortest = (shortest + longest + 1) // 2
                for table in tables:
                    table.drop_below(shortest)
        counts[shortest - 1 : longest] = sum(table.counts(MOST) for table in tables)
        # so many lengths will have room again, as shorter sequences are fewer
        together = (longest - shortest + 1) * (2 if 2 * _bytes(tables) < memory else 1)
        longest = shortest - 1
    return counts


def _bytes(tables: list[Targets]) -> int:
    return sum(table.bytes for table in tables)
