"""Reads the calls of a report of any supported sandbox."""

from __future__ import annotations

import logging
from pathlib import Path

from barnum.calls.calls import Calls, Limits
from barnum.calls.readers.readers import reader_for
from barnum.calls.recording import Recording
from barnum.calls.source import Source
from barnum.errors import SampleError
from barnum.files import open_regular

_log = logging.getLogger(__name__)
_HEAD = 1 << 18


def read_calls(
    file: Path,
    process: str | None = None,
    document: str | None = None,
    threads: bool = False,
    limits: Limits = Limits(),  # noqa: B008 - it cannot be changed
    children: bool = False,
) -> Calls:
    """The calls that a program made, as a sandbox recorded them.

    The format, one of those in :mod:`barnum.calls.readers`, is recognised by the content, plain or gzip. A
    report is read in one pass, in memory that grows with its calls (5 bytes each) and its distinct names.

    Without ``process``, the process is searched for that was started for the document:

    1. one that runs it; of several programs with its name, one at a path that the report gives for it is
       preferred, and one of Windows comes last;
    2. else one whose command line names it; one that only passes it on (``cmd.exe /c start``, the Explorer)
       comes last;
    3. else the first process with calls, with a warning. A report of a whole machine, as from DRAKVUF, is an
       error then.

    Of several such processes, the first is taken, or its farthest ancestor among them. If there is nothing to
    search for, as in a plain list of calls, the only process with calls is taken without a warning.

    Args:
        file: the report.
        process: whose calls: the file name of a program (upper and lower case are equal), else a part of its
            path, or ``pid:`` and a number. All processes that match are taken, each as a stream of its own.
        document: file name of what was opened; names, paths and hashes in the report are searched for too.
        threads: make each thread a stream of its own; otherwise the calls of a process keep their order.
        limits: bounds on what the report may hold.
        children: also take the processes that descend from these, by the parents' numbers in the report;
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
        pass  # what was read is freed only after this block, and the message needs memory
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
    if not head.strip(b" \t\r\n"):
        raise SampleError(f"{source.file}: {source.broken or 'is empty'}: give a report of a sandbox")
    try:
        reader = reader_for(head)
    except SampleError as error:
        raise SampleError(f"{source.file}: {error}") from None
    recording.form = reader.name
    broken = reader.read(source, recording)
    if broken is None:
        return recording.result(process, False, children)
    if not any(found.count for found in recording.found):
        raise SampleError(
            f"{source.file}: breaks off before any call ({broken}): let the sandbox write it anew"
        )
    calls = recording.result(process, True, children)
    _log.warning(
        "%s: breaks off (%s); the %s calls before are kept", source.file, broken, f"{len(calls.call):,}"
    )
    return calls
