"""Ways of a pickle to hide what it calls: by opcodes, by states, in archives, in harmless pickles."""

from __future__ import annotations

import base64
import codecs
import io
import zipfile
import zlib
from collections.abc import Callable, Iterator

from bench_document import Document
from pickle_assembler import (
    Code,
    built,
    call,
    finished,
    hidden,
    in_turn,
    looked_up,
    method,
    named,
    new,
    old_instance,
    old_object,
    value,
)
from pickle_forms import FORMS, HELPER, RUN, SHELL, SYSTEM, Form, run, written

_RUN = call(SYSTEM, HELPER)


def _decoded(text: str) -> Code:
    """A text that stands there in base 64."""
    data = base64.b64encode(text.encode())
    return method(run("base64.b64decode", data), "decode")


def _joined(text: str) -> Code:
    return method("", "join", list(text))


def _turned(text: str) -> Code:
    return run("codecs.decode", codecs.encode(text, "rot13"), "rot13")


def _reversed(text: str) -> Code:
    return method("", "join", run("builtins.reversed", text[::-1]))


def _formatted(text: str) -> Code:
    return method("%c" * len(text), "__mod__", tuple(text.encode()))


def _given(name: str) -> Code:
    """An object with a function of its own, by the state that it is given."""
    return built(run("types.SimpleNamespace"), {name: SYSTEM})


_NAMES = {
    "joined": call(looked_up(_joined("os"), _joined("system")), HELPER),
    "base64": call(looked_up(_decoded("os"), _decoded("system")), _decoded(HELPER)),
    "rotated": call(looked_up(_turned("posix"), _turned("system")), _turned(HELPER)),
    "reversed": call(looked_up(_reversed("os"), _reversed("system")), HELPER),
    "formatted": call(looked_up(_formatted("os"), _formatted("system")), HELPER),
    # a module that has imported the other
    "dotted": call(looked_up("logging", "os.system"), HELPER),
    "dotted_old": call(named("tempfile", "_os.system"), HELPER),
    "module_names": call(
        method(run("builtins.vars", run("builtins.__import__", "os")), "get", "system"), HELPER
    ),
    "globals": call(method(named("os", "_wrap_close.__init__.__globals__"), "get", "system"), HELPER),
    "modules": call(
        run("builtins.getattr", method(named("sys", "modules"), "get", "posix"), "system"), HELPER
    ),
}  # fmt: skip

_OPCODES = {
    # the names are put into the memo, under numbers that nothing else uses, and got in another order
    "memo": Code(
        value("system") + b"r\0\x10\0\0" + value("os") + b"r\1\x10\0\0" + b"00"
        + b"j\1\x10\0\0" + b"j\0\x10\0\0" + b"\x93" + value((HELPER,)) + b"R"
    ),
    # a function is called twice
    "twice": Code(SYSTEM + b"2" + value(("true",)) + b"R0" + value((HELPER,)) + b"R"),
    "instance": old_instance("os", "system", HELPER),
    "object": old_object(SYSTEM, HELPER),
    "made": new(named("builtins", "frozenset"), new(named("builtins", "map"), SYSTEM, [HELPER])),
    "made_with_names": Code(
        call(
            Code(named("functools", "partial") + value((SYSTEM, HELPER)) + value({}) + b"\x92")
        )
    ),
    "registered": in_turn(
        run("copyreg.add_extension", "os", "system", 200), call(Code(b"\x82\xc8"), HELPER)
    ),
    "state_function": built(_given("__setstate__"), HELPER),
    "appended": Code(_given("append") + value(HELPER) + b"a"),
    "extended": Code(_given("append") + b"(" + value(HELPER) + b"e"),
    "added": Code(_given("add") + b"(" + value(HELPER) + b"\x90"),
    # a class whose items are set by running a program
    "items_set": Code(
        run("builtins.type", "Table", (named("builtins", "dict"),), {"__setitem__": named("os", "execv")})
        + b")R" + value(HELPER) + value(["true"]) + b"s"
    ),
    "module_changed": in_turn(
        built(run("builtins.__import__", "json"), {"dumps": SYSTEM}), call(named("json", "dumps"), HELPER)
    ),
    "slots_changed": in_turn(
        built(run("builtins.__import__", "json"), (None, {"loads": SYSTEM})),
        call(named("json", "loads"), HELPER),
    ),
    "class_changed": in_turn(
        built(named("fractions", "Fraction"), (None, {"limit": SYSTEM})),
        call(named("fractions", "Fraction.limit"), HELPER),
    ),
    "made_by_function": run(
        "copyreg.__newobj__", named("builtins", "frozenset"), run("builtins.map", SYSTEM, [HELPER])
    ),
    "nested": run("pickle.loads", finished(_RUN)),
    "nested_packed": run("pickle.loads", run("zlib.decompress", zlib.compress(finished(_RUN)))),
    "nested_twice": run("_pickle.loads", finished(run("_pickle.loads", finished(_RUN)))),
    "nested_file": run("pickle.load", run("io.BytesIO", finished(_RUN))),
}  # fmt: skip

