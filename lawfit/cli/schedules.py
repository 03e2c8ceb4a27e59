"""`lawfit schedules`: the loss that other learning-rate schedules would end at; a schedule refined by a past run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from lawfit.ask import RefineQuestion, ScheduleQuestion
from lawfit.cli.gathered import Options, gathers
from lawfit.cli.main import ExitCode
from lawfit.cli.options import JsonOption
from lawfit.cli.output import heading, note, pairs, plain, print_json, progress, show, table, warning_list
from lawfit.errors import LawfitError
from lawfit.units import format_lr, format_percent
from lawfit.words import told

if TYPE_CHECKING:
    from rich.console import RenderableType

LAWS = {"multi_power": "Multi-Power Law (arXiv 2503.12811)", "annealing": "annealing law (arXiv 2408.11029)"}
_REJECTIONS_SHOWN = 5
_STEPS_SHOWN = 12


class TellsByDefault(TyperGroup):
    """`lawfit schedules CURVES` is `lawfit schedules tell CURVES`: a first word that is no command is a file."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        help_wanted = not args or args[0] in ("--help", "-h")
        return super().parse_args(ctx, args if help_wanted or args[0] in self.commands else ["tell", *args])


app = typer.Typer(
    cls=TellsByDefault,
    help="What a learning-rate schedule is worth, from loss curves (`lawfit schedules CURVES`); one refined by a run.",
    no_args_is_help=True,
)


@dataclass(frozen=True, kw_only=True)
class Told(Options):
    """Which curves tell, and of what run."""

    runs: Annotated[
        str,
        typer.Option(
            metavar="PATTERN",
            help="The curves that belong together (one model, batch and data), such as '100M/*'.",
        ),
    ] = "*"
    schedule: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SHAPE",
            help="A schedule to tell: constant, cosine:floor=0.1, linear, wsd:cooldown=0.2,fall=1-sqrt, uba:phi=1, "
            "rex, wsd_s:ends=0.5/1,cooldown=0.1,floor=0.1, power:capped=0.1,cooldown=0.1, table:file=refined.csv; a "
            "number that is 'best' (uba:phi=best) is fitted. Repeatable. [default: the usual ones]",
            show_default=False,
        ),
    ] = None
    lr: Annotated[
        float | None, typer.Option(min=1e-12, help="Peak. [default: the curves' own]", show_default=False)
    ] = None
    steps: Annotated[
        int | None,
        typer.Option(min=2, help="Length of the run. [default: the longest curve's]", show_default=False),
    ] = None
    warmup_steps: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Length of the warmup where the log begins after it; else it is read off the learning rates.",
            show_default=False,
        ),
    ] = None

    def question(self) -> ScheduleQuestion:
        return ScheduleQuestion(
            runs=self.runs,
            schedules=tuple(self.schedule or ()),
            lr=self.lr,
            steps=self.steps,
            warmup_steps=self.warmup_steps,
        )


@dataclass(frozen=True, kw_only=True)
class Past(Options):
    """Which gradient norms refine, and how they are read."""

    run: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The run, or a pattern, where there are several.", show_default=False),
    ] = None
    column: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Column of the norms, if not grad_norm or the like.", show_default=False),
    ] = None
    norm: Annotated[
        int,
        typer.Option(min=1, max=2, help="What the log has: 2-norms (weights 1 / norm^2), or 1-norms (1 / norm; Adam)."),
    ] = 2
    smooth: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Share of the run under a running median. [default: 0.05]", show_default=False),
    ] = None
    steps: Annotated[
        int | None,
        typer.Option(min=2, help="Length of the run to come. [default: as logged]", show_default=False),
    ] = None

    def question(self) -> RefineQuestion:
        return RefineQuestion(
            run=self.run, column=self.column, adaptive=self.norm == 1, smoothing=self.smooth, steps=self.steps
        )


