"""The decoder against recorded traces, and against traces of random programs."""

import hashlib
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from barnum._decoder import BlockTable, Decoder, instructions, libipt_blocks
from decoding import CHANGED, LOST, START, UNKNOWN, UNMAPPED, Recorded, decode, space_of, steps_of
from pt_program import Run, make_run

SAMPLES = (
    "cve-2018-12327-ben", "griffin_hello", "griffin_last", "mruby", "ovf-01-ben", "ovf-01-poc",
    "ovf-02-ben", "ovf-02-poc", "ovf-03-ben", "ovf-03-poc", "qemu",
)  # fmt: skip


# where hijacked programs went
WILD = {
    "ovf-01-poc": [0x4141414141],
    "ovf-02-poc": [0x4141414141],
    "ovf-03-poc": [0x554141414141],
}


@pytest.fixture
def recorded(data_dir: Path, request: pytest.FixtureRequest) -> Recorded:
    return Recorded(data_dir / "intel-pt" / request.param)


# -- recorded on hardware


@pytest.mark.parametrize("plain", [True, False], ids=["plain", "query"])
@pytest.mark.parametrize("recorded", SAMPLES, indirect=True)
def test_recorded_traces_decode_to_the_known_streams(recorded: Recorded, plain: bool) -> None:
    table = BlockTable()
    decoder = Decoder(recorded.space(), table, cpu=recorded.cpu, plain=plain)
    ids, gaps = decode(decoder, recorded.trace)
    expected = recorded.expected
    statistics = decoder.statistics()
    assert statistics["errors"] == expected["decode_errors"] == 0
    assert statistics["bytes_lost"] == statistics["unmapped"] == 0
    assert statistics["bytes"] == expected["pt_bytes"]
    assert len(ids) == statistics["blocks"]
    assert gaps[0] == START
    assert not np.isin(gaps, (LOST, UNMAPPED, CHANGED)).any()

    columns = table.arrays()
    # each overflow jumps to the address that it wrote, which is the last step; no code is there
    wild = np.flatnonzero(columns["kind"][ids] == UNKNOWN)
    assert columns["start"][ids[wild]].tolist() == WILD.get(recorded.folder.name, [])
    assert wild.tolist() == [len(ids) - 1] * len(wild)
    assert statistics["unknown"] == len(wild)
    assert not gaps[wild].any()
    ids = ids[: len(ids) - len(wild)]
    assert len(ids) == expected["canonical_blocks"]

    lines = [
        b"%016x %016x %d\n" % row
        for row in zip(*(columns[c].tolist() for c in ("start", "end", "count")), strict=True)
    ]
    blocks = hashlib.sha256()
    for i in ids.tolist():
        blocks.update(lines[i])
    assert blocks.hexdigest() == expected["canonical_blocks_sha256"]

    addresses = instructions(table, ids)
    assert len(addresses) == statistics["instructions"] == expected["instructions"]
    stream = hashlib.sha256()
    for part in np.array_split(addresses, 64):
        stream.update(b"".join(b"%016x\n" % a for a in part.tolist()))
    assert stream.hexdigest() == expected["instruction_stream_sha256"]


@pytest.mark.parametrize("recorded", ["griffin_hello", "ovf-03-poc", "mruby"], indirect=True)
def test_libipts_own_decoder_agrees_on_recorded_traces(recorded: Recorded) -> None:
    blocks, count, errors = libipt_blocks(recorded.trace, recorded.space(), recorded.cpu)
    assert (count, errors) == (recorded.expected["instructions"], 0)
    assert 0 < blocks <= recorded.expected["canonical_blocks"]


@pytest.mark.parametrize("recorded", ["mruby", "ovf-01-poc"], indirect=True)
def test_chunks_do_not_matter_on_recorded_traces(recorded: Recorded) -> None:
    rng = random.Random(7)
    space = recorded.space()
    reference = Decoder(space, BlockTable(), cpu=recorded.cpu)
    ids, gaps = decode(reference, recorded.trace)
    for pieces, limit in ((3, 1000), (200, 1 << 20), (40, 77_777)):
        decoder = Decoder(space, BlockTable(), cpu=recorded.cpu)
        cuts = [rng.randrange(len(recorded.trace)) for _ in range(pieces)]
        other_ids, other_gaps = decode(decoder, recorded.trace, cuts, limit)
        assert np.array_equal(ids, other_ids)
        assert np.array_equal(gaps, other_gaps)
        assert decoder.statistics() == reference.statistics()
        assert decoder.gaps() == reference.gaps()


def test_streams_share_blocks_and_spaces_do_not(data_dir: Path) -> None:
    recorded = Recorded(data_dir / "intel-pt" / "ovf-01-poc")
    space, table = recorded.space(), BlockTable()
    first, _ = decode(Decoder(space, table, 0), recorded.trace)
    known = len(table)
    second, _ = decode(Decoder(space, table, 0), recorded.trace)
    assert np.array_equal(first, second)
    assert len(table) == known
    other, _ = decode(Decoder(recorded.space(), table, 1), recorded.trace)
    assert np.array_equal(other, first + np.uint32(known))
    assert set(table.arrays()["space"].tolist()) == {0, 1}


# -- programs of the tests' own


def check_run(run: Run, plain: bool, cuts: list[int], limit: int) -> None:
    steps, decoder = steps_of(run.trace, space_of(run.code, run.base), plain, cuts, limit)
    assert steps == run.steps
    statistics = decoder.statistics()
    assert statistics["errors"] == statistics["bytes_lost"] == 0
    assert statistics["blocks"] == len(run.steps)
    assert statistics["instructions"] == sum(step[2] for step in run.steps)


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 1 << 32), plain=st.booleans(), limit=st.sampled_from((1, 7, 1 << 20)))
def test_random_programs_decode_to_what_they_ran(seed: int, plain: bool, limit: int) -> None:
    run = make_run(seed)
    rng = random.Random(seed)
    check_run(run, plain, [rng.randrange(len(run.trace)) for _ in range(rng.randrange(6))], limit)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 1 << 32), plain=st.booleans())
def test_targets_may_come_before_their_bits_are_used(seed: int, plain: bool) -> None:
    check_run(make_run(seed, events=False, defer=True), plain, [], 1 << 20)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 1 << 32))
def test_libipt_agrees_on_random_programs(seed: int) -> None:
    run = make_run(seed, events=False)
    _, count, errors = libipt_blocks(run.trace, space_of(run.code, run.base))
    assert errors == 0
    assert count == sum(step[2] for step in run.steps)
