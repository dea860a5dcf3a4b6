"""Which transfers are learnt."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from barnum.paths import RESTARTS, Blocks, Gap, Kind, Learn, Path, iter_transfers, transfers


def path_of(kinds, block, gap) -> Path:
    count = len(kinds)
    wide, narrow = np.zeros(count, np.uint64), np.zeros(count, np.uint32)
    blocks = Blocks(
        bbid=np.arange(count, dtype=np.uint64),
        kind=np.array(kinds, np.uint8),
        module=np.zeros(count, np.int32),
        modules=("m",),
        offset=wide,
        start=wide,
        length=narrow,
        count=narrow,
        process=np.zeros(count, np.uint16),
    )
    return Path(blocks, np.array(block, np.uint32), np.array(gap, np.uint8), np.zeros(len(block), np.uint16))


def test_default_learns_returns_and_indirect_branches():
    path = path_of(range(9), range(9), [Gap.START] + [0] * 8)
    got = transfers(path)
    assert got.source.tolist() == [Kind.INDIRECT_JUMP, Kind.INDIRECT_CALL, Kind.RETURN]
    assert got.target.tolist() == [4, 6, 7]
    assert got.position.tolist() == [4, 6, 7]
    assert got.first.tolist() == [True, False, False]
    assert got.blocks is path.blocks


@pytest.mark.parametrize(
    ("learn", "kinds"),
    [
        (Learn(ret=False, icall=False), {Kind.INDIRECT_JUMP, Kind.INDIRECT_FAR}),
        (Learn(ret=False, ijmp=False), {Kind.INDIRECT_CALL}),
        (Learn(ret=False, icall=False, ijmp=False, call=True, jmp=True), {Kind.CALL, Kind.JUMP}),
        (Learn(ret=False, icall=False, ijmp=False), set()),
    ],
)
def test_each_filter_takes_its_kinds(learn, kinds):
    path = path_of(range(9), [*range(9), 0], [Gap.START] + [0] * 9)
    assert set(transfers(path, learn).source.tolist()) == kinds


@pytest.mark.parametrize("loss", [Gap.LOST, Gap.OVERFLOW, Gap.UNMAPPED])
def test_no_transfer_crosses_a_gap_and_lost_data_restarts_the_state(loss):
    path = path_of([Kind.RETURN], [0] * 6, [Gap.START, 0, Gap.ASYNCHRONOUS, 0, loss, 0])
    got = transfers(path)
    assert got.position.tolist() == [1, 3, 5]
    assert got.first.tolist() == [True, False, True]


def test_limit_ends_early():
    path = path_of([Kind.RETURN], [0] * 100, [Gap.START] + [0] * 99)
    assert transfers(path, limit=7).position.tolist() == list(range(1, 8))
    assert len(transfers(path, limit=0)) == 0
    assert len(transfers(path_of([Kind.RETURN], [], []))) == 0


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 8), st.sampled_from([0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7])), max_size=60),
    st.integers(1, 9),
)
def test_parts_equal_a_plain_loop(steps, size):
    block = [step[0] for step in steps]
    gap = [Gap.START, *(step[1] for step in steps[1:])] if steps else []
    path = path_of(range(9), block, gap)
    chosen = set(Learn().kinds())
    expected, restart = [], True
    for i in range(1, len(block)):
        restart |= gap[i] in RESTARTS
        if gap[i] == 0 and block[i - 1] in chosen:
            expected.append((block[i - 1], block[i], i, restart))
            restart = False

    class Small:
        blocks = path.blocks

        @staticmethod
        def chunks():
            return path.chunks(size)

    for source in (path, Small):
        got = [
            row
            for part in iter_transfers(source)
            for row in zip(
                part.source.tolist(),
                part.target.tolist(),
                part.position.tolist(),
                part.first.tolist(),
                strict=True,
            )
        ]
        assert got == expected
