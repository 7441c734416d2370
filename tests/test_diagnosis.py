"""Warnings from made-up metrics: given for what they name, hardly ever by chance, with remedies that are recipes."""

import itertools
import random
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from motif_lite.errors import RecipeError
from motif_lite.evaluation import intervals
from motif_lite.jobs import checking
from motif_lite.monitor import findings, remedies
from motif_lite.monitor.finding import Finding
from motif_lite.nouns import Problem
from motif_lite.recipe.keys import changed
from motif_lite.recipe.schema import Recipe
from motif_lite.runs.records import Mark, StepMetrics
from motif_lite.training.choosing import Choosing
from tests import records

RECIPES = Path(__file__).parents[1] / "recipes"
TINY = checking.check(RECIPES / "tiny_cpu.toml", [])
GSM8K = checking.check(RECIPES / "motif_gsm8k.toml", [])

Metrics = list[StepMetrics]

FORM = "replies lose the required format"
CUT_FIRST, CUT_LATER = "first rounds are cut off", "later rounds are cut off"
DRIFT, FALL, NO_SIGNAL = "later rounds drift", "accuracy falls", "groups without signal"
ONLY_FORM = "only form is trained"
NOISE = "reward noise is larger than the differences between openings"
BEYOND, DISTURBED = "answers that cannot be graded", "the grader is disturbed"
HELD_OUT = "held-out accuracy does not rise with the reward"


def steps(number: int = 20, **columns: Sequence[Any] | Callable[[int], Any]) -> Metrics:
    """Metrics of a run in which nothing changes but for a little noise, and what the columns say, by step."""
    wobble = random.Random(1)
    lines = []
    for index in range(number):
        accuracy = 0.6 + wobble.uniform(-0.05, 0.05)
        line: dict[str, Any] = {
            "number": index + 1, "reward": 1.5 + 2 * accuracy, "accuracy": accuracy,
            "accuracy_by_round": [0.4, 0.5, accuracy], "answers_kept": [0.95, 0.95], "groups_without_signal": 0.25,
            "broken_form": wobble.uniform(0, 0.05), "cut_off": {"openings": wobble.uniform(0, 0.05), "futures": 0.0},
            "reward_noise": {"between_openings": 0.5 + wobble.uniform(-0.1, 0.1), "sampling": 0.1},
        }  # fmt: skip
        changes = {key: column(index) if callable(column) else column[index] for key, column in columns.items()}
        lines.append(records.step(**(line | changes)))
    return lines


def mark(step: int, num_correct: int, num_problems: int = 200) -> Mark:
    outcomes = {str(index): [index < num_correct] for index in range(num_problems)}
    interval = intervals.interval(outcomes, 0.95)
    return records.mark(step, num_correct / num_problems, interval=interval, num_problems=num_problems)


def late(before: float, after: float, since: int = 10) -> Callable[[int], float]:
    """One value with a wobble, and another one from some step on."""
    return lambda index: (after if index >= since else before) + 0.01 * (index % 3)


def names(metrics: Metrics, validation: list[Mark] | None = None, recipe: Recipe = TINY) -> list[str]:
    return [finding.name for finding in findings.diagnose(recipe, metrics, validation or [])]


def only(metrics: Metrics, validation: list[Mark] | None = None, recipe: Recipe = TINY) -> Finding:
    [finding] = findings.diagnose(recipe, metrics, validation or [])
    return finding


def test_a_run_in_which_nothing_changes_gives_no_warning() -> None:
    assert names(steps()) == names(steps(300), recipe=GSM8K) == names([]) == []


def test_replies_that_lose_their_form_are_told_with_the_figures_when_it_is_sure() -> None:
    finding = only(steps(broken_form=late(0.02, 0.5)))
    assert finding.name == FORM
    assert 12 <= finding.step <= 15
    assert re.search(r"rose from 3 % \(steps \d+ to \d+\) to \d\d % \(steps \d+ to \d+\)", finding.text)
    assert "--set training.learning_rate=0.00017" in finding.remedy
    assert "--set rewards.strict_format=2" in finding.remedy


