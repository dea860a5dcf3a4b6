"""A network and a rote learner together: chances, weights, files and their damage."""

from contextlib import nullcontext
from functools import partial

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from barnum.errors import ModelError, SetsError
from barnum.learning.mixture import check_partner, learn_mixture
from barnum.learning.rote.learner import RoteLearner, RoteSpec
from barnum.models import scoring
from barnum.models.evaluate import Evaluator
from barnum.models.model import Model
from barnum.models.networks.causal_scorer import CausalScorer
from barnum.models.networks.mixture import CELLS, Both, MixtureScorer, Weighing, mixed
from barnum.models.saved import load_model, model_of, save_document, save_weights
from barnum.paths import Gap, Kind, Learn, transfers
from barnum.sequences import Tokens
from learning import Cut, attack_path, blocks_of, fit, nominal_path, path_of, spec_of, transfers_of

BLOCKS = blocks_of(40, (Kind.RETURN, Kind.INDIRECT_CALL), in_libc=10)
JUDGED = path_of(attack_path(7, 900), BLOCKS, {300: Gap.OVERFLOW, 301: Gap.ASYNCHRONOUS, 500: Gap.LOST})
TOKENS = {"learnt": Tokens(), "modulo": Tokens(vocabulary="modulo", inputs=64, classes=48)}
VOCABULARIES = ("learnt", "modulo")


def runs_of(*seeds):
    return [path_of(nominal_path(seed, 600), BLOCKS) for seed in seeds]


def network_of(vocabulary="learnt", runs=None, **changes):
    usual = {"epochs": 1, "units": 4, "learning_rate": 0.02}
    return fit(spec_of("causal", vocabulary, **(usual | changes)), runs or runs_of(*range(4)))[0]


def rote_of(vocabulary="learnt", runs=None, names=None, **changes):
    usual = {"learn": Learn(), "tokens": TOKENS[vocabulary], "lengths": [0, 1, 2, 4, 8]}
    learner = RoteLearner(RoteSpec(**(usual | changes)), 1)
    for number, run in enumerate(runs or runs_of(0, 1, 2, 30, 31)):
        learner.learn(names[number] if names else f"rote-{number}", partial(nullcontext, run))
    return learner.model()


def mix(network, rote, runs=None):
    opened = [(f"weighed-{i}", partial(nullcontext, run)) for i, run in enumerate(runs or runs_of(50, 51))]
    return learn_mixture(network, rote, opened, 1, lambda _: None)


@pytest.fixture(scope="module")
def models():
    """A mixture for each vocabulary, what its weights were learnt from, and each of the two alone."""
    made = {}
    for vocabulary in VOCABULARIES:
        network = network_of(vocabulary)
        made[vocabulary] = (*mix(network, rote_of(vocabulary)), network)
    return made


def columns(model, path, threads=1):
    parts = list(Evaluator(model, threads).columns(path))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def causal_of(model):
    return CausalScorer(model.network, model.names, model.rates, model.extra["memory.edge"])


def assert_same(found, other):
    assert found.keys() == other.keys()
    for name, array in found.items():
        assert array.tobytes() == other[name].tobytes(), name


# --- scoring ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("vocabulary", VOCABULARIES)
def test_every_transfer_is_scored_and_novelty_is_the_networks_own(models, vocabulary):
    model, _, network = models[vocabulary]
    found, alone = columns(model, JUDGED), columns(network, JUDGED)
    assert found["position"].tolist() == transfers(JUDGED).position.tolist()
    assert {name: a.dtype for name, a in found.items()} == {name: a.dtype for name, a in alone.items()}
    for name in ("actual", "seen", "novelty"):
        assert found[name].tobytes() == alone[name].tobytes(), name
    assert found["correct"].tolist() == (found["predicted"] == found["actual"]).tolist()
    assert found["surprisal"].tobytes() != alone["surprisal"].tobytes()
    assert np.isfinite(found["surprisal"]).all()
    assert ((found["confidence"] > 0) & (found["confidence"] <= 1)).all()


@pytest.mark.parametrize("vocabulary", VOCABULARIES)
def test_confidence_is_the_chance_of_what_was_predicted(models, vocabulary):
    found = columns(models[vocabulary][0], JUDGED)
    right = found["correct"]
    assert right.sum() > 300
    np.testing.assert_allclose(found["confidence"][right], np.exp(-found["surprisal"][right]), rtol=2e-4)


