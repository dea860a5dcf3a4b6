"""Verdicts on a folder: what is learnt from which runs, and what is refused."""

import msgspec
import pytest
from test_cli_classifier import write
from test_verdicts_methods import run

from barnum.errors import EvaluationError
from barnum.evaluations.header import Source
from barnum.verdicts import judgement, methods
from barnum.verdicts.cache import RunCache
from barnum.verdicts.features import read_run
from barnum.verdicts.method import Verdict


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
