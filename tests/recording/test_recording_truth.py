"""What the recorder wrote and the decoder read is what ran: by single steps, and by the recorder's log."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from barnum.paths import Gap, Kind, open_path
from barnum.paths.decode import Decoding
from barnum.paths.preprocess import Request, preprocess
from barnum.recording import Outcome, Recorder, Settings, find_engine
from barnum.samples import Sample
from recording import BARNUM, document

HERE = Path(__file__).parents[1]
PROGRAMS = HERE / "programs"
ROW = np.dtype([("start", "<u8"), ("end", "<u8"), ("count", "<u4")])
# blocks at the very end that a stream implies, though a kill came before the log had them: the way on through
# direct jumps and calls costs no packet
KILLED = 8


def _can_32() -> bool:
    return Path("/usr/lib32/ld-linux.so.2").exists() or Path("/lib/ld-linux.so.2").exists()


needs_32 = pytest.mark.skipif(not _can_32(), reason="no 32-bit programs here: install gcc-multilib")
needs_musl = pytest.mark.skipif(not shutil.which("musl-gcc"), reason="musl-tools is not installed")


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Compiles programs/NAME once for each set of options."""
    folder = tmp_path_factory.mktemp("programs")
    made: dict[tuple[str, ...], Path] = {}

    def make(source: str, *options: str, compiler: str = "gcc") -> Path:
        key = (source, compiler, *options)
        if key not in made:
            program = folder / f"{Path(source).stem}{len(made)}"
            words = [compiler, "-O1", "-g", "-o", program, HERE / source, *options]
            subprocess.run(words, check=True, timeout=60)
            made[key] = program
        return made[key]

    return make


def record(folder: Path, *command: object, start: str = "exec", **settings: object) -> Sample:
    """Record a command once, with the recorder's own log."""
    return Sample.open(_record(folder, *command, start=start, **settings).folder or folder)


def _record(folder: Path, *command: object, start: str = "exec", **settings: object) -> Outcome:
    recorder = Recorder(
        Settings(
            command=tuple(map(str, command)),
            label="benign",
            output=folder / "traces",
            bin_dir=folder / "extract",
            start=start,
            log=True,
            timeout=60,
            **settings,  # type: ignore[arg-type]
        ),
        find_engine(),
    )
    return recorder.record(document(folder))


def decoded(sample: Sample, number: int) -> np.ndarray:
    """The blocks of a stream, as rows of the log."""
    decoding = Decoding(sample, sample.folder.parent.parent / "extract", streams=[number])
    chunks = list(decoding.chunks())
    steps = np.concatenate([chunk.block for chunk in chunks] or [np.zeros(0, np.uint32)])
    gap = np.concatenate([chunk.gap for chunk in chunks] or [np.zeros(0, np.uint8)])
    arrays = decoding.table.arrays()
    rows = np.zeros(len(steps), ROW)
    for name in ("start", "end", "count"):
        rows[name] = arrays[name][steps]
    # a block in the middle of which its own code changed is two for the decoder, one for the log
    halves = np.flatnonzero(gap == Gap.CODE_CHANGED)
    for half in halves[::-1]:
        rows["start"][half] = rows["start"][half - 1]
        rows["count"][half] += rows["count"][half - 1]
    # where no code is, no block ran
    rows = np.delete(
        rows, np.concatenate([halves - 1, np.flatnonzero(arrays["kind"][steps] == Kind.UNKNOWN)])
    )
    assert decoding.statistics["errors"] == 0
    assert not decoding.unmapped
    return rows


