"""Evaluation files and the features got from them."""

import json

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from barnum import evaluations
from barnum.errors import EvaluationError
from barnum.verdicts.features import _Surprisal, read_run


def header(label="benign", **changes):
    fields = {
        "schema": evaluations.SCHEMA,
        "version": "0.1.0",
        "name": "a.doc",
        "label": label,
        "sample": "aa",
        "model": "m",
        "options": {},
        "calibration": evaluations.Calibration("novelty", 50, (1.0, 2.0)),
        "transfers": 0,
    }
    return evaluations.Header(**{**fields, **changes})


def columns(count, seed=0, **changes):
    draw = np.random.default_rng(seed)
    made = {
        "correct": draw.random(count) < 0.8,
        "predicted": draw.integers(0, 1 << 60, count).astype(np.uint64),
        "confidence": draw.random(count).astype(np.float32),
        "actual": draw.integers(0, 1 << 60, count).astype(np.uint64),
        "surprisal": draw.exponential(1, count).astype(np.float32),
        "seen": draw.integers(0, 3, count).astype(np.uint8),
        "novelty": np.where(draw.random(count) < 0.02, draw.exponential(3, count), 0).astype(np.float32),
        "position": np.cumsum(draw.integers(1, 9, count)).astype(np.uint64),
    }
    return {**made, **changes}


def write(folder, *parts, label="benign", **changes):
    file = folder / evaluations.file_name(label, "aa")
    with evaluations.writer_for("parquet", file, header(label, **changes)) as writer:
        for each in parts:
            writer.write(each)
    return file


def test_what_is_written_is_read_in_order(tmp_path):
    parts = [columns(700, 1), columns(0), columns(3, 2)]
    file = write(tmp_path, *parts)
    read = evaluations.open_evaluation(file)
    assert len(read) == read.header.transfers == 703
    assert read.header.name == "a.doc"
    assert read.columns == tuple(parts[0])
    for name in parts[0]:
        found = np.concatenate([part[name] for part in read.parts(name)])
        assert found.tolist() == np.concatenate([part[name] for part in parts]).tolist()
    # any other tool can read it too
    assert pq.read_table(file).num_rows == 703


VALUES = {
    "correct": (np.bool_, st.booleans()),
    "predicted": (np.uint64, st.integers(0, 2**64 - 1)),
    "confidence": (np.float32, st.floats(0, 1, width=32)),
    "actual": (np.uint64, st.integers(0, 2**64 - 1)),
    "surprisal": (np.float32, st.floats(0, 2**30, width=32)),
    "seen": (np.uint8, st.integers(0, 2)),
    "novelty": (np.float32, st.floats(0, 2**30, width=32)),
    "position": (np.uint64, st.integers(0, 2**64 - 1)),
}


@given(st.lists(st.lists(st.tuples(*(values for _, values in VALUES.values())), max_size=30), max_size=4))
@settings(deadline=None)
def test_any_values_are_read_as_they_were_written(tmp_path_factory, parts):
    kinds = [(name, kind) for name, (kind, _) in VALUES.items()]
    arrays = [
        {name: np.array([row[i] for row in rows], kind) for i, (name, kind) in enumerate(kinds)}
        for rows in parts
    ]
    read = evaluations.open_evaluation(write(tmp_path_factory.mktemp("parquet"), *arrays))
    found = [part for part in read.parts(*VALUES) if len(part["correct"])]
    for i, (name, kind) in enumerate(kinds):
        assert {part[name].dtype for part in found} <= {np.dtype(kind)}
        assert [value for part in found for value in part[name].tolist()] == [
            row[i] for rows in parts for row in rows
        ]


def test_a_model_without_memory_leaves_out_what_it_does_not_know(tmp_path):
    whole = columns(1500)
    known = {name: values for name, values in whole.items() if name not in ("seen", "novelty")}
    file = write(tmp_path, known, calibration=None)
    assert pq.read_schema(file).names == list(known)
    read = evaluations.open_evaluation(file)
    assert read.columns == tuple(known)
    assert read.header.calibration is None
    assert np.array_equal(next(read.parts("position"))["position"], whole["position"])
    run = read_run(file)
    full = read_run(write(tmp_path, whole))
    assert (run.new, run.unknown, run.novelty, run.novelty_window, run.novelty_position) == (None,) * 5
    assert run.calibration is None
    for name in ("name", "model", "transfers", "wrong", "wrong_confidence", "surprisal", "surprisal_window"):
        assert getattr(run, name) == getattr(full, name)


