"""``barnum lstm`` that is killed, interrupted and resumed: the model is the same, byte for byte."""

import contextlib
import hashlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from safetensors.numpy import load_file, save_file

from barnum.learning.network.trainer import Trainer
from learning import (
    Ended,
    Processes,
    attack_path,
    lstm,
    nominal_path,
    unchanged,
    write_sample,
    write_tree,
)

SIZES = ["--train-size", "16", "--test-size-benign", "2", "--test-size-malicious", "1"]
SHORT = ["-p", "-t", "1", "--units", "8", *SIZES, "--skip-test", "--skip-eval", "-l", "20"]
# a rate at which each epoch brings a little
LONG = [*SHORT, "-e", "8", "-b", "64", "--learning-rate", "0.001"]
WINDOWS = ["--network", "paper", "--embedding-output-dimension", "8", "-s", "4", "--max-transfers", "300"]
# thirty milliseconds
OFTEN = ["--checkpoint", "0.0005"]
# names in the folder that a command runs in
FILES = ["--save-model", "m.json", "--save-weights", "w"]
KEPT = "w.checkpoints"


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    return write_tree(tmp_path_factory.mktemp("traces") / "traces", 18, 1)


@pytest.fixture(scope="module")
def started(tmp_path_factory):
    with Processes(tmp_path_factory.mktemp("processes")) as processes:
        yield processes


@pytest.fixture
def processes(started, tmp_path):
    """Starts the command in the test's own folder."""
    started.folder = tmp_path
    yield started
    if started.pid:
        with contextlib.suppress(ProcessLookupError):
            started.kill()


@pytest.fixture(scope="module")
def undisturbed(started, tree, tmp_path_factory):
    """What one process leaves that nobody disturbs, and the number of its last checkpoint."""
    return run_undisturbed(started, tmp_path_factory.mktemp("undisturbed"), LONG, tree)


def run_undisturbed(started, folder, words, tree):
    started.folder = folder
    ended = started.run(*words, *OFTEN, "--resume", *FILES, tree)
    assert ended.code == 0, ended.err
    assert "--resume: no checkpoint is there: training begins anew" in ended.logged("INFO")
    numbers = [int(number) for number in re.findall(r"step-(\d+)\.json", ended.err)]
    assert len(numbers) >= 10
    return contents(folder), numbers[-1]


@pytest.fixture(scope="module")
def broken_off(started, undisturbed, tree, tmp_path_factory):
    """A folder in which a training was killed near its end."""
    started.folder = tmp_path_factory.mktemp("broken-off")
    started.start(*LONG, *OFTEN, *FILES, tree)
    started.wait_until(lambda: newest(started.folder) > 0.8 * undisturbed[1])
    assert started.kill().code == -signal.SIGKILL
    return started.folder


