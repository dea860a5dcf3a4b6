"""What a report holds: numbers that can be counted by hand, and nothing that was silently left out."""

import json
import shutil
import struct
import subprocess
from itertools import pairwise
from pathlib import Path

import msgspec
import numpy as np
import pytest
from test_evaluations_files import columns, header

from barnum import evaluations
from barnum.errors import EvaluationError
from barnum.evaluations import parquet
from barnum.files import open_regular
from barnum.recording.elf import read_elf
from barnum.recording.layout import elf_layout
from barnum.report.build import Request, as_json, as_json_lines, as_page, build
from barnum.report.document import Report, schema_text
from barnum.report.html import embedded
from barnum.report.scan import Budget, scan
from barnum.report.symbols import Function, Symbols, as_file, functions_of, read_symbols, same_code

ROOT = Path(__file__).resolve().parents[2]
CALIBRATION = evaluations.Calibration("novelty", 50, tuple(float(i % 7) for i in range(40)))
HOSTILE = "</script><img src=x onerror=alert(1)>\u2028'\"&<!--"


def write(folder, label, number, novelty=None, count=400, format="parquet", **changes):
    """An evaluation; ``novelty`` are nats by prediction."""
    weights = np.zeros(count, np.float32)
    for at, nats in (novelty or {}).items():
        weights[at] = nats
    fields = {"name": f"{label}-{number}.doc", "sample": f"s{number}", "calibration": CALIBRATION}
    fields |= {
        name: changes.pop(name) for name in list(changes) if name in evaluations.Header.__struct_fields__
    }
    parts = columns(count, number, novelty=weights, **changes)
    folder.mkdir(exist_ok=True)
    file = folder / evaluations.file_name(label, fields["sample"], format)
    with evaluations.writer_for(format, file, header(label, **fields)) as writer:
        writer.write(parts)
    return file


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "eval"
    for i in range(6):
        write(made, "benign", i, {200: float(i % 5)})
    write(made, "malicious", 6, {100: 5.0, 120: 4.0, 300: 8.0, 310: 0.5})
    write(made, "malicious", 7, {})
    return made


def by_name(report, name):
    return next(sample for sample in report.samples if sample.name == name)


def test_verdicts_and_how_good_they_are(folder):
    report = build(Request(folder=folder))
    overview = report.overview
    assert (overview.runs, overview.benign, overview.malicious, overview.anomalous) == (8, 6, 2, 1)
    assert (overview.false_positives.wrong, overview.false_positives.runs) == (0, 6)
    assert (overview.false_negatives.wrong, overview.false_negatives.runs) == (1, 2)
    assert 0 < overview.false_negatives.low < 0.5 < overview.false_negatives.high < 1
    # one malicious run above all six benign ones, the other, with 0, at the height of two of them
    assert overview.roc.auc == pytest.approx((6 + 2 / 2) / 12)
    assert len(overview.calibration.p_values) == 6
    assert overview.calibration.scores == 40
    assert "conformal" in report.classifier.description
    assert [sample.verdict for sample in report.samples].count("anomalous") == 1


def test_runs_of_unknown_label_are_shown_and_count_in_nothing(folder):
    before = build(Request(folder=folder))
    write(folder, "unknown", 8, {100: 50.0})
    write(folder, "unknown", 9, {})
    report = build(Request(folder=folder))
    # whether runs are like those learnt is asked of all that may be
    bet = report.overview.exchangeability
    assert (bet.runs, before.overview.exchangeability.runs) == (8, 6)
    assert report.overview == msgspec.structs.replace(
        before.overview, runs=10, anomalous=2, unknown=2, exchangeability=bet
    )
    verdicts = {sample.name: sample.verdict for sample in report.samples if sample.label == "unknown"}
    assert verdicts == {"unknown-8.doc": "anomalous", "unknown-9.doc": "nominal"}
    assert any(note.startswith("The label of 2 of 10 runs is unknown") for note in report.notes)
    assert not any("unknown: they" in note for note in before.notes)
    line = json.loads(as_json_lines(report).splitlines()[-1])
    assert (line["document"], line["label"]) == ("unknown-8.doc", "unknown")
    for file in [*folder.glob("benign-*"), *folder.glob("malicious-*")]:
        file.unlink()
    alone = build(Request(folder=folder)).overview
    assert (alone.benign, alone.malicious, alone.unknown, alone.anomalous) == (0, 0, 2, 1)
    assert (alone.roc, alone.calibration, alone.trivial) == (None, None, [])
    assert (alone.false_positives, alone.false_negatives) == (None, None)


