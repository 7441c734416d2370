"""What the tests on a GPU measure, a row of docs/measurements.md each, and when it counts as right.

Each is a function of a `Bench`. It says in a line what it found, whether that is as it should be, and all its figures.
"""

import math
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from motif_lite.jobs import checking
from motif_lite.nouns import Conversation, Problem, Sampling, Turn
from motif_lite.planning.machine import GIB
from motif_lite.policies.protocol import ADAPTER_FILE
from motif_lite.recipe.keys import changed
from motif_lite.recipe.schema import Recipe
from motif_lite.rollout import prompts
from motif_lite.rollout.rollouts import OnRound, Rollouts
from motif_lite.rollout.strategies import STRATEGIES, Strategy
from motif_lite.runs.directory import RunDirectory
from motif_lite.runs.rollout_lines import RolloutLine
from motif_lite.tasks import sources
from tests.fakes import RecordingObserver, StopAfter
from tests.gpu.bench import Bench, Loaded
from tests.records import repeatable

if TYPE_CHECKING:
    import torch

    from motif_lite.policies.local import LocalPolicy
    from motif_lite.policies.protocol import Policy

NUM_STEPS = 3
_SHORT = 256
"""Longest replies, in tokens, of rows that would not be done in ten minutes with the recipe's own."""

Figures = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Finding:
    """What a row found.

    Attributes:
        summary: For the table.
        passed: Whether it is as it should be.
        figures: Everything measured, for JSON.
    """

    summary: str
    passed: bool
    figures: Figures


def three_steps(bench: Bench) -> RunDirectory:
    """The run that several rows read; a checkpoint after each step lets it be cut off."""
    return bench.train("steps", "training.save_every=1", max_steps=NUM_STEPS)


def it_runs(bench: Bench) -> Finding:
    """Three whole steps on the command line, each with all its replies and a gradient."""
    run = three_steps(bench)
    recipe, metrics, rollouts = run.resolved(checking.TABLES), run.metrics(), run.rollouts()
    rollout = recipe.rollout
    expected = (recipe.openings_per_step, rollout.num_futures, rollout.num_rounds - 1)
    whole = [_extent([line for line in rollouts if line.step == step]) for step in range(1, NUM_STEPS + 1)]
    gradients = [line.grad_norm or 0.0 for line in metrics]
    passed = (
        [line.step for line in metrics] == list(range(1, NUM_STEPS + 1))
        and whole == [expected] * NUM_STEPS
        and all(math.isfinite(norm) and norm > 0 for norm in gradients)
        and all(line.loss is not None for line in metrics)
    )
    figures = {
        "openings_futures_later_rounds": whole,
        "limits": {"openings": rollout.openings.max_tokens, "futures": rollout.futures.max_tokens},
        "max_width": rollout.max_width,
        "micro_batch_size": recipe.training.micro_batch_size,
        "metrics": [line.model_dump(exclude_none=True) for line in metrics],
    }
    m, k, later = whole[0]
    summary = (
        f"{len(metrics)} steps of {m} openings, {k} futures, {later + 1} rounds; replies of "
        f"{rollout.openings.max_tokens} / {rollout.futures.max_tokens} tokens, width {rollout.max_width}, micro-batch "
        f"{recipe.training.micro_batch_size}"
    )
    return Finding(summary, passed, figures)


def _extent(lines: list[RolloutLine]) -> tuple[int, int, int]:
    """Openings, futures of each, later rounds of each future; -1 where they are not all alike."""
    futures = {len(line.futures) for line in lines}
    rounds = {len(future.rounds) for line in lines for future in line.futures}
    return len(lines), futures.pop() if len(futures) == 1 else -1, rounds.pop() if len(rounds) == 1 else -1


