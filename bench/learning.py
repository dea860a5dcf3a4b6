"""Compares learners: the causal network, the paper's, the rote learner, an n-gram with back-off, and the
network with the rote learner beside it.

All learn the same transfers, predict the same targets, and are judged by the same transfers held out; paper,
which is slow, learns and is judged by fewer of them where its row says so. State restarts where a stretch of
a trace begins, for all alike.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path as FilePath
from typing import Literal

import torch
from corpora import AbsentError, Corpus, acrobat, again, cut, demo, middle, record_demo
from ngram import Run, all_ngrams

from barnum.errors import BarnumError
from barnum.learning.mixture import learn_mixture
from barnum.learning.network.hooks import Hooks
from barnum.learning.network.learner import Learner, total_of
from barnum.learning.network.world import World
from barnum.learning.rote.learner import RoteLearner, RoteSpec
from barnum.models.evaluate import Evaluator
from barnum.models.model import Model
from barnum.models.networks.rote import lengths_up_to
from barnum.models.networks.spec import Spec
from barnum.models.scoring import mean_of
from barnum.models.train_config import TrainConfig
from barnum.paths import Learn, Path, transfers
from barnum.sequences import Selection, Tokens

THREADS = len(os.sched_getaffinity(0))
# how the command line trains where nothing is said; paper's 16 epochs are too long for a benchmark
CAUSAL_EPOCHS, CAUSAL_RATE, PAPER_RATE = 2, 0.003, 0.001
# an n-gram has all orders or, where that is better, these
FEW_ORDERS = (0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
# the least that causal is to do, transfers/s
TRAIN_LEAST, SCORE_LEAST = 150_000, 400_000
# and the rote learner, with contexts of up to so many transfers, as the command has it, and longer ones
ROTE_LEAST, ROTE_LENGTHS = 3_000_000, (32, 512)
# seconds that the rote learner repeats itself for at least; the best round counts
ROTE_SECONDS = 3.0

Targets = Literal["modulo", "learnt"]
TARGETS: dict[Targets, str] = {
    "modulo": "BBIDs mod 1024",
    "learnt": "whole blocks, those that training never saw as one",
}


@dataclass(frozen=True, slots=True)
class PaperLimits:
    """How many transfers of a trace paper learns and how often, and by how many it is judged, of nominal
    traces and of malicious ones. None: all."""

    epochs: int
    learnt: int | None
    held_out: int | None
    contrast: int | None


@dataclass(frozen=True, slots=True)
class Settings:
    """Where networks compute, and the ``highest`` order of n-grams. Scoring by causal is timed on at least so
    many ``transfers``, and the best of so many ``rounds`` counts; learning is repeated as often where that
    takes no longer than so many ``seconds``."""

    device: torch.device
    highest: int
    transfers: int = 1_000_000
    rounds: int = 3
    seconds: float = 20


@dataclass(frozen=True, slots=True)
class Row:
    """``accuracy`` and mean ``surprisal`` in nats: held out, and of malicious runs. ``train`` (from paths in
    memory to a model), ``epochs`` (these alone; an n-gram has none) and ``score`` are transfers/s."""

    learner: str
    accuracy: tuple[float, float]
    surprisal: tuple[float, float]
    train: float
    epochs: float | None
    score: float
    parameters: int
    note: str


def bench_acrobat(data: FilePath, limits: PaperLimits, settings: Settings) -> dict[str, float]:
    """Both sets of targets, on the traces of Acrobat Reader."""
    try:
        corpus = acrobat(data)
    except (AbsentError, BarnumError) as error:
        print(f"skipped: learning from Acrobat Reader: {error}")
        return {}
    figures: dict[str, float] = {}
    for targets in TARGETS:
        figures |= _compare(corpus, targets, limits, settings)
    return figures


def bench_demo(
    recorded: FilePath | None,
    folder: FilePath,
    most: int,
    samples: int | None,
    limits: PaperLimits,
    settings: Settings,
) -> dict[str, float]:
    """Whole blocks, on the demo's recordings: those in ``recorded``, or else made in ``folder``."""
    try:
        if recorded is None:
            record_demo(folder)
        corpus = demo(recorded or folder, most, samples)
    except (AbsentError, BarnumError) as error:
        print(f"skipped: learning from the demo's documents: {error}")
        return {}
    return _compare(corpus, "learnt", limits, settings)


