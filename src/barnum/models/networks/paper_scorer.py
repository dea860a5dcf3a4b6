"""Scores runs with a network that sees windows of blocks: the paper's, or one of Keras."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from barnum.models import scoring
from barnum.models.keras.network import KerasNetwork
from barnum.models.model import Model
from barnum.models.networks.kind import Columns
from barnum.models.networks.paper import Paper
from barnum.models.networks.paper_windows import WindowTokens
from barnum.models.networks.predictions import F32, check_finite
from barnum.models.threads import default_device, pool, set_up
from barnum.paths import Learn, PathReader, Windows, iter_windows

# windows that a network of windows sees at once
_WINDOWS = 512
# windows that are looked through for distinct ones at once, and their products computed together
TOGETHER = 1 << 16


class WindowScorer:
    """Scores runs with a network that sees windows of blocks."""

    def __init__(self, model: Model, threads: int, learn: Learn) -> None:
        set_up(0)
        self._model, self._threads, self._learn = model, threads, learn
        self._device = default_device()
        # one of Keras gives probabilities, the paper's logits
        self._probabilities = isinstance(model.network, KerasNetwork)
        self._network = _module(model).to(self._device).eval()
        self.length: int = model.network.config.sequence_len
        self._names = WindowTokens(model.tokens, model.vocabulary, model.extra)
        # with a learnt vocabulary the last class is "never seen": that is never predicted
        self._targets = (
            model.vocabulary.target if "blocks.block" in model.extra and model.vocabulary else None
        )

    def columns(self, path: PathReader) -> Iterator[Columns]:
        """See Evaluator.columns()."""
        novelty = scoring.NoveltyScorer(self._model)

        def inputs() -> Iterator[Columns]:
            for part in iter_windows(path, self._learn, self.length):
                whole = novelty.columns(part.transfers) | {"position": part.transfers.position}
                whole |= self._targets_of(part)
                for begin in range(0, len(part), TOGETHER):
                    rows = slice(begin, min(begin + TOGETHER, len(part)))
                    windows = self._names.windows(part, self.length, rows)
                    yield {"window": windows} | {name: column[rows] for name, column in whole.items()}

        # what a product of matrices rounds to may depend on its shape, and that on the run alone
        for columns in regroup_columns(inputs(), TOGETHER):
            yield self.score(columns.pop("window"), columns.pop("target")) | columns

    def _targets_of(self, part: Windows) -> Columns:
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


def _module(model: Model) -> nn.Module:
    """The network with the code that computes it."""
    if isinstance(model.network, KerasNetwork):
        return model.network
    module = Paper(model.network.config)
    module.load_state_dict({name: torch.from_numpy(a) for name, a in model.network.arrays().items()})
    return module


def regroup_columns(parts: Iterable[Columns], size: int) -> Iterator[Columns]:
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
