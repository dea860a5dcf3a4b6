"""``barnum report`` as a user meets it."""

import json
import shutil

import numpy as np
import pytest
from click.testing import CliRunner
from test_evaluations_files import columns, header
from test_report import CALIBRATION, HOSTILE, originals, write

from barnum import evaluations
from barnum.cli.preprocess import command as preprocess
from barnum.cli.report import command
from barnum.errors import BarnumError, EvaluationError, OptionsError, OutputError, OutputExistsError
from barnum.paths import iter_transfers, open_path
from barnum.samples import Sample
from paths_tools import make_images, make_sample, stream


def run(*arguments):
    result = CliRunner().invoke(command, [str(word) for word in arguments], standalone_mode=False)
    if isinstance(result.exception, BarnumError):
        raise result.exception
    assert result.exception is None, result.output
    return result.output


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "eval"
    for i in range(4):
        write(made, "benign", i, {200: float(i)})
    write(made, "malicious", 4, {100: 5.0, 120: 25.0})
    return made


def test_page_json_and_lines(folder, tmp_path):
    page, document, lines = (tmp_path / name for name in ("r.html", "r.json", "r.jsonl"))
    output = run(folder, "-o", page, "--json", document, "--jsonl", lines, "--windows", 2, "-w", 1)
    assert f"report: 5 runs, 1 anomalous: {page}" in output
    assert page.read_text().startswith("<!DOCTYPE html>")
    read = json.loads(document.read_text())
    assert [len(sample["windows"]) for sample in read["samples"]] == [2] * 5
    assert json.loads(lines.read_text().splitlines()[0])["sample"] == "s4"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["eval", "r.html", "r.json", "r.jsonl"]


def test_what_is_there_is_not_replaced_without_being_told(folder, tmp_path):
    page = tmp_path / "r.html"
    page.write_text("mine")
    with pytest.raises(OutputExistsError, match="--force"):
        run(folder, "-o", page, "--json", tmp_path / "r.json")
    assert page.read_text() == "mine"
    assert not (tmp_path / "r.json").exists()
    run(folder, "-o", page, "-f", "-w", 1)
    assert "mine" not in page.read_text()


def test_nothing_is_left_half_written(folder, tmp_path):
    with pytest.raises(OutputError, match="no such folder"):
        run(folder, "-o", tmp_path / "none" / "r.html")
    broken = folder / "benign-broken.parquet"
    broken.write_bytes(b"PAR1 and no more")
    with pytest.raises(EvaluationError, match="benign-broken"):
        run(folder, "-o", tmp_path / "r.html")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["eval"]


def test_a_saved_classifier_and_a_method(folder, tmp_path):
    from barnum.verdicts import methods
    from barnum.verdicts.conformal import ConformalClassifier
    from barnum.verdicts.scores.novelty import Novelty

    saved = tmp_path / "c.json"
    classifier = ConformalClassifier([float(i) for i in range(40)], 0.05, Novelty(50))
    methods.save(saved, classifier, "m")
    run(folder, "-o", tmp_path / "r.html", "--json", tmp_path / "r.json", "-l", saved, "-w", 1)
    assert json.loads((tmp_path / "r.json").read_text())["classifier"]["threshold"] == 38.0
    write(folder, "malicious", 5, {100: 5.0})
    run(folder, "-o", tmp_path / "s.html", "--json", tmp_path / "s.json", "--method", "svm", "-w", 1)
    read = json.loads((tmp_path / "s.json").read_text())
    assert read["classifier"]["method"] == "svm"
    # it judges a run as a whole
    assert {sample["first_alarm"] is None for sample in read["samples"]} == {True}


def test_formats_are_not_mixed(folder, tmp_path):
    write(folder, "benign", 8, format="gz")
    with pytest.raises(EvaluationError, match=r"gz|which model"):
        run(folder, "-o", tmp_path / "r.html", "-w", 1)
    assert not (tmp_path / "r.html").exists()


def test_names_of_files_need_not_be_unicode(tmp_path):
    folder = originals(tmp_path / "eval", ["benign"] * 2, [0.5] * 2)
    strange = folder.with_name("eval\udcff")
    folder.rename(strange)
    (strange / "benign-s0.gz").rename(strange / "benign-\udcfe.gz")
    run(strange, "-o", tmp_path / "r.html", "-w", 1)
    assert r"eval\\xff" in (tmp_path / "r.html").read_text()


