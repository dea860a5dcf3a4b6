"""A sample: the folder of one traced run."""

from __future__ import annotations

import logging
import os
import re
import stat
from collections.abc import Collection, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path

import msgspec

from barnum.errors import ImageError, MappingError, SampleError
from barnum.samples.effects import Effects, read_effects
from barnum.samples.info import BENIGN, MALICIOUS, Info, read_info
from barnum.samples.mapping import MemoryMap, Module
from barnum.samples.meta import MAX_STREAMS, Meta, read_meta
from barnum.texts import quoted

_log = logging.getLogger(__name__)
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.]{0,254}")
_LONGEST_NAME = 255  # bytes
_PARSED = ("trace_parsed.parquet", "trace_parsed.gz")
DIGEST = "trace_digest"
# at the end of the name of a recording that is under way
PART = ".part"


class Process(msgspec.Struct, frozen=True):
    """Memory of one process.

    Attributes:
        index: number of the process in the sample.
        mapping: its memory map.
        code: file of the code bytes that lie in no mapped file; None if there is none.
        mode: 32 or 64 bit.
    """

    index: int
    mapping: MemoryMap
    code: Path | None
    mode: int


class Stream(msgspec.Struct, frozen=True):
    """One stream of PT packets, plain or gzip, and the process and the thread that it is of."""

    path: Path
    process: int
    thread: int


