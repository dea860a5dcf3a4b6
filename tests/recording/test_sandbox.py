"""`barnum trace --sandbox`: programs that try to get out, and programs that should not notice."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from barnum.paths import open_path
from barnum.paths.preprocess import Request, preprocess
from barnum.recording import sandbox_state
from barnum.recording.engine import find_engine
from barnum.samples import Sample, open_samples
from recording import BARNUM, compile_c, document, samples, trace

ROOT = Path(__file__).parents[2]
ESCAPE = ROOT / "tests" / "programs" / "escape.c"
_STATE = sandbox_state()

pytestmark = pytest.mark.skipif(isinstance(_STATE, str), reason=f"no sandbox here: {_STATE}")


@pytest.fixture(scope="module")
def escape(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program that does what its document says."""
    program = tmp_path_factory.mktemp("escape") / "escape"
    subprocess.run(["cc", "-O1", "-o", program, ESCAPE], check=True, timeout=60)
    return program


def said(folder: Path, escape: Path, *attempts: object, options: tuple[object, ...] = ()) -> list[str]:
    """What became of each attempt; the recording of them is a whole sample that decodes."""
    sample = attempted(folder, escape, *attempts, options=options)
    assert sample.meta.exit.status == 0, sample.meta
    assert sample.meta.lost == ()
    lines = sample.meta.stderr.splitlines()
    assert len(lines) == len(attempts)
    return [line.partition(": ")[2] for line in lines]


def attempted(folder: Path, escape: Path, *attempts: object, options: tuple[object, ...] = ()) -> Sample:
    """The sample of a run that made attempts."""
    file = document(folder, "".join(f"{attempt}\n" for attempt in attempts), "attempts.txt")
    done = trace(folder, "--sandbox", "--malicious", *options, file, "--", escape, "{}")
    assert done.returncode == 0, done.stderr
    [sample] = samples(folder)
    assert decodes(folder, sample)
    return sample


def decodes(folder: Path, sample: Sample) -> bool:
    """Whether the sample becomes a path, without a loss."""
    parsed = folder / "parsed.parquet"
    report = preprocess(
        Request(folder=str(sample.folder), bin_dir=str(folder / "extract"), output=str(parsed))
    )
    return parsed.exists() and report.steps > 100 and not report.bytes_lost


def needed_in(folder: Path) -> set[str]:
    """Names in a folder that lead to what records: the program, Python, the recorder and the emulator."""
    places = [ROOT, Path(sys.prefix), Path(sys.base_prefix), Path(find_engine().qemu[64])]
    return {place.relative_to(folder).parts[0] for place in places if place.is_relative_to(folder)}


def test_of_the_users_files_the_input_alone_is_there(tmp_path, escape):
    secret = document(tmp_path, "secret\n", "secret.txt")
    home = Path.home()
    outcomes = said(
        tmp_path,
        escape,
        f"read {secret}",
        f"read {tmp_path}/attempts.txt",
        f"list {tmp_path}",
        f"list {home}",
        "list /home",
        "list /root",
        "list /srv",
        "read /etc/shadow",
        "list /var/lib",
        f"write {secret}",
        f"write {tmp_path}/attempts.txt",
        f"remove {tmp_path}/attempts.txt",
        f"rename {tmp_path}/attempts.txt",
        f"link {secret}",
        f"link {tmp_path}/attempts.txt",
    )
    assert outcomes[0] == "No such file or directory"
    assert "list /srv" in outcomes[1]
    assert outcomes[2] == "attempts.txt "
    for folder, listed in zip((home, Path("/home"), Path("/root")), outcomes[3:6], strict=True):
        assert listed == "No such file or directory" or set(listed.split()) <= needed_in(folder)
    assert outcomes[6:8] == ["No such file or directory"] * 2
    assert "dpkg" not in outcomes[8]
    assert outcomes[10:13] == ["Read-only file system", "Device or resource busy", "Device or resource busy"]
    assert outcomes[14] == "Read-only file system"
    assert secret.read_text() == "secret\n"
    assert (tmp_path / "attempts.txt").read_text().startswith("read ")


