"""Runs of which something is missing: anomalous where they begin so, by a score that can only grow, else
refused."""

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from test_cli_classifier import CALIBRATION, line_of, run, write_runs
from test_cli_classifier import write as write_one
from test_evaluations_files import columns, header

from barnum import evaluations
from barnum.cli.classifier import command
from barnum.errors import EvaluationError, SomeFailedError
from barnum.evaluations.header import Source
from barnum.paths import Gap, Kind, Learn, transfers
from barnum.sequences import Encoder, RunNovelty, Vocabulary, edges_of, fit_novelty, units_of
from barnum.verdicts import judgement, methods
from barnum.verdicts.conformal import ConformalClassifier
from barnum.verdicts.features import read_run
from barnum.verdicts.method import Classifier
from barnum.verdicts.scores import SCORES
from barnum.verdicts.scores.interface import Score
from barnum.verdicts.scores.novelty import Novelty
from learning import blocks_of, nominal_path, part, path_of, transfers_of

STEPS = 1000
# a step is a prediction; what is lost begins at half of them
HALF = STEPS // 2
REASONS = {
    "timeout": (
        {"truncated": True, "intact": STEPS, "lost": 0.0},
        "it breaks off: a time limit ended its decoding: give more time; or its report is not whole",
    ),
    "report": (
        {"truncated": True, "intact": HALF},
        "it breaks off: a time limit ended its decoding: give more time; or its report is not whole",
    ),
    "lost": (
        {"lost": 0.3, "intact": HALF},
        "30.0 % of the trace was lost (at most 5 % may be)",
    ),
    "unmapped": (
        {"lost": 0.3, "intact": HALF, "unmapped": 7},
        "30.0 % of the trace was lost, code without an image was met 7 times (at most 5 % may be)",
    ),
    "both": (
        {"truncated": True, "intact": HALF, "lost": 0.06},
        "it breaks off: a time limit ended its decoding: give more time; or its report is not whole",
    ),
}


@pytest.fixture
def folder(tmp_path):
    return write_runs(tmp_path / "eval")


def write(folder, label, number, novelty, **source):
    """An evaluation of 1,000 predictions, a step each; ``novelty`` are nats by prediction."""
    weights = np.zeros(STEPS, np.float32)
    weights[list(novelty)] = list(novelty.values())
    parts = columns(STEPS, number, novelty=weights, position=np.arange(STEPS, dtype=np.uint64))
    fields = {"name": f"{label}-{number}.doc", "sample": f"s{number}", "calibration": CALIBRATION}
    file = folder / evaluations.file_name(label, f"s{number}")
    told = header(label, source=Source(steps=STEPS, **source), **fields)
    with evaluations.writer_for("parquet", file, told) as writer:
        writer.write(parts)
    return file


def of(found, sample):
    (at,) = [at for at, run in enumerate(found.runs) if run.sample == sample]
    return found.runs[at], found.verdicts[at]


@pytest.mark.parametrize("label", ["benign", "malicious"])
@pytest.mark.parametrize("reason", REASONS)
def test_what_begins_above_the_threshold_is_anomalous_and_says_so(folder, tmp_path, reason, label):
    before = judgement.judge(folder)
    source, why = REASONS[reason]
    write(folder, label, 90, {100: 20.0, 120: 4.0, 480: 3.0}, **source)
    after = judgement.judge(folder)
    judged, verdict = of(after, "s90")
    assert (verdict.word, verdict.score, verdict.incomplete) == ("anomalous", 24.0, why)
    assert verdict.refused is None
    # an upper bound, by the same calibration as before
    assert after.classifier.state() == before.classifier.state()
    assert verdict.p_value == before.classifier.judge(judged).p_value == 1 / 49
    assert judged.transfers == (STEPS if reason == "timeout" else HALF)
    # it is found, or a false alarm; what takes the scores of whole runs leaves it out
    old, new = before.summary, after.summary
    assert new.refused == old.refused == 0
    assert new.auc == old.auc
    for name, own, wrong in (("false_positives", "benign", 1), ("false_negatives", "malicious", 0)):
        was, now = getattr(old, name), getattr(new, name)
        mine = label == own
        assert (now.runs, now.wrong) == (was.runs + mine, was.wrong + mine * wrong)
    # as a user meets it
    told = tmp_path / "v.json"
    output = run(folder, "--json", told, "--csv", tmp_path / "v.csv", "--fail-on-anomaly", code=3)
    assert line_of(output, f"{label}-90.doc").endswith(f"anomalous, though incomplete: {why}")
    assert "incomplete: 1 of 13 runs, anomalous by how they begin" in output
    (row,) = [row for row in msgspec.json.decode(told.read_bytes())["runs"] if row["sample"] == "s90"]
    assert (row["verdict"], row["incomplete"], row["refused"]) == ("anomalous", why, None)
    assert (row["score"], row["novelty_window"]) == (24.0, 24.0)
    (line,) = [line for line in (tmp_path / "v.csv").read_text().splitlines() if line.endswith("-s90")]
    assert line.split(",")[1] == "1"


