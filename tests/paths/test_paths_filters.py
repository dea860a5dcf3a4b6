"""Which transfers are learnt."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from barnum.paths import (
    RESTARTS,
    Blocks,
    Chunk,
    Gap,
    Kind,
    Learn,
    Path,
    gather,
    iter_transfers,
    iter_windows,
    transfers,
)
from barnum.paths.filters import TransferFilter


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


paths = st.lists(
    st.tuples(st.integers(0, 8), st.sampled_from([0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7])), max_size=60
)


class InChunks:
    """A path whose chunks are small."""

    def __init__(self, path: Path, size: int) -> None:
        self.blocks = path.blocks
        self._path = path
        self._size = size

    def chunks(self):
        return self._path.chunks(self._size)


@settings(max_examples=60, deadline=None)
@given(paths, st.integers(1, 9))
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

    for source in (path, InChunks(path, size)):
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


@settings(max_examples=100, deadline=None)
@given(paths, st.integers(1, 9), st.integers(1, 12), st.integers(1, 5))
def test_windows_equal_a_plain_loop(steps, size, length, rows):
    block = [step[0] for step in steps]
    gap = [Gap.START, *(step[1] for step in steps[1:])] if steps else []
    path = path_of(range(9), block, gap)
    chosen = set(Learn().kinds())
    token = np.arange(100, 109)
    padded = [-1] * length + [token[b] for b in block]
    expected = [
        padded[i : i + length] for i in range(1, len(block)) if gap[i] == 0 and block[i - 1] in chosen
    ]
    for source in (path, InChunks(path, size)):
        got = []
        for part, alone in zip(iter_windows(source, length=length), iter_transfers(source), strict=True):
            assert len(part) == len(part.transfers)
            for name in ("source", "target", "position", "first"):
                assert np.array_equal(getattr(part.transfers, name), getattr(alone, name))
            assert np.array_equal(part.block[part.at], alone.source)
            assert len(part.block) <= len(path) if source is path else size + length
            for begin in range(0, len(part), rows):
                windows = gather(part, token, length, -1, slice(begin, begin + rows))
                assert windows.dtype == np.int64
                assert windows.shape == (min(rows, len(part) - begin), length)
                got += windows.tolist()
        assert got == expected


def test_windows_take_other_filters_and_run_on_over_gaps_and_streams():
    path = path_of([Kind.CALL, Kind.JUMP], [0, 1, 1, 0, 1], [Gap.START, 0, Gap.LOST, Gap.START, 0])
    (part,) = iter_windows(path, Learn(ret=False, icall=False, ijmp=False, call=True), length=4)
    assert gather(part, np.array([7, 8], np.int32), 4, 0, slice(None)).tolist() == [
        [0, 0, 0, 7],
        [7, 8, 8, 7],
    ]
    assert gather(part, np.array([7, 8], np.int32), 4, 0, slice(2, 9)).shape == (0, 4)
    assert list(iter_windows(path_of([Kind.RETURN], [], []))) == []


@settings(max_examples=100, deadline=None)
@given(
    block=st.lists(st.integers(0, 8), min_size=1, max_size=60),
    gaps=st.lists(st.sampled_from([0, 0, 0, 0, *Gap]), min_size=60, max_size=60),
    rows=st.integers(1, 70),
)
def test_the_way_into_the_kernel_is_told_by_the_transfer_after_it(block, gaps, rows):
    path = path_of(range(9), block, [Gap.START, *gaps[1 : len(block)]])
    plain, entered = [], -1
    for step in range(1, len(block)):
        if block[step - 1] in (Kind.FAR, Kind.INDIRECT_FAR):
            entered = block[step - 1]
        if path.gap[step] == 0 and Learn().mask(path.blocks)[block[step - 1]]:
            plain.append(entered)
            entered = -1
    whole = transfers(path)
    expected = np.where(whole.first, -1, np.array(plain, np.int64).reshape(-1)[: len(whole)])
    assert whole.entry.tolist() == expected.tolist()
    pieces = list(iter_transfers(Pieces(path, rows)))
    assert [e for piece in pieces for e in piece.entry.tolist()] == whole.entry.tolist()


class Pieces:
    """A path in chunks of some rows."""

    def __init__(self, path, rows):
        self._path, self._rows = path, rows
        self.blocks = path.blocks

    def chunks(self, rows=0):
        return self._path.chunks(self._rows)


@given(paths, st.sets(st.integers(0, 59), max_size=6), st.lists(st.integers(0, 60), max_size=3))
def test_turns_are_all_that_need_be_looked_at(steps, more, cuts):
    kinds = [kind for kind, _ in steps] or [Kind.RETURN]
    path = path_of(range(9), kinds if steps else [], [gap for _, gap in steps])
    far = (Kind.CALL, Kind.INDIRECT_CALL, Kind.RETURN, Kind.INDIRECT_JUMP, Kind.FAR, Kind.INDIRECT_FAR)
    turning = {step for step, (kind, _) in enumerate(steps) if kind in far}
    turns = np.array(sorted(turning | {step for step in more if step < len(steps)}), np.uint32)
    whole = Chunk(path.block, path.gap, path.stream, turns)
    one, other = TransferFilter(), TransferFilter()
    expected = one.add(path.blocks, whole._replace(turns=None))
    found = []
    ends = sorted(cut for cut in cuts if cut < len(steps))
    for begin, end in zip([0, *ends], [*ends, len(steps)], strict=True):
        found.append(other.add(path.blocks, whole.part(begin, end)))
    for name in ("source", "target", "position", "first", "entry"):
        together = np.concatenate([getattr(part, name) for part in found])
        assert together.tolist() == getattr(expected, name).tolist()
