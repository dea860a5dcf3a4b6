"""Contexts and loops of the extension, against slow ones of dicts and tuples."""

from bisect import bisect_left
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from barnum._sequences import FURTHER, LEVELS, Contexts, Loops

LONGEST_LOOP = 64


def run_of(draw, size, *, sites=3, tokens=3, ranks=3, restarts=0.05, wanted=0.8):
    """Arrays of a run: site, token, rank, first, wanted."""
    return (
        draw.integers(0, sites, size).astype(np.int32),
        # large ones, which only a hash of all their bits tells apart
        draw.integers(0, tokens, size).astype(np.uint64) * np.uint64((1 << 62) + 5),
        draw.integers(0, ranks, size).astype(np.uint8),
        draw.random(size) < restarts,
        draw.random(size) < wanted,
    )


class Slow:
    """Counts what followed each context in dicts."""

    def __init__(self, lengths):
        self._lengths = lengths
        self._followers = [defaultdict(Counter) for _ in lengths]

    def _walk(self, run):
        site, token, rank, first, wanted = (array.tolist() for array in run)
        begin = 0
        for i in range(len(site)):
            if first[i]:
                begin = i
            if wanted[i]:
                yield (
                    rank[i],
                    [
                        (site[i], *token[i - length : i]) if i - begin >= length else None
                        for length in self._lengths
                    ],
                )

    def add(self, run):
        for rank, contexts in self._walk(run):
            for followers, context in zip(self._followers, contexts, strict=True):
                if context is not None:
                    followers[context][rank] += 1

    def look_up(self, run):
        """For each wanted transfer and length: the ranks that may be told, and the level; and what is told
        beside."""
        return [
            [
                told(followers.get(context, Counter()))
                for followers, context in zip(self._followers, contexts, strict=True)
            ]
            for _, contexts in self._walk(run)
        ]

    @property
    def contexts(self):
        return sum(len(followers) for followers in self._followers)


def told(followers):
    """The most frequent of the first three followers, and how sure that is; and the other two likewise, each
    among what those before it leave."""
    first = sorted(list(followers.items())[:3], key=lambda item: (-item[1], item[0]))
    left = sum(followers.values())
    found = []
    for rank, count in first:
        often = bisect_left([1, 2, 4, 8, 16, 64], count)
        share = count / left
        purely = 0 if share == 1 else 1 + sum(share < least for least in (0.98, 0.9, 0.75, 0.5))
        found.append((rank, 1 + often * 6 + purely))
        left -= count
    return found + [(0, 0)] * (3 - len(found))


