"""``effects.json``: the system calls of a run that changed the world or left the program."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import msgspec

from barnum.errors import SampleError
from barnum.files import read_bounded, writing
from barnum.samples.meta import MAX_PROCESSES, MAX_STREAMS, Meta

_SCHEMA = 1
_LIMIT = 64 << 20
# bytes of JSON that are written: a reader takes more, so that it takes what any version wrote
MAX_TEXT = 56 << 20
MAX_EFFECTS = 1 << 16
# an escaped byte takes four characters; what is read behind a descriptor may be longer than what was given
_LONGEST = 4 * 4096
_MOST_WORDS = 64
_MOST_CALLS = 256
# what stands for the calls that there is no room to name
_OTHER = "other"

_Number = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]
_Index = Annotated[int, msgspec.Meta(ge=0, lt=MAX_PROCESSES)]
_Stream = Annotated[int, msgspec.Meta(ge=0, lt=MAX_STREAMS)]
_Call = Annotated[str, msgspec.Meta(min_length=1, max_length=32)]
_Name = Annotated[str, msgspec.Meta(max_length=1024)]
_Text = Annotated[str, msgspec.Meta(max_length=_LONGEST)]


class Effect(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A system call that changed the world or left the program, or tried to. Texts are those of
    :func:`barnum.texts.escaped`: bytes that are no printable UTF-8 are ``\\xff``.

    Attributes:
        call: name of the call, as the kernel has it.
        process: number of the process in the sample.
        thread: id of the thread, as in the description of its stream.
        stream: number of the stream in which the call was made; None if it is not in the sample.
        offset: raw bytes of that stream up to the end of the call; None if packets were lost before.
        entry: how many blocks of that stream ended far (kinds ``FAR`` and ``INDIRECT_FAR``: system calls,
            mostly) before the one that ends with this call; None if packets were lost before.
        result: what it returned; None if it failed, or did not return.
        error: name of its error, such as ``ENOENT``; None if it did not fail, or did not return.
        path: the file, folder or program, as the program named it; what a descriptor stood for.
        folder: the folder that a relative ``path`` starts from.
        target: the second name: the new one of a rename or link, what a symbolic link holds, what is
            mounted, the name of an attribute.
        target_folder: the folder that a relative ``target`` starts from.
        address: where a connection or a message goes, or comes from: ``192.0.2.1:80``, ``[2001:db8::1]:80``,
            ``unix:PATH``, ``unix:@NAME`` (abstract), ``netlink:ID``.
        arguments: words that a program was started with, its name first; at most 64, of 4,096 bytes in all.
        left_out: how many words there were beyond these.
        flags: names of its flags, joined by ``|``.
        values: its other numbers, by name, such as ``mode`` or ``signal``.
        started: number of the process, or of the program in this process, that it started.
        cut: whether a text was longer than what is kept, or could not be read to its end.
    """

    call: _Call
    process: _Index
    thread: _Number
    stream: _Stream | None = None
    offset: _Number | None = None
    entry: _Number | None = None
    result: int | None = None
    error: _Name | None = None
    path: _Text | None = None
    folder: _Text | None = None
    target: _Text | None = None
    target_folder: _Text | None = None
    address: _Text | None = None
    arguments: Annotated[tuple[_Text, ...], msgspec.Meta(max_length=_MOST_WORDS)] | None = None
    left_out: _Number = 0
    flags: _Name | None = None
    values: Annotated[dict[_Name, int], msgspec.Meta(max_length=16)] = {}
    started: _Index | None = None
    cut: bool = False

    def __str__(self) -> str:
        """The call as a line of C, nearly."""
        parts = [
            _name(self.path, self.folder),
            _name(self.target, self.target_folder),
            self.address,
            None if self.arguments is None else self._words(),
            self.flags,
            *(
                f"{name}={value:#o}" if name == "mode" else f"{name}={value}"
                for name, value in self.values.items()
            ),
        ]
        returned = self.error or ("?" if self.result is None else str(self.result))
        started = "" if self.started is None else f" (process {self.started})"
        return f"{self.call}({', '.join(part for part in parts if part)}) = {returned}{started}"

    def _words(self) -> str:
        words = [f'"{word}"' for word in self.arguments or ()]
        if self.left_out:
            words.append(f"and {self.left_out:,} more")
        return f"[{', '.join(words)}]"


