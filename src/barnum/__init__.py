"""Barnum finds attacks by the way a program runs.

It records which basic blocks a program executes while it opens a document, learns from harmless runs what
normal control flow looks like, and says of a new run how surprising it was, whether it is anomalous, and
where.

    >>> import barnum
    >>> samples = barnum.record(["pdftotext", "{}", "out.txt"], "documents", label="benign")
    >>> samples = barnum.preprocess("traces")
    >>> learned = barnum.learn("traces", network="rote", train_size=40, test_size=20)
    >>> judgement = barnum.classify(learned.evaluations)
    >>> detector = barnum.pack("detector", learned.model, judgement)
    >>> barnum.judge(detector, "new/0f3a…").verdict
    'nominal'

What is listed in ``__all__`` is imported when it is first used. Names of files are strings or path-like
objects; errors are those of :mod:`barnum.errors`. The rooms behind (``barnum.recording``, ``barnum.paths``,
``barnum.models``, ``barnum.verdicts``, …) are described in ARCHITECTURE.md.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from barnum.api import (
        check,
        classify,
        decode,
        evaluate,
        export,
        find_samples,
        fit,
        judge,
        learn,
        merge,
        open_detector,
        open_evaluation,
        open_fitted,
        open_model,
        open_path,
        open_sample,
        pack,
        preprocess,
        record,
        write_report,
    )
    from barnum.detector import Checked, Detector, Fitted, JudgedRun, discoveries
    from barnum.errors import BarnumError, InputError
    from barnum.evaluations import Evaluation
    from barnum.learning.session import Learned
    from barnum.models.model import Model
    from barnum.paths import PathReader
    from barnum.samples import Sample
    from barnum.verdicts.judgement import Judgement

# the one place where it stands: the package's metadata take it from here, as reading them would take longer
# than all else that is imported with this
__version__ = "0.1.0"

_FROM = {
    "Checked": "barnum.detector",
    "Fitted": "barnum.detector",
    "Detector": "barnum.detector",
    "Evaluation": "barnum.evaluations",
    "JudgedRun": "barnum.detector",
    "discoveries": "barnum.detector",
    "Judgement": "barnum.verdicts.judgement",
    "Learned": "barnum.learning.session",
    "Model": "barnum.models.model",
    "PathReader": "barnum.paths",
    "Sample": "barnum.samples",
    "BarnumError": "barnum.errors",
    "InputError": "barnum.errors",
}

__all__ = [
    "BarnumError",
    "Checked",
    "Detector",
    "Evaluation",
    "Fitted",
    "InputError",
    "JudgedRun",
    "Judgement",
    "Learned",
    "Model",
    "PathReader",
    "Sample",
    "__version__",
    "check",
    "classify",
    "decode",
    "discoveries",
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


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'barnum' has no attribute {name!r}")
    found = globals()[name] = getattr(importlib.import_module(_FROM.get(name, "barnum.api")), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
