"""A reward of the recipe's own, by which every text scores differently.

Random weights never earn one of the real rewards. All openings of a group then score the same, the gradient is zero,
the adapter stays as it was, and a run that is resumed from the wrong weights could not be told from one that is not.
With this reward the update has something to do. Nothing is learned by it.
"""

import zlib

from motif_lite.nouns import Opening


def any_text(opening: Opening) -> float:
    """A number from 0 to 1 that depends on every character of the opening and its futures."""
    texts = [turn.reply.text for future in opening.futures for turn in future.turns]
    return zlib.crc32("\0".join(texts).encode(errors="backslashreplace")) / 2**32
