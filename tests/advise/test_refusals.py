"""Command line, notebook, REST and page answer alike or refuse with the same sentence."""

from __future__ import annotations

import html
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import lawfit
from lawfit import pipeline
from lawfit.ask import Target
from lawfit.cli.main import ExitCode, run
from lawfit.errors import LogFormatError, NoFit, Unanswerable
from lawfit.estimate.lr_batch import certificate as surface_certificate
from lawfit.estimate.lr_batch.analysis import FitOptions
from lawfit.findings import code_of, finding
from lawfit.pipeline.answering import answer
from lawfit.records import FitStatus, Run, Sweep
from lawfit.settings import Settings
from lawfit.simulate import write_csv
from lawfit.storage import Store
from lawfit.words import tell
from lawfit_api.app import create_app
from tests.client import TestClient
from tests.estimate.simulated import RECIPE
from tests.estimate.sparse_sweeps import MADE, added

ASKED = {"params": "1e8", "tokens": "2e9"}


@dataclass(frozen=True, kw_only=True)
class Said:
    """What one surface did: a document, or the sentence and the findings of a refusal."""

    document: Mapping[str, Any] | None = None
    sentence: str = ""
    codes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Case:
    """A sweep, how to ingest it, what to ask, and the findings that refuse; none: it is answered."""

    made: str = ""
    file: str = ""
    column_map: Mapping[str, str] | None = None
    batch_unit: str | None = None
    asked: Mapping[str, str] | None = None
    codes: tuple[str, ...] = ()
    says: str = ""
    or_lr: tuple[float, float] | None = None  # where the refusal is for want of a better fit: what an answer would be


CASES = {
    "one run": Case(made="one run", codes=("one_run",), says="one setting alone finished"),
    "a rule": Case(
        made="every size with one run, by a rule",
        codes=("rate_by_rule",),
        says="the learning rate was set by a rule (one rate per size, ",
    ),
    "one rate": Case(
        made="all runs at one rate", codes=("one_rate",), says="all runs have one learning rate (3.00e-3)"
    ),
    "two rates": Case(
        made="two rates at each size", codes=("two_rates",), says="none of the 3 scales has more than two"
    ),
    "flat": Case(made="no difference but noise", codes=("flat",), says="do not tell learning rates apart"),
    "a hill": Case(made="highest in the middle", codes=("hill",), says="give 1 minus it instead"),
    "a sweep at one batch": Case(made="a sweep at one batch"),
    "a grid": Case(made="a grid"),
    "c12 as error": Case(
        file="c12_error_fraction.csv",
        column_map={"samples_seen": "tokens", "error": "loss"},
        batch_unit="tokens",
        asked={"params": "11173962", "tokens": "900000", "batch_tokens": "128"},
        codes=("one_batch",),
        says="all runs have one batch, so the best batch is not determined",
        or_lr=(0.2, 0.25),
    ),
    "c12 as accuracy under another name": Case(
        file="c12_accuracy_fraction.csv",
        column_map={"samples_seen": "tokens", "metric": "loss"},
        batch_unit="tokens",
        codes=("hill",),
        says="give 1 minus it instead",
    ),
    "c01, its smallest sizes": Case(
        file="c01_teacher_student_sweep.csv",
        batch_unit="tokens",
        codes=("rate_by_rule",),
        says="the learning rate was set by a rule (one rate per scale, ",
    ),
}


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LAWFIT_DATABASE_URL", "sweep.db")
    return "sweep.db"


def frame_of(case: Case, request: pytest.FixtureRequest) -> pd.DataFrame:
    """The table of a case."""
    if case.made:
        write_csv(MADE[case.made](), Path("made.csv"))
        return pd.read_csv("made.csv")
    frame = pd.read_csv(request.getfixturevalue("shared_data") / "cases" / case.file)
    if case.file.startswith("c01"):
        frame = frame[(frame["schedule"] == "cosine") & (frame["N"] < 1000)]
    if "metric" in (case.column_map or {}):
        frame = frame.rename(columns={"test_accuracy": "metric"})
    return frame


