"""What learning sessions can be told. Names and defaults are those of the commands' options."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec

from barnum.errors import OptionsError
from barnum.paths import Learn

Format = Literal["parquet", "gz"]
VocabularyKind = Literal["learnt", "modulo"]


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What all sessions can be told: which samples of the folder ``root`` are learnt and held out, and what
    becomes of the results.

    ``threads`` None: as many as there are cores. ``eval_dir`` None: a temporary folder. ``force``: replace
    files that are there.
    """

    root: Path
    train_size: int = 8
    input_sets: Path | None = None
    output_sets: Path | None = None
    seed: int = 0
    threads: int | None = None
    skip_test: bool = False
    skip_eval: bool = False
    eval_dir: Path | None = None
    eval_format: Format = "parquet"
    force: bool = False


class NetworkSettings(Settings, frozen=True, kw_only=True):
    """What ``barnum lstm`` can be told; see its help. None: what suits the network."""

    network: str = "causal"
    preprocessed: bool = False
    bin_dir: Path | None = None
    timeout: float | None = None
    test_size_benign: int = 2
    test_size_malicious: int = 2
    # what is learnt
    disable_ret: bool = False
    disable_icall: bool = False
    disable_ijmp: bool = False
    learn_call: bool = False
    learn_jmp: bool = False
    max_transfers: int | None = None
    fold_loops: int | None = None
    # the network
    vocabulary: VocabularyKind | None = None
    sequence_len: int = 32
    max_classes: int = 1024
    embedding_input_dimension: int = 1024
    units: int = 128
    embedding_output_dimension: int = 128
    dropout: float = 0.5
    use_cudnn: bool = False
    # training
    epochs: int | None = None
    batch_size: int = 8192
    learning_rate: float | None = None
    learning_decay: float = 0.0
    mixed_precision: bool = False
    compile: bool = False
    checkpoint: float | None = None
    checkpoint_best: bool = False
    checkpoint_early_stop: bool = False
    resume: bool = False
    multi_gpu: int | None = None
    queue_size: int = 32
    status_interval: float = 60.0
    # models
    save_model: Path | None = None
    save_weights: Path | None = None
    use_model: Path | None = None
    use_weights: Path | None = None
    with_prob: Path | None = None

    def learn(self) -> Learn:
        """Which transfers count.

        Raises:
            OptionsError: none does.
        """
        learn = Learn(
            ret=not self.disable_ret,
            icall=not self.disable_icall,
            ijmp=not self.disable_ijmp,
            call=self.learn_call,
            jmp=self.learn_jmp,
        )
        if not learn.kinds():
            raise OptionsError("nothing is left to learn: disable fewer kinds of transfers")
        return learn

    def check(self) -> None:
        """Settings that do not go together are refused.

        Raises:
            OptionsError: some do not.
        """
        if (self.use_model is None) != (self.use_weights is None):
            raise OptionsError("--use-model and --use-weights go together")
        if self.use_model and (self.resume or self.multi_gpu):
            raise OptionsError("--use-model skips training: leave out --resume and --multi-gpu")
        needing = [name for name in ("checkpoint", "resume") if getattr(self, name)]
        if needing and self.save_weights is None:
            raise OptionsError(f"--{needing[0]} needs --save-weights: checkpoints are kept beside that file")
        for name in ("checkpoint_best", "checkpoint_early_stop"):
            if getattr(self, name) and self.checkpoint is None:
                raise OptionsError(f"--{name.replace('_', '-')} needs --checkpoint")


class CallSettings(NetworkSettings, frozen=True, kw_only=True):
    """What ``barnum syscall`` can be told: the same, of calls in reports of sandboxes."""

    network: str = "rote"
    process: str | None = None
    children: bool = False
    by_thread: bool = False
    no_overlap: bool = False
    folds: int | None = None
    max_classes: int = 400
    embedding_input_dimension: int = 400

    def check(self) -> None:
        """See NetworkSettings."""
        super().check()
        if self.network == "rote":
            for name in ("resume", "multi_gpu", "checkpoint"):
                if getattr(self, name):
                    raise OptionsError(f"--{name.replace('_', '-')} is for networks: --network rote has none")


class RoteSettings(Settings, frozen=True, kw_only=True):
    """What ``barnum prob`` can be told; see its help."""

    preprocessed: bool = False
    bin_directory: Path | None = None
    timeout: float | None = None
    learn_ret: bool = False
    learn_icall: bool = False
    learn_ijmp: bool = False
    learn_call: bool = False
    learn_jmp: bool = False
    test_size: int = 2
    ratio: float = 0.5
    sequence_len: int = 32
    vocabulary: VocabularyKind = "learnt"
    max_classes: int = 256
    rule: Literal["likeliest", "draw"] = "likeliest"
    max_memory: int | None = None
    save: Path | None = None
    load: Path | None = None
    merge: tuple[Path, ...] = ()
    redis: str | None = None
    skip_train: bool = False

    def learn(self) -> Learn:
        """Which transfers count."""
        return Learn(
            ret=self.learn_ret,
            icall=self.learn_icall,
            ijmp=self.learn_ijmp,
            call=self.learn_call,
            jmp=self.learn_jmp,
        )

    def check(self) -> None:
        """Settings that do not go together are refused.

        Raises:
            OptionsError: some do not.
        """
        kinds = ("ret", "icall", "ijmp", "call", "jmp")
        # a model knows what it has learnt
        if not self.load and not self.learn().kinds():
            raise OptionsError(
                f"nothing is to be learnt: give one or more of --learn-{', --learn-'.join(kinds)}"
            )
        if self.redis and self.max_memory:
            raise OptionsError("--redis needs all counts: leave out --max-memory")
        if self.redis and (self.load or self.merge):
            raise OptionsError("--redis keeps the counts: leave out --load and --merge")
        if self.skip_train and not (self.load or self.redis):
            raise OptionsError("--skip-train needs a model: give --load or --redis")
        if self.merge and not self.load:
            raise OptionsError("--merge adds to a model: name it with --load")
