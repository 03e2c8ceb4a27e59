"""Columns are recognised by name, never guessed between units, and overridden on request."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lawfit.errors import LogFormatError
from lawfit.factors import normal
from lawfit.ingest import IngestOptions
from lawfit.ingest.columns import recognise
from lawfit.ingest.names import NAMES
from lawfit.ingest.table import Table
from tests.ingest.tables import read, rows, runs, write_csv


def table(header: str, *lines: str) -> Table:
    columns = tuple(header.split(","))
    given = lines or (",".join("1" for _ in columns),)
    body = tuple((n, tuple(line.split(","))) for n, line in enumerate(given, start=2))
    return Table(name="sweep.csv", format="csv", columns=columns, rows=body)


def taken(header: str, *lines: str, **options: Any) -> dict[str, str]:
    """field -> column."""
    given = table(header, *lines)
    found = recognise(given, IngestOptions(**options))
    return {field: given.columns[place] for field, place in found.places.items()}


REST = {"lr": "lr", "params": "params", "tokens": "tokens", "batch_tokens": "batch_tokens", "loss": "loss"}


@pytest.mark.parametrize(
    ("column", "field"),
    [
        *((name, "lr") for name in ("lr", "learning_rate", "peak_lr", "max_lr", "optimizer.lr", "optim.lr")),
        *((name, "lr") for name in ("Learning Rate", "learningRate", "LR (peak)", "config/learning_rate")),
        *((name, "lr") for name in ("config.optimizer.learning_rate", "hparams/optimizer.lr")),
        *((name, "params") for name in ("n_params", "N", "num_params", "non_embedding_params", "total params")),
        *((name, "tokens") for name in ("n_tokens", "D", "total_tokens", "training_tokens", "train.max_tokens")),
        *((name, "batch_tokens") for name in ("batch_size_tokens", "batch size (tokens)", "tokens_per_step")),
        *((name, "batch_tokens") for name in ("training.num_tokens_per_train_step", "global_batch_tokens")),
        *((name, "loss") for name in ("loss", "final_loss", "val_loss", "eval/loss", "validation/loss", "train/loss")),
        *((name, "steps") for name in ("steps", "max_iters", "trainer.num_train_steps", "train_iters")),
        *((name, "weight_decay") for name in ("wd", "optimizer.weight_decay", "optim.weight_decay", "weight_decay")),
        *((name, "seed") for name in ("seed", "random_seed", "trainer.seed")),
        *((name, "optimizer") for name in ("optimizer", "optimizer.name", "optim")),
        *((name, "schedule") for name in ("schedule", "lr_scheduler_type", "lr_decay_style")),
        *((name, "data") for name in ("corpus", "dataset", "data")),
        *((name, "run_id") for name in ("run_id", "trial_id", "run_name", "id", "Name")),
        *((name, "seq_len") for name in ("seq_len", "block_size", "seq_length", "model.max_sequence_length")),
        *((name, "seq_len") for name in ("max_seq_len", "training.max_context_length", "context_length")),
    ],
)
def test_names_that_trainers_and_people_write(column: str, field: str) -> None:
    columns = [name for known, name in REST.items() if known != field]
    assert taken(",".join([*columns, column]))[field] == column


@pytest.mark.parametrize(
    "column",
    [
        *(
            "min_learning_rate",
            "final_learning_rate",
            "min_lr_ratio",
            "lr_scheduler_step",
            "tokens_per_param",
            "target_loss",
        ),
        *("loss_scale", "n_layers", "batch_time", "tokens (B)", "params_millions", "accuracy", "seconds_per_step"),
    ],
)
def test_names_that_mean_something_else(column: str) -> None:
    assert column not in taken(f"lr,params,tokens,batch_tokens,loss,{column}").values()


def test_no_name_stands_for_two_fields() -> None:
    seen: dict[str, str] = {}
    for field, names in NAMES.items():
        for name in names:
            assert normal(name) == name
            assert seen.setdefault(name, field) == field, name


class TestBatch:
    @pytest.mark.parametrize("name", ["batch_size", "global_batch_size", "bs", "total_batch_size", "B"])
    def test_a_bare_batch_size_is_never_guessed(self, name: str) -> None:
        with pytest.raises(
            LogFormatError, match=rf"'{name}' does not say whether it counts tokens or sequences.*--batch"
        ):
            taken(f"lr,params,tokens,{name},loss,seq_len")

    def test_stated_units(self) -> None:
        header = "lr,params,tokens,batch_size,loss,seq_len"
        assert taken(header, batch_unit="tokens")["batch_tokens"] == "batch_size"
        assert taken(header, batch_unit="sequences")["batch_sequences"] == "batch_size"
        assert taken(header, column_map={"batch_size": "batch_tokens"})["batch_tokens"] == "batch_size"

    def test_a_bare_one_beside_a_clear_one_is_left_alone(self) -> None:
        assert "batch_size" not in taken("lr,params,tokens,batch_size,batch_tokens,loss").values()

    def test_sequences_need_a_length(self) -> None:
        header = "lr,params,tokens,batch_size_sequences,loss"
        with pytest.raises(LogFormatError, match=r"is in sequences.*--seq-len"):
            taken(header)
        assert taken(header, seq_len=2048)["batch_sequences"] == "batch_size_sequences"

    def test_one_devices_share_is_not_the_batch(self) -> None:
        with pytest.raises(LogFormatError, match="'per_device_train_batch_size' is one device's share"):
            taken("lr,params,tokens,per_device_train_batch_size,loss")

    @pytest.mark.parametrize("name", ["global_train_batch_size", "trainer.train_batch_size"])
    def test_keys_whose_unit_is_documented(self, name: str) -> None:
        assert taken(f"lr,params,tokens,{name},loss,seq_len")["batch_sequences"] == name


class TestLoss:
    @pytest.mark.parametrize(
        ("columns", "wanted"),
        [
            ("final_loss,smooth_loss", "smooth_loss"),
            ("loss,loss_ema", "loss_ema"),
            ("train_loss,val_loss", "val_loss"),
            ("loss,val_loss,final_loss", "final_loss"),
            ("val_loss,train_loss_smooth", "val_loss"),
            ("train_loss,train_loss_smooth", "train_loss_smooth"),
            ("val_loss,val_loss_smoothed,train_loss_smoothed", "val_loss_smoothed"),
        ],
    )
    def test_which_counts(self, columns: str, wanted: str) -> None:
        assert taken(f"lr,params,tokens,batch_tokens,{columns}")["loss"] == wanted

    def test_an_empty_smoothed_column_does_not_count(self) -> None:
        assert taken("lr,params,tokens,batch_tokens,final_loss,smooth_loss", "1,1,1,1,3,")["loss"] == "final_loss"

    def test_a_smoothed_loss_that_most_rows_lack(self, tmp_path: Path) -> None:
        found = read(write_csv(tmp_path / "s.csv", rows({"smooth_loss": "3.2"}, {}, {}, {"smooth_loss": "3.1"})))
        assert found.sweeps[0].recipe.loss_column == "final_loss"
        assert "the smoothed 'smooth_loss' stands in only 2 of 4 rows" in "".join(found.notes)

    def test_the_choice_is_said_and_stored(self, tmp_path: Path) -> None:
        path = write_csv(tmp_path / "s.csv", rows({"smooth_loss": "3.2"}))
        found = read(path)
        assert found.sweeps[0].recipe.loss_column == "smooth_loss"
        assert any("smoothed, so less noisy than 'final_loss'" in note for note in found.notes)
        other = read(path, column_map={"final_loss": "loss"})
        assert [r.loss for r in runs(other)] == [3.25]
        assert other.sweeps[0].recipe.loss_column == "final_loss"
        assert other.sweeps[0].recipe.key != found.sweeps[0].recipe.key


class TestMissing:
    @pytest.mark.parametrize(
        ("column", "words"),
        [
            ("params", "parameter count"),
            ("tokens", "training tokens"),
            ("batch_tokens", "batch size"),
            ("loss", "loss"),
        ],
    )
    def test_each_is_named_with_what_is_there(self, column: str, words: str) -> None:
        header = ",".join(name for name in (*REST.values(), "other thing") if name != column)
        with pytest.raises(LogFormatError, match=rf"has no column for: {words}.*; its columns are .*other thing"):
            taken(header)

    def test_all_are_said_at_once(self) -> None:
        with pytest.raises(LogFormatError, match=r"learning rate \(lr\), batch size .*, parameter count .*, loss"):
            taken("tokens,x")

    def test_columns_that_are_there_but_empty(self) -> None:
        with pytest.raises(LogFormatError, match="empty in every row: params"):
            taken("lr,params,tokens,batch_tokens,loss", "1,,1,1,1", "1,,1,1,1")

    def test_a_training_curve_is_recognised_as_such(self) -> None:
        with pytest.raises(LogFormatError, match="runs have one row each, not one per step"):
            taken("run_id,step,learning_rate,loss")


class TestMap:
    def test_overrides_a_guess(self) -> None:
        assert taken("lr,eta,params,tokens,batch_tokens,loss", column_map={"eta": "lr"})["lr"] == "eta"

    def test_extra_keeps_a_column_out(self) -> None:
        header = "lr,params,tokens,batch_tokens,loss,status"
        assert "status" not in taken(header, column_map={"status": "extra"})

    @pytest.mark.parametrize(
        ("column_map", "sentence"),
        [
            ({"lrr": "lr"}, "no column 'lrr'; did you mean 'lr'"),
            ({"lr": "learning"}, "'learning' is no field"),
            ({"lr": "param"}, "did you mean 'params'"),
            ({"lr": "loss", "loss": "loss"}, "both 'lr' and 'loss' are mapped to loss"),
        ],
        ids=["column", "field", "near", "twice"],
    )
    def test_mistakes(self, column_map: dict[str, str], sentence: str) -> None:
        with pytest.raises(LogFormatError, match=sentence):
            taken("lr,params,tokens,batch_tokens,loss", column_map=column_map)


def test_a_time_is_no_flag() -> None:
    header = "lr,params,tokens,batch_tokens,loss,finished"
    assert taken(header, "1,1,1,1,3,1", "1,1,1,1,3,0")["completed"] == "finished"
    assert "completed" not in taken(header, "1,1,1,1,3,2026-01-05T10:00", "1,1,1,1,3,")


def test_two_spellings_of_one_name_must_be_told_apart() -> None:
    with pytest.raises(LogFormatError, match="both 'LR' and 'lr' can be the lr"):
        taken("LR,lr,params,tokens,batch_tokens,loss")


@pytest.mark.parametrize(
    ("field", "names", "column"),
    [
        ("weight_decay", ("optimizer.weight_decay", "weight_decay"), "weight_decay"),
        ("lr", ("config.lr", "learning_rate"), "config.lr"),  # what was configured
        ("lr", ("metrics.learning_rate", "lr"), "lr"),  # and not what was logged
        ("lr", ("config.learning_rate", "lr"), "config.learning_rate"),
        ("tokens", ("config.tokens", "tokens"), "tokens"),
        ("tokens", ("summary.tokens", "config.n_tokens"), "summary.tokens"),
        ("seed", ("a.seed", "config.seed", "seed"), "seed"),
    ],
)
@pytest.mark.parametrize("turned", [False, True], ids=["as written", "turned"])
def test_of_two_names_the_better_one_and_of_one_name_the_more_literal(
    field: str, names: tuple[str, ...], column: str, turned: bool
) -> None:
    """The order of the list of names first, then the whole name before one without its wrapper, then a last part."""
    needed = [name for name in ("lr", "params", "tokens", "batch_tokens", "loss") if name != field]
    header = ",".join([*(reversed(names) if turned else names), *needed])
    assert taken(header, ",".join(str(1 + k) for k in range(header.count(",") + 1)))[field] == column


def test_a_second_candidate_is_mentioned_when_it_differs() -> None:
    given = table("lr,params,tokens,batch_tokens,loss,tokens_seen,n", "1,100,2,1,3,2.001,100", "1,90,2,1,3,2.001,80")
    (note,) = recognise(given, IngestOptions()).notes
    assert str(note).startswith("params is 'params'; 'n' could be it too")


@pytest.mark.parametrize(
    ("name", "convention"),
    [("non_embedding_params", "non_embedding"), ("total_params", "total"), ("active_params", "active"), ("params", "")],
)
def test_the_name_of_the_parameter_column_tells_its_convention(name: str, convention: str) -> None:
    assert recognise(table(f"lr,{name},tokens,batch_tokens,loss"), IngestOptions()).params_convention == convention


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"batch_unit": "samples"}, "'tokens' or 'sequences'"),
        ({"seq_len": 0}, "must be from 1 to"),
        ({"seq_len": 10**22}, "must be from 1 to"),
        ({"recipe": " "}, "the recipe name is empty"),
        ({"recipe_fields": {"params_convention": "most"}}, "params_convention is one of"),
        ({"recipe_fields": {"name": "x"}}, "cannot be set"),
        ({"recipe_fields": {"seq_len": "2048"}}, "as seq_len"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        IngestOptions(**options)
