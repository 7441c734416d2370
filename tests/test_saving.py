"""When a finished step is saved."""

import pytest

from motif_lite.training.saving import SavingClock


class Run:
    """Steps and saves on a clock of its own."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 50.0
        monkeypatch.setattr("motif_lite.training.saving.time.monotonic", lambda: self.now)
        self.clock = SavingClock()
        self.saved: list[bool] = []
        self.spent_saving = 0.0

    def step(self, seconds: float, cost: float) -> None:
        self.now += seconds
        self.saved.append(self.clock.is_due())
        if self.saved[-1]:
            self.clock.begin()
            self.now += cost
            self.clock.end()
            self.spent_saving += cost


def test_a_step_that_takes_long_is_saved_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(monkeypatch)
    for _ in range(20):
        run.step(seconds=60, cost=1)
    assert all(run.saved)


@pytest.mark.parametrize("seconds", [0.3, 1.0, 7.0, 49.0, 51.0])
def test_saving_takes_two_percent_of_the_time_and_little_work_is_at_risk(
    monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    run = Run(monkeypatch)
    for _ in range(int(5000 / seconds)):
        run.step(seconds, cost=1)
    assert run.saved[0], "what a checkpoint costs is known after the first step"
    assert run.spent_saving <= 0.02 * (run.now - 50) + 1
    unsaved = max(len(steps) for steps in "".join("S" if saved else "." for saved in run.saved).split("S"))
    assert unsaved * seconds < 50
