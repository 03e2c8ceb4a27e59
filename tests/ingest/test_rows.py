"""Rows become runs, or a rejection with line, column and reason; recipes are split by what is held fixed."""

from __future__ import annotations

import csv
import dataclasses
import itertools
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lawfit.errors import LogFormatError
from lawfit.ingest.formats.delimited import CSV
from lawfit.ingest.numbers import CellError, number
from lawfit.ingest.options import IngestOptions
from lawfit.ingest.read import read_file
from lawfit.records import RunStatus
from tests.ingest.tables import GOOD, csv_text, only_rejection, read, rows, runs, write_csv, write_jsonl


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sweep.csv"


@pytest.mark.parametrize(
    ("column", "cell", "reason"),
    [
        ("learning_rate", "0", "'0' is zero; it must be above zero"),
        ("learning_rate", "-0.001", "'-0.001' is negative; it must be above zero"),
        ("learning_rate", "1e-3 %", "has a percent sign; write the plain number, 1e-05 if it is a percentage"),
        ("learning_rate", "0.1%", "write the plain number, 0.001 if"),
        ("learning_rate", "nan", "is not a finite number"),
        ("learning_rate", "inf", "is not a finite number"),
        ("learning_rate", "1e400", "is not a finite number"),
        ("learning_rate", "", "the cell is empty"),
        ("learning_rate", "cosine", "'cosine' is not a number"),
        ("learning_rate", "1_000", "thousands separators"),
        ("learning_rate", "١", "is not a number"),
        ("learning_rate", "1e300", "is not a finite number"),  # times a batch it would be none
        ("n_params", "1e301", "is not a finite number"),
        ("n_params", "0.1", "'0.1' is less than one; is it in another unit"),  # billions among plain numbers
        ("n_tokens", "0.1", "'0.1' is less than one; is it in another unit"),
        ("weight_decay", "1e300", "is not a finite number"),
        ("weight_decay", "inf", "is not a finite number"),
        ("learning_rate", "2m", "'2m' has a unit"),
        ("final_loss", "3,125", "has thousands separators; write 3125"),  # or 3.125: only a person knows
        ("n_tokens", "1.2", "1.2 tokens are less than one batch of 524288"),
        ("batch_size_tokens", "512k tok", "is not a plain number"),
        ("batch_size_tokens", "0", "is zero"),
        ("final_loss", "", "no loss (and nothing says that the run diverged)"),
        ("final_loss", "n/a", "no loss"),
        ("final_loss", "0", "the loss is 0; a loss in nats per token is above zero"),
        ("final_loss", "-2.1", "the loss is -2.1"),
        ("final_loss", "3.1 nats", "is not a plain number"),
        ("weight_decay", "-0.1", "is negative; it must be zero or above"),
        ("weight_decay", "0.1%", "percent sign"),
        ("steps", "0", "is zero"),
        ("steps", "10.5", "is not a whole number"),
        ("seed", "x", "is not a number"),
        ("seed", "1" * 25, "too large"),
        ("diverged", "maybe", "neither yes (1, true) nor no (0, false)"),
        ("completed", "0", "did not complete"),
        ("status", "running", "the status is 'running', not finished"),
    ],
)
def test_what_is_rejected(path: Path, column: str, cell: str, reason: str) -> None:
    filler = {
        "weight_decay": "0.1",
        "steps": "2289",
        "seed": "1",
        "diverged": "0",
        "completed": "1",
        "status": "finished",
    }
    found = read(write_csv(path, rows(filler, {**filler, column: cell}, filler)))
    rejection = only_rejection(found)
    assert (rejection.file, rejection.line, rejection.column) == ("sweep.csv", 3, column)
    assert reason in rejection.reason
    assert [run.run_key for run in runs(found)] == ["r1", "r3"]
    assert found.rows == 3


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_any_number_as_python_prints_it(value: float) -> None:
    assert number(repr(value)) == number(value) == value


@given(st.text(max_size=12))
def test_a_cell_is_a_number_or_has_a_reason(text: str) -> None:
    try:
        value = number(text)
    except CellError as error:
        assert str(error)  # noqa: PT017
    else:
        assert value == float(text.strip()) or value != value  # float takes fewer kinds of blanks


