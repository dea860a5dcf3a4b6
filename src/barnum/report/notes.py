"""What a report says of itself: what it leaves out, what is unknown, how windows were chosen."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from barnum.report.document import SampleReport
from barnum.report.judging import Judged
from barnum.report.request import Request
from barnum.report.scan import Budget
from barnum.verdicts.features import labelled
from barnum.verdicts.scores import SCORES


def notes_of(
    request: Request, judged: Judged, samples: Sequence[SampleReport], budget: Budget, calls: bool
) -> Iterator[str]:
    """Sentences on a whole report; ``calls``: all runs are made of calls."""
    if judged.why is not None:
        yield f"There are no verdicts: {judged.why}."
    unlabelled = len(judged.runs) - len(labelled(judged.runs))
    if unlabelled:
        yield (
            f"The label of {unlabelled:,} of {len(judged.runs):,} runs is unknown: they count in no error "
            "rate and no chart, and calibrate nothing."
        )
    yield from _left_out(samples, budget)
    yield from _choice_of_windows(judged, samples[0])
    if calls:
        yield "These runs are calls that a sandbox reported: where one came from is the call before."
    elif request.traces is None:
        yield (
            "Blocks are named by their numbers alone, as no traces were given (--traces): the sources of "
            "transfers, modules, functions and instructions are unknown."
        )
    elif request.bin_dir is None:
        yield "No folder of images was given (--bin-dir), so functions and code are unknown."


def _left_out(samples: Sequence[SampleReport], budget: Budget) -> Iterator[str]:
    longest = max(sample.transfers for sample in samples)
    total = sum(sample.transfers for sample in samples)
    widest_bin = max(sample.curve.each for sample in samples)
    yield (
        f"{total:,} predictions were read, all of them. Each curve has at most {budget.bins:,} bins, of up "
        f"to {math.ceil(widest_bin):,} predictions (the longest run has {longest:,}); of each bin the mean "
        "and the maximum are shown, so no peak is lost."
    )
    windows = [window for sample in samples for window in sample.windows]
    shown = sum(len(window.transfers) for window in windows)
    yield (
        f"Of each run at most {budget.windows} windows are listed, and of each window the {budget.transfers} "
        f"most telling transfers, alike ones once: {shown:,} in all; "
        f"{sum(window.left_out for window in windows):,} others in these windows are left out."
    )
    unmarked = sum(sample.curve.news_left_out for sample in samples)
    if unmarked:
        yield (
            f"Curves mark the {budget.news} most novel transfers of a run; {unmarked:,} others are not "
            "marked."
        )


def _choice_of_windows(judged: Judged, sample: SampleReport) -> Iterator[str]:
    """``sample``: any of them, as all were scored by one model."""
    if sample.curve.value == "mistakes":
        yield (
            "The evaluations are in the original's format, which holds neither surprisal nor positions nor "
            "what training saw: curves show the confidence of wrong predictions, and windows are those with "
            "the most confident mistakes. Evaluate with --eval-format parquet for more."
        )
    elif sample.novelty is None:
        yield (
            "The model does not know what its training saw, so there is no novelty: windows are chosen by "
            "surprisal."
        )
    elif judged.classifier is not None and judged.classifier.by is not None and not judged.window_sum:
        first, *others = judged.measures
        how = f"in turn by {' and by '.join(judged.measures)}" if others else f"by {first} first"
        score = SCORES[judged.classifier.by].text
        yield f"Verdicts go by {score}, and windows are chosen {how}."
