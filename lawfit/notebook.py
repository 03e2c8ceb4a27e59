"""The main path on a pandas DataFrame, no database: observe, fit, predict, plot.

import lawfit
sweep = lawfit.observe(frame)                      # which columns were taken for what, and what was rejected
fit = lawfit.fit(sweep)
lawfit.predict(fit, params="7B", tokens="1.4T")    # at the end of a cell: the answer and its figure

As text each is a few lines; `print` says all of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from lawfit import documents
from lawfit.ask import PlanQuestion, SettingQuestion, SetUp, Target, arguments, read
from lawfit.documents.answer import ValuePart
from lawfit.errors import NoFit, Unanswerable
from lawfit.records import Fit, Recipe, Rejection, Run, RunStatus
from lawfit.words import tell, told
from lawfit.words.answers import at_batch_words, batch_range
from lawfit.words.costs import cost_rows, setting_words
from lawfit.words.parts import part_labels, part_words

if TYPE_CHECKING:
    import pandas as pd
    from plotly.graph_objects import Figure

    from lawfit.ingest.read import Ingested
    from lawfit.records import Sweep

Quantity = float | str  # ``7e9`` or "7B"


FEW_LINES: Final = 10  # of a result as text at the end of a cell
WIDE: Final = 160  # characters of each


class _Shown:
    """What a result looks like at the end of a cell: a few lines as text, all of them with its figure as HTML."""

    def __repr__(self) -> str:
        lines = [line if len(line) <= WIDE else f"{line[: WIDE - 3]}..." for line in str(self).splitlines()]
        if len(lines) > FEW_LINES:
            lines = [*lines[: FEW_LINES - 1], f"... {len(lines) - FEW_LINES + 1} lines more: print it"]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        """Jupyter's hook. The first figure of a session brings plotly's library along, so that none is fetched."""
        from lawfit.plots.notebook import cell_html

        return cell_html(str(self), self._figure())

    def _figure(self) -> Figure | None:
        """What is drawn under the text; None where there is nothing to draw."""
        return None


@dataclass(frozen=True, kw_only=True, repr=False)
class ObservedSweep(_Shown):
    """The runs of one recipe, as they were understood."""

    recipe: Recipe
    runs: tuple[Run, ...]
    columns: Mapping[str, str]  # field -> column it was read from, with the convention
    rejections: tuple[Rejection, ...]  # rows that were not taken, with line, column and reason
    notes: tuple[str, ...]

    def __str__(self) -> str:
        diverged = sum(run.status is RunStatus.DIVERGED for run in self.runs)
        scales = len({(run.params, run.tokens) for run in self.runs})
        head = f"recipe {self.recipe.name}: {len(self.runs):,} runs at {scales} scales, {diverged:,} diverged"
        lines = [f"{head}, {len(self.rejections):,} rows rejected"]
        lines += [f"  {name} = {column}" for name, column in self.columns.items()]
        lines += [f"  row {r.line}: {r.column or 'row'}: {r.reason}" for r in self.rejections[:10]]
        return "\n".join([*lines, *(f"  note: {note}" for note in self.notes)])

    def _figure(self) -> Figure | None:
        from lawfit.plots.notebook import plot_runs

        return plot_runs(self.runs)


@dataclass(frozen=True, kw_only=True, repr=False)
class FittedSweep(_Shown):
    """A fit in memory with the runs it saw; `fit` is what a store would keep."""

    sweep: ObservedSweep
    fit: Fit  # of learning rate and batch; where the runs carry none, the first of `laws`
    laws: Mapping[str, Fit] = field(default_factory=dict)  # kind -> fit: loss, critical batch, weight decay

    def __str__(self) -> str:
        from lawfit.pipeline.answering import doubts, remarks, size_words

        payload = told(self.fit.payload)
        if self.fit.kind != "lr_batch":
            lines = [f"no law of the learning rate: {payload['no_settings']}"]
            return "\n".join([*lines, *self._laws()])
        law = payload["law"]
        lines = [f"fit {self.fit.id} ({self.fit.status}) of {payload['runs_used']:,} runs"]
        for name, words in (("lr", "best learning rate"), ("batch_tokens", "best batch")):
            row = law[name]
            lines.append(f"  {words} ~ params^{row['params']:+.2f} tokens^{row['tokens']:+.2f}")
        for split in payload["backtest"]["splits"][:1]:
            rows = ", ".join(f"{r['method']} {r['mean_regret']:.2%}" for r in split["rows"][:3])
            lines.append(f"  {split['name']}: mean cost {rows}")
        lines += [f"  sizes: {text}" for text in told(size_words(self.fit))]
        lines += self._laws()
        lines += [f"  not used, because {text}" for text in told(doubts(self.fit))]
        return "\n".join([*lines, *(f"  warning: {text}" for text in (*payload["warnings"], *told(remarks(self.fit))))])

    def _laws(self) -> list[str]:
        return [f"  {kind.replace('_', ' ')}: {tell(law.payload['words'])}" for kind, law in self.laws.items()]

    def _figure(self) -> Figure | None:
        return plot(self, kind="surface") if self.fit.kind == "lr_batch" else None


@dataclass(frozen=True, kw_only=True, repr=False)
class Answer(_Shown):
    """A recommendation; `document` is exactly what ``lawfit predict --json`` prints."""

    document: documents.Answer
    fitted: FittedSweep | None = field(default=None, compare=False)  # that answered

    @property
    def lr(self) -> float:
        """Recommended peak learning rate.

        Raises
        ------
        Unanswerable
            The runs carry none: what they lack, and which runs would mend it.
        """
        return float(self.setting("lr")["value"])

    @property
    def batch_tokens(self) -> float:
        """Recommended batch, tokens per step; raises as `lr` does."""
        return float(self.setting("batch_tokens")["value"])

    def setting(self, name: str) -> ValuePart:
        """Learning rate ("lr") or batch ("batch_tokens") with its interval; raises as `lr` does."""
        recommendation = self.document["recommendation"]
        found = recommendation["lr"] if name == "lr" else recommendation["batch_tokens"]
        if found is None:
            raise Unanswerable(self.document["missing"][name], lacking=tuple(self.document.get("lacking", ())))
        return found

    @property
    def weight_decay(self) -> float | None:
        """Coupled as in torch.optim.AdamW, for this learning rate and batch; None: ``document["missing"]`` says why."""
        return self._further("weight_decay")

    @property
    def critical_batch_tokens(self) -> float | None:
        """By the definition in ``document["critical_batch"]["definition"]``; None: ``document["missing"]`` says why."""
        return self._further("critical_batch")

    @property
    def expected_loss(self) -> float | None:
        """Nats per token, at the best settings; None: ``document["missing"]`` says why."""
        return self._further("expected_loss")

    def _further(self, name: str) -> float | None:
        part = documents.part_of(self.document, name)
        return None if part is None else float(part["value"])

    @property
    def lr_interval(self) -> tuple[float, float]:
        row = self.setting("lr")
        return row["low"], row["high"]

    @property
    def batch_interval(self) -> tuple[float, float]:
        """Tokens per step, of the best batch; also where another one was given, or is the largest allowed."""
        row = self.setting("batch_tokens")
        return row["low"], row["high"]

    @property
    def warnings(self) -> tuple[str, ...]:
        return tuple(self.document["warnings"])

    def __str__(self) -> str:
        further = [
            f"{words.lower()} {part_words(self.document, name)}"
            for name, words in part_labels().items()
            if self._further(name) is not None
        ]
        warnings = [f"warning: {text}" for text in self.warnings]
        if self.document["recommendation"]["lr"] is None:
            return "\n".join([*further, *warnings])
        level = self.document["recommendation"]["lr"]["level"]
        cost = documents.given(self.document["expected_regret"])["loss_fraction"]
        lr, batch = self.lr_interval, self.batch_interval
        batch_words = batch_range(self.setting("batch_tokens"), f"{batch[0]:.3g} to {batch[1]:.3g}")
        lines = [
            f"peak learning rate {self.lr:.3g} ({level:.0%}: {lr[0]:.2g} to {lr[1]:.2g})",
            f"batch {self.batch_tokens:,.0f} tokens per step ({level:.0%}: {batch_words})",
            f"expected cost of not knowing better: {cost:.2%} of the loss",
        ]
        if words := at_batch_words(self.document["recommendation"]["lr"].get("at_batch")):
            lines.append(f"learning rate at this batch: {words}")
        if sizes := self.document.get("sizes"):
            lines += [f"sizes: {text}" for text in sizes["words"]]
        return "\n".join([*lines, *further, *warnings])

    def as_config(self, program: str, **asked: Quantity | None) -> ConfigText:
        """This answer as settings of a training program: hf, torchtitan, megatron, nanogpt, levanter, litgpt.

        Parameters
        ----------
        asked : fields of `lawfit.ask.SetUp`: world_size, per_device_batch (sequences), warmup (steps, or a share)

        Raises
        ------
        Unanswerable
            As `lr` does.
        ValueError
            No such program, or a batch that the devices cannot share: ask for one with `batch_multiple`.
        """
        from lawfit import configs
        from lawfit.advise.training import in_common, training_of

        writer, set_up = configs.named(program), read(SetUp, asked)
        runs = () if self.fitted is None else self.fitted.sweep.runs
        training = training_of(self.document, set_up, in_common(runs), self._at_batch)
        return ConfigText(document=configs.config_of(writer, training))

    def _at_batch(self, batch_tokens: float) -> documents.Answer:
        if self.fitted is None:
            raise ValueError("the batch of this answer is not one that the devices can share")
        target = {name: value for name, value in self.document["target"].items() if name != "batch_multiple"}
        fitted = self.fitted
        return predict(fitted, fit_id=fitted.fit.id, **{**target, "batch_tokens": batch_tokens}).document

    def _figure(self) -> Figure | None:
        if self.fitted is None or self.document["recommendation"]["lr"] is None:
            return None
        return plot(self.fitted, self)


@dataclass(frozen=True, kw_only=True, repr=False)
class ConfigText(_Shown):
    """Settings of a training program, to be pasted; `document` is what ``lawfit predict --as --json`` prints."""

    document: documents.Config

    def __str__(self) -> str:
        return self.document["text"]


@dataclass(frozen=True, kw_only=True, repr=False)
class Cost(_Shown):
    """What a setting costs; `document` is exactly what ``lawfit predict --lr --json`` prints."""

    document: documents.SettingCost

    @property
    def regret(self) -> float | None:
        """Expected share of the loss given up over the best setting; None beyond what runs tried."""
        return self.document["regret"]["loss_fraction"]

    @property
    def regret_interval(self) -> tuple[float, float | None]:
        """Of the true share; without an upper end beyond what runs tried."""
        regret = self.document["regret"]
        return regret["low"], regret["high"]

    @property
    def expected_loss(self) -> float | None:
        """Nats per token of a run there; None beyond what runs tried, or as ``document["missing"]`` says."""
        part = self.document["expected_loss"]
        return None if part is None else part["value"]

    @property
    def warnings(self) -> tuple[str, ...]:
        return tuple(self.document["warnings"])

    def __str__(self) -> str:
        rows = [*setting_words(self.document), *cost_rows(self.document)]
        lines = [f"{label.lower()}: {words}" if label else f"  {words}" for label, words in rows]
        return "\n".join([*lines, *(f"warning: {text}" for text in self.warnings)])


@dataclass(frozen=True, kw_only=True, repr=False)
class TransferAnswer(_Shown):
    """How the best learning rate moves with width and horizon; `document` is what ``lawfit transfer --json`` prints."""

    document: documents.Transfer

    def __str__(self) -> str:
        lines = []
        for one in self.document["recipes"]:
            lines.append(f"recipe {one['recipe']} ({one['parametrization'] or 'parametrization unknown'})")
            for axis in ("size", "tokens"):
                answer = one["axes"].get(axis)
                words = f"no answer: {one['missing'][axis]}" if answer is None else answer["words"]
                lines.append(f"  against {one['size'] if axis == 'size' else 'tokens'}: {words}")
        return "\n".join([*lines, *(row["words"] for row in self.document["comparisons"])])

    def _figure(self) -> Figure:
        return plot(self)


def observe(
    frame: pd.DataFrame,
    *,
    recipe: str | None = None,
    column_map: Mapping[str, str] | None = None,
    seq_len: int | None = None,
    batch_unit: str | None = None,
    recipe_fields: Mapping[str, str] | None = None,
    answers: Sequence[tuple[str, str]] = (),
) -> ObservedSweep:
    """Understand a DataFrame with one row per run.

    Parameters
    ----------
    frame : one row per run; the columns are recognised by name, as by ``lawfit ingest``
    recipe : which recipe to take when the frame holds several, or how to call the only one
    column_map : column -> field, where a name is not recognised
    seq_len : tokens per sequence, for batches counted in sequences
    batch_unit : "tokens" or "sequences", for a column that only says batch_size
    recipe_fields : what is held fixed and no column says: optimizer, schedule, data, ...
    answers : to the questions that a `Doubted` raised, as options and values: ``[("split", "attention")]``

    Raises
    ------
    Doubted
        The frame leaves something open that a guess could get wrong; its `questions` say what `answers` there are.
    LogFormatError
        It cannot be taken as a table of runs.
    NoRecipe
        The frame holds several recipes and none was picked; they are never pooled.
    """
    from lawfit.ingest.options import IngestOptions
    from lawfit.ingest.read import interpret
    from lawfit.ingest.table import Table

    options = IngestOptions(
        column_map=dict(column_map or {}),
        seq_len=seq_len,
        batch_unit=batch_unit,
        recipe_fields=dict(recipe_fields or {}),
        kind="runs",
    )
    for option, value in answers:
        options = options.answered(option, value)
    found = interpret(Table.from_frame(frame, name=recipe or "sweep"), options)
    chosen = _picked(found, recipe)
    return ObservedSweep(
        recipe=chosen.recipe,
        runs=tuple(chosen.runs),
        columns=found.columns,
        rejections=found.rejections,
        notes=found.notes,
    )


def _picked(found: Ingested, recipe: str | None) -> Sweep:
    """The sweep of a recipe, which need not be named where there is only one."""
    from lawfit.errors import NoRecipe

    if not found.sweeps:
        first = found.rejections[0] if found.rejections else None
        reason = f"; the first: row {first.line}: {first.reason}" if first else ""
        raise NoRecipe(f"no row of the frame can be taken{reason}")
    if len(found.sweeps) == 1:
        return found.sweeps[0]
    by_name = {sweep.recipe.name: sweep for sweep in found.sweeps}
    if recipe not in by_name:
        raise NoRecipe(f"the frame holds {len(by_name)} recipes; pick one with recipe=: {', '.join(by_name)}")
    return by_name[recipe]


def fit(
    sweep: ObservedSweep,
    *,
    without_laws: tuple[str, ...] = (),
    at: Mapping[str, object] | None = None,
    critical_definition: str = "zhang",
    backtest: bool = True,
) -> FittedSweep:
    """Fit the best learning rate and batch size of a sweep, and the further laws that it supports.

    Parameters
    ----------
    without_laws : ids of published laws that must lend nothing, to any law, because they were fitted on these runs
    at : level of a setting that varies in the runs, ``{"beta2": 0.95}``; of the others the fit chooses one and says why
    critical_definition : what a critical batch is also stated by: ``doubling``, ``zhang``, or ``FRACTION@REFERENCE``
        such as ``0.2@256x2048``
    backtest : leave scales out and score the fit on them (a few seconds)

    Raises
    ------
    NotEnoughData
        No run finished; `UnknownLevel` where none has a level that was asked for.
    """
    from lawfit.estimate.evidence import Evidence
    from lawfit.estimate.lr_batch.analysis import FitOptions
    from lawfit.pipeline.fitting import fit_evidence

    evidence = Evidence(
        runs=sweep.runs,
        schedule=sweep.recipe.schedule,
        weight_decay_kind=sweep.recipe.extra.get("weight_decay_kind", ""),
    )
    asked = tuple(f"{name}={value}" for name, value in (at or {}).items())
    options = FitOptions(
        without_laws=without_laws, backtest=backtest, at=asked, critical_definition=critical_definition
    )
    made = fit_evidence(sweep.recipe, evidence, options=options)
    return FittedSweep(sweep=sweep, fit=made.fit or made.laws[0], laws={law.kind: law for law in made.laws})


@arguments(Target, Quantity)
def predict(fitted: FittedSweep, *, fit_id: str | None = None, **asked: Quantity | None) -> Answer:
    """The recommendation for one target; arguments as in ``lawfit predict``.

    Parameters
    ----------
    fit_id : of this very fit, which then answers though it may not be certified
    asked : fields of `lawfit.ask.Target`: params and tokens, and where wanted batch_tokens, seq_len, batch_multiple,
        max_batch_tokens, level, unique_tokens, epochs, active_share, experts; numbers, or texts such as "7B"

    Raises
    ------
    Unanswerable
        The fit may not be used, nor a law of the loss beside it: what the runs lack, and which runs would mend it.
        Where that law answers, `Answer.lr` raises instead.
    """
    from lawfit.pipeline.answering import answer

    asked_by_id = _asked_by_id(fitted, fit_id)
    target = read(Target, asked)
    document = answer(fitted.fit, fitted.sweep.recipe, target, fitted.laws, asked_by_id=asked_by_id)
    return Answer(document=told(document), fitted=fitted)


@arguments(SettingQuestion, Quantity)
def cost(fitted: FittedSweep, *, fit_id: str | None = None, **asked: Quantity | None) -> Cost:
    """What a setting costs at a target; arguments as in ``lawfit predict --lr``.

    Parameters
    ----------
    fit_id : of this very fit, which then answers though it may not be certified
    asked : fields of `lawfit.ask.SettingQuestion`: those of `predict`, lr and, where wanted, weight_decay; without
        batch_tokens it is at the advised batch

    Raises
    ------
    Unanswerable
        The runs carry no learning rate: what they lack, and which runs would mend it.
    """
    from lawfit.pipeline.answering import cost as told_by

    asked_by_id = _asked_by_id(fitted, fit_id)
    question = read(SettingQuestion, asked)
    document = told_by(fitted.fit, fitted.sweep.recipe, question, fitted.laws, asked_by_id=asked_by_id)
    return Cost(document=told(document))


def _asked_by_id(fitted: FittedSweep, fit_id: str | None) -> bool:
    if fit_id is not None and fit_id != fitted.fit.id:
        raise NoFit(f"this is fit {fitted.fit.id}, not {fit_id}")
    return fit_id is not None


def transfer(*sweeps: ObservedSweep, level: float = 0.9) -> TransferAnswer:
    """Does the best learning rate stay put with width and with horizon? Sweeps of several recipes are compared.

    Raises
    ------
    NotEnoughData
        No sweep has learning rates at three or more widths or horizons.
    """
    from lawfit.advise.transfer import transfer_view

    return TransferAnswer(document=told(transfer_view([(sweep.recipe, sweep.runs) for sweep in sweeps], level=level)))


@dataclass(frozen=True, kw_only=True, repr=False)
class Plan(_Shown):
    """How to spend a budget; `document` is exactly what ``lawfit plan --json`` prints."""

    document: documents.Plan
    fitted: FittedSweep | None = field(default=None, compare=False)  # that answered

    @property
    def params(self) -> float:
        """Of the planned run, counted as in the runs."""
        return float(self.document["plan"]["params"])

    @property
    def tokens(self) -> float:
        return float(self.document["plan"]["tokens"])

    @property
    def params_interval(self) -> tuple[float, float] | None:
        """Of the compute-optimal size; None: ``document["missing"]["optimum"]`` says why."""
        return self._interval("params")

    @property
    def tokens_interval(self) -> tuple[float, float] | None:
        return self._interval("tokens")

    @property
    def expected_loss(self) -> float | None:
        """Nats per token, at the best settings."""
        part = self.document["settings"]["expected_loss"]
        return None if part is None else float(part["value"])

    @property
    def alternatives(self) -> tuple[Mapping[str, Any], ...]:
        """Other sizes for the same budget: ``params``, ``tokens``, ``loss``, ``cost`` (share of the loss), ..."""
        return tuple(self.document["alternatives"])

    @property
    def warnings(self) -> tuple[str, ...]:
        return tuple(self.document["warnings"])

    def _interval(self, name: str) -> tuple[float, float] | None:
        optimum = self.document["optimum"]
        part = None if optimum is None else optimum["params"] if name == "params" else optimum["tokens"]
        return None if part is None or part["low"] is None or part["high"] is None else (part["low"], part["high"])

    def __str__(self) -> str:
        from lawfit.report.plan_tables import budget_words, cost_words

        plan, level = self.document["plan"], self.document["asked"]["level"]
        lines = [budget_words(self.document)[0]]
        for name, words, value in (
            ("params", "parameters", plan["params"]),
            ("tokens", "training tokens", plan["tokens"]),
        ):
            ends = self._interval(name)
            span = "" if ends is None else f" ({level:.0%}: {ends[0]:.3g} to {ends[1]:.3g})"
            lines.append(f"{words} {value:.4g}{span}")
        if self.expected_loss is not None:
            lines.append(f"expected loss {self.expected_loss:.4g} nats per token")
        lines.append(f"expected cost {cost_words(self.document)}")
        return "\n".join([*lines, *(f"warning: {text}" for text in self.warnings)])

    def _figure(self) -> Figure | None:
        return None if self.fitted is None else plot(self.fitted, self)


@arguments(PlanQuestion, Quantity)
def plan(fitted: FittedSweep, **asked: Quantity | None) -> Plan:
    """How to spend a budget; arguments as in ``lawfit plan``, with underscores.

    Parameters
    ----------
    asked : fields of `lawfit.ask.PlanQuestion`: flops, gpu_hours, gpus, days, flops_per_second, params, tokens, loss,
        inference_tokens, step_seconds, tokens_per_second and those of `predict`; numbers, or texts such as "7B"

    Raises
    ------
    Unanswerable
        The fit may not be used, nor a law of the loss beside it: what the runs lack, and which runs would mend it.
    NotEnoughData
        The runs carry no law of the loss, or one that leaves the optimum open; with the runs that would help.
    """
    from lawfit.advise.budget.plan import plan as advise
    from lawfit.pipeline.answering import answer, require_answering

    require_answering(fitted.fit)

    question = read(PlanQuestion, asked)
    recipe = fitted.sweep.recipe
    document = advise(
        question,
        recipe,
        fitted.laws,
        fitted.fit.payload.get("missing", {}),
        lambda target: answer(fitted.fit, recipe, target, fitted.laws),
    )
    return Plan(document=told(document), fitted=fitted)


def plot(fitted: FittedSweep | TransferAnswer, answer: Answer | Plan | None = None, kind: str = "lr") -> Figure:
    """One figure of a fit, or of a transfer view (best learning rate against width, else against horizon).

    Parameters
    ----------
    answer : a recommendation; needed by the kinds that show one
    kind : "lr" or "batch_tokens", the optimum against scale with its interval, the recommendation and published laws;
        "cost_lr" or "cost_batch_tokens", what another value costs at the target; "surface", the runs of one scale and
        the valley around its optimum; "backtest", regret at scales left out. Of a plan: "valley" (also by default), the
        loss along the budget; "plane", the plan among the runs; "time", compute against time; "routes", the best size
        by each form of the law and by profiles

    Raises
    ------
    ValueError
        Another kind, or one that needs an answer without one.
    Unanswerable
        A figure of a learning rate or a batch that the runs do not carry.
    """
    from lawfit.plots.notebook import plot_backtest, plot_costs, plot_scaling, plot_surface

    if isinstance(fitted, TransferAnswer):
        from lawfit.plots.transfer import transfer_charts

        return transfer_charts(fitted.document)[0].figure
    if isinstance(answer, Plan):
        from lawfit.plots.notebook import plot_plan

        return plot_plan(fitted.laws["loss"], answer.document, "valley" if kind == "lr" else kind)
    if fitted.fit.kind != "lr_batch":
        raise Unanswerable(f"no figure of the learning rate: {tell(fitted.fit.payload['no_settings'])}")
    if kind == "surface":
        return plot_surface(fitted.fit, fitted.sweep.runs)
    if kind == "backtest":
        return plot_backtest(fitted.fit)
    quantity = kind.removeprefix("cost_")
    if quantity not in ("lr", "batch_tokens"):
        kinds = "lr, batch_tokens, cost_lr, cost_batch_tokens, surface, backtest"
        raise ValueError(f"there is no figure '{kind}'; there are {kinds}")
    if answer is None:
        raise ValueError(f"the figure '{kind}' shows a recommendation: plot(fit, lawfit.predict(fit, ...), '{kind}')")
    answer.setting(quantity)  # raises where there is none
    draw = plot_scaling if kind == quantity else plot_costs
    return draw(fitted.fit, answer.document, quantity)
