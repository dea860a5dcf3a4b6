"""The causal network: what it learns, and the probabilities that it gives."""

import numpy as np
import pytest
import torch

from barnum.learning.network.trained import TrainedNetwork
from barnum.learning.network.trainer import Trainer
from barnum.models.networks import causal_scorer as scorer_module
from barnum.models.networks.causal import Causal
from barnum.models.networks.causal_config import (
    NEVER,
    CausalConfig,
    cells_of,
    favoured_by,
    multi_sites,
    prior_of,
)
from barnum.models.networks.causal_scorer import CausalScorer, last_of
from barnum.models.networks.causal_task import CausalData
from barnum.models.threads import set_up
from barnum.models.train_config import TrainConfig
from barnum.paths import Kind
from barnum.sequences import (
    LEVELS,
    LONGEST,
    WHOLE,
    Encoder,
    Selection,
    Vocabulary,
    edges_of,
    fit_novelty,
    units_of,
)
from learning import blocks_of, nominal_path, part, transfers_of

BLOCKS = blocks_of(40, (Kind.RETURN, Kind.INDIRECT_CALL), in_libc=10)
LOOP = [0, 1, 0, 2, 0, 3, 0, 1, 0, 4]


def ignore(_):
    pass


class Learnt:
    """A small network, trained for a moment on some paths."""

    def __init__(self, paths, *, epochs=2, threads=1, ranks=32, rate=0.01, blocks=BLOCKS, **options):
        self.blocks = blocks
        runs = [transfers_of(blocks, path) for path in paths]
        counted = [edges_of([run]) for run in runs if len(run)]
        self.vocabulary = Vocabulary.fit(units_of(counted)[0])
        self.rates, _ = fit_novelty(self.vocabulary, counted)
        set_up(0)
        data = CausalData(self.vocabulary, WHOLE, ranks, **options)
        for run in runs:
            data.add(Selection().select([run], len(run)))
        self.task = data.task(8, threads, ignore)
        config = TrainConfig(epochs=epochs, batch_size=1024, learning_rate=rate)
        self.epochs = Trainer(self.task, config, threads=threads).train()
        self.network = TrainedNetwork(self.task.network)
        self.scorer = CausalScorer(self.network, self.vocabulary, self.rates, self.task.memory)

    def encode(self, path, first=(0,)):
        return Encoder(self.vocabulary).encode(transfers_of(self.blocks, path, first=first))

    def score(self, path, threads=1, first=(0,)):
        return self.scorer.score(self.encode(path, first), None, threads)

    def alternatives(self, history, targets):
        """Probability of each target after a history."""
        return np.array([np.exp(-float(self.score([*history, target]).surprisal[-1])) for target in targets])

    def share(self, site):
        """Of what goes to a new target, at the site of a block; and of that, by target."""
        number = int(np.flatnonzero(self.vocabulary.site == WHOLE.sites(self.blocks)[site])[0])
        width = np.diff(self.vocabulary.site_first)
        cell = self.rates.cell(self.vocabulary.site_runs[[number]].astype(int), width[[number]])
        own = self.vocabulary.edge_target[slice(*self.vocabulary.site_first[number : number + 2])]
        led = np.bincount(self.vocabulary.edge_target, minlength=len(self.vocabulary.target))
        taken = led[own].sum() / led.sum() * (1 - float(self.rates.unseen[0]))
        return float(self.rates.share[cell][0]), taken


@pytest.fixture(scope="module")
def learnt():
    return Learnt([nominal_path(seed, 800) for seed in range(6)])


def pairs(seed, count, chance=0.5):
    """Block 0 leads to 1 or 2 at random, and both lead back."""
    draw = np.random.default_rng(seed)
    return [step for _ in range(count) for step in (0, 1 + int(draw.random() < chance))]


# --- what is learnt ------------------------------------------------------------------------------------


