"""Counting transfers, and the vocabulary, against plain transcriptions."""

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from barnum._sequences import distinct, places_of
from barnum.errors import ModelError, SetsError
from barnum.paths import Kind
from barnum.sequences import (
    EdgeCounter,
    Encoded,
    Encoder,
    Tokens,
    Vocabulary,
    edges_of,
    regroup,
    seen_level,
    vocabulary,
)
from barnum.sequences.edges import STRETCHES, add_up, all_of
from edges_reference import assert_counts
from learning import blocks_of, nominal_path, part, transfers_of

BLOCKS = blocks_of(40, (Kind.RETURN, Kind.INDIRECT_CALL), in_libc=10)


def tokens(transfers):
    site = BLOCKS.bbid + BLOCKS.length.astype(np.uint64)
    return list(zip(site[transfers.source].tolist(), BLOCKS.bbid[transfers.target].tolist(), strict=True))


def parts_of(transfers, cuts):
    """A run in parts that are cut at such shares of its length."""
    ends = sorted({0, len(transfers), *(int(share * len(transfers)) for share in cuts)})
    return [part(transfers, a, b) for a, b in pairwise(ends)]


def run_of(seed, length, blocks, restarts, entered, alphabet):
    """A run over the first blocks of a table, with so many restarts and entries into the kernel."""
    draw = np.random.default_rng(seed)
    path = draw.integers(0, min(alphabet, len(blocks.bbid)), length + 1)
    made = transfers_of(blocks, path, first=(0,) if length else ())
    first, entry = made.first.copy(), made.entry.copy()
    if length:
        first[draw.integers(0, length, restarts)] = True
        entry[draw.integers(0, length, entered)] = draw.integers(0, 3, entered)
    # a path has no entry where state restarts; counting does not rely on that
    return replace(made, first=first, entry=entry)


TOKENS = (Tokens(), Tokens(vocabulary="modulo", inputs=7, classes=5))


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 1 << 32),
    length=st.integers(0, 3000) | st.integers(0, 30),
    alphabet=st.integers(1, 40),
    restarts=st.integers(0, 20),
    entered=st.integers(0, 200),
    cuts=st.lists(st.floats(0, 1), max_size=6),
    tokens=st.sampled_from(TOKENS),
)
def test_edges_are_what_counting_one_by_one_gives(seed, length, alphabet, restarts, entered, cuts, tokens):
    parts = parts_of(run_of(seed, length, BLOCKS, restarts, entered, alphabet), cuts)
    assert_counts(edges_of(parts, tokens), parts, tokens)


# where stretches come to their number and are joined, and where a first part is long
@pytest.mark.parametrize("tokens", TOKENS)
@pytest.mark.parametrize("length", [32 * 1024 - 1, 32 * 1024, 32 * 1024 + 1, 64 * 1024, 70_000])
@pytest.mark.parametrize("cuts", [[], [0.001], [0.3, 0.31, 0.7], [0.55]])
def test_long_runs_are_counted_in_few_stretches(length, cuts, tokens):
    parts = parts_of(run_of(length, length, BLOCKS, 9, 300, 12), cuts)
    run = edges_of(parts, tokens)
    assert_counts(run, parts, tokens)
    assert STRETCHES <= len(run.stretches) <= 2 * STRETCHES


@pytest.mark.parametrize("length", [3000, 40_000])
def test_stretches_add_up_to_the_whole(length):
    run = edges_of(parts_of(run_of(length, length, BLOCKS, 3, 100, 12), [0.2, 0.6]))
    for whole, sum_ in ((run.whole, add_up(run.stretches)), (run.entries, all_of(run.stretch_entries))):
        for name in whole.__slots__:
            assert np.array_equal(getattr(whole, name), getattr(sum_, name)), name


def test_more_distinct_transfers_than_a_small_table_holds():
    blocks = blocks_of(3000)
    parts = parts_of(run_of(5, 20_000, blocks, 2, 50, 3000), [0.4])
    run = edges_of(parts)
    assert_counts(run, parts)
    assert len(run.whole) > 15_000


