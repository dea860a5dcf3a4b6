"""An evaluation as a picture, a pixel a prediction."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Iterator
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from barnum.errors import EvaluationError
from barnum.evaluations.files import Evaluation
from barnum.paths.blocks import U8, U64
from barnum.pictures.png import Png

Colour = Literal["md5", "adler32", "surprisal"]

DARKEST = 16
"""So many nats, or more, are drawn darkest."""

_WHITE = 255
_STEPS = 256
F64 = NDArray[np.float64]
# of Oklab, to the cubic roots of what the eye's cones see, and from these to linear sRGB
_TO_LMS = np.array(
    [[0.3963377774, -0.1055613458, -0.0894841775], [0.2158037573, -0.0638541728, -1.2914855480]]
)
_TO_RGB = np.array(
    [
        [4.0767416621, -1.2684380046, -0.0041960863],
        [-3.3077115913, 2.6097574011, -0.7034186147],
        [0.2309699292, -0.3413193965, 1.7076147010],
    ]
)


def draw(evaluation: Evaluation, width: int, colour: Colour | None = None) -> tuple[bytes, int]:
    """The picture as a PNG with rows of ``width`` pixels, and how many predictions it shows.

    Without a colour, right predictions are white and wrong ones black. ``md5`` and ``adler32`` colour by the
    target that was taken, as md5_colour() and adler32_colour() say; ``surprisal`` by how surprising it was,
    from white to nearly black. What is left of the last row is white.

    Raises:
        EvaluationError: the file is broken, holds no prediction, or lacks the column.
    """
    if colour == "surprisal" and colour not in evaluation.columns:
        raise EvaluationError(
            f"{evaluation.file}: tells no surprisal, as evaluations in gz do not: choose another colour, "
            "or evaluate anew with --eval-format parquet"
        )
    png = Png(width, colour is not None)
    count = 0
    rest: U8 | None = None
    for pixels in _pixels(evaluation, colour):
        count += len(pixels)
        rest = pixels if rest is None else np.concatenate([rest, pixels])
        whole = len(rest) // width * width
        if whole:
            png.add(rest[:whole].reshape(-1, width, *rest.shape[1:]))
            rest = rest[whole:]
    if rest is None or not count:
        raise EvaluationError(f"{evaluation.file}: holds no prediction to draw")
    if len(rest):
        last = np.full((1, width, *rest.shape[1:]), 1 if colour is None else _WHITE, np.uint8)
        last[0, : len(rest)] = rest
        png.add(last)
    return png.content(), count


def md5_colour(target: int) -> bytes:
    """Red, green, blue: the first bytes of the MD5 of the target in decimal."""
    return hashlib.md5(str(target).encode(), usedforsecurity=False).digest()[:3]


def adler32_colour(target: int) -> bytes:
    """Red, green, blue: bits 8–15, 16–23 and 24–31 of the Adler-32 of the target in decimal."""
    return zlib.adler32(str(target).encode()).to_bytes(4, "little")[1:]


def surprisal_colours() -> U8:
    """u8[256, 3]: red, green, blue for 0 to DARKEST nats in equal steps: from white over yellow, red and
    purple to nearly black. Each step darkens by as much as the others to the eye (lightness of Oklab, B.
    Ottosson 2020)."""
    share = np.linspace(0, 1, _STEPS)
    light, hue = 1 - 0.82 * share, np.radians(105 - 170 * share)
    chroma = 0.16 * np.sin(np.pi * share**0.8)
    # as colourful as that, or as a screen can show at this lightness
    low, high = np.zeros(_STEPS), chroma
    for _ in range(20):
        middle = (low + high) / 2
        linear = _linear_rgb(light, hue, middle)
        shown = ((linear >= 0) & (linear <= 1)).all(axis=1)
        low, high = np.where(shown, middle, low), np.where(shown, high, middle)
    linear = np.clip(_linear_rgb(light, hue, low), 0, 1)
    gamma = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    colours: U8 = np.rint(255 * gamma).astype(np.uint8)
    return colours


def _linear_rgb(light: F64, hue: F64, chroma: F64) -> F64:
    """f64[n, 3] for f64[n] of Oklab in polar coordinates."""
    a, b = chroma * np.cos(hue), chroma * np.sin(hue)
    lms = light[:, None] + np.stack([a, b], axis=1) @ _TO_LMS
    rgb: F64 = lms**3 @ _TO_RGB
    return rgb


def _pixels(evaluation: Evaluation, colour: Colour | None) -> Iterator[U8]:
    """Part by part: u8[m] of 0 and 1, or u8[m, 3]."""
    if colour is None:
        for part in evaluation.parts("correct"):
            yield part["correct"].astype(np.uint8)
    elif colour == "surprisal":
        colours = surprisal_colours()
        for part in evaluation.parts("surprisal"):
            nats = part["surprisal"]
            # written so that NaN fails too
            if not (nats >= 0).all():
                raise EvaluationError(f"{evaluation.file}: has a surprisal that is none: evaluate anew")
            steps = np.minimum(nats, DARKEST) * np.float32((_STEPS - 1) / DARKEST)
            yield colours[np.rint(steps).astype(np.uint8)]
    else:
        table = _Table(md5_colour if colour == "md5" else adler32_colour)
        for part in evaluation.parts("actual"):
            yield table.of(part["actual"])


class _Table:
    """Colours of targets, each computed once: there are few, however long the trace is."""

    def __init__(self, colour: Callable[[int], bytes]) -> None:
        self._colour = colour
        self._targets: U64 = np.zeros(0, np.uint64)
        self._colours: U8 = np.zeros((0, 3), np.uint8)

    def of(self, targets: NDArray[np.uint64]) -> U8:
        """u8[m, 3] for u64[m]."""
        at = np.searchsorted(self._targets, targets)
        known = np.zeros(len(targets), np.bool_)
        inside = at < len(self._targets)
        known[inside] = self._targets[at[inside]] == targets[inside]
        if not known.all():
            new = np.unique(targets[~known])
            colours = np.frombuffer(b"".join(map(self._colour, new.tolist())), np.uint8).reshape(-1, 3)
            places = np.searchsorted(self._targets, new)
            self._targets = np.insert(self._targets, places, new)
            self._colours = np.insert(self._colours, places, colours, axis=0)
            at = np.searchsorted(self._targets, targets)
        return self._colours[at]
