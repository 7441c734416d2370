"""The rollout engine against transformers' own `generate` and forward pass, on real models."""

import re
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig

from motif_lite.errors import ModelError
from motif_lite.nouns import Problem, Reply, Sampling, TokenProgress, Turn
from motif_lite.planning import limits
from motif_lite.policies.batch_sizes import rounded_up
from motif_lite.policies.engine import batch, engine
from motif_lite.policies.engine.kv_cache import RowCache
from motif_lite.policies.local import LocalPolicy
from motif_lite.recipe.schema import Recipe
from motif_lite.rollout.rollouts import Rollouts
from motif_lite.rollout.strategies import STRATEGIES
from motif_lite.tasks import chain_sum
from tests.fakes import write
from tests.test_policies import disturb_adapter, load, rendered

MakeRecipe = Callable[..., Recipe]

GREEDY = Sampling(max_tokens=20, temperature=0.0)
SAMPLED = Sampling(max_tokens=20, temperature=0.9, top_p=0.9)


@pytest.fixture
def policy(qwen_folder: Path, tiny_recipe: MakeRecipe) -> LocalPolicy:
    policy = load(qwen_folder, tiny_recipe())
    disturb_adapter(policy)
    return policy


def ragged(policy: LocalPolicy) -> list[str]:
    """Prompts of many lengths; some come twice, some begin alike, and not next to each other."""
    longest = rendered(policy, 1, 12, 12)[0]
    prompts = [*rendered(policy, 6), longest, longest + "a0", longest + "a0b4c5d3e1f7"]
    return [*prompts, prompts[2], longest, *prompts[:2]]


def ids(replies: Sequence[Reply]) -> list[list[int]]:
    return [list(reply.token_ids) for reply in replies]


def often_ending(policy: LocalPolicy, rate: float) -> LocalPolicy:
    """Make the end of a turn about this likely everywhere, so that lengths differ."""
    head = policy.model.get_base_model().lm_head
    stop = policy.stop_ids[0]

    def with_ends(module: Any, inputs: Any, logits: torch.Tensor) -> torch.Tensor:
        others = logits.clone()
        others[..., stop] = -torch.inf
        logits[..., stop] = others.logsumexp(-1) + torch.logit(torch.tensor(rate))
        return logits

    head.register_forward_hook(with_ends)
    return policy


@pytest.mark.parametrize("with_adapter", [True, False])
def test_greedy_replies_equal_those_of_generate_on_each_prompt_alone(policy: LocalPolicy, with_adapter: bool) -> None:
    prompts = ragged(policy)
    with nullcontext() if with_adapter else policy.model.disable_adapter():
        alone = [_generated_alone(policy, prompt) for prompt in prompts]
        for width in (1, 3, len(prompts)):
            policy.max_width = width
            assert ids(write(policy, prompts, GREEDY)) == alone


def _generated_alone(policy: LocalPolicy, prompt: str) -> list[int]:
    tokens = torch.tensor([policy.encode(prompt)])
    config = GenerationConfig(
        max_new_tokens=GREEDY.max_tokens, eos_token_id=policy.stop_ids, pad_token_id=policy.tokenizer.pad_token_id
    )
    with torch.no_grad():
        output = type(policy.model).generate(policy.model, input_ids=tokens, generation_config=config)
    new: list[int] = output[0, tokens.shape[1] :].tolist()
    return new


@pytest.mark.parametrize("sampling", [SAMPLED, SAMPLED.model_copy(update={"temperature": 0.0})])
def test_log_probabilities_are_those_of_a_plain_forward_pass(policy: LocalPolicy, sampling: Sampling) -> None:
    prompts = ragged(often_ending(policy, 0.05))
    policy.max_width = 4
    policy.model.eval()
    for prompt, reply in zip(prompts, write(policy, prompts, sampling), strict=True):
        start = policy.encode(prompt)
        with torch.no_grad():
            logits = policy.model(input_ids=torch.tensor([[*start, *reply.token_ids]])).logits[0]
        plain = logits.log_softmax(-1)[len(start) - 1 : -1].gather(-1, torch.tensor(reply.token_ids)[:, None])[:, 0]
        torch.testing.assert_close(torch.tensor(reply.logprobs), plain, atol=1e-4, rtol=0)


