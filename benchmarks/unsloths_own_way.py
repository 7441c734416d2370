"""What the plan says of the recipes for GPUs, by Unsloth's own `generate` and by our engine: a table for six cards.

    python benchmarks/unsloths_own_way.py

Before the engine drove Unsloth's model (commit f60840b), replies came from Unsloth's `generate`, whose padded batches
attend by PyTorch's slowest attention on all of these cards (`planning.timing.attends_by_math`). Both columns are plans,
by the same formulas: nothing is run.
"""

import argparse
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from motif_lite.jobs import checking  # noqa: E402  # the line above finds it
from motif_lite.planning import planner, projection, timing  # noqa: E402
from motif_lite.planning.machine import GIB  # noqa: E402
from motif_lite.planning.planner import Plan  # noqa: E402
from motif_lite.planning.rows import Lengths  # noqa: E402
from motif_lite.views.formats import duration  # noqa: E402

CARDS = ("RTX 3060 12GB", "RTX 4060 Ti 16GB", "RTX 3090", "RTX 4090", "RTX 5090", "T4")
RECIPES = ("motif_evening", "motif_evening_12gb", "motif_t4", "motif_chain_evening", "motif_gsm8k", "motif_chain_gsm8k")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    print("| recipe | card | before: peak, a step, in all | now: peak, a step, in all | times as fast |")
    print("|---|---|---|---|---:|")
    for recipe in RECIPES:
        for card in CARDS:
            print("| " + " | ".join((f"`{recipe}`", card, *_compared(ROOT / f"recipes/{recipe}.toml", card))) + " |")


def _compared(recipe: Path, card: str) -> Iterator[str]:
    """The cells of one recipe on one card."""
    now = checking.memory_plan(recipe, [], None, card)
    fast = _seconds(now)
    with patch.object(timing, "groups_queries", lambda: False):
        before = planner.make(checking.check(recipe, []), replace(now.shape, decodes=False), now.machine)
        slow = _seconds(before)
    yield _cell(before, slow)
    yield _cell(now, fast)
    yield f"{slow / fast:.1f}" if before.fits and now.fits else "-"


def _seconds(plan: Plan) -> float:
    """Of the whole run, evaluation included."""
    evaluated = list(checking.evaluated(plan.recipe, checking.expected_problems(plan.recipe)))
    return projection.planned(plan, evaluated, Lengths.worst(plan.recipe)).total


def _cell(plan: Plan, seconds: float) -> str:
    peak = f"{plan.estimate.peak / GIB:.1f} GiB"
    if not plan.fits:
        return f"{peak}: does not fit"
    return f"{peak}, {duration(sum(plan.seconds.values()))}, {duration(seconds)}"


if __name__ == "__main__":
    main()
