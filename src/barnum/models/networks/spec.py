"""What is to be learnt, and by which network."""

from __future__ import annotations

import msgspec

from barnum.models.train_config import TrainConfig
from barnum.paths import Learn
from barnum.sequences import (
    Selection,
    Tokens,
)


class Spec(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be learnt, and by which network. Sizes that a network does not have are left aside."""

    network: str
    learn: Learn
    tokens: Tokens
    selection: Selection
    train: TrainConfig
    units: int = 128
    sequence_len: int = 32
    embedding: int = 128
    dropout: float = 0.5
    cudnn: bool = False
