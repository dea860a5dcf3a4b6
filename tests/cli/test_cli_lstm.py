"""``barnum lstm`` as a user meets it."""

import gzip
import importlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from multiprocessing.util import get_temp_dir
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from barnum.learning.network.processes import start_processes
from barnum.paths import Kind, open_path, transfers
from learning import (
    attack_path,
    barnum,
    blocks_of,
    lstm,
    nominal_path,
    unchanged,
    write_keras,
    write_sample,
    write_tree,
)
from paths_tools import make_images, make_sample

FAST = ["-p", "-e", "1", "--units", "8", "-t", "1"]
PAPER = [
    *FAST,
    "--network",
    "paper",
    "--embedding-output-dimension",
    "8",
    "-s",
    "4",
    "--max-transfers",
    "400",
]
SMALL = ["--train-size", "3", "--test-size-benign", "1", "--test-size-malicious", "1"]
ONLY_LEARN = ["--skip-test", "--skip-eval"]
CLASSES = 64


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    return write_tree(tmp_path_factory.mktemp("learning") / "traces")


@pytest.fixture(scope="module")
def model(tree, tmp_path_factory):
    """Files of a model, and the sets it was learnt with."""
    folder = tmp_path_factory.mktemp("model")
    files = folder / "m.json", folder / "w.safetensors", folder / "sets.txt"
    names = [
        word for pair in zip(("--save-model", "--save-weights", "-o"), files, strict=True) for word in pair
    ]
    done(*FAST, "--train-size", "18", *ONLY_LEARN, *names, tree)
    return files


def done(*arguments):
    """The command, which is to end well."""
    ended = lstm(*arguments)
    assert ended.code == 0, ended.err
    return ended


def saving(folder):
    return ["--save-model", folder / "m.json", "--save-weights", folder / "w"]


def using(files):
    return ["--use-model", files[0], "--use-weights", files[1]]


def header_of(file):
    return json.loads(pq.read_metadata(file).metadata[b"barnum"])


def evaluations(folder):
    return {file.name: pq.read_table(file) for file in sorted(folder.iterdir())}


def sample_of(tree, name):
    return tree / name.split("-", 1)[1].rpartition(".")[0]


def chosen(sets):
    """Folders by section."""
    sections = sets.read_text().split("[")
    return {section.split("]")[0]: section.split()[1:] for section in sections[1:]}


def lines_of(file):
    """Columns of the original's lines."""
    rows = [line.split(",") for line in gzip.decompress(file.read_bytes()).decode().splitlines()]
    return {
        "correct": [row[0] == "1" for row in rows],
        "predicted": [int(row[1]) for row in rows],
        "confidence": np.array([row[2] for row in rows], np.float32).tolist(),
        "actual": [int(row[3]) for row in rows],
    }


# three phases -----------------------------------------------------------------------------------------------


def test_learns_tests_and_evaluates(tree, tmp_path):
    sizes = ["--train-size", "16", "--test-size-benign", "5", "--test-size-malicious", "3"]
    ended = done(*FAST, *sizes, "-o", tmp_path / "sets", "--eval-dir", tmp_path / "eval", tree)
    assert "training: 16 samples, 47,984 transfers, of which the network learnt 47,984 (100.0 %)" in ended.out
    assert "test: 5 benign samples held out, 14,995 transfers: loss " in ended.out
    assert "evaluation: 8 samples, 23,992 transfers, all of them scored" in ended.out
    sets = chosen(tmp_path / "sets")
    assert {name: len(folders) for name, folders in sets.items()} == {"b_train": 16, "b_test": 5, "m_test": 3}
    assert not set(sets["b_train"]) & set(sets["b_test"])

    tables = evaluations(tmp_path / "eval")
    names = {f"{Path(f).name}.parquet" for name in ("b_test", "m_test") for f in sets[name]}
    assert {name.split("-", 1)[1] for name in tables} == names
    assert sum(name.startswith("benign-") for name in tables) == 5
    held_out, right = [], 0
    for name, table in tables.items():
        path = transfers(open_path(sample_of(tree, name) / "trace_parsed.parquet"))
        # every transfer that passes the filter, in order
        assert table["position"].to_pylist() == path.position.tolist()
        assert table["actual"].to_pylist() == path.blocks.bbid[path.target].tolist()
        correct = [
            p == a for p, a in zip(table["predicted"].to_pylist(), table["actual"].to_pylist(), strict=True)
        ]
        assert table["correct"].to_pylist() == correct
        assert min(table["surprisal"].to_pylist()) >= 0
        assert 0 <= min(table["confidence"].to_pylist()) <= max(table["confidence"].to_pylist()) <= 1
        header = header_of(tmp_path / "eval" / name)
        assert header["transfers"] == len(table)
        assert header["name"].endswith(".doc")
        assert len(header["calibration"]["scores"]) == 16
        if name.startswith("benign-"):
            held_out += table["surprisal"].to_pylist()
            right += sum(correct)
    # the test is the mean of what the files hold
    told = re.search(r"loss ([\d.]+) nats, accuracy ([\d.]+)$", ended.out.splitlines()[1])
    assert float(told[1]) == pytest.approx(np.mean(held_out), abs=1e-4)
    assert float(told[2]) == pytest.approx(right / len(held_out), abs=1e-4)
    attack = next(table for name, table in tables.items() if name.startswith("malicious-"))
    seen, novelty = np.array(attack["seen"]), np.array(attack["novelty"])
    assert (seen == 0).any()
    assert set(np.flatnonzero(novelty)) <= set(np.flatnonzero(seen < 2))
    assert novelty[1490:1510].any()


def test_a_seed_chooses_and_learns_the_same_again(tree, tmp_path):
    def files(seed, name, *options):
        folder = tmp_path / name
        folder.mkdir()
        words = [*saving(folder), "-o", folder / "sets", *options]
        done(*FAST, "--seed", seed, *ONLY_LEARN, *words, tree)
        return {file.name: file.read_bytes() for file in folder.iterdir()}

    first = files(3, "a")
    # neither threads nor how far is read ahead change a byte
    assert files(3, "b", "-t", "2", "--queue-size", "1") == first
    assert files(3, "c", "-t", "3", "--queue-size", "2") == first
    other = files(4, "d")
    assert all(other[name] != first[name] for name in first)


