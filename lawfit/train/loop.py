"""Train one pack from its start, or its checkpoint, to its end, or the deadline, with one log per run."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

from lawfit.train.checkpoint import Checkpoint, Saved
from lawfit.train.corpus import Corpus
from lawfit.train.log import RunLog, last_event, log_path
from lawfit.train.pack import Pack
from lawfit.train.trainer import Steps, Trainer


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How one run ended."""

    run_id: str
    status: str  # "finished", "diverged", or "stopped" (the deadline came first, and it can go on)
    steps: int  # done, at most those asked for
    loss: float | None  # on the validation sequences, nats per token; only when finished


def train(
    pack: Pack,
    corpus: Corpus,
    logs: Path,
    *,
    trainer: Trainer,
    deadline: float = math.inf,
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
    checkpoint_seconds : float
        Leave a checkpoint about this often, against a sudden death.
    """
    trainer.load(corpus)
    ids = [pack.run_id(i, corpus.manifest.hash) for i in range(trainer.k)]
    checkpoint = Checkpoint(logs, ids, every_seconds=checkpoint_seconds)
    ready = clock()
    steps = trainer.prepare()
    start = clock()
    ready_seconds = start - ready
    if saved := checkpoint.load():
        trainer.restore(saved.tensors)
        start -= saved.seconds
    done, diverged_at = int(trainer.step), trainer.diverged_at[:, 0].tolist()
    with ExitStack() as open_logs:
        run_logs = []
        for i in range(trainer.k):
            resume_at = saved.log_positions[i] if saved else None
            log = RunLog(
                logs,
                ids[i],
                pack,
                i,
                corpus.manifest,
                trainer.device,
                trainer.steps * pack.batch_sequences / trainer.sequences,
                resume_at=resume_at,
            )
            log.go_on(done, diverged_at[i])
            run_logs.append(open_logs.enter_context(closing(log)))

        def save() -> None:
            positions = [log.position for log in run_logs]
            checkpoint.save(Saved(tensors=trainer.state, log_positions=positions, seconds=clock() - start))

        while not all(log.over(done) for log in run_logs):
            past, done = done, min(log.next_line(done) for log in run_logs if not log.over(done))
            for _ in range(done - past):
                steps.train()
            _write_lines(trainer, steps, run_logs, done)
            if all(log.over(done) for log in run_logs):
                break
            if clock() > deadline:
                save()
                return [Outcome(run_id=ids[i], status="stopped", steps=done, loss=None) for i in range(trainer.k)]
            if checkpoint.due:
                save()
        train_seconds = clock() - start
        final = trainer.evaluate(steps)
        outcomes = []
        for i, log in enumerate(run_logs):
            if not log.diverged_at and not math.isfinite(final.loss[i]):
                log.diverged_at = log.steps
            status = "diverged" if log.diverged_at else "finished"
            log.end(
                status, final.of(i),
                prepare_seconds=ready_seconds, train_seconds=train_seconds,
                eval_seconds=clock() - start - train_seconds,
                pack_tokens_per_second=trainer.k * done * pack.batch_tokens / train_seconds,
            )  # fmt: skip
            loss = None if log.diverged_at else float(final.loss[i])
            outcomes.append(Outcome(run_id=ids[i], status=status, steps=log.diverged_at or log.steps, loss=loss))
    checkpoint.remove()
    return outcomes


def _write_lines(trainer: Trainer, steps: Steps, run_logs: Sequence[RunLog], done: int) -> None:
    """What the logs want to say after `done` steps, and the measurements for it."""
    losses = trainer.loss_table[:, :done].cpu().numpy()  # waits for the device
    norms, rates = trainer.norm_table[:, done - 1].cpu().numpy(), trainer.lr_table[:, done - 1].cpu().numpy()
    diverged_at = trainer.diverged_at[:, 0].tolist()
    wanted = [log.wants_line(done) and not diverged_at[i] for i, log in enumerate(run_logs)]
    squares = trainer.gradient_squares(steps) if any(wanted) and trainer.pack.noise_scale else None
    for i, log in enumerate(run_logs):
        measured = {} if squares is None else {"grad_sq": float(squares[0, i]), "grad_sq_double": float(squares[1, i])}
        log.train(done, losses[i], diverged_at[i], grad_norm=float(norms[i]), lr=float(rates[i]), **measured)
    if any(log.wants_eval(done) for log in run_logs):
        evaluation = trainer.evaluate(steps)
        for i, log in enumerate(run_logs):
            if log.wants_eval(done):
                log.eval(done, evaluation.of(i))


def ended(pack: Pack, corpus_hash: str, logs: Path) -> bool:
    """Every run of the pack has a log that ends."""
    last = (last_event(log_path(logs, pack.run_id(i, corpus_hash))) for i in range(len(pack.runs)))
    return all(event is not None and event["event"] == "end" and event["status"] != "stopped" for event in last)
