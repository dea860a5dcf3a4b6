"""Whatever a report holds: what can be read is kept, the rest is one clear line, and memory stays bounded."""

import contextlib
import gzip
import json
import logging
import os
import random
import re
import tracemalloc
import zlib

import pytest

from barnum.calls import Limits, read_calls
from barnum.calls.path import as_path
from barnum.calls.readers import plain
from barnum.errors import SampleError
from call_reports import READER, Run, cape, chain, cuckoo, drakvuf, names, write

PLACE = '{"behavior": {"processes": [{"pid": 1, "process_name": "a.exe", "calls": [%s]}]}}'


def refusal(file, **options):
    with pytest.raises(SampleError) as caught:
        read_calls(file, **options)
    message = str(caught.value)
    assert str(file) in message
    assert "\n" not in message
    assert message.isprintable()
    assert len(message) < 1000 + len(str(file))
    return message


def report_of(*calls):
    return PLACE % ", ".join(call if isinstance(call, str) else json.dumps(call) for call in calls)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "is empty"),
        (b" \n\t\n", "is empty"),
        (b"\xef\xbb\xbf", "is empty"),
        (gzip.compress(b"", mtime=0), "is empty"),
        (b"\x1f\x8b", "cut short"),
        (b"\x1f\x8bnothing", "gzip data is broken"),
        (b"[]", "JSON list"),
        (b"{}", "behavior.processes"),
        (b'{"behavior": {"processes": {}}}', "behavior.processes"),
        (b'{"behavior": []}', "behavior.processes"),
        (b'{"behavior": {"processes": []}}', "holds no call"),
        (b'{"behavior": {"processes": [1, null, "x", []]}}', "4 processes that are no objects"),
        (b'{"behavior": {"processes": [{"calls": {"api": "A"}}]}}', "1 processes without calls"),
        (b"{'a': 1}", "breaks off before any call"),
        (b"{", "breaks off before any call"),
        (b'{"Plugin":"procmon","PID":4}\n' * 3, "3 lines of procmon that are no calls"),
        (b'{"Plugin":"sysc', "breaks off before any call"),
        ('{"a": 1}'.encode("utf-16"), "UTF-16"),
        (b"\x7fELF\x02\x01\x01\0\0", "binary data"),
        (b"The quick brown fox\n", "line 1 is no name of a call"),
        (b"NtClose\nNtOpenFile\n<p class=x>\n", "line 3 is no name of a call"),
        (b"NtClose\n\x1b[31mred\n", "line 2 is no name of a call"),
        (b"1 2 three", "line 1 is no name of a call"),
        (b"1\n2\nthree", "'three' is no number"),
        (b"1 2\n3 4\n", "several lines hold several numbers"),
        (b"1 " + b"2" * 300_000, "no number"),
        (b"time,what\n1,NtClose\n", "heads the column of calls"),
        (b"sha256,labels,0,1\n00,1,NtClose,NtClose\n", "not of the calls of one program"),
        (b'api,x\n"' + b"a\n" * 200_000, "is no table"),
        (b"api,x\n", "holds no call"),
    ],
)
def test_what_is_no_report_is_one_clear_line(tmp_path, content, why):
    assert why in refusal(write(tmp_path / "r", content))


def test_places_that_are_no_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    for name in ("missing", "pipe", "loop", ".", "/dev/zero", "x" * 300):
        refusal(tmp_path / name)
    with pytest.raises(SampleError, match="no path"):
        read_calls(tmp_path / "a\0b")


@pytest.mark.parametrize("form", [cuckoo, cape, drakvuf])
def test_a_process_without_calls_is_named_with_those_that_have(tmp_path, form):
    message = refusal(write(tmp_path / "r", form(chain())), process="WINWORD.EXE")
    assert "holds no call of 'WINWORD.EXE'" in message
    assert "AcroRd32.exe (pid 2200) with 5 calls" in message


def test_a_list_has_no_processes(tmp_path):
    file = write(tmp_path / "r", "NtClose\n")
    assert "leave out which one is wanted" in refusal(file, process="a.exe")
    with pytest.raises(SampleError, match="must be followed by a number"):
        read_calls(file, "pid:one")


