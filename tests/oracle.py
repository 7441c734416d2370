"""A toy whose exact policy gradient is known, and what each credit, loss and scaling makes of it.

A Llama with four tokens and a LoRA adapter writes two rounds of at most three tokens: 40 replies a round, 1600
trajectories, all of which can be enumerated. Prompts, sampling, rewards and training are the real ones.

    Toy             the policy, every reply with its probability, and gradients of weighted sums of log-probabilities
    coefficients    the estimator, written down once more and apart from the package: what each reply of a step is
                    weighed with in the update. The tests hold the trainer to it, step by step.
    expected        its mean over steps, to be compared with the exact gradient
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import WordLevel
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from motif_lite.nouns import Problem, Reply, Trajectory, Turn
from motif_lite.policies.local import LocalPolicy
from motif_lite.rollout.strategies import MultiRound
from tests.oracle_rewards import wins

Array = NDArray[np.float64]
Indices = NDArray[np.int64]

LETTERS = "xy"
QUESTION = "x"
_LEAST_DEVIATION = 1e-4


def write_model(folder: Path) -> Path:
    """A model of four tokens: the end, any text that is not a letter of the toy, and two letters."""
    vocabulary = {token: index for index, token in enumerate(["<e>", "?", *LETTERS])}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="?"))
    tokenizer.normalizer = normalizers.Replace(Regex(f"[^{LETTERS}]+"), "?")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    tokenizer.decoder = decoders.Fuse()
    tokenizer.add_special_tokens([AddedToken("<e>", normalized=False)])
    template = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<e>", chat_template=template)
    torch.manual_seed(5)
    config = LlamaConfig(
        vocab_size=4, hidden_size=16, intermediate_size=24, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=2, tie_word_embeddings=False, initializer_range=0.3, max_position_embeddings=64,
        bos_token_id=None, eos_token_id=0, pad_token_id=None,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    wrapped.save_pretrained(folder)
    return folder


def shake(policy: LocalPolicy, seed: int = 3) -> None:
    """Give the adapter's second half numbers other than zero, so that the gradient reaches all of it."""
    generator = torch.Generator().manual_seed(seed)
    for name, weight in policy.model.named_parameters():
        if "lora_B" in name:
            weight.data.copy_(0.2 * torch.randn(weight.shape, generator=generator))


