"""Warnings: problems in training, found in its metrics, each with a remedy.

Everything here is a pure function of the recipe and of two files, metrics.jsonl and validation.jsonl: a run tells a
finding when it is first seen, and the report finds the same again. Nothing is random, nothing is kept.

**How a change is judged.** A figure is averaged over the newest window of steps and over that earlier window, apart
from it, in which it was best (`trends`). The two differ if they do so by `MANY_SIGMAS` standard errors *and* by enough
to matter (`MATTERS`). A window is at least five steps and at least 24 problems, and grows to a sixth of the run, so
that the slow changes of small learning rates are seen as well. A figure held against a fixed bound is looked up in the
newest window alone, and `SIGMAS` are enough.

**Where the problems change** (`data.skip`, `data.curriculum`), training accuracy and reward change with them, whatever
the policy does: leaving out what is solved lowers both. Then marks of validation alone say whether accuracy falls, and
a reward that rises is not held against them.

**False alarms.** The best of many windows is compared at every step, so 4.5 standard errors are not as rare as they
sound. How many of 1000 simulated runs of a policy that does not change got a warning is in docs/warnings.md
(tests/test_diagnosis.py repeats 200). What changes for the better gives none: only the harmful direction is looked at.
The price is delay: what happens within a few steps is told some five steps later, with one problem per step 10 to 20,
and what happens before there is one whole window of good steps may not be told at all.
"""

from collections.abc import Callable, Sequence
from math import ceil, hypot
from statistics import NormalDist, fmean
from typing import Literal

from motif_lite.figures import in_percent
from motif_lite.monitor import remedies
from motif_lite.monitor.finding import SIGMAS, Finding, is_above
from motif_lite.monitor.grader_findings import of_grader
from motif_lite.monitor.trends import Change, Series, Span
from motif_lite.recipe.schema import Recipe
from motif_lite.recipe.strategy_rules import chunks_go_on
from motif_lite.runs.records import Mark, StepMetrics

MANY_SIGMAS = 4.5
"""Standard errors between the newest window and the best of many before."""

MATTERS = 0.1
"""Changes of a share, or of the reward, that are smaller are not worth a word, however sure they are."""

HELD_OUT_MATTERS = 0.05
"""Held-out accuracy stands still if its gain is below this, or below half the gain in training."""

_MIN_STEPS, _MIN_PROBLEMS, _STEPS_PER_STEP_OF_WINDOW = 5, 24, 6

Figure = Callable[[StepMetrics], float | None]


def diagnose(recipe: Recipe, metrics: Sequence[StepMetrics], validation: Sequence[Mark]) -> list[Finding]:
    """All findings of a run so far, each as it was when it was first seen.

    Args:
        recipe: The run's; its values stand in the remedies.
        metrics: The lines of metrics.jsonl.
        validation: The lines of validation.jsonl; none where nothing is held out.
    """
    examination, first_seen = _Examination(recipe, metrics, validation), dict[str, Finding]()
    for line in metrics:
        for finding in examination.look(line.step):
            first_seen.setdefault(finding.name, finding)
    return list(first_seen.values())


def at_last_step(recipe: Recipe, metrics: Sequence[StepMetrics], validation: Sequence[Mark]) -> list[Finding]:
    """What is seen after the newest step, whether or not it was seen before: what a run asks after each step."""
    return _Examination(recipe, metrics, validation).look(metrics[-1].step)


