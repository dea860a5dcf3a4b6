"""Scoring of whole runs: every transfer, in order, whatever the network and its tokens."""

import numpy as np
import pytest

from barnum.errors import ModelError
from barnum.models import scoring
from barnum.models.evaluate import Evaluator
from barnum.models.networks import paper_scorer
from barnum.models.scoring import mean_of
from barnum.paths import Gap, Kind, Learn, transfers
from barnum.sequences import Tokens
from learning import Cut, attack_path, blocks_of, fit, nominal_path, path_of, spec_of

BLOCKS = blocks_of(40, (Kind.RETURN, Kind.INDIRECT_CALL, Kind.CONDITIONAL), in_libc=10)
KINDS = [(network, vocabulary) for network in ("causal", "paper") for vocabulary in ("learnt", "modulo")]
TOKENS = {"learnt": Tokens(), "modulo": Tokens(vocabulary="modulo", inputs=64, classes=48)}
JUDGED = path_of(attack_path(7, 900), BLOCKS, {300: Gap.OVERFLOW, 301: Gap.ASYNCHRONOUS, 500: Gap.LOST})
TYPES = {
    "correct": np.bool_,
    "predicted": np.uint64,
    "confidence": np.float32,
    "actual": np.uint64,
    "surprisal": np.float32,
    "seen": np.uint8,
    "novelty": np.float32,
    "position": np.uint64,
}


@pytest.fixture(scope="module")
def models():
    """A small model of each kind, of the same runs."""
    runs = [path_of(nominal_path(i, 400), BLOCKS) for i in range(4)]
    return {kind: fit(spec_of(*kind, epochs=1, units=4, learning_rate=0.02), runs)[0] for kind in KINDS}


def columns(model, path, threads=1, learn=None):
    parts = list(Evaluator(model, threads, learn).columns(path))
    for part in parts:
        assert {name: array.dtype for name, array in part.items()} == TYPES
        assert len({len(array) for array in part.values()}) == 1
    return {
        name: np.concatenate([np.zeros(0, dtype), *(part[name] for part in parts)])
        for name, dtype in TYPES.items()
    }


@pytest.mark.parametrize("kind", KINDS)
def test_every_transfer_is_scored_in_order(models, kind):
    found = columns(models[kind], JUDGED)
    path = transfers(JUDGED)
    assert 300 < len(path) < 800
    assert found["position"].tolist() == path.position.tolist()
    assert found["actual"].tolist() == TOKENS[kind[1]].targets(BLOCKS)[path.target].tolist()
    assert found["correct"].tolist() == (found["predicted"] == found["actual"]).tolist()
    assert found["correct"].any()
    assert not found["correct"].all()
    assert np.isfinite(found["surprisal"]).all()
    assert (found["surprisal"] >= 0).all()
    assert ((found["confidence"] > 0) & (found["confidence"] <= 1)).all()
    assert np.isin(found["seen"], [0, 1, 2]).all()
    assert (found["novelty"] >= 0).all()
    # what is right has the probability that was told
    right = found["correct"]
    assert np.exp(-found["surprisal"][right]) == pytest.approx(found["confidence"][right], rel=1e-4)
    # and what is not has at most what is left
    wrong = np.exp(-found["surprisal"][~right].astype(float))
    assert (wrong + found["confidence"][~right] <= 1 + 1e-5).all()


def test_what_is_new_is_the_same_for_all_networks(models):
    found = {kind: columns(model, JUDGED) for kind, model in models.items()}
    one = found["causal", "learnt"]
    assert (one["seen"] == 0).any()
    assert (one["seen"] == 2).any()
    # news is of what was not seen
    assert one["novelty"].any()
    assert not one["novelty"][one["seen"] == 2].any()
    for other in found.values():
        assert other["seen"].tolist() == one["seen"].tolist()
        assert other["novelty"].tolist() == one["novelty"].tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_predicted_was_learnt(models, kind):
    found = columns(models[kind], JUDGED)
    if kind[1] == "modulo":
        assert (found["predicted"] < 48).all()
        assert (found["actual"] < 48).all()
    else:
        assert np.isin(found["predicted"], models[kind].vocabulary.target).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("length", range(6))
def test_short_traces(models, kind, length):
    found = columns(models[kind], path_of(range(length), BLOCKS))
    # of three kinds in turn two are learnt
    expected = [step for step in range(1, length) if (step - 1) % 3 < 2]
    assert found["position"].tolist() == expected
    assert found["actual"].tolist() == TOKENS[kind[1]].targets(BLOCKS)[expected].tolist()
    assert np.isfinite(found["surprisal"]).all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_trace_without_a_learnt_transfer(models, kind):
    found = columns(models[kind], path_of([2, 5, 8, 2, 5], BLOCKS))
    assert all(len(array) == 0 for array in found.values())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("together", [1 << 16, 150])
