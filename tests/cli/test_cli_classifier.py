"""``barnum classifier`` as a user meets it."""

import csv
import gzip
import json
import os
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner
from test_evaluations_files import columns, header

from barnum import evaluations
from barnum.cli.classifier import command
from barnum.errors import (
    BarnumError,
    EvaluationError,
    OptionsError,
    OutputError,
    OutputExistsError,
    SomeFailedError,
)
from barnum.evaluations.header import Source

CALIBRATION = evaluations.Calibration("novelty", 50, tuple(float(i % 7) for i in range(40)))


def run(*arguments, code=0):
    result = CliRunner().invoke(command, [str(word) for word in arguments], standalone_mode=False)
    if isinstance(result.exception, BarnumError | click.UsageError):
        raise result.exception
    assert result.exception is None, result.output
    assert (result.return_value or 0) == code
    return result.output


def verdicts_of(document):
    return {row["verdict"] for row in document["runs"]}


def line_of(output, begin):
    return next(line for line in output.splitlines() if line.startswith(begin))


def write(folder, label, number, novelty, wrong=0.1, format="parquet", **changes):
    """An evaluation with one new transfer, of the novelty given, and the share of wrong predictions given."""
    weights = np.zeros(400, np.float32)
    weights[200] = novelty
    parts = columns(400, number, novelty=weights, correct=np.arange(400) >= 400 * wrong)
    name = f"s{number}"
    fields = {"name": f"{label}-{number}.doc", "sample": name, "calibration": CALIBRATION, **changes}
    file = folder / evaluations.file_name(label, name, format)
    with evaluations.writer_for(format, file, header(label, **fields)) as writer:
        writer.write(parts)
    return file


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def write_runs(folder):
    """Eight benign runs and four malicious ones, of which one brings nothing new."""
    folder.mkdir()
    for i in range(8):
        write(folder, "benign", i, float(i % 5))
    for i in range(8, 12):
        write(folder, "malicious", i, 30.0 if i < 11 else 0.0, wrong=0.6)
    return folder


@pytest.fixture
def folder(tmp_path):
    return write_runs(tmp_path / "eval")


@pytest.fixture
def originals(tmp_path):
    """A folder of evaluations in the original's format."""
    made = tmp_path / "originals"
    made.mkdir()
    for i in range(16):
        write(made, "benign" if i < 8 else "malicious", i, 0.0, wrong=0.1 if i < 8 else 0.9, format="gz")
    return made


def test_a_table_and_error_rates_with_counts(folder):
    output = run(folder)
    assert "classifier: conformal, from nominal runs alone" in output
    assert "48 nominal runs" in output
    rows = {line.split()[0]: line.split() for line in output.splitlines() if ".doc" in line}
    assert len(rows) == 12
    assert rows["malicious-8.doc"][1:3] == ["malicious", "30.00"]
    assert rows["malicious-8.doc"][-1] == "anomalous"
    assert rows["malicious-11.doc"][-1] == "nominal"
    assert rows["benign-3.doc"][-1] == "nominal"
    assert "false positives: 0 of 8 (0.0 %; 95 %: 0.0 to 36.9 %)" in output
    assert "false negatives: 1 of 4 (25.0 %; 95 %: 0.6 to 80.6 %)" in output


def test_both_labels_by_the_originals_line(folder):
    output = run(folder, "--method", "svm")
    assert "classifier: svm, the original's" in output
    assert "malicious-8.doc" in output
    assert "false negatives:" in output


def test_exit_code_tells_of_anomalies_when_asked(folder):
    run(folder, "--fail-on-anomaly", code=3)
    for i in range(8, 12):
        (folder / f"malicious-s{i}.parquet").unlink()
    output = run(folder, "--fail-on-anomaly")
    assert "false negatives" not in output


