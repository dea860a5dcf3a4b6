"""The rote learner: learning run by run, merging, keeping to a bound of memory, files and their damage."""

from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from itertools import pairwise

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from barnum.errors import ModelError, SetsError, TraceError
from barnum.learning.rote import learner as rote_learn
from barnum.learning.rote.learner import RoteLearner, RoteSpec, check_goes_on
from barnum.models.arrays import read_arrays, write_arrays
from barnum.models.evaluate import Evaluator
from barnum.models.model import Model, identity_of
from barnum.models.networks.rote import LADDER, LONGEST, RoteConfig, RoteNetwork, lengths_up_to
from barnum.models.saved import load_model, model_of, save_document, save_weights
from barnum.paths import Kind, Learn, iter_transfers
from barnum.sequences import FEW_RUNS, Tokens
from learning import Cut, attack_path, blocks_of, fit, nominal_path, path_of, spec_of
from rote_reference import reference_of

BLOCKS = blocks_of(40, (Kind.RETURN, Kind.INDIRECT_CALL), in_libc=10)
LOOP = [0, 1, 0, 2, 0, 3, 0, 1, 0, 4]
LENGTHS = [0, 1, 2, 4]
COLUMNS = ("predicted", "confidence", "correct", "surprisal")


def merged(models, threads, max_memory=None):
    learner = RoteLearner.of(models[0], threads, max_memory)
    for model in models[1:]:
        learner.merge(model)
    return learner.model()


def spec(**changes):
    usual = {"learn": Learn(), "tokens": Tokens(), "lengths": LENGTHS}
    return RoteSpec(**(usual | changes))


def teach(learner, runs, names=None):
    for number, run in enumerate(runs):
        name = names[number] if names else f"run-{len(learner.samples)}"
        path = run if hasattr(run, "chunks") else path_of(run, BLOCKS)
        learner.learn(name, partial(nullcontext, path))
    return learner


def learnt(runs, names=None, threads=1, **changes):
    return teach(RoteLearner(spec(**changes), threads), runs, names).model()


def again(model):
    """The model as it is after its arrays were written and read."""
    return model_of("file", model.document, {name: array.copy() for name, array in model.arrays().items()})


def columns(model, path, threads=1):
    run = path if hasattr(path, "chunks") else path_of(path, BLOCKS)
    parts = list(Evaluator(model, threads).columns(run))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def assert_same(found, other):
    assert found.keys() == other.keys()
    for name, array in found.items():
        assert array.dtype == other[name].dtype, name
        assert array.tobytes() == other[name].tobytes(), name


def plain(path):
    """Transfers of a run as the reference reads them."""
    made = []
    for part in iter_transfers(path_of(path, BLOCKS), Learn()):
        sites, targets = Tokens().sites(part.blocks), Tokens().targets(part.blocks)
        rows = sites[part.source], targets[part.target], part.first
        made += zip(*(row.tolist() for row in rows), strict=True)
    return made


def counts(model):
    """Arrays of counts alone."""
    names = ("context", "followers", "follower", "count", "target")
    return {name: a for name, a in model.network.arrays().items() if name.split(".")[0] in names}


# --- what is learnt --------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [0, 1, 4, 5, 32, 33, LONGEST])
def test_lengths_ascend_to_the_longest(length):
    if not length:
        assert lengths_up_to(1) == [0, 1]
        return
    lengths = lengths_up_to(length)
    assert lengths[0] == 0
    assert lengths[-1] == length
    assert lengths == sorted(set(lengths))
    assert set(lengths) <= {0, length, *LADDER}
    RoteConfig(lengths=lengths)


@pytest.mark.parametrize(
    "lengths", [[], [1, 2], [0, 2, 1], [0, 0], [0, LONGEST + 1], [0, -1], list(range(40))]
)
def test_lengths_that_cannot_be_are_refused_in_a_document(lengths):
    model = learnt([LOOP * 10])
    document = msgspec.structs.replace(model.document, config=model.document.config | {"lengths": lengths})
    with pytest.raises(ModelError, match="file: the model's document has sizes that cannot be"):
        model_of("file", document, model.arrays())