@pytest.mark.parametrize("vocabulary", VOCABULARIES)
@given(seed=st.integers(0, 1 << 30), length=st.integers(2, 40))
@settings(max_examples=8, deadline=None)
def test_chances_of_all_targets_add_up_to_no_more_than_one(models, vocabulary, seed, length):
    model = models[vocabulary][0]
    draw = np.random.default_rng(seed)
    before = nominal_path(seed, length) if seed % 2 else draw.integers(0, 40, length).tolist()
    # blocks 40 … 49 are known to neither
    blocks = blocks_of(50, (Kind.RETURN, Kind.INDIRECT_CALL), in_libc=10)
    total, known, fresh = 0.0, set(), []
    causal = causal_of(model)
    for target in range(50):
        scorer = MixtureScorer(causal, model.names, model.mixture.rote, model.tokens, 1)
        both, _ = scorer.score(transfers_of(blocks, [*before, target]))
        chance = float(np.exp(-mixed(both, model.mixture.weight).surprisal[-1]))
        token = int(both.actual[-1])
        of_both = set(model.names.target.tolist()) | set(model.mixture.rote.counts.targets.tolist())
        if token not in of_both:
            fresh.append(chance)
        elif token not in known:
            known.add(token)
            total += chance
    total += fresh[0] if fresh else 0.0
    assert len(set(fresh)) <= 1
    assert 0.2 < total <= 1 + 1e-5


def test_neither_parts_nor_threads_change_anything(models, monkeypatch):
    model = models["learnt"][0]
    whole = columns(model, JUDGED)
    monkeypatch.setattr(scoring, "PART", 37)
    assert_same(columns(model, Cut(JUDGED, 11), threads=2), whole)


def test_of_two_favourites_the_likelier_is_predicted():
    both = Both(
        network=np.array([0.1, 0.1]),
        rote=np.array([0.6, 0.6]),
        favourite=np.array([[1, 1], [2, 2]], np.uint64),
        chances=np.array([[[0.7, 0.7], [0.1, 0.1]], [[0.3, 0.3], [0.6, 0.6]]]),
        actual=np.array([2, 2], np.uint64),
    )
    for share, predicted, confidence, surprisal in ((0.9, 1, 0.66, 0.15), (0.1, 2, 0.55, 0.55)):
        scores = mixed(both, np.full(CELLS, share))
        assert scores.predicted.tolist() == [predicted] * 2
        assert scores.correct.tolist() == [predicted == 2] * 2
        np.testing.assert_allclose(scores.confidence, confidence, rtol=1e-6)
        np.testing.assert_allclose(scores.surprisal, -np.log(surprisal), rtol=1e-6)


# --- weights ---------------------------------------------------------------------------------------------


def told(network, rote, sure=(0.6, 0.6)):
    """Chances of what happened, all of one cell."""
    size = len(network)
    chances = np.empty((2, 2, size))
    chances[0, 0], chances[1, 1] = sure
    chances[0, 1] = chances[1, 0] = 0.1
    favourite = np.zeros((2, size), np.uint64)
    return Both(np.asarray(network), np.asarray(rote), favourite, chances, np.zeros(size, np.uint64))


@given(seed=st.integers(0, 1 << 30))
@settings(max_examples=20, deadline=None)
def test_weights_make_what_happened_likeliest(seed):
    draw = np.random.default_rng(seed)
    network, rote = draw.beta(*draw.uniform(0.3, 3, 2), 4000), draw.beta(*draw.uniform(0.3, 3, 2), 4000)
    weighing, in_parts = Weighing(), Weighing()
    both = told(network, rote)
    weighing.add(both)
    for rows in np.array_split(np.arange(4000), 7):
        in_parts.add(told(network[rows], rote[rows]))
    weight = weighing.weight()
    assert in_parts.weight().tolist() == weight.tolist()
    share = weight[both.cell[0]]
    tried = np.linspace(0, 1, 101)[:, None]
    nats = -np.log(np.maximum(tried * network + (1 - tried) * rote, 1e-300)).sum(axis=1)
    mine = -np.log(share * network + (1 - share) * rote).sum()
    assert mine <= nats.min() * (1 + 1e-3) + 1
    assert abs(weighing.mixed_nats() - mine) < 0.02 * abs(mine) + 1
    np.testing.assert_allclose(weighing.nats, [-np.log(network).sum(), -np.log(rote).sum()], rtol=1e-9)


