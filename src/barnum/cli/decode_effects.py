"""The effects that ``barnum decode --effects`` prints."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from barnum.errors import SampleError
from barnum.texts import printable

if TYPE_CHECKING:
    from barnum.paths.decode import Decoding
    from barnum.samples import Sample


def effect_lines(sample: Sample, decoding: Decoding, stream: int | None) -> Iterator[str]:
    """Decode, and say a line an effect: the step of its block, its process, the call and what it returned.

    Args:
        sample: the sample.
        decoding: of it.
        stream: the only stream that is decoded; None: all are.

    Raises:
        SampleError: the recorder noted no effects.
    """
    from barnum.paths import EffectPlaces

    if sample.effects is None:
        raise SampleError(
            f"{sample.folder}: who recorded it noted no effects: record the run anew with this version"
        )
    effects = [
        effect if stream is None else msgspec.structs.replace(effect, stream=0)
        for effect in sample.effects.effects
        if stream is None or effect.stream == stream
    ]
    places = EffectPlaces(effects)
    kinds = np.zeros(0, np.uint8)
    for chunk in decoding.chunks():
        if len(kinds) < len(decoding.table):
            kinds = decoding.table.arrays()["kind"]
        places.add(chunk, kinds)
    places.forget_after(decoding.gaps)
    for effect, step in zip(effects, places.steps().tolist(), strict=True):
        yield printable(f"{'–' if step < 0 else step:>12} {effect.process:>5} {effect}")
    if sample.effects.more:
        counts = ", ".join(f"{count:,} {call}" for call, count in sample.effects.more.items())
        yield printable(f"not kept one by one: {counts}")
