"""Whether a run can take its problems: their prompts are short enough, and there are enough of them."""

import logging
from collections.abc import Callable

from motif_lite.errors import DataError
from motif_lite.nouns import OnProgress, Problem

_log = logging.getLogger(__name__)

_BETWEEN_REPORTS = 1000


def drop_long(
    problems: list[Problem],
    num_tokens: Callable[[Problem], int],
    limit: int,
    *,
    source: str,
    limited_by: str = "rollout.max_prompt_tokens",
    remedy: str = "raise that limit",
    on_progress: OnProgress | None = None,
) -> list[Problem]:
    """Leave out the problems whose prompt has more tokens than the limit, and say how many.

    Args:
        limited_by: What the limit is.
        remedy: What to do where all are longer.
        on_progress: Told of problems done and in all.

    Raises:
        DataError: None is left.
    """
    kept = []
    for number, problem in enumerate(problems, start=1):
        if num_tokens(problem) <= limit:
            kept.append(problem)
        if on_progress is not None and number % _BETWEEN_REPORTS == 0:
            on_progress(number, len(problems))
    if not kept:
        raise DataError(f"{source}: every prompt is longer than {limited_by} = {limit} tokens; {remedy}")
    if len(kept) < len(problems):
        _log.warning(
            "%s: %d of %d problems left out, their prompts are longer than %s = %d",
            source, len(problems) - len(kept), len(problems), limited_by, limit,
        )  # fmt: skip
    return kept


def require_enough(problems: list[Problem], wanted: int, *, source: str) -> None:
    """Refuse fewer problems than one training step takes.

    Raises:
        DataError: There are fewer.
    """
    if len(problems) < wanted:
        raise DataError(
            f"{source}: {len(problems)} problems are fewer than training.problems_per_step = {wanted}; lower it, "
            f"or provide more"
        )
