"""Reads a linear two-class SVC of scikit-learn that joblib saved, and nothing else.

Such a file is a pickle, which could run any program when it is loaded. Here it is not loaded: its opcodes are
walked, a handful of them is known, no object but plain values and arrays of numbers is made, and whatever a
linear SVC does not need is an error.
"""

from __future__ import annotations

import io
import math
import pickletools
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from barnum.errors import EvaluationError
from barnum.files import read_bounded

_LARGEST = 64 << 20
# state of an SVC, nested no deeper; numbers on the stack
_MOST_VALUES = 100_000
_WRAPPERS = (
    "sklearn.externals.joblib.numpy_pickle NumpyArrayWrapper",
    "joblib.numpy_pickle NumpyArrayWrapper",
)
_SVC = ("sklearn.svm.classes SVC", "sklearn.svm._classes SVC")
_ARRAY = "numpy ndarray"
_DTYPE = "numpy dtype"
_SCALAR = ("numpy.core.multiarray scalar", "numpy._core.multiarray scalar")
_GLOBALS = (*_WRAPPERS, *_SVC, _ARRAY, _DTYPE, *_SCALAR)
_NUMBERS = {"f8", "f4", "i4", "i8", "u4", "u8", "b1"}
_MARK = object()


class _Global:
    def __init__(self, name: str) -> None:
        self.name = name


class _Object:
    """An instance of one of _GLOBALS: how it was made, and its state."""

    def __init__(self, kind: str, arguments: tuple[Any, ...] = ()) -> None:
        self.kind = kind
        self.arguments = arguments
        self.state: Any = None
        self.array: np.ndarray[Any, Any] | None = None


class _Refusal(Exception):
    pass


def is_pickle(data: bytes) -> bool:
    """Whether data begins as a pickle does."""
    return data[:1] == b"\x80" and len(data) > 1 and 2 <= data[1] <= 5


def read_linear_svc(file: Path) -> tuple[tuple[float, float], float]:
    """Weights of the two features, and the bias: positive is class 1 (malicious).

    Raises:
        EvaluationError: the file cannot be read, or is anything but such a classifier.
    """
    data = read_bounded(file, _LARGEST, EvaluationError)
    try:
        # what would only be warned of is refused; numbers that overflow are looked at afterwards
        with warnings.catch_warnings(action="error"), np.errstate(all="ignore"):
            return _line(_walk(data))
    except _Refusal as refusal:
        raise EvaluationError(
            f"{file}: is no linear SVC of two features saved by joblib ({refusal}); nothing of it was run"
        ) from None
    except (
        ValueError,
        IndexError,
        TypeError,
        KeyError,
        AttributeError,
        OverflowError,
        RecursionError,
        Warning,
    ) as error:
        raise EvaluationError(f"{file}: is damaged ({type(error).__name__}); nothing of it was run") from None


def _walk(data: bytes) -> _Object:
    """The object that a pickle describes."""
    walk = _Walk(data)
    for count, (op, argument, _) in enumerate(pickletools.genops(walk.stream)):
        if count > _MOST_VALUES:
            raise _Refusal("it is too long")
        if op.name == "STOP":
            whole = walk.stack[-1]
            if not isinstance(whole, _Object):
                raise _Refusal("it holds no object")
            return whole
        walk.step(op.name, argument)
    raise _Refusal("it ends too early")