def test_nothing_of_the_system_can_be_written(tmp_path, escape):
    before = Path("/proc/sys/kernel/hostname").read_text()
    places = (
        "/escaped",
        "/usr/escaped",
        "/etc/escaped",
        "/dev/escaped",
        "/run/escaped",
        "/run/barnum/escaped",
    )
    settings = ("/proc/sys/kernel/hostname", "/proc/sysrq-trigger", "/proc/self/mem")
    outcomes = said(tmp_path, escape, *(f"write {place}" for place in (*places, *settings)))
    assert "done" not in outcomes
    assert outcomes[: len(places)] == ["Read-only file system"] * len(places)
    assert not any(Path(place).exists() for place in places)
    assert Path("/proc/sys/kernel/hostname").read_text() == before


def test_samples_and_images_are_out_of_reach(tmp_path, escape):
    trace(tmp_path, "--benign", document(tmp_path, "earlier\n"), "--", "cat", "{}")
    [earlier] = samples(tmp_path)
    meta = earlier.folder / "meta.json"
    content = meta.read_bytes()
    image = tmp_path / "extract" / "cat"
    # where it may read all that lies there, these two folders are hidden
    outcomes = said_last(
        tmp_path,
        escape,
        f"read {tmp_path}/document.txt",
        f"list {tmp_path}/traces",
        f"list {tmp_path}/extract",
        f"write {meta}",
        f"write {tmp_path}/traces/new",
        f"write {image}",
        f"link {meta}",
        options=("--readable", tmp_path),
    )
    assert outcomes[:3] == ["earlier|", "", ""]
    assert outcomes[3:6] == ["No such file or directory", "Read-only file system", "Read-only file system"]
    assert "done" not in outcomes
    assert meta.read_bytes() == content
    assert b"escaped" not in image.read_bytes()
    assert sorted(entry.name for entry in (tmp_path / "traces").iterdir()) == sorted(
        sample.folder.name for sample in samples(tmp_path)
    )


def said_last(folder: Path, escape: Path, *attempts: object, options: tuple[object, ...] = ()) -> list[str]:
    """As said(), in a folder that has other samples."""
    file = document(folder, "".join(f"{attempt}\n" for attempt in attempts), "attempts.txt")
    done = trace(folder, "--sandbox", "--malicious", *options, file, "--", escape, "{}")
    assert done.returncode == 0, done.stderr
    [sample] = [sample for sample in samples(folder) if sample.label == "malicious"]
    assert decodes(folder, sample)
    return [line.partition(": ")[2] for line in sample.meta.stderr.splitlines()]


def test_no_way_to_the_recording(tmp_path, escape):
    part = tmp_path / "traces"
    outcomes = said(
        tmp_path,
        escape,
        f"list {part}",
        "list /run/barnum",
        "keeper stream_0",
        "keeper process_0",
        "descriptors",
        "links",
        "write kept/stream_0",
    )
    assert outcomes[:4] == ["No such file or directory", "keeper ", "refused", "refused"]
    # the document
    assert outcomes[4] == "1 open"
    assert "raw" not in outcomes[5] and "stream_0" not in outcomes[5]
    assert outcomes[6] == "No such file or directory"
    [sample] = samples(tmp_path)
    assert sample.meta.processes[0].program == str(escape)


def test_code_in_the_emulator_damages_its_own_recording_alone(tmp_path, escape):
    """What the limitations say of a program that writes to the emulator's memory."""
    trace(tmp_path, "--sandbox", "--benign", document(tmp_path, "earlier\n"), "--", "cat", "{}")
    [earlier] = samples(tmp_path)
    content = {file.name: file.read_bytes() for file in earlier.folder.iterdir()}
    file = document(tmp_path, "read /dev/null\noverwrite stream_0\n", "attempts.txt")
    done = trace(tmp_path, "--sandbox", "--malicious", file, "--", escape, "{}")
    assert done.returncode == 23
    assert "its recording cannot be read, as if the program had damaged it" in done.stderr
    assert [sample.folder for sample in samples(tmp_path)] == [earlier.folder]
    assert {file.name: file.read_bytes() for file in earlier.folder.iterdir()} == content


