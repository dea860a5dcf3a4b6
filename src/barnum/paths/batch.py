"""Makes the parsed traces of many samples, each in a process of its own."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec

from barnum.errors import BarnumError, InputError, OutputError, OutputExistsError, TraceError
from barnum.paths.claims import Claim
from barnum.paths.preprocess import Request, Result, preprocess
from barnum.paths.supervisor import run_each

_log = logging.getLogger("barnum.preprocess")


class Batch:
    """Makes the parsed traces of a batch. Each is claimed first, so that several machines may share one tree.

    Attributes:
        results: of the samples that were preprocessed.
        failed: the errors of those that failed.
        skipped: number of samples whose result exists already, or is being made by another process.
    """

    def __init__(
        self,
        *,
        force: bool = False,
        keep_partial: bool = True,
        single: bool = False,
        work: Callable[[Request], Result] = preprocess,
    ) -> None:
        """Prepare a batch.

        Args:
            force: replace results that exist.
            keep_partial: keep what was decoded until the time limit; otherwise it is an error.
            single: there is one sample only; to skip it is an error.
            work: what makes a result; a function at the top level of a module.
        """
        self._work = work
        self._force = force
        self._keep_partial = keep_partial
        self._single = single
        self._claims: dict[str, Claim] = {}
        self.results: list[Result] = []
        self.failed: list[BarnumError] = []
        self.skipped = 0

    def run(
        self,
        requests: Sequence[Request],
        jobs: int,
        advance: Callable[[], object] = lambda: None,
        set_up: Callable[[], None] | None = None,
    ) -> None:
        """Make all parsed traces, at most ``jobs`` at a time.

        Args:
            requests: one for each sample.
            jobs: number of processes.
            advance: called whenever a sample is done, failed or skipped.
            set_up: called first in each process.

        Raises:
            OutputExistsError: with ``single``, the result exists already or is being made by another process.
        """
        try:
            for request, outcome in run_each(
                self._claimed(requests, advance),
                jobs,
                keep_partial=self._keep_partial,
                work=self._work,
                set_up=set_up,
            ):
                self._end(self._claims.pop(request.output), outcome)
                advance()
        finally:
            # after an interrupt, finished results stay and unfinished ones are removed
            for claim in self._claims.values():
                claim.drop()

    def fail(self, error: BarnumError) -> None:
        """Count a sample as failed; unless it is the only one, log why."""
        self.failed.append(error)
        if not self._single:
            _log.error("%s", error)

    def _claimed(self, requests: Sequence[Request], advance: Callable[[], object]) -> Iterator[Request]:
        for request in requests:
            try:
                claim = Claim(Path(request.output), self._force)
            except OutputExistsError as error:
                self._skip(error)
                advance()
                continue
            except OutputError as error:
                self.fail(error)
                advance()
                continue
            self._claims[str(claim.data)] = claim
            yield msgspec.structs.replace(request, output=str(claim.data))

    def _end(self, claim: Claim, outcome: Result | BarnumError) -> None:
        try:
            if not isinstance(outcome, BarnumError):
                if outcome.truncated and not self._keep_partial:
                    raise TraceError(
                        f"{claim.result.parent}: was not done in time: its partial trace is deleted"
                    )
                claim.finish()
                self.results.append(outcome)
                if outcome.truncated:
                    _log.warning("%s: is partial: it was not done in time", claim.result)
                return
        except OutputExistsError as error:
            # another process finished it first, or took the claim over
            claim.drop()
            self._skip(error)
            return
        except InputError as error:
            outcome = error
        claim.drop()
        self.fail(outcome)

    def _skip(self, error: OutputExistsError) -> None:
        if self._single:
            raise error
        _log.info("skipped: %s", error)
        self.skipped += 1
