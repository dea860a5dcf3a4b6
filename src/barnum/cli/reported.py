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

    def opener(self, sample: Sample) -> Callable[[], Any]:
        """A function that opens the sample's calls as a path, as a context."""

        @contextmanager
        def opened() -> Iterator[PathReader]:
            yield open_path(self._read(sample))

        return opened

    def forget(self, sample: Sample) -> None:
        """Remove what was read."""
        self._file(sample).unlink(missing_ok=True)

    def _file(self, sample: Sample) -> Path:
        return self._folder / f"{sample.folder.name}.parquet"

    def _read(self, sample: Sample) -> Path:
        file = self._file(sample)
        if file.exists():
            return file
        if sample.report is None:
            raise SampleError(f"{sample.folder}: has no report of a sandbox any more")
        calls = read_calls(sample.report, self._process, sample.name, self._threads)
        half = file.with_suffix(".part")
        write_path(calls, half, self._apart, {"name": sample.name, "label": sample.label})
        half.replace(file)
        return file
