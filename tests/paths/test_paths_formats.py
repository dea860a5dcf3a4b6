"""Parsed traces: the original's rows and Parquet, there and back."""

import gzip
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from barnum.errors import ParsedTraceError
from barnum.paths import Blocks, Gap, GapDetails, Kind, open_path, parquet, rows
from barnum.paths import Path as WholePath
from barnum.paths.parquet import Ending, write_parquet
from barnum.paths.rowwriter import texts_of, write_rows

PUBLISHED = {
    "44a7851c6f204ed156203b178f1d59a7c0e02b26a447fef7be648c5366aa4312": 755_373,
    "4a1addfbbe63dbdf5e69231da7beb4324d79f42bb62c8e75edc5a964e7b22ab3": 649_270,
}


def row(
    source: int, target: int, text: bytes, mnemonic: bytes | None = None, words: int | None = None
) -> bytes:
    name = text.split(b" ")[0] if mnemonic is None else mnemonic
    count = len(text.split(b" ")) if words is None else words
    body = struct.pack("<QQBBB", source, target, len(name), len(text), count) + name + text
    return struct.pack("<H", len(body)) + body


def write_gz(file: Path, *rows: bytes) -> Path:
    file.write_bytes(gzip.compress(b"".join(rows), compresslevel=1))
    return file


def to_parquet(reader, file: Path) -> Path:
    write_parquet(file, reader.chunks(), lambda: Ending(reader.blocks, reader.header, reader.gaps))
    return file


def to_gz(reader, file: Path) -> Path:
    write_rows(file, reader.chunks(), texts_of(reader.blocks), imported=True)
    return file


def inflated(file: Path) -> bytes:
    return gzip.decompress(file.read_bytes())


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_rows_survive_every_way_there_and_back(name, data_dir, tmp_path):
    file = data_dir / "acrobat" / "traces" / name / "trace_parsed.gz"
    reader = open_path(file)
    assert reader.header["statistics"]["rows"] == PUBLISHED[name]
    assert reader.rows == PUBLISHED[name] + 1
    original = inflated(file)
    assert inflated(to_gz(reader, tmp_path / "a.gz")) == original
    parquet = open_path(to_parquet(reader, tmp_path / "a.parquet"))
    assert parquet.rows == reader.rows
    assert inflated(to_gz(parquet, tmp_path / "b.gz")) == original
    assert (tmp_path / "a.parquet").stat().st_size < 0.5 * reader.rows


