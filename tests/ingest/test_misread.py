"""Tables that were read wrong in silence, kind by kind: other names, orders and values, and the same right outcome."""

from __future__ import annotations

import csv
import dataclasses
import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from lawfit.errors import Doubted
from lawfit.ingest import Ingested, IngestOptions, read_file
from tests.ingest.tables import runs

ORDERS: Final = range(2)  # of columns and rows
RATES: Final = (0.001, 0.002, 0.004, 0.008)


@dataclass(frozen=True)
class Truth:
    """One run."""

    at: int
    params: int
    tokens: int
    lr: float
    loss: float
    train: float
    batch: int = 262_144  # tokens
    seq_len: int = 2048

    @property
    def steps(self) -> int:
        return self.tokens // self.batch

    @property
    def accuracy(self) -> float:
        return 0.7 - 0.08 * self.loss


def truths(seed: int, rates: tuple[float, ...] = RATES) -> list[Truth]:
    """A sweep at three sizes, by a law with noise."""
    rng = random.Random(seed)
    found = []
    for params in (19_874_304, 58_423_296, 151_283_712):
        steps = round(20 * params / 262_144)
        for lr in rates:
            best = 0.003 * (params / 5e7) ** -0.3
            loss = 1.7 + 400 / params**0.34 + 0.03 * math.log(lr / best) ** 2 + rng.gauss(0, 0.002)
            found.append(
                Truth(
                    len(found), params, steps * 262_144, lr, round(loss, 5), round(loss - 0.03 + rng.gauss(0, 0.02), 5)
                )
            )
    return found


Columns = Mapping[str, Callable[[Truth], Any]]
PLAIN: Final[Columns] = {
    "lr": lambda t: t.lr,
    "params": lambda t: t.params,
    "tokens": lambda t: t.tokens,
    "batch_tokens": lambda t: t.batch,
    "val_loss": lambda t: t.loss,
}


def without(*names: str) -> dict[str, Callable[[Truth], Any]]:
    return {name: cell for name, cell in PLAIN.items() if name not in names}


class Sheet:
    """A file of a sweep, its columns and rows in an order of their own."""

    def __init__(self, folder: Path, columns: Columns, order: int, rows: list[Truth] | None = None) -> None:
        rng = random.Random(order)
        names = rng.sample(list(columns), len(columns))
        self.rows = truths(order) if rows is None else rows
        self.rows = rng.sample(self.rows, len(self.rows))
        self.path = folder / "sheet.csv"
        with self.path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(names)
            writer.writerows([columns[name](truth) for name in names] for truth in self.rows)

    def read(self, **options: Any) -> Ingested:
        return read_file(self.path, IngestOptions(**options))

    def asked(self, **options: Any) -> list[dict[str, Any]]:
        """The questions that have to be answered."""
        with pytest.raises(Doubted) as doubted:
            self.read(**options)
        return [dict(question) for question in doubted.value.questions if not question["assumed"]]

    def codes(self, **options: Any) -> set[str]:
        return {question["code"].removeprefix("ingest.") for question in self.asked(**options)}

    def check(self, wanted: Callable[[Truth], float] = lambda t: t.loss, **options: Any) -> Ingested:
        """Every row is read as the run that it was."""
        found = self.read(**options)
        read = {int(run.source.rsplit(":", 1)[1]): run for run in runs(found)}
        assert sorted(read) == list(range(2, len(self.rows) + 2)), [each.reason for each in found.rejections]
        for line, truth in enumerate(self.rows, start=2):
            run = read[line]
            assert (run.params, run.tokens, run.batch_tokens) == pytest.approx(
                (truth.params, truth.tokens, truth.batch), rel=1e-3
            )
            assert run.lr == pytest.approx(truth.lr, rel=1e-6)
            assert run.loss == pytest.approx(wanted(truth), rel=1e-4)
        return found


@pytest.fixture(params=ORDERS)
def order(request: pytest.FixtureRequest) -> int:
    return int(request.param)


