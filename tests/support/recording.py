"""Helpers of the tests of recording: the real command, small C programs, the plugin's work folders."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from pathlib import Path

from barnum.recording import find_engine
from barnum.samples import Sample, open_samples

BARNUM = str(Path(sys.executable).with_name("barnum"))
PAGE = 4096
PSB = b"\x02\x82" * 8


def trace(
    folder: Path, *arguments: object, env: dict[str, str] | None = None, prefix: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[str]:
    """Run `barnum trace` in a folder, where its traces and extract go; prefix runs the command."""
    return subprocess.run(
        [*prefix, BARNUM, "trace", *map(str, arguments)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        env=env,
        check=False,
    )


# for root: what it may not read is closed to it, too
LIKE_A_USER = ("setpriv", "--bounding-set=-dac_override,-dac_read_search") if os.geteuid() == 0 else ()


def samples(folder: Path) -> list[Sample]:
    """Finished samples of a run in a folder."""
    root = folder / "traces"
    if not root.is_dir():
        return []
    return open_samples(sorted(entry for entry in root.iterdir() if not entry.name.endswith(".part")))


def document(folder: Path, content: str = "one\n", name: str = "document.txt") -> Path:
    """An input."""
    file = folder / name
    file.write_text(content)
    return file


def compile_c(folder: Path, source: str, *options: str, name: str = "program") -> Path:
    """A program from C source text."""
    program = folder / name
    (folder / f"{name}.c").write_text(source)
    subprocess.run(["cc", "-O1", "-o", program, f"{program}.c", *options], check=True, timeout=60)
    return program


def elf_header(machine: int = 62, bits: int = 64, interpreter: str | None = None) -> bytes:
    """An ELF program that does nothing: one loaded segment and, if asked, a loader."""
    names = b"" if interpreter is None else interpreter.encode() + b"\0"
    if bits == 64:
        rows = [struct.pack("<IIQQQQQQ", 1, 5, 0, 0x400000, 0x400000, 0x1000, 0x1000, PAGE)]
        if names:
            rows.append(struct.pack("<IIQQQQQQ", 3, 4, 0x200, 0, 0, len(names), len(names), 1))
        head = struct.pack("<HHIQQQIHHHHHH", 2, machine, 1, 0x400100, 64, 0, 0, 64, 56, len(rows), 0, 0, 0)
    else:
        rows = [struct.pack("<IIIIIIII", 1, 0, 0x400000, 0x400000, 0x1000, 0x1000, 5, PAGE)]
        if names:
            rows.append(struct.pack("<IIIIIIII", 3, 0x200, 0, 0, len(names), len(names), 4, 1))
        head = struct.pack("<HHIIIIIHHHHHH", 2, machine, 1, 0x400100, 52, 0, 0, 52, 32, len(rows), 0, 0, 0)
    identity = b"\x7fELF" + bytes([2 if bits == 64 else 1, 1, 1]) + bytes(9)
    return ((identity + head + b"".join(rows)).ljust(0x200, b"\0") + names).ljust(PAGE, b"\x90")


def executable(file: Path, content: bytes | str, mode: int = 0o755) -> Path:
    """A file with this content that may be run."""
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    file.chmod(mode)
    return file


def raw_stream(
    packets: bytes,
    process: int = 0,
    tnt: int = 1,
    lost: int = 0,
    lost_blocks: int = 0,
    size: int | None = None,
) -> bytes:
    """A stream's file as the plugin leaves it."""
    head = struct.pack(
        "<8sIIQQIIQ",
        b"BRNMPT01",
        process,
        77,
        len(packets) if size is None else size,
        tnt,
        0,
        lost,
        lost_blocks,
    )
    return head.ljust(PAGE, b"\0") + packets + bytes(100)


def raw_code(*records: tuple[int, int, bytes]) -> bytes:
    """A code file as the plugin leaves it: (epoch, address, bytes)."""
    body = b"".join(struct.pack("<IIQ", epoch, len(data), address) + data for epoch, address, data in records)
    return b"BRNMCODE" + body + bytes(64)


def raw_notes(
    text: str, started: tuple[int, int] | None = None, starting: tuple[int, int] | None = None
) -> bytes:
    """Notes of a process as the plugin leaves them; started and starting: stream, and bytes of it before."""
    places = [0 if place is None else (place[0] + 1) << 40 | place[1] for place in (started, starting)]
    return text.encode().ljust((16 << 10) - 32, b"\0") + struct.pack("<QQQQ", *places, len(text), 0)


def raw_folder(folder: Path, **files: bytes | str) -> Path:
    """A work folder with one process and one stream, and the files given beside or instead of those."""
    folder.mkdir(parents=True)
    content: dict[str, bytes | str] = {
        "process_0": "pid 12\nparent -1\nevent start\nmode 64\nprogram /usr/bin/true\n",
        "maps_0": f"@ 0\n{0x400000:x}-{0x402000:x} r-xp 00000000 00:00 0\n",
        "code_0": raw_code((0, 0x400000, b"\x90\x90\xc3")),
        "stream_0": raw_stream(PSB),
        **files,
    }
    for name, data in content.items():
        (folder / name).write_bytes(data if isinstance(data, bytes) else data.encode())
    return folder


def unpack_code(data: bytes) -> list[tuple[int, int, bytes]]:
    """Records (epoch, address, bytes) of an unpacked code file."""
    assert data[:8] == b"BRNMCODE"
    records = []
    at = 8
    while at < len(data):
        epoch, length, address = struct.unpack_from("<IIQ", data, at)
        records.append((epoch, address, data[at + 16 : at + 16 + length]))
        at += 16 + length
    return records


def alive(pid: int) -> bool:
    """Whether a process runs (and has not merely ended unnoticed)."""
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    except OSError:
        return False


def without_program(folder: Path, *names: str) -> dict[str, str]:
    """An environment in which only the programs named are found, emulators included."""
    emulators = {Path(file).name: file for file in find_engine().qemu.values()}
    folder.mkdir()
    for name in names:
        (folder / name).symlink_to(emulators.get(name, f"/usr/bin/{name}"))
    return {**os.environ, "PATH": str(folder), "BARNUM_QEMU": str(folder)}
