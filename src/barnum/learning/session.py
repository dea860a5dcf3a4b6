"""What all learning sessions have in common: choosing samples, checking places, scoring runs."""

from __future__ import annotations

import logging
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, Generic, Protocol, TypeVar

from barnum import evaluations
from barnum.digests.signs import known_from, signs_beside
from barnum.errors import EvaluationError, OutputError, OutputExistsError
from barnum.evaluations.signs import Signs
from barnum.evidence.known import added_known
from barnum.files import check_places
from barnum.learning.settings import Settings
from barnum.models.evaluate import Evaluator
from barnum.models.model import Model
from barnum.models.scoring import mean_of
from barnum.models.source import header_of
from barnum.paths import Learn, OpenPath, PathReader
from barnum.progress import Listener
from barnum.samples import LABELS, UNKNOWN, Sample, Sets, find_samples, open_samples, read_sets
from barnum.samples.choice import Chosen, Sizes, check, choose

_log = logging.getLogger(__name__)

_Settings = TypeVar("_Settings", bound=Settings)


class Opener(Protocol):
    """Opens samples as paths. It may keep files, which ``forget`` removes."""

    def opener(self, sample: Sample) -> OpenPath:
        """A function that opens a sample's path, as a context."""
        ...

    def forget(self, sample: Sample) -> None:
        """Remove what was kept of a sample."""
        ...


@dataclass(frozen=True, slots=True)
class HeldOut:
    """How well nominal runs were predicted that had no part in training: ``transfers`` in all, ``loss`` mean
    nats a transfer, ``accuracy`` 0…1."""

    transfers: int
    loss: float
    accuracy: float


@dataclass(frozen=True, slots=True)
class Learned:
    """What a session brings. ``evaluations`` is the folder of evaluation files; None where none were
    written. ``held_out`` is None where nothing was tested."""

    model: Model
    sets: Sets
    evaluations: Path | None = None
    held_out: HeldOut | None = None


