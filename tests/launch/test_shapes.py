"""Shapes for sizes that nobody has run."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import pytest

from lawfit.proxy.pack import Model
from lawfit.proxy.shapes import SAME_SIZE, params_of, shapes_like, usual_shapes

DATA = Path(__file__).resolve().parents[2] / "data"


def shipped() -> list[tuple[float, dict[str, Any]]]:
    """The sizes of our own sweep with their shapes."""
    shapes = json.loads((DATA / "proxy_sweep_grid_1.json").read_text())["shapes"].values()
    return sorted(((float(params_of(shape)), shape) for shape in shapes), key=lambda each: each[0])


def test_sizes_of_our_sweep_are_what_its_table_says() -> None:
    with (DATA / "proxy_sweep.csv").open(encoding="utf-8") as file:
        stated = {int(row["n_params"]) for row in csv.DictReader(file)}
    assert {int(params) for params, _ in shipped()} <= stated


@pytest.mark.parametrize("wanted", [3e5, 1.3e6, 2.4e7, 2e8, 3e9])
def test_a_further_size_lies_on_the_line_of_the_runs(wanted: float) -> None:
    """Four layers, heads of 32, 2.7 times as wide inside, drawn with 1/sqrt(width): as all of our sweep."""
    shapes = shapes_like(shipped())
    shape = shapes.shape(wanted)
    assert (shape["layers"], shape["width"] // shape["heads"], shape["qk_norm"]) == (4, 32, True)
    assert shape["hidden"] / shape["width"] == pytest.approx(2.73, abs=0.1)
    assert shape["init_std"] == pytest.approx(shape["width"] ** -0.5, rel=0.01)
    assert shapes.params(wanted) == Model(**shape, vocab=4096, seq_len=256).non_embedding_params
    step = 2 * 32 / shape["width"]  # between neighbouring widths, in ln params
    assert abs(math.log(shapes.params(wanted) / wanted)) < 0.6 * step


def test_a_size_that_was_run_keeps_its_shape() -> None:
    """Also where the line would give another: 352 wide with 960 inside."""
    shape = {"layers": 4, "width": 352, "heads": 11, "hidden": 1000, "qk_norm": True}
    shapes = shapes_like([*shipped(), (6.2e6, shape)])
    assert shapes.shape(6.2e6 * (1 + SAME_SIZE / 2)) == shape
    assert shapes.params(6.2e6 * (1 + SAME_SIZE / 2)) == 6.2e6


def test_depth_grows_where_it_grew() -> None:
    grown = [(params_of(shape), shape) for shape in (usual_shapes().shape(size) for size in (3e6, 3e7, 3e8))]
    like, usual = shapes_like(grown).shape(3e9), usual_shapes().shape(3e9)
    assert abs(like["layers"] - usual["layers"]) <= 2
    assert "init_std" in like


@pytest.mark.parametrize("wanted", [1e4, 1e6, 1e8, 1e10])
def test_usual_shapes_are_models(wanted: float) -> None:
    shapes = usual_shapes()
    shape = shapes.shape(wanted)
    assert Model(**shape, vocab=512, seq_len=128).params["matrices"] > 0
    assert shape["layers"] >= 3
    if wanted >= 1e6:
        assert abs(math.log(shapes.params(wanted) / wanted)) < 0.25
