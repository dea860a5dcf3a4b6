"""Times the classifier on many evaluation files, as a command of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from barnum import __version__
from barnum.evaluations.header import SCHEMA, Calibration, Header, file_name
from barnum.evaluations.parquet import EvaluationWriter

BARNUM = Path(sys.executable).with_name("barnum")
# files that differ; the others are links to them
DISTINCT = 20


def bench_verdicts(folder: Path, files: int = 1_000, predictions: int = 100_000) -> dict[str, float]:
    """``barnum classifier`` on so many files, without and then with its cache."""
    print(f"\nclassifier: {files:,} evaluation files of {predictions:,} predictions each", flush=True)
    evaluations = folder / "evaluations"
    shutil.rmtree(evaluations, ignore_errors=True)
    evaluations.mkdir(parents=True)
    _write(evaluations, files, predictions)
    environment = {**os.environ, "XDG_CACHE_HOME": str(folder / "cache")}
    shutil.rmtree(folder / "cache", ignore_errors=True)
    anew = _timed(["-i", str(evaluations)], environment)
    _timed([str(evaluations)], environment)
    again = _timed([str(evaluations)], environment)
    shutil.rmtree(evaluations)
    total = files * predictions
    print(
        f"classifier: {anew:.1f} s ({total / anew / 1e6:,.1f} M predictions/s, {1000 * anew / files:.1f} ms "
        f"a file); {again:.1f} s where the cache knows the files"
    )
    return {"classifier_s": anew, "classifier_predictions_s": total / anew, "classifier_cached_s": again}


def _timed(arguments: list[str], environment: dict[str, str]) -> float:
    began = time.perf_counter()
    subprocess.run(
        [str(BARNUM), "classifier", "--logging", "50", *arguments],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment,
    )
    return time.perf_counter() - began


def _write(folder: Path, files: int, predictions: int) -> None:
    draw = np.random.default_rng(0)
    calibration = Calibration("novelty", 500, tuple(draw.exponential(3, 200).tolist()))
    for index in range(files):
        label = "malicious" if index % 4 == 3 else "benign"
        sample = f"{index:064x}"
        file = folder / file_name(label, sample)
        if index >= 4 * DISTINCT:
            # the same content as one of the same label
            os.link(folder / file_name(label, f"{index % (4 * DISTINCT):064x}"), file)
            continue
        novelty = np.zeros(predictions, np.float32)
        novelty[draw.integers(0, predictions, 20)] = draw.exponential(3, 20)
        header = Header(
            schema=SCHEMA,
            version=__version__,
            name=f"{index}.ps",
            label=label,
            sample=sample,
            model="0" * 64,
            options={},
            calibration=calibration,
            transfers=predictions,
        )
        actual = draw.integers(0, 3_000, predictions).astype(np.uint64) << np.uint64(32)
        correct = draw.random(predictions) < 0.98
        with EvaluationWriter(file, header) as writer:
            writer.write(
                {
                    "correct": correct,
                    "predicted": np.where(correct, actual, actual + np.uint64(16)),
                    "confidence": draw.random(predictions).astype(np.float32),
                    "actual": actual,
                    "surprisal": draw.exponential(0.05, predictions).astype(np.float32),
                    "seen": np.where(novelty > 0, 0, 2).astype(np.uint8),
                    "novelty": novelty,
                    "position": np.cumsum(draw.integers(1, 20, predictions)).astype(np.uint64),
                }
            )
