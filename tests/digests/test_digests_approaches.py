"""Ways to system calls: what digests keep of them, what is new in a run, and what that makes of verdicts."""

from __future__ import annotations

import math
from itertools import pairwise

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load, save

from barnum.digests import DigestMaker
from barnum.digests.approached import KnownApproaches, approach_keys
from barnum.digests.approaches import REACH, Approaches, ApproachFinder
from barnum.digests.file import decoded, encoded
from barnum.evaluations.header import Source
from barnum.evaluations.signs import APPROACH, MOST_SCORES, Shown, Signs
from barnum.evidence.known import Known, added_known
from barnum.paths import Gap, GapDetails, Kind
from barnum.paths.preprocess import Ended
from barnum.samples import Sample
from barnum.sequences.tokens import WHOLE
from barnum.verdicts.alarms import by_evidence
from barnum.verdicts.method import Verdict
from learning import attack_path, blocks_of, path_of, write_sample

BLOCKS = blocks_of(30, (Kind.RETURN, Kind.CONDITIONAL, Kind.FAR, Kind.INDIRECT_FAR, Kind.CALL), in_libc=10)
FAR = (BLOCKS.kind == Kind.FAR) | (BLOCKS.kind == Kind.INDIRECT_FAR)
LOSSES = (Gap.OVERFLOW, Gap.LOST, Gap.UNMAPPED)


def found(path, cuts=()):
    """What the finder makes of a path in pieces: (entry, block) → step."""
    finder = ApproachFinder()
    whole = next(path.chunks(len(path.block) or 1), None)
    for begin, end in pairwise([0, *sorted(cuts), len(path.block)]):
        if whole is not None and begin < end:
            finder.add(whole.part(begin, end), path.blocks.kind)
    made = finder.done(path.blocks)
    pairs = zip(made.entry.tolist(), made.block.tolist(), strict=True)
    return dict(zip(pairs, made.step.tolist(), strict=True))


def expected(steps, gaps):
    """The same, step by step."""
    sites, targets = WHOLE.sites(BLOCKS).tolist(), WHOLE.targets(BLOCKS).tolist()
    told = {}
    for step, block in enumerate(steps):
        if not FAR[block]:
            continue
        for back in range(REACH):
            if step < back:
                break
            told.setdefault((sites[block], targets[steps[step - back]]), step)
            if gaps.get(step - back) in LOSSES:
                break
    return told


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.integers(0, 29), max_size=200),
    st.dictionaries(st.integers(1, 199), st.sampled_from((*LOSSES, Gap.ASYNCHRONOUS)), max_size=6),
    st.lists(st.integers(0, 199), max_size=6),
)
def test_blocks_before_system_calls_are_found_however_the_path_comes(steps, gaps, cuts):
    gaps = {step: cause for step, cause in gaps.items() if step < len(steps)}
    path = path_of(steps, BLOCKS, gaps)
    assert found(path, [cut for cut in cuts if cut <= len(steps)]) == expected(steps, gaps)


def test_a_stream_does_not_lead_to_the_system_call_of_another():
    far = int(np.flatnonzero(FAR)[0])
    plain = int(np.flatnonzero(~FAR)[0])
    path = path_of([plain, plain, far], BLOCKS, {})
    whole = next(path.chunks(10))._replace(stream=np.array([0, 1, 1], np.uint16))
    for parts in ([whole], [whole.part(0, 1), whole.part(1, 3)], [whole.part(0, 2), whole.part(2, 3)]):
        finder = ApproachFinder()
        for part in parts:
            finder.add(part, BLOCKS.kind)
        assert sorted(finder.done(BLOCKS).step.tolist()) == [2, 2]
    alone = whole._replace(stream=np.array([0, 0, 1], np.uint16))
    finder = ApproachFinder()
    finder.add(alone, BLOCKS.kind)
    assert len(finder.done(BLOCKS)) == 1


def ways(pairs):
    """Approaches by pairs of an entry and a block, each a step later."""
    pairs = list(pairs)
    entry, block = np.array(pairs, np.uint64).reshape(-1, 2).T
    return Approaches(entry, block, np.arange(len(pairs)))