def test_a_deterministic_loop_is_known_for_sure():
    model = learnt([LOOP * 60] * 2)
    scores = columns(model, LOOP * 20)
    assert scores["correct"][5:].all()
    assert scores["surprisal"][5:].max() < 0.05
    assert scores["confidence"][5:].min() > 0.95
    assert (scores["seen"] == 2).all()


def test_what_repeats_is_no_surprise_and_what_never_happened_is_one():
    runs = [nominal_path(seed) for seed in range(6)]
    model = learnt(runs, lengths=lengths_up_to(32))
    repeated, fresh, attack = (columns(model, path) for path in (runs[2], nominal_path(77), attack_path(77)))
    assert repeated["surprisal"].mean() < fresh["surprisal"].mean() < 0.6
    new = attack["seen"] == 0
    assert new.sum() >= 2
    # at a site that is not known anything may follow
    assert attack["surprisal"][new].max() > 4
    assert attack["surprisal"][new].min() > 5 * fresh["surprisal"].mean()
    assert not attack["correct"][new].any()


def test_a_model_counts_and_scores_like_the_reference():
    runs = [nominal_path(seed, 400) for seed in range(3)]
    model = learnt(runs)
    reference = reference_of(LENGTHS, map(plain, runs))
    network = model.network
    reference.settle(network.tried, network.escaped, network.base)
    assert network.counts.contexts == sum(map(len, reference.counts))
    judged = attack_path(9, 400)
    expected = [nats for nats, *_ in reference.score(plain(judged))]
    scores = columns(model, judged)
    np.testing.assert_allclose(scores["surprisal"], expected, rtol=1e-5, atol=1e-5)
    assert scores["actual"].tolist() == [target for _, target, _ in plain(judged)]


def test_escapes_are_measured_by_predicting_each_run_before_it_is_learnt():
    runs = [nominal_path(seed, 700) for seed in range(4)]
    learner = teach(RoteLearner(spec(), 1), runs)
    reference = reference_of(LENGTHS, [plain(runs[0])])
    # the first one is short, and had none before it
    weighed = [np.zeros(len(learner.network.tried)), np.zeros(len(learner.network.tried)), np.zeros(2)]
    for number, run in enumerate(runs[1:], 1):
        told = reference.escapes(plain(run))
        for found, expected in zip(learner.measured[number], told, strict=True):
            np.testing.assert_array_equal(found, expected)
        weighed = [old * (number / (number + 1)) ** 3 + new for old, new in zip(weighed, told, strict=True)]
        reference.add(plain(run))
    network = learner.network
    for found, expected in zip((network.tried, network.escaped, network.base), weighed, strict=True):
        np.testing.assert_allclose(found, expected)


def test_threads_and_chunks_change_nothing():
    runs = [nominal_path(seed, 30_000) for seed in range(2)]
    one = learnt(runs)
    other = learnt([Cut(path_of(run, BLOCKS), 977) for run in runs], threads=3)
    assert_same(one.arrays(), other.arrays())
    assert one.document == other.document
    judged = path_of(attack_path(7, 30_000), BLOCKS)
    assert_same(columns(one, judged), columns(other, Cut(judged, 1013), threads=3))


def test_a_run_that_holds_no_transfer_teaches_nothing(caplog):
    kept = RoteLearner(spec(), 1)
    assert kept.learn("empty", partial(nullcontext, path_of([0], BLOCKS))) == 0
    with pytest.raises(SetsError, match="no transfer"):
        kept.model()
    teach(kept, [LOOP * 30], ["a"])
    assert kept.learn("empty", partial(nullcontext, path_of([3], BLOCKS))) == 0
    assert_same(kept.model().arrays(), learnt([LOOP * 30]).arrays())
    assert kept.model().document.samples == ("a",)
    assert caplog.messages.count("empty: holds no transfer that passes the filter") == 2


class Torn:
    """A path that cannot be read to its end."""

    def __init__(self, path):
        self.blocks = path.blocks
        self._path = path

    def chunks(self, rows=0):
        yield from self._path.chunks(500)
        raise TraceError("torn")


def test_the_error_of_a_torn_run_comes_through():
    learner = teach(RoteLearner(spec(), 1), [nominal_path(0)])
    with pytest.raises(TraceError, match="torn"):
        learner.learn("torn", partial(nullcontext, Torn(path_of(attack_path(1), BLOCKS))))
    assert learner.samples == ["run-0"]
    # and those after it are learnt
    assert teach(learner, [LOOP * 40], ["after"]).model().document.samples == ("run-0", "after")


