"""``barnum bloom`` as a user meets it, against a plain transcription of what the manual says."""

import json
import os
import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from test_cli_stats import (
    LETTERS,
    ROWS,
    STEPS,
    chained,
    learn,
    of_path,
    of_rows,
    write_path,
    write_rows_sample,
)
from test_paths_formats import row, write_gz

from barnum.paths import Kind, Learn, open_path
from barnum.sequences import histories
from barnum.sequences.curve import Brought, KnownSequences, flat_from, together_of
from barnum.sequences.histories import Histories
from learning import barnum, blocks_of, unchanged
from paths_tools import barnum as barnum_alone

ALL = ("-r", "-c", "-j")


def curve_of(traces, length):
    """Of each trace (histories with targets): sequences that no earlier one has, and distinct ones."""
    known = set()
    curve = []
    for found in traces:
        own = {history[-length:] for history, _ in found if len(history) >= length}
        curve.append((len(own - known), len(own)))
        known |= own
    return curve


def write_sets(file, b_train=(), b_test=(), m_test=()):
    lines = []
    for name, folders in (("b_train", b_train), ("b_test", b_test), ("m_test", m_test)):
        lines += [f"[{name}]", *map(str, folders)]
    file.write_text("\n".join(lines) + "\n")
    return file


def printed(text):
    lines = [line.split(",") for line in text.splitlines()]
    for new, distinct, share in lines:
        assert float(share) == (int(new) / int(distinct) if int(distinct) else 0)
    return [(int(new), int(distinct)) for new, distinct, _ in lines]


@pytest.fixture
def traces(tmp_path):
    """Rows of six traces of one program, and their samples: alike, but for the last one."""
    rows = [chained(300, seed % 2, sources=4) + chained(40, 10 + seed, sources=4) for seed in range(5)]
    rows.append(chained(300, 99, sources=40))
    return rows, [write_rows_sample(tmp_path / "traces" / f"s{i}", each) for i, each in enumerate(rows)]


@settings(max_examples=40, deadline=None)
@given(st.lists(ROWS, min_size=1, max_size=4), LETTERS, st.integers(1, 6), st.integers(0, 1))
def test_rows_as_the_manual_says(tmp_path_factory, traces, letters, length, rule):
    folder = tmp_path_factory.mktemp("rows")
    known = KnownSequences(length)
    found = []
    for number, rows in enumerate(traces):
        file = write_gz(folder / f"{number}.gz", *(row(*one) for one in rows))
        brought = known.meet(Histories(open_path(file, {}), learn(letters), ("all", "ptr")[rule]))
        found.append((brought.new, brought.distinct))
    assert found == curve_of([of_rows(rows, letters, rule) for rows in traces], length)


@settings(max_examples=40, deadline=None)
@given(st.lists(STEPS, min_size=1, max_size=3), st.integers(1, 6), st.integers(1, 30))
def test_paths_whatever_the_chunks(tmp_path_factory, traces, length, rows):
    """The blocks of each path are numbered by themselves."""
    folder = tmp_path_factory.mktemp("paths")
    found, expected = [], []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(histories, "_ROWS", rows)
        known = KnownSequences(length)
        for number, steps in enumerate(traces):
            blocks = blocks_of(10 + number, [*list(Kind)[number:], *list(Kind)[:number]])
            write_path(folder / str(number), *zip(*steps, strict=True), blocks)
            reader = open_path(folder / str(number) / "trace_parsed.parquet")
            brought = known.meet(Histories(reader, Learn()))
            found.append((brought.new, brought.distinct))
            expected.append(list(of_path(reader.read(), "rcj")))
    assert found == curve_of(expected, length)


def test_many_sequences(tmp_path):
    """More than the first table holds, over several paths."""
    draw = np.random.default_rng(5)
    blocks = blocks_of(500, [Kind.RETURN, Kind.CONDITIONAL])
    known = KnownSequences(3)
    found, expected = [], []
    for number in range(3):
        gap = np.zeros(9000, int)
        folder = write_path(tmp_path / str(number), draw.integers(0, 500, 9000), gap, blocks)
        reader = open_path(folder / "trace_parsed.parquet")
        brought = known.meet(Histories(reader, Learn()))
        found.append((brought.new, brought.distinct))
        expected.append(list(of_path(reader.read(), "r")))
    assert found == curve_of(expected, 3)


