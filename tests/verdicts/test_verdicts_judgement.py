"""Verdicts on a folder: what is learnt from which runs, and what is refused."""

import msgspec
import numpy as np
import pytest
from test_cli_classifier import write
from test_verdicts_methods import run

from barnum.errors import EvaluationError
from barnum.evaluations.header import Source
from barnum.verdicts import judgement, methods
from barnum.verdicts.cache import RunCache
from barnum.verdicts.features import read_run
from barnum.verdicts.method import Verdict
from barnum.verdicts.scores import SCORES


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "eval"
    made.mkdir()
    for i in range(8):
        write(made, "benign" if i < 5 else "malicious", i, float(i), wrong=i / 10)
    return made


@pytest.mark.parametrize("method", methods.METHODS.names)
def test_refused_runs_have_no_part_in_anything(folder, method):
    before = judgement.judge(folder, method=method)
    write(folder, "benign", 90, 1e6, wrong=1.0, source=Source(steps=1, lost=0.06))
    after = judgement.judge(folder, method=method)
    assert after.classifier.state() == before.classifier.state()
    assert [v for v in after.verdicts if not v.refused] == before.verdicts
    assert after.summary == msgspec.structs.replace(before.summary, refused=1)
    (refused,) = [v for v in after.verdicts if v.refused]
    assert (refused.word, refused.anomalous) == ("refused", False)


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("method", methods.METHODS.names)
def test_runs_of_unknown_label_are_judged_and_have_no_part_in_anything_else(folder, method, force):
    before = judgement.judge(folder, method=method, force=force)
    for i in range(90, 96):
        write(
            folder, "unknown", i, 1e3 * (i % 2), wrong=i % 2, source=Source(steps=1, signal=11, timeout=False)
        )
    write(folder, "unknown", 99, 0.0, source=Source(steps=1, lost=0.06))
    after = judgement.judge(folder, method=method, force=force)
    assert after.classifier.state() == before.classifier.state()
    judged = list(zip(after.runs, after.verdicts, strict=True))
    assert [v for r, v in judged if r.label != "unknown"] == before.verdicts
    assert after.summary == msgspec.structs.replace(before.summary, refused=1)
    unknown = [v for r, v in judged if r.label == "unknown"]
    assert unknown[:6] == [after.classifier.judge(r) for r, _ in judged if r.label == "unknown"][:6]
    assert unknown[6].word == "refused"
    if method == "conformal":
        assert [v.word for v in unknown[:6]] == ["nominal", "anomalous"] * 3


def test_runs_of_unknown_label_do_not_change_which_runs_are_held_out_together(tmp_path):
    draw = np.random.default_rng(1)
    for i in range(60):
        # not to be told apart, so that each verdict hangs on what was left out
        write(tmp_path, "benign" if i % 2 else "malicious", i, 0.0, wrong=round(draw.random(), 2))
    before = judgement.judge(tmp_path, method="logistic").verdicts
    for i in range(70, 90):
        write(tmp_path, "unknown", i, 0.0, wrong=0.5)
    after = judgement.judge(tmp_path, method="logistic")
    assert [v for r, v in zip(after.runs, after.verdicts, strict=True) if r.label != "unknown"] == before


@pytest.mark.parametrize("score", SCORES.names)
def test_runs_of_unknown_label_calibrate_no_score(score):
    known = [run(score=float(i), calibration=range(9)) for i in range(40)] + [run("malicious", 50.0)]
    known = [msgspec.structs.replace(r, surprisal=1 + i / 9, distinct=9 + i) for i, r in enumerate(known)]
    strange = [msgspec.structs.replace(r, label="unknown", surprisal=7.0, novelty_window=1e3) for r in known]
    method = methods.by_name("conformal", score=score)
    classifier = method.fit(known)
    assert method.fit([*known, *strange]).state() == classifier.state()
    forced = [classifier.without_false_positives(some).state() for some in (known, [*known, *strange])]
    assert forced[0] == forced[1]


@pytest.mark.parametrize("method", ["svm", "logistic"])
def test_no_method_learns_from_runs_of_unknown_label(method):
    known = [run(label, wrong=wrong) for label, wrong in [("benign", 0.1), ("malicious", 0.6)] * 4]
    unknown = [run("unknown", wrong=wrong) for wrong in (0.05, 0.9, 0.9)]
    learnt = [methods.by_name(method).fit(runs).state() for runs in (known, [*unknown, *known, *unknown])]
    assert learnt[0] == learnt[1]


