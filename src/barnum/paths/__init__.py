"""Paths of basic blocks: decode, read, write and filter them."""

from barnum.paths.blocks import Blocks, Chunk, GapDetails, Path
from barnum.paths.effects import EffectPlaces, KernelEntries, effect_steps
from barnum.paths.filters import (
    RESTARTS,
    Learn,
    Transfers,
    Windows,
    gather,
    iter_transfers,
    iter_windows,
    transfers,
)
from barnum.paths.kinds import GAPS, KINDS, Gap, Kind, kind_of_text
from barnum.paths.reader import OpenPath, PathReader, open_path

__all__ = [
    "GAPS",
    "KINDS",
    "RESTARTS",
    "Blocks",
    "Chunk",
    "EffectPlaces",
    "Gap",
    "GapDetails",
    "KernelEntries",
    "Kind",
    "Learn",
    "OpenPath",
    "Path",
    "PathReader",
    "Transfers",
    "Windows",
    "effect_steps",
    "gather",
    "iter_transfers",
    "iter_windows",
    "kind_of_text",
    "open_path",
    "transfers",
]
