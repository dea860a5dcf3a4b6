"""Which transfers of a trace a network learns."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from barnum.sequences import Picker, Selection, spread
from learning import blocks_of, part, transfers_of

BLOCKS = blocks_of(40)


def loops(seed, length):
    """Transfers of a path that goes through loops now and then, with restarts."""
    draw = np.random.default_rng(seed)
    path = [0]
    while len(path) <= length:
        path += draw.integers(0, 40, int(draw.integers(1, 8))).tolist() * int(draw.integers(1, 9))
    first = sorted({0, *draw.integers(0, max(length, 1), 4).tolist()} if length else ())
    return transfers_of(BLOCKS, path[: length + 1], first=first)


def cut(transfers, cuts):
    bounds = [0, *sorted(min(at, len(transfers)) for at in cuts), len(transfers)]
    return [part(transfers, a, b) for a, b in pairwise(bounds)]


def selected(selection, parts, total):
    """Positions and restarts of what is selected; everything else must belong to them."""
    chosen = list(selection.select(parts, total))
    assert all(len(each) for each in chosen)
    position = np.concatenate([np.zeros(0, int), *(each.position.astype(int) for each in chosen)])
    first = np.concatenate([np.zeros(0, bool), *(each.first for each in chosen)])
    return position, first


@settings(max_examples=200, deadline=None)
@given(total=st.integers(0, 2_000_000), cap=st.one_of(st.none(), st.integers(1, 2_000_000)))
def test_windows_are_spread_over_the_whole_under_the_cap(total, cap):
    windows = Selection(max_transfers=cap).windows(total)
    assert windows.dtype == np.int64
    if cap is None or cap >= total:
        assert windows.tolist() == [[0, total]]
        return
    begin, end = windows.T
    kept = int((end - begin).sum())
    assert kept <= cap
    # nearly all that may be learnt is
    assert kept > cap - max(1, cap / 16)
    assert (begin < end).all()
    assert (end[:-1] < begin[1:]).all()
    assert begin[0] == 0
    assert end[-1] <= total
    if cap >= 16:
        assert end[-1] == total
        # nothing longer than the share of a window is left out
        assert int((begin[1:] - end[:-1]).max(initial=0)) <= total / 15


@pytest.mark.parametrize(
    ("total", "cap", "windows"),
    [(10, 1, [[0, 1]]), (10, 2, [[0, 1], [9, 10]]), (5, 5, [[0, 5]]), (0, 3, [[0, 0]])],
)
def test_small_caps(total, cap, windows):
    assert Selection(max_transfers=cap).windows(total).tolist() == windows


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 1 << 32),
    length=st.integers(1, 400),
    cap=st.one_of(st.none(), st.integers(1, 400)),
    cuts=st.lists(st.integers(0, 400), max_size=6),
)
def test_what_is_selected_are_slices_of_the_run(seed, length, cap, cuts):
    transfers = loops(seed, length)
    selection = Selection(max_transfers=cap)
    windows = selection.windows(length).tolist()
    position, first = selected(selection, cut(transfers, cuts), length)
    inside = np.concatenate([np.arange(a, b) for a, b in windows])
    assert position.tolist() == transfers.position[inside].tolist()
    # state restarts where it did, and at the begin of each window
    assert (
        first.tolist()
        == (transfers.first | np.isin(np.arange(length), [a for a, _ in windows]))[inside].tolist()
    )


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 1 << 32),
    length=st.integers(1, 400),
    cap=st.one_of(st.none(), st.integers(1, 300)),
    rounds=st.integers(1, 4),
    cuts=st.lists(st.integers(0, 400), max_size=6),
)
def test_parts_do_not_matter_and_the_cap_counts_what_is_left_after_folding(seed, length, cap, rounds, cuts):
    transfers = loops(seed, length)
    parts = cut(transfers, cuts)
    selection = Selection(max_transfers=cap, fold_loops=rounds)
    counting = Picker(selection, 0)
    total = sum(counting.folded(each) for each in parts)
    folded, restarts = selected(Selection(fold_loops=rounds), [transfers], total)
    assert len(folded) == total <= length
    # no restart is folded away
    assert set(transfers.position[transfers.first].tolist()) == set(folded[restarts].tolist())
    whole = selected(selection, [transfers], total)
    in_parts = selected(selection, parts, total)
    assert [array.tolist() for array in in_parts] == [array.tolist() for array in whole]
    assert len(whole[0]) <= min(total, cap or total)
    windows = selection.windows(total).tolist()
    assert whole[0].tolist() == folded[np.concatenate([np.arange(a, b) for a, b in windows])].tolist()


@pytest.mark.parametrize("rounds", [1, 3])
def test_so_many_rounds_of_a_loop_are_learnt(rounds):
    path = [30, 31, 32, *[1, 2, 3, 4] * 50, 35, 36]
    transfers = transfers_of(BLOCKS, path)
    (kept,) = Selection(fold_loops=rounds).select([transfers], 10_000)
    # the loop is entered by a transfer of its own, then goes round
    assert kept.source.tolist() == [30, 31, 32, *[1, 2, 3, 4] * rounds, 4, 35]
    assert kept.target.tolist() == [31, 32, 1, *[2, 3, 4, 1] * rounds, 35, 36]
    assert kept.first.tolist() == [True] + [False] * (len(kept) - 1)


def test_parts_share_the_table_of_blocks_and_hold_nothing_else():
    transfers = loops(1, 300)
    for each in Selection(max_transfers=40).select(cut(transfers, [10, 200]), 300):
        assert each.blocks is BLOCKS
        step = each.position.astype(int) - 1
        assert each.source.tolist() == transfers.source[step].tolist()
        assert each.target.tolist() == transfers.target[step].tolist()


def test_spread_windows_that_touch_are_one():
    windows = spread(1000, 999)
    assert len(windows) < 16
    assert (windows[1:, 0] > windows[:-1, 1]).all()