def test_novelty_and_calibration_go_together(tmp_path):
    file = write(tmp_path, columns(5))
    table = pq.read_table(file)
    document = json.loads(pq.read_metadata(file).metadata[b"barnum"])

    def change(kept, **changes):
        metadata = {b"barnum": json.dumps({**document, **changes}).encode()}
        pq.write_table(kept.replace_schema_metadata(metadata), file)

    change(table, calibration=None)
    with pytest.raises(EvaluationError, match="go together"):
        read_run(file)
    change(table.drop_columns(["seen", "novelty"]))
    with pytest.raises(EvaluationError, match="go together"):
        read_run(file)
    for lacks in (["seen"], ["novelty"], ["seen", "novelty", "position"]):
        change(table.drop_columns(lacks), calibration=None)
        with pytest.raises(EvaluationError, match="other columns"):
            read_run(file)
    for window in (0, -5, 1 << 70):
        change(table, calibration={**document["calibration"], "window": window})
        with pytest.raises(EvaluationError, match="header"):
            read_run(file)
    change(table)
    assert read_run(file).transfers == 5


@pytest.mark.parametrize("name", ["correct", "position", "seen", "novelty"])
def test_empty_values_are_refused(tmp_path, name):
    file = write(tmp_path, columns(5))
    table = pq.read_table(file)
    at = table.schema.get_field_index(name)
    empty = pa.array([None] * 5, table.schema.field(at).type)
    metadata = {b"barnum": pq.read_metadata(file).metadata[b"barnum"]}
    table = table.set_column(at, table.schema.field(at), empty).replace_schema_metadata(metadata)
    pq.write_table(table, file)
    with pytest.raises(EvaluationError, match="empty columns"):
        read_run(file)


def test_a_write_that_fails_leaves_nothing(tmp_path):
    file = tmp_path / "benign-aa.parquet"
    with pytest.raises(RuntimeError), evaluations.EvaluationWriter(file, header()) as writer:
        writer.write(columns(10))
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_features_are_what_a_plain_loop_gives(tmp_path):
    parts = [columns(900, 1), columns(37, 2), columns(1500, 3), columns(2, 4)]
    whole = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    run = read_run(write(tmp_path, *parts))
    wrong = [i for i in range(2439) if not whole["correct"][i]]
    assert run.transfers == 2439
    assert run.wrong == pytest.approx(len(wrong) / 2439)
    assert run.wrong_confidence == pytest.approx(np.mean([float(whole["confidence"][i]) for i in wrong]))
    assert run.surprisal == pytest.approx(whole["surprisal"].mean(dtype=float))
    windows = [whole["surprisal"][i : i + 1000].mean(dtype=float) for i in range(2439 - 999)]
    assert run.surprisal_window == pytest.approx(max(windows))
    assert run.new == pytest.approx((whole["seen"] < 2).mean())
    assert run.unknown == pytest.approx((whole["seen"] == 0).mean())
    sums = [whole["novelty"][i : i + 50].sum(dtype=float) if whole["novelty"][i] else 0 for i in range(2439)]
    assert run.novelty_window == pytest.approx(max(sums))
    assert run.novelty_position == int(whole["position"][int(np.argmax(sums))])


@given(st.lists(st.integers(0, 700), min_size=1, max_size=6), st.integers(0, 9))
@settings(deadline=None, max_examples=30)
def test_windows_and_tail_do_not_depend_on_parts(tmp_path_factory, sizes, seed):
    sizes = [*sizes, 1]
    parts = [columns(size, seed + i) for i, size in enumerate(sizes)]
    run = read_run(write(tmp_path_factory.mktemp("parts"), *parts))
    values = np.concatenate([part["surprisal"] for part in parts]).astype(float)
    for found, length in zip(run.surprisal_windows, (100, 1000, 10_000), strict=True):
        reach = min(length, len(values))
        sums = [values[i : i + reach].mean() for i in range(len(values) - reach + 1)]
        assert found == pytest.approx(max(sums), rel=1e-9)
    tail = np.sort(values)[::-1][: max(1, round(len(values) / 100))].mean()
    assert run.surprisal_tail == pytest.approx(tail, rel=0.08)
    # neither does where a reader cuts
    summed = _Surprisal()
    for begin in range(0, len(values), 37):
        summed.add({"surprisal": values[begin : begin + 37].astype(np.float32)})
    assert summed.features(len(values))["surprisal_windows"] == pytest.approx(run.surprisal_windows)


