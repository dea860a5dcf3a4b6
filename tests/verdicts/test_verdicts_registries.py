"""A score or a method of one's own: registered, it judges like those that come with barnum."""

import json

import click
import msgspec
import pytest
from click.testing import CliRunner
from test_cli_classifier import write

from barnum.cli.classifier import command
from barnum.errors import EvaluationError
from barnum.report.build import Request, as_json, build
from barnum.verdicts import judgement, methods
from barnum.verdicts.method import Classifier, Method, Verdict
from barnum.verdicts.methods import METHODS
from barnum.verdicts.scores import SCORES
from barnum.verdicts.scores.interface import Score


class Doubt(Score):
    """How unsure the model is."""

    name = "doubt"
    text = "mean doubt"
    measures = ("surprisal",)
    digits = 3

    def of(self, run):
        return 1 - run.confidence

    def describe(self):
        return "mean doubt of a transfer"


class Mistaken(Classifier):
    """Anomalous above a share of wrong predictions."""

    name = "mistaken"

    def __init__(self, most):
        self.most = most

    @property
    def threshold(self):
        return self.most

    def describe(self):
        return f"mistaken: anomalous above {self.most:.2f}"

    def judge(self, run):
        return Verdict(anomalous=run.wrong > self.most, score=run.wrong)

    def without_false_positives(self, runs):
        return Mistaken(max([self.most, *(run.wrong for run in runs if run.benign)]))

    def state(self):
        return {"most": self.most}


class LearnMistaken(Method):
    name = "mistaken"

    def fit(self, runs):
        return Mistaken(max(run.wrong for run in runs if run.benign))

    def restore(self, state):
        return Mistaken(msgspec.convert(state["most"], float))


@pytest.fixture
def doubt():
    SCORES.add("doubt", Doubt)
    yield
    SCORES.remove("doubt")


@pytest.fixture
def mistaken():
    METHODS.add("mistaken", LearnMistaken)
    yield
    METHODS.remove("mistaken")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "eval"
    made.mkdir()
    for i in range(30):
        write(made, "benign", i, float(i % 5), wrong=i / 100)
    for i in range(30, 34):
        write(made, "malicious", i, 30.0, wrong=0.6)
    return made


def run(*arguments):
    result = CliRunner().invoke(command, [str(word) for word in arguments], standalone_mode=False)
    if isinstance(result.exception, click.UsageError):
        raise result.exception
    assert result.exception is None, result.output
    return result.output


def test_a_score_of_ones_own_judges(doubt, folder, tmp_path):
    found = judgement.judge(folder, score="doubt", rate=0.1)
    assert found.description.startswith(
        "conformal, from nominal runs alone: mean doubt of a transfer, against 30 nominal runs"
    )
    assert (found.classifier.score, found.classifier.digits) == ("doubt", 3)
    for judged, verdict in zip(found.runs, found.verdicts, strict=True):
        assert verdict.score == 1 - judged.confidence
        others = [1 - other.confidence for other in found.runs if other.benign and other is not judged]
        at_least = sum(score >= verdict.score for score in others)
        assert verdict.p_value == pytest.approx((1 + at_least) / (1 + len(others)))
    saved = tmp_path / "c.json"
    methods.save(saved, found.classifier, "m")
    assert json.loads(saved.read_text())["state"]["score"] == "doubt"
    again, _ = methods.load(saved)
    assert [again.judge(each) for each in found.runs] == [found.classifier.judge(each) for each in found.runs]
    forced = judgement.judge(folder, score="doubt", force=True)
    assert forced.summary.false_positives.wrong == 0


def test_a_score_of_ones_own_in_the_command_line(doubt, folder, tmp_path):
    saved, told = tmp_path / "c.json", tmp_path / "v.json"
    output = run("--score", "doubt", "--false-alarm-rate", "0.1", "-s", saved, "--json", told, folder)
    assert "mean doubt of a transfer" in output
    runs = json.loads(told.read_text())["runs"]
    assert [each["score"] for each in runs] == [1 - each["confidence"] for each in runs]
    # as many decimals as it says
    assert all(f" {each['score']:.3f} " in output for each in runs)
    assert "mean doubt of a transfer" in run("-l", saved, folder)
    assert "doubt" in CliRunner().invoke(command, ["--help"]).output
    with pytest.raises(click.UsageError, match="--score is conformal's"):
        run("--method", "svm", "--score", "doubt", folder)


def test_a_report_by_a_score_of_ones_own(doubt, folder):
    # its processes know nothing of what was registered here
    report = build(Request(folder=folder, score="doubt", windows=1, workers=2))
    assert report.classifier.by == "doubt"
    assert "Verdicts go by mean doubt, and windows are chosen by surprisal first." in report.notes
    assert {window.chosen_by for sample in report.samples for window in sample.windows} == {"surprisal"}
    assert {sample.first_alarm for sample in report.samples} == {None}
    assert json.loads(as_json(report))["classifier"]["by"] == "doubt"


def test_a_method_of_ones_own_judges(mistaken, folder, tmp_path):
    found = judgement.judge(folder, method="mistaken")
    assert found.description == "mistaken: anomalous above 0.29"
    # a benign run has no part in the threshold that it is judged by
    alarms = {run.sample for run, v in zip(found.runs, found.verdicts, strict=True) if v.anomalous}
    assert alarms == {"s29", "s30", "s31", "s32", "s33"}
    assert (found.classifier.score, found.classifier.measures) == (None, ("novelty",))
    saved = tmp_path / "c.json"
    output = run("--method", "mistaken", "-s", saved, "-p", tmp_path / "v.png", folder)
    assert "classifier: mistaken: anomalous above 0.29" in output
    assert "mistaken" in CliRunner().invoke(command, ["--help"]).output
    loaded = judgement.judge(folder, load=saved)
    assert [v.anomalous for v in loaded.verdicts] == [run.malicious for run in loaded.runs]
    # what was learnt from whole runs does not judge cut ones unless the method says so
    with pytest.raises(EvaluationError, match="was learnt from whole runs: leave out --cut"):
        judgement.judge(folder, load=saved, cut=True)
    with pytest.raises(click.UsageError, match="--false-alarm-rate is conformal's"):
        run("--method", "mistaken", "--false-alarm-rate", "0.1", folder)


def test_what_is_not_registered_is_refused(folder, tmp_path):
    with pytest.raises(EvaluationError, match="no method is called 'mistaken': use conformal, logistic, svm"):
        judgement.judge(folder, method="mistaken")
    with pytest.raises(EvaluationError, match="no score is called 'doubt': use novelty, surprisal, "):
        judgement.judge(folder, score="doubt")
    for option, name in (("--method", "mistaken"), ("--score", "doubt")):
        with pytest.raises(click.UsageError, match=f"'{name}' is not one of '"):
            run(option, name, folder)
    SCORES.add("doubt", Doubt)
    try:
        found = judgement.judge(folder, score="doubt")
        with pytest.raises(ValueError, match="called 'doubt' already"):
            SCORES.add("doubt", Doubt)
    finally:
        SCORES.remove("doubt")
    saved = tmp_path / "c.json"
    methods.save(saved, found.classifier, "m")
    with pytest.raises(EvaluationError, match=r"is no classifier .no score is called 'doubt'"):
        methods.load(saved)


@pytest.mark.parametrize("name", SCORES.names)
def test_a_score_is_called_what_it_is_registered_as(name):
    assert SCORES[name].name == name


@pytest.mark.parametrize("name", METHODS.names)
def test_a_method_is_called_what_it_is_registered_as(name):
    assert METHODS[name].name == methods.by_name(name).name == name
