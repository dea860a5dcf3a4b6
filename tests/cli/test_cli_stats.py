"""``barnum stats`` as a user meets it, against a plain transcription of what the manual says."""

import csv
from collections import defaultdict
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_paths_formats import row, to_parquet, write_gz

from barnum import _sequences, files
from barnum.paths import Gap, GapDetails, Kind, Learn, open_path
from barnum.paths.blocks import Chunk
from barnum.paths.parquet import Ending, write_parquet
from barnum.sequences import following as sequence_targets
from barnum.sequences import histories
from barnum.sequences.following import count_targets
from barnum.sequences.histories import Histories
from learning import barnum, blocks_of, unchanged

# text of an instruction → which option counts it, by instruction and by the word ptr
TEXTS = {
    b"ret \n": ("r", "r"),
    b"ret 0x10\n": ("r", "r"),
    b"call eax\n": ("c", ""),
    b"call dword ptr [eax]\n": ("c", "c"),
    b"call far ptr [eax]\n": ("j", "c"),
    b"jmp rcx\n": ("j", ""),
    b"jmp qword ptr [rax*8]\n": ("j", "j"),
    b"jmp far ptr [r14]\n": ("j", "j"),
    b"call 0x10\n": ("", ""),
    b"jmp 0x10\n": ("", ""),
    b"jz 0x40\n": ("", ""),
    b"push dword ptr [eax]\n": ("", ""),
}
RESTARTS = {Gap.START, Gap.OVERFLOW, Gap.LOST, Gap.UNMAPPED}
KINDS = {
    Kind.RETURN: "r",
    Kind.INDIRECT_CALL: "c",
    Kind.INDIRECT_JUMP: "j",
    Kind.INDIRECT_FAR: "j",
}
LEARN = {"r": "ret", "c": "icall", "j": "ijmp"}


def learn(letters):
    return Learn(**{name: letter in letters for letter, name in LEARN.items()})


def of_rows(rows, letters, rule=0):
    """Of each row that counts: the sources up to it, and its target. ``rows`` are source, target, text."""
    history = []
    for source, target, text in rows:
        history.append(source)
        counts = TEXTS[text][rule]
        if counts and counts in letters:
            yield tuple(history), target


def of_path(path, letters):
    """The same of a decoded path."""
    bbid, kind = path.blocks.bbid.tolist(), path.blocks.kind.tolist()
    history = []
    for step, (block, gap) in enumerate(zip(path.block.tolist(), path.gap.tolist(), strict=True)):
        if gap in RESTARTS:
            history = []
        history.append(bbid[block])
        joined = step + 1 < len(path) and path.gap[step + 1] == 0
        counts = KINDS.get(kind[block])
        if joined and counts and counts in letters:
            yield tuple(history), bbid[path.block[step + 1]]


def table_of(found, longest):
    """The manual's table: for each length how many sequences have 1, 2, … 100 (or more) distinct targets."""
    targets = [defaultdict(set) for _ in range(longest)]
    for history, target in found:
        for length in range(1, min(longest, len(history)) + 1):
            targets[length - 1][history[-length:]].add(target)
    table = np.zeros((longest, 100), int)
    for line, sequences in zip(table, targets, strict=True):
        for of in sequences.values():
            line[min(len(of), 100) - 1] += 1
    return table


def read(file):
    with file.open(newline="") as lines:
        head, *rows = csv.reader(lines)
    assert head == ["seq_len", *map(str, range(1, 101))]
    assert [int(line[0]) for line in rows] == list(range(1, len(rows) + 1))
    return np.array([line[1:] for line in rows], int)


def write_path(folder, block, gap, blocks, label="benign"):
    """A sample with a decoded path."""
    folder.mkdir(parents=True)
    (folder / "info.txt").write_text(f"{folder.name}.doc\n{label}\n")
    block, gap = np.asarray(block, np.uint32), np.asarray(gap, np.uint8)
    header = {"schema": 1, "version": "0", "source": "pt", "name": "a.doc", "label": label}
    chunk = Chunk(block, gap, np.zeros(len(block), np.uint16))
    write_parquet(
        folder / "trace_parsed.parquet", [chunk], lambda: Ending(blocks, header, GapDetails.empty())
    )
    return folder


