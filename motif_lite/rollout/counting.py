"""Counting generated tokens by phase."""

from collections.abc import Sequence

from motif_lite.nouns import Opening, Reply


def generated_tokens(openings: Sequence[Opening]) -> dict[str, int]:
    """Tokens by phase."""
    return {
        "openings": num_tokens([opening.turn.reply for opening in openings]),
        "futures": num_tokens(later_replies(openings)),
    }


def later_replies(openings: Sequence[Opening]) -> list[Reply]:
    """The replies of all rounds but the first; one that several futures continue is there once."""
    return [
        turn.reply
        for opening in openings
        for turn in {id(turn): turn for future in opening.futures for turn in future.turns[1:]}.values()
    ]


def num_tokens(replies: list[Reply]) -> int:
    """Generated tokens of some replies."""
    return sum(reply.num_tokens for reply in replies)
