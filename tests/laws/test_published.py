"""Contract of every entry of data/laws.toml, and what the catalogue does with a bad one."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lawfit.errors import LawfitError, UnknownLaw
from lawfit.findings import finding
from lawfit.laws import published
from lawfit.laws.entry import AT_BATCH, CHECKED, KINDS, TARGETS
from lawfit.laws.published import PublishedLaw, published_law, published_laws
from lawfit.settings import data_folder
from lawfit.units import PARAMS_CONVENTIONS

CATALOGUE = published_laws()
LAWS = pytest.mark.parametrize("law", CATALOGUE.values(), ids=CATALOGUE)


def middle(law: PublishedLaw, name: str, default: float) -> float:
    """A value inside the law's range of one input, or the default where the source gives no range."""
    spec = law.inputs.get(name)
    low, high = (spec.low, spec.high) if spec else (None, None)
    if low is not None and high is not None:
        return float(np.sqrt(low * high))
    return low or high or default


def all_inputs(law: PublishedLaw) -> dict[str, float]:
    params = middle(law, "params", 1e8)
    tokens = (
        params * middle(law, "tokens_per_param", 20)
        if "tokens_per_param" in law.inputs
        else middle(law, "tokens", 1e10)
    )
    given = {"params": params, "tokens": tokens, "batch_tokens": 5e5, "width": 1024.0, "loss": 3.0}
    if law.id == "deepseek_allocation":  # the one law whose compute is not 6 * params * tokens
        given["flops"] = 1e18
    return given | {"unique_tokens": tokens / 4, "steps": 1e5, "active_fraction": 0.25}


SCALE = {"params", "tokens", "flops", "tokens_per_param", "batch_tokens"}  # what a range is compared with

# Where a value of a target may lie; a wrong unit is wrong by 1e3 or more.
PLAUSIBLE = {
    "lr": (1e-5, 1.0),
    "batch_tokens": (100.0, 1e9),
    "critical_batch_tokens": (100.0, 1e9),
    "timescale": (1e-3, 10.0),
    "beta2": (0.9, 0.99999),
    "loss": (1.2, 8.0),
    "optimal_tokens": (1e8, 1e13),
    "optimal_flops_per_token": (1e7, 1e12),
    "least_tokens": (1e6, 1e11),
}

# Which formula of a law a row of evidence restates.
FORMULA_OF = {
    "lr_joint": "lr",
    "lr_given_batch": "lr",
    "batch": "batch_tokens",
    "least_tokens_batch": "batch_tokens",
    "timescale": "timescale",
    "critical_batch": "critical_batch_tokens",
}