@pytest.mark.parametrize("column", ["learning_rate", "n_params", "n_tokens", "batch_size_tokens"])
def test_what_is_known_of_like_rows_is_not_taken_for_others(tmp_path: Path, column: str) -> None:
    """Sizes and rate are read once for all rows that share them, and yes is no 1, which Python would find for it."""
    numbers = {name: float(cell) for name, cell in GOOD.items() if name != "run_id"}
    table = rows(*[numbers] * 8, numbers | {column: 1}, numbers | {column: True}, numbers | {column: "x"}, numbers)
    found = read(write_jsonl(tmp_path / "sweep.jsonl", table), yes=True)
    reasons = {each.line: each.reason for each in found.rejections if each.column == column}
    assert reasons[10] == "'true' is not a number"
    assert reasons[11] == "'x' is not a number"
    assert [run.run_key for run in runs(found)][-1] == "r12"


@pytest.mark.parametrize("cell", ['"a,b"', '"a ""b"""', "a\rb", "a;b", " a ", "", "x" * 140_000])
def test_a_line_without_quotes_is_parted_as_csv_parts_it(tmp_path: Path, cell: str) -> None:
    text = f"{','.join(GOOD)},note\n{','.join(map(str, GOOD.values()))},{cell}\n"
    path = tmp_path / "sweep.csv"
    path.write_bytes(text.encode())
    table, refused = CSV.read(path), list[str]()
    lines: list[list[str]] = []
    try:
        lines += csv.reader([line + "\n" for line in text.split("\n")[1:-1]], strict=True)
    except csv.Error as error:
        refused.append(f"not readable: {error}")
    assert [list(cells) for _, cells in table.rows] == lines
    assert [each.reason for each in table.rejections] == refused


class TestOutcome:
    @pytest.mark.parametrize("cell", ["nan", "NaN", "inf", "-inf", "Infinity", "1e999", "1e300", "-1e300"])
    def test_a_loss_that_is_not_finite_is_a_divergence(self, path: Path, cell: str) -> None:
        (run,) = runs(read(write_csv(path, rows({"final_loss": cell}))))
        assert (run.status, run.loss, run.extra["final_loss"]) == (RunStatus.DIVERGED, None, cell)

    @pytest.mark.parametrize("change", [{"diverged": "1"}, {"diverged": "True"}, {"status": "diverged"}])
    @pytest.mark.parametrize("loss", ["7.5", "nan", "", ">10", "blew up", "9,75"])
    def test_a_flag_is_a_divergence_whatever_the_loss(self, path: Path, change: dict[str, str], loss: str) -> None:
        found = read(write_csv(path, rows({**change, "final_loss": loss}, {"final_loss": "3"})))
        run = runs(found)[0]
        assert (run.status, run.loss) == (RunStatus.DIVERGED, None)
        assert found.diverged == 1
        assert any("1 run diverged (1 marked so in" in note for note in found.notes)

    def test_an_empty_flag_leaves_it_to_the_loss(self, path: Path) -> None:
        found = read(write_csv(path, rows({"diverged": ""}, {"diverged": "1"})))
        assert [run.status.value for run in runs(found)] == ["finished", "diverged"]

    def test_every_run_may_diverge(self, path: Path) -> None:
        found = read(write_csv(path, rows(*({"final_loss": "nan"} for _ in range(5)))))
        assert found.diverged == len(runs(found)) == 5


