"""A detector: one folder that holds all that judging a run needs.

    detector.json     schema, version, what is in the folder (SHA-256 of each file), and how runs are judged
    model.json        the network's document: its sizes, vocabulary, filters, calibration
    weights           its numbers (safetensors or HDF5)
    classifier.json   the classifier

Nothing in it is run: they are documents and arrays of numbers.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec

from barnum import __version__
from barnum.calls.path import LEARN, learnt_from_calls
from barnum.errors import ModelError, OutputExistsError
from barnum.files import open_regular, output_error, read_bounded, write_whole
from barnum.models.model import Model
from barnum.models.saved import load_model, load_whole, save_document, save_weights
from barnum.verdicts import methods
from barnum.verdicts.method import Classifier

_log = logging.getLogger(__name__)

SCHEMA = 1
MANIFEST, DOCUMENT, WEIGHTS, CLASSIFIER = "detector.json", "model.json", "weights", "classifier.json"
_PARTS = (DOCUMENT, WEIGHTS, CLASSIFIER)
_LARGEST_MANIFEST = 1 << 20


class Reading(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How calls were read from reports when they were learnt: whether each thread was taken for itself,
    whether processes that the chosen ones started were taken, too, and how many calls lie from one that is
    predicted to the next (None: each is predicted)."""

    by_thread: bool = False
    children: bool = False
    apart: Annotated[int, msgspec.Meta(ge=1, le=1024)] | None = None


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """``detector.json``. ``files`` maps each part to its SHA-256 in hex; runs of which more than ``max_lost``
    was lost are refused; ``calls`` is there where the detector judges calls."""

    schema: int
    version: str
    model: str
    method: str
    max_lost: Annotated[float, msgspec.Meta(ge=0, le=1)]
    files: dict[str, str]
    calls: Reading | None = None


# made once, before several threads read: see evaluations/parquet.py
_MANIFEST = msgspec.json.Decoder(Manifest)


@dataclass(frozen=True, slots=True, repr=False)
class Detector:
    """A model and a classifier that belong together."""

    manifest: Manifest
    model: Model
    classifier: Classifier

    def __repr__(self) -> str:
        of = "traces" if self.calls is None else "calls"
        return f"<Detector of {of}: {self.classifier.name}, model {self.model.identity[:16]}>"

    @property
    def calls(self) -> Reading | None:
        """How reports of calls are read; None where the detector judges traces."""
        return self.manifest.calls


def pack(
    folder: Path,
    document: Path,
    weights: Path | None,
    classifier: Path,
    max_lost: float,
    calls: Reading | None = None,
) -> Manifest:
    """Put a model and a classifier into a new folder, after both were read; without ``weights`` the document
    is the one file of a rote learner. ``calls`` says how the model's calls were read, where that differs from
    Reading(); whether it was learnt from calls, the model says.

    Raises:
        ModelError, EvaluationError: one of them cannot be read, or they do not belong together.
        OutputExistsError: the folder is there already.
        OutputError: it cannot be written.
    """
    if folder.exists() or folder.is_symlink():
        raise OutputExistsError(f"{folder}: is there already: give another name")
    model = load_whole(document) if weights is None else load_model(document, weights)
    reading = _reading_of(model, document, calls)
    read = _classifier_of(model, classifier)
    beside = folder.with_name(f".{folder.name}.{os.getpid()}")
    try:
        beside.mkdir()
        try:
            shutil.copyfile(classifier, beside / CLASSIFIER)
            if weights is None:
                assert model.document is not None
                save_document(beside / DOCUMENT, model.document)
                save_weights(beside / WEIGHTS, model)
            else:
                shutil.copyfile(document, beside / DOCUMENT)
                shutil.copyfile(weights, beside / WEIGHTS)
            manifest = Manifest(
                schema=SCHEMA,
                version=__version__,
                model=model.identity,
                method=read.name,
                max_lost=max_lost,
                files={part: _digest(beside / part) for part in _PARTS},
                calls=reading,
            )
            write_whole(beside / MANIFEST, msgspec.json.format(msgspec.json.encode(manifest)) + b"\n")
            beside.rename(folder)
        finally:
            shutil.rmtree(beside, ignore_errors=True)
    except OSError as error:
        raise output_error(error, folder) from None
    return manifest


