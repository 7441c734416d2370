"""An opening with its futures in words: how it ended, its form, the verdicts on its final replies, its rewards."""

from collections import Counter
from collections.abc import Iterator, Mapping

from rich.text import Text

from motif_lite.evaluation.verdicts import verdict
from motif_lite.nouns import Opening, Reply
from motif_lite.recipe.schema import Recipe
from motif_lite.rollout.reply_format import behind_thinking, has_soft_format, has_strict_format
from motif_lite.rollout.totals import total_reward
from motif_lite.views.formats import excerpt, printable
from motif_lite.views.verdicts import in_one_line

_LINES_OF_REPLY = 2


def reply_rows(recipe: Recipe, opening: Opening, rewards: Mapping[str, float], width: int) -> Iterator[Text]:
    """What the opening says, what it is, and what it earns.

    Args:
        rewards: Of this opening, by name.
        width: Columns.
    """
    yield excerpt(opening.turn.reply.text, _LINES_OF_REPLY, width)
    yield Text(f"{_ending(opening.turn.reply)}; {_form(opening.turn.reply.text)}", "dim")
    verdicts = Counter(in_one_line(verdict(future.problem.gold, future.final.text)) for future in opening.evidence)
    for text, count in verdicts.most_common():
        style = "green" if text.startswith("right") else "yellow"
        yield Text.assemble((f"{count} x ", "dim"), (printable(text), style))
    parts = [_part(name, value, recipe.rewards[name]) for name, value in rewards.items()]
    yield Text.assemble((f"earns {total_reward(recipe, rewards):.2f}", "bold"), f" = {' + '.join(parts)}")


def _part(name: str, value: float, weight: float) -> str:
    return f"{name} {value:.2f}" if weight == 1 else f"{weight:g} x {name} {value:.2f}"


def _ending(reply: Reply) -> str:
    end = "ended by itself" if reply.finish == "stop" else "cut off at its limit"
    return f"{reply.num_tokens:,} tokens, {end}"


def _form(text: str) -> str:
    """The form that the paper's rewards look at."""
    if text and not behind_thinking(text):
        return "a think block that is never closed"
    if has_strict_format(text):
        return "both sections, each tag on a line of its own, and nothing else"
    if has_soft_format(text):
        return "both sections in order"
    return "not the form <reasoning> ... <answer> ..."