class _Walk:
    """The stack and the memo of a pickle, as its opcodes are walked."""

    def __init__(self, data: bytes) -> None:
        self.stream = io.BytesIO(data)
        self.stack: list[Any] = []
        self._memo: dict[int, Any] = {}
        self._size = len(data)

    def step(self, name: str, argument: Any) -> None:
        """What one opcode does."""
        if name in ("PROTO", "FRAME"):
            return
        if name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name])
        elif name in _VALUES:
            self.stack.append(argument)
        elif name == "MARK":
            self.stack.append(_MARK)
        elif name in ("GLOBAL", "STACK_GLOBAL"):
            self._name(name, argument)
        elif name in ("BINPUT", "LONG_BINPUT"):
            self._memo[argument] = self.stack[-1]
        elif name == "MEMOIZE":
            self._memo[len(self._memo)] = self.stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            self.stack.append(self._memo[argument])
        elif name in _EMPTY:
            self.stack.append(_EMPTY[name]())
        elif name in ("TUPLE1", "TUPLE2", "TUPLE3", "TUPLE"):
            self._tuple(name)
        elif name in ("SETITEMS", "SETITEM", "APPENDS", "APPEND"):
            self._fill(name)
        elif name in ("NEWOBJ", "REDUCE"):
            self._make()
        elif name == "BUILD":
            self._build()
        else:
            raise _Refusal(f"it uses {name}")

    def _name(self, name: str, argument: Any) -> None:
        if name == "STACK_GLOBAL":
            attribute, module = self.stack.pop(), self.stack.pop()
            if not isinstance(module, str) or not isinstance(attribute, str):
                raise _Refusal("it asks for something without a name")
            argument = f"{module} {attribute}"
        if argument not in _GLOBALS:
            raise _Refusal(f"it asks for {str(argument)[:60]!r}")
        self.stack.append(_Global(argument))

    def _tuple(self, name: str) -> None:
        if name == "TUPLE":
            self.stack.append(tuple(self._to_mark()))
            return
        size = int(name[-1])
        members = tuple(self.stack[-size:])
        del self.stack[-size:]
        self.stack.append(members)

    def _fill(self, name: str) -> None:
        """Put values into the dictionary or list below them."""
        if name.endswith("S"):
            values = self._to_mark()
        else:
            values = [self.stack.pop() for _ in range(2 if name == "SETITEM" else 1)][::-1]
        target = self.stack[-1]
        if name in ("APPENDS", "APPEND"):
            if not isinstance(target, list):
                raise _Refusal("it fills something that is no list")
            target.extend(values)
            return
        if not isinstance(target, dict):
            raise _Refusal("it fills something that is no dictionary")
        # hashes of nested tuples could take for ever
        if not all(isinstance(key, str) for key in values[::2]):
            raise _Refusal("it has a key that is no text")
        target.update(zip(values[::2], values[1::2], strict=True))

    def _make(self) -> None:
        arguments, kind = self.stack.pop(), self.stack.pop()
        if not isinstance(kind, _Global) or not isinstance(arguments, tuple):
            raise _Refusal("it calls something")
        self.stack.append(_Object(kind.name, arguments))

    def _build(self) -> None:
        """Give an object its state; the numbers of an array follow in the stream."""
        state, target = self.stack.pop(), self.stack[-1]
        if not isinstance(target, _Object):
            raise _Refusal("it changes something that is no object")
        target.state = state
        if target.kind in _WRAPPERS:
            target.array = _array(self.stream, self._size, state)

    def _to_mark(self) -> list[Any]:
        """Take the values above the last mark off the stack, and the mark."""
        for at in range(len(self.stack) - 1, -1, -1):
            if self.stack[at] is _MARK:
                values = self.stack[at + 1 :]
                del self.stack[at:]
                return values
        raise _Refusal("a mark is missing")


_CONSTANTS: dict[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY: dict[str, type[Any]] = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple}
_VALUES = {
    *("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"),
    *("BINUNICODE", "SHORT_BINUNICODE", "SHORT_BINBYTES", "BINBYTES"),
}


def _array(stream: io.BytesIO, size: int, state: dict[str, Any]) -> np.ndarray[Any, Any]:
    """The numbers of an array, which follow the description of it."""
    dtype, shape = state["dtype"], state["shape"]
    name = dtype.arguments[0] if isinstance(dtype, _Object) and dtype.kind == _DTYPE else None
    if (
        not isinstance(name, str)
        or name not in _NUMBERS
        or (dtype.state is not None and dtype.state[1] not in ("<", "|"))
    ):
        raise _Refusal("it holds an array of something else than numbers")
    if state.get("order") not in ("C", "F") or len(shape) > 2:
        raise _Refusal("it holds an array of an unknown layout")
    if not all(isinstance(length, int) and 0 <= length <= _LARGEST for length in shape):
        raise _Refusal("it holds an array of an impossible shape")
    if state.get("numpy_array_alignment_bytes") is not None:
        stream.read(stream.read(1)[0])
    count = math.prod(shape) * np.dtype(name).itemsize
    if count > size - stream.tell():
        raise _Refusal("an array is cut off")
    flat: np.ndarray[Any, Any] = np.frombuffer(stream.read(count), np.dtype(name).newbyteorder("<"))
    return flat.reshape(shape, order=state["order"])


def _line(svc: _Object) -> tuple[tuple[float, float], float]:
    """Weights and bias of the line that an SVC draws."""
    state = svc.state
    if svc.kind not in _SVC or not isinstance(state, dict):
        raise _Refusal("it is another object")
    if state.get("kernel") != "linear":
        raise _Refusal("its kernel is not linear")
    duals, vectors, intercept = (
        _numbers(state, name) for name in ("dual_coef_", "support_vectors_", "intercept_")
    )
    classes = _numbers(state, "classes_")
    if duals.shape != (1, len(vectors)) or vectors.shape[1:] != (2,) or intercept.shape != (1,):
        raise _Refusal("it has other features or classes")
    if classes.tolist() != [0, 1]:
        raise _Refusal("its classes are not 0 and 1")
    weights = (duals @ vectors)[0]
    bias = float(intercept[0])
    if not np.isfinite([*weights, bias]).all():
        raise _Refusal("it holds numbers that are not finite")
    return (float(weights[0]), float(weights[1])), bias


def _numbers(state: dict[str, Any], name: str) -> np.ndarray[Any, Any]:
    value = state.get(name)
    if not isinstance(value, _Object) or value.array is None:
        raise _Refusal(f"{name} is missing")
    return value.array.astype(np.float64)