def logged(sample: Sample, number: int) -> np.ndarray:
    """What the recorder itself saw in a stream."""
    data = (sample.folder / f"log_{number}").read_bytes()
    rows = np.frombuffer(data[: len(data) // ROW.itemsize * ROW.itemsize], ROW)
    ends = np.flatnonzero(rows["count"] == 0)
    return rows[: ends[0]] if len(ends) else rows


def check(sample: Sample, streams: int | None = None, killed: tuple[int, ...] = ()) -> list[int]:
    """All streams equal their logs; returns their numbers of blocks. ``killed``: ended without a word."""
    counts = []
    for number in range(len(sample.streams)):
        ran, said = decoded(sample, number), logged(sample, number)
        extra = len(ran) - len(said)
        assert 0 <= extra <= (KILLED if number in killed else 0), (
            f"stream {number}: {len(ran)} of {len(said)}"
        )
        differ = np.flatnonzero(ran[: len(said)] != said)
        assert not len(differ), f"stream {number}, block {differ[0]}: {ran[differ[0]]} for {said[differ[0]]}"
        counts.append(len(said))
    if streams is not None:
        assert len(counts) == streams
    return counts


def ended(sample: Sample) -> object:
    assert sample.meta is not None
    return sample.meta.exit.signal or sample.meta.exit.status


def programs(sample: Sample) -> list[str]:
    """Names of the programs that the sample's processes ran, in order."""
    assert sample.meta is not None
    return [Path(process.program).name for process in sample.meta.processes]


# --- against single steps


def stepped(build: Callable[..., Path], folder: Path, start: str, *command: object) -> list[str]:
    """What ptrace sees a program execute."""
    out = folder / "stepped"
    oracle = build("oracle/step.c")
    subprocess.run(
        [oracle, out, start, *command],
        check=True,
        timeout=120,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    return out.read_text().split()


def instructions(sample: Sample) -> list[str]:
    """What `barnum decode --instructions` prints."""
    return subprocess.run(
        [BARNUM, "decode", "--instructions", sample.folder],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout.split()


@pytest.mark.parametrize("bits", [64, pytest.param(32, marks=needs_32)])
def test_freestanding_program_equals_single_steps(
    build: Callable[..., Path], tmp_path: Path, bits: int
) -> None:
    program = build("programs/freestanding.S", f"-m{bits}", "-nostdlib", "-static", "-no-pie")
    sample = record(tmp_path, program)
    check(sample, streams=1)
    assert instructions(sample) == stepped(build, tmp_path, "-", program)


@needs_musl
def test_static_program_equals_single_steps_from_the_opening_of_its_input(
    build: Callable[..., Path], tmp_path: Path
) -> None:
    program = build("programs/work.c", "-static", "-no-pie", compiler="musl-gcc")
    sample = record(tmp_path, program, "{}", start="open")
    check(sample, streams=1)
    ran = instructions(sample)
    assert len(ran) > 1000
    assert ran == stepped(build, tmp_path, str(tmp_path / "document.txt"), program, tmp_path / "document.txt")


# --- against the recorder's own log


def test_ls(tmp_path: Path) -> None:
    assert check(record(tmp_path, "/bin/ls", "-l", "/"), streams=None)[0] > 10_000


def test_pdftotext(tmp_path: Path) -> None:
    for tool in ("groff", "ps2pdf", "pdftotext"):
        if not shutil.which(tool):
            pytest.skip(f"{tool} is not installed")
    ps = subprocess.run(
        ["groff", "-Tps", "-ms"], input=b".LP\n" + b"a line of text\n" * 40, capture_output=True, check=True
    ).stdout
    pdf = tmp_path / "page.pdf"
    subprocess.run(["ps2pdf", "-", pdf], input=ps, check=True)
    assert check(record(tmp_path, "/usr/bin/pdftotext", pdf, "-"))[0] > 500_000


def test_python(tmp_path: Path) -> None:
    assert check(record(tmp_path, "/usr/bin/python3", "-S", "-c", "print(sorted('word'))"))[0] > 500_000


def test_program_of_thirteen_threads(build: Callable[..., Path], tmp_path: Path) -> None:
    sample = record(tmp_path, build("programs/threads.c", "-pthread"))
    check(sample, streams=25)
    assert len({stream.thread for stream in sample.streams}) == 25


SIGNALS = ["longjmp", "repair", "plain", "skip", "wild", "nested", "storm", "both", "calls"]


@pytest.mark.parametrize("what", SIGNALS)
def test_signals(build: Callable[..., Path], tmp_path: Path, what: str) -> None:
    sample = record(tmp_path, build("programs/signals.c"), what)
    check(sample, streams=3 if what == "calls" else 1)
    assert ended(sample) == 0


@needs_32
@pytest.mark.parametrize("what", ["longjmp", "repair", "plain", "skip", "nested", "storm", "both"])
def test_signals_of_a_32_bit_program(build: Callable[..., Path], tmp_path: Path, what: str) -> None:
    sample = record(tmp_path, build("programs/signals.c", "-m32"), what)
    check(sample, streams=1)
    assert ended(sample) == 0


@pytest.mark.parametrize("what", ["jit", "self", "threads"])
def test_code_that_changes(build: Callable[..., Path], tmp_path: Path, what: str) -> None:
    sample = record(tmp_path, build("programs/rewrite.c", "-pthread"), what)
    check(sample, streams=2 if what == "threads" else 1)
    assert ended(sample) == 0


def test_libraries_one_after_the_other_at_one_address(build: Callable[..., Path], tmp_path: Path) -> None:
    first = build("programs/answer.c", "-shared", "-fPIC", "-DFACTOR=7")
    second = build("programs/answer.c", "-shared", "-fPIC", "-DFACTOR=9")
    sample = record(tmp_path, build("programs/libraries.c", "-ldl"), first, second, first, second)
    check(sample, streams=1)
    assert ended(sample) == 0


@pytest.mark.parametrize("bits", [64, pytest.param(32, marks=needs_32)])
@pytest.mark.parametrize(
    ("what", "ran"),
    [
        ("spawn", ["spawn", "spawn", "echo", "spawn", "true", "spawn"]),
        ("self", ["spawn", "spawn"]),
        ("descriptor", ["spawn", "echo"]),
        ("many", ["spawn"] * 9),
    ],
)
def test_programs_that_start_programs(
    build: Callable[..., Path], tmp_path: Path, what: str, ran: list[str], bits: int
) -> None:
    sample = record(tmp_path, build("programs/spawn.c", f"-m{bits}", "-w"), what)
    check(sample, streams=len(ran))
    assert [name.rstrip("0123456789") for name in programs(sample)] == ran
    assert ended(sample) == 0


def test_script_of_a_script(build: Callable[..., Path], tmp_path: Path) -> None:
    inner, outer = tmp_path / "inner.sh", tmp_path / "outer.sh"
    inner.write_text('#!/bin/sh -e\necho "$0 $* $BARNUM_WORD $LD_BARNUM" > "$OUT"\n')
    outer.write_text(f"#! {inner}  with option \n")
    for script in (inner, outer):
        script.chmod(0o755)
    out = tmp_path / "out"
    os.environ["OUT"] = str(out)
    try:
        sample = record(tmp_path, build("programs/spawn.c", "-w"), "script", outer)
    finally:
        del os.environ["OUT"]
    check(sample, streams=2)
    assert out.read_text() == f"{inner} with option {outer} one two kept, whole seen\n"
    assert programs(sample)[1] == "dash" or programs(sample)[1] == "sh"


def test_shell_pipeline(tmp_path: Path) -> None:
    sample = record(tmp_path, "/bin/sh", "-c", "ls / | sort | wc -l; (exit 3); /bin/true; exit 5")
    check(sample)
    assert {"ls", "sort", "wc", "true"} <= set(programs(sample))
    assert ended(sample) == 5


CRASHES = {
    "null": 11,
    "jump": 11,
    "data": 11,
    "abort": 6,
    "smash": 6,
    "kill": 9,
    "term": 15,
    "illegal": 4,
    "break": 5,
    "divide": 8,
    "overflow": 11,
    "handler": 11,
}


@pytest.mark.parametrize("bits", [64, pytest.param(32, marks=needs_32)])
@pytest.mark.parametrize("what", list(CRASHES))
def test_crashes(build: Callable[..., Path], tmp_path: Path, what: str, bits: int) -> None:
    program = build("programs/crash.c", f"-m{bits}", "-pthread", "-fstack-protector-all", "-w")
    sample = record(tmp_path, program, what)
    check(sample, streams=1)
    assert ended(sample) == CRASHES[what]
    # where it jumped to
    decoding = Decoding(sample, tmp_path / "extract")
    last = [int(chunk.block[-1]) for chunk in decoding.chunks()][-1]
    blocks = decoding.blocks
    end = decoding.streams[0].get("ends_at")
    assert (blocks.kind[last] == Kind.UNKNOWN) == (end is not None) == (what in ("jump", "data"))
    if what == "jump":
        assert end == {"place": "[unmapped]", "address": "0x1230000"}
    elif what == "data":
        assert end is not None
        assert (end["place"], end["address"]) == (str(program), hex(blocks.start[last]))


def test_thread_that_runs_while_another_crashes(build: Callable[..., Path], tmp_path: Path) -> None:
    sample = record(tmp_path, build("programs/crash.c", "-pthread"), "thread")
    check(sample, streams=2, killed=(1,))
    assert ended(sample) == 11


def test_killed_from_outside(build: Callable[..., Path], tmp_path: Path) -> None:
    program = build("programs/crash.c", "-pthread")
    sample = record(tmp_path, "/usr/bin/timeout", "-s", "KILL", "1", program, "spin")
    assert sample.meta is not None
    last = next(
        i for i, stream in enumerate(sample.streams) if stream.process == len(sample.meta.processes) - 1
    )
    assert check(sample, killed=(last,))[last] > 100_000


@needs_32
def test_32_bit_program(build: Callable[..., Path], tmp_path: Path) -> None:
    sample = record(tmp_path, build("programs/work.c", "-m32"), "{}", start="open")
    check(sample, streams=1)
    assert sample.meta is not None
    assert sample.meta.processes[0].exec_mode == 32


@needs_32
def test_32_bit_threads(build: Callable[..., Path], tmp_path: Path) -> None:
    check(record(tmp_path, build("programs/threads.c", "-m32", "-pthread")), streams=25)


def test_program_that_means_no_good(build: Callable[..., Path], tmp_path: Path) -> None:
    sample = record(tmp_path, build("programs/hostile.c", "-w"))
    assert min(check(sample, streams=13)) > 50
    assert ended(sample) == 0


# --- where the first other process is started


# by a system call of any kind, told by the emulator itself (-strace)
STARTS = re.compile(r"\d+ (clone|v?fork|execve)\((?![^()]*CLONE_THREAD)[^()]*\)(?! = -1 )")


def called(program: Path, *words: object) -> int:
    """How many system calls a program makes up to the one by which it first starts another process."""
    engine = find_engine()
    mode = 32 if program.read_bytes()[4] == 1 else 64
    lines = subprocess.run(
        [engine.qemu[mode], "-cpu", engine.cpu_of(mode), "-strace", program, *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        timeout=60,
    ).stderr.splitlines()
    return next(number for number, line in enumerate(lines, 1) if STARTS.match(line))


def spawned(sample: Sample) -> tuple[int, np.ndarray, np.ndarray]:
    """The parsed trace: the step at which a process had been started, kinds of the blocks, streams."""
    file = sample.folder / "trace_parsed.parquet"
    extract = sample.folder.parent.parent / "extract"
    preprocess(Request(folder=str(sample.folder), bin_dir=str(extract), output=str(file)))
    reader = open_path(file)
    path = reader.read()
    assert reader.first_stream == np.count_nonzero(path.stream == 0)
    assert reader.spawn == path.header["spawn"]
    assert reader.spawn is not None
    return reader.spawn, path.blocks.kind[path.block], path.stream


@pytest.fixture
def unfit(tmp_path: Path) -> Path:
    """Something that may be run, but is no program."""
    file = tmp_path / "unfit"
    file.write_text("of no kind\n")
    file.chmod(0o755)
    return file


WAYS = [
    "fork",
    "here",
    "vfork",
    "posix_spawn",
    "popen",
    "system",
    "clone3",
    "bad-clone",
    "child-first",
    "exec",
    "bad-exec",
    "full",
]


@pytest.mark.parametrize("bits", [64, pytest.param(32, marks=needs_32)])
@pytest.mark.parametrize("what", WAYS)
def test_first_start_of_a_process(
    build: Callable[..., Path], tmp_path: Path, unfit: Path, what: str, bits: int
) -> None:
    program = build("programs/starts.c", f"-m{bits}", "-w", "-no-pie", "-pthread")
    words = (what, unfit) if what in ("bad-exec", "full") else (what,)
    sample = record(tmp_path, program, *words)
    first = check(sample)[0]
    spawn, kind, stream = spawned(sample)
    assert 0 < spawn <= first
    assert (spawn == first) == (what == "exec")
    assert not stream[:spawn].any()
    assert kind[spawn - 1] == Kind.FAR
    assert np.count_nonzero(kind[:spawn] == Kind.FAR) == called(program, *words)


@pytest.mark.parametrize("bits", [64, pytest.param(32, marks=needs_32)])
@pytest.mark.parametrize(("what", "number"), [("here", 0), ("thread", 0), ("in-thread", 1)])
def test_first_start_of_a_process_among_threads(
    build: Callable[..., Path], tmp_path: Path, what: str, number: int, bits: int
) -> None:
    program = build("programs/starts.c", f"-m{bits}", "-w", "-no-pie", "-pthread")
    symbols = subprocess.run(["nm", program], capture_output=True, text=True, check=True).stdout
    here = next(int(line.split()[0], 16) for line in symbols.splitlines() if line.endswith(" here"))
    sample = record(tmp_path, program, what)
    check(sample)
    spawn, _kind, stream = spawned(sample)
    ends = logged(sample, number)["end"]
    first = int(np.searchsorted(stream, number))
    assert spawn - first == int(np.flatnonzero(ends == here)[0]) + 1


@pytest.mark.parametrize("bits", [64, pytest.param(32, marks=needs_32)])
@pytest.mark.parametrize("what", ["never", "only-thread", "only-bad-exec"])
def test_no_process_is_started(
    build: Callable[..., Path], tmp_path: Path, unfit: Path, what: str, bits: int
) -> None:
    program = build("programs/starts.c", f"-m{bits}", "-w", "-no-pie", "-pthread")
    sample = record(tmp_path, program, what, unfit)
    check(sample, streams=2 if what == "only-thread" else 1)
    assert sample.meta is not None
    assert sample.meta.spawn is None


def test_a_process_is_started_when_its_stream_is_full(build: Callable[..., Path], tmp_path: Path) -> None:
    program = build("programs/starts.c", "-m64", "-w", "-no-pie", "-pthread")
    sample = record(tmp_path, program, "fork", max_bytes=4_000)
    assert sample.meta is not None
    assert sample.meta.streams[0].lost == "max-size"
    spawn, _kind, stream = spawned(sample)
    # all that is known of the first process was before that
    assert spawn == np.count_nonzero(stream == 0)


def test_a_process_that_is_started_before_recording_begins_does_not_count(tmp_path: Path) -> None:
    commands = "read line < $0; (exit 3); exit 0"
    command = f"ls / > /dev/null; exec sh -c '{commands}' $0"
    sample = record(tmp_path, "/bin/sh", "-c", command, "{}", start="open")
    check(sample, streams=2)
    assert sample.meta is not None
    first = sample.meta.processes[sample.streams[0].process]
    assert first.event == "exec"
    assert sample.meta.processes[sample.streams[1].process].parent == first.index
    spawn, kind, stream = spawned(sample)
    assert 0 < spawn < np.count_nonzero(stream == 0)
    assert kind[spawn - 1] == Kind.FAR


# --- where recording begins and ends


def test_recording_begins_when_the_input_is_opened_by_whichever_process(tmp_path: Path) -> None:
    sample = record(tmp_path, "/bin/sh", "-c", "ls / > /dev/null; cat {} | wc -l", start="open")
    check(sample, streams=1)
    assert programs(sample)[sample.streams[0].process] == "cat"


def test_recording_stops_at_the_size_allowed(tmp_path: Path) -> None:
    sample = record(tmp_path, "/bin/ls", "/", max_bytes=20_000)
    check(sample, streams=1)
    assert sample.meta is not None
    assert sample.meta.streams[0].lost == "max-size"
    assert 19_000 < sample.meta.streams[0].bytes <= 20_000
    assert sample.meta.streams[0].lost_blocks > 1000
