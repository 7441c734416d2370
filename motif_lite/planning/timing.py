"""How long a step takes: the work of its phases, counted from shapes, at the speed of the machine.

A GPU's speed is assumed. A CPU's is measured with NumPy, which multiplies about as fast as PyTorch does and is imported
in a tenth of a second (`probe`).
"""

import math
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from motif_lite.credits.table import credit_of
from motif_lite.planning import probe
from motif_lite.planning.limits import LARGEST_FOLDED_BYTES
from motif_lite.planning.machine import DeviceType
from motif_lite.planning.rows import later_prompt, longest_trained, openings_at_once, replies_in_round, update_tokens
from motif_lite.planning.shapes import ModelShape
from motif_lite.recipe.schema import Recipe, decided

_PROBE_SECONDS = 60
"""The probe takes two; where it does not answer, speeds are assumed."""


@dataclass(frozen=True, slots=True)
class Speed:
    """What a machine does.

    Attributes:
        bytes_per_second: Of weights, as a product with few rows takes them in.
        flops_per_second: Of matrix products, as reached and not as advertised.
        layer_seconds: What one layer costs per token step whatever its size: Python, and launching kernels.
        overlaps: Reading weights and computing happen at the same time.
        is_measured: On this machine, now.
    """

    bytes_per_second: float
    flops_per_second: float
    layer_seconds: float
    overlaps: bool = False
    is_measured: bool = False

    def __str__(self) -> str:
        return (
            f"{self.bytes_per_second / 1e9:.3g} GB/s of weights, {self.flops_per_second / 1e12:.3g} TFLOPS reached, "
            f"{1e3 * self.layer_seconds:g} ms per layer and token step"
        )


ASSUMED: dict[DeviceType, Speed] = {
    "cuda": Speed(900e9, 25e12, 1e-3, overlaps=True),  # a 24 GB card of the RTX 3090's kind; none has been measured
    "cpu": Speed(10e9, 0.4e12, 0.5e-3),  # two cores of a server, where nothing is measured
}


def measured() -> Speed:
    """This CPU's speed where nothing else works on it, `probe`'s one core times their number. Takes two seconds.

    As everywhere, OMP_NUM_THREADS says how many threads there are; by default PyTorch has one per core.
    """
    command = [sys.executable, "-P", probe.__file__]
    one_thread = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    try:
        done = subprocess.run(
            command, env=os.environ | one_thread, capture_output=True, text=True, timeout=_PROBE_SECONDS, check=True
        )
        flops, narrow = map(float, done.stdout.split())
    except (OSError, subprocess.SubprocessError, ValueError):
        return ASSUMED["cpu"]
    size, cores = probe.WEIGHTS**2, _num_threads()
    reading = max(narrow - 2 * probe.NARROW * size / flops, 0.1 * narrow)
    return Speed(cores * 4 * size / reading, cores * flops, ASSUMED["cpu"].layer_seconds, is_measured=True)


def _num_threads() -> int:
    """Of PyTorch's products: cores that this process may use, two threads of one core being one."""
    given = os.environ.get("OMP_NUM_THREADS", "")
    if given.isdigit() and int(given):
        return int(given)
    if not hasattr(os, "sched_getaffinity"):  # not Linux
        return os.cpu_count() or 1
    topology = "/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"
    files = [Path(topology.format(number)) for number in os.sched_getaffinity(0)]
    return len({file.read_text(encoding="ascii") if file.exists() else str(file) for file in files})


def step_seconds(recipe: Recipe, shape: ModelShape, device: DeviceType, speed: Speed) -> dict[str, float]:
    """Of one step, by phase, if every prompt and every reply is as long as the recipe allows."""
    rollout, work = recipe.rollout, _Work(recipe, shape, device, speed)
    openings, problems = recipe.openings_per_step, recipe.training.problems_per_step
    at_once, first = openings_at_once(recipe), rollout.max_prompt_tokens
    seconds = {"openings": work.round(openings, at_once, problems * first, first, rollout.openings.max_tokens)}
    seconds["futures"] = 0.0
    if rollout.strategy != "single_round":
        later, new, unlike = later_prompt(recipe), rollout.futures.max_tokens, openings
        for round_number in range(2, rollout.num_rounds + 1):
            futures = replies_in_round(recipe, round_number)
            width = min(decided(rollout.max_width), futures)
            unread = problems * first + unlike * max(0, later - first)
            seconds["futures"] += work.round(futures, width, unread, later, new)
            unlike = futures  # in the round after an opening, futures share its reply
    seconds["update"] = work.update()
    return seconds


