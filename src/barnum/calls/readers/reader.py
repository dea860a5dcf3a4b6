"""What a reader of reports is to everything else: which files it reads, and how their calls are collected.

A new one is one file with a class, of which it makes an instance, and one line in
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
    """How much the beginning of a file looks like a form. Of all readers the one that is surest reads it."""

    NONE = 0
    # it may be one, where no other form is known better
    POSSIBLE = 1
    # it says so
    CERTAIN = 2


class ReportReader(ABC):
    """Reads one form of reports.

    ``name`` is what Calls.format says, unless read() says it more exactly. ``names`` are those that such a
    report may have in the folder of a sample, plain or with ``.gz``: the one to take first stands first.
    """

    name: str
    names: tuple[str, ...] = ()

    @abstractmethod
    def likeness(self, head: bytes) -> Likeness:
        """Whether a file is of this form. ``head`` are its first bytes, unpacked: all, or 256 KiB, in which
        there is something else than blanks."""

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
    """The beginning of a file without blanks before it; nothing where it is no text in ASCII's encodings."""
    return b"" if b"\0" in head or head.startswith(_UTF_16) else head.lstrip(_BLANK)


def why_unknown(head: bytes) -> str:
    """What to say of a file that no reader takes."""
    if head.startswith(_UTF_16):
        return "is UTF-16 text: save it as UTF-8"
    if b"\0" in head:
        return "is no report of a sandbox, nor a list of calls, but binary data"
    if head.lstrip(_BLANK).startswith(b"["):
        return "is a JSON list, but a report of a sandbox is an object or lines"
    return "is no report of a sandbox, nor a list of calls"
