"""Studies in rounds, with a stand-in for the trainer: what they go by, when they end, and what broken ones leave."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lawfit import pipeline
from lawfit.ask import StudyQuestion
from lawfit.cli.main import ExitCode, run
from lawfit.errors import NotEnoughData
from lawfit.findings import finding
from lawfit.launch import LaunchOptions
from lawfit.pipeline import study_rounds, studying
from lawfit.planner.pace import Pace, Packs
from lawfit.records import Run, RunStatus
from lawfit.report.page import write_study_report
from lawfit.storage import Store
from lawfit.storage.studies import begin_round
from tests.storage.builders import recipe
from tests.storage.builders import run as run_record
from tests.study.conftest import HOW, LIMITS, TARGET, Made
from tests.study.made_trainer import best
from tests.study.test_over_http import MADE, ROUND, keep

WORDS = ("study", "run", *TARGET, *LIMITS, *HOW)
TWO_ROUNDS = (*WORDS, "--budget", "54runs", "--rounds", "2")


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """Run a command with --json, check its exit code, and give back its document."""

    def called(*words: object, code: int = 0) -> Any:
        capsys.readouterr()
        assert run([*map(str, words), "--json"]) == code, capsys.readouterr().err
        return json.loads(capsys.readouterr().out)

    return called


def settled(document: Any) -> Any:
    """A document without what a clock measured and its moments."""
    if isinstance(document, dict):
        timed = ("seconds", "gpu_hours", "flops_per_second", "created_at", "updated_at", "launch")
        return {name: settled(value) for name, value in document.items() if name not in timed}
    return [settled(each) for each in document] if isinstance(document, list) else document


def test_from_nothing_to_an_answer_round_by_round(
    made: Made, call: Callable[..., Any], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    document = call(*TWO_ROUNDS)
    first, second = document["rounds"]
    assert (document["state"], len(document["rounds"])) == ("ended", 2)
    assert document["stopped"] == "the budget of 54 runs is spent"
    assert set(made.trained.values()) == {1}
    assert set(made.trained) == {*first["run_ids"], *second["run_ids"]}
    assert document["budget"]["spent"] == document["budget"]["runs"] == len(made.trained) <= 54
    assert (first["plan"]["share"], second["plan"]["share"]) == (27, 54 - first["made"]["runs"])
    assert first["before"]["lr_factor"] > 3  # published laws alone
    assert second["before"] == first["got"]  # one yardstick, from round to round
    for one in (first, second):
        assert one["made"]["cost"] == one["made"]["runs"] == one["plan"]["runs"] <= one["plan"]["share"]
        assert one["made"]["flops"] == pytest.approx(
            sum(6 * s["params"] * s["tokens"] * s["runs"] for s in one["scales"]), rel=0.05
        )
        assert one["promised"]["expected_regret"] < one["before"]["expected_regret"]
        assert pipeline.kept_plan(Store.open("lawfit.db"), one["plan_id"])["after"] == one["promised"]
    answer = document["answer"]
    assert answer == second["answer"]
    best_lr, _ = best(30_000, 300_000)
    assert answer["lr_low"] < best_lr < answer["lr_high"]
    assert answer["lr_factor"] == pytest.approx(math.sqrt(answer["lr_high"] / answer["lr_low"]), rel=1e-5)
    kept = call("predictions", "show", answer["prediction_id"])
    assert kept["expected_regret"]["loss_fraction"] == answer["expected_regret"]

    assert call(*TWO_ROUNDS) == call("study", "show", document["id"]) == document  # over is over
    assert set(made.trained.values()) == {1}
    (line,) = call("study", "list")["studies"]
    assert (line["id"], line["rounds"], line["expected_regret"]) == (document["id"], 2, answer["expected_regret"])

    assert run(["study", "show", document["id"], "--report", "page.html"]) == 0
    shown = capsys.readouterr().out
    assert f"x{first['promised']['lr_factor']:.2f}, x{first['got']['lr_factor']:.2f}" in shown
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "What each round cost and taught" in page
    assert document["id"] in page


class Killed(BaseException):
    """What no code of ours catches, as little as a signal that kills."""


def test_killed_between_any_two_steps_the_same_command_goes_on(
    made: Made, call: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before and after a round is kept, amid a launch, before and after what a launch and a fit leave is kept."""
    deaths = []

    def dies_once(name: str, *, after: bool) -> None:
        whole = getattr(studying, name)

        def dying(*said: Any, **more: Any) -> Any:
            found = whole(*said, **more) if after else None
            monkeypatch.setattr(studying, name, whole)
            deaths.append(name)
            raise Killed(name, found)

        monkeypatch.setattr(studying, name, dying)

    for name in ("next_round", "begin_round", "launch", "end_phase", "refit", "recommend"):
        for after in (False, True):
            dies_once(name, after=after)
            with pytest.raises(Killed):
                call(*TWO_ROUNDS)
    document = call(*TWO_ROUNDS)
    assert len(deaths) == 12
    assert set(made.trained.values()) == {1}  # no run twice
    runs = [each["made"]["runs"] for each in document["rounds"]]
    assert document["budget"]["spent"] == sum(runs) == len(made.trained) <= 54
    assert [each["number"] for each in document["rounds"]] == [1, 2]


