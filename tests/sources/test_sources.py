"""Sources of traces: the emulator, and one that is registered here and writes packets of its own."""

from __future__ import annotations

import gzip
import hashlib
import threading
from pathlib import Path

import click
import numpy as np
import pytest

import barnum
from barnum.cli.trace import command
from barnum.errors import EngineError, OptionsError, RecordingError, SomeFailedError
from barnum.paths import open_path
from barnum.recording import InputRecorder, Outcome, Settings
from barnum.samples import Info, write_info
from barnum.sources import SOURCES, Option, RecordingSource, TraceSource
from barnum.sources.emulator import EMULATOR
from learning import barnum as run
from pt_program import make_run
from recording import document

PROGRAM = ("--", "reader", "{}")


class Drawn(RecordingSource):
    """Writes the packets of a made-up program's run that --draw chooses."""

    name = "drawn"
    options = (Option("draw", "NUMBER", "Which run is written."),)

    def __init__(self, *reasons: str) -> None:
        self.reasons = reasons
        self.recorders: list[DrawnRecorder] = []

    def missing(self):
        return list(self.reasons)

    def recorder(self, settings, options):
        if not options.get("draw", "0").isdigit():
            raise OptionsError("draw is no number")
        self.recorders.append(DrawnRecorder(settings, int(options.get("draw", "0"))))
        return self.recorders[-1]


class DrawnRecorder:
    def __init__(self, settings: Settings, draw: int) -> None:
        self.settings, self.draw = settings, draw
        self.stopped = threading.Event()

    def record(self, path: Path) -> Outcome:
        content = path.read_bytes()
        if b"refused" in content:
            raise RecordingError(f"{path.name}: is refused")
        drawn = make_run(self.draw)
        folder = self.settings.output / hashlib.sha256(content).hexdigest()
        folder.mkdir(parents=True)
        write_info(folder / "info.txt", Info(path.name, self.settings.label, self.settings.extra_labels))
        end = drawn.base + len(drawn.code)
        (folder / "mapping.txt").write_text(f"{drawn.base:x}-{end:x} r-xp 00000000 00:00 0 /bin/reader\n")
        (folder / "trace_0.gz").write_bytes(gzip.compress(drawn.trace))
        self.settings.bin_dir.mkdir(exist_ok=True)
        (self.settings.bin_dir / "reader").write_bytes(drawn.code)
        return Outcome(path=path, state="recorded", folder=folder, raw_bytes=len(drawn.trace))

    def stop(self) -> None:
        self.stopped.set()


@pytest.fixture
def drawn():
    source = Drawn()
    SOURCES.add("drawn", source)
    yield source
    SOURCES.remove("drawn")


def is_run(sample: barnum.Sample, draw: int) -> bool:
    """Whether a sample was decoded to the blocks of a run."""
    path = open_path(sample.parsed).read()
    start, _, count, kind, gap = zip(*make_run(draw).steps, strict=True)
    blocks = path.blocks
    decoded = (blocks.start[path.block], blocks.count[path.block], blocks.kind[path.block], path.gap)
    return all(
        np.array_equal(a, np.array(b, np.uint64))
        for a, b in zip(decoded, (start, count, kind, gap), strict=True)
    )


def test_a_source_of_ones_own_records_what_is_decoded(drawn, tmp_path):
    places = ("-o", tmp_path / "traces", "--bin-dir", tmp_path / "extract")
    ended = run(
        "trace", "--engine", "drawn", "--draw", 7, "--malicious", *places, document(tmp_path), *PROGRAM
    )
    assert ended.code == 0, ended.err
    assert "recorded 1, skipped 0, failed 0 of 1" in ended.out
    [sample] = barnum.find_samples(tmp_path / "traces")
    assert (sample.name, sample.label) == ("document.txt", "malicious")
    ended = run("preprocess", tmp_path / "traces", tmp_path / "extract")
    assert ended.code == 0, ended.err
    assert is_run(sample, 7) and not is_run(sample, 8)
    [recorder] = drawn.recorders
    assert recorder.settings.command == ("reader", "{}")
    assert recorder.stopped.is_set()


def test_from_python_too(drawn, tmp_path):
    places = {"output": tmp_path / "traces", "bin_dir": tmp_path / "extract"}
    told = []
    samples = barnum.record(
        ["reader", "{}"],
        [document(tmp_path)],
        source="drawn",
        draw="3",
        progress=lambda *step: told.append(step),
        **places,
    )
    assert told[-1] == ("record", 1, 1)
    barnum.preprocess(tmp_path / "traces", tmp_path / "extract")
    assert [is_run(sample, 3) for sample in samples] == [True]
    with pytest.raises(OptionsError, match="no trace source is called 'dawn': use emulator, drawn"):
        barnum.record(["reader", "{}"], tmp_path / "document.txt", source="dawn", **places)
    with pytest.raises(OptionsError, match="cpu is no option of the trace source drawn"):
        barnum.record(["reader", "{}"], tmp_path / "document.txt", source="drawn", cpu="max", **places)