def test_a_table_of_blocks_may_grow_with_the_run():
    whole = run_of(3, 2500, BLOCKS, 2, 40, 40)
    small = blocks_of(20, (Kind.RETURN, Kind.INDIRECT_CALL))
    before = replace(run_of(4, 900, small, 1, 20, 20), blocks=small)
    # it begins like the larger one
    assert (BLOCKS.bbid[:20] == small.bbid).all()
    assert_counts(edges_of([before, whole]), [before, whole])


@pytest.mark.parametrize(("column", "value"), [("source", 40), ("target", 1 << 31), ("entry", 40)])
def test_a_block_that_is_not_in_the_table_is_refused_and_nothing_of_the_part_counts(column, value):
    counter, good = EdgeCounter(), run_of(1, 50, BLOCKS, 0, 5, 10)
    counter.add(good)
    bad = getattr(good, column).copy()
    bad[-1] = value
    with pytest.raises(IndexError, match="not in the table"):
        counter.add(replace(good, **{column: bad}))
    assert_counts(counter.done(), [good])


@pytest.mark.parametrize("column", ["source", "target", "first", "entry"])
def test_columns_of_different_lengths_are_refused(column):
    good = run_of(1, 50, BLOCKS, 0, 5, 10)
    with pytest.raises(ValueError, match="different lengths"):
        EdgeCounter().add(replace(good, **{column: getattr(good, column)[1:]}))


def test_a_table_whose_columns_are_of_different_lengths_is_refused():
    good = run_of(1, 50, BLOCKS, 0, 5, 10)
    with pytest.raises(ValueError, match="different lengths"):
        EdgeCounter().add(replace(good, blocks=replace(BLOCKS, kind=BLOCKS.kind[1:])))


def test_counting_leaves_other_threads_running():
    """While a long part is counted, this thread goes on."""
    transfers = run_of(1, 2_000_000, BLOCKS, 9, 100, 40)
    with ThreadPoolExecutor(1) as beside:
        job, turns = beside.submit(edges_of, [transfers]), 0
        while not job.done():
            turns += 1
            time.sleep(0)
    assert turns > 10
    assert job.result().whole.transfers == 2_000_000


def test_no_transfers_have_no_edges():
    run = edges_of([])
    assert len(run.whole) == 0
    assert run.stretches == ()
    with pytest.raises(SetsError, match="no transfer"):
        Vocabulary.fit([run.whole])


@pytest.mark.parametrize("dense", [True, False])
def test_a_vocabulary_knows_what_training_showed_and_nothing_else(monkeypatch, dense):
    if not dense:
        monkeypatch.setattr(vocabulary, "_DENSE_CELLS", 0)
    runs = [transfers_of(BLOCKS, nominal_path(seed)) for seed in range(3)]
    made = Vocabulary.fit([edges_of([run]).whole for run in runs])
    known = Counter(pair for run in runs for pair in tokens(run))
    edges = list(zip(made.site[made.edge_site].tolist(), made.target[made.edge_target].tolist(), strict=True))
    assert dict(zip(edges, made.edge_count.tolist(), strict=True)) == known
    # within a site the most frequent comes first
    for i in range(len(made.site)):
        counts = made.edge_count[made.site_first[i] : made.site_first[i + 1]]
        assert (np.diff(counts) <= 0).all()

    other = transfers_of(BLOCKS, [0, 1, 2, 39, 0, 7, 3])
    encoded = Encoder(made).encode(other)
    for i, (site, target) in enumerate(tokens(other)):
        edge = int(encoded.edge[i])
        assert (edge >= 0) == ((site, target) in known)
        if edge >= 0:
            assert edges[edge] == (site, target)
        assert (encoded.site[i] == len(made.site)) == (site not in made.site.tolist())
        assert (encoded.target[i] == len(made.target)) == (target not in made.target.tolist())