def test_windows_by_novelty_then_by_surprisal_and_the_first_alarm(folder):
    report = build(Request(folder=folder, windows=4))
    sample = by_name(report, "malicious-6.doc")
    assert sample.score == pytest.approx(9.0)
    first, second, *others = sample.windows
    assert (first.begin, first.end, first.chosen_by) == (100, 150, "novelty")
    assert first.novelty == pytest.approx(9.0)
    assert first.above_threshold
    assert (second.begin, second.novelty) == (300, pytest.approx(8.5))
    assert [window.chosen_by for window in others] == ["surprisal"] * 2
    taken = sorted((window.begin, window.end) for window in sample.windows)
    assert all(end <= begin for (_, end), (begin, _) in pairwise(taken))
    # with 6 as threshold the second new transfer raises it; its step is that of the evaluation
    assert report.classifier.threshold == pytest.approx(6.0)
    position = columns(400, 6)["position"]
    assert sample.first_alarm.prediction == 120
    assert sample.first_alarm.position == position[120]
    assert (first.position, first.position_end) == (position[100], position[149])
    assert by_name(report, "malicious-7.doc").first_alarm is None


def surprised(folder, benign=60, **changes):
    """One run that is new at 100, 180, 210 and 300, and surprising from 200 on for a window of 50."""
    for i in range(benign):
        write(folder, "benign", i, {200: float(i % 5)}, count=400 + i)
    surprisal = np.zeros(400, np.float32)
    surprisal[200:250] = 2.0
    news = {100: 7.0, 180: 1.0, 210: 0.5, 300: 8.0}
    write(folder, "malicious", 6, news, surprisal=surprisal, sample="bad", **changes)
    return folder


def shown(report):
    return [(w.chosen_by, w.begin, w.end) for w in by_name(report, "malicious-6.doc").windows]


def test_windows_by_novelty_do_not_change_with_surprisal(tmp_path):
    report = build(Request(folder=surprised(tmp_path / "eval"), windows=3))
    assert report.classifier.by == "novelty"
    assert shown(report) == [("novelty", 300, 350), ("novelty", 100, 150), ("novelty", 180, 230)]


@pytest.mark.parametrize("score", ["surprisal", "adjusted"])
def test_windows_are_chosen_by_what_the_verdict_goes_by(tmp_path, score):
    folder = surprised(tmp_path / "eval")
    report = build(Request(folder=folder, windows=1, score=score))
    assert (report.classifier.by, shown(report)) == (score, [("surprisal", 200, 250)])
    assert any("go by mean surprisal" in note and "by surprisal first" in note for note in report.notes)
    # nothing is shown twice, and what surprisal leaves is shown by novelty, cut where something else begins
    report = build(Request(folder=folder, windows=20, score=score))
    assert shown(report) == [
        ("surprisal", 200, 250), ("novelty", 300, 350), ("novelty", 100, 150), ("novelty", 180, 200)
    ]  # fmt: skip
    assert not any(window.above_threshold for sample in report.samples for window in sample.windows)


def test_windows_of_a_combined_score_are_of_both_kinds_in_turn(tmp_path):
    report = build(Request(folder=surprised(tmp_path / "eval"), score="combined"))
    assert report.classifier.by == "combined"
    assert shown(report) == [
        ("novelty", 300, 350), ("surprisal", 200, 250), ("novelty", 100, 150), ("novelty", 180, 200)
    ]  # fmt: skip
    assert any("in turn by novelty and by surprisal" in note for note in report.notes)


def test_windows_that_were_judged_come_before_others(tmp_path):
    position = columns(400, 6)["position"]
    source = evaluations.Source(steps=int(position[-1]) + 1, cut=int(position[195]))
    folder = surprised(tmp_path / "eval", source=source)
    report = build(Request(folder=folder, cut=True, windows=20))
    # no window of what was judged reaches beyond it
    assert shown(report) == [
        ("novelty", 100, 150), ("novelty", 180, 195), ("novelty", 300, 350), ("novelty", 210, 260)
    ]  # fmt: skip
    lines = [json.loads(line) for line in as_json_lines(report).splitlines()]
    assert [(line["sample"], line["begin"]) for line in lines if line["label"] == "malicious"] == [
        ("bad", 100)
    ]


