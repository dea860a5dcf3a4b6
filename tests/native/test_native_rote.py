"""The counts of the rote learner, and what they predict, against a slow transcription in dicts."""

import subprocess
import sys
import time
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from barnum._rote import SPREADS, TIMES, Rote, Walk
from rote_reference import Reference, reference_of

LENGTHS = [[0], [0, 1], [0, 2], [0, 1, 2, 3], [0, 1, 3, 4, 9], [0, 5, 40]]


@dataclass
class Run:
    """Transfers over a table of blocks; tokens use all of their bits."""

    sites: np.ndarray
    targets: np.ndarray
    source: np.ndarray
    target: np.ndarray
    first: np.ndarray

    def __len__(self):
        return len(self.source)

    @property
    def plain(self):
        """As the reference reads it."""
        columns = (self.sites[self.source], self.targets[self.target], self.first)
        return list(zip(*(column.tolist() for column in columns), strict=True))

    def roll(self, walk, begin=0, end=None):
        rows = slice(begin, end)
        walk.roll(self.sites, self.targets, self.source[rows], self.target[rows], self.first[rows])
        return walk

    def walk(self, longest):
        return self.roll(Walk(longest))


def run_of(draw, size, *, sites=3, targets=4, restarts=0.05, favour=2.0):
    """Transfers between blocks of which some are more frequent than others; two blocks share a site."""
    table = np.arange(1, max(sites, targets) + 2, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    weights = 1 / np.arange(1, targets + 1) ** favour
    return Run(
        np.concatenate([table[:1], table[:-1]]),
        table,
        draw.integers(0, sites + 1, size).astype(np.uint32),
        draw.choice(targets, size, p=weights / weights.sum()).astype(np.uint32),
        draw.random(size) < restarts,
    )


def settled(rote, measured=None):
    cells = 2 * len(rote.lengths) * TIMES * SPREADS
    rote.settle(*(measured or (np.zeros(cells), np.zeros(cells), np.zeros(2))))
    return rote


def rote_of(lengths, runs, measured=None, threads=1):
    rote = Rote(lengths)
    for run in runs:
        rote.add(run.walk(lengths[-1]), threads)
    return settled(rote, measured)


def told(rote):
    """Of each length, followers and counts of each context."""
    rows = []
    for order in range(len(rote.lengths)):
        _, first, token, count = (array.tolist() for array in rote.counts(order))
        rows.append(sorted([*zip(token[a:b], count[a:b], strict=True)] for a, b in pairwise(first)))
    return rows


def measured_by(draw, lengths):
    """Escapes as some runs might have measured them: weighed, and many classes never asked."""
    cells = 2 * len(lengths) * TIMES * SPREADS
    tried = draw.integers(0, 50, cells) * (draw.random(cells) < 0.5) * 0.37
    base = np.array([12.5, 3.0])
    return tried, tried * draw.random(cells), base


def assert_scores(found, run, reference):
    """Native scores of a run are those of the reference."""
    predicted, confidence, correct, surprisal = found
    assert [array.dtype for array in found] == [np.uint64, np.float32, np.bool_, np.float32]
    expected = list(reference.score(run.plain))
    np.testing.assert_allclose(surprisal, [nats for nats, *_ in expected], rtol=1e-5, atol=1e-5)
    assert (correct == (predicted == run.targets[run.target])).all()
    assert ((confidence >= 0) & (confidence <= 1)).all()
    for i, (_, chance, sure) in enumerate(expected):
        told = chance[int(predicted[i])]
        assert confidence[i] == pytest.approx(told, abs=1e-6), i
        assert told > sure - 1e-9, i
        # of targets that no context led to, only the likeliest of all is thought of
        if max(chance.values()) - sure < 1e-9:
            assert told > max(chance.values()) - 1e-9, i


def same(found, other):
    return all(a.dtype == b.dtype and a.tobytes() == b.tobytes() for a, b in zip(found, other, strict=True))


# --- counts and scores -----------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 1 << 32),
    lengths=st.sampled_from(LENGTHS),
    sizes=st.lists(st.integers(0, 120), min_size=1, max_size=4),
    sites=st.integers(1, 4),
    targets=st.integers(1, 6),
    restarts=st.sampled_from([0.0, 0.05, 0.5, 1.0]),
    measured=st.booleans(),
    kept=st.sampled_from([99, 99, 1, 2, 3]),
)
def test_scores_are_those_of_counting_in_dicts(
    seed, lengths, sizes, sites, targets, restarts, measured, kept
):
    draw = np.random.default_rng(seed)
    sizes[0] += 1
    runs = [run_of(draw, size, sites=sites, targets=targets, restarts=restarts) for size in sizes]
    escapes = measured_by(draw, lengths) if measured else None
    rote, reference = rote_of(lengths, runs), reference_of(lengths, [run.plain for run in runs])
    rote.keep(kept)
    reference.keep(kept)
    settled(rote, escapes)
    if escapes:
        reference.settle(*escapes)
    assert told(rote) == reference.told()
    assert rote.contexts == sum(map(len, reference.counts))
    assert set(rote.targets.tolist()) == reference.targets
    judged = run_of(draw, 80, sites=sites + 1, targets=targets + 2, restarts=restarts, favour=1)
    walk = judged.walk(lengths[-1])
    # at most eight targets: so no context is wide, and a target gets all its chance from one context
    assert_scores(rote.score(walk, 1), judged, reference)
    for found, expected in zip(rote.escapes(walk, 1), reference.escapes(judged.plain), strict=True):
        np.testing.assert_array_equal(found, expected)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 1 << 32),
    lengths=st.sampled_from(LENGTHS),
    size=st.integers(100, 500),
    targets=st.integers(9, 40),
    measured=st.booleans(),
)
def test_what_wide_contexts_say_is_mixed_with_what_shorter_ones_say(seed, lengths, size, targets, measured):
    draw = np.random.default_rng(seed)
    run = run_of(draw, size, sites=1, targets=targets, favour=0.7)
    escapes = measured_by(draw, lengths) if measured else None
    rote, reference = rote_of(lengths, [run], escapes), reference_of(lengths, [run.plain])
    if escapes:
        reference.settle(*escapes)
    assert told(rote) == reference.told()
    judged = run_of(draw, 60, sites=2, targets=targets + 2, favour=0.7)
    walk = judged.walk(lengths[-1])
    expected = [nats for nats, *_ in reference.score(judged.plain)]
    np.testing.assert_allclose(rote.score(walk, 1)[3], expected, rtol=1e-5, atol=1e-5)
    for found, counted in zip(rote.escapes(walk, 1), reference.escapes(judged.plain), strict=True):
        np.testing.assert_array_equal(found, counted)