def write_rows_sample(folder, rows, label="benign"):
    """A sample with the original's rows: source, target, text."""
    folder.mkdir(parents=True)
    (folder / "info.txt").write_text(f"{folder.name}.doc\n{label}\n")
    write_gz(folder / "trace_parsed.gz", *(row(*one) for one in rows))
    return folder


def chained(length, seed, sources=5):
    """Rows that go on where the one before ended; the first one has source 0."""
    draw = np.random.default_rng(seed)
    names = [0, *draw.integers(1, sources, length).tolist()]
    texts = list(TEXTS)
    return [(source, target, texts[source % 3 + draw.integers(0, 9)]) for source, target in pairwise(names)]


ROWS = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 3), st.sampled_from(sorted(TEXTS))), min_size=1, max_size=60
)
LETTERS = st.sampled_from(["r", "c", "j", "rc", "rj", "cj", "rcj"])


@settings(max_examples=60, deadline=None)
@given(ROWS, LETTERS, st.integers(1, 8), st.integers(0, 1))
def test_rows_as_the_manual_says(tmp_path_factory, rows, letters, longest, rule):
    file = write_gz(tmp_path_factory.mktemp("rows") / "trace_parsed.gz", *(row(*one) for one in rows))
    path = Histories(open_path(file, {}), learn(letters), ("all", "ptr")[rule])
    assert np.array_equal(count_targets(path, longest), table_of(of_rows(rows, letters, rule), longest))


STEPS = st.lists(st.tuples(st.integers(0, 9), st.sampled_from([0] * 9 + list(Gap))), min_size=1, max_size=80)


@settings(max_examples=60, deadline=None)
@given(STEPS, LETTERS, st.integers(1, 8), st.integers(1, 30), st.integers(1, 3))
def test_paths_whatever_the_parts(tmp_path_factory, steps, letters, longest, rows, parts):
    """Also blocks that share a BBID, chunks of any size, any number of threads."""
    blocks = blocks_of(10, list(Kind))
    blocks.bbid[9] = blocks.bbid[6]
    folder = tmp_path_factory.mktemp("path") / "a"
    write_path(folder, *zip(*steps, strict=True), blocks)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(histories, "_ROWS", rows)
        patch.setattr(sequence_targets, "parts", lambda: parts)
        reader = open_path(folder / "trace_parsed.parquet")
        counts = count_targets(Histories(reader, learn(letters)), longest)
    assert np.array_equal(counts, table_of(of_path(reader.read(), letters), longest))


