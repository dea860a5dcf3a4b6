"""The causal network among the kinds, also with a rote learner beside it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from barnum.errors import ModelError
from barnum.models import scoring
from barnum.models.arrays import Arrays
from barnum.models.model import Model
from barnum.models.networks.causal_config import CausalConfig, shapes
from barnum.models.networks.causal_scorer import CausalScorer, last_of
from barnum.models.networks.kind import (
    Columns,
    Defaults,
    RunScorer,
    Saved,
    TrainedKind,
    Training,
    Weights,
)
from barnum.models.networks.mixture import Mixture, MixtureScorer, mixed
from barnum.paths import Learn, PathReader, iter_transfers
from barnum.sequences import RESTART, Encoded, Encoder, Tokens, regroup

if TYPE_CHECKING:
    from barnum.models.networks.causal_task import CausalTask
    from barnum.models.networks.spec import Spec


_log = logging.getLogger(__name__)


class CausalKind(TrainedKind):
    """See models/networks/causal.py for the network, causal_scorer.py for what it predicts."""

    name = "causal"
    defaults = Defaults(epochs=2, learning_rate=0.003, vocabulary="learnt")
    idle = ("sequence_len", "embedding_output_dimension", "dropout", "use_cudnn", "mixed_precision")

    def own_vocabulary(self, tokens: Tokens) -> bool:
        return tokens.vocabulary == "modulo"

    def restore(self, saved: Saved) -> Weights:
        saved.check_extra({"memory.edge": np.uint32})
        names = saved.vocabulary
        edge = saved.extra["memory.edge"] & ~RESTART
        if len(edge) and int(edge.max()) >= len(names.edge_target):
            raise ModelError(f"{saved.file}: memory.edge names a transfer that the vocabulary lacks")
        config: CausalConfig = saved.config(CausalConfig)
        weights = saved.weights(config, shapes(config))
        several = max(1, int((np.diff(names.site_first) > 1).sum()))
        if (config.sites, config.targets) != (several, len(names.target)):
            raise saved.other_sizes()
        return weights

    def scorer(self, model: Model, threads: int, learn: Learn) -> RunScorer:
        if model.mixture is not None:
            return _WithRote(model, model.mixture, threads, learn)
        return _Alone(model, threads, learn)

    def task(self, spec: Spec, training: Training) -> tuple[CausalTask, Arrays]:
        from barnum.models.networks.causal_task import CausalData

        data = CausalData(training.names, spec.tokens)
        with training.bar("select", len(training.runs)) as advance:
            for opened, total in training.runs:
                with opened() as path:
                    data.add(spec.selection.select(iter_transfers(path, spec.learn), total))
                advance(1)
        with training.bar("contexts", data.transfers) as advance:
            task = data.task(spec.units, training.threads, advance)
        if spec.train.compile:
            task.compile()
        _log.info(
            "contexts: %s of %s transfers (%s MiB)",
            f"{task.history.contexts:,}",
            f"{len(task.memory):,}",
            f"{task.history.bytes >> 20:,}",
        )
        return task, {"memory.edge": task.memory}


CAUSAL = CausalKind()


def causal_scorer(model: Model) -> CausalScorer:
    """What scores transfers with the causal network of a model.

    Raises:
        ModelError: the model is not of such a network.
    """
    if not isinstance(model.network.config, CausalConfig) or model.names is None or model.rates is None:
        raise ModelError("is no model of a causal network")
    return CausalScorer(model.network, model.names, model.rates, model.extra["memory.edge"])


class _Alone:
    """Scores runs with the network alone."""

    def __init__(self, model: Model, threads: int, learn: Learn) -> None:
        self._model, self._threads, self._learn = model, threads, learn
        self._scorer = causal_scorer(model)

    def columns(self, path: PathReader) -> Iterator[Columns]:
        names, tokens = self._model.names, self._model.tokens
        assert names is not None
        novelty = scoring.NoveltyScorer(self._model)
        encoder = Encoder(names, tokens)
        warm: Encoded | None = None
        for part in regroup(iter_transfers(path, self._learn), scoring.PART):
            encoded = encoder.encode(part)
            scores = self._scorer.score(encoded, warm, self._threads)
            warm = last_of(encoded, warm)
            yield {
                **scores.columns(tokens.targets(part.blocks)[part.target]),
                **novelty.columns(part, encoded if names is self._model.vocabulary else None),
                "position": part.position,
            }


class _WithRote:
    """Scores runs with the network and the rote learner beside it."""

    def __init__(self, model: Model, mixture: Mixture, threads: int, learn: Learn) -> None:
        self._model, self._mixture, self._threads, self._learn = model, mixture, threads, learn
        self._scorer = causal_scorer(model)

    def columns(self, path: PathReader) -> Iterator[Columns]:
        model, mixture = self._model, self._mixture
        assert model.names is not None
        novelty = scoring.NoveltyScorer(model)
        scorer = MixtureScorer(self._scorer, model.names, mixture.rote, model.tokens, self._threads)
        for part in regroup(iter_transfers(path, self._learn), scoring.PART):
            both, encoded = scorer.score(part)
            yield {
                **mixed(both, mixture.weight).columns(both.actual),
                **novelty.columns(part, encoded if model.names is model.vocabulary else None),
                "position": part.position,
            }
