"""Training: batches, checkpoints, what ends it, and that it can be broken off without a trace."""

import json
import math
import os
import socket
import subprocess
import sys
import tempfile
import textwrap
from itertools import chain
from pathlib import Path
from types import SimpleNamespace

import msgspec
import numpy as np
import pytest
import torch
from torch import nn

from barnum.errors import InputError, ModelError
from barnum.learning.network import trainer as trainer_module
from barnum.learning.network.checkpoint import CheckpointFolder
from barnum.learning.network.hooks import InterruptedTrainingError, Keeping
from barnum.learning.network.processes import launched
from barnum.learning.network.trainer import Checkpoints, Trainer
from barnum.learning.network.world import World
from barnum.models.networks.causal_task import CausalTask
from barnum.models.networks.paper_task import PaperTask
from barnum.models.networks.task import Loss
from barnum.models.saved import load_model
from barnum.models.threads import set_up
from barnum.models.train_config import Progress, TrainConfig
from barnum.paths import Kind
from barnum.sequences import Selection, Spool
from learning import blocks_of, fit, nominal_path, path_of, spec_of

BLOCKS = blocks_of(40, (Kind.RETURN, Kind.INDIRECT_CALL), in_libc=10)


# --- a task whose losses are written down --------------------------------------------------------------


