"""Folders of evaluations: which files there are, and how each is opened and written."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from barnum.errors import EvaluationError
from barnum.evaluations.files import Evaluation, Writer
from barnum.evaluations.header import Header, split_name
from barnum.evaluations.parquet import EvaluationWriter, ParquetEvaluation
from barnum.files import open_regular


def open_evaluation(file: Path) -> Evaluation:
    """Open an evaluation file; its first bytes tell which format it has.

    Raises:
        EvaluationError: it is missing, broken, or of neither format.
    """
    try:
        with open_regular(file, follow=True) as descriptor:
            magic = os.read(descriptor, 4)
    except OSError as error:
        raise EvaluationError(f"{file}: cannot be read ({error.strerror or error})") from None
    if magic == b"PAR1":
        return ParquetEvaluation(file)
    if magic[:2] == b"\x1f\x8b":
        from barnum.evaluations.gz import GzEvaluation

        return GzEvaluation(file)
    if not magic:
        raise EvaluationError(f"{file}: is empty: evaluate anew, or remove it")
    raise EvaluationError(f"{file}: is neither Parquet nor gzip, so no evaluation: remove it")


def writer_for(format: str, file: Path, header: Header, calls: Mapping[int, str] | None = None) -> Writer:
    """A writer of evaluations.

    Args:
        format: one of FORMATS.
        file: to be written.
        header: of the file; gz has none.
        calls: names of targets by token, where these are calls; gz keeps none.
    """
    if format == "gz":
        from barnum.evaluations.gz import GzEvaluationWriter

        return GzEvaluationWriter(file)
    return EvaluationWriter(file, header, calls)


def find_evaluations(folder: Path) -> list[Path]:
    """Evaluation files of a folder, by name.

    Raises:
        EvaluationError: there is no such folder; or it holds no evaluation, another file, or a sample twice
            (in both formats, or with a label that it has no more).
    """
    if not folder.is_dir():
        raise EvaluationError(f"{folder}: no such folder")
    files = [file for file in sorted(folder.iterdir()) if not file.name.startswith(".")]
    by_sample: dict[str, Path] = {}
    for file in files:
        other = by_sample.setdefault(split_name(file)[1], file)
        if other != file:
            raise EvaluationError(
                f"{folder}: holds both {other.name} and {file.name}, which are one sample: remove one of them"
            )
    if not files:
        raise EvaluationError(f"{folder}: holds no evaluation: run `barnum lstm --eval-dir {folder} …` first")
    return files
