"""A toy whose exact policy gradient is known, and what each credit, loss and scaling makes of it.

A Llama with four tokens and a LoRA adapter writes two rounds of at most three tokens: 40 replies a round, 1600
trajectories, all of which can be enumerated. Prompts, sampling, rewards and training are the real ones.

    Toy             the policy, every reply with its probability, and gradients of weighted sums of log-probabilities
    reused          the gradient of a later update on the same rollouts, when the policy has changed
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

from motif_lite.nouns import Problem, Reply, Sampling, Trajectory, Turn
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
        later = [strategy.next_prompt(self.policy, path, 2, Sampling(max_tokens=self.max_tokens))[0] for path in paths]
        return [self.policy.encode(text) for text in (first, *later)]

    def _logprobs(self, prompts: Any, replies: Any) -> torch.Tensor:
        """Log-probabilities ``(B,)`` of replies after prompts, both given by their numbers."""
        total: torch.Tensor = self.token_logprobs(prompts, replies)[0].sum(-1)
        return total

    def token_logprobs(self, prompts: Any, replies: Any, sharpness: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
        """Of each token of the replies ``(B, T)``, 0 elsewhere, and where there is one.

        Args:
            sharpness: What logits are multiplied with.
        """
        rows = [(self._prompts[p], list(self.replies[r])) for p, r in zip(prompts, replies, strict=True)]
        ids = torch.zeros(len(rows), max(len(p) + len(r) for p, r in rows), dtype=torch.long)
        written = torch.zeros(ids.shape)
        for row, (prompt, reply) in enumerate(rows):
            ids[row, : len(prompt) + len(reply)] = torch.tensor(prompt + reply)
            written[row, len(prompt) : len(prompt) + len(reply)] = 1
        logits = self.policy.model(input_ids=ids).logits[:, :-1]  # what follows a token does not reach it
        chosen = (sharpness * logits).log_softmax(-1).gather(-1, ids[:, 1:, None])[..., 0]
        return chosen * written[:, 1:], written[:, 1:]

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
    masks: bool = False
    level: str = "token"

    @property
    def changes(self) -> list[str]:
        aggregation = "normalize_then_sum" if self.apart else "sum_then_normalize"
        return [
            f'training.credit="{self.credit}"', f'training.loss_type="{self.loss}"',
            f'training.scale_rewards="{self.scale}"', f'training.multi_objective_aggregation="{aggregation}"',
            f"training.mask_truncated_completions={str(self.masks).lower()}",
            f'training.importance_sampling_level="{self.level}"',
        ]  # fmt: skip

    def __str__(self) -> str:
        return f"{self.credit}-{self.loss}-{self.scale}{'-apart' * self.apart}{'-masks' * self.masks}-{self.level}"


Rewards = Sequence[tuple[Array, Array]]
"""Of each reward: of first rounds, by the trajectory that follows, and of second rounds."""


def coefficients(
    setting: Setting,
    rewards: Rewards,
    lengths: tuple[Array, Array],
    max_tokens: int,
    whole: tuple[Array, Array] | None = None,
    branches: Indices | None = None,
) -> tuple[Array, Array]:
    """What each reply's log-probability is weighed with in the update of a step; steps are independent of each other.

    Args:
        rewards: All of them ``(steps, groups, m, k)``.
        lengths: Of openings ``(steps, groups, m)`` and of futures ``(steps, groups, m, k)``, in tokens.
        max_tokens: Of a round.
        whole: Whether openings and futures were not cut off, in the shapes of ``lengths``.
        branches: With ``reset``, the round that is trained of each opening's trajectory ``(steps, groups, m)``; where
            it is the second, only the first future is there.
    """
    parts = [_advantages(setting, *each, branches) for each in (rewards if setting.apart else [_summed(rewards)])]
    first, later = _summed(parts)
    if setting.apart:
        trained = (first,) if setting.credit == "opening" else (first, later)
        if branches is not None:
            trained = (first + later[..., 0],)
        rows = [each.reshape(len(each), -1) for each in trained]
        by_step = np.concatenate(rows, 1).std(1, ddof=1) + _LEAST_DEVIATION
        first, later = first / by_step[:, None, None], later / by_step[:, None, None, None]
    num_openings, num_futures = lengths[1].shape[1] * lengths[1].shape[2], lengths[1].shape[3]
    kept = whole if whole is not None and setting.masks else tuple(np.ones(each.shape) for each in lengths)
    weights = _token_weights(setting, lengths, max_tokens, num_openings, kept, branches)
    if branches is not None:
        return first * weights[0] * kept[0], later * weights[1] * kept[1]
    later = later * weights[1] * (setting.credit != "opening") / num_futures
    return first * weights[0] * kept[0], later * kept[1]


def _summed(pairs: Rewards) -> tuple[Array, Array]:
    first: Array = np.sum([pair[0] for pair in pairs], 0)
    later: Array = np.sum([pair[1] for pair in pairs], 0)
    return first, later


def _advantages(setting: Setting, first: Array, later: Array, branches: Indices | None = None) -> tuple[Array, Array]:
    """Of first rounds ``(steps, groups, m)`` and of second ones ``(steps, groups, m, k)``."""
    if branches is not None:
        return _advantages_at(setting, first, later, branches)
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


def _advantages_at(setting: Setting, first: Array, later: Array, branches: Indices) -> tuple[Array, Array]:
    """Of the round that is trained alone, against the same round of the group."""
    is_first = branches == 1
    rounds = [np.where(is_first, each.mean(-1), each[..., 0]) for each in (first, later)]
    ours, others = ([each - each.mean(axes, keepdims=True) for each in rounds] for axes in (2, (1, 2)))
    advantages = np.where(is_first, *ours)
    compared, axes = (np.where(is_first, *others), (1, 2)) if setting.scale == "batch" else (advantages, (2,))
    number = np.prod([compared.shape[axis] for axis in axes])
    divisor = np.sqrt((compared**2).sum(axes, keepdims=True) / (number - 1)) + _LEAST_DEVIATION
    advantages = advantages / (1.0 if setting.scale == "none" else divisor)
    found = np.zeros_like(later)
    found[..., 0] = advantages * ~is_first
    return advantages * is_first, found


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
    setting: Setting,
    lengths: tuple[Array, Array],
    max_tokens: int,
    num_openings: int,
    kept: tuple[Array, ...],
    branches: Indices | None,
) -> tuple[Array | float, Array | float]:
    """Of a token of an opening, and of a future's before it is shared among the k."""
    openings, futures = lengths
    if branches is not None:
        return _weights_at(setting, lengths, max_tokens, num_openings, kept, branches)
    trained = openings[..., None] + (0 if setting.credit == "opening" else futures)
    if setting.loss in ("grpo", "sapo"):
        each = 1 / trained / num_openings
        return each.mean(-1), each
    if setting.loss == "dr_grpo":
        constant = 1 / (num_openings * max_tokens * (1 if setting.credit == "opening" else 2))
        return constant, constant
    if setting.loss == "luspo":
        return 1 / num_openings, 1 / num_openings
    tokens = (openings * kept[0])[..., None] + (0 if setting.credit == "opening" else futures * kept[1])
    whole = tokens.mean(-1).sum((1, 2), keepdims=True)
    return 1 / whole, 1 / whole[..., None]


