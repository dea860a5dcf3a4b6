"""From the plugin's work folder to a sample: what is kept, and what a hostile program can write there."""

import gzip
import hashlib
import os
import shutil
import stat
import struct
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from barnum.errors import BarnumError, RecordingError
from barnum.recording.code import FilePiece, write_code
from barnum.recording.engine import EngineFiles
from barnum.recording.finish import RunDetails, finish
from barnum.recording.images import ImageStore
from barnum.recording.layout import Layout, Piece
from barnum.recording.raw import Mapped, tnt_packets
from barnum.recording.regions import Regions
from barnum.recording.run import Ended
from barnum.samples import Info, Sample, SpawnMeta
from recording import PAGE, PSB, elf_header, raw_code, raw_folder, raw_notes, raw_stream, unpack_code

ENGINE = EngineFiles({64: "/usr/bin/qemu-x86_64", 32: "/usr/bin/qemu-i386"}, "7.2.22", "/recorder.so", None)
ENDED = Ended(0, False, 0, 1.0, b"")


def _finish(raw: Path, ended: Ended = ENDED) -> Sample:
    root = raw.parent
    sample = root / "sample"
    sample.mkdir()
    (root / "extract").mkdir(exist_ok=True)
    finish(
        raw,
        sample,
        ImageStore(root / "extract"),
        RunDetails(
            info=Info("name", "benign"), engine=ENGINE, ended=ended, command=("program", "{}"), start="exec"
        ),
        lambda: None,
    )
    return Sample.open(sample)


def _line(start, end, path="", offset=0, code="x", inode=0):
    return f"{start:x}-{end:x} r-{code}p {offset:08x} fe:01 {inode}{' ' * 20 if path else ''}{path}\n"


def _code(sample: Sample, process: int = 0) -> list[tuple[int, int, bytes]]:
    name = sample.meta.processes[process].code
    return [] if name is None else unpack_code(gzip.decompress((sample.folder / name).read_bytes()))


def test_pending_branches_become_short_packets():
    assert tnt_packets(0) == tnt_packets(1) == b""
    assert tnt_packets(0b11) == bytes([0b110])
    assert tnt_packets(0b10) == bytes([0b100])
    assert tnt_packets(0b1101101) == bytes([0b11011010])
    assert tnt_packets(0b1_101101_01) == bytes([0b11011010, 0b1010])


def test_streams_are_cut_packed_and_numbered(tmp_path):
    raw = raw_folder(
        tmp_path / "raw",
        stream_0=raw_stream(b""),
        stream_3=raw_stream(PSB + b"abc", tnt=0b101),
        stream_7=raw_stream(PSB, lost=1, lost_blocks=5),
    )
    sample = _finish(raw)
    assert [stream.file for stream in sample.meta.streams] == ["trace_0.gz", "trace_1.gz"]
    assert gzip.decompress((sample.folder / "trace_0.gz").read_bytes()) == PSB + b"abc" + bytes([0b1010])
    assert [stream.bytes for stream in sample.meta.streams] == [20, 16]
    assert sample.meta.streams[1].lost == "max-size"
    assert "trace_1.gz: recording stopped at the size allowed; 5 blocks ran after that" in sample.meta.lost


def test_nothing_recorded(tmp_path):
    with pytest.raises(RecordingError, match="nothing was recorded"):
        _finish(raw_folder(tmp_path / "raw", stream_0=raw_stream(b"")))
    raw = raw_folder(tmp_path / "other" / "raw")
    (raw / "process_0").unlink()
    with pytest.raises(RecordingError, match="no process"):
        _finish(raw)


def test_disk_that_was_full_during_the_run(tmp_path):
    with pytest.raises(OSError, match="the disk was full while"):
        _finish(raw_folder(tmp_path / "raw", stream_0=raw_stream(PSB, lost=2)))


