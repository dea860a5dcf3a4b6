"""The step of an effect is that of its stream's n-th block that ends far, in whatever parts a path comes."""

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from barnum.paths import Chunk, EffectPlaces, Gap, GapDetails, Kind
from barnum.samples import Effect

# blocks of a path: as many as there are kinds
KINDS = np.arange(len(Kind), dtype=np.uint8)
FAR = (Kind.FAR, Kind.INDIRECT_FAR)
LOSSES = (Gap.OVERFLOW, Gap.LOST, Gap.UNMAPPED)


def effect(stream, entry):
    return Effect(call="mkdir", process=0, thread=1, stream=stream, entry=entry)


def steps_of(effects, block, gap, stream, cuts=(), gaps=None):
    places = EffectPlaces(effects)
    whole = Chunk(np.array(block, np.uint32), np.array(gap, np.uint8), np.array(stream, np.uint16))
    edges = [0, *sorted(cuts), len(block)]
    for begin, end in itertools.pairwise(edges):
        places.add(whole.part(begin, end), KINDS)
    if gaps is not None:
        places.forget_after(gaps)
    return places.steps().tolist()


def plainly(effects, block, gap, stream):
    """The same, step by step."""
    found = {}
    entries, lost = {}, set()
    for step, (kind, why, number) in enumerate(zip(block, gap, stream, strict=True)):
        if why in LOSSES:
            lost.add(number)
        if kind in FAR and number not in lost:
            found[number, entries.get(number, 0)] = step
            entries[number] = entries.get(number, 0) + 1
    return [found.get((effect.stream, effect.entry), -1) for effect in effects]


@given(st.data())
def test_steps_are_those_of_a_plain_count(data):
    count = data.draw(st.integers(0, 60))
    block = data.draw(st.lists(st.sampled_from([*FAR, Kind.CALL]), min_size=count, max_size=count))
    gap = data.draw(st.lists(st.sampled_from([Gap.NONE] * 12 + [*Gap]), min_size=count, max_size=count))
    stream = sorted(data.draw(st.lists(st.integers(0, 3), min_size=count, max_size=count)))
    numbers = st.one_of(st.none(), st.integers(0, 20))
    effects = [
        effect(*pair)
        for pair in data.draw(st.lists(st.tuples(st.one_of(st.none(), st.integers(0, 4)), numbers)))
    ]
    cuts = data.draw(st.lists(st.integers(0, count), max_size=5))
    known = [each for each in effects if each.stream is not None and each.entry is not None]
    assert steps_of(known, block, gap, stream, cuts) == plainly(known, block, gap, stream)
    steps = steps_of(effects, block, gap, stream, cuts)
    assert all(step == -1 for step, each in zip(steps, effects, strict=True) if each not in known)


def test_a_loss_of_which_no_step_tells_is_told_by_the_gaps():
    block, gap, stream = [Kind.FAR] * 4, [Gap.START, 0, Gap.START, 0], [0, 0, 1, 1]
    effects = [effect(0, 0), effect(0, 1), effect(1, 0), effect(1, 1)]
    assert steps_of(effects, block, gap, stream) == [0, 1, 2, 3]
    one = np.ones(1, np.uint64)
    gaps = GapDetails(
        2 * one, np.array([Gap.LOST], np.uint8), np.array([1], np.uint16), 0 * one, 0 * one, one
    )
    assert steps_of(effects, block, gap, stream, gaps=gaps) == [0, 1, -1, -1]


def test_entries_beyond_all_that_a_path_can_have_have_no_step():
    assert steps_of([effect(0, (1 << 63) - 1)], [Kind.FAR], [Gap.START], [0]) == [-1]