def test_confidence_is_the_chance_of_the_predicted_target_after_a_wide_context():
    draw = np.random.default_rng(1)
    run, judged = (run_of(draw, size, sites=1, targets=20, favour=0.7) for size in (500, 100))
    rote, reference = rote_of([0, 1, 2], [run]), reference_of([0, 1, 2], [run.plain])
    predicted, confidence, *_ = rote.score(judged.walk(2), 1)
    for i, (_, chance, _) in enumerate(reference.score(judged.plain)):
        assert confidence[i] == pytest.approx(chance[int(predicted[i])], abs=1e-5), i
        assert chance[int(predicted[i])] > max(chance.values()) - 1e-9, i


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1 << 32), lengths=st.sampled_from(LENGTHS), cuts=st.lists(st.integers(0, 300)))
def test_a_run_may_come_in_any_parts(seed, lengths, cuts):
    draw = np.random.default_rng(seed)
    known, judged = run_of(draw, 300), run_of(draw, 300)
    whole, parted = Rote(lengths), Rote(lengths)
    whole.add(known.walk(lengths[-1]), 1)
    learnt, scored, found = Walk(lengths[-1]), Walk(lengths[-1] + 3), []
    cuts = sorted({0, 300, *cuts})
    for a, b in pairwise(cuts):
        parted.add(known.roll(learnt, a, b), 1)
        assert len(learnt) == b - a
    assert told(parted) == told(whole)
    settled(parted)
    for a, b in pairwise(cuts):
        found.append(parted.score(judged.roll(scored, a, b), 1))
    expected = settled(whole).score(judged.walk(lengths[-1]), 1)
    assert same([np.concatenate(column) for column in zip(*found, strict=True)], expected)


@pytest.mark.parametrize("restarts", [0.0, 0.001, 0.2])
@pytest.mark.parametrize("threads", [1, 3])
def test_a_long_stretch_counts_what_short_ones_do(restarts, threads):
    draw = np.random.default_rng(11)
    lengths = [0, 1, 2, 4, 8]
    known, judged = (run_of(draw, 150_000, sites=6, targets=12, restarts=restarts) for _ in range(2))
    whole, parted, walk = rote_of(lengths, [known], threads=threads), Rote(lengths), Walk(8)
    for begin in range(0, 150_000, 777):
        parted.add(known.roll(walk, begin, begin + 777), 1)
    for order in range(len(lengths)):
        assert same(whole.counts(order), parted.counts(order))
    settled(parted)
    walk, sums = Walk(8), None
    for begin in range(0, 150_000, 777):
        found = parted.escapes(judged.roll(walk, begin, begin + 777), 1)
        sums = found if sums is None else tuple(a + b for a, b in zip(sums, found, strict=True))
    assert same(whole.escapes(judged.walk(8), threads), sums)
    assert sums[0].sum() > 150_000


