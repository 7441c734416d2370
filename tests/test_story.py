"""What happened in a run, in sentences that say no more than the figures show."""

import random
from pathlib import Path

import pytest

from motif_lite.jobs import checking
from motif_lite.monitor.finding import Finding
from motif_lite.recipe.keys import changed
from motif_lite.runs.records import Evaluation, StepMetrics
from motif_lite.views.story import Kept, sentences
from tests import records

RECIPE = checking.check(Path(__file__).parents[1] / "recipes" / "tiny_cpu.toml", [])


def steps(number: int, gain: float) -> list[StepMetrics]:
    draw = random.Random(number)
    lines = []
    for step in range(1, number + 1):
        reward, accuracy = 1 + gain * step / number + draw.uniform(-0.1, 0.1), draw.uniform(0.4, 0.6)
        lines.append(records.step(step, reward=reward, accuracy=accuracy, seconds={"openings": 60.0}))
    return lines


def told(metrics: list[StepMetrics], *warnings: Finding, evaluation: Evaluation | None = None) -> str:
    return " ".join(sentences(RECIPE, metrics, [], evaluation or Evaluation(), warnings, Kept(None, is_trained=True)))


def test_what_rose_for_sure_is_told_apart_from_what_did_not_change() -> None:
    text = told(steps(100, gain=1.0))
    assert "100 steps of training generated 1,000 tokens in 1:40:00." in text
    assert "The reward rose from 1." in text
    assert "(steps 1 to 20) to" in text
    assert "(steps 81 to 100)" in text
    assert "no change was found in the accuracy of training answers, " in text
    assert text.endswith("There was no warning.")
    assert "The reward" not in told(steps(100, gain=0.0))


def test_where_the_problems_change_a_change_in_accuracy_is_not_said_to_be_the_policys() -> None:
    recipe = changed(RECIPE, {"data.skip": {}})
    text = " ".join(sentences(recipe, steps(100, 1.0), [], Evaluation(), (), Kept(None, is_trained=True)))
    assert "With data.skip the problems of the last steps are easier or harder ones" in text
    assert "judge by held-out accuracy" not in told(steps(100, gain=1.0))


def test_a_short_run_is_not_judged() -> None:
    assert "Fewer than 10 steps are too few" in told(steps(9, gain=5.0))
    assert told([]) == ""


def test_a_gain_whose_interval_holds_zero_is_none() -> None:
    found = records.evaluation()
    assert "training gained accuracy: +50.0 [+40.0, +60.0] points." in told([], evaluation=found)
    for interval, words in (((-0.1, 0.1), "no gain and no loss has been shown"), ((-0.3, -0.1), "training lost")):
        changed = found.comparisons[0].model_copy(update={"difference": sum(interval) / 2, "interval": interval})
        assert words in told([], evaluation=found.model_copy(update={"comparisons": (changed,)}))


@pytest.mark.parametrize(("sign", "verb"), [(1, "gained"), (-1, "lost")])
def test_a_gain_that_the_correction_for_all_of_them_takes_back_is_a_hint(sign: int, verb: str) -> None:
    one = records.evaluation().comparisons[0]
    differences = (sign * 0.065, 0.2, 0.0, 0.0, 0.0)
    p_values = zip((0.0294, 0.001, 1.0, 1.0, 1.0), (0.1176, 0.005, 1.0, 1.0, 1.0), strict=True)
    gains = tuple(
        one.model_copy(update={
            "benchmark": f"b{number}", "difference": difference, "interval": (difference - 0.055, difference + 0.055),
            "p_value": p_value, "p_value_holm": corrected,
        })
        for number, (difference, (p_value, corrected)) in enumerate(zip(differences, p_values, strict=True))
    )  # fmt: skip
    told_ = sentences(RECIPE, [], [], Evaluation(comparisons=gains), [], Kept(None, is_trained=True))
    shown = "+6.5 [+1.0, +12.0]" if sign > 0 else "-6.5 [-12.0, -1.0]"
    assert told_[0] == (
        f"On b0 (multi_round, greedy, 400 problems) training may have {verb} accuracy: {shown} points, but of 5 gains "
        f"one may look so by chance (p = 0.12 after Holm's correction): a hint, no proof."
    )
    assert "training gained accuracy: +20.0 [+14.5, +25.5] points." in told_[1]
    assert "no gain and no loss has been shown" in told_[2]
    alone = told([], evaluation=Evaluation(comparisons=gains[:1]))
    assert f"training {verb} accuracy" in alone, "with one gain there is nothing to correct for"


def test_warnings_and_skipped_updates_are_counted() -> None:
    lines = [line.model_copy(update={"update_skipped": line.step < 3}) for line in steps(20, 0.0)]
    text = told(lines, Finding("accuracy falls", 12, "figures", "remedy"))
    assert "2 updates were skipped" in text
    assert "Warnings, with remedies below: accuracy falls (step 12)." in text


def test_marks_say_which_adapter_to_use() -> None:
    marks = [records.mark(0, 0.25, outcomes="1000"), records.mark(9, 0.75, outcomes="1110")]
    text = " ".join(sentences(RECIPE, steps(20, 0.0), marks, Evaluation(), [], Kept(9, is_trained=True)))
    assert "First held out, step 0: 25.0 %" in text
    assert "Held out, the last mark is the best one (75.0 %): use adapter/." in text
    text = " ".join(sentences(RECIPE, steps(20, 0.0), marks, Evaluation(), [], Kept(9, is_trained=False)))
    assert "Held out, the best mark so far is that of step 9 (75.0 %), its adapter is in adapter_best/." in text
