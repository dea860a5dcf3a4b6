"""The page that `barnum check --report` writes, as a user sees it: of a real program, in a real browser."""

import itertools
import json
import math
import os
import platform
import re
import shutil

import pytest

import barnum
from browsing import all_by, chromium, needs_browser, one, open_page
from checking import HOSTILE, SANDBOX, learnt, run

ALLOWED = [] if SANDBOX else ["--no-sandbox"]
MARKUP = "<img src=x onerror=alert(1)>'\"&lt;.txt"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return learnt(tmp_path_factory.mktemp("check"))


@pytest.fixture(scope="module")
def checked(made, tmp_path_factory):
    """The page about hostile documents, usual ones, two with hostile names, and one that is not there; its
    document; and what was printed."""
    folder = tmp_path_factory.mktemp("page")
    for number, name in enumerate((MARKUP, os.fsdecode(b"\xff.txt"))):
        (folder / name).write_text("abcdeabcd" * (26 + number))
    ended = check(
        folder, made, *("--report", "page.html", "--report-json", "page.json", "--json", made / "hostile"),
        made / "usual.txt", folder / MARKUP, folder / os.fsdecode(b"\xff.txt"), folder / "missing.txt",
    )  # fmt: skip
    assert ended.code == 22, ended.err
    return folder / "page.html", json.loads((folder / "page.json").read_text()), ended


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with chromium(tmp_path_factory.mktemp("chromium")) as driver:
        yield driver


def check(folder, made, *arguments):
    return run(folder, "check", *ALLOWED, made / "detector", *arguments)


def runs_of(document):
    return {sample["name"]: sample for sample in document["samples"]}


def function_of(document, index):
    return document["places"][index]["function"]


def choose(driver, name):
    [button] = [b for b in all_by(driver, "#table td.name button") if b.get_attribute("textContent") == name]
    button.click()


def text_of(driver, selector):
    return one(driver, selector).get_attribute("textContent")


def test_the_document_says_what_the_lines_say(made, checked):
    _, document, ended = checked
    lines = {line["name"]: line for line in ended.lines().values() if "name" in line}
    runs = runs_of(document)
    assert set(runs) == {"usual.txt", MARKUP, "\\xff.txt", *(f"{name}.txt" for name in HOSTILE)}
    for name in ("usual.txt", *(f"{name}.txt" for name in HOSTILE)):
        sample, line = runs[name], lines[name]
        for key in ("verdict", "score", "p_value"):
            assert sample[key] == line[key], (name, key)
        assert sample["transfers"] == line["transfers"]
        assert [each["text"] for each in sample["evidence"]] == [e["text"] for e in line.get("evidence", ())]
        assert [each["text"] for each in sample["effects"]] == [e["text"] for e in line.get("effects", ())]
        if name != "usual.txt":
            assert sample["because"] == {"novelty": "score"}.get(line["because"], line["because"])
            # the score is the sum of the first window
            assert sample["windows"][0]["novelty"] == pytest.approx(sample["score"], abs=1e-3)
    [failed] = document["failed"]
    assert failed.startswith("missing.txt: ") and "no such file" in failed
    assert document["evaluations"] == str(made / "detector")
    overview = document["overview"]
    assert (overview["runs"], overview["unknown"], overview["anomalous"]) == (7, 7, 4)
    assert document["predicts"] is False


def test_what_is_new_is_named_by_function_and_instruction(checked):
    _, document, _ = checked
    sample = runs_of(document)["unreached.txt"]
    transfers = [transfer for window in sample["windows"] for transfer in window["transfers"]]
    named = [
        (function_of(document, each["source"]), function_of(document, each["actual"]), each["seen"])
        for each in transfers
        if not each["way"]
    ]
    assert ("main", "unreached", 0) in named
    assert ("unreached", "turn", 0) in named
    [call] = [each for each in transfers if function_of(document, each["actual"]) == "turn"]
    assert call["kind"] == "indirect call"
    assert call["instruction"].startswith("call ")
    assert call["expected"] is call["confidence"] is call["probability"] is call["surprisal"] is None
    # once, though it was taken twenty times
    assert call["times"] == 1
    assert sample["distinct_new"] >= len(named)
    alarm, window = sample["first_alarm"], sample["windows"][0]
    assert window["begin"] <= alarm["prediction"] < window["end"]
    assert alarm["prediction"] in {each["prediction"] for each in transfers}
    # all that is new stands in the curve, too
    bins = len(sample["curve"]["mean"])
    ends = [math.ceil(at * sample["curve"]["each"] - 1e-6) for at in range(bins + 1)]
    sizes = [end - begin for begin, end in itertools.pairwise(ends)]
    total = sum(mean * size for mean, size in zip(sample["curve"]["mean"], sizes, strict=True))
    assert total == pytest.approx(sample["novelty"], rel=0.05)
    assert sum(novelty for _, novelty in sample["curve"]["news"]) == pytest.approx(sample["novelty"], abs=0.1)


