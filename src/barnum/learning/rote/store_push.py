"""Adds to a store: what is new is staged beside it, and then made part of it in one transaction."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from barnum.errors import ModelError, OutputError
from barnum.learning.rote.counters import Counters
from barnum.learning.rote.learner import RoteSpec
from barnum.learning.rote.runs import LARGEST_RUN, pack_run
from barnum.learning.rote.store_connection import Connection
from barnum.learning.rote.store_layout import MOST_RUNS, ROW, SCHEMA, State
from barnum.learning.rote.store_pending import add_pending
from barnum.models.networks.rote import F64
from barnum.sequences import FEW_RUNS, RunEdges
from barnum.texts import shortened

# seconds after which the server drops what was staged
_STAGED = 24 * 3600
# increments of one piece, which are added in one transaction; the server answers nobody else meanwhile
_ROWS = 1 << 12
# pieces that are staged at a time
_PIECES = 64


@dataclass(frozen=True, slots=True)
class Addition:
    """What is to be added to a store.

    Attributes:
        samples: names of n samples.
        runs: their distinct transfers.
        measured: the escapes (tried, escaped, base) measured when each of them was learnt.
        increments: of the counters, for each length of contexts.
    """

    samples: Sequence[str]
    runs: Sequence[RunEdges]
    measured: Sequence[tuple[F64, F64, F64]]
    increments: Sequence[Counters]


class Push:
    """One push of an addition: call :meth:`stage`, then :meth:`commit`; after an error, :meth:`drop`."""

    def __init__(self, connection: Connection, spec: RoteSpec, addition: Addition) -> None:
        self._connection = connection
        self._spec = spec
        self._addition = addition
        self._pieces = 0
        self._id = uuid.uuid4().hex
        self._staged = connection.keys.staged(self._id)
        self._staged_runs = connection.keys.staged_runs(self._id, len(addition.samples))

    def stage(self) -> None:
        """Write increments and runs beside the store.

        Raises:
            ModelError: the store was learnt with other options or is broken, or a run is too large for it.
        """
        state = self._connection.state(self._connection.client, self._spec)
        self._stage_increments()
        self._stage_runs(whole=(state.runs if state else 0) + len(self._addition.runs) >= FEW_RUNS)

    def commit(self) -> None:
        """Make what was staged part of the store; its increments are pending then.

        Raises:
            ModelError: the store was learnt with other options, is broken or full, or has one of the samples.
            OutputError: the server has dropped what was staged.
        """
        while not self.commit_once():
            add_pending(self._connection, len(self._spec.lengths))

    def drop(self) -> None:
        """Remove what is staged, as far as that is possible; what was committed has other keys by then."""
        with contextlib.suppress(Exception):
            self._connection.client.unlink(self._staged, *self._staged_runs)

    def _stage_increments(self) -> None:
        with self._connection.client.pipeline(transaction=False) as pipe:
            for order, counters in enumerate(self._addition.increments):
                for at in range(0, len(counters), _ROWS):
                    part = slice(at, at + _ROWS)
                    rows = np.empty(len(counters.count[part]), ROW)
                    for name in ("context", "target", "count"):
                        rows[name] = getattr(counters, name)[part]
                    pipe.hset(self._staged, str(self._pieces), bytes([order]) + rows.tobytes())
                    self._pieces += 1
                    if not self._pieces % _PIECES:
                        pipe.expire(self._staged, _STAGED)
                        pipe.execute()
            pipe.expire(self._staged, _STAGED)
            pipe.execute()

    def _stage_runs(self, whole: bool) -> None:
        """``whole``: without stretches of runs, which are needed only while a store has few runs."""
        addition = self._addition
        rows = zip(self._staged_runs, addition.samples, addition.runs, addition.measured, strict=True)
        for key, sample, run, escapes in rows:
            data = pack_run(sample, run, escapes, whole)
            if len(data) > LARGEST_RUN:
                raise ModelError(
                    f"{shortened(sample)}: has too many distinct transfers for a store ({len(data):,} bytes)"
                )
            self._connection.client.set(key, data, ex=_STAGED)

    def commit_once(self) -> bool:
        """Try the transaction once; False if pending increments must be added first, or others were quicker.

        Raises:
            ModelError, OutputError: as commit() does.
        """
        connection, keys, samples = self._connection, self._connection.keys, self._addition.samples
        staged = [self._staged] if self._pieces else []
        with connection.client.pipeline(transaction=True) as pipe:
            pipe.watch(keys.pending, keys.state, keys.runs, *staged, *self._staged_runs)
            state = connection.state(pipe, self._spec)
            for sample in samples:
                if pipe.hexists(keys.runs, sample.encode()):
                    raise ModelError(
                        f"{connection.shown}: {connection.name} has learnt {shortened(sample)} already "
                        "(perhaps from another machine): nothing was added"
                    )
            if pipe.exists(keys.pending):
                return False
            # checked here, as a transaction is not undone if a rename in it fails
            if pipe.exists(*staged, *self._staged_runs) != len(staged) + len(self._staged_runs):
                raise OutputError(f"{connection.shown}: has dropped what was to be added: nothing was added")
            runs_before = state.runs if state else 0
            if runs_before + len(samples) > MOST_RUNS:
                raise ModelError(
                    f"{connection.shown}: {connection.name} would hold more than {MOST_RUNS:,} runs"
                )
            pipe.multi()
            staged_samples = zip(self._staged_runs, samples, strict=True)
            for number, (key, sample) in enumerate(staged_samples, runs_before + 1):
                pipe.hset(keys.runs, sample.encode(), number)
                pipe.rename(key, keys.run(number))
                pipe.persist(keys.run(number))
            if self._pieces:
                pipe.rename(self._staged, keys.pending)
                pipe.persist(keys.pending)
            pipe.set(keys.state, msgspec.json.encode(self._state_after(state)))
            try:
                pipe.execute()
            except connection.errors.WatchError:
                return False
        return True

    def _state_after(self, state: State | None) -> State:
        increments = self._addition.increments
        counted = state.counted if state else [0] * len(increments)
        return State(
            schema=SCHEMA,
            learn=self._spec.learn,
            tokens=self._spec.tokens,
            lengths=self._spec.lengths,
            runs=(state.runs if state else 0) + len(self._addition.samples),
            counted=[
                old + int(new.count.sum(dtype=np.int64)) for old, new in zip(counted, increments, strict=True)
            ],
        )