def printed(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, Any]:
    """Exit code and document of a command."""
    capsys.readouterr()
    code = run([*words, "--json"])
    return code, json.loads(capsys.readouterr().out)


def by_command(capsys: pytest.CaptureFixture[str], asked: Mapping[str, str]) -> Said:
    words = [word for name, value in asked.items() for word in (f"--{name.replace('_', '-')}", value)]
    code, document = printed(capsys, "predict", *words)
    if code == ExitCode.OK:
        return Said(document=document)
    assert code == ExitCode.NOT_ENOUGH
    assert document["error"]["type"] == "Unanswerable"
    return Said(sentence=document["error"]["message"], codes=tuple(row["code"] for row in document["error"]["lacking"]))


def by_rest(client: TestClient, asked: Mapping[str, str]) -> Said:
    response = client.get("/v1/predictions", params=asked)
    if response.status_code == 200:
        return Said(document=response.json())
    problem = response.json()
    assert (response.status_code, problem["type"]) == (409, "Unanswerable")
    return Said(sentence=problem["detail"], codes=tuple(row["code"] for row in problem["lacking"]))


def by_notebook(fitted: lawfit.FittedSweep, asked: Mapping[str, str]) -> Said:
    try:
        return Said(document=lawfit.predict(fitted, **{name: float(value) for name, value in asked.items()}).document)
    except Unanswerable as error:
        return Said(sentence=str(error), codes=tuple(row["code"] for row in error.lacking))


@pytest.mark.parametrize("case", [pytest.param(case, id=name) for name, case in CASES.items()])
@pytest.mark.usefixtures("one_voice")
def test_all_surfaces_say_the_same(
    case: Case, database: str, capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest
) -> None:
    frame = frame_of(case, request)
    frame.to_csv("sweep.csv", index=False)
    options = [word for column, field in (case.column_map or {}).items() for word in ("--map", f"{column}={field}")]
    options += ["--batch-unit", case.batch_unit] if case.batch_unit else []
    assert printed(capsys, "ingest", "sweep.csv", *options)[0] == ExitCode.OK
    assert printed(capsys, "fit")[0] == ExitCode.OK
    observed = lawfit.observe(
        pd.read_csv("sweep.csv"), recipe="sweep", column_map=case.column_map, batch_unit=case.batch_unit
    )
    asked = case.asked or ASKED

    command = by_command(capsys, asked)
    with TestClient(create_app(Settings(database_url=database))) as client:
        rest = by_rest(client, asked)
        page = client.get("/", params=asked)
    notebook = by_notebook(lawfit.fit(observed), asked)

    assert command.codes == rest.codes == notebook.codes
    assert command.sentence == rest.sentence == notebook.sentence
    if command.document is not None and case.or_lr is not None:
        assert case.or_lr[0] <= command.document["recommendation"]["lr"]["value"] <= case.or_lr[1]
    else:
        assert command.codes == case.codes
    if command.codes:
        assert page.status_code == 409
        assert command.sentence[1:] in html.unescape(page.text)  # it begins with a capital there
        assert case.says in command.sentence
        assert "runs that would mend it: at " in command.sentence
        assert "starts" not in command.sentence
        return
    assert page.status_code == 200
    assert command.document is not None
    assert command.document["id"] in page.text
    for said in (rest, notebook):
        assert said.document is not None
        assert said.document["recommendation"] == command.document["recommendation"]
        assert said.document["warnings"] == command.document["warnings"]


@pytest.fixture
def refused() -> Iterator[Store]:
    """A store with a fit that may not be used."""
    with Store.open(":memory:") as store:
        store.put_sweeps([Sweep(recipe=RECIPE, runs=MADE["two rates at each size"]())])
        pipeline.refit(store, options=QUICK)
        yield store


