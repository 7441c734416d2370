"""How much memory a recipe needs, by phase, from shapes alone: the arithmetic behind the plan.

A training step has three phases that never overlap: openings are generated, their futures are generated, the
adapter is updated. What stays (libraries, weights, adapter, optimizer) is in all of them. Everything is counted for
the worst case: every prompt as long as the recipe allows, every reply running to its limit.

Counts of tensors follow the code that allocates them (transformers 5.17, TRL 1.14, Unsloth 2026.10); where a number was
found by measuring, its comment says so. docs/measurements.md compares estimates with measured peaks.
"""

from dataclasses import dataclass
from typing import Literal

from motif_lite.recipe import NOTICE_TOKENS, Recipe, decided
from motif_lite.shapes import ModelShape

MIB = 2**20
GIB = 2**30

DeviceType = Literal["cuda", "cpu"]

Items = dict[str, int]
"""Bytes by what they are for."""

_CUDA_LIBRARIES = 700 * MIB
"""CUDA context, cuBLAS workspace, compiled kernels. Assumed: no GPU has been at hand."""
_CPU_LIBRARIES = 560 * MIB
"""Python with torch, transformers, PEFT, TRL and datasets imported; measured as resident memory on Linux."""

_NF4_BYTES = 0.5 + 1 / 64 + 4 / (64 * 256)
"""Per weight: 4 bits, an 8-bit scale for 64 weights, and a 32-bit one for 256 of those (double quantisation)."""
_LORA_BYTES = 4
"""PEFT and Unsloth keep adapters in 32 bits, whatever the base is in."""
_OPTIMIZER_BYTES = {"adamw_8bit": 2, "paged_adamw_8bit": 0, "adamw_torch": 8, "adamw_torch_fused": 8}
"""Both moments, per trained weight; paged ones wait in the machine's memory."""
_UNSLOTH_LOGIT_CHUNKS = 4
"""Unsloth's own choice per row for contexts under 16,384 tokens (`autotune_batch_and_chunks`)."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """Peak memory of one recipe on one kind of device.

    Attributes:
        phases: Bytes by phase of a step, and within a phase by what they are for.
        libraries: Bytes of each phase that PyTorch does not see: on a GPU the driver's and the kernels'.
    """

    phases: dict[str, Items]
    libraries: int

    def total(self, phase: str) -> int:
        """All bytes of a phase."""
        return sum(self.phases[phase].values())

    def measurable(self, phase: str, device_type: str) -> int:
        """The bytes of a phase that `metering.PhaseMeter` can see: on a GPU only what PyTorch holds."""
        return self.total(phase) - (self.libraries if device_type == "cuda" else 0)

    @property
    def peak(self) -> int:
        """Bytes of the phase that needs most."""
        return max(map(self.total, self.phases))


def estimate(recipe: Recipe, shape: ModelShape, device: DeviceType, memory_gib: float) -> Estimate:
    """Peak bytes by phase.

    Args:
        recipe: What is to be run, with numbers for ``auto``.
        shape: Of the model.
        device: Where it will run.
        memory_gib: What the device has; vLLM takes a share of that.
    """
    counting = _Counting(recipe, shape, device)
    resident = counting.resident()
    if recipe.model.fast_inference:
        resident["weights"] = max(resident["weights"], int(recipe.model.gpu_memory_utilization * memory_gib * GIB))
        return Estimate(
            {"openings": resident, "futures": resident, "update": resident | counting.update()}, resident["libraries"]
        )
    return Estimate(
        {
            "openings": resident | counting.openings(),
            "futures": resident | counting.futures(),
            "update": resident | counting.update(),
        },
        resident["libraries"],
    )


@dataclass(frozen=True, slots=True)
class _Counting:
    recipe: Recipe
    shape: ModelShape
    device: DeviceType

    @property
    def is_unsloth(self) -> bool:
        return self.recipe.model.backend == "unsloth"

    @property
    def weight_bytes(self) -> int:
        """Bytes of an unquantised weight."""
        dtype = self.recipe.model.dtype
        if dtype == "auto":
            dtype = "bfloat16" if self.device == "cuda" else "float32"
        return 4 if dtype == "float32" else 2

    @property
    def hidden_bytes(self) -> int:
        """Bytes of an activation; beside quantised weights PEFT keeps embeddings, so all that follows, in 32 bits."""
        return 4 if self.recipe.model.load_in_4bit and not self.is_unsloth else self.weight_bytes

    @property
    def lora_weights(self) -> int:
        return self.shape.num_lora_weights(self.recipe.lora.rank, self.recipe.lora.targets)

    def resident(self) -> Items:
        """What is there in every phase."""
        shape, quantised = self.shape, self.recipe.model.load_in_4bit
        linear = _NF4_BYTES if quantised else self.weight_bytes
        other = self.hidden_bytes if quantised else self.weight_bytes
        return {
            "libraries": _CUDA_LIBRARIES if self.device == "cuda" else _CPU_LIBRARIES,
            "weights": int(shape.num_linear_weights * linear + shape.num_other_weights * other),
            "adapter": self.lora_weights * _LORA_BYTES,
            "optimizer": self.lora_weights * _OPTIMIZER_BYTES[self.recipe.training.optimizer],
        }

    def openings(self) -> Items:
        rollout = self.recipe.rollout
        rows = self.recipe.training.problems_per_step * rollout.num_openings
        return self._generation(rows, rollout.max_prompt_tokens, rollout.openings.max_tokens)

    def futures(self) -> Items:
        """The hungriest call of all rounds, and of the evaluation, which runs at the same width."""
        recipe, rollout = self.recipe, self.recipe.rollout
        width = decided(rollout.max_width)
        futures = rollout.openings.max_tokens
        calls = []
        if rollout.strategy == "multi_round":
            futures = rollout.futures.max_tokens
            rows = min(width, recipe.training.problems_per_step * rollout.num_openings * rollout.num_futures)
            calls.append((rows, self._later_prompt(), futures))
        evaluated = recipe.evaluation.benchmarks if recipe.evaluation.before or recipe.evaluation.after else {}
        if evaluated:
            rows = min(width, max(source.num_problems or width for source in evaluated.values()))
            calls.append((rows, rollout.max_prompt_tokens, rollout.openings.max_tokens))
            if "multi_round" in recipe.evaluation.strategies:
                calls.append((rows, self._later_prompt(), futures))
        needs = [self._generation(*call) for call in calls]
        return max(needs, key=lambda items: sum(items.values()), default={})

    def _later_prompt(self) -> int:
        """Longest prompt of a later round: the question, the notice, and all of the reply before."""
        rollout = self.recipe.rollout
        before = rollout.openings.max_tokens
        if rollout.num_rounds > 2:
            before = max(before, rollout.futures.max_tokens)
        room = self.recipe.model.max_seq_length - rollout.futures.max_tokens
        return min(rollout.max_prompt_tokens + NOTICE_TOKENS + before, room)

    def _generation(self, rows: int, prompt: int, new: int) -> Items:
        """One `generate` call: the KV cache, and the larger of reading the prompts and writing the last token."""
        shape = self.shape
        kv_token = 2 * shape.num_layers * shape.kv_dim * self.hidden_bytes
        reading = rows * prompt * self._reading_per_token()
        if not self.is_unsloth:
            # The mask, once as truth values and once as numbers.
            reading += rows * prompt * prompt * (1 + self.hidden_bytes)
        # The cache grows by copying a layer at a time; with a mask, transformers also repeats keys and values for every
        # head, a layer at a time.
        repeated = 0 if self.is_unsloth else 2 * shape.attention_dim
        growing = rows * (prompt + new) * self.hidden_bytes * (2 * shape.kv_dim + repeated)
        sampling = self.recipe.rollout.futures
        # 32-bit logits as they come, scaled, as probabilities and as a copy; top-p sorts them with 64-bit indices.
        per_logit = 4 * 4 + (24 if sampling.top_p < 1 or sampling.top_k else 0)
        drawing = rows * shape.vocab_size * per_logit
        writing = rows * (prompt + new) * kv_token + growing + drawing
        started = rows * prompt * kv_token + reading + drawing
        if writing >= started:
            return {"KV cache": rows * (prompt + new) * kv_token, "activations": growing, "logits": drawing}
        return {"KV cache": rows * prompt * kv_token, "activations": reading, "logits": drawing}

    def _reading_per_token(self) -> int:
        """Bytes per prompt token while a block of the model runs: the MLP's intermediates are the most."""
        shape = self.shape
        return self.hidden_bytes * (3 * shape.hidden_size + 4 * shape.intermediate_size)

    def update(self) -> Items:
        """One forward and backward pass of a micro-batch."""
        shape, training = self.shape, self.recipe.training
        micro_batch = decided(training.micro_batch_size)
        rollout = self.recipe.rollout
        tokens = micro_batch * (rollout.max_prompt_tokens + rollout.openings.max_tokens)
        block = tokens * self._block_per_token()
        at_work = tokens * self.hidden_bytes * 2 * (shape.intermediate_size + shape.hidden_size)  # gradients in a block
        kept = tokens * shape.hidden_size * self.hidden_bytes  # a block's input
        if not training.gradient_checkpointing:
            activations = block * shape.num_layers + at_work
        elif self.is_unsloth:
            activations = 2 * kept + block + at_work  # it sends the blocks' inputs to the machine's memory
        else:
            activations = kept * shape.num_layers + block + at_work
        return {
            "gradients": self.lora_weights * _LORA_BYTES,
            "activations": activations,
            "logits": self._logits(micro_batch * rollout.openings.max_tokens, micro_batch),
        }

    def _block_per_token(self) -> int:
        """Bytes per token that one block keeps for its backward pass.

        Two norms' inputs and outputs; queries, repeated keys and values, and what attention makes of them, twice; the
        MLP's gate before and after its activation, its other half and their product; what goes between LoRA's factors.
        """
        shape = self.shape
        adapters = self.recipe.lora.rank * len(self.recipe.lora.targets)
        kept = 4 * shape.hidden_size + 5 * shape.attention_dim + 4 * shape.intermediate_size + adapters
        return self.hidden_bytes * kept

    def _logits(self, tokens: int, micro_batch: int) -> int:
        """The update's logits, which outweigh all else with a vocabulary of 150 thousand.

        TRL holds four of them in 32 bits: as computed, their gradient, and two parts that it is summed from
        (measured). Unsloth computes them in chunks of 16 bits, turned to 32, and keeps the latter of all chunks for
        the backward pass; where `logit_chunks` is given it keeps nothing and computes each chunk twice.
        """
        size = self.shape.vocab_size
        if not self.is_unsloth:
            return 4 * 4 * tokens * size
        if self.recipe.training.logit_chunks is None:
            chunk = tokens // (_UNSLOTH_LOGIT_CHUNKS * micro_batch)
            return 4 * tokens * size + (2 + 4) * chunk * size
        chunk = tokens // (self.recipe.training.logit_chunks * micro_batch)
        return (2 + 4 + 4) * chunk * size
