"""``barnum pack`` and ``barnum score`` on reports of calls."""

import gzip
import hashlib
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

from learning import barnum, lstm, nominal_path, unchanged, write_sample, write_tree

NAMES = [f"Nt{verb}{what}" for verb in ("Open", "Read", "Write", "Close") for what in ("File", "Key", "Port")]
EVIL = "NtWriteVirtualMemory"
SIZES = ("--train-size", "16", "--test-size-benign", "6", "--test-size-malicious", "2", "-t", "1")


def calls_of(seed, count=300, evil=0, jumps=0.03):
    """A program that goes through its calls in turns, now and then from another one on; ``evil`` calls that
    it never makes stand in the middle."""
    draw = np.random.default_rng(seed)
    at, made = 0, []
    for _ in range(count):
        made.append(NAMES[at % 8])
        at = at + 1 if draw.random() >= jumps else int(draw.integers(0, 8))
    made[count // 2 : count // 2] = [EVIL, *NAMES[8:]] * evil
    return made


def report_of(name, calls, before=()):
    """A report of Cuckoo 2 whose last process was given the document."""
    processes = [
        {
            "pid": pid, "ppid": 4, "process_name": program, "process_path": f"C:\\bin\\{program}",
            "command_line": line,
            "calls": [{"api": call, "category": "x", "status": 1, "tid": 1 + n % 2}
                      for n, call in enumerate(made)],
        }
        for pid, program, line, made in (
            (11, "explorer.exe", "explorer.exe", before or ["NtOdd"] * 40),
            (12, "reader.exe", f"reader.exe {name}", calls),
        )
    ]  # fmt: skip
    return json.dumps({"target": {"file": {"name": name}}, "behavior": {"processes": processes}})


def reported(root, name, label, content, file="report.json"):
    folder = root / hashlib.sha256(name.encode()).hexdigest()
    folder.mkdir(parents=True)
    if label is not None:
        (folder / "info.txt").write_text(f"{name}\n{label}\n")
    write(folder / file, content)
    return folder


def write(file, content):
    data = content.encode()
    file.write_bytes(gzip.compress(data, mtime=0) if file.name.endswith(".gz") else data)
    return file


def tree_of(root):
    for number in range(22):
        name = f"good-{number}.doc"
        if number % 2:
            reported(root, name, "benign", report_of(name, calls_of(number)), "report.json.gz")
        else:
            reported(root, name, "benign", "\n".join(calls_of(number)), "calls.txt")
    for number in range(2):
        name = f"bad-{number}.doc"
        reported(root, name, "malicious", report_of(name, calls_of(100 + number, evil=12 + number)))
    return root


def learn(folder, tree, *options, classifier=("--false-alarm-rate", "0.15"), packing=()):
    """Evaluations, a classifier and the detector of both in a folder."""
    files = ("--save-model", folder / "m.json", "--save-weights", folder / "w")
    learnt = barnum("syscall", *SIZES, *options, *files, "--eval-dir", folder / "eval", tree)
    assert learnt.code == 0, learnt.err
    saved = barnum("classifier", *classifier, "-s", folder / "class.json", folder / "eval")
    assert saved.code == 0, saved.err
    packed = pack(folder, folder / "detector", *packing)
    assert packed.code == 0, packed.err
    return folder


def pack(folder, to, *options):
    model = ("--use-model", folder / "m.json", "--use-weights", folder / "w")
    return barnum("pack", *options, *model, "-l", folder / "class.json", to)


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    return tree_of(tmp_path_factory.mktemp("calls") / "reports")


@pytest.fixture(scope="module")
def made(tree, tmp_path_factory):
    return learn(tmp_path_factory.mktemp("detector"), tree)


@pytest.fixture(scope="module")
def traced(tmp_path_factory):
    """A detector of traces."""
    folder = tmp_path_factory.mktemp("traced")
    tree = write_tree(folder / "traces", 24, 1)
    learnt = lstm(
        "-p", "-e", "1", "--units", "8", "-t", "1", "--train-size", "20", "--test-size-benign", "4",
        "--test-size-malicious", "1", "--save-model", folder / "m.json", "--save-weights", folder / "w",
        "--eval-dir", folder / "eval", tree,
    )  # fmt: skip
    assert learnt.code == 0, learnt.err
    assert barnum("classifier", "-s", folder / "class.json", folder / "eval").code == 0
    packed = pack(folder, folder / "detector")
    assert packed.code == 0, packed.err
    return folder


def score(*arguments):
    ended = barnum("score", *arguments)
    assert "Traceback" not in ended.err
    return ended, [json.loads(line) for line in ended.out.splitlines()]


def verdicts_of(folder, *options):
    """What the classifier says of the evaluations, by sample."""
    told = folder / "told.json"
    judged = barnum("classifier", "-l", folder / "class.json", "--json", told, *options, folder / "eval")
    assert judged.code == 0, judged.err
    return {run["sample"]: run for run in json.loads(told.read_text())["runs"]}


def check_like_the_classifier(folder, tree, scored="novelty_window"):
    runs = verdicts_of(folder)
    ended, lines = score(folder / "detector", *(tree / name for name in runs))
    assert ended.code == 0, ended.out
    assert [line["sample"] for line in lines] == list(runs)
    for line in lines:
        run = runs[line["sample"]]
        for key in ("verdict", "score", "p_value", "transfers", "name", "cut"):
            assert line[key] == run[key], key
        if scored is not None:
            assert line["score"] == run[scored]
    assert {line["verdict"] for line in lines if runs[line["sample"]]["label"] == "malicious"} == {
        "anomalous"
    }
    return lines


@pytest.mark.parametrize(
    ("options", "packing"),
    [
        (("--network", "causal", "-e", "1", "--units", "8"), ()),
        (("--by-thread",), ("--by-thread",)),
        (("--no-overlap", "-s", "4"), ("--no-overlap", "--sequence-len", "4")),
        (("--vocabulary", "modulo"), ()),
    ],
)
def test_other_ways_to_learn(tree, tmp_path, options, packing):
    folder = learn(tmp_path, tree, *options, packing=packing)
    assert len(check_like_the_classifier(folder, tree)) == 8


def test_verdicts_are_those_of_the_classifier(made, tree):
    lines = check_like_the_classifier(made, tree)
    assert len(lines) == 8
    assert {line["by"] for line in lines} == {"novelty"}


def test_two_ways_to_be_strange_are_judged_as_by_the_classifier(tree, tmp_path):
    rate = ("--false-alarm-rate", "0.2")
    folder = learn(tmp_path, tree, "--folds", "4", classifier=("--score", "combined", *rate))
    saved = json.loads((folder / "class.json").read_text())
    # training runs, judged in folds, and those held out
    assert len(saved["state"]["scores"]) == len(saved["state"]["ways"]["novelty"]) > 6
    for line in check_like_the_classifier(folder, tree, None):
        assert (line["method"], line["by"]) == ("conformal", "combined")


@pytest.mark.parametrize(("by", "scored"), [("surprisal", "surprisal"), ("adjusted", None)])
def test_surprisal_is_what_is_printed_where_it_is_judged_by(tree, tmp_path, by, scored):
    folder = learn(tmp_path, tree, classifier=("--score", by, "--false-alarm-rate", "0.2"))
    lines = check_like_the_classifier(folder, tree, scored)
    for line in lines:
        assert (line["method"], line["by"], line["where"]["by"]) == ("conformal", by, "surprisal")
        if line["verdict"] == "anomalous":
            assert line["score"] > line["threshold"]
            # 65 strange calls stand in the middle
            assert 150 < line["where"]["step"] <= 216
            assert line["where"]["call"] in (EVIL, *NAMES)


def test_folders_and_files_plain_and_packed_say_the_same(made, tmp_path):
    calls = calls_of(500, evil=3, jumps=0)
    content = report_of("x.doc", calls)
    places = [
        reported(tmp_path / "a", "x.doc", "benign", content),
        reported(tmp_path / "b", "x.doc", "malicious", content, "report.json.gz"),
        reported(tmp_path / "c", "x.doc", None, content),
        write(tmp_path / "whatever.bin", content),
        write(tmp_path / "x.gz", content),
    ]
    with unchanged(made / "detector", *places):
        ended, lines = score(made / "detector", *places)
    assert ended.code == 0, ended.out
    assert [line["sample"] for line in lines] == [place.name for place in places]
    assert [line["folder"] for line in lines] == [str(place) for place in places]
    for line in lines:
        assert line["name"] == "x.doc"
        assert line["processes"] == [{"name": "reader.exe", "pid": 12}]
        assert line["chosen_by"] == "command line"
        assert line["verdict"] == "anomalous"
        # the first call that training never saw, counted from 1
        assert line["where"] == {"by": "novelty", "step": 151, "call": EVIL}
        assert line["transfers"] == len(calls)
        assert line["score"] == lines[0]["score"]
        assert (line["lost"], line["cut"]) == (None, False)
    # lists of names tell of no document and no process
    for file in (
        write(tmp_path / "calls.txt", "\n".join(calls)),
        write(tmp_path / "list.csv", "\n".join(["api", *calls])),
    ):
        _, (line,) = score(made / "detector", file)
        assert line["score"] == lines[0]["score"]
        assert line["name"] is None and "processes" not in line and "chosen_by" not in line


def test_a_name_without_a_label_is_enough(made, tmp_path):
    folder = reported(tmp_path, "y.doc", None, report_of("y.doc", calls_of(501)), "report.json.gz")
    (folder / "info.txt").write_text("y.doc\n")
    ended, (line,) = score(made / "detector", folder)
    assert (ended.code, line["name"], line["verdict"]) == (0, "y.doc", "nominal")
    (folder / "info.txt").write_text("")
    assert score(made / "detector", folder)[1][0]["processes"] == [{"name": "reader.exe", "pid": 12}]


def test_another_process_is_chosen_by_name(made, tmp_path):
    file = write(tmp_path / "r.json", report_of("x.doc", calls_of(502), before=["NtOdd"] * 50))
    for process in ("Explorer.EXE", "pid:11"):
        _, (line,) = score("--process", process, made / "detector", file)
        assert line["processes"] == [{"name": "explorer.exe", "pid": 11}]
        assert line["chosen_by"] == "process"
        assert (line["transfers"], line["where"]["call"]) == (50, "NtOdd")
    ended, (line,) = score("--process", "word.exe", made / "detector", file)
    assert ended.code == 22
    assert "holds no call of 'word.exe'" in line["error"] and "reader.exe" in line["error"]


def test_a_guess_is_called_one(made, tmp_path):
    report = json.loads(report_of("x.doc", calls_of(502), before=["NtOdd"] * 50))
    report["target"]["file"]["name"] = "another.doc"
    _, (line,) = score(made / "detector", write(tmp_path / "r.json", json.dumps(report)))
    assert line["chosen_by"] == "guess"
    report["target"]["file"]["name"] = "reader.exe"
    _, (line,) = score(made / "detector", write(tmp_path / "r.json", json.dumps(report)))
    assert line["chosen_by"] == "program"
    # where processes have no names, that one was guessed is told all the same
    nameless = {"behavior": {"processes": [{"calls": [{"api": "A"}] * 9}] * 2}}
    _, (line,) = score(made / "detector", write(tmp_path / "r.json", json.dumps(nameless)))
    assert "processes" not in line and line["chosen_by"] == "guess"
    # nothing to look for, and nothing to choose from
    del report["target"]
    report["behavior"]["processes"] = report["behavior"]["processes"][-1:]
    _, (line,) = score(made / "detector", write(tmp_path / "r.json", json.dumps(report)))
    assert line["chosen_by"] == "only"


def test_what_was_started_counts_where_it_was_learnt_so(made, tree, tmp_path):
    report = json.loads(report_of("x.doc", calls_of(511, jumps=0)))
    child = {"pid": 13, "ppid": 12, "process_name": "sh.exe", "calls": [{"api": EVIL}] * 7}
    report["behavior"]["processes"].append(child)
    file = write(tmp_path / "r.json", json.dumps(report))
    _, (line,) = score(made / "detector", file)
    assert (line["transfers"], line["verdict"]) == (300, "nominal")
    (tmp_path / "with").mkdir()
    folder = learn(tmp_path / "with", tree, "--children", packing=("--children",))
    _, (line,) = score(folder / "detector", file)
    assert line["transfers"] == 307
    assert [process["name"] for process in line["processes"]] == ["reader.exe", "sh.exe"]
    # behind the 300 calls of the first process, and the start of the second
    assert line["where"] == {"by": "novelty", "step": 302, "call": EVIL}


def test_what_cannot_be_judged_does_not_stop_the_others(made, traced, tmp_path):
    content = report_of("x.doc", calls_of(503))
    good = write(tmp_path / "good.json", content)
    trace = write_sample(tmp_path, "t.doc", "benign", nominal_path(3))
    (tmp_path / "nothing").mkdir()
    os.mkfifo(tmp_path / "pipe")
    deep = "[" * 100_000
    wrong = {
        trace: "holds a recorded trace and no report",
        trace / "trace_parsed.parquet": "binary data",
        tmp_path / "nothing": "holds no report of a sandbox",
        tmp_path / "none": "no such file or folder",
        tmp_path / ("n" * 300): "cannot be read",
        tmp_path / "pipe": "not a regular file",
        write(tmp_path / "empty.json", ""): "is empty",
        write(tmp_path / "silent.json", report_of("x.doc", []).replace("NtOdd", "")): "holds no call",
        write(tmp_path / "other.json", "{}"): "without behavior.processes",
        write(tmp_path / "deep.json", '{"behavior": {"processes": [' + deep): "levels of nested JSON",
        write(tmp_path / "cut.json", content[:200]): "breaks off before any call",
    }
    ended, lines = score(made / "detector", *wrong, good)
    assert ended.code == 22
    assert f"{len(wrong)} of {len(wrong) + 1} samples could not be judged" in ended.err
    for line, (place, why) in zip(lines, wrong.items(), strict=False):
        assert line["folder"] == str(place)
        assert why in line["error"] and "\n" not in line["error"]
    assert lines[-1]["verdict"] == "nominal"
    # and the other way round
    folder = reported(tmp_path / "f", "x.doc", "benign", content)
    ended, lines = score(traced / "detector", folder, good, trace)
    assert ended.code == 22
    assert "this detector was learnt from traces" in lines[0]["error"]
    assert "this detector judges recorded traces" in lines[1]["error"]
    assert lines[2]["verdict"] == "nominal"
    # a folder that holds both suits both
    shutil.copy(good, trace / "report.json")
    for detector in (made / "detector", traced / "detector"):
        assert score(detector, trace)[1][0]["verdict"] == "nominal"


# without its capabilities, root may read no more than others
POWERLESS = """
import ctypes
from barnum.cli.main import main
head, none = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
assert ctypes.CDLL(None).capset(head, none) == 0
main()
"""


def powerless(closed, *arguments):
    """Score, while nobody may read a file or folder."""
    words = [sys.executable, "-c", POWERLESS, "score", *map(str, arguments)]
    mode = closed.stat().st_mode
    closed.chmod(0)
    try:
        ended = subprocess.run(words, capture_output=True, text=True, check=False)
    finally:
        closed.chmod(mode)
    assert "Traceback" not in ended.stderr
    return ended, [json.loads(line) for line in ended.stdout.splitlines()]


@pytest.mark.parametrize("traces", [False, True])
def test_what_may_not_be_read_does_not_stop_the_others(made, traced, tmp_path, traces):
    if traces:
        detector = traced / "detector"
        good, closed = (write_sample(tmp_path, f"{n}.doc", "benign", nominal_path(n)) for n in (3, 4))
        inner = closed / "inner"
    else:
        detector = made / "detector"
        good, closed = (write(tmp_path / f"{n}", report_of("x.doc", calls_of(n))) for n in (519, 520))
        inner = reported(tmp_path, "x.doc", None, "", "nothing")
        (inner / "report.json").hardlink_to(closed)
    ended, lines = powerless(closed, detector, closed, good, inner)
    assert ended.returncode == 22, ended.stderr
    for line, place in zip((lines[0], lines[2]), (closed, inner), strict=True):
        assert line["folder"] == str(place)
        assert line["error"].startswith(str(place)) and "cannot be read (Permission denied)" in line["error"]
    assert lines[1]["verdict"] == "nominal"


@pytest.mark.parametrize("closed", [".", "detector.json", "weights", ".."])
def test_a_detector_that_may_not_be_read(made, tmp_path, closed):
    detector = tmp_path / "outer" / "detector"
    shutil.copytree(made / "detector", detector)
    ended, lines = powerless((detector / closed).resolve(), detector, tmp_path)
    assert (ended.returncode, lines) == (20, [])
    assert "cannot be read (Permission denied)" in ended.stderr
    assert len(ended.stderr.strip().splitlines()) == 1


def test_a_report_that_breaks_off_is_judged_by_how_it_begins(made, tmp_path):
    content = report_of("x.doc", calls_of(504, evil=3, jumps=0))
    whole = score(made / "detector", write(tmp_path / "whole.json", content))[1][0]
    half = write(tmp_path / "half.json", content[: len(content) * 9 // 10])
    # the rest might show that another process is meant
    why = "its report breaks off, so that calls are missing: let the sandbox write it anew"
    for named in ((), ("--process", "reader.exe")):
        ended, (line,) = score("--fail-on-anomaly", *named, made / "detector", half)
        assert (ended.code, line["verdict"], line["refused"]) == (22, "refused", why)
    # a list of calls has one process alone; half a name at its end is none
    names = "\n".join(calls_of(504, evil=3, jumps=0))
    packed = gzip.compress(names.encode(), 0)
    (tmp_path / "calls.txt.gz").write_bytes(packed[:-30])
    ended, (line,) = score(made / "detector", tmp_path / "calls.txt.gz")
    assert (line["verdict"], line["incomplete"], line["score"]) == ("anomalous", why, whole["score"])


def test_a_report_that_breaks_off_is_not_judged(made, tmp_path):
    content = report_of("x.doc", calls_of(504, evil=3, jumps=0))
    half = write(tmp_path / "half.json", content[: len(content) * 9 // 10])
    ended, (line,) = score(made / "detector", half)
    assert (ended.code, line["verdict"]) == (0, "refused")
    assert "breaks off" in line["refused"] and "time limit" not in line["refused"]
    assert "calls before are kept" in ended.err
    assert line["where"]["call"] == EVIL
    assert score("--fail-on-anomaly", made / "detector", half)[0].code == 22


def test_reports_are_bounded(made, tmp_path):
    calls = [{"api": f"Nt{number % 2}", "repeated": 65535} for number in range(1025)]
    report = json.dumps({"behavior": {"processes": [{"process_id": 1, "calls": calls}]}})
    ended, (line,) = score(made / "detector", write(tmp_path / "many.json.gz", report))
    assert ended.code == 22
    assert "more than 67,108,864 calls" in line["error"]


def test_what_a_link_leads_to_is_judged_and_not_shown(made, tmp_path):
    secret = write(tmp_path / "secret", report_of("x.doc", calls_of(505, evil=2, jumps=0)))
    shown = score(made / "detector", secret)[1][0]
    folder = tmp_path / "sample"
    folder.mkdir()
    (folder / "report.json").symlink_to(secret)
    ended, (line,) = score(made / "detector", folder)
    assert (ended.code, line["score"], line["verdict"]) == (0, shown["score"], "anomalous")
    assert line["where"] == {"by": "novelty", "step": 151, "call": None}
    assert line["name"] is None and "processes" not in line and "chosen_by" not in line
    assert EVIL not in ended.out and "reader" not in ended.out
    ended, (line,) = score("--process", "word.exe", made / "detector", folder)
    assert ended.code == 22 and "holds no call of 'word.exe'" in line["error"]
    assert "reader" not in ended.out + ended.err


def test_names_are_shown_as_json(made, tmp_path):
    odd = "Nt\x1b[31m\udfff"
    file = tmp_path / os.fsdecode(b"r\xff.json")
    write(file, report_of("x.doc", [*calls_of(506, jumps=0), *[odd] * 3]))
    ended, (line,) = score(made / "detector", file)
    assert ended.code == 0, ended.out
    assert "\x1b" not in ended.out
    assert line["where"]["call"] == "Nt\x1b[31m\ufffd"
    assert "\\xff" in line["sample"] or "\\udcff" in line["sample"]


def test_nothing_that_a_terminal_obeys_is_printed(made, tmp_path):
    odd = "Nt\u009b31m\u202e\u2066\x7f\U000e0041 ä文😀"
    file = write(tmp_path / "r\u202efdp.json", report_of("x.doc", [*calls_of(512, jumps=0), *[odd] * 3]))
    ended, (line,) = score(made / "detector", file)
    assert ended.code == 0, ended.out
    assert ended.out[:-1].isprintable()
    assert line["where"]["call"] == odd
    assert line["folder"] == str(file)
    for readable in ("ä文😀", "\\u202e", "\\u009b", "\\udb40\\udc41"):
        assert readable in ended.out


def test_an_info_that_is_a_link_is_not_shown(made, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("hash\nbenign\n")
    calls = "\n".join(calls_of(513))
    folder = reported(tmp_path, "y.doc", None, calls, "calls.txt")
    for target in (secret, tmp_path / "none", tmp_path):
        (folder / "info.txt").symlink_to(target)
        ended, (line,) = score(made / "detector", folder)
        (folder / "info.txt").unlink()
        assert (ended.code, line["name"], line["verdict"]) == (0, None, "nominal")
        assert "hash" not in ended.out + ended.err


@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf"])
def test_an_info_may_begin_with_a_byte_order_mark(made, tmp_path, start):
    # the document's name is what tells whose calls are taken
    report = json.loads(report_of("y.doc", calls_of(514)))
    del report["target"]
    folder = reported(tmp_path, "y.doc", None, json.dumps(report))
    (folder / "info.txt").write_bytes(start + b"y.doc\r\n")
    ended, (line,) = score(made / "detector", folder)
    assert (ended.code, line["name"], ended.err) == (0, "y.doc", "")
    assert line["processes"] == [{"name": "reader.exe", "pid": 12}]


def test_names_are_cut(made, tmp_path):
    report = report_of("x.doc", calls_of(515)).replace("reader.exe", "r" * 30_000)
    _, (line,) = score("--process", "pid:12", made / "detector", write(tmp_path / "r.json", report))
    assert line["processes"] == [{"name": "r" * 260, "pid": 12}]
    folder = reported(tmp_path, "y.doc", None, "\n".join(calls_of(516)), "calls.txt")
    (folder / "info.txt").write_text("n" * 100_000)
    assert score(made / "detector", folder)[1][0]["name"] == "n" * 4096


def test_how_calls_are_read_fits_the_model(made, tmp_path):
    other = tmp_path / "detector"
    shutil.copytree(made / "detector", other)
    told = json.loads((other / "detector.json").read_text())
    file = write(tmp_path / "r.json", report_of("x.doc", calls_of(517)))
    for calls, code in (({"apart": 1}, 0), ({"apart": 4}, 20), ({"children": True}, 0)):
        (other / "detector.json").write_text(json.dumps(told | {"calls": calls}))
        ended, _ = score(other, file)
        assert ended.code == code
        assert ("its `calls` does not fit the model" in ended.err) == (code == 20)


def test_an_empty_process_is_refused(made, tmp_path):
    file = write(tmp_path / "r.json", report_of("x.doc", calls_of(518)))
    for process in ("", " "):
        ended, lines = score("--process", process, made / "detector", file)
        assert (ended.code, lines) == (2, [])
        assert "--process is empty: give a program's name" in ended.err


def test_options_that_make_no_sense_are_refused(made, traced, tmp_path):
    file = write(tmp_path / "r.json", report_of("x.doc", calls_of(507)))
    for options in (("--bin-dir", tmp_path), ("--timeout", "3"), ("--cut",)):
        ended, lines = score(*options, made / "detector", file)
        assert (ended.code, lines) == (2, [])
        assert f"{options[0]} is for traces, this detector judges calls" in ended.err
    ended, lines = score("--process", "x", traced / "detector", file)
    assert (ended.code, lines) == (2, [])
    assert "--process is for calls, this detector judges traces" in ended.err


def test_packing_knows_what_was_learnt(made, traced, tmp_path):
    told = json.loads((made / "detector" / "detector.json").read_text())
    assert told["calls"] == {"by_thread": False, "children": False, "apart": None}
    assert "calls" not in json.loads((traced / "detector" / "detector.json").read_text())
    for folder, options, why in (
        (made, ("--no-overlap",), "has learnt every call"),
        (traced, ("--no-overlap",), "was not learnt from calls"),
        (traced, ("--by-thread",), "was not learnt from calls"),
        (traced, ("--children",), "was not learnt from calls"),
    ):
        refused = pack(folder, tmp_path / "d", *options)
        assert refused.code == 20 and why in refused.err
        assert len(refused.err.strip().splitlines()) == 1
    assert pack(made, tmp_path / "d", "--sequence-len", "3").code == 2
    assert not (tmp_path / "d").exists()


def test_a_detector_that_does_not_say_so_is_one_of_calls_all_the_same(made, tmp_path):
    older = tmp_path / "detector"
    shutil.copytree(made / "detector", older)
    told = json.loads((older / "detector.json").read_text())
    del told["calls"]
    (older / "detector.json").write_text(json.dumps(told))
    file = write(tmp_path / "r.json", report_of("x.doc", calls_of(508)))
    assert score(older, file)[1] == score(made / "detector", file)[1]


def test_a_gate_tells_by_its_exit_code(made, tmp_path):
    good = write(tmp_path / "good.json", report_of("x.doc", calls_of(509)))
    bad = write(tmp_path / "bad.json", report_of("x.doc", calls_of(510, evil=4)))
    assert score("--fail-on-anomaly", made / "detector", good)[0].code == 0
    assert score("--fail-on-anomaly", made / "detector", good, bad)[0].code == 3
