"""Training runs judged by what was learnt from the others, in folds (cross-validation).

A rote learner knows its training runs by heart, so its predictions for them say nothing about new runs. Those
for held-out runs would, but each of these is one less to learn from. With folds every run is both learnt and
held out: it calibrates verdicts by surprisal, and the model of all runs judges.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace

import msgspec
import numpy as np

from barnum.errors import ModelError, SetsError
from barnum.evaluations import LeftOut
from barnum.learning.rote.learner import RoteLearner, RoteSpec
from barnum.models.evaluate import Evaluator
from barnum.models.model import Model
from barnum.paths import OpenPath, iter_transfers


def judge_in_folds(
    spec: RoteSpec,
    samples: Sequence[tuple[str, OpenPath]],
    folds: int,
    threads: int,
    advance: Callable[[], None] = lambda: None,
) -> tuple[LeftOut, ...]:
    """Judge each run by a learner of the other folds.

    Equal runs are in one fold, so that none is judged by its twin.

    Args:
        spec: what is learnt.
        samples: name and path of each run.
        folds: number of folds; with fewer different runs, there are as many as these.
        threads: number of threads; results do not depend on it.
        advance: called whenever a run was learnt in a fold, and when it was judged: once for each fold.

    Returns:
        One row for each run, in the order of ``samples``; runs without transfers are left out.

    Raises:
        InputError: a trace cannot be read.
        SetsError: there are not two different runs.
    """
    digests = [_digest(spec, opened) for _, opened in samples]
    distinct = sorted({digest for digest in digests if digest is not None})
    if len(distinct) < 2:
        raise SetsError("--folds takes at least 2 different samples to learn: raise --train-size")
    count = min(folds, len(distinct))
    order = np.random.default_rng(0).permutation(len(distinct)).tolist()
    fold = {digest: place % count for digest, place in zip(distinct, order, strict=True)}
    judged: dict[int, LeftOut] = {}
    for number in range(count):
        learner = RoteLearner(spec, threads)
        for (name, opened), digest in zip(samples, digests, strict=True):
            if digest is not None and fold[digest] != number:
                learner.learn(name, opened)
                advance()
        evaluator = Evaluator(learner.model(), threads)
        for place, digest in enumerate(digests):
            if digest is not None and fold[digest] == number:
                judged[place] = _judged(evaluator, samples[place][1])
                advance()
    return tuple(judged[place] for place in sorted(judged))


def calibrated_by(model: Model, runs: tuple[LeftOut, ...]) -> Model:
    """The model with these runs in its document, as its calibration.

    Raises:
        ModelError: the model has no document.
    """
    document = model.document
    if document is None:
        raise ModelError("the model knows nothing of its training: it cannot be calibrated by runs of it")
    calibration = msgspec.structs.replace(document.calibration, runs=runs)
    return replace(model, document=msgspec.structs.replace(document, calibration=calibration))


def _digest(spec: RoteSpec, opened: OpenPath) -> bytes | None:
    """A hash of the targets that a run took, in order; None if it took none."""
    content = hashlib.sha256()
    count = 0
    with opened() as path:
        for part in iter_transfers(path, spec.learn):
            content.update(spec.tokens.targets(part.blocks)[part.target].astype("<u8").tobytes())
            count += len(part)
    return content.digest() if count else None


def _judged(evaluator: Evaluator, opened: OpenPath) -> LeftOut:
    total, transfers = 0.0, 0
    targets: set[int] = set()
    with opened() as path:
        for columns in evaluator.columns(path):
            total += float(columns["surprisal"].sum(dtype=np.float64))
            transfers += len(columns["surprisal"])
            targets.update(np.unique(columns["actual"]).tolist())
    return LeftOut(total / transfers, transfers, len(targets))
