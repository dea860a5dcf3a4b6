"""Teaches a rote learner: run after run, each of which is predicted first, and then counted.

Where memory is bounded, the longest contexts are forgotten first, all of one length at once and for good.
What is left is what a learner of fewer lengths would have counted: contexts that stay keep all their counts,
a larger bound leaves more lengths, and a table can be freed without memory for a copy. This bounds the order
of the model, as in J. G. Cleary, I. H. Witten, Data Compression Using Adaptive Coding and Partial String
Matching, IEEE Trans. Communications 32 (1984). To forget rare contexts of all lengths instead predicts worse
from equal memory; see docs/experiments.md.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec
import numpy as np

from barnum.errors import ModelError, SetsError
from barnum.evaluations import Calibration
from barnum.models.arrays import Arrays
from barnum.models.model import Identity, Model, ModelDocument, document_of, network_arrays
from barnum.models.networks.rote import F64, Roller, RoteConfig, RoteNetwork, Rule
from barnum.paths import Learn, OpenPath, Transfers, iter_transfers
from barnum.sequences import (
    WINDOW,
    EdgeCounter,
    RunEdges,
    Selection,
    Tokens,
    Vocabulary,
    check_runs,
    edges_of,
    fit_novelty,
    pack_runs,
    regroup,
    units_of,
    unpack_runs,
)
from barnum.sequences.kept import MOST_TRANSFERS
from barnum.sequences.parts import joined, part_of

_log = logging.getLogger(__name__)

_Item = TypeVar("_Item")
_Generated = Generator[_Item, None, None]

# transfers that are predicted by one state of the model
_PIECE = 1 << 22
# the first piece of the first run, which is predicted in pieces that are each as long as all before it
_FIRST = 1 << 10
# a run weighs as the cube of its number: the last quarter has two thirds of the weight
_POWER = 3
# where memory is bounded: a piece has one transfer for so many bytes, and at least so many transfers
_BYTES_OF_PIECE = 1 << 14
_FEWEST = 1 << 8
# … and at most so many threads count, as a table that grows is there twice meanwhile. A constant, as what is
# kept must not depend on the number of threads
_AT_ONCE = 4


def check_goes_on(model: Model) -> None:
    """Check that RoteLearner.of() would accept a model.

    Raises:
        ModelError: it would not.
    """
    document, _, vocabulary, kept = _kept_by(model)
    check_runs(vocabulary, kept, len(document.samples))


def _kept_by(model: Model) -> tuple[ModelDocument, RoteNetwork, Vocabulary, Arrays]:
    document, network, vocabulary = model.document, model.network, model.vocabulary
    if document is None or not isinstance(network, RoteNetwork) or vocabulary is None:
        raise ModelError("this model is not of a rote learner: only those can learn more, or be merged")
    kept = {name.removeprefix("runs."): array for name, array in model.extra.items()}
    return document, network, vocabulary, kept


def fading(count: int) -> float:
    """The factor for escapes measured on ``count`` runs, when those of one more run are added."""
    return float((count / (count + 1)) ** _POWER)


class RoteSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be learnt, and how.

    Attributes:
        learn: kinds of transfers.
        tokens: how blocks are numbered.
        lengths: of contexts in transfers, ascending from 0.
        rule: how the learner predicts.
        max_memory: bytes that the counts may take; None: no limit.
    """

    learn: Learn
    tokens: Tokens
    lengths: list[int]
    rule: Rule = "likeliest"
    max_memory: int | None = None


@dataclass(frozen=True, slots=True)
class _Run:
    """A run that was read to its end: kept ``whole``, or as its ``edges`` if it is too long for that."""

    sample: str
    opened: OpenPath
    transfers: int
    whole: Transfers | None
    edges: RunEdges | None


