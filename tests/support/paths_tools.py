"""Writes tiny samples: a few bytes of code, and PT packets that run through them."""

import gzip
import os
import struct
import subprocess
import sys
from pathlib import Path

BASE = 0x400000
# jnz +2; nop; nop; jmp rax
CODE = bytes.fromhex("7502 9090 ffe0")
PSB = b"\x02\x82" * 8
PSBEND = b"\x02\x23"
MODE_64 = b"\x99\x01"
TAKEN, NOT_TAKEN = b"\x06", b"\x04"
PGD = b"\x01"


def tip(address: int) -> bytes:
    return b"\xcd" + struct.pack("<Q", address)


def pge(address: int) -> bytes:
    return b"\xd1" + struct.pack("<Q", address)


def turns(count: int) -> bytes:
    """Packets of so many turns through the code: with the jump taken two blocks, else two as well."""
    return b"".join((TAKEN if turn % 2 else NOT_TAKEN) + tip(BASE) for turn in range(count))


def stream(count: int = 10) -> bytes:
    return PSB + PSBEND + MODE_64 + pge(BASE) + turns(count) + PGD


def make_sample(
    folder: Path, packets: bytes | None = None, *, packed: bytes | None = None, label="benign"
) -> Path:
    """A sample of one module; its image must be put into a bin-dir by :func:`make_images`."""
    folder.mkdir(parents=True)
    (folder / "info.txt").write_text(f"{folder.name}.pdf\n{label}\n")
    (folder / "mapping.txt").write_text(f"{BASE:x}-{BASE + 0x1000:x} r-xp 00000000 00:00 0 /usr/bin/tiny\n")
    content = gzip.compress(stream() if packets is None else packets, 1) if packed is None else packed
    (folder / "trace_0.gz").write_bytes(content)
    return folder


def make_images(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "tiny").write_bytes(CODE.ljust(0x1000, b"\xcc"))
    return folder


def barnum(*arguments, **options) -> subprocess.CompletedProcess:
    """Run the command line in a process of its own; output as bytes."""
    command = [sys.executable, "-c", "from barnum.cli.main import main; main()", *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, timeout=120, check=False, env=dict(os.environ), **options
    )