def test_no_network_and_no_sockets_of_others(tmp_path, escape):
    name = f"barnum-test-{os.getpid()}"
    (tmp_path / "s").mkdir()
    with (
        socket.create_server(("127.0.0.1", 0)) as tcp,
        socket.socket(socket.AF_UNIX) as abstract,
        socket.socket(socket.AF_UNIX) as named,
    ):
        abstract.bind(f"\0{name}")
        # the whole path may be too long for a socket
        named.bind(os.path.relpath(tmp_path / "s" / "socket"))
        for listener in (abstract, named):
            listener.listen()
        attempts = (f"tcp {tcp.getsockname()[1]}", f"abstract {name}", f"socket {tmp_path}/s/socket")
        outcomes = said(tmp_path, escape, *attempts)
        for listener in (tcp, abstract, named):
            listener.settimeout(0.1)
            with pytest.raises(TimeoutError):
                listener.accept()
    assert outcomes == ["Connection refused", "Connection refused", "No such file or directory"]


def test_other_processes_are_neither_seen_nor_killed(tmp_path, escape):
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        outcomes = said(
            tmp_path, escape, "list /proc", f"kill {other.pid}", "kill 1", f"trace {other.pid}", "trace 1"
        )
        assert other.poll() is None
        other.kill()
    # itself and two of the sandbox, the first of which nothing inside can kill
    assert [name for name in outcomes[0].split() if name.isdigit()] == ["1", "2", "3"]
    assert outcomes[1] == "No such process"
    assert "done" not in outcomes[3:]


