"""What each way of making a text safe guarantees, whatever the text."""

import ast
import json
import os

from hypothesis import example, given
from hypothesis import strategies as st

from barnum.texts import (
    escaped,
    is_storable,
    printable,
    printable_json,
    quoted,
    reason,
    shortened,
    storable,
    unescaped,
    within_bytes,
)

# hypothesis leaves lone surrogates out unless asked for all categories
_ANY = st.text(st.characters(categories=["L", "M", "N", "P", "S", "Z", "C", "Cs"]))
_MOST = st.integers(1, 300)
# an escape sequence, a bell, the C1 form of an escape sequence, right to left, nothing wide, ends of lines
_HOSTILE = "\x1b[2J\x07\x9b31m\u202e\u2066\u200b\ufeff\n\r\u2028\u2029\x85\u00a0\t\x00\udcff\ud800"


@given(_ANY)
@example(_HOSTILE)
def test_printable_is_one_line_of_the_same_length(text):
    shown = printable(text)
    assert shown.isprintable()
    assert len(shown) == len(text)
    assert len(shown.splitlines()) <= 1
    assert printable(shown) == shown
    assert all(after in (before, "?") for before, after in zip(text, shown, strict=True))
    shown.encode()


def test_printable_leaves_no_character_that_a_terminal_obeys():
    assert printable(_HOSTILE) == "?[2J??31m" + 14 * "?"
    assert printable("Füße, 文档 and 🙂 – “x”") == "Füße, 文档 and 🙂 – “x”"


@given(_ANY, _MOST)
@example("'\"\\", 10)
def test_quoted_is_a_literal_of_what_it_shows(text, most):
    literal = quoted(text, most)
    assert literal.isprintable()
    assert literal[0] == literal[-1]
    assert literal[0] in "'\""
    shown = ast.literal_eval(literal)
    assert len(shown) <= most
    assert shown == (printable(text) if len(text) <= most else printable(text)[: most - 1] + "…")


@given(_ANY, _MOST)
@example(" a \n\n\tb\x1b ", 200)
@example("x" * 100, 1)
@example(_HOSTILE, 5)
def test_shortened_is_one_line_of_single_spaces_within_its_length(text, most):
    shown = shortened(text, most)
    assert shown.isprintable()
    assert len(shown) <= most
    assert "  " not in shown
    assert not shown.startswith(" ")
    assert shortened(shown, most) == shown
    whole = printable(" ".join(text.split()))
    assert shown == (whole if len(whole) <= most else whole[: most - 1] + "…")


@given(_ANY, _MOST)
def test_a_reason_is_one_line_that_is_never_empty(text, most):
    shown = reason(ValueError(text), most)
    assert shown
    assert shown.isprintable()
    assert len(shown) <= most or shown == "ValueError"


def test_a_reason_is_the_first_line_that_says_anything():
    assert reason(ValueError("\n\n broken\x1b  file \nat line 7")) == "broken? file"
    assert reason(KeyError("a")) == "'a'"
    assert reason(MemoryError()) == "MemoryError"


@given(_ANY)
@example(_HOSTILE)
def test_storable_changes_lone_surrogates_alone(text):
    stored = storable(text)
    assert is_storable(stored)
    assert stored.encode().decode() == stored
    assert (stored == text) == is_storable(text)
    assert json.loads(json.dumps(stored)) == stored
    kept = "".join(c for c in text if not "\ud800" <= c <= "\udfff")
    assert len(stored) == len(kept) + sum(
        4 if "\udc80" <= c <= "\udcff" else 6 for c in text if "\ud800" <= c <= "\udfff"
    )


@given(st.binary(max_size=20), st.binary(max_size=20))
def test_names_of_files_that_differ_are_stored_differently(one, other):
    # but for names that hold a backslash: they may look like an escape
    names = [os.fsdecode(name.replace(b"\\", b"/")) for name in (one, other)]
    assert (storable(names[0]) == storable(names[1])) == (names[0] == names[1])


def test_storable_tells_the_byte():
    assert storable(os.fsdecode(b"s\xff.pdf")) == r"s\xff.pdf"
    assert storable("a\ud800\n\x1b") == "a\\ud800\n\x1b"


@given(st.binary(max_size=40))
@example(_HOSTILE[:-2].encode() + b"\xff\\x0a\\")
def test_escaped_bytes_are_one_line_and_come_back(data):
    shown = escaped(data)
    assert shown.isprintable()
    assert unescaped(shown) == data
    assert is_storable(shown)


def test_escapes_tell_bytes_by_number_and_double_backslashes():
    assert escaped("é \n\\\u202e".encode() + b"\xff") == r"é \x0a\\\xe2\x80\xae\xff"
    assert unescaped(r"\q\x\x0") == rb"\q\x\x0"


@given(st.recursive(st.none() | st.integers() | st.text(), lambda inner: st.lists(inner, max_size=3)))
@example(_HOSTILE[:-2] + "\U000e0001 \U0001f642")
def test_printable_json_means_the_same(value):
    document = json.dumps(value, ensure_ascii=False).encode()
    line = printable_json(document)
    assert line.isprintable()
    assert json.loads(line) == value


@given(st.text(), st.integers(0, 40))
def test_within_bytes_is_the_longest_beginning_that_fits(text, most):
    name = within_bytes(text, most)
    assert text.startswith(name)
    assert len(name.encode()) <= most
    if name != text:
        assert len(text[: len(name) + 1].encode()) > most
