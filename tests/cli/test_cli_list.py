"""``barnum list`` as a user meets it."""

import json
import os
import time

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_samples_folder import make_meta, make_sample

from barnum.errors import ParsedTraceError
from barnum.paths import open_path
from barnum.paths.steps import steps_in
from barnum.samples import StreamMeta, list_samples, write_meta
from barnum.samples.owner import Owner
from learning import barnum, nominal_path, write_sample


def listed(*arguments):
    ended = barnum("list", *arguments)
    assert ended.code == 0, ended.err
    return ended.out


def by_folder(*arguments):
    return {each["folder"]: each for each in json.loads(listed("--json", *arguments))}


@pytest.fixture
def tree(tmp_path):
    """A tree with a sample in each state, and what else may lie about."""
    root = tmp_path / "traces"
    write_sample(root, "b.doc", "benign", nominal_path(1))
    recorded = make_sample(root / ("a" * 64), "unknown", "a letter.pdf")
    stream = StreamMeta(file="trace_0.gz", process=0, thread=7, bytes=1234)
    write_meta(recorded / "meta.json", make_meta(command=("/usr/bin/gs", "{}"), streams=(stream,)))
    calls = root / "calls"
    calls.mkdir()
    (calls / "info.txt").write_text("c.exe\nmalicious\nfamily\n")
    (calls / "calls.txt").write_text("NtOpenFile\n")
    for name, owner in (("d" * 64, Owner.mine()), ("e" * 64, msgspec.structs.replace(Owner.mine(), pid=1))):
        (root / f"{name}.part").mkdir()
        (root / f"{name}.part" / "owner").write_text(owner.text())
    for name in ("f.part", "empty", ".hidden"):
        (root / name).mkdir()
    (root / "notes.txt").write_text("mine")
    return root


def test_a_line_a_sample_with_what_is_known(tree):
    output = listed(tree)
    head, *lines, blank, summary = output.splitlines()
    assert head.split() == ["document", "hash", "label", "program", "streams", "bytes", "steps", "state"]
    folder = next(entry.name for entry in tree.iterdir() if (entry / "trace_parsed.parquet").exists())
    assert [line.split() for line in lines[:3]] == [
        ["a", "letter.pdf", "a" * 12, "unknown", "/usr/bin/gs", "1", "1,234", "–", "recorded"],
        ["b.doc", folder[:12], "benign", "–", "–", "–", "3,000", "parsed"],
        ["c.exe", "calls", "malicious", "–", "–", "–", "–", "report", "of", "calls"],
    ]
    # those without a name come last
    assert [line.split()[:2] for line in lines[3:]] == [
        ["–", name] for name in ("d" * 12, "e" * 12, "empty", "f.part")
    ]
    assert f"under way: process {os.getpid()} on " in lines[3]
    assert "cut off: process 1 on " in lines[4]
    assert "broken: " in lines[5] and "info.txt: no such file" in lines[5]
    assert "cut off: nothing says who records it" in lines[6]
    assert not blank
    assert summary == ("7 samples: 2 cut off, 1 recorded, 1 parsed, 1 report of calls, 1 under way, 1 broken")
    assert all(line == line.rstrip() for line in lines)


def test_as_json_with_full_fields(tree):
    found = by_folder(tree)
    assert found["a" * 64] == {
        "folder": "a" * 64,
        "name": "a letter.pdf",
        "label": "unknown",
        "extra_labels": [],
        "program": "/usr/bin/gs",
        "recorded": found["a" * 64]["recorded"],
        "streams": 1,
        "bytes": 1234,
        "steps": None,
        "state": "recorded",
        "reason": None,
    }
    assert found["calls"]["extra_labels"] == ["family"]
    assert [each["state"] for each in found.values()] == [
        *("recorded", "parsed", "report of calls", "under way", "cut off", "broken", "cut off")
    ]


def test_what_is_broken_says_why_and_the_others_are_listed(tmp_path):
    root = tmp_path / "traces"
    write_sample(root, "good.doc", "benign", nominal_path(1))
    make_sample(root / "label", "harmless")
    make_sample(root / "meta")
    (root / "meta" / "meta.json").write_text("{}")
    make_sample(root / "stream")
    write_meta(
        root / "stream" / "meta.json",
        make_meta(streams=(StreamMeta(file="trace_9.gz", process=0, thread=1, bytes=1),)),
    )
    cut = write_sample(root, "cut.doc", "benign", nominal_path(2)) / "trace_parsed.parquet"
    cut.write_bytes(cut.read_bytes()[:-20])
    bare = make_sample(root / "bare")
    (bare / "trace_0.gz").unlink()
    found = by_folder(root)
    assert [each["state"] for each in found.values()].count("broken") == 5
    for name, why in (
        ("label", "'harmless' is none of"),
        ("meta", "is not a description of a recording"),
        ("stream", "lacks trace_9.gz"),
        (cut.parent.name, "is no whole Parquet file"),
        ("bare", "neither a trace nor a report"),
    ):
        assert why in found[name]["reason"]
    # what could be read is told
    assert (found[cut.parent.name]["name"], found["meta"]["label"]) == ("cut.doc", "benign")


