"""The phases of ``barnum lstm``: choose samples, train, test, evaluate."""

from __future__ import annotations

import logging
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import Any, Literal

import click
import numpy as np

from barnum.cli.common import ended_like_an_interrupt, progress
from barnum.cli.decoded import Decoded
from barnum.cli.sources import header_of
from barnum.errors import (
    EvaluationError,
    ModelError,
    OutputError,
    OutputExistsError,
    SetsError,
)
from barnum.models.checkpoint import CheckpointFolder
from barnum.models.evaluate import Evaluator, mean_of
from barnum.models.learn import Hooks, Keeping, Learner, Spec, total_of
from barnum.models.model import Model, load_model, save_document, save_weights
from barnum.models.trainer import InterruptedTrainingError, TrainConfig
from barnum.models.world import World
from barnum.paths import Learn, PathReader
from barnum.samples import Sample, Sets, find_samples, open_samples, read_sets, sets_content, write_sets
from barnum.sequences import Selection, Tokens
from barnum.verdicts import evaluation

_log = logging.getLogger("barnum.lstm")

# what each network is trained with where nothing is said
_EPOCHS = {"causal": 2, "paper": 16}
_RATES = {"causal": 0.003, "paper": 0.001}
_VOCABULARIES = {"causal": "learnt", "paper": "modulo"}
_TRAINING = (
    *("train_size", "epochs", "batch_size", "learning_rate", "learning_decay", "max_transfers", "fold_loops"),
    *("save_model", "save_weights", "mixed_precision", "compile", "status_interval", "dropout"),
)
# option → what the configuration of a network calls it
_SIZES = {
    "units": "units",
    "sequence_len": "sequence_len",
    "embedding_output_dimension": "embedding",
    "use_cudnn": "cudnn",
}
_LEARN = ("disable_ret", "disable_icall", "disable_ijmp", "learn_call", "learn_jmp")


