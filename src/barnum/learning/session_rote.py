"""A session that learns by rote: choose samples, learn, test, evaluate."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from barnum.errors import ModelError, OutputExistsError, SetsError
from barnum.files import output_error
from barnum.learning.rote.learner import RoteLearner, RoteSpec
from barnum.learning.session import Learned, Session
from barnum.learning.settings import RoteSettings
from barnum.models.model import Model
from barnum.models.networks.rote import RoteNetwork, lengths_up_to
from barnum.models.saved import load_whole, save_whole
from barnum.paths import OpenPath
from barnum.paths.opened import Decoded
from barnum.progress import Listener
from barnum.samples import Sample, write_sets
from barnum.samples.choice import Sizes
from barnum.sequences import Tokens

if TYPE_CHECKING:
    from barnum.learning.rote.store import RedisStore

_log = logging.getLogger("barnum.prob")


def learn_by_rote(
    learner: RoteLearner, samples: Sequence[tuple[str, OpenPath]], what: str, listener: Listener
) -> None:
    """Let a learner learn samples, and say what that brought; ``what`` transfers are called.

    Raises:
        SetsError: the samples hold none.
    """
    began = time.perf_counter()
    with listener.progress("learn", len(samples)) as advance:
        for _ in learner.learn_all(samples):
            advance(1)
    seconds = max(time.perf_counter() - began, 1e-9)
    if not learner.transfers:
        raise SetsError("the training samples hold no transfer that passes the filter: learn more kinds")
    listener.say(
        f"training: {len(samples)} samples, {learner.transfers:,} {what}, "
        f"{learner.transfers / seconds:,.0f} {what}/s; {learner.contexts:,} contexts in "
        f"{learner.bytes / (1 << 20):,.1f} MiB"
    )


class RoteSession(Session[RoteSettings]):
    """One session."""

    written = ("save", "output_sets")

    def run(self) -> Learned:
        settings = self._settings
        settings.check()
        nowhere = nullcontext("")  # nothing is decoded
        with (
            nowhere if settings.preprocessed else TemporaryDirectory(prefix="barnum-") as decoded,
            self._store() as store,
        ):
            opener = Decoded(
                Path(decoded),
                preprocessed=settings.preprocessed,
                bin_dir=settings.bin_directory,
                timeout=settings.timeout,
            )
            return self._phases(store, opener)

    def _phases(self, store: RedisStore | None, opener: Decoded) -> Learned:
        settings = self._settings
        learns = not settings.skip_train
        self._say_what_is_idle(self._idle())
        self._refuse_to_overwrite()
        self._check_places()
        learner, model = self._begin(store)
        sets = self._choose(model, learns)
        chosen = self._open(sets, model, learns)
        eval_dir = None if settings.skip_eval else self._eval_dir(chosen.judged)
        if settings.output_sets:
            write_sets(settings.output_sets, sets)
        before = store.snapshot(learner) if learns and store is not None else None
        if learns:
            opened = [(sample.folder.name, opener.opener(sample)) for sample in chosen.train]
            learn_by_rote(learner, opened, "transfers", self._listener)
            for sample in chosen.train:
                opener.forget(sample)
        if learns or model is None:
            model = self._knowing(learner.model(), chosen.train if learns else [], model)
        if settings.save:
            try:
                save_whole(settings.save, model)
            except OSError as error:
                raise output_error(error, settings.save) from None
        if store is not None and before is not None:
            store.push(learner, before)
        held_out = self._score(model, settings.learn(), opener, chosen, eval_dir)
        return Learned(model, sets, eval_dir, held_out)

    @contextmanager
    def _store(self) -> Iterator[RedisStore | None]:
        if self._settings.redis is None:
            yield None
            return
        from barnum.learning.rote.store import RedisStore

        with RedisStore(self._settings.redis) as store:
            yield store

    def _begin(self, store: RedisStore | None) -> tuple[RoteLearner, Model | None]:
        """The learner to go on with, and its model where there is one."""
        settings = self._settings
        if settings.load:
            model = self._loaded(settings.load)
            with _naming(settings.load):
                learner = RoteLearner.of(model, self._threads, settings.max_memory)
                forgotten = learner.forgotten
            parts = [model]
            for file in settings.merge:
                parts.append(self._loaded(file))
                with _naming(file):
                    learner.merge(parts[-1])
            if settings.max_memory is not None:
                learner.keep_to_memory()
            changed = settings.merge or learner.forgotten != forgotten
            return learner, self._knowing(learner.model(), [], *parts) if changed else model
        learner = RoteLearner(self._spec(), self._threads)
        if store is None:
            return learner, None
        taken = store.pull(learner)
        if not taken and settings.skip_train:
            raise SetsError(f"{store.shown}: holds no counts yet: leave out --skip-train")
        return learner, learner.model() if taken else None

    def _loaded(self, file: Path) -> Model:
        """A model whose settings are not contradicted by those given: it keeps what it is."""
        model = load_whole(file)
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
        return model

    def _spec(self) -> RoteSpec:
        settings = self._settings
        classes = settings.max_classes
        return RoteSpec(
            learn=settings.learn(),
            tokens=Tokens(vocabulary=settings.vocabulary, inputs=classes, classes=classes),
            lengths=lengths_up_to(settings.sequence_len),
            rule=settings.rule,
            max_memory=settings.max_memory,
        )

    def _sizes(self, learns: bool) -> Sizes:
        settings = self._settings
        benign = round(settings.test_size * settings.ratio)
        return Sizes(
            train=settings.train_size if learns else 0,
            benign=benign,
            malicious=settings.test_size - benign,
            options=("--test-size", "--test-size, or raise --ratio"),
        )

    def _usable(self, sample: Sample) -> bool:
        if self._settings.preprocessed and sample.parsed is None:
            _log.warning("skipped: %s: is not preprocessed", sample.folder)
            return False
        return True

    def _refuse_to_overwrite(self) -> None:
        if self._settings.force:
            return
        for name in self.written:
            file: Path | None = getattr(self._settings, name)
            if file is not None and file.exists():
                raise OutputExistsError(f"{file}: is there already: give another name, or --force")

    def _idle(self) -> list[tuple[str, str]]:
        """Settings that have no effect, and why."""
        idle = []
        if self._settings.vocabulary == "learnt":
            idle = [("max_classes", "it belongs to --vocabulary modulo")]
        if self._settings.skip_train:
            idle += [("train_size", "--skip-train learns nothing")]
        return idle + self._idle_without_evaluation()


@contextmanager
def _naming(file: Path) -> Iterator[None]:
    """Name the file in errors about what it holds."""
    try:
        yield
    except ModelError as error:
        raise ModelError(f"{file}: {error}") from None
