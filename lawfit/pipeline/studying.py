"""A study: plan the runs that tell most, launch them, fit, and again, until a target is known well enough.

All that it goes on from lies in the store: the question, each round's runs before the first of them is trained, and the
phase that the round has reached. A process that is killed at any moment is followed by one that asks the same.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from lawfit.ask import StudyQuestion, Target
from lawfit.documents.study import Studies, Study, StudyAnswer, StudyRound
from lawfit.errors import FitError, LawfitError, NoFit, NoRuns, NotEnoughData, StoreError
from lawfit.findings import Found, code_of, finding, joined
from lawfit.pipeline.answering import doubts, latest_certified, newer_doubtful
from lawfit.pipeline.fitting import LR_BATCH, refit
from lawfit.pipeline.launching import launch
from lawfit.pipeline.pacing import gpus_at, study_pace
from lawfit.pipeline.predicting import recommend
from lawfit.pipeline.study_rounds import NextRound, Place, next_round, packs_of_scale
from lawfit.pipeline.study_told import (
    SCHEMA,
    made_of,
    means_of,
    question_of,
    study_document,
    study_summary,
)
from lawfit.records import Json, Recipe, content_hash
from lawfit.storage.studies import (
    FITTED,
    PLANNED,
    TRAINED,
    StoredRound,
    StoredStudy,
    add_time,
    begin_round,
    end_phase,
    find_study,
    list_studies,
    read_study,
    runs_of,
    set_launch,
    set_stopped,
    unstored,
)

if TYPE_CHECKING:
    from lawfit.launch import LaunchOptions, LaunchReport, Pack, Progress
    from lawfit.storage import Store

CORPUS: Final = "corpus"  # its folder, where nobody says another
NAME: Final = "study"  # of a recipe that is new, where nobody says another
BEAT_SECONDS: Final = 5.0  # of training between two notes of what it took: so much a sudden death may hide
# Launch options that are no part of a study, whose models are those of lawfit's own trainer.
_OF_A_CALL: Final = ("recipe", "deadline_seconds", "dry_run", "template", "trial")


@dataclass(frozen=True, kw_only=True)
class Watch:
    """Who is told how far a study is."""

    began: Callable[[StudyRound, int], None] = lambda _round, _most: None  # its runs are about to be made
    launched: Callable[[Progress], None] = lambda _: None  # several times a second
    doing: Callable[[int, str, float], None] = lambda _number, _step, _share: None  # planning, fitting
    ended: Callable[[StudyRound], None] = lambda _: None


@dataclass(frozen=True, kw_only=True)
class _Call:
    """One call: the study is read anew at each step."""

    store: Store
    options: LaunchOptions
    watch: Watch
    until_clock: float | None  # time.monotonic
    started: float = field(default_factory=time.monotonic)

    def seconds_left(self) -> float | None:
        return None if self.until_clock is None else self.until_clock - time.monotonic()


def study_id(asked: StudyQuestion, recipe: str | None) -> str:
    """The same question is the same study."""
    said = {name: value for name, value in vars(asked).items() if value is not None}
    return content_hash({"study": said, "recipe": recipe})


def run_study(
    store: Store,
    asked: StudyQuestion,
    options: LaunchOptions,
    *,
    recipe: str | None = None,
    watch: Watch | None = None,
) -> Study:
    """Run a study, or go on with the one that asks the same.

    Parameters
    ----------
    options : of its launches; `deadline_seconds` is of the whole call
    recipe : whose runs there are, or the name of a new one

    Raises
    ------
    ValueError
        The budget, or what it is to end at, is none.
    NotEnoughData
        Not even a first round can be made: why.
    LaunchError, PackError, LawfitError
        Its runs cannot be made: no corpus, no GPU, every one of them failed.
    """
    require_study(asked, options)
    found = find_study(store, study_id(asked, recipe))
    if found is None:
        said = {name: value for name, value in vars(asked).items() if value is not None}
        name = recipe or _name_of_recipe(store)
        found = unstored(study_id(asked, recipe), name, said, _kept(options))
    return _go_on(store, found, options, watch or Watch())


def require_study(asked: StudyQuestion, options: LaunchOptions) -> None:
    """Refuse what no study could be asked, whatever the store holds.

    Raises
    ------
    ValueError
        The budget, or what it is to end at, is none.
    LaunchError
        There is no corpus.
    """
    from lawfit.launch.plan import read_corpus
    from lawfit.planner.rounds import read_until

    read_until(asked.until)
    means_of(asked)
    read_corpus(options.corpus or CORPUS)


def resume_study(
    store: Store, study_id: str, given: Mapping[str, Any] | None = None, *, watch: Watch | None = None
) -> Study:
    """Go on with a study, its runs made as before.

    Parameters
    ----------
    given : launch options that are other ones now

    Raises
    ------
    NoFit
        There is no such study.
    ValueError
        The launch options contradict each other.
    """
    from lawfit.launch import LaunchOptions

    found = read_study(store, study_id)
    return _go_on(store, found, LaunchOptions.of({**found.launch, **(given or {})}), watch or Watch())


def show_study(store: Store, study_id: str) -> Study:
    """A study as it stands.

    Raises
    ------
    NoFit
        There is none.
    """
    return study_document(store, read_study(store, study_id))


def all_studies(store: Store) -> Studies:
    """One line each, the newest first."""
    return {"schema": SCHEMA, "studies": [study_summary(each) for each in list_studies(store)]}


def _kept(options: LaunchOptions) -> dict[str, Json]:
    """What is said of its launches, as JSON."""
    return {name: value for name, value in options.said().items() if name not in _OF_A_CALL}


def _name_of_recipe(store: Store) -> str:
    """The only one there is; a new one's, where there is none."""
    try:
        return store.recipe().name
    except NoRuns:
        return NAME