def test_it_ends_where_it_is_known_well_enough(made: Made, call: Callable[..., Any]) -> None:
    document = call(*WORDS, "--budget", "120runs", "--until", "regret=4%")
    assert len(document["rounds"]) == 1
    assert document["stopped"].startswith("known well enough (regret=4%)")
    assert document["answer"]["expected_regret"] < 0.04
    assert len(made.trained) < 40
    document = call(*WORDS, "--budget", "90runs", "--until", "regret=4%", code=ExitCode.NOT_ENOUGH)  # another study
    assert "nothing to run: this is known well enough (regret=4%)" in document["error"]["message"]
    assert len(made.trained) < 40


def test_a_new_recipe_beside_another_begins_from_nothing(made: Made, call: Callable[..., Any]) -> None:
    with Store.open("lawfit.db") as store:
        store.put_runs(recipe("another"), [run_record("a")])
    document = call(*WORDS, "--budget", "9runs", "--rounds", "1", "--recipe", "mine", code=ExitCode.OK)
    assert document["recipe"] == "mine"
    assert document["rounds"][0]["before"]["lr_factor"] > 3
    assert {one["recipe"]["name"] for one in call("recipes")["recipes"]} == {"another", "mine"}


def test_what_fails_is_said_and_tried_again(made: Made, call: Callable[..., Any]) -> None:
    made.behave(fails="the cable is out")
    words = (*WORDS, "--budget", "9runs", "--rounds", "1")
    document = call(*words, code=ExitCode.FAILED)
    assert "not one run of round 1 could be made: the cable is out" in document["error"]["message"]
    (line,) = call("study", "list")["studies"]
    assert (line["state"], line["rounds"]) == ("open", 0)
    made.behave()
    document = call("study", "resume", line["id"])
    assert (document["state"], document["budget"]["runs"]) == ("ended", 9)


def test_a_deadline_comes_between_two_steps(made: Made, call: Callable[..., Any]) -> None:
    document = call(*WORDS, "--budget", "9runs", "--rounds", "1", "--deadline", "0.001", code=ExitCode.UNFINISHED)
    assert (document["state"], document["rounds"][0]["got"]) == ("open", None)
    assert "the time was up" in document["stopped"]
    document = call("study", "resume", document["id"])
    assert (document["state"], set(made.trained.values())) == ("ended", {1})


