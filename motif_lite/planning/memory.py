"""How much memory a recipe needs, by phase, from shapes alone: the arithmetic behind the plan.

A training step has three phases that never overlap: openings are generated, their futures are generated, the
adapter is updated; evaluation is a fourth, and a warm start has two. What stays (libraries, weights, adapter,
optimizer) is in all of them.
Everything is counted for the worst case: every prompt as long as the recipe allows, every reply running to its limit.

Counts of tensors follow the code that allocates them (transformers 5.17, TRL 1.14, Unsloth 2026.10); where a number was
found by measuring, its comment says so. docs/measurements.md compares estimates with measured peaks.
"""

from dataclasses import dataclass

from motif_lite.planning.generating import Generating
from motif_lite.planning.hardware import torch_build
from motif_lite.planning.limits import LOGIT_CHUNK_BYTES
from motif_lite.planning.machine import GIB, MIB, Machine
from motif_lite.planning.rows import Lengths, longest_trained, measured, packed_tokens, values_per_block
from motif_lite.planning.shapes import ModelShape
from motif_lite.planning.sizes import Items, Sizes
from motif_lite.recipe.schema import Recipe, decided

CUDA_LIBRARIES = 700 * MIB
"""CUDA context, cuBLAS workspace, compiled kernels. Assumed, not measured."""

_IMPORTED = {"CPU": 550 * MIB, "CUDA": 880 * MIB}
"""Python with torch, transformers, PEFT, TRL and datasets imported, by torch's build, as resident memory on Linux:
548 MiB measured with 2.13.0+cpu, 881 with 2.13.0+cu130. For a plan only: a run measures it (`metering.measured`)."""

_FIRST_USE = 70 * MIB
"""What the libraries allocate when they are first used, threads and kernels: 40 MiB measured with one thread, 100 with
two."""

_NF4_BYTES = 0.5 + 1 / 64 + 4 / (64 * 256)
"""Per weight: 4 bits, an 8-bit scale for 64 weights, and a 32-bit one for 256 of those (double quantisation)."""

_NARROW_VALUES = 0.63
"""Of the bytes that a block keeps for its backward pass in 32 bits, those that it keeps under bfloat16 autocast: 6.9 of
11.0 MiB for 128 packed tokens of a layer of Qwen2.5-0.5B's shape. Norms stay in 32 bits."""

_LORA_BYTES = 4
"""PEFT and Unsloth keep adapters in 32 bits, whatever the base is in."""

_OPTIMIZER_BYTES = {"adamw_8bit": 2, "paged_adamw_8bit": 2, "adamw_torch": 8, "adamw_torch_fused": 8}
"""Both moments, per trained weight; on a GPU paged ones wait in the machine's memory."""

_OUTSIDE_OF_STEPS = {"evaluation", "warm start", "imitation"}

_IMITATED_TOGETHER = 256
"""Tokens whose logits TRL's supervised loss has at a time (`_CHUNKED_LM_HEAD_CHUNK_SIZE`)."""

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

    def measurable(self, device_type: str) -> dict[str, int]:
        """The bytes of a step's phases that `metering.PhaseMeter` can see: on a GPU only what PyTorch holds."""
        unseen = self.libraries if device_type == "cuda" else 0
        return {phase: self.total(phase) - unseen for phase in self.phases if phase not in _OUTSIDE_OF_STEPS}

    @property
    def peak(self) -> int:
        """Bytes of the phase that needs most; 0 where there is nothing to do."""
        return max(map(self.total, self.phases), default=0)


def estimate(recipe: Recipe, shape: ModelShape, machine: Machine, *, trains: bool = True) -> Estimate:
    """Peak bytes by phase.

    Args:
        recipe: What is to be run, with numbers for ``auto``.
        shape: Of the model.
        machine: Where it will run; vLLM takes a share of all that it has.
        trains: It is not for an evaluation alone.
    """
    given = recipe, shape, machine
    generating, resident = Generating(*given), _Staying(*given).resident()
    phases = {}
    if trains:
        phases["openings"] = generating.openings()
        if recipe.rollout.strategy != "single_round":
            phases["futures"] = generating.futures()
        phases["update"] = _Updating(*given).update()
    if trains and recipe.warm_start:
        phases["warm start"] = generating.solutions(recipe.warm_start)
        phases["imitation"] = _Updating(*given).imitation()
    if found := measured(recipe, trains=trains):
        phases["evaluation"] = generating.evaluation(found)
    return Estimate({phase: resident | items for phase, items in phases.items()}, resident["libraries"])


