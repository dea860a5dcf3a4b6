"""Run a program on inputs and write sample folders.

The steps of a run: :mod:`inputs <barnum.recording.inputs>` lists its input,
:mod:`claim <barnum.recording.claim>` claims its sample, :mod:`engine <barnum.recording.engine>` gives the
command that records it, :mod:`run <barnum.recording.run>` and its supervisor run it, and
:mod:`finish <barnum.recording.finish>` turns what the recorder left into a sample.
"""

from barnum.recording.engine import EngineFiles, find_engine, find_engines, missing_for_engine
from barnum.recording.inputs import list_inputs
from barnum.recording.jobs import Failure, InputRecorder, record_all
from barnum.recording.program import Program, find_program
from barnum.recording.recorder import PLACEHOLDER, Outcome, Recorder, Settings
from barnum.recording.sandbox import Sandbox, sandbox_state

__all__ = [
    "PLACEHOLDER",
    "EngineFiles",
    "Failure",
    "InputRecorder",
    "Outcome",
    "Program",
    "Recorder",
    "Sandbox",
    "Settings",
    "find_engine",
    "find_engines",
    "find_program",
    "list_inputs",
    "missing_for_engine",
    "record_all",
    "sandbox_state",
]
