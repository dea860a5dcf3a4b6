"""What a digest is: all that a verdict needs to know of a run, in some tens of kilobytes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated

import msgspec
import numpy as np
from numpy.typing import NDArray

from barnum.digests.approaches import Approaches
from barnum.digests.effects import MOST_KINDS, EffectKind
from barnum.evaluations.header import Source
from barnum.evidence import Findings
from barnum.paths import Learn
from barnum.samples import KindName, Meta

U8 = NDArray[np.uint8]
U32 = NDArray[np.uint32]
U64 = NDArray[np.uint64]
I64 = NDArray[np.int64]

SCHEMA = 1
# characters of a SHA-256 in hex that are kept of an image
_SHA = 32
_Count = Annotated[int, msgspec.Meta(ge=0, le=1 << 53)]
_Size = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]


class _Head(msgspec.Struct):
    schema: int | None = None


def schema_of(text: bytes) -> int | None:
    """The schema that a JSON object names, without what else it holds being taken into memory.

    Raises:
        msgspec.MsgspecError, UnicodeDecodeError, RecursionError: it is none, or its schema is no number.
    """
    return msgspec.json.decode(text, type=_Head).schema


class Program(msgspec.Struct, frozen=True, kw_only=True):
    """What was recorded, and how.

    Attributes:
        command: the program and its arguments, ``{}`` being the document.
        start: ``open`` where recording began when the document was opened, else ``exec``.
        engine: name of what recorded.
        cpu: the model of processor that the program saw; empty where that is not known.
        sandbox: the program that made the sandbox in which it ran; empty where it ran in none.
        images: of each mapped file by path the first 32 hexadecimal digits of its SHA-256.
    """

    command: tuple[str, ...]
    start: str
    engine: str
    cpu: str = ""
    sandbox: str = ""
    images: dict[str, str] = {}

    @classmethod
    def of(cls, meta: Meta) -> Program:
        """What a meta.json says."""
        images = {path: image.sha256[:_SHA] for path, image in sorted(meta.images.items())}
        return cls(
            command=meta.command,
            start=meta.start,
            engine=meta.engine.name,
            cpu=meta.engine.cpu,
            sandbox="" if meta.sandbox is None else meta.sandbox.program,
            images=images,
        )


class Limits(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a run was allowed at most.

    Attributes:
        timeout: seconds; None: it had no limit.
        max_size: bytes of packets of a thread.
        memory: bytes that its processes might take together in a sandbox; 0: it was in none.
        processes: processes and threads at a time in it.
        temporary: bytes of temporary files in it.
    """

    timeout: Annotated[float, msgspec.Meta(gt=0)] | None = None
    max_size: _Size
    memory: _Size = 0
    processes: _Size = 0
    temporary: _Size = 0

    @classmethod
    def of(cls, meta: Meta) -> Limits | None:
        """What a meta.json says; None where it says nothing."""
        if meta.limits is None:
            return None
        limits = cls(timeout=meta.limits.timeout, max_size=meta.limits.max_size)
        if meta.sandbox is None:
            return limits
        sandbox = meta.sandbox
        return msgspec.structs.replace(
            limits, memory=sandbox.memory, processes=sandbox.processes, temporary=sandbox.temporary
        )


def most_generous(limits: Iterable[Limits | None]) -> Limits | None:
    """Limits that no run of several would have come to before its own; None where none is known."""
    known = [each for each in limits if each is not None]
    if not known:
        return None
    times = [each.timeout for each in known if each.timeout is not None]
    return Limits(
        timeout=max(times) if len(times) == len(known) else None,
        max_size=max(each.max_size for each in known),
        memory=max(each.memory for each in known),
        processes=max(each.processes for each in known),
        temporary=max(each.temporary for each in known),
    )


class About(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a digest says of its run beside its numbers.

    Attributes:
        schema: 1.
        version: of the program that made it.
        name: of the document.
        label: ``benign``, ``malicious`` or ``unknown``, when it was made; info.txt beside it is newer.
        learn: kinds of transfers that it holds.
        transfers: number of these in the run.
        stretches: how many transfers each stretch of the run has: the run is told in up to 32 of them, which
            stand for runs where a detector has learnt few.
        cut: how many transfers came before the first other process was started; None: see Source.cut.
        intact: how many came before anything was lost; None: see Source.intact.
        modules: hash of each module's path and the path, None where it has none.
        source: what became of the run.
        evidence: transfers that hint at a hijack; None where nobody looked.
        effects: kinds of system calls that changed the world or left the program; None where nobody noted
            them.
        further_effects: how many more there were, of other kinds or counted only.
        program: what was recorded; None where the sample does not say.
        limits: what the run was allowed; None where the sample does not say.
        kind: of the document; None where the sample does not say.
    """

    schema: int
    version: str
    name: str
    label: str
    learn: Learn
    transfers: _Count
    stretches: Annotated[tuple[_Count, ...], msgspec.Meta(max_length=32)]
    cut: _Count | None = None
    intact: _Count | None = None
    modules: Annotated[
        tuple[tuple[Annotated[int, msgspec.Meta(ge=0, lt=1 << 32)], str | None], ...],
        msgspec.Meta(max_length=1 << 16),
    ]
    source: Source
    evidence: Findings | None = None
    effects: Annotated[tuple[EffectKind, ...], msgspec.Meta(max_length=MOST_KINDS)] | None = None
    further_effects: _Count = 0
    program: Program | None = None
    limits: Limits | None = None
    kind: KindName | None = None


@dataclass(frozen=True, slots=True)
class Taken:
    """The e distinct transfers of a run, in the order in which they were first taken.

    ``site`` u64[e] and ``target`` u64[e] are tokens (see sequences/tokens.py), ``kind`` u8[e] is the kind of
    the site (see paths.Kind). ``first`` i64[e] is the index of the first time among the transfers of the run,
    ``step`` u64[e] the step of the path at which it ended. Bit i of ``stretches`` u32[e] is set where it was
    taken in stretch i.
    """

    site: U64
    target: U64
    kind: U8
    first: I64
    step: U64
    stretches: U32

    def __len__(self) -> int:
        return len(self.site)


@dataclass(frozen=True, slots=True)
class Ways:
    """Ways from transfers into the kernel, n distinct ones, by the time at which they were first gone.

    Soon after the transfer in row ``taken`` u32[n], the kernel was entered by the block with the token
    ``entry`` u64[n] (as a site). ``first`` i64[n] is the index of the transfer after the entry; bit i of
    ``stretches`` u32[n] is set where the way was gone in stretch i.
    """

    taken: U32
    entry: U64
    first: I64
    stretches: U32

    def __len__(self) -> int:
        return len(self.taken)


@dataclass(frozen=True, slots=True, repr=False)
class Digest:
    """What a verdict needs to know of a run; ``approaches`` is None where nobody looked, or there are too
    many."""

    about: About
    taken: Taken
    ways: Ways
    approaches: Approaches | None = None

    def __repr__(self) -> str:
        return (
            f"<Digest: {len(self.taken):,} distinct of {self.about.transfers:,} transfers, "
            f"{self.about.label}>"
        )

    def module_of(self, token: int) -> tuple[str | None, int]:
        """Path of the module of a block's token (None: it lies in none), and the offset in it."""
        for upper, path in self.about.modules:
            if upper == token >> 32:
                return path, token & 0xFFFFFFFF
        return None, token
