"""``barnum syscall`` as a user meets it, and calls as paths."""

import gzip
import hashlib
import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from barnum.calls import read_calls
from barnum.calls.path import LEARN, START, write_path
from barnum.paths import open_path, transfers
from learning import barnum

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


def test_options_without_effect_are_named(tree):
    ended = syscall("--epochs", "3", "--skip-eval", tree)
    assert ended.code == 0 and "--epochs has no effect" in ended.err
    ended = syscall("--network", "causal", "--no-overlap", "-s", "8", "--skip-eval", tree)
    assert ended.code == 0 and "--sequence-len has no effect" not in ended.err


def test_options_for_networks_are_refused(tree, tmp_path):
    ended = syscall("--resume", "--save-weights", tmp_path / "w", tree)
    assert ended.code == 2 and "is for networks" in ended.err
