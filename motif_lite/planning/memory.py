"""How much memory a recipe needs, by phase, from shapes alone: the arithmetic behind the plan.

A training step has three phases that never overlap: openings are generated, their futures are generated, the
adapter is updated; evaluation is a fourth. What stays (libraries, weights, adapter, optimizer) is in all of them.
Everything is counted for the worst case: every prompt as long as the recipe allows, every reply running to its limit.

Counts of tensors follow the code that allocates them (transformers 5.17, TRL 1.14, Unsloth 2026.10); where a number was
found by measuring, its comment says so. docs/measurements.md compares estimates with measured peaks.
"""

from dataclasses import dataclass

from motif_lite.nouns import Sampling
from motif_lite.planning.hardware import torch_build
from motif_lite.planning.limits import (
    DRAWN_TOGETHER,
    LARGEST_FOLDED_BYTES,
    LOGIT_CHUNK_BYTES,
    READ_COLUMNS,
    READ_TOKENS,
)
from motif_lite.planning.machine import GIB, MIB, Machine
from motif_lite.planning.rows import (
    dequantises,
    futures_per_step,
    later_prompt,
    longest_trained,
    openings_at_once,
    packed_tokens,
    written_by_unsloth,
)
from motif_lite.planning.shapes import ModelShape
from motif_lite.recipe.schema import Recipe, SourceSection, decided

Items = dict[str, int]
"""Bytes by what they are for."""

CUDA_LIBRARIES = 700 * MIB
"""CUDA context, cuBLAS workspace, compiled kernels. Assumed: no GPU has been at hand."""

_IMPORTED = {"CPU": 550 * MIB, "CUDA": 880 * MIB}
"""Python with torch, transformers, PEFT, TRL and datasets imported, by torch's build, as resident memory on Linux:
548 MiB measured with 2.13.0+cpu, 881 with 2.13.0+cu130. For a plan only: a run measures it (`metering.measured`)."""

_FIRST_USE = 70 * MIB
"""What the libraries allocate when they are first used, threads and kernels: 40 MiB measured with one thread, 100 with
two."""

_NF4_BYTES = 0.5 + 1 / 64 + 4 / (64 * 256)
"""Per weight: 4 bits, an 8-bit scale for 64 weights, and a 32-bit one for 256 of those (double quantisation)."""

_LORA_BYTES = 4
"""PEFT and Unsloth keep adapters in 32 bits, whatever the base is in."""

_OPTIMIZER_BYTES = {"adamw_8bit": 2, "paged_adamw_8bit": 2, "adamw_torch": 8, "adamw_torch_fused": 8}
"""Both moments, per trained weight; on a GPU paged ones wait in the machine's memory."""

_UNSLOTH_LOGIT_CHUNKS = 4
"""Unsloth's own choice per row for contexts under 16,384 tokens (`autotune_batch_and_chunks`)."""


_MULTIPLIED_TOGETHER = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))
"""Layers whose products with 4-bit weights the engine makes one of (`policies.engine.products`)."""


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
        return {phase: self.total(phase) - unseen for phase in self.phases if phase != "evaluation"}

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
    counting = _Counting(recipe, shape, machine)
    resident = counting.resident()
    phases = {}
    if trains:
        phases["openings"] = counting.openings()
        if recipe.rollout.strategy != "single_round":
            phases["futures"] = counting.futures()
        phases["update"] = counting.update()
    if evaluated := _evaluated(recipe, trains=trains):
        phases["evaluation"] = counting.evaluation(evaluated)
    return Estimate({phase: resident | items for phase, items in phases.items()}, resident["libraries"])


def _evaluated(recipe: Recipe, *, trains: bool) -> list[SourceSection]:
    """What is measured, along the way or at either end."""
    section = recipe.evaluation
    validation = [section.validation] if section.validation and trains else []
    at_the_ends = section.benchmarks.values() if section.before or section.after or not trains else ()
    return [*validation, *at_the_ends]