def long_path(folder, steps=20_000, seed=3):
    """A path that is longer than what is hashed at once, with loops and gaps."""
    draw = np.random.default_rng(seed)
    blocks = blocks_of(300, [Kind.RETURN, Kind.CONDITIONAL, Kind.INDIRECT_CALL, Kind.INDIRECT_JUMP])
    loops = [draw.integers(0, 300, 40) for _ in range(12)]
    block = np.concatenate([loops[i] for i in draw.integers(0, 12, steps // 40)])
    # from one block to very many targets
    block[1000:2000:2] = 0
    gap = np.where(draw.random(len(block)) < 0.002, draw.integers(1, 8, len(block)), 0)
    gap[0] = 1
    return write_path(folder, block, gap, blocks)


def test_less_memory_is_the_same_table(tmp_path):
    reader = open_path(long_path(tmp_path / "a") / "trace_parsed.parquet")
    path = Histories(reader, Learn())
    counts = count_targets(path, 32)
    assert np.array_equal(counts, table_of(of_path(reader.read(), "rcj"), 32))
    assert counts[0, 99] == 1
    for memory in (0, 1 << 18, 1 << 20):
        assert np.array_equal(count_targets(path, 32, memory), counts)


def test_the_command_on_both_formats(tmp_path):
    rows = chained(500, 1)
    sample = write_rows_sample(tmp_path / "gz", rows)
    done = barnum("stats", "-r", "-c", "-j", "-s", 12, sample, tmp_path / "a.csv")
    assert (done.code, done.out, done.err) == (0, "", "")
    table = read(tmp_path / "a.csv")
    assert np.array_equal(table, table_of(of_rows(rows, "rcj"), 12))
    assert table[0].sum() > 2

    # rows that were turned into Parquet are the same rows
    to_parquet(open_path(sample / "trace_parsed.gz"), sample / "trace_parsed.parquet")
    barnum("stats", "-r", "-c", "-j", "-s", 12, sample, tmp_path / "b.csv")
    assert (tmp_path / "b.csv").read_bytes() == (tmp_path / "a.csv").read_bytes()

    decoded = long_path(tmp_path / "decoded", 4000)
    for letter in "rcj":
        assert barnum("stats", f"-{letter}", decoded, tmp_path / f"{letter}.csv").code == 0
        path = open_path(decoded / "trace_parsed.parquet").read()
        assert np.array_equal(read(tmp_path / f"{letter}.csv"), table_of(of_path(path, letter), 32))


def test_the_word_rule(tmp_path):
    rows = chained(400, 2)
    sample = write_rows_sample(tmp_path / "gz", rows)
    for number, rule in enumerate(("all", "ptr")):
        file = tmp_path / f"{rule}.csv"
        assert barnum("stats", "-c", "-j", "-s", 3, "--indirect", rule, sample, file).code == 0
        assert np.array_equal(read(file), table_of(of_rows(rows, "cj", number), 3))
    assert (tmp_path / "all.csv").read_bytes() != (tmp_path / "ptr.csv").read_bytes()


def test_acrobat(data_dir, tmp_path):
    """The published trace: as many windows as its model predicts from, and the manual's counts of them."""
    folder = data_dir / "acrobat" / "traces"
    found = sorted(folder.glob("44a7*/trace_parsed.gz"))
    if not found:
        pytest.skip(f"no traces of Acrobat Reader at {folder}")
    reader = open_path(found[0])
    histories = Histories(reader, Learn(), "ptr")
    path = reader.read()
    assert not path.gap[1:].any()
    wanted = np.flatnonzero(histories.wanted[path.block[:-1]])
    assert (wanted >= 31).sum() == 81_843

    output = tmp_path / "out.csv"
    assert barnum("stats", "-r", "-c", "-j", "--indirect", "ptr", found[0].parent, output).code == 0
    bbid = path.blocks.bbid[path.block].tolist()
    plain = table_of(((tuple(bbid[max(0, at - 31) : at + 1]), bbid[at + 1]) for at in wanted.tolist()), 32)
    assert np.array_equal(read(output), plain)


def test_what_is_there_is_kept(tmp_path):
    sample = write_rows_sample(tmp_path / "a", chained(50, 3))
    output = tmp_path / "out.csv"
    output.write_text("mine")
    with unchanged(tmp_path):
        refused = barnum("stats", "-r", sample, output)
    assert refused.code == 16
    assert "--force" in refused.error
    assert barnum("stats", "-r", "-f", sample, output).code == 0
    assert read(output).shape == (32, 100)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a", "out.csv"]


def test_options_that_make_no_sense(tmp_path):
    sample = write_rows_sample(tmp_path / "a", chained(50, 3))
    output = tmp_path / "out.csv"
    assert "-r, -c and -j" in barnum("stats", sample, output).usage
    assert "OUTPUT.csv" in barnum("stats", "-r", sample).usage
    assert "nowhere" in barnum("stats", "-r", tmp_path / "nowhere", output).usage
    for length in ("0", "-1", "1025", "many"):
        assert length in barnum("stats", "-r", "-s", length, sample, output).usage
    assert "word" in barnum("stats", "-r", "--indirect", "word", sample, output).usage
    assert "directory" in barnum("stats", "-r", "-f", sample, tmp_path).usage
    assert not output.exists()


def test_input_that_is_wrong(tmp_path):
    good = write_rows_sample(tmp_path / "good", chained(50, 3))
    decoded = long_path(tmp_path / "decoded", 400)
    output = tmp_path / "out.csv"

    def refused(code, sample, *words, to=output):
        with unchanged(tmp_path):
            ended = barnum("stats", "-r", *words, sample, to)
        assert ended.code == code, ended.err
        assert not output.exists()
        return ended.error

    empty = tmp_path / "empty"
    empty.mkdir()
    assert "info.txt" in refused(10, empty)
    (empty / "info.txt").write_text("a.doc\nbenign\n")
    (empty / "trace_0.gz").write_bytes(b"")
    assert "preprocess" in refused(10, empty)
    (empty / "trace_parsed.parquet").write_bytes(b"")
    assert "empty" in refused(18, empty)
    (empty / "trace_parsed.parquet").write_bytes(b"neither of them")
    assert "no parsed trace" in refused(18, empty)

    assert "no blocks" in refused(11, write_path(tmp_path / "no-steps", [], [], blocks_of(3)))
    assert "texts" in refused(18, decoded, "--indirect", "ptr")
    assert "no such folder" in refused(17, good, to=tmp_path / "missing" / "out.csv")

    half = (good / "trace_parsed.gz").read_bytes()
    (good / "trace_parsed.gz").write_bytes(half[: len(half) // 2])
    assert "cut short" in refused(18, good)
    file = decoded / "trace_parsed.parquet"
    data = bytearray(file.read_bytes())
    data[60:90] = bytes(30)
    file.write_bytes(data)
    assert str(file) in refused(18, decoded)


def test_nothing_that_counts_is_zeros_and_a_warning(tmp_path):
    blocks = blocks_of(4, [Kind.CONDITIONAL])
    sample = write_path(tmp_path / "a", [0, 1, 2, 3], [1, 0, 0, 0], blocks)
    ended = barnum("stats", "-r", "-s", 2, sample, tmp_path / "out.csv")
    assert ended.code == 0
    assert "no transfer" in ended.logged("WARNING")[0]
    assert not read(tmp_path / "out.csv").any()


def test_a_full_disk_is_said_and_leaves_nothing(tmp_path, monkeypatch):
    sample = write_rows_sample(tmp_path / "a", chained(50, 3))

    def full(file, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "write_whole", full)
    ended = barnum("stats", "-r", sample, tmp_path / "out.csv")
    assert ended.code == 17
    assert "disk is full" in ended.error


def test_more_memory_than_there_is(tmp_path, monkeypatch):
    sample = write_rows_sample(tmp_path / "a", chained(50, 3))

    class Full(_sequences.Targets):
        def add(self, block, gap):
            raise MemoryError

    monkeypatch.setattr(sequence_targets, "Targets", Full)
    ended = barnum("stats", "-r", sample, tmp_path / "out.csv")
    assert ended.code == 11
    assert "--sequence-length" in ended.error


# --- the extension ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [_sequences.Targets, _sequences.Known])
def test_the_extension_refuses_what_would_lead_out_of_its_arrays(kind):
    for length in (0, _sequences.LONGEST + 1):
        with pytest.raises(ValueError, match="1024"):
            kind(length)
    counter = kind(3)
    bbid, number = np.arange(4, dtype=np.uint64), np.arange(4, dtype=np.uint32)
    wanted, restart = np.ones(4, np.bool_), np.zeros(256, np.bool_)
    with pytest.raises(ValueError, match="lengths"):
        counter.begin(bbid, number[:3], wanted, restart, False)
    with pytest.raises(ValueError, match="256"):
        counter.begin(bbid, number, wanted, restart[:8], False)
    block, gap = np.zeros(5, np.uint32), np.zeros(5, np.uint8)
    with pytest.raises(IndexError):
        counter.add(block, gap)
    counter.begin(bbid, number, wanted, restart, False)
    with pytest.raises(ValueError, match="lengths"):
        counter.add(block, gap[:4])
    block[3] = 4
    with pytest.raises(IndexError):
        counter.add(block, gap)


def test_parts_are_numbered_from_0():
    with pytest.raises(ValueError, match="part"):
        _sequences.Targets(3, 2, 2)