@pytest.mark.parametrize("cut", [0, 1, 700, 100_000, -5, 1 << 63, (1 << 64) - 1, 1 << 70])
def test_cut_is_what_came_before(tmp_path, cut):
    whole = columns(900)
    limited = int((whole["position"].astype(object) < cut).sum())
    source = evaluations.Source(steps=5000, cut=cut)
    file = write(tmp_path, whole, source=source)
    if not limited:
        nothing = read_run(file, cut=True)
        assert (nothing.transfers, nothing.cut, nothing.novelty_window) == (0, True, None)
        return
    found = read_run(file, cut=True)
    same = read_run(write(tmp_path, {n: v[:limited] for n, v in whole.items()}, source=source))
    assert found.cut
    assert not same.cut
    assert found == msgspec.structs.replace(same, cut=True)
    # a run that started none, or does not say so, is judged whole
    for source in (None, evaluations.Source(steps=5000)):
        file = write(tmp_path, whole, source=source)
        assert read_run(file, cut=True) == read_run(file)


def test_short_runs_and_runs_without_a_wrong_prediction_have_features(tmp_path):
    run = read_run(write(tmp_path, columns(5, correct=np.ones(5, bool), novelty=np.zeros(5, np.float32))))
    assert (run.wrong, run.wrong_confidence, run.novelty_window) == (0, 0, 0)
    assert run.surprisal_window == pytest.approx(run.surprisal)


@pytest.mark.parametrize("name", ["confidence", "surprisal", "novelty"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -1])
def test_values_that_are_no_numbers_are_refused(tmp_path, name, value):
    file = write(tmp_path, columns(5, **{name: np.full(5, value, np.float32)}))
    with pytest.raises(EvaluationError, match=name):
        read_run(file)


def test_broken_files_are_refused(tmp_path):
    file = write(tmp_path, columns(5000))
    good = file.read_bytes()
    for content in (b"", b"PAR1", good[: len(good) // 2], b"junk" * 100):
        file.write_bytes(content)
        with pytest.raises(EvaluationError):
            read_run(file)
    pq.write_table(pa.table({"a": [1]}), file)
    with pytest.raises(EvaluationError, match="other columns"):
        read_run(file)
    empty = write(tmp_path)
    with pytest.raises(EvaluationError, match="no prediction"):
        read_run(empty)


def test_names_and_headers_must_agree(tmp_path):
    file = write(tmp_path, columns(5))
    with pytest.raises(EvaluationError, match="rename"):
        read_run(file.rename(tmp_path / "malicious-aa.parquet"))
    with pytest.raises(EvaluationError, match="schema 9"):
        read_run(write(tmp_path, columns(5), schema=9))


def test_a_folder_must_hold_evaluations_and_nothing_else(tmp_path):
    with pytest.raises(EvaluationError, match="no such folder"):
        evaluations.find_evaluations(tmp_path / "none")
    with pytest.raises(EvaluationError, match="holds no evaluation"):
        evaluations.find_evaluations(tmp_path)
    write(tmp_path, columns(5))
    assert len(evaluations.find_evaluations(tmp_path)) == 1
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(EvaluationError, match=r"notes\.txt: is not named LABEL-SAMPLE\.parquet or .*\.gz"):
        evaluations.find_evaluations(tmp_path)


def test_a_folder_may_hold_either_format_but_a_sample_once(tmp_path):
    for name in ("benign-aa.parquet", "benign-bb.gz", "malicious-cc.gz"):
        (tmp_path / name).touch()
    found = evaluations.find_evaluations(tmp_path)
    assert [evaluations.split_name(file) for file in found] == [
        ("benign", "aa"),
        ("benign", "bb"),
        ("malicious", "cc"),
    ]
    assert [file.name for file in found] == [
        evaluations.file_name("benign", "aa", "parquet"),
        evaluations.file_name("benign", "bb", "gz"),
        evaluations.file_name("malicious", "cc", "gz"),
    ]
    (tmp_path / "benign-aa.gz").touch()
    with pytest.raises(EvaluationError, match=r"holds both benign-aa\.gz and benign-aa\.parquet"):
        evaluations.find_evaluations(tmp_path)
    (tmp_path / "benign-aa.gz").unlink()
    # its label was another when it was evaluated
    (tmp_path / "unknown-cc.gz").touch()
    with pytest.raises(EvaluationError, match=r"holds both malicious-cc\.gz and unknown-cc\.gz"):
        evaluations.find_evaluations(tmp_path)


def test_content_tells_the_format_not_the_name(tmp_path):
    file = write(tmp_path, columns(5))
    assert read_run(file.rename(tmp_path / "benign-aa.gz")).surprisal is not None
