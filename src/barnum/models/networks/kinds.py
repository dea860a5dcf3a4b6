"""The kinds of networks there are."""

from __future__ import annotations

from barnum.models.networks.kind import Kind
from barnum.registry import Registry

# a kind by its name: that of --network, and of a model's document
NETWORKS: Registry[Kind] = Registry(
    "network",
    {
        "causal": "barnum.models.networks.causal_kind:CAUSAL",
        "paper": "barnum.models.networks.paper_kind:PAPER",
        "rote": "barnum.models.networks.rote_kind:ROTE",
    },
)
