"""Train one pack: forward, backward, clipped update, for all K runs at once; then evaluate and log.

On a GPU the whole step is one CUDA graph: it reads its batch from the corpus on the device, its learning rate from a
table, and counts its own steps, so that the host only replays it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lawfit.train.corpus import Corpus, CorpusError, sequence_order
from lawfit.train.log import RunLog
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
    status: str  # "finished", "diverged", or "stopped" (the deadline came first)
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

    def prepare(self) -> tuple[Callable[[], None], Callable[[], None]]:
        """The two steps as callables: CUDA graphs on a GPU, plain calls elsewhere."""
        self.eval_losses = torch.zeros(self.k, self.pack.eval_sequences, device=self.device)
        self.eval_at = torch.zeros((), dtype=torch.int64, device=self.device)
        if self.device.type != "cuda":
            return self.train_step, self.eval_step
        state = (self.rows, self.first, self.second, self.step, self.healthy, self.diverged_at, self.hopeless_steps)
        with torch.no_grad():
            saved = [tensor.detach().clone() for tensor in state]
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
        with torch.no_grad():
            for tensor, value in zip(state, saved, strict=True):
                tensor.copy_(value)
            self.loss_table.zero_()
            self.norm_table.zero_()
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
    clock: Callable[[], float] = time.time,
) -> list[Outcome]:
    """Train a pack to its end, or to the deadline, and write one `<run id>.jsonl` per run.

    Parameters
    ----------
    trainer : Trainer
        Made from the same pack; apart, so that compilation can begin before the corpus is there.
    deadline : float
        On `clock`, in seconds. Runs that are not done by then are logged as stopped and have no final loss.
    """
    trainer.load(corpus)
    ready = clock()
    train_step, eval_step = trainer.prepare()
    start = clock()
    ids = [pack.run_id(i, corpus.manifest.hash) for i in range(trainer.k)]
    run_logs = [
        RunLog(logs, ids[i], pack, i, corpus.manifest, trainer.device, trainer.epochs) for i in range(trainer.k)
    ]
    interval = max(1, trainer.steps // pack.log_points)
    done, late = 0, False
    while done < trainer.steps and not late:
        for _ in range(min(interval, trainer.steps - done)):
            train_step()
        past, done = done, min(done + interval, trainer.steps)
        losses = trainer.loss_table[:, past:done].cpu().numpy()  # waits for the device
        norms, rates = trainer.norm_table[:, done - 1].cpu().numpy(), trainer.lr_table[:, done - 1].cpu().numpy()
        diverged_at = trainer.diverged_at[:, 0].cpu().numpy()
        for i, log in enumerate(run_logs):
            log.train(past, done, losses[i], float(norms[i]), float(rates[i]), int(diverged_at[i]))
        late = clock() > deadline and done < trainer.steps
        if all(log.over(done) for log in run_logs):
            break
    train_seconds = clock() - start
    finished = [not log.diverged_at and done >= log.steps for log in run_logs]
    final = trainer.evaluate(eval_step) if any(finished) else np.full(trainer.k, np.nan)
    outcomes = []
    for i, log in enumerate(run_logs):
        status = "diverged" if log.diverged_at else "finished" if finished[i] else "stopped"
        if status == "finished" and not math.isfinite(final[i]):
            status, log.diverged_at = "diverged", pack.runs[i].steps
        loss = float(final[i]) if status == "finished" else None
        steps = log.diverged_at or min(done, pack.runs[i].steps)
        log.end(
            status, steps, loss,
            prepare_seconds=start - ready, train_seconds=train_seconds, eval_seconds=clock() - start - train_seconds,
            pack_tokens_per_second=trainer.k * done * pack.batch_tokens / train_seconds,
        )  # fmt: skip
        outcomes.append(Outcome(run_id=ids[i], status=status, steps=steps, loss=loss))
    return outcomes
