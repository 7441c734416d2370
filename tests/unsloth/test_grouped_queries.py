"""Grouped queries in the pinned Unsloth's token steps: the same replies, or else Unsloth's own way."""

import logging
import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention as sdpa

from motif_lite.nouns import Reply, Sampling
from motif_lite.policies import grouped_queries
from motif_lite.policies.local import LocalPolicy
from tests.fakes import write
from tests.unsloth.conftest import PINNED
from tests.unsloth.test_policy import MakeRecipe, disturb_adapter, load, prompts

pytestmark = pytest.mark.skipif(not PINNED, reason="Unsloth's CPU backend has stock models")

GREEDY = Sampling(max_tokens=4, temperature=0.0)


@pytest.fixture(scope="module")
def policy(make_recipe: MakeRecipe) -> LocalPolicy:
    policy = load(make_recipe())
    policy.engine = None  # as where our decoder cannot take over
    grouped_queries.use(policy, "2026.10.7")
    return policy


@pytest.fixture
def llama(policy: LocalPolicy) -> Iterator[Any]:
    from unsloth.models import llama

    in_place = llama.scaled_dot_product_attention
    yield llama
    llama.scaled_dot_product_attention = in_place


@pytest.mark.parametrize("adapter", [False, True])
def test_padded_replies_are_unsloths_own_and_those_of_each_prompt_alone(
    policy: LocalPolicy, llama: Any, adapter: bool
) -> None:
    disturb_adapter(policy, scale=0.1 * adapter)
    seen: list[tuple[int, ...]] = []

    def watching(query: torch.Tensor, *arguments: Any, **named: Any) -> torch.Tensor:
        seen.append(tuple(query.shape))
        return sdpa(query, *arguments, **named)

    llama.scaled_dot_product_attention = watching
    own = write(policy, prompts(policy), GREEDY)
    assert {shape[1] for shape in seen if shape[2] == 1} == {2}, "the model has two query heads for one key head"
    seen.clear()
    llama.scaled_dot_product_attention = grouped_queries.Grouped(watching)
    found = write(policy, prompts(policy), GREEDY)
    assert {shape[1:3] for shape in seen} >= {(1, 2)}
    assert found == own == [write(policy, [text], GREEDY)[0] for text in prompts(policy)]
    assert grouped_queries.largest_difference(own, found) < 1e-4


def test_a_policy_without_the_engine_attends_so(policy: LocalPolicy, llama: Any) -> None:
    assert isinstance(llama.scaled_dot_product_attention, grouped_queries.Grouped)
    assert llama.scaled_dot_product_attention.own is sdpa


@pytest.mark.parametrize("fault", ["heads swapped", "no mask", "an exception"])
def test_wrong_attention_is_found_at_load_and_unsloths_own_stays(
    policy: LocalPolicy, llama: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, fault: str
) -> None:
    def wrong(attend: Any) -> Any:
        right = right_class(attend)

        def attention(query: Any, key: Any, value: Any, attn_mask: Any = None, **named: Any) -> Any:
            if fault == "an exception":
                raise RuntimeError("no kernel for this\nmore")
            if fault == "no mask":
                return right(query, key, value, attn_mask=None, **named)
            found = right(query, key, value, attn_mask=attn_mask, **named)
            return found.flip(1)

        return attention

    right_class = grouped_queries.Grouped
    monkeypatch.setattr(grouped_queries, "Grouped", wrong)
    llama.scaled_dot_product_attention = sdpa
    with caplog.at_level(logging.WARNING, "motif_lite"):
        grouped_queries.use(policy, "2026.10.7")
    assert llama.scaled_dot_product_attention is sdpa
    [warning] = [record.getMessage() for record in caplog.records if "Unsloth's own attention" in record.getMessage()]
    assert ("no kernel for this" in warning) == (fault == "an exception")


def test_another_version_keeps_its_own_attention(
    policy: LocalPolicy, llama: Any, caplog: pytest.LogCaptureFixture
) -> None:
    llama.scaled_dot_product_attention = sdpa
    with caplog.at_level(logging.WARNING, "motif_lite"):
        grouped_queries.use(policy, "2027.1.1")
    assert llama.scaled_dot_product_attention is sdpa
    assert "unsloth 2027.1.1" in caplog.text


def test_what_is_not_a_number_differs_most() -> None:
    some, others = (Reply("", 2, "length", (1, 2), logprobs) for logprobs in ((-1.0, -1.0), (-1.5, float("nan"))))
    assert math.isnan(grouped_queries.largest_difference([some], [others]))
    after = replace(others, token_ids=(3, 2))
    assert grouped_queries.largest_difference([some], [after]) == 0.5, "what follows another token is another text"


def test_other_calls_are_left_alone() -> None:
    """Training and reading prompts have many queries; without groups there is nothing to hand over."""
    generator = torch.Generator().manual_seed(1)
    query, key, value = torch.randn(3, 2, 4, 5, 8, generator=generator)
    attend = grouped_queries.Grouped(sdpa)
    assert torch.equal(attend(query, key, value, is_causal=True), sdpa(query, key, value, is_causal=True))


def test_grouped_attention_takes_a_kernel_that_needs_no_repetition() -> None:
    """Flash attention stands here for the kernels of a GPU: on a CPU it is the one besides the math path."""
    generator = torch.Generator().manual_seed(1)
    query = torch.randn(3, 16, 1, 64, generator=generator)
    key, value = torch.randn(2, 3, 2, 50, 64, generator=generator)
    mask = torch.rand(3, 1, 1, 50, generator=generator) < 0.7
    with sdpa_kernel(SDPBackend.MATH):
        expected = sdpa(query, key, value, attn_mask=mask, enable_gqa=True)
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
        found = grouped_queries.Grouped(sdpa)(query, key, value, attn_mask=mask, enable_gqa=True)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