def _weights_at(
    setting: Setting,
    lengths: tuple[Array, Array],
    max_tokens: int,
    num_openings: int,
    kept: tuple[Array, ...],
    branches: Indices,
) -> tuple[Array | float, Array | float]:
    """As of rows that are trained for themselves: a first round, or a second one."""
    openings, futures = lengths
    if setting.loss in ("grpo", "sapo"):
        return 1 / openings / num_openings, 1 / futures / num_openings
    if setting.loss in ("dr_grpo", "luspo"):
        constant = 1 / num_openings / (max_tokens if setting.loss == "dr_grpo" else 1)
        return constant, constant
    tokens = np.where(branches == 1, openings * kept[0], (futures * kept[1])[..., 0])
    whole = tokens.sum((1, 2), keepdims=True)
    return 1 / whole, 1 / whole[..., None]


@dataclass(frozen=True)
class Row:
    """A reply in an update: the number of its prompt (0, or 1 + the opening's), its own, and its coefficient."""

    prompt: int
    reply: int
    coefficient: float


def reused(
    toy: Toy,
    setting: Setting,
    rows: Sequence[Row],
    before: Any,
    after: Any,
    bounds: tuple[float, float],
    weighed: tuple[float, float] = (1.0, 1.0),
) -> tuple[Array, float]:
    """The gradient that is ascended when rollouts of an earlier policy are used again, and what part was clipped.

    Args:
        before: The adapter's weights that the rollouts were sampled with, by name.
        after: Those of the update.
        bounds: ``epsilon`` and ``epsilon_high``.
        weighed: The sharpness that the rollouts were sampled with, and the largest weight for the ratio to that.
    """
    numbers = [row.prompt for row in rows], [row.reply for row in rows]
    _set(toy.policy, before)
    with torch.no_grad():
        old, _ = toy.token_logprobs(*numbers)
        drawn, _ = toy.token_logprobs(*numbers, sharpness=weighed[0])
    _set(toy.policy, after)
    toy.policy.model.zero_grad()
    new, is_token = toy.token_logprobs(*numbers)
    weights = torch.tensor([row.coefficient for row in rows])[:, None] * (old - drawn).exp().clamp(max=weighed[1])
    ratio = (new - old).exp()
    if setting.level == "sequence":
        ratio = ((new - old).sum(-1) / is_token.sum(-1)).exp()[:, None]
    terms, clipped = _gated(setting.loss, ratio, weights, new, (new - old).sum(-1, keepdim=True).exp(), bounds)
    (terms * is_token).sum().backward()  # type: ignore[no-untyped-call]
    return gradient_of(toy.policy.model), float((clipped * is_token).sum() / is_token.sum())


