"""The interface of readers of reports: which files a reader reads, and how it collects their calls.

A new reader is one file with a class, of which it makes an instance, and one line in
:mod:`barnum.calls.readers.readers`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from enum import IntEnum

from barnum.calls.recording import Recording
from barnum.calls.source import Source

_BLANK = b" \t\r\n"
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")


class Likeness(IntEnum):
    """How sure a reader is, from the beginning of a file, that it can read it. The surest reader reads it."""

    NONE = 0
    # it may be such a report, if no other reader is surer
    POSSIBLE = 1
    # only such a report begins so
    CERTAIN = 2


class ReportReader(ABC):
    """Reads one format of reports.

    Attributes:
        name: the value of Calls.format, unless read() sets another.
        names: file names that such a report may have in the folder of a sample, plain or with ``.gz``; the
            first one that is there is taken.
    """

    name: str
    names: tuple[str, ...] = ()

    @abstractmethod
    def likeness(self, head: bytes) -> Likeness:
        """How sure it is that a file is of this format.

        ``head`` are its first bytes, decompressed: 256 KiB, or all. They are not all blank.
        """

    @abstractmethod
    def read(self, source: Source, recording: Recording) -> str | None:
        """Read a report into a recording; returns why it breaks off (``source.broken``), None when it is
        whole.

        The file comes from ``source.lines()`` or ``source.read()``, unpacked. Each process of the report is
        made by ``recording.process()``; its number, parent, path and command line are fields of what that
        returns. ``recording.call()`` adds a call to it, ``extend()`` many at once, and ``recording.text()``
        bounds a text that is kept. Of what is no call ``recording.skip()`` is told. ``recording.form``,
        ``ordered`` and ``whole_machine`` may be set. :mod:`barnum.calls.readers.plain` is an example.
        Memory must not grow with anything but what the recording bounds.

        Raises:
            SampleError: it is no such report after all, or a bound is exceeded.
        """


def start_of_text(head: bytes) -> bytes:
    """The beginning of a file without leading blanks; empty if it is binary data or UTF-16."""
    return b"" if b"\0" in head or head.startswith(_UTF_16) else head.lstrip(_BLANK)


def why_unknown(head: bytes) -> str:
    """What a file is that no reader takes, for a message."""
    if head.startswith(_UTF_16):
        return "is UTF-16 text: save it as UTF-8"
    if b"\0" in head:
        return "is no report of a sandbox, nor a list of calls, but binary data"
    if head.lstrip(_BLANK).startswith(b"["):
        return "is a JSON list, but a report of a sandbox is an object or lines"
    return "is no report of a sandbox, nor a list of calls"
