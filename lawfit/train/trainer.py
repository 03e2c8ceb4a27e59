"""The state of a pack on one device, and the steps that it takes: train, evaluate, measure.

On a GPU each step is one CUDA graph: it reads its batch from the corpus on the device, its learning rate from a table,
and counts its own steps, so that the host only replays it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lawfit.corpus import Corpus, CorpusError, sequence_order
from lawfit.proxy.pack import Pack, RunSettings
from lawfit.proxy.trunks import plan
from lawfit.train.compiler import compiled
from lawfit.train.model import Stack, decayed_columns, initial_rows, layout, rate_columns
from lawfit.train.optimizers import Columns, advance, debias, gradient_norm, has_kernel

# A run diverges at its first loss or gradient that is not finite, or when it is this much worse than a uniform guess,
# and worse than it began, for this many steps on end: a single spike can heal, and large first weights begin badly.
HOPELESS_NATS = 1.0
WORSE_NATS = 0.25  # than its first loss, which has noise
HOPELESS_STEPS = 10
SAMPLED_WEIGHTS = 65_536  # of a run, for its update ratio: known to 0.3 % (1 / sqrt(2 n)) at the cost of no step


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Mean losses on the validation sequences, nats per token; (K,) each."""

    loss: npt.NDArray[np.float64]
    average_loss: npt.NDArray[np.float64] | None  # of the averaged weights; nan for a run without

    def of(self, i: int) -> dict[str, float]:
        """The finite ones of run `i`, by name."""
        values = {"loss": self.loss} | ({} if self.average_loss is None else {"average_loss": self.average_loss})
        return {name: float(value[i]) for name, value in values.items() if math.isfinite(value[i])}


@dataclass(frozen=True, kw_only=True)
class Steps:
    """What a trainer does again and again: CUDA graphs on a GPU, plain calls elsewhere."""

    train: Callable[[], None]
    evaluate: Callable[[], None]
    evaluate_average: Callable[[], None]
    measure: Callable[[], None]