def test_processes_are_numbered_anew(tmp_path):
    raw = raw_folder(
        tmp_path / "raw",
        process_2="pid 13\nparent 0\nevent fork\nmode 64\nprogram /usr/bin/true\n",
        maps_2="@ 0\n" + _line(0x500000, 0x501000),
        code_2=raw_code((0, 0x500000, b"\xc3")),
        stream_1=raw_stream(PSB, process=2),
        process_5="pid 13\nparent 2\nevent exec\nmode 32\nprogram /bin/with space\nlost some words\n",
        maps_5="@ 0\n" + _line(0x600000, 0x601000),
        stream_2=raw_stream(PSB, process=5),
    )
    sample = _finish(raw)
    assert [(p.index, p.parent, p.event, p.exec_mode) for p in sample.meta.processes] == [
        (0, None, "start", 64),
        (1, 0, "fork", 64),
        (2, 1, "exec", 32),
    ]
    assert sample.meta.processes[2].program == "/bin/with space"
    assert [stream.process for stream in sample.meta.streams] == [0, 1, 2]
    assert [process.mapping.modules[0].base for process in sample.processes(tmp_path)] == [
        0x400000,
        0x500000,
        0x600000,
    ]
    assert sample.meta.children == 2
    assert "process 5: some words" in sample.meta.lost


_FIRST = "pid 12\nparent -1\nevent start\nmode 64\nprogram /usr/bin/true\n"


@pytest.mark.parametrize(
    ("places", "spawn"),
    [
        ({}, None),
        ({"started": (3, 16)}, SpawnMeta(stream=0, offset=16)),
        ({"starting": (3, 17)}, SpawnMeta(stream=0, offset=17)),
        ({"started": (3, 16), "starting": (3, 19)}, SpawnMeta(stream=0, offset=16)),
        ({"started": (7, 0)}, SpawnMeta(stream=1, offset=0)),
        # what only another program can have put there
        ({"started": (3, 20)}, None),
        ({"started": (3, (1 << 40) - 1)}, None),
        ({"started": (8, 16)}, None),
        ({"started": (0, 0)}, None),
        ({"started": ((1 << 24) - 2, 0)}, None),
    ],
)
def test_place_of_the_first_start_of_a_process(tmp_path, places, spawn):
    raw = raw_folder(
        tmp_path / "raw",
        process_0=raw_notes(_FIRST, **places),
        process_1="pid 13\nparent 0\nevent fork\nmode 64\nprogram /usr/bin/true\n",
        maps_1="@ 0\n" + _line(0x500000, 0x501000),
        stream_0=raw_stream(b""),
        stream_3=raw_stream(PSB + b"abc"),
        stream_7=raw_stream(PSB),
        stream_8=raw_stream(PSB, process=1),
    )
    assert _finish(raw).meta.spawn == spawn


@pytest.mark.parametrize(
    ("event", "parent", "pid", "spawn"),
    [
        ("exec", 0, 12, SpawnMeta(stream=1, offset=16)),
        ("fork", 0, 13, None),
        ("exec", 0, 13, None),
        ("exec", -1, 12, None),
    ],
)
def test_the_first_process_may_have_become_another_program(tmp_path, event, parent, pid, spawn):
    text = f"pid {pid}\nparent {parent}\nevent {event}\nmode 64\nprogram /usr/bin/true\n"
    raw = raw_folder(
        tmp_path / "raw",
        process_1=raw_notes(text, started=(1, 16)),
        maps_1="@ 0\n" + _line(0x500000, 0x501000),
        stream_1=raw_stream(PSB, process=1),
    )
    assert _finish(raw).meta.spawn == spawn


def test_code_in_images_is_left_out(tmp_path):
    file = tmp_path / "blob"
    content = os.urandom(2 * PAGE)
    file.write_bytes(content)
    base = 0x7000000
    changed = bytes([content[100] ^ 1])
    raw = raw_folder(
        tmp_path / "raw",
        maps_0=f"@ 0\n{_line(base, base + 2 * PAGE, file)}{_line(0x9000000, 0x9001000)}",
        code_0=raw_code(
            (0, base + 96, content[96:116]),
            (0, base + PAGE - 4, content[PAGE - 4 : PAGE + 4]),
            (0, 0x9000010, b"generated"),
            (1, base + 98, content[98:100] + changed + content[101:110]),
            (2, base + 96, content[96:116]),
        ),
    )
    sample = _finish(raw)
    assert _code(sample) == [
        (0, 0x9000010, b"generated"),
        (1, base + 100, changed),
        (2, base + 100, content[100:101]),
    ]
    assert (tmp_path / "extract" / "blob").read_bytes() == content
    [process] = sample.processes(tmp_path / "extract")
    assert [module.path for module in process.mapping.modules] == [str(file), "/anon/9000000"]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(st.integers(0, 1), st.integers(0, 3 * PAGE), st.binary(min_size=1, max_size=40)),
        max_size=40,
    ),
    st.booleans(),
)
def test_a_reader_sees_every_byte_that_ran(tmp_path, records, with_image):
    image = tmp_path / "image"
    content = bytes(range(256)) * 32
    image.write_bytes(content)
    pieces = [FilePiece(0x10000, 0x10000 + len(content), image, 0)] if with_image else []
    epoch = 0
    written = []
    # within one epoch an address has one value, so each record gets an epoch of its own
    for step, offset, data in records:
        epoch += 1 + step
        written.append((epoch, 0x10000 + offset, data))
    target = tmp_path / "code.gz"
    kept = write_code(target, written, pieces, lambda: None)
    read = unpack_code(gzip.decompress(target.read_bytes())) if kept else []
    assert target.exists() == kept
    assert [record[0] for record in read] == sorted(record[0] for record in read)
    for epoch, address, data in written:
        seen = dict(enumerate(content, 0x10000)) if with_image else {}
        for at, start, part in read:
            if at <= epoch:
                seen.update(enumerate(part, start))
        assert bytes(seen[address + index] for index in range(len(data))) == data
    target.unlink(missing_ok=True)


