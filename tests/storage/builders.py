"""Records to store."""

from __future__ import annotations

from typing import Any

from lawfit.records import Fit, FitStatus, Recipe, Run, RunStatus


def recipe(name: str = "sweep", **changes: Any) -> Recipe:
    return Recipe(**{"name": name, "optimizer": "adamw", "seq_len": 2048, "loss_column": "loss", **changes})


def run(key: str = "a", **changes: Any) -> Run:
    values: dict[str, Any] = {
        "run_key": key,
        "params": 1.5e8,
        "tokens": 3e9,
        "batch_tokens": 524288.0,
        "lr": 0.00276,
        "status": RunStatus.FINISHED,
        "loss": 2.75,
        "weight_decay": 0.1,
        "steps": 5722,
        "seed": 3,
        "extra": {"beta2": 0.95, "note": "ümlaut", "flags": [1, None, "x"]},
        "source": "sweep.csv:2",
    }
    return Run(**{**values, **changes})


def diverged(key: str = "d", **changes: Any) -> Run:
    return run(key, status=RunStatus.DIVERGED, loss=None, **changes)


def fit(recipe_key: str, fit_id: str = "f1", **changes: Any) -> Fit:
    values: dict[str, Any] = {
        "id": fit_id,
        "recipe_key": recipe_key,
        "recipe_name": "sweep",
        "kind": "lr_batch",
        "status": FitStatus.OK,
        "data_hash": "abc",
        "code_version": "0.1.0",
        "created_at": "2026-11-21T10:00:00+00:00",
        "options": {"estimator": "surface", "draws": 200},
        "exclusions": {"a": "node failure"},
        "payload": {"law": {"lr": {"const": 1.79, "params": -0.713}}, "third": 1 / 3},
    }
    return Fit(**{**values, **changes})
