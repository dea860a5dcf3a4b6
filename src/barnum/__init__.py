"""Barnum finds attacks by the way a program runs.

Importing this package is cheap: the rooms (``barnum.record``, ``barnum.samples``, ``barnum.paths``,
``barnum.sequences``, ``barnum.models``, ``barnum.verdicts``) are imported where they are used.
"""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("barnum")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0+unknown"

__all__ = ["__version__"]
