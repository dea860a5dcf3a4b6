"""Files that ``barnum lstm`` reads and writes: formats, what does not fit, and hostile ones."""

import contextlib
import json
import os
import shutil
import signal
import socket
from pathlib import Path

import h5py
import numpy as np
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file

from barnum.evaluations.folder import find_evaluations, open_evaluation
from barnum.models.arrays import write_arrays
from barnum.paths import Kind
from learning import (
    Processes,
    barnum,
    blocks_of,
    lstm,
    nominal_path,
    unchanged,
    write_keras,
    write_sample,
    write_tree,
)

FAST = ["-p", "-e", "1", "--units", "8", "-t", "1"]
SMALL = ["--train-size", "3", "--test-size-benign", "1", "--test-size-malicious", "1"]
ONLY_LEARN = ["--skip-test", "--skip-eval"]
KINDS = {
    "causal": [],
    "causal-modulo": ["--vocabulary", "modulo", "--max-classes", "64"],
    "paper": ["--network", "paper", "--max-classes", "64", "--embedding-input-dimension", "48"],
    "paper-learnt": ["--network", "paper", "--vocabulary", "learnt"],
}
WINDOWS = ["--embedding-output-dimension", "4", "-s", "3", "--max-transfers", "200"]
CASES = 20


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    return write_tree(tmp_path_factory.mktemp("traces") / "traces", 8, 2)


@pytest.fixture(scope="module")
def models(tree, tmp_path_factory):
    """Folders of small models by kind, each with m.json, w (safetensors) and w.h5."""
    folders = {}
    for kind, options in KINDS.items():
        folder = folders[kind] = tmp_path_factory.mktemp(kind)
        words = [*FAST, *SMALL, *options, *(WINDOWS if "paper" in options else []), *ONLY_LEARN]
        done(*words, "--save-model", folder / "m.json", "--save-weights", folder / "w", tree)
        done(*words, "--save-weights", folder / "w.h5", tree)
    return folders


@pytest.fixture
def model(models, tmp_path, monkeypatch):
    """A copy of the causal model, in the working directory."""
    return copied(models, "causal", tmp_path, monkeypatch)


