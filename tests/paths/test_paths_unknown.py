"""Transfers to where no code is known: steps of the path, named by their page."""

from __future__ import annotations

import gzip
import json
import zlib

import numpy as np
import pytest

import barnum
from barnum.paths import Gap, Kind, iter_transfers, open_path
from barnum.paths.decode import Decoding
from barnum.samples import Sample
from learning import barnum as run
from paths_tools import BASE, MODE_64, PGD, PSB, PSBEND, TAKEN, make_images, make_sample, pge, tip

MAP = """\
500000-502000 r-xp 00000000 00:00 0 /lib/none.so
502000-503000 rw-p 00002000 00:00 0 /lib/none.so
600000-601000 rw-p 00000000 00:00 0 [heap]
700000-701000 rw-p 00000000 00:00 0
800000-801000 r-xp 00000000 00:00 0
7fff0000-7fff1000 rwxp 00000000 00:00 0 [stack:7]
7ffff000-7ffff800 rw-p 00000000 00:00 0 [stack]
"""
# address, and what it is called, with the offset there
PLACES = {
    0x500010: ("/lib/none.so", 0x10),
    0x502008: ("/lib/none.so", 0x2008),
    0x600001: ("[heap]", 0x600001),
    0x600FFF: ("[heap]", 0x600FFF),
    0x601000: ("[unmapped]", 0x601000),
    0x700123: ("[anonymous]", 0x700123),
    0x800123: ("[anonymous]", 0x800123),
    0x7FFF0010: ("[stack:7]", 0x7FFF0010),
    0x7FFFF010: ("[stack]", 0x7FFFF010),
    0x4141414141: ("[unmapped]", 0x4141414141),
    0xFFFF_8000_0000_0000: ("[unmapped]", 0xFFFF_8000_0000_0000),
    0: ("[unmapped]", 0),
}


def fup(address: int) -> bytes:
    return b"\xdd" + address.to_bytes(8, "little")


def wild(address: int) -> bytes:
    """Packets of a jump there, a fault, and a handler that begins anew."""
    return TAKEN + tip(address) + fup(address) + PGD + pge(BASE)


@pytest.fixture
def sample(tmp_path):
    make_images(tmp_path / "extract")
    packets = b"".join(map(wild, PLACES))
    folder = make_sample(tmp_path / "traces" / "a", PSB + PSBEND + MODE_64 + pge(BASE) + packets + PGD)
    mapping = folder / "mapping.txt"
    mapping.write_text(mapping.read_text() + MAP)
    return folder


def unknown_of(blocks):
    return np.flatnonzero(blocks.kind == Kind.UNKNOWN)


@pytest.mark.parametrize("form", ["decoded", "parquet"])
def test_places_are_named_by_their_page(sample, tmp_path, form):
    if form == "parquet":
        assert run("preprocess", sample, tmp_path / "extract").code == 0
        path = open_path(sample / "trace_parsed.parquet").read()
        blocks, steps, gap = path.blocks, path.block, path.gap
    else:
        decoding = Decoding(Sample.open(sample), tmp_path / "extract")
        (chunk,) = decoding.chunks()
        blocks, steps, gap = decoding.blocks, chunk.block, chunk.gap
        assert decoding.statistics["unknown"] == len(PLACES)
        assert decoding.statistics["errors"] == decoding.statistics["unmapped"] == 0
    numbers = unknown_of(blocks)
    assert blocks.start[numbers].tolist() == list(PLACES)
    named = [(blocks.modules[blocks.module[at]], int(blocks.offset[at])) for at in numbers]
    assert named == list(PLACES.values())
    assert not blocks.length[numbers].any()
    assert not blocks.count[numbers].any()
    # in a file a place has a number of its own; elsewhere its address says nothing
    wanted = [
        (zlib.adler32(name.encode()) << 32) + (offset if name.startswith("/") else 0)
        for name, offset in named
    ]
    assert blocks.bbid[numbers].tolist() == wanted
    at = np.flatnonzero(np.isin(steps, numbers))
    assert not gap[at].any()
    assert (gap[at + 1] == Gap.ASYNCHRONOUS).all()


def test_they_are_targets_to_learners(sample, tmp_path):
    assert run("preprocess", sample, tmp_path / "extract").code == 0
    path = barnum.open_path(sample)
    targets = [
        int(part.blocks.start[block]) for part in iter_transfers(path) for block in part.target.tolist()
    ]
    assert targets == list(PLACES)


