"""Text from outside made safe to show and to store: names of files, words of reports, messages of libraries.

    printable       to show             one line, of the same length
    shortened       to show             several lines as one, of at most so many characters
    quoted          in a message        a name in quotation marks, of at most so many characters
    reason          in a message        what an exception says, as one line that is never empty
    printable_json  on standard output  a JSON document, printable and of the same meaning
    storable        in JSON or Parquet  text that UTF-8 can encode; line breaks and control characters stay
    escaped         to store and show   any bytes as one line, from which unescaped() makes the bytes again
    within_bytes    as a file's name    at most so many bytes of UTF-8

Characters that are not printable, as :meth:`str.isprintable` has it, are control characters (escape sequences
begin with one), line and paragraph separators, format characters (which turn the direction of writing, or
have no width), spaces other than the plain one, private and unassigned characters, and lone surrogates (bytes
of a file's name that are no UTF-8 stand in a ``str`` as these).
"""

from __future__ import annotations

import re
from typing import Any

_SURROGATE = re.compile("[\ud800-\udfff]")
_ESCAPE = re.compile(rb"\\(x[0-9a-f]{2}|\\)")
_LONGEST_NAME = 80
_LONGEST_LINE = 200


def printable(text: str) -> str:
    """The text with each character that is not printable replaced by ``?``: one line, of the same length."""
    return text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)


def shortened(text: str, most: int = _LONGEST_LINE) -> str:
    """A text of any number of lines as one, printable, of at most ``most`` (1 or more) characters.

    Each run of white space becomes one space, and none is left at the ends. The last character is ``…`` where
    some are left out.
    """
    return _cut(" ".join(text.split()), most)


def quoted(text: str, most: int = _LONGEST_NAME) -> str:
    """At most ``most`` (1 or more) characters of a text, printable, as a Python literal: the quotation marks
    tell where it begins and ends, whatever it holds. The last character is ``…`` where some are left out."""
    return repr(_cut(text, most))


def reason(error: BaseException, most: int = _LONGEST_LINE) -> str:
    """The first line of what an exception says that is not blank, as :func:`shortened` makes it; the name of
    its class where it says nothing. Libraries append advice and places in their source in further lines."""
    lines = str(error).strip().splitlines()
    return shortened(lines[0], most) if lines else type(error).__name__


def storable(text: str) -> str:
    r"""The text with lone surrogates replaced, so that UTF-8 can encode it; all else stays as it is.

    A byte of a file's name that is no UTF-8 becomes ``\xff`` (its number), another lone surrogate ``\ud800``,
    so names that differ still do.
    """
    return _SURROGATE.sub(_escape, text)


def all_storable(value: Any) -> Any:
    """The same of all texts in a value that JSON can hold, at any depth."""
    if isinstance(value, dict):
        return {key: all_storable(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [all_storable(inner) for inner in value]
    return storable(value) if isinstance(value, str) else value


def is_storable(text: str) -> bool:
    """Whether UTF-8 can encode the text: it has no lone surrogates."""
    return _SURROGATE.search(text) is None


def escaped(data: bytes) -> str:
    r"""Bytes, such as the name of a file, as one printable line that stands for no others.

    A backslash becomes ``\\``. Each byte of a character that is not printable, and each byte that is no
    UTF-8, becomes ``\x0a`` (its number). All else stays as it is.
    """
    text = data.decode("utf-8", errors="surrogateescape")
    if text.isprintable() and "\\" not in text:
        return text
    return text.translate(_ESCAPES)


def unescaped(text: str) -> bytes:
    """The bytes that :func:`escaped` made a text of; what it would not have written stays as it is."""
    return _ESCAPE.sub(
        lambda found: b"\\" if found[1] == b"\\" else bytes.fromhex(found[1][1:].decode()),
        text.encode(errors="surrogatepass"),
    )


def printable_json(document: bytes) -> str:
    r"""A JSON document (UTF-8, on one line) with each character that is not printable as its escape
    ``\u001b``: a terminal obeys none of it, and readers of JSON read the same."""
    text = document.decode()
    return text if text.isprintable() else "".join(c if c.isprintable() else _json_escape(c) for c in text)


def within_bytes(text: str, most: int) -> str:
    """The longest beginning of a text that takes at most ``most`` bytes of UTF-8. It must be storable."""
    return text.encode()[:most].decode(errors="ignore")


def _cut(text: str, most: int) -> str:
    return printable(text) if len(text) <= most else printable(text[: most - 1]) + "…"


def _escape(surrogate: re.Match[str]) -> str:
    number = ord(surrogate[0])
    # as Python's "surrogateescape" hides a byte
    return f"\\x{number - 0xDC00:02x}" if 0xDC80 <= number <= 0xDCFF else f"\\u{number:04x}"


class _Escapes(dict[int, str]):
    """What :func:`escaped` makes of a character, by its number; those of most texts are worked out once."""

    def __missing__(self, number: int) -> str:
        character = chr(number)
        if character == "\\":
            escape = "\\\\"
        elif character.isprintable():
            escape = character
        else:
            escape = "".join(f"\\x{byte:02x}" for byte in character.encode(errors="surrogateescape"))
        # bounded, whatever is escaped
        if number < 0x10000:
            self[number] = escape
        return escape


_ESCAPES = _Escapes()


def _json_escape(character: str) -> str:
    # above U+FFFF, JSON takes two escapes
    units = character.encode("utf-16-be")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))
