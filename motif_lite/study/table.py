"""A study's figures as text: table.md and cost.md."""

from collections.abc import Sequence

from motif_lite.figures import in_percent
from motif_lite.planning.machine import GIB
from motif_lite.study.catching_up import GOAL_NOISE, Json
from motif_lite.study.cells import NOTHING, grid, label, number, p, percent, points, share
from motif_lite.study.claims import claims
from motif_lite.study.sentences import is_at_an_end, sentences

_FEW_SEEDS = 10
"""Below, a t interval over seeds depends on their having a distribution like the normal one."""

_NEAR_AN_END = 0.05
"""Of the scale, as an accuracy."""


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
        _claims(found),
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
            variant["label"], number(means["training_seconds"], 0), number(means["tokens_per_second"], 0),
            number(means["evaluation_seconds"], 0), NOTHING if peak is None else f"{peak / GIB:.2f}",
            points(end.get("at_half")), share(end.get("reach")),
        ])  # fmt: skip
    head = [
        "variant", "training, s", "tokens/s in training", "test, s", "peak memory, GiB",
        "validation at half the reference's seconds less its end", "seconds to that end, of the reference's",
    ]  # fmt: skip
    about = (
        "What depends on the clock, and so on the machine and on what else it did: means over seeds, the highest peak. "
        f"The reference is {label(found, found['reference'])}. Accuracies are in table.md, with what the last two "
        f"columns mean."
    )
    parts = [f"# {found['title']}: cost", about, grid(head, rows), _cost_of_tuning(found)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _cost_of_tuning(found: Json) -> str:
    """What it took, and what values that were dropped early did not cost."""
    if not found["tuning"]:
        return ""
    keys = "generated", "saved", "training_seconds", "validation_seconds"
    rows = [
        [found["variants"][name]["label"], *(number(each[key], 0) for key in keys)]
        for name, each in found["tuning"].items()
    ]
    head = ["variant", "tokens generated", "tokens saved", "training, s", "validation, s"]
    about = (
        "Of all runs together, with what prepared them: pass rates that one run measured and the others read count for "
        "each. Runs that were not gone on with would have generated so many tokens more to the end of their budget, at "
        "the rate at which they had spent it; this is counted once the variant's value is picked."
    )
    return f"## Tuning with halving\n\n{grid(head, rows)}\n\n{about}"


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
        f"training. {_brackets(found)} Training tokens are all that were generated in training, futures and the "
        f"selection of problems included; trained tokens are those that a gradient went through.{_few_seeds(found)}"
    )


def _brackets(found: Json) -> str:
    """What stands in them."""
    which = f"Brackets are {100 * found['confidence']:g} %"
    if len(found["seeds"]) == 1:
        return f"{which} intervals over problems: there is one seed."
    return f"{which} t intervals over seeds, those of accuracies on the logit scale.{_on_one_set(found)}"


def _on_one_set(found: Json) -> str:
    """What seeds do not tell where all of them are measured on the same problems."""
    if not found["all_seeds_have_the_same_problems"]:
        return ""
    return (
        " All seeds are measured on the same problems: figures over seeds say what other seeds may bring on these, and "
        "nothing of other problems; those on the same problems do."
    )


def _accuracy(found: Json, variant: Json) -> str:
    """With its interval."""
    if len(found["seeds"]) == 1 and variant["seeds"]:
        [only] = variant["seeds"].values()
        return in_percent(only["accuracy"], only["interval"])
    return percent(variant["accuracy"])


def _few_seeds(found: Json) -> str:
    """What intervals over few seeds do not cover, and for which variants that matters."""
    if not 1 < len(found["seeds"]) < _FEW_SEEDS:
        return ""
    delicate = [variant["label"] for variant in found["variants"].values() if _is_delicate(variant)]
    here = f" Here that concerns {', '.join(delicate)}." if delicate else ""
    return (
        f"\n\nOver {len(found['seeds'])} seeds, intervals are too narrow where some runs collapse, and may be where "
        f"accuracies lie near 0 or 100 %: in simulations, those of 95 % covered as little as 85 % "
        f"(docs/statistics.md).{here}"
    )


