"""A kind of network of one's own, registered by a name, is learnt, saved, read and judged by like others."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import msgspec
import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import nn

import barnum
from barnum.errors import ModelError, OptionsError
from barnum.models import scoring
from barnum.models.networks.kind import Defaults, TrainedKind
from barnum.models.networks.kinds import NETWORKS
from barnum.models.networks.predictions import Scores
from barnum.models.networks.task import Loss
from barnum.paths import iter_transfers
from barnum.sequences import Encoder, regroup
from learning import barnum as run
from learning import write_tree


class SharesConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A number for each target."""

    targets: Annotated[int, msgspec.Meta(ge=1, le=1 << 20)]


class Shares(nn.Module):
    """Predicts each target as often as training met it, wherever control comes from."""

    def __init__(self, config):
        super().__init__()
        self.config = config
        self.logit = nn.Parameter(torch.zeros(config.targets))


class SharesTask:
    per_item, piece, given, optimiser = 1, 1024, 0, "adam"

    def __init__(self, network, targets):
        self.network, self._targets = network, targets
        self.items = self.transfers = len(targets)

    def to(self, device):
        self.network.to(device)

    def loss(self, items, generator):
        target = torch.from_numpy(self._targets[items])
        logits = self.network.logit.expand(len(items), -1)
        total = nn.functional.cross_entropy(logits, target, reduction="sum")
        return Loss(total, int((logits.argmax(dim=1) == target).sum()), len(items))


class SharesScorer:
    def __init__(self, model, learn):
        self._model, self._learn = model, learn
        logit = model.network.arrays()["logit"].astype(np.float64)
        self._log_p = logit - np.log(np.exp(logit).sum())

    def columns(self, path) -> Iterator[dict]:
        model = self._model
        novelty, encoder = scoring.NoveltyScorer(model), Encoder(model.vocabulary)
        best = int(self._log_p.argmax())
        for part in regroup(iter_transfers(path, self._learn), scoring.PART):
            target = encoder.encode(part).target
            known = target < len(self._log_p)
            log_p = np.where(known, self._log_p[np.minimum(target, len(self._log_p) - 1)], -20.0)
            scores = Scores(
                predicted=np.full(len(target), model.vocabulary.target[best]),
                confidence=np.full(len(target), np.exp(self._log_p[best]), np.float32),
                correct=target == best,
                surprisal=(-log_p).astype(np.float32),
            )
            actual = model.tokens.targets(part.blocks)[part.target]
            yield {**scores.columns(actual), **novelty.columns(part), "position": part.position}


class SharesKind(TrainedKind):
    name = "shares"
    defaults = Defaults(epochs=4, learning_rate=0.1, vocabulary="learnt")

    def restore(self, saved):
        saved.check_extra({})
        config = saved.config(SharesConfig)
        if config.targets != len(saved.vocabulary.target):
            raise saved.other_sizes()
        return saved.weights(config, {"logit": (config.targets,)})

    def scorer(self, model, threads, learn):
        return SharesScorer(model, learn)

    def task(self, spec, training):
        encoder = Encoder(training.names, spec.tokens)
        targets = []
        for opened, total in training.runs:
            with opened() as path:
                for part in spec.selection.select(iter_transfers(path, spec.learn), total):
                    targets.append(encoder.encode(part).target.astype(np.int64))
        network = Shares(SharesConfig(targets=len(training.names.target)))
        return SharesTask(network, np.concatenate(targets)), {}


@pytest.fixture
def shares():
    NETWORKS.add("shares", SharesKind())
    yield
    NETWORKS.remove("shares")


def test_a_network_of_ones_own_is_learnt_saved_and_judged_by(shares, tmp_path):
    tree = write_tree(tmp_path / "traces")
    sizes = ("--train-size", 16, "--test-size-benign", 6, "--test-size-malicious", 3)
    files = ("--save-model", tmp_path / "m.json", "--save-weights", tmp_path / "m.safetensors")
    ended = run("lstm", "-p", "--network", "shares", *sizes, *files, "--eval-dir", tmp_path / "eval", tree)
    assert ended.code == 0, ended.err
    model = barnum.open_model(tmp_path / "m.json", tmp_path / "m.safetensors")
    assert model.document.network == "shares" and "shares" in repr(model)
    # targets are predicted as often as they occurred
    share = np.exp(model.network.arrays()["logit"].astype(np.float64))
    seen = np.bincount(model.vocabulary.edge_target, model.vocabulary.edge_count)
    np.testing.assert_allclose(share / share.sum(), seen / seen.sum(), atol=0.02)
    # read again it says the same, and the classifier and a detector take it like any other
    [again] = barnum.evaluate(model, [barnum.find_samples(tree)[0]], tmp_path / "again")
    assert pa.table(again).num_rows > 1000
    judgement = barnum.classify(tmp_path / "eval")
    detector = barnum.pack(tmp_path / "detector", model, judgement)
    verdicts = {s.label: barnum.judge(detector, s).verdict for s in barnum.find_samples(tree)}
    assert verdicts["malicious"] == "anomalous"


def test_without_it_its_files_are_refused(shares, tmp_path):
    tree = write_tree(tmp_path / "traces", 6, 1)
    settings = {"train_size": 4, "test_size_benign": 1, "test_size_malicious": 1, "skip_eval": True}
    files = {"save_model": tmp_path / "m.json", "save_weights": tmp_path / "m.safetensors"}
    barnum.learn(tree, network="shares", **settings, **files)
    NETWORKS.remove("shares")
    try:
        with pytest.raises(ModelError, match="network 'shares' is unknown here: use causal or paper or rote"):
            barnum.open_model(*files.values())
        with pytest.raises(OptionsError, match="shares"):
            barnum.learn(tree, network="shares", **settings)
        assert "'shares'" in run("lstm", "-p", "--network", "shares", tree).usage
    finally:
        NETWORKS.add("shares", SharesKind())


def test_a_name_is_given_once(shares):
    with pytest.raises(ValueError, match="a network is called 'shares' already"):
        NETWORKS.add("shares", SharesKind())