def test_threads_change_nothing():
    draw = np.random.default_rng(5)
    lengths = [0, 1, 2, 4, 8]
    known, judged = (run_of(draw, 60_000, sites=20, targets=30, restarts=0.001) for _ in range(2))
    rotes = [rote_of(lengths, [known], threads=threads) for threads in (1, 3)]
    for order in range(len(lengths)):
        assert same(*(rote.counts(order) for rote in rotes))
    assert (rotes[0].targets == rotes[1].targets).all()
    walk = judged.walk(8)
    for threads in (2, 3, 50):
        assert same(rotes[0].score(walk, 1), rotes[1].score(walk, threads))
        assert same(rotes[0].escapes(walk, 1), rotes[1].escapes(walk, threads))
        assert same(rotes[0].draw(walk, 1, 7, 0), rotes[1].draw(walk, threads, 7, 0))
    # the work was cut among threads: what a part alone gives is the same
    part = judged.roll(judged.roll(Walk(8), 0, 40_000), 40_000)
    assert same(rotes[1].score(part, 3), [column[40_000:] for column in rotes[0].score(walk, 1)])


# --- chances are chances ---------------------------------------------------------------------------------


def total_chance(rote, run, targets):
    """Sum of the chances of all known targets and of another one, after a run that ends at a site."""
    known = rote.targets
    assert len(known) == len(targets)
    table = np.concatenate([run.targets, known, [np.uint64(12345)]])
    sites = np.concatenate([run.sites, np.zeros(len(known) + 1, np.uint64)])
    times, size = len(known) + 1, len(run)
    source, target = np.tile(run.source, times), np.tile(run.target, times)
    first = np.tile(run.first, times)
    first[::size] = True
    target[size - 1 :: size] = np.arange(times, dtype=np.uint32) + len(run.targets)
    walk = Walk(rote.lengths[-1])
    walk.roll(sites, table, source, target, first)
    surprisal = rote.score(walk, 1)[3].astype(float)
    return np.exp(-surprisal[size - 1 :: size]).sum()


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 1 << 32),
    lengths=st.sampled_from(LENGTHS),
    size=st.integers(1, 600),
    targets=st.sampled_from([1, 3, 8, 9, 12, 40]),
    sites=st.integers(1, 5),
    measured=st.booleans(),
    kept=st.sampled_from([99, 99, 1, 2, 3]),
)
def test_chances_of_all_targets_add_up_to_one(seed, lengths, size, targets, sites, measured, kept):
    draw = np.random.default_rng(seed)
    runs = [run_of(draw, size, sites=sites, targets=targets, favour=0.5) for _ in range(2)]
    rote = rote_of(lengths, runs[:1])
    if kept < 99:
        # also where it went on learning
        rote.keep(kept)
        rote.add(runs[1].walk(lengths[-1]), 1)
    settled(rote, measured_by(draw, lengths) if measured else None)
    for length in (1, 2, 4, 12):
        # some end at a site that is not known
        asked = run_of(draw, length, sites=sites + 1, targets=targets + 1, restarts=0.02)
        assert total_chance(rote, asked, rote.targets) == pytest.approx(1, abs=1e-6)


@given(seed=st.integers(0, 1 << 30), lengths=st.sampled_from(LENGTHS), targets=st.integers(1, 14))
@settings(max_examples=40, deadline=None)
def test_any_target_may_be_asked_for(seed, lengths, targets):
    draw = np.random.default_rng(seed)
    rote = rote_of(lengths, [run_of(draw, 120, targets=targets)], measured_by(draw, lengths))
    run = run_of(draw, 80, targets=targets + 2)
    at = draw.integers(0, len(run), 300)
    other = run.targets[draw.integers(0, len(run.targets), 300)]
    found = rote.chances(run.walk(lengths[-1]), 2, at, other)
    assert found.dtype == np.float64
    # the same run, had it gone there
    for place, token, chance in zip(at[:30].tolist(), other[:30].tolist(), found[:30].tolist(), strict=True):
        target = run.target.copy()
        target[place] = int(np.flatnonzero(run.targets == token)[0])
        gone = Run(run.sites, run.targets, run.source, target, run.first)
        surprisal = rote.score(gone.walk(lengths[-1]), 1)[3]
        assert chance == pytest.approx(float(np.exp(-surprisal[place].astype(float))), rel=1e-5)
    whole = np.arange(len(run))
    actual = rote.chances(run.walk(lengths[-1]), 1, whole, run.targets[run.target])
    np.testing.assert_allclose(-np.log(actual), rote.score(run.walk(lengths[-1]), 1)[3], rtol=1e-5, atol=1e-5)


def test_chances_are_asked_of_transfers_that_are_there():
    rote = rote_of([0, 1], [run_of(np.random.default_rng(0), 50)])
    walk = run_of(np.random.default_rng(1), 20).walk(1)
    assert len(rote.chances(walk, 1, np.zeros(0, np.int64), np.zeros(0, np.uint64))) == 0
    for place in (-1, 20, 1 << 62):
        with pytest.raises(IndexError, match="no such transfer"):
            rote.chances(walk, 1, np.array([place]), np.zeros(1, np.uint64))
    with pytest.raises(ValueError, match="different lengths"):
        rote.chances(walk, 1, np.zeros(2, np.int64), np.zeros(1, np.uint64))
    with pytest.raises(ValueError, match="remembers too little"):
        rote_of([0, 5], []).chances(walk, 1, np.zeros(1, np.int64), np.zeros(1, np.uint64))


