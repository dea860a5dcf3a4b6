"""A learnt model in two files: a JSON document that says what it is, and safetensors with all its numbers.

The weights hold the network's tensors (``network.*``), the vocabulary (``vocabulary.*``) and the rates of
what is new (``rates.*``). Both files carry the same identity, so that weights are not read under another
model's document.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from barnum import __version__
from barnum.errors import ModelError
from barnum.files import write_whole
from barnum.models.causal import Causal, CausalConfig
from barnum.models.trainer import TrainConfig
from barnum.paths import Learn
from barnum.sequences import Rates, Vocabulary

SCHEMA = 1
_LARGEST_DOCUMENT = 64 << 20
_LARGEST_SIZE = 1 << 16


class Calibration(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Scores of nominal runs that the rates behind them did not see; see sequences/novelty.py."""

    score: str
    window: int
    scores: tuple[float, ...]


class ModelDocument(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The JSON file of a model."""

    schema: int
    version: str
    network: str
    config: CausalConfig
    learn: Learn
    train: TrainConfig
    samples: tuple[str, ...]
    max_transfers: int | None
    calibration: Calibration
    identity: str


@dataclass(frozen=True, slots=True)
class Model:
    """All that scoring needs."""

    document: ModelDocument
    network: Causal
    vocabulary: Vocabulary
    rates: Rates


def identity_of(network: Causal, vocabulary: Vocabulary) -> str:
    """SHA-256 over a network's weights and its vocabulary."""
    digest = hashlib.sha256()
    for name, tensor in network.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.numpy().tobytes())
    for name, array in vocabulary.arrays().items():
        digest.update(name.encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def new_document(
    network: Causal,
    vocabulary: Vocabulary,
    *,
    learn: Learn,
    train: TrainConfig,
    samples: tuple[str, ...],
    max_transfers: int | None,
    calibration: Calibration,
) -> ModelDocument:
    """The document of a model that was just learnt."""
    return ModelDocument(
        schema=SCHEMA,
        version=__version__,
        network="causal",
        config=network.config,
        learn=learn,
        train=train,
        samples=samples,
        max_transfers=max_transfers,
        calibration=calibration,
        identity=identity_of(network, vocabulary),
    )


def save_document(file: Path, document: ModelDocument) -> None:
    """Write the JSON file."""
    write_whole(file, msgspec.json.format(msgspec.json.encode(document)) + b"\n")


def save_weights(file: Path, model: Model) -> None:
    """Write the safetensors file."""
    arrays: dict[str, NDArray[Any]] = {}
    for name, tensor in model.network.state_dict().items():
        arrays[f"network.{name}"] = tensor.numpy()
    for name, array in model.vocabulary.arrays().items():
        arrays[f"vocabulary.{name}"] = array
    for name, array in model.rates.arrays().items():
        arrays[f"rates.{name}"] = array
    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    # one key only: safetensors writes several in any order, and equal models are to be equal files
    write_whole(file, save(contiguous, metadata={"identity": model.document.identity}))


def load_document(file: Path) -> ModelDocument:
    """Read the JSON file.

    Raises:
        ModelError: it is missing, no such document, or of another schema.
    """
    try:
        if file.stat().st_size > _LARGEST_DOCUMENT:
            raise ModelError(f"{file}: too large for a model's document")
        data = file.read_bytes()
    except OSError as error:
        raise ModelError(f"{file}: cannot be read ({error.strerror or error})") from None
    try:
        head = msgspec.json.decode(data, type=dict[str, Any])
        if head.get("schema") != SCHEMA:
            raise ModelError(
                f"{file}: has schema {head.get('schema')!r}, this version reads {SCHEMA}: "
                "learn the model anew"
            )
        document = msgspec.json.decode(data, type=ModelDocument)
    except msgspec.MsgspecError as error:
        raise ModelError(f"{file}: is no model's document ({error})") from None
    if document.network != "causal":
        raise ModelError(f"{file}: network {document.network!r} is unknown here")
    return document


def load_model(document_file: Path, weights_file: Path) -> Model:
    """Read both files of a model.

    Raises:
        ModelError: a file is missing or broken, the weights belong to another model, have other shapes, or
        are not
            finite.
    """
    document = load_document(document_file)
    try:
        with safe_open(weights_file, framework="numpy") as opened:
            identity = (opened.metadata() or {}).get("identity")
            if identity != document.identity:
                raise ModelError(f"{weights_file}: belongs to another model than {document_file}")
            arrays = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{weights_file}: cannot be read as safetensors ({error})") from None
    parts: dict[str, dict[str, Any]] = {"network": {}, "vocabulary": {}, "rates": {}}
    for name, array in arrays.items():
        part, _, rest = name.partition(".")
        if part not in parts:
            raise ModelError(f"{weights_file}: holds {name!r}, which belongs to no part of a model")
        parts[part][rest] = array
    vocabulary = Vocabulary.from_arrays(parts["vocabulary"])
    network = _network(weights_file, document.config, vocabulary, parts["network"])
    return Model(document, network, vocabulary, Rates.from_arrays(parts["rates"]))


def _network(
    file: Path, config: CausalConfig, vocabulary: Vocabulary, arrays: dict[str, NDArray[Any]]
) -> Causal:
    if (config.sites, config.targets) != (len(vocabulary.site), len(vocabulary.target)):
        raise ModelError(f"{file}: its vocabulary has other sizes than the model's document says")
    if not all(1 <= size <= _LARGEST_SIZE for size in (config.units, config.embedding, config.ranks)):
        raise ModelError(f"{file}: the model's document has sizes outside 1 … {_LARGEST_SIZE:,}")
    with torch.device("meta"):
        # shapes alone, so that absurd sizes in a document take no memory
        wanted = {name: tuple(tensor.shape) for name, tensor in Causal(config).state_dict().items()}
    found = {name: array.shape for name, array in arrays.items()}
    if wanted != found:
        odd = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
        raise ModelError(
            f"{file}: {odd[0]} is {found.get(odd[0], 'missing')}, "
            f"the model wants {wanted.get(odd[0], 'none')}"
        )
    for name, array in arrays.items():
        if array.dtype != np.float32 or not bool(np.isfinite(array).all()):
            raise ModelError(
                f"{file}: {name} holds values that are no finite 32-bit numbers: learn the model anew"
            )
    network = Causal(config)
    network.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()})
    return network