class Scripted:
    """Its loss is what a function says of each step; gradients are 1, so that each step moves the weights."""

    per_item = 1
    given = 0

    def __init__(self, loss, items=40, optimiser="rmsprop", piece=1000, given=0, per_item=1):
        self.network = nn.Module()
        self.network.weight = nn.Parameter(torch.zeros(4))
        self.items, self.optimiser, self.piece, self.per_item, self.given = (
            items,
            optimiser,
            piece,
            per_item,
            given,
        )
        self.transfers = items * per_item + given
        self._loss = loss
        self.weights = []
        self.batches = []

    def loss(self, items, generator):
        moved = self.network.weight.sum()
        level = self._loss(len(self.weights))
        self.weights.append(self.network.weight.detach()[0].item())
        self.batches.append(items.tolist())
        total = len(items) * (level + moved - moved.detach())
        return Loss(total, len(items) // 2, len(items))


class Kept:
    """A place for checkpoints of a scripted task."""

    def __init__(self, task, *, minutes=0.0, best=False, early_stop=False):
        self.task = task
        self.saved = []
        self.restored = 0
        self.checkpoints = Checkpoints(
            minutes=minutes, best=best, early_stop=early_stop, save=self.save, restore=self.restore
        )

    def save(self, progress, state, best):
        self.saved.append(
            SimpleNamespace(
                progress=msgspec.json.decode(msgspec.json.encode(progress), type=Progress),
                state={name: tensor.clone() for name, tensor in state.items()},
                weight=self.task.network.weight.detach().clone(),
                best=best,
            )
        )

    def restore(self):
        self.restored += 1
        last = next(kept for kept in reversed(self.saved) if kept.best)
        self.task.network.weight.data.copy_(last.weight)

    @property
    def steps(self):
        return [kept.progress.steps for kept in self.saved]


@pytest.fixture
def four_steps(monkeypatch):
    """Small sets make few steps, so that they are soon counted."""
    monkeypatch.setattr(trainer_module, "_FEWEST_STEPS", 4)


class Clock:
    """The time that the trainer sees."""

    now = 0.0

    def monotonic(self):
        return self.now

    def perf_counter(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    monkeypatch.setattr(trainer_module, "time", made)
    return made


def config(epochs=1, batch=10, rate=0.1, **more):
    return TrainConfig(epochs=epochs, batch_size=batch, learning_rate=rate, **more)


def test_each_item_is_learnt_once_an_epoch_in_another_order(four_steps):
    task = Scripted(lambda _: 1.0, items=42)
    told = []
    epochs = Trainer(task, config(epochs=3), advance=told.append).train()
    assert [len(batch) for batch in task.batches] == [10, 10, 10, 10, 2] * 3
    orders = [list(chain(*task.batches[i : i + 5])) for i in (0, 5, 10)]
    assert all(sorted(order) == list(range(42)) for order in orders)
    assert len({tuple(order) for order in orders}) == 3
    assert [epoch.number for epoch in epochs] == [1, 2, 3]
    assert [epoch.transfers for epoch in epochs] == [42] * 3
    assert [epoch.loss for epoch in epochs] == pytest.approx([1.0] * 3)
    assert [epoch.accuracy for epoch in epochs] == pytest.approx([21 / 42] * 3)
    assert sum(told) == 3 * 42


def test_little_data_makes_small_batches():
    task = Scripted(lambda _: 1.0, items=64)
    Trainer(task, config(batch=1000)).train()
    assert len(task.batches) == 32
    one = Scripted(lambda _: 1.0, items=1)
    assert len(Trainer(one, config(batch=1000)).train()) == 1
    assert one.batches == [[0]]


def test_a_batch_counts_transfers_not_items(four_steps):
    task = Scripted(lambda _: 1.0, items=100, per_item=8)
    Trainer(task, config(batch=64)).train()
    assert {len(batch) for batch in task.batches[:-1]} == {8}
    tiny = Scripted(lambda _: 1.0, items=100, per_item=8)
    Trainer(tiny, config(batch=1)).train()
    assert {len(batch) for batch in tiny.batches} == {1}


def test_what_needs_no_network_counts_as_learnt_and_right(four_steps):
    task = Scripted(lambda _: 1.0, items=40, given=60)
    told = []
    (epoch,) = Trainer(task, config(), advance=told.append).train()
    assert epoch.transfers == sum(told) == 100
    assert epoch.loss == pytest.approx(0.4)
    assert epoch.accuracy == pytest.approx((60 + 20) / 100)


def test_pieces_of_a_batch_add_up(four_steps):
    whole, pieces = Scripted(lambda _: 1.0), Scripted(lambda _: 1.0, piece=3)
    for task in (whole, pieces):
        Trainer(task, config(), threads=2).train()
    assert sorted(len(batch) for batch in pieces.batches) == [2] * 8 + [3] * 8
    assert pieces.network.weight.tolist() == pytest.approx(whole.network.weight.tolist(), rel=1e-5)


def test_an_epoch_that_brings_nothing_ends_training(four_steps, caplog):
    # 4 steps an epoch; as good as before is good enough
    losses = [3.0, 2.0, 2.0, 2.5, 1.0]
    task = Scripted(lambda step: losses[step // 4])
    caplog.set_level("INFO", "barnum")
    epochs = Trainer(task, config(epochs=5)).train()
    assert [epoch.loss for epoch in epochs] == pytest.approx([3.0, 2.0, 2.0, 2.5])
    assert "epoch 4 brought nothing: training ends" in caplog.text


def test_a_loss_that_is_no_number_is_told(four_steps):
    task = Scripted(lambda step: math.nan if step == 2 else 1.0)
    with pytest.raises(ModelError, match="--learning-rate"):
        Trainer(task, config()).train()


# --- the rate ------------------------------------------------------------------------------------------


def moves(task, **more):
    """How far each step moves the weights."""
    Trainer(task, config(**more)).train()
    after = [*task.weights[1:], task.network.weight.detach()[0].item()]
    return np.array(task.weights) - np.array(after)


def test_learning_decay_divides_the_rate(four_steps):
    plain = moves(Scripted(lambda _: 1.0), epochs=3)
    decayed = moves(Scripted(lambda _: 1.0), epochs=3, learning_decay=0.5)
    assert len(plain) == 12
    assert decayed / plain == pytest.approx(1 / (1 + 0.5 * np.arange(12)), rel=1e-3)


def test_rmsprop_goes_on_at_a_constant_rate(four_steps):
    # what it divides by comes to rest where gradients do not change
    steps = moves(Scripted(lambda _: 1.0, items=400), epochs=2, rate=0.01)
    assert steps[-20:] == pytest.approx(np.full(20, 0.01), rel=0.01)


def test_adam_starts_slowly_and_comes_to_rest(four_steps):
    steps = moves(Scripted(lambda _: 1.0, items=400, optimiser="adam"), epochs=1, rate=0.01)
    assert steps[0] < 0.1 * steps.max()
    assert steps.max() == pytest.approx(0.01, rel=0.02)
    assert 2 <= int(steps.argmax()) <= 8
    assert (np.diff(steps[8:]) < 0).all()
    assert steps[-1] < 0.02 * steps.max()
    decayed = moves(
        Scripted(lambda _: 1.0, items=400, optimiser="adam"), epochs=1, rate=0.01, learning_decay=0.5
    )
    assert decayed / steps == pytest.approx(1 / (1 + 0.5 * np.arange(len(steps))), rel=1e-3)


# --- checkpoints ---------------------------------------------------------------------------------------


def test_checkpoints_come_every_so_many_minutes(four_steps, clock):
    def loss(step):
        clock.now += 60
        return 1.0

    task = Scripted(loss, items=80)
    kept = Kept(task, minutes=3.0)
    Trainer(task, config(epochs=2), checkpoints=kept.checkpoints).train()
    assert kept.steps == [3, 6, 9, 12, 15]
    assert not any(each.best for each in kept.saved)
    assert kept.restored == 0
    never = Kept(task, minutes=None)
    Trainer(task, config(), checkpoints=never.checkpoints).train()
    assert never.saved == []


def test_it_is_told_how_training_goes(four_steps, clock, caplog):
    def loss(step):
        clock.now += 60
        return 1.5

    caplog.set_level("INFO", "barnum")
    Trainer(Scripted(loss, items=80), config(), status_minutes=3).train()
    lines = [record.getMessage() for record in caplog.records]
    assert [line for line in lines if "step" in line] == [
        "epoch 1/1, step 3/8: loss 1.5000 nats, accuracy 0.5000",
        "epoch 1/1, step 6/8: loss 1.5000 nats, accuracy 0.5000",
    ]
    assert lines[-1].startswith("epoch 1/1: loss 1.5000 nats, accuracy 0.5000")


def test_the_best_checkpoints_are_kept_and_the_best_of_all_is_the_result(four_steps):
    losses = [5.0, 4.0, 4.5, 4.0, 3.0, 3.5, 3.2, 6.0]
    task = Scripted(lambda step: losses[step], items=80)
    kept = Kept(task, best=True)
    Trainer(task, config(), checkpoints=kept.checkpoints).train()
    # none with more loss than the best before; as much will do
    assert kept.steps == [1, 2, 4, 5]
    assert all(each.best for each in kept.saved)
    assert kept.restored == 1
    assert task.network.weight[0].item() == task.weights[5]


def test_what_came_after_the_best_checkpoint_stays_if_it_is_better(four_steps):
    losses = [5.0, 4.0, 3.0, 2.0]
    task = Scripted(lambda step: losses[step])
    kept = Kept(task, best=True)
    trainer = Trainer(task, config(), checkpoints=kept.checkpoints, advance=lambda _: stop_saving(kept, task))
    trainer.train()
    assert kept.steps == [1, 2]
    assert kept.restored == 0
    # the last checkpoint itself needs no going back either
    task = Scripted(lambda step: losses[step])
    kept = Kept(task, best=True)
    Trainer(task, config(), checkpoints=kept.checkpoints).train()
    assert kept.steps == [1, 2, 3, 4]
    assert kept.restored == 0


def stop_saving(kept, task, after=2):
    """No checkpoint is due any more after so many steps."""
    if len(task.weights) >= after:
        kept.checkpoints.minutes = math.inf


def test_without_a_checkpoint_there_is_nothing_to_go_back_to(four_steps):
    task = Scripted(lambda step: step + 1.0)
    kept = Kept(task, minutes=1e9, best=True)
    Trainer(task, config(), checkpoints=kept.checkpoints).train()
    assert kept.saved == []
    assert kept.restored == 0
    assert task.network.weight[0].item() != task.weights[-1]


@pytest.mark.parametrize("best", [False, True])
def test_training_stops_early_where_loss_rises_between_checkpoints(four_steps, best):
    losses = [5.0, 4.0, 4.0, 4.1, 1.0, 1.0, 1.0, 1.0]
    task = Scripted(lambda step: losses[step], items=80)
    kept = Kept(task, best=best, early_stop=True)
    epochs = Trainer(task, config(epochs=3), checkpoints=kept.checkpoints).train()
    assert len(task.weights) == 4
    # the one that ends training is kept in any case: after a kill it ends there, too
    assert kept.steps == [1, 2, 3, 4]
    assert [each.best for each in kept.saved] == ([True] * 3 + [False] if best else [False] * 4)
    assert [epoch.loss for epoch in epochs] == pytest.approx([np.mean(losses[:4])])
    # with --checkpoint-best what is left is the best, not what came after
    assert kept.restored == int(best)


def test_the_loss_of_a_checkpoint_is_the_mean_since_the_one_before(four_steps, clock):
    losses = [9.0, 1.0, 6.0, 3.0, 4.0, 4.0, 9.0, 9.0]

    def loss(step):
        clock.now += 60
        return losses[step]

    task = Scripted(loss, items=80)
    kept = Kept(task, minutes=2.0, best=True)
    Trainer(task, config(), checkpoints=kept.checkpoints).train()
    # 5, 4.5, 4 and 9
    assert [each.progress.best_loss for each in kept.saved] == pytest.approx([5.0, 4.5, 4.0])
    assert kept.restored == 1


@pytest.mark.parametrize("place", [True, False])
def test_an_interrupt_saves_and_ends(four_steps, place):
    task = Scripted(lambda step: 1.0 + step)
    kept = Kept(task, minutes=None, best=True)
    calls = iter(range(100))
    trainer = Trainer(
        task,
        config(),
        checkpoints=kept.checkpoints if place else None,
        interrupted=lambda: next(calls) == 2,
    )
    with pytest.raises(InterruptedTrainingError):
        trainer.train()
    assert len(task.weights) == 3
    assert kept.steps == ([3] if place else [])
    assert not any(each.best for each in kept.saved)


@pytest.mark.parametrize("stop", range(3, 9))
def test_going_back_to_the_best_is_not_forgotten_over_an_interrupt(four_steps, stop):
    """The only checkpoint is that of the second step, and all that comes after it is worse."""
    losses = [5.0, 4.0, *[6.0] * 6]

    def train(kept, interrupted, found=None):
        trainer = Trainer(
            kept.task,
            config(epochs=2),
            checkpoints=kept.checkpoints,
            advance=lambda _: stop_saving(kept, kept.task),
            interrupted=interrupted,
        )
        if found is not None:
            kept.checkpoints.minutes = math.inf
            kept.task.network.weight.data.copy_(found.weight)
            trainer.resume(found.progress, found.state)
        return trainer.train()

    undisturbed = Kept(Scripted(lambda step: losses[step]), best=True)
    train(undisturbed, lambda: False)
    assert undisturbed.restored == 1

    broken = Kept(Scripted(lambda step: losses[step]), best=True)
    calls = iter(range(1, 100))
    with pytest.raises(InterruptedTrainingError):
        train(broken, lambda: next(calls) == stop)
    again = Kept(Scripted(lambda step: losses[stop + step]), best=True)
    again.saved = list(broken.saved)
    train(again, lambda: False, broken.saved[-1])
    assert again.task.network.weight.tolist() == undisturbed.task.network.weight.tolist()


# --- networks ------------------------------------------------------------------------------------------


RUNS = [path_of(nominal_path(seed, 200), BLOCKS) for seed in range(3)]
NETWORKS = ("causal", "paper")


@pytest.fixture
def small(monkeypatch, four_steps):
    """Batches of several pieces, and few of them."""
    monkeypatch.setattr(CausalTask, "piece", 1)
    monkeypatch.setattr(PaperTask, "piece", 24)


def spec(network, **more):
    return spec_of(network, **{"units": 6, "sequence_len": 4, **more})


@pytest.mark.parametrize("network", NETWORKS)
def test_what_is_learnt_depends_on_the_seed_and_on_no_threads(small, network):
    first, epochs = fit(spec(network), RUNS, threads=1)
    for threads in (2, 3):
        again, _ = fit(spec(network), RUNS, threads=threads)
        assert again.identity == first.identity
    other, _ = fit(spec(network, seed=1), RUNS)
    assert other.identity != first.identity
    assert epochs[-1].transfers == 3 * 199


@pytest.mark.parametrize("network", NETWORKS)
def test_data_that_does_not_fit_in_memory_is_learnt_as_well(small, monkeypatch, tmp_path, network):
    in_memory, _ = fit(spec(network), RUNS)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(Spool.__init__, "__defaults__", (1000,))
    on_disk, _ = fit(spec(network), RUNS, threads=2)
    assert on_disk.identity == in_memory.identity
    assert list(tmp_path.iterdir()) == []


class Stops:
    """Says when to stop: after so many steps."""

    def __init__(self, after):
        self.left = after

    def __call__(self):
        self.left -= 1
        return self.left == 0


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("steps", [1, 3])
def test_training_that_is_broken_off_again_and_again_learns_the_same(small, tmp_path, network, steps):
    undisturbed, epochs = fit(spec(network), RUNS)
    stops = 0
    while True:
        keeping = Keeping(CheckpointFolder(tmp_path / "checkpoints"), resume=True)
        try:
            # each time from nothing but the files
            model, resumed = fit(spec(network), RUNS, keeping=keeping, interrupted=Stops(steps))
            break
        except InterruptedTrainingError:
            stops += 1
    assert stops >= 4 // steps
    assert model.identity == undisturbed.identity
    for one, other in zip(resumed, epochs, strict=True):
        assert (one.number, one.transfers, one.accuracy) == (other.number, other.transfers, other.accuracy)
        assert one.loss == pytest.approx(other.loss, rel=1e-12)


@pytest.mark.parametrize("network", NETWORKS)
def test_checkpoints_change_nothing_and_each_is_one_to_go_on_from(small, tmp_path, network):
    undisturbed, _ = fit(spec(network), RUNS)
    folder = CheckpointFolder(tmp_path / "checkpoints")
    model, _ = fit(spec(network), RUNS, keeping=Keeping(folder, minutes=1e-9))
    assert model.identity == undisturbed.identity
    last, before = sorted(folder.folder.glob("step-*.json"), reverse=True)
    # the newest is that of the last step: nothing is left to be learnt
    resumed, _ = fit(spec(network), RUNS, keeping=Keeping(folder, resume=True))
    assert resumed.identity == undisturbed.identity
    assert load_model(last, last.with_suffix(".safetensors")).identity == undisturbed.identity
    last.with_suffix(".safetensors").write_bytes(b"damaged")
    resumed, _ = fit(spec(network), RUNS, keeping=Keeping(folder, resume=True))
    assert resumed.identity == undisturbed.identity
    assert before.exists()


def test_resuming_from_nothing_begins(small, tmp_path):
    undisturbed, _ = fit(spec("causal"), RUNS)
    keeping = Keeping(CheckpointFolder(tmp_path / "none"), resume=True)
    assert fit(spec("causal"), RUNS, keeping=keeping)[0].identity == undisturbed.identity
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("change", "runs", "named"),
    [
        ({"seed": 1}, RUNS, "train differs"),
        ({"epochs": 3}, RUNS, "train differs"),
        ({"units": 7}, RUNS, "config differs"),
        ({"vocabulary": "modulo"}, RUNS, "another training"),
        ({"selection": Selection(max_transfers=100)}, RUNS, "selection differs"),
        ({"network": "paper"}, RUNS, "network differs"),
        ({}, RUNS[:2], "config differs|samples differs"),
        ({}, [*RUNS[:2], path_of(nominal_path(1, 201), BLOCKS)], "another training"),
    ],
)
def test_a_checkpoint_of_another_training_is_refused(small, tmp_path, change, runs, named):
    folder = CheckpointFolder(tmp_path / "checkpoints")
    with pytest.raises(InterruptedTrainingError):
        fit(spec("causal"), RUNS, keeping=Keeping(folder), interrupted=Stops(2))
    changed = {"network": "causal", **change}
    with pytest.raises(ModelError, match=named) as refused:
        fit(spec(changed.pop("network"), **changed), runs, keeping=Keeping(folder, resume=True))
    assert "--force" in str(refused.value)


def test_a_checkpoint_with_another_optimisers_state_is_refused(four_steps):
    task = Scripted(lambda _: 1.0)
    kept = Kept(task)
    Trainer(task, config(), checkpoints=kept.checkpoints).train()
    found = kept.saved[-1]
    for state in (
        {},
        {name: tensor[:-1] for name, tensor in found.state.items()},
        {**found.state, "x": torch.zeros(1)},
    ):
        with pytest.raises(ModelError, match="optimiser"):
            Trainer(Scripted(lambda _: 1.0), config()).resume(found.progress, state)


@pytest.mark.parametrize("network", NETWORKS)
def test_the_best_checkpoint_becomes_the_model(small, tmp_path, network):
    folder = CheckpointFolder(tmp_path / "checkpoints")
    # so high a rate that training gets worse again
    wild = spec(network, learning_rate=3.0, epochs=3)
    keeping = Keeping(folder, minutes=1e-9, best=True)
    model, _ = fit(wild, RUNS, keeping=keeping)
    kept = sorted(folder.folder.glob("step-*.json"))[-1]
    assert load_model(kept, kept.with_suffix(".safetensors")).identity == model.identity
    document = json.loads(kept.read_text())
    assert document["best"]
    undisturbed, _ = fit(wild, RUNS)
    assert undisturbed.identity != model.identity


@pytest.mark.parametrize("network", NETWORKS)
def test_a_process_without_a_part_in_a_batch_adds_nothing(monkeypatch, network):
    """The last batch of an epoch may hold fewer items than there are processes."""
    tasks = []

    class Watched(Trainer):
        def __init__(self, task, *arguments, **options):
            tasks.append(task)
            super().__init__(task, *arguments, **options)

    monkeypatch.setattr("barnum.learning.network.learner.Trainer", Watched)
    fit(spec(network, epochs=1, selection=Selection(max_transfers=40)), RUNS[:1])
    parameters = list(tasks[0].network.parameters())
    loss = tasks[0].loss(np.zeros(0, np.int64), torch.Generator())
    assert (loss.total.item(), loss.right, loss.tried) == (0, 0, 0)
    for gradient in torch.autograd.grad(loss.total, parameters, allow_unused=True):
        assert gradient is None or not gradient.any()


PROCESS = textwrap.dedent(
    """
    import json, sys
    from pathlib import Path
    from barnum.errors import InputError, ModelError
    from barnum.learning.network import trainer
    from barnum.learning.network.checkpoint import CheckpointFolder
    from barnum.learning.network.learner import Keeping
    from barnum.models.saved import save_document, save_weights
    from barnum.learning.network.trainer import InterruptedTrainingError
    from barnum.learning.network.world import World
    from test_learning_trainer import RUNS, Stops, fit, spec

    folder = Path(sys.argv[1])
    trainer._FEWEST_STEPS = 8
    told = {}
    with World() as world:
        for network in ("causal", "paper"):
            model, epochs = fit(spec(network, epochs=4), RUNS, world=world)
            told[network] = [(epoch.loss, epoch.transfers) for epoch in epochs]
            told[network + " identity"] = model.identity
            if world.first:
                save_document(folder / f"{network}.json", model.document)
                save_weights(folder / f"{network}.safetensors", model)
        # only the second is asked to stop
        keeping = Keeping(CheckpointFolder(folder / "checkpoints"), resume=True)
        never = lambda: False
        try:
            stops = never if world.first else Stops(3)
            fit(spec("causal", epochs=4), RUNS, world=world, keeping=keeping, interrupted=stops)
        except InterruptedTrainingError:
            told["stopped"] = True
        world.wait()
        resumed, _ = fit(spec("causal", epochs=4), RUNS, world=world, keeping=keeping)
        told["resumed"] = resumed.identity
    (folder / f"told-{world.rank}.json").write_text(json.dumps(told))
    """
)


def test_two_processes_learn_one_model_as_well_as_one_does(monkeypatch, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    place = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1"}
    here = Path(__file__).parent
    folders = [str(here), str(here.parent / "support"), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    path = os.pathsep.join(folders)
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESS, str(tmp_path)],
            env=os.environ | place | {"RANK": str(rank), "PYTHONPATH": path},
            stderr=subprocess.PIPE,
        )
        for rank in range(2)
    ]
    try:
        errors = [process.communicate(timeout=100)[1].decode() for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert [process.returncode for process in processes] == [0, 0], errors
    told = [json.loads((tmp_path / f"told-{rank}.json").read_text()) for rank in range(2)]
    # all have the same model
    assert told[0] == told[1]
    assert told[0]["stopped"]
    assert told[0]["resumed"] == told[0]["causal identity"]

    monkeypatch.setattr(trainer_module, "_FEWEST_STEPS", 8)
    for network in NETWORKS:
        model, epochs = fit(spec(network, epochs=4), RUNS)
        loss, transfers = told[0][network][-1]
        assert transfers == epochs[-1].transfers
        assert loss == pytest.approx(epochs[-1].loss, rel=0.02)
        loaded = load_model(tmp_path / f"{network}.json", tmp_path / f"{network}.safetensors")
        assert loaded.identity == told[0][f"{network} identity"]
        assert loaded.document.samples == model.document.samples
    # one process does not go on where two were
    keeping = Keeping(CheckpointFolder(tmp_path / "checkpoints"), resume=True)
    with pytest.raises(ModelError, match="made by 2 processes, now there are 1"):
        fit(spec("causal", epochs=4), RUNS, keeping=keeping)


@pytest.mark.parametrize(("name", "value"), [("RANK", "first"), ("WORLD_SIZE", "")])
def test_processes_that_cannot_join_say_so(monkeypatch, name, value):
    place = {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0", name: value}
    for variable, text in place.items():
        monkeypatch.setenv(variable, text)
    with pytest.raises(InputError, match="cannot join"):
        World(torch.device("cpu"))


def test_a_process_is_alone_unless_all_is_said(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert not launched()
    with World() as world:
        assert world.first
        assert world.size == 1
        assert world.add_up(torch.ones(2)).tolist() == [1, 1]
        world.wait()


def test_set_up_makes_first_weights_depend_on_the_seed():
    drawn = []
    for seed in (0, 0, 1):
        set_up(seed)
        drawn.append(torch.rand(3).tolist())
    assert drawn[0] == drawn[1] != drawn[2]
