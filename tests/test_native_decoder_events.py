"""One thing at a time: kinds of blocks, events, changed code, missing code, 32-bit code."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from decoding import (
    ASYNC, BASE, CHANGED, LOST, OFF, OVERFLOW, START, UNMAPPED, decode, gaps_of, space_of, steps_of,
)  # fmt: skip
from pt_encoder import OVF, PSB, PSBEND, Encoder, cbr, mnt
from pt_program import make_run

from barnum._native import AddressSpace, BlockTable, Decoder, instructions

BOTH = pytest.mark.parametrize("plain", [True, False], ids=["plain", "query"])
NOP, RET, SYSCALL, JMP_RAX = b"\x90", b"\xc3", b"\x0f\x05", b"\xff\xe0"


def jne(displacement: int) -> bytes:
    return b"\x75" + displacement.to_bytes(1, "little", signed=True)


# -- blocks


@pytest.mark.parametrize(
    ("code", "mode", "kind"),
    [
        (b"\x70\x10", 64, 1), (b"\x0f\x8f\x10\0\0\0", 64, 1), (b"\xe2\x10", 64, 1), (b"\xe3\x10", 64, 1),
        (b"\x2e\x75\x10", 64, 1), (b"\xeb\x10", 64, 2), (b"\xe9\x10\0\0\0", 64, 2), (b"\xf2\xe9\x10\0\0\0", 64, 2),
        (b"\x66\xe9\x10\0", 32, 2), (b"\xff\xe0", 64, 3), (b"\x3e\xff\xe0", 64, 3), (b"\x41\xff\xe7", 64, 3),
        (b"\xff\x25\0\0\0\0", 64, 3), (b"\xe8\x10\0\0\0", 64, 4), (b"\xe8\0\0\0\0", 64, 4),
        (b"\xff\xd0", 64, 5), (b"\x41\xff\x54\x24\x08", 64, 5), (b"\xc3", 64, 6), (b"\xf3\xc3", 64, 6),
        (b"\xc2\x08\0", 64, 6), (b"\x0f\x05", 64, 7), (b"\xcd\x80", 32, 7), (b"\x0f\x34", 32, 7),
        (b"\xcc", 64, 7), (b"\xcf", 64, 7), (b"\x48\xcf", 64, 7), (b"\xcb", 64, 7), (b"\x9a\0\0\0\0\0\0", 32, 7),
        (b"\xff\x18", 64, 8), (b"\x48\xff\x2b", 64, 8),
    ],
)  # fmt: skip
def test_kind_of_a_block(code: bytes, mode: int, kind: int) -> None:
    # the trace ends here: the block is given although the way it took is not known
    enc = Encoder()
    enc.psb(BASE, mode)
    steps, decoder = steps_of(enc.bytes(), space_of(NOP + code + NOP * 40, mode=mode))
    assert steps[0] == (BASE, BASE + 1, 2, kind, START)
    assert decoder.statistics()["errors"] == 0


def test_columns_of_the_table() -> None:
    code = b"\x0f\x1f\x00" + jne(-5) + JMP_RAX
    enc = Encoder()
    enc.psb(BASE)
    enc.tnt(1, 0)
    table = BlockTable()
    ids, gaps = decode(Decoder(space_of(code), table, 3), enc.bytes())
    columns = table.arrays()
    assert ids.tolist() == [0, 0, 1]
    assert gaps.tolist() == [START, 0, 0]
    assert {name: c.tolist() for name, c in columns.items()} == {
        "start": [BASE, BASE + 5], "end": [BASE + 3, BASE + 5], "length": [5, 2], "count": [2, 1],
        "kind": [1, 3], "space": [3, 3],
    }  # fmt: skip
    assert {name: str(c.dtype) for name, c in columns.items()} == {
        "start": "uint64", "end": "uint64", "length": "uint32", "count": "uint32", "kind": "uint8", "space": "uint32",
    }  # fmt: skip
    addresses = instructions(table, ids)
    assert addresses.dtype == np.uint64
    assert addresses.tolist() == [BASE, BASE + 3, BASE, BASE + 3, BASE + 5]
    with pytest.raises(IndexError):
        instructions(table, np.array([2], np.uint32))


@BOTH
def test_compressed_returns_go_back_to_the_last_64_calls(plain: bool) -> None:
    # f: jne g; call f; ret; g: ret
    code = jne(6) + b"\xe8" + (-7).to_bytes(4, "little", signed=True) + RET + RET
    for depth, lost in ((64, False), (65, True)):
        enc = Encoder()
        enc.psb(BASE)
        enc.tnt(*[0] * depth, 1, *[1] * depth)
        enc.fup(BASE + 7)
        enc.pgd()
        steps, decoder = steps_of(enc.bytes(), space_of(code), plain)
        assert len(steps) == 3 * depth + 1
        assert bool(decoder.statistics()["errors"]) == lost


@BOTH
def test_calls_of_the_next_instruction_are_no_calls(plain: bool) -> None:
    code = b"\xe8\x01\0\0\0" + RET + b"\xe8\0\0\0\0" + NOP + RET
    enc = Encoder()
    enc.psb(BASE)
    enc.tnt(1)
    steps, _ = steps_of(enc.bytes(), space_of(code), plain)
    assert [s[0] - BASE for s in steps] == [0, 6, 11, 5]


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
    assert [(s[0] - BASE, s[4]) for s in steps] == [(0, START), (4, 0), (6, OFF), (0, OFF), (4, 0)]
    # what comes after is not mapped, but did not run for certain
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


# -- code that changes


def changing_space() -> AddressSpace:
    space = space_of(NOP * 4 + JMP_RAX)
    space.add_bytes(b"\x66\x90", BASE + 2, epoch=1)
    space.add_bytes(RET, BASE + 1, epoch=2)
    space.add_bytes(NOP, BASE + 1, epoch=3)
    return space


def change(enc: Encoder, ip: int, epoch: int, inside: bool) -> None:
    enc.fup(ip)
    enc.pgd()
    enc.psb(None, extra=mnt(epoch) if inside else b"")
    if not inside:
        enc.raw(mnt(epoch))
    enc.pge(ip)


@BOTH
@pytest.mark.parametrize("inside", [True, False])
def test_changed_code(plain: bool, inside: bool) -> None:
    enc = Encoder()
    enc.psb(BASE)
    enc.tip(BASE)
    change(enc, BASE, 1, inside)
    enc.tip(BASE)
    change(enc, BASE + 1, 2, inside)  # in the middle of a block
    enc.tip(BASE)
    change(enc, BASE, 3, inside)
    enc.tip(BASE)
    trace = enc.bytes()
    space, table = changing_space(), BlockTable()
    for _ in range(2):  # each stream begins in epoch 0
        decoder = Decoder(space, table, plain=plain)
        ids, gaps = decode(decoder, trace)
        columns = table.arrays()
        rows = [columns[c][ids].tolist() for c in ("start", "end", "count", "kind")]
        assert list(zip(*rows, gaps.tolist(), strict=True)) == [
            (BASE, BASE + 4, 5, 3, START), (BASE, BASE + 4, 4, 3, 0), (BASE, BASE, 1, 0, 0),
            (BASE + 1, BASE + 1, 1, 6, CHANGED), (BASE, BASE + 4, 4, 3, 0), (BASE, BASE + 4, 4, 3, 0),
        ]  # fmt: skip
        assert ids[4] == ids[5] == ids[1] != ids[0]
        assert decoder.statistics()["epochs"] == 3
        assert decoder.statistics()["errors"] == 0
    # the second block has an instruction at BASE + 2 and none at BASE + 3
    assert instructions(table, ids[1:2]).tolist() == [BASE, BASE + 1, BASE + 2, BASE + 4]
    assert len(table) == 4


@BOTH
def test_code_that_appears_later(plain: bool) -> None:
    space = AddressSpace()
    space.add_bytes(JMP_RAX, BASE)
    space.add_bytes(NOP + JMP_RAX, BASE + 0x5000, epoch=7)
    enc = Encoder()
    enc.psb(BASE)
    enc.tip(BASE + 0x5000)
    change(enc, BASE + 0x5000, 7, True)
    enc.tip(BASE)
    steps, decoder = steps_of(enc.bytes(), space, plain)
    assert [(s[0] - BASE, s[4]) for s in steps] == [(0, START), (0x5000, 0), (0, 0)]
    assert decoder.statistics()["errors"] == 0


def test_marks_of_other_software_are_no_epochs() -> None:
    enc = Encoder()
    enc.psb(BASE, extra=mnt(1 << 40))
    enc.tip(BASE)
    steps, decoder = steps_of(enc.bytes(), changing_space())
    assert steps[0][2] == 5
    assert decoder.statistics()["epochs"] == 0


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
        (BASE, BASE, 1, 3, START), (BASE + 2, BASE + 2, 1, 1, UNMAPPED), (BASE + 4, BASE + 6, 3, 0, 0),
        (BASE, BASE, 1, 3, UNMAPPED), (BASE, BASE, 1, 3, 0),
    ]  # fmt: skip
    assert gaps_of(decoder) == [(1, UNMAPPED), (3, UNMAPPED)]
    first, second = decoder.gaps()
    assert (first[3], second[3]) == (0xDEAD000, BASE + 7)
    assert first[4] > 0
    statistics = decoder.statistics()
    assert statistics["unmapped"] == statistics["errors"] == 2
    assert statistics["bytes_lost"] == first[4] + second[4] < len(trace)
    assert decoder.unmapped() == {0xDEAD000: 1, BASE: 1}


@BOTH
def test_a_wild_jump_that_faults_is_no_error(plain: bool) -> None:
    enc = Encoder()
    enc.psb(BASE)
    enc.tip(0)
    enc.fup(0)
    enc.pgd()
    steps, decoder = steps_of(enc.bytes(), space_of(JMP_RAX), plain)
    assert steps == [(BASE, BASE, 1, 3, START)]
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


# -- 32-bit code


@BOTH
@pytest.mark.parametrize("told", [True, False])
def test_32_bit_code_wraps_at_4_gib(plain: bool, told: bool) -> None:
    # inc eax is a prefix in 64-bit code; the jump goes round the top
    space = AddressSpace(32)
    space.add_bytes(b"\x40\xe9" + (0x20).to_bytes(4, "little"), 0xFFFFFFF0)
    space.add_bytes(b"\x40\xc3", 0x16)
    enc = Encoder()
    enc.psb(0xFFFFFFF0, 32 if told else None)
    enc.tip(0xFFFFFFF0)
    steps, decoder = steps_of(enc.bytes(), space, plain)
    assert steps[:2] == [(0xFFFFFFF0, 0xFFFFFFF1, 2, 2, START), (0x16, 0x17, 2, 6, 0)]
    assert decoder.statistics()["errors"] == 0


@BOTH
def test_a_far_jump_into_32_bit_code(plain: bool) -> None:
    enc = Encoder()
    enc.psb(BASE)
    enc.mode(32)
    enc.tip(BASE + 2)
    enc.mode(64)
    enc.tip(BASE)
    steps, decoder = steps_of(enc.bytes(), space_of(b"\xff\x28" + b"\x40\x40\xcb"), plain)
    assert steps[:2] == [(BASE, BASE, 1, 8, START), (BASE + 2, BASE + 4, 3, 7, 0)]
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
