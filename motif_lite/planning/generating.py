"""Memory while replies are generated: by our engine, or by the model's own `generate`."""

from collections.abc import Iterator
from dataclasses import dataclass

from motif_lite.nouns import Sampling
from motif_lite.planning.limits import DRAWN_TOGETHER, LARGEST_FOLDED_BYTES, READ_COLUMNS, READ_TOKENS
from motif_lite.planning.machine import MIB
from motif_lite.planning.rows import (
    Measured,
    dequantises,
    futures_per_step,
    later_prompt,
    openings_at_once,
    written_by_generate,
)
from motif_lite.planning.sizes import Items, Sizes
from motif_lite.recipe.schema import WarmStartSection, decided

_MULTIPLIED_TOGETHER = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))
"""Layers whose products with 4-bit weights the engine makes one of (`policies.engine.products`)."""

_GRAPHS = 400 * MIB
"""Of CUDA graphs and their workspaces: on an H100 0.4 GiB more were reserved than is counted without them, with weights
dequantised once and at every step."""


@dataclass(frozen=True, slots=True)
class Generating(Sizes):
    """What a call for replies needs at its peak, beyond what is there in every phase."""

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

    def evaluation(self, measured: list[Measured]) -> Items:
        """The hungriest call: first or later round, of whatever is measured before, during and after training."""
        return max((call for each in measured for call in self._measuring(each)), key=lambda items: sum(items.values()))

    def _measuring(self, measured: Measured) -> Iterator[Items]:
        """A call of the first and one of a later round."""
        rollout, section = self.recipe.rollout, self.recipe.evaluation
        rows = min(decided(rollout.max_width), measured.num_trajectories)
        drawn = {"temperature": section.temperature if measured.is_sampled else 0.0, "top_p": section.top_p}
        yield self._generation(rows, rows, rollout.max_prompt_tokens, rollout.openings.model_copy(update=drawn))
        if {*section.strategies, rollout.strategy} != {"single_round"}:
            yield self._generation(rows, rows, later_prompt(self.recipe), rollout.futures.model_copy(update=drawn))

    def solutions(self, section: WarmStartSection) -> Items:
        """What a warm start samples, under prompts as long as those of a run."""
        rows = min(decided(self.recipe.rollout.max_width), section.num_problems)
        return self._generation(rows, rows, self.recipe.rollout.max_prompt_tokens, self.recipe.sampling_of(section))

    def _generation(self, rows: int, unlike: int, prompt: int, sampling: Sampling) -> Items:
        """One call for replies, at its peak; without what is `resident`.

        Args:
            rows: Replies at a time.
            unlike: Different prompts among theirs.
            prompt: Tokens of each.
        """
        if self.recipe.model.fast_inference:
            return {}  # it happens inside vLLM's share
        if written_by_generate(self.recipe, self.shape):
            return self._wide_call(rows, prompt, sampling)
        return self._engine(rows, unlike, prompt, sampling)

    def _engine(self, rows: int, unlike: int, prompt: int, sampling: Sampling) -> Items:
        """The rollout engine: keys and values for all tokens from the start, prompts read in batches, then steps.

        A prompt's last token is not read but taken for the first step, so a row has one column less than tokens.
        """
        shape, read, columns = self.shape, prompt - 1, prompt - 1 + sampling.max_tokens
        held = self._folded() | {"KV cache": (rows * columns + 1) * self._kv_per_token()}
        if dequantises(self.recipe, self.shape):
            held |= self._written_out()
        if self.machine.device == "cuda" and self.shape.decodes:
            held["recorded steps"] = _GRAPHS
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
        """The model's `generate`: the KV cache, and the larger of reading the prompts and writing the last token."""
        shape, end, kv_token = self.shape, prompt + sampling.max_tokens, self._kv_per_token()
        # Prompts of different lengths need a mask: once as truth values and once as numbers.
        reading = rows * prompt * (self._block_reads() + prompt * (1 + self.hidden_bytes))
        # The cache grows by copying a layer at a time. With a mask, attention also repeats keys and values for every
        # head, a layer at a time, and asks for a kernel that does it in 32 bits (read in its source).
        growing = rows * end * (2 * shape.kv_dim * self.hidden_bytes + 2 * shape.attention_dim * 4)
        drawing = self._drawing(rows, sampling)
        writing = rows * end * kv_token + growing
        if writing >= rows * prompt * kv_token + reading:
            return self._folded() | {"KV cache": rows * end * kv_token, "activations": growing, "logits": drawing}
        return self._folded() | {"KV cache": rows * prompt * kv_token, "activations": reading, "logits": drawing}

    def _kv_per_token(self) -> int:
        """Bytes of a token's keys and values in all layers."""
        return 2 * self.shape.num_layers * self.shape.kv_dim * self.hidden_bytes

    def _block_reads(self) -> int:
        """Bytes per prompt token while a block of the model runs: the MLP's intermediates are the most."""
        shape = self.shape
        return self.hidden_bytes * (3 * shape.hidden_size + 4 * shape.intermediate_size)

    def _folded(self) -> Items:
        """A copy of the weights that the transformers backend folds the adapter into; nothing where it does not."""
        if self.is_unsloth or self.recipe.model.load_in_4bit or self.weight_bytes < 4 or self.writes_in_bf16:
            return {}
        copied = self.weight_bytes * self.shape.num_target_weights(self.recipe.lora.targets)
        return {"folded adapter": copied} if copied <= LARGEST_FOLDED_BYTES else {}

    def _drawing(self, rows: int, sampling: Sampling) -> int:
        """Logits as the model computes them, and what `sampler.draw` makes of those that it works on together.

        In 32 bits: logits less the largest; to sample, probabilities or sums. A nucleus sorts them: on a CPU sorted,
        reversed, summed, and sums less themselves; on a GPU, where its kernel cannot be used, with 64-bit indices,
        twice. `generate` copies logits.
        """
        on_gpu, size = self.machine.device == "cuda", self.shape.vocab_size
        copies = written_by_generate(self.recipe, self.shape)
        work = 4 * (self.hidden_bytes < 4 and not copies) + (4 if sampling.temperature == 0 else 2 * 4)
        if sampling.temperature and sampling.top_p < 1:
            work += 2 * (4 + 8) if on_gpu else 4 * 4
        together = rows if on_gpu else min(rows, max(1, DRAWN_TOGETHER // size))
        return size * (rows * (self.hidden_bytes + 4 * copies) + together * work)
