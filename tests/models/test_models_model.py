"""The two files of a model: what is written is what is read, and what is wrong is refused in one line."""

import gzip
import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from barnum.errors import ModelError
from barnum.models.arrays import read_arrays, write_arrays
from barnum.models.evaluate import Evaluator
from barnum.models.model import SCHEMA, identity_of
from barnum.models.saved import load_document, load_model, save_document, save_weights
from barnum.paths import Kind, Learn
from barnum.sequences import Selection
from learning import attack_path, blocks_of, fit, nominal_path, path_of, spec_of

BLOCKS = blocks_of(40, (Kind.RETURN, Kind.INDIRECT_CALL), in_libc=10)
KINDS = [(network, vocabulary) for network in ("causal", "paper") for vocabulary in ("learnt", "modulo")]
JUDGED = path_of(attack_path(7, 300), BLOCKS)


def made(network, vocabulary, seed=0):
    runs = [path_of(nominal_path(i, 150), BLOCKS) for i in range(3)]
    spec = spec_of(network, vocabulary, epochs=1, units=4, seed=seed, selection=Selection(max_transfers=100))
    return fit(spec, runs)[0]


@pytest.fixture(scope="module")
def models():
    """A small model of each kind."""
    return {kind: made(*kind) for kind in KINDS}


@pytest.fixture(scope="module")
def files(models, tmp_path_factory):
    """Content of the JSON file and of the weights in both formats, of each kind."""
    folder = tmp_path_factory.mktemp("files")
    content = {}
    for kind, model in models.items():
        save_document(folder / "m.json", model.document)
        for ending in (".safetensors", ".h5"):
            save_weights(folder / f"w{ending}", model)
            content[kind, ending] = (folder / f"w{ending}").read_bytes()
        content[kind, ".json"] = (folder / "m.json").read_bytes()
    return content


class Saved:
    """Files of one model, to be changed."""

    def __init__(self, folder, files, kind, ending=".safetensors"):
        self.document, self.weights = folder / "model.json", folder / f"weights{ending}"
        self.document.write_bytes(files[kind, ".json"])
        self.weights.write_bytes(files[kind, ending])

    def load(self):
        return load_model(self.document, self.weights)

    def change(self, change):
        """Change the arrays, and give them the identity that they then have, as whoever means harm would."""
        arrays, _ = read_arrays(self.weights)
        change(arrays)
        identity = identity_of(arrays)
        write_arrays(self.weights, arrays, identity)
        self.say(lambda document: document.update(identity=identity))

    def say(self, change):
        """Change the document."""
        document = json.loads(self.document.read_bytes())
        change(document)
        self.document.write_text(json.dumps(document))

    def refused(self):
        with pytest.raises(ModelError) as error:
            self.load()
        return one_line(error.value)


def one_line(error):
    message = str(error)
    assert "\n" not in message
    assert len(message) < 2000
    return message


@pytest.fixture
def saved(tmp_path, files):
    return Saved(tmp_path, files, ("causal", "learnt"))


def scores(model):
    parts = list(Evaluator(model, 1).columns(JUDGED))
    return {name: np.concatenate([part[name] for part in parts]).tobytes() for name in parts[0]}


# --- as it should be --------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", [".safetensors", ".h5"])
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_saved_is_what_is_loaded(tmp_path, models, files, kind, ending):
    model = models[kind]
    read = Saved(tmp_path, files, kind, ending).load()
    assert read.document == model.document
    assert read.identity == model.identity == identity_of(read.arrays())
    assert re.fullmatch("[0-9a-f]{64}", read.identity)
    assert read.tokens == model.tokens
    assert read.arrays().keys() == model.arrays().keys()
    assert (read.names is read.vocabulary) == (model.names is model.vocabulary)
    assert scores(read) == scores(model)


@pytest.mark.parametrize("kind", [("causal", "learnt"), ("paper", "learnt")])
def test_equal_models_are_equal_files(tmp_path, files, kind):
    again, other = made(*kind), made(*kind, seed=1)
    for ending in (".safetensors", ".h5"):
        save_weights(tmp_path / f"w{ending}", again)
        assert (tmp_path / f"w{ending}").read_bytes() == files[kind, ending]
        save_weights(tmp_path / f"w{ending}", other)
        assert (tmp_path / f"w{ending}").read_bytes() != files[kind, ending]
    save_document(tmp_path / "m.json", again.document)
    assert (tmp_path / "m.json").read_bytes() == files[kind, ".json"]
    assert other.identity != again.identity


