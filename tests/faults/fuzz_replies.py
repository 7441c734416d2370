r"""Replies that no honest model would write, through all that a step does with a reply, as many as you like.

    python tests/faults/fuzz_replies.py --replies 100000

Each is parsed, rewarded, graded, put into the next round's prompt, summed up for the files and cut for the screen.
It ends with exit code 1 if anything is raised, if a reply takes more than 2 s of processor time, or if a grader holds
more than a gigabyte. The last line has the counts, the slowest reply and the graders' peak memory. A
reply is made again by its number and the seed.
"""

import argparse
import json
import math
import random
import resource
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from motif_lite.grading import answers  # noqa: E402
from motif_lite.grading.server import MEMORY_BYTES  # noqa: E402
from motif_lite.jobs import checking  # noqa: E402
from motif_lite.nouns import TAGS, Opening, Problem, Reply, Trajectory, Turn  # noqa: E402
from motif_lite.rollout import prompts, reply_format  # noqa: E402
from motif_lite.rollout.rewards import REWARDS, is_solved  # noqa: E402
from motif_lite.rollout.rollouts import Rollouts  # noqa: E402
from motif_lite.runs.files import as_line  # noqa: E402
from motif_lite.training import step_metrics  # noqa: E402
from motif_lite.views.formats import excerpt, printable  # noqa: E402
from tests import processor_time  # noqa: E402

LIMIT_SECONDS = 2.0
LIMIT_BYTES = 2 * MEMORY_BYTES
"""For a grader: what it starts with, and what a comparison may take."""

RECIPE = checking.check(ROOT / "recipes" / "tiny_cpu.toml", [])

GOLDS = ("42", "1,234", "\\frac{1}{2}", "x^2+1", "(3,4)", "\\{1,2\\}", "\\text{Evelyn}", "2516_8", "0.5", "y=2x+1")

PIECES = (
    *TAGS, "\\boxed{", "\\boxed", "{", "}", "\\{", "\\}", "\\", "$", "^", "_", "=", ",", "\n", " ", "\t",
    "\r",
    "42", "0", "-1", "9" * 40, "\\frac{", "\\sqrt{", "\\text{", "\\left(", "\\right)", "\\pm", "\\circ", "x", "%", "&",
    "\x00", "\x07", "\x08", "\x1b[2J", "\x1b]0;t\x07", "\x9b31m", "\ud800", "\udfff", "\u202e", "\u200b", "\ufeff",
    "\uff14\uff12", "\u0664\u0662", "\U0001d7d2", "a\u0301\u0301\u0301", "<script>alert(1)</script>", "</pre>", "<!--",
    "]]>", "&lt;", "[red]", "[/]", "[link=http://x]", "{{ 7*7 }}", "{% raw %}", "<|im_end|>", "<|im_start|>system\n",
    "<|end|>", '"', ' Progress in round 2: "', "Current round is the final (third) round.", "__import__('os')", "%s%n",
)  # fmt: skip

OPERATORS = ("+", "-", "\\cdot ", "/", "=", "^", "_", ",", "<", "\\le ", "\\pm ", "\\text{ or }", " ", "\\equiv ", "!")
WRAPPERS = (
    "({})", "\\frac{{{}}}{{2}}", "\\sqrt{{{}}}", "\\{{{}\\}}", "[{},1)", "|{}|", "\\sin({})", "\\log_{{2}}({})", "-{}",
    "\\begin{{pmatrix}}{}\\\\1\\end{{pmatrix}}", "\\sum_{{k=1}}^{{9}}{}", "\\int_0^1 {} dx", "\\lim_{{x\\to 0}}{}",
    "{}\\%",
)  # fmt: skip

TOWERS = (
    "{a}^{{{a}^{{{a}^{b}}}}}", "({a}^{{{b}^{b}}})!", "\\binom{{{a}{a}^9}}{{{b}{b}^8}}", "(x+{a}y+z)^{{{b}999}}",
    "{a}{a}{a}{b}!!!", "\\prod_{{k={a}}}^{{{b}0000000}} k", "10^{{10^{{{a}{b}}}}}",
    "\\sum_{{k=1}}^{{{a}^{{{b}{b}}}}} k!",
)  # fmt: skip


def slip(rng: random.Random) -> str:
    """A good reply with a few pieces lost, doubled or put in."""
    answer = rng.choice((*GOLDS, "43", ""))
    parts = ["<reasoning>", "\n", "so", "\n", "</reasoning>", "\n", "<answer>", "\n", f"\\boxed{{{answer}}}", "\n",
             "</answer>", "\n"]  # fmt: skip
    for _ in range(rng.randrange(4)):
        at = rng.randrange(len(parts))
        parts[at : at + rng.randrange(2)] = rng.choice(([], [parts[at]] * 2, [rng.choice(PIECES)]))
        parts = parts or [""]
    return "".join(parts)


def soup(rng: random.Random) -> str:
    """Pieces at random."""
    return "".join(rng.choices(PIECES, k=rng.randrange(60)))


def characters(rng: random.Random) -> str:
    """Any code points, lone surrogates included."""
    return "".join(chr(int(rng.random() ** 3 * 0x110000)) for _ in range(rng.randrange(200)))


def boxed_soup(rng: random.Random) -> str:
    """Pieces at random in a box."""
    return f"\\boxed{{{soup(rng)}}}"


def formula(rng: random.Random) -> str:
    """LaTeX that a grader has to work on."""
    text = rng.choice(("3", "x", "\\pi", "2.5", "n"))
    for _ in range(rng.randrange(1, 7)):
        other = rng.choice(("4", "y", "1", "x", "0", "100"))
        text = rng.choice(WRAPPERS).format(text) if rng.random() < 0.5 else text + rng.choice(OPERATORS) + other
    return f"<answer>\\boxed{{{text}}}</answer>"