@dataclass(eq=False)
class Toy:
    """Every trajectory of two rounds.

    Attributes:
        replies: Token ids.
        texts: As they are decoded.
        lengths: In tokens ``(A,)``.
        first: Probabilities of openings ``(A,)``.
        later: Of the second round's replies, by opening ``(A, A)``.
        right: Rewards of trajectories ``(A, A)``.
    """

    policy: LocalPolicy
    max_tokens: int

    def __post_init__(self) -> None:
        whole = list(product(range(1, 4), repeat=self.max_tokens))
        ended = [(*ids, 0) for length in range(self.max_tokens) for ids in product(range(1, 4), repeat=length)]
        self.replies = [*ended, *whole]
        self.texts = [self.policy.tokenizer.decode(ids, skip_special_tokens=True) for ids in self.replies]
        self.lengths = np.array([len(ids) for ids in self.replies], float)
        self.right = np.array([[wins(first, final) for final in self.texts] for first in self.texts])
        self._prompts = self._made_prompts()
        with torch.no_grad():
            self.first = self._logprobs([0] * len(self.replies), range(len(self.replies))).exp().double().numpy()
            rows = [(opening, reply) for opening in range(len(self.texts)) for reply in range(len(self.texts))]
            logprobs = self._logprobs([1 + opening for opening, _ in rows], [reply for _, reply in rows])
        self.later = logprobs.exp().double().numpy().reshape(len(self.texts), -1)

    def _made_prompts(self) -> list[list[int]]:
        """Of the first round, and of the second one after each opening; made by the package's strategy."""
        strategy, problem = MultiRound("", 2), Problem("toy", QUESTION, "0")
        first = self.policy.render(strategy.first_messages(problem))
        paths = [Trajectory(problem, (Turn(first, Reply(text, 1, "stop")),)) for text in self.texts]
        later = [strategy._render(self.policy, problem, 2, path.final.text.strip()) for path in paths]
        return [self.policy.encode(text) for text in (first, *later)]

    def _logprobs(self, prompts: Any, replies: Any) -> torch.Tensor:
        """Log-probabilities ``(B,)`` of replies after prompts, both given by their numbers."""
        rows = [(self._prompts[p], list(self.replies[r])) for p, r in zip(prompts, replies, strict=True)]
        ids = torch.zeros(len(rows), max(len(p) + len(r) for p, r in rows), dtype=torch.long)
        written = torch.zeros(ids.shape)
        for row, (prompt, reply) in enumerate(rows):
            ids[row, : len(prompt) + len(reply)] = torch.tensor(prompt + reply)
            written[row, len(prompt) : len(prompt) + len(reply)] = 1
        logits = self.policy.model(input_ids=ids).logits[:, :-1]  # what follows a token does not reach it
        chosen = logits.log_softmax(-1).gather(-1, ids[:, 1:, None])[..., 0]
        total: torch.Tensor = (chosen * written[:, 1:]).sum(-1)
        return total

    def ascent(self, first: Array, later: Array) -> Array:
        """The gradient of the sum of log-probabilities, weighed by ``first`` ``(A,)`` and ``later`` ``(A, A)``."""
        openings = np.arange(len(first))
        places = np.argwhere(later)
        self.policy.model.zero_grad()
        logprobs = self._logprobs(
            [*[0] * len(openings), *(1 + places[:, 0]).tolist()], [*openings.tolist(), *places[:, 1].tolist()]
        )
        weights = torch.tensor([*first[openings], *later[tuple(places.T)]], dtype=torch.float32)
        (logprobs * weights).sum().backward()  # type: ignore[no-untyped-call]
        return gradient_of(self.policy.model)

    def exact(self, rewards: Array) -> tuple[Array, Array]:
        """What the exact gradient of the mean of ``rewards`` ``(A, A)`` weighs the replies of each round with."""
        centred = rewards - (self.first[:, None] * self.later * rewards).sum()
        later = self.first[:, None] * self.later * centred
        return later.sum(1), later

    def sample(self, shape: tuple[int, ...], num_futures: int, rng: np.random.Generator) -> tuple[Indices, Indices]:
        """Openings of this shape and their futures, in exact proportion to their probabilities, in random order."""
        openings = _stratified(self.first, int(np.prod(shape)), rng)
        futures = np.empty((len(openings), num_futures), np.int64)
        for opening in np.unique(openings):
            mine = openings == opening
            futures[mine] = _stratified(self.later[opening], int(mine.sum()) * num_futures, rng).reshape(
                -1, num_futures
            )
        return openings.reshape(shape), futures.reshape(*shape, num_futures)


def _stratified(probabilities: Array, number: int, rng: np.random.Generator) -> Indices:
    edges = np.cumsum(probabilities)
    points = (np.arange(number) + rng.random()) / number * edges[-1]
    drawn: Indices = np.searchsorted(edges, points, side="right").clip(max=len(edges) - 1)
    rng.shuffle(drawn)
    return drawn


def gradient_of(model: Any) -> Array:
    """Of the adapter, as one vector."""
    parts = [weight.grad.flatten() for weight in model.parameters() if weight.grad is not None]
    vector: Array = torch.cat(parts).double().numpy()
    return vector


@dataclass(frozen=True)
class Setting:
    """What a recipe says about the estimator."""

    credit: str
    loss: str
    scale: str = "none"
    apart: bool = False

    @property
    def changes(self) -> list[str]:
        aggregation = "normalize_then_sum" if self.apart else "sum_then_normalize"
        return [
            f'training.credit="{self.credit}"', f'training.loss_type="{self.loss}"',
            f'training.scale_rewards="{self.scale}"', f'training.multi_objective_aggregation="{aggregation}"',
        ]  # fmt: skip

    def __str__(self) -> str:
        return f"{self.credit}-{self.loss}-{self.scale}{'-apart' * self.apart}"


Rewards = Sequence[tuple[Array, Array]]
"""Of each reward: of first rounds, by the trajectory that follows, and of second rounds."""


def coefficients(
    setting: Setting, rewards: Rewards, lengths: tuple[Array, Array], max_tokens: int
) -> tuple[Array, Array]:
    """What each reply's log-probability is weighed with in the update of a step; steps are independent of each other.

    Args:
        rewards: All of them ``(steps, groups, m, k)``.
        lengths: Of openings ``(steps, groups, m)`` and of futures ``(steps, groups, m, k)``, in tokens.
        max_tokens: Of a round.
    """
    parts = [_advantages(setting, *each) for each in (rewards if setting.apart else [_summed(rewards)])]
    first, later = _summed(parts)
    if setting.apart:
        rows = [each.reshape(len(each), -1) for each in ((first,) if setting.credit == "opening" else (first, later))]
        by_step = np.concatenate(rows, 1).std(1, ddof=1) + _LEAST_DEVIATION
        first, later = first / by_step[:, None, None], later / by_step[:, None, None, None]
    num_openings, num_futures = lengths[1].shape[1] * lengths[1].shape[2], lengths[1].shape[3]
    weights = _token_weights(setting, lengths, max_tokens, num_openings)
    return first * weights[0], later * weights[1] * (setting.credit != "opening") / num_futures