def test_files_hold_the_verdicts(folder, tmp_path):
    run(folder, "-c", tmp_path / "v.csv", "--json", tmp_path / "v.json")
    rows = list(csv.DictReader((tmp_path / "v.csv").read_text().splitlines()))
    assert list(rows[0]) == ["true_label", "pred_label", "avg_accuracy", "avg_confidence", "name"]
    named = {row["name"]: row for row in rows}
    assert named["malicious-s8"]["true_label"] == named["malicious-s8"]["pred_label"] == "1"
    # the column holds what was wrong, as the original's does
    assert float(named["malicious-s8"]["avg_accuracy"]) == pytest.approx(0.6)
    document = json.loads((tmp_path / "v.json").read_text())
    assert document["schema"] == 2
    rate = document["summary"]["false_negatives"]
    assert (rate["wrong"], rate["runs"], rate["rate"]) == (1, 4, 0.25)
    assert rate["low"] == pytest.approx(0.0063, abs=1e-4)
    assert rate["high"] == pytest.approx(0.8059, abs=1e-4)
    assert verdicts_of(document) == {"nominal", "anomalous"}
    verdict = next(row for row in document["runs"] if row["sample"] == "s9")
    assert (verdict["anomalous"], verdict["score"], verdict["name"]) == (True, 30.0, "malicious-9.doc")
    assert verdict["p_value"] == pytest.approx(1 / 49)


@pytest.mark.parametrize("method", ["conformal", "svm"])
def test_a_saved_classifier_judges_new_runs(folder, tmp_path, method):
    file = tmp_path / "class.json"
    saved = run(folder, "--method", method, "-s", file)
    other = tmp_path / "other"
    other.mkdir()
    write(other, "malicious", 20, 30.0, wrong=0.7)
    output = run(other, "-l", file)
    assert line_of(output, "classifier:") == line_of(saved, "classifier:")
    assert "anomalous" in output
    assert "false positives" not in output
    with pytest.raises(OutputExistsError):
        run(folder, "-s", file)
    write(other, "malicious", 21, 30.0, model="another")
    (other / "malicious-s20.parquet").unlink()
    with pytest.raises(EvaluationError, match="another model"):
        run(other, "-l", file)


def test_names_cannot_command_the_terminal(folder):
    write(folder, "benign", 90, 0.0, name="\x1b[2Jevil\n.doc")
    output = run(folder)
    assert "\x1b" not in output
    assert "?[2Jevil .doc" in output


def test_evaluations_of_different_models_are_not_mixed(folder):
    write(folder, "benign", 90, 0.0, model="another")
    with pytest.raises(EvaluationError, match="another model"):
        run(folder)


def test_evaluations_in_the_originals_format_are_judged_by_its_method(originals, tmp_path):
    saved = tmp_path / "class.json"
    files = ("-c", tmp_path / "v.csv", "--json", tmp_path / "v.json", "-s", saved)
    output = run(originals, "--method", "svm", *files)
    rows = {line.split()[0]: line.split() for line in output.splitlines() if line.startswith("s")}
    # they do not know what the document was called
    assert rows["s3"][1] == "benign"
    assert rows["s9"][-1] == "anomalous"
    assert "false positives: 0 of 8" in output
    assert "false negatives: 0 of 8" in output
    row = next(csv.DictReader((tmp_path / "v.csv").read_text().splitlines()))
    assert (row["name"], float(row["avg_accuracy"])) == ("benign-s0", pytest.approx(0.1))
    document = json.loads((tmp_path / "v.json").read_text())
    assert document["model"] == ""
    assert (
        {row["novelty"] for row in document["runs"]}
        == {row["surprisal"] for row in document["runs"]}
        == {None}
    )
    assert {row["transfers"] for row in document["runs"]} == {400}
    # what was learnt from them judges others of their kind
    assert line_of(run(originals, "-l", saved), "s9") == line_of(output, "s9")


def test_evaluations_in_the_originals_format_have_no_novelty(originals):
    with pytest.raises(EvaluationError, match=r"benign-s0 holds no novelty.*--method svm"):
        run(originals, "--method", "conformal")
    # nor is a rate promised by another method
    with pytest.raises(EvaluationError, match="holds no novelty"):
        run(originals, "--false-alarm-rate", "0.1")
    assert "classifier: logistic" in run(originals)


def test_classifiers_stay_with_the_model_they_know(folder, originals, tmp_path):
    named, unnamed = tmp_path / "named.json", tmp_path / "unnamed.json"
    run(folder, "--method", "svm", "-s", named)
    run(originals, "--method", "svm", "-s", unnamed)
    for there, file in ((originals, named), (folder, unnamed)):
        with pytest.raises(EvaluationError, match=r"another model.*\(those in gz name none\)"):
            run(there, "-l", file)


