"""run.py with one more reward, `any_text`: ``python -m tests.gpu.command --recipe R --set ...``.

Random weights never earn one of the real rewards. All openings of a group then score the same, the gradient is zero,
the adapter stays as it was, and a run that is resumed from the wrong weights could not be told from one that is not.
With this reward every text scores differently, so the update has something to do. Nothing is learned by it.

The file that the environment variable ``MOTIF_STATES`` names gets a line per update: a digest of the adapter and of the
optimiser's state before it, and one after it.
"""

import hashlib
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from motif_lite.nouns import Opening
from motif_lite.rollout.rewards import REWARDS

STATES = "MOTIF_STATES"


def any_text(opening: Opening) -> float:
    """A number from 0 to 1 that depends on every character of the opening and its futures."""
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


def digest(optimizer: Any) -> str:
    """Of all weights that are trained and of what the optimiser keeps of each, bit by bit."""
    import torch

    found = hashlib.blake2b(digest_size=16)
    for weight in (weight for group in optimizer.param_groups for weight in group["params"]):
        state = optimizer.state.get(weight, {})
        for value in (weight, *(state[name] for name in sorted(state))):
            if isinstance(value, torch.Tensor):
                found.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
            else:
                found.update(repr(value).encode())
    return found.hexdigest()


def _write_states(path: Path) -> None:
    from torch.optim import optimizer as hooks

    def write(text: str) -> None:
        with path.open("a", encoding="utf-8") as file:
            file.write(text)

    hooks.register_optimizer_step_pre_hook(lambda optimizer, *_: write(digest(optimizer)))
    hooks.register_optimizer_step_post_hook(lambda optimizer, *_: write(f" {digest(optimizer)}\n"))


def main() -> None:
    """The command line of run.py."""
    from motif_lite import cli

    if STATES in os.environ:
        _write_states(Path(os.environ[STATES]))
    with registered():
        cli.app()


if __name__ == "__main__":
    main()
