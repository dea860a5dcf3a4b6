"""What a model of Keras 2 computes. Features come before windows, [L, D, N] and [D, N], so that the gates of
all windows lie side by side."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from barnum.errors import ModelError

F32 = NDArray[np.float32]


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


class Look(nn.Module):
    """Embedding: int64 [N, L] to f32 [L, D, N]."""

    table: Tensor

    def __init__(self, table: F32) -> None:
        super().__init__()
        self.register_buffer("table", torch.from_numpy(table))

    def forward(self, windows: Tensor) -> Tensor:
        looked: Tensor = F.embedding(windows.T, self.table)
        return looked.transpose(1, 2)


class Apply(nn.Module):
    """A function of each number, or softmax over features."""

    def __init__(self, function: str) -> None:
        super().__init__()
        self._function: _Do = _FUNCTIONS[function]

    def forward(self, x: Tensor) -> Tensor:
        return self._function(x)


class Product(nn.Module):
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
class Way:
    """How an LSTM goes through time."""

    backwards: bool
    sequences: bool
    turned: bool = False  # turn the sequence that comes out, too


class Steps(nn.Module):
    """LSTM: [L, D, N] to [L, U, N], or to [U, N] where only the last step is asked for."""

    kernel: Tensor  # [4U, D], gates i f o c: those of one activation side by side
    recurrent: Tensor  # [4U, U]
    bias: Tensor  # [4U, 1]

    def __init__(self, arrays: tuple[F32, F32, F32], function: str, recurrent: str, way: Way) -> None:
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


class Both(nn.Module):
    """Bidirectional: two LSTMs, and one of their outputs made of both."""

    def __init__(self, forward: Steps, backward: Steps, merge: str) -> None:
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


class KerasSizes(NamedTuple):
    """``sequence_len`` L is the length of a window, ``inputs`` the number of tokens in windows, ``classes`` C
    that of tokens that are told apart after them."""

    sequence_len: int
    inputs: int
    classes: int


class KerasNetwork(nn.Module):
    """A model that Keras trained: probabilities of the next token, given the last L. For inference alone."""

    def __init__(self, layers: list[nn.Module], sequence_len: int, inputs: int, classes: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)
        self.config = KerasSizes(sequence_len, inputs, classes)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All numbers by name."""
        return {name: tensor.cpu().numpy() for name, tensor in self.state_dict().items()}

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
        length = self.config.sequence_len
        if windows.dtype != torch.int64 or windows.dim() != 2 or windows.shape[1] != length:
            raise ValueError(f"windows are {windows.dtype} {tuple(windows.shape)}, not int64 (N, {length})")
        probabilities = cast(Tensor, self.layers(windows)).T.contiguous()  # [N, C]
        # a softmax over anything infinite or undefined is undefined everywhere
        if not bool(probabilities[:, 0].isfinite().all()):
            raise ModelError("the weights of the Keras model overflow 32-bit numbers: train it anew")
        return probabilities