def test_ways_into_the_kernel_are_told_where_they_end(checked):
    _, document, _ = checked
    sample = runs_of(document)["drop.txt"]
    ways = [each for window in sample["windows"] for each in window["transfers"] if each["way"]]
    entered = [document["places"][each["actual"]] for each in ways]
    assert all(place["branch"] for place in entered)
    assert "libc" in entered[0]["module"]
    named = {place["function"] for place in entered}
    # from glibc 2.41 on a function without a name makes the calls that threads may be cancelled in
    if tuple(map(int, platform.libc_ver()[1].split("."))) < (2, 41):
        assert named & {"open", "open64", "__open", "openat", "close"}
    assert named <= {"open", "open64", "__open", "openat", "close", None} or "libc" in entered[0]["module"]


@needs_browser
def test_the_page_shows_where_a_run_did_what_no_nominal_run_does(browser, checked):
    page, _, _ = checked
    opened = open_page(browser, page)
    heads = [head.get_attribute("textContent") for head in all_by(opened, "#table th")]
    assert heads == [
        "Document", "Label", "Verdict", "Score", "p", "New transfers", "Evidence", "New effects",
        "First alarm", "Transfers",
    ]  # fmt: skip
    choose(opened, "unreached.txt")
    shown = text_of(opened, "#sample")
    assert "Novelty along the run" in shown
    assert "Wrong" not in shown and "prediction" not in shown and "surprisal" not in shown
    table = one(opened, "details.window table")
    rows = [row.text for row in table.find_elements("css selector", "tbody tr")]
    [row] = [row for row in rows if " turn " in row and "ret" not in row]
    assert "reader unreached" in row and "call " in row and "target never reached" in row
    choose(opened, "start.txt")
    assert "What it did that no nominal run did" in text_of(opened, "#sample")
    assert 'execve("/bin/true"' in text_of(opened, "#sample")
    assert "system call" in text_of(opened, "#sample")
    choose(opened, "usual.txt")
    shown = text_of(opened, "#sample")
    assert "Nothing new" in shown and "Nominal runs took every transfer that this run took." in shown
    assert not all_by(opened, "details.window")
    text = text_of(opened, "main")
    assert not re.search(r"NaN|undefined|\bnull\b|\[object", text)
    assert opened.get_log("browser") == []


@needs_browser
def test_the_page_shows_evidence_and_what_could_not_be_judged(browser, checked):
    page, _, _ = checked
    opened = open_page(browser, page)
    choose(opened, "wild.txt")
    assert "by evidence" in text_of(opened, "#sample-title")
    evidence = text_of(opened, ".signs li")
    assert "called to 0x4141414000, where nothing is mapped" in evidence and "enough alone" in evidence
    assert one(opened, ".signs li").get_attribute("title") == "[unmapped] +0x4141414000"
    overview = text_of(opened, "#overview")
    assert "Documents that could not be judged (1)" in overview and "missing.txt: " in overview
    assert "1not judged" in text_of(opened, "#tiles")
    assert "transfers" in text_of(opened, "#tiles")


@needs_browser
def test_names_of_documents_are_text(browser, checked):
    page, _, _ = checked
    opened = open_page(browser, page)
    choose(opened, MARKUP)
    assert text_of(opened, "#sample-title").startswith(MARKUP)
    assert all_by(opened, "img") == []
    assert opened.get_log("browser") == []


def test_runs_that_were_learnt_count_in_no_error_rate(made, tmp_path):
    ended = check(tmp_path, made, made / "traces", "--report-json", "page.json")
    assert ended.code == 0, ended.err
    document = json.loads((tmp_path / "page.json").read_text())
    assert {sample["learnt"] for sample in document["samples"]} == {True}
    assert {sample["distinct_new"] for sample in document["samples"]} == {0}
    assert document["overview"]["benign"] == len(document["samples"])
    assert document["overview"]["false_positives"] is None
    assert document["overview"]["calibration"] is None
    assert any("18 of 18 runs are among those that the detector has learnt" in n for n in document["notes"])


