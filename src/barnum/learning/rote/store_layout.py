"""What a store of counts consists of: keys, rows of counters, and its state (docs/formats.md)."""

from __future__ import annotations

from typing import Annotated

import msgspec
import numpy as np

from barnum.paths import Learn
from barnum.sequences import Tokens

SCHEMA = 1
MOST_RUNS = 1 << 20
MOST_COUNTED = 1 << 62

# a counter's field, and a row of increments that are staged or pending
FIELD = np.dtype([("context", ">u8"), ("target", ">u8")])
ROW = np.dtype([("context", ">u8"), ("target", ">u8"), ("count", ">u4")])


class Keys:
    """The keys of the store ``name``."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.state = f"{name}:state"
        self.runs = f"{name}:runs"
        self.pending = f"{name}:pending"

    def counters(self, order: int) -> str:
        """Key of the counters of contexts of one length; ``order`` is its place among the lengths."""
        return f"{self._name}:{order}"

    def run(self, number: int) -> str:
        """Key of the run with a number, from 1 on."""
        return f"{self._name}:run:{number}"

    def staged(self, push: str) -> str:
        """Key of the increments of a push that is not yet part of the store."""
        return f"{self._name}:staged:{push}"

    def staged_runs(self, push: str, count: int) -> list[str]:
        """Keys of the runs of a push that is not yet part of the store."""
        return [f"{self.staged(push)}:{number}" for number in range(count)]


class State(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a store says of itself.

    Attributes:
        schema: of its layout.
        learn: kinds of transfers that were learnt.
        tokens: how blocks are numbered.
        lengths: of contexts.
        runs: number of runs that it holds.
        counted: for each length, the sum of all its counters.
    """

    schema: int
    learn: Learn
    tokens: Tokens
    lengths: list[int]
    runs: Annotated[int, msgspec.Meta(ge=1, le=MOST_RUNS)]
    counted: list[Annotated[int, msgspec.Meta(ge=0, le=MOST_COUNTED)]]
