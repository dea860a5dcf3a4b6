"""The causal network: counts of what followed the same context in training, corrected by what it learns.

A site leads to few targets, so the network never chooses among all of them: it predicts the *rank* of the
target among the site's own (by how often training took it). Sites with one target need no network.

Logits are made of three parts, all of them over ranks:

    the logarithm of a back-off n-gram with measured confidence: the three ranks that followed the longest
    known context most often have the shares of times that contexts of that length and level were right about
    training runs they had not counted; the site's other targets share the rest by their frequencies
  + for each length of context a learnt strength of its level, for the rank it favours
  + a layer of units over the site and the target of the transfer before: tanh(a[site] + b[previous])

The first part alone is where learning starts, and all there is where a history is too short for a longer
context than the one known: shares are measured apart for that, on whole histories taken as shorter.
"""

from __future__ import annotations

import itertools
from typing import Annotated

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from barnum.sequences import FURTHER, LENGTHS, LEVELS

# logit of a rank that a site does not have
NEVER = -1e4
# as good as none, but small enough to be taken away again from a 32-bit number
_NONE = -40.0
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


class Causal(nn.Module):
    """See the module's text. n predictions, U units, R ranks, K lengths of contexts."""

    prior: Tensor
    escape: Tensor
    row: Tensor
    place: Tensor

    def __init__(self, config: CausalConfig) -> None:
        super().__init__()
        self.config = config
        units, lengths = config.units, len(config.lengths)
        self.site = nn.Embedding(config.sites, units)
        self.previous = nn.Embedding(config.targets + 2, units)  # T: a target never seen, T + 1: none
        self.gate = nn.Embedding(config.sites, units)  # which of the units matter for the site's targets
        self.out = nn.Linear(units, config.ranks)
        # log odds of the rank that the longest known context favours, by its cell (see cells_of)
        self.sure = nn.Embedding(2 * (lengths + 1) * LEVELS, 1)
        # of those that followed next to most often, where none before was right: by place, length and level
        self.further_sure = nn.Embedding(FURTHER * (lengths + 1) * LEVELS, 1)
        self.strength = nn.Embedding(lengths * LEVELS, 1)
        nn.init.normal_(self.site.weight, std=0.3)
        nn.init.normal_(self.previous.weight, std=0.3)
        nn.init.normal_(self.gate.weight, mean=1.0, std=0.3)
        nn.init.normal_(self.out.weight, std=0.02)
        nn.init.zeros_(self.out.bias)
        nn.init.zeros_(self.sure.weight)
        nn.init.zeros_(self.further_sure.weight)
        nn.init.zeros_(self.strength.weight)
        # [M, R] logarithm of the share of each rank of a site; NEVER where it has none
        self.register_buffer("prior", torch.full((config.sites, config.ranks), NEVER))
        # [2 (K + 1) LEVELS] logarithm of the share of transfers that are new, by cell
        self.register_buffer("escape", torch.zeros(2 * (lengths + 1) * LEVELS))
        self.register_buffer("place", torch.arange(FURTHER) * (lengths + 1) * LEVELS, persistent=False)
        self.register_buffer("row", torch.arange(lengths) * LEVELS, persistent=False)

    def forward(
        self,
        site: Tensor,
        previous: Tensor,
        rank: Tensor,
        level: Tensor,
        further: Tensor,
        further_level: Tensor,
        reach: Tensor,
        ranks: int | None = None,
    ) -> Tensor:
        """Logits f32[n, R].

        ``site`` i64[n] (of those with several targets), ``previous`` i64[n] target of the transfer before,
        and what contexts tell (see Hints; all i64): ``rank`` and ``level`` [n, K], ``further`` and
        ``further_level`` [n, FURTHER], ``reach`` [n]. With ``ranks``, which no site here may exceed, only
        so many: f32[n, ranks].
        """
        row, levels = self.row, (len(self.row) + 1) * LEVELS
        longest = torch.where(level > 0, row + LEVELS, 0).amax(dim=1, keepdim=True)  # [n, 1] 0: none
        at = (longest // LEVELS - 1).clamp(min=0)
        cut = reach.unsqueeze(1) * LEVELS == longest
        first = rank.gather(1, at)
        sure = self.sure(torch.where(cut, levels, 0) + longest + level.gather(1, at)).squeeze(2)
        told = torch.cat([longest > 0, further_level > 0], dim=1)  # [n, 1 + F]
        further_sure = self.further_sure(longest + further_level + self.place).squeeze(2)  # [n, F]
        odds = torch.where(told, torch.cat([sure, further_sure], dim=1), NEVER)
        # each of the told ranks has its share of what those before it leave; the others share the rest by
        # their frequencies
        left = nn.functional.logsigmoid(-odds).cumsum(dim=1)
        share = nn.functional.logsigmoid(odds)
        share[:, 1:] = share[:, 1:] + left[:, :-1]
        who = torch.where(told, torch.cat([first, further], dim=1), first)
        prior = self.prior[:, :ranks][site]  # [n, R]
        others = torch.where(longest > 0, prior.scatter(1, who, _NONE), prior)
        rest = torch.logsumexp(others, dim=1, keepdim=True).clamp(min=_NONE)
        base = others - rest + left[:, -1:]
        base = base.scatter_add(1, who, torch.where(told, share - base.gather(1, who), 0.0))
        strength = self.strength(level + row).squeeze(2)  # [n, K]
        h = torch.tanh(self.site(site) + self.previous(previous)) * self.gate(site)  # [n, U]
        # what is learnt speaks of whole histories
        whole = ~cut | (longest == len(row) * LEVELS)
        out = nn.functional.linear(h, self.out.weight[:ranks], self.out.bias[:ranks])
        logits: Tensor = base + torch.where(whole, out, 0.0)
        return logits.scatter_add(1, rank, torch.where(whole & (level > 0), strength, 0.0))


def numbers(config: CausalConfig) -> int:
    """How many numbers a network of these sizes has, its table of frequencies included."""
    cells = ((5 + FURTHER) * len(config.lengths) + 4 + FURTHER) * LEVELS
    units, ranks = config.units, config.ranks
    return (
        (2 * config.sites + config.targets + 2) * units + (units + 1) * ranks + cells + config.sites * ranks
    )


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
