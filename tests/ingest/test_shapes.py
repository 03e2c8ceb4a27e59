"""Tables that people made of their runs in ways of their own: the runs behind each are one sweep, whatever its columns
are called, in whatever order they stand, and whatever numbers are in them."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from lawfit.errors import Doubted, LogFormatError
from lawfit.ingest import Ingested, IngestOptions, read_table
from lawfit.ingest.cell_texts import with_words
from tests.ingest.tables import csv_text, read, runs, write_csv, write_excel, write_markdown

BATCH: Final = 131072


@dataclass(frozen=True)
class Sweep:
    """Sizes, lengths and rates of one sweep, and what each run came to."""

    sizes: tuple[tuple[float, float], ...]
    rates: tuple[float, ...]

    @property
    def truth(self) -> list[tuple[float, float, float, float]]:
        return [(n, d, lr, self.loss(n, d, lr)) for n, d in self.sizes for lr in self.rates]

    @staticmethod
    def loss(n: float, d: float, lr: float) -> float:
        return round(1.7 + 400 / n**0.34 + 400 / d**0.28 + 0.05 * math.log(lr / 0.003) ** 2, 4)


SWEEPS: Final = {
    "small": Sweep(((2e7, 4e8), (6e7, 1.2e9), (1.2e8, 2.4e9)), (1e-3, 2e-3, 4e-3, 8e-3)),
    "large": Sweep(((1.3e9, 2.6e10), (7e9, 1.4e11)), (3e-5, 1e-4, 3e-4)),
}


@pytest.fixture(params=SWEEPS)
def sweep(request: pytest.FixtureRequest) -> Sweep:
    return SWEEPS[request.param]


def found_in(found: Ingested) -> list[tuple[float, float, float, float | None]]:
    return sorted((run.params, run.tokens, run.lr, run.loss) for run in runs(found))


def asked(path: Path, **options: Any) -> dict[str, Mapping[str, Any]]:
    with pytest.raises(Doubted) as raised:
        read(path, **options)
    return {question["code"].removeprefix("ingest."): question for question in raised.value.questions}


def with_answer(question: Mapping[str, Any], choice: int, options: IngestOptions | None = None) -> dict[str, Any]:
    """The options that a choice of a question is, as a person would type it."""
    options = options or IngestOptions()
    for answer in question["choices"][choice]:
        options = options.answered(answer["option"], answer["value"])
    return {name: value for name, value in vars(options).items() if value != getattr(IngestOptions(), name)}


def shuffled(row: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """The same with its columns in another order."""
    names = list(row)
    random.Random(seed).shuffle(names)
    return {name: row[name] for name in names}


NAMES: Final = (
    {"n": "params", "d": "tokens", "b": "batch_tokens", "lr": "lr", "y": "loss"},
    {"n": "n_params", "d": "training_tokens", "b": "tokens_per_step", "lr": "Learning rate", "y": "val loss"},
    {"n": "Parameters", "d": "tokens_seen", "b": "global_batch_tokens", "lr": "max_lr", "y": "eval_loss"},
)


@pytest.mark.parametrize("order", range(3))
@pytest.mark.parametrize("called", NAMES, ids=["plain", "words", "others"])
class TestBlocks:
    def rows(self, sweep: Sweep, called: Mapping[str, str], order: int, *, both: bool = True) -> list[dict[str, Any]]:
        made, before = [], None
        for n, d, lr, y in sweep.truth:
            new = n != before
            row = {"n": n if new else None, "d": d if new or not both else None, "b": BATCH, "lr": lr, "y": y}
            made.append(shuffled({called[key]: value for key, value in row.items()}, order))
            before = n
        return made

    @pytest.mark.parametrize("both", [True, False], ids=["size and length", "size alone"])
    @pytest.mark.parametrize("kind", ["csv", "xlsx", "md"])
    def test_the_first_row_speaks_for_its_block(
        self, tmp_path: Path, sweep: Sweep, called: Mapping[str, str], order: int, kind: str, both: bool
    ) -> None:
        write = {"csv": write_csv, "xlsx": write_excel, "md": write_markdown}[kind]
        found = read(write(tmp_path / f"a.{kind}", self.rows(sweep, called, order, both=both)))
        assert found_in(found) == sorted(sweep.truth)
        assert any("stand in the first row of each of" in note for note in found.notes)

    def test_merged_cells(self, tmp_path: Path, sweep: Sweep, called: Mapping[str, str], order: int) -> None:
        openpyxl = pytest.importorskip("openpyxl")
        rows = self.rows(sweep, called, order)
        path = write_excel(tmp_path / "a.xlsx", rows)
        book = openpyxl.load_workbook(path)
        column = list(rows[0]).index(called["n"]) + 1
        for first in range(2, len(rows) + 2, len(sweep.rates)):
            last = first + len(sweep.rates) - 1
            book.active.merge_cells(start_row=first, end_row=last, start_column=column, end_column=column)
        book.save(path)
        assert found_in(read(path)) == sorted(sweep.truth)

    def test_a_line_of_its_own_above_each_block(
        self, tmp_path: Path, sweep: Sweep, called: Mapping[str, str], order: int
    ) -> None:
        made: list[dict[str, Any]] = []
        for row in self.rows(sweep, called, order):
            if row[called["n"]] is not None:
                title = {called["n"], called["d"]}
                made.append({name: value if name in title else None for name, value in row.items()})
            made.append({**row, called["n"]: None, called["d"]: None})
        found = read(write_csv(tmp_path / "a.csv", made))
        assert found_in(found) == sorted(sweep.truth)
        assert found.rejections == ()

    def test_a_size_that_comes_back_is_asked_about(
        self, tmp_path: Path, sweep: Sweep, called: Mapping[str, str], order: int
    ) -> None:
        rows = self.rows(sweep, called, order, both=False)
        again = rows[: len(sweep.rates)]  # the first size again, further down
        path = write_csv(tmp_path / "a.csv", [*rows, *({**row, called["b"]: 2 * BATCH} for row in again)])
        question = asked(path)["empty_below"]
        assert question["columns"] == [called["n"]]
        whole = [*sweep.truth, *sweep.truth[: len(sweep.rates)]]
        assert found_in(read(path, **with_answer(question, 0))) == sorted(whole)
        found = read(path, **with_answer(question, 1))
        assert {each.reason for each in found.rejections} == {"the cell is empty"}
        assert len(runs(found)) == len(sweep.sizes) + 1

    def test_an_oversight_is_no_block(
        self, tmp_path: Path, sweep: Sweep, called: Mapping[str, str], order: int
    ) -> None:
        rows = [
            shuffled({called[k]: v for k, v in zip(called, (n, d, BATCH, lr, y), strict=True)}, order)
            for n, d, lr, y in sweep.truth
        ]
        rows[2][called["n"]] = None
        found = read(write_csv(tmp_path / "a.csv", rows))
        assert [(each.column, each.reason) for each in found.rejections] == [(called["n"], "the cell is empty")]


SIZES_IN_NAMES: Final = ("pythia-{}", "llama-{}-run3", "{}_muon", "GPT {} seed 1", "exp7-{}-lr")


@pytest.mark.parametrize("form", SIZES_IN_NAMES)
@pytest.mark.parametrize("column", ["model", "name", "run", "Model name"])
@pytest.mark.parametrize("case", [str.lower, str.upper])
def test_sizes_in_names_are_offered_and_read(tmp_path: Path, sweep: Sweep, form: str, column: str, case: Any) -> None:
    def named(n: float) -> str:
        return form.format(case(f"{n / 1e9:g}b" if n >= 1e9 else f"{n / 1e6:g}m"))

    rows = [{column: named(n), "tokens": d, "batch_tokens": BATCH, "lr": lr, "loss": y} for n, d, lr, y in sweep.truth]
    path = write_csv(tmp_path / "a.csv", rows)
    question = asked(path)["missing_columns"]
    assert found_in(read(path, **with_answer(question, 0))) == sorted(sweep.truth)


@pytest.mark.parametrize("name", ["llama-7b-100b", "large", "v2", "7b-vs-13b"])
def test_a_name_without_one_size_is_not_guessed(tmp_path: Path, name: str) -> None:
    rows = [{"model": name, "tokens": 4e8, "batch_tokens": BATCH, "lr": lr, "loss": 3.0} for lr in (1e-3, 2e-3)]
    question = asked(write_csv(tmp_path / "a.csv", rows))["missing_columns"]
    assert not any(answer["value"] == "model=params" for choice in question["choices"] for answer in choice)


class TestBits:
    def path(self, folder: Path, sweep: Sweep, factor: float, other: str, name: str = "loss") -> Path:
        """A loss that is a factor of the column of bits."""
        bits = [(n, d, lr, round(y / math.log(2) / 4.2, 5)) for n, d, lr, y in sweep.truth]
        rows = [
            {"params": n, "tokens": d, "batch_tokens": BATCH, "lr": lr, other: y, name: round(y * factor, 5)}
            for n, d, lr, y in bits
        ]
        return write_csv(folder / "a.csv", rows)

    @pytest.mark.parametrize(
        ("name", "other"),
        [("loss", "loss_bpb"), ("loss", "bpb"), ("val_loss", "val_bits_per_byte"), ("val_loss", "bpb")],
    )
    @pytest.mark.parametrize("factor", [3.4, 4.2, 4.8])
    def test_bits_per_token_are_asked_about(
        self, tmp_path: Path, sweep: Sweep, other: str, name: str, factor: float
    ) -> None:
        path = self.path(tmp_path, sweep, factor, other, name)
        question = asked(path)["bits_or_nats"]
        assert question["safe"] is None
        nats, bits = ([run.loss for run in runs(read(path, **with_answer(question, choice)))] for choice in (0, 1))
        assert bits == pytest.approx([loss * math.log(2) for loss in nats if loss is not None])

    @pytest.mark.parametrize("factor", [2.4, 2.9])
    def test_nats_are_not(self, tmp_path: Path, sweep: Sweep, factor: float) -> None:
        assert len(runs(read(self.path(tmp_path, sweep, factor, "loss_bpb")))) == len(sweep.truth)

    def test_the_same_numbers_are_bits_per_byte(self, tmp_path: Path, sweep: Sweep) -> None:
        question = asked(self.path(tmp_path, sweep, 1.0, "loss_bpb"))["bits_or_nats"]
        assert question["choices"][question["safe"]][0]["value"] == "bits_per_byte"

    @pytest.mark.parametrize(("factor", "safe"), [(1.0, "bits"), (math.log(2), None)])
    def test_beside_bits_per_token(self, tmp_path: Path, sweep: Sweep, factor: float, safe: str | None) -> None:
        path = self.path(tmp_path, sweep, factor, "loss_bits")
        if safe is None:
            assert len(runs(read(path))) == len(sweep.truth)
        else:
            question = asked(path)["bits_or_nats"]
            assert question["choices"][question["safe"]][0]["value"] == safe


class TestPivots:
    STATED: Final = {"batch_tokens": f"{BATCH}", "tokens": "1e9"}

    def grid(self, sweep: Sweep) -> dict[tuple[float, float], float]:
        return {(n, lr): y for n, _, lr, y in sweep.truth}

    def path(self, folder: Path, header: Sequence[str], sweep: Sweep, *, across: str, write: Any = None) -> Path:
        grid, sizes = self.grid(sweep), [n for n, _ in sweep.sizes]
        if across == "sizes":
            rows = [[lr, *(grid[n, lr] for n in sizes)] for lr in sweep.rates]
        else:
            rows = [[n, *(grid[n, lr] for lr in sweep.rates)] for n in sizes]
        table = [dict(zip(header, row, strict=True)) for row in rows]
        return (write or write_csv)(folder / f"a.{'xlsx' if write is write_excel else 'csv'}", table)

    def check(self, found: Ingested, sweep: Sweep) -> None:
        expected = sorted((n, lr, y) for (n, lr), y in self.grid(sweep).items())
        assert sorted((run.params, run.lr, run.loss or 0) for run in runs(found)) == expected
        assert any("read as a pivot table" in note for note in found.notes)

    @pytest.mark.parametrize(
        "corner", ["lr \\ params", "lr/n_params", "learning_rate | params", "params \\ lr", "lr vs N"]
    )
    @pytest.mark.parametrize("style", ["{:g}", "{:.0f}", "M"])
    @pytest.mark.parametrize("write", [write_csv, write_excel], ids=["csv", "xlsx"])
    def test_a_corner_that_names_both(self, tmp_path: Path, sweep: Sweep, corner: str, style: str, write: Any) -> None:
        sizes = [f"{n / 1e6:g}M" if style == "M" else style.format(n) for n, _ in sweep.sizes]
        path = self.path(tmp_path, [corner, *sizes], sweep, across="sizes", write=write)
        self.check(read(path, constants=self.STATED), sweep)

    def test_rates_across(self, tmp_path: Path, sweep: Sweep) -> None:
        header = ["params \\ lr", *(f"{lr:g}" for lr in sweep.rates)]
        path = self.path(tmp_path, header, sweep, across="rates")
        self.check(read(path, constants=self.STATED), sweep)

    @pytest.mark.parametrize("form", ["lr={:g}", "lr = {:g}", "learning_rate: {:g}", "lr@{:g}"])
    @pytest.mark.parametrize("first", ["params", "N", "model_size"])
    def test_columns_that_say_it_themselves(self, tmp_path: Path, sweep: Sweep, form: str, first: str) -> None:
        header = [first, *(form.format(lr) for lr in sweep.rates)]
        path = self.path(tmp_path, header, sweep, across="rates")
        self.check(read(path, constants=self.STATED), sweep)

    def test_with_further_columns_and_gaps(self, tmp_path: Path, sweep: Sweep) -> None:
        grid = self.grid(sweep)
        rows = [
            {"params": n, "tokens": d, **{f"lr={lr:g}": grid[n, lr] for lr in sweep.rates}, "batch_tokens": BATCH}
            for n, d in sweep.sizes
        ]
        del rows[0][f"lr={sweep.rates[-1]:g}"]
        found = read(write_csv(tmp_path / "a.csv", rows))
        missing = (*sweep.sizes[0], sweep.rates[-1])
        assert found_in(found) == sorted(each for each in sweep.truth if each[:3] != missing)

    @pytest.mark.parametrize("corner", ["lr", "Learning rate", "max_lr"])
    def test_columns_of_nobody_knows_what_are_refused(self, tmp_path: Path, sweep: Sweep, corner: str) -> None:
        header = [corner, *(f"{65536 * 2**k}" for k, _ in enumerate(sweep.sizes))]
        with pytest.raises(LogFormatError, match=r"looks like a pivot table .* does not say what its columns are"):
            read(self.path(tmp_path, header, sweep, across="sizes"))

    def test_a_title_above(self, tmp_path: Path, sweep: Sweep) -> None:
        header = ["lr \\ params", *(f"{n:g}" for n, _ in sweep.sizes)]
        path = self.path(tmp_path, header, sweep, across="sizes")
        path.write_text("Validation loss,,\n\n" + path.read_text())
        self.check(read(path, constants=self.STATED), sweep)


@pytest.mark.parametrize("column", ["tokens_per_param", "tokens per parameter", "D/N", "TPP", "tok_per_param"])
@pytest.mark.parametrize("unit", ["", " [M]"])
@pytest.mark.parametrize("typed", [True, False])
def test_tokens_per_parameter(tmp_path: Path, sweep: Sweep, column: str, unit: str, typed: bool) -> None:
    rows = [
        {f"params{unit}": n / 1e6 if unit else n, column: d / n, "batch_tokens": BATCH, "lr": lr, "loss": y}
        for n, d, lr, y in sweep.truth
    ]
    found = read(write_csv(tmp_path / "a.csv", rows), column_map={column: "tokens"} if typed else {})
    assert found_in(found) == [pytest.approx(each) for each in sorted(sweep.truth)]


class TestScores:
    def path(self, folder: Path, sweep: Sweep, column: str, form: str, scale: float = 100) -> Path:
        rows = [
            {"params": n, "tokens": d, "batch_tokens": BATCH, column: form.format(scale * (1 - y / 10)), "lr": lr}
            for n, d, lr, y in sweep.truth
        ]
        return write_csv(folder / "a.csv", rows)

    def check(self, found: Ingested, sweep: Sweep) -> None:
        expected = [pytest.approx((*each[:3], each[3] / 10), abs=1e-3) for each in sorted(sweep.truth)]
        assert found_in(found) == expected

    @pytest.mark.parametrize("column", ["acc", "accuracy", "eval/acc", "top1"])
    @pytest.mark.parametrize("form", ["{:.2f}%", "{:.3f} %", "{:.2f}"])
    def test_percent(self, tmp_path: Path, sweep: Sweep, column: str, form: str) -> None:
        self.check(read(self.path(tmp_path, sweep, column, form)), sweep)

    @pytest.mark.parametrize("column", ["score", "final_score", "eval score"])
    @pytest.mark.parametrize(("form", "scale"), [("{:.2f}%", 100), ("{:.2f}", 100), ("{:.4f}", 1)])
    def test_the_flags_that_are_offered_work(
        self, tmp_path: Path, sweep: Sweep, column: str, form: str, scale: float
    ) -> None:
        path = self.path(tmp_path, sweep, column, form, scale)
        question = asked(path)["unbounded_score"]
        self.check(read(path, **with_answer(question, 0)), sweep)
        self.check(read(path, metric="score"), sweep)

    def test_a_score_without_bounds_is_refused_as_before(self, tmp_path: Path, sweep: Sweep) -> None:
        question = asked(self.path(tmp_path, sweep, "score", "{:.1f}", 3000))["unbounded_score"]
        assert [[answer["value"] for answer in choice] for choice in question["choices"]] == [["COLUMN=loss"]]


class TestLists:
    @pytest.mark.parametrize("column", ["loss", "val_loss", "val losses", "eval/loss"])
    @pytest.mark.parametrize("form", ["[{}]", "({})", "[ {} ]", "[{},]"])
    def test_the_last_is_the_final_one(self, tmp_path: Path, sweep: Sweep, column: str, form: str) -> None:
        rows = [
            {"params": n, "tokens": d, column: form.format(f"9.5, {y + 1}, {y}"), "batch_tokens": BATCH, "lr": lr}
            for n, d, lr, y in sweep.truth
        ]
        found = read(write_csv(tmp_path / "a.csv", rows))
        assert found_in(found) == sorted(sweep.truth)
        assert any("the loss is the last number" in note for note in found.notes)

    def test_of_json_lines(self, tmp_path: Path, sweep: Sweep) -> None:
        from tests.ingest.tables import write_jsonl

        rows = [
            {"params": n, "tokens": d, "loss": [5.0, y], "batch_tokens": BATCH, "lr": lr} for n, d, lr, y in sweep.truth
        ]
        assert found_in(read(write_jsonl(tmp_path / "a.jsonl", rows))) == sorted(sweep.truth)

    @pytest.mark.parametrize("last", ["nan", "NaN", "inf", "Infinity"])
    def test_a_run_that_diverged(self, tmp_path: Path, last: str) -> None:
        rows = [
            {"params": 2e7, "tokens": 4e8, "loss": f"[4.0, {end}]", "batch_tokens": BATCH, "lr": lr}
            for lr, end in ((1e-3, 3.5), (2e-3, 3.4), (4e-3, last))
        ]
        assert [run.loss for run in runs(read(write_csv(tmp_path / "a.csv", rows)))] == [3.5, 3.4, None]

    def test_a_list_of_something_else_is_rejected(self, tmp_path: Path) -> None:
        rows = [
            {"params": 2e7, "tokens": 4e8, "loss": "[a, b]", "batch_tokens": BATCH, "lr": 1e-3},
            {"params": 2e7, "tokens": 4e8, "loss": "3.4", "batch_tokens": BATCH, "lr": 2e-3},
        ]
        found = read(write_csv(tmp_path / "a.csv", rows))
        assert [each.reason for each in found.rejections] == ["'[a, b]' is not a number"]


class TestWordsOfNames:
    apart = 0.1  # losses of two levels

    def path(self, folder: Path, sweep: Sweep, form: str, levels: Sequence[str], column: str, order: int) -> Path:
        rows = [
            shuffled(
                {
                    column: form.format(level=level, n=f"{n / 1e6:g}M", lr=lr, k=k),
                    "params": n,
                    "tokens": d,
                    "batch_tokens": BATCH,
                    "lr": lr,
                    "loss": round(y + self.apart * at, 4),
                },
                order,
            )
            for at, level in enumerate(levels)
            for k, (n, d, lr, y) in enumerate(sweep.truth)
        ]
        return write_csv(folder / "a.csv", rows)

    @pytest.mark.parametrize("form", ["{level}-{n}-lr{lr}", "exp{k}_{level}", "{n}/{level}/{lr}", "Sweep {level} #{k}"])
    @pytest.mark.parametrize("levels", [("adamw", "muon"), ("SGD", "Lion", "Shampoo")])
    @pytest.mark.parametrize("column", ["run", "run_name", "name"])
    def test_optimizers_are_asked_about_and_not_pooled(
        self, tmp_path: Path, sweep: Sweep, form: str, levels: Sequence[str], column: str
    ) -> None:
        path = self.path(tmp_path, sweep, form, levels, column, order=len(form))
        question = asked(path)["settings_or_seeds"]
        assert question["columns"] == [f"words of {column}"]
        found = read(path, **with_answer(question, 0))
        assert sorted(each.recipe.optimizer for each in found.sweeps) == sorted(level.lower() for level in levels)
        assert {len(each.runs) for each in found.sweeps} == {len(sweep.truth)}
        assert len(read(path, **with_answer(question, 1)).sweeps) == 1

    @pytest.mark.parametrize("levels", [("baseline", "gqa"), ("rope", "alibi", "nope")])
    def test_other_designs_too(self, tmp_path: Path, sweep: Sweep, levels: Sequence[str]) -> None:
        path = self.path(tmp_path, sweep, "{level}_{n}_{k}", levels, "run", 1)
        found = read(path, **with_answer(asked(path)["settings_or_seeds"], 0))
        assert {each.recipe.extra["words of run"] for each in found.sweeps} == set(levels)

    def test_names_of_their_own_are_told_so_at_once(self, tmp_path: Path, sweep: Sweep) -> None:
        """Each name was looked for among all others: 20,000 of them took 3 s, five times as many 25 times as long."""
        word = ["".join(chr(97 + n // 26**k % 26) for k in range(4)) for n in range(20_000)]
        n, d, lr, y = sweep.truth[0]
        rows = [
            {"run": f"{w}-{w}", "params": n, "tokens": d, "batch": BATCH, "lr": lr, "loss": y + k * 1e-9}
            for k, w in enumerate(word)
        ]
        table = read_table(write_csv(tmp_path / "a.csv", rows))
        before = time.process_time()
        assert with_words(table, lambda column: column == "run") is table
        assert time.process_time() - before < 0.5

    @pytest.mark.parametrize("levels", [("seed1", "seed2"), ("run", "rerun"), ("a", "b"), ("s0", "s1")])
    def test_repeats_are_seeds(self, tmp_path: Path, sweep: Sweep, levels: Sequence[str]) -> None:
        self.apart = 0.005
        path = self.path(tmp_path, sweep, "{n}-{lr}-{level}", levels, "run", 2)
        assert len(read(path).sweeps) == 1

    def test_words_that_go_with_the_size_are_no_setting(self, tmp_path: Path, sweep: Sweep) -> None:
        words = dict(zip((n for n, _ in sweep.sizes), ("tiny", "little", "middle"), strict=False))
        rows = [
            {"name": f"{words[n]}-{lr}", "params": n, "tokens": d, "batch_tokens": BATCH, "lr": lr, "loss": y}
            for n, d, lr, y in sweep.truth
        ]
        assert len(read(write_csv(tmp_path / "a.csv", rows)).sweeps) == 1


@pytest.mark.parametrize("times", [2, 3])
def test_reruns_without_ids_are_said_to_be_seeds(tmp_path: Path, sweep: Sweep, times: int) -> None:
    rows = [
        {"params": n, "tokens": d, "batch_tokens": BATCH, "lr": lr, "loss": y + 0.001 * k}
        for k in range(times)
        for n, d, lr, y in sweep.truth
    ]
    found = read(write_csv(tmp_path / "a.csv", rows))
    said = f"{len(rows)} rows without an id or seed repeat {len(sweep.truth)} settings of all that the file says"
    assert any(note.startswith(said) for note in found.notes)
    with_ids = [{"run_id": f"r{k}", **row} for k, row in enumerate(rows)]
    found = read(write_csv(tmp_path / "b.csv", with_ids))
    assert not any("without an id" in note for note in found.notes)


def test_a_typed_answer_is_what_a_question_offers(tmp_path: Path) -> None:
    """`--fill` takes two words."""
    path = tmp_path / "a.csv"
    path.write_text(csv_text([{"params": 1e7, "tokens": 2e8, "batch_tokens": BATCH, "lr": 1e-3, "loss": 3.0}]))
    with pytest.raises(ValueError, match=r"--fill takes params=down or params=no, got 'up'"):
        read(path, fill={"params": "up"})
