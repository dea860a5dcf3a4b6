"""Error rates, AUC and ROC curves against other implementations."""

import numpy as np
import pytest
from scipy.stats import binomtest, norm
from sklearn.metrics import roc_auc_score

from barnum.verdicts.statistics import auc_of, rate_of, roc_of


@pytest.mark.parametrize("runs", [1, 2, 7, 100])
def test_intervals_of_rates_are_exact(runs):
    for wrong in range(runs + 1):
        rate = rate_of(wrong, runs)
        interval = binomtest(wrong, runs).proportion_ci(0.95, "exact")
        assert (rate.low, rate.high) == pytest.approx((interval.low, interval.high), abs=1e-9)
        assert rate.low <= rate.rate == wrong / runs <= rate.high


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("sizes", [(1, 1), (1, 9), (30, 5), (200, 300)])
def test_auc_is_the_area_under_the_curve(sizes, ties):
    draw = np.random.default_rng(sizes[0])
    benign, malicious = draw.normal(0, 1, sizes[0]), draw.normal(0.7, 1, sizes[1])
    if ties:
        benign, malicious = benign.round(), malicious.round()
    found = auc_of(benign, malicious)
    expected = roc_auc_score([0] * sizes[0] + [1] * sizes[1], np.concatenate([benign, malicious]))
    assert found.auc == pytest.approx(expected, abs=1e-12)
    assert 0 <= found.low <= found.auc <= found.high <= 1
    curve = np.array(roc_of(benign.tolist(), malicious.tolist()))
    assert curve[0].tolist() == [0, 0]
    assert curve[-1].tolist() == [1, 1]
    assert (np.diff(curve, axis=0) >= 0).all()
    assert np.trapezoid(curve[:, 1], curve[:, 0]) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("shift", [0.0, 1.0, 2.0])
@pytest.mark.parametrize("sizes", [(20, 20), (60, 15)])
def test_intervals_of_auc_cover_it(shift, sizes):
    draw = np.random.default_rng(3)
    true = norm.cdf(shift / np.sqrt(2))
    covered = 0
    for _ in range(300):
        found = auc_of(draw.normal(0, 1, sizes[0]), draw.normal(shift, 1, sizes[1]))
        covered += found.low <= true <= found.high
    assert covered / 300 >= 0.9


def test_what_is_parted_or_the_same_has_a_wide_interval():
    parted = auc_of([0.0] * 10, [1.0] * 10)
    assert (parted.auc, parted.high) == (1.0, 1.0)
    assert 0.5 < parted.low < 0.95
    wrong = auc_of([1.0] * 10, [0.0] * 10)
    assert (wrong.auc, wrong.low) == (0.0, 0.0)
    same = auc_of([1.0] * 10, [1.0] * 10)
    assert same.auc == 0.5
    assert same.low < 0.3
    assert same.high > 0.7
    assert auc_of([1.0], [2.0] * 9) == type(parted)(1.0, 0.0, 1.0)
