"""Saving and loading of models: what is written is what is read, and what is wrong is refused."""

import json

import numpy as np
import pytest
from safetensors.numpy import load, save

from barnum.errors import ModelError
from barnum.models.checkpoint import (
    Calibration,
    Model,
    load_model,
    new_document,
    save_document,
    save_weights,
)
from barnum.models.trainer import TrainConfig, new_network, set_up
from barnum.paths import Learn
from barnum.sequences import Vocabulary, edges_of, fit_novelty, units_of
from learning import blocks_of, nominal_path, transfers_of


@pytest.fixture
def saved(tmp_path):
    """Files of a small model, and the model."""
    blocks = blocks_of(40)
    runs = [edges_of([transfers_of(blocks, nominal_path(seed, 300))]) for seed in range(3)]
    vocabulary = Vocabulary.fit(units_of(runs)[0])
    rates, scores = fit_novelty(vocabulary, runs)
    set_up(0)
    network = new_network(vocabulary, 8)
    document = new_document(
        network,
        vocabulary,
        learn=Learn(call=True),
        train=TrainConfig(),
        samples=("a", "b", "c"),
        max_transfers=None,
        calibration=Calibration("novelty", 500, tuple(scores.tolist())),
    )
    model = Model(document, network, vocabulary, rates)
    save_document(tmp_path / "model.json", document)
    save_weights(tmp_path / "weights.safetensors", model)
    return tmp_path / "model.json", tmp_path / "weights.safetensors", model


def change_weights(file, change):
    raw = file.read_bytes()
    size = int.from_bytes(raw[:8], "little")
    metadata = json.loads(raw[8 : 8 + size])["__metadata__"]
    arrays = load(raw)
    change(arrays, metadata)
    file.write_bytes(save(arrays, metadata=metadata))


def test_what_is_saved_is_what_is_loaded(saved):
    document, weights, model = saved
    read = load_model(document, weights)
    assert read.document == model.document
    for name, tensor in model.network.state_dict().items():
        assert np.array_equal(read.network.state_dict()[name].numpy(), tensor.numpy())
    for name, array in model.vocabulary.arrays().items():
        assert np.array_equal(read.vocabulary.arrays()[name], array)
    for name, array in model.rates.arrays().items():
        assert np.array_equal(read.rates.arrays()[name], array)
    assert not [file for file in document.parent.iterdir() if file.name.startswith(".")]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a, m: a["network.out.weight"].__setitem__((0, 0), np.nan), "no finite"),
        (lambda a, m: a.update({"network.out.bias": a["network.out.bias"][:-1]}), "out.bias"),
        (lambda a, m: a.pop("network.gru.weight_hh_l0"), "missing"),
        (lambda a, m: a.update({"other": np.zeros(1)}), "belongs to no part"),
        (lambda a, m: a.pop("vocabulary.site"), "site"),
        (lambda a, m: a.pop("rates.share"), "share"),
        (lambda a, m: a.update({"vocabulary.site": a["vocabulary.site"][::-1].copy()}), "contradicts"),
        (lambda a, m: m.update(identity="0" * 64), "another model"),
    ],
)
def test_wrong_weights_are_refused(saved, change, message):
    document, weights, _ = saved
    change_weights(weights, change)
    with pytest.raises(ModelError, match=message):
        load_model(document, weights)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.update(schema=2), "schema 2"),
        (lambda d: d.update(network="other"), "unknown here"),
        (lambda d: d.pop("learn"), "learn"),
        (lambda d: d["config"].update(units=1 << 40), "sizes outside"),
        (lambda d: d["config"].update(units=-1), "sizes outside"),
        (lambda d: d["config"].update(units=60_000), "the model wants"),
        (lambda d: d["config"].update(sites=5), "other sizes"),
        (lambda d: d.update(surplus=1), "surplus"),
    ],
)
def test_wrong_documents_are_refused(saved, change, message):
    document, weights, _ = saved
    content = json.loads(document.read_text())
    change(content)
    document.write_text(json.dumps(content))
    with pytest.raises(ModelError, match=message):
        load_model(document, weights)


@pytest.mark.parametrize("content", [b"", b"{", b"\x80\x04junk", b"[]", b"null"])
def test_files_that_are_no_models_are_refused(saved, content):
    document, weights, _ = saved
    good = document.read_bytes()
    document.write_bytes(content)
    with pytest.raises(ModelError):
        load_model(document, weights)
    document.write_bytes(good)
    weights.write_bytes(content)
    with pytest.raises(ModelError, match="safetensors"):
        load_model(document, weights)
    weights.unlink()
    with pytest.raises(ModelError):
        load_model(document, weights)
