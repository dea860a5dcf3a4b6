"""A learnt model in two files: a JSON document that says what it is, and its numbers (see arrays.py).

The numbers are the network's tensors (``network.*``), what training saw (``vocabulary.*``), the rates of what
is new (``rates.*``) and, by network, what else it needs (``names.*``: its own vocabulary where that is not
of whole blocks; ``memory.*``: transfers whose contexts it counts; ``blocks.*``: blocks that windows may
show; ``runs.*``: transfers of the runs that a rote learner has learnt; ``mixture.*``: a rote learner beside
the network, and their weights). Both files carry the same identity,
so that weights are not read under another model's document. A rote learner's two are also kept in one file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Any

import msgspec
import numpy as np
from torch import nn

from barnum.models.arrays import Arrays
from barnum.models.networks import causal, paper
from barnum.models.networks.causal import Causal, CausalConfig
from barnum.models.networks.mixture import Mixture
from barnum.models.networks.paper import Paper, PaperConfig
from barnum.models.networks.rote import RoteConfig, RoteNetwork
from barnum.models.train_config import Progress, TrainConfig
from barnum.paths import Learn
from barnum.sequences import Rates, Selection, Tokens, Vocabulary

SCHEMA = 3


# name → type of the configuration, of the network made of it, and how many numbers that has
NETWORKS: dict[str, tuple[type[Any], Callable[[Any], nn.Module], Callable[[Any], int]]] = {
    "causal": (CausalConfig, Causal, causal.numbers),
    "paper": (PaperConfig, Paper, paper.numbers),
}
ROTE = "rote"
KINDS = (*NETWORKS, ROTE)


class LeftOut(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A training run as a model sees it that was learnt without it: mean ``surprisal`` in nats, number of
    ``transfers`` and of ``distinct`` targets."""

    surprisal: Annotated[float, msgspec.Meta(ge=0, le=1e6)]
    transfers: Annotated[int, msgspec.Meta(ge=1, le=1 << 53)]
    distinct: Annotated[int, msgspec.Meta(ge=1, le=1 << 53)]


class Calibration(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Scores of nominal runs that the rates behind them did not see; see sequences/novelty.py. ``runs`` are
    training runs that were judged in folds; see rote_folds.py."""

    score: str
    window: Annotated[int, msgspec.Meta(ge=1, le=1 << 32)]
    scores: tuple[Annotated[float, msgspec.Meta(ge=0, le=1e12)], ...]
    runs: Annotated[tuple[LeftOut, ...], msgspec.Meta(max_length=1 << 20)] = ()


class ModelDocument(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The JSON file of a model. ``config``: the network's sizes; ``progress`` is there in checkpoints.
    ``samples`` are all that any part of it has learnt."""

    schema: int
    version: str
    network: str
    config: dict[str, Any]
    tokens: Tokens
    learn: Learn
    train: TrainConfig | None  # None: a rote learner
    selection: Selection
    samples: tuple[str, ...]
    calibration: Calibration
    identity: str
    mixture: RoteConfig | None = None  # of the rote learner beside the network
    progress: Progress | None = None
    sha256: str | None = None  # of the file of weights, in checkpoints
    best: bool = False  # whether a checkpoint had the least loss


@dataclass(slots=True)
class Model:
    """All that scoring needs. ``document`` is None for an imported Keras model, which does not know what its
    training saw: it has no vocabulary and no rates."""

    network: nn.Module | RoteNetwork
    tokens: Tokens
    identity: str
    document: ModelDocument | None = None
    vocabulary: Vocabulary | None = None  # whole blocks
    names: Vocabulary | None = None  # in the network's tokens
    rates: Rates | None = None
    extra: Arrays = field(default_factory=dict)
    mixture: Mixture | None = None

    def arrays(self, counted: Arrays | None = None) -> Arrays:
        """All numbers of the model by name; ``counted`` are those of the network, where they are there
        already."""
        found: Arrays
        if counted is not None:
            found = counted
        elif isinstance(self.network, RoteNetwork):
            found = counted_by(self.network)
        else:
            found = {
                f"network.{name}": tensor.detach().cpu().numpy()
                for name, tensor in self.network.state_dict().items()
            }
        parts: list[tuple[str, Any]] = [
            ("vocabulary", self.vocabulary),
            ("rates", self.rates),
            ("mixture", self.mixture),
        ]
        if self.names is not self.vocabulary:
            parts.append(("names", self.names))
        for part, made in parts:
            if made is not None:
                found |= {f"{part}.{name}": array for name, array in made.arrays().items()}
        return found | self.extra


def counted_by(network: RoteNetwork) -> Arrays:
    """The numbers of a rote learner's network by name."""
    return {f"network.{name}": array for name, array in network.arrays().items()}


class Identity:
    """SHA-256 over all numbers of a model, which come in the order of their names."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()

    def add(self, arrays: Arrays) -> None:
        """More numbers, whose names all come after those before them."""
        for name in sorted(arrays):
            self._digest.update(f"{name} {arrays[name].dtype.str} {arrays[name].shape}\n".encode())
            self._digest.update(np.ascontiguousarray(arrays[name]).data)

    def __str__(self) -> str:
        return self._digest.hexdigest()


def identity_of(arrays: Arrays) -> str:
    """SHA-256 over all numbers of a model."""
    identity = Identity()
    identity.add(arrays)
    return str(identity)
