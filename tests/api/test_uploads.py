"""Files that are sent: read as by `lawfit ingest`, asked about over HTTP, and never left lying about."""

from __future__ import annotations

import gzip
import json
import pickle
import random
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from lawfit import pipeline
from lawfit.settings import Settings, data_folder
from lawfit.storage import Store
from lawfit_api.app import create_app
from tests.api.test_app import problem_of
from tests.client import TestClient
from tests.ingest.formats.test_damage import WAYS

GOLDEN = Path(__file__).parent.parent / "golden"
SWEEP = (data_folder() / "proxy_held_back.csv").read_bytes()
WANDB = next((GOLDEN / "trackers/wandb-0.31.0/wandb").glob("*low/*.wandb"))
OPEN = b"n_params,n_tokens,lr,batch_size,loss\n" + b"".join(
    b"1e8,2e9,%g,%d,%g\n" % (lr, batch, 3 + lr) for lr in (1e-3, 2e-3, 4e-3) for batch in (256, 512)
)


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where files lie for the moment; nothing may stay."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    assert list(folder.iterdir()) == []


@pytest.fixture
def client(database_url: str, scratch: Path) -> Iterator[TestClient]:
    settings = Settings(database_url=database_url, max_body_mb=1)
    with TestClient(create_app(settings), raise_server_exceptions=False) as served:
        yield served


def send(client: TestClient, content: bytes, name: str = "sweep.csv", query: str = "") -> Any:
    answer = client.post(f"/v1/uploads?name={quote(name, safe='')}{query}", content=content)
    for told in ("lawfit-", "/uploads/", "scratch", "--", "lawfit ingest", "lawfit fit"):
        assert told not in answer.text.replace("lawfit-format", ""), answer.text
    return answer


def runs_in(database: str | Path) -> list[Any]:
    with Store.open(database) as store:
        return [
            (summary.recipe.name, summary.recipe.key, run.run_key, run.loss, run.lr, run.source.rpartition("/")[2])
            for summary in store.recipes()
            for run in store.runs(summary.recipe.key)
        ]


