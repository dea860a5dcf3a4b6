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

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import h5py
import msgspec
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from barnum.errors import ModelError
from barnum.files import open_regular, read_bounded

F32 = NDArray[np.float32]
_Shape = tuple[int, ...]

_LARGEST_DOCUMENT = 1 << 20
_LARGEST_WEIGHTS = 1 << 31
_MOST_LAYERS = 64
_LARGEST_SIZE = 1 << 16
# tokens pass through 32-bit floats in Keras, which hold no larger integers exactly
_MOST_TOKENS = 1 << 24
# numbers that one layer may keep of one window
_LARGEST_STATE = 1 << 20
# bounds of the names in a file of weights
_MOST_NAMES = 64
_LONGEST_NAMES = 1 << 20
_DEEPEST_NAME = 16
_HDF5 = b"\x89HDF\r\n\x1a\n"

_Size = Annotated[int, msgspec.Meta(ge=1, le=_LARGEST_SIZE)]
# no tuple[_Size]: a garbage collection while msgspec 0.22 builds a decoder of bounded items can crash it
_InputShape = Annotated[list[_Size | None], msgspec.Meta(min_length=2, max_length=2)]
_Pointwise = Literal[
    "linear", "relu", "tanh", "sigmoid", "hard_sigmoid", "elu", "selu", "softplus", "softsign"
]
_Function = _Pointwise | Literal["softmax"]


# the architecture ---------------------------------------------------------------------------------------


class _Named(msgspec.Struct):
    name: Literal["float32"]


class _Policy(msgspec.Struct, tag_field="class_name", tag="Policy"):
    config: _Named


