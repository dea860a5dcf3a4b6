"""Readers of reports: which reads what, and one that is registered here."""

from __future__ import annotations

import gzip
import json

import pyarrow.parquet as pq
import pytest
from test_cli_syscall import FAST, NAMES, calls_of, write_sample

import barnum
from barnum.calls import read_calls
from barnum.calls.found import last_part
from barnum.calls.readers import READERS, Likeness, ReportReader, report_names, start_of_text
from barnum.calls.readers.reader import why_unknown
from barnum.calls.readers.readers import reader_for
from barnum.errors import SampleError
from call_reports import names, streams
from learning import barnum as run


class NotesReader(ReportReader):
    """Notes of a made-up sandbox: ``NOTES of DOCUMENT``, ``start PID PATH`` and ``PID: CALL`` a line, and
    ``END``."""

    name = "notes"
    names = ("notes.log",)

    def likeness(self, head):
        return Likeness.CERTAIN if start_of_text(head).startswith(b"NOTES of ") else Likeness.NONE

    def read(self, source, recording):
        processes = {}
        ended = False
        for lines in source.lines():
            for line in lines:
                pid, colon, call = line.decode().partition(": ")
                words = line.decode().split(" ", 2)
                if words[:2] == ["NOTES", "of"]:
                    recording.document = recording.text(words[2])
                    recording.target.add(words[2])
                elif words[0] == "start":
                    found = processes[words[1]] = recording.process()
                    found.pid, found.path = int(words[1]), recording.text(words[2])
                    found.name = last_part(found.path)
                elif colon and pid in processes:
                    recording.call(processes[pid], call)
                elif line == b"END":
                    ended = True
                elif line:
                    recording.skip("lines of no kind")
        return source.broken or (None if ended else "it has no end")


@pytest.fixture
def notes():
    READERS.add("notes", NotesReader())
    yield
    READERS.remove("notes")


def written(document, calls):
    head = f"NOTES of {document}\nstart 7 C:\\Windows\\explorer.exe\nstart 8 C:\\bin\\{document}\n"
    return head + "7: NtOdd\n" + "".join(f"8: {call}\n" for call in calls) + "END\n"


def test_a_reader_of_ones_own_reads(notes, tmp_path):
    file = tmp_path / "any.name"
    file.write_bytes(gzip.compress(written("bad.exe", ["NtOpenFile", "NtClose", "NtOpenFile"]).encode()))
    calls = read_calls(file)
    assert (calls.format, calls.document, calls.chosen_by) == ("notes", "bad.exe", "program")
    assert names(calls) == ["NtOpenFile", "NtClose", "NtOpenFile"]
    assert [(process.pid, process.name) for process in calls.others] == [(7, "explorer.exe")]
    assert streams(read_calls(file, "explorer.exe")) == [["NtOdd"]]
    file.write_text(written("bad.exe", ["NtOpenFile"]).removesuffix("END\n"))
    assert read_calls(file).truncated


def test_without_it_its_reports_are_refused(notes, tmp_path):
    folder = write_sample(tmp_path, "a.exe", "benign", written("a.exe", NAMES), "notes.log")
    assert [sample.folder for sample in barnum.find_samples(tmp_path, reports=True)] == [folder]
    assert barnum.open_sample(folder).report == folder / "notes.log"
    READERS.remove("notes")
    try:
        assert barnum.find_samples(tmp_path, reports=True) == []
        with pytest.raises(SampleError, match="line 1 is no name of a call: 'NOTES of"):
            read_calls(folder / "notes.log")
    finally:
        READERS.add("notes", NotesReader())


