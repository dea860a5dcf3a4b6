"""Effects of recorded runs are those that strace sees natively, and each has its place in the path."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from barnum.paths import Kind, effect_steps, open_path
from barnum.paths.preprocess import Request, preprocess
from barnum.recording import Recorder, Settings, find_engine
from barnum.samples import Effect, Sample
from recording import document
from strace import Seen, normal_result, strace

PROGRAMS = Path(__file__).parents[1] / "programs"
needs_strace = pytest.mark.skipif(not shutil.which("strace"), reason="strace is not installed")


def record(folder: Path, *command: object, **settings: object) -> Sample:
    """Record a command once."""
    recorder = Recorder(
        Settings(
            command=tuple(map(str, command)),
            label="benign",
            output=folder / "traces",
            bin_dir=folder / "extract",
            start="exec",
            timeout=60,
            **settings,  # type: ignore[arg-type]
        ),
        find_engine(),
    )
    outcome = recorder.record(document(folder))
    assert outcome.folder is not None, outcome
    return Sample.open(outcome.folder)


def effects_of(sample: Sample) -> tuple[Effect, ...]:
    assert sample.effects is not None
    return sample.effects.effects


def seen_by_barnum(sample: Sample) -> list[Seen]:
    """The effects in the words of strace's reader."""
    assert sample.meta is not None
    processes: dict[int, int] = {}
    seen = []
    for effect in effects_of(sample):
        number = processes.setdefault(sample.meta.processes[effect.process].pid, len(processes))
        texts = {
            name: text
            for name in ("path", "folder", "target", "target_folder", "address")
            if (text := getattr(effect, name)) is not None
        }
        # a path without a descriptor before it starts in the current folder, which strace does not tell
        if not effect.call.endswith(("at", "at2")):
            texts.pop("folder", None)
            texts.pop("target_folder", None)
        result = "none" if effect.result is None else normal_result(effect.call, effect.result)
        seen.append(
            Seen(number, effect.call, tuple(sorted(texts.items())), effect.arguments, effect.error or result)
        )
    return seen


def compare(folder: Path, script: str) -> Sample:
    """Run a script of the shell both ways, each time in the same empty folder; their effects are equal."""
    place = folder / "place"
    place.mkdir()
    command = ("/bin/sh", "-c", f"cd {place}; {script}")
    expected = strace(command, folder, folder / "strace.txt")
    shutil.rmtree(place)
    place.mkdir()
    sample = record(folder, *command)
    seen = seen_by_barnum(sample)
    assert seen == expected
    assert len(expected) > 2
    return sample


SCRIPTS = {
    "cp": "echo a > a; cp -p a b; mkdir c; cp -r c d",
}


@needs_strace
@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS)
def test_effects_of_common_programs_are_those_that_strace_sees(script: str, tmp_path: Path) -> None:
    sample = compare(tmp_path, script)
    check_places(tmp_path, sample)


def check_places(folder: Path, sample: Sample) -> None:
    """Every effect has a step, in its own stream, whose block ends with a way into the kernel."""
    parsed = sample.folder / "trace_parsed.parquet"
    preprocess(Request(folder=str(sample.folder), bin_dir=str(folder / "extract"), output=str(parsed)))
    reader = open_path(parsed)
    path = reader.read()
    steps = effect_steps(effects_of(sample), reader)
    assert (steps >= 0).all()
    assert (path.blocks.kind[path.block[steps]] == Kind.FAR).all()
    assert path.stream[steps].tolist() == [effect.stream for effect in effects_of(sample)]
