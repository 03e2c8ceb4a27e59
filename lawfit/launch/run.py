"""One launch: read the packs, see what is left to train, have it trained by a backend, say how it went."""

from __future__ import annotations

import dataclasses
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from lawfit.findings import Found, finding
from lawfit.launch.backends import BACKENDS
from lawfit.launch.book import Book, Rows
from lawfit.launch.campaign import DEADLINE, Campaign, Progress, Result
from lawfit.launch.caveats import caveats, split_horizons
from lawfit.launch.devices import choose_gpus
from lawfit.launch.energy import EnergyMeter
from lawfit.launch.folder import Task, forget, log_of, saved, task_of
from lawfit.launch.follow import ended_runs
from lawfit.launch.interrupt import stop_on_signal
from lawfit.launch.names import recipe_names
from lawfit.launch.options import LaunchOptions
from lawfit.launch.own import Trial, read_own_packs, run_trial
from lawfit.launch.plan import Corpus, LaunchError, read_packs, tasks
from lawfit.launch.template import check
from lawfit.proxy.log import on_another_corpus
from lawfit.proxy.pack import Pack
from lawfit.proxy.trunks import trained_tokens
from lawfit.records import Json, Rejection


@dataclass(frozen=True, kw_only=True)
class PlannedPack:
    """A pack that is to be trained."""

    name: str
    runs: int
    steps: int  # of its longest run
    tokens: int  # to be trained: steps that runs share count once
    resumes: bool


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a launch has to do, before anything is done."""

    options: LaunchOptions
    corpus: Corpus
    asked: tuple[str, ...]  # ids of all runs that the packs name
    known: tuple[str, ...]  # of these, those that are there already
    in_logs: tuple[str, ...]  # of these, those whose logs have ended, stored or not
    tasks: tuple[Task, ...]
    places: tuple[str, ...]  # GPUs; empty: the CPU
    names: Mapping[str, str]  # of the recipe, by run, where the store does not have it yet
    machine: str = ""  # why the places are not there, on a dry run
    ended_packs: Mapping[str, Pack] = dataclasses.field(default_factory=dict)  # of runs of a template whose logs ended
    other_recipes: Mapping[str, int] = dataclasses.field(
        default_factory=dict
    )  # names -> known runs that only they have

    @property
    def caveats(self) -> tuple[Found, ...]:
        """What will not go as the packs say."""
        first: list[Found] = [f"planned for {_gpus(self.places)}, but {self.machine}"] if self.machine else []
        if self.other_recipes:
            asked = sorted({self.names[run_id] for run_id in self.known})
            first.append(finding("launch.other_recipes", asked=asked, recipes=self.other_recipes))
        own = self.options.template
        if own is None:
            return (*first, *caveats(self.corpus, self.tasks))
        silent = "the template does not name {folder}: a run's log is what its command prints"
        said = (split_horizons(self.tasks), "" if "folder" in own.fields else silent)
        return (*first, *filter(None, said))

    @property
    def packs(self) -> tuple[PlannedPack, ...]:
        return tuple(
            PlannedPack(
                name=task.pack.name,
                runs=len(task.ids),
                steps=max(run.steps for run in task.pack.runs),
                tokens=trained_tokens(task.pack),
                resumes=task.resumes,
            )
            for task in self.tasks
        )


def make_plan(
    sources: Sequence[Path | Pack],
    stored: Callable[[Sequence[str]], Mapping[str, Collection[str]]],
    options: LaunchOptions,
) -> Plan:
    """What is left to do; touches nothing.

    Parameters
    ----------
    stored : of ids of runs, those that are stored already, with the names of their recipes

    Raises
    ------
    PackError, LaunchError
        What is wrong with a file, the corpus, the machine or the folder of logs.
    """
    own = options.template
    named, corpus = read_packs(sources, options.corpus) if own is None else read_own_packs(sources, own)
    packs = [pack for _, pack in named]
    if own is not None:
        check(own, packs, here=not options.elsewhere)
    asked = tuple(dict.fromkeys(run_id for pack in packs for run_id in task_of(pack).ids))
    _require_same_corpus(options.logs, corpus)
    in_logs = ended_runs(asked, options.logs)
    known = stored(asked)
    names = recipe_names(named, options.recipe)
    have = {*known, *in_logs}
    gpus: tuple[str, ...] = ()
    machine = ""
    if not options.cpu and not options.elsewhere and len(have) < len(asked):
        try:
            gpus = choose_gpus(options.gpus)
        except LaunchError as error:
            if not options.dry_run:
                raise
            gpus, machine = options.gpus or ("0",), str(error)
    return Plan(
        options=options,
        corpus=corpus,
        asked=asked,
        known=tuple(run_id for run_id in asked if run_id in known),
        in_logs=tuple(in_logs),
        tasks=tuple(
            tasks(
                packs,
                have,
                options.logs,
                places=options.places(len(gpus)),
                max_runs=options.max_runs,
                shortest_first=options.deadline_seconds is not None,
            )
        ),
        places=gpus,
        names=names,
        machine=machine,
        ended_packs={i: pack for pack in packs if own is not None for i in task_of(pack).ids if i in in_logs},
        other_recipes=_other_recipes(known, names),
    )


def _other_recipes(known: Mapping[str, Collection[str]], names: Mapping[str, str]) -> dict[str, int]:
    """Of runs that are stored, how many are under a recipe of another name than they would get; by that name.

    One that is called as the file alone is the same: what tells recipes of a file apart is named as it comes up.
    """
    found = Counter[str]()
    for run_id, recipes in known.items():
        if not any(f"{names[run_id]}-".startswith(f"{name}-") for name in recipes):
            found[next(iter(recipes))] += 1
    return dict(sorted(found.items()))


def _gpus(places: Sequence[str]) -> str:
    return f"GPU{'s' * (len(places) > 1)} {', '.join(places)}"


def execute(
    plan: Plan,
    *,
    ended: Callable[[Sequence[Path]], None],
    report: Callable[[Progress], None],
    book: Book | None = None,
    stop: Callable[[], str] = lambda: "",
    news: Sequence[str] = (),
    steps: Callable[[str], int | None] | None = None,
) -> Result:
    """Train what is planned.

    Parameters
    ----------
    ended : called with the logs of runs that have ended, also those that had before
    report : called several times a second
    book : who keeps what becomes of jobs, and knows what other launches train
    stop : says why to stop before all is done, beside signals and the deadline
    news : sentences that the first report brings
    steps : the step that the log of a run has come to, where it is no log of lawfit's trainer
    """
    options = plan.options
    if plan.tasks and options.template is None:
        require_trainer()
    _tidy(options.logs)
    if plan.in_logs:
        ended([log_of(run_id, options.logs) for run_id in plan.in_logs])
    deadline = None if options.deadline_seconds is None else time.time() + options.deadline_seconds
    with stop_on_signal() as signalled:

        def why_stop() -> str:
            return signalled() or stop() or (DEADLINE if deadline is not None and time.time() > deadline else "")

        campaign = Campaign(
            plan.tasks,
            BACKENDS[options.backend](plan.places, workers=options.workers, resources=options.per_job),
            options.logs,
            command=options.command(deadline),
            ended=ended,
            report=report,
            stop=why_stop,
            news=[*(f"! {sentence}" for sentence in plan.caveats), *news],
            rows=_rows(plan, book),
            fails_alike=options.template is not None,
            steps=steps,
        )
        try:
            return campaign.run()
        except OSError as error:
            raise LaunchError(
                f"{options.logs} cannot be written ({error}); what was trained goes on from there"
            ) from None


def try_out(plan: Plan) -> Trial | None:
    """One short job of the user's own command, where there is something to train."""
    options = plan.options
    if options.template is None or not plan.tasks:
        return None
    launcher = BACKENDS[options.backend](plan.places, workers=1, resources=options.per_job)
    with stop_on_signal() as signalled:
        return run_trial(options.template, [task.pack for task in plan.tasks], options.logs, launcher, signalled)


