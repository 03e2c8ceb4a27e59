"""What the campaigns ingest, and what of it a database then holds: all of it once, or what was lost and doubled."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lawfit.storage import Store, maintenance
from lawfit.storage.tables import metadata
from tests.ingest.tables import csv_text, rows

METRIC = "loss"


@dataclass(frozen=True, kw_only=True)
class Part:
    """A file, or a folder of logs, that is stored in one transaction."""

    path: Path
    runs: frozenset[str]
    points: Mapping[str, int] = field(default_factory=dict)  # of the curve of each run


def table(path: Path, count: int, *, first: int = 1, note: str = "x" * 300) -> Part:
    """A table of runs, `r<first>` and on, whose rows depend on their numbers alone."""
    made = [
        row | {"run_id": f"r{number}", "learning_rate": f"{number % 97 + 1}e-4", "note": f"{note}{number}"}
        for number, row in enumerate(rows(*[{}] * count), start=first)
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(csv_text(made))
    return Part(path=path, runs=frozenset(row["run_id"] for row in made))


def logs(folder: Path, count: int, *, steps: int) -> Part:
    """A folder with a log of steps for each run, which are stored with their curves."""
    folder.mkdir(parents=True)
    rng = random.Random(count)
    points = {}
    for number in range(count):
        settings = {"config": {"learning_rate": 1e-3 + 1e-5 * number, "batch_size_tokens": 8192, "n_params": 1_200_000,
                               "max_steps": steps}}  # fmt: skip
        lines = [settings, *({"step": step, "train/loss": rng.random() + 3} for step in range(1, steps + 1))]
        lines.append({"step": steps, "eval/loss": rng.random() + 3})
        (folder / f"log{number}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        points[f"log{number}"] = steps
    return Part(path=folder, runs=frozenset(points), points=points)


@dataclass(frozen=True, kw_only=True)
class Held:
    """What a database holds of some parts."""

    lost: int  # runs and points of curves that are not there
    doubled: int  # runs that are there twice, or that no part has
    halves: tuple[str, ...]  # parts that are there in part


def held(url: str, parts: Sequence[Part]) -> Held:
    """Compare the database with its parts; it is opened and checked first."""
    assert maintenance.check(url).problems == ()
    there: Counter[str] = Counter()
    points: dict[str, int] = {}
    with Store.open(url) as store:
        for summary in store.recipes():
            key = summary.recipe.key
            there.update(_name(run.run_key) for run in store.runs(key))
            for metric in store.curve_counts(key):
                if "train" in metric:
                    points |= {_name(run): len(steps) for run, (steps, _) in store.curves(key, metric).items()}
    lost, halves = 0, []
    for part in parts:
        missing = len(part.runs - there.keys()) + sum(n - points.get(run, 0) for run, n in part.points.items())
        lost += missing
        if 0 < missing < len(part.runs) + sum(part.points.values()):
            halves.append(part.path.name)
    wanted = frozenset().union(*(part.runs for part in parts))
    doubled = sum(count - 1 for count in there.values()) + len(there.keys() - wanted)
    return Held(lost=lost, doubled=doubled, halves=tuple(halves))


def emptied(url: str) -> None:
    """A database without a row, made where there is none: quicker than a new one each time."""
    with Store.open(url) as store, store.writing() as connection:
        for each in reversed(metadata.sorted_tables):
            connection.execute(each.delete())


def _name(run_key: str) -> str:
    """Of a log, whose key ends in a hash of its place."""
    return run_key.rpartition("-")[0] or run_key
