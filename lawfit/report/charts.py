"""The charts of one recommendation, each with a caption in plain words and its numbers as a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from lawfit.documents import Answer
from lawfit.plots.backtest import Backtest, backtest_figure, backtest_numbers
from lawfit.plots.costs import Costs, cost_figure, cost_numbers
from lawfit.plots.law import law_figure, law_numbers, law_rows
from lawfit.plots.scaling import Scaling, scaling_figure, scaling_numbers
from lawfit.plots.shown import Chart, Choice, Table
from lawfit.plots.surface import CellSurface, best_shown_cell, surface_figure, surface_numbers
from lawfit.plots.valley import Valley, valley_figure, valley_numbers
from lawfit.units import format_lr, format_percent, format_quantity
from lawfit.words.answers import INPUT_WORDS, QUANTITY_WORDS, optimum_words

if TYPE_CHECKING:
    from lawfit.estimate.observe.observations import Observations
    from lawfit.records import Fit


VALLEY_TITLE: Final = "What any other setting would cost"
VALLEY_CAPTION: Final = (
    "Expected share of the loss given up at the target, over all that is not known. "
    "Diamond: recommended, with its intervals. Grey: what published laws would use."
)


def scaling_choice(fit: Fit, document: Answer, quantity: str) -> Choice:
    """Best learning rate, or batch, against tokens and against parameters."""
    charts = tuple(scaling_chart(fit, document, quantity, along) for along in ("tokens", "params"))
    return Choice(id=f"along-{quantity.replace('_', '-')}", label="Against", charts=charts)


def scaling_chart(fit: Fit, document: Answer, quantity: str, along: str) -> Chart:
    """Best learning rate, or batch, along "tokens" or "params"."""
    scaling = scaling_numbers(fit, document, quantity, along)
    other = format_quantity(scaling.target[scaling.other])
    caption = (
        "Dots: the fitted optimum of each of your scales with its 90 % interval (open where it lies at the edge of the "
        f"sweep). Thick line and band: your law at the target's {other} {INPUT_WORDS[scaling.other]}. Diamond: what "
        "costs least on average, which may lie off the line. Thin grey: published laws."
    )
    if document["target"].get("batch_tokens") and quantity == "lr":
        caption += " The line holds at the batch you gave; the dots at each scale's own best batch."
    return Chart(
        id=f"scaling-{quantity.replace('_', '-')}-{along}",
        title=f"Best {_lower(quantity)} against {INPUT_WORDS[along]}",
        caption=caption,
        figure=scaling_figure(scaling),
        table=_scaling_table(scaling),
        option=f"{INPUT_WORDS[along]} ({other} {INPUT_WORDS[scaling.other]})",
    )


def cost_charts(fit: Fit, document: Answer) -> tuple[Chart, ...]:
    """What being wrong costs, for what is recommended (a given batch has no cost figure)."""
    quantities = ["lr"] if document["target"].get("batch_tokens") else ["lr", "batch_tokens"]
    charts = []
    for quantity in quantities:
        costs = cost_numbers(fit, document, quantity)
        batch = "given" if document["target"].get("batch_tokens") else "recommended"
        held = f"at the {batch} batch size" if quantity == "lr" else "with the learning rate that suits each batch"
        charts.append(
            Chart(
                id=f"cost-{quantity.replace('_', '-')}",
                title=f"What another {_lower(quantity)} would cost",
                caption=f"Share of the loss given up at the target, {held}. Shaded: settings that cost less than 0.1 % "
                "and 0.25 % if the fit is right.",
                figure=cost_figure(costs),
                table=_cost_table(costs),
            )
        )
    return tuple(charts)


def valley_chart(fit: Fit, document: Answer) -> Chart:
    """What any learning rate and batch is expected to cost at the target."""
    valley = valley_numbers(fit, document)
    rows = [("recommended", format_lr(valley.recommended[0]), format_quantity(valley.recommended[1]), _cost_at(valley))]
    rows += [
        (law.label, format_lr(law.lr), format_quantity(law.batch_tokens), _cost_at(valley, law.lr, law.batch_tokens))
        for law in valley.laws
    ]
    rows += [
        ("", format_lr(valley.lr[i]), format_quantity(valley.batch_tokens[j]), format_percent(valley.cost[j, i]))
        for j in range(0, len(valley.batch_tokens), 5)
        for i in range(0, len(valley.lr), 4)
    ]
    columns = ("from", "learning rate", "batch", "expected cost")
    return Chart(
        id="valley",
        title=VALLEY_TITLE,
        caption=VALLEY_CAPTION,
        figure=valley_figure(valley),
        table=Table(columns=columns, rows=tuple(rows), numbers=columns[1:], strong=0),
    )


def _cost_at(valley: Valley, lr: float | None = None, batch_tokens: float | None = None) -> str:
    """Expected cost at the place of the grid that is nearest; of the recommendation without a place."""
    lr, batch_tokens = lr or valley.recommended[0], batch_tokens or valley.recommended[1]
    if not (valley.lr[0] <= lr <= valley.lr[-1] and valley.batch_tokens[0] <= batch_tokens <= valley.batch_tokens[-1]):
        return "beyond this figure"
    j, i = int(abs(valley.batch_tokens - batch_tokens).argmin()), int(abs(valley.lr - lr).argmin())
    return format_percent(valley.cost[j, i])


def surface_choice(fit: Fit, observed: Observations) -> Choice:
    """The loss surface of every cell; the one that shows most comes first."""
    first = best_shown_cell(fit.payload)
    order = [first, *(i for i in range(len(fit.payload["cells"])) if i != first)]
    charts = []
    for index in order:
        surface = surface_numbers(fit.payload, observed, index)
        swept = "" if surface.batch_swept else " Only one batch size was tried here: the batch direction is borrowed."
        best = f" The best run reached {surface.loss.min():.4f}." if len(surface.loss) else ""
        count = len(surface.lr) + len(surface.diverged_lr)
        charts.append(
            Chart(
                id=f"surface-{index}",
                title=f"Loss surface at {surface.name}",
                caption=f"Each dot is a setting that was run ({count} here), coloured by its loss above the best of "
                f"them.{best} The lines bound what costs less than 0.1 % and 0.25 % in the fitted valley.{swept}",
                figure=surface_figure(surface),
                table=surface_table(surface),
                option=f"{surface.name} ({optimum_words(surface.status, surface.interval.near)})",
            )
        )
    return Choice(id="cells", label="Scale", charts=tuple(charts))


def backtest_choice(fit: Fit) -> Choice | None:
    """Every way in which scales were left out; None where there were too few."""
    splits = [split for split in backtest_numbers(fit.payload) if split.scores]
    if not splits:
        return None
    charts = []
    for index, split in enumerate(splits):
        missing = f" No score for {', '.join(split.not_scored)}." if split.not_scored else ""
        charts.append(
            Chart(
                id=f"backtest-{index}",
                title=f"Backtest: {split.name}",
                caption="Each method predicts scales it has not seen and pays what its choice costs on the runs made "
                f"there. Dot: mean; line: to the worst scale; left is better.{missing}",
                figure=backtest_figure(split),
                table=_backtest_table(split),
                option=split.name,
            )
        )
    return Choice(id="backtests", label="Leaving out", charts=tuple(charts))


def law_charts(laws: Mapping[str, Fit], document: Answer) -> tuple[Chart, ...]:
    """The laws behind weight decay, critical batch size and expected loss, as far as the recipe has them."""
    found = []
    for chart in law_numbers(laws, document):
        columns = ("from", "scale", chart.y_label.lower(), f"{100 * chart.level:g} % interval")
        found.append(
            Chart(
                id=f"law-{chart.name.replace('_', '-')}",
                title=chart.title,
                caption=f"{chart.caption} Band: {100 * chart.level:g} % interval. Diamond: your target.",
                figure=law_figure(chart),
                table=Table(columns=columns, rows=law_rows(chart), numbers=columns[2:], strong=0),
            )
        )
    return tuple(found)


def _lower(quantity: str) -> str:
    return QUANTITY_WORDS[quantity].lower()


def _written(quantity: str, value: float) -> str:
    return format_lr(value) if quantity == "lr" else format_quantity(value)


def _scaling_table(scaling: Scaling) -> Table:
    def write(value: float) -> str:
        return _written(scaling.quantity, value)

    name = f"best {_lower(scaling.quantity)}"
    rows = [
        (
            "your runs",
            format_quantity(cell.params),
            format_quantity(cell.tokens),
            write(cell.value),
            optimum_words(cell.status, cell.near),
        )
        for cell in scaling.cells
    ]
    at = (format_quantity(scaling.target["params"]), format_quantity(scaling.target["tokens"]))
    interval = f"{write(scaling.recommended_low)} to {write(scaling.recommended_high)} ({100 * scaling.level:g} %)"
    rows.append(("given" if scaling.given else "recommended", *at, write(scaling.recommended), interval))
    here = int(abs(scaling.x - scaling.target[scaling.along]).argmin())
    for line in scaling.published:
        cost = "not scored on your runs" if line.regret is None else f"costs {format_percent(line.regret)} on your runs"
        rows.append((line.label, *at, write(float(line.value[here])), cost))
    columns = ("from", "parameters", "tokens", name, "standing")
    return Table(columns=columns, rows=tuple(rows), numbers=columns[1:4], strong=len(scaling.cells))


def _cost_table(costs: Costs) -> Table:
    step = max(1, len(costs.x) // 15)
    shown = sorted({*range(0, len(costs.x), step), int(abs(costs.x - costs.recommended).argmin())})
    rows = [
        (
            _written(costs.quantity, float(costs.x[i])),
            format_percent(float(costs.expected[i])),
            format_percent(float(costs.fitted[i])),
        )
        for i in shown
    ]
    columns = (_lower(costs.quantity), "expected cost", "cost if the fitted optimum is right")
    at = shown.index(int(abs(costs.x - costs.recommended).argmin()))
    return Table(columns=columns, rows=tuple(rows), numbers=columns, strong=at)


def surface_table(surface: CellSurface) -> Table:
    """The fitted optimum, then every run, best first."""
    rows = [("fitted optimum", format_lr(surface.optimum_lr), format_quantity(surface.optimum_batch_tokens), "-", "-")]
    rows += [
        (
            "run",
            format_lr(surface.lr[index]),
            format_quantity(surface.batch_tokens[index]),
            f"{surface.loss[index]:.4f}",
            format_percent(surface.excess[index]),
        )
        for index in surface.excess.argsort(kind="stable")
    ]
    rows += [
        ("diverged run", format_lr(lr), format_quantity(batch), "-", "-")
        for lr, batch in zip(surface.diverged_lr, surface.diverged_batch_tokens, strict=True)
    ]
    columns = ("what", "learning rate", "batch", "loss", "above the best run")
    return Table(columns=columns, rows=tuple(rows), numbers=columns[1:], strong=0)


def _backtest_table(split: Backtest) -> Table:
    rows = tuple(
        (
            "your fit (lawfit)" if score.ours else score.method,
            format_percent(score.mean_regret),
            format_percent(score.worst_regret),
            str(score.cells),
        )
        for score in split.scores
    )
    columns = ("method", "mean cost", "worst cost", "scales")
    ours = next((i for i, score in enumerate(split.scores) if score.ours), None)
    return Table(columns=columns, rows=rows, numbers=columns[1:], strong=ours)