def peak_memory(bench: Bench) -> Finding:
    """Measured beside planned; the worst of all steps."""
    metrics = three_steps(bench).metrics()
    loaded = bench.loaded
    measured = {"load": loaded.peak_bytes} | {
        phase: max(line.peak_memory_bytes.get(phase, 0) for line in metrics)
        for phase in ("openings", "futures", "update")
    }
    planned = {"load": _planned_load(loaded, bench.on_gpu)} | metrics[0].planned_memory_bytes
    longest = max(loaded.policy.count_tokens(line.opening.prompt) for line in three_steps(bench).rollouts_of(1))
    figures = {
        "measured_bytes": measured,
        "planned_bytes": planned,
        "longest_prompt_tokens": longest,
        "planned_prompt_tokens": loaded.plan.recipe.rollout.max_prompt_tokens,
        "load_seconds": loaded.seconds,
    }
    digits = 1 if bench.settings.size != "tiny" else 3
    parts = [
        f"{phase} {(measured[phase] or 0) / GIB:.{digits}f} / {planned[phase] / GIB:.{digits}f}" for phase in measured
    ]
    within = all((measured[phase] or 0) <= bench.settings.memory_gib * GIB for phase in measured)
    return Finding(f"GiB measured / planned: {', '.join(parts)}", within and all(measured.values()), figures)


def _planned_load(loaded: Loaded, on_gpu: bool) -> int:
    """What is there before training: the plan has no phase for it."""
    items = loaded.plan.estimate.phases["openings"]
    return items["weights"] + items["adapter"] + (0 if on_gpu else items["libraries"])


def time_by_phase(bench: Bench) -> Finding:
    """Medians over the steps; the first one also compiles kernels."""
    metrics = three_steps(bench).metrics()
    seconds = {phase: median(line.seconds[phase] for line in metrics) for phase in metrics[0].seconds}
    speeds = {
        phase: median(line.tokens_per_second[phase] for line in metrics) for phase in metrics[0].tokens_per_second
    }
    share = median(line.seconds["futures"] / sum(line.seconds.values()) for line in metrics)
    figures = {
        "median_seconds": seconds,
        "median_tokens_per_second": speeds,
        "median_share_of_futures": share,
        "seconds_of_each_step": [line.seconds for line in metrics],
        "tokens_of_each_step": [line.tokens for line in metrics],
    }
    parts = [
        f"{phase} {number:.2f} s" + (f" ({speeds[phase]:.0f} tokens/s)" if phase in speeds else "")
        for phase, number in seconds.items()
    ]
    measured = all(number > 0 for number in (*seconds.values(), *speeds.values()))
    return Finding(f"{', '.join(parts)}; futures are {share:.0%} of a step", measured and len(speeds) == 2, figures)


