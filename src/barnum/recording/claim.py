"""Which run makes a sample: a `.part` folder names its owner, so that several runs can share one tree.

Whether an owner still runs is known only where this process can see it (see
:mod:`owner <barnum.samples.owner>`). An owner on another machine, in another container or from before a
restart keeps its claim until --force.
"""

from __future__ import annotations

import ctypes
import errno
import os
import secrets
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path

from barnum.samples.owner import Owner, locked, owner_text

_OWNER = "owner"
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


class Taken(Exception):
    """Another run makes this sample; the message says which."""


def claim(root: Path, name: str, force: bool) -> Path:
    """Claim the sample ``name``, and return its folder ROOT/NAME.part.

    A claim is taken over if its owner has ended, or if it names no owner.

    Args:
        root: folder of the samples.
        name: folder name of the sample.
        force: also take over a claim whose owner is elsewhere and may still run.

    Raises:
        Taken: its owner runs, or is elsewhere.
        OSError: ``root`` cannot be written.
    """
    part = root / f"{name}.part"
    fresh = root / f".{name}.{secrets.token_hex(4)}"
    fresh.mkdir()
    try:
        (fresh / _OWNER).write_text(f"{Owner.mine().text()}\n")
        with locked(root):
            if os.path.lexists(part):
                owner = Owner.parse(owner_text(part / _OWNER))
                state = owner.state() if owner else "dead"
                if owner and state == "alive":
                    raise Taken(f"process {owner.pid} records it now")
                if owner and state == "elsewhere" and not force:
                    raise Taken(
                        f"process {owner.pid} on {owner.host} (another machine or container, or this one "
                        "before a restart) records it; if that is no longer so, use --force"
                    )
                old = root / f".{name}.{secrets.token_hex(4)}"
                part.rename(old)
                remove(old)
            fresh.rename(part)
    except BaseException:
        remove(fresh)
        raise
    return part


def mark_unfinished(part: Path) -> None:
    """Empty a `.part` folder except for its owner: it stays as the mark of a run that was cut off."""
    with suppress(OSError):
        for entry in part.iterdir():
            if entry.name != _OWNER:
                remove(entry)


def publish(finished: Path, final: Path, replace: bool) -> bool:
    """Rename a finished folder to ``final``; False if that exists and ``replace`` is not set.

    A folder that is replaced is moved to where the new one was, or beside it: in one step where the system
    can exchange two folders, else in two.
    """
    try:
        finished.rename(final)
        return True
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise
    if not replace:
        return False
    if not _exchange(finished, final):
        beside = finished.with_name("replaced")
        final.rename(beside)
        finished.rename(final)
    return True


def remove(folder: Path) -> None:
    """Remove a folder into which a hostile program may have written; what cannot be removed is left."""
    if not os.path.lexists(folder):
        return
    if not folder.is_dir() or folder.is_symlink():
        folder.unlink(missing_ok=True)
        return
    with suppress(OSError, RecursionError):
        shutil.rmtree(folder)
    if os.path.lexists(folder):
        # folders without permissions, or nested more deeply than Python's stack allows
        for command in (["chmod", "-R", "u+rwx", "--", str(folder)], ["rm", "-rf", "--", str(folder)]):
            subprocess.run(command, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _exchange(first: Path, second: Path) -> bool:
    """Exchange two folders in one step; False if the system cannot."""
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "renameat2"):
        return False
    result = libc.renameat2(
        _AT_FDCWD, os.fsencode(first), _AT_FDCWD, os.fsencode(second), ctypes.c_uint(_RENAME_EXCHANGE)
    )
    return bool(result == 0)
