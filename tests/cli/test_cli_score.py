"""``barnum pack`` and ``barnum score``: a folder that holds a detector, and verdicts in one step."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from test_verdicts_registries import Doubt

from barnum.detector.folder import load_detector
from barnum.errors import ModelError
from barnum.verdicts.scores import SCORES
from learning import attack_path, barnum, lstm, nominal_path, unchanged, write_sample, write_tree
from paths_tools import make_images, make_sample

FAST = ["-p", "-e", "1", "--units", "8", "-t", "1"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with traces, eval, m.json, w, class.json and the detector that they were packed into."""
    folder = tmp_path_factory.mktemp("detector")
    traces = write_tree(folder / "traces", 36, 2)
    learnt = lstm(
        *FAST, "--train-size", "30", "--test-size-benign", "6", "--test-size-malicious", "2",
        "--save-model", folder / "m.json", "--save-weights", folder / "w",
        "--eval-dir", folder / "eval", traces,
    )  # fmt: skip
    assert learnt.code == 0, learnt.err
    assert barnum("classifier", "-s", folder / "class.json", folder / "eval").code == 0
    packed = pack(folder, folder / "detector")
    assert packed.code == 0, packed.err
    return folder


def pack(folder, to, **changes):
    files = {"document": "m.json", "weights": "w", "classifier": "class.json"} | changes
    return barnum(
        "pack", "--use-model", folder / files["document"], "--use-weights", folder / files["weights"],
        "-l", folder / files["classifier"], to,
    )  # fmt: skip


def score(*arguments):
    ended = barnum("score", *arguments)
    return ended, [json.loads(line) for line in ended.out.splitlines()]


def test_a_sample_is_judged_in_one_step(made, tmp_path):
    bad = write_sample(tmp_path, "new.doc", "malicious", attack_path(900))
    good = write_sample(tmp_path, "same.doc", "benign", nominal_path(3))
    with unchanged(made / "detector", bad, good):
        ended, lines = score(made / "detector", bad, good)
    assert ended.code == 0
    assert [line["name"] for line in lines] == ["new.doc", "same.doc"]
    assert [line["verdict"] for line in lines] == ["anomalous", "nominal"]
    assert lines[0]["score"] > lines[0]["threshold"] >= lines[1]["score"]
    assert lines[0]["p_value"] < lines[1]["p_value"]
    assert lines[0]["sample"] == bad.name
    # the attack begins in the middle of the trace
    assert 1490 <= lines[0]["where"]["step"] <= 1510
    assert lines[0]["where"]["module"]
    assert "where" not in lines[1]


def test_a_run_is_judged_whatever_its_label(made, tmp_path):
    for path in (attack_path(900), nominal_path(3)):
        lines = []
        for label in ("unknown", "benign", "malicious"):
            folder = write_sample(tmp_path / f"{label}-{len(path)}-{path[1500]}", "new.doc", label, path)
            _, [line] = score(made / "detector", folder)
            lines.append({name: value for name, value in line.items() if name != "folder"})
        assert lines[0] == lines[1] == lines[2]


def test_the_exit_code_tells_a_pipeline(made, tmp_path):
    bad = write_sample(tmp_path, "new.doc", "malicious", attack_path(900))
    good = write_sample(tmp_path, "same.doc", "benign", nominal_path(3))
    assert score("--fail-on-anomaly", made / "detector", good)[0].code == 0
    assert score("--fail-on-anomaly", made / "detector", good, bad)[0].code == 3
    assert score(made / "detector", bad)[0].code == 0


def test_verdicts_are_those_of_the_classifier(made, tmp_path):
    judged = barnum("classifier", "-l", made / "class.json", "--json", tmp_path / "v.json", made / "eval")
    assert judged.code == 0
    runs = {run["sample"]: run for run in json.loads((tmp_path / "v.json").read_text())["runs"]}
    _, lines = score(made / "detector", *(made / "traces" / name for name in runs))
    assert len(lines) == len(runs) == 8
    for line in lines:
        run = runs[line["sample"]]
        assert line["verdict"] == run["verdict"]
        for key in ("p_value", "transfers", "score"):
            assert line[key] == pytest.approx(run[key], rel=1e-6), key


