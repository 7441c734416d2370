"""What the rollout engine saves: a round of futures written in three ways, on the same model, in turns.

    python benchmarks/rollout.py --quick

1. *one at a time*: the reference's way, a batch-of-one `generate` of transformers for every reply;
2. *generate*: one wide `generate` call for all of them;
3. *engine*: what the transformers policy calls, folding of the adapter and all.

**The work** is a round of MOTIF: openings in groups of 8 by problem, each continued 4 times. A quarter of a prompt is
the system prompt, which all have in common, a quarter the question, common to a group, and half is the opening's own
progress. The 4 futures of an opening have the same prompt. All prompts are equally long, so `generate` pads nothing.
Models are random Qwen2 in 32 bits with a LoRA of rank 16 (the recipes have 64, which would favour the engine), and
sampled as the futures of recipes/motif_gsm8k.toml; where top-p is 1, as its openings.

**The same tokens**: all three write equally many for each sequence. Either all write to the limit; or a reply ends at
every token with a set probability, such that its mean length is a quarter of the limit. The output layer is made to
give the stop token that probability. The engine then draws lengths from its sequences' random streams, and `generate`
is told to end each sequence at that length.

**The floor** is the least time that this machine could need, as benchmarks/floor.py computes it.
"""

import argparse
import json
import os
import platform
import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from motif_lite.jobs import session  # noqa: E402  # the line above finds it

session.prepare_libraries()

import torch  # noqa: E402
from rich import box  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.progress import MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn  # noqa: E402
from rich.table import Table  # noqa: E402
from transformers.utils import logging as transformers_logging  # noqa: E402

from benchmarks import contenders, provenance  # noqa: E402
from benchmarks.contenders import FUTURES, OPENINGS, Case  # noqa: E402
from benchmarks.floor import Floor, bytes_per_second, floor, operations_per_second  # noqa: E402
from motif_lite.planning.shapes import ModelShape  # noqa: E402
from motif_lite.policies.local import LocalPolicy  # noqa: E402

SIZES = {
    "1M": ModelShape(4, 128, 384, num_heads=4, attention_dim=128, kv_dim=64, vocab_size=2048),
    "45M": ModelShape(12, 512, 1792, num_heads=8, attention_dim=512, kv_dim=128, vocab_size=8192),
}

_TARGET = (256, 64, OPENINGS * FUTURES)
"""The shape that the targets are about: prompt and new tokens, sequences."""
_SPREAD = Case("45M", 256, 128, OPENINGS * FUTURES, is_spread=True)
"""What the target for spread lengths is about."""

QUICK = [
    Case("1M", *_TARGET),
    Case("1M", *_TARGET, top_p=1.0),
    Case("1M", 64, 32, 8, repeats=5),
    Case("1M", 1024, 32, 8),
    Case("1M", 256, 128, 32, is_spread=True),
    Case("45M", *_TARGET),
    Case("45M", 64, 32, 8),
    _SPREAD,
]
"""The target shape, corners of the grid, and spread lengths."""

_MOST_TOKENS = {"1M": 150_000, "45M": 40_000}
"""Tokens of all rows together that the grid goes up to: beyond, a single wide call takes many minutes."""


def grid() -> list[Case]:
    """All of `QUICK`, and combinations of short and long that two cores do in minutes."""
    cases = [
        Case(size, prompt_tokens, new_tokens, num_sequences, is_spread=is_spread)
        for size in SIZES
        for prompt_tokens in (64, 256, 1024)
        for new_tokens in (32, 128, 512)
        for num_sequences in (8, 32, 128)
        for is_spread in (False, True)
        if num_sequences * (prompt_tokens + new_tokens) <= _MOST_TOKENS[size] and not (is_spread and new_tokens != 128)
    ]
    cases = [*QUICK, Case("45M", *_TARGET, top_p=1.0), *cases]
    return sorted(dict.fromkeys(cases), key=lambda case: list(SIZES).index(case.size))


