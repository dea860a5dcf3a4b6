"""Which blocks the predictions of a report are about: from steps of a path to modules and instructions."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from barnum.errors import ImageError, InputError, SampleError
from barnum.paths import KINDS, Blocks, OpenPath, PathReader, iter_transfers, open_path
from barnum.paths.blocks import OFFSET_LIMIT
from barnum.paths.code import CodeReader, load_code
from barnum.paths.texts import Texts
from barnum.report.document import Place
from barnum.samples import MemoryMap, Sample
from barnum.samples.mapping import Module

U64 = NDArray[np.uint64]
I64 = NDArray[np.int64]

# the original's naming has no more classes than this, and no BBID is as small
MOST_CLASSES = 1 << 26
# blocks are straight runs of code; what claims to be longer is not disassembled
_LONGEST_BLOCK = 1 << 16
# integers that every reader of JSON has
_MAPS = ("mapping.txt.gz", "mapping.txt")


@dataclass(slots=True)
class Located:
    """Where the transfers of one sample are.

    ``position`` is the step of the target, ``source`` and ``target`` number ``blocks``, all by number of the
    prediction. ``name`` is that of the document. ``modules`` are paths by hash, ``images`` the files of their
    code by path. ``texts`` are the last instructions of source blocks, ``branches`` their offsets in the
    module. ``notes`` say what is missing.
    """

    name: str = ""
    blocks: Blocks | None = None
    position: dict[int, int] = field(default_factory=dict)
    source: dict[int, int] = field(default_factory=dict)
    target: dict[int, int] = field(default_factory=dict)
    modules: dict[int, str] = field(default_factory=dict)
    images: dict[str, str] = field(default_factory=dict)
    texts: dict[int, str] = field(default_factory=dict)
    branches: dict[int, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def trimmed(self) -> Located:
        """Without what only finding needed: it goes from process to process."""
        if self.blocks is None:
            return self
        used = sorted({*self.source.values(), *self.target.values()})
        number = {block: index for index, block in enumerate(used)}
        blocks = self.blocks
        at = np.array(used, np.int64)
        numbers = ("bbid", "kind", "module", "offset", "start", "length", "count", "process")
        columns: dict[str, Any] = {name: getattr(blocks, name)[at] for name in numbers}
        self.blocks = Blocks(modules=blocks.modules, **columns)
        self.source = {which: number[block] for which, block in self.source.items()}
        self.target = {which: number[block] for which, block in self.target.items()}
        self.texts = {number[block]: text for block, text in self.texts.items()}
        self.branches = {number[block]: offset for block, offset in self.branches.items()}
        return self

    def place(self, block: int) -> Place:
        """The block of that number."""
        assert self.blocks is not None
        module = int(self.blocks.module[block])
        offset = int(self.blocks.offset[block])
        return Place(
            block=hex_of(int(self.blocks.bbid[block])),
            module=self.blocks.modules[module] if module >= 0 else None,
            offset=offset if offset < OFFSET_LIMIT else None,
        )

    def kind(self, block: int) -> str:
        """What ends the block of that number."""
        assert self.blocks is not None
        return KINDS[int(self.blocks.kind[block])]


def hex_of(bbid: int) -> str:
    """A BBID as a report has it: JSON's readers are at a loss with 64-bit numbers."""
    return f"0x{bbid:016x}"


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which transfers of a run are to be found, t of them. ``prediction`` i64[t] ascends; ``position`` u64[t]
    are the steps of their targets, None where the evaluation does not say; ``actual`` u64[t] is what it calls
    the targets, in ``classes`` or (None) as BBIDs, which only an evaluation with positions tells apart.
    ``count`` is how many predictions the run has."""

    prediction: I64
    position: U64 | None
    actual: U64
    classes: int | None
    count: int


def locate(
    folder: Path | None, bin_dir: Path | None, wanted: Wanted, opened: OpenPath | None = None
) -> Located:
    """Find the blocks of transfers in the path of a sample folder: what ``opened`` opens, else its parsed
    trace.

    Nothing is raised: ``notes`` say what could not be found.
    """
    found = Located()
    if folder is None:
        return found
    try:
        sample = Sample.open(folder)
        parsed = sample.parsed
    except InputError as error:
        # the images are named in the sample, so without it there are none
        found.notes.append(f"Its sample folder cannot be used, so blocks are named by number alone: {error}.")
        return found
    # what a link leads to is not to be read through us
    found.name = "" if (folder / "info.txt").is_symlink() else sample.name
    _read_maps(sample, found)
    unknown = "the sources of transfers are unknown"
    if opened is not None:
        unknown = "of the sources of transfers only where they end is known"
    elif parsed is not None:
        opened = partial(_open, parsed)
    if opened is None:
        found.notes.append(
            "Its trace is not preprocessed, so that the sources of transfers are unknown: run barnum "
            "preprocess."
        )
    else:
        try:
            with opened() as reader:
                _take_modules(found, reader.blocks)
                if len(wanted.prediction):
                    position = _counted(reader, wanted) if wanted.position is None else wanted.position
                    _find_steps(reader, position, wanted, found)
        except (InputError, MemoryError) as error:
            found.notes.append(f"Its trace cannot be read, so {unknown}: {error}.")
    if found.blocks is not None and found.blocks.text is not None:
        found.texts = {block: found.blocks.text[block].strip() for block in set(found.source.values())}
    if bin_dir is not None:
        _find_images(sample, bin_dir, found)
        if found.blocks is not None and found.blocks.text is None:
            _read_texts(sample, bin_dir, found)
    return found


@contextmanager
def _open(parsed: Path) -> Iterator[PathReader]:
    yield open_path(parsed)


def _counted(reader: PathReader, wanted: Wanted) -> U64:
    """u64[t]: positions found by counting the transfers that are learnt where nothing else is said.

    Raises SampleError where their number is another.
    """
    found = np.zeros(len(wanted.prediction), np.uint64)
    count = 0
    for part in iter_transfers(reader):
        low, high = np.searchsorted(wanted.prediction, [count, count + len(part)])
        found[low:high] = part.position[wanted.prediction[low:high] - count]
        count += len(part)
    if count != wanted.count:
        raise SampleError(
            f"it has {count:,} indirect transfers and returns, {wanted.count:,} predictions were made, so "
            "these cannot be told apart without positions"
        )
    return found


def _find_steps(reader: PathReader, position: U64, wanted: Wanted, found: Located) -> None:
    """Blocks at the positions and just before."""
    if int(position.min()) < 1 or int(position.max()) >= reader.rows:
        raise SampleError("it has fewer steps than were evaluated: it is not the trace that was evaluated")
    where = position.astype(np.int64)
    steps = np.unique(np.concatenate([where - 1, where]))
    blocks = np.zeros(len(steps), np.uint32)
    gaps = np.zeros(len(steps), np.uint8)
    begin = 0
    for chunk in reader.chunks():
        low, high = np.searchsorted(steps, [begin, begin + len(chunk.block)])
        blocks[low:high] = chunk.block[steps[low:high] - begin]
        gaps[low:high] = chunk.gap[steps[low:high] - begin]
        begin += len(chunk.block)
        if high == len(steps):
            break
    at = np.searchsorted(steps, where)
    target = blocks[at]
    if not _same(reader.blocks.bbid[target], wanted) or bool(gaps[at].any()):
        raise SampleError("its steps are not those that were evaluated: evaluate this trace anew")
    found.blocks = reader.blocks
    which = wanted.prediction.tolist()
    found.position = dict(zip(which, where.tolist(), strict=True))
    found.source = dict(zip(which, blocks[np.searchsorted(steps, where - 1)].tolist(), strict=True))
    found.target = dict(zip(which, target.tolist(), strict=True))


def _same(bbid: U64, wanted: Wanted) -> bool:
    """Whether blocks are those that the evaluation names."""
    actual = wanted.actual
    if wanted.classes is not None:
        return bool((bbid % np.uint64(wanted.classes) == actual).all())
    if wanted.position is not None or int(actual.max()) >= MOST_CLASSES:
        return bool((bbid == actual).all())
    # classes whose number nobody tells: what all differences have in common is at least that
    return bool((bbid >= actual).all()) and int(np.gcd.reduce(bbid - actual)) > int(actual.max())


def _read_maps(sample: Sample, found: Located) -> None:
    """Names of modules by hash, from the sample's maps."""
    try:
        names = [process.mapping for process in sample.meta.processes] if sample.meta else list(_MAPS)
        for name in dict.fromkeys(names):
            file = sample.folder / name
            # a name out of the folder is somebody's who has no business here
            if Path(name).name == name and file.is_file():
                for module in MemoryMap.read(file).modules:
                    _take_module(found, module.path)
    except InputError as error:
        found.notes.append(f"Its memory map cannot be read: {error}.")