def test_a_sample_that_cannot_be_judged_does_not_stop_the_others(made, tmp_path):
    good = write_sample(tmp_path, "same.doc", "benign", nominal_path(3))
    broken = write_sample(tmp_path, "broken.doc", "benign", nominal_path(4))
    (broken / "trace_parsed.parquet").write_bytes(b"PAR1 nothing")
    short = write_sample(tmp_path, "short.doc", "benign", [0])
    ended, lines = score(made / "detector", broken, tmp_path / "none", short, good)
    assert ended.code == 22
    assert "3 of 4 samples could not be judged" in ended.err
    assert ["error" in line for line in lines] == [True, True, True, False]
    assert lines[0]["sample"] == broken.name
    # the user knows the sample, not what lies in between
    assert str(short) in lines[2]["error"] and "evaluation" not in lines[2]["error"]
    assert "Traceback" not in ended.err


def test_streams_are_decoded_on_the_way(made, tmp_path):
    # code that this detector never saw: what counts is that it is decoded and judged
    sample = make_sample(tmp_path / "a")
    ended, lines = score(made / "detector", sample)
    assert ended.code == 22
    assert "--bin-dir" in lines[0]["error"]
    images = make_images(tmp_path / "bin")
    ended, lines = score("--bin-dir", images, made / "detector", sample)
    assert ended.code == 0, ended.out
    assert lines[0]["transfers"] > 0
    assert not list(sample.glob("*parsed*"))


def test_what_is_packed_is_checked(made, tmp_path):
    again = pack(made, made / "detector")
    assert again.code == 16
    assert "is there already" in again.err
    missing = pack(made, tmp_path / "d", classifier="m.json")
    assert missing.code == 19
    assert not (tmp_path / "d").exists()
    # a classifier of another model
    other = json.loads((made / "class.json").read_text())
    other["model"] = "0" * 64
    (made / "other.json").write_text(json.dumps(other))
    refused = pack(made, tmp_path / "d", classifier="other.json")
    assert refused.code == 20
    assert "another model" in refused.err
    assert list(tmp_path.iterdir()) == []
    nowhere = pack(made, tmp_path / "no" / "such" / "d")
    assert nowhere.code == 17


@pytest.fixture
def detector(made, tmp_path):
    return Path(shutil.copytree(made / "detector", tmp_path / "detector"))


@pytest.mark.parametrize("part", ["model.json", "weights", "classifier.json"])
def test_a_part_that_was_changed_is_noticed(detector, part):
    file = detector / part
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    with pytest.raises(ModelError, match=f"{part}: was changed"):
        load_detector(detector)
    file.unlink()
    ended, lines = score(detector, detector)
    assert (ended.code, lines) == (20, [])
    assert len(ended.err.strip().splitlines()) == 1


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{}",
        b"\xff",
        b'{"schema": 1}',
        b"[" * 100_000,
        b'{"schema": 9, "version": "", "model": "", "method": "", "max_lost": 0.1, "files": {}}',
        b'{"schema": 1, "version": "", "model": "", "method": "", "max_lost": 7, "files": {}}',
    ],
)
def test_descriptions_that_are_none(detector, content):
    (detector / "detector.json").write_bytes(content)
    ended, _ = score(detector, detector)
    assert ended.code == 20
    assert "detector.json" in ended.err
    assert len(ended.err.strip().splitlines()) == 1


def test_what_is_no_detector(made, tmp_path):
    for folder in (tmp_path, tmp_path / "none", made / "m.json"):
        assert score(folder, tmp_path)[0].code == 20
    assert score(made / "detector")[0].code == 2


