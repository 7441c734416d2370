"""Write recipes/recipe.schema.json from the recipe's classes: ``python docs/generate_recipe_schema.py``."""

import inspect
import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from motif_lite.credits.table import CREDITS  # noqa: E402
from motif_lite.policies.backends import BACKENDS  # noqa: E402
from motif_lite.recipe.json_schema import json_schema  # noqa: E402
from motif_lite.rollout.rewards import REWARDS  # noqa: E402
from motif_lite.rollout.strategies import STRATEGIES  # noqa: E402
from motif_lite.tasks.sources import known_names  # noqa: E402


def text() -> str:
    """The whole file."""
    rewards = {name: (inspect.getdoc(reward) or "").splitlines()[0] for name, reward in REWARDS.items()}
    schema = json_schema(
        backends=BACKENDS, credits=CREDITS, strategies=STRATEGIES, sources=known_names(), rewards=rewards
    )
    return json.dumps(schema, indent=2) + "\n"


if __name__ == "__main__":
    (ROOT / "recipes" / "recipe.schema.json").write_text(text(), encoding="utf-8")