def test_a_weight_is_of_its_cell_and_leans_on_that_of_all_where_little_is_known():
    weighing = Weighing()
    good, bad = np.full(5000, 0.9), np.full(5000, 0.01)
    weighing.add(told(good, bad, (0.95, 0.3)))
    weighing.add(told(bad, good, (0.3, 0.95)))
    weight = weighing.weight()
    sure = told(good[:1], bad[:1], (0.95, 0.3)).cell[0]
    unsure = told(good[:1], bad[:1], (0.3, 0.95)).cell[0]
    assert weight[sure] > 0.99
    assert weight[unsure] < 0.01
    others = np.delete(weight, [sure, unsure])
    assert np.ptp(others) == 0
    assert 0.4 < others[0] < 0.6


def test_what_is_impossible_to_one_of_them_breaks_nothing():
    weighing = Weighing()
    weighing.add(told([0.0, 0.5, 0.0], [0.5, 0.0, 0.0]))
    assert np.isfinite(weighing.weight()).all()
    assert np.isfinite(weighing.mixed_nats())


def test_runs_that_neither_has_learnt_are_less_surprising_than_to_each_alone(models):
    _, weighing, _ = models["learnt"]
    assert weighing.transfers == sum(len(transfers(run)) for run in runs_of(50, 51))
    assert weighing.mixed_nats() < min(weighing.nats)
    # what each is good at differs: one has learnt other runs than the other
    runs, fresh = runs_of(*range(12)), path_of(nominal_path(70, 4000), BLOCKS)
    network, rote = network_of(runs=runs[:6]), rote_of(runs=runs[6:])
    alone = [columns(model, fresh)["surprisal"].mean() for model in (network, rote)]
    both, _ = mix(network, rote, runs_of(50, 51, 52))
    assert columns(both, fresh)["surprisal"].mean() < min(alone)


def test_the_rote_learner_learns_the_runs_to_weigh_by_as_well(models):
    model, _, network = models["learnt"]
    alone = rote_of()
    learner = RoteLearner.of(alone, 1)
    for number, run in enumerate(runs_of(50, 51)):
        learner.learn(f"weighed-{number}", partial(nullcontext, run))
    expected = learner.network.arrays()
    assert_same(model.mixture.rote.arrays(), expected)
    assert set(model.document.samples) == {
        *network.document.samples, *(f"rote-{i}" for i in range(5)), "weighed-0", "weighed-1"
    }  # fmt: skip


# --- what does not go together, files --------------------------------------------------------------------


def changed(model, emptied):
    """A model some of whose arrays are empty: those of these names, or of these and an order."""
    arrays = {}
    for name, array in model.arrays().items():
        network = name.startswith("network.") and name.split(".")[1] in emptied
        arrays[name] = array[:0] if network or name in emptied else array
    return model_of("file", model.document, arrays)


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: network_of(), "is no model of a rote learner"),
        (lambda: rote_of(rule="draw"), "draws its predictions"),
        (lambda: rote_of(learn=Learn(ret=False)), "other kinds of transfers"),
        (lambda: rote_of("modulo"), "predicts other targets"),
        (
            lambda: changed(rote_of(), {"target", "context", "followers", "follower", "count"}),
            "learnt nothing",
        ),
        (lambda: changed(rote_of(), {"runs.transfers"}), "contradict themselves"),
        (lambda: changed(rote_of(), {"runs.edge"}), "contradict themselves"),
    ],
)
def test_models_that_cannot_be_mixed_are_refused(make, why):
    with pytest.raises(ModelError, match=why):
        check_partner(make(), Learn(), Tokens())


def test_what_contexts_are_made_of_may_differ():
    check_partner(rote_of("modulo"), Learn(), Tokens(vocabulary="modulo", inputs=17, classes=48))
    with pytest.raises(ModelError, match="predicts other targets"):
        check_partner(rote_of("modulo"), Learn(), Tokens(vocabulary="modulo", inputs=64, classes=47))


