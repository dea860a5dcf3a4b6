"""What the commands that learn have in common: choosing samples, checking places, scoring runs."""

from __future__ import annotations

import logging
import os
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import click
import numpy as np

from barnum import evaluations
from barnum.calls.opened import Reported
from barnum.cli.common import progress
from barnum.errors import EvaluationError, OutputError, OutputExistsError, SetsError
from barnum.models.evaluate import Evaluator
from barnum.models.model import Model
from barnum.models.scoring import mean_of
from barnum.models.source import header_of
from barnum.paths import Learn, PathReader
from barnum.paths.opened import Decoded
from barnum.samples import Sample, Sets, find_samples, open_samples, printable, read_sets

_log = logging.getLogger(__name__)


class Phases(ABC):
    """One call of a command that learns from samples and evaluates others; ``given`` are the options that
    stand on the command line."""

    # options that name files which the command writes
    written: tuple[str, ...] = ()
    # options that say how many benign and malicious samples are held out, for messages
    held_out = ("--test-size-benign", "--test-size-malicious")

    def __init__(self, options: dict[str, Any], given: set[str]) -> None:
        self._options = options
        self._given = given
        self._root: Path = options["pt_directory"]
        self._threads: int = options["threads"] or len(os.sched_getaffinity(0))
        self._decoded: Decoded | Reported

    # samples

    def _sets(self, model: Model | None, learns: bool, seen: frozenset[str] = frozenset()) -> Sets:
        """The samples of --input-sets, or some drawn at random; ``model`` is the one to begin with. Samples
        that were ``seen`` are not held out."""
        options = self._options
        if options["input_sets"]:
            return read_sets(options["input_sets"], self._root)
        found = [sample for sample in self._found() if self._usable(sample)]
        learnt = set(model.document.samples) if model is not None and model.document is not None else set()
        benign = [sample.folder for sample in found if sample.benign and sample.folder.name not in learnt]
        malicious = [sample.folder for sample in found if not sample.benign]
        sizes = (
            options["train_size"] if learns else 0,
            options["test_size_benign"],
            # they are evaluated, and nothing else: without that fewer will do
            min(options["test_size_malicious"], len(malicious) if options["skip_eval"] else 1 << 62),
        )
        beside = " besides those that the model has learnt" if learnt else ""
        if len(benign) < sizes[0] + sizes[1]:
            raise SetsError(
                f"{self._root}: has {len(benign)} usable benign samples{beside}, but {sizes[0]} to learn and "
                f"{sizes[1]} to hold out were asked for: lower --train-size or {self.held_out[0]}"
            )
        if len(malicious) < sizes[2]:
            raise SetsError(
                f"{self._root}: has {len(malicious)} usable malicious samples, but {sizes[2]} were "
                f"asked for: lower {self.held_out[1]}"
            )
        draw = np.random.default_rng(options["seed"])
        order = [benign[i] for i in draw.permutation(len(benign)).tolist()]
        bad = [malicious[i] for i in draw.permutation(len(malicious)).tolist()]
        fresh = [folder for folder in order if folder.name not in seen]
        # those to learn come first in the order; what is held out comes from behind where it must be fresh
        held = order[sizes[0] : sizes[0] + sizes[1]] if not seen else fresh[len(fresh) - sizes[1] :]
        if len(held) < sizes[1]:
            raise SetsError(
                f"{self._root}: has {len(fresh)} usable benign samples that no model given has learnt, but "
                f"{sizes[1]} to hold out were asked for: lower {self.held_out[0]}"
            )
        out = set(held)
        train = [folder for folder in order if folder not in out][: sizes[0]]
        return Sets(tuple(train), tuple(held), tuple(bad[: sizes[2]]))

    def _found(self) -> list[Sample]:
        """All samples that there are."""
        return find_samples(self._root)

    def _found_in(self, folders: list[Path]) -> list[Sample]:
        """Those in some folders."""
        return open_samples(folders)

    def _usable(self, sample: Sample) -> bool:
        if self._options["preprocessed"] and sample.parsed is None:
            _log.warning("skipped: %s: is not preprocessed", sample.folder)
            return False
        return True

    def _open(self, folders: tuple[Path, ...]) -> list[Sample]:
        return [sample for sample in self._found_in(list(folders)) if self._usable(sample)]

    def _check(
        self,
        train: list[Sample],
        b_test: list[Sample],
        m_test: list[Sample],
        model: Model | None,
        learns: bool,
        seen: frozenset[str] = frozenset(),
    ) -> None:
        """Nothing is both learnt (or was ``seen``) and held out, and labels are those of their places."""
        where = self._options["input_sets"] or self._root
        for sample in train + b_test:
            if not sample.benign:
                raise SetsError(f"{where}: {sample.folder.name} is among the benign but labelled malicious")
        for sample in m_test:
            if sample.benign:
                raise SetsError(f"{where}: {sample.folder.name} is among the malicious but labelled benign")
        known = {sample.folder.name for sample in train} if learns else set()
        if model is not None and model.document is not None:
            again = sorted(known & set(model.document.samples))
            if again:
                raise SetsError(f"{where}: {again[0]} was learnt by the model already: take it out")
            known |= set(model.document.samples)
        known |= seen
        twice = sorted(known & {sample.folder.name for sample in b_test})
        if twice:
            raise SetsError(f"{where}: {twice[0]} is both learnt and held out: take it out of one of them")
        if learns and not train:
            raise SetsError(f"{where}: names no usable sample to learn")
        names = [sample.folder.name for sample in train + b_test + m_test]
        same = [name for name, count in Counter(names).items() if count > 1]
        if same:
            raise SetsError(
                f"{where}: two samples are called {printable(same[0])}, and models and evaluations go by "
                "that name: rename one"
            )

    # files

    def _check_places(self) -> None:
        """Hours of training are not to be lost to a folder that is missing."""
        options = self._options
        places: dict[Path, str] = {}
        for name in self.written:
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

    def _eval_dir(self, samples: list[Sample]) -> Path:
        folder: Path | None = self._options["eval_dir"]
        if folder is None:
            return Path(mkdtemp(prefix="barnum-eval-"))
        if folder.exists():
            wanted = {
                evaluations.file_name(sample.label, sample.folder.name, form)
                for sample in samples
                for form in evaluations.FORMATS
            }
            for file in sorted(folder.iterdir()):
                if file.name.startswith("."):
                    continue
                try:
                    evaluations.split_name(file)
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

    # phases

    @abstractmethod
    def _learn(self) -> Learn:
        """Which transfers count, by the options."""

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

    def _calls(self) -> dict[int, str] | None:
        """Names of calls, where runs are made of these."""
        return self._decoded.names if isinstance(self._decoded, Reported) else None

    @contextmanager
    def _writer(
        self, model: Model, learn: Learn, sample: Sample, path: PathReader, eval_dir: Path | None
    ) -> Iterator[Callable[[dict[str, Any]], None]]:
        if eval_dir is None:
            yield lambda columns: None
            return
        header = header_of(model, learn, sample, path)
        form = self._options["eval_format"]
        file = eval_dir / evaluations.file_name(sample.label, sample.folder.name, form)
        with evaluations.writer_for(form, file, header, self._calls()) as writer:
            yield writer.write
        # with --force the same sample may be there in the other format: one of them is enough
        for other in evaluations.FORMATS:
            if other != form:
                (eval_dir / evaluations.file_name(sample.label, sample.folder.name, other)).unlink(
                    missing_ok=True
                )
