"""``barnum lstm`` as a user meets it."""

import json
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from safetensors.numpy import load, save

from barnum.cli.lstm import command
from barnum.cli.preprocess import command as preprocess
from barnum.errors import (
    BarnumError,
    ModelError,
    OutputExistsError,
    ParsedTraceError,
    SetsError,
)
from barnum.paths import Kind, open_path, transfers
from learning import blocks_of, nominal_path, write_sample, write_tree

FAST = ["-p", "-e", "1", "--units", "8", "-t", "1"]


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    return write_tree(tmp_path_factory.mktemp("learning") / "traces")


@pytest.fixture(scope="module")
def model(tree, tmp_path_factory):
    """Files of a model, and the sets it was learnt with."""
    folder = tmp_path_factory.mktemp("model")
    files = folder / "m.json", folder / "w.safetensors", folder / "sets.txt"
    names = dict(zip(("--save-model", "--save-weights", "-o"), files, strict=True))
    run([*FAST, "--train-size", "18", "--skip-test", "--skip-eval", *flat(names), tree])
    return files


def flat(options):
    return [str(word) for pair in options.items() for word in pair]


def run(arguments, code=0):
    """Output of the command; errors of the library are raised."""
    result = CliRunner().invoke(command, [str(word) for word in arguments])
    if isinstance(result.exception, BarnumError):
        raise result.exception
    assert result.exit_code == code, result.output
    return result.output


def header_of(folder, name):
    return json.loads(pq.read_metadata(folder / name).metadata[b"barnum"])


def evaluations(folder):
    return {file.name: pq.read_table(file) for file in sorted(folder.iterdir())}


def test_learns_tests_and_evaluates(tree, tmp_path):
    sizes = ["--train-size", "16", "--test-size-benign", "5", "--test-size-malicious", "3"]
    output = run([*FAST, *sizes, "-o", tmp_path / "sets", "--eval-dir", tmp_path / "eval", tree])
    assert "training: 16 samples" in output
    assert "test: 5 benign samples" in output
    sections = (tmp_path / "sets").read_text().split("[")
    chosen = {section.split("]")[0]: section.split()[1:] for section in sections[1:]}
    assert {name: len(folders) for name, folders in chosen.items()} == {
        "b_train": 16,
        "b_test": 5,
        "m_test": 3,
    }
    assert not set(chosen["b_train"]) & set(chosen["b_test"])

    tables = evaluations(tmp_path / "eval")
    assert sum(name.startswith("benign-") for name in tables) == 5
    assert sum(name.startswith("malicious-") for name in tables) == 3
    for name, table in tables.items():
        folder = tree / name.split("-", 1)[1].removesuffix(".parquet")
        path = transfers(open_path(folder / "trace_parsed.parquet"))
        # every transfer that passes the filter, in order
        assert table["position"].to_pylist() == path.position.tolist()
        assert table["actual"].to_pylist() == path.blocks.bbid[path.target].tolist()
        right = [
            p == a for p, a in zip(table["predicted"].to_pylist(), table["actual"].to_pylist(), strict=True)
        ]
        assert table["correct"].to_pylist() == right
        assert min(table["surprisal"].to_pylist()) >= 0
        assert 0 <= min(table["confidence"].to_pylist()) <= max(table["confidence"].to_pylist()) <= 1
        header = header_of(tmp_path / "eval", name)
        assert header["transfers"] == len(table)
        assert header["name"].endswith(".doc")
        assert len(header["calibration"]["scores"]) == 16
    attack = next(table for name, table in tables.items() if name.startswith("malicious-"))
    seen, novelty = np.array(attack["seen"]), np.array(attack["novelty"])
    assert (seen == 0).any()
    assert set(np.flatnonzero(novelty)) <= set(np.flatnonzero(seen < 2))
    assert novelty[1490:1510].any()


def test_a_seed_chooses_and_learns_the_same_again(tree, tmp_path):
    def weights(seed, threads, name):
        files = {"--save-weights": tmp_path / name, "-o": tmp_path / f"{name}.sets"}
        run([*FAST, "-t", threads, "--seed", seed, "--skip-test", "--skip-eval", *flat(files), tree])
        return (tmp_path / name).read_bytes(), (tmp_path / f"{name}.sets").read_text()

    first = weights(3, 1, "a")
    assert weights(3, 2, "b") == first
    assert weights(4, 1, "c")[1] != first[1]


