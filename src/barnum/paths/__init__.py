"""Paths of basic blocks: decode, read, write and filter them."""
