"""Runs compared with nominal runs of their own kind alone: what is promised is kept for each kind."""

import msgspec
import numpy as np
import pytest

from barnum.detector.mondrian import FEWEST_ALONE, Groups, conformal, kinds_in
from barnum.errors import ModelError
from barnum.evaluations.signs import Shown, Signs
from barnum.evidence.known import Known, KnownKey
from barnum.verdicts.alarms import by_evidence
from barnum.verdicts.discoveries import candidate_of
from barnum.verdicts.exchangeability import exchangeability

TRIALS, RATE = 1500, 0.05
STRONG = Shown("unknown", "called to nowhere", 7, strong=True)
# of each kind the number of nominal runs, the scale of their scores, and the share that shows evidence
KINDS = {"pdf": (200, 4.0, 0.001), "ps": (30, 25.0, 0.03), "eps": (7, 30.0, 0.1), "xps": (5, 60.0, 0.1)}
NEW = -1


def drawn(draw, kind, count):
    """Scores of runs, many 0, and whether they show evidence."""
    _, scale, often = KINDS[kind]
    scores = np.where(draw.random(count) < 0.4, 0.0, draw.gamma(1.5, scale, count))
    return scores.tolist(), draw.random(count) < often


class Trial:
    """A detector that was learnt anew."""

    def __init__(self, draw):
        self.kind_of, self.scores, keys = {}, [], []
        for kind, (count, _, _) in KINDS.items():
            scores, evident = drawn(draw, kind, count)
            for score, shows in zip(scores, evident, strict=True):
                identity = len(self.scores)
                self.kind_of[identity] = kind
                self.scores.append((identity, score))
                if shows:
                    keys.append(KnownKey(f"unknown {identity}", 1, identity, strong=True))
        self.known = Known(evidence=tuple(keys))
        self.groups = Groups(self.kind_of, self.scores, list(self.kind_of), self.known, RATE)
        self.all = conformal([score for _, score in self.scores], RATE)

    def judge(self, kind, score, shows=False):
        """The verdict on a run, and its p-value as one of many."""
        peers = self.groups.peers(self.all, kind, NEW, None)
        shown = (STRONG,) if shows else ()
        signs = Signs(runs=len(self.scores), alarming=self.known.alarming, evidence=shown)
        if peers.group is not None:
            signs = peers.group.counted(signs)
        verdict, _ = by_evidence(peers.classifier.verdict(score), signs, None, RATE)
        return verdict, candidate_of(verdict, peers.classifier, signs, RATE, "novelty", peers.scale).p


def above(count, trials, share):
    """Whether so many are more than a share of all, beyond five standard errors."""
    return count > trials * share + 5 * (trials * share * (1 - share)) ** 0.5


def test_the_rate_is_kept_within_each_kind_and_without_kinds_it_is_not():
    draw = np.random.default_rng(3)
    within, among_all = dict.fromkeys(("pdf", "ps"), 0), dict.fromkeys(("pdf", "ps"), 0)
    for _ in range(TRIALS):
        trial = Trial(draw)
        for kind in within:
            [score], _ = drawn(draw, kind, 1)
            within[kind] += trial.judge(kind, score)[0].anomalous
            among_all[kind] += trial.all.verdict(score).anomalous
    for kind, count in within.items():
        assert not above(count, TRIALS, RATE), kind
        # and it is made use of
        assert count > TRIALS * RATE / 2, kind
    assert above(among_all["ps"], TRIALS, 3 * RATE)
    assert among_all["pdf"] < within["pdf"] / 2


def test_the_p_value_as_one_of_many_is_not_too_small_too_often_in_any_kind():
    draw = np.random.default_rng(5)
    levels = (0.02, 0.05, 0.1, 0.3)
    below = {kind: dict.fromkeys(levels, 0) for kind in ("pdf", "ps", "few")}
    alone = dict.fromkeys(levels, 0)
    for _ in range(TRIALS):
        trial = Trial(draw)
        for name, counts in below.items():
            # kinds with few runs are promised something together alone
            kind = name if name != "few" else "eps" if draw.random() < 7 / 12 else "xps"
            [score], [shows] = drawn(draw, kind, 1)
            verdict, p = trial.judge(kind, score, bool(shows))
            for t in levels:
                counts[t] += p <= t
                if name == "few":
                    alone[t] += verdict.p_value <= t
    for kind, counts in below.items():
        for t, count in counts.items():
            assert not above(count, TRIALS, t), (kind, t)
    # ranked among all they would be
    assert above(alone[0.05], TRIALS, 0.05)


