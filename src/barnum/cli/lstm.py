"""``barnum lstm``: learn nominal control flow, test, evaluate."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from barnum.cli.common import (
    SECONDS,
    Named,
    Real,
    ended_like_an_interrupt,
    logging_option,
    set_up_logging,
    usage_errors,
)
from barnum.cli.sessions import TerminalListener, asked_to_stop, settings_of
from barnum.models.networks.kinds import NETWORKS

if TYPE_CHECKING:
    from barnum.learning.settings import NetworkSettings

_Function = TypeVar("_Function", bound=Callable[..., Any])

_FILE = click.Path(dir_okay=False, path_type=Path)
_THERE = click.Path(exists=True, dir_okay=False, path_type=Path)
_FOLDER = click.Path(file_okay=False, path_type=Path)
_MINUTES = Real(min=0, min_open=True)
_POSITIVE = click.IntRange(1, (1 << 31) - 1)
# more would take more memory than there is
_CLASSES = click.IntRange(1, 1 << 20)


def _options(*options: Any) -> Callable[[_Function], _Function]:
    """Several options in the order of --help."""

    def decorate(function: _Function) -> _Function:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


_data = _options(
    click.option("-p", "--preprocessed", is_flag=True, help="Use parsed traces (of `barnum preprocess`)."),
    click.option(
        "--bin-dir",
        type=click.Path(exists=True, file_okay=False, path_type=Path),
        help="Images of the modules, to decode raw traces with on the fly; needed without -p.",
    ),
    click.option("--timeout", type=SECONDS, help="Most seconds that a raw trace is decoded for."),
)
options_of_choice = _options(
    click.option("--train-size", type=_POSITIVE, default=8, show_default=True, help="Benign samples learnt."),
    click.option(
        "--test-size-benign",
        type=click.IntRange(min=0),
        default=2,
        show_default=True,
        help="Benign samples held out.",
    ),
    click.option(
        "--test-size-malicious",
        type=click.IntRange(min=0),
        default=2,
        show_default=True,
        help="Malicious samples.",
    ),
    click.option("-o", "--output-sets", type=_FILE, help="Write which samples were chosen."),
    click.option(
        "-i",
        "--input-sets",
        type=_THERE,
        help="Use the samples of this file instead of choosing; [u_test] names those of unknown label.",
    ),
)
_what = _options(
    click.option("--disable-ret", is_flag=True, help="Do not learn returns."),
    click.option("--disable-icall", is_flag=True, help="Do not learn indirect calls."),
    click.option("--disable-ijmp", is_flag=True, help="Do not learn indirect jumps."),
    click.option("--learn-call", is_flag=True, help="Learn direct calls too."),
    click.option("--learn-jmp", is_flag=True, help="Learn direct jumps too."),
    click.option(
        "--max-transfers",
        type=click.IntRange(1, (1 << 62) - 1),
        metavar="N",
        help="Most transfers that the network learns of a trace, in windows spread evenly over it. Which "
        "transfers occur at all is always learnt from the whole, and evaluation scores whole traces.  "
        "[default: all]",
    ),
    click.option(
        "--fold-loops",
        type=click.IntRange(2, 1 << 20),
        metavar="ROUNDS",
        help="Most rounds of a loop (of up to 64 transfers) that the network learns.  [default: all]",
    ),
)
_SIZES = (
    click.option(
        "--units", type=click.IntRange(1, 4096), default=128, show_default=True, help="Size of the layers."
    ),
    click.option(
        "--embedding-output-dimension",
        type=click.IntRange(1, 4096),
        default=128,
        show_default=True,
        help="Size of the embedding of paper.",
    ),
    click.option(
        "--dropout",
        type=Real(0, 1, max_open=True),
        default=0.5,
        show_default=True,
        help="Dropout of paper.",
    ),
    click.option(
        "--use-cudnn", is_flag=True, help="paper: LSTMs as cuDNN computes them, with a full sigmoid."
    ),
)
_ABOUT = {
    "rote": "rote: tables of what followed what (see barnum prob).",
    "causal": "causal: counts of contexts, corrected by what is learnt.",
    "paper": "paper: the original's, three bidirectional LSTMs over windows of blocks.",
}


def options_of_network(
    names: tuple[str, ...], default: str, vocabulary: str, length: str, classes: int = 1024
) -> Callable[[_Function], _Function]:
    """What a model may be, and its sizes; some helps, and the default number of classes."""
    return _options(
        click.option(
            "--network",
            type=Named(NETWORKS, without=() if "rote" in names else ("rote",)),
            default=default,
            show_default=True,
            help=" ".join(_ABOUT[name] for name in names),
        ),
        click.option("--vocabulary", type=click.Choice(["learnt", "modulo"]), help=vocabulary),
        click.option(
            "-s",
            "--sequence-len",
            type=click.IntRange(1, 1024),
            default=32,
            show_default=True,
            help=length,
        ),
        click.option(
            "--max-classes",
            type=_CLASSES,
            default=classes,
            show_default=True,
            help="Targets modulo this number.",
        ),
        click.option(
            "--embedding-input-dimension",
            type=_CLASSES,
            default=classes,
            show_default=True,
            help="Blocks modulo this number.",
        ),
        *_SIZES,
    )


options_of_training = _options(
    click.option("-e", "--epochs", type=_POSITIVE, help="[default: 2; of paper: 16]"),
    click.option(
        "-b",
        "--batch-size",
        type=_POSITIVE,
        default=8192,
        show_default=True,
        help="Most transfers a step of the optimiser, for each process.",
    ),
    click.option(
        "--learning-rate",
        type=Real(min=0, min_open=True),
        help="[default: 0.003; of paper: 0.001]",
    ),
    click.option(
        "--learning-decay",
        type=Real(min=0),
        default=0.0,
        show_default=True,
        help="The rate is divided by 1 + this · step.",
    ),
    click.option(
        "--seed",
        type=click.IntRange(0, (1 << 63) - 1),
        default=0,
        show_default=True,
        help="Choice of samples, training.",
    ),
    click.option(
        "--checkpoint",
        type=_MINUTES,
        metavar="MINUTES",
        help="Keep a checkpoint beside --save-weights so often; fractions will do.",
    ),
    click.option(
        "--mixed-precision",
        is_flag=True,
        help="paper: 16-bit products; faster where the processor has them (with --use-cudnn on GPUs alone).",
    ),
    click.option(
        "--compile", is_flag=True, help="causal: compile it first; pays from some 20 million transfers on."
    ),
    click.option("--checkpoint-best", is_flag=True, help="Keep none with more loss than the best before."),
    click.option("--checkpoint-early-stop", is_flag=True, help="Stop where loss rose since the last one."),
    click.option("--resume", is_flag=True, help="Go on from the last checkpoint, if there is one."),
    click.option(
        "--multi-gpu",
        type=click.IntRange(min=2),
        metavar="N",
        help="Train with so many processes, a GPU each.",
    ),
)
options_of_results = _options(
    click.option("--save-model", type=_FILE, help="Write what the model is (JSON)."),
    click.option("--save-weights", type=_FILE, help="Write its numbers: HDF5 as NAME.h5, else safetensors."),
    click.option("--use-model", type=_THERE, help="Skip training; use this model, also one of Keras 2 …"),
    click.option("--use-weights", type=_THERE, help="… and these weights."),
    click.option("--skip-test", is_flag=True, help="Do not report loss and accuracy on held-out samples."),
    click.option("--skip-eval", is_flag=True, help="Write no evaluation files."),
    click.option("--eval-dir", type=_FOLDER, help="Folder for evaluation files.  [default: a temporary one]"),
    click.option(
        "--eval-format",
        type=click.Choice(["parquet", "gz"]),
        default="parquet",
        show_default=True,
        help="gz: the original's lines.",
    ),
    click.option("-f", "--force", is_flag=True, help="Overwrite files that are there, forget checkpoints."),
)
options_of_system = _options(
    click.option("-t", "--threads", type=_POSITIVE, help="[default: number of cores]"),
    click.option(
        "--queue-size", type=_POSITIVE, default=32, show_default=True, help="Traces that are read ahead."
    ),
    click.option(
        "--status-interval",
        type=_MINUTES,
        default=60.0,
        show_default=True,
        metavar="MINUTES",
        help="Time between two lines on how training goes.",
    ),
    logging_option,
)


@click.command("lstm")
@_data
@options_of_choice
@_what
@options_of_network(
    ("causal", "paper"),
    "causal",
    "learnt: every block is itself. modulo: the original's, BBIDs modulo two numbers.  "
    "[default: learnt; of paper: modulo]",
    "Blocks in a window of paper.",
)
@options_of_training
@options_of_results
@click.option(
    "--with-prob",
    type=_THERE,
    metavar="FILE",
    help="Mix the causal network's predictions with those of a rote learner (`barnum prob --save FILE`). "
    "Weights are learnt on samples to learn that FILE has not learnt: the network leaves one in 16 of all "
    "to that, at least one, at most 8.",
)
@options_of_system
@click.argument(
    "root",
    metavar="PT_DIRECTORY",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
)
@click.pass_context
def command(context: click.Context, /, **options: Any) -> None:
    """Learn nominal control flow and evaluate runs against it.

    PT_DIRECTORY holds sample folders. Benign samples are drawn at random to learn (--train-size) and to hold
    out, malicious ones to evaluate; the same --seed draws the same ones. Then come three phases: training,
    test (loss and accuracy on held-out benign samples), evaluation (a file of predictions for each held-out
    and each malicious sample, which `barnum classifier` reads).

    Several processes under torchrun train one model together; --multi-gpu N starts them on this machine.
    """
    set_up_logging(options["logging_level"])
    if not options["preprocessed"] and options["bin_dir"] is None:
        raise click.UsageError("give -p to use parsed traces, or --bin-dir to decode raw ones")
    from barnum.learning.settings import NetworkSettings

    settings, given = settings_of(NetworkSettings, context, options)
    with usage_errors():
        settings.check()
    start_all(context, settings)
    from barnum.learning.session_network import NetworkSession

    with ended_like_an_interrupt(), usage_errors():
        NetworkSession(settings, given, TerminalListener(), asked_to_stop).run()


def start_all(context: click.Context, settings: NetworkSettings) -> None:
    """With --multi-gpu, start that many processes, unless this is one of them."""
    if settings.multi_gpu:
        from barnum.learning.network.processes import launched, start_processes

        if not launched():
            context.exit(start_processes(settings.multi_gpu))
