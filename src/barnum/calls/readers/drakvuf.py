"""Logs of DRAKVUF: one JSON object a line, which names the plugin that wrote it.

Calls are the lines of ``syscall``, and those of ``apimon`` with the event ``api_called`` or none. Lines of
``procmon`` give the command lines with which processes were started, and their parents. All other lines are
skipped. The lines of one plugin may follow those of another, so the times of lines show what was first.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from typing import Any

import msgspec

from barnum.calls.found import Found, integer, last_part
from barnum.calls.readers.reader import Likeness, ReportReader, start_of_text
from barnum.calls.recording import LONGEST_TEXT, Recording
from barnum.calls.source import Source
from barnum.calls.surrogates import may_have, mended
from barnum.texts import shortened

# kinds of lines that messages distinguish
_KINDS = 64
_LONGEST_STAMP = 40
_PLUGIN = re.compile(rb'\{\s*"Plugin"\s*:')
# lines that are looked at to recognise a log, which may begin with broken ones
_LINES = 16
# starts of processes, by number and name of the program in lower case
_Started = dict[tuple[int, str], list[Found]]


class _Line(msgspec.Struct, rename="pascal", gc=False):
    """What is read of a line. Fields that a plugin does not write are None, and a value may have any type."""

    plugin: Any = None
    pid: Any = msgspec.field(default=None, name="PID")
    ppid: Any = msgspec.field(default=None, name="PPID")
    tid: Any = msgspec.field(default=None, name="TID")
    process_name: Any = None
    method: Any = None
    event: Any = None
    new_pid: Any = None
    command_line: Any = None
    image_path_name: Any = None


class _Moment(msgspec.Struct, rename="pascal", gc=False):
    """The time of a line, which is read of few lines only."""

    time_stamp: Any = None


_decode = msgspec.json.Decoder(_Line).decode
_decode_moment = msgspec.json.Decoder(_Moment).decode
_BROKEN = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


class DrakvufReader(ReportReader):
    """Reads logs of DRAKVUF, which are of a whole machine, in any order."""

    name = "drakvuf"
    names = ("syscall.log", "apimon.log")

    def likeness(self, head: bytes) -> Likeness:
        start = start_of_text(head)
        if start.startswith(b"{") and (
            _PLUGIN.match(start) or any(map(_is_line, start.split(b"\n", _LINES)[:_LINES]))
        ):
            return Likeness.CERTAIN
        return Likeness.NONE

    def read(self, source: Source, recording: Recording) -> str | None:
        recording.ordered = recording.whole_machine = True
        return _read_log(source, recording)


DRAKVUF = DrakvufReader()


def _is_line(line: bytes) -> bool:
    """Whether it is a line of a log of DRAKVUF."""
    try:
        return isinstance(_decode(line).plugin, str)
    except _BROKEN:
        mended_line = _mended(line)
        return mended_line is not None and isinstance(mended_line.plugin, str)


def _mended(line: bytes) -> _Line | None:
    """A line in which only lone halves of surrogate pairs were wrong; None for any other broken line."""
    if not may_have(line):
        return None
    try:
        return _decode(mended(line))
    except _BROKEN:
        return None


def _read_log(source: Source, recording: Recording) -> str | None:
    processes: dict[tuple[int, str], Found] = {}
    started: _Started = {}
    starts = 0
    now = 0.0
    kinds: set[str] = set()
    damaged = False
    for lines in source.lines():
        for text in lines:
            if not text:
                recording.blank()
                continue
            try:
                line = _decode(text)
            except _BROKEN:
                mended_line = _mended(text)
                if mended_line is None:
                    if source.cut:
                        damaged = True
                    elif text.isspace():
                        recording.blank()
                    else:
                        recording.skip("lines that are broken")
                    continue
                line = mended_line
            plugin = line.plugin
            if plugin == "syscall" or (plugin == "apimon" and line.event in (None, "api_called")):
                pid, path = line.pid, line.process_name
                if type(pid) is not int or type(path) is not str:
                    recording.skip("calls that name no process")
                    continue
                if len(path) > LONGEST_TEXT:
                    # keys are kept, so they must not be longer than what is counted
                    path = path[:LONGEST_TEXT]
                process = processes.get((pid, path))
                if process is None:
                    process = recording.process()
                    process.pid, process.parent = pid, integer(line.ppid)
                    process.path = recording.text(path) or ""
                    process.name = last_part(process.path)
                    process.born = now = _moment(text, now)
                    processes[pid, path] = process
                recording.call(process, line.method, line.tid)
                continue
            if plugin == "procmon" and line.command_line is not None:
                starts += 1
                if starts > recording.limits.started:
                    raise recording.too_much(f"{recording.limits.started:,} processes that were started")
                now = _moment(text, now)
                _start(line, started, recording, now)
            kind = _kind(plugin, source)
            if kind not in kinds and len(kinds) >= _KINDS:
                kind = "yet other plugins"
            kinds.add(kind)
            recording.skip(f"lines of {kind} that are no calls", normal=True)
    _give_starts(started, recording)
    if source.overlong:
        recording.skip("lines that are too long", source.overlong)
    return source.broken or ("its last line is cut short" if damaged else None)


def _kind(plugin: object, source: Source) -> str:
    if not isinstance(plugin, str):
        return "nothing named"
    return shortened(plugin, 40) if source.quotable else "other plugins"


def _start(line: _Line, started: _Started, recording: Recording, now: float) -> None:
    """Note how a process was started. On Windows the line is of its parent and gives its number as NewPid; on
    Linux the line is its own."""
    pid = integer(line.pid if line.new_pid is None else line.new_pid)
    command_line = recording.text(line.command_line)
    if pid is None or command_line is None:
        return
    path = recording.text(line.image_path_name) or ""
    parent = integer(line.ppid if line.new_pid is None else line.pid)
    start = Found(pid, parent, last_part(path), path, command_line, born=now)
    started.setdefault((pid, start.name.lower()), []).append(start)


def _give_starts(started: _Started, recording: Recording) -> None:
    """Assign a start to each process: the last one before its first call, else the first one.

    Numbers are used again, so the program must be the same. Starts that are assigned to no process are those
    of processes without a known call.
    """
    for starts in started.values():
        starts.sort(key=_born)
    assigned: set[int] = set()
    for process in recording.found:
        starts = started.get((process.pid, process.name.lower())) or started.get((process.pid, "")) or []
        if not starts:
            continue
        start = starts[max(0, bisect_right(starts, process.born, key=_born) - 1)]
        assigned.add(id(start))
        process.command_line = start.command_line
        process.born = min(process.born, start.born)
        if process.parent is None:
            process.parent = start.parent
    recording.silent = [start for starts in started.values() for start in starts if id(start) not in assigned]


def _born(found: Found) -> float:
    return found.born


def _moment(text: bytes, before: float) -> float:
    """The time of a line, in seconds; ``before``, that of an earlier line, if it has none."""
    try:
        stamp = _decode_moment(text).time_stamp
        if not isinstance(stamp, str | int | float) or len(str(stamp)) > _LONGEST_STAMP:
            return before
        moment = float(stamp)
    except (*_BROKEN, ValueError, OverflowError):
        return before
    return moment if math.isfinite(moment) else before