def test_a_saved_model_scores_the_same_without_training(tree, model, tmp_path):
    use = ["--use-model", model[0], "--use-weights", model[1]]
    output = run([*FAST, *use, "-i", model[2], "--eval-dir", tmp_path / "a", tree])
    assert "training" not in output
    run([*FAST, *use, "-i", model[2], "--eval-dir", tmp_path / "b", tree])
    tables, again = evaluations(tmp_path / "a"), evaluations(tmp_path / "b")
    assert len(tables) == 4
    assert all(tables[name].equals(again[name]) for name in tables)
    # left to itself it holds out none that the model has learnt
    run([*FAST, *use, "--test-size-benign", "6", "--eval-dir", tmp_path / "c", tree])
    learnt = set(json.loads(model[0].read_text())["samples"])
    held_out = {name.split("-", 1)[1].removesuffix(".parquet") for name in evaluations(tmp_path / "c")}
    assert not learnt & held_out
    with pytest.raises(SetsError, match="besides those that the model has learnt"):
        run([*FAST, *use, "--test-size-benign", "7", "--eval-dir", tmp_path / "d", tree])


def test_a_cap_is_told_and_leaves_evaluation_whole(tree, tmp_path):
    output = run([*FAST, "--max-transfers", "500", "--eval-dir", tmp_path / "eval", tree])
    assert "capped at 500 a trace" in output
    assert "learns 488 of 2,999 transfers (16.3 %)" in output
    assert all(len(table) == 2999 for table in evaluations(tmp_path / "eval").values())


def test_filters_choose_what_is_learnt(tree, tmp_path):
    run([*FAST, "--disable-icall", "--eval-dir", tmp_path / "eval", tree])
    name, table = next(iter(evaluations(tmp_path / "eval").items()))
    folder = tree / name.split("-", 1)[1].removesuffix(".parquet")
    path = transfers(open_path(folder / "trace_parsed.parquet"))
    returns = path.blocks.kind[path.source] == Kind.RETURN
    assert table["position"].to_pylist() == path.position[returns].tolist()
    run([*FAST, "--disable-ret", "--disable-icall", "--disable-ijmp", tree], code=2)