def test_entries_of_a_wrong_type_are_skipped_and_said_once_a_kind(tmp_path, caplog):
    wrong = [
        "1",
        "null",
        "[]",
        "[{}]",
        '"A"',
        "{}",
        {"api": 3},
        {"api": None},
        {"api": ["A"]},
        {"api": {"api": "A"}},
    ]
    wrong += [{"api": ""}, {"api": " "}, {"api": "x" * 2000}, {"api": True}]
    text = report_of({"api": "A"}, *wrong, {"api": "B", "tid": {}, "category": [], "repeated": "many"})
    calls = read_calls(write(tmp_path / "r", text))
    assert names(calls) == ["A", "B"]
    assert calls.skipped == len(wrong)
    kinds = [record.getMessage().partition(": skipped ")[2] for record in caplog.records]
    assert sorted(kinds) == [
        "1 calls whose name has more than 1,024 characters",
        "2 calls without a name",
        "5 calls that are no objects",
        "6 calls whose name is no text",
    ]


def test_processes_of_wrong_types_still_give_their_calls(tmp_path):
    odd = {"pid": "12", "ppid": [], "process_name": 3, "process_path": {}, "command_line": None, "environ": 4}
    calls = read_calls(write(tmp_path / "r", cuckoo([Run(1, READER, ["A"], more=odd)])))
    [process] = calls.processes
    assert (process.pid, process.parent, process.name, process.path) == (12, None, "", "")
    for target in ({"file": []}, {"file": {"name": [["a"], {}, 3]}}, {"file": {"name": {"a": [1]}}}, [], "x"):
        report = {"target": target, **cuckoo(chain(), order=("behavior",))}
        assert read_calls(write(tmp_path / "r", report), "acrord32.exe").document is None
    report["target"] = {"file": {"name": ["invoice.pdf", "other.pdf"], "size": 1}}
    assert read_calls(write(tmp_path / "r", report)).document == "invoice.pdf"


def test_wrong_types_in_a_log_of_drakvuf(tmp_path):
    good = '{"Plugin":"syscall","PID":1,"ProcessName":"a","Method":"A"}'
    bad = [
        '{"Plugin":"syscall","PID":"1","ProcessName":"a","Method":"A"}',
        '{"Plugin":"syscall","PID":1,"ProcessName":null,"Method":"A"}',
        '{"Plugin":"syscall","PID":1,"ProcessName":"a","Method":7}',
        '{"Plugin":"syscall","PID":1,"ProcessName":"a"}',
        '{"Plugin":["syscall"]}',
        '{"Plugin":"apimon","Event":"dll_loaded","Method":"A","PID":1,"ProcessName":"a"}',
        '{"Plugin":"procmon","CommandLine":3,"NewPid":"x"}',
        "[1]",
        "null",
        "{broken",
        '{"a":' * 100_000,
        '{"Plugin":"x","a":"\xff"}',
    ]
    text = "\n".join([good, *bad, good, "", good]).encode("latin-1")
    calls = read_calls(write(tmp_path / "r", text))
    assert (names(calls), calls.skipped, calls.truncated) == (["A"] * 3, len(bad), False)


@pytest.mark.parametrize(
    "value",
    [
        "NaN",
        "-Infinity",
        "123456789012345678901234567890",
        "-" + "9" * 3000,
        '"' + "x" * (10 << 20) + '"',
        "[" * 900 + "]" * 900,
        '{"api": {"api": "X"}}',
        '"\\ud800\\u0000"',
        '"\\udfff"',
        '{"\\udc00": "\\ud800"}',
        "1e-400",
    ],
    ids=[
        "nan",
        "infinity",
        "large",
        "huge",
        "10MB",
        "nested",
        "object",
        "surrogate",
        "half",
        "halves",
        "tiny",
    ],
)
def test_odd_values_beside_a_call_do_not_matter(tmp_path, value):
    call = '{"arguments": %s, "api": "B", "x": [%s,%s]}' % (value, value, value)  # noqa: UP031
    calls = read_calls(write(tmp_path / "r", report_of({"api": "A"}, call, {"api": "C"})))
    assert (names(calls), calls.truncated) == (["A", "B", "C"], False)