class Session(ABC, Generic[_Settings]):
    """One learning session, which :meth:`run` does.

    ``given`` are names of settings that were asked for explicitly: what a model that is read contradicts is
    refused, what has no effect is told.
    """

    # settings that name files which the session writes
    written: tuple[str, ...] = ()
    # whether runs are made of calls
    _of_calls = False

    def __init__(
        self, settings: _Settings, given: frozenset[str] = frozenset(), listener: Listener | None = None
    ) -> None:
        self._settings = settings
        self._given = given
        self._listener = listener or Listener()
        self._threads: int = settings.threads or len(os.sched_getaffinity(0))

    @abstractmethod
    def run(self) -> Learned:
        """All phases that are asked for.

        Raises:
            InputError: see errors.py; nothing that was finished is lost.
        """

    # samples

    @abstractmethod
    def _sizes(self, learns: bool) -> Sizes:
        """How many samples are wanted."""

    def _choose(self, model: Model | None, learns: bool, seen: frozenset[str] = frozenset()) -> Sets:
        """The samples of --input-sets, or some drawn at random; ``model`` is the one to begin with. Samples
        that were ``seen`` are not held out."""
        settings = self._settings
        if settings.input_sets:
            return read_sets(settings.input_sets, settings.root)
        found = self._found()
        labelled = [sample for sample in found if sample.label != UNKNOWN]
        if len(labelled) < len(found):
            _log.warning(
                "left out: %d of %d samples, whose label is unknown; [u_test] of --input-sets takes them",
                len(found) - len(labelled),
                len(found),
            )
        usable = [sample for sample in labelled if self._usable(sample)]
        sizes = self._sizes(learns)
        if settings.skip_eval:
            # they are evaluated, and nothing else: without that fewer will do
            there = sum(sample.malicious for sample in usable)
            sizes = Sizes(sizes.train, sizes.benign, min(sizes.malicious, there), sizes.options)
        return choose(settings.root, usable, sizes, settings.seed, learnt_by(model), seen)

    def _open(
        self, sets: Sets, model: Model | None, learns: bool, seen: frozenset[str] = frozenset()
    ) -> Chosen:
        """The samples of the sets, checked; see samples.choice.check()."""
        chosen = Chosen(
            *(
                [sample for sample in self._found_in(list(folders)) if self._usable(sample)]
                for folders in (sets.b_train, sets.b_test, sets.m_test, sets.u_test)
            )
        )
        where = self._settings.input_sets or self._settings.root
        check(where, chosen, learns=learns, learnt=learnt_by(model), seen=seen)
        return chosen

    def _found(self) -> list[Sample]:
        """All samples that there are."""
        return find_samples(self._settings.root)

    def _found_in(self, folders: list[Path]) -> list[Sample]:
        """Those in some folders."""
        return open_samples(folders)

    @abstractmethod
    def _usable(self, sample: Sample) -> bool:
        """Whether a sample can be learnt or judged; why not is logged."""

    # files

    def _check_places(self) -> None:
        """Hours of training are not to be lost to a folder that is missing."""
        places = {f"--{name.replace('_', '-')}": getattr(self._settings, name) for name in self.written}
        check_places(places, force=True)

    def _eval_dir(self, samples: Sequence[Sample]) -> Path:
        """The folder of evaluation files, in which those of the samples can be written."""
        folder = self._settings.eval_dir
        if folder is None:
            return Path(mkdtemp(prefix="barnum-eval-"))
        if folder.exists():
            wanted = {
                evaluations.file_name(label, sample.folder.name, form)
                for sample in samples
                # it may have had another when it was evaluated
                for label in LABELS
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
                if file.name in wanted and not self._settings.force:
                    raise OutputExistsError(
                        f"{file}: is there already: choose another folder, or give --force"
                    )
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"{folder}: cannot be made ({error.strerror})") from None
        return folder

    # messages

    def _say_what_is_idle(self, idle: Sequence[tuple[str, str]]) -> None:
        """Tell of settings that were given and have no effect: names, and why."""
        for name, why in idle:
            if name in self._given:
                _log.warning("--%s has no effect: %s", name.replace("_", "-"), why)

    def _idle_without_evaluation(self) -> list[tuple[str, str]]:
        if not self._settings.skip_eval:
            return []
        return [(name, "--skip-eval skips the evaluation") for name in ("eval_dir", "eval_format")]

    # scoring

    def _score(
        self, model: Model, learn: Learn, opener: Opener, chosen: Chosen, eval_dir: Path | None
    ) -> HeldOut | None:
        """Test on what is held out, and write evaluations where there is a folder for them; ``learn`` says
        which transfers count where the model does not."""
        settings = self._settings
        if settings.skip_test and eval_dir is None:
            return None
        learn = model.document.learn if model.document is not None else learn
        evaluator = Evaluator(model, self._threads, learn)
        samples = chosen.b_test if eval_dir is None else chosen.judged
        started, scored = time.perf_counter(), 0
        count, surprisal, right = 0, 0.0, 0  # of the benign samples
        with self._listener.progress("evaluate" if eval_dir else "test", len(samples)) as advance:
            for sample in samples:
                rows = 0
                with (
                    opener.opener(sample)() as path,
                    self._writer(model, learn, sample, path, opener, eval_dir) as write,
                ):
                    for columns in evaluator.columns(path):
                        write(columns)
                        sums = mean_of(columns)
                        if sample.benign:
                            count, surprisal, right = count + sums[0], surprisal + sums[1], right + sums[2]
                        rows += sums[0]
                opener.forget(sample)
                if not rows:
                    _log.warning("%s: holds no transfer that passes the filter", sample.name)
                scored += rows
                advance(1)
        seconds = time.perf_counter() - started
        held_out = None
        if not settings.skip_test and count:
            held_out = HeldOut(count, surprisal / count, right / count)
            self._listener.say(
                f"test: {len(chosen.b_test)} benign samples held out, {count:,} transfers: "
                f"loss {held_out.loss:.4f} nats, accuracy {held_out.accuracy:.4f}"
            )
        if eval_dir is not None:
            self._listener.say(
                f"evaluation: {len(samples)} samples, {scored:,} transfers, all of them scored, "
                f"{scored / seconds:,.0f} transfers/s"
            )
            self._listener.say(f"evaluation files: {eval_dir}")
        return held_out

    def _knowing(self, model: Model, samples: Sequence[Sample], *parts: Model | None) -> Model:
        """The model that was learnt from samples, and before from ``parts``, with what all these runs show of
        evidence and effects; that is known where each has a digest beside it."""
        known = None if self._of_calls else known_from(samples)
        before = [part.document for part in parts if part is not None and part.document is not None]
        others = [document.known for document in before if document.samples]
        if known is None or None in others:
            return model.knowing(None)
        return model.knowing(added_known([known, *(other for other in others if other is not None)]))

    def _signs(self, model: Model, sample: Sample, path: PathReader) -> Signs | None:
        document = model.document
        if self._of_calls or document is None or document.known is None:
            return None
        return signs_beside(document.known, len(document.samples), sample, path.rows)

    def _calls(self, opener: Opener) -> dict[int, str] | None:
        """Names of calls by token, where runs are made of these."""
        return None

    @contextmanager
    def _writer(
        self,
        model: Model,
        learn: Learn,
        sample: Sample,
        path: PathReader,
        opener: Opener,
        eval_dir: Path | None,
    ) -> Iterator[Callable[[dict[str, Any]], None]]:
        if eval_dir is None:
            yield lambda columns: None
            return
        header = header_of(model, learn, sample, path, self._signs(model, sample, path))
        form = self._settings.eval_format
        file = eval_dir / evaluations.file_name(sample.label, sample.folder.name, form)
        with evaluations.writer_for(form, file, header, self._calls(opener)) as writer:
            yield writer.write
        # with --force the same sample may be there in the other format: one of them is enough
        for other in evaluations.FORMATS:
            if other != form:
                (eval_dir / evaluations.file_name(sample.label, sample.folder.name, other)).unlink(
                    missing_ok=True
                )


def learnt_by(*models: Model | None) -> frozenset[str]:
    """Names of the samples that models have learnt."""
    documents = [model.document for model in models if model is not None]
    return frozenset(name for document in documents if document is not None for name in document.samples)
