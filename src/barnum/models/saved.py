"""Models in files: a JSON document that says what a model is, and its numbers."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from torch import nn

from barnum import __version__
from barnum.errors import ModelError
from barnum.files import read_bounded, write_whole
from barnum.models.arrays import Arrays, read_arrays, shortened, write_arrays
from barnum.models.model import KINDS, NETWORKS, ROTE, SCHEMA, Calibration, Model, ModelDocument, identity_of
from barnum.models.networks.causal import CausalConfig
from barnum.models.networks.mixture import Mixture
from barnum.models.networks.paper_task import WindowTokens
from barnum.models.networks.rote import RoteConfig, RoteNetwork
from barnum.models.train_config import TrainConfig
from barnum.paths import Learn
from barnum.sequences import RESTART, Rates, Selection, Tokens, Vocabulary
from barnum.sequences.kept import NAMES

_LARGEST_DOCUMENT = 64 << 20
# the document, where it is kept among the numbers
_DOCUMENT = "document.json"
# numbers that a network may want and lack, to be told which
_SMALL = 1 << 20
_PARTS = ("network", "vocabulary", "rates", "names", "memory", "blocks", "runs", "mixture", "optimiser")


def save_document(file: Path, document: ModelDocument) -> None:
    """Write the JSON file."""
    write_whole(file, msgspec.json.format(msgspec.json.encode(document)) + b"\n")


def save_weights(file: Path, model: Model) -> None:
    """Write the file of numbers."""
    write_arrays(file, model.arrays(), model.identity)


def save_whole(file: Path, model: Model) -> None:
    """Write document and numbers as one file."""
    assert model.document is not None
    text = np.frombuffer(msgspec.json.encode(model.document), np.uint8)
    write_arrays(file, model.arrays() | {_DOCUMENT: text}, model.identity)


def load_whole(file: Path) -> Model:
    """Read what save_whole() has written.

    Raises:
        ModelError: it is missing, broken, no such file, or its numbers are others than it was written with.
    """
    arrays, identity = read_arrays(file)
    text = arrays.pop(_DOCUMENT, None)
    if text is None or text.dtype != np.uint8 or text.ndim != 1 or len(text) > _LARGEST_DOCUMENT:
        raise ModelError(f"{file}: is no file of a rote learner: save one with `barnum prob --save`")
    document = _document(file, text.tobytes())
    if not document.identity == identity == identity_of(arrays):
        raise ModelError(f"{file}: was changed after it was saved: learn the model anew")
    return model_of(file, document, arrays)


def load_document(file: Path) -> ModelDocument:
    """Read the JSON file.

    Raises:
        ModelError: it is missing, no such document, or of another schema.
    """
    return _document(file, read_bounded(file, _LARGEST_DOCUMENT, ModelError))


def _document(file: Path, data: bytes) -> ModelDocument:
    try:
        head = msgspec.json.decode(data, type=dict[str, Any])
        if head.get("schema") != SCHEMA:
            raise ModelError(
                f"{file}: has schema {shortened(repr(head.get('schema')))}, this version reads {SCHEMA}: "
                "learn the model anew"
            )
        document = msgspec.json.decode(data, type=ModelDocument)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ModelError(f"{file}: is no model's document ({shortened(str(error))})") from None
    except RecursionError:
        raise ModelError(f"{file}: is no model's document (nested too deep)") from None
    if document.network not in KINDS:
        named = shortened(repr(document.network))
        raise ModelError(f"{file}: network {named} is unknown here: use {' or '.join(KINDS)}")
    return document


def load_model(document_file: Path, weights_file: Path) -> Model:
    """Read both files of a model: one of this program, or one of Keras 2.

    Raises:
        ModelError: a file is missing or broken, the weights belong to another model, have other shapes, or
            are not finite.
    """
    data = read_bounded(document_file, _LARGEST_DOCUMENT, ModelError)
    from barnum.models.keras.read import is_keras, read_keras

    if is_keras(data):
        network = read_keras(document_file, weights_file)
        tokens = Tokens(vocabulary="modulo", inputs=network.inputs, classes=network.classes)
        digest = hashlib.sha256(data)
        for name, tensor in network.state_dict().items():
            digest.update(name.encode())
            digest.update(tensor.numpy().tobytes())
        return Model(network, tokens, digest.hexdigest())
    document = _document(document_file, data)
    arrays, identity = read_arrays(weights_file)
    if identity != document.identity:
        raise ModelError(f"{weights_file}: belongs to another model than {document_file}")
    return model_of(weights_file, document, arrays)


def model_of(file: Path, document: ModelDocument, arrays: Arrays) -> Model:
    """A model from its document and its arrays, all of which are checked; ``file`` is named in errors."""
    parts: dict[str, Arrays] = {part: {} for part in _PARTS}
    for name, array in arrays.items():
        part, _, rest = name.partition(".")
        if part not in parts:
            raise ModelError(f"{file}: holds {shortened(repr(name))}, which belongs to no part of a model")
        parts[part][rest] = array
    try:
        vocabulary = Vocabulary.from_arrays(parts["vocabulary"])
        names = Vocabulary.from_arrays(parts["names"]) if parts["names"] else vocabulary
        rates = Rates.from_arrays(parts["rates"])
    except ModelError as error:
        raise ModelError(f"{file}: {error}") from None
    if bool(parts["names"]) != (document.network == "causal" and document.tokens.vocabulary == "modulo"):
        raise ModelError(f"{file}: its vocabularies are not those of a network with such tokens")
    extra = {f"{part}.{name}": a for part in ("memory", "blocks", "runs") for name, a in parts[part].items()}
    _check_extra(file, document, names, extra)
    make = _rote if document.network == ROTE else _network
    network = make(file, document, names, parts["network"], extra)
    mixture = _mixture(file, document, parts["mixture"])
    return Model(
        network, document.tokens, document.identity, document, vocabulary, names, rates, extra, mixture
    )


def _mixture(file: Path, document: ModelDocument, arrays: Arrays) -> Mixture | None:
    if bool(arrays) != (document.mixture is not None) or (arrays and document.network != "causal"):
        raise ModelError(f"{file}: its mixture is not the one that the model's document names")
    if document.mixture is None:
        return None
    try:
        return Mixture.from_arrays(document.mixture, arrays)
    except ModelError as error:
        raise ModelError(f"{file}: {error}") from None


def _rote(
    file: Path, document: ModelDocument, names: Vocabulary, arrays: Arrays, extra: Arrays
) -> RoteNetwork:
    try:
        return RoteNetwork.from_arrays(msgspec.convert(document.config, RoteConfig), arrays)
    except msgspec.ValidationError as error:
        raise ModelError(
            f"{file}: the model's document has sizes that cannot be ({shortened(str(error))})"
        ) from None
    except ModelError as error:
        raise ModelError(f"{file}: {error}") from None


def _network(
    file: Path, document: ModelDocument, names: Vocabulary, arrays: Arrays, extra: Arrays
) -> nn.Module:
    config_type, make, numbers = NETWORKS[document.network]
    try:
        config = msgspec.convert(document.config, config_type)
    except msgspec.ValidationError as error:
        raise ModelError(
            f"{file}: the model's document has sizes that cannot be ({shortened(str(error))})"
        ) from None
    # absurd sizes in a document take no memory: numbers are counted before the network is made
    count, there = numbers(config), sum(array.size for array in arrays.values())
    if count > 2 * there + _SMALL:
        raise ModelError(f"{file}: holds {there:,} numbers of a network, the model wants {count:,}")
    network = make(config)
    wanted = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    found = {name: array.shape for name, array in arrays.items()}
    if wanted != found:
        odd = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
        raise ModelError(
            f"{file}: {shortened(odd[0])} is {found.get(odd[0], 'missing')}, "
            f"the model wants {wanted.get(odd[0], 'none')}"
        )
    for name, array in arrays.items():
        if array.dtype != np.float32 or not bool(np.isfinite(array).all()):
            raise ModelError(
                f"{file}: {name} holds values that are no finite 32-bit numbers: learn the model anew"
            )
    _check_sizes(file, document, config, names, extra)
    network.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()})
    return network


def _check_sizes(file: Path, document: ModelDocument, config: Any, names: Vocabulary, extra: Arrays) -> None:
    """A network has the sizes that its vocabulary asks for."""
    if isinstance(config, CausalConfig):
        several = max(1, int((np.diff(names.site_first) > 1).sum()))
        fits = (config.sites, config.targets) == (several, len(names.target))
    else:
        tokens = WindowTokens(document.tokens, names, extra)
        fits = (config.inputs, config.classes) == (tokens.inputs, tokens.classes)
    if not fits:
        raise ModelError(f"{file}: its vocabulary has other sizes than the model's document says")


def _check_extra(file: Path, document: ModelDocument, names: Vocabulary, extra: Arrays) -> None:
    """What a network needs besides its tensors must be there and fit."""
    wanted: dict[str, type] = {}
    if document.network == "causal":
        wanted = {"memory.edge": np.uint32}
    elif document.network == ROTE:
        # they are looked at when more is to be learnt
        runs = {f"runs.{name}" for name in NAMES}
        extra = {name: array for name, array in extra.items() if name not in runs}
    elif document.tokens.vocabulary == "learnt":
        wanted = {"blocks.block": np.uint64, "blocks.count": np.int64}
    for name in sorted(wanted.keys() | extra.keys()):
        array = extra.get(name)
        if array is None or name not in wanted or array.dtype != wanted[name] or array.ndim != 1:
            raise ModelError(f"{file}: {shortened(name)} is missing, or of another type than the model wants")
    if "memory.edge" in wanted:
        edge = extra["memory.edge"] & ~RESTART
        if len(edge) and int(edge.max()) >= len(names.edge_target):
            raise ModelError(f"{file}: memory.edge names a transfer that the vocabulary lacks")
    if "blocks.block" in wanted:
        block, count = extra["blocks.block"], extra["blocks.count"]
        if not len(block) or len(block) != len(count) or not bool((block[1:] > block[:-1]).all()):
            raise ModelError(f"{file}: blocks.block is no ascending list of blocks")


def document_of(
    network: nn.Module,
    *,
    name: str,
    tokens: Tokens,
    learn: Learn,
    train: TrainConfig,
    selection: Selection,
    samples: tuple[str, ...],
    calibration: Calibration,
    identity: str,
) -> ModelDocument:
    """The document of a network that is being learnt."""
    config: Any = network.config
    return ModelDocument(
        schema=SCHEMA,
        version=__version__,
        network=name,
        config=msgspec.to_builtins(config),
        tokens=tokens,
        learn=learn,
        train=train,
        selection=selection,
        samples=samples,
        calibration=calibration,
        identity=identity,
    )