def copied(models, kind, tmp_path, monkeypatch):
    shutil.copytree(models[kind], tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


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


def done(*arguments):
    ended = lstm(*arguments)
    assert ended.code == 0, ended.err
    return ended


def use(document="m.json", weights="w"):
    return ["-p", "-t", "1", "--use-model", document, "--use-weights", weights, *SMALL]


def refused(tree, document="m.json", weights="w", *options):
    """The one line that says why a model cannot be used. Nothing was written."""
    with unchanged(tree):
        ended = lstm(*use(document, weights), *options, "--eval-dir", "eval", tree)
    assert ended.code == 20, ended.err
    assert not Path("eval").exists() or not any(Path("eval").iterdir())
    return ended.error


def folders_of(tree, label):
    return sorted(f for f in tree.iterdir() if (f / "info.txt").read_text().splitlines()[1] == label)


def identity_in(document):
    return json.loads(Path(document).read_text())["identity"]


def evaluations(folder):
    return {file.name: pq.read_table(file) for file in sorted(folder.iterdir())}


def names(folder):
    return sorted(file.name for file in folder.iterdir())


# formats of weights -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_two_formats_of_weights(models, tree, tmp_path, monkeypatch, kind):
    """By name when written, by content when read; both hold the same numbers."""
    folder = copied(models, kind, tmp_path, monkeypatch)
    assert (folder / "w.h5").read_bytes()[:8] == b"\x89HDF\r\n\x1a\n"
    plain = load_file(folder / "w")
    with h5py.File(folder / "w.h5") as opened:
        found = {f"{part}.{name}": data[()] for part, group in opened.items() for name, data in group.items()}
        assert opened.attrs["identity"].decode() == identity_in(folder / "m.json")
    assert found.keys() == plain.keys()
    assert all(found[name].dtype == plain[name].dtype for name in plain)
    assert all(np.array_equal(found[name], plain[name]) for name in plain)
    (folder / "w").rename(folder / "plain.h5")
    (folder / "w.h5").rename(folder / "hdf5.safetensors")
    done(*use("m.json", "plain.h5"), "--eval-dir", "a", tree)
    done(*use("m.json", "hdf5.safetensors"), "--eval-dir", "b", tree)
    tables, others = evaluations(folder / "a"), evaluations(folder / "b")
    assert tables.keys() == others.keys()
    assert all(tables[name].equals(others[name]) for name in tables)


@pytest.mark.parametrize("name", ["w.h5", "w"])
def test_weights_are_written_the_same_again(model, tree, name):
    before = (model / name).read_bytes()
    done(*FAST, *SMALL, *ONLY_LEARN, "--save-weights", name, "--force", tree)
    assert (model / name).read_bytes() == before


def test_two_results_are_not_written_to_one_file(tree, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    for words in (
        ["--save-model", "x", "--save-weights", "x"],
        ["--save-model", "x", "-o", "folder/../x"],
        ["--save-weights", "x", "-o", "x"],
    ):
        ended = lstm(*FAST, *SMALL, *words, "--skip-eval", tree)
        assert ended.code in (2, 16), words
        assert names(tmp_path) == ["folder"]


# models that do not fit -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "options", "told"),
    [
        (
            "causal",
            ["--learn-call"],
            "has learnt ret, icall, ijmp, the options ask for ret, icall, ijmp, call",
        ),
        ("causal", ["--disable-ret"], "has learnt ret, icall, ijmp, the options ask for icall, ijmp"),
        ("causal", ["--network", "paper"], "network is causal, the options ask for paper"),
        ("causal", ["--vocabulary", "modulo"], "vocabulary is learnt, the options ask for modulo"),
        ("causal", ["--units", "9"], "units is 8, the options ask for 9"),
        ("causal-modulo", ["--vocabulary", "learnt"], "vocabulary is modulo, the options ask for learnt"),
        ("causal-modulo", ["--max-classes", "65"], "max-classes is 64, the options ask for 65"),
        ("paper", ["-s", "4"], "sequence-len is 3, the options ask for 4"),
        (
            "paper",
            ["--embedding-input-dimension", "49"],
            "embedding-input-dimension is 48, the options ask for 49",
        ),
        (
            "paper",
            ["--embedding-output-dimension", "5"],
            "embedding-output-dimension is 4, the options ask for 5",
        ),
        ("paper", ["--use-cudnn"], "use-cudnn"),
        ("paper", ["--network", "causal"], "network is paper, the options ask for causal"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_model_of_other_options(models, tree, tmp_path, monkeypatch, kind, options, told):
    copied(models, kind, tmp_path, monkeypatch)
    error = refused(tree, "m.json", "w", *options)
    assert error.startswith("m.json: ")
    assert told in error
    assert error.endswith("leave them out")


def test_options_that_say_what_the_model_is(models, tree, tmp_path, monkeypatch):
    copied(models, "paper", tmp_path, monkeypatch)
    same = ["--network", "paper", "--vocabulary", "modulo", "-s", "3", "--units", "8", "--max-classes", "64"]
    done(*use(), *same, "--embedding-input-dimension", "48", "--skip-eval", tree)


def test_files_that_do_not_belong_together(models, model, tree):
    shutil.copy(models["paper"] / "w", "other")
    shutil.copy(models["paper"] / "w.h5", "other.h5")
    assert refused(tree, "m.json", "other") == "other: belongs to another model than m.json"
    assert refused(tree, "m.json", "other.h5") == "other.h5: belongs to another model than m.json"
    # one that claims to be of this model
    write_arrays(Path("claims"), load_file("other"), identity_in("m.json"))
    assert refused(tree, "m.json", "claims").startswith("claims: ")
    assert refused(tree, "w", "m.json").startswith("w: is no model's document")
    assert "neither safetensors nor HDF5" in refused(tree, "m.json", "m.json")


def changed(arrays, name, how):
    array = arrays[name]
    if how == "nan":
        array.flat[0] = np.nan
    elif how == "infinite":
        array.flat[-1] = np.inf
    elif how == "shape":
        arrays[name] = array[:-1]
    elif how == "more":
        arrays[name] = np.concatenate([array, array])
    elif how == "dimension":
        arrays[name] = array[None]
    elif how == "type":
        arrays[name] = array.astype(np.float16 if array.dtype.kind == "f" else np.int16)
    elif how == "gone":
        del arrays[name]
    elif how == "negative":
        array.flat[0] = -1
    elif how == "large":
        array.flat[-1] = np.iinfo(array.dtype).max
    elif how == "turned":
        arrays[name] = np.ascontiguousarray(array[::-1])


@pytest.mark.parametrize(
    ("kind", "name", "how"),
    [
        ("causal", "network.out.bias", "nan"),
        ("causal", "network.site.weight", "infinite"),
        ("causal", "network.out.weight", "shape"),
        ("causal", "network.out.bias", "type"),
        ("causal", "network.prior", "gone"),
        ("causal", "vocabulary.site", "turned"),
        ("causal", "vocabulary.target", "more"),
        ("causal", "vocabulary.edge_target", "large"),
        ("causal", "vocabulary.edge_count", "negative"),
        ("causal", "vocabulary.site_first", "large"),
        ("causal", "vocabulary.runs", "gone"),
        ("causal", "rates.share", "nan"),
        ("causal", "rates.share", "shape"),
        ("causal", "rates.unseen", "nan"),
        ("causal", "memory.edge", "large"),
        ("causal", "memory.edge", "type"),
        ("causal", "memory.edge", "dimension"),
        ("causal", "memory.edge", "gone"),
        ("causal-modulo", "names.site", "turned"),
        ("causal-modulo", "names.edge_target", "large"),
        ("paper", "network.embedding.weight", "nan"),
        ("paper", "network.lstm.0.kernel", "shape"),
        ("paper-learnt", "blocks.block", "turned"),
        ("paper-learnt", "blocks.block", "shape"),
        ("paper-learnt", "blocks.count", "gone"),
    ],
)
@pytest.mark.parametrize("suffix", ["", ".h5"], ids=["safetensors", "HDF5"])
def test_weights_that_were_tampered_with(models, tree, tmp_path, monkeypatch, kind, name, how, suffix):
    copied(models, kind, tmp_path, monkeypatch)
    arrays = load_file("w")
    changed(arrays, name, how)
    write_arrays(Path(f"bad{suffix}"), arrays, identity_in("m.json"))
    error = refused(tree, "m.json", f"bad{suffix}")
    assert error.startswith(f"bad{suffix}: ")


def test_a_list_of_blocks_that_is_longer_than_the_network_knows(models, tree, tmp_path, monkeypatch):
    copied(models, "paper-learnt", tmp_path, monkeypatch)
    arrays = load_file("w")
    more = arrays["blocks.block"][-1] + np.arange(1, 100, dtype=np.uint64)
    arrays["blocks.block"] = np.concatenate([arrays["blocks.block"][:3], more])
    arrays["blocks.count"] = np.ones(len(arrays["blocks.block"]), np.int64)
    write_arrays(Path("bad"), arrays, identity_in("m.json"))
    assert refused(tree, "m.json", "bad").startswith("bad: ")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: b"",
        lambda data: data[:7],
        lambda data: data[: len(data) // 2],
        lambda data: data + b"more",
        lambda data: b"\xff" * 8 + data[8:],
        lambda data: (1 << 62).to_bytes(8, "little") + data[8:],
        lambda data: data[:8] + b"[" * 100_000,
        lambda data: bytes(range(256)) * 40,
    ],
    ids=["empty", "seven bytes", "half", "more", "no header", "a huge header", "a deep header", "noise"],
)
@pytest.mark.parametrize("name", ["w", "w.h5"])
def test_weights_that_are_broken(model, tree, name, spoil):
    Path(f"bad-{name}").write_bytes(spoil(Path(name).read_bytes()))
    if name == "w.h5" and Path(f"bad-{name}").read_bytes().startswith(Path(name).read_bytes()):
        return  # HDF5 ends where it says that it ends
    assert refused(tree, "m.json", f"bad-{name}").startswith(f"bad-{name}: ")


def test_weights_with_random_damage(model, tree):
    """Whatever a file holds, it is used or refused in one line."""
    draw = np.random.default_rng(1)
    for name in ("w", "w.h5"):
        whole = np.frombuffer(Path(name).read_bytes(), np.uint8)
        for _ in range(CASES):
            data = whole.copy()
            # half of it where the structure is
            data[draw.integers(0, len(data), 8)] = draw.integers(0, 256, 8)
            data[draw.integers(0, 2048, 4)] = draw.integers(0, 256, 4)
            Path("bad").write_bytes(data.tobytes())
            ended = lstm(*use("m.json", "bad"), "--skip-eval", tree)
            assert ended.code == 0 or (ended.code == 20 and ended.error.startswith("bad: "))


@pytest.mark.parametrize(
    "how", ["link out", "soft link", "virtual", "external", "chunks", "huge", "text", "object"]
)
def test_hdf5_that_leads_elsewhere(model, tree, tmp_path, how):
    """Nothing outside the file is read, nothing is unpacked to any size."""
    shutil.copy("w.h5", "bad.h5")
    shutil.copy("w.h5", "elsewhere.h5")
    with h5py.File("bad.h5", "r+") as root:
        shape = root["network/out.bias"].shape
        group = root["network"]
        del group["out.bias"]
        if how == "link out":
            group["out.bias"] = h5py.ExternalLink("elsewhere.h5", "/network/out.bias")
        elif how == "soft link":
            group["out.bias"] = h5py.SoftLink("/rates/unseen")
        elif how == "virtual":
            layout = h5py.VirtualLayout(shape, "f4")
            layout[:] = h5py.VirtualSource("elsewhere.h5", "network/out.bias", shape, "f4")
            group.create_virtual_dataset("out.bias", layout)
        elif how == "external":
            group.create_dataset("out.bias", shape, "f4", external=[("/etc/passwd", 0, 4 * shape[0])])
        elif how == "chunks":
            group.create_dataset("out.bias", shape, "f4", chunks=shape, compression="gzip")
        elif how == "huge":
            group.create_dataset("out.bias", (1 << 40,), "f4", chunks=(1 << 20,))
        elif how == "text":
            group["out.bias"] = "text"
        else:
            group.create_dataset("out.bias", shape, h5py.string_dtype())
    assert refused(tree, "m.json", "bad.h5").startswith("bad.h5: ")


def test_files_that_are_no_files(model, tree):
    os.mkfifo("pipe")
    Path("link").symlink_to("gone")

    def late(*_):
        raise AssertionError("waits for a pipe")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(5)
    try:
        assert "pipe: " in refused(tree, "pipe", "w")
        assert "pipe: " in refused(tree, "m.json", "pipe")
        assert refused(tree, "m.json", "/dev/null").startswith("/dev/null: ")
        assert refused(tree, "/dev/null", "w").startswith("/dev/null: ")
        ended = lstm(*FAST, *SMALL, "-i", "pipe", tree)
        assert ended.code == 21
        assert ended.error.startswith("pipe: ")
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    assert "does not exist" in lstm(*use("link", "w"), tree).usage
    assert "is a directory" in lstm(*use("m.json", tree), tree).usage


def put(*names):
    """A change of a document: the last is the value, the others lead to it."""

    def change(document):
        *way, last, value = names
        for name in way:
            document = document[name]
        document[last] = value

    return change


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("causal", put("schema", 2)),
        ("causal", put("schema", 4)),
        ("causal", put("schema", "3")),
        ("causal", lambda document: document.pop("schema")),
        ("causal", lambda document: document.pop("learn")),
        ("causal", put("more", 1)),
        ("causal", put("network", "transformer")),
        ("causal", put("network", "paper")),
        ("causal", put("identity", "0")),
        ("causal", put("identity", "\n\x1b[31mbarnum: fine")),
        ("causal", put("config", "units", 10**9)),
        ("causal", put("config", "sites", 1 << 26)),
        ("causal", put("config", "targets", 1 << 26)),
        ("causal", put("config", "ranks", 256)),
        ("causal", put("config", "lengths", [1])),
        ("causal", put("config", "lengths", [10**9] * 14)),
        ("causal", put("config", "units", None)),
        ("causal", put("tokens", "vocabulary", "bytes")),
        ("causal", put("tokens", "vocabulary", "modulo")),
        ("causal", put("calibration", "window", 0)),
        ("causal", put("calibration", "window", -1)),
        ("causal", put("calibration", "scores", "many")),
        ("causal", put("calibration", None)),
        ("causal", put("samples", [1])),
        ("causal", put("learn", "ret", "yes")),
        ("causal-modulo", put("tokens", "classes", 0)),
        ("causal-modulo", put("tokens", "inputs", 0)),
        ("causal-modulo", put("tokens", "inputs", -5)),
        ("causal-modulo", put("tokens", "inputs", 1 << 70)),
        ("paper", put("tokens", "classes", 0)),
        ("paper", put("tokens", "classes", 100_000)),
        ("paper", put("tokens", "inputs", 100_000)),
        ("paper", put("config", "inputs", 1 << 60)),
        ("paper", put("config", "classes", 0)),
        ("paper", put("config", "units", 0)),
        ("paper", put("config", "units", -1)),
        ("paper", put("config", "units", 1 << 40)),
        ("paper", put("config", "embedding", 1 << 40)),
        ("paper", put("config", "sequence_len", 0)),
        ("paper", put("config", "sequence_len", -3)),
        ("paper", put("config", "sequence_len", 10_000_000)),
        ("paper", put("config", "cudnn", True)),
        ("paper-learnt", put("tokens", "vocabulary", "modulo")),
    ],
)
def test_documents_that_were_tampered_with(models, tree, tmp_path, monkeypatch, kind, change):
    copied(models, kind, tmp_path, monkeypatch)
    document = json.loads(Path("m.json").read_text())
    change(document)
    Path("bad.json").write_text(json.dumps(document))
    error = refused(tree, "bad.json", "w")
    assert error.startswith(("bad.json: ", "w: "))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"\xff\xfe{}",
        b"\x1f\x8b",
    ],
    ids=["empty", "cut", "list", "null", "deep", "deep objects", "no text", "gzip"],
)
def test_documents_that_are_none(model, tree, data):
    Path("bad.json").write_bytes(data)
    assert refused(tree, "bad.json", "w").startswith("bad.json: ")


