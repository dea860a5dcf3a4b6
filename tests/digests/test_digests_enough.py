"""How much is learnt: against draws of runs, and what is said of it."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from barnum.digests.enough import enough_of, news_after


@given(st.lists(st.sets(st.integers(0, 12)), min_size=2, max_size=6), st.data())
@settings(max_examples=100, deadline=None)
def test_news_are_those_of_all_orders_of_the_runs(runs, data):
    learnt = data.draw(st.integers(0, len(runs) - 1))
    edges = sorted(set().union(*runs))
    edge_runs = np.array([sum(edge in run for run in runs) for edge in edges], np.int64)
    brought = []
    for some in itertools.combinations(range(len(runs)), learnt):
        known = set().union(*(runs[at] for at in some))
        brought += [len(runs[at] - known) for at in range(len(runs)) if at not in some]
    assert news_after(edge_runs, len(runs), learnt) == pytest.approx(np.mean(brought), abs=1e-9)


def counts(shown):
    """Counts of runs, each a set of transfers."""
    edges = sorted(set().union(*shown))
    edge_runs = np.array([sum(edge in run for run in shown) for edge in edges], np.int64)
    single = [
        (row, next(at for at, run in enumerate(shown) if edge in run))
        for row, edge in enumerate(edges)
        if edge_runs[row] == 1
    ]
    rows = np.array(single, np.int64).reshape(-1, 2)

    class Made(SimpleNamespace):
        def __len__(self):
            return len(shown)

    return Made(edge_runs=edge_runs, row_edge=rows[:, 0], row_run=rows[:, 1])


def test_runs_that_are_alike_bring_nothing_and_odd_ones_go_on():
    alike = enough_of(counts([{1, 2, 3}] * 20))
    assert (alike.half, alike.last, alike.twice, alike.alone) == (0, 0, 0, 0)
    odd = enough_of(counts([{1, 100 + at} for at in range(20)]))
    assert (odd.half, odd.last, odd.alone) == (pytest.approx(1), pytest.approx(1), 1)
    assert odd.twice == pytest.approx(1)
    # each of 12 things is in two or three runs: later ones bring less
    fewer = enough_of(counts([{1, 200 + at % 12} for at in range(30)]))
    assert fewer.half > 3 * fewer.last
    assert fewer.twice < fewer.last or fewer.last == 0


def test_of_a_few_runs_nothing_is_said():
    assert enough_of(counts([{1, at} for at in range(7)])) is None