class TestSent:
    def test_it_is_what_the_command_line_reads(self, client: TestClient, database_url: str, tmp_path: Path) -> None:
        with pipeline.open_store(tmp_path / "other.db") as store:
            wanted = pipeline.ingest(store, data_folder() / "proxy_held_back.csv").to_json()
        answer = send(client, SWEEP, "proxy_held_back.csv")
        (report,) = answer.json()["files"]
        assert answer.status_code == 201
        assert report == json.loads(json.dumps({**wanted, "file": "proxy_held_back.csv"}))
        assert runs_in(database_url) == runs_in(tmp_path / "other.db")
        again = send(client, SWEEP, "proxy_held_back.csv")
        assert (again.status_code, again.json()["files"][0]["unchanged"]) == (200, report["rows"])

    def test_as_a_form(self, client: TestClient) -> None:
        files = {"note": (None, "hello"), "file": ("../my sweep.csv", SWEEP, "text/csv")}
        (report,) = client.post("/v1/uploads", files=files).json()["files"]
        assert (report["file"], report["inserted"], report["recipes"]) == ("my sweep.csv", 34, ["my-sweep"])
        for wrong in ({"note": (None, "hello")}, {"file": ("", b"x")}):
            problem_of(client.post("/v1/uploads", files=wrong), 422)
        headers = {"Content-Type": "multipart/form-data; boundary=x"}
        for body in (b"", b"--x\r\n\r\n", b'--x\r\nContent-Disposition: form-data; filename="a"\r\n\r\nabc'):
            problem_of(client.post("/v1/uploads", content=body, headers=headers), 422)
        problem_of(client.post("/v1/uploads", content=SWEEP, headers={"Content-Type": "multipart/form-data"}), 422)

    @pytest.mark.parametrize("path", [*sorted(GOLDEN.glob("log_*.[cjpt]*[!n]")), GOLDEN / "log_excel.xlsx", WANDB])
    @pytest.mark.one_database
    def test_each_format(self, client: TestClient, path: Path) -> None:
        answer = send(client, path.read_bytes(), path.name, "&yes=true")
        assert answer.status_code == 201, answer.text
        again = send(client, path.read_bytes(), path.name, "&yes=true")
        assert again.status_code == 200, again.text

    @pytest.mark.one_database
    def test_an_export_comes_back(self, client: TestClient, database_url: str, tmp_path: Path) -> None:
        with pipeline.open_store(tmp_path / "other.db") as store:
            pipeline.ingest(store, data_folder() / "proxy_held_back.csv")
            pipeline.ingest(store, WANDB)
            for suffix in (".csv", ".jsonl", ".parquet"):
                pipeline.export(store, tmp_path / f"all{suffix}")
        for suffix, status in ((".csv", 201), (".jsonl", 200), (".parquet", 200)):
            assert send(client, (tmp_path / f"all{suffix}").read_bytes(), f"all{suffix}").status_code == status
        assert runs_in(database_url) == runs_in(tmp_path / "other.db")
        problem_of(send(client, (tmp_path / "all.csv").read_bytes(), "all.csv", "&metric=nats"), 422)

    def test_questions_are_answered_by_sending_it_again(self, client: TestClient, database_url: str) -> None:
        doubted = problem_of(send(client, OPEN), 422)
        (question,) = doubted["questions"]
        assert (doubted["type"], question["code"]) == ("Doubted", "ingest.batch_unit")
        assert question["columns"] == ["batch_size"]
        assert "batch_unit=sequences" in doubted["detail"]
        assert runs_in(database_url) == []
        sequences = question["choices"][1][0]
        answers = f"&{sequences['option']}={sequences['value']}&seq_len=1k"
        assert send(client, OPEN, query=f"&dry_run=true{answers}").status_code == 200
        assert runs_in(database_url) == []
        assert send(client, OPEN, query=answers).status_code == 201
        assert len(runs_in(database_url)) == 6

    def test_options(self, client: TestClient) -> None:
        query = "&unit=batch_size=K&map=lr=lr&recipe=mine&optimizer=muon&held=beta2=0.9&only=lr=0.001&data=web"
        (report,) = send(client, OPEN, query=f"{query}&map=batch_size=batch_tokens").json()["files"]
        assert (report["recipes"], report["inserted"]) == (["mine"], 2)
        (recipe,) = client.get("/v1/recipes").json()["recipes"]
        assert (recipe["optimizer"], recipe["data"], recipe["extra"]["beta2"]) == ("muon", "web", "0.9")
        for wrong in (
            "&map=x",
            "&kind=x",
            "&metric=x",
            "&held=x",
            "&recipe=+",
            "&seq_len=x",
            "&fromat=csv",
            "&unit=a=b",
        ):
            problem_of(send(client, OPEN, query=wrong), 422)
        problem_of(client.post("/v1/uploads", content=OPEN), 422)
        problem_of(send(client, OPEN, query="&format=none"), 422)

    @pytest.mark.one_database
    @pytest.mark.parametrize("name", ["../../etc/x.csv", "..", "a\\b.csv", "x.csv\x00.wandb", "\u2713.csv", "a" * 5000])
    def test_names_never_touch_a_path(self, client: TestClient, scratch: Path, name: str) -> None:
        assert send(client, SWEEP, name).status_code in (201, 422)
        there = {path.name for path in scratch.parent.iterdir()}
        assert there <= {"scratch", "test.db", "test.db-wal", "test.db-shm"}

    @pytest.mark.one_database
    def test_what_is_not_taken(self, client: TestClient, tmp_path: Path, scratch: Path) -> None:
        class Boom:
            def __reduce__(self) -> Any:
                return (Path.touch, (tmp_path / "boom",))

        with sqlite3.connect(tmp_path / "some.sqlite") as made:
            made.execute("create table runs (a)")
        for content, name in (
            (pickle.dumps(Boom()), "model.pt"), (pickle.dumps(Boom()), "x.csv"), (gzip.compress(SWEEP), "x.csv.gz"),
            ((tmp_path / "some.sqlite").read_bytes(), "mlflow.db"), (b"", "x.csv"), (b"\x00" * 100, "x.csv"),
            ((GOLDEN / "trackers/mlflow/mlflow.db").read_bytes()[:1000], "x.csv"), (b"a,b\n", "x.csv"),
            (b"PK\x03\x04xl/", "x.xlsx"), (b"PAR1", "x.parquet"), (b"{", "x.jsonl"), (b"<html>", "x.html"),
        ):  # fmt: skip
            problem_of(send(client, content, name), 422)
        assert not (tmp_path / "boom").exists()
        problem_of(client.post("/v1/uploads?name=x.csv", content=b"x" * (1 << 21)), 413)

    @pytest.mark.one_database
    def test_a_database_of_another_program_is_not_opened(self, database_url: str, scratch: Path) -> None:
        with TestClient(create_app(Settings(database_url=database_url))) as client:
            told = problem_of(send(client, (GOLDEN / "trackers/mlflow/mlflow.db").read_bytes(), "x.csv"), 422)
        assert "mlflow" in told["detail"]


def fuzz(client: TestClient, database: str, count: int, seed: int) -> None:
    """Damaged files: taken, or refused with a sentence and nothing stored."""
    rng = random.Random(seed)
    whole = [("a.csv", SWEEP), ("open.csv", OPEN), ("w.wandb", WANDB.read_bytes())]
    whole += [(f"x{path.suffix}", path.read_bytes()) for path in sorted(GOLDEN.glob("log_*.[cjptx]*[!n]"))]
    for number in range(count):
        name, content = rng.choice(whole)
        data = bytearray(content)
        for _ in range(rng.choice((1, 1, 2, 3))):
            if data:
                rng.choice(WAYS)(data, rng)
        query = rng.choice(("", "&yes=true", f"&recipe=r{number}", "&metric=nats&kind=runs", "&batch_unit=tokens"))
        before = runs_in(database)
        answer = client.post(f"/v1/uploads?name={name}{query}", content=bytes(data))
        assert answer.status_code in (200, 201, 409, 422), (number, name, query, answer.text)
        if answer.status_code >= 400:
            assert runs_in(database) == before, (number, name)


@pytest.mark.one_database
def test_damaged_files(client: TestClient, database_url: str, request: pytest.FixtureRequest) -> None:
    fuzz(client, database_url, 100, request.config.getoption("--seed"))


@pytest.mark.soak
@pytest.mark.one_database
def test_damaged_files_by_the_hundred(client: TestClient, database_url: str, request: pytest.FixtureRequest) -> None:
    fuzz(client, database_url, request.config.getoption("--damages"), request.config.getoption("--seed") + 1)
