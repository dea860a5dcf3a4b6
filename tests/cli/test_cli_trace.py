"""`barnum trace` as a user meets it: the real command on real programs."""

import gzip
import hashlib
import json
import os
import signal
import subprocess
import time
from pathlib import Path

import msgspec
import numpy as np
import pytest

from barnum.paths import open_path
from barnum.paths.preprocess import Request, preprocess
from barnum.samples.owner import Owner
from recording import BARNUM, PSB, alive, compile_c, document, executable, samples, trace


def test_records_a_sample_folder(tmp_path):
    file = document(tmp_path, "some text\n")
    done = trace(tmp_path, "--benign", "-e", "first", "-e", "second", file, "--", "cat", "{}")
    assert done.returncode == 0, done.stderr
    assert "recorded 1, skipped 0, failed 0 of 1" in done.stdout
    folder = tmp_path / "traces" / hashlib.sha256(b"some text\n").hexdigest()
    assert sorted(entry.name for entry in folder.iterdir()) == [
        "effects.json",
        "info.txt",
        "mapping.txt.gz",
        "meta.json",
        "trace_0.gz",
    ]
    assert (folder / "info.txt").read_text() == "document.txt\nbenign\nfirst\nsecond\n"
    assert gzip.decompress((folder / "trace_0.gz").read_bytes()).startswith(PSB)
    meta = json.loads((folder / "meta.json").read_text())
    assert meta["command"] == ["cat", "{}"]
    assert meta["engine"]["program"] == "qemu-x86_64"
    assert meta["engine"]["cpu"] == "qemu64"
    assert meta["start"] == "open"
    assert meta["exit"] == {"status": 0}
    assert meta["streams"][0]["bytes"] == len(gzip.decompress((folder / "trace_0.gz").read_bytes()))
    assert meta["processes"][0]["program"] == "/usr/bin/cat"
    assert meta["lost"] == []
    [sample] = samples(tmp_path)
    [process] = sample.processes(tmp_path / "extract")
    names = {module.name for module in process.mapping.modules}
    assert {"cat", "libc.so.6", "ld-linux-x86-64.so.2"} <= names
    for module in process.mapping.modules:
        image = sample.image_path(module, tmp_path / "extract")
        # the vDSO of newer emulators lies in no file
        assert (image is None) == (module.path == "[vdso]")
        if image is None:
            continue
        assert hashlib.sha256(image.read_bytes()).hexdigest() == sample.meta.images[module.path].sha256
        assert image.stat().st_size == module.end - module.base
    assert not [entry for entry in (tmp_path / "traces").iterdir() if entry.name != folder.name]


def test_image_is_the_file_as_it_lies_in_memory(tmp_path):
    trace(tmp_path, "--benign", document(tmp_path), "--", "cat", "{}")
    program = Path("/usr/bin/cat").read_bytes()
    image = (tmp_path / "extract" / "cat").read_bytes()
    # the first segment begins with the header, at the module's base
    assert image[:0x1000] == program[:0x1000]
    [sample] = samples(tmp_path)
    [process] = sample.processes(tmp_path / "extract")
    [module] = [module for module in process.mapping.modules if module.name == "cat"]
    for region in module.regions:
        if region.executable:
            at = region.start - module.base
            assert image[at : at + 64] == program[region.offset : region.offset + 64]


def test_start_exec_records_start_up_code(tmp_path):
    file = document(tmp_path)
    trace(tmp_path, "--benign", "-o", "a/traces", file, "--", "cat", "{}")
    trace(tmp_path, "--benign", "-o", "b/traces", "--start", "exec", file, "--", "cat", "{}")
    opened, whole = (samples(tmp_path / name)[0].meta.streams[0].bytes for name in "ab")
    assert whole > 3 * opened


# of the vDSO: newer emulators have one for programs
CLOCKS = (
    "#include <sys/time.h>\n#include <time.h>\n"
    "int main(void) { struct timeval a; struct timespec b; time_t c;"
    " return gettimeofday(&a, 0) | clock_gettime(CLOCK_MONOTONIC, &b) | (time(&c) < 0); }"
)