class TestLossesThatWereChanged:
    CHANGED: Final[Columns] = {
        "log10(val_loss)": lambda t: math.log10(t.loss),
        "ln(loss)": lambda t: math.log(t.loss),
        "excess_loss": lambda t: t.loss - 1.7,
        "eval/reducible_loss": lambda t: t.loss - 1.7,
        "loss - 2.5": lambda t: t.loss - 2.5,
        "Δ val loss": lambda t: t.loss - 2.9,
        "val loss vs baseline": lambda t: t.loss / 3,
        "neg_val_loss": lambda t: -t.loss,
    }

    @pytest.mark.parametrize("name", CHANGED)
    def test_is_asked_for_itself(self, tmp_path: Path, name: str, order: int) -> None:
        sheet = Sheet(tmp_path, {**without("val_loss"), name: self.CHANGED[name]}, order)
        (question,) = sheet.asked()
        assert question["code"] == "ingest.missing_columns"
        assert question["data"]["missing"] == ["loss"]
        assert "ingest.altered_loss" in [hint["code"] for hint in question["data"]["hints"]]

    @pytest.mark.parametrize("name", CHANGED)
    def test_does_not_go_before_the_loss_itself(self, tmp_path: Path, name: str, order: int) -> None:
        Sheet(tmp_path, {**PLAIN, name: self.CHANGED[name]}, order).check()

    def test_a_logarithm_once_it_is_said(self, tmp_path: Path, order: int) -> None:
        name = "log10(val_loss)"
        sheet = Sheet(tmp_path, {**without("val_loss"), name: self.CHANGED[name]}, order)
        sheet.check(column_map={name: "loss"}, units={name: "log10"})

    @pytest.mark.parametrize("name", ["log_ppl", "eval/log-perplexity", "negative_log_likelihood", "log_loss"])
    def test_the_log_of_a_perplexity_or_likelihood_is_the_loss(self, tmp_path: Path, name: str, order: int) -> None:
        Sheet(tmp_path, {**without("val_loss"), name: lambda t: t.loss}, order).check()

    @pytest.mark.parametrize("term", ["val/aux_loss", "router_z_loss", "load_balancing_loss", "loss/z"])
    @pytest.mark.parametrize(("whole", "part"), [("val/loss", "val/lm_loss"), ("val/total_loss", "val/ce")])
    def test_a_sum_with_other_terms_is_not_the_loss(
        self, tmp_path: Path, whole: str, part: str, term: str, order: int
    ) -> None:
        columns = {part: lambda t: t.loss, whole: lambda t: t.loss + 0.02, term: lambda t: 0.02}
        Sheet(tmp_path, {**without("val_loss"), **columns}, order).check()


class TestPercent:
    @pytest.mark.parametrize("name", ["error (%)", "top1_err_percent", "eval/error_pct"])
    def test_an_error(self, tmp_path: Path, name: str, order: int) -> None:
        sheet = Sheet(tmp_path, {**without("val_loss"), name: lambda t: 100 * (1 - t.accuracy)}, order)
        sheet.check(lambda t: 1 - t.accuracy)

    @pytest.mark.parametrize("name", ["accuracy_percent", "val_acc (%)", "test acc pct"])
    def test_shares_under_percent_are_asked_about(self, tmp_path: Path, name: str, order: int) -> None:
        sheet = Sheet(tmp_path, {**without("val_loss"), name: lambda t: t.accuracy}, order)
        assert sheet.codes() == {"percent_or_share"}
        sheet.check(lambda t: 1 - t.accuracy, metric="score")

    @pytest.mark.parametrize("name", ["value", "objective", "values_0"])
    def test_an_objective_below_one_in_every_run(self, tmp_path: Path, name: str, order: int) -> None:
        sheet = Sheet(tmp_path, {**without("val_loss"), name: lambda t: t.accuracy}, order)
        assert sheet.codes() == {"shares"}
        sheet.check(lambda t: 1 - t.accuracy, column_map={name: "loss"}, metric="score")


@pytest.mark.parametrize("field", ["lr", "val_loss", "params"])
def test_a_header_that_stood_there_twice(tmp_path: Path, field: str, order: int) -> None:
    copy = {f"{field}.1": lambda t: PLAIN[field](t) * 1.5}
    assert "two_columns" in Sheet(tmp_path, {**PLAIN, **copy}, order).codes()
    Sheet(tmp_path, {**PLAIN, f"{field}.1": PLAIN[field]}, order).check()


