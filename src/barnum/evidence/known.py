"""What nominal runs show of evidence and effects, by keys; it adds up."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Annotated, Protocol, TypeVar

import msgspec

from barnum.errors import ModelError
from barnum.evaluations.signs import HINTS
from barnum.evidence.findings import LONGEST_KEY, Finding, Findings

# keys of which count is kept; more are refused
MOST_KEYS = 1 << 16
# of approaches; of a program with more none are kept
MOST_APPROACHES = 1 << 18

Runs = Annotated[int, msgspec.Meta(ge=1, le=1 << 53)]


class Keyed(Protocol):
    """What has a key that tells its kind."""

    @property
    def key(self) -> str: ...


_Keyed = TypeVar("_Keyed", bound=Keyed)


class KnownKey(msgspec.Struct, frozen=True, array_like=True):
    """A key of evidence or of effects: in how many ``runs`` it was, and where it was in a single one, what
    tells that one apart (``run``; None where it was in several). ``strong``: evidence that is enough
    alone."""

    key: Annotated[str, msgspec.Meta(max_length=LONGEST_KEY)]
    runs: Runs
    run: Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)] | None = None
    strong: bool = False


_Keys = Annotated[tuple[KnownKey, ...], msgspec.Meta(max_length=MOST_KEYS)]
_Approaches = Annotated[tuple[KnownKey, ...], msgspec.Meta(max_length=MOST_APPROACHES)]


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """The keys of ``evidence`` and of ``effects`` that nominal runs show; of ``watched`` runs effects were
    noted. ``approaches`` are the keys of blocks that lead to system calls (see digests/approaches.py); None
    where those of a run are not known, or there are too many."""

    evidence: _Keys = ()
    effects: _Keys = ()
    approaches: _Approaches | None = None
    watched: Annotated[int, msgspec.Meta(ge=0, le=1 << 53)] = 0

    def new_evidence(self, findings: Findings | None) -> tuple[Finding, ...]:
        """Those findings that no nominal run shows."""
        known = {each.key for each in self.evidence}
        return tuple(each for each in findings.findings if each.key not in known) if findings else ()

    def new_effects(self, effects: Iterable[_Keyed] | None) -> tuple[_Keyed, ...]:
        """Those effects that no nominal run has; none where those of no nominal run are known."""
        known = {each.key for each in self.effects}
        return tuple(each for each in effects or () if each.key not in known) if self.watched else ()

    def alone_in(self, runs: Collection[int]) -> Known:
        """The same, of which what counts as a single run's is only that of one of these ``runs``."""

        def kept(keys: _Keys) -> _Keys:
            return tuple(
                key if key.run is None or key.run in runs else KnownKey(key.key, key.runs, None, key.strong)
                for key in keys
            )

        return Known(evidence=kept(self.evidence), effects=kept(self.effects), watched=self.watched)

    @property
    def alarming(self) -> int:
        """In how many runs, left out, strong evidence would be new."""
        return len({each.run for each in self.evidence if each.strong and each.run is not None})

    @property
    def unusual(self) -> int:
        """In how many runs, left out, evidence that hints at a hijack would be new, strong or not."""
        alone = (each for each in self.evidence if each.run is not None)
        return len({each.run for each in alone if each.key.split(" ")[0] in HINTS})

    @property
    def acting(self) -> int:
        """In how many runs, left out, an effect would be new."""
        return len({each.run for each in self.effects if each.run is not None})


def known_of(
    findings: Findings | None, effects: Sequence[Keyed] | None, identity: int
) -> tuple[tuple[KnownKey, ...], tuple[KnownKey, ...]]:
    """The keys of evidence and of effects of one run, ascending; ``identity`` tells the run apart."""
    keys: dict[str, bool] = {}
    for finding in findings.findings if findings else ():
        keys[finding.key] = keys.get(finding.key, False) or finding.strong
    return (
        tuple(KnownKey(key, 1, identity, strong) for key, strong in sorted(keys.items())),
        tuple(KnownKey(key, 1, identity) for key in sorted({each.key for each in effects or ()})),
    )


def added_known(parts: Sequence[Known]) -> Known:
    """What the runs of all parts show; in whatever order they come, the same. A run may be in several of
    them: what it alone shows is known to be one run's, of other keys counts may be too high.

    Raises:
        ModelError: they show too many kinds.
    """
    approaches: tuple[KnownKey, ...] | None = None
    told = [part.approaches for part in parts if part.approaches is not None]
    if len(told) == len(parts):
        approaches = _added([key for each in told for key in each])
        if len(approaches) > MOST_APPROACHES:
            approaches = None
    return Known(
        evidence=_bounded(_added([key for part in parts for key in part.evidence])),
        effects=_bounded(_added([key for part in parts for key in part.effects])),
        approaches=approaches,
        watched=sum(part.watched for part in parts),
    )


def _bounded(keys: tuple[KnownKey, ...]) -> tuple[KnownKey, ...]:
    if len(keys) > MOST_KEYS:
        raise ModelError("these runs show more kinds of evidence or effects than a detector is for")
    return keys


def _added(keys: Sequence[KnownKey]) -> tuple[KnownKey, ...]:
    added: dict[str, KnownKey] = {}
    for key in keys:
        other = added.get(key.key)
        if other is not None and (key.run is None or key.run != other.run):
            key = KnownKey(key.key, key.runs + other.runs, None, key.strong or other.strong)
        added[key.key] = key
    return tuple(added[key] for key in sorted(added))
