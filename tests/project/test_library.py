"""``import barnum``: what a script and a notebook do with it."""

from __future__ import annotations

import inspect
import json
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pyarrow as pa
import pytest

import barnum
from barnum.errors import OptionsError, OutputExistsError, SampleError, SetsError
from learning import attack_path, nominal_path, write_sample, write_tree
from learning import barnum as run

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = ROOT / "docs" / "from-documents-to-a-verdict.ipynb"


def python(code: str, *arguments: object) -> str:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout


def test_the_notebook_runs(tmp_path, monkeypatch):
    if shutil.which("gs") is None:
        pytest.skip("Ghostscript is not installed")
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    (tmp_path / "demo").symlink_to(ROOT / "demo")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for cell in code:
        exec(compile(cell, str(NOTEBOOK), "exec"), names)
    verdict = names["verdict"]
    assert verdict.verdict == "anomalous"
    steps = names["path"]
    row = steps.slice(verdict.where.step, 1).to_pylist()[0]
    assert (row["step"], row["module"], row["offset"]) == (
        verdict.where.step,
        verdict.where.place.module,
        verdict.where.place.offset,
    )
    # what the notebook shows is about twenty lines
    assert sum(len([line for line in cell.splitlines() if line.strip()]) for cell in code) <= 24


def test_importing_it_imports_nothing_heavy():
    code = """
        import sys
        import barnum
        print(sorted(set(sys.modules) & {"numpy", "pyarrow", "torch", "click", "msgspec", "sklearn"}))
    """
    assert python(code) == "[]\n"


def test_what_it_offers_is_there_and_told():
    for name in barnum.__all__:
        assert getattr(barnum, name) is not None
        if not name.startswith("__"):
            assert getattr(barnum, name).__doc__, name
    assert set(barnum.__all__) <= set(dir(barnum))
    with pytest.raises(AttributeError, match="nothing_like_it"):
        barnum.nothing_like_it  # noqa: B018


def test_no_name_of_it_is_a_room_as_well():
    """A room that is imported takes its name on the package: a function of that name would be gone."""
    rooms = {place.stem for place in (ROOT / "src" / "barnum").iterdir()}
    assert not rooms & set(barnum.__all__)


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    return write_tree(tmp_path_factory.mktemp("library") / "traces")


@pytest.fixture(scope="module")
def learned(tree):
    return barnum.learn(tree, network="rote", train_size=16, test_size=8, eval_dir=tree.parent / "eval")


def test_from_samples_to_a_verdict(tree, learned, tmp_path):
    told = []
    judgement = barnum.classify(learned.evaluations, progress=lambda *step: told.append(step))
    assert told[-1][1:] == (8, 8)
    detector = barnum.pack(tmp_path / "detector", learned.model, judgement)
    samples = barnum.find_samples(str(tree))
    some = [next(s for s in samples if s.benign), next(s for s in samples if not s.benign)]
    verdicts = {s.label: barnum.judge(str(tmp_path / "detector"), s).verdict for s in some}
    assert verdicts == {"benign": "nominal", "malicious": "anomalous"}
    # the command says the same
    folder = str(next(sample.folder for sample in samples if not sample.benign))
    said = json.loads(run("score", tmp_path / "detector", folder).out)
    found = barnum.judge(detector, folder).document()
    assert {name: said[name] for name in found} == found
    with pytest.raises(OutputExistsError):
        barnum.pack(tmp_path / "detector", learned.model, judgement)


def test_from_digests_to_a_verdict(tmp_path):
    tree = write_tree(tmp_path / "traces", 24, 1)
    samples = barnum.find_samples(tree)
    halves = [barnum.fit(samples[:12], jobs=1), barnum.fit(samples[12:], tmp_path / "half", jobs=1)]
    whole = barnum.fit(tree, tmp_path / "whole", jobs=1)
    barnum.merge([halves[0], tmp_path / "half"], tmp_path / "merged")
    assert (tmp_path / "merged").read_bytes() == (tmp_path / "whole").read_bytes()
    bad = write_sample(tmp_path, "new.doc", "unknown", attack_path(900))
    judged = barnum.judge(whole, bad)
    # returns to where no call waits, which no nominal run shows
    assert (judged.verdict, judged.because) == ("anomalous", "evidence")
    assert judged.score > judged.threshold
    assert barnum.judge(tmp_path / "whole", bad) == judged
    assert barnum.open_fitted(tmp_path / "whole").classifier.threshold == judged.threshold
    with pytest.raises(SetsError):
        barnum.fit(bad)


def test_runs_of_unknown_label_are_evaluated_and_judged(tree, learned, tmp_path):
    root = tmp_path / "traces"
    write_sample(root, "good.doc", "unknown", nominal_path(80))
    write_sample(root, "bad.doc", "unknown", attack_path(900))
    shutil.copytree(learned.evaluations, tmp_path / "eval")
    before = barnum.classify(tmp_path / "eval")
    written = barnum.evaluate(learned.model, barnum.find_samples(root), tmp_path / "eval")
    assert {each.label for each in written} == {"unknown"}
    after = barnum.classify(tmp_path / "eval")
    assert after.summary == before.summary
    assert after.classifier.state() == before.classifier.state()
    words = {r.name: v.word for r, v in zip(after.runs, after.verdicts, strict=True) if r.label == "unknown"}
    assert words == {"good.doc": "nominal", "bad.doc": "anomalous"}
    with pytest.raises(SetsError, match="has 0 usable benign samples"):
        barnum.learn(root, network="rote", train_size=1, test_size=0)