def test_without_an_eval_dir_a_new_one_is_made_and_named(tree, monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    output = run([*FAST, "--skip-test", tree])
    (folder,) = tmp_path.glob("barnum-eval-*")
    assert f"evaluation files: {folder}" in output
    assert len(list(folder.iterdir())) == 4


def test_nothing_is_overwritten(tree, model, tmp_path):
    before = {file: file.read_bytes() for file in model}
    for option, file in zip(("--save-model", "--save-weights", "-o"), model, strict=True):
        with pytest.raises(OutputExistsError, match="--force"):
            run([*FAST, option, file, tree])
    use = ["--use-model", model[0], "--use-weights", model[1], "-i", model[2]]
    run([*FAST, *use, "--eval-dir", tmp_path / "eval", tree])
    with pytest.raises(OutputExistsError, match="is there already"):
        run([*FAST, *use, "--eval-dir", tmp_path / "eval", tree])
    run([*FAST, *use, "--eval-dir", tmp_path / "eval", "-f", tree])
    (tmp_path / "eval" / "thesis.txt").write_text("mine")
    with pytest.raises(OutputExistsError, match="which is no evaluation"):
        run([*FAST, *use, "--eval-dir", tmp_path / "eval", "-f", tree])
    assert (tmp_path / "eval" / "thesis.txt").read_text() == "mine"
    assert {file: file.read_bytes() for file in model} == before


def test_too_few_samples_are_counted(tree):
    with pytest.raises(SetsError, match=r"24 usable benign samples.*30 to learn and 2 to hold out"):
        run([*FAST, "--train-size", "30", tree])
    with pytest.raises(SetsError, match=r"4 usable malicious samples.*5 were asked for"):
        run([*FAST, "--test-size-malicious", "5", tree])


def test_samples_that_are_missing_or_not_preprocessed_are_skipped(tmp_path):
    tree = write_tree(tmp_path / "traces", benign=5, malicious=1)
    folders = sorted(tree.iterdir())
    benign = [f for f in folders if (f / "info.txt").read_text().endswith("benign\n")]
    (benign[0] / "trace_parsed.parquet").rename(benign[0] / "trace_0")
    with pytest.raises(SetsError, match="4 usable benign"):
        run([*FAST, "--train-size", "4", "--test-size-benign", "1", tree])
    sets = tmp_path / "sets"
    sets.write_text(f"[b_train]\n{benign[1]}\n{benign[2]}\n/gone\n[b_test]\n{benign[0]}\n{benign[3]}\n")
    run([*FAST, "-i", sets, "--eval-dir", tmp_path / "eval", tree])
    assert len(list((tmp_path / "eval").iterdir())) == 1
    sets.write_text(f"[b_train]\n{benign[0]}\n[b_test]\n{benign[3]}\n")
    with pytest.raises(SetsError, match="names no usable sample to learn"):
        run([*FAST, "-i", sets, tree])
    sets.write_text(f"[b_train]\n{benign[1]}\n[b_test]\n{benign[1]}\n")
    with pytest.raises(SetsError, match="both learnt and held out"):
        run([*FAST, "-i", sets, tree])
    malicious = next(f for f in folders if f not in benign)
    sets.write_text(f"[b_train]\n{benign[1]}\n{malicious}\n")
    with pytest.raises(SetsError, match="labelled malicious"):
        run([*FAST, "-i", sets, tree])


def test_a_broken_parsed_trace_is_named(tmp_path):
    tree = write_tree(tmp_path / "traces", benign=3, malicious=0)
    file = next(tree.iterdir()) / "trace_parsed.parquet"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(ParsedTraceError):
        run([*FAST, "--train-size", "3", "--test-size-benign", "0", "--test-size-malicious", "0", tree])


def test_traces_without_a_transfer_to_learn(tmp_path):
    blocks = blocks_of(40, (Kind.CONDITIONAL,))
    for i in range(3):
        write_sample(tmp_path, f"{i}", "benign", nominal_path(i), blocks)
    sizes = ["--train-size", "2", "--test-size-benign", "1", "--test-size-malicious", "0"]
    with pytest.raises(SetsError, match="no transfer that passes the filter"):
        run([*FAST, *sizes, tmp_path])


def test_models_that_do_not_fit_are_refused(tree, model, tmp_path):
    use = ["--use-model", model[0], "--use-weights", model[1]]
    with pytest.raises(
        ModelError, match=r"has learnt ret, icall, ijmp, the options ask for ret, icall, ijmp, call"
    ):
        run([*FAST, *use, "--learn-call", tree])
    raw = model[1].read_bytes()
    size = int.from_bytes(raw[:8], "little")
    arrays = load(raw)
    arrays["network.out.bias"][0] = np.nan
    weights = tmp_path / "nan.safetensors"
    weights.write_bytes(save(arrays, metadata=json.loads(raw[8 : 8 + size])["__metadata__"]))
    with pytest.raises(ModelError, match="no finite"):
        run([*FAST, "--use-model", model[0], "--use-weights", weights, tree])
    run([*FAST, "--use-model", model[0], tree], code=2)


def test_usage(tree):
    assert "--bin-dir" in run([tree], code=2)
    assert "does not exist" in run(["-p", tree / "gone"], code=2)


def test_raw_traces_are_decoded_on_the_fly(data_dir, tmp_path):
    """Recorded samples that are decoded while learning give what their parsed traces give."""
    recorded = data_dir / "intel-pt" / "ovf-01-ben"
    if not recorded.is_dir():
        pytest.skip(f"no recorded sample at {recorded}")
    for name in ("a", "b", "c"):
        shutil.copytree(recorded, tmp_path / "traces" / name, ignore=shutil.ignore_patterns("extract"))
    sizes = ["--train-size", "2", "--test-size-benign", "1", "--test-size-malicious", "0"]
    bin_dir = recorded / "extract"
    options = [*FAST[1:], *sizes, "--max-transfers", "2000", tmp_path / "traces"]
    run(["--bin-dir", bin_dir, "--eval-dir", tmp_path / "flying", *options])
    for name in ("a", "b", "c"):
        assert not (tmp_path / "traces" / name / "trace_parsed.parquet").exists()
    result = CliRunner().invoke(preprocess, ["-j", "1", str(tmp_path / "traces"), str(bin_dir)])
    assert result.exit_code == 0, result.output
    run(["-p", "--eval-dir", tmp_path / "parsed", *options])
    flying, parsed = evaluations(tmp_path / "flying"), evaluations(tmp_path / "parsed")
    assert flying.keys() == parsed.keys()
    for name, table in flying.items():
        assert len(table) > 100
        assert table.equals(parsed[name])
