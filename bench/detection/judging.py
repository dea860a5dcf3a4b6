"""How well a way of judging finds the harmful runs of a program, by what it learns from harmless ones."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from recordings import Run
from ways import Learnt, Way

from barnum.digests.notes import Notes, added_notes, notes_of
from barnum.digests.signs import signs_of
from barnum.evaluations.signs import APPROACH
from barnum.verdicts.statistics import Auc, auc_of

F64 = NDArray[np.float64]
# up to where runs are judged: all of them; before another process is started; before the first effect that no
# nominal run has; up to and including the transfer that hijacks the program
Until = Literal["whole", "spawn", "effect", "hijack"]
UNTIL: tuple[Until, ...] = ("whole", "spawn", "effect", "hijack")
# false alarms among held-out harmless runs at which is told what is found
RATES = (0.0, 0.005, 0.01, 0.02, 0.05)
ABOVE = 1e6  # nats, above all scores
ALL = 0  # instead of a number of nominal runs
DRAWS = 10


@dataclass(frozen=True)
class End:
    """Where judging ends: after so many ``transfers`` and before that ``step``; None: with the run."""

    transfers: int | None = None
    step: int | None = None


def end_of(run: Run, until: Until, known: Notes) -> End | None:
    """Where judging of a run ends; None where it has no such place."""
    about = run.digest.about
    if until == "whole":
        return End()
    if until == "spawn":
        return None if about.cut is None else End(about.cut, about.source.cut)
    if until == "hijack":
        if run.hijack is None:
            return None
        taken = run.digest.taken
        return End(int(taken.first[run.hijack]) + 1, int(taken.step[run.hijack]) + 1)
    for effect in known.new_effects(about.effects):
        if effect.transfers is not None:
            return End(effect.transfers, effect.step)
    return None


@dataclass
class Tally:
    """What was found over several draws of nominal runs.

    ``cut``: how many of the harmful runs have such an end; the others are judged as a whole, and count.
    ``found``: the share of harmful runs above all but such a share of the held-out harmless ones, by rate
    and draw; ``told`` and ``wrong``: shares of harmful and of held-out harmless runs that are called
    anomalous at the rate that is promised, ``told_cut`` of those that have such an end;
    ``aucs``: of each draw; ``missed``: how often each harmful run
    was not found by that.
    """

    cut: int = 0
    harmful: int = 0
    held_out: int = 0
    promised: float = 0.0
    found: dict[float, list[float]] = field(default_factory=lambda: {rate: [] for rate in RATES})
    told: list[float] = field(default_factory=list)
    told_cut: list[float] = field(default_factory=list)
    wrong: list[float] = field(default_factory=list)
    aucs: list[Auc] = field(default_factory=list)
    missed: dict[str, int] = field(default_factory=dict)


def draws(runs: Sequence[Run], count: int, seed: str) -> list[tuple[list[Run], list[Run]]]:
    """Nominal and held-out harmless runs: ``count`` of them drawn DRAWS times, or (ALL) each tenth held out
    in turn."""
    harmless = [run for run in runs if not run.harmful]
    random.Random(seed).shuffle(harmless)
    if count == ALL:
        parts = [harmless[at::DRAWS] for at in range(DRAWS)]
        return [([run for run in harmless if run not in part], part) for part in parts if part]
    chance = random.Random(f"{seed} {count}")
    found = []
    for _ in range(DRAWS):
        chance.shuffle(harmless)
        found.append((list(harmless[:count]), list(harmless[count:])))
    return found


def tally(way: Way, runs: Sequence[Run], count: int, seed: str) -> dict[Until, Tally]:
    """What a way of judging finds of a program, until each end."""
    harmful = [run for run in runs if run.harmful]
    tallies: dict[Until, Tally] = {}
    for nominal, held_out in draws(runs, count, seed):
        known = added_notes([notes_of(run.digest, run.identity) for run in nominal])
        learnt = way.learn(nominal)
        others = np.array([learnt.score(run, End(), signs(known, nominal, run, End())) for run in held_out])
        for until in UNTIL:
            ends = [end_of(run, until, known) for run in harmful]
            if not any(ends):
                continue
            scores = np.array(
                [
                    learnt.score(run, end or End(), signs(known, nominal, run, end or End()))
                    for run, end in zip(harmful, ends, strict=True)
                ]
            )
            _add(tallies.setdefault(until, Tally()), learnt, harmful, ends, scores, others)
    return tallies


def signs(known: Notes, nominal: Sequence[Run], run: Run, end: End) -> float:
    """What makes a run anomalous beside its score, as the product judges it: above all scores, evidence
    first, then effects, then new ways to system calls by their weight; 0 where nothing does."""
    found = signs_of(known, len(nominal), run.digest).before(end.step)
    alarm, effect = found.alarm(0.01), found.alarming_effect(0.01)
    if alarm is not None and alarm.kind != APPROACH:
        return 3 * ABOVE
    if effect is not None:
        return 2 * ABOVE
    if alarm is None:
        return 0.0
    return ABOVE + sum(each.weight for each in found.evidence if each.kind == APPROACH)


def _add(
    tally: Tally,
    learnt: Learnt,
    harmful: Sequence[Run],
    ends: Sequence[End | None],
    scores: F64,
    others: F64,
) -> None:
    tally.cut = sum(end is not None for end in ends)
    tally.harmful, tally.held_out = len(harmful), tally.held_out + len(others)
    tally.promised = learnt.rate
    ordered = np.sort(others)
    for rate in RATES:
        allowed = int(rate * len(ordered) + 1e-9)
        threshold = ordered[len(ordered) - 1 - allowed] if allowed < len(ordered) else -np.inf
        tally.found[rate].append(float((scores > threshold).mean()))
    told = scores > learnt.threshold
    tally.told.append(float(told.mean()))
    tally.told_cut.append(float(told[[end is not None for end in ends]].mean()))
    tally.wrong.append(float((others > learnt.threshold).mean()) * len(others))
    tally.aucs.append(auc_of(others, scores))
    for run, found in zip(harmful, told.tolist(), strict=True):
        tally.missed[run.name] = tally.missed.get(run.name, 0) + (not found)


def false_evidence(runs: Sequence[Run], count: int, seed: str) -> tuple[int, int]:
    """How many held-out harmless runs of all draws are flagged for evidence, and how many there are."""
    wrong = total = 0
    for nominal, held_out in draws(runs, count, seed):
        known = added_notes([notes_of(run.digest, run.identity) for run in nominal])
        found = [signs_of(known, len(nominal), run.digest).alarm(0.01) for run in held_out]
        wrong, total = wrong + sum(each is not None for each in found), total + len(found)
    return wrong, total
