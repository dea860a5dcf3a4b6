"""Samples as drcov files, read by a reader of its own."""

from __future__ import annotations

import gzip
from collections import Counter
from pathlib import Path

import iced_x86
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import barnum
from barnum.errors import ParsedTraceError
from barnum.paths import Blocks, Chunk, Gap, GapDetails
from barnum.paths.parquet import Ending, write_parquet
from barnum.samples import Engine, Info, Meta, ProcessMeta, write_info, write_meta
from drcov_reader import Drcov, Module, read_drcov
from learning import barnum as run
from paths_tools import BASE, make_images, make_sample
from recording import document, samples, trace

FAR = 1 << 32


def table(*blocks, modules=("/bin/a", "/lib/b.so"), base=(0x400000, 0x7F0000000000), process=None) -> Blocks:
    """A table of blocks (module, offset, length); -1 is none."""
    module, offset, length = (np.array(column, object) for column in zip(*blocks, strict=True))
    start = [(at + (base[m % len(base)] if m >= 0 else 0)) % (1 << 64) for m, at, _ in blocks]
    none = np.zeros(len(blocks), np.uint32)
    return Blocks(
        bbid=np.arange(len(blocks), dtype=np.uint64),
        kind=none.astype(np.uint8),
        module=module.astype(np.int32),
        modules=tuple(modules),
        offset=offset.astype(np.uint64),
        start=np.array(start, np.uint64),
        length=length.astype(np.uint32),
        count=none,
        process=np.array(process if process is not None else none, np.uint16),
    )


MAPS = (
    "400000-402000 r-xp 00000000 00:00 0 /bin/a\n7f0000000000-7f0000200000 r-xp 00003000 00:00 0 /lib/b.so\n"
)


def write(folder: Path, blocks: Blocks, steps=None, maps: str | None = MAPS, rows: int = 3) -> Path:
    """A sample whose path goes through the blocks of these numbers (all), in chunks of some rows."""
    folder.mkdir(exist_ok=True)
    write_info(folder / "info.txt", Info("a.pdf", "benign"))
    if maps is not None:
        (folder / "mapping.txt").write_text(maps)
    block = np.array(range(len(blocks)) if steps is None else steps, np.uint32)
    gap = np.zeros(len(block), np.uint8)
    gap[:1] = Gap.START
    chunk = Chunk(block, gap, np.zeros(len(block), np.uint16))
    chunks = [chunk.part(at, at + rows) for at in range(0, len(block), rows)]
    ending = Ending(blocks, {"schema": 1}, GapDetails.empty())
    write_parquet(folder / "trace_parsed.parquet", chunks, lambda: ending)
    return folder


def exported(folder: Path, **options) -> Drcov:
    file = folder / "out.drcov"
    barnum.export(folder, file, format="drcov", force=True, **options)
    return read_drcov(file.read_bytes())


def test_the_blocks_that_ran_are_written_once(tmp_path):
    sample = make_sample(tmp_path / "traces" / "tiny")
    images = make_images(tmp_path / "extract")
    assert run("preprocess", sample, images).code == 0
    ended = run("export", "--format", "drcov", "-o", tmp_path / "run.drcov", sample)
    assert ended.code == 0, ended.err
    assert ended.out == f"{tmp_path}/run.drcov: 3 blocks of 1 modules\n"
    found = read_drcov((tmp_path / "run.drcov").read_bytes())
    assert found.flavor == "drcov-64"
    assert found.modules == [Module(BASE, BASE + 0x1000, 0, "/usr/bin/tiny")]
    # jnz; both nops and the jump; the jump alone
    assert sorted(found.blocks) == [(0, 0, 2), (0, 2, 4), (0, 4, 2)]


def test_blocks_of_a_recorded_run_are_whole_instructions_up_to_a_branch(tmp_path):
    done = trace(tmp_path, "--benign", document(tmp_path), "--", "cat", "{}")
    assert done.returncode == 0, done.stderr
    [sample] = samples(tmp_path)
    barnum.preprocess(sample, tmp_path / "extract")
    found = exported(sample.folder)
    named = {module.path: number for number, module in enumerate(found.modules)}
    cat, image = named["/usr/bin/cat"], (tmp_path / "extract" / "cat").read_bytes()
    blocks = [(at, size) for module, at, size in found.blocks if module == cat]
    assert len(blocks) > 50
    whole = 0
    for at, size in blocks:
        decoder = iced_x86.Decoder(64, image[at : at + size], ip=at)
        last = list(decoder)[-1]
        assert last.code != iced_x86.Code.INVALID
        assert last.next_ip == at + size
        whole += last.flow_control != iced_x86.FlowControl.NEXT
    # what a signal cut ends anywhere
    assert whole >= len(blocks) - 1


