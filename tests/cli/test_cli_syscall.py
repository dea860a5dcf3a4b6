"""``barnum syscall`` as a user meets it, and calls as paths."""

import gzip
import hashlib
import json
import os
import tracemalloc
import zlib
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from barnum.calls import Calls, read_calls
from barnum.calls.opened import Reported
from barnum.calls.path import LEARN, START, as_path, write_path
from barnum.calls.readers import report_names
from barnum.errors import SampleError, SetsError
from barnum.learning.rote.folds import judge_in_folds
from barnum.learning.rote.learner import RoteSpec
from barnum.models.networks.rote import lengths_up_to
from barnum.paths import open_path, transfers
from barnum.paths.opened import Decoded
from barnum.samples import Sample
from barnum.sequences import Tokens
from learning import barnum

SAME = "bcbbbbbbcbbbbcbbcbcbbcbcbbbcbccbbbbbbcbbbbbbccbbbbbbbcbcbcbbbbbb"
ALSO_SAME = "bbcccbbbbcccbbbbbbbbbbbbcbcbbbbbbbbccbbbbbcbbbcbbbcbbbbbcbbbbccb"
NAMES = [f"Nt{verb}{what}" for verb in ("Open", "Read", "Write", "Close") for what in ("File", "Key", "Port")]
FAST = ("-t", "1", "--train-size", "20", "--test-size-benign", "6", "--test-size-malicious", "3")


def calls_of(seed, count=400):
    """A program that goes through its calls in turns, now and then from another one on."""
    draw = np.random.default_rng(seed)
    at, made = 0, []
    for _ in range(count):
        made.append(NAMES[at % 8])
        at = at + 1 if draw.random() < 0.97 else int(draw.integers(0, 8))
    return made


def cuckoo(name, calls, other="explorer.exe"):
    """A report of Cuckoo 2 whose second process was given the document."""

    def process(pid, program, line, made):
        return {
            "pid": pid, "ppid": 4, "process_name": program, "process_path": f"C:\\bin\\{program}",
            "command_line": line, "calls": [{"api": call, "category": "x", "status": 1} for call in made],
        }  # fmt: skip

    processes = [
        process(11, other, other, ["NtOdd", "NtOdder"] * 50),
        process(12, "reader.exe", f"reader.exe {name}", calls),
    ]
    return json.dumps({"behavior": {"processes": processes}, "target": {"file": {"name": name}}})


def write_sample(root, name, label, content, file="report.json.gz"):
    folder = root / hashlib.sha256(name.encode()).hexdigest()
    folder.mkdir(parents=True)
    (folder / "info.txt").write_text(f"{name}\n{label}\n")
    data = content.encode()
    (folder / file).write_bytes(gzip.compress(data) if file.endswith(".gz") else data)
    return folder


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    root = tmp_path_factory.mktemp("calls") / "reports"
    for i in range(30):
        name = f"good-{i}.doc"
        if i % 3:
            write_sample(root, name, "benign", cuckoo(name, calls_of(i)))
        else:
            write_sample(root, name, "benign", "\n".join(calls_of(i)), "calls.txt")
    for i in range(3):
        made = calls_of(100 + i)
        made[200:200] = ["NtCreateThreadEx", *NAMES[8:], "NtWriteVirtualMemory"] * 10
        write_sample(root, f"bad-{i}.doc", "malicious", cuckoo(f"bad-{i}.doc", made))
    return root


def syscall(*arguments):
    return barnum("syscall", *FAST, *arguments)


@pytest.mark.parametrize("network", ["rote", "causal"])
def test_runs_with_calls_that_are_news_stand_out(tree, tmp_path, network):
    ended = syscall("--network", network, "--eval-dir", tmp_path / "eval", tree)
    assert ended.code == 0, ended.err
    surprise = {}
    for file in (tmp_path / "eval").iterdir():
        table = pq.read_table(file)
        surprise[file.name] = float(np.mean(table["surprisal"].to_numpy()))
        # each call is predicted, the first one too
        count = 400 + (60 if file.name.startswith("malicious") else 0)
        assert table.num_rows == count
    bad = [value for name, value in surprise.items() if name.startswith("malicious")]
    good = [value for name, value in surprise.items() if name.startswith("benign")]
    assert (len(bad), len(good)) == (3, 6)
    assert min(bad) > max(good)
    judged = barnum("classifier", "--method", "conformal", "--false-alarm-rate", "0.2", tmp_path / "eval")
    assert judged.code == 0 and "false negatives: 0 of 3" in judged.out, judged.err
    shown = barnum("report", tmp_path / "eval", "-o", tmp_path / "report.html")
    assert shown.code == 0, shown.err
    saved = tmp_path / "class.json"
    rate = ("--false-alarm-rate", "0.2")
    by = barnum("classifier", "--score", "surprisal", *rate, "-s", saved, tmp_path / "eval")
    assert by.code == 0 and "mean surprisal of a transfer, against 6 nominal runs" in by.out, by.err
    assert "false negatives: 0 of 3" in by.out and "AUC: 1.000" in by.out
    again = barnum("classifier", "-l", saved, tmp_path / "eval")
    assert again.code == 0 and "mean surprisal" in again.out
    page = barnum("report", tmp_path / "eval", "--score", "surprisal", "-f", "-o", tmp_path / "report.html")
    assert page.code == 0, page.err
    for options in (("-l", saved), ("--method", "svm")):
        refused = barnum("classifier", "--score", "surprisal", *options, tmp_path / "eval")
        assert refused.code == 2 and "--score is conformal's" in refused.err