@pytest.mark.parametrize("bits", [64, 32])
def test_two_runs_take_the_same_path(tmp_path, bits):
    # addresses may differ, as newer emulators choose them anew each time
    file = document(tmp_path)
    program = compile_c(tmp_path, CLOCKS, f"-m{bits}")
    found = []
    for output in ("a", "b"):
        command = ("--start", "exec", file, "--", program, "{}")
        done = trace(tmp_path, "--benign", "-o", f"{output}/traces", *command)
        assert done.returncode == 0, done.stderr
        [sample] = samples(tmp_path / output)
        parsed = tmp_path / f"{output}.parquet"
        preprocess(Request(folder=str(sample.folder), bin_dir=str(tmp_path / "extract"), output=str(parsed)))
        path = open_path(parsed).read()
        found.append((path.blocks.bbid[path.block], set(path.blocks.modules)))
    assert len(found[0][0]) > 1_000
    assert np.array_equal(found[0][0], found[1][0])
    assert found[0][1] == found[1][1]


def test_skips_what_is_recorded_and_what_has_the_same_content(tmp_path):
    file = document(tmp_path)
    twin = document(tmp_path, name="twin.txt")
    done = trace(tmp_path, "--benign", file, twin, "--", "cat", "{}")
    assert done.returncode == 0
    assert "recorded 1, skipped 1, failed 0 of 2" in done.stdout
    assert "has the same content as" in done.stderr
    before = (samples(tmp_path)[0].folder / "meta.json").stat().st_ino
    done = trace(tmp_path, "--benign", file, "--", "cat", "{}")
    assert done.returncode == 0
    assert "recorded 0, skipped 1" in done.stdout
    assert "is recorded already" in done.stderr
    assert (samples(tmp_path)[0].folder / "meta.json").stat().st_ino == before


def test_force_replaces_the_sample_and_what_was_made_of_it(tmp_path):
    file = document(tmp_path)
    trace(tmp_path, "--benign", file, "--", "cat", "{}")
    folder = samples(tmp_path)[0].folder
    (folder / "trace_parsed.gz").write_bytes(b"old")
    done = trace(tmp_path, "--malicious", "--force", file, "--", "cat", "{}")
    assert done.returncode == 0, done.stderr
    assert samples(tmp_path)[0].label == "malicious"
    assert not (folder / "trace_parsed.gz").exists()
    assert [entry.name for entry in (tmp_path / "traces").iterdir()] == [folder.name]


def test_force_keeps_the_old_sample_when_the_new_run_fails(tmp_path):
    file = document(tmp_path)
    trace(tmp_path, "--benign", file, "--", "cat", "{}")
    done = trace(tmp_path, "--benign", "--force", file, "--", "cat", "/dev/null", "--help={}")
    assert done.returncode == 23
    assert samples(tmp_path)[0].meta.command == ("cat", "{}")


def test_the_other_label_is_refused(tmp_path):
    file = document(tmp_path)
    trace(tmp_path, "--benign", file, "--", "cat", "{}")
    done = trace(tmp_path, "--malicious", file, "--", "cat", "{}")
    assert done.returncode == 16
    assert "is recorded as benign already" in done.stderr
    assert samples(tmp_path)[0].label == "benign"


def test_without_a_label_it_is_unknown(tmp_path):
    file = document(tmp_path)
    trace(tmp_path, file, "--", "cat", "{}")
    assert samples(tmp_path)[0].label == "unknown"
    # what is known now contradicts what is there; to know nothing contradicts no label
    done = trace(tmp_path, "--benign", file, "--", "cat", "{}")
    assert done.returncode == 16
    assert "is recorded as unknown already" in done.stderr
    (info,) = (tmp_path / "traces").glob("*/info.txt")
    info.write_text(info.read_text().replace("unknown", "malicious"))
    done = trace(tmp_path, file, "--", "cat", "{}")
    assert done.returncode == 0
    assert "recorded 0, skipped 1" in done.stdout
    assert samples(tmp_path)[0].label == "malicious"


