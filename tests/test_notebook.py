"""The notebook path: a DataFrame in, an answer and figures out, no database."""

from __future__ import annotations

import html
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import lawfit
from lawfit import pipeline
from lawfit.ask import Target
from lawfit.errors import LogFormatError, NoRecipe
from lawfit.estimate.lr_batch.analysis import FitOptions
from lawfit.plots import notebook
from lawfit.records import Sweep
from lawfit.simulate import demo_sweep, write_csv
from lawfit.storage import Store
from lawfit.words import told


@pytest.fixture(scope="module")
def frame(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    path = tmp_path_factory.mktemp("sweep") / "sweep.csv"
    write_csv(demo_sweep().runs, path)
    return pd.read_csv(path)


@pytest.fixture(scope="module")
def fitted(frame: pd.DataFrame) -> lawfit.FittedSweep:
    return lawfit.fit(lawfit.observe(frame), backtest=False)


def test_every_row_is_a_run_or_a_rejection(frame: pd.DataFrame) -> None:
    sweep = lawfit.observe(frame)
    assert len(sweep.runs) + len(sweep.rejections) == len(frame)
    assert "learning_rate" in str(sweep)


def test_an_answer_holds_the_truth_in_its_interval(fitted: lawfit.FittedSweep) -> None:
    answer = lawfit.predict(fitted, params=1e8, tokens=3e9)
    lr, batch = demo_sweep().truth.optimum(1e8, 3e9)
    assert answer.lr_interval[0] < lr < answer.lr_interval[1]
    assert answer.batch_interval[0] < batch < answer.batch_interval[1]
    assert f"{answer.lr:.3g}" in str(answer)


def test_an_answer_is_what_the_command_line_gives(frame: pd.DataFrame, fitted: lawfit.FittedSweep) -> None:
    """Further laws and ids included; only the times of the fits differ."""
    answer = lawfit.predict(fitted, params=1e8, tokens=3e9)
    with Store.open(":memory:") as store:
        store.put_sweeps([Sweep(recipe=fitted.sweep.recipe, runs=fitted.sweep.runs)])
        pipeline.refit(store, options=FitOptions(backtest=False))
        stored = pipeline.recommend(store, None, Target(params=1e8, tokens=3e9))
    assert answer.expected_loss == stored["expected_loss"]["value"]
    assert answer.weight_decay is None
    assert "weight_decay" in answer.document["missing"]
    assert f"expected loss {answer.expected_loss:.4g} nats" in str(answer)
    for document in (answer.document, stored):
        document["evidence"]["created_at"] = document["id"] = ""
    assert stored["evidence"].pop("runs_changed") == 0  # of a store alone
    assert answer.document == told(stored)


@pytest.mark.parametrize("kind", ["lr", "batch_tokens", "cost_lr", "cost_batch_tokens", "surface"])
def test_figures_build(fitted: lawfit.FittedSweep, kind: str) -> None:
    answer = lawfit.predict(fitted, params=1e9, tokens=2e10)
    assert len(lawfit.plot(fitted, answer, kind).data) > 0


def test_an_unknown_figure_is_named(fitted: lawfit.FittedSweep) -> None:
    with pytest.raises(ValueError, match="there is no figure 'pie'"):
        lawfit.plot(fitted, None, "pie")
    with pytest.raises(ValueError, match="shows a recommendation"):
        lawfit.plot(fitted, None, "lr")


def test_several_recipes_are_not_pooled(frame: pd.DataFrame) -> None:
    two = pd.concat([frame, frame.assign(optimizer="muon", run_id=frame["run_id"] + "-m")])
    with pytest.raises(NoRecipe, match="2 recipes"):
        lawfit.observe(two)
    name = lawfit.observe(frame).recipe.name
    with pytest.raises(NoRecipe):
        lawfit.observe(two, recipe=name + "-nothing")


def test_a_missing_column_is_named(frame: pd.DataFrame) -> None:
    with pytest.raises(LogFormatError, match=r"learning rate|lr"):
        lawfit.observe(frame.drop(columns="learning_rate"))


def test_import_is_light() -> None:
    code = "import sys, lawfit; print(*{'numpy', 'pandas', 'scipy', 'plotly', 'sqlalchemy'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parent
    )
    assert done.stdout.strip() == ""


