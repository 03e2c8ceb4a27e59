"""A file that `export` wrote lies in a folder that is ingested: it is taken as it stands, beside whatever else."""

from __future__ import annotations

from pathlib import Path

import pytest

from lawfit import pipeline
from lawfit.cli.main import run
from lawfit.storage import Store
from tests.ingest.tables import rows, write_csv

pytestmark = pytest.mark.one_database


def stored(path: Path) -> dict[str, tuple[str, float | None, str | None]]:
    with Store.open(path) as store:
        return {
            each.run_key: (summary.recipe.name, each.loss, each.excluded)
            for summary in store.recipes()
            for each in store.runs(summary.recipe.key)
        }


@pytest.mark.parametrize("others", [[], ["a.csv"], ["a.csv", "z.csv"]], ids=["alone", "one beside", "two beside"])
@pytest.mark.parametrize("name", ["export.csv", "export.jsonl", "export.parquet", "deep/below/m.csv"])
def test_it_is_read_as_an_export(tmp_path: Path, name: str, others: list[str]) -> None:
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow")
    folder = tmp_path / "folder"
    (folder / name).parent.mkdir(parents=True)
    with Store.open(tmp_path / "one.db") as store:
        pipeline.ingest(store, write_csv(tmp_path / "sweep.csv", rows({}, {"learning_rate": "0.004"})))
        key = store.recipes()[0].recipe.key
        store.exclude(key, ["r2"], "odd")
        pipeline.export(store, folder / name)
    for place, other in enumerate(others):
        write_csv(folder / other, rows({"run_id": f"other{place}", "optimizer": f"o{place}"}))
    assert run(["--database", str(tmp_path / "two.db"), "ingest", str(folder)]) == 0
    found = stored(tmp_path / "two.db")
    expected = stored(tmp_path / "one.db")
    assert expected["r2"][2] == "odd"  # which a plain table could not say
    assert {key: found[key] for key in expected} == expected
    assert len(found) == 2 + len(others)


def test_among_logs_of_the_trainer(tmp_path: Path) -> None:
    """Whose folder takes all JSON lines for logs of its own."""
    golden = Path(__file__).parents[1] / "golden"
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "log.jsonl").write_bytes((golden / "log_trainer.jsonl").read_bytes())
    with Store.open(tmp_path / "one.db") as store:
        pipeline.ingest(store, write_csv(tmp_path / "sweep.csv", rows({})))
        pipeline.export(store, folder / "export.jsonl")
    run(["--database", str(tmp_path / "two.db"), "ingest", str(folder)])
    assert stored(tmp_path / "two.db")["r1"] == ("sweep", 3.25, None)
    assert len(stored(tmp_path / "two.db")) > 1
