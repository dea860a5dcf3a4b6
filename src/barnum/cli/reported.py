"""Opens the calls in samples' reports as paths."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from barnum.calls import read_calls
from barnum.calls.path import write_path
from barnum.errors import SampleError
from barnum.paths import PathReader, open_path
from barnum.samples import Sample


class Reported:
    """Reads each report once, into a temporary folder."""

    def __init__(self, options: dict[str, Any], folder: Path) -> None:
        self._process: str | None = options["process"]
        self._threads: bool = options["by_thread"]
        self._apart: int | None = options["sequence_len"] if options["no_overlap"] else None
        self._folder = folder
        self._numbers: dict[Path, int] = {}
        # all calls met so far, by what evaluations call them
        self.names: dict[int, str] = {}

    def opener(self, sample: Sample) -> Callable[[], Any]:
        """A function that opens the sample's calls as a path, as a context."""

        @contextmanager
        def opened() -> Iterator[PathReader]:
            path = open_path(self._read(sample))
            blocks = path.blocks
            names = (blocks.modules[number] for number in blocks.module.tolist())
            self.names.update(zip(blocks.bbid.tolist(), names, strict=True))
            yield path

        return opened

    def forget(self, sample: Sample) -> None:
        """Remove what was read."""
        self._file(sample).unlink(missing_ok=True)

    def _file(self, sample: Sample) -> Path:
        # names may be of any length and of any bytes, and two folders may have the same one
        return self._folder / f"{self._numbers.setdefault(sample.folder, len(self._numbers))}.parquet"

    def _read(self, sample: Sample) -> Path:
        file = self._file(sample)
        if file.exists():
            return file
        if sample.report is None:
            raise SampleError(f"{sample.folder}: has no report of a sandbox any more")
        half = file.with_suffix(".part")
        calls = read_calls(sample.report, self._process, sample.name, self._threads)
        try:
            write_path(calls, half, self._apart, {"name": sample.name, "label": sample.label})
        except MemoryError:
            half.unlink(missing_ok=True)
            raise SampleError(
                f"{sample.report}: needs more memory than there is: give a report of a shorter run"
            ) from None
        half.replace(file)
        return file
