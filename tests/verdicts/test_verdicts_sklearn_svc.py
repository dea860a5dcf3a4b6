"""Linear SVCs that joblib saved: read without running anything, or refused."""

import os
import pickle
import time

import joblib
import numpy as np
import pytest
from sklearn.svm import SVC

from barnum.errors import EvaluationError
from barnum.verdicts import methods
from barnum.verdicts.sklearn_svc import read_linear_svc


def fitted(kernel="linear", features=2, classes=2, **changes):
    draw = np.random.default_rng(0)
    labels = np.arange(60) % classes
    values = draw.normal(labels[:, None], 0.3, (60, features))
    made = SVC(kernel=kernel).fit(values, labels)
    for name, value in changes.items():
        setattr(made, name, value)
    return made


@pytest.fixture
def file(tmp_path):
    return tmp_path / "svm"


def refused(file, data=None):
    if data is not None:
        file.write_bytes(data)
    with pytest.raises(EvaluationError) as caught:
        read_linear_svc(file)
    assert str(caught.value).isprintable()
    return str(caught.value)


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_todays_files_are_read(file, protocol):
    made = fitted()
    joblib.dump(made, file, protocol=protocol)
    weights, bias = read_linear_svc(file)
    assert weights == pytest.approx(made.coef_[0].tolist(), rel=1e-12)
    assert bias == pytest.approx(float(made.intercept_[0]), rel=1e-12)
    classifier, model = methods.load(file)
    assert model is None
    assert classifier.weights == weights


def test_bytes_as_python_3_writes_them_for_python_2_are_refused(file):
    joblib.dump(fitted(), file, protocol=2)
    assert "asks for '_codecs encode'" in refused(file)


def test_the_published_file(data_dir):
    published = data_dir / "acrobat" / "model" / "svm"
    if not published.is_file():
        pytest.skip(f"no published classifier at {published}")
    weights, bias = read_linear_svc(published)
    assert weights == pytest.approx((12.229381, -2.239366), abs=5e-7)
    assert bias == pytest.approx(-2.160863, abs=5e-7)


class Calls:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("function", [os.system, eval, exec, print, np.frombuffer, getattr])
def test_nothing_is_run(file, tmp_path, protocol, function):
    made = fitted(extra=Calls(function, f"touch {tmp_path}/ran"))
    joblib.dump(made, file, protocol=protocol)
    assert "nothing of it was run" in refused(file)
    refused(file, pickle.dumps(Calls(function, f"touch {tmp_path}/ran"), protocol))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "made",
    [
        lambda: fitted("rbf"),
        lambda: fitted(features=3),
        lambda: fitted(classes=3),
        lambda: fitted(intercept_=np.array([np.nan])),
        lambda: fitted(intercept_=np.array([np.inf])),
        lambda: fitted(support_vectors_=np.full((60, 2), 1e308), dual_coef_=np.full((1, 60), 1e308)),
        lambda: fitted(support_vectors_=np.zeros((0, 2))),
        lambda: fitted(dual_coef_=np.zeros(3)),
        lambda: fitted(classes_=np.array([1, 0])),
        lambda: fitted(classes_=np.array(["a", "b"])),
        lambda: fitted(intercept_=1.0),
        lambda: {"a": 1},
        lambda: [fitted()],
        lambda: np.zeros(3),
    ],
)
def test_what_is_no_line_is_refused(file, made):
    joblib.dump(made(), file)
    refused(file)


def test_files_that_are_cut_off_or_damaged_are_refused(file):
    joblib.dump(fitted(), file)
    good = file.read_bytes()
    for length in range(0, len(good), 1):
        refused(file, good[:length])
    draw = np.random.default_rng(0)
    for _ in range(1500):
        data = bytearray(good)
        for at in draw.integers(0, len(data), draw.integers(1, 4)):
            data[at] = draw.integers(0, 256)
        file.write_bytes(bytes(data))
        try:
            weights, bias = read_linear_svc(file)
        except EvaluationError:
            continue
        assert np.isfinite([*weights, bias]).all()


# tuples of themselves, in which hashing and printing would take for ever
NESTED = b")q\0" + b"".join(b"h%ch%c\x86q%c" % (i, i, i + 1) for i in range(60)) + b"h\x3c"
WRAPPER = b"cjoblib.numpy_pickle\nNumpyArrayWrapper\n)\x81"
BOMBS = {
    "text": b"X\xff\xff\xff\x7f",
    "bytes": b"\x8e" + b"\xff" * 7 + b"\x7f",
    "number": b"\x8b\xff\xff\xff\x7f",
    "nested key": b"}" + NESTED + b"Ns.",
    "nested name": NESTED + b"0" + b"h\x3ch\x3c\x93.",
    "nested type": WRAPPER + b"}X\5\0\0\0dtypecnumpy\ndtype\n" + NESTED + b"\x85RsX\5\0\0\0shapeK\1\x85sb.",
    "shape": WRAPPER + b"}X\5\0\0\0dtypecnumpy\ndtype\nX\2\0\0\0f8\x85Rs"
    b"X\5\0\0\0orderX\1\0\0\0CsX\5\0\0\0shapeJ\xff\xff\xff\3J\xff\xff\xff\3\x86sb.",
    "cycle": b"]q\0h\0a}q\1X\1\0\0\0ah\1s.",
    "list of itself": b"]q\0(h\0h\0h\0e" + b"h\0h\0a" * 1000 + b".",
    "stack": b"N" * 200_000,
    "escape": b"S'\\d'\n.",
    "missing": b"h\7.",
    "nothing": b".",
    "mark": b"(.",
}


@pytest.mark.parametrize("kind", BOMBS)
def test_bombs_are_refused_at_once(file, kind):
    began = time.process_time()
    refused(file, b"\x80\2" + BOMBS[kind])
    assert time.process_time() - began < 5