def test_no_byte_is_kept_twice(tmp_path):
    records = [(0, 0x1000 + at, bytes(range(at, at + 30))) for at in range(100)]
    write_code(tmp_path / "code.gz", records, [], lambda: None)
    read = unpack_code(gzip.decompress((tmp_path / "code.gz").read_bytes()))
    assert read == [(0, 0x1000, bytes(range(129)))]


def _elf(folder: Path) -> Path:
    """A library of two segments, the second a page further in memory than in the file."""
    row = struct.Struct("<IIQQQQQQ")
    rows = [
        row.pack(1, 5, 0, 0, 0, PAGE + 10, PAGE + 10, PAGE),
        row.pack(1, 6, PAGE + 0x800, 3 * PAGE + 0x800, 0, 0x100, 0x5000, PAGE),
    ]
    head = struct.pack("<HHIQQQIHHHHHH", 3, 62, 1, 0x100, 64, 0, 0, 64, 56, len(rows), 0, 0, 0)
    content = b"\x7fELF\2\1\1" + bytes(9) + head + b"".join(rows)
    file = folder / "lib.so"
    file.write_bytes(content.ljust(PAGE, b"\xaa").ljust(2 * PAGE, b"\xbb"))
    return file


@pytest.mark.parametrize(
    "maps",
    [
        [(0, 2, 0, "x"), (3, 4, 1, "-")],
        [(0, 1, 0, "x"), (1, 2, 1, "x"), (3, 4, 1, "-")],
        # the loader reserves it all with one mapping first; the map may be read just then
        [(0, 4, 0, "x")],
        [(1, 2, 1, "x")],
        [(0, 2, 0, "-"), (1, 2, 1, "x")],
    ],
)
def test_image_does_not_depend_on_when_the_map_was_read(tmp_path, maps):
    file = _elf(tmp_path)
    base = 0x7F0000000000
    lines = "".join(
        _line(base + start * PAGE, base + end * PAGE, file, offset * PAGE, code)
        for start, end, offset, code in maps
    )
    sample = _finish(raw_folder(tmp_path / "raw", maps_0=f"@ 0\n{lines}"))
    content = file.read_bytes()
    expected = content + bytes(PAGE) + (content[PAGE : PAGE + 0x900].ljust(PAGE, b"\0"))
    assert (tmp_path / "extract" / "lib.so").read_bytes() == expected
    [process] = sample.processes(tmp_path / "extract")
    [module] = process.mapping.modules
    assert module.base == base
    assert module.end <= base + len(expected)


def test_a_file_loaded_twice_is_one_module_in_two_places(tmp_path):
    file = _elf(tmp_path)
    lines = "".join(
        _line(base, base + 2 * PAGE, file) + _line(base + 3 * PAGE, base + 4 * PAGE, file, PAGE, "-")
        for base in (0x10000000, 0x20000000)
    )
    sample = _finish(raw_folder(tmp_path / "raw", maps_0=f"@ 0\n{lines}"))
    [process] = sample.processes(tmp_path / "extract")
    modules = process.mapping.modules
    assert [(module.path, module.base) for module in modules] == [
        (str(file), 0x10000000),
        (str(file), 0x20000000),
    ]
    assert sample.image_path(modules[1], tmp_path / "extract") == tmp_path / "extract" / "lib.so"


