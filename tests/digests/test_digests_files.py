"""Digests: what they keep of a run, however its path comes, and what is made of files that are none."""

import gzip
import json
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load, save

from barnum.digests import DigestMaker, digest_of_path, read_digest, write_digest
from barnum.digests.columns import differences, packed, summed, unpacked
from barnum.digests.file import encoded
from barnum.errors import DigestError
from barnum.paths import Gap, GapDetails, Kind, iter_transfers, open_path
from barnum.paths.preprocess import Ended
from barnum.samples import Sample
from barnum.sequences import edges_of
from learning import attack_path, blocks_of, nominal_path, path_of, write_sample

BLOCKS = blocks_of(40, (Kind.RETURN, Kind.CONDITIONAL, Kind.FAR, Kind.INDIRECT_CALL), in_libc=10)
GAPS = (Gap.TRACING_OFF, Gap.ASYNCHRONOUS, Gap.OVERFLOW, Gap.LOST, Gap.UNMAPPED)


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    return Sample.open(write_sample(tmp_path_factory.mktemp("digests"), "a.doc", "benign", attack_path(1)))


@pytest.fixture
def digest(sample):
    return digest_of_path(sample, open_path(sample.parsed))


def made(sample, path, cuts=(), known=(), spawn=None):
    """A digest of a path in pieces, whose table of blocks grows meanwhile."""
    maker = DigestMaker(sample)
    ends = [*sorted(cuts), len(path.block)]
    whole = next(path.chunks(len(path.block) or 1), None)
    for begin, end in pairwise([0, *ends]):
        if whole is None or begin == end:
            continue
        chunk = whole.part(begin, end)
        wanted = max(int(chunk.block.max()) + 1, maker.known)
        for size in (*[each for each in sorted(known) if maker.known < each < wanted], wanted):
            maker.extend(path.blocks.part(0, size))
        maker.add(chunk, spawn)
    streams = [{"file": "trace_0.gz", "steps": len(path.block)}]
    header = {"streams": streams, "statistics": {"bytes": 1000, "bytes_lost": 0}}
    return maker.done(Ended(len(path.block), len(path.block), spawn, header, GapDetails.empty()))


paths = st.tuples(
    st.lists(st.integers(0, 39), max_size=300),
    st.dictionaries(st.integers(1, 299), st.sampled_from(GAPS), max_size=8),
)


@settings(max_examples=60, deadline=None)
@given(
    paths,
    st.lists(st.integers(0, 299), max_size=4),
    st.lists(st.integers(1, 39), max_size=4),
    st.none() | st.integers(0, 299),
)
def test_a_digest_keeps_what_the_run_showed_first(sample, drawn, cuts, known, spawn):
    steps, gaps = drawn
    path = path_of(steps, BLOCKS, {step: cause for step, cause in gaps.items() if step < len(steps)})
    cuts = [cut for cut in cuts if cut <= len(steps)]
    spawn = None if spawn is None or spawn > len(steps) else spawn
    digest = made(sample, path, cuts, known, spawn)
    parts = list(iter_transfers(path))
    expected = edges_of(parts)
    position = np.concatenate([np.zeros(0, np.uint64), *(part.position for part in parts)])
    taken, ways = digest.taken, digest.ways
    assert digest.about.transfers == len(position)
    order = np.lexsort((taken.target, taken.site))
    assert taken.site[order].tolist() == expected.whole.site.tolist()
    assert taken.target[order].tolist() == expected.whole.target.tolist()
    assert taken.first[order].tolist() == expected.whole.first.tolist()
    assert taken.kind[order].tolist() == expected.whole.kind.tolist()
    assert taken.step.tolist() == position[taken.first].tolist()
    gone = sorted(zip(taken.site[ways.taken], taken.target[ways.taken], ways.entry, ways.first, strict=True))
    entries = expected.entries
    assert gone == sorted(zip(entries.site, entries.target, entries.entry, entries.first, strict=True))
    if spawn is not None:
        assert digest.about.cut == int((position < spawn).sum())
    else:
        assert digest.about.cut is None


def test_stretches_are_those_in_which_the_run_is_counted(sample):
    path = path_of(nominal_path(3, 50_000), blocks_of(40, (Kind.RETURN,)))
    digest = made(sample, path)
    expected = edges_of(iter_transfers(path))
    assert len(digest.about.stretches) == len(expected.stretches) > 16
    for number, stretch in enumerate(expected.stretches):
        there = np.flatnonzero(digest.taken.stretches >> np.uint32(number) & np.uint32(1))
        assert sorted(digest.taken.site[there].tolist()) == sorted(stretch.site.tolist())
        assert digest.about.stretches[number] == stretch.transfers