def test_a_model_that_was_loaded_is_saved_as_it_was(tmp_path, files):
    for kind in KINDS:
        saved = Saved(tmp_path, files, kind)
        read = saved.load()
        save_weights(tmp_path / "again.safetensors", read)
        save_document(tmp_path / "again.json", read.document)
        assert (tmp_path / "again.safetensors").read_bytes() == files[kind, ".safetensors"]
        assert (tmp_path / "again.json").read_bytes() == files[kind, ".json"]


def test_the_document_says_what_the_model_is(files):
    document = json.loads(
        files["causal", "modulo", ".json"] if False else files[("causal", "modulo"), ".json"]
    )
    assert document["schema"] == SCHEMA
    assert document["network"] == "causal"
    assert document["tokens"] == {"vocabulary": "modulo", "inputs": 64, "classes": 48}
    assert document["samples"] == ["run-0", "run-1", "run-2"]
    assert document["selection"] == {"max_transfers": 100, "fold_loops": None}
    assert document["learn"] == {"ret": True, "icall": True, "ijmp": True, "call": False, "jmp": False}
    assert document["train"]["epochs"] == 1
    assert len(document["calibration"]["scores"]) == 3
    assert document["progress"] is None


def test_a_document_may_be_packed(saved):
    saved.document.write_bytes(gzip.compress(saved.document.read_bytes()))
    assert saved.load().identity == load_document(saved.document).identity


def test_identity_depends_on_names_types_shapes_and_numbers():
    arrays = {"a": np.zeros((2, 3), np.float32), "b": np.arange(3)}
    same = {"b": np.arange(3), "a": np.zeros((2, 3), np.float32)}
    assert identity_of(arrays) == identity_of(same)
    others = [
        {**arrays, "a": np.zeros((3, 2), np.float32)},
        {**arrays, "a": np.zeros((2, 3), np.int32)},
        {**arrays, "b": np.arange(1, 4)},
        {"a": arrays["a"], "c": arrays["b"]},
    ]
    assert len({identity_of(each) for each in [arrays, *others]}) == 5


# --- weights that are wrong ---------------------------------------------------------------------------------


def test_weights_of_another_model_are_refused(tmp_path, saved, files):
    other = tmp_path / "other"
    other.mkdir()
    theirs = Saved(other, files, ("causal", "modulo"))
    saved.weights.write_bytes(theirs.weights.read_bytes())
    assert "belongs to another model" in saved.refused()
    # nor are arrays without an identity taken for its own
    arrays, _ = read_arrays(other / "weights.safetensors")
    write_arrays(saved.weights, arrays, "")
    assert "belongs to another model" in saved.refused()


def put(name, value):
    """A change of one element, the first."""

    def change(arrays):
        array = arrays[name].copy()
        array[(0,) * array.ndim] = value
        arrays[name] = array

    return change


def replace(name, function):
    return lambda arrays: arrays.update({name: np.ascontiguousarray(function(arrays[name]))})


def swap_ends(array):
    array = array.copy()
    array[[0, -1]] = array[[-1, 0]]
    return array