def _take_modules(found: Located, blocks: Blocks) -> None:
    for path in blocks.modules:
        _take_module(found, path)


def _take_module(found: Located, path: str) -> None:
    digest = zlib.adler32(path.encode("utf-8", errors="replace"))
    found.modules.setdefault(digest, path)
    # Adler-32 was a signed number in Python 2, and the original's published rows carry its absolute value
    if digest >> 31:
        found.modules.setdefault((1 << 32) - digest, path)


def _find_images(sample: Sample, bin_dir: Path, found: Located) -> None:
    missing = 0
    for path in dict.fromkeys(found.modules.values()):
        if path.startswith(("[", "/anon/")):
            continue  # no file has it
        try:
            image = sample.image_path(Module(path, 0, 0, 0, ()), bin_dir)
        except (ImageError, OSError):
            image = None
        if image is None:
            missing += 1
        else:
            found.images[path] = str(image)
    if missing:
        some = f"{missing} of its {missing + len(found.images)}" if found.images else "All of its"
        found.notes.append(
            f"{some} modules lack an image in the folder of images: functions and instructions in them are "
            "unknown."
        )


def _read_texts(sample: Sample, bin_dir: Path, found: Located) -> None:
    """Text of the instruction that ends each source block."""
    blocks = found.blocks
    assert blocks is not None
    wanted = sorted(set(found.source.values()))
    readers: dict[int, tuple[CodeReader, Texts, int]] = {}
    try:
        processes = sample.processes(bin_dir, {int(blocks.process[block]) for block in wanted})
        for process in processes:
            code = load_code(sample, process, bin_dir)
            readers[process.index] = CodeReader(code), Texts(code.mode), code.mode
    except (InputError, OSError, MemoryError) as error:
        found.notes.append(f"Its code cannot be read, so instructions are unknown: {error}.")
    for block in wanted:
        reader = readers.get(int(blocks.process[block]))
        if reader is not None:
            last = _last_instruction(*reader, int(blocks.start[block]), int(blocks.length[block]))
            if last is not None:
                found.texts[block] = last[0]
                offset = int(blocks.offset[block]) + last[1]
                if offset < OFFSET_LIMIT:
                    found.branches[block] = offset


def _last_instruction(
    code: CodeReader, texts: Texts, mode: int, start: int, length: int
) -> tuple[str, int] | None:
    """Text of the last instruction of the block at start, and how far into the block it begins; None where
    its code is unknown."""
    import iced_x86

    if not 0 < length <= _LONGEST_BLOCK or start + length > 1 << 64:
        return None
    data = code.read(start, length)
    last: Any = None
    for instruction in iced_x86.Decoder(mode, data, ip=start):
        last = instruction
    if last is None or last.is_invalid:
        return None
    begin = int(last.ip) - start
    return texts.text(data[begin:], int(last.ip)).strip(), begin
