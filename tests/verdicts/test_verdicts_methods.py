"""Classifiers: what they promise, and how they are kept."""

import json

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from barnum.errors import EvaluationError
from barnum.evaluations import worst_window
from barnum.evaluations.header import Calibration
from barnum.paths import Kind
from barnum.sequences import (
    WINDOW,
    Encoder,
    RunNovelty,
    Vocabulary,
    edges_of,
    fit_novelty,
    units_of,
)
from barnum.verdicts import methods
from barnum.verdicts.conformal import Conformal, ConformalClassifier
from barnum.verdicts.features import Run
from barnum.verdicts.logistic import Logistic
from barnum.verdicts.scores.novelty import Novelty
from barnum.verdicts.scores.surprisal import Surprisal
from barnum.verdicts.svm import Svm, SvmClassifier
from learning import blocks_of, nominal_path, transfers_of


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
        confidence=0.9,
        distinct=5,
        surprisal_tail=1.0,
        surprisal_windows=(1.0, 1.0, 1.0),
        new=0.0,
        unknown=0.0,
        novelty=score,
        novelty_window=score,
        novelty_position=0,
    )


def test_p_values_count_calibration_runs_that_are_as_strange():
    classifier = ConformalClassifier([float(i) for i in range(39)], 0.05, Novelty(500))
    for score, expected in ((-1, 1.0), (0, 1.0), (0.5, 39 / 40), (37, 3 / 40), (37.5, 2 / 40), (99, 1 / 40)):
        verdict = classifier.judge(run(score=score))
        assert verdict.p_value == pytest.approx(expected)
        assert verdict.anomalous == (verdict.p_value <= 0.05 + 1e-9)
        assert verdict.anomalous == (score > classifier.threshold)


def test_with_few_runs_the_rate_is_what_they_allow():
    classifier = Conformal().fit([run("malicious", 9.0, calibration=[1.0, 2.0, 3.0])])
    assert classifier.rate == 0.25
    assert "at most 25 % false alarms" in classifier.describe()
    assert classifier.judge(run(score=3.5)).anomalous
    assert not classifier.judge(run(score=3.0)).anomalous


@pytest.mark.parametrize("rate", [0.01, 0.05, 0.1])
@pytest.mark.parametrize("ties", [False, True])
def test_false_alarms_keep_to_the_rate_on_exchangeable_runs(rate, ties):
    draw = np.random.default_rng(int(rate * 100) + ties)
    splits, calibrating, judged = 400, 199, 50
    alarms = []
    for _ in range(splits):
        scores = draw.exponential(1, calibrating + judged)
        scores = scores.round() if ties else scores
        classifier = Conformal(rate).fit([run("malicious", calibration=scores[:calibrating])])
        alarms.append(sum(classifier.judge(run(score=s)).anomalous for s in scores[calibrating:]))
    mean = np.mean(alarms) / judged
    # those of a split share a threshold: beta-binomial
    a = round(rate * (calibrating + 1))
    b = calibrating + 1 - a
    variance = rate * (1 - rate) * (a + b + judged) / ((a + b + 1) * judged * splits)
    reach = 3.3 * np.sqrt(variance)
    assert mean <= rate + reach
    if not ties:
        assert mean >= rate - reach


@pytest.mark.parametrize("rate", [0.01, 0.05, 0.1])
@pytest.mark.parametrize("ties", [False, True])
def test_runs_that_are_held_out_keep_to_the_rate(rate, ties):
    draw = np.random.default_rng(int(rate * 1000) + ties)
    splits, known, judged = 300, 160, 40
    alarms = []
    for _ in range(splits):
        scores = draw.exponential(1, known + judged)
        scores = scores.round() if ties else scores
        runs = [run(score=s, calibration=scores[:known]) for s in scores[known:]]
        alarms.append(sum(verdict.anomalous for verdict in Conformal(rate).held_out(runs)))
    # of all scores together at most rate * (known + judged) are called anomalous: hypergeometric
    mean, everything = np.mean(alarms) / judged, known + judged
    reach = 3.3 * np.sqrt(rate * (1 - rate) * known / ((everything - 1) * judged * splits))
    assert mean <= rate + reach
    if not ties:
        assert mean >= rate - reach


