"""Commands on real files and a real store: what they store, print and answer."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from lawfit import pipeline
from lawfit.cli.main import ExitCode, run
from tests.cli.conftest import Call

SMALL = ("--params", "20M", "--params", "60M", "--tokens-per-param", "20", "--lr-steps", "4", "--batch-steps", "3")
HEADER = "n_params,n_tokens,batch_size_tokens,learning_rate,final_loss\n"


@pytest.fixture
def sweep(away: Path, call: Call) -> Path:
    """A simulated sweep of 24 runs at two scales."""
    path = away / "sweep.csv"
    call("simulate", path, *SMALL)
    return path


def test_simulate_writes_what_it_says(sweep: Path, away: Path, call: Call) -> None:
    rows = list(csv.DictReader(sweep.read_text().splitlines()))
    assert len(rows) == 2 * 4 * 3
    again = call("simulate", away / "again.csv", *SMALL)
    assert (away / "again.csv").read_bytes() == sweep.read_bytes()
    assert again["runs"] == 24
    assert again["diverged"] == sum(row["diverged"] == "1" for row in rows)
    assert [(cell["params"], cell["tokens"]) for cell in again["optima"]] == [(2e7, 4e8), (6e7, 1.2e9)]
    other = call("simulate", away / "other.csv", *SMALL, "--seed", "1")
    assert other["runs"] == 24
    assert (away / "other.csv").read_bytes() != sweep.read_bytes()


def test_simulate_does_not_overwrite(sweep: Path, call: Call) -> None:
    before = sweep.read_bytes()
    assert "--force" in call("simulate", sweep, code=ExitCode.FAILED)["error"]["message"]
    assert sweep.read_bytes() == before
    call("simulate", sweep, "--force", "--seed", "3", *SMALL)
    assert sweep.read_bytes() != before


def test_simulate_moves_whole_sizes_off_the_law(away: Path, call: Call) -> None:
    by_law, moved = (
        call("simulate", away / f"{sd}.csv", *SMALL, "--tokens-per-param", "80", "--size-scatter", sd)["optima"]
        for sd in (0, 0.3)
    )
    ratios = {(b["params"], b["tokens"]): b["lr"] / a["lr"] for a, b in zip(by_law, moved, strict=True)}
    assert ratios[2e7, 4e8] == pytest.approx(ratios[2e7, 1.6e9])
    assert ratios[2e7, 4e8] != pytest.approx(1, abs=1e-3)
    assert ratios[2e7, 4e8] != pytest.approx(ratios[6e7, 1.2e9], abs=1e-3)


def test_simulate_says_simulated(away: Path, text: Call) -> None:
    out, _ = text("simulate", away / "x.csv", *SMALL)
    assert out.startswith("SIMULATED: 24 runs at 2 scales")


def test_ingest_twice_changes_nothing_and_a_correction_updates(sweep: Path, call: Call) -> None:
    (first,) = call("ingest", sweep)["files"]
    assert (first["rows"], first["inserted"], first["updated"], first["unchanged"]) == (24, 24, 0, 0)
    (second,) = call("ingest", sweep)["files"]
    assert (second["inserted"], second["updated"], second["unchanged"]) == (0, 0, 24)
    lines = sweep.read_text().splitlines(keepends=True)
    row = next(i for i, line in enumerate(lines) if line.rstrip().endswith(",0"))
    cells = lines[row].rstrip().split(",")
    cells[-2] = "9.5"
    lines[row] = ",".join(cells) + "\n"
    sweep.write_text("".join(lines))
    (third,) = call("ingest", sweep)["files"]
    assert (third["inserted"], third["updated"], third["unchanged"]) == (0, 1, 23)


def test_ingest_shows_columns_recipe_and_counts(sweep: Path, text: Call) -> None:
    out, err = text("ingest", sweep)
    for words in (
        "24 new, 0 updated, 0 unchanged, 0 rejected",
        "batch_size_tokens (tokens per step)",
        "learning_rate",
        "sweep",
    ):
        assert words in out
    assert "next: lawfit fit" in err


def test_rejected_rows_are_listed_and_the_rest_lands(away: Path, call: Call, text: Call) -> None:
    path = away / "bad.csv"
    good = "1e8,2e9,131072,0.001,3.1\n1e8,2e9,131072,0.002,3.0\n"
    path.write_text(HEADER + good + "".join(f"1e8,2e9,131072,-{i},3.0\n" for i in range(1, 25)))
    document = call("ingest", path, code=ExitCode.REJECTED)
    (report,) = document["files"]
    assert (report["rows"], report["inserted"], len(report["rejections"])) == (26, 2, 24)
    assert report["rejections"][0]["line"] == 4
    assert report["rejections"][0]["column"] == "learning_rate"
    out, _ = text("ingest", path, code=ExitCode.REJECTED)
    assert "24 rejected" in out
    assert "24 rows: '-1' is negative; it must be above zero, first at line 4" in " ".join(out.split())


def test_a_file_whose_rows_are_all_rejected(away: Path, call: Call, text: Call) -> None:
    path = away / "bad.csv"
    path.write_text(HEADER + "1e8,2e9,131072,-1,3.0\n")
    (report,) = call("ingest", path, code=ExitCode.REJECTED)["files"]
    assert (report["inserted"], len(report["rejections"])) == (0, 1)
    assert "1 rejected" in text("ingest", path, code=ExitCode.REJECTED)[0]


def test_what_a_file_says_cannot_steer_the_terminal(away: Path, text: Call) -> None:
    path = away / "bad.csv"
    path.write_text(HEADER.replace("learning_rate", "lr\x1b]0;x\x07") + "1e8,2e9,131072,[red]x,3.0\n")
    out, err = text("ingest", path, "--map", "lr\x1b]0;x\x07=lr", code=ExitCode.REJECTED)
    assert "\x1b" not in out + err
    assert "[red]x" in out  # and markup is not read as such


def test_dry_run_stores_nothing(sweep: Path, away: Path, call: Call) -> None:
    (report,) = call("ingest", sweep, "--dry-run")["files"]
    assert (report["inserted"], report["dry_run"]) == (24, True)
    assert not (away / "lawfit.db").exists()


@pytest.mark.parametrize(
    "content",
    ["a,b\n1,2\n", "", "run_id,step,train_loss\na,1,3.0\n", HEADER + "1e8,2e9,131072,fast,3.0\n"],
    ids=["no such columns", "empty", "curves of no run", "no row of use"],
)
def test_a_bad_file_leaves_no_empty_database(content: str, sweep: Path, away: Path) -> None:
    path = away / "bad.csv"
    path.write_text(content)
    assert run(["ingest", str(path)]) in (ExitCode.FAILED, ExitCode.REJECTED)
    assert list(away.glob("lawfit.db*")) == []
    assert run(["ingest", str(path), str(sweep)]) in (ExitCode.OK, ExitCode.REJECTED)  # a good one beside it makes it
    assert (away / "lawfit.db").exists()


def test_curves_before_their_runs_are_read_after_them(sweep: Path, away: Path, call: Call) -> None:
    header, first, *_ = (line.split(",") for line in sweep.read_text().splitlines())
    run_id = first[header.index("run_id")]
    curves = away / "a_curves.csv"
    curves.write_text(f"run_id,step,train_loss\n{run_id},10,5.5\n{run_id},20,4.5\n")
    document = call("ingest", curves, sweep)
    assert document["failed"] == []
    assert [(Path(report["file"]).name, report["inserted"]) for report in document["files"]] == [
        (sweep.name, 24),
        (curves.name, 2),
    ]


def test_a_file_that_cannot_be_read_among_others(sweep: Path, away: Path, call: Call, text: Call) -> None:
    (away / "empty.csv").write_text("")
    document = call("ingest", away / "empty.csv", sweep, code=ExitCode.REJECTED)
    assert [item["file"] for item in document["failed"]] == [str(away / "empty.csv")]
    assert document["files"][0]["inserted"] == 24
    _, err = text("ingest", away / "empty.csv", sweep, code=ExitCode.REJECTED)
    assert "empty.csv" in err


@pytest.mark.parametrize("names", [["no.csv"], ["no.csv", "nor.csv"]], ids=["one", "two"])
def test_no_file_could_be_read(names: list[str], call: Call) -> None:
    document = call("ingest", *names, code=ExitCode.FAILED)
    assert document["error"]["exit_code"] == ExitCode.FAILED
    assert all(name in document["error"]["message"] for name in names)


def test_map_recipe_and_what_was_held_fixed(away: Path, call: Call) -> None:
    path = away / "odd.csv"
    path.write_text("n_params,n_tokens,bs,step size,final_loss\n1e8,2e9,64,0.001,3.1\n1e8,2e9,64,0.002,3.0\n")
    words = [
        "ingest",
        path,
        "--map",
        "bs=batch_sequences",
        "--map",
        "step size=lr",
        "--seq-len",
        "2k",
        "--recipe",
        "mine",
    ]
    call(*words, "--optimizer", "muon", "--params-convention", "total", "--held", "beta2=0.95")
    document = call("runs", "list")
    (recipe,) = document["recipes"]
    held = recipe["recipe"]
    assert (held["name"], held["optimizer"], held["params_convention"], held["seq_len"]) == (
        "mine",
        "muon",
        "total",
        2000,
    )
    assert held["extra"] == {"beta2": "0.95"}
    assert [run["batch_tokens"] for run in document["runs"]] == [64 * 2000.0] * 2


def test_runs_are_listed_excluded_and_restored(sweep: Path, call: Call, text: Call) -> None:
    call("ingest", sweep)
    everything = call("runs", "list")
    assert everything["total"] == len(everything["runs"]) == 24
    assert len(call("runs", "list", "--limit", "3")["runs"]) == 3
    diverged = call("runs", "list", "--status", "diverged")["runs"]
    assert len(diverged) == everything["recipes"][0]["diverged"]
    assert all(run["loss"] is None for run in diverged)

    out, err = text("runs", "exclude", "sim-0000?", "--reason", "bad node")
    assert out == "10 runs of sweep excluded\n"
    assert "run lawfit fit" in err
    excluded = call("runs", "list", "--status", "excluded")["runs"]
    assert {run["excluded"] for run in excluded} == {"bad node"}
    assert "bad node" in text("runs", "list", "--status", "excluded")[0]
    assert call("runs", "restore", "sim-00001")["restored"] == 1
    assert call("runs", "restore", "--all")["restored"] == 9
    assert call("runs", "list", "--status", "excluded")["runs"] == []


def test_excluding_an_unknown_run_excludes_none(sweep: Path, call: Call) -> None:
    call("ingest", sweep)
    words = ["runs", "exclude", "sim-00001", "nope", "--reason", "x"]
    assert "no run 'nope'" in call(*words, code=ExitCode.FAILED)["error"]["message"]
    assert call("runs", "list", "--status", "excluded")["runs"] == []


def test_recipes_are_chosen_by_name_when_there_are_several(sweep: Path, call: Call) -> None:
    call("ingest", sweep, "--recipe", "one", "--schedule", "cosine")
    call("ingest", sweep, "--recipe", "two", "--schedule", "wsd")
    assert len(call("runs", "list")["runs"]) == 48
    assert len(call("runs", "list", "--recipe", "two")["runs"]) == 24
    message = call("runs", "exclude", "sim-00001", "--reason", "x", code=ExitCode.FAILED)["error"]["message"]
    assert "--recipe" in message
    assert "one, two" in message


def test_laws_list_and_show(call: Call, text: Call) -> None:
    laws = call("laws", "list")["laws"]
    assert {"step_law", "deepseek"} <= {law["id"] for law in laws}
    for law in laws:
        shown = call("laws", "show", law["id"])
        assert {name: shown[name] for name in law} == law
        out, _ = text("laws", "show", law["id"])
        assert law["verified"] or ("unverified" in out and "Lends" in out)
        assert law["cite"] in out
        assert "None" not in out
    out, _ = text("laws", "show", "step_law")
    assert "1.79 x params^-0.713 x tokens^0.307" in out
    assert "step_law" in call("laws", "show", "step_lav", code=ExitCode.FAILED)["error"]["message"]


def test_db_upgrade_backup_check(sweep: Path, away: Path, call: Call, text: Call) -> None:
    call("ingest", sweep)
    assert "schema" in call("db", "upgrade")["done"]
    report = call("db", "check")
    assert (report["rows"]["runs"], report["problems"]) == (24, [])
    call("db", "backup", away / "copy.db")
    with pipeline.open_store(str(away / "copy.db")) as copy:
        assert copy.recipes()[0].runs == 24
    assert "exists already" in call("db", "backup", away / "copy.db", code=ExitCode.FAILED)["error"]["message"]
    (away / "lawfit.db").write_bytes(b"not a database")
    assert call("db", "check", code=ExitCode.FAILED)["problems"]
    assert "not a SQLite file" in text("db", "check", code=ExitCode.FAILED)[0]


def test_json_documents_say_what_they_are(sweep: Path, call: Call) -> None:
    documents = [call("ingest", sweep), call("runs", "list"), call("laws", "list"), call("db", "check")]
    assert all(document["schema"].startswith("lawfit.") for document in documents)
    assert json.dumps(documents, allow_nan=False)


def test_runs_that_differ_in_weight_decay_alone_look_different(text: Call, tmp_path: Path) -> None:
    rows = [f"1e8,2e9,{batch},0.001,{decay},3.0" for batch in (262144, 131072) for decay in (0.1, 0.05)]
    for name in ("one", "two"):
        (tmp_path / f"{name}.csv").write_text(
            "\n".join([HEADER.strip().replace("final_loss", "weight_decay,final_loss"), *rows])
        )
    text("ingest", tmp_path / "one.csv")
    listed = text("runs", "list")[0].split("excluded because")[1].splitlines()[1:]
    assert [line.split()[3:] for line in listed] == [
        [batch, "1.00e-3", decay, "3.0000"] for batch in ("131k", "262k") for decay in ("0.05", "0.1")
    ]
    text("ingest", tmp_path / "two.csv", "--recipe", "two")
    listed = text("runs", "list")[0].split("excluded because")[1].splitlines()[1:]
    assert [line.split()[0] for line in listed] == ["one"] * 4 + ["two"] * 4


def test_columns_of_many_files_are_listed_once_and_the_largest_sweep_is_next(text: Call, tmp_path: Path) -> None:
    for name, count in (("a", 2), ("b", 5), ("c", 3)):
        rows = [f"1e8,2e9,131072,{0.001 * (i + 1)},{3 + i + 0.1 * count}" for i in range(count)]
        (tmp_path / f"{name}.csv").write_text("\n".join([HEADER.strip(), *rows]))
    out, err = text("ingest", *(tmp_path / f"{name}.csv" for name in "abc"))
    assert out.count("from column") == 1
    assert out.count(f"read as those of {tmp_path / 'a.csv'}") == 2
    assert out.count("\n\nFile") == 2
    assert "next: lawfit fit --recipe b (and 2 other recipes: lawfit runs list)" in err


def test_the_next_command_names_the_recipe_where_the_store_has_several(text: Call, tmp_path: Path) -> None:
    for name in "ab":
        rows = [f"1e8,2e9,131072,{0.001 * (i + 1)},{3 + abs(i - 1)}" for i in range(4)]
        (tmp_path / f"{name}.csv").write_text("\n".join([HEADER.strip(), *rows]))
    assert text("ingest", tmp_path / "a.csv", "--recipe", "a")[1].strip().endswith("next: lawfit fit")
    assert text("ingest", tmp_path / "b.csv", "--recipe", "b")[1].strip().endswith("next: lawfit fit --recipe b")
    assert "next: lawfit predict --recipe b --params N" in text("fit", "--recipe", "b")[1]


def test_units_that_cannot_be_are_asked_about(text: Call, tmp_path: Path) -> None:
    rows = [f"100,2e9,131072,{i + 1},{21 + i}" for i in range(4)]
    (tmp_path / "odd.csv").write_text("\n".join([HEADER.strip(), *rows]))
    _, err = text("ingest", tmp_path / "odd.csv", code=ExitCode.REJECTED)
    for words in ("is it a perplexity?", "in which unit are they?", "multiples of another rate?"):
        assert words in err
    assert not (tmp_path / "lawfit.db").exists()