def test_equal_rows_are_equal_files_whatever_they_are_called(tmp_path):
    reader = open_path(write_gz(tmp_path / "in.gz", row(0, 5, b"ret\n"), row(5, 7, b"jmp rax\n")))
    files = [to_gz(reader, tmp_path / name) for name in ("a.gz", ".trace_parsed.gz.0f")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_published_rows_name_modules_and_kinds(data_dir):
    name = next(iter(PUBLISHED))
    path = open_path(data_dir / "acrobat" / "traces" / name / "trace_parsed.gz").read()
    assert "\\Windows\\System32\\ntdll.dll" in path.blocks.modules
    texts = {text.strip(): kind for text, kind in zip(path.blocks.text, path.blocks.kind, strict=True)}
    assert texts["ret"] == Kind.RETURN
    assert texts["call qword ptr [rsp+0x70]"] == Kind.INDIRECT_CALL
    assert texts["jmp dword ptr [edx*4+0x78145124]"] == Kind.INDIRECT_JUMP
    assert texts["loopne 0x773fe841"] == Kind.CONDITIONAL
    assert path.blocks.bbid[path.block[0]] == 0


def test_first_row_gives_first_block_and_last_target_is_a_step(tmp_path):
    file = write_gz(tmp_path / "a.gz", row(0, 7, b"ret \n"), row(7, 9, b"jmp eax\n"))
    path = open_path(file).read()
    assert path.blocks.bbid[path.block].tolist() == [0, 7, 9]
    assert path.gap.tolist() == [Gap.START, 0, 0]
    assert [path.blocks.text[i] for i in path.block] == ["ret \n", "jmp eax\n", ""]


def test_rows_that_do_not_follow_each_other_are_gaps(tmp_path):
    rows = [row(0, 1, b"ret \n"), row(5, 6, b"ret \n"), row(0, 1, b"ret \n"), row(1, 2, b"nop\n")]
    path = open_path(write_gz(tmp_path / "a.gz", *rows)).read()
    assert path.blocks.bbid[path.block].tolist() == [0, 1, 5, 6, 0, 1, 2]
    assert path.gap.tolist() == [Gap.START, 0, Gap.LOST, 0, Gap.START, 0, 0]
    assert inflated(to_gz(open_path(tmp_path / "a.gz"), tmp_path / "b.gz")) == b"".join(rows)


def test_rows_that_never_follow_each_other_take_little_memory(tmp_path):
    count = 200_000
    file = write_gz(tmp_path / "a.gz", row(5, 6, b"ret \n") * count)
    tracemalloc.start()
    try:
        reader = open_path(file, {})
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert reader.rows == 2 * count
    assert peak < 200 * count
    path = reader.read()
    assert path.gap.tolist() == [Gap.START, 0] + [Gap.LOST, 0] * (count - 1)
    assert path.blocks.bbid[path.block].tolist() == [5, 6] * count


@pytest.mark.parametrize(
    ("bound", "message"), [("MAX_BREAKS", "do not follow"), ("MAX_TEXT", "distinct blocks")]
)
def test_rows_beyond_bounds_are_refused(tmp_path, monkeypatch, bound, message):
    file = write_gz(tmp_path / "a.gz", *(row(2 * i, 3, b"ret \n") for i in range(20)))
    assert open_path(file, {}).rows == 40
    monkeypatch.setattr(rows, bound, 10)
    with pytest.raises(ParsedTraceError, match=message):
        open_path(file, {})


texts = st.one_of(
    st.sampled_from([b"ret \n", b"call eax\n", b"jz 0x40\n", b"nop\n", b"jmp qword ptr [rax]\n", b""]),
    st.binary(max_size=255),
)
bbids = st.one_of(st.integers(0, 5), st.integers(0, 2**64 - 1))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(bbids, bbids, texts, st.binary(max_size=255), st.integers(0, 255)), min_size=1, max_size=40
    )
)
def test_any_rows_come_back_byte_for_byte(tmp_path, fields):
    rows = [row(source, target, text, name, words) for source, target, text, name, words in fields]
    reader = open_path(write_gz(tmp_path / "a.gz", *rows))
    assert inflated(to_gz(reader, tmp_path / "b.gz")) == b"".join(rows)
    parquet = open_path(to_parquet(reader, tmp_path / "a.parquet"))
    assert inflated(to_gz(parquet, tmp_path / "c.gz")) == b"".join(rows)
    one, other = reader.read(), parquet.read()
    assert np.array_equal(one.block, other.block)
    assert np.array_equal(one.gap, other.gap)
    assert one.blocks.text == other.blocks.text


def test_chunks_of_any_size_are_the_same_path(tmp_path):
    rows = [row(i % 50, (i + 1) % 50 if i % 17 else 3, b"ret \n") for i in range(500)]
    gz = open_path(write_gz(tmp_path / "a.gz", *rows))
    parquet = open_path(to_parquet(gz, tmp_path / "a.parquet"))
    whole = gz.read()
    for reader in (gz, parquet):
        for size in (1, 7, 500, 10_000):
            chunks = list(reader.chunks(size))
            assert max(len(chunk.block) for chunk in chunks) <= size
            for index, column in enumerate((whole.block, whole.gap, whole.stream)):
                assert np.array_equal(np.concatenate([chunk[index] for chunk in chunks]), column)


