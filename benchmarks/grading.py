r"""What grading takes of a training step: long replies, each with an answer of its own that needs math-verify.

    python benchmarks/grading.py

Replies are as long as a large model's; the text before the box is filler. Half of the answers are right, in a form
that differs from the gold answer's, and no two are the same: the worst case, as a group's replies usually share
answers, which are compared once. Three ways, each from an empty cache:

1. *rules alone*: the boxes are found, and answers that need no algebra (the gold answers as they are) compared;
2. *one at a time*: `is_correct` for each reply;
3. *all at once*: `grade`, as a training step does.

The rest of a step is what ``--plan`` estimates for the recipe, not a measurement.
"""

import argparse
import random
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import provenance  # noqa: E402  # the line above finds our own
from motif_lite.grading import answers  # noqa: E402
from motif_lite.grading.judge import num_forks  # noqa: E402
from motif_lite.jobs import checking  # noqa: E402

CHARACTERS_PER_TOKEN = 4

FORMS = (
    ("\\frac{{{a}\\sqrt{{{b}}}}}{{{c}}}", "\\frac{{{a}}}{{{c}}}\\sqrt{{{b}}}"),
    ("({a}x+{b})(x+{c})", "{a}x(x+{c})+{b}(x+{c})"),
    ("({a},{b}\\sqrt{{{c}}})", "\\left({a},\\;\\sqrt{{{c}}}\\cdot {b}\\right)"),
    ("[{a},{a}\\sqrt{{{b}}})", "\\left[{a},\\sqrt{{{b}}}\\cdot {a}\\right)"),
    ("{a}+{b}i", "{b}i+{a}"),
    ("\\frac{{{a}\\pi}}{{{c}}}", "\\frac{{{a}}}{{{c}}}\\pi"),
    ("\\{{{a},{b},{c}x\\}}", "\\{{x\\cdot {c},{b},{a}\\}}"),
    ("y={a}x-{b}", "y+{b}={a}x"),
)
"""Gold answers, and the same in another form."""

Pair = tuple[str, str]
"""A gold answer and a whole reply."""


def pairs(number: int, num_tokens: int, seed: int, *, judged: bool = True) -> list[Pair]:
    """Replies of so many tokens; every second answer is right. Without ``judged`` all answers are the gold ones."""
    rng = random.Random(seed)
    made = []
    for index in range(number):
        gold, other = FORMS[index % len(FORMS)]
        numbers = {"a": index + 2, "b": rng.randrange(2, 30), "c": 7}
        changed = numbers if index // len(FORMS) % 2 else numbers | {"a": index + 3}
        answer = other.format(**changed) if judged else gold.format(**numbers)
        made.append((gold.format(**numbers), _reply(answer, num_tokens, rng)))
    return made


def _reply(answer: str, num_tokens: int, rng: random.Random) -> str:
    words = rng.choices(
        ("so", "we", "have", "$x^{2}$", "and", "\\frac{1}{2}", "then", "12", "therefore,"), k=num_tokens
    )
    thoughts = " ".join(words)[: CHARACTERS_PER_TOKEN * num_tokens]
    return f"<reasoning>\n{thoughts}\n</reasoning>\n<answer>\n\\boxed{{{answer}}}\n</answer>"


def timed(work: Callable[[], object]) -> float:
    """Seconds that something takes with nothing known before."""
    answers.forget()
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def one_at_a_time(replies: Sequence[Pair]) -> list[bool]:
    """As before replies were graded together."""
    return [answers.is_correct(*pair) for pair in replies]


def main() -> None:
    """Measure as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replies", type=int, default=128)
    parser.add_argument("--tokens", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--recipe", type=Path, default=ROOT / "recipes" / "motif_gsm8k.toml")
    parser.add_argument("--vram", type=float, default=24.0)
    options = parser.parse_args()
    replies = pairs(options.replies, options.tokens, options.seed)
    easy = pairs(options.replies, options.tokens, options.seed, judged=False)
    answers.is_correct("x+1", "\\boxed{1+x}")  # the judge's start is no part of a step
    right = sum(one_at_a_time(replies))
    print(f"{provenance.processor()}, {num_forks()} usable processors, commit {provenance.commit()}")
    print(f"{options.replies} replies of {options.tokens} tokens, {right} right; seconds, best of {options.repeats}:")
    ways: dict[str, Callable[[], object]] = {
        "rules alone": lambda: answers.grade(easy),
        "one at a time": lambda: one_at_a_time(replies),
        "all at once": lambda: answers.grade(replies),
    }
    seconds = {name: min(timed(work) for _ in range(options.repeats)) for name, work in ways.items()}
    for name, taken in seconds.items():
        print(f"  {name:<14} {taken:7.3f}   {1e3 * taken / options.replies:7.2f} ms a reply")
    plan = checking.memory_plan(options.recipe, [], options.vram)
    rest = sum(plan.seconds.values())
    for name in ("one at a time", "all at once"):
        share = seconds[name] / (seconds[name] + rest)
        print(
            f"  {name}: {100 * share:.2f} % of a step whose rest takes {rest:.0f} s ({options.recipe.name}, estimated)"
        )


if __name__ == "__main__":
    main()
