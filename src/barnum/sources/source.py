"""The interface of sources of traces: whether a source works on this machine, which options it has, and how
its traces become sample folders.

A new source is one file with a class, of which it makes an instance, and one line in
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
    """An option of one source, whose value is a text. Options of the same name mean the same in all sources.

    Attributes:
        name: the keyword in Python; on the command line it is ``--name``, with hyphens.
        metavar: what stands for the value in the help, such as MODEL.
        help: what the option is for.
    """

    name: str
    metavar: str
    help: str


class TraceSource(ABC):
    """A source of traces. ``name`` is its name for ``barnum trace --engine``; ``options`` are its own."""

    name: str
    options: tuple[Option, ...] = ()

    @abstractmethod
    def missing(self) -> list[str]:
        """All reasons why it cannot be used on this machine, a line each; empty if it can."""


class RecordingSource(TraceSource):
    """A source that runs a program on inputs and records each run."""

    @abstractmethod
    def recorder(self, settings: Settings, options: Mapping[str, str]) -> InputRecorder:
        """A recorder that is ready: errors that concern every run are raised here. Of each input it must
        leave a whole sample folder, as docs/formats.md describes it; see InputRecorder, and
        :class:`barnum.recording.Recorder` for an example.

        Args:
            settings: settings of all runs. Where they ask for a sandbox, the program must run in one.
            options: values of those of ``self.options`` that were given, by name.

        Raises:
            EngineError: the source cannot be used on this machine.
            ProgramError: the program cannot be recorded.
            OptionsError: an option has a wrong value.
            OutputError: the folders of samples and images cannot be made.
        """