@pytest.mark.parametrize("shift", range(0, 40, 3))
def test_odd_values_where_pieces_meet(tmp_path, shift):
    # whatever the reader takes at once, some of these are cut
    values = 'NaN, -Infinity, 99999999999999999999999, "\u20ac\\\\", "\\"", '
    filler = '{"arguments": [%s0], "api": "B"}' % (values * 30)
    text = " " * shift + report_of(*[filler] * 40)
    calls = read_calls(write(tmp_path / "r", text))
    assert (names(calls), calls.truncated) == (["B"] * 40, False)


def test_nesting_is_bounded(tmp_path):
    for deep in ('{"a": ' * 100_000, "[" * 100_000):
        for text in (
            report_of({"api": "A"}, '{"x": ' + deep),
            '{"x": ' + deep,
            '{"behavior": {"processes": [' + deep,
        ):
            assert "levels of nested JSON" in refusal(write(tmp_path / "r", text))


def test_a_10_mb_name_is_skipped(tmp_path):
    calls = read_calls(write(tmp_path / "r", report_of({"api": "x" * (10 << 20)}, {"api": "A"})))
    assert (names(calls), calls.skipped) == (["A"], 1)
    calls = read_calls(write(tmp_path / "r", "A\n" + "x" * (20 << 20) + "\nB\n"))
    assert (names(calls), calls.skipped) == (["A", "B"], 1)


def test_duplicate_keys_lose_no_call(tmp_path):
    text = '{"behavior": {"processes": [{"pid": 1, "pid": 2, "calls": [{"api": "X", "api": "A"}], "calls": ['
    text += ']}]}, "behavior": {"processes": [{"pid": 3, "process_name": "b", "calls": [{"api": "B"}]}]}}'
    file = write(tmp_path / "r", text)
    assert names(read_calls(file, "pid:2")) == ["A"]
    assert names(read_calls(file, "b")) == ["B"]


@pytest.mark.parametrize("form", [cuckoo, cape, drakvuf])
def test_bytes_that_are_no_utf_8_harm_nothing(tmp_path, form):
    content = form(chain())
    text = (content if isinstance(content, str) else json.dumps(content)).replace("Users", "\xfcsers")
    file = write(tmp_path / "r", b"\xef\xbb\xbf" + text.encode("latin-1"))
    assert len(read_calls(file, "AcroRd32.exe").call) == 5


def test_names_are_kept_as_they_are_and_shown_safely(tmp_path):
    name = "a\nb\x1b[31m\u202e"
    report = cuckoo([Run(1, "C:\\" + name, [name]), Run(2, "C:\\b", ["B"])])
    file = write(tmp_path / "r", report)
    assert read_calls(file, "pid:1").names == (name,)
    assert read_calls(file, "pid:1").processes[0].name == name
    assert "a b?[31m?" in refusal(file, process="c.exe\n")


def test_gzip_members_and_what_follows_them(tmp_path, caplog):
    text = json.dumps(cuckoo(chain())).encode()
    packed = gzip.compress(text[:900]) + gzip.compress(b"") + gzip.compress(text[900:])
    for ending in (b"", b"\0" * 600, b"\0" * 20000 + gzip.compress(b"\n"), b"\x1f", b"garbage"):
        calls = read_calls(write(tmp_path / "r", packed + ending))
        assert (len(calls.call), calls.truncated) == (5, False)
        warned = [record for record in caplog.records if record.levelno >= logging.WARNING]
        assert bool(warned) == (ending in (b"\x1f", b"garbage"))


def test_what_follows_the_report_is_ignored_and_said(tmp_path, caplog):
    for ending in ("garbage", "{}", "]"):
        caplog.clear()
        calls = read_calls(write(tmp_path / "r", json.dumps(cuckoo(chain())) + ending))
        assert (len(calls.call), calls.truncated) == (5, False)
        assert "what follows the report's end is ignored" in caplog.text


