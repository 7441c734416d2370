"""What shared prompts and bfloat16 save in an update: packed rows against padded ones, forward and backward, in turns.

    python benchmarks/update.py MODEL_FOLDER [--chains 8] [--prompt 300] [--reply 200] [--repeats 5]

The rows are those of one problem with credit ``chain`` and two rounds, of random tokens: openings share a prompt; the
prompt of a second round is the first one and half a reply more. *padded* is what TRL computes: all rows as long as the
longest, four at a time, all logits of a micro-batch at once. *packed* is `policies.packing`, in pieces of no more
tokens than four padded rows have, in 32 bits and under bfloat16 autocast. All have an adapter of rank 32, no gradient
checkpointing, and the same objective.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from motif_lite.jobs import session  # noqa: E402  # the line above finds it

session.prepare_libraries()

import torch  # noqa: E402
from peft import LoraConfig, get_peft_model  # noqa: E402
from transformers import AutoModelForCausalLM  # noqa: E402
from trl.trainer.utils import selective_log_softmax  # noqa: E402

from benchmarks import provenance  # noqa: E402
from motif_lite.planning.machine import GIB  # noqa: E402
from motif_lite.planning.metering import PhaseMeter  # noqa: E402
from motif_lite.policies.packing.packed_model import PackedModel  # noqa: E402
from motif_lite.policies.packing.tree import pieces, tree_of  # noqa: E402

MICRO_BATCH = 4

Rows = list[tuple[list[int], list[int]]]
"""Prompts and replies."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One update.

    Attributes:
        busy: Seconds of processor time, all threads together: with one thread they tell more on a busy machine.
        gib: Peak resident memory.
    """

    seconds: float
    busy: float
    gib: float
    gradient: torch.Tensor

    def __str__(self) -> str:
        return f"{self.seconds:.1f} s, {self.busy:.1f} s of processor time, peak {self.gib:.2f} GiB"


def main() -> None:
    """Measure and print a line for each repetition, then the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    for name, default in (("chains", 8), ("prompt", 300), ("reply", 200), ("repeats", 5)):
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
    model = load(given.model)
    rows = rows_of(given.chains, given.prompt, given.reply)
    ways = {
        "padded": lambda: padded(model, rows),
        "packed": lambda: packed(model, rows),
        "packed, bfloat16": lambda: packed(model, rows, autocast=True),
    }
    print(
        f"tokens: padded {len(rows) * _columns(rows)}, packed {sum(len(tree_of(_whole(p)).ids) for p in _packs(rows))}"
    )
    measured = [{way: measure(model, run) for way, run in ways.items()} for _ in range(given.repeats)]
    for each in measured:
        print("; ".join(f"{way} {result}" for way, result in each.items()))
    for way in [way for way in ways if way != "padded"]:
        seconds = median(each["padded"].seconds / each[way].seconds for each in measured)
        busy = median(each["padded"].busy / each[way].busy for each in measured)
        one, other = (measured[0][name].gradient.double() for name in ("padded", way))
        off, cosine = (one - other).norm() / one.norm(), one @ other / (one.norm() * other.norm())
        print(
            f"padded to {way}, median ratios: {seconds:.2f} of seconds, {busy:.2f} of processor time; gradients differ "
            f"by {off:.1e}, cosine {cosine:.6f}"
        )
    print(f"load {os.getloadavg()[0]:.1f}, {provenance.processor()}, commit {provenance.commit()}")


def load(folder: str) -> Any:
    """The model in 32 bits with an adapter at work."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    model = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", r=32, lora_alpha=32, target_modules="all-linear"))
    torch.manual_seed(0)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            weight.data.normal_(std=0.01)
    return model


def rows_of(chains: int, prompt: int, reply: int) -> Rows:
    """First and second rounds of one problem's chains."""
    generator = torch.Generator().manual_seed(0)

    def some(count: int) -> list[int]:
        return torch.randint(100, 20_000, (count,), generator=generator).tolist()

    shared = some(prompt)
    return [(shared, some(reply)) for _ in range(chains)] + [
        (shared + some(reply // 2), some(reply)) for _ in range(chains)
    ]


def measure(model: Any, run: Callable[[], None]) -> Measured:
    """Run it once."""
    model.zero_grad()
    meter = PhaseMeter("cpu")
    meter.start("update")
    started, busy = time.perf_counter(), time.process_time()
    run()
    seconds, busy = time.perf_counter() - started, time.process_time() - busy
    _, peak = meter.take()
    gradient = torch.cat([weight.grad.flatten() for weight in model.parameters() if weight.grad is not None])
    return Measured(seconds, busy, peak.get("update", 0) / GIB, gradient)


def padded(model: Any, rows: Rows) -> None:
    """As TRL does it."""
    columns, longest = max(len(prompt) for prompt, _ in rows), max(len(reply) for _, reply in rows)
    for start in range(0, len(rows), MICRO_BATCH):
        batch = rows[start : start + MICRO_BATCH]
        ids = torch.tensor([[0] * (columns - len(p)) + p + r + [0] * (longest - len(r)) for p, r in batch])
        mask = torch.tensor([[0] * (columns - len(p)) + [1] * len(p + r) + [0] * (longest - len(r)) for p, r in batch])
        logits = model(input_ids=ids, attention_mask=mask, logits_to_keep=longest + 1, use_cache=False).logits[:, :-1]
        logprobs = selective_log_softmax(logits, ids[:, -longest:])
        torch.autograd.backward((logprobs * mask[:, -longest:]).sum())


def packed(model: Any, rows: Rows, *, autocast: bool = False) -> None:
    """As this project does it."""
    computing = PackedModel(model)
    with computing.ready():
        for part in _packs(rows):
            with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
                logprobs, _ = computing.logprobs([prompt for prompt, _ in part], [reply for _, reply in part], 1.0)
            torch.autograd.backward(logprobs.sum())


def _packs(rows: Rows) -> list[Rows]:
    return [[rows[row] for row in part] for part in pieces(_whole(rows), MICRO_BATCH * _columns(rows))]


def _whole(rows: Rows) -> list[list[int]]:
    return [prompt + reply for prompt, reply in rows]


def _columns(rows: Rows) -> int:
    return max(len(prompt) for prompt, _ in rows) + max(len(reply) for _, reply in rows)


if __name__ == "__main__":
    main()