QUICK = FitOptions(backtest=False)
TARGET = Target(params=1e8, tokens=2e9)


class TestAskedForById:
    def test_a_stored_fit_answers_and_says_why_it_is_not_used(self, refused: Store) -> None:
        (fit,) = (fit for fit in refused.fits() if fit.kind == "lr_batch")
        document = pipeline.recommend(refused, None, TARGET, fit_id=fit.id)
        (warning,) = (each for each in document["warnings"] if code_of(each) == "advice.not_certified")
        assert "none of the 3 scales has more than two learning rates" in tell(warning)
        certificate = document["evidence"]["certificate"]
        assert not certificate["certified"]
        assert code_of(certificate["reasons"][0]) == "lr_batch.two_rates"

    def test_a_fit_in_memory_answers_too(self, tmp_path: Path) -> None:
        write_csv(MADE["two rates at each size"](), tmp_path / "made.csv")
        fitted = lawfit.fit(lawfit.observe(pd.read_csv(tmp_path / "made.csv")), backtest=False)
        with pytest.raises(Unanswerable, match=f"lawfit predict --fit {fitted.fit.id}; .*fit_id= in Python"):
            lawfit.predict(fitted, params=1e8, tokens=2e9)
        with pytest.raises(NoFit, match=f"this is fit {fitted.fit.id}, not nope"):
            lawfit.predict(fitted, params=1e8, tokens=2e9, fit_id="nope")
        asked = lawfit.predict(fitted, params=1e8, tokens=2e9, fit_id=fitted.fit.id)
        assert any("asked for by id" in words for words in asked.warnings)
        assert "not used, because none of the 3 scales" in str(fitted)
        with pytest.raises(Unanswerable):
            lawfit.plan(fitted, flops=1e20)

    def test_a_fit_of_one_law_alone_does_not(self, refused: Store) -> None:
        fit = replace(refused.fits()[0], kind="timescale")
        with pytest.raises(NoFit) as caught:
            answer(fit, RECIPE, TARGET, {}, asked_by_id=True)
        assert caught.value.finding == finding("pipeline.one_law", fit_id=fit.id, kind="timescale")


class TestOlderFits:
    def test_the_runs_that_were_asked_for_are_answered_from(self, refused: Store) -> None:
        with pytest.raises(Unanswerable) as error:
            pipeline.recommend(refused, None, TARGET)
        (lack,) = error.value.lacking
        refused.put_sweeps([Sweep(recipe=RECIPE, runs=added(lack["runs"]))])
        pipeline.refit(refused, options=QUICK)
        assert pipeline.recommend(refused, None, TARGET)["recommendation"]["lr"]["value"] > 0

    def test_an_older_fit_of_other_runs_answers(self) -> None:
        with Store.open(":memory:") as store:
            runs = MADE["a sweep at one batch"]()
            store.put_sweeps([Sweep(recipe=RECIPE, runs=runs)])
            old = pipeline.refit(store, options=QUICK)
            lucky = [replace(run, loss=3.0) for run in runs]  # corrected, and now all alike
            store.put_sweeps([Sweep(recipe=RECIPE, runs=tuple(lucky))])
            assert pipeline.refit(store, options=QUICK).status is FitStatus.UNCERTIFIED
            document = pipeline.recommend(store, None, TARGET)
            assert document["evidence"]["fit_id"] == old.id
            assert [code_of(each) for each in document["warnings"][:2]] == [
                "pipeline.runs_changed",
                "pipeline.older_fit",
            ]
            assert "do not tell learning rates apart" in tell(document["warnings"][1])

    def test_one_of_the_same_runs_by_older_code_does_not(self, refused: Store) -> None:
        """It was certified before anybody looked at what the runs lack."""
        (found,) = (fit for fit in refused.fits() if fit.kind == "lr_batch")
        payload = {name: value for name, value in found.payload.items() if name != "lacking"}
        refused.put_fit(replace(found, id="before", status=FitStatus.SPARSE, code_version="0.0", payload=payload))
        assert pipeline.recommend(refused, None, TARGET)["evidence"]["fit_id"] == "before"
        pipeline.refit(refused, options=QUICK)
        with pytest.raises(Unanswerable, match="more than two learning rates"):
            pipeline.recommend(refused, None, TARGET)