def test_a_file_loaded_twice_that_a_reader_would_take_for_one(tmp_path):
    file = _elf(tmp_path)
    lines = "".join(_line(base, base + 2 * PAGE, file) for base in (0x10000000, 0x20000000))
    sample = _finish(raw_folder(tmp_path / "raw", maps_0=f"@ 0\n{lines}"))
    [process] = sample.processes(tmp_path / "extract")
    modules = process.mapping.modules
    assert [module.path for module in modules] == [str(file), f"{file}#2"]
    assert {sample.image_path(module, tmp_path / "extract") for module in modules} == {
        tmp_path / "extract" / "lib.so"
    }


def test_unloaded_library_keeps_its_name(tmp_path):
    file = _elf(tmp_path)
    base = 0x10000000
    maps = (
        f"@ 0\n{_line(base, base + 2 * PAGE, file)}"
        f"@ 0\n{_line(0x400000, 0x401000)}"
        f"@ 0\n{_line(base, base + PAGE, '/some/data', 0, '-')}"
    )
    sample = _finish(raw_folder(tmp_path / "raw", maps_0=maps))
    [process] = sample.processes(tmp_path / "extract")
    assert process.mapping.find(base + 0x100).path == str(file)


def test_another_library_in_its_place_takes_the_name_but_code_stays_right(tmp_path):
    files = []
    for name in "ab":
        (tmp_path / name).mkdir()
        files.append(tmp_path / name / f"{name}.bin")
        files[-1].write_bytes(name.encode() * (2 * PAGE))
    base = 0x10000000
    maps = (
        f"@ 0\n{_line(base, base + 2 * PAGE, files[0])}"
        f"@ 1\n{_line(base + PAGE, base + 2 * PAGE, files[1], PAGE)}"
    )
    code = raw_code((0, base + 10, b"aaa"), (0, base + PAGE, b"aaa"), (1, base + PAGE, b"bbb"))
    sample = _finish(raw_folder(tmp_path / "raw", maps_0=maps, code_0=code))
    [process] = sample.processes(tmp_path / "extract")
    assert process.mapping.find(base + 10).path == str(files[0])
    assert process.mapping.find(base + PAGE).path == str(files[1])
    assert _code(sample) == [(0, base + PAGE, b"aaa"), (1, base + PAGE, b"bbb")]


def test_module_interrupted_by_another_is_not_misread(tmp_path):
    files = []
    for name in "ab":
        files.append(tmp_path / f"{name}.bin")
        files[-1].write_bytes(name.encode() * (3 * PAGE))
    base = 0x10000000
    maps = f"@ 0\n{_line(base, base + 3 * PAGE, files[0])}{_line(base + PAGE, base + 2 * PAGE, files[1])}"
    code = raw_code((0, base + 2 * PAGE, b"aaa"))
    sample = _finish(raw_folder(tmp_path / "raw", maps_0=maps, code_0=code))
    [process] = sample.processes(tmp_path / "extract")
    assert process.mapping.find(base + 2 * PAGE).path == f"/anon/{base + 2 * PAGE:x}"
    assert _code(sample) == [(0, base + 2 * PAGE, b"aaa")]


def test_special_regions(tmp_path):
    maps = "@ 0\n" + "".join(
        [
            _line(0x10000, 0x11000, "[heap]", 0, "-"),
            _line(0x20000, 0x21000, "[heap]"),
            _line(0x30000, 0x31000, "/anon/30000"),
            _line(0x31000, 0x32000, ""),
            _line(0x40000, 0x41000, "/memfd:jit (deleted)", 0x1000),
            _line(0x50000, 0x51000, "/gone/lib.so (deleted)"),
            _line(0x60000, 0x61000, "/dev/zero"),
            _line(0x7FFF0000, 0x7FFF1000, "[vdso]"),
            _line(0xFFFFFFFFFF600000, 0xFFFFFFFFFF601000, "[vsyscall]"),
        ]
    )
    sample = _finish(raw_folder(tmp_path / "raw", maps_0=maps))
    [process] = sample.processes(tmp_path / "extract")
    assert [(module.path, module.end - module.base) for module in process.mapping.modules] == [
        ("[heap]", PAGE),
        ("/anon/30000", 2 * PAGE),
        ("/memfd:jit", PAGE),
        ("/gone/lib.so", PAGE),
        ("/dev/zero", PAGE),
        ("[vdso]", PAGE),
    ]
    assert list((tmp_path / "extract").iterdir()) == []
    assert sum("no image of" in sentence for sentence in sample.meta.lost) == 3