@dataclass(frozen=True, slots=True)
class Result:
    """What was measured of a case; lists have an entry per repetition.

    Attributes:
        alone_seconds: For all sequences; where not all were written, extrapolated from those that were.
        num_tokens: New tokens of all sequences, the same for all contenders.
        prompt_tokens: Of all prompts together.
        read_tokens: Prompt tokens in the engine's forward passes, padding included.
    """

    case: Case
    alone_seconds: list[float]
    wide_seconds: list[float]
    engine_seconds: list[float]
    num_tokens: list[int]
    floors: list[Floor]
    prompt_tokens: int
    read_tokens: int

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Result":
        """Read what `asdict` made of one."""
        floors = [Floor(tuple(floor["reading"]), tuple(floor["writing"])) for floor in values["floors"]]
        return cls(**values | {"case": Case(**values["case"]), "floors": floors})

    @property
    def is_extrapolated(self) -> bool:
        """Whether the time of one at a time is."""
        return self.case.num_alone < self.case.num_sequences

    @property
    def against_alone(self) -> float:
        """How many times faster the engine is; the median of the repetitions' own ratios, as all ratios here."""
        return _ratio(self.alone_seconds, self.engine_seconds)

    @property
    def against_wide(self) -> float:
        """How many times faster the engine is."""
        return _ratio(self.wide_seconds, self.engine_seconds)

    @property
    def against_floor(self) -> float:
        """How many times the floor the engine takes."""
        return _ratio(self.engine_seconds, [floor.seconds for floor in self.floors])


def _ratio(these: list[float], those: list[float]) -> float:
    return median(this / that for this, that in zip(these, those, strict=True))


def measure(case: Case, policy: LocalPolicy, shape: ModelShape, tell: Callable[[str], None]) -> Result:
    """Let the three take turns; the engine first, for it draws the lengths.

    Args:
        tell: Told what begins.
    """
    prompts = contenders.prompts_of(case, shape.vocab_size)
    head = policy.model.get_base_model().lm_head
    head.rate, head.sampling = case.stop_rate, case.sampling
    policy.max_width = case.num_sequences
    alone, wide, engine, num_tokens, floors = [], [], [], [], []
    read_tokens = 0
    for repeat in range(case.repeats):
        tell(f"repetition {repeat + 1} of {case.repeats}, engine")
        with contenders.counted_reading(policy) as count:
            started = time.perf_counter()
            lengths = contenders.by_engine(policy, case, prompts, seed=1 + repeat)
            engine.append(time.perf_counter() - started)
        read_tokens = count() + len(prompts)  # the last one of each by the step that writes its first new one

        tell(f"repetition {repeat + 1} of {case.repeats}, generate")
        started = time.perf_counter()
        contenders.by_generate(policy, case, prompts, lengths)
        wide.append(time.perf_counter() - started)

        tell(f"repetition {repeat + 1} of {case.repeats}, one at a time")
        chosen = _spread_out(lengths, case.num_alone, (repeat + 0.5) / case.repeats)
        started = time.perf_counter()
        for sequence in chosen:
            contenders.by_generate(policy, case, [prompts[sequence]], [lengths[sequence]])
        seconds = time.perf_counter() - started
        alone.append(seconds * sum(lengths) / sum(lengths[sequence] for sequence in chosen))

        num_tokens.append(sum(lengths))
        floors.append(floor(shape, prompts, lengths))
    given = sum(len(prompt) for prompt in prompts)
    return Result(case, alone, wide, engine, num_tokens, floors, given, read_tokens)


def _spread_out(lengths: list[int], count: int, offset: float) -> list[int]:
    """So many of the sequences, from the shortest to the longest at equal distances; others for another offset < 1."""
    ranked = sorted(range(len(lengths)), key=lambda index: lengths[index])
    count = min(count, len(lengths))
    return [ranked[int((place + offset) * len(lengths) / count)] for place in range(count)]


