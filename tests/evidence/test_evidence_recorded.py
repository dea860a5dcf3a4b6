"""Recorded programs: harmless ones that go unusual ways show nothing new, those that are led astray do."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from barnum.evidence import EvidenceFinder, Findings, find_evidence
from barnum.paths import Kind, open_path
from barnum.paths.code import CodeReader, load_code
from barnum.paths.decode import Decoding
from barnum.paths.preprocess import Request, preprocess
from barnum.recording import Recorder, Settings, find_engine
from barnum.samples import Sample
from shadow import ELSEWHERE, MATCHED, RESUMED, UNKNOWN, UNWOUND, model

PROGRAMS = Path(__file__).parents[1] / "programs"
ROW = np.dtype([("start", "<u8"), ("end", "<u8"), ("count", "<u4")])
WAYS = ("longjmp", "exceptions", "signals", "coroutines", "jit", "threads", "binding")
NOMINAL, FURTHER = 3, 4


def _can_32() -> bool:
    return Path("/usr/lib32/ld-linux.so.2").exists() or Path("/lib/ld-linux.so.2").exists()


MODES = (64, pytest.param(32, marks=pytest.mark.skipif(not _can_32(), reason="install gcc-multilib")))


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, int], Path]:
    """Compiles a program once; functions of libraries are bound when they are first called."""
    folder = tmp_path_factory.mktemp("built")

    def make(name: str, mode: int = 64) -> Path:
        program = folder / f"{name}{mode}"
        if program.exists():
            return program
        words = ["gcc", f"-m{mode}", "-O2", "-fno-stack-protector", "-Wl,-z,lazy", PROGRAMS / f"{name}.c"]
        if name == "astray":
            words += ["-fno-omit-frame-pointer"]
        if name == "ways" and mode == 64:
            words += [PROGRAMS / "exceptions.cpp", "-lstdc++"]
        subprocess.run([*words, "-o", program], check=True, timeout=120)
        return program

    return make


def record(folder: Path, content: bytes, *command: object, log: bool = False) -> Sample:
    """Run a command on a document and record it."""
    folder.mkdir(parents=True, exist_ok=True)
    document = folder / "document.bin"
    document.write_bytes(content)
    recorder = Recorder(
        Settings(
            command=(*map(str, command), "{}"),
            label="benign",
            output=folder / "traces",
            bin_dir=folder / "extract",
            start="exec",
            log=log,
            timeout=60,
        ),
        find_engine(),
    )
    return Sample.open(recorder.record(document).folder or folder)


def images_of(sample: Sample) -> Path:
    return sample.folder.parent.parent / "extract"


def findings(sample: Sample) -> Findings:
    """What is found while a sample is decoded."""
    decoding = Decoding(sample, images_of(sample))
    finder = EvidenceFinder(sample, images_of(sample))
    find_evidence(decoding, finder)
    return finder.done(decoding.gaps)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("way", WAYS)
def test_harmless_ways_show_nothing_new_after_three_runs(tmp_path, build, way, mode):
    rng = random.Random(f"{way} {mode}")
    runs = []
    for _ in range(NOMINAL + FURTHER):
        # a thread is a stream of its own, and takes long
        content = rng.randbytes(rng.randrange(10, 20) if way == "threads" else rng.randrange(40, 80))
        runs.append(findings(record(tmp_path, content, build("ways", mode), way)))
    assert not [str(found) for run in runs for found in run.strong]
    known = frozenset().union(*(run.keys for run in runs[:NOMINAL]))
    assert not frozenset().union(*(run.keys for run in runs[NOMINAL:])) - known
    for run in runs:
        matched, unwound, unknown, elsewhere, resumed = run.returns
        assert matched > 1000
        if way != "coroutines":
            assert unknown == resumed == 0
            # libraries bound by a return, in 32 bit
            assert elsewhere < 60
            assert unwound < 60


# what is expected of each way astray: kind, whether it is strong, part of its words
ASTRAY = {
    "gadget": ("return", True, "where no call waits"),
    "nowhere": ("unknown", True, "returned to 0x4141414141, where nothing is mapped"),
    "stack": ("unknown", True, "returned to 0x"),
    "function": ("return", False, "returned to libc.so.6+0x"),
    "middle": ("entry", False, "called into the middle of a function, astray64+0x"),
    "instruction": ("instruction", True, "called into the middle of an instruction"),
    "heap": ("unknown", True, "called to 0x"),
    "written": ("code", False, "code that lies in no file"),
    "changed": ("code", False, "code that was changed, astray64+0x"),
    "abort": ("death", False, "died (signal 6)"),
}
ALONE = {"gadget": 1, "function": 1, "middle": 1, "written": 1, "abort": 1}


@pytest.mark.parametrize("way", ASTRAY)
def test_ways_astray_are_found(tmp_path, build, way):
    sample = record(tmp_path, b"document", build("astray"), way)
    run = findings(sample)
    kind, strong, words = ASTRAY[way]
    (found,) = [each for each in run.findings if each.kind == kind]
    assert found.strong == strong
    assert words in str(found)
    assert len(run.findings) == ALONE.get(way, 2)
    assert found.count == 1
    if way in ("gadget", "nowhere", "stack", "function", "middle", "instruction", "heap"):
        assert found.site_place.module == "astray64"
        assert found.key.endswith(f"astray64+0x{found.site_place.offset:x}")
    if way in ("nowhere", "stack", "heap"):
        (death,) = [each for each in run.findings if each.kind == "death"]
        assert (death.step, death.target_place, death.key) == (
            found.step,
            found.target_place,
            "death signal 11",
        )


@pytest.mark.parametrize("way", ["gadget", "nowhere", "instruction", "changed"])
def test_a_parsed_trace_shows_the_same(tmp_path, build, way):
    sample = record(tmp_path, b"document", build("astray"), way)
    decoded = findings(sample)
    file = tmp_path / "path.parquet"
    preprocess(Request(folder=str(sample.folder), bin_dir=str(images_of(sample)), output=str(file)))

    def again(bin_dir: Path | None, known: Sample | None) -> Findings:
        path = open_path(file)
        finder = EvidenceFinder(known, bin_dir)
        find_evidence(path, finder)
        return finder.done(path.gaps)

    assert again(images_of(sample), sample) == decoded
    blind = again(None, None)
    # without images no function is known, so no return is strong; the path alone tells that nothing is mapped
    assert [each.step for each in blind.strong] == [each.step for each in decoded.strong if way == "nowhere"]
    assert {each.kind for each in blind.findings} >= {"gadget": {"return"}, "nowhere": {"unknown"}}.get(
        way, set()
    )
    assert str(build("astray")) in blind.without_image


def logged(sample: Sample, number: int) -> list[tuple[int, int, int]]:
    """Of each block that the recorder itself saw in a stream: kind, address behind it, first address."""
    import iced_x86

    data = (sample.folder / f"log_{number}").read_bytes()
    rows = np.frombuffer(data[: len(data) // ROW.itemsize * ROW.itemsize], ROW)
    stop = np.flatnonzero(rows["count"] == 0)
    rows = rows[: stop[0]] if len(stop) else rows
    process = sample.processes(images_of(sample))[sample.streams[number].process]
    reader = CodeReader(load_code(sample, process, images_of(sample)))
    kinds = {
        iced_x86.FlowControl.CALL: Kind.CALL,
        iced_x86.FlowControl.INDIRECT_CALL: Kind.INDIRECT_CALL,
        iced_x86.FlowControl.RETURN: Kind.RETURN,
    }
    ends = {}
    for end in np.unique(rows["end"]).tolist():
        code = next(filter(None, (reader.read(end, size) for size in range(15, 0, -1))))
        instruction = next(iter(iced_x86.Decoder(process.mode, code, ip=end)))
        ends[end] = (kinds.get(instruction.flow_control, Kind.CONDITIONAL), instruction.next_ip)
    return [
        (*ends[end], start) for start, end in zip(rows["start"].tolist(), rows["end"].tolist(), strict=True)
    ]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("way", ["longjmp", "exceptions", "binding", "threads"])
def test_returns_agree_with_a_model_on_the_recorders_own_log(tmp_path, build, way, mode):
    sample = record(tmp_path, bytes(range(3, 250, 25)), build("ways", mode), way, log=True)
    decoding = Decoding(sample, images_of(sample))
    finder = EvidenceFinder(sample, images_of(sample))
    chunks = []
    for chunk in decoding.chunks():
        # knows the blocks, as add() has it; the steps are judged one by one
        finder.add(decoding.blocks, chunk.part(0, 0))
        chunks.append(finder._watch.judge(chunk.block, chunk.gap, chunk.stream))
    verdicts = np.concatenate(chunks).tolist()
    fits, astray = {MATCHED, UNWOUND}, {ELSEWHERE, UNKNOWN, RESUMED}
    at = returns = 0
    for number in range(len(sample.streams)):
        rows = logged(sample, number)
        expected = model(rows, [0])
        steps = decoding.streams[number]["steps"]
        assert 0 <= steps - len(rows) <= 8, "the end of a stream may imply some more"
        for step, (said, ours) in enumerate(zip(expected, verdicts[at:], strict=False)):
            assert (said in fits) == (ours in fits), f"stream {number}, step {step}"
            assert (said in astray) == (ours in astray), f"stream {number}, step {step}"
        returns += sum(said != 0 for said in expected)
        at += steps
    assert returns > 1000
