"""Which of a study's claims survive, in words."""

from statistics import fmean

from motif_lite.study.catching_up import Json
from motif_lite.study.cells import label, points

SURVIVES = "Survives"

_WORTH_CLAIMING = 0.05
"""An interval that contains zero and a gain of more than this, as an accuracy, leaves the claim open."""


def claims(found: Json) -> list[str]:
    """Which of the study's claims survive, and what the base model gave away of the benchmark."""
    said = []
    for name in found["comparisons"]:
        variant = found["variants"][name]
        if variant.get("claim"):
            said.append(f"{_claim(found, name)}.")
        said += _short_votes(found, name)
    said += [_left_out(each) for each in found.get("left_out", {}).values()]
    for name, variant in found["variants"].items():
        if variant.get("memorisation"):
            said.append(_memory(label(found, name), variant["memorisation"]))
    return said


def _claim(found: Json, name: str) -> str:
    """Whether a claim survives, and what says so."""
    claim, comparison, confidence = found["variants"][name]["claim"], found["comparisons"][name], found["confidence"]
    reference, own = label(found, found["reference"]), label(found, name)
    where = ", on these problems" if found["all_seeds_have_the_same_problems"] else ""
    standing = _standing(comparison["over_seeds"], confidence)
    by = f"{reference} less {own}: {points(_turned(comparison['over_seeds']))} points{where}"
    if not comparison["gains"] or comparison["over_seeds"]["num_seeds"] < 2:
        return f"**{standing}**: {claim} ({by})"
    return f"**{_of_a_gain(standing, comparison['gains'])}**: {claim} ({by}; {_gains(found, own, comparison['gains'])})"


def _of_a_gain(standing: str, gains: Json) -> str:
    """Whether a claim about the reference's gain survives, given whether the reference is better than the variant."""
    (low, high), (_, most) = _bounds(gains["reference"]), _bounds(gains["own"])
    if low <= 0:
        return "Undecided" if high > _WORTH_CLAIMING else "Nothing to explain"
    if standing != SURVIVES or most <= _WORTH_CLAIMING:
        return standing
    return "Survives in part" if _bounds(gains["own"])[0] > 0 else "Survives at least in part"


def _gains(found: Json, own: str, gains: Json) -> str:
    """Both, and what share of the one the other is, where that can be said."""
    all_of_it, its = gains["reference"], gains["own"]
    told = f"gains over {label(found, gains['over'])}: {points(all_of_it)}, and {points(its)} by {own}"
    if _bounds(all_of_it)[0] <= 0:
        return told
    return f"{told}, {100 * its['mean'] / all_of_it['mean']:.0f} % of it"


def _bounds(test: Json) -> tuple[float, float]:
    """Of a gain over seeds; without spread there is nothing but the mean."""
    low, high = test["interval"] or (test["mean"], test["mean"])
    return low, high


def _turned(test: Json) -> Json:
    """The reference's accuracy less the variant's, as claims are about the reference."""
    mean, interval = test["mean"], test["interval"]
    return {
        "mean": None if mean is None else -mean,
        "interval": None if interval is None else (-interval[1], -interval[0]),
    }


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
    return SURVIVES if test["p_value_holm"] < 1 - confidence else "A hint, no proof"


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
