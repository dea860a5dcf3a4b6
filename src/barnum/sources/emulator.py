"""The emulator: QEMU user mode with the project's plugin, which writes the packets that a processor would."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from barnum.sources.source import Option, RecordingSource

if TYPE_CHECKING:
    from barnum.recording import InputRecorder, Settings


class Emulator(RecordingSource):
    """Records on any x86-64 Linux, without hardware for tracing."""

    name = "emulator"
    options = (
        Option("cpu", "MODEL", "Processor that the program sees: a model of QEMU (default: qemu64, qemu32)."),
    )

    def missing(self) -> list[str]:
        from barnum.recording import missing_for_engine

        return missing_for_engine()

    def recorder(self, settings: Settings, options: Mapping[str, str]) -> InputRecorder:
        from barnum.recording import Recorder, find_engine

        return Recorder(settings, find_engine(options.get("cpu")))


EMULATOR = Emulator()
