"""Windows of blocks for the paper's network: the last blocks of the path up to a transfer, and its target."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from barnum.models.networks.paper import Paper
from barnum.models.networks.paper_windows import PaperConfig, WindowTokens
from barnum.models.networks.task import Loss
from barnum.paths import Windows
from barnum.sequences import Picker, Spool

# windows of a piece, and made at once
_PIECE = 512
_PART = 1 << 16

I64 = NDArray[np.int64]


class WindowData:
    """Collects the windows of training runs, then makes a task of them."""

    def __init__(self, names: WindowTokens, length: int) -> None:
        self._names = names
        self._length = length
        self._rows = Spool({"window": (np.int32, (length,)), "target": (np.int32, ())})

    def add(self, run: Iterable[Windows], picker: Picker) -> None:
        """The windows of one run, part by part; the picker chooses among them."""
        for part in run:
            at, _ = picker.pick(part.transfers)
            target = self._names.targets(part)
            for begin in range(0, len(at), _PART):
                some = at[begin : begin + _PART]
                if not len(some):
                    continue
                low, high = int(some[0]), int(some[-1]) + 1
                window = self._names.windows(part, self._length, slice(low, high))[some - low]
                self._rows.append(window=window, target=target[some])

    @property
    def transfers(self) -> int:
        """Windows collected so far."""
        return len(self._rows)

    def task(
        self, config: PaperConfig, count: NDArray[np.int64] | None, seen: NDArray[np.int64] | None
    ) -> PaperTask:
        """The task. ``count`` i64[B] and ``seen`` i64[T]: how often training met each block and target."""
        return PaperTask(Paper(config), self._rows, count, seen)


class PaperTask:
    """See networks/task.py. ``mixed_precision``: the LSTMs' products in 16 bits (bfloat16)."""

    per_item = 1
    piece = _PIECE
    given = 0
    optimiser = "rmsprop"
    network: nn.Module

    def __init__(
        self, network: Paper, rows: Spool, count: NDArray[np.int64] | None, seen: NDArray[np.int64] | None
    ) -> None:
        self.network = network
        self.mixed_precision = False
        self._arrays = rows.arrays()
        self.transfers = self.items = len(rows)
        # rare blocks and targets are shown as never seen, with chance 1 / (1 + count): so that both mean
        # something to the network
        self._hide_block = _hide(count, 2)
        self._hide_target = _hide(seen, 1)

    def to(self, device: torch.device) -> None:
        """Compute on a device."""
        self.network.to(device)
        if self._hide_block is not None and self._hide_target is not None:
            self._hide_block, self._hide_target = self._hide_block.to(device), self._hide_target.to(device)

    def loss(self, items: I64, generator: torch.Generator) -> Loss:
        device = next(self.network.parameters()).device
        window, target = (
            torch.from_numpy(np.asarray(self._arrays[name][items])).to(device, torch.int64)
            for name in ("window", "target")
        )
        if self._hide_block is not None and self._hide_target is not None:
            for tokens, hide, unseen in (
                (window, self._hide_block, len(self._hide_block) - 2),
                (target, self._hide_target, len(self._hide_target) - 1),
            ):
                hidden = torch.rand(tokens.shape, generator=generator, device=device) < hide[tokens]
                tokens.masked_fill_(hidden, unseen)
        kind = window.device.type
        with torch.autocast(kind, torch.bfloat16, enabled=self.mixed_precision):
            if self._hide_block is None:
                # programs repeat themselves: each distinct window is computed once
                distinct, rows = torch.unique(window, dim=0, return_inverse=True)
                logits = self.network(distinct, generator, rows)
            else:
                logits = self.network(window, generator)
        logits = logits.float()
        total = nn.functional.cross_entropy(logits, target, reduction="sum")
        return Loss(total, int((logits.argmax(dim=1) == target).sum()), len(items))


def _hide(count: NDArray[np.int64] | None, more: int) -> torch.Tensor | None:
    if count is None:
        return None
    chance = np.maximum(1 / (1 + count.astype(np.float64)), 1e-3)
    return torch.from_numpy(np.append(chance, np.zeros(more)).astype(np.float32))
