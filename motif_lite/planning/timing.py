"""How long a step takes: the work of its phases, counted from shapes, at the speed of the machine (`speeds`)."""

import math
from dataclasses import dataclass

from motif_lite.credits.table import credit_of
from motif_lite.nouns import Sampling
from motif_lite.planning.limits import CHECKED_TOKENS, LARGEST_FOLDED_BYTES, groups_queries
from motif_lite.planning.machine import DeviceType
from motif_lite.planning.precision import updates_in_bf16, writes_in_bf16
from motif_lite.planning.rows import (
    Lengths,
    dequantises,
    openings_at_once,
    replies_in_round,
    update_tokens,
    values_per_block,
    written_by_generate,
)
from motif_lite.planning.shapes import ModelShape
from motif_lite.planning.speeds import Speed
from motif_lite.recipe.keys import changed
from motif_lite.recipe.schema import Recipe, decided

_HOPPER, _AMPERE = (9, 0), (8, 0)

_DEQUANTISED = 7.6
"""What a weight of 4 bits costs that is dequantised at every token, in bytes of a GPU's bandwidth: it is read, written
out as 16 bits, and read again, 4.5 bytes, but not as fast (11.7 against 6.3 ms a step, measured on an H100)."""

_DRAWING = {"greedy": 60, "plain": 180, "nucleus": 670}
"""Bytes of a GPU's bandwidth that drawing a token costs for each entry of the vocabulary and row, by how it is drawn:
0.10, 0.30 and 1.14 ms for 32 rows of 151,936, measured on an H100."""

_ADAPTER_IN_16_BITS = 4 + 2 + 2
"""Bytes that Unsloth's `generate` moves for an adapter's weight, which is kept in 32 bits: cast at every step."""

_ADAPTER_OF_ENGINE = 3
"""The engine casts it once per call; half as many zeros come with it, where layers are multiplied together."""


_CALL = 0.45
"""Seconds that a call of the engine takes on a GPU whatever it writes: it dequantises, compares its decoder with the
model and records a token step (measured on an H100)."""

_PER_LOGIT = 4
"""Values that an update computes for each logit of a reply's token: four times as fast as others (measured)."""


def math_attention_bytes(shape: ModelShape) -> int:
    """What PyTorch's math attention moves for one column of the KV cache, one row and one layer, in a token step.

    Keys and values are read and written as 32 bits, then repeated for every query head; keys are scaled; both are read.
    Scores pass eight times. `tests/test_attention_traffic.py` counts it.
    """
    narrow, wide = 2 * shape.kv_dim, 2 * shape.attention_dim
    return narrow * (2 + 4) + 4 * (narrow + wide) + 2 * 4 * shape.attention_dim + 4 * wide + 8 * 4 * shape.num_heads


def attends_by_math(recipe: Recipe, shape: ModelShape, speed: Speed) -> bool:
    """Whether PyTorch takes its slowest attention for token steps of padded batches, which Unsloth writes.

    It does unless we change Unsloth's call (`policies.grouped_queries`), which asks for grouped queries, with a mask
    where rows are padded. Flash attention takes no mask and no card before Ampere, the memory-efficient kernel no
    grouped queries; cuDNN's, which takes both, is tried on Hopper.
    """
    if speed.card is None or speed.card.capability == _HOPPER or groups_queries():
        return False
    is_unsloths = recipe.model.backend == "unsloth" and written_by_generate(recipe, shape)
    return is_unsloths and shape.kv_dim < shape.attention_dim