def test_what_follows_speaks_of_calls_by_name(tree, tmp_path):
    evaluated = syscall("--eval-dir", tmp_path / "eval", tree)
    assert evaluated.code == 0, evaluated.err
    files = {form: tmp_path / f"report.{form}" for form in ("html", "json", "jsonl")}
    shown = barnum("report", tmp_path / "eval", "-o", files["html"], "--json", files["json"],
                   "--jsonl", files["jsonl"], "--traces", tree)  # fmt: skip
    assert shown.code == 0, shown.err
    report = json.loads(files["json"].read_text())
    assert report["calls"] is True
    assert not [sample["notes"] for sample in report["samples"] if sample["notes"]]
    places = [place["module"] for place in report["places"]]
    assert set(places) <= {*NAMES, START, "NtCreateThreadEx", "NtWriteVirtualMemory"}
    assert all(place["offset"] is None for place in report["places"])
    told = set()
    for sample in report["samples"]:
        for window in sample["windows"]:
            for call in window["transfers"]:
                before = None if call["source"] is None else places[call["source"]]
                told.add((sample["label"], before, places[call["actual"]]))
    assert ("malicious", "NtWriteVirtualMemory", "NtCreateThreadEx") in told
    assert ("malicious", "NtCreateThreadEx", NAMES[8]) in told
    lines = [json.loads(line) for line in files["jsonl"].read_text().splitlines()]
    assert lines and {line["name"] for line in lines} == {"barnum_anomalous_calls"}
    assert all(line["description"].startswith("Calls that") for line in lines)
    assert any(row["actual"]["name"] == "NtCreateThreadEx" for line in lines for row in line["data"])
    grouped = barnum("cluster", "--min-samples", "2", "--eps", "2", tmp_path / "eval")
    assert grouped.code == 0, grouped.err
    assert "NtCreateThreadEx" in grouped.out
    assert "module " not in grouped.out
    told = tmp_path / "clusters.json"
    listed = barnum("cluster", "--min-samples", "2", "--eps", "2", "--json", told, tmp_path / "eval")
    assert listed.code == 0, listed.err
    targets = [
        row["target"] for each in json.loads(told.read_text())["clusters"] for row in each["transfers"]
    ]
    assert "NtCreateThreadEx" in {target["module"] for target in targets}
    assert {target["offset"] for target in targets} == {None}


def test_a_model_that_was_saved_says_the_same(tree, tmp_path):
    files = ("--save-model", tmp_path / "m.json", "--save-weights", tmp_path / "w")
    first = syscall(*files, "-o", tmp_path / "sets", "--eval-dir", tmp_path / "one", tree)
    assert first.code == 0, first.err
    used = ("--use-model", tmp_path / "m.json", "--use-weights", tmp_path / "w", "-i", tmp_path / "sets")
    again = syscall(*used, "--eval-dir", tmp_path / "two", tree)
    assert again.code == 0, again.err
    for file in (tmp_path / "one").iterdir():
        assert pq.read_table(file).equals(pq.read_table(tmp_path / "two" / file.name))


def test_another_process_is_chosen_by_name(tree, tmp_path):
    ended = syscall("--process", "Explorer.EXE", "--skip-eval", tree)
    # the plain lists have no processes
    assert ended.code > 9 or "skipped" in ended.err
    none = syscall("--process", "word.exe", "--skip-eval", tree)
    assert none.code > 9
    assert "word.exe" in none.err


