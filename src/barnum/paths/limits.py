"""How much memory decoding may take: a hostile sample is to end with a message, not with the machine."""

MAX_MEMORY = 4 << 30  # bytes of private memory

TOO_MUCH_MEMORY = f"takes more than {MAX_MEMORY >> 30} GiB of memory: damaged or hostile"
