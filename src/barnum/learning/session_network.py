"""The phases of ``barnum lstm``: choose samples, train, test, evaluate."""

from __future__ import annotations

import logging
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import click

from barnum.calls.opened import Reported
from barnum.cli.common import ended_like_an_interrupt, progress
from barnum.errors import (
    ModelError,
    OutputError,
    OutputExistsError,
    SetsError,
)
from barnum.learning.mixture import check_partner, learn_mixture
from barnum.learning.network.checkpoint import CheckpointFolder
from barnum.learning.network.learner import Learner, total_of
from barnum.learning.network.spec import Hooks, Keeping, Spec
from barnum.learning.network.trainer import InterruptedTrainingError
from barnum.learning.network.world import World
from barnum.learning.session import Phases
from barnum.models.model import Model
from barnum.models.saved import load_model, load_whole, save_document, save_weights
from barnum.models.train_config import TrainConfig
from barnum.paths import Learn
from barnum.paths.opened import Decoded
from barnum.samples import Sample, Sets, sets_content, write_sets
from barnum.sequences import Selection, Tokens

_log = logging.getLogger("barnum.lstm")

# what each network is trained with where nothing is said
_EPOCHS = {"causal": 2, "paper": 16}
_RATES = {"causal": 0.003, "paper": 0.001}
_VOCABULARIES = {"causal": "learnt", "paper": "modulo"}
_TRAINING = (
    *("train_size", "epochs", "batch_size", "learning_rate", "learning_decay", "max_transfers", "fold_loops"),
    *("save_model", "save_weights", "mixed_precision", "compile", "status_interval", "dropout", "folds"),
)
# option → what the configuration of a network calls it
_SIZES = {
    "units": "units",
    "sequence_len": "sequence_len",
    "embedding_output_dimension": "embedding",
    "use_cudnn": "cudnn",
}
# samples that weights of a mixture are learnt on at most, where the network is still to be learnt
_MOST_WEIGHED = 8
_LEARN = ("disable_ret", "disable_icall", "disable_ijmp", "learn_call", "learn_jmp")


