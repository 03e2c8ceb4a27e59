"""Logs of many runs -> one run table and thinned curves, as CSV with the column names that `lawfit ingest` knows."""

from __future__ import annotations

import argparse
import csv
import dataclasses
import json
import re
import statistics
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from lawfit.errors import LawfitError
from lawfit.proxy.pack import Model, Pack, RunSettings
from lawfit.records import Json

CURVE_POINTS = 20  # per run


def read_log(path: Path) -> list[Mapping[str, Json]]:
    """The lines of one log. A last line that was cut off in writing is left out.

    Raises
    ------
    LawfitError
        A line before the last is not JSON, or the log does not begin with its start.
    """
    lines = path.read_text(encoding="utf-8").splitlines()
    events = []
    for number, line in enumerate(lines, 1):
        try:
            events.append(json.loads(line))
        except json.JSONDecodeError:
            if number < len(lines):
                raise LawfitError(f"{path}, line {number} is not JSON; the log is damaged") from None
    if not events or events[0].get("event") != "start":
        raise LawfitError(f"{path} does not begin with a start line; it is no log of the trainer")
    return events


def run_row(events: Sequence[Mapping[str, Json]]) -> dict[str, Json] | None:
    """One row of the run table; None for a run that was stopped before its end."""
    start, end = events[0], events[-1]
    if end["event"] != "end" or end["status"] == "stopped":
        return None
    model, params = start["model"], start["params"]
    floor = start["final_fraction"] if start["final_lr"] is None else start["final_lr"] / start["lr"]
    return {
        "run_id": start["run_id"],
        "model_family": "dense_transformer_lm",
        "n_params": start["non_embedding_params"],
        "n_params_kind": "non_embedding",
        "n_tokens": start["tokens"],
        "unique_tokens": round(start["tokens"] / max(start["epochs"], 1)),
        "batch_size_sequences": start["batch_sequences"],
        "seq_len": model["seq_len"],
        "batch_size_tokens": start["batch_tokens"],
        "learning_rate": start["lr"],
        "weight_decay": start["weight_decay"],
        "weight_decay_kind": start["decay"],
        "beta1": start["beta1"],
        "beta2": start["beta2"],
        "optimizer": start["optimizer"],
        "schedule": f"{start['schedule']} to {floor:g}" if start["schedule"] != "constant" else "constant",
        "warmup_fraction": round(start["warmup_steps"] / start["steps"], 2),
        "steps": start["steps"],
        "seed": start["init_seed"],
        "data_seed": start["data_seed"],
        "final_loss": end["loss"],
        "loss_kind": "validation_cross_entropy_nats",
        "diverged": int(end["status"] == "diverged"),
        "steps_done": end["step"],
        "bits_per_byte": end["bits_per_byte"],
        "embedding_params": params["embedding"],
        "head_params": params["head"],
        "matrix_params": params["matrices"],
        "norm_params": params["norms"],
        "layers": model["layers"],
        "width": model["width"],
        "heads": model["heads"],
        "hidden": model["hidden"],
        "qk_norm": int(model["qk_norm"]),
        "embedding_std": model["embedding_std"],
        "init_std": model["init_std"],
        "training_flops": end["flops"],
        "precision": start["precision"],
        "parametrization": start["parametrization"],
        "tokenizer": f"{'bpe' if _has_text(start['corpus']) else 'vocabulary'}-{start['corpus']['vocab']}",
        "dataset": f"{_source(start['corpus'])}-{start['corpus']['hash']}",
        **_if_any(events),
    }


def _has_text(corpus: Mapping[str, Json]) -> bool:
    """Whether its tokens were made from text here: synthetic ones and those of token files were not."""
    return bool(corpus.get("tokenizer_hash")) or corpus["validation_bytes"] is not None


def _source(corpus: Mapping[str, Json]) -> str:
    """A word for people; the hash beside it tells corpora apart."""
    sources: Sequence[str] = corpus["sources"]
    if sources and all(source.startswith("*.py below ") for source in sources):
        return "python-sources"
    words = re.sub("[^a-z0-9]+", "-", sources[0].lower()).strip("-") if sources else ""
    return words[:40] or "corpus"


def _if_any(events: Sequence[Mapping[str, Json]]) -> dict[str, Json]:
    """Columns of what not every run has, or not every version of the trainer has measured."""
    start, end = events[0], events[-1]
    ratios = [event["update_ratio"] for event in events if "update_ratio" in event]
    columns = {
        "mup_base_width": start["model"].get("mup_base_width"),
        "beta2_half_life_tokens": start.get("beta2_half_life_tokens"),
        "average_half_life_tokens": start.get("average_half_life_tokens"),
        "average_loss": end.get("average_loss"),
        "noise_scale_tokens": end.get("noise_scale_tokens"),
        "update_ratio": statistics.median(ratios) if ratios else None,  # over the lines of the run
        "trunk_run_id": start.get("trunk"),  # the run that paid for the first trunk_steps steps
        "trunk_steps": start.get("trunk_steps") or None,
    }
    return {name: value for name, value in columns.items() if value is not None} | _unusual(start)


