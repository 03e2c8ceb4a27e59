"""What a file leaves open is asked at once, as data, and nothing of it is stored before it is answered."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from lawfit.cli.main import ExitCode
from lawfit.cli.main import run as command
from lawfit.errors import Doubted
from lawfit.ingest import IngestOptions, read_file
from lawfit.storage import Store
from lawfit.words import tell
from tests.ingest.tables import read, rows, runs, write_csv

RATES = ("0.001", "0.002", "0.004")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sweep.csv"


def grid(*changes: Mapping[str, Any], **renamed: str) -> list[dict[str, Any]]:
    """Three rates for each change; fields under other names where `renamed` says so."""
    table = rows(*({"learning_rate": rate, "run_id": ..., **change} for change in changes or ({},) for rate in RATES))
    for number, row in enumerate(table):
        row["final_loss"] = f"{3.2 + 0.01 * number:.2f}"
    return [{renamed.get(name, name): cell for name, cell in row.items()} for row in table]


def asked(path: Path, **options: Any) -> dict[str, dict[str, Any]]:
    """code -> question."""
    with pytest.raises(Doubted) as found:
        read(path, **options)
    return {question["code"].removeprefix("ingest."): dict(question) for question in found.value.questions}


class TestSettings:
    COLUMNS = ("mixer", "variant", "b_two", "model_name", "group", "data_mix_version")

    @pytest.mark.parametrize("column", COLUMNS)
    def test_an_unknown_column_that_differs_among_equal_runs_is_asked_about(self, column: str, path: Path) -> None:
        write_csv(path, grid({column: "0.95"}, {column: "0.99"}))
        question = asked(path)["settings_or_seeds"]
        assert question["columns"] == [column]
        assert question["data"]["groups"] == len(RATES)
        assert [choice[0]["option"] for choice in question["choices"]] == ["split", "pool", "only", "only"]

    def test_split_makes_recipes(self, path: Path) -> None:
        write_csv(path, grid({"mixer": "gqa"}, {"mixer": "mla"}))
        found = read(path, split=("mixer",))
        assert [sweep.recipe.name for sweep in found.sweeps] == ["sweep-gqa", "sweep-mla"]
        assert [sweep.recipe.extra for sweep in found.sweeps] == [{"mixer": "gqa"}, {"mixer": "mla"}]

    def test_pool_makes_seeds(self, path: Path) -> None:
        write_csv(path, grid({"mixer": "gqa"}, {"mixer": "mla"}))
        found = read(path, pool=("mixer",))
        assert (len(found.sweeps), len(runs(found))) == (1, 6)
        assert all("mixer" not in run.extra for run in runs(found))  # or a fit would hold one level of it

    def test_only_reads_one_level_and_the_recipe_says_it(self, path: Path) -> None:
        write_csv(path, grid({"mixer": "gqa"}, {"mixer": "mla"}))
        found = read(path, only={"mixer": "mla"})
        assert (len(runs(found)), found.sweeps[0].recipe.extra) == (3, {"mixer": "mla"})
        assert "only rows with mixer mla are read; 3 rows left out, as you said" in found.notes

    def test_yes_takes_the_safe_answer(self, path: Path) -> None:
        write_csv(path, grid({"mixer": "gqa"}, {"mixer": "mla"}))
        assert len(read(path, yes=True).sweeps) == 2

    def test_columns_that_go_together_are_one_question(self, path: Path) -> None:
        write_csv(path, grid({"mixer": "a", "of_them": "8"}, {"mixer": "b", "of_them": "16"}))
        assert asked(path)["settings_or_seeds"]["columns"] == ["mixer", "of_them"]

    @pytest.mark.parametrize(
        ("column", "cells"),
        [
            ("seed", ("1", "2")),
            ("hostname", ("a", "b")),
            ("runtime_s", ("101.31", "102.77")),
            ("started", ("2026-01-01 10:00", "2026-01-01 11:00")),
            ("created_by_job", ("1", "2")),
            ("val_accuracy", ("0.31", "0.32")),
            ("summary.anything", ("1", "2")),
            ("final_grad_norm", ("0.311", "0.318")),
        ],
    )
    def test_results_and_bookkeeping_are_none(self, column: str, cells: tuple[str, str], path: Path) -> None:
        write_csv(path, grid(*({column: cell} for cell in cells)))
        found = read(path)
        assert len(runs(found)) == 6
        assert "settings vary" not in " ".join(found.notes)

    def test_measured_numbers_of_unknown_name_are_none(self, path: Path) -> None:
        table = grid({}, {})
        for number, row in enumerate(table):
            row["zeta"] = f"{0.51237 + 0.0113 * number:.5f}"
        write_csv(path, table)
        assert len(runs(read(path))) == 6

    def test_a_known_setting_goes_with_the_run(self, path: Path) -> None:
        write_csv(path, grid({"beta2": "0.95"}, {"beta2": "0.99"}))
        assert any("these settings vary too: beta2" in note for note in read(path).notes)


class TestLearningRate:
    def test_the_configured_one_is_taken_whatever_the_order(self, path: Path) -> None:
        table = [{"lr": "1e-05", **row} for row in grid(learning_rate="optimizer.lr")]
        write_csv(path, table)
        assert [run.lr for run in runs(read(path))] == [0.001, 0.002, 0.004]

    def test_signs_that_contradict_each_other_are_asked_about(self, path: Path) -> None:
        table = [{"max_lr": "0.01", **row} for row in grid(learning_rate="lr")]  # the peak, or a bound that never bit
        write_csv(path, table)
        votes = asked(path)["which_lr"]["data"]["votes"]
        assert {(vote["column"], vote["reason"]) for vote in votes} >= {("max_lr", "larger"), ("lr", "varies")}

    @pytest.mark.parametrize(
        ("name", "rate", "more", "sign"),
        [
            ("metrics.lr", None, {}, "logged"),
            ("lr", "0.0", {}, "zero"),
            ("lr", "1e-5", {}, "floor"),
            ("lr", "3e-4", {"min_lr": "3e-4"}, "minimum"),
            ("lr", "2e-4", {"lr_schedule": "cosine"}, "constant"),
        ],
    )
    def test_one_that_looks_decayed(
        self, name: str, rate: str | None, more: Mapping[str, str], sign: str, path: Path
    ) -> None:
        table = [{**row, **more, **({name: rate} if rate else {})} for row in grid(learning_rate=name)]
        write_csv(path, [{**row, "n_tokens": f"{1 + number}e9"} for number, row in enumerate(table)])
        assert asked(path)["lr_decayed"]["data"]["sign"] == sign
        if sign != "zero":
            assert len(runs(read(path, column_map={name: "lr"}))) == 3

    def test_logarithms(self, path: Path) -> None:
        table = grid(learning_rate="log10_lr")
        for row, exponent in zip(table, ("-3", "-2.5", "-2"), strict=True):
            row["log10_lr"] = exponent
        write_csv(path, table)
        assert [run.lr for run in runs(read(path))] == pytest.approx([0.001, 10**-2.5, 0.01], rel=1e-9)
        write_csv(path, [{name.replace("log10_lr", "lr"): cell for name, cell in row.items()} for row in table])
        assert asked(path)["negative_rates"]["choices"][0] == [{"option": "unit", "value": "lr=log10"}]
        assert runs(read(path, units={"lr": "log10"}))[0].lr == pytest.approx(0.001)

    @pytest.mark.parametrize("name", ["lr", "lr_multiplier"])
    def test_multiples(self, name: str, path: Path) -> None:
        table = grid(learning_rate=name)
        for row, text in zip(table, ("0.5x", "1x", "2x"), strict=True):
            row[name] = text
        write_csv(path, table)
        assert "rate_multiples" in asked(path)
        found = read(path, column_map={name: "lr"}, units={name: "0.004"})
        assert [run.lr for run in runs(found)] == pytest.approx([0.002, 0.004, 0.008])

    def test_one_under_a_name_that_is_not_known(self, path: Path) -> None:
        write_csv(path, grid(learning_rate="lr-AdamW/pg1"))
        assert asked(path)["lr_by_its_words"]["columns"] == ["lr-AdamW/pg1"]

    def test_two_low_rates_of_a_sweep_are_no_floor(self, path: Path) -> None:
        write_csv(
            path, rows(*({"learning_rate": lr, "seed": n} for n, lr in enumerate(("1e-5", "1e-5", "2e-3", "4e-3"))))
        )
        assert len(runs(read(path))) == 4

    def test_base_rates(self, path: Path) -> None:
        write_csv(path, grid(learning_rate="mup_base_lr"))
        assert "base_rate" in asked(path)
        assert runs(read(path, column_map={"mup_base_lr": "lr"}))[0].lr == 0.001
        write_csv(path, [{**row, "lr": "0.0005"} for row in grid(learning_rate="base_lr")])
        assert "which_lr" in asked(path)


class TestLoss:
    def test_validation_goes_before_training_whatever_the_order(self, path: Path) -> None:
        table = grid(final_loss="eval/some_corpus/loss")
        for row in [*table]:
            row["train_loss"] = "2.0"
        write_csv(path, [dict(reversed(row.items())) for row in table])
        assert read(path).sweeps[0].recipe.loss_column == "eval/some_corpus/loss"

    def test_two_of_one_kind_are_asked_about(self, path: Path) -> None:
        table = [{**row, "eval/b/loss": f"{number}.5"} for number, row in enumerate(grid(final_loss="eval/a/loss"), 2)]
        write_csv(path, table)
        assert asked(path)["two_columns"]["data"] == {"columns": ["eval/a/loss", "eval/b/loss"], "field": "loss"}

    @pytest.mark.parametrize(
        ("name", "cell", "loss", "kind"),
        [
            ("val_ppl", "20.085536923187668", 3.0, "nats per token, the log of what was logged"),
            ("val_accuracy", "0.6", 0.4, "1 - score"),
            ("val_accuracy", "60", 0.4, "1 - score"),
            ("val_bpb", "0.98", 0.98, "bits per byte"),
            ("val_bits_per_token", "4", 2.772588722239781, "nats per token"),
            ("val_mse", "0.03", 0.03, "mean squared error"),
            ("test_error", "0.2", 0.2, "error rate"),
        ],
    )
    def test_kinds(self, name: str, cell: str, loss: float, kind: str, path: Path) -> None:
        write_csv(path, [{**row, name: cell} for row in grid(final_loss=name)])
        found = read(path)
        assert runs(found)[0].loss == pytest.approx(loss)
        assert found.sweeps[0].recipe.loss_kind == kind

    def test_a_score_without_bounds_is_refused_in_words(self, path: Path) -> None:
        write_csv(path, grid(final_loss="mean_reward"))
        found = asked(path)
        assert list(found) == ["unbounded_score"]

    def test_a_loss_that_rises_with_the_data(self, path: Path) -> None:
        table = rows(
            *(
                {"n_params": n, "n_tokens": d, "final_loss": 1 + 0.1 * a + 0.2 * b}
                for a, n in enumerate((1e7, 2e7, 4e7))
                for b, d in enumerate((1e9, 2e9))
            )
        )
        write_csv(path, table)
        assert asked(path)["rising_loss"]["data"]["by"] == "tokens"
        assert len(runs(read(path, metric="nats"))) == 6

    def test_a_loss_that_is_too_high(self, path: Path) -> None:
        write_csv(path, [{**row, "final_loss": "32.6", "val_bpb": "2.2"} for row in grid()])
        question = asked(path)["high_loss"]
        assert question["choices"][0] == [{"option": "map", "value": "val_bpb=loss"}]
        assert runs(read(path, metric="perplexity"))[0].loss == pytest.approx(3.4843, rel=1e-4)


class TestSizes:
    def test_an_odd_number_of_tokens_for_each_parameter(self, path: Path) -> None:
        write_csv(path, grid({"n_params": "60"}))
        question = asked(path)["odd_sizes"]
        assert [{"option": "unit", "value": "n_params=M"}] in question["choices"]
        assert runs(read(path, units={"n_params": "M"}))[0].params == 6e7
        assert runs(read(path, units={"n_params": "1", "n_tokens": "1"}))[0].params == 60

    def test_a_constant(self, path: Path) -> None:
        write_csv(path, [{k: v for k, v in row.items() if k != "batch_size_tokens"} for row in grid()])
        assert "missing_columns" in asked(path)
        assert {run.batch_tokens for run in runs(read(path, constants={"batch_tokens": "512k"}))} == {512000}

    def test_accumulated_batches(self, path: Path) -> None:
        write_csv(
            path, grid({"accumulation_steps": "4", "seq_len": "1024", "batch_size_tokens": ..., "batch_size": "16"})
        )
        assert "accumulated" in asked(path)
        parts = read(path, column_map={"batch_size": "micro_batch"}, constants={"devices": "2"})
        assert runs(parts)[0].batch_tokens == 16 * 4 * 2 * 1024
        assert runs(read(path, column_map={"batch_size": "batch_sequences"}))[0].batch_tokens == 16 * 1024


class TestAsData:
    def test_everything_is_asked_at_once_with_its_flags(self, path: Path) -> None:
        write_csv(path, grid({"mixer": "a", "n_params": ...}, {"mixer": "b", "n_params": ...}))
        with pytest.raises(Doubted, match=r"2 questions are open, and nothing was stored") as found:
            read_file(path)
        assert all(words in str(found.value) for words in ("--map COLUMN=FIELD", "--split mixer", "--pool mixer"))

    def test_each_choice_is_an_option_that_answers(self, path: Path) -> None:
        write_csv(path, grid({"mixer": "a"}, {"mixer": "b"}))
        for choice in asked(path)["settings_or_seeds"]["choices"]:
            options = IngestOptions()
            for answer in choice:
                options = options.answered(answer["option"], answer["value"])
            assert read_file(path, options).sweeps

    def test_a_question_comes_back_from_json(self, path: Path) -> None:
        write_csv(path, grid({"mixer": "a"}, {"mixer": "b"}))
        question = json.loads(json.dumps(asked(path)["settings_or_seeds"]))
        assert "differ in 'mixer'" in tell({"code": question["code"], "data": question["data"]})

    def test_an_option_that_answers_nothing(self) -> None:
        with pytest.raises(ValueError, match="answers no question"):
            IngestOptions().answered("recipe", "x")


class TestCommand:
    @pytest.fixture
    def doubted(self, path: Path) -> Path:
        return write_csv(path, grid({"mixer": "a"}, {"mixer": "b"}))

    def ingest(self, tmp_path: Path, *words: object) -> int:
        return command(["--database", str(tmp_path / "x.db"), "ingest", *map(str, words)])

    def test_nothing_is_stored_and_the_code_is_3(self, doubted: Path, tmp_path: Path) -> None:
        assert self.ingest(tmp_path, doubted) == ExitCode.REJECTED
        assert not (tmp_path / "x.db").exists()

    def test_json_has_the_questions(self, doubted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert self.ingest(tmp_path, doubted, "--json") == ExitCode.REJECTED
        document = json.loads(capsys.readouterr().out)
        assert [question["code"] for question in document["failed"][0]["questions"]] == ["ingest.settings_or_seeds"]

    @pytest.mark.parametrize("flags", [["--split", "mixer"], ["--yes"]], ids=["answered", "safe"])
    def test_answers(self, flags: Sequence[str], doubted: Path, tmp_path: Path) -> None:
        assert self.ingest(tmp_path, doubted, *flags) == ExitCode.OK
        with Store.open(tmp_path / "x.db") as store:
            assert sorted(found.recipe.name for found in store.recipes()) == ["sweep-a", "sweep-b"]

    def test_a_mapping_file_is_written_filled_in_and_used_again(self, doubted: Path, tmp_path: Path) -> None:
        mapping = tmp_path / "mapping.json"
        assert self.ingest(tmp_path, doubted, "--mapping", mapping) == ExitCode.REJECTED
        document = json.loads(mapping.read_text())
        (question,) = document["questions"]
        question["answer"] = question["choices"][question["safe"]]
        mapping.write_text(json.dumps(document))
        assert self.ingest(tmp_path, doubted, "--mapping", mapping) == ExitCode.OK
        assert json.loads(mapping.read_text()) == {
            "schema": "lawfit.mapping/1",
            "answers": [{"option": "split", "value": "mixer"}],
            "questions": [],
        }
        assert self.ingest(tmp_path, doubted, "--mapping", mapping) == ExitCode.OK

    def test_a_mapping_file_that_is_none(self, doubted: Path, tmp_path: Path) -> None:
        (tmp_path / "mapping.json").write_text("{}")
        assert self.ingest(tmp_path, doubted, "--mapping", tmp_path / "mapping.json") == ExitCode.FAILED


class TestLevelsWithRatesOfTheirOwn:
    """A second optimizer is swept around another best rate: no run of the one is a seed of the other's."""

    def table(self, tmp_path: Path, *, rates: int = 3, factor: float = 0.1, column: str = "impl") -> Path:
        lines = [
            f"{params:.0f},{20 * params:.0f},65536,{base * 2.0**k:.6g},{3 - 1e-9 * params + 0.01 * k**2 + extra},{name}"
            for params in (1e7, 3e7, 1e8)
            for name, base, extra in (("fused", 1e-2, 0.0), ("lion", 1e-2 * factor, 0.01))
            for k in range(-(rates // 2), rates - rates // 2)
        ]
        path = tmp_path / "sweep.csv"
        path.write_text(f"params,tokens,batch_tokens,lr,loss,{column}\n" + "\n".join(lines) + "\n")
        return path

    @pytest.mark.parametrize("column", ["impl", "variant", "kernel_choice"])
    def test_are_asked_about_and_split(self, tmp_path: Path, column: str) -> None:
        question = asked(self.table(tmp_path, column=column))["settings_or_seeds"]
        assert question["columns"] == [column]
        assert question["data"]["levels"] == ["fused", "lion"]
        found = read_file(self.table(tmp_path, column=column), IngestOptions(split=(column,)))
        assert sorted(len(sweep.runs) for sweep in found.sweeps) == [9, 9]

    def test_one_rate_each_is_no_sweep(self, tmp_path: Path) -> None:
        assert len(read_file(self.table(tmp_path, rates=1), IngestOptions()).sweeps) == 1

    def test_a_machine_that_runs_were_spread_over_is_none(self, tmp_path: Path) -> None:
        path = self.table(tmp_path, rates=7, factor=0.5, column="host")
        assert len(read_file(path, IngestOptions()).sweeps) == 1