class Sample:
    """The folder of one traced run, with its label.

    ``reports`` are the file names that a sandbox's report may have in it; the first one that is there is
    taken. barnum.calls.readers.report_names() gives all of them.
    """

    def __init__(self, folder: Path, info: Info, reports: Sequence[str] = ()) -> None:
        self.folder = folder
        self.info = info
        self._reports = reports

    def __repr__(self) -> str:
        return f"<Sample {self.folder.name[:16]}: {quoted(self.name, 60)}, {self.label}>"

    @classmethod
    def open(cls, folder: Path, reports: Sequence[str] = ()) -> Sample:
        """Open a sample folder; all files but info.txt are read when they are needed.

        Args:
            folder: the sample.
            reports: file names of reports. If there are any, the folder must hold one of these, else a trace.

        Raises:
            SampleError: it is no folder, its info.txt is wrong, or the report or the trace is missing.
        """
        try:
            if not folder.is_dir():
                raise SampleError(f"{folder}: is no sample folder")
            sample = cls(folder, read_info(folder / "info.txt"), reports)
            if reports:
                if sample.report is None:
                    raise SampleError(f"{folder}: has no report of a sandbox ({', '.join(reports)}, or .gz)")
            elif not (sample.parsed or sample._either("trace_0") or sample.digest):
                raise SampleError(f"{folder}: has neither trace_0.gz nor a parsed trace nor a digest")
        except OSError as error:
            raise SampleError(f"{folder}: cannot be read ({error.strerror or error})") from None
        return sample

    @property
    def name(self) -> str:
        """File name of the input that was opened."""
        return self.info.name

    @property
    def label(self) -> str:
        """``benign``, ``malicious`` or ``unknown``."""
        return self.info.label

    @property
    def benign(self) -> bool:
        """Whether the label says that the run is nominal."""
        return self.info.label == BENIGN

    @property
    def malicious(self) -> bool:
        """Whether the label says that the run is an attack."""
        return self.info.label == MALICIOUS

    @cached_property
    def meta(self) -> Meta | None:
        """How the run was recorded; None for samples that barnum did not record.

        Raises:
            SampleError: meta.json is broken.
        """
        file = self.folder / "meta.json"
        return read_meta(file) if file.exists() else None

    @cached_property
    def effects(self) -> Effects | None:
        """The system calls that changed the world or left the program; None where the recorder noted none
        of that: samples of other recorders, and of earlier versions.

        Raises:
            SampleError: meta.json or effects.json is broken, or effects.json is missing though meta.json
                tells of effects.
        """
        if self.meta is None or self.meta.effects is None:
            return None
        file = self._own_file("effects.json")
        effects = read_effects(file, self.meta)
        if effects.total != self.meta.effects:
            raise SampleError(
                f"{file}: has {effects.total:,} effects, its meta.json tells of {self.meta.effects:,}"
            )
        return effects

    @property
    def parsed(self) -> Path | None:
        """The parsed trace: ``trace_parsed.parquet``, else the original's ``trace_parsed.gz``, else None."""
        for name in _PARSED:
            file = self.folder / name
            if file.is_file():
                return file
        return None

    @property
    def digest(self) -> Path | None:
        """The digest of the run (see barnum.digests); None where there is none."""
        file = self.folder / DIGEST
        return file if file.is_file() else None

    @property
    def report(self) -> Path | None:
        """The report of a sandbox: of the names with which the sample was opened, the first that is there."""
        for name in self._reports:
            file = self._either(name)
            if file is not None:
                return file
        return None

    @property
    def streams(self) -> list[Stream]:
        """Streams in order of creation.

        Raises:
            SampleError: meta.json is broken, or names a file that is missing or outside the folder.
        """
        if self.meta is not None:
            return [
                Stream(self._own_file(stream.file), stream.process, stream.thread)
                for stream in self.meta.streams
            ]
        streams = []
        for index in range(MAX_STREAMS):
            file = self._either(f"trace_{index}")
            if file is None:
                break
            streams.append(Stream(file, 0, index))
        return streams

    def processes(self, bin_dir: Path, wanted: Collection[int] | None = None) -> list[Process]:
        """Memory of the processes, by index.

        A memory map that several processes share is read once.

        Args:
            bin_dir: folder of the images, from which maps without sizes take those of modules.
            wanted: indices of the processes; None: all.

        Raises:
            MappingError: a map is missing or wrong.
            SampleError: meta.json is wrong, or there is no such process.
            ImageError: an image is named out of ``bin_dir``.
        """

        def image_size(path: str) -> int | None:
            image = self.image_path(Module(path, 0, 0, 0, ()), bin_dir)
            return image.stat().st_size if image else None

        described = self.meta.processes if self.meta else ()
        if any(process.index != position for position, process in enumerate(described)):
            raise SampleError(f"{self.folder / 'meta.json'}: processes are not numbered in order")
        count = len(described) if self.meta else 1
        indices = range(count) if wanted is None else sorted(set(wanted))
        if indices and not 0 <= indices[-1] < count:
            raise SampleError(f"{self.folder}: a stream belongs to process {indices[-1]}, which it lacks")
        if self.meta is None:
            file = self._either("mapping", ".txt")
            if file is None:
                raise MappingError(
                    f"{self.folder}: has no mapping.txt.gz, so that its trace cannot be decoded"
                )
            return [Process(0, MemoryMap.read(file, image_size), None, 64) for _ in indices]
        maps: dict[str, MemoryMap] = {}
        processes = []
        for process in (described[index] for index in indices):
            if process.mapping not in maps:
                maps[process.mapping] = MemoryMap.read(self._own_file(process.mapping), image_size)
            code = self._own_file(process.code) if process.code else None
            processes.append(Process(process.index, maps[process.mapping], code, process.exec_mode))
        return processes

    def image_path(self, module: Module, bin_dir: Path) -> Path | None:
        """The image of a module in ``bin_dir``; None if there is none.

        Raises:
            ImageError: its name, or a link of that name, leads out of ``bin_dir``.
        """
        if module.path.startswith("["):
            return None  # a region from the kernel, such as [vdso]
        image = self.meta.images.get(module.path) if self.meta else None
        name = image.file if image else module.name
        too_long = len(name.encode("utf-8", errors="replace")) > _LONGEST_NAME
        if name in ("", ".", "..") or "/" in name or "\0" in name or too_long:
            raise ImageError(
                f"{self.folder}: image {quoted(name, _LONGEST_NAME)} is not in {bin_dir}: correct meta.json"
            )
        file = bin_dir / name
        # dozens of images of each sample: mostly this look is all that it takes
        with suppress(OSError):
            if stat.S_ISREG(os.lstat(file).st_mode):
                return file
        if file.is_symlink() and not file.resolve().is_relative_to(bin_dir.resolve()):
            raise ImageError(f"{file}: is a link that leads out of its folder: copy the image there")
        return file if file.is_file() else None

    def _either(self, stem: str, suffix: str = "") -> Path | None:
        for name in (f"{stem}{suffix}.gz", f"{stem}{suffix}"):
            file = self.folder / name
            if file.is_file():
                return file
        return None

    def _own_file(self, name: str) -> Path:
        if not _PLAIN_NAME.fullmatch(name):
            raise SampleError(
                f"{self.folder / 'meta.json'}: names {quoted(name, _LONGEST_NAME)}, which is no file of the "
                "sample"
            )
        file = self.folder / name
        if not file.is_file():
            raise SampleError(f"{self.folder}: lacks {name}, which its meta.json names")
        return file


