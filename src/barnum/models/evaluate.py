"""Scores whole runs with a model: every transfer that passes the filter, in order."""

from __future__ import annotations

from collections.abc import Iterator

from barnum.models.model import Model
from barnum.models.networks.causal import Causal
from barnum.models.networks.causal_scorer import CausalScorer, last_of
from barnum.models.networks.mixture import Mixture, MixtureScorer, mixed
from barnum.models.networks.paper_scorer import TOGETHER, WindowScorer, regroup_columns
from barnum.models.networks.rote import Roller, RoteNetwork
from barnum.models.scoring import PART, Columns, NoveltyScorer, columns_of
from barnum.models.threads import default_device, set_up
from barnum.paths import Learn, PathReader, iter_transfers, iter_windows
from barnum.sequences import (
    Encoded,
    Encoder,
    regroup,
)


class Evaluator:
    """A model ready to score runs, one after the other. ``learn`` says which transfers count where the model
    does not."""

    def __init__(self, model: Model, threads: int, learn: Learn | None = None) -> None:
        set_up(0)
        self._model = model
        self._threads = threads
        self._learn = model.document.learn if model.document is not None else (learn or Learn())
        self._causal: CausalScorer | None = None
        self._windows: WindowScorer | None = None
        self._rote: RoteNetwork | None = None
        self._mixture: Mixture | None = None
        if isinstance(model.network, RoteNetwork):
            self._rote = model.network
            return
        model.network.to(default_device())
        if isinstance(model.network, Causal):
            assert model.names is not None and model.rates is not None
            self._causal = CausalScorer(model.network, model.names, model.rates, model.extra["memory.edge"])
            self._mixture = model.mixture
        else:
            self._windows = WindowScorer(model, threads)

    def columns(self, path: PathReader) -> Iterator[Columns]:
        """The columns of an evaluation part by part, each an array of the part's m predictions:

        ``correct`` bool, ``predicted`` and ``actual`` u64 targets in the network's tokens (BBIDs, or the
        original's classes), ``confidence`` f32 probability of the predicted target, ``surprisal`` f32 nats,
        ``position`` u64 step of the target in the path. Where the model knows what its training saw also
        ``seen`` u8 (2: transfer seen in training, 1: its target, 0: neither) and ``novelty`` f32 nats.
        """
        novelty = NoveltyScorer(self._model)
        if self._causal is not None and self._mixture is not None:
            yield from self._with_mixture(self._causal, self._mixture, path, novelty)
        elif self._causal is not None:
            yield from self._with_causal(self._causal, path, novelty)
        elif self._rote is not None:
            yield from self._with_rote(self._rote, path, novelty)
        elif self._windows is not None:
            yield from self._with_windows(self._windows, path, novelty)

    def _with_causal(
        self, scorer: CausalScorer, path: PathReader, novelty: NoveltyScorer
    ) -> Iterator[Columns]:
        names, tokens = self._model.names, self._model.tokens
        assert names is not None
        encoder = Encoder(names, tokens)
        warm: Encoded | None = None
        for part in regroup(iter_transfers(path, self._learn), PART):
            encoded = encoder.encode(part)
            scores = scorer.score(encoded, warm, self._threads)
            warm = last_of(encoded, warm)
            yield {
                **columns_of(scores, tokens.targets(part.blocks)[part.target]),
                **novelty.columns(part, encoded if names is self._model.vocabulary else None),
                "position": part.position,
            }

    def _with_mixture(
        self, causal: CausalScorer, mixture: Mixture, path: PathReader, novelty: NoveltyScorer
    ) -> Iterator[Columns]:
        names, tokens = self._model.names, self._model.tokens
        assert names is not None
        scorer = MixtureScorer(causal, names, mixture.rote, tokens, self._threads)
        for part in regroup(iter_transfers(path, self._learn), PART):
            both, encoded = scorer.score(part)
            yield {
                **columns_of(mixed(both, mixture.weight), both.actual),
                **novelty.columns(part, encoded if names is self._model.vocabulary else None),
                "position": part.position,
            }

    def _with_windows(
        self, scorer: WindowScorer, path: PathReader, novelty: NoveltyScorer
    ) -> Iterator[Columns]:
        def inputs() -> Iterator[Columns]:
            for part in iter_windows(path, self._learn, scorer.length):
                told = novelty.columns(part.transfers) | {"position": part.transfers.position}
                told |= scorer.targets(part)
                for begin in range(0, len(part), TOGETHER):
                    rows = slice(begin, min(begin + TOGETHER, len(part)))
                    seen = scorer.windows(part, rows)
                    yield {"window": seen} | {name: column[rows] for name, column in told.items()}

        # what a product of matrices rounds to may depend on its shape, and that on the run alone
        for columns in regroup_columns(inputs(), TOGETHER):
            yield scorer.score(columns.pop("window"), columns.pop("target")) | columns

    def _with_rote(self, network: RoteNetwork, path: PathReader, novelty: NoveltyScorer) -> Iterator[Columns]:
        tokens = self._model.tokens
        roller = Roller(network.config.lengths, tokens)
        done = 0
        for part in regroup(iter_transfers(path, self._learn), PART):
            walk = roller.roll(part)
            if network.config.rule == "draw":
                scores = network.counts.draw(walk, self._threads, 0, done)
            else:
                scores = network.counts.score(walk, self._threads)
            done += len(part)
            yield {
                **dict(zip(("predicted", "confidence", "correct", "surprisal"), scores, strict=True)),
                "actual": tokens.targets(part.blocks)[part.target],
                **novelty.columns(part),
                "position": part.position,
            }