@pytest.mark.parametrize(
    "shown",
    [
        lambda text, best: f"{text} ± 0.003",
        lambda text, best: f"{text} (0.003)",
        lambda text, best: f"**{text}**" if best else text,
        lambda text, best: f"\\textbf{{{text}}}" if best else text,
        lambda text, best: f"**{text} +/- 0.01**" if best else f"{text} +/- 0.01",
        lambda text, best: f"{text}*" if best else text,
    ],
)
def test_numbers_as_papers_show_them(tmp_path: Path, shown: Callable[[str, bool], str], order: int) -> None:
    cell = {"val_loss": lambda t: shown(f"{t.loss:.5f}", t.lr == RATES[2])}
    found = Sheet(tmp_path, {**PLAIN, **cell}, order).check()
    assert any("is read" in note for note in found.notes)


class TestRatesThatAreNoPeaks:
    @pytest.mark.parametrize("name", ["lr", "learning_rate", "optimizer.lr"])
    @pytest.mark.parametrize(
        "last",
        [
            lambda t: t.lr * 1e-6 * (1 + 0.37 * t.at),
            lambda t: t.lr / 2000,
            lambda t: t.lr * 0.1 * (1 + 1e-4 * t.at),  # at the floor of a cosine, a step before its end
        ],
    )
    def test_last_values(self, tmp_path: Path, name: str, last: Callable[[Truth], float], order: int) -> None:
        sheet = Sheet(tmp_path, {**without("lr"), name: last}, order)
        assert sheet.codes() == {"lr_decayed"}

    @pytest.mark.parametrize(
        "rates", [(1e-5, 2e-5, 3e-5, 5e-5), (2.13e-6, 7.77e-6, 3.14159e-5), (3.17e-4, 9.81e-4, 1.52e-3, 6.6e-3), RATES]
    )
    def test_chosen_ones_are_none(self, tmp_path: Path, rates: tuple[float, ...], order: int) -> None:
        Sheet(tmp_path, PLAIN, order, truths(order, rates)).check()

    @pytest.mark.parametrize("name", ["final_lr", "end_lr", "min_lr", "optimal_lr", "lr_floor"])
    def test_one_that_goes_with_the_peak_shows_that_there_was_one(self, tmp_path: Path, name: str, order: int) -> None:
        sheet = Sheet(tmp_path, {**without("lr"), name: lambda t: t.lr / 10}, order)
        assert "rate_elsewhere" in sheet.codes()
        sheet.check(column_map={name: "lr"}, units={name: "10"})

    @pytest.mark.parametrize("text", ["gpt-lr{lr:g}-s{at}", "LR_{lr:.1e}_{at}", "{at}: learning_rate={lr:g} wd=0.1"])
    @pytest.mark.parametrize("name", ["run", "Name", "trial"])
    def test_one_in_the_names_of_runs(self, tmp_path: Path, name: str, text: str, order: int) -> None:
        cell = {name: lambda t: text.format(lr=t.lr, at=t.at)}
        sheet = Sheet(tmp_path, {**without("lr", "batch_tokens"), **cell}, order)
        assert sheet.codes() == {"rate_elsewhere"}
        sheet.check(column_map={name: "lr"}, constants={"batch_tokens": "262144"})

    @pytest.mark.parametrize(("one", "other"), [("adamw_lr", "muon_lr"), ("adam_lr", "lr_muon")])
    @pytest.mark.parametrize("factor", [None, 0.15])
    def test_two_optimizers(self, tmp_path: Path, one: str, other: str, factor: float | None, order: int) -> None:
        columns = {other: lambda t: t.lr, one: lambda t: 3e-4 if factor is None else t.lr * factor}
        sheet = Sheet(tmp_path, {**without("lr"), **columns}, order)
        assert "two_columns" in sheet.codes()
        sheet.check(column_map={other: "lr"})

    def test_a_rate_of_the_embedding_is_no_rival(self, tmp_path: Path, order: int) -> None:
        Sheet(tmp_path, {**PLAIN, "embed_lr": lambda t: 10 * t.lr}, order).check()

    def test_thousandths_without_a_word(self, tmp_path: Path, order: int) -> None:
        sheet = Sheet(tmp_path, {**without("lr"), "lr": lambda t: t.lr * 500}, order)
        assert sheet.codes() == {"high_rates"}
        sheet.check(units={"lr": "0.002"})


