"""Gold answers that are a rule: where many answers are right, the gold says how to tell them.

    verify:countdown {"numbers":[44,19,35],"target":98}

After ``verify:`` stands who verifies, then what it has to know, as JSON. Only gold answers of problems are read so,
never what a model writes.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from motif_lite.grading import countdown
from motif_lite.grading.rulings import Ruling

Facts = Mapping[str, Any]
"""What a verifier has to know, from a gold answer."""

_PREFIX = "verify:"


@dataclass(frozen=True, slots=True)
class Verifier:
    """Who tells whether an answer is right.

    Attributes:
        complaint: What is wrong with the facts of a gold answer; empty where nothing is.
        decide: The verdict on an answer; None where it is left to a process apart, for its code is not ours.
    """

    complaint: Callable[[Facts], str]
    decide: Callable[[Facts, str], Ruling] | None = None


@dataclass(frozen=True, slots=True)
class Rule:
    """A gold answer, read."""

    name: str
    facts: Facts


def _lacks_facts_of_gym(facts: Facts) -> str:
    return "" if {"task", "options", "seed", "index", "answer"} <= facts.keys() else "is not made by this program"


REASONING_GYM = "reasoning_gym"

VERIFIERS: dict[str, Verifier] = {
    "countdown": Verifier(countdown.complaint, countdown.decide),
    REASONING_GYM: Verifier(_lacks_facts_of_gym),
}
"""By the name that stands after ``verify:``."""


def is_rule(text: str) -> bool:
    """Whether a text begins as a rule does."""
    return text.startswith(_PREFIX)


def written(name: str, facts: Facts) -> str:
    """A rule as a gold answer; the same facts always give the same text."""
    return f"{_PREFIX}{name} {json.dumps(facts, sort_keys=True, separators=(',', ':'), ensure_ascii=False)}"


def rule_of(gold: str) -> Rule | None:
    """The rule of a gold answer; None where it is a value.

    Raises:
        ValueError: It begins as a rule and is none; says what is wrong.
    """
    if not is_rule(gold):
        return None
    name, _, text = gold.removeprefix(_PREFIX).partition(" ")
    if name not in VERIFIERS:
        raise ValueError(f"there is no verifier {name[:40]!r}; known: {', '.join(VERIFIERS)}")
    try:
        facts = json.loads(text)
    except (ValueError, RecursionError):
        facts = None
    if not isinstance(facts, dict):
        raise ValueError(f"after 'verify:{name}' must stand a JSON object, e.g. {countdown.EXAMPLE}")
    if complaint := VERIFIERS[name].complaint(facts):
        raise ValueError(f"verify:{name} {complaint}")
    return Rule(name, facts)
