"""Who makes a result: several processes and machines may work on one tree.

``RESULT.part`` is created exclusively by the one that makes RESULT, and says who that is: the line of
samples.owner, then a token. The data grows in ``.RESULT.token`` beside it, which nobody else writes, and is
renamed to RESULT when it is whole. A claim whose owner is seen to be gone is taken over, one whose owner
lives is left alone, one whose owner is out of sight (another machine, another container) is taken over with
--force only. An owner that was robbed so notices when it is done, and throws its data away.
"""

from __future__ import annotations

import os
import re
import secrets
from pathlib import Path as FilePath

from barnum.errors import OutputError, OutputExistsError
from barnum.samples.owner import Owner, locked, owner_text

_TOKEN = re.compile(r"\S.* ([0-9a-f]{16})\n", re.ASCII)


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
        self._text = f"{Owner.mine().text()} {token}\n"
        self._refuse_result()
        try:
            self._take()
            # its maker may have finished between the first look and the claim
            try:
                self._refuse_result()
            except OutputExistsError:
                self.drop()
                raise
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

    def _refuse_result(self) -> None:
        if self.result.exists() and not self._force:
            raise OutputExistsError(f"{self.result}: is there already: use --force to make it again")

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
        # of several on this machine that see a dead owner, the first that holds the lock is the new one
        with locked(self.part.parent):
            text = owner_text(self.part)
            owner = Owner.parse(text)
            state = owner.state() if owner else "unknown"
            if state == "alive" or (state != "dead" and not self._force):
                raise OutputExistsError(f"{self.part}: {_why(owner)}")
            # replaced in one move: of two machines that take over at once, the later one owns it and the
            # earlier one sees that
            self.data.write_text(self._text)
            self.data.replace(self.part)
        if token := _TOKEN.fullmatch(text):
            self.result.with_name(f".{self.result.name}.{token[1]}").unlink(missing_ok=True)

    def _is_ours(self) -> bool:
        return owner_text(self.part) == self._text


def _why(owner: Owner | None) -> str:
    if owner is None:
        return "is there already; who makes it is not known: use --force to take it over"
    if owner.state() == "elsewhere":
        return (
            f"process {owner.pid} on {owner.host} is making it: if that is gone, use --force to take it over"
        )
    return f"process {owner.pid} of this machine is making it: wait for it, or end it"
