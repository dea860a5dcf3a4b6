"""The bound on the memory of decoding: a hostile sample ends in an error, before it takes all memory."""

MAX_MEMORY = 4 << 30  # bytes of private memory

TOO_MUCH_MEMORY = f"takes more than {MAX_MEMORY >> 30} GiB of memory: damaged or hostile"
