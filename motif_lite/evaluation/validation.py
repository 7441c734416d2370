"""Held-out problems measured along the way."""

import math
from collections.abc import Sequence
from dataclasses import replace

from motif_lite.context import RunContext
from motif_lite.evaluation.best_mark import is_best
from motif_lite.evaluation.measuring import measure_parts, settings_of, summary
from motif_lite.nouns import Problem
from motif_lite.policies.protocol import trainable
from motif_lite.recipe.schema import decided
from motif_lite.runs import sealing
from motif_lite.runs.budget import Spent, share_done
from motif_lite.runs.parts import Parts, mark_path, remove_marks
from motif_lite.runs.records import Mark, PartsHeader, Subject


class Validation:
    """Measurements along the way, on problems that are neither trained on nor in a benchmark.

    Each is a line of validation.jsonl: how far the run had come, the accuracy with its interval, and what measuring it
    took. Random streams are the same at every mark, so that marks differ by the policy alone. One that was interrupted
    goes on with the part that is missing.

    Args:
        problems: Held-out ones; none where the recipe asks for no marks.
    """

    def __init__(self, context: RunContext, problems: Sequence[Problem]) -> None:
        self._context, self._problems = context, problems
        self._recipe, self._run, self._observer = context.recipe, context.run, context.observer

    def resume_at(self, step: int) -> None:
        """Training goes on after this step: drop parts of all other marks, which other policies may write again."""
        is_measured = any(mark.step == step for mark in self._run.marks())
        remove_marks(self._run.root, but=None if is_measured else step)
        if (self._run.best_step() or 0) > step:  # its mark is gone, and may turn out otherwise
            sealing.discard(self._run.best_adapter, self._run.unfinished)

    def is_due(self, spent: Spent) -> bool:
        """Whether the run has come past another mark since the last one that was measured."""
        section, marks = self._recipe.evaluation.validation, self._run.marks()
        if section is None or not marks:
            return section is not None
        last = replace(spent, steps=marks[-1].step, tokens=marks[-1].tokens, seconds=marks[-1].seconds)
        before, now = (
            math.floor(section.num_marks * share_done(self._recipe.training, each) + 1e-9) for each in (last, spent)
        )
        return now > before

    def measure_if_due(self, spent: Spent) -> Mark | None:
        """Measure the policy before its first step, and wherever a mark is due; the mark, where one was."""
        return self._measure(spent) if self.is_due(spent) else None

    def _measure(self, spent: Spent) -> Mark:
        section, validation = self._recipe.evaluation, self._recipe.evaluation.validation
        assert validation is not None
        subject = Subject("validation", self._recipe.rollout.strategy, "sampled" if section.num_samples else "greedy")
        settings, width = settings_of(self._recipe, subject, validation), decided(self._recipe.rollout.max_width)
        parts = Parts(mark_path(self._run.root, spent.steps), PartsHeader(settings=settings, width=width))
        for part in measure_parts(self._context, self._problems, subject, len(parts.graded)):
            parts.add(part)
        found = summary(parts.graded, section.confidence)
        mark = Mark(
            step=spent.steps,
            tokens=spent.tokens,
            seconds=spent.seconds,
            **dict(found),
            evaluation_seconds=parts.seconds,
            peak_memory_bytes=parts.peak_memory_bytes,
            outcomes="".join("01"[each.correct] for each in parts.graded),
        )
        if is_best(mark.accuracy, self._run.marks()):  # before the mark is there: with it, its adapter is
            self._run.save_adapter(mark.step, trainable(self._context.policy).save_adapter, self._run.best_adapter)
        self._run.append_mark(mark)
        parts.remove()
        self._observer.mark(mark)
        return mark
