"""The memory plan on the terminal."""

from dataclasses import dataclass

from rich import box
from rich.console import Console
from rich.table import Table

from motif_lite.credits.table import credit_of
from motif_lite.planning import precision, rows, speeds, timing
from motif_lite.planning.hardware import torch_build
from motif_lite.planning.planner import Plan
from motif_lite.planning.projection import Projection
from motif_lite.views.formats import duration, gib, print_text


@dataclass(frozen=True, slots=True)
class PlannedTime:
    """How long a planned run takes.

    Attributes:
        worst: Every prompt and reply as long as the recipe allows.
        typical: With replies of `typical_tokens`.
        not_counted: Benchmarks with an unknown number of problems.
        alone: What it takes in one process, where the plan is for several.
    """

    worst: Projection
    typical: Projection | None = None
    typical_tokens: int = 0
    not_counted: tuple[str, ...] = ()
    alone: Projection | None = None


def print_plan(console: Console, plan: Plan, time: PlannedTime) -> None:
    """Memory by phase, the widths that follow from it, and what a step and the whole run cost."""
    phases, recipe = plan.estimate.phases, plan.recipe
    table = Table(title="peak memory in GiB", title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, padding=0)
    table.add_column("", no_wrap=True)
    width = 10 if len(phases) < 6 else None  # more than five so wide are cut at 80 columns
    for phase in phases:
        over = plan.estimate.total(phase) > plan.usable_bytes
        table.add_column(phase, justify="right", min_width=width, style="red" if over else "")
    for item in dict.fromkeys(name for items in phases.values() for name in items):
        cells = (gib(items[item]) if item in items else "" for items in phases.values())
        table.add_row(item, *cells)
    table.add_section()
    table.add_row("all", *(gib(plan.estimate.total(phase)) for phase in phases), style="bold")
    supposed = "" if plan.machine.is_here else " (none here; name another with --gpu or --vram)"
    print_text(console, f"{recipe.model.name} on {plan.machine.name}{supposed}")
    if plan.machine.remark:
        print_text(console, f"{'note':<9} {plan.machine.remark}")
    console.print(table)
    for name, text in _plan_lines(plan, time):
        print_text(console, f"{name:<9} {text}")


def _plan_lines(plan: Plan, time: PlannedTime) -> list[tuple[str, str]]:
    rollout, training = plan.recipe.rollout, plan.recipe.training
    peak, usable = gib(plan.estimate.peak), gib(plan.usable_bytes)
    tokens = " + ".join(f"{name} {count:,}" for name, count in plan.num_tokens.items())
    row = credit_of(plan.recipe).row
    return [
        ("fits" if plan.fits else "too big", f"{peak} of {usable} GiB usable ({plan.machine.memory_gib:.3g} less 5 %)"),
        ("width", f"futures {rollout.max_width} at a time, update {training.micro_batch_size} {row}s at a time"),
        ("tokens", f"at most {sum(plan.num_tokens.values()):,} a step: {tokens}"),
        *_products(plan),
        *_weights(plan),
        *_time("time", time.worst, "at least " * (training.until_tokens is not None)),
        *(
            [("", f"not counted: evaluation of {', '.join(time.not_counted)}; set num_problems")]
            * bool(time.not_counted)
        ),
        *_shared(plan, time),
        ("assumed", "every prompt and reply as long as the recipe allows;"),
        *_speed(plan),
        *(_typical(time.typical, time.typical_tokens) if time.typical else ()),
    ]


def _products(plan: Plan) -> list[tuple[str, str]]:
    """In what a CPU multiplies, where it is not 32 bits throughout."""
    device, given = plan.machine.device, plan.recipe
    in_bf16 = [precision.writes_in_bf16(given, device), precision.updates_in_bf16(given, device)]
    if not any(in_bf16):
        return []
    replies, update = ("bfloat16" if each else "32 bits" for each in in_bf16)
    return [("products", f"replies in {replies}, updates in {update} (rollout.weights, training.autocast)")]


def _weights(plan: Plan) -> list[tuple[str, str]]:
    """How those of 4 bits are held where that makes token steps slow."""
    if plan.recipe.rollout.weights != "4bit" or not rows.dequantises(plan.recipe, plan.shape):
        return []
    return [("weights", "dequantised at every token step; fewer at a time may leave room to do it once a call")]


def _shared(plan: Plan, time: PlannedTime) -> list[tuple[str, str]]:
    """What further processes are good for."""
    if time.alone is None:
        return []
    each = (
        "each has a GPU of its own, which"
        if plan.machine.device == "cuda"
        else "each has a part of this machine, which"
    )
    step, whole = duration(sum(time.alone.step.values())), duration(time.alone.total)
    return [
        ("shared", f"by {plan.processes} processes: {each} has to hold all of the above; what they save is time"),
        ("", f"one process: about {step} a step, {whole} in all; adding up gradients and waiting are not counted"),
    ]


def _speed(plan: Plan) -> list[tuple[str, str]]:
    if plan.speed.card is not None:
        reached = f"the speed of {plan.speed.card.name}: {speeds.REACHED}"
        return [("", reached), ("", str(plan.speed)), *_attention(plan)]
    libraries = f"libraries as measured elsewhere with PyTorch's {torch_build()} build; a run measures its own"
    speed = f"{plan.speed}; other work on this machine slows it down"
    return [("", libraries), ("measured" if plan.speed.is_measured else "assumed", speed)]


def _attention(plan: Plan) -> list[tuple[str, str]]:
    """What Unsloth's attention costs where it is PyTorch's slowest."""
    if not timing.attends_by_math(plan.recipe, plan.shape, plan.speed):
        return []
    text = "Unsloth's padded batches: attention by PyTorch's slowest way, {:.0f} KB per token of context, row and layer"
    return [("", text.format(timing.math_attention_bytes(plan.shape) / 1e3))]


def _time(name: str, found: Projection, at_least: str = "") -> list[tuple[str, str]]:
    evaluation = sum(found.evaluation.values())
    training = f"{duration(found.training)} for {at_least}{found.num_steps:,} steps"
    phases = " + ".join(f"{phase} {duration(seconds)}" for phase, seconds in found.step.items())
    return [
        (name, f"about {duration(sum(found.step.values()))} a step: {phases}"),
        ("", f"{training} + {duration(evaluation)} for evaluation = {duration(found.total)} in all"),
    ]


def _typical(found: Projection, tokens: int) -> list[tuple[str, str]]:
    of = f"replies of {tokens:,} tokens, the longest of a batch twice as long"
    return [*_time("typical", found), ("", f"if that is {of}")]
