"""``barnum prob`` as a user meets it."""

import json
import os

import numpy as np
import pyarrow.parquet as pq
import pytest
from test_learning_redis import Server

from barnum.errors import OutputError
from barnum.learning.rote.store import RedisStore
from barnum.models.saved import load_whole
from learning import attack_path, barnum, nominal_path, unchanged, write_sample, write_tree

KINDS = ("--learn-ret", "--learn-icall", "--learn-ijmp")
FAST = ("-p", "-t", "1", *KINDS)
# of two samples half are benign
SIZES = ("--train-size", "24", "--test-size", "12", "-r", "0.667")


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    return write_tree(tmp_path_factory.mktemp("prob") / "traces", 40, 6)


@pytest.fixture(scope="module")
def learnt(tree):
    """A folder with a model, its sets and its evaluations, and what the command printed."""
    folder = tree.parent
    ended = prob(
        *SIZES, "--save", folder / "model", "-o", folder / "sets.txt", "--eval-dir", folder / "eval", tree
    )
    assert ended.code == 0, ended.err
    return folder, ended


def prob(*arguments):
    return barnum("prob", *FAST, *arguments)


def sets_file(file, learn, held_out, bad, root):
    """A file of sets, of samples by number."""
    names = {
        "b_train": [f"good-{i}.doc" for i in learn],
        "b_test": [f"good-{i}.doc" for i in held_out],
        "m_test": [f"bad-{i}.doc" for i in bad],
    }
    folders = {(folder / "info.txt").read_text().splitlines()[0]: folder for folder in root.iterdir()}
    lines = []
    for part, members in names.items():
        lines += [f"[{part}]", *(str(folders[name]) for name in members), ""]
    file.write_text("\n".join(lines))
    return file


def counts_of(file):
    """All that a model has counted; escapes depend on the order of learning."""
    arrays = load_whole(file).arrays()
    skipped = ("network.tried", "network.escaped", "network.base", "runs.")
    return {name: array for name, array in arrays.items() if not name.startswith(skipped)}


def same(one, other):
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


def evaluations(folder):
    return {file.name: pq.read_table(file) for file in sorted(folder.iterdir())}


def test_it_tells_what_was_learnt_and_how_well_it_does(learnt):
    folder, ended = learnt
    training, test, evaluation, where = ended.out.splitlines()
    assert training.startswith("training: 24 samples, ") and training.endswith("MiB")
    assert test.startswith("test: 8 benign samples held out, ")
    assert float(test.rpartition(" ")[2]) > 0.8
    assert evaluation.startswith("evaluation: 12 samples, ")
    assert where == f"evaluation files: {folder / 'eval'}"


def test_its_evaluations_serve_all_that_follows(learnt, tree, tmp_path):
    folder, _ = learnt
    classifier = tmp_path / "class.json"
    judged = barnum("classifier", "--json", tmp_path / "v.json", "--method", "conformal",
                    "--false-alarm-rate", "0.2", "-s", classifier, folder / "eval")  # fmt: skip
    assert judged.code == 0, judged.err
    assert "false negatives: 0 of 4" in judged.out
    page = tmp_path / "report.html"
    shown = barnum("report", folder / "eval", "-o", page, "-l", classifier, "--traces", tree)
    assert shown.code == 0, shown.err
    assert page.stat().st_size > 10_000
    assert barnum("cluster", folder / "eval").code == 0
    packed = barnum("pack", "--prob", folder / "model", "-l", classifier, tmp_path / "detector")
    assert packed.code == 0, packed.err
    bad = write_sample(tmp_path / "new", "new.doc", "malicious", attack_path(900))
    good = write_sample(tmp_path / "new", "same.doc", "benign", nominal_path(3))
    scored = barnum("score", "-t", "1", tmp_path / "detector", bad, good)
    assert [json.loads(line)["verdict"] for line in scored.out.splitlines()] == ["anomalous", "nominal"]


