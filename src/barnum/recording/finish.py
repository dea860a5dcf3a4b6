"""Makes a sample folder of what the plugin left behind."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from isal import isal_zlib

from barnum import __version__
from barnum.errors import RecordingError
from barnum.recording.code import TooMuchCode, write_code
from barnum.recording.elf import PAGE
from barnum.recording.engine import EngineFiles
from barnum.recording.images import ImageStore
from barnum.recording.modules import Memory, describe_memory
from barnum.recording.raw import RawFolder, RawProcess, RawStream, open_regular, tnt_packets
from barnum.recording.regions import Regions
from barnum.recording.run import Ended
from barnum.samples import (
    Engine,
    ExitStatus,
    Image,
    Info,
    Meta,
    ProcessMeta,
    SpawnMeta,
    StreamMeta,
    printable,
    write_info,
    write_meta,
)

_CHUNK = 1 << 20
# isa-l's first level packs packets at more than the speed a run makes them
_LEVEL = 1
_STDERR_KEPT = 64 << 10


class NothingRecordedError(RecordingError):
    """A run left no stream."""


class Finished(msgspec.Struct, frozen=True):
    """A finished sample folder: its description, and bytes of its traces raw and packed."""

    meta: Meta
    raw_bytes: int
    packed_bytes: int


def finish(
    raw: Path,
    sample: Path,
    store: ImageStore,
    info: Info,
    engine: EngineFiles,
    ended: Ended,
    command: tuple[str, ...],
    start: str,
    lost: list[str],
    check: Callable[[], None],
) -> Finished:
    """Turn the work folder raw into files in the empty folder sample; meta.json comes last.

    Args:
        lost: sentences on what is known to be missing; more are added.
        check: called now and then; it may raise to end the work.

    Raises:
        NothingRecordedError: of its class.
        OSError: the sample or an image cannot be written, or the recorder said that the disk was full.
    """
    folder = RawFolder(raw)
    raw_processes = folder.processes()
    raw_streams = folder.streams()
    for stream in raw_streams:
        if stream.lost == "disk full":
            raise OSError(errno.ENOSPC, "the disk was full while the program ran")
    processes: list[ProcessMeta] = []
    positions: dict[int, int] = {}
    images: dict[str, Image] = {}
    missing: dict[str, None] = {}
    for process in raw_processes:
        check()
        regions = Regions()
        for snapshot in folder.maps(process.index):
            for region in snapshot:
                regions.paint(region)
        if regions.ignored:
            folder.complaints.append(
                f"process {process.index} had more pieces of memory with code than are kept: "
                f"{regions.ignored:,} have no name"
            )
        memory = describe_memory(regions.all(), store)
        if not memory.lines:
            continue
        positions[process.index] = len(processes)
        described = _write_process(folder, sample, process, positions, memory, check)
        processes.append(described)
        missing.update(dict.fromkeys(memory.missing))
        _merge(images, memory.images, folder.complaints)
    streams: list[StreamMeta] = []
    spawn: SpawnMeta | None = None
    spawning = _first_to_spawn(raw_processes)
    packed = 0
    for stream in raw_streams:
        if not stream.size and stream.tnt <= 1:
            continue  # a thread that ended before recording began
        if stream.process not in positions:
            folder.complaints.append(f"stream {stream.index} belongs to no known process; it is left out")
            continue
        name = f"trace_{len(streams)}.gz"
        size = _pack_stream(folder, stream, sample / name, check)
        packed += (sample / name).stat().st_size
        _keep_log(folder, stream, sample / f"log_{len(streams)}")
        if stream.lost:
            why = "at the size allowed" if stream.lost == "max-size" else "as its file could not grow"
            lost.append(f"{name}: recording stopped {why}; {stream.lost_blocks:,} blocks ran after that")
        if stream.unexpected:
            lost.append(
                f"{name}: {stream.unexpected:,} times it could not be told how the program came to where it "
                "went on; the path has a gap there"
            )
        if spawning and spawning.index == stream.process:
            place = spawning.spawn
            if place and place.stream == stream.index and place.offset <= size:
                spawn = SpawnMeta(stream=len(streams), offset=place.offset)
        streams.append(
            StreamMeta(
                file=name,
                process=positions[stream.process],
                thread=stream.thread,
                bytes=size,
                lost=stream.lost,
                lost_blocks=stream.lost_blocks,
            )
        )
    if not streams:
        raise NothingRecordedError("nothing was recorded")
    lost += [f"no image of {printable(path)}: its code is in the sample as far as it ran" for path in missing]
    lost += folder.complaints
    meta = Meta(
        version=__version__,
        command=tuple(storable(word) for word in command),
        engine=Engine(
            name="emulator",
            program=Path(engine.qemu[processes[0].exec_mode]).name,
            version=engine.version,
            cpu=engine.cpu_of(processes[0].exec_mode),
        ),
        start="open" if start == "open" else "exec",
        host_cpu=host_cpu(),
        recorded=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        exit=exit_status(ended),
        processes=tuple(processes),
        streams=tuple(streams),
        images=images,
        spawn=spawn,
        children=len(processes) - 1,
        lost=tuple(lost),
        stderr=ended.stderr[-_STDERR_KEPT:].decode("utf-8", errors="replace"),
    )
    write_info(sample / "info.txt", info)
    check()
    write_meta(sample / "meta.json", meta)
    return Finished(meta, sum(stream.bytes for stream in streams), packed)


def exit_status(ended: Ended) -> ExitStatus:
    """How the program ended, as meta.json says it."""
    if ended.status is None:
        return ExitStatus(timeout=ended.timeout)
    if ended.status < 0:
        return ExitStatus(signal=-ended.status, timeout=ended.timeout)
    return ExitStatus(status=ended.status, timeout=ended.timeout)


def host_cpu() -> str:
    """Model name of this machine's processor; empty where the system does not tell."""
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8", errors="replace") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return ""


