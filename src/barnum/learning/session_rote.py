"""The phases of ``barnum prob``: choose samples, learn, test, evaluate."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click

from barnum.cli.common import ended_like_an_interrupt, progress
from barnum.errors import ModelError, OutputExistsError, SetsError
from barnum.files import output_error
from barnum.learning.rote.learner import RoteLearner, RoteSpec
from barnum.learning.rote.store import RedisStore
from barnum.learning.session import Phases
from barnum.models.model import Model
from barnum.models.networks.rote import RoteNetwork, lengths_up_to
from barnum.models.saved import load_whole, save_whole
from barnum.paths import Learn
from barnum.paths.opened import Decoded
from barnum.samples import Sample, write_sets
from barnum.sequences import Tokens

_log = logging.getLogger("barnum.prob")


@contextmanager
def _named(file: Path) -> Iterator[None]:
    """Name the file in errors about what it holds."""
    try:
        yield
    except ModelError as error:
        raise ModelError(f"{file}: {error}") from None


class ProbRun(Phases):
    """One call of the command."""

    written = ("save", "output_sets")
    held_out = ("--test-size", "--test-size, or raise --ratio")

    def __init__(self, options: dict[str, Any], given: set[str]) -> None:
        benign = round(options["test_size"] * options["ratio"])
        options |= {
            "bin_dir": options["bin_directory"],
            "test_size_benign": benign,
            "test_size_malicious": options["test_size"] - benign,
        }
        super().__init__(options, given)

    def all(self) -> None:
        """The phases that are not skipped."""
        nowhere = nullcontext("")  # with -p nothing is decoded
        with (
            ended_like_an_interrupt(),
            nowhere if self._options["preprocessed"] else TemporaryDirectory(prefix="barnum-") as decoded,
            self._store() as store,
        ):
            self._decoded = Decoded(self._options, Path(decoded))
            self._phases(store)

    def _phases(self, store: RedisStore | None) -> None:
        options = self._options
        learns = not options["skip_train"]
        self._say_what_has_no_effect()
        self._refuse_to_overwrite()
        self._check_places()
        learner, model = self._begin(store)
        sets = self._sets(model, learns)
        train, b_test, m_test = (self._open(folders) for folders in (sets.b_train, sets.b_test, sets.m_test))
        self._check(train, b_test, m_test, model, learns)
        eval_dir = None if options["skip_eval"] else self._eval_dir(b_test + m_test)
        if options["output_sets"]:
            write_sets(options["output_sets"], sets)
        before = store.snapshot(learner) if learns and store is not None else None
        if learns:
            self._train(learner, train)
            model = learner.model()
        assert model is not None
        if options["save"]:
            try:
                save_whole(options["save"], model)
            except OSError as error:
                raise output_error(error, options["save"]) from None
        if store is not None and before is not None:
            store.push(learner, before)
        if not options["skip_test"] or eval_dir is not None:
            self._score(model, b_test, [] if eval_dir is None else m_test, eval_dir)

    @contextmanager
    def _store(self) -> Iterator[RedisStore | None]:
        if self._options["redis"] is None:
            yield None
            return
        with RedisStore(self._options["redis"]) as store:
            yield store

    def _begin(self, store: RedisStore | None) -> tuple[RoteLearner, Model | None]:
        """The learner to go on with, and its model where there is one."""
        options = self._options
        if options["load"]:
            model = self._loaded(options["load"])
            with _named(options["load"]):
                learner = RoteLearner.of(model, self._threads, options["max_memory"])
                forgotten = learner.forgotten
            for file in options["merge"]:
                added = self._loaded(file)
                with _named(file):
                    learner.merge(added)
            if options["max_memory"] is not None:
                learner.keep_to_memory()
            changed = options["merge"] or learner.forgotten != forgotten
            return learner, learner.model() if changed else model
        learner = RoteLearner(self._spec(), self._threads)
        if store is None:
            return learner, None
        taken = store.pull(learner)
        if not taken and options["skip_train"]:
            raise SetsError(f"{store.shown}: holds no counts yet: leave out --skip-train")
        return learner, learner.model() if taken else None

    def _loaded(self, file: Path) -> Model:
        model = load_whole(file)
        self._check_options(file, model)
        return model

    def _check_options(self, file: Path, model: Model) -> None:
        """A model keeps what it is: options that ask for something else are refused."""
        document, network, spec = model.document, model.network, self._spec()
        if document is None or not isinstance(network, RoteNetwork):
            raise ModelError(f"{file}: is no model of a rote learner: save one with `barnum prob --save`")
        asked: list[tuple[str, object, object]] = [
            ("sequence_len", spec.lengths[-1], network.config.lengths[-1]),
            ("vocabulary", spec.tokens.vocabulary, document.tokens.vocabulary),
            ("rule", spec.rule, network.config.rule),
        ]
        if document.tokens.vocabulary == "modulo":
            asked.append(("max_classes", spec.tokens.classes, document.tokens.classes))
        for name, wanted, has in asked:
            if name in self._given and wanted != has:
                raise ModelError(
                    f"{file}: its {name.replace('_', '-')} is {has}, the options ask for {wanted}: "
                    "leave them out"
                )
        if spec.learn.kinds() and spec.learn != document.learn:
            raise ModelError(
                f"{file}: has learnt other kinds of transfers than --learn-… ask for: leave these out"
            )

    def _spec(self) -> RoteSpec:
        options = self._options
        classes = options["max_classes"]
        return RoteSpec(
            learn=self._learn(),
            tokens=Tokens(vocabulary=options["vocabulary"], inputs=classes, classes=classes),
            lengths=lengths_up_to(options["sequence_len"]),
            rule=options["rule"],
            max_memory=options["max_memory"],
        )

    def _learn(self) -> Learn:
        options = self._options
        return Learn(**{kind: options[f"learn_{kind}"] for kind in ("ret", "icall", "ijmp", "call", "jmp")})

    def _train(self, learner: RoteLearner, samples: list[Sample]) -> None:
        opened = [(sample.folder.name, self._decoded.opener(sample)) for sample in samples]
        began = time.perf_counter()
        with progress("learn", len(samples)) as bar:
            for _ in learner.learn_all(opened):
                bar.advance()
        seconds = max(time.perf_counter() - began, 1e-9)
        for sample in samples:
            self._decoded.forget(sample)
        if not learner.transfers:
            raise SetsError("the training samples hold no transfer that passes the filter: learn more kinds")
        click.echo(
            f"training: {len(samples)} samples, {learner.transfers:,} transfers, "
            f"{learner.transfers / seconds:,.0f} transfers/s; {learner.contexts:,} contexts in "
            f"{learner.bytes / (1 << 20):,.1f} MiB"
        )

    def _refuse_to_overwrite(self) -> None:
        if self._options["force"]:
            return
        for name in self.written:
            file: Path | None = self._options[name]
            if file is not None and file.exists():
                raise OutputExistsError(f"{file}: is there already: give another name, or --force")

    def _say_what_has_no_effect(self) -> None:
        options = self._options
        idle = []
        if options["vocabulary"] == "learnt":
            idle = [("max_classes", "it belongs to --vocabulary modulo")]
        if options["skip_train"]:
            idle += [("train_size", "--skip-train learns nothing")]
        if options["skip_eval"]:
            idle += [(name, "--skip-eval skips the evaluation") for name in ("eval_dir", "eval_format")]
        for name, why in idle:
            if name in self._given:
                _log.warning("--%s has no effect: %s", name.replace("_", "-"), why)
