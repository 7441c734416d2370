"""run.py with one more reward, `any_text`: ``python benchmarks/any_reward.py --recipe R --set ...``.

Random weights never earn one of the real rewards. All openings of a group then score the same, the gradient is zero,
the adapter stays as it was, and a run that is resumed from the wrong weights could not be told from one that is not.
With this reward every text scores differently, so the update has something to do. Nothing is learned by it.
"""

import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from motif_lite.nouns import Opening
from motif_lite.rollout.rewards import REWARDS


def any_text(opening: Opening) -> float:
    """A number from 0 to 1 that hangs on every character of the opening and its futures."""
    texts = [turn.reply.text for future in opening.futures for turn in future.turns]
    return zlib.crc32("\0".join(texts).encode(errors="backslashreplace")) / 2**32


@contextmanager
def registered() -> Iterator[None]:
    """Recipes may name the reward meanwhile."""
    REWARDS["any_text"] = any_text
    try:
        yield
    finally:
        del REWARDS["any_text"]


if __name__ == "__main__":
    from motif_lite import cli

    with registered():
        cli.app()
