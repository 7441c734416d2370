"""The three that benchmarks/rollout.py compares, and the work that they are given.

Imports torch and transformers: the script that imports this has found the project first.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import ceil, log
from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig, StoppingCriteria, StoppingCriteriaList

from benchmarks import random_model
from motif_lite.jobs import checking
from motif_lite.nouns import Sampling
from motif_lite.planning.shapes import ModelShape
from motif_lite.policies import backends
from motif_lite.policies.engine.sampler import Request
from motif_lite.policies.local import LocalPolicy, generation_mode

ROOT = Path(__file__).resolve().parents[1]
RANK = 16
OPENINGS, FUTURES = 8, 4
"""m and k of the recipe."""
TEMPERATURE, TOP_P = 0.8, 0.95
MEAN_SHARE = 0.25
"""Of the limit: the mean length where lengths are spread."""


@dataclass(frozen=True, slots=True)
class Case:
    """One line of the table.

    Attributes:
        size: Of the model, a key of rollout.py's `SIZES`.
        prompt_tokens: Of every prompt.
        new_tokens: Of every reply, or at most.
        num_sequences: m times k, summed over the problems of a step.
        is_spread: Replies end by chance.
        num_alone: Sequences that each repetition really writes one at a time; the others are extrapolated.
    """

    size: str
    prompt_tokens: int
    new_tokens: int
    num_sequences: int
    is_spread: bool = False
    top_p: float = TOP_P
    repeats: int = 3
    num_alone: int = 2

    @property
    def stop_rate(self) -> float:
        """How probable it is at every token that a reply ends with it."""
        return rate_for(MEAN_SHARE * self.new_tokens, self.new_tokens) if self.is_spread else 0.0

    @property
    def sampling(self) -> Sampling:
        """How the futures of the recipe are sampled; without a nucleus, how its openings are."""
        temperature = TEMPERATURE if self.top_p < 1 else 1.0
        return Sampling(max_tokens=self.new_tokens, temperature=temperature, top_p=self.top_p)

    @property
    def name(self) -> str:
        """For people."""
        new = f"up to {self.new_tokens}" if self.is_spread else str(self.new_tokens)
        return f"{self.size}, prompt {self.prompt_tokens}, {new} new, m·k {self.num_sequences}, top-p {self.top_p:g}"


def rate_for(mean: float, limit: int) -> float:
    """The stop rate r with which replies that are cut off at the limit have this mean length.

    That is (1 - (1 - r)^limit) / r.
    """
    low, high = 1e-9, 1.0
    for _ in range(60):
        rate = (low + high) / 2
        low, high = (rate, high) if (1 - (1 - rate) ** limit) / rate > mean else (low, rate)
    return low


class Head(torch.nn.Module):
    """An output layer whose stop token is drawn with a set probability.

    Args:
        head: The model's own.
        stop_id: The only token that ends a turn.
    """

    def __init__(self, head: torch.nn.Module, stop_id: int) -> None:
        super().__init__()
        self.head, self.stop_id = head, stop_id
        self.rate, self.sampling = 0.0, Sampling()

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Logits ``(..., V)``.

        Truncation leaves hardly more than top-p of the probability, for no token of a random model is likely, and
        divides by it. The stop token is much likelier than any other, so it is never cut off.
        """
        logits: torch.Tensor = self.head(hidden)
        logits[..., self.stop_id] = -torch.inf
        if self.rate:
            probability = self.rate * self.sampling.top_p
            others = (logits / self.sampling.temperature).logsumexp(-1)
            logits[..., self.stop_id] = self.sampling.temperature * (others + log(probability / (1 - probability)))
        return logits


def load(shape: ModelShape, folder: Path) -> LocalPolicy:
    """The transformers policy on a random model of this shape, as a run would load it, its adapter not zero."""
    random_model.write(folder, shape)
    changes = ('model.backend="transformers"', 'model.device="cpu"', "model.load_in_4bit=false")
    recipe = checking.check(
        ROOT / "recipes" / "motif_gsm8k.toml",
        [*changes, f"lora.rank={RANK}", 'training.optimizer="adamw_torch"', "rollout.max_width=64"],
    )
    policy = backends.backend("transformers").load(recipe, str(folder))
    assert isinstance(policy, LocalPolicy)
    assert policy.engine is not None
    generator = torch.Generator().manual_seed(1)
    for name, weight in policy.model.named_parameters():
        if "lora_B" in name:
            weight.data.copy_(0.01 * torch.randn(weight.shape, generator=generator))
    base = policy.model.get_base_model()
    (stop_id,) = policy.stop_ids
    base.lm_head = Head(base.lm_head, stop_id)
    return policy


def prompts_of(case: Case, vocab_size: int) -> list[list[int]]:
    """Prompts of a round of futures; rollout.py says what they share."""
    generator = torch.Generator().manual_seed(0)

    def text(length: int) -> list[int]:
        ids: list[int] = torch.randint(vocab_size, (length,), generator=generator).tolist()
        return ids

    quarter = case.prompt_tokens // 4
    num_openings = ceil(case.num_sequences / FUTURES)
    system = text(quarter)
    questions = [text(quarter) for _ in range(ceil(num_openings / OPENINGS))]
    openings = [
        system + questions[opening // OPENINGS] + text(case.prompt_tokens - 2 * quarter)
        for opening in range(num_openings)
    ]
    return [openings[sequence // FUTURES] for sequence in range(case.num_sequences)]


def by_engine(policy: LocalPolicy, case: Case, prompts: list[list[int]], seed: int) -> list[int]:
    """The engine, by the door that the policy's own `generate` uses once it has made tokens of texts.

    Returns:
        New tokens of each sequence.
    """
    requests = [Request(index, prompt, 1000 * seed + index) for index, prompt in enumerate(prompts)]
    return [len(written.ids) for written in policy._write(requests, case.sampling)]


def by_generate(policy: LocalPolicy, case: Case, prompts: list[list[int]], lengths: list[int]) -> None:
    """One call of transformers' own `generate`, which the policy has replaced on the model itself."""
    ids = torch.tensor(prompts)
    config = GenerationConfig(
        max_new_tokens=case.new_tokens,
        do_sample=True,
        temperature=case.sampling.temperature,
        top_p=case.top_p,
        top_k=0,
        use_cache=True,
        pad_token_id=policy.tokenizer.pad_token_id,
        eos_token_id=len(policy.tokenizer) + policy.model.get_input_embeddings().num_embeddings,  # is never written
    )
    with generation_mode(policy.model):
        output = type(policy.model).generate(
            policy.model,
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            generation_config=config,
            stopping_criteria=StoppingCriteriaList([_AtLengths(torch.tensor(lengths) + case.prompt_tokens)]),
        )
    assert output.shape[1] == case.prompt_tokens + max(lengths), "it has not written what it was told to"


class _AtLengths(StoppingCriteria):
    """Ends each row at a length of its own ``(B,)``, prompt included."""

    def __init__(self, lengths: torch.Tensor) -> None:
        self.lengths = lengths

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        return input_ids.shape[1] >= self.lengths


@contextmanager
def counted_reading(policy: LocalPolicy) -> Iterator[Callable[[], int]]:
    """Count the tokens, padding included, in forward passes over more than one token a row: they read prompts."""
    read = 0

    def look(module: Any, arguments: Any, keywords: dict[str, Any]) -> None:
        nonlocal read
        if keywords["input_ids"].shape[1] > 1:
            read += keywords["input_ids"].numel()

    handle = policy.model.get_base_model().get_decoder().register_forward_pre_hook(look, with_kwargs=True)
    try:
        yield lambda: read
    finally:
        handle.remove()
