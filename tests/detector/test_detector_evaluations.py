"""Evidence in evaluations of models: learnt from digests, kept with the model, a verdict in every command."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from test_detector_hardware import OTHERS, OVERFLOWS, last_step, traces

from learning import barnum

__all__ = ["traces"]

KINDS = ("--learn-ret", "--learn-icall", "--learn-ijmp")
LEARNT = ("ovf-02-ben", "ovf-03-ben", *OTHERS)
EXPLOITS = tuple(f"{name}-poc" for name in OVERFLOWS)
JUDGED = ("ovf-01-ben", *EXPLOITS)


def sets_of(traces: Path, file: Path, learnt: tuple[str, ...] = LEARNT) -> Path:
    folders = {
        "b_train": learnt,
        "b_test": [name for name in JUDGED if name.endswith("ben")],
        "m_test": EXPLOITS,
    }
    lines = []
    for name, samples in folders.items():
        lines += [f"[{name}]", *(str(traces / each / each) for each in samples)]
    file.write_text("\n".join(lines) + "\n")
    return file


def done(*words: Any) -> str:
    ended = barnum(*words)
    assert ended.code == 0, ended.err
    out: str = ended.out
    return out


def verdicts(folder: Path, file: Path, *options: str) -> dict[str, dict[str, Any]]:
    done("classifier", "--json", file, *options, folder)
    return {row["name"]: row for row in json.loads(file.read_text())["runs"]}


def check(rows: dict[str, dict[str, Any]], traces: Path) -> None:
    for name in EXPLOITS:
        row = rows[name]
        assert (row["verdict"], row["because"]) == ("anomalous", "evidence"), name
        (strong,) = [each for each in row["signs"]["evidence"] if each["strong"]]
        assert strong["step"] == last_step(traces, name)
        assert strong["module"] == "[unmapped]"
    assert rows["ovf-01-ben"]["because"] is None


def test_a_rote_learner_knows_evidence_and_keeps_it(traces, tmp_path):
    sets, model = sets_of(traces, tmp_path / "sets"), tmp_path / "rote"
    done("prob", "-p", *KINDS, "-i", sets, "--save", model, "--eval-dir", tmp_path / "eval", traces)
    check(verdicts(tmp_path / "eval", tmp_path / "a.json"), traces)
    # read again, it judges alike; what it learns beside that it knows, too
    again = ("prob", "-p", *KINDS, "-i", sets, "--load", model, "--skip-train")
    done(*again, "--eval-dir", tmp_path / "again", traces)
    check(verdicts(tmp_path / "again", tmp_path / "b.json"), traces)
    taken = tmp_path / "taken-for-harmless" / "ovf-01-poc"
    shutil.copytree(traces / "ovf-01-poc" / "ovf-01-poc", taken)
    (taken / "info.txt").write_text("taken\nbenign\n")
    more = tmp_path / "more"
    more.write_text(f"[b_train]\n{taken}\n")
    both = tmp_path / "both"
    further = ("prob", "-p", *KINDS, "-i", more, "--load", model, "--skip-test", "--skip-eval")
    done(*further, "--save", both, tmp_path)
    others = tmp_path / "others"
    others.write_text(sets.read_text().replace(f"{traces / 'ovf-01-poc' / 'ovf-01-poc'}\n", ""))
    last = ("prob", "-p", *KINDS, "-i", others, "--load", both, "--skip-train")
    done(*last, "--eval-dir", tmp_path / "last", traces)
    rows = verdicts(tmp_path / "last", tmp_path / "c.json")
    # one of eight nominal runs would have been called anomalous
    assert {row["signs"]["alarming"] for row in rows.values()} == {1}
    assert {row["because"] for row in rows.values()} == {None}
    assert len(rows) == len(JUDGED) - 1


def test_a_network_a_packed_detector_and_the_page_show_evidence(traces, tmp_path):
    sets = sets_of(traces, tmp_path / "sets")
    document, weights = tmp_path / "model.json", tmp_path / "weights.safetensors"
    done("lstm", "-p", "-i", sets, "--epochs", "1", "--save-model", document, "--save-weights", weights,
         "--eval-dir", tmp_path / "eval", traces)  # fmt: skip
    check(verdicts(tmp_path / "eval", tmp_path / "a.json"), traces)
    classifier, detector = tmp_path / "classifier.json", tmp_path / "detector"
    done("classifier", "-s", classifier, tmp_path / "eval")
    done("pack", "--use-model", document, "--use-weights", weights, "-l", classifier, detector)
    lines = [json.loads(line) for line in done("score", detector, traces / "ovf-01-poc").splitlines()]
    assert [(line["verdict"], line["because"], line["where"]["by"]) for line in lines] == [
        ("anomalous", "evidence", "evidence")
    ]
    assert (lines[0]["where"]["module"], lines[0]["where"]["step"]) == (
        "[unmapped]", last_step(traces, "ovf-01-poc"),
    )  # fmt: skip
    report = tmp_path / "report.json"
    done("report", "-o", tmp_path / "page.html", "--json", report, tmp_path / "eval")
    for sample in json.loads(report.read_text())["samples"]:
        exploit = sample["name"] in EXPLOITS
        assert (sample["because"] == "evidence") == exploit
        assert any(sign["strong"] for sign in sample["evidence"]) == exploit


def test_of_a_trace_that_is_not_preprocessed_evidence_is_found_as_well(traces, tmp_path, data_dir):
    sets, model = sets_of(traces, tmp_path / "sets"), tmp_path / "rote"
    done("prob", "-p", *KINDS, "-i", sets, "--save", model, "--eval-dir", tmp_path / "eval", traces)
    classifier, detector = tmp_path / "classifier.json", tmp_path / "detector"
    done("classifier", "-s", classifier, tmp_path / "eval")
    done("pack", "--prob", model, "-l", classifier, detector)
    raw = tmp_path / "ovf-03-poc"
    shutil.copytree(traces / "ovf-03-poc" / "ovf-03-poc", raw)
    for made in ("trace_parsed.parquet", "trace_digest"):
        (raw / made).unlink()
    extract = data_dir / "intel-pt" / "ovf-03-poc" / "extract"
    (line,) = map(json.loads, done("score", "--bin-dir", extract, detector, raw).splitlines())
    assert (line["verdict"], line["because"]) == ("anomalous", "evidence")
    assert not (raw / "trace_digest").exists()


@pytest.mark.parametrize("lacks", ["ovf-02-ben", "ovf-01-poc"])
def test_without_digests_nothing_is_known_and_nothing_blamed(traces, tmp_path, lacks):
    tree = tmp_path / "traces"
    for name in (*LEARNT, *JUDGED):
        shutil.copytree(traces / name, tree / name)
    (tree / lacks / lacks / "trace_digest").unlink()
    sets = sets_of(tree, tmp_path / "sets")
    done("prob", "-p", *KINDS, "-i", sets, "--eval-dir", tmp_path / "eval", tree)
    rows = verdicts(tmp_path / "eval", tmp_path / "a.json")
    unknown = set(rows) if lacks in LEARNT else {lacks}
    assert {name for name, row in rows.items() if row["signs"] is None} == unknown
    assert all(rows[name]["because"] is None for name in unknown)
    for name in set(EXPLOITS) - unknown:
        assert rows[name]["because"] == "evidence"