def test_runs_of_unknown_label_are_left_out_unless_sets_name_them(tmp_path):
    root = write_tree(tmp_path / "traces", 20, 3)
    words = ("--train-size", "14", "--test-size", "6", "-r", "0.667")
    assert prob(*words, "--save", tmp_path / "before", "--eval-dir", tmp_path / "e", root).code == 0
    unknown = [write_sample(root, f"new-{i}.doc", "unknown", nominal_path(70 + i)) for i in range(3)]
    unknown.append(write_sample(root, "strange.doc", "unknown", attack_path(900)))
    sets = tmp_path / "sets"
    again = prob(*words, "--save", tmp_path / "after", "--eval-dir", tmp_path / "again", "-o", sets, root)
    assert again.code == 0, again.err
    assert again.err.count("left out: 4 of 27 samples, whose label is unknown") == 1
    assert (tmp_path / "after").read_bytes() == (tmp_path / "before").read_bytes()
    assert sorted(file.name for file in (tmp_path / "again").iterdir()) == sorted(
        file.name for file in (tmp_path / "e").iterdir()
    )
    judged = barnum("classifier", tmp_path / "again")
    # as new runs come, they are named and evaluated by the model that is there
    sets.write_text(sets.read_text().partition("[b_train]")[0] + "[u_test]\n" + "\n".join(map(str, unknown)))
    used = ("--load", tmp_path / "after", "--skip-train", "-i", sets, "-o", tmp_path / "same")
    ended = prob(*used, "--eval-dir", tmp_path / "again", root)
    assert ended.code == 0, ended.err
    assert "evaluation: 4 samples" in ended.out and "test:" not in ended.out
    assert (tmp_path / "same").read_text().split()[-5:] == ["[u_test]", *map(str, unknown)]
    both = barnum("classifier", tmp_path / "again")
    lines = both.out.splitlines()
    assert [line for line in lines if line.startswith("unknown label: 1 of 4 runs called anomalous")]
    assert [line.split()[1::3] for line in lines if line.startswith("strange.doc")] == [
        ["unknown", "anomalous"]
    ]
    rates = judged.out.split("\n\n")[-1].splitlines()
    assert rates == [
        line for line in both.out.split("\n\n")[-1].splitlines() if not line.startswith("unknown")
    ]
    for section in ("b_test", "m_test"):
        sets.write_text(f"[{section}]\n{unknown[0]}\n")
        ended = prob(*used, "--force", "--eval-dir", tmp_path / "no", root)
        assert ended.code == 21
        assert "but labelled unknown" in ended.error


def test_names_of_folders_are_no_urls_and_may_be_any_bytes(learnt, tree, tmp_path, monkeypatch):
    folder, _ = learnt
    monkeypatch.chdir(tmp_path)
    for name in ("s3:1", os.fsdecode(b"file:\xff")):
        (tmp_path / name).mkdir()
        good = write_sample(tmp_path / name, "same.doc", "benign", nominal_path(3))
        sets = tmp_path / "sets.txt"
        sets.write_text(f"[b_test]\n{good.name}\n")
        used = ("--load", folder / "model", "--skip-train", "--force", "-i", "sets.txt")
        ended = prob(*used, "--eval-dir", f"{name}-e", name)
        assert ended.code == 0, ended.err
        judged = barnum("classifier", "-i", f"{name}-e")
        assert judged.code == 0 and "same.doc" in judged.out, judged.err


def test_samples_of_the_same_name_are_refused(tree, tmp_path):
    root = tmp_path / "traces"
    one, other = (write_sample(root / part, "same.doc", "benign", nominal_path(3)) for part in "ab")
    sets = tmp_path / "sets.txt"
    for text in (f"[b_train]\n{one}\n{other}\n", f"[b_train]\n{one}\n[b_test]\n{other}\n"):
        sets.write_text(text)
        ended = prob("-i", sets, "--eval-dir", tmp_path / "e", root)
        assert ended.code == 21
        assert one.name in ended.error
        assert not (tmp_path / "e").exists()


def test_a_model_that_was_saved_says_the_same(learnt, tree, tmp_path):
    folder, _ = learnt
    again = prob(
        "--load",
        folder / "model",
        "--skip-train",
        "-i",
        folder / "sets.txt",
        "--eval-dir",
        tmp_path / "e",
        tree,
    )
    assert again.code == 0, again.err
    before, after = evaluations(folder / "eval"), evaluations(tmp_path / "e")
    assert before.keys() == after.keys()
    assert all(before[name].equals(after[name]) for name in before)