@app.command("tell", short_help="The loss that other schedules would end at; the default.")
@gathers
def tell(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="Loss curves: a row per logged step with run_id, step, learning_rate and loss (CSV, TSV, JSON lines, "
            "Parquet).",
        ),
    ],
    wanted: Told,
    as_json: JsonOption = False,
) -> None:
    """Say at which loss other learning-rate schedules would end, from loss curves of a few.

    Fits the Multi-Power Law and the annealing law to all curves, leaves each curve out once, and answers by the law
    that tells those better; the interval is made of its misses there. No database is needed and nothing is stored.
    Exit code 3: some rows were rejected; 4: too few curves.
    """
    from lawfit import pipeline

    question = wanted.question()
    try:
        with progress("fitting curves", quiet=as_json) as advance:
            document = pipeline.study_schedules(file, question, progress=advance)
    except ValueError as error:  # a schedule that does not exist, a run shorter than its warmup
        raise typer.BadParameter(str(error)) from None
    if as_json:
        print_json(document)
    else:
        show(*_answer(told(document)))
    _say_rejected(document["rejected"], quiet=as_json)


@app.command("refine", short_help="A schedule refined by the gradients of a past run.")
@gathers
def refine(
    log: Annotated[
        Path,
        typer.Argument(
            metavar="LOG",
            help="A log of the trainer, or a table with a row per logged step: step and grad_norm (CSV, TSV, "
            "JSON lines, Parquet).",
        ),
    ],
    past: Past,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write step,multiplier to it; the other commands read it as table:file=FILE.",
            show_default=False,
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Refine a schedule by the gradient norms of a past run of the same kind (arXiv 2310.07831).

    The rate at a step is its weight, 1 / norm^2, times the sum of the weights after it: linear decay where gradients
    keep their size, with a warmup where they shrink at the start, and an earlier fall where they grow at the end.
    Exit code 3: some rows were rejected; 4: too few norms.

    Example: lawfit schedules refine logs/3f2a.jsonl --out refined.csv
    """
    from lawfit import pipeline

    question = past.question()
    if out is not None and out.exists():
        raise typer.BadParameter(f"{out} is there already; name a new file with --out")
    try:
        document = pipeline.refine_schedule(log, question)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    if out is not None:
        _write(out, document["schedule"])
    if as_json:
        print_json(document)
    else:
        show(*_refined(told(document)))
        if out is not None:
            note(f"wrote {out}; lawfit convert schedule linear table:file={out} tells its peak")
    _say_rejected(document["rejected"], quiet=as_json)


def _write(out: Path, schedule: Sequence[Mapping[str, Any]]) -> None:
    rows = [f"{row['step']},{row['multiplier']:.8g}" for row in schedule]
    try:
        out.write_text("\n".join(["step,multiplier", *rows]) + "\n", encoding="utf-8")
    except OSError as error:
        raise LawfitError(f"{out} cannot be written: {error.strerror or error}") from None


def _refined(document: Mapping[str, Any]) -> list[RenderableType]:
    gain = 1 - document["bound_over_linear"]
    facts = [
        ("Run", f"{document['run'] or document['file']}: {document['norms']:,} norms ({document['column']})"),
        ("Weights", f"{document['weights']}, smoothed over {format_percent(document['smoothing'])} of the run"),
        ("Warmup", f"{format_percent(document['warmup'])} of the run"),
        ("Mean", f"{document['mean_multiplier']:.3g} of the peak; linear decay has 0.5"),
        (
            "Gain",
            f"bound on the last step {format_percent(gain)} below that of linear decay, each at its best peak",
        ),
        ("Source", "arXiv:2310.07831"),
    ]
    schedule = document["schedule"]
    places = sorted({round(i * (len(schedule) - 1) / (_STEPS_SHOWN - 1)) for i in range(_STEPS_SHOWN)})
    places = sorted({*places, max(range(len(schedule)), key=lambda i: schedule[i]["multiplier"])})
    rows = [
        (
            f"{row['step']:,}",
            f"{row['gradient_norm']:.3g}",
            f"{row['multiplier']:.3f}",
            f"{1 - row['step'] / document['steps']:.3f}",
        )
        for row in (schedule[i] for i in places)
    ]
    columns = ("step", "gradient norm", "multiplier of the peak", "linear decay")
    return [
        pairs(facts),
        plain(""),
        heading(f"Refined over {document['steps']:,} steps"),
        table(columns, rows, right=columns),
        plain(""),
        warning_list(document["notes"]),
    ]


def _say_rejected(rejected: Sequence[Mapping[str, Any]], *, quiet: bool) -> None:
    """The first rejected rows, and the exit code that goes with them."""
    if not rejected:
        return
    if not quiet:
        for row in rejected[:_REJECTIONS_SHOWN]:
            column = "" if row["column"] is None else f", {row['column']}"
            note(f"rejected: line {row['line']}{column}: {row['reason']}")
        if len(rejected) > _REJECTIONS_SHOWN:
            note(f"and {len(rejected) - _REJECTIONS_SHOWN:,} more rows; --json lists them all")
    raise typer.Exit(int(ExitCode.REJECTED))


def _answer(document: Mapping[str, Any]) -> list[RenderableType]:
    law, other = document["law"], next((name for name in LAWS if name != document["law"]), "")
    scored = document["left_out"]
    head = [("Law", LAWS[law])]
    if scored.get(law) is not None:
        against = f"; the {LAWS[other].split(' (')[0]} {format_percent(scored[other])}" if scored.get(other) else ""
        head.append(("Left out", f"misses a curve it did not see by {format_percent(scored[law])} on average{against}"))
    head.append(
        ("Fitted", f"{len(document['curves'])} curves, {format_percent(document['mean_error'])} off on average")
    )
    head += [("Best numbers" if i == 0 else "", words) for i, words in enumerate(_fitted(document, other))]
    curves = [
        (
            row["run"],
            f"{row['steps']:,}",
            f"{format_lr(row['peak_lr'])} to {format_lr(row['final_lr'])}",
            f"{row['final_loss']:.4f}",
            "" if row["left_out_error"] is None else format_percent(row["left_out_error"]),
        )
        for row in document["curves"]
    ]
    told = [
        (
            row["schedule"],
            f"{row['loss']:.4f}",
            "" if row["low"] is None else f"{row['low']:.4f} to {row['high']:.4f}",
            f"{row['by_law'][other]:.4f}" if other in row["by_law"] else "",
        )
        for row in document["schedules"]
    ]
    level = f"{100 * document['level']:g} % interval"
    parts: list[RenderableType] = [
        pairs(head),
        plain(""),
        heading(f"Loss at the end of {document['steps']:,} steps with a peak of {format_lr(document['lr'])}"),
        table(("schedule", "loss", level, "by the other law"), told, right=("loss", level, "by the other law")),
        plain(""),
        heading("The curves, and how far each is missed by the law that did not see it"),
        table(
            ("run", "steps", "learning rate", "final loss", "missed by"),
            curves,
            right=("steps", "final loss", "missed by"),
        ),
    ]
    if notes := [*document["notes"], *(f"not used: {words}" for words in document["left"])]:
        parts += [plain(""), warning_list(notes)]
    return parts


def _fitted(document: Mapping[str, Any], other: str) -> list[str]:
    """Numbers of schedules that were left to the curves: ``uba: phi 0.84 (0.5 to 1.4 cost at most 0.1 % more)``."""
    said = []
    for row in document["schedules"]:
        if found := row.get("fitted"):
            words = f"{row['schedule'].partition(':')[0]}: {found['number']} {found['value']:.3g} "
            words += f"({found['low']:.3g} to {found['high']:.3g} cost at most {format_percent(found['as_good'])} more"
            if other in found["by_law"]:
                words += f"; by the {LAWS[other].split(' (')[0]} {found['by_law'][other]:.3g}"
            said.append(words + ")")
    return said
