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

import torch
from torch import Tensor, nn

from barnum.models.networks.causal_config import NEVER, CausalConfig
from barnum.sequences import FURTHER, LEVELS

# as good as none, but small enough to be taken away again from a 32-bit number
_NONE = -40.0


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
        hinted = torch.cat([longest > 0, further_level > 0], dim=1)  # [n, 1 + F]
        further_sure = self.further_sure(longest + further_level + self.place).squeeze(2)  # [n, F]
        odds = torch.where(hinted, torch.cat([sure, further_sure], dim=1), NEVER)
        # each of the told ranks has its share of what those before it leave; the others share the rest by
        # their frequencies
        left = nn.functional.logsigmoid(-odds).cumsum(dim=1)
        share = nn.functional.logsigmoid(odds)
        share[:, 1:] = share[:, 1:] + left[:, :-1]
        who = torch.where(hinted, torch.cat([first, further], dim=1), first)
        prior = self.prior[:, :ranks][site]  # [n, R]
        others = torch.where(longest > 0, prior.scatter(1, who, _NONE), prior)
        rest = torch.logsumexp(others, dim=1, keepdim=True).clamp(min=_NONE)
        base = others - rest + left[:, -1:]
        base = base.scatter_add(1, who, torch.where(hinted, share - base.gather(1, who), 0.0))
        strength = self.strength(level + row).squeeze(2)  # [n, K]
        h = torch.tanh(self.site(site) + self.previous(previous)) * self.gate(site)  # [n, U]
        # what is learnt speaks of whole histories
        whole = ~cut | (longest == len(row) * LEVELS)
        out = nn.functional.linear(h, self.out.weight[:ranks], self.out.bias[:ranks])
        logits: Tensor = base + torch.where(whole, out, 0.0)
        return logits.scatter_add(1, rank, torch.where(whole & (level > 0), strength, 0.0))