def test_a_model_knows_what_it_learns_and_is_kept_to_a_bound(learnt, tree, tmp_path):
    folder, ended = learnt
    load = ("-p", "-t", "1", "--load", folder / "model", "--skip-train", "-i", folder / "sets.txt")
    again = barnum("prob", *load, "--skip-eval", tree)
    assert again.code == 0, again.err
    assert again.out.splitlines()[0] == ended.out.splitlines()[1]
    small = tmp_path / "small"
    bound = barnum("prob", *load, "--max-memory", "100k", "--skip-eval", "--save", small, tree)
    assert bound.code == 0, bound.err
    assert bound.err.count("transfers were forgotten") == 1
    assert small.stat().st_size < 0.8 * (folder / "model").stat().st_size
    few = barnum("prob", *load, "--max-memory", "20", "--skip-eval", tree)
    assert few.code == 21 and "raise --max-memory" in few.error


def test_learnt_in_two_steps_or_merged_it_counts_as_learnt_in_one(tree, tmp_path):
    def learn(name, numbers, *options):
        sets = sets_file(tmp_path / f"{name}.txt", numbers, [39], [0], tree)
        ended = prob("--skip-eval", "-i", sets, "--save", tmp_path / name, *options, tree)
        assert ended.code == 0, ended.err
        return tmp_path / name

    both = learn("both", range(10))
    one, other = learn("one", range(6)), learn("other", range(6, 10))
    later = learn("later", range(6, 10), "--load", one)
    assert same(counts_of(both), counts_of(later))
    sets = sets_file(tmp_path / "none.txt", [], [39], [0], tree)
    merged = prob(
        "--skip-train",
        "--skip-eval",
        "-i",
        sets,
        "--load",
        one,
        "--merge",
        other,
        "--save",
        tmp_path / "m",
        tree,
    )
    assert merged.code == 0, merged.err
    assert same(counts_of(both), counts_of(tmp_path / "m"))
    # nothing is learnt twice
    twice = prob("--skip-eval", "-i", tmp_path / "both.txt", "--load", one, tree)
    assert twice.code > 9
    assert "was learnt by the model already" in twice.err
    assert len(twice.err.strip().splitlines()[-1:]) == 1
    overlap = prob("--skip-train", "--skip-eval", "-i", sets, "--load", one, "--merge", both, tree)
    assert overlap.code > 9 and "it would count twice" in overlap.err


def test_the_original_rule_draws(tree, tmp_path):
    drawn = prob(*SIZES, "--rule", "draw", "--eval-dir", tmp_path / "drawn", tree)
    best = prob(*SIZES, "--eval-dir", tmp_path / "best", tree)
    assert drawn.code == best.code == 0
    one, other = evaluations(tmp_path / "drawn"), evaluations(tmp_path / "best")
    assert all(one[name]["surprisal"].equals(other[name]["surprisal"]) for name in one)
    wrong = [
        sum(not right for table in of.values() for right in table["correct"].to_pylist())
        for of in (one, other)
    ]
    assert wrong[0] > wrong[1]


def test_original_lines_and_classes(tree, tmp_path):
    ended = prob(*SIZES, "--vocabulary", "modulo", "--eval-format", "gz", "--eval-dir", tmp_path / "e", tree)
    assert ended.code == 0, ended.err
    assert len(list((tmp_path / "e").glob("*.gz"))) == 12


def test_memory_is_bounded(tree, tmp_path):
    ended = prob(*SIZES, "--skip-eval", "--max-memory", "8M", "--save", tmp_path / "m", tree)
    assert ended.code == 0, ended.err
    assert float(ended.out.split(" contexts in ")[1].split()[0]) <= 8
    small = prob(*SIZES, "--skip-eval", "--max-memory", "1k", tree)
    assert small.code > 9 and "raise --max-memory" in small.err