def batching(bench: Bench) -> Finding:
    """The futures of the first step once more: all together, and some of them one at a time, in turns."""
    run, policy = three_steps(bench), bench.loaded.policy
    rounds = _futures_prompts(run)
    sampling = run.resolved(checking.TABLES).rollout.futures
    sampling = sampling.model_copy(update={"max_tokens": min(sampling.max_tokens, _SHORT)})
    policy.generate(rounds[0][:1], sampling.model_copy(update={"max_tokens": 4}), seeds=[0])  # kernels are compiled
    together: list[list[float]] = [[] for _ in rounds]
    alone: list[list[float]] = [[] for _ in rounds]
    for repeat in range(3):
        for index, round_prompts in enumerate(rounds):
            together[index].append(_seconds(policy, round_prompts, sampling, seed=repeat))
            one = round_prompts[repeat * len(round_prompts) // 3]
            alone[index].append(_seconds(policy, [one], sampling, seed=repeat))
    batched_seconds = sum(map(median, together))
    alone_seconds = sum(len(prompts) * median(seconds) for prompts, seconds in zip(rounds, alone, strict=True))
    num_calls = sum(map(len, rounds))
    ratio = alone_seconds / batched_seconds
    figures = {
        "ratio_of_medians": ratio,
        "batched_seconds_by_round": together,
        "alone_seconds_by_round": alone,
        "replies_by_round": [len(prompts) for prompts in rounds],
        "max_tokens": sampling.max_tokens,
        "extrapolated": f"one at a time from {sum(map(len, alone))} of {num_calls} calls",
    }
    summary = (
        f"{ratio:.1f} times faster: {batched_seconds:.2f} s batched, {alone_seconds:.1f} s one at a time (extrapolated "
        f"from {sum(map(len, alone))} of {num_calls} replies, {sampling.max_tokens} tokens each)"
    )
    return Finding(summary, ratio > 1, figures)


def _futures_prompts(run: RunDirectory) -> list[list[str]]:
    """What the first step's futures were asked, by round."""
    futures = [future.rounds for line in run.rollouts_of(1) for future in line.futures]
    return [[turn.prompt for turn in turns] for turns in zip(*futures, strict=True)]


def _seconds(policy: "LocalPolicy", rendered: list[str], sampling: Sampling, seed: int) -> float:
    started = time.monotonic()
    policy.generate(
        rendered, sampling, seeds=range(seed, seed + len(rendered))
    )  # replies are text, so the GPU is done when they are there
    return time.monotonic() - started


_WIDTH = 32
_STEPS = 96
"""Token steps that are timed, beyond the first."""


def ways_of_generating(bench: Bench) -> Finding:
    """Padded prompts, 32 at a time, by our engine and by the model's own `generate`; greedy: all do the same.

    The engine with 4-bit weights dequantised once per call and, where the recipe's backend can, at every step.
    """
    policy = bench.loaded.policy
    engine, width = policy.engine, min(_WIDTH, policy.max_width)
    if engine is None:
        return Finding("the engine cannot take this model over", False, {})
    text = prompts.system_prompt(3)
    asked = [text[: len(text) * (width + row) // (2 * width)] for row in range(width)]
    rendered = [policy.render(prompts.conversation("", user)) for user in asked]
    ways: dict[str, Any] = {"engine": (engine, engine.keeps_weights), "the model's generate": (None, None)}
    if engine.keeps_weights:
        ways["engine, dequantising at every step"] = (engine, False)
    figures: Figures = {"prompt_tokens": [policy.count_tokens(prompt) for prompt in (rendered[0], rendered[-1])]}
    keeps = engine.keeps_weights
    try:
        for name, (policy.engine, engine.keeps_weights) in ways.items():
            figures[name] = _token_steps(policy, rendered, min(_STEPS, bench.settings.futures))
    finally:
        policy.engine, engine.keeps_weights = engine, keeps
    ratio = figures["the model's generate"]["ms_per_step"] / figures["engine"]["ms_per_step"]
    parts = [
        f"{name} {figures[name]['ms_per_step']:.3g} ms ({figures[name]['tokens_per_second']:.0f})" for name in ways
    ]
    summary = f"{width} wide, a token step (tokens/s): {', '.join(parts)}; engine {ratio:.1f} times as fast"
    return Finding(summary, ratio > 1 and engine.decodes, figures | {"ratio": ratio})


def _token_steps(policy: "LocalPolicy", rendered: list[str], num_steps: int) -> Figures:
    """Milliseconds of a step: what more tokens cost beyond the first two, medians of three."""
    from motif_lite.planning import metering

    def seconds(num_tokens: int) -> float:
        started = time.monotonic()
        with policy_writes_on(policy):
            policy.generate(rendered, Sampling(max_tokens=num_tokens, temperature=0.0), seeds=[0] * len(rendered))
        return time.monotonic() - started

    seconds(2)
    meter = metering.PhaseMeter(policy.device_type)
    meter.start("writing")
    times = [(seconds(2), seconds(2 + num_steps)) for _ in range(3)]
    _, peaks = meter.take()
    step = median(long - short for short, long in times) / num_steps
    return {
        "ms_per_step": 1e3 * step,
        "tokens_per_second": len(rendered) / step,
        "seconds": times,
        "peak_bytes": peaks.get("writing"),
    }


@contextmanager
def policy_writes_on(policy: "LocalPolicy") -> Iterator[None]:
    """No reply ends before its limit."""
    stop_ids = list(policy.stop_ids)
    policy.stop_ids[:] = [policy.model.get_input_embeddings().num_embeddings + 1]
    policy._known_endings.clear()
    try:
        yield
    finally:
        policy.stop_ids[:] = stop_ids
        policy._known_endings.clear()


NUM_PADDED = 8
"""Prompts of the padding row, the longest of which has no padding."""
_TOLERATED = 0.2
"""Rounding, as a share of what attending to the padding does to the log-probabilities."""


def padding(bench: Bench) -> Finding:
    """A batch of very different lengths beside each prompt alone: greedy tokens, and log-probabilities of one text.

    Tokens are compared and shown, but they do not decide. In 16 bits two of them are often equally likely, and the
    width of the batch tips the scales; and with random weights the likeliest token hangs so little on the prompt that a
    batch whose padding was seen wrote the same tokens (tiny model). What decides is by how much log-probabilities
    differ, beside how much they would differ if the padding were seen: rounding is small against that, a wrong mask or
    position is not.
    """
    policy = bench.loaded.policy
    from tests.gpu import probing

    num_tokens = min(bench.settings.futures, 64)
    rendered = _prompts_of_many_lengths(policy)
    together = probing.write(policy, rendered, num_tokens)
    alone = [probing.write(policy, [prompt], num_tokens) for prompt in rendered]
    ids = _rows([one.ids for one in alone])
    reference = _rows([one.log_probabilities(one.ids) for one in alone])
    padded = probing.write(policy, rendered, num_tokens, forced=ids).log_probabilities(ids)
    wrong = probing.write(policy, _with_padding_as_text(policy, rendered), num_tokens, forced=ids)
    differences = (padded - reference).abs().mean(1).tolist()
    # Without the longest, which has no padding.
    if_seen = (wrong.log_probabilities(ids) - reference).abs().mean(1).tolist()[:-1]
    same = together.ids == ids
    firsts = [None if row.all() else int((~row).nonzero()[0]) for row in same]
    margins = [
        _margin(one, together.ids[row], first)
        for row, (one, first) in enumerate(zip(alone, firsts, strict=True))
        if first is not None
    ]
    typical = sum(if_seen) / len(if_seen)
    figures = {
        "prompt_tokens": [policy.count_tokens(prompt) for prompt in rendered],
        "new_tokens": num_tokens,
        "share_of_identical_tokens": float(same.float().mean()),
        "first_differences": firsts,
        "margins_at_first_differences": margins,
        "log_probability_differences": differences,
        "largest_log_probability_difference": float((padded - reference).abs().max()),
        "log_probability_differences_if_padding_were_seen": if_seen,
    }
    agreed = sum(first is None for first in firsts)
    summary = (
        f"{float(same.float().mean()):.1%} of greedy tokens identical ({agreed} of {len(firsts)} replies whole"
        + (f"; margin at first differences at most {max(margins):.3f}" if margins else "")
        + f"); log-probabilities differ by {max(differences):.2g}, by {typical:.2g} if the padding were seen"
    )
    return Finding(summary, max(differences) <= _TOLERATED * typical, figures)


def _prompts_of_many_lengths(policy: "LocalPolicy") -> list[str]:
    """Prompts of later rounds with ever longer progress."""
    text = prompts.system_prompt(3)
    lengths = [len(text) * index // (NUM_PADDED - 1) for index in range(NUM_PADDED)]
    asked = ["a0b4c5=" + prompts.progress_notice(1, 3, text[:length]) for length in lengths]
    return [policy.render(prompts.conversation("", user)) for user in asked]


def _with_padding_as_text(policy: "LocalPolicy", rendered: list[str]) -> list[str]:
    """The prompts as a model reads them that attends to its padding: a mistake, to know what a mistake looks like."""
    lengths = [policy.count_tokens(prompt) for prompt in rendered]
    padding = policy.tokenizer.pad_token
    return [padding * (max(lengths) - length) + prompt for prompt, length in zip(rendered, lengths, strict=True)]


def _rows(tensors: "list[torch.Tensor]") -> "torch.Tensor":
    import torch

    return torch.cat(tensors)


def _margin(alone: Any, batch_ids: "torch.Tensor", first: int) -> float:
    """By how much more likely, in log-probability, the token was that the prompt alone led to."""
    likely = alone.logits[0, first].log_softmax(-1)
    return float(likely[alone.ids[0, first]] - likely[batch_ids[first]])


@dataclass
class _LookingStrategy:
    """The real strategy, which also looks at the adapter whenever TRL asks for a step's rewards."""

    summary: ClassVar[str] = "As the recipe's."
    inner: Strategy
    num_tokens: int
    looks: Figures = field(default_factory=dict)
    rendered: list[str] = field(default_factory=list)
    ids: Any = None

    @property
    def num_rounds(self) -> int:
        return self.inner.num_rounds

    def first_messages(self, problem: Problem) -> Conversation:
        return self.inner.first_messages(problem)

    def continue_openings(
        self,
        policy: "Policy",
        openings: Any,
        num_futures: int,
        sampling: Sampling,
        *,
        seed: int,
        start: int = 0,
        on_round: OnRound | None = None,
        branches: Any = None,
    ) -> Rollouts:
        self._look(policy, openings)
        return self.inner.continue_openings(
            policy, openings, num_futures, sampling, seed=seed, start=start, on_round=on_round
        )

    def _look(self, policy: Any, openings: list[tuple[Problem, Turn]]) -> None:
        from tests.gpu import probing

        def read() -> "torch.Tensor":
            return probing.write(policy, self.rendered, self.num_tokens, forced=self.ids).log_probabilities(self.ids)

        if self.ids is None:  # the first step
            self.looks["train_mode"] = policy.model.training
            asked = [self._second_prompt(policy, *opening) for opening in openings[:4]]
            self.rendered = list(dict.fromkeys(asked))  # openings may be alike
            written = probing.write(policy, self.rendered, self.num_tokens)
            self.ids = written.ids
            self.looks["before"] = written.log_probabilities(self.ids)
            with _disturbed(policy.model):
                self.looks["disturbed"] = read()
            self.looks["restored"] = read()
        else:
            self.looks["trained"] = read()

    def _second_prompt(self, policy: "Policy", problem: Problem, turn: Turn) -> str:
        user = problem.question + prompts.progress_notice(1, self.num_rounds, turn.reply.text)
        return policy.render(prompts.conversation("", user))


@contextmanager
def _disturbed(model: Any, scale: float = 0.02) -> Iterator[None]:
    """Add noise to the adapter's second halves, which begin at zero; take it back afterwards."""
    import torch

    weights = [weight for name, weight in model.named_parameters() if "lora_B" in name]
    before = [weight.detach().clone() for weight in weights]
    generator = torch.Generator().manual_seed(1)
    try:
        for weight in weights:
            noise = torch.randn(weight.shape, generator=generator)
            weight.data.add_(noise.to(weight.device, weight.dtype), alpha=scale)
        yield
    finally:
        for weight, old in zip(weights, before, strict=True):
            weight.data.copy_(old)


def lora_is_live(bench: Bench) -> Finding:
    """Two steps of real training, in whose rewards the log-probabilities of one continuation are read.

    In the first step as the adapter is, with noise added to its weights, and with the noise taken back; in the second
    step after the trainer's own update. A backend that generates from the base model, or from a copy of the adapter
    that it made earlier, is found out by either.
    """
    loaded = bench.loaded
    strategy = _train_and_look(bench, loaded)
    looks = strategy.looks
    differences = {
        name: float((looks[name] - looks["before"]).abs().mean()) for name in ("disturbed", "restored", "trained")
    }
    threshold = 10 * max(differences["restored"], 1e-6)
    live = {name: differences[name] > threshold for name in ("disturbed", "trained")}
    figures = {
        "mean_log_probability_differences": differences,
        "model_was_in_train_mode": looks["train_mode"],
        "tokens_compared": looks["before"].numel(),
    }
    summary = (
        f"log-probabilities of a continuation move by {differences['disturbed']:.2g} with noise in the adapter, by "
        f"{differences['restored']:.2g} when it is taken back, by {differences['trained']:.2g} with an optimiser step"
    )
    return Finding(summary, all(live.values()), figures)


def _train_and_look(bench: Bench, loaded: Loaded) -> _LookingStrategy:
    from motif_lite.evaluation.validation import Validation
    from motif_lite.training import grpo
    from motif_lite.training.context import TrainingContext

    recipe = _two_short_steps(loaded.plan.recipe, bench.settings.futures)
    strategy = _LookingStrategy(STRATEGIES["multi_round"](recipe.rollout), recipe.rollout.futures.max_tokens)
    run = RunDirectory(bench.out / "runs" / "lora")
    shutil.rmtree(run.root, ignore_errors=True)
    run.root.mkdir(parents=True)
    observer = RecordingObserver()
    context = TrainingContext(
        recipe,
        loaded.policy,
        run,
        observer,
        strategy=strategy,
        problems=sources.load(recipe.data.as_source(), role="train", seed=recipe.seed)[:64],
        planned=loaded.plan.estimate,
    )
    grpo.train(context, Validation(context, []), StopAfter())
    return strategy


def _two_short_steps(recipe: Recipe, max_tokens: int) -> Recipe:
    """With a rate that is felt at once: the recipe's own begins at zero."""
    return changed(
        recipe,
        {
            "rollout.openings.max_tokens": min(max_tokens, 32),
            "rollout.futures.max_tokens": min(max_tokens, 32),
            "training.max_steps": 2,
            "training.save_every": 1000,
            "training.learning_rate": 1e-2,
            "training.lr_schedule": "constant",
            "training.warmup_fraction": 0.0,
        },
    )


def resume(bench: Bench) -> Finding:
    """A run of three steps that is stopped once the first is written down, and resumed.

    Adapter and optimiser must be, bit by bit, before the first update after the stop what they were after the last one
    before it. On a CPU the run must also have written what one that was not stopped has. On a GPU sums have no fixed
    order, so two runs differ there in any case.
    """
    parts = ("openings", "futures") if bench.on_gpu else ()
    changes = [f"rollout.{part}.max_tokens={min(getattr(bench.settings, part), _SHORT)}" for part in parts]
    whole = None if bench.on_gpu else three_steps(bench)
    stopped, stopped_after = bench.train_with_a_stop("stopped", *changes, max_steps=NUM_STEPS)
    loaded, moved = bench.states_are_joined("stopped", NUM_STEPS), _adapter_moved(stopped)
    differing = _differences(whole, stopped) if whole else []
    figures = {
        "stopped_after": stopped_after,
        "state_equal_bit_by_bit": loaded,
        "different_from_a_run_that_was_not_stopped": differing if whole else None,
        "largest_adapter_weight_moved": moved,
    }
    summary = (
        f"stopped after step {stopped_after} of {NUM_STEPS}: adapter and optimiser were loaded "
        f"{'bit by bit as they were left' if loaded else 'otherwise than they were left'}; training moved weights by "
        f"up to {moved:.2g}"
    )
    if whole:
        summary += f"; different from a run that was not stopped: {', '.join(differing) or 'nothing'}"
    return Finding(summary, loaded and not differing and moved > 0, figures)


def _differences(one: RunDirectory, other: RunDirectory) -> list[str]:
    """What two runs do not have in common, but for times and memory."""
    equal = {
        "rollouts": one.rollouts() == other.rollouts(),
        "metrics": repeatable(one.metrics()) == repeatable(other.metrics()),
        "adapter": (one.adapter / ADAPTER_FILE).read_bytes() == (other.adapter / ADAPTER_FILE).read_bytes(),
    }
    return [name for name, same in equal.items() if not same]


def _adapter_moved(run: RunDirectory) -> float:
    """The largest weight of the halves that began at zero."""
    from safetensors.torch import load_file

    weights = load_file(run.adapter / ADAPTER_FILE)
    return max(float(weight.abs().max()) for name, weight in weights.items() if "lora_B" in name)


def logit_chunks(bench: Bench) -> Finding:
    """The update of one step without futures, as Unsloth chunks its logits by itself and in 16 recomputed pieces."""
    if bench.settings.backend != "unsloth" or not bench.on_gpu:  # its CPU backend ignores the setting
        pytest.skip("only Unsloth on a GPU computes logits in chunks")
    common = ['rollout.strategy="single_round"', "training.micro_batch_size=4"]
    lines = {
        "unset": bench.train("chunks_unset", *common, max_steps=2).metrics()[-1],
        "16": bench.train("chunks_16", *common, "training.logit_chunks=16", max_steps=2).metrics()[-1],
    }
    figures = {
        name: {
            "update_peak_bytes": line.peak_memory_bytes["update"],
            "update_planned_bytes": line.planned_memory_bytes["update"],
            "update_seconds": line.seconds["update"],
        }
        for name, line in lines.items()
    }
    parts = [
        f"{name}: {line['update_peak_bytes'] / GIB:.1f} GiB (planned {line['update_planned_bytes'] / GIB:.1f}), "
        f"{line['update_seconds']:.1f} s"
        for name, line in figures.items()
    ]
    return Finding(f"update of 4 openings at a time; {'; '.join(parts)}", True, figures)