def open_samples(
    folders: list[Path], broken: list[SampleError] | None = None, reports: Sequence[str] = ()
) -> list[Sample]:
    """Open the samples that can be opened; a warning names each of the others and says why.

    Args:
        folders: the sample folders.
        broken: takes the errors of folders that do hold an info.txt and a trace, instead of a warning.
        reports: as in Sample.open().
    """
    samples = []
    for folder in folders:
        try:
            samples.append(Sample.open(folder, reports))
        except SampleError as error:
            if broken is not None and not _lacks_parts(folder):
                broken.append(error)
            else:
                _log.warning("skipped: %s", error)
    return samples


def find_samples(
    root: Path, broken: list[SampleError] | None = None, reports: Sequence[str] = ()
) -> list[Sample]:
    """All samples in a folder, sorted by folder name. Unfinished recordings (``.part``) are left out.

    Args:
        root: the folder.
        broken: as in :func:`open_samples`.
        reports: as in Sample.open().

    Raises:
        SampleError: ``root`` is no folder, or cannot be read.
    """
    return open_samples(
        [folder for folder in folders_of(root) if not folder.name.endswith(PART)], broken, reports
    )


def is_sample(folder: Path) -> bool:
    """Whether a folder is that of a sample, and not one of several samples."""
    names = ("info.txt", "trace_0", "trace_0.gz", DIGEST, *_PARSED)
    return any((folder / name).is_file() for name in names)


def samples_in(places: Sequence[Path]) -> list[Sample]:
    """The samples that are named, each by itself or by the folder in which they lie, each once; a warning
    tells of folders that are none.

    Raises:
        SampleError: one that is named by itself is broken, or a folder cannot be read.
    """
    found: dict[Path, Sample] = {}
    for place in places:
        samples = [Sample.open(place)] if is_sample(place) else find_samples(place)
        for sample in samples:
            found.setdefault(sample.folder.resolve(), sample)
    return list(found.values())


def folders_of(root: Path) -> list[Path]:
    """The folders right below one, by name, but for hidden ones: samples, and recordings that are under way
    (``.part``).

    Raises:
        SampleError: root is no folder, or cannot be read.
    """
    if not root.is_dir():
        raise SampleError(f"{root}: no such folder")
    try:
        return sorted(entry for entry in root.iterdir() if not entry.name.startswith(".") and entry.is_dir())
    except OSError as error:
        raise SampleError(f"{root}: cannot be read ({error.strerror or error})") from None


def _lacks_parts(folder: Path) -> bool:
    try:
        names = {entry.name for entry in os.scandir(folder)}
    except OSError:
        return False
    return "info.txt" not in names or names.isdisjoint(("trace_0", "trace_0.gz", DIGEST, *_PARSED))