def test_a_loop_is_learnt_for_sure():
    learnt = Learnt([LOOP * 60] * 2)
    scores = learnt.score(LOOP * 20)
    # when it has gone round once, nothing is left to doubt
    assert scores.correct[10:].all()
    assert scores.confidence[20:].min() > 0.9
    assert scores.surprisal[20:].max() < 0.1
    assert learnt.epochs[-1].accuracy > 0.99


def test_loss_falls():
    # which of three comes next depends on two blocks before, of which contexts of one length see one each
    draw = np.random.default_rng(0)
    path = []
    for _ in range(700):
        path += [1, 0, 2] if draw.random() < 0.5 else [3, 0, 4]
    epochs = Learnt([path], epochs=5, rate=0.02).epochs
    losses = [epoch.loss for epoch in epochs]
    assert losses == sorted(losses, reverse=True)
    # what is left is which of the two comes next
    assert losses[-1] < 1.15 * np.log(2) / 3
    assert epochs[-1].accuracy > 0.8


def test_what_no_context_tells_is_not_believed():
    # all that contexts count of coins is chance: nothing is to be made of them
    learnt = Learnt([pairs(seed, 1500) for seed in range(2)])
    coins = learnt.score(pairs(99, 1500)).surprisal.mean() * 2
    assert coins < 1.08 * np.log(2)
    assert learnt.epochs[-1].loss * 2 > 0.95 * np.log(2)


def test_a_long_context_is_believed_as_far_as_it_was_right():
    # of two that come back to 0, the one that came 12 transfers before tells which, nine times in ten
    draw = np.random.default_rng(3)

    def path(rounds):
        made = []
        for _ in range(rounds):
            kind = int(draw.integers(5, 9))
            told = kind % 2 if draw.random() < 0.9 else 1 - kind % 2
            made += [kind, *[10, 11] * 5, 0, 1 + told]
        return made

    learnt = Learnt([path(300) for _ in range(3)])
    history = path(400)
    scores = learnt.score(history)
    at = np.flatnonzero(np.array(history[:-1]) == 0)
    assert scores.correct[at].mean() == pytest.approx(0.9, abs=0.06)
    assert scores.confidence[at].mean() == pytest.approx(0.9, abs=0.06)


@pytest.mark.parametrize("runs", [2, 3, 5, 9, 16, 17])
def test_what_every_run_did_is_expected_of_the_next_however_many_there_were(runs):
    # left out, a run has met each context once less often than one that comes later has
    path = np.random.default_rng(5).integers(0, 30, 300).tolist()
    learnt = Learnt([path] * runs, epochs=1)
    scores = learnt.score(path)
    assert scores.correct[5:].all()
    assert scores.surprisal[5:].mean() < 0.1


def test_sites_with_one_target_need_no_network():
    learnt = Learnt([[0, 1, 2] * 60 for _ in range(3)])
    assert learnt.task.items == 0
    assert learnt.task.given == learnt.task.transfers == 3 * 179
    assert all(epoch.loss == 0 and epoch.accuracy == 1 for epoch in learnt.epochs)
    assert all(epoch.transfers == 3 * 179 for epoch in learnt.epochs)
    scores = learnt.score([0, 1, 2] * 3)
    share, _ = learnt.share(0)
    assert scores.correct.all()
    assert scores.confidence == pytest.approx(1 - share, abs=1e-5)
    assert scores.surprisal == pytest.approx(-np.log(1 - share), abs=1e-5)


def test_those_among_others_are_as_sure(learnt):
    path = nominal_path(9, 400)
    run, scores = learnt.encode(path), learnt.score(path)
    width = np.append(np.diff(learnt.vocabulary.site_first), 0)
    for i in np.flatnonzero((width[run.site] == 1) & (run.edge >= 0))[:20].tolist():
        share, _ = learnt.share(path[i])
        assert scores.surprisal[i] == pytest.approx(-np.log(1 - share), abs=1e-5)