class TestBatch:
    def test_sequences_times_length(self, path: Path) -> None:
        table = rows({"batch_size_tokens": ..., "batch_size_sequences": "256", "seq_len": "2048"})
        found = read(write_csv(path, table))
        assert runs(found)[0].batch_tokens == 524288
        assert found.sweeps[0].recipe.seq_len == 2048

    def test_length_from_the_user_fills_what_is_empty(self, path: Path) -> None:
        table = rows(
            {"batch_size_tokens": ..., "batch_size_sequences": "256", "seq_len": "1024"},
            {"batch_size_tokens": ..., "batch_size_sequences": "256", "seq_len": ""},
        )
        found = read(write_csv(path, table), seq_len=2048)
        assert sorted(run.batch_tokens for run in runs(found)) == [262144, 524288]
        assert {sweep.recipe.seq_len for sweep in found.sweeps} == {1024, 2048}

    def test_a_row_without_length(self, path: Path) -> None:
        table = rows(
            {"batch_size_tokens": ..., "batch_size_sequences": "256", "seq_len": "1024"},
            {"batch_size_tokens": ..., "batch_size_sequences": "256", "seq_len": ""},
        )
        assert "the sequence length is not known" in only_rejection(read(write_csv(path, table))).reason

    def test_tokens_and_sequences_must_agree(self, path: Path) -> None:
        table = rows(
            {"batch_size_tokens": "524288", "batch_size_sequences": "256", "seq_len": "2048"},
            {"batch_size_tokens": "5.25e5", "batch_size_sequences": "256", "seq_len": "2048"},  # rounded in print
            {"batch_size_tokens": "524288", "batch_size_sequences": "512", "seq_len": "2048"},
        )
        found = read(write_csv(path, table))
        rejection = only_rejection(found)
        assert rejection.line == 4
        assert rejection.reason == "524288 tokens per batch, but 512 sequences x 2048 tokens are 1048576"
        assert [run.batch_tokens for run in runs(found)] == [524288, 525000]

    def test_tokens_from_steps(self, path: Path) -> None:
        found = read(write_csv(path, rows({"n_tokens": ..., "steps": "2000"})))
        assert runs(found)[0].tokens == 2000 * 524288
        assert found.columns["tokens"].startswith("steps x batch size")

    @pytest.mark.parametrize(("steps", "said"), [("4578", True), ("1144", True), ("2400", False), ("2180", False)])
    def test_a_unit_that_is_probably_wrong_is_said(self, path: Path, steps: str, said: bool) -> None:
        """Either way: 2,289 steps are the tokens of the row, and 5 % more or less may be how they were counted."""
        found = read(write_csv(path, rows({"steps": "2289"}, {"steps": steps})))
        assert any("in 1 row steps x batch is not tokens" in note for note in found.notes) == said

    @pytest.mark.parametrize("tokens", ["524288", "600000", "1048575"])
    def test_tokens_of_at_least_one_batch_are_taken(self, path: Path, tokens: str) -> None:
        assert runs(read(write_csv(path, rows({"n_tokens": tokens}))))[0].tokens == float(tokens)

    def test_one_cell_refuses_its_row_and_no_other(self, path: Path) -> None:
        found = read(write_csv(path, rows({}, {"n_tokens": "1e300"}, {"n_tokens": "520000"}, {"n_tokens": "524200"})))
        assert [run.run_key for run in runs(found)] == ["r1", "r4"]
        assert [(r.line, r.column) for r in found.rejections] == [(3, "n_tokens"), (4, "n_tokens")]


