"""A study's figures as text: table.md and cost.md, with a sentence on what each comparison shows."""

from collections.abc import Iterable, Sequence
from typing import Any

from motif_lite.evaluation.intervals import in_percent
from motif_lite.planning.machine import GIB
from motif_lite.study.results import Json

_NOTHING = "-"

_ALIKE = 0.05
"""Share by which training tokens may differ and still count as equal: a run ends with the step that spends the last."""


def table(found: Json) -> str:
    """table.md: accuracies, comparisons, what they allow to say, and how to repeat it."""
    parts = [
        f"# {found['title']}",
        found["question"],
        f"**Mind**: {found['caveat']}" if found.get("caveat") else "",
        _state(found),
        _measure(found),
        _accuracies(found),
        _comparisons(found),
        _catching_up(found),
        _said(found),
        _tuning(found),
        _how(found),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def cost_table(found: Json) -> str:
    """cost.md: what depends on the clock and on the machine."""
    rows = []
    for variant in found["variants"].values():
        means, end = variant["means"], variant["to_the_references_end"]
        peak = max(variant["peak_memory_bytes"].values(), default=None)
        rows.append([
            variant["label"], _number(means["training_seconds"], 0), _number(means["tokens_per_second"], 0),
            _number(means["evaluation_seconds"], 0), _NOTHING if peak is None else f"{peak / GIB:.2f}",
            _points(end.get("at_half")), _share(end),
        ])  # fmt: skip
    head = [
        "variant", "training, s", "tokens/s in training", "test, s", "peak memory, GiB",
        "validation at half the reference's seconds less its end", "share of its seconds to reach its end",
    ]  # fmt: skip
    about = (
        "What depends on the clock, and so on the machine and on what else it did: means over seeds, the highest peak. "
        f"The reference is {_label(found, found['reference'])}. Accuracies are in table.md."
    )
    return "\n\n".join([f"# {found['title']}: cost", about, _grid(head, rows)]) + "\n"


def sentences(found: Json) -> list[str]:
    """What each comparison allows to say, in words."""
    reference = _label(found, found["reference"])
    said = [sentence for sentence in (_unequal(found), _past_its_best(found)) if sentence]
    for name, comparison in found["comparisons"].items():
        label = _label(found, name)
        said.append(_verdict(label, reference, comparison["over_seeds"], found["confidence"]))
        if end := comparison["to_the_references_end"]:
            said.append(_sooner(label, reference, end))
    return said


def _unequal(found: Json) -> str:
    """A warning where budgets are not equal, by more than the last step of a run can account for."""
    tokens = {
        v["label"]: v["means"]["tokens"] for v in found["variants"].values() if v["trains"] and v["means"]["tokens"]
    }
    most = max(tokens.values(), default=0)
    least = min(tokens.values(), default=0)
    if least >= (1 - _ALIKE) * most:
        return ""
    ends = " to ".join(f"{count:,.0f} ({next(n for n in tokens if tokens[n] == count)})" for count in (least, most))
    return f"Budgets differ: from {ends} tokens generated in training. Final accuracies are not at equal tokens."


def _past_its_best(found: Json) -> str:
    """A warning where the reference ends below what it had reached: its end is then easily beaten."""
    curve = found["variants"].get(found["reference"], {}).get("curve")
    if not curve:
        return ""
    (tokens, best), end = max(curve, key=lambda mark: mark[1]), curve[-1][1]
    if end >= best:
        return ""
    return (
        f"On validation problems {_label(found, found['reference'])} ends at {100 * end:.1f} %; its mean curve was "
        f"highest, at {100 * best:.1f} %, after {tokens:,.0f} tokens."
    )


def _verdict(label: str, reference: str, test: Json, confidence: float) -> str:
    """What the differences over seeds allow to say."""
    num_seeds, mean, interval = test["num_seeds"], test["mean"], test["interval"]
    if num_seeds == 0:
        return f"{label} and {reference}: not measured yet."
    if num_seeds == 1:
        return f"{label} and {reference}: {_points(test)} points; one seed: no claim."
    if interval is None and not mean:
        return f"{label} and {reference} are equal on each of {num_seeds} seeds."
    over = f"points over {num_seeds} seeds"
    if interval is None:
        return f"{label} and {reference}: {_points(test)} {over}, the same on each: no spread to judge by, no claim."
    if interval[0] <= 0 <= interval[1]:
        return f"{label} and {reference} cannot be told apart: {_points(test)} {over}; the interval contains zero."
    word, sign = ("better", 1) if mean > 0 else ("worse", -1)
    by = in_percent(abs(mean), sorted(sign * end for end in interval), unit=" points") + f" over {num_seeds} seeds"
    said = f"{label} is {word} than {reference} by {by}; the interval excludes zero"
    corrected = f"p {_p_is(test['p_value_holm'])} after Holm's correction"
    if test["p_value_holm"] >= 1 - confidence:
        return f"{said}, but of so many comparisons one may do so by chance ({corrected}): a hint, no proof."
    return f"{said} ({corrected})."


def _sooner(label: str, reference: str, end: Json) -> str:
    """Whether half of the reference's tokens are enough, on validation problems."""
    half, share, goal = end["at_half"], end["share"], f"{100 * end['goal']:.1f} %"
    reached = f"its mean curve never reaches {goal}, where {reference} ends"
    if share is not None:
        reached = f"its mean curve first reaches {goal}, where {reference} ends, at {100 * share:.0f} % of the tokens"
    interval = half["interval"]
    if half["num_seeds"] < 2:
        verdict = "one seed: no claim"
    elif interval is None:
        verdict = "no spread over seeds: no claim"
    elif interval[0] <= 0 <= interval[1]:
        verdict = "the interval contains zero"
    else:
        verdict = (
            f"{'above' if interval[0] > 0 else 'below'} it, the interval excludes zero; p {_p_is(half['p_value'])}"
        )
        if half.get("p_value_holm") is not None:
            verdict += f", {_p(half['p_value_holm'])} after Holm's correction"
    return (
        f"With half of {reference}'s training tokens, {label} is {_points(half)} points from {reference}'s end "
        f"({verdict}); {reached}."
    )


def _state(found: Json) -> str:
    if found["num_runs_done"] == found["num_runs"]:
        return ""
    return f"**Partial: {found['num_runs_done']} of {found['num_runs']} runs are done.** What follows will change."


def _measure(found: Json) -> str:
    source = found["sources"]["test"]
    samples, temperature = found["sources"]["samples_per_problem"], found["sources"]["temperature"]
    how = "greedy decoding"
    if found["decoding"] == "sampled":
        how = f"{samples} sample{'s' * (samples > 1)} each at temperature {temperature:g}"
    counts = {seed["num_problems"] for variant in found["variants"].values() for seed in variant["seeds"].values()}
    number = " or ".join(f"{count:,}" for count in sorted(counts)) or str(source.get("num_problems", "all"))
    return (
        f"Accuracy in percent on {number} test problems of `{source['source']}` per seed ({how}), measured once, after "
        f"training. Brackets are {100 * found['confidence']:g} % t intervals over seeds. Training tokens are all that "
        f"were generated in training, futures included; trained tokens are those that a gradient went through."
    )


def _accuracies(found: Json) -> str:
    seeds = [str(seed) for seed in found["seeds"]]
    tuned = dict.fromkeys(f"`{v['tuned']['key']}`" for v in found["variants"].values() if v["tuned"])
    head = ["variant", *tuned, "accuracy", *(f"seed {seed}" for seed in seeds)]
    head += ["training tokens", "trained tokens", "steps", "tokens per answer"]
    rows = []
    for variant in found["variants"].values():
        each = [variant["seeds"].get(seed) for seed in seeds]
        rows.append([
            variant["label"], *([_value(variant["tuned"])] if tuned else []), _percent(variant["accuracy"]),
            *(f"{100 * seed['accuracy']:.1f}" if seed else _NOTHING for seed in each),
            *(_number(variant["means"][key], 0) for key in ("tokens", "trained_tokens")),
            *(_number(variant["means"][key], 1) for key in ("steps", "answer_tokens")),
        ])  # fmt: skip
    return f"## Accuracy\n\n{_grid(head, rows)}"


def _comparisons(found: Json) -> str:
    if not found["comparisons"]:
        return ""
    rows = []
    for name, comparison in found["comparisons"].items():
        seeds, problems = comparison["over_seeds"], comparison["same_problems"]
        counts = f"{problems['num_better']} : {problems['num_worse']}" if "num_better" in problems else _NOTHING
        rows.append([
            _label(found, name), _points(seeds), _p(seeds["p_value"]), _p(seeds["p_value_holm"]),
            _points(problems, "difference"), counts, _p(problems.get("p_value")), _p(problems["p_value_holm"]),
        ])  # fmt: skip
    head = ["variant", "over seeds, points", "p", "p (Holm)", "same problems, points", "won : lost", "p", "p (Holm)"]
    about = (
        "*Over seeds*: mean of the differences on each seed, t interval and t test; this is what another seed may "
        "bring. *Same problems*: these very runs, paired by seed and problem, bootstrap interval within seeds, exact "
        "McNemar test (sign test where problems have several samples) of all seeds together."
    )
    return f"## Against {_label(found, found['reference'])}\n\n{_grid(head, rows)}\n\n{about}"


def _catching_up(found: Json) -> str:
    known = {name: c["to_the_references_end"] for name, c in found["comparisons"].items() if c["to_the_references_end"]}
    if not known:
        return ""
    reference = _label(found, found["reference"])
    head = ["variant", "at half the tokens less the reference's end, points", "share of the tokens to reach its end"]
    rows = [[_label(found, name), _points(end["at_half"]), _share(end)] for name, end in known.items()]
    about = (
        f"On validation problems, linear between marks: accuracy at half of the tokens that {reference} generates in "
        f"training, less what {reference} reaches with all of them, seed by seed; and where the mean curve first is as "
        f"high as the mean end of {reference}."
    )
    return f"## Tokens to the end of {reference}\n\n{_grid(head, rows)}\n\n{about}"


def _said(found: Json) -> str:
    if not found["comparisons"]:
        return ""
    return "## What the evidence allows to say\n\n" + "\n".join(f"- {sentence}" for sentence in sentences(found))


def _tuning(found: Json) -> str:
    tuned = {name: variant["tuned"] for name, variant in found["variants"].items() if variant["tuned"]}
    if not tuned:
        return ""
    first = next(iter(tuned.values()))
    head = ["variant", *(str(candidate["value"]) for candidate in first["candidates"]), "picked"]
    rows = [
        [_label(found, name), *(f"{100 * c['accuracy']:.1f}" for c in tune["candidates"]), _value(tune)]
        for name, tune in tuned.items()
    ]
    about = (
        f"Validation accuracy at the end of training, in percent, on seeds used for nothing else: "
        f"{', '.join(map(str, first['seeds']))}. An asterisk marks the end of the list; the best may lie beyond."
    )
    return f"## Tuning of `{first['key']}`\n\n{_grid(head, rows)}\n\n{about}"


def _how(found: Json) -> str:
    sources = found["sources"]
    lines = [f"    python run.py study {found['study']}", ""]
    lines += [f"- {name}: {_source(sources[name])}" for name in ("train", "validation", "test") if sources[name]]
    lines.append("- versions: " + ", ".join(f"{name} {version}" for name, version in found["versions"].items()))
    lines.append(f"- all variants: {_changes(found['set'])}")
    for name, variant in found["variants"].items():
        measured = f"{'' if variant['trains'] else 'not trained, '}measured as {variant['strategy']}"
        lines.append(f"- {name}: {variant['recipe']}, {measured}; {_changes(variant['set'])}")
    return "## How it was made\n\n" + "\n".join(lines)


def _changes(changes: Sequence[str]) -> str:
    return " ".join(f"`{change}`" for change in changes) or "no changes"


def _source(source: Json) -> str:
    return ", ".join(f"{key} {value}" for key, value in source.items())


def _value(tuned: Json | None) -> str:
    """The value that was picked, with an asterisk at the end of the list."""
    if not tuned:
        return _NOTHING
    value, tried = tuned["value"], [candidate["value"] for candidate in tuned["candidates"]]
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return f"{value}{'*' if is_number and value in (min(tried), max(tried)) else ''}"


def _label(found: Json, name: str) -> str:
    return str(found["variants"][name]["label"])


def _percent(test: Json) -> str:
    if test["mean"] is None:
        return _NOTHING
    interval = test["interval"]
    return in_percent(test["mean"], interval and (max(0.0, interval[0]), min(1.0, interval[1])))


def _points(test: Json | None, key: str = "mean") -> str:
    if not test or test.get(key) is None:
        return _NOTHING
    return in_percent(test[key], test["interval"], sign="+")


def _share(end: Json) -> str:
    if not end:
        return _NOTHING
    return "not reached" if end["share"] is None else f"{100 * end['share']:.0f} %"


def _p(value: Any) -> str:
    if value is None:
        return _NOTHING
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _p_is(value: float) -> str:
    return _p(value) if value < 0.001 else f"= {_p(value)}"


def _number(value: float | None, digits: int) -> str:
    return _NOTHING if value is None else f"{value:,.{digits}f}"


def _grid(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