def test_where_nothing_is_known_any_target_is_new():
    run = run_of(np.random.default_rng(0), 5)
    predicted, confidence, correct, surprisal = settled(Rote([0, 2])).score(run.walk(2), 1)
    assert not predicted.any()
    assert not confidence.any()
    assert not correct.any()
    assert np.isfinite(surprisal).all()


# --- equal counts ----------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 1 << 32),
    lengths=st.sampled_from(LENGTHS),
    targets=st.sampled_from([2, 5, 30]),
    order=st.permutations(range(5)),
)
def test_the_order_of_learning_changes_nothing(seed, lengths, targets, order):
    draw = np.random.default_rng(seed)
    # all targets are as frequent: there are many ties
    runs = [run_of(draw, 40, targets=targets, favour=0) for _ in order]
    one, other = rote_of(lengths, runs), rote_of(lengths, [runs[i] for i in order])
    judged = run_of(draw, 100, sites=4, targets=targets).walk(lengths[-1])
    for length in range(len(lengths)):
        assert same(one.counts(length), other.counts(length))
    assert same(one.score(judged, 1), other.score(judged, 1))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 1 << 32), lengths=st.sampled_from(LENGTHS), targets=st.sampled_from([2, 5, 30]))
def test_counts_added_are_counts_learnt(seed, lengths, targets):
    draw = np.random.default_rng(seed)
    runs = [run_of(draw, 60, targets=targets, favour=0) for _ in range(2)]
    both, added = rote_of(lengths, runs), Rote(lengths)
    for run in reversed(runs):
        alone = rote_of(lengths, [run])
        for order in range(len(lengths)):
            added.add_counts(order, *alone.counts(order))
    settled(added)
    judged = run_of(draw, 100, sites=4, targets=targets).walk(lengths[-1])
    assert all(same(both.counts(order), added.counts(order)) for order in range(len(lengths)))
    assert same(both.score(judged, 1), added.score(judged, 1))


def test_of_several_that_are_as_frequent_the_smallest_token_is_predicted():
    sites = np.array([1], np.uint64)
    for tokens in ([5, 9, 7], [9, 7, 5], [7, 5, 9]):
        rote, walk = Rote([0]), Walk(0)
        table = np.array(tokens, np.uint64)
        # the table of blocks has as many sites as targets
        walk.roll(
            np.repeat(sites, 3),
            table,
            np.zeros(3, np.uint32),
            np.arange(3, dtype=np.uint32),
            np.zeros(3, bool),
        )
        rote.add(walk, 1)
        assert settled(rote).score(walk, 1)[0].tolist() == [5, 5, 5]


def test_the_likeliest_target_is_predicted_where_shorter_contexts_know_better():
    # sites 1 … 9 lead to 100 and, but for one, to 101; site 50 led to eight targets once each, 100 is one of
    # them: what is left to all targets makes 101 likelier than any of the eight
    pairs = [(site, 100) for site in range(1, 10)] + [(site, 101) for site in range(1, 9)]
    pairs += [(50, 100)] + [(50, 200 + i) for i in range(7)] + [(50, 101)]
    sites, targets = (np.array(column, np.uint64) for column in zip(*pairs, strict=True))
    rows = np.arange(len(pairs), dtype=np.uint32)
    run = Run(sites, targets, rows, rows, np.ones(len(rows), bool))
    reference = reference_of([0], [run.plain[:-1]])
    rote, walk = Rote([0]), Walk(0)
    rote.add(run.roll(walk, 0, len(run) - 1), 1)
    _, chance, _ = list(reference.score(run.plain))[-1]
    assert max(chance, key=chance.get) == 101
    predicted, confidence, correct, _ = settled(rote).score(run.roll(walk, len(run) - 1), 1)
    assert predicted.tolist() == [101]
    assert correct.all()
    assert confidence[0] == pytest.approx(chance[101])


# --- drawn predictions -----------------------------------------------------------------------------------


def counted_run(counts, site=0):
    """A run of one site in which targets 1, 2 … follow so many times; each transfer starts anew."""
    table = np.arange(1, len(counts) + 4, dtype=np.uint64)
    target = np.repeat(np.arange(len(counts)), counts).astype(np.uint32)
    return Run(table, table, np.full(len(target), site, np.uint32), target, np.ones(len(target), bool))


