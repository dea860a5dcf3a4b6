"""``barnum decode`` as a user meets it."""

import gzip
import hashlib
import json
import os
import re
import subprocess
import sys

import pytest

from paths_tools import (
    BASE,
    MODE_64,
    PGD,
    PSB,
    PSBEND,
    TAKEN,
    barnum,
    make_images,
    make_sample,
    pge,
    stream,
    tip,
    turns,
)

REAL = (
    "cve-2018-12327-ben",
    "griffin_hello",
    "griffin_last",
    "mruby",
    "ovf-01-ben",
    "ovf-01-poc",
    "ovf-02-ben",
    "ovf-02-poc",
    "ovf-03-ben",
    "ovf-03-poc",
    "qemu",
)


@pytest.mark.parametrize("name", REAL)
def test_real_traces_print_what_was_executed(name, data_dir):
    sample = data_dir / "intel-pt" / name
    expected = json.loads((sample / "expected.json").read_text())
    cpu = ["--cpu", expected["cpu"]] if expected["cpu"] else []
    for option, lines, digest in (
        ("--blocks", "canonical_blocks", "canonical_blocks_sha256"),
        ("--instructions", "instructions", "instruction_stream_sha256"),
    ):
        done = barnum("decode", sample, option, *cpu)
        assert done.returncode == 0, done.stderr
        assert done.stderr == b""
        # the last line of an overflow is where it jumped to, where no code is
        printed = done.stdout
        if name.endswith("-poc") and option == "--blocks":
            printed, last = printed[:-36], printed[-36:]
            assert re.fullmatch(rb"(0000(00|55)4141414141) \1 0\n", last)
        assert printed.count(b"\n") == expected[lines]
        assert hashlib.sha256(printed).hexdigest() == expected[digest]
    summary = barnum("decode", sample, "--bin-dir", sample / "extract", *cpu)
    assert summary.returncode == 0
    assert f"instructions  {expected['instructions']:,}\n".encode() in summary.stdout
    assert f"{expected['pt_bytes']:,} decoded, 0 lost".encode() in summary.stdout
    ends = [line for line in summary.stdout.decode().splitlines() if "ends at" in line]
    assert len(ends) == name.endswith("-poc")
    for line in ends:
        assert re.search(r"ends at 0x(55)?4141414141, where no code is known \(\[unmapped\]\)$", line)


@pytest.fixture
def sample(tmp_path):
    make_images(tmp_path / "extract")
    return make_sample(tmp_path / "traces" / "a")


def test_blocks_and_instructions(sample):
    lines = barnum("decode", sample, "--blocks").stdout.splitlines()
    assert lines[:4] == [
        b"%016x %016x 1" % (BASE, BASE),
        b"%016x %016x 3" % (BASE + 2, BASE + 4),
        b"%016x %016x 1" % (BASE, BASE),
        b"%016x %016x 1" % (BASE + 4, BASE + 4),
    ]
    assert len(lines) == 21
    lines = barnum("decode", sample, "--instructions").stdout.splitlines()
    assert lines[:4] == [b"%016x" % (BASE + offset) for offset in (0, 2, 3, 4)]


def test_summary(sample):
    text = barnum("decode", sample).stdout.decode()
    assert text == barnum("decode", "--summary", sample).stdout.decode()
    assert "a.pdf (benign)" in text
    assert "21 (3 distinct)" in text
    assert "100.00%  /usr/bin/tiny" in text
    assert "1 start of stream" in text
    assert "trace_0.gz" in text