class TestKeys:
    def test_without_ids_the_settings_are_the_key(self, path: Path) -> None:
        table = rows({"run_id": ...}, {"run_id": ..., "learning_rate": "0.004"})
        first = runs(read(write_csv(path, table)))
        again = runs(read(write_csv(path, list(reversed(table)))))
        assert {run.run_key for run in first} == {run.run_key for run in again}
        assert len({run.run_key for run in first}) == 2
        rewritten = [{**row, "learning_rate": f"{float(row['learning_rate']):e}"} for row in table]
        assert {run.run_key for run in runs(read(write_csv(path, rewritten)))} == {run.run_key for run in first}

    def test_a_corrected_result_keeps_the_key_and_a_setting_changes_it(self, path: Path) -> None:
        def key(**changes: str) -> str:
            return runs(read(write_csv(path, rows({"run_id": ..., **changes}))))[0].run_key

        assert key(beta2="0.95", tokens_per_second="9") == key(beta2="0.95", final_loss="3.3", tokens_per_second="8")
        assert key(beta2="0.95") != key(beta2="0.99")
        assert key(seed="1") != key(seed="2")

    def test_replicates_are_counted(self, path: Path) -> None:
        table = rows(*({"run_id": ..., "final_loss": str(3 + n / 100)} for n in range(3)))
        keys = [run.run_key for run in runs(read(write_csv(path, table)))]
        assert keys == [keys[0], f"{keys[0]}-2", f"{keys[0]}-3"]

    def test_a_repeated_row_is_rejected(self, path: Path) -> None:
        table = rows({"run_id": ...}, {"run_id": ..., "seed": ...}, {"run_id": ..., "learning_rate": "0.004"})
        found = read(write_csv(path, table))
        assert only_rejection(found).reason == "the same row as line 2"
        assert len(runs(found)) == 2

    def test_an_id_used_twice(self, path: Path) -> None:
        found = read(write_csv(path, rows({"run_id": "x"}, {"run_id": "x", "final_loss": "3.1"})))
        rejection = only_rejection(found)
        assert (rejection.line, rejection.column) == (3, "run_id")
        assert "run 'x' stands in line 2 already, with other values" in rejection.reason

    @pytest.mark.parametrize("names", [["a", "b", "c"], ["a", "b", "a"]], ids=["unique", "repeated"])
    def test_names_are_ids_only_where_unique(self, path: Path, names: list[str]) -> None:
        table = rows(*({"run_id": ..., "name": n, "learning_rate": f"{i + 1}e-3"} for i, n in enumerate(names)))
        found = read(write_csv(path, table))
        assert not found.rejections
        keys = [run.run_key for run in runs(found)]
        assert (keys == names) == (names == ["a", "b", "c"])
        assert len(set(keys)) == 3


