"""Is the false-alarm rate kept that was asked for, by each score? On evaluations, such as those of the demo.

.venv/bin/python bench/detection/rates.py demo-out/eval
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path

import numpy as np

from barnum.errors import EvaluationError
from barnum.evaluations.folder import find_evaluations
from barnum.verdicts.conformal import ConformalClassifier
from barnum.verdicts.judgement import read_runs
from barnum.verdicts.scores import SCORES

RATES = (0.02, 0.05, 0.1, 0.2)
DRAWS = 400


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("evaluations", type=Path, help="a folder of evaluations, with harmless runs held out")
    folder = parser.parse_args().evaluations
    runs = read_runs(find_evaluations(folder))
    benign = [run for run in runs if run.benign]
    malicious = [run for run in runs if run.malicious]
    print(
        f"{len(benign)} harmless runs were held out; half of them calibrate, with the learnt ones, and the "
        f"others are judged; {DRAWS} draws: mean, and what 95 % of draws lie between\n\n"
        "| score | asked | harmless called anomalous | malicious found |\n|---|---|---|---|"
    )
    for score in (SCORES[name] for name in SCORES.names):
        for rate in RATES:
            wrong, found = [], []
            for draw in range(DRAWS):
                chance = random.Random(draw)
                some = list(benign)
                chance.shuffle(some)
                half = len(some) // 2
                try:
                    learnt = score.learn(some[:half])
                except EvaluationError as error:
                    print(f"| {score.name} | {100 * rate:g} % | {error} | |")
                    break
                calibration = [*learnt.training, *learnt.held_out]
                classifier = ConformalClassifier(calibration, rate, learnt.score)
                judged = [
                    [learnt.score.of(run) > classifier.threshold for run in part]
                    for part in (some[half:], malicious)
                ]
                wrong.append(np.mean(judged[0]))
                found.append(np.mean(judged[1]) if malicious else 0.0)
            else:
                low, high = np.quantile(wrong, (0.025, 0.975))
                print(
                    f"| {score.name} | {100 * rate:g} % | {100 * np.mean(wrong):.1f} % ({100 * low:.1f} to "
                    f"{100 * high:.1f}) | {100 * np.mean(found):.1f} % |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
