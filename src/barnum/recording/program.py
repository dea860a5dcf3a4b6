"""Which program a command line names, and whether it can be recorded on this machine."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

import msgspec

from barnum.errors import ProgramError
from barnum.files import absolute
from barnum.recording.elf import EXECUTABLE, SHARED, X86, X86_64, Elf, read_elf
from barnum.texts import printable

# as in the kernel: an interpreter may be a script itself, but only to this depth
_MAX_NESTING = 5
_MAX_LINE = 256


class Program(msgspec.Struct, frozen=True):
    """What is run for a program that the user named.

    Attributes:
        path: absolute path of the ELF file to run: the program, or the interpreter of a script.
        mode: 32 or 64 bit.
        arguments: those before the user's own: of a script, the argument of its interpreter and its path.
        name: argument zero of the program.
    """

    path: str
    mode: int
    arguments: tuple[str, ...]
    name: str


def find_program(name: str) -> Program:
    """Find a program as a shell does, and check that it can be recorded.

    A name without a slash is looked up in PATH. A script is run by its interpreter.

    Raises:
        ProgramError: it is missing, may not be run, is for another machine, would lose its privileges, or is
            a script whose interpreter is missing.
    """
    if not name or "\0" in name:
        raise ProgramError("the program's name is empty")
    if "/" in name:
        path = absolute(Path(name))
    else:
        executable = shutil.which(name)
        if executable is None:
            raise ProgramError(f"{printable(name)}: no such program in PATH: install it or give its path")
        path = absolute(Path(executable))
    return _resolve(path, (), name, _MAX_NESTING)


def _resolve(path: Path, arguments: tuple[str, ...], name: str, nesting: int) -> Program:
    shown = printable(str(path))
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise ProgramError(f"{shown}: no such program") from None
    except OSError as error:
        raise ProgramError(f"{shown}: cannot be read ({error.strerror}), and so not be recorded") from None
    try:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            raise ProgramError(f"{shown}: is no program file")
        if not os.access(path, os.X_OK):
            raise ProgramError(f"{shown}: may not be run: make it executable (chmod +x)")
        head = os.pread(descriptor, _MAX_LINE, 0)
        if head[:2] == b"#!":
            return _script(path, head, arguments, nesting)
        elf = read_elf(descriptor)
        if elf is None:
            raise ProgramError(f"{shown}: is neither an ELF program nor a script that begins with #!")
        _check_privileges(descriptor, mode, shown)
        return Program(str(path), _check_elf(elf, shown), arguments, name)
    finally:
        os.close(descriptor)


def _script(path: Path, head: bytes, arguments: tuple[str, ...], nesting: int) -> Program:
    shown = printable(str(path))
    if nesting == 0:
        raise ProgramError(f"{shown}: is a script of a script of a script: name the interpreter itself")
    words = os.fsdecode(head.split(b"\n", 1)[0][2:]).strip(" \t").split(None, 1)
    if not words:
        raise ProgramError(f"{shown}: its first line names no interpreter: correct it")
    interpreter = Path(words[0])
    if not interpreter.is_file():
        raise ProgramError(
            f"{shown}: its interpreter {printable(words[0])} is missing: install it or correct the first line"
        )
    # the kernel passes the rest of the line as one argument
    option = tuple(word.rstrip(" \t") for word in words[1:])
    return _resolve(absolute(interpreter), (*option, str(path), *arguments), words[0], nesting - 1)


def _check_privileges(descriptor: int, mode: int, shown: str) -> None:
    if mode & stat.S_ISUID or (mode & stat.S_ISGID and mode & stat.S_IXGRP):
        kind = "setuid" if mode & stat.S_ISUID else "setgid"
        raise ProgramError(
            f"{shown}: is {kind}; it would lose its privileges while recorded: use a plain copy"
        )
    try:
        os.getxattr(descriptor, "security.capability")
    except OSError:
        return  # it has none, or the file system knows none
    raise ProgramError(
        f"{shown}: has file capabilities; it would lose its privileges while recorded: use a plain copy"
    )


def _check_elf(elf: Elf, shown: str) -> int:
    modes = {(X86_64, 64): 64, (X86, 32): 32}
    mode = modes.get((elf.machine, elf.bits))
    if mode is None:
        machine = "x32" if elf.machine == X86_64 else elf.machine_name
        raise ProgramError(
            f"{shown}: is built for {machine}; programs for x86-64 and 32-bit x86 can be recorded"
        )
    if elf.type not in (EXECUTABLE, SHARED) or elf.entry == 0 or not elf.segments:
        raise ProgramError(f"{shown}: is an ELF file, but no program (a library or an object file)")
    if elf.interpreter is not None and not Path(elf.interpreter).is_file():
        hint = "install libc6-i386" if mode == 32 else "install it"
        raise ProgramError(f"{shown}: its loader {printable(elf.interpreter)} is missing: {hint}")
    return mode
