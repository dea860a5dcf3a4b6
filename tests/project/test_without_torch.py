"""What works where torch is not installed: all but networks, which say how to get it.

The environment is made of links to what is installed here: this package, and of others those alone that its
metadata ask for where no extra is named.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import venv
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import barnum
from barnum.recording import find_engine
from call_reports import Run, cuckoo, write
from learning import barnum as here
from learning import nominal_path, write_keras, write_tree

KINDS = ("--learn-ret", "--learn-icall", "--learn-ijmp")
SMALL = ("-p", "-e", "1", "--units", "8", "-t", "1", "--train-size", "16", "--test-size-benign", "4",
         "--test-size-malicious", "2")  # fmt: skip
GET_TORCH = "pip install 'barnum[network]' (without the libraries for GPUs: pip install torch --index-url "
NAMES = [f"Nt{verb}{what}" for verb in ("Open", "Read", "Write", "Close") for what in ("File", "Key", "Port")]


def needed() -> set[str]:
    """All packages that an installation without extras takes, this one not counted."""
    found: set[str] = set()
    waiting = ["barnum"]
    while waiting:
        for wanted in asked_for(waiting.pop()):
            name = canonicalize_name(wanted.name)
            if name not in found:
                found.add(name)
                waiting.append(name)
    return found


def asked_for(package: str, extra: str = "") -> list[Requirement]:
    """What a package asks for on this machine, with an extra or without."""
    lines = map(Requirement, importlib.metadata.requires(package) or ())
    return [line for line in lines if line.marker is None or line.marker.evaluate({"extra": extra})]


@pytest.fixture(scope="module")
def environment(tmp_path_factory) -> Path:
    """A virtual environment of links, as one that was set up without extras."""
    root = tmp_path_factory.mktemp("lean") / "venv"
    venv.create(root, symlinks=True, with_pip=False)
    [packages] = root.glob("lib/python*/site-packages")
    for name in needed():
        installed = importlib.metadata.distribution(name)
        # programs and what belongs to no package begin with ..
        for top in {file.parts[0] for file in installed.files or ()} - {"..", "__pycache__"}:
            if not (packages / top).exists():
                (packages / top).symlink_to(str(installed.locate_file(top)))
    # compiled parts may lie elsewhere than the sources
    (packages / "barnum").mkdir()
    for folder in barnum.__path__:
        for entry in Path(folder).iterdir():
            if not (packages / "barnum" / entry.name).exists():
                (packages / "barnum" / entry.name).symlink_to(entry)
    command = root / "bin" / "barnum"
    command.write_text(f"#!{root}/bin/python\nfrom barnum.cli.main import main\nmain()\n")
    command.chmod(0o755)
    return root


@pytest.fixture(scope="module")
def bare(environment):
    """Runs a command in that environment; which ended well is remembered in ``bare.ran``."""
    ran: set[str] = set()
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    # links lead to no tree of sources, in which an emulator may lie
    clean["BARNUM_QEMU"] = str(Path(find_engine().qemu[64]).parent)

    def run(command: str, *arguments: object, code: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [str(environment / "bin" / "barnum"), command, *map(str, arguments)],
            capture_output=True,
            text=True,
            check=False,
            timeout=240,
            env=clean,
        )
        assert done.returncode == code, done.stderr
        if not code:
            ran.add(command)
        return done

    run.ran = ran
    return run


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    return write_tree(tmp_path_factory.mktemp("traces") / "traces", 24, 6)


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    root = tmp_path_factory.mktemp("calls") / "reports"
    for number in range(26):
        label = "benign" if number < 24 else "malicious"
        name = f"{number}.doc"
        folder = root / f"{number:064x}"
        folder.mkdir(parents=True)
        (folder / "info.txt").write_text(f"{name}\n{label}\n")
        calls = [NAMES[step % 8] for step in nominal_path(number, 200)]
        if label == "malicious":
            calls[100:100] = NAMES[8:] * 4
        run = Run(12, "C:\\bin\\reader.exe", calls, command_line=f"reader.exe {name}")
        write(folder / "report.json", cuckoo([run], document=name))
    return root


def packed(folder: Path, tree: Path, *options: object) -> Path:
    """A detector, made where torch is."""
    files = ("--save-model", folder / "m.json", "--save-weights", folder / "w")
    assert here("lstm", *SMALL, *options, *files, "--eval-dir", folder / "eval", tree).code == 0
    assert here("classifier", "-s", folder / "class.json", folder / "eval").code == 0
    model = ("--use-model", folder / "m.json", "--use-weights", folder / "w")
    assert here("pack", *model, "-l", folder / "class.json", folder / "detector").code == 0
    return folder


@pytest.fixture(scope="module")
def causal(tree, tmp_path_factory):
    return packed(tmp_path_factory.mktemp("causal"), tree)


def chosen(tree: Path, label: str) -> list[Path]:
    return [sample.folder for sample in barnum.find_samples(tree) if sample.label == label]


def test_only_the_extra_asks_for_torch():
    assert "torch" not in needed()
    asking = {extra: {wanted.name for wanted in asked_for("barnum", extra)} for extra in ("", "network")}
    assert asking["network"] - asking[""] == {"torch"}
    # all that is needed for tests includes it, by the same extra
    [same] = [wanted for wanted in asked_for("barnum", "test") if wanted.name == "barnum"]
    assert "network" in same.extras


def test_the_environment_has_no_torch(environment):
    code = "import importlib.util; print(importlib.util.find_spec('torch')); import torch"
    done = subprocess.run(
        [environment / "bin" / "python", "-I", "-c", code], capture_output=True, text=True, check=False
    )
    assert done.stdout == "None\n"
    assert done.stderr.endswith("ModuleNotFoundError: No module named 'torch'\n")


def test_every_command_but_networks_runs(bare, tree, reports, tmp_path):
    _record(bare, tmp_path / "recorded")
    _judge_traces(bare, tree, tmp_path / "judged")
    _judge_calls(bare, reports, tmp_path / "calls")
    # names of commands stand at the beginning of their lines
    listed = bare("--help").stdout.partition("Commands")[2].splitlines()[1:]
    commands = {line.split()[0] for line in listed if line.startswith("  ") and line[2] != " "}
    assert len(commands) > 10
    # another test runs networks, before this one or after it
    assert commands - bare.ran <= {"lstm"}


def _record(bare, folder: Path) -> None:
    folder.mkdir()
    document = folder / "one.txt"
    document.write_text("one\n")
    where = ("-o", folder / "traces", "--bin-dir", folder / "extract")
    bare("trace", "--benign", "--start", "exec", *where, document, "--", "/bin/cat", "{}")
    [sample] = (folder / "traces").iterdir()
    assert "one.txt" in bare("list", folder / "traces").stdout
    summary = bare("decode", "--bin-dir", folder / "extract", sample).stdout
    assert "blocks" in summary
    bare("preprocess", folder / "traces", folder / "extract")
    assert len(barnum.open_path(sample)) > 1000
    blocks = folder / "run.drcov"
    bare("export", "--format", "drcov", "--bin-dir", folder / "extract", "-o", blocks, sample)
    assert blocks.read_bytes().startswith(b"DRCOV VERSION")


def _judge_traces(bare, tree: Path, folder: Path) -> None:
    folder.mkdir()
    rote, evaluations, sets = folder / "rote", folder / "eval", folder / "sets.txt"
    bare("prob", "-p", *KINDS, "--train-size", 16, "--test-size", 12, "-o", sets, "--save", rote,
         "--eval-dir", evaluations, tree)  # fmt: skip
    for method in ("conformal", "logistic", "svm"):
        more = ("--plot", folder / f"{method}.png", "--json", folder / f"{method}.json")
        bare("classifier", "--method", method, "-s", folder / method, *more, evaluations)
        assert (folder / f"{method}.png").read_bytes()[:4] == b"\x89PNG"
    runs = json.loads((folder / "conformal.json").read_text())["runs"]
    assert {run["verdict"] for run in runs if run["label"] == "malicious"} == {"anomalous"}
    bare("pack", "--prob", rote, "-l", folder / "conformal", folder / "detector")
    samples = chosen(tree, "benign")[:2] + chosen(tree, "malicious")[:2]
    said = bare("score", folder / "detector", *samples).stdout
    verdicts = [json.loads(line)["verdict"] for line in said.splitlines()]
    assert verdicts == ["nominal", "nominal", "anomalous", "anomalous"]
    assert said == here("score", folder / "detector", *samples).out
    fitted = folder / "fitted"
    bare("fit", tree, "-i", sets, "-o", fitted)
    said = bare("score", fitted, *samples).stdout
    assert [json.loads(line)["verdict"] for line in said.splitlines()] == verdicts
    assert [line.split(": ")[1].split(",")[0] for line in bare("check", fitted, *samples).stdout.splitlines()
            if not line.startswith(" ")] == verdicts  # fmt: skip
    whole = folder / "whole"
    bare("fit", tree, "-o", whole)
    bare("merge", whole, "-o", folder / "merged")
    assert (folder / "merged").read_bytes() == whole.read_bytes()
    page = folder / "report.html"
    bare("report", "-o", page, "--traces", tree, evaluations)
    assert "<html" in page.read_text()[:200]
    for algorithm in ("dbscan", "hdbscan"):
        radar = folder / f"{algorithm}.png"
        told = bare("cluster", "--algorithm", algorithm, "--min-samples", 3, "-p", radar, "--traces", tree,
                    evaluations)  # fmt: skip
        assert "6 points, " in told.stdout
        assert radar.read_bytes()[:4] == b"\x89PNG"
    bare("stats", "-r", "-c", "-j", samples[0], folder / "stats.csv")
    assert len((folder / "stats.csv").read_text().splitlines()) == 1 + 32
    curve = bare("bloom", "-r", "-c", "-j", "--plot", folder / "curve.png", sets).stdout
    assert len(curve.splitlines()) >= 16
    bare("eval2png", sorted(evaluations.iterdir())[0], folder / "pixels.png")
    assert (folder / "pixels.png").read_bytes()[:4] == b"\x89PNG"


def _judge_calls(bare, reports: Path, folder: Path) -> None:
    folder.mkdir()
    files = ("--save-model", folder / "m.json", "--save-weights", folder / "w")
    bare("syscall", "--train-size", 16, "--test-size-benign", 8, "--test-size-malicious", 2, *files,
         "--eval-dir", folder / "eval", reports)  # fmt: skip
    bare("classifier", "--false-alarm-rate", "0.15", "-s", folder / "class.json", folder / "eval")
    model = ("--use-model", folder / "m.json", "--use-weights", folder / "w")
    bare("pack", *model, "-l", folder / "class.json", folder / "detector")
    said = bare("score", folder / "detector", *sorted(reports.iterdir())[-2:]).stdout
    assert [json.loads(line)["verdict"] for line in said.splitlines()] == ["anomalous", "anomalous"]


def test_a_packed_network_judges(bare, tree, causal):
    samples = chosen(tree, "benign")[:2] + chosen(tree, "malicious")[:2]
    said = bare("score", causal / "detector", *samples).stdout
    assert [json.loads(line)["verdict"] for line in said.splitlines()][2:] == ["anomalous"] * 2
    assert said == here("score", causal / "detector", *samples).out


def test_a_network_that_was_learnt_evaluates(bare, tree, causal, tmp_path):
    model = ("--use-model", causal / "m.json", "--use-weights", causal / "w")
    sizes = ("--test-size-benign", 2, "--test-size-malicious", 1)
    bare("lstm", "-p", *model, *sizes, "--eval-dir", tmp_path / "bare", tree)
    assert here("lstm", "-p", *model, *sizes, "--eval-dir", tmp_path / "here", tree).code == 0
    names = sorted(file.name for file in (tmp_path / "here").iterdir())
    assert names == sorted(file.name for file in (tmp_path / "bare").iterdir())
    for name in names:
        assert (tmp_path / "bare" / name).read_bytes() == (tmp_path / "here" / name).read_bytes()


def test_networks_say_how_to_get_torch(bare, tree, reports, tmp_path):
    paper = packed(
        tmp_path, tree, "--network", "paper", "-s", 4, "--max-transfers", 200, "--embedding-output-dimension",
        4,
    )  # fmt: skip
    write_keras(tmp_path)
    sizes = ("--test-size-benign", 2, "--test-size-malicious", 1)
    keras = ("--use-model", tmp_path / "lstm.json", "--use-weights", tmp_path / "lstm.h5")
    of_paper = ("--use-model", paper / "m.json", "--use-weights", paper / "w")
    for wants, *words in (
        ("learning a network", "lstm", *SMALL, tree),
        ("learning a network", "lstm", *SMALL, "--multi-gpu", 2, tree),
        ("learning a network", "syscall", "--network", "causal", "--train-size", 8, *sizes, reports),
        (f"{tmp_path}/lstm.json: a model of Keras", "lstm", "-p", *keras, *sizes, tree),
        ("scoring with the paper's network", "lstm", "-p", *of_paper, *sizes, tree),
        ("scoring with the paper's network", "score", paper / "detector", chosen(tree, "benign")[0]),
    ):
        done = bare(*words, code=24)
        [line] = [line for line in done.stderr.splitlines() if line.startswith("barnum: ")]
        assert line.startswith(f"barnum: {wants} needs torch, which is not installed: {GET_TORCH}"), line
        assert line == done.stderr.splitlines()[-1]
        assert "Traceback" not in done.stderr