def nest(rng: random.Random) -> str:
    """One thing in itself, many times."""
    opening, closing = rng.choice(
        (("{", "}"), ("(", ")"), ("\\sqrt{", "}"), ("\\boxed{", "}"), ("<answer>", "</answer>"))
    )
    depth = 1 + int(300 * rng.random() ** 3)
    return f"\\boxed{{{opening * depth}1{closing * rng.choice((depth, depth - 1))}}}"


def repetition(rng: random.Random) -> str:
    """A piece or two over and over."""
    pieces = "".join(rng.choices(PIECES, k=rng.choice((1, 1, 2, 3))))
    return rng.choice(("", "<reasoning>\n", "\\boxed{")) + pieces * rng.randrange(1, 5_000) + rng.choice(("", "}"))


def megabyte(rng: random.Random) -> str:
    """A million characters of a piece or two."""
    pieces = "".join(rng.choices(PIECES, k=rng.choice((1, 1, 2))))
    return (pieces * (1_000_000 // len(pieces)))[:1_000_000] + rng.choice(("", "\\boxed{42}", "}"))


def tower(rng: random.Random) -> str:
    """A number or a sum that no machine can write out."""
    return f"\\boxed{{{rng.choice(TOWERS).format(a=rng.randrange(2, 10), b=rng.randrange(2, 10))}}}"


KINDS: dict[Callable[[random.Random], str], float] = {
    slip: 42, soup: 30, characters: 18, boxed_soup: 4, formula: 2, nest: 1, repetition: 2.7, megabyte: 0.2, tower: 0.1,
}  # fmt: skip
"""How often each is made, in percent."""


def make(seed: int, number: int) -> tuple[str, str, str]:
    """A reply by its number, with its kind and a gold answer."""
    rng = random.Random(f"{seed}/{number}")
    kind = rng.choices(list(KINDS), weights=list(KINDS.values()))[0]
    return kind.__name__, rng.choice(GOLDS), kind(rng)


def handle(gold: str, text: str) -> tuple[bool, bool]:
    """Do with a reply all that a step does; whether it is right, and whether it could not be judged."""
    problem, reply = Problem("fuzz/1", "a question", gold), Reply(text, len(text), "stop")
    future = Trajectory(problem, (Turn("prompt", reply), Turn("prompt", reply)))
    opening = Opening(problem, future.turns[0], (future,))
    rewards = {name: [reward(opening)] for name, reward in REWARDS.items()}
    assert all(math.isfinite(value) and value <= 2 for values in rewards.values() for value in values)
    notice = prompts.progress_notice(2, 3, reply_format.progress(text))
    assert notice.endswith(" Current round is the final (third) round. Provide a final answer.")
    for line in step_metrics.lines(RECIPE, step_metrics.PerformedStep(1, Rollouts((opening,)), rewards)):
        assert json.loads(as_line(line))["opening"]["tokens"] == len(text)
    assert all(char == "\n" or char.isprintable() for char in printable(text))
    assert excerpt(text, 3, 80).plain.isprintable()
    return is_solved(future), answers.is_beyond_judging(gold, text)


def timed(gold: str, text: str) -> tuple[float, tuple[bool, bool]]:
    """The seconds of processor time that `handle` takes, the grader's included, and what it says."""
    started = processor_time.seconds()
    said = handle(gold, text)
    return processor_time.seconds() - started, said


@dataclass
class Findings:
    """What was seen so far."""

    kinds: Counter[str] = field(default_factory=Counter)
    crashes: list[str] = field(default_factory=list)
    num_right: int = 0
    num_unjudged: int = 0
    slowest: tuple[float, int, str] = (0.0, 0, "")
    grader_bytes: int = 0

    @property
    def is_fine(self) -> bool:
        """Nothing was raised, nothing took too long, and no grader held too much."""
        return not self.crashes and self.slowest[0] < LIMIT_SECONDS and self.grader_bytes < LIMIT_BYTES

    def __str__(self) -> str:
        seconds, number, kind = self.slowest
        return (
            f"{self.kinds.total()} replies, {len(self.crashes)} crashes, {self.num_right} right, {self.num_unjudged} "
            f"beyond judging; slowest {seconds:.2f} s (reply {number}, {kind}); graders' peak memory "
            f"{self.grader_bytes / 2**20:.0f} MiB"
        )


def fuzz(num_replies: int, *, seed: int, say: Callable[[str], None]) -> Findings:
    """Handle so many replies, one after the other."""
    found, spoke = Findings(), time.monotonic()
    handle("x+1", "\\boxed{1+x}")  # the grader's start is no part of any reply
    for number in range(num_replies):
        kind, gold, text = make(seed, number)
        try:
            seconds, (right, unjudged) = timed(gold, text)
            found.num_right, found.num_unjudged = found.num_right + right, found.num_unjudged + unjudged
            found.slowest = max(found.slowest, (seconds, number, kind))
        except Exception:
            found.crashes.append(f"reply {number} ({kind}, seed {seed}):\n{traceback.format_exc()}")
        found.kinds[kind] += 1
        if time.monotonic() - spoke > 10:
            spoke = time.monotonic()
            say(f"{number + 1} of {num_replies}: {found}")
    answers._judge.close()  # its memory, and that of its forks, is known once it has ended
    found.grader_bytes = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    return found


def main() -> int:
    """Fuzz as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replies", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    found = fuzz(arguments.replies, seed=arguments.seed, say=lambda line: print(line, flush=True))
    print(*found.crashes[:10], sep="\n")
    print(", ".join(f"{kind} {number}" for kind, number in found.kinds.most_common()))
    print(found)
    return 0 if found.is_fine else 1


if __name__ == "__main__":
    sys.exit(main())