def _summed(pairs: Rewards) -> tuple[Array, Array]:
    first: Array = np.sum([pair[0] for pair in pairs], 0)
    later: Array = np.sum([pair[1] for pair in pairs], 0)
    return first, later


def _advantages(setting: Setting, first: Array, later: Array) -> tuple[Array, Array]:
    """Of first rounds ``(steps, groups, m)`` and of second ones ``(steps, groups, m, k)``."""
    values = first.mean(-1)
    if setting.credit == "opening":
        divisor = _deviation(setting, values[..., None])
        return (values - values.mean(-1, keepdims=True)) / divisor[..., 0], np.zeros_like(later)
    divisor = _deviation(setting, first, later)
    if setting.credit == "tree":
        return _less_others(values) / divisor[..., 0], _less_others(later) / divisor
    # of chains, k is 1, and a second round is compared with those of the group
    ours = (values - values.mean(-1, keepdims=True), later - later.mean(-2, keepdims=True))
    return ours[0] / divisor[..., 0], ours[1] / divisor


def _less_others(values: Array) -> Array:
    number = values.shape[-1]
    others: Array = (values.sum(-1, keepdims=True) - values) / (number - 1)
    return values - others


def _deviation(setting: Setting, *rounds: Array) -> Array:
    """One divisor for all rounds of a group, or of a step."""
    axes = {"group": (2, 3), "batch": (1, 2, 3), "none": ()}[setting.scale]
    if not axes:
        return np.ones((1, 1, 1, 1))
    variances = [each.var(axes, keepdims=True) * _bessel(each, axes) for each in rounds]
    deviation: Array = np.sqrt(np.mean(variances, axis=0)) + _LEAST_DEVIATION
    return deviation


def _bessel(values: Array, axes: tuple[int, ...]) -> float:
    number = float(np.prod([values.shape[axis] for axis in axes]))
    return number / (number - 1)


def _token_weights(
    setting: Setting, lengths: tuple[Array, Array], max_tokens: int, num_openings: int
) -> tuple[Array | float, Array | float]:
    """Of a token of an opening, and of a future's before it is shared among the k."""
    openings, futures = lengths
    trained = openings[..., None] + (0 if setting.credit == "opening" else futures)
    if setting.loss == "grpo":
        each = 1 / trained / num_openings
        return each.mean(-1), each
    if setting.loss == "dr_grpo":
        constant = 1 / (num_openings * max_tokens * (1 if setting.credit == "opening" else 2))
        return constant, constant
    whole = trained.mean(-1).sum((1, 2), keepdims=True)
    return 1 / whole, 1 / whole[..., None]


def expected(
    toy: Toy, setting: Setting, rewards: Rewards, *, m: int, k: int, groups: int = 1, trajectories: int = 240_000
) -> tuple[Array, Array]:
    """The estimator's mean over steps: weights of openings ``(A,)`` and of second rounds ``(A, A)``.

    Args:
        rewards: By trajectory ``(A, A)``.
        trajectories: Over how many the mean is taken, about.
    """
    steps = trajectories // (groups * m * k)
    openings, futures = toy.sample((steps, groups, m), k, np.random.default_rng(1))
    places = openings[..., None] * len(toy.texts) + futures
    first, later = coefficients(
        setting,
        [(first.ravel()[places], later.ravel()[places]) for first, later in rewards],
        (toy.lengths[openings], toy.lengths[futures]),
        toy.max_tokens,
    )
    number = len(toy.texts)
    of_first = np.bincount(openings.ravel(), first.ravel(), number) / steps
    of_later = np.bincount(places.ravel(), later.ravel(), number * number) / steps
    return of_first, of_later.reshape(number, number)


def cosine(one: Array, other: Array) -> float:
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


def factor(found: Array, stated: Array) -> float:
    """How many times the stated gradient was found."""
    return float(found @ stated / (stated @ stated))
