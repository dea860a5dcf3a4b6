"""Scores whole runs with a model: every transfer that passes the filter, in order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from barnum.models.causal import Causal
from barnum.models.mixture import Mixture, MixtureScorer, mixed
from barnum.models.model import Model
from barnum.models.paper_task import WindowTokens
from barnum.models.rote import Roller, RoteNetwork
from barnum.models.scorer import CausalScorer, Scores, check_finite, last_of
from barnum.models.threads import pool
from barnum.models.trainer import set_up
from barnum.models.world import default_device
from barnum.paths import Learn, PathReader, Windows, iter_transfers, iter_windows
from barnum.sequences import (
    WHOLE,
    Encoded,
    Encoder,
    RunNovelty,
    regroup,
    seen_level,
)

# transfers scored at once
PART = 1 << 19
# windows that a network of windows sees at once
_WINDOWS = 512
# windows that are looked through for distinct ones at once, and their products computed together
_TOGETHER = 1 << 16

Columns = dict[str, NDArray[Any]]
F32 = NDArray[np.float32]


class Evaluator:
    """A model ready to score runs, one after the other. ``learn`` says which transfers count where the model
    does not."""

    def __init__(self, model: Model, threads: int, learn: Learn | None = None) -> None:
        set_up(0)
        self._model = model
        self._threads = threads
        self._learn = model.document.learn if model.document is not None else (learn or Learn())
        self._causal: CausalScorer | None = None
        self._windows: _WindowScorer | None = None
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
            self._windows = _WindowScorer(model, threads)

    def columns(self, path: PathReader) -> Iterator[Columns]:
        """The columns of an evaluation part by part, each an array of the part's m predictions:

        ``correct`` bool, ``predicted`` and ``actual`` u64 targets in the network's tokens (BBIDs, or the
        original's classes), ``confidence`` f32 probability of the predicted target, ``surprisal`` f32 nats,
        ``position`` u64 step of the target in the path. Where the model knows what its training saw also
        ``seen`` u8 (2: transfer seen in training, 1: its target, 0: neither) and ``novelty`` f32 nats.
        """
        novelty = _Novelty(self._model)
        if self._causal is not None and self._mixture is not None:
            yield from self._with_mixture(self._causal, self._mixture, path, novelty)
        elif self._causal is not None:
            yield from self._with_causal(self._causal, path, novelty)
        elif self._rote is not None:
            yield from self._with_rote(self._rote, path, novelty)
        elif self._windows is not None:
            yield from self._with_windows(self._windows, path, novelty)

    def _with_causal(self, scorer: CausalScorer, path: PathReader, novelty: _Novelty) -> Iterator[Columns]:
        names, tokens = self._model.names, self._model.tokens
        assert names is not None
        encoder = Encoder(names, tokens)
        warm: Encoded | None = None
        for part in regroup(iter_transfers(path, self._learn), PART):
            encoded = encoder.encode(part)
            scores = scorer.score(encoded, warm, self._threads)
            warm = last_of(encoded, warm)
            yield {
                **_of(scores, tokens.targets(part.blocks)[part.target]),
                **novelty.columns(part, encoded if names is self._model.vocabulary else None),
                "position": part.position,
            }

    def _with_mixture(
        self, causal: CausalScorer, mixture: Mixture, path: PathReader, novelty: _Novelty
    ) -> Iterator[Columns]:
        names, tokens = self._model.names, self._model.tokens
        assert names is not None
        scorer = MixtureScorer(causal, names, mixture.rote, tokens, self._threads)
        for part in regroup(iter_transfers(path, self._learn), PART):
            both, encoded = scorer.score(part)
            yield {
                **_of(mixed(both, mixture.weight), both.actual),
                **novelty.columns(part, encoded if names is self._model.vocabulary else None),
                "position": part.position,
            }

    def _with_windows(self, scorer: _WindowScorer, path: PathReader, novelty: _Novelty) -> Iterator[Columns]:
        def inputs() -> Iterator[Columns]:
            for part in iter_windows(path, self._learn, scorer.length):
                told = novelty.columns(part.transfers) | {"position": part.transfers.position}
                told |= scorer.targets(part)
                for begin in range(0, len(part), _TOGETHER):
                    rows = slice(begin, min(begin + _TOGETHER, len(part)))
                    seen = scorer.windows(part, rows)
                    yield {"window": seen} | {name: column[rows] for name, column in told.items()}

        # what a product of matrices rounds to may depend on its shape, and that on the run alone
        for columns in _regroup_columns(inputs(), _TOGETHER):
            yield scorer.score(columns.pop("window"), columns.pop("target")) | columns

    def _with_rote(self, network: RoteNetwork, path: PathReader, novelty: _Novelty) -> Iterator[Columns]:
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


def _of(scores: Scores, actual: NDArray[np.uint64]) -> Columns:
    return {
        "correct": scores.correct,
        "predicted": scores.predicted,
        "confidence": scores.confidence,
        "actual": actual,
        "surprisal": scores.surprisal,
    }


class _Novelty:
    """What training saw of whole blocks, whatever the network's tokens are."""

    def __init__(self, model: Model) -> None:
        self._vocabulary = model.vocabulary
        if model.vocabulary is not None and model.rates is not None:
            self._encoder = Encoder(model.vocabulary, WHOLE)
            self._novelty = RunNovelty(model.vocabulary, model.rates)

    def columns(self, part: Any, encoded: Encoded | None = None) -> Columns:
        if self._vocabulary is None:
            return {}
        encoded = encoded or self._encoder.encode(part)
        return {
            "seen": seen_level(encoded, self._vocabulary),
            "novelty": self._novelty.score(encoded, part),
        }


