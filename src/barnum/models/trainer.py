"""Trains the causal network by truncated back-propagation through time over parallel lanes."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from barnum.models.causal import NEVER, Causal, CausalConfig
from barnum.models.threads import pool
from barnum.sequences import Lanes, Vocabulary

_log = logging.getLogger(__name__)

# transfers that the gradient flows back through
STEPS = 64
# lanes of one thread's work
_SHARD_LANES = 64
_FEWEST_LANES = 16


class TrainConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How to train. ``batch_size`` is the most transfers in a step of the optimiser."""

    epochs: int = 4
    batch_size: int = 8192
    learning_rate: float = 0.004
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Epoch:
    """What an epoch brought: mean ``loss`` in nats a transfer, ``accuracy`` 0…1, ``transfers`` learnt,
    seconds."""

    number: int
    loss: float
    accuracy: float
    transfers: int
    seconds: float


def set_up(seed: int) -> None:
    """Make torch's results depend on nothing but the seed; see threads.py."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(True)


def new_network(vocabulary: Vocabulary, units: int) -> Causal:
    """An untrained network for a vocabulary, with the frequencies of each site's targets in it."""
    config = CausalConfig(sites=len(vocabulary.site), targets=len(vocabulary.target), units=units)
    network = Causal(config)
    network.prior.copy_(torch.from_numpy(prior_of(vocabulary, config.ranks)))
    return network


def prior_of(vocabulary: Vocabulary, ranks: int) -> NDArray[np.float32]:
    """f32[S + 1, ranks]: logarithm of (count + 1/2), normalised a site; further targets add up in the last
    rank."""
    sites = len(vocabulary.site)
    table = np.zeros((sites + 1, ranks))
    rank = np.minimum(vocabulary.edge_rank, ranks - 1)
    np.add.at(table, (vocabulary.edge_site, rank), vocabulary.edge_count + 0.5)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.log(table / table.sum(axis=1, keepdims=True))
    return np.where(table > 0, share, NEVER).astype(np.float32)


def lanes_for(transfers: int, batch_size: int) -> int:
    """Lanes for a training set: those of the batch size, fewer where an epoch would have under 100 steps."""
    return max(1, min(batch_size // STEPS, max(_FEWEST_LANES, transfers // (100 * STEPS))))


def train(
    network: Causal,
    lanes: Lanes,
    vocabulary: Vocabulary,
    config: TrainConfig,
    threads: int,
    advance: Callable[[int], None],
) -> list[Epoch]:
    """Train in place; ``advance`` is told of transfers done.

    A token that training saw c times is shown as never seen with chance 1/(1 + c), at least 1/1000: so the
    network learns what to expect after a target it does not know.
    """
    optimiser = torch.optim.Adam(network.parameters(), lr=config.learning_rate, fused=True)
    steps = len(lanes.site) // STEPS
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, config.learning_rate, total_steps=max(2, config.epochs * steps + 1), pct_start=0.1
    )
    shards = [
        _Shard(network, lanes, vocabulary, begin, config.seed)
        for begin in range(0, lanes.site.shape[1], _SHARD_LANES)
    ]
    parameters = list(network.parameters())
    epochs = []
    with pool(min(threads, len(shards))) as workers:
        for number in range(1, config.epochs + 1):
            started = time.perf_counter()
            loss_sum, right, done = 0.0, 0, 0
            for step in range(steps):
                learnt = int((lanes.rank[step * STEPS : (step + 1) * STEPS] >= 0).sum())
                if not learnt:
                    continue
                results = list(workers.map(lambda shard, at=step: shard.step(at), shards))
                for index, parameter in enumerate(parameters):
                    # always in the order of the shards: sums of floats depend on it
                    gradient = results[0].gradients[index]
                    for result in results[1:]:
                        gradient += result.gradients[index]
                    parameter.grad = gradient.div_(learnt)
                nn.utils.clip_grad_norm_(parameters, 1.0)
                optimiser.step()
                schedule.step()
                loss_sum += sum(result.loss for result in results)
                right += sum(result.right for result in results)
                done += learnt
                advance(learnt)
            for shard in shards:
                shard.restart()
            epoch = Epoch(
                number, loss_sum / max(done, 1), right / max(done, 1), done, time.perf_counter() - started
            )
            epochs.append(epoch)
            _log.info(
                "epoch %d/%d: loss %.4f nats, accuracy %.4f, %s transfers/s",
                number,
                config.epochs,
                epoch.loss,
                epoch.accuracy,
                f"{done / epoch.seconds:,.0f}",
            )
    return epochs


@dataclass(frozen=True, slots=True)
class _Result:
    gradients: list[Tensor]
    loss: float
    right: int


class _Shard:
    """Some of the lanes: one thread's work in a step."""

    def __init__(self, network: Causal, lanes: Lanes, vocabulary: Vocabulary, begin: int, seed: int) -> None:
        part = slice(begin, begin + _SHARD_LANES)
        self._network = network
        self._site, self._previous, self._rank = (
            torch.from_numpy(np.ascontiguousarray(a[:, part]))
            for a in (lanes.site, lanes.previous, lanes.rank)
        )
        # [S + 1] and [T + 2]: chance that a token is hidden
        self._hide_site = _hide(vocabulary.edge_site, vocabulary.edge_count, len(vocabulary.site) + 1)
        self._hide_target = _hide(vocabulary.edge_target, vocabulary.edge_count, len(vocabulary.target) + 2)
        self._generator = torch.Generator().manual_seed(seed * 1_000_003 + begin)
        self.restart()

    def restart(self) -> None:
        self._state = torch.zeros(self._site.shape[1], self._network.config.units)

    def step(self, number: int) -> _Result:
        network, config = self._network, self._network.config
        part = slice(number * STEPS, (number + 1) * STEPS)
        site = self._masked(self._site[part].long(), self._hide_site, config.sites)
        previous = self._masked(self._previous[part].long(), self._hide_target, config.targets)
        rank = self._rank[part].long().clamp(max=config.ranks - 1)
        # a hidden site has no known targets: its own frequencies and gate must stay
        logits, state = network(site, previous, self._state, choices=self._site[part].long())
        self._state = state.detach()
        loss = nn.functional.cross_entropy(
            logits.flatten(0, 1), rank.flatten(), ignore_index=-1, reduction="sum"
        )
        gradients = list(torch.autograd.grad(loss, list(network.parameters())))
        return _Result(gradients, loss.item(), int((logits.argmax(dim=2) == rank).sum()))

    def _masked(self, tokens: Tensor, chance: Tensor, unseen: int) -> Tensor:
        hidden = torch.rand(tokens.shape, generator=self._generator) < chance[tokens]
        return tokens.masked_fill(hidden, unseen)


def _hide(token: NDArray[np.int32], count: NDArray[np.int64], size: int) -> Tensor:
    """f32[size]: chance that a token is shown as never seen; 0 for the tokens that stand for none or never
    seen."""
    seen = np.bincount(token, count, minlength=size)
    return torch.from_numpy(np.where(seen > 0, np.maximum(1 / (1 + seen), 1e-3), 0).astype(np.float32))
