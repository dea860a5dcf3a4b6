"""Models in files: a JSON document that says what a model is, and its numbers (see arrays.py).

A rote learner's two are also kept in one file.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from barnum.errors import ModelError
from barnum.files import read_bounded, write_whole
from barnum.models.arrays import Arrays, read_arrays, write_arrays
from barnum.models.model import SCHEMA, Model, ModelDocument, identity_of
from barnum.models.networks.kind import Saved
from barnum.models.networks.kinds import NETWORKS
from barnum.sequences import Rates, Tokens, Vocabulary
from barnum.texts import shortened

if TYPE_CHECKING:
    from barnum.models.networks.mixture import Mixture

_LARGEST_DOCUMENT = 64 << 20
# the document, where it is kept among the numbers
_DOCUMENT = "document.json"
_PARTS = ("network", "vocabulary", "rates", "names", "memory", "blocks", "runs", "mixture", "optimiser")
# made once, before several threads read: see evaluations/parquet.py
_MODEL_DOCUMENT = msgspec.json.Decoder(ModelDocument)


def save_document(file: Path, document: ModelDocument) -> None:
    """Write the JSON file."""
    write_whole(file, msgspec.json.format(msgspec.json.encode(document)) + b"\n")


def save_weights(file: Path, model: Model) -> None:
    """Write the file of numbers."""
    write_arrays(file, model.arrays(), model.identity)


def save_whole(file: Path, model: Model) -> None:
    """Write document and numbers as one file; the model has a document."""
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
        document = _MODEL_DOCUMENT.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ModelError(f"{file}: is no model's document ({shortened(str(error))})") from None
    except RecursionError:
        raise ModelError(f"{file}: is no model's document (nested too deep)") from None
    if document.network not in NETWORKS:
        named = shortened(repr(document.network))
        raise ModelError(f"{file}: network {named} is unknown here: use {' or '.join(NETWORKS.names)}")
    return document


def load_model(document_file: Path, weights_file: Path) -> Model:
    """Read both files of a model: one of this program, or one of Keras 2.

    Raises:
        ModelError: a file is missing or broken, the weights belong to another model, have other shapes, or
            are not finite.
        MissingPackageError: it is one of Keras 2, and torch, which computes that, is not installed.
    """
    data = read_bounded(document_file, _LARGEST_DOCUMENT, ModelError)
    from barnum.models.keras.architecture import is_keras

    if is_keras(data):
        return _keras(data, document_file, weights_file)
    document = _document(document_file, data)
    arrays, identity = read_arrays(weights_file)
    if identity != document.identity:
        raise ModelError(f"{weights_file}: belongs to another model than {document_file}")
    return model_of(weights_file, document, arrays)


def _keras(data: bytes, document_file: Path, weights_file: Path) -> Model:
    from barnum.extras import require

    require("torch", f"{document_file}: a model of Keras")
    from barnum.models.keras.read import read_keras

    network = read_keras(document_file, weights_file)
    tokens = Tokens(vocabulary="modulo", inputs=network.config.inputs, classes=network.config.classes)
    digest = hashlib.sha256(data)
    for name, array in network.arrays().items():
        digest.update(name.encode())
        digest.update(array.tobytes())
    return Model(network, tokens, digest.hexdigest())


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
    kind = NETWORKS[document.network]
    if bool(parts["names"]) != kind.own_vocabulary(document.tokens):
        raise ModelError(f"{file}: its vocabularies are not those of a network with such tokens")
    extra = {f"{part}.{name}": a for part in ("memory", "blocks", "runs") for name, a in parts[part].items()}
    return Model(
        network=kind.restore(Saved(file, document, names, parts["network"], extra)),
        tokens=document.tokens,
        identity=document.identity,
        document=document,
        vocabulary=vocabulary,
        names=names,
        rates=rates,
        extra=extra,
        mixture=_mixture(file, document, parts["mixture"]),
    )


def _mixture(file: Path, document: ModelDocument, arrays: Arrays) -> Mixture | None:
    if bool(arrays) != (document.mixture is not None) or (arrays and document.network != "causal"):
        raise ModelError(f"{file}: its mixture is not the one that the model's document names")
    if document.mixture is None:
        return None
    from barnum.models.networks.mixture import Mixture

    try:
        return Mixture.from_arrays(document.mixture, arrays)
    except ModelError as error:
        raise ModelError(f"{file}: {error}") from None
