"""The list of sources of traces."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from barnum.errors import EngineError, OptionsError
from barnum.registry import Registry
from barnum.sources.source import RecordingSource, TraceSource

if TYPE_CHECKING:
    from barnum.recording import InputRecorder, Settings

# sources by name, which is the value of --engine
SOURCES: Registry[TraceSource] = Registry(
    "trace source",
    {
        "emulator": "barnum.sources.emulator:EMULATOR",
    },
)


def recording_sources() -> dict[str, RecordingSource]:
    """The sources that run a program, by name."""
    sources = {name: SOURCES[name] for name in SOURCES.names}
    return {name: source for name, source in sources.items() if isinstance(source, RecordingSource)}


def new_recorder(name: str, settings: Settings, options: Mapping[str, str | None]) -> InputRecorder:
    """A recorder of the source ``name``. Options whose value is None count as not given.

    Raises:
        OptionsError: there is no such source, or it has no such option.
        EngineError: the source cannot be used on this machine.
        InputError: as RecordingSource.recorder() does.
    """
    sources = recording_sources()
    if name not in sources:
        raise OptionsError(f"no trace source is called {name!r}: use {', '.join(sources)}")
    source = sources[name]
    given = {option: value for option, value in options.items() if value is not None}
    for option in given.keys() - {own.name for own in source.options}:
        raise OptionsError(f"{option} is no option of the trace source {name}: leave it out")
    try:
        return source.recorder(settings, given)
    except EngineError as error:
        usable = [key for key, other in sources.items() if other is not source and not other.missing()]
        if not usable:
            raise
        raise EngineError(f"{error}; or use {' or '.join(usable)}, which can record here") from None