def test_what_is_cut_off_a_window_does_not_count(tmp_path):
    surprisal = np.zeros(20_000, np.float32)
    surprisal[2000:7000] = 2.0
    news = {1900: 1.0, 7100: 5.0, 7200: 4.0, 9000: 7.0}
    file = write(tmp_path / "eval", "malicious", 0, news, count=20_000, surprisal=surprisal)
    found = scan(file, 20_000, 10_000, None, Budget.of(1, 2), measures=("surprisal",))
    assert [(window.begin, window.end) for window in found.windows] == [(2000, 7000), (7100, 17_100)]


def test_transfers_say_what_was_expected_and_what_happened(folder):
    report = build(Request(folder=folder))
    window = by_name(report, "malicious-6.doc").windows[0]
    truth = columns(400, 6)
    assert len(window.transfers) == 12
    assert window.left_out == 38
    assert {transfer.times for transfer in window.transfers} == {1}
    assert {100, 120} <= {transfer.prediction for transfer in window.transfers}
    for transfer in window.transfers:
        at = transfer.prediction
        assert report.places[transfer.expected].block == f"0x{truth['predicted'][at]:016x}"
        assert report.places[transfer.actual].block == f"0x{truth['actual'][at]:016x}"
        assert transfer.confidence == pytest.approx(truth["confidence"][at], abs=1e-4)
        assert transfer.probability == pytest.approx(np.exp(-truth["surprisal"][at]), rel=0.01)
        assert transfer.seen == truth["seen"][at]
        assert transfer.source is None
    # the most surprising of those that are not new
    others = [t.surprisal for t in window.transfers if t.prediction not in (100, 120)]
    inside = np.delete(truth["surprisal"][100:150], [0, 20])
    assert sorted(others) == pytest.approx(np.sort(inside)[-10:].tolist(), abs=1e-3)


def test_alike_transfers_of_a_window_are_shown_once_and_counted(tmp_path):
    same = np.full(400, 7 << 40, np.uint64)
    actual = same.copy()
    actual[150:170] += np.uint64(1)
    surprisal = np.where(actual == same, 0.1, 5.0).astype(np.float32)
    surprisal[155] = 6.0
    write(
        *(tmp_path / "eval", "benign", 0),
        predicted=same,
        actual=actual,
        correct=actual == same,
        surprisal=surprisal,
    )
    (window, *_) = build(Request(folder=tmp_path / "eval")).samples[0].windows
    assert window.begin <= 150 < 170 <= window.end
    told = {transfer.correct: transfer.times for transfer in window.transfers}
    assert told == {False: 20, True: 30}
    assert window.left_out == 0
    assert next(t.prediction for t in window.transfers if not t.correct) == 155


def test_the_curve_is_mean_and_maximum_of_every_prediction(tmp_path):
    file = write(tmp_path / "eval", "benign", 0, count=5003)
    surprisal = columns(5003, 0)["surprisal"].astype(np.float64)
    budget = Budget(bins=100, windows=3, transfers=4, detail=30, news=5)
    found = scan(file, 5003, 50, None, budget)
    bins = np.arange(5003) * 100 // 5003
    mean = [surprisal[bins == b].mean() for b in range(100)]
    highest = [surprisal[bins == b].max() for b in range(100)]
    assert found.curve.mean == pytest.approx(mean, abs=1e-3)
    assert found.curve.highest == pytest.approx(highest, abs=1e-3)
    # windows that do not overlap, the worst one being the worst of all
    sums = np.convolve(surprisal, np.ones(50), "valid")
    assert found.windows[0].begin == sums.argmax()
    assert found.windows[0].surprisal == pytest.approx(sums.max())
    for window in found.windows:
        detail = window.detail
        assert len(detail.values) <= 30
        around = surprisal[detail.begin : detail.begin + detail.each * len(detail.values)]
        assert max(detail.values) == pytest.approx(around.max(), abs=0.01)
        assert detail.begin <= window.begin < window.end <= detail.begin + detail.each * len(detail.values)


