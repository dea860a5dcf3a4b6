"""Reads what the plugin left in a work folder, where the recorded program may have written too."""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import msgspec

from barnum.errors import RecordingError
from barnum.files import open_regular as open_regular
from barnum.recording.elf import PAGE
from barnum.texts import printable

MAX_PROCESSES = 1 << 14
MAX_STREAMS = (1 << 16) - 1
# process_<P>: notes, zeros, two places, the length of the notes, and how many notes found no room. The places
# are where it first started another process, and where it made a call for that which never returned (exec).
# Each is the number of a stream + 1 in the upper 24 bits, and an offset in that stream in the lower 40
_NOTES_ROOM = 16 << 10
_NOTES_TEXT = _NOTES_ROOM - 32
_OFFSET_BITS = 40
_MAPS_LIMIT = 64 << 20
_MAX_SENTENCES = 16
_MAPS_LINE_LIMIT = 2 * PAGE
_CODE_LIMIT = 1 << 28
_RECORD_LIMIT = 1 << 16
_PIECE = 1 << 20
_CODE_MAGIC = b"BRNMCODE"
_STREAM_MAGIC = b"BRNMPT01"
# magic, process, thread, bytes, pending TNT bits below a leading 1, unused, why lost, blocks lost, three more
# unused ones, times that the path was interrupted for an unknown reason
_STREAM_HEADER = struct.Struct("<8sIIQQIIQIIQQ")
_CODE_RECORD = struct.Struct("<IIQ")
LOST = {0: None, 1: "max-size", 2: "disk full", 3: "refused"}
_FILE = re.compile(r"(process|stream)_(0|[1-9][0-9]{0,5})", re.ASCII)
_MAPS_LINE = re.compile(
    rb"([0-9a-f]{1,16})-([0-9a-f]{1,16}) ([r-])([w-])([x-])[ps-] ([0-9a-f]{1,16}) "
    rb"[0-9a-f]+:[0-9a-f]+ ([0-9]{1,20})(?: +([^\n]*))?"
)


class Place(msgspec.Struct, frozen=True):
    """A boundary between packets: ``offset`` bytes of the stream with number ``stream`` come before it."""

    stream: int
    offset: int


class RawProcess(msgspec.Struct, frozen=True):
    """The content of process_<P>: a process, or after an exec the next program in the same process.

    Attributes:
        spawn: where it first started another process, or was replaced by another program (exec); None if
            it did neither.
    """

    index: int
    pid: int
    parent: int | None
    event: str
    mode: int
    program: str
    spawn: Place | None = None


class RawStream(msgspec.Struct, frozen=True):
    """Header of stream_<S>.

    Attributes:
        size: bytes of PT packets after the header.
        tnt: bits of the conditional branches that are in no packet yet, below a leading 1; the oldest is
            the highest.
        lost: why recording stopped before the thread did, one of the values of LOST.
        lost_blocks: blocks that were executed after that.
        unexpected: how often the recorder could not tell how the thread came to the next block.
    """

    index: int
    process: int
    thread: int
    size: int
    tnt: int
    lost: str | None
    lost_blocks: int
    unexpected: int


class Mapped(msgspec.Struct, frozen=True):
    """A line of a memory map: addresses [start, end), offset in the file, path as bytes (empty: no file)."""

    start: int
    end: int
    offset: int
    executable: bool
    path: bytes


