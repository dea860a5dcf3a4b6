"""Named arrays in safetensors and HDF5: what is written is what is read, and nothing else is."""

import json
import os
import resource
import struct
import subprocess
import sys
import time

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

from barnum.errors import ModelError
from barnum.models import arrays as arrays_module
from barnum.models.arrays import is_hdf5, read_arrays, write_arrays

IDENTITY = "a5" * 32
ENDINGS = ("safetensors", "h5", "weights")


def arrays_of(seed=0):
    draw = np.random.default_rng(seed)
    return {
        "network.site.weight": draw.standard_normal((5, 3)).astype(np.float32),
        "network.bias": draw.standard_normal(4).astype(np.float32),
        "vocabulary.site": draw.integers(0, 1 << 63, 6).astype(np.uint64) * np.uint64(2),
        "vocabulary.count": -draw.integers(0, 1 << 62, 6),
        "rates.share": draw.random((2, 2)),
        "memory.edge": draw.integers(0, 1 << 32, 9).astype(np.uint32),
        "memory.rank": draw.integers(0, 256, 9).astype(np.uint8),
        "names.none": np.zeros((0, 3), np.int32),
    }


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert found[name].dtype == array.dtype
        assert found[name].shape == array.shape
        assert found[name].tobytes() == array.tobytes()


@pytest.fixture
def h5(tmp_path):
    """A file of arrays as another program may write one, open for changes."""
    file = tmp_path / "weights.h5"
    write_arrays(file, arrays_of(), IDENTITY)
    return file


def refused(file):
    with pytest.raises(ModelError) as error:
        read_arrays(file)
    message = str(error.value)
    assert message.startswith(str(file))
    assert "\n" not in message
    assert len(message) < 1000
    return message


@pytest.mark.parametrize("ending", ENDINGS)
def test_what_is_written_is_read(tmp_path, ending):
    file = tmp_path / f"w.{ending}"
    write_arrays(file, arrays_of(), IDENTITY)
    found, identity = read_arrays(file)
    assert identity == IDENTITY
    assert_same(found, arrays_of())
    assert is_hdf5(file) == (ending == "h5")
    # nothing is left beside it
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("ending", ENDINGS)
def test_arrays_that_lie_apart_in_memory_are_written_whole(tmp_path, ending):
    file = tmp_path / f"w.{ending}"
    table = np.arange(24, dtype=np.float32).reshape(4, 6)
    write_arrays(file, {"network.a": table.T, "network.b": table[::2, ::3]}, "")
    assert_same(read_arrays(file)[0], {"network.a": table.T.copy(), "network.b": table[::2, ::3].copy()})


@pytest.mark.parametrize("ending", ["safetensors", "h5"])
def test_the_content_tells_the_format(tmp_path, ending):
    right = tmp_path / f"w.{ending}"
    write_arrays(right, arrays_of(), IDENTITY)
    wrong = right.rename(tmp_path / f"w.{'h5' if ending == 'safetensors' else 'safetensors'}")
    assert_same(read_arrays(wrong)[0], arrays_of())


@pytest.mark.parametrize("ending", ["safetensors", "h5"])
def test_equal_arrays_are_equal_files(tmp_path, ending):
    one, other = tmp_path / f"one.{ending}", tmp_path / f"other.{ending}"
    write_arrays(one, arrays_of(), IDENTITY)
    if ending == "h5":
        time.sleep(1.1)  # HDF5 can hold times, in seconds
    write_arrays(other, dict(reversed(arrays_of().items())), IDENTITY)
    assert one.read_bytes() == other.read_bytes()
    write_arrays(other, arrays_of(1), IDENTITY)
    assert one.read_bytes() != other.read_bytes()


@pytest.mark.parametrize("ending", ["safetensors", "h5"])
@pytest.mark.parametrize("limit", [100, 50_000])
def test_on_a_full_disk_a_file_stays_as_it_was(tmp_path, ending, limit):
    file = tmp_path / f"w.{ending}"
    write_arrays(file, arrays_of(), IDENTITY)
    before = file.read_bytes()
    allowed = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, allowed[1]))
    try:
        with pytest.raises(OSError, match=r"(?i)file too large"):
            write_arrays(file, {"network.a": np.zeros(100_000, np.float32)}, IDENTITY)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, allowed)
    assert file.read_bytes() == before
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("ending", ["safetensors", "h5"])
def test_a_folder_that_is_not_there_is_an_error_of_the_systems(tmp_path, ending):
    with pytest.raises(OSError, match="gone"):
        write_arrays(tmp_path / "gone" / f"w.{ending}", arrays_of(), IDENTITY)


