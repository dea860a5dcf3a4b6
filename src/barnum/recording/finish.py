"""Makes a sample folder from the files that the plugin left."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from isal import isal_zlib

from barnum import __version__
from barnum.errors import RecordingError
from barnum.recording.code import TooMuchCode, write_code
from barnum.recording.effects import EffectSource, gather_effects
from barnum.recording.elf import PAGE
from barnum.recording.engine import EngineFiles
from barnum.recording.images import ImageStore
from barnum.recording.modules import Memory, describe_memory
from barnum.recording.raw import RawFolder, RawProcess, RawStream, open_regular, tnt_packets
from barnum.recording.regions import Regions
from barnum.recording.run import Ended
from barnum.recording.sandbox import Sandbox, View
from barnum.samples import (
    Engine,
    ExitStatus,
    Image,
    Info,
    LimitsMeta,
    Meta,
    ProcessMeta,
    SandboxMeta,
    SpawnMeta,
    StreamMeta,
    write_effects,
    write_info,
    write_meta,
)
from barnum.texts import printable, storable

_CHUNK = 1 << 20
# isa-l's first level compresses packets faster than a run makes them
_LEVEL = 1
_STDERR_KEPT = 64 << 10
_MOST_COMPLAINTS = 32


class NothingRecordedError(RecordingError):
    """A run left no stream."""


class Finished(msgspec.Struct, frozen=True):
    """A finished sample folder: its meta.json, and the bytes of its traces before and after compression."""

    meta: Meta
    raw_bytes: int
    packed_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RunDetails:
    """What is known of a run apart from the files that the recorder left.

    Attributes:
        info: name and labels of the input.
        engine: what ran it.
        ended: how it ended.
        command: the program and its arguments, with the placeholder for the input.
        start: ``open`` where recording began when the input was opened, else ``exec``.
        limits: what the run was allowed at most; None: not known.
        kind: of the document; None: not told.
        lost: sentences on what is known to be missing.
        view: what the program saw in a sandbox; None where it was in none.
    """

    info: Info
    engine: EngineFiles
    ended: Ended
    command: tuple[str, ...]
    start: str
    limits: LimitsMeta | None = None
    kind: str | None = None
    lost: tuple[str, ...] = ()
    view: View | None = None


def finish(
    raw: Path, sample: Path, store: ImageStore, run: RunDetails, check: Callable[[], None]
) -> Finished:
    """Turn the work folder ``raw`` into files in the empty folder ``sample``; meta.json is written last.

    Args:
        raw: the work folder.
        sample: the folder to fill.
        store: the folder of images.
        run: what else is known of the run.
        check: called now and then; it may raise to end the work.

    Raises:
        NothingRecordedError: no stream holds a packet.
        RecordingError: the recorder's files are not as it writes them.
        OSError: the sample or an image cannot be written, or the disk was full while the program ran.
    """
    work = _Work(RawFolder(raw), sample, store, check, run.view)
    raw_processes, raw_streams = work.raw.processes(), work.raw.streams()
    if any(stream.lost == "disk full" for stream in raw_streams):
        raise OSError(errno.ENOSPC, "the disk was full while the program ran")
    for process in raw_processes:
        check()
        _add_process(work, process)
    for stream in raw_streams:
        _add_stream(work, stream)
    if not work.streams:
        if work.complaints and not raw_streams:
            raise RecordingError(
                f"its recording cannot be read, as if the program had damaged it: {work.complaints[0]}"
            )
        raise NothingRecordedError("nothing was recorded")
    source = EffectSource(work.processes, work.positions, work.streams, work.stream_of)
    effects = write_effects(sample / "effects.json", gather_effects(work.raw, raw_processes, source, check))
    meta = _meta_of(work, run, _first_spawn(work, raw_processes), effects.total)
    write_info(sample / "info.txt", run.info)
    check()
    write_meta(sample / "meta.json", meta)
    packed = sum((sample / stream.file).stat().st_size for stream in work.streams)
    return Finished(meta, sum(stream.bytes for stream in work.streams), packed)


@dataclass(slots=True)
class _Work:
    """A sample that is being made: its sources, its folder, and what is finished of it.

    Attributes:
        positions: number of a process in the sample, by its number in the work folder.
        stream_of: number of a stream in the sample, by its number in the work folder.
        missing: paths of mapped files without an image; a set that keeps its order.
        cut: sentences on what is missing in streams.
    """

    raw: RawFolder
    sample: Path
    store: ImageStore
    check: Callable[[], None]
    view: View | None
    processes: list[ProcessMeta] = field(default_factory=list)
    positions: dict[int, int] = field(default_factory=dict)
    streams: list[StreamMeta] = field(default_factory=list)
    stream_of: dict[int, int] = field(default_factory=dict)
    images: dict[str, Image] = field(default_factory=dict)
    missing: dict[str, None] = field(default_factory=dict)
    cut: list[str] = field(default_factory=list)

    @property
    def complaints(self) -> list[str]:
        """Sentences on what is wrong or missing in the work folder."""
        return self.raw.complaints


def _add_process(work: _Work, process: RawProcess) -> None:
    """Write the memory map, the code and the images of a process; one without a map is left out."""
    regions = Regions()
    for snapshot in work.raw.maps(process.index):
        for region in snapshot:
            regions.paint(region)
    if regions.ignored:
        work.complaints.append(
            f"process {process.index} had more pieces of memory with code than are kept: "
            f"{regions.ignored:,} have no name"
        )
    memory = describe_memory(regions.all(), work.store, work.view.holds if work.view else None)
    if not memory.lines:
        return
    position = work.positions[process.index] = len(work.processes)
    mapping = "mapping.txt.gz" if position == 0 else f"mapping_{position}.txt.gz"
    text = "".join(line.text() for line in memory.lines).encode("utf-8", errors="replace")
    (work.sample / mapping).write_bytes(_packed(text))
    work.processes.append(
        ProcessMeta(
            index=position,
            parent=work.positions.get(process.parent) if process.parent is not None else None,
            pid=process.pid,
            program=storable(process.program),
            mapping=mapping,
            code=_write_code(work, process, position, memory),
            exec_mode=64 if process.mode == 64 else 32,
            event="exec" if process.event == "exec" else "fork" if process.event == "fork" else "start",
        )
    )
    work.missing.update(dict.fromkeys(memory.missing))
    for path, image in memory.images.items():
        # a sample has one image for each path
        if work.images.setdefault(path, image) != image:
            work.complaints.append(
                f"{printable(path)} changed while the program ran; its first content is the image"
            )


def _write_code(work: _Work, process: RawProcess, position: int, memory: Memory) -> str | None:
    """Write the code that is in no image; returns the name of the file, None if there is none."""
    name = f"code_{position}.gz"
    try:
        written = write_code(work.sample / name, work.raw.code(process.index), memory.pieces, work.check)
    except TooMuchCode:
        work.complaints.append(f"process {position} ran more generated code than is kept")
        written = (work.sample / name).exists()
    return name if written else None


def _add_stream(work: _Work, stream: RawStream) -> None:
    """Write the packets of a stream; an empty one, of a thread that ended before recording, is left out."""
    if not stream.size and stream.tnt <= 1:
        return
    if stream.process not in work.positions:
        work.complaints.append(f"stream {stream.index} belongs to no known process; it is left out")
        return
    number = work.stream_of[stream.index] = len(work.streams)
    name = f"trace_{number}.gz"
    size = _pack_stream(work, stream, work.sample / name)
    _keep_log(work.raw, stream, work.sample / f"log_{number}")
    if stream.lost:
        why = "at the size allowed" if stream.lost == "max-size" else "as its file could not grow"
        work.cut.append(f"{name}: recording stopped {why}; {stream.lost_blocks:,} blocks ran after that")
    if stream.unexpected:
        work.cut.append(
            f"{name}: {stream.unexpected:,} times it could not be told how the program came to where it "
            "went on; the path has a gap there"
        )
    work.streams.append(
        StreamMeta(
            file=name,
            process=work.positions[stream.process],
            thread=stream.thread,
            bytes=size,
            lost=stream.lost,
            lost_blocks=stream.lost_blocks,
        )
    )


def _first_spawn(work: _Work, processes: list[RawProcess]) -> SpawnMeta | None:
    """Where the program first started another process; None if it did not, or if the notes are doubtful."""
    spawning = _first_to_spawn(processes)
    place = spawning.spawn if spawning else None
    if spawning is None or place is None or place.stream not in work.stream_of:
        return None
    number = work.stream_of[place.stream]
    stream = work.streams[number]
    if stream.process != work.positions.get(spawning.index) or place.offset > stream.bytes:
        return None  # another program of the run may have written that
    return SpawnMeta(stream=number, offset=place.offset)


def _meta_of(work: _Work, run: RunDetails, spawn: SpawnMeta | None, effects: int) -> Meta:
    mode = work.processes[0].exec_mode
    no_image = [
        f"no image of {printable(path)}: its code is in the sample as far as it ran" for path in work.missing
    ]
    return Meta(
        version=__version__,
        command=tuple(storable(word) for word in run.command),
        engine=Engine(
            name="emulator",
            program=Path(run.engine.qemu[mode]).name,
            version=run.engine.version,
            cpu=run.engine.cpu_of(mode),
        ),
        start="open" if run.start == "open" else "exec",
        host_cpu=host_cpu(),
        recorded=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        exit=exit_status(run.ended),
        processes=tuple(work.processes),
        streams=tuple(work.streams),
        images=work.images,
        spawn=spawn,
        effects=effects,
        sandbox=_sandbox_meta(run.view.sandbox) if run.view else None,
        limits=run.limits,
        kind=run.kind,
        children=len(work.processes) - 1,
        lost=(*run.lost, *work.cut, *no_image, *_first(work.complaints)),
        stderr=run.ended.stderr[-_STDERR_KEPT:].decode("utf-8", errors="replace"),
    )


def _first(sentences: list[str]) -> list[str]:
    """The first sentences; where there are many, as after a fork bomb, the number of the others."""
    more = len(sentences) - _MOST_COMPLAINTS
    return sentences if more <= 0 else [*sentences[:_MOST_COMPLAINTS], f"{more:,} more of this kind"]


def _sandbox_meta(sandbox: Sandbox) -> SandboxMeta:
    return SandboxMeta(
        program="bubblewrap",
        version=sandbox.version,
        memory=sandbox.memory,
        processes=sandbox.processes,
        temporary=sandbox.temporary,
    )


def exit_status(ended: Ended) -> ExitStatus:
    """How the program ended, for meta.json."""
    if ended.status is None:
        return ExitStatus(timeout=ended.timeout)
    if ended.status < 0:
        return ExitStatus(signal=-ended.status, timeout=ended.timeout)
    return ExitStatus(status=ended.status, timeout=ended.timeout)


def host_cpu() -> str:
    """Model name of this machine's processor; empty if the system does not give it."""
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8", errors="replace") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return ""


