"""What harmless pickles hold of packages, drawn at random: arrays, tables, models, tensors in archives.

Packages are imported by the functions that need them: not every interpreter has all.
"""

import collections
import contextlib
import io
import math
import pickle
import sys
import types
import zipfile
from unittest import mock

from pickle_values import word

_KINDS = ("f8", "f4", "f2", "i8", "i4", "u1", "?", "c16", "S7", "U5", "M8[s]", "m8[h]", ">i4", "i2")


def _generator(chance):
    import numpy

    return numpy.random.default_rng(chance.randrange(1 << 32))


def _array(chance, kinds=_KINDS):
    shape = tuple(chance.randrange(1, 12) for _ in range(chance.randrange(1, 4)))
    values = _generator(chance).integers(0, 100, shape).astype(chance.choice(kinds))
    return values.copy(chance.choice("CF"))


def arrays(chance):
    """Arrays of numbers, text and dates, in both orders."""
    return {word(chance): _array(chance) for _ in range(chance.randrange(1, 9))}


def odd_arrays(chance):
    """Arrays of objects and records, masked ones, scalars, types, and states of random numbers."""
    import numpy

    rows = [(number, chance.random(), word(chance)) for number in range(chance.randrange(1, 30))]
    makers = (
        lambda: numpy.array([word(chance), None, {"a": [1]}, 2.5], dtype=object),
        lambda: numpy.array(rows, dtype=[("n", "i4"), ("x", "f8"), ("t", "U9")]),
        lambda: numpy.ma.masked_greater(_array(chance, ("f8", "i4")), 50),
        lambda: numpy.random.RandomState(chance.randrange(1000)),
        lambda: _generator(chance),
        lambda: [numpy.float32(chance.random()), numpy.int64(7), numpy.datetime64("2024-05-01")],
        lambda: numpy.dtype([("a", "<i4", (2, 3)), ("b", "S3")]),
        lambda: [numpy.add, numpy.mean, numpy.float64],
        lambda: _array(chance)[::2],
    )
    return [chance.choice(makers)() for _ in range(chance.randrange(1, 5))]


def buffers(chance):
    """Arrays whose data stands in the pickle as it is, or beside it."""
    beside: list[pickle.PickleBuffer] = []
    inside = chance.random() < 0.4
    value = [*arrays(chance).values(), pickle.PickleBuffer(bytearray(chance.randbytes(500)))]
    data = pickle.dumps(value, 5, buffer_callback=None if inside else beside.append)
    if inside:
        return data
    parts = {f"buffers/{number:03}": bytes(part.raw()) for number, part in enumerate(beside)}
    return archive({"data.pkl": data} | parts)


def archive(parts):
    """A ZIP archive as torch.save writes it: nothing is compressed, all is in one folder.

    Args:
        parts: content of files, by name.
    """
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as members:
        for name, content in parts.items():
            # without a time, so that equal input gives equal files
            members.writestr(zipfile.ZipInfo(f"archive/{name}"), content)
    return file.getvalue()


_STORAGES = {
    "FloatStorage": "f4",
    "DoubleStorage": "f8",
    "HalfStorage": "f2",
    "LongStorage": "i8",
    "ByteStorage": "u1",
}


class _Tensor:
    def __init__(self, key, kind, shape):
        self.key, self.kind, self.shape = key, kind, shape

    def __reduce__(self):
        strides, step = [], 1
        for size in reversed(self.shape):
            strides.insert(0, step)
            step *= size
        storage = _Storage(self.key, self.kind, step)
        made = (storage, 0, self.shape, tuple(strides), False, collections.OrderedDict())
        return sys.modules["torch._utils"]._rebuild_tensor_v2, made


class _Storage:
    def __init__(self, key, kind, size):
        self.pid = ("storage", getattr(sys.modules["torch"], kind), str(key), "cpu", size)


class _Pickler(pickle.Pickler):
    def persistent_id(self, obj):
        return obj.pid if isinstance(obj, _Storage) else None


@contextlib.contextmanager
def _like_torch():
    """Meanwhile there are modules in which pickle finds the names that torch writes, and no more."""
    module, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    for kind in _STORAGES:
        setattr(module, kind, type(kind, (), {"__module__": "torch"}))

    def _rebuild_tensor_v2(*parts):
        raise NotImplementedError

    _rebuild_tensor_v2.__module__ = "torch._utils"
    _rebuild_tensor_v2.__qualname__ = "_rebuild_tensor_v2"
    utils._rebuild_tensor_v2 = _rebuild_tensor_v2
    with mock.patch.dict(sys.modules, {"torch": module, "torch._utils": utils}):
        yield


