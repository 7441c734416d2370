"""The section `[training]` of a recipe, with the documentation of its keys."""

from typing import Annotated, Literal

from pydantic import Field

from motif_lite.recipe.section import Auto, Finite, PositiveInt, Section, one_of

LossType = Literal["bnpo", "dr_grpo", "dapo", "grpo", "cispo", "sapo", "luspo", "vespo"]


class TrainingSection(Section):
    """GRPO, performed by TRL's GRPOTrainer."""

    credit: Annotated[str, one_of("credit")] = "opening"
    """Which rounds are trained. `opening`, the paper's: first rounds only, each with the mean reward over its k \
futures. `chain`: every round of m chains, with the chain's advantage. `tree`: openings as in the paper, and also \
their futures, each relative to the other futures of its opening. `reset`: of each of m chains one round, drawn at \
random, with the mean reward over k futures that start after it. See method.md."""
    max_steps: PositiveInt = 300
    """Maximum number of optimiser steps."""
    until_tokens: Annotated[int, Field(ge=1, le=10**12)] | None = None
    """End after this many tokens generated in training, openings and futures; the learning-rate schedule then runs \
over these tokens."""
    until_seconds: Annotated[float, Field(gt=0, le=1e9), Finite] | None = None
    """End after this many seconds of training, not counting evaluation; such a run cannot be repeated exactly."""
    problems_per_step: PositiveInt = 1
    """Problems (groups of m openings) per optimiser step."""
    micro_batch_size: Auto | PositiveInt = "auto"
    """Openings (with other credits: rounds) per forward and backward pass. It must divide the number per step: \
problems_per_step * num_openings, times n with credit `chain`, times 1 + k (n - 1) with `tree`. `auto` is the largest \
value that fits the memory plan. It affects time and memory, not results (rounding aside). On the transformers backend \
more rows go together where they share a prompt: as many as have no more tokens than so many whole rows."""
    learning_rate: Annotated[float, Field(gt=0, le=1), Finite] = 5e-6
    """Peak learning rate."""
    lr_schedule: Literal["cosine", "linear", "constant", "constant_with_warmup"] = "cosine"
    """Learning-rate schedule over the run."""
    warmup_fraction: Annotated[float, Field(ge=0, lt=1), Finite] = 0.1
    """Share of the run in which the learning rate rises from zero, as everywhere in transformers: at the first update \
it is 0, so step 1 is sampled and counted, but changes nothing. With `num_iterations` above 1 its later updates do, \
unless `until_tokens` or `until_seconds` is set, where all updates of a step have the same rate. With 0, and with \
`lr_schedule = "constant"`, which has no warm-up, step 1 has the whole rate."""
    optimizer: Literal["adamw_8bit", "paged_adamw_8bit", "adamw_torch", "adamw_torch_fused"] = "adamw_8bit"
    """`adamw_8bit` stores its moments in 8 bits (bitsandbytes)."""
    adam_beta1: Annotated[float, Field(ge=0, lt=1), Finite] = 0.9
    """Decay of the first moment."""
    adam_beta2: Annotated[float, Field(ge=0, lt=1), Finite] = 0.99
    """Decay of the second moment."""
    weight_decay: Annotated[float, Field(ge=0, le=100), Finite] = 0.1
    """Decoupled weight decay of the adapter."""
    max_grad_norm: Annotated[float, Field(gt=0, le=1e6), Finite] = 0.1
    """Gradients are clipped to this norm."""
    num_iterations: Annotated[int, Field(ge=1, le=100)] = 1
    """Updates per step on the same rollouts, as TRL's `num_iterations`. From the second update on, the ratio of a \
token's probability to that before the first is clipped, see `epsilon`. Steps, budgets and checkpoints count rollouts, \
not updates; the learning rate's schedule over `max_steps` moves with each update. With `model.backend = "unsloth"` \
only 1 is accepted, as more is not tested there."""
    loss_type: LossType = "bnpo"
    """How token losses are averaged. `bnpo`, the reference's, and `dapo`: over all tokens of the step. `dr_grpo`: as \
`dapo`, but divided by the largest possible number of tokens instead of the number sampled. `grpo`: over the tokens of \
each opening (with credit `chain` or `tree` of each trajectory, with `reset` of each round), then over openings, so a \
token of a long one counts less. In a tree, a token of one of k futures counts a k-th. Four more losses of TRL differ \
from these where the policy has changed since the rollouts (`num_iterations`): `cispo` and `vespo` weigh tokens as \
`dapo` does, `sapo` as `grpo`, `luspo` as `dr_grpo` with another constant; they are refused with backend \
`unsloth` (untested). See method.md for what each ascends."""
    scale_rewards: Literal["group", "batch", "none"] = "group"
    """What advantages are divided by: the standard deviation of the group, that of the batch, or nothing. With \
credits `chain` and `tree` it is taken over trajectories and is the same for all rounds, with `reset` over the values \
of the rounds that are trained."""
    multi_objective_aggregation: Literal["sum_then_normalize", "normalize_then_sum"] = "sum_then_normalize"
    """How several rewards become one advantage. `sum_then_normalize`, the paper's: the weighted sum of rewards is \
compared within the group. `normalize_then_sum` (GDPO): each reward is compared and divided by its own standard \
deviation, the weighted sum of these advantages is divided by its deviation over the step; weights are then \
independent of the rewards' scales."""
    beta: Annotated[float, Field(ge=0, le=1000), Finite] = 0.0
    """Weight of the KL penalty to the policy that GRPO begins with: the base model, or the adapter of `model.name` or \
of the warm start; 0 is off. Credit `opening` only."""
    epsilon: Annotated[float, Field(gt=0, lt=1), Finite] = 0.2
    """How far below 1 the policy ratio may fall before a token is no longer trained (PPO clipping). It has no effect \
with `num_iterations = 1`, where the ratio is 1; `cispo`, `sapo` and `vespo` do not use it."""
    epsilon_high: Annotated[float, Field(gt=0, le=100), Finite] | None = None
    """How far above 1 the ratio may rise; by default `epsilon`. DAPO's clip-higher is 0.28. For `cispo` it is the \
largest ratio itself, by default ScaleRL's 5."""
    importance_sampling_level: Literal["token", "sequence"] = "token"
    """Whose ratio is clipped: each token's, or the geometric mean over a reply (GSPO). With credits that train later \
rounds a reply is one round."""
    importance_cap: Annotated[float, Field(ge=1, le=1e6), Finite] | None = None
    """Weigh each trained token with its probability under the policy before the step's first update, divided by its \
probability under the sampler, and at most this: truncated importance sampling, for replies that are drawn in another \
precision (`rollout.weights`) or by another engine (`rollout.server`). Off by default. As TRL's \
`vllm_importance_sampling_clip_max` (earlier `vllm_importance_sampling_cap`) with the mode `token_truncate`. It needs \
`rollout.openings.temperature = 1`, and is refused with backend `unsloth` (untested). See method.md."""
    mask_truncated_completions: bool = False
    """Leave replies that were cut off at their token limit out of the update. Their rewards still count in the \
comparison with other replies."""
    gradient_checkpointing: bool = True
    """Recompute activations in the backward pass: less memory, about a quarter slower. Unsloth also offloads them to \
CPU memory."""
    autocast: Literal["off", "bfloat16", "auto"] = "off"
    """Type of the update's products on a CPU; weights, gradients and optimizer stay in 32 bits. `bfloat16` pays where \
the processor has instructions for it (AVX512-BF16, AMX) and the model some 100 million weights; `auto` is bfloat16 on \
such a processor. `rollout.weights` follows it. On a GPU `model.dtype` decides."""
    logit_chunks: PositiveInt | None = None
    """Number of pieces in which an opening's logits are computed, and recomputed in the backward pass: more pieces, \
less memory. Unsloth only; by default it keeps all logits."""
    save_every: PositiveInt = 25
    """Steps between checkpoints. More are written by time, so that no long step is lost: whenever the work since the \
last one took 50 times as long as writing it. One is also written at the end."""
    keep_checkpoints: PositiveInt = 2
    """How many checkpoints to keep: the newest, and in any case this many of those written every `save_every` steps."""
