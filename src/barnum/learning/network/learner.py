"""Learns a model from the paths of nominal runs, by a network."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from barnum.errors import ModelError, SetsError
from barnum.evaluations import Calibration
from barnum.learning.network.checkpoint import split_optimiser
from barnum.learning.network.hooks import Coverage, Hooks, Keeping
from barnum.learning.network.trained import TrainedNetwork
from barnum.learning.network.trainer import Checkpoints, Trainer
from barnum.learning.network.world import World
from barnum.models.model import Model, ModelDocument, document_of
from barnum.models.networks.kind import BlockCounts, TrainedKind, Training
from barnum.models.networks.kinds import NETWORKS
from barnum.models.networks.spec import Spec
from barnum.models.networks.task import Task
from barnum.models.saved import model_of
from barnum.models.threads import set_up
from barnum.models.train_config import Epoch, Progress
from barnum.paths import Chunk, OpenPath, PathReader, iter_transfers
from barnum.sequences import (
    WHOLE,
    WINDOW,
    EdgeCounter,
    Picker,
    RunEdges,
    Selection,
    Vocabulary,
    fit_novelty,
    units_of,
)

_log = logging.getLogger(__name__)

_In = TypeVar("_In")
_Out = TypeVar("_Out")


@dataclass(slots=True)
class _Run:
    """What one reading of a training trace brings."""

    sample: str
    whole: RunEdges
    named: RunEdges | None
    blocks: BlockCounts | None
    folded: int


@dataclass(slots=True)
class Learner:
    """Two steps: read() every trace, then fit()."""

    spec: Spec
    world: World = field(default_factory=World)
    coverage: list[Coverage] = field(default_factory=list)
    _runs: list[_Run] = field(default_factory=list)
    _open: list[OpenPath] = field(default_factory=list)

    @property
    def kind(self) -> TrainedKind:
        """The kind of network that is learnt."""
        kind = NETWORKS[self.spec.network]
        if not isinstance(kind, TrainedKind):
            raise ModelError(f"a network of kind {self.spec.network} is not learnt by training")
        return kind

    def read(
        self,
        samples: Sequence[tuple[str, OpenPath]],
        threads: int,
        ahead: int,
        advance: Callable[[int], None],
    ) -> None:
        """Count the transfers of all traces, several at once, ``ahead`` of them before their turn.

        Raises:
            InputError: a trace cannot be read.
            SetsError: they hold no transfer that passes the filter.
        """
        for run, (sample, opened) in zip(
            _in_order(self._count, samples, threads, ahead), samples, strict=True
        ):
            total = run.whole.whole.transfers
            if total:
                self._runs.append(run)
                self._open.append(opened)
            else:
                _log.warning("%s: holds no transfer that passes the filter", sample)
            windows = self.spec.selection.windows(run.folded)
            kept = int((windows[:, 1] - windows[:, 0]).sum())
            self.coverage.append(Coverage(sample, kept, run.folded, total))
            advance(1)
        if not self._runs:
            raise SetsError("the training samples hold no transfer that passes the filter: learn more kinds")

    def _count(self, job: tuple[str, OpenPath]) -> _Run:
        sample, opened = job
        spec, kind = self.spec, self.kind
        own = kind.own_vocabulary(spec.tokens)
        whole, named = EdgeCounter(WHOLE), EdgeCounter(spec.tokens) if own else None
        folding = Picker(Selection(fold_loops=spec.selection.fold_loops), 0)
        folded = 0
        with opened() as path:
            counting = _Counting(path) if kind.counts_blocks else None
            for part in iter_transfers(counting or path, spec.learn):
                whole.add(part)
                if named is not None:
                    named.add(part)
                folded += folding.folded(part)
            blocks = None if counting is None else (spec.tokens.sources(path.blocks), counting.count())
        return _Run(sample, whole.done(), None if named is None else named.done(), blocks, folded)

    def fit(self, threads: int, hooks: Hooks, keeping: Keeping | None = None) -> tuple[Model, list[Epoch]]:
        """Learn from all that was read.

        Raises:
            ModelError: the checkpoint to resume from is of another training.
            InterruptedTrainingError: after a checkpoint was saved, where there is a place for them.
        """
        spec = self.spec
        units, *_ = units_of([run.whole for run in self._runs])
        vocabulary = Vocabulary.fit(units)
        names = vocabulary
        if self._runs[0].named is not None:
            names = Vocabulary.fit(units_of([run.named for run in self._runs if run.named is not None])[0])
        if self.world.first:
            _log.info(
                "vocabulary: %s sites, %s targets, %s distinct transfers",
                *(f"{n:,}" for n in (len(names.site), len(names.target), len(names.edge_target))),
            )
        rates, scores = fit_novelty(vocabulary, [run.whole for run in self._runs])
        set_up(spec.train.seed)
        totals = [covered.folded for covered in self.coverage if covered.total]
        task, extra = self.kind.task(
            spec,
            Training(
                vocabulary=vocabulary,
                names=names,
                blocks=[run.blocks for run in self._runs if run.blocks is not None],
                runs=list(zip(self._open, totals, strict=True)),
                threads=threads,
                bar=hooks.bar,
            ),
        )
        self._runs.clear()
        network = TrainedNetwork(task.network)
        model = Model(
            network=network,
            tokens=spec.tokens,
            vocabulary=vocabulary,
            names=names,
            rates=rates,
            extra=extra,
        )
        document = document_of(
            network,
            name=spec.network,
            tokens=spec.tokens,
            learn=spec.learn,
            train=spec.train,
            selection=spec.selection,
            samples=tuple(run.sample for run in self.coverage),
            calibration=Calibration("novelty", WINDOW, tuple(np.round(scores, 6).tolist())),
        )
        epochs = self._train(network, model, document, task, threads, hooks, keeping)
        return replace(model, network=network.weights()).documented(document), epochs

    def _train(
        self,
        network: TrainedNetwork,
        model: Model,
        document: ModelDocument,
        task: Task,
        threads: int,
        hooks: Hooks,
        keeping: Keeping | None,
    ) -> list[Epoch]:
        task.to(self.world.device)
        checkpoints = resumed = None
        if keeping is not None:
            folder = keeping.folder

            def save(progress: Progress, optimiser: dict[str, torch.Tensor], best: bool) -> None:
                state = {name: tensor.detach().cpu().numpy() for name, tensor in optimiser.items()}
                folder.save(model, document, progress, state, best)

            def restore() -> None:
                kept = folder.latest(best=True)
                if kept is not None:
                    _load(folder.folder, network, model, document, split_optimiser(kept[1])[0])

            checkpoints = Checkpoints(
                minutes=keeping.minutes,
                best=keeping.best,
                early_stop=keeping.early_stop,
                save=save,
                restore=restore,
            )
            resumed = folder.latest() if keeping.resume else None
            self.world.wait()
        total = self.spec.train.epochs * task.transfers
        with hooks.bar("train", total) as advance, hooks.stoppable() as interrupted:
            trainer = Trainer(
                task,
                self.spec.train,
                threads=threads,
                world=self.world,
                checkpoints=checkpoints,
                advance=advance,
                interrupted=interrupted,
                status_minutes=hooks.status_minutes,
            )
            if resumed is not None and keeping is not None:
                self._go_on(trainer, network, model, document, resumed, keeping)
                progress = trainer.progress
                advance((progress.epoch - 1) * task.transfers + progress.count)
            if keeping is not None and self.world.first:
                keeping.folder.drop_after(trainer.progress.steps if resumed is not None else -1)
            return trainer.train()

    def _go_on(
        self,
        trainer: Trainer,
        network: TrainedNetwork,
        model: Model,
        document: ModelDocument,
        resumed: tuple[ModelDocument, dict[str, NDArray[Any]]],
        keeping: Keeping,
    ) -> None:
        saved, (arrays, optimiser) = resumed[0], split_optimiser(resumed[1])
        for name in ("network", "config", "tokens", "learn", "train", "selection", "samples"):
            if getattr(saved, name) != getattr(document, name):
                raise ModelError(
                    f"{keeping.folder.folder}: is of another training ({name} differs): give the same "
                    "options and samples, or --force to begin anew"
                )
        progress = saved.progress
        assert progress is not None
        if progress.processes != self.world.size:
            raise ModelError(
                f"{keeping.folder.folder}: was made by {progress.processes} processes, now there are "
                f"{self.world.size}: start as many, or give --force to begin anew"
            )
        _load(keeping.folder.folder, network, model, document, arrays)
        trainer.resume(progress, {name: torch.from_numpy(array) for name, array in optimiser.items()})
        if self.world.first:
            _log.info("resumed: epoch %d, step %d", progress.epoch, progress.step)


def _load(
    folder: Path,
    network: TrainedNetwork,
    model: Model,
    document: ModelDocument,
    arrays: dict[str, NDArray[Any]],
) -> None:
    """Put a checkpoint's numbers in a network that is being trained; everything else must be as it is."""
    present = model.arrays()
    for name in sorted(present.keys() | arrays.keys()):
        same = name.startswith("network.") or np.array_equal(present.get(name, ()), arrays.get(name, ()))
        if not same:
            raise ModelError(
                f"{folder}: is of another training ({name} differs): give the same options and samples, or "
                "--force to begin anew"
            )
    network.load(model_of(folder, document, arrays).network.arrays())


