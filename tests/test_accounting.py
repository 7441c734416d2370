"""Costs add up by phase and over everything, from what a run has written."""

from motif_lite.runs import accounting
from motif_lite.runs.costs import Cost
from motif_lite.runs.records import Evaluation
from tests import records

STEP = records.step(
    prompts={"openings": 8, "futures": 32}, tokens={"openings": 80, "futures": 640}, trained_tokens=80,
    seconds={"openings": 1.0, "futures": 2.0, "update": 4.0},
    peak_memory_bytes={"openings": 100, "futures": 300, "update": 200},
)  # fmt: skip
MARK = records.mark(prompts=15, generated_tokens=250, evaluation_seconds=0.5, peak_memory_bytes=50)
RESULT = records.measurement(prompts=30, generated_tokens=500, seconds=8.0, peak_memory_bytes=400)


def test_tokens_and_seconds_add_up_and_the_largest_peak_counts() -> None:
    larger = STEP.model_copy(update={"peak_memory_bytes": {"openings": 150, "futures": 250, "update": 200}})
    found = accounting.account([STEP, larger], [MARK], Evaluation(measurements=(RESULT, RESULT)))
    assert list(found) == ["openings", "futures", "update", "validation", "evaluation", "total"]
    assert found["openings"] == Cost(prompts=16, generated_tokens=160, seconds=2.0, peak_memory_bytes=150)
    assert found["update"] == Cost(trained_tokens=160, seconds=8.0, peak_memory_bytes=200)
    assert found["evaluation"].generated_tokens == 1000
    assert found["total"] == Cost(
        prompts=16 + 64 + 15 + 60, generated_tokens=160 + 1280 + 250 + 1000, trained_tokens=160,
        seconds=14.0 + 0.5 + 16.0, peak_memory_bytes=400,
    )  # fmt: skip


def test_nothing_has_cost_nothing() -> None:
    assert accounting.account([], [], Evaluation()) == {}


def test_a_run_of_an_earlier_version_counts_what_it_has() -> None:
    old = STEP.model_copy(update={"prompts": {}, "trained_tokens": None})
    found = accounting.account([old], [], Evaluation())
    assert found["total"].generated_tokens == 720
    assert found["total"].prompts == 0
