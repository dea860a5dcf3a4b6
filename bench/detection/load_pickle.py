"""Load a file of pickles, as a program does that trusts it: ``python load_pickle.py FILE [MODULE...]``.

A file holds pickles, one after the other, or is a ZIP archive: what torch.save writes, or a pickle beside
the buffers that it leaves out. torch is not needed: its tensors become arrays. Prints one line and ends with
0, or with 1 and one line about what went wrong. Imports nothing that the file does not ask for, so that what
a run executes is the file's doing; but before it opens the file, the modules that are named behind it, as a
program does that works with them.
"""

import os
import pickle
import sys

# what numpy does in threads is not worth starting them
os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"

_ITEM_TYPES = {
    "torch.DoubleStorage": "f8",
    "torch.FloatStorage": "f4",
    "torch.HalfStorage": "f2",
    "torch.LongStorage": "i8",
    "torch.IntStorage": "i4",
    "torch.ShortStorage": "i2",
    "torch.ByteStorage": "u1",
    "torch.BoolStorage": "?",
}


def _tensor(storage, offset, size, stride, requires_grad=False, hooks=None, metadata=None):
    """A tensor as an array: a view of what is stored."""
    from numpy.lib.stride_tricks import as_strided

    steps = tuple(step * storage.itemsize for step in stride)
    return as_strided(storage[offset:], size, steps)


def _parameter(data, requires_grad=False, hooks=None):
    return data


_OF_TORCH = {
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "torch.Size": tuple,
    "torch.device": str,
}


class _Archived(pickle.Unpickler):
    """Reads the pickle of an archive, which refers to other members for large parts."""

    def __init__(self, archive, name):
        self.archive, self.folder = archive, name.rpartition("/")[0]
        buffers = (member for member in archive.namelist() if member.startswith(f"{self.folder}/buffers/"))
        super().__init__(archive.open(name), buffers=map(archive.read, buffers))

    def find_class(self, module, name):
        known = f"{module}.{name}"
        return _OF_TORCH.get(known) or _ITEM_TYPES.get(known) or super().find_class(module, name)

    def persistent_load(self, pid):
        import numpy

        _, item_type, key, _, size = pid
        return numpy.frombuffer(self.archive.read(f"{self.folder}/data/{key}"), item_type, size)


def _loaded(file):
    """What the file holds, in turn."""
    if file.peek(2)[:2] == b"PK":
        import zipfile

        with zipfile.ZipFile(file) as archive:
            for name in archive.namelist():
                if name.endswith("/data.pkl"):
                    yield _Archived(archive, name).load()
        return
    while file.peek(1):
        yield pickle.Unpickler(file).load()


def _size(value):
    try:
        return len(value)
    except Exception:
        return 1


def main(path, *modules):
    """Load a file and say what was in it; returns the exit code."""
    try:
        for module in modules:
            __import__(module)
        # pathlib is nothing that the file asks for
        with open(path, "rb") as file:  # noqa: PTH123
            found = [f"{type(value).__name__} {_size(value)}" for value in _loaded(file)]
        print("; ".join(found)[:200] or "nothing")
        return 0
    except Exception as error:
        print(f"{type(error).__name__}: {error}".replace("\n", " ")[:200])
        return 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