def test_children_are_judged_when_asked(tmp_path):
    for number in range(2):
        report = json.loads(cuckoo("a.doc", calls_of(number, 40)))
        started = {"pid": 13, "ppid": 12, "process_name": "cmd.exe", "command_line": "cmd.exe"}
        report["behavior"]["processes"].append({**started, "calls": [{"api": "NtStart"}] * 7})
        write_sample(tmp_path / "reports", f"a{number}.doc", "benign", json.dumps(report))
    sizes = ("--train-size", "1", "--test-size-benign", "1", "--test-size-malicious", "0")
    for options, calls in (((), 40), (("--children",), 47)):
        to = tmp_path / f"eval{calls}"
        ended = barnum("syscall", "-t", "1", *sizes, *options, "--eval-dir", to, tmp_path / "reports")
        assert ended.code == 0, ended.err
        [file] = to.iterdir()
        table = pq.read_table(file)
        assert table.num_rows == calls


def test_windows_may_lie_apart(tree, tmp_path):
    ended = syscall("--no-overlap", "-s", "10", "--eval-dir", tmp_path / "eval", tree)
    assert ended.code == 0, ended.err
    rows = {pq.read_metadata(file).num_rows for file in (tmp_path / "eval").glob("benign-*")}
    assert rows == {40}


def test_a_report_without_calls_is_named(tree, tmp_path):
    for folder in tree.iterdir():
        (tmp_path / folder.name).symlink_to(folder)
    empty = write_sample(tmp_path, "empty.doc", "benign", cuckoo("empty.doc", []).replace("NtOdd", ""))
    ended = syscall("--skip-eval", tmp_path)
    assert ended.code == 0, ended.err
    assert str(empty) in ended.err and "skipped" in ended.err


def test_folders_without_reports_are_said(tmp_path):
    folder = tmp_path / "one"
    folder.mkdir()
    (folder / "info.txt").write_text("x.doc\nbenign\n")
    ended = syscall("--skip-eval", tmp_path)
    assert ended.code > 9
    assert "has no report of a sandbox" in ended.err


def test_calls_become_a_path(tmp_path):
    report = tmp_path / "r.json"
    report.write_text(cuckoo("a.doc", ["A", "B", "A", "C"]))
    calls = read_calls(report, None, "a.doc")
    assert write_path(calls, tmp_path / "p.parquet") == 5
    path = open_path(tmp_path / "p.parquet")
    found = transfers(path, LEARN)
    names = [path.blocks.modules[path.blocks.module[block]] for block in found.target]
    assert names == ["A", "B", "A", "C"]
    assert path.blocks.modules[path.blocks.module[found.source[0]]] == START
    assert found.first.tolist() == [True, False, False, False]
    assert len(set(path.blocks.bbid.tolist())) == 4
    write_path(calls, tmp_path / "apart.parquet", apart=2)
    found = transfers(open_path(tmp_path / "apart.parquet"), LEARN)
    names = [
        path.blocks.modules[open_path(tmp_path / "apart.parquet").blocks.module[block]]
        for block in found.target
    ]
    assert names == ["B", "C"]


def test_names_that_adler_32_does_not_tell_apart(tmp_path):
    # 01 and 10 at both ends: the same sums
    names = ["abBAyz", "abCyyz", "NtA", "NtB"]
    report = tmp_path / "calls.txt"
    report.write_text("\n".join(names))
    write_path(read_calls(report), tmp_path / "p.parquet")
    assert len(set(open_path(tmp_path / "p.parquet").blocks.bbid.tolist())) == 5


def test_names_that_no_checksum_tells_apart(tmp_path):
    # made up: the same Adler-32 and the same CRC-32
    names = [SAME, ALSO_SAME]
    assert len({zlib.crc32(name.encode()) for name in names}) == 1
    assert len({zlib.adler32(name.encode()) for name in names}) == 1
    report = tmp_path / "calls.txt"
    report.write_text("\n".join([*names, START]))
    blocks = as_path(read_calls(report)).blocks
    assert len(set(blocks.bbid.tolist())) == len(blocks) == 4
    # as docs/formats.md says
    wanted = [hashlib.sha256(name.encode()).digest()[:8] for name in ("", *names, START)]
    assert [number.to_bytes(8, "big") for number in blocks.bbid.tolist()] == wanted


@pytest.mark.parametrize("apart", [None, 1, 3, 7])
def test_pieces_of_a_path_are_those_of_the_whole(tmp_path, monkeypatch, apart):
    report = tmp_path / "calls.csv"
    made = "".join(f"A{number * number % 11},{number * number % 5}\n" for number in range(100))
    report.write_text("api,pid\n" + made.replace(",4\n", ",1\n"))
    calls = read_calls(report, "pid:1", threads=True)
    calls = replace(calls, first=np.arange(len(calls.call)) % 13 == 0)
    whole = as_path(calls, apart)
    assert int((whole.gap > 0).sum()) == int(calls.first.sum())
    for piece in (1, 2, 5, 13, 14):
        monkeypatch.setattr("barnum.calls.path._PIECE", piece)
        parts = as_path(calls, apart)
        for name in ("block", "gap", "stream"):
            assert np.array_equal(getattr(parts, name), getattr(whole, name))


