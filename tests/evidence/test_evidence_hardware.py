"""Traces that hardware recorded: exploits show evidence at their last transfer, harmless runs do not."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path

import pytest

from barnum.evidence import EvidenceFinder, Findings, find_evidence
from barnum.paths.decode import Decoding
from barnum.samples import Sample

EXPLOITS = ("ovf-01-poc", "ovf-02-poc", "ovf-03-poc")
HARMLESS = (
    *("ovf-01-ben", "ovf-02-ben", "ovf-03-ben", "cve-2018-12327-ben"),
    *("griffin_hello", "griffin_last", "mruby", "qemu"),
)


def findings(folder: Path) -> tuple[Findings, int]:
    """What is found in a sample, and its number of steps."""
    cpu = json.loads((folder / "expected.json").read_text())["cpu"]
    images = folder / "extract"
    decoding = Decoding(Sample.open(folder), images, cpu=(*map(int, cpu.split("/")), 0) if cpu else None)
    finder = EvidenceFinder(decoding.sample, images)
    find_evidence(decoding, finder)
    return finder.done(decoding.gaps), decoding.steps


@pytest.mark.parametrize("name", EXPLOITS)
def test_an_exploit_shows_strong_evidence_at_its_last_transfer(data_dir, name):
    found, steps = findings(data_dir / "intel-pt" / name)
    (strong,) = found.strong
    assert strong.kind == "unknown"
    assert strong.step == steps - 1
    assert strong.target_place.module == "[unmapped]"
    assert strong.target_place.offset in (0x4141414141, 0x554141414141)
    assert "where nothing is mapped" in str(strong)
    assert [each.step for each in found.findings if each.kind == "death"] == [steps - 1]


@pytest.mark.parametrize("name", HARMLESS)
def test_harmless_runs_show_no_strong_evidence(data_dir, name):
    found, _ = findings(data_dir / "intel-pt" / name)
    assert not found.strong
    assert "death" not in {each.kind for each in found.findings}
    returned = sum(found.returns[:2])
    assert returned > 100
    # of the others next to none: what was not traced, and recordings that begin in the middle
    assert sum(found.returns[2:]) < 0.004 * returned
    if name.startswith("ovf"):
        assert not found.findings


@pytest.mark.parametrize(("name", "at", "size"), [("griffin_last", 103_189, 7), ("ovf-01-ben", 2_842, 256)])
def test_damage_that_is_noticed_late_is_no_strong_evidence(data_dir, tmp_path, name, at, size):
    whole = data_dir / "intel-pt" / name
    packets = gzip.decompress((whole / "trace_0.gz").read_bytes())
    (tmp_path / "trace_0").write_bytes(packets[:at] + packets[at + size :])
    for file in ("info.txt", "mapping.txt"):
        shutil.copy(whole / file, tmp_path / file)
    decoding = Decoding(Sample.open(tmp_path), whole / "extract")
    finder = EvidenceFinder(decoding.sample, whole / "extract")
    find_evidence(decoding, finder)
    found = finder.done(decoding.gaps)
    assert decoding.causes["lost"] >= 1
    assert any(each.kind == "instruction" for each in found.findings)
    assert not found.strong