def _rows(plan: Plan, book: Book | None) -> Rows:
    """Of jobs that have GPUs of their own, or share one."""
    each = plan.options.per_job.gpus_per_job or 0
    gpus = float(each) if plan.options.elsewhere else each / plan.options.workers if plan.places else 0.0
    meter = EnergyMeter() if plan.places else None
    return Rows(book, gpus=gpus, dollars_per_gpu_hour=plan.options.dollars_per_gpu_hour, meter=meter)


def _tidy(logs: Path) -> None:
    """Forget what earlier launches began and what has ended since."""
    for task in saved(logs):
        if len(ended_runs(task.ids, logs)) == len(task.ids):
            forget(task, logs)


def require_trainer() -> None:
    """Refuse to train with lawfit's own trainer where that cannot be.

    Raises
    ------
    LaunchError
        torch or tokenizers are not installed.
    """
    missing = [name for name in ("torch", "tokenizers") if find_spec(name) is None]
    if missing:
        raise LaunchError(
            f"training needs {' and '.join(missing)}, not installed beside lawfit here: pip install 'lawfit[train]'"
        )


def _require_same_corpus(logs: Path, corpus: Corpus) -> None:
    """A folder of logs is one sweep: its runs are compared with each other."""
    if (other := on_another_corpus(logs, corpus.hash)) is not None:
        path, its_hash = other
        raise LaunchError(
            finding(
                "launch.other_corpus", logs=str(logs), theirs=its_hash, file=path.name, folder=corpus.folder,
                ours=corpus.hash,
            )
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class LaunchReport:
    """What a launch was asked for, what it did, and what of that is stored."""

    plan: Plan
    result: Result | None  # None on a dry run
    recipes: tuple[str, ...]  # names in the store, of the runs that ended
    new: int  # runs that the store did not have
    rejections: tuple[Rejection, ...]  # logs that could not be understood
    not_stored: str  # why runs that have ended are not in the store, although their logs are whole
    notes: tuple[str, ...] = ()  # what the store says of the runs that it took

    def to_json(self) -> dict[str, Json]:
        plan, result = self.plan, self.result
        return {
            "corpus": dataclasses.asdict(plan.corpus),
            "logs": str(plan.options.logs),
            "gpus": list(plan.places),
            "asked": len(plan.asked),
            "known": len(plan.known),
            "in_logs": len(plan.in_logs),
            "packs": [dataclasses.asdict(pack) for pack in plan.packs],
            "caveats": [str(each) for each in plan.caveats],
            "other_recipes": dict(plan.other_recipes),
            "dry_run": result is None,
            **({} if result is None else result.to_json()),
            "recipes": list(self.recipes),
            "new": self.new,
            "rejections": [dataclasses.asdict(rejection) for rejection in self.rejections],
            "notes": list(self.notes),
            "not_stored": self.not_stored,
        }
