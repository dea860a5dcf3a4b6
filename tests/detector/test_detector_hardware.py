"""Fitted detectors on traces that hardware recorded: evidence finds exploits, and blames no harmless run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from barnum.samples import Sample
from learning import barnum

OVERFLOWS = ("ovf-01", "ovf-02", "ovf-03")
OTHERS = ("griffin_hello", "griffin_last", "mruby", "qemu", "cve-2018-12327-ben")
HARMLESS = (*(f"{name}-ben" for name in OVERFLOWS), *OTHERS)


@pytest.fixture(scope="module")
def traces(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the preprocessed samples, labelled by what they are; digests are made by the way."""
    folder = tmp_path_factory.mktemp("hardware")
    for name in (*HARMLESS, *(f"{name}-poc" for name in OVERFLOWS)):
        source, tree = data_dir / "intel-pt" / name, folder / name
        shutil.copytree(source, tree / name, ignore=lambda *_: {"extract"})
        label = "malicious" if name.endswith("poc") else "benign"
        (tree / name / "info.txt").write_text(f"{name}\n{label}\n")
        cpu = json.loads((source / "expected.json").read_text())["cpu"]
        ended = barnum("preprocess", *(["--cpu", cpu] if cpu else []), tree, source / "extract")
        assert ended.code == 0, ended.err
        assert (tree / name / "trace_digest").is_file()
    return folder


def fitted(traces: Path, file: Path, *names: str) -> Path:
    ended = barnum("fit", "-o", file, *(traces / name for name in names))
    assert ended.code == 0, ended.err
    return file


def judged(detector: Path, traces: Path, *names: str) -> dict[str, dict[str, Any]]:
    ended = barnum("score", detector, *(traces / name for name in names))
    assert ended.code == 0, ended.err
    return {line["name"]: line for line in map(json.loads, ended.out.splitlines())}


def last_step(traces: Path, name: str) -> int:
    """The number of the last step of a path."""
    from barnum.paths import open_path

    parsed = Sample.open(traces / name / name).parsed
    assert parsed is not None
    return sum(len(chunk.block) for chunk in open_path(parsed).chunks()) - 1


@pytest.mark.parametrize("alone", [True, False])
@pytest.mark.parametrize("name", OVERFLOWS)
def test_an_exploit_is_found_by_evidence_at_its_last_transfer(traces, tmp_path, name, alone):
    own, exploit = f"{name}-ben", f"{name}-poc"
    others = [f"{each}-ben" for each in OVERFLOWS if each != name]
    learnt = [own] if alone else others
    detector = fitted(traces, tmp_path / "detector", *learnt)
    lines = judged(detector, traces, exploit, *HARMLESS)
    line = lines[exploit]
    assert (line["verdict"], line["because"]) == ("anomalous", "evidence")
    assert line["where"]["by"] == "evidence"
    assert line["where"]["step"] == last_step(traces, exploit)
    assert line["where"]["module"] == "[unmapped]"
    assert line["where"]["offset"] in (0x4141414141, 0x554141414141)
    assert [each["kind"] for each in line["evidence"] if each["strong"]] == ["unknown"]
    for harmless in HARMLESS:
        assert lines[harmless].get("because") != "evidence", lines[harmless]


@pytest.mark.parametrize("names", [*((name,) for name in OTHERS), OTHERS, HARMLESS])
def test_no_harmless_run_of_any_program_is_blamed_for_evidence(traces, tmp_path, names):
    detector = fitted(traces, tmp_path / "detector", *names)
    lines = judged(detector, traces, *HARMLESS)
    assert len(lines) == len(HARMLESS)
    for line in lines.values():
        assert line.get("because") != "evidence", line
        assert not [each for each in line.get("evidence", ()) if each["strong"]]
    # what was learnt of other programs hides nothing
    for name in OVERFLOWS:
        (line,) = judged(detector, traces, f"{name}-poc").values()
        assert (line["verdict"], line["because"]) == ("anomalous", "evidence")


def test_evidence_that_a_nominal_run_shows_is_not_held_against_others(traces, tmp_path):
    tree = tmp_path / "taken-for-harmless"
    shutil.copytree(traces / "ovf-01-poc", tree)
    (tree / "ovf-01-poc" / "info.txt").write_text("ovf-01-poc\nbenign\n")
    ended = barnum("fit", "-o", tmp_path / "detector", traces / "ovf-01-ben", tree)
    assert ended.code == 0, ended.err
    # one of two nominal runs would be called anomalous by it: more than may be
    assert "calls nothing anomalous (of 2 nominal runs, left out, 1 would show such: too many)" in ended.out
    lines = judged(tmp_path / "detector", traces, "ovf-01-poc", "ovf-02-poc", "ovf-03-poc")
    assert {line.get("because") for line in lines.values()} <= {None, "novelty"}
    assert "evidence" not in lines["ovf-01-poc"]


def test_a_page_tells_a_run_by_evidence_from_one_by_novelty(traces, tmp_path):
    detector = fitted(traces, tmp_path / "detector", "ovf-01-ben")
    places = traces / "ovf-01-poc", traces / "ovf-01-ben"
    ended = barnum("check", "--report-json", tmp_path / "page.json", detector, *places)
    assert ended.code == 0, ended.err
    exploit, harmless = json.loads((tmp_path / "page.json").read_text())["samples"]
    assert (exploit["verdict"], exploit["because"]) == ("anomalous", "evidence")
    assert [each["text"] for each in exploit["evidence"] if each["strong"]]
    # of a single run it is not known how much novelty is usual
    assert exploit["first_alarm"] is None
    assert exploit["windows"] and not any(window["above_threshold"] for window in exploit["windows"])
    assert exploit["effects"] is None
    assert harmless["learnt"] is True
    assert (harmless["verdict"], harmless["windows"]) == ("nominal", [])


def test_evidence_reads_as_sentences(traces, tmp_path):
    detector = fitted(traces, tmp_path / "detector", "ovf-01-ben")
    (line,) = judged(detector, traces, "ovf-01-poc").values()
    texts = [each["text"] for each in line["evidence"]]
    assert all("\n" not in text and text.startswith("step ") for text in texts)
    assert any("where nothing is mapped" in text for text in texts)
