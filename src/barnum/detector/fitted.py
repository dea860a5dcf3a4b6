"""A fitted detector: one file with counts over the digests of nominal runs, and what it judges by.

It is learnt from digests alone. Its counts add up: detectors that were fitted to parts of the runs give,
merged, the bytes of one that was fitted to the whole.
"""

from __future__ import annotations

import gzip
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from barnum import __version__
from barnum.detector.mondrian import (
    Groups,
    Identity,
    Kinds,
    Peers,
    check_kinds,
    conformal,
    kind_of_runs,
    kinds_in,
)
from barnum.digests import Digest
from barnum.digests.approached import promise_of
from barnum.digests.columns import column, described, differences, packed, summed, unpacked
from barnum.digests.counts import Counts, added, counts_of
from barnum.digests.enough import Enough, enough_of
from barnum.digests.knowledge import Knowledge
from barnum.digests.notes import Notes, added_notes, notes_of
from barnum.errors import EvaluationError, ModelError
from barnum.evaluations.header import Calibration
from barnum.evaluations.signs import hints_count
from barnum.evaluations.windows import WINDOW
from barnum.files import read_bounded, write_whole
from barnum.paths import KINDS, Learn
from barnum.sequences import FEW_RUNS
from barnum.texts import shortened
from barnum.verdicts.alarms import alarm_rate
from barnum.verdicts.conformal import RATE, ConformalClassifier
from barnum.verdicts.judgement import MAX_LOST

SCHEMA = 1
# bytes of a detector once unpacked, and rows of a column: some ten million distinct transfers
_LARGEST = 1 << 30
_MOST_ROWS = 1 << 26
_LARGEST_ABOUT = 64 << 20
_ABOUT = "about"
_LEVEL = 6

Share = Annotated[float, msgspec.Meta(gt=0, lt=1)]


class FittedAbout(msgspec.Struct, frozen=True, kw_only=True):
    """What a fitted detector says of itself.

    ``learn``: kinds of transfers that it knows; ``rate``: share of nominal runs that may be called anomalous
    (None: 1 %, or with fewer than 99 runs the least that they allow); ``max_lost``: runs of which more was
    lost are not judged as a whole; ``held_out``: identities and scores of nominal runs that were not learnt,
    with which others are compared as well; ``kinds``: kinds of documents, where runs tell them.
    """

    schema: int
    version: str
    learn: Learn
    rate: Share | None
    max_lost: Annotated[float, msgspec.Meta(ge=0, le=1)]
    notes: Notes
    held_out: tuple[tuple[Identity, Annotated[float, msgspec.Meta(ge=0, le=1e12)]], ...] = ()
    kinds: Kinds = msgspec.UNSET


# made once, before several threads read: see evaluations/parquet.py
_ABOUT_DECODER = msgspec.json.Decoder(FittedAbout)