# --- probabilities -------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [1, 2, 40, 300])
def test_all_that_may_follow_adds_up_to_one(learnt, length):
    history = nominal_path(5, 310)[310 - length :]
    site = history[-1]
    known = WHOLE.targets(BLOCKS)
    seen = [block for block in range(40) if known[block] in learnt.vocabulary.target]
    # the last one stands for all that were never seen
    nobody = next(block for block in range(40) if block not in seen)
    p = learnt.alternatives(history, [*seen, nobody])
    share, own = learnt.share(site)
    # what new targets have is spread over all targets, those that are not new included
    assert p.sum() == pytest.approx(1 - share * own, abs=1e-4)
    assert (p > 0).all()
    old = [i for i, block in enumerate(seen) if learnt.encode([site, block]).edge[0] >= 0]
    assert p[old].sum() == pytest.approx(1 - share, abs=1e-4)


def test_what_is_predicted_is_the_likeliest(learnt):
    history = nominal_path(8, 200)
    for end in (50, 51, 52, 120, 199):
        p = learnt.alternatives(history[:end], range(40))
        scores = learnt.score(history[: end + 1])
        assert scores.predicted[-1] == BLOCKS.bbid[int(p.argmax())]
        assert scores.confidence[-1] == pytest.approx(p.max(), abs=1e-5)


def test_a_new_target_surprises_more_than_a_known_one_and_finitely(learnt):
    history = nominal_path(5, 200)
    targets = {block: float(learnt.score([*history, block]).surprisal[-1]) for block in range(40)}
    edge = {block: int(learnt.encode([history[-1], block]).edge[0]) for block in range(40)}
    most = max(surprisal for block, surprisal in targets.items() if edge[block] >= 0)
    new = [surprisal for block, surprisal in targets.items() if edge[block] < 0]
    assert np.isfinite(new).all()
    assert min(new) > most
    # a target that training never saw, more than one that it saw elsewhere
    assert targets[39] > min(new)


def test_a_new_target_at_a_settled_site_surprises_more_than_at_an_unknown_one(learnt):
    settled, unknown = learnt.score([0, 1, 2, 39]), learnt.score([0, 1, 38, 39])
    assert settled.surprisal[-1] > unknown.surprisal[-1] + 3
    assert not settled.correct[-1]
    assert 0 < unknown.confidence[-1] < 1


def test_what_is_correct_is_what_happened(learnt):
    path = [*nominal_path(3, 300), 38, 39, 0, *nominal_path(4, 300)]
    scores = learnt.score(path)
    assert scores.correct.tolist() == (scores.predicted == BLOCKS.bbid[path[1:]]).tolist()
    assert scores.correct.any()
    assert not scores.correct.all()
    assert (scores.surprisal >= 0).all()
    assert np.isfinite(scores.surprisal).all()
    assert ((scores.confidence > 0) & (scores.confidence <= 1)).all()
    # what is predicted was known
    assert np.isin(scores.predicted, learnt.vocabulary.target).all()
    right = np.flatnonzero(scores.correct)
    assert np.exp(-scores.surprisal[right]) == pytest.approx(scores.confidence[right], rel=1e-4)


# a site that leads to 60 targets, under a network of fewer ranks
RANKS = 8
MANY = blocks_of(70)


@pytest.fixture(scope="module")
def wide():
    draw = np.random.default_rng(0)
    # the first few more often than each of the many that share the last rank, not than all of those
    weights = np.array([4.0] * (RANKS - 1) + [1.0] * (61 - RANKS))
    chosen = draw.choice(np.arange(1, 61), 4000, p=weights / weights.sum())
    path = [step for target in chosen.tolist() for step in (0, target)]
    paths = [path[i : i + 2000] for i in range(0, 8000, 2000)]
    return Learnt(paths, ranks=RANKS, blocks=MANY, epochs=1)


