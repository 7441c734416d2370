"""The rollout engine against transformers' own `generate` and forward pass, on real models."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import GenerationConfig

from motif_lite.policies.local import LocalPolicy
from motif_lite.recipe import Recipe
from motif_lite.types import Sampling
from tests.fakes import write
from tests.test_policies import disturb_adapter, load, rendered

MakeRecipe = Callable[..., Recipe]

GREEDY = Sampling(max_tokens=20, temperature=0.0)
SAMPLED = Sampling(max_tokens=20, temperature=0.9, top_p=0.9)


@pytest.fixture
def policy(qwen_folder: Path, tiny_recipe: MakeRecipe) -> LocalPolicy:
    policy = load(qwen_folder, tiny_recipe())
    disturb_adapter(policy)
    assert policy.engine is not None
    return policy


def ragged(policy: LocalPolicy) -> list[str]:
    """Prompts of many lengths, some of them twice and some with a beginning in common, not next to each other."""
    shared = rendered(policy, 1, 12, 12)[0]
    prompts = [*rendered(policy, 6), shared, shared.replace("<|user|>", "<|user|>", 1) + "a0", shared + "a0b4c5d3"]
    return [*prompts, prompts[2], shared, *prompts[:2]]


def test_greedy_replies_equal_those_of_generate_on_each_prompt_alone(policy: LocalPolicy) -> None:
    prompts = ragged(policy)
    for adapter in (True, False):
        with torch.no_grad(), policy.model.disable_adapter() if not adapter else torch.no_grad():
            expected = [generated_alone(policy, prompt) for prompt in prompts]
            for width in (1, 3, len(prompts)):
                policy.max_width = width
                assert [list(reply.token_ids) for reply in write(policy, prompts, GREEDY)] == expected


def generated_alone(policy: LocalPolicy, prompt: str) -> list[int]:
    ids = torch.tensor([policy._encode(prompt)])
    config = GenerationConfig(
        max_new_tokens=GREEDY.max_tokens, eos_token_id=policy.stop_ids, pad_token_id=policy.tokenizer.pad_token_id
    )
    output = type(policy.model).generate(policy.model, input_ids=ids, generation_config=config)
    new: list[int] = output[0, ids.shape[1] :].tolist()
    return new
