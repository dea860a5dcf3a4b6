"""Reports of each sandbox give the calls of the process that is wanted."""

import json
import logging

import numpy as np
import pytest

from barnum.calls import read_calls
from barnum.errors import SampleError
from call_reports import DOCUMENT, READER, Run, cape, chain, cuckoo, drakvuf, names, streams, write

READER_CALLS = ["NtCreateFile", "NtReadFile", "NtReadFile", "LdrLoadDll", "NtClose"]
WRITERS = {"cuckoo": cuckoo, "cape": cape, "drakvuf": drakvuf}


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize("form", WRITERS)
def test_the_process_that_was_given_the_document_is_taken(tmp_path, form, packed):
    # the name says nothing, on purpose
    file = write(tmp_path / "report.bin", WRITERS[form](chain()), packed)
    calls = read_calls(file, document=DOCUMENT)
    assert names(calls) == READER_CALLS
    assert calls.names == ("NtCreateFile", "NtReadFile", "LdrLoadDll", "NtClose")
    assert (calls.call.dtype, calls.first.dtype) == (np.uint32, np.bool_)
    assert calls.first.tolist() == [True, False, False, False, False]
    assert (calls.format, calls.document, calls.truncated) == (form, DOCUMENT, False)
    [process] = calls.processes
    assert (process.pid, process.parent, process.name, process.calls) == (2200, 2100, "AcroRd32.exe", 5)
    assert process.path.endswith(READER[2:])
    assert process.command_line.endswith(f'{DOCUMENT}"')
    assert [(other.pid, other.calls) for other in calls.others] == [(400, 1), (2100, 2), (2300, 9)]


@pytest.mark.parametrize("form", ["cuckoo", "cape"])
def test_the_report_says_what_was_opened(tmp_path, form):
    calls = read_calls(write(tmp_path / "r", WRITERS[form](chain())))
    assert (calls.document, names(calls)) == (DOCUMENT, READER_CALLS)


def test_the_document_may_be_given_as_a_path(tmp_path):
    file = write(tmp_path / "r", cuckoo(chain(), "sent as another.bin"))
    assert names(read_calls(file, document="/samples/INVOICE.pdf")) == READER_CALLS


@pytest.mark.parametrize("order", [("target", "behavior"), ("behavior", "target")])
def test_sections_come_in_any_order(tmp_path, order):
    file = write(tmp_path / "r", json.dumps(cuckoo(chain(), order=order), indent=4))
    assert names(read_calls(file)) == READER_CALLS


@pytest.mark.parametrize("form", WRITERS)
@pytest.mark.parametrize("process", ["acrord32.EXE", "reader 9", "pid:2200"])
def test_a_process_is_named(tmp_path, form, process):
    calls = read_calls(write(tmp_path / "r", WRITERS[form](chain())), process)
    assert names(calls) == READER_CALLS


def test_a_whole_name_goes_before_a_part_of_a_path(tmp_path):
    runs = [Run(1, "C:\\word.exe\\setup.exe", ["A"]), Run(2, "C:\\Office\\WORD.EXE", ["B"])]
    file = write(tmp_path / "r", cuckoo(runs))
    assert names(read_calls(file, "word.exe")) == ["B"]
    assert names(read_calls(file, "word")) == ["A", "B"]


@pytest.mark.parametrize("form", WRITERS)
def test_processes_of_one_name_are_a_stream_each(tmp_path, form):
    runs = [Run(1, READER, ["B", "A", "B"]), Run(2, "C:\\other.exe", ["X", "Y"]), Run(3, READER, ["A", "C"])]
    calls = read_calls(write(tmp_path / "r", WRITERS[form](runs)), "AcroRd32.exe")
    assert streams(calls) == [["B", "A", "B"], ["A", "C"]]
    assert calls.names == ("B", "A", "C")  # those of other.exe are gone
    assert [process.pid for process in calls.processes] == [1, 3]
    assert [process.name for process in calls.others] == ["other.exe"]


@pytest.mark.parametrize("form", WRITERS)
def test_threads_become_streams_when_asked(tmp_path, form):
    runs = [Run(7, READER, [(5, "A"), (4, "B"), (5, "C"), (4, "D")]), Run(8, READER, [(5, "E"), (5, "F")])]
    file = write(tmp_path / "r", WRITERS[form](runs))
    assert streams(read_calls(file, "AcroRd32.exe")) == [["A", "B", "C", "D"], ["E", "F"]]
    calls = read_calls(file, "AcroRd32.exe", threads=True)
    assert streams(calls) == [["A", "C"], ["B", "D"], ["E", "F"]]
    assert calls.names == ("A", "C", "B", "D", "E", "F")


def test_repeated_calls_of_cape_count_as_often_as_they_were_made(tmp_path, caplog):
    runs = [Run(1, READER, ["Sleep", "NtClose", "Spin"])]
    file = write(tmp_path / "r", cape(runs, repeated={"Sleep": 2, "Spin": 10**12}))
    calls = read_calls(file, threads=True)
    assert names(calls)[:4] == ["Sleep", "Sleep", "Sleep", "NtClose"]
    assert names(calls)[4:] == ["Spin"] * 65537
    assert "repeated more than 65,536 times" in caplog.text


