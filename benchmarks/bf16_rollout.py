"""Token steps on a CPU in 32 bits and by products in bfloat16, in turns, on a real model with an adapter.

    python benchmarks/bf16_rollout.py MODEL_FOLDER [--rows 32] [--prompt 200] [--tokens 48] [--repeats 5]

Both are the transformers backend's own generation, at temperature 1. A step is what so many tokens more than two cost.
Then the log-probabilities of what was drawn are compared with a forward pass of the model in 32 bits, beside those of a
forward pass under bfloat16 autocast, which an update takes.
"""

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from motif_lite.jobs import session  # noqa: E402  # the line above finds it

session.prepare_libraries()

import torch  # noqa: E402

from benchmarks import provenance  # noqa: E402
from motif_lite.jobs import checking  # noqa: E402
from motif_lite.nouns import Reply, Sampling  # noqa: E402
from motif_lite.policies.transformers_policy import TransformersPolicy  # noqa: E402
from motif_lite.recipe.keys import changed  # noqa: E402

WAYS = {"32 bits": "off", "bfloat16": "bfloat16"}
"""By what ``training.autocast`` is set to."""


def main() -> None:
    """Measure and print a line for each repetition, then the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    for name, default in (("rows", 32), ("prompt", 200), ("tokens", 48), ("repeats", 5)):
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
    policies = {way: load(given.model, autocast, given.rows) for way, autocast in WAYS.items()}
    prompts = prompts_of(given.rows, given.prompt)
    for policy in policies.values():
        written(policy, prompts, 2)  # what is prepared once
    measured = []
    for _ in range(given.repeats):
        measured.append({way: step(policy, prompts, given.tokens) for way, policy in policies.items()})
        print("; ".join(f"{way} {1e3 * seconds:.0f} ms a step" for way, seconds in measured[-1].items()), flush=True)
    print(f"median ratio: {median(each['32 bits'] / each['bfloat16'] for each in measured):.2f}")
    policy = policies["bfloat16"]
    replies = written(policy, prompts[:8], given.tokens)
    for name, off in distances(policy.model, prompts, replies).items():
        print(
            f"log-probabilities of {name}, off those in 32 bits: {off.mean():.4f} on average, {off.max():.3f} at most"
        )
    print(f"load {os.getloadavg()[0]:.1f}, {provenance.processor()}, commit {provenance.commit()}")


def load(folder: Path, autocast: str, width: int) -> TransformersPolicy:
    """The policy of recipes/laptop_gsm8k.toml, with an adapter of rank 32 at work."""
    given = checking.check(ROOT / "recipes" / "laptop_gsm8k.toml", [f'training.autocast="{autocast}"'])
    recipe = changed(given, {"rollout.max_width": width, "lora.rank": 32, "lora.alpha": 32})
    policy = TransformersPolicy.load(recipe, str(folder))
    torch.manual_seed(0)
    for name, weight in policy.model.named_parameters():
        if "lora_B" in name:
            weight.data.normal_(std=0.005)
    return policy


def prompts_of(rows: int, tokens: int) -> list[list[int]]:
    """Prompts of random tokens, three quarters of which are common to all."""
    generator = torch.Generator().manual_seed(0)

    def some(count: int) -> list[int]:
        return torch.randint(100, 20_000, (count,), generator=generator).tolist()

    shared = some(3 * tokens // 4)
    return [shared + some(tokens - len(shared)) for _ in range(rows)]


def written(policy: TransformersPolicy, prompts: Sequence[list[int]], num_tokens: int) -> list[Reply]:
    """Replies of so many tokens, as a run's openings are written."""
    return policy.write_rows(prompts, Sampling(max_tokens=num_tokens), seeds=range(len(prompts)))


def step(policy: TransformersPolicy, prompts: Sequence[list[int]], num_tokens: int) -> float:
    """Seconds of one token step."""
    seconds = []
    for number in (2, 2 + num_tokens):
        started = time.perf_counter()
        written(policy, prompts, number)
        seconds.append(time.perf_counter() - started)
    return (seconds[1] - seconds[0]) / num_tokens


@torch.no_grad()
def distances(model: Any, prompts: Sequence[list[int]], replies: Sequence[Reply]) -> dict[str, torch.Tensor]:
    """Of the engine's, and of a forward pass under autocast, from one in 32 bits."""
    found: dict[str, list[torch.Tensor]] = {"the engine": [], "a forward pass under autocast": []}
    for prompt, reply in zip(prompts, replies, strict=False):
        new = torch.tensor(reply.token_ids)
        ways = []
        for enabled in (False, True):
            with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
                logits = model(input_ids=torch.tensor([[*prompt, *reply.token_ids]])).logits[0, -len(new) - 1 : -1]
            ways.append(logits.float().log_softmax(-1).gather(-1, new[:, None])[:, 0])
        found["the engine"].append((torch.tensor(reply.logprobs) - ways[0]).abs())
        found["a forward pass under autocast"].append((ways[1] - ways[0]).abs())
    return {name: torch.cat(parts) for name, parts in found.items()}


if __name__ == "__main__":
    main()
