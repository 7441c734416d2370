"""What can be checked of generation with vLLM where there is no vLLM: what it is asked for, and what it is told."""

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from motif_lite.errors import MissingHardwareError
from motif_lite.nouns import Sampling
from motif_lite.policies import vllm_engine
from motif_lite.policies.engine.sampler import Generated, Request
from motif_lite.policies.vllm_engine import VllmEngine


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
        return [
            SimpleNamespace(
                outputs=[
                    SimpleNamespace(
                        token_ids=(row, 7),
                        logprobs=[{row: SimpleNamespace(logprob=-0.5)}, {7: SimpleNamespace(logprob=-0.25)}],
                        finish_reason="stop",
                    )
                ]
            )
            for row, _ in enumerate(prompts)
        ]


def requests(*prompts: list[int], seed: int = 0) -> list[Request]:
    return [Request(index, ids, seed + index) for index, ids in enumerate(prompts)]


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Model:
    vllm: Any = ModuleType("vllm")
    vllm.SamplingParams = lambda **named: named
    monkeypatch.setitem(sys.modules, "vllm", vllm)
    return Model()


def test_a_missing_vllm_is_named_with_the_remedy() -> None:
    with pytest.raises(MissingHardwareError, match=r"requirements-vllm\.txt .*or set model\.fast_inference to false"):
        vllm_engine.require()


def test_one_call_holds_all_prompts_and_replies_keep_their_order(model: Model) -> None:
    written = VllmEngine(model, [9]).sequences(requests([1, 2], [3], [4]), Sampling(max_tokens=5))
    assert dict(written) == {row: Generated([row, 7], [-0.5, -0.25], "stop") for row in range(3)}
    [(prompts, named)] = model.calls
    assert prompts == [{"prompt_token_ids": [1, 2]}, {"prompt_token_ids": [3]}, {"prompt_token_ids": [4]}]
    assert [params["max_tokens"] for params in named["sampling_params"]] == [5, 5, 5]


def test_every_call_takes_the_adapter_as_it_stands(model: Model) -> None:
    engine = VllmEngine(model, [9])
    for _ in range(2):
        list(engine.sequences(requests([1]), Sampling()))
    assert [named["lora_request"] for _, named in model.calls] == [1, 2]


def test_futures_of_one_prompt_have_seeds_of_their_own(model: Model) -> None:
    list(VllmEngine(model, [9]).sequences(requests([1], [1], [1], seed=5), Sampling()))
    [(_, named)] = model.calls
    assert [params["seed"] for params in named["sampling_params"]] == [5, 6, 7]


@pytest.mark.parametrize(("ours", "theirs"), [(0, -1), (20, 20)])
def test_every_setting_of_the_sampling_is_handed_on(ours: int, theirs: int) -> None:
    sampling = Sampling(max_tokens=5, temperature=0.7, top_p=0.9, top_k=ours, min_p=0.1, stop=["</answer>"])
    assert vllm_engine.sampling_options(sampling, 3, [9, 8]) == {
        "max_tokens": 5, "temperature": 0.7, "top_p": 0.9, "top_k": theirs, "min_p": 0.1, "seed": 3,
        "stop_token_ids": [9, 8], "stop": ["</answer>"], "include_stop_str_in_output": True, "logprobs": 0,
    }  # fmt: skip
