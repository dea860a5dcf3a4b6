"""``barnum prob``: learn nominal control flow by rote, test, evaluate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from barnum.cli.common import (
    SECONDS,
    SIZE,
    Real,
    ended_like_an_interrupt,
    logging_option,
    set_up_logging,
    usage_errors,
)
from barnum.cli.sessions import TerminalListener, settings_of

_FILE = click.Path(dir_okay=False, path_type=Path)
_THERE = click.Path(exists=True, dir_okay=False, path_type=Path)
_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
_POSITIVE = click.IntRange(1, (1 << 31) - 1)


@click.command("prob")
@click.option("-p", "--preprocessed", is_flag=True, help="Use parsed traces (of `barnum preprocess`).")
@click.option("--timeout", type=SECONDS, help="Most seconds that a raw trace is decoded for.")
@click.option("--learn-ret", is_flag=True, help="Learn returns.")
@click.option("--learn-icall", is_flag=True, help="Learn indirect calls.")
@click.option("--learn-ijmp", is_flag=True, help="Learn indirect jumps.")
@click.option("--learn-call", is_flag=True, help="Learn direct calls.")
@click.option("--learn-jmp", is_flag=True, help="Learn direct jumps.")
@click.option("--train-size", type=_POSITIVE, default=8, show_default=True, help="Benign samples learnt.")
@click.option(
    "--test-size", type=click.IntRange(0, 1 << 30), default=2, show_default=True, help="Samples held out …"
)
@click.option(
    "-r",
    "--ratio",
    type=Real(0, 1),
    default=0.5,
    show_default=True,
    help="… and the share of them that is benign.",
)
@click.option("-o", "--output-sets", type=_FILE, help="Write which samples were chosen.")
@click.option(
    "-i",
    "--input-sets",
    type=_THERE,
    help="Use the samples of this file instead of choosing; [u_test] names those of unknown label.",
)
@click.option(
    "-s",
    "--sequence-len",
    type=click.IntRange(1, 1024),
    default=32,
    show_default=True,
    help="Transfers in the longest context.",
)
@click.option(
    "--vocabulary",
    type=click.Choice(["learnt", "modulo"]),
    default="learnt",
    show_default=True,
    help="learnt: every block is itself. modulo: BBIDs modulo --max-classes, as in the original.",
)
@click.option(
    "--max-classes",
    type=click.IntRange(1, 1 << 26),
    default=256,
    show_default=True,
    help="Blocks modulo this number.",
)
@click.option(
    "--rule",
    type=click.Choice(["likeliest", "draw"]),
    default="likeliest",
    show_default=True,
    help="What is predicted: the likeliest target, or one drawn in proportion to counts, as in the original.",
)
@click.option(
    "--max-memory",
    type=SIZE,
    metavar="SIZE",
    help="Most memory of the counts, such as 4G; the longest contexts are forgotten first.  "
    "[default: no bound]",
)
@click.option("--save", type=_FILE, help="Write the model: one file.")
@click.option(
    "--load",
    type=_THERE,
    help="Begin with this model, which says what is learnt (--learn-… and the like), and learn more "
    "unless --skip-train.",
)
@click.option("--merge", type=_THERE, multiple=True, help="Add what this model has learnt; several times.")
@click.option("--redis", metavar="URL", help="Take over the counts of a Redis server, and add to them.")
@click.option("--hostname", help="The same, by the server's name …")
@click.option("--port", type=click.IntRange(1, 65535), help="… port  [default: 6379] …")
@click.option("--db", type=click.IntRange(min=0), help="… and database.  [default: 0]")
@click.option("--skip-train", is_flag=True, help="Learn nothing: use --load or --redis as they are.")
@click.option("--skip-test", is_flag=True, help="Do not report loss and accuracy on held-out samples.")
@click.option("--skip-eval", is_flag=True, help="Write no evaluation files.")
@click.option(
    "--eval-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for evaluation files.  [default: a temporary one]",
)
@click.option(
    "--eval-format",
    type=click.Choice(["parquet", "gz"]),
    default="parquet",
    show_default=True,
    help="gz: the original's lines.",
)
@click.option("-f", "--force", is_flag=True, help="Overwrite files that are there.")
@click.option(
    "--seed", type=click.IntRange(0, (1 << 63) - 1), default=0, show_default=True, help="Choice of samples."
)
@click.option("-t", "--threads", type=click.IntRange(1, 1024), help="[default: number of cores]")
@logging_option
@click.argument("root", metavar="PT_DIRECTORY", type=_FOLDER)
@click.argument("bin_directory", required=False, type=_FOLDER)
@click.pass_context
def command(context: click.Context, /, **options: Any) -> None:
    """Learn nominal control flow by rote, and evaluate runs against it.

    PT_DIRECTORY holds sample folders; BIN_DIRECTORY the images to decode raw traces with, where -p is not
    given. The kinds of transfers to learn are named by --learn-ret and so on, one at least.

    The model is a table of what followed each sequence of up to 32 transfers. It learns and scores millions
    of transfers a second without an accelerator, can be added to and merged, and its evaluation files are
    those of `barnum lstm`: classifier, report and the others read them.
    """
    set_up_logging(options["logging_level"])
    if not options["preprocessed"] and options["bin_directory"] is None:
        raise click.UsageError("give -p to use parsed traces, or BIN_DIRECTORY to decode raw ones")
    by_parts = [name for name in ("hostname", "port", "db") if options[name] is not None]
    if options["redis"] and by_parts:
        raise click.UsageError(f"--redis names the server already: leave out --{by_parts[0]}")
    if by_parts:
        host = options["hostname"] or "localhost"
        if ":" in host and not host.startswith("["):
            host = f"[{host}]"  # an IPv6 address
        options["redis"] = f"redis://{host}:{options['port'] or 6379}/{options['db'] or 0}"
    from barnum.learning.session_rote import RoteSession
    from barnum.learning.settings import RoteSettings

    settings, given = settings_of(RoteSettings, context, options)
    with ended_like_an_interrupt(), usage_errors():
        RoteSession(settings, given, TerminalListener()).run()
