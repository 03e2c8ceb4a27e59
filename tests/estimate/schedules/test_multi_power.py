"""Fit of the Multi-Power Law: a known law comes back, and three real schedules tell the curves of six others."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from lawfit.errors import NotEnoughData
from lawfit.estimate.schedules.multi_power import fit_multi_power
from lawfit.findings import finding
from lawfit.laws.multi_power import Course, MultiPowerLaw

LAW = MultiPowerLaw(L0=2.5, A=0.65, alpha=0.42, B=600.0, C=2.0, beta=0.6, gamma=0.6)
STEPS = np.arange(2160, 24001, 128, dtype=float)
X = (STEPS - STEPS[0]) / (STEPS[-1] - STEPS[0])
LEARNED = ("cosine_24000", "constant_24000", "wsdcon_9")  # as in the source


def course(lr: np.ndarray) -> Course:
    return Course.of(STEPS, lr, warmup_steps=2160)


COSINE = course(3e-4 * (0.55 + 0.45 * np.cos(np.pi * X)))
CONSTANT = course(np.full(X.size, 3e-4))
TWO_STAGES = course(np.where(X < 0.4, 3e-4, 9e-5))
WSD = course(3e-4 * (1 - 0.9 * np.clip((X - 0.8) / 0.2, 0, 1)))


def test_a_known_law_comes_back_and_tells_another_schedule() -> None:
    courses = [COSINE, CONSTANT, TWO_STAGES]
    found = fit_multi_power(courses, [LAW.loss(c) for c in courses])
    assert found.at_bound == ()
    assert found.mean_error < 1e-5
    assert (found.law.L0, found.law.alpha) == pytest.approx((2.5, 0.42), rel=1e-2)
    np.testing.assert_allclose(found.law.loss(WSD), LAW.loss(WSD), rtol=1e-4)  # C, beta and gamma trade places


def test_noise_of_a_logged_loss_is_no_trouble(rng: np.random.Generator) -> None:
    courses = [COSINE, CONSTANT, TWO_STAGES]
    found = fit_multi_power(courses, [LAW.loss(c) * np.exp(2e-3 * rng.normal(size=X.size)) for c in courses])
    np.testing.assert_allclose(found.law.loss(WSD), LAW.loss(WSD), rtol=3e-3)
    assert found.starts_agree


@pytest.mark.parametrize("size", ["25M", "100M", "400M"])
def test_three_schedules_tell_six_others(size: str, shared_data: Path) -> None:
    """The yardstick: mean absolute error over the six under 0.3 % of the loss."""
    runs = read_curves(shared_data, size)
    assert len(runs) == 9
    found = fit_multi_power(*zip(*(runs[name] for name in LEARNED), strict=True))
    errors = [
        np.mean(np.abs(found.law.loss(course) / loss - 1))
        for name, (course, loss) in runs.items()
        if name not in LEARNED
    ]
    assert found.starts_agree
    assert np.mean(errors) < 0.003


def read_curves(shared_data: Path, size: str) -> dict[str, tuple[Course, np.ndarray]]:
    """The curves of one size; the runs warm up for 2,160 steps, which are not logged."""
    columns: dict[str, list[tuple[float, float, float]]] = {}
    with next(shared_data.rglob("multi_power_law_curves.csv")).open(encoding="utf-8") as lines:
        for row in csv.DictReader(lines):
            _, of_size, label = row["run_id"].split("/")
            if of_size == size:
                values = float(row["step"]), float(row["learning_rate"]), float(row["loss"])
                columns.setdefault(label, []).append(values)
    runs = {}
    for label, rows in columns.items():
        steps, lr, loss = np.array(rows).T
        runs[label] = (Course.of(steps, lr, warmup_steps=2160), loss)
    return runs


def test_refuses_runs_that_do_not_show_it() -> None:
    loss = LAW.loss(CONSTANT)
    with pytest.raises(NotEnoughData) as caught:
        fit_multi_power([COSINE], [LAW.loss(COSINE)])
    assert caught.value.finding == finding("schedules.few_courses", courses=1, curves=1)
    with pytest.raises(NotEnoughData) as caught:
        fit_multi_power([CONSTANT, CONSTANT], [loss, loss])
    assert caught.value.finding == finding("schedules.nothing_falls")
    with pytest.raises(ValueError, match="at each of its steps"):
        fit_multi_power([CONSTANT, COSINE], [loss, loss[:-1]])
