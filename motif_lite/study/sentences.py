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
        own = label(found, name)
        said.append(_verdict(own, reference, comparison["over_seeds"], confidence))
        if end := comparison["to_the_references_end"]:
            said.append(_sooner(own, reference, end, confidence))
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
    if half["num_seeds"] < 2:
        verdict = "one seed: no claim"
    elif interval is None:
        verdict = "no spread over seeds: no claim"
    elif interval[0] <= 0 <= interval[1]:
        verdict = "the interval contains zero"
    else:
        verdict = _excludes_zero(half, confidence)
    return (
        f"With half of {reference}'s training tokens, {own} is {points(half)} points from {reference}'s end; "
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