def test_module_and_offset_both_count():
    here = blocks_of(4)
    there = blocks_of(4, in_libc=4)
    made = Vocabulary.fit([edges_of([transfers_of(here, [0, 1, 2, 3] * 5)]).whole])
    assert (Encoder(made).encode(transfers_of(here, [0, 1, 2])).edge >= 0).all()
    assert (Encoder(made).encode(transfers_of(there, [0, 1, 2])).edge < 0).all()


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("site", lambda a: a[::-1].copy()),
        ("site_first", lambda a: a[::-1].copy()),
        ("site_runs", lambda a: a[1:]),
        ("edge_target", lambda a: a + 100),
        ("edge_count", lambda a: -a),
    ],
)
def test_a_vocabulary_that_contradicts_itself_is_refused(name, change):
    made = Vocabulary.fit([edges_of([transfers_of(BLOCKS, nominal_path(0))]).whole])
    arrays = made.arrays()
    assert Vocabulary.from_arrays(dict(arrays)).edge_count.tolist() == made.edge_count.tolist()
    with pytest.raises(ModelError, match="contradicts itself"):
        Vocabulary.from_arrays({**arrays, name: change(arrays[name])})
    del arrays[name]
    with pytest.raises(ModelError, match=name):
        Vocabulary.from_arrays(arrays)


def test_how_much_of_a_transfer_training_knew():
    made = Vocabulary.fit([edges_of([transfers_of(BLOCKS, [0, 1, 2, 0])]).whole])
    encoded = Encoder(made).encode(transfers_of(BLOCKS, [0, 1, 0, 2, 9, 0]))
    # taken, known target from another site, the same twice more, nothing known, known target
    assert seen_level(encoded, made).tolist() == [2, 1, 1, 0, 1]


@pytest.mark.parametrize("size", [1, 7, 100, 5000])
def test_regrouped_transfers_are_the_same(size):
    transfers = transfers_of(BLOCKS, nominal_path(1, 1000), first=(0, 500))
    parts = list(regroup([part(transfers, a, b) for a, b in pairwise([0, 3, 3, 400, 999])], size))
    assert [len(each) for each in parts[:-1]] == [size] * (len(parts) - 1)
    assert 0 < len(parts[-1]) <= size
    for name in ("source", "target", "position", "first"):
        joined = np.concatenate([getattr(each, name) for each in parts])
        assert joined.tolist() == getattr(transfers, name).tolist()
    assert list(regroup([], size)) == []


def test_parts_of_what_was_encoded_join_to_the_whole():
    made = Vocabulary.fit([edges_of([transfers_of(BLOCKS, nominal_path(0))]).whole])
    run = Encoder(made).encode(transfers_of(BLOCKS, nominal_path(1, 100), first=(0, 40)))
    joined = Encoded.join([run.part(0, 10), run.part(10, 10), run.part(10, 99)])
    assert len(joined) == 99
    for name in ("site", "target", "edge", "first"):
        assert getattr(joined, name).tolist() == getattr(run, name).tolist()


def test_a_number_of_edges_that_overflows_is_refused():
    arrays = Vocabulary.fit([edges_of([transfers_of(BLOCKS, nominal_path(0))]).whole]).arrays()
    first = arrays["site_first"].copy()
    # differences of neighbours are positive, modulo 2**64
    first[1:3] = [(1 << 63) - 1, -2]
    with pytest.raises(ModelError, match="contradicts itself"):
        Vocabulary.from_arrays({**arrays, "site_first": first})


VALUES = st.lists(st.integers(0, 12) | st.integers((1 << 64) - 4, (1 << 64) - 1), max_size=40)


@settings(max_examples=100, deadline=None)
@given(values=VALUES, known=VALUES)
def test_values_are_numbered_as_sorting_numbers_them(values, known):
    array, sorted_ = np.array(values, np.uint64), np.sort(np.array(known, np.uint64))
    found, places = distinct(array)
    assert (found.dtype, places.dtype) == (np.uint64, np.int64)
    assert found.tolist() == sorted(set(values))
    assert found[places].tolist() == values
    assert places_of(sorted_, array).tolist() == np.searchsorted(sorted_, array).tolist()


def test_many_values_are_numbered_as_sorting_numbers_them():
    draw = np.random.default_rng(1)
    array = draw.integers(0, 1 << 64, 20_000, np.uint64)[draw.integers(0, 20_000, 50_000)]
    found, places = distinct(array)
    expected, inverse = np.unique(array, return_inverse=True)
    assert np.array_equal(found, expected) and np.array_equal(places, inverse)
    assert np.array_equal(places_of(found, array), inverse)
