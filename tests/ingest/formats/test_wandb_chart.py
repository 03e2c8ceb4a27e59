"""Charts that were saved as CSV from W&B's page: curves of runs that are known from elsewhere."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from lawfit import pipeline
from lawfit.cli.main import run
from lawfit.errors import LogFormatError, NoRun
from lawfit.ingest import IngestOptions
from lawfit.ingest.formats import find_sources
from lawfit.storage import Store
from tests.ingest.formats.wires import framed, history, run_record
from tests.ingest.tables import rows, write_csv

pytestmark = pytest.mark.one_database
EXIT = bytes([0x92, 0x01, 0x00])


def chart(
    path: Path, runs: Sequence[str], metrics: Sequence[str] = ("val/loss",), axis: str = "Step", shuffled: bool = False
) -> Path:
    """Five points a run; each run lacks one, as charts of runs with other steps do."""
    columns = [(name, metric, end) for name in runs for metric in metrics for end in ("", "__MIN", "__MAX")]
    if shuffled:
        columns.sort(key=lambda each: (each[2], each[1], each[0]), reverse=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_ALL)
        writer.writerow([axis, *(f"{name} - {metric}{end}" for name, metric, end in columns)])
        for at in range(5):
            cells = [value(runs.index(n), metrics.index(m), at) + 0.1 * len(end) for n, m, end in columns]
            empty = [runs.index(name) == at for name, _, _ in columns]
            writer.writerow([10 * at, *("" if no else cell for no, cell in zip(empty, cells, strict=True))])
    return path


def value(which: int, metric: int, at: int) -> float:
    return round(4 - which - 0.1 * at + 10 * metric, 3)


def curves_of(store: Store, key: str, metric: str = "validation_loss") -> tuple[list[int], list[float]]:
    steps, numbers = store.curve(store.recipes()[0].recipe.key, key, metric)
    return steps.tolist(), numbers.tolist()


@pytest.mark.parametrize("name", ["chart.csv", "wandb_export_2026-11-29T10_00_00.000+01_00.csv"])
@pytest.mark.parametrize("shuffled", [False, True])
@pytest.mark.parametrize("axis", ["Step", "_step", "train/global_step", "trainer/global_step", "iteration"])
def test_is_told_by_its_columns(tmp_path: Path, name: str, shuffled: bool, axis: str) -> None:
    (source,) = find_sources(chart(tmp_path / name, ["a", "b - c", "d, e"], axis=axis, shuffled=shuffled))
    assert source.format == "wandb-chart"


@pytest.mark.parametrize(
    "header",
    ["Step,a - loss,a - loss__MIN", "Step,a - loss", "step,run_id,loss", "Step,a - l,a - l__MIN,a - l__MAX,lr"],
)
def test_other_tables_are_none(tmp_path: Path, header: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f"{header}\n" + ",".join("1" for _ in header.split(",")) + "\n")
    assert find_sources(path)[0].format != "wandb-chart"


@pytest.mark.parametrize("shuffled", [False, True])
@pytest.mark.parametrize("names", [("r1", "r2"), ("glad - sun-1", "x, 'y'")])
def test_curves_of_runs_by_their_keys(tmp_path: Path, store: Store, names: tuple[str, str], shuffled: bool) -> None:
    table = rows(*({"run_id": name, "learning_rate": f"{n}e-3"} for n, name in enumerate(names, start=1)))
    pipeline.ingest(store, write_csv(tmp_path / "runs.csv", table))
    path = chart(tmp_path / "chart.csv", names, ("val/loss", "grad_norm"), shuffled=shuffled)
    report = pipeline.ingest(store, path)
    assert (report.of, report.rejections) == ("curves", ())
    for which, name in enumerate(names):
        places = [at for at in range(1, 5) if at != which]
        assert curves_of(store, name) == ([10 * at for at in places], [value(which, 0, at) for at in places])
        assert curves_of(store, name, "grad_norm")[1] == [value(which, 1, at) for at in places]
    assert pipeline.ingest(store, path).inserted == 0


def wandb_run(folder: Path, run_id: str, name: str, **config: Any) -> None:
    from tests.ingest.formats.wires import message

    settings = {"n_params": 10**6, "batch_size_tokens": 8192, **config}
    described = run_record(run_id, settings) + message(17, message(8, name.encode()))
    path = folder / f"run-{run_id}" / f"run-{run_id}.wandb"
    path.parent.mkdir(parents=True)
    path.write_bytes(framed(described, history(_step=1, loss=3.0), EXIT))


def test_curves_of_runs_by_the_names_that_people_see(tmp_path: Path, store: Store) -> None:
    for run_id, name, lr in (("a1", "glad-sun", 1e-3), ("b2", "calm-sea", 2e-3)):
        wandb_run(tmp_path / "wandb", run_id, name, lr=lr)
    pipeline.ingest(store, tmp_path / "wandb")
    pipeline.ingest(store, chart(tmp_path / "chart.csv", ["calm-sea", "glad-sun"]))
    assert curves_of(store, "b2")[1][0] == value(0, 0, 1)
    assert curves_of(store, "a1")[1][0] == value(1, 0, 2)


def test_two_runs_of_one_name_are_not_guessed_between(tmp_path: Path, store: Store) -> None:
    for run_id, lr in (("a1", 1e-3), ("b2", 2e-3)):
        wandb_run(tmp_path / "wandb", run_id, "sweep", lr=lr)
    pipeline.ingest(store, tmp_path / "wandb")
    with pytest.raises(LogFormatError, match=r"two runs in the store are called 'sweep' \(a1, b2\)"):
        pipeline.ingest(store, chart(tmp_path / "chart.csv", ["sweep"]))


def test_alone_it_says_what_is_missing(tmp_path: Path, store: Store) -> None:
    with pytest.raises(
        NoRun, match=r"curves of 5 runs \(a, b, c, d, ...\) without any settings.*ingest the runs first"
    ):
        pipeline.ingest(store, chart(tmp_path / "chart.csv", ["a", "b", "c", "d", "e"]))


@pytest.mark.parametrize("names", [("a_chart.csv", "b_runs.csv"), ("z_chart.csv", "b_runs.csv")])
def test_beside_the_table_of_its_runs(tmp_path: Path, names: tuple[str, str]) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    chart(folder / names[0], ["r1", "r2"], ("train/loss",))
    write_csv(folder / names[1], rows({}, {"learning_rate": "0.004"}))
    assert run(["--database", str(tmp_path / "a.db"), "ingest", str(folder)]) == 0
    with Store.open(tmp_path / "a.db") as store:
        assert curves_of(store, "r2", "train_loss") == ([20, 30, 40], [value(1, 0, at) for at in (2, 3, 4)])


@pytest.mark.parametrize("axis", ["Relative Time (Wall)", "Relative Time (Process)", "Wall Time", "epoch"])
def test_a_chart_along_something_else_is_refused(tmp_path: Path, store: Store, axis: str) -> None:
    with pytest.raises(LogFormatError, match=r"curves are stored by steps"):
        pipeline.ingest(store, chart(tmp_path / "chart.csv", ["a"], axis=axis))


def test_along_tokens(tmp_path: Path, store: Store) -> None:
    small = IngestOptions(units={"batch_size_tokens": "1"})
    pipeline.ingest(store, write_csv(tmp_path / "runs.csv", rows({"batch_size_tokens": 2})), small)
    pipeline.ingest(store, chart(tmp_path / "chart.csv", ["r1"], axis="tokens_seen"))
    assert curves_of(store, "r1")[0] == [5, 10, 15, 20]
