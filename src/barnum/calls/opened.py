"""Opens the calls in the reports of samples as paths."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from barnum.calls import read_calls
from barnum.calls.calls import ChosenBy
from barnum.calls.path import write_path
from barnum.calls.readers import report_names
from barnum.errors import SampleError
from barnum.files import read_bounded
from barnum.paths import OpenPath, PathReader, open_path
from barnum.samples import UNKNOWN, Info, Sample

_LARGEST_INFO = 1 << 20
# processes of a report that are kept
_REMEMBERED = 64
# characters of a document's and of a process's name that are kept
LONGEST_NAME = 4096
_LONGEST_PROCESS = 260


class ToJudge(Sample):
    """A report that is only judged: it needs no label, and its name may be empty.

    An ``info.txt`` that is a link is ignored, so that nobody reads another file through it.
    """

    def __init__(self, place: Path) -> None:
        """Open a report, or a folder that holds one.

        Raises:
            SampleError: ``place`` is neither, or cannot be read.
        """
        super().__init__(place, Info("", UNKNOWN), report_names())
        self._file: Path | None = None
        try:
            if not place.is_dir():
                if not place.exists():
                    raise SampleError(f"{place}: no such file or folder")
                self._file = place
                return
            if self.report is None:
                raise SampleError(f"{place}: {self._lack()}")
            info = place / "info.txt"
            if info.exists() and not info.is_symlink():
                text = read_bounded(info, _LARGEST_INFO, SampleError).decode("utf-8-sig", errors="replace")
                self.info = Info("".join(text.splitlines()[:1]).strip()[:LONGEST_NAME], UNKNOWN)
        except OSError as error:
            raise SampleError(f"{place}: cannot be read ({error.strerror or error})") from None

    @property
    def report(self) -> Path | None:
        return self._file or super().report

    @property
    def has_trace(self) -> bool:
        """Whether the folder also holds a recorded trace."""
        return self.parsed is not None or any((self.folder / f"trace_0{end}").exists() for end in (".gz", ""))

    def _lack(self) -> str:
        if self.has_trace:
            return "holds a recorded trace and no report, but this detector was learnt from reports of calls"
        *names, last = self._reports
        return f"holds no report of a sandbox ({', '.join(names)} or {last})"


@dataclass(frozen=True, slots=True)
class Told:
    """What a report says of its run; long names are cut.

    Attributes:
        document: file name of what was opened; None if unknown.
        processes: name and number (-1: unknown) of the processes whose calls are taken, 64 at most.
        chosen_by: how they were chosen.
    """

    document: str | None
    processes: tuple[tuple[str, int], ...]
    chosen_by: ChosenBy


class Reported:
    """Opens the calls of samples as paths. Each report is read once, into a temporary folder."""

    def __init__(
        self,
        folder: Path,
        *,
        process: str | None = None,
        by_thread: bool = False,
        children: bool = False,
        apart: int | None = None,
    ) -> None:
        """Prepare to open reports.

        Args:
            folder: the temporary folder.
            process: as in read_calls().
            by_thread: make each thread a stream of its own.
            children: as in read_calls().
            apart: as in as_path().
        """
        self._process = process
        self._threads = by_thread
        self._children = children
        self._apart = apart
        self._folder = folder
        self._numbers: dict[Path, int] = {}
        # names of all calls met so far, by BBID
        self.names: dict[int, str] = {}
        # of the reports that were read and not forgotten, by the sample's folder
        self.told: dict[Path, Told] = {}

    def opener(self, sample: Sample) -> OpenPath:
        """A function that opens the sample's calls as a path, as a context.

        It raises SampleError where the report cannot be used, and OSError where the folder is full.
        """

        @contextmanager
        def opened() -> Iterator[PathReader]:
            path = open_path(self._read(sample))
            blocks = path.blocks
            names = (blocks.modules[number] for number in blocks.module.tolist())
            self.names.update(zip(blocks.bbid.tolist(), names, strict=True))
            yield path

        return opened

    def forget(self, sample: Sample) -> None:
        """Remove what was read of a sample's report."""
        self.told.pop(sample.folder, None)
        self._file(sample).unlink(missing_ok=True)

    def _file(self, sample: Sample) -> Path:
        # numbers, as names may have any length and any bytes, and two folders may have the same one
        return self._folder / f"{self._numbers.setdefault(sample.folder, len(self._numbers))}.parquet"

    def _read(self, sample: Sample) -> Path:
        file = self._file(sample)
        if file.exists():
            return file
        if sample.report is None:
            raise SampleError(f"{sample.folder}: has no report of a sandbox any more")
        half = file.with_suffix(".part")
        calls = read_calls(
            sample.report, self._process, sample.name or None, self._threads, children=self._children
        )
        processes = tuple(
            (process.name[:_LONGEST_PROCESS], process.pid) for process in calls.processes[:_REMEMBERED]
        )
        document = None if calls.document is None else calls.document[:LONGEST_NAME]
        self.told[sample.folder] = Told(document, processes, calls.chosen_by)
        try:
            write_path(calls, half, self._apart, {"name": sample.name, "label": sample.label})
        except MemoryError:
            half.unlink(missing_ok=True)
            raise SampleError(
                f"{sample.report}: needs more memory than there is: give a report of a shorter run"
            ) from None
        half.replace(file)
        return file
