"""The command that exports, and an exporter that is registered here."""

from __future__ import annotations

import json

import pytest

import barnum
from barnum.errors import OptionsError, OutputError, OutputExistsError, SampleError
from barnum.exporting import EXPORTERS, Exporter
from learning import barnum as run
from paths_tools import make_images, make_sample


class SummaryExporter(Exporter):
    """What a sample is, as JSON."""

    name = "summary"

    def export(self, sample, bin_dir, file):
        if sample.label == "malicious":
            file.write(b"half of it")
            raise SampleError(f"{sample.folder}: is not to be shown")
        images = sorted(entry.name for entry in bin_dir.iterdir()) if bin_dir.is_dir() else []
        steps = len(barnum.open_path(sample))
        file.write(json.dumps({"name": sample.name, "steps": steps, "images": images}).encode())
        return f"{steps} steps"


@pytest.fixture
def summary():
    EXPORTERS.add("summary", SummaryExporter())
    yield
    EXPORTERS.remove("summary")


@pytest.fixture
def sample(tmp_path):
    folder = make_sample(tmp_path / "traces" / "tiny")
    assert run("preprocess", folder, make_images(tmp_path / "extract")).code == 0
    return folder


def test_an_exporter_of_ones_own_writes(summary, sample, tmp_path):
    file = tmp_path / "out.json"
    options = ("--format", "summary", "--bin-dir", tmp_path / "extract")
    ended = run("export", *options, "-o", file, sample)
    assert (ended.code, ended.out) == (0, f"{file}: 21 steps\n"), ended.err
    written = {"name": "tiny.pdf", "steps": 21, "images": ["tiny"]}
    assert json.loads(file.read_text()) == written
    ended = run("export", *options, "-o", file, sample)
    assert ended.code == OutputExistsError.exit_code
    assert run("export", *options, "-f", "-o", file, sample).code == 0
    for place in (barnum.open_sample(sample), str(sample), sample):
        barnum.export(place, str(file), format="summary", bin_dir=str(tmp_path / "extract"), force=True)
        assert json.loads(file.read_text()) == written
    with pytest.raises(OutputExistsError):
        barnum.export(sample, file, format="summary")


def test_it_is_offered_as_long_as_it_is_registered(summary, sample, tmp_path):
    assert "[drcov|summary]" in run("export", "--help").out
    EXPORTERS.remove("summary")
    try:
        ended = run("export", "--format", "summary", "-o", tmp_path / "o", sample)
        assert ended.usage == "Invalid value for '--format': 'summary' is not one of 'drcov'."
        with pytest.raises(OptionsError, match="no format is called 'summary': use drcov"):
            barnum.export(sample, tmp_path / "o", format="summary")
    finally:
        EXPORTERS.add("summary", SummaryExporter())


def test_half_a_file_is_never_left(summary, tmp_path):
    folder = make_sample(tmp_path / "bad", label="malicious")
    ended = run("export", "--format", "summary", "-o", tmp_path / "o", folder)
    assert ended.code == SampleError.exit_code
    assert ended.error == f"{folder}: is not to be shown"
    assert [entry.name for entry in tmp_path.iterdir()] == ["bad"]


def test_what_cannot_be_written_is_told(summary, sample, tmp_path):
    ended = run("export", "--format", "summary", "-o", tmp_path / "gone" / "o", sample)
    assert ended.code == OutputError.exit_code and "no such folder" in ended.error
    ended = run("export", "--format", "summary", "-f", "-o", "/dev/full", sample)
    assert (
        ended.code == OutputError.exit_code
        and "/dev/full: cannot be written: the disk is full" in ended.error
    )
    ended = run("export", "--format", "summary", "-f", "-o", "/dev/null", sample)
    assert ended.code == 0, ended.err


def test_a_sample_is_wanted(tmp_path):
    (tmp_path / "empty").mkdir()
    ended = run("export", "--format", "drcov", "-o", tmp_path / "o", tmp_path / "empty")
    assert ended.code == SampleError.exit_code
    assert "Missing option '--format'" in run("export", "-o", tmp_path / "o", tmp_path / "empty").usage
