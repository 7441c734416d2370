"""Problems that are measured: they are not trained on, and benchmarks and marks have none in common."""

import logging
from collections.abc import Mapping, Sequence

from motif_lite.errors import DataError
from motif_lite.nouns import Problem

Measured = Mapping[str, Sequence[Problem]]
"""Problems that are measured, by the key of the recipe that names them."""

VALIDATION = "evaluation.validation"
"""The key of problems that may be taken from the training data, which then lacks them."""

_log = logging.getLogger(__name__)


def left_out(problems: list[Problem], held_out: Sequence[Problem], key: str, source: str) -> list[Problem]:
    """Leave out the questions that are measured, in whatever file they stand, their twins and what they are twins of.

    It is said where it was not asked for.

    Args:
        key: Of the recipe; names what is measured.
        source: Names the problems.

    Raises:
        DataError: Nothing is left to train on.
    """
    questions = asked(held_out)
    kept = [problem for problem in problems if not asked([problem]) & questions]
    if not kept:
        raise DataError(
            f"{source}: all of its problems are in {key}, and what is trained cannot be measured; lower num_problems "
            f"there, or take other data for one of the two"
        )
    if len(kept) < len(problems) and key != VALIDATION:
        _log.warning(
            "%s: %d of %d problems are in %s, too, and are left out of training",
            source, len(problems) - len(kept), len(problems), key,
        )  # fmt: skip
    return kept


def require_apart(held_out: Sequence[Problem], test: Sequence[Problem], *, benchmark: str) -> None:
    """Refuse problems that are measured along the way and at the end: the end would be no test any more.

    Raises:
        DataError: Some are.
    """
    shared = asked(held_out) & asked(test)
    if shared:
        raise DataError(
            f"{VALIDATION}: {len(shared)} of its problems are in the benchmark {benchmark}, too; take them "
            f"from other data, e.g. from the training problems"
        )


def asked(problems: Sequence[Problem]) -> set[str]:
    """All questions, however their words are spaced, and those that they were made from."""
    return {words(text) for problem in problems for text in (problem.question, problem.twin_of) if text}


def words(question: str) -> str:
    """A question without what is in its spacing."""
    return " ".join(question.split())
