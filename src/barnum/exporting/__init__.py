"""Samples in formats that other tools read: one file for each.

:mod:`exporter <barnum.exporting.exporter>` is the interface,
:mod:`exporters <barnum.exporting.exporters>` the list.
"""

from barnum.exporting.exporter import Exporter
from barnum.exporting.exporters import EXPORTERS, export_sample

__all__ = ["EXPORTERS", "Exporter", "export_sample"]
