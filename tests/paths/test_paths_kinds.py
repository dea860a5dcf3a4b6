"""Kinds of blocks by the text of their last instruction."""

import pytest

from barnum.paths import GAPS, KINDS, Gap, Kind, kind_of_text
from barnum.samples import Info, MemoryMap, Process, Sample


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("ret \n", Kind.RETURN),
        ("ret 0x4\n", Kind.RETURN),
        ("bnd ret \n", Kind.RETURN),
        ("rep ret\n", Kind.RETURN),
        ("ret far \n", Kind.FAR),
        ("iretq \n", Kind.FAR),
        ("call 0x401000\n", Kind.CALL),
        ("call eax\n", Kind.INDIRECT_CALL),
        ("call r11\n", Kind.INDIRECT_CALL),
        ("call dword ptr [0x818f1f0]\n", Kind.INDIRECT_CALL),
        ("call qword ptr [rsp+0x70]\n", Kind.INDIRECT_CALL),
        ("call far 0x33, 0x1000\n", Kind.FAR),
        ("call far ptr [eax]\n", Kind.INDIRECT_FAR),
        ("jmp 0x401000\n", Kind.JUMP),
        ("jmp rcx\n", Kind.INDIRECT_JUMP),
        ("notrack jmp rax\n", Kind.INDIRECT_JUMP),
        ("jmp dword ptr [edx*4+0x78145124]\n", Kind.INDIRECT_JUMP),
        ("jmp far ptr [r14]\n", Kind.INDIRECT_FAR),
        ("jnbe 0x10\n", Kind.CONDITIONAL),
        ("jrcxz 0x10\n", Kind.CONDITIONAL),
        ("jecxz 0x10\n", Kind.CONDITIONAL),
        ("loopne 0x773fe841\n", Kind.CONDITIONAL),
        ("syscall \n", Kind.FAR),
        ("sysenter \n", Kind.FAR),
        ("int 0x80\n", Kind.FAR),
        ("int3 \n", Kind.FAR),
        ("nop\n", Kind.NONE),
        ("lock cmpxchg qword ptr [rcx], rdx\n", Kind.NONE),
        ("lea r8, ptr [rip+0x1f182]\n", Kind.NONE),
        ("push dword ptr [ebp-0x24]\n", Kind.NONE),
        ("lock\n", Kind.NONE),
        ("\n", Kind.NONE),
        ("", Kind.NONE),
    ],
)
def test_kind_of_text(text, kind):
    assert kind_of_text(text) is kind


def test_every_code_has_a_name():
    assert len(KINDS) == len(Kind)
    assert len(GAPS) == len(Gap)


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("c3", "ret \n"),
        ("f3c3", "ret \n"),
        ("c20400", "ret 0x4\n"),
        ("7500", "jnz 0x401002\n"),
        ("7700", "jnbe 0x401002\n"),
        ("7f00", "jnle 0x401002\n"),
        ("7300", "jnb 0x401002\n"),
        ("ff542470", "call qword ptr [rsp+0x70]\n"),
        ("ff1425f4f11808", "call qword ptr [0x818f1f4]\n"),
        ("ff249524511478", "jmp qword ptr [rdx*4+0x78145124]\n"),
        ("41ff2e", "jmp far ptr [r14]\n"),
        ("f2ffe1", "jmp rcx\n"),
        ("e0fe", "loopne 0x401000\n"),
        ("0f05", "syscall \n"),
        ("90", "nop\n"),
        ("66660f1f840000000000", "nop word ptr [rax+rax*1]\n"),
        ("4889513800", "mov qword ptr [rcx+0x38], rdx\n"),
        ("", "(bad) \n"),
    ],
)
def test_text_is_as_the_original_has_it(code, text):
    from barnum.paths.texts import Texts

    assert Texts(64).text(bytes.fromhex(code), 0x401000) == text


def test_code_is_read_from_images_overlaid_by_records(tmp_path):
    from barnum.paths.code import Code, CodeReader, Piece, Records

    image = tmp_path / "image"
    image.write_bytes(bytes(range(64)))
    pieces = [Piece(image, 0, 16, 0x1000), Piece(image, 32, 16, 0x1010)]
    records = Records()
    for epoch, address, data in (
        (0, 0x1004, b"\xaa"),
        (0, 0x5FFF, b"\x01\x02"),
        (0, 0x6001, b"\x03"),
        (1, 0x1004, b"\xbb\xcc"),
    ):
        records.add(epoch, address, data)
    # what adjoins is one record
    assert [(record.epoch, record.address, bytes(record.data)) for record in records] == [
        (0, 0x1004, b"\xaa"),
        (0, 0x5FFF, b"\x01\x02\x03"),
        (1, 0x1004, b"\xbb\xcc"),
    ]
    reader = CodeReader(Code(64, pieces, records, []))
    assert reader.read(0x1000, 4) == bytes([0, 1, 2, 3])
    assert reader.read(0x1003, 4) == bytes([3, 0xBB, 0xCC, 6])
    assert reader.read(0x100E, 4) == bytes([14, 15, 32, 33])
    assert reader.read(0x5FFF, 3) == b"\x01\x02\x03"
    assert reader.read(0x101E, 4) == b""
    assert reader.read(0xFFF, 2) == b""
    assert reader.read(0x9000, 1) == b""


def test_more_stretches_of_code_than_any_recording_has_are_refused(tmp_path, monkeypatch):
    import gzip
    import struct

    from barnum.errors import SampleError
    from barnum.paths import code

    def write(step: int) -> None:
        records = (struct.pack("<IIQ", 0, 1, step * index) + b"\x90" for index in range(100))
        (tmp_path / "code_0.gz").write_bytes(gzip.compress(b"BRNMCODE" + b"".join(records)))

    process = Process(0, MemoryMap.parse("1000-2000 r-xp 0 0:0 0 [vdso]\n"), tmp_path / "code_0.gz", 64)
    sample = Sample(tmp_path, Info("a", "benign"))
    monkeypatch.setattr(code, "MAX_RECORDS", 50)
    write(1)
    assert len(code.load_code(sample, process, tmp_path).records) == 1
    write(2)
    with pytest.raises(SampleError, match="more than 50 stretches of code"):
        code.load_code(sample, process, tmp_path)
