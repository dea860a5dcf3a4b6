"""Damaged and hostile traces: nothing raises, nothing hangs, and what is lost stays visible."""

import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from barnum._decoder import AddressSpace, BlockTable, Decoder
from decoding import BASE, Recorded, decode, space_of
from pt_encoder import OVF, PSB, PSBEND, Encoder, cbr, mnt
from pt_program import make_run

Result = tuple[list[int], list[int]]


def run(
    trace: bytes, space: AddressSpace, plain: bool, cuts: list[int], limit: int
) -> tuple[Result, Decoder]:
    table = BlockTable()
    decoder = Decoder(space, table, plain=plain)
    ids, gaps = decode(decoder, trace, cuts, limit)
    statistics = decoder.statistics()
    assert statistics["bytes"] == len(trace)
    assert statistics["bytes_lost"] <= len(trace)
    assert statistics["blocks"] == len(ids)
    assert not len(ids) or ids.max() < len(table)
    assert not len(gaps) or (gaps[0] == 1 and gaps.max() <= 7 and not (gaps[1:] == 1).any())
    steps = [step for step, *_ in decoder.gaps()]
    assert steps == sorted(steps)
    assert not steps or steps[-1] <= len(ids)
    serious = set(np.flatnonzero((gaps >= 4) & (gaps <= 6)).tolist())
    assert serious <= set(steps)
    if len(ids):
        counts = table.arrays()["count"][ids].astype(np.uint64)
        assert statistics["instructions"] == counts.sum()
    return (ids.tolist(), gaps.tolist()), decoder


def check(trace: bytes, space: AddressSpace, rng: random.Random) -> Decoder:
    """Fed and read in other portions it gives the same."""
    for plain in (False, True):
        whole, decoder = run(trace, space, plain, [], 1 << 20)
        cuts = [rng.randrange(len(trace) + 1) for _ in range(rng.randrange(1, 9))]
        parts, other = run(trace, space, plain, cuts, rng.choice((1, 3, 100, 1 << 20)))
        assert parts == whole
        assert other.gaps() == decoder.gaps()
        assert other.statistics() == decoder.statistics()
    return decoder


PACKETS = st.one_of(
    st.binary(min_size=1, max_size=12),
    st.sampled_from((PSB, PSBEND, OVF, cbr(), mnt(1), mnt(2))),
    st.sampled_from((b"\x99\x01", b"\x99\x02", b"\x99\x20", b"\x02\x83")),
    st.integers(0, 0x60).map(lambda o: bytes((0x2D,)) + (BASE + o & 0xFFFF).to_bytes(2, "little")),
    st.tuples(st.sampled_from((0x0D, 0x11, 0x01, 0x1D)), st.integers(0, 0x60)).map(
        lambda p: bytes((p[0] | 0x60,)) + (BASE + p[1]).to_bytes(6, "little")
    ),
    st.binary(min_size=7, max_size=7).map(lambda b: b"\x19" + b),  # TSC
    st.binary(min_size=3, max_size=3).map(lambda b: b"\x02\x73" + b[:2] + b"\0" + b[2:] + b"\0"),  # TMA
    st.binary(min_size=1, max_size=1).map(lambda b: b"\x59" + b),  # MTC
    st.sampled_from((b"\x03", b"\xfb", b"\x07\x10", b"\xff\x11\x20")),  # CYC
    st.integers(2, 127).map(lambda b: bytes((b << 1,))),
)


@settings(max_examples=300, deadline=None)
@given(packets=st.lists(PACKETS, max_size=60), seed=st.integers(0, 1 << 32))
def test_packets_in_any_order(packets: list[bytes], seed: int) -> None:
    code = make_run(seed % 50, steps=1)
    space = space_of(code.code, BASE)
    space.add_bytes(b"\xeb\xfe", BASE + 8, epoch=1)
    space.add_bytes(b"\x0f\x05\xc3\x75\x02", BASE + 16, epoch=2)
    enc = Encoder()
    enc.psb(BASE)
    check(enc.bytes() + b"".join(packets), space, random.Random(seed))


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 1 << 32), flips=st.integers(1, 12))
def test_flipped_bits(seed: int, flips: int) -> None:
    rng = random.Random(seed)
    made = make_run(seed, steps=150)
    trace = bytearray(made.trace)
    for _ in range(flips):
        trace[rng.randrange(len(trace))] ^= 1 << rng.randrange(8)
    check(bytes(trace), space_of(made.code, made.base), rng)


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 1 << 32))
def test_bytes_that_are_missing_or_too_many(seed: int) -> None:
    rng = random.Random(seed)
    made = make_run(seed, steps=150)
    trace = bytearray(made.trace)
    for _ in range(3):
        at = rng.randrange(len(trace))
        if rng.random() < 0.5:
            del trace[at : at + rng.randrange(1, 40)]
        else:
            trace[at:at] = rng.randbytes(rng.randrange(1, 40))
    check(bytes(trace), space_of(made.code, made.base), rng)


@settings(max_examples=20, deadline=None)
@given(data=st.binary(max_size=3000), psb=st.booleans())
def test_noise(data: bytes, psb: bool) -> None:
    check((PSB if psb else b"") + data, space_of(b"\x75\x00\xff\xe0"), random.Random(len(data)))


def test_a_trace_cut_anywhere_gives_the_start_of_the_whole() -> None:
    made = make_run(11, steps=120)
    space = space_of(made.code, made.base)
    whole, _ = run(made.trace, space, True, [], 1 << 20)
    for end in range(len(made.trace)):
        decoder = check(made.trace[:end], space, random.Random(end))
        part, _ = run(made.trace[:end], space, True, [], 1 << 20)
        # of the last blocks it is not known that they were interrupted
        common = max(0, len(part[0]) - 25)
        assert part[0][:common] == whole[0][:common]
        assert decoder.statistics()["errors"] <= 1


@pytest.mark.parametrize("name", ["griffin_hello", "ovf-03-poc"])
def test_damaged_recorded_traces(data_dir: Path, name: str) -> None:
    recorded = Recorded(data_dir / "intel-pt" / name)
    space = recorded.space()
    rng = random.Random(3)
    for _ in range(6):
        trace = bytearray(recorded.trace)
        for _ in range(rng.choice((1, 5, 50))):
            trace[rng.randrange(len(trace))] ^= 1 << rng.randrange(8)
        check(bytes(trace), space, rng)
    for end in range(1, len(recorded.trace), 997):
        check(recorded.trace[:end], space, rng)


def test_a_long_run_without_branches_is_bounded() -> None:
    enc = Encoder()
    for i in range(30):
        enc.psb(BASE + i)
        enc.tip(BASE + i)
    table = BlockTable()
    decoder = Decoder(space_of(b"\x90" * 300_000), table)
    ids, _ = decode(decoder, enc.bytes())
    assert decoder.statistics()["errors"] > 0
    assert table.arrays()["count"].max() == 1 << 16
    assert len(ids) == len(table) == 30