HIDDEN = (
    *(Form(name, "named", code, SHELL) for name, code in _NAMES.items()),
    *(Form(name, "opcodes", code, RUN if name == "items_set" else SHELL) for name, code in _OPCODES.items()),
)


# --- whole files


def _files() -> Iterator[tuple[str, bytes]]:
    """Files of pickles with something about them as a whole."""
    yield "no_end", b"\x80\x04" + _RUN + b"0" + value(["model", 1])
    yield "garbage_behind", b"\x80\x04" + _RUN + b"0\xff\xff"
    yield "no_protocol", _RUN + b"."
    yield "text", b"cposix\nsystem\n(S'/bin/true'\ntR."
    yield "text_instance", b"(S'/bin/true'\nios\nsystem\n."
    yield "second", finished(value({"version": 3})) + finished(_RUN) + finished(value([1, 2]))
    # what stands in a buffer beside the pickle is in no opcode
    buffer = method(Code(b"\x97"), "decode")
    for name, code, beside in (
        ("buffer", call(SYSTEM, buffer), b"/bin/true"),
        ("buffer_name", call(looked_up("os", buffer), HELPER), b"system"),
    ):
        yield name, _archived({"data.pkl": b"\x80\x05" + code + b".", "buffers/0": beside})


def _archived(parts: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as members:
        for name, content in parts.items():
            members.writestr(zipfile.ZipInfo(f"archive/{name}"), content)
    return file.getvalue()


def _replaced(content: bytes, change: Callable[[bytes], bytes]) -> bytes:
    """An archive whose pickle is changed."""
    with zipfile.ZipFile(io.BytesIO(content)) as members:
        parts = {name.partition("/")[2]: members.read(name) for name in members.namelist()}
    return _archived(parts | {"data.pkl": change(parts["data.pkl"])})


def _first(count: int) -> int:
    return 0


def _middle(count: int) -> int:
    return count // 2


def _last(count: int) -> int:
    return count - 1


_WRITTEN = method(run("pathlib.Path", "made.txt"), "write_text", "made")
_PLACES = {"before": _first, "middle": _middle, "behind": _last}
# hosts by kind, the places in them, and what is hidden there
_HOSTED = (
    ("models", ("before", "behind"), _RUN, SHELL),
    ("arrays", ("before", "middle", "behind"), _RUN, SHELL),
    ("frames", ("middle", "behind"), _WRITTEN, written("made.txt")),
    ("tensors", ("before", "middle", "behind"), _RUN, SHELL),
    ("large", ("before", "middle", "behind"), _WRITTEN, written("made.txt")),
    ("messages", ("middle",), run("posix.system", HELPER), SHELL),
    ("records", ("middle",), _OPCODES["nested_packed"], SHELL),
)


def _hosted(hosts: dict[str, bytes]) -> Iterator[tuple[str, bytes]]:
    """Files that hold all of a harmless pickle."""
    for kind, places, code, _ in _HOSTED:
        if kind not in hosts:
            continue
        for place in places:

            def change(data: bytes, code: Code = code, place: str = place) -> bytes:
                return hidden(data, code, _PLACES[place])

            content = hosts[kind]
            yield f"{kind}_{place}", _replaced(content, change) if content[:2] == b"PK" else change(content)
        if kind in ("arrays", "large"):
            # the file breaks off soon behind what is hidden
            yield f"{kind}_broken", hidden(hosts[kind], code, _first)[: len(code) + 60]


HOSTS = tuple(kind for kind, *_ in _HOSTED)
ALL_FORMS = (*FORMS, *HIDDEN)


def documents(hosts: dict[str, bytes]) -> list[Document]:
    """All harmful pickles.

    Args:
        hosts: a harmless pickle of each kind that is to be a host.
    """
    made = [Document(f"{form.name}.pkl", form.kind, finished(form.code), True) for form in ALL_FORMS]
    made += [Document(f"file_{name}.pkl", "whole_file", content, True) for name, content in _files()]
    return made + [Document(f"{name}.pkl", "hosted", content, True) for name, content in _hosted(hosts)]


def pattern(document: Document) -> str:
    """Of the system call that shows the effect of a harmful pickle, as strace writes it."""
    if document.kind == "whole_file":
        return SHELL
    name = document.name.removesuffix(".pkl")
    if document.kind == "hosted":
        return next(seen for kind, _, _, seen in _HOSTED if name.rpartition("_")[0] == kind)
    return next(form.seen for form in ALL_FORMS if form.name == name)
