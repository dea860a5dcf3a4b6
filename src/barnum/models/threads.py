"""Threads for work that is split by size alone, so that results depend on no number of threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import torch


def pool(threads: int) -> ThreadPoolExecutor:
    """A pool whose threads each compute alone.

    A product that a library spreads over several threads adds up in an order that depends on the load of the
    machine, and a recurrent network's many small products gain nothing from it. The setting is a thread's
    own.
    """
    return ThreadPoolExecutor(max(1, threads), initializer=torch.set_num_threads, initargs=(1,))
