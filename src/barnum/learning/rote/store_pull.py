"""Reading of a whole store. Nothing in it is trusted: it is on a server that others may write to."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from barnum.errors import InputError, ModelError
from barnum.learning.rote.learner import RoteLearner, fading
from barnum.learning.rote.runs import LARGEST_RUN, changes, unpack_run
from barnum.learning.rote.store_connection import Connection
from barnum.learning.rote.store_layout import FIELD, MOST_COUNTED, State
from barnum.learning.rote.store_pending import add_pending
from barnum.models.networks.rote import RoteNetwork
from barnum.sequences import RunEdges

U64 = NDArray[np.uint64]

LARGEST_COUNT = 0xFFFFFFFF
"""The largest count of a learner."""

_ATTEMPTS = 8
# counters asked for at once
_SCAN = 1 << 12
# memory that the server takes for a hash of counters: about 100 bytes a field, and its table
_BYTES_A_FIELD, _BYTES_A_HASH = 256, 1 << 16
_COUNTS = re.compile(rb"[1-9][0-9]{0,17}(?: [1-9][0-9]{0,17})*")


@dataclass(slots=True)
class Contents:
    """What a store holds: counts, names of samples, distinct transfers of their runs."""

    network: RoteNetwork
    samples: list[str] = field(default_factory=list)
    runs: list[RunEdges] = field(default_factory=list)


def read_store(connection: Connection, learner: RoteLearner) -> Contents | None:
    """All that a store holds, as of one time, for a learner of the same options; None where it is empty.

    Raises:
        InputError: others add to the store all the time.
        ModelError: it was learnt with other options, or is broken.
    """
    for _ in range(_ATTEMPTS):
        state = connection.state(connection.client, learner.spec)
        try:
            if state is None:
                return None
            # nothing changes from here on but with the state
            add_pending(connection, len(learner.spec.lengths))
            contents = read_contents(connection, learner, state)
        except ModelError:
            if connection.state(connection.client, learner.spec) == state:
                raise
            continue
        if connection.state(connection.client, learner.spec) == state:
            return contents
    raise InputError(f"{connection.shown}: others add to {connection.name} all the time: try again later")


def read_contents(connection: Connection, learner: RoteLearner, state: State) -> Contents:
    """What a store of that state holds. Raises ModelError where the two do not agree."""
    keys = connection.keys
    contents = Contents(RoteNetwork(learner.network.config))
    if connection.client.hlen(keys.runs) != state.runs:
        raise connection.broken("it does not hold as many runs as its state says")
    cells = len(contents.network.tried)
    transfers = 0
    for number in range(1, state.runs + 1):
        data = connection.client.getrange(keys.run(number), 0, LARGEST_RUN)
        try:
            sample, run, measured = unpack_run(data, cells)
        except ModelError as error:
            raise connection.broken(f"run {number:,}: {error}") from None
        if not connection.client.hexists(keys.runs, sample.encode()):
            raise connection.broken(f"run {number:,} is of a sample that it does not list")
        if number > 1:
            contents.network.fade(fading(number - 1))
        contents.network.measured(*measured)
        contents.samples.append(sample)
        contents.runs.append(run)
        transfers += run.whole.transfers
    if len(set(contents.samples)) != len(contents.samples):
        raise connection.broken("two of its runs are of one sample")
    if max(state.counted) > transfers:
        raise connection.broken("it counts more transfers than its runs have")
    for order, counted in enumerate(state.counted):
        _read_counters(connection, contents.network, order, counted)
    return contents


def _read_counters(connection: Connection, network: RoteNetwork, order: int, counted: int) -> None:
    """Read the counters of one length of contexts, which add up to ``counted``, into a network."""
    key = connection.keys.counters(order)
    size = connection.client.hlen(key)
    if not size and not counted:
        return
    # values could be of any length: the server tells before they are asked for
    memory = (connection.client.memory_usage(key, samples=0) or 0) if size else 0
    if not 0 < size <= counted or memory > _BYTES_A_HASH + size * _BYTES_A_FIELD:
        raise connection.broken(f"counters of order {order} are missing, too many or too large")
    context, target, count = _distinct(*_scan(connection, order, size))
    # fields of other lengths are not among those found
    if len(context) != size or not context[0]:
        raise connection.broken(f"it has fields of order {order} that are no counters")
    # each is small enough to be added up in 64 bits, once the sum is known to be about right
    if float(count.sum(dtype=np.float64)) > 2.0 * MOST_COUNTED or int(count.sum()) != counted:
        raise connection.broken(
            f"counters of order {order} do not add up: the server has evicted some, or others wrote to it"
        )
    begin = np.flatnonzero(changes(context))
    first = np.append(begin, size).astype(np.uint64)
    network.counts.add_counts(
        order, context[begin], first, target, np.minimum(count, LARGEST_COUNT).astype(np.uint32)
    )


def _scan(connection: Connection, order: int, size: int) -> tuple[U64, U64, U64]:
    """Context, target and count u64[q] of counters, some of which may come twice."""
    key = connection.keys.counters(order)
    fields, counts = [np.zeros(0, FIELD)], [np.zeros(0, np.uint64)]
    cursor, met = 0, 0
    # a scan comes to an end long before
    for _ in range(16 + size):
        cursor, some = connection.client.hscan(key, cursor, match=b"?" * FIELD.itemsize, count=_SCAN)
        if some:
            values = b" ".join(some.values())
            if not _COUNTS.fullmatch(values):
                raise connection.broken(f"a counter of order {order} is no count")
            fields.append(np.frombuffer(b"".join(some), FIELD))
            counts.append(np.fromstring(values, np.uint64, sep=" "))
            met += len(some)
        if not cursor or met > 4 * size + _SCAN:
            break
    rows = np.concatenate(fields)
    native = (rows["context"].astype(np.uint64), rows["target"].astype(np.uint64))
    return *native, np.concatenate(counts)


def _distinct(context: U64, target: U64, count: U64) -> tuple[U64, U64, U64]:
    """Counters sorted, each once."""
    order = np.lexsort((target, context))
    order = order[changes(context[order], target[order])]
    return context[order], target[order], count[order]
