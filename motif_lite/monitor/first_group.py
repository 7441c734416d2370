"""What one group of openings shows before a run is started: signs of a recipe that will not learn, with remedies.

One group is a small sample. Only what is true of all of it, or of most replies, is worth a line.
"""

from collections.abc import Iterator
from typing import Literal

from motif_lite.monitor.remedies import doubled, longer_replies
from motif_lite.planning.planner import Plan
from motif_lite.recipe.schema import Recipe
from motif_lite.recipe.strategy_keys import keys_of
from motif_lite.recipe.strategy_rules import OF_WHOLE_REPLIES, chunks_go_on
from motif_lite.runs.records import StepMetrics

_MOST_CUT_OFF = 0.5

_MORE_THAN_PLANNED = 1.15
"""Memory plans have been within 15 % of what was measured (docs/measurements.md)."""

_SLOWER_THAN_PLANNED, _WORTH_WAITING = 3.0, 10.0
"""Times a planned step that nothing but other work explains, and seconds of a step for which that matters."""


def remarks(
    recipe: Recipe, metrics: StepMetrics, cost: StepMetrics, *, has_box: bool, plan: Plan | None
) -> Iterator[str]:
    """Lines about a group, each with what to do.

    Args:
        recipe: Of the run.
        metrics: Of a step of one group.
        cost: Of the step to take seconds and memory from.
        has_box: Whether any final reply has a boxed answer.
        plan: Of the group.
    """
    yield from _unsound_update(metrics)
    yield from _cut_off(recipe, metrics, "openings")
    yield from _cut_off(recipe, metrics, "futures")
    yield from _form(recipe, metrics, has_box)
    yield from _no_signal(recipe, metrics)
    yield from _memory(cost, plan)
    yield from _slow(cost, plan)


def _unsound_update(metrics: StepMetrics) -> Iterator[str]:
    if metrics.update_skipped:
        yield (
            "the gradient is not a number, so a run would skip this update: --set 'model.dtype=\"float32\"', or "
            "another model"
        )


def _cut_off(recipe: Recipe, metrics: StepMetrics, phase: Literal["openings", "futures"]) -> Iterator[str]:
    if chunks_go_on(recipe, phase):
        return
    share = metrics.cut_off[phase]
    if share > _MOST_CUT_OFF:
        limit = getattr(recipe.rollout, phase).max_tokens
        what = "openings" if phase == "openings" else "replies of later rounds"
        yield (
            f"{100 * share:.0f} % of the {what} were cut off at {limit} tokens; if they make sense to the "
            f"end: {longer_replies(recipe, phase)}"
        )


def _form(recipe: Recipe, metrics: StepMetrics, has_box: bool) -> Iterator[str]:
    if metrics.progress_cut:
        yield (
            f"in {metrics.progress_cut} prompts the progress was cut to fit the context: "
            f"--set model.max_seq_length={2 * recipe.model.max_seq_length}"
        )
    teacher = "the form rewards" if recipe.warm_start else "a warm start (--set warm_start={}) or the form rewards"
    if metrics.broken_form == 1 and any(recipe.rewards.get(name) for name in OF_WHOLE_REPLIES):
        yield (
            f"no opening has the form <reasoning> ... <answer> ...; show the model an example in "
            f"rollout.system_prompt, or let {teacher} teach it"
        )
    if not has_box:
        shown = "an example in rollout.system_prompt"
        if "final_instruction" in keys_of(recipe.rollout.strategy):
            shown += " or, as in recipes/laptop_gsm8k.toml, in rollout.final_instruction"
        yield (
            f"no final reply has a boxed answer, so none was graded; {shown}, longer replies "
            f"(rollout.futures.max_tokens), or a larger model"
        )


def _no_signal(recipe: Recipe, metrics: StepMetrics) -> Iterator[str]:
    if not metrics.groups_without_signal:
        return
    more = f"--set rollout.num_openings={doubled(recipe.rollout.num_openings)}"
    remedy = f"more varied openings ({more}, or a higher rollout.openings.temperature)"
    if metrics.accuracy in (0.0, 1.0):
        hard = "easier" if metrics.accuracy == 0.0 else "harder"
        remedy = f"{hard} problems (data.train), or {more}"
    yield f"all openings earned {metrics.reward:.2f}, so this group trains nothing; if many groups do: {remedy}"


def _memory(cost: StepMetrics, plan: Plan | None) -> Iterator[str]:
    for phase, planned in cost.planned_memory_bytes.items():
        peak = cost.peak_memory_bytes.get(phase, 0)
        if plan is not None and peak > _MORE_THAN_PLANNED * planned:
            fewer = "rollout.max_width" if phase != "update" else "training.micro_batch_size"
            yield (
                f"{phase} took {100 * (peak / planned - 1):.0f} % more memory than planned; if a run needs "
                f"more than there is, lower {fewer}"
            )


def _slow(cost: StepMetrics, plan: Plan | None) -> Iterator[str]:
    """On a CPU, whose speed is measured with one thread; a GPU's is assumed."""
    if plan is None or plan.machine.device != "cpu":
        return
    seconds, planned = sum(cost.seconds.values()), sum(plan.seconds.values())
    if seconds > max(_WORTH_WAITING, _SLOWER_THAN_PLANNED * planned):
        yield (
            f"the step took {seconds:.0f} s, {seconds / planned:.0f} times as long as planned: stop other programs on "
            f"this machine, or set OMP_NUM_THREADS to the number of cores that are free"
        )