class TestAtALevel:
    """A level that is asked for changes nothing about who may answer."""

    AT = ("attention=mla",)

    @pytest.fixture
    def levels(self) -> Iterator[Store]:
        """A fit at a level that was asked for, and may not be used."""
        runs = MADE["two rates at each size"]()
        both = [
            replace(run, run_key=f"{name} {run.run_key}", extra={**run.extra, "attention": name})
            for name in ("gqa", "mla")
            for run in runs
        ]
        with Store.open(":memory:") as store:
            store.put_sweeps([Sweep(recipe=RECIPE, runs=tuple(both))])
            yield store

    def test_what_the_runs_lack_is_said_and_not_to_fit_again(self, levels: Store) -> None:
        with pytest.raises(NoFit, match=r"run lawfit fit .*--at attention=mla") as caught:
            pipeline.recommend(levels, None, TARGET, at=self.AT)
        at = {"recipe": RECIPE.name, "levels": {"attention": "mla"}}
        assert caught.value.finding == finding("pipeline.no_fit_at", **at)
        pipeline.refit(levels, options=QUICK, at=self.AT)
        with pytest.raises(Unanswerable, match="more than two learning rates"):
            pipeline.recommend(levels, None, TARGET, at=self.AT)

    def test_a_fit_of_the_same_runs_by_older_code_does_not_answer(self, levels: Store) -> None:
        pipeline.refit(levels, options=QUICK, at=self.AT)
        (found,) = (fit for fit in levels.fits() if fit.kind == "lr_batch")
        levels.put_fit(replace(found, id="before", status=FitStatus.SPARSE, code_version="0.0"))
        assert pipeline.recommend(levels, None, TARGET, at=self.AT)["evidence"]["fit_id"] == "before"
        pipeline.refit(levels, options=QUICK, at=self.AT)
        with pytest.raises(Unanswerable, match="more than two learning rates"):
            pipeline.recommend(levels, None, TARGET, at=self.AT)


