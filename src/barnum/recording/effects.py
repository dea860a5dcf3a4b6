"""Reads the files in which the plugin noted effects, and makes the effects of the sample of them."""

from __future__ import annotations

import os
import struct
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec

from barnum.recording.effect_calls import address_of, numbers_of, result_of
from barnum.recording.elf import PAGE
from barnum.recording.raw import RawFolder, RawProcess, open_regular
from barnum.samples import Effect, Effects, ProcessMeta, StreamMeta
from barnum.samples.effects import MAX_EFFECTS, MAX_TEXT
from barnum.texts import escaped

_MAGIC = b"BRNMEFF1"
_FILE_LIMIT = 1 << 26
# bytes of the records of all processes that are kept
_KEPT = 1 << 26
# magic, bytes in use, number of calls; then by call its name and how many were counted only
_HEADER = struct.Struct("<8sQQ")
_MORE = struct.Struct("<24sQ")
_MOST_CALLS = 127
# size, kind, number of the effect, time, result, name, thread, stream, offset, entry, six arguments
_RECORD = struct.Struct("<IIQQq24sIiQQ6Q")
_CALL, _RESULT = 1, 2
_PART = struct.Struct("<HHI")
_PATH, _FOLDER, _TARGET, _TARGET_FOLDER, _ADDRESS, _WORD, _LEFT_OUT = range(1, 8)
_TEXTS = {_PATH: "path", _FOLDER: "folder", _TARGET: "target", _TARGET_FOLDER: "target_folder"}
_CUT, _UNREADABLE = 1, 2
_UNKNOWN = (1 << 64) - 1
_TEXT_LIMIT = 4096
_MOST_WORDS = 64
_FORKS = ("fork", "vfork", "clone", "clone3")
_EXECS = ("execve", "execveat")


class _Noted(NamedTuple):
    """A record of a call, with what it returned: the bytes of its parts are not looked at yet."""

    time: int
    process: int
    number: int
    call: str
    thread: int
    stream: int
    offset: int
    entry: int
    arguments: tuple[int, ...]
    parts: bytes
    result: int | None
    peer: bytes

    @property
    def size(self) -> int:
        """Bytes that it takes in memory, about."""
        return 512 + len(self.parts) + len(self.peer)


class EffectSource(NamedTuple):
    """What a sample holds when its effects are made.

    Attributes:
        processes: those of the sample.
        positions: number of a process in the sample, by its number in the work folder.
        streams: those of the sample.
        stream_of: number of a stream in the sample, by its number in the work folder.
    """

    processes: Sequence[ProcessMeta]
    positions: Mapping[int, int]
    streams: Sequence[StreamMeta]
    stream_of: Mapping[int, int]


def gather_effects(
    raw: RawFolder, processes: Sequence[RawProcess], source: EffectSource, check: Callable[[], None]
) -> Effects:
    """The effects of all processes, in the order in which they began.

    At most MAX_EFFECTS, and 64 MiB of what was noted of them, are kept one by one; the others are counted.
    What is broken is left out, with a complaint in ``raw``.

    Args:
        raw: the work folder.
        processes: those in it.
        source: the processes and streams of the sample.
        check: called for each process; it may raise to end the work.
    """
    kept: list[_Noted] = []
    more: Counter[str] = Counter()
    for process in processes:
        check()
        # a process without a memory map ran nothing
        if process.index in source.positions:
            kept += _read_process(raw, process.index, more)
            kept = _trim(kept, more)
    started = _Started(source.processes)
    effects: list[Effect] = []
    broken = size = 0
    for noted in kept:
        # what cannot be written is not made
        if size > MAX_TEXT:
            more[noted.call] += 1
            continue
        try:
            effect = _effect(noted, source, started)
        except (struct.error, ValueError):
            more[noted.call] += 1
            broken += 1
            continue
        effects.append(effect)
        size += sum(len(getattr(effect, name) or "") for name in _TEXTS.values())
    if broken:
        raw.complaints.append(f"{broken:,} effects could not be read; they are counted only")
    return Effects(more=dict(more), effects=tuple(effects))


def _trim(kept: list[_Noted], more: Counter[str]) -> list[_Noted]:
    """The first ones, as far as the bounds allow; the others are added to ``more``."""
    kept.sort(key=lambda noted: (noted.time, noted.process, noted.number))
    size = end = 0
    while end < min(len(kept), MAX_EFFECTS) and (size := size + kept[end].size) <= _KEPT:
        end += 1
    more.update(noted.call for noted in kept[end:])
    return kept[:end]