def test_of_a_torn_run_nothing_is_counted(monkeypatch):
    monkeypatch.setattr(rote_learn, "_PIECE", 1 << 10)
    learner = teach(RoteLearner(spec(), 1), [nominal_path(0)])
    before = learner.contexts
    with pytest.raises(TraceError, match="torn"):
        learner.learn("torn", partial(nullcontext, Torn(path_of(attack_path(1), BLOCKS))))
    assert learner.contexts == before


# --- going on, and merging -------------------------------------------------------------------------------


@pytest.mark.parametrize(("first", "more"), [(1, 1), (2, 3), (FEW_RUNS - 1, 2), (FEW_RUNS + 1, 2)])
def test_learning_more_later_is_learning_all_at_once(tmp_path, first, more):
    runs = [nominal_path(seed, 1500) for seed in range(first + more)]
    names = [f"r{i}" for i in range(first + more)]
    whole = learnt(runs, names)
    begun = learnt(runs[:first], names)
    files = tmp_path / "m.json", tmp_path / "m.weights"
    save_document(files[0], begun.document)
    save_weights(files[1], begun)
    gone_on = teach(RoteLearner.of(load_model(*files), 1), runs[first:], names[first:]).model()
    assert_same(gone_on.arrays(), whole.arrays())
    assert gone_on.document == whole.document
    judged = attack_path(3)
    assert_same(columns(gone_on, judged), columns(whole, judged))


@settings(max_examples=10, deadline=None)
@given(order=st.permutations(range(4)), cut=st.integers(1, 3))
def test_merging_counts_what_learning_all_would(order, cut):
    runs = [nominal_path(seed, 300) for seed in range(4)]
    names = ["a", "b", "c", "d"]
    whole = learnt(runs, names)
    parts = [
        again(learnt([runs[i] for i in group], [names[i] for i in group]))
        for group in (order[:cut], order[cut:])
    ]
    for models in (parts, parts[::-1]):
        made = merged([again(model) for model in models], 1)
        assert_same(counts(made), counts(whole))
        assert sorted(made.document.samples) == names
        vocabularies = ({n: a for n, a in m.arrays().items() if n.startswith("vocab")} for m in (made, whole))
        assert_same(*vocabularies)
        assert len(RoteLearner.of(again(made), 1).runs) == 4
        assert np.isfinite(columns(made, attack_path(3, 300))["surprisal"]).all()


def test_the_order_of_merging_changes_no_score():
    models = [learnt([nominal_path(seed, 300)], [f"r{seed}"]) for seed in range(2)]
    one = merged([again(model) for model in models], 1)
    other = merged([again(model) for model in models[::-1]], 1)
    assert_same(counts(one), counts(other))
    judged = attack_path(3, 500)
    found, expected = columns(one, judged), columns(other, judged)
    assert_same({name: found[name] for name in COLUMNS}, {name: expected[name] for name in COLUMNS})


def test_ties_are_told_the_same_way_in_any_order_of_learning():
    runs = [[0, number] * 20 for number in (5, 3, 9, 7)]
    one, other = learnt(runs), learnt(runs[::-1])
    assert_same(counts(one), counts(other))
    judged = [0, 1] * 10
    assert (columns(one, judged)["predicted"] == columns(other, judged)["predicted"]).all()


def test_equal_runs_make_equal_files(tmp_path):
    runs = [nominal_path(seed, 500) for seed in range(2)]
    for name in ("a", "b"):
        model = learnt(runs)
        write_arrays(tmp_path / name, model.arrays(), model.identity)
        save_document(tmp_path / f"{name}.json", model.document)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


def one_line(refused):
    assert len(str(refused.value).splitlines()) == 1
    assert str(refused.value).isprintable()
    return str(refused.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("learn", Learn(icall=False)),
        ("tokens", Tokens(vocabulary="modulo")),
        ("lengths", [0, 1, 2, 5]),
        ("lengths", [0]),
    ],
)
def test_models_of_other_options_are_not_merged(name, value):
    one, other = learnt([nominal_path(0, 300)], ["a"]), learnt([nominal_path(1, 300)], ["b"], **{name: value})
    before = counts(one)
    with pytest.raises(ModelError) as refused:
        merged([one, other], 1)
    assert f"({name} differs)" in one_line(refused)
    assert_same(counts(one), before)


