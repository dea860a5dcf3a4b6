"""The rote learner among the kinds of networks."""

from __future__ import annotations

from collections.abc import Iterator

from barnum.errors import ModelError
from barnum.models import scoring
from barnum.models.model import Model
from barnum.models.networks.kind import Columns, Kind, RunScorer, Saved
from barnum.models.networks.predictions import Scores
from barnum.models.networks.rote import Roller, RoteConfig, RoteNetwork
from barnum.paths import Learn, PathReader, iter_transfers
from barnum.sequences import regroup
from barnum.sequences.kept import NAMES


class RoteKind(Kind):
    """See models/networks/rote.py. It is learnt by learning/rote, not by the trainer."""

    name = "rote"

    def restore(self, saved: Saved) -> RoteNetwork:
        # transfers of the runs are looked at when more is to be learnt
        saved.check_extra({}, unread=frozenset(f"runs.{name}" for name in NAMES))
        config: RoteConfig = saved.config(RoteConfig)
        try:
            return RoteNetwork.from_arrays(config, saved.arrays)
        except ModelError as error:
            raise ModelError(f"{saved.file}: {error}") from None

    def scorer(self, model: Model, threads: int, learn: Learn) -> RunScorer:
        return _RoteScorer(model, threads, learn)


ROTE = RoteKind()


class _RoteScorer:
    def __init__(self, model: Model, threads: int, learn: Learn) -> None:
        assert isinstance(model.network, RoteNetwork)
        self._model, self._network = model, model.network
        self._threads, self._learn = threads, learn

    def columns(self, path: PathReader) -> Iterator[Columns]:
        tokens, network = self._model.tokens, self._network
        novelty = scoring.NoveltyScorer(self._model)
        roller = Roller(network.config.lengths, tokens)
        done = 0
        for part in regroup(iter_transfers(path, self._learn), scoring.PART):
            walk = roller.roll(part)
            if network.config.rule == "draw":
                scores = Scores(*network.counts.draw(walk, self._threads, 0, done))
            else:
                scores = Scores(*network.counts.score(walk, self._threads))
            done += len(part)
            yield {
                **scores.columns(tokens.targets(part.blocks)[part.target]),
                **novelty.columns(part),
                "position": part.position,
            }
