"""Logs of DRAKVUF: one JSON object a line, of the plugin that it names.

Calls are the lines of ``syscall`` and those of ``apimon`` that say ``api_called``. ``procmon`` says which
command lines processes were started with. All other lines are passed.
"""

from __future__ import annotations

from typing import Any

import msgspec

from barnum.calls.recording import Found, Recording, integer, last_part
from barnum.calls.source import Source
from barnum.calls.surrogates import may_have, mended
from barnum.samples import printable

# kinds of lines that are told apart in messages
_KINDS = 64


class _Line(msgspec.Struct, rename="pascal", gc=False):
    """What is read of a line; whatever a plugin does not write is None, and any type may stand there."""

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


_decode = msgspec.json.Decoder(_Line).decode
_BROKEN = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


def is_line(line: bytes) -> bool:
    """Whether it is a line of such a log."""
    try:
        return isinstance(_decode(line).plugin, str)
    except _BROKEN:
        found = _mended(line)
        return found is not None and isinstance(found.plugin, str)


def _mended(line: bytes) -> _Line | None:
    """A line that is broken by nothing but halves of surrogate pairs; None for another one."""
    if not may_have(line):
        return None
    try:
        return _decode(mended(line))
    except _BROKEN:
        return None


def read_log(source: Source, recording: Recording) -> str | None:
    """Read a log into a recording; returns why it breaks off, None when it is whole.

    Raises:
        SampleError: a bound is exceeded.
    """
    processes: dict[tuple[int, str], Found] = {}
    started: dict[int, tuple[str, str]] = {}
    starts = 0
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
                whole = _mended(text)
                if whole is None:
                    if source.cut:
                        damaged = True
                    elif text.isspace():
                        recording.blank()
                    else:
                        recording.skip("lines that are broken")
                    continue
                line = whole
            plugin = line.plugin
            if plugin == "syscall" or (plugin == "apimon" and line.event in (None, "api_called")):
                pid, path = line.pid, line.process_name
                if type(pid) is not int or type(path) is not str:
                    recording.skip("calls that name no process")
                    continue
                found = processes.get((pid, path))
                if found is None:
                    found = recording.process()
                    found.pid, found.parent = pid, integer(line.ppid)
                    found.path = recording.text(path) or ""
                    found.name = last_part(found.path)
                    processes[pid, path] = found
                recording.call(found, line.method, line.tid)
                continue
            if plugin == "procmon" and line.command_line is not None:
                starts += 1
                if starts > recording.limits.started:
                    raise recording.too_much(f"{recording.limits.started:,} processes that were started")
                _start(line, started, recording)
            kind = _kind(plugin, source)
            if kind not in kinds and len(kinds) >= _KINDS:
                kind = "yet other plugins"
            kinds.add(kind)
            recording.skip(f"lines of {kind} that are no calls", normal=True)
    for found in recording.found:
        name, command_line = started.get(found.pid, ("", ""))
        # numbers are used again, so the program must be the same
        if not name or name.lower() == found.name.lower():
            found.command_line = command_line
    if source.overlong:
        recording.skip("lines that are too long", source.overlong)
    return source.broken or ("its last line is cut short" if damaged else None)


def _kind(plugin: object, source: Source) -> str:
    if not isinstance(plugin, str):
        return "nothing named"
    return printable(plugin[:40]) if source.quotable else "other plugins"


def _start(line: _Line, started: dict[int, tuple[str, str]], recording: Recording) -> None:
    """Note what a process was started with: another's number on Windows, its own on Linux."""
    pid = integer(line.pid if line.new_pid is None else line.new_pid)
    command_line = recording.text(line.command_line)
    if pid is not None and command_line is not None:
        started[pid] = (last_part(recording.text(line.image_path_name) or ""), command_line)