@dataclass(frozen=True)
class Fitted:
    """What was learnt of nominal runs, and how others are judged by it."""

    about: FittedAbout
    counts: Counts

    def __repr__(self) -> str:
        return f"<Fitted: {len(self.counts):,} runs, {len(self.counts.edge_site):,} distinct transfers>"

    @cached_property
    def knowledge(self) -> Knowledge:
        """What all runs know."""
        return Knowledge(self.counts)

    @cached_property
    def classifier(self) -> ConformalClassifier | None:
        """What judges by novelty; None where a single run was learnt, which says nothing of other runs.

        Raises:
            EvaluationError: the rate takes more runs.
        """
        scores = [score for _, score in self._scores]
        if not scores:
            return None
        least = 1 / (len(scores) + 1)
        rate = max(RATE, least) if self.about.rate is None else self.about.rate
        if rate < least - 1e-12:
            needed = int(min(1 / rate, 1e15) - 1 + 1e-9)
            raise EvaluationError(
                f"a false alarm rate of {rate:g} takes at least {needed} nominal runs, "
                f"here are {len(scores)}: fit more, or with --false-alarm-rate {np.ceil(least * 1e4) / 1e4:g}"
            )
        return conformal(scores, rate)

    @cached_property
    def _scores(self) -> list[tuple[int, float]]:
        """Identities and scores of the runs with which others are compared."""
        # a single run that was learnt has no score
        learnt = zip(self.counts.runs.tolist(), self.knowledge.left_out().tolist(), strict=False)
        return [*learnt, *self.about.held_out]

    @cached_property
    def groups(self) -> Groups:
        """The runs by the kinds of their documents."""
        about, learnt = self.about, self.counts.runs.tolist()
        return Groups(kind_of_runs(about.kinds), self._scores, learnt, about.notes, about.rate)

    @property
    def enough(self) -> Enough | None:
        """How new the last of the learnt runs were; None of too few runs to say."""
        return enough_of(self.counts)

    @property
    def threshold(self) -> float:
        """Scores above it, in nats, are anomalous; infinite for a single run, and where kinds differ."""
        kinds = self.groups.scores_apart
        return math.inf if kinds or self.classifier is None else self.classifier.threshold

    def peers(self, identity: int, kind: str | None) -> Peers:
        """With what the run of a digest is compared, by its identity and the kind of its document."""
        own = next((score for other, score in self.about.held_out if other == identity), None)
        return self.groups.peers(self.classifier, kind, identity, own)

    def knows(self, identity: int) -> bool:
        """Whether it has learnt the run of a digest, by its identity, or compares others with that."""
        return identity in self.counts.runs or any(own == identity for own, _ in self.about.held_out)

    @property
    def alarms(self) -> bool:
        """Whether strong evidence that no nominal run shows makes a run anomalous by itself."""
        return self.about.notes.alarming <= alarm_rate(self.about.rate) * len(self.counts)

    @property
    def hints(self) -> bool:
        """Whether weaker evidence does so, too."""
        rate = alarm_rate(self.about.rate)
        return self.alarms and hints_count(len(self.counts), self.about.notes.unusual, rate)

    @property
    def acts(self) -> bool:
        """Whether an effect that no nominal run has makes a run anomalous by itself."""
        notes, runs = self.about.notes, len(self.counts)
        return notes.watched == runs and hints_count(runs, notes.acting, alarm_rate(self.about.rate))

    def describe(self) -> str:
        """A line each for a person: what is judged, by which rules, and what they promise."""
        told = self._described()
        if self.acts:
            told += (
                "\nan effect on files, processes or the network that no nominal run has is anomalous "
                f"(left out, {self.about.notes.acting or 'none'} would have such)"
            )
        promised = promise_of(self.about.notes.approaches, len(self.counts), alarm_rate(self.about.rate))
        return "\n".join(filter(None, [told, promised, *self.groups.describe(self.acts)]))

    def _described(self) -> str:
        classifier, alarming = self.classifier, self.about.notes.alarming
        runs = f"{len(self.counts):,} nominal run{'s' if len(self.counts) != 1 else ''}"
        novelty = (
            "from a single run nothing is known of how much others differ: novelty calls nothing anomalous"
            if classifier is None
            else classifier.describe()
        )
        if self.hints:
            shown = f"of {runs}, left out, {self.about.notes.unusual or 'none'} would show such"
            return f"{novelty}\nevidence of a hijack that no nominal run shows is anomalous ({shown})"
        shown = f"of {runs}, left out, {alarming or 'none'} would show such"
        if self.alarms:
            return f"{novelty}\nstrong evidence of a hijack that no nominal run shows is anomalous ({shown})"
        return f"{novelty}\nevidence of a hijack is told, but calls nothing anomalous ({shown}: too many)"

    @property
    def calibration(self) -> Calibration:
        """What scores are compared with, as evaluations tell it; without the scores."""
        return Calibration(score="novelty", window=WINDOW, scores=())