def assert_tells(found, expected, lengths):
    ranks, levels, further, further_levels = found
    assert all(array.dtype == np.uint8 for array in found)
    assert ranks.shape == levels.shape == (len(expected), lengths)
    assert further.shape == further_levels.shape == (len(expected), FURTHER)
    assert levels.tolist() == [[followed[0][1] for followed in row] for row in expected]
    assert ranks.tolist() == [[followed[0][0] for followed in row] for row in expected]
    # of the last length that is known
    last = [next((f for f in reversed(row) if f[0][1]), [(0, 0)] * 3) for row in expected]
    assert further.tolist() == [[rank for rank, _ in followed[1:]] for followed in last]
    assert further_levels.tolist() == [[level for _, level in followed[1:]] for followed in last]


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 1 << 32),
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=5),
    sizes=st.lists(st.integers(0, 120), min_size=1, max_size=4),
    restarts=st.sampled_from([0.0, 0.05, 0.5, 1.0]),
    ranks=st.integers(1, 6),
)
def test_what_followed_a_context_is_what_counting_in_dicts_gives(seed, lengths, sizes, restarts, ranks):
    draw = np.random.default_rng(seed)
    contexts, slow = Contexts(lengths), Slow(lengths)
    for size in sizes:
        run = run_of(draw, size, ranks=ranks, restarts=restarts)
        contexts.add(*run)
        slow.add(run)
    judged = run_of(draw, 100, restarts=restarts)
    assert_tells(contexts.look_up(*judged), slow.look_up(judged), len(lengths))
    assert contexts.contexts == slow.contexts


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 1 << 32),
    others=st.integers(0, 150),
    own=st.integers(0, 150),
    sites=st.integers(1, 3),
)
def test_what_a_run_has_counted_itself_is_left_out_as_if_it_had_not(seed, others, own, sites):
    lengths = [1, 2, 3, 5]
    draw = np.random.default_rng(seed)
    one, two, mine = (run_of(draw, size, sites=sites, tokens=2) for size in (others // 2, others, own))
    contexts, of_mine, without, slow = Contexts(lengths), Contexts(lengths), Contexts(lengths), Slow(lengths)
    for run in (one, mine, two):
        contexts.add(*run)
    of_mine.add(*mine)
    for run in (one, two):
        without.add(*run)
        slow.add(run)
    for judged in (mine, two):
        found = contexts.look_up(*judged, own=of_mine)
        assert_tells(found, slow.look_up(judged), len(lengths))
        # also where several are as frequent, so that what the run did does not show
        assert [array.tolist() for array in found] == [array.tolist() for array in without.look_up(*judged)]


@pytest.mark.parametrize("mine", [0, 1])
def test_of_several_that_are_as_frequent_a_run_does_not_get_its_own(mine):
    # the others had one of each after the same transfer; the run itself has one more
    def after_one_another(*ranks):
        count = 2 * len(ranks)
        taken = np.zeros(count, np.uint8)
        taken[1::2] = ranks
        second = np.arange(count) % 2 == 1
        return np.zeros(count, np.int32), np.zeros(count, np.uint64), taken, ~second, second

    told = []
    for others in (after_one_another(0, 1), after_one_another(1, 0)):
        contexts, own = Contexts([1]), Contexts([1])
        contexts.add(*others)
        contexts.add(*after_one_another(mine))
        own.add(*after_one_another(mine))
        told += contexts.look_up(*after_one_another(mine), own=own)[0].ravel().tolist()
    assert told == [0, 0]


def test_a_run_alone_has_met_nothing_when_it_is_left_out():
    run = run_of(np.random.default_rng(0), 300)
    contexts = Contexts([1, 4])
    contexts.add(*run)
    ranks, levels, *_ = contexts.look_up(*run, own=contexts)
    assert not levels.any()
    assert not ranks.any()


def test_no_context_reaches_back_over_a_restart():
    site, token, rank = np.zeros(6, np.int32), np.arange(6, dtype=np.uint64), np.zeros(6, np.uint8)
    wanted = np.ones(6, bool)
    first = np.array([1, 0, 0, 1, 0, 0], bool)
    contexts = Contexts([1, 2, 3])
    contexts.add(site, token, rank, first, wanted)
    levels = contexts.look_up(site, token, rank, first, wanted)[1]
    assert (levels > 0).tolist() == [
        [False, False, False],
        [True, False, False],
        [True, True, False],
    ] * 2
    # what was counted without the restart is another context
    levels = contexts.look_up(site, token, rank, np.zeros(6, bool), wanted)[1]
    assert not levels[3].any()
    assert (levels[5] > 0).tolist() == [True, True, False]


def test_the_begin_of_a_run_is_one_of_its_contexts_whether_it_says_so_or_not():
    run = run_of(np.random.default_rng(1), 200, restarts=0.0)
    marked = (*run[:3], np.arange(200) == 0, run[4])
    a, b = Contexts([1, 3]), Contexts([1, 3])
    a.add(*run)
    b.add(*marked)
    assert a.contexts == b.contexts
    assert [x.tolist() for x in a.look_up(*run)] == [x.tolist() for x in b.look_up(*marked)]


def test_transfers_that_are_not_wanted_are_context_and_nothing_else():
    lengths = [1, 2]
    draw = np.random.default_rng(2)
    contexts = Contexts(lengths)
    nobody = run_of(draw, 50, wanted=0.0)
    contexts.add(*nobody)
    assert contexts.contexts == 0
    ranks, levels, *_ = contexts.look_up(*nobody)
    assert ranks.shape == levels.shape == (0, 2)
    run = run_of(draw, 60, wanted=1.0, restarts=0.0)
    only_last = (*run[:4], np.arange(60) == 59)
    contexts.add(*only_last)
    assert contexts.contexts == 2
    levels = contexts.look_up(*only_last)[1]
    assert levels.tolist() == [[1, 1]]


def test_an_empty_run_changes_nothing():
    empty = run_of(np.random.default_rng(0), 0)
    contexts = Contexts([1, 2, 3])
    contexts.add(*empty)
    assert contexts.contexts == 0
    assert contexts.look_up(*empty)[0].shape == (0, 3)


@pytest.mark.parametrize("lengths", [[], [1] * 17, [0], [3, 0], [1025]])
def test_impossible_lengths_are_refused(lengths):
    with pytest.raises(ValueError, match="context"):
        Contexts(lengths)


def test_the_longest_possible_contexts_are_counted():
    lengths = [*range(1, 16), 1024]
    run = run_of(np.random.default_rng(0), 1100, restarts=0.0, wanted=1.0)
    contexts, slow = Contexts(lengths), Slow(lengths)
    contexts.add(*run)
    slow.add(run)
    assert_tells(contexts.look_up(*run), slow.look_up(run), 16)
    assert (contexts.look_up(*run)[1][:, -1] > 0).sum() == 1100 - 1024


@pytest.mark.parametrize("shorter", range(1, 5))
def test_arrays_of_different_lengths_are_refused(shorter):
    run = list(run_of(np.random.default_rng(0), 10))
    run[shorter] = run[shorter][:-1]
    contexts = Contexts([1])
    with pytest.raises(ValueError, match="different lengths"):
        contexts.add(*run)
    with pytest.raises(ValueError, match="different lengths"):
        contexts.look_up(*run)
    assert contexts.contexts == 0


def test_own_counts_of_other_lengths_are_refused():
    run = run_of(np.random.default_rng(0), 10)
    with pytest.raises(ValueError, match="other lengths"):
        Contexts([1, 2]).look_up(*run, own=Contexts([1, 3]))


def test_tables_grow_and_lose_nothing():
    lengths = [1, 2]
    draw = np.random.default_rng(3)
    # nearly every context of two is a new one
    runs = [run_of(draw, 3000, sites=50, tokens=80, wanted=1.0) for _ in range(4)]
    contexts, slow = Contexts(lengths), Slow(lengths)
    empty = contexts.bytes
    for run in runs:
        contexts.add(*run)
        slow.add(run)
    assert contexts.contexts == slow.contexts > 10 * 1024
    assert contexts.bytes > empty
    for run in runs[:2]:
        assert_tells(contexts.look_up(*run), slow.look_up(run), 2)


def test_a_context_may_come_as_often_as_it_likes():
    """A loop that goes round a hundred thousand times in each run is as sure as one can be."""
    size = 100_000
    nothing = np.zeros(size, bool)
    rank = np.zeros(size, np.uint8)
    rank[::100] = 1
    run = (np.zeros(size, np.int32), np.zeros(size, np.uint64), rank, nothing, ~nothing)
    contexts, own = Contexts([1]), Contexts([1])
    for _ in range(2):
        contexts.add(*run)
    own.add(*run)
    few = tuple(array[:2] for array in run)
    # more often than any class tells apart, and 99 times in a hundred
    expected = [[0], [LEVELS - 6 + 1]]
    assert contexts.look_up(*few)[1].tolist() == expected
    # the other run alone tells the same
    assert contexts.look_up(*few, own=own)[1].tolist() == expected
    assert not contexts.look_up(*few)[0].any()


def test_several_threads_look_up_what_one_does():
    draw = np.random.default_rng(4)
    contexts, own = Contexts([1, 2, 4]), Contexts([1, 2, 4])
    for _ in range(3):
        contexts.add(*run_of(draw, 4000))
    runs = [run_of(draw, 4000) for _ in range(8)]
    contexts.add(*runs[0])
    own.add(*runs[0])

    def look_up(run):
        return [array.tobytes() for array in contexts.look_up(*run, own=own)]

    alone = [look_up(run) for run in runs]
    with ThreadPoolExecutor(4) as workers:
        assert list(workers.map(look_up, runs)) == alone


# --- loops --------------------------------------------------------------------------------------------------


def kept_slowly(keys, restarts, rounds):
    """By definition: a transfer goes where more than the rounds before it equal what lies a round before."""
    kept, begin = [], 0
    same = [0] * (LONGEST_LOOP + 1)
    for i, key in enumerate(keys):
        if restarts[i]:
            begin, same = i, [0] * (LONGEST_LOOP + 1)
        for period in range(1, LONGEST_LOOP + 1):
            repeats = i - period >= begin and keys[i - period] == key
            same[period] = same[period] + 1 if repeats else 0
        kept.append(not any(n > (rounds - 1) * period for period, n in enumerate(same) if period))
    return kept


def loops_in(draw, size, alphabet):
    """Keys of a run that goes through loops now and then."""
    keys = []
    while len(keys) < size:
        body = draw.integers(0, alphabet, int(draw.integers(1, 20))).tolist()
        keys += body * int(draw.integers(1, 6))
    return np.array(keys[:size], np.uint64)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 1 << 32),
    size=st.integers(0, 250),
    alphabet=st.sampled_from([1, 2, 5, 100]),
    rounds=st.integers(1, 4),
    restarts=st.sampled_from([0.0, 0.02, 0.3]),
    cuts=st.lists(st.integers(0, 250), max_size=5),
)
def test_loops_are_folded_as_by_definition_whatever_the_parts(seed, size, alphabet, rounds, restarts, cuts):
    draw = np.random.default_rng(seed)
    keys, restart = loops_in(draw, size, alphabet), draw.random(size) < restarts
    whole = Loops(rounds).mark(keys, restart)
    assert whole.dtype == np.bool_
    assert whole.tolist() == kept_slowly(keys.tolist(), restart.tolist(), rounds)
    loops = Loops(rounds)
    bounds = [0, *sorted(min(cut, size) for cut in cuts), size]
    parts = [loops.mark(keys[a:b], restart[a:b]) for a, b in pairwise(bounds)]
    assert np.concatenate(parts).tolist() == whole.tolist()


