"""Many runs together: is a false discovery rate kept to, and when does a bet say that runs have changed?"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from recordings import Run

from barnum.detector.fitted import Fitted, fit
from barnum.digests.signs import signs_of
from barnum.verdicts.alarms import by_evidence
from barnum.verdicts.discoveries import adjusted, candidate_of, chosen
from barnum.verdicts.exchangeability import exchangeability

F64 = NDArray[np.float64]
RATE = 0.01
# of runs that come in together, and of how many of them are harmful
TOGETHER, SHARES = 2000, (0.0, 0.02, 0.1, 0.2)
DISCOVERY_RATES = (0.05, 0.1, 0.2)
DRAWS, RESAMPLED = 20, 10
STREAMS = 200
# runs like those learnt that come before those of a kind that was not
BEFORE, MOST = 20, 200


@dataclass(frozen=True)
class Chosen:
    """Of all draws, with so many ``nominal`` runs: the mean share of harmless runs among those that were
    called anomalous, with its standard error over draws of nominal runs, and the share of harmful runs that
    was found."""

    nominal: int
    asked: float
    harmful: float
    wrong: float
    error: float
    found: float


def halves(runs: Sequence[Run], seed: str, count: int) -> Iterator[tuple[list[Run], list[Run]]]:
    """Halves of the harmless runs, drawn so often: those that are learnt, and the others in random order."""
    harmless = [run for run in runs if not run.harmful]
    chance = random.Random(seed)
    for _ in range(count):
        chance.shuffle(harmless)
        half = len(harmless) // 2
        yield harmless[:half], harmless[half:]


def fitted(runs: Sequence[Run]) -> Fitted:
    """A detector of some runs, which keeps to RATE or the least that they allow."""
    rate = RATE if RATE * (1 + len(runs)) >= 1 else None
    return fit(((run.digest, run.identity) for run in runs), rate=rate)


def score(detector: Fitted, run: Run) -> float:
    """What a bet takes of a run."""
    return detector.knowledge.new(run.digest).score


def p_value(detector: Fitted, run: Run) -> float:
    """The p-value of a run by its score, evidence and effects, as the product has it."""
    classifier = detector.classifier
    assert classifier is not None
    signs = signs_of(detector.about.notes, len(detector.counts), run.digest)
    verdict, _ = by_evidence(classifier.verdict(score(detector, run)), signs, None, RATE)
    return candidate_of(verdict, classifier, signs, RATE, "novelty").p


def discoveries(runs: Sequence[Run], seed: str) -> list[Chosen]:
    """Which of TOGETHER runs, drawn with replacement from runs that were not learnt, are called anomalous."""
    harmful = [run for run in runs if run.harmful]
    shares: dict[tuple[float, float], list[tuple[float, float]]] = {}
    chance = np.random.default_rng(len(runs))
    for nominal, others in halves(runs, seed, DRAWS):
        detector = fitted(nominal)
        good, bad = (np.array([p_value(detector, run) for run in some]) for some in (others, harmful))
        for share in SHARES:
            drawn = [_called(good, bad, share, chance) for _ in range(RESAMPLED)]
            for at, asked in enumerate(DISCOVERY_RATES):
                one = np.array([each[at] for each in drawn]).mean(axis=0)
                shares.setdefault((asked, share), []).append((float(one[0]), float(one[1])))
    half = len([run for run in runs if not run.harmful]) // 2
    told = []
    for (asked, share), each in sorted(shares.items()):
        wrong, found = np.array(each).T
        error = float(wrong.std(ddof=1) / len(wrong) ** 0.5)
        told.append(Chosen(half, asked, share, float(wrong.mean()), error, float(found.mean())))
    return told


def _called(good: F64, bad: F64, share: float, chance: np.random.Generator) -> list[tuple[float, float]]:
    """Shares of harmless runs among those that are called anomalous, and of harmful runs among them all."""
    many = round(share * TOGETHER)
    values = np.concatenate([chance.choice(good, TOGETHER - many), chance.choice(bad, many)])
    least = np.array(adjusted(values.tolist()))
    told = []
    for asked in DISCOVERY_RATES:
        named = np.array([chosen(q, asked) for q in least.tolist()])
        wrong = named[: TOGETHER - many].sum() / max(1, named.sum())
        told.append((float(wrong), float(named[TOGETHER - many :].mean()) if many else 0.0))
    return told


def false_alarms(runs: Sequence[Run], seed: str) -> tuple[int, int, int]:
    """Of STREAMS of runs like those learnt: how many raise the alarm; their number, and their length."""
    raised = length = 0
    for nominal, others in halves(runs, seed, STREAMS):
        detector = fitted(nominal)
        assert detector.classifier is not None
        result = exchangeability(detector.classifier.scores, [score(detector, run) for run in others])
        raised += result is not None and result.alarm is not None
        length = len(others)
    return raised, STREAMS, length


def changes(runs: Sequence[Run], seed: str, group: Callable[[str], str]) -> dict[str, tuple[int | None, int]]:
    """When the alarm is raised as documents come in of kinds that were never learnt.

    Each group of kinds is left out in turn. BEFORE runs like those learnt come before its first.

    Returns:
        By group: after how many of its documents (None: never), and how many there are, at most MOST.
    """
    harmless = [run for run in runs if not run.harmful]
    chance = random.Random(seed)
    found: dict[str, tuple[int | None, int]] = {}
    for name in sorted({group(run.kind) for run in harmless}):
        same = [run for run in harmless if group(run.kind) == name]
        others = [run for run in harmless if group(run.kind) != name]
        chance.shuffle(others)
        chance.shuffle(same)
        detector = fitted(others[BEFORE:])
        assert detector.classifier is not None
        stream = [score(detector, run) for run in (*others[:BEFORE], *same[:MOST])]
        result = exchangeability(detector.classifier.scores, stream)
        alarm = None if result is None or result.alarm is None else result.alarm - BEFORE
        found[name] = (alarm, len(same[:MOST]))
    return found