@LAWS
class TestPublishedLawContract:
    def test_names_its_source_and_how_well_it_was_checked(self, law: PublishedLaw) -> None:
        assert law.label
        assert re.fullmatch(r"arXiv:\d{4}\.\d{4,5}|[\w-]+/[\w-]+( issues [\d, ]+)?", law.cite), law.cite
        assert {law.form_checked, law.coefficients_checked} <= set(CHECKED)
        assert law.at_batch in AT_BATCH
        assert (law.at_batch == "none") == ("lr" not in law.formulas)
        assert (law.at_batch == "fixed") == (law.fixed_batch_tokens is not None)

    def test_declares_every_input_with_a_convention(self, law: PublishedLaw) -> None:
        for formula in law.formulas.values():
            assert set(formula.inputs) <= set(law.inputs)
            assert set(formula.sd) <= set(formula.exponents) | set(formula.coefficients)
        for spec in law.inputs.values():
            assert spec.convention
            assert spec.unit > 0
            assert spec.low is None or spec.high is None or spec.low <= spec.high
        if "params" in law.inputs:
            assert law.params_convention in (*PARAMS_CONVENTIONS, "unknown")

    def test_finite_and_positive_where_it_was_measured(self, law: PublishedLaw) -> None:
        inputs = all_inputs(law)
        for target, formula in law.formulas.items():
            if formula.needs_anchor:
                with pytest.raises(ValueError, match="exponents"):
                    law.evaluate(target, **inputs)
                continue
            if not formula.inputs and formula.const is None:  # takes a whole schedule
                with pytest.raises(ValueError, match="of every step"):
                    law.evaluate(target, **inputs)
                continue
            value = float(law.evaluate(target, **inputs))
            assert PLAUSIBLE[target][0] < value < PLAUSIBLE[target][1]

    def test_vectorised_equals_scalar(self, law: PublishedLaw, rng: np.random.Generator) -> None:
        params, tokens = 10 ** rng.uniform(7, 9.9, size=6), 10 ** rng.uniform(9, 12, size=6)
        together = law.predict(params, tokens, batch_tokens=5e5)
        for i in range(6):
            alone = law.predict(params[i], tokens[i], batch_tokens=5e5)
            for target in TARGETS:
                whole, one = getattr(together, target), getattr(alone, target)
                assert (whole is None) == (one is None)
                if whole is not None:
                    assert whole.shape == (6,)
                    assert whole[i] == pytest.approx(float(one), rel=1e-13)

    def test_says_what_it_needs_instead_of_guessing(self, law: PublishedLaw) -> None:
        said = law.predict(1e9, 2e10)
        for target in set(law.formulas) & set(TARGETS):
            assert (getattr(said, target) is None) == bool(law.missing(target, has_batch=False))
        assert set(law.needs) <= set(said.needs)
        if set(law.formulas) & set(TARGETS) and said.lr is None and said.batch_tokens is None:
            assert said.needs

    def test_range_is_given_or_said_to_be_unknown(self, law: PublishedLaw) -> None:
        inputs = all_inputs(law)
        outside = law.outside_range(inputs["params"], inputs["tokens"], inputs["batch_tokens"])
        known = {n for n, s in law.inputs.items() if not (s.low is s.high is None) and n in SCALE}
        assert set(outside) == known
        assert all(decades >= 0 for decades in outside.values())
        assert outside.get("params", 0.0) == 0.0

    def test_evidence_for_priors_is_what_the_law_says(self, law: PublishedLaw) -> None:
        for e in law.exponents:
            if e.checked == "CALC":  # our regression of the law's data, at another batch or in another form
                continue
            exponents = law.formulas[FORMULA_OF[e.of]].exponents
            if "flops" in exponents:  # along the source's path params and tokens share the compute between them
                assert sum(e.along.values()) == pytest.approx(1.0)
                assert e.value == exponents["flops"]
            elif "tokens_per_param" in law.inputs and "tokens" not in exponents:  # tokens grow with params
                assert e.along == {"params": 1, "tokens": 1}
                assert e.value == exponents["params"]
            else:
                assert e.value == pytest.approx(sum(w * exponents.get(name, 0.0) for name, w in e.along.items()))

    def test_evidence_for_priors_was_checked(self, law: PublishedLaw) -> None:
        assert all(e.checked in ("V1", "V2", "CALC") for e in law.exponents)

    def test_belongs_to_one_kind(self, law: PublishedLaw) -> None:
        """All its targets are of that kind, but for a batch beside an allocation."""
        kinds = {kind for kind, targets in KINDS.items() if set(targets) & set(law.formulas)}
        assert law.kind in kinds
        assert kinds - {law.kind} <= {"allocation"}

    def test_a_factor_is_the_ratio_of_two_answers(self, law: PublishedLaw) -> None:
        inputs = all_inputs(law)
        for target, formula in law.formulas.items():
            if formula.law.name != "power_product":
                with pytest.raises(ValueError, match="product of powers"):
                    law.factor(target)
                continue
            twice = law.factor(target, **dict.fromkeys(formula.exponents, 2.0))
            assert twice == pytest.approx(2.0 ** sum(formula.exponents.values()), rel=1e-12)
            if formula.needs_anchor or formula.rounding or formula.cap is not None:
                continue
            inputs["flops"] = 6 * inputs["params"] * inputs["tokens"]
            there = {name: 2 * value for name, value in inputs.items()}
            assert law.evaluate(target, **there) / law.evaluate(target, **inputs) == pytest.approx(twice, rel=1e-12)

    def test_survives_json(self, law: PublishedLaw) -> None:
        document = json.loads(json.dumps(law.to_json(), allow_nan=False))
        assert document["id"] == law.id
        assert set(document["formulas"]) == set(law.formulas)


EXPRESSIONS = {
    "step_law": "lr = 1.79 * params^-0.713 * tokens^0.307",
    "kaplan": "lr = 0.003239 -0.0001395 * ln params",
    "porian_rounded": "lr = 0.0047 * (params / 108000000)^-0.333333",
    "bjorck": "lr = c * params^-0.23 * tokens^-0.32",
    "marin_muonh": "lr = 0.286087 * tokens^-0.395 * width^-0.15 * batch_tokens^0.5, at most 0.05",
    "power_scheduler": "lr = 4.6 * (batch_tokens / 4096) * tokens^-0.51",
    "minicpm_lr": "lr = 0.01",
    "marin_beta2": "beta2 = 0.999^(batch_tokens / 131072), at least 0.95, at most 0.9999",
    "wang_aitchison": "timescale = c",
    "kaplan_loss_tokens": "loss = (tokens / 5.4e+13)^-0.095",
    "epoch": "loss = 1.8172 + 482.01 / params^0.3478 + 2085.43 / tokens^0.3658",
    "minicpm_loss": "loss = E + A / params^0.29 + B / tokens^0.23",
}


