"""`lawfit predict`: the recommendation for one target."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lawfit.ask import SettingQuestion, SetUp, Target
from lawfit.cli.brief import answer_card
from lawfit.cli.cost_card import cost_card
from lawfit.cli.gathered import Options, gathers
from lawfit.cli.options import (
    AtOption,
    DatabaseOption,
    JsonOption,
    RecipeOption,
    ReportOption,
    VerboseOption,
    as_usage,
    asks,
    open_store,
)
from lawfit.cli.output import note, plain, print_json, show
from lawfit.configs import PROGRAMS, config_of, named
from lawfit.words import listed

if TYPE_CHECKING:
    from rich.console import RenderableType


@dataclass(frozen=True, kw_only=True)
class Source(Options):
    """Which fit answers."""

    recipe: RecipeOption = None
    at: AtOption = None
    fit: Annotated[
        str | None,
        typer.Option(metavar="ID", help="Answer from this stored fit instead of the newest one.", show_default=False),
    ] = None

    @property
    def chosen(self) -> dict[str, Any]:
        """As every question of the pipeline takes it."""
        return {"fit_id": self.fit, "at": self.at or ()}


@dataclass(frozen=True, kw_only=True)
class Form(Options):
    """In which form the answer is wanted."""

    report: ReportOption = None
    program: Annotated[
        str | None,
        typer.Option(
            "--as",
            metavar="PROGRAM",
            help="Print settings of a training program instead, ready to be pasted: "
            f"{listed([each.name for each in PROGRAMS], 'or')}.",
            show_default=False,
        ),
    ] = None
    verbose: VerboseOption = False
    as_json: JsonOption = False

    def show(self, document: Mapping[str, Any], card: Callable[[], Sequence[RenderableType]]) -> None:
        """As JSON, or as a card for people."""
        if self.as_json:
            print_json(document)
        else:
            show(*card())


@asks(Target, SettingQuestion, SetUp)
@gathers
def predict(
    ctx: typer.Context,
    asked: Target,
    beside: SetUp,
    source: Source,
    form: Form,
    database: DatabaseOption = None,
) -> None:
    """Recommend a peak learning rate and a batch size for a run of N parameters on D tokens.

    The answer comes from the newest stored fit of the recipe (`lawfit fit`), with an interval, the range in which
    being wrong costs little, what the published laws would use, and what each of them costs on your own runs. With
    --at it comes from the newest fit that holds at that level.
    Where no learning rate may be given, the law of the loss still answers, with what the runs lack. The expected loss
    is that of fresh tokens and of as many experts as most runs have; --unique-tokens or --epochs, --active-share or
    --experts ask for another, where the runs vary it.

    With --lr it tells what a setting of yours costs instead: the loss given up over the best setting, whole and by
    learning rate, batch and weight decay, and the loss of a run there; without --batch-tokens at the advised batch.

    With --as the answer is printed as settings of a training program: the batch in sequences, per device and pass,
    steps from tokens, schedule and betas of the runs. Where no batch is given, it is one that the devices can share.

    Exit code 4: there is no fit to answer from, or its runs carry no answer: what they lack is said, and which runs
    would mend it.

    Example: lawfit predict --params 7B --tokens 1.4T --seq-len 4096 --batch-multiple 64

    Example: lawfit predict --params 7B --tokens 1.4T --lr 3e-4 --batch-tokens 4M --weight-decay 0.1

    Example: lawfit predict --params 7B --tokens 1.4T --as torchtitan --world-size 256 --per-device-batch 4
    """
    from lawfit import pipeline

    _require_apart(asked, beside, form)
    store = open_store(ctx, database)
    if form.program is not None:
        with as_usage():
            writer = named(form.program)
            training = pipeline.set_up(store, source.recipe, asked, beside, **source.chosen)
        config = config_of(writer, training)
        form.show(config, lambda: [plain(line) for line in config["text"].splitlines()])
        return
    if isinstance(asked, SettingQuestion):
        with as_usage():
            cost = pipeline.cost_of_setting(store, source.recipe, asked, **source.chosen)
        form.show(cost, lambda: cost_card(cost, verbose=form.verbose))
        return
    with as_usage():
        document = pipeline.recommend(store, source.recipe, asked, **source.chosen)
    if form.report is not None:
        from lawfit.report.page import write_report

        stored = store.fit(document["evidence"]["fit_id"])
        runs, laws = store.runs(stored.recipe_key), pipeline.laws_of(store, stored)
        project = Path.cwd().name  # a sweep has a folder of its own
        note(f"report: {write_report(form.report, stored, document, runs, laws, project)}")
    form.show(document, lambda: answer_card(document, verbose=form.verbose))


def _require_apart(asked: Target, beside: SetUp, form: Form) -> None:
    """A recommendation, the cost of a setting and settings of a training program are asked one at a time."""
    setting = isinstance(asked, SettingQuestion)
    if form.program is None and beside != SetUp():
        raise typer.BadParameter("--world-size, --per-device-batch and --warmup are of settings: give --as PROGRAM")
    if form.program is not None and (form.report is not None or setting):
        raise typer.BadParameter("--as writes the settings that are advised; it goes with neither --lr nor --report")
    if form.report is not None and setting:
        raise typer.BadParameter("--report shows a recommendation; it does not go with --lr")
