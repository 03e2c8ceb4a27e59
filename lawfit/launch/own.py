"""Grids for a trainer of the user's own: a job for each run, the same command with other settings."""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from lawfit.launch import grid
from lawfit.launch.folder import own_folder, own_marker, task_of
from lawfit.launch.launcher import Job, JobStatus, Launcher
from lawfit.launch.names import Named
from lawfit.launch.plan import Corpus, LaunchError
from lawfit.launch.template import Template, values_of
from lawfit.proxy.pack import Pack, PackError, RunSettings, load_pack, parse_pack
from lawfit.records import Json

SCRIPT: Final = Path(__file__).with_name("own_run.py")
OUTPUT: Final = "output.log"  # what a command prints, in the folder of its run
TRIAL_STEPS: Final = 20
_POLL_SECONDS: Final = 0.1


def read_own_packs(sources: Iterable[Path | Pack], template: Template) -> tuple[list[Named], Corpus]:
    """A pack for each run of grid and pack files. There need be no corpus: its name stands for what it is.

    Raises
    ------
    PackError, LaunchError
        A file is neither a grid nor a pack, nothing is in them, or they name several corpora.
    """
    found: list[Named] = []
    for source in sources:
        if isinstance(source, Pack):
            found.append(("launch", source))
        else:
            found += [(source.stem, pack) for pack in _file_packs(source)]
    corpora = sorted({pack.corpus for _, pack in found})
    if not found:
        raise LaunchError("there is no run to train: the grids are empty")
    if len(corpora) > 1:
        raise LaunchError(f"the grids name several corpora ({', '.join(corpora)}); launch them one corpus at a time")
    identity = template.identity(corpora[0])
    singles = [(file, _single(pack, run, identity)) for file, pack in found for run in pack.runs]
    nothing = {"vocab": 0, "train_tokens": 0, "validation_tokens": 0}
    return singles, Corpus(folder=corpora[0], hash=identity, **nothing)


def _single(pack: Pack, run: RunSettings, identity: str) -> Pack:
    """One run, under a name of its own."""
    single = dataclasses.replace(pack, corpus_hash=identity, runs=(run,))
    return dataclasses.replace(single, name=f"{pack.name}-{task_of(single).ids[0][:6]}")


def _file_packs(path: Path) -> list[Pack]:
    content: Json = grid.read_json(path)
    try:
        if grid.is_grid(content):
            return list(grid.packs(content, vocab=1))  # a trainer that is told no vocabulary has its own
        if isinstance(content, Mapping) and not {"model", "runs"} & content.keys():
            raise PackError('neither a grid, which has "shapes" and "blocks", nor a pack, which has "model" and "runs"')
        return [parse_pack(content)]
    except PackError as error:
        raise PackError(f"{path}: {error}") from None


def own_command(template: Template, logs: Path) -> Callable[[Path], list[str]]:
    """The command line of a job, by the file of its pack."""

    def made(path: Path) -> list[str]:
        pack = load_pack(path)
        (run_id,) = task_of(pack).ids
        return _wrapped(template, pack, own_folder(run_id, logs), own_marker(run_id, logs))

    return made


def _wrapped(template: Template, pack: Pack, folder: Path, marker: Path) -> list[str]:
    folder = folder.absolute()
    values = values_of(pack, folder)
    about: dict[str, Any] = {
        "run_id": values["run_id"], "pack": pack.name, "neighbours": 0, "folder": str(folder),
        "tokens": values["tokens"],
    }  # fmt: skip
    words = [sys.executable, "-IS", str(SCRIPT), str(marker.absolute()), json.dumps(about)]
    return [*words, *template.command(values)]


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One short job, before all others."""

    folder: Path  # of its log
    steps: int
    cut: bool  # to fewer steps than the run has
    exit_code: int | None
    tail: str  # of what it said on stderr
    seconds: float
    stopped: bool  # by a signal


def run_trial(
    template: Template, packs: Iterable[Pack], logs: Path, launcher: Launcher, stop: Callable[[], str]
) -> Trial:
    """Run the command once with the fewest tokens; cut to a few steps, where it is told how many to make."""
    pack = min(packs, key=lambda each: each.runs[0].steps * each.batch_tokens)
    (run,) = pack.runs
    steps = min(run.steps, TRIAL_STEPS) if {"steps", "tokens"} & template.fields else run.steps
    short = dataclasses.replace(run, steps=steps, warmup_steps=min(run.warmup_steps, steps - 1), unique_tokens=None)
    pack = dataclasses.replace(pack, runs=(short,))
    folder = logs / ".launch" / "trial"
    shutil.rmtree(folder, ignore_errors=True)
    name = "trial"
    command = tuple(_wrapped(template, pack, folder, logs / ".launch" / "trial.own"))
    began = time.monotonic()
    try:
        (logs / ".launch").mkdir(parents=True, exist_ok=True)
        launcher.submit(Job(name=name, command=command, folder=logs))
        stopped = False
        while (state := launcher.state(name)).status is not JobStatus.ENDED:
            if not stopped and stop():
                stopped = True
                launcher.cancel(name)
            time.sleep(_POLL_SECONDS)
        tail = "\n".join(launcher.logs(name).rstrip().splitlines()[-12:])
    except OSError as error:
        raise LaunchError(f"{logs} cannot be written: {error}") from None
    finally:
        launcher.close()
    seconds = time.monotonic() - began
    return Trial(
        folder=folder, steps=steps, cut=steps < run.steps, exit_code=state.exit_code, tail=tail, seconds=seconds,
        stopped=stopped,
    )  # fmt: skip
