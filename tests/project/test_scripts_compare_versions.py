"""The comparison of two versions: what it takes for the same, and that it finds what is not."""

import base64
import gzip
import json
import stat
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
sys.path.insert(0, str(SCRIPTS))

from comparison.inputs import find_recordings, place_recordings, write_reports, write_sets  # noqa: E402
from comparison.same import EXEMPT, Sides  # noqa: E402
from comparison.steps import all_steps, with_needed  # noqa: E402


@pytest.fixture
def compare(tmp_path):
    """Compares two contents under one name: (reasons, difference)."""

    def run(name, old, new):
        for side, content in (("old", old), ("new", new)):
            (tmp_path / side).mkdir(exist_ok=True)
            data = content if isinstance(content, bytes) else content.encode()
            (tmp_path / side / name).write_bytes(data)
        outcome = Sides(tmp_path / "old", tmp_path / "new").compare(Path(name))
        assert outcome.reasons <= EXEMPT.keys()
        return outcome.reasons, outcome.difference

    return run


def parquet(surprisal=(0.5, 1.5), version="1", steps=9, **options):
    table = pa.table({"correct": [True, False], "surprisal": pa.array(surprisal, pa.float32())})
    inner = pa.BufferOutputStream()
    blocks = pa.table({"length": [steps]})
    with pa.ipc.new_stream(inner, blocks.schema) as stream:
        stream.write_table(blocks)
    header = {
        "barnum": json.dumps({"version": version, "transfers": 2}),
        "blocks": base64.b64encode(inner.getvalue().to_pybytes()),
    }
    out = pa.BufferOutputStream()
    pq.write_table(table.replace_schema_metadata(header), out, **options)
    return out.getvalue().to_pybytes()


def safetensors(version="1", last=2.0, order=("a", "document.json"), shape=(2,)):
    document = json.dumps({"version": version, "identity": "00"}).encode()
    arrays = {
        "a": ("F32", list(shape), np.array([1, last], np.float32).tobytes()),
        "document.json": ("U8", [len(document)], document),
    }
    header, data = {}, b""
    for name in order:
        kind, size, content = arrays[name]
        header[name] = {"dtype": kind, "shape": size, "data_offsets": [len(data), len(data) + len(content)]}
        data += content
    head = json.dumps(header).encode()
    return struct.pack("<Q", len(head)) + head + data


def png(pixels=b"\0\1\2", level=1, comment=b""):
    def part(kind, content):
        return struct.pack(">I", len(content)) + kind + content + bytes(4)

    head = part(b"IHDR", struct.pack(">IIBBBBB", 2, 1, 8, 0, 0, 0, 0))
    text = part(b"tEXt", comment) if comment else b""
    return (
        b"\x89PNG\r\n\x1a\n" + head + text + part(b"IDAT", zlib.compress(pixels, level)) + part(b"IEND", b"")
    )


def page(document, script="go()"):
    data = f'<script type="application/json" id="report">{json.dumps(document)}</script>'
    return f"<p>{data}<script>{script}</script>"


def test_json_differs_by_its_version_alone(compare):
    one = {"version": "1", "runs": [{"score": 0.1, "version": 2}]}
    assert compare("m.json", json.dumps(one), json.dumps(one)) == (frozenset(), None)
    assert compare("m.json", json.dumps(one), json.dumps({**one, "version": "2"})) == ({"version"}, None)
    assert compare("m.json", json.dumps(one), json.dumps(one, indent=1)) == ({"storage"}, None)
    swapped = {"runs": one["runs"], "version": "1"}
    assert compare("m.json", json.dumps(one), json.dumps(swapped)) == ({"storage"}, None)


@pytest.mark.parametrize(
    ("other", "told"),
    [
        ({"runs": [{"score": 0.2}]}, "runs[0].score: 0.1 → 0.2"),
        ({"runs": [{"score": 0.1, "more": None}]}, "runs[0].more: only in the new version"),
        ({"runs": []}, "runs: 1 → 0 entries"),
        ({"runs": [{"score": True}]}, "runs[0].score: 0.1 → True"),
    ],
)
def test_json_that_differs(compare, other, told):
    one = {"version": "1", "runs": [{"score": 0.1}]}
    assert compare("m.json", json.dumps(one), json.dumps({"version": "2", **other}))[1] == told


def test_a_number_is_no_truth_and_a_whole_number_no_float(compare):
    assert compare("m.json", '{"a": 1}', '{"a": 1.0}')[1] == "a: 1 → 1.0"
    assert compare("m.json", '{"a": 1}', '{"a": true}')[1] == "a: 1 → True"
    assert compare("m.json", '{"a": NaN}', '{"a":NaN}') == ({"storage"}, None)


