"""What a run writes and reads again, as frozen records; every file that holds some names the version of its format.

    StepMetrics     a line of metrics.jsonl        Evaluation      evaluation.json: measurements and comparisons
    Mark            a line of validation.jsonl     PartsHeader     first line of an unfinished measurement, and
    GradedReply     a line of evaluations/*.jsonl  MeasuredPart    its other lines (evaluations/*.parts)

Those of rollouts.jsonl are in `motif_lite.runs.rollout_lines`.

What is None is left out of the files. Files of version 1 name no version; `motif_lite.runs.versions` brings them up to
date as they are read.
"""

from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, JsonValue

from motif_lite.nouns import final_text

VERSION: Literal[2] = 2
"""Of all these files."""

Finish = Literal["stop", "length"]

When = Literal["before", "after"]
"""Of training."""

Interval = tuple[float, float]


class Record(BaseModel):
    """Something that is written and read again."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)  # JSON has no name for these numbers


class Versioned(Record):
    """A whole file, or a line of one."""

    version: Literal[2] = VERSION


class RewardNoise(Record):
    """Two variances of ``future_accuracy``, means over groups."""

    between_openings: float
    sampling: float


class StepMetrics(Versioned):
    """A training step; `motif_lite.training.step_metrics` says what the figures mean.

    Figures by phase have the keys ``openings``, ``futures`` and, where they take part, ``grading`` and ``update``.
    What has a default was not measured in that step, or not yet by the version that wrote it.

    Attributes:
        reward: Mean of the weighted sum of rewards.
        rewards: Means by name.
        rewards_by_round: By name, where more than openings is trained; None for a round that the step trained nowhere.
        level: Of the step's problems, from 0; None without a curriculum.
        loss: None, as is grad_norm, where the update was skipped.
        share_done: Of the run's budget, from 0 to 1; None in the oldest runs.
        visits: By problem, whether its group had signal, None where it was left out; where the recipe has data.skip.
    """

    step: int
    reward: float
    rewards: dict[str, float]
    accuracy: float
    accuracy_by_round: tuple[float, ...]
    answers_kept: tuple[float | None, ...] = ()
    groups_without_signal: float
    undone_answers: int = 0
    groups_on_form_alone: float | None = None
    grader_failures: int = 0
    grader_losses: int = 0
    grader_retries: int = 0
    broken_form: float
    cut_off: dict[str, float]
    progress_cut: int = 0
    futures_per_opening: float | None = None
    distinct_progress: float | None = None
    reward_noise: RewardNoise | None = None
    mean_tokens: dict[str, float]
    prompts: dict[str, int] = {}
    tokens: dict[str, int]
    trained_tokens: int | None = None
    groups_refilled: int = 0
    unused_tokens: int = 0
    visits: dict[str, bool | None] | None = None
    seconds: dict[str, float]
    tokens_per_second: dict[str, float]
    peak_memory_bytes: dict[str, int] = {}
    planned_memory_bytes: dict[str, int] = {}
    rewards_by_round: dict[str, tuple[float | None, ...]] | None = None
    round_correct: tuple[float | None, ...] | None = None
    loss: float | None = None
    grad_norm: float | None = None
    learning_rate: float | None = None
    entropy: float | None = None
    sampling_mismatch: float | None = None
    importance_weight: float | None = None
    importance_cut: float | None = None
    clip_ratio: float | None = None
    update_skipped: bool = False
    level: int | None = None
    share_done: float | None = None


class Accuracy(Record):
    """Graded replies, counted.

    Attributes:
        num_samples: Of all problems together.
        interval: Of the accuracy, with the recipe's confidence.
        num_undone: Wrong only because an operation is left to do; None where it was not counted.
        prompts: Replies, over all rounds.
    """

    num_problems: int
    num_samples: int
    num_correct: int
    num_undone: int | None = None
    accuracy: float
    interval: Interval
    prompts: int = 0
    generated_tokens: int


class _AlongTheWay(Versioned):
    step: int
    tokens: int
    seconds: float


class Mark(Accuracy, _AlongTheWay):
    """A measurement on held-out problems along the way.

    Attributes:
        step: Steps that were done, having taken so many generated tokens and so many seconds.
        evaluation_seconds: What the mark took.
        outcomes: A character for each problem, in the order of the run: 1 is right, 0 wrong; None where an early
            version measured.
    """

    evaluation_seconds: float
    peak_memory_bytes: int = 0
    outcomes: str | None = None


class Settings(Record):
    """What a measurement depends on besides the policy; only measurements with equal ones are compared.

    Attributes:
        max_tokens: Of openings and of futures, as are the texts that stop them.
        num_samples: None for greedy decoding, as are temperature and top_p.
        problems: The sum of those that were measured.
        prompts: Keys of the recipe's ``rollout`` that prompts are made by; None where an early version measured.
    """

    source: dict[str, JsonValue]
    max_tokens: tuple[int, int]
    stop: tuple[tuple[str, ...], tuple[str, ...]]
    confidence: float
    num_samples: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    problems: str | None = None
    prompts: dict[str, JsonValue] | None = None


class Subject(NamedTuple):
    """What is measured before and after training."""

    benchmark: str
    strategy: str
    decoding: str


class _OfSubject(Record):
    benchmark: str
    strategy: str
    decoding: str

    @property
    def subject(self) -> Subject:
        """What was measured, whenever that was."""
        return Subject(self.benchmark, self.strategy, self.decoding)


class _Measured(_OfSubject):
    when: When


class Measurement(Accuracy, _Measured):
    """One entry of evaluation.json.

    Attributes:
        when: Before or after training.
        settings: None where an early version measured.
        policy: The sum of what was measured: of the model's files before training, of the adapter after it.
    """

    seconds: float
    peak_memory_bytes: int = 0
    settings: Settings | None = None
    policy: str | None = None


class Comparison(_OfSubject):
    """After less before, paired by problem.

    Attributes:
        p_value_holm: Corrected for all comparisons of the run; None where an early version compared.
    """

    difference: float
    interval: Interval
    p_value: float
    p_value_holm: float | None = None
    num_problems: int


class Evaluation(Versioned):
    """All of evaluation.json, in the order in which it was measured."""

    measurements: tuple[Measurement, ...] = ()
    comparisons: tuple[Comparison, ...] = ()

    def find(self, subject: Subject, when: When) -> Measurement | None:
        """A measurement; None if it was not made."""
        return next((each for each in self.measurements if (each.subject, each.when) == (subject, when)), None)

    def gain(self, subject: Subject) -> Comparison | None:
        """What training has gained; None if it was not measured both times in the same way."""
        return next((each for each in self.comparisons if each.subject == subject), None)

    def subjects(self) -> list[Subject]:
        """All that was measured, before or after."""
        return list(dict.fromkeys(each.subject for each in self.measurements))


class GradedReply(Versioned):
    """A trajectory of a measurement: one sample of one problem.

    Attributes:
        tokens: Generated, over all rounds.
        undone: Wrong only because an operation is left to do; None where it was not counted.
        replies: By round, as is why each has ended.
        is_one_text: The replies are chunks of one text, which was graded as a whole.
    """

    problem: str
    question: str
    gold: str
    correct: bool
    undone: bool | None = None
    tokens: int
    replies: tuple[str, ...]
    finish: tuple[Finish, ...]
    is_one_text: bool = False

    @property
    def final(self) -> str:
        """The text that was graded."""
        return final_text(self.replies, is_one_text=self.is_one_text)


class PartsHeader(Versioned):
    """What the parts that follow were measured with."""

    settings: Settings
    width: int
    policy: str | None = None


class MeasuredPart(Versioned):
    """Some graded replies of a measurement that is not complete yet, with what they took."""

    seconds: float
    peak_memory_bytes: int
    graded: tuple[GradedReply, ...]