def test_folder_stands_for_its_files(tmp_path):
    folder = tmp_path / "documents"
    (folder / "inner").mkdir(parents=True)
    for name in ("b", "a", "c"):
        document(folder, name, name)
    document(folder / "inner", "not this", "d")
    done = trace(tmp_path, "--benign", "--jobs", 2, folder, "--", "cat", "{}")
    assert done.returncode == 0, done.stderr
    assert sorted(sample.name for sample in samples(tmp_path)) == ["a", "b", "c"]


def test_one_failing_input_does_not_stop_the_others(tmp_path):
    good = document(tmp_path, "good", "good.txt")
    bad = tmp_path / "missing.txt"
    done = trace(tmp_path, "--benign", bad, good, "--", "cat", "{}")
    assert done.returncode == 22
    assert "missing.txt: no such file" in done.stderr
    assert "1 of 2 inputs failed" in done.stderr
    assert [sample.name for sample in samples(tmp_path)] == ["good.txt"]


def test_never_opened_leaves_nothing(tmp_path):
    file = document(tmp_path)
    done = trace(tmp_path, "--benign", file, "--", "ls", "--no-such-option={}")
    assert done.returncode == 23
    assert "never opened it" in done.stderr
    assert "use --start exec" in done.stderr
    assert "no-such-option" in done.stderr  # the program's own words
    assert done.stderr.count("\n") == 2  # with the line of progress
    assert list((tmp_path / "traces").iterdir()) == []


def test_program_ends_with_a_status_or_by_a_signal(tmp_path):
    program = compile_c(
        tmp_path,
        """
        #include <fcntl.h>
        #include <stdio.h>
        #include <stdlib.h>
        #include <string.h>
        int main(int n, char **a) {
            open(a[1], O_RDONLY);
            fprintf(stderr, "my own words\\n");
            if (!strcmp(a[2], "crash")) *(volatile int *)0 = 1;
            return 3;
        }
        """,
    )
    file = document(tmp_path)
    assert trace(tmp_path, "--benign", file, "--", program, "{}", "no").returncode == 0
    meta = samples(tmp_path)[0].meta
    assert meta.exit.status == 3
    assert meta.stderr == "my own words\n"
    done = trace(tmp_path, "--benign", "-f", file, "--", program, "{}", "crash")
    assert done.returncode == 0
    assert samples(tmp_path)[0].meta.exit.signal == signal.SIGSEGV
    assert "ended by signal 11" in done.stderr


def test_timeout_keeps_what_was_recorded_and_kills_all(tmp_path):
    pids = tmp_path / "pids"
    script = f"echo $$ >> {pids}; setsid sh -c 'echo $$ >> {pids}; sleep 60' & cat $1; while :; do :; done"
    began = time.monotonic()
    done = trace(tmp_path, "--benign", "-t", 2, document(tmp_path), "--", "sh", "-c", script, "sh", "{}")
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - began < 30
    [sample] = samples(tmp_path)
    assert sample.meta.exit.timeout
    assert sample.meta.exit.signal == signal.SIGKILL
    assert any("ended after 2 seconds" in sentence for sentence in sample.meta.lost)
    assert sample.meta.streams[0].bytes > 100
    found = [int(pid) for pid in pids.read_text().split()]
    assert len(found) == 2
    assert not any(alive(pid) for pid in found)


def test_what_outlives_the_program_is_killed(tmp_path):
    pids = tmp_path / "pids"
    script = f"cat $1; setsid sh -c 'echo $$ >> {pids}; exec sleep 60' & exit 0"
    done = trace(tmp_path, "--benign", document(tmp_path), "--", "sh", "-c", script, "sh", "{}")
    assert done.returncode == 0, done.stderr
    assert any("outlived the program" in sentence for sentence in samples(tmp_path)[0].meta.lost)
    assert not any(alive(int(pid)) for pid in pids.read_text().split())