def test_calls_that_attacks_on_the_kernel_need(tmp_path, escape):
    calls = ("mount /tmp", "namespace", "device disk", "shared", "nameless")
    outcomes = said(tmp_path, escape, *calls, "read /proc/self/status")
    assert "done" not in outcomes[:-1]
    status = dict(line.split(":\t", 1) for line in outcomes[-1].split("|") if ":\t" in line)
    assert status["NoNewPrivs"] == "1"
    assert {status[kind] for kind in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert status["Seccomp"] == "2"


def test_nothing_is_typed_into_the_users_terminal(tmp_path, escape):
    master, terminal = os.openpty()
    file = document(tmp_path, "inject /dev/tty\ninject 0\ninject 1\ninject 2\n")
    words = [BARNUM, "trace", "--sandbox", "--malicious", "--show-output", file, "--", escape, "{}"]
    with subprocess.Popen(
        words, cwd=tmp_path, stdin=terminal, stdout=terminal, stderr=terminal, start_new_session=True
    ) as run:
        assert run.wait(timeout=60) == 0
    os.close(terminal)
    shown = b""
    try:
        while data := os.read(master, 4096):
            shown += data
    except OSError:
        pass
    os.close(master)
    assert shown.count(b"inject ") == 4
    assert b"done" not in shown


def test_the_environment_is_not_the_users(tmp_path, escape):
    file = document(tmp_path, "variable SECRET_TOKEN\nvariable HOME\nvariable LC_ALL\nvariable TMPDIR\n")
    env = {**os.environ, "SECRET_TOKEN": "12345", "LC_ALL": "C.UTF-8"}
    done = trace(tmp_path, "--sandbox", "--malicious", file, "--", escape, "{}", env=env)
    assert done.returncode == 0, done.stderr
    [sample] = samples(tmp_path)
    said = [line.partition(": ")[2] for line in sample.meta.stderr.splitlines()]
    assert said == ["not set", "/tmp/barnum-home", "C.UTF-8", "/tmp"]


@pytest.mark.parametrize("attempt", ["bomb", "fork 3000"])
def test_a_fork_bomb_ends(tmp_path, escape, attempt):
    sample = attempted(tmp_path, escape, attempt, options=("--processes", 30))
    limited = "made" in sample.meta.stderr
    ended = "the run was ended as it took more processes than the sandbox allows" in sample.meta.lost
    # for root the kernel has no limit of processes: such a run is ended
    assert limited or ended
    assert not running(escape)


@pytest.mark.parametrize("attempt", ["memory 4000", "anonymous 4000"])
def test_memory_is_bounded(tmp_path, escape, attempt):
    sample = attempted(tmp_path, escape, attempt, options=("--memory", "300M"))
    assert "the run was ended as it took more memory than the sandbox allows" in sample.meta.lost
    assert sample.meta.exit.signal == signal.SIGKILL
    assert sample.meta.sandbox.memory == 300 << 20


def test_the_disk_is_not_filled(tmp_path, escape):
    outcomes = said(tmp_path, escape, "disk 3000", "disk-shm 3000")
    assert outcomes[0] == "1024 megabytes, then No space left on device"
    assert outcomes[1].endswith("then No space left on device")


def test_nothing_is_left_behind(tmp_path, escape):
    sample = attempted(tmp_path, escape, "daemon")
    assert sample.meta.exit.status == 0
    assert len(sample.meta.processes) == 3
    assert sample.meta.lost == ("1 processes outlived the program and were killed",)
    assert not running(escape)


def test_a_timeout_ends_all(tmp_path, escape):
    sample = attempted(tmp_path, escape, "daemon", "sleep 60", options=("--timeout", 2))
    assert sample.meta.exit.timeout
    assert not running(escape)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_recording_ends_all(tmp_path, escape, number):
    file = document(tmp_path, "daemon\nsleep 60\n")
    words = [BARNUM, "trace", "--sandbox", "--malicious", file, "--", escape, "{}"]
    with subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as run:
        wait_until(lambda: len(running(escape)) >= 2)
        run.send_signal(number)
        run.communicate(timeout=300)
    wait_until(lambda: not running(escape))
    assert samples(tmp_path) == []


def test_the_supervisor_s_end_is_the_runs_end(tmp_path, escape):
    file = document(tmp_path, "daemon\nsleep 60\n")
    words = [BARNUM, "trace", "--sandbox", "--malicious", file, "--", escape, "{}"]
    with subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as run:
        wait_until(lambda: len(running(escape)) >= 2)
        [supervisor] = [pid for pid in named(b"supervisor.py") if parent(pid) == run.pid]
        os.kill(supervisor, signal.SIGKILL)
        run.communicate(timeout=300)
        assert run.returncode == 23
    wait_until(lambda: not running(escape))


def running(program: Path) -> list[int]:
    """Emulators that run a program."""
    return [pid for pid in named(bytes(program)) if b"qemu" in cmdline(pid).split(b"\0")[0]]


def named(word: bytes) -> list[int]:
    """Processes whose command line holds a word."""
    return [int(entry.name) for entry in Path("/proc").glob("[0-9]*") if word in cmdline(int(entry.name))]


def cmdline(pid: int) -> bytes:
    """The command line of a process; nothing where it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def parent(pid: int) -> int:
    """The parent of a process; 0 where it has ended."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[1])
    except OSError:
        return 0


def wait_until(condition) -> None:
    """Wait until it holds; a busy machine may take long."""
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_meta_says_what_the_sandbox_was(tmp_path):
    options = ("--memory", "2G", "--processes", 100)
    done = trace(tmp_path, "--sandbox", *options, "--benign", document(tmp_path), "--", "cat", "{}")
    assert done.returncode == 0, done.stderr
    [sample] = samples(tmp_path)
    meta = json.loads((sample.folder / "meta.json").read_text())["sandbox"]
    assert meta["program"] == "bubblewrap"
    assert meta["version"] == _STATE.version
    assert (meta["memory"], meta["processes"]) == (2 << 30, 100)


def test_effects_are_noted_as_without_it(tmp_path):
    script = 'read line < "$1"; echo $line > dropped; /bin/true; rm dropped'
    found = []
    for option in ("--sandbox", "--no-sandbox"):
        folder = tmp_path / option
        folder.mkdir()
        words = ("--", "sh", "-c", script, "sh", "{}")
        assert trace(folder, option, "--benign", document(folder), *words).returncode == 0
        [sample] = samples(folder)
        effects = json.loads((sample.folder / "effects.json").read_text())["effects"]
        found.append([(effect["call"], effect.get("path"), effect.get("entry")) for effect in effects])
        assert sample.meta.lost == ()
    assert found[0] == found[1]
    assert {"openat", "execve", "unlinkat"} & {call for call, *_ in found[0]} >= {"openat", "execve"}


def test_a_signal_that_ends_the_program(tmp_path, escape):
    sample = attempted(tmp_path, escape, "list /", f"die {signal.SIGSEGV:d}")
    assert sample.meta.exit.signal == signal.SIGSEGV
    assert sample.meta.stderr.splitlines()[1:] == [
        "qemu: uncaught target signal 11 (Segmentation fault) - core dumped"
    ]


@pytest.mark.parametrize("options", [(), ("--sandbox",)])
def test_what_is_left_running_has_a_little_time(tmp_path, options):
    program = compile_c(tmp_path, LATER)
    done = trace(tmp_path, *options, "--benign", document(tmp_path), "--", program, "{}")
    assert done.returncode == 0, done.stderr
    [sample] = samples(tmp_path)
    assert sample.meta.stderr == "later\n"
    assert sample.meta.lost == ()


LATER = """
#include <fcntl.h>
#include <unistd.h>
int main(int count, char **words)
{
    open(words[1], O_RDONLY);
    if (fork() == 0) {
        usleep(300000);
        write(2, "later\\n", 6);
    }
    return 0;
}
"""


def test_the_same_blocks_as_without_it(tmp_path):
    program = compile_c(tmp_path, READER, "-static")
    file = document(tmp_path, "some text that is read\n" * 50)
    paths = []
    for option in ("--no-sandbox", "--sandbox"):
        root = tmp_path / option
        done = trace(tmp_path, option, "--benign", "-o", root, file, "--", program, "{}")
        assert done.returncode == 0, done.stderr
        [sample] = open_samples(list(root.iterdir()))
        paths.append(blocks(tmp_path, sample))
    assert len(paths[0]) > 1000
    assert paths[0] == paths[1]


@pytest.mark.skipif(not shutil.which("gs"), reason="ghostscript is not installed")
def test_a_reader_goes_the_same_ways(tmp_path):
    file = document(tmp_path, PAGE, "page.ps")
    # memory lies elsewhere in each run, and a few blocks of the allocator depend on it
    distinct = []
    for option in ("--no-sandbox", "--sandbox"):
        root = tmp_path / option
        words = (
            "gs",
            "-q",
            "-dNOSAFER",
            "-dBATCH",
            "-dNOPAUSE",
            "-sDEVICE=ppmraw",
            "-r36",
            "-sOutputFile=/dev/null",
        )
        done = trace(tmp_path, option, "--benign", "-o", root, file, "--", *words, "{}")
        assert done.returncode == 0, done.stderr
        [sample] = open_samples(list(root.iterdir()))
        assert sample.meta.exit.status == 0
        assert sample.meta.lost == ()
        distinct.append(set(blocks(tmp_path, sample)))
    assert min(map(len, distinct)) > 5000
    assert len(distinct[0] ^ distinct[1]) < 0.02 * len(distinct[0])


PAGE = """%!PS
/Helvetica findfont 24 scalefont setfont
72 720 moveto (A page) show
0 1 20 { 10 mul 100 moveto 50 50 rlineto stroke } for
showpage
"""


def blocks(folder: Path, sample: Sample) -> list[tuple[int, int]]:
    """The path of a run: BBID and instructions of each block."""
    assert decodes(folder, sample)
    path = open_path(folder / "parsed.parquet").read()
    names = list(zip(path.blocks.bbid.tolist(), path.blocks.count.tolist(), strict=True))
    return [names[block] for block in path.block.tolist()]


@pytest.mark.parametrize(
    "name", ["two words.txt", "two\nlines.txt", os.fsdecode(b"no utf-8 \xff.txt"), "-dash,comma=x.txt", "{}"]
)
def test_documents_with_odd_names(tmp_path, name):
    file = tmp_path / name
    file.write_text("odd\n")
    done = trace(tmp_path, "--sandbox", "--benign", "./" + name, "--", "cat", "{}")
    assert done.returncode == 0, done.stderr
    [sample] = samples(tmp_path)
    assert sample.meta.exit.status == 0
    assert decodes(tmp_path, sample)


def test_a_document_through_links_and_on_another_file_system(tmp_path):
    elsewhere = Path("/dev/shm") / f"barnum-test-{os.getpid()}"
    elsewhere.mkdir()
    try:
        (elsewhere / "there.txt").write_text("elsewhere\n")
        (tmp_path / "folder").symlink_to(elsewhere)
        (tmp_path / "link.txt").symlink_to("folder/there.txt")
        for number, file in enumerate(
            (elsewhere / "there.txt", tmp_path / "folder/there.txt", tmp_path / "link.txt")
        ):
            root = tmp_path / f"run{number}"
            root.mkdir()
            done = trace(root, "--sandbox", "--benign", file, "--", "cat", "{}")
            assert done.returncode == 0, done.stderr
            [sample] = samples(root)
            assert sample.meta.exit.status == 0
    finally:
        (elsewhere / "there.txt").unlink()
        elsewhere.rmdir()


def test_programs_by_relative_path_link_and_script(tmp_path):
    program = compile_c(tmp_path, READER)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "reader").symlink_to(program)
    script = tmp_path / "script"
    script.write_text('#!/bin/sh\ncat "$1" >/dev/null\necho scripted >&2\n')
    script.chmod(0o755)
    for number, name in enumerate(("./program", "bin/reader", "bin/../program", "./script")):
        root = tmp_path / f"run{number}"
        file = document(tmp_path)
        places = ("-o", root / "traces", "--bin-dir", root / "extract")
        done = trace(tmp_path, "--sandbox", "--benign", *places, file, "--", name, "{}")
        assert done.returncode == 0, done.stderr
        [sample] = samples(root)
        assert sample.meta.exit.status == 0
        assert sample.meta.lost == ()
        programs = [process.program for process in sample.meta.processes]
        assert programs == (
            [str(program)] if number < 3 else [os.path.realpath("/bin/sh")] * 2 + ["/usr/bin/cat"]
        )