WRONG = {
    "a number that is none": (put("network.out.weight", np.nan), "no finite"),
    "an infinite one": (put("network.site.weight", np.inf), "no finite"),
    "a prior that is none": (put("network.prior", np.nan), "no finite"),
    "wider numbers": (replace("network.out.bias", lambda a: a.astype(np.float64)), "no finite 32-bit"),
    "narrower numbers": (replace("network.out.bias", lambda a: a.astype(np.float16)), "no finite 32-bit"),
    "whole numbers": (replace("network.out.bias", lambda a: a.astype(np.int32)), "no finite 32-bit"),
    "fewer of them": (replace("network.out.bias", lambda a: a[:-1]), "out.bias"),
    "turned weights": (replace("network.out.weight", lambda a: a.T), "out.weight"),
    "no bias": (lambda a: a.pop("network.out.bias"), "out.bias is missing"),
    "no network": (lambda a: [a.pop(n) for n in list(a) if n.startswith("network.")], "missing"),
    "one more tensor": (lambda a: a.update({"network.more": np.zeros(1, np.float32)}), "more"),
    "an unknown part": (lambda a: a.update({"other.a": np.zeros(1)}), "belongs to no part"),
    "a name without a part": (lambda a: a.update({"a": np.zeros(1)}), "belongs to no part"),
    "a name of two lines": (lambda a: a.update({"network.a\nb": np.zeros(1, np.float32)}), ""),
    "an unknown part of two lines": (lambda a: a.update({"a\nb": np.zeros(1, np.float32)}), ""),
    "no sites": (lambda a: a.pop("vocabulary.site"), "site"),
    "sites of another type": (replace("vocabulary.site", lambda a: a.astype(np.int64)), "site"),
    "sites in a table": (replace("vocabulary.site", lambda a: a[:, None]), "site"),
    "sites in no order": (replace("vocabulary.site", lambda a: a[::-1]), "contradicts"),
    "a site twice": (replace("vocabulary.site", lambda a: np.append(a[:1], a[:-1])), "contradicts"),
    "a site less": (replace("vocabulary.site", lambda a: a[:-1]), "contradicts"),
    "no site at all": (
        lambda a: a.update(
            {
                "vocabulary.site": np.zeros(0, np.uint64),
                "vocabulary.site_first": np.zeros(1, np.int64),
                "vocabulary.site_runs": np.zeros(0, np.int32),
                "vocabulary.edge_target": np.zeros(0, np.int32),
                "vocabulary.edge_count": np.zeros(0, np.int64),
                "vocabulary.edge_runs": np.zeros(0, np.int32),
            }
        ),
        "contradicts",
    ),
    "no target at all": (replace("vocabulary.target", lambda a: a[:0]), "contradicts"),
    "targets in no order": (replace("vocabulary.target", swap_ends), "contradicts"),
    "a target less": (replace("vocabulary.target", lambda a: a[:-1]), "contradicts|other sizes"),
    "edges to no target": (put("vocabulary.edge_target", 10_000), "contradicts"),
    "edges to less than none": (put("vocabulary.edge_target", -1), "contradicts"),
    "edges taken never": (put("vocabulary.edge_count", 0), "contradicts"),
    "edges in no run": (put("vocabulary.edge_runs", 0), "contradicts"),
    "edges in fewer runs than none": (put("vocabulary.edge_runs", -5), "contradicts"),
    "edges in more runs than there were": (put("vocabulary.edge_runs", (1 << 31) - 1), "contradicts"),
    "sites in no run": (put("vocabulary.site_runs", 0), "contradicts"),
    "sites in fewer runs than none": (put("vocabulary.site_runs", -(1 << 31)), "contradicts"),
    "sites in more runs than there were": (put("vocabulary.site_runs", (1 << 31) - 1), "contradicts"),
    "less than no runs": (put("vocabulary.runs", -9), "contradicts"),
    "a target that nothing leads to": (
        replace("vocabulary.target", lambda a: np.append(a, np.uint64((1 << 64) - 1))),
        "contradicts",
    ),
    "all edges to one target": (replace("vocabulary.edge_target", np.zeros_like), "contradicts"),
    "edges of no site": (replace("vocabulary.site_first", lambda a: a[:-1]), "contradicts"),
    "edges beyond the last": (
        replace("vocabulary.site_first", lambda a: np.append(a[:-1], a[-1] + 1)),
        "contradicts",
    ),
    "sites with edges backwards": (replace("vocabulary.site_first", swap_ends), "contradicts"),
    "runs in a list": (replace("vocabulary.runs", lambda a: np.append(a, a)), "contradicts"),
    "fewer sites with several targets": (
        lambda a: a.update({"vocabulary.site_first": np.arange(len(a["vocabulary.site"]) + 1)}),
        "contradicts|other sizes",
    ),
    "no rates": (lambda a: a.pop("rates.share"), "share"),
    "rates that are no table": (replace("rates.share", lambda a: a.ravel()), "share"),
    "rates above one": (put("rates.share", 1.5), "no probabilities"),
    "rates that are no numbers": (put("rates.unseen", np.nan), "no probabilities"),
    "kinds in no list": (lambda a: a.update({"rates.kind": np.array(5)}), "kind"),
    "kinds in a list": (replace("rates.kind", lambda a: a.ravel()), "kind"),
    "kinds that came up less than never": (put("rates.kind_units", -1), ""),
    "rates of no run": (put("rates.units", 0), "no training run"),
    "no memory": (lambda a: a.pop("memory.edge"), "memory.edge"),
    "a memory of other numbers": (replace("memory.edge", lambda a: a.astype(np.int64)), "memory.edge"),
    "a memory in a table": (replace("memory.edge", lambda a: a[:, None]), "memory.edge"),
    "a memory of edges that are not there": (put("memory.edge", 1 << 20), "memory.edge"),
    "a memory that restarts at no edge": (put("memory.edge", 0xFFFFFFFF), "memory.edge"),
    "more memories": (lambda a: a.update({"memory.more": np.zeros(1, np.uint32)}), "memory.more"),
    "blocks where none are wanted": (
        lambda a: a.update({"blocks.block": np.zeros(1, np.uint64)}),
        "blocks.block",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
@pytest.mark.parametrize("ending", [".safetensors", ".h5"])
def test_wrong_weights_are_refused(tmp_path, files, what, ending):
    change, message = WRONG[what]
    saved = Saved(tmp_path, files, ("causal", "learnt"), ending)
    saved.change(change)
    assert re.search(message, saved.refused())


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        (("paper", "learnt"), lambda a: a.pop("blocks.block"), "blocks.block"),
        (("paper", "learnt"), lambda a: a.pop("blocks.count"), "blocks.count"),
        (("paper", "learnt"), replace("blocks.block", swap_ends), "ascending"),
        (("paper", "learnt"), replace("blocks.block", lambda a: a[:-1]), ""),
        (
            ("paper", "learnt"),
            lambda a: a.update({name: a[name][:-1].copy() for name in ("blocks.block", "blocks.count")}),
            "",
        ),
        (
            ("paper", "learnt"),
            lambda a: a.update({name: a[name][:0].copy() for name in ("blocks.block", "blocks.count")}),
            "",
        ),
        (("paper", "modulo"), lambda a: a.update({"blocks.block": np.zeros(1, np.uint64)}), "blocks.block"),
        (("paper", "modulo"), lambda a: a.update({"memory.edge": np.zeros(1, np.uint32)}), "memory.edge"),
        (("paper", "learnt"), put("network.dense.bias", np.nan), "no finite"),
        (("causal", "modulo"), lambda a: a.pop("names.site"), "site"),
        (("causal", "modulo"), put("memory.edge", 1 << 20), "memory.edge"),
        (("causal", "modulo"), put("names.edge_count", -1), "contradicts"),
    ],
)
def test_wrong_weights_of_other_networks_are_refused(tmp_path, files, kind, change, message):
    saved = Saved(tmp_path, files, kind)
    saved.change(change)
    assert message in saved.refused()