def _write_process(
    folder: RawFolder,
    sample: Path,
    process: RawProcess,
    positions: dict[int, int],
    memory: Memory,
    check: Callable[[], None],
) -> ProcessMeta:
    position = positions[process.index]
    mapping = "mapping.txt.gz" if position == 0 else f"mapping_{position}.txt.gz"
    text = "".join(line.text() for line in memory.lines).encode("utf-8", errors="replace")
    (sample / mapping).write_bytes(_packed(text))
    code: str | None = f"code_{position}.gz"
    try:
        if not write_code(sample / f"code_{position}.gz", folder.code(process.index), memory.pieces, check):
            code = None
    except TooMuchCode:
        folder.complaints.append(f"process {position} ran more generated code than is kept")
        if not (sample / f"code_{position}.gz").exists():
            code = None
    parent = positions.get(process.parent) if process.parent is not None else None
    return ProcessMeta(
        index=position,
        parent=parent,
        pid=process.pid,
        program=storable(process.program),
        mapping=mapping,
        code=code,
        exec_mode=64 if process.mode == 64 else 32,
        event="exec" if process.event == "exec" else "fork" if process.event == "fork" else "start",
    )


def _first_to_spawn(processes: list[RawProcess]) -> RawProcess | None:
    """The first process, or the program that it had become by exec, when it first started another."""
    now: RawProcess | None = None
    for process in processes:
        if now is None:
            if process.index:
                return None  # what the recorder noted of the first one is gone
        elif process.event != "exec" or process.parent != now.index or process.pid != now.pid:
            continue
        if process.spawn:
            return process
        now = process
    return None


def _merge(images: dict[str, Image], more: dict[str, Image], complaints: list[str]) -> None:
    """Add the images of a further process; the sample has one for a path."""
    for path, image in more.items():
        if images.setdefault(path, image) != image:
            complaints.append(
                f"{printable(path)} changed while the program ran; its first content is the image"
            )


def _pack_stream(folder: RawFolder, stream: RawStream, target: Path, check: Callable[[], None]) -> int:
    """Write the packets of a stream as gzip; returns their bytes before packing."""
    packer = isal_zlib.compressobj(_LEVEL, wbits=31)
    size = 0
    with folder.stream_file(stream.index) as source, target.open("wb") as out:
        while size < stream.size:
            check()
            data = os.pread(source, min(_CHUNK, stream.size - size), PAGE + size)
            if not data:
                folder.complaints.append(f"stream {stream.index} was cut off after {size:,} bytes")
                break
            size += len(data)
            out.write(packer.compress(data))
        rest = tnt_packets(stream.tnt)
        out.write(packer.compress(rest))
        out.write(packer.flush())
    return size + len(rest)


def _keep_log(folder: RawFolder, stream: RawStream, target: Path) -> None:
    """The plugin's own log of executed blocks, where one was asked for."""
    try:
        with (
            open_regular(folder.folder / f"log_{stream.index}") as source,
            os.fdopen(os.dup(source), "rb") as rows,
            target.open("wb") as out,
        ):
            shutil.copyfileobj(rows, out)
    except FileNotFoundError:
        return


def _packed(data: bytes) -> bytes:
    packer = isal_zlib.compressobj(_LEVEL, wbits=31)
    return bytes(packer.compress(data) + packer.flush())


def storable(value: str) -> str:
    """The same without what JSON cannot hold (bytes of a name that are no UTF-8)."""
    return value.encode("utf-8", errors="surrogateescape").decode("utf-8", errors="replace")