READER = """
#include <stdio.h>
int main(int count, char **words)
{
    FILE *file = fopen(words[count - 1], "r");
    int c, sum = 0;
    if (!file)
        return 1;
    while ((c = getc(file)) != EOF)
        sum = c & 1 ? sum * 3 + c : sum + c;
    fprintf(stderr, "%d\\n", sum);
    return 0;
}
"""


@pytest.mark.skipif(
    not Path("/usr/lib32/libc.so.6").exists(), reason="no 32-bit programs: install gcc-multilib"
)
def test_a_32_bit_program(tmp_path):
    program = compile_c(tmp_path, READER, "-m32")
    done = trace(tmp_path, "--sandbox", "--benign", document(tmp_path), "--", program, "{}")
    assert done.returncode == 0, done.stderr
    [sample] = samples(tmp_path)
    assert sample.meta.exit.status == 0
    assert sample.meta.processes[0].exec_mode == 32
    assert decodes(tmp_path, sample)


def test_files_that_the_command_line_names(tmp_path, escape):
    more = document(tmp_path, "more\n", "more.txt")
    file = document(tmp_path, f"read {more}\nread more.txt\n")
    for number, words in enumerate(([more], [f"--with={more}"], [])):
        done = trace(tmp_path, "--sandbox", "-o", f"{number}/traces", file, "--", escape, *words, "{}")
        assert done.returncode == 0, done.stderr
        [sample] = samples(tmp_path / str(number))
        said = [line.partition(": ")[2] for line in sample.meta.stderr.splitlines()]
        assert said == ["more|" if words else "No such file or directory", "No such file or directory"]


