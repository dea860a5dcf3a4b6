"""Classifiers: what they promise, and how they are kept."""

import json

import msgspec
import numpy as np
import pytest

from barnum.errors import EvaluationError
from barnum.verdicts import methods
from barnum.verdicts.conformal import RATE, Conformal, ConformalClassifier
from barnum.verdicts.evaluation import Calibration
from barnum.verdicts.features import Run
from barnum.verdicts.svm import Svm, SvmClassifier


def run(label="benign", score=0.0, wrong=0.1, confidence=0.5, calibration=()):
    return Run(
        name="a",
        label=label,
        sample="aa",
        model="m",
        calibration=Calibration("novelty", 500, tuple(calibration)),
        transfers=10,
        wrong=wrong,
        wrong_confidence=confidence,
        surprisal=1.0,
        surprisal_window=1.0,
        new=0.0,
        unknown=0.0,
        novelty=score,
        novelty_window=score,
        novelty_position=0,
    )


def test_p_values_count_calibration_runs_that_are_as_strange():
    classifier = ConformalClassifier([float(i) for i in range(39)], 500)
    for score, expected in ((-1, 1.0), (0, 1.0), (0.5, 39 / 40), (37, 3 / 40), (37.5, 2 / 40), (99, 1 / 40)):
        verdict = classifier.judge(run(score=score))
        assert verdict.p_value == pytest.approx(expected)
        assert verdict.anomalous == (verdict.p_value <= RATE + 1e-9)
        assert verdict.anomalous == (score > classifier.threshold)


def test_with_few_runs_the_rate_is_what_they_allow():
    classifier = ConformalClassifier([1.0, 2.0, 3.0], 500)
    assert classifier.rate == 0.25
    assert "25.0 %" in classifier.describe()
    assert classifier.judge(run(score=3.5)).anomalous
    assert not classifier.judge(run(score=3.0)).anomalous


def test_false_alarms_keep_to_the_rate_on_exchangeable_runs():
    draw = np.random.default_rng(0)
    alarms = judged = 0
    for _ in range(200):
        scores = draw.exponential(1, 60).round(1)  # ties too
        runs = [run(score=s, calibration=scores[:40]) for s in scores[40:]]
        verdicts = Conformal().held_out(runs)
        alarms += sum(verdict.anomalous for verdict in verdicts)
        judged += len(runs)
    # four standard deviations, of runs that share thresholds
    assert alarms / judged < RATE + 0.02
    assert alarms / judged > RATE - 0.03


def test_a_benign_run_has_no_part_in_its_own_threshold():
    runs = [run(score=s) for s in (1.0, 2.0, 3.0, 4.0, 50.0)]
    verdicts = Conformal().held_out(runs)
    assert [verdict.p_value for verdict in verdicts] == pytest.approx([1, 4 / 5, 3 / 5, 2 / 5, 1 / 5])
    # nor do malicious ones have any
    more = Conformal().held_out([*runs, *(run("malicious", 999.0) for _ in range(50))])
    assert more[:5] == verdicts
    assert all(verdict.anomalous for verdict in more[5:])


def test_without_nominal_runs_there_is_no_verdict():
    with pytest.raises(EvaluationError, match="nominal"):
        Conformal().fit([run("malicious", 3.0)])
    with pytest.raises(EvaluationError):
        Conformal().held_out([run("benign", 3.0)])
    # those of training suffice
    assert Conformal().held_out([run("malicious", 3.0, calibration=[0.0] * 30)])[0].anomalous


def test_conformal_asks_for_novelty_where_there_is_none():
    known = run(score=1.0, calibration=[0.0] * 30)
    unknown = msgspec.structs.replace(known, calibration=None, novelty=None, novelty_window=None)
    for runs in ([unknown], [known, unknown]):
        with pytest.raises(EvaluationError, match=r"benign-aa holds no novelty.*--eval-format parquet.*svm"):
            Conformal().fit(runs)
    with pytest.raises(EvaluationError, match="holds no novelty"):
        Conformal().fit([known]).judge(unknown)


def test_svm_is_the_originals_arithmetic():
    line = SvmClassifier((12.229381, -2.239366), -2.160863)
    assert line.judge(run(wrong=0.9594, confidence=0.0979)).score == pytest.approx(9.3527, abs=1e-3)
    assert line.judge(run(wrong=0.8550, confidence=0.0586)).score == pytest.approx(8.1643, abs=1e-3)


def test_svm_tells_labels_apart_that_a_line_can():
    draw = np.random.default_rng(0)
    runs = [run("benign", wrong=x, confidence=0.2) for x in draw.uniform(0, 0.4, 30)]
    runs += [run("malicious", wrong=x, confidence=0.2) for x in draw.uniform(0.6, 1, 40)]
    verdicts = Svm().held_out(runs)
    assert np.mean([v.anomalous == r.malicious for v, r in zip(verdicts, runs, strict=True)]) > 0.95
    with pytest.raises(EvaluationError, match="both labels"):
        Svm().fit(runs[:30])
    with pytest.raises(EvaluationError, match="both labels"):
        Svm().held_out([*runs[:3], runs[-1]])


@pytest.mark.parametrize(
    "classifier",
    [ConformalClassifier([3.0, 1.0, 2.5], 500), SvmClassifier((1.5, -2.0), 0.25)],
    ids=["conformal", "svm"],
)
def test_what_is_saved_judges_the_same(tmp_path, classifier):
    file = tmp_path / "class.json"
    methods.save(file, classifier, "m")
    read, model = methods.load(file)
    assert model == "m"
    assert read.describe() == classifier.describe()
    for score in (0.0, 2.7, 9.0):
        judged = run(score=score, wrong=score / 9, confidence=0.3)
        assert read.judge(judged) == classifier.judge(judged)
    assert json.loads(file.read_text())["schema"] == 1


@pytest.mark.parametrize(
    "change",
    [
        {"schema": 2},
        {"method": "other"},
        {"state": {}},
        {"state": {"window": 500, "scores": []}},
        {"state": {"window": 500, "scores": ["x"]}},
        {"state": {"window": 500, "scores": [1.0], "more": 1}},
        {"method": "svm", "state": {"weights": [1.0], "bias": 0.0}},
    ],
)
def test_wrong_classifiers_are_refused(tmp_path, change):
    file = tmp_path / "class.json"
    methods.save(file, ConformalClassifier([1.0], 500), "m")
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    with pytest.raises(EvaluationError):
        methods.load(file)


@pytest.mark.parametrize("content", [b"", b"\x80\x04\x95", b"{}", b"[1]"])
def test_files_that_are_no_classifiers_are_refused(tmp_path, content):
    file = tmp_path / "class.json"
    file.write_bytes(content)
    with pytest.raises(EvaluationError, match="no classifier"):
        methods.load(file)
