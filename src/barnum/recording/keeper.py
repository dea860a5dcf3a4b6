"""Keeps the work folder of a recording out of the recorded program's reach.

In a sandbox nothing of the work folder is to be seen. The recorder, which runs in the program's own process,
asks for each file through a socket, with a key that it alone knows, and is handed a descriptor. That is in a
table of its own for as long as it takes to map the file. A program that finds the socket has no key. One that
finds the key in the emulator's memory gets files of the recorder's kinds, of its own run.
"""

from __future__ import annotations

import errno
import hmac
import os
import re
import secrets
import selectors
import socket
import struct
import threading
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from barnum.recording.raw import MAX_PROCESSES, MAX_STREAMS

KEY_SIZE = 32
# key, what to do, unused, a size, the name of a file
_REQUEST = struct.Struct("<32sIIQ16s")
# an error number, the number of the file
_ANSWER = struct.Struct("<ii")
CREATE, READ, WRITE, APPEND, RESIZE = 1, 2, 3, 4, 5
_NAME = re.compile(rb"(process|stream|maps|code|effects|log)_(0|[1-9][0-9]{0,5})", re.ASCII)
_LIMITS = {b"process": MAX_PROCESSES, b"stream": MAX_STREAMS}
# what kinds of files belong to
_OWNERS = {
    b"process": b"process",
    b"maps": b"process",
    b"code": b"process",
    b"effects": b"process",
    b"stream": b"stream",
    b"log": b"stream",
}
_FLAGS = {READ: os.O_RDONLY, WRITE: os.O_RDWR, APPEND: os.O_WRONLY | os.O_APPEND | os.O_CREAT}
_LARGEST = 1 << 36
# a program that opens connections and says nothing must not keep the recorder waiting
_MOST_OPEN = 64


class Keeper:
    """Serves the recorders of one run, in a thread of its own, between enter and exit.

    Attributes:
        key: what a recorder has to know, 32 bytes.
        address: the socket.
    """

    def __init__(self, raw: Path, address: Path) -> None:
        self.key = secrets.token_bytes(KEY_SIZE)
        self.address = address
        self._raw = raw
        self._counts = {b"process": 0, b"stream": 0}
        self._open: OrderedDict[int, socket.socket] = OrderedDict()

    def __enter__(self) -> Keeper:
        self._folder = os.open(self._raw, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._stopped, self._stop = socket.socketpair()
        try:
            # a socket's address has room for 107 bytes, which the path may well exceed
            folder = os.open(self.address.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                self._listening.bind(f"/proc/self/fd/{folder}/{self.address.name}")
            finally:
                os.close(folder)
            self._listening.listen(_MOST_OPEN)
            self._listening.setblocking(False)
            self._thread = threading.Thread(target=self._serve, name="keeper", daemon=True)
            self._thread.start()
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.close()
        self._thread.join()
        self._close()

    def _close(self) -> None:
        for connection in (*self._open.values(), self._listening, self._stopped, self._stop):
            connection.close()
        os.close(self._folder)

    def _serve(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._stopped, selectors.EVENT_READ)
            selector.register(self._listening, selectors.EVENT_READ)
            while True:
                for key, _ in selector.select():
                    if key.fileobj is self._stopped:
                        return
                    if key.fileobj is self._listening:
                        self._accept(selector)
                    elif key.fd in self._open:
                        connection = self._open.pop(key.fd)
                        selector.unregister(connection)
                        with connection, suppress(OSError):
                            self._answer(connection)

    def _accept(self, selector: selectors.BaseSelector) -> None:
        with suppress(OSError):
            connection, _ = self._listening.accept()
            connection.setblocking(False)
            self._open[connection.fileno()] = connection
            selector.register(connection, selectors.EVENT_READ)
        while len(self._open) > _MOST_OPEN:
            _, oldest = self._open.popitem(last=False)
            selector.unregister(oldest)
            oldest.close()

    def _answer(self, connection: socket.socket) -> None:
        request = connection.recv(_REQUEST.size + 1)
        if len(request) != _REQUEST.size:
            return
        key, what, _, size, padded = _REQUEST.unpack(request)
        if not hmac.compare_digest(key, self.key):
            return
        descriptor = -1
        try:
            number, descriptor = self._perform(what, size, padded.rstrip(b"\0"))
            socket.send_fds(connection, [_ANSWER.pack(0, number)], [descriptor] if descriptor >= 0 else [])
        except OSError as error:
            connection.send(_ANSWER.pack(error.errno or errno.EIO, -1))
        finally:
            if descriptor >= 0:
                os.close(descriptor)

    def _perform(self, what: int, size: int, name: bytes) -> tuple[int, int]:
        """Number of the file and a descriptor of it; -1 where none is handed out.

        Raises:
            OSError: it cannot be done, or is none of what recorders do.
        """
        if what == CREATE:
            return self._create(name)
        file = _NAME.fullmatch(name)
        if file is None or int(file[2]) >= self._counts[_OWNERS[file[1]]]:
            raise OSError(errno.ENOENT, "no such file")
        if what == RESIZE and size <= _LARGEST:
            descriptor = self._opened(name, os.O_RDWR)
            try:
                os.ftruncate(descriptor, size)
            finally:
                os.close(descriptor)
            return int(file[2]), -1
        if what not in _FLAGS:
            raise OSError(errno.EINVAL, "no such request")
        return int(file[2]), self._opened(name, _FLAGS[what])

    def _create(self, kind: bytes) -> tuple[int, int]:
        number = self._counts.get(kind, -1)
        if not 0 <= number < _LIMITS.get(kind, 0):
            raise OSError(errno.ENFILE, "too many files")
        descriptor = self._opened(kind + b"_%d" % number, os.O_RDWR | os.O_CREAT | os.O_EXCL)
        self._counts[kind] = number + 1
        return number, descriptor

    def _opened(self, name: bytes, flags: int) -> int:
        return os.open(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=self._folder)