@dataclass(frozen=True, slots=True)
class _Staying(Sizes):
    """What is there in every phase."""

    def resident(self) -> Items:
        """What is there in every phase."""
        shape, quantised = self.shape, self.recipe.model.load_in_4bit
        linear = _NF4_BYTES if quantised else self.weight_bytes
        other = self.hidden_bytes if quantised else self.weight_bytes
        weights = int(shape.num_linear_weights * linear + shape.num_other_weights * other)
        if self.recipe.model.fast_inference:  # vLLM's share holds the weights and its KV cache
            weights = max(weights, int(self.recipe.model.gpu_memory_utilization * self.machine.memory_gib * GIB))
        if self.writes_in_bf16:
            weights += 2 * (shape.num_linear_weights + shape.vocab_size * shape.hidden_size)
        optimizer = self.recipe.training.optimizer
        is_paged = optimizer.startswith("paged") and self.machine.device == "cuda"
        staying = {
            "libraries": self._libraries(),
            "weights": weights,
            "adapter": self.lora_weights * _LORA_BYTES,
            "optimizer": 0 if is_paged else self.lora_weights * _OPTIMIZER_BYTES[optimizer],
        }
        if self.recipe.training.beta:  # TRL keeps the adapter as it was at first
            staying["reference adapter"] = self.lora_weights * _LORA_BYTES
        return staying

    def _libraries(self) -> int:
        if self.machine.device == "cuda":
            return CUDA_LIBRARIES
        return (self.machine.libraries or _IMPORTED[torch_build()]) + _FIRST_USE


@dataclass(frozen=True, slots=True)
class _Updating(Sizes):
    """What an update needs at its peak, beyond what stays."""

    def update(self) -> Items:
        """One forward and backward pass of a micro-batch."""
        micro_batch = decided(self.recipe.training.micro_batch_size)
        tokens = packed_tokens(self.recipe) if self.packs else micro_batch * sum(longest_trained(self.recipe))
        return self._pass(tokens, self._logits(micro_batch), packs=self.packs)

    def imitation(self) -> Items:
        """That of one round of a warm start, which is never packed.

        TRL recomputes the logits of some tokens at a time. Of Unsloth's own loss it is assumed that it has as many
        chunks as in the update.
        """
        prompt, reply = Lengths.worst(self.recipe).imitated(self.recipe)
        together = (prompt + reply) // _UNSLOTH_LOGIT_CHUNKS if self.is_unsloth else min(_IMITATED_TOGETHER, reply)
        copies = (2 + 4 + 4) if self.is_unsloth else 4 * 4
        return self._pass(prompt + reply, copies * together * self.shape.vocab_size, packs=False)

    def _pass(self, tokens: int, logits: int, *, packs: bool) -> Items:
        """Forward and backward.

        With checkpointing a block is recomputed after the logits are freed: the larger of the two counts.
        """
        shape = self.shape
        gradients = {"gradients": self.lora_weights * _LORA_BYTES}
        block = tokens * self.hidden_bytes * values_per_block(self.recipe, shape, packs=packs)
        cast = 0
        if self.updates_in_bf16:
            # Autocast casts frozen weights anew, the head's with each chunk of logits; backward passes keep the others.
            block, cast = int(_NARROW_VALUES * block), 2 * shape.num_linear_weights
            logits += 2 * shape.vocab_size * shape.hidden_size
        if not self.recipe.training.gradient_checkpointing:
            casts = {"weights in 16 bits": cast} if cast else {}
            return gradients | casts | {"activations": block * shape.num_layers, "logits": logits}
        # The blocks' inputs are kept; Unsloth sends all but two to the machine's memory.
        kept = tokens * self.hidden_bytes * shape.hidden_size * (2 if self.is_unsloth else shape.num_layers)
        backward = tokens * self.hidden_bytes * 2 * (shape.intermediate_size + shape.hidden_size)
        at_work = block + backward + cast // shape.num_layers
        if at_work > logits:
            return gradients | {"activations": kept + at_work}
        return gradients | {"activations": kept, "logits": logits}

    def _logits(self, micro_batch: int) -> int:
        """The update's logits, which outweigh all else with a vocabulary of 150 thousand.

        Packed rows have a few of them at a time. Of others TRL holds four in 32 bits: as computed, their gradient, and
        two parts that it is summed from (measured). Unsloth computes them in chunks of 16 bits, turned to 32, and keeps
        the latter of all chunks for the backward pass; where `logit_chunks` is given it keeps nothing and computes
        each chunk twice.
        """
        size, (prompt, reply) = self.shape.vocab_size, longest_trained(self.recipe)
        if not self.is_unsloth:
            whole = 4 * micro_batch * reply * size
            return 4 * (min(LOGIT_CHUNK_BYTES, whole) if self.packs else whole)
        # Unsloth compares packed rows with whole ones, at first and when they grow; out of memory, it stops packing.
        checking, chunks = (2 + 4) * (prompt + reply), self.recipe.training.logit_chunks
        if chunks is None:
            return max(checking, 4 * micro_batch * reply + (2 + 4) * (reply // _UNSLOTH_LOGIT_CHUNKS)) * size
        return max(checking, (2 + 4 + 4) * (reply // chunks)) * size