runs_of_pairs = st.lists(
    st.sets(st.tuples(st.integers(1, 4), st.integers(1, 6)), max_size=8), min_size=2, max_size=7
)


def known_of_runs(runs):
    parts = [Known(approaches=approach_keys(ways(sorted(run)), at)) for at, run in enumerate(runs)]
    return added_known(parts).approaches


@settings(max_examples=200, deadline=None)
@given(runs_of_pairs)
def test_no_run_of_the_bag_is_treated_otherwise(runs):
    bags = []
    for at, run in enumerate(runs):
        others = runs[:at] + runs[at + 1 :]
        learnt = KnownApproaches(known_of_runs(others), len(others))
        found = learnt.of(ways(sorted(run)))
        score = sum(each.weight for each in found.new)
        bags.append(sorted(each for each in (score, *found.scores.values()) if each))
    assert all(bag == pytest.approx(bags[0]) for bag in bags)


@settings(max_examples=100, deadline=None)
@given(runs_of_pairs)
def test_weights_are_those_of_the_formula(runs):
    *others, run = runs
    found = KnownApproaches(known_of_runs(others), len(others)).of(ways(sorted(run)))

    def news(at):
        rest = runs[:at] + runs[at + 1 :]
        made = {entry for other in rest for entry, _ in other}
        return {
            entry if entry in made else 0
            for entry, block in runs[at]
            if not any((entry, block) in o for o in rest)
        }

    units = [call for at in range(len(runs)) for call in news(at)]
    wanted = [-math.log((units.count(call) - 0.5) / len(runs)) for call in news(len(runs) - 1)]
    assert sorted(each.weight for each in found.new) == pytest.approx(sorted(max(0, each) for each in wanted))


def test_what_is_new_is_told_once_a_system_call_with_its_step():
    runs = [{(1, 10), (1, 11)}] * 9 + [{(1, 10), (2, 20)}]
    learnt = KnownApproaches(known_of_runs(runs), 10)
    new = learnt.of(ways([(1, 10), (1, 12), (1, 13), (3, 30), (4, 30)])).new
    assert [(each.entry, each.block, each.step) for each in new] == [(1, 12, 1), (3, 30, 3)]
    # no other run has news of the first call, one makes a call of its own
    assert [each.weight for each in new] == [pytest.approx(-math.log(u / 11)) for u in (0.5, 1.5)]
    # what another run alone had is no news, and no more news of that run
    found = learnt.of(ways([(1, 11), (2, 20)]))
    assert (found.new, found.scores) == ((), {})
    assert list(learnt.of().scores) == [9]


def rare_branches(draw, run):
    """Half the runs reach one of many calls, which all make, by a block of their own."""
    pairs = {(call, 0) for call in range(1, 60)}
    return pairs | ({(int(draw.integers(1, 60)), 1000 + run)} if draw.random() < 0.5 else set())


def rare_calls(draw, run):
    """Each run makes one of many rare calls, by a block of its own."""
    call = int(draw.integers(100, 160))
    return {(1, 0), (call, 0), (call, 1000 + run)}


@pytest.mark.parametrize("model", [rare_branches, rare_calls])
@pytest.mark.parametrize("count", [20, 99])
def test_nominal_runs_are_called_anomalous_no_more_often_than_promised(model, count):
    draw = np.random.default_rng(count)
    trials, alarms = 300, 0
    for _ in range(trials):
        runs = [model(draw, at) for at in range(count + 1)]
        found = KnownApproaches(known_of_runs(runs[:-1]), count).of(ways(sorted(runs[-1])))
        scores = tuple(sorted(found.scores.values(), reverse=True))
        evidence = tuple(Shown(APPROACH, "new", each.step, weight=each.weight) for each in found.new)
        alarms += Signs(runs=count, approaching=scores, evidence=evidence).alarm(0.01) is not None
    promised = 1 / (count + 1)
    assert alarms <= trials * promised + 4 * (trials * promised) ** 0.5


