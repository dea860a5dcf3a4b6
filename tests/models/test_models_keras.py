"""Models of Keras 2: the published one's predictions, the function against another one in numpy, and what is
refused."""

import copy
import gzip
import json
import os
import random

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from barnum.errors import ModelError
from barnum.models.keras.read import KerasNetwork, is_keras, read_keras
from barnum.paths import open_path


@pytest.fixture(autouse=True)
def one_thread():
    """As scoring does: small products that are shared out wait for each other, long on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


# --- models that the tests write --------------------------------------------------------------------------


def layer(kind, name, **config):
    return {"class_name": kind, "config": {"name": name, "trainable": True, **config}}


def embedding(inputs=9, size=4, length=5):
    return layer(
        "Embedding",
        "embedding_1",
        batch_input_shape=[None, length],
        dtype="float32",
        input_dim=inputs,
        output_dim=size,
        embeddings_initializer={"class_name": "RandomUniform", "config": {"minval": -0.05, "seed": None}},
        embeddings_regularizer=None,
        activity_regularizer=None,
        embeddings_constraint=None,
        mask_zero=False,
        input_length=length,
    )


def lstm(name="lstm_1", units=3, **changes):
    config = {
        "units": units,
        "return_sequences": False,
        "return_state": False,
        "go_backwards": False,
        "stateful": False,
        "unroll": False,
        "activation": "tanh",
        "recurrent_activation": "hard_sigmoid",
        "use_bias": True,
        "unit_forget_bias": True,
        "kernel_initializer": {"class_name": "VarianceScaling", "config": {"seed": None}},
        "dropout": 0.1,
        "recurrent_dropout": 0.2,
        "implementation": 1,
    }
    return layer("LSTM", name, **config | changes)


def cudnn(name="cu_dnnlstm_1", units=3, **changes):
    config = {
        "units": units,
        "return_sequences": False,
        "return_state": False,
        "go_backwards": False,
        "stateful": False,
        "unit_forget_bias": True,
    }
    return layer("CuDNNLSTM", name, **config | changes)


def bidirectional(inner, name="bidirectional_1", merge="concat"):
    return layer("Bidirectional", name, layer=inner, merge_mode=merge)


def dense(name="dense_1", units=7, activation="softmax", use_bias=True):
    return layer(
        "Dense", name, units=units, activation=activation, use_bias=use_bias, kernel_regularizer=None
    )


def activation(function, name="activation_1"):
    return layer("Activation", name, activation=function)


def dropout(name="dropout_1"):
    return layer("Dropout", name, rate=0.5, noise_shape=None, seed=None)


def document(layers):
    return {
        "class_name": "Sequential",
        "config": {"name": "sequential_1", "layers": layers},
        "keras_version": "2.2.4",
        "backend": "tensorflow",
    }


SMALL = [
    embedding(),
    bidirectional(lstm(return_sequences=True)),
    activation("relu"),
    lstm("lstm_2", units=2),
    dropout(),
    dense(),
]


def cell_arrays(draw, inputs, config, in_cudnn):
    """Arrays of an LSTM as a file holds them."""
    units = config["units"]
    arrays = [("kernel", draw(inputs, 4 * units)), ("recurrent_kernel", draw(units, 4 * units))]
    if config.get("use_bias", True):
        arrays.append(("bias", draw(8 * units if in_cudnn else 4 * units)))
    return arrays


def random_weights(layers, seed=0, in_cudnn=lambda name: False, scale=0.7):
    """(layer, [(name, array)]) of each layer, in order."""
    rng = np.random.default_rng(seed)

    def draw(*shape):
        return (scale * rng.standard_normal(shape)).astype(np.float32)

    weights, width = [], None
    for each in layers:
        kind, config = each["class_name"], each["config"]
        arrays = []
        if kind == "Embedding":
            width = config["output_dim"]
            arrays = [("embeddings", draw(config["input_dim"], width))]
        elif kind == "Dense":
            arrays = [("kernel", draw(width, config["units"]))]
            if config["use_bias"]:
                arrays.append(("bias", draw(config["units"])))
            width = config["units"]
        elif kind in ("LSTM", "CuDNNLSTM"):
            arrays = cell_arrays(draw, width, config, in_cudnn(config["name"]))
            width = config["units"]
        elif kind == "Bidirectional":
            inner = config["layer"]["config"]
            for way in ("forward", "backward"):
                found = cell_arrays(draw, width, inner, in_cudnn(config["name"]))
                arrays += [(f"{way}_{inner['name']}/{name}", array) for name, array in found]
            width = inner["units"] * (2 if config["merge_mode"] == "concat" else 1)
        weights.append((config["name"], arrays))
    return weights


def write_weights(file, weights, inside=None, text=np.array):
    """What save_weights writes; inside a group, what save writes."""
    with h5py.File(file, "w") as opened:
        root = opened if inside is None else opened.create_group(inside)
        root.attrs["layer_names"] = text([name.encode() for name, _ in weights])
        root.attrs["backend"] = b"tensorflow"
        root.attrs["keras_version"] = b"2.2.4"
        for name, arrays in weights:
            group = root.create_group(name)
            names = [f"{name}/{array}:0" for array, _ in arrays]
            group.attrs["weight_names"] = text([each.encode() for each in names])
            for each, (_, array) in zip(names, arrays, strict=True):
                group.create_dataset(each, data=array)


def write_model(folder, layers, weights=None):
    (folder / "lstm.json").write_text(json.dumps(document(layers)))
    write_weights(folder / "lstm.h5", random_weights(layers) if weights is None else weights)
    return folder / "lstm.json", folder / "lstm.h5"


def some_windows(network, count=6, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, network.config.inputs, (count, network.config.sequence_len))


def refusal(document_file, weights_file):
    """The message of the one error that reading must end in."""
    with pytest.raises(ModelError) as caught:
        read_keras(document_file, weights_file)
    message = str(caught.value)
    assert "\n" not in message
    assert message.isprintable()
    return message


# --- the published model ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def acrobat(data_dir):
    folder = data_dir / "acrobat"
    if not (folder / "model" / "lstm.h5").is_file():
        pytest.skip(f"no published model at {folder}")
    return folder


@pytest.mark.parametrize("start", ["44a7851c", "4a1addfb"])
def test_published_predictions(acrobat, start):
    (file,) = (acrobat / "expected").glob(f"{start}*.csv.gz")
    with gzip.open(file, "rt") as rows:
        expected = np.loadtxt(rows, delimiter=",", skiprows=1)
    record, predicted, confidence, actual = expected[:, [0, 2, 3, 4]].T
    record = record.astype(np.int64)
    sample = acrobat / "traces" / file.name.partition(".")[0]
    path = open_path(sample / "trace_parsed.gz").read()
    token = (path.blocks.bbid[path.block] % np.uint64(1024)).astype(np.int64)
    assert np.array_equal(token[record + 1], actual)
    # programs loop: most windows are there many times, and a window's prediction depends on it alone
    windows, which = np.unique(token[record[:, None] + np.arange(-31, 1)], axis=0, return_inverse=True)
    network = read_keras(acrobat / "model" / "lstm.json", acrobat / "model" / "lstm.h5")
    assert (network.config.sequence_len, network.config.inputs, network.config.classes) == (32, 1024, 1024)
    probabilities = torch.cat([network(part) for part in torch.from_numpy(windows).split(512)]).numpy()
    assert np.allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    found = probabilities[which.ravel(), predicted.astype(np.int64)]
    best = probabilities.max(axis=1)[which.ravel()]
    # the same prediction, or one of two that are as likely
    assert (best - found).max() <= 1e-6
    assert np.abs(best - confidence).max() < 1e-4


def test_published_document_is_of_keras(acrobat):
    assert is_keras((acrobat / "model" / "lstm.json").read_bytes())


# --- the function, once more, as Keras states it ------------------------------------------------------------

ORACLE = {
    "linear": lambda x: x,
    "relu": lambda x: np.maximum(x, 0),
    "tanh": np.tanh,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "hard_sigmoid": lambda x: np.minimum(np.maximum(0.2 * x + 0.5, 0), 1),
    "softplus": lambda x: np.log1p(np.exp(x)),
    "softsign": lambda x: x / (1 + np.abs(x)),
    "elu": lambda x: np.where(x > 0, x, np.exp(np.minimum(x, 0)) - 1),
    "selu": lambda x: (
        1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * (np.exp(np.minimum(x, 0)) - 1))
    ),
    "softmax": lambda x: np.exp(x) / np.exp(x).sum(axis=-1, keepdims=True),
}


def from_cudnn(arrays):
    """Arrays of cuDNN as those of an LSTM, the way Keras turns them."""
    kernel, recurrent, bias = arrays
    kernel = np.hstack([k.T.reshape(k.shape, order="F") for k in np.hsplit(kernel, 4)])
    recurrent = np.hstack([k.T for k in np.hsplit(recurrent, 4)])
    return [kernel, recurrent, bias[: len(bias) // 2] + bias[len(bias) // 2 :]]


def to_cudnn(arrays):
    kernel, recurrent, bias = arrays
    kernel = np.hstack([k.T.reshape(k.shape, order="C") for k in np.hsplit(kernel, 4)])
    recurrent = np.hstack([k.T for k in np.hsplit(recurrent, 4)])
    return [kernel, recurrent, np.tile(np.float32(0.5) * bias, 2)]


def run_cell(x, kind, config, arrays, backwards):
    """f64[L, U] of f64[L, D], in the order of steps."""
    function, recurrent_function = "tanh", "sigmoid"
    if kind == "LSTM":
        function, recurrent_function = config["activation"], config["recurrent_activation"]
    arrays = [array.astype(np.float64) for array in arrays]
    if len(arrays) == 3 and len(arrays[2]) == 8 * config["units"]:
        arrays = from_cudnn(arrays)
    units = config["units"]
    kernel, recurrent = arrays[:2]
    bias = arrays[2] if len(arrays) == 3 else np.zeros(4 * units)
    h, c, out = np.zeros(units), np.zeros(units), []
    for step in x[::-1] if backwards else x:
        z = step @ kernel + h @ recurrent + bias
        i, f = (ORACLE[recurrent_function](z[k * units : (k + 1) * units]) for k in (0, 1))
        o = ORACLE[recurrent_function](z[3 * units :])
        c = f * c + i * ORACLE[function](z[2 * units : 3 * units])
        h = o * ORACLE[function](c)
        out.append(h)
    return np.array(out)


def run_layer(x, each, arrays):
    kind, config = each["class_name"], each["config"]
    if kind == "Embedding":
        return arrays[0].astype(np.float64)[x]
    if kind == "Dense":
        bias = arrays[1] if config["use_bias"] else 0
        return ORACLE[config["activation"]](x @ arrays[0].astype(np.float64) + bias)
    if kind == "Activation":
        return ORACLE[config["activation"]](x)
    if kind == "Dropout":
        return x
    if kind != "Bidirectional":
        out = run_cell(x, kind, config, arrays, config["go_backwards"])
        return out if config["return_sequences"] else out[-1]
    inner, half = config["layer"], len(arrays) // 2
    turned = inner["config"]["go_backwards"]
    a = run_cell(x, inner["class_name"], inner["config"], arrays[:half], turned)
    b = run_cell(x, inner["class_name"], inner["config"], arrays[half:], not turned)
    a, b = (a, b[::-1]) if inner["config"]["return_sequences"] else (a[-1], b[-1])
    merge = config["merge_mode"]
    if merge == "concat":
        return np.concatenate([a, b], axis=-1)
    return {"sum": a + b, "mul": a * b, "ave": (a + b) / 2}[merge]


def oracle(layers, weights, windows):
    found = []
    for x in windows:
        for each, (_, arrays) in zip(layers, weights, strict=True):
            x = run_layer(x, each, [array for _, array in arrays])
        found.append(x)
    return np.array(found)


POINTWISE = ["linear", "relu", "tanh", "sigmoid", "hard_sigmoid", "softplus", "softsign", "elu", "selu"]


@st.composite
def architectures(draw):
    number = iter(range(1000))
    layers = [embedding(draw(st.integers(1, 12)), draw(st.integers(1, 5)), draw(st.integers(1, 6)))]
    recurrent = draw(st.integers(1, 3))
    for index in range(recurrent):
        shape = {
            "units": draw(st.integers(1, 4)),
            "return_sequences": index < recurrent - 1,
            "go_backwards": draw(st.booleans()),
        }
        if draw(st.booleans()):
            inner = cudnn(f"cudnn_{next(number)}", **shape)
        else:
            inner = lstm(
                f"lstm_{next(number)}",
                activation=draw(st.sampled_from(POINTWISE)),
                recurrent_activation=draw(st.sampled_from(["hard_sigmoid", "sigmoid", "tanh"])),
                use_bias=draw(st.booleans()),
                **shape,
            )
        if draw(st.booleans()):
            merge = draw(st.sampled_from(["concat", "sum", "mul", "ave"]))
            inner = bidirectional(inner, f"both_{next(number)}", merge)
        layers.append(inner)
        if draw(st.booleans()):
            function = draw(st.sampled_from([*POINTWISE, "softmax"]))
            layers.append(activation(function, f"activation_{next(number)}"))
        if draw(st.booleans()) and index < recurrent - 1:
            layers.append(
                dense(f"dense_{next(number)}", draw(st.integers(1, 4)), "tanh", draw(st.booleans()))
            )
        if draw(st.booleans()):
            layers.append(dropout(f"dropout_{next(number)}"))
    layers.append(dense("dense_last", draw(st.integers(1, 8)), "linear", draw(st.booleans())))
    layers.append(activation("softmax", "softmax"))
    return layers


@settings(max_examples=60, deadline=None)
@given(layers=architectures(), seed=st.integers(0, 1 << 30), data=st.data())
def test_the_function_is_that_of_keras(tmp_path_factory, layers, seed, data):
    biased = {
        each["config"]["name"]
        for each in layers
        if each["config"].get("layer", each)["config"].get("use_bias", True)
    }
    cudnn_layout = data.draw(st.sets(st.sampled_from(sorted(biased))))
    weights = random_weights(layers, seed, cudnn_layout.__contains__, scale=0.5)
    network = read_keras(*write_model(tmp_path_factory.mktemp("model"), layers, weights))
    windows = some_windows(network, data.draw(st.integers(0, 5)), seed)
    found = network(torch.from_numpy(windows))
    assert found.shape == (len(windows), network.config.classes)
    assert found.dtype == torch.float32
    if len(windows):
        assert np.allclose(found.numpy(), oracle(layers, weights, windows), rtol=1e-4, atol=1e-5)


def test_results_depend_on_no_batch(tmp_path):
    network = read_keras(*write_model(tmp_path, SMALL))
    windows = torch.from_numpy(some_windows(network, 37))
    together = network(windows)
    apart = torch.cat([network(part) for part in windows.split(5)])
    assert torch.allclose(together, apart, atol=1e-6)


@pytest.mark.parametrize("wrap", [lambda inner: inner, bidirectional])
@pytest.mark.parametrize("kind", [lstm, cudnn])
def test_both_layouts_of_weights_are_one_function(tmp_path, kind, wrap):
    shape = {"recurrent_activation": "sigmoid"} if kind is lstm else {}
    layers = [embedding(), wrap(kind(units=3, **shape)), dense()]
    plain = random_weights(layers)
    converted = copy.deepcopy(plain)
    name, arrays = converted[1]
    turned = [
        each
        for begin in range(0, len(arrays), 3)
        for each in to_cudnn([array for _, array in arrays[begin : begin + 3]])
    ]
    converted[1] = (name, [(called, array) for (called, _), array in zip(arrays, turned, strict=True)])
    results = []
    for folder, weights in (("plain", plain), ("converted", converted)):
        (tmp_path / folder).mkdir()
        network = read_keras(*write_model(tmp_path / folder, layers, weights))
        results.append(network(torch.from_numpy(some_windows(network))))
    assert torch.allclose(*results, atol=1e-6)


def test_a_cudnn_layer_is_an_lstm_with_sigmoid(tmp_path):
    results = []
    for inner in (cudnn("rnn"), lstm("rnn", recurrent_activation="sigmoid")):
        network = read_keras(*write_model(tmp_path, [embedding(), inner, dense()]))
        results.append(network(torch.from_numpy(some_windows(network))))
    assert torch.equal(*results)


# --- forms of files that are read ---------------------------------------------------------------------------


def nested(arrays):
    """With the names that later versions give to the arrays of an LSTM."""
    return [
        ("/".join([*name.split("/")[:-1], "cell_3", name.split("/")[-1]]), array) for name, array in arrays
    ]


def test_files_of_save_and_other_names_are_read(tmp_path):
    document_file, weights_file = write_model(tmp_path, SMALL)
    network = read_keras(document_file, weights_file)
    windows = torch.from_numpy(some_windows(network))
    weights = random_weights(SMALL)
    write_weights(tmp_path / "saved.h5", weights, inside="model_weights")
    # another process counts its layers from where it is
    write_weights(tmp_path / "named.h5", [(f"{name}7", arrays) for name, arrays in weights])
    # h5py 3 makes strings of any length of a list
    write_weights(tmp_path / "list.h5", weights, text=list)
    write_weights(tmp_path / "nested.h5", [(name, nested(arrays)) for name, arrays in weights], text=list)
    (tmp_path / "list.json").write_text(json.dumps(document(SMALL) | {"config": SMALL}))
    (tmp_path / "gz.json").write_bytes(gzip.compress(document_file.read_bytes()))
    for documents, file in [
        (document_file, tmp_path / "saved.h5"),
        (document_file, tmp_path / "named.h5"),
        (document_file, tmp_path / "list.h5"),
        (document_file, tmp_path / "nested.h5"),
        (tmp_path / "list.json", weights_file),
        (tmp_path / "gz.json", weights_file),
    ]:
        assert torch.equal(read_keras(documents, file)(windows), network(windows))


def test_later_versions_of_keras_2(tmp_path):
    policy = {
        "module": "keras.mixed_precision",
        "class_name": "Policy",
        "config": {"name": "float32"},
        "registered_name": None,
    }
    first = embedding()
    del first["config"]["batch_input_shape"], first["config"]["input_length"]
    layers = [
        layer(
            "InputLayer", "input_1", batch_input_shape=[None, 5], dtype="int32", sparse=False, ragged=False
        ),
        first,
        lstm(time_major=False, dtype=policy, recurrent_activation="sigmoid"),
        dense(),
    ]
    for each in layers:
        each |= {"module": "keras.layers", "registered_name": None, "build_config": {"input_shape": [1]}}
    document_file, weights_file = write_model(tmp_path, layers)
    later = document(layers) | {"keras_version": "2.13.1"}
    document_file.write_text(json.dumps(later))
    assert read_keras(document_file, weights_file).config.sequence_len == 5


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (json.dumps(document([])).encode(), True),
        (b'{"class_name": "Model", "config": {}}', True),
        (b'{"class_name": "Sequential", "keras_version": null}', True),
        (b'{"schema": 1, "version": "0"}', False),
        (b'{"class_name": 3}', False),
        (b'["class_name"]', False),
        (b"", False),
        (b"\xff\xfe{", False),
        (b'{"class_name": "\xff"}', False),
        (b'{"a": ' + b"[" * 200_000, False),
        (b"\x89HDF\r\n\x1a\n", False),
    ],
)
def test_is_keras(data, expected):
    assert is_keras(data) is expected


def test_windows_that_are_none(tmp_path):
    network = read_keras(*write_model(tmp_path, SMALL))
    good = torch.from_numpy(some_windows(network))
    for windows in (good[:, 1:], good[0], good.int()):
        with pytest.raises(ValueError, match="windows are"):
            network(windows)
    for token in (-1, network.config.inputs):
        windows = good.clone()
        windows[1, 2] = token
        with pytest.raises(IndexError):
            network(windows)
    assert network(good[:0]).shape == (0, network.config.classes)


def test_weights_that_overflow(tmp_path):
    layers = [embedding(), lstm(activation="linear"), dense()]
    weights = random_weights(layers, scale=1e20)
    network = read_keras(*write_model(tmp_path, layers, weights))
    with pytest.raises(ModelError, match="overflow"):
        network(torch.from_numpy(some_windows(network)))


# --- architectures that are refused -------------------------------------------------------------------------


def changed(index, **options):
    """SMALL with other options of one layer."""
    layers = copy.deepcopy(SMALL)
    layers[index]["config"].update(options)
    return layers


def without(index, option):
    layers = copy.deepcopy(SMALL)
    del layers[index]["config"][option]
    return layers


def inner_changed(**options):
    layers = copy.deepcopy(SMALL)
    layers[1]["config"]["layer"]["config"].update(options)
    return layers


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([], "first layer is no Embedding"),
        (SMALL[1:], "first layer is no Embedding"),
        ([embedding(), layer("GRU", "gru_1", units=3), dense()], "GRU"),
        ([embedding(), layer("Lambda", "lambda_1", function="print()"), dense()], "Lambda"),
        ([embedding(), bidirectional(layer("CuDNNGRU", "gru", units=3)), dense()], "CuDNNGRU"),
        ([embedding(), bidirectional(dense()), dense()], "Dense"),
        ([embedding(), layer("Bad\nname\x1b[31m", "x"), dense()], "Bad"),
        (changed(1, merge_mode=None), "merge_mode"),
        (changed(1, backward_layer=lstm()), "backward_layer"),
        (changed(2, activation="swish"), "swish"),
        (changed(2, activation={"class_name": "LeakyReLU"}), "activation"),
        (changed(3, activation="softmax"), "softmax"),
        (changed(3, recurrent_activation="exponential"), "exponential"),
        (changed(3, stateful=True), "stateful"),
        (changed(3, return_state=True), "return_state"),
        (changed(3, time_major=True), "time_major"),
        (changed(3, projection=3), "projection"),
        (changed(3, dtype="float16"), "float16"),
        (changed(3, dtype={"class_name": "Policy", "config": {"name": "mixed_float16"}}), "mixed_float16"),
        (changed(3, use_bias="yes"), "use_bias"),
        (changed(3, units=0), "units"),
        (changed(3, units=1 << 40), "units"),
        (changed(3, units=10**400), "units"),
        (changed(3, units=-3), "units"),
        (changed(3, units=2.5), "units"),
        (inner_changed(stateful=True), "stateful"),
        (inner_changed(activation="what"), "what"),
        (without(3, "recurrent_activation"), "recurrent_activation"),
        (without(3, "go_backwards"), "go_backwards"),
        (without(5, "activation"), "activation"),
        (without(3, "name"), "name"),
        (changed(0, mask_zero=True), "mask_zero"),
        (changed(0, input_length=6), "more than one length"),
        (changed(0, input_length=None, batch_input_shape=[None, None]), "no length"),
        (changed(0, batch_input_shape=[None, 5, 2]), "batch_input_shape"),
        (changed(0, input_dim=1 << 25), "input_dim"),
        (
            changed(0, output_dim=100, input_length=60_000, batch_input_shape=[None, 60_000]),
            "'embedding_1' gives too many numbers",
        ),
        (changed(0, batch_input_shape=[None, 1 << 20]), "batch_input_shape"),
        (changed(1, name="x" * 500), None),
        (SMALL[:-1], "no probabilities"),
        (changed(5, activation="sigmoid"), "no probabilities"),
        ([embedding(), activation("softmax")], "no probabilities"),
        ([embedding(), lstm(), lstm("lstm_2"), dense()], "'lstm_2' wants a sequence"),
        ([*SMALL, embedding()], "'embedding_1' stands behind"),
        ([*SMALL[:1], *([activation("relu")] * 100), *SMALL[1:]], "64"),
        (
            [layer("InputLayer", "i", batch_input_shape=[None, 5], sparse=True, dtype="int32"), *SMALL],
            "sparse",
        ),
        ([layer("InputLayer", "i", batch_input_shape=[None, 5], dtype="int8"), *SMALL], "int8"),
        ([layer("InputLayer", "i", batch_input_shape=[None, 4], dtype="int32"), *SMALL], "more than one"),
    ],
)
def test_architectures_that_are_refused(tmp_path, layers, message):
    document_file, weights_file = write_model(tmp_path, SMALL)
    document_file.write_text(json.dumps(document(layers)))
    if message is None:
        assert isinstance(read_keras(document_file, weights_file), KerasNetwork)
    else:
        assert message in refusal(document_file, weights_file)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"class_name": "Model"}, ".single"),
        ({"class_name": "Functional"}, ".single"),
        ({"class_name": "Other\n"}, "Other?"),
        ({"keras_version": "1.2.2"}, "Keras 1.2.2"),
        ({"keras_version": "3.4.0"}, "Keras 3.4.0"),
        ({"keras_version": None}, "Keras None"),
        ({"extra": 1}, "extra"),
        ({"config": {"layers": SMALL, "input": 3}}, "input"),
        ({"config": 3}, "config"),
    ],
)
def test_documents_that_are_refused(tmp_path, change, message):
    document_file, weights_file = write_model(tmp_path, SMALL)
    document_file.write_text(json.dumps(document(SMALL) | change))
    assert message in refusal(document_file, weights_file)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "no Keras model"),
        (b"{", "no Keras model"),
        (b'{"class_name": "\xff"}', "no Keras model"),
        (b"[" * 100_000, "no Keras model"),
        (b'{"class_name": "Sequential", "config": ' + b"[" * 100_000, "no Keras model"),
        (b'{"class_name": "Sequential", "x": ' + b'{"a":' * 100_000, "no Keras model"),
        (b" " * (1 << 20) + b"{}", "more than"),
        (gzip.compress(bytes(1 << 24)), "more than"),
        (gzip.compress(b"{}", mtime=0)[:-4], "gzip"),
    ],
)
def test_documents_that_are_none(tmp_path, data, message):
    document_file, weights_file = write_model(tmp_path, SMALL)
    document_file.write_bytes(data)
    assert message in refusal(document_file, weights_file)


def test_files_that_are_missing(tmp_path):
    document_file, weights_file = write_model(tmp_path, SMALL)
    os.mkfifo(tmp_path / "pipe")
    for missing, message in (
        (tmp_path / "no", "no such file"),
        (tmp_path, "read"),
        (tmp_path / "pipe", "reg"),
    ):
        assert message in refusal(missing, weights_file)
        assert message in refusal(document_file, missing)


# --- weights that are refused -------------------------------------------------------------------------------

KERNEL = "dense_1/dense_1/kernel:0"


def replace(create):
    """A change that puts something else in the place of an array."""

    def change(file):
        with h5py.File(file, "r+") as opened:
            values = opened[KERNEL][:]
            del opened[KERNEL]
            create(opened, values, file.parent)

    return change


def edit(action):
    def change(file):
        with h5py.File(file, "r+") as opened:
            action(opened)

    return change


def pipe_link(opened, values, folder):
    os.mkfifo(folder / "pipe")
    opened[KERNEL] = h5py.ExternalLink(str(folder / "pipe"), "x")


def raw_external(opened, values, folder):
    (folder / "secret").write_bytes(values.tobytes())
    opened.create_dataset(KERNEL, values.shape, "f4", external=[(str(folder / "secret"), 0, values.nbytes)])


def virtual(opened, values, folder):
    with h5py.File(folder / "other.h5", "w") as other:
        other["x"] = values
    layout = h5py.VirtualLayout(values.shape, "f4")
    layout[:] = h5py.VirtualSource(str(folder / "other.h5"), "x", values.shape)
    opened.create_virtual_dataset(KERNEL, layout)


def external_link(opened, values, folder):
    with h5py.File(folder / "other.h5", "w") as other:
        other["x"] = values
    opened[KERNEL] = h5py.ExternalLink(str(folder / "other.h5"), "x")


def soft_link(opened, values, folder):
    opened["elsewhere"] = values
    opened[KERNEL] = h5py.SoftLink("/elsewhere")


def poked(value):
    def create(opened, values, folder):
        values[0, 0] = value
        opened[KERNEL] = values

    return replace(create)


def listed(change=lambda opened: None):
    """Names as strings of any length, and a change."""

    def both(file):
        write_weights(file, random_weights(SMALL), text=list)
        edit(change)(file)

    return both


def loop(opened):
    for number in range(5):
        opened[f"dense_1/loop{number}"] = opened["dense_1"]


def linked_group(opened):
    opened.move("dense_1", "moved")
    opened["dense_1"] = h5py.SoftLink("/moved")


def renamed(opened, *names, place="dense_1", attribute="weight_names"):
    opened[place].attrs[attribute] = np.array([name.encode() for name in names])


def hidden_names(opened):
    opened["dense_1"].attrs.create("weight_names", np.bytes_("dense_1/kernel:0"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda file: file.write_bytes(b""), "no HDF5"),
        (lambda file: file.write_bytes(b"PK\x03\x04" * 100), "no HDF5"),
        (lambda file: file.write_bytes(file.read_bytes()[:600]), "bytes"),
        (lambda file: file.write_bytes(file.read_bytes()[:-64]), "cannot be read as HDF5"),
        (lambda file: file.write_bytes(file.read_bytes()[:8] + b"\xff" * 50_000), "cannot be read as HDF5"),
        (lambda file: os.truncate(file, (1 << 31) + 1), "larger than 2 GiB"),
        (lambda file: write_weights(file, random_weights(SMALL)[:-1]), "layers"),
        (lambda file: write_weights(file, random_weights([*SMALL, dense("more")])), "layers"),
        (lambda file: write_weights(file, random_weights(SMALL)[::-1]), "another order"),
        (poked(np.nan), "no finite"),
        (poked(np.inf), "no finite"),
        (poked(-np.inf), "no finite"),
        (replace(lambda opened, values, _: None), "missing"),
        (replace(lambda opened, values, _: opened.create_group(KERNEL)), "no array"),
        (
            replace(lambda opened, values, _: opened.create_dataset(KERNEL, data=values[:-1])),
            "model wants (2, 7)",
        ),
        (replace(lambda opened, values, _: opened.create_dataset(KERNEL, data=values.T)), "(7, 2)"),
        (replace(lambda opened, values, _: opened.create_dataset(KERNEL, data=h5py.Empty("f4"))), "None"),
        (replace(lambda opened, values, _: opened.create_dataset(KERNEL, (1 << 40, 1 << 20), "f4")), "wants"),
        (replace(lambda opened, values, _: opened.create_dataset(KERNEL, (2, 7), "f4")), "never written"),
        (
            replace(lambda opened, values, _: opened.create_dataset(KERNEL, data=values.astype("f8"))),
            "float64",
        ),
        (
            replace(lambda opened, values, _: opened.create_dataset(KERNEL, data=values.astype(">f4"))),
            "float32",
        ),
        (
            replace(lambda opened, values, _: opened.create_dataset(KERNEL, data=values.astype("f2"))),
            "float16",
        ),
        (replace(lambda opened, values, _: opened.create_dataset(KERNEL, data=values.astype("i4"))), "int32"),
        (
            replace(
                lambda opened, values, _: opened.create_dataset(
                    KERNEL, data=np.full((2, 7), b"x", object), dtype=h5py.string_dtype()
                )
            ),
            "float32",
        ),
        (
            replace(lambda opened, values, _: opened.create_dataset(KERNEL, data=values, compression="gzip")),
            "plain array",
        ),
        (
            replace(
                lambda opened, values, _: opened.create_dataset(
                    KERNEL, (2, 7), "f4", maxshape=(None, None), chunks=(1 << 14, 1 << 14), compression="gzip"
                )
            ),
            "plain array",
        ),
        (replace(raw_external), "plain array"),
        (replace(virtual), "plain array"),
        (replace(external_link), "link"),
        (replace(soft_link), "link"),
        (replace(pipe_link), "link"),
        (edit(linked_group), "link"),
        (listed(linked_group), "link"),
        (listed(loop), "more than the arrays of a layer"),
        (listed(lambda opened: opened.__delitem__("dense_1")), "'dense_1' is missing"),
        (listed(lambda opened: opened.__delitem__(KERNEL)), "has 1 arrays, layer 'dense_1' wants 2"),
        (listed(lambda opened: opened.move(KERNEL, "dense_1/dense_1/gamma:0")), "gamma:0"),
        (listed(lambda opened: opened.copy(KERNEL, "dense_1/kernel:0")), "not expected"),
        (listed(lambda opened: opened.move("dense_1", "dense_7")), "'dense_1' is missing"),
        (edit(lambda opened: opened.__delitem__("dense_1")), "'dense_1' is missing"),
        (edit(lambda opened: opened["dense_1"].attrs.__delitem__("weight_names")), "no weight_names"),
        (edit(lambda opened: opened.attrs.__delitem__("layer_names")), "no layer_names"),
        (edit(lambda opened: opened.attrs.create("layer_names", 3)), "no list of names"),
        (edit(lambda opened: opened.attrs.create("layer_names", h5py.Empty("S3"))), "no list of names"),
        (edit(lambda opened: opened.attrs.create("layer_names", [1.0, 2.0])), "no list of names"),
        (edit(lambda opened: opened.attrs.create("layer_names", np.zeros(5000, "S1"))), "holds more"),
        (edit(lambda opened: opened.attrs.create("layer_names", np.array([b"\xff"]))), "cannot be read"),
        (edit(lambda opened: opened.attrs.create("layer_names", np.array([b"x\ny"]))), "missing"),
        (edit(lambda opened: opened.attrs.create("layer_names", np.array([b"/"]))), "no name"),
        (edit(lambda opened: opened.attrs.create("layer_names", np.array([b""]))), "no name"),
        (edit(hidden_names), "no list of names"),
        (edit(lambda opened: renamed(opened, "dense_1/kernel:0")), "has 1 arrays, layer 'dense_1' wants 2"),
        (edit(lambda opened: renamed(opened, "/" + KERNEL, "dense_1/bias:0")), "no name of an array"),
        (edit(lambda opened: renamed(opened, "/".join("x" * 99), "dense_1/bias:0")), "no name of an array"),
        (
            edit(lambda opened: renamed(opened, "dense_1/bias:0", "dense_1/kernel:0")),
            "stands where kernel should",
        ),
        (edit(lambda opened: renamed(opened, "dense_1/kernel:0/x", "dense_1/bias:0")), "missing"),
    ],
)
def test_weights_that_are_refused(tmp_path, change, message):
    document_file, weights_file = write_model(tmp_path, SMALL)
    change(weights_file)
    assert message in refusal(document_file, weights_file)


def test_weights_of_an_lstm_without_bias_are_not_those_of_one_with(tmp_path):
    document_file, weights_file = write_model(tmp_path, SMALL)
    write_weights(weights_file, random_weights(changed(3, use_bias=False)))
    assert "wants 3: kernel, recurrent_kernel, bias" in refusal(document_file, weights_file)


def test_a_large_architecture_takes_no_memory(tmp_path):
    import tracemalloc

    document_file, weights_file = write_model(tmp_path, SMALL)
    layers = changed(0, input_dim=1 << 24, output_dim=1 << 16)
    document_file.write_text(json.dumps(document(layers)))
    tracemalloc.start()
    try:
        assert "weights of the model alone are" in refusal(document_file, weights_file)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


# --- damage -------------------------------------------------------------------------------------------------


def works_or_is_refused(document_file, weights_file):
    try:
        network = read_keras(document_file, weights_file)
    except ModelError as error:
        assert str(error).isprintable()
        return
    try:
        probabilities = network(torch.from_numpy(some_windows(network, 2)))
    except ModelError:
        return
    assert probabilities.shape == (2, network.config.classes)
    assert torch.allclose(probabilities.sum(dim=1), torch.ones(2), atol=1e-4)


VALUES = st.sampled_from(
    [
        None,
        True,
        False,
        0,
        1,
        2,
        3,
        5,
        -1,
        1 << 16,
        1 << 62,
        1e300,
        "",
        "tanh",
        "LSTM",
        "softmax",
        [],
        {},
        [None],
    ]
)


def places(tree, path=()):
    """Paths to all parts of a JSON document."""
    yield path
    if isinstance(tree, dict | list):
        for key in tree if isinstance(tree, dict) else range(len(tree)):
            yield from places(tree[key], (*path, key))


PLACES = sorted(places(document(SMALL)), key=str)[1:]


@settings(max_examples=150, deadline=None)
@given(changes=st.lists(st.tuples(st.sampled_from(PLACES), VALUES), min_size=1, max_size=3))
def test_documents_with_other_values(tmp_path_factory, changes):
    document_file, weights_file = write_model(tmp_path_factory.mktemp("model"), SMALL)
    tree = document(copy.deepcopy(SMALL))
    for path, value in changes:
        if not path:
            continue
        try:
            part = tree
            for key in path[:-1]:
                part = part[key]
            part[path[-1]] = value
        except (LookupError, TypeError):
            continue
    document_file.write_text(json.dumps(tree))
    works_or_is_refused(document_file, weights_file)


def damaged(data, rng, most):
    data = bytearray(data)
    for _ in range(rng.randint(1, most)):
        place = rng.randrange(len(data))
        how = rng.randrange(4)
        if how == 0:
            data[place] ^= 1 << rng.randrange(8)
        elif how == 1:
            data[place] = rng.choice(b'\x00\xff\x7f\x80{}[]",:0')
        elif how == 2:
            end = place + rng.randint(1, 16)
            data[place:end] = rng.randbytes(len(data[place:end]))
        else:
            source = rng.randrange(len(data))
            piece = data[source : source + rng.randint(1, 16)]
            data[place : place + len(piece)] = piece
    return bytes(data)


@pytest.mark.parametrize("seed", range(4))
def test_damaged_documents(tmp_path, seed):
    document_file, weights_file = write_model(tmp_path, SMALL)
    whole, rng = document_file.read_bytes(), random.Random(seed)
    for _ in range(50):
        document_file.write_bytes(damaged(whole, rng, 3))
        works_or_is_refused(document_file, weights_file)


@pytest.mark.parametrize("text", [np.array, list])
@pytest.mark.parametrize("seed", range(3))
def test_damaged_weights(tmp_path, seed, text):
    document_file, weights_file = write_model(tmp_path, SMALL)
    write_weights(weights_file, random_weights(SMALL), text=text)
    whole, rng = weights_file.read_bytes(), random.Random(seed)
    for _ in range(50):
        weights_file.write_bytes(damaged(whole, rng, 6))
        works_or_is_refused(document_file, weights_file)