@pytest.mark.parametrize(
    "name", ["..", "...", "new\\012line", "-rf", ".hidden", "x" * 255, "\x1b[31m", "ü", "image (deleted)"]
)
def test_hostile_names_stay_in_the_folder(tmp_path, name):
    folder = tmp_path / "inner"
    folder.mkdir()
    real = folder / name.replace("\\012", "\n")
    if name != "..":
        real.write_bytes(b"\x90" * PAGE)
    sample = _finish(raw_folder(tmp_path / "raw", maps_0=f"@ 0\n{_line(0x10000, 0x11000, folder / name)}"))
    [process] = sample.processes(tmp_path / "extract")
    files = list((tmp_path / "extract").iterdir())
    assert len(files) == (name != "..")
    for file in files:
        assert file.read_bytes() == b"\x90" * PAGE
        assert len(file.name.encode()) <= 255
        assert file.name.isprintable()
        assert sample.image_path(process.mapping.modules[0], tmp_path / "extract") == file
    assert {entry.name for entry in tmp_path.iterdir()} == {"inner", "raw", "extract", "sample"}


def test_images_of_one_name(tmp_path):
    store = ImageStore(tmp_path / "extract")
    store.folder.mkdir()
    (store.folder / "link").symlink_to("/etc/passwd")
    images = []
    for number, name in enumerate(("lib", "lib", "lib", "link", "x" * 255, "x" * 255)):
        source = tmp_path / f"source{number}"
        source.write_bytes(bytes([number // 2]) * 100)
        with source.open("rb") as file:
            images.append(store.add(file.fileno(), Layout((Piece(0, 0, 100),), PAGE), f"/some/{name}"))
    assert images[0].file == images[1].file == "lib"
    assert images[2].file == f"lib.{images[2].sha256[:16]}"
    assert images[3].file == f"link.{images[3].sha256[:16]}"
    assert (images[4].file, images[5].file) == ("x" * 255, "x" * 255)
    for image in images:
        data = (store.folder / image.file).read_bytes()
        assert len(data) == PAGE
        assert hashlib.sha256(data).hexdigest() == image.sha256
        assert stat.S_IMODE((store.folder / image.file).stat().st_mode) == 0o644
    assert len(list(store.folder.iterdir())) == 5


def test_several_writers_of_one_folder(tmp_path):
    folder = tmp_path / "extract"
    folder.mkdir()
    layout = Layout((Piece(0, 0, 3 * PAGE),), 3 * PAGE)
    sources = []
    for number in range(4):
        sources.append(tmp_path / f"source{number}")
        sources[-1].write_bytes(bytes([number]) * (3 * PAGE))

    def add(number):
        # a store of its own each, as in processes of their own
        with sources[number % 4].open("rb") as file:
            return ImageStore(folder).add(file.fileno(), layout, "/usr/lib/lib.so")

    with ThreadPoolExecutor(8) as pool:
        images = list(pool.map(add, range(32)))
    assert {image.file for image in images} == {file.name for file in folder.iterdir()}
    assert len(set(images)) == 4
    for image in images:
        assert hashlib.sha256((folder / image.file).read_bytes()).hexdigest() == image.sha256


def test_another_writer_places_the_same_image_between_two_looks(tmp_path):
    folder = tmp_path / "extract"
    folder.mkdir()
    source = tmp_path / "lib.so"
    source.write_bytes(b"x" * PAGE)
    layout = Layout((Piece(0, 0, PAGE),), PAGE)
    placed = []

    class Overtaken(ImageStore):
        def _holds(self, target, size, digest):
            seen = super()._holds(target, size, digest)
            if not placed:
                with source.open("rb") as file:
                    placed.append(ImageStore(folder).add(file.fileno(), layout, "/usr/lib/lib.so"))
            return seen

    with source.open("rb") as file:
        image = Overtaken(folder).add(file.fileno(), layout, "/usr/lib/lib.so")
    assert [image] == placed
    assert [file.name for file in folder.iterdir()] == ["lib.so"]


def test_what_is_no_file_is_not_read(tmp_path):
    raw = raw_folder(tmp_path / "raw")
    secret = tmp_path / "secret"
    secret.write_bytes(raw_stream(PSB + b"secret"))
    (raw / "stream_1").symlink_to(secret)
    os.mkfifo(raw / "stream_2")
    (raw / "stream_3").mkdir()
    os.mkfifo(raw / "process_1")
    (raw / "stream_0001").write_bytes(raw_stream(PSB))
    sample = _finish(raw)
    assert len(sample.meta.streams) == 1
    assert sum("is broken" in sentence for sentence in sample.meta.lost) == 3
    os.unlink(raw / "maps_0")
    os.mkfifo(raw / "maps_0")
    shutil.rmtree(tmp_path / "sample")
    with pytest.raises(RecordingError):
        _finish(raw)


def test_notes_of_losses_become_sentences(tmp_path):
    notes = (
        "pid 12\nparent -1\nevent start\nmode 64\nprogram /usr/bin/true\nlost one thing\nuntraced /a: why\n"
        "untraced /b: why\nlost another\0\0\nstayed \nunprivileged /c: setuid\nevil \x1b\nlost \x1b[31m\n"
    )
    raw = raw_folder(tmp_path / "raw", process_0=notes)
    assert _finish(raw).meta.lost == (
        "process 0: one thing",
        "process 0: not recorded is what it started as /a: why",
        "process 0: another",
        "process 0: what it started ran without the rights of /c: setuid",
        "process 0: ?[31m",
    )


def test_notes_beyond_their_room_are_counted(tmp_path):
    head = "pid 12\nparent -1\nevent start\nmode 64\nprogram /usr/bin/true\n"
    text = (head + "lost something\n" * 20).encode()
    raw = raw_folder(tmp_path / "raw", process_0=text.ljust((16 << 10) - 8, b"\0") + struct.pack("<Q", 5))
    lost = _finish(raw).meta.lost
    assert lost == ("process 0: something",) * 16 + ("process 0: 9 more notes of this kind",)


def test_ways_that_were_not_understood_are_told(tmp_path):
    stream = bytearray(raw_stream(PSB))
    struct.pack_into("<Q", stream, 64, 3)
    [sentence] = _finish(raw_folder(tmp_path / "raw", stream_0=bytes(stream))).meta.lost
    assert sentence.startswith("trace_0.gz: 3 times it could not be told")


def test_a_map_may_grow_by_its_new_lines_alone(tmp_path):
    first, second, third = (_line(start, start + 0x1000) for start in (0x400000, 0x402000, 0x500000))
    whole = f"@ 0\n{first}{second}@ 1\n{first}{third}@ 2\n{first}{second}{third}"
    parts = f"@ 0\n{first}{second}+ 1\n{third}+ 2\n{second}"
    lines = []
    for name, maps in (("whole", whole), ("parts", parts)):
        sample = _finish(raw_folder(tmp_path / name / "raw", maps_0=maps))
        assert sample.meta.lost == ()
        lines.append(gzip.decompress((sample.folder / "mapping.txt.gz").read_bytes()))
    assert lines[0] == lines[1]


def test_bounds_of_a_map_are_told(tmp_path, monkeypatch):
    maps = "@ 0\n" + "".join(_line(0x400000 + 0x2000 * i, 0x401000 + 0x2000 * i) for i in range(10))
    monkeypatch.setattr("barnum.recording.regions._MAX_REGIONS", 4)
    lost = _finish(raw_folder(tmp_path / "regions" / "raw", maps_0=maps)).meta.lost
    assert lost == ("process 0 had more pieces of memory with code than are kept: 6 have no name",)
    monkeypatch.undo()
    monkeypatch.setattr("barnum.recording.raw._MAPS_LIMIT", 100)
    [sentence] = _finish(raw_folder(tmp_path / "bytes" / "raw", maps_0=maps)).meta.lost
    assert sentence.startswith("the memory map of process 0 changed too often")


@pytest.mark.parametrize(
    "broken",
    [
        raw_stream(PSB, size=1 << 60),
        raw_stream(PSB, size=PAGE),
        raw_stream(PSB, lost=9),
        raw_stream(PSB)[:50],
        b"",
        b"x" * 10000,
    ],
)
def test_broken_streams_are_left_out(tmp_path, broken):
    sample = _finish(raw_folder(tmp_path / "raw", stream_1=broken, stream_2=raw_stream(PSB, process=9)))
    assert len(sample.meta.streams) == 1
    assert "the header of stream 1 is broken; it is left out" in sample.meta.lost
    assert "stream 2 belongs to no known process; it is left out" in sample.meta.lost


@pytest.mark.parametrize(
    "broken",
    [
        b"x",
        raw_code((3, 0x1000, b"x"), (1, 0x1000, b"y")),
        raw_code((0, 0xFFFFFFFFFFFFFFFF, b"xy")),
        b"BRNMCODE" + struct.pack("<IIQ", 0, 1 << 31, 0x1000) + b"x",
    ],
)
def test_broken_code_ends_with_a_word(tmp_path, broken):
    sample = _finish(raw_folder(tmp_path / "raw", code_0=broken))
    assert any("was not recorded to its end" in sentence for sentence in sample.meta.lost)


_FILES = ["process_0", "maps_0", "code_0", "stream_0", "process_1", "maps_1", "code_1", "stream_1"]
_PARTS = [
    b"@ 0\n",
    b"400000-402000 r-xp 00000000 00:00 0 /usr/bin/env\n",
    b"401000-409000 r-xp 00003000 00:00 0 /usr/bin/env\n",
    b"400000-ffffffffffffffff r-xp 00000000 00:00 0 /etc/../etc/hostname\n",
    b"0-fffffffffffff000 r-xp fffffffffffff000 00:00 0 /usr/bin/env\n",
    b"pid 99999999999999999999\n",
    b"mode sixty\n",
    b"parent 1\n",
    b"BRNMCODE",
    b"BRNMPT01",
    struct.pack("<IIQ", 0, 3, 0x400000),
    struct.pack("<IIQ", 4294967295, 65536, 0xFFFFFFFFFFFF0000),
    struct.pack("<QQQ", 1 << 63, 3, 0),
    bytes((16 << 10) - 32),
    struct.pack("<QQ", 1 << 40 | 16, 2 << 40),
]


# where the second region is painted over the first, the rest of that would lie behind all offsets
_FAR = (
    b"0-fffffffffffff000 r-xp fffffffffffff000 00:00 0 /usr/bin/env\n"
    b"400000-402000 r-xp 00000000 00:00 0 /usr/bin/env\n"
)


@settings(max_examples=150, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(_FILES),
        st.lists(st.one_of(st.sampled_from(_PARTS), st.binary(max_size=80)), max_size=8).map(b"".join),
        max_size=4,
    ),
    st.integers(0, 5000),
)
@example({"maps_0": _FAR}, 4112)
def test_whatever_a_program_writes_there(files, cut):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        raw = raw_folder(folder / "raw", **files)
        os.truncate(raw / "stream_0", min(cut, (raw / "stream_0").stat().st_size))
        try:
            sample = _finish(raw)
        except BarnumError:
            pass
        else:
            assert len(sample.processes(folder / "extract")) == len(sample.meta.processes)
            assert len(sample.streams) == len(sample.meta.streams)
            if spawn := sample.meta.spawn:
                assert spawn.offset <= sample.meta.streams[spawn.stream].bytes
        assert {entry.name for entry in folder.iterdir()} == {"raw", "sample", "extract"}


_REGION = st.tuples(
    st.integers(0, 30), st.integers(1, 10), st.booleans(), st.sampled_from([b"/a", b"/b", b""])
)


@given(st.lists(_REGION, max_size=30))
def test_regions_are_painted_over_each_other(regions):
    painted = Regions()
    pages: dict[int, tuple[bytes, int, bool]] = {}
    for start, size, code, path in regions:
        painted.paint(Mapped(start * PAGE, (start + size) * PAGE, 0, code, path))
        if not code and not path:
            continue
        for page in range(start, start + size):
            if code or not pages.get(page, (b"", 0, False))[2]:
                pages[page] = (path, (page - start) * PAGE if path else 0, code)
    found = {}
    last = 0
    for region in painted.all():
        assert last <= region.start < region.end
        last = region.end
        for page in range(region.start // PAGE, region.end // PAGE):
            offset = region.offset + page * PAGE - region.start if region.path else 0
            found[page] = (region.path, offset, region.executable)
    assert found == pages


def test_elf_header_of_the_helpers_is_one(tmp_path):
    from barnum.recording.elf import read_elf

    file = tmp_path / "file"
    file.write_bytes(elf_header(interpreter="/lib/ld.so"))
    with file.open("rb") as opened:
        elf = read_elf(opened.fileno())
    assert elf is not None
    assert (elf.bits, elf.machine, elf.interpreter) == (64, 62, "/lib/ld.so")
    assert elf.segments[0].address == 0x400000
