"""Threads for work that is split by size alone, so that results depend on no number of threads."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import torch


def pool(threads: int) -> ThreadPoolExecutor:
    """A pool whose threads each compute alone.

    A product that a library spreads over several threads adds up in an order that depends on the load of the
    machine, and a recurrent network's many small products gain nothing from it. The setting is a thread's
    own.
    """
    return ThreadPoolExecutor(max(1, threads), initializer=torch.set_num_threads, initargs=(1,))


def set_up(seed: int) -> None:
    """Make torch's results on a CPU depend on nothing but the seed; see threads.py.

    Its switch for deterministic algorithms is not needed where each thread computes alone, and takes seconds.
    """
    torch.set_num_threads(1)
    torch.manual_seed(seed)


def default_device() -> torch.device:
    """The accelerator of this process, or the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
    return torch.device("cpu")
