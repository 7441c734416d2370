"""One policy in several processes: the main one asks, and all of them write.

Evaluation runs in the main process alone. Its policy is `led`: what it is to generate is shared out to all processes.
The helpers wait in `help_until` for what comes, and leave it when something else than their policy is wanted.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, cast

from motif_lite.nouns import OnText, OnTokens, Problem, Reply, Sampling
from motif_lite.policies.protocol import Policy
from motif_lite.ranks import Ranks


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the main process wants of its helpers.

    Attributes:
        what: ``generate`` and ``load`` are for the policy; ``train`` begins training, ``go on`` a step of it, and with
            ``end`` the run is over.
        prompts: To be generated from, all of them.
        folder: Of the adapter to load.
        problems: To train on.
        pause_at: The share of the budget with which training pauses.
    """

    what: Literal["generate", "load", "train", "go on", "end"]
    prompts: tuple[str, ...] = ()
    sampling: Sampling | None = None
    seeds: tuple[int, ...] = ()
    folder: str = ""
    problems: tuple[Problem, ...] = ()
    pause_at: float = 1.0


def led(policy: Policy, ranks: Ranks) -> Policy:
    """The policy as the main process evaluates it; of one process alone, itself."""
    return policy if ranks.count == 1 else cast(Policy, _Led(policy, ranks))


def want(ranks: Ranks, wanted: Wanted) -> None:
    """Tell the helpers, who are in `help_until`."""
    ranks.from_main(Wanted, wanted)


def help_until(policy: Any, ranks: Ranks) -> Wanted:
    """Generate and load as the main process wants it; returns what it wants besides."""
    while True:
        wanted: Wanted = ranks.from_main(Wanted)
        if wanted.what == "generate":
            assert wanted.sampling is not None
            _written(policy, ranks, wanted.prompts, wanted.sampling, wanted.seeds)
        elif wanted.what == "load":
            ranks.together(partial(policy.load_adapter, Path(wanted.folder)))
        else:
            return wanted


class _Led:
    """Everything but generating and loading is the policy's own."""

    def __init__(self, policy: Policy, ranks: Ranks) -> None:
        self._policy, self._ranks = policy, ranks

    def __getattr__(self, name: str) -> Any:
        return getattr(self._policy, name)

    def generate(
        self,
        prompts: Sequence[str],
        sampling: Sampling,
        *,
        seeds: Sequence[int],
        on_progress: OnTokens | None = None,
        on_text: OnText | None = None,
    ) -> list[Reply]:
        """As the policy does; progress is that of this process's share, and texts come when all are complete."""
        want(self._ranks, Wanted("generate", tuple(prompts), sampling, tuple(seeds)))
        written = _written(self._policy, self._ranks, prompts, sampling, seeds, on_progress)
        if on_text is not None:
            for number, reply in enumerate(written):
                on_text(number, reply.text)
                on_text(number, None)
        return written

    def load_adapter(self, folder: Path) -> None:
        """In all processes."""
        want(self._ranks, Wanted("load", folder=str(folder)))
        self._ranks.together(lambda: cast(Any, self._policy).load_adapter(folder))


def _written(
    policy: Policy,
    ranks: Ranks,
    prompts: Sequence[str],
    sampling: Sampling,
    seeds: Sequence[int],
    on_progress: OnTokens | None = None,
) -> list[Reply]:
    """All replies; this process writes its share."""
    own = ranks.share(len(prompts))
    parts = ranks.gather(
        list[Reply], lambda: policy.generate(prompts[own], sampling, seeds=seeds[own], on_progress=on_progress)
    )
    return [reply for part in parts for reply in part]
