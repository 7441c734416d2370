"""What everything that happens in a run works with: one frozen record in place of parameters that travel together."""

from dataclasses import dataclass, field

from motif_lite.observer import Observer
from motif_lite.policies.protocol import Policy
from motif_lite.ranks import ALONE, Ranks
from motif_lite.recipe.schema import Recipe
from motif_lite.runs.directory import RunDirectory
from motif_lite.runs.kept_replies import KeptReplies


@dataclass(frozen=True, slots=True)
class RunContext:
    """A run whose policy has been loaded.

    Attributes:
        recipe: With every ``auto`` decided.
        policy: The one model of the run: it is measured and, unless a server has it, trained.
        run: Where everything is written.
        observer: Told of what happens.
        ranks: The processes that the run shares.
        replies: What a server has answered of a measurement's part that is not complete; None without a server.
    """

    recipe: Recipe
    policy: Policy
    run: RunDirectory
    observer: Observer
    ranks: Ranks = field(default=ALONE, kw_only=True)
    replies: KeptReplies | None = field(default=None, kw_only=True)
