"""Which mapped files a process had code in, where each lay, and what its image in the bin-dir is."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path

import msgspec

from barnum.recording.code import FilePiece
from barnum.recording.elf import PAGE, Elf, read_elf
from barnum.recording.images import ImageStore
from barnum.recording.layout import Layout, elf_layout, load_bias, mapped_layout
from barnum.recording.raw import Mapped, open_regular
from barnum.samples import Image

_DELETED = b" (deleted)"
# the kernel's page of three system calls at the top of every address space; it holds no code of its own
_VSYSCALL = 0xFFFFFFFFFF600000
# a map that a hostile program made up could name one file in any number of ways
_MAX_INSTANCES = 1024
_MAX_IMAGE_BYTES = 1 << 32


class Line(msgspec.Struct, frozen=True):
    """A line of a sample's memory map."""

    start: int
    end: int
    offset: int
    executable: bool
    path: str

    def text(self) -> str:
        """The line in the form of /proc/PID/maps, with its newline."""
        code = "r-x" if self.executable else "r--"
        return f"{self.start:08x}-{self.end:08x} {code}p {self.offset:08x} 00:00 0 {self.path}\n"


class Memory(msgspec.Struct, frozen=True):
    """Memory of a process as its sample describes it.

    Attributes:
        lines: its map, by address.
        pieces: ranges of executable addresses whose bytes the images hold.
        images: by mapped path.
        missing: paths of files with code that have no image, such as deleted ones.
    """

    lines: list[Line]
    pieces: list[FilePiece]
    images: dict[str, Image]
    missing: list[str]


class _Instance(msgspec.Struct):
    """A file at one base: its regions, lowest first, and its image, if there is one, of ``size`` bytes."""

    path: str
    base: int
    regions: list[Mapped]
    image: Image | None = None
    size: int = 0


def describe_memory(
    regions: list[Mapped], store: ImageStore, may_read: Callable[[Path], bool] | None = None
) -> Memory:
    """Name the modules of a process and put their images into the bin-dir.

    Only files and memory with code are described. A module is a run of regions of one file, with nothing else
    in between. Code that lies in no such run is described as memory without a file, named ``/anon/<start>``;
    the sample itself keeps its bytes.

    Args:
        regions: what a process had mapped.
        store: the bin-dir.
        may_read: whether a path leads us to the file that the process had mapped by it; None: all do.

    Raises:
        OSError: the bin-dir cannot be written.
    """
    by_path: dict[bytes, list[Mapped]] = defaultdict(list)
    plain: list[Mapped] = []
    for region in regions:
        if region.path.startswith(b"/") and not region.path.startswith(b"/anon/"):
            by_path[region.path].append(region)
        elif region.executable and region.start != _VSYSCALL:
            plain.append(region)
    instances: list[_Instance] = []
    missing = []
    size = 0
    for raw_path, file_regions in by_path.items():
        if not any(region.executable for region in file_regions):
            continue  # data
        path = raw_path.removesuffix(_DELETED).decode("utf-8", errors="replace")
        known = size < _MAX_IMAGE_BYTES and (may_read is None or may_read(_file_of(raw_path)))
        placed = _place(raw_path, path, file_regions, store) if known else None
        size += sum(instance.size for instance in placed or ())
        if placed is None:
            missing.append(path)
            placed = [_Instance(path, file_regions[0].start, file_regions)]
        instances += placed
    return _assemble(instances, plain, store.folder, missing)


def _place(raw_path: bytes, path: str, regions: list[Mapped], store: ImageStore) -> list[_Instance] | None:
    """The file at each of its bases, with its images; None if it can no longer be read."""
    try:
        with open_regular(_file_of(raw_path)) as descriptor:
            return _place_open(descriptor, path, regions, store)
    except _StoreError as error:
        raise error.cause from None
    except OSError:
        return None


class _StoreError(Exception):
    """Writing to the bin-dir failed. This ends the recording; a mapped file that cannot be read does not."""

    def __init__(self, cause: OSError) -> None:
        super().__init__(str(cause))
        self.cause = cause


def _place_open(
    descriptor: int, path: str, regions: list[Mapped], store: ImageStore
) -> list[_Instance] | None:
    elf = read_elf(descriptor)
    whole = elf_layout(elf) if elf is not None else None
    groups: list[tuple[int, list[Mapped], Layout]] = []
    left = regions
    if elf is not None and whole is not None:
        by_bias = _by_bias(elf, regions)
        for bias, group in by_bias.items():
            base = bias + elf.segments[0].first_page
            end = base + whole.size
            group = [_clipped(region, end) for region in group if region.start < end]
            if any(region.executable for region in group) and group[0].start >= base:
                groups.append((base, group, whole))
                left = [region for region in left if not base <= region.start < end]
    # no ELF file, or not mapped as a loader does: regions with the same address minus offset belong together
    by_distance: dict[int, list[Mapped]] = defaultdict(list)
    for region in left:
        by_distance[region.start - region.offset].append(region)
    for group in by_distance.values():
        if any(region.executable for region in group):
            layout = mapped_layout(group, os.fstat(descriptor).st_size)
            if layout is None:
                return None
            groups.append((group[0].start, group, layout))
    instances = []
    for base, group, layout in groups[:_MAX_INSTANCES]:
        try:
            image = store.add(descriptor, layout, path)
        except OSError as error:
            error.filename = error.filename or str(store.folder)
            raise _StoreError(error) from error
        instances.append(_Instance(path, base, group, image, layout.size))
    return instances


