"""Whose calls are taken: what runs the submitted file or was given it, and what that started."""

import hashlib
import json
import logging
import time

import pytest

from barnum.calls import Limits, read_calls
from barnum.errors import SampleError
from call_reports import READER, Run, cape, chain, cuckoo, drakvuf, names, streams, write

WRITERS = {"cuckoo": cuckoo, "cape": cape}
HASHES = {kind: hashlib.new(kind, b"the file").hexdigest() for kind in ("md5", "sha1", "sha256")}
TEMP = "C:\\Users\\me\\AppData\\Local\\Temp\\"
CMD = "C:\\Windows\\System32\\cmd.exe"


def sent(form, runs, **file):
    """A report that says of the file that was sent what ``file`` says, and its hashes."""
    report = WRITERS[form](runs, "sent.bin")
    report["target"]["file"] = {"size": 9, **HASHES, "crc32": "00C0FFEE", **file}
    return report


def around(run):
    """A process between others, one of which has more calls."""
    return [
        Run(8, "C:\\Windows\\System32\\svchost.exe", ["X"], command_line="svchost.exe -k netsvcs"),
        run,
        Run(9, "C:\\Windows\\System32\\conhost.exe", ["Y"] * 9, command_line="conhost.exe 0x4 0xffffffff"),
    ]


def said(caplog):
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize("form", WRITERS)
@pytest.mark.parametrize(
    "program",
    [
        HASHES["sha256"],
        f"{HASHES['sha256']}.exe",
        f"{HASHES['sha256'][:16].upper()}.exe",
        f"{HASHES['sha1'][:8]}.scr",
        f"{HASHES['md5']}.bin.exe",
        "Setup Of All.dat",
        "setup of all.dat.exe",
        "SETUPO~1.DAT",
        "tmp8f3a.exe",
    ],
)
def test_the_process_that_runs_the_file_is_found_by_any_of_its_names(tmp_path, caplog, form, program):
    runs = around(Run(7, TEMP + program, ["A"]))
    report = sent(form, runs, name="setup of all.dat", guest_paths=[f"{TEMP}tmp8f3a.exe"])
    calls = read_calls(write(tmp_path / "r", report), document="original.exe")
    assert (names(calls), calls.document) == (["A"], "original.exe")
    assert not said(caplog)


@pytest.mark.parametrize("form", WRITERS)
@pytest.mark.parametrize(
    "line",
    [
        '"%TEMP%\\bill of may.doc"',
        "'C:\\x\\Bill of May.DOC'",
        f"/n {TEMP}BILLOF~2.DOC /q",
        f'"{TEMP}{HASHES["sha256"]}.doc"',
        f"{TEMP}{HASHES['sha256'][:20]}",
        "file:///c:/x/{}.docx".format(HASHES["md5"]),
        '/dde "%TEMP%\\invoice.doc"',
        "C:\\x\\invoice.doc.docx,#1",
    ],
)
def test_the_process_that_was_given_the_file_is_found_by_any_of_its_names(tmp_path, caplog, form, line):
    runs = around(Run(7, "C:\\Office\\WINWORD.EXE", ["A"], command_line=f"winword.exe {line}"))
    # what CAPE writes of a path in its own store
    report = sent(form, runs, name="bill of may.doc", path=f"/opt/binaries/{HASHES['sha256']}")
    assert names(read_calls(write(tmp_path / "r", report), document="Invoice.doc")) == ["A"]
    assert not said(caplog)


def test_a_hash_may_be_what_info_txt_says(tmp_path):
    runs = around(Run(7, f"{TEMP}{HASHES['sha256'][:12]}.exe", ["A"]))
    file = write(tmp_path / "r", cuckoo(runs, "other"))
    assert names(read_calls(file, document=HASHES["sha256"])) == ["A"]


def test_what_was_started_from_an_archive(tmp_path):
    report = cuckoo(around(Run(7, f"{TEMP}inner.exe", ["A"])))
    report["target"] = {"category": "archive", "filename": "dir/inner.exe", "archive": {"name": "a.zip"}}
    assert names(read_calls(write(tmp_path / "r", report))) == ["A"]


