"""Expressions as the opcodes of a pickle: what pickle.dumps would never write.

Each function returns opcodes that push one value. Nothing is memoized, so that they can stand anywhere
between the opcodes of another pickle.
"""

from __future__ import annotations

import pickletools
import struct
from collections.abc import Callable


class Code(bytes):
    """Opcodes that push one value."""


def value(thing: object) -> Code:
    """A value; code in it stands for what the code makes."""
    if isinstance(thing, Code):
        return thing
    if thing is None or isinstance(thing, bool):
        return Code(b"N" if thing is None else b"\x88" if thing else b"\x89")
    if isinstance(thing, int):
        return Code(b"J" + struct.pack("<i", thing))
    if isinstance(thing, str):
        text = thing.encode()
        return Code(b"X" + struct.pack("<I", len(text)) + text)
    if isinstance(thing, bytes):
        return Code(b"B" + struct.pack("<I", len(thing)) + thing)
    if isinstance(thing, tuple):
        return Code(b"(" + b"".join(map(value, thing)) + b"t")
    if isinstance(thing, list):
        return Code(b"](" + b"".join(map(value, thing)) + b"e")
    if isinstance(thing, dict):
        return Code(b"}(" + b"".join(value(part) for pair in thing.items() for part in pair) + b"u")
    raise TypeError(f"there is no code for {type(thing)}")


def named(module: str, name: str) -> Code:
    """What has a name in a module, by the old opcode."""
    return Code(b"c" + module.encode() + b"\n" + name.encode() + b"\n")


def looked_up(module: object, name: object) -> Code:
    """What has a name in a module, by the opcode that takes both, whatever made them, from the stack."""
    return Code(value(module) + value(name) + b"\x93")


def call(function: Code, *words: object) -> Code:
    """What a function returns."""
    return Code(function + value(words) + b"R")


def attribute(thing: object, name: str) -> Code:
    """An attribute of an object."""
    return call(named("builtins", "getattr"), value(thing), name)


def method(thing: object, name: str, *words: object) -> Code:
    """What a method of an object returns."""
    return call(attribute(thing, name), *words)


def new(kind: Code, *words: object) -> Code:
    """An object of a class, which is made but not set up."""
    return Code(kind + value(words) + b"\x81")


def old_object(kind: Code, *words: object) -> Code:
    """What a function returns, by the opcode for objects of old classes."""
    return Code(b"(" + kind + b"".join(map(value, words)) + b"o")


def old_instance(module: str, name: str, *words: object) -> Code:
    """What a function returns, by the opcode for objects of old classes that has their name."""
    return Code(b"(" + b"".join(map(value, words)) + b"i" + module.encode() + b"\n" + name.encode() + b"\n")


def built(thing: Code, state: object) -> Code:
    """An object that is given a state."""
    return Code(thing + value(state) + b"b")


def in_turn(*parts: Code) -> Code:
    """All of them; the value is that of the last."""
    return Code(b"0".join(parts))


def finished(*parts: bytes) -> bytes:
    """A pickle of code."""
    return b"\x80\x04" + b"".join(parts) + b"."


def _opcodes(data: bytes) -> list[bytes]:
    """The opcodes of a pickle with what belongs to them, but without frames, which say where they stand."""
    starts = [(place, opcode.name) for opcode, _, place in pickletools.genops(data)]
    ends = [place for place, _ in starts[1:]] + [len(data)]
    return [
        data[place:end] for (place, name), end in zip(starts, ends, strict=True) if name != "FRAME"
    ]  # fmt: skip


def hidden(data: bytes, code: Code, where: Callable[[int], int]) -> bytes:
    """A pickle that holds code beside: it yields what it did before.

    Args:
        data: the pickle.
        code: what is put in.
        where: of the number of opcodes, before which one of them.
    """
    parts = _opcodes(data)
    place = max(where(len(parts)), 1 if parts[0].startswith(b"\x80") else 0)
    return b"".join([*parts[:place], code, b"0", *parts[place:]])
