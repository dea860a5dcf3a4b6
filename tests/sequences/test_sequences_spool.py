"""Columns that grow, in memory or on disk."""

import resource
import tempfile
from contextlib import contextmanager

import numpy as np
import pytest

from barnum.errors import OutputError
from barnum.sequences import Spool

COLUMNS = {"number": (np.int32, ()), "row": (np.uint8, (3,)), "table": (np.float64, (2, 2))}


@pytest.fixture
def scratch(tmp_path, monkeypatch):
    """Where files without a name lie."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@contextmanager
def files_of_at_most(size):
    """As on a disk that is full: files do not grow beyond ``size`` bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def rows_of(seed, count):
    draw = np.random.default_rng(seed)
    return {
        "number": draw.integers(-5, 5, count).astype(np.int32),
        "row": draw.integers(0, 256, (count, 3)).astype(np.uint8),
        "table": draw.random((count, 2, 2)),
    }


@pytest.mark.parametrize("in_memory", [0, 300, 1000, 1 << 20])
def test_memory_and_disk_hold_the_same(scratch, in_memory):
    sizes = [0, 1, 7, 0, 30, 2]
    spool = Spool(COLUMNS, in_memory)
    for seed, size in enumerate(sizes):
        spool.append(**rows_of(seed, size))
    assert len(spool) == sum(sizes)
    assert spool.on_disk == (in_memory < 1 << 20)
    found = spool.arrays()
    for name, (dtype, _) in COLUMNS.items():
        expected = np.concatenate([rows_of(seed, size)[name] for seed, size in enumerate(sizes)])
        assert found[name].dtype == dtype
        assert found[name].shape == expected.shape
        assert found[name].tobytes() == expected.tobytes()
    # the files have no names: nothing is left of them, even after a kill
    assert list(scratch.iterdir()) == []


def test_arrays_can_be_asked_for_twice():
    for in_memory in (0, 1 << 20):
        spool = Spool(COLUMNS, in_memory)
        spool.append(**rows_of(1, 5))
        assert [array.tolist() for array in spool.arrays().values()] == [
            array.tolist() for array in spool.arrays().values()
        ]


@pytest.mark.parametrize("in_memory", [-1, 0])
@pytest.mark.parametrize("appended", [0, 1])
def test_nothing_is_held_in_arrays_of_the_right_kind(in_memory, appended):
    spool = Spool(COLUMNS, in_memory)
    for _ in range(appended):
        spool.append(**rows_of(0, 0))
    found = spool.arrays()
    assert len(spool) == 0
    for name, (dtype, shape) in COLUMNS.items():
        assert found[name].shape == (0, *shape)
        assert found[name].dtype == dtype


def test_numbers_are_stored_as_the_column_says():
    spool = Spool({"number": (np.int32, ())})
    spool.append(number=np.array([1, 2, 3], np.int64)[::2])
    assert spool.arrays()["number"].dtype == np.int32
    assert spool.arrays()["number"].tolist() == [1, 3]


def test_rows_of_another_shape_are_refused():
    rows = rows_of(0, 4)
    rows["row"] = rows["row"][:, :2]
    with pytest.raises(ValueError, match="row has rows of shape"):
        Spool(COLUMNS).append(**rows)


@pytest.mark.parametrize("in_memory", [0, 10_000])
def test_a_full_disk_is_told_with_what_to_do(scratch, in_memory):
    spool = Spool(COLUMNS, in_memory)
    with files_of_at_most(4096), pytest.raises(OutputError, match=r"TMPDIR.*--max-transfers"):
        for seed in range(100):
            spool.append(**rows_of(seed, 100))


def test_a_disk_that_is_full_for_the_last_few_bytes_is_told_too(scratch):
    # so few may wait in a buffer until they are asked for
    spool = Spool(COLUMNS, 0)
    with files_of_at_most(100), pytest.raises(OutputError, match=r"TMPDIR.*--max-transfers"):
        spool.append(**rows_of(0, 10))
        spool.arrays()


def test_a_temporary_folder_that_cannot_be_used_is_told(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    spool = Spool(COLUMNS, 0)
    with pytest.raises(OutputError, match="TMPDIR"):
        spool.append(**rows_of(0, 10))