def _go_on(store: Store, study: StoredStudy, options: LaunchOptions, watch: Watch) -> Study:
    """Round after round, from wherever the study stands."""
    seconds = options.deadline_seconds
    until = None if seconds is None else time.monotonic() + seconds
    call = _Call(store=store, options=options, watch=watch, until_clock=until)
    if study.stopped is not None:
        return study_document(store, study)
    if study.rounds:
        set_launch(store, study.id, _kept(options))
    while True:
        left = call.seconds_left()
        if left is not None and left <= 0 and study.rounds:  # of one without a round nothing is kept yet
            return study_document(store, study, stopped=finding("study.deadline"))
        open_rounds = [each for each in study.rounds if each.phase != FITTED]
        if open_rounds:
            if why := _work_on(call, study, open_rounds[0]):
                return study_document(store, read_study(store, study.id), stopped=why)
        elif why := _enough(store, study) or _begin(call, study):
            set_stopped(store, study.id, why)
            return study_document(store, read_study(store, study.id))
        study = read_study(store, study.id)


def _enough(store: Store, study: StoredStudy) -> Found:
    """Why a study whose rounds are over needs no further one; empty where it does."""
    from lawfit.planner.rounds import read_until

    if not study.rounds:
        return ""
    document = study_document(store, study)
    last = document["rounds"][-1]
    if last["answer"] is not None and read_until(document["asked"].get("until")).reached(last["answer"]):
        return finding("study.reached", until=document["asked"]["until"], **_known(last["answer"]))
    if document["budget"]["left"] <= 0:
        return finding("study.spent", **_of_budget(document))
    if len(document["rounds"]) >= document["most_rounds"]:
        return finding("study.rounds_over", rounds=len(document["rounds"]), **_of_budget(document))
    return ""


def _known(answer: StudyAnswer) -> dict[str, float]:
    return {"regret": answer["expected_regret"], "lr_factor": answer["lr_factor"]}


def _of_budget(document: Study) -> dict[str, Any]:
    budget = document["budget"]
    return {"amount": budget["amount"], "unit": budget["unit"], "left": budget["left"]}


def _begin(call: _Call, study: StoredStudy) -> Found:
    """Plan a round and keep it; why there is none to make, where there is none.

    Raises
    ------
    NotEnoughData
        There is none to make, and there was none before.
    """
    number = len(study.rounds) + 1
    call.watch.doing(number, "planning", 0.0)
    place = _place(call, study)
    if not study.rounds:
        _require_unknown(call.store, place)
    try:
        following = next_round(call.store, place)
    except NotEnoughData as error:
        if not study.rounds:
            raise
        if code_of(error.finding) == "plan_next.too_little":
            return finding("study.spent", **_of_budget(study_document(call.store, study)))
        return finding("study.nothing_left", why=error.finding)
    document = _planned(following, place, _packs(following.grid, place.corpus.vocab), place.corpus.hash)
    begin_round(call.store, study, number, document=document, grid=following.grid)
    return ""


