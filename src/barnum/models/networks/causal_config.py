"""Sizes and tables of the causal network, without the code that trains it."""

from __future__ import annotations

import itertools
from typing import Annotated

import msgspec
import numpy as np
from numpy.typing import NDArray

from barnum.models.arrays import Shapes
from barnum.sequences import FURTHER, LENGTHS, LEVELS, Vocabulary

# logit of a rank that a site does not have
NEVER = -1e4
MOST_RANKS = 256
# sites of up to so many targets are computed together
_NARROW = (4, 16, 64)
_Size = Annotated[int, msgspec.Meta(ge=1, le=1 << 26)]


class CausalConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Sizes. ``sites`` M are those of the vocabulary with several targets, ``targets`` T all of its targets;
    ``ranks`` R, of which the last stands for all further targets of a site; ``lengths`` K of contexts."""

    sites: _Size
    targets: _Size
    units: Annotated[int, msgspec.Meta(ge=1, le=4096)] = 128
    ranks: Annotated[int, msgspec.Meta(ge=2, le=MOST_RANKS)] = 32
    lengths: list[Annotated[int, msgspec.Meta(ge=1, le=1024)]] = msgspec.field(
        default_factory=lambda: list(LENGTHS)
    )

    def __post_init__(self) -> None:
        if not 1 <= len(self.lengths) <= 16:
            raise ValueError("contexts have 1 to 16 lengths")
        if any(b <= a for a, b in itertools.pairwise(self.lengths)):
            raise ValueError("lengths of contexts ascend")


def shapes(config: CausalConfig) -> Shapes:
    """Shapes of the network's numbers by name; all are f32."""
    units, ranks = config.units, config.ranks
    cells = (len(config.lengths) + 1) * LEVELS  # of the longest known context: its length and level
    return {
        "site.weight": (config.sites, units),
        "previous.weight": (config.targets + 2, units),
        "gate.weight": (config.sites, units),
        "out.weight": (ranks, units),
        "out.bias": (ranks,),
        "sure.weight": (2 * cells, 1),
        "further_sure.weight": (FURTHER * cells, 1),
        "strength.weight": (len(config.lengths) * LEVELS, 1),
        "prior": (config.sites, ranks),
        "escape": (2 * cells,),
    }


def groups_of(width: NDArray[np.int64], ranks: int) -> list[tuple[int, NDArray[np.int64]]]:
    """Rows whose sites have about as many targets, of ``width`` i64[n]: a number of ranks that none exceeds
    and the rows i64[k], for each group that has any. What a network computes for a site is as wide as the
    group's widest."""
    groups, least = [], 0
    for most in (*(narrow for narrow in _NARROW if narrow < ranks), ranks):
        rows = np.flatnonzero((width > least) & (width <= most) if most < ranks else width > least)
        if len(rows):
            groups.append((most, rows))
        least = most
    return groups


def cells_of(level: NDArray[np.uint8], reach: NDArray[np.uint8]) -> NDArray[np.int64]:
    """i64[n]: how far the longest known context reaches and how sure it is, as one number.

    Of ``level`` u8[n, K] and ``reach`` u8[n]: the number k of its length (0: none is known) · LEVELS + its
    level, and (K + 1) · LEVELS more where the history has no room for a longer one.
    """
    count, lengths = level.shape
    longest = np.where(level > 0, np.arange(1, lengths + 1), 0).max(axis=1, initial=0)
    cut = np.where(reach == longest, lengths + 1, 0)
    cells: NDArray[np.int64] = (cut + longest) * LEVELS
    cells += level[np.arange(count), np.maximum(longest - 1, 0)]
    return cells


def favoured_by(rank: NDArray[np.uint8], cell: NDArray[np.int64]) -> NDArray[np.uint8]:
    """u8[n]: the rank that the longest known context favours, of ``rank`` u8[n, K]."""
    longest = cell // LEVELS % (rank.shape[1] + 1)
    favoured: NDArray[np.uint8] = rank[np.arange(len(rank)), np.maximum(longest - 1, 0)]
    return favoured


def multi_sites(vocabulary: Vocabulary) -> NDArray[np.int32]:
    """i32[S + 1]: the number of each site among those with several targets; 0 for the others, and for a site
    never seen."""
    several = np.diff(vocabulary.site_first) > 1
    number = np.where(several, np.cumsum(several) - 1, 0)
    return np.append(number, 0).astype(np.int32)


def prior_of(vocabulary: Vocabulary, ranks: int) -> NDArray[np.float32]:
    """f32[M, ranks]: logarithm of (count + 1/2), normalised a site with several targets; further targets add
    up in the last rank."""
    table = np.zeros((len(vocabulary.site), ranks))
    np.add.at(
        table,
        (vocabulary.edge_site, np.minimum(vocabulary.edge_rank, ranks - 1)),
        vocabulary.edge_count + 0.5,
    )
    table = table[np.diff(vocabulary.site_first) > 1]
    if not len(table):
        return np.full((1, ranks), NEVER, np.float32)
    with np.errstate(divide="ignore"):
        share = np.log(table / table.sum(axis=1, keepdims=True))
    return np.where(table > 0, share, NEVER).astype(np.float32)
