"""Training problems that the policy solves sometimes: only a group that differs in its rewards teaches anything.

Their pass rates are measured once, before the first step, by the recipe's own strategy, and kept: `runs.selection`. The
policy is the one that training begins with, so after a warm start that of its adapter.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from motif_lite.context import RunContext
from motif_lite.errors import DataError
from motif_lite.evaluation.measuring import measure_parts, outcomes_of, settings_of
from motif_lite.nouns import Problem
from motif_lite.observer import Observer
from motif_lite.recipe.data import SelectSection
from motif_lite.recipe.schema import decided
from motif_lite.rollout.strategies import strategy_of
from motif_lite.runs import inputs, preparing, selection, warm_start
from motif_lite.runs.costs import Cost
from motif_lite.runs.parts import Parts, discard
from motif_lite.runs.records import PartsHeader, Subject
from motif_lite.runs.selection import PassRates


def selected(context: RunContext, problems: list[Problem]) -> list[Problem]:
    """The problems whose pass rate lies within the recipe's bounds; all of them where it gives none.

    Raises:
        DataError: Fewer are left than a step takes, or no budget to train on them.
    """
    section = context.recipe.data.select
    if section is None:
        return problems
    rates, source = _pass_rates(context, problems, section)
    discard(_parts_path(context.run.root))  # here, as a kill may have come since they were kept
    least, most = section.min_pass_rate, section.max_pass_rate
    found = [problem for problem in problems if least <= rates.of(problem) <= most]
    told = f"data.select: {rates.in_words(section)} ({source})"
    wanted = context.recipe.training.problems_per_step
    if len(found) < wanted:
        raise DataError(
            f"{told}: too few for training.problems_per_step = {wanted}; start a new run with wider bounds, more or "
            f"other problems, or without data.select"
        )
    context.observer.note(told)
    preparing.require_some_left(context.recipe.training, context.run.spent())
    return found


def _pass_rates(context: RunContext, problems: Sequence[Problem], section: SelectSection) -> tuple[PassRates, str]:
    """By problem, and in words where they come from."""
    recipe, root = context.recipe, context.run.root
    rates = selection.kept(root)
    if rates is not None:
        selection.require_all(rates, problems, root)
        return rates, f"as {root / selection.FILE} has it"
    stands_on = inputs.kept(root)
    prompt = context.policy.render(strategy_of(recipe, recipe.rollout.strategy).first_messages(problems[0]))
    model = stands_on.model if stands_on else {}
    if (adapter := warm_start.sum_of_adapter(root)) is not None and model:
        model = model | {"warm_start": adapter}
    path = selection.cached_path(recipe, model, problems, prompt, context.policy.device_type)
    with _alone(path, context.observer):
        if path is not None and (rates := selection.cached(path)) is not None:
            selection.keep(root, rates)
            return rates, f"measured by an earlier run: {path}"
        rates = _measured(context, problems, section)
        if path is not None:
            try:
                selection.put(path, rates)
            except OSError as error:
                context.observer.note(f"note: {path}: pass rates cannot be kept for other runs ({error.strerror})")
    return rates, f"{section.num_samples} samples each: {rates.cost.generated_tokens:,} tokens"


@contextmanager
def _alone(path: Path | None, observer: Observer) -> Iterator[None]:
    """Wait for another process that measures what shall be in this file; where no file can be held, for none."""
    with ExitStack() as held:
        with suppress(OSError):
            if path is not None and not held.enter_context(selection.claimed(path)):
                observer.phase("evaluating", "waiting for another run, which measures the same pass rates")
                held.enter_context(selection.claimed(path, wait=True))
        yield


def _parts_path(root: Path) -> Path:
    return root / "evaluations" / "selection.jsonl"


def _measured(context: RunContext, problems: Sequence[Problem], section: SelectSection) -> PassRates:
    """Measured, and kept in the run's folder."""
    recipe, run = context.recipe, context.run
    subject = Subject("data.train", recipe.rollout.strategy, "sampled")
    settings = settings_of(recipe, subject, recipe.data.as_source()).model_copy(
        update={"num_samples": section.num_samples, "problems": inputs.of_problems(problems)}
    )
    parts = Parts(
        _parts_path(run.root),
        PartsHeader(
            settings=settings,
            width=decided(recipe.rollout.max_width),
            policy=warm_start.sum_of_adapter(run.root),
        ),
    )
    if parts.num_dropped:
        context.observer.note("note: data.select: it was begun with other settings; all of it is measured again")
    for part in measure_parts(context, [*problems] * section.num_samples, subject, len(parts.graded)):
        parts.add(part)
    graded = parts.graded
    rates = PassRates(
        num_samples=section.num_samples,
        num_correct={problem: sum(outcomes) for problem, outcomes in outcomes_of(graded).items()},
        cost=Cost(
            prompts=sum(len(each.replies) for each in graded),
            generated_tokens=sum(each.tokens for each in graded),
            seconds=parts.seconds,
            peak_memory_bytes=parts.peak_memory_bytes,
        ),
    )
    selection.keep(run.root, rates)
    return rates
