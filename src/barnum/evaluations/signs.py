"""What a run shows, beside the transfers that an evaluation lists, that no nominal run shows."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

# up to where a run is judged: before it started another process, or had an effect that no nominal run has
Cut = Literal["spawn", "effect"]
# findings, and effects, that are told one by one
MOST_SHOWN = 20
# characters
LONGEST_TEXT, LONGEST_NAME = 1 << 15, 1 << 13

_Count = Annotated[int, msgspec.Meta(ge=0, le=1 << 53)]
_Text = Annotated[str, msgspec.Meta(max_length=LONGEST_TEXT)]
_Name = Annotated[str, msgspec.Meta(max_length=LONGEST_NAME)]


class Shown(msgspec.Struct, frozen=True):
    """Evidence of a hijack, or an effect, that no nominal run shows: its ``kind`` (of an effect: the call),
    what it is in words, the ``step`` of the path at which it is seen first (None: not known), and whether it
    is ``strong``: enough alone. ``module`` and ``offset`` are the place that evidence leads to: the path of
    the module, or the name of a page and the address; None where that is not known."""

    kind: _Name
    text: _Text
    step: _Count | None
    strong: bool = False
    module: _Name | None = None
    offset: _Count | None = None


class Signs(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a run shows that none of the nominal ``runs`` does that were learnt.

    ``evidence`` of a hijack, strong one first and otherwise by step, and ``effects`` in their order, are the
    first MOST_SHOWN of each; ``effects`` is None where those of this run, or of nominal ones, were not noted.
    ``alarming`` is in how many of the nominal runs, had they been left out, strong evidence would have been
    new.
    """

    runs: Annotated[int, msgspec.Meta(ge=1, le=1 << 53)]
    alarming: _Count = 0
    evidence: Annotated[tuple[Shown, ...], msgspec.Meta(max_length=MOST_SHOWN)] = ()
    effects: Annotated[tuple[Shown, ...], msgspec.Meta(max_length=MOST_SHOWN)] | None = None

    def before(self, end: int | None) -> Signs:
        """With the evidence within the first ``end`` steps alone (None: all). Effects stay: they are told,
        and nothing is judged by them."""
        if end is None:
            return self
        evidence = tuple(each for each in self.evidence if each.step is not None and each.step < end)
        return msgspec.structs.replace(self, evidence=evidence)

    def alarm(self, rate: float) -> Shown | None:
        """The first strong evidence, which makes a run anomalous; None where there is none, or where more
        nominal runs than ``rate`` of them would have shown such."""
        if self.alarming > rate * self.runs:
            return None
        return next((each for each in self.evidence if each.strong), None)

    @property
    def first_effect(self) -> int | None:
        """The step of the first effect whose step is known; None where there is none."""
        return next((each.step for each in self.effects or () if each.step is not None), None)
