"""A variant's votes: majorities over so many samples as cost one answer of the reference."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from motif_lite.evaluation.intervals import Outcomes
from motif_lite.evaluation.voting import majority_is_right
from motif_lite.runs.records import GradedReply, Measurement


@dataclass(frozen=True, slots=True)
class Votes:
    """What a variant's votes say.

    Attributes:
        size: Samples per vote.
        wanted: So many would have cost an answer of the reference; more than were drawn, where `size` is less.
        tokens: Of a vote, on average.
        outcomes: By problem, whether the majority is right.
    """

    size: int
    wanted: int
    tokens: float
    outcomes: Outcomes


def votes(own: Measurement, samples: Mapping[str, Sequence[GradedReply]], reference: Measurement) -> Votes:
    """The votes of samples.

    Args:
        own: What the samples were counted in.
        samples: Of each problem.
        reference: Tells what an answer may cost.
    """
    per_sample = own.generated_tokens / own.num_samples
    wanted = max(1, round(reference.generated_tokens / reference.num_samples / max(per_sample, 1e-9)))
    size = min(wanted, min(map(len, samples.values())))
    outcomes = {problem: [majority_is_right(those[:size])] for problem, those in samples.items()}
    return Votes(size, wanted, size * per_sample, outcomes)
