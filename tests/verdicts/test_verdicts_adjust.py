"""Surprisal adjusted for length and variety: runs are compared with nominal runs like them."""

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from barnum.errors import EvaluationError
from barnum.evaluations.header import Calibration, LeftOut
from barnum.verdicts import adjust, methods
from barnum.verdicts.conformal import Conformal
from barnum.verdicts.features import Run


def nominal(count, seed=0, noise=0.1):
    """Runs whose surprisal falls with length and rises with variety, by log-normal errors."""
    draw = np.random.default_rng(seed)
    transfers = np.exp(draw.uniform(3, 9, count)).round()
    distinct = np.maximum(1, (transfers ** draw.uniform(0.3, 0.9, count)).round())
    return usual(transfers, distinct) * np.exp(draw.normal(0, noise, count)), transfers, distinct


def usual(transfers, distinct):
    return 2 * distinct**0.8 / transfers**0.5


def runs_of(surprisal, transfers, distinct, label="benign", novelty=None):
    return [
        Run(
            name=str(i),
            label=label,
            sample=str(i),
            model="m",
            calibration=None if novelty is None else Calibration("novelty", 500, ()),
            transfers=int(n),
            wrong=0.1,
            wrong_confidence=0.5,
            confidence=0.9,
            distinct=int(d),
            surprisal=float(s),
            novelty_window=None if novelty is None else float(novelty[i]),
        )
        for i, (s, n, d) in enumerate(zip(surprisal, transfers, distinct, strict=True))
    ]


def test_a_run_is_compared_with_runs_like_it():
    learnt = adjust.learn(*nominal(300))
    assert learnt.errors == "lognormal"
    transfers, distinct = np.array([50.0, 5_000.0]), np.array([10.0, 100.0])
    its = usual(transfers, distinct)
    # as surprising as usual, and by three usual errors more: whatever the surprisal itself is
    assert learnt.adjusted(its, transfers, distinct) == pytest.approx([0, 0], abs=0.5)
    assert learnt.adjusted(its * np.exp(0.3), transfers, distinct) == pytest.approx([3, 3], abs=0.6)


def test_what_does_not_depend_on_length_is_hardly_adjusted():
    draw = np.random.default_rng(1)
    _, transfers, distinct = nominal(300)
    learnt = adjust.learn(draw.normal(5, 0.1, 300), transfers, distinct)
    assert learnt.adjusted(np.array([5.2]), np.array([10.0]), np.array([9.0])) == pytest.approx([2], abs=0.4)


def test_with_few_runs_nothing_is_adjusted_and_that_is_said():
    learnt = adjust.learn(*nominal(20))
    assert "not adjusted" in learnt.describe()
    assert learnt.adjusted(*nominal(20)).std() == pytest.approx(1, abs=0.1)


def test_errors_may_grow_with_length():
    draw = np.random.default_rng(2)
    _, transfers, distinct = nominal(600)
    size = np.log(transfers) - 2.5
    learnt = adjust.learn(50 + draw.normal(0, 1, 600) * size, transfers, distinct)
    assert learnt.errors == "varying"
    short, long = np.exp(3.5), np.exp(8.5)
    low, high = learnt.adjusted(np.full(2, 53.0), np.array([short, long]), np.array([8.0, 200.0]))
    assert low > 2 * high > 0


def test_beyond_what_was_learnt_nothing_is_extrapolated():
    learnt = adjust.learn(*nominal(300))
    ends = learnt.adjusted(np.array([1.0, 1.0]), np.exp([9.0, 30.0]), np.exp([8.0, 30.0]))
    assert np.isfinite(ends).all()
    assert abs(ends[0] - ends[1]) < 5


@pytest.mark.parametrize("count", [1, 2, 3, 9, 10, 11, 40])
def test_few_runs_do(count):
    columns = nominal(count)
    learnt = adjust.learn(*columns)
    assert count >= 30 or learnt.terms == "none"
    assert np.isfinite(learnt.adjusted(*columns)).all()
    assert np.isfinite(adjust.left_out(*columns)).all()


def test_runs_that_are_all_alike_do():
    same = np.ones(50), np.full(50, 10.0), np.full(50, 5.0)
    assert adjust.learn(*same).adjusted(*same) == pytest.approx(np.zeros(50))


def test_without_runs_nothing_is_learnt():
    with pytest.raises(ValueError, match="no run"):
        adjust.learn(np.zeros(0), np.zeros(0), np.zeros(0))