def test_training_traces_then_held_out_ones(traces, tmp_path):
    rows, samples = traces
    sets = write_sets(tmp_path / "sets.txt", samples[3:], samples[:2], samples[2:3])
    ended = barnum("bloom", *ALL, "-s", 4, sets)
    assert ended.code == 0
    order = [*rows[3:], *rows[:2]]
    assert printed(ended.out) == curve_of([of_rows(each, "rcj") for each in order], 4)
    # one letter, the word rule, names that count from a root
    sets = write_sets(tmp_path / "relative.txt", ["s0", "s5"])
    ended = barnum("bloom", "-c", "-s", 3, "--indirect", "ptr", sets, tmp_path / "traces")
    assert printed(ended.out) == curve_of([of_rows(each, "c", 1) for each in (rows[0], rows[5])], 3)


def test_where_it_flattens():
    def curve(*shares, distinct=1000):
        return [Brought(round(share * distinct), distinct) for share in shares]

    assert flat_from(curve(1, 0.5, 0.3, 0.04, 0.04, 0.04), 0.05) == 3
    assert flat_from(curve(1, 0.5, 0.3, 0.04, 0.04), 0.05) is None
    # together they are under it
    assert flat_from(curve(1, 0.5, 0.3, 0.08, 0.04, 0.01), 0.05) == 3
    # what comes later counts too
    assert flat_from(curve(1, 0.5, 0.04, 0.04, 0.04, 0.04, 0.5), 0.05) is None
    assert flat_from(curve(1, 0.5, 0.04, 0.04, 0.04, 0.04, 0.5, 0.04, 0.04, 0.04), 0.05) == 7
    assert flat_from([], 0.05) is None
    # traces without sequences tell nothing
    bare = [Brought(0, 0)] * 5
    assert flat_from(bare, 0.05) is None
    assert flat_from([*curve(1), *bare, *curve(0.01, 0.01), *bare, *curve(0.01)], 0.05) == 6
    assert [together_of(curve(*[0.5] * count)) for count in (0, 9, 12, 29, 30, 300)] == [3, 3, 4, 9, 10, 10]


def test_what_is_said_written_and_drawn(traces, tmp_path):
    _, samples = traces
    # the same again and again
    again = [shutil.copytree(samples[0], tmp_path / "traces" / f"again-{i}") for i in range(4)]
    sets = write_sets(tmp_path / "sets.txt", [samples[5], samples[0], *again[:2]], again[2:])
    plot, document = tmp_path / "curve.png", tmp_path / "curve.json"
    ended = barnum("bloom", *ALL, "-s", 4, "--plot", plot, "--json", document, sets)
    assert ended.code == 0
    (said,) = ended.err.splitlines()
    assert said.startswith("flat from trace 3 of 6 on (again-0)")
    assert "any 3 traces in a row" in said
    assert "5.00%" in said
    told = json.loads(document.read_text())
    assert [(trace["new"], trace["distinct"]) for trace in told["traces"]] == printed(ended.out)
    assert [trace["set"] for trace in told["traces"]] == ["b_train"] * 4 + ["b_test"] * 2
    assert told["traces"][0]["sample"] == "s5"
    assert told["traces"][1]["share"] == float(ended.out.splitlines()[1].split(",")[2])
    assert told["flat"] == {"share": 0.05, "together": 3, "from": 3}
    assert (told["schema"], told["sequence_length"], told["indirect"]) == (1, 4, "all")
    with Image.open(plot) as picture:
        picture.load()
        assert picture.format == "PNG"
        assert min(picture.size) > 400
        assert len(picture.convert("RGB").getcolors(1 << 24)) > 10

    sets = write_sets(tmp_path / "short.txt", [samples[5]])
    assert "too few traces" in barnum("bloom", *ALL, sets).err
    sets = write_sets(tmp_path / "news.txt", samples)
    assert "not flat yet" in barnum("bloom", *ALL, "-s", 4, "--flat", 0.001, sets).err
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        *("curve.json", "curve.png", "news.txt", "sets.txt", "short.txt", "traces")
    ]


def test_draws_where_there_is_no_home(traces, tmp_path):
    sets = write_sets(tmp_path / "sets.txt", traces[1])
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "MPL"))}
    with pytest.MonkeyPatch.context() as patch:
        for name in set(os.environ) - set(kept):
            patch.delenv(name)
        patch.setenv("HOME", "/dev/null/nobody")
        ended = barnum_alone("bloom", *ALL, "--plot", tmp_path / "curve.png", sets)
    assert ended.returncode == 0, ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    assert (tmp_path / "curve.png").stat().st_size


