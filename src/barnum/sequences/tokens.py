"""What a block is called where a network sees it: itself, or one of a fixed number of classes."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from barnum.paths import Blocks

U64 = NDArray[np.uint64]


class Tokens(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A naming of blocks.

    ``learnt``: every block that training met has a name of its own; module and offset both count.
    ``modulo``: the original's. A source is its BBID mod ``inputs``, a target its BBID mod ``classes``, so
    blocks of any modules may share a name.
    """

    vocabulary: Literal["learnt", "modulo"] = "learnt"
    inputs: Annotated[int, msgspec.Meta(ge=1, le=1 << 26)] = 1024
    classes: Annotated[int, msgspec.Meta(ge=1, le=1 << 26)] = 1024

    def sites(self, blocks: Blocks) -> U64:
        """u64[k]: the token of each block as a source.

        Where it is learnt, the BBID of the byte after the branch that ends the block: blocks that begin at
        different places and end on the same branch share it, for whoever jumps into the middle of a block
        still leaves it by the same instruction. Blocks imported as text know no length; their token is the
        BBID.
        """
        if self.vocabulary == "modulo":
            return self.sources(blocks)
        tokens: U64 = blocks.bbid + blocks.length.astype(np.uint64)
        return tokens

    def sources(self, blocks: Blocks) -> U64:
        """u64[k]: the token of each block as a step of the path that a window shows."""
        return blocks.bbid % np.uint64(self.inputs) if self.vocabulary == "modulo" else blocks.bbid

    def targets(self, blocks: Blocks) -> U64:
        """u64[k]: the token of each block as a target."""
        return blocks.bbid % np.uint64(self.classes) if self.vocabulary == "modulo" else blocks.bbid


WHOLE = Tokens()
"""Blocks as they are."""
