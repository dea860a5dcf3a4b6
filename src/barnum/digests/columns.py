"""Columns of integers as they lie in files of digests and detectors: small once packed, and plain to read.

A column of n integers is an array u8[w, n]: row i holds byte i of each, the lowest first, and w is as small
as the largest allows (1 at least). Where it holds differences, each integer stands for how much more a value
is than the one before it (0 before the first), doubled, or if it is less, 2 · (how much less) - 1:
differences are small, and their upper bytes are nearly all 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from barnum.digests.digest import schema_of

U8 = NDArray[np.uint8]
U64 = NDArray[np.uint64]
Described = TypeVar("Described")


def packed(values: NDArray[Any]) -> U8:
    """u8[w, n]: a column of integers that are at least 0."""
    values = values.astype(np.uint64)
    width = max(1, (int(values.max(initial=0)).bit_length() + 7) // 8)
    planes: U8 = np.ascontiguousarray(values.view(np.uint8).reshape(-1, 8).T[:width])
    return planes


def unpacked(planes: NDArray[Any]) -> U64:
    """u64[n]: the reverse of packed().

    Raises:
        ValueError: it is no such column.
    """
    if planes.dtype != np.uint8 or planes.ndim != 2 or not 1 <= planes.shape[0] <= 8:
        raise ValueError("a column is no array u8[1 to 8, n]")
    whole = np.zeros((planes.shape[1], 8), np.uint8)
    whole[:, : planes.shape[0]] = planes.T
    values: U64 = whole.reshape(-1).view(np.uint64)
    return values


def differences(values: NDArray[Any], before: NDArray[Any] | None = None) -> U8:
    """The column of differences of integers from those that come ``before`` each (None: the row before)."""
    values = values.astype(np.int64)
    if before is None:
        before = np.concatenate([np.zeros(1, np.int64), values[:-1]])[: len(values)]
    change = values - before.astype(np.int64)
    return packed(((change << 1) ^ (change >> 63)).view(np.uint64))


def changes(planes: NDArray[Any]) -> NDArray[np.int64]:
    """i64[n]: the differences that a column holds.

    Raises:
        ValueError: it is no such column.
    """
    values = unpacked(planes)
    sign = (values & np.uint64(1)).astype(np.int64)
    found: NDArray[np.int64] = (values >> np.uint64(1)).view(np.int64) ^ -sign
    return found


def summed(planes: NDArray[Any]) -> NDArray[np.int64]:
    """i64[n]: the reverse of differences() from the row before."""
    return np.cumsum(changes(planes), dtype=np.int64)


def column(arrays: Mapping[str, NDArray[Any]], name: str, count: int) -> NDArray[Any]:
    """The planes of a column of ``count`` rows.

    Raises:
        ValueError: there is none, or it has another number of rows.
    """
    planes = arrays.get(name)
    if planes is None or planes.ndim != 2 or planes.shape[1] != count:
        raise ValueError(f"column {name} is missing or has another length")
    return planes


def described(
    text: NDArray[Any] | None, decoder: msgspec.json.Decoder[Described], schema: int, most: int
) -> Described:
    """The description that is kept as JSON among the arrays of a file, u8[n] of at most ``most`` bytes.

    Raises:
        ValueError: it is missing, too large, broken, or has another schema.
    """
    if text is None or text.dtype != np.uint8 or text.ndim != 1:
        raise ValueError("it does not say what it is")
    if len(text) > most:
        raise ValueError(f"it says more than {most:,} bytes of itself")
    try:
        found = schema_of(text.tobytes())
        if found != schema:
            raise ValueError(f"its schema is {found}, not {schema}")
        return decoder.decode(text.tobytes())
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(str(error)) from None
