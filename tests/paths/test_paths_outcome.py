"""What an evaluation says of how much of a run is there, and what of it begins the whole run."""

import gzip
import json
from pathlib import Path

import msgspec
import numpy as np
import pytest
from test_paths_spawn import recorded, stretch, sync

from barnum.calls import read_calls
from barnum.calls.path import write_path
from barnum.paths import open_path
from barnum.paths.outcome import source_of
from barnum.paths.preprocess import Request, preprocess
from barnum.samples import read_meta, write_meta
from paths_tools import BASE, TAKEN, make_images, pge, stream, tip

OVERFLOW = b"\x02\xf3"
# neither of these is a packet
BROKEN = b"\x02\x02" * 40


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return make_images(tmp_path_factory.mktemp("images") / "extract")


def path_of(folder, images, timeout=None):
    output = folder / "trace_parsed.parquet"
    preprocess(Request(folder=str(folder), bin_dir=str(images), output=str(output), timeout=timeout))
    return open_path(output)


def blocks_of(path):
    whole = path.read()
    return [(whole.blocks.bbid[block], int(gap)) for block, gap in zip(whole.block, whole.gap, strict=True)]


def changed(folder: Path, **streams):
    """Change what ``meta.json`` says of a stream, by its number."""
    meta = read_meta(folder / "meta.json")
    made = list(meta.streams)
    for name, fields in streams.items():
        number = int(name.removeprefix("s"))
        made[number] = msgspec.structs.replace(made[number], **fields)
    write_meta(folder / "meta.json", msgspec.structs.replace(meta, streams=tuple(made)))


def test_of_a_whole_run_there_is_nothing_to_say(tmp_path, images):
    sample = recorded(tmp_path / "a", stream(30), stream(20), spawn=None)
    source = source_of(path_of(sample.folder, images), sample.folder)
    assert (source.lost, source.truncated, source.intact) == (0.0, False, None)
    assert b"intact" not in msgspec.json.encode(source)


@pytest.mark.parametrize("turns_before", [1, 7, 40])
@pytest.mark.parametrize("loss", ["broken", "overflow", "unmapped"])
def test_what_comes_before_a_loss_begins_the_whole_run(tmp_path, images, loss, turns_before):
    before = sync() + stretch(turns_before)
    whole = recorded(tmp_path / "a", before + sync() + stretch(50), spawn=None)
    # an overflow alone loses no bytes
    nowhere = pge(BASE) + TAKEN + tip(0x900000) + TAKEN * 9
    middle = {"broken": BROKEN, "overflow": nowhere + sync() + OVERFLOW, "unmapped": nowhere}[loss]
    lossy = recorded(tmp_path / "b", before + middle + sync() + stretch(9), spawn=None)
    path = path_of(lossy.folder, images)
    source = source_of(path, lossy.folder)
    assert source.lost > 0
    if loss == "broken":
        # such a loss may be noticed late
        assert source.intact is None
        return
    expected = blocks_of(path_of(whole.folder, images))
    found = blocks_of(path)
    assert 0 < source.intact < len(found)
    # the last of them is where no code is
    known = source.intact - 2
    assert known > 0
    assert found[:known] == expected[:known]
    assert found[source.intact][1] != 0


def test_a_stream_that_its_recorder_ended_is_intact_up_to_there(tmp_path, images):
    sample = recorded(tmp_path / "a", stream(30), stream(20), stream(10), spawn=None)
    path = path_of(sample.folder, images)
    ends = np.cumsum([each["steps"] for each in path.header["streams"]]).tolist()
    for number, end in enumerate(ends):
        changed(sample.folder, **{f"s{n}": {"lost": None, "lost_blocks": 0} for n in range(3)})
        changed(sample.folder, **{f"s{number}": {"lost": "max-size", "lost_blocks": 100}})
        source = source_of(path, sample.folder)
        assert source.lost == pytest.approx(100 / (100 + path.rows))
        assert source.intact == end
    changed(sample.folder, s0={"lost": "max-size", "lost_blocks": 1})
    assert source_of(path, sample.folder).intact == ends[0]
    # a header that does not say which steps are whose
    path.header["streams"] = None
    assert source_of(path, sample.folder).intact is None
    path.header["streams"] = [{"file": "trace_0.gz"}]
    assert source_of(path, sample.folder).intact is None


def test_losses_without_their_places_leave_nothing_that_is_sure(tmp_path, images):
    sample = recorded(tmp_path / "a", stream(30), spawn=None)
    path = path_of(sample.folder, images)
    path.header["statistics"]["bytes_lost"] = 20
    source = source_of(path, sample.folder)
    assert source.lost > 0
    assert source.intact is None


def test_a_path_that_is_ended_early_is_intact(tmp_path, images):
    first = (sync() + stretch(2000)) * 200
    sample = recorded(tmp_path / "a", first, stream(20), spawn=(1, 10))
    path = path_of(sample.folder, images, timeout=1e-9)
    source = source_of(path, sample.folder)
    assert source.truncated
    assert source.intact == source.steps == path.rows
    # another process is started after what is there
    assert path.spawn is None
    assert source.cut == path.first_stream == path.rows
    again = recorded(tmp_path / "b", first, stream(20), spawn=None)
    assert source_of(path_of(again.folder, images, timeout=1e-9), again.folder).cut is None


def report(*processes, target=None):
    made = [
        {"pid": pid, "process_name": name, "calls": [{"api": f"Nt{n}", "tid": n % 2} for n in range(calls)]}
        for pid, name, calls in processes
    ]
    told = {} if target is None else {"target": {"file": {"name": target}}}
    return json.dumps({**told, "behavior": {"processes": made}})


@pytest.mark.parametrize(
    ("content", "options"),
    [
        # the rest may show another process, or another that comes first
        (report((1, "a.exe", 9), target="a.exe"), {}),
        (report((1, "a.exe", 9), target="b.doc"), {}),
        (report((1, "a.exe", 9), target="b.doc"), {"process": "a.exe"}),
        (report((1, "a.exe", 9)), {}),
        (report((1, "a.exe", 9)), {"process": "pid:1"}),
    ],
)
def test_of_a_report_that_breaks_off_nothing_is_sure(tmp_path, content, options):
    file = tmp_path / "report.json"
    file.write_text(content)
    assert "intact" not in msgspec.to_builtins(source_of(written(file, options), tmp_path))
    file.write_text(content[:-14])
    path = written(file, options)
    source = source_of(path, tmp_path)
    assert source.truncated
    assert source.intact == 0


def test_of_a_list_of_calls_that_breaks_off_all_is_intact(tmp_path):
    file = tmp_path / "calls.txt.gz"
    packed = gzip.compress("".join(f"Nt{n % 7}\n" for n in range(5000)).encode(), 0)
    file.write_bytes(packed[:-9])
    path = written(file, {})
    source = source_of(path, tmp_path)
    assert (source.truncated, source.intact) == (True, path.rows)


def written(report, options):
    calls = read_calls(report, options.get("process"), None, options.get("threads", False))
    file = report.with_name("path.parquet")
    write_path(calls, file)
    return open_path(file)