def _compare(corpus: Corpus, targets: Targets, limits: PaperLimits, settings: Settings) -> dict[str, float]:
    traces = [path for _, path in corpus.train]
    tokens = Tokens(vocabulary=targets)
    train, held_out, contrast = (
        Run.of(paths, tokens) for paths in (traces, corpus.held_out, corpus.contrast)
    )
    print(
        f"\n{corpus.name}: targets are {TARGETS[targets]}\n"
        f"transfers to learn {len(train):,} (traces: {len(traces)}), held out {len(held_out):,} "
        f"({len(corpus.held_out)}), malicious {len(contrast):,} ({len(corpus.contrast)})"
    )
    print(_HEADING)
    rows = []
    for made in (
        lambda: _causal(corpus, tokens, settings),
        lambda: _paper(corpus, tokens, limits, settings.device),
        lambda: _ngram(train, held_out, contrast, settings.highest),
        *(partial(_rote, corpus, tokens, longest, settings) for longest in ROTE_LENGTHS),
        *(partial(_mixed, corpus, tokens, longest, settings) for longest in ROTE_LENGTHS),
    ):
        rows.append(row := made())
        print(_line(row), flush=True)
    _conclude(*rows[:4])
    for rote, both in zip(rows[3:5], rows[5:7], strict=True):
        _conclude_mixed(rows[0], rote, both)
    return {f"{corpus.name}_{targets}_{name}": value for row in rows for name, value in _figures(row).items()}


