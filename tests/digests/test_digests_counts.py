"""Counts over digests: parts add up to the whole, and say of new runs what learning them at once says."""

import math
from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from barnum.digests import digest_of_path
from barnum.digests.counts import Counts, added, counts_of
from barnum.digests.knowledge import Knowledge
from barnum.errors import ModelError
from barnum.evaluations import worst_window
from barnum.paths import Kind, iter_transfers, open_path
from barnum.samples import Sample
from barnum.sequences import (
    FEW_RUNS,
    WINDOW,
    Encoder,
    RunNovelty,
    Vocabulary,
    edges_of,
    fit_novelty,
    units_of,
)
from barnum.sequences.rates import flags_of, module_pair
from learning import attack_path, blocks_of, nominal_path, write_sample

# returns, calls, and blocks that enter the kernel: ways count as well
BLOCKS = blocks_of(40, (Kind.RETURN, Kind.INDIRECT_CALL, Kind.RETURN, Kind.INDIRECT_FAR), in_libc=10)
RUNS = 40


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    root = tmp_path_factory.mktemp("counts")
    made = [write_sample(root, f"{i}.doc", "benign", nominal_path(i, 600), BLOCKS) for i in range(RUNS)]
    return [Sample.open(folder) for folder in made]


@pytest.fixture(scope="module")
def digests(samples):
    return [(digest_of_path(sample, open_path(sample.parsed)), 1000 - i) for i, sample in enumerate(samples)]


@pytest.fixture(scope="module")
def attack(tmp_path_factory):
    folder = write_sample(tmp_path_factory.mktemp("bad"), "bad.doc", "malicious", attack_path(77), BLOCKS)
    return Sample.open(folder)


def same(one: Counts, other: Counts) -> bool:
    return all(
        np.array_equal(getattr(one, name), getattr(other, name))
        and getattr(one, name).dtype == getattr(other, name).dtype
        for name in Counts.__dataclass_fields__
    )


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_parts_add_up_to_the_whole_in_any_order(digests, data):
    size = data.draw(st.integers(1, RUNS))
    chosen = data.draw(st.permutations(range(RUNS)))[:size]
    cuts = sorted(data.draw(st.lists(st.integers(0, size), max_size=4)))
    parts = [chosen[a:b] for a, b in zip([0, *cuts], [*cuts, size], strict=True) if a < b]
    whole = counts_of(digests[i] for i in sorted(chosen))
    assert same(whole, added([counts_of(digests[i] for i in part) for part in parts]))
    assert len(whole) == size


def test_memory_grows_with_what_is_distinct(digests):
    few, many = counts_of(digests[: FEW_RUNS - 1]), counts_of(digests)
    assert len(few.row_edge) == sum(len(digest.taken) for digest, _ in digests[: FEW_RUNS - 1])
    assert len(many.row_edge) == int((many.edge_runs == 1).sum()) < len(many.edge_runs)


def test_a_run_that_comes_twice_is_refused(digests):
    with pytest.raises(ModelError, match="twice"):
        counts_of([*digests[:3], digests[1]])
    with pytest.raises(ModelError, match="twice"):
        added([counts_of(digests[:20]), counts_of(digests[19:])])


@pytest.mark.parametrize("count", [1, 2, 5, FEW_RUNS - 1, FEW_RUNS, RUNS])
def test_new_runs_weigh_what_they_weigh_where_all_is_learnt_at_once(samples, digests, attack, count):
    runs = [edges_of(iter_transfers(open_path(sample.parsed))) for sample in samples[:count]]
    vocabulary = Vocabulary.fit(units_of(runs)[0])
    rates, scores = fit_novelty(vocabulary, runs)
    counts = counts_of(digests[:count])
    knowledge = Knowledge(counts)
    for name in ("kind", "kind_units", "way", "way_units"):
        assert getattr(knowledge.kinds, name).tolist() == getattr(rates, name).tolist()
    assert knowledge.units == int(rates.units[0])
    for sample in (attack, *samples[-3:]):
        path = open_path(sample.parsed)
        encoder, novelty = Encoder(vocabulary), RunNovelty(vocabulary, rates)
        weights = np.concatenate([novelty.score(encoder.encode(part), part) for part in iter_transfers(path)])
        at = np.flatnonzero(weights)
        new = knowledge.new(digest_of_path(sample, path))
        assert new.score == pytest.approx(worst_window(at, weights[at].astype(float), WINDOW)[0], rel=1e-6)
        assert sorted(set(new.position.tolist())) == at.tolist()
    if count < FEW_RUNS:
        # few runs are left out one by one, as learning does
        by_identity = scores[::-1]
        assert knowledge.left_out().tolist() == pytest.approx(by_identity.tolist())


