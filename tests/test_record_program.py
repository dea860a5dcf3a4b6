"""Programs and recorders that cannot be used: one clear line and the right exit code each."""

import importlib.util
import os
import shutil
import struct
from pathlib import Path

import pytest

from barnum.errors import EngineError, ProgramError
from barnum.record import EngineFiles, Program, find_engine, find_program
from barnum.record.engine import Start, command_line
from barnum.record.run import original_environment
from recording import compile_c, document, elf_header, executable, trace, without_program


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


def _fake_qemu(folder, help_text="-plugin", version="7.2.22"):
    for name in ("qemu-x86_64", "qemu-i386"):
        answer = f'case "$1" in -h) echo "usage: {help_text} x";; *) echo "qemu version {version}";; esac'
        executable(folder / name, f"#!/bin/sh\n{answer}\n")


def test_emulator_missing(tmp_path):
    env = without_program(tmp_path / "bin", "cat")
    done = trace(tmp_path, "--benign", document(tmp_path), "--", "cat", "{}", env=env)
    assert done.returncode == 15
    assert "qemu-x86_64 is missing" in done.stderr
    assert "make setup" in done.stderr


def test_emulator_for_32_bit_missing(tmp_path):
    program = executable(tmp_path / "program", elf_header(3, 32))
    env = without_program(tmp_path / "bin", "qemu-x86_64")
    done = trace(tmp_path, "--benign", document(tmp_path), "--", program, "{}", env=env)
    assert done.returncode == 15
    assert "qemu-i386 is missing" in done.stderr


@pytest.mark.parametrize(
    ("help_text", "version", "words"),
    [
        ("-cpu", "7.2.22", "without plugins"),
        ("-plugin", "10.0.2", "is version 10.0, too new"),
        ("-plugin", "8.2.0", "is version 8.2, too new"),
        ("-plugin", "5.2.0", "is version 5.2, too old"),
        ("-plugin", "of something", "does not tell its version"),
    ],
)
def test_emulator_that_does_not_fit(tmp_path, help_text, version, words):
    env = without_program(tmp_path / "bin", "cat", "sh")
    _fake_qemu(tmp_path / "bin", help_text, version)
    done = trace(tmp_path, "--benign", document(tmp_path), "--", "cat", "{}", env=env)
    assert done.returncode == 15
    assert words in done.stderr
    assert done.stderr.count("\n") == 1


def test_emulator_that_does_not_start_the_program(tmp_path):
    env = without_program(tmp_path / "bin", "cat", "sh")
    _fake_qemu(tmp_path / "bin")
    done = trace(tmp_path, "--benign", document(tmp_path), "--", "cat", "{}", env=env)
    assert done.returncode == 15
    assert "did not start /" in done.stderr
    assert list((tmp_path / "traces").iterdir()) == []


def test_plugin_missing(tmp_path, monkeypatch):
    class Spec:
        origin = str(tmp_path / "_native.so")

    monkeypatch.setattr(importlib.util, "find_spec", lambda _: Spec())
    with pytest.raises(EngineError, match=r"plugin is missing .*recorder\.so"):
        find_engine()


def test_processor_model(tmp_path):
    done = trace(tmp_path, "--benign", "--cpu", "nonsense", document(tmp_path), "--", "cat", "{}")
    assert done.returncode == 15
    assert "processor model 'nonsense' is unknown" in done.stderr
    assert find_engine("max").cpu_of(64) == "max"
    assert find_engine("Haswell,-avx2").cpu_of(32) == "Haswell,-avx2"


def test_commas_in_paths_are_doubled(tmp_path):
    engine = EngineFiles({64: "/q,64"}, "7.2", "/plug,in=.so", "Haswell,-avx2")
    program = Program("/bin/sh", 64, ("-e", "/script"), "script")
    command = command_line(engine, program, ["x,y"], tmp_path / "a,b", Start("open", 5, 6), 100)
    at = command.index("-plugin")
    assert command[:at] == ["/q,64", "-cpu", "Haswell,-avx2"]
    assert command[at + 2 :] == ["-0", "script", "/bin/sh", "-e", "/script", "x,y"]
    options = command[at + 1].replace(",,", "\0").split(",")
    assert options[0] == "file=/plug\0in=.so"
    assert f"dir={tmp_path}/a\0b" in options
    assert "cpu=Haswell\0-avx2" in options
    assert {"start=open", "dev=5", "ino=6", "max=100", "parent=-1", "log=0"} <= set(options)


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