@pytest.mark.parametrize(
    ("name", "cell"),
    [
        ("lr (e-3)", lambda t: f"{t.lr * 1e3:g}"),
        ("LR [×10⁻³]", lambda t: f"{t.lr * 1e3:g}"),
        ("lr (10^{-4})", lambda t: f"{t.lr * 1e4:g}"),
        ("lr × 10³", lambda t: f"{t.lr * 1e3:g}"),
        ("lr", lambda t: f"{t.lr * 1e3:g}·10⁻³"),
        ("lr", lambda t: f"{t.lr * 1e4:g}x10^-4"),
        ("lr", lambda t: f"{t.lr:.2e}".replace("-", "\u2212")),
        ("lr", lambda t: f"1/{round(1 / t.lr)}"),
        ("params", lambda t: f"~{t.params / 1e6:.3f}M"),
        ("params", lambda t: f"{t.params / 1e6:.3f} million"),
        ("params", lambda t: f"{t.params:,}".replace(",", "\u2019")),
        ("tokens", lambda t: f"{t.tokens / 1e9:.6f}×10^9"),
        ("Tokens (10⁹)", lambda t: t.tokens / 1e9),
    ],
)
def test_numbers_as_people_write_them(tmp_path: Path, name: str, cell: Callable[[Truth], Any], order: int) -> None:
    field = "lr" if name.lower().startswith("lr") else name.split(" ")[0].lower()
    Sheet(tmp_path, {**without(field), name: cell}, order).check()