def test_gzip_that_is_cut_or_wrong_keeps_what_came(tmp_path, caplog):
    text = "".join(f"Call{number % 50}\n" for number in range(50_000)).encode()
    packed = gzip.compress(text)
    for content in (packed[: len(packed) // 2], packed[:-1], packed[:-8] + b"\0" * 8):
        caplog.clear()
        calls = read_calls(write(tmp_path / "r", content))
        assert calls.truncated
        assert len(calls.call) > 1000
        assert names(calls) == [f"Call{number % 50}" for number in range(len(calls.call))]
        assert "breaks off (its gzip data is" in caplog.text


def test_a_broken_report_keeps_what_came_before(tmp_path, caplog):
    text = report_of({"api": "A"}, {"api": "B"}, "{'api'", {"api": "C"})
    calls = read_calls(write(tmp_path / "r", text))
    assert (names(calls), calls.truncated) == (["A", "B"], True)
    assert "breaks off (" in caplog.text
    assert "the 2 calls before are kept" in caplog.text


def test_a_log_of_drakvuf_that_is_cut(tmp_path):
    text = drakvuf(chain())
    whole = read_calls(write(tmp_path / "r", text.rstrip("\n")), "AcroRd32.exe")
    assert not whole.truncated
    cut = read_calls(write(tmp_path / "r", text[:-40]), "AcroRd32.exe")
    assert (cut.truncated, cut.skipped) == (True, whole.skipped - 1)


@pytest.mark.parametrize(
    ("limits", "why"),
    [
        (Limits(calls=3), "3 calls"),
        (Limits(names=3), "3 different names"),
        (Limits(processes=3), "3 processes"),
        (Limits(threads=3), "3 threads"),
        (Limits(texts=100), "100 characters"),
        (Limits(unpacked=1000), "1,000 bytes"),
    ],
)
@pytest.mark.parametrize("form", [cuckoo, cape, drakvuf])
def test_what_exceeds_a_bound_is_refused(tmp_path, form, limits, why):
    assert f"more than {why}" in refusal(write(tmp_path / "r", form(chain())), threads=True, limits=limits)


def test_a_line_that_is_too_long_is_passed(tmp_path):
    text = drakvuf(chain())
    long = '{"Plugin":"syscall","x":"' + "y" * 5000 + '"}\n'
    # what is read at once is larger than the bound, so the line must be larger than that
    long = long.replace("y" * 5000, "y" * (3 << 20))
    calls = read_calls(write(tmp_path / "r", text + long + text), "AcroRd32.exe", limits=Limits(line=1 << 20))
    assert (len(calls.call), calls.truncated) == (10, False)


@pytest.mark.parametrize(
    ("head", "body"),
    [
        (b'{"x": "', b"a"),
        (b'{"x": "', b'\\"'),
        (b'{"x": ', b" "),
        (b'{"x": ', b"1"),
        (b'{"Plugin":"x","y":"', b"a"),
        (b"A\n", b"b"),
        (b"1 ", b"1"),
        (b"api,x\n", b"a,"),
        (b"A\n", b"\n"),
    ],
)
def test_a_gzip_bomb_fills_no_memory(tmp_path, head, body):
    packer = zlib.compressobj(1, wbits=31)
    content = packer.compress(head)
    block = body * ((1 << 20) // len(body))
    content += b"".join(packer.compress(block) for _ in range(48)) + packer.flush()
    file = write(tmp_path / "r", content)
    del content
    tracemalloc.start()
    try:
        with contextlib.suppress(SampleError):
            read_calls(file, limits=Limits(text=4 << 20, line=4 << 20))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 32 << 20


@pytest.mark.parametrize("half", ["\\udfff", "\\ud800", "\\uDBFF\\u0041", "\\udc00\\ud83d", "\\\\\\udfff"])
@pytest.mark.parametrize("form", [cuckoo, cape, drakvuf])
def test_half_a_surrogate_pair_is_replaced_wherever_it_stands(tmp_path, form, half):
    content = form(chain())
    text = content if isinstance(content, str) else json.dumps(content)
    text = text.replace("NtReadFile", f"Nt{half}File").replace("0x000000c4", half).replace("SessionID", half)
    calls = read_calls(write(tmp_path / "r", text), "AcroRd32.exe")
    assert (len(calls.call), calls.truncated) == (5, False)
    name = re.sub("[\ud800-\udfff]", "\ufffd", json.loads(f'"Nt{half}File"'))
    assert names(calls)[1:3] == [name] * 2
    assert as_path(calls).blocks.modules[2] == name


@pytest.mark.parametrize("seed", range(30))
def test_escapes_where_pieces_meet(tmp_path, seed):
    draw = random.Random(seed)
    tokens = ["\\\\", "\\\\", '\\"', "\\ud83d", "\\uDE00", "\\udfff", "a", "udfff", "\\n", "\u20ac", "1"]
    made = ["".join(draw.choices(tokens, k=draw.randrange(1, 9))) for _ in range(60)]
    text = (PLACE % ",".join(f'{{"api": "x{name}"}}' for name in made)).encode()
    packed = b""
    while text:
        size = draw.randrange(1, 8)
        packed, text = packed + gzip.compress(text[:size], 1), text[size:]
    calls = read_calls(write(tmp_path / "r", packed))
    wanted = [re.sub("[\ud800-\udfff]", "\ufffd", json.loads(f'"x{name}"')) for name in made]
    assert (names(calls), calls.truncated) == (wanted, False)


def test_lines_are_looked_at_a_constant_number_of_times(tmp_path, monkeypatch):
    class Line(bytes):
        """A line that counts how often it is compared."""

        compared = 0
        __hash__ = bytes.__hash__

        def __eq__(self, other):
            Line.compared += 1
            return bytes.__eq__(self, other)

    class Counted(plain.Source):
        def lines(self):
            for lines in super().lines():
                yield list(map(Line, lines))

    monkeypatch.setattr("barnum.calls.read.Source", Counted)
    count = 5000
    # one name, with ever other blanks around it
    text = "".join("A" + f"{number:b}".replace("0", " ").replace("1", "\t") + "\n" for number in range(count))
    calls = read_calls(write(tmp_path / "r", text))
    assert (calls.names, len(calls.call)) == (("A",), count)
    assert Line.compared < 10 * count


def test_endless_spellings_of_a_name_fill_no_memory(tmp_path):
    text = "".join("A" + " " * number + "\n" for number in range(3000))
    file = write(tmp_path / "r", text)
    whole = read_calls(file)
    tracemalloc.start()
    try:
        calls = read_calls(file, limits=Limits(texts=1 << 16))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert names(calls) == names(whole) == ["A"] * 3000
    # the file, what is read at once and lists of that are held in any case
    assert peak < 4 * len(text) + (4 << 20)


@pytest.mark.parametrize(
    ("head", "blank"),
    [
        ("A\nB\n", "\n"),
        ("A\nB\n", "\r\n"),
        ("A\nB\n", " \t\n"),
        ("A\nB\n", "\u3000\n"),
        ("1\n2\n", "\n"),
        ("api,x\nA,1\nB,1\n", "\n"),
        ("api,x\nA,1\nB,1\n", "\r\n"),
        (drakvuf(chain()[2:3]), "\n"),
        (drakvuf(chain()[2:3]), " \t\r\n"),
    ],
)
def test_blank_lines_are_bounded(tmp_path, head, blank):
    file = write(tmp_path / "r", head + blank * 100 + head.splitlines()[-1] + "\n")
    assert "more than 99 blank lines" in refusal(file, limits=Limits(blank=99))
    assert len(read_calls(file, limits=Limits(blank=100)).call) > 2


def test_a_gzip_of_empty_lines_is_not_read_to_its_end(tmp_path):
    packer = zlib.compressobj(1, wbits=31)
    content = packer.compress(b"A\n" * 20)
    block = b"\n" * (1 << 24)
    content += b"".join(packer.compress(block) for _ in range(8))  # it does not end, which is not met
    assert "more than 16,777,216 blank lines" in refusal(write(tmp_path / "r", content))


def test_line_numbers_count_blank_lines(tmp_path):
    assert "line 6 is" in refusal(write(tmp_path / "r", "A\n\n\nA\n\nB=C\n"))


def rows_of(head, row, count=100):
    packer = zlib.compressobj(1, wbits=31)
    return packer.compress(head) + b"".join(packer.compress(row(n)) for n in range(count)) + packer.flush()


@pytest.mark.parametrize(
    ("head", "row"),
    [
        (
            b"",
            lambda n: (
                b'{"Plugin":"syscall","PID":1,"ProcessName":"%d%s","Method":"A"}\n' % (n, b"a" * (1 << 20))
            ),
        ),
        # one letter makes each of the others take four bytes
        (b"api,pid\n", lambda n: "A,{}-{}\U0001f600\n".format(n, "1" * 130_000).encode()),
        (b"api,process\n", lambda n: b"A,%d%s\n" % (n, b"p" * 130_000)),
    ],
    ids=["drakvuf", "pid", "process"],
)
def test_processes_with_long_names_fill_no_memory(tmp_path, head, row):
    file = write(tmp_path / "r", rows_of(head, row))
    tracemalloc.start()
    try:
        calls = read_calls(file, process="pid:1" if not head else None)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(calls.call) >= 1
    assert len(calls.processes) + len(calls.others) == 100
    # untruncated they take 13 MB at least beside what is read at once
    assert peak < 12 << 20


def test_what_tells_processes_of_a_table_apart_is_counted(tmp_path):
    file = write(tmp_path / "r", "api,pid\n" + "".join(f"A,{n:040}\n" for n in range(30)))
    assert "more than 1,000 characters" in refusal(file, limits=Limits(texts=1000))


@pytest.mark.parametrize("threads", [False, True])
def test_a_few_bytes_that_stand_for_many_calls_are_refused_before_they_take_memory(tmp_path, threads):
    runs = [Run(1, READER, [(thread % 3, "A") for thread in range(2000)])]
    file = write(tmp_path / "r", cape(runs, repeated={"A": 1 << 16}))
    tracemalloc.start()
    try:
        assert "more than 1,000,000 calls" in refusal(file, threads=threads, limits=Limits(calls=1_000_000))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 16 << 20


def test_processes_that_were_started_are_bounded(tmp_path):
    # command lines that are empty count too
    lines = [json.dumps({"Plugin": "procmon", "NewPid": n, "CommandLine": ""}) for n in range(50)]
    file = write(tmp_path / "r", drakvuf(chain()) + "\n".join(lines) + "\n")
    assert len(read_calls(file, "AcroRd32.exe", limits=Limits(started=54)).call) == 5
    assert "more than 50 processes that were started" in refusal(file, limits=Limits(started=50))


def test_a_report_that_takes_all_memory_is_one_line(tmp_path, monkeypatch):
    def starve(*_):
        raise MemoryError

    file = write(tmp_path / "r", cuckoo(chain()))
    monkeypatch.setattr("barnum.calls.recording.Recording.call", starve)
    assert "needs more memory than there is" in refusal(file)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("A\nroot:x:0:0:secret words:/root\n", "line 2 is no name"),
        ("1\n2\nsecret\n", "is no number"),
        ("1 2 3 secret\n", "line 1 is no name"),
        ("1 2 3 " + "4 " * 140_000 + "secret\n", "is no number"),
        ('{"Plugin":"secret"}\n' * 2, "lines of other plugins"),
    ],
)
def test_what_a_link_leads_to_is_not_quoted(tmp_path, content, why):
    file = write(tmp_path / "r", content)
    assert "secret" in refusal(file)
    (tmp_path / "link").symlink_to(file)
    message = refusal(tmp_path / "link")
    assert why in message
    assert "secret" not in message
