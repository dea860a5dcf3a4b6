"""Finds a sample by the name of its document."""

from __future__ import annotations

import os
import re
from pathlib import Path

from barnum.errors import SampleError
from barnum.files import read_bounded
from barnum.samples.folder import PART, folders_of
from barnum.samples.info import LARGEST_INFO
from barnum.texts import printable, storable

_HASH = re.compile("[0-9a-fA-F]{64}")
# folders that a message lists
_LISTED = 8


def folder_named(place: Path) -> Path:
    """The folder of a sample that is named as ``TREE/DOCUMENT``: where nothing is at ``place``, the only
    folder beside it whose document has that name. ``place`` itself where something is there, or there is no
    such folder.

    Of the folders beside it, nothing but info.txt is read.

    Raises:
        SampleError: there are several; the message lists them.
    """
    # a folder's name that is not there must not become another sample, whatever its document is called
    if os.path.lexists(place) or _HASH.fullmatch(place.name):
        return place
    # as it is written into info.txt
    wanted = {place.name, printable(storable(place.name)).strip()} - {""}
    try:
        folders = folders_of(place.parent)
    except (SampleError, OSError, ValueError):
        return place
    found = [
        folder.name
        for folder in folders
        if not folder.name.endswith(PART) and _document(folder / "info.txt") in wanted
    ]
    if len(found) > 1:
        more = f" and {len(found) - _LISTED} more" if len(found) > _LISTED else ""
        raise SampleError(
            f"{place}: the documents of {len(found)} samples have that name: give one of the folders "
            f"{', '.join(found[:_LISTED])}{more} in {place.parent}"
        )
    return place.parent / found[0] if found else place


def _document(info: Path) -> str | None:
    """The name in an info.txt; None where none can be read."""
    try:
        # what a link leads to is not to be read through us
        if info.is_symlink():
            return None
        text = read_bounded(info, LARGEST_INFO, SampleError).decode("utf-8-sig", errors="replace")
    except (SampleError, OSError):
        return None
    return "".join(text.splitlines()[:1]).strip()
