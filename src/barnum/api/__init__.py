"""The functions of ``import barnum``: from documents to a verdict, and to the place of the anomaly.

    barnum.record(["gs", "-dBATCH", "{}"], "documents", label="benign")    recordings, one a document
    barnum.preprocess("traces")                               the path of blocks of each
    learned = barnum.learn("traces", network="rote")          what is normal, and evaluations of held-out runs
    classifier = barnum.classify(learned.evaluations)         verdicts, with a promised false-alarm rate
    detector = barnum.pack("detector", learned.model, classifier)
    barnum.judge(detector, "other-traces/…")                  the verdict on a new run, and its place

    detector = barnum.fit("traces", "gs.barnum")              what is normal, from digests, in a second or two
    barnum.check(detector, "suspicious.ps")                   from a document to a verdict

Names of files are strings or path-like objects. ``progress`` is called with the name of a task, how much of
it is done, and the total. Errors are those of :mod:`barnum.errors`.
"""

from barnum.api.common import File, Progress
from barnum.api.fitting import check, fit, merge, open_fitted
from barnum.api.judging import classify, evaluate, judge, learn, pack, write_report
from barnum.api.opening import (
    find_samples,
    open_detector,
    open_evaluation,
    open_model,
    open_path,
    open_sample,
)
from barnum.api.runs import decode, export, preprocess, record

__all__ = [
    "File",
    "Progress",
    "check",
    "classify",
    "decode",
    "evaluate",
    "export",
    "find_samples",
    "fit",
    "judge",
    "learn",
    "merge",
    "open_detector",
    "open_evaluation",
    "open_fitted",
    "open_model",
    "open_path",
    "open_sample",
    "pack",
    "preprocess",
    "record",
    "write_report",
]