def repeated(count):
    """A report of CAPE with so many entries, each of which stands for 65,536 calls."""
    calls = [{"api": f"Nt{number % 2}", "repeated": 65535} for number in range(count)]
    return json.dumps({"behavior": {"processes": [{"process_id": 1, "calls": calls}]}})


def test_writing_a_path_takes_little_memory(tmp_path):
    report = tmp_path / "r.json"
    # 4 million calls
    report.write_text(repeated(62))
    calls = read_calls(report)
    tracemalloc.start()
    try:
        write_path(calls, tmp_path / "p.parquet")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # a few pieces of a million; of all at once it were 40 bytes a call
    assert len(calls.call) > 4_000_000
    assert peak < 20 * len(calls.call)


def reported(folder):
    return Reported(folder)


def test_folders_of_one_name_are_told_apart(tmp_path):
    samples = []
    for place, calls in (("a", "NtOpen\n" * 3), ("b", "NtEvil\n" * 5)):
        folder = tmp_path / place / "same"
        folder.mkdir(parents=True)
        (folder / "info.txt").write_text("x.doc\nbenign\n")
        (folder / "calls.txt").write_text(calls)
        samples.append(Sample.open(folder, reports=report_names()))
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    source = reported(scratch)
    for _ in range(2):
        counts = []
        for sample in samples:
            with source.opener(sample)() as path:
                counts.append((path.rows, path.blocks.modules[1]))
        assert counts == [(4, "NtOpen"), (6, "NtEvil")]
    assert len(list(scratch.iterdir())) == 2
    source.forget(samples[0])
    assert len(list(scratch.iterdir())) == 1
    decoded = Decoded(scratch, preprocessed=False)
    files = {decoded._file(sample) for sample in samples}
    assert len(files) == 2 and files == {decoded._file(sample) for sample in samples}


def test_long_names_of_folders(tmp_path):
    calls = "\n".join(calls_of(3))
    for number in range(2):
        folder = tmp_path / (f"{number}" + "n" * 249)
        folder.mkdir()
        (folder / "info.txt").write_text("x.doc\nbenign\n")
        (folder / "calls.txt").write_text(calls)
    sizes = ("--train-size", "1", "--test-size-benign", "1", "--test-size-malicious", "0")
    ended = barnum("syscall", "-t", "1", *sizes, "--skip-eval", tmp_path)
    assert ended.code == 0, ended.err


def test_a_sample_that_cannot_be_used_is_skipped_with_one_line(tree, tmp_path):
    for folder in tree.iterdir():
        (tmp_path / folder.name).symlink_to(folder)
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe"))
    odd.mkdir()
    (odd / "info.txt").write_text("x.doc\nbenign\n")
    (odd / "calls.txt").write_text("NtClose\n")
    half = write_sample(tmp_path, "half.doc", "benign", cuckoo("half.doc", ["A", "\udfff"]))
    many = write_sample(tmp_path, "many.doc", "benign", repeated(1025))
    ended = syscall("--skip-eval", tmp_path)
    assert ended.code == 0, ended.err
    skipped = [line for line in ended.err.splitlines() if "skipped" in line]
    assert len([line for line in skipped if "its name is no UTF-8" in line]) == 1
    assert len([line for line in skipped if str(many) in line and "more than 67,108,864 calls" in line]) == 1
    assert len(skipped) == 2
    assert str(half) not in ended.err


def test_a_path_that_takes_all_memory_is_one_line(tmp_path, monkeypatch):
    folder = write_sample(tmp_path, "a.doc", "benign", "NtClose\n", "calls.txt")
    (tmp_path / "scratch").mkdir()

    def starve(*_):
        raise MemoryError

    monkeypatch.setattr("barnum.calls.path._chunks", starve)
    with (
        pytest.raises(SampleError, match="needs more memory than there is"),
        reported(tmp_path / "scratch").opener(Sample.open(folder, reports=report_names()))(),
    ):
        pass


def test_options_without_effect_are_named(tree):
    ended = syscall("--epochs", "3", "--skip-eval", tree)
    assert ended.code == 0 and "--epochs has no effect" in ended.err
    ended = syscall("--network", "causal", "--no-overlap", "-s", "8", "--skip-eval", tree)
    assert ended.code == 0 and "--sequence-len has no effect" not in ended.err


