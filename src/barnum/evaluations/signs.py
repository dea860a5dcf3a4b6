"""What a run shows, beside the transfers that an evaluation lists, that no nominal run shows."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import msgspec

# up to where a run is judged: before it started another process, or had an effect that no nominal run has
Cut = Literal["spawn", "effect"]
# findings, and effects, that are told one by one
MOST_SHOWN = 20
# characters
LONGEST_TEXT, LONGEST_NAME = 1 << 15, 1 << 13

# kinds of evidence that hint at a hijack where no nominal run shows them: programs also die of mistakes, or
# give up what they do by a jump back
HINTS = ("unknown", "return", "entry", "address", "instruction", "code")
# kind of a system call that is reached in a way that no nominal run goes
APPROACH = "approach"
# nominal runs without which only strong evidence counts, and without which new ways to system calls do not:
# runs of few documents go many ways
FEWEST_RUNS, FEWEST_OF_APPROACHES = 3, 20
# highest scores of nominal runs, left out, that are kept
MOST_SCORES = 1000

# what two sums of the same weights may differ by
_ROUNDING = 1e-9

_Count = Annotated[int, msgspec.Meta(ge=0, le=1 << 53)]
_Text = Annotated[str, msgspec.Meta(max_length=LONGEST_TEXT)]
_Name = Annotated[str, msgspec.Meta(max_length=LONGEST_NAME)]


def hints_count(runs: int, unusual: int, rate: float) -> bool:
    """Whether evidence that is not strong, or an effect, that none of the nominal ``runs`` shows makes a run
    anomalous, where ``unusual`` of these, left out, show such.

    A run that is like them shows some with a chance of (1 + unusual) / (1 + runs) at most, which is to keep
    to the rate, or be the least that so many runs allow: that to which novelty is held, too.
    """
    return runs >= FEWEST_RUNS and (unusual == 0 or 1 + unusual <= rate * (1 + runs) + _ROUNDING)


class Shown(msgspec.Struct, frozen=True):
    """Evidence of a hijack, or an effect, that no nominal run shows: its ``kind`` (of an effect: the call),
    what it is in words, the ``step`` of the path at which it is seen first (None: not known), and whether it
    is ``strong``: enough alone. ``module`` and ``offset`` are the place that evidence leads to: the path of
    the module, or the name of a page and the address; None where that is not known. ``weight`` is that of a
    new way to a system call, nats."""

    kind: _Name
    text: _Text
    step: _Count | None
    strong: bool = False
    module: _Name | None = None
    offset: _Count | None = None
    weight: Annotated[float, msgspec.Meta(ge=0, le=1e6)] = 0.0

    @property
    def hints(self) -> bool:
        """Whether it is evidence that counts where no nominal run shows any."""
        return self.kind in HINTS


class Signs(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a run shows that none of the nominal ``runs`` does that were learnt.

    ``evidence`` of a hijack, strong one first and otherwise by step, and ``effects`` in their order, are the
    first MOST_SHOWN of each; ``effects`` is None where those of this run, or of nominal ones, were not noted.
    ``alarming`` is in how many of the nominal runs, had they been left out, strong evidence would have been
    new; ``unusual`` in how many evidence that hints at a hijack, strong or not, and ``acting`` in how many an
    effect (None: not known). ``approaching`` are the scores of nominal runs by new ways to system calls, each
    compared with all others and this run: those above 0, the highest MOST_SCORES, descending (None: not
    known). Such ways are among the evidence, of kind APPROACH, and the run's own score is the sum of their
    weights.
    """

    runs: Annotated[int, msgspec.Meta(ge=1, le=1 << 53)]
    alarming: _Count = 0
    unusual: _Count | None = None
    acting: _Count | None = None
    approaching: Annotated[tuple[float, ...], msgspec.Meta(max_length=MOST_SCORES)] | None = None
    evidence: Annotated[tuple[Shown, ...], msgspec.Meta(max_length=MOST_SHOWN)] = ()
    effects: Annotated[tuple[Shown, ...], msgspec.Meta(max_length=MOST_SHOWN)] | None = None

    def before(self, end: int | None) -> Signs:
        """With the evidence within the first ``end`` steps alone (None: all). Effects stay: they are told,
        and nothing is judged by them. Before an effect its system call is reached, and not yet made."""
        if end is None:
            return self
        reached = end + 1 if end == self.first_effect else end
        evidence = tuple(
            each
            for each in self.evidence
            if each.step is not None and each.step < (reached if each.kind == APPROACH else end)
        )
        return msgspec.structs.replace(self, evidence=evidence, acting=None)

    def within(self, end: int) -> Signs:
        """With what is seen within the first ``end`` steps alone, effects included."""

        def seen(shown: tuple[Shown, ...]) -> tuple[Shown, ...]:
            return tuple(each for each in shown if each.step is not None and each.step < end)

        effects = None if self.effects is None else seen(self.effects)
        return msgspec.structs.replace(self, evidence=seen(self.evidence), effects=effects)

    def alarm(self, rate: float) -> Shown | None:
        """The evidence that makes a run anomalous: the first strong one, else the first that hints at a
        hijack, else the first new way to a system call. None where there is none, or where nominal runs show
        too many themselves for the rate that is to be kept to."""
        if self.alarming <= rate * self.runs:
            strong = next((each for each in self.evidence if each.strong), None)
            if strong is not None:
                return strong
        if self.unusual is not None and hints_count(self.runs, self.unusual, rate):
            hint = next((each for each in self.evidence if each.hints), None)
            if hint is not None:
                return hint
        return self._alarming_approach(rate)

    def _alarming_approach(self, rate: float) -> Shown | None:
        if self.approaching is None or self.runs < FEWEST_OF_APPROACHES:
            return None
        new = [each for each in self.evidence if each.kind == APPROACH]
        score = sum(each.weight for each in new)
        stranger = sum(other >= score - _ROUNDING for other in self.approaching)
        if not new or stranger == MOST_SCORES or not hints_count(self.runs, stranger, rate):
            return None
        return new[0]

    def alarming_effect(self, rate: float) -> Shown | None:
        """The first effect, where effects make a run anomalous: where hardly any nominal run, left out, has
        one that no other has; see hints_count()."""
        if self.acting is None or not hints_count(self.runs, self.acting, rate):
            return None
        return next(iter(self.effects or ()), None)

    def strange(self, rate: float) -> int:
        """Number of nominal runs that, left out, show at most what decides beside the score: evidence, and
        effects. What more of them show than may be called anomalous decides nothing, and does not count.

        The bound is the same for these runs and the one that is judged: one more than for it alone.
        """
        most = rate * self.runs + 1
        # strong evidence is among that which hints
        hinting = [] if self.unusual is None or self.runs < FEWEST_RUNS else [self.unusual]
        counted = next((count for count in (*hinting, self.alarming) if count <= most), 0)
        if self.acting is not None and self.runs >= FEWEST_RUNS and self.acting <= most:
            counted += self.acting
        if self.approaching is not None and self.runs >= FEWEST_OF_APPROACHES:
            # of those with news the strangest may be called so
            counted += min(len(self.approaching), math.ceil(most))
        return counted

    def may_decide(self, rate: float) -> bool:
        """Whether a run could be anomalous by what it shows beside its score."""
        few = (each for each in (self.unusual, self.acting) if each is not None)
        if self.approaching is not None and self.runs >= FEWEST_OF_APPROACHES:
            return True
        return self.alarming <= rate * self.runs or any(hints_count(self.runs, each, rate) for each in few)

    @property
    def first_effect(self) -> int | None:
        """The step of the first effect whose step is known; None where there is none."""
        return next((each.step for each in self.effects or () if each.step is not None), None)
