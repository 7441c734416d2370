"""What a warm start has done so far: the folder warm_start/ of a run.

solutions.jsonl    what the base wrote, graded      steps.jsonl      a line per supervised step
examples.jsonl     the rounds that are imitated     checkpoints/     while the steps are under way
sampling.json      counts of both, and their cost   adapter/         what they left: GRPO begins with it
"""

import os
from collections.abc import Iterable
from pathlib import Path

from pydantic import Field

from motif_lite.errors import RunError
from motif_lite.policies.protocol import ADAPTER_FILE
from motif_lite.runs import inputs, sealing
from motif_lite.runs.checkpoints import Checkpoints
from motif_lite.runs.costs import Cost
from motif_lite.runs.files import (
    append_records,
    as_line,
    each_record,
    each_sized_line,
    read_record,
    write_record,
    write_whole,
)
from motif_lite.runs.records import GradedReply, Versioned

FOLDER = "warm_start"

_REMEDY = "remove warm_start/sampling.json: solutions are then sampled again"

_EXAMPLES, _SOLUTIONS, _STEPS = "examples.jsonl", "solutions.jsonl", "steps.jsonl"


class Example(Versioned):
    """A round to imitate.

    Attributes:
        round: From 1.
        prompt: As the policy sees it in this round.
        reply: What it shall write then, without the end of its turn.
    """

    problem: str
    round: int
    prompt: str
    reply: str


class Sampled(Versioned):
    """All of sampling.json.

    Attributes:
        num_problems: That were asked.
        num_long: That could not be asked, as their plain prompts leave no room for a solution.
        num_solved: Of them, those with a right solution.
        num_cut: Of these, those with one that was cut into rounds.
        left_out: Right solutions that were not, by the reason.
        problems_left_out: How many problems these are of, which may have another that was cut.
        examples_by_round: Their number, from round 1 on.
        cost: What writing and grading the solutions took.
    """

    num_problems: int
    num_long: int = 0
    num_solved: int
    num_cut: int
    left_out: dict[str, int]
    problems_left_out: dict[str, int] = Field(default_factory=dict)
    examples_by_round: tuple[int, ...]
    cost: Cost


class SupervisedStep(Versioned):
    """A line of steps.jsonl.

    Attributes:
        loss: Mean over the tokens of its replies, in nats.
        trained_tokens: Of these replies.
    """

    step: int
    loss: float
    learning_rate: float
    trained_tokens: int
    seconds: float
    peak_memory_bytes: int


class WarmStart:
    """The folder of a run's warm start.

    Args:
        root: The run's folder.
    """

    def __init__(self, root: Path) -> None:
        self.folder, self.unfinished = root / FOLDER, root / "unfinished"
        self.adapter = self.folder / "adapter"
        self.solutions = self.folder / _SOLUTIONS
        self.checkpoints = Checkpoints(self.folder / "checkpoints", self.unfinished)

    def sampled(self) -> Sampled | None:
        """Counts and cost; None while solutions are being written.

        Raises:
            RunError: The file is damaged.
        """
        return read_record(self.folder / "sampling.json", Sampled, _REMEDY)

    def keep_examples(self, solutions: Iterable[GradedReply], examples: Iterable[Example], sampled: Sampled) -> None:
        """Keep all that was sampled; it is complete once sampling.json is there."""
        write_whole(self.solutions, map(as_line, solutions))
        write_whole(self.folder / _EXAMPLES, map(as_line, examples))
        write_record(self.folder / "sampling.json", sampled)

    def examples(self) -> list[Example]:
        """The rounds to imitate.

        Raises:
            RunError: A line is damaged or missing.
        """
        path, sampled = self.folder / _EXAMPLES, self.sampled()
        found = list(each_record(path, Example))
        if sampled is not None and len(found) != sum(sampled.examples_by_round):
            raise RunError(f"{path}: has {len(found)} of {sum(sampled.examples_by_round)} examples; {_REMEDY}")
        return found

    def steps(self) -> list[SupervisedStep]:
        """All supervised steps so far."""
        return list(each_record(self.folder / _STEPS, SupervisedStep))

    def append_step(self, step: SupervisedStep) -> None:
        """Add a line."""
        append_records(self.folder / _STEPS, [step])

    def keep_checkpoint(self, step: int) -> None:
        """Seal what the trainer has written for this step; the one before it goes."""
        sealing.flush(self.folder / _STEPS)
        self.checkpoints.keep(step, keep=1)

    def newest_checkpoint(self) -> tuple[Path | None, int]:
        """Where to go on, and the steps that are done; lines of later ones are dropped.

        Raises:
            RunError: There are checkpoints, and all of them are damaged.
        """
        folder, step = self.checkpoints.newest() or (None, 0)
        path = self.folder / _STEPS
        if path.exists():
            os.truncate(path, sum(size for line, size in each_sized_line(path) if line.get("step", 0) <= step))
        return folder, step

    def drop_checkpoints(self) -> None:
        """The adapter is there."""
        folder = self.folder / "checkpoints"
        if folder.exists():
            sealing.discard(folder, self.unfinished)


def cost(root: Path) -> Cost | None:
    """What the warm start of a run has taken so far; None where there is none."""
    files = WarmStart(root)
    sampled = files.sampled()
    if sampled is None:
        return None
    steps = files.steps()
    return sampled.cost + Cost(
        trained_tokens=sum(step.trained_tokens for step in steps),
        seconds=sum(step.seconds for step in steps),
        peak_memory_bytes=max((step.peak_memory_bytes for step in steps), default=0),
    )


def sum_of_adapter(root: Path) -> str | None:
    """That of the weights that a run's warm start left; None where there are none."""
    return inputs.of_file(WarmStart(root).adapter / ADAPTER_FILE)