class LstmRun(Phases):
    """One call of the command."""

    written = ("save_model", "save_weights", "output_sets")

    def all(self) -> None:
        """The three phases. Of several processes all train, and the first does the rest."""
        nowhere = nullcontext("")  # with -p nothing is decoded
        with (
            ended_like_an_interrupt(),
            World() as world,
            nowhere if self._options["preprocessed"] else TemporaryDirectory(prefix="barnum-") as decoded,
        ):
            self._decoded = self._openers(Path(decoded))
            if not world.first:
                logging.getLogger("barnum").setLevel(max(self._options["logging_level"], logging.ERROR))
            self._phases(world)

    def _openers(self, folder: Path) -> Decoded | Reported:
        """What opens samples as paths; it may keep files in a folder."""
        return Decoded(self._options, folder)

    def _phases(self, world: World) -> None:
        options = self._options
        self._learn()
        self._say_what_is_skipped()
        if world.first:
            self._refuse_to_overwrite()
            self._check_places()
        model = self._load() if options["use_model"] else None
        prob = self._partner(model) if self._mixes else None
        seen = _learnt_by(model, prob) if prob is not None else frozenset()
        learns = model is None or prob is not None
        sets = self._sets(model, learns, seen)
        train, b_test, m_test = (self._open(folders) for folders in (sets.b_train, sets.b_test, sets.m_test))
        self._check(train, b_test, m_test, None if prob is not None else model, learns, seen)
        train, weighed = self._left_to_weigh(train, model, seen) if prob is not None else (train, [])
        eval_dir = None
        if world.first:
            eval_dir = None if options["skip_eval"] else self._eval_dir(b_test + m_test)
            if options["output_sets"]:
                self._write_sets(options["output_sets"], sets)
        if model is None:
            model = self._train(train, world)
            if world.first:
                self._save(model, world)
        if prob is not None and world.first:
            model = self._mix(model, prob, weighed)
            self._save(model, world)
        if world.first and (not options["skip_test"] or eval_dir is not None):
            self._score(model, b_test, [] if eval_dir is None else m_test, eval_dir)

    # files

    def _refuse_to_overwrite(self) -> None:
        options = self._options
        if options["force"]:
            return
        if options["resume"] and self._checkpoints().exists():
            # a kill may have come between the last checkpoint and the last of the model's files
            return
        names = ["save_model", "save_weights"]
        if not options["resume"]:
            # when one goes on, the same sets are written again
            names.append("output_sets")
        for name in names:
            for file in self._written(name):
                if file.exists():
                    raise OutputExistsError(f"{file}: is there already: give another name, or --force")
        if options["save_weights"] and not options["resume"] and self._checkpoints().exists():
            raise OutputExistsError(
                f"{self._checkpoints().folder}: holds checkpoints of a training that did not end: go on with "
                "--resume, or give --force to forget them"
            )

    def _write_sets(self, file: Path, sets: Sets) -> None:
        """Going on, the sets that were written when it began are there; others are not overwritten."""
        if self._options["resume"] and not self._options["force"] and file.exists():
            content = sets_content(sets)
            if not file.is_file() or file.stat().st_size != len(content) or file.read_bytes() != content:
                raise OutputExistsError(f"{file}: is there already, with other sets: give another name")
            return
        write_sets(file, sets)

    def _say_what_is_skipped(self) -> None:
        """Options of a phase that is left out."""
        options = self._options
        idle = []
        if options["use_model"]:
            needed = ("train_size", "save_model", "save_weights") if self._mixes else ()
            idle = [(name, "--use-model skips training") for name in _TRAINING if name not in needed]
        if options["skip_eval"]:
            idle += [(name, "--skip-eval skips the evaluation") for name in ("eval_dir", "eval_format")]
        for name, why in idle:
            if name in self._given:
                _log.warning("--%s has no effect: %s", name.replace("_", "-"), why)

    def _written(self, name: str) -> list[Path]:
        file: Path | None = self._options[name]
        if file is None or (self._options["use_model"] and name != "output_sets" and not self._mixes):
            return []
        single = self._options["multi_gpu"] and name != "output_sets"
        return [file, _single(file)] if single else [file]

    def _checkpoints(self) -> CheckpointFolder:
        file: Path = self._options["save_weights"]
        return CheckpointFolder(file.with_name(f"{file.name}.checkpoints"))

    def _load(self) -> Model:
        options = self._options
        model = load_model(options["use_model"], options["use_weights"])
        if model.document is None:
            network: Any = model.network
            has: dict[str, Any] = {
                "network": "paper",
                "vocabulary": "modulo",
                "sequence_len": network.sequence_len,
                "max_classes": network.classes,
                "embedding_input_dimension": network.inputs,
            }
        else:
            document = model.document
            has = {"network": document.network, "vocabulary": document.tokens.vocabulary}
            has |= {
                option: document.config[name] for option, name in _SIZES.items() if name in document.config
            }
            if document.tokens.vocabulary == "modulo":
                has |= {
                    "max_classes": document.tokens.classes,
                    "embedding_input_dimension": document.tokens.inputs,
                }
            if self._given & set(_LEARN) and self._learn() != document.learn:
                raise ModelError(
                    f"{options['use_model']}: has learnt {_named(document.learn)}, the options "
                    f"ask for {_named(self._learn())}: leave them out"
                )
        for name, value in has.items():
            if name in self._given and options[name] != value:
                raise ModelError(
                    f"{options['use_model']}: its {name.replace('_', '-')} is {value}, the options ask for "
                    f"{options[name]}: leave them out"
                )
        return model

    def _learn(self) -> Learn:
        options = self._options
        learn = Learn(
            ret=not options["disable_ret"],
            icall=not options["disable_icall"],
            ijmp=not options["disable_ijmp"],
            call=options["learn_call"],
            jmp=options["learn_jmp"],
        )
        if not learn.kinds():
            raise click.UsageError("nothing is left to learn: disable fewer kinds of transfers")
        return learn

    def _save(self, model: Model, world: World) -> None:
        options = self._options
        single = world.size > 1
        if options["save_weights"]:
            _made_whole(options["save_weights"], lambda file: save_weights(file, model), single)
        if options["save_model"]:
            document = model.document
            assert document is not None
            _made_whole(options["save_model"], lambda file: save_document(file, document), single)
        if options["save_weights"]:
            self._checkpoints().clear()

    def _score(self, model: Model, b_test: list[Sample], m_test: list[Sample], eval_dir: Path | None) -> None:
        with self._naming_weights():
            super()._score(model, b_test, m_test, eval_dir)

    @contextmanager
    def _naming_weights(self) -> Iterator[None]:
        """Errors of a model that was read name its file."""
        try:
            yield
        except ModelError as error:
            file = self._options.get("use_weights")
            if not file:
                raise
            raise ModelError(f"{file}: {error}") from None

    # beside a rote learner

    @property
    def _mixes(self) -> bool:
        return self._options.get("with_prob") is not None

    def _partner(self, model: Model | None) -> Model:
        """The rote learner's model; whether it can be mixed is known before anything is learnt."""
        file: Path = self._options["with_prob"]
        network, tokens, learn = (
            self._options["network"],
            self._tokens(self._options["network"]),
            self._learn(),
        )
        if model is not None:
            network = "paper" if model.document is None else model.document.network
            tokens = model.tokens
            if model.document is not None:
                learn = model.document.learn
            if model.mixture is not None:
                raise ModelError(
                    f"{self._options['use_model']}: has a rote learner beside its network already: leave out "
                    "--with-prob"
                )
        if network != "causal":
            raise click.UsageError("--with-prob goes with --network causal: the original's is not mixed")
        prob = load_whole(file)
        try:
            check_partner(prob, learn, tokens)
        except ModelError as error:
            raise ModelError(f"{file}: {error}") from None
        except MemoryError:
            raise ModelError(f"{file}: does not fit in memory") from None
        return prob

    def _left_to_weigh(
        self, train: list[Sample], model: Model | None, seen: frozenset[str]
    ) -> tuple[list[Sample], list[Sample]]:
        """What the network learns, and what neither it nor the rote learner does."""
        fresh = [sample for sample in train if sample.folder.name not in seen]
        most = len(fresh) if model is not None else max(1, min(_MOST_WEIGHED, len(train) // 16))
        weighed = fresh[-most:]
        names = {sample.folder.name for sample in weighed}
        rest = [sample for sample in train if sample.folder.name not in names]
        if not weighed:
            raise SetsError(
                f"{self._options['with_prob']}: has learnt all {len(train)} samples to learn, but weights of "
                "a mixture are learnt on others: raise --train-size, or learn it from fewer"
            )
        if model is None and not rest:
            raise SetsError(
                "one sample to learn is not enough for a network and for the weights of a mixture: raise "
                "--train-size"
            )
        return rest, weighed

    def _mix(self, model: Model, prob: Model, samples: list[Sample]) -> Model:
        opened = [(sample.folder.name, self._decoded.opener(sample)) for sample in samples]
        with self._naming_weights(), progress("mix", 2 * len(samples)) as bar:
            mixed, weighing = learn_mixture(model, prob, opened, self._threads, bar.advance)
        count = weighing.transfers
        network, rote, both = (nats / count for nats in (*weighing.nats, weighing.mixed_nats()))
        click.echo(
            f"mixture: weights learnt on {len(samples)} samples, {count:,} transfers: loss {both:.4f} nats "
            f"there, of the network alone {network:.4f}, of the rote learner alone {rote:.4f}"
        )
        return mixed

    # phases

    def _spec(self) -> Spec:
        options = self._options
        network = options["network"]
        self._say_what_has_no_effect(network)
        return Spec(
            network=network,
            learn=self._learn(),
            tokens=self._tokens(network),
            selection=Selection(max_transfers=options["max_transfers"], fold_loops=options["fold_loops"]),
            train=TrainConfig(
                epochs=options["epochs"] or _EPOCHS[network],
                batch_size=options["batch_size"],
                learning_rate=options["learning_rate"] or _RATES[network],
                learning_decay=options["learning_decay"],
                seed=options["seed"],
                mixed_precision=options["mixed_precision"] and network == "paper",
                compile=options["compile"] and network == "causal",
            ),
            units=options["units"],
            sequence_len=options["sequence_len"],
            embedding=options["embedding_output_dimension"],
            dropout=options["dropout"],
            cudnn=options["use_cudnn"],
        )

    def _tokens(self, network: str) -> Tokens:
        return Tokens(
            vocabulary=self._vocabulary(network),
            inputs=self._options["embedding_input_dimension"],
            classes=self._options["max_classes"],
        )

    def _vocabulary(self, network: str) -> Literal["learnt", "modulo"]:
        chosen = self._options["vocabulary"] or _VOCABULARIES[network]
        return "modulo" if chosen == "modulo" else "learnt"

    def _idle(self, network: str) -> list[str]:
        idle = ["compile"]
        if network != "paper":
            idle = ["sequence_len", "embedding_output_dimension", "dropout", "use_cudnn", "mixed_precision"]
        if self._vocabulary(network) == "learnt":
            idle += ["max_classes", "embedding_input_dimension"]
        return idle

    def _say_what_has_no_effect(self, network: str) -> None:
        """Options of the original that another network, or today's way, has no use for."""
        for name in self._idle(network):
            if name in self._given:
                home = "--network paper" if network == "causal" else "--network causal"
                if name in ("max_classes", "embedding_input_dimension"):
                    home = "--vocabulary modulo"
                _log.warning("--%s has no effect: it belongs to %s", name.replace("_", "-"), home)
        if self._options["use_cudnn"] and network == "paper":
            import torch

            where = "cuDNN computes them" if torch.cuda.is_available() else "torch's own kernels compute them"
            _log.info("--use-cudnn: LSTMs have the full sigmoid; %s", where)

    def _train(self, samples: list[Sample], world: World) -> Model:
        options = self._options
        spec = self._spec()
        learner = Learner(spec, world)
        opened = [(sample.folder.name, self._decoded.opener(sample)) for sample in samples]
        threads = max(1, self._threads // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
        with _bar("read", len(samples), world) as advance:
            learner.read(opened, threads, options["queue_size"], advance)
        for sample, covered in zip(samples, learner.coverage, strict=True):
            if covered.kept < covered.total:
                folded = f", {covered.folded:,} with loops folded" if spec.selection.fold_loops else ""
                _log.info(
                    "%s: the network learns %s of %s transfers (%.1f %%%s)",
                    sample.name,
                    f"{covered.kept:,}",
                    f"{covered.total:,}",
                    100 * covered.kept / covered.total,
                    folded,
                )
        keeping = None
        if options["save_weights"]:
            if options["force"] and not options["resume"] and world.first:
                self._checkpoints().clear()
            keeping = Keeping(
                folder=self._checkpoints(),
                minutes=options["checkpoint"],
                best=options["checkpoint_best"],
                early_stop=options["checkpoint_early_stop"],
                resume=options["resume"],
            )
            if options["resume"] and not keeping.folder.exists():
                _log.info("--resume: no checkpoint is there: training begins anew")
        hooks = Hooks(
            bar=lambda name, total: _bar(name, total, world),
            stoppable=_asked_to_stop,
            status_minutes=options["status_interval"],
        )
        try:
            model, epochs = learner.fit(threads, hooks, keeping)
        except InterruptedTrainingError:
            if world.first and keeping is not None:
                where = keeping.folder.folder
                click.echo(f"training stopped, with a checkpoint in {where}: go on with --resume", err=True)
            raise KeyboardInterrupt from None
        if world.first and epochs:
            kept, total = total_of(learner.coverage)
            cap = f", capped at {options['max_transfers']:,} a trace" if options["max_transfers"] else ""
            last = epochs[-1]
            click.echo(
                f"training: {len(samples)} samples, {total:,} transfers, of which the network learnt "
                f"{kept:,} ({100 * kept / total:.1f} %{cap}) {last.number} times; loss {last.loss:.4f} nats, "
                f"accuracy {last.accuracy:.4f}, {last.transfers / max(last.seconds, 1e-9):,.0f} transfers/s"
            )
        return model


def _learnt_by(*models: Model | None) -> frozenset[str]:
    documents = [model.document for model in models if model is not None]
    return frozenset(name for document in documents if document is not None for name in document.samples)


@contextmanager
def _bar(name: str, total: int, world: World) -> Iterator[Callable[[int], None]]:
    if not world.first:
        yield lambda _: None
        return
    with progress(name, total) as bar:
        yield bar.advance


@contextmanager
def _asked_to_stop() -> Iterator[Callable[[], bool]]:
    """Whether an interrupt or a request to end came; training then ends between two steps. A second one is
    heeded at once."""
    asked = False

    def remember(*_: object) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True

    before = {number: signal.signal(number, remember) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _single(file: Path) -> Path:
    return file.with_name(f"{file.name}.single")


def _made_whole(file: Path, write: Callable[[Path], None], single: bool) -> None:
    """Write a file, and the copy that the original wrote beside it after training with several GPUs."""
    try:
        write(file)
        if single:
            beside = file.with_name(f".{file.name}.single.{os.getpid()}")
            shutil.copyfile(file, beside)
            beside.replace(_single(file))
    except OSError as error:
        raise OutputError(f"{file}: cannot be written ({error.strerror or error})") from None


def _named(learn: Learn) -> str:
    return (
        ", ".join(name for name in ("ret", "icall", "ijmp", "call", "jmp") if getattr(learn, name))
        or "nothing"
    )
