"""``barnum lstm --with-prob`` as a user meets it."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from test_cli_prob import prob, sets_file

from barnum.models.arrays import read_arrays, write_arrays
from barnum.models.model import identity_of
from learning import attack_path, barnum, lstm, nominal_path, write_sample, write_tree

FAST = ("-p", "-e", "1", "--units", "8", "-t", "1")
LEARNT, HELD_OUT, BAD = range(16, 40), range(8), range(4)


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    return write_tree(tmp_path_factory.mktemp("mixture") / "traces", 40, 4)


@pytest.fixture(scope="module")
def sets(tree):
    return sets_file(tree.parent / "sets.txt", LEARNT, HELD_OUT, BAD, tree)


@pytest.fixture(scope="module")
def rote(tree):
    """A rote learner's file, of most of the samples to learn."""
    fewer = sets_file(tree.parent / "fewer.txt", LEARNT[:-3], HELD_OUT, BAD, tree)
    ended = prob("-i", fewer, "--skip-test", "--skip-eval", "--save", tree.parent / "rote", tree)
    assert ended.code == 0, ended.err
    return tree.parent / "rote"


@pytest.fixture(scope="module")
def mixed(tree, sets, rote):
    """A folder with a mixture and its evaluations, and what the command printed."""
    folder = tree.parent
    ended = lstm(*FAST, "-i", sets, "--with-prob", rote, *saving(folder), "--eval-dir", folder / "e", tree)
    assert ended.code == 0, ended.err
    return folder, ended


def saving(folder):
    return "--save-model", folder / "m.json", "--save-weights", folder / "w"


def using(folder):
    return "--use-model", folder / "m.json", "--use-weights", folder / "w"


def loss_of(line):
    return float(line.partition("loss ")[2].split()[0])


def names_of(tree, numbers):
    wanted = {f"good-{i}.doc" for i in numbers}
    return {
        folder.name
        for folder in tree.iterdir()
        if (folder / "info.txt").read_text().splitlines()[0] in wanted
    }


def evaluations(folder):
    return {file.name: pq.read_table(file) for file in sorted(folder.iterdir())}


def test_it_tells_what_each_does_alone_and_both_together(mixed):
    training, mixture, test, evaluation, _ = mixed[1].out.splitlines()
    assert training.startswith("training: 23 samples, ")
    assert mixture.startswith("mixture: weights learnt on 1 samples, ")
    both, network, rote = (
        float(part.split()[-1]) for part in mixture.replace(" nats there", "").split(",")[-3:]
    )
    assert both < min(network, rote)
    assert loss_of(test) < 1
    assert evaluation.startswith("evaluation: 12 samples, ")


def test_it_predicts_better_than_each_alone(mixed, tree, sets, rote, tmp_path):
    test = mixed[1].out.splitlines()[2]
    assert test.startswith("test: 8 benign samples held out, ")
    network = lstm(*FAST, "-i", sets, "--skip-eval", tree).out.splitlines()[-1]
    alone = prob("-i", sets, "--skip-eval", tree).out.splitlines()[-1]
    assert loss_of(test) < min(loss_of(network), loss_of(alone))


def test_what_it_saves_is_whole(mixed, tree, sets, tmp_path):
    folder, _ = mixed
    names = set(json.loads((folder / "m.json").read_text())["samples"])
    assert names == names_of(tree, LEARNT)
    again = lstm(*FAST, "-i", sets, *using(folder), "--eval-dir", tmp_path / "e", tree)
    assert again.code == 0, again.err
    before, after = evaluations(folder / "e"), evaluations(tmp_path / "e")
    assert before.keys() == after.keys()
    assert len(before) == 12
    assert all(before[name].equals(after[name]) for name in before)


def test_its_evaluations_and_its_model_serve_all_that_follows(mixed, tmp_path):
    folder, _ = mixed
    classifier = tmp_path / "class.json"
    judged = barnum("classifier", "--method", "conformal", "--false-alarm-rate", "0.2", "-s", classifier,
                    folder / "e")  # fmt: skip
    assert judged.code == 0, judged.err
    assert "false negatives: 0 of 4" in judged.out
    packed = barnum("pack", *using(folder), "-l", classifier, tmp_path / "detector")
    assert packed.code == 0, packed.err
    bad = write_sample(tmp_path / "new", "new.doc", "malicious", attack_path(900))
    good = write_sample(tmp_path / "new", "same.doc", "benign", nominal_path(20))
    scored = barnum("score", "-t", "1", tmp_path / "detector", bad, good)
    assert [json.loads(line)["verdict"] for line in scored.out.splitlines()] == ["anomalous", "nominal"]


def test_a_network_that_was_learnt_is_mixed_without_training(tree, rote, tmp_path):
    fewer = sets_file(tmp_path / "fewer.txt", LEARNT[:-3], HELD_OUT, BAD, tree)
    done = lstm(*FAST, "-i", fewer, *saving(tmp_path), "--skip-eval", "--skip-test", tree)
    assert done.code == 0, done.err
    two = sets_file(tmp_path / "two.txt", LEARNT[-2:], HELD_OUT, BAD, tree)
    new = tmp_path / "new"
    new.mkdir()
    both = lstm(*FAST, "-i", two, *using(tmp_path), "--with-prob", rote, *saving(new), "--skip-eval", tree)
    assert both.code == 0, both.err
    mixture, test = both.out.splitlines()
    assert mixture.startswith("mixture: weights learnt on 2 samples, ")
    assert test.startswith("test: 8 benign")
    assert "--save-model has no effect" not in both.err
    names = set(json.loads((new / "m.json").read_text())["samples"])
    assert names == names_of(tree, [*LEARNT[:-3], *LEARNT[-2:]])