class _Examination:
    """The figures of a run, and the looks at them."""

    def __init__(self, recipe: Recipe, metrics: Sequence[StepMetrics], validation: Sequence[Mark]) -> None:
        self.recipe, self.metrics, self.validation = recipe, metrics, validation
        self.knows_truth = bool(metrics) and metrics[0].round_correct is not None
        num_rounds = len(metrics[0].accuracy_by_round) if metrics else 0
        self.reward = self._series(lambda line: line.reward)
        self.accuracy = self._series(lambda line: line.accuracy)
        self.without_signal = self._series(lambda line: line.groups_without_signal)
        self.on_form_alone = self._series(lambda line: line.groups_on_form_alone)
        self.broken_form = self._series(lambda line: line.broken_form)
        self.cut_openings = self._series(lambda line: line.cut_off["openings"])
        self.cut_futures = self._series(lambda line: line.cut_off.get("futures"))
        self.noise_excess = self._series(_noise_excess)
        self.first_round = self._series(lambda line: _kept(line)[0])
        self.later_rounds = [self._series(_round(number)) for number in range(2, num_rounds + 1)]

    def _series(self, figure: Figure) -> Series:
        return Series([line.step for line in self.metrics], [figure(line) for line in self.metrics])

    def look(self, step: int) -> list[Finding]:
        """What is seen after this step, from nothing later."""
        width = self._width(step)
        fall, drift = self._fall(step, width), self._drift(step, width)
        found = [
            self._broken_form(step, width),
            self._cut_off(step, width, "openings"),
            self._cut_off(step, width, "futures"),
            drift,
            fall if not drift else None,  # drift says it more exactly
            self._without_signal(step, width, has_fallen=fall is not None)
            or self._form_alone(step, width, has_fallen=fall is not None),
            self._noise(step, width),
            self._held_out(step, width),
            *of_grader(self.recipe, self._window(step, width)),
        ]
        return [finding for finding in found if finding]

    def _width(self, step: int) -> int:
        """Steps of a window."""
        problems = ceil(_MIN_PROBLEMS / self.recipe.training.problems_per_step)
        return max(_MIN_STEPS, problems, step // _STEPS_PER_STEP_OF_WINDOW)

    def _broken_form(self, step: int, width: int) -> Finding | None:
        rise = _change(self.broken_form, step, width, 1)
        if rise is None or self.recipe.rollout.strategy == "delethink":  # whose chunks have no form
            return None
        text = f"the share of malformed first rounds rose from {_from_to(rise)}"
        return Finding("replies lose the required format", step, text, remedies.more_form(self.recipe))

    def _cut_off(self, step: int, width: int, phase: Literal["openings", "futures"]) -> Finding | None:
        if chunks_go_on(self.recipe, phase):
            return None
        figure, rounds = {
            "openings": (self.cut_openings, "first rounds"),
            "futures": (self.cut_futures, "later rounds"),
        }[phase]
        rise = _change(figure, step, width, 1)
        if rise is None:
            return None
        text = f"the share that reaches the token limit rose from {_from_to(rise)}"
        return Finding(f"{rounds} are cut off", step, text, remedies.fewer_cut_off(self.recipe, phase))

    def _drift(self, step: int, width: int) -> Finding | None:
        """A later round breaks more of what it was given right, while the first round does no worse."""
        for number, later in enumerate(self.later_rounds, start=2):
            fall = _change(later, step, width, -1)
            if fall is None:
                continue
            before, now = self.first_round.mean(fall.before), self.first_round.mean(fall.now)
            if before is None or now is None or now < before + fall.size / 2:
                continue
            right = "true progress" if self.knows_truth else "the right answer"
            text = (
                f"of the round-{number} replies given {right}, the share that keeps it fell from {_from_to(fall)}; "
                f"first rounds that reach it: {_percent(before)} before, {_percent(now)} now"
            )
            remedy = remedies.steadier_later_rounds(self.recipe, self._best_step(step, width))
            return Finding("later rounds drift", step, text, remedy)
        return None

    def _best_step(self, step: int, width: int) -> int:
        """At which accuracy was highest; 0 where nothing tells."""
        if self.recipe.data.changes_problems:
            return _best(marks).step if (marks := self._marks(step)) else 0
        return self.accuracy.highest(step, width).last

    def _fall(self, step: int, width: int) -> Finding | None:
        if self.recipe.data.changes_problems:
            return self._held_out_fall(step)
        fall = _change(self.accuracy, step, width, -1)
        if fall is None:
            return None
        text = f"training accuracy fell from {_from_to(fall)}"
        return Finding("accuracy falls", step, text, remedies.steadier(self.recipe, fall.before.last))

    def _held_out_fall(self, step: int) -> Finding | None:
        """The last two marks are both surely below the best one before them, and by enough to matter."""
        marks = self._marks(step)
        if len(marks) < 3:
            return None
        best, now = _best(marks[:-2]), marks[-1]
        if not all(self._is_below(mark, best) for mark in marks[-2:]):
            return None
        text = (
            f"held-out accuracy fell from {_with_interval(best)} (step {best.step}) to {_with_interval(now)} "
            f"(step {now.step})"
        )
        return Finding("accuracy falls", step, text, remedies.steadier(self.recipe, best.step))

    def _without_signal(self, step: int, width: int, *, has_fallen: bool) -> Finding | None:
        """Significantly more than half of the groups of a window."""
        share = self.without_signal.newest(step, width)
        num_groups = width * self.recipe.training.problems_per_step
        if share is None or not is_above(share.mean, 0.5, num_groups):
            return None
        accuracy = self.accuracy.mean(share) or 0.0
        text = (
            f"in {_percent(share.mean)} of the groups of {_steps(share)} all openings earned the same reward; "
            f"{_percent(accuracy)} of the answers were right"
        )
        remedy = remedies.more_signal(self.recipe, step, accuracy, has_fallen=has_fallen)
        return Finding("groups without signal", step, text, remedy)

    def _form_alone(self, step: int, width: int, *, has_fallen: bool) -> Finding | None:
        """Of the groups of a window that are trained, significantly more than half are so for their form alone."""
        on_form = self.on_form_alone.newest(step, width)
        trained = 1 - (self.without_signal.mean(on_form) or 0.0) if on_form else 0.0
        if on_form is None or trained <= 0:
            return None
        share = on_form.mean / trained
        if not is_above(share, 0.5, trained * width * self.recipe.training.problems_per_step):
            return None
        accuracy = self.accuracy.mean(on_form) or 0.0
        text = (
            f"of the groups that were trained in {_steps(on_form)}, {_percent(share)} were so on form "
            f"or other rewards alone: their openings were right equally often; {_percent(accuracy)} of the answers "
            f"were right"
        )
        remedy = remedies.more_of_accuracy(self.recipe, step, accuracy, has_fallen=has_fallen)
        return Finding("only form is trained", step, text, remedy)

    def _noise(self, step: int, width: int) -> Finding | None:
        """More than half of the variance between openings is noise: noise less the other part is above zero."""
        excess = self.noise_excess.newest(step, width)
        if excess is None or excess.mean <= SIGMAS * excess.error:
            return None
        steps = [line.reward_noise for line in self.metrics if excess.first <= line.step <= excess.last]
        between, sampling = (
            fmean(getattr(noise, part) for noise in steps if noise) for part in ("between_openings", "sampling")
        )
        text = (
            f"in {_steps(excess)} the variance between the openings of a group is {between:.3f}; "
            f"sampling of their futures alone would give {sampling:.3f}"
        )
        name = "reward noise is larger than the differences between openings"
        return Finding(name, step, text, remedies.less_noise(self.recipe))

    def _held_out(self, step: int, width: int) -> Finding | None:
        """The reward has risen since some mark, and held-out accuracy since then surely by next to nothing."""
        marks = self._marks(step)
        for reference in [] if self.recipe.data.changes_problems else marks[:-2]:
            before = self.reward.oldest(reference.step, marks[-1].step - width, width)
            now = self.reward.newest(marks[-1].step, width)
            if before and now and self._gains_nothing(Change(before, now), reference, marks[-2:]):
                text = (
                    f"from step {reference.step} to {marks[-1].step} the reward rose from {before.mean:.2f} to "
                    f"{now.mean:.2f}; held-out accuracy was {_with_interval(reference)}, is {_with_interval(marks[-1])}"
                )
                remedy = remedies.better_on_new_problems(self.recipe, _best(marks).step)
                return Finding("held-out accuracy does not rise with the reward", step, text, remedy)
        return None

    def _is_below(self, mark: Mark, best: Mark) -> bool:
        """By `SIGMAS` standard errors of the difference, from the intervals of the two (as in `_largest_gain`)."""
        fall = best.accuracy - mark.accuracy
        half_width = hypot(best.accuracy - best.interval[0], mark.interval[1] - mark.accuracy)
        sigmas = NormalDist().inv_cdf((1 + self.recipe.evaluation.confidence) / 2)
        return fall >= MATTERS and fall > SIGMAS * half_width / sigmas

    def _marks(self, step: int) -> list[Mark]:
        return [mark for mark in self.validation if mark.step <= step]

    def _window(self, step: int, width: int) -> list[StepMetrics]:
        """The newest steps, fewer at the start of a run."""
        return [line for line in self.metrics if step - width < line.step <= step]

    def _gains_nothing(self, reward: Change, reference: Mark, marks: Sequence[Mark]) -> bool:
        if reward.size < MATTERS or not reward.is_sure(MANY_SIGMAS):
            return False
        trained = (self.accuracy.mean(reward.now) or 0.0) - (self.accuracy.mean(reward.before) or 0.0)
        return all(_largest_gain(reference, mark) < max(HELD_OUT_MATTERS, trained / 2) for mark in marks)


def _change(figure: Series, step: int, width: int, sign: int) -> Change | None:
    """A rise (1) or fall (-1) that is sure and matters."""
    change = figure.worst_change(step, width, sign)
    return change if change and sign * change.size >= MATTERS and change.is_sure(MANY_SIGMAS) else None


def _kept(line: StepMetrics) -> Sequence[float | None]:
    """By round, how much of what was right stays so: of true progress, or where nobody can tell, of right answers."""
    return (line.accuracy_by_round[0], *line.answers_kept) if line.round_correct is None else line.round_correct


def _round(number: int) -> Figure:
    return lambda line: _kept(line)[number - 1] if number <= len(_kept(line)) else None


def _noise_excess(line: StepMetrics) -> float | None:
    """Sampling noise less the rest of the variance between openings: 2 noise - all, an unbiased estimate."""
    noise = line.reward_noise
    return 2 * noise.sampling - noise.between_openings if noise else None


def _largest_gain(before: Mark, after: Mark) -> float:
    """Upper end of the interval of a gain in accuracy, from the intervals of the two (Newcombe 1998, method 10).

    It takes the two for independent; they share their problems, so the true interval is narrower: this is cautious.
    """
    up, down = after.interval[1] - after.accuracy, before.accuracy - before.interval[0]
    return after.accuracy - before.accuracy + hypot(up, down)


def _best(marks: Sequence[Mark]) -> Mark:
    return max(marks, key=lambda mark: mark.accuracy)


def _from_to(change: Change) -> str:
    return " to ".join(f"{_percent(span.mean)} ({_steps(span)})" for span in (change.before, change.now))


def _steps(span: Span) -> str:
    return f"steps {span.first} to {span.last}"


def _with_interval(mark: Mark) -> str:
    return in_percent(mark.accuracy, mark.interval, digits=0, unit=" %")


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.0f} %"
