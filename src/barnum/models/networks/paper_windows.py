"""Sizes and windows of the paper's network, without the code that trains it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import msgspec
import numpy as np
from numpy.typing import NDArray

from barnum.models.arrays import Arrays, Shapes
from barnum.paths import Blocks, Windows, gather
from barnum.sequences import Encoder, Tokens, Vocabulary

I64 = NDArray[np.int64]


class PaperConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Sizes. ``inputs`` is the number of tokens in windows, ``classes`` that of predictions."""

    inputs: Annotated[int, msgspec.Meta(ge=1, le=1 << 26)]
    classes: Annotated[int, msgspec.Meta(ge=1, le=1 << 26)]
    sequence_len: Annotated[int, msgspec.Meta(ge=1, le=1024)] = 32
    units: Annotated[int, msgspec.Meta(ge=1, le=4096)] = 128
    embedding: Annotated[int, msgspec.Meta(ge=1, le=4096)] = 128
    dropout: Annotated[float, msgspec.Meta(ge=0, lt=1)] = 0.5
    cudnn: bool = False


def shapes(config: PaperConfig) -> Shapes:
    """Shapes of the network's numbers by name; all are f32."""
    units, size, gates = config.units, config.embedding, 4 * config.units
    named: Shapes = {"embedding.weight": (config.inputs, size)}
    for layer, inputs in enumerate((size, 2 * units, 2 * units)):
        if config.cudnn:
            for way in ("", "_reverse"):
                named |= {
                    f"lstm.{layer}.weight_ih_l0{way}": (gates, inputs),
                    f"lstm.{layer}.weight_hh_l0{way}": (gates, units),
                    f"lstm.{layer}.bias_ih_l0{way}": (gates,),
                    f"lstm.{layer}.bias_hh_l0{way}": (gates,),
                }
        else:
            named |= {
                f"lstm.{layer}.kernel": (2, gates, inputs),
                f"lstm.{layer}.recurrent": (2, gates, units),
                f"lstm.{layer}.bias": (2, gates),
            }
    return named | {
        "dense.weight": (units, 2 * units),
        "dense.bias": (units,),
        "out.weight": (config.classes, units),
        "out.bias": (config.classes,),
    }


class WindowTokens:
    """What windows show of blocks, and what their targets are called.

    With a learnt vocabulary blocks are numbered as in ``block`` u64[B] (B: never seen, B + 1: before the
    begin of the path) and targets as in the vocabulary (T: never seen). Otherwise both are the original's
    classes, and 0 stands before the begin.
    """

    def __init__(self, tokens: Tokens, vocabulary: Vocabulary | None, extra: Arrays) -> None:
        self.tokens = tokens
        self._vocabulary = vocabulary
        self._known = extra.get("blocks.block")
        self._of: Blocks | None = None
        self._source: I64 = np.zeros(0, np.int64)
        self._encoder = None if vocabulary is None or self._known is None else Encoder(vocabulary)

    @property
    def inputs(self) -> int:
        """Number of tokens that a window may hold."""
        return self.tokens.inputs if self._known is None else len(self._known) + 2

    @property
    def classes(self) -> int:
        """Number of targets."""
        if self._known is None or self._vocabulary is None:
            return self.tokens.classes
        return len(self._vocabulary.target) + 1

    @property
    def before(self) -> int:
        """Token of a step before the begin of the path."""
        return 0 if self._known is None else len(self._known) + 1

    def windows(self, part: Windows, length: int, rows: slice) -> I64:
        """i64[rows, length]: the windows of some of a part's transfers."""
        blocks = part.transfers.blocks
        if self._of is not blocks:
            self._of = blocks
            token = self.tokens.sources(blocks)
            if self._known is None:
                self._source = token.astype(np.int64)
            else:
                at = np.minimum(np.searchsorted(self._known, token), len(self._known) - 1)
                self._source = np.where(self._known[at] == token, at, len(self._known))
        return gather(part, self._source, length, self.before, rows)

    def targets(self, part: Windows) -> I64:
        """i64[m]: the classes of a part's targets."""
        if self._encoder is not None:
            return self._encoder.encode(part.transfers).target.astype(np.int64)
        return self.tokens.targets(part.transfers.blocks)[part.transfers.target].astype(np.int64)


def known_blocks(counts: Sequence[tuple[NDArray[np.uint64], NDArray[np.int64]]]) -> Arrays:
    """``blocks.block`` u64[B] ascending and ``blocks.count`` i64[B] of the blocks of several runs."""
    block, at = np.unique(np.concatenate([block for block, _ in counts]), return_inverse=True)
    count = np.zeros(len(block), np.int64)
    np.add.at(count, at, np.concatenate([count for _, count in counts]))
    return {"blocks.block": block[count > 0], "blocks.count": count[count > 0]}