def test_a_model_without_memory_is_judged_by_the_originals_method(folder, tmp_path):
    for file in folder.iterdir():
        file.unlink()
    for i in range(12):
        label, wrong = ("benign", 0.1) if i < 8 else ("malicious", 0.6)
        write(folder, label, i, 0.0, wrong=wrong, calibration=None)
    output = run(folder, "--method", "svm", "--json", tmp_path / "v.json")
    assert "malicious-9.doc" in output
    first = json.loads((tmp_path / "v.json").read_text())["runs"][0]
    assert first["surprisal"] > 0
    assert first["new"] is first["novelty_position"] is None
    with pytest.raises(EvaluationError, match="holds no novelty"):
        run(folder, "--method", "conformal")


def test_formats_are_not_mixed(folder, originals):
    write(folder, "malicious", 91, 0.0, format="gz")
    with pytest.raises(EvaluationError, match=r"malicious-s91 does not say which model.*benign-s0 does"):
        run(folder, "--method", "svm")
    write(originals, "benign", 92, 0.0)
    with pytest.raises(EvaluationError, match=r"benign-s0 does not say which model.*benign-s92 does"):
        run(originals, "--method", "svm")


def test_a_sample_is_there_once(folder):
    write(folder, "malicious", 8, 0.0, format="gz")
    with pytest.raises(EvaluationError, match="one sample: remove one of them"):
        run(folder)


def test_one_label_alone(folder):
    for i in range(8):
        (folder / f"benign-s{i}.parquet").unlink()
    assert "false negatives: 1 of 4" in run(folder)
    with pytest.raises(EvaluationError, match="both labels"):
        run(folder, "--method", "svm")


def test_missing_and_foreign(folder, tmp_path):
    with pytest.raises(EvaluationError, match="no such folder"):
        run(tmp_path / "gone")
    (folder / "note").write_text("x")
    with pytest.raises(EvaluationError, match="note"):
        run(folder)


def test_refused_runs_count_in_no_rate(folder, tmp_path):
    write(folder, "benign", 50, 99.0, source=Source(steps=9, lost=0.2, unmapped=1234))
    output = run(folder, "-c", tmp_path / "v.csv", "--json", tmp_path / "v.json", "-p", tmp_path / "v.png")
    assert "refused: 20.0 % of the trace was lost, code without an image was met 1,234 times" in output
    assert "refused: 1 of 13 runs" in output
    assert "false positives: 0 of 8" in output
    rows = list(csv.DictReader((tmp_path / "v.csv").read_text().splitlines()))
    assert {row["name"]: row["pred_label"] for row in rows}["benign-s50"] == ""
    document = json.loads((tmp_path / "v.json").read_text())
    assert document["summary"]["refused"] == 1
    refused = next(row for row in document["runs"] if row["sample"] == "s50")
    assert refused["verdict"] == "refused"
    assert "20.0 %" in refused["refused"]
    assert "false positives: 1 of 9" in run(folder, "--max-lost", "0.2")


def test_where_all_runs_are_refused_one_line_says_so(tmp_path):
    (tmp_path / "all").mkdir()
    for i in range(3):
        write(tmp_path / "all", "benign", i, 1.0, source=Source(steps=9, lost=0.5))
    with pytest.raises(EvaluationError, match=r"no run can be judged: 50.0 % of the trace was lost"):
        run(tmp_path / "all")


def test_runs_of_unknown_label_are_listed_and_count_in_no_rate(folder, tmp_path):
    files = ["-c", tmp_path / "v.csv", "-r", tmp_path / "roc.csv"]
    rates = run(folder, *files).split("\n\n")[-1].splitlines()
    roc = (tmp_path / "roc.csv").read_bytes()
    for i, novelty in ((20, 40.0), (21, 0.0), (22, 0.0)):
        write(folder, "unknown", i, novelty, source=Source(steps=1, lost=0.5) if i == 22 else None)
    output = run(folder, *files, "--json", tmp_path / "v.json", "-p", tmp_path / "v.png")
    rows = [line.split() for line in output.splitlines() if ".doc" in line]
    # after the others
    assert [row[0] for row in rows[-3:]] == [f"unknown-{i}.doc" for i in (20, 21, 22)]
    assert [row[1] for row in rows[-3:]] == ["unknown"] * 3
    assert [row[4] for row in rows[-3:-1]] == ["anomalous", "nominal"]
    assert rows[-1][3] == "refused:"
    said = output.split("\n\n")[-1].splitlines()
    added = [
        "unknown label: 1 of 2 runs called anomalous, which count in no rate",
        "refused: 1 of 15 runs, which count in no rate",
    ]
    assert [line for line in said if line not in added] == rates
    assert [line for line in said if line in added] == added
    assert (tmp_path / "roc.csv").read_bytes() == roc
    table = {row["name"]: row for row in csv.DictReader((tmp_path / "v.csv").read_text().splitlines())}
    assert {table[f"unknown-s{i}"]["true_label"] for i in (20, 21, 22)} == {""}
    assert [table[f"unknown-s{i}"]["pred_label"] for i in (20, 21, 22)] == ["1", "0", ""]
    document = json.loads((tmp_path / "v.json").read_text())
    assert [row["verdict"] for row in document["runs"] if row["label"] == "unknown"] == [
        "anomalous",
        "nominal",
        "refused",
    ]
    run(folder, "--fail-on-anomaly", code=3)
    for file in [*folder.glob("benign-*"), *folder.glob("malicious-*")]:
        file.unlink()
    assert "unknown label: 1 of 2 runs" in run(folder, "-p", tmp_path / "v.png")
    with pytest.raises(EvaluationError, match="takes runs of both labels"):
        run(folder, "-r", tmp_path / "none.csv")