class Trainer:
    """The state of a pack on one device, and the step that advances it."""

    order: Tensor  # (K, places) sequences that each run reads

    def __init__(self, pack: Pack, device: torch.device, *, compiled: bool) -> None:
        self.device, self.compiled = device, compiled
        self.warm_up_seconds = 0.0
        self.plan = plan(pack)
        stack = replace(pack, runs=tuple(pack.runs[i] for i in self.plan.rows))
        self._start(stack, initial_rows(pack.model, [run.init_seed for run in stack.runs]))

    def _start(self, pack: Pack, rows: Tensor) -> None:
        """A row of the stack for every run of `pack`, with these weights, before the first step."""
        self.pack, device = pack, self.device
        runs, model = pack.runs, pack.model
        self.k, self.steps = len(runs), max(run.steps for run in runs)
        dtype = torch.bfloat16 if pack.precision == "bf16" else torch.float32
        self.stack = Stack(model, dtype=dtype, device=device)
        self.losses: Callable[[Sequence[Tensor], Tensor], tuple[Tensor, Tensor]] = self.stack.losses
        self.update: Callable[..., None] = advance
        if self.compiled and not self.stack.has_kernels:
            self.losses = compiled(self.stack.losses)
        if self.compiled and not has_kernel(pack.optimizer, device):
            self.update = compiled(advance)
        self.columns = Columns.of(pack, device)
        self.decayed, self.rates = decayed_columns(model).to(device), rate_columns(model).to(device)
        self.rows = rows.to(device)
        self.grads, self.first, self.second = (torch.zeros_like(self.rows) for _ in range(3))
        self.lr_table = torch.zeros(self.k, self.steps, device=device)
        self.last_step = torch.zeros(self.k, 1, dtype=torch.int64, device=device)
        self.follow(dict(enumerate(runs)))
        self.step = torch.zeros((), dtype=torch.int64, device=device)  # steps done
        self.healthy = torch.ones(self.k, 1, dtype=torch.bool, device=device)
        self.diverged_at = torch.zeros(self.k, 1, dtype=torch.int64, device=device)  # step, from 1; 0: it has not
        self.hopeless_steps = torch.zeros_like(self.diverged_at)  # on end, up to now
        self.loss_table = torch.zeros(self.k, self.steps, device=device)
        self.norm_table = torch.zeros(self.k, self.steps, device=device)
        halvings = [pack.batch_tokens / (run.average_half_life_tokens or math.inf) for run in runs]
        self.averages = any(halvings)
        self.average_decay = torch.tensor([0.5**h for h in halvings], dtype=torch.float64, device=device)[:, None]
        self.average = torch.zeros_like(self.rows if self.averages else self.rows[:, :0])
        self.squares = torch.zeros(2, self.k, device=device)  # of gradient norms, at one batch and at two
        matrices = [slot for slot in layout(model) if slot.kind == "matrices"]
        start, stop = matrices[0].start, matrices[-1].start + matrices[-1].size
        # odd, so that it does not meet the same few columns of every matrix
        self.sampled = slice(start, stop, -(-(stop - start) // SAMPLED_WEIGHTS) | 1)

    def follow(self, courses: Mapping[int, RunSettings]) -> None:
        """Go on with the learning rates and to the end of these runs, by row; other rows stand still."""
        rates, last = torch.zeros_like(self.lr_table, device="cpu"), torch.zeros_like(self.last_step, device="cpu")
        for row, run in courses.items():
            rates[row, : run.steps] = torch.from_numpy(run.rates())
            last[row] = run.steps
        self.lr_table.copy_(rates)
        self.last_step.copy_(last)

    def keep(self, rows: Sequence[int]) -> None:
        """Let go of all other rows. Afterwards the steps must be prepared anew."""
        state = {name: tensor if tensor.ndim == 0 else tensor[list(rows)] for name, tensor in self.snapshot().items()}
        order = self.order[list(rows)]
        self._start(replace(self.pack, runs=tuple(self.pack.runs[row] for row in rows)), state["rows"])
        self.order = order[:, : self.places].clone()
        with torch.no_grad():
            for name, tensor in self.state.items():
                # a table has a column per step of the longest run
                tensor.copy_(state[name] if tensor.ndim == 0 else state[name][:, : tensor.shape[1]])

    def warm_up(self) -> None:
        """Compile for this shape, on made-up tokens and without touching the runs; may be done before `load`."""
        began = time.monotonic()
        if self.stack.has_kernels:
            self.stack.compile_kernels(self.rows[:1])
        model, batch = self.pack.model, self.pack.micro_sequences
        tokens = torch.randint(model.vocab, (self.k, batch, model.seq_len + 1), device=self.device)
        weights = self.stack.weights(self.rows)
        found = torch.autograd.grad(self.losses(weights, tokens)[0].sum(), weights)
        with torch.no_grad():
            self.stack.gather(found, self.grads, add=False)
            self._update(self.lr_table[:, :1], gradient_norm(self.grads), torch.zeros_like(self.healthy))
        self.warm_up_seconds = time.monotonic() - began

    def _update(self, lr: Tensor, norm: Tensor, alive: Tensor) -> None:
        self.update(
            self.rows, self.grads, self.first, self.second,
            optimizer=self.pack.optimizer, lr=lr, corrections=debias(self.step + 1, self.columns), norm=norm,
            alive=alive, columns=self.columns, decayed=self.decayed, rates=self.rates,
            independent=self.pack.decay == "independent", model=self.pack.model,
        )  # fmt: skip

    def load(self, corpus: Corpus) -> None:
        """Put the tokens and the order of every run on the device."""
        model, pack = self.pack.model, self.pack
        if corpus.manifest.vocab > model.vocab:
            raise CorpusError(
                f"the corpus has {corpus.manifest.vocab} tokens, the model {model.vocab}; raise model.vocab"
            )
        sequences = self.sequences = (len(corpus.train) - 1) // model.seq_len
        held_out = (len(corpus.validation) - 1) // model.seq_len
        if sequences < 1 or held_out < pack.eval_sequences:
            raise CorpusError(
                f"the corpus holds {sequences} training and {held_out} validation sequences of {model.seq_len} tokens; "
                f"the pack evaluates on {pack.eval_sequences}"
            )
        unique = [pack.unique_sequences(i, sequences) for i in range(self.k)]
        if (most := max(unique)) > sequences:
            raise CorpusError(
                f"the corpus holds {sequences * model.seq_len} training tokens in sequences of {model.seq_len}; a run "
                f"asks for {most * model.seq_len} different ones (unique_tokens)"
            )
        # int16 where it fits: torch indexes it on every device, and it is half the memory of int32
        kind = np.int16 if model.vocab <= 2**15 else np.int32
        self.train_tokens = torch.from_numpy(corpus.train.astype(kind)).to(self.device)
        self.eval_tokens = torch.from_numpy(corpus.validation.astype(kind)).to(self.device)
        read = [(run.data_seed, most) for run, most in zip(pack.runs, unique, strict=True)]
        orders = {(seed, most): sequence_order(sequences, self.places, seed, most) for seed, most in set(read)}
        table = np.stack([orders[what] for what in read])
        self.order = torch.from_numpy(table).to(self.device)

    @property
    def places(self) -> int:
        """Sequences in the order of a run: those of its steps, and two micro-batches to measure at its end."""
        return self.steps * self.pack.batch_sequences + 2 * self.pack.micro_sequences

    def _windows(self, tokens: Tensor, which: Tensor) -> Tensor:
        """(K, b) sequence numbers -> (K, b, T + 1) tokens."""
        length = self.pack.model.seq_len
        return tokens[which.long()[..., None] * length + torch.arange(length + 1, device=self.device)].long()

    def _gradients(self, first: Tensor, *, add: bool = False) -> Tensor:
        """Mean losses (K, 1) on the micro-batch that begins at place `first` of the order.

        Their gradients go to `grads`, or are added to what is there.
        """
        which = self.order.index_select(1, first + torch.arange(self.pack.micro_sequences, device=self.device))
        with torch.enable_grad():
            weights = self.stack.weights(self.rows)
            losses, _ = self.losses(weights, self._windows(self.train_tokens, which))
            # runs share no parameter: the sum mixes nothing
            found = torch.autograd.grad(losses.sum(), weights)
        self.stack.gather(found, self.grads, add=add)
        return losses.detach()[:, None]

    @torch.no_grad()
    def train_step(self) -> None:
        """Advance every run that is alive by one step."""
        place = self.step.clamp(max=self.steps - 1)
        parts = self.pack.accumulation
        losses = self._gradients(place * self.pack.batch_sequences)
        for part in range(1, parts):
            start = place * self.pack.batch_sequences + part * self.pack.micro_sequences
            losses = losses + self._gradients(start, add=True)
        if parts > 1:
            losses = losses / parts
            self.grads.div_(parts)
        norm = gradient_norm(self.grads)
        running = self.step < self.last_step
        guess = math.log(self.pack.model.vocab)
        hopeless = losses > (self.loss_table[:, :1] + WORSE_NATS).clamp(min=guess + HOPELESS_NATS)
        self.hopeless_steps.copy_(torch.where(hopeless, self.hopeless_steps + 1, 0))
        sane = torch.isfinite(losses) & torch.isfinite(norm) & (self.hopeless_steps < HOPELESS_STEPS)
        alive = self.healthy & running & sane
        self.diverged_at.copy_(torch.where(self.healthy & running & ~sane, self.step + 1, self.diverged_at))
        self.healthy &= sane | ~running
        self._update(self.lr_table.index_select(1, place[None]), norm, alive)
        if self.averages:  # corrected for its start, as Adam's moments are
            share = (1 - self.average_decay) / (1 - self.average_decay ** (self.step + 1))
            share = torch.where(self.average_decay < 1, share, 0.0).float()
            self.average.copy_(torch.where(alive, torch.lerp(self.average, self.rows, share), self.average))
        self.loss_table.index_copy_(1, place[None], losses)
        self.norm_table.index_copy_(1, place[None], norm)
        self.step += 1

    def eval_step(self, rows: Tensor) -> None:
        """Losses of the next batch of validation sequences, the same for every run."""
        batch, total = self.pack.micro_sequences, self.pack.eval_sequences
        which = (self.eval_at + torch.arange(batch, device=self.device)).clamp(max=total - 1)
        windows = self._windows(self.eval_tokens, which.expand(self.k, batch))
        # where it is compiled, with gradients on although none is taken: the pass of training is used again
        with torch.set_grad_enabled(self.losses != self.stack.losses):
            _, losses = self.losses(self.stack.weights(rows), windows)
        self.eval_losses.index_copy_(1, which, losses.detach())  # the clamped tail writes one value several times
        self.eval_at += batch

    @torch.no_grad()
    def measure_step(self) -> None:
        """Squared gradient norms at one micro-batch and at two, on those that come next, without a step.

        The first is the mean over both micro-batches, the second that of their mean gradient: see `noise_scale`.
        """
        here = self.step * self.pack.batch_sequences
        self._gradients(here)
        one = self.grads.clone()
        self._gradients(here + self.pack.micro_sequences)
        self.squares[0] = (one.square().sum(1) + self.grads.square().sum(1)) / 2
        self.squares[1] = ((one + self.grads) / 2).square().sum(1)

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
            "average",
            "loss_table",
            "norm_table",
        )
        return {name: getattr(self, name) for name in names}

    @property
    def state_bytes(self) -> int:
        return sum(tensor.numel() * tensor.element_size() for tensor in self.state.values())

    def snapshot(self) -> dict[str, Tensor]:
        """A copy of the state in the memory of the host, where it takes none of the device's."""
        return {name: tensor.detach().to("cpu", copy=True) for name, tensor in self.state.items()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        with torch.no_grad():
            for name, tensor in self.state.items():
                tensor.copy_(state[name])

    def prepare(self) -> Steps:
        """The steps, ready to run; on a GPU each is warmed up and captured, while the runs stand still."""
        self.eval_losses = torch.zeros(self.k, self.pack.eval_sequences, device=self.device)
        self.eval_at = torch.zeros((), dtype=torch.int64, device=self.device)
        steps: dict[str, Callable[[], None]] = {
            "train": self.train_step,
            "evaluate": lambda: self.eval_step(self.rows),
            "evaluate_average": lambda: self.eval_step(self.average),
            "measure": self.measure_step,
        }
        if self.device.type != "cuda":
            return Steps(**steps)
        if not self.averages:
            del steps["evaluate_average"]
        if not self.pack.noise_scale:
            del steps["measure"]
        if self.stack.has_kernels:
            self.stack.compile_kernels(self.rows[:1])
        torch.cuda.empty_cache()  # memory of another stream is not used again on this one
        # a run past its end keeps its weights and moments: only what is small needs to be put back
        last_step, counts = self.last_step.clone(), ("step", "hopeless_steps", "loss_table", "norm_table")
        saved = {name: self.state[name].clone() for name in counts}
        self.last_step.zero_()
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):  # off the capture: compilation, library handles, workspaces
            for _ in range(2):
                for step in steps.values():
                    step()
                    self.step.copy_(saved["step"])  # near its end, the order has no places to go on to
        torch.cuda.current_stream().wait_stream(stream)
        replays: dict[str, Callable[[], None]] = {}
        # one memory for all graphs: none leaves anything there, each writes its results into tensors made before
        pool = torch.cuda.graph_pool_handle()
        for name, step in steps.items():
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=pool):
                step()
            replays[name] = graph.replay
        self.last_step.copy_(last_step)
        for name, tensor in saved.items():
            self.state[name].copy_(tensor)
        return Steps(
            **{name: replays.get(name, _not_prepared) for name in ("train", "evaluate", "evaluate_average", "measure")}
        )

    def evaluate(self, steps: Steps) -> Evaluation:
        """Losses of the weights, and of their averages where runs have them, on the validation sequences."""
        losses = self._evaluate(steps.evaluate)
        if not self.averages:
            return Evaluation(loss=losses, average_loss=None)
        has_average = self.average_decay[:, 0].cpu().numpy() < 1
        averages = np.where(has_average, self._evaluate(steps.evaluate_average), np.nan)
        return Evaluation(loss=losses, average_loss=averages)

    def _evaluate(self, step: Callable[[], None]) -> npt.NDArray[np.float64]:
        self.eval_at.zero_()
        for _ in range(-(-self.pack.eval_sequences // self.pack.micro_sequences)):
            step()
        return np.asarray(self.eval_losses.double().mean(1).cpu().numpy())

    def gradient_squares(self, steps: Steps) -> npt.NDArray[np.float32]:
        """(2, K): see `measure_step`."""
        steps.measure()
        return np.asarray(self.squares.cpu().numpy())

    def sample(self) -> Tensor:
        """(K, n) copy of an even sample of the layers' matrices, all of them in small models."""
        return self.rows.detach()[:, self.sampled].clone()

    def update_ratio(self, before: Tensor) -> npt.NDArray[np.float64]:
        """(K,) root mean square of the change since the sample `before`, over that of the weights then."""
        change = self.sample().double() - before  # in fp32 the square of a wild step overflows
        ratio = change.square().mean(1).sqrt() / before.double().square().mean(1).sqrt()
        return np.asarray(ratio.cpu().numpy())


def _not_prepared() -> None:
    raise RuntimeError("the pack asks for no such measurement, so no graph of it was captured")