def thinking_seconds(
    recipe: Recipe, shape: ModelShape, device: DeviceType, speed: Speed, trajectories: int, rounds: int
) -> tuple[float, float]:
    """Of the first and of all later rounds of an evaluation, under the same condition.

    Args:
        trajectories: Problems times samples.
        rounds: Of each.
    """
    if not trajectories:
        return 0.0, 0.0
    rollout, work = recipe.rollout, _Work(recipe, shape, device, speed)
    width, first, later = min(decided(rollout.max_width), trajectories), rollout.max_prompt_tokens, later_prompt(recipe)
    openings = work.round(trajectories, width, trajectories * first, first, rollout.openings.max_tokens)
    rest = work.round(trajectories, width, trajectories * later, later, rollout.futures.max_tokens)
    return openings, (rounds - 1) * rest


@dataclass(frozen=True, slots=True)
class _Work:
    recipe: Recipe
    shape: ModelShape
    device: DeviceType
    speed: Speed

    @property
    def lora(self) -> int:
        return self.shape.num_lora_weights(self.recipe.lora.rank, self.recipe.lora.targets)

    @property
    def head(self) -> int:
        return self.shape.vocab_size * self.shape.hidden_size

    def round(self, replies: int, width: int, unread: int, prompt: int, new: int) -> float:
        """All replies of one round, so many at a time: prompts are read, then a step is taken for every new token.

        Args:
            unread: Prompt tokens that are read, without what prompts share; Unsloth's `generate` reads all of every
                row.
            prompt: Tokens of each prompt.
            new: Tokens of each reply.
        """
        if self.recipe.model.backend == "unsloth":
            unread = replies * prompt
        calls = math.ceil(replies / width)
        reading = unread * 2 * self._linear / self.speed.flops_per_second
        return calls * new * self._token_step(width, prompt + new // 2) + reading

    def _token_step(self, rows: int, columns: int) -> float:
        """One more token for every row."""
        shape, speed = self.shape, self.speed
        # A quantised weight is read, written out as 16 bits, and read again.
        value_bytes = 2.0 if self.device == "cuda" else 4.0
        weight_bytes = 4.5 if self.recipe.model.load_in_4bit else value_bytes
        weights = self._linear + self.head
        kv = rows * columns * 2 * shape.num_layers * shape.kv_dim * value_bytes
        reading = (weight_bytes * weights + kv) / speed.bytes_per_second
        arithmetic = rows * 2 * weights / speed.flops_per_second
        together = max(reading, arithmetic) if speed.overlaps else reading + arithmetic
        return shape.num_layers * speed.layer_seconds + together

    @property
    def _linear(self) -> int:
        """Weights of the blocks, with the adapter's where it is not added into them while replies are written."""
        copied = 4 * self.shape.num_target_weights(self.recipe.lora.targets)
        is_folded = self.device == "cpu" and copied <= LARGEST_FOLDED_BYTES
        return self.shape.num_linear_weights + (0 if is_folded else self.lora)

    def update(self) -> float:
        """Forward, backward to the inputs of frozen weights, backward twice for the adapter's, and forward again.

        All that for each update of a step.
        """
        recipe, again = self.recipe, int(self.recipe.training.gradient_checkpointing)
        per_token = self.shape.num_linear_weights * (2 + again) + self.lora * (3 + again)
        packs = recipe.model.backend != "unsloth" and self.shape.packs
        replied = credit_of(recipe).trained_per_step(recipe) * longest_trained(recipe)[1]
        products = update_tokens(recipe, packs=packs) * per_token + replied * self.head * 2
        return recipe.training.num_iterations * 2 * products / self.speed.flops_per_second