@pytest.mark.parametrize("counts", [[1], [3, 1], [1, 2, 4], list(range(1, 21)), [1, 10_000]])
def test_predictions_are_drawn_in_proportion(counts):
    rote = rote_of([0], [counted_run(counts)])
    size = 40_000
    asked = counted_run([size])
    predicted, confidence, correct, surprisal = rote.draw(asked.walk(0), 1, 3, 0)
    share = np.array(counts) / sum(counts)
    found = np.bincount(predicted.astype(int) - 1, minlength=len(counts)) / size
    # five standard deviations of each share
    assert (np.abs(found - share) <= 5 * np.sqrt(share * (1 - share) / size) + 1e-12).all()
    np.testing.assert_allclose(confidence, share[predicted.astype(int) - 1], rtol=1e-6)
    assert (correct == (predicted == 1)).all()
    # what is drawn changes nothing of how surprising a transfer is
    assert surprisal.tobytes() == rote.score(asked.walk(0), 1)[3].tobytes()


def test_where_the_context_is_unknown_all_known_targets_are_as_likely():
    rote = rote_of([0], [counted_run([50, 1, 1, 1])])
    predicted, confidence, *_ = rote.draw(counted_run([20_000], site=3).walk(0), 1, 0, 0)
    found = np.bincount(predicted.astype(int), minlength=5)[1:]
    assert (np.abs(found - 5000) < 5 * np.sqrt(20_000 * 0.25 * 0.75)).all()
    assert (confidence == 0.25).all()


def test_draws_come_again_and_do_not_depend_on_the_parts():
    draw = np.random.default_rng(2)
    lengths = [0, 1, 3]
    rote = rote_of(lengths, [run_of(draw, 400)])
    judged = run_of(draw, 1000, sites=4, targets=5)
    whole = rote.draw(judged.walk(3), 1, 11, 500)
    assert same(whole, rote.draw(judged.walk(3), 3, 11, 500))
    assert not same(whole[:1], rote.draw(judged.walk(3), 1, 12, 500)[:1])
    assert not same(whole[:1], rote.draw(judged.walk(3), 1, 11, 501)[:1])
    walk, found = Walk(3), []
    for a, b in pairwise([0, 1, 2, 300, 300, 999, 1000]):
        found.append(rote.draw(judged.roll(walk, a, b), 1, 11, 500 + a))
    assert same(whole, [np.concatenate(column) for column in zip(*found, strict=True)])


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1 << 32), targets=st.sampled_from([2, 5, 30]))
def test_equal_counts_draw_the_same(seed, targets):
    draw = np.random.default_rng(seed)
    runs = [run_of(draw, 60, targets=targets) for _ in range(2)]
    one, other = rote_of([0, 1], runs), rote_of([0, 1], runs[::-1])
    judged = run_of(draw, 200, sites=4, targets=targets).walk(1)
    assert all(same(one.counts(order), other.counts(order)) for order in (0, 1))
    assert same(one.draw(judged, 1, 0, 0), other.draw(judged, 1, 0, 0))


# --- memory ----------------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 1 << 32),
    lengths=st.sampled_from(LENGTHS),
    sizes=st.lists(st.integers(0, 3000), min_size=1, max_size=6),
    sites=st.integers(1, 300),
    targets=st.sampled_from([2, 9, 200]),
)
def test_adding_takes_no_more_memory_than_foretold(seed, lengths, sizes, sites, targets):
    draw = np.random.default_rng(seed)
    rote = Rote(lengths)
    for size in sizes:
        foretold = rote.bytes_with(size, 1)
        rote.add(run_of(draw, size, sites=sites, targets=targets, favour=0.5).walk(lengths[-1]), 1)
        assert rote.bytes <= foretold
        assert rote.bytes <= rote.bytes_with(0, 99)


@pytest.mark.parametrize("sites", [1000, 3000, 5000])
@pytest.mark.parametrize("followers", [1, 8])
def test_memory_is_foretold_where_each_context_gets_one_more_follower(followers, sites):
    # of one follower: a list must be made; of eight: the context becomes wide, and all nine are indexed
    sizes = sites * followers
    rows = np.arange(sizes + sites, dtype=np.uint32)
    table = rows.astype(np.uint64) + 1
    target = np.where(rows < sizes, rows // sites, followers).astype(np.uint32)
    run = Run(table, table, rows % np.uint32(sites), target, np.ones(len(rows), bool))
    rote = Rote([0])
    walk = Walk(0)
    rote.add(run.roll(walk, 0, sizes), 1)
    step = sites // 4
    for begin in range(sizes, sizes + sites, step):
        foretold = rote.bytes_with(step, 1)
        rote.add(run.roll(walk, begin, begin + step), 1)
        assert rote.bytes <= foretold


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 1 << 32),
    lengths=st.sampled_from(LENGTHS),
    kept=st.lists(st.integers(1, 6), max_size=3),
    threads=st.sampled_from([1, 3]),
)
def test_lengths_that_are_forgotten_are_not_counted_again(seed, lengths, kept, threads):
    draw = np.random.default_rng(seed)
    runs = [run_of(draw, 200) for _ in range(2)]
    rote, reference = rote_of(lengths, runs[:1]), reference_of(lengths, [runs[0].plain])
    for most in kept:
        rote.keep(most)
        reference.keep(most)
    assert told(rote) == reference.told()
    rote.add(runs[1].walk(lengths[-1]), threads)
    reference.add(runs[1].plain)
    assert told(rote) == reference.told()
    assert rote.kept == reference.kept == min([len(lengths), *kept])
    # what is left scores as if the other lengths had never been
    fewer = settled(rote_of(lengths[: rote.kept], runs))
    judged = run_of(draw, 200, sites=5).walk(lengths[-1])
    assert same(settled(rote).score(judged, 1), fewer.score(judged, 1))
    assert same(rote.draw(judged, 1, 0, 0), fewer.draw(judged, 1, 0, 0))
    assert rote.bytes_with(0, 9) <= rote_of(lengths, runs).bytes_with(0, 9)