class TestRunsThatDidNotEnd:
    """Rows of runs that stopped on their way, in whatever words: rejected, and the others read."""

    SAID: Final[Mapping[str, tuple[Any, Any]]] = {
        "crashed": (False, True),
        "early_stopped": (0, 1),
        "interrupted": ("no", "yes"),
        "progress": ("100%", "47%"),
        "completion": (1.0, 0.31),
        "percent_done": (100, 60),
        "exit_code": (0, 137),
        "config/exit_status": ("ok", "timeout"),
    }

    def check(self, tmp_path: Path, columns: Columns, order: int, words: str) -> None:
        sheet = Sheet(tmp_path, columns, order)
        found = sheet.read()
        stopped = {line for line, truth in enumerate(sheet.rows, start=2) if truth.at % 5 == 1}
        assert {each.line for each in found.rejections} == stopped
        assert all(words in each.reason for each in found.rejections)
        assert len(runs(found)) == len(sheet.rows) - len(stopped)

    @pytest.mark.parametrize("name", SAID)
    def test_by_a_column_that_says_so(self, tmp_path: Path, name: str, order: int) -> None:
        well, stopped = self.SAID[name]
        columns = {**PLAIN, name: lambda t: stopped if t.at % 5 == 1 else well}
        self.check(
            tmp_path, columns, order, "success" if "exit" in name else "so its loss is not that of its token count"
        )

    @pytest.mark.parametrize("name", ["tokens_seen", "trained_tokens", "summary.tokens_processed"])
    @pytest.mark.parametrize("plan", ["tokens", "train_tokens"])
    def test_by_tokens_seen_beside_those_planned(self, tmp_path: Path, name: str, plan: str, order: int) -> None:
        columns = {plan: PLAIN["tokens"], name: lambda t: t.tokens // 2 if t.at % 5 == 1 else t.tokens}
        self.check(tmp_path, {**without("tokens"), **columns}, order, "the run stands at token")

    @pytest.mark.parametrize("name", ["global_step", "step", "last_step"])
    def test_by_the_step_beside_a_budget(self, tmp_path: Path, name: str, order: int) -> None:
        columns = {"token_budget": PLAIN["tokens"], name: lambda t: t.steps // 3 if t.at % 5 == 1 else t.steps}
        if name == "last_step":
            columns["steps"] = lambda t: t.steps
        self.check(tmp_path, {**without("tokens"), **columns}, order, "the run stands at step")

    @pytest.mark.parametrize("name", ["tokens_seen", "consumed_tokens"])
    def test_tokens_seen_go_before_those_of_the_data(self, tmp_path: Path, name: str, order: int) -> None:
        columns = {"tokens": lambda t: t.tokens // 4, name: lambda t: t.tokens}
        Sheet(tmp_path, {**PLAIN, **columns}, order).check()


@pytest.mark.parametrize("cell", [1e9, 999, "1e6", "99.9", "diverged", "NaN*", "blew up", "div.", "✗"])
def test_what_stands_in_place_of_a_loss(tmp_path: Path, cell: object, order: int) -> None:
    sheet = Sheet(tmp_path, {**PLAIN, "val_loss": lambda t: cell if t.at % 5 == 1 else t.loss}, order)
    found = sheet.read()
    assert not found.rejections
    assert found.diverged == sum(truth.at % 5 == 1 for truth in sheet.rows)
    assert any("diverged" in note for note in found.notes)


@pytest.mark.parametrize("name", ["run", "Name", "exp"])
@pytest.mark.parametrize("word", ["mean", "Average", "TOTAL", "Mittelwert", "Moyenne", "best:"])
def test_a_row_that_sums_up_the_others(tmp_path: Path, name: str, word: str) -> None:
    path = tmp_path / "sheet.csv"
    lines = [f"r{t.at},{t.lr},{t.params},{t.tokens},{t.batch},{t.loss}\n" for t in truths(0)]
    summary = f"{word},0.004,76000000,1500000000,262144,3.1\n"
    path.write_text(f"{name},lr,params,tokens,batch_tokens,loss\n" + "".join([*lines, summary]), encoding="utf-8")
    found = read_file(path)
    assert len(runs(found)) == len(lines)
    assert "sums up" in found.rejections[0].reason


@pytest.mark.parametrize("rows", [5, 12])
def test_a_last_row_of_means(tmp_path: Path, rows: int) -> None:
    path = tmp_path / "sheet.csv"
    cells = [(t.lr, t.params, t.tokens, t.batch, t.loss) for t in truths(rows)[:rows]]
    means = tuple(round(sum(column) / rows, 6) for column in zip(*cells, strict=True))
    lines = [",".join(map(str, row)) + "\n" for row in (*cells, means)]
    path.write_text("lr,params,tokens,batch_tokens,loss\n" + "".join(lines), encoding="utf-8")
    found = read_file(path)
    assert len(runs(found)) == rows
    assert "the mean of those above" in found.rejections[0].reason


@pytest.mark.parametrize("name", ["notes", "comment", "Bemerkung"])
@pytest.mark.parametrize(
    ("text", "left_out"),
    [("crashed at 40 %", True), ("OOM, killed", True), ("crashed, resumed and finished", False), ("new init", False)],
)
def test_a_note_that_a_run_was_stopped(tmp_path: Path, name: str, text: str, left_out: bool, order: int) -> None:
    sheet = Sheet(tmp_path, {**PLAIN, name: lambda t: text if t.at == 3 else ""}, order)
    found = sheet.read()
    assert [each.column for each in found.rejections] == ([name] if left_out else [])


@pytest.mark.parametrize("name", ["slurm_state", "how it ended", "meta/JobState"])
@pytest.mark.parametrize(
    ("well", "stopped"), [("COMPLETED", "TIMEOUT"), ("finished", "killed"), ("fertig", "abgebrochen")]
)
def test_words_of_how_runs_ended_under_any_name(tmp_path: Path, name: str, well: str, stopped: str, order: int) -> None:
    sheet = Sheet(tmp_path, {**PLAIN, name: lambda t: stopped if t.at % 5 == 1 else well}, order)
    found = sheet.read()
    assert {each.line for each in found.rejections} == {
        line for line, truth in enumerate(sheet.rows, start=2) if truth.at % 5 == 1
    }


@pytest.mark.parametrize("name", ["held-out loss", "heldout/loss", "Held out NLL"])
def test_held_out_data_go_before_unsaid_data(tmp_path: Path, name: str, order: int) -> None:
    Sheet(tmp_path, {**without("val_loss"), name: lambda t: t.loss, "loss": lambda t: t.train}, order).check()


class TestUnitsOfRows:
    @pytest.mark.parametrize("size", [1.5e8, 1e8])
    def test_parameters_in_millions_in_some_rows(self, tmp_path: Path, size: float, order: int) -> None:
        rows = truths(order) + [Truth(99, 1_342_177_280, 26_843_545_600, lr, 2.5, 2.4) for lr in (0.0005, 0.001)]
        cell = {"params": lambda t: round(t.params / 1e6, 1) if t.params > 1e9 else t.params}
        found = Sheet(tmp_path, {**PLAIN, **cell}, order, rows).read()
        assert len(runs(found)) == len(rows) - 2
        assert all("another unit" in each.reason for each in found.rejections)

    @pytest.mark.parametrize("name", ["samples_seen", "train_samples", "consumed_samples"])
    @pytest.mark.parametrize("batch", ["global_batch_size", None])
    def test_samples_of_a_known_length_are_sequences(
        self, tmp_path: Path, name: str, batch: str | None, order: int
    ) -> None:
        columns = {name: lambda t: t.tokens // t.seq_len, "seq_len": lambda t: t.seq_len}
        plain = without("tokens") if batch is None else without("tokens", "batch_tokens")
        more = {} if batch is None else {batch: lambda t: t.batch // t.seq_len}
        Sheet(tmp_path, {**plain, **columns, **more}, order).check()


class TestBatches:
    PARTS: Final[Columns] = {
        "micro_batch_size": lambda t: 8,
        "gradient_accumulation_steps": lambda t: 2,
        "gpus": lambda t: 8,
        "seq_len": lambda t: t.seq_len,
    }

    def test_parts_that_are_all_there(self, tmp_path: Path, order: int) -> None:
        Sheet(tmp_path, {**without("batch_tokens"), **self.PARTS}, order).check()

    @pytest.mark.parametrize("name", ["nodes", "num_nodes", "tensor_parallel_size", "pp", "config.tp_size"])
    def test_devices_that_may_not_all_share_a_batch(self, tmp_path: Path, name: str, order: int) -> None:
        sheet = Sheet(tmp_path, {**without("batch_tokens"), **self.PARTS, name: lambda t: 2}, order)
        (question,) = sheet.asked()
        assert question["data"]["missing"] == ["batch"]
        assert "ingest.devices_unclear" in [hint["code"] for hint in question["data"]["hints"]]
        sheet.check(constants={"devices": "8"})

    @pytest.mark.parametrize("name", ["nodes", "tensor_parallel_size"])
    def test_one_node_and_no_parallel_model_change_nothing(self, tmp_path: Path, name: str, order: int) -> None:
        Sheet(tmp_path, {**without("batch_tokens"), **self.PARTS, name: lambda t: 1}, order).check()

    @pytest.mark.parametrize("name", ["batch_size", "bs", "train_batch_size"])
    @pytest.mark.parametrize("devices", ["n_gpus", "world_size"])
    def test_a_bare_batch_beside_devices(self, tmp_path: Path, name: str, devices: str, order: int) -> None:
        columns = {name: lambda t: 16, devices: lambda t: 8, "seq_len": lambda t: t.seq_len}
        sheet = Sheet(tmp_path, {**without("batch_tokens"), **columns}, order)
        assert sheet.codes() == {"accumulated"}
        sheet.check(column_map={name: "micro_batch"}, constants={"accumulation": "1"})

    @pytest.mark.parametrize("name", ["batch_size", "bs"])
    def test_steps_and_tokens_say_that_it_is_the_whole(self, tmp_path: Path, name: str, order: int) -> None:
        columns = {
            name: lambda t: t.batch // t.seq_len,
            "n_gpus": lambda t: 8,
            "seq_len": lambda t: t.seq_len,
            "steps": lambda t: t.steps,
        }
        Sheet(tmp_path, {**without("batch_tokens"), **columns}, order).check()

    @pytest.mark.parametrize("steps", ["steps", "max_steps", "train_iters"])
    @pytest.mark.parametrize("tokens", ["tokens", "dataset_tokens"])
    def test_tokens_that_are_not_those_of_the_steps(self, tmp_path: Path, steps: str, tokens: str, order: int) -> None:
        columns = {tokens: lambda t: t.tokens // 4, steps: lambda t: t.steps}
        sheet = Sheet(tmp_path, {**without("tokens"), **columns}, order)
        assert sheet.codes() == {"steps_disagree"}
        sheet.check(column_map={tokens: "extra"})

    def test_what_was_logged_is_no_step(self, tmp_path: Path, order: int) -> None:
        Sheet(tmp_path, {**PLAIN, "_step": lambda t: t.steps // 10}, order).check()
        sheet = Sheet(tmp_path, {**without("tokens"), "_step": lambda t: t.steps}, order)
        assert sheet.codes() == {"steps_logged"}
        sheet.check(column_map={"_step": "steps"})


class TestEqualRuns:
    """Rows of which all settings are equal: seeds, or something that was varied under a name of bookkeeping."""

    @staticmethod
    def doubled(seed: int, factor: float, noise: float = 0.0) -> list[Truth]:
        """Each run twice, the second with a loss of its own."""
        rng = random.Random(seed)
        once = truths(seed)
        again = [
            dataclasses.replace(t, at=t.at + len(once), loss=round(t.loss * factor + rng.gauss(0, noise), 5))
            for t in once
        ]
        return once + again

    @pytest.mark.parametrize("name", ["git_branch", "project", "notes", "user", "host"])
    @pytest.mark.parametrize("levels", [("main", "fix-init"), ("lm-a", "lm-b")])
    def test_a_record_that_parts_better_from_worse_is_asked_about(
        self, tmp_path: Path, name: str, levels: tuple[str, str], order: int
    ) -> None:
        rows = self.doubled(order, 1.01, 0.004)
        sheet = Sheet(tmp_path, {**PLAIN, name: lambda t: levels[t.at >= len(rows) // 2]}, order, rows)
        assert sheet.codes() == {"settings_or_seeds"}
        assert len(sheet.check(split=(name,)).sweeps) == 2
        assert len(sheet.check(pool=(name,)).sweeps) == 1

    @pytest.mark.parametrize("name", ["git_branch", "host", "seed", "gpu"])
    def test_one_that_does_not_is_none(self, tmp_path: Path, name: str, order: int) -> None:
        rows = self.doubled(order, 1.0, 0.004)
        Sheet(tmp_path, {**PLAIN, name: lambda t: int(t.at >= len(rows) // 2)}, order, rows).check()
        Sheet(tmp_path, {**PLAIN, name + "_name": lambda t: "ab"[t.at >= len(rows) // 2]}, order, rows).check()

    @pytest.mark.parametrize("name", ["grad_noise", "memory_tokens", "gradient_penalty", "start_layer", "power"])
    @pytest.mark.parametrize("levels", [(0, 0.1), (4, 16), ("", 0.5)])
    def test_numbers_under_a_word_of_bookkeeping_that_make_a_grid(
        self, tmp_path: Path, name: str, levels: tuple[float, float], order: int
    ) -> None:
        rows = self.doubled(order, 1.0, 0.004)
        sheet = Sheet(tmp_path, {**PLAIN, name: lambda t: levels[t.at >= len(rows) // 2]}, order, rows)
        assert sheet.codes() == {"settings_or_seeds"}
        assert len(sheet.check(split=(name,)).sweeps) == 2

    @pytest.mark.parametrize("name", ["data_repeats", "unique_data", "end_frac", "n_repeats"])
    def test_of_repeats_and_shares(self, tmp_path: Path, name: str, order: int) -> None:
        rows = self.doubled(order, 1.0, 0.004)
        sheet = Sheet(tmp_path, {**PLAIN, name: lambda t: 4 if t.at >= len(rows) // 2 else 0.5}, order, rows)
        assert sheet.codes() == {"settings_or_seeds"}

    @pytest.mark.parametrize("name", ["grad_norm", "memory_gb", "power", "gradient_accumulation_steps", "repeat"])
    def test_measurements_machines_and_counted_repeats_are_none(self, tmp_path: Path, name: str, order: int) -> None:
        rows = self.doubled(order, 1.0, 0.004)
        measured = random.Random(order)
        cells = {
            t: measured.choice([35, 36, 37, 38]) if name == "power" else 1 + (t.at >= len(rows) // 2) for t in rows
        }
        Sheet(tmp_path, {**PLAIN, name: lambda t: cells[t]}, order, rows).check()

    def test_rows_that_differ_more_than_seeds(self, tmp_path: Path, order: int) -> None:
        rows = self.doubled(order, 1.08)
        assert Sheet(tmp_path, PLAIN, order, rows).codes() == {"unlike_seeds"}
        sheet = Sheet(tmp_path, {**PLAIN, "attempt": lambda t: 1 + (t.at < len(rows) // 2)}, order, rows)
        assert sheet.codes() == {"unlike_seeds"}
        assert len(runs(sheet.read(only={"attempt": "2"}))) == len(rows) // 2
        Sheet(tmp_path, PLAIN, order, rows).check(kind="runs")
        assert Sheet(tmp_path, without("lr"), order, truths(order, (1e-4, 1e-3, 1e-2, 1e-1))).codes() == {
            "unlike_seeds"
        }

    @pytest.mark.parametrize("name", ["name", "run", "exp_name"])
    def test_a_few_that_were_resumed(self, tmp_path: Path, name: str, order: int) -> None:
        rows = truths(order)
        half = [dataclasses.replace(t, tokens=t.tokens // 2, loss=t.loss + 0.3) for t in rows[1:8:3]]
        sheet = Sheet(tmp_path, {**PLAIN, name: lambda t: f"r{t.at}-lm"}, order, rows + half)
        assert sheet.codes() == {"points_or_runs"}
        found = sheet.read(column_map={name: "run_id"})
        assert sorted(run.loss or 0 for run in runs(found)) == sorted(t.loss for t in rows)


class TestColumnsThatSayNothing:
    @pytest.mark.parametrize("name", ["val_loss", "eval/loss"])
    def test_a_loss_that_never_changes(self, tmp_path: Path, name: str, order: int) -> None:
        columns = {name: lambda t: 10.83, "train_loss": lambda t: t.train}
        sheet = Sheet(tmp_path, {**without("val_loss"), **columns}, order)
        assert sheet.codes() == {"constant_loss"}
        sheet.check(lambda t: t.train, column_map={"train_loss": "loss"})

    @pytest.mark.parametrize("name", ["dataset_tokens", "config.dataset_tokens"])
    def test_tokens_of_the_data(self, tmp_path: Path, name: str, order: int) -> None:
        sheet = Sheet(tmp_path, {**without("tokens"), name: lambda t: 10_000_000_000}, order)
        assert sheet.codes() == {"tokens_of_data"}
        assert {run.tokens for run in runs(sheet.read(column_map={name: "tokens"}))} == {10_000_000_000}

    @pytest.mark.parametrize(("name", "cell"), [("step_size", 1000), ("lr_ratio", 0.1), ("eval_tokens", 10_000_000)])
    def test_constants_of_a_schedule_ask_nothing(self, tmp_path: Path, name: str, cell: float, order: int) -> None:
        Sheet(tmp_path, {**PLAIN, name: lambda t: cell}, order).check()

    @pytest.mark.parametrize("name", ["done", "trial.is_done"])
    def test_trials_that_are_not_done(self, tmp_path: Path, name: str, order: int) -> None:
        sheet = Sheet(tmp_path, {**PLAIN, name: lambda t: t.at % 5 != 1}, order)
        assert {each.column for each in sheet.read().rejections} == {name}

    @pytest.mark.parametrize("levels", [(256, 50257), (32000, 50304)])
    def test_long_numbers_that_come_back_are_chosen(self, tmp_path: Path, levels: tuple[int, int], order: int) -> None:
        rows = TestEqualRuns.doubled(order, 1.01)
        sheet = Sheet(tmp_path, {**PLAIN, "vocab": lambda t: levels[t.at >= len(rows) // 2]}, order, rows)
        assert sheet.codes() == {"settings_or_seeds"}
