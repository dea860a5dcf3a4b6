"""``effects.json``: read as written, bounded, and never believed."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from barnum.errors import SampleError
from barnum.samples import (
    MAX_EFFECTS,
    Effect,
    Effects,
    Engine,
    Meta,
    ProcessMeta,
    Sample,
    StreamMeta,
    read_effects,
    write_effects,
    write_meta,
)

META = Meta(
    version="1",
    command=("gs", "{}"),
    engine=Engine(name="emulator"),
    start="open",
    processes=(ProcessMeta(index=0, pid=7, program="/bin/gs", mapping="mapping.txt"),),
    streams=(StreamMeta(file="trace_0.gz", process=0, thread=7, bytes=16),),
)
EFFECT = Effect(
    call="openat",
    process=0,
    thread=7,
    stream=0,
    offset=12,
    entry=3,
    result=4,
    path="a\\x0ab",
    folder="/tmp",
    flags="O_WRONLY|O_CREAT",
    values={"mode": 0o600},
)


def sample_with(folder, effects, total):
    (folder / "info.txt").write_text("letter.pdf\nbenign\n")
    (folder / "trace_0.gz").write_bytes(b"")
    write_meta(folder / "meta.json", msgspec.structs.replace(META, effects=total))
    if effects is not None:
        write_effects(folder / "effects.json", effects)
    return Sample.open(folder)


def test_effects_are_read_as_written(tmp_path):
    effects = Effects(
        effects=(
            EFFECT,
            Effect(call="execve", process=0, thread=7, path="/bin/true", arguments=("true", ""), started=0),
            Effect(call="connect", process=0, thread=8, error="ENOENT", address="unix:@x", cut=True),
        ),
        more={"unlink": 1 << 40},
    )
    assert write_effects(tmp_path / "effects.json", effects) == effects
    assert read_effects(tmp_path / "effects.json", META) == effects
    assert effects.total == 3 + (1 << 40)
    document = json.loads((tmp_path / "effects.json").read_text())
    assert document["effects"][0]["path"] == "a\\x0ab"
    assert "target" not in document["effects"][0]


def test_a_sample_tells_of_its_effects_or_that_none_were_noted(tmp_path):
    assert sample_with(tmp_path, None, None).effects is None
    found = sample_with(tmp_path, Effects(effects=(EFFECT,)), 1).effects
    assert found is not None
    assert found.effects == (EFFECT,)


def test_effects_that_do_not_fit_their_sample_are_named(tmp_path):
    with pytest.raises(SampleError, match=r"lacks effects\.json"):
        _ = sample_with(tmp_path, None, 0).effects
    with pytest.raises(SampleError, match=r"effects\.json: has 1 effects, its meta\.json tells of 2"):
        _ = sample_with(tmp_path, Effects(effects=(EFFECT,)), 2).effects


@pytest.mark.parametrize(
    "changes",
    [
        {"process": 1},
        {"process": -1},
        {"process": "0"},
        {"stream": 1},
        {"stream": 1 << 16},
        {"offset": -1},
        {"entry": 1 << 63},
        {"started": 1},
        {"call": ""},
        {"call": "c" * 33},
        {"path": "p" * 16385},
        {"path": 7},
        {"arguments": ["a"] * 65},
        {"arguments": [7]},
        {"left_out": -1},
        {"values": {str(i): i for i in range(17)}},
        {"values": {"mode": "x"}},
        {"cut": 1},
    ],
)
def test_an_effect_that_is_none_is_named(tmp_path, changes):
    effect = {**msgspec.to_builtins(EFFECT), **changes}
    file = tmp_path / "effects.json"
    file.write_text(json.dumps({"schema": 1, "more": {}, "effects": [effect]}))
    with pytest.raises(SampleError, match=r"effects\.json") as caught:
        read_effects(file, META)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}x",
        b"[]",
        b"[" * 100_000,
        b'{"schema": 9}',
        b'{"schema": 1, "effects": null}',
        b'{"more": {"unlink": -1}}',
        json.dumps({"more": {f"call{i}": 1 for i in range(257)}}).encode(),
        b"\xff",
    ],
)
def test_broken_effects_are_named(tmp_path, data):
    (tmp_path / "effects.json").write_bytes(data)
    with pytest.raises(SampleError, match=r"effects\.json") as caught:
        read_effects(tmp_path / "effects.json", META)
    assert "\n" not in str(caught.value)


def test_effects_that_are_too_many_or_too_large_are_refused(tmp_path):
    file = tmp_path / "effects.json"
    one = json.dumps({"call": "fork", "process": 0, "thread": 1})
    file.write_text('{"effects": [' + ",".join([one] * (MAX_EFFECTS + 1)) + "]}")
    with pytest.raises(SampleError, match=r"effects\.json"):
        read_effects(file, META)
    with file.open("wb") as out:
        out.truncate(65 << 20)
    with pytest.raises(SampleError, match="holds more than"):
        read_effects(file, META)


@given(st.binary(max_size=200))
def test_any_bytes_are_effects_or_a_named_error(tmp_path_factory, data):
    file = tmp_path_factory.getbasetemp() / "any-effects.json"
    file.write_bytes(data)
    try:
        read_effects(file, META)
    except SampleError as error:
        assert "\n" not in str(error)


def test_what_is_too_much_to_keep_is_counted(tmp_path):
    file = tmp_path / "effects.json"
    many = tuple(Effect(call="fork", process=0, thread=1) for _ in range(MAX_EFFECTS + 5))
    written = write_effects(file, Effects(effects=many, more={"fork": 2, "link": 1}))
    assert read_effects(file, META) == written
    assert (len(written.effects), written.more, written.total) == (
        MAX_EFFECTS,
        {"fork": 7, "link": 1},
        MAX_EFFECTS + 8,
    )
    longest = "é" * 16384
    large = tuple(
        Effect(call="link", process=0, thread=1, path=longest, target=longest, folder=longest)
        for _ in range(1000)
    )
    written = write_effects(file, Effects(effects=large))
    assert file.stat().st_size < 64 << 20
    assert read_effects(file, META) == written
    assert 0 < len(written.effects) < 1000
    assert written.total == 1000


def test_calls_of_hundreds_of_names_are_counted_together(tmp_path):
    more = {f"call{i}": i + 1 for i in range(1000)}
    written = write_effects(tmp_path / "effects.json", Effects(more=more))
    assert read_effects(tmp_path / "effects.json", META) == written
    assert written.total == sum(more.values())
    assert written.more["call999"] == 1000
