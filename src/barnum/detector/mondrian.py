"""With which nominal runs a run is compared: those whose document is of the same kind, where these suffice.

A rate that is kept among all runs need not be kept within their kinds: those that are stranger by nature take
all the false alarms. Where a run is ranked among nominal runs of its own kind alone, the rate is kept for
each kind (Mondrian conformal prediction: V. Vovk, A. Gammerman, G. Shafer, Algorithmic Learning in a Random
World, 2005). Evidence is counted so, too: how many runs of the kind show such. All kinds are learnt as one.
Whether a kind is ranked apart depends on the number of its runs alone, never on what a run shows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated

import msgspec
import numpy as np
from numpy.typing import NDArray

from barnum.errors import ModelError
from barnum.evaluations.signs import Signs, hints_count
from barnum.evaluations.windows import WINDOW
from barnum.evidence.known import Known
from barnum.samples import KindName
from barnum.verdicts.alarms import alarm_rate
from barnum.verdicts.conformal import RATE, ConformalClassifier
from barnum.verdicts.scores.novelty import Novelty

# kinds that a detector knows; more are refused
MOST_KINDS = 256
# nominal runs of a kind that is ranked apart where no rate was asked for: 5 % can be kept to by these
FEWEST_ALONE = 19

Identity = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]


class KindRuns(msgspec.Struct, frozen=True, array_like=True):
    """A kind of documents: its ``name``, and what tells its nominal ``runs`` apart, ascending, learnt or held
    out."""

    name: KindName
    runs: Annotated[tuple[Identity, ...], msgspec.Meta(min_length=1)]


Kinds = Annotated[tuple[KindRuns, ...], msgspec.Meta(max_length=MOST_KINDS)] | msgspec.UnsetType


def kinds_in(kind_of: Mapping[int, str]) -> Kinds:
    """Kinds of runs, by their identities, as a file has them; left out where no run tells one.

    Raises:
        ModelError: there are too many.
    """
    runs: dict[str, list[int]] = {}
    for identity, kind in sorted(kind_of.items()):
        runs.setdefault(kind, []).append(identity)
    if len(runs) > MOST_KINDS:
        raise ModelError(
            f"the documents are of {len(runs):,} kinds, more than the {MOST_KINDS} that a detector is for: a "
            "kind is for many documents, such as pdf"
        )
    return tuple(KindRuns(kind, tuple(of)) for kind, of in sorted(runs.items())) or msgspec.UNSET


def check_kinds(kinds: Kinds, runs: NDArray[np.uint64]) -> None:
    """Raises ValueError where kinds contradict each other, or name a run that is none of ``runs`` u64[n]."""
    if isinstance(kinds, msgspec.UnsetType):
        return
    names = [kind.name for kind in kinds]
    named = [run for kind in kinds for run in kind.runs]
    if names != sorted(set(names)) or len(set(named)) < len(named):
        raise ValueError("a kind, or a run of it, comes twice")
    if not np.isin(np.array(named, np.uint64), runs).all():
        raise ValueError("a run that it does not know has a kind")


def kind_of_runs(kinds: Kinds) -> dict[int, str]:
    """The kinds of runs, by their identities; of those that tell one."""
    if isinstance(kinds, msgspec.UnsetType):
        return {}
    return {identity: kind.name for kind in kinds for identity in kind.runs}


def conformal(scores: Sequence[float], rate: float) -> ConformalClassifier:
    """What judges by novelty, compared with that of nominal runs."""
    return ConformalClassifier(scores, rate, Novelty(WINDOW))


@dataclass(frozen=True)
class Group:
    """Nominal runs of one kind.

    Attributes:
        scores: of all of them, learnt or held out; a single run that was learnt has none.
        learnt: how many were learnt.
        notes: what all nominal runs show; of these alone is counted what is new in one that is left out.
        rate: share of nominal runs that may be called anomalous; None: as for FittedAbout.
    """

    scores: tuple[float, ...]
    learnt: int
    notes: Known
    rate: float | None

    @property
    def fewest(self) -> int:
        """How many runs it takes to compare others with them alone."""
        return FEWEST_ALONE if self.rate is None else math.ceil(min(1 / self.rate, 1e15) - 1 - 1e-9)

    @cached_property
    def classifier(self) -> ConformalClassifier | None:
        """What judges runs of this kind; None where these are too few, so that all judge."""
        if len(self.scores) < max(1, self.fewest):
            return None
        least = 1 / (len(self.scores) + 1)
        return conformal(self.scores, max(RATE if self.rate is None else self.rate, least))

    def counted(self, signs: Signs) -> Signs:
        """What a run of this kind shows, with counts of these runs in place of those of all. New ways to
        system calls stay compared with those of all runs, which calls less anomalous."""
        if not self.learnt:
            return signs
        return msgspec.structs.replace(
            signs,
            runs=self.learnt,
            alarming=self.notes.alarming,
            unusual=None if signs.unusual is None else self.notes.unusual,
            acting=None if signs.acting is None else self.notes.acting,
        )

    def describe(self, acts: bool) -> str:
        """How runs of this kind are judged, for a person. ``acts``: effects count, as far as these runs
        allow."""
        runs = f"{len(self.scores):,} nominal run{'s' if len(self.scores) != 1 else ''} of this kind"
        classifier = self.classifier
        if classifier is None:
            return f"{runs}, compared with all kinds: to keep to a rate by themselves takes {self.fewest:,}"
        told = (
            f"{runs}; anomalous above {classifier.by.amount(classifier.threshold)}; at most "
            f"{100 * classifier.rate:.3g} % false alarms among runs of this kind"
        )
        rate, silent = alarm_rate(self.rate), []
        if self.notes.alarming > rate * self.learnt:
            silent.append("evidence")
        elif not hints_count(self.learnt, self.notes.unusual, rate):
            silent.append("evidence that is not strong")
        if acts and not hints_count(self.learnt, self.notes.acting, rate):
            silent.append("effects")
        return f"{told}; by {' and '.join(silent)} nothing is anomalous" if silent else told


@dataclass(frozen=True)
class Peers:
    """With what a run is compared.

    Attributes:
        classifier: what judges it, without its own score; None where a single run was learnt.
        threshold: scores above it are anomalous, in nats.
        group: the runs of its kind, where it is compared with these alone; None: it is compared with all.
        among_all: why it is compared with all, where its kind is told, or that of nominal runs is.
        scale: what a p-value among all is multiplied by to hold for runs of its kind as well.
    """

    classifier: ConformalClassifier | None
    threshold: float
    group: Group | None = None
    among_all: str | None = None
    scale: float = 1.0


class Groups:
    """The nominal runs of a detector by their kinds."""

    def __init__(
        self,
        kind_of: Mapping[int, str],
        scores: Sequence[tuple[int, float]],
        learnt: Sequence[int],
        notes: Known,
        rate: float | None,
    ) -> None:
        """Sort runs by their kinds.

        Args:
            kind_of: kinds of runs, by their identities; of those that tell one.
            scores: identities and scores of all runs that calibrate.
            learnt: identities of the runs that were learnt.
            notes: what these show.
            rate: see Group.
        """
        self.kind_of = kind_of
        some: dict[str, list[float]] = {kind: [] for kind in sorted(set(kind_of.values()))}
        known: dict[str, set[int]] = {kind: set() for kind in some}
        for identity in learnt:
            if identity in kind_of:
                known[kind_of[identity]].add(identity)
        rest = []
        for identity, score in scores:
            if identity in kind_of:
                some[kind_of[identity]].append(score)
            else:
                rest.append(score)
        self.untold = len(rest)
        self.all = {
            kind: Group(tuple(of), len(known[kind]), notes.alone_in(known[kind]), rate)
            for kind, of in some.items()
        }
        few = [group for group in self.all.values() if group.classifier is None]
        self._few = sum(len(group.scores) for group in few), sum(group.learnt for group in few)
        self._learnt = len(learnt)
        # of runs that are not compared with those of their kind alone
        self.rest = [*rest, *(score for group in few for score in group.scores)]

    @property
    def scores_apart(self) -> dict[str, tuple[float, ...]]:
        """Scores of the runs of each kind that is ranked apart."""
        return {kind: group.scores for kind, group in self.all.items() if group.classifier is not None}

    def apart(self, kind: str | None) -> Group | None:
        """The runs of a kind, where others of it are compared with these alone."""
        group = self.all.get(kind) if kind is not None else None
        return None if group is None or group.classifier is None else group

    def peers(
        self, classifier: ConformalClassifier | None, kind: str | None, identity: int, own: float | None
    ) -> Peers:
        """With what a run is compared.

        Args:
            classifier: what compares with all runs.
            kind: that of the run; None: not told.
            identity: what tells the run apart.
            own: its score, where it is a nominal run that was held out.
        """
        group = self.apart(kind)
        compared = classifier if group is None else group.classifier
        if compared is None:
            return Peers(None, math.inf)
        threshold = compared.threshold
        # a kind that was told later is not that under which a run was held out
        counted = own is not None and (group is None or self.kind_of.get(identity) == kind)
        if counted and own is not None and len(compared.scores) > 1:
            compared = compared.without(own)
        if group is not None:
            return Peers(compared, threshold, group)
        if kind is None:
            return Peers(compared, threshold, among_all="its kind is not told" if self.all else None)
        return Peers(
            compared,
            threshold,
            among_all=self._why_all(kind),
            scale=self._scale(len(compared.scores), counted and self.kind_of.get(identity) == kind),
        )

    def _why_all(self, kind: str) -> str:
        if kind not in self.all:
            return "no nominal run of its kind was learnt"
        group = self.all[kind]
        return f"of its kind {len(group.scores):,} nominal runs were learnt, alone it takes {group.fewest:,}"

    def _scale(self, runs: int, one_less: bool) -> float:
        """Of n runs m are of kinds that are not ranked apart. Of these k are at least as strange as a run at
        most if that many of all are, so that (1 + k) / (1 + m) is at least its p-value among these m."""
        if not self.all:
            return 1.0
        scores, learnt = self._few
        return max((1 + runs) / (1 + scores - one_less), (1 + self._learnt) / (1 + learnt))

    def describe(self, acts: bool) -> Iterator[str]:
        """A line for each kind, for a person; ``acts``: an effect may make a run anomalous."""
        for kind, group in self.all.items():
            yield f"kind {kind}: {group.describe(acts)}"
        if self.all and self.untold:
            yield f"no kind told: {self.untold:,} nominal runs; such runs are compared with all kinds"