@dataclass(slots=True)
class RoteLearner:
    """Learns runs one after the other, and gives a model of all of them.

    Attributes:
        spec: what is learnt.
        threads: number of threads; results do not depend on it.
        transfers: transfers of the runs that this learner has learnt itself.
        network: the counts.
        samples: names of all runs learnt, in order.
        runs: their distinct transfers.
        measured: escapes (tried, escaped, base; see RoteNetwork) of each run that this learner has learnt
            itself.
    """

    spec: RoteSpec
    threads: int
    transfers: int = 0
    network: RoteNetwork = field(init=False)
    samples: list[str] = field(default_factory=list)
    runs: list[RunEdges] = field(default_factory=list)
    measured: list[tuple[F64, F64, F64]] = field(default_factory=list)
    _before: int = field(default=0, init=False)  # transfers of runs that others have learnt

    def __post_init__(self) -> None:
        self.network = RoteNetwork(RoteConfig(lengths=self.spec.lengths, rule=self.spec.rule))

    @classmethod
    def of(cls, model: Model, threads: int, max_memory: int | None = None) -> RoteLearner:
        """A learner that goes on from a model, and takes over its network.

        Raises:
            ModelError: the model is not of a rote learner, or keeps no usable runs.
        """
        document, network, vocabulary, kept = _kept_by(model)
        spec = RoteSpec(
            learn=document.learn,
            tokens=document.tokens,
            lengths=network.config.lengths,
            rule=network.config.rule,
            max_memory=max_memory,
        )
        learner = cls(spec, threads)
        learner.network = network
        learner.samples = list(document.samples)
        learner.runs = unpack_runs(vocabulary, kept, len(learner.samples))
        learner._before = sum(run.whole.transfers for run in learner.runs)
        return learner

    @property
    def forgotten(self) -> int:
        """How many of the longest lengths were forgotten to keep within the bound of memory."""
        return len(self.spec.lengths) - self.network.counts.kept

    @property
    def contexts(self) -> int:
        """Number of contexts counted."""
        return int(self.network.counts.contexts)

    @property
    def bytes(self) -> int:
        """Memory that the counts take, in bytes."""
        return int(self.network.counts.bytes)

    def merge(self, model: Model) -> None:
        """Add what another model has learnt from other runs.

        Raises:
            ModelError: it is not of a rote learner with the same options, has learnt one of the same runs, or
                both together have learnt too many transfers.
            SetsError: even contexts of length 0 do not fit in the memory that is allowed.
        """
        other = RoteLearner.of(model, self.threads)
        for name in ("learn", "tokens", "lengths"):
            if getattr(other.spec, name) != getattr(self.spec, name):
                raise ModelError(f"it has learnt with other options ({name} differs): they cannot be merged")
        twice = sorted(set(self.samples) & set(other.samples))
        if twice:
            raise ModelError(f"both models have learnt {twice[0]}: merged, it would count twice")
        self._check_sum(other._before)
        self.network.merge(other.network, self._piece(), self._make_room)
        self.samples += other.samples
        self.runs += other.runs
        self._before += other._before

    def keep_to_memory(self) -> None:
        """Forget the longest contexts until what was counted fits in the memory that is allowed.

        Raises:
            SetsError: even contexts of length 0 do not fit.
        """
        self._make_room(0)

    def learn(self, sample: str, opened: OpenPath) -> int:
        """Learn one more run, and return the number of its transfers.

        Raises:
            InputError: the trace cannot be read. Nothing of it is learnt, unless it is a long run, which is
                read twice, and the second reading fails.
            ModelError: with this run too many transfers would be learnt.
            SetsError: even contexts of length 0 do not fit in the memory that is allowed.
        """
        return self._count(self._read(sample, opened))

    def learn_all(self, samples: Sequence[tuple[str, OpenPath]]) -> Iterator[int]:
        """Learn several runs as learn() does; the next run is read while one is counted."""
        with closing(_ahead(self._read(*each) for each in samples)) as runs:
            for run in runs:
                yield self._count(run)

    def _read(self, sample: str, opened: OpenPath) -> _Run:
        """Read a run to its end before anything of it is counted; it is kept if it fits in a piece."""
        counter: EdgeCounter | None = None
        held: list[Transfers] = []
        total = 0
        with opened() as path:
            for part in iter_transfers(path, self.spec.learn):
                if not len(part):
                    continue
                held.append(part)
                total += len(part)
                if total > _PIECE:
                    counter = counter or EdgeCounter()
                    for each in held:
                        counter.add(each)
                    held.clear()
        whole = joined(held) if held and counter is None else None
        if counter is not None:
            for each in held:
                counter.add(each)
        return _Run(sample, opened, total, whole, counter.done() if counter is not None else None)

    def _count(self, run: _Run) -> int:
        if not run.transfers:
            _log.warning("%s: holds no transfer that passes the filter", run.sample)
            return 0
        self._check_sum(run.transfers)
        roller = Roller(self.spec.lengths, self.spec.tokens)
        runs_before = len(self.runs)
        counted = 0
        network = self.network
        threads = self.threads if self.spec.max_memory is None else min(self.threads, _AT_ONCE)
        next_doubling = _FIRST
        own_escapes = RoteNetwork(network.config)  # of this run alone
        with ThreadPoolExecutor(1) as pool, closing(self._pieces(run, runs_before == 0)) as pieces:
            edges = None if run.whole is None else pool.submit(edges_of, [run.whole])
            for piece in pieces:
                walk = roller.roll(piece)
                if not counted and runs_before:
                    network.fade(fading(runs_before))
                if runs_before or counted:
                    network.settle()
                    measured = network.counts.escapes(walk, self.threads)
                    if not runs_before and counted >= next_doubling:
                        # the first run is predicted better each time that it has doubled
                        next_doubling *= 2
                        network.fade(0.5)
                        own_escapes.fade(0.5)
                    network.measured(*measured)
                    own_escapes.measured(*measured)
                self._make_room(len(piece))
                network.counts.add(walk, threads)
                counted += len(piece)
            distinct = run.edges if edges is None else edges.result()
        assert distinct is not None
        self.samples.append(run.sample)
        self.runs.append(distinct)
        self.measured.append((own_escapes.tried, own_escapes.escaped, own_escapes.base))
        self.transfers += counted
        return counted

    def model(self) -> Model:
        """The model of all that was learnt.

        Raises:
            SetsError: nothing was learnt.
        """
        if not self.runs:
            raise SetsError("the training samples hold no transfer that passes the filter: learn more kinds")
        network = self.network
        network.config = msgspec.structs.replace(network.config, forgotten=self.forgotten)
        network.settle()
        identity = Identity()

        def count() -> None:
            # the names of its arrays sort before all others
            identity.add(network_arrays(network))

        with ThreadPoolExecutor(1) as pool:
            counting = pool.submit(count)
            vocabulary = Vocabulary.fit(units_of(self.runs)[0])
            rates, scores = fit_novelty(vocabulary, self.runs)
            extra = {f"runs.{name}": array for name, array in pack_runs(vocabulary, self.runs).items()}
            model = Model(
                network=network,
                tokens=self.spec.tokens,
                vocabulary=vocabulary,
                names=vocabulary,
                rates=rates,
                extra=extra,
            )
            counting.result()
        identity.add(model.arrays({}))
        document = document_of(
            network,
            name="rote",
            tokens=self.spec.tokens,
            learn=self.spec.learn,
            train=None,
            selection=Selection(),
            samples=tuple(self.samples),
            calibration=Calibration("novelty", WINDOW, tuple(np.round(scores, 6).tolist())),
        )
        return model.documented(document, str(identity))

    def _pieces(self, run: _Run, first: bool) -> _Generated[Transfers]:
        """The transfers of a run, in pieces that are each predicted by one state of the model."""
        most = self._piece()

        def read_again() -> Iterator[Transfers]:
            with run.opened() as path:
                yield from regroup(iter_transfers(path, self.spec.learn), most)

        parts = regroup([run.whole], most) if run.whole is not None else _ahead(read_again())
        begin = 0
        for part in parts:
            if not first:
                yield part
                continue
            at = 0
            while at < len(part):
                end = min(len(part), at + max(_FIRST, begin))
                yield part_of(part, at, end)
                begin += end - at
                at = end

    def _piece(self) -> int:
        """How many transfers, or counts of another model, are added at a time."""
        if self.spec.max_memory is None:
            return _PIECE
        return min(_PIECE, max(_FEWEST, self.spec.max_memory // _BYTES_OF_PIECE))

    def _check_sum(self, transfers: int) -> None:
        """Raise a ModelError if a model with so many more transfers could not be read."""
        if self._before + self.transfers + transfers > MOST_TRANSFERS:
            raise ModelError("with these runs it has learnt more transfers than can be counted")

    def _make_room(self, counts: int) -> None:
        """Forget the longest contexts until ``counts`` more transfers, or counts of another model, fit in the
        memory that is allowed.

        Raises:
            SetsError: they do not fit even beside contexts of length 0.
        """
        limit = self.spec.max_memory
        if limit is None:
            return
        before = self.network.counts.kept
        while self.network.counts.bytes_with(counts, _AT_ONCE) > limit:
            kept = self.network.counts.kept - 1
            if kept == 0:
                raise SetsError(
                    f"the counts do not fit in {limit:,} bytes, even where only single branches are counted: "
                    "raise --max-memory"
                )
            self.network.counts.keep(kept)
        if self.network.counts.kept != before:
            longest = self.spec.lengths[self.network.counts.kept - 1]
            _log.info("memory: contexts of more than %s transfers were forgotten", f"{longest:,}")


def _ahead(items: Iterator[Any], depth: int = 2) -> _Generated[Any]:
    """The same items, produced by a thread that is up to ``depth`` items ahead."""
    waiting: queue.Queue[tuple[bool, Any]] = queue.Queue(depth)
    stopped = threading.Event()

    def put(item: tuple[bool, Any]) -> None:
        while not stopped.is_set():
            try:
                waiting.put(item, timeout=0.1)
                return
            except queue.Full:
                continue

    def work() -> None:
        try:
            for item in items:
                put((True, item))
                if stopped.is_set():
                    return
            put((False, None))
        except BaseException as error:  # raised again where the items are used
            put((False, error))

    worker = threading.Thread(target=work, daemon=True)
    worker.start()
    try:
        while True:
            more, item = waiting.get()
            if not more:
                if item is not None:
                    raise item
                return
            yield item
    finally:
        stopped.set()
        worker.join()
