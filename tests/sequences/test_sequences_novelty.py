"""Rates of what is new and the novelty of runs, against leaving out one run at a time for real."""

import dataclasses
import math
from itertools import pairwise

import numpy as np
import pytest

from barnum.errors import ModelError
from barnum.evaluations import worst_window
from barnum.paths import Kind
from barnum.sequences import (
    REACH,
    WINDOW,
    Encoder,
    Rates,
    RunNovelty,
    Vocabulary,
    edges_of,
    fit_novelty,
    units_of,
)
from learning import attack_path, blocks_of, nominal_path, part, transfers_of

BLOCKS = blocks_of(40, (Kind.RETURN, Kind.INDIRECT_CALL), in_libc=10)


def novelty_of(runs, judged, pieces=1):
    """Novelty of each transfer of a run, by rates learnt from other runs."""
    counted = [edges_of([run]) for run in runs]
    vocabulary = Vocabulary.fit(units_of(counted)[0])
    rates, _ = fit_novelty(vocabulary, counted)
    encoder, novelty = Encoder(vocabulary), RunNovelty(vocabulary, rates)
    cuts = np.linspace(0, len(judged), pieces + 1).astype(int)
    parts = [part(judged, a, b) for a, b in pairwise(cuts)]
    return np.concatenate([novelty.score(encoder.encode(each), each) for each in parts])


@pytest.fixture(scope="module")
def runs():
    return [transfers_of(BLOCKS, nominal_path(seed, 400)) for seed in range(20)]


def test_calibration_is_what_learning_without_the_run_gives(runs):
    counted = [edges_of([run]) for run in runs]
    _, scores = fit_novelty(Vocabulary.fit(units_of(counted)[0]), counted)
    for left_out in (0, 7, 19):
        novelty = novelty_of(runs[:left_out] + runs[left_out + 1 :], runs[left_out])
        at = np.flatnonzero(novelty)
        assert scores[left_out] == pytest.approx(worst_window(at, novelty[at], WINDOW)[0], rel=1e-5)
    assert scores.max() > 0


def test_what_training_has_seen_is_no_news(runs):
    assert not novelty_of(runs, runs[3]).any()


def test_news_is_told_once_and_in_its_place(runs):
    path = nominal_path(3, 400)
    path[200:206] = [30, 36, 37, 38, 39, 31]
    novelty = novelty_of(runs, transfers_of(BLOCKS, path))
    assert set(np.flatnonzero(novelty)) <= set(range(199, 206))
    # of the way through libc, whose kinds no run ever brought, each new kind counts fully
    assert novelty.max() == pytest.approx(-math.log(0.5 / 21), rel=1e-6)
    twice = transfers_of(BLOCKS, [*path, *path], first=(0, 400))
    # but for the step from the end to the begin
    assert not novelty_of(runs, twice)[400:].any()


def test_parts_do_not_matter(runs):
    attack = transfers_of(BLOCKS, attack_path(50, 400))
    assert novelty_of(runs, attack, pieces=9).tolist() == novelty_of(runs, attack).tolist()


def entered(run, seed):
    """The same run, entering the kernel now and then."""
    draw = np.random.default_rng(seed)
    entry = np.full(len(run), -1, np.int32)
    rows = draw.choice(np.arange(1, len(run)), 6, replace=False)
    entry[rows] = draw.integers(20, 23, 6)
    return dataclasses.replace(run, entry=np.where(run.first, np.int32(-1), entry))


def test_calibration_counts_ways_into_the_kernel_as_learning_without_the_run_does(runs):
    calls = [entered(run, seed) for seed, run in enumerate(runs)]
    counted = [edges_of([run]) for run in calls]
    _, scores = fit_novelty(Vocabulary.fit(units_of(counted)[0]), counted)
    _, without = fit_novelty(Vocabulary.fit(units_of(counted)[0]), [edges_of([run]) for run in runs])
    assert (scores >= without - 1e-9).all()
    assert (scores > without).any()
    for left_out in (0, 7, 19):
        novelty = novelty_of(calls[:left_out] + calls[left_out + 1 :], calls[left_out])
        at = np.flatnonzero(novelty)
        assert scores[left_out] == pytest.approx(worst_window(at, novelty[at], WINDOW)[0], rel=1e-5)


