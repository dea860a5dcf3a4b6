"""What an evaluation says of where its run came from."""

from __future__ import annotations

from typing import Any

import msgspec

from barnum import __version__
from barnum.evaluations.header import SCHEMA, Header
from barnum.evaluations.signs import Signs
from barnum.models.model import Model
from barnum.paths import Learn, PathReader
from barnum.paths.outcome import source_of
from barnum.samples import Sample


def header_of(
    model: Model, learn: Learn, sample: Sample, path: PathReader, signs: Signs | None = None
) -> Header:
    """The header of a sample's evaluation by a model; ``signs``: see there."""
    document = model.document
    options: dict[str, Any] = {
        "learn": msgspec.to_builtins(learn),
        "tokens": msgspec.to_builtins(model.tokens),
    }
    if document is not None:
        options |= {"network": document.network, "train": msgspec.to_builtins(document.train)}
    return Header(
        schema=SCHEMA,
        version=__version__,
        name=sample.name,
        label=sample.label,
        sample=sample.folder.name,
        model=model.identity,
        options=options,
        calibration=None if document is None else document.calibration,
        transfers=0,
        source=source_of(path, sample.folder),
        signs=signs,
    )