def test_max_size_stops_the_recording_not_the_program(tmp_path):
    file = document(tmp_path)
    done = trace(tmp_path, "--benign", "--start", "exec", "--max-size", "16K", file, "--", "ls", "{}")
    assert done.returncode == 0, done.stderr
    [sample] = samples(tmp_path)
    assert sample.meta.exit.status == 0
    assert sample.meta.streams[0].lost == "max-size"
    assert 8 << 10 < sample.meta.streams[0].bytes <= (16 << 10) + 64
    assert any("stopped at the size allowed" in sentence for sentence in sample.meta.lost)


def test_fork_and_exec_are_followed(tmp_path):
    script = "cat $1 | tr a-z A-Z | wc -c; ls / > /dev/null"
    done = trace(
        tmp_path, "--benign", "--start", "exec", document(tmp_path), "--", "sh", "-c", script, "sh", "{}"
    )
    assert done.returncode == 0, done.stderr
    [sample] = samples(tmp_path)
    assert sample.meta.children == len(sample.meta.processes) - 1 >= 8
    programs = {Path(process.program).name for process in sample.meta.processes}
    assert {"dash", "cat", "tr", "wc", "ls"} <= {"dash" if name == "sh" else name for name in programs}
    processes = sample.processes(tmp_path / "extract")
    by_program = {
        Path(meta.program).name: process
        for meta, process in zip(sample.meta.processes, processes, strict=True)
    }
    for name in ("cat", "tr", "wc", "ls"):
        assert name in {module.name for module in by_program[name].mapping.modules}
    assert {stream.process for stream in sample.meta.streams} == set(range(len(processes)))
    for process in sample.meta.processes[1:]:
        assert process.event in ("fork", "exec")
        assert process.parent is not None
        assert process.parent < process.index


def test_a_32_bit_program(tmp_path):
    program = compile_c(
        tmp_path,
        "#include <fcntl.h>\nint main(int n, char **a) { return open(a[1], O_RDONLY) < 0; }",
        "-m32",
        "-static",
    )
    done = trace(tmp_path, "--benign", document(tmp_path), "--", program, "{}")
    assert done.returncode == 0, done.stderr
    [sample] = samples(tmp_path)
    assert sample.meta.engine.program == "qemu-i386"
    assert sample.meta.engine.cpu == "qemu32"
    assert sample.meta.processes[0].exec_mode == 32


def test_a_script_runs_under_its_interpreter(tmp_path):
    script = executable(tmp_path / "script", '#!/bin/sh -e\nread line < "$1"\necho "$0 $line" >&2\nexit 4\n')
    done = trace(tmp_path, "--benign", document(tmp_path), "--", "./script", "{}")
    assert done.returncode == 0, done.stderr
    meta = samples(tmp_path)[0].meta
    assert meta.stderr == f"{script} one\n"
    assert meta.exit.status == 4


def test_the_input_itself_may_be_the_program(tmp_path):
    program = executable(tmp_path / "input", "#!/bin/sh\nexit 5\n")
    done = trace(tmp_path, "--malicious", "--start", "exec", program, "--", "{}")
    assert done.returncode == 0, done.stderr
    assert samples(tmp_path)[0].meta.exit.status == 5


def test_what_the_program_sees(tmp_path):
    script = 'exec >&2; read line < "$1"; pwd; ls -a; echo "$TMPDIR"; cat; echo $(env | cut -d= -f1)'
    env = {"PATH": os.environ["PATH"], "HOME": "/root", "MINE": "1", "QEMU_STRACE": "1"}
    done = trace(tmp_path, "--benign", document(tmp_path), "--", "sh", "-c", script, "sh", "{}", env=env)
    assert done.returncode == 0, done.stderr
    lines = samples(tmp_path)[0].meta.stderr.splitlines()
    assert lines[0].startswith(f"{tmp_path}/traces/")
    assert lines[1:3] == [".", ".."]
    assert lines[3] == lines[0].removesuffix("work") + "tmp"
    # the shell itself adds PWD, and `_` where it is bash
    assert set(lines[4].split()) - {"_"} == {"HOME", "MINE", "PATH", "PWD", "TMPDIR"}
    assert not Path(lines[3]).exists()