def test_parts_of_a_file_make_no_difference(tmp_path, monkeypatch):
    file = write(tmp_path / "eval", "malicious", 0, {700: 3.0, 740: 2.0, 1500: 4.0, 1501: 4.0}, count=3001)
    budget = Budget(bins=90, windows=4, transfers=7, detail=60, news=5)
    whole = scan(file, 3001, 50, 7.5, budget)
    monkeypatch.setattr(parquet, "_ROWS", 37)
    parts = scan(file, 3001, 50, 7.5, budget)
    assert whole.curve.highest == parts.curve.highest
    assert whole.curve.mean == pytest.approx(parts.curve.mean, abs=2e-3)
    assert whole.alarm == parts.alarm == (1501, columns(3001, 0)["position"][1501])
    for one, other in zip(whole.windows, parts.windows, strict=True):
        assert (one.begin, one.end, one.wrong, one.first, one.last) == (
            (other.begin, other.end, other.wrong, other.first, other.last)
        )
        assert one.rows.prediction.tolist() == other.rows.prediction.tolist()
        assert one.detail == other.detail


def test_two_million_predictions_are_aggregated_and_it_says_so(tmp_path):
    count = 2_000_000
    surprisal = np.zeros(count, np.float32)
    surprisal[1_234_567] = 20.0
    write(tmp_path / "eval", "benign", 0, {}, count=count, surprisal=surprisal)
    write(tmp_path / "eval", "benign", 1, {})
    report = build(Request(folder=tmp_path / "eval"))
    sample = by_name(report, "benign-0.doc")
    assert len(sample.curve.mean) == 800
    # no peak is lost, and the window around it is shown prediction by prediction
    assert sample.curve.highest[1_234_567 * 800 // count] == 20.0
    (window,) = sample.windows
    assert window.begin <= 1_234_567 < window.end
    detail = window.detail
    assert detail.each == 1
    assert detail.values[1_234_567 - detail.begin] == 20.0
    told = " ".join(report.notes)
    assert "2,000,400 predictions were read, all of them" in told
    assert "800 bins, of up to 2,500 predictions" in told
    assert "others in these windows are left out" in told or "0 others" in told
    assert len(as_page(report)) < 200_000


def test_many_runs_show_less_of_each(tmp_path):
    assert Budget.of(1000, 5).bins < Budget.of(50, 5).bins
    for i in range(320):
        write(tmp_path / "eval", "benign", i, {}, count=300)
    report = build(Request(folder=tmp_path / "eval", windows=2))
    assert all(len(sample.curve.mean) == 200 for sample in report.samples)
    assert all(len(window.transfers) <= 6 for sample in report.samples for window in sample.windows)
    assert any("at most 200 bins" in note for note in report.notes)


def test_novelty_that_is_not_marked_is_counted(tmp_path):
    write(tmp_path / "eval", "malicious", 0, dict.fromkeys(range(0, 2000, 2), 1.0), count=2000)
    report = build(Request(folder=tmp_path / "eval", windows=1))
    assert len(report.samples[0].curve.news) == 400
    assert report.samples[0].curve.news_left_out == 600
    assert any("600 others are not marked" in note for note in report.notes)


def originals(folder, labels, wrong):
    for number, label in enumerate(labels):
        correct = np.arange(400) >= 400 * wrong[number]
        actual = columns(400, number)["actual"] % np.uint64(1024)
        predicted = np.where(correct, actual, (actual + np.uint64(1)) % np.uint64(1024))
        write(folder, label, number, format="gz", correct=correct, actual=actual, predicted=predicted)
    return folder


def test_the_originals_format_shows_mistakes(tmp_path):
    folder = originals(tmp_path / "eval", ["benign"] * 4 + ["malicious"] * 4, [0.1] * 4 + [0.8] * 4)
    report = build(Request(folder=folder))
    assert report.classifier.method == "logistic"
    sample = report.samples[-1]
    assert sample.verdict == "anomalous"
    assert (sample.curve.value, sample.surprisal, sample.novelty, sample.first_alarm) == (
        ("mistakes", None, None, None)
    )
    wrong = np.where(np.arange(400) >= 320, 0, columns(400, 7)["confidence"])
    assert sample.curve.highest == pytest.approx(wrong.tolist(), abs=1e-3)
    window = sample.windows[0]
    assert (window.chosen_by, window.position, window.novelty, window.surprisal) == (
        ("mistakes", None, None, None)
    )
    transfer = window.transfers[0]
    assert not transfer.correct
    assert report.places[transfer.actual].block_class is not None
    assert any("original's format" in note for note in report.notes)


@pytest.mark.parametrize("label", ["benign", "malicious"])
@pytest.mark.parametrize("wrong", [0.0, 1.0])
def test_one_label_and_all_right_or_all_wrong(tmp_path, label, wrong):
    folder = originals(tmp_path / "eval", [label] * 3, [wrong] * 3)
    report = build(Request(folder=folder))
    # nothing can judge them, but what they are like can be seen
    assert report.classifier is None
    assert report.overview.roc is None
    assert {sample.verdict for sample in report.samples} == {None}
    assert report.notes[0].startswith("There are no verdicts: ")
    assert bool(report.samples[0].windows) == (wrong == 1.0)
    assert as_page(report)
    with pytest.raises(EvaluationError, match="both labels"):
        build(Request(folder=folder, method="svm"))


def test_one_label_with_novelty_has_verdicts(tmp_path):
    write(tmp_path / "eval", "malicious", 0, {10: 30.0}, correct=np.ones(400, bool))
    report = build(Request(folder=tmp_path / "eval"))
    assert report.samples[0].verdict == "anomalous"
    assert report.overview.false_positives is None
    assert report.overview.roc is None
    assert report.overview.calibration is None


def test_a_model_without_memory_is_shown_by_surprisal(tmp_path):
    folder = tmp_path / "eval"
    for number in range(4):
        write(folder, "benign", number, calibration=None)
    report = build(Request(folder=folder))
    assert {window.chosen_by for sample in report.samples for window in sample.windows} == {"surprisal"}
    assert report.samples[0].windows[0].novelty is None
    assert any("chosen by surprisal" in note for note in report.notes)


def test_what_was_refused_and_why(folder):
    lost = evaluations.Source(steps=1000, lost=0.3, unmapped=7)
    write(folder, "malicious", 8, {100: 50.0}, source=lost)
    report = build(Request(folder=folder))
    sample = by_name(report, "malicious-8.doc")
    assert (sample.verdict, sample.score, sample.first_alarm) == ("refused", None, None)
    assert "30.0 % of the trace was lost" in sample.refused
    assert report.overview.refused == 1
    assert report.overview.false_negatives.runs == 2
    assert not any(b"s8" in line for line in as_json_lines(report).splitlines())


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ({"lost": 0.3, "unmapped": 7}, "30.0 % of the trace was lost, code without an image was met 7 times"),
        ({"truncated": True}, "it breaks off: a time limit ended its decoding"),
    ],
)
def test_what_is_anomalous_though_incomplete_and_why(folder, source, why):
    position = columns(400, 8)["position"]
    whole = build(Request(folder=folder))
    steps = {"steps": int(position[-1]) + 1, "intact": int(position[200])}
    novelty = {100: 50.0, 300: 70.0}
    write(folder, "malicious", 8, novelty, source=evaluations.Source(**steps, **source))
    report = build(Request(folder=folder, windows=2))
    sample = by_name(report, "malicious-8.doc")
    assert (sample.verdict, sample.refused, sample.score) == ("anomalous", None, 50.0)
    assert sample.incomplete.startswith(why)
    assert sample.p_value == 1 / 47
    # the rest is shown, but it is not what was judged
    assert (sample.judged, sample.transfers, sample.novelty_window) == (200, 400, 50.0)
    assert sample.first_alarm.prediction == 100
    assert {window.begin: window.above_threshold for window in sample.windows} == {100: True, 300: False}
    overview = report.overview
    assert (overview.refused, overview.anomalous) == (0, 2)
    assert (overview.false_negatives.runs, overview.false_negatives.wrong) == (3, 1)
    # what takes the scores of whole runs leaves it out
    assert (overview.roc, overview.calibration) == (whole.overview.roc, whole.overview.calibration)
    (line,) = [json.loads(line) for line in as_json_lines(report).splitlines() if b'"s8"' in line]
    assert line["incomplete"] == sample.incomplete
    assert json.loads(as_json(report))["samples"][-1]["incomplete"] == sample.incomplete
    # below the threshold, and for a score that does not grow, it is refused
    for novelty, score in (({100: 3.0, 300: 70.0}, None), ({100: 50.0}, "surprisal")):
        write(folder, "malicious", 8, novelty, source=evaluations.Source(**steps, **source))
        sample = by_name(build(Request(folder=folder, score=score, rate=0.2)), "malicious-8.doc")
        assert (sample.verdict, sample.incomplete, sample.score) == ("refused", None, None)
        assert sample.refused.startswith(why)