def test_an_input_that_fails_leaves_the_others(drawn, tmp_path):
    inputs = [document(tmp_path), document(tmp_path, "refused", "other.txt")]
    places = ("-o", tmp_path / "traces", "--bin-dir", tmp_path / "extract")
    ended = run("trace", "--engine", "drawn", "--benign", *places, *inputs, *PROGRAM)
    assert ended.code == SomeFailedError.exit_code
    assert ended.logged("ERROR") == ["other.txt: is refused"]
    assert "recorded 1, skipped 0, failed 1 of 2" in ended.out


def test_each_source_has_options_of_its_own(drawn, tmp_path):
    options = ("--benign", document(tmp_path))
    ended = run("trace", "--draw", 1, *options, *PROGRAM)
    assert ended.usage == "draw is no option of the trace source emulator: leave it out"
    ended = run("trace", "--engine", "drawn", "--cpu", "max", *options, *PROGRAM)
    assert ended.usage == "cpu is no option of the trace source drawn: leave it out"
    ended = run("trace", "--engine", "drawn", "--draw", "many", *options, *PROGRAM)
    assert ended.usage == "draw is no number"
    ended = run("trace", "--engine", "other", *options, *PROGRAM)
    assert "'other' is not one of 'emulator', 'drawn'" in ended.usage


def test_help_shows_the_options_of_all_sources(drawn):
    context = click.Context(command)
    names = [param.name for param in command.get_params(context)]
    at = names.index("engine")
    assert names[at + 1 : at + 4] == ["cpu", "draw", "start"]
    assert "--draw NUMBER" in command.get_help(context)
    SOURCES.remove("drawn")
    try:
        assert "--draw" not in command.get_help(click.Context(command))
    finally:
        SOURCES.add("drawn", drawn)


def test_where_a_source_cannot_record_another_is_named(drawn, tmp_path, monkeypatch):
    assert EMULATOR.missing() == []
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("BARNUM_QEMU", str(tmp_path / "bin"))
    assert EMULATOR.missing() == [f"qemu-x86_64 is missing in {tmp_path}/bin"]
    arguments = ("trace", "--benign", "-o", tmp_path / "traces", document(tmp_path), "--", "cat", "{}")
    ended = run(*arguments)
    assert ended.code == EngineError.exit_code
    assert ended.error.startswith(f"qemu-x86_64 is missing in {tmp_path}/bin: set BARNUM_QEMU to ")
    assert ended.error.endswith("; or use drawn, which can record here")
    drawn.reasons = ("the moon is not full",)
    ended = run(*arguments)
    assert ended.code == EngineError.exit_code
    assert "drawn" not in ended.error


def test_all_reasons_are_told(tmp_path, monkeypatch):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        program = tmp_path / name / "qemu-x86_64"
        program.write_text("#!/bin/sh\necho qemu-x86_64 version 5.2.0\n")
        program.chmod(0o755)
    monkeypatch.delenv("BARNUM_QEMU", raising=False)
    monkeypatch.setattr("barnum.recording.engine._source_tree", lambda: None)
    monkeypatch.setenv("PATH", f"{tmp_path}/a:{tmp_path}/b:/usr/bin:/bin")
    reasons = EMULATOR.missing()
    # whatever this machine has besides them fits, or is told of as well
    if reasons:
        assert reasons[:2] == [f"{tmp_path}/{n}/qemu-x86_64 is version 5.2, too old" for n in "ab"]
    monkeypatch.setenv("PATH", f"{tmp_path}/a:{tmp_path}/b")
    assert EMULATOR.missing() == [f"{tmp_path}/{n}/qemu-x86_64 is version 5.2, too old" for n in "ab"]


class Reading(TraceSource):
    """A source that runs nothing."""

    name = "reading"

    def missing(self):
        return []


def test_a_source_that_runs_nothing_is_no_engine(tmp_path):
    SOURCES.add("reading", Reading())
    try:
        ended = run("trace", "--engine", "reading", "--benign", document(tmp_path), *PROGRAM)
        assert ended.usage == "no trace source is called 'reading': use emulator"
    finally:
        SOURCES.remove("reading")


def test_the_emulator_s_recorder_is_one(tmp_path):
    settings = Settings(
        command=("cat", "{}"), label="benign", output=tmp_path / "traces", bin_dir=tmp_path / "extract"
    )
    recorder: InputRecorder = EMULATOR.recorder(settings, {})
    outcome = recorder.record(document(tmp_path))
    assert outcome.state == "recorded" and outcome.folder.is_dir()
