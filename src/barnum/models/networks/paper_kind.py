"""The paper's network among the kinds, and networks of Keras, which score alike."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from barnum.errors import ModelError
from barnum.extras import require
from barnum.models.arrays import Arrays
from barnum.models.model import Model
from barnum.models.networks.kind import Defaults, RunScorer, Saved, TrainedKind, Training, Weights
from barnum.models.networks.paper_windows import PaperConfig, WindowTokens, known_blocks, shapes
from barnum.paths import Learn, iter_windows
from barnum.sequences import Picker

if TYPE_CHECKING:
    from barnum.models.networks.paper_task import PaperTask
    from barnum.models.networks.spec import Spec


class PaperKind(TrainedKind):
    """See models/networks/paper.py. It is computed by torch."""

    name = "paper"
    defaults = Defaults(epochs=16, learning_rate=0.001, vocabulary="modulo")
    counts_blocks = True
    idle = ("compile",)

    def restore(self, saved: Saved) -> Weights:
        learnt = saved.document.tokens.vocabulary == "learnt"
        saved.check_extra({"blocks.block": np.uint64, "blocks.count": np.int64} if learnt else {})
        if learnt:
            block, count = saved.extra["blocks.block"], saved.extra["blocks.count"]
            if not len(block) or len(block) != len(count) or not bool((block[1:] > block[:-1]).all()):
                raise ModelError(f"{saved.file}: blocks.block is no ascending list of blocks")
        config: PaperConfig = saved.config(PaperConfig)
        weights = saved.weights(config, shapes(config))
        tokens = WindowTokens(saved.document.tokens, saved.vocabulary, saved.extra)
        if (config.inputs, config.classes) != (tokens.inputs, tokens.classes):
            raise saved.other_sizes()
        return weights

    def scorer(self, model: Model, threads: int, learn: Learn) -> RunScorer:
        require("torch", "scoring with the paper's network")
        from barnum.models.networks.paper_scorer import WindowScorer

        return WindowScorer(model, threads, learn)

    def task(self, spec: Spec, training: Training) -> tuple[PaperTask, Arrays]:
        from barnum.models.networks.paper_task import WindowData

        vocabulary = training.vocabulary
        extra: Arrays = {}
        count = seen = None
        if spec.tokens.vocabulary == "learnt":
            extra = known_blocks(training.blocks)
            count = extra["blocks.count"]
            seen = np.bincount(vocabulary.edge_target, vocabulary.edge_count).astype(np.int64)
        names = WindowTokens(spec.tokens, vocabulary, extra)
        data = WindowData(names, spec.sequence_len)
        with training.bar("select", len(training.runs)) as advance:
            for opened, total in training.runs:
                with opened() as path:
                    data.add(iter_windows(path, spec.learn, spec.sequence_len), Picker(spec.selection, total))
                advance(1)
        config = PaperConfig(
            inputs=names.inputs,
            classes=names.classes,
            sequence_len=spec.sequence_len,
            units=spec.units,
            embedding=spec.embedding,
            dropout=spec.dropout,
            cudnn=spec.cudnn,
        )
        task = data.task(config, count, seen)
        task.mixed_precision = spec.train.mixed_precision
        return task, extra


PAPER = PaperKind()
