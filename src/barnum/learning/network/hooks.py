"""What is to be learnt, and what a caller may watch and steer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

from barnum.learning.network.checkpoint import CheckpointFolder


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


class InterruptedTrainingError(Exception):
    """Training was interrupted, after saving a checkpoint where there is a place for one."""
