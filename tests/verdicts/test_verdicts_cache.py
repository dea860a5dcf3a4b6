"""The cache of what was summed up: it never changes what is read."""

import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from test_evaluations_files import columns, header, write

from barnum import evaluations
from barnum.errors import EvaluationError
from barnum.verdicts import cache as module
from barnum.verdicts.cache import RunCache
from barnum.verdicts.features import read_run


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "barnum" / "runs"


@pytest.fixture
def file(tmp_path):
    return write(tmp_path, columns(500))


def gz(folder, label="benign", sample="aa"):
    made = folder / evaluations.file_name(label, sample, "gz")
    with evaluations.writer_for("gz", made, header(label)) as writer:
        writer.write(columns(50))
    return made


def never(*_, **__):
    raise AssertionError("it was read anew")


def test_what_was_read_once_is_not_read_again(file, place, monkeypatch):
    runs = [RunCache().read_run(file, cut=cut) for cut in (False, True)]
    assert runs == [read_run(file), read_run(file, cut=True)]
    assert len(list(place.iterdir())) == 2
    assert place.stat().st_mode & 0o777 == 0o700
    monkeypatch.setattr(module, "read_run", never)
    assert [RunCache().read_run(file, cut=cut) for cut in (False, True)] == runs


def test_copies_have_their_own_names(tmp_path, file):
    RunCache().read_run(file)
    copy = Path(shutil.copy(file, tmp_path / "benign-bb.parquet"))
    assert RunCache().read_run(copy) == read_run(copy)
    assert RunCache().read_run(copy).sample == "bb"
    plain = gz(tmp_path)
    RunCache().read_run(plain)
    for name in ("malicious-cc.gz", "unknown-cc.gz", "benign-dd.gz"):
        copy = Path(shutil.copy(plain, tmp_path / name))
        found = RunCache().read_run(copy)
        assert found == read_run(copy)
        assert (found.name, found.label) == (found.sample, name.split("-")[0])
    # one that says otherwise inside is refused, cached or not
    wrong = Path(shutil.copy(file, tmp_path / "malicious-bb.parquet"))
    with pytest.raises(EvaluationError, match="rename it"):
        RunCache().read_run(wrong)


def test_changed_files_are_read_anew(tmp_path, file):
    before = RunCache().read_run(file)
    write(tmp_path, columns(500, 1))
    after = RunCache().read_run(file)
    assert after == read_run(file) != before


HOSTILE = {
    "empty": lambda entry: entry.write_bytes(b""),
    "junk": lambda entry: entry.write_bytes(b"\xff" * 99),
    "another": lambda entry: entry.write_text("[1]"),
    "deep": lambda entry: entry.write_text("[" * 100_000),
    "half": lambda entry: entry.write_bytes(entry.read_bytes()[:-9]),
    "windows": lambda entry: entry.write_text(
        json.dumps({**json.loads(entry.read_text()), "surprisal_windows": [1.0]})
    ),
    "huge": lambda entry: os.truncate(entry, 1 << 30),
    "link": lambda entry: (entry.rename(entry.with_name("x")), entry.symlink_to("x")),
    "pipe": lambda entry: (entry.unlink(), os.mkfifo(entry)),
    "folder": lambda entry: (entry.unlink(), entry.mkdir()),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_broken_entries_are_done_without(file, place, kind):
    expected = RunCache().read_run(file)
    (entry,) = place.iterdir()
    HOSTILE[kind](entry)
    assert RunCache().read_run(file) == expected
    RunCache().tidy()
    assert RunCache().read_run(file) == expected


@pytest.mark.parametrize("base", ["/dev/null/x", "/proc/nowhere", "relative", ""])
def test_a_cache_that_cannot_be_written_does_no_harm(file, tmp_path, monkeypatch, base):
    monkeypatch.setenv("XDG_CACHE_HOME", base)
    monkeypatch.setenv("HOME", "/dev/null")
    monkeypatch.chdir(tmp_path)
    assert RunCache().read_run(file) == read_run(file)
    RunCache().tidy()
    assert not (tmp_path / "relative").exists()
    monkeypatch.setenv("HOME", "relative")
    assert RunCache().read_run(file) == read_run(file)
    RunCache().tidy()
    if base in ("relative", ""):
        assert module.folder() is None
    assert not (tmp_path / "relative").exists()


def test_pipes_are_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "benign-aa.gz")
    with pytest.raises(EvaluationError, match="regular file"):
        RunCache().read_run(tmp_path / "benign-aa.gz")


def test_numbers_and_names_beyond_json_are_not_kept(tmp_path):
    plain = gz(tmp_path, sample="\udcff")
    assert RunCache().read_run(plain) == read_run(plain)


def test_many_writers(file, place):
    with ThreadPoolExecutor(8) as pool:
        runs = list(pool.map(lambda _: RunCache().read_run(file), range(40)))
    assert all(run == runs[0] for run in runs)
    assert len(list(place.iterdir())) == 1


def test_old_entries_are_removed_where_there_are_many(file, place, monkeypatch):
    RunCache().read_run(file)
    for i in range(10):
        (place / f"{i}.json").touch()
        os.utime(place / f"{i}.json", (i, i))
    monkeypatch.setattr(module, "_MOST_FILES", 3)
    RunCache().tidy()
    assert len(list(place.iterdir())) == 3
    assert {"8.json", "9.json"} < {entry.name for entry in place.iterdir()}
