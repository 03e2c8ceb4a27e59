"""Train one pack: forward, backward, clipped update, for all K runs at once; then evaluate and log.

On a GPU the whole step is one CUDA graph: it reads its batch from the corpus on the device, its learning rate from a
table, and counts its own steps, so that the host only replays it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lawfit.train.checkpoint import Checkpoint, Saved
from lawfit.train.corpus import Corpus, CorpusError, sequence_order
from lawfit.train.log import RunLog, last_event, log_path
from lawfit.train.model import Stack, decayed_columns, initial_rows
from lawfit.train.optimizers import Columns, adamw, gradient_norm
from lawfit.train.pack import Pack
from lawfit.train.schedules import multipliers

# A run diverges at its first loss or gradient that is not finite, or when it is this much worse than a uniform guess
# for this many steps on end: a single spike can heal.
HOPELESS_NATS = 1.0
HOPELESS_STEPS = 10


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How one run ended."""

    run_id: str
    status: str  # "finished", "diverged", or "stopped" (the deadline came first, and it can go on)
    steps: int  # done, at most those asked for
    loss: float | None  # on the validation sequences, nats per token; only when finished


class Trainer:
    """The state of a pack on one device, and the step that advances it."""

    def __init__(self, pack: Pack, device: torch.device, *, compiled: bool) -> None:
        self.pack, self.device = pack, device
        runs, model = pack.runs, pack.model
        self.k, self.steps = len(runs), max(run.steps for run in runs)
        dtype = torch.bfloat16 if pack.precision == "bf16" else torch.float32
        stack = Stack(model, dtype=dtype, device=device)
        self.losses: Callable[[Tensor, Tensor], Tensor] = stack.losses
        self.update: Callable[..., None] = adamw
        if compiled:
            self.losses = torch.compile(stack.losses, dynamic=False, fullgraph=True)
            self.update = torch.compile(adamw, dynamic=False, fullgraph=True)
        self.columns = Columns.of(runs, device)
        self.decayed = decayed_columns(model).to(device)
        self.rows = initial_rows(model, [run.init_seed for run in runs]).to(device).requires_grad_()
        self.first, self.second = torch.zeros_like(self.rows), torch.zeros_like(self.rows)
        self.lr_table = torch.zeros(self.k, self.steps)
        for row, run in zip(self.lr_table, runs, strict=True):
            floor = run.final_fraction if run.final_lr is None else run.final_lr / run.lr
            factors = multipliers(
                run.schedule, run.steps, warmup_steps=run.warmup_steps, floor=floor, cooldown=run.cooldown_fraction
            )
            row[: run.steps] = torch.from_numpy(run.lr * factors)
        self.lr_table = self.lr_table.to(device)
        self.last_step = torch.tensor([run.steps for run in runs], device=device)[:, None]
        self.step = torch.zeros((), dtype=torch.int64, device=device)  # steps done
        self.healthy = torch.ones(self.k, 1, dtype=torch.bool, device=device)
        self.diverged_at = torch.zeros(self.k, 1, dtype=torch.int64, device=device)  # step, from 1; 0: it has not
        self.hopeless_steps = torch.zeros_like(self.diverged_at)  # on end, up to now
        self.loss_table = torch.zeros(self.k, self.steps, device=device)
        self.norm_table = torch.zeros(self.k, self.steps, device=device)

    def warm_up(self) -> None:
        """Compile for this shape, on made-up tokens and without touching the runs; may be done before `load`."""
        model, batch = self.pack.model, self.pack.batch_sequences
        tokens = torch.randint(model.vocab, (self.k, batch, model.seq_len + 1), device=self.device)
        (grads,) = torch.autograd.grad(self.losses(self.rows, tokens).sum(), self.rows)
        with torch.no_grad():
            self._update(grads, self.lr_table[:, :1], gradient_norm(grads), torch.zeros_like(self.healthy))

    def _update(self, grads: Tensor, lr: Tensor, norm: Tensor, alive: Tensor) -> None:
        self.update(
            self.rows, grads, self.first, self.second, lr=lr, step=self.step + 1, norm=norm, alive=alive,
            columns=self.columns, decayed=self.decayed, independent=self.pack.decay == "independent",
        )  # fmt: skip

    def load(self, corpus: Corpus) -> None:
        """Put the tokens and the order of every run on the device."""
        model, pack = self.pack.model, self.pack
        if corpus.manifest.vocab > model.vocab:
            raise CorpusError(
                f"the corpus has {corpus.manifest.vocab} tokens, the model {model.vocab}; raise model.vocab"
            )
        sequences = (len(corpus.train) - 1) // model.seq_len
        held_out = (len(corpus.validation) - 1) // model.seq_len
        if sequences < 1 or held_out < pack.eval_sequences:
            raise CorpusError(
                f"the corpus holds {sequences} training and {held_out} validation sequences of {model.seq_len} tokens; "
                f"the pack evaluates on {pack.eval_sequences}"
            )
        # int16 where it fits: torch indexes it on every device, and it is half the memory of int32
        kind = np.int16 if model.vocab <= 2**15 else np.int32
        self.train_tokens = torch.from_numpy(corpus.train.astype(kind)).to(self.device)
        self.eval_tokens = torch.from_numpy(corpus.validation.astype(kind)).to(self.device)
        needed = self.steps * pack.batch_sequences
        orders = {seed: sequence_order(sequences, needed, seed) for seed in {run.data_seed for run in pack.runs}}
        table = np.stack([orders[run.data_seed] for run in pack.runs])
        self.order = torch.from_numpy(table).to(self.device)
        self.epochs = needed / sequences

    def _windows(self, tokens: Tensor, which: Tensor) -> Tensor:
        """(K, b) sequence numbers -> (K, b, T + 1) tokens."""
        length = self.pack.model.seq_len
        return tokens[which.long()[..., None] * length + torch.arange(length + 1, device=self.device)].long()

    def train_step(self) -> None:
        """Advance every run that is alive by one step."""
        place = self.step.clamp(max=self.steps - 1)
        batch = self.pack.batch_sequences
        which = self.order.index_select(1, place * batch + torch.arange(batch, device=self.device))
        losses = self.losses(self.rows, self._windows(self.train_tokens, which)).mean(1, keepdim=True)
        (grads,) = torch.autograd.grad(losses.sum(), self.rows)  # runs share no parameter: the sum mixes nothing
        with torch.no_grad():
            norm = gradient_norm(grads)
            running = self.step < self.last_step
            hopeless = losses > math.log(self.pack.model.vocab) + HOPELESS_NATS
            self.hopeless_steps.copy_(torch.where(hopeless, self.hopeless_steps + 1, 0))
            sane = torch.isfinite(losses) & torch.isfinite(norm) & (self.hopeless_steps < HOPELESS_STEPS)
            alive = self.healthy & running & sane
            self.diverged_at.copy_(torch.where(self.healthy & running & ~sane, self.step + 1, self.diverged_at))
            self.healthy &= sane | ~running
            self._update(grads, self.lr_table.index_select(1, place[None]), norm, alive)
            self.loss_table.index_copy_(1, place[None], losses.detach())
            self.norm_table.index_copy_(1, place[None], norm)
            self.step += 1

    def eval_step(self) -> None:
        """Losses of the next batch of validation sequences, the same for every run."""
        batch, total = self.pack.batch_sequences, self.pack.eval_sequences
        which = (self.eval_at + torch.arange(batch, device=self.device)).clamp(max=total - 1)
        windows = self._windows(self.eval_tokens, which.expand(self.k, batch))
        # with gradients on although none is taken: the compiled pass of training is used again
        losses = self.losses(self.rows, windows)
        self.eval_losses.index_copy_(1, which, losses.detach())  # the clamped tail writes one value several times
        self.eval_at += batch

    @property
    def state(self) -> dict[str, Tensor]:
        """Everything that a step changes."""
        names = (
            "rows",
            "first",
            "second",
            "step",
            "healthy",
            "diverged_at",
            "hopeless_steps",
            "loss_table",
            "norm_table",
        )
        return {name: getattr(self, name) for name in names}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        with torch.no_grad():
            for name, tensor in self.state.items():
                tensor.copy_(state[name])

    def prepare(self) -> tuple[Callable[[], None], Callable[[], None]]:
        """The two steps as callables: CUDA graphs on a GPU, plain calls elsewhere."""
        self.eval_losses = torch.zeros(self.k, self.pack.eval_sequences, device=self.device)
        self.eval_at = torch.zeros((), dtype=torch.int64, device=self.device)
        if self.device.type != "cuda":
            return self.train_step, self.eval_step
        saved = {name: tensor.detach().clone() for name, tensor in self.state.items()}
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):  # warm-up off the capture: compilation, library handles, workspaces
            for _ in range(2):
                self.train_step()
                self.eval_step()
        torch.cuda.current_stream().wait_stream(stream)
        graphs = []
        for step in (self.train_step, self.eval_step):
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                step()
            graphs.append(graph)
        self.restore(saved)
        return graphs[0].replay, graphs[1].replay

    def evaluate(self, eval_step: Callable[[], None]) -> npt.NDArray[np.float64]:
        """(K,) mean loss on the validation sequences, nats per token."""
        self.eval_at.zero_()
        for _ in range(-(-self.pack.eval_sequences // self.pack.batch_sequences)):
            eval_step()
        return np.asarray(self.eval_losses.double().mean(1).cpu().numpy())


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
    train_step, eval_step = trainer.prepare()
    start = clock()
    ready_seconds = start - ready
    if saved := checkpoint.load():
        trainer.restore(saved.tensors)
        start -= saved.seconds
    done, diverged_at = int(trainer.step), trainer.diverged_at[:, 0].tolist()
    run_logs = [
        RunLog(
            logs, ids[i], pack, i, corpus.manifest, trainer.device, trainer.epochs,
            resume_at=saved.log_positions[i] if saved else None, done=done, diverged_at=diverged_at[i],
        )
        for i in range(trainer.k)
    ]  # fmt: skip

    def save() -> None:
        positions = [log.position for log in run_logs]
        checkpoint.save(Saved(tensors=trainer.state, log_positions=positions, seconds=clock() - start))

    while not all(log.over(done) for log in run_logs):
        past, done = done, min(log.next_line(done) for log in run_logs if not log.over(done))
        for _ in range(done - past):
            train_step()
        losses = trainer.loss_table[:, :done].cpu().numpy()  # waits for the device
        norms, rates = trainer.norm_table[:, done - 1].cpu().numpy(), trainer.lr_table[:, done - 1].cpu().numpy()
        diverged_at = trainer.diverged_at[:, 0].tolist()
        for i, log in enumerate(run_logs):
            log.train(done, losses[i], float(norms[i]), float(rates[i]), diverged_at[i])
        if all(log.over(done) for log in run_logs):
            break
        if clock() > deadline:
            save()
            for log in run_logs:
                log.close()
            return [Outcome(run_id=ids[i], status="stopped", steps=done, loss=None) for i in range(trainer.k)]
        if checkpoint.due:
            save()
    train_seconds = clock() - start
    final = trainer.evaluate(eval_step)
    outcomes = []
    for i, log in enumerate(run_logs):
        if not log.diverged_at and not math.isfinite(final[i]):
            log.diverged_at = log.steps
        status, loss = ("diverged", None) if log.diverged_at else ("finished", float(final[i]))
        steps = log.diverged_at or log.steps
        log.end(
            status, steps, loss,
            prepare_seconds=ready_seconds, train_seconds=train_seconds, eval_seconds=clock() - start - train_seconds,
            pack_tokens_per_second=trainer.k * done * pack.batch_tokens / train_seconds,
        )  # fmt: skip
        outcomes.append(Outcome(run_id=ids[i], status=status, steps=steps, loss=loss))
    checkpoint.remove()
    return outcomes


def ended(pack: Pack, corpus_hash: str, logs: Path) -> bool:
    """Every run of the pack has a log that ends."""
    last = (last_event(log_path(logs, pack.run_id(i, corpus_hash))) for i in range(len(pack.runs)))
    return all(event is not None and event["event"] == "end" and event["status"] != "stopped" for event in last)
