"""The processes that train together: one, or as many as torchrun has started."""

from __future__ import annotations

import os
from types import TracebackType

import torch
import torch.distributed as dist
from torch import Tensor

from barnum.errors import InputError
from barnum.learning.network.processes import launched
from barnum.models.threads import default_device


class World:
    """This process among those that train one model. ``rank`` 0 … ``size`` - 1; rank 0 writes the files."""

    def __init__(self, device: torch.device | None = None) -> None:
        """Join the others, where torchrun has set the variables for that; see launched()."""
        self.rank, self.size = 0, 1
        self._joined = False
        self.device = device or default_device()
        if launched():
            try:
                self.rank, self.size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
                if not 0 <= self.rank < self.size:
                    raise ValueError(f"RANK {self.rank} of WORLD_SIZE {self.size}")
                dist.init_process_group("nccl" if self.device.type == "cuda" else "gloo")
            except (KeyError, ValueError, RuntimeError) as error:
                raise InputError(f"cannot join the other processes of this training ({error})") from None
            self._joined = True

    def __enter__(self) -> World:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._joined:
            dist.destroy_process_group()

    @property
    def first(self) -> bool:
        """Whether this process writes and reports."""
        return self.rank == 0

    def add_up(self, numbers: Tensor) -> Tensor:
        """The sum over all processes, in place; the same everywhere."""
        if self.size > 1:
            dist.all_reduce(numbers)
        return numbers

    def wait(self) -> None:
        """Go on when all processes are here."""
        if self.size > 1:
            dist.barrier()