def test_form_that_is_learned_or_changes_a_little_is_no_loss() -> None:
    assert names(steps(broken_form=late(0.5, 0.02))) == names(steps(broken_form=late(0.02, 0.08))) == []


def test_form_is_lost_against_what_it_was_at_its_best() -> None:
    rates = [0.5] * 8 + [0.02] * 8 + [0.5] * 8
    assert only(steps(24, broken_form=rates)).name == FORM


@pytest.mark.parametrize(("phase", "name"), [("openings", CUT_FIRST), ("futures", CUT_LATER)])
def test_replies_that_come_to_be_cut_off_are_told_by_round(phase: str, name: str) -> None:
    cut = late(0.02, 0.4)
    finding = only(steps(cut_off=lambda index: {"openings": 0.0, "futures": 0.0, phase: cut(index)}))
    assert finding.name == name
    assert f"--set rollout.{phase}.max_tokens=70" in finding.remedy


def test_chunks_that_reach_their_limit_are_no_finding() -> None:
    """With delethink every chunk does that is not the text's last one."""
    lines = steps(cut_off=lambda index: {"openings": late(0.02, 0.4)(index), "futures": 0.0})
    assert findings.diagnose(TINY, lines, [])
    assert not findings.diagnose(changed(TINY, {"rollout.strategy": "delethink"}), lines, [])


def test_later_rounds_that_break_true_progress_drift_while_first_rounds_stay_good() -> None:
    falls = late(0.95, 0.5)
    finding = only(steps(round_correct=lambda index: [0.97, 0.99, falls(index)], accuracy=late(0.7, 0.4)))
    assert finding.name == DRIFT
    assert "round-3 replies given true progress" in finding.text
    assert "first rounds that reach it: 97 % before, 97 % now" in finding.text
    assert "--set training.learning_rate=0.00017" in finding.remedy


def test_where_progress_cannot_be_checked_drift_is_seen_in_answers_that_are_given_up() -> None:
    falls = late(0.95, 0.5, since=60)
    finding = only(steps(150, answers_kept=lambda index: [falls(index), 0.95]), recipe=GSM8K)
    assert finding.name == DRIFT
    assert "round-2 replies given the right answer" in finding.text
    assert "40 % before, 40 % now" in finding.text


def test_when_first_rounds_go_down_as_well_it_is_not_the_later_ones_that_drift() -> None:
    falls = late(0.95, 0.5)
    found = names(steps(round_correct=lambda index: [falls(index), falls(index), 0.9], accuracy=late(0.7, 0.3)))
    assert found == [FALL]


def test_rounds_that_nobody_entered_right_have_no_share_and_no_drift() -> None:
    assert names(steps(round_correct=lambda index: [0.0, None, None])) == []


def test_accuracy_that_falls_is_told_with_the_steps_at_which_it_was_best() -> None:
    accuracy = [0.4] * 5 + [0.7] * 5 + [0.2] * 10
    finding = only(steps(accuracy=accuracy, answers_kept=lambda _: [None, None]))
    assert finding.name == FALL
    assert "fell from 70 % (steps 6 to 10)" in finding.text
    assert "--set training.max_steps=10" in finding.remedy


def _moving(seed: int, recipe: Recipe, mean: float) -> Metrics:
    """Steps of a policy that does not change, with the problems that the recipe's `data.skip` lets it ask."""
    chance = random.Random(seed)
    rates = {f"p{index}": draw(chance, mean, 0.5) for index in range(128)}
    choosing = Choosing(recipe, [Problem(name, "?", "1") for name in rates], ())
    lines: Metrics = []
    turns: list[str] = []
    for step in range(1, 65):
        turns = turns or chance.sample(list(rates), len(rates))
        names, turns = choosing.begin(turns[:8], step), turns[8:]
        groups = {name: [share(chance, rates[name], 4) for _ in range(8)] for name in names}
        signals = {name: len(set(values)) > 1 for name, values in groups.items()}
        choosing.end(signals)
        accuracy = fmean(map(fmean, groups.values()))
        lines.append(records.step(step, **{
            "reward": 2 * accuracy, "accuracy": accuracy, "accuracy_by_round": [accuracy] * 3,
            "answers_kept": [0.9, 0.9], "groups_without_signal": 1 - fmean(signals.values()),
        }))  # fmt: skip
    return lines