def test_samples_that_a_document_names_lead_nowhere(model, tree):
    """They are names to compare with, no paths to open."""
    document = json.loads(Path("m.json").read_text())
    document["samples"] = ["../../../etc", "/etc/passwd", "", "a\nb"]
    Path("other.json").write_text(json.dumps(document))
    done(*use("other.json"), "--skip-eval", tree)


# models of Keras --------------------------------------------------------------------------------------------


def layers_of(document):
    return document["config"]["layers"]


@pytest.mark.parametrize(
    "change",
    [
        lambda document: layers_of(document)[1].update(class_name="GRU"),
        lambda document: layers_of(document).insert(1, {"class_name": "Lambda", "config": {"name": "x"}}),
        lambda document: layers_of(document)[1]["config"].update(recurrent_activation="mish"),
        lambda document: layers_of(document)[1]["config"].update(stateful=True),
        lambda document: layers_of(document)[1]["config"].update(units=1 << 30),
        lambda document: layers_of(document)[0]["config"].update(input_length=9),
        lambda document: layers_of(document)[0]["config"].update(input_dim=65),
        lambda document: layers_of(document).pop(),
        lambda document: document.update(class_name="Model"),
        lambda document: document.update(keras_version="3.0.0"),
    ],
    ids=[
        "unknown layer",
        "code as a layer",
        "unknown function",
        "stateful",
        "huge",
        "two lengths",
        "other weights",
        "no end",
        "several GPUs",
        "Keras 3",
    ],
)
def test_documents_of_keras_that_cannot_be_used(tree, tmp_path, monkeypatch, change):
    monkeypatch.chdir(tmp_path)
    document = write_keras(tmp_path)
    done(*use("lstm.json", "lstm.h5"), "--skip-eval", tree)
    change(document)
    Path("bad.json").write_text(json.dumps(document))
    error = refused(tree, "bad.json", "lstm.h5")
    assert error.startswith(("bad.json: ", "lstm.h5: "))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_of_keras_that_are_no_numbers(tree, tmp_path, monkeypatch, value):
    monkeypatch.chdir(tmp_path)
    write_keras(tmp_path)
    with h5py.File("lstm.h5", "r+") as root:
        root["dense_1/dense_1/kernel:0"][:] = value
    assert refused(tree, "lstm.json", "lstm.h5")