def share(recipe: Recipe, processes: int) -> Recipe:
    """A step as each of several processes has it."""
    return changed(recipe, {"training.problems_per_step": recipe.training.problems_per_step // processes})


def step_seconds(
    recipe: Recipe, shape: ModelShape, device: DeviceType, speed: Speed, lengths: Lengths | None = None
) -> dict[str, float]:
    """Of one step, by phase.

    Args:
        lengths: Of prompts and replies; by default as long as the recipe allows.
    """
    lengths = lengths or Lengths.worst(recipe)
    rollout, work = recipe.rollout, _Work(recipe, shape, device, speed, lengths)
    openings, problems = recipe.openings_per_step, recipe.training.problems_per_step
    at_once, first = openings_at_once(recipe, shape), lengths.first_prompt
    seconds = {"openings": work.openings(openings, at_once, problems * first, is_padded=at_once > rollout.num_openings)}
    seconds["futures"] = 0.0
    if rollout.strategy != "single_round":
        later, unlike = lengths.later_prompt, openings
        for round_number in range(2, rollout.num_rounds + 1):
            futures = replies_in_round(recipe, round_number)
            width = min(decided(rollout.max_width), futures)
            unread = problems * first + unlike * max(0, later - first)
            seconds["futures"] += work.futures(futures, width, unread)
            unlike = futures  # in the round after an opening, futures share its reply
    seconds["update"] = work.update()
    return seconds


def thinking_seconds(
    recipe: Recipe,
    shape: ModelShape,
    device: DeviceType,
    speed: Speed,
    trajectories: int,
    rounds: int,
    lengths: Lengths | None = None,
) -> tuple[float, float]:
    """Of the first and of all later rounds of an evaluation.

    Args:
        trajectories: Problems times samples.
        rounds: Of each.
        lengths: Of prompts and replies; by default as long as the recipe allows.
    """
    if not trajectories:
        return 0.0, 0.0
    lengths = lengths or Lengths.worst(recipe)
    work, width = _Work(recipe, shape, device, speed, lengths), min(decided(recipe.rollout.max_width), trajectories)
    first = work.openings(trajectories, width, trajectories * lengths.first_prompt, is_padded=width > 1)
    return first, (rounds - 1) * work.futures(trajectories, width, trajectories * lengths.later_prompt)


@dataclass(frozen=True, slots=True)
class _Work:
    recipe: Recipe
    shape: ModelShape
    device: DeviceType
    speed: Speed
    lengths: Lengths

    @property
    def lora(self) -> int:
        return self.shape.num_lora_weights(self.recipe.lora.rank, self.recipe.lora.targets)

    @property
    def head(self) -> int:
        return self.shape.vocab_size * self.shape.hidden_size

    def _drawing(self, rows: int, sampling: Sampling) -> float:
        """Seconds of drawing the next token of all rows, on a GPU."""
        kind = "greedy" if sampling.temperature == 0 else "nucleus" if sampling.top_p < 1 else "plain"
        return rows * self.shape.vocab_size * _DRAWING[kind] / self.speed.bytes_per_second

    def openings(self, replies: int, width: int, unread: int, *, is_padded: bool) -> float:
        """Replies of first rounds.

        Args:
            is_padded: Prompts that are read together differ.
        """
        lengths, sampling = self.lengths, self.recipe.rollout.openings
        by_math = self._attends_by_math(width, is_padded)
        return self._round(replies, width, unread, lengths.first_prompt, lengths.opening, sampling, by_math)

    def futures(self, replies: int, width: int, unread: int) -> float:
        """Replies of one later round."""
        lengths, sampling = self.lengths, self.recipe.rollout.futures
        by_math = self._attends_by_math(width, is_padded=width > 1)
        return self._round(replies, width, unread, lengths.later_prompt, lengths.future, sampling, by_math)

    @property
    def _writing(self) -> Speed:
        """Of the products that write replies."""
        return self._in_bf16 if writes_in_bf16(self.recipe, self.device) else self.speed

    @property
    def _in_bf16(self) -> Speed:
        return self.speed.in_bf16 or self.speed

    def _attends_by_math(self, width: int, is_padded: bool) -> bool:
        card = self.speed.card
        return (
            width > 1
            and attends_by_math(self.recipe, self.shape, self.speed)
            and (is_padded or (card is not None and card.capability < _AMPERE))
        )

    def _round(
        self, replies: int, width: int, unread: int, prompt: int, new: int, sampling: Sampling, by_math: bool
    ) -> float:
        """All replies of one round, so many at a time: prompts are read, then a step is taken for every new token.

        A call of `generate` goes on until its longest reply ends; the engine fills rows that have become free.

        Args:
            unread: Prompt tokens that are read, without what prompts share; `generate` reads all of every row.
            prompt: Tokens of each prompt.
            new: Tokens of each reply.
            sampling: With the most tokens of a reply.
        """
        by_generate = written_by_generate(self.recipe, self.shape)
        longest = min(sampling.max_tokens, self.lengths.longest * new) if width > 1 else new
        calls = math.ceil(replies / width)
        steps = calls * longest if by_generate else calls * new + longest - new
        if by_generate:
            unread = replies * prompt
        reading = unread * 2 * self._linear / self._writing.flops_per_second
        step = self._token_step(width, prompt + longest // 2, by_math)
        if self.device == "cuda":
            step += self._drawing(width, sampling)
        return steps * step + reading + self._checking()

    def _checking(self) -> float:
        """Seconds in which the engine compares its decoder with the model, once per call.

        The model, its parts one by one and the whole decoder take up to 64 tokens each, and the decoder one more. On a
        GPU it is part of what was measured of a call.
        """
        if not self.shape.decodes or self.recipe.model.fast_inference:
            return 0.0
        if self.device == "cuda":
            return _CALL
        arithmetic = 3 * CHECKED_TOKENS * 2 * self._linear / self._writing.flops_per_second
        return 4 * self._token_step(1, 0, by_math=False) + arithmetic

    def _token_step(self, rows: int, columns: int, by_math: bool) -> float:
        """The logits of one more token for every row.

        A GPU reads and computes at the same time; where its steps are not recorded, it may have to wait for the host.
        """
        shape, speed = self.shape, self._writing
        column = math_attention_bytes(shape) if by_math else 2 * shape.kv_dim * self._value_bytes
        reading = (self._weight_bytes + rows * columns * shape.num_layers * column) / speed.bytes_per_second
        arithmetic = rows * 2 * (self._linear + self.head) / speed.flops_per_second
        if self.device == "cpu":
            return reading + arithmetic + shape.num_layers * (speed.layer_seconds + self._adapted)
        if not shape.decodes and not self.recipe.model.fast_inference:
            return max(reading, arithmetic, shape.num_layers * speed.launch_seconds)
        return max(reading, arithmetic) + shape.num_layers * speed.layer_seconds

    @property
    def _value_bytes(self) -> int:
        return 2 if self.device == "cuda" else 4

    @property
    def _weight_bytes(self) -> float:
        """Bytes of weights that a token step moves."""
        recipe, on_gpu = self.recipe, self.device == "cuda"
        once = dequantises(recipe, self.shape) and recipe.rollout.weights == "16bit"
        at_every_step = recipe.model.load_in_4bit and not once
        linear = self.shape.num_linear_weights * (_DEQUANTISED if at_every_step else self._value_bytes)
        of_adapter = _ADAPTER_IN_16_BITS if written_by_generate(recipe, self.shape) else _ADAPTER_OF_ENGINE
        adapter = (self._linear - self.shape.num_linear_weights) * (of_adapter if on_gpu else 4)
        narrow = linear + self.head * self._value_bytes
        return (narrow / 2 if writes_in_bf16(recipe, self.device) else narrow) + adapter

    @property
    def _is_folded(self) -> bool:
        """Whether the adapter is added into the weights while replies are written."""
        copied = 4 * self.shape.num_target_weights(self.recipe.lora.targets)
        folds = self.device == "cpu" and not writes_in_bf16(self.recipe, self.device)
        return folds and copied <= LARGEST_FOLDED_BYTES

    @property
    def _adapted(self) -> float:
        """Seconds of the adapter's own operations in a layer and token step, on a CPU."""
        count = 0 if self._is_folded else len(self.shape.targeted(self.recipe.lora.targets))
        return count * self.speed.adapted_seconds

    @property
    def _linear(self) -> int:
        """Weights of the blocks, with the adapter's where it is not added into them while replies are written."""
        return self.shape.num_linear_weights + (0 if self._is_folded else self.lora)

    def update(self) -> float:
        """Forward, backward to the inputs of frozen weights, backward twice for the adapter's, and forward again.

        All that for each update of a step. With `training.beta` the reference goes forward once before them.
        """
        training, again = self.recipe.training, int(self.recipe.training.gradient_checkpointing)
        reference = self._passes(1, 1, 1) if training.beta else 0.0
        return training.num_iterations * self._passes(2 + again, 3 + again, 2) + reference

    def _passes(self, frozen: int, adapter: int, head: int) -> float:
        """So many passes of all rows of an update through frozen weights, the adapter's, and the head."""
        recipe = self.recipe
        per_token = self.shape.num_linear_weights * frozen + self.lora * adapter
        packs = recipe.model.backend != "unsloth" and self.shape.packs
        replied = credit_of(recipe).trained_per_step(recipe) * self.lengths.trained(recipe)[1]
        tokens = update_tokens(recipe, packs=packs, lengths=self.lengths)
        in_bf16 = updates_in_bf16(recipe, self.device)
        speed = self._in_bf16 if in_bf16 else self.speed
        seconds = 2 * (tokens * per_token + replied * self.head * head) / speed.flops_per_second
        if self.device == "cpu":
            values = tokens * self.shape.num_layers * values_per_block(recipe, self.shape, packs=packs) * frozen
            if in_bf16:  # autocast casts the weights for every piece, whenever it goes forward
                pieces = math.ceil(
                    credit_of(recipe).trained_per_step(recipe) / decided(recipe.training.micro_batch_size)
                )
                values += max(1, frozen - 1) * pieces * (self.shape.num_linear_weights + self.head)
            logits = replied * self.shape.vocab_size * head / 2  # back and forth
            seconds += (values + _PER_LOGIT * logits) / speed.values_per_second
        return seconds
