"""run.py that can also write digests: ``python -m tests.gpu.command --recipe R --set ...``.

The file that the environment variable ``MOTIF_STATES`` names gets a line per update: a digest of the adapter and of the
optimiser's state before it, and one after it. The one that ``MOTIF_TRACES`` names gets where every thread stands, every
20 seconds: a run on a lent machine that seems to hang cannot be asked.
"""

import hashlib
import os
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any

STATES, TRACES = "MOTIF_STATES", "MOTIF_TRACES"

_TRACE_SECONDS = 20


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


def _write_traces(path: Path) -> None:
    """Where every thread stands, time and again.

    Not by faulthandler, which looks at frames while they change, and crashed one of three runs as they imported. No
    frame is held meanwhile: it would keep what a call had on the card, 5 GiB of weights, long after its end.
    """
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    stacks = {number: traceback.format_stack(frame) for number, frame in sys._current_frames().items()}
    with path.open("a", encoding="utf-8") as file:
        for number, stack in stacks.items():
            file.write(
                f"\n{time.monotonic():.0f} s, {names.get(number, number)}, most recent call last:\n{''.join(stack)}"
            )


def _keep_writing_traces(path: Path) -> None:
    while True:
        _write_traces(path)
        time.sleep(_TRACE_SECONDS)


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

    if TRACES in os.environ:
        traces = Path(os.environ[TRACES])
        threading.Thread(target=_keep_writing_traces, args=(traces,), name="traces", daemon=True).start()
    if STATES in os.environ:
        _write_states(Path(os.environ[STATES]))
    cli.app()


if __name__ == "__main__":
    main()
