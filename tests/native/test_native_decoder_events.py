"""One thing at a time: tracing on and off, missing code, packets that do not fit, wrong use."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from barnum._decoder import AddressSpace, BlockTable, Decoder
from decoding import (
    ASYNC,
    BASE,
    LOST,
    OFF,
    OVERFLOW,
    START,
    UNKNOWN,
    UNMAPPED,
    gaps_of,
    space_of,
    steps_of,
)  # fmt: skip
from pt_encoder import OVF, PSB, PSBEND, Encoder, cbr
from pt_program import make_run

BOTH = pytest.mark.parametrize("plain", [True, False], ids=["plain", "query"])
NOP, RET, SYSCALL, JMP_RAX = b"\x90", b"\xc3", b"\x0f\x05", b"\xff\xe0"


def jne(displacement: int) -> bytes:
    return b"\x75" + displacement.to_bytes(1, "little", signed=True)


# -- tracing on and off


@BOTH
def test_system_calls_are_transfers(plain: bool) -> None:
    enc = Encoder()
    enc.psb(BASE)
    enc.pgd()
    enc.pge(BASE + 2)
    enc.pgd()
    enc.pge(BASE + 2)  # a signal handler, or the like
    steps, _ = steps_of(enc.bytes(), space_of(SYSCALL * 2), plain)
    assert steps == [(BASE, BASE, 1, 7, START), (BASE + 2, BASE + 2, 1, 7, 0), (BASE + 2, BASE + 2, 1, 7, 0)]


@BOTH
def test_an_interrupted_block_goes_on_or_is_cut(plain: bool) -> None:
    code = NOP * 4 + JMP_RAX
    enc = Encoder()
    enc.psb(BASE)
    enc.fup(BASE + 2)
    enc.pgd()
    enc.pge(BASE + 2)
    enc.fup(BASE + 3)
    enc.pgd()
    enc.pge(BASE + 3)
    enc.tip(BASE)
    enc.fup(BASE + 1)
    enc.pgd()
    enc.pge(BASE + 4)
    enc.tip(BASE)
    enc.fup(BASE + 3)
    enc.tip(BASE + 2)
    enc.fup(BASE + 3)
    enc.pgd()
    steps, decoder = steps_of(enc.bytes(), space_of(code), plain)
    assert steps == [
        (BASE, BASE + 4, 5, 3, START), (BASE, BASE, 1, 0, 0), (BASE + 4, BASE + 4, 1, 3, ASYNC),
        (BASE, BASE + 2, 3, 0, 0), (BASE + 2, BASE + 2, 1, 0, ASYNC),
    ]  # fmt: skip
    assert decoder.gaps() == []


@BOTH
def test_leaving_what_is_traced(plain: bool) -> None:
    code = b"\xeb\x02" + RET + NOP + b"\xeb\x10" + JMP_RAX
    enc = Encoder()
    enc.psb(BASE)
    enc.pgd(BASE + 0x16)  # by the second jump
    enc.pge(BASE + 6)
    enc.pgd(0x1234)
    enc.pge(BASE)
    steps, decoder = steps_of(enc.bytes(), space_of(code), plain)
    assert [(s[0] - BASE, s[4]) for s in steps] == [(0, START), (4, 0), (6, OFF), (0, OFF), (4, 0), (0x16, 0)]
    # code ends there: whether what comes after ran is not known, but that it went there is
    assert steps[-1][2:4] == (0, UNKNOWN)
    assert decoder.statistics()["errors"] == 0


@BOTH
def test_tracing_that_begins_later(plain: bool) -> None:
    enc = Encoder()
    enc.psb(None)
    enc.raw(cbr())
    enc.pge(BASE)
    enc.tip(BASE)
    steps, _ = steps_of(enc.bytes(), space_of(JMP_RAX), plain)
    assert steps == [(BASE, BASE, 1, 3, START), (BASE, BASE, 1, 3, 0)]


def test_overflow_with_tracing_on_and_off() -> None:
    enc = Encoder()
    enc.psb(BASE)
    enc.tip(BASE)
    enc.ovf(BASE + 2)
    enc.tip(BASE)
    enc.ovf(None)
    enc.pge(BASE + 2)
    steps, decoder = steps_of(enc.bytes(), space_of(JMP_RAX * 2), True)
    assert [(s[0] - BASE, s[4]) for s in steps] == [(0, START), (2, OVERFLOW), (2, OVERFLOW)]
    assert gaps_of(decoder) == [(1, OVERFLOW), (2, OVERFLOW)]
    assert decoder.statistics()["overflows"] == 2
    assert decoder.statistics()["errors"] == 0


def test_overflow_inside_of_psb() -> None:
    enc = Encoder()
    enc.psb(BASE)
    enc.tip(BASE)
    enc.raw(PSB + OVF)
    enc.fup(BASE + 2)
    enc.psb(BASE + 2)
    enc.tip(BASE)
    steps, _ = steps_of(enc.bytes(), space_of(JMP_RAX * 2))
    assert [(s[0] - BASE, s[4]) for s in steps][:2] == [(0, START), (2, OVERFLOW)]


# -- missing code, and packets that do not fit


@BOTH
def test_missing_code_is_a_gap(plain: bool) -> None:
    enc = Encoder()
    enc.psb(BASE)
    enc.tip(0xDEAD000)  # no code at all
    enc.tnt(1, 0, 1)
    enc.tip(0xDEAD100)
    enc.pgd()
    enc.pge(BASE + 2)  # known again
    enc.tnt(0)  # runs into missing code
    enc.tip(BASE)
    enc.psb(BASE)
    enc.tip(BASE)
    trace = enc.bytes()
    steps, decoder = steps_of(trace, space_of(JMP_RAX + jne(-4) + NOP * 3), plain)
    assert steps == [
        (BASE, BASE, 1, 3, START), (0xDEAD000, 0xDEAD000, 0, UNKNOWN, 0),
        (BASE + 2, BASE + 2, 1, 1, UNMAPPED), (BASE + 4, BASE + 6, 3, 0, 0),
        (BASE, BASE, 1, 3, UNMAPPED), (BASE, BASE, 1, 3, 0),
    ]  # fmt: skip
    assert gaps_of(decoder) == [(2, UNMAPPED), (4, UNMAPPED)]
    first, second = decoder.gaps()
    assert (first[3], second[3]) == (0xDEAD000, BASE + 7)
    assert first[4] > 0
    statistics = decoder.statistics()
    assert statistics["unmapped"] == statistics["errors"] == 2
    assert statistics["bytes_lost"] == first[4] + second[4] < len(trace)
    assert decoder.unmapped() == {0xDEAD000: 1, BASE: 1}


@BOTH
@pytest.mark.parametrize("target", [0, 0x4141414141, (1 << 64) - 16, BASE + 2])
def test_a_wild_jump_that_faults_is_a_transfer(target: int, plain: bool) -> None:
    enc = Encoder()
    enc.psb(BASE)
    enc.tip(target)
    enc.fup(target)
    enc.pgd()
    steps, decoder = steps_of(enc.bytes(), space_of(JMP_RAX), plain)
    assert steps == [(BASE, BASE, 1, 3, START), (target, target, 0, UNKNOWN, 0)]
    assert decoder.statistics()["errors"] == 0
    assert decoder.statistics()["unknown"] == 1


@BOTH
def test_a_fault_at_known_code_is_no_wild_jump(plain: bool) -> None:
    enc = Encoder()
    enc.psb(BASE)
    enc.tip(BASE)
    enc.fup(BASE)
    enc.pgd()
    enc.pge(BASE)  # the page was fetched: it goes on
    enc.tip(BASE)
    steps, decoder = steps_of(enc.bytes(), space_of(JMP_RAX), plain)
    assert [(s[0], s[3], s[4]) for s in steps] == [(BASE, 3, START), (BASE, 3, 0), (BASE, 3, 0)]
    assert decoder.statistics()["unknown"] == 0


@BOTH
def test_a_handler_runs_after_a_wild_jump(plain: bool) -> None:
    enc = Encoder()
    enc.psb(BASE)
    enc.tip(0xDEAD000)
    enc.fup(0xDEAD000)
    enc.pgd()
    enc.pge(BASE)  # a handler of the signal
    enc.tip(BASE)
    steps, _ = steps_of(enc.bytes(), space_of(JMP_RAX), plain)
    assert [(s[0], s[3], s[4]) for s in steps] == [
        (BASE, 3, START), (0xDEAD000, UNKNOWN, 0), (BASE, 3, ASYNC), (BASE, 3, 0)
    ]  # fmt: skip


@BOTH
@pytest.mark.parametrize("left_to", [None, 0x7000000])
@pytest.mark.parametrize("ends", [False, True])
def test_unknown_code_that_calls_the_kernel_is_a_step(ends: bool, left_to: int | None, plain: bool) -> None:
    enc = Encoder()
    enc.psb(BASE)
    enc.tip(0xDEAD000)
    enc.pgd(left_to)
    if not ends:
        enc.pge(BASE)
        enc.tip(BASE)
    steps, _ = steps_of(enc.bytes(), space_of(JMP_RAX), plain)
    wanted = [(BASE, 3, START), (0xDEAD000, UNKNOWN, 0), (BASE, 3, LOST), (BASE, 3, 0)]
    assert [(s[0], s[3], s[4]) for s in steps] == wanted[: 2 if ends else 4]


@BOTH
@pytest.mark.parametrize(("flag", "wild"), [(False, True), (True, False)])
def test_data_that_is_called_and_faults_is_no_code(
    flag: bool, wild: bool, plain: bool, tmp_path: Path
) -> None:
    code, data = tmp_path / "code", tmp_path / "data"
    code.write_bytes(JMP_RAX)
    data.write_bytes(RET)
    space = AddressSpace(64)
    space.add_file(str(code), 0, 2, BASE)
    space.add_file(str(data), 0, 1, BASE + 0x1000, executable=flag)
    enc = Encoder()
    enc.psb(BASE)
    enc.tip(BASE + 0x1000)
    enc.fup(BASE + 0x1000)
    enc.pgd()
    steps, _ = steps_of(enc.bytes(), space, plain)
    assert [(s[0] - BASE, s[3]) for s in steps] == [(0, 3), (0x1000, UNKNOWN)][: 1 + wild]


@BOTH
def test_data_that_runs_is_code(plain: bool, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.write_bytes(JMP_RAX)
    space = AddressSpace(64)
    # the map is older than the trace, or the page was made executable
    space.add_file(str(data), 0, 2, BASE, executable=False)
    enc = Encoder()
    enc.psb(BASE)
    enc.tip(BASE)
    enc.tip(BASE)
    steps, _ = steps_of(enc.bytes(), space, plain)
    assert [(s[0], s[3]) for s in steps] == [(BASE, 3)] * 3


@BOTH
def test_as_many_wild_targets_are_as_many_steps(plain: bool) -> None:
    count = 1 << 17
    enc = Encoder()
    enc.psb(BASE)
    for number in range(count):
        enc.tip(0x4100000000 + number)
        enc.fup(0x4100000000 + number)
        enc.pgd()
        enc.pge(BASE)
    steps, decoder = steps_of(enc.bytes(), space_of(JMP_RAX), plain)
    assert decoder.statistics()["unknown"] == count
    assert len(steps) == 2 * count + 1
    assert decoder.statistics()["errors"] == 0


@BOTH
@pytest.mark.parametrize("code", [b"\xeb\xfe", b"\xe8\xfb\xff\xff\xff", b"\xeb\x00\xeb\xfc" + NOP])
def test_endless_loops_end(code: bytes, plain: bool) -> None:
    enc = Encoder()
    enc.psb(BASE)
    enc.tnt(1)
    enc.psb(BASE + 0x100)
    enc.tip(BASE)
    enc.fup(BASE + 0x100)
    enc.pgd()
    enc.pge(BASE)
    space = space_of(code + NOP * (0x100 - len(code)) + JMP_RAX)
    steps, decoder = steps_of(enc.bytes(), space, plain)
    assert len(steps) < 1000
    assert (BASE + 0x100, BASE + 0x100, 1, 3, LOST) in steps
    # the second loop is where the trace ends: a program that hangs is no error
    assert decoder.statistics()["errors"] == 2


@BOTH
def test_psb_elsewhere_sets_the_walk_right(plain: bool) -> None:
    enc = Encoder()
    enc.psb(BASE)
    enc.tip(BASE)
    enc.psb(BASE + 2)
    enc.tip(BASE)
    steps, decoder = steps_of(enc.bytes(), space_of(JMP_RAX * 2), plain)
    assert [(s[0] - BASE, s[4]) for s in steps] == [(0, START), (2, LOST), (0, 0)]
    assert gaps_of(decoder) == [(1, LOST)]


def test_bad_packets_lose_the_rest_up_to_the_next_psb() -> None:
    enc = Encoder()
    enc.raw(b"\xff" * 9)  # before the first PSB
    enc.psb(BASE)
    enc.tip(BASE)
    start = len(enc.bytes())
    enc.raw(b"\x02\xff\xff")
    enc.tip(BASE)
    end = len(enc.bytes())
    enc.psb(BASE)
    enc.tip(BASE)
    steps, decoder = steps_of(enc.bytes(), space_of(JMP_RAX))
    assert [s[4] for s in steps] == [START, 0, LOST, 0] or [s[4] for s in steps] == [START, LOST, 0]
    junk, bad = decoder.gaps()
    assert junk == (0, LOST, 0, 0, 9)
    assert bad[1] == LOST
    assert start <= bad[2] <= start + 3
    assert bad[2] + bad[4] == end
    assert decoder.statistics()["bytes_lost"] == 9 + bad[4]


def test_a_payload_that_looks_like_the_start_of_a_psb() -> None:
    enc = Encoder()
    enc.psb(BASE)
    enc.tip(BASE)
    enc.raw(b"\x02\xc3\x88" + PSB[:8])
    enc.psb(BASE)
    enc.tip(BASE)
    trace = enc.bytes()
    for step in (1, 7, len(trace)):
        steps, decoder = steps_of(trace, space_of(JMP_RAX), cuts=list(range(step, len(trace), step)))
        assert len(steps) == 3
        assert decoder.statistics()["errors"] == 0


# -- the interface


def test_wrong_use_is_told(tmp_path) -> None:
    with pytest.raises(ValueError, match="mode"):
        AddressSpace(16)
    space, table = AddressSpace(32), BlockTable()
    with pytest.raises(ValueError, match="outside"):
        space.add_bytes(b"\x90\x90", 0xFFFFFFFF)
    space.add_bytes(b"\x90", 0x1000, epoch=2)
    with pytest.raises(ValueError, match="ascend"):
        space.add_bytes(b"\x90", 0x1000, epoch=1)
    with pytest.raises(FileNotFoundError, match="gone"):
        space.add_file(str(tmp_path / "gone"), 0, 1, 0)
    with pytest.raises(OSError, match="Invalid"):
        space.add_file(str(tmp_path), 0, 1, 0)
    with pytest.raises(ValueError, match="cpu"):
        Decoder(space, table, cpu=(6, 999, 0))
    decoder = Decoder(space, table)
    with pytest.raises(ValueError, match="in use"):
        space.add_bytes(b"\x90", 0x1000, epoch=3)
    with pytest.raises(ValueError, match="limit"):
        decoder.read(0)
    decoder.feed(memoryview(b""), final=True)
    with pytest.raises(ValueError, match="end"):
        decoder.feed(b"")
    assert len(decoder.read(10)[0]) == 0


def test_files_end_where_they_end(tmp_path) -> None:
    image = tmp_path / "image"
    image.write_bytes(b"\xcc" * 16 + NOP * 3)
    space = AddressSpace()
    space.add_file(str(image), 16, 0x10000, BASE)
    space.add_file(str(image), 100, 0x10000, BASE + 0x100000)
    enc = Encoder()
    enc.psb(BASE)
    enc.tnt(1)
    steps, _ = steps_of(enc.bytes(), space)
    assert steps == [(BASE, BASE + 2, 3, 0, START)]


def test_decoders_run_in_threads() -> None:
    runs = [make_run(seed, steps=3000) for seed in range(6)]
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda r: steps_of(r.trace, space_of(r.code, r.base))[0], runs))
    assert results == [r.steps for r in runs]


def test_psb_alone_and_nothing_at_all() -> None:
    for trace in (b"", b"\0", PSB, PSB[:15], PSB + PSBEND, b"\x47" * 100):
        steps, decoder = steps_of(trace, space_of(JMP_RAX))
        assert steps == []
        assert decoder.statistics()["bytes"] == len(trace)
