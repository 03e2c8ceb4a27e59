"""`lawfit export` and the commands of `lawfit db` that move a store, as a person types them."""

from __future__ import annotations

from pathlib import Path

from tests.cli.conftest import Call

TABLE = "run_id,params,tokens,batch_tokens,lr,loss\n" + "\n".join(
    f"r{n},1e8,2e9,5e5,{lr},{loss}" for n, (lr, loss) in enumerate([(0.001, 3.1), (0.002, 3.0), (0.004, "nan")])
)


def test_an_export_is_ingested_elsewhere(call: Call, text: Call, away: Path) -> None:
    (away / "sweep.csv").write_text(TABLE)
    call("ingest", "sweep.csv")
    call("runs", "exclude", "r0", "--reason", "node failure")
    written = call("export", "all.csv")
    assert (written["runs"], written["recipes"]) == (3, ["sweep"])
    (file,) = call("--database", "b.db", "ingest", "all.csv")["files"]
    assert (file["inserted"], file["diverged"], file["format"]) == (3, 1, "lawfit export")
    assert call("--database", "b.db", "runs", "list") == call("runs", "list")
    _, err = text("export", "all.csv", code=1)
    assert "all.csv exists already; name another file, or remove it first" in err
    _, err = text("export", "x.csv", "--runs", "--curves", code=2)
    assert "leave nothing out together" in err
    _, err = text("--database", "b.db", "ingest", "all.csv", "--recipe", "mine", code=1)
    assert "leave out all options but --dry-run" in err
    _, err = text("--database", "none.db", "export", "y.csv", code=1)
    assert "there is no database none.db" in err


def test_a_store_is_copied_compacted_and_restored(call: Call, text: Call, away: Path) -> None:
    (away / "sweep.csv").write_text(TABLE)
    call("ingest", "sweep.csv")
    copied = call("db", "copy", "lawfit.db", "b.db")
    assert copied["rows"]["runs"] == 3
    assert call("--database", "b.db", "runs", "list") == call("runs", "list")
    out, err = text("db", "copy", "lawfit.db", "b.db", code=1)
    assert (out, "a copy goes into an empty database" in err) == ("", True)
    call("db", "backup", "saved.db")
    call("runs", "exclude", "r0", "--reason", "by mistake")
    assert call("db", "restore", "saved.db", "--replace")["aside"] == "lawfit.db.before-restore"
    assert call("--database", "b.db", "runs", "list") == call("runs", "list")
    assert call("db", "compact")["database"] == "lawfit.db"
