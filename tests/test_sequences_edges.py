"""Counting transfers, vocabulary, windows and lanes, against plain transcriptions."""

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from barnum.errors import ModelError, SetsError
from barnum.paths import Kind
from barnum.sequences import Encoder, Spread, Vocabulary, edges_of, lay_lanes, regroup, vocabulary
from barnum.sequences import edges as edges_module
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


@pytest.mark.parametrize(
    ("length", "cap"), [(100_000, 20_000), (5000, 20_000), (50_000, 1000), (70_000, None)]
)
def test_windows_are_spread_evenly_under_the_cap(length, cap):
    transfers = transfers_of(BLOCKS, np.zeros(length + 1, int))
    spread = Spread(cap)
    passed = sum(len(p) for p in spread.watch(regroup([transfers], 7777)))
    windows = spread.windows()
    kept = np.concatenate([window.position for window in windows]).astype(int)
    assert passed == spread.total == length
    assert (np.diff(kept) > 0).all()
    if cap is None or length <= cap:
        assert len(kept) == length
        assert len(windows) == 1
    else:
        assert cap / 2 <= len(kept) <= cap
        # no stretch as long as a quarter of the trace is left out
        assert np.diff([0, *kept.tolist(), length]).max() < length / 4


def test_lanes_hold_each_transfer_once_and_start_anew():
    made = Vocabulary.fit([edges_of([transfers_of(BLOCKS, nominal_path(0))]).whole])
    encoder = Encoder(made)
    windows = [encoder.encode(transfers_of(BLOCKS, nominal_path(seed, 500 + seed))) for seed in range(5)]
    none = len(made.target) + 1
    lanes = lay_lanes(windows, made.edge_rank, none, lanes=7, steps=32, seed=1)
    assert lanes.site.shape[1] == 7
    assert lanes.site.shape[0] % 32 == 0
    assert lanes.transfers == sum(int((window.edge >= 0).sum()) for window in windows)
    assert (lanes.previous[0] == none).all()
    inside = np.concatenate([window.site for window in windows])
    assert Counter(lanes.site[lanes.rank >= 0].tolist()) == Counter(
        inside[np.concatenate([window.edge for window in windows]) >= 0].tolist()
    )
