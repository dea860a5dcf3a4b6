"""The formats of other tools there are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from barnum.errors import OptionsError
from barnum.exporting.exporter import Exporter
from barnum.files import output_error, writing
from barnum.registry import Registry

if TYPE_CHECKING:
    from barnum.samples import Sample

# an exporter by its name: that of --format
EXPORTERS: Registry[Exporter] = Registry(
    "format",
    {
        "drcov": "barnum.exporting.drcov:DRCOV",
    },
)


def export_sample(sample: Sample, file: Path, name: str, bin_dir: Path) -> str:
    """Write a sample to a file in the format of this name; returns in a few words what was written.

    Raises:
        OptionsError: there is no such format.
        OutputError: the file cannot be written.
        InputError: as Exporter.export() does; nothing is written then.
    """
    if name not in EXPORTERS:
        raise OptionsError(f"no format is called {name!r}: use {', '.join(EXPORTERS.names)}")
    exporter = EXPORTERS[name]
    try:
        with writing(file) as raw:
            return exporter.export(sample, bin_dir, raw)
    except OSError as error:
        raise output_error(error, file) from None