def test_nothing_but_refused_runs_has_no_verdicts(tmp_path):
    write(tmp_path / "eval", "benign", 0, source=evaluations.Source(steps=9, lost=0.5))
    report = build(Request(folder=tmp_path / "eval"))
    assert report.samples[0].verdict is None
    assert "no run can be judged" in report.notes[0]


def test_only_what_came_before_another_process_is_judged(tmp_path):
    position = columns(400, 0)["position"]
    source = evaluations.Source(steps=int(position[-1]) + 1, cut=int(position[200]))
    write(tmp_path / "eval", "malicious", 0, {100: 30.0, 300: 90.0}, source=source)
    whole = build(Request(folder=tmp_path / "eval")).samples[0]
    cut = build(Request(folder=tmp_path / "eval", cut=True)).samples[0]
    assert (whole.judged, whole.score) == (400, 90.0)
    assert (cut.judged, cut.transfers, cut.score) == (200, 400, 30.0)
    assert cut.first_alarm.prediction == 100
    # the rest is shown all the same
    assert {window.begin: window.above_threshold for window in cut.windows[:2]} == {300: False, 100: True}


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(EvaluationError, match="holds no evaluation"):
        build(Request(folder=tmp_path))


def test_classes_of_the_original_are_named_as_such(tmp_path):
    count = 400
    actual = columns(count)["actual"] % np.uint64(64)
    tokens = {"tokens": {"vocabulary": "modulo", "inputs": 64, "classes": 64}}
    write(tmp_path / "eval", "benign", 0, options=tokens, actual=actual, predicted=actual)
    report = build(Request(folder=tmp_path / "eval"))
    assert all(place.block_class is not None and place.block is None for place in report.places)