def test_replies_are_the_same_at_any_width_and_as_long_as_they_are(policy: LocalPolicy) -> None:
    prompts = ragged(often_ending(policy, 0.1)) * 3
    policy.max_width = len(prompts)
    wide = write(policy, prompts, SAMPLED)
    assert len({reply.num_tokens for reply in wide}) > 8
    assert {reply.finish for reply in wide} == {"stop", "length"}
    for reply in wide:
        ends = [token in policy.stop_ids for token in reply.token_ids]
        assert ends == [False] * (len(ends) - 1) + [reply.finish == "stop"]
        assert len(reply.logprobs) == reply.num_tokens
    for width in (1, 4, 32):
        policy.max_width = width
        assert write(policy, prompts, SAMPLED) == wide


def test_a_device_that_is_asked_seldom_who_has_ended_gives_the_same(
    policy: LocalPolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU, where rows write on for some steps after their end, or their limit."""
    prompts = ragged(often_ending(policy, 0.1)) * 2
    at_once = write(policy, prompts, SAMPLED)
    monkeypatch.setitem(batch.STEPS_BETWEEN_QUESTIONS, "cpu", 8)
    for width in (4, len(prompts)):
        policy.max_width = width
        assert write(policy, prompts, SAMPLED) == at_once


def test_the_models_own_generate_writes_the_same_with_the_same_streams(policy: LocalPolicy) -> None:
    """What backends fall back on whose attention the engine cannot take over."""
    prompts = ragged(often_ending(policy, 0.1))
    sampling = SAMPLED.model_copy(update={"stop": ["a"], "min_p": 0.02})
    with_engine = write(policy, prompts, sampling)
    policy.engine = None
    for width in (3, len(prompts)):
        policy.max_width = width
        without = write(policy, prompts, sampling)
        assert without == with_engine
        for one, other in zip(without, with_engine, strict=True):
            assert one.logprobs == pytest.approx(other.logprobs, abs=1e-4)


Openings = list[tuple[Problem, Turn]]


def openings(policy: LocalPolicy, recipe: Recipe) -> Openings:
    """Four of each of two problems."""
    strategy = STRATEGIES["multi_round"](recipe.rollout)
    problems = [problem for problem in chain_sum.problems(2, seed=5, split="test") for _ in range(4)]
    prompts = [policy.render(strategy.first_messages(problem)) for problem in problems]
    turns = map(Turn, prompts, write(policy, prompts, SAMPLED))
    return list(zip(problems, turns, strict=True))


def futures(policy: LocalPolicy, recipe: Recipe, given: Openings) -> Rollouts:
    return STRATEGIES["multi_round"](recipe.rollout).continue_openings(policy, given, 4, SAMPLED, seed=1)


def test_rollouts_are_identical_at_width_4_and_32(policy: LocalPolicy, tiny_recipe: MakeRecipe) -> None:
    often_ending(policy, 0.1)
    given, found = openings(policy, tiny_recipe()), []
    for policy.max_width in (4, 32):
        found.append(futures(policy, tiny_recipe(), given))
    assert found[0] == found[1]
    texts = {future.final.text for opening in found[0].openings for future in opening.futures}
    assert len(texts) > 16


def test_running_out_of_memory_halves_the_width_says_so_once_and_changes_nothing(
    policy: LocalPolicy, tiny_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    often_ending(policy, 0.1)
    policy.max_width, given = 32, openings(policy, tiny_recipe())
    expected = futures(policy, tiny_recipe(), given)
    failures = iter([torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("[...] can't allocate memory: 4 GB")])
    fail_after(monkeypatch, 15, failures)
    assert futures(policy, tiny_recipe(), given) == expected
    assert policy.max_width < 16
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 2
    assert "continuing with 16" in said[0]
    assert f"rollout.max_width = {policy.max_width}" in said[1]
    assert next(failures, None) is None


def fail_after(monkeypatch: pytest.MonkeyPatch, steps: int, failures: Any) -> None:
    """Raise the next failure whenever so many steps have been taken, some sequences having ended by then."""
    attend, calls = RowCache.attend, iter(range(10**6))

    def failing(self: RowCache, *arguments: Any) -> None:
        if next(calls) % steps == steps - 1 and (failure := next(failures, None)):
            raise failure
        attend(self, *arguments)

    monkeypatch.setattr(RowCache, "attend", failing)


def test_too_little_memory_for_one_reply_ends_with_the_remedy(
    policy: LocalPolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_after(monkeypatch, 1, iter([torch.OutOfMemoryError("CUDA out of memory")] * 9))
    with pytest.raises(ModelError, match=r"a single reply.*rollout\.futures\.max_tokens"):
        write(policy, rendered(policy, 3), GREEDY)


def test_other_errors_are_not_taken_for_a_lack_of_memory(policy: LocalPolicy, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_after(monkeypatch, 5, iter([RuntimeError("a bug")]))  # after the checks
    with pytest.raises(RuntimeError, match="a bug"):
        write(policy, rendered(policy, 3), GREEDY)


_CHECKS = 4
"""Passes in which a call compares the decoder with the model before anything is written."""


class Passes:
    """Records the shape of every forward pass of a policy's model."""

    def __init__(self, policy: LocalPolicy) -> None:
        self.shapes: list[tuple[int, int]] = []
        policy.model.get_base_model().get_input_embeddings().register_forward_hook(
            lambda module, inputs, output: self.shapes.append(tuple(inputs[0].shape))
        )

    @property
    def read(self) -> int:
        """Prompt tokens, padding included."""
        return sum(rows * columns for rows, columns in self.shapes[_CHECKS:] if columns > 1)

    @property
    def heights(self) -> list[int]:
        """Rows of each step."""
        return [rows for rows, columns in self.shapes[_CHECKS:] if columns == 1]


def test_a_prompt_is_read_once_and_so_is_what_prompts_have_in_common(policy: LocalPolicy) -> None:
    beginning = "abcd" * 20
    prompts = [beginning + tail * 10 for tail in ("a0", "b1", "c2")]
    passes = Passes(policy)
    write(policy, [prompt for prompt in prompts for _ in range(5)], GREEDY)
    # Every prompt's last token is left for the first step.
    assert passes.read == len(beginning) + 20 - 1 + 2 * (20 - 1)


def test_a_prompt_whose_replies_do_not_fit_at_once_is_still_read_once(policy: LocalPolicy) -> None:
    often_ending(policy, 0.2)
    policy.max_width = 3
    passes = Passes(policy)
    prompts = ["a0b4" * 10, "c2d7" * 12]
    write(policy, prompts * 8, SAMPLED)  # not next to each other, either
    assert passes.read == 40 - 1 + 48 - 1


def test_short_replies_do_not_wait_for_the_longest(policy: LocalPolicy) -> None:
    often_ending(policy, 0.2)
    passes = Passes(policy)
    replies = write(policy, rendered(policy, 24), SAMPLED)
    lengths = [reply.num_tokens for reply in replies]
    going_on = [sum(length > step for length in lengths) for step in range(max(lengths))]
    assert len(set(going_on)) > 8
    assert passes.heights == list(map(rounded_up, going_on)), "a step has as many rows as go on, in few sizes"
    policy.max_width = 6
    passes.shapes.clear()
    write(policy, rendered(policy, 24), SAMPLED)
    assert max(passes.heights) == 6
    assert len(passes.heights) < 0.7 * 4 * SAMPLED.max_tokens, "rows are given to those that wait"


def test_a_long_prompt_is_read_whole_and_many_in_bounded_batches(
    policy: LocalPolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "READ_TOKENS", 64)
    prompts = [letter * 30 for letter in "abcdefg"] + ["h" * 100]
    passes = Passes(policy)
    write(policy, prompts, GREEDY)
    reads = [shape for shape in passes.shapes[_CHECKS:] if shape[1] > 1]
    assert sorted(reads) == [(1, 29), (1, 99), (2, 29), (2, 29), (2, 29)]


def test_what_one_pass_looks_back_on_is_bounded_too(policy: LocalPolicy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "READ_COLUMNS", 200)
    passes = Passes(policy)
    write(policy, ["abcd" * 10 + letter * 10 for letter in "efghijk"], GREEDY)
    reads = [shape for shape in passes.shapes[_CHECKS:] if shape[1] > 1]
    assert reads == [(1, 49), (4, 9), (2, 9)], "200 holds four rows of what six short ends look back on"


def test_a_stop_string_ends_a_reply_once_it_stands_in_it(policy: LocalPolicy) -> None:
    prompts = rendered(policy, 12)
    whole = write(policy, prompts, SAMPLED)
    wanted = max(re.findall(r"[a-z0-9=]{2}", "".join(reply.text[3:] for reply in whole)))
    stopping = write(policy, prompts, SAMPLED.model_copy(update={"stop": [wanted, "no such text"]}))
    assert any(reply.finish == "stop" for reply in stopping)
    for before, after in zip(whole, stopping, strict=True):
        # A token may hold more than the end of the text that was looked for.
        texts = [policy.tokenizer.decode(before.token_ids[:end]) for end in range(1, before.num_tokens + 1)]
        ends = [end for end, text in enumerate(texts, start=1) if wanted in text]
        assert after.token_ids == before.token_ids[: ends[0] if ends else None]
        assert after.finish == ("stop" if ends else before.finish)


def test_a_stop_string_in_the_prompt_ends_nothing(policy: LocalPolicy) -> None:
    [reply] = write(policy, ["a0b4</answer>"], GREEDY.model_copy(update={"stop": ["</answer>"]}))
    assert reply.num_tokens > 1


def test_a_prompt_of_one_token_and_a_reply_of_one_token(policy: LocalPolicy) -> None:
    [reply] = write(policy, ["a"], Sampling(max_tokens=1))
    assert (reply.num_tokens, len(reply.logprobs)) == (1, 1)


def test_no_prompts_give_no_replies(policy: LocalPolicy) -> None:
    assert write(policy, [], GREEDY) == []


def test_weights_and_attention_are_as_they_were_after_generating(policy: LocalPolicy) -> None:
    before = {name: weight.clone() for name, weight in policy.model.state_dict().items()}
    attention = policy.model.config._attn_implementation

    def fail(progress: TokenProgress) -> None:
        raise ValueError("in mid-generation")

    with pytest.raises(ValueError, match="in mid-generation"):
        write(policy, rendered(policy, 2), GREEDY, on_progress=fail)
    write(policy, rendered(policy, 2), GREEDY)
    assert policy.model.config._attn_implementation == attention
    for name, weight in policy.model.state_dict().items():
        assert torch.equal(weight, before[name]), name


def test_logits_that_are_not_numbers_end_in_a_reply_all_the_same(policy: LocalPolicy) -> None:
    policy.model.get_base_model().lm_head.register_forward_hook(lambda module, inputs, output: output * torch.nan)
    for sampling in (GREEDY, SAMPLED, Sampling(max_tokens=5, top_k=3, min_p=0.1)):
        assert all(reply.num_tokens for reply in write(policy, rendered(policy, 3), sampling))


FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {}, "mistral": {"sliding_window": None}, "qwen3": {"head_dim": 16}, "gemma": {"head_dim": 16},
    "granite": {}, "olmo2": {}, "smollm3": {}, "phi3": {"sliding_window": None},
}  # fmt: skip


