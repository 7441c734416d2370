"""Gold answers, boxed answers, and whether they are the same: the one judge of training and evaluation.

Only the last boxed answer of a reply counts. A right number outside a box earns nothing, or a policy learns to
list numbers; and an earlier box does not help one that goes on to box something else.
"""

import re
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache

from motif_lite.errors import GradingError
from motif_lite.grading.judge import LOST, Judge, Judged, Pair
from motif_lite.grading.rule_golds import REASONING_GYM, VERIFIERS, is_rule, rule_of
from motif_lite.grading.rules import decide
from motif_lite.grading.rulings import Ruling

MAX_ANSWER_CHARACTERS = 1000
"""A longer boxed answer is wrong unread: the longest gold answer of MATH-500 has 53 characters."""

_NUM_KEPT = 10_000
"""Rulings that are kept: each of a step's replies is judged for its reward and for the metrics."""

_judge, _judge_by_rule = Judge(), Judge("gym")

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
    found = boxes(reply)
    return found[-1] if found else None


def boxes(reply: str) -> list[Boxed]:
    r"""All balanced ``\boxed{}`` of a reply that stand in no other, in order."""
    before = reply.partition("\\boxed")[0]
    if len(before) == len(reply):
        return []
    open_braces: list[tuple[int, int]] = []  # start of a box, or -1 for an ordinary brace, and of what it holds
    found: list[Boxed] = []
    for match in _BOX_OR_BRACE.finditer(reply, len(before.rstrip("\\"))):  # braces before a box do not matter
        sign = match[0]
        if sign == "{" or sign.startswith("\\boxed"):
            open_braces.append((match.start() if sign != "{" else -1, match.end()))
        elif sign == "}" and open_braces:
            start, content = open_braces.pop()
            if start >= 0:
                while found and found[-1].start > start:
                    found.pop()
                found.append(Boxed(reply[content : match.start()], start, match.end()))
    return found


def is_correct(gold: str, reply: str) -> bool:
    """Whether the last boxed answer of a whole reply is equivalent to the gold answer.

    Takes any text as reply, costs at most 1.5 s of processor time, and may be called from any thread. What cannot be
    told is not correct; `is_beyond_judging` and `is_lost` say so.

    Raises:
        GradingError: The judge's process cannot be started.
    """
    return bool(ruling(gold, reply).correct)


def is_beyond_judging(gold: str, reply: str) -> bool:
    """Whether the comparison behind `is_correct` reached its own limits; the ruling is kept, so this costs nothing."""
    found = ruling(gold, reply)
    return found.correct is None and found != LOST


def is_undone(gold: str, reply: str) -> bool:
    """Whether the last boxed answer equals the gold one and is wrong only as an operation is left to do in it."""
    return ruling(gold, reply).undone


def is_lost(gold: str, reply: str) -> bool:
    """Whether the comparison behind `is_correct` was ended by something else each time that it was made."""
    return ruling(gold, reply) == LOST


def ruling(gold: str, reply: str) -> Ruling:
    """The verdict on the last boxed answer of a whole reply, and the rule that decided."""
    boxed = last_boxed(reply)
    return Ruling(False, "no box, no credit") if boxed is None else ruling_on_answer(gold, boxed.text)


def ruling_on_answer(gold: str, answer: str) -> Ruling:
    """The verdict on an answer (LaTeX without the box): by rules, or by math-verify."""
    found = _settled((gold, answer))
    if isinstance(found, Ruling):
        return found
    [found] = _judged([found]).rulings
    return found


def equivalent(gold: str, answer: str) -> bool | None:
    """Whether two answers (LaTeX without the box) mean the same; None where that cannot be told."""
    return ruling_on_answer(gold, answer).correct


def grade(pairs: Iterable[tuple[str, str]], on_progress: Callable[[int, int], None] | None = None) -> int:
    """Judge many replies, several at a time, so that `is_correct` and its like need not wait for each.

    Replies whose verdict was lost before are judged again; until the next call their verdict stands.

    Args:
        pairs: Of gold answers and whole replies.

    Returns:
        How many comparisons had to be made again, because something else than their limits had ended them.

    Raises:
        GradingError: The judge's process cannot be started.
    """
    _known.forget_lost()
    boxed = ((gold, last_boxed(reply)) for gold, reply in pairs)
    found = [_settled((gold, box.text)) for gold, box in boxed if box is not None]
    unsettled = list(dict.fromkeys(each for each in found if not isinstance(each, Ruling)))
    return _judged(unsettled, on_progress).num_retries