def test_other_programs_arrays_name_no_identity(tmp_path, h5):
    plain = tmp_path / "plain.safetensors"
    plain.write_bytes(save({"network.a": np.zeros(2, np.float32)}))
    assert read_arrays(plain)[1] == ""
    for identity in (None, 5, np.zeros(3), "text of any length", np.bytes_(b"x" * 100_000)):
        with h5py.File(h5, "a") as root:
            del root.attrs["identity"]
            if identity is not None and not (isinstance(identity, np.bytes_)):
                root.attrs["identity"] = identity
        found, told = read_arrays(h5)
        assert told == ""
        assert_same(found, arrays_of())
        with h5py.File(h5, "a") as root:
            root.attrs["identity"] = np.bytes_(b"")


@pytest.mark.parametrize(
    "content", [b"", b"x", b"{}", b"\x89HDF\r\n\x1a\n", b"\x89HDF\r\n\x1a\n" + b"\0" * 2000, b"\0" * 100]
)
def test_what_is_neither_format_is_refused(tmp_path, content):
    file = tmp_path / "w"
    file.write_bytes(content)
    refused(file)


def test_what_cannot_be_read_is_refused(tmp_path):
    assert "cannot be read" in refused(tmp_path / "gone")
    assert "cannot be read" in refused(tmp_path)
    with pytest.raises(ModelError, match="cannot be read"):
        is_hdf5(tmp_path / "gone")


# --- safetensors ------------------------------------------------------------------------------------------


def safetensors_of(header, data=b"\0" * 64):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def tensor(dtype="F32", shape=(4, 4), offsets=(0, 64)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


def test_a_header_as_it_should_be_is_read(tmp_path):
    file = tmp_path / "w"
    file.write_bytes(safetensors_of({"network.a": tensor()}))
    assert read_arrays(file)[0]["network.a"].shape == (4, 4)


@pytest.mark.parametrize(
    "header",
    [
        {"network.a": tensor(shape=(4, 5))},
        {"network.a": tensor(offsets=(0, 1 << 40), shape=(1 << 38,))},
        {"network.a": tensor(offsets=(64, 0))},
        {"network.a": tensor(shape=(1 << 62, 1 << 62))},
        {"network.a": tensor(), "network.b": tensor()},
        {"network.a": tensor(dtype="OBJECT")},
        # numbers that numpy does not have
        {"network.a": tensor(dtype="BF16", shape=(32,))},
        {"network.a": tensor(dtype="F8_E4M3", shape=(64,))},
        {"network.a": tensor(dtype="F8_E5M2", shape=(64,))},
        {"network.a": 5},
        {"__metadata__": {"identity": 5}, "network.a": tensor()},
        [],
        b"{" * 5000,
        b'{"a":' * 5000,
        b"\xff" * 20,
    ],
)
def test_a_broken_header_is_refused(tmp_path, header):
    file = tmp_path / "w"
    file.write_bytes(safetensors_of(header))
    refused(file)


def test_a_header_longer_than_the_file_takes_no_memory(tmp_path):
    file = tmp_path / "w"
    for size in (100, 1 << 20, 1 << 40, (1 << 64) - 1):
        file.write_bytes(struct.pack("<Q", size) + b"{}")
        refused(file)


def test_more_arrays_than_a_model_has_are_refused_here_too(tmp_path):
    file = tmp_path / "w"
    file.write_bytes(save({f"runs.{i}": np.zeros(0, np.uint8) for i in range(4097)}))
    assert "4,097 arrays" in refused(file)


def test_what_does_not_fit_in_memory_is_refused(tmp_path, monkeypatch):
    file = tmp_path / "w"
    size = 1 << 33
    header = {"network.a": tensor("U8", (size,), (0, size))}
    file.write_bytes(safetensors_of(header, b""))
    os.truncate(file, file.stat().st_size + size)  # holes alone
    code = (
        "import resource, sys; from pathlib import Path; from barnum.errors import ModelError\n"
        "from barnum.models.arrays import read_arrays\n"
        "resource.setrlimit(resource.RLIMIT_AS, (12 << 30, 12 << 30))\n"
        "try: read_arrays(Path(sys.argv[1]))\n"
        "except ModelError as error: print(error)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code, str(file)], capture_output=True, timeout=60, check=True, text=True
    )
    assert ended.stdout == f"{file}: does not fit in memory\n"
    assert ended.stderr == ""
    monkeypatch.setattr(arrays_module, "_available", lambda: 100)
    for ending in ("safetensors", "h5"):
        file = tmp_path / f"w.{ending}"
        write_arrays(file, arrays_of(), IDENTITY)
        assert "does not fit in memory" in refused(file)


def test_memory_that_ends_while_a_file_is_read_is_one_line(tmp_path, monkeypatch, h5):
    file = tmp_path / "w"
    write_arrays(file, arrays_of(), IDENTITY)
    panic = type("PanicException", (BaseException,), {})
    for error in (MemoryError(), panic("no memory")):

        def fail(*_words, error=error, **_options):
            raise error

        monkeypatch.setattr(arrays_module, "safe_open", fail)
        assert "does not fit in memory" in refused(file)
    monkeypatch.setattr(arrays_module, "_identity", lambda _root: np.empty(1 << 62, np.uint8))
    assert "does not fit in memory" in refused(h5)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_comes_through(tmp_path, monkeypatch, error):
    file = tmp_path / "w"
    write_arrays(file, arrays_of(), IDENTITY)

    def fail(*_words, **_options):
        raise error

    monkeypatch.setattr(arrays_module, "safe_open", fail)
    with pytest.raises(error):
        read_arrays(file)


# --- HDF5 ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        lambda root: root.__setitem__("network/link", h5py.SoftLink("/network/bias")),
        lambda root: root.__setitem__("network/link", h5py.SoftLink("/nowhere")),
        lambda root: root.__setitem__("network/link", h5py.ExternalLink("/etc/passwd", "/")),
        lambda root: several_names(root, root.create_dataset("network/x", data=np.zeros(100_000))),
        lambda root: root.__setitem__("link", h5py.SoftLink("/network")),
        lambda root: root.__setitem__("link", h5py.SoftLink("/link")),
        lambda root: root.__setitem__("link", h5py.ExternalLink("/etc/passwd", "/")),
        lambda root: root.create_dataset("alone", data=np.zeros(3)),
        lambda root: root.create_group("network/deeper"),
        lambda root: root.create_dataset("network/deeper/still", data=np.zeros(3)),
        lambda root: root.create_dataset("network/x", data=np.zeros(3), chunks=(1,)),
        lambda root: root.create_dataset("network/x", data=np.zeros(3), compression="gzip"),
        lambda root: root.create_dataset("network/x", (1 << 40,), np.float32),
        lambda root: root.create_dataset("network/x", (1 << 40,), np.float32, chunks=(1 << 10,)),
        lambda root: root.create_dataset("network/x", data=["text"], dtype=h5py.string_dtype()),
        lambda root: root.create_dataset("network/x", (1,), h5py.vlen_dtype(np.int32)),
        lambda root: root.create_dataset("network/x", (1,), h5py.ref_dtype),
        lambda root: root.create_dataset(
            "network/x", (8,), np.uint8, external=[("/etc/passwd", 0, 8)]
        ),
        lambda root: root.create_virtual_dataset("network/x", virtual(), fillvalue=0),
        lambda root: root.__setitem__("network/type", np.dtype("i4")),
    ],
)  # fmt: skip
def test_what_is_not_stored_plainly_is_refused(h5, change):
    with h5py.File(h5, "a") as root:
        change(root)
    refused(h5)