def _name(text: str | None, folder: str | None) -> str | None:
    if text is None:
        return None
    return f'"{text}"' + (f' in "{folder}"' if folder else "")


class Effects(msgspec.Struct, frozen=True, kw_only=True):
    """The effects of a run, in the order in which they began: the first ``MAX_EFFECTS`` of them at most.

    ``more``: how many there were beyond those, by the name of the call (``other``: by hundreds of names).
    """

    schema: int = _SCHEMA
    more: Annotated[dict[_Call, _Number], msgspec.Meta(max_length=_MOST_CALLS)] = {}
    effects: Annotated[tuple[Effect, ...], msgspec.Meta(max_length=MAX_EFFECTS)] = ()

    @property
    def total(self) -> int:
        """Number of all effects, those included that were counted only."""
        return len(self.effects) + sum(self.more.values())


# made once, before several threads read: see evaluations/parquet.py
_EFFECTS = msgspec.json.Decoder(Effects)
_JSON = msgspec.json.Encoder()


def read_effects(file: Path, meta: Meta) -> Effects:
    """Read an ``effects.json``.

    Args:
        file: the file.
        meta: the description of the recording, which it must fit.

    Raises:
        SampleError: it cannot be read, is too large or broken, has another schema than this version reads, or
            names a process or stream that the sample lacks.
    """
    data = read_bounded(file, _LIMIT, SampleError)
    try:
        effects = _EFFECTS.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as broken:
        raise SampleError(f"{file}: is no list of effects ({broken})") from None
    if effects.schema != _SCHEMA:
        raise SampleError(f"{file}: has schema {effects.schema}, this version of barnum reads {_SCHEMA}")
    processes, streams = len(meta.processes), len(meta.streams)
    for number, effect in enumerate(effects.effects):
        started = effect.started or 0
        if effect.process >= processes or started >= processes or (effect.stream or 0) >= max(streams, 1):
            raise SampleError(f"{file}: effect {number} names a process or stream that the sample lacks")
    return effects


def write_effects(file: Path, effects: Effects) -> Effects:
    """Write an ``effects.json``, a line an effect.

    Args:
        file: the file.
        effects: what to write; more than the bounds allow is counted only.

    Returns:
        What was written.

    Raises:
        OSError: the file cannot be written.
    """
    more = dict(effects.more)
    lines: list[bytes] = []
    size = 0
    for effect in effects.effects:
        line = _JSON.encode(effect)
        if len(lines) == MAX_EFFECTS or size + len(line) > MAX_TEXT:
            break
        size += len(line) + 2
        lines.append(line)
    for effect in effects.effects[len(lines) :]:
        more[effect.call] = more.get(effect.call, 0) + 1
    if len(more) > _MOST_CALLS:
        named = sorted(more, key=lambda call: (-more[call], call))[: _MOST_CALLS - 1]
        rest = sum(count for call, count in more.items() if call not in named and call != _OTHER)
        more = {call: more[call] for call in named if call != _OTHER} | {_OTHER: more.get(_OTHER, 0) + rest}
    more = dict(sorted(more.items()))
    head: dict[str, Any] = {"schema": effects.schema, "more": more}
    with writing(file) as out:
        out.write(_JSON.encode(head)[:-1] + b',"effects":[')
        for number, line in enumerate(lines):
            out.write((b",\n" if number else b"\n") + line)
        out.write(b"\n]}\n")
    return Effects(more=more, effects=effects.effects[: len(lines)])