def test_notes_of_the_sandbox_are_no_calls(tmp_path, caplog):
    report = cuckoo([Run(1, READER, ["A", "__exception__", "__anomaly__", "B"], command_line=DOCUMENT)])
    for call in report["behavior"]["processes"][0]["calls"][1:3]:
        call["category"] = "__notification__"
    calls = read_calls(write(tmp_path / "r", report))
    assert (names(calls), calls.skipped) == (["A", "__exception__", "B"], 1)
    report = cape([Run(1, READER, ["A", "", "B"], command_line=DOCUMENT)])
    report["behavior"]["processes"][0]["calls"][1]["category"] = "anomaly"
    calls = read_calls(write(tmp_path / "r", report))
    assert (names(calls), calls.skipped) == (["A", "B"], 1)
    # nothing is wrong with that
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_without_a_document_the_first_process_is_taken_and_said(tmp_path, caplog):
    runs = chain()
    for run in runs:
        run.command_line = ""
    calls = read_calls(write(tmp_path / "r", cuckoo(runs)))
    assert [process.name for process in calls.processes] == ["cmd.exe"]  # not lsass.exe
    assert "no process was given the document; taken is the first, cmd.exe (pid 2100)" in caplog.text


def test_a_program_that_is_itself_the_sample_is_found_by_its_path(tmp_path):
    runs = [Run(1, "C:\\cmd.exe", ["A"]), Run(2, "C:\\Temp\\Bad.exe", ["B"])]
    assert names(read_calls(write(tmp_path / "r", cuckoo(runs, "bad.exe")))) == ["B"]


def test_drakvuf_without_command_lines_needs_a_name(tmp_path):
    file = write(tmp_path / "r", drakvuf(chain(), started=False))
    with pytest.raises(
        SampleError, match=r"name a process; its processes are splwow64\.exe \(pid 2300\) with 9"
    ):
        read_calls(file, document=DOCUMENT)
    assert names(read_calls(file, "acrord32.exe")) == READER_CALLS


def test_drakvuf_apimon_counts_calls_and_no_other_events(tmp_path, caplog):
    file = write(tmp_path / "r", drakvuf(chain(), plugin="apimon"))
    with caplog.at_level(logging.INFO):
        calls = read_calls(file, "AcroRd32.exe")
    assert names(calls) == READER_CALLS
    assert calls.skipped == 17 + 4  # a DLL was loaded after each call; procmon
    assert "skipped 17 lines of apimon that are no calls" in caplog.text


def test_drakvuf_tells_programs_of_one_number_apart(tmp_path):
    runs = [
        Run(5, "C:\\a.exe", ["A"], command_line="a.exe"),
        Run(5, "C:\\b.exe", ["B"], command_line="b.exe q.doc"),
    ]
    calls = read_calls(write(tmp_path / "r", drakvuf(runs)), document="q.doc")
    assert names(calls) == ["B"]
    assert [other.command_line for other in calls.others] == ["a.exe"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("NtOpenFile\nNtClose\nNtClose\n", ["NtOpenFile", "NtClose", "NtClose"]),
        ("\ufeffNtOpenFile\r\n\r\n  NtClose  \r\nNtClose", ["NtOpenFile", "NtClose", "NtClose"]),
        ("API\nstd::sort<int>(int*)\n?f@@YAXXZ\n", ["std::sort<int>(int*)", "?f@@YAXXZ"]),
        ("6 6 063 6 42 \n", ["6", "6", "63", "6", "42"]),
        ("6,6,63", ["6", "6", "63"]),
        ("6\n63\n\n6\n", ["6", "63", "6"]),
        ('time,API Name,arguments\n1,NtOpenFile,"a\nb,c"\n\n2,NtClose,\n', ["NtOpenFile", "NtClose"]),
        ('syscall;args\n read ;3\nwrite;"x;y"\n', ["read", "write"]),
    ],
)
def test_plain_lists(tmp_path, text, expected):
    calls = read_calls(write(tmp_path / "r", text))
    assert streams(calls) == [expected]
    assert (calls.format, calls.document, calls.others, calls.truncated) == ("sequence", None, (), False)
    assert [process.calls for process in calls.processes] == [len(expected)]


def test_a_table_may_name_processes_and_threads(tmp_path):
    text = "pid,process_name,tid,api\n1,C:\\a.exe,1,A\n2,b.exe,1,B\n1,C:\\a.exe,2,C\n1,C:\\a.exe,1,D\n"
    file = write(tmp_path / "r", text)
    assert streams(read_calls(file, "a.exe")) == [["A", "C", "D"]]
    assert streams(read_calls(file, "pid:1", threads=True)) == [["A", "D"], ["C"]]
    assert streams(read_calls(file, "b.exe")) == [["B"]]


def test_a_link_to_a_report_is_followed(tmp_path):
    write(tmp_path / "r", cuckoo(chain()))
    (tmp_path / "link").symlink_to("r")
    assert names(read_calls(tmp_path / "link")) == READER_CALLS
