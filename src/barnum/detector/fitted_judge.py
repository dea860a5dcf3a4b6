"""Judges recorded traces by a fitted detector: by their digests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from barnum.detector.fitted import Fitted
from barnum.detector.judge import opened_trace, where_of
from barnum.detector.judged import CodePlace, Cut, Judge, JudgedRun, Where
from barnum.digests import Digest
from barnum.digests.judged import JudgedDigest
from barnum.digests.make import digests_of
from barnum.digests.signs import signs_of
from barnum.errors import BarnumError, DigestError, OptionsError
from barnum.paths import PathReader
from barnum.paths.opened import Decoded
from barnum.samples import Sample
from barnum.verdicts.alarms import by_evidence
from barnum.verdicts.conformal import ConformalClassifier
from barnum.verdicts.discoveries import candidate_of
from barnum.verdicts.features import Run
from barnum.verdicts.judgement import judge_incomplete, refusal_of
from barnum.verdicts.method import Verdict

_LONGEST_NAME = 4096


class FittedJudge(Judge):
    """See judge_with() for the options."""

    def __init__(
        self,
        detector: Fitted,
        cut: Cut | None,
        bin_dir: Path | None,
        timeout: float | None,
        kind: str | None = None,
    ) -> None:
        """``kind``: that of documents whose recordings tell none."""
        super().__init__()
        if cut == "effect" and not detector.about.notes.watched:
            raise OptionsError("--cut effect: the detector was learnt from runs whose effects nobody noted")
        self._detector = detector
        self._cut, self._bin_dir, self._timeout, self._kind = cut, bin_dir, timeout, kind

    def judge(self, place: str | os.PathLike[str]) -> JudgedRun:
        return self.judge_with_digest(Path(place))[0]

    def judge_with_digest(self, place: Path) -> tuple[JudgedRun, JudgedDigest]:
        """The same, and what the verdict was made of.

        Raises:
            InputError: the sample cannot be judged; the message says why.
        """
        sample = opened_trace(place)
        digest, identity = self._digest(sample)
        return self._judged(sample, digest, identity)

    @contextmanager
    def path(self, sample: Sample, bin_dir: Path | None) -> Iterator[PathReader]:
        """The path of a sample, which is decoded for it where it is not preprocessed.

        Raises:
            InputError: of the class that fits; it cannot be opened or decoded.
        """
        preprocessed = sample.parsed is not None
        decoded = Decoded(
            self._scratch,
            preprocessed=preprocessed,
            bin_dir=bin_dir,
            timeout=None if preprocessed else self._timeout,
        )
        try:
            with decoded.opener(sample)() as reader:
                yield reader
        finally:
            decoded.forget(sample)

    def _judged(self, sample: Sample, digest: Digest, identity: int) -> tuple[JudgedRun, JudgedDigest]:
        """What the detector says of a run, by its digest and its identity.

        Raises:
            DigestError: it holds other kinds of transfers than the detector knows.
        """
        about = digest.about
        # what a link leads to is not to be read through us
        name = None if (sample.folder / "info.txt").is_symlink() else sample.name[:_LONGEST_NAME]
        if about.learn != self._detector.about.learn:
            raise DigestError(
                "the digest holds other kinds of transfers than the detector knows: make it anew"
            )
        cut, before = self._cut_of(digest)
        run, where = self._run(digest, cut)
        kind = about.kind or self._kind
        peers = self._detector.peers(identity, kind)
        classifier = peers.classifier
        run, verdict = self._by_novelty(digest, run, cut, classifier)
        signs = signs_of(self._detector.about.notes, len(self._detector.counts), digest).before(before)
        if peers.group is not None:
            signs = peers.group.counted(signs)
        because = "novelty" if verdict.anomalous else None
        verdict, alarm = by_evidence(verdict, signs, about.source, self._detector.about.rate)
        if alarm is not None:
            because = verdict.because
            where = where_of(alarm, verdict) or where
        candidate = None
        if classifier is not None:
            rate = self._detector.about.rate
            candidate = candidate_of(verdict, classifier, signs, rate, "novelty", peers.scale)
        judged = JudgedRun(
            name=name,
            verdict=verdict.word,
            score=verdict.score,
            threshold=peers.threshold,
            kind=kind,
            among_all=peers.among_all,
            p_value=verdict.p_value,
            method="fit",
            by="novelty",
            transfers=run.transfers,
            cut=run.cut,
            lost=about.source.lost,
            refused=verdict.refused,
            incomplete=verdict.incomplete,
            because=because,
            evidence=signs.evidence,
            effects=signs.effects or (),
            where=where,
            candidate=candidate,
            fresh=not (verdict.refused or verdict.incomplete or self._cut or self._detector.knows(identity)),
        )
        made_of = JudgedDigest(
            name=name,
            sample=sample,
            digest=digest,
            learnt=identity in self._detector.counts.runs,
            run=msgspec.structs.replace(run, label=sample.label, sample=sample.folder.name, signs=signs),
            new=self._detector.knowledge.new(digest),
            verdict=verdict,
            signs=signs,
            threshold=peers.threshold,
            kind=kind,
            among_all=peers.among_all,
        )
        return judged, made_of

    def _by_novelty(
        self, digest: Digest, run: Run, cut: int | None, classifier: ConformalClassifier | None
    ) -> tuple[Run, Verdict]:
        """The verdict on a run by novelty, and what was judged of it."""
        about, max_lost = digest.about, self._detector.about.max_lost
        refusal = refusal_of(run, max_lost)
        if classifier is None:
            return run, Verdict(anomalous=False, score=run.novelty_window or 0.0, refused=refusal)
        if refusal is None:
            return run, classifier.judge(run)

        def read(_: int) -> Run:
            return self._run(digest, min(end for end in (about.intact, cut) if end is not None))[0]

        return judge_incomplete(classifier, run, refusal, max_lost, read)

    def _cut_of(self, digest: Digest) -> tuple[int | None, int | None]:
        """How many transfers and steps are judged; None: all."""
        about = digest.about
        if self._cut == "spawn":
            return about.cut, about.source.cut
        if self._cut == "effect":
            for effect in self._detector.about.notes.new_effects(about.effects):
                # they are in their order; behind a loss nothing is known of them
                if effect.transfers is not None:
                    return effect.transfers, effect.step
        return None, None

    def _digest(self, sample: Sample) -> tuple[Digest, int]:
        ((_, outcome),) = digests_of([sample], self._scratch, bin_dir=self._bin_dir, timeout=self._timeout)
        if isinstance(outcome, BarnumError):
            raise outcome
        return outcome

    def _run(self, digest: Digest, limit: int | None) -> tuple[Run, Where | None]:
        """What a run, or its first ``limit`` transfers, sums up to, and where it is strangest."""
        about, taken = digest.about, digest.taken
        new = self._detector.knowledge.new(digest, limit)
        begin = new.begin
        where = None
        if begin is not None:
            module, offset = digest.module_of(int(taken.target[begin]))
            where = Where("novelty", int(taken.step[begin]), CodePlace(module, offset))
        source = about.source
        if source.intact is not None and about.intact is None:
            # where that is among the transfers is not known
            source = msgspec.structs.replace(source, intact=None)
        transfers = about.transfers if limit is None else min(limit, about.transfers)
        run = Run(
            name=about.name,
            label=about.label,
            sample="",
            model="",
            calibration=self._detector.calibration,
            source=source,
            cut=self._cut is not None and limit is not None,
            transfers=transfers,
            wrong=0.0,
            wrong_confidence=0.0,
            confidence=0.0,
            distinct=len(taken),
            novelty=float(new.weights.sum()),
            novelty_window=new.score,
            novelty_position=where.step if where else 0,
        )
        return run, where