@pytest.mark.parametrize(
    "line",
    [
        "C:\\x\\old-invoice.pdf",
        "C:\\x\\myinvoice.pdf",
        "C:\\x\\invoice.pdfx",
        "C:\\x\\invoice.pdf-2",
        "C:\\x\\invoice.pdf.old.pdf",
        f"C:\\x\\{HASHES['sha256'][:7]}",
        f"C:\\x\\{HASHES['sha256'][1:]}",
        f"C:\\x\\{HASHES['sha256']}0",
        "/x /tmp",
    ],
)
def test_a_name_within_another_name_is_none(tmp_path, caplog, line):
    runs = around(Run(7, READER, ["A"], command_line=f"AcroRd32.exe {line}"))
    report = sent("cape", runs, name="invoice.pdf", path="/tmp/x")
    assert names(read_calls(write(tmp_path / "r", report))) == ["X"]
    [line] = said(caplog)
    assert "no process was given the document; taken is the first, svchost.exe (pid 8)" in line


@pytest.mark.parametrize("form", WRITERS)
def test_what_runs_the_file_goes_before_what_only_names_it(tmp_path, caplog, form):
    runs = [
        Run(1, CMD, ["X"], command_line=f"cmd.exe /c {TEMP}bad.exe"),
        Run(2, f"{TEMP}bad.exe", ["A"], 1),
    ]
    assert names(read_calls(write(tmp_path / "r", sent(form, runs, name="bad.exe")))) == ["A"]
    assert not said(caplog)


@pytest.mark.parametrize("form", WRITERS)
@pytest.mark.parametrize("order", [1, -1])
def test_of_several_the_parent_is_taken_and_said(tmp_path, caplog, form, order):
    runs = [
        Run(5, READER, ["A"], 1, "AcroRd32.exe invoice.pdf"),
        Run(6, READER, ["B"] * 5, 5, "AcroRd32.exe --type=renderer invoice.pdf"),
    ]
    file = write(tmp_path / "r", WRITERS[form](runs[::order]))
    with caplog.at_level(logging.INFO, "barnum"):
        assert names(read_calls(file)) == ["A"]
    # a reader that starts itself is usual
    assert not said(caplog)
    assert (
        "2 processes were given the document; taken is the first of them in the tree, AcroRd32.exe (pid 5)"
        in (caplog.text)
    )


def test_several_that_no_other_started_are_a_warning(tmp_path, caplog):
    runs = [Run(number, READER, [call], 1, "x invoice.pdf") for number, call in ((5, "A"), (6, "B"))]
    assert names(read_calls(write(tmp_path / "r", cuckoo(runs)))) == ["A"]
    [line] = said(caplog)
    assert "2 processes were given the document" in line


@pytest.mark.parametrize(
    ("program", "line"),
    [
        (CMD, 'cmd.exe /c start /wait "" "C:\\x\\invoice.pdf"'),
        (CMD, '"cmd" /K "start invoice.pdf"'),
        ("C:\\Windows\\explorer.exe", "explorer.exe C:\\x\\invoice.pdf"),
    ],
)
def test_what_only_hands_the_file_on_comes_last(tmp_path, caplog, program, line):
    shell = Run(5, program, ["X"] * 9, 1, line)
    runs = [shell, Run(6, READER, ["A"], 5, "AcroRd32.exe invoice.pdf")]
    assert names(read_calls(write(tmp_path / "r", cuckoo(runs)))) == ["A"]
    assert names(read_calls(write(tmp_path / "s", cuckoo([*around(shell)])))) == ["X"] * 9
    assert not said(caplog)


def test_a_prompt_that_runs_the_file_itself_is_taken(tmp_path):
    runs = [
        Run(5, CMD, ["A"], 1, "cmd.exe /c C:\\x\\starter.bat"),
        Run(6, "C:\\powershell.exe", ["X"] * 9, 5, "powershell.exe -c starter.bat"),
    ]
    assert names(read_calls(write(tmp_path / "r", cuckoo(runs, "starter.bat")))) == ["A"]


def test_what_the_sandbox_only_looked_into_is_not_what_it_started(tmp_path):
    runs = [Run(1, "C:\\spy.exe", ["X"], more={"track": False}), Run(2, "C:\\a.exe", ["A"])]
    assert names(read_calls(write(tmp_path / "r", cuckoo(runs)))) == ["A"]