@pytest.mark.parametrize("period", [1, 5, 64])
@pytest.mark.parametrize("rounds", [1, 2, 7])
def test_so_many_rounds_of_a_loop_are_kept(period, rounds):
    body = np.arange(100, 100 + period, dtype=np.uint64)
    keys = np.concatenate(
        [np.arange(10, dtype=np.uint64), np.tile(body, 20), np.arange(20, 25, dtype=np.uint64)]
    )
    keep = Loops(rounds).mark(keys, np.zeros(len(keys), bool))
    assert keep[:10].all()
    assert keep[-5:].all()
    assert np.flatnonzero(keep[10:-5]).tolist() == list(range(rounds * period))


def test_a_loop_that_is_longer_than_any_folded_one_is_kept():
    keys = np.tile(np.arange(65, dtype=np.uint64), 10)
    assert Loops(1).mark(keys, np.zeros(len(keys), bool)).all()


def test_a_restart_begins_the_rounds_anew():
    keys = np.tile(np.arange(3, dtype=np.uint64), 20)
    restart = np.zeros(60, bool)
    restart[31] = True
    keep = Loops(2).mark(keys, restart)
    assert np.flatnonzero(keep).tolist() == [*range(6), *range(31, 37)]


def test_impossible_loops_are_refused():
    with pytest.raises(ValueError, match="at least 1 round"):
        Loops(0)
    with pytest.raises(ValueError, match="different lengths"):
        Loops(1).mark(np.zeros(3, np.uint64), np.zeros(2, bool))