def test_what_a_model_says_of_itself(model):
    document = json.loads(model[0].read_text())
    assert document["schema"] == 3
    assert document["network"] == "causal"
    assert document["tokens"]["vocabulary"] == "learnt"
    assert document["learn"] == {"ret": True, "icall": True, "ijmp": True, "call": False, "jmp": False}
    assert document["train"] == {
        "epochs": 1,
        "batch_size": 8192,
        "learning_rate": 0.003,
        "learning_decay": 0.0,
        "mixed_precision": False,
        "compile": False,
        "seed": 0,
    }
    assert document["selection"] == {"max_transfers": None, "fold_loops": None}
    assert sorted(document["samples"]) == sorted(Path(f).name for f in chosen(model[2])["b_train"])
    assert len(document["calibration"]["scores"]) == 18
    # no path, name or time of the machine that it was learnt on
    assert str(model[0].parent) not in model[0].read_text()


def test_a_saved_model_scores_the_same_without_training(tree, model, tmp_path):
    with unchanged(*model):
        ended = done(*FAST, *using(model), "-i", model[2], "--eval-dir", tmp_path / "a", tree)
    assert "training" not in ended.out
    assert "test: 2 benign samples" in ended.out
    done(*FAST, *using(model), "-t", "2", "-i", model[2], "--eval-dir", tmp_path / "b", tree)
    tables, again = evaluations(tmp_path / "a"), evaluations(tmp_path / "b")
    assert len(tables) == 4
    assert all(tables[name].equals(again[name]) for name in tables)
    # left to itself it holds out none that the model has learnt
    done(*FAST, *using(model), "--test-size-benign", "6", "--eval-dir", tmp_path / "c", tree)
    learnt = set(json.loads(model[0].read_text())["samples"])
    held_out = {name.split("-", 1)[1].removesuffix(".parquet") for name in evaluations(tmp_path / "c")}
    assert not learnt & held_out
    ended = lstm(*FAST, *using(model), "--test-size-benign", "7", "--eval-dir", tmp_path / "d", tree)
    assert ended.code == 21
    assert "besides those that the model has learnt" in ended.error
    # nor is told to
    (tmp_path / "sets").write_text(f"[b_test]\n{chosen(model[2])['b_train'][0]}\n")
    ended = lstm(*FAST, *using(model), "-i", tmp_path / "sets", "--eval-dir", tmp_path / "d", tree)
    assert ended.code == 21
    assert "both learnt and held out" in ended.error
    assert not (tmp_path / "d").exists()


