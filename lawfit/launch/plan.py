"""What a launch has to do: packs less the runs that are there already, in pieces that suit the machine.

A pack that was begun goes on as it is, because its checkpoint is that of exactly these runs.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from lawfit.errors import LawfitError
from lawfit.launch import grid
from lawfit.launch.folder import Task, begun, going_on, saved, task_of
from lawfit.launch.names import Named
from lawfit.proxy.pack import Pack, PackError, parse_pack
from lawfit.proxy.trunks import halves, plan
from lawfit.records import Json

MAX_RUNS: Final = 48  # of a pack, for what a process that dies can cost


class LaunchError(LawfitError):
    """A launch cannot begin: what stands against it, and what to do."""


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """What a launch needs to know of a corpus, from its manifest."""

    folder: str
    hash: str
    vocab: int
    train_tokens: int
    validation_tokens: int


def read_corpus(folder: str) -> Corpus:
    """The manifest of a corpus.

    Raises
    ------
    LaunchError
        None there.
    """
    path = Path(folder) / "manifest.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return Corpus(
            folder=folder, hash=str(content["hash"]), vocab=int(content["vocab"]),
            train_tokens=int(content["train_tokens"]), validation_tokens=int(content["validation_tokens"]),
        )  # fmt: skip
    except FileNotFoundError:
        raise LaunchError(
            f"there is no corpus in {folder}; make one with lawfit corpus build {folder}, "
            "or name its folder with --corpus"
        ) from None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise LaunchError(f"{path} is not the manifest of a corpus: {error!r}") from None


def read_packs(sources: Iterable[Path | Pack], corpus_folder: str | None = None) -> tuple[list[Named], Corpus]:
    """The packs of grid and pack files, each with the name of its file, all on one corpus, which they name by its hash.

    Parameters
    ----------
    corpus_folder : folder of the corpus, instead of those that the files name

    Raises
    ------
    PackError
        A file is neither a grid nor a pack, or one that cannot be trained.
    LaunchError
        No corpus, several, or another one than a pack was written for.
    """
    found: list[Named] = []
    for source in sources:
        if isinstance(source, Pack):
            found.append(("launch", source))
        else:
            found += [(source.stem, pack) for pack in _file_packs(source, corpus_folder)]
    if not found:
        raise LaunchError("there is no pack to train: the grids are empty")
    folders = sorted({corpus_folder or pack.corpus for _, pack in found})
    if len(folders) > 1:
        raise LaunchError(f"the packs name several corpora ({', '.join(folders)}); launch them one corpus at a time")
    corpus = read_corpus(folders[0])
    for _, pack in found:
        if pack.corpus_hash not in (None, corpus.hash):
            raise LaunchError(
                f"pack {pack.name} is for corpus {pack.corpus_hash}, and {corpus.folder} holds {corpus.hash}; "
                "losses on different corpora cannot be compared. Name the folder of the right one with --corpus, "
                "or take corpus_hash out of the file"
            )
        if pack.model.vocab < corpus.vocab:
            raise LaunchError(
                f"pack {pack.name} has a vocabulary of {pack.model.vocab}, and the corpus in {corpus.folder} one of "
                f"{corpus.vocab}; set model.vocab to {corpus.vocab} or more"
            )
        there = (corpus.train_tokens - 1) // pack.model.seq_len  # sequences: each has a token to predict behind it
        if any(pack.unique_sequences(i, there) > there for i in range(len(pack.runs))):
            raise LaunchError(
                f"pack {pack.name} asks for more different tokens (unique_tokens) than the corpus in {corpus.folder} "
                f"holds, {there * pack.model.seq_len:,} in sequences of {pack.model.seq_len}; ask for fewer, or leave "
                "the limit out"
            )
    here: dict[str, Any] = {"corpus": corpus.folder, "corpus_hash": corpus.hash}
    return [(file, dataclasses.replace(pack, **here)) for file, pack in found], corpus


def _file_packs(path: Path, corpus_folder: str | None) -> list[Pack]:
    content = grid.read_json(path)
    try:
        if not grid.is_grid(content):
            _require_pack(content)
            return [parse_pack(content)]
        grid.require_json(content)
        return list(grid.packs(content, vocab=_vocab_for(content, corpus_folder)))
    except PackError as error:
        raise PackError(f"{path}: {error}") from None


def _require_pack(content: Json) -> None:
    if isinstance(content, Mapping) and not {"model", "runs"} & content.keys():
        raise PackError('neither a grid, which has "shapes" and "blocks", nor a pack, which has "model" and "runs"')


def _vocab_for(content: Mapping[str, Json], corpus_folder: str | None) -> int | None:
    base = content.get("base")
    if not isinstance(base, Mapping) or "vocab" in base:
        return None
    return read_corpus(corpus_folder or str(base.get("corpus", "corpus"))).vocab


def tasks(
    packs: Sequence[Pack],
    have: Collection[str],
    logs: Path,
    *,
    places: int,
    max_runs: int = MAX_RUNS,
    shortest_first: bool = False,
) -> list[Task]:
    """What is left to train, in order: what was begun, then the packs as they come.

    Parameters
    ----------
    have : ids of the runs that are not to be trained
    logs : folder with the logs and checkpoints of what was begun
    places : how many packs train at a time: fewer packs than that are cut, so that no GPU stands idle
    shortest_first : new packs with least work first: where time is short, as many runs as can be reach their end
    """
    wanted: dict[str, None] = {}
    asked: set[str] = set()
    whole = [task_of(pack) for pack in packs]
    for task in whole:
        asked.update(task.ids)
        wanted.update((run_id, None) for run_id in task.ids if run_id not in have)
    old: list[Task] = []
    for task in begun([*saved(logs), *whole], logs):
        if asked.issuperset(task.ids) and not wanted.keys().isdisjoint(task.ids):
            here = dataclasses.replace(task.pack, corpus=packs[0].corpus)  # the folder may have moved
            old.append(dataclasses.replace(task, pack=here))
            for run_id in task.ids:
                wanted.pop(run_id, None)
    new: list[Pack] = []
    for task in whole:
        left = tuple(run for run_id, run in zip(task.ids, task.pack.runs, strict=True) if wanted.pop(run_id, 0) is None)
        if left:
            new += cut(dataclasses.replace(task.pack, runs=left), max_runs)
    fresh = _spread(new, places - len(old))
    if shortest_first:
        fresh.sort(key=_work)
    return [*old, *(going_on(task_of(pack), logs) for pack in fresh)]


def cut(pack: Pack, max_runs: int) -> list[Pack]:
    """Pieces of at most `max_runs` rows of the stack, a branch with its trunk."""
    if len(plan(pack).rows) <= max_runs or (parts := halves(pack)) is None:
        return [pack]
    return [piece for part in parts for piece in cut(part, max_runs)]


def _spread(packs: list[Pack], places: int) -> list[Pack]:
    """Cut the packs with most work until there is one for each place."""
    packs = list(packs)
    while len(packs) < places:
        costliest = sorted(range(len(packs)), key=lambda i: -_work(packs[i]))
        for i in costliest:
            if (parts := halves(packs[i])) is not None:
                packs[i : i + 1] = parts
                break
        else:
            break
    return packs


def _work(pack: Pack) -> float:
    return sum(run.steps for run in pack.runs) * pack.batch_tokens * pack.model.flops_per_token
