"""What a study's comparisons allow to say, in words."""

from statistics import fmean

from motif_lite.figures import in_percent
from motif_lite.study.catching_up import Json
from motif_lite.study.cells import counted_seeds, label, p_is, points, share_with_interval

_ALIKE = 0.05
"""Share by which training tokens may differ and still count as equal: a run ends with the step that spends the last."""


_WORTH_CLAIMING = 0.05
"""An interval that contains zero and a gain of more than this, as an accuracy, leaves the claim open."""


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
    value, tried = tuned["value"], [candidate["value"] for candidate in tuned["candidates"]]
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and value in (min(tried), max(tried))


def claims(found: Json) -> list[str]:
    """Which of the study's claims survive, and what the base model gave away of the benchmark."""
    said = []
    for name, comparison in found["comparisons"].items():
        variant = found["variants"][name]
        if variant.get("claim"):
            test, by = comparison["over_seeds"], f"against {label(found, name)}"
            said.append(
                f"**{_standing(test, found['confidence'])}**: {variant['claim']} ({by}: {points(test)} points)."
            )
        said += _short_votes(found, name)
    said += [_left_out(each) for each in found.get("left_out", {}).values()]
    for name, variant in found["variants"].items():
        if variant.get("memorisation"):
            said.append(_memory(label(found, name), variant["memorisation"]))
    return said


def _left_out(variant: Json) -> str:
    """That a variant does not go with the recipe, and what is therefore not tested."""
    claim = f"**Not tested**: {variant['claim']}. " if variant["claim"] else ""
    return f"{claim}{variant['label']} is left out, as its recipe is refused: {variant['why']}."


def _standing(test: Json, confidence: float) -> str:
    """Whether the reference is better; differences are the variant's less the reference's."""
    if test["num_seeds"] == 0:
        return "Not measured yet"
    if test["num_seeds"] == 1:
        return "One seed, no claim"
    if test["interval"] is None:
        return "No spread over seeds, no claim" if test["mean"] else "Does not survive"
    low, high = test["interval"]
    if low > 0:
        return "Does not survive, the opposite holds"
    if high >= 0:
        return "Undecided" if low < -_WORTH_CLAIMING else "Does not survive"
    return "Survives" if test["p_value_holm"] < 1 - confidence else "A hint, no proof"


def _short_votes(found: Json, name: str) -> list[str]:
    """That a vote had fewer samples than an answer of the reference costs, so tokens are not equal."""
    seeds = [seed for seed in found["variants"][name]["seeds"].values() if "votes" in seed]
    if all(seed["votes"] == seed["votes_wanted"] for seed in seeds):
        return []
    most = max(seed["votes_wanted"] for seed in seeds)
    return [
        f"{label(found, name)} had {min(seed['votes'] for seed in seeds)} samples to vote, and one answer of "
        f"{label(found, found['reference'])} costs up to {most}: set evaluation.num_samples={most} there."
    ]


def _memory(own: str, probes: list[Json]) -> str:
    """What a model gave away of questions of which it saw the beginning."""
    exact, rouge, correct = (fmean(probe[key] for probe in probes) for key in ("exact", "rouge_l", "correct"))
    return (
        f"{own} was shown the first {100 * probes[0]['share']:g} % of each question: it wrote the rest of "
        f"{100 * exact:.1f} % word for word (ROUGE-L {rouge:.2f}), and answered {100 * correct:.1f} % right. A model "
        f"that has not seen them completes hardly any, and answers as often as a guess."
    )


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