class TestRecipes:
    def test_one_recipe_is_called_like_the_file(self, tmp_path: Path) -> None:
        found = read(write_csv(tmp_path / "my sweep (v2).csv", rows({}, {})))
        assert [sweep.recipe.name for sweep in found.sweeps] == ["my-sweep-v2"]

    @pytest.mark.parametrize(
        ("column", "one", "two", "names"),
        [
            ("optimizer", "AdamW", "muon", ["sweep-adamw", "sweep-muon"]),
            ("corpus", "c4", "", ["sweep-c4", "sweep-unknown_data"]),
            ("seq_len", "2048", "4096", ["sweep-seq2048", "sweep-seq4096"]),
            ("n_params_kind", "total", "non_embedding", ["sweep-total", "sweep-non_embedding"]),
            ("schedule", "cosine to 10%", "wsd", ["sweep-cosine-to-10", "sweep-wsd"]),
            ("model_family", "llama", "xlstm", ["sweep-llama", "sweep-xlstm"]),
            ("weight_decay_kind", "coupled", "independent", ["sweep", "sweep-independent"]),
        ],
    )
    def test_what_is_held_fixed_splits(self, path: Path, column: str, one: str, two: str, names: list[str]) -> None:
        found = read(write_csv(path, rows({column: one}, {column: two}, {column: one})))
        assert [sweep.recipe.name for sweep in found.sweeps] == names
        assert [len(sweep.runs) for sweep in found.sweeps] == [2, 1]
        assert len({sweep.recipe.key for sweep in found.sweeps}) == 2
        assert any("holds 2 recipes, which are kept apart" in note for note in found.notes)

    @pytest.mark.parametrize(
        "column", ["hidden_size", "n_layers", "n_heads", "ffn_size", "seed", "warmup_steps", "weight_decay", "beta2"]
    )
    def test_shape_seed_and_tuned_settings_do_not(self, path: Path, column: str) -> None:
        found = read(write_csv(path, rows({column: "512"}, {column: "1024"})))
        assert len(found.sweeps) == 1

    def test_weight_decay_of_no_stated_kind_is_coupled(self, path: Path) -> None:
        """The shipped sweep began without the column."""
        found = read(write_csv(path, rows({"weight_decay_kind": ""}, {"weight_decay_kind": "coupled"})))
        assert [(sweep.recipe.name, len(sweep.runs), sweep.recipe.extra) for sweep in found.sweeps] == [
            ("sweep", 2, {})
        ]
        silent = read(write_csv(path, rows({}, {})))
        assert silent.sweeps[0].recipe.key == found.sweeps[0].recipe.key
        stated = read(path, recipe_fields={"weight_decay_kind": "independent"})
        assert stated.sweeps[0].recipe.extra == {"weight_decay_kind": "independent"}

    @pytest.mark.parametrize(
        ("one", "two", "named"),
        [
            ({"beta2": "0.9", "n_layers": "4"}, {"beta2": "0.99", "n_layers": "6"}, "beta2"),
            ({"qk_norm": "0", "precision": "bf16"}, {"qk_norm": "1", "precision": "fp32"}, "qk_norm, precision"),
            ({"clip": "0.5"}, {"clip": ""}, "clip"),  # the trainer's table leaves out what is as usual
        ],
    )
    def test_settings_that_vary_are_said(
        self, path: Path, one: dict[str, str], two: dict[str, str], named: str
    ) -> None:
        found = read(write_csv(path, rows(one, two)))
        assert any(f"these settings vary too: {named};" in note for note in found.notes)

    def test_spelling_of_the_optimizer_does_not_split(self, path: Path) -> None:
        found = read(write_csv(path, rows({"optimizer": "AdamW"}, {"optimizer": " adamw"})))
        assert [sweep.recipe.optimizer for sweep in found.sweeps] == ["adamw"]

    def test_a_convention_that_is_not_known_is_kept_apart(self, path: Path) -> None:
        found = read(write_csv(path, rows({"n_params_kind": "as_plotted"}, {"n_params_kind": "nominal"})))
        assert [sweep.recipe.params_convention for sweep in found.sweeps] == ["", ""]
        assert len({sweep.recipe.key for sweep in found.sweeps}) == 2
        assert any("'as_plotted, nominal' counts is no convention that lawfit knows" in note for note in found.notes)

    def test_what_the_user_states(self, path: Path) -> None:
        write_csv(path, rows({}, {}))
        fields = {"optimizer": "adamw", "schedule": "wsd", "params_convention": "total", "gpu": "h100"}
        recipe = read(path, recipe="mine", recipe_fields=fields).sweeps[0].recipe
        assert (recipe.name, recipe.optimizer, recipe.schedule, recipe.params_convention) == (
            "mine",
            "adamw",
            "wsd",
            "total",
        )
        assert recipe.extra == {"gpu": "h100"}

    def test_what_the_user_states_must_not_contradict_the_row(self, path: Path) -> None:
        write_csv(path, rows({"optimizer": "adamw"}, {"optimizer": "lion"}, {"optimizer": ""}))
        found = read(path, recipe_fields={"optimizer": "AdamW"})
        assert only_rejection(found).reason == "the row says optimizer 'lion', you said 'AdamW'"
        assert [len(sweep.runs) for sweep in found.sweeps] == [2]

    def test_unknown_columns_stay_with_the_run(self, path: Path) -> None:
        row = {
            "width": "512",
            "beta2": "0.95",
            "commit": "39e56789",
            "hash": "007",
            "lr_text": "1e-3",
            "none": "",
        }
        (run,) = runs(read(write_csv(path, rows(row))))
        assert run.extra == {"width": 512, "beta2": 0.95, "commit": "39e56789", "hash": "007", "lr_text": "1e-3"}


def test_a_run_that_stands_before_its_last_step_is_not_finished(path: Path) -> None:
    found = read(
        write_csv(path, rows(*({"n_tokens": ..., "max_steps": "3000", "step": at} for at in ("3000", "1200"))))
    )
    assert [run.steps for run in runs(found)] == [3000]
    assert "the run stands at step 1200 of 3000" in only_rejection(found).reason


def test_lrs_that_differ_in_print_stay_as_they_are(path: Path) -> None:
    found = read(write_csv(path, rows({"learning_rate": "0.00276"}, {"learning_rate": "0.002762"})))
    assert [run.lr for run in runs(found)] == [0.00276, 0.002762]


def test_when_no_row_can_be_read_the_file_is_refused(path: Path) -> None:
    path.write_text(csv_text(rows({})).splitlines()[0] + "\n1,2\n3\n")
    with pytest.raises(LogFormatError, match=r"no row can be read; line 2: the row has 2 cells"):
        read(path)


