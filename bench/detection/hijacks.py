"""Small programs whose control flow a document can take over, by the ways that suites of attack forms list.

Each is compiled here, for 64 and 32 bit, without what would stop the attack (canaries, PIE, RELRO,
control-flow protection): it stands for a program in which that was got around. For each there are harmless
documents, drawn at random, and documents that hijack it and run /bin/true; addresses are taken from the
compiled program. Whether a document does what it should is tried natively.
"""

from __future__ import annotations

import random
import re
import struct
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

SOURCES = Path(__file__).parent / "hijacks"
FLAGS = (
    *("-O1", "-g0", "-w", "-fno-stack-protector", "-fno-omit-frame-pointer", "-fcf-protection=none"),
    *("-U_FORTIFY_SOURCE", "-fno-toplevel-reorder", "-Wl,-z,norelro", "-Wl,-z,lazy"),
)
BITS = (64, 32)
# a run that is taken over ends without its last line
LAST_LINE = b"total "
SECONDS = 10
# what the file at this path does nothing but end well
HELPER = "/bin/true"


class HijackError(Exception):
    """A program cannot be compiled, or a document does not do what it should."""


@dataclass(frozen=True)
class Program:
    """A compiled program: its file, its width, and what lies where in it."""

    name: str
    file: Path
    bits: int
    symbols: dict[str, int]
    stubs: dict[str, int] = field(default_factory=dict)  # where functions of libraries are called
    slots: dict[str, int] = field(default_factory=dict)  # their entries in the table of functions

    @property
    def word(self) -> int:
        """Bytes of a pointer."""
        return self.bits // 8

    def pack(self, *values: int) -> bytes:
        """Pointers."""
        return b"".join((value % (1 << self.bits)).to_bytes(self.word, "little") for value in values)

    @property
    def linked(self) -> int:
        """The address that the file is linked to begin at."""
        lines = (line.split() for line in output("readelf", "-lW", str(self.file)).splitlines())
        return min(int(words[2], 16) for words in lines if words[:1] == ["LOAD"]) & -4096

    def at(self, name: str) -> int:
        """The address of a symbol."""
        return self.symbols[name]

    def packed(self, *names: str) -> bytes:
        """The addresses of symbols."""
        return self.pack(*(self.at(name) for name in names))


@dataclass(frozen=True)
class Form:
    """A form of attack.

    Attributes:
        name: of the program's source.
        special: makes a harmless record of the program's own.
        hijack: makes records one of which takes the program over, likely ones first; and the symbol that the
            hijacking transfer leads to, None: code of the document.
        attacked: the function that goes astray, whose frame or pointer is overwritten, and its callers.
        flags: what the program is compiled with beside FLAGS.
        bits: for which widths there is an attack.
    """

    name: str
    special: Callable[[random.Random, Program], bytes]
    hijack: Callable[[Program], Iterator[tuple[bytes, str | None]]]
    attacked: tuple[str, ...] = ("special", "read_records")
    flags: tuple[str, ...] = ("-no-pie", "-fno-pie")
    bits: tuple[int, ...] = BITS
    suffix: str = ".c"


# programs


def compiled(form: Form, bits: int, folder: Path) -> Program:
    """Compile the program of a form into a folder.

    Raises:
        HijackError: the compiler cannot.
    """
    file = folder / f"{form.name}-{bits}"
    compiler = "g++" if form.suffix == ".cpp" else "gcc"
    source = SOURCES / f"{form.name}{form.suffix}"
    command = [compiler, f"-m{bits}", *FLAGS, *form.flags, "-o", str(file), str(source)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise HijackError(f"{source}: {done.stderr.strip()[:500]}")
    return Program(form.name, file, bits, _symbols(file), _stubs(file), _slots(file))


def output(*command: str) -> str:
    """What a command prints."""
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def _symbols(file: Path) -> dict[str, int]:
    lines = (line.split() for line in output("nm", str(file)).splitlines())
    return {words[2]: int(words[0], 16) for words in lines if len(words) == 3}


def _stubs(file: Path) -> dict[str, int]:
    found = re.finditer(r"^([0-9a-f]+) <(\w+)@plt>:", output("objdump", "-d", str(file)), re.MULTILINE)
    return {match[2]: int(match[1], 16) for match in found}


def _slots(file: Path) -> dict[str, int]:
    found = re.finditer(r"^([0-9a-f]+) R_\w+_JU?MP_SLOT\s+(\w+)", output("objdump", "-R", str(file)), re.M)
    return {match[2]: int(match[1], 16) for match in found}


# documents


def record(letter: str, data: bytes) -> bytes:
    """A record of a document."""
    return letter.encode() + struct.pack("<H", len(data)) + data


def _common(chance: random.Random) -> bytes:
    """A harmless record of a kind that all programs have."""
    letter = chance.choice("TTNCSU")
    size = chance.randrange(1, 60)
    if letter == "T":
        words = ("".join(chance.choices("abcdefgh", k=chance.randrange(1, 9))) for _ in range(size // 5 + 1))
        return record(letter, " ".join(words).encode())
    return record(letter, chance.randbytes(size))


def harmless(form: Form, program: Program, seed: int) -> bytes:
    """A harmless document."""
    chance = random.Random(f"{form.name} {seed}")
    parts = [_common(chance) for _ in range(chance.randrange(3, 13))]
    for _ in range(chance.randrange(1, 4)):
        parts.insert(chance.randrange(len(parts) + 1), record("X", form.special(chance, program)))
    return b"DOC1" + b"".join(parts)


def hijacking(form: Form, program: Program, seed: int = 0) -> tuple[bytes, str | None]:
    """A document that takes the program over, as was tried natively, and the symbol that the hijack leads to.

    Raises:
        HijackError: none does.
    """
    chance = random.Random(f"hijack {form.name} {seed}")
    before = b"".join(_common(chance) for _ in range(chance.randrange(3, 9)))
    for data, target in form.hijack(program):
        made = b"DOC1" + before + record("X", data)
        if taken_over(program, made):
            return made, target
    raise HijackError(f"{program.file.name}: no document takes it over")


def taken_over(program: Program, made: bytes) -> bool:
    """Whether a document makes the program run the helper, natively."""
    file = program.file.with_suffix(".doc")
    file.write_bytes(made)
    command = [
        "strace",
        "-f",
        "-qq",
        "-e",
        "trace=execve",
        "-o",
        f"{file}.strace",
        str(program.file),
        str(file),
    ]
    try:
        done = subprocess.run(command, check=False, capture_output=True, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        return False
    calls = Path(f"{file}.strace").read_text(errors="replace")
    return f'execve("{HELPER}"' in calls and LAST_LINE not in done.stdout


def ends_well(program: Program, made: bytes) -> bool:
    """Whether the program treats a document as harmless, natively."""
    file = program.file.with_suffix(".doc")
    file.write_bytes(made)
    done = subprocess.run([str(program.file), str(file)], check=False, capture_output=True, timeout=SECONDS)
    return done.returncode == 0 and done.stdout.splitlines()[-1:][0].startswith(LAST_LINE)