def rulings(pairs: Iterable[tuple[str, str]]) -> list[tuple[Pair, Ruling]]:
    """What is known about replies after `grade`: pairs of gold and boxed answers, with their rulings."""
    boxed = {(gold, box.text) for gold, reply in pairs if (box := last_boxed(reply)) is not None}
    return [(pair, ruling) for pair in sorted(boxed) if (ruling := _known.get(pair)) is not None]


def learn(found: Iterable[tuple[Pair, Ruling]]) -> None:
    """Take over what another process has ruled."""
    _known.add(dict(found))


def forget() -> None:
    """Forget all rulings, as a new process would."""
    _known.clear()


def _settled(pair: Pair) -> Ruling | Pair:
    """The ruling on a pair where it is known or needs no algebra; otherwise the pair to ask the judge about."""
    gold, answer = pair
    if not answer.strip():
        return Ruling(False, "the box is empty")
    if len(answer) > max(MAX_ANSWER_CHARACTERS, 2 * len(gold)):
        return Ruling(False, f"longer than {MAX_ANSWER_CHARACTERS} characters")
    inner = last_boxed(answer)
    if inner is not None:  # a box in a box is the inner one if it holds nothing else, and a list of guesses if it does
        is_alone = inner.text == answer.strip()[len("\\boxed{") : -1]
        return _settled((gold, inner.text)) if is_alone else Ruling(False, "a box among other things in a box")
    if known := _known.get(pair):
        return known
    decided = _by_rule(gold, answer) if is_rule(gold) else decide(gold, answer)
    if decided.correct is None:
        return pair
    _known.add({pair: decided})
    return decided


def _by_rule(gold: str, answer: str) -> Ruling:
    """The verdict where the gold answer is a rule; ``correct`` is None where its verifier runs in a process apart."""
    try:
        rule = rule_of(gold)
    except ValueError as error:
        return Ruling(False, f"the gold answer is no rule: {error}")
    assert rule is not None
    decided = VERIFIERS[rule.name].decide
    return Ruling(None, f"left to {rule.name}") if decided is None else decided(rule.facts, answer)


def _judged(pairs: list[Pair], on_progress: Callable[[int, int], None] | None = None) -> Judged:
    """Rulings on pairs, in their order, by the process that each needs."""
    rulings: dict[Pair, Ruling] = {}
    num_retries = 0
    for judge, by_rule in ((_judge, False), (_judge_by_rule, True)):
        mine = [pair for pair in pairs if is_rule(pair[0]) == by_rule]
        done = len(rulings)
        found = _judged_by(judge, mine, by_rule, on_progress and _within(on_progress, done, len(pairs)))
        rulings |= dict(zip(mine, found.rulings, strict=True))
        num_retries += found.num_retries
    _known.add(rulings)
    return Judged([rulings[pair] for pair in pairs], num_retries)


def _judged_by(
    judge: Judge, pairs: list[Pair], by_rule: bool, on_progress: Callable[[int, int], None] | None
) -> Judged:
    try:
        return judge.judge(pairs, on_progress)
    except OSError as error:
        library, file = ("math-verify", "requirements-cpu.txt (or requirements.txt)")
        if by_rule:
            library, file = REASONING_GYM, "requirements-gym.txt"
        raise GradingError(
            f"the grader cannot be started ({error or 'no answer'}); is {library} installed completely? "
            f"Run pip install -r {file}"
        ) from None


def _within(on_progress: Callable[[int, int], None], done: int, total: int) -> Callable[[int, int], None]:
    """Progress of a part that begins when so many are done."""
    return lambda number, _: on_progress(done + number, total)


class _Rulings:
    """The newest rulings by pair; safe to share by threads."""

    def __init__(self) -> None:
        self._by_pair: dict[Pair, Ruling] = {}
        self._lock = threading.Lock()

    def get(self, pair: Pair) -> Ruling | None:
        return self._by_pair.get(pair)

    def add(self, rulings: dict[Pair, Ruling]) -> None:
        with self._lock:
            self._by_pair |= rulings
            while len(self._by_pair) > _NUM_KEPT:
                del self._by_pair[next(iter(self._by_pair))]

    def forget_lost(self) -> None:
        """Have those judged again whose verdict was lost: the next time it may be found."""
        with self._lock:
            self._by_pair = {pair: ruling for pair, ruling in self._by_pair.items() if ruling != LOST}

    def clear(self) -> None:
        with self._lock:
            self._by_pair = {}


_known = _Rulings()