def test_probabilities_of_more_targets_than_ranks_add_up(wide):
    assert np.diff(wide.vocabulary.site_first).max() == 60
    p = wide.alternatives([0, 5, 0, 7, 0], range(1, 61))
    share, _ = wide.share(0)
    assert p.sum() == pytest.approx(1 - share, abs=1e-4)
    assert (p > 0).all()


def test_targets_beyond_the_last_rank_share_it_by_their_counts(wide):
    p = wide.alternatives([0, 5, 0, 7, 0], range(1, 61))
    vocabulary = wide.vocabulary
    first, end = vocabulary.site_first[int(np.diff(vocabulary.site_first).argmax()) :][:2]
    rare = slice(first + RANKS, end)
    blocks = np.searchsorted(MANY.bbid, vocabulary.target[vocabulary.edge_target[rare]])
    ratio = p[blocks - 1] / (vocabulary.edge_count[rare] + 0.5)
    assert ratio == pytest.approx(np.full(len(ratio), ratio.mean()), rel=1e-3)


def test_the_likeliest_is_predicted_though_others_share_a_rank(wide):
    history = [0, 5, 0, 7, 0]
    p = wide.alternatives(history, range(1, 61))
    scores = wide.score([*history, 1])
    assert scores.confidence[-1] == pytest.approx(p.max(), rel=1e-4)
    assert scores.predicted[-1] == MANY.bbid[1 + int(p.argmax())]


# --- what results do not depend on ---------------------------------------------------------------------


@pytest.mark.parametrize("threads", [2, 3])
def test_threads_change_no_score(learnt, monkeypatch, threads):
    monkeypatch.setattr(scorer_module, "_PIECE", 200)
    path = nominal_path(5, 1700)
    alone, together = learnt.score(path, 1), learnt.score(path, threads)
    for name in ("predicted", "confidence", "correct", "surprisal"):
        assert getattr(together, name).tobytes() == getattr(alone, name).tobytes()


@pytest.mark.parametrize("size", [1, 37, LONGEST, 500])
def test_parts_change_no_score(learnt, size):
    path = [*nominal_path(5, 150), 38, *nominal_path(6, 150)] if size == 1 else nominal_path(5, 1200)
    transfers = transfers_of(BLOCKS, path, first=(0, 90))
    encoder = Encoder(learnt.vocabulary)
    whole = learnt.scorer.score(encoder.encode(transfers), None, 1)
    pieces, warm = [], None
    for begin in range(0, len(transfers), size):
        run = encoder.encode(part(transfers, begin, begin + size))
        pieces.append(learnt.scorer.score(run, warm, 1))
        warm = last_of(run, warm)
        assert len(warm) == min(LONGEST, begin + len(run))
    for name in ("surprisal", "confidence", "predicted", "correct"):
        joined = np.concatenate([getattr(piece, name) for piece in pieces])
        assert joined.tobytes() == getattr(whole, name).tobytes()


def test_pieces_of_a_run_reach_back_as_far_as_contexts_do(learnt, monkeypatch):
    path = nominal_path(5, 700)
    whole = learnt.score(path)
    monkeypatch.setattr(scorer_module, "_PIECE", 100)
    assert learnt.score(path).surprisal.tobytes() == whole.surprisal.tobytes()


def test_nothing_before_a_restart_is_history(learnt):
    path = nominal_path(5, 400)
    restarted = learnt.score(path, first=(0, 200))
    alone = learnt.score(path[200:])
    assert restarted.surprisal[200:].tobytes() == alone.surprisal.tobytes()
    assert restarted.surprisal[:200].tobytes() == learnt.score(path[:201]).surprisal.tobytes()


def test_threads_change_no_training_row():
    paths = [nominal_path(seed, 300) for seed in range(3)]
    tasks = [Learnt(paths, epochs=1, threads=threads) for threads in (1, 3)]
    state = [b"".join(array.tobytes() for array in each.network.arrays().values()) for each in tasks]
    assert state[0] == state[1]
    assert tasks[0].task.memory.tobytes() == tasks[1].task.memory.tobytes()


