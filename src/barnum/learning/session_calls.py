"""The phases of ``barnum syscall``: those of ``barnum lstm``, on calls instead of blocks."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Literal

import click

from barnum.calls.opened import Reported
from barnum.calls.path import LEARN
from barnum.cli.common import progress
from barnum.errors import SampleError
from barnum.files import is_text
from barnum.learning.network.spec import OpenPath
from barnum.learning.network.world import World
from barnum.learning.rote.folds import calibrated_by, judge_in_folds
from barnum.learning.rote.learner import RoteLearner, RoteSpec
from barnum.learning.session_network import LstmRun
from barnum.models.model import Model
from barnum.models.networks.rote import lengths_up_to
from barnum.paths import Learn
from barnum.samples import Sample, find_samples, open_samples
from barnum.sequences import Tokens

_log = logging.getLogger("barnum.syscall")


# options that only networks have a use for
_OF_NETWORKS = (
    *("units", "embedding_input_dimension", "embedding_output_dimension", "dropout", "use_cudnn", "epochs"),
    *("batch_size", "learning_rate", "learning_decay", "mixed_precision", "compile", "queue_size"),
    "status_interval",
)


class SyscallRun(LstmRun):
    """One call of the command."""

    def _openers(self, folder: Path) -> Reported:
        return Reported(self._options, folder)

    def _found(self) -> list[Sample]:
        return find_samples(self._root, reports=True)

    def _found_in(self, folders: list[Path]) -> list[Sample]:
        return open_samples(folders, reports=True)

    def _usable(self, sample: Sample) -> bool:
        """Whether the report holds calls; it is read for that, once."""
        if sample.report is None:
            _log.warning("skipped: %s: has no report of a sandbox", sample.folder)
            return False
        if not is_text(sample.folder.name):
            _log.warning(
                "skipped: %s: its name is no UTF-8, so no file can tell of it: rename it", sample.folder
            )
            return False
        try:
            with self._decoded.opener(sample)():
                return True
        except SampleError as error:
            _log.warning("skipped: %s", error)
            return False

    def _learn(self) -> Learn:
        return LEARN

    def _vocabulary(self, network: str) -> Literal["learnt", "modulo"]:
        return "modulo" if self._options["vocabulary"] == "modulo" else "learnt"

    def _idle(self, network: str) -> list[str]:
        """With --no-overlap the length of windows counts for any network."""
        idle = super()._idle(network)
        return [name for name in idle if name != "sequence_len"] if self._options["no_overlap"] else idle

    def _train(self, samples: list[Sample], world: World) -> Model:
        options = self._options
        if options["network"] != "rote":
            if options["folds"]:
                _log.warning("--folds has no effect: it belongs to --network rote")
            return super()._train(samples, world)
        for name in _OF_NETWORKS:
            if name in self._given:
                _log.warning("--%s has no effect: --network rote has none", name.replace("_", "-"))
        classes = options["max_classes"]
        tokens = Tokens(vocabulary=self._vocabulary("rote"), inputs=classes, classes=classes)
        lengths = lengths_up_to(options["sequence_len"])
        spec = RoteSpec(learn=LEARN, tokens=tokens, lengths=lengths)
        opened = [(sample.folder.name, self._decoded.opener(sample)) for sample in samples]
        learner = RoteLearner(spec, self._threads)
        began = time.perf_counter()
        with progress("learn", len(samples)) as bar:
            for _ in learner.learn_all(opened):
                bar.advance()
        seconds = max(time.perf_counter() - began, 1e-9)
        model = learner.model()
        click.echo(
            f"training: {len(samples)} samples, {learner.transfers:,} calls, "
            f"{learner.transfers / seconds:,.0f} calls/s; {learner.contexts:,} contexts in "
            f"{learner.bytes / (1 << 20):,.1f} MiB"
        )
        if options["folds"]:
            model = self._in_folds(model, spec, opened)
        return model

    def _in_folds(self, model: Model, spec: RoteSpec, opened: list[tuple[str, OpenPath]]) -> Model:
        folds = min(self._options["folds"], len(opened))
        with progress("folds", folds * len(opened)) as bar:
            runs = judge_in_folds(spec, opened, folds, self._threads, bar.advance)
        calls = sum(run.transfers for run in runs)
        loss = sum(run.surprisal * run.transfers for run in runs) / calls
        click.echo(
            f"folds: {len(runs)} samples judged by {folds} learners of the others: loss {loss:.4f} nats"
        )
        return calibrated_by(model, runs)
