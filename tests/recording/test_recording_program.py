"""Programs that cannot be recorded: one clear line and the right exit code each."""

import os
import shutil
import struct
from pathlib import Path

import pytest

from barnum.errors import ProgramError
from barnum.recording import Program, find_program
from barnum.recording.run import original_environment
from recording import compile_c, document, elf_header, executable, trace


def _refused(folder, program, code, *words):
    """The command refuses: this exit code, one line with these words, and no sample."""
    done = trace(folder, "--benign", document(folder), "--", program, "{}")
    assert done.returncode == code, done.stderr
    assert done.stderr.startswith("barnum: ")
    assert done.stderr.count("\n") == 1
    for word in words:
        assert word in done.stderr
    assert not (folder / "traces").exists()


def test_missing(tmp_path):
    _refused(tmp_path, "no-such-program-anywhere", 14, "no such program in PATH")
    _refused(tmp_path, "./missing", 14, "missing: no such program")


def test_not_executable(tmp_path):
    executable(tmp_path / "plain", "#!/bin/sh\n", 0o644)
    _refused(tmp_path, "./plain", 14, "make it executable")


def test_a_folder(tmp_path):
    _refused(tmp_path, "/usr", 14, "is no program file")


@pytest.mark.parametrize(("mode", "word"), [(0o4755, "setuid"), (0o2755, "setgid")])
def test_privileged(tmp_path, mode, word):
    program = tmp_path / "program"
    shutil.copy("/usr/bin/cat", program)
    program.chmod(mode)
    _refused(tmp_path, program, 14, f"is {word}", "lose its privileges")


def test_file_capabilities(tmp_path, monkeypatch):
    program = tmp_path / "program"
    shutil.copy("/usr/bin/cat", program)
    try:
        # version 2, effective: cap_net_raw
        os.setxattr(program, "security.capability", struct.pack("<5I", 0x02000001, 1 << 13, 0, 0, 0))
    except OSError:
        # giving capabilities takes more rights than the tests have
        monkeypatch.setattr(os, "getxattr", lambda *_: b"\1\0\0\2")
        with pytest.raises(ProgramError, match="file capabilities"):
            find_program(str(program))
    else:
        _refused(tmp_path, program, 14, "file capabilities", "lose its privileges")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (elf_header(machine=183), "AArch64"),
        (elf_header(machine=243), "RISC-V"),
        (elf_header(machine=0x1234), "machine number 4660"),
        (elf_header(machine=62, bits=32), "x32"),
        (elf_header(interpreter="/lib/no-such-loader.so.2"), "no-such-loader.so.2 is missing"),
        (elf_header(3, 32, "/lib/no-such-loader.so.2"), "install libc6-i386"),
        (elf_header()[:100], "neither an ELF program nor a script"),
        (b"", "neither an ELF program nor a script"),
        (b"echo hello\n", "neither an ELF program nor a script"),
        (b"#!/no/such/interpreter -x\n", "its interpreter /no/such/interpreter is missing"),
        (b"#!\n", "names no interpreter"),
        (b"#!/usr\n", "its interpreter /usr is missing"),
    ],
)
def test_what_is_no_program_here(tmp_path, content, words):
    program = executable(tmp_path / "program", content)
    _refused(tmp_path, program, 14, words)


def test_a_library_is_no_program(tmp_path):
    library = compile_c(tmp_path, "int f(void) { return 1; }", "-shared", "-fPIC", "-nostdlib", name="lib.so")
    _refused(tmp_path, library, 14, "no program")


def test_scripts_of_scripts(tmp_path):
    before = "/bin/sh"
    for number in range(6):
        script = executable(tmp_path / f"script{number}", f"#!{before} -{number} and more \n")
        before = str(script)
        if number < 4:
            found = find_program(before)
            assert found.path == "/bin/sh"
            assert found.arguments[:2] == ("-0 and more", f"{tmp_path}/script0")
            assert found.arguments[-1] == before
    with pytest.raises(ProgramError, match="a script of a script"):
        find_program(before)


def test_finds_programs_as_a_shell_does(tmp_path, monkeypatch):
    program = executable(tmp_path / "mine", elf_header())
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    assert find_program("mine") == Program(str(program), 64, (), "mine")
    assert find_program("./mine") == Program(str(program), 64, (), "./mine")
    assert find_program("cat").path.endswith("/cat")
    executable(tmp_path / "mine", elf_header(3, 32))
    assert find_program("mine").mode == 32


def test_environment_has_nothing_of_ours(monkeypatch):
    monkeypatch.setenv("QEMU_STRACE", "1")
    monkeypatch.setenv("LC_CTYPE", "C.UTF-8")
    monkeypatch.setenv("LC_ALL", "C")
    found = original_environment()
    assert "QEMU_STRACE" not in found
    # set after this process began, as python does in the C locale
    ours = Path("/proc/self/environ").read_bytes().split(b"\0")
    assert ("LC_CTYPE" in found) == any(entry.startswith(b"LC_CTYPE=") for entry in ours)
    assert found["LC_ALL"] == "C"