def tensors(chance):
    """State dictionaries of networks, as torch.save writes them."""
    state, stored = collections.OrderedDict(), {}
    for key in range(chance.randrange(2, 16)):
        kind = chance.choice((*["FloatStorage"] * 4, *_STORAGES))
        shape = tuple(chance.randrange(1, 30) for _ in range(chance.randrange(3)))
        tensor = _Tensor(key, kind, shape)
        size = math.prod(shape)
        stored[f"data/{key}"] = _generator(chance).normal(size=size).astype(_STORAGES[kind]).tobytes()
        state[f"{word(chance)}.{chance.choice(('weight', 'bias', 'running_mean'))}"] = tensor
    whole = state if chance.random() < 0.6 else {"epoch": chance.randrange(99), "model": state, "lr": 0.1}
    file = io.BytesIO()
    with _like_torch():
        _Pickler(file, 2).dump(whole)
    return archive({"data.pkl": file.getvalue(), "byteorder": b"little"} | stored | {"version": b"3\n"})


def frames(chance):
    """Tables of pandas, with columns of many kinds."""
    import numpy
    import pandas

    rows = chance.randrange(2, 60)
    draw = _generator(chance)
    columns = {
        "number": draw.normal(size=rows),
        "count": draw.integers(0, 99, rows),
        "small": draw.integers(0, 99, rows).astype("i2"),
        "flag": draw.random(rows) < 0.5,
        "text": [word(chance) for _ in range(rows)],
        "when": pandas.Timestamp("2024-01-01") + pandas.to_timedelta(draw.integers(0, 9999, rows), unit="h"),
        "kind": pandas.Categorical(chance.choices(("a", "b", "c"), k=rows)),
        "maybe": pandas.array(draw.integers(0, 9, rows), dtype="Int64"),
        "object": numpy.array([None, *range(rows - 1)], dtype=object),
    }
    names = chance.sample(sorted(columns), chance.randrange(1, len(columns)))
    table = pandas.DataFrame({name: columns[name] for name in names})
    return table if chance.random() < 0.7 else table.set_index(names[0])


def series(chance):
    """Series, indexes and single values of pandas."""
    import pandas

    size = chance.randrange(2, 30)
    pairs = [(word(chance), number) for number in range(size)]
    makers = (
        lambda: pandas.Series(_generator(chance).normal(size=size), name=word(chance)),
        lambda: pandas.Series([name for name, _ in pairs], index=range(size)),
        lambda: pandas.MultiIndex.from_tuples(pairs, names=["a", "b"]),
        lambda: pandas.date_range("2024-01-01", periods=size, freq=chance.choice(("D", "h", "W"))),
        lambda: pandas.Timestamp("2024-02-03", tz=chance.choice((None, "UTC"))),
        lambda: [pandas.Timedelta(hours=size), pandas.NaT, pandas.Period("2024-01", freq="M")],
        lambda: pandas.IntervalIndex.from_breaks(range(size + 1)),
        lambda: pandas.Series(pandas.Categorical(chance.choices("xyz", k=size), ordered=True)),
    )
    return [chance.choice(makers)() for _ in range(chance.randrange(1, 4))]


def models(chance):
    """Models and transformers of scikit-learn that were fitted on made-up data."""
    from sklearn import (
        cluster,
        decomposition,
        ensemble,
        linear_model,
        naive_bayes,
        neighbors,
        pipeline,
        preprocessing,
        svm,
        tree,
    )

    draw, seed = _generator(chance), chance.randrange(1000)
    inputs = draw.normal(size=(chance.randrange(30, 90), chance.randrange(2, 7)))
    labels = (inputs[:, 0] + 0.3 * draw.normal(size=len(inputs)) > 0).astype(int)
    scaled = preprocessing.StandardScaler()
    makers = (
        linear_model.LogisticRegression(),
        linear_model.Ridge(),
        linear_model.SGDClassifier(random_state=seed),
        ensemble.RandomForestClassifier(chance.randrange(2, 9), random_state=seed),
        ensemble.GradientBoostingClassifier(n_estimators=5, random_state=seed),
        tree.DecisionTreeClassifier(random_state=seed),
        svm.SVC(random_state=seed),
        neighbors.KNeighborsClassifier(3),
        naive_bayes.GaussianNB(),
        cluster.KMeans(3, n_init=1, random_state=seed),
        decomposition.PCA(2, random_state=seed),
        preprocessing.OneHotEncoder(handle_unknown="ignore"),
        pipeline.make_pipeline(scaled, linear_model.LogisticRegression()),
    )
    return chance.choice(makers).fit(inputs, labels)


VALUES = {maker.__name__: maker for maker in (arrays, odd_arrays, frames, series, models)}
FILES = {maker.__name__: maker for maker in (buffers, tensors)}
