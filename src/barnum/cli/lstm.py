"""``barnum lstm``: learn nominal control flow, test, evaluate."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import TYPE_CHECKING, Any

import click

from barnum.cli.common import logging_option, progress, set_up_logging
from barnum.errors import ModelError, OutputError, OutputExistsError, SampleError, SetsError

if TYPE_CHECKING:
    from barnum.models.checkpoint import Model
    from barnum.paths import Learn, PathReader
    from barnum.samples import Sample, Sets

_log = logging.getLogger("barnum.lstm")

_FILE = click.Path(dir_okay=False, path_type=Path)
_THERE = click.Path(exists=True, dir_okay=False, path_type=Path)
_FOLDER = click.Path(file_okay=False, path_type=Path)


@click.command("lstm")
@click.option(
    "-p", "--preprocessed", is_flag=True, help="Use parsed traces (`barnum preprocess` makes them)."
)
@click.option(
    "--bin-dir",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Images of the modules, to decode raw traces with; needed without -p.",
)
@click.option(
    "--train-size", type=click.IntRange(min=1), default=8, show_default=True, help="Benign samples to learn."
)
@click.option(
    "--test-size-benign",
    type=click.IntRange(min=0),
    default=2,
    show_default=True,
    help="Benign samples held out.",
)
@click.option(
    "--test-size-malicious",
    type=click.IntRange(min=0),
    default=2,
    show_default=True,
    help="Malicious samples.",
)
@click.option("-o", "--output-sets", type=_FILE, help="Write which samples were chosen.")
@click.option("-i", "--input-sets", type=_THERE, help="Use the samples of this file instead of choosing.")
@click.option("--disable-ret", is_flag=True, help="Do not learn returns.")
@click.option("--disable-icall", is_flag=True, help="Do not learn indirect calls.")
@click.option("--disable-ijmp", is_flag=True, help="Do not learn indirect jumps.")
@click.option("--learn-call", is_flag=True, help="Learn direct calls too.")
@click.option("--learn-jmp", is_flag=True, help="Learn direct jumps too.")
@click.option(
    "--max-transfers",
    type=click.IntRange(min=1),
    metavar="N",
    help="Most transfers that the network learns of a trace, in windows spread evenly over it. Which "
    "transfers occur at all is always learnt from the whole, and evaluation scores whole traces.  "
    "[default: all]",
)
@click.option("-e", "--epochs", type=click.IntRange(min=1), default=4, show_default=True)
@click.option(
    "-b",
    "--batch-size",
    type=click.IntRange(min=1),
    default=8192,
    show_default=True,
    help="Most transfers a step of the optimiser.",
)
@click.option(
    "--units", type=click.IntRange(1, 4096), default=128, show_default=True, help="Size of the state."
)
@click.option(
    "--learning-rate", type=click.FloatRange(min=0, min_open=True), default=0.006, show_default=True
)
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Choice of samples, training."
)
@click.option("--save-model", type=_FILE, help="Write what the model is (JSON).")
@click.option("--save-weights", type=_FILE, help="Write its numbers (safetensors).")
@click.option("--use-model", type=_THERE, help="Skip training; use this model …")
@click.option("--use-weights", type=_THERE, help="… and these weights.")
@click.option("--skip-test", is_flag=True, help="Do not report loss and accuracy on held-out benign samples.")
@click.option("--skip-eval", is_flag=True, help="Write no evaluation files.")
@click.option("--eval-dir", type=_FOLDER, help="Folder for evaluation files.  [default: a new temporary one]")
@click.option("-t", "--threads", type=click.IntRange(min=1), help="[default: number of cores]")
@click.option("-f", "--force", is_flag=True, help="Overwrite files that are there.")
@logging_option
@click.argument("pt_directory", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.pass_context
def command(context: click.Context, /, **options: Any) -> None:
    """Learn nominal control flow and evaluate runs against it.

    PT_DIRECTORY holds sample folders. Benign samples are drawn at random to learn (--train-size) and to hold
    out, malicious ones to evaluate; the same --seed draws the same ones. Then come three phases: training,
    test (loss and accuracy on held-out benign samples), evaluation (a file of predictions for each held-out
    and each malicious sample, which `barnum classifier` reads).
    """
    set_up_logging(options["logging_level"])
    _Run(context, options).all()


class _Run:
    """One call of the command."""

    def __init__(self, context: click.Context, options: dict[str, Any]) -> None:
        self._context = context
        self._options = options
        self._root: Path = options["pt_directory"]
        self._threads: int = options["threads"] or len(os.sched_getaffinity(0))
        if not options["preprocessed"] and options["bin_dir"] is None:
            raise click.UsageError("give -p to use parsed traces, or --bin-dir to decode raw ones")
        if (options["use_model"] is None) != (options["use_weights"] is None):
            raise click.UsageError("--use-model and --use-weights go together")

    def all(self) -> None:
        """The three phases."""
        options = self._options
        self._refuse_to_overwrite()
        model = self._load() if options["use_model"] else None
        sets = self._sets(model)
        train, b_test, m_test = (self._open(folders) for folders in (sets.b_train, sets.b_test, sets.m_test))
        self._check(train, b_test, m_test, model)
        eval_dir = None if options["skip_eval"] else self._eval_dir(b_test + m_test)
        if options["output_sets"]:
            from barnum.samples import write_sets

            write_sets(options["output_sets"], sets)
        if model is None:
            model = self._train(train)
            self._save(model)
        if not options["skip_test"] or eval_dir is not None:
            self._score(model, b_test, [] if eval_dir is None else m_test, eval_dir)

    # samples

    def _sets(self, model: Model | None) -> Sets:
        from barnum.samples import Sets as ChosenSets
        from barnum.samples import find_samples, read_sets

        options = self._options
        if options["input_sets"]:
            return read_sets(options["input_sets"], self._root)
        import numpy as np

        found = [sample for sample in find_samples(self._root) if self._usable(sample)]
        learnt = set() if model is None else set(model.document.samples)
        benign = [sample.folder for sample in found if sample.benign and sample.folder.name not in learnt]
        malicious = [sample.folder for sample in found if not sample.benign]
        sizes = (
            0 if model else options["train_size"],
            options["test_size_benign"],
            options["test_size_malicious"],
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
        return ChosenSets(
            tuple(order[: sizes[0]]), tuple(order[sizes[0] : sizes[0] + sizes[1]]), tuple(bad[: sizes[2]])
        )

    def _usable(self, sample: Sample) -> bool:
        if self._options["preprocessed"] and sample.parsed is None:
            _log.warning("skipped: %s: is not preprocessed", sample.folder)
            return False
        return True

    def _open(self, folders: tuple[Path, ...]) -> list[Sample]:
        from barnum.samples import open_samples

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
        known = set(model.document.samples) if model else {sample.folder.name for sample in train}
        twice = sorted(known & {sample.folder.name for sample in b_test})
        if twice:
            raise SetsError(
                f"{where}: {twice[0]} is to be both learnt and held out: take it out of one of them"
            )
        if model is None and not train:
            raise SetsError(f"{where}: names no usable sample to learn")

    @contextmanager
    def _path(self, sample: Sample) -> Iterator[PathReader]:
        """The path of a sample; without -p its streams are decoded into a temporary file."""
        from barnum.paths import open_path

        if self._options["preprocessed"]:
            if sample.parsed is None:
                raise SampleError(f"{sample.folder}: is not preprocessed any more")
            yield open_path(sample.parsed)
            return
        from barnum.paths.decode import Decoding
        from barnum.paths.parquet import Ending, write_parquet

        with TemporaryDirectory(prefix="barnum-") as folder:
            file = Path(folder) / "trace_parsed.parquet"
            decoding = Decoding(sample, self._options["bin_dir"])
            write_parquet(
                file, decoding.chunks(), lambda: Ending(decoding.blocks, decoding.header(), decoding.gaps)
            )
            yield open_path(file)

    # files

    def _refuse_to_overwrite(self) -> None:
        if self._options["force"]:
            return
        for name in ("save_model", "save_weights", "output_sets"):
            file = self._options[name]
            if file is not None and file.exists():
                raise OutputExistsError(f"{file}: is there already: give another name, or --force")

    def _eval_dir(self, samples: list[Sample]) -> Path:
        from barnum.errors import EvaluationError
        from barnum.verdicts.evaluation import file_name, split_name

        folder: Path | None = self._options["eval_dir"]
        if folder is None:
            return Path(mkdtemp(prefix="barnum-eval-"))
        if folder.exists():
            wanted = {file_name(sample.label, sample.folder.name) for sample in samples}
            for file in sorted(folder.iterdir()):
                if file.name.startswith("."):
                    continue
                try:
                    split_name(file)
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
        from barnum.models.checkpoint import load_model

        model = load_model(self._options["use_model"], self._options["use_weights"])
        asked = self._learn()
        given = any(
            self._context.get_parameter_source(name) == click.core.ParameterSource.COMMANDLINE
            for name in ("disable_ret", "disable_icall", "disable_ijmp", "learn_call", "learn_jmp")
        )
        if given and asked != model.document.learn:
            raise ModelError(
                f"{self._options['use_model']}: has learnt {_named(model.document.learn)}, the options "
                f"ask for {_named(asked)}: leave them out"
            )
        return model

    def _learn(self) -> Learn:
        from barnum.paths import Learn as Filter

        options = self._options
        learn = Filter(
            ret=not options["disable_ret"],
            icall=not options["disable_icall"],
            ijmp=not options["disable_ijmp"],
            call=options["learn_call"],
            jmp=options["learn_jmp"],
        )
        if not learn.kinds():
            raise click.UsageError("nothing is left to learn: disable fewer kinds of transfers")
        return learn

    def _save(self, model: Model) -> None:
        from barnum.models.checkpoint import save_document, save_weights

        if self._options["save_weights"]:
            save_weights(self._options["save_weights"], model)
        if self._options["save_model"]:
            save_document(self._options["save_model"], model.document)

    # phases

    def _train(self, samples: list[Sample]) -> Model:
        from barnum.models.learn import Learner, total_of
        from barnum.models.trainer import TrainConfig

        options = self._options
        config = TrainConfig(
            epochs=options["epochs"],
            batch_size=options["batch_size"],
            learning_rate=options["learning_rate"],
            seed=options["seed"],
        )
        learner = Learner(self._learn(), config, options["units"], options["max_transfers"])
        with progress("read", len(samples)) as bar:
            for sample in samples:
                covered = learner.read(sample.folder.name, lambda sample=sample: self._path(sample))  # type: ignore[misc]
                if covered.kept < covered.total:
                    _log.info(
                        "%s: the network learns %s of %s transfers (%.1f %%)",
                        sample.name,
                        f"{covered.kept:,}",
                        f"{covered.total:,}",
                        100 * covered.kept / covered.total,
                    )
                bar.advance()
        kept, total = total_of(learner.coverage)
        with progress("train", learner.to_learn) as bar:
            learnt = learner.fit(self._threads, bar.advance)
        last = learnt.epochs[-1]
        cap = f", capped at {options['max_transfers']:,} a trace" if options["max_transfers"] else ""
        click.echo(
            f"training: {len(samples)} samples, {total:,} transfers, of which the network learnt {kept:,} "
            f"({100 * kept / total:.1f} %{cap}) {last.number} times; loss {last.loss:.4f} nats, "
            f"accuracy {last.accuracy:.4f}, {last.transfers / last.seconds:,.0f} transfers/s"
        )
        return learnt.model

    def _score(self, model: Model, b_test: list[Sample], m_test: list[Sample], eval_dir: Path | None) -> None:
        import time

        from barnum.models.evaluate import Evaluator, mean_of

        evaluator = Evaluator(model, self._threads)
        started, scored = time.perf_counter(), 0
        held_out = (0, 0.0, 0)  # predictions, nats, right ones of the benign samples
        with progress("evaluate" if eval_dir else "test", len(b_test) + len(m_test)) as bar:
            for sample in b_test + m_test:
                rows = 0
                with self._path(sample) as path, self._writer(model, sample, eval_dir) as write:
                    for columns in evaluator.columns(path, lambda _: None):
                        write(columns)
                        count, surprisal, right = mean_of(columns)
                        if sample.benign:
                            held_out = held_out[0] + count, held_out[1] + surprisal, held_out[2] + right
                        rows += count
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
    def _writer(self, model: Model, sample: Sample, eval_dir: Path | None) -> Iterator[Any]:
        if eval_dir is None:
            yield lambda columns: None
            return
        import msgspec

        from barnum import __version__
        from barnum.verdicts import evaluation

        document = model.document
        header = evaluation.Header(
            schema=evaluation.SCHEMA,
            version=__version__,
            name=sample.name,
            label=sample.label,
            sample=sample.folder.name,
            model=document.identity,
            options={
                "learn": msgspec.to_builtins(document.learn),
                "train": msgspec.to_builtins(document.train),
            },
            calibration=msgspec.convert(msgspec.to_builtins(document.calibration), evaluation.Calibration),
            transfers=0,
        )
        file = eval_dir / evaluation.file_name(sample.label, sample.folder.name)
        with evaluation.EvaluationWriter(file, header) as writer:
            yield writer.write


def _named(learn: Learn) -> str:
    return (
        ", ".join(name for name in ("ret", "icall", "ijmp", "call", "jmp") if getattr(learn, name))
        or "nothing"
    )
