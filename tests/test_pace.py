"""How long a step and a run will still take."""

import random

import pytest

from motif_lite.monitor.forecast import Ahead, Forecast
from motif_lite.monitor.pace import Speed, StepClock, left_of_step
from tests import records

STEP = {"openings": 10.0, "futures": 60.0, "update": 30.0}


class Clock:
    """Stands still until it is told to go on."""

    now = 100.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("time.monotonic", lambda: clock.now)
    return clock


@pytest.mark.parametrize(
    ("so_far", "left"),
    [
        ({"openings": 4.0}, 96.0),
        ({"openings": 15.0}, 90.0),  # longer than usual: it may end at any moment
        ({"openings": 15.0, "futures": 20.0}, 70.0),
        ({"openings": 2.0, "futures": 20.0, "update": 29.0}, 1.0),
        ({"openings": 2.0, "futures": 20.0, "update": 31.0}, 0.0),
    ],
)
def test_what_is_left_of_a_step_is_what_its_phases_usually_take(so_far: dict[str, float], left: float) -> None:
    slow_start = {phase: 10 * seconds for phase, seconds in STEP.items()}
    assert left_of_step([slow_start, STEP, STEP], so_far) == pytest.approx(left)


def test_before_the_first_step_nothing_is_known() -> None:
    assert left_of_step([], {"openings": 4.0}) is None


def test_what_is_left_of_a_run_counts_the_step_under_way(clock: Clock) -> None:
    watched = StepClock()
    watched.begin("openings")
    assert watched.left_of_step() is None
    watched.finish(STEP)
    assert watched.left_of_step() is None
    assert watched.left_of_run(3) == pytest.approx(300)
    watched.begin("openings")
    clock.now += 12
    watched.begin("futures")
    clock.now += 20
    watched.begin("futures")  # its next round
    clock.now += 10
    assert watched.left_of_step() == pytest.approx(60)
    assert watched.left_of_run(3) == pytest.approx(260)


def test_a_speed_is_that_of_the_last_moments_and_of_one_call(clock: Clock) -> None:
    speed = Speed()
    for done in range(0, 3001, 100):
        speed.saw(done)
        clock.now += 1
    assert speed.tokens_per_second == pytest.approx(100)
    for done in range(0, 1501, 50):
        speed.saw(done)
        clock.now += 1
    assert speed.tokens_per_second == pytest.approx(50)


def test_a_speed_without_a_second_of_tokens_is_not_known(clock: Clock) -> None:
    speed = Speed()
    assert speed.tokens_per_second is None
    speed.saw(10)
    assert speed.tokens_per_second is None


def test_in_the_first_step_the_plan_says_what_is_left(clock: Clock) -> None:
    watched = StepClock()
    watched.plan(STEP)
    assert watched.left_of_step() is None, "no step is under way"
    watched.begin("openings")
    clock.now += 4
    assert watched.left_of_step() == pytest.approx(96)
    assert watched.planned_step == pytest.approx(100)
    watched.finish({phase: 2 * seconds for phase, seconds in STEP.items()})
    assert watched.planned_step is None
    watched.begin("openings")
    assert watched.left_of_step() == pytest.approx(200), "what was measured counts"


def test_the_time_left_of_a_whole_run_is_within_a_fifth_after_ten_steps(clock: Clock) -> None:
    """A run in which every fifth step is slow, steps grow, files are written in between, and marks take long."""
    draw, num_steps, num_marks = random.Random(4), 60, 6
    forecast, steps = Forecast(Ahead(num_marks, before_seconds=900.0, num_prompts=1200)), StepClock()
    forecast.evaluating()
    clock.now += 120
    forecast.mark(records.mark(0, evaluation_seconds=120.0))
    told = list[tuple[float, float]]()
    for number in range(1, num_steps + 1):
        factor = draw.uniform(0.8, 1.2) * (1.5 if number % 5 == 0 else 1.0) * (1 + number / 300)
        seconds = {phase: usual * factor for phase, usual in STEP.items()}
        clock.now += sum(seconds.values())
        steps.finish(seconds)
        forecast.step(records.step(number, seconds=seconds, share_done=number / num_steps))
        steps_left = num_steps - number
        told.append((clock.now, steps.left_of_run(steps_left) + forecast.left(steps_left)))
        if number % (num_steps // num_marks) == 0:
            forecast.evaluating()
            clock.now += 120 + number
            forecast.mark(records.mark(number, evaluation_seconds=120.0 + number))
        clock.now += 8  # a checkpoint, rollouts, a logger
    end = clock.now + 900 * 180 / 120
    errors = [(left - (end - now)) / (end - now) for now, left in told[9:]]
    assert max(map(abs, errors)) < 0.2, errors


def test_the_evaluation_at_the_end_is_told_by_what_there_is(clock: Clock) -> None:
    step = records.step(1, seconds={"openings": 2.0, "futures": 8.0}, prompts={"openings": 20, "futures": 80})
    none, sampled = Forecast(Ahead()), Forecast(Ahead(num_prompts=300))
    marked = Forecast(Ahead(num_marks=2, num_prompts=300, share_done=0.5))
    marked.mark(records.mark(1, evaluation_seconds=15.0))  # 150 prompts
    for forecast in (none, sampled, marked):
        forecast.step(step)
    assert none.left(0) == 0.0
    assert sampled.left(0) == pytest.approx(300 * 10 / 100)
    assert marked.left(0) == pytest.approx(15.0 + 30.0), "the last mark, and twice as many prompts"
    marked.evaluating()
    clock.now += 5
    assert marked.left(0) == pytest.approx(40.0)
