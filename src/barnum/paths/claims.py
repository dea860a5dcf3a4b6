"""Who makes a result: several processes and machines may work on one tree.

``RESULT.part`` is created exclusively by the one that makes RESULT, and says who that is: ``host pid
start-time token``. The data grows in ``.RESULT.token`` beside it, which nobody else writes, and is renamed to
RESULT when it is whole. Nobody touches the claim of another, but for --force, which takes over a claim unless
its owner is seen to run on this machine; an owner elsewhere that was robbed notices when it is done, and
throws its data away.
"""

from __future__ import annotations

import os
import re
import secrets
import socket
from pathlib import Path as FilePath

from barnum.errors import OutputError, OutputExistsError

_OWNER = re.compile(r"(\S+) ([0-9]{1,10}) ([0-9]{1,20}) ([0-9a-f]{16})\n", re.ASCII)


class Claim:
    """The right to make one result; end it with :meth:`finish` or :meth:`drop`."""

    def __init__(self, result: FilePath, force: bool = False) -> None:
        """Claim result.

        Raises OutputExistsError where it is there or claimed already, OutputError where its folder cannot be
        written.
        """
        self.result = result
        self.part = result.with_name(f"{result.name}.part")
        token = secrets.token_hex(8)
        self.data = result.with_name(f".{result.name}.{token}")
        self._force = force
        self._text = f"{_host()} {os.getpid()} {start_of(os.getpid())} {token}\n"
        if result.exists() and not force:
            raise OutputExistsError(f"{result}: is there already: use --force to make it again")
        try:
            self._take()
        except OSError as error:
            raise OutputError(f"{self.part}: cannot be written: {error.strerror or error}") from None

    def finish(self) -> None:
        """Give the data its name. Raises OutputExistsError where another took the claim over, OutputError."""
        try:
            if not self._is_ours():
                self.data.unlink(missing_ok=True)
                raise OutputExistsError(f"{self.part}: was taken over by another while this result was made")
            if self.result.exists() and not self._force:
                self.drop()
                raise OutputExistsError(
                    f"{self.result}: appeared while it was made: use --force to replace it"
                )
            self.data.replace(self.result)
            self.part.unlink(missing_ok=True)
        except OSError as error:
            raise OutputError(f"{self.result}: cannot be written: {error.strerror or error}") from None

    def drop(self) -> None:
        """Leave nothing behind. Others' claims stay as they are."""
        self.data.unlink(missing_ok=True)
        if self._is_ours():
            self.part.unlink(missing_ok=True)

    def _take(self) -> None:
        try:
            handle = os.open(self.part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
        except FileExistsError:
            self._take_over()
            return
        try:
            os.write(handle, self._text.encode())
        except OSError:
            self.part.unlink(missing_ok=True)
            raise
        finally:
            os.close(handle)

    def _take_over(self) -> None:
        owner = _OWNER.fullmatch(_head(self.part))
        alive = owner is not None and owner[1] == _host() and start_of(int(owner[2])) == int(owner[3])
        if alive or not self._force:
            assert owner or not alive
            raise OutputExistsError(f"{self.part}: {_why(owner, alive)}")
        # replaced in one move: of two that take over at once, the later one owns it and the earlier one
        # sees that
        self.data.write_text(self._text)
        self.data.replace(self.part)
        if owner:
            self.result.with_name(f".{self.result.name}.{owner[4]}").unlink(missing_ok=True)

    def _is_ours(self) -> bool:
        return _head(self.part) == self._text


def _why(owner: re.Match[str] | None, alive: bool) -> str:
    if owner is None:
        return "is there already; who makes it is not known: use --force to take it over"
    if alive:
        return f"process {owner[2]} of this machine is making it: wait for it, or end it"
    if owner[1] == _host():
        return f"was left by process {owner[2]} of this machine, which is gone: use --force to take it over"
    return f"process {owner[2]} on {owner[1]} is making it: if that is gone, use --force to take it over"


def _host() -> str:
    return socket.gethostname().replace(" ", "-") or "unknown"


def _head(file: FilePath) -> str:
    try:
        with file.open("rb") as raw:
            return raw.read(1024).decode("utf-8", errors="replace")
    except OSError:
        return ""


def start_of(pid: int) -> int:
    """When a process of this machine began, in clock ticks since boot; -1 where there is none."""
    try:
        # the name in the second field may hold anything, so count from its closing parenthesis
        return int(FilePath(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return -1