def test_models_that_have_learnt_the_same_run_are_not_merged():
    one, other = learnt([LOOP * 9, LOOP * 8], ["a", "b"]), learnt([LOOP * 7, LOOP * 9], ["c", "b"])
    for models in ([one, other], [one, one]):
        with pytest.raises(ModelError) as refused:
            merged(models, 1)
        assert "both models have learnt" in one_line(refused)
    with pytest.raises(ModelError, match="have learnt b:"):
        merged([one, other], 1)


def test_a_network_of_another_kind_learns_no_more():
    causal, _ = fit(spec_of(epochs=1), [path_of(nominal_path(seed, 300), BLOCKS) for seed in range(2)])
    for call in (
        lambda: RoteLearner.of(causal, 1),
        lambda: merged([learnt([LOOP * 9]), causal], 1),
        lambda: RoteLearner.of(Model(causal.network, Tokens(), ""), 1),
    ):
        with pytest.raises(ModelError) as refused:
            call()
        assert "not of a rote learner" in one_line(refused)


def test_a_model_that_names_other_runs_than_it_keeps_learns_no_more():
    model = learnt([LOOP * 9, LOOP * 8])
    model = replace(model, document=msgspec.structs.replace(model.document, samples=("a", "b", "c")))
    with pytest.raises(ModelError, match="other runs"):
        RoteLearner.of(model, 1)
    with pytest.raises(ModelError, match="no usable runs"):
        RoteLearner.of(replace(model, extra={}), 1)


# --- drawn predictions -----------------------------------------------------------------------------------


def test_drawn_predictions_come_again_after_saving(tmp_path):
    model = learnt([nominal_path(seed, 500) for seed in range(3)], rule="draw")
    judged = nominal_path(9, 2000)
    found = columns(model, judged)
    assert_same(found, columns(model, Cut(path_of(judged, BLOCKS), 101), threads=3))
    assert_same(found, columns(again(model), judged))


def test_drawn_predictions_are_right_as_often_as_the_target_followed():
    draw = np.random.default_rng(1)
    runs = [[step for _ in range(4000) for step in (0, 1 + int(draw.random() < 0.3))] for _ in range(2)]
    drawn, likeliest = (learnt(runs[:1], rule=rule, lengths=[0]) for rule in ("draw", "likeliest"))
    found, best = columns(drawn, runs[1]), columns(likeliest, runs[1])
    at = slice(0, None, 2)
    shares = [float((found["predicted"][at] == BLOCKS.bbid[block]).mean()) for block in (1, 2)]
    assert shares[0] == pytest.approx(0.7, abs=0.04)
    assert shares[1] == pytest.approx(0.3, abs=0.04)
    assert found["correct"][at].mean() == pytest.approx(0.7**2 + 0.3**2, abs=0.04)
    assert best["correct"][at].mean() == pytest.approx(0.7, abs=0.04)
    assert (found["surprisal"] == best["surprisal"]).all()


# --- bounds of memory ------------------------------------------------------------------------------------


def noise(seed, length, blocks=100):
    return np.random.default_rng(seed).integers(0, blocks, length)


MANY = blocks_of(100, (Kind.RETURN, Kind.INDIRECT_CALL))


@pytest.mark.parametrize("limit", [1_000_000, 2_000_000])
def test_counts_keep_within_the_memory_allowed(limit):
    learner = RoteLearner(spec(lengths=lengths_up_to(8), max_memory=limit), 1)
    names = []
    for seed in range(5):
        steps = np.concatenate([noise(seed, 6000), np.tile(np.arange(60), 60)])
        names.append(f"r{seed}")
        teach(learner, [path_of(steps, MANY)], names[-1:])
        assert learner.network.counts.bytes <= limit
        assert learner.bytes == learner.network.counts.bytes
    model = learner.model()
    assert model.network.config.forgotten >= 1
    assert model.document.config["forgotten"] == model.network.config.forgotten
    # what was met often is known all the same
    judged = path_of(np.tile(np.arange(60), 5), MANY)
    scores = columns(model, judged)
    assert np.isfinite(scores["surprisal"]).all()
    assert scores["correct"][20:].mean() > 0.9
    # and it goes on within a bound
    more = RoteLearner.of(again(model), 1, limit)
    assert more.forgotten == learner.forgotten
    teach(more, [path_of(noise(50, 9000), MANY)], ["more"])
    assert more.bytes <= limit
    assert more.model().network.config.forgotten >= model.network.config.forgotten


