"""run.py that can also write digests: ``python -m tests.gpu.command --recipe R --set ...``.

The file that the environment variable ``MOTIF_STATES`` names gets a line per update: a digest of the adapter and of the
optimiser's state before it, and one after it. The one that ``MOTIF_TRACES`` names gets where every thread stands, every
20 seconds: a run on a lent machine that seems to hang cannot be asked.
"""

import faulthandler
import hashlib
import os
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

    if TRACES in os.environ:  # the file stays open: it is written to by a thread that knows its number only
        traces = Path(os.environ[TRACES]).open("a", encoding="utf-8")  # noqa: SIM115
        faulthandler.dump_traceback_later(_TRACE_SECONDS, repeat=True, file=traces)
    if STATES in os.environ:
        _write_states(Path(os.environ[STATES]))
    cli.app()


if __name__ == "__main__":
    main()