@pytest.mark.parametrize(("length", "distinct"), [(50_000, 6), (200_000, 801), (5, 5)])
def test_runs_of_nearly_one_length_do(length, distinct):
    draw = np.random.default_rng(3)
    columns = (
        draw.uniform(0.2, 0.4, 60),
        length + draw.integers(0, 40, 60),
        distinct + draw.integers(0, 3, 60),
    )
    learnt = adjust.learn(*columns)
    assert np.abs(learnt.adjusted(*columns)).max() < 6
    assert abs(learnt.adjusted(np.array([0.3]), np.array([10]), np.array([2]))[0]) < 20


@given(
    st.lists(
        st.tuples(st.floats(0, 1e30, allow_nan=False), st.integers(0, 3), st.integers(0, 2)),
        min_size=1,
        max_size=80,
    ),
    st.integers(1, 1 << 40),
    st.integers(1, 1 << 20),
    st.booleans(),
)
def test_any_runs_give_numbers(runs, length, distinct, alike):
    surprisal, more, others = (np.array(column, np.float64) for column in zip(*runs, strict=True))
    scale = 1 if alike else 1_000
    columns = surprisal, length + more * scale, distinct + others * scale
    learnt = adjust.learn(*columns)
    assert np.isfinite(learnt.adjusted(*columns)).all()
    again = msgspec.json.decode(msgspec.json.encode(learnt), type=adjust.Adjustment)
    assert np.array_equal(again.adjusted(*columns), learnt.adjusted(*columns))


@pytest.mark.parametrize("count", [2, 5, 12, 29])
def test_where_nothing_is_adjusted_verdicts_are_those_by_surprisal(count):
    for seed in range(20):
        runs = runs_of(*nominal(count, seed, noise=0.8))
        plain, adjusted = Conformal(0.4, "surprisal"), Conformal(0.4, "adjusted")
        fresh = runs_of(*nominal(20, 100 + seed, noise=0.8))
        by_surprisal, by_adjusted = plain.fit(runs), adjusted.fit(runs)
        assert f"30 nominal runs are needed and here are {count}" in by_adjusted.describe()
        verdicts = [
            (plain.held_out(runs), adjusted.held_out(runs)),
            ([by_surprisal.judge(run) for run in fresh], [by_adjusted.judge(run) for run in fresh]),
        ]
        for first, second in verdicts:
            assert [verdict.p_value for verdict in first] == [verdict.p_value for verdict in second]


def test_runs_as_surprising_as_usual_are_nominal_and_stranger_ones_anomalous(tmp_path):
    benign = runs_of(*nominal(200))
    method = Conformal(0.05, "adjusted")
    classifier = method.fit(benign)
    # less surprising than half of the benign runs, but far more than any of its length and variety
    strange = runs_of([usual(8_000, 20) * 2.5], [8_000], [20], "malicious")[0]
    assert strange.surprisal < np.median([run.surprisal for run in benign])
    assert classifier.judge(strange).anomalous
    assert not Conformal(0.05, "surprisal").fit(benign).judge(strange).anomalous
    methods.save(tmp_path / "c.json", classifier, "m")
    again, _ = methods.load(tmp_path / "c.json")
    assert again.judge(strange) == classifier.judge(strange)
    assert "adjusted for length" in again.describe()


@pytest.mark.parametrize("count", [10, 40, 120])
@pytest.mark.parametrize("score", ["adjusted", "combined"])
def test_false_alarms_keep_to_about_the_rate(count, score):
    rate, splits, judged = 0.1, 60, 40
    alarms = 0
    for split in range(splits):
        draw = np.random.default_rng(1_000 + split)
        runs = runs_of(
            *nominal(count + judged, seed=split), novelty=draw.exponential(1, count + judged).round(1)
        )
        classifier = Conformal(rate, score).fit(runs[:count])
        alarms += sum(classifier.judge(run).anomalous for run in runs[count:])
    assert 0.06 < alarms / (splits * judged) < 0.12


def test_held_out_runs_are_judged_by_the_others():
    columns = nominal(200)
    columns[0][7] *= 100
    runs = runs_of(*columns)
    verdicts = Conformal(0.005, "adjusted").held_out(runs)
    assert [i for i, verdict in enumerate(verdicts) if verdict.anomalous] == [7]
    assert verdicts[7].p_value == pytest.approx(1 / 200)