def test_unknown_runs_alone_are_judged_by_what_calibrates_the_model(tmp_path):
    for i in range(6):
        write(tmp_path, "unknown", i, 1e3 * (i == 3))
    found = judgement.judge(tmp_path)
    assert [v.word for v in found.verdicts] == ["anomalous" if i == 3 else "nominal" for i in range(6)]
    assert len(found.classifier.scores) == 40
    assert found.summary == judgement.Summary(
        false_positives=None, false_negatives=None, auc=None, refused=0, trivial=[]
    )
    for method in ("svm", "logistic"):
        with pytest.raises(EvaluationError, match="needs runs of both labels"):
            judgement.judge(tmp_path, method=method)


@pytest.mark.parametrize("label", ["benign", "malicious"])
def test_an_unknown_label_is_not_the_other_one(tmp_path, label):
    for i in range(6):
        write(tmp_path, label if i % 2 else "unknown", i, 0.0, wrong=i / 9)
    for method in ("svm", "logistic"):
        with pytest.raises(EvaluationError, match="needs runs of both labels"):
            judgement.judge(tmp_path, method=method)
    runs = [run(label), run("unknown")]
    without = [msgspec.structs.replace(each, calibration=None, novelty_window=None) for each in runs]
    assert judgement.default_method(without) == "conformal"
    summary = judgement.judge(tmp_path).summary
    assert summary.auc is None
    assert (summary.false_positives is None) == (label == "malicious")
    assert (summary.false_negatives is None) == (label == "benign")


def test_what_was_lost_is_weighed():
    whole = run()
    for lost, refused in ((None, False), (0.0, False), (0.05, False), (0.051, True), (1.0, True)):
        judged = msgspec.structs.replace(whole, source=Source(steps=1, lost=lost))
        assert (judgement.refusal_of(judged, 0.05) is not None) == refused
        assert judgement.refusal_of(judged, 1.0) is None
    assert judgement.refusal_of(whole, 0.0) is None


def test_verdicts_do_not_depend_on_workers_or_cache(folder):
    alone = judgement.judge(folder)
    for _ in range(2):
        again = judgement.judge(folder, workers=7, cache=RunCache())
        assert (again.runs, again.verdicts, again.summary) == (alone.runs, alone.verdicts, alone.summary)
    assert alone.runs == [read_run(file) for file in sorted(folder.iterdir())]


def test_the_default_is_what_evaluations_allow():
    known = [run(), run("malicious")]
    unknown = [msgspec.structs.replace(each, calibration=None, novelty_window=None) for each in known]
    assert judgement.default_method(known) == judgement.default_method(known[:1]) == "conformal"
    assert judgement.default_method(unknown) == "logistic"
    assert judgement.default_method(unknown[:1]) == "conformal"


def test_an_empty_evaluation_is_named(folder):
    (folder / "benign-zz.parquet").touch()
    with pytest.raises(EvaluationError, match=r"benign-zz\.parquet: is empty"):
        judgement.judge(folder, workers=4, cache=RunCache())


@pytest.mark.parametrize("wrong", [False, True])
def test_all_right_and_all_wrong(wrong):
    runs = [run(label) for label in ("benign", "malicious") for _ in range(4)]
    verdicts = [Verdict(anomalous=r.malicious != wrong, score=float(r.malicious != wrong)) for r in runs]
    summary = judgement.summary_of(runs, verdicts)
    assert summary.false_positives.wrong == summary.false_negatives.wrong == (4 if wrong else 0)
    assert summary.auc.auc == (0.0 if wrong else 1.0)
    assert judgement.summary_of(runs[:4], verdicts[:4]).auc is None
    assert judgement.summary_of(runs[:4], verdicts[:4]).false_negatives is None


def test_runs_that_are_unlike_training_runs_are_told(tmp_path):
    for i in range(40):
        write(tmp_path, "benign" if i % 2 else "unknown", i, 1e3 + i % 7)
    stranger = judgement.judge(tmp_path).exchangeability
    assert stranger.runs == 40 and stranger.alarm is not None and stranger.stranger is True
    # what is cut, or judged by a threshold of its own, keeps no promise that could be broken
    assert judgement.judge(tmp_path, cut=True).exchangeability is None
    assert judgement.judge(tmp_path, force=True).exchangeability is None
    assert judgement.judge(tmp_path, score="adjusted").exchangeability is None


def test_malicious_and_refused_runs_have_no_part_in_the_bet(folder):
    found = judgement.judge(folder).exchangeability
    assert found.runs == 5 and found.alarm is None
    for i in range(90, 130):
        write(folder, "malicious", i, 1e6)
        write(folder, "benign", 100 + i, 1e6, source=Source(steps=1, lost=0.06))
    assert judgement.judge(folder).exchangeability == found
    assert judgement.judge(folder, method="svm").exchangeability is None
