"""What a study's comparisons allow to say, in words."""

from motif_lite.figures import in_percent
from motif_lite.study.catching_up import Json
from motif_lite.study.cells import counted_seeds, label, p_is, points, share_with_interval

_ALIKE = 0.05
"""Share by which training tokens may differ and still count as equal: a run ends with the step that spends the last."""


def sentences(found: Json) -> list[str]:
    """What each comparison allows to say."""
    reference, confidence = label(found, found["reference"]), found["confidence"]
    said = [sentence for sentence in (_unequal(found), _past_its_best(found)) if sentence]
    for name, comparison in found["comparisons"].items():
        own, other = label(found, name), label(found, comparison["against"])
        if _is_of_fixed_models(found, name):
            said.append(_verdict_on_problems(own, other, comparison["same_problems"], confidence))
        else:
            said.append(_verdict(own, other, comparison["over_seeds"], confidence))
        if end := comparison["to_the_references_end"]:
            said.append(_sooner(own, reference, end, confidence))
    return said


def choices(found: Json) -> list[str]:
    """Which value of the tuned key each variant has picked."""
    tuned = {name: variant["tuned"] for name, variant in found["variants"].items() if variant["tuned"]}
    return [
        f"{label(found, name)}: {tune['key']} = {tune['value']} of {len(tune['candidates'])} values."
        + (" It is the end of the list; the best may lie beyond." if is_at_an_end(tune) else "")
        for name, tune in tuned.items()
    ]


def is_at_an_end(tuned: Json) -> bool:
    """Whether the value that was picked is the smallest or the largest number of the list."""
    numbers = [value for value in (candidate["value"] for candidate in tuned["candidates"]) if _is_number(value)]
    return _is_number(tuned["value"]) and tuned["value"] in (min(numbers), max(numbers))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _unequal(found: Json) -> str:
    """A warning where budgets are not equal, by more than the last step of a run can account for."""
    tokens = {
        name: v["means"]["tokens"] for name, v in found["variants"].items() if v["trains"] and v["means"]["tokens"]
    }
    if not tokens or min(tokens.values()) >= (1 - _ALIKE) * max(tokens.values()):
        return ""
    least, most = min(tokens, key=lambda name: tokens[name]), max(tokens, key=lambda name: tokens[name])
    ends = " to ".join(f"{tokens[name]:,.0f} ({label(found, name)})" for name in (least, most))
    return f"Budgets differ: from {ends} tokens generated in training. Final accuracies are not at equal tokens."


def _past_its_best(found: Json) -> str:
    """A warning where the reference ends below what it had reached: its end is then easily beaten."""
    fallen = found["past_its_best"]
    if not fallen:
        return ""
    each = "; ".join(
        f"seed {seed}: {100 * fall['best']:.1f} % after {fall['cost']:,.0f} tokens, {100 * fall['end']:.1f} % at last"
        for seed, fall in fallen.items()
    )
    return (
        f"On validation problems {label(found, found['reference'])} ends below its best mark, by more than noise, on "
        f"{len(fallen)} of {counted_seeds(len(found['seeds']))} ({each}). There its end is easily beaten."
    )


def _is_of_fixed_models(found: Json, name: str) -> bool:
    """Whether a comparison is of models as they are, on one draw of problems: then problems are what is sampled."""
    comparison = found["comparisons"][name]
    trains = any(found["variants"][each]["trains"] for each in (name, comparison["against"]))
    return not trains and comparison["over_seeds"]["num_seeds"] == 1


def _verdict_on_problems(own: str, reference: str, test: Json, confidence: float) -> str:
    """What the same problems allow to say of two that were not trained; without any, the test is empty."""
    if "difference" not in test:
        return f"{own} and {reference} have no problem in common: not compared."
    difference, (low, high) = test["difference"], test["interval"]
    over = f"over {test['num_problems']} problems"
    if low <= 0 <= high:
        return (
            f"{own} and {reference} cannot be told apart: {points(test, 'difference')} points {over}; the interval "
            f"contains zero."
        )
    word, sign = ("better", 1) if difference > 0 else ("worse", -1)
    by = in_percent(abs(difference), sorted((sign * low, sign * high)), unit=" points")
    return f"{own} is {word} than {reference} by {by} {over}; {_excludes_zero(test, confidence)}."