def with_novelty(transfers, novelty, learnt=(), training=()):
    calibration = Calibration("novelty", 500, tuple(training), tuple(LeftOut(*run) for run in learnt))
    return [
        msgspec.structs.replace(run, calibration=calibration) for run in runs_of(*transfers, novelty=novelty)
    ]


def test_strange_in_two_ways_is_stranger_than_in_one():
    draw = np.random.default_rng(5)
    benign = runs_of(*nominal(300), novelty=draw.exponential(1, 300))
    classifier = Conformal(0.02, "combined").fit(benign)
    transfers, distinct = 5_000, 100

    def score(times, novelty):
        return classifier.judge(
            runs_of([usual(transfers, distinct) * times], [transfers], [distinct], "malicious", [novelty])[0]
        )

    usual_one, one, other, both = score(1, 0.5), score(1.25, 0.5), score(1, 3.0), score(1.25, 3.0)
    assert usual_one.score < min(one.score, other.score)
    assert max(one.score, other.score) < both.score
    assert not one.anomalous and not other.anomalous and both.anomalous
    # beyond all that is known it goes on growing
    assert score(1e6, 1e6).score > score(1e3, 1e3).score > both.score
    assert "combined" in classifier.describe()


def test_training_runs_that_were_left_out_calibrate(tmp_path):
    surprisal, transfers, distinct = nominal(150)
    draw = np.random.default_rng(6)
    learnt = list(
        zip(surprisal.tolist(), transfers.astype(int).tolist(), distinct.astype(int).tolist(), strict=True)
    )
    novelty = draw.exponential(1, 150).tolist()
    bad = with_novelty(([40.0], [50], [20]), [30.0], learnt, novelty)
    bad = [msgspec.structs.replace(run, label="malicious") for run in bad]
    for score in ("surprisal", "adjusted", "combined"):
        classifier = Conformal(0.01, score).fit(bad)
        assert "150 nominal runs" in classifier.describe()
        assert classifier.judge(bad[0]).anomalous
        methods.save(tmp_path / "c.json", classifier, "m")
        assert methods.load(tmp_path / "c.json")[0].judge(bad[0]) == classifier.judge(bad[0])
    # of runs learnt without folds one of the two ways is not known
    some = with_novelty(([40.0], [50], [20]), [30.0], learnt[:10], novelty)
    assert "against 1 nominal" in Conformal(None, "combined").fit(some).describe()


@pytest.mark.parametrize(
    "change",
    [
        {"location": [1.0]},
        {"location": [1e300, 0, 0, 0, 0, 0]},
        {"deviation": []},
        {"width": [0.0, 1.0]},
        {"floor": 0.0},
        {"floor": 5e-324},
        {"terms": "cubic"},
        {"errors": "none"},
        {"more": 1},
        {"lowest": [1.0]},
    ],
)
def test_a_forged_adjustment_is_refused(tmp_path, change):
    classifier = Conformal(0.05, "adjusted").fit(runs_of(*nominal(200)))
    file = tmp_path / "c.json"
    methods.save(file, classifier, "m")
    document = msgspec.json.decode(file.read_bytes())
    assert document["state"]["adjustment"]["terms"] != "none"
    document["state"]["adjustment"] |= change
    file.write_bytes(msgspec.json.encode(document))
    with pytest.raises(EvaluationError, match="is no classifier"):
        methods.load(file)


@pytest.mark.parametrize(
    ("score", "change"),
    [
        ("adjusted", {"score": "surprisal"}),
        ("adjusted", {"adjustment": None}),
        ("adjusted", {"score": "combined"}),
        ("combined", {"ways": None}),
        ("combined", {"score": "adjusted"}),
        ("combined", {"ways": {"novelty": [1.0], "adjusted": [1.0, 2.0]}}),
        ("combined", {"ways": {"novelty": [], "adjusted": []}}),
    ],
)
def test_score_and_what_it_takes_must_fit(tmp_path, score, change):
    file = tmp_path / "c.json"
    runs = runs_of(*nominal(60), novelty=np.arange(60.0))
    methods.save(file, Conformal(0.05, score).fit(runs), "m")
    document = msgspec.json.decode(file.read_bytes())
    document["state"] |= change
    file.write_bytes(msgspec.json.encode(document))
    with pytest.raises(EvaluationError, match=r"do not fit|not of the same runs"):
        methods.load(file)
