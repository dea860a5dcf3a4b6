"""The causal network, its training and its scoring."""

import numpy as np
import pytest
import torch

from barnum.models.causal import NEVER, Causal, CausalConfig
from barnum.models.scorer import LANE, WARM, Scorer, last_of
from barnum.models.trainer import STEPS, TrainConfig, lanes_for, new_network, prior_of, set_up, train
from barnum.paths import Kind
from barnum.sequences import (
    Encoder,
    Vocabulary,
    edges_of,
    fit_novelty,
    lay_lanes,
    previous_targets,
    units_of,
)
from learning import blocks_of, nominal_path, part, transfers_of

BLOCKS = blocks_of(40, (Kind.RETURN, Kind.INDIRECT_CALL), in_libc=10)


def ignore(_):
    pass


@pytest.fixture(scope="module")
def learnt():
    """A vocabulary, rates, and a network that was trained for a moment."""
    runs = [transfers_of(BLOCKS, nominal_path(seed, 2000)) for seed in range(6)]
    return learn(runs)


def learn(runs, threads=2, seed=0, epochs=3, batch=16 * STEPS):
    counted = [edges_of([run]) for run in runs]
    vocabulary = Vocabulary.fit(units_of(counted)[0])
    rates, _ = fit_novelty(vocabulary, counted)
    set_up(seed)
    network = new_network(vocabulary, 16)
    windows = [Encoder(vocabulary).encode(run) for run in runs]
    count = batch // STEPS
    lanes = lay_lanes(windows, vocabulary.edge_rank, len(vocabulary.target) + 1, count, STEPS, seed)
    config = TrainConfig(epochs=epochs, batch_size=batch, learning_rate=0.02, seed=seed)
    epochs_done = train(network, lanes, vocabulary, config, threads, ignore)
    return vocabulary, rates, network, epochs_done


def test_state_restarts_where_there_is_no_previous_target():
    torch.manual_seed(1)
    network = Causal(CausalConfig(sites=5, targets=7, units=8, embedding=4, ranks=3))
    network.prior.zero_()
    site = torch.randint(0, 6, (12, 3))
    previous = torch.randint(0, 8, (12, 3))
    previous[5, 1] = 8
    logits, state = network(site, previous, torch.randn(3, 8))
    alone, last = network(site[5:, 1:2], previous[5:, 1:2], torch.zeros(1, 8))
    assert torch.allclose(logits[5:, 1], alone[:, 0], atol=1e-6)
    assert torch.allclose(state[1], last[0], atol=1e-6)


def test_prior_holds_each_sites_own_frequencies():
    made = Vocabulary.fit([edges_of([transfers_of(BLOCKS, [0, 1, 0, 1, 0, 2, 0])]).whole])
    prior = prior_of(made, 4)
    sums = np.where(prior > NEVER, np.exp(prior), 0).sum(axis=1)
    assert sums[:-1] == pytest.approx(1)
    assert (prior[-1] == NEVER).all()
    three_times = prior[:-1].max(axis=1)
    assert np.exp(three_times).min() == pytest.approx(2.5 / 4)
    # with two ranks a site's later targets share the last
    many = Vocabulary.fit([edges_of([transfers_of(BLOCKS, [0, 1, 0, 2, 0, 3, 0])]).whole])
    assert np.exp(prior_of(many, 2))[:-1].sum(axis=1) == pytest.approx(1)


def test_history_is_learnt():
    # what follows block 0 depends on what came before it: counting is right half of the time
    path = [1, 0, 2, 3, 0, 4] * 400
    draw = np.random.default_rng(0)
    path = [step for _ in range(800) for step in ([1, 0, 2] if draw.random() < 0.5 else [3, 0, 4])]
    _, _, _, epochs = learn([transfers_of(BLOCKS, path)], epochs=6)
    assert epochs[0].loss > epochs[-1].loss
    # the only thing left to guess is which of the two comes next
    assert epochs[-1].loss < 1.15 * np.log(2) / 3
    assert epochs[-1].accuracy > 0.8


def test_training_depends_on_the_seed_alone():
    runs = [transfers_of(BLOCKS, nominal_path(seed, 9000)) for seed in range(2)]
    weights = []
    for threads, seed in ((1, 0), (3, 0), (1, 1)):
        _, _, network, _ = learn(runs, threads=threads, seed=seed, epochs=1, batch=130 * STEPS)
        weights.append(b"".join(t.numpy().tobytes() for t in network.state_dict().values()))
    assert weights[0] == weights[1]
    assert weights[0] != weights[2]


def test_lanes_are_fewer_for_little_data():
    assert lanes_for(10_000_000, 8192) == 128
    assert lanes_for(66_000, 8192) == 16
    assert lanes_for(10, 64) == 1


