"""Train one pack from its start, or its checkpoint, to its end, or the deadline, with one log per run."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from torch import Tensor

from lawfit.corpus import Corpus
from lawfit.proxy.log import RunLog, last_event, log_path, start_line
from lawfit.proxy.pack import Pack
from lawfit.records import Json
from lawfit.train import machine
from lawfit.train.checkpoint import Checkpoint, Clocks, Saved
from lawfit.train.trainer import Evaluation, Steps, Trainer

# The device works through its steps without the host, which looks at the clock this often, and first after a few steps.
ATTENTION_SECONDS = 5.0
FIRST_STEPS = 8


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How one run ended."""

    run_id: str
    status: str  # "finished", "diverged", or "stopped" (the deadline came first, and it can go on)
    steps: int  # done; when stopped, up to the last line of the log
    loss: float | None  # on the validation sequences, nats per token; only when finished


def train(
    pack: Pack,
    corpus: Corpus,
    logs: Path,
    *,
    trainer: Trainer,
    deadline: float = math.inf,
    stop: Callable[[], bool] = lambda: False,
    checkpoint_seconds: float = math.inf,
    clock: Callable[[], float] = time.time,
) -> list[Outcome]:
    """Train a pack to its end, or to the deadline, and write one `<run id>.jsonl` per run.

    A pack that was interrupted goes on from its checkpoint; the logs are then those of one uninterrupted run.

    Parameters
    ----------
    trainer : Trainer
        Made from the same pack; apart, so that compilation can begin before the corpus is there.
    deadline : float
        On `clock`, in seconds. A pack that is not done by then leaves a checkpoint and logs without an end.
    stop : Callable
        Whether the deadline is now, whatever the clock says.
    checkpoint_seconds : float
        Leave a checkpoint about this often, against a sudden death.
    """
    trainer.load(corpus)
    machine.forget_peak_memory(trainer.device)
    ids = [pack.run_id(i, corpus.manifest.hash) for i in range(len(pack.runs))]
    checkpoint = Checkpoint(logs, ids, every_seconds=checkpoint_seconds)
    saved = checkpoint.load(trainer.plan.hash)
    trunks = {branch.run: branch for branch in trainer.plan.branches}
    with ExitStack() as open_logs:
        run_logs = []
        for i in range(len(pack.runs)):
            start = start_line(pack, i, corpus.manifest, trainer.sequences)
            start |= {
                "trunk": ids[trunks[i].trunk] if i in trunks else None,
                "trunk_steps": trunks[i].at if i in trunks else 0,  # trained once, for the trunk and its branches
                "checkpoint_bytes": trainer.state_bytes,  # of the whole pack
                "update_ratio_weights": trainer.sample().shape[1],  # of the layers' matrices, evenly drawn
                "device": machine.device_name(trainer.device),
                "peak_flops": machine.peak_flops(trainer.device, pack.precision),  # bf16, dense; mfu is its share
                **machine.versions(),
            }
            log = RunLog(logs, pack, i, start, resume_at=saved.log_positions[i] if saved else None)
            run_logs.append(open_logs.enter_context(closing(log)))
        run = _Run(pack, trainer, run_logs, checkpoint, deadline=deadline, stop=stop, clock=clock)
        if saved:
            run.restore(saved)
        if run.to_the_end():
            checkpoint.remove()
        return [_outcome(run_id, log) for run_id, log in zip(ids, run_logs, strict=True)]


def _outcome(run_id: str, log: RunLog) -> Outcome:
    if log.ending is None:
        return Outcome(run_id=run_id, status="stopped", steps=log.logged, loss=None)
    end = log.ending
    return Outcome(run_id=run_id, status=end["status"], steps=end["step"], loss=end["loss"])


