"""Halves of surrogate pairs in JSON escapes: they are no character, and no two readers treat them alike."""

from __future__ import annotations

import re

# an even number of backslashes before it escape each other
_ESCAPE = re.compile(
    rb"(?<!\\)((?:\\\\)*+)(?:(\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})"
    rb"|\\u[dD][89a-fA-F][0-9a-fA-F]{2})"
)
_FIRST_HALF = re.compile(rb"\\u[dD][89abAB][0-9a-fA-F]{2}")
LENGTH = 6
"""Bytes of one escape."""


def may_have(text: bytes) -> bool:
    """Whether there may be one; a quick look, for most texts have none."""
    return b"\\ud" in text or b"\\uD" in text


def mended(text: bytes) -> bytes:
    """The text, each half that stands alone replaced by U+FFFD; the first byte is none that is escaped."""
    return _ESCAPE.sub(lambda found: found[0] if found[2] else found[1] + b"\\ufffd", text)


def is_first_half(escape: bytes) -> bool:
    """Whether these bytes are one that the other half must follow."""
    return _FIRST_HALF.fullmatch(escape) is not None