@pytest.mark.parametrize("reason", REASONS)
def test_what_does_not_begin_above_the_threshold_is_refused(folder, reason):
    before = judgement.judge(folder)
    source, why = REASONS[reason]
    for novelty in ({}, {100: 5.0, 480: 5.0}, {100: 5.0, HALF: 90.0}):
        if reason == "timeout" and HALF in novelty:
            continue
        write(folder, "malicious", 90, novelty, **source)
        after = judgement.judge(folder)
        judged, verdict = of(after, "s90")
        assert (verdict.word, verdict.refused, verdict.incomplete) == ("refused", why, None)
        # as before: all that is there, and its score
        assert (verdict.score, judged.transfers) == (max(novelty.values(), default=0.0), STEPS)
        assert after.summary == msgspec.structs.replace(before.summary, refused=1)
        assert line_of(run(folder), "malicious-90.doc").endswith(f"refused: {why}")
    for number in (8, 9, 10, 11):
        (folder / f"malicious-s{number}.parquet").unlink()
    with pytest.raises(SomeFailedError, match="1 of 9 runs could not be judged"):
        run(folder, "--fail-on-anomaly")


def test_where_a_file_does_not_tell_what_is_intact_nothing_is_sure(folder):
    for number, source in ((90, {"truncated": True, "lost": 0.0}), (91, {"lost": 0.3})):
        write(folder, "malicious", number, {100: 90.0}, **source)
        assert of(judgement.judge(folder), f"s{number}")[1].word == "refused"


def test_where_nothing_is_left_to_judge_nothing_is_sure(folder):
    write(folder, "malicious", 90, {100: 90.0}, lost=0.3, intact=0)
    write(folder, "malicious", 91, {100: 90.0}, cut=0, truncated=True, intact=STEPS, lost=0.0)
    found = judgement.judge(folder, cut=True)
    assert of(found, "s90")[1].refused.startswith("30.0 % of the trace was lost")
    assert of(found, "s91")[1].refused.startswith("nothing was executed before")


@pytest.mark.parametrize(("cut", "judged"), [(50, None), (300, 300), (900, HALF)])
def test_what_follows_another_process_does_not_count(folder, cut, judged):
    write(folder, "malicious", 90, {100: 90.0, 700: 90.0}, lost=0.3, intact=HALF, cut=cut)
    part, verdict = of(judgement.judge(folder, cut=True), "s90")
    if judged is None:
        assert verdict.word == "refused"
    else:
        assert (verdict.word, part.transfers, part.cut) == ("anomalous", judged, True)


def test_losses_that_are_borne_are_borne_where_decoding_ended_early(folder):
    # as in runs that were decoded to their end
    write(folder, "malicious", 90, {HALF: 90.0}, truncated=True, lost=0.05, intact=10)
    assert of(judgement.judge(folder), "s90")[1].incomplete is not None
    assert of(judgement.judge(folder, max_lost=0.04), "s90")[1].refused is not None


