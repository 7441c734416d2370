"""What the page is told: a short entry per group for its list, and a group's whole text when it is opened.

Both are compact JSON in ASCII, because replies may hold lone surrogates, which UTF-8 has no bytes for.
"""

import json
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from statistics import fmean

from motif_lite.credits.assignment import differ
from motif_lite.recipe.schema import Recipe
from motif_lite.rollout.reply_format import has_soft_format
from motif_lite.rollout.totals import have_signal, total_reward
from motif_lite.runs.rollout_lines import RolloutLine, RolloutTurn
from motif_lite.runs.rollouts import Group

_EXCERPT = 200
"""Characters of a question that the list knows."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A group in the list; explorer.js reads its attributes by their order.

    Attributes:
        accuracy: Mean over its openings, None where none was measured.
        reward: Mean of the weighted sum.
        spread: The highest less the lowest sum.
        has_signal: Whether an advantage of the group differs from 0.
        num_broken: Openings without the tags in their order.
        num_cut: Replies of any round that reached the token limit.
    """

    step: int
    problem: str
    question: str
    accuracy: float | None
    reward: float
    spread: float
    has_signal: bool
    num_broken: int
    num_cut: int
    num_openings: int


def entry(recipe: Recipe, group: Group) -> Entry:
    """The entry of a group in the list."""
    lines, sums = group.lines, totals(recipe, group.lines)
    accuracies = [found for line in lines if (found := _accuracy(line)) is not None]
    return Entry(
        step=lines[0].step,
        problem=lines[0].problem,
        question=lines[0].question[:_EXCERPT],
        accuracy=round(fmean(accuracies), 4) if accuracies else None,
        reward=round(fmean(sums), 4),
        spread=round(max(sums) - min(sums), 4),
        has_signal=_has_signal(recipe, lines),
        num_broken=sum(not has_soft_format(line.opening.reply) for line in lines),
        num_cut=sum(turn.finish == "length" for line in lines for turn in line.turns()),
        num_openings=len(lines),
    )


def totals(recipe: Recipe, lines: Sequence[RolloutLine]) -> list[float]:
    """The weighted sums of the openings' rewards; a reward that the recipe no longer names counts nothing."""
    return [
        total_reward(recipe, {name: value for name, value in line.rewards.items() if name in recipe.rewards})
        for line in lines
    ]


def entry_json(found: Entry) -> str:
    """An entry as an array."""
    return json.dumps(astuple(found), separators=(",", ":"))


def group_json(recipe: Recipe, group: Group) -> str:
    """A group with all its text; prompts that several rounds share are written once."""
    first, sums = group.lines[0], totals(recipe, group.lines)
    prompts: dict[str, int] = {}
    openings = [
        {
            "turn": _turn(line.opening, prompts),
            "rewards": line.rewards,
            "total": total,
            "above": total - fmean(sums),
            "accuracy": _accuracy(line),
            "interval": line.interval,
            "used": line.futures_used,
            "futures": [
                {"correct": future.correct, "rounds": [_turn(turn, prompts) for turn in future.rounds]}
                for future in line.futures
            ],
        }
        for line, total in zip(group.lines, sums, strict=True)
    ]
    head = {"step": first.step, "problem": first.problem, "question": first.question, "gold": first.gold}
    return json.dumps(head | {"openings": openings, "prompts": list(prompts)}, separators=(",", ":"))


def _turn(turn: RolloutTurn, prompts: dict[str, int]) -> dict[str, object]:
    return {
        "prompt": prompts.setdefault(turn.prompt, len(prompts)),
        "reply": turn.reply,
        "tokens": turn.tokens,
        "cut": turn.finish == "length",
        "rewards": turn.rewards,
        "advantage": turn.advantage,
    }


def _accuracy(line: RolloutLine) -> float | None:
    if line.accuracy is not None:
        return line.accuracy
    return fmean(future.correct for future in line.futures) if line.futures else None


def _has_signal(recipe: Recipe, lines: Sequence[RolloutLine]) -> bool:
    advantages = [turn.advantage for line in lines for turn in line.turns() if turn.advantage is not None]
    if advantages:
        return any(advantages)
    names = [name for name in lines[0].rewards if name in recipe.rewards]
    rewards = {name: [line.rewards[name] for line in lines] for name in names}
    if len(lines) == recipe.rollout.num_openings and names:
        return have_signal(recipe, rewards, [line.opening.finish for line in lines])[0]
    return differ(totals(recipe, lines))
