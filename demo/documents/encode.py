"""Encoders for the filters of PostScript and PDF, and pictures to encode."""

from __future__ import annotations

import base64
import math
import zlib


def ascii85(data: bytes) -> bytes:
    """Data for ASCII85Decode, in lines."""
    return _lines(base64.a85encode(data)) + b"~>"


def asciihex(data: bytes) -> bytes:
    """Data for ASCIIHexDecode, in lines."""
    return _lines(data.hex().encode()) + b">"


def flate(data: bytes) -> bytes:
    """Data for FlateDecode."""
    return zlib.compress(data, 9)


def run_length(data: bytes) -> bytes:
    """Data for RunLengthDecode."""
    out = bytearray()
    i = 0
    while i < len(data):
        run = 1
        while run < 128 and data[i : i + 1] * (run + 1) == data[i : i + run + 1]:
            run += 1
        if run > 1:
            out += bytes((257 - run, data[i]))
        else:
            while run < 128 and i + run < len(data) and data[i + run] != data[i + run - 1]:
                run += 1
            out += bytes((run - 1,)) + data[i : i + run]
        i += run
    return bytes(out) + b"\x80"


def lzw(data: bytes) -> bytes:
    """Data for LZWDecode with the default early change."""
    bits = [(256, 9)]
    table = {bytes((i,)): i for i in range(256)}
    following, width, word = 258, 9, b""
    for value in data:
        longer = word + bytes((value,))
        if longer in table:
            word = longer
            continue
        bits.append((table[word], width))
        table[longer] = following
        following += 1
        width = min(12, (following).bit_length())
        if following == 4095:
            bits.append((256, width))
            table = {bytes((i,)): i for i in range(256)}
            following, width = 258, 9
        word = bytes((value,))
    if word:
        bits.append((table[word], width))
        following += 1
        width = min(12, following.bit_length())
    bits.append((257, width))
    total = count = 0
    for code, size in bits:
        total = total << size | code
        count += size
    pad = -count % 8
    return (total << pad).to_bytes((count + pad) // 8, "big")


def eexec(data: bytes) -> bytes:
    """Data as Type 1 fonts encrypt it, in hex digits."""
    state = 55665
    out = bytearray()
    for value in b"demo" + data:
        out.append(value ^ state >> 8)
        state = ((out[-1] + state) * 52845 + 22719) & 0xFFFF
    return _lines(bytes(out).hex().encode())


def picture(width: int, height: int, channels: int, seed: int) -> bytes:
    """A smooth picture, 8 bits a sample, rows from the top."""
    out = bytearray()
    for y in range(height):
        for x in range(width):
            for c in range(channels):
                wave = (
                    math.sin(x / (3 + seed + c)) + math.cos(y / (4 + c)) + math.sin((x * y) / (40 + 9 * seed))
                )
                out.append(int(127 + 42 * wave))
    return bytes(out)


def bitmap(width: int, height: int, seed: int) -> bytes:
    """A picture of one bit a sample, rows padded to whole bytes."""
    rows = []
    for y in range(height):
        row = 0
        for x in range(width):
            row = row << 1 | ((x * x + y * y * (seed + 1)) // 60 % 2)
        rows.append((row << -width % 8).to_bytes((width + 7) // 8, "big"))
    return b"".join(rows)


def predicted(data: bytes, row: int) -> bytes:
    """Rows with PNG's "up" predictor in front of each."""
    out = bytearray()
    before = bytes(row)
    for i in range(0, len(data), row):
        line = data[i : i + row]
        out += b"\x02" + bytes((a - b) & 255 for a, b in zip(line, before, strict=True))
        before = line
    return bytes(out)


def _lines(data: bytes) -> bytes:
    return b"\n".join(data[i : i + 76] for i in range(0, len(data), 76))
