"""What a folder of logs holds beside the logs, and how it is named: packs as jobs read them, and their checkpoints."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from lawfit.proxy.pack import Pack, PackError, load_pack
from lawfit.records import content_hash


@dataclass(frozen=True, kw_only=True)
class Task:
    """A pack that is to be trained, as one job."""

    pack: Pack
    ids: tuple[str, ...]  # of its runs
    resumes: bool = False  # from a checkpoint

    @property
    def name(self) -> str:
        """Tells it from every other pack, also one of the same name; fit for a file name."""
        readable = re.sub(r"[^A-Za-z0-9._+-]+", "-", self.pack.name)[:80].lstrip(".")
        return f"{readable}-{content_hash(list(self.ids), length=6)}"

    @property
    def tokens(self) -> dict[str, int]:
        """Training tokens by run."""
        return {
            run_id: run.steps * self.pack.batch_tokens for run_id, run in zip(self.ids, self.pack.runs, strict=True)
        }


def task_of(pack: Pack, *, resumes: bool = False) -> Task:
    """The job of a pack that names its corpus."""
    if pack.corpus_hash is None:
        raise ValueError(f"pack {pack.name} does not name its corpus, so its runs have no ids")
    ids = tuple(pack.run_id(i, pack.corpus_hash) for i in range(len(pack.runs)))
    return Task(pack=pack, ids=ids, resumes=resumes)


def checkpoint_of(task: Task, logs: Path) -> Path:
    """Where the trainer keeps the state of an interrupted pack; see lawfit.train.checkpoint."""
    return logs / f"{content_hash(list(task.ids))}.checkpoint"


def log_of(run_id: str, logs: Path) -> Path:
    """The log of a run (see lawfit.proxy.log); of one of the user's own trainer, what says that it began and ended.

    Whoever removes the folder of such a run wants it trained again.
    """
    marker = own_marker(run_id, logs)
    if marker.exists() and own_folder(run_id, logs).is_dir():
        return marker
    return logs / f"{run_id}.jsonl"


def own_folder(run_id: str, logs: Path) -> Path:
    """Where a trainer of the user's own writes the log of a run."""
    return logs / run_id


def own_marker(run_id: str, logs: Path) -> Path:
    """What is known of a run of such a trainer; see lawfit.launch.own_run."""
    return logs / ".launch" / f"{run_id}.own"


def written_at(run_id: str, logs: Path) -> float:
    """When anything was last written of a run, in seconds since 1970; 0 where nothing is there."""
    places = [log_of(run_id, logs), own_folder(run_id, logs)]
    latest = 0.0
    for place in places:
        try:
            entries = [place, *place.iterdir()] if place.is_dir() else [place]
            latest = max([latest, *(entry.stat().st_mtime for entry in entries)])
        except OSError:
            continue
    return latest


def adopt(run_id: str, theirs: Path, logs: Path) -> None:
    """Take the log of a run that has ended from another folder of logs."""
    source = log_of(run_id, theirs)
    target = own_marker(run_id, logs) if source == own_marker(run_id, theirs) else log_of(run_id, logs)
    target.parent.mkdir(parents=True, exist_ok=True)
    if own_folder(run_id, theirs).is_dir():
        shutil.copytree(own_folder(run_id, theirs), own_folder(run_id, logs), dirs_exist_ok=True)
    part = target.with_name(f"{target.name}.{os.getpid()}.part")
    shutil.copyfile(source, part)
    part.replace(target)


def pack_file(task: Task, logs: Path) -> Path:
    """The pack as its job reads it."""
    return logs / ".launch" / f"{task.name}.json"


def save(task: Task, logs: Path) -> None:
    """Write a pack where its job reads it, and where the next launch finds what was begun."""
    path = pack_file(task, logs)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")  # two launchers may begin the same pack at a time
    part.write_text(json.dumps(task.pack.to_json()), encoding="utf-8")
    part.replace(path)


def forget(task: Task, logs: Path) -> None:
    """Remove what is kept of a pack for going on with it."""
    pack_file(task, logs).unlink(missing_ok=True)
    checkpoint_of(task, logs).unlink(missing_ok=True)


def saved(logs: Path) -> Iterator[Task]:
    """Packs that were given to a trainer and are not known to have ended."""
    for path in sorted((logs / ".launch").glob("*.json")):
        try:
            pack = load_pack(path)
        except PackError:  # from another version of the trainer; its runs begin again
            continue
        if pack.corpus_hash is not None:
            yield task_of(pack)


def going_on(task: Task, logs: Path) -> Task:
    """The task as one that resumes, if there is a checkpoint that still belongs to the logs of its runs."""
    fits = checkpoint_of(task, logs).exists() and not any(trained_elsewhere(task, i, logs) for i in task.ids)
    return replace(task, resumes=fits)


def begun(candidates: Iterable[Task], logs: Path) -> Iterator[Task]:
    """Those that can go on; of two that share a run, the first."""
    seen: set[str] = set()
    for candidate in candidates:
        task = going_on(candidate, logs)
        if task.resumes and seen.isdisjoint(task.ids):
            seen.update(task.ids)
            yield task


def trained_elsewhere(task: Task, run_id: str, logs: Path) -> bool:
    """Whether a run's log was begun by another pack than this one: going on would cut into what is not its own."""
    try:
        with log_of(run_id, logs).open("rb") as file:
            start = json.loads(file.readline())
        return bool((start["pack"], start["neighbours"]) != (task.pack.name, len(task.ids) - 1))
    except FileNotFoundError:
        return False  # a branch that has not left its trunk
    except (OSError, ValueError, KeyError, TypeError):
        return True
