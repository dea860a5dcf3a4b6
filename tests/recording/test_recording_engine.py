"""Which emulator records: where it is looked for, what is said where none fits, what it shows programs."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import lief
import pytest

from barnum.errors import EngineError
from barnum.recording import EngineFiles, Program, engine, find_engine, find_engines
from barnum.recording.engine import Start, command_line
from recording import compile_c, document, elf_header, executable, samples, trace, without_program

ROOT = Path(__file__).resolve().parents[2]


def fake(folder, version="7.2.22", flaw="", names=("qemu-x86_64", "qemu-i386")):
    """Emulators that answer what they are asked: of this version, with this flaw."""
    folder.mkdir(parents=True, exist_ok=True)
    usage = "" if flaw == "no plugins" else "-plugin"
    loads = f"echo 'recorder: {flaw or 'fits'}'" if usage else "echo unknown option; exit 1"
    answers = f'-h) echo "usage: {usage} x";; --version) echo "qemu version {version}";; -plugin) {loads};;'
    for name in names:
        executable(folder / name, f'#!/bin/sh\ncase "$1" in {answers} *) exit 7;; esac\n')
    return folder


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """A tree of sources in the place of ours, and a PATH without emulators."""
    tree = tmp_path / "tree"
    tree.mkdir()
    monkeypatch.setattr(engine, "_source_tree", lambda: tree)
    monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))
    monkeypatch.delenv("BARNUM_QEMU", raising=False)
    return tree


def found() -> Path:
    return Path(find_engine().qemu[64])


# --- where it is looked for


def test_the_tree_s_own_comes_before_path(tree, tmp_path, monkeypatch):
    fake(tmp_path / "bin")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert found() == tmp_path / "bin" / "qemu-x86_64"
    fake(tree / "build" / "qemu" / "bin")
    assert found() == tree / "build" / "qemu" / "bin" / "qemu-x86_64"
    assert [Path(each.qemu[64]).parent for each in find_engines()] == [
        tree / "build" / "qemu" / "bin",
        tmp_path / "bin",
    ]


def test_the_one_that_is_named_comes_before_all(tree, tmp_path, monkeypatch):
    fake(tree / "build" / "qemu" / "bin")
    folder = fake(tmp_path / "mine" / "bin", "10.0.13")
    for name in (folder, folder.parent, folder / "qemu-x86_64", folder / "qemu-i386"):
        monkeypatch.setenv("BARNUM_QEMU", str(name))
        assert find_engine().qemu == {64: str(folder / "qemu-x86_64"), 32: str(folder / "qemu-i386")}
        assert find_engine().version == "10.0.13"
    assert len(find_engines()) == 2
    # whoever names one does not want another
    monkeypatch.setenv("BARNUM_QEMU", str(fake(tmp_path / "old", "5.2.0")))
    with pytest.raises(EngineError, match=r"old/qemu-x86_64 is version 5\.2, too old: set BARNUM_QEMU to"):
        find_engine()
    monkeypatch.setenv("BARNUM_QEMU", "")
    assert found().is_relative_to(tree)


def test_what_does_not_fit_is_passed_over(tree, tmp_path, monkeypatch):
    fake(tree / "build" / "qemu" / "bin", flaw="this build of QEMU hides its page table")
    folders = [fake(tmp_path / "static", flaw="no plugins"), fake(tmp_path / "fits"), fake(tmp_path / "too")]
    monkeypatch.setenv("PATH", os.pathsep.join(map(str, folders)))
    assert found() == tmp_path / "fits" / "qemu-x86_64"


def test_a_folder_of_path_that_cannot_be_looked_into_is_passed_over(tree, tmp_path, monkeypatch):
    (tmp_path / "closed").mkdir(mode=0)
    folders = [tmp_path / ("a" * 300), tmp_path / "closed", tmp_path / "loop", fake(tmp_path / "bin")]
    folders[2].symlink_to("loop")
    monkeypatch.setenv("PATH", os.pathsep.join(map(str, folders)))
    assert found() == tmp_path / "bin" / "qemu-x86_64"
    monkeypatch.setenv("BARNUM_QEMU", str(folders[0]))
    with pytest.raises(EngineError, match=r"qemu-x86_64 is missing in .*: set BARNUM_QEMU to another"):
        find_engine()


def test_an_emulator_for_32_bit_that_does_not_fit_leaves_the_other(tree, tmp_path, monkeypatch):
    fake(tmp_path / "bin")
    fake(tmp_path / "bin", flaw="no plugins", names=("qemu-i386",))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    engine = find_engine()
    assert list(engine.qemu) == [64]
    with pytest.raises(EngineError, match=r"qemu-i386, .* is missing in \S+ or does not fit: run make setup"):
        engine.program_for(Program("/bin/old", 32, (), "old"))


# --- what is said where none fits


def test_all_that_do_not_fit_are_told_in_one_line(tree, tmp_path, monkeypatch):
    (tree / "build" / "qemu").mkdir(parents=True)
    folders = [fake(tmp_path / "static", "10.0.13", "no plugins"), fake(tmp_path / "new", "11.1.0")]
    monkeypatch.setenv("PATH", os.pathsep.join(map(str, folders)))
    with pytest.raises(EngineError) as told:
        find_engine()
    assert str(told.value) == (
        f"qemu-x86_64 is missing in {tree}/build/qemu; "
        f"{tmp_path}/static/qemu-x86_64 was built without plugins; "
        f"{tmp_path}/new/qemu-x86_64 is version 11.1, too new: run make setup in {tree}"
    )


@pytest.mark.parametrize(
    ("version", "flaw", "words"),
    [
        ("7.2.22", "no plugins", "was built without plugins"),
        ("10.0.13", "of no use", "does not load the recorder (recorder: of no use)"),
        ("11.0.0", "", "is version 11.0, too new"),
        ("5.2.0", "", "is version 5.2, too old"),
        ("of something", "", "does not tell its version (qemu version of something)"),
    ],
)
def test_emulator_that_does_not_fit(tree, tmp_path, monkeypatch, version, flaw, words):
    monkeypatch.setenv("PATH", str(fake(tmp_path / "bin", version, flaw)))
    with pytest.raises(EngineError) as told:
        find_engine()
    assert str(told.value) == f"{tmp_path}/bin/qemu-x86_64 {words}: run make setup in {tree}"


def test_emulator_that_does_not_run(tree, tmp_path, monkeypatch):
    (tmp_path / "bin").mkdir()
    executable(tmp_path / "bin" / "qemu-x86_64", b"\x7fELF of no kind")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with pytest.raises(EngineError, match=r"qemu-x86_64 does not run \(.*\): run make setup"):
        find_engine()


def test_where_there_is_no_tree_the_script_is_named(tree, monkeypatch):
    monkeypatch.setattr(engine, "_source_tree", lambda: None)
    with pytest.raises(EngineError) as told:
        find_engine()
    [script] = re.findall(r"run (\S+) in a tree", str(told.value))
    assert os.access(ROOT / script, os.X_OK)


def test_the_command_tells_it_in_one_line(tmp_path):
    env = without_program(tmp_path / "bin", "cat")
    done = trace(tmp_path, "--benign", document(tmp_path), "--", "cat", "{}", env=env)
    assert done.returncode == 15
    assert done.stderr.startswith(f"barnum: qemu-x86_64 is missing in {tmp_path}/bin: set BARNUM_QEMU to ")
    assert done.stderr.count("\n") == 1
    # as it says
    env["BARNUM_QEMU"] = find_engine().qemu[64]
    done = trace(tmp_path, "--benign", document(tmp_path), "--", "cat", "{}", env=env)
    assert done.returncode == 0, done.stderr


def test_emulator_for_32_bit_missing(tmp_path):
    program = executable(tmp_path / "program", elf_header(3, 32))
    env = without_program(tmp_path / "bin", "qemu-x86_64")
    done = trace(tmp_path, "--benign", document(tmp_path), "--", program, "{}", env=env)
    assert done.returncode == 15
    assert f"qemu-i386, which records {program}, is missing in {tmp_path}/bin" in done.stderr


def test_emulator_that_does_not_start_the_program(tmp_path):
    env = without_program(tmp_path / "bin", "cat", "sh")
    fake(tmp_path / "bin")
    done = trace(tmp_path, "--benign", document(tmp_path), "--", "cat", "{}", env=env)
    assert done.returncode == 15
    assert "did not start /" in done.stderr
    assert list((tmp_path / "traces").iterdir()) == []


def test_plugin_missing(tmp_path, monkeypatch):
    class Spec:
        origin = str(tmp_path / "_decoder.so")

    monkeypatch.setattr(importlib.util, "find_spec", lambda _: Spec())
    with pytest.raises(EngineError, match=r"plugin is missing .*recorder\.so"):
        find_engine()


def test_emulator_that_hides_what_the_recorder_needs(tmp_path, monkeypatch):
    whole = Path(find_engine().qemu[64])
    emulator = lief.ELF.parse(str(whole))
    for symbol in emulator.dynamic_symbols:
        if symbol.name == "guest_base":
            symbol.name = "other_base"
    (tmp_path / "bin").mkdir()
    emulator.write(str(tmp_path / "bin" / "qemu-x86_64"))
    (tmp_path / "bin" / "qemu-x86_64").chmod(0o755)
    # where it was fetched its libraries lie beside it
    if (whole.parents[1] / "lib" / "libcapstone.so.4").exists():
        (tmp_path / "lib").symlink_to(whole.parents[1] / "lib")
    monkeypatch.setenv("BARNUM_QEMU", str(tmp_path))
    with pytest.raises(EngineError, match="hides its page table: link it with --export-dynamic"):
        find_engine()


# --- the script that fetches one


def fetch(tree, packages, **env):
    """Run the script in a copy of the tree; apt-get gives out the packages in a folder."""
    if not (tree / "scripts").exists():
        shutil.copytree(ROOT / "scripts", tree / "scripts")
        (tree / "bin").mkdir()
        apt_get = 'for package; do :; done; echo "$*" >>"$CALLS"; [ "$package" = update ]'
        executable(tree / "bin" / "apt-get", f'#!/bin/sh\n{apt_get} || cp "$PACKAGES/$package"_*.deb .\n')
    return subprocess.run(
        ["sh", tree / "scripts" / "fetch-qemu.sh"],
        env={
            **os.environ,
            "PATH": f"{tree}/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "PYTHON": sys.executable,
            "PACKAGES": str(packages),
            "CALLS": str(tree / "calls"),
            "DEBIAN_MIRROR": "http://mirror.invalid/debian",
            **env,
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


# says what an emulator says that fits
ANSWERS = (
    "#include <stdio.h>\n#include <string.h>\n"
    "int main(int n, char **a) { if (n < 2) return 7;"
    ' if (!strcmp(a[1], "--version")) puts("qemu-x86_64 version 7.2.22");'
    ' if (!strcmp(a[1], "-plugin")) puts("recorder: fits"); return 0; }'
)


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    """A folder with a package of emulators."""
    folder = tmp_path_factory.mktemp("packages")
    content = folder / "content"
    (content / "DEBIAN").mkdir(parents=True)
    (content / "DEBIAN" / "control").write_text(
        "Package: qemu-user\nVersion: 1\nArchitecture: amd64\nMaintainer: us\nDescription: emulators\n"
    )
    (content / "usr" / "bin").mkdir(parents=True)
    program = compile_c(folder, ANSWERS)
    for name in ("qemu-x86_64", "qemu-i386"):
        shutil.copy(program, content / "usr" / "bin" / name)
    subprocess.run(["dpkg-deb", "-Znone", "--build", content, folder], check=True, stdout=subprocess.DEVNULL)
    return folder


def test_a_fetched_emulator_fits_and_is_fetched_once(tree, packages, monkeypatch):
    done = fetch(tree, packages)
    assert done.returncode == 0, done.stderr
    calls = (tree / "calls").read_text()
    assert calls.splitlines()[-2:] == ["-q -y update", "-q -y download qemu-user"]
    assert found() == tree / "build" / "qemu" / "bin" / "qemu-x86_64"
    assert sorted(find_engine().qemu) == [32, 64]
    # libraries that the system lacks are found beside it
    emulator = lief.ELF.parse(str(found()))
    paths = [row.rpath for row in emulator.dynamic_entries if row.tag == lief.ELF.DynamicEntry.TAG.RPATH]
    assert "$ORIGIN/../lib" in paths
    assert [entry.name for entry in (tree / "build").iterdir() if not entry.name.startswith(".")] == ["qemu"]
    assert fetch(tree, packages).returncode == 0
    assert (tree / "calls").read_text() == calls
    # but again where a part is gone
    found().with_name("qemu-i386").unlink()
    assert fetch(tree, packages).returncode == 0
    assert sorted(find_engine().qemu) == [32, 64]


def test_a_download_that_fails_leaves_what_was_there(tree, packages, tmp_path):
    before = fake(tree / "build" / "qemu" / "bin", flaw="no plugins")
    done = fetch(tree, tmp_path)
    assert done.returncode == 1
    assert "fetch-qemu: failed: apt-get download qemu-user of Debian; run this again" in done.stderr
    assert (before / "qemu-x86_64").read_text().startswith("#!/bin/sh")
    assert fetch(tree, packages).returncode == 0
    assert found() == before / "qemu-x86_64"


def test_where_no_server_is_known_one_is_asked_for(tree, packages):
    done = fetch(tree, packages, DEBIAN_MIRROR="")
    assert done.returncode == 1
    assert "apt knows no server of Debian here: set DEBIAN_MIRROR to one" in done.stderr
    # as it says
    assert fetch(tree, packages, DEBIAN_MIRROR="http://mirror.invalid/debian/").returncode == 0
    assert found().is_relative_to(tree)


# --- the processor


SHOWS_AVX2 = (
    "#include <fcntl.h>\n#include <stdio.h>\n"
    "int main(int n, char **a) { open(a[n - 1], O_RDONLY); __builtin_cpu_init();"
    ' fprintf(stderr, "%d-bit %d\\n", (int)sizeof(long) * 8, !!__builtin_cpu_supports("avx2")); return 0; }'
)


@pytest.mark.parametrize(
    ("options", "models", "avx2"), [((), ("qemu64", "qemu32"), 0), (("--cpu", "max"), ("max", "max"), 1)]
)
def test_a_program_sees_the_processor_that_meta_json_names(tmp_path, options, models, avx2):
    programs = {bits: compile_c(tmp_path, SHOWS_AVX2, f"-m{bits}", name=f"shows{bits}") for bits in (64, 32)}
    # each alone, and started by the other
    script = f"{programs[64]} $1; {programs[32]} $1"
    for number, (command, said, model) in enumerate(
        [
            ((programs[64], "{}"), f"64-bit {avx2}\n", models[0]),
            ((programs[32], "{}"), f"32-bit {avx2}\n", models[1]),
            (("sh", "-c", script, "sh", "{}"), f"64-bit {avx2}\n32-bit {avx2}\n", models[0]),
        ]
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        done = trace(folder, "--benign", *options, document(folder), "--", *command)
        assert done.returncode == 0, done.stderr
        [sample] = samples(folder)
        assert sample.meta is not None
        assert sample.meta.stderr == said
        assert sample.meta.engine.cpu == model


def test_processor_model(tmp_path):
    done = trace(tmp_path, "--benign", "--cpu", "nonsense", document(tmp_path), "--", "cat", "{}")
    assert done.returncode == 15
    assert "processor model 'nonsense' is unknown" in done.stderr
    assert find_engine("max").cpu_of(64) == "max"
    assert find_engine("Haswell,-avx2").cpu_of(32) == "Haswell,-avx2"


def test_commas_in_paths_are_doubled(tmp_path):
    files = EngineFiles({64: "/q,64"}, "7.2", "/plug,in=.so", "Haswell,-avx2")
    program = Program("/bin/sh", 64, ("-e", "/script"), "script")
    command = command_line(files, program, ["x,y"], tmp_path / "a,b", Start("open", 5, 6), 100)
    at = command.index("-plugin")
    assert command[:at] == ["/q,64", "-cpu", "Haswell,-avx2"]
    assert command[at + 2 :] == ["-0", "script", "/bin/sh", "-e", "/script", "x,y"]
    options = command[at + 1].replace(",,", "\0").split(",")
    assert options[0] == "file=/plug\0in=.so"
    assert f"dir={tmp_path}/a\0b" in options
    assert {"cpu64=Haswell\0-avx2", "cpu32=Haswell\0-avx2"} <= set(options)
    assert {"start=open", "dev=5", "ino=6", "max=100", "parent=-1", "log=0"} <= set(options)
