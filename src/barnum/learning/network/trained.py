"""A network while it is trained."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from barnum.models.arrays import Arrays
from barnum.models.networks.kind import Weights


class TrainedNetwork:
    """The numbers of a network that is being trained, as they are at the time. ``config`` are its sizes."""

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self.config: Any = module.config

    def arrays(self) -> Arrays:
        """All numbers by name."""
        return {name: tensor.detach().cpu().numpy() for name, tensor in self._module.state_dict().items()}

    def load(self, arrays: Arrays) -> None:
        """Put other numbers in their place."""
        self._module.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()})

    def weights(self) -> Weights:
        """The numbers when training has ended."""
        return Weights(self.config, self.arrays())