def test_a_version_within_a_document_counts(compare):
    assert compare("m.json", '{"engine": {"version": 1}}', '{"engine": {"version": 2}}')[1]


def test_sums_in_a_detector_follow_the_version(compare):
    def manifest(version, digest):
        return json.dumps({"version": version, "model": "1f", "files": {"model.json": digest}})

    assert compare("detector.json", manifest("1", "aa"), manifest("2", "bb")) == ({"version"}, None)
    assert (
        compare("detector.json", manifest("1", "aa"), manifest("1", "bb"))[1]
        == "files.model.json: 'aa' → 'bb'"
    )


def test_parquet(compare):
    assert compare("e.parquet", parquet(), parquet(version="2")) == ({"version"}, None)
    assert compare("e.parquet", parquet(), parquet(compression="zstd")) == ({"storage"}, None)
    assert compare("e.parquet", parquet(), parquet((0.5, 1.25)))[1] == "column surprisal, row 1: 1.5 → 1.25"
    assert (
        compare("e.parquet", parquet(), parquet(steps=8))[1] == "metadata blocks: column length, row 0: 9 → 8"
    )
    nan = parquet((np.nan, 1)), parquet((np.nan, 1), compression="zstd")
    assert compare("e.parquet", *nan) == ({"storage"}, None)
    # not the same bits
    assert compare("e.parquet", parquet((0.0, 1)), parquet((-0.0, 1)))[1]


def test_safetensors(compare):
    assert compare("w", safetensors(), safetensors("2")) == ({"version"}, None)
    assert compare("w", safetensors(), safetensors(order=("document.json", "a"))) == ({"storage"}, None)
    assert compare("w", safetensors(), safetensors(last=3))[1] == "array a: number 1 of its numbers"
    assert compare("w", safetensors(), safetensors(shape=(2, 1)))[1] == "array a: F32 [2] → F32 [2, 1]"


def test_pictures(compare):
    assert compare("p.png", png(), png(level=0, comment=b"Software")) == ({"storage"}, None)
    assert compare("p.png", png(), png(b"\0\1\3"))[1] == "other pixels"


def test_pages(compare):
    one = {"version": "1", "runs": [1]}
    assert compare("r.html", page(one), page(one, "stop()")) == ({"page"}, None)
    assert compare("r.html", page(one), page({**one, "version": "2"})) == ({"version"}, None)
    assert compare("r.html", page(one), page({**one, "runs": [2]}, "stop()"))[1] == "runs[0]: 1 → 2"


def test_gzip(compare):
    assert compare("e.gz", gzip.compress(b"1,2", mtime=1), gzip.compress(b"1,2", mtime=2)) == (
        {"storage"},
        None,
    )
    assert compare("e.gz", gzip.compress(b"1,2"), gzip.compress(b"1,3"))[1] == "line 1: '1,2' → '1,3'"


def test_times_are_masked_in_what_is_printed(compare):
    old, new = (
        "training: 3 samples, 1,234 transfers/s; loss 1.5",
        "training: 3 samples, 99 transfers/s; loss 1.5",
    )
    assert compare("1.stdout", old, new) == ({"time"}, None)
    assert compare("1.txt", old, new)[1]
    assert "loss 1.5" in compare("1.stdout", old, new.replace("1.5", "1.6"))[1]
    assert compare("1.stdout", old, new.replace("3 samples", "4 samples"))[1]


def test_lines_of_the_log_may_come_in_any_order(compare):
    old = "12:00:00 MainProcess WARNING a\n12:00:01 SpawnProcess-1 WARNING b\n"
    new = "13:00:00 SpawnProcess-7 WARNING b\n13:00:00 MainProcess WARNING a\n"
    assert compare("1.stderr", old, new) == ({"time", "order"}, None)
    assert compare("1.stderr", old, new.replace("WARNING b", "ERROR b"))[1]
    assert compare("1.stdout", "a\nb\n", "b\na\n")[1]


def test_the_folder_of_a_version_is_no_difference(compare, tmp_path):
    old, new = f"[b_train]\n{tmp_path}/old/traces/b0\n", f"[b_train]\n{tmp_path}/new/traces/b0\n"
    assert compare("sets.txt", old, new) == ({"folder"}, None)
    assert compare("sets.txt", old, new.replace("b0", "b1"))[1]


def test_steps_come_after_those_that_they_need():
    steps = all_steps(1)
    names = [step.name for step in steps]
    assert len(set(names)) == len(names)
    for number, step in enumerate(steps):
        assert {*step.needs} <= {*names[:number]}
        chosen = with_needed(steps, [step.name])
        assert chosen[-1] is step
        for needed in chosen:
            assert {*needed.needs} <= {other.name for other in chosen}


