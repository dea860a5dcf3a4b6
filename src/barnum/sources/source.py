"""What a source of traces is to everything else: whether it works on this machine, which options it has, and
how its traces become sample folders.

A new one is one file with a class, of which it makes an instance, and one line in
:mod:`barnum.sources.sources`. That file imports what records in the methods that need it, as
``barnum trace --help`` asks all sources for their options.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from barnum.recording import InputRecorder, Settings


@dataclass(frozen=True, slots=True)
class Option:
    """An option that one source has and others need not have.

    ``name`` is that of the keyword in Python; on the command line it is ``--name``, with hyphens. Its value
    is a text, ``metavar`` says of what, ``help`` what for. Sources whose options have one name mean the same
    by it.
    """

    name: str
    metavar: str
    help: str


class TraceSource(ABC):
    """A source of traces. ``name`` is that of ``barnum trace --engine``."""

    name: str
    options: tuple[Option, ...] = ()

    @abstractmethod
    def missing(self) -> list[str]:
        """All reasons why it cannot be used on this machine, a line each; none where it can."""


class RecordingSource(TraceSource):
    """A source that runs a program on inputs and records each run."""

    @abstractmethod
    def recorder(self, settings: Settings, options: Mapping[str, str]) -> InputRecorder:
        """What records, made ready: what is wrong with every run is noticed here. What it must leave of each
        input is a whole sample folder, as docs/formats.md describes it; see InputRecorder, and
        :class:`barnum.recording.Recorder` for an example.

        Args:
            settings: what holds for all runs, whatever records them.
            options: those of ``self.options`` that were given, by name.

        Raises:
            EngineError: it cannot be used on this machine.
            ProgramError: the program cannot be recorded.
            OptionsError: an option has a value that cannot be.
            OutputError: the folders of samples and images cannot be made.
        """