def test_each_run_is_left_out_of_its_own_score(digests):
    counts = counts_of(digests)
    runs = sorted(digests, key=lambda each: each[1])
    expected = [by_hand(runs, index) for index in range(len(runs))]
    assert Knowledge(counts).left_out().tolist() == pytest.approx(expected)
    assert max(expected) > 0


def by_hand(digests, left_out):
    """The score of a run by the kinds that others bring when they are left out, told from the digests."""
    brings = [own_kinds([digest for digest, _ in digests], index) for index in range(len(digests))]
    others = Counter(kind for index, each in enumerate(brings) if index != left_out for kind in each)
    weights = [
        (first, -math.log((others[kind] + 0.5) / len(digests))) for kind, first in brings[left_out].items()
    ]
    weights.sort()
    position = np.array([first for first, _ in weights], np.int64)
    return worst_window(position, np.array([weight for _, weight in weights]), WINDOW)[0]


def own_kinds(digests, index):
    """Kinds, and ways into the kernel, that one run brings which no other has, and where first."""
    sites, targets, edges = defaultdict(set), defaultdict(set), Counter()
    site_targets = defaultdict(set)
    for number, digest in enumerate(digests):
        taken = digest.taken
        for site, target in zip(taken.site.tolist(), taken.target.tolist(), strict=True):
            edges[site, target] += 1
            if number != index:
                sites[site].add(number)
                targets[target].add(number)
                site_targets[site].add(target)
    taken, ways = digests[index].taken, digests[index].ways
    found, flags_of_row = {}, {}
    for row in range(len(taken)):
        site, target = int(taken.site[row]), int(taken.target[row])
        if edges[site, target] > 1:
            continue
        flags = flags_of(
            np.array([len(sites[site])]),
            np.array([len(site_targets[site])]),
            np.array([bool(targets[target])]),
            np.array([int(taken.kind[row])]),
            len(digests) - 1,
        )
        pair = module_pair(taken.site[row : row + 1], taken.target[row : row + 1])
        flags_of_row[row] = int(flags[0])
        found.setdefault(("kind", int(pair[0]), int(flags[0])), int(taken.first[row]))
    for row, entry, first in zip(ways.taken.tolist(), ways.entry.tolist(), ways.first.tolist(), strict=True):
        if row in flags_of_row:
            found.setdefault(("way", flags_of_row[row], entry), first)
    return found


def test_the_beginning_of_a_run_is_what_a_shorter_run_shows(digests, tmp_path, attack):
    knowledge = Knowledge(counts_of(digests))
    whole = digest_of_path(attack, open_path(attack.parsed))
    for transfers in (0, 1, 1400, 1502, 1510, whole.about.transfers):
        path = attack_path(77)[: transfers + 1]
        folder = write_sample(tmp_path, f"{transfers}.doc", "malicious", path, BLOCKS)
        short = Sample.open(folder)
        begun = digest_of_path(short, open_path(short.parsed))
        assert begun.about.transfers <= transfers
        limit = begun.about.transfers
        assert knowledge.new(whole, limit).score == pytest.approx(knowledge.new(begun).score)


def test_digests_that_show_nothing_are_nothing_new(digests, tmp_path):
    sample = Sample.open(write_sample(tmp_path, "none.doc", "benign", [1], BLOCKS))
    empty = digest_of_path(sample, open_path(sample.parsed))
    assert not len(empty.taken)
    assert Knowledge(counts_of(digests)).new(empty).score == 0
    assert len(counts_of([*digests, (empty, 1)])) == RUNS + 1
