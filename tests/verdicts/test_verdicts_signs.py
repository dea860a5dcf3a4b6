"""Evidence and effects in evaluations: what becomes of a run that shows what no nominal run does."""

import json

import msgspec
import numpy as np
import pytest
from test_cli_classifier import CALIBRATION, line_of, run, write_runs
from test_evaluations_files import columns, header

from barnum import evaluations
from barnum.digests import About, Digest
from barnum.digests.signs import signs_of
from barnum.errors import EvaluationError
from barnum.evaluations import Shown, Signs, Source
from barnum.evidence import Finding, Findings, Place
from barnum.evidence.known import Known
from barnum.paths import Learn
from barnum.report.build import Request, as_json, as_json_lines, as_page, build
from barnum.verdicts import judgement
from barnum.verdicts.cache import RunCache
from barnum.verdicts.features import read_run

STEPS = 1000
STRONG = Shown(
    "unknown", "step 600: returned to 0x4141414141 [strong]", 600, True, "[unmapped]", 0x4141414141
)
WEAK = Shown("entry", "step 30: went into the middle of a function", 30, False, "/bin/app", 16)
DEATH = Shown("death", "step 30: died of signal 11", 30, False, "/bin/app", 16)
EFFECTS = (
    Shown("open", "open /tmp/x for writing", 400),
    Shown("execve", "execve /bin/sh\x1b[31m </script>", 700),
)


@pytest.fixture
def folder(tmp_path):
    return write_runs(tmp_path / "eval")


def write(folder, label="unknown", number=90, novelty=0.0, at=500, signs=None, **source):
    """An evaluation of 1,000 predictions, a step each, with one new transfer."""
    weights = np.zeros(STEPS, np.float32)
    weights[at] = novelty
    parts = columns(STEPS, number, novelty=weights, position=np.arange(STEPS, dtype=np.uint64))
    fields = {"name": f"{label}-{number}.doc", "sample": f"s{number}", "calibration": CALIBRATION}
    file = folder / evaluations.file_name(label, f"s{number}")
    told = header(label, source=Source(steps=STEPS, **source), signs=signs, **fields)
    with evaluations.writer_for("parquet", file, told) as writer:
        writer.write(parts)
    return file


def judged(folder, number=90, **options):
    found = judgement.judge(folder, **options)
    (at,) = [at for at, each in enumerate(found.runs) if each.sample == f"s{number}"]
    return found.runs[at], found.verdicts[at]


def signs(*evidence, effects=EFFECTS, runs=40, alarming=0, unusual=None, acting=None):
    return Signs(
        runs=runs, alarming=alarming, unusual=unusual, acting=acting, evidence=evidence, effects=effects
    )


@pytest.mark.parametrize("method", ["conformal", "logistic", "svm"])
def test_strong_evidence_is_enough_whatever_judges(folder, tmp_path, method):
    write(folder, signs=signs(STRONG, WEAK))
    found, verdict = judged(folder, method=method)
    assert (verdict.word, verdict.because) == ("anomalous", "evidence")
    assert found.signs.evidence == (STRONG, WEAK)
    told = tmp_path / "v.json"
    output = run(folder, "--method", method, "--json", told, "--fail-on-anomaly", code=3)
    assert line_of(output, "unknown-90.doc").endswith("anomalous by evidence")
    (row,) = [row for row in json.loads(told.read_bytes())["runs"] if row["sample"] == "s90"]
    assert (row["because"], row["signs"]["evidence"][0]["offset"]) == ("evidence", 0x4141414141)


@pytest.mark.parametrize(
    ("told", "word"),
    [
        (signs(WEAK), "nominal"),
        (signs(), "nominal"),
        (None, "nominal"),
        # of 40 nominal runs that were left out, one would have shown such: more than 2 in 100, fewer than 3
        (signs(STRONG, alarming=1), "nominal"),
        (signs(STRONG, alarming=0), "anomalous"),
        # weak evidence counts where it is known that nominal runs, left out, hardly show any: of 40, with one
        # that does, 2 in 41 may
        (signs(WEAK, unusual=0), "anomalous"),
        (signs(WEAK, unusual=1), "nominal"),
        (signs(WEAK, unusual=0, runs=3), "anomalous"),
        (signs(WEAK, unusual=0, runs=2), "nominal"),
        (signs(DEATH, unusual=0), "nominal"),
    ],
)
def test_evidence_counts_by_what_nominal_runs_show(folder, told, word):
    write(folder, signs=told)
    assert judged(folder, rate=0.0244)[1].word == word
    if told is not None and told.unusual == 1:
        assert judged(folder, rate=0.05)[1].because == "evidence"
    if told is not None and told.alarming:
        assert judged(folder, rate=0.03)[1].because == "evidence"


@pytest.mark.parametrize(
    ("told", "word"),
    [
        (signs(acting=0), "anomalous"),
        (signs(acting=0, effects=()), "nominal"),
        (signs(acting=None), "nominal"),
        (signs(acting=1), "nominal"),
        (signs(acting=0, runs=2), "nominal"),
    ],
)
def test_an_effect_counts_where_nominal_runs_have_no_such_of_their_own(folder, told, word):
    write(folder, signs=told)
    found, verdict = judged(folder, rate=0.0244)
    assert (verdict.word, verdict.because) == (word, "effect" if word == "anomalous" else None)
    assert found.signs.effects == told.effects
    if told.acting == 1:
        assert judged(folder, rate=0.05)[1].because == "effect"


def test_what_is_anomalous_by_its_score_is_not_so_by_its_effects_nor_what_is_cut(folder):
    write(folder, signs=signs(acting=0), novelty=90.0, cut=300)
    assert judged(folder)[1].because is None
    assert line_of(run(folder), "unknown-90.doc").endswith("anomalous")
    write(folder, signs=signs(acting=0), cut=300)
    assert line_of(run(folder), "unknown-90.doc").endswith("anomalous by an effect")
    for cut in ("spawn", "effect"):
        assert judged(folder, cut=cut)[1].word == "nominal"


