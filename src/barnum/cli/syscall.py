"""``barnum syscall``: learn which calls a program makes, from reports of sandboxes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from barnum.cli.common import ended_like_an_interrupt, set_up_logging, usage_errors
from barnum.cli.lstm import (
    options_of_choice,
    options_of_network,
    options_of_results,
    options_of_system,
    options_of_training,
    start_all,
)
from barnum.cli.sessions import TerminalListener, asked_to_stop, settings_of


@click.command("syscall")
@click.option(
    "--process",
    metavar="NAME",
    help="Whose calls: a program's file name, a part of its path, or pid:NUMBER.  [default: the process that "
    "runs the submitted file or was given it]",
)
@click.option(
    "--children",
    is_flag=True,
    help="Take the processes that these started, too, and what those started; each for itself.",
)
@click.option("--by-thread", is_flag=True, help="Take each thread for itself.")
@click.option(
    "--no-overlap",
    is_flag=True,
    help="Predict one call a window of --sequence-len calls, as the original did, instead of every call.",
)
@click.option(
    "--folds",
    type=click.IntRange(2, 1000),
    metavar="N",
    help="Learn N times more, each time without another of N parts of the samples, which is judged: so these "
    "calibrate `classifier --score surprisal` and adjusted, too. For --network rote.",
)
@options_of_choice
@options_of_network(
    ("rote", "causal", "paper"),
    "rote",
    "learnt: every call is itself. modulo: a hash of its name modulo two numbers.  [default: learnt]",
    "Calls in the longest context of rote, and in a window of paper or of --no-overlap.",
    classes=400,
)
@options_of_training
@options_of_results
@options_of_system
@click.argument("root", metavar="DIRECTORY", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.pass_context
def command(context: click.Context, /, **options: Any) -> None:
    """Learn which calls a program makes, and evaluate runs against it.

    DIRECTORY holds sample folders, each with info.txt (file name and label) and a report: report.json of
    Cuckoo 2 or CAPE, syscall.log or apimon.log of DRAKVUF, or calls.txt (one name a line) or calls.csv; plain
    or gzip. The vocabulary is learnt from the training reports; a call that they do not show is news.

    Phases, files and options are those of `barnum lstm`; classifier, report and the others read the
    evaluations. --network rote counts what followed what (see `barnum prob`); the others are networks.
    """
    set_up_logging(options["logging_level"])
    from barnum.learning.settings import CallSettings

    settings, given = settings_of(CallSettings, context, options)
    with usage_errors():
        settings.check()
    start_all(context, settings)
    from barnum.learning.session_calls import CallSession

    with ended_like_an_interrupt(), usage_errors():
        CallSession(settings, given, TerminalListener(), asked_to_stop).run()
