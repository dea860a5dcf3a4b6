"""Puts a rote learner beside a network that was learnt: weights by runs that neither has learnt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import msgspec

from barnum.errors import ModelError, SetsError
from barnum.learning.rote.learner import RoteLearner, check_goes_on
from barnum.models.model import Model
from barnum.models.networks.causal_kind import causal_scorer
from barnum.models.networks.mixture import Mixture, MixtureScorer, Weighing
from barnum.models.networks.rote import RoteNetwork
from barnum.models.saved import load_whole
from barnum.models.scoring import PART
from barnum.paths import Learn, OpenPath, iter_transfers
from barnum.samples import Sample
from barnum.sequences import Tokens, regroup

# samples that weights are learnt on at most, where the network is still to be learnt
_MOST_WEIGHED = 8


def check_partner(prob: Model, learn: Learn, tokens: Tokens) -> None:
    """A rote learner's model can be mixed with a network that learns such transfers and targets.

    Raises:
        ModelError: it cannot.
    """
    document, rote = prob.document, prob.network
    if document is None or not isinstance(rote, RoteNetwork):
        raise ModelError("is no model of a rote learner: save one with `barnum prob --save`")
    if rote.config.rule != "likeliest":
        raise ModelError("draws its predictions (--rule draw), which cannot be mixed")
    if document.learn != learn:
        raise ModelError("has learnt other kinds of transfers: give both the same options")
    wanted = (tokens.vocabulary, tokens.classes if tokens.vocabulary == "modulo" else None)
    own = document.tokens
    if (own.vocabulary, own.classes if own.vocabulary == "modulo" else None) != wanted:
        raise ModelError("predicts other targets: give both the same --vocabulary and --max-classes")
    if not len(rote.counts.targets):
        raise ModelError("has learnt nothing: learn the model anew")
    check_goes_on(prob)


def load_partner(file: Path, learn: Learn, tokens: Tokens) -> Model:
    """Read a rote learner's model that can be mixed with a network that learns such transfers and targets.

    Raises:
        ModelError: it is none, or cannot be mixed.
    """
    prob = load_whole(file)
    try:
        check_partner(prob, learn, tokens)
    except ModelError as error:
        raise ModelError(f"{file}: {error}") from None
    except MemoryError:
        raise ModelError(f"{file}: does not fit in memory") from None
    return prob


def left_to_weigh(
    train: list[Sample], seen: frozenset[str], partner: str, learnt: bool
) -> tuple[list[Sample], list[Sample]]:
    """What the network learns, and what neither it nor the rote learner does: weights are learnt on that.

    ``seen`` are names of samples that either has learnt; ``learnt`` says that the network is there already,
    and ``partner`` names the rote learner's file in messages.

    Raises:
        SetsError: there are too few samples for both.
    """
    fresh = [sample for sample in train if sample.folder.name not in seen]
    most = len(fresh) if learnt else max(1, min(_MOST_WEIGHED, len(train) // 16))
    weighed = fresh[-most:]
    names = {sample.folder.name for sample in weighed}
    rest = [sample for sample in train if sample.folder.name not in names]
    if not weighed:
        raise SetsError(
            f"{partner}: has learnt all {len(train)} samples to learn, but weights of "
            "a mixture are learnt on others: raise --train-size, or learn it from fewer"
        )
    if not learnt and not rest:
        raise SetsError(
            "one sample to learn is not enough for a network and for the weights of a mixture: raise "
            "--train-size"
        )
    return rest, weighed


def learn_mixture(
    model: Model,
    prob: Model,
    samples: Sequence[tuple[str, OpenPath]],
    threads: int,
    advance: Callable[[int], None],
) -> tuple[Model, Weighing]:
    """The model with the rote learner ``prob`` beside its network. ``samples`` are some that neither has
    learnt: weights are learnt on them, and then the rote learner learns them, too. Its model is used up.

    Raises:
        InputError: a trace cannot be read.
        ModelError: the two cannot be mixed.
        SetsError: the samples hold no transfer that passes the filter.
    """
    document, rote = model.document, prob.network
    if document is None or model.names is None or document.network != "causal":
        raise ModelError("only a causal network can be mixed with a rote learner")
    if model.mixture is not None:
        raise ModelError("the network has a rote learner beside it already")
    check_partner(prob, document.learn, document.tokens)
    assert isinstance(rote, RoteNetwork) and prob.document is not None
    causal = causal_scorer(model)
    weighing = Weighing()
    for _, opened in samples:
        scorer = MixtureScorer(causal, model.names, rote, document.tokens, threads)
        with opened() as path:
            for part in regroup(iter_transfers(path, document.learn), PART):
                weighing.add(scorer.score(part)[0])
        advance(1)
    if not weighing.transfers:
        raise SetsError("the samples to weigh by hold no transfer that passes the filter")
    learner = RoteLearner.of(prob, threads)
    for _ in learner.learn_all(samples):
        advance(1)
    learner.network.config = msgspec.structs.replace(learner.network.config, forgotten=learner.forgotten)
    learner.network.settle()
    mixed = replace(model, mixture=Mixture(learner.network, weighing.weight()))
    document = msgspec.structs.replace(
        document,
        mixture=learner.network.config,
        samples=(*document.samples, *sorted(set(learner.samples) - set(document.samples))),
    )
    return mixed.documented(document), weighing
