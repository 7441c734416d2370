"""What can be checked of generation with vLLM where there is no vLLM: what it is asked for, and what it is told."""

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from motif_lite.errors import MissingHardwareError
from motif_lite.policies import vllm_engine
from motif_lite.policies.vllm_engine import VllmEngine
from motif_lite.types import Sampling


class Model:
    """An Unsloth model with an engine, as far as our calls go; every adapter has a number of its own."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, dict[str, Any]]] = []
        self.adapters = 0

    def load_lora(self, folder: str, *, load_tensors: bool) -> int:
        assert load_tensors, "the adapter as it stands, not one in a file"
        self.adapters += 1
        return self.adapters

    def fast_generate(self, prompts: Any, **named: Any) -> Any:
        self.calls.append((prompts, named))
        return [SimpleNamespace(outputs=[SimpleNamespace(token_ids=(row, 7))]) for row, _ in enumerate(prompts)]


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Model:
    vllm: Any = ModuleType("vllm")
    vllm.SamplingParams = lambda **named: named
    monkeypatch.setitem(sys.modules, "vllm", vllm)
    return Model()


def test_a_missing_vllm_is_named_with_the_remedy() -> None:
    with pytest.raises(MissingHardwareError, match=r"pip install vllm, or set model\.fast_inference to false"):
        vllm_engine.require()


def test_one_call_holds_all_prompts_and_replies_keep_their_order(model: Model) -> None:
    assert VllmEngine(model, [9]).generate([[1, 2], [3], [4]], Sampling(max_tokens=5), seed=3) == [
        [0, 7],
        [1, 7],
        [2, 7],
    ]
    [(prompts, named)] = model.calls
    assert prompts == [{"prompt_token_ids": [1, 2]}, {"prompt_token_ids": [3]}, {"prompt_token_ids": [4]}]
    assert [params["max_tokens"] for params in named["sampling_params"]] == [5, 5, 5]


def test_every_call_takes_the_adapter_as_it_stands(model: Model) -> None:
    engine = VllmEngine(model, [9])
    for _ in range(2):
        engine.generate([[1]], Sampling(), seed=0)
    assert [named["lora_request"] for _, named in model.calls] == [1, 2]


def test_futures_of_one_prompt_have_seeds_of_their_own_that_hang_on_ours(model: Model) -> None:
    engine = VllmEngine(model, [9])
    for seed in (5, 5, 2**63 - 1):
        engine.generate([[1], [1], [1]], Sampling(), seed=seed)
    first, again, largest = ([params["seed"] for params in named["sampling_params"]] for _, named in model.calls)
    assert first == again
    assert len(set(first)) == 3
    assert all(0 <= seed < 2**63 for seed in largest)


@pytest.mark.parametrize(("ours", "theirs"), [(0, -1), (20, 20)])
def test_every_setting_of_the_sampling_is_handed_on(ours: int, theirs: int) -> None:
    sampling = Sampling(max_tokens=5, temperature=0.7, top_p=0.9, top_k=ours)
    assert vllm_engine.sampling_options(sampling, 3, [9, 8]) == {
        "max_tokens": 5, "temperature": 0.7, "top_p": 0.9, "top_k": theirs, "seed": 3, "stop_token_ids": [9, 8],
    }  # fmt: skip