@pytest.mark.parametrize(("law_id", "text"), EXPRESSIONS.items(), ids=EXPRESSIONS)
def test_expression_for_people(law_id: str, text: str) -> None:
    formulas = published_law(law_id).to_json()["formulas"]
    assert formulas[text.split(" ", maxsplit=1)[0]]["expression"] == text


def test_outside_range_counts_decades() -> None:
    law = published_law("step_law")
    assert law.outside_range(1.1e10, 1e11) == pytest.approx({"params": 1.0, "tokens": 0.0})
    assert law.outside_range(5.9e6, 4e8, batch_tokens=4194304 * 10) == pytest.approx(
        {"params": 1.0, "tokens": 1.0, "batch_tokens": 1.0}
    )


def test_a_law_along_one_path_is_outside_when_off_it() -> None:
    law = published_law("porian")
    assert law.in_range(1e8, 2e9)
    assert law.outside_range(1e8, 2e10)["tokens_per_param"] == pytest.approx(1.0)


def test_kaplan_has_no_answer_beyond_its_zero() -> None:
    said = published_law("kaplan").predict(np.array([1e9, 1e11]), 1e10)
    assert said.lr is not None
    assert said.lr[0] > 0
    assert np.isnan(said.lr[1])


def test_laws_from_memory_are_marked() -> None:
    assert [law.id for law in CATALOGUE.values() if not law.verified] == [
        "power_lines",
        "power_lines_critical",
        "power_lines_timescale",
        "zhang_tokens",
        "hyperp",
        "kaplan_loss_params",
        "minicpm_loss",
        "moe_sparsity",
    ]


@settings(deadline=None)
@given(params=st.floats(1e6, 1e12), tokens=st.floats(1e8, 1e14))
def test_unit_conversion_commutes_with_prediction(params: float, tokens: float) -> None:
    """A law of batches in sequences, fed and read in tokens, is the law of sequences times its seq_len."""
    law = published_law("porian_rounded")
    said = law.predict(params, tokens)
    assert float(said.batch_tokens) == pytest.approx(2048 * 160 * (params / 108e6) ** (2 / 3), rel=1e-10)


def test_an_unknown_law_names_those_that_exist() -> None:
    with pytest.raises(UnknownLaw) as caught:
        published_law("chinchila")
    assert caught.value.finding == finding("published.no_such_law", law="chinchila", laws=list(published_laws()))


BROKEN = {
    "misspelt field": ('label = "Step Law"', 'lable = "Step Law"', "step_law"),
    "unknown form": ('form = "power_product"', 'form = "power"', "power"),
    "unchecked": ('form_checked = "V1"', 'form_checked = "sure"', "'sure' is not one of"),
    "a vote from memory": (
        'coefficients_checked = "V1"\nat_batch = "jointly_optimal"\nvotes',
        'coefficients_checked = "MEM"\nexponents_checked = "V1"\nat_batch = "jointly_optimal"\nvotes',
        "votes on lr, batch_tokens, though not verified (form V1, coefficients MEM)",
    ),
    "evidence from an abstract": (
        "value = -0.713\nsd = 0.0298",
        'value = -0.713\nchecked = "ABS"\nsd = 0.0298',
        "gives exponents (lr_joint) as evidence that were not verified",
    ),
    "undeclared input": ("exponents = { params = -0.713,", "exponents = { width = 1, params = -0.713,", "width"),
    "coefficient of another form": (
        "coefficients = { params_scale = 6.4e13,",
        "coefficients = { E = 2,",
        "coefficient E",
    ),
    "named form with a constant": ('form = "kaplan"\n', 'form = "kaplan"\nconst = 1\n', "takes `coefficients`"),
    "not toml": ('id = "step_law"', "id = = step_law", "cannot be read"),
}


@pytest.mark.parametrize(("old", "new", "message"), BROKEN.values(), ids=BROKEN)
def test_a_malformed_catalogue_names_the_entry(
    old: str, new: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (data_folder() / "laws.toml").read_text(encoding="utf-8")
    assert old in text
    (tmp_path / "laws.toml").write_text(text.replace(old, new, 1), encoding="utf-8")
    monkeypatch.setattr(published, "data_folder", lambda: tmp_path)
    with pytest.raises(LawfitError, match=re.escape(message)):
        published_laws.__wrapped__()  # type: ignore[attr-defined]  # past the cache
