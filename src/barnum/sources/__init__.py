"""Sources of traces: each runs a program and records it. The emulator is one source.

:mod:`source <barnum.sources.source>` is the interface, :mod:`sources <barnum.sources.sources>` the list.
"""

from barnum.sources.source import Option, RecordingSource, TraceSource
from barnum.sources.sources import SOURCES, new_recorder, recording_sources

__all__ = ["SOURCES", "Option", "RecordingSource", "TraceSource", "new_recorder", "recording_sources"]