def test_the_name_of_a_document_shows_no_further_file(tmp_path, escape):
    secret = document(tmp_path, "secret\n", "secret.txt")
    folder = tmp_path / f"x={secret.parent}"
    folder.mkdir(parents=True)
    file = document(folder, f"read {secret}\n", "secret.txt")
    done = trace(tmp_path, "--sandbox", "--malicious", file, "--", escape, "{}")
    assert done.returncode == 0, done.stderr
    [sample] = samples(tmp_path)
    assert sample.meta.stderr.endswith(": No such file or directory\n")


def test_a_document_in_a_folder_of_results(tmp_path, escape):
    (tmp_path / "extract").mkdir()
    file = document(tmp_path / "extract", f"read {tmp_path}/extract/document.txt\nlist {tmp_path}/extract\n")
    done = trace(tmp_path, "--sandbox", "--malicious", "--cd", tmp_path, file, "--", escape, "{}")
    assert done.returncode == 0, done.stderr
    [sample] = samples(tmp_path)
    assert sample.meta.stderr.splitlines()[1].endswith(": document.txt ")


def test_a_folder_to_run_in_can_be_read_only(tmp_path, escape):
    (tmp_path / "here").mkdir()
    document(tmp_path / "here", "near\n", "near.txt")
    outcomes = said(
        tmp_path,
        escape,
        "read near.txt",
        "write near.txt",
        "write new.txt",
        options=("--cd", tmp_path / "here"),
    )
    assert outcomes == ["near|", "Read-only file system", "Read-only file system"]
    assert [entry.name for entry in (tmp_path / "here").iterdir()] == ["near.txt"]