def test_names_with_markup_stay_text(tmp_path):
    write(tmp_path / "eval", "malicious", 0, {10: 30.0}, name=HOSTILE)
    report = build(Request(folder=tmp_path / "eval"))
    page = as_page(report).decode()
    assert "<img" not in page
    assert page.count("</script>") == 2
    assert "\u2028" not in page
    data = page.split('<script type="application/json" id="report">')[1].split("</script>")[0]
    assert json.loads(data)["samples"][0]["name"] == HOSTILE
    assert embedded(b'"</script>"') == '"\\u003c/script\\u003e"'


def test_a_page_names_nothing_outside(folder):
    page = as_page(build(Request(folder=folder))).decode()
    assert [word for word in ("https://", "src=", "@import") if word in page] == []
    assert page.count("url(") == page.count("url(#inside)")
    # the one address is the name of a namespace
    assert page.count("http://") == page.count("http://www.w3.org/2000/svg") == 1
    assert "default-src 'none'" in page
    assert "unsafe-inline" not in page


def test_the_document_reads_back_and_the_schema_is_published(folder):
    report = build(Request(folder=folder))
    document = as_json(report)
    assert msgspec.json.decode(document, type=Report) == report
    assert json.loads(document)["schema"] == 2
    assert (ROOT / "docs" / "report.schema.json").read_bytes() == schema_text(), (
        "write it anew: python -m barnum.report.document > docs/report.schema.json"
    )


def test_equal_evaluations_are_equal_reports(folder):
    one = build(Request(folder=folder))
    assert as_page(one) == as_page(build(Request(folder=folder, workers=2)))