def test_acrobat(data_dir, tmp_path):
    folder = data_dir / "acrobat" / "traces"
    found = sorted(folder.glob("*/trace_parsed.gz"))
    if len(found) < 2:
        pytest.skip(f"no traces of Acrobat Reader at {folder}")
    sets = write_sets(tmp_path / "sets.txt", [found[0].parent], [found[1].parent])
    ended = barnum("bloom", *ALL, "--indirect", "ptr", sets)
    expected = []
    for file in found:
        path = open_path(file).read()
        wanted = Histories(open_path(file), Learn(), "ptr").wanted[path.block[:-1]]
        bbid = path.blocks.bbid[path.block].tolist()
        windows = [tuple(bbid[at - 31 : at + 1]) for at in np.flatnonzero(wanted).tolist() if at >= 31]
        if file.parent.name.startswith("44a7"):
            assert len(windows) == 81_843
        expected.append([(window, 0) for window in windows])
    assert printed(ended.out) == curve_of(expected, 32)


def test_samples_that_lack_something(traces, tmp_path):
    rows, samples = traces
    (samples[1] / "trace_parsed.gz").rename(samples[1] / "trace_0.gz")
    (samples[2] / "info.txt").unlink()
    short = write_rows_sample(tmp_path / "traces" / "short", rows[0][:3])
    sets = write_sets(tmp_path / "sets.txt", [*samples[:3], tmp_path / "nowhere", short], [samples[0]])
    ended = barnum("bloom", *ALL, "-s", 8, sets)
    assert ended.code == 0
    _, distinct = printed(ended.out)[0]
    assert printed(ended.out) == [(distinct, distinct), (0, 0), (0, distinct)]
    warnings = ended.logged("WARNING")
    assert len(warnings) == 4
    assert "nowhere" in warnings[0]
    assert any("not preprocessed" in warning for warning in warnings)
    assert "no whole sequence" in warnings[-1]


def test_options_that_make_no_sense(traces, tmp_path):
    sets = write_sets(tmp_path / "sets.txt", traces[1])
    assert "-r, -c and -j" in barnum("bloom", sets).usage
    assert "nowhere" in barnum("bloom", "-r", tmp_path / "nowhere").usage
    assert "nowhere" in barnum("bloom", "-r", sets, tmp_path / "nowhere").usage
    for flat in ("0", "1.5", "nan"):
        assert flat in barnum("bloom", "-r", "--flat", flat, sets).usage
    same = tmp_path / "same"
    assert "same file" in barnum("bloom", "-r", "--plot", same, "--json", same, sets).usage
    assert not same.exists()


def test_what_is_there_is_kept(traces, tmp_path):
    sets = write_sets(tmp_path / "sets.txt", traces[1])
    for option in ("--plot", "--json"):
        file = tmp_path / option[2:]
        file.write_text("mine")
        with unchanged(tmp_path):
            refused = barnum("bloom", "-r", option, file, sets)
        assert refused.code == 16
        assert refused.out == ""
        assert "--force" in refused.error
        assert barnum("bloom", "-r", "-f", option, file, sets).code == 0
        assert file.read_bytes() != b"mine"


def test_input_that_is_wrong(traces, tmp_path):
    _, samples = traces
    document = tmp_path / "curve.json"

    def refused(code, *words, to=document):
        with unchanged(tmp_path):
            ended = barnum("bloom", "-r", "-l", 40, "--json", to, *words)
        assert ended.code == code, ended.err
        assert not document.exists()
        return ended.error

    sets = tmp_path / "sets.txt"
    assert "no such folder" in refused(17, write_sets(sets, samples), to=tmp_path / "missing" / "a")
    assert "ROOT" in refused(21, write_sets(sets, ["s0", "s1"]))
    assert "b_train or b_test" in refused(21, write_sets(sets, m_test=samples))
    sets.write_text("[b_tarin]\n")
    assert "b_tarin" in refused(21, sets)
    sets.write_bytes(b"")
    assert "names no sample" in refused(21, sets)

    write_sets(sets, samples)
    whole = (samples[2] / "trace_parsed.gz").read_bytes()
    (samples[2] / "trace_parsed.gz").write_bytes(whole[:-20])
    assert str(samples[2]) in refused(18, sets)
    (samples[2] / "trace_parsed.gz").unlink()
    empty = write_path(tmp_path / "traces" / "empty", [], [], blocks_of(3))
    assert "no blocks" in refused(11, write_sets(sets, [empty]))
    decoded = write_path(tmp_path / "traces" / "decoded", [0, 1, 2], [1, 0, 0], blocks_of(3))
    assert "texts" in refused(18, "--indirect", "ptr", write_sets(sets, [decoded]))