@settings(max_examples=30, deadline=None)
@given(paths)
def test_what_is_written_is_read(sample, tmp_path_factory, drawn):
    steps, gaps = drawn
    path = path_of(steps, BLOCKS, {step: cause for step, cause in gaps.items() if step < len(steps)})
    digest = made(sample, path)
    file = tmp_path_factory.mktemp("file") / "trace_digest"
    write_digest(file, digest)
    again, identity = read_digest(file)
    assert again.about == digest.about
    for part in ("taken", "ways"):
        one, other = getattr(digest, part), getattr(again, part)
        for name in one.__dataclass_fields__:
            assert getattr(one, name).tolist() == getattr(other, name).tolist()
            assert getattr(one, name).dtype == getattr(other, name).dtype
    content = file.read_bytes()
    write_digest(file, again)
    assert file.read_bytes() == content
    assert 0 <= identity < 1 << 63


@given(st.lists(st.integers(0, (1 << 64) - 1), max_size=20))
def test_columns_come_back(values):
    numbers = np.array(values, np.uint64)
    assert unpacked(packed(numbers)).tolist() == values
    assert summed(differences(numbers)).view(np.uint64).tolist() == values


def forged(file, digest, change):
    arrays = load(encoded(digest))
    change(arrays)
    file.write_bytes(gzip.compress(save({name: np.ascontiguousarray(each) for name, each in arrays.items()})))
    return file


def about(**values):
    def change(arrays):
        told = json.loads(arrays["about"].tobytes()) | values
        arrays["about"] = np.frombuffer(json.dumps(told).encode(), np.uint8)

    return change


def column(name, values):
    def change(arrays):
        arrays[name] = packed(np.asarray(values, np.uint64))

    return change


FORGERIES = {
    "another schema": about(schema=2),
    "no document": lambda arrays: arrays.pop("about"),
    "a document that is none": lambda arrays: arrays.update(about=np.frombuffer(b"[[[", np.uint8)),
    "modules in disorder": about(modules=[[7, "b"], [3, "a"]]),
    "too few transfers": about(transfers=1),
    "no stretch": about(stretches=[]),
    "a cut behind the end": about(cut=1 << 40),
    "a column of floats": lambda arrays: arrays.update(kind=np.zeros((1, 5), np.float32)),
    "a column that lacks": lambda arrays: arrays.pop("step"),
    "a short column": lambda arrays: arrays.update(step=arrays["step"][:, :-1]),
    "a wide column": lambda arrays: arrays.update(kind=np.zeros((9, arrays["kind"].shape[1]), np.uint8)),
    "a kind that is none": lambda arrays: arrays.update(kind=arrays["kind"] | 0x80),
    "a module that lacks": lambda arrays: arrays.update({"site.module": arrays["site.module"] + 9}),
    "steps that go back": lambda arrays: arrays.update(step=arrays["step"] | 1),
    "the same transfer twice": lambda arrays: [
        arrays.update({name: np.zeros_like(arrays[name])}) for name in ("site.module", "target.module")
    ]
    + [arrays.update({name: np.zeros((1, arrays["kind"].shape[1]), np.uint8)}) for name in
       ("site.offset", "target.offset")],
    "no stretch of a transfer": lambda arrays: arrays.update(stretches=np.zeros_like(arrays["stretches"])),
    "the same way twice": lambda arrays: arrays.update(
        {"way.taken": packed(np.zeros(2)), "way.entry": packed(np.zeros(2)),
         "way.first": packed(np.array([10, 2])), "way.stretches": packed(np.ones(2)),
         "entries.module": packed(np.zeros(1)), "entries.offset": packed(np.zeros(1))}
    ),
    "a way from nowhere": lambda arrays: arrays.update(
        {"way.taken": packed(np.array([1 << 30], np.uint64)), "way.entry": packed(np.zeros(1)),
         "way.first": packed(np.array([2])), "way.stretches": packed(np.ones(1)),
         "entries.module": packed(np.zeros(1)), "entries.offset": packed(np.zeros(1))}
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FORGERIES)
def test_forged_digests_are_refused_in_a_line(digest, tmp_path, name):
    file = forged(tmp_path / "trace_digest", digest, FORGERIES[name])
    with pytest.raises(DigestError) as refused:
        read_digest(file)
    assert "\n" not in str(refused.value)
    assert "preprocess the sample again" in str(refused.value)


def test_a_digest_as_it_is_passes_the_same_way(digest, tmp_path):
    again, _ = read_digest(forged(tmp_path / "trace_digest", digest, lambda arrays: None))
    assert again.about == digest.about


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_damaged_digests_are_refused_or_read(sample, tmp_path_factory, data):
    digest = digest_of_path(sample, open_path(sample.parsed))
    content = bytearray(encoded(digest))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at] = data.draw(st.integers(0, 255))
    file = tmp_path_factory.mktemp("damaged") / "trace_digest"
    file.write_bytes(gzip.compress(bytes(content[: data.draw(st.integers(0, len(content)))]), 1))
    try:
        read_digest(file)
    except DigestError as error:
        assert "\n" not in str(error)


def test_a_bomb_is_not_unpacked(tmp_path):
    file = tmp_path / "trace_digest"
    file.write_bytes(gzip.compress(bytes(300 << 20), 1))
    with pytest.raises(DigestError, match="holds more than"):
        read_digest(file)