def test_runs_that_come_sorted_by_kind_are_still_like_those_learnt():
    draw = np.random.default_rng(7)
    alarms = {"kinds": 0, "all": 0}
    for _ in range(150):
        trial = Trial(draw)
        kind_of = ["pdf"] * 60 + ["ps"] * 90 + ["eps", "xps"] * 3
        stream = [drawn(draw, kind, 1)[0][0] for kind in kind_of]
        groups = trial.groups
        found = exchangeability(groups.rest, stream, groups.scores_apart, kind_of)
        assert found.runs == len(stream)
        alarms["kinds"] += found.alarm is not None
        alarms["all"] += exchangeability(trial.all.scores, stream).alarm is not None
    assert not above(alarms["kinds"], 150, 0.05)
    assert above(alarms["all"], 150, 0.2)
    # and a change within a kind is seen
    stream = [score + 20 for score in drawn(draw, "pdf", 40)[0]]
    found = exchangeability(groups.rest, stream, groups.scores_apart, ["pdf"] * 40)
    assert found.alarm is not None and found.stranger


@pytest.mark.parametrize(("rate", "fewest"), [(None, FEWEST_ALONE), (0.05, 19), (0.1, 9), (0.01, 99)])
def test_kinds_with_too_few_runs_are_compared_with_all(rate, fewest):
    for count in (fewest - 1, fewest):
        kind_of = {i: "new" if i < count else "pdf" for i in range(count + 150)}
        scores = [(i, float(i)) for i in kind_of]
        groups = Groups(kind_of, scores, list(kind_of), Known(), rate)
        everyone = conformal([score for _, score in scores], rate or 0.01)
        peers = groups.peers(everyone, "new", NEW, None)
        if count == fewest:
            assert peers.among_all is None
            assert peers.classifier.scores == [float(i) for i in range(count)]
            assert peers.threshold == fewest - 1
        else:
            assert peers.threshold == everyone.threshold
            assert peers.among_all == (
                f"of its kind {count:,} nominal runs were learnt, alone it takes {fewest:,}"
            )


def test_evidence_of_one_kind_does_not_silence_that_of_another():
    # every third run of one kind shows strong evidence: more than may be called anomalous among all
    kind_of = {i: "pdf" if i < 100 else "ps" for i in range(130)}
    keys = tuple(KnownKey(f"unknown {i}", 1, i, strong=True) for i in range(100, 130, 3))
    scores = [(i, float(i % 7)) for i in kind_of]
    groups = Groups(kind_of, scores, list(kind_of), Known(evidence=keys), RATE)
    signs = Signs(runs=130, alarming=len(keys), evidence=(STRONG,))
    assert signs.alarm(RATE) is None
    assert groups.all["pdf"].counted(signs).alarm(RATE) == STRONG
    assert groups.all["ps"].counted(signs).alarm(RATE) is None
    pdf, ps = groups.describe(False)
    assert "nothing is anomalous" not in pdf and "; by evidence nothing is anomalous" in ps


def test_a_held_out_run_is_not_compared_with_itself():
    kind_of = dict.fromkeys(range(40), "pdf")
    scores = [(i, float(i)) for i in range(40)]
    groups = Groups(kind_of, scores, list(range(20)), Known(), None)
    everyone = conformal([score for _, score in scores], 0.05)
    own = groups.peers(everyone, "pdf", 39, 39.0).classifier
    assert own.scores == [float(i) for i in range(39)]
    assert groups.peers(everyone, "pdf", 99, None).classifier.scores == [float(i) for i in range(40)]


def test_too_many_kinds_are_refused():
    assert kinds_in({}) is msgspec.UNSET
    assert [(kind.name, kind.runs) for kind in kinds_in({9: "ps", 3: "ps", 5: "pdf"})] == [
        ("pdf", (5,)), ("ps", (3, 9))
    ]  # fmt: skip
    with pytest.raises(ModelError, match="300 kinds, more than the 256"):
        kinds_in({i: f"kind-{i}" for i in range(300)})