def test_only_a_causal_network_that_is_alone_is_mixed(models):
    paper = fit(spec_of("paper", epochs=1, units=4), runs_of(0))[0]
    with pytest.raises(ModelError, match="only a causal network"):
        mix(paper, rote_of())
    with pytest.raises(ModelError, match="beside it already"):
        mix(models["learnt"][0], rote_of())


def test_runs_without_transfers_give_no_weights():
    with pytest.raises(SetsError, match="no transfer that passes the filter"):
        mix(network_of(), rote_of(), [path_of([0], BLOCKS)])


@pytest.mark.parametrize("vocabulary", VOCABULARIES)
def test_a_mixture_that_was_saved_says_the_same(models, vocabulary, tmp_path):
    model = models[vocabulary][0]
    save_document(tmp_path / "m.json", model.document)
    save_weights(tmp_path / "w.safetensors", model)
    again = load_model(tmp_path / "m.json", tmp_path / "w.safetensors")
    assert again.document == model.document
    assert_same(columns(again, JUDGED), columns(model, JUDGED))


COUNTS = tuple(f"mixture.rote.{name}" for name in ("target", "context.", "follower", "count."))
DAMAGE = {
    "weights are missing": lambda a: a.pop("mixture.weight"),
    "one weight too few": lambda a: a.update({"mixture.weight": a["mixture.weight"][1:]}),
    "weights of 32 bits": lambda a: a.update({"mixture.weight": a["mixture.weight"].astype(np.float32)}),
    "a weight above one": lambda a: a["mixture.weight"].__setitem__(3, 1.5),
    "a weight below none": lambda a: a["mixture.weight"].__setitem__(3, -0.1),
    "no number": lambda a: a["mixture.weight"].__setitem__(3, np.nan),
    "counts are missing": lambda a: a.pop("mixture.rote.count.1"),
    "what belongs nowhere": lambda a: a.update({"mixture.other": np.zeros(1)}),
    "counts of no prefix": lambda a: a.update({"mixture.target": a.pop("mixture.rote.target")}),
    "counts with and without it": lambda a: a.update({"mixture.target": a["mixture.rote.target"]}),
    "escapes beyond the end": lambda a: a["mixture.rote.tried"].__setitem__(0, 1e300),
    "no mixture at all": lambda a: [a.pop(name) for name in list(a) if name.startswith("mixture.")],
    "nothing learnt": lambda a: a.update({name: a[name][:0] for name in a if name.startswith(COUNTS)}),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_files_are_refused(models, damage):
    model = models["learnt"][0]
    arrays = {name: array.copy() for name, array in model.arrays().items()}
    DAMAGE[damage](arrays)
    with pytest.raises(ModelError, match=r"^file: "):
        model_of("file", model.document, arrays)


@pytest.mark.parametrize("mixing", [True, False])
@pytest.mark.parametrize("name", ["network.out.weight", "network.strength.weight"])
def test_weights_that_give_no_finite_predictions_are_refused(models, mixing, name):
    model = models["learnt"][0 if mixing else 2]
    arrays = {key: array.copy() for key, array in model.arrays().items()}
    arrays[name][:] = np.finfo(np.float32).max
    spoilt = model_of("file", model.document, arrays)
    with pytest.raises(ModelError) as refused:
        columns(spoilt, JUDGED)
    assert str(refused.value) == "its weights give no finite predictions: learn the model anew"
    if not mixing:
        with pytest.raises(ModelError, match="no finite predictions"):
            mix(spoilt, rote_of(), [JUDGED])


def test_documents_that_contradict_the_numbers_are_refused(models):
    model, _, network = models["learnt"]
    without = msgspec.structs.replace(model.document, mixture=None)
    with pytest.raises(ModelError, match="mixture is not the one"):
        model_of("file", without, model.arrays())
    drawing = msgspec.structs.replace(
        model.document, mixture=msgspec.structs.replace(model.document.mixture, rule="draw")
    )
    with pytest.raises(ModelError, match="cannot be mixed"):
        model_of("file", drawing, model.arrays())
    document = msgspec.structs.replace(network.document, mixture=model.document.mixture)
    with pytest.raises(ModelError, match="mixture is not the one"):
        model_of("file", document, Model.arrays(network))
