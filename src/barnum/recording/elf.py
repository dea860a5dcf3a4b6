"""The part of ELF that recording needs: the machine that a file is for, its interpreter, its segments."""

from __future__ import annotations

import os
import struct

import msgspec

PAGE = 4096
X86_64 = 62
X86 = 3
EXECUTABLE = 2
SHARED = 3

_PT_LOAD = 1
_PT_INTERP = 3
_MAX_SEGMENTS = 512

# names for messages; anything else is shown by number
MACHINES = {
    2: "SPARC",
    X86: "x86 (32-bit)",
    8: "MIPS",
    20: "PowerPC",
    21: "PowerPC64",
    22: "S/390",
    40: "ARM",
    X86_64: "x86-64",
    183: "AArch64",
    243: "RISC-V",
    258: "LoongArch",
}


class Segment(msgspec.Struct, frozen=True):
    """A PT_LOAD segment: ``file_size`` bytes at ``offset`` go to ``address``, zeros follow up to ``size``."""

    address: int
    offset: int
    file_size: int
    size: int

    @property
    def first_page(self) -> int:
        """Address of the page that the segment begins in."""
        return self.address & -PAGE

    @property
    def first_page_offset(self) -> int:
        """File offset of that page."""
        return self.offset - (self.address & (PAGE - 1))


class Elf(msgspec.Struct, frozen=True):
    """What the header of an ELF file says.

    Attributes:
        bits: 32 or 64.
        machine: number of the machine (``e_machine``).
        type: ``e_type``; EXECUTABLE and SHARED can be programs.
        entry: address of the first instruction; 0 if there is none.
        interpreter: path of the loader; None if the file names none.
        segments: PT_LOAD segments, by address.
    """

    bits: int
    machine: int
    type: int
    entry: int
    interpreter: str | None
    segments: tuple[Segment, ...]

    @property
    def machine_name(self) -> str:
        """The machine in words."""
        return MACHINES.get(self.machine, f"machine number {self.machine}")


def read_elf(descriptor: int) -> Elf | None:
    """Read the header of an open file; None if it is no ELF file, or a broken one."""
    head = os.pread(descriptor, 64, 0)
    if len(head) < 52 or head[:4] != b"\x7fELF" or head[4] not in (1, 2) or head[5] not in (1, 2):
        return None
    order = "<" if head[5] == 1 else ">"
    bits = 64 if head[4] == 2 else 32
    if bits == 64 and len(head) < 64:
        return None
    file_type, machine = struct.unpack_from(order + "HH", head, 16)
    if bits == 64:
        entry, table = struct.unpack_from(order + "QQ", head, 24)
        entry_size, count = struct.unpack_from(order + "HH", head, 54)
    else:
        entry, table = struct.unpack_from(order + "II", head, 24)
        entry_size, count = struct.unpack_from(order + "HH", head, 42)
    wanted = 56 if bits == 64 else 32
    if count and (entry_size < wanted or count > _MAX_SEGMENTS or table >= 1 << 62):
        return None
    rows = os.pread(descriptor, entry_size * count, table) if count else b""
    if len(rows) != entry_size * count:
        return None
    interpreter = None
    segments = []
    for row in range(0, len(rows), entry_size or 1):
        if bits == 64:
            kind, _, offset, address, _, file_size, size = struct.unpack_from(order + "IIQQQQQ", rows, row)
        else:
            kind, offset, address, _, file_size, size = struct.unpack_from(order + "IIIIII", rows, row)
        if kind == _PT_INTERP and offset < 1 << 62 and file_size <= PAGE:
            name = os.pread(descriptor, file_size, offset)
            interpreter = os.fsdecode(name.split(b"\0", 1)[0])
        elif kind == _PT_LOAD and size:
            segments.append(Segment(address, offset, file_size, size))
    segments.sort(key=lambda segment: segment.address)
    return Elf(bits, machine, file_type, entry, interpreter, tuple(segments))


def program_that_does_nothing(mode: int) -> bytes:
    """The smallest ELF program of a mode (32, 64): it ends with status 0."""
    base = 0x400000
    head, row = (64, 56) if mode == 64 else (52, 32)
    # 64 bit: xor edi, edi; mov eax, 60 (exit); syscall. 32 bit: xor ebx, ebx; mov eax, 1 (exit); int 0x80
    code = bytes.fromhex("31ff b83c000000 0f05" if mode == 64 else "31db b801000000 cd80")
    size = head + row + len(code)
    entry = base + head + row
    identity = b"\x7fELF" + bytes([2 if mode == 64 else 1, 1, 1]) + bytes(9)
    machine = X86_64 if mode == 64 else X86
    start = struct.pack(
        "<HHIQQQIHHHHHH" if mode == 64 else "<HHIIIIIHHHHHH",
        EXECUTABLE, machine, 1, entry, head, 0, 0, head, row, 1, 0, 0, 0,
    )  # fmt: skip
    if mode == 64:
        segment = struct.pack("<IIQQQQQQ", _PT_LOAD, 5, 0, base, base, size, size, PAGE)
    else:
        segment = struct.pack("<IIIIIIII", _PT_LOAD, 0, base, base, size, size, 5, PAGE)
    return identity + start + segment + code
