"""What a format of another tool's is to everything else: how a sample is written in it.

A new one is one file with a class, of which it makes an instance, and one line in
:mod:`barnum.exporting.exporters`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from barnum.samples import Sample


class Exporter(ABC):
    """A format. ``name`` is that of ``barnum export --format``."""

    name: str

    @abstractmethod
    def export(self, sample: Sample, bin_dir: Path, file: BinaryIO) -> str:
        """Write a sample; returns in a few words what was written. What the format has no place for is left
        out, and a warning says how much that was.

        Args:
            sample: the sample. What it holds may be hostile.
            bin_dir: folder of the images of its modules; need not be there.
            file: an empty file.

        Raises:
            InputError: of the class that fits: the sample lacks what is to be written, or is broken.
            OSError: the file cannot be written.
        """