def damaged(folder, lost=None, cause=6, **changes):
    """Change the header of a sample's parsed trace, and say that something was lost before a step: by code
    without an image, or for another cause."""
    import pyarrow.parquet as pq

    from barnum.paths.blocks import GapDetails
    from barnum.paths.tables import pack_gaps

    file = folder / "trace_parsed.parquet"
    table = pq.read_table(file)
    meta = dict(table.schema.metadata or {}) or dict(pq.ParquetFile(file).metadata.metadata)
    meta[b"barnum"] = json.dumps(json.loads(meta[b"barnum"]) | changes).encode()
    if lost is not None:
        kinds = (np.uint64, np.uint8, np.uint16, np.uint64, np.uint64, np.uint64)
        row = (lost, cause, 0, 1000, 0x400000, 60)
        meta[b"barnum.gaps"] = pack_gaps(
            GapDetails(*(np.array([one], kind) for one, kind in zip(row, kinds, strict=True)))
        )
    with pq.ParquetWriter(file, table.schema.with_metadata(None), store_schema=False) as writer:
        writer.write_table(table.replace_schema_metadata(None))
        writer.add_key_value_metadata({key.decode(): value for key, value in meta.items()})
    return folder


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        (
            {"truncated": "timeout"},
            "it breaks off: a time limit ended its decoding: give more time; or its report is not whole",
        ),
        (
            {"statistics": {"bytes": 1000, "bytes_lost": 60, "unmapped": 3}, "lost": 2000},
            "6.0 % of the trace was lost, code without an image was met 3 times (at most 5 % may be)",
        ),
    ],
)
def test_what_was_not_seen_whole_is_judged_by_how_it_begins(made, tmp_path, changes, why):
    # the attack begins in the middle, before what is lost
    bad = write_sample(tmp_path, "bad.doc", "malicious", attack_path(900))
    whole = score(made / "detector", bad)[1][0]
    damaged(bad, **changes)
    ended, [line] = score("--fail-on-anomaly", made / "detector", bad)
    assert (ended.code, line["verdict"], line["incomplete"]) == (3, "anomalous", why)
    assert "refused" not in line
    # of this sample all that was lost is nothing new
    for name in ("score", "p_value", "threshold", "where"):
        assert line[name] == whole[name], name
    assert line["transfers"] == changes.get("lost", 3000) - 1
    good = damaged(write_sample(tmp_path, "good.doc", "benign", nominal_path(3)), **changes)
    ended, [line] = score("--fail-on-anomaly", made / "detector", good)
    assert (ended.code, line["verdict"], line["refused"]) == (22, "refused", why)
    assert "incomplete" not in line
    assert line["transfers"] == 2999


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"truncated": "timeout"}, "a time limit ended its decoding"),
        ({"statistics": {"bytes": 1000, "bytes_lost": 60, "unmapped": 3}}, "6.0 % of the trace was lost"),
        (
            {"statistics": {"bytes": 1000, "bytes_lost": 60, "unmapped": 3}, "lost": 1400},
            "6.0 % of the trace was lost",
        ),
        # a loss that may have been noticed late
        (
            {"statistics": {"bytes": 1000, "bytes_lost": 60}, "lost": 2000, "cause": 5},
            "6.0 % of the trace was lost",
        ),
    ],
)
def test_what_was_not_seen_whole_is_not_judged(made, tmp_path, changes, why):
    # nothing new comes before the end, where the losses are is not known, the attack comes after them
    path = nominal_path(3) if "truncated" in changes else attack_path(900)
    half = damaged(write_sample(tmp_path, "half.doc", "malicious", path), **changes)
    bad = write_sample(tmp_path, "new.doc", "malicious", attack_path(901))
    ended, lines = score(made / "detector", half)
    assert (ended.code, lines[0]["verdict"]) == (0, "refused")
    assert why in lines[0]["refused"]
    assert "incomplete" not in lines[0]
    # a gate does not let it through
    ended, _ = score("--fail-on-anomaly", made / "detector", half)
    assert ended.code == 22
    ended, _ = score("--fail-on-anomaly", made / "detector", half, bad)
    assert ended.code == 3


def test_an_anomaly_is_told_whatever_else_fails(made, tmp_path):
    bad = write_sample(tmp_path, "new.doc", "malicious", attack_path(901))
    ended, lines = score("--fail-on-anomaly", made / "detector", tmp_path / "none", bad)
    assert ended.code == 3
    assert len(lines) == 2


def test_what_a_link_leads_to_is_not_printed(made, tmp_path):
    sample = write_sample(tmp_path, "new.doc", "malicious", attack_path(900))
    (tmp_path / "secret").write_text("password\nmalicious\n")
    (sample / "info.txt").unlink()
    (sample / "info.txt").symlink_to(tmp_path / "secret")
    ended, [line] = score(made / "detector", sample)
    assert (line["verdict"], line["name"]) == ("anomalous", None)
    assert "password" not in ended.out + ended.err


def test_only_what_came_before_another_process_counts(made, tmp_path):
    bad = damaged(write_sample(tmp_path, "new.doc", "malicious", attack_path(901)), spawn=1000)
    assert score(made / "detector", bad)[1][0]["verdict"] == "anomalous"
    line = score("--cut", made / "detector", bad)[1][0]
    assert (line["cut"], line["verdict"]) == (True, "nominal")
    assert line["transfers"] == 999
    first = damaged(write_sample(tmp_path, "first.doc", "malicious", attack_path(902)), spawn=0)
    line = score("--cut", made / "detector", first)[1][0]
    assert line["verdict"] == "refused"
    assert "nothing was executed before" in line["refused"]