@pytest.mark.parametrize("method", ["svm", "logistic"])
def test_runs_of_unknown_label_by_the_originals_features(originals, tmp_path, method):
    before = run(originals, "--method", method, "-i").split("\n\n")[-1]
    for i in (30, 31):
        write(originals, "unknown", i, 0.0, wrong=0.1 if i == 30 else 0.9, format="gz")
    output = run(originals, "--method", method, "-p", tmp_path / "v.png")
    assert [line.split()[-1] for line in output.splitlines() if line.startswith(("s30 ", "s31 "))] == [
        "anomalous",
        "nominal",
    ]
    line = "unknown label: 1 of 2 runs called anomalous, which count in no rate\n"
    assert output.split("\n\n")[-1].replace(line, "") == before


@pytest.mark.parametrize("method", ["conformal", "svm", "logistic"])
def test_pictures_and_curves(folder, tmp_path, method):
    picture, curve = tmp_path / "v.png", tmp_path / "v.csv"
    run(folder, "--method", method, "-p", picture, "-r", curve)
    assert picture.read_bytes().startswith(b"\x89PNG\r\n")
    lines = curve.read_text().splitlines()
    assert (lines[0], lines[1], lines[-1]) == ("fp,tp", "0.0,0.0", "1.0,1.0")


def test_one_label_has_a_picture_but_no_curve(folder, tmp_path):
    for i in range(8):
        (folder / f"benign-s{i}.parquet").unlink()
    run(folder, "-p", tmp_path / "v.png")
    with pytest.raises(EvaluationError, match="takes runs of both labels"):
        run(folder, "-r", tmp_path / "v.csv")


@pytest.mark.parametrize("method", ["conformal", "svm", "logistic"])
def test_forced_thresholds_stay_above_benign_runs(folder, tmp_path, method):
    saved = tmp_path / "class.json"
    write(folder, "benign", 60, 99.0, wrong=0.7)
    first = run(folder, "-f", "--method", method, "-s", saved)
    assert "false positives: 0 of 9" in first
    again = run(folder, "-l", saved)
    assert line_of(again, "false negatives") == line_of(first, "false negatives")
    assert "false positives: 0 of 9" in again
    write(folder, "benign", 61, 500.0, wrong=1.0)
    assert "false positives: 0 of 10" in run(folder, "-f", "-l", saved)


def test_trivial_detectors_are_compared_with(tmp_path):
    made = tmp_path / "eval"
    made.mkdir()
    for i in range(4):
        label = "benign" if i < 2 else "malicious"
        source = Source(steps=9, signal=11 if i == 2 else None, timeout=False, children=i)
        write(made, label, i, 0.0, source=source)
    output = run(made)
    assert "whether the program crashed alone: 0 of 2 benign" in output
    assert "1 of 2 malicious called nominal" in output
    assert "whether the program started a process alone: 1 of 2 benign" in output


def test_cut_and_cache(folder):
    write(folder, "malicious", 70, 30.0, source=Source(steps=9, cut=100))
    output = run(folder, "--cut")
    assert "1 of 13 runs were cut there" in output
    assert line_of(output, "malicious-70.doc").split()[-1] == "nominal"
    assert line_of(run(folder), "malicious-70.doc").split()[-1] == "anomalous"
    anew = run(folder, "--cut", "-i", "-w", "1")
    assert anew[anew.index("classifier:") :] == output[output.index("classifier:") :]