@pytest.mark.parametrize(
    "options",
    [
        ["--network", "causal"],
        ["--vocabulary", "learnt"],
        ["-s", "5"],
        ["--max-classes", "65"],
        ["--embedding-input-dimension", "65"],
    ],
    ids=" ".join,
)
def test_a_model_of_keras_of_other_options(tree, tmp_path, monkeypatch, options):
    monkeypatch.chdir(tmp_path)
    write_keras(tmp_path)
    assert refused(tree, "lstm.json", "lstm.h5", *options).endswith("leave them out")


def test_weights_of_one_kind_with_a_document_of_the_other(model, tree, tmp_path):
    write_keras(tmp_path)
    assert refused(tree, "lstm.json", "w").startswith("w: ")
    assert refused(tree, "lstm.json", "w.h5").startswith("w.h5: ")
    assert refused(tree, "m.json", "lstm.h5").startswith("lstm.h5: ")


# samples and sets -------------------------------------------------------------------------------------------


@pytest.fixture
def own(tmp_path):
    """A small tree of the test's own: benign and malicious folders."""
    tree = write_tree(tmp_path / "traces", 5, 2)
    return tree, folders_of(tree, "benign"), folders_of(tree, "malicious")


def write_sets(file, **sections):
    lines = [[f"[{name}]", *map(str, folders)] for name, folders in sections.items()]
    file.write_text("".join(f"{line}\n" for section in lines for line in section))
    return file


