"""Functions of images: as other tools see them, and of images that are broken."""

from __future__ import annotations

import itertools
import shutil
import struct
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from barnum.evidence.elf import linked_at, read_elf
from barnum.evidence.frames import landing_pads
from barnum.evidence.functions import Functions
from barnum.evidence.images import Image
from barnum.evidence.pe import read_pe
from barnum.recording.elf import read_elf as read_header

PROGRAMS = Path(__file__).parents[1] / "programs"
BASE = 0x7F0000000000


def laid_out(file: Path) -> np.ndarray:
    """A file as it is in memory."""
    with file.open("rb") as raw:
        header = read_header(raw.fileno())
    assert header is not None
    content = file.read_bytes()
    first = min(each.address for each in header.segments) & -4096
    image = bytearray(max(each.address + each.size for each in header.segments) - first)
    for each in header.segments:
        image[each.address - first :][: each.file_size] = b""
        at = each.address - first
        image[at : at + each.file_size] = content[each.offset : each.offset + each.file_size]
    return np.frombuffer(bytes(image), np.uint8)


def compiled(folder: Path, *words: str) -> Path:
    program = folder / "program"
    sources = [PROGRAMS / "ways.c", PROGRAMS / "exceptions.cpp"]
    subprocess.run(
        ["g++", "-x", "c++", "-O2", "-shared", "-fPIC", *words, sources[1], "-o", program], check=True
    )
    return program


@pytest.fixture(scope="module")
def library(tmp_path_factory) -> Path:
    return compiled(tmp_path_factory.mktemp("library"))


