"""Every number that a published law lends to a fit comes from the catalogue, and `without_laws` reaches it.

Each fit here leans on lenders. With other numbers in the catalogue it comes out otherwise (so the number is lent, and
lent from there); with all laws withheld it does not move by a bit, and still says something.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lawfit.estimate.critical.analysis import analyse_critical
from lawfit.estimate.critical.least_tokens import fit_least_tokens
from lawfit.estimate.critical.noise_by_size import NoiseOfSize, noise_factor
from lawfit.estimate.critical.steps_to_target import StepsTable
from lawfit.estimate.critical.three_term import BatchRuns, best_over_lr, fit_three_term_or_lend
from lawfit.estimate.evidence import Evidence
from lawfit.estimate.loss import law as loss_law_module
from lawfit.estimate.loss.law import lent_asymptote, loss_law
from lawfit.estimate.lr_batch.analysis import FitOptions, analyse
from lawfit.estimate.observe.observations import observe
from lawfit.estimate.weight_decay.sweep import locate_weight_decay
from lawfit.estimate.weight_decay.timescale import brackets, fit_timescale
from lawfit.findings import code_of, finite
from lawfit.laws import priors, published
from lawfit.laws.entry import UNVERIFIED
from lawfit.laws.published import published_laws
from lawfit.pipeline.fitting import FittedRecipe, fit_evidence
from lawfit.records import FitStatus, Recipe
from lawfit.settings import data_folder
from lawfit.simulate import Design, FurtherTruth, Truth, simulate_sweep, simulate_targets, simulate_weight_decay
from lawfit.words import tell
from tests.estimate.critical.simulated_batches import measured
from tests.estimate.critical.test_least_tokens import valley_table
from tests.estimate.loss.test_law import grid
from tests.estimate.simulated import sweep
from tests.estimate.weight_decay.test_timescale import simulate

EVERYONE = tuple(published_laws())
Fitter = Callable[[Sequence[str]], Any]


@pytest.fixture(scope="module", autouse=True)
def few_resamples() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loss_law_module, "LOSS_RESAMPLES", 40)
        yield


def of_lr_and_batch(without: Sequence[str]) -> Any:
    runs = sweep(((1e8, 2e9), (3e8, 6e9)), batch_steps=1).runs
    payload = dict(analyse(observe(runs), FitOptions(backtest=False, without_laws=tuple(without))).payload)
    del payload["published"]  # what following each law would cost: a comparison
    return payload


def of_timescale(without: Sequence[str]) -> Any:
    one_ratio = simulate(np.random.default_rng(1), scales=((1e8, 2e9), (3e8, 6e9), (1e9, 2e10)))
    return fit_timescale(one_ratio, without).to_json()


def of_bracket(without: Sequence[str]) -> Any:
    few = simulate(np.random.default_rng(1), decays=(0.0, 0.1, 0.2, 0.4))
    return brackets(locate_weight_decay(few), without)


def of_critical_batch(without: Sequence[str]) -> Any:
    return analyse_critical([measured(1e6, 1e8, 2e9), measured(1.3e6, 2e8, 4e9)], (), without).to_json()


def of_shares(without: Sequence[str]) -> Any:
    """Four sizes: nothing is lent to the exponent, but to how each law is scored and weighed."""
    sizes = ((1e8, 2e9), (2e8, 8e9), (4e8, 4e9), (8e8, 3e10))
    found = analyse_critical([measured(1e6 * (d / 1e9) ** 0.46, n, d, log_sd=0.2) for n, d in sizes], (), without)
    return [dict(found.shares), dict(found.scores)]


def of_least_tokens(without: Sequence[str]) -> Any:
    table = valley_table(np.random.default_rng(1))
    one = table.params == table.params.min()
    columns = (table.params, table.batch_tokens, table.steps, table.target_loss)
    return fit_least_tokens(StepsTable.of(*(column[one] for column in columns)), without).to_json()


def of_noise_factor(without: Sequence[str]) -> Any:
    size = NoiseOfSize(params=1e7, tokens=2e9, value_tokens=1e4, log_sd=0.1, batches=4)
    found = noise_factor([size], [measured(5e4, 1e7, 5e8), measured(6e4, 1e7, 1e9)], without)
    assert found is not None
    return found.to_json()


def of_loss(without: Sequence[str]) -> Any:
    return finite(loss_law(grid(np.random.default_rng(1))[::3], np.random.default_rng(0), without).payload)


def of_three_terms(without: Sequence[str]) -> Any:
    return fit_three_term_or_lend(
        batches(),
        lent_asymptote(without),
        rng=np.random.default_rng(0),
        resamples=3,  # a lent number moves each
    ).to_json()


def batches() -> BatchRuns:
    """Best runs of five batches at four scales: too few to show the floor."""
    rng = np.random.default_rng(1)
    rows = []
    for n, d in ((1e8, 2e9), (2e8, 4e9), (4e8, 8e9), (8e8, 1.6e10)):
        for batch in 5e4 * 2.0 ** np.arange(5):
            loss = 1.9 + 400 / n**0.34 + 5e-4 * batch**0.45 + 30 / (d / batch) ** 0.5
            rows.append((n, d, batch, 1e-3, loss * np.exp(0.002 * rng.standard_normal())))
    return best_over_lr(*np.array(rows).T)


FITTERS = pytest.mark.parametrize(
    "fit",
    [
        *(of_lr_and_batch, of_timescale, of_bracket, of_critical_batch, of_shares, of_least_tokens),
        *(of_noise_factor, of_loss, of_three_terms),
    ],
    ids=lambda fit: fit.__name__,
)


@pytest.fixture
def other_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """A switch to a catalogue whose exponents, constants and coefficients are all 1.3 times as large."""

    def changed(line: str) -> str:
        if not re.match(r"(value|const|log_const|exponents|coefficients) =", line):
            return line
        return re.sub(r"(?<=[=-] )-?[\d.]+(e[-+]?\d+)?", lambda found: repr(1.3 * float(found.group())), line)

    text = (data_folder() / "laws.toml").read_text(encoding="utf-8")
    (tmp_path / "laws.toml").write_text("\n".join(changed(line) for line in text.split("\n")), encoding="utf-8")

    def forget() -> None:
        published.published_laws.cache_clear()
        priors._exponent_prior.cache_clear()

    def switch() -> None:
        monkeypatch.setattr(published, "data_folder", lambda: tmp_path)
        forget()

    yield switch
    monkeypatch.undo()
    forget()


def as_json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)


@cache
def lent_to(fit: Fitter) -> str:
    """By the catalogue as it is."""
    return as_json(fit(()))


@FITTERS
class TestEveryLender:
    def test_lends_what_the_catalogue_says(self, fit: Fitter, other_numbers: Callable[[], None]) -> None:
        before = lent_to(fit)
        other_numbers()
        assert as_json(fit(())) != before

    def test_lends_nothing_when_it_is_withheld(self, fit: Fitter, other_numbers: Callable[[], None]) -> None:
        before = as_json(fit(EVERYONE))
        assert before != lent_to(fit)
        other_numbers()
        assert as_json(fit(EVERYONE)) == before


@pytest.mark.parametrize("room", ["estimate", "advise"])
def test_no_lent_number_stands_in_the_code(room: str) -> None:
    """Numbers of three and more digits that the catalogue's lenders measured belong there, and nowhere else."""
    lent = {
        abs(number)
        for law in published_laws().values()
        for number in (
            *(row.value for row in law.exponents if row.checked not in UNVERIFIED),
            *(f.coefficients["E"] for f in law.formulas.values() if "E" in f.coefficients),
            *(f.const for target, f in law.formulas.items() if target == "timescale" and f.const is not None),
        )
        if len(repr(abs(number)).replace(".", "").strip("0")) > 2
    } - {0.125}  # DeepSeek's exponent, and anybody's eighth
    assert {0.527, 0.462, 6.24, 0.713, 1.8172, 1.084} <= lent
    folder = Path(__file__).resolve().parents[3] / "lawfit" / room
    found = [
        f"{path.name}:{node.lineno}: {node.value}"
        for path in sorted(folder.glob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, float) and node.value in lent
    ]
    assert found == []