def test_new_code_that_enters_the_kernel_weighs_more(runs):
    path = nominal_path(3, 400)
    path[200:206] = [30, 36, 37, 38, 39, 31]
    alone = novelty_of(runs, transfers_of(BLOCKS, path))
    calling = novelty_of(runs, transfers_of(BLOCKS, path, entered={230: 5}))
    more = calling - alone
    # told in the transfer after the entry, once for each kind of new transfer that led there
    assert np.flatnonzero(more).tolist() == [230]
    assert more[230] >= -math.log(0.5 / 21) - 1e-4
    # known code may enter the kernel, and new code long before it does not count
    for where in (100, 206 + REACH, 398):
        assert not (novelty_of(runs, transfers_of(BLOCKS, path, entered={where: 5})) - alone).any()
    # nor does what lies before a restart
    cut = transfers_of(BLOCKS, path, first=(0, 220))
    again = transfers_of(BLOCKS, path, first=(0, 220), entered={230: 5})
    assert novelty_of(runs, again).tolist() == novelty_of(runs, cut).tolist()


def test_parts_do_not_matter_to_ways_into_the_kernel(runs):
    attack = entered(transfers_of(BLOCKS, attack_path(50, 400), first=(0, 150)), 5)
    whole = novelty_of(runs, attack)
    assert whole.sum() > novelty_of(runs, dataclasses.replace(attack, entry=np.full(399, -1, np.int32))).sum()
    for pieces in (2, 9, 57):
        assert novelty_of(runs, attack, pieces=pieces).tolist() == whole.tolist()


def test_few_runs_are_judged_by_their_stretches():
    long = [edges_of([transfers_of(BLOCKS, nominal_path(seed, 50_000))]) for seed in range(2)]
    units, _, owner = units_of(long)
    assert len(units) >= 32
    assert set(owner.tolist()) == {0, 1}
    rates, scores = fit_novelty(Vocabulary.fit(units), long)
    assert int(rates.units[0]) == len(units)
    assert len(scores) == 2
    _, alone = fit_novelty(Vocabulary.fit(units_of(long[:1])[0]), long[:1])
    assert len(alone) == 0


def test_shares_are_probabilities_and_grow_with_what_is_new(runs):
    counted = [edges_of([run]) for run in runs]
    vocabulary = Vocabulary.fit(units_of(counted)[0])
    rates, _ = fit_novelty(vocabulary, counted)
    assert ((rates.share > 0) & (rates.share <= 1)).all()
    settled = rates.share[rates.cell(np.array([20]), np.array([1]))]
    rare = rates.share[rates.cell(np.array([1]), np.array([1]))]
    assert settled[0] < rare[0]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("share", 2.0),
        ("share", np.nan),
        ("unseen", 0.0),
        ("units", 0),
        ("kind_units", None),
        ("kind_units", -1),
        ("kind_units", 1000),
        ("way_units", 1000),
    ],
)
def test_impossible_rates_are_refused(runs, name, value):
    counted = [edges_of([entered(run, seed)]) for seed, run in enumerate(runs)]
    rates, _ = fit_novelty(Vocabulary.fit(units_of(counted)[0]), counted)
    arrays = rates.arrays()
    assert Rates.from_arrays(dict(arrays)).kind.tolist() == rates.kind.tolist()
    arrays[name] = np.full_like(arrays[name], value) if value is not None else arrays[name][:-1]
    with pytest.raises(ModelError):
        Rates.from_arrays(arrays)


@pytest.mark.parametrize("name", ["units", "share", "unseen", "kind", "kind_units", "way", "way_units"])
def test_rates_that_are_no_tables_are_refused(runs, name):
    counted = [edges_of([entered(run, seed)]) for seed, run in enumerate(runs)]
    rates, _ = fit_novelty(Vocabulary.fit(units_of(counted)[0]), counted)
    arrays = rates.arrays()
    arrays[name] = arrays[name].ravel()[0]
    with pytest.raises(ModelError, match=name):
        Rates.from_arrays(arrays)
    del arrays[name]
    with pytest.raises(ModelError, match=name):
        Rates.from_arrays(arrays)