def test_sites_alone_are_kept_and_forgotten_lengths_take_no_counts():
    rote = rote_of([0, 1, 2], [run_of(np.random.default_rng(0), 100)])
    with pytest.raises(ValueError, match="sites alone"):
        rote.keep(0)
    counted = rote.counts(2)
    rote.keep(2)
    with pytest.raises(ValueError, match="forgotten"):
        rote.add_counts(2, *counted)
    rote.add_counts(2, *rote.counts(2))
    assert [len(rote.counts(order)[0]) > 0 for order in range(3)] == [True, True, False]


def test_threads_that_grow_tables_at_once_need_more_memory():
    rote = rote_of([0, 1, 2, 3], [run_of(np.random.default_rng(0), 5000, sites=300)])
    needs = [rote.bytes_with(4000, threads) for threads in (1, 2, 4, 9)]
    assert needs == sorted(needs)
    assert needs[0] < needs[1] < needs[2] == needs[3]


# --- counts at their end ---------------------------------------------------------------------------------


def test_counts_stop_at_their_end():
    most = (1 << 32) - 1
    rote = Rote([0, 1])
    arrays = [
        np.array([3, 9], np.uint64),
        np.array([0, 3, 4], np.uint64),
        np.array([1, 2, 3, 1], np.uint64),
        np.full(4, most, np.uint32),
    ]
    for _ in range(3):
        for order in (0, 1):
            rote.add_counts(order, *arrays)
    assert rote.counts(0)[3].tolist() == [most] * 4
    run = run_of(np.random.default_rng(0), 50)
    for scores in (settled(rote).score(run.walk(1), 1), rote.draw(run.walk(1), 1, 0, 0)):
        assert np.isfinite(scores[3]).all()
        assert np.isfinite(scores[1]).all()


@settings(max_examples=50, deadline=None)
@given(
    seed=st.integers(0, 1 << 32),
    rounds=st.integers(1, 6),
    targets=st.integers(1, 12),
    small=st.booleans(),
)
def test_huge_counts_give_scores(seed, rounds, targets, small):
    draw = np.random.default_rng(seed)
    run = run_of(draw, 80, targets=targets, favour=0)
    rote = rote_of([0, 1, 2], [run])
    for _ in range(rounds):
        for order in range(3):
            key, first, token, count = rote.counts(order)
            huge = draw.choice([1, 1 << 31, (1 << 32) - 2, (1 << 32) - 1], len(count))
            keep = np.ones(len(count)) if small else huge
            rote.add_counts(
                order,
                key,
                first,
                token,
                np.where(draw.random(len(count)) < 0.5, huge, keep).astype(np.uint32),
            )
    settled(rote)
    walk = run_of(draw, 100, targets=targets + 1).walk(2)
    for predicted, confidence, _, surprisal in (rote.score(walk, 1), rote.draw(walk, 1, 0, 0)):
        assert np.isfinite(surprisal).all()
        assert (surprisal >= 0).all()
        assert ((confidence >= 0) & (confidence <= 1)).all()
        assert np.isin(predicted, rote.targets).all()
    rote.keep(1)
    assert np.isfinite(settled(rote).score(walk, 1)[3]).all()


# --- wrong arguments -------------------------------------------------------------------------------------


@pytest.mark.parametrize("lengths", [[], [1], [0, 0], [0, 2, 1], [0, 3, 3]])
def test_lengths_that_do_not_ascend_from_zero_are_refused(lengths):
    with pytest.raises(ValueError, match="ascend"):
        Rote(lengths)


