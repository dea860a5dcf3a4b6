"""Texts and numbers as a document can hold them."""

from __future__ import annotations

import math


def plain_text(text: str) -> str:
    """Names of files need not be Unicode; a document must be."""
    return text.encode("utf-8", errors="replace").decode()


def finite(number: float | None) -> float | None:
    """The number, or None where JSON has no word for it."""
    return None if number is None or not math.isfinite(number) else float(number)