def test_what_did_not_run_is_left_out(tmp_path):
    blocks = table((0, 0, 4), (1, 0x10, 4), (0, 8, 4), (1, 0x20, 7))
    found = exported(write(tmp_path / "s", blocks, [3, 0, 3, 3, 0]))
    # a line in the table for what did run, and that in the order of the table of blocks
    assert [module.path for module in found.modules] == ["/bin/a", "/lib/b.so"]
    assert found.blocks == [(0, 0, 4), (1, 0x20, 7)]
    found = exported(write(tmp_path / "s", blocks, [3]))
    assert [module.path for module in found.modules] == ["/lib/b.so"]
    assert found.blocks == [(0, 0x20, 7)]
    assert exported(write(tmp_path / "s", blocks, [])) == Drcov("drcov-64", [], [])


def test_modules_are_as_the_map_has_them(tmp_path):
    sample = write(tmp_path / "s", table((0, 0x10, 4), (1, 0x100, 4)))
    assert exported(sample).modules == [
        Module(0x400000, 0x402000, 0, "/bin/a"),
        Module(0x7F0000000000, 0x7F0000200000, 0x3000, "/lib/b.so"),
    ]


@pytest.mark.parametrize(
    "maps",
    [
        None,
        "no map\n",
        "400000-400001 r-xp 00000000 00:00 0 /bin/a\n",
        "3ff000-402000 r-xp 00000000 00:00 0 /bin/a\n",
        "400000-402000 r-xp 00000000 00:00 0 /bin/other\n",
    ],
)
def test_without_a_map_that_fits_modules_reach_as_far_as_their_blocks(tmp_path, maps):
    sample = write(tmp_path / "s", table((0, 0x1FF0, 4), (0, 0x10, 4)), maps=maps)
    ended = run("export", "--format", "drcov", "-o", tmp_path / "o", sample)
    assert ended.code == 0, ended.err
    assert read_drcov((tmp_path / "o").read_bytes()).modules == [Module(0x400000, 0x401FF4, 0, "/bin/a")]
    warned = ended.logged("WARNING")
    if maps in (None, "no map\n"):
        assert len(warned) == 1 and warned[0].endswith(
            "; modules are taken to end where their last block does"
        )
    else:
        assert not warned


def test_images_tell_the_sizes_that_a_map_of_volatility_lacks(tmp_path):
    path = "\\Windows\\System32\\ntdll.dll"
    row = f"{'1234 reader.exe':30}{0x7FF800000000:#018x} {'True   True   True':19}"
    blocks = table((0, 0x10, 4), modules=(path,), base=(0x7FF800000000,))
    sample = write(tmp_path / "s", blocks, maps=f"{row:69}{path}\n")
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "ntdll.dll").write_bytes(bytes(0x5000))
    found = exported(sample, bin_dir=str(tmp_path / "images"))
    assert found.modules == [Module(0x7FF800000000, 0x7FF800005000, 0, path)]
    # without it there is no other module that would end this one
    assert exported(sample).modules[0].end > 0x7FF800005000


def write_two(folder: Path, mode: int) -> Path:
    """A sample of two processes that have the same library at different places."""
    blocks = table((0, 0x10, 4), (0, 0x10, 4), (0, 0x20, 4), modules=("/lib/b.so",), process=[0, 1, 1])
    blocks.start[:] = [0x10010, 0x50010, 0x50020]
    sample = write(folder, blocks, maps=None)
    processes = []
    for index, base in enumerate((0x10000, 0x50000)):
        name = "mapping.txt" if index == 0 else "mapping_1.txt"
        (sample / name).write_text(f"{base:x}-{base + 0x2000:x} r-xp 00000000 00:00 0 /lib/b.so\n")
        processes.append(ProcessMeta(index=index, pid=7 + index, program="/b", mapping=name, exec_mode=mode))
    write_meta(
        sample / "meta.json",
        Meta(version="1", command=("b",), engine=Engine(name="e"), start="open", processes=tuple(processes)),
    )
    return sample


