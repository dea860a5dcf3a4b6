"""What is to be learnt, and what a caller may watch and steer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

import msgspec

from barnum.learning.network.checkpoint import CheckpointFolder
from barnum.models.train_config import TrainConfig
from barnum.paths import Learn, PathReader
from barnum.sequences import (
    Selection,
    Tokens,
)

# opens a sample's path; what was made for that is gone when the context ends
OpenPath = Callable[[], AbstractContextManager[PathReader]]


class Spec(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be learnt, and by which network. Sizes that a network does not have are left aside."""

    network: str
    learn: Learn
    tokens: Tokens
    selection: Selection
    train: TrainConfig
    units: int = 128
    sequence_len: int = 32
    embedding: int = 128
    dropout: float = 0.5
    cudnn: bool = False


@dataclass(frozen=True, slots=True)
class Coverage:
    """How much of a training trace the network learns: ``kept`` of ``total`` transfers, ``folded`` of which
    were left when loops had been folded."""

    sample: str
    kept: int
    folded: int
    total: int


@contextmanager
def never_stopped() -> Iterator[Callable[[], bool]]:
    """Nobody stops training."""
    yield lambda: False


@dataclass(slots=True)
class Hooks:
    """What a caller may watch and steer. ``bar(name, total)`` opens a progress bar and gives the function
    that moves it; ``stoppable()`` is open while training may be stopped between two steps, and gives the
    function that says whether it is to be."""

    bar: Callable[[str, int], AbstractContextManager[Callable[[int], None]]]
    stoppable: Callable[[], AbstractContextManager[Callable[[], bool]]] = never_stopped
    status_minutes: float = float("inf")


@dataclass(slots=True)
class Keeping:
    """Checkpoints: where, when (see trainer.Checkpoints), and whether to go on from one."""

    folder: CheckpointFolder
    minutes: float | None = None
    best: bool = False
    early_stop: bool = False
    resume: bool = False