def family():
    """A reader starts a shell, which starts a downloader; another program runs beside."""
    return [
        Run(1, "C:\\Windows\\explorer.exe", ["X", "X"], 900, "explorer.exe"),
        Run(5, READER, ["A", "B"], 1, "AcroRd32.exe invoice.pdf"),
        Run(6, CMD, [(60, "C"), (61, "D"), (60, "E")], 5, "cmd.exe /c get"),
        Run(4, "C:\\beside.exe", ["Y"], 1, "beside.exe"),
        Run(7, "C:\\get.exe", ["F", "A"], 6, "get.exe"),
    ]


FAMILY_CALLS = [["A", "B"], ["C", "D", "E"], ["F", "A"]]


@pytest.mark.parametrize("form", [*WRITERS, "drakvuf"])
def test_children_are_taken_each_for_itself(tmp_path, form):
    file = write(tmp_path / "r", {**WRITERS, "drakvuf": drakvuf}[form](family()))
    assert streams(read_calls(file, document="invoice.pdf")) == FAMILY_CALLS[:1]
    calls = read_calls(file, document="invoice.pdf", children=True)
    assert streams(calls) == FAMILY_CALLS
    assert calls.first.tolist() == [True, False, True, False, False, True, False]
    assert [process.pid for process in calls.processes] == [5, 6, 7]
    assert sorted(other.pid for other in calls.others) == [1, 4]
    assert streams(read_calls(file, "CMD.exe", children=True)) == FAMILY_CALLS[1:]
    threads = read_calls(file, "pid:5", threads=True, children=True)
    assert streams(threads) == [["A", "B"], ["C", "E"], ["D"], ["F", "A"]]


@pytest.mark.parametrize("form", WRITERS)
def test_children_in_any_order_and_of_processes_without_calls(tmp_path, form):
    runs = family()[::-1]
    runs[2].calls = []
    file = write(tmp_path / "r", WRITERS[form](runs))
    assert streams(read_calls(file, children=True)) == [["F", "A"], ["A", "B"]]
    # the document's process made no call, so it is none without its children
    runs = family()
    runs[1].calls = runs[2].calls = []
    file = write(tmp_path / "s", WRITERS[form](runs))
    assert streams(read_calls(file)) == [["X", "X"]]
    assert streams(read_calls(file, children=True)) == [["F", "A"]]
    assert streams(read_calls(file, "AcroRd32.exe", children=True)) == [["F", "A"]]
    with pytest.raises(SampleError, match=r"holds no call of 'AcroRd32\.exe'"):
        read_calls(file, "AcroRd32.exe")


@pytest.mark.parametrize("form", WRITERS)
def test_numbers_of_processes_are_used_again(tmp_path, form):
    runs = [
        Run(6, "C:\\early.exe", ["X"], 5),
        Run(5, "C:\\before.exe", ["X"], 1),
        Run(7, "C:\\of-before.exe", ["X"], 5),
        Run(5, READER, ["A"], 1, "AcroRd32.exe invoice.pdf"),
        Run(6, CMD, ["B"], 5),
        Run(7, "C:\\get.exe", ["C"], 6),
        Run(5, "C:\\after.exe", ["X"], 1),
        Run(8, "C:\\of-after.exe", ["X"], 5),
    ]
    calls = read_calls(write(tmp_path / "r", WRITERS[form](runs)), children=True)
    assert streams(calls) == [["A"], ["B"], ["C"]]


@pytest.mark.parametrize("form", WRITERS)
def test_parents_in_a_circle(tmp_path, form):
    runs = [
        Run(5, READER, ["A"], 7, "AcroRd32.exe invoice.pdf"),
        Run(6, READER, ["B"], 5, "AcroRd32.exe invoice.pdf"),
        Run(7, READER, ["C"], 6, "AcroRd32.exe invoice.pdf"),
        Run(8, "C:\\own.exe", ["D"], 8),
        Run(0, "C:\\none.exe", ["E"], 0),
        Run(9, "C:\\of-none.exe", ["F"], 0),
    ]
    file = write(tmp_path / "r", WRITERS[form](runs))
    assert len(names(read_calls(file))) == 1
    assert sorted(names(read_calls(file, children=True))) == ["A", "B", "C"]
    assert names(read_calls(file, "own.exe", children=True)) == ["D"]
    assert names(read_calls(file, "none.exe", children=True)) == ["E"]


