"""Surprisal adjusted for length and variety: runs are compared with nominal runs like them."""

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from barnum.errors import EvaluationError
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


def runs_of(surprisal, transfers, distinct, label="benign"):
    return [
        Run(
            name=str(i),
            label=label,
            sample=str(i),
            model="m",
            calibration=None,
            transfers=int(n),
            wrong=0.1,
            wrong_confidence=0.5,
            confidence=0.9,
            distinct=int(d),
            surprisal=float(s),
        )
        for i, (s, n, d) in enumerate(zip(surprisal, transfers, distinct, strict=True))
    ]


def test_a_run_is_compared_with_runs_like_it():
    learnt = adjust.learn(*nominal(300))
    assert learnt.scale == "ratio"
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
    assert learnt.scale == "spread"
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


@given(
    st.lists(
        st.tuples(st.floats(0, 1e4, allow_nan=False), st.integers(1, 1 << 40), st.integers(1, 1 << 20)),
        min_size=1,
        max_size=80,
    )
)
def test_any_runs_give_numbers(runs):
    columns = tuple(np.array(column, np.float64) for column in zip(*runs, strict=True))
    learnt = adjust.learn(*columns)
    assert np.isfinite(learnt.adjusted(*columns)).all()
    again = msgspec.json.decode(msgspec.json.encode(learnt), type=adjust.Adjustment)
    assert np.array_equal(again.adjusted(*columns), learnt.adjusted(*columns))


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


@pytest.mark.parametrize("count", [40, 120])
def test_false_alarms_keep_to_the_rate(count):
    rate, alarms, total = 0.1, 0, 0
    for split in range(30):
        surprisal, transfers, distinct = nominal(count + 40, seed=split)
        classifier = Conformal(rate, "adjusted").fit(
            runs_of(surprisal[:count], transfers[:count], distinct[:count])
        )
        fresh = runs_of(surprisal[count:], transfers[count:], distinct[count:])
        alarms += sum(classifier.judge(run).anomalous for run in fresh)
        held_out = Conformal(rate, "adjusted").held_out(fresh)
        alarms += sum(verdict.anomalous for verdict in held_out)
        total += 80
    assert 0.06 < alarms / total < 0.13


@pytest.mark.parametrize(
    "change",
    [
        {"centre": [1.0]},
        {"centre": [1e300, 0, 0, 0, 0, 0]},
        {"floor": 0.0},
        {"floor": -1.0},
        {"terms": "cubic"},
        {"scale": "none"},
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


@pytest.mark.parametrize("change", [{"score": "surprisal"}, {"adjustment": None}])
def test_score_and_adjustment_must_fit(tmp_path, change):
    file = tmp_path / "c.json"
    methods.save(file, Conformal(0.05, "adjusted").fit(runs_of(*nominal(60))), "m")
    document = msgspec.json.decode(file.read_bytes())
    document["state"] |= change
    file.write_bytes(msgspec.json.encode(document))
    with pytest.raises(EvaluationError, match="do not fit"):
        methods.load(file)
