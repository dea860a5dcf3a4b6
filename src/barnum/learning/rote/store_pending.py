"""Increments that are part of a store, and not added to its counters yet."""

from __future__ import annotations

import contextlib

import numpy as np

from barnum.learning.rote.store_connection import Connection
from barnum.learning.rote.store_layout import FIELD, ROW

# what is read is no larger than this, whoever wrote it
_LARGEST_PIECE = 1 + (1 << 16) * ROW.itemsize


def add_pending(connection: Connection, orders: int) -> None:
    """Add all increments that are pending to counters of ``orders`` lengths of contexts.

    Raises:
        ModelError: they are broken.
    """
    while True:
        # an error of this kind: another machine was quicker
        with contextlib.suppress(connection.errors.WatchError):
            if not add_piece(connection, orders):
                return


def add_piece(connection: Connection, orders: int) -> bool:
    """Add the last piece of what is pending and remove it, in one transaction; False where there is none."""
    pending = connection.keys.pending
    with connection.client.pipeline(transaction=True) as pipe:
        pipe.watch(pending)
        left = pipe.hlen(pending)
        if not left:
            return False
        piece = str(left - 1)
        small = pipe.hstrlen(pending, piece) <= _LARGEST_PIECE
        data: bytes = (pipe.hget(pending, piece) if small else None) or b"\xff"
        order = data[0]
        fits = order < orders and len(data) % ROW.itemsize == 1
        rows = np.frombuffer(data[1:] if fits else b"", ROW)
        pipe.multi()
        if not len(rows) or not bool((rows["context"] > 0).all() and (rows["count"] > 0).all()):
            # what was read is of one time only if nothing has changed
            pipe.exists(pending)
            pipe.execute()
            raise connection.broken("increments that are pending are none")
        counters, size = connection.keys.counters(order), FIELD.itemsize
        for at, count in zip(range(1, len(data), ROW.itemsize), rows["count"].tolist(), strict=True):
            pipe.execute_command("HINCRBY", counters, data[at : at + size], count)
        pipe.hdel(pending, piece)
        pipe.execute()
    return True
