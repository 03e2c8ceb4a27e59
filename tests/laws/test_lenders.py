"""Which laws lend to which recipe, and that whoever is withheld lends nothing."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from lawfit.errors import UnknownLaw
from lawfit.findings import Finding, as_json, code_of, finding
from lawfit.laws import lent
from lawfit.laws.lenders import (
    QUANTITIES,
    Family,
    Lending,
    Parametrization,
    family_of,
    lenders,
    lending_to,
    lent_by,
    parametrization_of,
)
from lawfit.laws.loss_units import LENT_IN
from lawfit.laws.priors import exponent_prior, level_prior
from lawfit.laws.published import published_law, published_laws
from lawfit.records import Recipe
from lawfit.words import tell, told

EVERYONE = tuple(published_laws())
USUAL = Recipe(name="usual", parametrization="standard", optimizer="adamw", schedule="cosine to 0")
OF_LR = ("lr", "lr_joint")
OF_BATCH = ("batch_tokens", "batch")


def recipe(**changed: str) -> Recipe:
    return Recipe(
        name="other",
        parametrization=changed.get("parametrization", USUAL.parametrization),
        optimizer=changed.get("optimizer", USUAL.optimizer),
        schedule=changed.get("schedule", USUAL.schedule),
    )


def standard_laws() -> set[str]:
    return {law.id for law in published_laws().values() if law.context.get("parametrization") == "standard"}


def reasons(found: Lending, quantity: str) -> dict[str, Finding]:
    return {each.law: each.reason for each in found.withheld if each.quantity == quantity}


class TestWords:
    @pytest.mark.parametrize(
        ("words", "kind"),
        [
            ("", Parametrization.UNKNOWN),
            ("standard", Parametrization.STANDARD),
            ("sp", Parametrization.STANDARD),
            ("no mup", Parametrization.STANDARD),
            ("mup", Parametrization.TRANSFERS),
            ("muP from width 64", Parametrization.TRANSFERS),
            ("μP", Parametrization.TRANSFERS),
            ("u-mup", Parametrization.TRANSFERS),
            ("CompleteP", Parametrization.TRANSFERS),
            ("norm-based", Parametrization.TRANSFERS),
            ("ntk", Parametrization.OTHER),
        ],
    )
    def test_parametrization(self, words: str, kind: Parametrization) -> None:
        assert parametrization_of(words) is kind

    @pytest.mark.parametrize(
        ("words", "family"),
        [
            ("", Family.UNKNOWN),
            ("adamw", Family.ADAM),
            ("NAdamW", Family.ADAM),
            ("cautious", Family.ADAM),
            ("muon_cautious_weight_decay", Family.MATRIX),
            ("muon and adamw", Family.MATRIX),
            ("scion", Family.MATRIX),
            ("lion", Family.SIGN),
            ("signsgd", Family.SIGN),
            ("sgd with momentum", Family.SGD),
            ("sophia", Family.OTHER),
        ],
    )
    def test_optimizer(self, words: str, family: Family) -> None:
        assert family_of(words) is family


class TestRecipesLikeMostLaws:
    def test_everything_is_lent_but_a_level_from_another_schedule(self) -> None:
        found = lending_to(USUAL)
        assert all(found.lenders.values())
        assert [(each.law, each.quantity) for each in found.withheld] == [("porian", "lr")]
        assert found.withheld[0].reason.code == "published.other_schedule"
        assert set(found.assumed) == {"loss"}  # whose unit it does not say

    def test_a_constant_rate_gets_no_level_from_decaying_ones(self) -> None:
        found = lending_to(recipe(schedule="constant"))
        assert found.lenders["lr"] == ("step_law_small", "porian")  # the former does not say its schedule
        assert found.lenders["lr_joint"] == lending_to(USUAL).lenders["lr_joint"]

    def test_unknown_is_the_usual_and_that_is_said(self) -> None:
        found = lending_to(Recipe(name="unknown"))
        assert set(found.lenders["lr"]) == set(lending_to(USUAL).lenders["lr"]) | {"porian"}
        assert found.withheld == ()
        (said,) = found.assumed["lr_joint"]
        assert said == finding("published.assumed", taken=["parametrization", "optimizer"], quantity="lr_joint")
        assert tell(said).startswith("assumed standard parametrization and AdamW, which the recipe does not say")
        assert "parametrization=mup" in tell(said)
        assert "optimizer=adamw" in tell(said)
        assert found.assumed["timescale"] == (finding("published.assumed", taken=["optimizer"], quantity="timescale"),)

    def test_nothing_is_assumed_for_what_nobody_lends(self) -> None:
        assert "lr_joint" not in lending_to(recipe(parametrization="mup", optimizer="")).assumed


class TestMuP:
    @pytest.mark.parametrize("words", ["mup", "mup from width 64", "completep", "spectral"])
    def test_no_standard_law_lends_anything_of_learning_rate_or_batch(self, words: str) -> None:
        found = lending_to(recipe(parametrization=words))
        for quantity in (*OF_LR, *OF_BATCH, "critical_batch", "timescale"):
            assert not standard_laws() & set(found.lenders[quantity]), quantity
        assert found.lenders["lr"] == found.lenders["lr_joint"] == ()
        assert "power_lines" in found.lenders["batch"]  # measured under muP
        assert reasons(found, "lr_joint")["step_law"] == finding("published.standard", recipe=words)

    def test_priors_are_vague_about_the_learning_rate(self) -> None:
        without = lending_to(recipe(parametrization="mup")).without
        exponents, level = exponent_prior("lr_joint", without=without), level_prior("lr", 1e8, 2e9, without=without)
        assert exponents.laws == level.laws == ()
        assert exponents.mean.tolist() == [0, 0]
        assert not standard_laws() & {*exponent_prior("batch", without=without).laws}
        assert not standard_laws() & {*level_prior("batch_tokens", 1e8, 2e9, without=without).laws}

    def test_the_answer_says_so(self) -> None:
        said = lending_to(recipe(parametrization="mup")).not_lent()
        reason = finding("published.standard", recipe="mup").to_json()
        assert len([each for each in said if each.data["reason"] == reason]) == 1

    def test_another_parametrization_gets_nothing_of_the_learning_rate_from_either(self) -> None:
        assert not any(lending_to(recipe(parametrization="ntk")).lenders[quantity] for quantity in OF_LR)


@pytest.mark.parametrize("optimizer", ["muon", "sgd", "lion", "sophia"])
def test_another_optimizer_gets_batch_laws_and_the_entropy_of_text_alone(optimizer: str) -> None:
    found = lending_to(recipe(optimizer=optimizer))
    lent_to_it = {quantity for quantity, laws in found.lenders.items() if laws}
    assert lent_to_it == {*OF_BATCH, "loss"}
    of_adam = finding("published.other_optimizer", law="Adam", recipe=optimizer)
    assert reasons(found, "lr_joint")["step_law"] == of_adam


class TestWithholding:
    def test_every_quantity_is_lent_by_someone_and_nobody_is_left_when_all_are_withheld(self) -> None:
        assert all(lenders(quantity) for quantity in QUANTITIES)
        assert not any(lenders(quantity, EVERYONE) for quantity in QUANTITIES)
        assert not any(lending_to(USUAL, EVERYONE).lenders.values())

    def test_all_that_was_fitted_on_the_same_runs_goes_with_a_law(self) -> None:
        found = lending_to(USUAL, ("chinchilla", "zhang_params"))
        assert found.lenders["loss"] == ("data_constrained",)
        assert found.lenders["critical_batch"] == ("power_lines_critical", "kaplan_critical")
        assert {"epoch", "chinchilla_unrounded", "zhang_tokens", "zhang_fixed_tokens"} <= set(found.without)
        assert reasons(found, "loss")["epoch"] == finding("published.on_request")

    def test_one_quantity_of_a_law_can_be_withheld(self) -> None:
        found = lending_to(USUAL, ("step_law.lr",))
        assert "step_law" not in found.lenders["lr"]
        assert "step_law" in found.lenders["lr_joint"]

    @pytest.mark.parametrize(
        ("name", "code", "what"),
        [
            ("steplaw", "published.no_such_law", {"law": "steplaw"}),
            ("step_law.size", "published.no_such_quantity", {"quantity": "size"}),
        ],
    )
    def test_unknown_names_are_refused(self, name: str, code: str, what: dict[str, str]) -> None:
        with pytest.raises(UnknownLaw) as caught:
            lending_to(USUAL, (name,))
        assert code_of(caught.value.finding) == code
        assert isinstance(caught.value.finding, Finding)
        assert what.items() <= caught.value.finding.data.items()

    def test_ids_have_no_dot(self) -> None:
        assert not [law_id for law_id in EVERYONE if "." in law_id]  # it parts a law from what it lends

    def test_is_json(self) -> None:
        document = as_json(lending_to(recipe(optimizer="muon"), ("zhang_params",)).to_json())
        assert json.loads(json.dumps(document)) == document


class TestLent:
    def test_what_is_lent_is_what_laws_measured(self) -> None:
        assert lent.timescale_exponent().gaussian == (-0.527, 0.3)  # Power Lines
        assert lent.least_tokens_exponent().gaussian == (-6.24, 3.0)  # MiniCPM
        tokens = lent.critical_exponents(("tokens",))["tokens"]
        assert tokens.gaussian == (0.462, 0.15)  # Power Lines; of Zhang et al. it is from memory
        both = lent.critical_exponents(("params", "tokens"))
        assert both["params"].gaussian == (0.087, 0.15)  # with tokens held, Zhang et al.
        assert lent.critical_exponents(("params",))["params"] == both["tokens"]  # along one path

    def test_what_rests_on_memory_lends_nothing(self) -> None:
        """A law that is not verified lends at most exponents that were, and never its level."""
        for law in published_laws().values():
            lends = lent_by(law)
            assert set(lends) == {quantity for quantity in QUANTITIES if law in lenders(quantity)}
            if not law.verified:
                assert set(lends) <= {row.of for row in law.exponents}
        assert lent_by(published_law("zhang_tokens")) == lent_by(published_law("moe_sparsity")) == {}
        assert told(lent_by(published_law("power_lines_critical"))) == {
            "critical_batch": "exponents of the critical batch: tokens 0.462"
        }
        joint = lent_by(published_law("porian"))["lr_joint"]
        assert joint.data["exponents"] == [{"along": {"params": 1.0, "tokens": 1.0}, "value": -0.36}]
        assert tell(joint) == "exponents of the learning rate: params + tokens -0.36"

    def test_laws_of_the_same_runs_have_one_vote(self) -> None:
        found = lent.log_asymptote()
        assert found is not None
        assert 1.75 < 2.718281828**found.mean < 1.87  # between Chinchilla's two fits together, and Muennighoff's
        alone = lent.log_asymptote(("chinchilla", "epoch"))
        assert alone is not None
        assert alone.mean == pytest.approx(0.6254804)  # ln E of Muennighoff et al.
        assert lent.log_asymptote(("chinchilla", "epoch", "data_constrained")) is None

    def test_with_nobody_left_an_exponent_is_vague_and_holds_what_was_published(self) -> None:
        for found, usual in (
            (lent.timescale_exponent(EVERYONE), lent.timescale_exponent()),
            (lent.least_tokens_exponent(EVERYONE), lent.least_tokens_exponent()),
            *(
                (lent.critical_exponents((name,), EVERYONE)[name], lent.critical_exponents((name,))[name])
                for name in ("tokens", "params", "loss")
            ),
        ):
            assert (found.mean, found.laws) == (0.0, ())
            assert abs(usual.mean) < 2 * found.sd
            assert found.words() == finding("published.vague", mean=0.0, sd=found.sd)
            assert usual.words().code == "published.lent"

    def test_a_comparison_is_not_made_with_a_law_that_is_withheld(self) -> None:
        said = lent.published_timescale([1e8], [2e9])
        assert said == pytest.approx(
            [float(published_law("power_lines_timescale").evaluate("timescale", params=1e8, tokens=2e9))]
        )
        assert lent.published_timescale([1e8], [2e9], ("power_lines_timescale",)) == []


@pytest.mark.parametrize(
    ("kind", "tokenizer", "lent"),
    [
        pytest.param("", "", True, id="unsaid"),
        pytest.param("validation_cross_entropy_nats", "bpe-4096", True, id="nats"),
        pytest.param("C4-en validation loss", "byte-level BPE", True, id="BPE over bytes"),
        pytest.param("eval/bits_per_byte", "gpt2", False, id="bits per byte"),
        pytest.param("c4_en_bpb", "gpt2", False, id="bpb"),
        pytest.param("bits per character", "", False, id="bits per character"),
        pytest.param("cross entropy, bits", "llama", False, id="bits per token"),
        pytest.param("nats/byte", "llama", False, id="nats per byte"),
        pytest.param("val_ppl", "llama", False, id="perplexity"),
        pytest.param("mse", "", False, id="squared error"),
        pytest.param("train_cross_entropy", "bytes", False, id="tokens that are bytes"),
        pytest.param("train_cross_entropy", "char-level", False, id="characters"),
    ],
)
def test_an_asymptote_is_lent_in_its_unit_alone(kind: str, tokenizer: str, lent: bool) -> None:
    found = lending_to(Recipe(name="r", loss_kind=kind, tokenizer=tokenizer))
    assert bool(found.lenders["loss"]) is lent
    assert ("loss" in found.assumed) == (not kind)
    if not lent:
        (said,) = (each for each in found.not_lent() if each.data["parts"][0]["quantities"] == ["loss"])
        assert said.data["reason"]["code"] == "published.other_unit"
        assert said.data["reason"]["data"]["unit"] == LENT_IN
        why = said.data["reason"]["data"]["loss"]["data"]
        in_name = tokenizer in ("gpt2", "llama", "")
        assert why["loss_kind" if in_name else "tokenizer"] == (kind if in_name else tokenizer)


@pytest.mark.parametrize("unit", ["samples", "images", "sequences"])
def test_nothing_is_lent_to_runs_that_count_no_tokens(unit: str) -> None:
    found = lending_to(replace(USUAL, extra={"data_unit": unit}))
    assert not any(found.lenders.values())
    assert {code_of(each.reason) for each in found.withheld} == {"published.other_data_unit"}
    assert f"not lent (tokens, and the recipe counts {unit})" in tell(found.not_lent()[0])
    assert lending_to(replace(USUAL, extra={"data_unit": "tokens"})).lenders == lending_to(USUAL).lenders