@pytest.fixture(scope="module")
def by_surprisal(made):
    """A detector that goes by mean surprisal."""
    saved = barnum("classifier", "--score", "surprisal", "-s", made / "surprisal.json", made / "eval")
    assert saved.code == 0, saved.err
    packed = pack(made, made / "by_surprisal", classifier="surprisal.json")
    assert packed.code == 0, packed.err
    return made / "by_surprisal"


def test_what_is_printed_is_what_is_judged_by(made, by_surprisal, tmp_path):
    told = tmp_path / "v.json"
    assert barnum("classifier", "-l", made / "surprisal.json", "--json", told, made / "eval").code == 0
    runs = {run["sample"]: run for run in json.loads(told.read_text())["runs"]}
    _, lines = score(by_surprisal, *(made / "traces" / name for name in runs))
    for line in lines:
        run = runs[line["sample"]]
        assert (line["method"], line["by"]) == ("conformal", "surprisal")
        assert (line["verdict"], line["p_value"]) == (run["verdict"], run["p_value"])
        assert line["score"] == run["score"] == run["surprisal"]
        assert line["where"]["by"] == "surprisal"
    bad = write_sample(tmp_path, "new.doc", "malicious", attack_path(900))
    line = score(by_surprisal, bad)[1][0]
    # the attack is a few blocks of libc
    assert 1490 <= line["where"]["step"] <= 1510
    assert line["where"]["module"] and line["where"]["offset"] is not None
    line = score(made / "detector", bad)[1][0]
    assert (line["by"], line["where"]["by"]) == ("novelty", "novelty")


def test_surprisal_is_that_of_what_is_judged(by_surprisal, tmp_path):
    bad = write_sample(tmp_path, "new.doc", "malicious", attack_path(901))
    whole = score(by_surprisal, bad)[1][0]
    damaged(bad, spawn=1000)
    cut = score("--cut", by_surprisal, bad)[1][0]
    assert (cut["cut"], cut["by"]) == (True, "surprisal")
    assert cut["score"] < whole["score"]
    assert cut["where"]["step"] < 1000 < whole["where"]["step"]
    damaged(bad, spawn=0)
    none = score("--cut", by_surprisal, bad)[1][0]
    assert (none["verdict"], none["score"]) == ("refused", 0)
    assert "where" not in none
    damaged(bad, truncated="timeout", spawn=None)
    half = score(by_surprisal, bad)[1][0]
    assert (half["verdict"], half["score"]) == ("refused", whole["score"])


@pytest.fixture(scope="module")
def strange(made):
    """Samples in ``traces``, each with a few steps that no training run took, and elsewhere a longer stretch
    of steps that are rare, so that the most surprising window of 100 transfers is another one than that of
    500; and their evaluations in ``eval``. The second one starts another process."""
    root = made / "strange"
    for seed in range(2):
        draw = np.random.default_rng(seed)
        path = nominal_path(300 + seed, 6000)
        path[1000:1030] = [0, 30] * 15
        rare = [step for _ in range(80) for step in (0, 1, 2, 3, 4, 20 + int(draw.integers(6)))]
        path[4000:4480] = rare
        path[5200:5680] = rare[::-1] if seed else path[5200:5680]
        sample = write_sample(root / "traces", f"{seed}.doc", "malicious", path)
        if seed:
            damaged(sample, spawn=5000)
    learnt = lstm(
        "-p", "-t", "1", "--use-model", made / "m.json", "--use-weights", made / "w",
        "--test-size-benign", "0", "--test-size-malicious", "2", "--eval-dir", root / "eval",
        root / "traces",
    )  # fmt: skip
    assert learnt.code == 0, learnt.err
    return root


