"""Calls that a sandbox recorded: reports of Cuckoo and CAPE, logs of DRAKVUF, plain lists of names."""

from barnum.calls.calls import Calls, Limits, Process
from barnum.calls.read import read_calls

__all__ = ["Calls", "Limits", "Process", "read_calls"]
