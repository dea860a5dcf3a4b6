"""Transfers to where no code is known: when they are enough alone, and how they are printed."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_paths_unknown import MAP, fup, wild

from barnum.evidence import EvidenceFinder, Finding, Findings, find_evidence
from barnum.paths import open_path
from barnum.paths.decode import Decoding
from barnum.paths.preprocess import Request, preprocess
from barnum.samples import Sample
from paths_tools import BASE, MODE_64, PGD, PSB, PSBEND, TAKEN, barnum, make_images, make_sample, pge, tip

# address → whether no code can be there
WILD = {
    0x4141414141: True,
    0: True,
    0x600FFF: True,  # [heap]
    0x700123: True,  # without a name, and not executable
    0x7FFFF010: True,  # [stack]
    0x800123: False,  # without a name, executable: a compiler's
    0x7FFF0010: False,  # an executable stack
    0x500010: False,  # a file of which there is no image
    0x502008: False,  # its data
    0xFFFF_8000_0000_0000: False,  # the kernel's
}


def sample_of(folder: Path, packets: bytes) -> Sample:
    make_images(folder / "extract")
    made = make_sample(folder / "traces" / "a", PSB + PSBEND + MODE_64 + pge(BASE) + packets)
    mapping = made / "mapping.txt"
    mapping.write_text(mapping.read_text() + MAP)
    return Sample.open(made)


def findings(sample: Sample, truncated: bool = False, details: bool = True) -> Findings:
    images = sample.folder.parent.parent / "extract"
    decoding = Decoding(sample, images)
    finder = EvidenceFinder(sample, images)
    find_evidence(decoding, finder)
    return finder.done(decoding.gaps if details else None, truncated=truncated)


def unknown(found: Findings) -> Finding:
    (one,) = [each for each in found.findings if each.kind == "unknown"]
    return one


@pytest.mark.parametrize("address", WILD)
def test_a_fault_where_no_code_can_be_is_strong(tmp_path, address):
    one = unknown(findings(sample_of(tmp_path, wild(address) + PGD)))
    assert one.strong == WILD[address]
    assert one.by == "indirect jump"
    assert (one.site_place.module, one.site_place.offset) == ("tiny", 6)
    assert one.key.startswith("unknown [") or one.target_place.module == "none.so"


def test_code_that_ran_is_not_strong(tmp_path):
    # tracing goes on elsewhere, so something ran there
    one = unknown(findings(sample_of(tmp_path, TAKEN + tip(0x4141414141) + TAKEN + TAKEN + pge(BASE) + PGD)))
    assert not one.strong


def test_the_end_of_a_stream_is_strong_only_where_it_is_known_to_be_the_end(tmp_path):
    sample = sample_of(tmp_path, TAKEN + tip(0x4141414141) + fup(0x4141414141) + PGD)
    assert unknown(findings(sample)).strong
    assert {each.kind for each in findings(sample).findings} == {"unknown", "death"}
    assert not unknown(findings(sample, truncated=True)).strong
    assert not unknown(findings(sample, details=False)).strong


def test_many_times_are_one_finding(tmp_path):
    found = findings(sample_of(tmp_path, (wild(0x4141414141) + wild(0x4242424242)) * 5 + PGD))
    (one,) = found.findings
    assert (one.count, one.step) == (10, 2)


def test_decode_prints_a_line_a_finding(tmp_path):
    sample = sample_of(tmp_path, wild(0x4141414141) * 2 + PGD)
    done = barnum("decode", "--evidence", sample.folder)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.decode().splitlines()
    assert lines[0] == (
        "step 2: went to 0x4141414141, where nothing is mapped (from tiny+0x6, 2 times) [strong]"
    )
    harmless = sample_of(tmp_path / "b", TAKEN + tip(BASE) + PGD)
    assert barnum("decode", "--evidence", harmless.folder).stdout.decode().startswith("no evidence\n")
    both = barnum("decode", "--evidence", "--summary", sample.folder)
    assert both.returncode == 2
    assert b"exclude each other" in both.stderr


def test_rows_of_the_original_say_that_nothing_was_looked_for(tmp_path):
    sample = sample_of(tmp_path, wild(0x4141414141) + PGD)
    rows = tmp_path / "trace_parsed.gz"
    request = Request(
        folder=str(sample.folder), bin_dir=str(tmp_path / "extract"), output=str(rows), format="gz"
    )
    preprocess(request)
    path = open_path(rows)
    finder = EvidenceFinder()
    find_evidence(path, finder)
    found = finder.done(path.gaps)
    assert not found.findings
    assert list(found.lines()) == list(found.left_out)
    assert "rows of the original" in found.left_out[0]
