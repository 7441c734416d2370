"""Figures of a study as cells of its tables and words of its sentences."""

from collections.abc import Iterable, Sequence
from typing import Any

from motif_lite.figures import in_percent
from motif_lite.study.catching_up import Json

NOTHING = "-"


def label(found: Json, name: str) -> str:
    """What a variant is called."""
    return str(found["variants"][name]["label"])


def percent(test: Json) -> str:
    """An accuracy with its interval."""
    return NOTHING if test["mean"] is None else in_percent(test["mean"], test["interval"])


def points(test: Json | None, key: str = "mean") -> str:
    """A difference with its interval."""
    if not test or test.get(key) is None:
        return NOTHING
    return in_percent(test[key], test["interval"], sign="+")


def share(reach: Json | None) -> str:
    """What a variant takes by what the reference takes, to the same goal, or why there is no such figure."""
    if not reach:
        return NOTHING
    if reach["num_in_noise"]:
        return "goal within noise of the start"
    if reach["num_reached"] < reach["num_seeds"]:
        return f"on {reach['num_reached']} of {counted_seeds(reach['num_seeds'])}"
    return share_with_interval(reach)


def share_with_interval(reach: Json) -> str:
    """``74 % [52, 105]``; a bound that is not known is a question mark."""
    if reach["interval"] is None:
        return f"{100 * reach['share']:.0f} %"
    bounds = ", ".join("?" if bound is None else f"{100 * bound:.0f}" for bound in reach["interval"])
    return f"{100 * reach['share']:.0f} % [{bounds}]"


def counted_seeds(number: int) -> str:
    """``one seed`` or ``5 seeds``."""
    return "one seed" if number == 1 else f"{number} seeds"


def p(value: Any) -> str:
    """A p-value in a cell."""
    if value is None:
        return NOTHING
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def p_is(value: float) -> str:
    """A p-value in a sentence."""
    return p(value) if value < 0.001 else f"= {p(value)}"


def number(value: float | None, digits: int) -> str:
    """With commas."""
    return NOTHING if value is None else f"{value:,.{digits}f}"


def grid(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