class _Config(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What every layer may have. Fields of type Any matter to training alone."""

    name: str
    dtype: Literal["float32"] | _Policy | None = None
    trainable: Any = None
    batch_input_shape: Any = None

    def _must_be_off(self, *options: str) -> None:
        for option in options:
            if getattr(self, option):
                raise ValueError(f"{option} is not supported")


class _InputConfig(_Config, kw_only=True):
    dtype: Literal["int32", "int64", "float32", "float64"] | None = None  # type: ignore[assignment]
    batch_input_shape: _InputShape
    sparse: bool = False
    ragged: bool = False

    def __post_init__(self) -> None:
        self._must_be_off("sparse", "ragged")


class _EmbeddingConfig(_Config, kw_only=True):
    batch_input_shape: _InputShape | None = None
    input_dim: Annotated[int, msgspec.Meta(ge=1, le=_MOST_TOKENS)]
    output_dim: _Size
    input_length: _Size | Annotated[list[_Size], msgspec.Meta(min_length=1, max_length=1)] | None = None
    mask_zero: bool = False
    embeddings_initializer: Any = None
    embeddings_regularizer: Any = None
    embeddings_constraint: Any = None
    activity_regularizer: Any = None

    def __post_init__(self) -> None:
        self._must_be_off("mask_zero")


class _WeightsConfig(_Config, kw_only=True):
    """What Dense and LSTM layers share."""

    units: _Size
    kernel_initializer: Any = None
    kernel_regularizer: Any = None
    kernel_constraint: Any = None
    bias_initializer: Any = None
    bias_regularizer: Any = None
    bias_constraint: Any = None
    activity_regularizer: Any = None


class _DenseConfig(_WeightsConfig, kw_only=True):
    activation: _Function | None
    use_bias: bool


class _RecurrentConfig(_WeightsConfig, kw_only=True):
    return_sequences: bool
    go_backwards: bool
    stateful: bool
    return_state: bool = False
    time_major: bool = False
    recurrent_initializer: Any = None
    recurrent_regularizer: Any = None
    recurrent_constraint: Any = None
    unit_forget_bias: Any = None
    zero_output_for_mask: Any = None  # nothing is masked

    def __post_init__(self) -> None:
        self._must_be_off("stateful", "return_state", "time_major")


class _LstmConfig(_RecurrentConfig, kw_only=True):
    activation: _Pointwise | None
    recurrent_activation: _Pointwise | None
    use_bias: bool
    dropout: Any = None
    recurrent_dropout: Any = None
    implementation: Any = None
    unroll: Any = None


class _ActivationConfig(_Config, kw_only=True):
    activation: _Function | None


class _DropoutConfig(_Config, kw_only=True):
    rate: Any = None
    noise_shape: Any = None
    seed: Any = None


class _Entry(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, tag_field="class_name"):
    """A layer in its list: ``class_name`` and ``config``; later versions of Keras 2 add to these."""

    module: Literal["keras.layers"] | None = None
    registered_name: None = None
    build_config: Any = None


class _Input(_Entry, kw_only=True, tag="InputLayer"):
    config: _InputConfig


class _Embedding(_Entry, kw_only=True, tag="Embedding"):
    config: _EmbeddingConfig


class _Lstm(_Entry, kw_only=True, tag="LSTM"):
    config: _LstmConfig


class _CudnnLstm(_Entry, kw_only=True, tag="CuDNNLSTM"):
    config: _RecurrentConfig


class _BidirectionalConfig(_Config, kw_only=True):
    layer: _Lstm | _CudnnLstm
    merge_mode: Literal["concat", "sum", "mul", "ave"]


class _Bidirectional(_Entry, kw_only=True, tag="Bidirectional"):
    config: _BidirectionalConfig


class _Dense(_Entry, kw_only=True, tag="Dense"):
    config: _DenseConfig


class _Activation(_Entry, kw_only=True, tag="Activation"):
    config: _ActivationConfig


class _Dropout(_Entry, kw_only=True, tag="Dropout"):
    config: _DropoutConfig


_Layer = _Input | _Embedding | _Lstm | _CudnnLstm | _Bidirectional | _Dense | _Activation | _Dropout
_Layers = Annotated[list[_Layer], msgspec.Meta(max_length=_MOST_LAYERS)]
_KNOWN = "Embedding, LSTM, CuDNNLSTM, Bidirectional, Dense, Activation, Dropout"


class _SequentialConfig(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    layers: _Layers
    name: Any = None
    trainable: Any = None
    dtype: Literal["float32"] | _Policy | None = None
    build_input_shape: Any = None


class _Head(msgspec.Struct):
    """What tells one JSON document from another."""

    class_name: str
    keras_version: Any = "2"


class _Sequential(msgspec.Struct, forbid_unknown_fields=True):
    class_name: str
    config: _SequentialConfig | _Layers  # the bare list until 2.2.2
    keras_version: Any = "2"
    backend: Any = None


def is_keras(document: bytes) -> bool:
    """Whether a JSON document looks like an architecture that Keras wrote."""
    try:
        msgspec.json.decode(document, type=_Head)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return False
    return True


def _load_architecture(file: Path) -> list[_Layer]:
    data = read_bounded(file, _LARGEST_DOCUMENT, ModelError)
    try:
        head = msgspec.json.decode(data, type=_Head)
        if head.class_name in ("Model", "Functional"):
            raise ModelError(
                f"{file}: describes a model spread over several GPUs, or one that is no chain of layers: "
                "use the file whose name ends in .single"
            )
        if head.class_name != "Sequential":
            raise ModelError(f"{file}: is a {_quoted(head.class_name)}, only Sequential is known")
        if str(head.keras_version).split(".")[0] != "2":
            version = _printable(str(head.keras_version))
            raise ModelError(f"{file}: is of Keras {version}, only models of Keras 2 are known")
        model = msgspec.json.decode(data, type=_Sequential)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise ModelError(
            f"{file}: is no Keras model that can be used: {_printable(str(error))}; "
            f"known are Sequential models of {_KNOWN}"
        ) from None
    return model.config if isinstance(model.config, list) else model.config.layers


def _printable(text: str) -> str:
    """A text of somebody else's, fit for one line."""
    return "".join(c if c.isprintable() else "?" for c in text[:300])


def _quoted(name: str) -> str:
    """A name of somebody else's, fit for a part of a line."""
    return repr(_printable(name[:80]))


# what the network computes ------------------------------------------------------------------------------
# Features come before windows, [L, D, N] and [D, N], so that the gates of all windows lie side by side.


def _hard_sigmoid(x: Tensor) -> Tensor:
    return x.mul_(0.2).add_(0.5).clamp_(0.0, 1.0)


def _tanh(x: Tensor) -> Tensor:
    """2 sigmoid(2x) - 1: within 2e-7 of tanh, in a quarter of its time."""
    return x.mul_(2.0).sigmoid_().mul_(2.0).sub_(1.0)


# each may overwrite what it is given
_Do = Callable[[Tensor], Tensor]
_POINTWISE: dict[str, _Do] = {
    "linear": lambda x: x,
    "relu": Tensor.relu_,
    "tanh": _tanh,
    "sigmoid": Tensor.sigmoid_,
    "hard_sigmoid": _hard_sigmoid,
    "elu": F.elu_,
    "selu": F.selu_,
    "softplus": F.softplus,
    "softsign": F.softsign,
}
_FUNCTIONS = _POINTWISE | {"softmax": lambda x: torch.softmax(x, dim=-2)}


class _Look(nn.Module):
    """Embedding: int64 [N, L] to f32 [L, D, N]."""

    table: Tensor

    def __init__(self, table: F32) -> None:
        super().__init__()
        self.register_buffer("table", torch.from_numpy(table))

    def forward(self, windows: Tensor) -> Tensor:
        looked: Tensor = F.embedding(windows.T, self.table)
        return looked.transpose(1, 2)


class _Apply(nn.Module):
    """A function of each number, or softmax over features."""

    def __init__(self, function: str) -> None:
        super().__init__()
        self._function: _Do = _FUNCTIONS[function]

    def forward(self, x: Tensor) -> Tensor:
        return self._function(x)


class _Product(nn.Module):
    """Dense: [..., D, N] to [..., U, N]."""

    kernel: Tensor  # [U, D]
    bias: Tensor  # [U, 1]

    def __init__(self, kernel: F32, bias: F32 | None, function: str) -> None:
        super().__init__()
        self.register_buffer("kernel", torch.from_numpy(np.ascontiguousarray(kernel.T)))
        bias = np.zeros(kernel.shape[1], np.float32) if bias is None else bias
        self.register_buffer("bias", torch.from_numpy(bias).unsqueeze(1))
        self._function: _Do = _FUNCTIONS[function]

    def forward(self, x: Tensor) -> Tensor:
        return self._function(torch.matmul(self.kernel, x) + self.bias)


@dataclass(frozen=True, slots=True)
class _Way:
    """How an LSTM goes through time."""

    backwards: bool
    sequences: bool
    turned: bool = False  # turn the sequence that comes out, too


class _Steps(nn.Module):
    """LSTM: [L, D, N] to [L, U, N], or to [U, N] where only the last step is asked for."""

    kernel: Tensor  # [4U, D], gates i f o c: those of one activation side by side
    recurrent: Tensor  # [4U, U]
    bias: Tensor  # [4U, 1]

    def __init__(self, arrays: tuple[F32, F32, F32], function: str, recurrent: str, way: _Way) -> None:
        super().__init__()
        for name, array in zip(("kernel", "recurrent", "bias"), arrays, strict=True):
            i, f, c, o = np.split(array, 4)
            self.register_buffer(name, torch.from_numpy(np.concatenate([i, f, o, c])))
        self._function = _POINTWISE[function]
        self._recurrent_function = _POINTWISE[recurrent]
        self._way = way

    def forward(self, x: Tensor) -> Tensor:
        length, _, windows = x.shape
        units = self.recurrent.shape[1]
        h, c, bent = (x.new_zeros(units, windows) for _ in range(3))
        gates = x.new_empty(4 * units, windows)
        kept = x.new_empty(length if self._way.sequences else 0, units, windows)
        steps = range(length)
        reading = reversed(steps) if self._way.backwards else steps
        writing = reversed(steps) if self._way.turned else steps
        for read, write in zip(reading, writing, strict=True):
            # a step at a time: gates of all steps would fall out of the cache
            torch.addmm(self.bias, self.kernel, x[read], out=gates)
            gates.addmm_(self.recurrent, h)
            i, f, o = self._recurrent_function(gates[: 3 * units]).view(3, units, windows)
            new = self._function(gates[3 * units :])
            c.mul_(f).addcmul_(i, new)
            if self._way.sequences:
                h = kept[write]
            torch.mul(self._function(bent.copy_(c)), o, out=h)
        return kept if self._way.sequences else h


class _Both(nn.Module):
    """Bidirectional: two LSTMs, and one of their outputs made of both."""

    def __init__(self, forward: _Steps, backward: _Steps, merge: str) -> None:
        super().__init__()
        self.ahead = forward
        self.back = backward
        self._merge = merge

    def forward(self, x: Tensor) -> Tensor:
        a: Tensor = self.ahead(x)
        b: Tensor = self.back(x)
        if self._merge == "concat":
            return torch.cat([a, b], dim=-2)
        if self._merge == "mul":
            return a * b
        return (a + b) / 2 if self._merge == "ave" else a + b


class KerasNetwork(nn.Module):
    """A model that Keras trained: probabilities of the next token, given the last L. For inference alone.

    ``sequence_len`` L is the length of a window, ``inputs`` the number of tokens in windows, ``classes`` C
    that of tokens that are told apart after them.
    """

    def __init__(self, layers: list[nn.Module], sequence_len: int, inputs: int, classes: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)
        self.sequence_len = sequence_len
        self.inputs = inputs
        self.classes = classes

    @torch.inference_mode()
    def forward(self, windows: Tensor) -> Tensor:
        """f32[N, C], each row a distribution, of int64[N, L] with values in [0, inputs).

        Some hundred windows at a time are fastest, in threads that compute alone (models/threads.py). Memory
        grows with N · L times the widest layer.

        Raises:
            ValueError: windows of another shape or dtype.
            IndexError: a token outside [0, inputs).
            ModelError: the weights are so large that 32-bit numbers overflow.
        """
        if windows.dtype != torch.int64 or windows.dim() != 2 or windows.shape[1] != self.sequence_len:
            raise ValueError(
                f"windows are {windows.dtype} {tuple(windows.shape)}, not int64 (N, {self.sequence_len})"
            )
        probabilities = cast(Tensor, self.layers(windows)).T.contiguous()  # [N, C]
        # a softmax over anything infinite or undefined is undefined everywhere
        if not bool(probabilities[:, 0].isfinite().all()):
            raise ModelError("the weights of the Keras model overflow 32-bit numbers: train it anew")
        return probabilities


# from one to the other ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Array:
    """An array that a layer wants: its name in Keras, and its shape, or either of two."""

    name: str
    shapes: tuple[_Shape, ...]


@dataclass(frozen=True, slots=True)
class _Part:
    """A layer whose sizes are known: arrays it wants, in Keras' order, and what makes a module of them."""

    name: str
    arrays: tuple[_Array, ...]
    build: Callable[[list[F32]], nn.Module]


@dataclass(frozen=True, slots=True)
class _Plan:
    parts: list[_Part]
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
    plan = _plan(document_file, _load_architecture(document_file))
    arrays = iter(_load_weights(weights_file, [part for part in plan.parts if part.arrays]))
    modules = [part.build(next(arrays) if part.arrays else []) for part in plan.parts]
    return KerasNetwork(modules, plan.sequence_len, plan.inputs, plan.classes)


def _plan(file: Path, layers: list[_Layer]) -> _Plan:
    """Sizes from the first layer to the last; nothing of these sizes is made yet."""
    said: list[int | None] = []
    if layers and isinstance(layers[0], _Input):
        said.append(layers[0].config.batch_input_shape[1])
        layers = layers[1:]
    if not layers or not isinstance(layers[0], _Embedding):
        raise ModelError(f"{file}: its first layer is no Embedding: only models that read tokens are known")
    first = layers[0].config
    length = _length(file, first, said)
    parts: list[_Part] = []
    width, sequence, last = 0, True, ""
    for layer in layers:
        shown = _quoted(layer.config.name)
        if isinstance(layer, _Dropout):
            continue  # it is there for training alone
        if isinstance(layer, _Input) or (isinstance(layer, _Embedding) and parts):
            raise ModelError(f"{file}: layer {shown} stands behind the first, where it can read no tokens")
        last = "linear"
        if isinstance(layer, _Embedding):
            part, width = _embedding(layer.config)
        elif isinstance(layer, _Dense):
            part, width = _dense(layer.config, width)
            last = layer.config.activation or last
        elif isinstance(layer, _Activation):
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


def _length(file: Path, first: _EmbeddingConfig, said: list[int | None]) -> int:
    """The length of windows, which several layers and options may say."""
    if first.batch_input_shape:
        said.append(first.batch_input_shape[1])
    said.append(first.input_length[0] if isinstance(first.input_length, list) else first.input_length)
    lengths = {length for length in said if length is not None}
    if len(lengths) != 1:
        raise ModelError(f"{file}: gives {'more than one' if lengths else 'no'} length of its windows")
    return lengths.pop()


def _embedding(config: _EmbeddingConfig) -> tuple[_Part, int]:
    table = _Array("embeddings", ((config.input_dim, config.output_dim),))
    return _Part(config.name, (table,), lambda found: _Look(found[0])), config.output_dim


def _activation(name: str, function: str) -> _Part:
    return _Part(name, (), lambda _: _Apply(function))


def _dense(config: _DenseConfig, width: int) -> tuple[_Part, int]:
    arrays = [_Array("kernel", ((width, config.units),))]
    if config.use_bias:
        arrays.append(_Array("bias", ((config.units,),)))

    def build(found: list[F32]) -> nn.Module:
        return _Product(found[0], found[1] if config.use_bias else None, config.activation or "linear")

    return _Part(config.name, tuple(arrays), build), config.units


def _recurrent(layer: _Lstm | _CudnnLstm | _Bidirectional, width: int) -> tuple[_Part, int, bool]:
    """The part, how many numbers it gives, and whether at each step."""
    inner = layer.config.layer if isinstance(layer, _Bidirectional) else layer
    config = inner.config
    units, sequences = config.units, config.return_sequences
    function, recurrent, biased = "tanh", "sigmoid", True
    if isinstance(config, _LstmConfig):
        function, recurrent = config.activation or "linear", config.recurrent_activation or "linear"
        biased = config.use_bias
    arrays = [_Array("kernel", ((width, 4 * units),)), _Array("recurrent_kernel", ((units, 4 * units),))]
    if biased:
        arrays.append(_Array("bias", ((4 * units,), (8 * units,))))

    def steps(found: list[F32], way: _Way) -> _Steps:
        return _Steps(_gates(found), function, recurrent, way)

    if not isinstance(layer, _Bidirectional):
        way = _Way(config.go_backwards, sequences)
        return _Part(config.name, tuple(arrays), lambda found: steps(found, way)), units, sequences
    merge = layer.config.merge_mode
    ahead = _Way(config.go_backwards, sequences)
    back = _Way(not config.go_backwards, sequences, turned=True)

    def both(found: list[F32]) -> nn.Module:
        half = len(arrays)
        return _Both(steps(found[:half], ahead), steps(found[half:], back), merge)

    part = _Part(layer.config.name, tuple(arrays) * 2, both)
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


# the file of weights ------------------------------------------------------------------------------------


def _load_weights(file: Path, parts: list[_Part]) -> list[list[F32]]:
    """Arrays of each part, in order."""
    _check_file(file, parts)
    try:
        with h5py.File(file, "r", locking=False) as opened:
            saved_whole = "layer_names" not in opened.attrs and opened.id.links.exists(b"model_weights")
            root = _descend(opened, "model_weights") if saved_whole else opened
            return [_layer_arrays(group, names, part) for group, names, part in _matched(root, parts)]
    except _Refused as refused:
        raise ModelError(f"{file}: {_printable(str(refused))}") from None
    except Exception as error:
        # h5py gives what is broken in a file nearly any class of exception
        raise ModelError(
            f"{file}: cannot be read as HDF5 ({_printable(str(error))}): save the weights anew"
        ) from None


# what arrays are called, in Keras' order
_ARRAYS = ("embeddings", "kernel", "recurrent_kernel", "bias")


class _Refused(Exception):
    """Why a file of weights is not used."""


def _check_file(file: Path, parts: list[_Part]) -> None:
    """That it can be HDF5 with as many numbers as are wanted, before any library looks into it."""
    try:
        with open_regular(file, follow=True) as descriptor, open(descriptor, "rb", closefd=False) as raw:
            magic = raw.read(len(_HDF5))
            size = raw.seek(0, 2)
    except FileNotFoundError:
        raise ModelError(f"{file}: no such file") from None
    except OSError as error:
        raise ModelError(f"{file}: cannot be read ({error.strerror or error})") from None
    if magic != _HDF5:
        raise ModelError(f"{file}: is no HDF5: give the file that save_weights wrote")
    if size > _LARGEST_WEIGHTS:
        raise ModelError(f"{file}: larger than {_LARGEST_WEIGHTS >> 30} GiB, which no such model needs")
    wanted = 4 * sum(min(map(_count, array.shapes)) for part in parts for array in part.arrays)
    if wanted > size:
        raise ModelError(f"{file}: holds {size:,} bytes, the weights of the model alone are {wanted:,}")


def _count(shape: _Shape) -> int:
    count = 1
    for size in shape:
        count *= size
    return count


def _matched(root: h5py.Group, parts: list[_Part]) -> Iterator[tuple[h5py.Group, list[str], _Part]]:
    """Groups of layers with weights, names of their arrays, and the parts they are for.

    They are matched by order, as in Keras: names differ between the models that one architecture gave.
    """
    names = _names(root, "layer_names")
    if names is None:
        # no order is known, so names must do
        groups = [_descend(root, part.name) for part in parts]
        yield from ((group, _names_by_place(group), part) for group, part in zip(groups, parts, strict=True))
        return
    layers = []
    for name in names:
        group = _descend(root, name)
        arrays = _names(group, "weight_names")
        arrays = _names_by_place(group) if arrays is None else arrays
        if arrays:
            layers.append((name, group, arrays))
    if len(layers) != len(parts):
        raise _Refused(
            f"holds the weights of {len(layers)} layers, the model has {len(parts)} with weights: "
            "it belongs to another"
        )
    found, wanted = [name for name, _, _ in layers], [part.name for part in parts]
    if found != wanted and sorted(found) == sorted(wanted):
        raise _Refused("holds the layers of the model in another order: it belongs to another")
    for (_, group, arrays), part in zip(layers, parts, strict=True):
        yield group, arrays, part


def _names(group: h5py.Group, attribute: str) -> list[str] | None:
    """A list of names that an attribute holds; None where it is not stored as text of one length.

    Text of any length, which h5py 3 makes of a list, lies in heaps of the file that HDF5 2.0 may read for
    ever when they are broken.
    """
    if attribute not in group.attrs:
        raise _Refused(f"{group.name} has no {attribute}: give the file that save_weights wrote")
    opened = group.attrs.get_id(attribute)
    shape, text = opened.shape, h5py.check_string_dtype(opened.dtype)
    if shape == (0,):
        return []
    if text is None or shape is None or len(shape) != 1:
        raise _Refused(f"{attribute} of {group.name} is no list of names")
    if text.length is None:
        return None
    if shape[0] > _MOST_NAMES or shape[0] * text.length > _LONGEST_NAMES:
        raise _Refused(f"{attribute} of {group.name} holds more than the names of a model")
    return [name.decode() for name in group.attrs[attribute]]


def _names_by_place(group: h5py.Group) -> list[str]:
    """Names of a layer's arrays in Keras' order, told by the arrays themselves."""
    places = {}
    met, left = 0, [("", group)]
    while left:
        prefix, inner = left.pop()
        if isinstance(inner, h5py.Group):
            for name in inner:
                met += 1
                if met > _MOST_NAMES:
                    raise _Refused(f"{group.name} holds more than the arrays of a layer")
                left.append((f"{prefix}/{name}".lstrip("/"), _descend(inner, name)))
            continue
        place = any(piece.startswith("backward_") for piece in prefix.split("/")), _called(prefix)
        if place[1] not in _ARRAYS or place in places:
            raise _Refused(f"{group.name} holds {_quoted(prefix)}, which is not expected there")
        places[place] = prefix
    return [places[place] for place in sorted(places, key=lambda place: (place[0], _ARRAYS.index(place[1])))]


def _called(name: str) -> str:
    """The part of an array's name that says what it is."""
    return name.rpartition("/")[2].partition(":")[0]


def _descend(group: Any, path: str) -> Any:
    """What a path leads to, inside the file and inside its group."""
    parts = path.split("/")
    if len(parts) > _DEEPEST_NAME or not all(parts):
        raise _Refused(f"{_quoted(path)} is no name of an array or a layer")
    for part in parts:
        # asked of h5py's lower layer: the upper one would follow a link to see whether it leads anywhere
        if not isinstance(group, h5py.Group) or not group.id.links.exists(part.encode()):
            raise _Refused(f"{_quoted(path)} is missing")
        if group.id.links.get_info(part.encode()).type != h5py.h5l.TYPE_HARD:
            raise _Refused(
                f"{_quoted(path)} is a link, which may lead out of the file: copy what it leads to"
            )
        group = group[part]
    return group


def _layer_arrays(group: h5py.Group, names: list[str], part: _Part) -> list[F32]:
    if len(names) != len(part.arrays):
        raise _Refused(
            f"{group.name} has {len(names)} arrays, layer {_quoted(part.name)} wants {len(part.arrays)}: "
            + ", ".join(array.name for array in part.arrays)
        )
    return [_array(group, name, wanted) for name, wanted in zip(names, part.arrays, strict=True)]


def _array(group: h5py.Group, name: str, wanted: _Array) -> F32:
    """Read an array, once it is known to be the one that is wanted."""
    dataset = _descend(group, name)
    if not isinstance(dataset, h5py.Dataset):
        raise _Refused(f"{_quoted(name)} is no array")
    if _called(name) != wanted.name and _called(name) in _ARRAYS:
        raise _Refused(f"{_quoted(name)} stands where {wanted.name} should")
    # virtual arrays and external storage read other files, filters and chunks can unpack to any size
    stored = dataset.id.get_create_plist()
    plain = stored.get_layout() in (h5py.h5d.CONTIGUOUS, h5py.h5d.COMPACT) and not stored.get_nfilters()
    if not plain or stored.get_external_count():
        raise _Refused(f"{_quoted(name)} is not stored as a plain array in the file: save the weights anew")
    if dataset.shape not in wanted.shapes:
        raise _Refused(f"{_quoted(name)} is {dataset.shape}, the model wants {wanted.shapes[0]}")
    if not dataset.id.get_type().equal(h5py.h5t.IEEE_F32LE):
        raise _Refused(f"{_quoted(name)} is {dataset.dtype}, only 32-bit numbers (float32) are known")
    if dataset.id.get_storage_size() != 4 * _count(dataset.shape):
        raise _Refused(f"{_quoted(name)} was never written: save the weights anew")
    array: F32 = np.empty(dataset.shape, np.float32)
    dataset.read_direct(array)
    if not bool(np.isfinite(array).all()):
        raise _Refused(f"{_quoted(name)} holds values that are no finite numbers: train the model anew")
    return array