class _Run:
    """A pack on its way: the trainer, where it is in the plan, and what it has cost."""

    def __init__(
        self,
        pack: Pack,
        trainer: Trainer,
        logs: Sequence[RunLog],
        checkpoint: Checkpoint,
        *,
        deadline: float,
        stop: Callable[[], bool],
        clock: Callable[[], float],
    ) -> None:
        self.pack, self.trainer, self.logs = pack, trainer, logs
        self.checkpoint, self.deadline, self.stop, self.clock = checkpoint, deadline, stop, clock
        self.plan = trainer.plan
        self.rows = list(self.plan.rows)  # index in the pack of each row of the stack
        self.detours = 0  # that are over
        self.trunk: Mapping[str, Tensor] | None = None  # where the trunk was left, on a detour
        self.done = 0  # steps of the rows
        self.clocks = Clocks()
        self.steps: Steps | None = None
        self.step_seconds = 0.0  # of the last interval
        self.last_prepare_seconds = 0.0

    def restore(self, saved: Saved) -> None:
        """Go on from a checkpoint, without the rows that are over: the steps must be prepared anyway."""
        self._keep([self.rows.index(run) for run in saved.rows])
        self.trainer.restore(saved.tensors)
        self.detours, self.trunk, self.clocks = saved.detours, saved.trunk, saved.clocks
        self.done = int(self.trainer.step)
        if self.trunk is None:
            self._keep([row for row, run in enumerate(self.rows) if not self.logs[run].over])

    def to_the_end(self) -> bool:
        """Trunks and detours in turn; False if the deadline came first."""
        for detour in self.plan.detours[self.detours :]:
            if self.trunk is None:
                if not self._follow(self._trunks(), until=detour.at):
                    return False
                if all(self.logs[branch.run].over for branch in detour.branches):
                    self.detours += 1  # constant rates end where they leave, and others diverged with their trunks
                    continue
                self.trunk = self.trainer.snapshot()
            courses = {
                self.rows.index(branch.trunk): branch.run for branch in detour.branches if branch.trunk in self.rows
            }
            self.trainer.follow({row: self.pack.runs[run] for row, run in courses.items()})
            if not self._follow({run: row for row, run in courses.items()}, until=detour.until):
                return False
            self.trainer.restore(self.trunk)
            self.trainer.follow({row: self.pack.runs[run] for row, run in enumerate(self.rows)})
            self.trunk, self.done = None, detour.at
            self.detours += 1
        return self._follow(self._trunks(), until=self.trainer.steps)

    def _trunks(self) -> dict[int, int]:
        """Row by run: of the trunks, and of the branches that have not left them yet."""
        row = {run: row for row, run in enumerate(self.rows)}
        ahead = (branch for detour in self.plan.detours[self.detours :] for branch in detour.branches)
        return row | {branch.run: row[branch.trunk] for branch in ahead if branch.trunk in row}

    def _follow(self, courses: Mapping[int, int], *, until: int) -> bool:
        """Train up to a step, with the logs of some runs (row by run); False if the deadline came first."""
        while self.done < until:
            open_runs = {run: row for run, row in courses.items() if not self.logs[run].over}
            if not open_runs:
                return True
            if self.trunk is None and self._compact():
                courses = self._trunks()
                continue
            line = min(self.logs[run].next_line(self.done) for run in open_runs)
            unwatched = ATTENTION_SECONDS / self.step_seconds if self.step_seconds else FIRST_STEPS
            self._advance(open_runs, min(until, line, self.done + max(1, int(unwatched))))
            if all(log.over for log in self.logs):
                break
            late = self.stop() or self.clock() > self.deadline
            if late or self.checkpoint.due:
                self._save()
            if late:
                return False
        return True

    def _advance(self, courses: Mapping[int, int], stop: int) -> None:
        """Train up to a step, measure, and write what the logs want to say there."""
        if self.steps is None:
            self._prepare()
            assert self.steps is not None
        began, trainer = self.clock(), self.trainer
        for _ in range(stop - self.done - 1):
            self.steps.train()
        before = trainer.sample()
        self.steps.train()
        diverged_at = trainer.diverged_at[:, 0].tolist()  # waits for the device
        seconds = self.clock() - began
        self.step_seconds = seconds / (stop - self.done)
        self.clocks = replace(
            self.clocks,
            train_seconds=self.clocks.train_seconds + seconds,
            run_steps=self.clocks.run_steps + (stop - self.done) * len(set(courses.values())),
        )
        self.done = stop
        for run, row in courses.items():
            if diverged_at[row]:
                self.logs[run].diverged(diverged_at[row], self._timings())
        alive = {run: row for run, row in courses.items() if not diverged_at[row]}
        self._write_lines(alive, before)
        if any(self.logs[run].wants_eval(stop) for run in alive):
            evaluation = self._evaluate()
            for run, row in alive.items():
                self.logs[run].eval(stop, evaluation.of(row))
                if stop == self.logs[run].steps:
                    self.logs[run].finished(evaluation.of(row), self._timings())

    def _write_lines(self, courses: Mapping[int, int], before: Tensor) -> None:
        """Training losses, and the measurements that go with them."""
        if not any(self.logs[run].wants_line(self.done) for run in courses):
            return
        trainer, now = self.trainer, self.done - 1
        first = min(self.logs[run].logged for run in courses)
        losses = trainer.loss_table[:, first : self.done].cpu().numpy()
        measured: dict[str, npt.NDArray[np.floating]] = {
            "grad_norm": trainer.norm_table[:, now].cpu().numpy(),
            "lr": trainer.lr_table[:, now].cpu().numpy(),
            "update_ratio": trainer.update_ratio(before),
        }
        if self.pack.noise_scale and self.steps is not None:
            measured["grad_sq"], measured["grad_sq_double"] = trainer.gradient_squares(self.steps)
        for run, row in courses.items():
            values = {name: float(x[row]) for name, x in measured.items()}
            # a step that was wild, and not yet found out, may have left weights that give no finite measurement
            finite = {name: x for name, x in values.items() if math.isfinite(x)}
            self.logs[run].train(self.done, losses[row, self.logs[run].logged - first :], finite)

    def _evaluate(self) -> Evaluation:
        assert self.steps is not None  # it follows a step
        began = self.clock()
        evaluation = self.trainer.evaluate(self.steps)
        self.clocks = replace(self.clocks, eval_seconds=self.clocks.eval_seconds + self.clock() - began)
        return evaluation

    def _timings(self) -> dict[str, Json]:
        """What the pack has cost up to now; speeds count only the runs that were being trained."""
        clocks, model = self.clocks, self.pack.model
        tokens_per_second = clocks.run_steps * self.pack.batch_tokens / max(clocks.train_seconds, 1e-9)
        peak = machine.peak_flops(self.trainer.device, self.pack.precision)
        return {
            "prepare_seconds": clocks.prepare_seconds,
            "train_seconds": clocks.train_seconds,
            "eval_seconds": clocks.eval_seconds,
            "pack_tokens_per_second": tokens_per_second,
            "mfu": tokens_per_second * model.flops_per_token / peak if peak else None,
            "peak_memory_bytes": machine.peak_memory_bytes(self.trainer.device),
        }

    def _prepare(self) -> None:
        began = self.clock()
        self.steps = self.trainer.prepare()
        self.last_prepare_seconds = self.clock() - began + self.trainer.warm_up_seconds
        self.trainer.warm_up_seconds = 0.0
        total = self.clocks.prepare_seconds + self.last_prepare_seconds
        self.clocks = replace(self.clocks, prepare_seconds=total)

    def _compact(self) -> bool:
        """Let go of the rows that are over, if what they would still cost is more than a new preparation.

        Time is taken as proportional to the rows, which is true of a stack that fills the device.
        """
        left = [row for row, run in enumerate(self.rows) if not self.logs[run].over]
        if len(left) == len(self.rows):
            return False
        steps_left = max(self.pack.runs[self.rows[row]].steps for row in left) - self.done
        steps_left += sum(detour.until - detour.at for detour in self.plan.detours[self.detours :])
        saving = self.step_seconds * steps_left * (1 - len(left) / len(self.rows))
        if self.trainer.compiled and saving < self.last_prepare_seconds:
            return False
        self._keep(left)
        return True

    def _keep(self, rows: Sequence[int]) -> None:
        if len(rows) < len(self.rows):
            began = self.clock()
            self.steps = None  # first: graphs hold on to memory
            self.trainer.keep(rows)
            self.rows = [self.rows[row] for row in rows]
            seconds = self.clocks.prepare_seconds + self.clock() - began
            self.clocks = replace(self.clocks, prepare_seconds=seconds)

    def _save(self) -> None:
        self.checkpoint.save(
            Saved(
                plan=self.plan.hash,
                tensors=self.trainer.snapshot(), trunk=self.trunk, rows=self.rows, detours=self.detours,
                log_positions=[log.position for log in self.logs], clocks=self.clocks,
            )
        )  # fmt: skip


def ended(pack: Pack, corpus_hash: str, logs: Path) -> bool:
    """Every run of the pack has a log that ends."""
    last = (last_event(log_path(logs, pack.run_id(i, corpus_hash))) for i in range(len(pack.runs)))
    return all(event is not None and event["event"] == "end" and event["status"] != "stopped" for event in last)