def test_too_few_samples_are_counted(tree, tmp_path):
    for words, told in (
        (
            ["--train-size", "8", "--test-size-benign", "1"],
            "8 usable benign samples, but 8 to learn and 1 to hold",
        ),
        (
            ["--train-size", "1", "--test-size-malicious", "3"],
            "2 usable malicious samples, but 3 were asked for",
        ),
    ):
        ended = lstm(*FAST, *words, "-o", tmp_path / "sets", "--eval-dir", tmp_path / "eval", tree)
        assert ended.code == 21
        assert told in ended.error
        assert not list(tmp_path.iterdir())
    (tmp_path / "empty").mkdir()
    ended = lstm(*FAST, tmp_path / "empty")
    assert ended.code == 21
    assert "has 0 usable benign samples" in ended.error


def test_without_an_evaluation_malicious_samples_are_not_asked_for(tree, tmp_path):
    words = ["--train-size", "3", "--test-size-benign", "1", "--test-size-malicious", "9", "--skip-eval"]
    ended = lstm(*FAST, *words, "-o", tmp_path / "sets", tree)
    assert ended.code == 0, ended.err
    assert len((tmp_path / "sets").read_text().split("[m_test]")[1].split()) == 2


def test_folders_that_are_no_samples_are_skipped(own, tmp_path):
    tree, benign, _ = own
    (benign[0] / "trace_parsed.parquet").rename(benign[0] / "trace_0")
    (benign[1] / "info.txt").unlink()
    (benign[2] / "info.txt").write_text("name\nundecided\n")
    (tree / "half.part").mkdir()
    (tree / ".hidden").mkdir()
    (tree / "file").write_text("")
    ended = lstm(*FAST, "--train-size", "3", "--test-size-benign", "0", tree)
    assert ended.code == 21
    assert "has 2 usable benign samples" in ended.error
    skipped = [line for line in ended.logged("WARNING") if line.startswith("skipped: ")]
    assert len(skipped) == 3
    for folder in benign[:3]:
        assert sum(str(folder) in line for line in skipped) == 1