def _first_to_spawn(processes: list[RawProcess]) -> RawProcess | None:
    """The first process, as the program that it was when it first started another; None if it never did."""
    now: RawProcess | None = None
    for process in processes:
        if now is None:
            if process.index:
                return None  # the notes of the first process are gone
        elif process.event != "exec" or process.parent != now.index or process.pid != now.pid:
            continue
        if process.spawn:
            return process
        now = process
    return None


def _pack_stream(work: _Work, stream: RawStream, target: Path) -> int:
    """Write the packets of a stream as gzip; returns their number of bytes before compression."""
    packer = isal_zlib.compressobj(_LEVEL, wbits=31)
    size = 0
    with work.raw.stream_file(stream.index) as source, target.open("wb") as out:
        while size < stream.size:
            work.check()
            data = os.pread(source, min(_CHUNK, stream.size - size), PAGE + size)
            if not data:
                work.complaints.append(f"stream {stream.index} was cut off after {size:,} bytes")
                break
            size += len(data)
            out.write(packer.compress(data))
        rest = tnt_packets(stream.tnt)
        out.write(packer.compress(rest))
        out.write(packer.flush())
    return size + len(rest)


def _keep_log(raw: RawFolder, stream: RawStream, target: Path) -> None:
    """Copy the plugin's own log of executed blocks, if it was asked to write one."""
    try:
        with (
            open_regular(raw.folder / f"log_{stream.index}") as source,
            os.fdopen(os.dup(source), "rb") as rows,
            target.open("wb") as out,
        ):
            shutil.copyfileobj(rows, out)
    except FileNotFoundError:
        return


def _packed(data: bytes) -> bytes:
    packer = isal_zlib.compressobj(_LEVEL, wbits=31)
    return bytes(packer.compress(data) + packer.flush())