def _verdict(own: str, reference: str, test: Json, confidence: float) -> str:
    """What the differences over seeds allow to say."""
    num_seeds, mean, interval = test["num_seeds"], test["mean"], test["interval"]
    if num_seeds == 0:
        return f"{own} and {reference}: not measured yet."
    if num_seeds == 1:
        return f"{own} and {reference}: {points(test)} points; one seed: no claim."
    if interval is None and not mean:
        return f"{own} and {reference} are equal on each of {num_seeds} seeds."
    over = f"points over {num_seeds} seeds"
    if interval is None:
        return f"{own} and {reference}: {points(test)} {over}, the same on each: no spread to judge by, no claim."
    if interval[0] <= 0 <= interval[1]:
        return f"{own} and {reference} cannot be told apart: {points(test)} {over}; the interval contains zero."
    word, sign = ("better", 1) if mean > 0 else ("worse", -1)
    by = in_percent(abs(mean), sorted(sign * end for end in interval), unit=" points") + f" over {num_seeds} seeds"
    return f"{own} is {word} than {reference} by {by}; {_excludes_zero(test, confidence)}."


def _excludes_zero(test: Json, confidence: float) -> str:
    """That it does, and whether this stands among so many comparisons."""
    corrected = f"p {p_is(test['p_value_holm'])} after Holm's correction"
    if test["p_value_holm"] >= 1 - confidence:
        return (
            f"the interval excludes zero, but of so many comparisons one may do so by chance ({corrected}): a hint, no "
            f"proof"
        )
    return f"the interval excludes zero ({corrected})"


def _sooner(own: str, reference: str, end: Json, confidence: float) -> str:
    """Whether half of the reference's tokens are enough, on validation problems."""
    half = end["at_half"]
    interval = half["interval"]
    if half["num_seeds"] == 0:
        half_way = f"{own} has no mark by half of {reference}'s training tokens"
        return f"{half_way}: what precedes its steps takes more. {_reached(own, reference, end['reach'])}."
    if half["num_seeds"] < 2:
        verdict = "one seed: no claim"
    elif interval is None:
        verdict = "no spread over seeds: no claim"
    elif interval[0] <= 0 <= interval[1]:
        verdict = "the interval contains zero"
    else:
        verdict = _excludes_zero(half, confidence)
    begun = end["reach"]["num_seeds"]
    where = f" on the {half['num_seeds']} of {begun} seeds that have begun by then" if half["num_seeds"] < begun else ""
    return (
        f"With half of {reference}'s training tokens, {own} is {points(half)} points from {reference}'s end{where}; "
        f"{verdict}. {_reached(own, reference, end['reach'])}."
    )


def _reached(own: str, reference: str, reach: Json) -> str:
    """Whether a variant gets to the reference's end, less noise, and after how many tokens."""
    num_seeds = reach["num_seeds"]
    if reach["num_in_noise"]:
        where = f" on {reach['num_in_noise']} of {num_seeds} seeds" if num_seeds > 1 else ""
        return f"How soon it gets there is not said, as that end is within noise of the start{where}"
    there = f"within noise of {reference}'s end, and stays there,"
    if reach["num_reached"] < num_seeds:
        return f"It gets {there} on {reach['num_reached']} of {counted_seeds(num_seeds)}"
    takes = f"{share_with_interval(reach)} of the tokens that {reference} takes"
    if num_seeds == 1:
        return f"It gets {there} after {takes} (one seed: no claim)"
    return f"It gets {there} on each seed, after {takes}"