@pytest.fixture
def again(broken_off, tmp_path, monkeypatch):
    """The test's own copy of that folder, as working directory."""
    shutil.copytree(broken_off, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def contents(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir() if not file.name.startswith(".said")}


def checkpoints(folder):
    """JSON files of checkpoints, from the first to the last."""
    return sorted((folder / KEPT).glob("step-*.json"))


def newest(folder):
    """Number of the newest checkpoint."""
    return max((int(file.stem[5:]) for file in checkpoints(folder)), default=0)


def resumed_at(ended):
    """Epoch and step at which training went on."""
    match = re.search(r"resumed: epoch (\d+), step (\d+)", ended.err)
    return match and (int(match[1]), int(match[2]))


def loads(file, tree):
    """Whether a checkpoint is a model that can be used."""
    use = ["--use-model", file, "--use-weights", file.with_suffix(".safetensors")]
    ended = lstm("-p", *use, *SIZES, "--skip-eval", tree)
    assert ended.code == 0, ended.err
    assert "test: 2 benign samples" in ended.out
    return True


class Installed:
    """Starts the installed command, as Processes does what it would do."""

    def __init__(self, folder):
        self.folder = folder
        self.process = None

    def start(self, *arguments):
        program = [str(Path(sys.executable).with_name("barnum")), "lstm", *map(str, arguments)]
        with (self.folder.parent / "said").open("w") as said:
            self.process = subprocess.Popen(
                program,
                cwd=self.folder,
                stdout=said,
                stderr=said,
                env={**os.environ, "TMPDIR": str(self.folder.parent)},
            )

    def wait_until(self, happened):
        while not happened():
            assert self.process.poll() is None, self.end()
            time.sleep(0.002)

    def kill(self, number=signal.SIGKILL):
        self.process.send_signal(number)
        return self.end()

    def end(self):
        code = self.process.wait(600)  # a busy machine
        return Ended(code, "", (self.folder.parent / "said").read_text())

    def run(self, *arguments):
        self.start(*arguments)
        return self.end()


@pytest.fixture
def installed(tmp_path):
    made = Installed(tmp_path)
    yield made
    if made.process is not None and made.process.poll() is None:
        made.kill()


# kills ------------------------------------------------------------------------------------------------------


def kill_often(processes, folder, words, tree, times, seed, start_up):
    """Kill a training so often, at moments spread over all of it, and let it end at last: the same files."""
    for name in ("undisturbed", "killed"):
        (folder / name).mkdir()
    files, total = run_undisturbed(processes, folder / "undisturbed", words, tree)
    assert set(files) == {"m.json", "w"}
    folder = processes.folder = folder / "killed"
    draw = random.Random(seed)
    places = sorted(draw.uniform(0, 0.9) for _ in range(times))
    # some while it starts, which takes so many seconds, whatever has been done by then
    starting = set(draw.sample(range(times // 2), times // 4))
    gone_on = set()
    for number, place in enumerate(places):
        before = newest(folder)
        processes.start(*words, *OFTEN, "--resume", *FILES, tree)
        if number in starting:
            time.sleep(draw.uniform(0, start_up))
        else:
            least = max(before + 1, place * total)
            processes.wait_until(lambda least=least: newest(folder) >= least)
            time.sleep(draw.uniform(0, 0.03))
        ended = processes.kill()
        assert ended.code == -signal.SIGKILL, ended.err
        assert "Traceback" not in ended.err
        assert "WARNING" not in ended.err
        assert not (folder / "w").exists()
        gone_on.add(resumed_at(ended))
    last = processes.run(*words, *OFTEN, "--resume", *FILES, tree)
    assert last.code == 0, last.err
    # it did go on, again and again
    gone_on.add(resumed_at(last))
    assert len(gone_on - {None}) >= times - len(starting)
    assert contents(folder) == files


def test_twenty_kills(installed, tmp_path):
    for i in range(19):
        write_sample(
            tmp_path / "traces", f"{i}", "malicious" if i == 18 else "benign", nominal_path(i, 12_000)
        )
    kill_often(installed, tmp_path, LONG, tmp_path / "traces", 20, seed=20, start_up=1)


def test_kills_of_the_network_of_the_paper(processes, tree, tmp_path):
    words = [*SHORT, *WINDOWS, "-e", "2", "-b", "64"]
    kill_often(processes, tmp_path, words, tree, 5, seed=5, start_up=0.3)


def test_checkpoints_change_nothing(undisturbed, tree, tmp_path, monkeypatch):
    """Neither do threads."""
    monkeypatch.chdir(tmp_path)
    ended = lstm(*LONG, "-t", "2", *FILES, tree)
    assert ended.code == 0, ended.err
    assert contents(tmp_path) == undisturbed[0]


def test_the_installed_command_is_interrupted(installed, tree, undisturbed, tmp_path):
    files, total = undisturbed
    installed.folder = tmp_path / "here"
    installed.folder.mkdir()
    for number, place in ((signal.SIGINT, 0.3), (signal.SIGTERM, 0.6)):
        installed.start(*LONG, *OFTEN, "--resume", *FILES, tree)
        installed.wait_until(lambda place=place: newest(installed.folder) >= place * total)
        ended = installed.kill(number)
        assert ended.code == 130, ended.err
        assert ended.err.count("barnum: ") == 1
        assert "Traceback" not in ended.err
    ended = installed.run(*LONG, *OFTEN, "--resume", *FILES, tree)
    assert ended.code == 0, ended.err
    assert contents(installed.folder) == files


@pytest.mark.parametrize(
    ("number", "often"), [(signal.SIGINT, OFTEN), (signal.SIGTERM, [])], ids=["SIGINT", "SIGTERM, seldom"]
)
def test_an_interrupt_leaves_a_checkpoint(processes, undisturbed, tree, tmp_path, number, often):
    processes.start(*LONG, *often, *FILES, tree)
    processes.wait_until(lambda: "epoch 3/8: " in processes.said())
    ended = processes.kill(number)
    assert ended.code == 130
    assert ended.error == "interrupted"
    assert f"training stopped, with a checkpoint in {KEPT}: go on with --resume" in ended.err
    assert not (tmp_path / "w").exists()
    assert loads(checkpoints(tmp_path)[-1], tree)
    ended = processes.run(*LONG, *often, "--resume", *FILES, tree)
    assert ended.code == 0, ended.err
    assert resumed_at(ended)[0] >= 4
    assert contents(tmp_path) == undisturbed[0]


def test_an_interrupt_without_a_place_for_checkpoints(processes, tree, tmp_path):
    processes.start(*LONG, tree)
    processes.wait_until(lambda: "epoch 2/8: " in processes.said())
    ended = processes.kill(signal.SIGINT)
    assert ended.code == 130
    assert ended.error == "interrupted"
    assert "checkpoint" not in ended.err
    assert contents(tmp_path) == {}


def test_an_interrupt_while_evaluating(processes, tree, tmp_path):
    """Files that are there are whole; the model is, too."""
    words = ["-p", "-t", "1", "--units", "8", "-e", "1", *SIZES, "--test-size-benign", "2", "--skip-test"]
    processes.start(*words, *FILES, "--eval-dir", "eval", tree)
    processes.wait_until(lambda: (tmp_path / "w").exists() and (tmp_path / "m.json").exists())
    ended = processes.kill(signal.SIGINT)
    if ended.code:  # it may have been quicker
        assert ended.code == 130
        assert ended.error == "interrupted"
    assert not list((tmp_path / "eval").glob(".*"))
    assert not (tmp_path / KEPT).exists()
    use = ["--use-model", tmp_path / "m.json", "--use-weights", tmp_path / "w"]
    ended = lstm("-p", *use, *SIZES, "--eval-dir", tmp_path / "eval", "--force", tree)
    assert ended.code == 0, ended.err


# damaged checkpoints ----------------------------------------------------------------------------------------


def flip(file):
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def other_hash(file):
    document = json.loads(file.read_text())
    file.write_text(json.dumps(document | {"sha256": "0" * 64}))


DAMAGES = {
    "weights cut": (".safetensors", lambda file: os.truncate(file, 1000)),
    "a bit of the weights": (".safetensors", flip),
    "weights gone": (".safetensors", lambda file: file.unlink()),
    "document cut": (".json", lambda file: os.truncate(file, 100)),
    "no document": (".json", lambda file: file.write_text("[1, 2]")),
    "another hash": (".json", other_hash),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_left_aside(processes, again, undisturbed, tree, damage):
    suffix, spoil = DAMAGES[damage]
    *_, before, last = checkpoints(again)
    progress = json.loads(before.read_text())["progress"]
    spoil(last.with_suffix(suffix))
    ended = processes.run(*LONG, *OFTEN, "--resume", *FILES, tree)
    assert ended.code == 0, ended.err
    (warning,) = ended.logged("WARNING")
    assert last.stem in warning
    assert "the checkpoint before it is used" in warning
    assert resumed_at(ended) == (progress["epoch"], progress["step"])
    assert contents(again) == undisturbed[0]


def test_what_a_kill_left_half_written_is_removed(processes, again, undisturbed, tree):
    """Weights whose document was not written any more, and parts of files."""
    last = checkpoints(again)[-1]
    shutil.copy(last.with_suffix(".safetensors"), again / KEPT / "step-999999999.safetensors")
    (again / KEPT / ".step-000000001.json.123").write_text("{")
    ended = processes.run(*LONG, *OFTEN, "--resume", *FILES, tree)
    assert ended.code == 0, ended.err
    assert ended.logged("WARNING") == []
    assert contents(again) == undisturbed[0]


def test_training_begins_anew_where_all_checkpoints_are_damaged(processes, again, undisturbed, tree):
    """And what it then saves is kept, though the damaged ones had come further."""
    damaged = checkpoints(again)
    for file in damaged:
        os.truncate(file.with_suffix(".safetensors"), 1000)
    processes.start(*LONG, *OFTEN, "--resume", *FILES, tree)
    processes.wait_until(lambda: "epoch 2/8: " in processes.said())
    ended = processes.kill(signal.SIGINT)
    assert ended.code == 130
    assert len(ended.logged("WARNING")) == len(damaged)
    assert resumed_at(ended) is None
    ended = processes.run(*LONG, *OFTEN, "--resume", *FILES, tree)
    assert ended.code == 0, ended.err
    assert resumed_at(ended)
    assert contents(again) == undisturbed[0]


def test_files_of_others_among_checkpoints_stay(processes, again, undisturbed, tree):
    (again / KEPT / "notes.txt").write_text("mine")
    ended = processes.run(*LONG, *OFTEN, "--resume", *FILES, tree)
    assert ended.code == 0, ended.err
    assert [file.name for file in (again / KEPT).iterdir()] == ["notes.txt"]
    assert (again / "w").read_bytes() == undisturbed[0]["w"]


# refusals ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "name"),
    [
        (["--seed", "1"], "train"),
        (["-e", "9"], "train"),
        (["-b", "65"], "train"),
        (["--learning-rate", "0.5"], "train"),
        (["--learning-decay", "0.5"], "train"),
        (["--units", "9"], "config"),
        (["--learn-call"], "learn"),
        (["--disable-ret"], ""),
        (["--max-transfers", "1000"], "selection"),
        (["--fold-loops", "3"], "selection"),
        (["--vocabulary", "modulo"], "tokens"),
        (["--network", "paper"], "network"),
        (["--train-size", "15"], "samples"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_checkpoints_of_other_options_are_refused(again, tree, options, name):
    with unchanged(again / KEPT):
        ended = lstm(*LONG, *OFTEN, "--resume", *FILES, *options, tree)
    assert ended.code == 20
    assert ended.error.startswith(f"{KEPT}: is of another training ({name}")
    assert ended.error.endswith("--force to begin anew")


def test_checkpoints_of_other_samples_are_refused(again, tree, tmp_path_factory):
    """Of others by name, and of others of the same name."""
    samples = json.loads(checkpoints(again)[-1].read_text())["samples"]
    lines = [str(tree / name) for name in samples]
    sets = again / "sets"
    with unchanged(again / KEPT):
        sets.write_text("[b_train]\n" + "\n".join(lines[1:]) + "\n")
        ended = lstm(*LONG, *OFTEN, "--resume", *FILES, "-i", sets, tree)
        assert ended.code == 20
        assert "(samples differs)" in ended.error
        other = tmp_path_factory.mktemp("other") / "traces"
        shutil.copytree(tree, other)
        shutil.rmtree(other / samples[0])
        changed = write_sample(other, "again", "benign", attack_path(5))
        changed.rename(other / samples[0])
        ended = lstm(*LONG, *OFTEN, "--resume", *FILES, other)
        assert ended.code == 20
        assert "is of another training" in ended.error


def test_checkpoints_of_more_processes_are_refused(again, tree):
    last = checkpoints(again)[-1]
    document = json.loads(last.read_text())
    document["progress"]["processes"] = 2
    last.write_text(json.dumps(document))
    ended = lstm(*LONG, *OFTEN, "--resume", *FILES, tree)
    assert ended.code == 20
    assert "was made by 2 processes, now there are 1" in ended.error


@pytest.mark.parametrize(("name", "value"), [("epoch", -1), ("epoch", 10**9), ("step", 10**9)])
def test_progress_that_cannot_be_is_refused(again, tree, name, value):
    for file in checkpoints(again):
        document = json.loads(file.read_text())
        document["progress"][name] = value
        file.write_text(json.dumps(document))
    ended = lstm(*LONG, *OFTEN, "--resume", *FILES, tree)
    assert ended.code == 20 or ended.logged("WARNING")


@pytest.mark.parametrize("how", ["gone", "wrong shape"])
def test_the_state_of_an_optimiser_that_does_not_fit_is_refused(again, tree, how):
    for file in checkpoints(again):
        weights = file.with_suffix(".safetensors")
        arrays = load_file(weights)
        for name in [name for name in arrays if name.startswith("optimiser.")]:
            if how == "gone":
                del arrays[name]
            else:
                arrays[name] = arrays[name][:1]
        document = json.loads(file.read_text())
        save_file(arrays, weights, metadata={"identity": document["identity"]})
        document["sha256"] = hashlib.sha256(weights.read_bytes()).hexdigest()
        file.write_text(json.dumps(document))
    ended = lstm(*LONG, *OFTEN, "--resume", *FILES, tree)
    assert ended.code == 20 or ended.logged("WARNING")


def test_leftovers_are_neither_overwritten_nor_forgotten(again, tree):
    with unchanged(again):
        ended = lstm(*LONG, *FILES, tree)
        assert ended.code == 16
        assert ended.error.startswith(f"{KEPT}: holds checkpoints of a training that did not end")
        assert "--resume" in ended.error
        assert "--force" in ended.error


def test_force_forgets_checkpoints(again, tree, tmp_path_factory, monkeypatch):
    words = [*SHORT, "-e", "1", "--seed", "7", *FILES, tree]
    ended = lstm(*words, "--force")
    assert ended.code == 0, ended.err
    assert resumed_at(ended) is None
    assert set(contents(again)) == {"m.json", "w"}
    fresh = tmp_path_factory.mktemp("fresh")
    monkeypatch.chdir(fresh)
    assert lstm(*words).code == 0
    assert contents(fresh) == contents(again)


def test_force_that_begins_nothing_forgets_nothing(again, tree):
    """Checkpoints are hours of work: they go when a new training begins, not before."""
    with unchanged(again):
        for wrong in (["--train-size", "99"], ["--disable-ret", "--disable-icall", "--disable-ijmp"]):
            assert lstm(*LONG, *FILES, "--force", *wrong, tree).code in (2, 21)


def test_a_finished_model_is_not_learnt_again(processes, again, undisturbed, tree):
    ended = processes.run(*LONG, *OFTEN, "--resume", *FILES, tree)
    assert ended.code == 0, ended.err
    with unchanged(again):
        ended = lstm(*LONG, *OFTEN, "--resume", *FILES, tree)
    assert ended.code == 16
    assert "is there already" in ended.error


def test_a_kill_between_the_two_files_of_a_model(processes, again, undisturbed, tree):
    """The weights are written, the document is not: going on is still possible."""
    (again / "w").write_bytes(undisturbed[0]["w"])
    ended = processes.run(*LONG, *OFTEN, "--resume", *FILES, tree)
    assert ended.code == 0, ended.err
    assert contents(again) == undisturbed[0]


def test_going_on_writes_the_same_sets_and_no_others(again, tree):
    """Sets that were written when it began are there, and may be; a file of somebody else's stays."""
    ended = lstm(*LONG, "--resume", *FILES, "-o", "sets", tree)
    assert ended.code == 0, ended.err
    assert len((again / "sets").read_text().splitlines()) == 3 + 16 + 2 + 1
    (again / "w").unlink()
    (again / "m.json").unlink()
    ended = lstm(*SHORT, "-e", "1", "--resume", *FILES, "-o", "sets", tree)
    assert ended.code == 0, ended.err
    (again / "w").unlink()
    (again / "m.json").unlink()
    (again / "sets").write_text("[b_train]\n/precious\n")
    with unchanged(again / "sets"):
        ended = lstm(*SHORT, "-e", "1", "--resume", *FILES, "-o", "sets", tree)
        assert ended.code == 16
        assert "sets: is there already" in ended.error


# best, and early stop ---------------------------------------------------------------------------------------


@pytest.fixture
def clock(monkeypatch):
    """A clock for training that goes on by a second whenever it is looked at: so checkpoints come at the same
    steps in every run."""
    seconds = iter(range(10**9))
    stub = SimpleNamespace(monotonic=lambda: float(next(seconds)), perf_counter=time.perf_counter)
    monkeypatch.setattr("barnum.learning.network.trainer.time", stub)


def losses(ended, pattern):
    return [float(match) for match in re.findall(pattern, ended.err)]


def test_losses_of_checkpoints_are_those_of_training(clock, tree, tmp_path, monkeypatch):
    """Transfers that need no network have no loss: where an epoch begins with them, it is no better."""
    monkeypatch.chdir(tmp_path)
    often = ["--checkpoint", "0.4", "--checkpoint-best"]
    ended = lstm(*SHORT, "-e", "4", *often, *FILES, tree)
    assert ended.code == 0, ended.err
    left_out = re.findall(r"checkpoint left out: loss ([\d.]+) nats, the best had ([\d.]+)", ended.err)
    for loss, best in left_out:
        assert float(best) > 0.5 * float(loss)
    for loss in losses(ended, r"had the least loss \(([\d.]+) nats\)"):
        assert loss > 0.5 * min(losses(ended, r"epoch \d/4: loss ([\d.]+) nats"))


def test_best_keeps_the_best(clock, tree, tmp_path, monkeypatch):
    """Where the last steps undo what was learnt, the model is that of a checkpoint before them."""
    usual = Trainer._rate
    monkeypatch.setattr(Trainer, "_rate", lambda it: usual(it) if it.progress.steps < 120 else 3.0)
    test = [word for word in SHORT if word != "--skip-test"]
    words = [
        *test,
        *WINDOWS,
        "-e",
        "2",
        "-b",
        "64",
        "--learning-rate",
        "0.003",
        "--dropout",
        "0",
        *FILES,
        tree,
    ]
    told = {}
    for name, often in (("last", []), ("best", ["--checkpoint", "0.2", "--checkpoint-best"])):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        ended = lstm(*words, *often)
        assert ended.code == 0, ended.err
        told[name] = float(re.search(r"test: .* loss ([\d.]+) nats", ended.out)[1])
        assert set(contents(tmp_path / name)) == {"m.json", "w"}
    assert "going back to it" in ended.err
    assert told["best"] + 0.5 < told["last"]


def test_early_stop(clock, tree, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = [*SHORT, *WINDOWS, "-b", "64", "--dropout", "0", *FILES, "--checkpoint-early-stop", tree]
    # it learns: no reason to stop
    ended = lstm(*words, "-e", "3", "--learning-rate", "0.002", "--checkpoint", "2.4")
    assert ended.code == 0, ended.err
    assert "loss rose" not in ended.err
    assert " 3 times; " in ended.out
    # it is thrown about
    ended = lstm(*words, "-e", "5", "--learning-rate", "1", "--checkpoint", "0.4", "--force")
    assert ended.code == 0, ended.err
    assert re.search(r"loss rose since the last checkpoint, to [\d.]+ nats: training ends", ended.err)
    assert int(re.search(r" (\d) times; ", ended.out)[1]) < 5
    assert set(contents(tmp_path)) == {"m.json", "w"}


def test_training_that_was_stopped_early_is_not_gone_on_with(clock, tree, tmp_path, monkeypatch):
    """A kill after the checkpoint that ended it, and before the model was written, changes nothing."""
    words = [*SHORT, *WINDOWS, "-e", "5", "-b", "64", "--dropout", "0", "--learning-rate", "1", *FILES]
    words += ["--checkpoint", "0.4", "--checkpoint-early-stop", tree]
    monkeypatch.chdir(tmp_path)
    ended = lstm(*words)
    assert ended.code == 0, ended.err
    assert "loss rose" in ended.err
    whole = contents(tmp_path)
    (tmp_path / "killed").mkdir()
    monkeypatch.chdir(tmp_path / "killed")

    class KilledError(Exception):
        pass

    def kill(*_):
        raise KilledError

    with monkeypatch.context() as patched:
        patched.setattr("barnum.learning.session_network.save_weights", kill)
        with pytest.raises(KilledError):
            lstm(*words)
    ended = lstm(*words, "--resume")
    assert ended.code == 0, ended.err
    assert contents(tmp_path / "killed") == whole


# several processes ------------------------------------------------------------------------------------------


# starts two processes as --multi-gpu does, each of which writes its number and waits
_PARENT = """
import sys
from barnum.learning.network.processes import start_processes
sys.executable, sys.argv = sys.argv[1], ["barnum"]
sys.exit(start_processes(2))
"""

# one of these: it heeds signals as training does, with 130 after a while
_CHILD = """#!{python}
import os, pathlib, signal, sys, time
def end(*_):
    time.sleep(0.2)
    sys.exit(130)
signal.signal(signal.SIGINT, end)
signal.signal(signal.SIGTERM, end)
beside = pathlib.Path({folder!r}, "." + os.environ["RANK"])
beside.write_text(str(os.getpid()))
beside.rename(beside.with_name("rank-" + os.environ["RANK"]))
time.sleep(60)
"""


@pytest.fixture
def parent(tmp_path):
    """A process that has started two, and the numbers of these."""
    program = tmp_path / "python"
    program.write_text(_CHILD.format(python=sys.executable, folder=str(tmp_path)))
    program.chmod(0o755)
    process = subprocess.Popen([sys.executable, "-c", _PARENT, str(program)])
    files = [tmp_path / "rank-0", tmp_path / "rank-1"]
    end = time.monotonic() + 60
    while not all(file.exists() for file in files):
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.01)
    children = [int(file.read_text()) for file in files]
    yield process, children
    for pid in (process.pid, *children):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()


def gone(pids, seconds=60.0):
    """Whether processes end within some seconds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if not any(Path(f"/proc/{pid}").exists() for pid in pids):
            return True
        time.sleep(0.02)
    return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_a_signal_to_the_first_process_reaches_the_others(parent, number):
    """It may come from a terminal, which sends it to all, or from a supervisor, which does not."""
    process, children = parent
    process.send_signal(number)
    assert process.wait(60) == 130
    assert gone(children, 0.5)


def test_nobody_trains_on_when_the_first_process_was_killed(parent):
    """Two trainings on the same checkpoints would spoil them."""
    process, children = parent
    process.kill()
    process.wait()
    assert gone(children)