def test_edges_that_overflow_take_no_memory(saved):
    def change(arrays):
        first = arrays["vocabulary.site_first"].copy()
        first[1:3] = [(1 << 63) - 1, -2]
        arrays["vocabulary.site_first"] = first

    saved.change(change)
    assert "contradicts" in saved.refused()


# --- documents that are wrong -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.update(schema=SCHEMA - 1), rf"has schema {SCHEMA - 1}, .* reads {SCHEMA}"),
        (lambda d: d.update(schema=SCHEMA + 1), f"has schema {SCHEMA + 1}"),
        (lambda d: d.update(schema=None), "has schema None"),
        (lambda d: d.pop("schema"), "has schema None"),
        (lambda d: d.update(schema="x" * 100_000), "has schema"),
        (lambda d: d.update(schema=[1, "a\nb"]), "has schema"),
        (lambda d: d.update(network="other"), "network 'other' is unknown here: use causal or paper"),
        (lambda d: d.update(network="a\nb"), "unknown here"),
        (lambda d: d.update(network="x" * 100_000), "unknown here"),
        (lambda d: d.pop("learn"), "learn"),
        (lambda d: d.update(learn=5), "learn"),
        (lambda d: d["tokens"].update(vocabulary="other"), "tokens"),
        (lambda d: d["train"].pop("epochs"), "train"),
        (lambda d: d.update(samples=[1]), "samples"),
        (lambda d: d["calibration"].update(window="x"), "calibration"),
        (lambda d: d["calibration"].update(scores=[-1.0]), "calibration"),
        (lambda d: d["calibration"].update(scores=[1e308]), "calibration"),
        (lambda d: d.update(surplus=1), "surplus"),
        (lambda d: d.update({"a\nb": 1}), ""),
        (lambda d: d.update({"x" * 100_000: 1}), ""),
        (lambda d: d.update(identity="0" * 64), "belongs to another model"),
        (lambda d: d.update(identity=""), "belongs to another model"),
        (lambda d: d["config"].update(surplus=1), "sizes that cannot be"),
        (lambda d: d["config"].pop("sites"), "sizes that cannot be"),
        (lambda d: d["config"].update(units=1 << 70), "sizes that cannot be"),
        (lambda d: d["config"].update(units=-1), "sizes that cannot be"),
        (lambda d: d["config"].update(units=0), "sizes that cannot be"),
        (lambda d: d["config"].update(units=1.5), "sizes that cannot be"),
        (lambda d: d["config"].update(units="many"), "sizes that cannot be"),
        (lambda d: d["config"].update(units=4096), "the model wants"),
        (lambda d: d["config"].update(sites=1 << 26), "the model wants"),
        (lambda d: d["config"].update(sites=1 << 26, targets=1 << 26, units=4096), "the model wants"),
        (lambda d: d["config"].update(ranks=257), "sizes that cannot be"),
        (lambda d: d["config"].update(lengths=[0]), "sizes that cannot be"),
        (lambda d: d["config"].update(lengths=[1, 2]), "the model wants"),
        (lambda d: d["config"].update(lengths=[1] * 100_000), ""),
    ],
)  # fmt: skip
def test_wrong_documents_are_refused(saved, change, message):
    saved.say(change)
    assert re.search(message, saved.refused())


