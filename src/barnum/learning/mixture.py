"""Puts a rote learner beside a network that was learnt: weights by runs that neither has learnt."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from barnum.errors import ModelError, SetsError
from barnum.learning.network.spec import OpenPath
from barnum.learning.rote.learner import RoteLearner, check_goes_on
from barnum.models.model import Model, identity_of
from barnum.models.networks.causal import Causal
from barnum.models.networks.causal_scorer import CausalScorer
from barnum.models.networks.mixture import Mixture, MixtureScorer, Weighing
from barnum.models.networks.rote import RoteNetwork
from barnum.models.scoring import PART
from barnum.models.threads import default_device, set_up
from barnum.paths import Learn, iter_transfers
from barnum.sequences import Tokens, regroup


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
    document, network, rote = model.document, model.network, prob.network
    if document is None or not isinstance(network, Causal) or model.names is None or model.rates is None:
        raise ModelError("only a causal network can be mixed with a rote learner")
    if model.mixture is not None:
        raise ModelError("the network has a rote learner beside it already")
    check_partner(prob, document.learn, document.tokens)
    assert isinstance(rote, RoteNetwork) and prob.document is not None
    set_up(0)
    network.to(default_device())
    causal = CausalScorer(network, model.names, model.rates, model.extra["memory.edge"])
    weighing = Weighing()
    for _, opened in samples:
        scorer = MixtureScorer(causal, model.names, rote, document.tokens, threads)
        with opened() as path:
            for part in regroup(iter_transfers(path, document.learn), PART):
                weighing.add(scorer.score(part)[0])
        advance(1)
    network.cpu()
    if not weighing.transfers:
        raise SetsError("the samples to weigh by hold no transfer that passes the filter")
    learner = RoteLearner.of(prob, threads)
    for _ in learner.learn_all(samples):
        advance(1)
    learner.network.config = msgspec.structs.replace(learner.network.config, forgotten=learner.forgotten)
    learner.network.settle()
    made = Model(
        network,
        model.tokens,
        "",
        None,
        model.vocabulary,
        model.names,
        model.rates,
        model.extra,
        Mixture(learner.network, weighing.weight()),
    )
    made.identity = identity_of(made.arrays())
    made.document = msgspec.structs.replace(
        document,
        mixture=learner.network.config,
        samples=(*document.samples, *sorted(set(learner.samples) - set(document.samples))),
        identity=made.identity,
    )
    return made, weighing
