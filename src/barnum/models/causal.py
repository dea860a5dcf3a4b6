"""The causal network: one step of a GRU a transfer, and a softmax over the known targets of the site.

A site leads to few targets, so the network never chooses among all of them: it predicts the *rank* of the
target among the site's own (by how often training took it). Its logits add to the logarithm of those
frequencies, so that a site seen once is predicted by counting and one seen often by what came before.
"""

from __future__ import annotations

import itertools
from typing import cast

import msgspec
import torch
from torch import Tensor, nn

# logit of a rank that a site does not have
NEVER = -1e4


class CausalConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Sizes. ``sites`` S and ``targets`` T are those of the vocabulary."""

    sites: int
    targets: int
    units: int = 128
    embedding: int = 64
    ranks: int = 32  # the last stands for all further targets of a site


class Causal(nn.Module):
    """See the module's text. N lanes in parallel, L steps, U units, D embedding, R ranks."""

    prior: Tensor

    def __init__(self, config: CausalConfig) -> None:
        super().__init__()
        self.config = config
        size, units = config.embedding, config.units
        self.site = nn.Embedding(config.sites + 1, size)  # S: a site never seen
        self.previous = nn.Embedding(config.targets + 2, size)  # T: a target never seen, T + 1: none
        self.gru = nn.GRU(2 * size, units)
        self.gate = nn.Embedding(config.sites + 1, units)  # which of the units matter for the site's targets
        self.out = nn.Linear(units, config.ranks)
        nn.init.normal_(self.site.weight, std=0.3)
        nn.init.normal_(self.previous.weight, std=0.3)
        nn.init.normal_(self.gate.weight, mean=1.0, std=0.3)
        nn.init.normal_(self.out.weight, std=0.02)
        nn.init.zeros_(self.out.bias)
        # [S + 1, R] logarithm of the share of each rank of a site; NEVER where it has none
        self.register_buffer("prior", torch.full((config.sites + 1, config.ranks), NEVER))

    def forward(
        self, site: Tensor, previous: Tensor, state: Tensor, choices: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Logits [L, N, R] and the state [N, U] after them.

        ``site`` and ``previous`` are int64 [L, N]; where previous is T + 1 (none) the state restarts at zero.
        ``choices`` int64 [L, N] are the sites whose targets are ranked, where training hides the site itself.
        """
        restart = previous == self.config.targets + 1  # [L, N]
        x = torch.cat([self.site(site), self.previous(previous)], dim=2)  # [L, N, 2D]
        # restarts are rare: run from one to the next
        cuts = [0, *restart.any(dim=1).nonzero().flatten().tolist(), len(site)]
        hidden = []
        for begin, end in itertools.pairwise(cuts):
            if begin == end:
                continue
            state = state.masked_fill(restart[begin].unsqueeze(1), 0.0)
            part, last = self.gru(x[begin:end], state.unsqueeze(0))
            state = last.squeeze(0)
            hidden.append(part)
        h = torch.cat(hidden)  # [L, N, U]
        return self.head(h, site if choices is None else choices), state

    def head(self, h: Tensor, site: Tensor) -> Tensor:
        """Logits [..., R] of hidden states [..., U] at sites [...]."""
        return cast(Tensor, self.out(h * self.gate(site)) + self.prior[site])