@dataclass(frozen=True, slots=True)
class _Counting:
    recipe: Recipe
    shape: ModelShape
    machine: Machine

    @property
    def is_unsloth(self) -> bool:
        return self.recipe.model.backend == "unsloth"

    @property
    def packs(self) -> bool:
        """An update computes once what rows have in common."""
        return not self.is_unsloth and self.shape.packs

    @property
    def weight_bytes(self) -> int:
        """Bytes of an unquantised weight."""
        dtype = self.recipe.model.dtype
        if dtype == "auto":
            dtype = "bfloat16" if self.machine.device == "cuda" else "float32"
        return 4 if dtype == "float32" else 2

    @property
    def hidden_bytes(self) -> int:
        """Bytes of an activation; with quantised weights PEFT keeps embeddings, so all that follows, in 32 bits."""
        return 4 if self.recipe.model.load_in_4bit and not self.is_unsloth else self.weight_bytes

    @property
    def lora_weights(self) -> int:
        return self.shape.num_lora_weights(self.recipe.lora.rank, self.recipe.lora.targets)

    def resident(self) -> Items:
        """What is there in every phase."""
        shape, quantised = self.shape, self.recipe.model.load_in_4bit
        linear = _NF4_BYTES if quantised else self.weight_bytes
        other = self.hidden_bytes if quantised else self.weight_bytes
        weights = int(shape.num_linear_weights * linear + shape.num_other_weights * other)
        if self.recipe.model.fast_inference:  # vLLM's share holds the weights and its KV cache
            weights = max(weights, int(self.recipe.model.gpu_memory_utilization * self.machine.memory_gib * GIB))
        optimizer = self.recipe.training.optimizer
        is_paged = optimizer.startswith("paged") and self.machine.device == "cuda"
        return {
            "libraries": self._libraries(),
            "weights": weights,
            "adapter": self.lora_weights * _LORA_BYTES,
            "optimizer": 0 if is_paged else self.lora_weights * _OPTIMIZER_BYTES[optimizer],
        }

    def _libraries(self) -> int:
        if self.machine.device == "cuda":
            return CUDA_LIBRARIES
        return (self.machine.libraries or _IMPORTED[torch_build()]) + _FIRST_USE

    def openings(self) -> Items:
        rollout, rows = self.recipe.rollout, openings_at_once(self.recipe, self.shape)
        unlike = min(rows, self.recipe.training.problems_per_step)
        return self._generation(rows, unlike, rollout.max_prompt_tokens, rollout.openings)

    def futures(self) -> Items:
        """A later round of all futures, or of as many as go together."""
        rollout = self.recipe.rollout
        rows = min(decided(rollout.max_width), futures_per_step(self.recipe))
        unlike = rows if rollout.num_rounds > 2 else min(rows, self.recipe.openings_per_step)
        return self._generation(rows, unlike, later_prompt(self.recipe), rollout.futures)

    def evaluation(self, sources: list[SourceSection]) -> Items:
        """The hungriest call: first or later round, of the largest benchmark, or of what is measured along the way."""
        rollout, section = self.recipe.rollout, self.recipe.evaluation
        width = decided(rollout.max_width)
        problems = max(source.num_problems or width for source in sources)
        rows = min(width, problems * max(1, section.num_samples))
        drawn = {"temperature": section.temperature if section.num_samples else 0.0, "top_p": section.top_p}
        calls = [self._generation(rows, rows, rollout.max_prompt_tokens, rollout.openings.model_copy(update=drawn))]
        if {*section.strategies, rollout.strategy} != {"single_round"}:
            later = rollout.futures.model_copy(update=drawn)
            calls.append(self._generation(rows, rows, later_prompt(self.recipe), later))
        return max(calls, key=lambda items: sum(items.values()))

    def _generation(self, rows: int, unlike: int, prompt: int, sampling: Sampling) -> Items:
        """One call for replies, at its peak; without what is `resident`.

        Args:
            rows: Replies at a time.
            unlike: Different prompts among theirs.
            prompt: Tokens of each.
        """
        if self.recipe.model.fast_inference:
            return {}  # it happens inside vLLM's share
        if written_by_unsloth(self.recipe, self.shape):
            return self._wide_call(rows, prompt, sampling)
        return self._engine(rows, unlike, prompt, sampling)

    def _engine(self, rows: int, unlike: int, prompt: int, sampling: Sampling) -> Items:
        """The rollout engine: keys and values for all tokens from the start, prompts read in batches, then steps.

        A prompt's last token is not read but taken for the first step, so a row has one column less than tokens.
        """
        shape, read, columns = self.shape, prompt - 1, prompt - 1 + sampling.max_tokens
        held = {"KV cache": (rows * columns + 1) * self._kv_per_token()}
        if self._folded_bytes():
            held["folded adapter"] = self._folded_bytes()
        if dequantises(self.recipe, self.shape):
            held |= self._written_out()
        # Of one layer: what a pass looks back on is gathered, then repeated for every head; rows are copied to others.
        tokens, seen = (min(unlike * read, max(limit, read)) for limit in (READ_TOKENS, READ_COLUMNS))
        gathered = seen * 2 * (shape.kv_dim + shape.attention_dim) * self.hidden_bytes
        copied = rows * read * shape.kv_dim * self.hidden_bytes
        mask = 1 + self.hidden_bytes  # of one token and column: as truth values and as numbers
        reading = max(tokens * (self._block_reads() + read * mask) + gathered, copied)
        writing = rows * (self._block_reads() + columns * mask)
        drawing = self._drawing(rows, sampling)
        if reading >= writing + drawing:
            return held | {"activations": reading}  # reading computes no logits
        return held | {"activations": writing, "logits": drawing}

    def _written_out(self) -> Items:
        """4-bit weights in 16 bits, all or those of one product at a time, and the adapter, with its zeros."""
        shape, all_of_them = self.shape, self.recipe.rollout.weights != "4bit"
        weights = shape.num_linear_weights if all_of_them else shape.num_largest_product
        # Two layers with the same inputs are one product, three are one: their second factors stand in a diagonal.
        rank, targeted = self.recipe.lora.rank, shape.targeted(self.recipe.lora.targets)
        outputs = {name: shape.projections[name][1] for name in targeted}
        together = [[name for name in names if name in outputs] for names in _MULTIPLIED_TOGETHER]
        zeros = sum((len(names) - 1) * sum(outputs[name] for name in names) for names in together if names)
        adapter = self.lora_weights + shape.num_layers * rank * zeros
        return {"weights in 16 bits": 2 * weights, "adapter in 16 bits": 2 * adapter}

    def _wide_call(self, rows: int, prompt: int, sampling: Sampling) -> Items:
        """Unsloth's `generate`: the KV cache, and the larger of reading the prompts and writing the last token."""
        shape, end, kv_token = self.shape, prompt + sampling.max_tokens, self._kv_per_token()
        # Prompts of different lengths need a mask: once as truth values and once as numbers.
        reading = rows * prompt * (self._block_reads() + prompt * (1 + self.hidden_bytes))
        # The cache grows by copying a layer at a time. With a mask, attention also repeats keys and values for every
        # head, a layer at a time, and asks for a kernel that does it in 32 bits (read in its source).
        growing = rows * end * (2 * shape.kv_dim * self.hidden_bytes + 2 * shape.attention_dim * 4)
        drawing = self._drawing(rows, sampling)
        writing = rows * end * kv_token + growing
        if writing >= rows * prompt * kv_token + reading:
            return {"KV cache": rows * end * kv_token, "activations": growing, "logits": drawing}
        return {"KV cache": rows * prompt * kv_token, "activations": reading, "logits": drawing}

    def _kv_per_token(self) -> int:
        """Bytes of a token's keys and values in all layers."""
        return 2 * self.shape.num_layers * self.shape.kv_dim * self.hidden_bytes

    def _block_reads(self) -> int:
        """Bytes per prompt token while a block of the model runs: the MLP's intermediates are the most."""
        shape = self.shape
        return self.hidden_bytes * (3 * shape.hidden_size + 4 * shape.intermediate_size)

    def _folded_bytes(self) -> int:
        """Of the weights that the engine's backend folds the adapter into; 0 where it does not."""
        if self.is_unsloth or self.recipe.model.load_in_4bit or self.weight_bytes < 4:
            return 0
        copied = self.weight_bytes * self.shape.num_target_weights(self.recipe.lora.targets)
        return copied if copied <= LARGEST_FOLDED_BYTES else 0

    def _drawing(self, rows: int, sampling: Sampling) -> int:
        """Logits as the model computes them, and what `sampler.draw` makes of those that it works on together.

        In 32 bits: logits less the largest; to sample, probabilities or sums. A nucleus sorts them: on a CPU sorted,
        reversed, summed, and sums less themselves; on a GPU with 64-bit indices, twice. `generate` copies logits.
        """
        on_gpu, size = self.machine.device == "cuda", self.shape.vocab_size
        work = 4 * (self.hidden_bytes < 4 and not self.is_unsloth) + (4 if sampling.temperature == 0 else 2 * 4)
        if sampling.temperature and sampling.top_p < 1:
            work += 2 * (4 + 8) if on_gpu else 4 * 4
        together = rows if on_gpu else min(rows, max(1, DRAWN_TOGETHER // size))
        return size * (rows * (self.hidden_bytes + 4 * self.is_unsloth) + together * work)

    def update(self) -> Items:
        """One forward and backward pass of a micro-batch.

        With checkpointing a block is recomputed after the logits are freed: the larger of the two counts.
        """
        shape, training = self.shape, self.recipe.training
        micro_batch = decided(training.micro_batch_size)
        tokens = packed_tokens(self.recipe) if self.packs else micro_batch * sum(longest_trained(self.recipe))
        gradients = {"gradients": self.lora_weights * _LORA_BYTES}
        block = tokens * self._block_per_token()
        logits = self._logits(micro_batch)
        if not training.gradient_checkpointing:
            return gradients | {"activations": block * shape.num_layers, "logits": logits}
        # The blocks' inputs are kept; Unsloth sends all but two to the machine's memory.
        kept = tokens * self.hidden_bytes * shape.hidden_size * (2 if self.is_unsloth else shape.num_layers)
        backward = tokens * self.hidden_bytes * 2 * (shape.intermediate_size + shape.hidden_size)
        at_work = block + backward
        if at_work > logits:
            return gradients | {"activations": kept + at_work}
        return gradients | {"activations": kept, "logits": logits}

    def _block_per_token(self) -> int:
        """Bytes per token that one block keeps for its backward pass.

        Two norms' inputs and outputs; queries, keys, values, and what attention makes of them, twice; the MLP's gate
        before and after its activation, its other half and their product; what goes between LoRA's factors. Rows that
        are not packed keep keys and values repeated for every head.
        """
        shape = self.shape
        adapters = self.recipe.lora.rank * len(shape.targeted(self.recipe.lora.targets))
        attention = 3 * shape.attention_dim + 2 * (shape.kv_dim if self.packs else shape.attention_dim)
        kept = 4 * shape.hidden_size + attention + 4 * shape.intermediate_size + adapters
        return self.hidden_bytes * kept

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
