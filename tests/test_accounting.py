"""Costs add up by phase and over everything, from what a run has written."""

from typing import Any

from motif_lite.runs import accounting

STEP: dict[str, Any] = {
    "prompts": {"openings": 8, "futures": 32}, "tokens": {"openings": 80, "futures": 640}, "trained_tokens": 80,
    "seconds": {"openings": 1.0, "futures": 2.0, "update": 4.0},
    "peak_memory_bytes": {"openings": 100, "futures": 300, "update": 200},
}  # fmt: skip
RESULT = {"prompts": 30, "generated_tokens": 500, "seconds": 8.0, "peak_memory_bytes": 400}
MARK = {"prompts": 15, "generated_tokens": 250, "evaluation_seconds": 0.5, "peak_memory_bytes": 50}
EVALUATION = {
    "benchmarks": {
        "math": {"before": {"multi_round": {"greedy": RESULT}}, "after": {"multi_round": {"greedy": RESULT}}}
    }
}


def test_tokens_and_seconds_add_up_and_the_largest_peak_counts() -> None:
    larger = STEP | {"peak_memory_bytes": {"openings": 150, "futures": 250, "update": 200}}
    found = accounting.account([STEP, larger], [MARK], EVALUATION)
    assert list(found) == ["openings", "futures", "update", "validation", "evaluation", "total"]
    assert found["openings"] == {
        "prompts": 16, "generated_tokens": 160, "trained_tokens": 0, "seconds": 2.0, "peak_memory_bytes": 150,
    }  # fmt: skip
    assert found["update"] == {
        "prompts": 0, "generated_tokens": 0, "trained_tokens": 160, "seconds": 8.0, "peak_memory_bytes": 200,
    }  # fmt: skip
    assert found["evaluation"]["generated_tokens"] == 1000
    assert found["total"] == {
        "prompts": 16 + 64 + 15 + 60, "generated_tokens": 160 + 1280 + 250 + 1000, "trained_tokens": 160,
        "seconds": 14.0 + 0.5 + 16.0, "peak_memory_bytes": 400,
    }  # fmt: skip


def test_nothing_has_cost_nothing() -> None:
    assert accounting.account([], [], {"benchmarks": {}}) == {}


def test_a_run_of_an_earlier_version_counts_what_it_has() -> None:
    old = {name: value for name, value in STEP.items() if name not in ("prompts", "trained_tokens")}
    found = accounting.account([old], [], {"benchmarks": {}})
    assert found["total"]["generated_tokens"] == 720
    assert found["total"]["prompts"] == 0
