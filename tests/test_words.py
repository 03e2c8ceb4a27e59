"""Findings and their sentences: every code has one, none is left over, and what was stored before still shows."""

from __future__ import annotations

import ast
import pickle
from enum import Enum
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from lawfit.errors import FitError, NotEnoughData, Unanswerable
from lawfit.estimate.lr_batch.lacking import LackCode
from lawfit.findings import Finding, as_json, code_of, finding, found_of, joined
from lawfit.words import general, listed, named, say, sentence_of, tell, told

ROOT = Path(__file__).parent.parent


def codes_used() -> dict[str, str]:
    """Every code that the sources name in a call of `finding`, and where."""
    found = {}
    for folder in ("lawfit", "api"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "finding":
                    assert isinstance(node.args[0], ast.Constant), f"{path}:{node.lineno}: a code is written out"
                    found[str(node.args[0].value)] = f"{path.relative_to(ROOT)}:{node.lineno}"
    return found | {f"lr_batch.{code.value}": f"lacking.LackCode.{code.name}" for code in LackCode}


def codes_with_words() -> set[str]:
    rooms = [path.stem for path in (ROOT / "lawfit/words").glob("*.py")]
    return {f"{room}.{what}" for room in rooms for what in getattr(import_module(f"lawfit.words.{room}"), "WORDS", {})}


def test_every_code_has_words_and_no_words_are_left_over() -> None:
    used = codes_used()
    assert {code: place for code, place in used.items() if sentence_of(code) is None} == {}
    assert codes_with_words() - set(used) == set()


class Kind(Enum):
    ONE = "one"


class TestFinding:
    def test_holds_json_values(self) -> None:
        inner = finding("general.several", findings=["a"])
        made = finding(
            "a.b", number=np.float64(2.5), rows=np.arange(2), kind=Kind.ONE, inner=inner, why=FitError(inner)
        )
        assert made.to_json() == {
            "code": "a.b",
            "data": {
                "number": 2.5,
                "rows": [0, 1],
                "kind": "one",
                "inner": inner.to_json(),
                "why": inner.to_json(),
            },
        }
        assert made == Finding("a.b", made.data)
        assert len({made, Finding("a.b", made.data), finding("a.b")}) == 2

    def test_what_is_not_one_stays(self) -> None:
        assert as_json({"a": (1, "b", None), "why": ValueError("c")}) == {"a": [1, "b", None], "why": "c"}
        assert [code_of(each) for each in ("a sentence", finding("a.b"), {"code": "a.b", "data": {}})] == [
            "",
            "a.b",
            "a.b",
        ]

    def test_comes_back_from_json(self) -> None:
        one = finding("general.several", findings=["a"])
        assert [found_of(each) for each in (one.to_json(), "a sentence", one)] == [one, "a sentence", one]

    def test_several_are_one(self) -> None:
        one, two = finding("general.several", findings=["a", "b"]), "c"
        assert joined([one]) is one
        assert tell(joined([one, two])) == "a; b; c"


class TestErrors:
    @pytest.mark.parametrize("kind", [FitError, NotEnoughData, Unanswerable])
    def test_tell_what_was_found_and_keep_it(self, kind: type[FitError]) -> None:
        found = finding("general.several", findings=["too few", "too close"])
        error = kind(found)
        assert str(error) == "too few; too close"
        assert error.finding == found
        assert pickle.loads(pickle.dumps(error)).finding == found

    def test_a_sentence_is_told_as_it_is(self) -> None:
        assert str(FitError("no run")) == "no run"
        assert FitError("no run").finding == "no run"


class TestWords:
    @pytest.mark.parametrize(
        ("sentence", "data", "words"),
        [
            ("{n:q} parameters", {"n": 1.2e9}, "1.2B parameters"),
            ("{lr:lr}", {"lr": 0.000612}, "6.12e-4"),
            ("{cost:pct}", {"cost": 0.00062}, "0.06 %"),
            ("{flops:flops}", {"flops": 5.53e20}, "5.53e20"),
            ("{s:time}", {"s": 7200}, "2 hours"),
            ("{n:count scale}", {"n": 1}, "1 scale"),
            ("{n:count scale}", {"n": 1627}, "1,627 scales"),
            ("{n:count batch batches}", {"n": 2}, "2 batches"),
            ("{x:.2g} and {x:lr}", {"x": None}, "- and -"),
            ("{x:+.2f} and {x}", {"x": 0.5}, "+0.50 and 0.5"),
            ("{names}", {"names": ["a", "b"]}, "a, b"),
            ("{names:join ; }", {"names": ["a", "b"]}, "a; b"),
            ("{names:join and}", {"names": ["a", "b", "c"]}, "a, b and c"),
            ("{names:join and}", {"names": ["a"]}, "a"),
            ("{names:join or}", {"names": ["a", "b", "c"]}, "a, b or c"),
            ("rate{rates:plural} {rates:lr and}", {"rates": [1e-3, 2e-3]}, "rates 1.00e-3 and 2.00e-3"),
            ("rate{rates:plural} {rates:lr and}", {"rates": [1e-3]}, "rate 1.00e-3"),
            ("{names:few or}", {"names": [*"abcdef"]}, "a, b, c, d, e or f"),
            ("{names:few or}", {"names": [*"abcdefg"]}, "a to g"),
            ("{names:input  and the }", {"names": ["lr", "batch_tokens"]}, "learning rate and the batch"),
            ("{names:setting and}", {"names": ["weight_decay", "beta2"]}, "weight decay and beta2"),
            ("{row[params]:q}", {"row": {"params": 2e6}}, "2M"),
            (
                "not used: {why}",
                {"why": {"code": "general.several", "data": {"findings": ["a", "b"]}}},
                "not used: a; b",
            ),
        ],
    )
    def test_numbers_are_written_as_people_do(self, sentence: str, data: dict[str, object], words: str) -> None:
        assert say(sentence, data) == words

    def test_a_document_is_told_and_sentences_of_before_show_as_they_are(self) -> None:
        found = finding("general.several", findings=["a", "b"])
        document = {
            "warnings": ["of before", found.to_json()],
            "lr": {"value": 1.0, "why": found},
            "code": {"code": "x"},
        }
        assert told(document) == {
            "warnings": ["of before", "a; b"],
            "lr": {"value": 1.0, "why": "a; b"},
            "code": {"code": "x"},
        }
        assert told(told(document)) == told(document)

    def test_a_code_of_a_later_version_is_shown_with_its_numbers(self) -> None:
        assert tell({"code": "loss.never_heard", "data": {"scales": 3}}) == "loss.never_heard (scales 3)"
        assert tell(finding("nowhere.at_all", n=1)) == "nowhere.at_all (n 1)"

    def test_parts_that_come_and_go(self) -> None:
        told_so = named("{n} {kind}{more}", kind={"a": "of them"}, more=lambda of: "; {n:.1f}" if of["n"] > 1 else "")
        assert [told_so({"n": n, "kind": "a"}) for n in (1, 2)] == ["1 of them", "2 of them; 2.0"]
        assert told_so({"n": 1, "kind": "{b}"}) == "1 {b}"

    def test_lists(self) -> None:
        assert listed([]) == ""
        assert listed(["a", "b"], " or ") == "a or b"
        assert set(general.WORDS) >= {"several"}
