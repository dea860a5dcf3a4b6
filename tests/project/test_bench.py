"""``make bench`` comes to figures: little of everything, whose values mean nothing."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).resolve().parents[2] / "bench" / "run.py"


@pytest.mark.parametrize(
    ("part", "figure"),
    [
        ("startup", "startup_score_s"),
        ("learning", "acrobat_modulo_causal_scored_s"),
        ("fitting", "fit_s"),
        ("verdicts", ""),
    ],
)
def test_parts_come_to_figures(part, figure, tmp_path, data_dir):
    words = ("--quick", "--only", part, "--folder", tmp_path / "out", "--json", tmp_path / "f.json")
    done = subprocess.run(
        [sys.executable, BENCH, *map(str, words), "--demo-folder", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads((tmp_path / "f.json").read_text())
    assert figures
    assert not figure or figure in figures, sorted(figures)
    assert all(math.isfinite(value) for value in figures.values())