def test_names_cannot_command_the_terminal_nor_break_lines(tmp_path):
    root = tmp_path / "traces"
    name = "\x1b[2J\u202egpj.exe" + "x" * 100_000
    folder = make_sample(root / os.fsdecode(b"\x1b\xff\n" + b"y" * 200))
    (folder / "info.txt").write_text(f"{name}\nbenign\n\x1b[0m\n")
    write_meta(folder / "meta.json", make_meta(command=("\x1b[1m\r" + "z" * 9000,)))
    output = listed(root)
    assert len(output.splitlines()) == 4 and len(output) < 1000
    assert all(line.isprintable() for line in output.splitlines())
    said = listed("--json", root)
    assert all(line.isprintable() for line in said.splitlines())
    [told] = json.loads(said)
    assert told["name"] == name[:4096]
    assert len(told["program"]) == 4096
    assert told["folder"].startswith("\x1b\\xff\n")


def test_what_links_lead_to_is_not_told(tmp_path):
    root = tmp_path / "traces"
    (tmp_path / "secret").write_text("secret\nbenign\nsecret\n")
    write_meta(tmp_path / "meta", make_meta(command=("secret",)))
    for name in ("info", "meta"):
        make_sample(root / name, name=f"{name}.doc")
    for link, target in ((root / "info" / "info.txt", "secret"), (root / "meta" / "meta.json", "meta")):
        link.unlink(missing_ok=True)
        link.symlink_to(tmp_path / target)
    for way in ((), ("--json",)):
        assert "secret" not in listed(*way, root)
    found = by_folder(root)
    assert (found["info"]["name"], found["info"]["state"]) == (None, "recorded")
    assert "is a link" in found["meta"]["reason"]
    # a pipe is not waited for
    (root / "pipe").mkdir()
    os.mkfifo(root / "pipe" / "info.txt")
    assert by_folder(root)["pipe"]["state"] == "broken"


def test_many_samples_are_listed_in_little_time(tmp_path):
    root = tmp_path / "traces"
    one = write_sample(root, "one.doc", "benign", nominal_path(1))
    for number in range(1500):
        folder = root / f"{number:064x}"
        folder.mkdir()
        (folder / "info.txt").write_text(f"{number}.doc\nbenign\n")
        os.link(one / "trace_parsed.parquet", folder / "trace_parsed.parquet")
    began = time.perf_counter()
    found = list_samples(root, steps_of=steps_in)
    assert len(found) == 1501 and {each.steps for each in found} == {3000}
    # 10,000 within seconds; a busy machine may take several times as long
    assert time.perf_counter() - began < 15


def test_trees_that_are_none(tmp_path):
    (tmp_path / "empty").mkdir()
    assert listed(tmp_path / "empty").splitlines()[-1] == "0 samples"
    assert json.loads(listed("--json", tmp_path / "empty")) == []
    assert barnum("list", tmp_path / "gone").code == 2


def test_steps_are_those_of_the_path(tmp_path):
    for length in (1, 2, 300, 40_000):
        sample = write_sample(tmp_path, f"{length}.doc", "benign", [0] * length)
        file = sample / "trace_parsed.parquet"
        assert steps_in(file) == len(open_path(file)) == length


@given(st.data())
def test_any_footer_is_a_number_or_a_named_error(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("footer")
    file = write_sample(folder, "a.doc", "benign", [0, 1, 2]) / "trace_parsed.parquet"
    whole = bytearray(file.read_bytes())
    begin = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
    for _ in range(data.draw(st.integers(1, 4))):
        # the last eight bytes, and the beginning of the footer, are all that is looked at
        at = data.draw(
            st.one_of(st.integers(begin, begin + 100), st.integers(len(whole) - 8, len(whole) - 1))
        )
        whole[at] = data.draw(st.integers(0, 255))
    file.write_bytes(whole[: data.draw(st.one_of(st.just(len(whole)), st.integers(0, len(whole))))])
    try:
        assert steps_in(file) >= 0
    except ParsedTraceError as error:
        assert str(file) in str(error)
