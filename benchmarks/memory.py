"""The memory plan against measurement: real training steps on a CPU, their peaks by phase compared with the plan.

    python benchmarks/memory.py [NAME ...] [--json FILE]

Every case is a run of its own (`run.py`), on random weights of the given shape. Prompts and replies are as long as the
recipe allows, which is what the plan counts with. Prints a table in Markdown, as docs/measurements.md has it.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import random_model  # noqa: E402  # the line above finds it
from motif_lite.planning.shapes import ModelShape  # noqa: E402

_COMMON = (
    'model.backend="transformers"', "model.max_seq_length=400", 'data.train="chain_sum"', "data.num_problems=8",
    "rollout.num_rounds=3", "rollout.openings.max_tokens=32",
    "rollout.futures.max_tokens=32", "rollout.max_width=32", "training.max_steps=2", "evaluation.benchmarks={}",
)  # fmt: skip
_FULL = ("model.load_in_4bit=false", 'training.optimizer="adamw_torch"')
_IN_16_BITS = ('training.autocast="bfloat16"', 'rollout.weights="32bit"')
_FOUR_BIT = ("model.load_in_4bit=true", 'training.optimizer="adamw_8bit"')


SHAPES = random_model.SHAPES | {
    "6 layers": replace(random_model.SHAPES["0.5b"], num_layers=6),
    "wide": ModelShape(4, 256, 8192, 4, attention_dim=256, kv_dim=64, vocab_size=151_936),
}


@dataclass(frozen=True, slots=True)
class Case:
    """One run.

    Attributes:
        size: A key of `SHAPES`.
        recipe: File name in ``recipes/``.
        changes: ``--set`` values.
        prompt_tokens: Of the longest first prompt: the tokenizer has a token per byte, so the system prompt is padded
            to that; 0 leaves prompts as they are.
    """

    size: str
    recipe: str
    changes: tuple[str, ...]
    prompt_tokens: int = 0


def _small(size: str, *changes: str) -> Case:
    """Little more than weights, and soon done."""
    limits = ("rollout.openings.max_tokens=8", "rollout.futures.max_tokens=4", "rollout.num_rounds=2")
    batch = ("rollout.num_openings=2", "rollout.num_futures=1", "training.micro_batch_size=2")
    prompt = ("rollout.max_prompt_tokens=64", "rollout.futures.top_p=1.0")
    return Case(size, "motif_gsm8k.toml", (*_COMMON, *limits, *batch, *prompt, *changes), 64)


def _wide() -> Case:
    """Little that stays, much to work with: logits and a wide MLP."""
    limits = ("rollout.openings.max_tokens=128", "rollout.futures.max_tokens=4", "rollout.num_rounds=2")
    batch = (
        "training.gradient_checkpointing=false",
        "rollout.num_openings=8",
        "rollout.num_futures=2",
        "training.micro_batch_size=8",
    )
    return Case("wide", "motif_gsm8k.toml", (*_COMMON, *limits, *batch, "rollout.max_prompt_tokens=64", *_FULL), 64)


def _larger(m: int, k: int, micro: int, *changes: str) -> Case:
    batch = (f"rollout.num_openings={m}", f"rollout.num_futures={k}", f"training.micro_batch_size={micro}")
    return Case("0.5b", "motif_gsm8k.toml", (*_COMMON, *batch, "rollout.max_prompt_tokens=256", *_FULL, *changes), 256)


CASES = {
    "tiny, m=8 k=4": Case(
        "tiny", "tiny_cpu.toml", ("training.max_steps=2", "evaluation.benchmarks={}", "rollout.max_prompt_tokens=32")
    ),
    "6 layers of 0.5B, m=2 k=1": _small("6 layers", *_FULL),
    "0.5B, m=2 k=1, 4 bit": _small("0.5b", *_FOUR_BIT),
    "6 layers of 0.5B, update in 16 bits": _small("6 layers", *_FULL, *_IN_16_BITS),
    "0.5B, update in 16 bits, no checkpointing": _small(
        "0.5b", *_FULL, *_IN_16_BITS, "training.gradient_checkpointing=false"
    ),
    "wide MLP": _wide(),
    "0.5B, m=4 k=2": _larger(4, 2, 4),
    "0.5B, m=4 k=4, micro-batch 1": _larger(4, 4, 1, "rollout.num_rounds=2"),
    "0.5B, m=4 k=2, no checkpointing": _larger(4, 2, 4, "training.gradient_checkpointing=false"),
}
"""What is measured, by name."""


@dataclass(frozen=True, slots=True)
class Result:
    """Bytes by phase of the last step, when optimizer state is there."""

    planned: dict[str, int]
    measured: dict[str, int]

    @property
    def ratio(self) -> float:
        """Planned to measured, of the phases' maxima: what decides whether it fits."""
        return max(self.planned.values()) / max(self.measured.values())


def measure(case: Case, folder: Path) -> Result:
    """Run a case under ``folder`` and read its metrics.

    Raises:
        subprocess.CalledProcessError: The run failed, and said why.
    """
    changes = list(case.changes)
    if case.size != "tiny":
        model = folder / case.size
        if not model.exists():
            random_model.write(model, SHAPES[case.size])
        padding = "x" * _num_padding(model, case.prompt_tokens)
        changes += [f'model.name="{model}"', f'rollout.system_prompt="{padding}"']
    out = Path(tempfile.mkdtemp(dir=folder)) / "run"
    command = [sys.executable, str(ROOT / "run.py"), "--recipe", str(ROOT / "recipes" / case.recipe), "--out", str(out)]
    for change in changes:
        command += ["--set", change]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=ROOT)
    last = json.loads((out / "metrics.jsonl").read_text().splitlines()[-1])
    return Result(last["planned_memory_bytes"], last["peak_memory_bytes"])


def _num_padding(model: Path, prompt_tokens: int) -> int:
    """Letters that a system prompt needs so that the longest question's prompt has so many tokens."""
    from transformers import AutoTokenizer

    from motif_lite.recipe.data import SourceSection
    from motif_lite.rollout import prompts
    from motif_lite.tasks import sources

    tokenizer = AutoTokenizer.from_pretrained(model)
    problems = sources.load(SourceSection(source="chain_sum", num_problems=8), role="train", seed=3407)
    texts = [
        tokenizer.apply_chat_template(
            prompts.conversation("x", problem.question), tokenize=False, add_generation_prompt=True
        )
        for problem in problems
    ]
    return prompt_tokens - max(len(tokenizer(text)["input_ids"]) for text in texts) + 1


def table(results: dict[str, Result]) -> str:
    """Planned and measured GiB by phase, in Markdown."""
    phases = ("openings", "futures", "update")
    lines = [
        "| case | " + " | ".join(f"{phase}, planned / measured" for phase in phases) + " | peak, planned to measured |",
        "|---|" + "---|" * (len(phases) + 1),
    ]
    for name, result in results.items():
        cells = (f"{result.planned[phase] / 2**30:.2f} / {result.measured[phase] / 2**30:.2f}" for phase in phases)
        lines.append(f"| {name} | {' | '.join(cells)} | {result.ratio:.2f} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the named cases, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of: {'; '.join(CASES)}")
    parser.add_argument("--json", type=Path, help="also write the bytes here")
    options = parser.parse_args(arguments)
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in options.names or CASES:
            print(f"{name} ...", file=sys.stderr, flush=True)
            results[name] = measure(CASES[name], Path(folder))
    print(table(results))
    if options.json:
        options.json.write_text(json.dumps({name: asdict(result) for name, result in results.items()}, indent=2))


if __name__ == "__main__":
    main()