def test_functions_are_those_that_nm_lists(library):
    functions = read_elf(laid_out(library), BASE)
    lines = subprocess.run(
        ["nm", "-S", library], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    listed = [line.split() for line in lines if len(line.split()) == 4 and line.split()[2] in "tTwW"]
    assert len(listed) > 3
    whole = {name: (int(at, 16), int(size, 16)) for at, size, _, name in listed}
    for name, (at, size) in whole.items():
        (found,) = functions.find(np.array([at + size - 1], np.uint64)).tolist()
        assert (functions.begin[found], functions.end[found]) == (at, at + size), name
        # what a compiler sets apart for the rare case is called by nobody
        starts = bool(functions.at_start(np.array([at], np.uint64))[0])
        assert starts != name.endswith(".cold"), name
        assert functions.part[found] == name.endswith(".cold"), name


def test_landing_pads_are_those_that_the_assembler_lists(tmp_path):
    # the calls of the table of exceptions, with labels: each third word is where one lands, or 0
    source = PROGRAMS / "exceptions.cpp"
    text = subprocess.run(
        ["g++", "-O2", "-fno-reorder-blocks-and-partition", "-S", source, "-o", "-"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    library = compiled(tmp_path, "-fno-reorder-blocks-and-partition")
    image = laid_out(library)
    functions = read_elf(image, BASE)
    found = set()
    for number in range(len(functions)):
        if functions.entry[number] >= 0:
            pads = landing_pads(image, int(functions.entry[number]), int(functions.begin[number]))
            assert pads is not None
            assert all(functions.begin[number] <= pad < functions.end[number] for pad in pads)
            found |= pads
    names = set()
    for table in text.split(".LLSDACSB")[1:]:
        rows = [line.split()[1] for line in table.split(".LLSDACSE")[0].splitlines() if ".uleb128" in line]
        names |= {row for row in rows[2::4] if row != "0"}
    assert len(found) == len(names) > 3


def test_landing_pads_of_a_program_are_found_where_it_is_linked(tmp_path, library):
    program = tmp_path / "fixed"
    words = ["-no-pie", "-fno-pie", "-nostartfiles", "-Wl,-e,0"]
    source = PROGRAMS / "exceptions.cpp"
    subprocess.run(["g++", "-x", "c++", "-O2", *words, source, "-o", program], check=True)
    pads = []
    for file in (library, program):
        image = laid_out(file)
        functions = read_elf(image, BASE)
        found = [
            landing_pads(image, int(entry), int(begin), linked_at(image))
            for entry, begin in zip(functions.entry, functions.begin, strict=True)
            if entry >= 0
        ]
        assert None not in found
        pads.append({pad for each in found for pad in each})
        assert all(functions.find(np.array([pad], np.uint64))[0] >= 0 for pad in pads[-1])
    assert linked_at(laid_out(program)) > linked_at(laid_out(library)) == 0
    assert len(pads[0]) == len(pads[1]) > 3


def test_an_image_from_memory_has_relocated_addresses(library):
    image = laid_out(library).copy()
    plain = read_elf(image, BASE)
    at, count, size = struct.unpack_from("<Q", image, 32)[0], *struct.unpack_from("<HH", image, 56)[:1], 56
    for row in range(at, at + count * size, size):
        kind, _, _, address = struct.unpack_from("<IIQQ", image, row)
        if kind != 2:
            continue
        for tag in range(address, address + 16 * 20, 16):
            name, value = struct.unpack_from("<QQ", image, tag)
            if name in (4, 5, 6, 12, 13, 0x6FFFFEF5):
                struct.pack_into("<Q", image, tag + 8, value + BASE)
    moved = read_elf(image, BASE)
    assert moved.starts.tolist() == plain.starts.tolist()


@pytest.mark.skipif(not shutil.which("objdump"), reason="binutils is not installed")
def test_what_stands_behind_a_call(library):
    image = Image(laid_out(library), None, 64)
    lines = subprocess.run(
        ["objdump", "-d", "--no-show-raw-insn", library], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    instructions = [line.split("\t") for line in lines if "\t" in line]
    behind = 0
    for (_, text), (place, _) in itertools.pairwise(instructions):
        if text.startswith("call"):
            behind += 1
            assert image.behind_call(int(place.strip(" :"), 16)), text
    assert behind > 10


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_broken_images_are_no_trouble(library, data):
    image = laid_out(library).copy()
    whole = len(image)
    for _ in range(data.draw(st.integers(1, 30))):
        at = data.draw(st.one_of(st.integers(0, 0x400), st.integers(0, whole - 8)))
        value = data.draw(st.sampled_from([0, 1, 0x7F, 0x80, 0xFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFFFFFFFFFF]))
        image[at : at + 8] = np.frombuffer(struct.pack("<Q", value), np.uint8)
    image = image[: data.draw(st.sampled_from([0, 10, 64, 100, 0x1000, whole]))]
    begin = time.process_time()
    functions = read_elf(image, BASE)
    if functions is not None:
        assert (functions.begin < functions.end).all()
        assert (functions.end <= len(image)).all()
        assert (functions.begin[1:] >= functions.end[:-1]).all()
        for number in range(min(len(functions), 20)):
            landing_pads(image, int(functions.entry[number]), int(functions.begin[number]), linked_at(image))
    assert read_pe(image) is None
    assert time.process_time() - begin < 5


def portable(
    rows: list[tuple[int, int, int]], unwind: dict[int, int], exports: list[int], size: int
) -> np.ndarray:
    """A PE image: rows of .pdata, first bytes of unwind information, exported offsets."""
    image = bytearray(size)
    image[:2] = b"MZ"
    struct.pack_into("<I", image, 60, 0x80)
    image[0x80:0x84] = b"PE\0\0"
    struct.pack_into("<HHIIIHH", image, 0x84, 0x8664, 0, 0, 0, 0, 240, 0)
    optional = 0x98
    struct.pack_into("<H", image, optional, 0x20B)
    struct.pack_into("<I", image, optional + 16, 0x1010)
    struct.pack_into("<II", image, optional + 112, 0x400, 0x100)
    struct.pack_into("<II", image, optional + 112 + 24, 0x600, 12 * len(rows))
    struct.pack_into("<III", image, 0x400 + 20, len(exports), 0, 0x440)
    struct.pack_into(f"<{len(exports)}I", image, 0x440, *exports)
    for index, row in enumerate(rows):
        struct.pack_into("<III", image, 0x600 + 12 * index, *row)
    for at, byte in unwind.items():
        image[at] = byte
    return np.frombuffer(bytes(image), np.uint8)


def test_functions_of_a_pe_image():
    rows = [(0x1000, 0x1080, 0x800), (0x1080, 0x10C0, 0x810), (0x1100, 0x1180, 0x800)]
    # the second goes on the first one's unwind information
    image = portable(rows, {0x800: 1, 0x810: 4 << 3 | 1}, [0x1120, 0x440, 0], 0x2000)
    functions = read_pe(image)
    assert functions.starts.tolist() == [0x1000, 0x1010, 0x1100, 0x1120]
    places = np.array([0xFFF, 0x1000, 0x107F, 0x1080, 0x10BF, 0x10C0, 0x1100, 0x1180], np.uint64)
    assert functions.find(places).tolist() == [-1, 0, 0, 0, 0, -1, 2, -1]


@given(st.binary(max_size=0x700), st.lists(st.tuples(*[st.integers(0, 2**32 - 1)] * 3), max_size=20))
@settings(max_examples=100, deadline=None)
def test_broken_pe_images_are_no_trouble(noise, rows):
    image = portable(rows, {}, [], 0x1000).copy()
    image[0x98 : 0x98 + len(noise)] = np.frombuffer(noise, np.uint8)
    functions = read_pe(image)
    assert functions is None or isinstance(functions, Functions)
