"""The causal network: counts of what followed the same context in training, corrected by what it learns.

A site leads to few targets, so the network never chooses among all of them: it predicts the *rank* of the
target among the site's own (by how often training took it). Sites with one target need no network.

Logits are made of four parts, all of them over ranks:

    frequencies of the site's targets in training
  + the rank that followed the longest known context, so strongly that its probability becomes the share of
    times that contexts of that length and level were right about training runs they had not counted
  + for each length of context a learnt strength of its level, for the rank it favours
  + a layer of units over the site and the target of the transfer before: tanh(a[site] + b[previous])

The second part alone is a back-off n-gram with measured confidence; it is where learning starts.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from barnum.sequences import LENGTHS, LEVELS

# logit of a rank that a site does not have
NEVER = -1e4
MOST_RANKS = 256

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


class Causal(nn.Module):
    """See the module's text. n predictions, U units, R ranks, K lengths of contexts."""

    prior: Tensor
    escape: Tensor
    row: Tensor

    def __init__(self, config: CausalConfig) -> None:
        super().__init__()
        self.config = config
        units, lengths = config.units, len(config.lengths)
        self.site = nn.Embedding(config.sites, units)
        self.previous = nn.Embedding(config.targets + 2, units)  # T: a target never seen, T + 1: none
        self.gate = nn.Embedding(config.sites, units)  # which of the units matter for the site's targets
        self.out = nn.Linear(units, config.ranks)
        # log odds of the rank that the longest known context favours, by its length (0: none is known)
        self.sure = nn.Embedding((lengths + 1) * LEVELS, 1)
        self.strength = nn.Embedding(lengths * LEVELS, 1)
        nn.init.normal_(self.site.weight, std=0.3)
        nn.init.normal_(self.previous.weight, std=0.3)
        nn.init.normal_(self.gate.weight, mean=1.0, std=0.3)
        nn.init.normal_(self.out.weight, std=0.02)
        nn.init.zeros_(self.out.bias)
        nn.init.zeros_(self.sure.weight)
        nn.init.zeros_(self.strength.weight)
        # [M, R] logarithm of the share of each rank of a site; NEVER where it has none
        self.register_buffer("prior", torch.full((config.sites, config.ranks), NEVER))
        # [(K + 1) * LEVELS] logarithm of the share of transfers that are new, by the longest known context
        self.register_buffer("escape", torch.zeros((lengths + 1) * LEVELS))
        self.register_buffer("row", torch.arange(lengths) * LEVELS, persistent=False)

    def forward(self, site: Tensor, previous: Tensor, rank: Tensor, level: Tensor) -> Tensor:
        """Logits f32[n, R].

        ``site`` i64[n] (of those with several targets), ``previous`` i64[n] target of the transfer before,
        ``rank`` i64[n, K] that each context favours, ``level`` i64[n, K] how sure it is (0: not known).
        """
        h = torch.tanh(self.site(site) + self.previous(previous)) * self.gate(site)  # [n, U]
        prior = self.prior[site]  # [n, R]
        row = self.row
        strength = self.strength(level + row).squeeze(2)  # [n, K]
        longest = torch.where(level > 0, row + LEVELS, 0).amax(dim=1)  # [n] 0: none
        at = (longest // LEVELS - 1).clamp(min=0).unsqueeze(1)  # [n, 1]
        favoured = rank.gather(1, at)
        frequency = prior.gather(1, favoured).clamp(-12.0, -1e-4)
        odds = frequency - torch.log(-torch.expm1(frequency))
        sure = self.sure(longest.unsqueeze(1) + level.gather(1, at)).squeeze(2) - odds
        known = (longest > 0).unsqueeze(1)
        logits: Tensor = self.out(h) + prior
        logits = logits.scatter_add(1, favoured, torch.where(known, sure, torch.zeros_like(sure)))
        return logits.scatter_add(1, rank, torch.where(level > 0, strength, torch.zeros_like(strength)))


def numbers(config: CausalConfig) -> int:
    """How many numbers a network of these sizes has, its table of frequencies included."""
    cells = (3 * len(config.lengths) + 2) * LEVELS
    units, ranks = config.units, config.ranks
    return (
        (2 * config.sites + config.targets + 2) * units + (units + 1) * ranks + cells + config.sites * ranks
    )


def cells_of(level: NDArray[np.uint8]) -> NDArray[np.int64]:
    """i64[n]: length and level of the longest known context as one number, of ``level`` u8[n, K]."""
    count, lengths = level.shape
    longest = np.where(level > 0, np.arange(1, lengths + 1), 0).max(axis=1, initial=0)
    cells: NDArray[np.int64] = longest * LEVELS + level[np.arange(count), np.maximum(longest - 1, 0)]
    return cells


def favoured_by(rank: NDArray[np.uint8], cell: NDArray[np.int64]) -> NDArray[np.uint8]:
    """u8[n]: the rank that the longest known context favours, of ``rank`` u8[n, K]."""
    favoured: NDArray[np.uint8] = rank[np.arange(len(rank)), np.maximum(cell // LEVELS - 1, 0)]
    return favoured
