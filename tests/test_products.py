"""Linear layers by oneDNN: the same products, and layers that are left as they were."""

from pathlib import Path

import pytest
import torch

from motif_lite.policies import onednn
from motif_lite.policies.batch_sizes import rounded_up


@pytest.fixture
def model() -> torch.nn.Sequential:
    return torch.nn.Sequential(torch.nn.Linear(256, 512), torch.nn.Linear(512, 128, bias=False))


def resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20


def test_batches_are_rounded_up_to_few_sizes() -> None:
    sizes = [rounded_up(rows) for rows in range(1, 1025)]
    assert sizes == sorted(sizes)
    assert all(size >= rows for rows, size in enumerate(sizes, start=1))
    assert all(size <= 1.25 * rows for rows, size in enumerate(sizes, start=1) if rows > 32)
    assert len(set(sizes)) == 27
    assert all(rounded_up(size) == size for size in sizes)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="resident memory is read as Linux gives it")
def test_memory_does_not_grow_with_the_numbers_of_rows_that_occur(model: torch.nn.Sequential) -> None:
    """Without rounding it grows by some 200 MiB here."""
    with torch.inference_mode(), onednn.fast_products(model):
        for rows in range(1, 201, 8):
            model(torch.ones(rounded_up(rows), 256))
        before = resident_mib()
        for rows in range(1, 201):
            model(torch.ones(rows, 256))
    assert resident_mib() - before < 20


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