def _unusual(start: Mapping[str, Json]) -> dict[str, Json]:
    """Settings that hardly anybody changes, where somebody did; and the cooldown of a schedule that has one."""
    usual = {field.name: field.default for kind in (Model, RunSettings) for field in dataclasses.fields(kind)}
    stated = {**start["model"], **start}
    columns = {name: stated[name] for name in _HARDLY_CHANGED if stated.get(name, usual[name]) != usual[name]}
    if start["schedule"] == "wsd":
        columns["cooldown_fraction"] = start["cooldown_fraction"]
    evaluated = start.get("eval_tokens", 0) // start["model"]["seq_len"]
    if evaluated not in (0, _EVAL_SEQUENCES):
        columns["eval_sequences"] = evaluated
    return columns


_EVAL_SEQUENCES = next(field.default for field in dataclasses.fields(Pack) if field.name == "eval_sequences")
_HARDLY_CHANGED = ("clip", "eps", "momentum", "rope_base")


def curve_rows(events: Sequence[Mapping[str, Json]], points: int = CURVE_POINTS) -> list[dict[str, Json]]:
    """Curves of one run: its training losses, thinned to about `points` places evenly spread over its lines with the
    last one kept, and every evaluation. What a line does not hold is empty.

    A training loss is the mean over the steps since the logged line before it.
    """
    lines = [event for event in events if event["event"] == "train"]
    stride = max(1, round(len(lines) / points))
    rows: dict[int, dict[str, Json]] = {}

    def at(event: Mapping[str, Json]) -> dict[str, Json]:
        first = {"run_id": events[0]["run_id"], "step": event["step"], "tokens": event["tokens"]}
        return rows.setdefault(event["step"], first)

    for line in lines[::-1][::stride]:
        at(line).update(train_loss=round(line["loss"], 4), grad_norm=round(line["grad_norm"], 4))
        at(line).update({name: float(f"{line[name]:.4g}") for name in ("grad_sq", "grad_sq_double") if name in line})
    if any(event["event"] == "eval" for event in events):  # the last one alone is in the run table
        for event in events:
            if event["event"] == "eval" or (event["event"] == "end" and event["loss"] is not None):
                losses = {"validation_loss": event["loss"], "average_loss": event.get("average_loss")}
                at(event).update({name: round(loss, 5) for name, loss in losses.items() if loss is not None})
    return [rows[step] for step in sorted(rows)]


def read_csv(path: Path) -> list[dict[str, Json]]:
    """Rows of a table written before; numbers come back as they were written."""
    with path.open(newline="", encoding="utf-8") as file:
        return [dict(row) for row in csv.DictReader(file)]


def write_csv(path: Path, rows: Sequence[Mapping[str, Json]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        names = list(dict.fromkeys(name for row in rows for name in row))
        writer = csv.DictWriter(file, fieldnames=names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def collect(logs: Iterable[Path]) -> tuple[list[dict[str, Json]], list[dict[str, Json]], int]:
    """Run table and curves, sorted so that the same runs give the same files, and the number of stopped runs."""
    rows: dict[str, dict[str, Json]] = {}
    curves: dict[str, list[dict[str, Json]]] = {}
    stopped = 0
    for path in sorted(logs):
        events = read_log(path)
        row = run_row(events)
        if row is None:
            stopped += 1
            continue
        rows[row["run_id"]] = row
        curves[row["run_id"]] = curve_rows(events)
    ordered = sorted(rows.values(), key=_place)
    return ordered, [point for row in ordered for point in curves[row["run_id"]]], stopped


def _place(row: Mapping[str, Json]) -> tuple[float | str, ...]:
    numbers = ("n_params", "n_tokens", "batch_size_tokens", "weight_decay", "seed", "learning_rate")
    return (*(float(row[name]) for name in numbers), row["run_id"])


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m lawfit.proxy.table", description="Run logs -> CSV tables.")
    parser.add_argument("logs", nargs="+", type=Path, help="folders with <run id>.jsonl")
    parser.add_argument("--runs", type=Path, required=True, help="CSV of the runs to write")
    parser.add_argument("--curves", type=Path, help="CSV of the thinned training losses to write")
    parser.add_argument("--append", action="store_true", help="keep the runs that the tables have already")
    options = parser.parse_args(arguments)
    try:
        rows, curves, stopped = collect(path for folder in options.logs for path in folder.rglob("*.jsonl"))
        if not rows:
            raise LawfitError(f"no finished run below {', '.join(map(str, options.logs))}")
    except LawfitError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    added = len(rows)
    if options.append and options.runs.exists():
        new = {row["run_id"] for row in rows}
        rows = sorted([*rows, *(row for row in read_csv(options.runs) if row["run_id"] not in new)], key=_place)
        if options.curves and options.curves.exists():
            curves = [*(point for point in read_csv(options.curves) if point["run_id"] not in new), *curves]
    write_csv(options.runs, rows)
    if options.curves:
        write_csv(options.curves, curves)
    diverged = sum(int(row["diverged"]) for row in rows)
    print(f"{len(rows)} runs, {diverged} of them diverged; {added} from these logs, {stopped} stopped runs left out")
    return 0


if __name__ == "__main__":
    sys.exit(main())