def test_scores_are_those_of_the_network(learnt):
    vocabulary, rates, network, _ = learnt
    run = Encoder(vocabulary).encode(transfers_of(BLOCKS, nominal_path(77, 800), first=(0, 300)))
    scores = Scorer(network, vocabulary, rates).score(run, None, 1, ignore)
    previous = previous_targets(run, len(vocabulary.target) + 1)
    with torch.no_grad():
        logits, _ = network(
            torch.from_numpy(run.site.astype(np.int64))[:, None],
            torch.from_numpy(previous.astype(np.int64))[:, None],
            torch.zeros(1, 16),
        )
    log_p = torch.log_softmax(logits[:, 0], dim=1).numpy()
    seen = np.flatnonzero(run.edge >= 0)
    ranks = vocabulary.edge_rank[run.edge[seen]]
    share = rates.share[
        rates.cell(
            vocabulary.site_runs[run.site[seen]].astype(int), np.diff(vocabulary.site_first)[run.site[seen]]
        )
    ]
    expected = -(np.log1p(-share) + log_p[seen, ranks])
    assert scores.surprisal[seen] == pytest.approx(expected, abs=1e-4)
    best = vocabulary.target[
        vocabulary.edge_target[vocabulary.site_first[run.site[seen]] + log_p[seen].argmax(axis=1)]
    ]
    assert scores.predicted[seen].tolist() == best.tolist()
    assert scores.confidence[seen] == pytest.approx((1 - share) * np.exp(log_p[seen].max(axis=1)), abs=1e-4)
    assert (scores.correct == (scores.predicted == BLOCKS.bbid[nominal_path(77, 800)[1:]])).all()


def test_every_transfer_is_scored_once_whatever_the_parts_and_threads(learnt):
    vocabulary, rates, network, _ = learnt
    scorer = Scorer(network, vocabulary, rates)
    transfers = transfers_of(BLOCKS, nominal_path(5, 40 * LANE + 333), first=(0, 5 * LANE + 10))
    encoder = Encoder(vocabulary)
    told = []
    whole = scorer.score(encoder.encode(transfers), None, 2, told.append)
    assert len(whole.surprisal) == sum(told) == len(transfers)
    assert np.isfinite(whole.surprisal).all()
    pieces, warm = [], None
    for begin in range(0, len(transfers), 4 * LANE):
        run = encoder.encode(part(transfers, begin, begin + 4 * LANE))
        pieces.append(scorer.score(run, warm, 1, ignore).surprisal)
        warm = last_of(run, warm)
        assert len(warm) == WARM
    assert np.concatenate(pieces) == pytest.approx(whole.surprisal, abs=1e-4)
    again = scorer.score(encoder.encode(transfers), None, 1, ignore)
    assert again.surprisal.tobytes() == whole.surprisal.tobytes()


@pytest.mark.parametrize("length", [2, 3, WARM, LANE - 1, LANE + 2])
def test_short_runs_are_scored_too(learnt, length):
    vocabulary, rates, network, _ = learnt
    run = Encoder(vocabulary).encode(transfers_of(BLOCKS, nominal_path(5, length)))
    scores = Scorer(network, vocabulary, rates).score(run, None, 2, ignore)
    assert len(scores.surprisal) == length - 1


def test_probabilities_of_all_targets_add_up_to_one_at_most(learnt):
    vocabulary, rates, network, _ = learnt
    scorer = Scorer(network, vocabulary, rates)
    history = nominal_path(5, 60)
    total = 0.0
    for last in [*range(40)]:
        run = Encoder(vocabulary).encode(transfers_of(BLOCKS, [*history, last]))
        if last < 30 or last == 39:  # all never-seen targets together have one probability
            total += float(np.exp(-scorer.score(run, None, 1, ignore).surprisal[-1]))
    assert 0.9 < total <= 1 + 1e-5


def test_a_new_target_at_a_settled_site_surprises_more_than_at_an_unknown_one(learnt):
    vocabulary, rates, network, _ = learnt
    scorer = Scorer(network, vocabulary, rates)
    encoder = Encoder(vocabulary)
    settled = scorer.score(encoder.encode(transfers_of(BLOCKS, [0, 1, 2, 39])), None, 1, ignore)
    unknown = scorer.score(encoder.encode(transfers_of(BLOCKS, [0, 1, 38, 39])), None, 1, ignore)
    assert settled.surprisal[-1] > unknown.surprisal[-1] + 3
    assert not settled.correct[-1]
    assert 0 < unknown.confidence[-1] < 1


def test_a_site_with_more_targets_than_ranks_keeps_its_probabilities():
    draw = np.random.default_rng(0)
    many = blocks_of(100)
    path = [step for target in draw.integers(1, 80, 3000) for step in (0, int(target))]
    runs = [transfers_of(many, path[i::1][:2000]) for i in range(0, 3000, 2000)]
    vocabulary, rates, network, _ = learn(runs, epochs=1)
    assert np.diff(vocabulary.site_first).max() > network.config.ranks
    scorer = Scorer(network, vocabulary, rates)
    total = 0.0
    for target in range(1, 80):
        run = Encoder(vocabulary).encode(transfers_of(many, [0, 5, 0, 7, 0, target]))
        if run.edge[-1] >= 0:
            total += float(np.exp(-scorer.score(run, None, 1, ignore).surprisal[-1]))
    assert 0.8 < total <= 1 + 1e-5