@pytest.mark.parametrize("mean", [0.1, 0.9])
def test_problems_that_are_left_out_are_not_taken_for_a_policy_that_changes(mean: float) -> None:
    recipe = checking.check(RECIPES / "tiny_cpu.toml", ["data.skip={after=1,visits=2}"])
    marks = [mark(step, round(100 * mean), 100) for step in range(0, 65, 8)]
    runs = [_moving(seed, recipe, mean) for seed in range(4)]
    assert sum({FALL, HELD_OUT} & {*names(lines, marks)} != set() for lines in runs) >= 2, "without skip it would be"
    assert not any({FALL, HELD_OUT} & {*names(lines, marks, recipe)} for lines in runs)


@pytest.mark.parametrize("change", [{"data.skip": {}}, {"data.curriculum": 5}])
def test_where_the_problems_change_marks_say_whether_accuracy_falls(change: dict[str, Any]) -> None:
    recipe = changed(TINY, change)
    lines = steps(45, accuracy=late(0.7, 0.3, since=30))
    kept, lost = ([mark(step, 60 if step < 30 else after, 100) for step in range(0, 41, 10)] for after in (55, 30))
    assert names(lines) == [FALL]
    assert names(lines, recipe=recipe) == names(lines, kept, recipe) == names(lines, lost[:4], recipe) == []
    finding = only(lines, [*lost[:1], mark(10, 65, 100), *lost[2:]], recipe)
    assert (finding.name, finding.step) == (FALL, 40)
    assert "held-out accuracy fell from 65 % [55, 74] (step 10) to 30 % [22, 40] (step 40)" in finding.text
    assert "--set training.max_steps=10" in finding.remedy
    assert "max_steps" not in only(lines, lost, recipe).remedy, "it was best before the first step"


@pytest.mark.parametrize(
    ("accuracy", "advice"),
    [
        (0.97, "training.max_steps=6"),
        (0.02, "easier ones (data.train), or with --set rollout.num_openings=16"),
        (0.5, "rollout.openings.temperature=1.2"),
    ],
)
def test_groups_without_signal_are_told_with_a_remedy_for_their_difficulty(accuracy: float, advice: str) -> None:
    shares = [0.0] * 2 + [1.0] * 10
    finding = only(steps(12, groups_without_signal=shares, accuracy=lambda _: accuracy))
    assert (finding.name, finding.step) == (NO_SIGNAL, 6)
    assert f"{100 * accuracy:.0f} % of the answers were right" in finding.text
    assert advice in finding.remedy


def test_groups_without_signal_after_a_collapse_are_not_blamed_on_the_problems() -> None:
    found = findings.diagnose(TINY, steps(accuracy=late(0.7, 0.0), groups_without_signal=late(0.0, 0.9)), [])
    signal = next(finding for finding in found if finding.name == NO_SIGNAL)
    assert "accuracy has fallen and rarely recovers" in signal.remedy


def test_half_of_the_groups_without_signal_are_not_most() -> None:
    assert names(steps(groups_without_signal=lambda index: 0.5 + 0.125 * (index % 3))) == []


def _on_form(accuracy: float) -> Metrics:
    """From the eleventh step on no answer is better than another, and most groups are trained on form."""
    return steps(
        30,
        accuracy=lambda _: accuracy,
        groups_without_signal=late(0.2, 0.3),
        groups_on_form_alone=late(0.3, 0.68),
    )