@pytest.mark.parametrize("lengths", [[], [1] * 17])
def test_numbers_of_lengths_that_cannot_be_counted_are_refused(saved, lengths):
    def change(arrays):
        levels = len(arrays["network.sure.weight"]) - len(arrays["network.strength.weight"])
        arrays["network.sure.weight"] = np.zeros(((len(lengths) + 1) * levels, 1), np.float32)
        arrays["network.strength.weight"] = np.zeros((len(lengths) * levels, 1), np.float32)

    saved.change(change)
    saved.say(lambda document: document["config"].update(lengths=lengths))
    saved.refused()


@pytest.mark.parametrize(
    "change",
    [
        {"units": -1},
        {"units": 0},
        {"units": 1 << 40},
        {"inputs": -1},
        {"inputs": 1 << 62},
        {"embedding": 1 << 62},
        {"embedding": 0},
        {"classes": 1 << 50},
        {"classes": 0},
        {"sequence_len": 0},
        {"sequence_len": -3},
        {"sequence_len": 1 << 40},
        {"units": "many"},
        {"surplus": 1},
    ],
)
@pytest.mark.parametrize("vocabulary", ["learnt", "modulo"])
def test_impossible_sizes_of_the_papers_network_are_refused(tmp_path, files, vocabulary, change):
    saved = Saved(tmp_path, files, ("paper", vocabulary))
    saved.say(lambda document: document["config"].update(change))
    saved.refused()


@pytest.mark.parametrize(
    ("kind", "tokens"),
    [
        # windows would hold blocks that the network has no numbers for
        (("paper", "modulo"), {"inputs": 1000}),
        (("paper", "modulo"), {"classes": 1000}),
        (("paper", "modulo"), {"inputs": 0}),
        (("paper", "modulo"), {"classes": 0}),
        (("paper", "modulo"), {"classes": -5}),
        (("paper", "modulo"), {"vocabulary": "learnt"}),
        (("paper", "learnt"), {"vocabulary": "modulo"}),
        (("causal", "modulo"), {"inputs": 0}),
        (("causal", "modulo"), {"inputs": -5}),
        (("causal", "modulo"), {"classes": 1 << 70}),
        # names of blocks that the model has no vocabulary of, or two of
        (("causal", "learnt"), {"vocabulary": "modulo"}),
        (("causal", "modulo"), {"vocabulary": "learnt"}),
    ],
)
def test_tokens_that_are_not_the_networks_are_refused(tmp_path, files, kind, tokens):
    saved = Saved(tmp_path, files, kind)
    saved.say(lambda document: document["tokens"].update(tokens))
    saved.refused()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"5",
        b"\x80\x04junk",
        b"\xff\xfe\x00",
        b'{"schema": "\xff"}',
        b'{"\xff": 2}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"schema":2,"config":' + b'{"a":' * 100_000,
        b"\x1f\x8b",
        gzip.compress(b"x" * 1000, mtime=0)[:-9],
    ],
    ids=range(14),
)
def test_files_that_are_no_documents_are_refused(saved, content):
    saved.document.write_bytes(content)
    assert str(saved.document) in saved.refused()
    with pytest.raises(ModelError) as error:
        load_document(saved.document)
    assert str(saved.document) in one_line(error.value)


