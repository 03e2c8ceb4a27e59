"""`lawfit simulate`: a sweep whose truth is known, to rehearse with before GPUs are spent."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lawfit.cli.gathered import Options, gathers
from lawfit.cli.options import JsonOption, quantity
from lawfit.cli.output import heading, note, plain, print_json, show, table
from lawfit.errors import LawfitError
from lawfit.units import counted, format_lr, format_quantity

if TYPE_CHECKING:
    from rich.console import RenderableType

DEFAULT_PARAMS = (2e7, 6e7, 1.8e8)
DEFAULT_RATIOS = (10.0, 30.0, 90.0)


@dataclass(frozen=True, kw_only=True)
class Grid(Options):
    """Which runs the sweep has."""

    params: Annotated[
        list[float] | None,
        typer.Option(
            parser=quantity, metavar="N", help="Model size; repeatable. [default: 20M, 60M, 180M]", show_default=False
        ),
    ] = None
    tokens_per_param: Annotated[
        list[float] | None,
        typer.Option(
            parser=quantity,
            metavar="R",
            help="Tokens per parameter; repeatable. [default: 10, 30, 90]",
            show_default=False,
        ),
    ] = None
    lr_steps: Annotated[
        int, typer.Option(min=1, max=100, help="Learning rates per batch size, a factor 1.41 apart.")
    ] = 9
    batch_steps: Annotated[int, typer.Option(min=1, max=100, help="Batch sizes per scale, a factor 1.41 apart.")] = 7
    random: Annotated[bool, typer.Option("--random", help="Random search in the same box instead of a grid.")] = False
    seeds: Annotated[int, typer.Option(min=1, max=100, help="Runs per setting.")] = 1

    @property
    def scales(self) -> list[tuple[float, float]]:
        """Parameters and tokens of each scale."""
        sizes, ratios = self.params or DEFAULT_PARAMS, self.tokens_per_param or DEFAULT_RATIOS
        return [(size, size * ratio) for size in sizes for ratio in ratios]


@dataclass(frozen=True, kw_only=True)
class Disorder(Options):
    """How far the runs are from the law: what measured sweeps suffer from."""

    noise: Annotated[
        float, typer.Option(min=0, max=0.5, help="Spread of the loss between seeds, as a share of it.")
    ] = 0.0008
    size_scatter: Annotated[
        float,
        typer.Option(
            min=0,
            max=2,
            help="How far the optima of a whole size lie off the law, sd of ln lr and of ln batch; public grids: 0.15.",
        ),
    ] = 0.0
    missing: Annotated[float, typer.Option(min=0, max=0.95, help="Share of the runs that are not there.")] = 0.0


@gathers
def simulate(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The CSV to write, for `lawfit ingest`.")],
    grid: Grid,
    disorder: Disorder,
    seed: Annotated[int, typer.Option(min=0, help="The same seed writes the same sweep.")] = 0,
    force: Annotated[bool, typer.Option("--force", help="Overwrite FILE.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Write a simulated sweep: valleys that are asymmetric like measured ones, noise, and diverged runs.

    The true best learning rate and batch size at each scale are printed, so that one can see how close
    `lawfit ingest`, `lawfit fit` and `lawfit predict` come with a grid of that shape.

    Example: lawfit simulate sweep.csv --params 50M --params 200M --lr-steps 6 --batch-steps 4
    """
    import numpy as np

    from lawfit.simulate import Design, Truth, simulate_sweep, write_csv

    if file.exists() and not force:
        raise LawfitError(f"{file} exists already; name another file or say --force")
    scatter = disorder.size_scatter
    truth = Truth(noise=disorder.noise, size_scatter_lr=scatter, size_scatter_batch=scatter)
    design = Design(
        scales=grid.scales,
        lr_steps=grid.lr_steps,
        batch_steps=grid.batch_steps,
        seeds=grid.seeds,
        missing=disorder.missing,
        random=grid.random,
    )
    sweep = simulate_sweep(truth, design, rng=np.random.default_rng(seed))
    try:
        rows = write_csv(sweep.runs, file)
    except OSError as error:
        raise LawfitError(f"{file} cannot be written: {error.strerror or error}") from None
    diverged = sum(run.loss is None for run in sweep.runs)
    optima = [
        {"params": size, "tokens": tokens, "lr": lr, "batch_tokens": batch}
        for (size, tokens), (lr, batch) in sweep.optima.items()
    ]
    if as_json:
        document = {"schema": "lawfit.simulation/1", "file": str(file), "runs": rows, "diverged": diverged}
        print_json({**document, "truth": dataclasses.asdict(truth), "optima": optima})
        return
    size = f"{counted(rows, 'run')} at {counted(len(design.scales), 'scale')}"
    show(
        plain(f"SIMULATED: {size} in {file}, {diverged:,} of them diverged"),
        plain(""),
        heading("The truth, which a fit should find"),
        _optima(optima),
    )
    note(f"next: lawfit ingest {file}")


def _optima(optima: Sequence[Mapping[str, float]]) -> RenderableType:
    texts = [
        (
            format_quantity(item["params"]),
            format_quantity(item["tokens"]),
            format_lr(item["lr"]),
            format_quantity(item["batch_tokens"]),
        )
        for item in optima
    ]
    columns = ("params", "tokens", "best lr", "best batch")
    return table(columns, texts, right=columns)