class _Counting:
    """Passes the steps of a path on and counts its blocks."""

    def __init__(self, path: PathReader) -> None:
        self._path = path
        self._count: NDArray[np.int64] = np.zeros(0, np.int64)

    @property
    def blocks(self) -> Any:
        return self._path.blocks

    def chunks(self, rows: int = 1 << 20) -> Iterator[Chunk]:
        for chunk in self._path.chunks(rows):
            count = np.bincount(chunk.block, minlength=len(self._count))
            count[: len(self._count)] += self._count
            self._count = count
            yield chunk

    def count(self) -> NDArray[np.int64]:
        """i64[k]: how often each block of the table was executed."""
        count = np.zeros(len(self.blocks), np.int64)
        count[: len(self._count)] = self._count
        return count


def _in_order(
    function: Callable[[_In], _Out], items: Iterable[_In], threads: int, ahead: int
) -> Iterator[_Out]:
    """Results in the order of the items, computed by threads, at most ``ahead`` before their turn."""
    waiting: deque[Future[_Out]] = deque()
    with ThreadPoolExecutor(max(1, threads)) as workers:
        try:
            for item in items:
                waiting.append(workers.submit(function, item))
                while len(waiting) >= max(1, ahead):
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def total_of(coverage: Sequence[Coverage]) -> tuple[int, int]:
    """Kept and all transfers of several traces."""
    return sum(covered.kept for covered in coverage), sum(covered.total for covered in coverage)
