"""A network and a rote learner together: a target's chance is that by both, weighed by how sure each is.

    P(y) = w · P_network(y) + (1 - w) · P_rote(y)

The weight w depends on the confidences of the two, 1 - 2^-j and above for j = 0 … 12 each. It is what makes
nominal runs likeliest that neither has learnt, found by expectation maximisation (F. Jelinek, R. L. Mercer,
Interpolated Estimation of Markov Source Parameters from Sparse Data, Pattern Recognition in Practice, 1980,
with confidences for counts of contexts). Where few transfers are of a kind its weight leans on that of all.

A target that only one of the two knows is, to the other, one of those never seen: what that says of all these
together is divided among them, so that all chances add up to no more than 1. Predicted is the likelier of
the two favourites.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from barnum.errors import ModelError
from barnum.models.arrays import Arrays
from barnum.models.networks.causal_scorer import CausalScorer, last_of
from barnum.models.networks.predictions import F32, Scores
from barnum.models.networks.rote import Roller, RoteConfig, RoteNetwork
from barnum.paths import Transfers
from barnum.sequences import Encoded, Encoder, Tokens, Vocabulary
from barnum.texts import shortened

F64 = NDArray[np.float64]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]
Bool = NDArray[np.bool_]

_LEVELS = 13
CELLS = _LEVELS * _LEVELS
# a cell's weight leans on the weight of all as if so many transfers of its own had that
_LEANS = 5.0
_ROUNDS = 200
_LEAST = 1e-6
# logarithms of how much likelier one makes what happened than the other are counted in steps
_STEP, _MOST = 1 / 32, 64.0
_STEPS = 2 * int(_MOST / _STEP) + 1


@dataclass(slots=True)
class Mixture:
    """The rote learner beside a network, and the network's ``weight`` f64[CELLS]."""

    rote: RoteNetwork
    weight: F64

    def arrays(self) -> Arrays:
        """All numbers by name."""
        return {"weight": self.weight} | {f"rote.{name}": array for name, array in self.rote.arrays().items()}

    @classmethod
    def from_arrays(cls, config: RoteConfig, arrays: Arrays) -> Mixture:
        """The reverse of arrays().

        Raises:
            ModelError: arrays are missing or contradict each other.
        """
        if config.rule != "likeliest":
            raise ModelError("a rote learner that draws its predictions cannot be mixed")
        weight = arrays.get("weight")
        if weight is None or weight.dtype != np.float64 or weight.shape != (CELLS,):
            raise ModelError("the mixture is unusable: its weights are missing or of another type or size")
        if not bool(((weight >= 0) & (weight <= 1)).all()):
            raise ModelError("the mixture is unusable: weights are between 0 and 1")
        odd = [name for name in arrays if name != "weight" and not name.startswith("rote.")]
        if odd:
            raise ModelError(f"the mixture is unusable: {shortened(ascii(odd[0]))} belongs to no part of it")
        counts = {name.removeprefix("rote."): array for name, array in arrays.items() if name != "weight"}
        rote = RoteNetwork.from_arrays(config, counts)
        if not len(rote.counts.targets):
            raise ModelError("the mixture is unusable: its rote learner has learnt nothing")
        return cls(rote, weight)


@dataclass(frozen=True, slots=True)
class Both:
    """What the two say of the same m transfers. Chances f64[m] of what happened, ``network`` and ``rote``,
    and of the favourites: ``favourite`` u64[2, m] tokens, the network's and the rote learner's, ``chances``
    f64[2, 2, m] by each (the network first) of each of these; ``actual`` u64[m] tokens."""

    network: F64
    rote: F64
    favourite: U64
    chances: F64
    actual: U64

    @property
    def cell(self) -> I64:
        """i64[m]: what the weight depends on."""
        return _level(self.chances[0, 0]) * _LEVELS + _level(self.chances[1, 1])


def _level(confidence: F64) -> I64:
    with np.errstate(divide="ignore"):
        level = np.floor(-np.log2(1 - confidence))
    return np.clip(level, 0, _LEVELS - 1).astype(np.int64)


