"""The document of a report on runs that a fitted detector judged: from their digests, as nothing predicts.

Each run is taken in while its recording and its images are there; nothing is read later.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from barnum import __version__
from barnum.digests.judged import JudgedDigest
from barnum.evaluations.signs import Cut
from barnum.evaluations.windows import WINDOW
from barnum.paths import OpenPath
from barnum.report.checked_windows import Names, NewsOfRun
from barnum.report.document import Classifier, Overview, Report, SampleReport, finite
from barnum.report.judging import Judged, alarm_threshold, overview
from barnum.report.names import Places
from barnum.report.places import Located, locate
from barnum.report.request import no_progress
from barnum.report.samples import because_of, signs_in
from barnum.report.scan import Budget
from barnum.texts import shortened, storable
from barnum.verdicts.discoveries import decided
from barnum.verdicts.exchangeability import Exchangeability
from barnum.verdicts.features import Run, labelled
from barnum.verdicts.judgement import summary_of
from barnum.verdicts.method import Verdict

# characters of a sentence on a document that could not be judged
_LONGEST = 1000
WINDOWS = 5


class CheckedReport:
    """Collects what a report says of runs that were checked."""

    def __init__(
        self,
        detector: str,
        description: str,
        threshold: float,
        count: int,
        *,
        cut: Cut | None = None,
        windows: int = WINDOWS,
    ) -> None:
        """Begin a report.

        Args:
            detector: its file, or other words for it.
            description: lines that say how it judges.
            threshold: scores above it, in nats, are anomalous; infinite where none is, or where it depends on
                the kind of the document.
            count: how many runs are to come: of more, less is shown of each.
            cut: up to where runs are judged; None: to their ends.
            windows: most novel windows that are shown of each run.
        """
        self._detector = detector
        self._classifier = Classifier(
            method="fit",
            description=storable("; ".join(description.splitlines())),
            threshold=finite(threshold),
            by="novelty",
        )
        self._cut = cut
        self._budget = Budget.of(count, windows)
        self._places = Places()
        self._judged: list[tuple[Run, Verdict, bool]] = []
        self._samples: list[SampleReport] = []
        self._failed: list[str] = []
        self._unread: list[str] = []
        self._exchangeability: Exchangeability | None = None

    def add(
        self,
        judged: JudgedDigest,
        bin_dir: Path | None,
        opened: OpenPath,
        differs: Sequence[str] = (),
    ) -> None:
        """Take in a run.

        Args:
            judged: the run, and the verdict on it.
            bin_dir: folder of the images; None: functions and instructions stay unknown.
            opened: opens its path, decoding it where need be.
            differs: sentences that say how what ran differs from what was learnt.
        """
        run, verdict, budget = judged.run, judged.verdict, self._budget
        classifier = msgspec.structs.replace(self._classifier, threshold=finite(judged.threshold))
        alone = Judged(runs=[run], verdicts=[verdict], classifier=classifier, window_sum=True, summary=None)
        threshold = alarm_threshold(alone, 0)
        news = NewsOfRun(judged.digest, judged.new)
        windows = news.windows(budget.windows, run.transfers)
        listed = [news.shown(window, budget.transfers) for window in windows]
        located = Located()
        if windows:
            located = locate(judged.sample.folder, bin_dir, news.wanted(listed), opened).trimmed()
        self._places.join(located)
        names = Names(judged.digest, located, self._places.namer(located))
        shown = [
            news.window(window, rows, threshold if window.begin < run.transfers else None, budget, names)
            for window, rows in zip(windows, listed, strict=True)
        ]
        images = bin_dir is not None or not windows
        word: Any = verdict.word
        scored = verdict.refused is None
        self._judged.append((run, verdict, judged.learnt))
        self._samples.append(
            SampleReport(
                name=storable(judged.name or judged.sample.folder.name),
                label=run.label,
                sample=storable(judged.sample.folder.name),
                verdict=word,
                refused=None if verdict.refused is None else storable(verdict.refused),
                incomplete=None if verdict.incomplete is None else storable(verdict.incomplete),
                score=finite(verdict.score) if scored else None,
                p_value=finite(verdict.p_value) if scored else None,
                because=because_of(verdict),
                evidence=signs_in(judged.signs.evidence),
                effects=None if judged.signs.effects is None else signs_in(judged.signs.effects),
                transfers=news.count,
                judged=run.transfers,
                **dict.fromkeys(
                    ("wrong", "wrong_confidence", "surprisal", "surprisal_window", "new", "unknown")
                ),
                novelty=run.novelty,
                novelty_window=run.novelty_window,
                distinct_new=len(judged.new.row),
                learnt=judged.learnt,
                kind=judged.kind,
                among_all=judged.among_all,
                first_alarm=news.alarm(threshold, run.transfers),
                curve=news.curve(budget),
                windows=shown,
                notes=[storable(note) for note in (*_of_run(judged, images), *differs, *located.notes)],
            )
        )
        # the images may be gone later
        self._unread += self._places.name_functions(no_progress)

    def failed(self, name: str, why: str) -> None:
        """Take in a document that could not be judged."""
        self._failed.append(f"{storable(name)}: {shortened(storable(why), _LONGEST)}")

    def choose(self, q_values: Sequence[float | None], rate: float) -> None:
        """Take other verdicts for the runs that were taken in: those that were chosen for all of them.

        Args:
            q_values: of each run, in the order in which they were taken in; None where it is refused.
            rate: the share of nominal runs among the anomalous ones, at most.
        """
        self._judged = [
            (run, decided(verdict, q, rate), learnt)
            for (run, verdict, learnt), q in zip(self._judged, q_values, strict=True)
        ]
        self._samples = [
            _decided(sample, verdict, q)
            for sample, (_, verdict, _), q in zip(self._samples, self._judged, q_values, strict=True)
        ]
        self._classifier = msgspec.structs.replace(
            self._classifier,
            description="the anomalous ones were chosen among all runs, at a false discovery rate of at "
            f"most {100 * rate:.3g} %, and not as each by itself: {self._classifier.description}",
            threshold=None,
        )

    def told_of_all(self, found: Exchangeability | None) -> None:
        """Take in what a bet says against all runs being like those learnt."""
        self._exchangeability = found

    def done(self) -> Report:
        """The document of all that was taken in."""
        return Report(
            version=__version__,
            evaluations=storable(self._detector),
            model="",
            window=WINDOW,
            classifier=self._classifier,
            overview=self._overview(),
            notes=[storable(note) for note in (*self._notes(), *dict.fromkeys(self._unread))],
            places=self._places.all,
            samples=self._samples,
            failed=self._failed,
            predicts=False,
            cut=self._cut,
        )

    def _overview(self) -> Overview:
        """Counts of all runs; error rates of those that were not learnt."""
        whole = self._overview_of(self._judged)
        whole = msgspec.structs.replace(whole, exchangeability=self._exchangeability)
        others = [each for each in self._judged if not each[2]]
        if len(others) == len(self._judged):
            return whole
        rates = self._overview_of(others)
        return msgspec.structs.replace(
            whole,
            false_positives=rates.false_positives,
            false_negatives=rates.false_negatives,
            trivial=rates.trivial,
            roc=rates.roc,
            calibration=rates.calibration,
        )

    def _overview_of(self, judged: Sequence[tuple[Run, Verdict, bool]]) -> Overview:
        runs, verdicts = [run for run, _, _ in judged], [verdict for _, verdict, _ in judged]
        return overview(
            Judged(
                runs=runs,
                verdicts=verdicts,
                classifier=self._classifier,
                window_sum=True,
                summary=summary_of(runs, verdicts),
            )
        )

    def _notes(self) -> Iterator[str]:
        """Sentences on the whole report."""
        runs, budget = [run for run, _, _ in self._judged], self._budget
        yield (
            "Nothing was predicted: runs were judged by their digests, which hold each distinct transfer of "
            "a run with the time at which it was first taken. Novelty counts there, not when it comes again."
        )
        learnt = sum(was for _, _, was in self._judged)
        if learnt:
            yield (
                f"{learnt:,} of {len(runs):,} runs are among those that the detector has learnt: nothing in "
                "them is new to it, and they count in no error rate."
            )
        unlabelled = len(runs) - len(labelled(runs))
        if unlabelled:
            yield (
                f"The label of {unlabelled:,} of {len(runs):,} runs is unknown: they count in no error rate "
                "and no chart."
            )
        if self._samples:
            yield from self._left_out()
        if self._failed:
            yield f"{len(self._failed):,} documents could not be judged; they are listed with the reasons."
        yield (
            f"Of each run at most {budget.windows} windows are listed, and of each at most "
            f"{budget.transfers} transfers and ways into the kernel that no nominal run shows."
        )

    def _left_out(self) -> Iterator[str]:
        longest = max(sample.transfers for sample in self._samples)
        widest = max(sample.curve.each for sample in self._samples)
        yield (
            f"Each curve has at most {self._budget.bins:,} bins, of up to {math.ceil(widest):,} transfers "
            f"(the longest run has {longest:,}); of each bin the mean and the maximum are shown, so no peak "
            "is lost."
        )
        left_out = sum(window.left_out for sample in self._samples for window in sample.windows)
        if left_out:
            yield f"{left_out:,} other new transfers and ways in the windows are left out."
        unmarked = sum(sample.curve.news_left_out for sample in self._samples)
        if unmarked:
            yield (
                f"Curves mark the {self._budget.news} most novel transfers of a run; {unmarked:,} others are "
                "not marked."
            )


def _decided(sample: SampleReport, verdict: Verdict, q: float | None) -> SampleReport:
    """What is said of a run, with another verdict."""
    word: Any = verdict.word
    changed = msgspec.structs.replace(
        sample,
        verdict=word,
        refused=None if verdict.refused is None else storable(verdict.refused),
        incomplete=None if verdict.incomplete is None else storable(verdict.incomplete),
        q=q,
        because=because_of(verdict),
    )
    if verdict.anomalous:
        return changed
    windows = [msgspec.structs.replace(window, above_threshold=False) for window in sample.windows]
    return msgspec.structs.replace(changed, first_alarm=None, windows=windows)


def _of_run(judged: JudgedDigest, images: bool) -> Iterator[str]:
    if judged.learnt:
        yield "The detector has learnt this very run, so that nothing in it is new."
    if judged.among_all is not None:
        of = "" if judged.kind is None else f"It is of kind {judged.kind}, and "
        yield f"{of}{'was' if of else 'It was'} compared with nominal runs of all kinds: {judged.among_all}."
    elif judged.kind is not None:
        yield (
            f"It is of kind {judged.kind}, and was compared with nominal runs of that kind alone: anomalous "
            f"above {judged.threshold:.2f} nats."
        )
    if judged.signs.effects is None:
        yield "Effects are unknown: of this run, or of the nominal ones, nobody noted them."
    if not images:
        yield "No folder of images was given (--bin-dir), so functions and instructions are unknown."
