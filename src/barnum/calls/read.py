"""Reads the calls of a report, whatever sandbox it is of."""

from __future__ import annotations

import logging
import re
from pathlib import Path

from barnum.calls.calls import Calls, Limits
from barnum.calls.drakvuf import is_line, read_log
from barnum.calls.recording import Recording
from barnum.calls.report import Report
from barnum.calls.sequence import read_sequence
from barnum.calls.source import Source
from barnum.errors import SampleError
from barnum.files import open_regular

_log = logging.getLogger(__name__)
_HEAD = 1 << 18
_BLANK = b" \t\r\n"
_PLUGIN = re.compile(rb'\{\s*"Plugin"\s*:')
# a log may begin with lines that are broken
_LINES = 16


def read_calls(
    file: Path,
    process: str | None = None,
    document: str | None = None,
    threads: bool = False,
    limits: Limits = Limits(),  # noqa: B008 - it cannot be changed
    children: bool = False,
) -> Calls:
    """The calls that a program made, as a sandbox recorded them.

    The format is told by the content: ``report.json`` of Cuckoo 2 or CAPEv2, lines of DRAKVUF's plugins
    syscall and apimon, or a plain list of names or numbers; plain or gzip. A report is read in one pass, in
    memory that grows with the calls it holds (5 bytes each) and with distinct names.

    Args:
        file: the report.
        process: whose calls: a program's file name (upper and lower case alike), else a part of its path,
            or ``pid:`` and a number. All processes that match are taken, each as a stream of its own. By
            default the one that runs the document, else the one that was given it (its command line names
            it); of several the first in the tree of processes, and one that only hands it on (``cmd.exe /c
            start``, the Explorer) after all others. Of several programs of its name those at a path that the
            report gives of it are taken first, those of Windows last. Where there is none, the first that has
            calls, with a warning; an error for DRAKVUF, which records the whole machine.
        document: file name of what was opened. Names, paths and hashes that the report says of it count, too.
        threads: make each thread a stream of its own; else calls stay in the order that they were recorded.
        limits: bounds on what the report may hold.
        children: take the processes that descend from these, too, by the parents' numbers in the report;
            streams are in the order of the report.

    Raises:
        SampleError: the file cannot be read, is no such report, exceeds a bound, or holds no call of the
            process that is wanted.
    """
    if "\0" in str(file):
        raise SampleError(f"{str(file)!r}: is no path")
    try:
        with open_regular(file, follow=True) as descriptor, open(descriptor, "rb", closefd=False) as raw:
            source = Source(file, raw, limits, quotable=not file.is_symlink())
            recording = Recording(file, limits, threads, source.quotable)
            return _read(source, recording, process, document, children)
    except MemoryError:
        pass  # behind this block what was read is let go
    except FileNotFoundError:
        raise SampleError(f"{file}: no such file") from None
    except OSError as failed:
        raise SampleError(f"{file}: cannot be read ({failed.strerror or failed})") from None
    raise SampleError(f"{file}: needs more memory than there is: give a report of a shorter run")


def _read(
    source: Source, recording: Recording, process: str | None, document: str | None, children: bool
) -> Calls:
    if document is not None:
        recording.document = document
        recording.target.add(document, sure=True)
    head = source.head(_HEAD)
    start = head.lstrip(_BLANK)
    if not start:
        raise SampleError(f"{source.file}: {source.broken or 'is empty'}: give a report of a sandbox")
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise SampleError(f"{source.file}: is UTF-16 text: save it as UTF-8")
    if b"\0" in head:
        raise SampleError(f"{source.file}: is no report of a sandbox, nor a list of calls, but binary data")
    if start.startswith(b"["):
        raise SampleError(f"{source.file}: is a JSON list, but a report of a sandbox is an object or lines")
    if not start.startswith(b"{"):
        form, broken = "sequence", read_sequence(source, recording)
    elif _PLUGIN.match(start) or any(map(is_line, start.split(b"\n", _LINES)[:_LINES])):
        form, broken = "drakvuf", read_log(source, recording)
    else:
        report = Report(source, recording)
        report.read()
        form, broken = report.form, report.broken
    if broken is None:
        return recording.result(form, process, False, children)
    if not any(found.count for found in recording.found):
        raise SampleError(
            f"{source.file}: breaks off before any call ({broken}): let the sandbox write it anew"
        )
    calls = recording.result(form, process, True, children)
    _log.warning(
        "%s: breaks off (%s); the %s calls before are kept", source.file, broken, f"{len(calls.call):,}"
    )
    return calls
