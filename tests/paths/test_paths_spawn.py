"""From the byte of a stream at which a process was started to the step of the path."""

import gzip
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from barnum.errors import BarnumError
from barnum.paths import decode, open_path, packed
from barnum.paths.decode import Decoding
from barnum.paths.preprocess import Request, preprocess
from barnum.samples import Engine, Meta, ProcessMeta, Sample, SpawnMeta, StreamMeta, write_meta
from paths_tools import BASE, MODE_64, NOT_TAKEN, PGD, PSB, PSBEND, TAKEN, make_images, make_sample, pge, tip


def stretch(turns: int) -> bytes:
    """Packets from one system call to the next; the last block ends with a jump out of what is traced."""
    body = b"".join((TAKEN if turn % 3 else NOT_TAKEN) + tip(BASE) for turn in range(turns))
    return pge(BASE) + body + TAKEN + PGD


def sync() -> bytes:
    return PSB + PSBEND + MODE_64


def recorded(
    folder: Path, *streams: bytes, spawn: tuple[int, int] | None, sizes: int | None = None
) -> Sample:
    make_sample(folder, streams[0])
    for number, packets in enumerate(streams):
        (folder / f"trace_{number}.gz").write_bytes(gzip.compress(packets, 1))
    meta = Meta(
        version="1",
        command=("tiny", "{}"),
        engine=Engine(name="emulator"),
        start="exec",
        processes=(ProcessMeta(index=0, pid=7, program="/usr/bin/tiny", mapping="mapping.txt"),),
        streams=tuple(
            StreamMeta(file=f"trace_{number}.gz", process=0, thread=number, bytes=sizes or len(packets))
            for number, packets in enumerate(streams)
        ),
        spawn=None if spawn is None else SpawnMeta(stream=spawn[0], offset=spawn[1]),
    )
    write_meta(folder / "meta.json", meta)
    return Sample.open(folder)


def decoded(sample: Sample, images: Path, stop=lambda: False, streams=None) -> tuple[np.ndarray, Decoding]:
    decoding = Decoding(sample, images, streams=streams)
    chunks = list(decoding.chunks(stop))
    block = np.concatenate([chunk.block for chunk in chunks] or [np.zeros(0, np.uint32)])
    return decoding.table.arrays()["start"][block], decoding


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return make_images(tmp_path_factory.mktemp("images") / "extract")


@settings(max_examples=60, deadline=None)
@given(
    parts=st.lists(st.tuples(st.booleans(), st.integers(0, 30)), min_size=1, max_size=12),
    data=st.data(),
    piece=st.sampled_from([20, 50, 4 << 20]),
    steps=st.sampled_from([1, 9, 1 << 18]),
)
def test_the_step_is_the_number_of_steps_before(tmp_path_factory, images, parts, data, piece, steps):
    packets = sync()
    ends = []
    for synced, turns in parts:
        packets += (sync() if synced else b"") + stretch(turns)
        ends.append(len(packets))
    offset = data.draw(st.sampled_from(ends))
    folder = tmp_path_factory.mktemp("samples")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packed, "_PIECE", piece)
        patch.setattr(decode, "_STEPS", steps)
        before, _ = decoded(recorded(folder / "before", packets[:offset], spawn=None), images)
        whole, decoding = decoded(recorded(folder / "whole", packets, spawn=(0, offset)), images)
    assert decoding.spawn == len(before)
    assert whole[: len(before)].tolist() == before.tolist()


def test_it_counts_the_streams_before(tmp_path, images):
    one, other = sync() + stretch(5), sync() + stretch(3)
    sample = recorded(tmp_path / "s", one, other + stretch(4), spawn=(1, len(other)))
    first, _ = decoded(sample, images, streams=[0])
    begin, _ = decoded(recorded(tmp_path / "t", other, spawn=None), images)
    _, decoding = decoded(sample, images)
    assert decoding.spawn == len(first) + len(begin)
    _, decoding = decoded(sample, images, streams=[1])
    assert decoding.spawn == len(begin)
    _, decoding = decoded(sample, images, streams=[0])
    assert decoding.spawn is None


def test_it_stands_in_the_parsed_trace(tmp_path, images):
    packets = sync() + stretch(5)
    for name, spawn in (("with", (0, len(packets))), ("without", None)):
        sample = recorded(tmp_path / name, packets, stretch(0).join([sync(), b""]), spawn=spawn)
        file = sample.folder / "trace_parsed.parquet"
        preprocess(Request(folder=str(sample.folder), bin_dir=str(images), output=str(file)))
        reader = open_path(file)
        first = int(np.count_nonzero(reader.read().stream == 0))
        assert reader.first_stream == first < reader.rows
        assert reader.header["spawn"] == reader.spawn == (first if spawn else None)
        rows = sample.folder / "trace_parsed.gz"
        preprocess(Request(folder=str(sample.folder), bin_dir=str(images), output=str(rows), format="gz"))
        assert open_path(rows).spawn is None


def test_a_path_that_ends_before_has_none(tmp_path, images, monkeypatch):
    begin = sync() + stretch(300) + sync() + stretch(300)
    packets = begin + sync() + stretch(300)
    sample = recorded(tmp_path / "s", packets, spawn=(0, len(begin)))
    whole, decoding = decoded(sample, images)
    assert 0 < decoding.spawn < len(whole)
    # the file is cut off
    content = (sample.folder / "trace_0.gz").read_bytes()
    (sample.folder / "trace_0.gz").write_bytes(gzip.compress(begin[:-1]))
    assert decoded(sample, images)[1].spawn is None
    (sample.folder / "trace_0.gz").write_bytes(gzip.compress(begin))
    assert decoded(sample, images)[1].spawn == decoding.spawn
    (sample.folder / "trace_0.gz").write_bytes(content)
    # or the time is over, sooner or later
    monkeypatch.setattr(decode, "_STEPS", 10)
    for most in (0, 20, 150, 10_000):
        count = iter(range(1 << 20))
        some, partial = decoded(sample, images, lambda: next(count) > most)  # noqa: B023
        assert (partial.truncated is None) == (len(some) == len(whole))
        assert partial.spawn == (decoding.spawn if len(some) >= decoding.spawn else None)


numbers = st.one_of(st.integers(0, 400), st.integers(0, 1 << 65), st.integers(-3, 3))


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(stream=numbers, offset=numbers, size=st.sampled_from([None, 1 << 40]))
def test_any_numbers_give_a_step_or_none_or_one_clear_line(tmp_path_factory, images, stream, offset, size):
    packets = sync() + stretch(5) + sync() + stretch(6)
    sample = recorded(tmp_path_factory.mktemp("s") / "s", packets, packets, spawn=(0, 0), sizes=size)
    file = sample.folder / "meta.json"
    meta = msgspec.json.decode(file.read_bytes())
    file.write_bytes(msgspec.json.encode({**meta, "spawn": {"stream": stream, "offset": offset}}))
    try:
        whole, decoding = decoded(Sample.open(sample.folder), images)
    except BarnumError as error:
        assert "meta.json" in str(error)
        assert "\n" not in str(error)
        assert not (0 <= stream < 2 and 0 <= offset < 1 << 63)
        return
    assert (decoding.spawn is None) == (offset > len(packets))
    assert decoding.spawn is None or 0 <= decoding.spawn <= len(whole)
