"""The worst window of a run, for all that point at it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_evaluations_files import columns, header

from barnum import evaluations
from barnum.evaluations import windows
from barnum.evaluations.windows import DenseSeries, Surprise, surprisal_window, window_of, worst_window
from barnum.report.scan import Budget, scan
from barnum.verdicts.features import read_run


def test_worst_window_is_the_largest_of_all():
    draw = np.random.default_rng(3)
    position = np.sort(draw.choice(1000, 60, replace=False))
    weights = draw.random(60)
    for length in (1, 10, 100, 5000):
        plain = [weights[(position >= p) & (position < p + length)].sum() for p in position]
        worst, begin = worst_window(position, weights, length)
        assert worst == pytest.approx(max(plain))
        assert begin == np.argmax(plain)
    assert worst_window(np.zeros(0, int), np.zeros(0), 5) == (0.0, None)


@given(st.lists(st.lists(st.integers(0, 9), max_size=40), max_size=12), st.integers(1, 30), st.data())
def test_every_window_of_a_series_is_summed_once(parts, longest, data):
    length = data.draw(st.integers(1, longest))
    whole = np.array([value for part in parts for value in part], np.float64)
    series, met = DenseSeries(longest), {}
    for part in parts:
        joined = series.add(np.array(part, np.float64))
        assert joined.sum == sum(part)
        begin, sums = joined.sums(length)
        if len(joined.values) >= length:
            for place, value in enumerate(sums.tolist(), begin):
                assert place not in met
                met[place] = value
        elif len(sums):
            # fewer values than a window takes are one window
            assert (begin, sums.tolist()) == (0, [joined.values.sum()])
    assert met == {
        begin: whole[begin : begin + length].sum() for begin in range(max(0, len(whole) - length + 1))
    }


def test_lengths_of_windows():
    assert window_of(None) == windows.WINDOW
    assert window_of(evaluations.Calibration("novelty", 70, ())) == 70
    assert [surprisal_window(window) for window in (1, 50, 500, 5000, 1 << 32)] == [50, 50, 500, 5000, 5000]


def surprise_of(surprisal, limit=None, length=50, cuts=()):
    surprise = Surprise(limit, length)
    surprisal = np.asarray(surprisal, np.float32)
    position = np.arange(len(surprisal), dtype=np.uint64) * np.uint64(3) + np.uint64(1)
    for rows in np.split(np.arange(len(surprisal)), cuts):
        surprise.add({"surprisal": surprisal[rows], "position": position[rows]})
    return surprise.step


def test_the_most_surprising_transfer_of_the_most_surprising_window():
    surprisal = np.zeros(1000)
    surprisal[100] = 30.0
    surprisal[600:650] = 1.0
    surprisal[640] = 2.0
    # the largest surprise of all stands alone
    assert surprise_of(surprisal) == 3 * 640 + 1
    assert surprise_of(surprisal, length=10) == 3 * 100 + 1
    for limit, row in ((3 * 640 + 1, 600), (3 * 615, 100), (300, None), (0, None), (-5, None)):
        step = surprise_of(surprisal, limit=limit)
        assert step == (None if row is None else 3 * row + 1)
    assert surprise_of(surprisal[640:645]) == 1
    assert surprise_of([]) is None


@settings(deadline=None, max_examples=30)
@given(st.data())
def test_parts_make_no_difference_and_a_report_shows_that_window_first(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("eval")
    count = data.draw(st.integers(1, 700))
    # a few values of different size, so that many windows are equal but for rounding
    levels = np.array([0.1, 0.3, 1e-5, 1e-13], np.float32)
    surprisal = levels[data.draw(st.lists(st.integers(0, 3), min_size=count, max_size=count))]
    surprisal[0] = 0.1
    calibration = evaluations.Calibration("novelty", data.draw(st.sampled_from([1, 60, 300])), ())
    judged = data.draw(st.integers(1, count))
    made = columns(count, surprisal=surprisal, novelty=np.zeros(count, np.float32))
    file = folder / evaluations.file_name("benign", "aa")
    with evaluations.writer_for("parquet", file, header(calibration=calibration)) as writer:
        writer.write(made)
    limit = None if judged == count else int(made["position"][judged])
    length = surprisal_window(window_of(calibration))
    cuts = data.draw(st.lists(st.integers(0, count), max_size=5))
    surprise = Surprise(limit, length)
    for rows in np.split(np.arange(count), sorted(cuts)):
        surprise.add({name: column[rows] for name, column in made.items()})
    shown = scan(
        file, count, window_of(calibration), None, Budget.of(1, 1), judged, measures=("surprisal",)
    ).windows[0]
    row = made["position"].tolist().index(surprise.step)
    assert shown.begin <= row < shown.end <= judged
    assert surprisal[row] == surprisal[shown.begin : shown.end].max()


def test_long_runs_are_cut_where_files_are(tmp_path, monkeypatch):
    """Rounding decides between equal windows, and it depends on where a series is cut."""
    monkeypatch.setattr(windows, "ROWS", 997)
    monkeypatch.setattr(evaluations.parquet, "_ROWS", 997)
    draw = np.random.default_rng(5)
    for seed in range(20):
        surprisal = np.tile((10 ** draw.uniform(-13, 1, 7)).astype(np.float32), 800)
        made = columns(5600, seed, surprisal=surprisal, novelty=np.zeros(5600, np.float32))
        file = tmp_path / evaluations.file_name("benign", f"{seed}")
        with evaluations.writer_for("parquet", file, header(sample=f"{seed}")) as writer:
            writer.write(made)
        surprise = Surprise(None, 50)
        for rows in np.split(np.arange(5600), range(64, 5600, 64)):
            surprise.add({name: column[rows] for name, column in made.items()})
        (shown,) = scan(file, 5600, 50, None, Budget.of(1, 1), measures=("surprisal",)).windows
        assert shown.begin <= made["position"].tolist().index(surprise.step) < shown.end


def test_where_novelty_begins_is_what_a_report_shows_first(tmp_path):
    for seed in range(5):
        made = columns(3000, seed)
        file = tmp_path / evaluations.file_name("benign", f"{seed}")
        with evaluations.writer_for("parquet", file, header(sample=f"{seed}")) as writer:
            writer.write(made)
        run = read_run(file)
        (shown,) = scan(file, 3000, 50, None, Budget.of(1, 1)).windows
        assert shown.first == run.novelty_position
        assert shown.novelty == pytest.approx(run.novelty_window)
