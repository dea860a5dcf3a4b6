"""Which process makes a result: several processes and machines may work on one tree.

The process that makes RESULT creates ``RESULT.part`` exclusively. This file names its owner, in the format of
samples.owner, and a token. The data is written to ``.RESULT.token`` beside it, which no other process writes,
and is renamed to RESULT when it is complete. A claim is taken over if its owner has ended, and left alone if
its owner runs. If the owner cannot be seen (on another machine, in another container) the claim is taken over
only with --force. An owner that lost its claim so notices when it is done, and deletes its data.
"""

from __future__ import annotations

import os
import re
import secrets
from pathlib import Path as FilePath

from barnum.errors import OutputError, OutputExistsError
from barnum.paths.preprocess import beside
from barnum.samples.folder import DIGEST
from barnum.samples.owner import Owner, locked, owner_text

_TOKEN = re.compile(r"\S.* ([0-9a-f]{16})\n", re.ASCII)


class Claim:
    """The right to make one result; end it with :meth:`finish` or :meth:`drop`."""

    def __init__(self, result: FilePath, force: bool = False) -> None:
        """Claim ``result``; with ``force`` even if it exists, or if the owner of its claim cannot be seen.

        Raises:
            OutputExistsError: it exists, or is claimed by another process.
            OutputError: its folder cannot be written.
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
            # another process may have finished it between the check above and the claim
            try:
                self._refuse_result()
            except OutputExistsError:
                self.drop()
                raise
        except OSError as error:
            raise OutputError(f"{self.part}: cannot be written: {error.strerror or error}") from None

    def finish(self) -> None:
        """Rename the data to the result.

        Raises:
            OutputExistsError: another process took the claim over, or the result exists by now (without
                ``force``). The data is deleted.
            OutputError: the result cannot be written.
        """
        try:
            if not self._is_ours():
                self.drop()
                raise OutputExistsError(f"{self.part}: was taken over by another while this result was made")
            if self.result.exists() and not self._force:
                self.drop()
                raise OutputExistsError(
                    f"{self.result}: appeared while it was made: use --force to replace it"
                )
            self._put_in_place(beside(self.data), self.result.with_name(DIGEST))
            self.part.unlink(missing_ok=True)
        except OSError as error:
            raise OutputError(f"{self.result}: cannot be written: {error.strerror or error}") from None

    def _put_in_place(self, made: FilePath, digest: FilePath) -> None:
        """The data and the digest that was made with it; a digest never lies beside the path of another."""
        if made.exists() and not self.result.exists():
            # the digest first: it is of use without the path
            made.replace(digest)
            self.data.replace(self.result)
            return
        digest.unlink(missing_ok=True)
        self.data.replace(self.result)
        if made.exists():
            made.replace(digest)

    def drop(self) -> None:
        """Delete the data, and the claim unless another process has taken it over."""
        self.data.unlink(missing_ok=True)
        beside(self.data).unlink(missing_ok=True)
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
        # if several processes of this machine see a dead owner, the first to hold the lock takes over
        with locked(self.part.parent):
            text = owner_text(self.part)
            owner = Owner.parse(text)
            state = owner.state() if owner else "unknown"
            if state == "alive" or (state != "dead" and not self._force):
                raise OutputExistsError(f"{self.part}: {_why(owner)}")
            # replaced in one step: if two machines take over at once, the later one owns the claim, and the
            # earlier one notices it
            self.data.write_text(self._text)
            self.data.replace(self.part)
        if token := _TOKEN.fullmatch(text):
            old = self.result.with_name(f".{self.result.name}.{token[1]}")
            for file in (old, beside(old)):
                file.unlink(missing_ok=True)

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
