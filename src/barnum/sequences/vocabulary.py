"""What the training runs showed: sites, targets, and which targets each site led to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from barnum._sequences import distinct
from barnum.errors import ModelError, SetsError
from barnum.paths import Transfers
from barnum.sequences.edges import Edges
from barnum.sequences.tokens import WHOLE, Tokens

Bool = NDArray[np.bool_]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]

# values of ``seen``: how much of a transfer training knew
NEVER_SEEN, TARGET_SEEN, EDGE_SEEN = 0, 1, 2

_DENSE_CELLS = 1 << 25


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Sites (sources of transfers), targets and edges of the training runs, and of nothing else.

    ``site`` u64[S] and ``target`` u64[T] are tokens, ascending. Edges are sorted by site and, within a site,
    from the most frequent down; the place of an edge among those of its site is its *rank*. The edges of site
    i are ``site_first[i] : site_first[i + 1]`` (i64[S + 1]). ``edge_target`` i32[E] are indices into
    ``target``. ``edge_count`` i64[E] is how often each edge was taken, ``edge_runs`` i32[E] in how many runs.
    ``site_runs`` i32[S] is in how many runs each site was executed; ``runs`` i64[1] is the number of runs.
    """

    site: U64
    target: U64
    site_first: I64
    site_runs: I32
    edge_target: I32
    edge_count: I64
    edge_runs: I32
    runs: I64

    @classmethod
    def fit(cls, runs: Sequence[Edges]) -> Vocabulary:
        """Learn a vocabulary from the edges of each training run.

        Raises:
            SetsError: the runs hold no transfer.
        """
        if not sum(len(run) for run in runs):
            raise SetsError("the training samples hold no transfer that passes the filter: learn more kinds")
        site, in_site = distinct(np.concatenate([run.site for run in runs]))
        target, in_target = distinct(np.concatenate([run.target for run in runs]))
        keys, in_edge = distinct((in_site * len(target) + in_target).view(np.uint64))
        key = keys.view(np.int64)
        count = np.zeros(len(key), np.int64)
        np.add.at(count, in_edge, np.concatenate([run.count for run in runs]))
        run_of = np.repeat(np.arange(len(runs)), [len(run) for run in runs])
        pairs = distinct((in_site * len(runs) + run_of).view(np.uint64))[0].view(np.int64)
        edge_site = key // len(target)
        order = np.lexsort((key, -count, edge_site))
        return cls(
            site=site,
            target=target,
            site_first=np.searchsorted(edge_site, np.arange(len(site) + 1)).astype(np.int64),
            site_runs=np.bincount(pairs // len(runs), minlength=len(site)).astype(np.int32),
            edge_target=(key % len(target))[order].astype(np.int32),
            edge_count=count[order],
            edge_runs=np.bincount(in_edge, minlength=len(key))[order].astype(np.int32),
            runs=np.array([len(runs)], np.int64),
        )

    @property
    def edge_site(self) -> I32:
        """i32[E]: the index of the site of each edge."""
        return np.repeat(np.arange(len(self.site), dtype=np.int32), np.diff(self.site_first))

    @property
    def edge_rank(self) -> I32:
        """i32[E]: the place of each edge among those of its site; 0 for the most frequent."""
        starts = np.repeat(self.site_first[:-1], np.diff(self.site_first))
        return (np.arange(len(self.edge_target)) - starts).astype(np.int32)

    def numbers_of(self, targets: U64) -> I32:
        """i32[k]: the index of each target u64[k]; T for one that was never seen."""
        return _look_up(self.target, targets)

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """All arrays by name, for a checkpoint."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_arrays(cls, arrays: dict[str, NDArray[np.generic]]) -> Vocabulary:
        """The reverse of arrays().

        Raises:
            ModelError: arrays are missing or do not fit together.
        """
        types = {
            "site": np.uint64,
            "target": np.uint64,
            "site_first": np.int64,
            "site_runs": np.int32,
            "edge_target": np.int32,
            "edge_count": np.int64,
            "edge_runs": np.int32,
            "runs": np.int64,
        }
        for name, dtype in types.items():
            if name not in arrays or arrays[name].dtype != dtype or arrays[name].ndim != 1:
                raise ModelError(
                    f"the weights hold no usable vocabulary: {name} is missing or of another type"
                )
        vocabulary = cls(**{name: arrays[name] for name in types})  # type: ignore[arg-type]
        sites, edges = len(vocabulary.site), len(vocabulary.edge_target)
        consistent = (
            len(vocabulary.site_first) == sites + 1
            and len(vocabulary.site_runs) == sites
            and len(vocabulary.edge_count) == len(vocabulary.edge_runs) == edges
            and len(vocabulary.runs) == 1
            and sites > 0
            and vocabulary.site_first[0] == 0
            and vocabulary.site_first[-1] == edges
            and int(vocabulary.site_first.min()) >= 0
            and int(vocabulary.site_first.max()) <= edges
            and bool((np.diff(vocabulary.site_first) > 0).all())
            and bool(
                (vocabulary.site[1:] > vocabulary.site[:-1]).all()
                and (vocabulary.target[1:] > vocabulary.target[:-1]).all()
            )
            and int(vocabulary.edge_target.min()) >= 0
            and int(vocabulary.edge_target.max()) < len(vocabulary.target)
            and int(vocabulary.edge_count.min()) > 0
            # in one run at least, and in all at most
            and int(min(vocabulary.site_runs.min(), vocabulary.edge_runs.min())) >= 1
            and int(max(vocabulary.site_runs.max(), vocabulary.edge_runs.max())) <= vocabulary.runs[0]
            # an edge leads to each target, and each edge is there once
            and bool((np.bincount(vocabulary.edge_target, minlength=len(vocabulary.target)) > 0).all())
            and not _twice(
                vocabulary.edge_site.astype(np.int64) * len(vocabulary.target) + vocabulary.edge_target
            )
        )
        if not consistent:
            raise ModelError("the weights hold a vocabulary that contradicts itself")
        return vocabulary


def _twice(keys: I64) -> bool:
    ordered = np.sort(keys)
    return bool((ordered[1:] == ordered[:-1]).any())


@dataclass(frozen=True, slots=True)
class Encoded:
    """m transfers as indices into a vocabulary.

    ``site`` i32[m] (S: never seen), ``target`` i32[m] (T: never seen), ``edge`` i32[m] (-1: never seen);
    ``first`` bool[m] is set where a model's state must start anew before the transfer.
    """

    site: I32
    target: I32
    edge: I32
    first: Bool

    def __len__(self) -> int:
        return len(self.site)

    def part(self, begin: int, end: int) -> Encoded:
        """The transfers ``begin : end``."""
        return Encoded(
            self.site[begin:end], self.target[begin:end], self.edge[begin:end], self.first[begin:end]
        )

    @classmethod
    def join(cls, parts: Sequence[Encoded]) -> Encoded:
        """Several parts of one run as one."""
        if len(parts) == 1:
            return parts[0]
        return cls(*(np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(cls)))


class Encoder:
    """Turns the transfers of one sample into indices into a vocabulary, part by part."""

    def __init__(self, vocabulary: Vocabulary, tokens: Tokens = WHOLE) -> None:
        self.vocabulary = vocabulary
        self._tokens = tokens
        self._blocks: object = None
        self._site: I32 = np.zeros(0, np.int32)
        self._target: I32 = np.zeros(0, np.int32)
        keys = vocabulary.edge_site.astype(np.int64) * (len(vocabulary.target) + 1) + vocabulary.edge_target
        self._order = np.argsort(keys)
        self._keys = keys[self._order]
        cells = (len(vocabulary.site) + 1) * (len(vocabulary.target) + 1)
        self._dense: I32 | None = None
        if cells <= _DENSE_CELLS:
            self._dense = np.full(cells, -1, np.int32)
            self._dense[keys] = np.arange(len(keys))

    def encode(self, transfers: Transfers) -> Encoded:
        """The indices of the sites, targets and edges of m transfers."""
        if transfers.blocks is not self._blocks:
            self._blocks = transfers.blocks
            self._site = _look_up(self.vocabulary.site, self._tokens.sites(transfers.blocks))
            self._target = _look_up(self.vocabulary.target, self._tokens.targets(transfers.blocks))
        site, target = self._site[transfers.source], self._target[transfers.target]
        return Encoded(site, target, self.edges(site, target), transfers.first)

    def edges(self, site: I32, target: I32) -> I32:
        """i32[m]: the index of the edge from each ``site`` i32[m] to ``target`` i32[m]; -1: never seen."""
        key = site.astype(np.int64) * (len(self.vocabulary.target) + 1) + target
        if self._dense is not None:
            edge: I32 = self._dense[key]
            return edge
        at = np.minimum(np.searchsorted(self._keys, key), len(self._keys) - 1)
        return np.where(self._keys[at] == key, self._order[at], -1).astype(np.int32)


def _look_up(known: U64, tokens: U64) -> I32:
    """i32[k]: the index of each token among the known ones; len(known) for a token that is not known."""
    at = np.minimum(np.searchsorted(known, tokens), len(known) - 1)
    return np.where(known[at] == tokens, at, len(known)).astype(np.int32)


def seen_level(encoded: Encoded, vocabulary: Vocabulary) -> NDArray[np.uint8]:
    """u8[m]: 2 if training saw the transfer, 1 if only its target, 0 if neither."""
    known = (encoded.target < len(vocabulary.target)).astype(np.uint8)
    known[encoded.edge >= 0] = EDGE_SEEN
    return known


def previous_targets(encoded: Encoded, none: int) -> I32:
    """i32[m]: the target of the transfer before each one; ``none`` where a model's state starts anew."""
    previous = np.empty(len(encoded), np.int32)
    previous[:1] = none
    previous[1:] = encoded.target[:-1]
    previous[encoded.first] = none
    return previous