class RawFolder:
    """A work folder. ``complaints`` are sentences for the sample's meta.json on what was wrong in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.complaints: list[str] = []

    def processes(self) -> list[RawProcess]:
        """All processes, by index; those whose file is broken are left out, with a complaint.

        Raises:
            RecordingError: there is none.
        """
        processes = []
        for index in self._indices("process", MAX_PROCESSES):
            try:
                with open_regular(self.folder / f"process_{index}") as descriptor:
                    data = os.pread(descriptor, _NOTES_ROOM, 0)
                text = data[:_NOTES_TEXT].replace(b"\0", b"").decode("utf-8", errors="replace")
                processes.append(_read_process(index, text, _read_spawn(data)))
                dropped = int.from_bytes(data[_NOTES_ROOM - 8 :], "little")
                self.complaints += _sentences(index, text, dropped)
            except (OSError, ValueError):
                self.complaints.append(f"what the recorder noted of process {index} cannot be read")
        if not processes:
            raise RecordingError("the recorder left no process: the program did not begin to run")
        return processes

    def streams(self) -> list[RawStream]:
        """All streams, by index; broken ones are left out, with a complaint."""
        streams = []
        for index in self._indices("stream", MAX_STREAMS):
            try:
                with self.stream_file(index) as descriptor:
                    head = os.pread(descriptor, _STREAM_HEADER.size, 0)
                    streams.append(_read_stream(index, head, os.fstat(descriptor).st_size))
            except (OSError, ValueError, struct.error):
                self.complaints.append(f"the header of stream {index} is broken; it is left out")
        return streams

    @contextmanager
    def stream_file(self, index: int) -> Iterator[int]:
        """Descriptor of a stream's file; the packets begin at PAGE."""
        with open_regular(self.folder / f"stream_{index}") as descriptor:
            yield descriptor

    def maps(self, process: int) -> Iterator[list[Mapped]]:
        """Snapshots of a process's memory map, in order; of each, the lines that the one before lacks.

        In the file, ``@ EPOCH`` begins a snapshot with all lines, ``+ EPOCH`` one with the new lines only.
        Broken lines are left out, and reading ends at a bound, with one complaint for each.
        """
        broken = 0
        before: set[bytes] = set()
        now: set[bytes] = set()
        new: list[Mapped] = []
        left = _MAPS_LIMIT
        try:
            with (
                open_regular(self.folder / f"maps_{process}") as descriptor,
                os.fdopen(os.dup(descriptor), "rb") as file,
            ):
                # a line without an end must not fill the memory
                while left > 0 and (line := file.readline(_MAPS_LINE_LIMIT)):
                    left -= len(line)
                    if line.startswith(b"@"):
                        yield new
                        before, now, new = now, set(), []
                        continue
                    if line.startswith(b"+"):
                        yield new
                        before, new = set(), []
                        continue
                    now.add(line)
                    if line in before:
                        continue
                    mapped = _read_mapped(line.rstrip(b"\n"))
                    if mapped is None:
                        broken += 1
                    else:
                        new.append(mapped)
        except OSError:
            broken += 1
        yield new
        if left <= 0:
            self.complaints.append(
                f"the memory map of process {process} changed too often: what came to it later has no name"
            )
        if broken:
            self.complaints.append(f"the memory map of process {process} was broken in {broken} places")

    def code(self, process: int) -> Iterator[tuple[int, int, bytes]]:
        """Code bytes of a process: (epoch, address, bytes), in the order in which they were recorded.

        Reading ends, with a complaint, at the first record that is broken.
        """
        try:
            with (
                open_regular(self.folder / f"code_{process}") as descriptor,
                os.fdopen(os.dup(descriptor), "rb") as file,
            ):
                if file.read(len(_CODE_MAGIC)) != _CODE_MAGIC:
                    raise ValueError("no code file")
                yield from _code_records(file)
        except (OSError, ValueError):
            self.complaints.append(
                f"the code of process {process} that lies in no file was not recorded to its end"
            )

    def _indices(self, kind: str, limit: int) -> list[int]:
        indices = []
        with os.scandir(self.folder) as entries:
            for entry in entries:
                name = _FILE.fullmatch(entry.name)
                if name and name[1] == kind:
                    indices.append(int(name[2]))
        indices.sort()
        # the plugin numbers them without gaps
        if indices and (gone := indices[-1] + 1 - len(indices)):
            self.complaints.append(f"{gone:,} files of kind {kind} are gone")
        if len(indices) > limit:
            self.complaints.append(f"there were {len(indices)} of kind {kind}; the first {limit} are kept")
        return indices[:limit]


