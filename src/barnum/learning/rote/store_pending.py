"""Pending increments: they are part of a store, but not yet added to its counters."""

from __future__ import annotations

import contextlib

import numpy as np

from barnum.learning.rote.store_connection import Connection
from barnum.learning.rote.store_layout import FIELD, ROW

# bytes of a piece; a larger one is not read
_LARGEST_PIECE = 1 + (1 << 16) * ROW.itemsize


def add_pending(connection: Connection, orders: int) -> None:
    """Add all pending increments to the counters; ``orders`` is the number of lengths of contexts.

    Raises:
        ModelError: the increments are broken.
    """
    while True:
        # after an error of this class, which says that another machine was quicker, try again
        with contextlib.suppress(connection.errors.WatchError):
            if not add_piece(connection, orders):
                return


def add_piece(connection: Connection, orders: int) -> bool:
    """Add the last pending piece and remove it, in one transaction; False if there is none.

    Raises:
        ModelError: the piece is broken.
    """
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
            # raises a WatchError if something changed meanwhile, as what was read may then be of two times
            pipe.exists(pending)
            pipe.execute()
            raise connection.broken("increments that are pending are none")
        counters, size = connection.keys.counters(order), FIELD.itemsize
        for at, count in zip(range(1, len(data), ROW.itemsize), rows["count"].tolist(), strict=True):
            pipe.execute_command("HINCRBY", counters, data[at : at + size], count)
        pipe.hdel(pending, piece)
        pipe.execute()
    return True
