"""What the keeper of a recording's work folder hands out, and to whom."""

from __future__ import annotations

import errno
import os
import socket
import struct
from pathlib import Path

import pytest

from barnum.recording.keeper import APPEND, CREATE, READ, RESIZE, WRITE, Keeper
from barnum.recording.seccomp import call_filter


@pytest.fixture
def keeper(tmp_path):
    """A keeper of an empty work folder."""
    (tmp_path / "raw").mkdir()
    # longer than the address of a socket may be
    deep = tmp_path / ("long" * 40)
    deep.mkdir()
    with Keeper(tmp_path / "raw", deep / "keeper") as keeper:
        yield keeper


def ask(
    keeper: Keeper, what: int, name: bytes, size: int = 0, key: bytes | None = None
) -> tuple[int, int, int]:
    """Error number, number of the file, and a descriptor of it (-1: none came)."""
    request = struct.pack("<32sIIQ16s", keeper.key if key is None else key, what, 0, size, name)
    answer, descriptors = sent(keeper, request)
    assert answer, "no answer"
    error, number = struct.unpack("<ii", answer)
    return error, number, descriptors[0] if descriptors else -1


def sent(keeper: Keeper, request: bytes) -> tuple[bytes, list[int]]:
    """The answer to a request, empty if there is none, and the descriptors with it."""
    folder = os.open(keeper.address.parent, os.O_PATH)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
            connection.settimeout(30)
            connection.connect(f"/proc/self/fd/{folder}/{keeper.address.name}")
            connection.send(request)
            answer, descriptors, *_ = socket.recv_fds(connection, 100, 4)
            return answer, descriptors
    finally:
        os.close(folder)


def test_files_are_numbered_and_reopened(keeper, tmp_path):
    for number in range(3):
        error, given, descriptor = ask(keeper, CREATE, b"stream")
        assert (error, given) == (0, number)
        os.write(descriptor, b"%d" % number)
        os.close(descriptor)
    assert sorted(file.name for file in (tmp_path / "raw").iterdir()) == ["stream_0", "stream_1", "stream_2"]
    error, _, descriptor = ask(keeper, WRITE, b"stream_1")
    assert (error, os.read(descriptor, 10)) == (0, b"1")
    os.close(descriptor)
    assert ask(keeper, RESIZE, b"stream_2", 1 << 36) == (0, 2, -1)
    assert (tmp_path / "raw" / "stream_2").stat().st_size == 1 << 36
    os.close(ask(keeper, CREATE, b"process")[2])
    _, _, descriptor = ask(keeper, APPEND, b"maps_0")
    os.write(descriptor, b"a map")
    os.close(descriptor)
    _, _, descriptor = ask(keeper, READ, b"maps_0")
    assert os.read(descriptor, 10) == b"a map"
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.write(descriptor, b"no")
    os.close(descriptor)


@pytest.mark.parametrize(
    ("what", "name", "size", "error"),
    [
        (WRITE, b"stream_1", 0, errno.ENOENT),
        (APPEND, b"maps_0", 0, errno.ENOENT),
        (READ, b"../owner", 0, errno.ENOENT),
        (READ, b"/etc/passwd", 0, errno.ENOENT),
        (APPEND, b"stream_00", 0, errno.ENOENT),
        (APPEND, b"", 0, errno.ENOENT),
        (CREATE, b"owner", 0, errno.ENFILE),
        (CREATE, b"../stream", 0, errno.ENFILE),
        (RESIZE, b"stream_0", 1 << 37, errno.EINVAL),
        (99, b"stream_0", 0, errno.EINVAL),
    ],
)
def test_nothing_but_files_of_a_recording(keeper, tmp_path, what, name, size, error):
    os.close(ask(keeper, CREATE, b"stream")[2])
    assert ask(keeper, what, name, size) == (error, -1, -1)
    assert [file.name for file in (tmp_path / "raw").iterdir()] == ["stream_0"]


def test_a_link_in_the_folder_is_not_followed(keeper, tmp_path):
    os.close(ask(keeper, CREATE, b"stream")[2])
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "raw" / "stream_0").unlink()
    (tmp_path / "raw" / "stream_0").symlink_to(tmp_path / "secret")
    assert ask(keeper, READ, b"stream_0")[0] == errno.ELOOP


def test_without_the_key_there_is_no_answer(keeper, tmp_path):
    good = struct.pack("<32sIIQ16s", keeper.key, CREATE, 0, 0, b"stream")
    wrong = bytes([good[0] ^ 1]) + good[1:]
    for request in (wrong, bytes(32) + good[32:], good[:-1], good + b"\0", b"x"):
        assert sent(keeper, request) == (b"", [])
    assert list((tmp_path / "raw").iterdir()) == []


def test_silent_connections_keep_nobody_waiting(keeper):
    folder = os.open(keeper.address.parent, os.O_PATH)
    silent = []
    try:
        for _ in range(100):
            silent.append(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
            silent[-1].connect(f"/proc/self/fd/{folder}/{keeper.address.name}")
        error, _, descriptor = ask(keeper, CREATE, b"stream")
        os.close(descriptor)
        assert error == 0
    finally:
        os.close(folder)
        for connection in silent:
            connection.close()


def test_it_leaves_no_descriptor_open(tmp_path):
    (tmp_path / "raw").mkdir()
    before = len(list(Path("/proc/self/fd").iterdir()))
    with Keeper(tmp_path / "raw", tmp_path / "keeper") as keeper:
        os.close(ask(keeper, CREATE, b"stream")[2])
        ask(keeper, WRITE, b"stream_7")
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_the_filter_is_one_that_the_kernel_takes():
    """Every jump leads to a step, and the last one is a return."""
    program = call_filter()
    steps = [struct.unpack_from("<HBBI", program, at) for at in range(0, len(program), 8)]
    assert len(steps) < 4096
    for number, (code, yes, no, _) in enumerate(steps):
        if code in (0x15, 0x35):
            assert number + 1 + max(yes, no) < len(steps)
    assert steps[-1][0] == 0x06
