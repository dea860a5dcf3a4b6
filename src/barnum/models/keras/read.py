"""Models of Keras 2, read without Keras: a JSON architecture, and HDF5 with its weights.

Known are Sequential models that read a window of tokens and end in a softmax: an Embedding, layers of LSTM or
CuDNNLSTM (Bidirectional or not), Dense, Activation and Dropout. An option that is not known to leave the
function as it is, is refused rather than ignored.

An LSTM steps, with gates in the order i f c o and h = c = 0 at first:

    i, f, o = recurrent_activation(x W + h R + b)       each with its own columns of W, R and b
    c = f · c + i · activation(x W + h R + b)
    h = o · activation(c)

Keras 2's usual recurrent activation is hard_sigmoid, clip(0.2 x + 0.5, 0, 1). CuDNNLSTM is the same with
sigmoid and tanh, but keeps its weights as cuDNN wants them: W of a gate, of shape (D, U), holds the numbers
of its transposed (U, D) in that order, R of a gate is transposed, and two biases are added. Keras gives
weights in one layout to layers of the other, told by the size of the bias; so does this.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import nn

from barnum.errors import ModelError
from barnum.models.keras.architecture import (
    Activation,
    Bidirectional,
    CudnnLstm,
    Dense,
    DenseConfig,
    Dropout,
    Embedding,
    EmbeddingConfig,
    Input,
    Layer,
    Lstm,
    LstmConfig,
    is_keras,
    load_architecture,
)
from barnum.models.keras.network import Apply, Both, KerasNetwork, Look, Product, Steps, Way
from barnum.models.keras.weights import Part, WantedArray, load_weights
from barnum.texts import quoted

__all__ = ["KerasNetwork", "is_keras", "read_keras"]

F32 = NDArray[np.float32]
# numbers that one layer may keep of one window
_LARGEST_STATE = 1 << 20


@dataclass(frozen=True, slots=True)
class _Plan:
    parts: list[Part]
    sequence_len: int
    inputs: int
    classes: int


def read_keras(document_file: Path, weights_file: Path) -> KerasNetwork:
    """Read a model of Keras 2: what ``model.to_json`` gave, and what ``save_weights`` or ``save`` wrote.

    Raises:
        ModelError: a file is missing, broken or too large; the architecture has a layer or an option that
            is not known here or has absurd sizes; the weights are not those of the architecture, are not
            finite 32-bit numbers, or do not lie in the file itself as plain arrays.
    """
    plan = _plan(document_file, load_architecture(document_file))
    arrays = iter(load_weights(weights_file, [part for part in plan.parts if part.arrays]))
    modules = [part.build(next(arrays) if part.arrays else []) for part in plan.parts]
    return KerasNetwork(modules, plan.sequence_len, plan.inputs, plan.classes)


def _plan(file: Path, layers: list[Layer]) -> _Plan:
    """Sizes from the first layer to the last; nothing of these sizes is made yet."""
    said: list[int | None] = []
    if layers and isinstance(layers[0], Input):
        said.append(layers[0].config.batch_input_shape[1])
        layers = layers[1:]
    if not layers or not isinstance(layers[0], Embedding):
        raise ModelError(f"{file}: its first layer is no Embedding: only models that read tokens are known")
    first = layers[0].config
    length = _length(file, first, said)
    parts: list[Part] = []
    width, sequence, last = 0, True, ""
    for layer in layers:
        shown = quoted(layer.config.name)
        if isinstance(layer, Dropout):
            continue  # it is there for training alone
        if isinstance(layer, Input) or (isinstance(layer, Embedding) and parts):
            raise ModelError(f"{file}: layer {shown} stands behind the first, where it can read no tokens")
        last = "linear"
        if isinstance(layer, Embedding):
            part, width = _embedding(layer.config)
        elif isinstance(layer, Dense):
            part, width = _dense(layer.config, width)
            last = layer.config.activation or last
        elif isinstance(layer, Activation):
            last = layer.config.activation or last
            part = _activation(layer.config.name, last)
        else:
            if not sequence:
                raise ModelError(f"{file}: layer {shown} wants a sequence, the one before it gives none")
            part, width, sequence = _recurrent(layer, width)
        parts.append(part)
        if width * (length if sequence else 1) > _LARGEST_STATE:
            raise ModelError(f"{file}: layer {shown} gives too many numbers for one window")
    if sequence or last != "softmax":
        raise ModelError(f"{file}: does not end in one softmax for each window: no probabilities of tokens")
    return _Plan(parts, length, first.input_dim, width)


def _length(file: Path, first: EmbeddingConfig, said: list[int | None]) -> int:
    """The length of windows, which several layers and options may say."""
    if first.batch_input_shape:
        said.append(first.batch_input_shape[1])
    said.append(first.input_length[0] if isinstance(first.input_length, list) else first.input_length)
    lengths = {length for length in said if length is not None}
    if len(lengths) != 1:
        raise ModelError(f"{file}: gives {'more than one' if lengths else 'no'} length of its windows")
    return lengths.pop()


def _embedding(config: EmbeddingConfig) -> tuple[Part, int]:
    table = WantedArray("embeddings", ((config.input_dim, config.output_dim),))
    return Part(config.name, (table,), lambda found: Look(found[0])), config.output_dim


def _activation(name: str, function: str) -> Part:
    return Part(name, (), lambda _: Apply(function))


def _dense(config: DenseConfig, width: int) -> tuple[Part, int]:
    arrays = [WantedArray("kernel", ((width, config.units),))]
    if config.use_bias:
        arrays.append(WantedArray("bias", ((config.units,),)))

    def build(found: list[F32]) -> nn.Module:
        return Product(found[0], found[1] if config.use_bias else None, config.activation or "linear")

    return Part(config.name, tuple(arrays), build), config.units


def _recurrent(layer: Lstm | CudnnLstm | Bidirectional, width: int) -> tuple[Part, int, bool]:
    """The part, how many numbers it gives, and whether at each step."""
    inner = layer.config.layer if isinstance(layer, Bidirectional) else layer
    config = inner.config
    units, sequences = config.units, config.return_sequences
    function, recurrent, biased = "tanh", "sigmoid", True
    if isinstance(config, LstmConfig):
        function, recurrent = config.activation or "linear", config.recurrent_activation or "linear"
        biased = config.use_bias
    arrays = [
        WantedArray("kernel", ((width, 4 * units),)),
        WantedArray("recurrent_kernel", ((units, 4 * units),)),
    ]
    if biased:
        arrays.append(WantedArray("bias", ((4 * units,), (8 * units,))))

    def steps(found: list[F32], way: Way) -> Steps:
        return Steps(_gates(found), function, recurrent, way)

    if not isinstance(layer, Bidirectional):
        way = Way(config.go_backwards, sequences)
        return Part(config.name, tuple(arrays), lambda found: steps(found, way)), units, sequences
    merge = layer.config.merge_mode
    ahead = Way(config.go_backwards, sequences)
    back = Way(not config.go_backwards, sequences, turned=True)

    def both(found: list[F32]) -> nn.Module:
        half = len(arrays)
        return Both(steps(found[:half], ahead), steps(found[half:], back), merge)

    part = Part(layer.config.name, tuple(arrays) * 2, both)
    return part, units * 2 if merge == "concat" else units, sequences


def _gates(found: list[F32]) -> tuple[F32, F32, F32]:
    """f32[4U, D], f32[4U, U] and f32[4U, 1], of weights in either layout (see the module's text)."""
    kernel, recurrent = found[0], found[1]
    inputs, units = kernel.shape[0], recurrent.shape[0]
    bias = found[2] if len(found) == 3 else np.zeros(4 * units, np.float32)
    if len(bias) == 4 * units:
        return kernel.T, recurrent.T, bias[:, None]
    return (
        np.concatenate([gate.reshape(units, inputs) for gate in np.split(kernel, 4, axis=1)]),
        np.concatenate(np.split(recurrent, 4, axis=1)),
        (bias[: 4 * units] + bias[4 * units :])[:, None],
    )