def test_a_line_for_each_anomaly(folder):
    lines = [json.loads(line) for line in as_json_lines(build(Request(folder=folder))).splitlines()]
    assert [(line["sample"], line["begin"]) for line in lines] == [("s6", 100), ("s6", 300)]
    line = lines[0]
    assert line["name"] == "barnum_anomalous_control_flow"
    assert "9.00 nats of novelty, anomalous above 6.00 in transfers 100 to 149" in line["description"]
    assert line["severity"] == 2
    assert 0 <= line["confidence"] <= 100
    assert line["categories"] == ["anomaly"]
    assert len(line["data"]) == 12
    assert line["data"][0]["actual"]["name"].startswith("0x")


def test_an_anomaly_twice_over_the_threshold_is_severe(tmp_path):
    write(tmp_path / "eval", "malicious", 0, {10: 30.0})
    (line,) = as_json_lines(build(Request(folder=tmp_path / "eval", windows=1))).splitlines()
    assert json.loads(line)["severity"] == 3


# symbols


def elf(names, *, offset=0x1000, base=0x400000):
    """A 64-bit ELF image as it lies in memory: one segment, a table of dynamic symbols, no sections."""
    strings = b"\0" + b"".join(name.encode() + b"\0" for name in names)
    table = bytes(24)
    at = 1
    for index, name in enumerate(names):
        table += struct.pack("<IBBHQQ", at, 0x12, 0, 1, base + 0x2000 + 0x40 * index, 0x20)
        at += len(name) + 1
    image = bytearray(0x3000)
    symtab, strtab, hashes, dynamic = 0x1000, 0x1800, 0x1C00, 0x1D00
    image[symtab : symtab + len(table)] = table
    image[strtab : strtab + len(strings)] = strings
    count = len(names) + 1
    image[hashes : hashes + 12 + 4 * count] = struct.pack("<III", 1, count, 1) + bytes(4 * count)
    entries = [
        (5, base + strtab),
        (6, base + symtab),
        (10, len(strings)),
        (11, 24),
        (4, base + hashes),
        (0, 0),
    ]
    packed = b"".join(struct.pack("<QQ", *entry) for entry in entries)
    image[dynamic : dynamic + len(packed)] = packed
    ident = b"\x7fELF\x02\x01\x01" + bytes(9)
    image[:64] = ident + struct.pack("<HHIQQQIHHHHHH", 3, 62, 1, base, 64, 0, 0, 64, 56, 2, 0, 0, 0)
    # on disk the segments lay elsewhere, and these numbers still say so
    load = struct.pack("<IIQQQQQQ", 1, 5, 0, base, base, 0x3000, 0x3000, 0x1000)
    where = struct.pack(
        "<IIQQQQQQ", 2, 6, dynamic - offset, base + dynamic, base, len(packed), len(packed), 8
    )
    image[64:176] = load + where
    return bytes(image)


def test_symbols_of_an_image_laid_out_as_in_memory():
    found = Symbols(functions_of(elf(["open_file", "_ZN3foo3barEv"])))
    assert found.find(0x2004) == ("open_file", 4)
    assert found.find(0x2040) == ("foo::bar()", 0)
    # behind the end of one, before the begin of the next
    assert found.find(0x2030) is None
    assert found.find(0x10) is None


def pe(names):
    """A 64-bit PE image as it lies in memory: one section at 0x1000, which on disk was at 0x400."""
    image = bytearray(0x3000)
    image[:2] = b"MZ"
    struct.pack_into("<I", image, 60, 0x80)
    image[0x80:0x84] = b"PE\0\0"
    struct.pack_into("<HHIIIHH", image, 0x84, 0x8664, 1, 0, 0, 0, 240, 0x2022)
    optional = 0x98
    struct.pack_into("<HBBIIIII", image, optional, 0x20B, 14, 0, 0x200, 0, 0, 0x1000, 0x1000)
    struct.pack_into(
        "<QIIHHHHHHIIII", image, optional + 24, 0x180000000, 0x1000, 0x200, *[6, 0] * 3, 0, 0x3000, 0x400, 0
    )
    struct.pack_into("<HHQQQQII", image, optional + 68, 3, 0, 0x100000, 0x1000, 0x100000, 0x1000, 0, 16)
    struct.pack_into("<II", image, optional + 112, 0x1000, 0x800)
    struct.pack_into(
        "<8sIIIIIIHHI", image, optional + 240, b".rdata", 0x2000, 0x1000, 0x200, 0x400, 0, 0, 0, 0, 0x40000040
    )
    count = len(names)
    functions, pointers, ordinals, at = 0x1100, 0x1200, 0x1300, 0x1400
    struct.pack_into(
        "<IIHHIIIIIII", image, 0x1000, 0, 0, 0, 0, 0x1080, 1, count, count, functions, pointers, ordinals
    )
    image[0x1080:0x1086] = b"a.dll\0"
    for index, name in enumerate(names):
        struct.pack_into("<I", image, functions + 4 * index, 0x2000 + 0x40 * index)
        struct.pack_into("<I", image, pointers + 4 * index, at)
        struct.pack_into("<H", image, ordinals + 2 * index, index)
        image[at : at + len(name)] = name.encode()
        at += len(name) + 1
    return bytes(image)