class LstmRun:
    """One call of the command; ``given`` are the options that stand on the command line."""

    def __init__(self, options: dict[str, Any], given: set[str]) -> None:
        self._options = options
        self._given = given
        self._root: Path = options["pt_directory"]
        self._threads: int = options["threads"] or len(os.sched_getaffinity(0))

    def all(self) -> None:
        """The three phases. Of several processes all train, and the first does the rest."""
        nowhere = nullcontext("")  # with -p nothing is decoded
        with (
            ended_like_an_interrupt(),
            World() as world,
            nowhere if self._options["preprocessed"] else TemporaryDirectory(prefix="barnum-") as decoded,
        ):
            self._decoded = Decoded(self._options, Path(decoded))
            if not world.first:
                logging.getLogger("barnum").setLevel(max(self._options["logging_level"], logging.ERROR))
            self._phases(world)

    def _phases(self, world: World) -> None:
        options = self._options
        self._learn()
        self._say_what_is_skipped()
        if world.first:
            self._refuse_to_overwrite()
            self._check_places()
        model = self._load() if options["use_model"] else None
        sets = self._sets(model)
        train, b_test, m_test = (self._open(folders) for folders in (sets.b_train, sets.b_test, sets.m_test))
        self._check(train, b_test, m_test, model)
        eval_dir = None
        if world.first:
            eval_dir = None if options["skip_eval"] else self._eval_dir(b_test + m_test)
            if options["output_sets"]:
                self._write_sets(options["output_sets"], sets)
        if model is None:
            model = self._train(train, world)
            if world.first:
                self._save(model, world)
        if world.first and (not options["skip_test"] or eval_dir is not None):
            self._score(model, b_test, [] if eval_dir is None else m_test, eval_dir)

    # samples

    def _sets(self, model: Model | None) -> Sets:
        options = self._options
        if options["input_sets"]:
            return read_sets(options["input_sets"], self._root)
        found = [sample for sample in find_samples(self._root) if self._usable(sample)]
        learnt = set(model.document.samples) if model is not None and model.document is not None else set()
        benign = [sample.folder for sample in found if sample.benign and sample.folder.name not in learnt]
        malicious = [sample.folder for sample in found if not sample.benign]
        sizes = (
            0 if model else options["train_size"],
            options["test_size_benign"],
            # they are evaluated, and nothing else: without that fewer will do
            min(options["test_size_malicious"], len(malicious) if options["skip_eval"] else 1 << 62),
        )
        beside = " besides those that the model has learnt" if learnt else ""
        if len(benign) < sizes[0] + sizes[1]:
            raise SetsError(
                f"{self._root}: has {len(benign)} usable benign samples{beside}, but {sizes[0]} to learn and "
                f"{sizes[1]} to hold out were asked for: lower --train-size or --test-size-benign"
            )
        if len(malicious) < sizes[2]:
            raise SetsError(
                f"{self._root}: has {len(malicious)} usable malicious samples, but {sizes[2]} were "
                "asked for: lower --test-size-malicious"
            )
        draw = np.random.default_rng(options["seed"])
        order = [benign[i] for i in draw.permutation(len(benign)).tolist()]
        bad = [malicious[i] for i in draw.permutation(len(malicious)).tolist()]
        return Sets(
            tuple(order[: sizes[0]]), tuple(order[sizes[0] : sizes[0] + sizes[1]]), tuple(bad[: sizes[2]])
        )

    def _usable(self, sample: Sample) -> bool:
        if self._options["preprocessed"] and sample.parsed is None:
            _log.warning("skipped: %s: is not preprocessed", sample.folder)
            return False
        return True

    def _open(self, folders: tuple[Path, ...]) -> list[Sample]:
        return [sample for sample in open_samples(list(folders)) if self._usable(sample)]

    def _check(
        self, train: list[Sample], b_test: list[Sample], m_test: list[Sample], model: Model | None
    ) -> None:
        where = self._options["input_sets"] or self._root
        for sample in train + b_test:
            if not sample.benign:
                raise SetsError(f"{where}: {sample.folder.name} is among the benign but labelled malicious")
        for sample in m_test:
            if sample.benign:
                raise SetsError(f"{where}: {sample.folder.name} is among the malicious but labelled benign")
        known = {sample.folder.name for sample in train} if model is None else set()
        if model is not None and model.document is not None:
            known = set(model.document.samples)
        twice = sorted(known & {sample.folder.name for sample in b_test})
        if twice:
            raise SetsError(
                f"{where}: {twice[0]} is to be both learnt and held out: take it out of one of them"
            )
        if model is None and not train:
            raise SetsError(f"{where}: names no usable sample to learn")

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

    def _check_places(self) -> None:
        """Hours of training are not to be lost to a folder that is missing."""
        options = self._options
        places: dict[Path, str] = {}
        for name in ("save_model", "save_weights", "output_sets"):
            file: Path | None = options[name]
            if file is None:
                continue
            place = file.parent.resolve() / file.name
            if place in places:
                raise click.UsageError(f"--{places[place]} and --{name.replace('_', '-')} name the same file")
            places[place] = name.replace("_", "-")
            if not file.parent.is_dir():
                raise OutputError(f"{file}: cannot be written (no such folder: {file.parent})")
            if not os.access(file.parent, os.W_OK | os.X_OK):
                raise OutputError(f"{file}: cannot be written (no permission in {file.parent})")

    def _say_what_is_skipped(self) -> None:
        """Options of a phase that is left out."""
        options = self._options
        idle = []
        if options["use_model"]:
            idle = [(name, "--use-model skips training") for name in _TRAINING]
        if options["skip_eval"]:
            idle += [(name, "--skip-eval skips the evaluation") for name in ("eval_dir", "eval_format")]
        for name, why in idle:
            if name in self._given:
                _log.warning("--%s has no effect: %s", name.replace("_", "-"), why)

    def _written(self, name: str) -> list[Path]:
        file: Path | None = self._options[name]
        if file is None or (self._options["use_model"] and name != "output_sets"):
            return []
        single = self._options["multi_gpu"] and name != "output_sets"
        return [file, _single(file)] if single else [file]

    def _checkpoints(self) -> CheckpointFolder:
        file: Path = self._options["save_weights"]
        return CheckpointFolder(file.with_name(f"{file.name}.checkpoints"))

    def _eval_dir(self, samples: list[Sample]) -> Path:
        folder: Path | None = self._options["eval_dir"]
        if folder is None:
            return Path(mkdtemp(prefix="barnum-eval-"))
        if folder.exists():
            wanted = {
                evaluation.file_name(sample.label, sample.folder.name, form)
                for sample in samples
                for form in evaluation.FORMATS
            }
            for file in sorted(folder.iterdir()):
                if file.name.startswith("."):
                    continue
                try:
                    evaluation.split_name(file)
                except EvaluationError:
                    raise OutputExistsError(
                        f"{folder}: holds {file.name!r}, which is no evaluation: choose another folder"
                    ) from None
                if file.name in wanted and not self._options["force"]:
                    raise OutputExistsError(
                        f"{file}: is there already: choose another folder, or give --force"
                    )
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"{folder}: cannot be made ({error.strerror})") from None
        return folder

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

    # phases

    def _spec(self) -> Spec:
        options = self._options
        network = options["network"]
        self._say_what_has_no_effect(network)
        tokens = Tokens(
            vocabulary=self._vocabulary(network),
            inputs=options["embedding_input_dimension"],
            classes=options["max_classes"],
        )
        return Spec(
            network=network,
            learn=self._learn(),
            tokens=tokens,
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

    def _vocabulary(self, network: str) -> Literal["learnt", "modulo"]:
        chosen = self._options["vocabulary"] or _VOCABULARIES[network]
        return "modulo" if chosen == "modulo" else "learnt"

    def _say_what_has_no_effect(self, network: str) -> None:
        """Options of the original that another network, or today's way, has no use for."""
        idle = ["compile"]
        if network != "paper":
            idle = ["sequence_len", "embedding_output_dimension", "dropout", "use_cudnn", "mixed_precision"]
        if self._vocabulary(network) == "learnt":
            idle += ["max_classes", "embedding_input_dimension"]
        for name in idle:
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

    def _score(self, model: Model, b_test: list[Sample], m_test: list[Sample], eval_dir: Path | None) -> None:
        import time

        learn = model.document.learn if model.document is not None else self._learn()
        evaluator = Evaluator(model, self._threads, learn)
        started, scored = time.perf_counter(), 0
        held_out = (0, 0.0, 0)  # predictions, nats, right ones of the benign samples
        with progress("evaluate" if eval_dir else "test", len(b_test) + len(m_test)) as bar:
            for sample in b_test + m_test:
                rows = 0
                with (
                    self._decoded.opener(sample)() as path,
                    self._writer(model, learn, sample, path, eval_dir) as write,
                ):
                    for columns in evaluator.columns(path):
                        write(columns)
                        count, surprisal, right = mean_of(columns)
                        if sample.benign:
                            held_out = held_out[0] + count, held_out[1] + surprisal, held_out[2] + right
                        rows += count
                self._decoded.forget(sample)
                if not rows:
                    _log.warning("%s: holds no transfer that passes the filter", sample.name)
                scored += rows
                bar.advance()
        seconds = time.perf_counter() - started
        if not self._options["skip_test"] and held_out[0]:
            count, surprisal, right = held_out
            click.echo(
                f"test: {len(b_test)} benign samples held out, {count:,} transfers: "
                f"loss {surprisal / count:.4f} nats, accuracy {right / count:.4f}"
            )
        if eval_dir is not None:
            click.echo(
                f"evaluation: {len(b_test) + len(m_test)} samples, {scored:,} transfers, all of them scored, "
                f"{scored / seconds:,.0f} transfers/s"
            )
            click.echo(f"evaluation files: {eval_dir}")

    @contextmanager
    def _writer(
        self, model: Model, learn: Learn, sample: Sample, path: PathReader, eval_dir: Path | None
    ) -> Iterator[Callable[[dict[str, Any]], None]]:
        if eval_dir is None:
            yield lambda columns: None
            return
        header = header_of(model, learn, sample, path)
        form = self._options["eval_format"]
        file = eval_dir / evaluation.file_name(sample.label, sample.folder.name, form)
        with evaluation.writer_for(form, file, header) as writer:
            yield writer.write
        # with --force the same sample may be there in the other format: one of them is enough
        for other in evaluation.FORMATS:
            if other != form:
                (eval_dir / evaluation.file_name(sample.label, sample.folder.name, other)).unlink(
                    missing_ok=True
                )


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