class _WindowScorer:
    """Scores with a network that sees windows of blocks."""

    def __init__(self, model: Model, threads: int) -> None:
        assert isinstance(model.network, nn.Module)
        self._network = model.network.eval()
        self._threads = threads
        # an imported Keras model gives probabilities, the others logits
        self._probabilities = model.document is None
        network: Any = model.network
        config = network if self._probabilities else network.config
        self.length: int = config.sequence_len
        self._names = WindowTokens(model.tokens, model.vocabulary, model.extra)
        # with a learnt vocabulary the last class is "never seen": that is never predicted
        self._targets = (
            model.vocabulary.target if "blocks.block" in model.extra and model.vocabulary else None
        )
        self._device = next(iter(model.network.state_dict().values())).device

    def windows(self, part: Windows, rows: slice) -> NDArray[np.int64]:
        """i64[r, length]: what the network sees of some of a part's transfers."""
        return self._names.windows(part, self.length, rows)

    def targets(self, part: Windows) -> Columns:
        """``target`` i64[m] the network's class, and ``actual`` as in the evaluation."""
        blocks, target = part.transfers.blocks, part.transfers.target
        return {
            "target": self._names.targets(part),
            "actual": self._names.tokens.targets(blocks)[target],
        }

    def score(self, windows: NDArray[np.int64], target: NDArray[np.int64]) -> Columns:
        """The other columns but novelty and position, of i64[m, length] and i64[m]."""
        # programs repeat themselves: each distinct window is computed once
        distinct, which = _distinct(windows)
        predicted, confidence, took = self._log_p(windows[distinct], which, target)
        check_finite(confidence, took)
        return {
            "correct": predicted == target,
            "predicted": predicted.astype(np.uint64) if self._targets is None else self._targets[predicted],
            "confidence": np.minimum(confidence, 1),
            "surprisal": np.maximum(-took, 0),
        }

    def _log_p(
        self, windows: NDArray[np.int64], which: NDArray[np.int64], actual: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], F32, F32]:
        """Likeliest target, its probability, and the logarithm of the actual one's; ``which`` of the windows
        each prediction is of."""

        order = np.argsort(which, kind="stable")
        ends = np.searchsorted(which[order], np.arange(0, len(windows) + _WINDOWS, _WINDOWS))
        predicted = np.empty(len(which), np.int64)
        confidence, took = np.empty(len(which), np.float32), np.empty(len(which), np.float32)

        @torch.inference_mode()
        def work(number: int) -> None:
            begin = number * _WINDOWS
            out = self._network(torch.from_numpy(windows[begin : begin + _WINDOWS]).to(self._device))
            p = (out if self._probabilities else torch.softmax(out, dim=1)).cpu()
            best, index = (p if self._targets is None else p[:, :-1]).max(dim=1)
            rows = order[ends[number] : ends[number + 1]]
            at = which[rows] - begin
            predicted[rows], confidence[rows] = index.numpy()[at], best.numpy()[at]
            took[rows] = np.log(np.maximum(p.numpy()[at, actual[rows]], np.finfo(np.float32).tiny))

        with pool(self._threads) as workers:
            list(workers.map(work, range(-(-len(windows) // _WINDOWS))))
        return predicted, confidence, took


def _regroup_columns(parts: Iterable[Columns], size: int) -> Iterator[Columns]:
    """The same rows in parts of exactly ``size``, but for the last, which may be shorter; no part that comes
    has more."""
    held: list[Columns] = []
    count = 0
    for part in parts:
        held.append(part)
        count += len(part["target"])
        if count >= size:
            whole = _joined(held)
            yield {name: column[:size] for name, column in whole.items()}
            held = [{name: column[size:].copy() for name, column in whole.items()}]
            del whole
            count -= size
    if count:
        yield _joined(held)


def _joined(parts: list[Columns]) -> Columns:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _distinct(windows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Of i64[n, L]: i64[d] a row of each distinct window, and i64[n] which of them each row is."""
    rows = np.ascontiguousarray(windows.astype(np.int32))
    whole = rows.view(np.dtype((np.void, rows.dtype.itemsize * rows.shape[1]))).ravel()
    _, distinct, which = np.unique(whole, return_index=True, return_inverse=True)
    return distinct, which


def mean_of(columns: Columns) -> tuple[int, float, int]:
    """Predictions, sum of surprisal, right ones of a part."""
    return (
        len(columns["correct"]),
        float(columns["surprisal"].sum(dtype=np.float64)),
        int(columns["correct"].sum()),
    )