def test_phases_are_left_out(tree, model, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    ended = done(*FAST, *SMALL, "--skip-test", "--skip-eval", tree)
    assert [line.split(":")[0] for line in ended.out.splitlines()] == ["training"]
    ended = done(*FAST, *SMALL, "--skip-eval", tree)
    assert [line.split(":")[0] for line in ended.out.splitlines()] == ["training", "test"]
    ended = done(*FAST, *using(model), "--skip-test", "--eval-dir", tmp_path / "eval", tree)
    assert [line.split(":")[0] for line in ended.out.splitlines()] == ["evaluation", "evaluation files"]
    ended = done(*FAST, *using(model), "--skip-eval", tree)
    assert [line.split(":")[0] for line in ended.out.splitlines()] == ["test"]
    assert not list(tmp_path.glob("barnum-*"))


def test_without_an_eval_dir_a_new_one_is_made_and_named(tree, model, monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    ended = done(*FAST, *using(model), "--skip-test", tree)
    (folder,) = tmp_path.glob("barnum-eval-*")
    assert f"evaluation files: {folder}" in ended.out
    assert len(list(folder.iterdir())) == 4


def test_the_manual_step_by_step(tmp_path, monkeypatch):
    """The original's walk-through: 50 benign samples to learn, 50 and 100 malicious ones to judge."""
    traces = tmp_path / "barnum-tracer" / "traces"
    blocks = blocks_of(40, (Kind.RETURN, Kind.INDIRECT_CALL), in_libc=10)
    for i in range(100):
        write_sample(traces, f"good-{i}.doc", "benign", nominal_path(i, 400), blocks)
        write_sample(traces, f"bad-{i}.doc", "malicious", attack_path(100 + i, 400), blocks)
    home = tmp_path / "barnum-learner"
    home.mkdir()
    monkeypatch.chdir(home)
    ended = done(
        *("-p", "--train-size=50", "--test-size-benign=50", "--test-size-malicious=100"),
        *("-o", "../my-set.txt", "--save-model=../model.json", "--save-weights=../weights.h5"),
        *("--eval-dir=../eval", "../barnum-tracer/traces"),
    )
    assert "training: 50 samples" in ended.out
    assert "test: 50 benign samples held out" in ended.out
    assert "evaluation files: ../eval" in ended.out
    assert (tmp_path / "weights.h5").read_bytes()[:4] == b"\x89HDF"
    assert len(list((tmp_path / "eval").iterdir())) == 150
    assert {name: len(f) for name, f in chosen(tmp_path / "my-set.txt").items()} == {
        "b_train": 50,
        "b_test": 50,
        "m_test": 100,
    }
    judged = barnum("classifier", "-s", "../class.bin", "../eval")
    assert judged.code == 0, judged.err
    assert "false negatives: 0 of 100" in judged.out
    assert int(re.search(r"false positives: (\d+) of 50", judged.out)[1]) <= 6
    assert not list(home.iterdir())

    # a future session: the same model, sets and threshold
    use = ["--use-model=../model.json", "--use-weights=../weights.h5"]
    again = done("-p", *use, "-i", "../my-set.txt", "--eval-dir=../eval-2", "../barnum-tracer/traces")
    assert "training" not in again.out
    first, second = evaluations(tmp_path / "eval"), evaluations(tmp_path / "eval-2")
    assert all(first[name].equals(second[name]) for name in first)
    assert first.keys() == second.keys()
    loaded = barnum("classifier", "-l", "../class.bin", "../eval-2")
    assert loaded.code == 0, loaded.err
    assert "false negatives: 0 of 100" in loaded.out

    # periodic checkpoints; training alone
    names = ["--save-model=model.json", "--save-weights=weights.h5"]
    ended = done(*FAST, *names, "--checkpoint=5", *ONLY_LEARN, "../barnum-tracer/traces")
    assert ended.out.startswith("training: 8 samples")
    assert sorted(file.name for file in home.iterdir()) == ["model.json", "weights.h5"]
    use = ["--use-model=model.json", "--use-weights=weights.h5"]
    assert "test: 2 benign samples" in done("-p", *use, "--skip-eval", "../barnum-tracer/traces").out


# what is learnt ---------------------------------------------------------------------------------------------


def test_a_cap_is_told_and_leaves_evaluation_whole(tree, tmp_path):
    cap = ["--max-transfers", "500", *saving(tmp_path)]
    ended = done(*FAST, *SMALL, *cap, "--eval-dir", tmp_path / "eval", tree)
    # 16 windows of 31 transfers
    assert "8,997 transfers, of which the network learnt 1,488 (16.5 %, capped at 500 a trace)" in ended.out
    told = [line for line in ended.logged("INFO") if "learns 496 of 2,999 transfers (16.5 %)" in line]
    assert len(told) == 3
    assert all(len(table) == 2999 for table in evaluations(tmp_path / "eval").values())
    assert json.loads((tmp_path / "m.json").read_text())["selection"]["max_transfers"] == 500
    # a cap that nothing reaches changes nothing
    ended = done(*FAST, *SMALL, "--max-transfers", "2999", "--skip-eval", tree)
    assert "learnt 8,997 (100.0 %, capped at 2,999 a trace)" in ended.out
    assert not [line for line in ended.logged("INFO") if "the network learns" in line]


def test_which_transfers_occur_is_learnt_from_whole_traces(tree, tmp_path):
    """A cap and folded loops narrow what the network learns, not what counts as new."""
    tables = []
    for name, options in (("a", []), ("b", ["--max-transfers", "100"]), ("c", ["--fold-loops", "2"])):
        done(*FAST, *SMALL, *options, "--eval-dir", tmp_path / name, tree)
        tables.append(evaluations(tmp_path / name))
    for name, table in tables[0].items():
        for other in tables[1:]:
            assert table["novelty"].equals(other[name]["novelty"])
            assert table["seen"].equals(other[name]["seen"])


@pytest.mark.parametrize("network", [FAST, PAPER], ids=["causal", "paper"])
def test_loops_are_folded(tmp_path, network):
    # a loop of five blocks in 100 rounds, and a way out of it
    blocks = blocks_of(40)
    for i in range(5):
        label = "malicious" if i == 4 else "benign"
        write_sample(tmp_path / "traces", f"{i}", label, [*[1, 2, 3, 4, 5] * 100, 6, 7, 8, 9], blocks)
    options = ["--fold-loops", "2", *saving(tmp_path), "--eval-dir", tmp_path / "eval"]
    ended = done(*network, *SMALL, *options, tmp_path / "traces")
    told = [re.search(r"learns (\d+) of 503 .*, (\d+) with loops folded\)", m) for m in ended.logged("INFO")]
    kept = {match.groups() for match in told if match}
    assert len([match for match in told if match]) == 3
    ((learns, folded),) = kept
    # two rounds of five, what it takes to see a third begin, and the way out
    assert 14 <= int(learns) <= 20
    assert learns == folded
    assert json.loads((tmp_path / "m.json").read_text())["selection"]["fold_loops"] == 2
    assert all(len(table) == 503 for table in evaluations(tmp_path / "eval").values())


def test_filters_choose_what_is_learnt(tmp_path):
    kinds = {
        Kind.RETURN: "ret",
        Kind.INDIRECT_CALL: "icall",
        Kind.INDIRECT_JUMP: "ijmp",
        Kind.CALL: "call",
        Kind.JUMP: "jmp",
    }
    blocks = blocks_of(40, [*kinds, Kind.CONDITIONAL], in_libc=10)
    for i in range(4):
        write_sample(tmp_path / "traces", f"good-{i}", "benign", nominal_path(i, 500), blocks)
    write_sample(tmp_path / "traces", "bad", "malicious", attack_path(9, 500), blocks)
    usual = {Kind.RETURN, Kind.INDIRECT_CALL, Kind.INDIRECT_JUMP}
    cases = {
        (): usual,
        ("--disable-icall",): {Kind.RETURN, Kind.INDIRECT_JUMP},
        ("--disable-ret", "--disable-ijmp"): {Kind.INDIRECT_CALL},
        ("--learn-call",): usual | {Kind.CALL},
        ("--learn-jmp", "--disable-ret"): usual - {Kind.RETURN} | {Kind.JUMP},
        ("--disable-ret", "--disable-icall", "--disable-ijmp", "--learn-jmp"): {Kind.JUMP},
        ("--learn-call", "--learn-jmp"): set(kinds),
    }
    for number, (options, wanted) in enumerate(cases.items()):
        folder = tmp_path / str(number)
        folder.mkdir()
        words = [*FAST, *SMALL, *options, *saving(folder), "--eval-dir", folder / "eval", "--skip-test"]
        done(*words, tmp_path / "traces")
        learn = json.loads((folder / "m.json").read_text())["learn"]
        assert learn == {name: kind in wanted for kind, name in kinds.items()}
        for name, table in evaluations(folder / "eval").items():
            path = open_path(sample_of(tmp_path / "traces", name) / "trace_parsed.parquet").read()
            source = path.blocks.kind[path.block[:-1]]
            positions = 1 + np.flatnonzero(np.isin(source, [int(kind) for kind in wanted]))
            assert table["position"].to_pylist() == positions.tolist()
        # a saved model knows what it has learnt
        done("-p", *using((folder / "m.json", folder / "w")), "--skip-eval", *SMALL, tmp_path / "traces")


def test_nothing_to_learn_is_a_wrong_use(tree, tmp_path):
    nothing = ["--disable-ret", "--disable-icall", "--disable-ijmp"]
    results = [*saving(tmp_path), "-o", tmp_path / "sets", "--eval-dir", tmp_path / "eval"]
    assert "nothing is left to learn" in lstm(*FAST, *nothing, *results, tree).usage
    # found out before anything was written
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("vocabulary", ["learnt", "modulo"])
@pytest.mark.parametrize("network", ["causal", "paper"])
def test_networks_and_vocabularies(tree, tmp_path, network, vocabulary):
    words = [*(PAPER if network == "paper" else FAST), *SMALL, "--vocabulary", vocabulary]
    if vocabulary == "modulo":
        words += ["--max-classes", CLASSES, "--embedding-input-dimension", "48"]
    ended = done(*words, *saving(tmp_path), "--eval-dir", tmp_path / "eval", tree)
    assert ended.logged("WARNING") == []
    document = json.loads((tmp_path / "m.json").read_text())
    assert (document["network"], document["tokens"]["vocabulary"]) == (network, vocabulary)
    if network == "paper":
        config = document["config"]
        assert (config["units"], config["embedding"], config["sequence_len"]) == (8, 8, 4)
        assert config["dropout"] == 0.5
        if vocabulary == "modulo":
            assert (config["inputs"], config["classes"]) == (48, CLASSES)
    for name, table in evaluations(tmp_path / "eval").items():
        path = transfers(open_path(sample_of(tree, name) / "trace_parsed.parquet"))
        actual = path.blocks.bbid[path.target]
        if vocabulary == "modulo":
            actual = actual % np.uint64(CLASSES)
            assert max(table["predicted"].to_pylist()) < CLASSES
        assert table["actual"].to_pylist() == actual.tolist()
        assert len(table) == 2999
        assert {"seen", "novelty"} <= set(table.column_names)
        assert header_of(tmp_path / "eval" / name)["options"]["network"] == network
    use = using((tmp_path / "m.json", tmp_path / "w"))
    done("-p", "-t", "2", *use, *SMALL, "--eval-dir", tmp_path / "again", tree)
    again = evaluations(tmp_path / "again")
    shared = evaluations(tmp_path / "eval").keys() & again.keys()
    assert all(evaluations(tmp_path / "eval")[name].equals(again[name]) for name in shared)


def test_novelty_does_not_depend_on_the_network(tree, tmp_path):
    """What training saw is counted of whole blocks, whatever the network looks at."""
    small = ["--max-classes", "16", "--embedding-input-dimension", "16"]
    done(*FAST, *SMALL, "--eval-dir", tmp_path / "a", tree)
    done(*FAST, *SMALL, "--vocabulary", "modulo", *small, "--eval-dir", tmp_path / "b", tree)
    done(*PAPER, *SMALL, *small, "--eval-dir", tmp_path / "c", tree)
    tables = evaluations(tmp_path / "a")
    for folder in ("b", "c"):
        for name, other in evaluations(tmp_path / folder).items():
            assert other["novelty"].equals(tables[name]["novelty"])
            assert other["seen"].equals(tables[name]["seen"])
    judged = barnum("classifier", tmp_path / "c")
    assert judged.code == 0, judged.err


# options ----------------------------------------------------------------------------------------------------


def test_defaults_of_the_networks(tree, tmp_path):
    sizes = ["--units", "4", "--embedding-output-dimension", "4", "-s", "2", "--max-transfers", "20"]
    for network, epochs, rate in (("causal", 2, 0.003), ("paper", 16, 0.001)):
        folder = tmp_path / network
        folder.mkdir()
        ended = done(
            "-p", "-l", "40", "--network", network, *sizes, *SMALL, *saving(folder), *ONLY_LEARN, tree
        )
        assert ended.logged("WARNING") == []
        train = json.loads((folder / "m.json").read_text())["train"]
        assert (train["epochs"], train["learning_rate"], train["batch_size"]) == (epochs, rate, 8192)


@pytest.mark.parametrize("network", [FAST, PAPER], ids=["causal", "paper"])
def test_options_of_training_are_heeded(tree, tmp_path, network):
    def weights(name, *options):
        folder = tmp_path / name
        folder.mkdir()
        done(*network, "--train-size", "20", *options, *saving(folder), *ONLY_LEARN, tree)
        return (folder / "w").read_bytes(), json.loads((folder / "m.json").read_text())

    plain, document = weights("plain")
    options = {
        "--learning-rate": ("0.02", "learning_rate"),
        "--learning-decay": ("0.5", "learning_decay"),
        "--batch-size": ("64", "batch_size"),
        "--epochs": ("2", "epochs"),
    }
    for option, (value, name) in options.items():
        other, changed = weights(option[2:], option, value)
        assert other != plain
        assert changed["train"] == document["train"] | {name: float(value)}


def test_dropout_is_heeded(tree, tmp_path):
    losses = {}
    for rate in ("0", "0.9"):
        ended = done(
            *PAPER, *SMALL, "--dropout", rate, "-e", "3", "--learning-rate", "0.01", *ONLY_LEARN, tree
        )
        losses[rate] = float(re.search(r"loss ([\d.]+) nats", ended.out)[1])
    assert losses["0"] < losses["0.9"]


def test_use_cudnn_says_what_is_done(tree, tmp_path):
    ended = done(*PAPER, *SMALL, "--use-cudnn", *saving(tmp_path), "--skip-eval", tree)
    (told,) = [line for line in ended.logged("INFO") if line.startswith("--use-cudnn: ")]
    assert "full sigmoid" in told
    assert json.loads((tmp_path / "m.json").read_text())["config"]["cudnn"] is True
    done("-p", *using((tmp_path / "m.json", tmp_path / "w")), *SMALL, "--skip-eval", tree)


def test_options_without_effect_are_told(tree, model):
    paper = {"-s": "3", "--embedding-output-dimension": "3", "--dropout": "0.1"}
    names = [word for pair in paper.items() for word in pair]
    ended = done(*FAST, *SMALL, *names, "--use-cudnn", "--skip-eval", tree)
    assert ended.logged("WARNING") == [
        f"--{name} has no effect: it belongs to --network paper"
        for name in ("sequence-len", "embedding-output-dimension", "dropout", "use-cudnn")
    ]
    ended = done(*FAST, *SMALL, "--max-classes", "9", "--embedding-input-dimension", "9", "--skip-eval", tree)
    assert ended.logged("WARNING") == [
        f"--{name} has no effect: it belongs to --vocabulary modulo"
        for name in ("max-classes", "embedding-input-dimension")
    ]
    ended = done(*FAST, *SMALL, "--timeout", "5", "--skip-eval", tree)
    assert ended.logged("WARNING") == ["--timeout has no effect with -p: nothing is decoded"]
    assert done(*FAST, *SMALL, "--skip-eval", tree).logged("WARNING") == []


@pytest.mark.parametrize(
    "option",
    [
        ("--epochs", "7"),
        ("--learning-rate", "0.5"),
        ("--train-size", "3"),
        ("--max-transfers", "9"),
        ("--save-model", "new.json"),
        ("--save-weights", "new.h5"),
    ],
    ids=lambda pair: pair[0],
)
def test_options_of_training_have_no_effect_on_a_model_that_is_used(
    tree, model, tmp_path, monkeypatch, option
):
    """It is learnt already: a user who asks for more is told that it was not done."""
    monkeypatch.chdir(tmp_path)
    ended = lstm("-p", *using(model), *option, "--skip-eval", tree)
    assert not list(tmp_path.iterdir())
    assert ended.code == 2 or [line for line in ended.logged("WARNING") if line.startswith(option[0])]


def test_options_of_an_evaluation_that_is_skipped_have_no_effect(tree, model, tmp_path):
    ended = done("-p", *using(model), "--skip-eval", "--eval-dir", tmp_path / "eval", tree)
    assert not (tmp_path / "eval").exists()
    assert [line for line in ended.logged("WARNING") if line.startswith("--eval-dir has no effect")]


@pytest.mark.parametrize("network", [FAST, PAPER], ids=["causal", "paper"])
def test_lines_of_the_original(tree, tmp_path, network):
    words = [*network, *SMALL, "--skip-test", tree]
    done("--eval-format", "gz", "--eval-dir", tmp_path / "gz", *words)
    done("--eval-dir", tmp_path / "parquet", *words)
    tables = evaluations(tmp_path / "parquet")
    assert {file.stem for file in (tmp_path / "gz").iterdir()} == {Path(name).stem for name in tables}
    for name, table in tables.items():
        lines = lines_of(tmp_path / "gz" / f"{Path(name).stem}.gz")
        assert lines == {column: table[column].to_pylist() for column in lines}
    # the same again is the same file
    done("--eval-format", "gz", "--eval-dir", tmp_path / "again", *words)
    for file in (tmp_path / "gz").iterdir():
        assert (tmp_path / "again" / file.name).read_bytes() == file.read_bytes()


def test_status_lines(tree):
    quiet = done(*FAST, *SMALL, "--skip-eval", tree)
    assert not [line for line in quiet.logged("INFO") if ", step " in line]
    ended = done(*FAST, *SMALL, "--status-interval", "0.0000001", "--skip-eval", tree)
    said = [line for line in ended.logged("INFO") if ", step " in line]
    assert len(said) > 10
    assert re.fullmatch(r"epoch 1/1, step 1/\d+: loss \d+\.\d{4} nats, accuracy [01]\.\d{4}", said[0])


def test_levels_of_logging(tree):
    levels = ("DEBUG", "INFO", "WARNING", "ERROR")
    for number, shown in (
        (10, {"INFO", "WARNING"}),
        (20, {"INFO", "WARNING"}),
        (30, {"WARNING"}),
        (40, set()),
    ):
        ended = done(*FAST, *SMALL, "-l", number, "--dropout", "0.1", "--skip-eval", tree)
        assert {level for level in levels if ended.logged(level)} - {"DEBUG"} == shown
        assert "training: 3 samples" in ended.out
    # why something failed is told at any level; where, to whoever debugs
    few = ["--train-size", "99", tree]
    assert "99 to learn" in lstm(*FAST, "-l", "50", *few).error
    assert "Traceback" not in lstm(*FAST, *few).err
    assert "Traceback" in lstm(*FAST, "-l", "10", *few).err


@pytest.mark.parametrize(
    ("words", "about"),
    [
        ([], "PT_DIRECTORY"),
        (["TREE"], "--bin-dir"),
        (["-p", "TREE/gone"], "does not exist"),
        (["-p", "--use-model", "MODEL", "TREE"], "go together"),
        (["-p", "--use-weights", "MODEL", "TREE"], "go together"),
        (["-p", "--use-model", "MODEL", "--use-weights", "MODEL", "--multi-gpu", "2", "TREE"], "--multi-gpu"),
        (
            [
                "-p",
                "--use-model",
                "MODEL",
                "--use-weights",
                "MODEL",
                "--resume",
                "--save-weights",
                "w",
                "TREE",
            ],
            "--resume",
        ),
        (["-p", "--checkpoint", "5", "TREE"], "--save-weights"),
        (["-p", "--resume", "TREE"], "--save-weights"),
        (["-p", "--checkpoint-best", "--save-weights", "w", "TREE"], "--checkpoint"),
        (["-p", "--checkpoint-early-stop", "--save-weights", "w", "TREE"], "--checkpoint"),
        (["-p", "--checkpoint", "0", "--save-weights", "w", "TREE"], "--checkpoint"),
        (["-p", "--checkpoint", "nan", "--save-weights", "w", "TREE"], "--checkpoint"),
        (["-p", "--status-interval", "nan", "TREE"], "--status-interval"),
        (["-p", "--learning-rate", "0", "TREE"], "--learning-rate"),
        (["-p", "--learning-rate", "nan", "TREE"], "--learning-rate"),
        (["-p", "--learning-decay", "-1", "TREE"], "--learning-decay"),
        (["-p", "--learning-decay", "nan", "TREE"], "--learning-decay"),
        (["-p", "--dropout", "1", "TREE"], "--dropout"),
        (["-p", "--network", "paper", "--dropout", "nan", "TREE"], "--dropout"),
        (["-p", "--epochs", "0", "TREE"], "--epochs"),
        (["-p", "--units", "5000", "TREE"], "--units"),
        (["-p", "-s", "1025", "TREE"], "--sequence-len"),
        (["-p", "--fold-loops", "0", "TREE"], "--fold-loops"),
        (["-p", "--fold-loops", str(1 << 70), "TREE"], "--fold-loops"),
        (["-p", "--network", "paper", "--max-classes", str(1 << 40), "TREE"], "--max-classes"),
        (["-p", "--vocabulary", "modulo", "--max-classes", str(1 << 70), "TREE"], "--max-classes"),
        (
            ["-p", "--network", "paper", "--embedding-input-dimension", str(1 << 40), "TREE"],
            "--embedding-input-dimension",
        ),
        (["-p", "--max-transfers", "0", "TREE"], "--max-transfers"),
        (["-p", "--seed", "-1", "TREE"], "--seed"),
        (["-p", "--multi-gpu", "1", "TREE"], "--multi-gpu"),
        (["-p", "--eval-format", "xml", "TREE"], "--eval-format"),
        (["-p", "--network", "gru", "TREE"], "--network"),
        (["-p", "-i", "gone", "TREE"], "--input-sets"),
        (["-p", "--eval-dir", "MODEL", "TREE"], "--eval-dir"),
        (["-p", "--timeout", "0", "TREE"], "--timeout"),
        (["-p", "--queue-size", "0", "TREE"], "--queue-size"),
        (["-p", "-t", "0", "TREE"], "--threads"),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, list) else "",
)
def test_wrong_use(tree, model, tmp_path, monkeypatch, words, about):
    monkeypatch.chdir(tmp_path)
    short = [] if "--network" in words and "paper" not in words else ["-e", "1"]
    filled = [word.replace("TREE", str(tree)).replace("MODEL", str(model[0])) for word in words]
    assert about in lstm(*short, *filled).usage
    assert not list(tmp_path.iterdir())


def test_training_that_leads_to_no_numbers_is_an_error(tree, tmp_path):
    """A rate at which training diverges gives no model that could be used."""
    ended = lstm(*FAST, *SMALL, "--learning-rate", "1e30", *saving(tmp_path), "--skip-eval", tree)
    assert ended.code == 20
    assert "--learning-rate" in ended.error
    assert not (tmp_path / "w").exists()


# raw traces -------------------------------------------------------------------------------------------------


def test_raw_traces_are_decoded_on_the_fly(tmp_path, monkeypatch):
    """Decoding while learning gives what parsed traces give, and leaves nothing behind."""
    bin_dir = make_images(tmp_path / "extract")
    for name in "abcdef":
        make_sample(tmp_path / "traces" / name, label="malicious" if name == "f" else "benign")
    # processes meet at sockets in a folder that is chosen once; their names may not be long
    get_temp_dir()
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    words = [*FAST[1:], *SMALL, tmp_path / "traces"]
    for network in ([], ["--network", "paper", "-s", "3", "--embedding-output-dimension", "4"]):
        kind = f"{len(network)}"
        done("--bin-dir", bin_dir, "--eval-dir", tmp_path / f"flying{kind}", *network, *words)
        assert not list(tmp_path.glob("traces/*/trace_parsed.*"))
        assert not list(temporary.iterdir())
        made = barnum("preprocess", "-j", "1", tmp_path / "traces", bin_dir)
        assert made.code == 0, made.err
        done("-p", "--eval-dir", tmp_path / f"parsed{kind}", *network, *words)
        flying, parsed = evaluations(tmp_path / f"flying{kind}"), evaluations(tmp_path / f"parsed{kind}")
        assert flying.keys() == parsed.keys()
        assert all(len(table) == 10 and table.equals(parsed[name]) for name, table in flying.items())
        for file in tmp_path.glob("traces/*/trace_parsed.*"):
            file.unlink()


def test_a_raw_trace_that_cannot_be_decoded_is_named(tmp_path):
    bin_dir = make_images(tmp_path / "extract")
    for name in "abcd":
        make_sample(tmp_path / "traces" / name)
    sizes = ["--train-size", "3", "--test-size-benign", "1", "--test-size-malicious", "0"]
    words = [*FAST[1:], *sizes, "--bin-dir", bin_dir, "--eval-dir", tmp_path / "eval", tmp_path / "traces"]
    (tmp_path / "traces" / "b" / "mapping.txt").unlink()
    ended = lstm(*words)
    assert ended.code == 12
    assert str(tmp_path / "traces" / "b") in ended.error
    make_sample(tmp_path / "more" / "b", b"no packets at all")
    shutil.rmtree(tmp_path / "traces" / "b")
    (tmp_path / "more" / "b").rename(tmp_path / "traces" / "b")
    ended = lstm(*words)
    assert ended.code == 11
    assert str(tmp_path / "traces" / "b") in ended.error
    assert not list((tmp_path / "eval").iterdir())


@pytest.fixture
def recorded(data_dir, tmp_path):
    """A tree of copies of one recorded sample, and its images."""
    sample = data_dir / "intel-pt" / "ovf-01-ben"
    if not sample.is_dir():
        pytest.skip(f"no recorded sample at {sample}")
    for name in ("a", "b", "c"):
        shutil.copytree(sample, tmp_path / "traces" / name, ignore=shutil.ignore_patterns("extract"))
    return tmp_path / "traces", sample / "extract"


def test_recorded_traces_are_decoded_on_the_fly(recorded, tmp_path):
    traces, bin_dir = recorded
    sizes = ["--train-size", "2", "--test-size-benign", "1", "--test-size-malicious", "0"]
    words = [*FAST[1:], *sizes, "--max-transfers", "2000", traces]
    done("--bin-dir", bin_dir, "--eval-dir", tmp_path / "flying", *words)
    assert not list(traces.glob("*/trace_parsed.*"))
    made = barnum("preprocess", "-j", "1", traces, bin_dir)
    assert made.code == 0, made.err
    done("-p", "--eval-dir", tmp_path / "parsed", *words)
    flying, parsed = evaluations(tmp_path / "flying"), evaluations(tmp_path / "parsed")
    assert flying.keys() == parsed.keys()
    for name, table in flying.items():
        assert len(table) > 100
        assert table.equals(parsed[name])


def test_a_recorded_trace_that_takes_too_long_is_told(recorded, tmp_path):
    traces, bin_dir = recorded
    sizes = ["--train-size", "2", "--test-size-benign", "1", "--test-size-malicious", "0"]
    words = [*FAST[1:], *sizes, "--bin-dir", bin_dir, "--eval-dir", tmp_path / "eval", traces]
    ended = lstm("--timeout", "0.000001", *words)
    if ended.code:
        assert "1e-06 seconds" in ended.error
        return
    told = [line for line in ended.logged("WARNING") if "was not decoded within 1e-06 seconds" in line]
    assert {Path(line.split(":")[0]).name for line in told} == {"a", "b", "c"}
    assert all("only its first" in line for line in told)


# models of Keras --------------------------------------------------------------------------------------------


def test_a_model_of_keras_evaluates_and_is_judged(tree, tmp_path):
    write_keras(tmp_path)
    use = ["--use-model", tmp_path / "lstm.json", "--use-weights", tmp_path / "lstm.h5"]
    sizes = ["--test-size-benign", "2", "--test-size-malicious", "2"]
    ended = done("-p", *use, *sizes, "--eval-dir", tmp_path / "eval", tree)
    assert "training" not in ended.out
    for name, table in evaluations(tmp_path / "eval").items():
        assert table.column_names == ["correct", "predicted", "confidence", "actual", "surprisal", "position"]
        path = transfers(open_path(sample_of(tree, name) / "trace_parsed.parquet"))
        assert table["position"].to_pylist() == path.position.tolist()
        assert table["actual"].to_pylist() == (path.blocks.bbid[path.target] % np.uint64(64)).tolist()
        assert header_of(tmp_path / "eval" / name)["calibration"] is None
    assert barnum("classifier", "--method", "conformal", tmp_path / "eval").code == 19
    judged = barnum("classifier", "--method", "svm", tmp_path / "eval")
    assert judged.code == 0, judged.err
    # it does not say what it has learnt, so the options do
    calls = ["--disable-ret", "--skip-test", "--eval-format", "gz", "--eval-dir", tmp_path / "calls"]
    done("-p", *use, *sizes, *calls, tree)
    assert {len(lines_of(file)["actual"]) < 2900 for file in (tmp_path / "calls").iterdir()} == {True}
    nothing = ["--disable-ret", "--disable-icall", "--disable-ijmp"]
    assert "nothing is left" in lstm("-p", *use, *nothing, "--eval-dir", tmp_path / "none", tree).usage
    assert not (tmp_path / "none").exists()


def test_the_published_model(data_dir, tmp_path):
    """Its predictions through the command, and the original's kind of verdicts from them."""
    acrobat = data_dir / "acrobat"
    if not (acrobat / "model" / "lstm.h5").is_file():
        pytest.skip(f"no published model at {acrobat}")
    # one trace whole; slices of both to be judged beside it
    whole = next((acrobat / "traces").glob("4a1addfb*"))
    shutil.copytree(whole, tmp_path / "traces" / whole.name)
    for number, folder in enumerate(sorted((acrobat / "traces").iterdir()) * 2):
        part = tmp_path / "traces" / f"part-{number}"
        part.mkdir()
        shutil.copy(folder / "info.txt", part)
        rows = gzip.decompress((folder / "trace_parsed.gz").read_bytes())
        ends = [0]
        while ends[-1] < len(rows) and len(ends) <= 4000:
            ends.append(ends[-1] + 2 + int.from_bytes(rows[ends[-1] : ends[-1] + 2], "little"))
        begin = ends[1000 * (number // 2)]
        (part / "trace_parsed.gz").write_bytes(gzip.compress(rows[begin : ends[-1]], 1))
    use = ["--use-model", acrobat / "model" / "lstm.json", "--use-weights", acrobat / "model" / "lstm.h5"]
    sizes = ["--test-size-benign", "2", "--test-size-malicious", "3"]
    ended = done("-p", *use, *sizes, "--eval-dir", tmp_path / "eval", tmp_path / "traces")
    assert "evaluation: 5 samples" in ended.out
    tables = evaluations(tmp_path / "eval")
    assert all(not {"seen", "novelty"} & set(table.column_names) for table in tables.values())

    with gzip.open(acrobat / "expected" / f"{whole.name}.csv.gz", "rt") as rows:
        record, correct, predicted, confidence, actual = np.loadtxt(rows, delimiter=",", skiprows=1).T
    table = tables[f"malicious-{whole.name}.parquet"]
    column = {name: np.array(table[name]) for name in table.column_names}
    at = np.searchsorted(column["position"], record + 1)
    assert np.array_equal(column["position"][at], record + 1)
    assert np.array_equal(column["actual"][at], actual)
    assert np.abs(column["confidence"][at] - confidence).max() < 1e-4
    # two targets may be as likely to the last digit
    same = column["predicted"][at] == predicted
    assert same.mean() > 0.9999
    assert np.array_equal(column["correct"][at][same], correct[same] == 1)

    judged = barnum("classifier", "--method", "svm", "--csv", tmp_path / "csv", tmp_path / "eval")
    assert judged.code == 0, judged.err
    assert len((tmp_path / "csv").read_text().splitlines()) == 6


# several processes ------------------------------------------------------------------------------------------


def command(*words, module=()):
    """The command in processes of its own."""
    start = [sys.executable, *module, "-m", "barnum.cli.main", "lstm", *map(str, words)]
    return subprocess.run(start, capture_output=True, text=True, timeout=300, check=False)


def loss(text, phase):
    return float(re.search(rf"{phase}: .* loss ([\d.]+) nats", text)[1])


def test_several_processes_train_one_model(tree, tmp_path):
    """The same, however they were started and whether or not they were broken off."""
    folders = {name: tmp_path / name for name in ("one", "run", "two")}
    for folder in folders.values():
        folder.mkdir()

    def words(name):
        files = ["--save-model", folders[name] / "m.json", "--save-weights", folders[name] / "w.h5"]
        return [*FAST, "-e", "6", "-b", "64", "--train-size", "16", "--skip-eval", *files, tree]

    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    run = command(*words("run"), module=torchrun)
    assert run.returncode == 0, run.stderr
    # one of them speaks
    assert run.stdout.count("training: 16 samples, 47,984 transfers") == 1
    assert run.stderr.count("epoch 1/6:") == 1
    files = {file.name: file.read_bytes() for file in folders["run"].iterdir()}
    assert set(files) == {"m.json", "m.json.single", "w.h5", "w.h5.single"}
    assert files["m.json"] == files["m.json.single"]
    assert files["w.h5"] == files["w.h5.single"]

    one = done(*words("one"))
    assert loss(run.stdout, "training") == pytest.approx(loss(one.out, "training"), rel=0.02)
    assert loss(run.stdout, "test") == pytest.approx(loss(one.out, "test"), rel=0.02)
    # in one process
    use = using((folders["run"] / "m.json.single", folders["run"] / "w.h5.single"))
    assert "test: 2 benign samples" in done("-p", *use, "--skip-eval", tree).out

    two = [*words("two"), "--checkpoint", "0.0005", "--resume", "--multi-gpu", "2"]
    with (tmp_path / "said").open("w") as said:
        start = [sys.executable, "-m", "barnum.cli.main", "lstm", *map(str, two)]
        process = subprocess.Popen(start, stdout=said, stderr=said)
    kept = folders["two"] / "w.h5.checkpoints"
    while process.poll() is None and not list(kept.glob("step-*[2-9]??.json")):
        time.sleep(0.01)
    process.terminate()
    code = process.wait(120)
    text = (tmp_path / "said").read_text()
    assert code == 130, text
    assert f"training stopped, with a checkpoint in {kept}: go on with --resume" in text
    assert "Traceback" not in text
    rest = command(*two)
    assert rest.returncode == 0, rest.stderr
    assert "resumed: epoch" in rest.stderr
    assert {file.name: file.read_bytes() for file in folders["two"].iterdir()} == files
    assert text.count("barnum: interrupted") == 1


def test_an_error_of_several_processes(tree, model):
    with unchanged(*model):
        ended = command(*FAST, "--multi-gpu", "2", "--save-model", model[0], "--skip-eval", tree)
    assert ended.returncode == 16, ended.stderr
    (line,) = [line for line in ended.stderr.splitlines() if line.startswith("barnum: ")]
    assert line == f"barnum: {model[0]}: is there already: give another name, or --force"
    assert "Traceback" not in ended.stderr


@pytest.fixture
def processes(tmp_path, monkeypatch, capfd):
    """Starts processes that do what a script says; code, and lines on stderr."""

    # it remembers the interpreter when it is imported, and that is to be the real one
    importlib.import_module("multiprocessing.spawn")

    def start(script):
        program = tmp_path / "python"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(program))
        monkeypatch.setattr(sys, "argv", ["barnum", "lstm", "-p", "a b"])
        code = start_processes(2)
        lines = capfd.readouterr().err.splitlines()
        return code, [line for line in lines if " GPUs: " not in line]

    return start


def test_processes_know_their_places(processes, tmp_path):
    script = f'echo "$RANK $LOCAL_RANK $WORLD_SIZE $LOCAL_WORLD_SIZE $MASTER_ADDR $*" >> {tmp_path}/$RANK'
    assert processes(script) == (0, [])
    for rank in "01":
        said = (tmp_path / rank).read_text()
        assert said == f"{rank} {rank} 2 2 127.0.0.1 -m barnum.cli.main lstm -p a b\n"


@pytest.mark.parametrize(
    ("script", "code", "lines"),
    [
        ("echo a >&2", 0, ["a"]),
        ("[ $RANK = 0 ] && exec echo a >&2; echo b >&2; exit 7", 7, ["a", "b"]),
        ("[ $RANK = 1 ] && exec echo b >&2; echo a >&2; exit 7", 7, ["a"]),
        ("[ $RANK = 1 ] && sleep 1; echo same >&2; exit 7", 7, ["same"]),
        ("[ $RANK = 0 ] && sleep 1; echo same >&2; exit 7", 7, ["same"]),
    ],
    ids=["none", "second", "first", "both", "both, the second before"],
)
def test_the_error_of_several_processes_is_told_once(processes, script, code, lines):
    assert processes(script) == (code, lines)


def test_a_process_that_was_killed_is_told(processes):
    """As by a system that is out of memory."""
    code, lines = processes("[ $RANK = 1 ] && kill -9 $$; exit 0")
    assert code == 137
    assert len(lines) == 1
    assert "9" in lines[0] or "kill" in lines[0].lower()


def test_a_place_among_processes_that_cannot_be_is_one_line(tree, monkeypatch):
    for name, value in {
        "RANK": "x",
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": "1",
    }.items():
        monkeypatch.setitem(os.environ, name, value)
    ended = lstm(*FAST, "--skip-eval", tree)
    assert ended.code == 10
    assert "cannot join the other processes" in ended.error
