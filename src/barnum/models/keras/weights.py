"""Weights of a model of Keras 2, from HDF5: nothing is read that leads out of the file, or is not as large as
the architecture says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray
from torch import nn

from barnum.errors import ModelError
from barnum.files import open_regular
from barnum.texts import quoted, reason

F32 = NDArray[np.float32]
_Shape = tuple[int, ...]

_LARGEST_WEIGHTS = 1 << 31
_LONGEST_REASON = 300
# bounds of the names in a file of weights
_MOST_NAMES = 64
_LONGEST_NAMES = 1 << 20
_DEEPEST_NAME = 16
_HDF5 = b"\x89HDF\r\n\x1a\n"


@dataclass(frozen=True, slots=True)
class WantedArray:
    """An array that a layer wants: its name in Keras, and its shape, or either of two."""

    name: str
    shapes: tuple[_Shape, ...]


@dataclass(frozen=True, slots=True)
class Part:
    """A layer whose sizes are known: arrays it wants, in Keras' order, and what makes a module of them."""

    name: str
    arrays: tuple[WantedArray, ...]
    build: Callable[[list[F32]], nn.Module]


def load_weights(file: Path, parts: list[Part]) -> list[list[F32]]:
    """Arrays of each part, in order; all parts want some.

    Raises:
        ModelError: the file is missing, broken, too large or of another model, leads to other files, or holds
            numbers that are not finite or not of 32 bits.
    """
    _check_file(file, parts)
    try:
        with h5py.File(file, "r", locking=False) as opened:
            saved_whole = "layer_names" not in opened.attrs and opened.id.links.exists(b"model_weights")
            root = _descend(opened, "model_weights") if saved_whole else opened
            return [_layer_arrays(group, names, part) for group, names, part in _matched(root, parts)]
    except _Refused as refused:
        raise ModelError(f"{file}: {reason(refused, _LONGEST_REASON)}") from None
    except Exception as error:
        # h5py gives what is broken in a file nearly any class of exception
        raise ModelError(f"{file}: cannot be read as HDF5 ({reason(error)}): save the weights anew") from None


# what arrays are called, in Keras' order
_ARRAYS = ("embeddings", "kernel", "recurrent_kernel", "bias")


class _Refused(Exception):
    """Why a file of weights is not used."""


def _check_file(file: Path, parts: list[Part]) -> None:
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


def _matched(root: h5py.Group, parts: list[Part]) -> Iterator[tuple[h5py.Group, list[str], Part]]:
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
            raise _Refused(f"{group.name} holds {quoted(prefix)}, which is not expected there")
        places[place] = prefix
    return [places[place] for place in sorted(places, key=lambda place: (place[0], _ARRAYS.index(place[1])))]


def _called(name: str) -> str:
    """The part of an array's name that says what it is."""
    return name.rpartition("/")[2].partition(":")[0]


def _descend(group: Any, path: str) -> Any:
    """What a path leads to, inside the file and inside its group."""
    parts = path.split("/")
    if len(parts) > _DEEPEST_NAME or not all(parts):
        raise _Refused(f"{quoted(path)} is no name of an array or a layer")
    for part in parts:
        # asked of h5py's lower layer: the upper one would follow a link to see whether it leads anywhere
        if not isinstance(group, h5py.Group) or not group.id.links.exists(part.encode()):
            raise _Refused(f"{quoted(path)} is missing")
        if group.id.links.get_info(part.encode()).type != h5py.h5l.TYPE_HARD:
            raise _Refused(f"{quoted(path)} is a link, which may lead out of the file: copy what it leads to")
        group = group[part]
    return group


def _layer_arrays(group: h5py.Group, names: list[str], part: Part) -> list[F32]:
    if len(names) != len(part.arrays):
        raise _Refused(
            f"{group.name} has {len(names)} arrays, layer {quoted(part.name)} wants {len(part.arrays)}: "
            + ", ".join(array.name for array in part.arrays)
        )
    return [_array(group, name, wanted) for name, wanted in zip(names, part.arrays, strict=True)]


def _array(group: h5py.Group, name: str, wanted: WantedArray) -> F32:
    """Read an array, once it is known to be the one that is wanted."""
    dataset = _descend(group, name)
    if not isinstance(dataset, h5py.Dataset):
        raise _Refused(f"{quoted(name)} is no array")
    if _called(name) != wanted.name and _called(name) in _ARRAYS:
        raise _Refused(f"{quoted(name)} stands where {wanted.name} should")
    # virtual arrays and external storage read other files, filters and chunks can unpack to any size
    stored = dataset.id.get_create_plist()
    plain = stored.get_layout() in (h5py.h5d.CONTIGUOUS, h5py.h5d.COMPACT) and not stored.get_nfilters()
    if not plain or stored.get_external_count():
        raise _Refused(f"{quoted(name)} is not stored as a plain array in the file: save the weights anew")
    if dataset.shape not in wanted.shapes:
        raise _Refused(f"{quoted(name)} is {dataset.shape}, the model wants {wanted.shapes[0]}")
    if not dataset.id.get_type().equal(h5py.h5t.IEEE_F32LE):
        raise _Refused(f"{quoted(name)} is {dataset.dtype}, only 32-bit numbers (float32) are known")
    if dataset.id.get_storage_size() != 4 * _count(dataset.shape):
        raise _Refused(f"{quoted(name)} was never written: save the weights anew")
    array: F32 = np.empty(dataset.shape, np.float32)
    dataset.read_direct(array)
    if not bool(np.isfinite(array).all()):
        raise _Refused(f"{quoted(name)} holds values that are no finite numbers: train the model anew")
    return array
