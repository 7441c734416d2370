"""How much of its bound the check of our decoder needs for rounding, on a model in a given precision.

    python benchmarks/rounding.py MODEL_FOLDER --dtype float16
    python benchmarks/rounding.py MODEL_FOLDER --dtype bfloat16 --in-4-bit    states have 32 bits, products 16

The check compares each part of each layer with the model's own on the first tokens of a prompt, before anything is
written (`policies.engine.checking`). Printed are, for several prompts, the part that was furthest off and the bound.
"""

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from motif_lite.jobs import session  # noqa: E402  # the line above finds it

session.prepare_libraries()

import torch  # noqa: E402

from motif_lite.jobs.checking import check  # noqa: E402
from motif_lite.policies.engine.checking import Difference, differences  # noqa: E402
from motif_lite.policies.engine.decoder import Decoder  # noqa: E402
from motif_lite.policies.transformers_policy import TransformersPolicy  # noqa: E402

QUESTIONS = (
    "How many legs do three cats have?",
    "A train leaves at 9:40 and takes 3 hours and 35 minutes. When does it arrive, and how far did it go at 84 km/h?",
    "Write down the first ten prime numbers, add them up, and say whether the sum is divisible by 3. Explain it.",
)
CAPACITY = 512


def found(policy: TransformersPolicy, question: str) -> list[Difference]:
    """Of every part but the embedding, which has to be the same, and the logits, whose bound is another."""
    base, prompt = policy.model.get_base_model(), policy.render([{"role": "user", "content": question}])
    assert policy.engine is not None
    with torch.inference_mode():
        parts = differences(base, Decoder(base, CAPACITY), policy.encode(prompt), policy.engine.precision)
        return list(parts)[1:-1]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--dtype", choices=["float32", "bfloat16", "float16"], default="float16")
    parser.add_argument("--in-4-bit", action="store_true")
    given = parser.parse_args()
    changes = [f'model.dtype="{given.dtype}"', f"model.load_in_4bit={str(given.in_4_bit).lower()}"]
    settings = ["rollout.max_width=1", "training.micro_batch_size=1", f"model.max_seq_length={CAPACITY}"]
    recipe = check(ROOT / "recipes" / "tiny_cpu.toml", [*changes, *settings])
    policy = TransformersPolicy.load(recipe, str(given.folder))
    policy.model.eval()
    for question in QUESTIONS:
        worst = max(found(policy, question), key=lambda each: each.share)
        print(f"{given.folder.name}, {given.dtype}: {worst.part} {worst.share:.2g} of {worst.most:.2g}")


if __name__ == "__main__":
    main()
