"""Figures, durations and replies as text: what the console, the tables and the report share.

What a model writes is shown as text and nothing else: no markup of it is interpreted, and control characters are
made visible, so that a reply cannot drive the terminal.
"""

from collections.abc import Iterable
from typing import Any

import tomli_w
from rich.console import Console
from rich.text import Text

from motif_lite.planning.machine import GIB
from motif_lite.recipe.schema import Recipe

_SPARKS = "▁▂▃▄▅▆▇█"


def print_text(console: Console, text: str) -> None:
    """Print text as it is: no markup in it is interpreted, no control character gets through, no line is broken."""
    console.print(Text(printable(text)), soft_wrap=True)


def expected_steps(metrics: dict[str, Any]) -> int:
    """Steps of the whole run: of its limit, or as many as will spend its budget if all are like those so far."""
    expected: int = round(metrics["step"] / metrics["share_done"])
    return expected


def mark_line(mark: dict[str, Any]) -> str:
    """A measurement along the way on one line."""
    low, high = mark["interval"]
    return (
        f"held out, step {mark['step']}: {100 * mark['accuracy']:.1f} % [{100 * low:.1f}, {100 * high:.1f}] after "
        f"{mark['tokens']:,} tokens, {duration(mark['seconds'])}"
    )


def step_line(metrics: dict[str, Any]) -> str:
    """One step on one line."""
    shown = ", ".join(f"{name} {value}" for name, value in facts(metrics))
    return (
        f"step {metrics['step']}/{expected_steps(metrics)}: reward {metrics['reward']:.2f}, "
        f"accuracy {percent(metrics['accuracy'])}, {shown}"
    )


def measured(evaluation: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Every (benchmark, strategy, decoding) in evaluation.json, before or after, in order."""
    return list(
        dict.fromkeys(
            (benchmark, strategy, decoding)
            for benchmark, by_when in evaluation["benchmarks"].items()
            for by_strategy in by_when.values()
            for strategy, by_decoding in by_strategy.items()
            for decoding in by_decoding
        )
    )


def gain(evaluation: dict[str, Any], benchmark: str, strategy: str, decoding: str) -> str:
    """The paired gain in points with its interval; empty where it was not measured."""
    found = evaluation.get("comparisons", {}).get(benchmark, {}).get(strategy, {}).get(decoding)
    if not found:
        return ""
    low, high = found["interval"]
    return f"{100 * found['difference']:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"


def accuracy_with_cost(result: dict[str, Any]) -> str:
    """An accuracy with its interval and cost."""
    low, high = result["interval"]
    return (
        f"{100 * result['accuracy']:.1f} % [{100 * low:.1f}, {100 * high:.1f}], "
        f"{result['generated_tokens']:,} tokens, {result['seconds']:.0f} s"
    )


def gib(num_bytes: int) -> str:
    """Bytes as GiB: ``1.3``, or ``0.07`` where that is little."""
    size = num_bytes / GIB
    return f"{size:.1f}" if size >= 0.1 else f"{size:.2f}"


def recipe_toml(recipe: Recipe) -> str:
    """The resolved recipe as TOML; keys without a value are left out."""
    return tomli_w.dumps(recipe.model_dump(exclude_none=True))


def sparkline(values: Iterable[float], width: int) -> str:
    """A line of bars, scaled to the values' own range."""
    shown = list(values)[-width:]
    low, high = min(shown, default=0.0), max(shown, default=0.0)
    scale = (len(_SPARKS) - 1) / (high - low) if high > low else 0.0
    return "".join(_SPARKS[round((value - low) * scale)] for value in shown)


def percent(value: float) -> str:
    """``43.2 %``."""
    return f"{100 * value:.1f} %"


def duration(seconds: float) -> str:
    """``1:02:03`` or ``2:03``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def printable(text: str) -> str:
    """Text that cannot drive a terminal: control characters and lone surrogates become visible signs."""
    return "".join(char if char == "\n" or char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


def excerpt(text: str, num_lines: int, width: int) -> Text:
    """The beginning of a text, without markup, in at most so many lines."""
    flat = printable(" ⏎ ".join(text[: num_lines * width].split("\n")))
    room = num_lines * max(20, width - 18)
    return Text(flat if len(flat) <= room else flat[: room - 1] + "…")


def facts(metrics: dict[str, Any]) -> list[tuple[str, str]]:
    """The figures of a step worth showing, with their names."""
    shown = [("right by round", by_round(metrics["accuracy_by_round"]))]
    if "round_correct" in metrics:
        shown.append(("rounds kept true", by_round(metrics["round_correct"])))
    shown += [
        ("groups without signal", percent(metrics["groups_without_signal"])),
        ("broken form", percent(metrics["broken_form"])),
        ("cut off, openings / futures", " / ".join(percent(value) for value in metrics["cut_off"].values())),
        ("seconds", " + ".join(f"{name} {value:.1f}" for name, value in metrics["seconds"].items())),
    ]
    planned = metrics.get("planned_memory_bytes", {}).items()  # a run of an earlier version has none
    peaks = metrics.get("peak_memory_bytes", {})
    memory = ", ".join(f"{gib(peaks[phase])} of {gib(size)}" for phase, size in planned if phase in peaks)
    if memory:
        shown.append(("GiB used of planned", memory))
    return shown


def by_round(values: Iterable[float | None]) -> str:
    """Shares by round: ``12 / 40 / 75 %``."""
    return " / ".join("-" if value is None else f"{100 * value:.0f}" for value in values) + " %"


def confidence_in_words(recipe: Recipe) -> str:
    """``95 %``."""
    return f"{100 * recipe.evaluation.confidence:g} %"