def _causal(corpus: Corpus, tokens: Tokens, settings: Settings) -> Row:
    train = TrainConfig(epochs=CAUSAL_EPOCHS, learning_rate=CAUSAL_RATE)
    spec = Spec(network="causal", learn=Learn(), tokens=tokens, selection=Selection(), train=train)
    learnt = [_learn(spec, corpus, settings.device)]
    while len(learnt) < settings.rounds and sum(one.seconds for one in learnt) < settings.seconds:
        learnt.append(_learn(spec, corpus, settings.device))
    best = min(learnt, key=lambda one: one.seconds)
    evaluator = Evaluator(best.model, THREADS)
    judged = [_judge(evaluator, paths) for paths in (corpus.held_out, corpus.contrast)]
    # a few traces, each over and over, so that none is too short for several threads
    some = [*corpus.held_out[:2], *corpus.contrast[:2]]
    times = -(-settings.transfers // sum(_judge(evaluator, [path]).transfers for path in some))
    longer = [again(path, times) for path in some]
    score = max(_judge(evaluator, longer).speed for _ in range(settings.rounds))
    return _row("causal", best, judged, score)


def _rote(corpus: Corpus, tokens: Tokens, longest: int, settings: Settings) -> Row:
    spec = RoteSpec(learn=Learn(), tokens=tokens, lengths=lengths_up_to(longest))
    seconds = counting = float("inf")
    started, rounds = time.perf_counter(), 0
    # a short corpus takes hundredths of a second, of which one round says little
    while rounds < settings.rounds or time.perf_counter() - started < ROTE_SECONDS:
        rounds += 1
        learner = RoteLearner(spec, THREADS)
        began = time.perf_counter()
        for name, path in corpus.train:
            learner.learn(name, lambda path=path: nullcontext(path))  # type: ignore[misc]
        counting = min(counting, time.perf_counter() - began)
        model = learner.model()
        seconds = min(seconds, time.perf_counter() - began)
    evaluator = Evaluator(model, THREADS)
    judged = [_judge(evaluator, paths) for paths in (corpus.held_out, corpus.contrast)]
    some = [*corpus.held_out[:2], *corpus.contrast[:2]]
    times = -(-settings.transfers // sum(_judge(evaluator, [path]).transfers for path in some))
    longer = [again(path, times) for path in some]
    return Row(
        learner="rote" if longest == ROTE_LENGTHS[0] else f"rote-{longest}",
        accuracy=(judged[0].accuracy, judged[1].accuracy),
        surprisal=(judged[0].surprisal, judged[1].surprisal),
        train=learner.transfers / seconds,
        epochs=learner.transfers / counting,
        score=max(_judge(evaluator, longer).speed for _ in range(settings.rounds)),
        parameters=learner.contexts,
        note=f"contexts up to {longest}; {learner.bytes / learner.transfers:.1f} bytes a transfer learnt",
    )


def _mixed(corpus: Corpus, tokens: Tokens, longest: int, settings: Settings) -> Row:
    """A network and a rote learner beside it, of the same traces but for some that only weigh them."""
    fewer, weighed = _split(corpus)
    spec = RoteSpec(learn=Learn(), tokens=tokens, lengths=lengths_up_to(longest))
    network = Spec(
        network="causal",
        learn=Learn(),
        tokens=tokens,
        selection=Selection(),
        train=TrainConfig(epochs=CAUSAL_EPOCHS, learning_rate=CAUSAL_RATE),
    )
    began = time.perf_counter()
    learner = RoteLearner(spec, THREADS)
    for name, path in fewer.train:
        learner.learn(name, lambda path=path: nullcontext(path))  # type: ignore[misc]
    prob = learner.model()
    learnt = _learn(network, fewer, settings.device)
    opened = [(name, lambda path=path: nullcontext(path)) for name, path in weighed]
    model, weighing = learn_mixture(learnt.model, prob, opened, THREADS, lambda _: None)  # type: ignore[arg-type]
    seconds = time.perf_counter() - began
    evaluator = Evaluator(model, THREADS)
    judged = [_judge(evaluator, paths) for paths in (corpus.held_out, corpus.contrast)]
    some = [*corpus.held_out[:2], *corpus.contrast[:2]]
    times = -(-settings.transfers // sum(_judge(evaluator, [path]).transfers for path in some))
    longer = [again(path, times) for path in some]
    total = learner.transfers + learnt.transfers + 2 * weighing.transfers
    return Row(
        learner="mixed" if longest == ROTE_LENGTHS[0] else f"mix-{longest}",
        accuracy=(judged[0].accuracy, judged[1].accuracy),
        surprisal=(judged[0].surprisal, judged[1].surprisal),
        train=total / seconds,
        epochs=None,
        score=max(_judge(evaluator, longer).speed for _ in range(settings.rounds)),
        parameters=learner.contexts + _parameters(model),
        note=f"causal and rote, contexts up to {longest}; {weighing.transfers:,} transfers to weigh them",
    )


def _split(corpus: Corpus) -> tuple[Corpus, list[tuple[str, Path]]]:
    """What both learn, and what weighs them: of several traces one in 16, of a single one the last part."""
    if len(corpus.train) > 1:
        count = max(1, min(8, len(corpus.train) // 16))
        return replace(corpus, train=corpus.train[:-count]), corpus.train[-count:]
    name, path = corpus.train[0]
    total = len(transfers(path, Learn()))
    middle = total * 15 // 16
    return replace(corpus, train=[(name, cut(path, [(0, middle)]))]), [
        (f"{name}, the rest", cut(path, [(middle, total)]))
    ]


def _paper(corpus: Corpus, tokens: Tokens, limits: PaperLimits, device: torch.device) -> Row:
    train = TrainConfig(epochs=limits.epochs, learning_rate=PAPER_RATE)
    selection = Selection(max_transfers=limits.learnt)
    spec = Spec(network="paper", learn=Learn(), tokens=tokens, selection=selection, train=train)
    learnt = _learn(spec, corpus, device)
    evaluator = Evaluator(learnt.model, THREADS)
    judged = [
        _judge(evaluator, [middle(path, most) for path in paths])
        for paths, most in ((corpus.held_out, limits.held_out), (corpus.contrast, limits.contrast))
    ]
    score = sum(one.transfers for one in judged) / sum(one.seconds for one in judged)
    by = f", judged by {judged[0].transfers:,} held out, {judged[1].transfers:,} malicious"
    return _row("paper", learnt, judged, score, by)


def _ngram(train: Run, held_out: Run, contrast: Run, highest: int) -> Row:
    """The best n-grams, chosen by what is held out: none does better there than this row says."""
    every = range(highest + 1)
    few = [order for order in FEW_ORDERS if order <= highest]
    made = [ngram for orders in (every, few) for ngram in all_ngrams(train, held_out, contrast, orders)]
    right = max(made, key=lambda ngram: ngram.accuracy[0])
    sure = min(made, key=lambda ngram: ngram.surprisal[0])
    slower = max(right, sure, key=lambda ngram: ngram.counting)
    used = [f"{len(ngram.orders)} orders up to {ngram.orders[-1]}" for ngram in (right, sure)]
    return Row(
        learner="n-gram",
        accuracy=right.accuracy,
        surprisal=sure.surprisal,
        train=len(train) / slower.counting,
        epochs=None,
        score=(len(held_out) + len(contrast)) / slower.scoring,
        parameters=slower.counts,
        note=f"the best held out: {used[0]} (accuracy), {used[1]} (nats); one thread",
    )


@dataclass(frozen=True, slots=True)
class _Judged:
    transfers: int
    accuracy: float
    surprisal: float
    seconds: float

    @property
    def speed(self) -> float:
        return self.transfers / self.seconds


@dataclass(frozen=True, slots=True)
class _Learnt:
    """A model, and the times that it took: in all, and the epochs alone. ``transfers`` are those of all
    epochs."""

    model: Model
    transfers: int
    seconds: float
    epoch_seconds: float
    note: str


def _learn(spec: Spec, corpus: Corpus, device: torch.device) -> _Learnt:
    samples = [(name, lambda path=path: nullcontext(path)) for name, path in corpus.train]
    began = time.perf_counter()
    learner = Learner(spec, World(device))
    learner.read(samples, THREADS, len(samples), lambda _: None)
    model, epochs = learner.fit(THREADS, Hooks(lambda _name, _total: nullcontext(lambda _: None)))
    seconds = time.perf_counter() - began
    kept, total = total_of(learner.coverage)
    share = "" if kept == total else f"only {kept:,} transfers, "
    note = f"{share}{len(epochs)} epoch{'s' * (len(epochs) > 1)}"
    return _Learnt(model, kept * len(epochs), seconds, sum(epoch.seconds for epoch in epochs), note)


def _judge(evaluator: Evaluator, paths: Sequence[Path]) -> _Judged:
    began = time.perf_counter()
    parts = [mean_of(columns) for path in paths for columns in evaluator.columns(path)]
    seconds = time.perf_counter() - began
    count, nats, right = (sum(numbers) for numbers in zip(*parts, strict=True))
    return _Judged(int(count), right / count, nats / count, seconds)


def _row(learner: str, learnt: _Learnt, judged: list[_Judged], score: float, note: str = "") -> Row:
    held_out, contrast = judged
    return Row(
        learner=learner,
        accuracy=(held_out.accuracy, contrast.accuracy),
        surprisal=(held_out.surprisal, contrast.surprisal),
        train=learnt.transfers / learnt.seconds,
        epochs=learnt.transfers / learnt.epoch_seconds,
        score=score,
        parameters=_parameters(learnt.model),
        note=learnt.note + note,
    )


def _parameters(model: Model) -> int:
    """Numbers of the network."""
    return sum(array.size for array in model.network.arrays().values())


_HEADING = (
    f"{'':8}{'held out':>20}{'malicious':>20}{'transfers/s':>30}\n"
    f"{'':8}{'accuracy':>10}{'nats':>10}{'accuracy':>10}{'nats':>10}"
    f"{'learnt':>10}{'(epochs)':>10}{'scored':>10}{'parameters':>12}"
)


def _line(row: Row) -> str:
    epochs = "-" if row.epochs is None else f"{row.epochs:,.0f}"
    return (
        f"{row.learner:8}{row.accuracy[0]:10.4f}{row.surprisal[0]:10.4f}{row.accuracy[1]:10.4f}"
        f"{row.surprisal[1]:10.4f}{row.train:10,.0f}{epochs:>10}{row.score:10,.0f}{row.parameters:12,}"
        f"  {row.note}"
    )


def _conclude(causal: Row, paper: Row, ngram: Row, rote: Row) -> None:
    print(
        f"causal to paper: learns {causal.train / paper.train:,.0f}x, scores "
        f"{causal.score / paper.score:,.0f}x as fast"
    )
    for what, speed, least in (("learns", causal.train, TRAIN_LEAST), ("scores", causal.score, SCORE_LEAST)):
        short = "" if speed >= least else ": TOO SLOW"
        print(f"causal {what} {speed:,.0f} transfers/s (at least {least:,}){short}")
    for what, speed in (("learns", rote.train), ("scores", rote.score)):
        short = "" if speed >= ROTE_LEAST else ": TOO SLOW"
        print(f"rote {what} {speed:,.0f} transfers/s (at least {ROTE_LEAST:,}){short}")
    for other in (paper, ngram, rote):
        for what, mine, its, better in (
            ("accuracy", causal.accuracy[0], other.accuracy[0], causal.accuracy[0] > other.accuracy[0]),
            ("surprisal", causal.surprisal[0], other.surprisal[0], causal.surprisal[0] < other.surprisal[0]),
        ):
            verdict = "better" if better else "NOT better"
            print(f"causal is {verdict} than {other.learner} in {what} held out: {mine:.5f} to {its:.5f}")


def _conclude_mixed(causal: Row, rote: Row, both: Row) -> None:
    for what, mine, alone, better in (
        ("accuracy", both.accuracy[0], max(causal.accuracy[0], rote.accuracy[0]), 1),
        ("surprisal", both.surprisal[0], min(causal.surprisal[0], rote.surprisal[0]), -1),
    ):
        verdict = "better" if better * mine > better * alone else "NOT better"
        print(
            f"{both.learner} is {verdict} than causal and {rote.learner} alone in {what} held out: "
            f"{mine:.5f} to {alone:.5f}"
        )


def _figures(row: Row) -> dict[str, float]:
    name = row.learner.replace("-", "")
    figures: dict[str, float] = {
        f"{name}_accuracy": row.accuracy[0],
        f"{name}_surprisal": row.surprisal[0],
        f"{name}_malicious_accuracy": row.accuracy[1],
        f"{name}_malicious_surprisal": row.surprisal[1],
        f"{name}_learnt_s": row.train,
        f"{name}_scored_s": row.score,
        f"{name}_parameters": row.parameters,
    }
    if row.epochs is not None:
        figures[f"{name}_epochs_learnt_s"] = row.epochs
    return figures