def test_without_sets_what_the_rote_learner_knows_is_not_held_out(tree, rote, tmp_path):
    sets = tmp_path / "sets.txt"
    done = lstm(*FAST, "--train-size", "30", "--test-size-benign", "6", "-o", sets, "--with-prob", rote,
                "--skip-eval", tree)  # fmt: skip
    assert done.code == 0, done.err
    held_out = sets.read_text().partition("[b_test]")[2].partition("[m_test]")[0].split()
    assert len(held_out) == 6
    assert not {line.rpartition("/")[2] for line in held_out} & names_of(tree, LEARNT[:-3])
    few = lstm(*FAST, "--train-size", "8", "--test-size-benign", "20", "--with-prob", rote, tree)
    assert few.code != 0
    assert "19 usable benign samples that no model given has learnt" in few.err


def refused(tree, *options):
    ended = lstm(*FAST, *options, tree)
    assert ended.code not in (0, None)
    assert ended.out == ""
    return ended.err.strip().splitlines()[-1]


def spoilt_runs(rote, file):
    """A rote learner's file with another number of transfers in its runs."""
    arrays, _ = read_arrays(rote)
    document = json.loads(arrays.pop("document.json").tobytes())
    arrays["runs.transfers"] = arrays["runs.transfers"] + 1
    document["identity"] = identity_of(arrays)
    text = np.frombuffer(json.dumps(document).encode(), np.uint8)
    write_arrays(file, arrays | {"document.json": text}, document["identity"])
    return file


def test_weights_that_give_no_finite_predictions_leave_no_evaluation(mixed, tree, sets, tmp_path):
    folder, _ = mixed
    arrays, identity = read_arrays(folder / "w")
    arrays["network.out.weight"] = np.full_like(arrays["network.out.weight"], np.finfo(np.float32).max)
    write_arrays(tmp_path / "w", arrays, identity)
    files = ("--use-model", folder / "m.json", "--use-weights", tmp_path / "w")
    ended = lstm(*FAST, "-i", sets, *files, "--skip-test", "--eval-dir", tmp_path / "e", tree)
    assert ended.code == 20
    assert ended.error == f"{tmp_path}/w: its weights give no finite predictions: learn the model anew"
    assert not list((tmp_path / "e").glob("*"))


def test_mistakes_are_told_before_anything_is_learnt(mixed, tree, sets, rote, tmp_path):
    folder, _ = mixed
    mix = ("-i", sets, "--with-prob")
    fewer = sets_file(tmp_path / "fewer.txt", LEARNT[:-3], HELD_OUT, BAD, tree)
    assert "has learnt all 21 samples to learn" in refused(tree, "-i", fewer, "--with-prob", rote)
    known = sets_file(tmp_path / "known.txt", LEARNT[-3:], [*HELD_OUT, LEARNT[0]], BAD, tree)
    assert "both learnt and held out" in refused(tree, "-i", known, "--with-prob", rote)
    one = sets_file(tmp_path / "one.txt", LEARNT[-1:], HELD_OUT, BAD, tree)
    assert "one sample to learn is not enough" in refused(tree, "-i", one, "--with-prob", rote)
    assert "goes with --network causal" in refused(tree, *mix, rote, "--network", "paper")
    assert "other kinds of transfers" in refused(tree, *mix, rote, "--disable-ret")
    assert "predicts other targets" in refused(tree, *mix, rote, "--vocabulary", "modulo")
    assert "no file of a rote learner" in refused(tree, *mix, folder / "w")
    assert "beside its network already" in refused(tree, *mix, rote, *using(folder))
    spoilt = spoilt_runs(rote, tmp_path / "spoilt")
    assert f"{spoilt}: the runs that it keeps contradict themselves" in refused(tree, *mix, spoilt)
    broken = tmp_path / "broken"
    broken.write_bytes(rote.read_bytes()[:-100])
    assert str(broken) in refused(tree, *mix, broken)
    assert "does not exist" in refused(tree, *mix, tmp_path / "nowhere")


def test_a_trace_to_weigh_by_that_breaks_does_not_lose_the_network(tree, rote, tmp_path):
    # the last sample to learn is one to weigh by
    broken = write_sample(tmp_path / "traces", "broken.doc", "benign", nominal_path(500))
    file = broken / "trace_parsed.parquet"
    file.write_bytes(file.read_bytes()[:-200] + bytes(200))
    learnt = [write_sample(tmp_path / "traces", f"fine-{i}.doc", "benign", nominal_path(i)) for i in range(8)]
    sets = tmp_path / "sets.txt"
    lines = ["[b_train]", *map(str, [*learnt, broken]), "", "[b_test]", "", "[m_test]", ""]
    sets.write_text("\n".join(lines))
    ended = lstm(
        *FAST, "-i", sets, "--with-prob", rote, *saving(tmp_path), "--skip-eval", tmp_path / "traces"
    )
    assert ended.code not in (0, None)
    assert "Traceback" not in ended.err
    used = lstm(*FAST, "-i", sets, *using(tmp_path), "--skip-eval", tmp_path / "traces")
    assert used.code == 0, used.err