def test_counts_are_shared_through_redis(tree, tmp_path):
    server = Server(tmp_path)
    try:
        for name, numbers in (("one", range(6)), ("two", range(6, 10))):
            sets = sets_file(tmp_path / f"{name}.txt", numbers, [39], [0], tree)
            ended = prob("--skip-eval", "-i", sets, "--redis", server.url, "--save", tmp_path / name, tree)
            assert ended.code == 0, ended.err
        sets = sets_file(tmp_path / "both.txt", range(10), [39], [0], tree)
        assert prob("--skip-eval", "-i", sets, "--save", tmp_path / "both", tree).code == 0
        assert same(counts_of(tmp_path / "both"), counts_of(tmp_path / "two"))
        # another one may use them without learning
        used = prob(
            "--skip-train",
            "-i",
            tmp_path / "two.txt",
            "--redis",
            server.url,
            "--eval-dir",
            tmp_path / "e",
            tree,
        )
        assert used.code == 0, used.err
        again = prob("--skip-eval", "-i", tmp_path / "one.txt", "--redis", server.url, tree)
        assert again.code > 9 and "already" in again.err
    finally:
        server.kill()
    gone = prob("--skip-eval", *SIZES, "--redis", server.url, tree)
    assert gone.code > 9 and len(gone.err.strip().splitlines()) == 1


def test_what_was_learnt_is_saved_though_sharing_it_fails(tree, tmp_path, monkeypatch):
    server = Server(tmp_path)

    def refuse(*_):
        raise OutputError("the server is full")

    monkeypatch.setattr(RedisStore, "push", refuse)
    try:
        sets = sets_file(tmp_path / "sets", range(3), [39], [0], tree)
        ended = prob("-i", sets, "--redis", server.url, "--save", tmp_path / "m", "--skip-eval", tree)
    finally:
        server.kill()
    assert ended.code > 9 and "the server is full" in ended.err
    assert load_whole(tmp_path / "m").document.network == "rote"


def test_too_few_samples_are_said_in_its_own_options(tree):
    assert "lower --train-size or --test-size\n" in prob("--train-size", "100", tree).err
    ended = prob("--train-size", "2", "--test-size", "20", "-r", "0.1", tree)
    assert "or raise --ratio" in ended.err and "malicious" not in ended.err.rpartition(":")[2]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--skip-train"], "give --load or --redis"),
        (["--merge", "MODEL"], "name it with --load"),
        (["--redis", "redis://x", "--port", "1"], "leave out --port"),
        (["--redis", "redis://x", "--max-memory", "4G"], "leave out --max-memory"),
        (["--max-memory", "much"], "is no size"),
        (["--redis", "redis://x", "--load", "MODEL"], "leave out --load"),
    ],
)
def test_options_that_do_not_go_together(learnt, tree, arguments, said):
    folder, _ = learnt
    ended = prob(*(folder / "model" if word == "MODEL" else word for word in arguments), tree)
    assert ended.code == 2
    assert said in ended.err


def test_what_is_missing_is_said(tree):
    assert "give one or more of --learn-ret" in barnum("prob", "-p", tree).err
    assert "BIN_DIRECTORY" in barnum("prob", *KINDS, tree).err


def test_nothing_is_overwritten_and_other_models_are_refused(learnt, tree, tmp_path):
    folder, _ = learnt
    with unchanged(folder / "model", folder / "eval"):
        for option in ("--save", "-o"):
            ended = prob(*SIZES, "--skip-eval", option, folder / "model", tree)
            assert ended.code > 9 and "is there already" in ended.err
        ended = prob(*SIZES, "--eval-dir", folder / "eval", tree)
        assert ended.code > 9 and "is there already" in ended.err
        load = ("--load", folder / "model", "--skip-train", "--skip-eval", "-i", folder / "sets.txt")
        ended = prob(*load, "-s", "7", tree)
        assert ended.code > 9 and "its sequence-len is 32" in ended.err
        ended = barnum("prob", "-p", "--learn-ret", *load, tree)
        assert ended.code > 9 and "other kinds of transfers" in ended.err
    broken = tmp_path / "broken"
    data = bytearray((folder / "model").read_bytes())
    data[-9] ^= 1
    broken.write_bytes(data)
    for file in (broken, folder / "sets.txt"):
        ended = prob("--load", file, "--skip-train", "--skip-eval", "-i", folder / "sets.txt", tree)
        assert ended.code > 9 and len(ended.err.strip().splitlines()) == 1, ended.err