@pytest.mark.parametrize("length", [(1 << 20) + 1, (1 << 32) - 2, (1 << 32) - 1])
def test_contexts_that_are_too_long_are_refused(length):
    with pytest.raises(ValueError, match="too long"):
        Walk(length)
    with pytest.raises(ValueError, match="too long"):
        Rote([0, length])
    assert len(Walk(1 << 20)) == 0


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"sites": np.zeros(2, np.uint64)}, ValueError),
        ({"targets": np.zeros(9, np.uint64)}, ValueError),
        ({"target": np.zeros(2, np.uint32)}, ValueError),
        ({"first": np.zeros(0, np.bool_)}, ValueError),
        ({"source": np.array([0, 1, 3], np.uint32)}, IndexError),
        ({"target": np.array([0, 1, (1 << 32) - 1], np.uint32)}, IndexError),
        ({"source": np.zeros((3, 1), np.uint32)}, TypeError),
        ({"source": None}, TypeError),
        ({"sites": "no array"}, TypeError),
    ],
)
def test_transfers_that_contradict_themselves_are_refused(change, error):
    columns = {
        "sites": np.arange(3, dtype=np.uint64),
        "targets": np.arange(3, dtype=np.uint64),
        "source": np.zeros(3, np.uint32),
        "target": np.zeros(3, np.uint32),
        "first": np.zeros(3, np.bool_),
    }
    walk = Walk(2)
    walk.roll(**columns)
    with pytest.raises(error):
        walk.roll(**(columns | change))
    # it is as it was
    assert len(walk) == 3
    rote = Rote([0, 1, 2])
    rote.add(walk, 1)
    assert rote.contexts == 3


def test_a_walk_that_remembers_too_little_is_refused():
    rote, walk = settled(Rote([0, 4])), run_of(np.random.default_rng(0), 9).walk(3)
    calls = [rote.add, rote.score, rote.escapes, lambda walk, threads: rote.draw(walk, threads, 0, 0)]
    for call in calls:
        with pytest.raises(ValueError, match="remembers too little"):
            call(walk, 1)
    assert rote.contexts == 0


@pytest.mark.parametrize("which", range(3))
@pytest.mark.parametrize("size", [0, 1, 10_000])
def test_escapes_of_other_lengths_are_refused(which, size):
    rote = Rote([0, 1])
    escapes = [np.zeros(4 * TIMES * SPREADS), np.zeros(4 * TIMES * SPREADS), np.zeros(2)]
    rote.settle(*escapes)
    escapes[which] = np.zeros(size)
    with pytest.raises(ValueError, match="other lengths"):
        rote.settle(*escapes)


@pytest.mark.parametrize(
    "change",
    [
        {"key": [0, 9]},
        {"key": [3]},
        {"key": []},
        {"first": []},
        {"first": [0]},
        {"first": [0, 2]},
        {"first": [1, 2, 3]},
        {"first": [0, 0, 3]},
        {"first": [0, 3, 3]},
        {"first": [0, 4, 3]},
        {"first": [0, 1 << 63, 3]},
        {"first": [0, 2, 4]},
        {"token": [1, 2]},
        {"token": []},
        {"count": [1, 2]},
        {"count": [1, 0, 1]},
        {"count": [1, 1, 0]},
    ],
)
def test_counts_that_contradict_themselves_are_refused(change):
    types = {"key": np.uint64, "first": np.uint64, "token": np.uint64, "count": np.uint32}
    right = {"key": [3, 9], "first": [0, 2, 3], "token": [1, 2, 1], "count": [1, 2, 3]}
    rote = Rote([0])
    with pytest.raises(ValueError, match="contradict"):
        rote.add_counts(0, **{name: np.array((right | change)[name], types[name]) for name in types})
    assert rote.contexts == 0
    rote.add_counts(0, **{name: np.array(right[name], types[name]) for name in types})
    assert told(rote) == [[[(1, 1), (2, 2)], [(1, 3)]]]


@pytest.mark.parametrize(
    "keys",
    [
        [1],
        [1, 2, 3, 5, 8],
        [(1 << 64) - 1, 1 << 63, 1, (1 << 63) - 1],
        [*range(1, 300), *range(1 << 40, (1 << 40) + 300), *range((1 << 64) - 300, 1 << 64)],
    ],
)
def test_counts_come_by_key_whatever_the_keys_are(keys):
    draw = np.random.default_rng(len(keys))
    key = draw.permutation(np.array(keys, np.uint64))
    first = np.arange(0, 2 * len(key) + 1, 2, dtype=np.uint64)
    token = np.array([draw.choice(5, 2, replace=False) + 10 for _ in keys], np.uint64).ravel()
    rote = Rote([0])
    rote.add_counts(0, key, first, token, np.arange(1, 2 * len(key) + 1, dtype=np.uint32))
    found = rote.counts(0)
    assert found[0].tolist() == sorted(keys)
    rows = {
        int(k): sorted([(int(token[2 * i]), 2 * i + 1), (int(token[2 * i + 1]), 2 * i + 2)])
        for i, k in enumerate(key)
    }
    pairs = [*zip(found[2].tolist(), found[3].tolist(), strict=True)]
    assert [pairs[a:b] for a, b in pairwise(found[1].tolist())] == [rows[k] for k in sorted(keys)]


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1 << 32), lengths=st.sampled_from(LENGTHS), threads=st.integers(1, 3))
def test_counts_of_all_lengths_at_once_are_those_of_each(seed, lengths, threads):
    rote = rote_of(lengths, [run_of(np.random.default_rng(seed), 300, targets=12, favour=0.5)])
    found = rote.all_counts(threads)
    assert len(found) == len(lengths)
    for order, (key, followers, place, count) in enumerate(found):
        assert [array.dtype for array in found[order]] == [np.uint64, np.uint32, np.uint32, np.uint32]
        expected = rote.counts(order)
        assert same((key, np.sort(rote.targets)[place], count), (expected[0], expected[2], expected[3]))
        assert followers.tolist() == np.diff(expected[1]).tolist()