def test_transfer_of_the_learning_rate_in_a_notebook() -> None:
    """Our own sweeps: flat with width in muP, falling in standard parametrization."""
    folder = Path(__file__).parents[1] / "data"
    sweeps = [lawfit.observe(pd.read_csv(folder / name)) for name in ("proxy_mup.csv", "proxy_sweep.csv")]
    answer = lawfit.transfer(*sweeps)
    assert "flat within noise: width^" in str(answer)
    assert "moves as width^-" in str(answer)
    figure = lawfit.plot(answer)
    assert len(figure.data) == 4  # two recipes: a line and its dots
    assert figure.layout.xaxis.title.text == "width"


def test_a_plan_is_what_the_command_line_gives(fitted: lawfit.FittedSweep) -> None:
    plan = lawfit.plan(fitted, flops=1e19, gpus=8, flops_per_second=1e14)
    ends = plan.params_interval
    assert ends is not None
    assert ends[0] <= plan.params <= ends[1]
    assert 6 * plan.params * plan.tokens == pytest.approx(1e19, rel=1e-4)
    assert (
        plan.document["plan"]
        == lawfit.plan(fitted, gpus=8, days=1e19 / 8e14 / 86400, flops_per_second=1e14).document["plan"]
    )
    for words in (f"parameters {plan.params:.4g}", "expected loss", "1e19 FLOPs"):
        assert words in str(plan)
    assert len(lawfit.plot(fitted, plan).data) > 1
    assert len(lawfit.plot(fitted, plan, "plane").data) > 2
    with pytest.raises(ValueError, match="valley, plane, routes, time"):
        lawfit.plot(fitted, plan, "surface")
    with pytest.raises(ValueError, match="nothing is known of flop"):
        lawfit.plan(fitted, flop=1e19)


@pytest.fixture(scope="module")
def shown(fitted: lawfit.FittedSweep) -> dict[str, Any]:
    answer = lawfit.predict(fitted, params=1e8, tokens=3e9)
    plan = lawfit.plan(fitted, flops=1e19)
    return {"sweep": fitted.sweep, "fit": fitted, "answer": answer, "plan": plan}


class TestAtTheEndOfACell:
    """What a notebook shows of a result that is not printed."""

    @pytest.mark.parametrize("name", ["sweep", "fit", "answer", "plan"])
    def test_as_text_a_few_lines_of_what_print_says(self, shown: dict[str, Any], name: str) -> None:
        lines, every = repr(shown[name]).splitlines(), str(shown[name]).splitlines()
        assert len(lines) == min(len(every), 10)
        assert max(map(len, lines)) <= 160
        assert lines[0][:100] == every[0][:100]
        if len(every) > 10:
            assert lines[-1] == f"... {len(every) - 9} lines more: print it"

    @pytest.mark.parametrize("name", ["sweep", "fit", "answer", "plan"])
    def test_as_html_all_of_it_with_its_figure(self, shown: dict[str, Any], name: str) -> None:
        page = shown[name]._repr_html_()
        assert html.escape(str(shown[name])) in page
        assert "Plotly.newPlot" in page
        assert "cdn" not in shown[name]._repr_html_()  # nothing is fetched

    def test_the_library_comes_with_the_first_figure_alone(
        self, shown: dict[str, Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(notebook._SESSION, "has library", False)
        sizes = [len(shown["answer"]._repr_html_()) for _ in range(2)]
        assert sizes[0] > 3_000_000 > 200_000 > sizes[1]

    def test_without_a_figure_there_are_words(self, shown: dict[str, Any]) -> None:
        alone = lawfit.Answer(document=shown["answer"].document)
        assert alone == shown["answer"]
        assert alone._repr_html_() == f'<pre style="white-space: pre-wrap; margin: 0">{html.escape(str(alone))}</pre>'


def test_numbers_may_be_written_as_people_do(fitted: lawfit.FittedSweep) -> None:
    said = lawfit.predict(fitted, params="100M", tokens="3B", max_batch_tokens="200k").document
    meant = lawfit.predict(fitted, params=1e8, tokens=3e9, max_batch_tokens=2e5).document
    assert {**said, "id": "", "created_at": ""} == {**meant, "id": "", "created_at": ""}
    assert (
        lawfit.plan(fitted, flops="1e19", gpus="8", flops_per_second="100T").document["plan"]
        == (lawfit.plan(fitted, flops=1e19, gpus=8, flops_per_second=1e14).document["plan"])
    )
    with pytest.raises(ValueError, match=r"'seven' is not a number; write it like 7e9, 7B or 1\.4T"):
        lawfit.predict(fitted, params="seven", tokens="3B")
