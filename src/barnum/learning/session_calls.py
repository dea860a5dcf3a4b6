"""A session that learns calls, from reports of sandboxes: by rote, or by a network."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from barnum.calls.opened import Reported
from barnum.calls.path import LEARN
from barnum.calls.readers import report_names
from barnum.errors import SampleError
from barnum.learning.rote.folds import calibrated_by, judge_in_folds
from barnum.learning.rote.learner import RoteLearner, RoteSpec
from barnum.learning.session import Opener
from barnum.learning.session_network import Alone, NetworkSession
from barnum.learning.session_rote import learn_by_rote
from barnum.learning.settings import CallSettings, VocabularyKind
from barnum.models.model import Model
from barnum.models.networks.kind import TrainedKind
from barnum.models.networks.rote import lengths_up_to
from barnum.paths import Learn, OpenPath
from barnum.samples import Sample, find_samples, open_samples
from barnum.sequences import Tokens
from barnum.texts import is_storable

if TYPE_CHECKING:  # it imports torch
    from barnum.learning.network.world import World

_log = logging.getLogger("barnum.syscall")

# settings that only networks have a use for
_OF_NETWORKS = (
    *("units", "embedding_input_dimension", "embedding_output_dimension", "dropout", "use_cudnn", "epochs"),
    *("batch_size", "learning_rate", "learning_decay", "mixed_precision", "compile", "queue_size"),
    "status_interval",
)


class CallSession(NetworkSession[CallSettings]):
    """One session. A model of any network is chosen, saved and judged by as in one that learns transfers."""

    _of_calls = True

    def _make_opener(self, folder: Path) -> Opener:
        settings = self._settings
        return Reported(
            folder,
            process=settings.process,
            by_thread=settings.by_thread,
            children=settings.children,
            apart=settings.sequence_len if settings.no_overlap else None,
        )

    def _calls(self, opener: Opener) -> dict[int, str] | None:
        return opener.names if isinstance(opener, Reported) else None

    # samples

    def _found(self) -> list[Sample]:
        return find_samples(self._settings.root, reports=report_names())

    def _found_in(self, folders: list[Path]) -> list[Sample]:
        return open_samples(folders, reports=report_names())

    def _usable(self, sample: Sample) -> bool:
        """Whether the report holds calls; it is read for that, once."""
        if sample.report is None:
            _log.warning("skipped: %s: has no report of a sandbox", sample.folder)
            return False
        if not is_storable(sample.folder.name):
            _log.warning(
                "skipped: %s: its name is no UTF-8, so no file can tell of it: rename it", sample.folder
            )
            return False
        try:
            with self._opener.opener(sample)():
                return True
        except SampleError as error:
            _log.warning("skipped: %s", error)
            return False

    # what is learnt

    @property
    def _by_rote(self) -> bool:
        return self._settings.network == "rote"

    def _needs_torch(self) -> bool:
        return super()._needs_torch() and not self._by_rote

    def _learn(self) -> Learn:
        return LEARN

    def _vocabulary(self, kind: TrainedKind) -> VocabularyKind:
        return self._settings.vocabulary or "learnt"

    def _idle(self, kind: TrainedKind) -> list[str]:
        """With --no-overlap the length of windows counts for any network."""
        idle = super()._idle(kind)
        return [name for name in idle if name != "sequence_len"] if self._settings.no_overlap else idle

    def _train(self, samples: list[Sample], world: World | Alone) -> Model:
        settings = self._settings
        if not self._by_rote:
            self._say_what_is_idle([("folds", "it belongs to --network rote")])
            return super()._train(samples, world)
        self._say_what_is_idle([(name, "--network rote has none") for name in _OF_NETWORKS])
        classes = settings.max_classes
        tokens = Tokens(vocabulary=settings.vocabulary or "learnt", inputs=classes, classes=classes)
        spec = RoteSpec(learn=LEARN, tokens=tokens, lengths=lengths_up_to(settings.sequence_len))
        opened = [(sample.folder.name, self._opener.opener(sample)) for sample in samples]
        learner = RoteLearner(spec, self._threads)
        learn_by_rote(learner, opened, "calls", self._listener)
        model = learner.model()
        return self._in_folds(model, spec, opened) if settings.folds else model

    def _in_folds(self, model: Model, spec: RoteSpec, opened: list[tuple[str, OpenPath]]) -> Model:
        folds = min(self._settings.folds or 0, len(opened))
        with self._listener.progress("folds", folds * len(opened)) as advance:
            runs = judge_in_folds(spec, opened, folds, self._threads, lambda: advance(1))
        calls = sum(run.transfers for run in runs)
        loss = sum(run.surprisal * run.transfers for run in runs) / calls
        self._listener.say(
            f"folds: {len(runs)} samples judged by {folds} learners of the others: loss {loss:.4f} nats"
        )
        return calibrated_by(model, runs)
