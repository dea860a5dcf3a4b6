"""The shadow stack: against a model on random paths, at gaps and signals, and in bounded memory and time."""

from __future__ import annotations

import resource
import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from barnum.evidence import MOST_FINDINGS, EvidenceFinder
from barnum.paths import Chunk, Gap, GapDetails, Kind
from shadow import ELSEWHERE, MATCHED, RESUMED, SIZE, UNKNOWN, UNWOUND, chunk, model, table, watch_of

PLAIN, JUMP, CALL, RETURN, FAR = Kind.CONDITIONAL, Kind.INDIRECT_JUMP, Kind.CALL, Kind.RETURN, Kind.FAR


def verdicts(blocks, steps, gaps=None, **known) -> list[int]:
    part = chunk(steps, gaps)
    return watch_of(blocks, **known).judge(part.block, part.gap, part.stream).tolist()


@given(
    kinds=st.lists(
        st.sampled_from([PLAIN, CALL, CALL, RETURN, RETURN, Kind.INDIRECT_CALL]), min_size=2, max_size=24
    ),
    data=st.data(),
)
@settings(max_examples=300, deadline=None)
def test_it_says_what_a_model_says(kinds, data):
    count = len(kinds)
    places = [0x400000 + 4 * SIZE * n for n in range(count)]
    calls = [n for n in range(count) if kinds[n] in (CALL, Kind.INDIRECT_CALL)]
    # behind each call stands a return
    places += [places[n] + SIZE for n in calls]
    kinds = [*kinds, *[RETURN] * len(calls)]
    steps = data.draw(st.lists(st.integers(0, len(kinds) - 1), min_size=2, max_size=200))
    restarts = data.draw(st.sets(st.integers(1, len(steps) - 1), max_size=3))
    blocks = table(kinds, places=places)
    rows = [(kinds[n], places[n] + SIZE, places[n]) for n in steps]
    expected = model(rows, [0, *restarts])
    cause = data.draw(st.sampled_from([Gap.OVERFLOW, Gap.LOST, Gap.UNMAPPED]))
    found = verdicts(blocks, steps, dict.fromkeys(restarts, cause))
    # a return behind a call that waits no more may begin another stack: from there on the model is too plain
    switches = (n for n, step in enumerate(steps) if expected[n] == ELSEWHERE and step >= count)
    until = next(switches, len(steps))
    assert found[:until] == expected[:until]
    assert all(one in (0, MATCHED, UNWOUND, UNKNOWN, ELSEWHERE, RESUMED) for one in found)


@given(st.data())
@settings(max_examples=50, deadline=None)
def test_the_parts_that_a_path_comes_in_do_not_matter(data):
    kinds = data.draw(
        st.lists(st.sampled_from([PLAIN, CALL, RETURN, FAR, JUMP, Kind.UNKNOWN]), min_size=2, max_size=12)
    )
    steps = data.draw(st.lists(st.integers(0, len(kinds) - 1), min_size=2, max_size=120))
    gaps = data.draw(st.dictionaries(st.integers(1, len(steps) - 1), st.integers(0, 7), max_size=20))
    function = data.draw(st.lists(st.integers(0, 3), min_size=len(kinds), max_size=len(kinds)))
    start = data.draw(st.lists(st.integers(0, 7), min_size=len(kinds), max_size=len(kinds)))
    blocks, whole = table(kinds), chunk(steps, gaps)
    cuts = sorted(data.draw(st.sets(st.integers(1, len(steps) - 1), max_size=5)))
    one, other = (watch_of(blocks, function, start) for _ in range(2))
    one.add(*whole[:3])
    # where turns are told, they are all that is looked at: others among them do no harm
    turning = {step for step, block in enumerate(steps) if kinds[block] != PLAIN}
    more = data.draw(st.sets(st.integers(0, len(steps) - 1), max_size=5))
    turns = np.array(sorted(turning | more), np.uint32) if data.draw(st.booleans()) else None
    for begin, end in zip([0, *cuts], [*cuts, len(steps)], strict=True):
        part = whole._replace(turns=turns).part(begin, end)
        columns = [np.ascontiguousarray(column) for column in part[:3]]
        other.add(*columns, part.turns)
    one.finish()
    other.finish()
    assert [row[:5] for row in one.notes()] == [row[:5] for row in other.notes()]
    assert one.endings() == other.endings()
    assert one.returns == other.returns


