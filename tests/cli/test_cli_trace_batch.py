"""`barnum trace` on many inputs: a run that goes wrong, or does wrong, does not end the others."""

import os
import subprocess

import pytest

from recording import BARNUM, LIKE_A_USER, document, elf_header, executable, samples, trace

_BAD = 'read line < $1; if [ "$line" = bad ]; then %s; fi'


def _batch(folder, harm, *options):
    """Record an input on which the program does harm, and after it one on which it does not."""
    files = [document(folder, name, name) for name in ("bad", "good")]
    return trace(folder, "--benign", *options, *files, "--", "sh", "-c", _BAD % harm, "sh", "{}")


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        ("rm ../raw/process_0", "the recorder left no file"),
        ("rm -r ../raw", "the recorder left no file"),
        ("rm -r ../new", "its work folder was changed"),
        ("rm -r ../../*.part", "the recorder left no file"),
        (
            r"printf '\002' | dd of=../raw/stream_0 bs=1 seek=36 conv=notrunc 2> /dev/null",
            "no room on the disk",
        ),
    ],
)
def test_a_program_that_spoils_its_own_recording(tmp_path, harm, words):
    done = _batch(tmp_path, harm, "--start", "exec")
    assert done.returncode == 22, done.stderr
    assert words in done.stderr
    assert "bad: " in done.stderr
    assert "Traceback" not in done.stderr
    assert [sample.name for sample in samples(tmp_path)] == ["good"]
    assert len(list((tmp_path / "traces").iterdir())) == 1


def test_so_little_time_that_nothing_begins(tmp_path):
    files = [document(tmp_path, name, name) for name in "ab"]
    done = trace(tmp_path, "--benign", "--timeout", "0.000001", *files, "--", "sh", "-c", "sleep 600", "{}")
    assert done.returncode == 22, done.stderr
    # on a busy machine the emulator may get further than this one, which ends it
    early = done.stderr.count(
        "the run was ended after 1e-06 seconds, before recording could begin: give it more"
    )
    late = done.stderr.count(
        "the program never opened it within 1e-06 seconds, so nothing was recorded: give it more"
    )
    assert early + late == 2, done.stderr
    assert list((tmp_path / "traces").iterdir()) == []


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        ("rm ../raw/stream_0", "1 files of kind stream are gone"),
        ("rm ../raw/maps_0", "the memory map of process 0 was broken"),
        ("mv ../raw/code_0 ../raw/other", "the code of process 0 that lies in no file"),
    ],
)
def test_a_program_that_spoils_part_of_its_recording(tmp_path, harm, words):
    done = _batch(tmp_path, harm, "--start", "exec")
    assert done.returncode == 0, done.stderr
    bad, good = sorted(samples(tmp_path), key=lambda sample: sample.name)
    assert any(words in sentence for sentence in bad.meta.lost)
    assert good.meta.lost == ()


@pytest.mark.parametrize("bits", [32, 64])
def test_a_program_that_the_emulator_cannot_load_is_no_broken_recorder(tmp_path, bits):
    # its only segment goes to an address that no program may have
    image = bytearray(elf_header(3 if bits == 32 else 62, bits))
    image[60 if bits == 32 else 80 : 64 if bits == 32 else 88] = b"\xf0" * (4 if bits == 32 else 8)
    program = executable(tmp_path / "program", bytes(image))
    files = [document(tmp_path, name, name) for name in "ab"]
    done = trace(tmp_path, "--benign", "--start", "exec", *files, "--", program, "{}")
    assert done.returncode == 22, done.stderr
    assert "Traceback" not in done.stderr


def test_a_name_that_is_too_long(tmp_path):
    for name in ("x" * 5000, f"/{'y/' * 4000}z"):
        done = trace(tmp_path, "--benign", name, "--", "cat", "{}")
        assert done.returncode == 10
        assert "cannot be read (File name too long)" in done.stderr
        assert len(done.stderr.splitlines()[-1]) < 600
        assert "Traceback" not in done.stderr


def test_a_folder_that_is_closed(tmp_path):
    closed = tmp_path / "closed"
    closed.mkdir(0)
    done = trace(tmp_path, "--benign", closed / "file", "--", "cat", "{}", prefix=LIKE_A_USER)
    assert done.returncode == 10
    assert "cannot be read (Permission denied)" in done.stderr


def test_a_program_that_fills_the_disk_for_a_while(tmp_path):
    """What it wrote goes with its work folder: the next run has room again."""
    files = [document(tmp_path, name, name) for name in ("bad", "good")]
    disk = tmp_path / "disk"
    disk.mkdir()
    harm = "head -c 100m /dev/zero > filler 2> /dev/null; /bin/true"
    own = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", "--mount"]
    run = (
        f"mount -t tmpfs -o size=24m tmpfs {disk} || exit 99; cd {disk}; {BARNUM} trace --benign "
        f"{files[0]} {files[1]} -- sh -c '{_BAD % harm}' sh {{}}; code=$?; cat traces/*/info.txt; exit $code"
    )
    done = subprocess.run([*own, "sh", "-c", run], capture_output=True, text=True, timeout=120, check=False)
    if done.returncode in (1, 99):
        pytest.skip("no file system can be mounted here")
    assert done.returncode in (0, 22), done.stdout + done.stderr
    assert "good\nbenign\n" in done.stdout
    assert "Traceback" not in done.stderr
