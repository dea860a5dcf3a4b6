"""Named arrays in one file: safetensors, or HDF5 where the name ends in .h5; readers go by content."""

from __future__ import annotations

import contextlib
import errno
import io
import math
import mmap
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save

from barnum.errors import ModelError
from barnum.files import open_regular, write_whole
from barnum.texts import reason, shortened

HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
_MOST_ARRAYS = 4096
_LONGEST_IDENTITY = 256

Arrays = dict[str, NDArray[Any]]
Shapes = dict[str, tuple[int, ...]]


def is_hdf5(file: Path) -> bool:
    """Whether the content of a file is HDF5.

    Raises:
        ModelError: it cannot be read.
    """
    try:
        with open_regular(file, follow=True) as descriptor:
            return os.read(descriptor, len(HDF5_MAGIC)) == HDF5_MAGIC
    except OSError as error:
        raise ModelError(f"{file}: cannot be read ({error.strerror or error})") from None


def write_arrays(file: Path, arrays: Mapping[str, NDArray[Any]], identity: str) -> None:
    """Write arrays and the identity of their model; equal arrays give equal files."""
    contiguous = {name: np.ascontiguousarray(array) for name, array in sorted(arrays.items())}
    if file.suffix == ".h5":
        _write_hdf5(file, contiguous, identity)
        return
    # one key only: safetensors writes several in any order
    write_whole(file, save(contiguous, metadata={"identity": identity}))


def read_arrays(file: Path) -> tuple[Arrays, str]:
    """All arrays of a file, and the identity of their model ("" where it names none).

    Raises:
        ModelError: it is missing, neither format, or broken.
    """
    if is_hdf5(file):
        return _read_hdf5(file)
    _check_memory(file)
    try:
        with safe_open(file, framework="numpy") as opened:
            identity = (opened.metadata() or {}).get("identity", "")
            names = list(opened.keys())
            if len(names) > _MOST_ARRAYS:
                raise ModelError(f"{file}: holds {len(names):,} arrays, more than any model")
            return {name: opened.get_tensor(name) for name in names}, identity
    except ModelError:
        raise
    except MemoryError:
        raise _too_large(file) from None
    except BaseException as error:  # the library raises whatever it likes on broken headers
        if type(error).__name__ == "PanicException":  # where memory ends
            raise _too_large(file) from None
        if not isinstance(error, Exception):
            raise
        raise ModelError(f"{file}: is neither safetensors nor HDF5 ({reason(error)})") from None


def _check_memory(file: Path) -> None:
    """There is memory for a file and its arrays: the library is not to be the one that finds out."""
    try:
        with open_regular(file, follow=True) as descriptor:
            size = os.fstat(descriptor).st_size
            if not size:
                return
            with mmap.mmap(descriptor, size, access=mmap.ACCESS_READ):
                np.empty(size, np.uint8)
    except MemoryError:
        raise _too_large(file) from None
    except OSError as error:
        if error.errno == errno.ENOMEM:
            raise _too_large(file) from None
        raise ModelError(f"{file}: cannot be read ({error.strerror or error})") from None
    if size > _available():
        raise _too_large(file)


def _available() -> float:
    """Bytes of memory that are free or can be freed; infinite where the system does not tell."""
    memory: dict[str, int] = {}
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            name, _, rest = line.partition(":")
            memory[name] = int(rest.split()[0]) << 10
    if "MemAvailable" not in memory:
        return math.inf
    return memory["MemAvailable"] + memory.get("SwapFree", 0)


def _too_large(file: Path) -> ModelError:
    return ModelError(f"{file}: does not fit in memory")


def _write_hdf5(file: Path, arrays: Arrays, identity: str) -> None:
    import h5py

    # in memory, then whole: on a full disk the library leaves more than an error behind
    content = io.BytesIO()
    with h5py.File(content, "w", libver=("earliest", "v110")) as root:
        # of fixed length: see _identity()
        root.attrs["identity"] = np.bytes_(identity.encode())
        for name, array in arrays.items():
            root.create_dataset(name.replace(".", "/", 1), data=array, track_times=False)
    write_whole(file, content.getvalue())


def _read_hdf5(file: Path) -> tuple[Arrays, str]:
    import h5py

    arrays: Arrays = {}
    size = file.stat().st_size
    taken = 0
    if size > _available():
        raise _too_large(file)
    # h5py raises whatever it likes on broken files
    with _broken(file), h5py.File(file, "r") as root:
        identity = _identity(root)
        for part in root:
            # the kind of link first: to open one may lead out of the file
            plain = isinstance(root.get(part, getlink=True), h5py.HardLink)
            group = root[part] if plain else None
            if not isinstance(group, h5py.Group):
                raise ModelError(
                    f"{file}: holds {shortened(repr(part))}, which belongs to no part of a model"
                )
            for name in group:
                where = shortened(f"{part}/{name}")
                if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                    raise ModelError(f"{file}: {where} is a link: no weights of this program")
                data = group[name]
                if not isinstance(data, h5py.Dataset) or len(arrays) >= _MOST_ARRAYS:
                    raise ModelError(f"{file}: holds {where}, which is no array of a model")
                plain = data.chunks is None and not data.external and not data.is_virtual
                # one array may have several names
                taken += data.nbytes
                if not plain or taken > size or data.dtype.hasobject:
                    raise ModelError(f"{file}: {where} is not stored plainly: no weights of this program")
                arrays[f"{part}.{name}"] = np.asarray(data[()])
    return arrays, identity


def _identity(root: Any) -> str:
    """The identity that a file names. Strings of variable length are not read: in a damaged file they can
    keep the library busy for ever."""
    if "identity" not in root.attrs:
        return ""
    kind = root.attrs.get_id("identity").dtype
    if kind.kind != "S" or kind.itemsize > _LONGEST_IDENTITY:
        return ""
    return bytes(root.attrs["identity"]).decode("ascii", errors="replace")


@contextlib.contextmanager
def _broken(file: Path) -> Iterator[None]:
    try:
        yield
    except ModelError:
        raise
    except MemoryError:
        raise _too_large(file) from None
    except Exception as error:
        raise ModelError(f"{file}: is a broken HDF5 file ({reason(error)})") from None
