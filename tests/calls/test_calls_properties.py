"""What holds for every report: it is read back as written, cut anywhere it gives what came before."""

import gzip
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from barnum.calls import read_calls
from barnum.errors import BarnumError
from call_reports import DOCUMENT, Run, cape, chain, cuckoo, drakvuf, streams, write

FORMS = {"cuckoo": cuckoo, "cape": cape, "drakvuf": drakvuf}
NAME = st.text(min_size=1, max_size=8).filter(lambda name: not name.isspace())
API = st.one_of(st.sampled_from(["NtClose", "NtReadFile"]), NAME).map(
    lambda api: api.encode(errors="ignore").decode()
)
CALL = st.tuples(st.integers(1, 3), API.filter(lambda api: api and not api.isspace()))
RUNS = st.lists(st.lists(CALL, min_size=1, max_size=6), min_size=1, max_size=4)
quickly = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.mark.parametrize("form", FORMS)
@given(runs=RUNS, packed=st.booleans(), wanted=st.integers(0, 3))
@quickly
def test_a_report_is_read_back_as_written(tmp_path, form, runs, packed, wanted):
    runs = [Run(10 + place, f"C:\\p{place % 2}.exe", calls) for place, calls in enumerate(runs)]
    wanted = f"p{wanted % 2 if len(runs) > 1 else 0}.exe"
    file = write(tmp_path / "r", FORMS[form](runs), packed)
    mine = [run for run in runs if run.name == wanted]
    calls = read_calls(file, wanted)
    assert streams(calls) == [[api for _, api in run.calls] for run in mine]
    assert sorted(process.pid for process in calls.processes + calls.others) == [run.pid for run in runs]
    assert not calls.truncated
    assert len(set(calls.names)) == len(calls.names) == len(set(calls.call.tolist()))
    by_thread = []
    for run in mine:
        for thread in dict.fromkeys(tid for tid, _ in run.calls):
            by_thread.append([api for tid, api in run.calls if tid == thread])
    assert streams(read_calls(file, wanted, threads=True)) == by_thread


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize("form", FORMS)
@given(data=st.data())
@quickly
def test_a_report_that_is_cut_gives_what_came_before_or_one_line(tmp_path, form, packed, data):
    content = FORMS[form](chain()[2:])
    content = (content if isinstance(content, str) else json.dumps(content)).encode()
    content = gzip.compress(content, 0) if packed else content
    cut = data.draw(st.integers(0, len(content) - 1))
    file = tmp_path / "r"
    file.write_bytes(content)
    whole = {tuple(stream) for stream in streams(read_calls(file, "AcroRd32.exe"))}
    file.write_bytes(content[:cut])
    try:
        # of a report that breaks off the names of processes may be missing
        calls = read_calls(file, "AcroRd32.exe" if data.draw(st.booleans()) else None, DOCUMENT)
    except BarnumError as error:
        assert str(file) in str(error)
        assert "\n" not in str(error)
        return
    # a log that ends where a line does is whole
    whole_lines = form == "drakvuf" and not packed and b"\n" in content[cut - 1 : cut + 1]
    assert calls.truncated or whole_lines
    [stream] = streams(calls)
    assert any(full[: len(stream)] == tuple(stream) for full in whole | {("NtClose",) * 9})


@given(
    content=st.binary(max_size=200),
    packed=st.booleans(),
    head=st.sampled_from([b"", b"{", b"1 ", b"api,", b"A\n"]),
)
@quickly
def test_any_bytes_give_calls_or_one_line(tmp_path, content, packed, head):
    file = tmp_path / "r"
    file.write_bytes(gzip.compress(head + content, 1) if packed else head + content)
    _read(file)


@pytest.mark.parametrize("form", FORMS)
@given(
    places=st.lists(
        st.tuples(st.floats(0, 1, exclude_max=True), st.binary(max_size=3)), min_size=1, max_size=4
    ),
    packed=st.booleans(),
)
@quickly
def test_any_damage_gives_calls_or_one_line(tmp_path, form, places, packed):
    content = FORMS[form](chain())
    content = (content if isinstance(content, str) else json.dumps(content)).encode()
    content = bytearray(gzip.compress(content, 1) if packed else content)
    for where, damage in places:
        place = int(where * len(content))
        content[place : place + len(damage)] = damage
    file = tmp_path / "r"
    file.write_bytes(content)
    _read(file)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                [
                    "behavior",
                    "processes",
                    "calls",
                    "api",
                    "pid",
                    "target",
                    "file",
                    "name",
                    "environ",
                    "ppid",
                    "path",
                    "md5",
                    "guest_paths",
                    "command_line",
                    "repeated",
                    "tid",
                ]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=30,
)


@given(behavior=JSON, processes=st.lists(JSON), calls=st.lists(JSON), target=JSON)
@quickly
def test_any_types_give_calls_or_one_line(tmp_path, behavior, processes, calls, target):
    process = {"pid": 1, "calls": [{"api": "A"}, *calls]}
    report = {"behavior": {"processes": [process, *processes], "x": behavior}, "target": target}
    file = tmp_path / "r"
    file.write_text(json.dumps(report))
    calls = read_calls(file, "pid:1")
    assert calls.names[0] == "A"
    assert not calls.truncated


def _read(file):
    for children in (False, True):
        try:
            calls = read_calls(file, children=children)
        except BarnumError as error:
            assert str(file) in str(error)
            assert "\n" not in str(error).replace(str(file), "")
            continue
        assert len(calls.call) == len(calls.first) == sum(process.calls for process in calls.processes) > 0
        assert calls.first[0]
        assert int(calls.call.max()) == len(calls.names) - 1