def test_a_run_that_learns_nothing_but_form_is_told_so() -> None:
    """As in a study of a real model, whose replies became 30 tokens in perfect form, none of them right."""
    finding = only(_on_form(0.0))
    assert finding.name == ONLY_FORM
    assert 12 <= finding.step <= 20
    assert re.search(r"trained in steps \d+ to \d+, \d+ % were so on form or other rewards alone", finding.text)
    assert r"\boxed{}" in finding.remedy
    assert "--set warm_start={}" in finding.remedy
    assert "--set warm_start={}" not in only(_on_form(0.0), recipe=changed(TINY, {"warm_start": {}})).remedy


def test_a_remedy_does_not_name_what_the_recipe_has() -> None:
    has_all = {"warm_start": {}, "data.select": {}, "rewards": {"gated_accuracy": 1.0}}
    for accuracy in (0.0, 0.5):
        text = remedies.more_of_accuracy(changed(TINY, has_all), 7, accuracy, has_fallen=False)
        assert not any(f"{name}={{" in text for name in has_all), text


def test_problems_that_are_always_solved_are_told_to_be_easy_where_form_alone_is_trained() -> None:
    [finding] = [each for each in findings.diagnose(TINY, _on_form(0.97), []) if each.name == ONLY_FORM]
    assert "these problems are easy" in finding.remedy
    assert "gated_accuracy" in finding.remedy


def test_a_run_that_trains_on_accuracy_is_not_said_to_train_form() -> None:
    """Groups without signal are many with one future, and a few differ in form alone."""
    assert names(steps(100, groups_without_signal=late(0.6, 0.6), groups_on_form_alone=late(0.05, 0.05))) == []


def test_without_rewards_for_form_nothing_is_said_of_it() -> None:
    assert names(steps(groups_without_signal=late(0.2, 0.6), groups_on_form_alone=late(0.0, 0.0, 99))) == []


def test_reward_noise_above_the_differences_is_told() -> None:
    finding = only(steps(reward_noise=lambda index: {"between_openings": 0.2 + 0.02 * (index % 2), "sampling": 0.19}))
    assert finding.name == NOISE
    assert "the variance between the openings of a group is 0.2" in finding.text
    assert "alone would give 0.190" in finding.text
    for change in ("num_futures=8", 'allocation="adaptive"\'', 'scale_rewards="none"\''):
        assert change in finding.remedy


def test_without_two_futures_nothing_is_said_about_noise() -> None:
    assert names(steps(reward_noise=lambda _: None)) == []


def rising(number: int = 60) -> Metrics:
    """The reward rises by one, training accuracy by 20 points."""
    wobble = random.Random(2)
    return steps(
        number,
        reward=lambda index: 2 + index / number + wobble.uniform(-0.05, 0.05),
        accuracy=lambda index: 0.5 + 0.2 * index / number + wobble.uniform(-0.05, 0.05),
    )


def test_a_reward_that_rises_alone_is_told_at_the_second_mark_that_shows_it() -> None:
    marks = [mark(0, 100), mark(20, 97), mark(40, 96), mark(60, 95)]
    finding = only(rising(), marks)
    assert (finding.name, finding.step) == (HELD_OUT, 60)
    assert "was 50 % [43, 57], is 48 % [41, 54]" in finding.text
    assert names(rising(), marks[:3]) == [], "one mark says little"


def test_held_out_accuracy_may_stand_still_where_the_reward_does() -> None:
    assert names(steps(60), [mark(step, 100) for step in range(0, 61, 10)]) == []


