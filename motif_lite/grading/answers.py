"""Gold answers, boxed answers, and whether they are the same: the one judge of training and evaluation.

Only the last boxed answer of a reply counts. A right number outside a box earns nothing, or a policy learns to
list numbers; and an earlier box does not help one that goes on to box something else.
"""

import re
from dataclasses import dataclass
from functools import lru_cache

from motif_lite.errors import GradingError
from motif_lite.grading.rules import decide
from motif_lite.grading.server import EquivalenceServer

MAX_ANSWER_CHARACTERS = 1000
"""A longer boxed answer is wrong unread: the longest gold answer of MATH-500 has 53 characters."""

_server = EquivalenceServer()

_BOX_OR_BRACE = re.compile(r"\\boxed\s*\{|\\.|[{}]", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Boxed:
    r"""The content of a box and where it stands in the reply (start of ``\boxed``, index after the brace)."""

    text: str
    start: int
    end: int


@lru_cache(maxsize=64)  # a reply's reward asks several times
def last_boxed(reply: str) -> Boxed | None:
    r"""The last balanced ``\boxed{}`` of a reply, the outermost where boxes are nested.

    A box that is never closed is passed over. Linear in the length of the reply, whatever it holds.
    """
    before = reply.partition("\\boxed")[0]
    if len(before) == len(reply):
        return None
    open_braces: list[tuple[int, int]] = []  # start of a box, or -1 for an ordinary brace, and of what it holds
    last: tuple[int, int, int] | None = None
    for match in _BOX_OR_BRACE.finditer(reply, len(before.rstrip("\\"))):  # braces before a box do not matter
        sign = match[0]
        if sign == "{" or sign.startswith("\\boxed"):
            open_braces.append((match.start() if sign != "{" else -1, match.end()))
        elif sign == "}" and open_braces:
            start, content = open_braces.pop()
            if start >= 0:
                last = start, content, match.start()
    return Boxed(reply[last[1] : last[2]], last[0], last[2] + 1) if last else None


def is_correct(gold: str, reply: str) -> bool:
    """Whether the last boxed answer of a whole reply is equivalent to the gold answer.

    Takes any text as reply, costs at most 2 s, and may be called from any thread. What cannot be told within
    deadline and memory limit is not correct; `is_beyond_judging` says so.
    """
    return bool(_verdict(gold, reply))


def is_beyond_judging(gold: str, reply: str) -> bool:
    """Whether the comparison behind `is_correct` could not be finished; the verdict is kept, so this costs nothing."""
    return _verdict(gold, reply) is None


def _verdict(gold: str, reply: str) -> bool | None:
    boxed = last_boxed(reply)
    return boxed is not None and equivalent(gold, boxed.text)


def equivalent(gold: str, answer: str) -> bool | None:
    """Whether two answers (LaTeX without the box) mean the same: by their text, as numbers, or by math-verify.

    None where math-verify overran its deadline or memory limit, or crashed.
    """
    if not answer.strip() or len(answer) > max(MAX_ANSWER_CHARACTERS, 2 * len(gold)):
        return False
    inner = last_boxed(answer)
    if inner is not None:  # a box in a box is the inner one if it holds nothing else, and a list of guesses if it does
        return inner.text == answer.strip()[len("\\boxed{") : -1] and equivalent(gold, inner.text)
    return _equivalent(gold, answer)


@lru_cache(maxsize=10_000)  # each of a step's replies is judged for its reward and for the metrics
def _equivalent(gold: str, answer: str) -> bool | None:
    ruling = decide(gold, answer)
    if ruling.correct is not None:
        return ruling.correct
    try:
        return _server.equivalent(gold, answer)
    except (OSError, TimeoutError) as error:
        raise GradingError(
            f"the grader cannot be started ({error or 'no answer'}); is math-verify installed completely? "
            f"Run pip install -r requirements-cpu.txt (or requirements.txt)"
        ) from None
