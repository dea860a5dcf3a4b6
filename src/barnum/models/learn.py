"""Learns a model from the parsed traces of nominal runs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np

from barnum.errors import SetsError
from barnum.models.checkpoint import Calibration, Model, new_document
from barnum.models.trainer import STEPS, Epoch, TrainConfig, lanes_for, new_network, set_up, train
from barnum.paths import Learn, PathReader, Transfers, iter_transfers
from barnum.sequences import (
    WINDOW,
    Encoder,
    RunEdges,
    Spread,
    Vocabulary,
    edges_of,
    fit_novelty,
    lay_lanes,
    units_of,
)

_log = logging.getLogger(__name__)

# opens a sample's path; what was made for that is gone when the context ends
OpenPath = Callable[[], AbstractContextManager[PathReader]]


@dataclass(frozen=True, slots=True)
class Coverage:
    """How much of a training trace the network learns: ``kept`` of ``total`` transfers."""

    sample: str
    kept: int
    total: int


@dataclass(frozen=True, slots=True)
class Learnt:
    """A model and how it came to be."""

    model: Model
    epochs: list[Epoch]
    coverage: list[Coverage]


class Learner:
    """Two steps, so that a caller can show progress: read() every trace, then fit()."""

    def __init__(self, learn: Learn, config: TrainConfig, units: int, max_transfers: int | None) -> None:
        self._learn = learn
        self._config = config
        self._units = units
        self._max_transfers = max_transfers
        self._runs: list[RunEdges] = []
        self._windows: list[list[Transfers]] = []
        self.coverage: list[Coverage] = []

    def read(self, sample: str, open_path: OpenPath) -> Coverage:
        """Count a trace's transfers, all of them, and keep those that the network is to learn."""
        spread = Spread(self._max_transfers)
        with open_path() as path:
            run = edges_of(spread.watch(iter_transfers(path, self._learn)))
        windows = spread.windows()
        covered = Coverage(sample, sum(len(window) for window in windows), spread.total)
        if run.whole.transfers:
            self._runs.append(run)
            self._windows.append(windows)
        else:
            _log.warning("%s: holds no transfer that passes the filter", sample)
        self.coverage.append(covered)
        return covered

    @property
    def to_learn(self) -> int:
        """Transfers that fit() will learn, epochs included."""
        return self._config.epochs * sum(covered.kept for covered in self.coverage)

    def fit(self, threads: int, advance: Callable[[int], None]) -> Learnt:
        """Learn from all that was read.

        Raises:
            SetsError: nothing was read.
        """
        if not self._runs:
            raise SetsError("the training samples hold no transfer that passes the filter: learn more kinds")
        units, _ = units_of(self._runs)
        vocabulary = Vocabulary.fit(units)
        _log.info(
            "vocabulary: %s sites, %s targets, %s distinct transfers",
            *(f"{n:,}" for n in (len(vocabulary.site), len(vocabulary.target), len(vocabulary.edge_target))),
        )
        rates, scores = fit_novelty(vocabulary, self._runs)
        windows = []
        for of_run in self._windows:
            encoder = Encoder(vocabulary)
            windows += [encoder.encode(window) for window in of_run]
            of_run.clear()
        set_up(self._config.seed)
        network = new_network(vocabulary, self._units)
        count = lanes_for(sum(len(window) for window in windows), self._config.batch_size)
        none = len(vocabulary.target) + 1
        lanes = lay_lanes(windows, vocabulary.edge_rank, none, count, STEPS, self._config.seed)
        del windows
        epochs = train(network, lanes, vocabulary, self._config, threads, advance)
        document = new_document(
            network,
            vocabulary,
            learn=self._learn,
            train=self._config,
            samples=tuple(covered.sample for covered in self.coverage),
            max_transfers=self._max_transfers,
            calibration=Calibration("novelty", WINDOW, tuple(np.round(scores, 6).tolist())),
        )
        return Learnt(Model(document, network, vocabulary, rates), epochs, self.coverage)


def total_of(coverage: Sequence[Coverage]) -> tuple[int, int]:
    """Kept and all transfers of several traces."""
    return sum(covered.kept for covered in coverage), sum(covered.total for covered in coverage)
