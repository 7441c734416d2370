"""The kernel that finds a nucleus, by Triton's interpreter, against sorting."""

import pytest
import torch

from motif_lite.policies.engine import nucleus, sampler

pytest.importorskip("triton", reason="Triton comes with Unsloth as it is for a GPU")


def test_the_kernel_is_used() -> None:
    nucleus.by_halving.cache_clear()
    assert nucleus.by_halving(sampler._by_sorting, torch.device("cpu")) is not sampler._by_sorting


@pytest.mark.parametrize("size", [1, 3, 300, 4096, 9001])
@pytest.mark.parametrize("sharpness", [0.0, 0.01, 3.0, 50.0])
@pytest.mark.parametrize("top_p", [1e-6, 0.5, 0.95, 0.999])
def test_it_finds_what_sorting_finds(size: int, sharpness: float, top_p: float) -> None:
    noise = torch.randn(4, size, generator=torch.Generator().manual_seed(size))
    probabilities = (sharpness * noise).softmax(-1)
    found, expected = nucleus._kernel()(probabilities, top_p), sampler._by_sorting(probabilities, top_p)
    # Equal probabilities are all kept; where sums are made in another order, one more or less may be.
    torch.testing.assert_close(found, expected, rtol=2e-3, atol=0)
    kept = (probabilities * (probabilities >= found)).sum(-1)
    assert (kept >= top_p - 1e-5).all()


def test_rows_without_numbers_keep_all() -> None:
    probabilities = torch.full((2, 10), torch.nan)
    assert (nucleus._kernel()(probabilities, 0.9) == 0).all()
