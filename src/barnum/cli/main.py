"""Entry point. Commands are imported when they are asked for, so that ``barnum --help`` is instant."""

from __future__ import annotations

import errno
import importlib
import logging
import os
import sys
from pathlib import Path

import click

from barnum import __version__
from barnum.errors import BarnumError, InputError, OptionsError, OutputError
from barnum.texts import printable, shortened

# name → one line of help; the command itself is ``command`` in ``barnum.cli.<name>``.
_COMMANDS = {
    "trace": "Record runs of a program on documents as Intel PT.",
    "list": "List the samples of a folder, and what is there of each.",
    "decode": "Print what a recorded run executed.",
    "preprocess": "Turn recorded runs into paths of basic blocks.",
    "fit": "Learn a detector from harmless runs.",
    "merge": "Make one detector of several.",
    "check": "Record a program on documents, and judge what it did.",
    "lstm": "Learn nominal control flow and evaluate runs against it.",
    "prob": "The same by rote: tables of what followed what.",
    "syscall": "The same with calls, from reports of sandboxes.",
    "classifier": "Turn evaluations into verdicts.",
    "pack": "Put a model and a classifier into one folder.",
    "score": "Judge recorded runs, or reports, by a detector.",
    "report": "One page that shows what was anomalous, and where.",
    "cluster": "Group anomalous runs that went the same way.",
    "stats": "Count how many targets sequences of blocks lead to.",
    "bloom": "Count what each further trace brings that is new.",
    "eval2png": "Draw an evaluation, a pixel a prediction.",
    "export": "Write a recorded run for other tools.",
}


class _LazyGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module = importlib.import_module(f"barnum.cli.{cmd_name}")
        command = module.command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands, in the order of the data"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="barnum")
def cli() -> None:
    """Find attacks by the way a program runs.

    Record harmless runs, learn what normal control flow looks like, and let documents be judged:

    \b
      barnum trace --benign --sandbox DOCUMENTS... -- PROGRAM ARGUMENTS... {}
      barnum fit traces -o detector
      barnum check detector SUSPICIOUS...

    To look closer, by a model that predicts each transfer:

    \b
      barnum preprocess -p traces extract
      barnum lstm -p --eval-dir eval traces
      barnum classifier eval
      barnum report eval -o report.html --traces traces

    Exit codes: 0 ran, 1 internal error, 2 usage, 3 something is anomalous (with --fail-on-anomaly),
    10 and up an input error, 130 interrupted. The list is in docs/formats.md.
    """


def main() -> None:
    """Run the command line and exit with its code."""
    context: click.Context | None = None
    try:
        if sys.stdout is None:  # it was closed before the program began
            sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115
        # not cli.main(): that takes a closed pipe for an error
        with cli.make_context("barnum", sys.argv[1:]) as context:
            code = cli.invoke(context)
        # flush here, so that a closed pipe is noticed while it can still be handled
        sys.stdout.flush()
    except click.exceptions.Exit as ended:
        code = ended.exit_code
    except click.exceptions.Abort:
        _fail("interrupted", 130)
    except KeyboardInterrupt:
        _fail("interrupted", 130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except OptionsError as error:
        _as_usage_error(error, context).show()
        sys.exit(error.exit_code)
    except BarnumError as error:
        logging.getLogger("barnum").debug("traceback", exc_info=True)
        _fail(str(error), error.exit_code)
    except BrokenPipeError:
        # the reader of our output went away (`| head`): not an error, but nothing more can be said
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except OSError as error:
        logging.getLogger("barnum").debug("traceback", exc_info=True)
        _fail(*_explained(error))
    except MemoryError as error:
        logging.getLogger("barnum").debug("traceback", exc_info=True)
        _fail(_what_did_not_fit(error), InputError.exit_code)
    except RuntimeError as error:
        if "allocate memory" not in str(error) and type(error).__name__ != "OutOfMemoryError":
            raise
        # torch has no class of errors for the one, and its own for the other
        logging.getLogger("barnum").debug("traceback", exc_info=True)
        _fail(_what_did_not_fit(error), InputError.exit_code)
    sys.exit(code if isinstance(code, int) else 0)


def _as_usage_error(error: OptionsError, context: click.Context | None) -> click.UsageError:
    """What the command line would have raised, had it found what the library did."""
    if context is not None and context.invoked_subcommand is not None:
        name = context.invoked_subcommand
        command = cli.get_command(context, name)
        if command is not None:
            context = click.Context(command, context, info_name=name)
    return click.UsageError(printable(str(error)), context)


def _explained(error: OSError) -> tuple[str, int]:
    """What to say of an error of the system's that no command foresaw, and the exit code."""
    why = (error.strerror or str(error)).lower()
    file = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else ""
    where = f"{file}: " if file else ""
    if _was_writing(error.errno, file):
        return f"{where}cannot be written ({why}): nothing that was finished is lost", OutputError.exit_code
    return f"{where}cannot be read ({why})" if file else why, InputError.exit_code


def _what_did_not_fit(error: Exception) -> str:
    why = shortened(str(error)) or "give it more, or less to do at once"
    return f"not enough memory: {why}"


def _was_writing(code: int | None, file: str) -> bool:
    if code in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG):
        return True
    if code not in (errno.EACCES, errno.EPERM) or not file:
        return False
    # what may be read was refused for writing; what is not there was to be made
    if os.path.lexists(file):
        return os.access(file, os.R_OK)
    return os.access(os.path.dirname(file) or ".", os.X_OK)  # noqa: PTH120


def _fail(message: str, code: int) -> None:
    # a name of a file is not to draw on the terminal, nor to look like a line of ours
    click.echo(f"barnum: {printable(message)}", err=True)
    sys.exit(code)


if __name__ == "__main__":
    main()