def test_without_a_trace_places_come_from_the_digest(made, tmp_path):
    kept = check(tmp_path, made, "-o", "runs", "--json", made / "hostile" / "unreached.txt")
    assert kept.code == 0, kept.err
    [line] = kept.lines().values()
    files = ("info.txt", "meta.json", "mapping.txt.gz", "mapping.txt", "trace_digest")
    (tmp_path / "bare").mkdir()
    for name in files:
        source = os.path.join(line["sample"], name)
        if os.path.exists(source):
            shutil.copy(source, tmp_path / "bare" / name)
    told = []
    for sample in (line["sample"], "bare"):
        ended = check(
            tmp_path, made, sample, *("--bin-dir", "runs-extract", "--report-json", "page.json", "-f")
        )
        assert ended.code == 0, ended.err
        told.append(json.loads((tmp_path / "page.json").read_text()))
    exact, bare = told

    def named(document):
        [run] = document["samples"]
        return [
            (each["prediction"], function_of(document, each["source"]), function_of(document, each["actual"]))
            for window in run["windows"]
            for each in window["transfers"]
        ]

    assert named(bare) == named(exact)
    [run] = bare["samples"]
    assert any("of the sources of transfers only where they end is known" in note for note in run["notes"])
    transfer = run["windows"][0]["transfers"][0]
    assert bare["places"][transfer["source"]]["branch"] is True
    assert transfer["instruction"] is None
    assert exact["samples"][0]["notes"] == []


@needs_browser
def test_what_was_cut_off_is_told(browser, made, tmp_path):
    kept = check(
        tmp_path, made, *("--cut", "effect", "--report", "page.html", "--report-json", "page.json", "--json"),
        made / "hostile" / "drop.txt",
    )  # fmt: skip
    [line] = kept.lines().values()
    [run] = json.loads((tmp_path / "page.json").read_text())["samples"]
    assert run["judged"] == line["transfers"] < run["transfers"]
    assert run["first_alarm"]["prediction"] < run["judged"]
    # what was judged comes first
    assert run["windows"][0]["end"] <= run["judged"]
    opened = open_page(browser, tmp_path / "page.html")
    assert "before it did what no nominal run does" in text_of(opened, "dl.facts")


def test_the_library_writes_the_same(made, tmp_path):
    document = made / "hostile" / "unreached.txt"
    [checked] = barnum.check(made / "detector", document, sandbox=SANDBOX, report=tmp_path / "page.html")
    assert checked.judged.verdict == "anomalous"
    assert check(tmp_path, made, document, "--report-json", "page.json").code == 0
    text = (tmp_path / "page.html").read_text()
    inside = json.loads(
        re.search(r'<script type="application/json" id="report">(.*?)</script>', text, re.S)[1]
    )
    [ours], [theirs] = inside["samples"], json.loads((tmp_path / "page.json").read_text())["samples"]
    for key in ("name", "verdict", "score", "transfers", "distinct_new", "first_alarm", "curve"):
        assert ours[key] == theirs[key], key
    assert inside["evaluations"] == str(made / "detector")


def test_pages_are_not_replaced_unless_asked(made, tmp_path):
    (tmp_path / "page.html").write_text("mine")
    usual = made / "usual.txt"
    ended = check(tmp_path, made, usual, "--report", "page.html")
    assert ended.code == 16 and not ended.out
    assert (tmp_path / "page.html").read_text() == "mine"
    assert check(tmp_path, made, usual, "--report", "page.html", "-f").code == 0
    assert (tmp_path / "page.html").read_text().startswith("<!DOCTYPE html>")
    assert check(tmp_path, made, usual, "--report", "a", "--report-json", "a").code == 2
    missing = check(tmp_path, made, usual, "--report", "none/page.html")
    assert missing.code == 17 and not missing.out


def test_a_page_about_nothing_but_failures(made, tmp_path):
    ended = check(tmp_path, made, "missing.txt", "--report", "page.html", "--report-json", "page.json")
    assert ended.code == 22
    document = json.loads((tmp_path / "page.json").read_text())
    assert (document["samples"], len(document["failed"])) == ([], 1)
    assert b"missing.txt" in (tmp_path / "page.html").read_bytes()