def _require_unknown(store: Store, place: Place) -> None:
    """Refuse a study of what is known well enough already.

    Raises
    ------
    NotEnoughData
        No run is needed.
    """
    from lawfit.planner.rounds import read_until

    if place.recipe is None or place.asked.until is None:
        return
    with suppress(NoFit):
        answer = _learnt(store, place.recipe, place.asked)["answer"]
        if read_until(place.asked.until).reached(answer):
            raise NotEnoughData(finding("study.known", until=place.asked.until, **_known(answer)))


def _place(call: _Call, study: StoredStudy) -> Place:
    from lawfit.launch.plan import read_corpus

    document = study_document(call.store, study)
    recipe = next((s.recipe for s in call.store.recipes() if study.recipe in (s.recipe.name, s.recipe.key)), None)
    asked = question_of(study)
    runs = () if recipe is None else call.store.runs(recipe.key, excluded=False)
    pace = study_pace(call.store, study, document["budget"], recipe)
    return Place(
        asked=asked,
        recipe=recipe,
        runs=runs,
        means=means_of(asked, pace),
        measured=pace is not None,
        left=document["budget"]["left"],
        rounds_left=document["most_rounds"] - len(study.rounds),
        lowered=sum(each.document["kind"] == "lowered" for each in study.rounds),
        corpus=read_corpus(call.options.corpus or CORPUS),
        cpu=call.options.cpu,
    )


def _planned(following: NextRound, place: Place, packs: list[Pack], corpus: str) -> dict[str, Json]:
    """The document of a round that is about to be made."""
    ids = list(dict.fromkeys(pack.run_id(i, corpus) for pack in packs for i in range(len(pack.runs))))
    planned = [packs_of_scale(scale) for scale in following.scales]
    flops, cost = sum(each.flops for each in planned), sum(place.means.cost(each) for each in planned)
    plan = following.plan
    return {
        "kind": following.kind,
        "plan_id": None if plan is None else plan["id"],
        "plan": {
            "runs": len(ids), "flops": flops, "cost": cost, "share": following.share,
        },
        "scales": following.scales,
        "run_ids": ids,
        "before": None if plan is None else plan["now"],
        "promised": None if plan is None else plan["after"],
        "got": None,
        "answer": None,
        "refused": "",
    }  # fmt: skip


def _packs(grid: Mapping[str, Json], vocab: int) -> list[Pack]:
    from lawfit.launch.grid import packs

    return list(packs(grid, vocab=vocab))


def _work_on(call: _Call, study: StoredStudy, found: StoredRound) -> Found:
    """Take a round one phase further; why this call ends instead, where it does."""
    if found.phase == PLANNED:
        shown = study_document(call.store, study)
        call.watch.began(shown["rounds"][found.number - 1], shown["most_rounds"])
        return _train(call, study, found)
    _fit(call, study, found)
    return ""


def _train(call: _Call, study: StoredStudy, found: StoredRound) -> Found:
    """Make the runs of a round; its phase ends when each of them is stored, or has failed.

    Raises
    ------
    LawfitError
        Not one of them could be made: why.
    """
    from lawfit.launch.plan import read_corpus

    corpus = read_corpus(call.options.corpus or CORPUS)
    left = call.seconds_left()
    options = dataclasses.replace(
        call.options,
        recipe=study.recipe,
        corpus=corpus.folder,
        dollars_per_gpu_hour=question_of(study).price,
        deadline_seconds=None if left is None else max(left, 0.1),
    )
    clock = _Clock(call, study.id, found.number)
    try:
        report = launch(call.store, _packs(found.grid, corpus.vocab), options, progress=clock.take)
    finally:
        clock.note()
    result = report.result
    assert result is not None
    if report.not_stored:
        raise StoreError(report.not_stored)
    if result.stopped_by == "signal":
        return finding("study.signal")
    if result.unfinished or result.stopped_by:
        return finding("study.deadline")
    runs, recipe = runs_of(call.store, found.document["run_ids"])
    failures = _failures(report)
    if not runs:
        raise LawfitError(finding("study.all_failed", round=found.number, why=failures[0] if failures else "no run"))
    document = {**found.document, "failures": failures}
    end_phase(call.store, study.id, found.number, PLANNED, TRAINED, document, recipe)
    return ""