COLUMNS = ("model", "prompt", "new", "m·k", "top-p", "tokens", "one at a time", "generate", "engine", "to one",
           "to generate", "floor", "to floor", "read")  # fmt: skip


def cells(result: Result) -> tuple[str, ...]:
    """A line of the table."""
    case = result.case
    return (
        case.size,
        str(case.prompt_tokens),
        f"≤ {case.new_tokens}" if case.is_spread else str(case.new_tokens),
        str(case.num_sequences),
        f"{case.top_p:g}",
        f"{median(result.num_tokens):.0f}",
        ("~" if result.is_extrapolated else "") + _seconds(median(result.alone_seconds)),
        _seconds(median(result.wide_seconds)),
        _seconds(median(result.engine_seconds)),
        f"{result.against_alone:.1f}x",
        f"{result.against_wide:.2f}x",
        _seconds(median(floor.seconds for floor in result.floors)),
        f"{result.against_floor:.1f}x",
        f"{100 * result.read_tokens / result.prompt_tokens:.0f} %",
    )


def _seconds(value: float) -> str:
    return f"{value:.0f}" if value >= 99.5 else f"{value:.1f}" if value >= 9.95 else f"{value:.2f}"


LEGEND = f"""\
Seconds for all m·k replies, medians. prompt, new: tokens of each; with ≤, replies end by chance, at a quarter of that
on average. tokens: all new ones, as many for all three. ~: extrapolated, by new tokens, from a few of the sequences.
to one, to generate: how many times faster the engine is, medians of the repetitions' own ratios. floor: what the
machine would need at its best; to floor: how many times that the engine takes. read: prompt tokens that the engine
reads, of those given: of a prompt a quarter is common to all, a quarter to {OPENINGS} openings, all to {FUTURES}
futures."""


@dataclass(frozen=True, slots=True)
class Target:
    """What the engine is to reach.

    Attributes:
        ratio: The least in the cases that this is about; None if none was measured.
        wanted: At least this.
    """

    name: str
    ratio: float | None
    wanted: float

    @property
    def verdict(self) -> str:
        """``met``, ``missed`` or ``not measured``."""
        if self.ratio is None:
            return "not measured"
        return "met" if self.ratio >= self.wanted else "missed"

    def __str__(self) -> str:
        """A line."""
        found = "" if self.ratio is None else f", {self.ratio:.2f}x"
        return f"{self.name}, at least {self.wanted:g}x: {self.verdict}{found}"


def targets(results: Sequence[Result]) -> list[Target]:
    """The targets, each with the least that was measured."""
    found = []
    for size in SIZES:
        at = [result for result in results if result.case == Case(size, *_TARGET)]
        name = Case(size, *_TARGET).name
        found.append(Target(f"{name}, to one at a time", min((r.against_alone for r in at), default=None), 12))
        found.append(Target(f"{name}, to generate", min((r.against_wide for r in at), default=None), 2))
    spread = [result.against_wide for result in results if result.case == _SPREAD]
    found.append(Target(f"{_SPREAD.name}, to generate", min(spread, default=None), 3))
    everywhere = [result.against_wide for result in results]
    found.append(Target("in all of these cases, to generate", min(everywhere, default=None), 1))
    return found


def heading(origin: dict[str, Any]) -> str:
    """Machine, rates, versions."""
    rates = ", ".join(f"{rate / 1e9:.0f} GB/s of {mib} MiB" for mib, rate in origin["bytes_per_second"].items())
    versions = ", ".join(f"{name} {number}" for name, number in origin["versions"].items())
    return (
        f"{origin['processor']}, {origin['threads']} threads; {origin['operations_per_second'] / 1e9:.0f} GFLOP/s, "
        f"{rates}; {versions}; commit {origin['commit']}, {origin['date'][:10]}"
    )


