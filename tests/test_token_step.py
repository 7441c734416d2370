"""The engine's token step: it waits for the device only to ask who has ended, and launches few operations."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from motif_lite.nouns import Sampling
from motif_lite.policies.engine import batch, engine, sampler
from motif_lite.policies.local import LocalPolicy
from motif_lite.recipe.schema import Recipe
from tests.fakes import write
from tests.test_policies import disturb_adapter, load, rendered

MakeRecipe = Callable[..., Recipe]
ROOT = Path(__file__).parents[1]

_OPERATIONS = {
    "_local_scalar_dense", "item", "is_nonzero", "nonzero", "nonzero_numpy", "argwhere", "masked_select", "equal",
    "allclose", "_unique", "_unique2", "unique_dim", "unique_consecutive", "bincount", "repeat_interleave",
}  # fmt: skip
"""Those whose result, or its size, a GPU has to be waited for."""

_METHODS = {
    "item", "tolist", "numpy", "cpu", "__array__", "__bool__", "__int__", "__float__", "__index__", "__contains__",
}  # fmt: skip
"""Of tensors, which on a CPU read memory with no operation that could be seen."""


class _Wait(Exception):
    """What would wait."""


class _Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts operations that are no views; raises at those that wait, as indexing with truth values does."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.count = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = function._schema.name.partition("::")[2]
        chosen = args[1] if name in ("index", "index_put", "index_put_", "_index_put_impl_") else ()
        by_truth = any(each is not None and each.dtype == torch.bool for each in chosen)
        if name in _OPERATIONS or by_truth or (name == "where" and len(args) == 1):
            raise _Wait(name)
        result = function(*args, **(kwargs or {}))
        self.count += function._schema.is_mutable or not _is_view(result, args)
        return result


def _is_view(result: Any, args: Any) -> bool:
    results = result if isinstance(result, tuple | list) else (result,)
    known = {each.untyped_storage().data_ptr() for each in args if isinstance(each, torch.Tensor)}
    return all(isinstance(each, torch.Tensor) and each.untyped_storage().data_ptr() in known for each in results)


class _Methods(TorchFunctionMode):
    """Raises where a tensor's values are read from Python."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(function, "__name__", "")
        if name in _METHODS or (name == "to" and "cpu" in [each for each in args if isinstance(each, str)]):
            raise _Wait(name)
        return function(*args, **(kwargs or {}))


@contextmanager
def not_waiting() -> Iterator[_Operations]:
    with _Methods(), _Operations() as operations:
        yield operations


class Watched(batch.Batch):
    """Nothing waits but what asks who has ended, and what begins sequences then."""

    operations: list[int]
    """Of each step."""

    def step(self) -> None:
        with not_waiting() as seen:
            super().step()
        self.operations.append(seen.count)

    def retire(self) -> Any:
        asks = self._num_steps % batch.STEPS_BETWEEN_QUESTIONS["cpu"] == 0
        with nullcontext() if asks else not_waiting():
            return super().retire()

    def report(self) -> None:
        with not_waiting():
            super().report()


@pytest.fixture
def operations(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Batches are watched, and asked who has ended as seldom as on a GPU."""
    found: list[int] = []
    monkeypatch.setattr(Watched, "operations", found, raising=False)
    monkeypatch.setattr(engine, "Batch", Watched)
    monkeypatch.setitem(batch.STEPS_BETWEEN_QUESTIONS, "cpu", batch.STEPS_BETWEEN_QUESTIONS["cuda"])
    # As on a GPU without the kernel; a CPU sorts by NumPy.
    monkeypatch.setattr(sampler, "_by_sorting", lambda rows, top_p: sampler._edge(rows.sort(-1).values.flip(-1), top_p))
    return found


@pytest.fixture
def policy(qwen_folder: Path, tiny_recipe: MakeRecipe) -> LocalPolicy:
    policy = load(qwen_folder, tiny_recipe())
    disturb_adapter(policy)
    return policy


@pytest.mark.parametrize(
    ("settings", "is_folded"),
    [
        ({"temperature": 0.0}, True),
        ({"temperature": 1.0}, False),
        ({"temperature": 0.9, "top_p": 0.9}, True),
        ({"temperature": 0.9, "top_k": 5, "min_p": 0.02}, False),
        ({"temperature": 1.0, "stop": ["</answer>", "no such text"]}, True),
    ],
    ids=["greedy", "temperature 1", "top-p", "top-k and min-p", "stop strings"],
)
def test_a_step_waits_for_nothing(
    policy: LocalPolicy,
    operations: list[int],
    settings: dict[str, Any],
    is_folded: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if not is_folded:
        monkeypatch.setattr("motif_lite.policies.merged_lora.LARGEST_FOLDED_BYTES", 0)
    policy.max_width = 3
    replies = write(policy, rendered(policy, 6), Sampling(max_tokens=20, **settings))
    assert len(replies) == 6
    assert len(operations) >= 20
    assert policy.engine is not None
    assert policy.engine.decodes


_SOME = torch.arange(3)


@pytest.mark.parametrize(
    "wait",
    [
        lambda: _SOME[0].item(), lambda: bool(_SOME[0]), lambda: int(_SOME[0]), lambda: [0, 1][_SOME[0]],
        lambda: 2 in _SOME, _SOME.tolist, _SOME.numpy, _SOME.cpu, lambda: _SOME.to("cpu"), _SOME.nonzero,
        lambda: _SOME[_SOME > 1], lambda: torch.equal(_SOME, _SOME), _SOME.unique, lambda: torch.where(_SOME > 1),
        lambda: _SOME.masked_select(_SOME > 1),
    ],
)  # fmt: skip
def test_what_waits_is_noticed(wait: Callable[[], object]) -> None:
    with torch.inference_mode(), pytest.raises(_Wait), not_waiting():
        wait()


def test_a_step_has_as_few_operations_as_the_page_says(
    policy: LocalPolicy, operations: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Greedy, two layers and one; each operation that is no view is a launch or more on a GPU."""
    page = (ROOT / "docs" / "engine.md").read_text(encoding="utf-8")
    stated = re.search(r"layer of Qwen 2 takes (\d+) .*?, (\d+) with an adapter .*?; everything else takes (\d+)", page)
    assert stated is not None
    plain, with_adapter, others = map(int, stated.groups())
    monkeypatch.setattr("motif_lite.policies.merged_lora.LARGEST_FOLDED_BYTES", 0)
    base, counts = policy.model.get_base_model(), dict[tuple[str, int], int]()
    for num_layers in (2, 1):
        del base.get_decoder().layers[num_layers:]
        base.config.num_hidden_layers = num_layers
        for name, mode in {"plain": policy.model.disable_adapter(), "with adapter": nullcontext()}.items():
            operations.clear()
            with mode:
                write(policy, rendered(policy, 3), Sampling(max_tokens=8, temperature=0.0))
            counts[name, num_layers] = max(operations)
    assert counts["plain", 2] - counts["plain", 1] <= plain
    assert counts["with adapter", 2] - counts["with adapter", 1] <= with_adapter
    assert counts["with adapter", 2] <= 2 * with_adapter + others