def _code_records(file: BinaryIO) -> Iterator[tuple[int, int, bytes]]:
    """The records of a code file, which is read in large pieces: there are tens of thousands of records.

    Raises:
        ValueError: a record is broken.
    """
    size, last, left = _CODE_RECORD.size, 0, _CODE_LIMIT
    data, at, more = b"", 0, True
    while True:
        if more and len(data) - at < size + _RECORD_LIMIT:
            piece = file.read(_PIECE)
            more = len(piece) == _PIECE
            data, at = data[at:] + piece, 0
        begin = at + size
        if begin > len(data):
            return
        epoch, length, address = _CODE_RECORD.unpack_from(data, at)
        if length == 0:
            return  # the file is extended ahead of its content: zeros follow
        left -= length + size
        if length > _RECORD_LIMIT or epoch < last or address + length > 1 << 64 or left < 0:
            raise ValueError("broken record")
        at = begin + length
        if at > len(data):
            return  # the run was killed while this was written; it had not run yet
        last = epoch
        yield epoch, address, data[begin:at]


def tnt_packets(pending: int) -> bytes:
    """Short TNT packets for the bits of conditional branches in ``pending``.

    Below a leading 1, the oldest branch is the highest bit. A packet holds up to six branches: a stop bit,
    the branches, and a zero as its lowest bit (Intel SDM, volume 3, chapter on Intel PT, "Taken/Not-taken
    Packet").
    """
    packets = bytearray()
    count = max(pending.bit_length() - 1, 0)
    while count > 0:
        taken = min(count, 6)
        count -= taken
        part = (pending >> count) & ((1 << taken) - 1)
        packets.append((1 << taken | part) << 1)
    return bytes(packets)


def _read_spawn(data: bytes) -> Place | None:
    for at in (_NOTES_TEXT, _NOTES_TEXT + 8):
        place = int.from_bytes(data[at : at + 8], "little")
        if place >> _OFFSET_BITS:
            return Place((place >> _OFFSET_BITS) - 1, place & (1 << _OFFSET_BITS) - 1)
    return None


def _read_process(index: int, text: str, spawn: Place | None) -> RawProcess:
    values: dict[str, str] = {}
    for line in text.split("\n"):
        key, _, value = line.partition(" ")
        values.setdefault(key, value)
    parent = int(values.get("parent", "-1"))
    event = values.get("event", "start")
    mode = int(values.get("mode", "64"))
    pid = int(values.get("pid", "0"))
    if mode not in (32, 64) or event not in ("start", "fork", "exec") or not 0 <= pid < 1 << 31:
        raise ValueError("broken process")
    return RawProcess(
        index, pid, parent if 0 <= parent < index else None, event, mode, values.get("program", ""), spawn
    )


def _read_stream(index: int, head: bytes, file_size: int) -> RawStream:
    magic, process, thread, size, tnt, _, lost, lost_blocks, *_, unexpected = _STREAM_HEADER.unpack(head)
    if magic != _STREAM_MAGIC or size > max(file_size - PAGE, 0) or lost not in LOST or lost_blocks >> 63:
        raise ValueError("broken header")
    return RawStream(index, process, thread, size, tnt, LOST[lost], lost_blocks, unexpected)


def _sentences(index: int, text: str, dropped: int) -> list[str]:
    """Sentences on what the plugin noted that it could not record of a process."""
    words = {
        "lost": "",
        "untraced": "not recorded is what it started as ",
        "unprivileged": "what it started ran without the rights of ",
    }
    sentences: list[str] = []
    started: list[int] = []
    for line in text.split("\n"):
        key, _, value = line.partition(" ")
        if key in words:
            if key != "lost":
                started.append(len(sentences))
            sentences.append(f"process {index}: {words[key]}{printable(value)}")
        elif key == "stayed" and started:
            sentences[started.pop()] = ""  # the start failed: nothing is missing
    sentences = [sentence for sentence in sentences if sentence]
    more = len(sentences) - _MAX_SENTENCES + dropped if len(sentences) > _MAX_SENTENCES else dropped
    if more:
        sentences[_MAX_SENTENCES:] = [f"process {index}: {more:,} more notes of this kind"]
    return sentences


def _read_mapped(line: bytes) -> Mapped | None:
    fields = _MAPS_LINE.fullmatch(line)
    if not fields:
        return None
    start, end, offset = (int(fields[group], 16) for group in (1, 2, 6))
    # any part of it that is cut off must be valid for readers of maps as well
    if not start < end <= 1 << 64 or offset + end - start > 1 << 64 or (start | end | offset) % PAGE:
        return None
    return Mapped(start, end, offset, fields[5] == b"x", fields[8] or b"")
