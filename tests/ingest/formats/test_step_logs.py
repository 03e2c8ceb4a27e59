"""Logs with a row or line per step: Lightning, W&B histories, JSON lines, the Trainer, and what trainers print."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lawfit.errors import LogFormatError
from lawfit.ingest import read_table
from lawfit.ingest.formats import step_lines
from tests.ingest.formats.logs import GOLDEN, copied, curves, one_table, rows


class TestStepTable:
    def test_sparse_rows_and_a_header_that_grew(self, tmp_path: Path) -> None:
        (tmp_path / "metrics.csv").write_text(
            "epoch,step,train_loss,val_loss\n0,1,3.0,\n0,2,2.9,\n0,2,,3.1\n0,,,\n1,3,2.8,\n1,3,,nan\n1,4,2.7,\n1,4,,3.0\n"
        )
        table = one_table(tmp_path)
        (curve_of_training, curve_of_validation) = (
            next(c for c in table.curves if c.metric == name) for name in ("train_loss", "validation_loss")
        )
        assert (list(curve_of_training.steps), list(curve_of_training.numbers)) == ([1, 2, 3, 4], [3.0, 2.9, 2.8, 2.7])
        assert (list(curve_of_validation.steps), list(curve_of_validation.numbers)) == ([2, 4], [3.1, 3.0])

    def test_a_last_row_in_writing_is_left_out(self, tmp_path: Path) -> None:
        path = tmp_path / "metrics.csv"
        path.write_text("step,train_loss\n1,3.0\n2,2.9\n3")
        assert list(one_table(path).curves[0].steps) == [1, 2]
        path.write_text("step,train_loss\n1,3.0\n2\n3,2.8\n")
        with pytest.raises(LogFormatError, match="line 3: 1 cells where the header has 2"):
            read_table(path)

    @pytest.mark.parametrize("kind", ["csv", "parquet"])
    def test_a_history_downloaded_from_wandb(self, tmp_path: Path, kind: str) -> None:
        lines = [
            {"_step": n, "_timestamp": 1.7e9, "_runtime": n, "train/global_step": 10 * n, "train/loss": 3.0}
            for n in (1, 2)
        ]
        lines.append({"_step": 3, "_timestamp": 1.7e9, "_runtime": 3, "train/global_step": 20, "eval/loss": 3.1})
        names = list(dict.fromkeys(name for line in lines for name in line))
        path = tmp_path / f"my-run.{kind}"
        if kind == "csv":
            cells = [",".join(str(line.get(name, "")) for name in names) for line in lines]
            path.write_text("\n".join([",".join(names), *cells]) + "\n")
        else:
            pyarrow = pytest.importorskip("pyarrow")
            from pyarrow.parquet import write_table

            write_table(pyarrow.Table.from_pylist([{name: line.get(name) for name in names} for line in lines]), path)
        table = one_table(path)
        assert table.format == "step-table"
        assert {c.metric: list(c.steps) for c in table.curves} == {"train_loss": [10, 20], "validation_loss": [20]}
        assert list(rows(table)) == ["my-run"]

    def test_other_tables_stay_what_they_are(self, tmp_path: Path) -> None:
        for name, text in {"sweep.csv": "lr,loss\n1,2\n", "norms.csv": "step,grad_norm\n1,2\n"}.items():
            (tmp_path / name).write_text(text)
            assert read_table(tmp_path / name).format == "csv"


class TestStepLines:
    def test_settings_lie_beside_or_in_a_line(self, tmp_path: Path) -> None:
        made = copied("jsonl", tmp_path)
        log = made / "low.jsonl"
        lines = log.read_text().splitlines()
        log.write_text("\n".join(lines[1:]) + "\n")
        log.with_name("low.json").write_text(json.dumps({"learning_rate": 0.5}))
        found = rows(one_table(made))
        assert (found["low"]["config.learning_rate"], found["middle"]["config.learning_rate"]) == (0.5, 3e-3)

    def test_a_file_of_settings_belongs_to_one_log(self, tmp_path: Path) -> None:
        """In a folder with several logs it may be any of theirs."""
        log = '{"step": 1, "loss": 3.0}\n{"step": 2, "loss": 2.0}\n'
        (tmp_path / "a.jsonl").write_text(log)
        (tmp_path / "config.json").write_text('{"lr": 0.1}')
        assert rows(one_table(tmp_path))["a"]["config.lr"] == 0.1
        (tmp_path / "b.jsonl").write_text(log)
        assert not any("config.lr" in row for row in rows(one_table(tmp_path)).values())

    @pytest.mark.parametrize(
        "lines",
        [
            ['{"lr": 0.1, "loss": 3.0}', '{"lr": 0.2, "loss": 3.0}'],
            ['{"run_id": "a", "step": 1, "loss": 3.0}', '{"run_id": "a", "step": 2, "loss": 3.0}'],
            ['{"step": 100, "loss": 3.0, "batch_size": 8, "lr": 0.1}', '{"step": 100, "loss": 3.1, "batch_size": 16}'],
            ['{"step": 100, "loss": 3.0, "lr": 0.1}', '{"step": 50, "loss": 3.1, "lr": 0.1}'],
            ['{"step": 100, "loss": 3.0}'],
            ['{"step": 1, "tokens_per_second": 3}', '{"step": 2, "tokens_per_second": 3}'],
        ],
        ids=["no steps", "a run in each", "a batch in each", "not ascending", "one line", "no loss"],
    )
    def test_tables_are_no_logs(self, tmp_path: Path, lines: list[str]) -> None:
        path = tmp_path / "a.jsonl"
        path.write_text("\n".join(lines) + "\n")
        assert read_table(path).format == "jsonl"

    def test_a_cut_line_at_the_end_is_said_and_one_before_is_damage(self, tmp_path: Path) -> None:
        path = copied("jsonl", tmp_path) / "low.jsonl"
        lines = path.read_text().splitlines()
        path.write_text("\n".join([*lines[:20], lines[20][:15]]))
        assert any("its last line is cut off" in note for note in one_table(path).notes)
        path.write_text("\n".join([*lines[:20], lines[20][:15], *lines[21:]]))
        with pytest.raises(LogFormatError, match="line 21 is not JSON; the log is damaged"):
            read_table(path)

    def test_a_hole_in_the_file_is_damage(self, tmp_path: Path) -> None:
        path = copied("jsonl", tmp_path) / "low.jsonl"
        data = bytearray(path.read_bytes())
        data[700:900] = bytes(200)
        path.write_bytes(data)
        with pytest.raises(LogFormatError, match=r"line \d+: the line holds NUL bytes; the log is damaged"):
            read_table(path, "step-lines")

    def test_memory_does_not_grow_with_the_file(self, tmp_path: Path) -> None:
        from lawfit.ingest.source import whole_lines

        path = tmp_path / "a.jsonl"
        path.write_text("a\n\nb\nc")
        assert list(whole_lines(path)) == [(1, "a", False), (2, "", False), (3, "b", False), (4, "c", True)]

    def test_nested_numbers(self, tmp_path: Path) -> None:
        path = tmp_path / "a.jsonl"
        path.write_text("".join(json.dumps({"step": n, "train": {"loss": 3.0}, "ok": True}) + "\n" for n in (1, 2)))
        assert [curve.metric for curve in one_table(path).curves] == ["train_loss"]


class TestTrainerState:
    def test_checkpoints_are_earlier_parts_of_the_run(self, tmp_path: Path) -> None:
        made = copied("huggingface", tmp_path)
        for name in ("low", "middle", "killed"):
            (made / name / "trainer_state.json").unlink()
        found = rows(one_table(made))
        assert {name: row["status"] for name, row in found.items()} == {
            "low": "finished", "middle": "finished", "killed": "running",
        }  # fmt: skip
        assert list(curves(one_table(made), "killed")["train_loss"][0]) == list(range(1, 21))

    def test_a_state_of_another_name(self, tmp_path: Path) -> None:
        path = tmp_path / "my_trainer_state.json"
        path.write_bytes((GOLDEN / "huggingface" / "low" / "trainer_state.json").read_bytes())
        (row,) = rows(one_table(path)).values()
        assert (row["status"], row["peak_lr"], row["config.max_steps"]) == ("finished", pytest.approx(1e-3), 40)

    @pytest.mark.parametrize("text", ["[]", "{}", '{"log_history": 3}', "not json"])
    def test_no_state(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "trainer_state.json").write_text(text)
        with pytest.raises(LogFormatError, match=r"no list 'log_history'|is not JSON"):
            read_table(tmp_path / "trainer_state.json")


class TestTextLogs:
    @pytest.mark.parametrize(
        ("trainer", "settings"),
        [
            ("nanogpt", {"batch_size": 8, "block_size": 128, "gradient_accumulation_steps": 8, "max_iters": 40,
                         "weight_decay": 0.1, "learning_rate": 1e-3, "seed": 1, "tokens_per_step": 8192,
                         "n_params": 1_200_000}),
            ("megatron", {"global_batch_size": 64, "lr": 1e-3, "seq_length": 128, "train_iters": 40, "seed": 1,
                          "weight_decay": 0.1, "total_params": 1_200_000, "lr_decay_style": "cosine"}),
            ("torchtitan", {"optimizer.lr": 1e-3, "training.steps": 40, "training.seq_len": 128, "seq_len": 128,
                            "global_batch_sequences": 64, "steps": 40, "warmup_steps": 4, "total_params": 1_200_000}),
            ("litgpt", {"optimizer.init_args.lr": 1e-3, "train.max_steps": 40, "train.global_batch_size": 64, "seed": 1,
                        "total_params": 1_200_000}),
        ],
    )  # fmt: skip
    def test_settings(self, trainer: str, settings: dict[str, object]) -> None:
        row = rows(one_table(GOLDEN / "text" / trainer))["low"]
        assert {key: row[f"config.{key}"] for key in settings} == settings

    @pytest.mark.parametrize("trainer", ["megatron", "litgpt"])
    def test_the_trainer_says_what_its_batch_counts(self, trainer: str) -> None:
        assert rows(one_table(GOLDEN / "text" / trainer))["low"]["batch_sequences"] == 64

    def test_shards_of_a_model_are_added(self, tmp_path: Path) -> None:
        text = (GOLDEN / "text" / "megatron" / "low.log").read_text()
        one = " > number of parameters on (tensor, pipeline) model parallel rank (0, 0): 1200000\n"
        other = one.replace("(0, 0)", "(1, 0)").replace("1200000", "1300000")
        (tmp_path / "a.log").write_text(text.replace(one, one + other))
        assert rows(one_table(tmp_path / "a.log"))["a"]["config.total_params"] == 2_500_000

    def test_words_around_the_lines_do_no_harm(self, tmp_path: Path) -> None:
        text = (GOLDEN / "text" / "torchtitan" / "low.log").read_text()
        (tmp_path / "slurm-1.out").write_text("srun: job 1 queued\n\n" + text.replace("[titan]", "0: [titan]"))
        table = one_table(tmp_path / "slurm-1.out")
        assert len(next(c for c in table.curves if c.metric == "train_loss").steps) == 40

    def test_any_other_text_is_none(self, tmp_path: Path) -> None:
        (tmp_path / "a.log").write_text("step 1, loss 3.0\nnothing of note\n")
        assert read_table(tmp_path / "a.log").format == "csv"

    def test_trainers_stand_apart(self) -> None:
        from lawfit.ingest.formats import find_sources, read_source_tables

        (source,) = find_sources(GOLDEN / "text")
        names = {table.name for table in read_source_tables(source)}
        assert names == {"text-nanoGPT", "text-Megatron-LM", "text-torchtitan", "text-litgpt"}


def test_numbers_five_levels_deep_are_read_and_no_deeper() -> None:
    """Each level counts once; what is deeper is no metric of a person's."""
    row: dict[str, object] = {"x": 1.0}
    for level in "fedcba":
        row = {level: row, f"n{level}": 2}
    found = step_lines._flat(row)
    assert found["a/b/c/d/e/nf"] == 2.0
    assert "a/b/c/d/e/f/x" not in found