def fit(
    digests: Iterable[tuple[Digest, int]],
    *,
    rate: float | None = None,
    max_lost: float = MAX_LOST,
    beside: Fitted | None = None,
    held_out: Iterable[tuple[Digest, int]] = (),
) -> Fitted:
    """Learn a detector from the digests of nominal runs and their identities.

    Args:
        digests: at least one.
        held_out: of further nominal runs, which are not learnt: others are compared with their scores, too.
        rate: share of nominal runs that may be called anomalous; see FittedAbout.
        max_lost: see FittedAbout.
        beside: what was learnt before; it is in the result.

    Raises:
        ModelError: there is no run, one comes twice, or they do not belong together.
    """
    notes: list[Notes] = []
    learns: set[Learn] = set()
    kind_of: dict[int, str] = {}

    def note_kind(digest: Digest, identity: int) -> None:
        if digest.about.kind is not None:
            kind_of[identity] = digest.about.kind

    def noted() -> Iterable[tuple[Digest, int]]:
        for digest, identity in digests:
            notes.append(notes_of(digest, identity))
            learns.add(digest.about.learn)
            note_kind(digest, identity)
            if len(notes) >= FEW_RUNS:
                notes[:] = [added_notes(notes)]
            yield digest, identity

    counts = counts_of(noted())
    if beside is not None:
        counts = added([beside.counts, counts])
        learns.add(beside.about.learn)
        notes.append(beside.about.notes)
        held = {run for run, _ in beside.about.held_out}
        kind_of |= {run: kind for run, kind in kind_of_runs(beside.about.kinds).items() if run not in held}
    if not len(counts) or not len(counts.edge_site):
        raise ModelError("there is nothing to learn: no nominal run has a transfer")
    if len(learns) > 1:
        raise ModelError("the digests hold different kinds of transfers: make them anew")
    about = FittedAbout(
        schema=SCHEMA,
        version=__version__,
        learn=learns.pop(),
        rate=rate,
        max_lost=max_lost,
        notes=added_notes(notes),
    )
    fitted = Fitted(about, counts)
    scores: dict[int, float] = {}
    for digest, identity in held_out:
        if identity in counts.runs:
            raise ModelError(
                f"{digest.about.name}: is learnt, so it cannot be held out, too: leave it out of one"
            )
        if digest.about.learn != about.learn:
            raise ModelError("the digests hold different kinds of transfers: make them anew")
        scores[identity] = fitted.knowledge.new(digest).score
        note_kind(digest, identity)
    about = msgspec.structs.replace(about, held_out=tuple(sorted(scores.items())), kinds=kinds_in(kind_of))
    return Fitted(about, counts)


def merged(parts: Sequence[Fitted]) -> Fitted:
    """One detector of all that several have learnt.

    Raises:
        ModelError: they know different kinds of transfers, were told to judge differently, or a run is in
            two of them.
    """
    first = parts[0].about
    for part in parts:
        about = part.about
        if (about.learn, about.rate, about.max_lost) != (first.learn, first.rate, first.max_lost):
            raise ModelError("they judge by different rates or kinds of transfers: fit them alike")
        if about.held_out:
            raise ModelError(
                "one was calibrated by runs that were held out, whose scores hold for what it has learnt "
                "alone: merge detectors that were fitted without, and calibrate by `barnum fit --add-to`"
            )
    notes = added_notes([part.about.notes for part in parts])
    kinds = kinds_in({run: kind for part in parts for run, kind in kind_of_runs(part.about.kinds).items()})
    about = msgspec.structs.replace(first, version=__version__, notes=notes, kinds=kinds)
    return Fitted(about, added([part.counts for part in parts]))


# columns of counts in files: whether they are differences from row to row
_COLUMNS = {
    "runs": False,
    "stretches": False,
    "site": True,
    "site_runs": False,
    "target": True,
    "target_runs": False,
    "edge_site": True,
    "edge_target": True,
    "kind": False,
    "edge_runs": False,
    "row_edge": True,
    "row_run": False,
    "row_first": False,
    "row_stretches": False,
    "way_row": True,
    "way_entry": False,
    "way_first": False,
    "way_stretches": False,
}
_TABLES = {
    "runs": ("runs", "stretches"),
    "site": ("site", "site_runs"),
    "target": ("target", "target_runs"),
    "edge_site": ("edge_site", "edge_target", "kind", "edge_runs"),
    "row_edge": ("row_edge", "row_run", "row_first", "row_stretches"),
    "way_row": ("way_row", "way_entry", "way_first", "way_stretches"),
}
_NARROW: dict[str, Any] = {"kind": np.uint8, "row_stretches": np.uint32, "way_stretches": np.uint32}
_UNSIGNED = ("runs", "site", "target", "way_entry")


def encoded(fitted: Fitted) -> bytes:
    """The content of a file, before it is packed; equal detectors give equal bytes.

    Raises:
        ModelError: it is larger than what is read again.
    """
    about = msgspec.json.encode(fitted.about)
    rows = max(len(getattr(fitted.counts, name)) for name in _TABLES)
    if len(about) > _LARGEST_ABOUT or rows > _MOST_ROWS:
        raise ModelError(
            "these runs show more than a detector is for: learn each program, or fewer runs, by itself"
        )
    arrays = {
        name: (differences if stepped else packed)(getattr(fitted.counts, name))
        for name, stepped in _COLUMNS.items()
    }
    arrays[_ABOUT] = np.frombuffer(about, np.uint8)
    return bytes(save({name: np.ascontiguousarray(arrays[name]) for name in sorted(arrays)}))


