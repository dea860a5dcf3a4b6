"""Evaluation files: one a sample, a row a prediction, in the order of the trace.

There are two formats. Parquet holds all that is known of a prediction and names the model in a header
(:mod:`barnum.evaluations.parquet`). The original's, gzip text of four columns
(:mod:`barnum.evaluations.gz`), holds the predictions alone.
"""

from barnum.evaluations.files import Evaluation, Writer
from barnum.evaluations.folder import find_evaluations, open_evaluation, writer_for
from barnum.evaluations.header import (
    FORMATS,
    LABELS,
    SCHEMA,
    Calibration,
    Header,
    LeftOut,
    Source,
    file_name,
    split_name,
)
from barnum.evaluations.parquet import EvaluationWriter, ParquetEvaluation
from barnum.evaluations.signs import MOST_SHOWN, Cut, Shown, Signs
from barnum.evaluations.windows import WINDOW, Surprise, surprisal_window, window_of, worst_window

__all__ = [
    "FORMATS",
    "LABELS",
    "MOST_SHOWN",
    "SCHEMA",
    "WINDOW",
    "Calibration",
    "Cut",
    "Evaluation",
    "EvaluationWriter",
    "Header",
    "LeftOut",
    "ParquetEvaluation",
    "Shown",
    "Signs",
    "Source",
    "Surprise",
    "Writer",
    "file_name",
    "find_evaluations",
    "open_evaluation",
    "split_name",
    "surprisal_window",
    "window_of",
    "worst_window",
    "writer_for",
]
