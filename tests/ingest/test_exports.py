"""Kinds of tables that were misread, or asked about without need: other names and values, and one sweep behind all."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from statistics import fmean, median
from typing import Any, Final

import pytest

from lawfit.errors import Doubted
from lawfit.ingest import IngestOptions, read_file
from tests.ingest.tables import runs, write_csv
from tests.ingest.test_misread import PLAIN, RATES, Sheet, Truth, order, truths, without

__all__ = ["order"]  # a fixture

DECAYS: Final = (0.01, 0.1)


@pytest.mark.parametrize(
    ("field", "name"),
    [
        *(
            ("params", name)
            for name in ("num_nonemb_params", "params (non-emb)", "params excl. embedding", "nb_params")
        ),
        *(("params", name) for name in ("total number of parameters", "size_params", "model/param_count")),
        *(("tokens", name) for name in ("train_tok", "training set tokens seen", "tokens_total_seen", "#tokens")),
        *(("batch_tokens", name) for name in ("tokens/step", "bs [tok]", "Tokens/batch", "effective_batch_tokens")),
        *(
            ("batch_tokens", name)
            for name in ("tokens per optimizer step", "batchsize_tokens", "global_tokens_per_step")
        ),
        *(("lr", name) for name in ("η", "maxLR", "peak_lr_value", "opt/lr", "lr peak", "LR (peak)")),
        *(("val_loss", name) for name in ("loss (nats)", "L", "cross-entropy (val)", "valid loss [nats/token]")),
    ],
)
def test_names_as_people_spell_them(tmp_path: Path, field: str, name: str, order: int) -> None:
    extra = {"train_loss": lambda t: t.train} if field == "val_loss" and name != "L" else {}
    Sheet(tmp_path, {**without(field), name: PLAIN[field], **extra}, order).check()


@pytest.mark.parametrize(
    ("name", "times"),
    [("λ", 1), ("AdamW wd", 1), ("weight decay coefficient", 1), ("wd (%)", 100), ("wd x100", 100), ("WD [1e-2]", 100)],
)
def test_weight_decay(tmp_path: Path, name: str, times: float, order: int) -> None:
    decay = {t: DECAYS[t.at % 2] for t in truths(order)}
    found = Sheet(tmp_path, {**PLAIN, name: lambda t: times * decay[t]}, order).check()
    assert sorted({run.weight_decay for run in runs(found)}) == pytest.approx(DECAYS)


@pytest.mark.parametrize(
    ("field", "name"),
    [
        *(("tokens", name) for name in ("tokens (per GPU)", "tokens (last)")),
        *(("lr", name) for name in ("lr (per 256 samples)", "lr (mean)", "learning rate (final)")),
        *(("batch_tokens", name) for name in ("batch_tokens (per device)", "batch tokens (start)")),
        *(("val_loss", name) for name in ("loss per word", "nll/char", "normalized_loss", "loss_at_10k", "loss_step0")),
    ],
)
def test_another_quantity_is_not_taken_for_the_field(tmp_path: Path, field: str, name: str, order: int) -> None:
    part = {**without(field), name: lambda t: PLAIN[field](t) / 4}
    assert Sheet(tmp_path, part, order).codes() & {"missing_columns", "lr_by_its_words", "rate_elsewhere"}
    Sheet(tmp_path, {**PLAIN, name: part[name]}, order).check()


class TestRates:
    @pytest.mark.parametrize("name", ["initial_lr", "lr_init"])
    @pytest.mark.parametrize("rise", ["div_factor", "initial_div_factor", "warmup_steps", "lr_warmup_iters"])
    def test_where_a_schedule_begins(self, tmp_path: Path, name: str, rise: str, order: int) -> None:
        sheet = Sheet(tmp_path, {**without("lr"), name: lambda t: t.lr / 25, rise: lambda t: 25}, order)
        assert sheet.codes() == {"first_rate"}
        sheet.check(units={name: "25"})

    def test_where_nothing_rises_it_is_the_peak(self, tmp_path: Path, order: int) -> None:
        Sheet(tmp_path, {**without("lr"), "initial_lr": lambda t: t.lr, "warmup_steps": lambda t: 0}, order).check()

    @pytest.mark.parametrize("share", [0.001, 0.002])
    def test_last_ones_with_few_digits(self, tmp_path: Path, share: float, order: int) -> None:
        sheet = Sheet(tmp_path, {**without("lr"), "lr": lambda t: float(f"{t.lr * share:.2g}")}, order)
        assert sheet.codes() == {"lr_decayed"}

    @pytest.mark.parametrize("text", ["--lr {:g} --bs 8", "train.py lr={:g} wd=0.1"])
    def test_a_command_line_that_says_another(self, tmp_path: Path, text: str, order: int) -> None:
        columns = {**without("lr"), "lr": lambda t: t.lr / 10, "args": lambda t: text.format(t.lr)}
        sheet = Sheet(tmp_path, columns, order)
        assert sheet.codes() == {"two_columns"}
        sheet.check(column_map={"args": "lr"})
        Sheet(tmp_path, {**columns, "lr": PLAIN["lr"]}, order).check()

    def test_in_some_rows_in_another_unit(self, tmp_path: Path, order: int) -> None:
        sheet = Sheet(tmp_path, {**without("lr"), "lr": lambda t: t.lr if t.lr > 0.001 else t.lr * 1e4}, order)
        assert sheet.codes() == {"mixed_units"}


class TestRowsThatSumUp:
    @pytest.mark.parametrize("made", [fmean, sum, median, min], ids=["mean", "sum", "median", "lowest"])
    @pytest.mark.parametrize("first", [True, False])
    def test_without_a_name(self, tmp_path: Path, made: Callable[[Any], float], first: bool, order: int) -> None:
        rows = [{name: cell(t) for name, cell in PLAIN.items()} for t in truths(order)]
        made_row = {name: made([row[name] for row in rows]) for name in PLAIN}
        path = write_csv(tmp_path / "sheet.csv", [made_row, *rows] if first else [*rows, made_row])
        found = read_file(path)
        assert len(runs(found)) == len(rows)
        assert ["and no run" in rejection.reason for rejection in found.rejections] == [True]

    def test_the_smallest_of_all_runs_is_one(self, tmp_path: Path) -> None:
        rows = [{name: cell(t) for name, cell in PLAIN.items()} for t in truths(0)]
        lowest = {**rows[0], "lr": 0.0005, "val_loss": min(row["val_loss"] for row in rows) - 0.1}
        assert len(runs(read_file(write_csv(tmp_path / "sheet.csv", [*rows, lowest])))) == len(rows) + 1


class TestHeadersBetweenRows:
    @pytest.mark.parametrize("swap", [False, True])
    @pytest.mark.parametrize("title", [False, True])
    def test_of_the_same_names(self, tmp_path: Path, swap: bool, title: bool) -> None:
        names = list(PLAIN)
        other = [names[1], names[0], *names[2:]] if swap else names
        parts = truths(1)[:6], truths(1)[6:]
        lines = [names, *([PLAIN[name](t) for name in names] for t in parts[0])]
        lines += [["more", "", "", "", ""]] if title else []
        lines += [other, *([PLAIN[name](t) for name in other] for t in parts[1])]
        path = tmp_path / "sheet.csv"
        path.write_text("".join(",".join(map(str, line)) + "\n" for line in lines), encoding="utf-8")
        found = runs(read_file(path))
        assert sorted(run.lr for run in found) == sorted(t.lr for t in truths(1))
        assert sorted(run.params for run in found) == sorted(t.params for t in truths(1))

    def test_rows_below_other_names_are_left_out(self, tmp_path: Path) -> None:
        rows = [[PLAIN[name](t) for name in PLAIN] for t in truths(1)]
        lines = [[*PLAIN], *rows[:6], ["lr", "params", "tokens", "batch_tokens", "wd"], *rows[6:]]
        path = tmp_path / "sheet.csv"
        path.write_text("".join(",".join(map(str, line)) + "\n" for line in lines), encoding="utf-8")
        found = read_file(path)
        assert len(runs(found)) == 6
        assert all("below another header (line 8)" in rejection.reason for rejection in found.rejections)


@pytest.mark.parametrize(("name", "factor"), [("step", 1), ("tokens_seen", 262_144), ("consumed tokens", 262_144)])
def test_points_on_the_way_of_runs_without_names(tmp_path: Path, name: str, factor: int, order: int) -> None:
    cell = {name: lambda t: t.steps * factor}
    on_the_way = [
        Truth(t.at, t.params, t.tokens // part // t.batch * t.batch, t.lr, t.loss + 0.1 * part, t.train)
        for t in truths(order)
        for part in (4, 2, 1)
    ]
    assert Sheet(tmp_path, {**without("tokens"), **cell}, order, on_the_way).codes() == {"unnamed_points"}
    Sheet(tmp_path, {**without("tokens"), **cell}, order).check()


@pytest.mark.parametrize("name", ["split", "partition", "set", "phase", "dataset"])
def test_a_row_for_each_part_of_the_data(tmp_path: Path, name: str) -> None:
    rows = [
        {**{column: cell(t) for column, cell in PLAIN.items() if column != "val_loss"}, name: part, "loss": loss}
        for t in truths(0)
        for part, loss in (("train", t.train), ("val", t.loss))
    ]
    path = write_csv(tmp_path / "sheet.csv", rows)
    with pytest.raises(Doubted):
        read_file(path)
    found = runs(read_file(path, IngestOptions(only={name: "val"})))
    assert sorted(run.loss for run in found if run.loss) == sorted(t.loss for t in truths(0))


@pytest.mark.parametrize("name", ["n_examples", "train_samples", "sequences_seen"])
def test_samples_beside_tokens(tmp_path: Path, name: str, order: int) -> None:
    sheet = Sheet(tmp_path, {**without("tokens"), name: lambda t: t.tokens // t.seq_len}, order)
    assert "samples_and_tokens" in sheet.codes()
    sheet.check(units={name: "2048"})


def test_tokens_in_thousands(tmp_path: Path, order: int) -> None:
    sheet = Sheet(tmp_path, {**without("tokens"), "tokens": lambda t: t.tokens / 1000}, order)
    assert sheet.codes() == {"odd_sizes"}
    sheet.check(units={"tokens": "K"})


@pytest.mark.parametrize("name", ["epochs", "num_epochs"])
def test_tokens_beside_epochs(tmp_path: Path, name: str, order: int) -> None:
    sheet = Sheet(tmp_path, {**without("tokens"), "tokens": lambda t: t.tokens / 4, name: lambda t: 4}, order)
    assert sheet.codes() == {"tokens_of_pass"}
    sheet.check(units={"tokens": "4"})
    Sheet(tmp_path, {**without("tokens"), "total_tokens": PLAIN["tokens"], name: lambda t: 4}, order).check()


@pytest.mark.parametrize("number", [9.99, 12.0])
def test_one_high_number_in_several_runs_is_no_loss(tmp_path: Path, number: float, order: int) -> None:
    cell = {"val_loss": lambda t: number if t.lr == RATES[-1] else t.loss}
    found = Sheet(tmp_path, {**PLAIN, **cell}, order).read()
    assert sorted(run.lr for run in runs(found) if run.loss is None) == [RATES[-1]] * 3


@pytest.mark.parametrize(
    ("name", "bad", "good"),
    [
        ("notes", "bug: do not use", ""),
        ("comment", "wrong tokenizer", "fine"),
        ("remark", "job died at 60 %", ""),
        ("valid", "False", "True"),
        ("exclude", "1", "0"),
    ],
)
def test_runs_that_their_owner_left_out(tmp_path: Path, name: str, bad: str, good: str, order: int) -> None:
    cell = {name: lambda t: bad if t.at == 3 else good}
    found = Sheet(tmp_path, {**PLAIN, **cell}, order).read()
    assert len(runs(found)) == len(truths(order)) - 1
    assert [rejection.column for rejection in found.rejections] == [name]


@pytest.mark.parametrize("steps", ["max_steps", "num_steps"])
def test_a_batch_is_tokens_by_steps(tmp_path: Path, steps: str, order: int) -> None:
    cell = {steps: lambda t: t.steps}
    Sheet(tmp_path, {**without("batch_tokens"), **cell}, order).check()
    Sheet(
        tmp_path,
        {**without("batch_tokens"), "trainer.global_batch_size": lambda t: 128, "seq_len": lambda t: 2048, **cell},
        order,
    ).check()
    uneven = {**without("batch_tokens"), steps: lambda t: t.steps + 1 + t.at % 3}
    assert "missing_columns" in Sheet(tmp_path, uneven, order).codes()


@pytest.mark.parametrize(("last", "best"), [("final_val_loss", "best_val_loss"), ("last_val_loss", "val_loss_min")])
def test_what_a_run_ended_with(tmp_path: Path, last: str, best: str, order: int) -> None:
    Sheet(tmp_path, {**without("val_loss"), last: PLAIN["val_loss"], best: lambda t: t.loss - 0.05}, order).check()


@pytest.mark.parametrize("head", ["lr {:g}", "LR_{:g}", "lr={:g}"])
def test_rates_above_columns(tmp_path: Path, head: str) -> None:
    rows: dict[int, dict[str, Any]] = {}
    for t in truths(0):
        row = rows.setdefault(t.params, {"params": t.params, "tokens": t.tokens, "batch_tokens": t.batch})
        row[head.format(t.lr)] = t.loss
    found = runs(read_file(write_csv(tmp_path / "sheet.csv", [*rows.values()])))
    assert {(run.params, run.lr): run.loss for run in found} == {(t.params, t.lr): t.loss for t in truths(0)}


def test_a_json_document_of_columns(tmp_path: Path) -> None:
    path = tmp_path / "sheet.json"
    path.write_text(json.dumps({name: [cell(t) for t in truths(0)] for name, cell in PLAIN.items()}), encoding="utf-8")
    assert len(runs(read_file(path, IngestOptions()))) == len(truths(0))


def test_tokens_that_differ_by_rounding_are_one_scale(tmp_path: Path) -> None:
    """Batches of two sizes make two numbers of whole steps; the loss of the larger is no rise with tokens."""
    rows = [
        {
            **{name: cell(t) for name, cell in PLAIN.items()},
            "tokens": t.tokens + t.batch * double,
            "batch_tokens": batch,
        }
        | {"val_loss": t.loss + 0.02 * double}
        for t in truths(0)
        for double, batch in ((0, t.batch), (1, 2 * t.batch))
    ]
    assert math.isclose(rows[0]["tokens"], rows[1]["tokens"], rel_tol=0.01)
    assert len(runs(read_file(write_csv(tmp_path / "sheet.csv", rows)))) == len(rows)


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("digits", [5, 12])
def test_means_below_blocks_of_rows_are_left_out(tmp_path: Path, whole: bool, digits: int) -> None:
    """Subtotals of a spreadsheet: a row without a name below the runs of each size."""
    rows: list[list[float]] = []
    all_rows = sorted(([cell(t) for cell in PLAIN.values()] for t in truths(0)), key=lambda row: row[1])
    for size in sorted({row[1] for row in all_rows}):
        block = [row for row in all_rows if row[1] == size]
        rows += [*block, [float(f"{fmean(column):.{digits}g}") for column in zip(*block, strict=True)]]
    if whole:
        rows.append([float(f"{fmean(column):.{digits}g}") for column in zip(*all_rows, strict=True)])
    write_csv(tmp_path / "sheet.csv", [dict(zip(PLAIN, row, strict=True)) for row in rows])
    found = read_file(tmp_path / "sheet.csv")
    assert sorted(run.loss for run in runs(found)) == sorted(t.loss for t in truths(0))
    assert all("is the mean of those above it" in rejection.reason for rejection in found.rejections)


def test_parameters_in_thousands_are_asked_about(tmp_path: Path, order: int) -> None:
    cell = {"params": lambda t: t.params / 1e3}
    assert "odd_sizes" in Sheet(tmp_path, {**without("params"), **cell}, order).codes()


@pytest.mark.parametrize(
    ("name", "factor"),
    [
        *(
            ("lr/lambda", 10.0),
            ("lr rate", 2.0),
            ("lr (peak)/lambda", 10.0),
            ("learning_rate/wd", 10.0),
            ("lr/wd", 10.0),
        ),
        *(("val/lr", 3.0), ("warmup.lr", 3.0), ("n_lr", 0.0), ("lr_count", 0.0)),
    ],
)
def test_quantities_made_of_a_rate_are_no_rate(tmp_path: Path, name: str, factor: float, order: int) -> None:
    Sheet(tmp_path, {**PLAIN, name: lambda t: factor * t.lr or 5}, order).check()


@pytest.mark.parametrize("name", ["n_wd", "number of wd", "lr/wd", "wd count"])
def test_quantities_made_of_a_decay_are_no_decay(tmp_path: Path, name: str, order: int) -> None:
    found = Sheet(tmp_path, {**PLAIN, name: lambda t: 5}, order).check()
    assert {run.weight_decay for run in runs(found)} == {None}


@pytest.mark.parametrize(
    "name", ["val/tokens", "eval.tokens", "test/n_tokens", "head.params", "warmup.steps", "D/N", "N/D"]
)
def test_of_another_part_is_not_of_the_run(tmp_path: Path, name: str, order: int) -> None:
    Sheet(tmp_path, {**PLAIN, name: lambda t: 30}, order).check()


@pytest.mark.parametrize(
    ("name", "counted"),
    [
        *(
            (name, "total")
            for name in ("params (with embedding)", "params (with embeddings)", "n_params (incl. embeddings)")
        ),
        *(
            (name, "non_embedding")
            for name in ("params (w/o embeddings)", "params (excluding embeddings)", "nonemb params")
        ),
    ],
)
def test_whether_embeddings_count(tmp_path: Path, name: str, counted: str, order: int) -> None:
    found = Sheet(tmp_path, {**without("params"), name: PLAIN["params"]}, order).check()
    assert {sweep.recipe.params_convention for sweep in found.sweeps} == {counted}


@pytest.mark.parametrize("name", ["dataset_tokens", "train set tokens", "tokens_in_train_set"])
def test_tokens_of_the_data_are_read_once_an_epoch(tmp_path: Path, name: str, order: int) -> None:
    cells = {name: lambda t: t.tokens / 4, "epochs": lambda t: 4}
    Sheet(tmp_path, {**without("tokens"), **cells}, order).check()
