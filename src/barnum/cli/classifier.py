"""``barnum classifier``: verdicts from evaluation files."""

from __future__ import annotations

import csv
import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from barnum.cli.common import CutCommand, Named, Real, check_judging, cut_option, progress, set_up_logging
from barnum.errors import OutputExistsError, SomeFailedError
from barnum.evaluations.header import LABELS
from barnum.texts import shortened, storable
from barnum.verdicts.methods import METHODS
from barnum.verdicts.scores import SCORES

if TYPE_CHECKING:
    from barnum.evaluations import Cut
    from barnum.verdicts.features import Run
    from barnum.verdicts.judgement import Judgement
    from barnum.verdicts.method import Verdict
    from barnum.verdicts.statistics import Rate

_FILE = click.Path(dir_okay=False, path_type=Path)
_ANOMALOUS = 3
# what a run is cut at, and why others are not
_CUT_WORDS: dict[str, tuple[str, str]] = {
    "spawn": ("another process was started", "the others started none or do not say"),
    "effect": ("the first effect that no nominal run had", "the others had none or do not say"),
}


@click.command("classifier", cls=CutCommand)
@click.option(
    "--method",
    type=Named(METHODS),
    help="conformal learns from nominal runs alone, by novelty, and keeps to a false alarm rate; logistic "
    "learns many features from both labels; svm, the original's, two of them. Default: conformal where "
    "evaluations hold novelty, else logistic where both labels are there.",
)
@click.option(
    "--false-alarm-rate",
    type=Real(0, 1, min_open=True, max_open=True),
    help="Share of nominal runs that conformal may call anomalous. Default: 0.01, or the least that the "
    "number of nominal runs allows.",
)
@click.option(
    "--score",
    type=Named(SCORES),
    help="What conformal goes by: novelty, what training never saw; mean surprisal, which tells more of "
    "calls than of control flow; that, adjusted for the run's length and number of distinct targets; or "
    "novelty and adjusted surprisal combined. All but novelty are calibrated by held-out benign runs alone, "
    "unless calls were learnt with --folds; to adjust takes 30 such runs, better hundreds.  "
    "[default: novelty]",
)
@click.option(
    "-f",
    "--force",
    is_flag=True,
    help="Force a threshold without false positives: above every benign run of EVAL_DIR.",
)
@cut_option
@click.option(
    "--max-lost",
    type=Real(0, 1),
    default=0.05,
    show_default=True,
    help="Refuse a verdict where more than this share of a trace was lost, unless what came before the first "
    "loss is anomalous by novelty.",
)
@click.option("-s", "--save", "save_to", type=_FILE, help="Write the classifier (JSON).")
@click.option(
    "-l",
    "--load",
    "load_from",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Judge by a classifier that was saved; also the original's, a linear SVC saved by joblib.",
)
@click.option(
    "-c", "--csv", "csv_file", type=_FILE, help="Write a row a sample, with the original's columns."
)
@click.option("-p", "--plot", "plot_file", type=_FILE, help="Draw the runs and the threshold (PNG).")
@click.option("-r", "--roc", "roc_file", type=_FILE, help="Write the ROC curve (CSV: fp,tp).")
@click.option("--json", "json_file", type=_FILE, help="Write verdicts, features and error rates.")
@click.option(
    "-w",
    "--workers",
    type=click.IntRange(1, 1024),
    help="Files that are read at a time. Default: as many as there are cores.",
)
@click.option(
    "-i", "--ignore-cache", is_flag=True, help="Sum every file up anew, whatever the user's cache holds."
)
@click.option(
    "--fail-on-anomaly",
    is_flag=True,
    help="Exit with 3 when something is anomalous, else with 22 when a verdict was refused.",
)
@click.option(
    "--logging",
    "logging_level",
    type=click.IntRange(0, 50),
    default=20,
    show_default=True,
    help="Lowest level that is logged: 10 debug, 20 info, 30 warning, 40 error.",
)
@click.argument("eval_dir", type=click.Path(file_okay=False, path_type=Path))
def command(
    method: str | None,
    false_alarm_rate: float | None,
    score: str | None,
    force: bool,
    cut: Cut | None,
    max_lost: float,
    save_to: Path | None,
    load_from: Path | None,
    csv_file: Path | None,
    plot_file: Path | None,
    roc_file: Path | None,
    json_file: Path | None,
    workers: int | None,
    ignore_cache: bool,
    fail_on_anomaly: bool,
    logging_level: int,
    eval_dir: Path,
) -> int:
    """Turn the evaluation files in EVAL_DIR into verdicts.

    Prints a table (document, true label, score, verdict) and the error rates with their 95 % intervals. No
    run is judged by a threshold that it helped to set: each is left out in turn. With --load the saved
    classifier judges all of them; with --force one threshold does, which the benign runs have set. Runs whose
    label is unknown are judged, too, but nothing is learnt from them and no rate counts them.

    A run that breaks off or lost too much is refused, unless it is anomalous by how it begins and its score,
    a sum of novelty, can only grow from there: its line says so.
    """
    set_up_logging(logging_level)
    from barnum.evaluations.folder import find_evaluations
    from barnum.files import check_places, write_result
    from barnum.verdicts import methods
    from barnum.verdicts.cache import RunCache
    from barnum.verdicts.judgement import judge

    if load_from and (save_to or method):
        raise click.UsageError("--load says which classifier to use: leave out --save and --method")
    check_judging(method, load_from is not None, false_alarm_rate, score)
    if save_to and save_to.exists():
        raise OutputExistsError(f"{save_to}: is there already: give another name")
    places = {
        "--save": save_to,
        "--csv": csv_file,
        "--plot": plot_file,
        "--roc": roc_file,
        "--json": json_file,
    }
    check_places(places, force=True, evaluations=eval_dir)
    files = find_evaluations(eval_dir)
    with progress("read evaluations", len(files)) as bar:
        judgement = judge(
            eval_dir,
            method=method,
            rate=false_alarm_rate,
            score=score,
            load=load_from,
            force=force,
            cut=cut or False,
            max_lost=max_lost,
            workers=workers or len(os.sched_getaffinity(0)),
            cache=None if ignore_cache else RunCache(),
            advance=bar.advance,
        )
    runs, verdicts = judgement.runs, judgement.verdicts
    if save_to:
        methods.save(save_to, judgement.classifier, runs[0].model, cut is not None)
    if csv_file:
        write_result(csv_file, _as_csv(runs, verdicts))
    if json_file:
        write_result(json_file, _as_json(judgement))
    if plot_file:
        from barnum.pictures.verdicts import draw_verdicts

        write_result(plot_file, draw_verdicts(judgement))
    _print(judgement, cut)
    if roc_file:
        write_result(roc_file, _as_roc(judgement))
    return _exit_code(judgement) if fail_on_anomaly else 0


