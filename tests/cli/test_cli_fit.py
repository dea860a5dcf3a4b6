"""``barnum fit`` and ``barnum merge``: detectors from digests, and verdicts by them."""

import gzip
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load, save

from barnum.detector import load_fitted
from barnum.detector.fitted import encoded
from barnum.errors import ModelError
from learning import attack_path, barnum, lstm, nominal_path, unchanged, write_sample, write_tree
from paths_tools import make_images, make_sample

TRAIN, HELD_OUT = 30, 6


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with traces, sets.txt, and a detector fitted to those under [b_train]."""
    folder = tmp_path_factory.mktemp("fit")
    traces = write_tree(folder / "traces", TRAIN + HELD_OUT, 2)
    names = {(each / "info.txt").read_text().split("\n")[0]: each for each in traces.iterdir()}
    sections = {
        "b_train": [names[f"good-{i}.doc"] for i in range(TRAIN)],
        "b_test": [names[f"good-{i}.doc"] for i in range(TRAIN, TRAIN + HELD_OUT)],
        "m_test": [names[f"bad-{i}.doc"] for i in range(2)],
    }
    text = "".join(f"[{name}]\n" + "".join(f"{each}\n" for each in some) for name, some in sections.items())
    (folder / "sets.txt").write_text(text)
    fitted = barnum("fit", traces, "-i", folder / "sets.txt", "-o", folder / "detector")
    assert fitted.code == 0, fitted.err
    assert "30 nominal runs and 6 held out" in fitted.out
    return folder


def score(*arguments):
    ended = barnum("score", *arguments)
    return ended, {line.get("name"): line for line in map(json.loads, ended.out.splitlines())}


def test_verdicts_are_those_of_the_classifier_on_evaluations(made, tmp_path):
    learnt = lstm(
        "-p", "-e", "1", "--units", "8", "-t", "1", "-i", made / "sets.txt",
        "--eval-dir", tmp_path / "eval", made / "traces",
    )  # fmt: skip
    assert learnt.code == 0, learnt.err
    judged = barnum("classifier", "--json", tmp_path / "v.json", tmp_path / "eval")
    assert judged.code == 0, judged.err
    runs = json.loads((tmp_path / "v.json").read_text())["runs"]
    ended, lines = score(made / "detector", made / "traces")
    assert ended.code == 0
    assert len(runs) == HELD_OUT + 2
    for run in runs:
        line = lines[run["name"]]
        assert line["verdict"] == run["verdict"]
        assert line["transfers"] == run["transfers"]
        for key in ("score", "p_value"):
            assert line[key] == pytest.approx(run[key], rel=1e-6), (key, run["name"])
    assert {run["verdict"] for run in runs} == {"anomalous", "nominal"}


def test_a_tree_and_a_sample_are_judged_alike(made):
    _, whole = score(made / "detector", made / "traces")
    bad = next(line for line in whole.values() if line["name"] == "bad-0.doc")
    _, alone = score(made / "detector", bad["folder"])
    assert alone["bad-0.doc"] == bad
    assert bad["verdict"] == "anomalous"
    assert bad["score"] > bad["threshold"]
    # the attack begins in the middle of the run
    assert 1490 <= bad["where"]["step"] <= 1510
    assert Path(bad["where"]["module"]).name == "libc.so"
    assert len(whole) == TRAIN + HELD_OUT + 2


def test_halves_merge_to_the_bytes_of_the_whole(made, tmp_path):
    traces = sorted((made / "traces").iterdir())
    halves = [tmp_path / "a", tmp_path / "b"]
    for half, some in zip(halves, (traces[:20], traces[20:]), strict=True):
        half.mkdir()
        for each in some:
            shutil.copytree(each, half / each.name)
        assert barnum("fit", half, "-o", f"{half}.barnum").code == 0
    merged = barnum("merge", tmp_path / "b.barnum", tmp_path / "a.barnum", "-o", tmp_path / "ab")
    assert merged.code == 0, merged.err
    assert barnum("fit", made / "traces", "-o", tmp_path / "whole").code == 0
    assert (tmp_path / "ab").read_bytes() == (tmp_path / "whole").read_bytes()
    added = barnum("fit", tmp_path / "b", "--add-to", tmp_path / "a.barnum", "-o", tmp_path / "added")
    assert added.code == 0, added.err
    assert (tmp_path / "added").read_bytes() == (tmp_path / "whole").read_bytes()


def test_what_cannot_be_merged_is_told(made, tmp_path):
    assert barnum("fit", made / "traces", "-o", tmp_path / "one").code == 0
    twice = barnum("merge", tmp_path / "one", tmp_path / "one", "-o", tmp_path / "out")
    assert twice.code == 20 and "twice" in twice.err
    rate = barnum("fit", made / "traces", "--false-alarm-rate", "0.2", "-o", tmp_path / "rate")
    assert rate.code == 0
    other = barnum("merge", tmp_path / "one", tmp_path / "rate", "-o", tmp_path / "out")
    assert other.code == 20 and "different rates" in other.err
    held_out = barnum("merge", made / "detector", tmp_path / "one", "-o", tmp_path / "out")
    assert held_out.code == 20 and "--add-to" in held_out.err
    assert not (tmp_path / "out").exists()


def test_digests_alone_are_enough(made, tmp_path):
    tree = tmp_path / "digests"
    # those that are judged get theirs, too
    assert score(made / "detector", made / "traces")[0].code == 0
    for folder in (made / "traces").iterdir():
        (tree / folder.name).mkdir(parents=True)
        for name in ("info.txt", "trace_digest"):
            shutil.copy(folder / name, tree / folder.name / name)
    assert barnum("fit", tree, "-o", tmp_path / "detector").code == 0
    assert barnum("fit", made / "traces", "-o", tmp_path / "whole").code == 0
    assert (tmp_path / "detector").read_bytes() == (tmp_path / "whole").read_bytes()
    _, lines = score(tmp_path / "detector", tree)
    assert lines["bad-1.doc"]["verdict"] == "anomalous"
    assert "digest" in barnum("list", tree).out


def test_a_label_that_was_corrected_counts(made, tmp_path):
    tree = tmp_path / "traces"
    shutil.copytree(made / "traces", tree)
    for folder in tree.iterdir():
        info = folder / "info.txt"
        name, label = info.read_text().split()
        info.write_text(f"{name}\n{'unknown' if label == 'malicious' else label}\n")
    assert barnum("fit", tree, "-o", tmp_path / "d").code == 0
    assert len(load_fitted(tmp_path / "d").counts) == TRAIN + HELD_OUT


def test_preprocessing_writes_a_digest_that_decoding_alone_gives_as_well(tmp_path):
    images = make_images(tmp_path / "bin")
    one, other = make_sample(tmp_path / "one" / "a"), make_sample(tmp_path / "other" / "a")
    assert barnum("preprocess", tmp_path / "one", images).code == 0
    digest = (one / "trace_digest").read_bytes()
    assert sorted(each.name for each in one.iterdir()) == [
        "info.txt", "mapping.txt", "trace_0.gz", "trace_digest", "trace_parsed.parquet",
    ]  # fmt: skip
    # neither a digest nor a path is there: it is decoded on the way, and what stays is its digest
    refused = barnum("fit", tmp_path / "other", "-o", tmp_path / "d")
    assert refused.code == 21 and "--bin-dir" in refused.err
    assert barnum("fit", tmp_path / "other", "--bin-dir", images, "-o", tmp_path / "d").code == 0
    assert (other / "trace_digest").read_bytes() == digest
    assert not list(other.glob("*parsed*"))
    assert barnum("fit", tmp_path / "one", "-o", tmp_path / "d1").code == 0
    assert (tmp_path / "d").read_bytes() == (tmp_path / "d1").read_bytes()
    # an older parsed trace gets its digest when it is asked for
    (one / "trace_digest").unlink()
    assert barnum("fit", tmp_path / "one", "-f", "-o", tmp_path / "d1").code == 0
    assert (one / "trace_digest").read_bytes() == digest


def test_a_single_run_is_known_but_calls_no_other_anomalous(tmp_path):
    tree = write_tree(tmp_path / "traces", 1, 1)
    fitted = barnum("fit", tree, "-o", tmp_path / "d")
    assert fitted.code == 0
    assert "novelty calls nothing anomalous" in fitted.out
    _, lines = score(tmp_path / "d", tree)
    assert {line["verdict"] for line in lines.values()} == {"nominal"}
    assert lines["bad-0.doc"]["score"] > 0
    assert lines["bad-0.doc"]["threshold"] is None


def test_mistakes_are_told_in_a_line(made, tmp_path):
    nothing = write_tree(tmp_path / "bad", 0, 2)
    for arguments, code, words in [
        (("fit", nothing, "-o", tmp_path / "d"), 21, "--benign"),
        (("fit", tmp_path / "none", "-o", tmp_path / "d"), 2, "does not exist"),
        (("fit", made / "traces", "-o", made / "detector"), 16, "--force"),
        (("fit", made / "traces", "-o", tmp_path / "no" / "d"), 17, "no such folder"),
        (
            ("fit", made / "traces", "--false-alarm-rate", "0.001", "-o", tmp_path / "d"),
            19,
            "999 nominal runs",
        ),
        (("fit", made / "traces", "--add-to", made / "sets.txt", "-o", tmp_path / "d"), 20, "barnum fit"),
        (("merge", made / "sets.txt", "-o", tmp_path / "d"), 20, "barnum fit"),
        (("score", made / "detector", tmp_path / "none"), 22, ""),
        (("score", "--process", "x", made / "detector", made / "traces"), 2, "--process"),
    ]:
        ended = barnum(*arguments)
        assert ended.code == code, (arguments, ended.err)
        assert words in ended.err
        assert "Traceback" not in ended.err
        assert not (tmp_path / "d").exists()


def test_what_is_judged_stays_as_it_is(made, tmp_path):
    bad = write_sample(tmp_path, "new.doc", "malicious", attack_path(900))
    good = write_sample(tmp_path, "same.doc", "benign", nominal_path(3))
    for folder in (bad, good):
        assert barnum("score", made / "detector", folder).code == 0
    with unchanged(made / "detector", bad, good):
        ended, lines = score("--fail-on-anomaly", made / "detector", bad, good)
    assert ended.code == 3
    assert (lines["new.doc"]["verdict"], lines["same.doc"]["verdict"]) == ("anomalous", "nominal")


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    """A detector of few runs, which keeps all that they showed."""
    folder = tmp_path_factory.mktemp("few")
    assert barnum("fit", write_tree(folder / "traces", 5, 0), "-o", folder / "detector").code == 0
    return folder


def forged(made, file, change):
    arrays = load(encoded(load_fitted(made / "detector")))
    change(arrays)
    content = save({name: np.ascontiguousarray(each) for name, each in arrays.items()})
    file.write_bytes(gzip.compress(content))
    return file


def fields(**values):
    def change(arrays):
        told = json.loads(arrays["about"].tobytes()) | values
        arrays["about"] = np.frombuffer(json.dumps(told).encode(), np.uint8)

    return change


FORGERIES = {
    "another schema": fields(schema=9),
    "a rate that is none": fields(rate=2.0),
    "no document": lambda arrays: arrays.pop("about"),
    "no column": lambda arrays: arrays.pop("kind"),
    "a short column": lambda arrays: arrays.update(kind=arrays["kind"][:, 1:]),
    "a column of floats": lambda arrays: arrays.update(runs=np.zeros((1, 3))),
    "sites in disorder": lambda arrays: arrays.update(site=arrays["site"] | 1),
    "a target that lacks": lambda arrays: arrays.update(edge_target=arrays["edge_target"] | 0xF0),
    "more runs than there are": lambda arrays: arrays.update(edge_runs=arrays["edge_runs"] | 0x80),
    "rows of others": lambda arrays: arrays.update(row_edge=np.zeros_like(arrays["row_edge"])),
    "a run that lacks": lambda arrays: arrays.update(row_run=arrays["row_run"] | 0xF0),
    "no stretch": lambda arrays: arrays.update(row_stretches=np.zeros_like(arrays["row_stretches"])),
    "nothing": lambda arrays: arrays.update(
        {name: each[:, :0] for name, each in arrays.items() if each.ndim == 2}
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FORGERIES)
def test_forged_detectors_are_refused_in_a_line(few, tmp_path, name):
    file = forged(few, tmp_path / "d", FORGERIES[name])
    with pytest.raises(ModelError) as refused:
        load_fitted(file)
    assert "\n" not in str(refused.value)
    ended = barnum("score", file, few / "traces")
    assert ended.code == 20
    assert "Traceback" not in ended.err


def test_a_detector_as_it_is_passes_the_same_way(few, tmp_path):
    file = forged(few, tmp_path / "d", lambda arrays: None)
    assert encoded(load_fitted(file)) == encoded(load_fitted(few / "detector"))


def test_broken_digests_do_not_stop_the_others(made, tmp_path):
    tree = tmp_path / "traces"
    shutil.copytree(made / "traces", tree)
    folders = sorted(tree.iterdir())
    # one has its path still, the other nothing else
    (folders[0] / "trace_digest").write_bytes(b"no digest")
    Path(folders[1] / "trace_digest").write_bytes(b"\x1f\x8b no digest")
    (folders[1] / "trace_parsed.parquet").unlink()
    ended, lines = score(made / "detector", tree)
    assert ended.code == 22
    broken = [line for line in map(json.loads, ended.out.splitlines()) if "error" in line]
    assert [line["sample"] for line in broken] == [folders[1].name]
    assert len(lines) >= TRAIN + HELD_OUT
