"""Scores whole runs with a model: every transfer that passes the filter, in order."""

from __future__ import annotations

from collections.abc import Iterator

from barnum.models.model import Model
from barnum.models.networks.kind import Columns
from barnum.models.networks.kinds import NETWORKS
from barnum.paths import Learn, PathReader


class Evaluator:
    """A model ready to score runs, one after the other. ``learn`` says which transfers count where the model
    does not.

    Raises:
        MissingPackageError: a package that computes the network is not installed.
    """

    def __init__(self, model: Model, threads: int, learn: Learn | None = None) -> None:
        # one of Keras sees windows of blocks, as the paper's does
        kind = NETWORKS["paper" if model.document is None else model.document.network]
        learn = model.document.learn if model.document is not None else (learn or Learn())
        self._scorer = kind.scorer(model, threads, learn)

    def columns(self, path: PathReader) -> Iterator[Columns]:
        """The columns of an evaluation part by part, each an array of the part's m predictions:

        ``correct`` bool, ``predicted`` and ``actual`` u64 targets in the network's tokens (BBIDs, or the
        original's classes), ``confidence`` f32 probability of the predicted target, ``surprisal`` f32 nats,
        ``position`` u64 step of the target in the path. Where the model knows what its training saw also
        ``seen`` u8 (2: transfer seen in training, 1: its target, 0: neither) and ``novelty`` f32 nats.
        """
        return self._scorer.columns(path)