def _exit_code(judgement: Judgement) -> int:
    if any(verdict.anomalous for verdict in judgement.verdicts):
        return _ANOMALOUS
    if refused := judgement.summary.refused:
        count = len(judgement.runs)
        raise SomeFailedError(f"{refused} of {count} runs could not be judged; their lines say why")
    return 0


def _as_csv(runs: Sequence[Run], verdicts: Sequence[Verdict]) -> bytes:
    """The original's columns; ``avg_accuracy`` holds the share that was wrong, as it did there. A run that
    was refused has no predicted label, and one whose label is unknown no true one."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["true_label", "pred_label", "avg_accuracy", "avg_confidence", "name"])
    for run, verdict in zip(runs, verdicts, strict=True):
        name = f"{run.label}-{run.sample}"
        predicted = "" if verdict.refused else int(verdict.anomalous)
        true = int(run.malicious) if run.benign or run.malicious else ""
        writer.writerow([true, predicted, run.wrong, run.wrong_confidence, name])
    return text.getvalue().encode(errors="replace")


def _as_roc(judgement: Judgement) -> bytes:
    from barnum.errors import EvaluationError
    from barnum.verdicts.statistics import roc_of

    scores: dict[str, list[float]] = {"benign": [], "malicious": [], "unknown": []}
    for run, verdict in zip(judgement.runs, judgement.verdicts, strict=True):
        if not (verdict.refused or verdict.incomplete):
            scores[run.label].append(verdict.score)
    if not scores["benign"] or not scores["malicious"]:
        raise EvaluationError("--roc: a ROC curve takes runs of both labels, here are none of one")
    rows = [f"{false!r},{true!r}\n" for false, true in roc_of(scores["benign"], scores["malicious"])]
    return ("fp,tp\n" + "".join(rows)).encode()


def _as_json(judgement: Judgement) -> bytes:
    import msgspec

    from barnum import __version__

    rows = []
    for run, verdict in zip(judgement.runs, judgement.verdicts, strict=True):
        features: dict[str, Any] = msgspec.to_builtins(run)
        del features["calibration"], features["model"]
        for name in ("name", "sample"):  # names of files may be no UTF-8
            features[name] = storable(features[name])
        rows.append({**features, **msgspec.to_builtins(verdict), "verdict": verdict.word})
    document = {
        "schema": 2,
        "version": __version__,
        "method": judgement.method,
        "classifier": judgement.description,
        "model": judgement.model,
        "threshold": judgement.classifier.threshold,
        "runs": rows,
        "summary": msgspec.to_builtins(judgement.summary),
        "exchangeability": msgspec.to_builtins(judgement.exchangeability),
    }
    return msgspec.json.format(msgspec.json.encode(document)) + b"\n"


def _print(judgement: Judgement, cut: Cut | None) -> None:
    runs, verdicts, summary = judgement.runs, judgement.verdicts, judgement.summary
    click.echo(f"classifier: {judgement.description}")
    if cut:
        count = sum(run.cut for run in runs)
        before, others = _CUT_WORDS[cut]
        click.echo(
            f"judged by what came before {before}: {count} of {len(runs)} runs were cut there, {others}"
        )
    names = [shortened(run.name or run.sample, 64) for run in runs]
    width = max(len("document"), *map(len, names))
    click.echo(f"\n{'document':<{width}}  {'true label':<10}  {'score':>9}  {'p':>6}  verdict")
    digits = judgement.classifier.digits
    place = {label: number for number, label in enumerate(LABELS)}
    order = sorted(range(len(runs)), key=lambda i: (place[runs[i].label], -verdicts[i].score, names[i]))
    for i in order:
        p = verdicts[i].p_value
        why = f": {verdicts[i].refused}" if verdicts[i].refused else ""
        if verdicts[i].because:
            why = " by an effect" if verdicts[i].because == "effect" else f" by {verdicts[i].because}"
        if verdicts[i].incomplete:
            why += f", though incomplete: {verdicts[i].incomplete}"
        click.echo(
            f"{names[i]:<{width}}  {runs[i].label:<10}  {verdicts[i].score:>9.{digits}f}  "
            f"{'' if p is None else f'{p:.3f}':>6}  {verdicts[i].word}{why}"
        )
    click.echo()
    for name, rate, what in (
        ("false positives", summary.false_positives, "benign called anomalous"),
        ("false negatives", summary.false_negatives, "malicious called nominal"),
    ):
        if rate is not None:
            click.echo(f"{name}: {_shown(rate)}, {what}")
    if summary.auc is not None:
        auc = summary.auc
        click.echo(f"AUC: {auc.auc:.3f} (95 %: {auc.low:.3f} to {auc.high:.3f})")
    if incomplete := sum(verdict.incomplete is not None for verdict in verdicts):
        click.echo(
            f"incomplete: {incomplete} of {len(runs)} runs, anomalous by how they begin: the score of the "
            "whole is at least that, its p at most"
        )
    unknown = [
        verdict.anomalous
        for run, verdict in zip(runs, verdicts, strict=True)
        if not (run.benign or run.malicious or verdict.refused)
    ]
    if unknown:
        click.echo(
            f"unknown label: {sum(unknown)} of {len(unknown)} runs called anomalous, which count in no rate"
        )
    if summary.refused:
        click.echo(f"refused: {summary.refused} of {len(runs)} runs, which count in no rate")
    for trivial in summary.trivial:
        parts = [
            f"{rate.wrong} of {rate.runs} {what}"
            for rate, what in (
                (trivial.false_positives, "benign called anomalous"),
                (trivial.false_negatives, "malicious called nominal"),
            )
            if rate is not None
        ]
        click.echo(f"for comparison, by whether the program {trivial.name} alone: {', '.join(parts)}")
    if judgement.exchangeability is not None and judgement.exchangeability.text is not None:
        click.echo(f"note: {judgement.exchangeability.text}")
    sys.stdout.flush()


def _shown(rate: Rate) -> str:
    return (
        f"{rate.wrong} of {rate.runs} ({100 * rate.rate:.1f} %; 95 %: {100 * rate.low:.1f} to "
        f"{100 * rate.high:.1f} %)"
    )
