"""Draws runs and the threshold that judged them."""

from __future__ import annotations

import io
import math
from typing import TYPE_CHECKING, Any

from barnum.verdicts.svm import SvmClassifier

if TYPE_CHECKING:
    from barnum.verdicts.judgement import Judgement

_LOOKS = {
    "benign": {"marker": "o", "facecolors": "none", "edgecolors": "tab:blue", "label": "benign"},
    "malicious": {"marker": "x", "color": "tab:red", "label": "malicious"},
    "unknown": {"marker": "^", "facecolors": "none", "edgecolors": "tab:gray", "label": "unknown"},
}


def draw_verdicts(judgement: Judgement) -> bytes:
    """A PNG. For a line by the original's two features: these, both in [0, 1], benign runs as blue circles,
    malicious ones as red crosses, those of unknown label as grey triangles, and the boundary dashed. For
    other methods: the scores of each label, ascending, and the threshold dashed."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 5), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    if isinstance(judgement.classifier, SvmClassifier):
        _line(axes, judgement, judgement.classifier)
    else:
        _scores(axes, judgement)
    axes.legend(loc="best")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _line(axes: Any, judgement: Judgement, line: SvmClassifier) -> None:
    for label, look in _LOOKS.items():
        runs = [
            run
            for run, verdict in zip(judgement.runs, judgement.verdicts, strict=True)
            if run.label == label and not verdict.refused
        ]
        if runs:
            axes.scatter([run.wrong for run in runs], [run.wrong_confidence for run in runs], **look)
    (a, b), bias = line.weights, line.bias - line.threshold
    # a x + b y + bias = 0, across the picture along the axis that it cuts
    ends = (-0.1, 1.1)
    if abs(b) >= abs(a) and b:
        axes.plot(ends, [-(a * x + bias) / b for x in ends], "k--", label="boundary")
    elif a:
        axes.plot([-(b * y + bias) / a for y in ends], ends, "k--", label="boundary")
    axes.set(
        xlim=(0, 1),
        ylim=(0, 1),
        xlabel="share of wrong predictions",
        ylabel="mean confidence of the wrong ones",
    )


def _scores(axes: Any, judgement: Judgement) -> None:
    for label, look in _LOOKS.items():
        scores = sorted(
            verdict.score
            for run, verdict in zip(judgement.runs, judgement.verdicts, strict=True)
            if run.label == label and not verdict.refused
        )
        if scores:
            axes.scatter(scores, [(i + 0.5) / len(scores) for i in range(len(scores))], **look)
    if math.isfinite(judgement.classifier.threshold):
        axes.axvline(judgement.classifier.threshold, color="k", linestyle="--", label="threshold")
    axes.set(ylim=(0, 1), xlabel="score", ylabel="share of the label's runs below")
