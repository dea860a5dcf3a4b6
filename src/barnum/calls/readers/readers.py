"""The forms of reports there are."""

from __future__ import annotations

from barnum.calls.readers.reader import Likeness, ReportReader, why_unknown
from barnum.errors import SampleError
from barnum.registry import Registry

# a reader by its name. In folders the report of the first is taken; among readers that are equally sure the
# first reads
READERS: Registry[ReportReader] = Registry(
    "reader of reports",
    {
        "cuckoo": "barnum.calls.readers.cuckoo:CUCKOO",
        "drakvuf": "barnum.calls.readers.drakvuf:DRAKVUF",
        "sequence": "barnum.calls.readers.plain:PLAIN",
    },
)


def report_names() -> tuple[str, ...]:
    """Names that a report may have in the folder of a sample, the one to take first at the front."""
    return tuple(dict.fromkeys(name for reader in _readers() for name in reader.names))


def reader_for(head: bytes) -> ReportReader:
    """What reads a file that begins so; see ReportReader.likeness().

    Raises:
        SampleError: nothing does; the message says what the file is.
    """
    likeness = {reader: reader.likeness(head) for reader in _readers()}
    best = max(likeness, key=likeness.__getitem__)
    if likeness[best] is Likeness.NONE:
        raise SampleError(why_unknown(head))
    return best


def _readers() -> list[ReportReader]:
    return [READERS[name] for name in READERS.names]