def test_names_that_are_no_text_are_written(originals, tmp_path):
    source = write(originals, "benign", 80, 0.0, format="gz")
    os.rename(os.fsencode(source), os.fsencode(originals) + b"/benign-\xff.gz")
    run(originals, "-c", tmp_path / "v.csv", "--json", tmp_path / "v.json", "-p", tmp_path / "v.png")
    assert "benign-?" in (tmp_path / "v.csv").read_text()
    assert json.loads((tmp_path / "v.json").read_text())["runs"]


def test_classifiers_of_other_versions_are_refused_in_a_line(folder, tmp_path):
    run(folder, "-s", tmp_path / "class.json")
    old = tmp_path / "class.json"
    old.write_text(old.read_text().replace('"schema": 2', '"schema": 1'))
    with pytest.raises(EvaluationError, match="has schema '1', this version reads 2"):
        run(folder, "-l", old)


def test_the_published_classifier(data_dir, tmp_path):
    acrobat = data_dir / "acrobat"
    if not (acrobat / "model" / "svm").is_file():
        pytest.skip(f"no published classifier at {acrobat}")
    (tmp_path / "eval").mkdir()
    for file in (acrobat / "expected").iterdir():
        lines = gzip.decompress(file.read_bytes()).decode().splitlines()[1:]
        text = "".join(line.split(",", 1)[1] + "\n" for line in lines)
        name = f"malicious-{file.name.removesuffix('.csv.gz')}.gz"
        (tmp_path / "eval" / name).write_bytes(gzip.compress(text.encode(), 1))
    found = tmp_path / "v.json"
    run(tmp_path / "eval", "-l", acrobat / "model" / "svm", "--json", found, "-p", tmp_path / "v.png")
    rows = sorted(json.loads(found.read_text())["runs"], key=lambda row: row["sample"])
    assert [row["sample"][:4] for row in rows] == ["44a7", "4a1a"]
    assert [row["wrong"] for row in rows] == pytest.approx([0.9594, 0.8550], abs=5e-5)
    assert [row["wrong_confidence"] for row in rows] == pytest.approx([0.0979, 0.0586], abs=5e-5)
    assert [row["score"] for row in rows] == pytest.approx([9.3527, 8.1643], abs=5e-5)
    assert {row["verdict"] for row in rows} == {"anomalous"}


def test_results_go_where_they_are_told(folder, tmp_path):
    # a pipe or a device takes them itself, and a link's target is written
    target, link = tmp_path / "target.csv", tmp_path / "link.csv"
    target.write_text("old")
    link.symlink_to(target)
    run("-c", link, "--json", "/dev/null", folder)
    assert link.is_symlink()
    assert target.read_text().startswith("true_label")
    assert Path("/dev/null").is_char_device()
    with pytest.raises(OutputError, match="no such folder"):
        run("-c", tmp_path / "none" / "c.csv", folder)
    for words in (["-c", link, "--json", target], ["--json", folder / "v.json"]):
        with pytest.raises(OptionsError):
            run(*words, folder)


@pytest.mark.parametrize("option", ["--false-alarm-rate", "--max-lost"])
def test_rates_are_numbers(folder, option):
    with pytest.raises(click.UsageError):
        run(option, "nan", folder)


def test_a_run_with_nothing_before_the_cut_does_not_stop_the_others(folder):
    write(folder, "malicious", 50, 30.0, source=evaluations.Source(steps=5000, cut=0))
    output = run("--cut", folder)
    assert "refused: nothing was executed before" in output
    assert "refused: 1 of 13 runs" in output
    assert run(folder).count("refused") == 0


def test_a_gate_does_not_let_refused_runs_through(tmp_path):
    made = tmp_path / "eval"
    made.mkdir()
    for i in range(3):
        write(made, "benign", i, 0.0)
    write(made, "malicious", 9, 0.0, source=evaluations.Source(steps=5000, lost=0.3))
    run(made)
    with pytest.raises(SomeFailedError, match="1 of 4"):
        run("--fail-on-anomaly", made)


def test_long_names_are_cut(folder):
    write(folder, "benign", 60, 0.0, name="n" * 100_000)
    write(folder, "benign", 61, 0.0, name="")
    output = run(folder)
    assert max(map(len, output.splitlines())) < 400
    assert "s61" in output
