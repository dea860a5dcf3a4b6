"""Runs that are chosen among many: few of those that are called anomalous are nominal, and most are found."""

import msgspec
import numpy as np
import pytest

from barnum.evaluations.signs import Shown, Signs
from barnum.verdicts.alarms import by_evidence
from barnum.verdicts.conformal import ConformalClassifier
from barnum.verdicts.discoveries import Candidate, adjusted, candidate_of, chosen, decided, p_of, shortage
from barnum.verdicts.method import Verdict
from barnum.verdicts.scores.novelty import Novelty
from barnum.verdicts.scores.surprisal import Surprisal

STRONG = Shown("unknown", "called to nowhere", 7, strong=True)
TRIALS, RATE = 500, 0.01


def signs(runs, alarming=0, shown=False):
    return Signs(runs=runs, alarming=alarming, evidence=(STRONG,) if shown else ())


def candidate(classifier, score, told, **changes):
    verdict = msgspec.structs.replace(classifier.verdict(score), **changes)
    verdict, _ = by_evidence(verdict, told, None, RATE)
    return candidate_of(verdict, classifier, told, RATE, "novelty")


def nominal(draw, count):
    """Scores, most 0, and whether strong evidence is shown."""
    return np.where(draw.random(count) < 0.7, 0.0, draw.gamma(1.5, 8.0, count)), draw.random(count) < 0.004


@pytest.mark.parametrize(
    ("runs", "extra", "attacks", "rate"),
    [
        (150, 0, 10, 0.1), (150, 60, 10, 0.1), (99, 0, 20, 0.2), (400, 0, 5, 0.1), (60, 0, 30, 0.05),
        (99, 0, 0, 0.2),
    ],
)  # fmt: skip
def test_the_rate_is_kept_and_attacks_are_found(runs, extra, attacks, rate):
    draw = np.random.default_rng(13)
    shares, found = [], []
    for _ in range(TRIALS):
        # `runs` that are learnt, and `extra` scores of runs that calibrate without being learnt
        known, alarms = nominal(draw, runs + extra)
        alarming = int(alarms[:runs].sum())
        classifier = ConformalClassifier(known.tolist(), max(RATE, 1 / (len(known) + 1)), Novelty())
        scores, evident = nominal(draw, 40)
        scores = np.concatenate([scores, draw.gamma(20, 10.0, attacks)])
        evident = np.concatenate([evident, draw.random(attacks) < 0.5])
        p_values = [
            candidate(classifier, float(score), signs(runs, alarming, bool(shown))).p
            for score, shown in zip(scores, evident, strict=True)
        ]
        named = np.array([chosen(q, rate) for q in adjusted(p_values)])
        shares.append(named[:40].sum() / max(1, named.sum()))
        found.append(named[40:].mean() if attacks else 1.0)
    # five standard errors of what was drawn
    assert np.mean(shares) <= rate + 5 * np.std(shares) / TRIALS**0.5
    assert np.mean(found) > 0.75


def test_the_p_value_of_a_nominal_run_is_not_too_small_too_often():
    draw = np.random.default_rng(17)
    for runs, extra, often in ((60, 0, 0.004), (60, 0, 0.05), (60, 40, 0.02)):
        below = dict.fromkeys((0.02, 0.05, 0.1, 0.3), 0)
        for _ in range(TRIALS):
            known, _ = nominal(draw, runs + extra + 1)
            alarms = draw.random(runs + 1) < often
            classifier = ConformalClassifier(known[:-1].tolist(), 0.05, Novelty())
            told = signs(runs, int(alarms[:-1].sum()), bool(alarms[-1]))
            p = candidate(classifier, float(known[-1]), told).p
            assert 0 < p <= 1
            for t in below:
                below[t] += p <= t
        for t, count in below.items():
            assert count <= TRIALS * t + 5 * (TRIALS * t * (1 - t)) ** 0.5, (runs, extra, often, t)


def test_evidence_comes_before_every_score():
    classifier = ConformalClassifier([float(i) for i in range(99)], RATE, Novelty())
    quiet = candidate(classifier, 0.0, signs(99, shown=True))
    assert (quiet.p, quiet.because) == (1 / 100, "evidence")
    loud = candidate(classifier, 1e3, signs(99))
    assert (loud.p, loud.because) == (1 / 100, "novelty")
    assert candidate(classifier, 50.0, signs(99)).p == classifier.verdict(50.0).p_value
    # of one nominal run more is known than its score: it may be stranger than any other
    assert candidate(classifier, 1e3, signs(99, 1 - 1)).p < candidate(classifier, 1e3, signs(99, 1)).p


def test_weak_evidence_and_effects_come_before_every_score_too():
    classifier = ConformalClassifier([float(i) for i in range(99)], RATE, Novelty())
    hint = Shown("entry", "called into the middle of a function", 7)
    opened = Shown("openat", "opened /tmp/x for writing", 9)
    weak = Signs(runs=99, unusual=0, acting=0, evidence=(hint,))
    acts = Signs(runs=99, unusual=0, acting=0, effects=(opened,))
    for told, because in ((weak, "evidence"), (acts, "effect")):
        found = candidate(classifier, 0.0, told)
        assert (found.p, found.because) == (1 / 100, because)
    # nominal runs that show such themselves count as stranger than any other
    quiet = Signs(runs=99, unusual=0, acting=0)
    assert candidate(classifier, 50.0, quiet).p == classifier.verdict(50.0).p_value
    for changes, more in (({"unusual": 1}, 1), ({"acting": 1}, 1), ({"unusual": 1, "acting": 1}, 2)):
        told = msgspec.structs.replace(quiet, **changes)
        p = classifier.verdict(50.0).p_value + more / 100
        assert candidate(classifier, 50.0, told).p == pytest.approx(p)
    # or, where many do, decide nothing
    loud = msgspec.structs.replace(acts, acting=40)
    assert candidate(classifier, 50.0, loud).p == classifier.verdict(50.0).p_value
    assert candidate(classifier, 50.0, loud).because == "novelty"


