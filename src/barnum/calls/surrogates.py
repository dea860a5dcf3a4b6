"""Lone halves of surrogate pairs in JSON escapes: they are no characters, and readers of JSON treat them
differently."""

from __future__ import annotations

import re

# backslashes before it, if they are even in number, escape each other
_ESCAPE = re.compile(
    rb"(?<!\\)((?:\\\\)*+)(?:(\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})"
    rb"|\\u[dD][89a-fA-F][0-9a-fA-F]{2})"
)
_FIRST_HALF = re.compile(rb"\\u[dD][89abAB][0-9a-fA-F]{2}")
LENGTH = 6
"""Bytes of one escape."""


def may_have(text: bytes) -> bool:
    """A quick check whether a text can contain an escaped half; most texts contain none."""
    return b"\\ud" in text or b"\\uD" in text


def mended(text: bytes) -> bytes:
    """The text with each lone half replaced by U+FFFD. Its first byte must not be an escaped one."""
    return _ESCAPE.sub(lambda match: match[0] if match[2] else match[1] + b"\\ufffd", text)


def is_first_half(escape: bytes) -> bool:
    """Whether these bytes are an escaped first half, which the second half must follow."""
    return _FIRST_HALF.fullmatch(escape) is not None