@pytest.mark.parametrize("gained", [10, 20, 40])
def test_a_held_out_gain_that_cannot_be_excluded_is_no_warning(gained: int) -> None:
    assert names(rising(), [mark(step, 100 + gained * step // 60) for step in range(0, 61, 10)]) == []


def test_few_held_out_problems_show_nothing() -> None:
    assert names(rising(), [mark(step, 10, 20) for step in range(0, 61, 10)]) == []


def test_held_out_accuracy_that_rose_first_and_fell_then_is_told_with_its_best_step() -> None:
    finding = only(rising(), [mark(0, 80), mark(10, 120), mark(40, 70), mark(60, 70)])
    assert finding.name == HELD_OUT
    assert "--set training.max_steps=10" in finding.remedy


def graded(number: int, **late_counts: int) -> Metrics:
    """Steps of 64 replies each; from step 11 on so many of them have what is counted."""
    counts = {f"grader_{what}": [0] * 10 + [count] * (number - 10) for what, count in late_counts.items()}
    return steps(number, prompts=[{"openings": 16, "futures": 48}] * number, **counts)


def test_answers_that_cannot_be_graded_are_told_with_their_number() -> None:
    finding = only(graded(20, failures=4))
    assert (finding.name, finding.step) == (BEYOND, 13)
    assert "in steps 9 to 13 12 of 320 replies have an answer that cannot be compared" in finding.text
    assert "--set training.learning_rate=0.00017" in finding.remedy


def test_a_few_failures_and_retries_are_not_worth_a_word() -> None:
    assert names(graded(100, failures=1, retries=1)) == []


def test_one_lost_verdict_is_told_at_once_and_retries_where_they_are_many() -> None:
    lost, again = only(graded(20, losses=1)), only(graded(20, retries=8))
    assert (lost.name, lost.step) == (DISTURBED, 11)
    assert "replies that count as wrong because that happened each time: 1" in lost.text
    assert (again.name, again.step) == (DISTURBED, 12)
    assert "16 comparisons of answers were killed or got no processor time" in again.text


def test_a_run_sees_step_by_step_what_the_files_show_in_the_end() -> None:
    metrics = steps(broken_form=late(0.02, 0.5), accuracy=late(0.7, 0.2), groups_without_signal=late(0.0, 0.9))
    told: dict[str, Finding] = {}
    for number in range(1, len(metrics) + 1):
        for finding in findings.at_last_step(TINY, metrics[:number], []):
            told.setdefault(finding.name, finding)
    assert list(told.values()) == findings.diagnose(TINY, metrics, [])
    assert len(told) == 3


def test_metrics_of_an_earlier_version_are_read_as_well() -> None:
    lacking = {"answers_kept": (), "reward_noise": None}
    old = [line.model_copy(update=lacking) for line in steps(broken_form=late(0.0, 0.6))]
    assert names(old) == [FORM]


def changes_in(text: str) -> list[str]:
    return [quoted or bare for quoted, bare in re.findall(r"--set (?:'([^']*)'|([^\s,;]+))", text)]


def against_drift(recipe: Recipe) -> str:
    return remedies.steadier_later_rounds(recipe, 7)


ALL_REMEDIES: list[Callable[[Recipe], str]] = [
    remedies.more_form,
    lambda recipe: remedies.fewer_cut_off(recipe, "openings"),
    lambda recipe: remedies.fewer_cut_off(recipe, "futures"),
    against_drift,
    lambda recipe: remedies.steadier(recipe, 0),
    *(
        lambda recipe, share=share, fell=fell: remedies.more_signal(recipe, 7, share, has_fallen=fell)
        for share in (0.0, 0.5, 1.0)
        for fell in (False, True)
    ),
    *(
        lambda recipe, share=share, fell=fell: remedies.more_of_accuracy(recipe, 7, share, has_fallen=fell)
        for share in (0.0, 0.5, 1.0)
        for fell in (False, True)
    ),
    remedies.less_noise,
    remedies.gradable,
    lambda recipe: remedies.better_on_new_problems(recipe, 0),
    lambda recipe: remedies.better_on_new_problems(recipe, 7),
]


RISING = ('data={train="reasoning_gym:chain_sum", curriculum=5, raise_above=0.8}',)


@pytest.mark.parametrize(
    ("name", "given"),
    [("tiny_cpu.toml", ()), ("motif_gsm8k.toml", ()), ("motif_chain_gsm8k.toml", ()), ("tiny_cpu.toml", RISING)],
)
@pytest.mark.parametrize("remedy", ALL_REMEDIES)
def test_every_change_that_a_remedy_names_makes_a_valid_recipe(
    name: str, given: tuple[str, ...], remedy: Callable[[Recipe], str]
) -> None:
    changes = changes_in(remedy(checking.check(RECIPES / name, given)))
    assert changes
    checking.check(RECIPES / name, [*given, *changes])


SAME_SAMPLING = "rollout.futures={max_tokens=35, temperature=1.0, top_p=1.0}"
CREDITS: list[list[str]] = [[], *([f'training.credit="{name}"', SAME_SAMPLING] for name in ("chain", "tree", "reset"))]
STRATEGIES: dict[str, list[str]] = {
    "multi_round": [], "single_round": [], "refine": [], "parallel": ["rollout.num_rounds=4"],
    "delethink": ["rollout.head_tokens=5", "rollout.tail_tokens=10", "rewards={future_accuracy=1.0}"],
}  # fmt: skip
MORE: list[list[str]] = [
    [], ['training.multi_objective_aggregation="normalize_then_sum"'], ['rollout.allocation="adaptive"'],
    ["data.curriculum=5", 'data.train="reasoning_gym:chain_sum"'],
    ["data.select={}"], ["data.refill=2"], ["training.beta=0.1"],
    ["training.importance_cap=2"], ["rollout.openings.temperature=5.0"],
]  # fmt: skip
NEVER_TOLD = {"single_round": (remedies.less_noise, against_drift), "delethink": (remedies.more_form,)}
"""Without later rounds there is no noise of futures and no drift, and chunks have no form."""


def grid() -> Iterator[tuple[list[str], Recipe]]:
    """Recipes that go together, with the changes that make them of the tiny one."""
    for credit, (strategy, needed), more in itertools.product(CREDITS, STRATEGIES.items(), MORE):
        changes = [*credit, f'rollout.strategy="{strategy}"', *needed, *more]
        with suppress(RecipeError):
            yield changes, checking.check(RECIPES / "tiny_cpu.toml", changes)


def test_every_remedy_goes_with_every_credit_and_strategy() -> None:
    checked = 0
    for changes, recipe in grid():
        told = [each for each in ALL_REMEDIES if each not in NEVER_TOLD.get(recipe.rollout.strategy, ())]
        for text in {remedy(recipe) for remedy in told}:
            checking.check(RECIPES / "tiny_cpu.toml", [*changes, *changes_in(text)])
            checked += 1
    assert checked > 1000


def test_no_remedy_asks_for_more_than_a_recipe_takes() -> None:
    changes = ["rollout.num_openings=600", "rollout.num_futures=600", "training.micro_batch_size=600"]
    recipe = checking.check(RECIPES / "tiny_cpu.toml", changes)
    checking.check(RECIPES / "tiny_cpu.toml", [*changes, *changes_in(remedies.less_noise(recipe))])
    text = remedies.more_signal(recipe, 7, 0.5, has_fallen=False)
    assert "rollout.num_openings=1024" in text


def test_chunks_have_no_form_to_lose() -> None:
    lines = steps(broken_form=late(0.02, 0.5))
    assert findings.diagnose(TINY, lines, [])
    assert not findings.diagnose(changed(TINY, {"rollout.strategy": "delethink"}), lines, [])


def test_drift_is_mended_first_of_all_by_training_every_round() -> None:
    opening = checking.check(RECIPES / "motif_gsm8k.toml", ["training.beta=0.1"])
    text = remedies.steadier_later_rounds(opening, 7)
    assert text.startswith(
        "a new run that trains every round: --set 'training.credit=\"chain\"' --set rollout.futures.temperature=1.0 "
        "--set rollout.futures.top_p=1.0 --set training.beta=0.0; or "
    )
    chain = checking.check(RECIPES / "motif_chain_gsm8k.toml", [])
    assert "credit" not in remedies.steadier_later_rounds(chain, 7)


def draw(chance: random.Random, mean: float, correlation: float) -> float:
    """The success rate of one problem: beta, so that replies to it have this intraclass correlation."""
    size = (1 - correlation) / correlation
    return chance.betavariate(mean * size, (1 - mean) * size)


def share(chance: random.Random, rate: float, number: int) -> float:
    return sum(chance.random() < rate for _ in range(number)) / number


def stationary(chance: random.Random, number: int, problems: int) -> Metrics:
    """Steps of a policy that does not change: m = 8, k = 4, problems of very different difficulty.

    Openings of a problem differ in earnest: their values have a standard deviation of about 0.25.
    """
    lines: Metrics = []
    for step in range(1, number + 1):
        groups = [_group(chance, draw(chance, 0.6, 0.4)) for _ in range(problems)]
        rewards = [[fmean(futures) for futures in group] for group in groups]
        rate = draw(chance, 0.1, 0.3)
        broken = [[chance.random() < rate for _ in group] for group in groups]
        accuracy, form = fmean(map(fmean, rewards)), fmean(map(fmean, broken))
        is_equal = [len(set(values)) == 1 for values in rewards]
        is_alike = [len(set(values)) == 1 for values in broken]
        lines.append(records.step(step, **{
            "reward": 2 * accuracy + 1.5 * (1 - form), "accuracy": accuracy,
            "accuracy_by_round": [0.7 * accuracy, 0.9 * accuracy, accuracy],
            "answers_kept": [share(chance, draw(chance, 0.9, 0.3), 20), share(chance, draw(chance, 0.9, 0.3), 20)],
            "groups_without_signal": fmean(map(min, is_equal, is_alike)),
            "groups_on_form_alone": fmean(equal > alike for equal, alike in zip(is_equal, is_alike, strict=True)),
            "broken_form": form,
            "cut_off": {"openings": share(chance, draw(chance, 0.05, 0.7), 8 * problems), "futures": form / 2},
            "reward_noise": {
                "between_openings": fmean(variance(values) for values in rewards),
                "sampling": fmean(fmean(variance(futures) / 4 for futures in group) for group in groups),
            },
        }))  # fmt: skip
    return lines


def variance(values: Iterable[float]) -> float:
    """As in `statistics`, which reckons in fractions and takes a hundred times as long."""
    numbers = list(values)
    mean = fmean(numbers)
    return sum((number - mean) ** 2 for number in numbers) / (len(numbers) - 1)


def _group(chance: random.Random, difficulty: float) -> list[list[int]]:
    values = [draw(chance, min(0.95, max(0.05, difficulty)), 0.5) for _ in range(8)]
    return [[chance.random() < value for _ in range(4)] for value in values]


@pytest.mark.parametrize(("recipe", "number", "problems"), [(GSM8K, 300, 1), (TINY, 60, 8)])
def test_of_100_runs_of_a_policy_that_does_not_change_hardly_any_gives_a_warning(
    recipe: Recipe, number: int, problems: int
) -> None:
    chance = random.Random(7)
    every = number // 12
    alarms = 0
    for _ in range(100):
        marks = [mark(step, sum(chance.random() < 0.6 for _ in range(100)), 100) for step in range(0, number, every)]
        alarms += bool(names(stationary(chance, number, problems), marks, recipe))
    assert alarms <= 3, "of all warnings together, 3 in 100 runs at most"


def test_noise_below_the_differences_is_hardly_ever_told_and_noise_alone_nearly_always() -> None:
    chance = random.Random(3)

    def noise(spread: bool) -> dict[str, float]:
        rate = draw(chance, 0.6, 0.4)
        values = _group(chance, rate) if spread else [[chance.random() < rate for _ in range(4)] for _ in range(8)]
        return {"between_openings": variance(map(fmean, values)), "sampling": fmean(variance(v) / 4 for v in values)}

    told = [
        sum(NOISE in names(steps(150, reward_noise=lambda _: noise(spread)), recipe=GSM8K) for _ in range(50))  # noqa: B023
        for spread in (True, False)
    ]
    assert told[0] == 0
    assert told[1] >= 45
