"""``meta.json``: how a sample was recorded. Samples from elsewhere have none."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from barnum.errors import OptionsError, SampleError
from barnum.files import read_bounded, write_whole
from barnum.texts import quoted

_LIMIT = 64 << 20
_SCHEMA = 1
MAX_PROCESSES = MAX_STREAMS = (1 << 16) - 1

_Index = Annotated[int, msgspec.Meta(ge=0, lt=MAX_PROCESSES)]
_Count = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]
_KIND = r"^[A-Za-z0-9._+-]{1,64}\Z"
# the name of a kind of documents
KindName = Annotated[str, msgspec.Meta(pattern=_KIND)]
_FileName = Annotated[str, msgspec.Meta(max_length=255)]


class Engine(msgspec.Struct, frozen=True, kw_only=True):
    """What recorded the run. ``cpu`` is the model of processor that the program saw."""

    name: str
    program: str = ""
    version: str = ""
    cpu: str = ""


class SandboxMeta(msgspec.Struct, frozen=True, kw_only=True):
    """The sandbox that a run was in: ``program`` made it; bytes of ``memory``, ``processes`` and bytes of
    ``temporary`` files are what the run was allowed at most."""

    program: str
    version: str = ""
    memory: _Count = 0
    processes: _Count = 0
    temporary: _Count = 0


class LimitsMeta(msgspec.Struct, frozen=True, kw_only=True):
    """What a run was allowed at most, in a sandbox or not: seconds (None: any number), and bytes of packets
    of a thread."""

    timeout: Annotated[float, msgspec.Meta(gt=0)] | None = None
    max_size: _Count


class ExitStatus(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How the program ended: by an exit status or a signal. ``timeout``: the recorder ended it."""

    status: int | None = None
    signal: int | None = None
    timeout: bool = False


class ProcessMeta(msgspec.Struct, frozen=True, kw_only=True):
    """One process (or, after an exec, one program) of a run and the files that describe its memory."""

    index: _Index
    pid: _Count
    program: str
    mapping: _FileName
    parent: _Index | None = None
    code: _FileName | None = None
    exec_mode: Literal[32, 64] = 64
    event: Literal["start", "fork", "exec"] = "start"


class StreamMeta(msgspec.Struct, frozen=True, kw_only=True):
    """One stream of PT packets, of one thread of one process. ``bytes`` are those before compression."""

    file: _FileName
    process: _Index
    thread: _Count
    bytes: _Count
    lost: str | None = None
    lost_blocks: _Count = 0


class SpawnMeta(msgspec.Struct, frozen=True, kw_only=True):
    """Where the run first started another process: ``offset`` raw bytes of the stream come before that."""

    stream: _Index
    offset: _Count


class Image(msgspec.Struct, frozen=True, kw_only=True):
    """The image of a mapped file: its name in the bin-dir and the SHA-256 of its content, in hex."""

    file: _FileName
    sha256: str


class Meta(msgspec.Struct, frozen=True, kw_only=True):
    """Content of ``meta.json``; docs/formats.md describes each field."""

    schema: int = _SCHEMA
    version: str
    command: tuple[str, ...]
    engine: Engine
    start: Literal["open", "exec"]
    host_cpu: str = ""
    recorded: str = ""
    exit: ExitStatus = ExitStatus()
    processes: Annotated[tuple[ProcessMeta, ...], msgspec.Meta(max_length=MAX_PROCESSES)] = ()
    streams: Annotated[tuple[StreamMeta, ...], msgspec.Meta(max_length=MAX_STREAMS)] = ()
    images: dict[str, Image] = {}
    spawn: SpawnMeta | None = None
    effects: _Count | None = None
    sandbox: SandboxMeta | None = None
    limits: LimitsMeta | None = None
    kind: KindName | None = None
    children: _Count = 0
    lost: tuple[str, ...] = ()
    stderr: str = ""


# made once, before several threads read: see evaluations/parquet.py
_META = msgspec.json.Decoder(Meta)


def checked_kind(name: str) -> str:
    """The name of a kind of documents.

    Raises:
        OptionsError: it can be none.
    """
    if not re.search(_KIND, name):
        raise OptionsError(
            f"{quoted(name, 80)} is no kind of documents: give 1 to 64 letters, digits or . _ + -, "
            "such as pdf"
        )
    return name


def read_meta(file: Path) -> Meta:
    """Read a ``meta.json``.

    Raises:
        SampleError: it cannot be read, is broken, or has another schema than this version reads.
    """
    data = read_bounded(file, _LIMIT, SampleError)
    try:
        meta = _META.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as broken:
        raise SampleError(f"{file}: is not a description of a recording ({broken})") from None
    if meta.schema != _SCHEMA:
        raise SampleError(f"{file}: has schema {meta.schema}, this version of barnum reads {_SCHEMA}")
    return meta


def write_meta(file: Path, meta: Meta) -> None:
    """Write a ``meta.json``, indented for people.

    Raises:
        OSError: the file cannot be written.
    """
    write_whole(file, msgspec.json.format(msgspec.json.encode(meta), indent=1) + b"\n")
