"""How long a verdict takes, on the pairs of the tests: by rules alone, and by the judge.

    python benchmarks/verdicts.py
    git show f60840b:motif_lite/equivalence.py > before.py
    python benchmarks/verdicts.py --against before.py

``--against`` names the module of an earlier version that has `EquivalenceServer`; every pair that needs the judge is
given to both in turn, so that they have the same machine under the same load. Times are medians, one pair at a time: of
processor time for the rules, and of wall time for the judge, which is another process. Answers are read for the first
time; gold answers are known, as each is used for all replies to a question.
"""

import argparse
import importlib.util
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import provenance  # noqa: E402  # the line above finds our own
from motif_lite.grading import notation, rules, shapes, syntax, units, values  # noqa: E402
from motif_lite.grading.answers import last_boxed  # noqa: E402
from motif_lite.grading.judge import Judge  # noqa: E402

Pair = tuple[str, str]
Ask = Callable[[str, str], object]


def pairs() -> list[Pair]:
    """Gold answers and contents of boxes."""
    lines = (ROOT / "tests" / "data" / "pairs.jsonl").read_text(encoding="utf-8").splitlines()
    found = []
    for each in map(json.loads, lines):
        boxed = last_boxed(each.get("reply", ""))
        answer = each.get("answer", boxed.text if boxed else "")
        if answer and answer.strip() and last_boxed(answer) is None:
            found.append((each["gold"], answer))
    return found


def by_rules(some: list[Pair]) -> tuple[list[float], list[Pair]]:
    """Seconds of each pair that the rules decide, and the pairs that they leave to the judge."""
    seconds, left = [], []
    for gold, answer in some:
        _forget()
        rules.decide(gold, gold)
        rules.decide(gold, f"{gold}+1")
        started = time.process_time()
        ruling = rules.decide(gold, answer)
        if ruling.correct is None:
            left.append((gold, answer))
        else:
            seconds.append(time.process_time() - started)
    return seconds, left


def _forget() -> None:
    for module in (notation, shapes, syntax, units, values):
        for each in vars(module).values():
            if hasattr(each, "cache_clear"):
                each.cache_clear()


def in_turn(some: list[Pair], ways: dict[str, Ask]) -> dict[str, list[float]]:
    """Seconds by way, of each pair asked of all ways in turn."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for pair in some:
        for name, ask in ways.items():
            started = time.perf_counter()
            ask(*pair)
            seconds[name].append(time.perf_counter() - started)
    return seconds


def earlier(path: Path) -> Ask:
    """The judge of an earlier version."""
    spec = importlib.util.spec_from_file_location("earlier", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    ask: Ask = module.EquivalenceServer().equivalent
    return ask


def main() -> int:
    """Measure as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", type=Path, help="a module with the EquivalenceServer of an earlier version")
    parser.add_argument("--judged", type=int, default=200, help="pairs to give to the judge")
    arguments = parser.parse_args()
    print(f"{provenance.processor()}, commit {provenance.commit()}")
    seconds, left = by_rules(pairs())
    print(f"rules   {len(seconds)} pairs, median {median(seconds) * 1e3:.3f} ms, highest {max(seconds) * 1e3:.1f} ms")
    judge = Judge()
    ways: dict[str, Ask] = {"judge": lambda gold, answer: judge.judge([(gold, answer)])}
    if arguments.against:
        ways["before"] = earlier(arguments.against)
    in_turn([("x+1", "1+x")], ways)  # starts the processes
    some = left[:: max(1, len(left) // arguments.judged)]
    for name, measured in in_turn(some, ways).items():
        print(f"{name:<7} {len(measured)} pairs, median {median(measured) * 1e3:.1f} ms")
    return 0


if __name__ == "__main__":
    sys.exit(main())
