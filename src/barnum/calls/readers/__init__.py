"""Readers of the reports that sandboxes write: one file for each format.

:mod:`reader <barnum.calls.readers.reader>` is the interface,
:mod:`readers <barnum.calls.readers.readers>` the list.
"""

from barnum.calls.readers.reader import Likeness, ReportReader, start_of_text
from barnum.calls.readers.readers import READERS, report_names

__all__ = ["READERS", "Likeness", "ReportReader", "report_names", "start_of_text"]
