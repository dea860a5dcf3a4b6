"""The bet on exchangeability: it rarely wins where runs are alike, and soon where they are not."""

import numpy as np
import pytest
from scipy.stats import binom

from barnum.verdicts.exchangeability import ALARM, Wager, exchangeability

STREAMS, RUNS = 1000, 200
# a right implementation fails with this probability
CHANCE = 1e-6


def zero_heavy(draw, count):
    """Scores as novelty has them: most runs bring nothing new."""
    return np.where(draw.random(count) < 0.7, 0.0, draw.gamma(1.5, 8.0, count))


@pytest.mark.parametrize("calibration", [0, 18, 99])
@pytest.mark.parametrize("kind", ["continuous", "zero-heavy", "whole"])
def test_exchangeable_streams_alarm_at_most_as_often_as_promised(kind, calibration):
    draw = np.random.default_rng(7)
    make = {
        "continuous": lambda count: draw.gamma(1.5, 8.0, count),
        "zero-heavy": lambda count: zero_heavy(draw, count),
        "whole": lambda count: draw.integers(0, 4, count).astype(float),
    }[kind]
    alarms = 0
    for _ in range(STREAMS):
        scores = make(calibration + RUNS)
        # streams that are alike but in their values, as those of one detector are
        found = exchangeability(scores[:calibration], scores[calibration:].tolist())
        assert found.runs == RUNS
        assert (found.alarm is None) == (found.evidence < ALARM)
        alarms += found.alarm is not None
    assert alarms <= binom.isf(CHANCE, STREAMS, 1 / ALARM)
    # were it never to win, it would not be a bet
    assert max(exchangeability([], make(50).tolist()).evidence for _ in range(20)) > 1


@pytest.mark.parametrize("calibration", [30, 99, 400])
def test_runs_that_become_stranger_or_less_strange_are_noticed(calibration):
    draw = np.random.default_rng(11)
    for _ in range(20):
        known = draw.gamma(1.5, 8.0, calibration)
        before = draw.gamma(1.5, 8.0, 20)
        for shifted, stranger in ((draw.gamma(1.5, 8.0, 180) * 4, True), (draw.gamma(1.5, 2.0, 180), False)):
            found = exchangeability(known, [*before, *shifted])
            assert found.alarm is not None and 20 < found.alarm <= RUNS
            assert found.stranger is stranger
            assert f"after {found.alarm} runs; evidence 1:" in found.text
            assert ("are less strange" if found.stranger is False else "are stranger") in found.text


@pytest.mark.parametrize("mode", ["all 0", "all alike but one"])
def test_ties_tell_nothing(mode):
    alarms = 0
    for calibration in range(400):
        known = [0.0] * calibration
        if mode == "all alike but one" and known:
            known[0] = float(calibration)
        alarms += exchangeability(known, [0.0] * RUNS).alarm is not None
    assert alarms <= binom.isf(CHANCE, 400, 1 / ALARM)


def test_equal_streams_give_equal_results_whatever_the_order_of_calibration():
    draw = np.random.default_rng(3)
    known, stream = zero_heavy(draw, 50), zero_heavy(draw, 80).tolist()
    assert exchangeability(known, stream) == exchangeability(draw.permutation(known), stream)
    wager = Wager(known)
    capital = [wager.add(score) for score in stream]
    assert wager.result == exchangeability(known, stream)
    assert wager.result.evidence == pytest.approx(max(1.0, *capital))


def test_without_runs_nothing_is_said():
    assert exchangeability([1.0, 2.0], []) is None
    found = exchangeability([1.0, 2.0], [3.0])
    assert (found.runs, found.alarm, found.stranger, found.text) == (1, None, None, None)


def test_capital_is_what_the_rule_of_the_simple_jumper_gives():
    # ranks that no tie blurs: each score is above all that came before it
    wager, shares = Wager([0.0]), [[1 / 3] * 3, [1 / 3] * 3]
    for number in range(1, 60):
        capital = wager.add(float(number))
        # p lies between 0 and 1 / (number + 1): the bet on low p gains between these
        at = [0.0, 0.0]
        for place, p in enumerate((0.0, 1 / (number + 1))):
            moved = [0.99 * share + 0.01 / 3 * sum(shares[place]) for share in shares[place]]
            shares[place] = [share * (1 + k * (p - 0.5)) for share, k in zip(moved, (-1, 0, 1), strict=True)]
            at[place] = sum(shares[place])
        assert at[1] * (1 - 1e-9) <= capital <= at[0] * (1 + 1e-9)
    assert wager.result.alarm is not None and wager.result.stranger


def test_very_long_streams_stay_within_floating_point():
    found = exchangeability([0.0] * 9, [float(i) for i in range(20_000)])
    assert found.alarm < 40 and np.isfinite(found.evidence)
    assert "evidence 1:1e+300 against" in found.text