def load_detector(folder: Path, cut: bool | None = None) -> Detector:
    """Read a detector; ``cut`` says how it is to judge, where that is known (see methods.load()). Calls are
    never cut.

    Raises:
        ModelError, EvaluationError: a part is missing, broken, changed, or of another version.
    """
    try:
        is_folder = folder.is_dir()
    except OSError as error:
        raise ModelError(f"{folder}: cannot be read ({error.strerror or error})") from None
    if not is_folder:
        raise ModelError(f"{folder}: is no folder of a detector: make one with `barnum pack`")
    file = folder / MANIFEST
    try:
        manifest = _MANIFEST.decode(read_bounded(file, _LARGEST_MANIFEST, ModelError))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ModelError(f"{file}: is no description of a detector ({str(error)[:200]})") from None
    if manifest.schema != SCHEMA:
        raise ModelError(f"{file}: has schema {manifest.schema}, this version reads {SCHEMA}: pack it anew")
    for part in _PARTS:
        try:
            same = _digest(folder / part) == manifest.files.get(part)
        except OSError as error:
            raise ModelError(f"{folder / part}: cannot be read ({error.strerror or error})") from None
        if not same:
            raise ModelError(f"{folder / part}: was changed after it was packed: pack the detector anew")
    model = load_model(folder / DOCUMENT, folder / WEIGHTS)
    if model.identity != manifest.model:
        raise ModelError(f"{file}: names another model than the folder holds: pack the detector anew")
    try:
        # an older one does not say that it judges calls
        manifest = msgspec.structs.replace(manifest, calls=_reading_of(model, file, manifest.calls))
    except ModelError:
        raise ModelError(
            f"{file}: its `calls` does not fit the model in the folder: pack the detector anew"
        ) from None
    classifier = _classifier_of(model, folder / CLASSIFIER, cut if manifest.calls is None else None)
    if classifier.name != manifest.method:
        raise ModelError(f"{file}: names another method than its classifier has: pack the detector anew")
    return Detector(manifest, model, classifier)


def _is_of_calls(model: Model) -> bool:
    document, vocabulary = model.document, model.vocabulary
    if document is None or vocabulary is None:
        return False
    return learnt_from_calls(document.learn, vocabulary.site)


def _reading_of(model: Model, file: Path, asked: Reading | None) -> Reading | None:
    of_calls = _is_of_calls(model)
    if asked is None:
        return Reading() if of_calls else None
    if of_calls:
        if asked.apart is not None and asked.apart > 1:
            raise ModelError(f"{file}: has learnt every call: leave out --no-overlap")
        return asked
    # one that skipped calls shows that only by what it learns
    if asked.apart is None or model.document is None or model.document.learn != LEARN:
        raise ModelError(
            f"{file}: was not learnt from calls, which --by-thread, --children and --no-overlap are "
            "for: leave them out"
        )
    return asked


def _classifier_of(model: Model, file: Path, cut: bool | None = None) -> Classifier:
    classifier, identity = methods.load(file, cut)
    if identity is None:
        _log.warning("%s: does not say which model it was learnt from: nothing tells whether they fit", file)
    if identity is not None and identity != model.identity:
        raise ModelError(f"{file}: was learnt from evaluations of another model: learn the classifier anew")
    return classifier


def _digest(file: Path) -> str:
    # a pipe or a device would not end
    with open_regular(file, follow=True) as descriptor, os.fdopen(os.dup(descriptor), "rb") as raw:
        return hashlib.file_digest(raw, "sha256").hexdigest()
