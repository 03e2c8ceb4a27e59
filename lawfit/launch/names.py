"""What the sweeps of a launch are called in the store, where they are new there: after their files."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from lawfit.launch.folder import task_of
from lawfit.proxy.pack import Pack, RunSettings

Named = tuple[str, Pack]  # a pack and the name of its file


def recipe_names(packs: Sequence[Named], chosen: str | None) -> dict[str, str]:
    """Name of the recipe by run: that of its file, and behind it what tells the recipes in this file apart.

    Whichever run ends first, the names are the same.

    Parameters
    ----------
    packs : on a corpus that they name
    chosen : what a person wants instead of the files' names
    """
    by_name: dict[str, list[Pack]] = {}
    for file, pack in packs:
        by_name.setdefault(chosen or file, []).append(pack)
    names: dict[str, str] = {}
    for base, own in by_name.items():
        kinds = {field for kind in _kinds(own) for field in kind.items()}
        varying = [field for field in _FIELDS if sum(name == field for name, _ in kinds) > 1]
        for pack in own:
            for run_id, run in zip(task_of(pack).ids, pack.runs, strict=True):
                kind = _kind(pack, run)
                names.setdefault(run_id, "-".join([base, *(kind[field] for field in varying)]))
    return names


_FIELDS = ("optimizer", "decay", "schedule", "parametrization", "seq_len")


def _kinds(packs: Iterable[Pack]) -> Iterable[Mapping[str, str]]:
    return (_kind(pack, run) for pack in packs for run in pack.runs)


def _kind(pack: Pack, run: RunSettings) -> dict[str, str]:
    model = pack.model
    said = (pack.optimizer, pack.decay, run.schedule, model.parametrization, f"seq{model.seq_len}")
    return {field: re.sub(r"[^A-Za-z0-9]+", "-", text) for field, text in zip(_FIELDS, said, strict=True)}
