"""One thing at a time: kinds of blocks, returns, code that changes, 32-bit code."""

import numpy as np
import pytest

from barnum._decoder import AddressSpace, BlockTable, Decoder, instructions
from decoding import BASE, CHANGED, OFF, START, decode, space_of, steps_of
from pt_encoder import Encoder, mnt

BOTH = pytest.mark.parametrize("plain", [True, False], ids=["plain", "query"])
NOP, RET, JMP_RAX = b"\x90", b"\xc3", b"\xff\xe0"


def jne(displacement: int) -> bytes:
    return b"\x75" + displacement.to_bytes(1, "little", signed=True)


# -- blocks


@pytest.mark.parametrize(
    ("code", "mode", "kind"),
    [
        (b"\x70\x10", 64, 1), (b"\x0f\x8f\x10\0\0\0", 64, 1), (b"\xe2\x10", 64, 1), (b"\xe3\x10", 64, 1),
        (b"\x2e\x75\x10", 64, 1),
        (b"\xeb\x10", 64, 2), (b"\xe9\x10\0\0\0", 64, 2), (b"\xf2\xe9\x10\0\0\0", 64, 2),
        (b"\x66\xe9\x10\0", 32, 2), (b"\xff\xe0", 64, 3), (b"\x3e\xff\xe0", 64, 3), (b"\x41\xff\xe7", 64, 3),
        (b"\xff\x25\0\0\0\0", 64, 3), (b"\xe8\x10\0\0\0", 64, 4), (b"\xe8\0\0\0\0", 64, 4),
        (b"\xff\xd0", 64, 5), (b"\x41\xff\x54\x24\x08", 64, 5), (b"\xc3", 64, 6), (b"\xf3\xc3", 64, 6),
        (b"\xc2\x08\0", 64, 6), (b"\x0f\x05", 64, 7), (b"\xcd\x80", 32, 7), (b"\x0f\x34", 32, 7),
        (b"\xcc", 64, 7), (b"\xcf", 64, 7), (b"\x48\xcf", 64, 7), (b"\xcb", 64, 7),
        (b"\x9a\0\0\0\0\0\0", 32, 7),
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
        "start": "uint64", "end": "uint64", "length": "uint32", "count": "uint32",
        "kind": "uint8", "space": "uint32",
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


@BOTH
@pytest.mark.parametrize("told", [True, False])
def test_leaving_what_is_traced_for_32_bit_code(plain: bool, told: bool) -> None:
    """libipt 2.1 tells the mode before the branch that leaves, 2.0 nothing of that branch: a loss."""
    code = b"\x48\xb8" + b"\xe9" * 8 + b"\xff\xe0" + b"\x40\xff\xe0"  # in 32-bit code a jump after 2 bytes
    enc = Encoder()
    enc.psb(BASE)
    enc.mode(32)
    enc.pgd(BASE + 0x10000 if told else None)
    enc.pge(BASE + 12)
    enc.tip(BASE + 12)
    steps, decoder = steps_of(enc.bytes(), space_of(code), plain)
    errors = decoder.statistics()["errors"]
    first, second = (BASE, BASE + 10, 2, 3), (BASE + 12, BASE + 13, 2, 3)
    right = [(*first, START), (*second, OFF), (*second, 0)]
    lost = [(*second, START), (*second, 0)]
    assert (steps, errors) in [(right, 0), (lost, 1)]
