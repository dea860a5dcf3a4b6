"""The folder of images: mapped files as they lie in memory, under the file's name; none is ever replaced."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import tempfile
import threading
from pathlib import Path

from barnum.recording.layout import Layout
from barnum.recording.raw import open_regular
from barnum.samples import Image
from barnum.texts import printable, within_bytes

_NAME_LIMIT = 255
_CHUNK = 1 << 20
_ATTEMPTS = 3


class ImageStore:
    """The images of a bin-dir; several threads, processes and machines may add to it at once.

    A file that was hashed is known again by device, inode, time and size, so that a hundred runs of one
    program read its libraries once.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = threading.Lock()
        self._known: dict[tuple[object, ...], Image] = {}
        self._digests: dict[tuple[int, int, int, int], str] = {}

    def add(self, descriptor: int, layout: Layout, mapped_path: str) -> Image | None:
        """Put the image of an open file into the folder, unless it is there already.

        Args:
            descriptor: the file.
            layout: which bytes of it make the image.
            mapped_path: its path in the memory map, from which the image is named.

        Returns:
            The image; None if the file keeps changing.

        Raises:
            OSError: the folder cannot be written, or the file cannot be read.
        """
        key = (*_identity(os.fstat(descriptor)), layout, _plain_name(mapped_path))
        with self._lock:
            if key in self._known:
                return self._known[key]
            for _ in range(_ATTEMPTS):
                digest = hashlib.sha256()
                for chunk in layout.chunks(descriptor):
                    digest.update(chunk)
                name = self._place(descriptor, layout, _plain_name(mapped_path), digest.hexdigest())
                if name is not None:
                    image = Image(file=name, sha256=digest.hexdigest())
                    if _identity(os.fstat(descriptor)) == key[:4]:
                        self._known[key] = image
                    return image
        return None

    def _place(self, descriptor: int, layout: Layout, name: str, digest: str) -> str | None:
        """Name under which the folder holds the image; None if the file no longer has this digest."""
        temporary: Path | None = None
        try:
            for suffix in ("", f".{digest[:16]}", f".{digest}"):
                candidate = within_bytes(name, _NAME_LIMIT - len(suffix)) + suffix
                target = self.folder / candidate
                taken = os.path.lexists(target)  # before its content: another writer may place it in between
                if self._holds(target, layout.size, digest):
                    return candidate
                if taken:
                    continue  # an image with other content has this name
                if temporary is None:
                    temporary, written = self._write(descriptor, layout)
                    if written != digest:
                        return None
                if _link(temporary, target) or self._holds(target, layout.size, digest):
                    return candidate
        finally:
            if temporary is not None:
                temporary.unlink(missing_ok=True)
        raise FileExistsError(17, "images of other content have all names for one", str(self.folder / name))

    def _write(self, descriptor: int, layout: Layout) -> tuple[Path, str]:
        digest = hashlib.sha256()
        handle, path = tempfile.mkstemp(prefix=".image-", dir=self.folder)
        try:
            with os.fdopen(handle, "wb", buffering=0) as file:
                os.fchmod(handle, 0o644)
                position = 0
                for chunk in layout.chunks(descriptor):
                    digest.update(chunk)
                    if chunk.strip(b"\0"):
                        _write_all(handle, chunk, position)
                    position += len(chunk)
                file.truncate(layout.size)
        except BaseException:
            Path(path).unlink(missing_ok=True)
            raise
        return Path(path), digest.hexdigest()

    def _holds(self, target: Path, size: int, digest: str) -> bool:
        try:
            status = target.lstat()
            if not stat.S_ISREG(status.st_mode) or status.st_size != size:
                return False
            identity = _identity(status)
            if identity not in self._digests:
                content = hashlib.sha256()
                with open_regular(target) as descriptor:
                    position = 0
                    while chunk := os.pread(descriptor, _CHUNK, position):
                        content.update(chunk)
                        position += len(chunk)
                self._digests[identity] = content.hexdigest()
            return self._digests[identity] == digest
        except OSError:
            return False


def _identity(status: os.stat_result) -> tuple[int, int, int, int]:
    return (status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size)


def _plain_name(mapped_path: str) -> str:
    """A file name for an image: the last part of the path, made safe."""
    name = printable(mapped_path.rsplit("/", 1)[-1])
    return "image" if name in ("", ".", "..") else name


def _write_all(descriptor: int, data: bytes, position: int) -> None:
    view = memoryview(data)
    while view:
        done = os.pwrite(descriptor, view, position)
        view = view[done:]
        position += done


def _link(source: Path, target: Path) -> bool:
    """Give a file its final name; False if the name was taken in the meantime."""
    try:
        os.link(source, target)
        return True
    except FileExistsError:
        return False
    except OSError:
        # a file system without hard links: another writer may come between the two steps
        with contextlib.suppress(FileExistsError):
            if not target.exists():
                source.rename(target)
                return True
        return False