def test_exports_of_a_pe_image():
    found = Symbols(functions_of(pe(["CreateThing", "OpenThing"])))
    assert found.find(0x2003) == ("CreateThing", 3)
    assert found.find(0x2040) == ("OpenThing", 0)
    assert found.find(0x1FFF) is None


@pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")
def test_the_file_that_an_image_was_made_from_tells_all_its_functions(tmp_path):
    source, program, image = tmp_path / "a.c", tmp_path / "a", tmp_path / "a.image"
    source.write_text(
        "__attribute__((noinline)) static int hidden(int x) { return 3 * x; }\n"
        "int (*volatile f)(int) = hidden;\nint main(void) { return f(4); }\n"
    )
    subprocess.run(["gcc", "-O1", "-o", program, source], check=True)
    with open_regular(program) as descriptor:
        image.write_bytes(b"".join(elf_layout(read_elf(descriptor)).chunks(descriptor)))
    assert not any(function.name == "hidden" for function in functions_of(image.read_bytes()))
    found = functions_of(image.read_bytes(), program.read_bytes())
    begin = next(function.begin for function in found if function.name == "hidden")
    symbols, why = read_symbols(image, str(program))
    assert why is None
    assert symbols.find(begin + 1) == ("hidden", 1)
    # of another program they would be wrong
    program.write_bytes(program.read_bytes().replace(image.read_bytes()[begin : begin + 3], b"\xcc" * 3))
    assert read_symbols(image, str(program))[0].find(begin) is None


def test_images_that_were_tampered_with_do_no_harm(tmp_path):
    draw = np.random.default_rng(0)
    for number, whole in enumerate([elf(["a", "b"]), pe(["a", "b"])] * 2):
        image = bytearray(whole)
        for at in draw.integers(0, 0x200, 30).tolist() + draw.integers(0x1000, 0x1400, 60).tolist():
            image[at] = draw.integers(256)
        image[:4] = whole[:4]
        file = tmp_path / str(number)
        file.write_bytes(image)
        symbols, why = read_symbols(file)
        assert len(symbols) == 0 or why is None


def test_of_several_names_the_plain_one():
    found = Symbols([Function(16, 8, "_IO_getc"), Function(16, 8, "getc"), Function(64, 0, "last")])
    assert found.find(17) == ("getc", 1)
    assert found.find(70) == ("last", 6)
    assert found.find(1 << 40) is None


@pytest.mark.parametrize("content", [b"", b"MZ" + b"\xff" * 500, b"\x7fELF" + b"\xff" * 500])
def test_damaged_images_have_no_symbols(tmp_path, content):
    image = tmp_path / "image"
    image.write_bytes(content)
    assert len(read_symbols(image)[0]) == 0


def test_an_image_whose_reader_dies_or_stalls_has_no_symbols(tmp_path):
    symbols, why = read_symbols(tmp_path / "gone")
    assert len(symbols) == 0
    assert "could not be read" in why
    image = tmp_path / "image"
    image.write_bytes(elf(["f"]))
    symbols, why = read_symbols(image, seconds=0.001)
    assert "more than 0.001 seconds" in why


def test_an_image_is_recognised_by_its_code():
    image = elf(["f"])
    assert same_code(image, image)
    assert not same_code(image[:-1] + b"x", image)
    assert not same_code(b"", image)
    assert as_file(b"\x7fELF")[1] == 0