def test_rows_of_the_original_have_them_as_targets(sample, tmp_path):
    assert run("preprocess", "--format", "gz", sample, tmp_path / "extract").code == 0
    data = gzip.decompress((sample / "trace_parsed.gz").read_bytes())
    at, targets = 0, set()
    while at < len(data):
        targets.add(int.from_bytes(data[at + 10 : at + 18], "little"))
        at += 2 + int.from_bytes(data[at : at + 2], "little")
    decoding = Decoding(Sample.open(sample), tmp_path / "extract")
    list(decoding.chunks())
    blocks = decoding.blocks
    assert set(blocks.bbid[unknown_of(blocks)].tolist()) <= targets


def test_coverage_leaves_them_out(sample, tmp_path):
    assert run("preprocess", sample, tmp_path / "extract").code == 0
    file = tmp_path / "run.drcov"
    done = run("export", "--format", "drcov", "--bin-dir", tmp_path / "extract", "-o", file, sample)
    assert done.code == 0, done.err
    assert f"left out {len(PLACES)} blocks that are places without known code" in done.err
    assert b"none.so" not in file.read_bytes()
    assert b"/usr/bin/tiny" in file.read_bytes()


def test_the_summary_and_the_header_say_so(sample, tmp_path):
    packets = PSB + PSBEND + MODE_64 + pge(BASE) + wild(0x600010) + TAKEN + tip(0x4141414141)
    (sample / "trace_0.gz").write_bytes(gzip.compress(packets + fup(0x4141414141) + PGD))
    lines = run("decode", "--bin-dir", tmp_path / "extract", sample).out.splitlines()
    (line,) = (line for line in lines if line.startswith("unknown "))
    assert line.split(maxsplit=1)[1] == (
        "2 transfers to 2 places without known code: 600010 in [heap], 4141414141 in [unmapped]"
    )
    (line,) = (line for line in lines if "trace_0.gz" in line)
    assert line.endswith("trace_0.gz, ends at 0x4141414141, where no code is known ([unmapped])")
    assert run("preprocess", sample, tmp_path / "extract").code == 0
    header = open_path(sample / "trace_parsed.parquet").header
    assert header["streams"][0]["ends_at"] == {"place": "[unmapped]", "address": "0x4141414141"}
    assert header["statistics"]["unknown"] == 2
    # one that goes on has no such end
    (sample / "trace_0.gz").write_bytes(gzip.compress(packets + fup(0x4141414141) + PGD + pge(BASE) + PGD))
    assert "ends at" not in run("decode", "--bin-dir", tmp_path / "extract", sample).out


def test_names_from_a_hostile_map_are_shown_safely(sample, tmp_path):
    mapping = sample / "mapping.txt"
    mapping.write_text(mapping.read_text().replace("[heap]", "[he\x1b[31map\x07]"))
    out = run("decode", "--bin-dir", tmp_path / "extract", sample).out
    assert "[he?[31map?]" in out
    assert "\x1b" not in out


def test_a_wild_target_is_anomalous_and_its_place_is_named_first(tmp_path):
    make_images(tmp_path / "extract")
    begin = PSB + PSBEND + MODE_64 + pge(BASE)
    for number in range(24):
        turns = (TAKEN + tip(BASE)) * (50 + number)
        make_sample(tmp_path / "traces" / f"good-{number}", begin + turns + PGD)
    for number in range(6):
        turns = (TAKEN + tip(BASE)) * (60 + number)
        end = TAKEN + tip(0x4141414141) + fup(0x4141414141) + PGD
        make_sample(tmp_path / "traces" / f"bad-{number}", begin + turns + end, label="malicious")
    assert run("preprocess", tmp_path / "traces", tmp_path / "extract").code == 0
    barnum.learn(tmp_path / "traces", network="rote", train_size=12, test_size=12, eval_dir=tmp_path / "eval")
    rate = ("--false-alarm-rate", 0.1)
    done = run("classifier", *rate, "--json", tmp_path / "verdicts.json", tmp_path / "eval")
    assert done.code == 0, done.err
    runs = json.loads((tmp_path / "verdicts.json").read_text())["runs"]
    assert [each["name"] for each in runs if each["verdict"] == "anomalous"] == [
        f"bad-{number}.pdf" for number in range(6)
    ]
    file = tmp_path / "r.json"
    done = run(
        "report",
        *rate,
        "-o",
        tmp_path / "r.html",
        "--json",
        file,
        "--traces",
        tmp_path / "traces",
        tmp_path / "eval",
    )
    assert done.code == 0, done.err
    report = json.loads(file.read_text())
    (sample,) = (each for each in report["samples"] if each["name"] == "bad-0.pdf")
    first = sample["windows"][0]["transfers"][0]
    place = report["places"][first["actual"]]
    assert (place["module"], place["offset"]) == ("[unmapped]", 0x4141414141)
