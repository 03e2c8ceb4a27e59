"""Forms of the loss law with a further input: which runs reach which form, and what they recover of the truth."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

import lawfit
from lawfit.ask import Target
from lawfit.errors import NotEnoughData
from lawfit.estimate.evidence import Evidence
from lawfit.estimate.loss import law as loss_law_module
from lawfit.estimate.loss import third as loss_third
from lawfit.estimate.loss.law import lent_asymptote, loss_law
from lawfit.estimate.loss.third import fit_further_forms
from lawfit.estimate.observe.repeated import says_no_number
from lawfit.findings import code_of, finding
from lawfit.kinds import loss as loss_kind
from lawfit.kinds.expected_loss import expected_loss
from lawfit.kinds.fitting import fit_all_laws
from lawfit.kinds.third_input import Asked, loss_at_third
from lawfit.laws.loss import DATA_CONSTRAINED
from lawfit.records import Run, RunStatus, SizedLoss
from lawfit.words import tell
from tests.estimate.further_runs import NOISE, dense_and_sparse, experts, repeated, same_input, sized
from tests.estimate.loss.test_law import stored


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loss_law_module, "LOSS_RESAMPLES", 40)
    monkeypatch.setattr(loss_third, "FURTHER_RESAMPLES", 40)


@pytest.mark.parametrize(
    ("columns", "order"),
    [
        ({"unique_tokens": lambda row: row["unique_tokens"]}, 0),
        ({"epochs": lambda row: row["tokens"] / row["unique_tokens"]}, 1),
        ({"numEpochs": lambda row: str(row["tokens"] / row["unique_tokens"])}, 2),
        ({"Unique Tokens": lambda row: f"{row['unique_tokens'] / 1e9:.9g}B"}, 3),
    ],
    ids=["unique tokens", "epochs", "epochs as text", "unique tokens in billions"],
)
def test_repeats_are_read_whatever_they_are_called(columns: dict[str, Callable[[pd.Series], Any]], order: int) -> None:
    frame = repeated(4)
    rows = sized(frame.sample(frac=1.0, random_state=order) if order else frame, **columns)
    found = fit_further_forms(rows, np.random.default_rng(0))[0]["data_constrained"]
    assert (found["status"], found["lent"]) == ("ok", [])
    worth = found["fit"]["parameters"]["tokens_scale"]
    assert worth["value"] == pytest.approx(DATA_CONSTRAINED.tokens_scale, rel=0.3)


def test_one_size_tells_how_fast_repeated_tokens_lose_their_worth() -> None:
    rng, rows, size = np.random.default_rng(3), [], 3e7
    for unique, passes in itertools.product(np.geomspace(6e8, 6e9, 7), (1, 2, 4, 8, 16, 32)):
        tokens, extra = unique * passes, {"unique_tokens": unique}
        loss = float(DATA_CONSTRAINED.loss(size, tokens, unique) * np.exp(5e-4 * rng.normal()))
        rows.append(SizedLoss(run_key=f"{unique}{passes}", params=size, tokens=tokens, loss=loss, extra=extra))
    found = fit_further_forms(rows, np.random.default_rng(0))[0]["data_constrained"]
    worth = found["fit"]["parameters"]["tokens_scale"]
    assert found["status"] == "ok"
    assert worth["low"] < DATA_CONSTRAINED.tokens_scale < worth["high"]
    assert worth["value"] == pytest.approx(DATA_CONSTRAINED.tokens_scale, rel=0.1)
    assert set(found["fit"]["parameters"]) == {"E", "B", "beta", "tokens_scale"}
    assert [row["input"] for row in found["words"].data["same"]] == ["params"]
    assert "so it has no term in parameters" in tell(found["words"])


class TestRunsOfASweepReachTheForms:
    """Learning rate and batch hold at one level of each setting; forms with that setting as an input take all."""

    def seen(self, monkeypatch: pytest.MonkeyPatch, extras: Sequence[dict[str, Any]]) -> list[Run]:
        """The runs that the law of the loss gets, of a grid at each of these further columns."""
        found: list[Run] = []

        def loss_law_of(runs: Sequence[Run], *_: Any, **__: Any) -> Any:
            found.extend(runs)
            raise NotEnoughData("not fitted here")

        monkeypatch.setattr(loss_kind, "loss_law", loss_law_of)
        sizes, rates = np.geomspace(1e7, 1e9, 6), ((1e-3, 0.02), (2e-3, 0.0), (4e-3, 0.02))
        runs = [
            Run(
                run_key=f"{n}{ratio}{lr}{extra}",
                params=n,
                tokens=n * ratio,
                batch_tokens=65536.0,
                lr=lr,
                status=RunStatus.FINISHED,
                loss=1.8 + 300 / n**0.33 / (1 + at) ** 0.2 + 400 / (n * ratio) ** 0.3 + cost,
                extra=extra,
            )
            for n, ratio, (lr, cost), (at, extra) in itertools.product(
                sizes, (10.0, 40.0, 160.0), rates, enumerate(extras)
            )
        ]
        fit_all_laws(Evidence(runs=runs))
        return found

    @pytest.mark.parametrize(
        "extra",
        [
            pytest.param(lambda count: {"num_experts": count}, id="a number"),
            pytest.param(lambda count: {"num_experts": count, "top_k": min(count, 2)}, id="fewer levels beside it"),
            pytest.param(lambda count: {"num_experts": count, "top_k": count // 4}, id="a column that goes with it"),
            pytest.param(lambda count: {"config.num_experts": count, "moe_design": f"of {count}"}, id="a name of it"),
            pytest.param(lambda count: {"experts": count, "d_head": 64 + count}, id="another column answers for it"),
        ],
    )
    def test_any_number_of_experts(
        self, monkeypatch: pytest.MonkeyPatch, extra: Callable[[int], dict[str, Any]]
    ) -> None:
        seen = self.seen(monkeypatch, [extra(count) for count in (1, 8, 64)])
        assert len(seen) == 6 * 3 * 3 * 3

    @pytest.mark.parametrize("name", ["epochs", "config.epochs"])
    def test_any_number_of_epochs(self, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        assert len(self.seen(monkeypatch, [{name: 1}, {name: 4}])) == 6 * 3 * 3 * 2

    def test_any_number_of_unique_tokens(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert len(self.seen(monkeypatch, [{"unique_tokens": 1e12}, {"unique_tokens": 2e7}])) == 6 * 3 * 3 * 2

    def test_what_is_no_input_of_a_form_is_held(self, monkeypatch: pytest.MonkeyPatch) -> None:
        seen = self.seen(
            monkeypatch, [{"num_experts": n, "top_k": n // 4, "beta2": b} for n in (1, 8) for b in (0.9, 0.95)]
        )
        assert len(seen) == 6 * 3 * 3 * 2
        assert len({run.extra["beta2"] for run in seen}) == 1


class TestEachFormIsOfItsOwnInput:
    def points(self, monkeypatch: pytest.MonkeyPatch, rows: list[SizedLoss]) -> dict[str, Any]:
        """What each form is fitted to."""
        seen: dict[str, Any] = {}

        def fitted(name: str, points: Any, *_: Any) -> dict[str, Any]:
            seen[name] = {tuple(point) for point in points.T.tolist()}
            return {}

        monkeypatch.setattr(loss_third, "_fitted", fitted)
        monkeypatch.setattr(loss_third, "_said", lambda *_: "")
        fit_further_forms(rows, np.random.default_rng(0))
        return seen

    def test_runs_with_more_experts_are_no_fresh_runs_and_repeated_ones_none_of_few_experts(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        rows = dense_and_sparse(3)
        seen = self.points(monkeypatch, rows)
        of = {
            name: {(row.params, row.tokens, row.loss, float(row.extra[column])) for row in rows if keep(row)}
            for name, column, keep in (
                ("data_constrained", "epochs", lambda row: row.extra["num_experts"] == 1),
                ("experts", "num_experts", lambda row: row.extra["epochs"] == 1),
            )
        }
        assert seen == of

    def test_a_share_of_experts_that_goes_with_their_number_hides_neither(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        rows = [replace(row, extra={**row.extra, "active_share": 1 / row.extra["num_experts"]}) for row in experts(5)]
        seen = self.points(monkeypatch, rows)
        assert {name: len(points) for name, points in seen.items()} == {"moe_sparsity": 72, "experts": 72}

    def test_what_few_dense_runs_lack_is_said(self) -> None:
        rows = [row for row in dense_and_sparse(3) if row.extra["epochs"] == 1 or row.extra["num_experts"] == 64]
        lacking = fit_further_forms(rows, np.random.default_rng(0))[1]["data_constrained"]
        assert code_of(lacking.data["why"]) == "loss.third_alike_otherwise"
        assert tell(lacking).endswith("repeat their tokens among those that are ordinary otherwise")


def test_one_amount_of_tokens_that_repeat_tells_what_others_cost() -> None:
    """How many count varies with the repeats, so the term in tokens stays and other amounts are answered."""
    rng, rows = np.random.default_rng(6), []
    for n, passes in itertools.product(np.geomspace(1e8, 4e9, 6), (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)):
        loss = float(DATA_CONSTRAINED.loss(n, 4e10, 4e10 / passes) * np.exp(NOISE * rng.standard_normal()))
        rows.append(SizedLoss(run_key=f"{n}{passes}", params=n, tokens=4e10, loss=loss, extra={"epochs": passes}))
    law = loss_law((), rng, losses=rows)
    found = law.payload["further_forms"]["data_constrained"]
    assert found["same_input"] == {}
    assert found["words"].data["same"] == []
    said, _ = expected_loss(stored(law.payload), Target(params=2e9, tokens=8e10, unique_tokens=2e10))
    slack = (said["high"] / said["low"]) ** 0.5  # twice the tokens of any run
    assert said["low"] / slack < float(DATA_CONSTRAINED.loss(2e9, 8e10, 2e10)) < said["high"] * slack
    assert said["third"]["alone"] is True  # no law of fresh runs says a level there
    assert tell(said["given"][0]).startswith(
        "with 20B unique tokens, by the data-constrained form alone, fitted to 36 scales"
    )
    with pytest.raises(NotEnoughData) as caught:
        expected_loss(stored(law.payload), Target(params=2e9, tokens=8e10))
    assert code_of(caught.value.finding) == "advice.one_amount"


@pytest.mark.soak
def test_an_open_number_of_a_form_is_lent_and_hides_nothing() -> None:
    """Runs of many tokens for their size: no model is too large for its data, so nothing shows what that would cost."""
    frame = repeated(2, ratio=1000.0, passes_of=(4.0, 10.0, 20.0, 40.0))
    rows = sized(frame, unique_tokens=lambda row: row["unique_tokens"])
    rng = np.random.default_rng(0)
    found = fit_further_forms(rows, rng, asymptote=lent_asymptote())[0]["data_constrained"]
    assert "params_scale" in found["lent"]
    assert found["lent_by"] == ["data_constrained"]
    assert found["status"] == "sparse"
    assert "params_scale" in found["words"].data["lent"]
    fit = stored(loss_law((), rng, losses=rows).payload)
    said, _ = expected_loss(fit, Target(params=2e9, tokens=8e11, unique_tokens=8e10))
    assert said["low"] < float(DATA_CONSTRAINED.loss(2e9, 8e11, 8e10)) < said["high"]
    large = [
        expected_loss(fit, Target(params=size, tokens=8e11, unique_tokens=2e10))[0] for size in (1e9, 3e11)
    ]  # the second is far beyond what its data are worth
    widths = [float(np.log(each["high"] / each["low"])) for each in large]
    assert widths[1] > 2 * widths[0]
    assert large[1]["low"] < float(DATA_CONSTRAINED.loss(3e11, 8e11, 2e10)) < large[1]["high"]
    withheld = fit_further_forms(rows, rng, without_laws=["data_constrained"])[0]["data_constrained"]
    assert "params_scale" not in withheld["lent"]


def test_an_open_worth_of_repeated_tokens_is_in_the_interval() -> None:
    """Three times the noise and 20 passes at most: R*_D is known to a factor of 3 or so, and the loss to a percent."""
    frame = repeated(3, passes_of=(2.0, 6.0, 20.0))
    rng = np.random.default_rng(3)
    frame["loss"] *= np.exp(2 * NOISE * rng.standard_normal(len(frame)))
    found = fit_further_forms(sized(frame, unique_tokens=lambda row: row["unique_tokens"]), rng)[0]["data_constrained"]
    assert "tokens_scale" in found["fit"]["certificate"]["weak"]
    assert found["status"] == "sparse"
    assert "tokens_scale" in {row["name"] for row in found["words"].data["parameters"] if row["open"]}
    assert "how fast repeated tokens lose their worth is open" in tell(found["words"])
    law = loss_at_third(stored({"further_forms": {"data_constrained": found}}), Asked(name="epochs", value=15), 0.9)
    said = law.predict(4e9, 1.6e11).expected
    assert said.low is not None
    assert said.high is not None
    assert said.low < float(DATA_CONSTRAINED.loss(4e9, 1.6e11, 1.6e11 / 15)) < said.high
    assert 1.003 < said.high / said.low < 1.1


@pytest.mark.parametrize(
    ("name", "tokens"),
    [("num_experts", None), ("nExperts", None), ("moe_num_experts", None), ("num_experts", 2e10)],
    ids=["num_experts", "nExperts", "moe_num_experts", "one amount of tokens"],
)
def test_a_number_of_experts_has_a_form_of_its_own(name: str, tokens: float | None) -> None:
    rows = experts(5, name, tokens=tokens)
    found = fit_further_forms(rows, np.random.default_rng(0))[0]["experts"]
    numbers = found["fit"]["parameters"]
    for parameter, true in {"a": 0.33, "b": 0.12, "K": 300.0, **({} if tokens else {"beta": 0.3, "E": 1.8})}.items():
        low, high = numbers[parameter]["low"], numbers[parameter]["high"]
        slack = (high / low) ** 0.5  # four 90 % intervals of 40 resamples, all of which are to hold
        assert low / slack < true < high * slack, parameter
    assert [row["input"] for row in found["words"].data["same"]] == ([] if tokens is None else ["tokens"])


@pytest.mark.parametrize("blank", ["", " ", "NaN", "<NA>", "null", None, float("nan")], ids=repr)
def test_a_blank_column_of_unique_tokens_says_nothing(blank: Any) -> None:
    frame = repeated(1).query("unique_tokens == tokens").assign(unique_tokens=blank)
    runs = lawfit.observe(frame, recipe="blank").runs
    assert len(runs) == 15
    assert not any(says_no_number(run) for run in runs)
    lacking = fit_further_forms(runs, np.random.default_rng(0))[1]["data_constrained"]
    columns = ["unique_tokens", "epochs"]
    unsaid = finding("loss.third_unsaid", form="data_constrained", columns=columns)
    assert lacking == finding("loss.no_third", form="data_constrained", why=unsaid)


@pytest.mark.parametrize(
    ("same", "floor", "exponent", "other"), [("tokens", 2.3, "alpha", 0.34), ("params", 2.1, "beta", 0.28)]
)
def test_an_input_that_no_run_varies_drops_its_term(same: str, floor: float, exponent: str, other: float) -> None:
    law = loss_law((), np.random.default_rng(0), losses=same_input(same))
    numbers = law.payload["fit"]["parameters"]
    assert numbers["E"]["low"] < floor < numbers["E"]["high"]
    assert numbers[exponent]["low"] < other < numbers[exponent]["high"]
    (said,) = (each for each in law.payload["sentences"] if code_of(each) == "loss.one_amount")
    assert said.data["input"] == same
