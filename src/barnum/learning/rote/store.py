"""Counts that several machines share: what rote learners have learnt, on a Redis server.

docs/formats.md describes what a store holds. A push is all or nothing: it is staged beside the store
(:mod:`store_push <barnum.learning.rote.store_push>`), then one transaction makes it part of the store. Its
increments are then pending; whoever uses the store next adds them piece by piece
(:mod:`store_pending <barnum.learning.rote.store_pending>`). A pull
(:mod:`store_pull <barnum.learning.rote.store_pull>`) reads the store again if something was pushed meanwhile.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np

from barnum.errors import InputError, ModelError, OutputError
from barnum.learning.rote.counters import FORGOTTEN, Counters
from barnum.learning.rote.learner import RoteLearner
from barnum.learning.rote.runs import LONGEST_NAME
from barnum.learning.rote.store_connection import Connection
from barnum.learning.rote.store_pending import add_pending
from barnum.learning.rote.store_pull import LARGEST_COUNT, read_store
from barnum.learning.rote.store_push import Addition, Push
from barnum.texts import is_storable, quoted, shortened

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a learner knew at one time.

    Attributes:
        counters: for each length of contexts.
        samples: names of the samples that it had learnt.
        measured: number of those that it had learnt itself.
    """

    counters: tuple[Counters, ...]
    samples: tuple[str, ...]
    measured: int


class RedisStore:
    """The store ``name`` of the Redis server at ``url`` (redis://, rediss:// or unix://).

    The connection is opened at the first use. Close it with close(), or use the store in a ``with``.

    Raises:
        InputError: the URL or the name is not valid.
        MissingPackageError: the package redis is not installed.
    """

    def __init__(self, url: str, name: str = "barnum") -> None:
        self._connection = Connection(url, name)

    def __enter__(self) -> RedisStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._connection.client.close()

    @property
    def shown(self) -> str:
        """The server as in messages: the URL without user, password and options."""
        return self._connection.shown

    @staticmethod
    def snapshot(learner: RoteLearner) -> Snapshot:
        """What a learner knows now, to find out later what it has learnt since. Takes 20 bytes a counter.

        Raises:
            ModelError: the learner has forgotten contexts.
        """
        _check_whole(learner)
        orders = range(len(learner.spec.lengths))
        counters = tuple(Counters.of(learner.network, order) for order in orders)
        return Snapshot(counters, tuple(learner.samples), len(learner.measured))

    def pull(self, learner: RoteLearner) -> int:
        """Copy all that the store holds into a learner without samples; returns the number of samples.

        After an error the learner is unchanged.

        Raises:
            InputError: the server cannot be reached, needs a password, or does not allow it; or others keep
                adding to the store.
            ModelError: the store was learnt with other options or is broken, or the learner has learnt
                something already.
        """
        _check_whole(learner)
        if learner.samples or learner.contexts:
            raise ModelError("only a learner that has learnt nothing yet takes over what a store holds")
        with self._connection.talking(InputError):
            contents = read_store(self._connection, learner)
        if contents is None:
            return 0
        learner.network, learner.samples, learner.runs = contents.network, contents.samples, contents.runs
        learner.network.settle()
        _log.info("%s: %s runs were taken over", self.shown, f"{len(contents.runs):,}")
        return len(contents.runs)

    def push(self, learner: RoteLearner, before: Snapshot) -> None:
        """Add what a learner has learnt since a snapshot of it, all of it or nothing.

        Raises:
            OutputError: the server cannot be reached, is full, needs a password, or does not allow it. The
                message says whether the samples were added, or how to find out.
            ModelError: the store was learnt with other options, is broken, or has learnt one of the samples;
                or what the learner has learnt since the snapshot is not whole runs that it learnt itself.
        """
        addition = _since(learner, before)
        if not addition.samples:
            return
        talking = self._connection.talking
        push = Push(self._connection, learner.spec, addition)
        try:
            with talking(OutputError, "nothing was added"):
                push.stage()
            with talking(OutputError, "whether these samples were added shows the next command"):
                push.commit()
        except BaseException:
            push.drop()
            raise
        # otherwise whoever uses the store next would have to do it
        with talking(OutputError, "the samples were added; the next command completes their counts"):
            add_pending(self._connection, len(learner.spec.lengths))
        _log.info("%s: %s runs were added", self.shown, f"{len(addition.runs):,}")


def _check_whole(learner: RoteLearner) -> None:
    if learner.forgotten or learner.network.config.forgotten:
        raise ModelError(FORGOTTEN)


def _since(learner: RoteLearner, before: Snapshot) -> Addition:
    """What a learner has learnt since a snapshot.

    Raises:
        ModelError: it was not learnt by this learner, is not whole runs, or contexts were forgotten.
    """
    _check_whole(learner)
    samples = _samples_since(learner, before)
    increments = [
        Counters.of(learner.network, order).since(counters) for order, counters in enumerate(before.counters)
    ]
    runs = learner.runs[len(before.samples) :]
    transfers = sum(run.whole.transfers for run in runs)
    # a counter at its maximum does not show what was added
    full = (Counters.of(learner.network, 0).count == LARGEST_COUNT).any()
    if not full and int(increments[0].count.sum(dtype=np.int64)) != transfers:
        raise ModelError("the learner has counted part of a run that it did not finish: learn anew")
    return Addition(samples, runs, learner.measured[before.measured :], increments)


def _samples_since(learner: RoteLearner, before: Snapshot) -> list[str]:
    """The samples that a learner has learnt itself since a snapshot.

    Raises:
        ModelError: it has not learnt them itself, has learnt one twice, or a name cannot be stored.
    """
    learnt_before = len(before.samples)
    samples = learner.samples[learnt_before:]
    own = len(learner.measured) - before.measured == len(samples) == len(learner.runs) - learnt_before
    if tuple(learner.samples[:learnt_before]) != before.samples or not own:
        raise ModelError("only what a learner has learnt itself, since it was as given, can be shared")
    if len(set(learner.samples)) != len(learner.samples):
        twice = next(name for name in samples if learner.samples.count(name) > 1)
        raise ModelError(f"{shortened(twice)} was learnt twice: that cannot be shared")
    for name in samples:
        if not is_storable(name) or len(name.encode()) > LONGEST_NAME:
            raise ModelError(f"{quoted(name)} is no name of a sample that can be shared")
    return samples