def test_a_document_that_is_too_large_is_refused(saved):
    saved.document.write_bytes(gzip.compress(b" " * (65 << 20), 1))
    assert "bytes" in saved.refused()


@pytest.mark.parametrize("content", [b"", b"{", b"\x80\x04junk", b"\x89HDF\r\n\x1a\n"])
def test_files_that_are_no_weights_are_refused(saved, content):
    saved.weights.write_bytes(content)
    assert str(saved.weights) in saved.refused()


def test_files_that_are_not_there_are_refused(saved, tmp_path):
    weights = saved.weights
    saved.weights = tmp_path / "gone"
    assert "gone" in saved.refused()
    saved.weights, saved.document = weights, tmp_path / "gone.json"
    assert "gone.json: no such file" in saved.refused()
    saved.document = tmp_path
    saved.refused()


# --- damage -------------------------------------------------------------------------------------------------


def damaged(content, seed, reach, values):
    """A few bytes of the beginning changed, put in, or left out."""
    draw = np.random.default_rng(seed)
    bad = bytearray(content)
    for _ in range(int(draw.integers(1, 5))):
        at = int(draw.integers(0, min(reach, len(bad))))
        kind = draw.random()
        if kind < 0.7:
            bad[at] = int(draw.choice(values))
        elif kind < 0.85:
            del bad[at : at + int(draw.integers(1, 9))]
        else:
            bad[at:at] = bad[at : at + int(draw.integers(1, 30))]
    return bytes(bad)


def either(document, weights):
    """A model that can be used, or an error of one line."""
    try:
        model = load_model(document, weights)
    except ModelError as error:
        one_line(error)
        return
    evaluated = list(Evaluator(model, 1).columns(JUDGED))
    assert all(np.isfinite(part["surprisal"]).all() for part in evaluated)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=80, deadline=None, derandomize=True)
@given(seed=st.integers(0, 1 << 40))
def test_a_damaged_document_is_refused_or_means_what_it_says(tmp_path_factory, files, kind, seed):
    folder = tmp_path_factory.getbasetemp() / f"documents-{os.getpid()}"
    folder.mkdir(exist_ok=True)
    saved = Saved(folder, files, kind)
    content = saved.document.read_bytes()
    values = np.frombuffer(b'0123456789-"{}[],:aeu\n\xff\x00', np.uint8)
    saved.document.write_bytes(damaged(content, seed, len(content), values))
    either(saved.document, saved.weights)


@pytest.mark.parametrize("ending", [".safetensors", ".h5"])
@settings(max_examples=80, deadline=None, derandomize=True)
@given(seed=st.integers(0, 1 << 40), kind=st.sampled_from(KINDS))
def test_damaged_weights_are_refused_or_can_be_used(tmp_path_factory, files, ending, seed, kind):
    folder = tmp_path_factory.getbasetemp() / f"weights-{os.getpid()}"
    folder.mkdir(exist_ok=True)
    saved = Saved(folder, files, kind, ending)
    content = saved.weights.read_bytes()
    reach = len(content) if ending == ".h5" else 8 + int.from_bytes(content[:8], "little")
    saved.weights.write_bytes(damaged(content, seed, reach, np.arange(256)))
    either(saved.document, saved.weights)


def test_errors_name_the_file_and_learning_options_are_kept(saved):
    assert saved.load().document.learn == Learn()
    saved.weights.write_bytes(b"")
    assert saved.refused().startswith(str(Path(saved.weights)))
