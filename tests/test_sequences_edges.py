"""Counting transfers, and the vocabulary, against plain transcriptions."""

from collections import Counter
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from barnum.errors import ModelError, SetsError
from barnum.paths import Kind
from barnum.sequences import REACH, Encoded, Encoder, Vocabulary, edges_of, regroup, seen_level, vocabulary
from barnum.sequences import edges as edges_module
from barnum.sequences.edges import all_of
from learning import blocks_of, nominal_path, part, transfers_of

BLOCKS = blocks_of(40, (Kind.RETURN, Kind.INDIRECT_CALL), in_libc=10)


def tokens(transfers):
    site = BLOCKS.bbid + BLOCKS.length.astype(np.uint64)
    return list(zip(site[transfers.source].tolist(), BLOCKS.bbid[transfers.target].tolist(), strict=True))


@pytest.mark.parametrize("dense", [True, False])
@pytest.mark.parametrize("length", [2, 700, 5000, 80_000])
def test_edges_are_what_counting_gives(monkeypatch, dense, length):
    if not dense:
        monkeypatch.setattr(edges_module, "_DENSE_CELLS", -1 << 40)
    draw = np.random.default_rng(length)
    transfers = transfers_of(BLOCKS, draw.integers(0, 40, length))
    cuts = sorted({0, len(transfers), *draw.integers(0, len(transfers) + 1, 5).tolist()})
    run = edges_of([part(transfers, a, b) for a, b in pairwise(cuts)])
    pairs = tokens(transfers)
    counted = Counter(pairs)
    firsts = {}
    for i, pair in enumerate(pairs):
        firsts.setdefault(pair, i)
    whole = run.whole
    found = list(zip(whole.site.tolist(), whole.target.tolist(), strict=True))
    assert found == sorted(counted)
    assert whole.count.tolist() == [counted[pair] for pair in found]
    assert whole.first.tolist() == [firsts[pair] for pair in found]
    assert whole.transfers == len(transfers) == sum(stretch.transfers for stretch in run.stretches)
    assert len(run.stretches) <= 2 * edges_module.STRETCHES
    assert sum(int(stretch.count.sum()) for stretch in run.stretches) == len(transfers)


@pytest.mark.parametrize("length", [2, 700, 5000, 40_000])
def test_ways_into_the_kernel_are_what_looking_back_gives(length):
    draw = np.random.default_rng(length)
    transfers = transfers_of(BLOCKS, draw.integers(0, 8, length), first=(0, length // 3, (length - 1) // 2))
    entry = np.where(draw.random(len(transfers)) < 0.02, draw.integers(0, 3, len(transfers)), -1)
    transfers = replace(transfers, entry=np.where(transfers.first, -1, entry).astype(np.int32))
    cuts = sorted({0, len(transfers), *draw.integers(0, len(transfers) + 1, 5).tolist()})
    run = edges_of([part(transfers, a, b) for a, b in pairwise(cuts)])
    site = (BLOCKS.bbid + BLOCKS.length.astype(np.uint64)).tolist()
    pairs, firsts, begin = tokens(transfers), {}, 0
    for row in range(len(transfers)):
        if transfers.first[row]:
            begin = row
        if transfers.entry[row] >= 0:
            for back in range(max(begin, row - REACH), row):
                firsts.setdefault((*pairs[back], site[transfers.entry[row]]), row)
    for entries in (run.entries, all_of(run.stretch_entries)):
        found = zip(entries.site.tolist(), entries.target.tolist(), entries.entry.tolist(), strict=True)
        assert dict(zip(found, entries.first.tolist(), strict=True)) == firsts


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
