"""How a network is trained, and how far that has come."""

from __future__ import annotations

import msgspec


class TrainConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How to train. ``batch_size`` is the most transfers in a step of the optimiser, for each process;
    ``learning_decay`` divides the rate by 1 + decay · step. ``mixed_precision``: products in 16 bits;
    ``compile``: by torch.compile. Networks for which that does not pay leave them aside."""

    epochs: int
    batch_size: int = 8192
    learning_rate: float
    learning_decay: float = 0.0
    seed: int = 0
    mixed_precision: bool = False
    compile: bool = False


class Epoch(msgspec.Struct, frozen=True, kw_only=True):
    """What an epoch brought: mean ``loss`` in nats a transfer, ``accuracy`` 0…1, ``transfers`` learnt,
    seconds (of this process, since it began or resumed)."""

    number: int
    loss: float
    accuracy: float
    transfers: int
    seconds: float


class Progress(msgspec.Struct, kw_only=True):
    """How far training has come; together with the network and the optimiser's tensors all of its state."""

    processes: int = 1
    ended: bool = False  # a checkpoint ended training
    epoch: int = 1
    step: int = 0  # within the epoch
    steps: int = 0  # since the begin
    loss: float = 0.0  # sums over this epoch
    right: int = 0
    count: int = 0
    recent_loss: float = 0.0  # sums since the last checkpoint
    recent_count: int = 0
    checkpoint_loss: float | None = None  # mean loss up to the last checkpoint, and of the best one
    best_loss: float | None = None
    best_steps: int | None = None
    epochs: list[Epoch] = msgspec.field(default_factory=list)