@pytest.mark.parametrize("how", [*SCORES.names, "svm", "logistic"])
def test_only_what_can_only_grow_says_so_of_a_part(folder, how):
    for i in range(20, 60):
        write_one(folder, "benign", i, float(i % 5), wrong=i / 400)
    options = {"score": how} if how in SCORES else {"method": how}
    before = judgement.judge(folder, **options)
    assert before.classifier.grows == (how == "novelty")
    # like one that is found, but for its surprisal
    file = write_one(folder, "malicious", 90, 30.0)
    parts = columns(400, 90, correct=np.arange(400) >= (360 if how == "svm" else 240))
    parts["novelty"] = np.where(np.arange(400) == 200, 30.0, 0.0).astype(np.float32)
    parts["surprisal"] *= np.float32(1 if how in methods.METHODS else 30)
    source = Source(steps=4000, truncated=True, intact=4000, lost=0.0)
    told = header("malicious", source=source, sample="s90", calibration=CALIBRATION)
    with evaluations.writer_for("parquet", file, told) as writer:
        writer.write(parts)
    after = judgement.judge(folder, **options)
    judged, verdict = of(after, "s90")
    assert after.classifier.judge(judged).anomalous
    assert verdict.word == ("anomalous" if how == "novelty" else "refused")
    assert after.classifier.state() == before.classifier.state()


def test_what_says_nothing_of_itself_does_not_grow():
    assert not Score.grows
    assert not Classifier.grows.fget(None)


def test_a_forced_threshold_is_above_benign_runs_of_which_something_is_missing(folder):
    write(folder, "benign", 90, {100: 40.0, 700: 90.0}, lost=0.3, intact=HALF)
    write(folder, "malicious", 91, {100: 50.0}, lost=0.3, intact=HALF)
    write(folder, "benign", 92, {100: 70.0}, lost=0.3)
    found = judgement.judge(folder, force=True)
    assert found.classifier.threshold == 40.0
    assert found.summary.false_positives.wrong == 0
    assert [of(found, f"s{n}")[1].word for n in (90, 91, 92)] == ["refused", "anomalous", "refused"]


def test_a_saved_classifier_needs_no_run_that_is_whole(folder, tmp_path):
    run(folder, "-s", tmp_path / "c.json")
    alone = tmp_path / "alone"
    alone.mkdir()
    write(alone, "malicious", 90, {100: 5.0}, lost=0.3, intact=HALF)
    with pytest.raises(EvaluationError, match=r"no run can be judged: 30\.0 % of the trace was lost"):
        run("-l", tmp_path / "c.json", alone)
    write(alone, "malicious", 90, {100: 50.0}, lost=0.3, intact=HALF)
    run("-l", tmp_path / "c.json", "--fail-on-anomaly", alone, code=3)
    # but none is learnt
    with pytest.raises(EvaluationError, match="no run can be judged"):
        run(alone)


def test_a_roc_curve_takes_scores_of_whole_runs(folder, tmp_path):
    run(folder, "-r", tmp_path / "before.csv")
    write(folder, "malicious", 90, {100: 50.0}, lost=0.3, intact=HALF)
    run(folder, "-r", tmp_path / "after.csv", "-p", tmp_path / "v.png")
    assert (tmp_path / "after.csv").read_text() == (tmp_path / "before.csv").read_text()


def test_help_says_so():
    text = " ".join(CliRunner().invoke(command, ["--help"]).output.split())
    assert "is refused, unless it is anomalous by how it begins" in text


# the score of a beginning

BLOCKS = blocks_of(40, (Kind.RETURN, Kind.INDIRECT_CALL, Kind.FAR), in_libc=10)
steps = st.lists(st.integers(0, 39), min_size=2, max_size=120)


@pytest.fixture(scope="module")
def learnt():
    runs = [path_of(nominal_path(seed, 300), BLOCKS) for seed in range(5)]
    counted = [edges_of([transfers(run)]) for run in runs]
    vocabulary = Vocabulary.fit(units_of(counted)[0])
    return vocabulary, fit_novelty(vocabulary, counted)[0]