def _is_delicate(variant: Json) -> bool:
    """Whether its accuracies lie near an end of the scale, or one is less than half of another."""
    reached: list[float] = [seed["accuracy"] for seed in variant["seeds"].values()]
    if not reached:
        return False
    low, high = min(reached), max(reached)
    return low < _NEAR_AN_END or high > 1 - _NEAR_AN_END or low < high / 2


def _accuracies(found: Json) -> str:
    seeds = [str(seed) for seed in found["seeds"]]
    tuned = dict.fromkeys(f"`{v['tuned']['key']}`" for v in found["variants"].values() if v["tuned"])
    head = ["variant", *tuned, "accuracy", *(f"seed {seed}" for seed in seeds)]
    head += ["training tokens", "trained tokens", "steps", "tokens per answer"]
    rows = []
    for variant in found["variants"].values():
        each = [variant["seeds"].get(seed) for seed in seeds]
        rows.append([
            variant["label"], *([_value(variant["tuned"])] if tuned else []), _accuracy(found, variant),
            *(f"{100 * seed['accuracy']:.1f}" if seed else NOTHING for seed in each),
            *(number(variant["means"][key], 0) for key in ("tokens", "trained_tokens")),
            *(number(variant["means"][key], 1) for key in ("steps", "answer_tokens")),
        ])  # fmt: skip
    return f"## Accuracy\n\n{grid(head, rows)}"


def _comparisons(found: Json) -> str:
    if not found["comparisons"]:
        return ""
    rows: dict[str, list[list[str]]] = {}
    for name, comparison in found["comparisons"].items():
        seeds, problems = comparison["over_seeds"], comparison["same_problems"]
        counts = f"{problems['num_better']} : {problems['num_worse']}" if "num_better" in problems else NOTHING
        rows.setdefault(comparison["against"], []).append([
            label(found, name), points(seeds), p(seeds["p_value"]), p(seeds["p_value_holm"]),
            points(problems, "difference"), counts, p(problems.get("p_value")), p(problems["p_value_holm"]),
        ])  # fmt: skip
    head = ["variant", "over seeds, points", "p", "p (Holm)", "same problems, points", "won : lost", "p", "p (Holm)"]
    about = (
        "*Over seeds*: mean of the differences on each seed, t interval and t test; this is what another seed may "
        "bring. *Same problems*: these very runs, paired by problem; where several seeds have a problem, its mean over "
        "them. t interval over problems and sign-flip test (with one sample a problem: McNemar's exact test). Holm's "
        f"correction is over all {_num_tests(found)} p-values of this page, those at half the tokens included."
    )
    grids = [f"## Against {label(found, other)}\n\n{grid(head, those)}" for other, those in rows.items()]
    return "\n\n".join([*grids, about])


def _num_tests(found: Json) -> int:
    tests = (
        test
        for each in found["comparisons"].values()
        for test in (each["over_seeds"], each["same_problems"], each["to_the_references_end"].get("at_half", {}))
    )
    return sum(test.get("p_value") is not None for test in tests)


def _catching_up(found: Json) -> str:
    known = {name: c["to_the_references_end"] for name, c in found["comparisons"].items() if c["to_the_references_end"]}
    if not known:
        return ""
    reference = label(found, found["reference"])
    head = ["variant", "at half the tokens less the reference's end, points", "p", "p (Holm)"]
    head += ["tokens to that end, of the reference's"]
    rows = [
        [label(found, name), points(half := end["at_half"]), p(half["p_value"]), p(half["p_value_holm"]),
         share(end["reach"])]
        for name, end in known.items()
    ]  # fmt: skip
    about = (
        f"On validation problems, each seed against its own {reference}. *At half the tokens*: accuracy at half of the "
        f"tokens that {reference} generates in training, linear between marks, less what {reference} reaches with all "
        f"of them. *Tokens to that end*: tokens up to the first mark from which on all marks are at least "
        f"{reference}'s end less {GOAL_NOISE:g} standard errors of the difference of two marks, as a share of what "
        f"{reference} takes to the same goal: geometric mean over seeds, t interval widened by the distance between "
        f"marks. If the goal is not reached on every seed, the column says on how many it is. There is no goal where "
        f"{reference}'s end is less than {2 * GOAL_NOISE:g} standard errors above its start."
    )
    if any(end["at_half"]["num_seeds"] < end["reach"]["num_seeds"] for end in known.values()):
        about += " A seed whose first mark comes after half of the tokens is not in the first figure."
    return f"## Tokens to the end of {reference}\n\n{grid(head, rows)}\n\n{about}"


