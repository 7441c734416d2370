"""Which way of finding a nucleus is taken; the kernel itself is run by tests/unsloth, where Triton is."""

import logging

import pytest
import torch

from motif_lite.policies.engine import nucleus, sampler

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def anew() -> None:
    nucleus.by_halving.cache_clear()


def of_wrong_numbers(probabilities: torch.Tensor, top_p: float) -> torch.Tensor:
    return sampler._by_sorting(probabilities, top_p + 0.02)


@pytest.mark.parametrize("fault", ["it is wrong", "no compiler"])
def test_a_kernel_that_is_no_use_is_not_used_and_that_is_said_once(
    fault: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def kernel() -> nucleus.Least:
        if fault == "no compiler":
            raise RuntimeError("Failed to find C compiler.\nPlease specify via CC")
        return of_wrong_numbers

    monkeypatch.setattr(nucleus, "_kernel", kernel)
    with caplog.at_level(logging.WARNING):
        ways = [nucleus.by_halving(sampler._by_sorting, CPU) for _ in range(2)]
    assert ways == [sampler._by_sorting] * 2
    [said] = [record.getMessage() for record in caplog.records]
    expected = "RuntimeError: Failed to find C compiler." if fault == "no compiler" else "it finds another one"
    assert expected in said
    assert "\n" not in said


def test_a_kernel_that_agrees_with_sorting_is_used(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def least(probabilities: torch.Tensor, top_p: float) -> torch.Tensor:
        return sampler._by_sorting(probabilities, top_p)

    monkeypatch.setattr(nucleus, "_kernel", lambda: least)
    assert nucleus.by_halving(sampler._by_sorting, CPU) is least
    assert not caplog.records