def test_rows_across_pieces_of_the_stream_are_whole(tmp_path):
    # more than one piece of decompressed bytes
    rows = [row(i, i + 1, b"jmp qword ptr [rax+0x%x]\n" % (i % 4000)) for i in range(120_000)]
    reader = open_path(write_gz(tmp_path / "a.gz", *rows))
    assert reader.rows == 120_001
    assert inflated(to_gz(reader, tmp_path / "b.gz")) == b"".join(rows)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"some text", "neither Parquet nor gzip"),
        (b"PAR1", "too short"),
        (b"PAR1" + bytes(100), "cut short or is something else"),
        (b"PAR1" + bytes(100) + struct.pack("<I", 1 << 31) + b"PAR1", "footer claims"),
        (gzip.compress(b""), "no rows"),
        (gzip.compress(row(0, 1, b"ret \n"))[:-9], "cut short"),
        (gzip.compress(row(0, 1, b"ret \n")[:-1]), "cut short"),
        (gzip.compress(row(0, 1, b"ret \n") + b"\xff\xff" + bytes(100)), "row 1 claims 65535"),
        (gzip.compress(b"\x30\x00" + row(0, 1, b"ret \n")[2:] + bytes(40)), "not as long as it says"),
        (gzip.compress(bytes(1 << 20)), "row 0 claims 0"),
        (b"\x1f\x8b" + bytes(50), "not a readable gzip"),
    ],
    # gzip stamps the time, so the content cannot name the test
    ids=lambda value: value if isinstance(value, str) else "file",
)
def test_broken_files_say_what_is_wrong(tmp_path, content, message):
    file = tmp_path / "trace_parsed.any"
    file.write_bytes(content)
    with pytest.raises(ParsedTraceError, match=message) as caught:
        open_path(file).read()
    assert "\n" not in str(caught.value)
    assert str(file) in str(caught.value)


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(ParsedTraceError, match="No such file"):
        open_path(tmp_path / "none.parquet")


def test_parquet_of_others_is_refused(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = tmp_path / "a.parquet"
    pq.write_table(pa.table({"x": [1, 2]}), file)
    with pytest.raises(ParsedTraceError, match="other columns"):
        open_path(file)


@pytest.mark.parametrize(
    ("header", "first", "spawn"),
    [
        ({}, 3, None),
        ({"streams": []}, 3, None),
        ({"streams": [{"steps": 2}, {"steps": 1}], "spawn": None}, 2, None),
        ({"streams": [{"steps": 3}], "spawn": 3}, 3, 3),
        ({"streams": [{}], "spawn": 0}, 3, 0),
    ],
)
def test_landmarks_of_a_path(tmp_path, header, first, spawn):
    seed = open_path(write_gz(tmp_path / "a.gz", row(0, 7, b"ret \n"), row(7, 9, b"jmp eax\n")))
    assert (seed.first_stream, seed.spawn) == (3, None)
    ending = Ending(seed.blocks, {"schema": 1, **header}, seed.gaps)
    write_parquet(tmp_path / "a.parquet", seed.chunks(), lambda: ending)
    reader = open_path(tmp_path / "a.parquet")
    assert (reader.first_stream, reader.spawn) == (first, spawn)


@pytest.mark.parametrize("value", [-1, 4, 1 << 70, 0.5, "1", True, [], {}])
def test_landmarks_out_of_the_path_are_named(tmp_path, value):
    seed = open_path(write_gz(tmp_path / "a.gz", row(0, 7, b"ret \n"), row(7, 9, b"jmp eax\n")))
    for header in ({"spawn": value}, {"streams": [{"steps": value}]}):
        ending = Ending(seed.blocks, {"schema": 1, **header}, seed.gaps)
        write_parquet(tmp_path / "a.parquet", seed.chunks(), lambda ending=ending: ending)
        with pytest.raises(ParsedTraceError, match="that is no step of its 3") as caught:
            open_path(tmp_path / "a.parquet")
        assert "\n" not in str(caught.value)


def sample_parquet(tmp_path: Path) -> Path:
    rows = [row(i % 9, (i + 1) % 9, b"jmp [r%d]\n" % (i % 9)) for i in range(300)]
    return to_parquet(open_path(write_gz(tmp_path / "seed.gz", *rows)), tmp_path / "seed.parquet")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_damaged_files_never_do_more_than_refuse(tmp_path, data):
    seed = tmp_path / "seed.parquet"
    if not seed.exists():
        sample_parquet(tmp_path)
    name = data.draw(st.sampled_from(["seed.parquet", "seed.gz", "raw"]))
    content = bytearray(inflated(tmp_path / "seed.gz") if name == "raw" else (tmp_path / name).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content) - 1))
        kind = data.draw(st.sampled_from(["flip", "cut", "insert", "zero"]))
        if kind == "flip":
            content[at] ^= data.draw(st.integers(1, 255))
        elif kind == "cut":
            del content[at : at + data.draw(st.integers(1, 50))]
        elif kind == "insert":
            content[at:at] = data.draw(st.binary(max_size=20))
        else:
            content[at : at + 8] = bytes(8)
        if not content:
            break
    file = tmp_path / "damaged"
    file.write_bytes(gzip.compress(bytes(content)) if name == "raw" else content)
    try:
        reader = open_path(file)
        path = reader.read()
    except ParsedTraceError as error:
        assert "\n" not in str(error)
        return
    assert len(path.block) == reader.rows
    assert int(path.block.max(initial=0)) < max(len(path.blocks), 1)


