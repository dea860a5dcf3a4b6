"""Digests of runs: made while a path goes by, kept in files of some tens of kilobytes, added up to counts."""

from barnum.digests.digest import About, Digest, Program, Taken, Ways
from barnum.digests.file import read_digest, write_digest
from barnum.digests.maker import DigestMaker, digest_of_path

__all__ = [
    "About",
    "Digest",
    "DigestMaker",
    "Program",
    "Taken",
    "Ways",
    "digest_of_path",
    "read_digest",
    "write_digest",
]