LONGER = lengths_up_to(16)


def mixed(seed):
    """A run that repeats itself and is disturbed now and then."""
    draw = np.random.default_rng(seed)
    parts = [draw.integers(0, 100, 30) for _ in range(12)]
    return path_of(np.concatenate([parts[at] for at in draw.integers(0, 12, 400)]), MANY)


def noisy(seed):
    return path_of(noise(seed, 9000), MANY)


@pytest.mark.parametrize("run", [noisy, mixed])
def test_a_larger_bound_keeps_more_until_all_is_kept(run):
    runs = [run(seed) for seed in range(3)]
    whole = learnt(runs, lengths=LONGER)
    takes = whole.network.counts.bytes
    # all that was counted is had for twice the memory that it takes
    bounds = [takes * tenths // 10 for tenths in range(4, 21)]
    models = [learnt(runs, lengths=LONGER, max_memory=limit) for limit in bounds]
    kept = [model.network.counts.contexts for model in models]
    assert kept == sorted(kept)
    assert len(set(kept)) > 3
    assert kept[-1] == whole.network.counts.contexts
    assert all(model.network.counts.bytes <= limit for model, limit in zip(models, bounds, strict=True))
    # what was learnt is predicted the better the longer the contexts are
    rights = [float(columns(model, runs[0])["correct"].mean()) for model in models]
    assert all(larger > smaller - 0.03 for smaller, larger in pairwise(rights))
    assert rights[-1] > 0.9


@pytest.mark.parametrize("threads", [1, 3, 9])
def test_what_is_left_is_what_fewer_lengths_would_have_counted(threads):
    runs = [noisy(seed) for seed in range(2)]
    made = learnt(runs, threads=threads, lengths=LONGER, max_memory=2_000_000)
    left = LONGER[: len(LONGER) - made.network.config.forgotten]
    assert 1 < len(left) < len(LONGER)
    fewer = counts(learnt(runs, lengths=left))
    found = counts(made)
    assert_same({name: found[name] for name in fewer}, fewer)
    assert not any(len(array) for name, array in found.items() if name not in fewer)


def test_without_a_bound_nothing_is_forgotten():
    assert learnt([path_of(noise(0, 5000), MANY)]).document.config["forgotten"] == 0
    roomy = learnt([path_of(noise(0, 5000), MANY)], max_memory=1 << 33)
    assert_same(roomy.arrays(), learnt([path_of(noise(0, 5000), MANY)]).arrays())


def test_a_bound_too_small_names_the_option():
    for limit in (0, 1000, 100_000):
        learner = RoteLearner(spec(max_memory=limit), 1)
        with pytest.raises(SetsError) as refused:
            teach(learner, [path_of(noise(0, 50_000), MANY)])
        assert "--max-memory" in one_line(refused)


def test_a_bound_is_refused_only_where_single_branches_do_not_fit():
    limit = 5_000_000
    blocks = blocks_of(400, (Kind.RETURN, Kind.INDIRECT_CALL))
    learner = RoteLearner(spec(lengths=lengths_up_to(8), max_memory=limit), 1)
    runs = [path_of(noise(seed, 6000, 400), blocks) for seed in range(8)]
    try:
        teach(learner, runs)
    except SetsError:
        # nothing but single branches is left: the next piece would not have fitted
        assert learner.forgotten == len(learner.spec.lengths) - 1
        assert learner.network.counts.bytes_with(limit // 4096, 4) > limit
    assert learner.bytes <= limit


def test_merging_keeps_within_the_memory_allowed():
    limit = 1_200_000
    models = [learnt([path_of(noise(seed, 12_000), MANY)], [f"r{seed}"]) for seed in range(3)]
    assert sum(model.network.counts.bytes for model in models) > limit
    made = merged(models, 1, limit)
    assert made.network.counts.bytes <= limit
    left = len(LENGTHS) - made.document.config["forgotten"]
    assert 1 <= left < len(LENGTHS)
    whole, found = counts(merged(models, 1)), counts(made)
    assert_same(
        {name: array for name, array in found.items() if len(array)},
        {name: array for name, array in whole.items() if name == "target" or int(name[-1]) < left},
    )
    # what one has forgotten is forgotten, whatever the order
    for both in ([made, learnt([LOOP * 9], ["a"])], [learnt([LOOP * 9], ["a"]), made]):
        again(merged(both, 1))
        assert merged(both, 1).document.config["forgotten"] == len(LENGTHS) - left
    with pytest.raises(SetsError, match="--max-memory"):
        merged([learnt([LOOP * 9], ["a"]), learnt([LOOP * 9], ["b"])], 1, 1000)


def test_while_merging_the_counts_keep_within_the_memory_allowed(monkeypatch):
    most = []
    merge = RoteNetwork.merge

    def watched(self, other, piece, make_room):
        def after(counts):
            most.append(self.counts.bytes)
            make_room(counts)

        merge(self, other, piece, after)

    models = [learnt([path_of(noise(seed, 12_000), MANY)], [f"r{seed}"]) for seed in range(2)]
    monkeypatch.setattr(RoteNetwork, "merge", watched)
    limit = models[0].network.counts.bytes * 5 // 4
    made = merged(models, 1, limit)
    assert len(most) > 10
    assert max(most) <= limit
    assert made.document.config["forgotten"] >= 1


# --- files and their damage ------------------------------------------------------------------------------


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1 << 20), lengths=st.sampled_from([[0], LENGTHS, lengths_up_to(12)]))
def test_a_model_read_again_scores_the_same(seed, lengths):
    model = learnt([nominal_path(seed, 300), nominal_path(seed + 1, 200)], lengths=lengths)
    back = again(model)
    assert_same(back.arrays(), model.arrays())
    judged = attack_path(seed + 2, 300)
    assert_same(columns(back, judged), columns(model, judged))