def save_fitted(file: Path, fitted: Fitted) -> None:
    """Write a detector.

    Raises:
        ModelError: it is larger than what is read again.
        OSError: the file cannot be written.
    """
    write_whole(file, gzip.compress(encoded(fitted), _LEVEL, mtime=0))


def load_fitted(file: Path) -> Fitted:
    """Read a detector.

    Raises:
        ModelError: it is missing, broken, contradicts itself, or is of another schema.
    """
    content = read_bounded(file, _LARGEST, ModelError)
    try:
        return _decoded(content)
    except (ValueError, OverflowError) as error:
        raise ModelError(
            f"{file}: is no fitted detector that this version reads ({shortened(str(error))}): make one with "
            "`barnum fit`"
        ) from None


def _decoded(content: bytes) -> Fitted:
    try:
        arrays = load(content)
    except SafetensorError as error:
        raise ValueError(str(error)) from None
    about = described(arrays.pop(_ABOUT, None), _ABOUT_DECODER, SCHEMA, _LARGEST_ABOUT)
    columns: dict[str, Any] = {}
    for key, names in _TABLES.items():
        planes = arrays.get(key)
        if planes is None or planes.ndim != 2 or planes.shape[1] > _MOST_ROWS:
            raise ValueError(f"column {key} is missing or too long")
        for name in names:
            rows = column(arrays, name, planes.shape[1])
            values = summed(rows) if _COLUMNS[name] else unpacked(rows)
            if name in _NARROW:
                if len(values) and int(values.max()) >> (8 * np.dtype(_NARROW[name]).itemsize):
                    raise ValueError(f"column {name} holds a number that is out of its range")
                columns[name] = values.astype(_NARROW[name])
            else:
                columns[name] = values.view(np.uint64 if name in _UNSIGNED else np.int64)
    counts = Counts(**columns)
    _check(counts)
    about.notes.check(len(counts))
    check_kinds(about.kinds, np.append(counts.runs, np.array([run for run, _ in about.held_out], np.uint64)))
    return Fitted(about, counts)


def _check(counts: Counts) -> None:
    """Raises ValueError where counts contradict each other: none of it may lead out of an array later."""
    runs, edges = len(counts), len(counts.edge_site)
    few = runs < FEW_RUNS
    if not runs or not edges:
        raise ValueError("it has learnt nothing")
    for tokens in (counts.runs, counts.site, counts.target):
        if not (tokens[1:] > tokens[:-1]).all():
            raise ValueError("its tokens are not in order")
    for numbers, end in (
        (counts.stretches, 33),
        (counts.site_runs - 1, runs),
        (counts.target_runs - 1, runs),
        (counts.edge_runs - 1, runs),
        (counts.edge_site, len(counts.site)),
        (counts.edge_target, len(counts.target)),
        (counts.kind.astype(np.int64), len(KINDS)),
        (counts.row_edge, edges),
        (counts.row_run, runs),
        (counts.row_first, 1 << 53),
        (counts.way_row, len(counts.row_edge)),
        (counts.way_first, 1 << 53),
    ):
        if len(numbers) and not 0 <= int(numbers.min()) <= int(numbers.max()) < end:
            raise ValueError("a number is out of its range")
    ordered = (
        _ascend(counts.edge_site, counts.edge_target)
        and _ascend(counts.row_edge, counts.row_run)
        and _ascend(counts.way_row, counts.way_entry)
    )
    # what a single run showed is kept with it, and of few runs all
    rows = np.bincount(counts.row_edge, minlength=edges)
    expected = counts.edge_runs if few else (counts.edge_runs == 1).astype(np.int64)
    masks = counts.stretches[counts.row_run], counts.stretches[counts.row_run[counts.way_row]]
    if not ordered or (rows != expected).any():
        raise ValueError("its rows are not those of its transfers")
    for mask, stretches in zip((counts.row_stretches, counts.way_stretches), masks, strict=True):
        if (mask == 0).any() or (mask.astype(np.int64) >> stretches).any():
            raise ValueError("it names a stretch that it lacks")


def _ascend(first: Any, second: Any) -> bool:
    less = (first[1:] > first[:-1]) | ((first[1:] == first[:-1]) & (second[1:] > second[:-1]))
    return bool(less.all())


assert set(_COLUMNS) == {each.name for each in fields(Counts)}
