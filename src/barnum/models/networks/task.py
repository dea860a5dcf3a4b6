"""What the trainer needs to know of a network and its data."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn


class Loss(NamedTuple):
    """Of several predictions: summed cross entropy in nats, how many were right, and how many there are."""

    total: Tensor
    right: int
    tried: int


class Task(Protocol):
    """Training data of one network, in items that are drawn in any order.

    ``items`` there are, each of ``per_item`` predictions (the last may hold fewer); ``piece`` items are
    computed at a time. ``given`` transfers of an epoch need no network (their site has one target): they
    count as learnt and right. ``optimiser`` is "adam" (with a schedule that ends at 0) or "rmsprop" (at a
    constant rate).
    """

    items: int
    per_item: int
    piece: int
    transfers: int
    given: int
    optimiser: str

    @property
    def network(self) -> nn.Module:
        """What is trained."""
        ...

    def to(self, device: torch.device) -> None:
        """Compute on a device."""
        ...

    def loss(self, items: NDArray[np.int64], generator: torch.Generator) -> Loss:
        """Loss of some items; random numbers come from the generator alone."""
        ...