def test_code_in_a_file_that_the_program_made_has_no_image_of_another(tmp_path):
    """A program copies a library under a path that holds another file outside: that file is not taken."""
    decoy = Path("/tmp") / f"barnum-decoy-{os.getpid()}"
    source = f"""
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
int main(int count, char **words)
{{
    fopen(words[1], "r");
    return system("cp /bin/cat {decoy} && {decoy} /dev/null");
}}
"""
    program = compile_c(tmp_path, source)
    decoy.write_bytes(Path("/bin/ls").read_bytes())
    decoy.chmod(0o755)
    try:
        done = trace(tmp_path, "--sandbox", "--malicious", document(tmp_path), "--", program, "{}")
    finally:
        decoy.unlink()
    assert done.returncode == 0, done.stderr
    [sample] = samples(tmp_path)
    assert sample.meta.exit.status == 0
    assert str(decoy) in [process.program for process in sample.meta.processes]
    assert str(decoy) not in sample.meta.images
    assert any(str(decoy) in sentence for sentence in sample.meta.lost)
    assert decodes(tmp_path, sample)


def test_where_there_is_no_bubblewrap(tmp_path):
    env = {**os.environ, "PATH": str(tmp_path)}
    for name in ("qemu-x86_64", "qemu-i386", "cat"):
        (tmp_path / name).symlink_to(f"/usr/bin/{name}")
    done = trace(tmp_path, "--sandbox", "--benign", document(tmp_path), "--", "cat", "{}", env=env)
    assert done.returncode == 15
    assert "--sandbox: bubblewrap, which makes the sandbox, is missing: install it" in done.stderr
    assert not (tmp_path / "traces").exists()


def test_where_bubblewrap_can_make_no_namespace(tmp_path, monkeypatch):
    bwrap = tmp_path / "bwrap"
    bwrap.write_text(
        '#!/bin/sh\n[ "$1" = --version ] && echo bubblewrap 0.8.0 && exit\n'
        "echo 'bwrap: No permissions to create new namespace' >&2\nexit 1\n"
    )
    bwrap.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    reason = sandbox_state()
    assert isinstance(reason, str)
    assert "No permissions to create new namespace" in reason
    assert "unprivileged_userns" in reason
    assert "\n" not in reason