# 0 calls 2, which may return behind the call: 1. 3 is elsewhere, 4 a handler, 5 what it returns to, 6 calls 2
KINDS = [CALL, PLAIN, RETURN, PLAIN, RETURN, FAR, CALL, PLAIN, RETURN]


def test_a_handler_runs_in_between():
    blocks = table([*KINDS, Kind.NONE])
    # in the middle of 2's function: handler, its way out, and on
    steps = [0, 9, 4, 5, 2, 1]
    assert verdicts(blocks, steps, {2: Gap.ASYNCHRONOUS}) == [0, 0, 0, MATCHED, 0, MATCHED]
    # one that does not go out that way but to elsewhere has been lead astray
    assert verdicts(blocks, [0, 9, 4, 3], {2: Gap.ASYNCHRONOUS})[3] == ELSEWHERE
    # after one that is left by a jump, returns go to the calls from before
    assert verdicts(blocks, [0, 9, 8, 1], {2: Gap.ASYNCHRONOUS})[3] == UNWOUND


def test_a_handler_begins_when_the_kernel_is_left():
    # 5 calls the kernel, 4 is a handler, 9 leaves it; then it goes on behind the call of the kernel: 6
    blocks = table([*KINDS, FAR])
    assert verdicts(blocks, [0, 5, 4, 9, 6, 2, 7, 8, 1]) == [0, 0, 0, MATCHED, 0, 0, MATCHED, 0, MATCHED]
    # the way out is interrupted by the next handler, after which 10, its end, is run once more
    places = [*(0x400000 + SIZE * n for n in range(10)), 0x400000 + SIZE * 10 - 2]
    steps = [0, 5, 4, 9, 4, 9, 10, 6, 2, 7, 8, 1]
    found = verdicts(table([*KINDS, FAR, FAR], places=places), steps)
    assert found == [0, 0, 0, MATCHED, 0, MATCHED, 0, 0, 0, MATCHED, 0, MATCHED]


def test_a_second_handler_is_due_when_the_first_begins():
    # 9 is interrupted; 4 ends, and the kernel goes on with 11, a handler that never ran before
    blocks = table([*KINDS, Kind.NONE, PLAIN, RETURN])
    steps, starts = [0, 9, 4, 5, 11, 5, 2, 1], [0] * 11 + [1]
    found = verdicts(blocks, steps, {2: Gap.ASYNCHRONOUS}, start=starts)
    assert found == [0, 0, 0, MATCHED, 0, MATCHED, 0, MATCHED]


def test_after_a_loss_nothing_is_known():
    assert verdicts(table(KINDS), [0, 2, 3], {1: Gap.LOST})[2] == UNKNOWN
    assert verdicts(table(KINDS), [0, 2, 3])[2] == ELSEWHERE


def test_code_that_is_not_traced_may_hide_calls():
    # tracing is off after the call and comes on in a function that was called from there
    assert verdicts(table(KINDS), [0, 8, 3], {1: Gap.TRACING_OFF})[2] == UNKNOWN
    # or right behind the call
    assert verdicts(table(KINDS), [6, 0, 1, 2, 7], {2: Gap.TRACING_OFF})[4] == MATCHED


def test_coroutines_go_on_with_a_stack_of_their_own():
    # 0 and 6 wait for returns to 1 and 7; the return of 2 goes to and fro
    steps = [0, 2, 1, 6, 2, 1, 2, 7]
    found = verdicts(table(KINDS), steps)
    assert found[5] == ELSEWHERE  # behind a call that ran, but waits no more
    assert found[7] == RESUMED