def _gated(
    loss: str,
    ratio: torch.Tensor,
    weights: torch.Tensor,
    logprobs: torch.Tensor,
    of_reply: torch.Tensor,
    bounds: tuple[float, float],
) -> tuple[torch.Tensor, torch.Tensor]:
    """What each token adds to the objective ``(B, T)`` or ``(B, 1)``, and whether it is clipped.

    PPO takes the worse of the ratio and the clipped one; CISPO (arXiv 2506.13585) and VESPO (2602.10693) weigh the
    log-probability with a constant, SAPO (2511.20347) bends the ratio.
    """
    low, high = 1 - bounds[0], 1 + bounds[1]
    rises = weights > 0
    outside = torch.where(rises, ratio > high, ratio < low) & (weights != 0)
    if loss == "cispo":
        most = bounds[1]
        return weights * ratio.clamp(max=most).detach() * logprobs, (ratio > most) & rises
    if loss == "sapo":
        slope = torch.where(rises, 1.0, 1.05)
        return weights * 4 / slope / (1 + (-slope * (ratio - 1)).exp()), torch.zeros_like(ratio)
    if loss == "vespo":
        k, rate = torch.where(weights < 0, 3.0, 2.0), torch.where(weights < 0, 2.0, 3.0)
        return weights * (of_reply**k * (rate * (1 - of_reply)).exp()).detach() * logprobs, torch.zeros_like(ratio)
    return torch.where(outside, torch.where(rises, high, low), ratio) * weights, outside


def adapter_of(policy: LocalPolicy) -> dict[str, torch.Tensor]:
    """A copy of the adapter's weights by name."""
    named = policy.model.named_parameters()
    return {name: weight.detach().clone() for name, weight in named if "lora" in name}


def _set(policy: LocalPolicy, adapter: dict[str, torch.Tensor]) -> None:
    for name, weight in policy.model.named_parameters():
        if name in adapter:
            weight.data.copy_(adapter[name])


def expected(
    toy: Toy, setting: Setting, rewards: Rewards, *, m: int, k: int, groups: int = 1, trajectories: int = 240_000
) -> tuple[Array, Array]:
    """The estimator's mean over steps: weights of openings ``(A,)`` and of second rounds ``(A, A)``.

    Args:
        rewards: By trajectory ``(A, A)``.
        trajectories: Over how many the mean is taken, about.
    """
    steps, rng, branches = trajectories // (groups * m * k), np.random.default_rng(1), None
    if setting.credit == "reset":
        openings, futures, branches = _with_branches(toy, (steps, groups, m), k, rng)
    else:
        openings, futures = toy.sample((steps, groups, m), k, rng)
    places = openings[..., None] * len(toy.texts) + futures
    first, later = coefficients(
        setting,
        [(first.ravel()[places], later.ravel()[places]) for first, later in rewards],
        (toy.lengths[openings], toy.lengths[futures]),
        toy.max_tokens,
        branches=branches,
    )
    number = len(toy.texts)
    of_first = np.bincount(openings.ravel(), first.ravel(), number) / steps
    of_later = np.bincount(places.ravel(), later.ravel(), number * number) / steps
    return of_first, of_later.reshape(number, number)


def _with_branches(
    toy: Toy, shape: tuple[int, int, int], k: int, rng: np.random.Generator
) -> tuple[Indices, Indices, Indices]:
    """Openings, futures, and the round after which these part: either one for half of each kind of opening."""
    half = int(np.prod(shape)) // 2
    halves = [toy.sample((half,), number, rng) for number in (k, 1)]
    order = rng.permutation(2 * half)
    openings = np.concatenate([each[0] for each in halves])[order].reshape(shape)
    futures = np.concatenate([np.repeat(each[1], k // each[1].shape[1], 1) for each in halves])[order]
    branches = np.repeat([1, 2], half)[order].reshape(shape)
    return openings, futures.reshape(*shape, k), branches


def cosine(one: Array, other: Array) -> float:
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


def factor(found: Array, stated: Array) -> float:
    """How many times the stated gradient was found."""
    return float(found @ stated / (stated @ stated))