def test_sets_whose_samples_are_missing(own, tmp_path):
    tree, benign, malicious = own
    (benign[0] / "trace_parsed.parquet").rename(benign[0] / "trace_0")
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(benign[4], elsewhere)
    (tree / "link").symlink_to(elsewhere)
    gone = [tree / "gone", elsewhere, tree / "link", "../elsewhere", "/", tree]
    sets = write_sets(
        tmp_path / "sets",
        b_train=[benign[1], *gone, benign[2].name, benign[0]],
        b_test=[benign[3], tree / "gone too"],
        m_test=[malicious[0]],
    )
    ended = done(*FAST, "-i", sets, "--eval-dir", tmp_path / "eval", "-o", tmp_path / "written", tree)
    assert "training: 2 samples" in ended.out
    skipped = [line for line in ended.logged("WARNING") if line.startswith("skipped: ")]
    assert len(skipped) == len(gone) + 2
    for name in ("gone", "gone too", "elsewhere", "link"):
        assert any(f"{name} " in line for line in skipped)
    assert any("is not preprocessed" in line and str(benign[0]) in line for line in skipped)
    assert len(list((tmp_path / "eval").iterdir())) == 2
    # nothing left
    sets = write_sets(tmp_path / "none", b_train=gone, m_test=[tree / "gone"])
    ended = lstm(*FAST, "-i", sets, tree)
    assert ended.code == 21
    assert ended.error == f"{sets}: names no sample folder inside {tree}"
    sets = write_sets(tmp_path / "useless", b_train=[benign[0]], b_test=[benign[3]])
    ended = lstm(*FAST, "-i", sets, tree)
    assert ended.code == 21
    assert ended.error == f"{sets}: names no usable sample to learn"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "names no sample folder"),
        ("[b_train]\n", "names no sample folder"),
        ("/x\n[b_train]\n", "line 1 comes before any section"),
        ("[b_trian]\n", "line 1: no section is called"),
        ("[b_train]\nA\0B\n", "line 2 is no path"),
        ("[b_train]\nGOOD\n[b_test]\nGOOD\n", "both learnt and held out"),
        ("[b_train]\nBAD\n", "among the benign but labelled malicious"),
        ("[b_train]\nGOOD\n[m_test]\nOTHER\n", "among the malicious but labelled benign"),
        ("[b_test]\nGOOD\n", "names no usable sample to learn"),
    ],
)
def test_sets_that_cannot_be_used(own, tmp_path, text, told):
    tree, benign, malicious = own
    sets = tmp_path / "sets"
    for name, folder in (("GOOD", benign[0]), ("OTHER", benign[1]), ("BAD", malicious[0])):
        text = text.replace(name, str(folder))
    sets.write_text(text)
    ended = lstm(*FAST, "-i", sets, "--eval-dir", tmp_path / "eval", tree)
    assert ended.code == 21
    assert told in ended.error
    assert not (tmp_path / "eval").exists()


def test_a_sample_that_sets_name_twice_counts_once(own, tmp_path):
    """Else it would not be left out when it is scored, and nothing that it does would be new."""
    tree, benign, malicious = own
    once = write_sets(tmp_path / "once", b_train=benign[:3], b_test=benign[3:4], m_test=malicious[:1])
    twice = write_sets(
        tmp_path / "twice",
        b_train=[benign[0], benign[0].name, *benign[1:3], f"{tree}/./{benign[1].name}"],
        b_test=[benign[3]] * 2,
        m_test=[malicious[0]] * 3,
    )
    told = []
    for sets in (once, twice):
        words = ["-i", sets, "--save-weights", f"{sets}.w", "--eval-dir", f"{sets}.eval"]
        told.append(done(*FAST, *words, tree).out)
    assert "training: 3 samples" in told[1]
    assert "evaluation: 2 samples" in told[1]
    assert (tmp_path / "twice.w").read_bytes() == (tmp_path / "once.w").read_bytes()