def _failures(report: LaunchReport) -> list[str]:
    """Why runs failed, each reason once."""
    assert report.result is not None
    reasons = [failure.reason for failure in report.result.failures]
    return list(dict.fromkeys([*reasons, *(rejection.reason for rejection in report.rejections)]))


class _Clock:
    """Keeps in the store what a launch takes, as it goes."""

    def __init__(self, call: _Call, study_id: str, number: int) -> None:
        self._call, self._study_id, self._number = call, study_id, number
        self._noted = time.monotonic()
        self._gpus = max(1, len(call.options.gpus or ()))

    def take(self, progress: Progress) -> None:
        self._call.watch.launched(progress)
        if not progress.running and progress.packs_waiting:  # in a queue, or another launcher makes them, and counts
            self._noted = time.monotonic()
        places = {running.place for running in progress.running}
        self._gpus = max(self._gpus, sum(map(gpus_at, places)))
        if time.monotonic() - self._noted >= BEAT_SECONDS:
            self.note()

    def note(self) -> None:
        now = time.monotonic()
        seconds, self._noted = now - self._noted, now
        add_time(self._call.store, self._study_id, self._number, seconds, seconds * self._gpus)


def _fit(call: _Call, study: StoredStudy, found: StoredRound) -> None:
    """Fit all runs of the recipe, and keep what is known now."""
    number, asked = found.number, question_of(study)
    recipe = call.store.recipe(study.recipe)
    document: dict[str, Json] = {**found.document, "made": made_of(call.store, found, means_of(asked))}
    try:
        refit(call.store, recipe.key, progress=lambda step, share: call.watch.doing(number, f"fitting: {step}", share))
        document |= _learnt(call.store, recipe, asked)
    except (FitError, NoFit) as error:  # runs that carry no law yet; the next round is of those that they lack
        document["refused"] = _why_not(call.store, recipe, error)
    end_phase(call.store, study.id, number, TRAINED, FITTED, document)
    call.watch.ended(study_document(call.store, read_study(call.store, study.id))["rounds"][number - 1])


def _why_not(store: Store, recipe: Recipe, error: LawfitError) -> Found:
    """What speaks against the newest fit, without the advice that the next round takes; else the failure itself."""
    with suppress(NoFit):
        if found := doubts(store.latest_fit(recipe.key, LR_BATCH, usable_only=False)):
            return joined(found)
    return error.finding


def _learnt(store: Store, recipe: Recipe, asked: StudyQuestion) -> dict[str, Json]:
    """What the newest usable fit says of the target.

    Raises
    ------
    NoFit, Unanswerable
        There is none: why.
    """
    from lawfit.planner.next_runs import expected_at

    fit = latest_certified(store, recipe)
    target = Target(params=asked.params, tokens=asked.tokens, level=asked.level)
    answer = recommend(store, recipe.key, target, fit_id=fit.id)
    lr, batch, regret = (
        answer["recommendation"]["lr"],
        answer["recommendation"]["batch_tokens"],
        answer["expected_regret"],
    )
    if lr is None or batch is None or regret is None or regret["loss_fraction"] is None:
        raise NoFit(answer["missing"].get("lr", ""))
    known: StudyAnswer = {
        "prediction_id": answer["id"],
        "fit_id": fit.id,
        "lr": lr["value"],
        "lr_low": lr["low"],
        "lr_high": lr["high"],
        "lr_factor": _factor(lr),
        "lr_status": lr["status"],
        "batch_tokens": batch["value"],
        "batch_low": batch["low"],
        "batch_high": batch["high"],
        "batch_factor": _factor(batch),
        "batch_status": batch["status"],
        "expected_regret": regret["loss_fraction"],
    }
    older = newer_doubtful(store, recipe, fit)
    return {"answer": known, "got": expected_at(fit, target), "refused": joined(older) if older else ""}


def _factor(part: Mapping[str, Any]) -> float:
    from lawfit.units import six_digits

    return six_digits((part["high"] / part["low"]) ** 0.5)