def make_recordings(folder):
    """Recordings of a size that falls with their number."""
    for number in range(20):
        sample = folder / f"{number:064x}"
        sample.mkdir(parents=True)
        label = "malicious" if number % 4 == 0 else "benign"
        (sample / "info.txt").write_text(f"x.ps\n{label}\n")
        (sample / "trace_0.gz").write_bytes(bytes(100 - number))
        (sample / "trace_parsed.parquet").write_bytes(b"made")
        (sample / "trace_parsed.parquet.part").write_bytes(b"made")
    (folder / "unfinished.part").mkdir()
    return folder


def test_recordings_are_placed_as_they_were_recorded(tmp_path):
    found = find_recordings(make_recordings(tmp_path / "in"))
    # smallest first
    assert [one.name for one in found] == [f"b{n:03}" for n in range(15)] + [f"m{n:03}" for n in range(5)]
    assert [int(one.folder.name, 16) for one in found[15:]] == [16, 12, 8, 4, 0]
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "libc.so").write_bytes(b"image")
    place_recordings(found, tmp_path / "images", tmp_path)
    assert {file.name for file in (tmp_path / "traces" / "b003").iterdir()} == {"info.txt", "trace_0.gz"}
    raw = {folder.name for folder in (tmp_path / "raw").iterdir()}
    assert raw == {"b000", "b001", "b002", "b004", "b005", "m000"}
    assert (tmp_path / "extract" / "libc.so").read_bytes() == b"image"


def test_nothing_is_both_learnt_and_held_out(tmp_path):
    write_sets(find_recordings(make_recordings(tmp_path / "in")), tmp_path)
    for name in ("all", "few"):
        lines = (tmp_path / f"{name}.txt").read_text().split("\n")[:-1]
        names = [line for line in lines if not line.startswith("[")]
        assert len(set(names)) == len(names)
    assert len(names) == 6


def test_reports_are_the_same_each_time(tmp_path):
    for side in ("a", "b"):
        (tmp_path / side).mkdir()
        write_reports(tmp_path / side)
    files = [sorted(file for file in (tmp_path / side).rglob("*") if file.is_file()) for side in ("a", "b")]
    assert len(files[0]) == 2 * 60 + 6
    assert [one.read_bytes() for one in files[0]] == [one.read_bytes() for one in files[1]]


def program(folder, name, body):
    file = folder / name
    file.write_text(f"#!/bin/sh\n{body}\n")
    file.chmod(file.stat().st_mode | stat.S_IXUSR)
    return file


def compare_programs(*arguments):
    words = [sys.executable, SCRIPTS / "compare-versions.py", *arguments]
    return subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)


def test_two_programs_that_say_the_same(tmp_path):
    old = program(tmp_path, "old", 'echo "usage: $*"')
    new = program(tmp_path, "new", 'echo "usage: $*"')
    done = compare_programs("--only", "help", "--", old, new)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "identical" in done.stdout


def test_a_program_that_says_something_else_is_found(tmp_path):
    old = program(tmp_path, "old", 'echo "usage: $*"')
    new = program(tmp_path, "new", 'test "$1" = score && echo hello; echo "usage: $*"')
    done = compare_programs("--work", tmp_path / "work", "--only", "help", "--", old, new)
    assert done.returncode == 1
    assert "DIFFERENT: help/" in done.stdout
    assert "'usage: score --help' → 'hello'" in (tmp_path / "work" / "differences.txt").read_text()


def test_a_step_that_fails_in_one_is_found(tmp_path):
    old = program(tmp_path, "old", "true")
    new = program(tmp_path, "new", 'test "$1" != pack || exit 7')
    done = compare_programs("--only", "help", "--", old, new)
    assert done.returncode == 1
    assert "DIFFERENT: exit code 0 → 7 of: pack --help" in done.stdout


def test_what_fails_in_both_shows_nothing(tmp_path):
    broken = program(tmp_path, "broken", "exit 1")
    done = compare_programs("--only", "help", "--", broken, broken)
    assert done.returncode == 1
    assert "FAILED IN BOTH: exit code 1 of: --version" in done.stdout


def test_what_cannot_be_compared(tmp_path):
    good = program(tmp_path, "good", "true")
    (tmp_path / "mine").write_text("kept")
    for arguments, told in (
        (["--only", "nothing", "--", good, good], "no step is called nothing: there are help, "),
        ([good, tmp_path / "missing"], "missing: is no program"),
        (["--recordings", tmp_path, good, good], "--recordings and --bin-dir go together"),
        (["--work", tmp_path, "--only", "help", "--", good, good], "holds something else"),
        (["--recordings", tmp_path, "--bin-dir", tmp_path, good, good], "holds 0 harmless and 0 malicious"),
    ):
        done = compare_programs(*arguments)
        assert done.returncode == 2
        assert told in done.stderr
    assert (tmp_path / "mine").read_text() == "kept"