def test_streams_have_stacks_of_their_own():
    blocks, part = table(KINDS), chunk([0, 2, 3], {1: Gap.START})
    two = Chunk(part.block, part.gap, np.array([0, 1, 1], np.uint16))
    assert watch_of(blocks).judge(two.block, two.gap, two.stream).tolist() == [0, 0, UNKNOWN]


def found_in(blocks, part) -> object:
    finder = EvidenceFinder()
    finder.add(blocks, part)
    return finder.done(GapDetails.empty())


def test_very_deep_recursion_is_bounded_and_no_evidence():
    # a call of itself, ten million deep, and back
    blocks = table([CALL, PLAIN, RETURN], places=[0x400000, 0x400000 + SIZE, 0x500000])
    deep = 10_000_000
    watch = watch_of(blocks)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    part = chunk([0] * deep)
    watch.add(*part[:3])
    back = np.tile(np.array([2, 1], np.uint32), 1_000_000)
    for _ in range(2):
        watch.add(back, np.zeros(len(back), np.uint8), np.zeros(len(back), np.uint16))
    watch.finish()
    assert watch.notes() == []
    matched, unwound, unknown, elsewhere, resumed = watch.returns
    assert matched >= 1 << 17
    assert (unwound, elsewhere, resumed) == (0, 0, 0)
    assert unknown > 1_000_000
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) << 10
    # the steps themselves take 7 bytes each
    assert grown < 7 * deep + (200 << 20)


def test_a_million_wild_targets_are_bounded():
    count = 1_000_000
    blocks = table([RETURN, CALL, PLAIN] + [PLAIN] * count)
    steps = np.ones(2 * count + 2, np.uint32)
    steps[1::2] = 0
    steps[2::2] = np.arange(3, count + 3)
    part = chunk(steps.tolist())
    begin = time.process_time()
    found = found_in(blocks, part)
    assert time.process_time() - begin < 60
    assert len(found.findings) == MOST_FINDINGS
    assert found.further >= 900_000
    assert found.findings[0].step == 2


def test_strong_evidence_is_kept_however_much_comes_before():
    weak = 1500
    blocks = table([RETURN, Kind.INDIRECT_CALL, PLAIN, *[PLAIN] * weak, Kind.UNKNOWN])
    module = np.zeros(len(blocks), np.int32)
    module[-1] = 1
    blocks = replace(blocks, module=module, modules=("/bin/made", "[unmapped]"))
    # returns to somewhere else each time, and at last a call to where nothing is
    steps = [1, *(step for number in range(weak) for step in (0, 3 + number)), 1, 3 + weak]
    found = found_in(blocks, chunk(steps))
    assert len(found.findings) == MOST_FINDINGS
    assert found.further == weak + 2 - MOST_FINDINGS
    (strong,) = found.strong
    assert (strong.kind, strong.step) == ("unknown", len(steps) - 1)
    at = [each.step for each in found.findings]
    assert at == sorted(at)


def test_wild_returns_on_a_deep_stack_cost_bounded_time():
    kinds = [CALL, RETURN, PLAIN]
    blocks = table(kinds, places=[0x400000, 0x500000, 0x600000])
    steps = [0] * 250_000 + [1, 2] * 300_000
    begin = time.process_time()
    found = found_in(blocks, chunk(steps))
    assert time.process_time() - begin < 60
    assert [each.kind for each in found.findings] == ["return"]
    assert any("very deep" in line for line in found.left_out)


@pytest.mark.parametrize("size", [1, 3])
def test_steps_must_fit_the_table(size):
    finder = EvidenceFinder()
    blocks = table(KINDS)
    with pytest.raises(IndexError):
        finder.add(blocks, chunk([len(KINDS)] * size))
    with pytest.raises(ValueError, match="different lengths"):
        finder.add(
            blocks, Chunk(np.zeros(size, np.uint32), np.zeros(size + 1, np.uint8), np.zeros(size, np.uint16))
        )
    finder.add(blocks, chunk([0]))
    with pytest.raises(ValueError, match="smaller"):
        finder.add(table(KINDS[:3]), chunk([0]))