@pytest.mark.parametrize("shape", ["chain", "back", "one", "circle"])
def test_as_many_processes_as_may_be_take_seconds(tmp_path, shape):
    count = Limits().processes
    shapes = {
        "chain": lambda n: (n + 1, n),
        "back": lambda n: (count - n, count - n - 1),
        "one": lambda n: (1, 1),
        "circle": lambda n: (n + 1, n or count),
    }
    pairs = [shapes[shape](number) for number in range(count)]
    processes = [
        {"pid": pid, "ppid": parent, "command_line": "a.doc", "calls": [{"api": "A"}]}
        for pid, parent in pairs
    ]
    file = write(
        tmp_path / "r", {"target": {"file": {"name": "a.doc"}}, "behavior": {"processes": processes}}
    )
    began = time.process_time()
    assert read_calls(file).first.sum() == 1
    assert read_calls(file, children=True).first.sum() >= 1
    assert time.process_time() - began < 20


def test_names_without_end_take_seconds(tmp_path):
    file = {
        "name": ["a" * 250 + f"{number:05} x.doc" for number in range(20_000)],
        "sha256": ["f" * 64] * 999,
    }
    file |= {"md5": {"a": [1]}, "path": 3, "guest_paths": [[], {}, None, "x" * 9999, "", " ", "\\"]}
    lines = ("a" * 30_000, "a" * 250 + "0", "f" * 30_000, "fffffff " * 4000, "/c" + " " * 30_000)
    processes = [
        {"pid": 1 + n, "process_name": "cmd.exe", "command_line": lines[n % 5], "calls": [{"api": "A"}]}
        for n in range(400)
    ]
    report = {"behavior": {"processes": processes}, "target": {"file": file}}
    began = time.process_time()
    calls = read_calls(write(tmp_path / "r", report), document="\u00f6" * 100)
    assert len(calls.call) == 1
    assert time.process_time() - began < 20
    message = "more than 1,000 characters of names and command lines"
    with pytest.raises(SampleError, match=message):
        read_calls(tmp_path / "r", limits=Limits(texts=1000))


def test_command_lines_that_are_slow_to_search_take_seconds(tmp_path, caplog):
    # each place looks like the name's beginning and end
    paths = ["a" * (94 - number) + "b" + "a" * (3 + number) for number in range(16)]
    processes = [
        {"pid": 1 + n, "process_name": "x.exe", "command_line": "a" * 29_990, "calls": [{"api": "A"}]}
        for n in range(1080)
    ]
    report = {"behavior": {"processes": processes}, "target": {"file": {"guest_paths": paths}}}
    began = time.process_time()
    assert len(read_calls(write(tmp_path / "r", report)).call) == 1
    assert time.process_time() - began < 20
    [line, _] = said(caplog)
    assert "command lines are not searched for the document" in line