def several_names(root, data):
    for i in range(50):
        root[f"network/again{i}"] = data


def virtual():
    layout = h5py.VirtualLayout((4,), np.float32)
    layout[:] = h5py.VirtualSource("/etc/passwd", "x", (4,))
    return layout


def test_more_arrays_than_a_model_has_are_refused(tmp_path):
    file = tmp_path / "w.h5"
    with h5py.File(file, "w") as root:
        for i in range(4097):
            root.create_dataset(f"network/{i}", data=np.zeros(1, np.uint8))
    refused(file)


@pytest.mark.parametrize("at", ["link", "network/link"])
def test_no_link_is_followed_out_of_the_file(h5, tmp_path, at):
    # whoever opens this waits for ever
    os.mkfifo(tmp_path / "pipe")
    with h5py.File(h5, "a") as root:
        root[at] = h5py.ExternalLink(str(tmp_path / "pipe"), "/")
    code = (
        "import sys; from pathlib import Path; from barnum.errors import ModelError\n"
        "from barnum.models.arrays import read_arrays\n"
        "try: read_arrays(Path(sys.argv[1]))\n"
        "except ModelError: print('refused')"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code, str(h5)], capture_output=True, timeout=60, check=True, text=True
    )
    assert ended.stdout == "refused\n"


# --- damage -------------------------------------------------------------------------------------------------


def changed(good, draw, reach):
    """A few bytes of the beginning changed, or the end cut off."""
    bad = bytearray(good)
    if draw.random() < 0.2:
        return bytes(bad[: int(draw.integers(0, len(bad)))])
    for _ in range(int(draw.integers(1, 5))):
        bad[int(draw.integers(0, reach))] = int(draw.choice([0, 1, 34, 48, 57, 127, 255]))
    return bytes(bad)


@pytest.mark.parametrize("ending", ["safetensors", "h5"])
@settings(max_examples=100, deadline=None, derandomize=True)
@given(seed=st.integers(0, 1 << 40))
def test_damage_gives_arrays_or_one_line(tmp_path_factory, ending, seed):
    file = tmp_path_factory.getbasetemp() / f"damaged-{os.getpid()}.{ending}"
    write_arrays(file, arrays_of(), IDENTITY)
    good = file.read_bytes()
    reach = len(good) if ending == "h5" else 8 + int.from_bytes(good[:8], "little")
    file.write_bytes(changed(good, np.random.default_rng(seed), reach))
    try:
        found, identity = read_arrays(file)
    except ModelError as error:
        assert "\n" not in str(error)
        assert len(str(error)) < 1000
    else:
        assert isinstance(identity, str)
        assert all(isinstance(array, np.ndarray) for array in found.values())