@pytest.mark.parametrize("rate", [0.05, 0.1])
def test_learning_is_left_out_so_false_alarms_of_whole_runs_keep_to_the_rate(rate):
    blocks = blocks_of(40, (Kind.RETURN, Kind.INDIRECT_CALL), in_libc=10)
    splits, learning, judged = 5, 19, 40
    alarms = 0
    for split in range(splits):
        made = [
            transfers_of(blocks, nominal_path(1000 * split + seed, 400)) for seed in range(learning + judged)
        ]
        counted = [edges_of([each]) for each in made[:learning]]
        vocabulary = Vocabulary.fit(units_of(counted)[0])
        rates, calibration = fit_novelty(vocabulary, counted)
        classifier = Conformal(rate).fit([run("malicious", calibration=calibration.tolist())])
        for each in made[learning:]:
            scored = RunNovelty(vocabulary, rates).score(Encoder(vocabulary).encode(each), each)
            at = np.flatnonzero(scored)
            worst, _ = worst_window(at, scored[at].astype(float), WINDOW)
            alarms += classifier.judge(run(score=worst)).anomalous
    spread = np.sqrt(rate * (1 - rate) * (learning + 1 + judged) / ((learning + 2) * judged * splits))
    assert alarms / (splits * judged) <= rate + 3 * spread


@pytest.mark.parametrize("rate", [0.01, 0.05, 0.1, 1e-9, 5e-324])
@pytest.mark.parametrize("count", [1, 2, 5, 8])
def test_a_rate_that_takes_more_runs_is_refused_with_one_that_works(rate, count):
    runs = [run("malicious", 99.0, calibration=[float(i) for i in range(count)])]
    with pytest.raises(EvaluationError, match=rf"here are {count}: use --false-alarm-rate") as caught:
        Conformal(rate).fit(runs)
    named = float(str(caught.value).split("--false-alarm-rate ")[1].split()[0])
    assert Conformal(named).fit(runs).judge(runs[0]).anomalous
    assert 1 / (count + 1) <= named < 1 / (count + 1) + 1e-4


def test_just_enough_runs_suffice_for_a_rate():
    for rate, enough in ((0.01, 99), (0.05, 19), (0.1, 9)):
        for count in (enough - 1, enough):
            runs = [run("malicious", 99.0, calibration=[0.0] * count)]
            if count < enough:
                with pytest.raises(EvaluationError, match=f"takes at least {enough} nominal runs"):
                    Conformal(rate).fit(runs)
            else:
                assert Conformal(rate).fit(runs).judge(runs[0]).anomalous


@given(
    st.lists(st.integers(0, 6), min_size=1, max_size=40),
    # rates that are a share of the scores exactly, or farther from one than rounding goes
    st.integers(1, 9_999).map(lambda share: share / 10_000),
    st.integers(-1, 8),
)
def test_the_threshold_is_what_judges(scores, rate, score):
    classifier = ConformalClassifier([float(s) for s in scores], rate, Novelty(500))
    verdict = classifier.judge(run(score=float(score)))
    assert verdict.anomalous == (score > classifier.threshold)
    assert verdict.anomalous == (verdict.p_value <= rate + 1e-9)


@pytest.mark.parametrize("name", methods.METHODS.names)
def test_forced_thresholds_have_no_false_positives(tmp_path, name):
    draw = np.random.default_rng(4)
    runs = [
        run(label, draw.exponential(2 + 2 * (label == "malicious")), wrong=w, calibration=[1.0] * 30)
        for label in ("benign", "malicious")
        for w in draw.uniform(0, 1, 25)
    ]
    other = [run("benign", 50 + i, wrong=1.0, confidence=0.0) for i in range(3)]
    classifier = methods.by_name(name).fit(runs)
    # also above runs that it did not learn from
    for folder in (runs, other):
        forced = classifier.without_false_positives(folder)
        methods.save(tmp_path / "class.json", forced, "m")
        again, _ = methods.load(tmp_path / "class.json")
        assert not any(forced.judge(each).anomalous for each in folder if not each.malicious)
        assert [again.judge(each) for each in folder] == [forced.judge(each) for each in folder]
        assert again.threshold == forced.threshold >= classifier.threshold


def test_logistic_tells_labels_apart_by_what_there_is():
    draw = np.random.default_rng(1)
    runs = [run("benign", wrong=x) for x in draw.normal(0.3, 0.05, 30)]
    runs += [run("malicious", wrong=x) for x in draw.normal(0.6, 0.05, 30)]
    verdicts = Logistic().held_out(runs)
    assert np.mean([v.anomalous == r.malicious for v, r in zip(verdicts, runs, strict=True)]) > 0.95
    with pytest.raises(EvaluationError, match="both labels"):
        Logistic().fit(runs[:30])
    less = msgspec.structs.replace(runs[0], surprisal=None)
    with pytest.raises(EvaluationError, match="does not hold surprisal"):
        Logistic().fit(runs).judge(less)
    Logistic().fit([less, *runs]).judge(less)


def test_a_benign_run_has_no_part_in_its_own_threshold():
    runs = [run(score=s) for s in (1.0, 2.0, 3.0, 4.0, 50.0)]
    verdicts = Conformal().held_out(runs)
    assert [verdict.p_value for verdict in verdicts] == pytest.approx([1, 4 / 5, 3 / 5, 2 / 5, 1 / 5])
    # nor do malicious ones have any
    more = Conformal().held_out([*runs, *(run("malicious", 999.0) for _ in range(50))])
    assert more[:5] == verdicts
    assert all(verdict.anomalous for verdict in more[5:])