def test_with_hints_and_effects_the_p_value_of_a_nominal_run_is_not_too_small_too_often():
    draw = np.random.default_rng(23)
    hint, opened = Shown("entry", "into the middle", 7), Shown("openat", "opened a file", 9)
    for runs, often in ((30, 0.005), (60, 0.02), (60, 0.1)):
        below = dict.fromkeys((0.02, 0.05, 0.1, 0.3), 0)
        for _ in range(TRIALS):
            known, _ = nominal(draw, runs + 1)
            weak, acts = draw.random(runs + 1) < often, draw.random(runs + 1) < often
            classifier = ConformalClassifier(known[:-1].tolist(), 0.05, Novelty())
            told = Signs(
                runs=runs,
                unusual=int(weak[:-1].sum()),
                acting=int(acts[:-1].sum()),
                evidence=(hint,) if weak[-1] else (),
                effects=(opened,) if acts[-1] else (),
            )
            p = candidate(classifier, float(known[-1]), told).p
            for t in below:
                below[t] += p <= t
        for t, count in below.items():
            assert count <= TRIALS * t + 5 * (TRIALS * t * (1 - t)) ** 0.5, (runs, often, t)


def test_evidence_that_many_nominal_runs_show_decides_nothing():
    classifier = ConformalClassifier([float(i) for i in range(99)], RATE, Novelty())
    for shown in (False, True):
        found = candidate(classifier, 50.0, signs(99, 30, shown))
        assert found.p == classifier.verdict(50.0).p_value
        assert found.because == "novelty"


def test_two_tests_with_different_runs_cost_a_factor_of_two():
    scores = [float(i) for i in range(99)]
    for classifier, runs in (
        (ConformalClassifier(scores, RATE, Novelty()), 60),
        (ConformalClassifier(scores, RATE, Surprisal()), 99),
    ):
        p = classifier.verdict(90.0).p_value
        assert candidate(classifier, 90.0, signs(runs)).p == 2 * p
        assert candidate(classifier, 0.0, signs(runs, shown=True)).p == pytest.approx(2 / (1 + runs))
        assert candidate(classifier, 0.0, signs(runs)).p == 1.0
    # where no evidence is known there is one test
    assert candidate(classifier, 90.0, None).p == p
    assert p_of(0.3, None, False, RATE, True) == 0.3


def test_a_run_that_is_refused_counts_as_one_that_is_not_anomalous():
    classifier = ConformalClassifier([float(i) for i in range(99)], RATE, Novelty())
    refused = candidate(classifier, 1e3, signs(99), refused="too much was lost", anomalous=False)
    assert refused.p == 1.0
    stays = Verdict(anomalous=False, score=9.0, refused="too much was lost")
    assert decided(stays, None, 0.1) == stays
    begins = Verdict(anomalous=True, score=9.0, p_value=0.01, incomplete="too much was lost")
    assert decided(begins, 0.05, 0.1) == begins
    assert decided(begins, 0.2, 0.1).refused == "too much was lost"
    assert decided(begins, 0.2, 0.1).word == "refused"
    whole = Verdict(anomalous=True, score=9.0, p_value=0.01, because="evidence")
    assert decided(whole, 0.2, 0.1) == Verdict(anomalous=False, score=9.0, p_value=0.01)


def test_adjusted_p_values_are_those_of_the_paper():
    # the example of Benjamini and Hochberg (1995): of 15 hypotheses 4 are rejected at 0.05
    p_values = [
        0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.3240, 0.4262, 0.5719,
        0.6528, 0.7590, 1.0,
    ]  # fmt: skip
    assert [chosen(q, 0.05) for q in adjusted(p_values)] == [True] * 4 + [False] * 11
    assert adjusted([]) == []
    # exactly at the rate
    assert chosen(adjusted([1 / 20, 1.0])[0], 0.1)


@pytest.mark.parametrize(
    ("nominal_runs", "runs", "rate"), [(18, 20, 0.1), (99, 20, 0.1), (20, 7, 0.3), (9, 4, 0.05)]
)
def test_what_too_few_nominal_runs_do_not_allow(nominal_runs, runs, rate):
    def most(count, anomalous):
        """Whether so many runs that are stranger than all nominal ones are called anomalous."""
        p_values = [1 / (1 + count)] * anomalous + [1.0] * (runs - anomalous)
        return chosen(adjusted(p_values)[0], rate)

    def told(count):
        least = 1 / (1 + count)
        return shortage([Candidate(p=1.0, least=least, nominal=count)] * runs, rate)

    sentence = told(nominal_runs)
    needed = next(count for count in range(1, 10_000) if most(count, 1))
    assert f"about {needed:,} nominal runs" in sentence
    assert told(needed) is None and told(needed - 1) is not None
    together = next((count for count in range(1, runs + 1) if most(nominal_runs, count)), None)
    if together is None:
        assert "nothing can be called anomalous" in sentence
    else:
        assert f"at least {together} are called anomalous or none" in sentence
    assert shortage([], rate) is None
