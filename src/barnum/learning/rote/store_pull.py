"""Reads a whole store. Nothing in it is trusted, as others may write to the server."""

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
"""The largest count that a learner keeps."""

_ATTEMPTS = 8
# counters that are asked for at a time
_SCAN = 1 << 12
# bounds on the memory of the server for a hash of counters, which takes about 100 bytes a field, and a table
_BYTES_A_FIELD, _BYTES_A_HASH = 256, 1 << 16
_COUNTS = re.compile(rb"[1-9][0-9]{0,17}(?: [1-9][0-9]{0,17})*")


@dataclass(slots=True)
class Contents:
    """What a store holds: counts, names of samples, and the distinct transfers of their runs."""

    network: RoteNetwork
    samples: list[str] = field(default_factory=list)
    runs: list[RunEdges] = field(default_factory=list)


def read_store(connection: Connection, learner: RoteLearner) -> Contents | None:
    """All that a store holds at one time, for a learner with the same options; None if it is empty.

    Raises:
        InputError: others keep adding to the store.
        ModelError: it was learnt with other options, or is broken.
    """
    for _ in range(_ATTEMPTS):
        state = connection.state(connection.client, learner.spec)
        try:
            if state is None:
                return None
            # from here on, whatever changes the store also changes its state
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
    """What a store with this state holds.

    Raises:
        ModelError: the state and the content do not agree.
    """
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
    # values could have any length, so the server is asked for their size first
    memory = (connection.client.memory_usage(key, samples=0) or 0) if size else 0
    if not 0 < size <= counted or memory > _BYTES_A_HASH + size * _BYTES_A_FIELD:
        raise connection.broken(f"counters of order {order} are missing, too many or too large")
    context, target, count = _distinct(*_scan(connection, order, size))
    # the scan leaves out fields of another length
    if len(context) != size or not context[0]:
        raise connection.broken(f"it has fields of order {order} that are no counters")
    # as floats first, as the sum may exceed 64 bits
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
    """Context, target and count u64[q] of the counters; some may come twice."""
    key = connection.keys.counters(order)
    fields, counts = [np.zeros(0, FIELD)], [np.zeros(0, np.uint64)]
    cursor, read = 0, 0
    # a scan ends long before that, unless the server is hostile
    for _ in range(16 + size):
        cursor, page = connection.client.hscan(key, cursor, match=b"?" * FIELD.itemsize, count=_SCAN)
        if page:
            values = b" ".join(page.values())
            if not _COUNTS.fullmatch(values):
                raise connection.broken(f"a counter of order {order} is no count")
            fields.append(np.frombuffer(b"".join(page), FIELD))
            counts.append(np.fromstring(values, np.uint64, sep=" "))
            read += len(page)
        if not cursor or read > 4 * size + _SCAN:
            break
    rows = np.concatenate(fields)
    native = (rows["context"].astype(np.uint64), rows["target"].astype(np.uint64))
    return *native, np.concatenate(counts)


def _distinct(context: U64, target: U64, count: U64) -> tuple[U64, U64, U64]:
    """The counters sorted by context and target, each once."""
    order = np.lexsort((target, context))
    order = order[changes(context[order], target[order])]
    return context[order], target[order], count[order]