class TestTheSearchFailed:
    """What explains it is said first; how the search went, only where nothing about the runs does."""

    def sentence(self, runs: tuple[Run, ...], monkeypatch: pytest.MonkeyPatch) -> str:
        monkeypatch.setattr(surface_certificate, "NEAR", 0.0)  # nothing is near enough
        with Store.open(":memory:") as store:
            store.put_sweeps([Sweep(recipe=RECIPE, runs=runs)])
            pipeline.refit(store, options=QUICK)
            with pytest.raises(Unanswerable) as error:
                pipeline.recommend(store, None, TARGET)
        return str(error.value)

    @pytest.mark.parametrize(
        ("name", "words"),
        [
            ("best at the smallest rate", "fall all the way to the smallest learning rate tried at 3 of 3 scales"),
            ("best at the largest rate", "fall all the way to the largest learning rate tried at 3 of 3 scales"),
            ("three runs at one scale", "fewer than 4 settings at 1 of 1 scale"),
            ("one run far below the others", "below every other: check it"),
            ("a sweep at one batch", "all runs have one batch, so the best batch is not determined"),
        ],
    )
    def test_on_runs_that_lack_something(self, name: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
        said = self.sentence(MADE[name](), monkeypatch)
        assert words in said
        assert "did not converge" not in said

    def test_on_runs_that_lack_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        said = self.sentence(MADE["a grid"](), monkeypatch)
        assert "it is not used: the search did not converge" in said


def test_an_unfittable_sweep_says_what_it_lacks_first(monkeypatch: pytest.MonkeyPatch) -> None:
    from lawfit.errors import FitError
    from lawfit.estimate.lr_batch import analysis
    from lawfit.pipeline.fitting import fit_runs

    def fails(*_: object, **__: object) -> None:
        raise FitError("no joint surface could be fitted")

    monkeypatch.setattr(analysis, "analyse", fails)
    with pytest.raises(FitError, match=r"none of the 3 scales .*; no joint surface could be fitted"):
        fit_runs(RECIPE, MADE["two rates at each size"]())


class TestScores:
    """Of an accuracy, higher is better: it is never minimised silently."""

    @pytest.mark.parametrize(
        "column", ["test_accuracy", "acc", "val/acc1", "eval.f1", "config.accuracy", "valAccuracy"]
    )
    @pytest.mark.parametrize("mapped", [False, True], ids=["by its name", "mapped"])
    def test_one_with_bounds_is_turned_into_a_loss(self, column: str, mapped: bool) -> None:
        frame = pd.DataFrame({"lr": [0.1], "params": [1e6], "tokens": [1e8], "batch_tokens": [1e4], column: [0.9]})
        sweep = lawfit.observe(frame, column_map={column: "loss"} if mapped else None)
        assert sweep.runs[0].loss == pytest.approx(0.1)
        assert sweep.recipe.loss_kind == "1 - score"
        assert f"the loss is 1 - '{column}', a score of which higher is better" in sweep.notes

    @pytest.mark.parametrize("mapped", [False, True], ids=["by its name", "mapped"])
    def test_one_that_may_be_a_share_is_asked_about(self, mapped: bool) -> None:
        frame = pd.DataFrame({"lr": [0.1], "params": [1e6], "tokens": [1e8], "batch_tokens": [1e4], "Score": [0.9]})
        with pytest.raises(LogFormatError, match=r"'Score' is a score by its name, .* a share of 1 or of 100 %"):
            lawfit.observe(frame, column_map={"Score": "loss"} if mapped else None)

    @pytest.mark.parametrize("column", ["reward", "mean_return", "eval/psnr"])
    @pytest.mark.parametrize("mapped", [False, True], ids=["by its name", "mapped"])
    def test_one_without_bounds_is_refused(self, column: str, mapped: bool) -> None:
        frame = pd.DataFrame({"lr": [0.1], "params": [1e6], "tokens": [1e8], "batch_tokens": [1e4], column: [0.9]})
        with pytest.raises(LogFormatError, match=f"'{column}' is a score by its name, .* no upper bound"):
            lawfit.observe(frame, column_map={column: "loss"} if mapped else None)

    @pytest.mark.parametrize("column", ["error", "accuracy_loss", "top1_error", "err", "objective"])
    def test_what_is_lower_the_better_can_be_mapped(self, column: str) -> None:
        frame = pd.DataFrame({"lr": [0.1], "params": [1e6], "tokens": [1e8], "batch_tokens": [1e4], column: [0.9]})
        assert lawfit.observe(frame, column_map={column: "loss"}).runs[0].loss == 0.9

    @pytest.mark.parametrize("name", ["c12_accuracy_fraction.csv", "c12_accuracy_percent.csv"])
    def test_the_sweeps_scored_by_accuracy(
        self, name: str, shared_data: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = shared_data / "cases" / name
        accuracy = pd.read_csv(path)["test_accuracy"]
        wanted = (1 - accuracy / (100 if accuracy.max() > 1 else 1)).tolist()
        code, document = printed(capsys, "--database", ":memory:", "ingest", str(path))
        assert code == ExitCode.OK
        said = document["files"][0]["notes"]
        assert any("a score of which higher is better" in note for note in said)
        sweep = lawfit.observe(pd.read_csv(path))
        assert [run.loss for run in sweep.runs] == pytest.approx(wanted)
        assert sweep.runs[min(range(len(wanted)), key=wanted.__getitem__)].lr == 0.2
        assert [note for note in sweep.notes if note in said] == list(sweep.notes)  # all interfaces say the same
