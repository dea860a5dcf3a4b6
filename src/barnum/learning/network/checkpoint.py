"""Checkpoints of a training: a folder in which each is a model of its own, with the optimiser's state.

``step-N.safetensors`` is written before ``step-N.json``, which names its SHA-256: what has no JSON, or
another hash, was cut off or damaged, and the checkpoint before it is used.
"""

from __future__ import annotations

import hashlib
import logging
import re
from pathlib import Path

import msgspec

from barnum.errors import InputError, ModelError
from barnum.files import write_whole
from barnum.models.arrays import Arrays, read_arrays, write_arrays
from barnum.models.model import Model, ModelDocument, identity_of
from barnum.models.saved import load_document
from barnum.models.train_config import Progress

_log = logging.getLogger(__name__)

_NAME = re.compile(r"step-(\d{9,})\.json")
# how many are kept, besides the best one
_KEPT = 2


class CheckpointFolder:
    """The checkpoints of one training."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def exists(self) -> bool:
        """Whether a checkpoint is there, usable or not."""
        return bool(self._documents())

    def save(
        self,
        model: Model,
        document: ModelDocument,
        progress: Progress,
        optimiser: Arrays,
        best: bool,
    ) -> None:
        """Write a checkpoint, then remove old ones. ``document`` is that of the model being trained."""
        self.folder.mkdir(parents=True, exist_ok=True)
        arrays = model.arrays()
        identity = identity_of(arrays)
        state = {f"optimiser.{name}": array for name, array in optimiser.items()}
        stem = self.folder / f"step-{progress.steps:09d}"
        weights = stem.with_suffix(".safetensors")
        write_arrays(weights, arrays | state, identity)
        saved = msgspec.structs.replace(
            document, identity=identity, progress=progress, sha256=_sha256(weights), best=best
        )
        write_whole(stem.with_suffix(".json"), msgspec.json.format(msgspec.json.encode(saved)) + b"\n")
        self._prune()
        _log.info("checkpoint: %s", stem.with_suffix(".json"))

    def latest(self, best: bool = False) -> tuple[ModelDocument, Arrays] | None:
        """Document and arrays of the newest usable checkpoint (of those that were the best); None where there
        is none."""
        for file in reversed(self._documents()):
            weights = file.with_suffix(".safetensors")
            try:
                document = load_document(file)
                if best and not document.best:
                    continue
                if document.progress is None or document.sha256 != _sha256(weights):
                    raise ModelError(f"{weights}: is damaged")
                return document, read_arrays(weights)[0]
            except InputError as error:
                _log.warning("%s: the checkpoint before it is used, if there is one", error)
        return None

    def drop_after(self, steps: int) -> None:
        """Remove checkpoints of more steps: training begins anew before them, as they are of no use."""
        for file in self._documents():
            match = _NAME.fullmatch(file.name)
            if match and int(match[1]) > steps:
                file.unlink(missing_ok=True)
                file.with_suffix(".safetensors").unlink(missing_ok=True)

    def clear(self) -> None:
        """Remove all checkpoints, and the folder if nothing else is in it."""
        for file in self._documents():
            file.unlink(missing_ok=True)
            file.with_suffix(".safetensors").unlink(missing_ok=True)
        self._remove_rests()
        try:
            self.folder.rmdir()
        except OSError:
            return

    def _documents(self) -> list[Path]:
        if not self.folder.is_dir():
            return []
        numbered = [
            (int(match[1]), file) for file in self.folder.iterdir() if (match := _NAME.fullmatch(file.name))
        ]
        return [file for _, file in sorted(numbered)]

    def _prune(self) -> None:
        documents = self._documents()
        keep = set(documents[-_KEPT:])
        for file in reversed(documents):
            if _is_best(file):
                keep.add(file)
                break
        for file in documents:
            if file not in keep:
                file.unlink(missing_ok=True)
                file.with_suffix(".safetensors").unlink(missing_ok=True)
        self._remove_rests()

    def _remove_rests(self) -> None:
        """What a kill has left: half-written files, and weights without a document."""
        if not self.folder.is_dir():
            return
        for file in self.folder.iterdir():
            half = file.name.startswith(".step-")
            alone = (
                re.fullmatch(r"step-\d+\.safetensors", file.name) and not file.with_suffix(".json").exists()
            )
            if half or alone:
                file.unlink(missing_ok=True)


def split_optimiser(arrays: Arrays) -> tuple[Arrays, Arrays]:
    """Arrays of the model, and those of the optimiser, of a checkpoint."""
    prefix = "optimiser."
    model = {name: array for name, array in arrays.items() if not name.startswith(prefix)}
    optimiser = {
        name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)
    }
    return model, optimiser


def _is_best(file: Path) -> bool:
    try:
        return load_document(file).best
    except ModelError:
        return False


def _sha256(file: Path) -> str:
    try:
        with file.open("rb") as raw:
            return hashlib.file_digest(raw, "sha256").hexdigest()
    except OSError as error:
        raise ModelError(f"{file}: cannot be read ({error.strerror or error})") from None