def test_a_forced_threshold_is_above_all_benign_runs_whatever_they_show(folder):
    write(folder, "benign", signs=signs(STRONG))
    assert judged(folder)[1].word == "anomalous"
    assert judged(folder, force=True)[1].word == "nominal"


def test_a_false_alarm_by_evidence_counts_as_one(folder):
    before = judgement.judge(folder).summary.false_positives
    write(folder, "benign", signs=signs(STRONG))
    after = judgement.judge(folder).summary.false_positives
    assert (after.wrong, after.runs) == (before.wrong + 1, before.runs + 1)


def test_what_lies_behind_the_cut_is_no_evidence(folder):
    write(folder, signs=signs(STRONG, WEAK), cut=500)
    found, verdict = judged(folder, cut=True)
    assert (verdict.word, found.signs.evidence, found.cut) == ("nominal", (WEAK,), True)
    # effects are told all the same
    assert found.signs.effects == EFFECTS
    assert judged(folder)[1].because == "evidence"
    write(folder, signs=signs(STRONG, WEAK), cut=601)
    assert judged(folder, cut="spawn")[1].because == "evidence"


def test_a_run_is_cut_before_its_first_effect(folder):
    write(folder, novelty=90.0, at=399, signs=signs())
    found, verdict = judged(folder, cut="effect")
    assert (found.transfers, found.cut, verdict.word) == (400, True, "anomalous")
    write(folder, novelty=90.0, at=400, signs=signs(STRONG))
    found, verdict = judged(folder, cut="effect")
    assert (found.transfers, verdict.word, verdict.because) == (400, "nominal", None)
    assert judged(folder)[1].word == "anomalous"
    output = run(folder, "--cut", "effect")
    assert "before the first effect that no nominal run had: 1 of 13 runs were cut there" in output
    # of those without effects, and of which nobody noted any, all counts
    write(folder, number=91, novelty=90.0, at=900, signs=signs(effects=()))
    write(folder, number=92, novelty=90.0, at=900)
    for number in (91, 92):
        found, verdict = judged(folder, number, cut="effect")
        assert (found.transfers, found.cut, verdict.word) == (STEPS, False, "anomalous")


def test_a_cut_at_effects_that_nobody_noted_is_refused(folder):
    write(folder, signs=signs(STRONG, effects=None))
    with pytest.raises(EvaluationError, match="no evaluation names effects"):
        run(folder, "--cut", "effect")
    with pytest.raises(EvaluationError, match="no evaluation names effects"):
        build(Request(folder=folder, cut="effect"))


@pytest.mark.parametrize(("intact", "word"), [(601, "anomalous"), (600, "refused"), (None, "refused")])
def test_of_a_run_that_is_not_whole_what_lies_before_the_loss_is_evidence(folder, intact, word):
    write(folder, signs=signs(STRONG), lost=0.4, intact=intact)
    verdict = judged(folder)[1]
    assert verdict.word == word
    if word == "anomalous":
        assert verdict.incomplete.startswith("40.0 % of the trace was lost")
        assert "anomalous by evidence, though incomplete" in run(folder)


def test_what_is_kept_of_a_run_knows_where_it_was_cut(tmp_path):
    folder = tmp_path / "eval"
    folder.mkdir()
    file = write(folder, signs=signs(STRONG, WEAK), cut=100)
    cache = RunCache(tmp_path / "cache")
    for _ in range(2):
        for cut in (False, "spawn", "effect"):
            assert cache.read_run(file, cut=cut) == read_run(file, cut=cut)


def test_names_of_any_length_are_cut_to_what_is_read_again(tmp_path):
    place = Place("/" + "m" * 40_000, 16)
    finding = Finding(
        kind="return", strong=True, by="return", site=1, target=2, site_place=place, target_place=place,
        step=600, count=1, key="return x",
    )  # fmt: skip
    about = About(
        schema=1, version="1", name="a", label="benign", learn=Learn(), transfers=0, stretches=(),
        modules=(), source=Source(steps=STEPS), evidence=Findings(findings=(finding,)),
    )  # fmt: skip
    found = signs_of(Known(), 40, Digest(about, None, None))
    assert found.evidence[0].module == place.module[:8192]
    read = read_run(write(tmp_path, signs=found))
    assert read.signs == found
    assert read.signs.alarm(0.01).step == 600


def test_the_report_shows_them(folder):
    write(folder, "malicious", novelty=1.0, signs=signs(STRONG, WEAK))
    report = build(Request(folder=folder))
    (sample,) = [each for each in report.samples if each.sample == "s90"]
    assert (sample.verdict, sample.because) == ("anomalous", "evidence")
    assert [(each.kind, each.position, each.strong) for each in sample.evidence] == [
        ("unknown", 600, True),
        ("entry", 30, False),
    ]
    assert [each.text for each in sample.effects] == [each.text for each in EFFECTS]
    others = [each for each in report.samples if each.sample != "s90"]
    assert {(each.evidence, each.effects) for each in others} == {(None, None)}
    assert {each.because for each in others} == {None, "score"}
    page = as_page(report).decode()
    assert "</script> " not in page
    assert "\x1b" not in page
    assert msgspec.json.decode(as_json(report))["samples"]
    (line,) = [
        each for each in map(json.loads, as_json_lines(report).splitlines()) if each["sample"] == "s90"
    ]
    assert line["description"] == f"Evidence of a hijack: {STRONG.text}"
    assert (line["because"], line["severity"]) == ("evidence", 3)
