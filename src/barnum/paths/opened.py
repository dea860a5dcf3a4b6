"""Opens the paths of samples, decoding their streams where they are not preprocessed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from barnum.errors import BarnumError, ImageError, SampleError
from barnum.paths import OpenPath, PathReader, open_path
from barnum.samples import Sample

if TYPE_CHECKING:
    from barnum.paths.preprocess import Request, Result

_log = logging.getLogger(__name__)


class Decoded:
    """Opens the paths of samples, which it decodes first, once, where they are not preprocessed."""

    def __init__(
        self,
        folder: Path,
        *,
        preprocessed: bool,
        bin_dir: Path | None = None,
        timeout: float | None = None,
        work: Callable[[Request], Result] | None = None,
    ) -> None:
        """Prepare to open samples.

        Args:
            folder: the temporary folder.
            preprocessed: open the samples' parsed traces; otherwise decode their streams.
            bin_dir: folder of the images, for decoding.
            timeout: seconds for decoding one sample; None: no limit.
            work: what decodes a sample; None: paths.preprocess.preprocess(). What else it makes is found
                by beside().
        """
        self._preprocessed = preprocessed
        self._bin_dir = bin_dir
        self._timeout = timeout
        self._folder = folder
        self._work = work
        self._numbers: dict[Path, int] = {}
        if self._preprocessed and self._timeout is not None:
            _log.warning("--timeout has no effect with -p: nothing is decoded")

    def opener(self, sample: Sample) -> OpenPath:
        """A function that opens the sample's path, as a context.

        It raises InputError, of the class that fits, where the sample cannot be opened or decoded.
        """

        @contextmanager
        def opened() -> Iterator[PathReader]:
            if not self._preprocessed:
                yield open_path(self._decode(sample))
                return
            if sample.parsed is None:
                raise SampleError(f"{sample.folder}: is not preprocessed any more")
            yield open_path(sample.parsed)

        return opened

    def forget(self, sample: Sample) -> None:
        """Remove what was decoded of a sample."""
        if not self._preprocessed:
            self._file(sample).unlink(missing_ok=True)
            self.beside(sample).unlink(missing_ok=True)

    def beside(self, sample: Sample) -> Path:
        """What was made beside the path of a sample while it was decoded; it need not be there."""
        return self._half(sample).with_name(f"{self._half(sample).name}.digest")

    def _file(self, sample: Sample) -> Path:
        # numbers, as names may have any length and any bytes, and two folders may have the same one
        return self._folder / f"{self._numbers.setdefault(sample.folder, len(self._numbers))}.parquet"

    def _half(self, sample: Sample) -> Path:
        return self._file(sample).with_suffix(".part")

    def _decode(self, sample: Sample) -> Path:
        from barnum.paths.preprocess import Request, preprocess
        from barnum.paths.supervisor import run_each

        file = self._file(sample)
        if file.exists():
            return file
        if self._bin_dir is None:
            raise ImageError(
                f"{sample.folder}: decoding it takes its images: name their folder, or preprocess the sample"
            )
        half = self._half(sample)
        request = Request(
            folder=str(sample.folder), bin_dir=str(self._bin_dir), output=str(half), timeout=self._timeout
        )
        # a process of its own, which a hostile trace may crash or stall
        for _, outcome in run_each(iter([request]), 1, work=self._work or preprocess):
            if isinstance(outcome, BarnumError):
                raise outcome
            if outcome.truncated:
                _log.warning(
                    "%s: was not decoded within %g seconds: only its first %s blocks are used",
                    sample.folder,
                    self._timeout,
                    f"{outcome.steps:,}",
                )
        half.replace(file)
        return file
