"""Trains a network: batches drawn anew each epoch, several threads and processes, checkpoints, resuming.

What is learnt depends on the seed, the data and the number of processes alone: not on threads, on the clock
or on how often training was broken off.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim.adam import adam

from barnum.errors import ModelError
from barnum.learning.network.hooks import InterruptedTrainingError
from barnum.learning.network.world import World
from barnum.models.networks.task import Loss, Task
from barnum.models.threads import pool
from barnum.models.train_config import Epoch, Progress, TrainConfig

_log = logging.getLogger(__name__)

# an epoch has at least so many steps of the optimiser where there is data for them: small sets take small
# batches
_FEWEST_STEPS = 32


class Checkpoints(msgspec.Struct, kw_only=True):
    """When and how to save. ``minutes`` between checkpoints (None: only when interrupted); ``best`` saves
    none that has more loss than the best before; ``early_stop`` ends training where a checkpoint has more
    loss than the one before."""

    minutes: float | None
    best: bool
    early_stop: bool
    save: Callable[[Progress, dict[str, Tensor], bool], None]
    restore: Callable[[], None]


class Trainer:
    """Trains a task's network in place."""

    def __init__(
        self,
        task: Task,
        config: TrainConfig,
        *,
        threads: int = 1,
        world: World | None = None,
        checkpoints: Checkpoints | None = None,
        advance: Callable[[int], None] = lambda _: None,
        interrupted: Callable[[], bool] = lambda: False,
        status_minutes: float = math.inf,
    ) -> None:
        self._task = task
        self._config = config
        self._threads = threads
        self._world = world or World()
        self._checkpoints = checkpoints
        self._advance = advance
        self._interrupted = interrupted
        self._status = status_minutes
        self._parameters = [p for p in task.network.parameters() if p.requires_grad]
        self._flat = _flattened(self._parameters)
        self._optimiser = Adam(self._flat) if task.optimiser == "adam" else RmsProp(self._flat)
        self.progress = Progress(processes=self._world.size)
        wanted = max(1, config.batch_size // task.per_item) * self._world.size
        self._items = max(self._world.size, min(wanted, task.items // _FEWEST_STEPS))
        self._steps = max(1, -(-task.items // self._items))

    def resume(self, progress: Progress, optimiser: dict[str, Tensor]) -> None:
        """Go on from a checkpoint; the network's own tensors are loaded already."""
        if {name: tensor.shape for name, tensor in optimiser.items()} != {
            name: tensor.shape for name, tensor in self._optimiser.state.items()
        }:
            raise ModelError("the checkpoint holds another optimiser's state: --force begins anew")
        done = (progress.epoch - 1) * self._steps + progress.step
        if not (
            1 <= progress.epoch <= self._config.epochs + 1
            and 0 <= progress.step <= self._steps
            and progress.steps == done
            and len(progress.epochs) >= progress.epoch - 1
        ):
            raise ModelError("the checkpoint says that it came further than it can: --force begins anew")
        self.progress = progress
        for name, tensor in self._optimiser.state.items():
            tensor.copy_(optimiser[name])

    def train(self) -> list[Epoch]:
        """All epochs, or as many as bring something.

        Raises:
            InterruptedTrainingError: ``interrupted`` said so.
        """
        progress, config = self.progress, self._config
        self._marks = dict.fromkeys(("checkpoint", "status"), time.monotonic())
        with pool(self._threads) as workers:
            self._workers = workers
            while progress.epoch <= config.epochs and not progress.ended:
                if not self._epoch():
                    break
                if len(progress.epochs) > 1 and progress.epochs[-1].loss > progress.epochs[-2].loss:
                    _log.info("epoch %d brought nothing: training ends", progress.epochs[-1].number)
                    break
        self._finish()
        return progress.epochs

    def _epoch(self) -> bool:
        """One epoch; False where a checkpoint ended training."""
        progress = self.progress
        order = np.random.default_rng((self._config.seed, progress.epoch)).permutation(self._task.items)
        started = time.perf_counter()
        if progress.step == 0:
            # they have no loss, so checkpoints are not compared by them
            progress.right += self._task.given
            progress.count += self._task.given
            if self._task.given:
                self._advance(self._task.given)
        while progress.step < self._steps:
            batch = order[progress.step * self._items : (progress.step + 1) * self._items]
            due, interrupted = self._step(batch)
            if interrupted:
                self._save(always=True)
                raise InterruptedTrainingError
            if due and self._save():
                self._close_epoch(started)
                return False
        self._close_epoch(started)
        return True

    def _close_epoch(self, started: float) -> None:
        progress = self.progress
        seconds = time.perf_counter() - started
        count = max(progress.count, 1)
        epoch = Epoch(
            number=progress.epoch,
            loss=progress.loss / count,
            accuracy=progress.right / count,
            transfers=progress.count,
            seconds=seconds,
        )
        progress.epochs.append(epoch)
        progress.epoch, progress.step = progress.epoch + 1, 0
        progress.loss, progress.right, progress.count = 0.0, 0, 0
        if self._world.first:
            _log.info(
                "epoch %d/%d: loss %.4f nats, accuracy %.4f, %s transfers/s",
                epoch.number,
                self._config.epochs,
                epoch.loss,
                epoch.accuracy,
                f"{count / max(seconds, 1e-9):,.0f}",
            )

    def _step(self, batch: NDArray[np.int64]) -> tuple[bool, bool]:
        """One step of the optimiser; whether a checkpoint is due, and whether to stop."""
        progress, world = self.progress, self._world
        mine = np.array_split(batch, world.size)[world.rank]
        # pieces depend on the size of the batch alone, and are added up in their order: sums of floats do
        pieces = np.array_split(mine, max(1, -(-len(mine) // self._task.piece)))
        several = len(pieces) > 1
        run = self._workers.map if several else map
        results = list(run(self._piece, range(len(pieces)), pieces))
        flat = results[0][0]
        for gradients, _ in results[1:]:
            flat += gradients
        losses = [loss for _, loss in results]
        sums = [
            sum(float(loss.total) for loss in losses),
            float(sum(loss.right for loss in losses)),
            float(sum(loss.tried for loss in losses)),
            float(world.first and self._due()),
            float(self._interrupted()),
        ]
        both = world.add_up(torch.cat([flat, torch.tensor(sums, dtype=flat.dtype, device=flat.device)]))
        total, right, count, due, interrupted = both[-5:].tolist()
        if world.size == 1:
            total = sums[0]  # as it was before it became a 32-bit number
        if not math.isfinite(total):
            raise ModelError("the loss is no number any more: lower --learning-rate")
        if count:
            self._descend(both[:-5] / count)
        progress.step += 1
        progress.steps += 1
        self._count(total, int(right), int(count))
        self._advance(int(count))
        self._say()
        return due > 0, interrupted > 0

    def _piece(self, index: int, items: NDArray[np.int64]) -> tuple[Tensor, Loss]:
        """Gradients of a piece, all parameters in one tensor, and its loss."""
        progress, world = self.progress, self._world
        seed = np.random.SeedSequence((self._config.seed, progress.steps, world.rank, index))
        generator = torch.Generator(world.device).manual_seed(int(seed.generate_state(1, np.uint64)[0] >> 1))
        loss = self._task.loss(items, generator)
        gradients = torch.autograd.grad(loss.total, self._parameters, allow_unused=True)
        flat = torch.cat(
            [
                (torch.zeros_like(parameter) if gradient is None else gradient).flatten()
                for parameter, gradient in zip(self._parameters, gradients, strict=True)
            ]
        )
        return flat, Loss(loss.total.detach(), loss.right, loss.tried)

    @torch.no_grad()
    def _descend(self, flat: Tensor) -> None:
        if self._task.optimiser == "adam":
            # at most length 1: a rare stretch is not to undo what was learnt
            flat.mul_((1.0 / (flat.norm() + 1e-6)).clamp(max=1.0))
        self._optimiser.step(self._flat, flat, self._rate(), self.progress.steps + 1)

    def _rate(self) -> float:
        """The learning rate of this step."""
        config, step = self._config, self.progress.steps
        rate = config.learning_rate / (1 + config.learning_decay * step)
        if self._task.optimiser == "rmsprop":
            return rate
        # up for a tenth of the way, then down along a cosine
        done = step / (config.epochs * self._steps)
        if done < 0.1:
            return rate * (0.04 + 0.96 * done / 0.1)
        return rate * max(0.5 * (1 + math.cos(math.pi * (done - 0.1) / 0.9)), 1e-4)

    def _count(self, loss: float, right: int, count: int) -> None:
        progress = self.progress
        progress.loss += loss
        progress.right += right
        progress.count += count
        progress.recent_loss += loss
        progress.recent_count += count

    # checkpoints and reports

    def _due(self) -> bool:
        checkpoints = self._checkpoints
        if checkpoints is None or checkpoints.minutes is None:
            return False
        return time.monotonic() - self._marks["checkpoint"] >= 60 * checkpoints.minutes

    def _save(self, always: bool = False) -> bool:
        """Save a checkpoint; True where training is to end."""
        checkpoints, progress = self._checkpoints, self.progress
        self._marks["checkpoint"] = time.monotonic()
        if checkpoints is None:
            return False
        mean = progress.recent_loss / max(progress.recent_count, 1)
        worse = progress.checkpoint_loss is not None and mean > progress.checkpoint_loss
        best = not always and (progress.best_loss is None or mean <= progress.best_loss)
        if not always:
            progress.checkpoint_loss = mean
            progress.recent_loss, progress.recent_count = 0.0, 0
            progress.ended = worse and checkpoints.early_stop
        if best:
            progress.best_loss, progress.best_steps = mean, progress.steps
        if self._world.first:
            # the one that ends training is kept in any case, to be the end after a kill, too
            if always or best or not checkpoints.best or progress.ended:
                checkpoints.save(progress, self._optimiser.state, checkpoints.best and best)
            else:
                _log.info("checkpoint left out: loss %.4f nats, the best had %.4f", mean, progress.best_loss)
            if progress.ended:
                _log.info("loss rose since the last checkpoint, to %.4f nats: training ends", mean)
        return progress.ended

    def _finish(self) -> None:
        """With ``best`` the network becomes that of the last checkpoint, if what came after it is worse."""
        checkpoints, progress = self._checkpoints, self.progress
        if checkpoints is None or not checkpoints.best or progress.best_loss is None:
            return
        if progress.best_steps == progress.steps:
            return
        if progress.recent_count and progress.recent_loss / progress.recent_count <= progress.best_loss:
            return
        self._world.wait()
        _log.info("the last checkpoint had the least loss (%.4f nats): going back to it", progress.best_loss)
        checkpoints.restore()

    def _say(self) -> None:
        if time.monotonic() - self._marks["status"] < 60 * self._status or not self._world.first:
            return
        self._marks["status"] = time.monotonic()
        progress = self.progress
        _log.info(
            "epoch %d/%d, step %d/%d: loss %.4f nats, accuracy %.4f",
            progress.epoch,
            self._config.epochs,
            progress.step,
            self._steps,
            progress.loss / max(progress.count, 1),
            progress.right / max(progress.count, 1),
        )


def _flattened(parameters: list[nn.Parameter]) -> Tensor:
    """All parameters in one tensor, which they become views of: an optimiser's step is a few operations."""
    flat = torch.cat([parameter.detach().flatten() for parameter in parameters])
    at = 0
    for parameter in parameters:
        parameter.data = flat[at : at + parameter.numel()].view_as(parameter)
        at += parameter.numel()
    return flat


class Adam:
    """Adam (Kingma and Ba, 2015) with its usual constants, by torch's function: its class takes seconds to be
    imported."""

    def __init__(self, parameters: Tensor) -> None:
        self.state = {"mean": torch.zeros_like(parameters), "square": torch.zeros_like(parameters)}

    def step(self, parameters: Tensor, gradient: Tensor, rate: float, number: int) -> None:
        """The step of that number, from 1, in place."""
        adam(
            [parameters],
            [gradient],
            [self.state["mean"]],
            [self.state["square"]],
            max_exp_avg_sqs=[],
            state_steps=[torch.tensor(number - 1.0)],  # it counts on
            foreach=False,
            fused=False,
            amsgrad=False,
            beta1=0.9,
            beta2=0.999,
            lr=rate,
            weight_decay=0.0,
            eps=1e-8,
            maximize=False,
        )


class RmsProp:
    """RMSprop as Keras 2 has it: rho 0.9, epsilon 1e-7 outside of the root."""

    def __init__(self, parameters: Tensor) -> None:
        self.state = {"square": torch.zeros_like(parameters)}

    def step(self, parameters: Tensor, gradient: Tensor, rate: float, number: int) -> None:
        """The step of that number, from 1, in place."""
        square = self.state["square"]
        square.mul_(0.9).addcmul_(gradient, gradient, value=0.1)
        parameters.addcdiv_(gradient, square.sqrt().add_(1e-7), value=-rate)
