"""`lawfit study`: plan, launch and fit in rounds until a target is known; what each round cost and taught."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lawfit.ask import StudyQuestion
from lawfit.cli.launch import shown
from lawfit.cli.launch_options import launches
from lawfit.cli.main import ExitCode
from lawfit.cli.options import (
    DatabaseOption,
    JsonOption,
    as_usage,
    asks,
    open_store,
)
from lawfit.cli.output import heading, note, pairs, plain, print_json, show, table
from lawfit.documents import Study
from lawfit.documents.study import StudyRound, StudySummary
from lawfit.findings import code_of
from lawfit.units import counted, format_flops, format_percent, format_quantity, format_scale
from lawfit.words import told
from lawfit.words.study import (
    KINDS,
    answer_words,
    cost_words,
    factor_words,
    regret_words,
    round_words,
    runs_words,
    setting_words,
    spent_words,
)

if TYPE_CHECKING:
    from rich.console import RenderableType

    from lawfit.launch import Progress
    from lawfit.pipeline import Watch

app = typer.Typer(help="Plan, launch and fit in rounds until a target is known well enough.", no_args_is_help=True)

Report = Annotated[
    Path | None,
    typer.Option(
        "--report", metavar="FILE", help="Also write the history as an HTML page; it opens offline.", show_default=False
    ),
]
StudyId = Annotated[str, typer.Argument(metavar="ID", help="As lawfit study run and list print it.")]


@app.command("run")
@asks(StudyQuestion)
@launches
def run(
    ctx: typer.Context,
    asked: StudyQuestion,
    given: dict[str, Any],
    recipe: Annotated[
        str | None,
        typer.Option(
            "--recipe",
            metavar="NAME",
            help="Recipe that goes on, or the name of a new one. [default: the only one there is; study]",
            show_default=False,
        ),
    ] = None,
    report: Report = None,
    as_json: JsonOption = False,
    database: DatabaseOption = None,
) -> None:
    """Plan the runs that tell most about a target, train them, fit, and again: until it is known well enough.

    From an empty database too: the first round is then a first sweep around what published laws say. It ends when
    --until is reached, the budget is spent, the rounds are over, or no run is worth making. It can be stopped (Ctrl-C)
    and killed at any moment: the same command goes on, no run is made twice and nothing is paid twice. Another budget
    is another study, which begins from what is known by then.

    Exit code 3: some runs failed, the rest counts. 4: there is no answer at its end. 5: the deadline came first. 130:
    stopped by a signal.

    Example: lawfit study run --params 100M --tokens 2B --budget 2e17flops --until regret=0.1%
    """
    from lawfit import pipeline
    from lawfit.launch import LaunchOptions

    with as_usage():
        options = LaunchOptions.of(given)
        pipeline.require_study(asked, options)  # before there is a new database
    store = open_store(ctx, database, create=True)
    with _watched(quiet=as_json) as watch, as_usage():
        document = pipeline.run_study(store, asked, options, recipe=recipe, watch=watch)
    _end(document, report, as_json)


@app.command("resume")
@launches
def resume(
    ctx: typer.Context,
    study_id: StudyId,
    given: dict[str, Any],
    report: Report = None,
    as_json: JsonOption = False,
    database: DatabaseOption = None,
) -> None:
    """Go on with a study by its id, as its own command does; its runs are made as before unless said otherwise."""
    from lawfit import pipeline

    store = open_store(ctx, database)
    with _watched(quiet=as_json) as watch, as_usage():
        document = pipeline.resume_study(store, study_id, given, watch=watch)
    _end(document, report, as_json)


@app.command("list")
def list_all(ctx: typer.Context, as_json: JsonOption = False, database: DatabaseOption = None) -> None:
    """List the studies, the newest first."""
    from lawfit import pipeline

    found = pipeline.all_studies(open_store(ctx, database))
    if as_json:
        print_json(found)
        return
    if not found["studies"]:
        note("there is no study yet; lawfit study run begins one")
        return
    columns = ("study", "state", "recipe", "target", "budget", "until", "rounds", "regret", "last change")
    show(table(columns, [_line(each) for each in found["studies"]], right=("rounds", "regret")))


@app.command("show")
def show_one(
    ctx: typer.Context,
    study_id: StudyId,
    report: Report = None,
    as_json: JsonOption = False,
    database: DatabaseOption = None,
) -> None:
    """Show what each round of a study cost and taught, and what is known now."""
    from lawfit import pipeline

    document = pipeline.show_study(open_store(ctx, database), study_id)
    _write_report(document, report)
    if as_json:
        print_json(document)
    else:
        show(*study_card(document))


@contextmanager
def _watched(*, quiet: bool) -> Iterator[Watch]:
    """How far a study is: a line for each step on stderr, and the bars of its launches."""
    from lawfit.pipeline import Watch

    if quiet:
        yield Watch()
        return
    with ExitStack() as bars:
        follower = _Follower(bars)
        yield Watch(began=follower.began, launched=follower.launched, doing=follower.doing, ended=follower.ended)


class _Follower:
    """Says each thing once; the bars of a launch are there while it runs."""

    def __init__(self, bars: ExitStack) -> None:
        self._bars, self._said = bars, ""
        self._draw: Callable[[Progress], None] | None = None

    def began(self, one: StudyRound, most: int) -> None:
        plan, number = one["plan"], one["number"]
        there = f", of which {one['made']['runs']} are there" if one["made"]["runs"] else ""
        why = f" ({KINDS[one['kind']]})" if KINDS[one["kind"]] else ""
        note(
            f"round {number} of {most}{why}: {counted(plan['runs'], 'run')} at "
            f"{counted(len(_places(one)), 'scale')}, up to {format_flops(plan['flops'])} FLOPs{there}"
        )
        self._bars.close()
        self._draw = self._bars.enter_context(shown(quiet=False))

    def launched(self, progress: Progress) -> None:
        if self._draw is not None:
            self._draw(progress)

    def doing(self, number: int, step: str, _share: float) -> None:
        self._bars.close()
        self._draw = None
        words = f"round {number}: {step.partition(':')[0]}"
        if words != self._said:
            self._said = words
            note(words)

    def ended(self, one: StudyRound) -> None:
        note(round_words(told(one)))


def _places(one: StudyRound) -> set[tuple[float, float]]:
    return {(scale["params"], scale["tokens"]) for scale in one["scales"]}


def _end(document: Study, report: Path | None, as_json: bool) -> None:
    """Show a study, and end with the code that says how this call ended."""
    code = _exit_code(document)
    _write_report(document, report)
    if as_json:
        print_json(document)
    else:
        show(*study_card(document))
        _advise(document)
    if code is not ExitCode.OK:
        raise typer.Exit(int(code))


def _write_report(document: Study, report: Path | None) -> None:
    if report is not None:
        from lawfit.report.page import write_study_report

        note(f"report: {write_study_report(report, document)}")


def _exit_code(document: Study) -> ExitCode:
    why = code_of(document["stopped"])
    if why == "study.signal":
        return ExitCode.INTERRUPTED
    if why == "study.deadline":
        return ExitCode.UNFINISHED
    if document["answer"] is None:
        return ExitCode.NOT_ENOUGH
    return ExitCode.REJECTED if any(each["made"]["failures"] for each in document["rounds"]) else ExitCode.OK


def _line(one: StudySummary) -> tuple[str, ...]:
    return (
        one["id"],
        one["state"],
        one["recipe"],
        format_scale(one["params"], one["tokens"]),
        one["budget"],
        one["until"] or "-",
        str(one["rounds"]),
        format_percent(one["expected_regret"]),
        one["updated_at"][:16].replace("T", " "),
    )


def study_card(document: Study) -> list[RenderableType]:
    """What was asked and spent, a row a round, and the answer."""
    document = told(document)
    target, budget = document["target"], document["budget"]
    rows = [
        ("Study", f"{document['id']} ({document['state']}), recipe {document['recipe']}"),
        ("Target", format_scale(target["params"], target["tokens"])),
        ("Spent", spent_words(budget)),
        *([("Until", document["asked"]["until"])] if "until" in document["asked"] else []),
    ]
    parts: list[RenderableType] = [pairs(rows)]
    if document["rounds"]:
        columns = ("round", "runs", "cost", "lr within", "batch within", "regret", "lr, batch then advised")
        parts += [
            plain(""),
            heading("Rounds: what was known, then promised and got by each"),
            table(columns, _rows(document)),
        ]
    parts += [plain("")]
    answer = [] if document["answer"] is None else [("Answer", answer_words(document["answer"], target["level"]))]
    if document["answer"] is not None:
        answer.append(
            ("It gives up", f"{format_percent(document['answer']['expected_regret'])} of the loss (expected)")
        )
    if document["stopped"]:
        answer.append(("Ended" if document["state"] == "ended" else "Stopped", document["stopped"]))
    failures = dict.fromkeys(why for each in document["rounds"] for why in each["made"]["failures"])
    answer += [("Failed", why) for why in failures]
    return [*parts, pairs(answer)] if answer else parts


def _rows(document: Study) -> list[tuple[str, ...]]:
    first, unit = document["rounds"][0], document["budget"]["unit"]
    rows: list[tuple[str, ...]] = []
    if (before := first["before"]) is not None:
        factors = (f"x{before['lr_factor']:.2f}", f"x{before['batch_factor']:.2f}")
        rows.append(("before", "", "", *factors, format_percent(before["expected_regret"]), ""))
    for one in document["rounds"]:
        row = (str(one["number"]), runs_words(one["made"], one["phase"]), cost_words(one["made"], unit))
        known = (factor_words(one, "lr_factor"), factor_words(one, "batch_factor"), regret_words(one))
        rows.append((*row, *known, setting_words(one["answer"])))
    return rows


def _advise(document: Study) -> None:
    """What to type next."""
    target = document["target"]
    if document["state"] == "open":
        note(f"next: lawfit study resume {document['id']}")
    elif document["answer"] is not None:
        scale = f"--params {format_quantity(target['params'], 6)} --tokens {format_quantity(target['tokens'], 6)}"
        note(f"next: lawfit predict {scale} --verbose; or the same study with a larger --budget")
