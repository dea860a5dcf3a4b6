"""A learnt model: what it is (a document that JSON holds), and its numbers.

The numbers are the network's (``network.*``), what training saw (``vocabulary.*``), the rates of what is new
(``rates.*``) and, by network, what else it needs (``names.*``: its own vocabulary where that is not of whole
blocks; ``memory.*``: transfers whose contexts it counts; ``blocks.*``: blocks that windows may show;
``runs.*``: transfers of the runs that a rote learner has learnt; ``mixture.*``: a rote learner beside the
network, and their weights). Document and numbers carry the same identity, so that weights are not read under
another model's document. How they lie in files: :mod:`barnum.models.saved`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from barnum import __version__
from barnum.evaluations import Calibration
from barnum.evidence.known import Known
from barnum.models.arrays import Arrays
from barnum.models.networks.kind import Network
from barnum.models.networks.rote import RoteConfig
from barnum.models.train_config import Progress, TrainConfig
from barnum.paths import Learn
from barnum.sequences import Rates, Selection, Tokens, Vocabulary

if TYPE_CHECKING:  # few models have one
    from barnum.models.networks.mixture import Mixture

SCHEMA = 3


class ModelDocument(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The JSON file of a model. ``config``: the network's sizes; ``progress`` is there in checkpoints.
    ``samples`` are all that any part of it has learnt; ``known`` is what these show of evidence and effects,
    None where that is not known of each."""

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
    known: Known | None = None
    mixture: RoteConfig | None = None  # of the rote learner beside the network
    progress: Progress | None = None
    sha256: str | None = None  # of the file of weights, in checkpoints
    best: bool = False  # whether a checkpoint had the least loss


@dataclass(frozen=True, slots=True, repr=False)
class Model:
    """All that scoring needs. ``document`` is None for an imported Keras model, which does not know what its
    training saw: it has no vocabulary and no rates."""

    network: Network
    tokens: Tokens
    identity: str = ""
    document: ModelDocument | None = None
    vocabulary: Vocabulary | None = None  # whole blocks
    names: Vocabulary | None = None  # in the network's tokens
    rates: Rates | None = None
    extra: Arrays = field(default_factory=dict)
    mixture: Mixture | None = None

    def __repr__(self) -> str:
        document = self.document
        what = "Keras" if document is None else document.network
        learnt = "" if document is None else f", {len(document.samples)} samples learnt"
        return f"<Model {self.identity[:16]}: {what}{' with rote' if self.mixture else ''}{learnt}>"

    def arrays(self, counted: Arrays | None = None) -> Arrays:
        """All numbers of the model by name; ``counted`` are those of the network, where they are there
        already."""
        arrays_by_name = network_arrays(self.network) if counted is None else counted
        parts: list[tuple[str, Any]] = [
            ("vocabulary", self.vocabulary),
            ("rates", self.rates),
            ("mixture", self.mixture),
        ]
        if self.names is not self.vocabulary:
            parts.append(("names", self.names))
        for part, holder in parts:
            if holder is not None:
                arrays_by_name |= {f"{part}.{name}": array for name, array in holder.arrays().items()}
        return arrays_by_name | self.extra

    def knowing(self, known: Known | None) -> Model:
        """The model whose document says what learnt runs show of evidence and effects."""
        if self.document is None:
            return self
        return replace(self, document=msgspec.structs.replace(self.document, known=known))

    def documented(self, document: ModelDocument, identity: str | None = None) -> Model:
        """The model with a document, both under the identity of its numbers; ``identity`` where that is known
        already."""
        identity = identity_of(self.arrays()) if identity is None else identity
        document = msgspec.structs.replace(document, identity=identity)
        return replace(self, identity=identity, document=document)


def network_arrays(network: Network) -> Arrays:
    """The numbers of a network by the names that they have in a model."""
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


def document_of(
    network: Network,
    *,
    name: str,
    tokens: Tokens,
    learn: Learn,
    train: TrainConfig | None,
    selection: Selection,
    samples: tuple[str, ...],
    calibration: Calibration,
) -> ModelDocument:
    """The document of a model that is being learnt; see Model.documented()."""
    return ModelDocument(
        schema=SCHEMA,
        version=__version__,
        network=name,
        config=msgspec.to_builtins(network.config),
        tokens=tokens,
        learn=learn,
        train=train,
        selection=selection,
        samples=samples,
        calibration=calibration,
        identity="",
    )