class MixtureScorer:
    """Scores one run with both, part by part."""

    def __init__(
        self, scorer: CausalScorer, names: Vocabulary, rote: RoteNetwork, tokens: Tokens, threads: int
    ) -> None:
        self._scorer, self._names, self._rote = scorer, names, rote
        self._tokens, self._threads = tokens, threads
        self._encoder = Encoder(names, tokens)
        self._roller = Roller(rote.config.lengths, tokens)
        self._warm: Encoded | None = None
        self._known = np.sort(rote.counts.targets)
        common = int(np.isin(names.target, self._known, assume_unique=True).sum())
        # what is never seen by one stands for those that the other knows, and one more for all others
        self._unseen_by_network = 1.0 / (len(self._known) - common + 1)
        self._unseen_by_rote = 1.0 / (len(names.target) - common + 1)

    def score(self, part: Transfers) -> tuple[Both, Encoded]:
        """The next m transfers, and what they are in the network's vocabulary."""
        encoded = self._encoder.encode(part)
        walk = self._roller.roll(part)
        rote = Scores(*self._rote.counts.score(walk, self._threads))
        asked = self._names.numbers_of(rote.predicted)
        network = self._scorer.score(
            encoded, self._warm, self._threads, (asked, self._encoder.edges(encoded.site, asked))
        )
        self._warm = last_of(encoded, self._warm)
        assert network.asked is not None

        actual = self._tokens.targets(part.blocks)[part.target]
        favourite = np.stack([network.predicted, rote.predicted])
        own, other = _chance(network.confidence), _chance(rote.confidence)
        by_network = np.exp(network.asked.astype(np.float64)) * self._among_network(asked)
        by_rote = other.copy()
        by_network[favourite[0] == favourite[1]] = own[favourite[0] == favourite[1]]
        rows = np.flatnonzero(favourite[0] != favourite[1])
        by_rote[rows] = self._rote.counts.chances(walk, self._threads, rows, favourite[0, rows])
        by_rote[rows] *= self._among_rote(favourite[0, rows])
        return (
            Both(
                network=np.exp(-network.surprisal.astype(np.float64)) * self._among_network(encoded.target),
                rote=np.exp(-rote.surprisal.astype(np.float64)) * self._among_rote(actual),
                favourite=favourite,
                chances=np.stack([np.stack([own, by_network]), np.stack([by_rote, other])]),
                actual=actual,
            ),
            encoded,
        )

    def _among_network(self, target: I32) -> F64:
        return np.where(target < len(self._names.target), 1.0, self._unseen_by_network)

    def _among_rote(self, token: U64) -> F64:
        at = np.minimum(np.searchsorted(self._known, token), len(self._known) - 1)
        return np.where(self._known[at] == token, 1.0, self._unseen_by_rote)


def _chance(confidence: F32) -> F64:
    return np.clip(confidence.astype(np.float64), 0, 1)


def mixed(both: Both, weight: F64) -> Scores:
    """Predictions by both together."""
    share = weight[both.cell]
    chance = share * both.network + (1 - share) * both.rote
    of = share * both.chances[0] + (1 - share) * both.chances[1]
    second = of[1] > of[0]
    predicted = np.where(second, both.favourite[1], both.favourite[0])
    return Scores(
        predicted=predicted,
        confidence=np.where(second, of[1], of[0]).astype(np.float32),
        correct=predicted == both.actual,
        surprisal=np.maximum(-np.log(np.maximum(chance, np.finfo(np.float64).tiny)), 0).astype(np.float32),
    )


@dataclass(slots=True)
class Weighing:
    """Learns weights from transfers that neither has learnt, in memory that does not grow with them.

    ``nats`` are sums of surprisal, the network's and the rote learner's, over ``transfers``.
    """

    transfers: int = 0
    nats: tuple[float, float] = (0.0, 0.0)
    # how often, by cell, the network made what happened so many times likelier
    _count: I64 = field(default_factory=lambda: np.zeros((CELLS, _STEPS), np.int64))

    def add(self, both: Both) -> None:
        """Look at more transfers."""
        tiny = np.finfo(np.float64).tiny
        network, rote = np.log(np.maximum(both.network, tiny)), np.log(np.maximum(both.rote, tiny))
        self.transfers += len(network)
        self.nats = self.nats[0] - float(network.sum()), self.nats[1] - float(rote.sum())
        step = np.rint(np.clip(network - rote, -_MOST, _MOST) / _STEP).astype(np.int64) + _STEPS // 2
        self._count += np.bincount(both.cell * _STEPS + step, minlength=CELLS * _STEPS).reshape(CELLS, _STEPS)

    def mixed_nats(self) -> float:
        """Sum of surprisal with the weights that were learnt."""
        cell, likelier, count = self._counted()
        weight = self.weight()[cell]
        return self.nats[1] - float((count * np.log(weight * likelier + 1 - weight)).sum())

    def weight(self) -> F64:
        """f64[CELLS]: the network's weights."""
        cell, likelier, count = self._counted()
        total = np.bincount(cell, count, CELLS)
        whole = 0.5
        for _ in range(_ROUNDS):
            whole = float((count * _share(whole, likelier)).sum()) / max(1.0, float(count.sum()))
        weight = np.full(CELLS, whole)
        for _ in range(_ROUNDS):
            taken = np.bincount(cell, count * _share(weight[cell], likelier), CELLS)
            weight = (taken + _LEANS * whole) / (total + _LEANS)
        clipped: F64 = np.clip(weight, _LEAST, 1 - _LEAST)  # what either can tell stays possible
        return clipped

    def _counted(self) -> tuple[I64, F64, F64]:
        """Cells, how much likelier the network made what happened, and how often that was so."""
        cell, step = np.nonzero(self._count)
        return cell, np.exp(_STEP * (step - _STEPS // 2)), self._count[cell, step].astype(np.float64)


def _share(weight: F64 | float, likelier: F64) -> F64:
    """What the network contributed to the chance of what happened."""
    ours = weight * likelier
    share: F64 = ours / np.maximum(ours + 1 - weight, np.finfo(np.float64).tiny)
    return share
