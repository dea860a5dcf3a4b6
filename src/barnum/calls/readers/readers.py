"""The list of readers of reports."""

from __future__ import annotations

from barnum.calls.readers.reader import Likeness, ReportReader, why_unknown
from barnum.errors import SampleError
from barnum.registry import Registry

# readers by name. The first has precedence: for the report taken from a folder, and where several are equally
# sure of a file
READERS: Registry[ReportReader] = Registry(
    "reader of reports",
    {
        "cuckoo": "barnum.calls.readers.cuckoo:CUCKOO",
        "drakvuf": "barnum.calls.readers.drakvuf:DRAKVUF",
        "sequence": "barnum.calls.readers.plain:PLAIN",
    },
)


def report_names() -> tuple[str, ...]:
    """File names that a report may have in the folder of a sample; the first one that is there is taken."""
    return tuple(dict.fromkeys(name for reader in _readers() for name in reader.names))


def reader_for(head: bytes) -> ReportReader:
    """The reader of a file that begins with ``head``; see ReportReader.likeness().

    Raises:
        SampleError: there is none; the message says what the file is.
    """
    likeness = {reader: reader.likeness(head) for reader in _readers()}
    best = max(likeness, key=likeness.__getitem__)
    if likeness[best] is Likeness.NONE:
        raise SampleError(why_unknown(head))
    return best


def _readers() -> list[ReportReader]:
    return [READERS[name] for name in READERS.names]
