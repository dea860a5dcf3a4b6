"""``barnum classifier``: verdicts from evaluation files."""

from __future__ import annotations

import csv
import io
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from barnum.cli.common import progress, set_up_logging
from barnum.errors import EvaluationError, OutputExistsError
from barnum.files import write_whole

if TYPE_CHECKING:
    from barnum.verdicts.features import Run
    from barnum.verdicts.methods import Verdict

_FILE = click.Path(dir_okay=False, path_type=Path)
_ANOMALOUS = 3


@click.command("classifier")
@click.option(
    "--method",
    type=click.Choice(["conformal", "svm"]),
    default="conformal",
    show_default=True,
    help="conformal learns from nominal runs alone, by novelty; svm, the original's, from both labels, by "
    "what any evaluation holds, gz too.",
)
@click.option("-s", "--save", "save_to", type=_FILE, help="Write the classifier (JSON).")
@click.option(
    "-l",
    "--load",
    "load_from",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Judge by a classifier that was saved.",
)
@click.option(
    "-c", "--csv", "csv_file", type=_FILE, help="Write a row a sample, with the original's columns."
)
@click.option("--json", "json_file", type=_FILE, help="Write verdicts, features and error rates.")
@click.option("--fail-on-anomaly", is_flag=True, help="Exit with 3 when something is anomalous.")
@click.option(
    "--logging",
    "logging_level",
    type=click.IntRange(0, 50),
    default=20,
    show_default=True,
    help="Lowest level that is logged: 10 debug, 20 info, 30 warning, 40 error.",
)
@click.argument("eval_dir", type=click.Path(file_okay=False, path_type=Path))
@click.pass_context
def command(
    context: click.Context,
    /,
    method: str,
    save_to: Path | None,
    load_from: Path | None,
    csv_file: Path | None,
    json_file: Path | None,
    fail_on_anomaly: bool,
    logging_level: int,
    eval_dir: Path,
) -> int:
    """Turn the evaluation files in EVAL_DIR into verdicts.

    Prints a table (document, true label, score, verdict) and the error rates. No run is judged by a
    threshold that it helped to set: each is left out in turn. With --load the saved classifier judges all of
    them.
    """
    set_up_logging(logging_level)
    from barnum.verdicts import methods
    from barnum.verdicts.evaluation import find_evaluations
    from barnum.verdicts.features import read_run

    if load_from and (save_to or _given(context, "method")):
        raise click.UsageError("--load says which classifier to use: leave out --save and --method")
    if save_to and save_to.exists():
        raise OutputExistsError(f"{save_to}: is there already: give another name")
    files = find_evaluations(eval_dir)
    runs: list[Run] = []
    with progress("read evaluations", len(files)) as bar:
        for file in files:
            runs.append(read_run(file))
            bar.advance()
    _check_model(eval_dir, runs)
    if load_from:
        classifier, model = methods.load(load_from)
        if model != runs[0].model:
            raise EvaluationError(
                f"{load_from}: was learnt from evaluations of another model than those in {eval_dir}"
                + ("" if model and runs[0].model else " (those in gz name none)")
            )
        verdicts = [classifier.judge(run) for run in runs]
    else:
        chosen = methods.by_name(method)
        classifier = chosen.fit(runs)
        verdicts = chosen.held_out(runs)
    if save_to:
        methods.save(save_to, classifier, runs[0].model)
    description = classifier.describe()
    rates = _error_rates(runs, verdicts)
    if csv_file:
        write_whole(csv_file, _as_csv(runs, verdicts))
    if json_file:
        write_whole(json_file, _as_json(description, runs, verdicts, rates))
    _print(description, runs, verdicts, rates)
    return _ANOMALOUS if fail_on_anomaly and any(verdict.anomalous for verdict in verdicts) else 0


def _given(context: click.Context, name: str) -> bool:
    return context.get_parameter_source(name) == click.core.ParameterSource.COMMANDLINE


def _check_model(eval_dir: Path, runs: list[Run]) -> None:
    for run in runs:
        if (not run.model) != (not runs[0].model):
            unnamed, named = (run, runs[0]) if runs[0].model else (runs[0], run)
            raise EvaluationError(
                f"{eval_dir}: {unnamed.label}-{unnamed.sample} does not say which model scored it (gz), "
                f"{named.label}-{named.sample} does (Parquet): keep them in different folders"
            )
        if run.model != runs[0].model or run.calibration != runs[0].calibration:
            raise EvaluationError(
                f"{eval_dir}: {run.label}-{run.sample} was scored by another model than {runs[0].label}-"
                f"{runs[0].sample}: keep evaluations of different models in different folders"
            )


def _error_rates(runs: list[Run], verdicts: list[Verdict]) -> dict[str, dict[str, Any]]:
    """Per label that is present: how many runs there are, how many verdicts are wrong, and the share."""
    rates = {}
    for key, label in (("false_positives", False), ("false_negatives", True)):
        judged = [v.anomalous for run, v in zip(runs, verdicts, strict=True) if run.malicious == label]
        if judged:
            wrong = sum(anomalous != label for anomalous in judged)
            rates[key] = {"wrong": wrong, "runs": len(judged), "rate": wrong / len(judged)}
    return rates


def _as_csv(runs: list[Run], verdicts: list[Verdict]) -> bytes:
    """The original's columns; ``avg_accuracy`` holds the share that was wrong, as it did there."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["true_label", "pred_label", "avg_accuracy", "avg_confidence", "name"])
    for run, verdict in zip(runs, verdicts, strict=True):
        name = f"{run.label}-{run.sample}"
        writer.writerow([int(run.malicious), int(verdict.anomalous), run.wrong, run.wrong_confidence, name])
    return text.getvalue().encode()


def _as_json(
    description: str, runs: list[Run], verdicts: list[Verdict], rates: dict[str, dict[str, Any]]
) -> bytes:
    import msgspec

    from barnum import __version__

    rows = []
    for run, verdict in zip(runs, verdicts, strict=True):
        features = msgspec.to_builtins(run)
        del features["calibration"], features["model"]
        rows.append({**features, **msgspec.to_builtins(verdict)})
    document = {
        "schema": 1,
        "version": __version__,
        "classifier": description,
        "model": runs[0].model,
        "runs": rows,
        "error_rates": rates,
    }
    return msgspec.json.format(msgspec.json.encode(document)) + b"\n"


def _print(
    description: str, runs: list[Run], verdicts: list[Verdict], rates: dict[str, dict[str, Any]]
) -> None:
    click.echo(f"classifier: {description}\n")
    names = [_printable(run.name) for run in runs]
    width = min(64, max(len("document"), *map(len, names)))
    click.echo(f"{'document':<{width}}  {'true label':<10}  {'score':>9}  {'p':>6}  verdict")
    order = sorted(range(len(runs)), key=lambda i: (runs[i].malicious, -verdicts[i].score, names[i]))
    for i in order:
        p = verdicts[i].p_value
        verdict = "anomalous" if verdicts[i].anomalous else "nominal"
        click.echo(
            f"{names[i]:<{width}}  {runs[i].label:<10}  {verdicts[i].score:>9.2f}  "
            f"{'' if p is None else f'{p:.3f}':>6}  {verdict}"
        )
    click.echo()
    for key, name in (
        ("false_positives", "benign called anomalous"),
        ("false_negatives", "malicious called nominal"),
    ):
        if key in rates:
            of = rates[key]
            click.echo(
                f"{key.replace('_', ' ')}: {of['wrong']} of {of['runs']} ({100 * of['rate']:.1f} %), {name}"
            )
    sys.stdout.flush()


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)