@pytest.mark.parametrize("suffix", ["safetensors", "h5"])
def test_files_give_the_same_model(tmp_path, suffix):
    model = learnt([nominal_path(seed, 500) for seed in range(2)])
    files = tmp_path / "m.json", tmp_path / f"m.{suffix}"
    save_document(files[0], model.document)
    save_weights(files[1], model)
    back = load_model(*files)
    assert back.document == model.document
    assert identity_of(back.arrays()) == model.identity == read_arrays(files[1])[1]
    assert_same(columns(back, attack_path(1)), columns(model, attack_path(1)))


MODEL = learnt([nominal_path(seed, 250) for seed in range(2)], ["a", "b"])
ARRAYS = {name: array.copy() for name, array in MODEL.arrays().items()}
NETWORK = sorted(name for name in ARRAYS if name.startswith("network."))
RUNS = sorted(name for name in ARRAYS if name.startswith("runs."))
JUDGED = path_of(attack_path(5, 200), BLOCKS)


def assert_usable(arrays):
    """A model is made that scores, or refused in one line."""
    try:
        model = model_of("file", MODEL.document, arrays)
    except ModelError as error:
        assert len(str(error).splitlines()) == 1
        return False
    scores = columns(model, JUDGED)
    assert np.isfinite(scores["surprisal"]).all()
    assert (scores["surprisal"] >= 0).all()
    assert ((scores["confidence"] >= 0) & (scores["confidence"] <= 1)).all()
    draws = RoteNetwork.from_arrays(msgspec.structs.replace(model.network.config, rule="draw"), parts(arrays))
    drawn = Model(draws, model.tokens, "", model.document, model.vocabulary, model.vocabulary, model.rates)
    assert np.isfinite(columns(drawn, JUDGED)["surprisal"]).all()
    return True


def parts(arrays):
    return {name.removeprefix("network."): array for name, array in arrays.items() if name in NETWORK}