def _said(found: Json) -> str:
    if not found["comparisons"]:
        return ""
    return "## What the evidence allows to say\n\n" + "\n".join(f"- {sentence}" for sentence in sentences(found))


def _claims(found: Json) -> str:
    said = claims(found)
    return "## Which claims survive\n\n" + "\n".join(f"- {sentence}" for sentence in said) if said else ""


def _tuning(found: Json) -> str:
    tuned = {name: variant["tuned"] for name, variant in found["variants"].items() if variant["tuned"]}
    if not tuned:
        return ""
    first = next(iter(tuned.values()))
    head = ["variant", *(str(candidate["value"]) for candidate in first["candidates"]), "picked"]
    rows = [[label(found, name), *map(_candidate, tune["candidates"]), _value(tune)] for name, tune in tuned.items()]
    tried = [candidate for tune in tuned.values() for candidate in tune["candidates"]]
    halved = any(candidate["share"] < 1 for candidate in tried)
    when = " or, where it says so, with a part of the budget spent, after which the less accurate half is dropped,"
    about = (
        f"Validation accuracy at the end of training{when if halved else ','} in percent, on seeds that no result is "
        f"from: {', '.join(map(str, first['seeds']))}. An asterisk marks the end of the list; the best may lie beyond."
    )
    if any(candidate["accuracy"] is None for candidate in tried):
        about += " *Failed*: the run was given up, as its gradients were not numbers any more."
    return f"## Tuning of `{first['key']}`\n\n{grid(head, rows)}\n\n{about}"


def _candidate(found: Json) -> str:
    if found["accuracy"] is None:
        return "failed"
    at = f" at {100 * found['share']:g} %" if found["share"] < 1 else ""
    return f"{100 * found['accuracy']:.1f}{at}"


def _how(found: Json) -> str:
    sources = found["sources"]
    lines = [f"    python run.py study {found['study']}", ""]
    lines += [f"- {name}: {_source(sources[name])}" for name in ("train", "validation", "test") if sources[name]]
    lines += [f"- {_software(made)}" for made in found["software"]]
    lines.append(f"- all variants: {_changes(found['set'])}")
    for name, variant in found["variants"].items():
        measured = f"{'' if variant['trains'] else 'not trained, '}measured as {variant['strategy']}"
        measured += f", with the tokens of {variant['times_tokens']} rounds" * (variant["times_tokens"] > 1)
        lines.append(f"- {name}: {variant['recipe']}, {measured}; {_changes(variant['set'])}")
    return "## How it was made\n\n" + "\n".join(lines)


def _software(made: Json) -> str:
    runs = f"{made['num_runs']} run{'s' * (made['num_runs'] != 1)}"
    if made["packages"] is None:
        return f"versions: not recorded by {runs}"
    return f"versions, as recorded by {runs}: " + ", ".join(f"{name} {of}" for name, of in made["packages"].items())


def _changes(changes: Sequence[str]) -> str:
    return " ".join(f"`{change}`" for change in changes) or "no changes"


def _source(source: Json) -> str:
    return ", ".join(f"{key} {value}" for key, value in source.items())


def _value(tuned: Json | None) -> str:
    """The value that was picked, with an asterisk at the end of the list."""
    if not tuned:
        return NOTHING
    return f"{tuned['value']}{'*' if is_at_an_end(tuned) else ''}"
