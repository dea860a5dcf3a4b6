"""Runs commands for the demo, and says what they do and how long each took."""

from __future__ import annotations

import hashlib
import json
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from documents.make import Document, path_of

from barnum.texts import shortened

ROOT = Path(__file__).parent.parent
BARNUM = Path(sys.executable).with_name("barnum")


def sample_of(folder: Path, document: Document) -> str:
    """Name of the folder of a document's recording."""
    return hashlib.sha256(path_of(folder, document).read_bytes()).hexdigest()


class StepError(Exception):
    """A command failed."""


class Steps:
    """Runs commands one after the other, says what they do and how long each took."""

    def __init__(self) -> None:
        self.times: list[tuple[str, float]] = []

    def title(self, text: str) -> float:
        """Announce a step."""
        print(f"\n=== {len(self.times) + 1}. {text}", flush=True)
        return time.monotonic()

    def done(self, text: str, start: float) -> None:
        """Note how long a step took."""
        self.times.append((text, time.monotonic() - start))
        print(f"    {text}: {self.times[-1][1]:.0f} s", flush=True)

    def barnum(self, *arguments: str | Path, quiet: bool = False) -> None:
        """Run barnum; its output and progress bars go to the terminal, its output nowhere when quiet."""
        words = [str(argument) for argument in arguments]
        print("$ .venv/bin/barnum " + shlex.join(words), flush=True)
        stdout = subprocess.DEVNULL if quiet else None
        code = subprocess.run([str(BARNUM), *words], check=False, stdout=stdout, cwd=ROOT).returncode
        if code:
            raise StepError(f"barnum {words[0]} ended with exit code {code}; what it said is above")

    def lines(self, *arguments: str | Path) -> list[dict[str, Any]]:
        """Run barnum, which prints a JSON object a line, and give those that are about a document."""
        words = [str(argument) for argument in arguments]
        print("$ .venv/bin/barnum " + shortened(shlex.join(words), 200), flush=True)
        done = subprocess.run([str(BARNUM), *words], check=False, stdout=subprocess.PIPE, cwd=ROOT)
        found = [json.loads(line) for line in done.stdout.splitlines()]
        errors = [line["error"] for line in found if "error" in line]
        if done.returncode or errors:
            raise StepError(f"barnum {words[0]} ended with {done.returncode}: {'; '.join(errors)[:500]}")
        # the last one may be about all of them: whether they are still like those learnt
        return [line for line in found if "exchangeability" not in line]

    def check(self, detector: Path, documents: Path, *options: str | Path) -> list[dict[str, Any]]:
        """What barnum check says of documents."""
        return self.lines("check", "--json", *options, detector, documents)

    def score(
        self,
        detector: Path,
        folders: dict[str, Path],
        documents: list[Document],
        sets: Path,
        *options: str,
        malicious: bool = False,
    ) -> list[dict[str, Any]]:
        """What barnum score says of the harmless documents that were held out, and of the abusive ones."""
        held_out = sets.read_text().split("[b_test]\n", 1)[1].split("[", 1)[0].split()
        wanted = [Path(folder) for folder in held_out]
        if malicious:
            wanted += [
                folders["traces"] / sample_of(folders["documents"], each)
                for each in documents
                if not each.benign
            ]
        return self.lines("score", *options, "--bin-dir", folders["extract"], detector, *wanted)