def test_options_for_networks_are_refused(tree, tmp_path):
    ended = syscall("--resume", "--save-weights", tmp_path / "w", tree)
    assert ended.code == 2 and "is for networks" in ended.err


def test_folds_judge_each_training_run_by_the_others(tree, tmp_path):
    """Calibration by training runs alone, for which nothing is held out."""
    sizes = ("-t", "1", "--train-size", "24", "--test-size-benign", "0", "--test-size-malicious", "3")
    files = ("--save-model", tmp_path / "m.json", "--save-weights", tmp_path / "w")
    ended = barnum("syscall", *sizes, "--folds", "4", *files, "--eval-dir", tmp_path / "eval", tree)
    assert ended.code == 0, ended.err
    assert "24 samples judged by 4 learners of the others" in ended.out
    document = json.loads((tmp_path / "m.json").read_text())
    runs = document["calibration"]["runs"]
    assert len(runs) == 24
    # what was learnt by heart is not; and each has its 400 calls after the start of its process
    assert all(surprisal > 0.05 and (calls, distinct) == (400, 8) for surprisal, calls, distinct in runs)
    for score, said in (("surprisal", "mean surprisal"), ("adjusted", "not adjusted")):
        judged = barnum("classifier", "--score", score, "--false-alarm-rate", "0.05", tmp_path / "eval")
        assert judged.code == 0, judged.err
        assert f"{said}" in judged.out
        assert "against 24 nominal runs" in judged.out
        assert "false negatives: 0 of 3" in judged.out


def test_folds_are_the_same_whatever_the_order_and_twins_stay_together(tmp_path):
    spec = RoteSpec(learn=LEARN, tokens=Tokens(), lengths=lengths_up_to(8))

    def opener(calls):
        names = tuple(dict.fromkeys(calls))
        which = np.array([names.index(call) for call in calls], np.uint32)
        first = np.arange(len(calls)) == 0
        made = as_path(Calls(names, which, first, (), "only", (), "sequence", None, False, 0))
        return lambda: nullcontext(made)

    rare = ["NtRare", *NAMES] * 3
    made = [calls_of(1, 60), calls_of(2, 60), rare, calls_of(3, 60), rare, []]
    samples = [(str(i), opener(calls)) for i, calls in enumerate(made)]
    steps = []
    runs = judge_in_folds(spec, samples, 3, 1, lambda: steps.append(1))
    # one of no calls is left out
    assert len(runs) == 5
    assert len(steps) == 3 * 5
    assert runs[2] == runs[4]
    assert runs[2].surprisal > 2 * max(runs[i].surprisal for i in (0, 1, 3))
    turned = judge_in_folds(spec, samples[::-1], 3, 1)
    assert [run.transfers for run in turned[::-1]] == [run.transfers for run in runs]
    assert np.allclose([run.surprisal for run in turned[::-1]], [run.surprisal for run in runs], rtol=0.2)
    with pytest.raises(SetsError, match="at least 2 different"):
        judge_in_folds(spec, [samples[2], samples[4], samples[5]], 3, 1)


def test_folds_belong_to_the_rote_learner(tree, tmp_path):
    ended = barnum("syscall", *FAST, "--network", "causal", "-e", "1", "--units", "8", "--folds", "3", tree)
    assert ended.code == 0, ended.err
    assert "--folds has no effect" in ended.err
    for count in ("1", "-1", "x"):
        assert barnum("syscall", *FAST, "--folds", count, tree).code == 2


@pytest.mark.parametrize(
    "runs", [[[-1.0, 5, 2]], [[1.0, 0, 2]], [[1.0, 5]], [[1.0, 5, 2, 3]], "many", [[1e300, 5, 2]]]
)
def test_forged_runs_of_folds_are_refused(tree, tmp_path, runs):
    files = ("--save-model", tmp_path / "m.json", "--save-weights", tmp_path / "w")
    assert barnum("syscall", *FAST, *files, "--skip-eval", "--skip-test", tree).code == 0
    document = json.loads((tmp_path / "m.json").read_text())
    document["calibration"]["runs"] = runs
    (tmp_path / "m.json").write_text(json.dumps(document))
    used = ("--use-model", tmp_path / "m.json", "--use-weights", tmp_path / "w")
    ended = barnum("syscall", *FAST[:2], *FAST[4:], *used, "--eval-dir", tmp_path / "eval", tree)
    assert ended.code == 20
    assert len(ended.err.strip().splitlines()) == 1
    assert "m.json" in ended.err