@pytest.mark.parametrize("name", NETWORK)
def test_arrays_that_are_missing_or_of_another_type_or_length_are_refused(name):
    array = ARRAYS[name]
    longer, wide = np.append(array, array[-1:]), array.astype(array.dtype.newbyteorder(">"))
    changes = [array[:-1], longer, array[:0], array[:, None], array.astype(np.float32), wide]
    if name != "network.target":
        changes.append(array.astype(np.int64))
    for changed in (None, *changes):
        arrays = {key: other for key, other in ARRAYS.items() if key != name}
        if changed is not None:
            arrays[name] = changed
        assert not assert_usable(arrays), (name, changed)


def test_arrays_that_nobody_asked_for_are_refused():
    for name in ("network.context.9", "network.more", "network." + "x" * 999, "memory.edge", "odd"):
        assert not assert_usable(ARRAYS | {name: np.zeros(1, np.uint64)})


def changed_at(name, at, value):
    array = ARRAYS[name].copy()
    array[at] = value
    return ARRAYS | {name: array}


@pytest.mark.parametrize(
    ("name", "at", "value"),
    [
        ("target", 1, 0),
        ("target", -1, 0),
        ("context.0", 0, 0),
        ("context.2", 0, 0),
        ("context.1", 1, 1),
        ("context.1", 0, (1 << 64) - 1),
        ("followers.1", 0, 0),
        ("followers.0", 0, (1 << 32) - 1),
        ("follower.0", 0, 40),
        ("follower.3", -1, (1 << 32) - 1),
        ("count.0", 0, 0),
        ("count.3", -1, 0),
        ("tried", 0, np.nan),
        ("escaped", 5, np.nan),
        ("base", 0, np.nan),
        ("base", 1, np.nan),
        ("tried", 0, np.inf),
        ("escaped", 0, np.inf),
        ("base", 0, np.inf),
        ("escaped", 0, -1.0),
        ("tried", 0, -1.0),
        ("escaped", 0, 1e9),
        ("base", 1, 1e9),
        ("tried", 0, 2.0**54),
        ("base", 0, np.finfo(float).max),
    ],
)
def test_numbers_that_cannot_be_are_refused(name, at, value):
    assert not assert_usable(changed_at(f"network.{name}", at, value))


@pytest.mark.parametrize("order", range(len(LENGTHS)))
def test_the_greatest_counts_are_usable(order):
    assert assert_usable(changed_at(f"network.count.{order}", slice(None), (1 << 32) - 1))
    huge = {f"network.count.{i}": np.full_like(ARRAYS[f"network.count.{i}"], (1 << 32) - 1) for i in range(4)}
    assert assert_usable(ARRAYS | huge)


@pytest.mark.parametrize("value", [1e-320, 1e9, 2.0**53])
@pytest.mark.parametrize("names", [("tried",), ("tried", "escaped"), ("base",)])
def test_the_greatest_and_least_escapes_are_usable(names, value):
    changed = {f"network.{name}": np.full_like(ARRAYS[f"network.{name}"], value) for name in names}
    if names == ("tried",):
        changed["network.escaped"] = np.zeros_like(ARRAYS["network.escaped"])
    assert assert_usable(ARRAYS | changed)


def test_escapes_stop_at_their_end():
    huge = {f"network.{name}": np.full_like(ARRAYS[f"network.{name}"], 2.0**53) for name in ESCAPES}
    one, other = model_of("file", MODEL.document, ARRAYS | huge), learnt([LOOP * 9], ["c"])
    model = merged([one, other, learnt([LOOP * 8], ["d"])], 1)
    back = again(model)
    assert max(back.network.tried.max(), back.network.base.max()) == 2.0**53
    assert np.isfinite(columns(back, JUDGED)["surprisal"]).all()


ESCAPES = ("tried", "escaped", "base")


def test_runs_of_more_transfers_than_can_be_added_up_are_not_put_together(monkeypatch):
    one, other = learnt([nominal_path(0, 250)], ["a"]), learnt([nominal_path(1, 250)], ["b"])
    before = counts(one)
    monkeypatch.setattr(rote_learn, "MOST_TRANSFERS", 2 * 249 - 1)
    for call in (
        lambda: merged([one, other], 1),
        lambda: teach(RoteLearner.of(one, 1), [nominal_path(1, 250)], ["b"]),
        lambda: teach(RoteLearner(spec(), 1), [nominal_path(seed, 250) for seed in range(2)]),
    ):
        with pytest.raises(ModelError) as refused:
            call()
        assert "more transfers than can be counted" in one_line(refused)
        assert_same(counts(one), before)
    monkeypatch.setattr(rote_learn, "MOST_TRANSFERS", 2 * 249)
    assert again(merged([one, other], 1)).document.samples == ("a", "b")


