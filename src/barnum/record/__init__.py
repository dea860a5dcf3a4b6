"""Run a program on inputs and write sample folders.

The way of a run: :mod:`inputs <barnum.record.inputs>` names it, :mod:`claim <barnum.record.claim>` makes it
ours, :mod:`engine <barnum.record.engine>` says how it is recorded, :mod:`run <barnum.record.run>` and its
supervisor run it, :mod:`finish <barnum.record.finish>` turns what the recorder left into a sample.
"""

from barnum.record.engine import EngineFiles, find_engine, find_engines
from barnum.record.inputs import list_inputs
from barnum.record.jobs import Failure, record_all
from barnum.record.program import Program, find_program
from barnum.record.recorder import PLACEHOLDER, Outcome, Recorder, Settings

__all__ = [
    "PLACEHOLDER",
    "EngineFiles",
    "Failure",
    "Outcome",
    "Program",
    "Recorder",
    "Settings",
    "find_engine",
    "find_engines",
    "find_program",
    "list_inputs",
    "record_all",
]