def test_short_command_lines_are_searched_after_one_that_is_too_long(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr("barnum.calls.target._SEARCHED", 5000)
    runs = [
        Run(1, "C:\\x.exe", ["X"], command_line="x" * 6000),
        Run(2, READER, ["A"], command_line="AcroRd32.exe invoice.pdf"),
    ]
    assert names(read_calls(write(tmp_path / "r", cuckoo(runs)))) == ["A"]
    [line] = said(caplog)
    assert "1 command lines are not searched for the document" in line


SYSTEM = "C:\\Windows\\System32\\"
SYSTEM_PROGRAMS = [f"{SYSTEM}svchost.exe", f"{SYSTEM}lsass.exe", CMD, "C:\\Windows\\explorer.exe"]


@pytest.mark.parametrize("form", WRITERS)
@pytest.mark.parametrize("system", SYSTEM_PROGRAMS)
@pytest.mark.parametrize("known", [True, False])
def test_a_file_that_is_named_like_a_program_of_windows(tmp_path, caplog, form, system, known):
    name = system.rpartition("\\")[2]
    runs = [Run(4, system, ["X"] * 9, 1, name), Run(5, TEMP + name, ["A"], 4, TEMP + name)]
    paths = {"guest_paths": [(TEMP + name).replace("\\", "/").upper()]} if known else {}
    file = write(tmp_path / "r", sent(form, runs, name=name, **paths))
    assert names(read_calls(file, document=name)) == ["A"]
    if known:
        assert not said(caplog)
    else:
        [line] = said(caplog)
        assert (
            f"programs at 2 different paths have the document's name; taken is one of them, {name} (pid 5)"
            in (line)
        )


def test_the_path_that_the_report_says_goes_before_all_else(tmp_path, caplog):
    runs = [Run(4, "C:\\a\\bad.exe", ["X"], 1), Run(5, "C:\\b\\bad.exe", ["A"], 4)]
    for paths, wanted in ((["c:/B/bad.exe"], "A"), ("C:\\a\\bad.exe", "X")):
        report = sent("cape", runs, name="bad.exe", guest_paths=paths)
        assert names(read_calls(write(tmp_path / "r", report))) == [wanted]
    assert not said(caplog)
    # what made no call is not another one
    runs[1].calls = []
    report = sent("cape", [*runs, Run(6, "C:\\c.exe", ["X"])], name="bad.exe", path="C:\\b\\bad.exe")
    read_calls(write(tmp_path / "r", report))
    assert "what was given the document, bad.exe (pid 5), made no call" in said(caplog)[0]


def test_a_name_with_a_folder_is_no_path(tmp_path):
    # who sends the file chooses its name
    runs = [Run(4, f"{SYSTEM}svchost.exe", ["X"], 1), Run(5, f"{TEMP}svchost.exe", ["A"], 4)]
    report = sent("cuckoo", runs, name=f"{SYSTEM}svchost.exe")
    assert names(read_calls(write(tmp_path / "r", report))) == ["A"]


def test_programs_of_one_name_at_different_paths_are_a_warning(tmp_path, caplog):
    runs = [Run(4, "C:\\a\\bad.exe", ["A"], 1), Run(5, "C:\\b\\bad.exe", ["X"], 4)]
    assert names(read_calls(write(tmp_path / "r", sent("cuckoo", runs, name="bad.exe")))) == ["A"]
    [line] = said(caplog)
    assert "programs at 2 different paths have the document's name" in line
    caplog.clear()
    # the same one, as a log of DRAKVUF may write it
    lines = [
        start(1, 4, 6, "bad.exe", "bad.exe"),
        call(2, 4, 0, "System", "X"),
        call(3, 5, 4, "bad.exe", "A"),
    ]
    assert names(read_calls(write(tmp_path / "s", log_of(*lines)), document="bad.exe")) == ["A"]
    assert not said(caplog)


@pytest.mark.parametrize(
    "first",
    [
        Run(4, "D:\\doc.exe", ["X"], more={"track": False}),
        Run(4, "cmd.exe", ["X"], command_line="cmd.exe /c start x"),
        Run(4, f"{SYSTEM}doc.exe", ["X"]),
    ],
    ids=["not tracked", "hands on", "of Windows"],
)
def test_what_is_hardly_the_file_is_taken_where_nothing_else_is_it(tmp_path, first):
    other = Run(3, "C:\\other.exe", ["Y"])
    report = sent("cuckoo", [other, first], name=first.name)
    assert names(read_calls(write(tmp_path / "r", report))) == ["X"]
    second = Run(5, f"E:\\x\\{first.name}", ["A"])
    report = sent("cuckoo", [other, first, second], name=first.name)
    assert names(read_calls(write(tmp_path / "r", report))) == ["A"]


def test_a_very_short_name_is_looked_for_only_where_info_txt_says_it(tmp_path, caplog):
    line = "wscript.exe /e helper"
    runs = around(Run(7, "C:\\Windows\\System32\\wscript.exe", ["A"], command_line=line))
    file = write(tmp_path / "r", sent("cuckoo", runs, name="e"))
    calls = read_calls(file)
    assert (names(calls), calls.document) == (["X"], "e")
    assert "no process was given the document" in said(caplog)[0]
    caplog.clear()
    assert names(read_calls(file, document="e")) == ["A"]
    assert not said(caplog)


def test_what_a_link_leads_to_is_not_quoted(tmp_path, caplog):
    runs = [
        Run(number, "C:\\secret.exe", [call], 1, "x invoice.pdf") for number, call in ((5, "A"), (6, "B"))
    ]
    write(tmp_path / "r", cuckoo(runs))
    (tmp_path / "link").symlink_to("r")
    read_calls(tmp_path / "link")
    assert "2 processes were given the document" in caplog.text
    assert "secret" not in caplog.text


def test_odd_names_are_one_line(tmp_path, caplog):
    runs = [Run(number, "C:\\a\nb\x1b[31m", [call], 1, "x i.pdf") for number, call in ((5, "A"), (6, "B"))]
    read_calls(write(tmp_path / "r", cuckoo(runs, "i.pdf")))
    [line] = said(caplog)
    assert line.endswith("a b?[31m (pid 5)")


def log_of(*lines):
    return "".join(json.dumps(line) + "\n" for line in lines)


def call(stamp, pid, parent, program, api):
    return {
        "Plugin": "syscall",
        "TimeStamp": f"1716999134.{stamp:06}",
        "PID": pid,
        "PPID": parent,
        "TID": pid * 10,
        "ProcessName": f"\\Device\\HarddiskVolume2\\{program}",
        "Method": api,
    }


def start(stamp, pid, new, program, line):
    return {
        "Plugin": "procmon",
        "TimeStamp": f"1716999134.{stamp:06}",
        "PID": pid,
        "PPID": 1,
        "ProcessName": "\\Device\\HarddiskVolume2\\x.exe",
        "Method": "NtCreateUserProcess",
        "Status": "0x0",
        "NewPid": new,
        "CommandLine": line,
        "ImagePathName": f"C:\\{program}",
    }


@pytest.mark.parametrize("order", ["as it was", "starts at the end"])
def test_a_log_of_drakvuf_tells_who_started_whom(tmp_path, order):
    calls = [
        call(1, 4, 0, "System", "X"),
        call(2, 30, 500, "explorer.exe", "X"),
        call(11, 500, 30, "word.exe", "A"),
        call(31, 700, 600, "get.exe", "C"),
        call(41, 500, 30, "next.exe", "X"),
        call(52, 800, 500, "of-next.exe", "X"),
    ]
    starts = [
        start(10, 30, 500, "word.exe", "word.exe a.doc"),
        # no call of it is known
        start(20, 500, 600, "cmd.exe", "cmd.exe /c get"),
        # it failed
        start(21, 500, 0, "gone.exe", "gone.exe"),
        start(30, 600, 700, "get.exe", "get.exe"),
        start(40, 30, 500, "next.exe", "next.exe"),
        start(51, 500, 800, "of-next.exe", "of-next.exe"),
    ]
    # logs of the plugins are files of their own, which may be put together one after the other
    lines = calls + starts
    if order == "as it was":
        lines.sort(key=lambda line: line["TimeStamp"])
    file = write(tmp_path / "r", log_of(*lines))
    assert streams(read_calls(file, document="a.doc")) == [["A"]]
    assert streams(read_calls(file, document="a.doc", children=True)) == [["A"], ["C"]]
    assert streams(read_calls(file, "cmd.exe", children=True)) == [["C"]]


def test_a_process_begins_when_it_was_started_not_at_its_first_call(tmp_path):
    lines = [
        call(1, 4, 0, "System", "X"),
        start(10, 4, 500, "word.exe", "word.exe a.doc"),
        start(20, 500, 600, "cmd.exe", "cmd.exe"),
        call(21, 600, 500, "cmd.exe", "B"),
        call(30, 500, 4, "word.exe", "A"),
    ]
    file = write(tmp_path / "r", log_of(*lines))
    assert streams(read_calls(file, document="a.doc", children=True)) == [["B"], ["A"]]


def test_a_start_may_be_written_after_the_first_call(tmp_path):
    lines = [
        call(1, 4, 0, "System", "X"),
        call(9, 500, 4, "word.exe", "A"),
        start(10, 4, 500, "word.exe", "word.exe a.doc"),
        call(21, 600, 500, "cmd.exe", "B"),
    ]
    file = write(tmp_path / "r", log_of(*lines))
    assert streams(read_calls(file, document="a.doc", children=True)) == [["A"], ["B"]]


def test_the_command_line_of_a_number_that_is_used_again_is_the_last_one_before(tmp_path):
    lines = [
        start(30, 4, 500, "word.exe", "word.exe c.doc"),
        start(10, 4, 500, "word.exe", "word.exe b.doc"),
        start(1, 4, 500, "word.exe", "word.exe a.doc"),
        call(11, 500, 4, "word.exe", "A"),
        call(12, 4, 0, "System", "X"),
    ]
    file = write(tmp_path / "r", log_of(*lines))
    [process] = read_calls(file, document="b.doc").processes
    assert process.command_line == "word.exe b.doc"


def test_a_log_of_drakvuf_without_the_file_still_needs_a_name(tmp_path):
    file = write(tmp_path / "r", drakvuf(family()))
    with pytest.raises(SampleError, match=r"name a process; its processes are cmd\.exe"):
        read_calls(file, document="another.pdf", children=True)


def test_the_file_itself_runs_in_a_log_of_drakvuf(tmp_path):
    digest = HASHES["sha256"]
    file = write(
        tmp_path / "r", log_of(call(1, 4, 0, "System", "X"), call(2, 5, 4, f"{digest[:12]}.exe", "A"))
    )
    assert names(read_calls(file, document=f"{digest}.bin")) == ["A"]


def test_drakvuf_writes_letters_as_octal_digits(tmp_path):
    # as GLib escapes a command line
    line = '\\"C:\\\\word.exe\\" \\"C:\\\\x\\\\\\303\\234bersicht.doc\\"'
    lines = [start(1, 4, 5, "word.exe", line), call(2, 4, 0, "System", "X"), call(3, 5, 4, "word.exe", "A")]
    assert names(read_calls(write(tmp_path / "r", log_of(*lines)), document="\u00dcbersicht.doc")) == ["A"]


@pytest.mark.parametrize("stamp", [None, "", "nan", "1e999", [], {}, True, 7, 10**30, "9" * 5000, "\ud800"])
def test_times_of_wrong_types(tmp_path, stamp):
    lines = [
        start(1, 4, 5, "word.exe", "word.exe a.doc"),
        call(2, 4, 0, "System", "X"),
        call(3, 5, 4, "word.exe", "A"),
        call(4, 6, 5, "cmd.exe", "B"),
    ]
    text = log_of(*({**line, "TimeStamp": stamp} for line in lines))
    assert names(read_calls(write(tmp_path / "r", text), document="a.doc", children=True)) == ["A", "B"]


def test_starts_of_one_number_without_end_take_seconds(tmp_path):
    count = 60_000
    lines = [start(number % 1000, 5, 5, "word.exe", "") for number in range(count)]
    lines += [call(number, 5, 5, f"{number}\\word.exe", "A") for number in range(10_000)]
    file = write(tmp_path / "r", log_of(*lines))
    began = time.process_time()
    assert read_calls(file, "pid:5", children=True).first.sum() == 10_000
    assert time.process_time() - began < 20


def test_the_chain_is_what_it_was(tmp_path):
    # nothing changes where one process was given the document
    for form in (*WRITERS.values(), drakvuf):
        calls = read_calls(write(tmp_path / "r", form(chain())), document="invoice.pdf")
        assert [process.pid for process in calls.processes] == [2200]


def test_the_only_process_with_calls_is_taken_with_a_word_where_it_is_another(tmp_path, caplog):
    evil, other = Run(7, TEMP + "evil.exe", []), Run(8, "C:\\Windows\\System32\\svchost.exe", ["X"] * 3)

    def read(runs):
        return read_calls(write(tmp_path / "r", sent("cuckoo", runs, name="evil.exe")))

    assert names(read([evil, other])) == ["X"] * 3
    assert "evil.exe (pid 7), made no call; taken is the only one with calls, svchost.exe" in said(caplog)[0]
    caplog.clear()
    assert names(read([other])) == ["X"] * 3
    assert "no process was given the document; taken is the only one with calls" in said(caplog)[0]
    caplog.clear()
    assert names(read([Run(8, TEMP + "evil.exe", ["X"])])) == ["X"]
    assert not said(caplog)