def test_calls_are_learnt_and_judged_by_such_reports(notes, tmp_path):
    tree = tmp_path / "reports"
    for i in range(30):
        name = f"good-{i}.exe"
        write_sample(tree, name, "benign", written(name, calls_of(i)), "notes.log.gz")
    for i in range(3):
        made = calls_of(100 + i)
        made[200:200] = ["NtCreateThreadEx", *NAMES[8:], "NtWriteVirtualMemory"] * 10
        write_sample(tree, f"bad-{i}.exe", "malicious", written(f"bad-{i}.exe", made), "notes.log")
    model = ("--save-model", tmp_path / "m.json", "--save-weights", tmp_path / "w")
    ended = run("syscall", *FAST, *model, "--eval-dir", tmp_path / "eval", tree)
    assert ended.code == 0, ended.err
    rows = [pq.read_metadata(file).num_rows for file in sorted((tmp_path / "eval").iterdir())]
    assert rows == [400] * 6 + [460] * 3
    saved = tmp_path / "class.json"
    judged = run(
        "classifier", "--score", "surprisal", "--false-alarm-rate", 0.2, "-s", saved, tmp_path / "eval"
    )
    assert judged.code == 0 and "false negatives: 0 of 3" in judged.out, judged.err
    use = ("--use-model", tmp_path / "m.json", "--use-weights", tmp_path / "w")
    assert run("pack", *use, "-l", saved, tmp_path / "detector").code == 0
    bad = next(sample for sample in barnum.find_samples(tree, reports=True) if not sample.benign)
    ended = run("score", tmp_path / "detector", bad.folder, bad.folder / "notes.log")
    verdicts = [json.loads(line) for line in ended.out.splitlines()]
    assert [verdict["verdict"] for verdict in verdicts] == ["anomalous"] * 2
    assert [verdict["processes"] for verdict in verdicts] == [[{"name": bad.name, "pid": 8}]] * 2


def test_names_in_a_folder_and_which_is_taken_first(notes, tmp_path):
    assert report_names() == (
        "report.json",
        "syscall.log",
        "apimon.log",
        "calls.txt",
        "calls.csv",
        "notes.log",
    )
    folder = write_sample(tmp_path, "a.exe", "benign", written("a.exe", NAMES), "notes.log")
    for name in ("calls.csv", "calls.txt", "apimon.log.gz", "syscall.log", "report.json.gz"):
        (folder / name).touch()
        [sample] = barnum.find_samples(tmp_path, reports=True)
        assert sample.report == folder / name
    # a list of names in all of them is read as such, whatever they are called
    (folder / "report.json").write_text("NtOpenFile\nNtClose\n")
    assert read_calls(folder / "report.json").format == "sequence"


@pytest.mark.parametrize(
    ("head", "form"),
    [
        (b'{"info": {}}', "cuckoo"),
        (b' \r\n{"Plugin" : 3', "drakvuf"),
        (b'{"Other": 3}\n{"PID": 1, "Plugin": "procmon"}\n', "drakvuf"),
        (b"{\n" * 15 + b'{"PID": 1, "Plugin": "procmon"}\n', "drakvuf"),
        (b"{\n" * 16 + b'{"PID": 1, "Plugin": "procmon"}\n', "cuckoo"),
        (b"NtClose\n", "sequence"),
        (b'"Plugin"\n', "sequence"),
        (b"1 2 3", "sequence"),
        (b"\xef", "sequence"),
    ],
)
def test_forms_are_told_by_the_beginning(head, form):
    assert reader_for(head) is READERS[form]


@pytest.mark.parametrize(
    ("head", "words"),
    [
        (b"\xff\xfeN\0", "UTF-16 text"),
        (b"\xfe\xff\0{", "UTF-16 text"),
        (b'{"a": "\0"}', "binary data"),
        (b"NtClose\n\0", "binary data"),
        (b" [1, 2]", "a JSON list"),
    ],
)
def test_what_no_reader_takes_is_named(head, words):
    with pytest.raises(SampleError, match=words):
        reader_for(head)


class Sure(ReportReader):
    name = "sure"

    def __init__(self, likeness):
        self._likeness = likeness

    def likeness(self, head):
        return self._likeness

    def read(self, source, recording):
        raise AssertionError


@pytest.mark.parametrize("head", [b'{"info": {}}', b"NtClose\n", b"\0", b"[1]"])
def test_the_surest_reads_and_the_first_of_those_equally_sure(head):
    try:
        before = reader_for(head)
    except SampleError:
        before = None
    for likeness in Likeness:
        READERS.add("sure", Sure(likeness))
        try:
            if likeness is Likeness.CERTAIN or (likeness is Likeness.POSSIBLE and before is None):
                assert reader_for(head) is READERS["sure"]
            elif before is None:
                with pytest.raises(SampleError):
                    reader_for(head)
            else:
                assert reader_for(head) is before
        finally:
            READERS.remove("sure")
    assert "\n" not in why_unknown(head)
