"""How many distinct targets the sequences of blocks before transfers lead to, for every length."""

from __future__ import annotations

import numpy as np

from barnum._sequences import Targets
from barnum.paths.blocks import U64
from barnum.sequences.histories import Histories, parts

MOST = 100
"""So many targets, or more, are counted together."""

# bytes of tables; where more is needed, short and long sequences are counted in passes of their own. A table
# that grows takes three times its bytes for a moment, so a few times this is the most that is taken
_MEMORY = 1 << 30


def count_targets(path: Histories, longest: int, memory: int = _MEMORY) -> U64:
    """u64[longest, MOST]: for each length from 1 on, how many distinct sequences of it lead to 1, 2, … MOST
    (or more) distinct targets.

    Sequences are told apart by a hash of 61 bits: of ten million sequences of a length, two are taken for one
    with a chance of one in 40,000. The path is read once, and once more wherever the tables outgrow
    ``memory`` bytes; a single length may take more.

    Raises:
        ParsedTraceError: the path is broken.
    """
    counts = np.zeros((longest, MOST), np.uint64)
    count = parts()
    together = longest  # lengths that are counted in one pass, if they have room
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
        # what had room will have it again; shorter sequences are fewer
        together = (longest - shortest + 1) * (2 if 2 * _bytes(tables) < memory else 1)
        longest = shortest - 1
    return counts


def _bytes(tables: list[Targets]) -> int:
    return sum(table.bytes for table in tables)