def test_output_is_shown_only_when_asked_for(tmp_path):
    file = document(tmp_path, "seen\n")
    done = trace(tmp_path, "--benign", file, "--", "cat", "{}")
    assert "seen" not in done.stdout + done.stderr
    done = trace(tmp_path, "--benign", "-f", "--show-output", file, "--", "cat", "{}")
    assert "seen" not in done.stdout
    assert "seen" in done.stderr


def test_runs_in_a_folder_of_choice(tmp_path):
    (tmp_path / "inner").mkdir()
    document(tmp_path / "inner", "here", "local.txt")
    done = trace(tmp_path, "--benign", "--cd", "inner", document(tmp_path), "--", "cat", "local.txt", "{}")
    assert done.returncode == 0, done.stderr
    assert samples(tmp_path)[0].meta.exit.status == 0


def test_same_name_other_content_is_kept_apart(tmp_path):
    source = "#include <fcntl.h>\nint main(int n, char **a) { open(a[1], O_RDONLY); return %d; }"
    for number in (1, 2):
        folder = tmp_path / str(number)
        folder.mkdir()
        program = compile_c(folder, source % number)
        file = document(tmp_path, str(number), f"{number}.txt")
        assert trace(tmp_path, "--benign", file, "--", program, "{}").returncode == 0
    one, other = sorted(samples(tmp_path), key=lambda sample: sample.name)
    first = one.meta.images[f"{tmp_path}/1/program"]
    second = other.meta.images[f"{tmp_path}/2/program"]
    assert first.file == "program"
    assert second.file == f"program.{second.sha256[:16]}"
    for image in (first, second):
        data = (tmp_path / "extract" / image.file).read_bytes()
        assert hashlib.sha256(data).hexdigest() == image.sha256
    # the shared ones are there once
    assert len(list((tmp_path / "extract").glob("libc.so*"))) == 1


def test_a_program_that_deletes_itself_keeps_its_code(tmp_path):
    program = compile_c(
        tmp_path,
        "#include <fcntl.h>\n#include <unistd.h>\n"
        "int main(int n, char **a) { unlink(a[0]); open(a[1], O_RDONLY); return 0; }",
    )
    done = trace(tmp_path, "--benign", "--start", "exec", document(tmp_path), "--", program, "{}")
    assert done.returncode == 0, done.stderr
    [sample] = samples(tmp_path)
    assert str(program) not in sample.meta.images
    assert sample.meta.processes[0].code == "code_0.gz"
    assert any("no image of" in sentence for sentence in sample.meta.lost)


