"""A session that learns a network: choose samples, train, test, evaluate."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, TypeVar

from barnum.errors import ModelError, OptionsError, OutputError, OutputExistsError
from barnum.extras import require
from barnum.learning.given import check_given
from barnum.learning.mixture import learn_mixture, left_to_weigh, load_partner
from barnum.learning.network.checkpoint import CheckpointFolder
from barnum.learning.network.hooks import Hooks, InterruptedTrainingError, Keeping, never_stopped
from barnum.learning.network.processes import launched
from barnum.learning.session import Learned, Opener, Session, learnt_by
from barnum.learning.settings import NetworkSettings, VocabularyKind
from barnum.models.model import Model
from barnum.models.networks.kind import TrainedKind
from barnum.models.networks.kinds import NETWORKS
from barnum.models.networks.spec import Spec
from barnum.models.saved import load_model, save_document, save_weights
from barnum.models.train_config import TrainConfig
from barnum.paths import Learn
from barnum.paths.opened import Decoded
from barnum.progress import Listener
from barnum.samples import Sample, Sets, sets_content, write_sets
from barnum.samples.choice import Sizes
from barnum.sequences import Selection, Tokens

if TYPE_CHECKING:  # they import torch
    from barnum.learning.network.learner import Learner
    from barnum.learning.network.world import World

_log = logging.getLogger("barnum.lstm")

_TRAINING = (
    *("train_size", "epochs", "batch_size", "learning_rate", "learning_decay", "max_transfers", "fold_loops"),
    *("save_model", "save_weights", "mixed_precision", "compile", "status_interval", "dropout", "folds"),
)
_Settings = TypeVar("_Settings", bound=NetworkSettings)


@dataclass(frozen=True, slots=True)
class Alone:
    """One process that learns alone."""

    first: bool = True
    size: int = 1


class NetworkSession(Session[_Settings]):
    """One session. Of several processes (torchrun) all train, and the first does the rest."""

    written = ("save_model", "save_weights", "output_sets")

    def __init__(
        self,
        settings: _Settings,
        given: frozenset[str] = frozenset(),
        listener: Listener | None = None,
        stoppable: Callable[[], AbstractContextManager[Callable[[], bool]]] = never_stopped,
    ) -> None:
        """``stoppable``: see Hooks."""
        super().__init__(settings, given, listener)
        self._stoppable = stoppable
        self._opener: Opener

    def run(self) -> Learned:
        self._settings.check()
        nowhere = nullcontext("")  # nothing is decoded
        with (
            self._join() as world,
            nowhere if self._settings.preprocessed else TemporaryDirectory(prefix="barnum-") as decoded,
        ):
            self._opener = self._make_opener(Path(decoded))
            if not world.first:
                logger = logging.getLogger("barnum")
                logger.setLevel(max(logger.getEffectiveLevel(), logging.ERROR))
                self._listener = Listener()
            return self._phases(world)

    def _join(self) -> AbstractContextManager[World | Alone]:
        """The processes that learn together; torch is not needed where one is alone and trains nothing."""
        if not launched() and not self._needs_torch():
            return nullcontext(Alone())
        require("torch", "learning a network")
        from barnum.learning.network.world import World

        return World()

    def _needs_torch(self) -> bool:
        return self._settings.use_model is None

    def _make_opener(self, folder: Path) -> Opener:
        """What opens samples as paths; it may keep files in a folder."""
        settings = self._settings
        return Decoded(
            folder,
            preprocessed=settings.preprocessed,
            bin_dir=settings.bin_dir,
            timeout=settings.timeout,
        )

    def _phases(self, world: World | Alone) -> Learned:
        settings = self._settings
        self._learn()
        self._say_what_is_idle(self._skipped())
        if world.first:
            self._refuse_to_overwrite()
            self._check_places()
        model = self._load() if settings.use_model else None
        prob = None if settings.with_prob is None else self._partner(settings.with_prob, model)
        seen = frozenset() if prob is None else learnt_by(model, prob)
        learns = model is None or prob is not None
        sets = self._choose(model, learns, seen)
        chosen = self._open(sets, None if prob is not None else model, learns, seen)
        train, weighed = chosen.train, list[Sample]()
        if prob is not None:
            train, weighed = left_to_weigh(train, seen, str(settings.with_prob), model is not None)
        eval_dir = None
        if world.first:
            eval_dir = None if settings.skip_eval else self._eval_dir(chosen.judged)
            if settings.output_sets:
                self._write_sets(settings.output_sets, sets)
        if model is None:
            model = self._knowing(self._train(train, world), train)
            if world.first:
                self._save(model, world)
        if prob is not None and world.first:
            model = self._knowing(self._mix(model, prob, weighed), weighed, model, prob)
            self._save(model, world)
        held_out = None
        if world.first:
            with self._naming_weights():
                held_out = self._score(model, self._learn(), self._opener, chosen, eval_dir)
        return Learned(model, sets, eval_dir, held_out)

    # samples

    def _sizes(self, learns: bool) -> Sizes:
        settings = self._settings
        train = settings.train_size if learns else 0
        return Sizes(train, settings.test_size_benign, settings.test_size_malicious)

    def _usable(self, sample: Sample) -> bool:
        if self._settings.preprocessed and sample.parsed is None:
            _log.warning("skipped: %s: is not preprocessed", sample.folder)
            return False
        return True

    # files

    def _refuse_to_overwrite(self) -> None:
        settings = self._settings
        if settings.force:
            return
        checkpoints = self._checkpoints()
        if settings.resume and checkpoints is not None and checkpoints.exists():
            # a kill may have come between the last checkpoint and the last of the model's files
            return
        names = ["save_model", "save_weights"]
        if not settings.resume:
            # when one goes on, the same sets are written again
            names.append("output_sets")
        for name in names:
            for file in self._files(name):
                if file.exists():
                    raise OutputExistsError(f"{file}: is there already: give another name, or --force")
        if checkpoints is not None and not settings.resume and checkpoints.exists():
            raise OutputExistsError(
                f"{checkpoints.folder}: holds checkpoints of a training that did not end: go on with "
                "--resume, or give --force to forget them"
            )

    def _write_sets(self, file: Path, sets: Sets) -> None:
        """Going on, the sets that were written when it began are there; others are not overwritten."""
        if self._settings.resume and not self._settings.force and file.exists():
            content = sets_content(sets)
            if not file.is_file() or file.stat().st_size != len(content) or file.read_bytes() != content:
                raise OutputExistsError(f"{file}: is there already, with other sets: give another name")
            return
        write_sets(file, sets)

    def _files(self, name: str) -> list[Path]:
        """The files that a setting makes the session write."""
        settings = self._settings
        file: Path | None = getattr(settings, name)
        if file is None or (settings.use_model and name != "output_sets" and not settings.with_prob):
            return []
        single = settings.multi_gpu and name != "output_sets"
        return [file, _single(file)] if single else [file]

    def _checkpoints(self) -> CheckpointFolder | None:
        """Where checkpoints are kept; None where nothing is."""
        file = self._settings.save_weights
        return None if file is None else CheckpointFolder(file.with_name(f"{file.name}.checkpoints"))

    def _save(self, model: Model, world: World | Alone) -> None:
        settings, document = self._settings, model.document
        single = world.size > 1
        if settings.save_weights:
            _write(settings.save_weights, lambda file: save_weights(file, model), single)
        if settings.save_model and document is not None:
            _write(settings.save_model, lambda file: save_document(file, document), single)
        checkpoints = self._checkpoints()
        if checkpoints is not None:
            checkpoints.clear()

    @contextmanager
    def _naming_weights(self) -> Iterator[None]:
        """Errors of a model that was read name its file."""
        try:
            yield
        except ModelError as error:
            file = self._settings.use_weights
            if not file:
                raise
            raise ModelError(f"{file}: {error}") from None

    # the model to begin with

    def _load(self) -> Model:
        settings = self._settings
        if settings.use_model is None or settings.use_weights is None:
            raise OptionsError("--use-model and --use-weights go together")
        model = load_model(settings.use_model, settings.use_weights)
        check_given(model, settings, self._given, self._learn())
        return model

    # what has no effect

    def _skipped(self) -> list[tuple[str, str]]:
        """Settings of phases that are left out."""
        settings = self._settings
        idle = []
        if settings.use_model:
            needed = ("train_size", "save_model", "save_weights") if settings.with_prob else ()
            idle = [(name, "--use-model skips training") for name in _TRAINING if name not in needed]
        return idle + self._idle_without_evaluation()

    def _idle(self, kind: TrainedKind) -> list[str]:
        """Settings of the original that another network, or today's way, has no use for."""
        idle = list(kind.idle)
        if self._vocabulary(kind) == "learnt":
            idle += ["max_classes", "embedding_input_dimension"]
        return idle

    def _homes(self, kind: TrainedKind) -> list[tuple[str, str]]:
        """The same, each with what it belongs to."""
        homes = []
        for name in self._idle(kind):
            homes.append((name, f"it belongs to {_home(name)}"))
        return homes

    # training

    def _learn(self) -> Learn:
        return self._settings.learn()

    def _kind(self) -> TrainedKind:
        if self._settings.network not in NETWORKS:
            raise OptionsError(
                f"--network {self._settings.network} is unknown here: use {', '.join(NETWORKS.names)}"
            )
        kind = NETWORKS[self._settings.network]
        if not isinstance(kind, TrainedKind):
            raise OptionsError(f"--network {self._settings.network} is not learnt by training")
        return kind

    def _vocabulary(self, kind: TrainedKind) -> VocabularyKind:
        return self._settings.vocabulary or kind.defaults.vocabulary

    def _tokens(self) -> Tokens:
        return Tokens(
            vocabulary=self._vocabulary(self._kind()),
            inputs=self._settings.embedding_input_dimension,
            classes=self._settings.max_classes,
        )

    def _spec(self) -> Spec:
        settings, kind = self._settings, self._kind()
        self._say_what_is_idle(self._homes(kind))
        if settings.use_cudnn and "use_cudnn" not in kind.idle:
            import torch

            where = "cuDNN computes them" if torch.cuda.is_available() else "torch's own kernels compute them"
            _log.info("--use-cudnn: LSTMs have the full sigmoid; %s", where)
        return Spec(
            network=settings.network,
            learn=self._learn(),
            tokens=self._tokens(),
            selection=Selection(max_transfers=settings.max_transfers, fold_loops=settings.fold_loops),
            train=TrainConfig(
                epochs=settings.epochs or kind.defaults.epochs,
                batch_size=settings.batch_size,
                learning_rate=settings.learning_rate or kind.defaults.learning_rate,
                learning_decay=settings.learning_decay,
                seed=settings.seed,
                mixed_precision=settings.mixed_precision and "mixed_precision" not in kind.idle,
                compile=settings.compile and "compile" not in kind.idle,
            ),
            units=settings.units,
            sequence_len=settings.sequence_len,
            embedding=settings.embedding_output_dimension,
            dropout=settings.dropout,
            cudnn=settings.use_cudnn,
        )

    def _train(self, samples: list[Sample], world: World | Alone) -> Model:
        from barnum.learning.network.learner import Learner, total_of

        settings = self._settings
        spec = self._spec()
        learner = Learner(spec) if isinstance(world, Alone) else Learner(spec, world)
        opened = [(sample.folder.name, self._opener.opener(sample)) for sample in samples]
        threads = max(1, self._threads // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
        with self._listener.progress("read", len(samples)) as advance:
            learner.read(opened, threads, settings.queue_size, advance)
        self._say_what_is_learnt(samples, learner)
        keeping = self._keeping(world)
        hooks = Hooks(
            bar=self._listener.progress,
            stoppable=self._stoppable,
            status_minutes=settings.status_interval,
        )
        try:
            model, epochs = learner.fit(threads, hooks, keeping)
        except InterruptedTrainingError:
            if world.first and keeping is not None:
                where = keeping.folder.folder
                self._listener.note(f"training stopped, with a checkpoint in {where}: go on with --resume")
            raise KeyboardInterrupt from None
        if epochs:
            kept, total = total_of(learner.coverage)
            cap = f", capped at {settings.max_transfers:,} a trace" if settings.max_transfers else ""
            last = epochs[-1]
            self._listener.say(
                f"training: {len(samples)} samples, {total:,} transfers, of which the network learnt "
                f"{kept:,} ({100 * kept / total:.1f} %{cap}) {last.number} times; loss {last.loss:.4f} nats, "
                f"accuracy {last.accuracy:.4f}, {last.transfers / max(last.seconds, 1e-9):,.0f} transfers/s"
            )
        return model

    def _say_what_is_learnt(self, samples: Sequence[Sample], learner: Learner) -> None:
        for sample, covered in zip(samples, learner.coverage, strict=True):
            if covered.kept < covered.total:
                folded = f", {covered.folded:,} with loops folded" if self._settings.fold_loops else ""
                _log.info(
                    "%s: the network learns %s of %s transfers (%.1f %%%s)",
                    sample.name,
                    f"{covered.kept:,}",
                    f"{covered.total:,}",
                    100 * covered.kept / covered.total,
                    folded,
                )

    def _keeping(self, world: World | Alone) -> Keeping | None:
        """Where checkpoints are kept and when, if weights are saved."""
        settings, folder = self._settings, self._checkpoints()
        if folder is None:
            return None
        if settings.force and not settings.resume and world.first:
            folder.clear()
        if settings.resume and not folder.exists():
            _log.info("--resume: no checkpoint is there: training begins anew")
        return Keeping(
            folder=folder,
            minutes=settings.checkpoint,
            best=settings.checkpoint_best,
            early_stop=settings.checkpoint_early_stop,
            resume=settings.resume,
        )

    # beside a rote learner

    def _partner(self, file: Path, model: Model | None) -> Model:
        """The rote learner's model; whether it can be mixed is known before anything is learnt."""
        network, tokens, learn = self._settings.network, self._tokens(), self._learn()
        if model is not None:
            network = "paper" if model.document is None else model.document.network
            tokens = model.tokens
            if model.document is not None:
                learn = model.document.learn
            if model.mixture is not None:
                raise ModelError(
                    f"{self._settings.use_model}: has a rote learner beside its network already: leave out "
                    "--with-prob"
                )
        if network != "causal":
            raise OptionsError("--with-prob goes with --network causal: the original's is not mixed")
        return load_partner(file, learn, tokens)

    def _mix(self, model: Model, prob: Model, samples: list[Sample]) -> Model:
        opened = [(sample.folder.name, self._opener.opener(sample)) for sample in samples]
        with self._naming_weights(), self._listener.progress("mix", 2 * len(samples)) as advance:
            mixed, weighing = learn_mixture(model, prob, opened, self._threads, advance)
        count = weighing.transfers
        network, rote, both = (nats / count for nats in (*weighing.nats, weighing.mixed_nats()))
        self._listener.say(
            f"mixture: weights learnt on {len(samples)} samples, {count:,} transfers: loss {both:.4f} nats "
            f"there, of the network alone {network:.4f}, of the rote learner alone {rote:.4f}"
        )
        return mixed


def _home(name: str) -> str:
    """What a setting belongs to that the network at hand has no use for."""
    if name in ("max_classes", "embedding_input_dimension"):
        return "--vocabulary modulo"
    kinds = ((other, NETWORKS[other]) for other in NETWORKS.names)
    homes = [other for other, kind in kinds if isinstance(kind, TrainedKind) and name not in kind.idle]
    return f"--network {' or '.join(homes)}" if homes else "another network"


def _single(file: Path) -> Path:
    return file.with_name(f"{file.name}.single")


def _write(file: Path, write: Callable[[Path], None], single: bool) -> None:
    """Write a file, and the copy that the original wrote beside it after training with several GPUs."""
    try:
        write(file)
        if single:
            beside = file.with_name(f".{file.name}.single.{os.getpid()}")
            shutil.copyfile(file, beside)
            beside.replace(_single(file))
    except OSError as error:
        raise OutputError(f"{file}: cannot be written ({error.strerror or error})") from None