@cache
def evidence() -> tuple[Recipe, Evidence]:
    """One path of seven scales, two sizes with steps to targets: every law would borrow."""
    rng = np.random.default_rng(3)
    further = FurtherTruth()
    scales = tuple((n, 20 * n) for n in np.geomspace(2e7, 6e8, 7))
    swept = simulate_sweep(Truth(noise=0.001), Design(scales=scales, lr_steps=4, batch_steps=1), rng=rng)
    decays = simulate_weight_decay(swept, further, (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0), rng=rng)
    targets = simulate_targets(Truth(noise=0.001), further, scales[:2], rng=rng)
    return swept.recipe, Evidence(runs=(*swept.runs, *decays), targets=targets)


@pytest.fixture(scope="module")
def both(few_resamples: None) -> tuple[FittedRecipe, FittedRecipe]:
    """Fits with every lender, and with none."""
    recipe, known = evidence()
    with_all, alone = (FitOptions(backtest=False, without_laws=without) for without in ((), EVERYONE))
    return fit_evidence(recipe, known, options=with_all), fit_evidence(recipe, known, options=alone)


@pytest.mark.soak
class TestAWholeRecipe:
    def test_with_lenders_each_law_names_its_own(self, both: tuple[FittedRecipe, FittedRecipe]) -> None:
        laws = {law.kind: law.payload["lent_by"] for law in both[0].laws}
        assert set(laws) == {"loss", "critical_batch", "timescale"}
        assert all(laws.values())
        assert any("step_law" in found["data"].get("laws", ()) for found in both[0].fit.payload["borrowed"])

    def test_without_any_of_them_each_law_answers_or_says_what_lacks(
        self, both: tuple[FittedRecipe, FittedRecipe]
    ) -> None:
        alone = both[1]
        payload = alone.fit.payload
        for kind in ("loss", "critical_batch", "timescale"):
            laws = [law for law in alone.laws if law.kind == kind and law.status is not FitStatus.UNCERTIFIED]
            assert laws or payload["missing"][kind]
        assert code_of(payload["missing"]["loss"]) == "loss.not_lent_to"
        assert {law.kind: law.payload["lent_by"] for law in alone.laws if law.kind != "loss"} == {
            "critical_batch": [],
            "timescale": [],
        }
        assert not any(payload["lending"]["lenders"].values())
        assert np.isfinite(payload["law"]["lr"]["const"])

    def test_nobody_is_named_as_a_lender(self, both: tuple[FittedRecipe, FittedRecipe]) -> None:
        alone = both[1]
        borrowed = [tell(found) for found in alone.fit.payload["borrowed"]]
        named = [law_id for law_id in EVERYONE for s in borrowed if re.search(rf"\b{law_id}\b", s)]
        assert named == []
        said = [tell(s) for law in alone.laws for s in law.payload["sentences"]]
        assert not any("lent by published laws" in sentence for sentence in said)

    def test_fits_with_and_without_are_different_fits(self, both: tuple[FittedRecipe, FittedRecipe]) -> None:
        ids = [{law.kind: law.id for law in made.laws} for made in both]
        assert all(ids[0][kind] != ids[1][kind] for kind in ids[0])
        assert both[1].fit.options["without_laws"] == EVERYONE
