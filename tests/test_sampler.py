"""Drawing tokens: the right frequencies, the right cuts, and streams that hang on nothing but their seed."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from motif_lite.nouns import Sampling
from motif_lite.policies.engine import sampler


def logits(rows: int, size: int = 50, seed: int = 0) -> torch.Tensor:
    return 3 * torch.randn(rows, size, generator=torch.Generator().manual_seed(seed))


def frequencies(row: torch.Tensor, sampling: Sampling, num_drawn: int = 20_000) -> torch.Tensor:
    """How often each token is drawn, with uniforms that lie evenly."""
    at = (torch.arange(num_drawn) + 0.5) / num_drawn
    tokens, _ = sampler.draw(row.expand(num_drawn, -1), sampling, at)
    return torch.bincount(tokens, minlength=len(row)) / num_drawn


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(),
        Sampling(temperature=0.6),
        Sampling(temperature=1.7, top_p=0.8),
        Sampling(top_k=5),
        Sampling(top_k=1),
        Sampling(top_k=500),
        Sampling(min_p=0.1),
        Sampling(temperature=0.8, top_k=12, top_p=0.9, min_p=0.02),
        Sampling(top_p=1e-6),
    ],
)
def test_tokens_come_as_often_as_in_the_distribution_that_transformers_makes(sampling: Sampling) -> None:
    for row in logits(3):
        steps = [TemperatureLogitsWarper(sampling.temperature)]
        if sampling.top_k:
            steps.append(TopKLogitsWarper(sampling.top_k))
        steps += [TopPLogitsWarper(sampling.top_p), MinPLogitsWarper(sampling.min_p)]
        expected = LogitsProcessorList(steps)(None, row[None].clone())[0].softmax(-1)
        found = frequencies(row, sampling)
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
        assert not found[expected == 0].any()


def test_greedy_takes_the_likeliest_whatever_the_other_settings() -> None:
    rows = logits(9)
    tokens, _ = sampler.draw(rows, Sampling(temperature=0, top_p=0.1, top_k=2, min_p=0.5), torch.rand(9))
    assert tokens.tolist() == rows.argmax(-1).tolist()


@pytest.mark.parametrize("temperature", [1e-20, 1e-42])
def test_next_to_no_temperature_takes_the_likeliest(temperature: float) -> None:
    rows = logits(9)
    tokens, _ = sampler.draw(rows, Sampling(temperature=temperature), torch.rand(9))
    assert tokens.tolist() == rows.argmax(-1).tolist()


def test_log_probabilities_are_of_the_distribution_before_temperature_and_cuts() -> None:
    rows = logits(9)
    tokens, logprobs = sampler.draw(rows, Sampling(temperature=0.5, top_k=3), torch.rand(9))
    torch.testing.assert_close(logprobs, rows.log_softmax(-1).gather(-1, tokens[:, None])[:, 0])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_drawn_from_in_full(dtype: torch.dtype) -> None:
    rows = logits(4).to(dtype)
    at = torch.rand(4)
    assert sampler.draw(rows, Sampling(), at)[0].equal(sampler.draw(rows.float(), Sampling(), at)[0])


@settings(max_examples=200, deadline=None)
@given(
    values=st.lists(st.floats(-100, 100, width=32), min_size=1, max_size=40),
    at=st.sampled_from([0.0, 1e-9, 0.5, 1 - 2**-20]),
    top_p=st.floats(0.01, 1.0),
    top_k=st.integers(0, 50),
    min_p=st.floats(0.0, 0.99),
)
def test_what_is_drawn_is_always_a_token_that_is_possible(
    values: list[float], at: float, top_p: float, top_k: int, min_p: float
) -> None:
    row = torch.tensor([values])
    sampling = Sampling(top_p=top_p, top_k=top_k, min_p=min_p)
    [token], [logprob] = sampler.draw(row, sampling, torch.tensor([at]))
    assert row[0, token] >= row.max() + torch.tensor(max(min_p, 1e-38)).log() - 1e-3
    assert (row[0] > row[0, token]).sum() < (top_k or 50)
    assert -1000 < logprob <= 1e-5


def test_a_stream_hangs_on_its_seed_alone_and_never_reaches_one() -> None:
    torch.manual_seed(1)
    first = sampler.uniforms(7, 1000)
    torch.manual_seed(2)
    assert sampler.uniforms(7, 1000).equal(first)
    assert sampler.uniforms(7, 10).equal(first[:10])
    assert not sampler.uniforms(8, 1000).equal(first)
    assert first.min() >= 0
    assert first.max() < 1