def test_a_table_that_claims_to_inflate_without_bound_is_refused(tmp_path):
    import base64

    import pyarrow as pa

    from barnum.paths import tables

    many = pa.record_batch([pa.array(np.zeros(1 << 20, np.uint64))] * 6, names=tables.GAPS.names)
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with pa.ipc.new_stream(sink, many.schema, options=options) as writer:
        writer.write_batch(many)
    packed = base64.b64encode(sink.getvalue())
    assert len(packed) < 100_000
    limit, tables.MAX_TABLE = tables.MAX_TABLE, 1 << 20
    try:
        with pytest.raises(ParsedTraceError, match="would take more than"):
            tables.unpack_gaps(packed)
    finally:
        tables.MAX_TABLE = limit


@st.composite
def paths(draw):
    count = draw(st.integers(1, 30))
    steps = draw(st.integers(0, 300))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    modules = tuple(draw(st.lists(st.text(max_size=20), max_size=4, unique=True)))
    blocks = Blocks(
        bbid=random.integers(0, 2**64, count, np.uint64),
        kind=random.integers(0, 9, count, np.uint8),
        module=random.integers(-1, len(modules), count, np.int32),
        modules=modules,
        offset=random.integers(0, 2**64, count, np.uint64),
        start=random.integers(0, 2**64, count, np.uint64),
        length=random.integers(0, 2**32, count, np.uint32),
        count=random.integers(0, 2**32, count, np.uint32),
        process=random.integers(0, 2**16, count, np.uint16),
    )
    gaps = draw(st.integers(0, 5))
    return WholePath(
        blocks,
        random.integers(0, count, steps, np.uint32),
        random.integers(0, 8, steps, np.uint8),
        random.integers(0, 2**16, steps, np.uint16),
        {"schema": 1, "source": "pt", "name": draw(st.text(max_size=30))},
        GapDetails(
            *(random.integers(0, 200, gaps).astype(kind) for kind in ("u8", "u1", "u2", "u8", "u8", "u8"))
        ),
    )


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(paths(), st.integers(1, 100), st.integers(1, 64))
def test_any_decoded_path_comes_back_from_parquet(tmp_path, path, size, group):
    file = tmp_path / "a.parquet"
    before, parquet.ROW_GROUP = parquet.ROW_GROUP, group
    try:
        ending = Ending(path.blocks, path.header, path.gaps)
        assert write_parquet(file, path.chunks(size), lambda: ending) == len(path)
    finally:
        parquet.ROW_GROUP = before
    back = open_path(file).read()
    assert back.header == path.header
    for column in ("block", "gap", "stream"):
        assert np.array_equal(getattr(back, column), getattr(path, column))
    for column in ("bbid", "kind", "offset", "start", "length", "count", "process", "module"):
        assert np.array_equal(getattr(back.blocks, column), getattr(path.blocks, column))
    assert back.blocks.modules == path.blocks.modules
    for column in ("step", "cause", "stream", "offset", "address", "bytes_lost"):
        assert np.array_equal(getattr(back.gaps, column), getattr(path.gaps, column))
