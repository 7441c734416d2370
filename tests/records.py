"""Records for tests: whole ones, of which a test names what it is about."""

from collections.abc import Iterable
from typing import Any

from motif_lite.runs.records import Comparison, Evaluation, GradedReply, Mark, Measurement, StepMetrics
from motif_lite.runs.rollout_lines import RolloutLine
from tests.faults.soak import MEASURED


def step(number: int = 1, **changes: Any) -> StepMetrics:
    """A training step in which openings took 1 s and 10 tokens."""
    figures: dict[str, Any] = {
        "reward": 1.0, "rewards": {}, "accuracy": 0.5, "accuracy_by_round": (0.1, 0.3, 0.5),
        "groups_without_signal": 0.0, "broken_form": 0.0, "cut_off": {"openings": 0.0, "futures": 0.0},
        "mean_tokens": {}, "tokens": {"openings": 10}, "seconds": {"openings": 1.0}, "tokens_per_second": {},
        "share_done": 1.0,
    }  # fmt: skip
    return StepMetrics(step=number, **(figures | changes))


def repeatable(steps: Iterable[StepMetrics]) -> list[dict[str, Any]]:
    """What a resumed run must have in common with one that was not stopped: the plan's memory, too, is measured."""
    return [line.model_dump(exclude=MEASURED) for line in steps]


def mark(step: int = 0, accuracy: float = 0.5, **changes: Any) -> Mark:
    """A mark on 50 problems, measured in 1.5 s."""
    return Mark.model_validate({
        "step": step, "tokens": 1000 * step, "seconds": 4.0 * step, "num_problems": 50, "num_samples": 50,
        "num_correct": round(50 * accuracy), "accuracy": accuracy, "interval": (accuracy - 0.1, accuracy + 0.1),
        "prompts": 150, "generated_tokens": 5000, "evaluation_seconds": 1.5, "peak_memory_bytes": 2**31,
    } | changes)  # fmt: skip


def measurement(accuracy: float = 0.5, **changes: Any) -> Measurement:
    """Of chain_sum after training, multi_round, greedy, on 400 problems."""
    return Measurement.model_validate({
        "benchmark": "chain_sum", "when": "after", "strategy": "multi_round", "decoding": "greedy",
        "num_problems": 400, "num_samples": 400, "num_correct": round(400 * accuracy), "accuracy": accuracy,
        "interval": (accuracy - 0.05, accuracy + 0.05), "generated_tokens": 12345, "seconds": 6.7,
    } | changes)  # fmt: skip


def evaluation() -> Evaluation:
    """Greedy decoding measured before and after, sampled replies before alone."""
    return Evaluation(
        measurements=(
            measurement(0.1, when="before"),
            measurement(0.3, when="before", decoding="sampled"),
            measurement(0.6),
        ),
        comparisons=(
            Comparison(
                benchmark="chain_sum", strategy="multi_round", decoding="greedy",
                difference=0.5, interval=(0.4, 0.6), p_value=0.001, num_problems=400,
            ),
        ),
    )  # fmt: skip


def rollout(step: int = 1, **changes: Any) -> RolloutLine:
    """An opening without futures."""
    turn = {"prompt": "prompt", "reply": "reply", "tokens": 1, "finish": "stop"}
    line = {"problem": "test/1", "question": "?", "gold": "2", "opening": turn, "rewards": {}, "futures": ()}
    return RolloutLine.model_validate({"step": step} | line | changes)


def graded(problem: str = "1", correct: bool = True, **changes: Any) -> GradedReply:
    """A graded reply of one round."""
    line = {"question": "a1=", "gold": "1", "tokens": 3, "replies": ("reply",), "finish": ("stop",)}
    return GradedReply.model_validate({"problem": problem, "correct": correct} | line | changes)
