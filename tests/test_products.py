"""Linear layers by oneDNN: the same products, and layers that are left as they were."""

import pytest
import torch

from motif_lite.policies import onednn


@pytest.fixture
def model() -> torch.nn.Sequential:
    return torch.nn.Sequential(torch.nn.Linear(256, 512), torch.nn.Linear(512, 128, bias=False))


@pytest.mark.parametrize("rows", [1, 40])
def test_products_are_the_same_up_to_rounding(model: torch.nn.Sequential, rows: int) -> None:
    states = torch.randn(rows, 3, 256)
    with torch.inference_mode():
        expected = model(states)
        with onednn.fast_products(model):
            assert torch.allclose(model(states), expected, atol=1e-5)


def test_layers_are_put_back_after_an_exception(model: torch.nn.Sequential) -> None:
    with pytest.raises(RuntimeError, match="inside"), onednn.fast_products(model):
        assert all("forward" in vars(layer) for layer in model)
        raise RuntimeError("inside")
    assert not any("forward" in vars(layer) for layer in model)


def test_layers_in_half_precision_are_left_alone(model: torch.nn.Sequential) -> None:
    with onednn.fast_products(model.to(torch.bfloat16)):
        assert not any("forward" in vars(layer) for layer in model)