def test_a_recording_takes_a_label_that_there_is(tmp_path):
    assert inspect.signature(barnum.record).parameters["label"].default == "unknown"
    with pytest.raises(OptionsError, match="'harmless' is none of 'benign', 'malicious', 'unknown'"):
        barnum.record(["cat", "{}"], [], tmp_path / "traces", label="harmless")


def test_learning_says_what_a_command_says(tree, learned, tmp_path):
    """The same settings give the same evaluations, byte for byte."""
    kinds = ("--learn-ret", "--learn-icall", "--learn-ijmp")
    run("prob", "-p", *kinds, "--train-size", 16, "--test-size", 8, "--eval-dir", tmp_path / "eval", tree)
    names = sorted(file.name for file in learned.evaluations.iterdir())
    assert names == sorted(file.name for file in (tmp_path / "eval").iterdir())
    for name in names:
        assert (learned.evaluations / name).read_bytes() == (tmp_path / "eval" / name).read_bytes()
    assert 0 < learned.held_out.accuracy <= 1


def test_a_model_that_was_saved_evaluates_alike(tree, learned, tmp_path):
    from barnum.models.saved import save_whole

    save_whole(tmp_path / "model", learned.model)
    model = barnum.open_model(str(tmp_path / "model"))
    sample = barnum.find_samples(tree)[0]
    [once] = barnum.evaluate(learned.model, [sample], tmp_path / "a")
    [again] = barnum.evaluate(model, [sample], str(tmp_path / "b"))
    assert once.file.read_bytes() == again.file.read_bytes()


def test_tables_are_read_by_the_arrow_interface(tree, learned):
    path = barnum.open_path(barnum.find_samples(tree)[0])
    steps = pa.table(path)
    assert steps.num_rows == len(path) == len(path.read())
    assert steps.column_names == ["step", "bbid", "module", "offset", "kind", "gap", "stream"]
    whole = path.read()
    assert steps["bbid"].to_pylist() == whole.blocks.bbid[whole.block].tolist()
    assert pa.table(whole).equals(steps)
    file = sorted(learned.evaluations.iterdir())[0]
    evaluation = barnum.open_evaluation(file)
    rows = pa.table(evaluation)
    assert rows.num_rows == len(evaluation)
    assert rows.column_names == list(evaluation.columns)
    [part] = evaluation.parts("surprisal")
    assert rows["surprisal"].to_pylist() == part["surprisal"].tolist()


def test_everything_says_in_a_line_what_it_is(tree, learned, tmp_path):
    judgement = barnum.classify(learned.evaluations)
    detector = barnum.pack(tmp_path / "detector", learned.model, judgement)
    sample = barnum.find_samples(tree)[0]
    path = barnum.open_path(sample)
    evaluation = barnum.open_evaluation(sorted(learned.evaluations.iterdir())[0])
    for thing in (sample, path, path.read(), path.blocks, evaluation, learned.model, detector):
        said = repr(thing)
        assert "\n" not in said and len(said) < 300, said


def test_errors_are_those_of_the_program(tree, learned, tmp_path):
    with pytest.raises(SampleError, match="is no sample folder"):
        barnum.open_sample(tmp_path / "gone")
    with pytest.raises(SetsError, match="lower --train-size"):
        barnum.learn(tree, network="rote", train_size=1000)
    with pytest.raises(OptionsError, match="no_such is no setting"):
        barnum.learn(tree, network="rote", no_such=1)
    with pytest.raises(OptionsError, match="train_size"):
        barnum.learn(tree, network="rote", train_size="many")
    with pytest.raises(OptionsError, match="is for calls"):
        judgement = barnum.classify(learned.evaluations)
        detector = barnum.pack(tmp_path / "detector", learned.model, judgement)
        barnum.judge(detector, tree, process="word.exe")


def test_a_script_that_uses_it_is_typed(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(
            """
            import barnum

            def found(folder: str) -> list[str]:
                learned = barnum.learn(folder, network="rote", train_size=3)
                if learned.evaluations is None:
                    return []
                judgement = barnum.classify(learned.evaluations, false_alarm_rate=0.05)
                detector = barnum.pack("detector", learned.model, judgement)
                verdicts = [barnum.judge(detector, sample) for sample in barnum.find_samples(folder)]
                return [verdict.verdict for verdict in verdicts if verdict.p_value is not None]

            wrong: int = barnum.open_sample("folder").name
            """
        )
    )
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "mypy",
            "--strict",
            "--config-file",
            str(ROOT / "pyproject.toml"),
            str(script),
        ],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    # the one mistake in it is found, and no other
    assert done.stdout.count("error:") == 1, done.stdout
    assert 'has type "str", variable has type "int"' in done.stdout
