"""Contexts of a vocabulary's transfers."""

import numpy as np
import pytest

from barnum.sequences import (
    LENGTHS,
    LEVELS,
    LONGEST,
    RESTART,
    Encoded,
    Encoder,
    History,
    Vocabulary,
    decode_edges,
    edges_of,
    encode_edges,
    previous_targets,
)
from learning import blocks_of, nominal_path, transfers_of

BLOCKS = blocks_of(40, in_libc=10)


def encoded_of(paths, first=(0,)):
    runs = [transfers_of(BLOCKS, path, first=first) for path in paths]
    vocabulary = Vocabulary.fit([edges_of([run]).whole for run in runs])
    return vocabulary, [Encoder(vocabulary).encode(run) for run in runs]


def same(a, b):
    return all(
        getattr(a, name).tolist() == getattr(b, name).tolist() for name in ("site", "target", "edge", "first")
    )


def test_stored_transfers_come_back():
    vocabulary, (run,) = encoded_of([nominal_path(0, 200)], first=(0, 50, 51))
    stored = encode_edges(run)
    assert stored.dtype == np.uint32
    assert np.flatnonzero(stored & RESTART).tolist() == [0, 50, 51]
    assert same(decode_edges(stored, vocabulary), run)


def test_only_sites_with_several_targets_leave_something_to_look_up():
    # 0 leads to 1 and 2, the others to one each; 9 was never seen
    vocabulary, _ = encoded_of([[0, 1, 0, 2, 0, 1, 0]])
    history = History(vocabulary, 32)
    run = Encoder(vocabulary).encode(transfers_of(BLOCKS, [0, 1, 0, 2, 9, 0, 9]))
    assert history.wanted(run).tolist() == [True, False, True, False, False, True]


def test_the_longest_known_context_tells_what_follows():
    # what follows 0 is told by what came three transfers before it
    vocabulary, (run,) = encoded_of([[5, 7, 7, 0, 1, 6, 7, 7, 0, 2] * 10])
    history = History(vocabulary, 32)
    history.add(run)
    wanted = history.wanted(run) & (np.arange(len(run)) > 20)
    hints = history.look_up(run, wanted)
    rank, level = hints.rank, hints.level
    assert rank.shape == level.shape == (wanted.sum(), len(LENGTHS))
    actual = vocabulary.edge_rank[run.edge[wanted]]
    three = LENGTHS.index(3)
    assert (rank[:, three] == actual).all()
    # transfers before: one and two do not tell it, three do, always
    assert (level[:, three] % 6 == 1).all()
    assert (level < LEVELS).all()
    assert (level[:, -1] == 0).all()


def test_contexts_of_parts_that_reach_back_are_those_of_the_whole():
    vocabulary, (run,) = encoded_of([nominal_path(3, 900)], first=(0, 400))
    whole, parts = History(vocabulary, 32), History(vocabulary, 32)
    whole.add(run)
    for begin in range(0, len(run), 250):
        before = min(LONGEST, begin)
        parts.add(run.part(begin - before, begin + 250), before)
    assert parts.contexts == whole.contexts > 0
    wanted = whole.wanted(run)
    for a, b in zip(*(one.look_up(run, wanted).arrays().values() for one in (whole, parts)), strict=True):
        assert a.tolist() == b.tolist()


def test_ranks_beyond_the_last_count_as_the_last():
    path = [step for target in range(1, 30) for step in [0, target] * (30 - target)]
    vocabulary, (run,) = encoded_of([path])
    history = History(vocabulary, 4)
    history.add(run)
    wanted = history.wanted(run)
    hints = history.look_up(run, wanted)
    rank, level = hints.rank, hints.level
    assert rank.max() == 3
    assert level.max() > 0
    # left out, the run has met nothing
    assert not history.look_up(run, wanted, history).level.any()


def test_what_training_never_saw_is_context_too():
    vocabulary, _ = encoded_of([[0, 1, 0, 2] * 20])
    history = History(vocabulary, 32)
    encoder = Encoder(vocabulary)
    strange = encoder.encode(transfers_of(BLOCKS, [0, 33, 34, 0, 1, 0, 2]))
    wanted = history.wanted(strange)
    hints = history.look_up(strange, wanted)
    rank, level = hints.rank, hints.level
    assert rank.shape == (int(wanted.sum()), len(LENGTHS))
    assert not level.any()


def test_a_part_begins_anew_though_nothing_says_so():
    vocabulary, (run,) = encoded_of([nominal_path(0, 100)])
    history = History(vocabulary, 32)
    history.add(run)
    inner = run.part(50, 60)
    marked = Encoded(inner.site, inner.target, inner.edge, np.arange(10) == 0)
    wanted = history.wanted(inner)
    assert [a.tolist() for a in history.look_up(inner, wanted).arrays().values()] == [
        a.tolist() for a in history.look_up(marked, wanted).arrays().values()
    ]
    assert not inner.first.any()


def test_the_target_before_is_none_where_state_restarts():
    vocabulary, (run,) = encoded_of([[0, 1, 2, 3, 4, 5]], first=(0, 3))
    none = len(vocabulary.target) + 1
    assert previous_targets(run, none).tolist() == [
        none,
        run.target[0],
        run.target[1],
        none,
        run.target[3],
    ]
    assert previous_targets(run.part(0, 0), none).tolist() == []


@pytest.mark.parametrize("size", [0, 1, 2])
def test_runs_shorter_than_any_context(size):
    vocabulary, _ = encoded_of([[0, 1, 0, 2] * 20])
    history = History(vocabulary, 32)
    run = Encoder(vocabulary).encode(transfers_of(BLOCKS, [0, 1, 0][: size + 1], first=(0,) if size else ()))
    history.add(run)
    wanted = history.wanted(run)
    hints = history.look_up(run, wanted)
    rank, level = hints.rank, hints.level
    assert rank.shape == level.shape == (int(wanted.sum()), len(LENGTHS))
