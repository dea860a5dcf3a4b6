"""PDF files written object by object, so that any part can be wrong."""

from __future__ import annotations

import hashlib
import random
import re
import zlib
from collections.abc import Callable

from ghostscript_text import FONTS

_PADDING = bytes.fromhex("28bf4e5e4e758a4164004e56fffa01082e2e00b6d0683e802f0ca9fe6453697a")


class Pdf:
    """Collects numbered objects and writes them as a PDF file.

    Attributes:
        kids: references to the pages.
        objects: what stands between ``obj`` and ``endobj``; the first two are the catalogue and the tree
            of pages.
    """

    def __init__(self, chance: random.Random) -> None:
        self.kids: list[str] = []
        self.objects: list[bytes] = [b"", b""]
        self._chance = chance
        self._font = ""

    def next(self, further: int) -> str:
        """A reference to an object that is added later."""
        return f"{len(self.objects) + 1 + further} 0 R"

    def add(self, body: str | bytes) -> str:
        """Add an object; gives a reference to it."""
        self.objects.append(body.encode("latin-1") if isinstance(body, str) else body)
        return f"{len(self.objects)} 0 R"

    def packed(self, data: bytes) -> bytes:
        """Data for FlateDecode."""
        return zlib.compress(data, 9)

    def stream(
        self, data: str | bytes, entries: str = "", length: int | None = None, compress: bool = False
    ) -> str:
        """Add a stream, maybe with a length that is not its own; gives a reference to it."""
        data = data.encode("latin-1") if isinstance(data, str) else data
        if compress:
            data, entries = self.packed(data), f"{entries} /Filter /FlateDecode"
        size = len(data) if length is None else length
        return self.add(f"<< /Length {size} {entries} >>\nstream\n".encode() + data + b"\nendstream")

    def font(self, entries: str) -> None:
        """Let the pages that follow have a font with these entries."""
        self._font = self.add(f"<< /Type /Font {entries} >>")

    def page(
        self,
        content: str,
        entries: str = "",
        resources: str = "",
        stream: str = "",
        media: str = "[0 0 612 792]",
    ) -> None:
        """Add a page; ``stream`` is a reference to its content where it is added already."""
        if not self._font:
            self.font(f"/Subtype /Type1 /BaseFont /{self._chance.choice(FONTS)}")
        drawn = stream or self.stream(content, compress=self._chance.random() < 0.5)
        self.kids.append(
            self.add(
                f"<< /Type /Page /Parent 2 0 R /MediaBox {media} /Contents {drawn} {entries} "
                f"/Resources << /Font << /F1 {self._font} >> {resources} >> >>"
            )
        )

    def write(
        self,
        catalogue: str = "",
        trailer: str = "",
        shift: int = 0,
        count: int | None = None,
        after: Callable[[int], bytes] = lambda _: b"endobj\n",
    ) -> bytes:
        """The file.

        Args:
            shift: what offsets are wrong by.
            count: how many pages it says that it has.
            after: what ends the object of a number.
        """
        pages = len(self.kids) if count is None else count
        self.objects[0] = f"<< /Type /Catalog /Pages 2 0 R {catalogue} >>".encode()
        self.objects[1] = f"<< /Type /Pages /Kids [{' '.join(self.kids)}] /Count {pages} >>".encode()
        out = bytearray(b"%PDF-1.5\n%\xe2\xe3\xcf\xd3\n")
        offsets = []
        for number, body in enumerate(self.objects, 1):
            offsets.append(max(0, len(out) + shift))
            out += b"%d 0 obj\n%s\n%s" % (number, body, after(number))
        start = max(0, len(out) + shift)
        out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(offsets) + 1)
        out += b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
        head = f"<< /Size {len(offsets) + 1} /Root 1 0 R {trailer} >>"
        return bytes(out) + f"trailer\n{head}\nstartxref\n{start}\n%%EOF\n".encode()


def encrypted(document: Pdf, identity: bytes) -> bytes:
    """A document encrypted for the empty password, by RC4 with 40 bits (security handler, revision 2).

    Only streams are: the document must hold no strings outside of them.
    """
    rights = -44
    owner = _rc4(hashlib.md5(_PADDING).digest()[:5], _PADDING)
    seed = _PADDING + owner + (rights % (1 << 32)).to_bytes(4, "little") + identity
    key = hashlib.md5(seed).digest()[:5]
    for number, body in enumerate(document.objects, 1):
        found = re.search(rb"\nstream\n(.*)\nendstream\Z", body, re.S)
        if found:
            mixed = key + number.to_bytes(3, "little") + bytes(2)
            secret = _rc4(hashlib.md5(mixed).digest()[:10], found[1])
            document.objects[number - 1] = body[: found.start(1)] + secret + b"\nendstream"
    user = _rc4(key, _PADDING)
    how = document.add(f"<< /Filter /Standard /V 1 /R 2 /O <{owner.hex()}> /U <{user.hex()}> /P {rights} >>")
    return document.write(trailer=f"/Encrypt {how} /ID [<{identity.hex()}> <{identity.hex()}>]")


def _rc4(key: bytes, data: bytes) -> bytes:
    state = list(range(256))
    j = 0
    for i in range(256):
        j = (j + state[i] + key[i % len(key)]) % 256
        state[i], state[j] = state[j], state[i]
    out, i, j = bytearray(), 0, 0
    for value in data:
        i = (i + 1) % 256
        j = (j + state[i]) % 256
        state[i], state[j] = state[j], state[i]
        out.append(value ^ state[(state[i] + state[j]) % 256])
    return bytes(out)
