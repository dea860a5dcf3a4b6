"""Training data of the causal network: a row a transfer from a site with several targets."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from barnum.models.networks.causal import Causal
from barnum.models.networks.causal_config import (
    MOST_RANKS,
    CausalConfig,
    cells_of,
    favoured_by,
    groups_of,
    multi_sites,
    prior_of,
)
from barnum.models.networks.task import Loss
from barnum.models.threads import pool
from barnum.paths import Transfers
from barnum.sequences import (
    FURTHER,
    LENGTHS,
    LEVELS,
    LONGEST,
    RESTART,
    Encoded,
    Encoder,
    History,
    Spool,
    Tokens,
    Vocabulary,
    decode_edges,
    encode_edges,
    previous_targets,
    spread,
)

_log = logging.getLogger(__name__)

# transfers that contexts are counted of; more are looked up, but not remembered
REMEMBERED = 16 << 20
# stretches that a single run is cut into: what is left out when contexts are looked up
_STRETCHES = 32
# rows in an item, and items of a piece
_ROWS = 64
_PIECE = 64
# transfers that are looked up at once
_PART = 1 << 20

U32 = NDArray[np.uint32]
F32 = NDArray[np.float32]


class CausalData:
    """Collects the transfers of training runs, then makes a task of them."""

    def __init__(
        self,
        vocabulary: Vocabulary,
        tokens: Tokens,
        most_ranks: int = MOST_RANKS,
        remembered: int = REMEMBERED,
    ) -> None:
        self._vocabulary = vocabulary
        self._tokens = tokens
        # as many ranks as the site with the most targets has
        self._ranks = int(np.clip(np.diff(vocabulary.site_first).max(), 2, most_ranks))
        self._most = remembered
        self._edges = Spool({"edge": (np.uint32, ())})
        self._bounds = [0]

    def add(self, run: Iterable[Transfers]) -> None:
        """The transfers that the network is to learn of one run, part by part."""
        encoder = Encoder(self._vocabulary, self._tokens)
        for part in run:
            self._edges.append(edge=encode_edges(encoder.encode(part)))
        if len(self._edges) > self._bounds[-1]:
            self._bounds.append(len(self._edges))

    @property
    def transfers(self) -> int:
        """Transfers collected so far."""
        return len(self._edges)

    def task(self, units: int, threads: int, advance: Callable[[int], None]) -> CausalTask:
        """The task; ``advance`` is told of transfers whose contexts were looked up."""
        edges: U32 = self._edges.arrays()["edge"]
        vocabulary, ranks = self._vocabulary, self._ranks
        total = len(edges)
        kept = (
            [(0, total)] if total <= self._most else [(a, b) for a, b in spread(total, self._most).tolist()]
        )
        memory = np.concatenate([_stretch(edges, a, b, a) for a, b in kept])
        history = History(vocabulary, ranks)
        for begin in range(0, len(memory), _PART):
            history.add(*_reaching_back(memory, begin, min(begin + _PART, len(memory)), vocabulary))
        rows = Spool(_columns(len(LENGTHS)))
        multi = multi_sites(vocabulary)
        rank_of = np.minimum(vocabulary.edge_rank, ranks - 1).astype(np.uint8)
        none = len(vocabulary.target) + 1
        bounds = self._units()
        met = np.zeros(len(vocabulary.edge_target), np.int64)  # in how many units
        for begin, end in bounds:
            met += np.bincount(edges[begin:end] & ~RESTART, minlength=len(met)) > 0

        def work(unit: tuple[int, int]) -> list[dict[str, NDArray[Any]]]:
            begin, end = unit
            own = History(vocabulary, ranks)
            for a, b in kept:
                x, y = max(a, begin), min(b, end)
                if x < y:
                    part = _stretch(edges, max(a, x - LONGEST), y, a)
                    own.add(decode_edges(part, vocabulary), len(part) - (y - x))
            parts: list[dict[str, NDArray[Any]]] = []
            for x in range(begin, end, _PART):
                run, before = _reaching_back(edges, x, min(x + _PART, end), vocabulary)
                wanted = history.wanted(run)
                wanted[:before] = False
                hints = history.look_up(run, wanted, own)
                parts.append(
                    {
                        "site": multi[run.site[wanted]],
                        "previous": previous_targets(run, none)[wanted],
                        "actual": rank_of[run.edge[wanted]],
                        "new": met[run.edge[wanted]] == 1,
                        **hints.arrays(),
                    }
                )
            advance(end - begin)
            return parts

        with pool(threads) as workers:
            for parts in workers.map(work, bounds):
                for part in parts:
                    rows.append(**part)
        return CausalTask(vocabulary, rows, total, history, memory, units, ranks)

    def _units(self) -> list[tuple[int, int]]:
        """What is left out together: runs, or stretches of the only one."""
        runs = list(itertools.pairwise(self._bounds))
        if len(runs) > 1:
            return runs
        begin, end = runs[0]
        cuts = np.linspace(begin, end, min(_STRETCHES, end - begin) + 1).astype(int).tolist()
        return list(itertools.pairwise(cuts))


def _columns(lengths: int) -> dict[str, tuple[type[np.generic], tuple[int, ...]]]:
    return {
        "site": (np.int32, ()),
        "previous": (np.int32, ()),
        "actual": (np.uint8, ()),
        "new": (np.bool_, ()),
        "rank": (np.uint8, (lengths,)),
        "level": (np.uint8, (lengths,)),
        "further": (np.uint8, (FURTHER,)),
        "further_level": (np.uint8, (FURTHER,)),
        "reach": (np.uint8, ()),
    }


def _stretch(edges: U32, begin: int, end: int, window: int) -> U32:
    """Transfers begin … end; contexts begin anew where a window does."""
    part = edges[begin:end].copy()
    if begin == window:
        part[:1] |= RESTART
    return part


def _reaching_back(edges: U32, begin: int, end: int, vocabulary: Vocabulary) -> tuple[Encoded, int]:
    """Transfers begin … end with those before that are their context, and how many these are."""
    before = min(LONGEST, begin)
    return decode_edges(edges[begin - before : end], vocabulary), before


class CausalTask:
    """See networks/task.py. ``history`` and ``memory`` u32[n] (sequences/contexts.py) belong to the model."""

    per_item = _ROWS
    piece = _PIECE
    optimiser = "adam"

    def __init__(
        self,
        vocabulary: Vocabulary,
        rows: Spool,
        transfers: int,
        history: History,
        memory: U32,
        units: int,
        ranks: int,
    ) -> None:
        self.history = history
        self.memory = memory
        self.transfers = transfers
        self.given = transfers - len(rows)
        self.items = -(-len(rows) // _ROWS)
        self.network = Causal(
            CausalConfig(
                sites=max(1, int((np.diff(vocabulary.site_first) > 1).sum())),
                targets=len(vocabulary.target),
                units=units,
                ranks=ranks,
            )
        )
        self._forward: Callable[..., Tensor] = self.network.forward
        self._arrays = rows.arrays()
        width = np.diff(vocabulary.site_first)
        self._width = np.append(width[width > 1], 1).astype(np.int64)  # never empty
        with torch.no_grad():
            self.network.prior.copy_(torch.from_numpy(prior_of(vocabulary, ranks)))
            sure, next_sure, escape = self._measured()
            self.network.sure.weight.copy_(torch.from_numpy(sure).unsqueeze(1))
            self.network.further_sure.weight.copy_(torch.from_numpy(next_sure).unsqueeze(1))
            self.network.escape.copy_(torch.from_numpy(escape))
        # [T + 2]: chance that a target that training saw c times is shown as never seen, 1 / (1 + c): so the
        # network learns what to expect after one that it does not know
        seen = np.bincount(
            vocabulary.edge_target, vocabulary.edge_count, minlength=len(vocabulary.target) + 2
        )
        hide = np.where(seen > 0, np.maximum(1 / (1 + seen), 1e-3), 0)
        self._hide = torch.from_numpy(hide.astype(np.float32))
        self._unseen = len(vocabulary.target)

    def _measured(self) -> tuple[F32, F32, F32]:
        """Of left-out runs, by the longest known context: f32[cells] log odds that what followed it most
        often was right, f32[FURTHER * (K + 1) * LEVELS] that what followed next to most often was where none
        before it was, and f32[cells] logarithm of the share of transfers that no other run has."""
        size = self.network.sure.num_embeddings
        lengths = size // (2 * LEVELS) - 1
        right, tried, new = np.zeros(size), np.zeros(size), np.zeros(size)
        next_right, next_tried = np.zeros((2, FURTHER, size // 2))

        def count(cell: NDArray[np.int64], happened: NDArray[np.bool_], fresh: NDArray[np.bool_]) -> None:
            right[:] += np.bincount(cell[happened], minlength=size)
            tried[:] += np.bincount(cell, minlength=size)
            new[:] += np.bincount(cell[fresh], minlength=size)

        for begin in range(0, len(self._arrays["site"]), _PART):
            part = slice(begin, begin + _PART)
            rank, level, actual, fresh, reach, further, further_level = (
                self._arrays[name][part]
                for name in ("rank", "level", "actual", "new", "reach", "further", "further_level")
            )
            cell = cells_of(level, reach)
            happened = favoured_by(rank, cell) == actual
            longer = cell < (lengths + 1) * LEVELS
            count(cell[longer], happened[longer], fresh[longer])
            for place in range(FURTHER):
                other = ~happened & (further_level[:, place] > 0)
                cell = cell // LEVELS % (lengths + 1) * LEVELS + further_level[:, place]
                next_tried[place] += np.bincount(cell[other], minlength=size // 2)
                other &= further[:, place] == actual
                next_right[place] += np.bincount(cell[other], minlength=size // 2)
                happened = happened | other
            # had history no room for more than a length, its contexts would be the longest of all transfers
            for length in range(lengths + 1):
                at = max(length - 1, 0)
                known = level[:, at] > 0 if length else np.ones(len(level), np.bool_)
                here = level[known, at] if length else np.zeros(len(level), np.uint8)
                cell = (lengths + 1 + length) * LEVELS + here.astype(np.int64)
                count(cell, rank[known, at] == actual[known], fresh[known])
        # levels that were hardly tried lean on their length, and this on the whole
        tries, news = tried.reshape(-1, LEVELS), new.reshape(-1, LEVELS)
        overall = min(1.0, (new.sum() + 0.5) / (tried.sum() + 1))
        of_length = (news.sum(axis=1) + 0.5) / (tries.sum(axis=1) + 0.5 / overall)
        share = (news + 0.5) / (tries + 0.5 / of_length[:, None])
        escape = np.log(np.minimum(share, 1 - 1e-6)).astype(np.float32).ravel()
        next_odds = [self._odds(*both) for both in zip(next_right, next_tried, strict=True)]
        return self._odds(right, tried), np.concatenate(next_odds), escape

    @staticmethod
    def _odds(right: NDArray[np.float64], tried: NDArray[np.float64]) -> NDArray[np.float32]:
        # a level that was hardly tried leans on the one of fewer counts: with a run left out counts are
        # lower than they will be, so at the upper end nothing may have been tried at all
        counts, purities = 7, 6
        was, could = (x.reshape(-1, LEVELS)[:, 1:].reshape(-1, counts, purities) for x in (right, tried))
        share = np.full(was.shape, 0.5)
        for often in range(counts):
            below = share[:, max(often - 1, 0)]
            # no surer than all that was tried so far can make it
            least = 0.5 / (could[:, : often + 1].sum(axis=1) + 1)
            leaning = (was[:, often] + below) / (could[:, often] + 1)
            share[:, often] = np.clip(leaning, least, 1 - least)
        odds = np.zeros((len(share), LEVELS))
        odds[:, 1:] = np.log(share / (1 - share)).reshape(len(share), -1)
        return odds.ravel().astype(np.float32)

    def to(self, device: torch.device) -> None:
        """Compute on a device."""
        self.network.to(device)
        self._hide = self._hide.to(device)

    def compile(self) -> None:
        """Compile the network for training: some seconds of work at first, half as fast again then. Where
        there is no compiler it stays as it is."""
        compiled = torch.compile(self.network.forward, dynamic=True)
        lengths = len(self.network.config.lengths)
        one = torch.zeros(2, dtype=torch.int64)
        several = torch.zeros(2, lengths, dtype=torch.int64)
        few = torch.zeros(2, FURTHER, dtype=torch.int64)
        try:
            compiled(one, one, several, several, few, few, one)
        except Exception as error:  # whatever a compiler that is missing or old leads to
            line = (str(error).strip().splitlines() or [type(error).__name__])[0]
            _log.warning("--compile has no effect: the network cannot be compiled here (%s)", line[:200])
            return
        self._forward = compiled

    def loss(self, items: NDArray[np.int64], generator: torch.Generator) -> Loss:
        rows = (items[:, None] * _ROWS + np.arange(_ROWS)).ravel()
        rows = rows[rows < len(self._arrays["site"])]
        device = self._hide.device
        # chunks are contiguous: they are read whole, also from a file
        read = [
            np.asarray(self._arrays[name][rows])
            for name in ("site", "previous", "actual", "rank", "level", "further", "further_level", "reach")
        ]
        chance = torch.rand(len(rows), generator=generator, device=device)
        total, right = torch.zeros((), device=device), 0
        ranks = self.network.config.ranks
        # a share of a batch may be empty: its gradient is 0 then, but there
        groups = groups_of(self._width[read[0]], ranks) or [(ranks, np.zeros(0, np.int64))]
        for most, group in groups:
            site, previous, actual, *hints = (
                torch.from_numpy(column[group]).to(device, torch.int64) for column in read
            )
            hidden = chance[torch.from_numpy(group).to(device)] < self._hide[previous]
            logits = self._forward(site, previous.masked_fill(hidden, self._unseen), *hints, ranks=most)
            total = total + nn.functional.cross_entropy(logits, actual, reduction="sum")
            right += int((logits.argmax(dim=1) == actual).sum())
        return Loss(total, right, len(rows))