PUBLIC: dict[str, tuple[int, int, int, int]] = {  # rows, runs, diverged, recipes: counted from the files by other means
    "step_law_dense.csv": (1627, 1627, 155, 1),
    "marin_optimizer_sweep.csv": (2063, 1947, 191, 12),
    "xlstm_scaling_runs.csv": (459, 429, 3, 5),
    "marin_isoflop_lr_bs.csv": (273, 177, 0, 2),
    "olmo_ladder_runs.csv": (30, 24, 0, 1),
}


@pytest.mark.parametrize("name", PUBLIC)
def test_published_sweeps(shared_data: Path, name: str) -> None:
    found = read(next(shared_data.rglob(name)))
    taken = len(runs(found))
    assert (found.rows, taken, found.diverged, len(found.sweeps)) == PUBLIC[name]
    assert taken + len(found.rejections) == found.rows


@pytest.mark.parametrize(
    "name",
    ["deberta_finetune_random_search", "nanochat_optimal_weight_decay"],
)
def test_published_tables_without_what_is_needed(shared_data: Path, name: str) -> None:
    with pytest.raises(LogFormatError, match=r"has no column for: .*empty in every row: "):
        read(next(shared_data.rglob(f"{name}.csv")))


@pytest.mark.parametrize(("name", "count"), [("chinchilla_digitised", 234), ("gemstones_checkpoints", 4049)])
def test_published_tables_without_a_learning_rate_are_losses(shared_data: Path, name: str, count: int) -> None:
    found = read(next(shared_data.rglob(f"{name}.csv")))
    assert (found.sweeps, sum(len(sweep.rows) for sweep in found.losses)) == ((), count)
    assert "no learning rate was logged" in "".join(found.notes)


def test_step_law(shared_data: Path) -> None:
    found = read(next(shared_data.rglob("step_law_dense.csv")))
    recipe = found.sweeps[0].recipe
    assert (recipe.params_convention, recipe.seq_len, recipe.loss_column) == ("non_embedding", 2048, "smooth_loss")
    assert recipe.loss_kind == "train_cross_entropy_nats"
    assert len({(run.params, run.tokens) for run in runs(found)}) == 14
    assert "learning_rate" in found.columns["lr"]
    values = dataclasses.asdict(next(run for run in runs(found) if "lr3.453e-04_bs736_ti66342" in run.run_key))
    wanted = {"params": 214663680, "tokens": 1e11, "batch_tokens": 1507328, "lr": 0.0003453, "loss": 2.3976109618296744}
    assert {key: values[key] for key in wanted} == wanted
    assert values["extra"]["final_loss"] == 2.413517


@pytest.mark.parametrize(
    ("cell", "parametrization"), [("True", "mup"), ("yes", "mup"), ("1", "mup"), ("false", "standard"), ("", "")]
)
@pytest.mark.parametrize("column", ["use_mup", "mup"])
def test_a_flag_of_mup_is_the_parametrization(path: Path, column: str, cell: str, parametrization: str) -> None:
    """Runs that say so in a yes or no must not pass for standard ones: published laws would lend to them."""
    write_csv(path, rows({column: cell}, {column: cell}))
    (found,) = read(path).sweeps
    assert found.recipe.parametrization == parametrization


def test_mup_and_standard_runs_are_two_recipes(path: Path) -> None:
    write_csv(path, rows({"use_mup": True}, {"use_mup": False}))
    assert {sweep.recipe.parametrization for sweep in read(path).sweeps} == {"mup", "standard"}


def test_true_is_no_number_whichever_comes_first(path: Path) -> None:
    """Cells that Python finds equal: a flag and a count of one."""
    found, sizes = set(), {"params": 1e6, "tokens": 2e7, "batch_tokens": 8192}
    for order in itertools.permutations([1, True, 1, "1"]):
        rows = [{**sizes, "lr": 1e-4 * (k + 1), "loss": 3 + k / 10, "heads": cell} for k, cell in enumerate(order)]
        path.with_suffix(".jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
        read = read_file(path.with_suffix(".jsonl"), IngestOptions(yes=True, split=("heads",)))
        found.add(tuple(sorted((str(dict(sweep.recipe.extra)), len(sweep.runs)) for sweep in read.sweeps)))
    assert found == {(("{'heads': '1'}", 3), ("{'heads': 'True'}", 1))}