@pytest.mark.parametrize("change", [{"forgotten": 1 << 70}, {"forgotten": len(LENGTHS)}, {"forgotten": -1}])
def test_impossible_numbers_of_a_document_are_refused(change):
    document = msgspec.structs.replace(MODEL.document, config=MODEL.document.config | change)
    with pytest.raises(ModelError, match="sizes that cannot be"):
        model_of("file", document, ARRAYS)


def test_counts_of_lengths_that_are_said_to_be_forgotten_are_refused():
    document = msgspec.structs.replace(MODEL.document, config=MODEL.document.config | {"forgotten": 1})
    with pytest.raises(ModelError, match="contradict themselves"):
        model_of("file", document, ARRAYS)


def test_arrays_of_runs_that_nobody_asked_for_are_refused():
    for name in ("runs.more", "runs.", "runs.edge.0"):
        with pytest.raises(ModelError, match=r"^file: runs\."):
            model_of("file", MODEL.document, ARRAYS | {name: np.zeros(0, np.uint8)})


def test_whether_a_model_can_learn_more_is_known_beforehand():
    check_goes_on(MODEL)
    bad = model_of("file", MODEL.document, changed_at("runs.transfers", 0, 1 << 50))
    for model in (bad, msgspec_replaced(samples=("a",)), msgspec_replaced(samples=("a", "b", "c"))):
        with pytest.raises(ModelError) as refused:
            check_goes_on(model)
        with pytest.raises(ModelError, match=str(refused.value)):
            RoteLearner.of(model, 1)


def msgspec_replaced(**changes):
    return model_of("file", msgspec.structs.replace(MODEL.document, **changes), ARRAYS)


def test_a_million_samples_of_nothing_are_refused_at_once():
    count = 1_000_000
    arrays = ARRAYS | {"runs.stretches": np.zeros(count, np.uint32)}
    arrays["runs.stretches"][0] = len(ARRAYS["runs.transfers"])
    document = msgspec.structs.replace(MODEL.document, samples=("",) * count)
    with pytest.raises(ModelError, match="contradict themselves"):
        RoteLearner.of(model_of("file", document, arrays), 1)


@settings(max_examples=250, deadline=None)
@given(
    changes=st.lists(
        st.tuples(
            st.sampled_from(NETWORK),
            st.integers(0, 1 << 20),
            st.sampled_from(["bit", "zero", "ones", "swap", "drop"]),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_damaged_counts_are_refused_or_score(changes):
    arrays = dict(ARRAYS)
    for name, at, how in changes:
        array = arrays[name].copy()
        if not len(array):
            continue
        data = array.view(np.uint8)
        row = at % len(array)
        if how == "bit":
            data[at % len(data)] ^= 1 << at % 8
        elif how in ("zero", "ones"):
            array[row : row + 1].view(np.uint8)[:] = 0 if how == "zero" else 255
        elif how == "swap":
            array[[row, row - 1]] = array[[row - 1, row]]
        else:
            array = np.delete(array, row)
        arrays[name] = array
    assert_usable(arrays)


@settings(max_examples=60, deadline=None)
@given(name=st.sampled_from(RUNS), at=st.integers(0, 1 << 20), value=st.sampled_from(["bit", "zero", "ones"]))
def test_damaged_runs_are_refused_or_learnt_from(name, at, value):
    array = ARRAYS[name].copy()
    row = at % max(1, len(array))
    data = array[row : row + 1].view(np.uint8)
    if value == "bit" and len(data):
        data[at % len(data)] ^= 1 << at % 8
    elif len(data):
        data[:] = 0 if value == "zero" else 255
    # they do not matter for scores
    assert assert_usable(ARRAYS | {name: array})
    model = model_of("file", MODEL.document, ARRAYS | {name: array})
    try:
        made = teach(RoteLearner.of(model, 1), [LOOP * 9], ["c"]).model()
        # what is made of it can be read again
        assert np.isfinite(columns(again(made), JUDGED)["surprisal"]).all()
    except ModelError as error:
        assert len(str(error).splitlines()) == 1