def markdown(origin: dict[str, Any], results: Sequence[Result]) -> str:
    """All that is found, as it stands in docs/measurements.md."""
    lines = [
        "| " + " | ".join(COLUMNS) + " |",
        "|---" + "|--:" * (len(COLUMNS) - 1) + "|",
        *("| " + " | ".join(cells(result)) + " |" for result in results),
        "",
        *(f"- {target}" for target in targets(results)),
        "",
        heading(origin) + ".",
    ]
    return "\n".join(lines)


def show(console: Console, origin: dict[str, Any], results: Sequence[Result]) -> None:
    """All that is found, for a terminal."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for column in COLUMNS:
        table.add_column(column, justify="left" if column == "model" else "right")
    for result in results:
        table.add_row(*cells(result))
    console.print(heading(origin), table, LEGEND, sep="\n")
    styles = {"met": "green", "missed": "red", "not measured": "dim"}
    for target in targets(results):
        console.print(str(target), style=styles[target.verdict])


def _origin(arguments: Sequence[str] | None) -> dict[str, Any]:
    """Where, when and with what."""
    command = sys.orig_argv if arguments is None else ["python", "benchmarks/rollout.py", *arguments]
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join(command),
        "commit": provenance.commit(),
        "processor": provenance.processor(),
        "threads": torch.get_num_threads(),
        "versions": {"Python": platform.python_version()}
        | {name: version(name) for name in ("torch", "transformers", "peft")},
        "operations_per_second": operations_per_second(),
        "bytes_per_second": {mib: bytes_per_second(mib << 20) for mib in (4, 256)},
    }


@contextmanager
def _watched(num_cases: int) -> Iterator[Progress]:
    """On a terminal what is under way; what was found of each is printed either way. All of it on stderr."""
    columns = (SpinnerColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    console = Console(stderr=True, highlight=False)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        progress.add_task("", total=num_cases)
        yield progress


def _measure_all(cases: Sequence[Case], done: Callable[[list[Result]], None]) -> list[Result]:
    """Measure the cases in order, a model in memory at a time.

    Args:
        done: Told of all results whenever there is one more.
    """
    results: list[Result] = []
    loaded: tuple[str, LocalPolicy] | None = None
    with tempfile.TemporaryDirectory() as folder, _watched(len(cases)) as progress:
        (task,) = progress.task_ids
        for case in cases:
            if loaded is None or loaded[0] != case.size:
                loaded = case.size, contenders.load(SIZES[case.size], Path(folder) / case.size)

            def tell(what: str, name: str = case.name) -> None:
                progress.update(task, description=f"{name}: {what}")

            result = measure(case, loaded[1], SIZES[case.size], tell)
            results.append(result)
            progress.advance(task)
            progress.console.print(
                f"{case.name}: {result.against_alone:.1f}x one at a time, "
                f"{result.against_wide:.2f}x generate, {result.against_floor:.1f}x the floor", soft_wrap=True,
            )  # fmt: skip
            done(results)
    return results


def _save(path: Path, origin: dict[str, Any], results: list[Result]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(origin | {"results": [asdict(result) for result in results]}, indent=2) + "\n")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the targets and a few corners, less than 5 minutes")
    parser.add_argument("--json", type=Path, default=Path("runs/rollout.json"), metavar="FILE", help="all figures")
    parser.add_argument("--show", action="store_true", help="print what FILE holds instead of measuring")
    parser.add_argument("--markdown", action="store_true", help="print the table as docs/measurements.md has it")
    options = parser.parse_args(arguments)
    os.environ["HF_HUB_OFFLINE"] = "1"
    transformers_logging.set_verbosity_error()
    if options.show:
        origin = json.loads(options.json.read_text())
        results = [Result.from_json(values) for values in origin.pop("results")]
    else:
        origin = _origin(arguments)
        results = _measure_all(QUICK if options.quick else grid(), lambda so_far: _save(options.json, origin, so_far))
    if options.markdown:
        print(markdown(origin, results))
    else:
        console = Console(highlight=False)
        show(console if console.is_terminal else Console(highlight=False, width=120), origin, results)


if __name__ == "__main__":
    main()