# --- little and much -----------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [1, 2, 3, 20, LONGEST, LONGEST + 2])
def test_short_runs_are_scored(learnt, length):
    path = nominal_path(5, length)
    scores = learnt.scorer.score(learnt.encode(path, first=(0,) if length > 1 else ()), None, 2)
    for array in (scores.predicted, scores.confidence, scores.correct, scores.surprisal):
        assert array.shape == (length - 1,)
    assert np.isfinite(scores.surprisal).all()


def test_runs_shorter_than_any_context_are_learnt():
    learnt = Learnt([[0, 1], [0, 2], [0, 1]])
    assert learnt.task.transfers == 3
    scores = learnt.score([0, 1])
    assert scores.predicted.tolist() == [BLOCKS.bbid[1]]
    assert scores.correct.all()
    assert 0.3 < scores.confidence[0] < 0.8


def test_one_run_alone_is_learnt():
    learnt = Learnt([nominal_path(0, 500)])
    assert np.isfinite(learnt.score(nominal_path(1, 200)).surprisal).all()
    assert learnt.epochs[-1].transfers == 499


def test_contexts_are_remembered_under_a_cap():
    paths = [LOOP * 40] * 3
    few = Learnt(paths, remembered=300)
    assert len(few.task.memory) <= 300
    # everything is learnt all the same
    assert few.task.transfers == 3 * 399
    assert few.score(LOOP * 10).correct[20:].all()


def test_a_new_target_is_no_target_before(learnt):
    # after a block that training never showed something is expected, whatever that block is
    a, b = learnt.score([0, 1, 38, 1, 2, 3]), learnt.score([0, 1, 39, 1, 2, 3])
    assert a.surprisal[3:] == pytest.approx(b.surprisal[3:], abs=1e-6)


# --- parts of the network ------------------------------------------------------------------------------


def test_prior_holds_each_sites_own_frequencies():
    made = Vocabulary.fit([edges_of([transfers_of(BLOCKS, [0, 1, 0, 1, 0, 2, 0])]).whole])
    prior = prior_of(made, 4)
    # 0 leads to two targets, the others to one: these need none
    assert prior.shape == (1, 4)
    assert np.exp(prior[0, :2]) == pytest.approx([2.5 / 4, 1.5 / 4])
    assert (prior[0, 2:] == np.float32(NEVER)).all()
    # with two ranks a site's later targets share the last
    many = Vocabulary.fit([edges_of([transfers_of(BLOCKS, [0, 1, 0, 2, 0, 3, 0])]).whole])
    assert np.exp(prior_of(many, 2)[0]) == pytest.approx([1 / 3, 2 / 3])
    none = Vocabulary.fit([edges_of([transfers_of(BLOCKS, [0, 1, 2])]).whole])
    assert (prior_of(none, 4) == np.float32(NEVER)).all()


def test_sites_with_several_targets_are_numbered():
    path = [0, 1, 0, 2, 0, 3, 1, 3, 4, 3, 5]
    made = Vocabulary.fit([edges_of([transfers_of(BLOCKS, path)]).whole])
    several = np.diff(made.site_first) > 1
    assert multi_sites(made)[:-1][several].tolist() == list(range(int(several.sum())))
    assert not multi_sites(made)[:-1][~several].any()
    assert multi_sites(made)[-1] == 0


def test_the_longest_known_context_is_the_one_that_counts():
    rank = np.array([[0, 1], [0, 1], [2, 3], [0, 1], [0, 0], [0, 0]], np.uint8)
    level = np.array([[5, 7], [5, 0], [0, 0], [5, 0], [0, 0], [3, 0]], np.uint8)
    reach = np.array([2, 2, 2, 1, 0, 1], np.uint8)
    cell = cells_of(level, reach)
    # a length that is the longest a history has room for, known or not, has cells of its own
    cut = 3 * LEVELS
    assert cell.tolist() == [
        *(cut + 2 * LEVELS + 7, LEVELS + 5, 0),
        *(cut + LEVELS + 5, cut, cut + LEVELS + 3),
    ]
    assert favoured_by(rank, cell)[:2].tolist() == [1, 0]
    assert favoured_by(rank, cell)[3:].tolist() == [0, 0, 0]
    assert cells_of(level[:0], reach[:0]).shape == (0,)