def _read_process(raw: RawFolder, index: int, more: Counter[str]) -> list[_Noted]:
    """What was noted of a process; what was counted only is added to ``more``."""
    try:
        with open_regular(raw.folder / f"effects_{index}") as descriptor:
            head = os.pread(descriptor, PAGE, 0)
            magic, used, _ = _HEADER.unpack_from(head)
            if magic != _MAGIC or not PAGE <= used <= _FILE_LIMIT or used > os.fstat(descriptor).st_size:
                raise ValueError("no file of effects")
            data = os.pread(descriptor, used - PAGE, PAGE)
    except FileNotFoundError:
        return []
    except (OSError, ValueError, struct.error):
        raw.complaints.append(f"what was noted of the effects of process {index} cannot be read")
        return []
    for at in range(_MOST_CALLS):
        name, count = _MORE.unpack_from(head, _HEADER.size + at * _MORE.size)
        if count and count >> 63 == 0 and (call := _call_name(name)):
            more[call] += count
    noted: dict[int, _Noted] = {}
    try:
        for row, parts in _records(data):
            _take(noted, index, row, parts)
    except (ValueError, struct.error):
        raw.complaints.append(f"the effects of process {index} were not recorded to their end")
    return list(noted.values())


def _records(data: bytes) -> Iterator[tuple[tuple[int, ...], bytes]]:
    at = 0
    while at < len(data):
        row = _RECORD.unpack_from(data, at)
        size = row[0]
        if size < _RECORD.size or size % 8 or at + size > len(data):
            raise ValueError("broken record")
        yield row, data[at + _RECORD.size : at + size]
        at += size


def _take(noted: dict[int, _Noted], process: int, row: tuple[int, ...], parts: bytes) -> None:
    _, kind, number, time, result, name, thread, stream, offset, entry, *arguments = row
    if kind == _CALL:
        call = _call_name(name)  # type: ignore[arg-type]
        if not call or number in noted or len(noted) >= MAX_EFFECTS:
            raise ValueError("broken record")
        noted[number] = _Noted(
            time, process, number, call, thread, stream, offset, entry, tuple(arguments), parts, None, b""
        )
    elif kind == _RESULT and number in noted:
        noted[number] = noted[number]._replace(result=result, peer=parts)
    else:
        raise ValueError("broken record")


def _call_name(name: bytes) -> str:
    """The name of a call, "" where it is none."""
    text = name.rstrip(b"\0").decode("ascii", errors="replace")
    return text if text.isidentifier() and text.isascii() else ""


def _parts(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    at = 0
    while at < len(data):
        part, flags, size = _PART.unpack_from(data, at)
        begin = at + _PART.size
        if begin + size > len(data) or size > _TEXT_LIMIT:
            raise ValueError("broken part")
        yield part, flags, data[begin : begin + size]
        at = begin + (size + 7) // 8 * 8


def _effect(noted: _Noted, source: EffectSource, started: _Started) -> Effect:
    position = source.positions[noted.process]
    process = source.processes[position]
    fields: dict[str, object] = {}
    words: list[str] | None = [] if noted.call in _EXECS else None
    for part, flags, data in (*_parts(noted.parts), *_parts(noted.peer)):
        if part in _TEXTS:
            fields[_TEXTS[part]] = escaped(data)
        elif part == _ADDRESS:
            fields["address"] = address_of(data)
        elif part == _WORD and words is not None and len(words) < _MOST_WORDS:
            words.append(escaped(data))
        elif part == _LEFT_OUT and len(data) == 4:
            fields["left_out"] = int.from_bytes(data, "little")
        else:
            raise ValueError("broken part")
        if flags & (_CUT | _UNREADABLE):
            fields["cut"] = True
    if noted.result is not None:
        fields["result"], fields["error"] = result_of(noted.result, process.exec_mode)
    if noted.call in _EXECS and noted.result is None:
        fields["started"] = started.program(position)
        fields["result"] = None if fields["started"] is None else 0
    elif noted.call in _FORKS and noted.result is not None and noted.result > 0:
        fields["started"] = started.process(position, noted.result)
    fields["flags"], fields["values"] = numbers_of(noted.call, noted.arguments)
    number = source.stream_of.get(noted.stream)
    # another program of the run may have written that
    if number is not None and source.streams[number].process != position:
        number = None
    known = number is not None and noted.offset <= source.streams[number].bytes and noted.entry >> 63 == 0
    effect = Effect(
        call=noted.call,
        process=position,
        thread=noted.thread,
        stream=number,
        offset=noted.offset if known else None,
        entry=noted.entry if known else None,
        arguments=None if words is None else tuple(words),
    )
    return msgspec.structs.replace(effect, **fields)


class _Started:
    """The processes of a sample, by what started them; each is given once."""

    def __init__(self, processes: Sequence[ProcessMeta]) -> None:
        self._programs: dict[int, int] = {}
        self._processes: dict[tuple[int, int], list[int]] = {}
        for process in reversed(processes):
            if process.parent is None:
                continue
            if process.event == "exec" and process.pid == processes[process.parent].pid:
                self._programs[process.parent] = process.index
            elif process.event == "fork":
                self._processes.setdefault((process.parent, process.pid), []).append(process.index)

    def program(self, parent: int) -> int | None:
        """The program that took the place of ``parent`` by an exec."""
        return self._programs.pop(parent, None)

    def process(self, parent: int, pid: int) -> int | None:
        """The next process with this id that ``parent`` started."""
        found = self._processes.get((parent, pid))
        return found.pop() if found else None