@pytest.mark.parametrize("score", ["novelty", "surprisal"])
def test_leaving_a_run_out_is_learning_without_it(score):
    draw = np.random.default_rng(3)
    # ties among them
    numbers = draw.integers(0, 25, 60).astype(float).tolist()
    runs = [
        msgspec.structs.replace(
            run("malicious" if i % 7 == 0 else "benign", number, calibration=[2.0, 9.0]), surprisal=number / 3
        )
        for i, number in enumerate(numbers)
    ]
    method = Conformal(0.1, score)
    found = method.held_out(runs)
    for index, judged in enumerate(runs):
        rest = runs if judged.malicious else [*runs[:index], *runs[index + 1 :]]
        assert found[index] == method.fit(rest).judge(judged), index


def test_by_surprisal_held_out_runs_alone_count():
    held_out = [msgspec.structs.replace(run(score=99.0), surprisal=s / 100) for s in range(39)]
    # of novelty training runs were scored, of surprisal none
    held_out[0] = msgspec.structs.replace(held_out[0], calibration=run(calibration=[1.0] * 50).calibration)
    classifier = Conformal(0.05, "surprisal").fit(held_out)
    assert "mean surprisal" in classifier.describe()
    assert "against 39 nominal runs" in classifier.describe()
    assert classifier.threshold == 0.37
    for surprisal, anomalous in ((0.37, False), (0.375, True), (5.0, True)):
        judged = msgspec.structs.replace(run(score=0.0), surprisal=surprisal)
        assert classifier.judge(judged).anomalous == anomalous
        assert classifier.judge(judged).score == surprisal
    assert classifier.without_false_positives(held_out).threshold == 0.38
    with pytest.raises(EvaluationError, match="evaluate more benign"):
        Conformal(score="surprisal").fit([run("malicious", calibration=[1.0] * 50)])
    unknown = msgspec.structs.replace(held_out[0], surprisal=None)
    with pytest.raises(EvaluationError, match="holds no surprisal"):
        Conformal(score="surprisal").fit([unknown])
    with pytest.raises(EvaluationError, match="holds no surprisal"):
        classifier.judge(unknown)


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
    [
        ConformalClassifier([3.0, 1.0, 2.5], 0.25, Novelty(500)),
        ConformalClassifier([0.2, 0.1], 0.4, Surprisal()),
        SvmClassifier((1.5, -2.0), 0.25),
        Logistic().restore(
            {"features": ["wrong", "novelty"], "mean": [0, 1], "scale": [1, 2], "weights": [3, 4], "bias": 5}
        ),
    ],
    ids=["conformal", "by surprisal", "svm", "logistic"],
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
    assert json.loads(file.read_text())["schema"] == 2


@pytest.mark.parametrize(
    "change",
    [
        {"schema": 1},
        {"schema": 3},
        {"schema": "\x1b[2J"},
        {"method": "other"},
        {"state": {}},
        {"state": {"window": 500, "rate": 0.1, "scores": []}},
        {"state": {"window": 500, "rate": 0.1, "scores": ["x"]}},
        {"state": {"window": 500, "rate": 0.1, "scores": [1.0], "more": 1}},
        {"state": {"window": 500, "rate": 0.0, "scores": [1.0]}},
        {"state": {"window": 500, "rate": 0.1, "scores": [1.0], "score": "mistakes"}},
        {"state": {"window": 500, "rate": 1.0, "scores": [1.0]}},
        {"state": {"window": 500, "scores": [1.0]}},
        {"method": "logistic", "state": {}},
        {
            "method": "logistic",
            "state": {"features": ["wrong"], "mean": [0], "scale": [0], "weights": [1], "bias": 0},
        },
        {
            "method": "logistic",
            "state": {"features": ["wrong"], "mean": [0, 1], "scale": [1], "weights": [1], "bias": 0},
        },
        {
            "method": "logistic",
            "state": {"features": ["other"], "mean": [0], "scale": [1], "weights": [1], "bias": 0},
        },
        {"method": "svm", "state": {"weights": [1.0], "bias": 0.0}},
    ],
)
def test_wrong_classifiers_are_refused(tmp_path, change):
    file = tmp_path / "class.json"
    methods.save(file, ConformalClassifier([1.0], 0.5, Novelty(500)), "m")
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    with pytest.raises(EvaluationError) as caught:
        methods.load(file)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]"])
def test_files_that_are_no_classifiers_are_refused(tmp_path, content):
    file = tmp_path / "class.json"
    file.write_bytes(content)
    with pytest.raises(EvaluationError, match="no classifier"):
        methods.load(file)