def test_the_summary_names_what_was_lost_and_unmapped_by_module(sample):
    mapping = sample / "mapping.txt"
    mapping.write_text(mapping.read_text() + "500000-501000 r-xp 00000000 00:00 0 /lib/no\x1bne.so\n")
    start = PSB + PSBEND + MODE_64 + pge(BASE)
    into = [
        start + turns(2) + TAKEN + tip(0x500010) + TAKEN,
        start + TAKEN + tip(0x900000) + TAKEN,
        start + turns(2) + PGD,
    ]
    (sample / "trace_0.gz").write_bytes(gzip.compress(b"".join(into)))
    lines = barnum("decode", sample).stdout.decode().splitlines()
    (total,) = (line.split() for line in lines if line.startswith("bytes "))
    decoded, lost = (int(total[index].replace(",", "")) for index in (1, 3))
    assert decoded + lost == sum(map(len, into))
    (unmapped,) = (line.split() for line in lines if line.startswith("unmapped  "))
    assert unmapped[1:5] == ["2", "times", "in", "2"]
    table = next(index for index, line in enumerate(lines) if "bytes lost" in line)
    rows = [line.split(maxsplit=4) for line in lines[table + 1 : lines.index("", table + 1)]]
    assert {row[4]: row[1:4] for row in rows} == {
        "/lib/no?ne.so": ["1", "1", "1"],
        "(in no module)": ["1", "1", "1"],
    }
    assert sum(int(row[0].replace(",", "")) for row in rows) == lost


def test_images_are_found_near_the_sample_or_named(sample, tmp_path):
    (tmp_path / "extract").rename(tmp_path / "images")
    missing = barnum("decode", sample)
    assert missing.returncode == 13
    assert b"--bin-dir" in missing.stderr
    named = barnum("decode", sample, "--bin-dir", tmp_path / "images")
    assert named.returncode == 0
    (tmp_path / "images").rename(sample / "extract")
    assert barnum("decode", sample).stdout == named.stdout


def test_one_stream_of_several(sample):
    (sample / "trace_1.gz").write_bytes(gzip.compress(stream(1)))
    assert barnum("decode", sample, "--blocks").stdout.count(b"\n") == 21 + 3
    assert barnum("decode", sample, "--blocks", "--stream", 1).stdout.count(b"\n") == 3
    none = barnum("decode", sample, "--stream", 2)
    assert none.returncode == 10
    assert b"no stream 2" in none.stderr


def test_code_without_an_image_is_named(sample, tmp_path):
    mapping = sample / "mapping.txt"
    mapping.write_text(mapping.read_text() + "500000-501000 r-xp 00000000 00:00 0 /lib/none.so\n")
    text = barnum("decode", sample).stdout.decode()
    assert "without image: /lib/none.so" in text


@pytest.mark.parametrize(
    ("packets", "message"),
    [(b"", b"empty"), (b"nothing of the kind" * 100, b"no PSB packet")],
)
def test_bad_traces(tmp_path, packets, message):
    make_images(tmp_path / "extract")
    sample = make_sample(tmp_path / "a", packets)
    done = barnum("decode", sample)
    assert done.returncode == 11
    assert message in done.stderr
    assert done.stderr.count(b"\n") == 1


def test_bad_words(sample):
    assert barnum("decode", sample, "--cpu", "pentium").returncode == 2
    assert barnum("decode", sample / "none").returncode == 2
    assert barnum("decode", sample.parent).returncode == 10


def test_ways_to_print_exclude_each_other(sample):
    for one, other in (("--blocks", "--summary"), ("--effects", "--instructions")):
        done = barnum("decode", one, other, sample)
        assert done.returncode == 2
        assert b"exclude each other" in done.stderr


def test_a_sample_whose_recorder_noted_no_effects_says_so(sample):
    done = barnum("decode", "--effects", sample)
    assert done.returncode == 10
    assert b"noted no effects: record the run anew" in done.stderr
    assert done.stderr.count(b"\n") == 1


def test_greedy_input_ends_with_one_clear_line(sample):
    # the limit of a process that is run is inherited; what is lower than our own stays
    command = "import resource; resource.setrlimit(resource.RLIMIT_DATA, (220 << 20, 220 << 20)); "
    command += "from barnum.paths import code; code.load_code = lambda *_: bytearray(1 << 30); "
    command += "from barnum.cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", command, "decode", str(sample)],
        capture_output=True,
        timeout=60,
        check=False,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
    )
    assert done.returncode == 11, done.stderr
    assert b"of memory: damaged or hostile" in done.stderr
    assert done.stderr.count(b"\n") == 1