@pytest.mark.parametrize("mode", [64, 32])
def test_a_module_of_several_processes_is_one(tmp_path, mode):
    found = exported(write_two(tmp_path / "s", mode))
    assert found.flavor == f"drcov-{mode}"
    assert found.modules == [Module(0x10000, 0x12000, 0, "/lib/b.so")]
    assert found.blocks == [(0, 0x10, 4), (0, 0x20, 4)]


@pytest.mark.parametrize(
    ("length", "sizes"),
    [
        (65_534, [65_534]),
        (65_535, [65_535]),
        (65_536, [65_535, 1]),
        (131_070, [65_535, 65_535]),
        (200_000, [65_535, 65_535, 65_535, 3_395]),
    ],
)
def test_long_blocks_come_in_pieces(tmp_path, length, sizes):
    found = exported(write(tmp_path / "s", table((0, 9, length), (1, 1, 2))))
    assert [size for module, _, size in found.blocks if module == 0] == sizes
    assert [at for module, at, _ in found.blocks if module == 0] == [
        9 + 65_535 * i for i in range(len(sizes))
    ]
    assert found.blocks[-1] == (1, 1, 2)


def test_what_has_no_place_is_counted(tmp_path):
    blocks = table(
        (-1, 0x999, 4),
        (0, FAR - 4, 4),
        (0, FAR - 4, 5),
        (1, FAR, 1),
        (1, (1 << 64) - 1, 9),
        (1, 3, 0),
        (1, 3, 1),
    )
    sample = write(tmp_path / "s", blocks)
    ended = run("export", "--format", "drcov", "-o", tmp_path / "o", sample)
    assert ended.code == 0, ended.err
    assert ended.out.endswith(": 2 blocks of 2 modules\n")
    file = sample / "trace_parsed.parquet"
    assert ended.logged("WARNING") == [
        f"{file}: left out 1 blocks that lie in no module",
        f"{file}: left out 3 blocks that lie beyond 4 GiB of their module",
        f"{file}: left out 1 blocks that have no length",
    ]
    assert read_drcov((tmp_path / "o").read_bytes()).blocks == [(0, FAR - 4, 4), (1, 3, 1)]


def test_more_modules_than_there_are_numbers(tmp_path):
    count = 65_537
    blocks = table(*((number, 1, 2) for number in range(count)), modules=[f"/m/{i}" for i in range(count)])
    sample = write(tmp_path / "s", blocks, range(count - 1, -1, -1), rows=1 << 20)
    ended = run("export", "--format", "drcov", "-o", tmp_path / "o", sample)
    assert ended.out.endswith(": 65,535 blocks of 65,535 modules\n")
    assert [line for line in ended.logged("WARNING") if "further modules" in line] == [
        f"{sample}/trace_parsed.parquet: left out 2 blocks that lie in further modules than the first 65,535"
    ]
    found = read_drcov((tmp_path / "o").read_bytes())
    assert found.modules[65_534].path == "/m/65534" and found.blocks[-1] == (65_534, 1, 2)


def test_lengths_that_no_program_has_are_refused(tmp_path):
    sample = write(tmp_path / "s", table(*((0, number, FAR - 1 - number) for number in range(40))))
    (tmp_path / "o").write_text("before")
    ended = run("export", "--format", "drcov", "-f", "-o", tmp_path / "o", sample)
    assert ended.code == ParsedTraceError.exit_code
    assert "its blocks claim 171,798,691,020 bytes of code" in ended.error
    assert (tmp_path / "o").read_text() == "before"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["o", "s"]


