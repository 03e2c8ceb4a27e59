"""What torch's compiler is told before it sees a pack."""

from __future__ import annotations

import functools

import pytest
import torch
from torch._inductor import exc

from lawfit.train.compiler import compiled


class Deep:
    """Stands for a value whose text grows with every layer before it."""

    def __str__(self) -> str:
        raise AssertionError("written out")

    __repr__ = __str__


def double(x: torch.Tensor) -> torch.Tensor:
    return 2 * x


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Functions are traced, and run without a compiler."""
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))
    monkeypatch.setattr(exc.OperatorIssue, "operator_str", exc.OperatorIssue.operator_str)  # as it was, afterwards


@pytest.mark.usefixtures("traced")
def test_an_older_compiler_does_not_write_out_the_arguments_of_our_operations(monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = "lawfit::attention", [Deep(), 4], {"scale": Deep()}
    monkeypatch.setattr(torch, "__version__", "2.13.0+cpu")
    compiled(double)
    with pytest.raises(AssertionError, match="written out"):
        exc.MissingOperatorWithoutDecomp.operator_str(*arguments)
    monkeypatch.setattr(torch, "__version__", "2.11.0+cu130")
    compiled(double)
    text = exc.MissingOperatorWithoutDecomp.operator_str(*arguments)
    assert "lawfit::attention" in text
    assert "Deep, int, scale=Deep" in text


@pytest.mark.usefixtures("traced")
def test_a_compiled_function_gives_what_it_gave() -> None:
    x = torch.arange(6.0).reshape(2, 3)
    whole = compiled(double)
    for shape in ((2, 3), (3, 2), (6, 1)):
        assert torch.equal(whole(x.reshape(shape)), double(x.reshape(shape)))
