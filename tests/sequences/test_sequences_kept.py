"""Runs kept in a model: what comes back is what was packed, and what was tampered with is refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from barnum.errors import ModelError
from barnum.paths import Kind
from barnum.sequences import FEW_RUNS, Vocabulary, edges_of, fit_novelty, pack_runs, units_of, unpack_runs
from learning import blocks_of, nominal_path, transfers_of

BLOCKS = blocks_of(40, (Kind.RETURN, Kind.INDIRECT_CALL), in_libc=10)


def runs_of(count, length=1500):
    """Runs of several stretches, now and then entering the kernel."""
    draw = np.random.default_rng(count)
    runs = []
    for seed in range(count):
        path = nominal_path(seed, length + seed)
        entered = {int(at): int(draw.integers(0, 40)) for at in draw.integers(1, length - 2, 3)}
        runs.append(edges_of([transfers_of(BLOCKS, path, entered=entered)]))
    return runs


def fitted(runs):
    return Vocabulary.fit(units_of(runs)[0])


def rows(edges):
    names = ("site", "target", "kind", "count", "first", "transfers")
    return [np.asarray(getattr(edges, name)).tolist() for name in names]


def ways(entries):
    return [getattr(entries, name).tolist() for name in ("site", "target", "entry", "first")]


@pytest.mark.parametrize("count", [1, 2, FEW_RUNS - 1, FEW_RUNS, FEW_RUNS + 3])
def test_runs_come_back(count):
    runs = runs_of(count)
    vocabulary = fitted(runs)
    arrays = pack_runs(vocabulary, runs)
    back = unpack_runs(vocabulary, arrays)
    assert len(back) == count
    for run, other in zip(runs, back, strict=True):
        assert rows(run.whole) == rows(other.whole)
        assert ways(run.entries) == ways(other.entries)
        assert len(run.entries)
        if count < FEW_RUNS:
            assert len(run.stretches) > 1
            assert [*map(rows, run.stretches)] == [*map(rows, other.stretches)]
            assert [*map(ways, run.stretch_entries)] == [*map(ways, other.stretch_entries)]
    # to learn from them is to learn from the runs themselves
    again = fitted(back)
    for name, array in vocabulary.arrays().items():
        assert (again.arrays()[name] == array).all(), name
    assert fit_novelty(vocabulary, runs)[1].tolist() == fit_novelty(again, back)[1].tolist()
    packed = pack_runs(again, back)
    assert all(packed[name].tobytes() == array.tobytes() for name, array in arrays.items())


def test_no_runs_come_back_as_none():
    vocabulary = fitted(runs_of(1))
    assert unpack_runs(vocabulary, pack_runs(vocabulary, [])) == []


RUNS = runs_of(3, 1100)
VOCABULARY = fitted(RUNS)
ARRAYS = pack_runs(VOCABULARY, RUNS)


@pytest.mark.parametrize("name", sorted(ARRAYS))
def test_what_is_missing_or_of_another_type_or_length_is_refused(name):
    array = ARRAYS[name]
    for changed in (None, array.astype(np.float32), array[:, None], array[:-1], np.append(array, array[-1:])):
        arrays = {key: other for key, other in ARRAYS.items() if key != name}
        if changed is not None:
            arrays[name] = changed
        with pytest.raises(ModelError, match=r"^(it keeps no usable runs: \w+ is|the runs that it keeps)"):
            unpack_runs(VOCABULARY, arrays)


@pytest.mark.parametrize("name", ["stretches", "edges", "ways", "edge", "way_edge", "count"])
def test_numbers_that_cannot_be_are_refused(name):
    for value in {0, np.iinfo(ARRAYS[name].dtype).max, np.iinfo(ARRAYS[name].dtype).min}:
        changed = ARRAYS[name].copy()
        changed[0] = value
        counts = name in ("edge", "way_edge") and value == 0
        if counts or changed[0] == ARRAYS[name][0] or (name == "count" and value > 0):
            continue
        with pytest.raises(ModelError, match="contradict"):
            unpack_runs(VOCABULARY, ARRAYS | {name: changed})


@settings(max_examples=150, deadline=None)
@given(name=st.sampled_from(sorted(ARRAYS)), at=st.integers(0, 1 << 20), bit=st.integers(0, 63))
def test_a_flipped_bit_is_refused_or_gives_runs_to_learn_from(name, at, bit):
    changed = ARRAYS[name].copy()
    data = changed.view(np.uint8)
    data[at % len(data)] ^= 1 << bit % 8
    try:
        runs = unpack_runs(VOCABULARY, ARRAYS | {name: changed})
        vocabulary = fitted(runs)
        scores = fit_novelty(vocabulary, runs)[1]
        packed = pack_runs(vocabulary, runs)
        # what is made of it can be read again
        assert len(unpack_runs(Vocabulary.from_arrays(vocabulary.arrays()), packed)) == len(runs)
    except ModelError:
        return
    assert len(runs) == len(RUNS)
    assert np.isfinite(scores).all()


def put(name, at, value):
    array = ARRAYS[name].copy()
    array[at] = value
    return {name: array}


def one_more(rows_of, names):
    """A row of the first stretch twice."""
    changed = put(rows_of, 0, ARRAYS[rows_of][0] + 1)
    return changed | {name: np.insert(ARRAYS[name], 0, ARRAYS[name][0]) for name in names}


EDGES = ("edge", "kind", "count", "first")


def without_an_edge():
    """A way into the kernel by an edge that its run does not have, though the vocabulary has it."""
    alone = [edges_of([transfers_of(BLOCKS, [0, 1] * 600, entered={50: 3})]), *RUNS]
    vocabulary = fitted(alone)
    arrays = pack_runs(vocabulary, alone)
    arrays["way_edge"][0] = np.setdiff1d(np.arange(len(vocabulary.edge_target)), arrays["edge"][:2])[0]
    return vocabulary, arrays


def test_ways_by_edges_that_their_run_lacks_are_refused():
    vocabulary, arrays = without_an_edge()
    with pytest.raises(ModelError, match="contradict themselves"):
        unpack_runs(vocabulary, arrays)


@pytest.mark.parametrize(
    "change",
    [
        {"transfers": np.full_like(ARRAYS["transfers"], (1 << 63) - 1)},
        put("transfers", 0, ARRAYS["transfers"][0] + 1),
        put("transfers", 0, -1),
        put("transfers", 0, 0),
        put("first", 0, 1 << 62),
        put("first", 0, 1099),
        put("first", 0, -1),
        put("way_first", 0, 1100),
        put("way_first", 0, -1),
        put("edge", 1, ARRAYS["edge"][0]),
        put("edge", [0, 1], ARRAYS["edge"][[1, 0]]),
        put("count", 0, ARRAYS["count"][0] + 1),
        put("count", 0, 1 << 43)
        | put("transfers", 0, ARRAYS["transfers"][0] - ARRAYS["count"][0] + (1 << 43)),
        one_more("edges", EDGES) | put("transfers", 0, ARRAYS["transfers"][0] + ARRAYS["count"][0]),
        one_more("ways", ("way_edge", "way_entry", "way_first")),
        # runs and stretches of nothing
        put("stretches", [0, 1], [0, ARRAYS["stretches"][:2].sum()]),
        {"stretches": np.append(ARRAYS["stretches"], np.uint32(0))},
        put("stretches", 0, ARRAYS["stretches"][0] + 1)
        | {name: np.insert(ARRAYS[name], 0, 0) for name in ("transfers", "edges", "ways")},
        put("stretches", 0, ARRAYS["stretches"][0] + 5_000_000)
        | {
            name: np.append(np.zeros(5_000_000, ARRAYS[name].dtype), ARRAYS[name])
            for name in ("transfers", "edges", "ways")
        },
    ],
)
def test_runs_that_contradict_themselves_are_refused(change):
    with pytest.raises(ModelError, match=r"^the runs that it keeps contradict themselves$"):
        unpack_runs(VOCABULARY, ARRAYS | change)


def test_many_runs_are_kept_whole():
    runs = runs_of(FEW_RUNS)
    vocabulary = fitted(runs)
    arrays = pack_runs(vocabulary, runs)
    for name in ("transfers", "edges", "ways"):
        arrays[name] = np.append(arrays[name], arrays[name][-1:])
    for name in EDGES:
        arrays[name] = np.append(arrays[name], arrays[name][len(arrays[name]) - arrays["edges"][-1] :])
    for name in ("way_edge", "way_entry", "way_first"):
        arrays[name] = np.append(arrays[name], arrays[name][len(arrays[name]) - arrays["ways"][-1] :])
    arrays["stretches"][-1] = 2
    with pytest.raises(ModelError, match="contradict themselves"):
        unpack_runs(vocabulary, arrays)


def test_other_numbers_of_runs_than_asked_for_are_refused():
    assert len(unpack_runs(VOCABULARY, ARRAYS, 3)) == 3
    for count in (0, 2, 4):
        with pytest.raises(ModelError, match="other runs than its document names"):
            unpack_runs(VOCABULARY, ARRAYS, count)


def test_counts_too_large_to_be_added_up_do_not_spoil_what_is_learnt_from_them():
    changed = np.full_like(ARRAYS["count"], np.iinfo(np.int64).max)
    try:
        runs = unpack_runs(VOCABULARY, ARRAYS | {"count": changed})
    except ModelError:
        return
    Vocabulary.from_arrays(fitted(runs).arrays())