def of_family(policy: LocalPolicy, family: str, **settings: Any) -> Any:
    config = AutoConfig.for_model(
        family, vocab_size=len(policy.tokenizer), hidden_size=64, intermediate_size=96, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=512, initializer_range=0.3,
        pad_token_id=policy.tokenizer.pad_token_id, eos_token_id=policy.tokenizer.eos_token_id, bos_token_id=None,
        **settings,
    )  # fmt: skip
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config).eval()


@pytest.mark.parametrize("family", FAMILIES)
def test_other_families_write_what_generate_writes(policy: LocalPolicy, family: str) -> None:
    model = of_family(policy, family, **FAMILIES[family])
    other = LocalPolicy(model, policy.tokenizer, context_tokens=256, max_width=3)
    assert other.engine is not None
    prompts = ragged(policy)[4:9]
    assert ids(write(other, prompts, GREEDY)) == [_generated_alone(other, prompt) for prompt in prompts]


@pytest.mark.parametrize(
    ("family", "settings"),
    [
        ("mistral", {"sliding_window": 8}),
        ("phi3", {"sliding_window": 8}),
        ("qwen2", {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1}),
        ("llama", {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}}),
        ("starcoder2", {}),  # nobody has compared it
    ],
)
def test_what_the_engine_cannot_do_is_left_to_the_models_own_generate(
    policy: LocalPolicy, family: str, settings: dict[str, Any]
) -> None:
    model = of_family(policy, family, **settings)
    assert not engine.supports(model)
    assert not limits.sees_all(model.config.to_dict()), "as it is planned"
    other = LocalPolicy(model, policy.tokenizer, context_tokens=256, max_width=3)
    assert all(reply.num_tokens for reply in write(other, ragged(policy)[:4], GREEDY))


def test_stop_strings_are_prepared_once(policy: LocalPolicy) -> None:
    sampling = GREEDY.model_copy(update={"stop": ["</answer>"]})
    write(policy, ["a0"], sampling)
    prepared = policy._endings(("</answer>",))
    write(policy, ["a0"], sampling)
    assert policy._endings(("</answer>",)) is prepared