HOSTILE = [
    "/a, b, 0x1, c",
    "/a\n  1,   1, 0x0000000000000000, x",
    "/tmp/BB Table: 7 bbs\n" + "x" * 8,
    "BB Table: 1 bbs",
    "",
    "   ",
    "\u202e/gnp.exe\x1b[31m",
    "/" + "é" * 5000 + "/name.so",
    "/lib/\N{PILE OF POO}.so",
    "/bin/a\r",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_stay_in_their_line(tmp_path, name):
    found = exported(write(tmp_path / "s", table((0, 1, 2), (1, 3, 4), modules=(name, "/lib/b.so"))))
    assert found.blocks == [(0, 1, 2), (1, 3, 4)]
    assert found.modules[1].path == "/lib/b.so"


def test_names_that_readers_take_stay_as_they_are(tmp_path):
    names = ("/usr/lib/x86_64-linux-gnu/libé 2.so", "C:\\Program Files (x86)\\Reader\\AcroRd32.exe")
    found = exported(write(tmp_path / "s", table((0, 1, 2), (1, 3, 4), modules=names)))
    assert tuple(module.path for module in found.modules) == names


def test_rows_of_the_original_are_refused(tmp_path):
    sample = make_sample(tmp_path / "traces" / "tiny")
    images = make_images(tmp_path / "extract")
    assert run("preprocess", "--format", "gz", sample, images).code == 0
    ended = run("export", "--format", "drcov", "-o", tmp_path / "o", sample)
    assert ended.code == ParsedTraceError.exit_code
    assert "do not say how long blocks are: preprocess the recorded trace to Parquet" in ended.error
    # the same rows in Parquet
    rows = barnum.open_path(sample)
    ending = Ending(rows.blocks, {"schema": 1}, GapDetails.empty())
    write_parquet(sample / "trace_parsed.parquet", rows.chunks(), lambda: ending)
    ended = run("export", "--format", "drcov", "-o", tmp_path / "o", sample)
    assert "do not say how long blocks are" in ended.error
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(
    "content", [b"", b"PAR1", gzip.compress(b"x", mtime=0), b"PAR1" + bytes(100) + b"PAR1"]
)
def test_a_broken_path_leaves_nothing(tmp_path, content):
    sample = write(tmp_path / "s", table((0, 1, 2)))
    (sample / "trace_parsed.parquet").write_bytes(content)
    ended = run("export", "--format", "drcov", "-o", tmp_path / "o", sample)
    assert ended.code == ParsedTraceError.exit_code
    assert ended.error.startswith(f"{sample}/trace_parsed.parquet: ")
    assert not (tmp_path / "o").exists()


def test_what_is_not_preprocessed_is_refused(tmp_path):
    sample = make_sample(tmp_path / "tiny")
    ended = run("export", "--format", "drcov", "-o", tmp_path / "o", sample)
    assert ended.code == 10
    assert ended.error == f"{sample}: is not preprocessed: run barnum preprocess on it first"


OFFSETS = st.one_of(st.integers(0, 300), st.integers(FAR - 70_000, FAR + 10), st.integers(0, (1 << 64) - 1))
LENGTHS = st.one_of(st.integers(0, 40), st.integers(65_530, 65_540), st.integers(0, 300_000))
BLOCKS = st.lists(st.tuples(st.integers(-1, 3), OFFSETS, LENGTHS), min_size=1, max_size=30)
NAMES = st.lists(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=300), min_size=4, max_size=4, unique=True
)


@settings(max_examples=100, deadline=None)
@given(blocks=BLOCKS, names=NAMES, data=st.data())
def test_whatever_the_blocks_are(tmp_path_factory, blocks, names, data):
    steps = data.draw(st.lists(st.integers(0, len(blocks) - 1), max_size=60))
    maps = data.draw(st.sampled_from([None, MAPS, "", "400000-400001 r-xp 00000000 00:00 0 /bin/a\n"]))
    sample = write(tmp_path_factory.mktemp("d") / "s", table(*blocks, modules=names), steps, maps)
    found = exported(sample)
    ran = [
        block
        for number, block in enumerate(blocks)
        if number in steps and block[0] >= 0 and block[2] and block[1] + block[2] <= FAR
    ]
    order = list(dict.fromkeys(module for module, _, _ in ran))
    assert len(found.modules) == len(order)
    expected = []
    for module, offset, length in dict.fromkeys(ran):
        at = offset
        while at < offset + length:
            size = min(65_535, offset + length - at)
            expected.append((order.index(module), at, size))
            at += size
    assert found.blocks == expected
    # an independent count of the bytes
    assert Counter(m for m, _, _ in found.blocks).keys() == set(range(len(order)))
    assert sum(size for _, _, size in found.blocks) == sum(length for _, _, length in set(ran))