def test_where_every_run_diverges_rates_are_lowered_and_then_it_ends(made: Made, call: Callable[..., Any]) -> None:
    made.behave(diverges=1e-12)
    document = call(*WORDS, "--budget", "100runs", "--rounds", "9", code=ExitCode.NOT_ENOUGH)
    assert [each["kind"] for each in document["rounds"]] == ["planned", "lowered", "lowered", "lowered"]
    lowest = [min(min(scale["lr"]) for scale in each["scales"]) for each in document["rounds"]]
    assert lowest == sorted(lowest, reverse=True)
    assert lowest[-1] < lowest[0] / 1000
    assert "every run diverged, down to a learning rate of" in document["stopped"]
    assert document["answer"] is None
    one = document["rounds"][0]
    assert one["made"]["flops"] == pytest.approx(one["plan"]["flops"] / 2, rel=0.1)  # as far as they came


def test_rates_are_lowered_to_where_runs_finish(made: Made, call: Callable[..., Any]) -> None:
    made.behave(diverges=2e-3)
    document = call(*WORDS, "--budget", "18runs", "--rounds", "2")
    first, second = document["rounds"]
    assert (first["kind"], first["made"]["finished"], first["answer"]) == ("planned", 0, None)
    assert first["refused"]
    assert (second["kind"], second["made"]["missing"]) == ("lowered", 0)
    assert second["made"]["finished"] > 0


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--budget", "much"), ExitCode.USAGE, "write 1e19flops"),
        (("--budget", "1gpu-hours"), ExitCode.USAGE, "needs flops-per-second"),
        (("--budget", "9runs", "--until", "soon"), ExitCode.USAGE, "write regret=0.1% or lr=x1.3"),
        (("--budget", "9runs", "--corpus", "nowhere"), ExitCode.FAILED, "there is no corpus in nowhere"),
        (("--budget", "2runs"), ExitCode.NOT_ENOUGH, "2 runs buys no grid"),
        (("--budget", "9runs", "--backend", "magic"), ExitCode.USAGE, "there is no backend 'magic'"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_made(
    made: Made, call: Callable[..., Any], words: tuple[str, ...], code: int, said: str
) -> None:
    document = call(*WORDS, *words, code=code)
    assert said in document["error"]["message"]
    assert not made.trained
    assert not Path("lawfit.db").exists() or call("study", "list")["studies"] == []


def test_a_study_that_is_not_there(made: Made, call: Callable[..., Any]) -> None:
    Store.open("lawfit.db").close()
    for verb in ("show", "resume"):
        document = call("study", verb, "nobody", code=ExitCode.NOT_ENOUGH)
        assert "no study 'nobody'" in document["error"]["message"]
    assert call("study", "list")["studies"] == []


def test_of_two_that_plan_the_same_round_one_is_kept(made: Made, tmp_path: Path) -> None:
    asked = StudyQuestion(params=3e4, tokens=3e5, budget="54runs")
    study = studying.unstored(studying.study_id(asked, None), "study", {"params": 3e4}, {})
    with Store.open(tmp_path / "two.db") as store:
        assert begin_round(store, study, 1, document={"run_ids": ["a"]}, grid={})
        assert not begin_round(store, study, 1, document={"run_ids": ["b"]}, grid={})
        (one,) = studying.read_study(store, study.id).rounds
        assert (one.document["run_ids"], one.phase) == (["a"], "planned")
        assert studying.end_phase(store, study.id, 1, "planned", "trained", one.document)
        assert not studying.end_phase(store, study.id, 1, "planned", "trained", one.document)


def test_hours_are_counted_at_the_speed_that_was_measured(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = []

    def look(_store: Store, place: Any) -> Any:
        places.append(place)
        raise NotEnoughData("enough was seen")

    monkeypatch.setattr(studying, "next_round", look)
    asked = {"params": 1e8, "tokens": 2e9, "budget": "1gpu-hours", "flops_per_second": 1e6}
    with Store.open(tmp_path / "hours.db") as store:
        keep(store, {**ROUND, "made": {**MADE, "cost": MADE["gpu_hours"]}}, asked)
        document = pipeline.resume_study(store, "abc", {"corpus": "corpus", "cpu": True})
    (place,) = places
    speed = MADE["flops"] / MADE["gpu_hours"] / 3600
    assert place.means.pace.flops_per_second == pytest.approx(speed, rel=1e-5)
    assert place.means.pace.start_seconds == 0  # starts are among the hours
    assert (place.left, place.rounds_left) == (pytest.approx(0.98), 3)
    assert (document["state"], document["stopped"]) == (
        "ended",
        finding("study.nothing_left", why="enough was seen").to_json(),
    )


@pytest.mark.parametrize("measured", [False, True])
def test_a_round_is_planned_by_what_packs_take(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, measured: bool
) -> None:
    """First by what was said, which the plan keeps among what it was asked; later by what the packs took."""
    asked, kept = list[dict[str, Any]](), list[dict[str, Any]]()
    pace = Pace(flops_per_second=3e9, start_seconds=2.0, packs=9)
    monkeypatch.setattr(studying, "study_pace", lambda *_: pace if measured else None)
    whole = study_rounds.plan_next

    def look(store: Store, recipe: str | None, question: Any, **given: Any) -> Any:
        asked.append({"flops_per_second": question.flops_per_second, "pace": given["pace"]})
        return whole(store, recipe, question, **given)

    def keep_no_round(_store: Store, _study: Any, _number: int, *, document: Any, grid: Any) -> None:
        kept.append(document)
        raise NotEnoughData("enough was seen")

    monkeypatch.setattr(study_rounds, "plan_next", look)
    monkeypatch.setattr(studying, "begin_round", keep_no_round)
    question = StudyQuestion(
        params=3e4,
        tokens=3e5,
        budget="0.01gpu-hours",
        flops_per_second=1e9,
        max_params=3e3,
        max_tokens=3e4,
        rounds=1,
        seq_len=16,
    )
    with Store.open(tmp_path / "paced.db") as store, pytest.raises(NotEnoughData, match="enough was seen"):
        pipeline.run_study(store, question, LaunchOptions(corpus="corpus", cpu=True))
    said = Pace(flops_per_second=1e9)
    assert asked == [{"flops_per_second": None if measured else 1e9, "pace": pace if measured else said}]
    (document,) = kept
    by = pace if measured else said
    packs = [
        Packs(params=s["params"], tokens=s["tokens"], batches=tuple(s["batch_tokens"]),
              runs=len(s["lr"]) * len(s["seeds"]))
        for s in document["scales"]
    ]  # fmt: skip
    assert 0 < document["plan"]["cost"] == pytest.approx(sum(map(by.seconds, packs)) / 3600)


def test_a_report_of_a_study_under_way(
    made: Made, call: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: Any, **__: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(studying, "refit", killed)
        with pytest.raises(Killed):
            call(*TWO_ROUNDS)
    (line,) = call("study", "list")["studies"]
    document = call("study", "show", line["id"])
    assert (document["state"], document["answer"]) == ("open", None)
    assert document["rounds"][0]["phase"] == "trained"
    assert document["rounds"][0]["made"]["missing"] == 0
    page = write_study_report(tmp_path / "page.html", document).read_text(encoding="utf-8")
    assert "No setting can be advised yet" in page


def test_runs_that_no_fit_heard_count_as_made(made: Made, tmp_path: Path) -> None:
    """Where no fit may be used, a plan does not name the scale of the runs over and over."""
    from lawfit.ask import Target
    from lawfit.planner.means import Means
    from lawfit.planner.next_runs import next_runs

    target, means = Target(params=1e9, tokens=2e10), Means(amount=27, unit="runs")
    first = next_runs(None, target, means)
    there = [
        Run(
            run_key=f"{number}", params=row["params"], tokens=row["tokens"], batch_tokens=row["batch_tokens"],
            lr=row["lr"], status=RunStatus.FINISHED, loss=3.0, weight_decay=0.1, seed=0,
        )
        for number, row in enumerate(pipeline.run_rows(first))
    ]  # fmt: skip
    second = next_runs(None, target, means, there=there)
    assert second["now"]["lr_factor"] == pytest.approx(first["after"]["lr_factor"], rel=0.01)  # rates are rounded
    assert second["after"]["expected_regret"] < first["after"]["expected_regret"]