@pytest.mark.parametrize("by", ["novelty", "surprisal", "adjusted", "combined"])
@pytest.mark.parametrize("cut", [[], ["--cut"]])
def test_the_place_lies_in_the_window_that_a_report_shows_first(made, strange, tmp_path, by, cut):
    saved = barnum("classifier", "--score", by, "-s", tmp_path / "c.json", made / "eval")
    assert saved.code == 0, saved.err
    assert pack(made, tmp_path / "detector", classifier=tmp_path / "c.json").code == 0
    samples = sorted((strange / "traces").iterdir())
    _, lines = score(*cut, tmp_path / "detector", *samples)
    shown = barnum(
        "report", *cut, "-l", tmp_path / "c.json", "-w", "1", "-o", tmp_path / "r.html",
        "--json", tmp_path / "r.json", strange / "eval",
    )  # fmt: skip
    assert shown.code == 0, shown.err
    runs = {run["sample"]: run for run in json.loads((tmp_path / "r.json").read_text())["samples"]}
    for line in lines:
        first = runs[line["sample"]]["windows"][0]
        measure = "surprisal" if by in ("surprisal", "adjusted") else "novelty"
        assert line["by"] == by
        assert line["where"]["by"] == first["chosen_by"] == measure
        assert first["position"] <= line["where"]["step"] <= first["position_end"]
        # what was not judged is no place
        assert line["where"]["step"] < (5000 if line["cut"] else 6000)
    assert sum(line["cut"] for line in lines) == len(cut)


def test_a_score_of_ones_own_says_by_what_its_place_is_found(made, strange, tmp_path):
    SCORES.add("doubt", Doubt)
    try:
        saved = barnum("classifier", "--score", "doubt", "-s", tmp_path / "c.json", made / "eval")
        assert saved.code == 0, saved.err
        assert pack(made, tmp_path / "detector", classifier=tmp_path / "c.json").code == 0
        _, lines = score(tmp_path / "detector", *(strange / "traces").iterdir())
    finally:
        SCORES.remove("doubt")
    assert len(lines) == 2
    for line in lines:
        assert (line["by"], line["where"]["by"]) == ("doubt", "surprisal")
        assert line["where"]["step"] >= 3900


def test_names_need_not_be_utf_8(made, tmp_path):
    good = write_sample(tmp_path, "same.doc", "benign", nominal_path(3))
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/s9\xff"))
    good.rename(odd)
    ended, lines = score(made / "detector", odd)
    assert ended.code in (0, 22)
    assert len(lines) == 1
    assert "\\xff" in lines[0]["sample"] or "\\udcff" in lines[0]["sample"]


def test_an_empty_name_is_not_the_current_folder(made, tmp_path, monkeypatch):
    monkeypatch.chdir(write_sample(tmp_path, "same.doc", "benign", nominal_path(3)))
    assert score(made / "detector", ".")[0].code == 0
    for words in ((made / "detector", ""), (made / "detector", ".", ""), ("", ".")):
        ended, lines = score(*words)
        assert (ended.code, lines) == (2, [])
        assert "the name is empty: give that of a file or a folder" in ended.err
    ended, lines = score("--bin-dir", "", made / "detector", ".")
    assert (ended.code, lines) == (2, [])


def test_what_is_neither_file_nor_folder_is_no_sample(made, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for place in (tmp_path / "pipe", Path("/dev/null")):
        ended, (line,) = score(made / "detector", place)
        assert ended.code == 22
        assert line["error"].startswith(f"{place}: is no sample folder")
        assert "give the folder of a sample" in line["error"] and "report" not in line["error"]


def test_a_detector_of_traces_is_none_of_calls(detector):
    file = detector / "detector.json"
    told = json.loads(file.read_text())
    for calls in ({}, {"by_thread": True}, {"apart": 4}):
        file.write_text(json.dumps(told | {"calls": calls}))
        ended, lines = score(detector, detector)
        assert (ended.code, lines) == (20, [])
        assert "its `calls` does not fit the model" in ended.err
        assert len(ended.err.strip().splitlines()) == 1


def test_a_part_that_never_ends_is_refused(detector):
    (detector / "weights").unlink()
    os.mkfifo(detector / "weights")
    ended, _ = score(detector, detector)
    assert ended.code == 20


def test_a_reader_that_went_away_is_no_error(made, tmp_path):
    good = write_sample(tmp_path, "same.doc", "benign", nominal_path(3))
    command = "from barnum.cli.main import main; main()"
    words = ["score", str(made / "detector"), *[str(good)] * 3]
    for closing in (f"{sys.executable} -c {command!r} {' '.join(words)} | true", None):
        if closing:
            shell = f"set -o pipefail; {closing}"
            done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, check=False)
        else:
            shell = f"{sys.executable} -c {command!r} {' '.join(words)} >&-"
            done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr
