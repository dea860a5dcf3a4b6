"""Evaluation files in the original's format: gzip text of four columns."""

import gzip
import subprocess
import sys
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_evaluations_files import columns, header

from barnum import evaluations
from barnum.errors import EvaluationError
from barnum.verdicts.features import read_run

FOUR = ("correct", "predicted", "confidence", "actual")
U64 = st.integers(0, 2**64 - 1)
ROWS = st.lists(st.tuples(st.booleans(), U64, st.floats(0, 1, width=32), U64), max_size=50)

# as the original writes them
ORIGINAL = """\
0,659,0.012900652,938
1,659,0.99999994,659
0,18446744073709551615,1.2255527e-05,0
1,0,1.0,0
"""


def columns_of(rows):
    kinds = (np.bool_, np.uint64, np.float32, np.uint64)
    return {
        name: np.array([row[i] for row in rows], kind)
        for i, (name, kind) in enumerate(zip(FOUR, kinds, strict=True))
    }


def write(folder, *parts, label="benign"):
    file = folder / evaluations.file_name(label, "aa", "gz")
    with evaluations.writer_for("gz", file, header(label)) as writer:
        for part in parts:
            writer.write(part)
    return file


def by_hand(folder, text, label="benign"):
    file = folder / f"{label}-aa.gz"
    file.write_bytes(gzip.compress(text if isinstance(text, bytes) else text.encode()))
    return file


def read(file, *names):
    opened = evaluations.open_evaluation(file)
    parts = list(opened.parts(*(names or FOUR)))
    opened.close()
    return {name: np.concatenate([part[name] for part in parts]) for name in (names or FOUR) if parts}


@given(st.lists(ROWS, max_size=4))
@settings(deadline=None)
def test_what_is_written_is_read_in_order(tmp_path_factory, parts):
    file = write(tmp_path_factory.mktemp("gz"), *map(columns_of, parts))
    rows = [row for part in parts for row in part]
    found, written = read(file), columns_of(rows)
    for name in found:
        # also the confidence is the same float32, not one near it
        assert found[name].dtype == written[name].dtype
        assert found[name].tolist() == written[name].tolist()
    assert bool(found) == bool(rows)
    # and any other tool reads it as text
    lines = gzip.decompress(file.read_bytes()).decode().splitlines()
    split = [line.split(",") for line in lines]
    assert [(c == "1", int(p), np.float32(f), int(a)) for c, p, f, a in split] == rows
    assert {c for c, *_ in split} <= {"0", "1"}


def test_columns_that_have_no_place_are_left_out(tmp_path):
    whole = columns(200_000)
    opened = evaluations.open_evaluation(write(tmp_path, whole))
    assert opened.columns == FOUR
    assert (opened.label, opened.sample, opened.header) == ("benign", "aa", None)
    found = read(opened.file, "actual", "correct")
    assert list(found) == ["actual", "correct"]
    assert np.array_equal(found["actual"], whole["actual"])
    assert np.array_equal(found["correct"], whole["correct"])


def test_classes_of_any_integer_type_are_written(tmp_path):
    rows = {name: values[:5] for name, values in columns(5).items()}
    classes = np.array([0, 1023, 7, 8, 9], np.int64)
    found = read(write(tmp_path, {**rows, "predicted": classes, "actual": classes.astype(np.int16)}))
    assert found["predicted"].tolist() == found["actual"].tolist() == classes.tolist()


def test_equal_rows_are_equal_files(tmp_path, monkeypatch):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first = write(tmp_path / "a", columns(1000)).read_bytes()
    monkeypatch.setattr("time.time", lambda: 1e9)
    assert write(tmp_path / "b", columns(1000), label="malicious").read_bytes() == first


def test_a_write_that_fails_leaves_nothing(tmp_path):
    file = tmp_path / "benign-aa.gz"
    with pytest.raises(RuntimeError), evaluations.writer_for("gz", file, header()) as writer:
        writer.write(columns(10))
        assert not file.exists()
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "text",
    [
        ORIGINAL,
        ORIGINAL.removesuffix("\n"),
        ORIGINAL.replace("\n", "\r\n"),
        ORIGINAL.replace("1,6", "True,6").replace("0,6", "False,6"),
    ],
    ids=["original", "last line open", "crlf", "words"],
)
def test_files_of_the_original_are_read(tmp_path, text):
    found = read(by_hand(tmp_path, text))
    assert found["correct"].tolist() == [False, True, False, True]
    assert found["predicted"].tolist() == [659, 659, 2**64 - 1, 0]
    assert found["confidence"].tolist() == np.float32([0.012900652, 0.99999994, 1.2255527e-05, 1]).tolist()
    assert found["actual"].tolist() == [938, 659, 0, 0]


def test_files_of_several_members_are_read(tmp_path):
    file = by_hand(tmp_path, ORIGINAL)
    # cut within a line, as `cat a.gz b.gz` would, and padded as tapes were
    file.write_bytes(
        gzip.compress(ORIGINAL[:30].encode()) + gzip.compress(ORIGINAL[30:].encode()) + b"\0" * 9
    )
    assert len(read(file)["actual"]) == 4


def test_features_are_those_of_the_same_rows_in_parquet(tmp_path):
    parts = [columns(3000, 1), columns(200, 2)]
    run = read_run(write(tmp_path, *parts, label="malicious"))
    file = tmp_path / evaluations.file_name("malicious", "aa")
    with evaluations.writer_for("parquet", file, header("malicious")) as writer:
        for part in parts:
            writer.write(part)
    same = read_run(file)
    assert run.malicious
    assert (run.transfers, run.wrong) == (same.transfers, same.wrong)
    assert run.wrong_confidence == pytest.approx(same.wrong_confidence, rel=1e-12)
    assert (run.name, run.sample, run.model, run.calibration) == ("aa", "aa", "", None)
    assert (run.surprisal, run.surprisal_window, run.new, run.unknown) == (None,) * 4
    assert (run.novelty, run.novelty_window, run.novelty_position) == (None,) * 3


def test_a_softmax_may_round_beyond_one(tmp_path):
    beyond = np.nextafter(np.float32(1), np.float32(2))
    assert read(write(tmp_path, columns(3, confidence=np.full(3, beyond))))["confidence"][0] == beyond


@pytest.mark.parametrize(
    "line",
    [
        "",
        "1,2,0.5",
        "1,2,0.5,3,4",
        "1;2;0.5;3",
        "correct,predicted,confidence,actual",
        "2,2,0.5,3",
        "yes,2,0.5,3",
        ",2,0.5,3",
        "1,,0.5,3",
        "1,NULL,0.5,3",
        "1,-2,0.5,3",
        "1,2,0.5,-3",
        "1,2.5,0.5,3",
        f"1,{2**64},0.5,3",
        "1,2,,3",
        "1,2,x,3",
        "1,2,nan,3",
        "1,2,inf,3",
        "1,2,1e999,3",
        "1,2,1.01,3",
        "1,2,-0.01,3",
        '1,2,"0.5",3',
        "1,2,0.5,\x1b[2J",
        "1,2,0.5,3\0",
    ],
)
def test_lines_that_are_no_predictions_are_named(tmp_path, line):
    file = by_hand(tmp_path, f"1,2,0.5,3\n{line}\n1,2,0.5,3\n")
    with pytest.raises(EvaluationError, match=r"benign-aa\.gz: line 2 is no prediction") as caught:
        read_run(file)
    assert str(caught.value).isprintable()


def test_lines_are_counted_over_the_whole_file(tmp_path):
    # more than is unpacked at once
    file = by_hand(tmp_path, "1,2,0.5,3\n" * 900_000 + "1,2,0.5,3,4\n")
    with pytest.raises(EvaluationError, match=r"line 900,001 is no prediction"):
        read_run(file)
    file = by_hand(tmp_path, "1,2,0.5,3\n" * 900_000 + "1,2,1.5,3\n")
    with pytest.raises(EvaluationError, match=r"line 900,001 is no prediction"):
        read_run(file)


@pytest.mark.parametrize(
    "text",
    [
        b"1" * 5000,
        b"1,2,0.%b5,3\n1,2,0.5,3\n" % (b"0" * 1024),
        b"1,2,0.5,3\n1,2,0." + b"5" * (9 << 20),
        b"\0" * (30 << 20),
    ],
)
def test_absurd_lines_are_refused(tmp_path, text):
    with pytest.raises(EvaluationError, match=r"benign-aa\.gz: has a line of more than 1,024 bytes"):
        read_run(by_hand(tmp_path, text))


def test_files_without_a_line_hold_no_prediction(tmp_path):
    assert list(evaluations.open_evaluation(by_hand(tmp_path, "")).parts("correct")) == []
    with pytest.raises(EvaluationError, match="no prediction"):
        read_run(by_hand(tmp_path, ""))
    with pytest.raises(EvaluationError, match="no prediction"):
        read_run(write(tmp_path, columns(0)))


def test_broken_files_are_refused(tmp_path):
    file = write(tmp_path, columns(5000))
    good = file.read_bytes()
    flipped = bytearray(good)
    flipped[-6] ^= 1  # the checksum
    for content, says in (
        (good[: len(good) // 2], "cut short"),
        (good[:-1], "cut short"),
        (good[:2], "cut short"),
        (good[:1], "neither Parquet nor gzip"),
        (bytes(flipped), "broken gzip data"),
        (good + b"more than that", "broken gzip data"),
        (b"\x1f\x8bjunk" * 100, "broken gzip data"),
        (ORIGINAL.encode(), "neither Parquet nor gzip"),
        (zlib.compress(ORIGINAL.encode()), "neither Parquet nor gzip"),
        (b"", "is empty"),
    ):
        file.write_bytes(content)
        with pytest.raises(EvaluationError, match=rf"benign-aa\.gz: .*{says}"):
            read_run(file)
    file.unlink()
    with pytest.raises(EvaluationError, match=r"benign-aa\.gz: cannot be read \(No such file"):
        read_run(file)
    file.mkdir()
    with pytest.raises(EvaluationError, match=r"benign-aa\.gz: cannot be read \(not a regular file"):
        read_run(file)


EDITS = st.lists(
    st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 3), st.binary(max_size=4)),
    min_size=1,
    max_size=4,
)


def edited(data, edits):
    data = bytearray(data)
    for place, cut, insert in edits:
        at = int(place * len(data))
        data[at : at + cut] = insert
    return bytes(data)


@given(EDITS, st.booleans())
@settings(deadline=None, max_examples=300)
def test_damaged_files_are_read_or_refused(tmp_path_factory, edits, packed):
    file = tmp_path_factory.getbasetemp() / "benign-fuzzed.gz"
    whole = ORIGINAL.encode() * 3
    file.write_bytes(edited(gzip.compress(whole), edits) if packed else gzip.compress(edited(whole, edits)))
    try:
        run = read_run(file)
    except EvaluationError as error:
        assert str(error).startswith(f"{file}: ")
        assert len(str(error).splitlines()) == 1
    else:
        assert 0 < run.transfers < 30
        assert 0 <= run.wrong <= 1
        assert 0 <= run.wrong_confidence <= 1 + 1e-6


def test_large_files_are_read_in_bounded_memory(tmp_path):
    """270 MB of text, which are 1 MB packed."""
    with gzip.open(tmp_path / "benign-aa.gz", "wb", 1) as file:
        for _ in range(100):
            file.write(b"1,1234567890123,0.5,1234567890123\n" * 80_000)
    script = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "from barnum.verdicts.features import read_run\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "before = peak()\n"
        "print(read_run(Path(sys.argv[1])).transfers, peak() - before)\n"
    )
    made = subprocess.run(
        [sys.executable, "-c", script, tmp_path / "benign-aa.gz"], capture_output=True, text=True, check=True
    )
    transfers, grown = map(int, made.stdout.split())
    assert transfers == 8_000_000
    assert grown < 80 << 10
