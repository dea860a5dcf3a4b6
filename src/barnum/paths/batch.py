"""Makes the parsed traces of many samples, each in a process of its own."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec

from barnum.errors import BarnumError, InputError, OutputError, OutputExistsError, TraceError
from barnum.paths.claims import Claim
from barnum.paths.preprocess import Request, Result
from barnum.paths.supervisor import run_each

_log = logging.getLogger("barnum.preprocess")


class Batch:
    """Claims the results of samples, so that several machines may work on one tree, and keeps count of what
    became of them: ``results`` of those that were made, ``failed``, and how many were ``skipped`` because
    their result is there or is being made by another. Of one sample alone (``single``) that is an error."""

    def __init__(self, *, force: bool = False, keep_partial: bool = True, single: bool = False) -> None:
        """``force``: make results again that are there; ``keep_partial``: keep what was decoded until a time
        limit."""
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
        """Make all, ``jobs`` at once. ``advance`` is called for each that is done, ``set_up`` first in each
        process.

        Raises:
            OutputExistsError: the only one is there already, or is being made by another.
        """
        try:
            for request, outcome in run_each(
                self._claimed(requests, advance), jobs, keep_partial=self._keep_partial, set_up=set_up
            ):
                self._end(self._claims.pop(request.output), outcome)
                advance()
        finally:
            # an interrupt: those that are done stay, the others leave nothing
            for claim in self._claims.values():
                claim.drop()

    def fail(self, error: BarnumError) -> None:
        """Count a sample as failed, and say why where there are others."""
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
            # another finished it first, or took it over
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