def _start(folder: Path, *arguments: object) -> subprocess.Popen:
    return subprocess.Popen(
        [BARNUM, "trace", *map(str, arguments)],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def _wait_for(condition, seconds: float = 60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_keeps_the_finished_and_marks_the_unfinished(tmp_path, number):
    first, second = (document(tmp_path, name, name) for name in ("first", "second"))
    pids = tmp_path / "pids"
    script = f'read line < "$1"; [ "$line" = first ] || {{ echo $$ > {pids}; setsid sleep 60; }}'
    run = _start(tmp_path, "--benign", first, second, "--", "sh", "-c", script, "sh", "{}")
    _wait_for(lambda: pids.exists() and pids.read_text().strip())
    run.send_signal(number)
    output, errors = run.communicate(timeout=30)
    assert run.returncode == 130
    assert "recorded 1" in output
    assert errors.splitlines()[-1] == "barnum: interrupted"
    assert "Traceback" not in errors
    assert not alive(int(pids.read_text()))
    assert [sample.name for sample in samples(tmp_path)] == ["first"]
    part = tmp_path / "traces" / f"{hashlib.sha256(b'second').hexdigest()}.part"
    assert [entry.name for entry in part.iterdir()] == ["owner"]
    # the next run takes the unfinished one over
    done = trace(tmp_path, "--benign", first, second, "--", "cat", "{}")
    assert done.returncode == 0
    assert "recorded 1, skipped 1" in done.stdout
    assert not part.exists()


def test_killed_recorder_takes_its_run_along(tmp_path):
    pids = tmp_path / "pids"
    script = f'read line < "$1"; echo $$ > {pids}; sleep 60'
    run = _start(tmp_path, "--benign", document(tmp_path), "--", "sh", "-c", script, "sh", "{}")
    _wait_for(lambda: pids.exists() and pids.read_text().strip())
    run.kill()
    run.communicate(timeout=30)
    _wait_for(lambda: not alive(int(pids.read_text())))
    done = trace(tmp_path, "--benign", document(tmp_path), "--", "cat", "{}")
    assert "recorded 1" in done.stdout


def test_two_runs_share_a_tree(tmp_path):
    files = [document(tmp_path, name, name) for name in "abcd"]
    go = tmp_path / "go"
    script = f'read line < "$1"; while [ ! -e {go} ]; do sleep 0.1; done'
    command = ["--", "sh", "-c", script, "sh", "{}"]
    one = _start(tmp_path, "--benign", *files[:2], "-j", 2, *command)
    root = tmp_path / "traces"
    _wait_for(lambda: root.is_dir() and len(list(root.glob("*.part/raw/stream_0"))) == 2)
    other = _start(tmp_path, "--benign", *files, "-j", 4, *command)
    _wait_for(lambda: len(list(root.glob("*.part/raw/stream_0"))) == 4)
    go.touch()
    output, errors = other.communicate(timeout=60)
    assert other.returncode == 0, errors
    assert "recorded 2, skipped 2" in output
    assert f"process {one.pid} records it now" in errors
    output, errors = one.communicate(timeout=60)
    assert one.returncode == 0, errors
    assert "recorded 2, skipped 0" in output
    assert sorted(sample.name for sample in samples(tmp_path)) == ["a", "b", "c", "d"]
    assert len(list(root.iterdir())) == 4


def _gone() -> Owner:
    """A process of this machine that has ended."""
    return msgspec.structs.replace(Owner.mine(), pid=1, begun=99999999999)


@pytest.mark.parametrize(
    "elsewhere",
    [{"host": "elsewhere.example", "boot": "01234567-89ab-cdef-0123-456789abcdef"}, {"namespace": "12345"}],
    ids=["machine", "container"],
)
def test_unfinished_of_another_machine_is_left_alone(tmp_path, elsewhere):
    file = document(tmp_path)
    part = tmp_path / "traces" / f"{hashlib.sha256(b'one' + bytes([10])).hexdigest()}.part"
    part.mkdir(parents=True)
    owner = msgspec.structs.replace(_gone(), **elsewhere)
    (part / "owner").write_text(f"{owner.text()}\n")
    done = trace(tmp_path, "--benign", file, "--", "cat", "{}")
    assert done.returncode == 0
    assert f"on {owner.host} (another machine or container" in done.stderr
    assert part.is_dir()
    assert trace(tmp_path, "--benign", "--force", file, "--", "cat", "{}").returncode == 0
    assert len(samples(tmp_path)) == 1
    assert not part.exists()


@pytest.mark.parametrize("owner", ["", "broken", _gone().text()], ids=["empty", "broken", "gone"])
def test_stale_unfinished_is_taken_over(tmp_path, owner):
    part = tmp_path / "traces" / f"{hashlib.sha256(b'one' + bytes([10])).hexdigest()}.part"
    (part / "raw").mkdir(parents=True)
    (part / "owner").write_text(owner)
    done = trace(tmp_path, "--benign", document(tmp_path), "--", "cat", "{}")
    assert done.returncode == 0
    assert len(samples(tmp_path)) == 1
    assert not part.exists()


def test_full_disk_keeps_what_is_finished(tmp_path):
    """A full file system where one can be mounted; else a limit on the size of files: it fails alike."""
    files = [document(tmp_path, name, name) for name in ("first", "second")]
    disk = tmp_path / "disk"
    disk.mkdir()
    record = f"{BARNUM} trace --benign -o {disk}/traces --bin-dir {disk}/extract"
    run = f"""
        mount -t tmpfs -o size=8m tmpfs {disk} 2> /dev/null && mounted=yes
        {record} {files[0]} -- cat {{}} || exit 99
        if [ $mounted ]; then
            head -c 100m /dev/zero > {disk}/filler 2> /dev/null
        else
            rm -r {disk}/extract
            ulimit -f 64
        fi
        {record} {files[1]} -- cat {{}}
        code=$?
        echo left: $(ls {disk}/traces)
        exit $code
    """
    # in a mount namespace of its own, which goes with the test; without one nothing may be mounted
    own = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", "--mount"]
    if subprocess.run([*own, "true"], capture_output=True, check=False).returncode != 0:
        own = []
        run = f"mount() {{ false; }}\n{run}"
    done = subprocess.run([*own, "sh", "-c", run], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 17, done.stdout + done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("barnum: ")
    assert "no space left" in last or "file too large" in last or "disk is full" in last
    assert "Traceback" not in done.stderr
    assert f"left: {hashlib.sha256(b'first').hexdigest()}\n" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--benign", "--malicious", "IN", "--", "cat", "{}"], "--benign and --malicious exclude each other"),
        (["--benign", "--", "cat", "{}"], "at least one INPUT"),
        (["--benign", "IN"], "name the program after a --"),
        (["--benign", "IN", "--"], "name the program after a --"),
        (["--benign", "IN", "--", "cat"], "holds {}"),
        (["--benign", "-e", "two\nlines", "IN", "--", "cat", "{}"], "one line of text"),
        (["--benign", "--max-size", "lots", "IN", "--", "cat", "{}"], "is no size"),
        *(
            (["--benign", "--timeout", time, "IN", "--", "cat", "{}"], f"'{time}' is no time")
            for time in ("0", "-1", "nan", "inf", "1e999", "soon")
        ),
        (["--benign", "--jobs", "0", "IN", "--", "cat", "{}"], "jobs"),
        (["--benign", "--engine", "hardware", "IN", "--", "cat", "{}"], "engine"),
    ],
)
def test_usage(tmp_path, arguments, message):
    file = document(tmp_path)
    done = trace(tmp_path, *[file if word == "IN" else word for word in arguments])
    assert done.returncode == 2
    assert message in done.stderr
    assert not (tmp_path / "traces").exists()


def test_inputs_that_are_none(tmp_path):
    (tmp_path / "empty").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for name, message in (
        ("empty", "holds no file"),
        ("missing", "no such file"),
        ("pipe", "no regular file"),
    ):
        done = trace(tmp_path, "--benign", tmp_path / name, "--", "cat", "{}")
        assert done.returncode == 10
        assert message in done.stderr


def test_output_that_cannot_be_written(tmp_path):
    document(tmp_path, name="traces")
    done = trace(tmp_path, "--benign", document(tmp_path), "--", "cat", "{}")
    assert done.returncode == 17
    assert "cannot be made a folder" in done.stderr


def test_hostile_input_name(tmp_path):
    file = document(tmp_path, name="a,b\nmalicious\n\x1b[31m")
    done = trace(tmp_path, "--benign", file, "--", "cat", "{}")
    assert done.returncode == 0, done.stderr
    [sample] = samples(tmp_path)
    assert sample.label == "benign"
    assert sample.name == "a,b?malicious??[31m"
    assert "\x1b" not in done.stderr


def test_help_is_light():
    code = (
        "import sys\nfrom barnum.cli.main import cli\n"
        "try: cli(['trace', '--help'])\nexcept SystemExit: pass\n"
        "print([name for name in ('torch', 'sklearn', 'pyarrow', 'numpy') if name in sys.modules])"
    )
    import sys

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