def _by_bias(elf: Elf, regions: list[Mapped]) -> dict[int, list[Mapped]]:
    """Regions of an ELF file by load bias: for each region the possible one that most of the memory fits."""
    weights: Counter[int] = Counter()
    biases_of_regions = [load_bias(elf, region) for region in regions]
    for region, biases in zip(regions, biases_of_regions, strict=True):
        for bias in biases:
            weights[bias] += (region.end - region.start) * (4 if region.executable else 1)
    by_bias: dict[int, list[Mapped]] = defaultdict(list)
    for region, biases in zip(regions, biases_of_regions, strict=True):
        if biases:
            by_bias[max(biases, key=weights.__getitem__)].append(region)
    return by_bias


def _assemble(instances: list[_Instance], plain: list[Mapped], folder: Path, missing: list[str]) -> Memory:
    """Sort all by address, and make sure that each module is one run of regions that begins at its base."""
    owned = [(region, instance) for instance in instances for region in instance.regions]
    everything: list[tuple[Mapped, _Instance | None]] = [*owned, *((region, None) for region in plain)]
    everything.sort(key=lambda entry: entry[0].start)
    lines: list[Line] = []
    pieces: list[FilePiece] = []
    images: dict[str, Image] = {}
    begun: set[int] = set()
    last: _Instance | None = None
    for region, instance in everything:
        before, last = last, instance
        if instance is None:
            _add_anonymous(lines, region)
            continue
        joins = before is instance
        if not joins and id(instance) not in begun:
            begun.add(id(instance))
            _name(instance, region, lines, images)
            filled = region.start == instance.base or _fill(lines, instance, region.start)
            joins = filled or instance.image is None
        if not joins or (lines and region.start < lines[-1].end):
            # other memory lies in between: a reader would take a wrong base
            last = None
            if region.executable and not (lines and region.start < lines[-1].end):
                _add_anonymous(lines, msgspec.structs.replace(region, path=b""))
            continue
        lines.append(Line(region.start, region.end, region.offset, region.executable, instance.path))
        if instance.image is not None:
            images[instance.path] = instance.image
            if region.executable:
                pieces.append(
                    FilePiece(
                        region.start, region.end, folder / instance.image.file, region.start - instance.base
                    )
                )
    return Memory(lines, pieces, images, missing)


def _name(instance: _Instance, first: Mapped, lines: list[Line], images: dict[str, Image]) -> None:
    """Number the path of a module that a reader would take for more of the module before, or that has another
    image than an earlier module of the same path.

    A file that was unloaded and loaded again elsewhere keeps its path: a reader sees that a new module begins
    where the offset in the file goes back.
    """
    path = instance.path
    number = 1
    while (lines and lines[-1].path == instance.path and lines[-1].offset <= first.offset) or (
        instance.image is not None and images.get(instance.path, instance.image) != instance.image
    ):
        number += 1
        instance.path = f"{path}#{number}"


def _fill(lines: list[Line], instance: _Instance, start: int) -> bool:
    """Add a line at the base of a module whose first pages are not mapped; False if there is no room."""
    if instance.image is None or (lines and lines[-1].end > instance.base) or start < instance.base:
        return False
    lines.append(Line(instance.base, min(instance.base + PAGE, start), 0, False, instance.path))
    return True


def _add_anonymous(lines: list[Line], region: Mapped) -> None:
    path = region.path.decode("utf-8", errors="replace")
    if path.startswith("["):
        lines.append(Line(region.start, region.end, 0, True, path))
        return
    before = lines[-1] if lines else None
    if before is not None and before.end == region.start and before.path.startswith("/anon/"):
        lines[-1] = msgspec.structs.replace(before, end=region.end)
        return
    lines.append(Line(region.start, region.end, 0, True, f"/anon/{region.start:x}"))


def _clipped(region: Mapped, end: int) -> Mapped:
    return region if region.end <= end else msgspec.structs.replace(region, end=end)


def _file_of(raw_path: bytes) -> Path:
    """The path of the mapped file. In maps the kernel writes a newline as \\012."""
    if raw_path.endswith(_DELETED) and not os.path.lexists(raw_path):
        raise FileNotFoundError(raw_path)
    if b"\\012" in raw_path and not os.path.lexists(raw_path):
        raw_path = raw_path.replace(b"\\012", b"\n")
    return Path(os.fsdecode(raw_path))