NOTHING = torch.zeros(1, dtype=torch.int64)


def small_network():
    """One site with five ranks, contexts of two lengths."""
    set_up(0)
    network = Causal(CausalConfig(sites=1, targets=5, units=4, ranks=5, lengths=[1, 2]))
    with torch.no_grad():
        network.prior.copy_(torch.log(torch.tensor([[0.4, 0.25, 0.15, 0.15, 0.05]])))
        network.out.weight.zero_()
    return network


def p_of(network, rank, level, further=(0, 0), further_level=(0, 0), reach=2):
    """Probability of each rank."""
    hints = [torch.tensor([list(values)]) for values in (rank, level, further, further_level)]
    logits = network(NOTHING, NOTHING, *hints, torch.tensor([reach]))
    return torch.softmax(logits, 1)[0].tolist()


def test_the_network_gives_the_favoured_rank_the_odds_of_its_level():
    network = small_network()
    whole = 3 * LEVELS  # no longer one could be known
    with torch.no_grad():
        network.sure.weight[whole + 2 * LEVELS + 9] = np.log(0.9 / 0.1)
    # no context is known: frequencies
    assert p_of(network, [2, 2], [0, 0]) == pytest.approx([0.4, 0.25, 0.15, 0.15, 0.05], abs=1e-6)
    # the longer one is believed, in so many of ten cases; the others share the rest as before
    assert p_of(network, [0, 2], [4, 9]) == pytest.approx(
        [0.1 * share / 0.85 for share in (0.4, 0.25)]
        + [0.9]
        + [0.1 * share / 0.85 for share in (0.15, 0.05)],
        abs=1e-5,
    )


def test_ranks_that_followed_less_often_have_their_share_of_what_is_left():
    network = small_network()
    whole = 3 * LEVELS
    with torch.no_grad():
        network.sure.weight[whole + 2 * LEVELS + 9] = np.log(0.6 / 0.4)
        network.further_sure.weight[2 * LEVELS + 7] = np.log(0.75 / 0.25)
        network.further_sure.weight[whole + 2 * LEVELS + 3] = np.log(0.5 / 0.5)
    one = p_of(network, [0, 2], [4, 9], [4, 0], [7, 0])
    assert one == pytest.approx([0.1 * 0.4 / 0.8, 0.1 * 0.25 / 0.8, 0.6, 0.1 * 0.15 / 0.8, 0.3], abs=1e-5)
    both = p_of(network, [0, 2], [4, 9], [4, 3], [7, 3])
    assert both == pytest.approx([0.05 * 0.4 / 0.65, 0.05 * 0.25 / 0.65, 0.6, 0.05, 0.3], abs=1e-5)


def test_after_a_restart_a_short_context_is_believed_as_far_as_such_are():
    network = small_network()
    with torch.no_grad():
        network.sure.weight[LEVELS + 9] = np.log(0.2 / 0.8)  # nothing longer was known: rarely right
        network.sure.weight[3 * LEVELS + LEVELS + 9] = np.log(0.7 / 0.3)  # nothing longer could be known
        network.strength.weight[9] = 5.0  # learnt of whole histories
    assert p_of(network, [2, 0], [9, 0], reach=1)[2] == pytest.approx(0.7, abs=1e-5)
    longer = p_of(network, [2, 0], [9, 0], reach=2)[2]
    assert longer == pytest.approx(0.2 * np.exp(5) / (0.2 * np.exp(5) + 0.8), abs=1e-5)
