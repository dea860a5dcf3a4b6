"""How much memory decoding may take: a hostile sample is to end with a message, not with the machine."""

from __future__ import annotations

import resource

MAX_MEMORY = 4 << 30  # bytes of private memory

TOO_MUCH_MEMORY = f"takes more than {MAX_MEMORY >> 30} GiB of memory: damaged or hostile"


def limit_memory() -> None:
    """Let this process take at most MAX_MEMORY bytes: then Python raises MemoryError."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limit = MAX_MEMORY if hard == resource.RLIM_INFINITY else min(MAX_MEMORY, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))
