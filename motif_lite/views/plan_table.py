"""The memory plan on the terminal."""

from rich import box
from rich.console import Console
from rich.table import Table

from motif_lite.credits.table import credit_of
from motif_lite.planning.hardware import torch_build
from motif_lite.planning.planner import Plan
from motif_lite.views.formats import duration, gib, print_text


def print_plan(console: Console, plan: Plan) -> None:
    """Memory by phase, the widths that follow from it, and what a step costs."""
    phases, recipe = plan.estimate.phases, plan.recipe
    table = Table(title="peak memory in GiB", title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, padding=0)
    table.add_column("", no_wrap=True)
    for phase in phases:
        over = plan.estimate.total(phase) > plan.usable_bytes
        table.add_column(phase, justify="right", min_width=10, style="red" if over else "")
    for item in dict.fromkeys(name for items in phases.values() for name in items):
        cells = (gib(items[item]) if item in items else "" for items in phases.values())
        table.add_row(item, *cells)
    table.add_section()
    table.add_row("all", *(gib(plan.estimate.total(phase)) for phase in phases), style="bold")
    supposed = "" if plan.machine.is_here else " (none here; set another size with --vram)"
    print_text(console, f"{recipe.model.name} on {plan.machine.name}{supposed}")
    console.print(table)
    for name, text in _plan_lines(plan):
        print_text(console, f"{name:<9} {text}")


def _plan_lines(plan: Plan) -> list[tuple[str, str]]:
    rollout, training, seconds = plan.recipe.rollout, plan.recipe.training, plan.seconds
    step = sum(seconds.values())
    peak, usable = gib(plan.estimate.peak), gib(plan.usable_bytes)
    tokens = " + ".join(f"{name} {count:,}" for name, count in plan.num_tokens.items())
    phases = " + ".join(f"{name} {duration(value)}" for name, value in seconds.items())
    whole = _whole_run(plan, step)
    row = credit_of(plan.recipe).row
    return [
        ("fits" if plan.fits else "too big", f"{peak} of {usable} GiB usable ({plan.machine.memory_gib:.3g} less 5 %)"),
        ("width", f"futures {rollout.max_width} at a time, update {training.micro_batch_size} {row}s at a time"),
        ("tokens", f"at most {sum(plan.num_tokens.values()):,} a step: {tokens}"),
        ("time", f"about {duration(step)} a step, {whole}, evaluation apart"),
        ("", phases),
        ("assumed", "every prompt and reply as long as the recipe allows;"),
        *_speed(plan),
    ]


def _speed(plan: Plan) -> list[tuple[str, str]]:
    if plan.machine.device == "cuda":
        return [("", str(plan.speed))]
    libraries = f"libraries as measured elsewhere with PyTorch's {torch_build()} build; a run measures its own"
    speed = f"{plan.speed}; other work on this machine slows it down"
    return [("", libraries), ("measured" if plan.speed.is_measured else "assumed", speed)]


def _whole_run(plan: Plan, step_seconds: float) -> str:
    training, num_tokens = plan.recipe.training, sum(plan.num_tokens.values())
    steps = training.max_steps
    if training.until_tokens is not None:
        steps = min(steps, -(-training.until_tokens // num_tokens))
    seconds = min(step_seconds * steps, training.until_seconds or float("inf"))
    at_least = "at least " if training.until_tokens is not None else ""
    return f"{duration(seconds)} for {at_least}{steps:,} steps"
