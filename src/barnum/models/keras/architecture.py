"""The architecture of a model of Keras 2, from its JSON. An option that is not known to leave the function as
it is, is refused rather than ignored."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from barnum.errors import ModelError
from barnum.files import read_bounded
from barnum.texts import quoted, reason, shortened

_LARGEST_DOCUMENT = 1 << 20
_MOST_LAYERS = 64
_LONGEST_REASON = 300
_LARGEST_SIZE = 1 << 16
# tokens pass through 32-bit floats in Keras, which hold no larger integers exactly
_MOST_TOKENS = 1 << 24

_Size = Annotated[int, msgspec.Meta(ge=1, le=_LARGEST_SIZE)]
# no tuple[_Size]: a garbage collection while msgspec 0.22 builds a decoder of bounded items can crash it
_InputShape = Annotated[list[_Size | None], msgspec.Meta(min_length=2, max_length=2)]
Pointwise = Literal[
    "linear", "relu", "tanh", "sigmoid", "hard_sigmoid", "elu", "selu", "softplus", "softsign"
]
Function = Pointwise | Literal["softmax"]


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


class EmbeddingConfig(_Config, kw_only=True):
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


class DenseConfig(_WeightsConfig, kw_only=True):
    activation: Function | None
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


class LstmConfig(_RecurrentConfig, kw_only=True):
    activation: Pointwise | None
    recurrent_activation: Pointwise | None
    use_bias: bool
    dropout: Any = None
    recurrent_dropout: Any = None
    implementation: Any = None
    unroll: Any = None


class _ActivationConfig(_Config, kw_only=True):
    activation: Function | None


class _DropoutConfig(_Config, kw_only=True):
    rate: Any = None
    noise_shape: Any = None
    seed: Any = None


class _Entry(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, tag_field="class_name"):
    """A layer in its list: ``class_name`` and ``config``; later versions of Keras 2 add to these."""

    module: Literal["keras.layers"] | None = None
    registered_name: None = None
    build_config: Any = None


class Input(_Entry, kw_only=True, tag="InputLayer"):
    """What says the shape of windows."""

    config: _InputConfig


class Embedding(_Entry, kw_only=True, tag="Embedding"):
    """A vector for each token."""

    config: EmbeddingConfig


class Lstm(_Entry, kw_only=True, tag="LSTM"):
    """An LSTM in Keras' own layout."""

    config: LstmConfig


class CudnnLstm(_Entry, kw_only=True, tag="CuDNNLSTM"):
    """An LSTM in cuDNN's layout."""

    config: _RecurrentConfig


class _BidirectionalConfig(_Config, kw_only=True):
    layer: Lstm | CudnnLstm
    merge_mode: Literal["concat", "sum", "mul", "ave"]


class Bidirectional(_Entry, kw_only=True, tag="Bidirectional"):
    """An LSTM in both directions."""

    config: _BidirectionalConfig


class Dense(_Entry, kw_only=True, tag="Dense"):
    """A product with a matrix."""

    config: DenseConfig


class Activation(_Entry, kw_only=True, tag="Activation"):
    """A function alone."""

    config: _ActivationConfig


class Dropout(_Entry, kw_only=True, tag="Dropout"):
    """Nothing, but in training."""

    config: _DropoutConfig


Layer = Input | Embedding | Lstm | CudnnLstm | Bidirectional | Dense | Activation | Dropout
_Layers = Annotated[list[Layer], msgspec.Meta(max_length=_MOST_LAYERS)]
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


def load_architecture(file: Path) -> list[Layer]:
    """The layers that ``model.to_json`` wrote, from the first to the last.

    Raises:
        ModelError: the file is missing, broken or too large, or has a layer or an option that is not known.
    """
    data = read_bounded(file, _LARGEST_DOCUMENT, ModelError)
    try:
        head = msgspec.json.decode(data, type=_Head)
        if head.class_name in ("Model", "Functional"):
            raise ModelError(
                f"{file}: describes a model spread over several GPUs, or one that is no chain of layers: "
                "use the file whose name ends in .single"
            )
        if head.class_name != "Sequential":
            raise ModelError(f"{file}: is a {quoted(head.class_name)}, only Sequential is known")
        if str(head.keras_version).split(".")[0] != "2":
            version = shortened(str(head.keras_version))
            raise ModelError(f"{file}: is of Keras {version}, only models of Keras 2 are known")
        model = msgspec.json.decode(data, type=_Sequential)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise ModelError(
            f"{file}: is no Keras model that can be used: {reason(error, _LONGEST_REASON)}; "
            f"known are Sequential models of {_KNOWN}"
        ) from None
    return model.config if isinstance(model.config, list) else model.config.layers