def test_an_order_that_is_none_is_refused():
    rote = Rote([0, 1])
    none = np.zeros(0, np.uint64)
    for order in (2, 1 << 60):
        with pytest.raises(IndexError, match="no such order"):
            rote.counts(order)
        with pytest.raises(IndexError, match="no such order"):
            rote.add_counts(order, none, np.zeros(1, np.uint64), none, np.zeros(0, np.uint32))
    with pytest.raises(TypeError):
        rote.counts(-1)


def in_a_process(code):
    """How a process ended that ran this."""
    code = "import numpy as np\nfrom barnum._rote import SPREADS, TIMES, Rote, Walk\n" + code
    return subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60, check=False)


def test_scoring_before_it_was_settled_is_no_crash():
    ended = in_a_process(
        "rows = np.zeros(3, np.uint32)\n"
        "table = np.ones(1, np.uint64)\n"
        "rote, walk = Rote([0]), Walk(0)\n"
        "walk.roll(table, table, rows, rows, np.zeros(3, np.bool_))\n"
        "rote.add(walk, 1)\n"
        "walk.roll(table + np.uint64(1), table, rows, rows, np.zeros(3, np.bool_))\n"
        "try:\n"
        "    assert np.isfinite(rote.score(walk, 1)[3]).all()\n"
        "except (ValueError, RuntimeError):\n"
        "    pass\n"
    )
    assert ended.returncode == 0, ended


def test_keys_that_were_chosen_to_collide_do_not_slow_it_down():
    # tables that took such keys as they come needed minutes
    keys = np.arange(1, 400_001, dtype=np.uint64)
    rows = np.arange(len(keys) + 1, dtype=np.uint64)
    tokens, counts = np.ones(len(keys), np.uint64), np.ones(len(keys), np.uint32)
    took = []
    for key in (keys * np.uint64(0x9E3779B97F4A7C15), keys << np.uint64(40)):
        begin = time.process_time()
        Rote([0]).add_counts(0, np.sort(key), rows, tokens, counts)
        took.append(time.process_time() - begin)
    assert took[1] < 5 + 10 * took[0], took


def test_targets_that_were_chosen_to_collide_are_told_apart():
    # a table that took them as they come, modulo one of its sizes, would need minutes
    tokens = np.arange(1, 150_001, dtype=np.uint64) * np.uint64(85229 * 172933)
    rote = Rote([0])
    keys, counts = np.array([5], np.uint64), np.ones(len(tokens), np.uint32)
    for _ in range(2):
        rote.add_counts(0, keys, np.array([0, len(tokens)], np.uint64), tokens, counts)
    assert (np.sort(rote.targets) == tokens).all()
    assert (rote.counts(0)[3] == 2).all()


def test_where_no_more_threads_can_be_had_those_there_are_do_it_all():
    ended = in_a_process(
        "import resource\n"
        "draw = np.random.default_rng(0)\n"
        "table = np.arange(50, dtype=np.uint64)\n"
        "size = 1_000_000\n"
        "rows = draw.integers(0, 50, size).astype(np.uint32)\n"
        "rote, walk = Rote(list(range(12))), Walk(11)\n"
        "walk.roll(table, table, rows[:5000], rows[1:5001], np.zeros(5000, np.bool_))\n"
        "rote.add(walk, 1)\n"
        "cells = 24 * TIMES * SPREADS\n"
        "rote.settle(np.zeros(cells), np.zeros(cells), np.zeros(2))\n"
        "walk.roll(table, table, rows[:-1], rows[1:], np.zeros(size - 1, np.bool_))\n"
        "alone = rote.score(walk, 1)\n"
        # room for the scores, and for a few threads
        "taken = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "most = resource.getrlimit(resource.RLIMIT_AS)[1]\n"
        "resource.setrlimit(resource.RLIMIT_AS, (taken + (80 << 20), most))\n"
        "scores = rote.score(walk, 1024)\n"
        "resource.setrlimit(resource.RLIMIT_AS, (most, most))\n"
        "assert all(np.array_equal(*both) for both in zip(scores, alone))\n"
    )
    assert ended.returncode == 0, ended


def test_the_reference_knows_what_a_context_is():
    reference = Reference([0, 1, 2])
    reference.add([(1, 10, True), (2, 20, False), (3, 30, False), (1, 11, True)])
    assert list(map(len, reference.counts)) == [3, 2, 1]
    assert reference.counts[0] == {(1,): {10: 1, 11: 1}, (2,): {20: 1}, (3,): {30: 1}}
    assert reference.counts[2] == {(3, (1, 10), (2, 20)): {30: 1}}