def test_parts_add_up_and_what_is_not_known_stays_so():
    runs = [{(1, at)} for at in range(6)]
    parts = [Known(approaches=approach_keys(ways(run), at)) for at, run in enumerate(runs)]
    whole = added_known(parts)
    assert added_known([added_known(parts[:2]), added_known(parts[2:])]) == whole
    assert added_known([whole, Known(approaches=())]) == whole
    assert added_known([whole, Known()]).approaches is None


@pytest.fixture(scope="module")
def digest(tmp_path_factory):
    steps = np.random.default_rng(5).integers(0, len(BLOCKS), 400).tolist()
    path = path_of(steps, BLOCKS, {})
    folder = write_sample(tmp_path_factory.mktemp("approaches"), "a.doc", "benign", attack_path(1))
    maker = DigestMaker(Sample.open(folder))
    maker.extend(BLOCKS)
    for chunk in path.chunks(90):
        maker.add(chunk)
    header = {
        "streams": [{"file": "trace_0.gz", "steps": 400}],
        "statistics": {"bytes": 1000, "bytes_lost": 0},
    }
    return maker.done(Ended(400, 400, None, header, GapDetails.empty()))


def test_digests_keep_them_and_older_ones_have_none(digest):
    assert len(digest.approaches)
    read = decoded(encoded(digest)).approaches
    for name in ("entry", "block", "step"):
        assert getattr(read, name).tolist() == getattr(digest.approaches, name).tolist()
    arrays = {name: array for name, array in load(encoded(digest)).items() if not name.startswith("approach")}
    assert decoded(save(arrays)).approaches is None


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("approach.entry", lambda array: array + 2),
        ("approach.step", lambda array: np.full_like(array, 255)),
        ("approach.block.module", lambda array: array + 200),
        ("approach.block.offset", lambda array: array[:, :-1]),
        ("approach.block.offset", lambda array: np.zeros_like(array)),
    ],
)
def test_forged_columns_are_refused(digest, name, change):
    arrays = dict(load(encoded(digest)))
    arrays[name] = np.ascontiguousarray(change(arrays[name]))
    with pytest.raises(ValueError, match=r"range|length|twice|column"):
        decoded(save(arrays))


def shown(step, weight=5.0):
    return Shown(APPROACH, "a new way", step, weight=weight)


def test_more_than_nominal_runs_left_out_is_an_alarm():
    signs = Signs(runs=99, approaching=(6.0, 4.0), evidence=(shown(7), shown(9)))
    assert signs.alarm(0.01) == shown(7)
    # half of it is less than the strangest nominal run shows, of which one may not be exceeded
    assert signs.before(8).alarm(0.01) is None
    assert signs.before(8).alarm(0.02) == shown(7)
    assert msgspec.structs.replace(signs, approaching=None).alarm(0.01) is None
    assert msgspec.structs.replace(signs, runs=19).alarm(0.01) is None
    # as many as may be called so count before all others
    assert (signs.strange(0.01), signs.strange(0.0001)) == (2, 2)


def test_where_too_many_are_kept_to_count_nothing_is_an_alarm():
    signs = Signs(runs=10**6, approaching=(5.0,) * MOST_SCORES, evidence=(shown(7),))
    assert signs.alarm(0.01) is None
    assert msgspec.structs.replace(signs, evidence=(shown(7, 5.5),)).alarm(0.01) is not None


def test_of_a_run_that_is_not_whole_only_its_intact_part_counts():
    signs = Signs(runs=99, approaching=(6.0,), evidence=(shown(7), shown(900)))
    refused = Verdict(anomalous=False, score=0.0, refused="too much was lost")
    for intact, anomalous in ((8, False), (901, True), (None, False)):
        verdict, _ = by_evidence(refused, signs, Source(steps=1000, lost=0.5, intact=intact), 0.01)
        assert verdict.anomalous == anomalous


def test_before_an_effect_its_system_call_is_reached():
    effect = Shown("openat", "opened a file for writing", 9)
    signs = Signs(runs=99, approaching=(), evidence=(shown(9),), effects=(effect,), acting=0)
    assert signs.before(9).alarm(0.01) == shown(9)
    assert signs.before(8).alarm(0.01) is None
    without = msgspec.structs.replace(signs, effects=())
    assert without.before(9).alarm(0.01) is None
