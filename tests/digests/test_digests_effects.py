"""Kinds of effects: what runs have in common though names of files and folders differ."""

import numpy as np
import pytest

from barnum.digests.effects import MOST_KINDS, EffectKinds, key_of
from barnum.paths import Chunk, Gap, GapDetails, Kind
from barnum.samples import Effect

HASH = "0f" * 32


def effect(call="openat", **fields) -> Effect:
    return Effect(call=call, process=0, thread=1, stream=0, **fields)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (effect(path="/home/u/a.txt"), effect("open", path="/home/u/b.txt")),
        (effect(path="a.out", folder=f"/x/{HASH}.part/work"), effect(path="/tmp/b.out")),
        (effect("fork"), effect("clone3", flags="CLONE_VM")),
        (effect("execve", path="/bin/sh", arguments=("sh", "-c", "a")), effect("execveat", path="/bin/sh")),
        (effect("tgkill", values={"signal": 9, "pid": 5}), effect("kill", values={"signal": 9, "pid": 7})),
    ],
)
def test_what_differs_from_run_to_run_does_not_count(one, other):
    assert key_of(one) == key_of(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (effect(path="/home/u/a"), effect(path="/home/v/a")),
        (effect("unlink", path="/tmp/a"), effect(path="/tmp/a")),
        (effect("execve", path="/bin/sh"), effect("execve", path="/bin/true")),
        (effect("connect", address="192.0.2.1:80"), effect("connect", address="192.0.2.1:81")),
        (effect("kill", values={"signal": 9}), effect("kill", values={"signal": 15})),
    ],
)
def test_other_calls_folders_programs_and_addresses_do(one, other):
    assert key_of(one) != key_of(other)


def kinds_in(effects, blocks, gaps=()):
    """The kinds of a run that enters the kernel at each step of kind FAR; every step is a transfer."""
    block = np.array(blocks, np.uint32)
    gap = np.zeros(len(block), np.uint8)
    gap[[0, *gaps]] = [Gap.START, *[Gap.LOST] * len(gaps)]
    found = EffectKinds(effects)
    found.add(
        Chunk(block, gap, np.zeros(len(block), np.uint16)),
        np.array([Kind.RETURN, Kind.FAR], np.uint8),
        np.arange(1, len(block), dtype=np.uint64),
        0,
    )
    return found, found.done(GapDetails.empty())


def test_each_kind_is_told_once_with_the_place_of_the_first():
    effects = [
        effect(path="/a/1", entry=0),
        effect("kill", values={"signal": 9}, entry=1),
        effect(path="/a/2", entry=2),
    ]
    _, told = kinds_in(effects, [0, 1, 0, 1, 0, 1, 0])
    assert [(each.count, each.step, each.transfers) for each in told] == [(2, 1, 1), (1, 3, 3)]
    assert told[0].text.startswith("openat") and "/a/1" in told[0].text


def test_behind_a_loss_no_place_is_known():
    _, told = kinds_in(
        [effect(path="/a/1", entry=0), effect(path="/b/2", entry=1)], [0, 1, 0, 1, 0], gaps=(3,)
    )
    assert [(each.step, each.transfers) for each in told] == [(1, 1), (None, None)]


def test_calls_that_the_system_does_not_have_are_none():
    effects = [effect("clone3", error="ENOSYS", entry=0), effect("clone", result=5, entry=1)]
    _, told = kinds_in(effects, [0, 1, 0, 1, 0])
    assert [(each.text, each.step) for each in told] == [("clone() = 5", 3)]


def test_very_many_kinds_are_counted():
    effects = [effect(path=f"/{number}/x") for number in range(MOST_KINDS + 7)]
    found, told = kinds_in(effects, [0])
    assert len(told) == MOST_KINDS
    assert found.further == 7