def test_threads_and_chunks_change_nothing(models, monkeypatch, kind, together):
    monkeypatch.setattr(paper_scorer, "_WINDOWS", 64)
    monkeypatch.setattr(paper_scorer, "TOGETHER", together)
    found = columns(models[kind], JUDGED)
    paths = [JUDGED, *(Cut(JUDGED, steps) for steps in (1000, 150, 50, 13, 7))]
    for threads, path in zip((3, 1, 2, 1, 8, 1), paths, strict=True):
        again = columns(models[kind], path, threads)
        assert all(again[name].tobytes() == found[name].tobytes() for name in TYPES)


@pytest.mark.parametrize("vocabulary", ["learnt", "modulo"])
def test_parts_of_a_long_run_remember_what_came_before(models, monkeypatch, vocabulary):
    model = models["causal", vocabulary]
    found = columns(model, JUDGED)
    for size in (1, 50, 256):
        monkeypatch.setattr(scoring, "PART", size)
        again = columns(model, JUDGED, threads=2)
        assert all(again[name].tobytes() == found[name].tobytes() for name in TYPES)


@pytest.mark.parametrize("kind", KINDS)
def test_scoring_leaves_the_model_as_it_is(models, kind):
    model = models[kind]
    before = {name: array.tobytes() for name, array in model.arrays().items()}
    found = columns(model, JUDGED)
    again = columns(model, JUDGED)
    assert all(again[name].tobytes() == found[name].tobytes() for name in TYPES)
    assert {name: array.tobytes() for name, array in model.arrays().items()} == before


def test_one_evaluator_scores_several_runs_as_if_each_were_alone(models):
    other = blocks_of(35, (Kind.RETURN,), in_libc=2)
    runs = [JUDGED, path_of(nominal_path(3, 200), other), path_of([0], BLOCKS), JUDGED]
    for model in models.values():
        evaluator = Evaluator(model, 1)
        together = [list(evaluator.columns(run)) for run in runs]
        for run, parts in zip(runs, together, strict=True):
            alone = columns(model, run)
            for name in TYPES:
                joined = np.concatenate([np.zeros(0, TYPES[name]), *(part[name] for part in parts)])
                assert joined.tobytes() == alone[name].tobytes()


def test_the_models_filter_counts_not_the_callers(models):
    model = models["causal", "learnt"]
    found = columns(model, JUDGED, learn=Learn(ret=False))
    assert found["position"].tolist() == columns(model, JUDGED)["position"].tolist()
    runs = [path_of(nominal_path(i, 300), BLOCKS) for i in range(2)]
    for network in ("causal", "paper"):
        returns = fit(spec_of(network, epochs=1, units=4, learn=Learn(icall=False)), runs)[0]
        expected = transfers(JUDGED, Learn(icall=False)).position.tolist()
        assert columns(returns, JUDGED)["position"].tolist() == expected


def test_nothing_before_lost_data_is_history(models):
    # the network of windows looks over gaps, as the original does
    steps = nominal_path(5, 240)
    model = models["causal", "learnt"]
    whole = columns(model, path_of(steps, BLOCKS))
    broken = columns(model, path_of(steps, BLOCKS, {120: Gap.LOST}))
    alone = columns(model, path_of(steps[120:], BLOCKS))
    after = broken["position"] > 120
    assert broken["surprisal"][after] == pytest.approx(alone["surprisal"], abs=1e-5)
    before = broken["position"] < 120
    assert broken["surprisal"][before] == pytest.approx(whole["surprisal"][whole["position"] < 120], abs=1e-5)


def test_means_of_a_part(models):
    (part,) = Evaluator(models["causal", "learnt"], 1).columns(JUDGED)
    count, nats, right = mean_of(part)
    assert count == len(part["correct"])
    assert nats == pytest.approx(float(part["surprisal"].astype(float).sum()))
    assert right == int(part["correct"].sum())


@pytest.mark.parametrize("vocabulary", ["learnt", "modulo"])
def test_an_attack_surprises_where_it_is(models, vocabulary):
    model = models["causal", vocabulary]
    steps = attack_path(50, 400)
    found = columns(model, path_of(steps, BLOCKS))
    attacked = (found["position"] >= 200) & (found["position"] <= 206)
    assert found["surprisal"][attacked].mean() > 2 * found["surprisal"][~attacked].mean()
    assert found["novelty"][attacked].any()
    assert found["correct"][~attacked].mean() > 0.7


@pytest.mark.parametrize("vocabulary", ["learnt", "modulo"])
def test_windows_that_a_network_tells_no_finite_number_of_are_refused(vocabulary):
    runs = [path_of(nominal_path(i, 400), BLOCKS) for i in range(2)]
    model, _ = fit(spec_of("paper", vocabulary, epochs=1, units=4), runs)
    for array in model.network.arrays().values():
        array[:] = np.finfo(np.float32).max
    with pytest.raises(ModelError, match=r"^its weights give no finite predictions: learn the model anew$"):
        columns(model, JUDGED)