def test_usage(folder, tmp_path):
    result = CliRunner().invoke(command, [str(folder)])
    assert result.exit_code == 2
    assert "--output" in result.output
    words = [str(folder), "-o", str(tmp_path / "r"), "--json", str(tmp_path / "r")]
    assert isinstance(CliRunner().invoke(command, words).exception, OptionsError)


# with traces and images


@pytest.fixture
def traced(tmp_path):
    """Runs of a tiny program, one of them with a new transfer, and their evaluations."""
    bin_dir = make_images(tmp_path / "traces" / "extract")
    for number in range(3):
        sample = make_sample(tmp_path / "traces" / f"s{number}", stream(200))
        words = [str(sample), str(bin_dir), "-j", "1"]
        result = CliRunner().invoke(preprocess, words, standalone_mode=False)
        assert result.exception is None, result.output
        evaluate(tmp_path, number)
    return tmp_path


def evaluate(root, number, format="parquet", classes=None, **changes):
    path = open_path(root / "traces" / f"s{number}" / "trace_parsed.parquet")
    (part,) = [part for part in iter_transfers(path) if len(part)]
    count = len(part)
    novelty = np.zeros(count, np.float32)
    novelty[count // 2] = 30.0 if number == 2 else 0.0
    actual = path.blocks.bbid[part.target]
    predicted = actual.copy()
    predicted[count // 2] += np.uint64(2)
    made = columns(
        count, number, novelty=novelty, actual=actual, predicted=predicted, correct=predicted == actual,
        position=part.position,
    )  # fmt: skip
    if classes:
        made |= {name: made[name] % np.uint64(classes) for name in ("actual", "predicted")}
    label = "malicious" if number == 2 else "benign"
    (root / "eval").mkdir(exist_ok=True)
    file = root / "eval" / evaluations.file_name(label, f"s{number}", format)
    fields = {"name": f"{number}.pdf", "sample": f"s{number}", "calibration": CALIBRATION}
    with evaluations.writer_for(format, file, header(label, **fields, **changes)) as writer:
        writer.write(made)


def report_of(root, *arguments):
    document = root / "r.json"
    run(root / "eval", "-f", "-w", 1, "-o", root / "r.html", "--json", document, *arguments)
    return json.loads(document.read_text())


def novel(read):
    """The new transfer of the malicious run, with its places."""
    sample = read["samples"][-1]
    assert sample["label"] == "malicious"
    found = dict(next(t for t in sample["windows"][0]["transfers"] if t["novelty"]))
    for name in ("source", "expected", "actual"):
        found[name] = None if found[name] is None else read["places"][found[name]]
    return found, sample


def test_blocks_are_named_by_module_offset_and_instruction(traced):
    transfer, sample = novel(report_of(traced, "--traces", traced / "traces"))
    assert transfer["source"]["module"] == transfer["actual"]["module"] == "/usr/bin/tiny"
    assert transfer["actual"]["offset"] == 0
    assert transfer["expected"]["offset"] == 2
    assert (transfer["kind"], transfer["instruction"], transfer["instruction_offset"]) == (
        ("indirect jump", "jmp rax", 4)
    )
    assert sample["notes"] == []
    assert sample["first_alarm"]["position"] == transfer["position"]


@pytest.mark.parametrize("classes", [None, 1000])
def test_transfers_of_the_originals_evaluations_are_found_by_counting(traced, classes):
    shutil.rmtree(traced / "eval")
    for number in range(3):
        evaluate(traced, number, "gz", classes)
    read = report_of(traced, "--traces", traced / "traces")
    sample = read["samples"][-1]
    assert sample["name"] == "s2.pdf"
    (window,) = sample["windows"]
    (transfer,) = window["transfers"]
    assert transfer["prediction"] == 100
    # of two steps a turn, the second is left by the indirect jump
    path = open_path(traced / "traces" / "s2" / "trace_parsed.parquet")
    (part,) = [part for part in iter_transfers(path) if len(part)]
    assert transfer["position"] == part.position[100]
    assert transfer["instruction"] == "jmp rax"
    assert read["places"][transfer["actual"]]["offset"] == 0
    expected = read["places"][transfer["expected"]]
    assert expected["offset"] == 2 if classes is None else expected["block_class"] is not None


def test_another_number_of_predictions_than_transfers_is_told(traced):
    shutil.rmtree(traced / "eval")
    originals(traced / "eval", ["benign"], [0.5])
    read = report_of(traced, "--traces", traced / "traces")
    assert "400 predictions were made" in read["samples"][0]["notes"][0]


def test_functions_are_named_by_the_images(traced, monkeypatch):
    from barnum.report import symbols

    def read(image, file=None):
        assert (image.name, file) == ("tiny", "/usr/bin/tiny")
        return symbols.Symbols([symbols.Function(0, 6, "spin<int>(char)")]), None

    monkeypatch.setattr(symbols, "read_symbols", read)
    transfer, _ = novel(report_of(traced, "--traces", traced / "traces"))
    assert transfer["expected"]["function"] == "spin<int>(char)"
    assert transfer["expected"]["function_offset"] == 2


def test_images_that_are_gone_are_told(traced):
    shutil.rmtree(traced / "traces" / "extract")
    (traced / "none").mkdir()
    transfer, sample = novel(report_of(traced, "--traces", traced / "traces", "--bin-dir", traced / "none"))
    assert transfer["source"]["module"] == "/usr/bin/tiny"
    assert transfer["instruction"] is None
    assert transfer["kind"] == "indirect jump"
    assert any("modules lack an image" in note for note in sample["notes"])


def test_samples_that_are_gone_are_told(traced):
    shutil.rmtree(traced / "traces" / "s2")
    transfer, sample = novel(report_of(traced, "--traces", traced / "traces"))
    assert transfer["source"] is None
    # other runs have loaded the module
    assert transfer["actual"]["module"] == "/usr/bin/tiny"
    assert "cannot be used" in sample["notes"][0]


def test_a_trace_that_is_another_is_not_believed(traced):
    shutil.copy(
        traced / "traces" / "s1" / "trace_parsed.parquet", traced / "traces" / "s2" / "trace_parsed.parquet"
    )
    short = make_sample(traced / "traces" / "other", stream(3))
    result = CliRunner().invoke(
        preprocess, [str(short), str(traced / "traces" / "extract"), "-j", "1"], standalone_mode=False
    )
    assert result.exception is None
    shutil.copy(short / "trace_parsed.parquet", traced / "traces" / "s2" / "trace_parsed.parquet")
    transfer, sample = novel(report_of(traced, "--traces", traced / "traces"))
    assert transfer["source"] is None
    assert "not the trace that was evaluated" in sample["notes"][0]


def test_a_broken_trace_is_told(traced):
    (traced / "traces" / "s2" / "trace_parsed.parquet").write_bytes(b"PAR1 no")
    _, sample = novel(report_of(traced, "--traces", traced / "traces"))
    assert "cannot be read" in sample["notes"][0]


def test_a_sample_is_not_looked_for_outside_of_the_root(traced):
    # the name of an evaluation names a folder, and nothing else
    assert Sample.open(traced / "traces" / "s0").parsed
    write(traced / "eval", "malicious", 9, {10: 3.0}, sample="..")
    read = report_of(traced, "--traces", traced / "traces")
    assert all("SampleError" not in note for sample in read["samples"] for note in sample["notes"])


def test_names_of_modules_with_markup_stay_text(traced):
    mapping = traced / "traces" / "s2" / "mapping.txt"
    mapping.write_text(f"400000-401000 r-xp 00000000 00:00 0 /usr/bin/{HOSTILE}\n")
    report_of(traced, "--traces", traced / "traces")
    page = (traced / "r.html").read_text()
    assert "<img" not in page
    assert page.count("</script>") == 2


def test_the_originals_evaluations(tmp_path):
    folder = originals(tmp_path / "eval", ["benign"] * 4 + ["malicious"] * 4, [0.1] * 4 + [0.8] * 4)
    output = run(folder, "-o", tmp_path / "r.html", "-w", 1)
    assert "8 runs, 4 anomalous" in output
