"""Tokens: by what number a model knows a block, its own or that of one of a fixed number of classes."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from barnum.paths import Blocks

U64 = NDArray[np.uint64]


class Tokens(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How blocks are numbered.

    Attributes:
        vocabulary: ``learnt``: tokens are whole BBIDs, so that module and offset both count. ``modulo``, as
            in the original: the token of a source is its BBID mod ``inputs``, that of a target its BBID mod
            ``classes``, so that blocks of any modules may share one.
        inputs: number of tokens of sources, for ``modulo``.
        classes: number of tokens of targets, for ``modulo``.
    """

    vocabulary: Literal["learnt", "modulo"] = "learnt"
    inputs: Annotated[int, msgspec.Meta(ge=1, le=1 << 26)] = 1024
    classes: Annotated[int, msgspec.Meta(ge=1, le=1 << 26)] = 1024

    def sites(self, blocks: Blocks) -> U64:
        """u64[k]: the token of each block as a source.

        With ``learnt`` it is the BBID of the byte after the branch that ends the block. So blocks that end in
        the same branch share a token, wherever they begin: after a jump into the middle of a block, the block
        is still left by the same instruction. The length of blocks imported from the original's rows is
        unknown; their token is the BBID.
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