def test_a_broken_trace_is_named(own, tmp_path):
    tree, benign, malicious = own
    sets = write_sets(tmp_path / "sets", b_train=benign[:2], b_test=benign[2:4], m_test=malicious)
    words = [*FAST, "-i", sets, "--eval-dir", tmp_path / "eval", tree]
    file = benign[3] / "trace_parsed.parquet"
    whole = file.read_bytes()
    for damaged in (whole[:100], b"", whole[: len(whole) // 2] + bytes(200) + whole[len(whole) // 2 + 200 :]):
        file.write_bytes(damaged)
        ended = lstm(*words)
        assert ended.code == 18, ended.err
        assert str(file) in ended.error
        # what came before it is whole, and nothing is half
        assert names(tmp_path / "eval") == [f"benign-{benign[2].name}.parquet"]
        assert len(pq.read_table(tmp_path / "eval" / names(tmp_path / "eval")[0])) == 2999
        shutil.rmtree(tmp_path / "eval")
    # while it learns
    sets = write_sets(sets, b_train=benign[2:4], m_test=malicious)
    ended = lstm(*words)
    assert ended.code == 18
    assert str(file) in ended.error


def test_traces_without_a_transfer_to_learn(tmp_path):
    blocks = blocks_of(40, (Kind.CONDITIONAL,))
    for i in range(3):
        write_sample(tmp_path / "traces", f"{i}", "benign", nominal_path(i), blocks)
    sizes = ["--train-size", "2", "--test-size-benign", "1", "--test-size-malicious", "0"]
    ended = lstm(*FAST, *sizes, "--skip-eval", tmp_path / "traces")
    assert ended.code == 21
    assert "no transfer that passes the filter" in ended.error
    # one of several is told, and has an empty evaluation
    empty = folders_of(tmp_path / "traces", "benign")
    full = [write_sample(tmp_path / "traces", f"{i}", "benign", nominal_path(i)) for i in range(3, 5)]
    sets = write_sets(tmp_path / "sets", b_train=[empty[0], *full], b_test=[empty[1]])
    ended = done(*FAST, "-i", sets, "--eval-dir", tmp_path / "eval", tmp_path / "traces")
    assert len([line for line in ended.logged("WARNING") if "holds no transfer" in line]) == 2
    (table,) = evaluations(tmp_path / "eval").values()
    assert len(table) == 0


def test_names_of_others_do_not_draw_on_the_terminal(tmp_path):
    """Neither those of documents nor those of folders."""
    tree = tmp_path / "traces"
    for i in range(3):
        write_sample(tree, f"a\x1b[31m{i}", "benign", nominal_path(i))
    strange = tree / "b\n23:59:59 MainProcess ERROR \x1b[2J"
    strange.mkdir()
    sizes = ["--train-size", "2", "--test-size-benign", "1", "--test-size-malicious", "0"]
    ended = done(*FAST, *sizes, "--max-transfers", "100", "--eval-dir", tmp_path / "eval", tree)
    assert ended.logged("ERROR") == []
    assert "\x1b" not in ended.err + ended.out
    assert len([line for line in ended.logged("WARNING") if "skipped: " in line]) == 1


# results ----------------------------------------------------------------------------------------------------


def test_nothing_is_overwritten(model, tree):
    done(*use(), "--eval-dir", "eval", "-o", "sets", tree)
    with unchanged(model):
        for option, file in (("--save-model", "m.json"), ("--save-weights", "w"), ("-o", "sets")):
            ended = lstm(*FAST, *SMALL, option, file, tree)
            assert ended.code == 16
            assert ended.error == f"{file}: is there already: give another name, or --force"
        ended = lstm(*FAST, *SMALL, "--save-model", "new", "--save-weights", "w", "-o", "other", tree)
        assert ended.code == 16
        for words in ([], ["--eval-format", "gz"]):
            ended = lstm(*use(), *words, "--eval-dir", "eval", tree)
            assert ended.code == 16
            assert ended.error.endswith("is there already: choose another folder, or give --force")


def test_what_several_processes_write_beside_is_not_overwritten(tree, tmp_path, monkeypatch):
    """As the first of several processes sees it."""
    monkeypatch.chdir(tmp_path)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    place = {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    for name, value in place.items():
        monkeypatch.setenv(name, value)
    for option in ("--save-model", "--save-weights"):
        Path("result.single").write_text("mine")
        with unchanged(tmp_path):
            ended = lstm(*FAST, *SMALL, "--multi-gpu", "2", option, "result", "--skip-eval", tree)
            assert ended.code == 16
            assert ended.error == "result.single: is there already: give another name, or --force"


def test_force_overwrites(model, tree):
    words = [*FAST, *SMALL, "--seed", "5", "--save-model", "m.json", "--save-weights", "w", "-o", "sets"]
    Path("sets").write_text("old")
    before = {file.name: file.read_bytes() for file in model.iterdir()}
    done(*words, "--skip-eval", "--force", tree)
    assert all(Path(name).read_bytes() != before[name] for name in ("m.json", "w", "sets"))
    assert Path("w.h5").read_bytes() == before["w.h5"]
    done(*use(), "-i", "sets", "--skip-eval", tree)


def test_evaluations_of_the_other_format_are_replaced(model, tree):
    """A sample is not evaluated in both: one of them would be of another model."""
    done(*use(), "--eval-dir", "eval", tree)
    there = names(Path("eval"))
    done(*use(), "--eval-dir", "eval", "--eval-format", "gz", "--force", tree)
    assert names(Path("eval")) == [f"{Path(name).stem}.gz" for name in there]
    done(*use(), "--eval-dir", "eval", "--force", tree)
    assert names(Path("eval")) == there
    assert len(find_evaluations(Path("eval"))) == 2


def test_evaluations_of_other_samples_stay(model, tree):
    Path("eval").mkdir()
    other = Path("eval", "benign-somebody.parquet")
    other.write_text("mine")
    Path("eval", ".notes").write_text("mine")
    with unchanged(other, Path("eval", ".notes")):
        done(*use(), "--eval-dir", "eval", tree)
    assert len(names(Path("eval"))) == 4


@pytest.mark.parametrize(
    "name", ["thesis.txt", "benign-x.csv", "parquet", "evil-x.parquet", "benign-.parquet.old"]
)
def test_a_folder_with_files_of_others_is_not_used(model, tree, name):
    Path("eval").mkdir()
    Path("eval", name).write_text("mine")
    with unchanged(model):
        for force in ([], ["--force"]):
            ended = lstm(*use(), "--eval-dir", "eval", *force, tree)
            assert ended.code == 16
            assert ended.error == f"eval: holds {name!r}, which is no evaluation: choose another folder"


def test_places_that_cannot_be_written_are_found_before_training(tree, tmp_path, monkeypatch):
    """Hours of training are not lost to a folder that is missing."""
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("")
    for option, place in (
        ("--save-weights", "gone/w"),
        ("--save-weights", "gone/w.h5"),
        ("--save-model", "gone/m.json"),
        ("-o", "gone/sets"),
        ("--save-model", "file/m.json"),
        ("--eval-dir", "file/eval"),
    ):
        ended = lstm(*FAST, *SMALL, option, place, tree)
        assert ended.code == 17, (option, place, ended.err)
        assert ended.error.startswith(f"{place}: cannot be ")
        assert "training" not in ended.out, (option, place)
        assert names(tmp_path) == ["file"]


@pytest.mark.parametrize(
    "words",
    [
        ["--save-model", "result", "--skip-eval"],
        ["--save-weights", "result", "--skip-eval"],
        ["--save-weights", "result.h5", "--skip-eval"],
        ["-o", "result", "--skip-eval"],
        ["--eval-dir", "eval"],
        ["--eval-dir", "eval", "--eval-format", "gz"],
    ],
    ids=" ".join,
)
def test_results_are_never_half_written(processes, tree, tmp_path, words):
    """Where the disk is full: here, where files may not grow."""
    ended = processes.run(*FAST, *SMALL, *words, tree, largest_file=300 if "-o" in words else 1000)
    assert ended.code == 17, ended.err
    assert "cannot be written" in ended.error
    assert [name for name in names(tmp_path) if name != "eval"] == []
    assert not (tmp_path / "eval").exists() or names(tmp_path / "eval") == []


def test_a_checkpoint_that_cannot_be_written(processes, tree, tmp_path):
    words = ["--save-weights", "w", "--checkpoint", "0.0000001", *ONLY_LEARN]
    ended = processes.run(*FAST, *SMALL, *words, tree, largest_file=1000)
    assert ended.code == 17, ended.err
    assert "cannot be written" in ended.error
    assert not (tmp_path / "w").exists()
    done(*FAST, *SMALL, *ONLY_LEARN, "--save-weights", tmp_path / "w", "--resume", tree)
    assert names(tmp_path) == ["w"]


def test_a_kill_while_evaluating_leaves_whole_files(processes, model, tmp_path):
    tree = tmp_path / "many"
    for i in range(40):
        write_sample(tree, f"{i}", "benign", nominal_path(i, 20_000))
    words = ["-p", "-t", "1", "--use-model", "m.json", "--use-weights", "w", "--eval-dir", "eval"]
    words += ["--test-size-benign", "40", "--test-size-malicious", "0", tree]
    processes.start(*words)
    processes.wait_until(lambda: len(list((tmp_path / "eval").glob("benign-*"))) >= 3)
    assert processes.kill().code == -signal.SIGKILL
    files = find_evaluations(tmp_path / "eval")
    assert 3 <= len(files) < 40
    for file in files:
        assert sum(len(part["actual"]) for part in open_evaluation(file).parts("actual")) == 19_999
    done(*words, "--force")
    assert len(find_evaluations(tmp_path / "eval")) == 40


def test_classifier_reads_what_is_written(model, tree):
    words = ["-p", "-t", "1", "--use-model", "m.json", "--use-weights", "w"]
    words += ["--test-size-benign", "4", "--test-size-malicious", "2"]
    for form, method in (("parquet", "conformal"), ("parquet", "svm"), ("gz", "svm")):
        if not Path(form).exists():
            done(*words, "--eval-dir", form, "--eval-format", form, tree)
        judged = barnum("classifier", "--method", method, form)
        assert judged.code == 0, judged.err
        assert "of 4" in judged.out
        assert "of 2" in judged.out