def novelty_of(learnt, path):
    vocabulary, rates = learnt
    made = transfers(path)
    return made, RunNovelty(vocabulary, rates).score(Encoder(vocabulary).encode(made), made)


@settings(deadline=None)
@given(steps, st.dictionaries(st.integers(1, 119), st.sampled_from([*Gap][1:]), max_size=4), st.data())
def test_the_novelty_of_a_transfer_depends_on_what_came_before_alone(learnt, path, gaps, data):
    gaps = {at: cause for at, cause in gaps.items() if at < len(path)}
    end = data.draw(st.integers(1, len(path)))
    made, whole = novelty_of(learnt, path_of(path, BLOCKS, gaps))
    first = {at: cause for at, cause in gaps.items() if at < end}
    some, beginning = novelty_of(learnt, path_of(path[:end], BLOCKS, first))
    count = len(some)
    assert some.position.tolist() == made.position[:count].tolist()
    assert beginning.tobytes() == whole[:count].tobytes()
    # a part with gaps shows no transfer that the whole does not: there is none over a gap
    assert not set(gaps) & set(made.position.tolist())


@settings(deadline=None)
@given(
    st.lists(st.sampled_from([0.0, 0.0, 0.1, 1.7, 4.3, 9.0]), min_size=2, max_size=200),
    st.sampled_from([1, 3, 50]),
    st.floats(0, 30),
    st.data(),
)
def test_a_beginning_scores_at_most_what_the_whole_does(tmp_path_factory, weights, window, threshold, data):
    folder = tmp_path_factory.mktemp("run")
    count = len(weights)
    calibration = evaluations.Calibration("novelty", window, (1.0,))
    parts = columns(count, 1, novelty=np.array(weights, np.float32))
    parts["position"] = np.arange(1, count + 1, dtype=np.uint64)
    file = folder / evaluations.file_name("benign", "aa")
    with evaluations.writer_for("parquet", file, header(calibration=calibration)) as writer:
        writer.write(parts)
    whole = read_run(file)
    classifier = ConformalClassifier([threshold], 0.5, Novelty(window))
    assert classifier.grows
    ends = sorted(data.draw(st.lists(st.integers(2, count + 1), min_size=1, max_size=5)))
    scores = []
    for end in ends:
        beginning = read_run(file, steps=end)
        assert beginning.transfers == end - 1
        verdict, judged = classifier.judge(beginning), classifier.judge(whole)
        # to the last bit: they are compared with a threshold
        assert verdict.score <= judged.score
        assert verdict.p_value >= judged.p_value
        assert judged.anomalous or not verdict.anomalous
        scores.append(verdict.score)
    assert scores == sorted(scores)


def test_what_is_left_of_a_run_may_score_more_than_the_whole(learnt):
    # why what comes after a loss is not judged: without its middle, far places come into one window
    new = [30, 33, 36, 39, 30]
    path = [*new, *nominal_path(1, 900), *new[::-1]]
    whole = transfers_of(BLOCKS, path)
    vocabulary, rates = learnt

    def score(each):
        novelty = RunNovelty(vocabulary, rates).score(Encoder(vocabulary).encode(each), each)
        at = np.flatnonzero(novelty)
        return evaluations.worst_window(at, novelty[at].astype(float), 500)[0]

    lost = transfers_of(BLOCKS, [*path[:100], *path[800:]], first=(0, 100))
    assert score(part(whole, 0, 100)) <= score(whole) < score(lost)


def test_kinds_that_are_learnt_are_part_of_a_beginning_as_they_are_of_the_whole():
    path = path_of([0, 1, 2, 3], BLOCKS, {2: Gap.LOST})
    assert transfers(path, Learn(call=True, jmp=True)).position.tolist() == [1]


def test_a_beginning_is_the_same_with_and_without_the_cache(folder):
    write(folder, "malicious", 90, {100: 50.0, 700: 90.0}, lost=0.3, intact=HALF)
    first, second = run(folder), run(folder)
    assert first == second
    assert "50.00" in line_of(second, "malicious-90.doc")
